//! What goes into a route's models and what comes out.

use lockgate_package::{Datatype, Signature, TensorSpec};

use super::reader::{Path, Reader};
use crate::language;
use crate::source::{Node, Value, integer};

pub(super) fn signature(reader: &mut Reader<'_>, node: &Node, path: &Path<'_>) -> Option<Signature> {
    let fields = reader.fields(node, path, &language::SIGNATURE)?;
    let mut tensors = |key: &str| {
        let expected = format!("`{key}: [{{ name: …, datatype: …, shape: […] }}]`");
        let node = reader.required(&fields, path, key, &expected)?;
        let path = path.key(key);
        let mut specs: Vec<TensorSpec> = Vec::new();
        for (item, index) in reader.list(node, &path).iter().zip(0..) {
            let path = path.index(index);
            let Some(spec) = tensor(reader, item, &path) else { continue };
            if specs.iter().any(|other| other.name == spec.name) {
                let message = format!("the name `{}` occurs twice among these tensors", spec.name);
                reader.problem(item.position, &path, message, None, None);
            }
            specs.push(spec);
        }
        // A model may take nothing; one that gives nothing is of no use.
        if key == "outputs" && matches!(&node.value, Value::List(items) if items.is_empty()) {
            reader.problem(
                node.position,
                &path,
                "no tensor is listed",
                Some("at least one".to_owned()),
                None,
            );
        }
        Some(specs)
    };
    let (inputs, outputs) = (tensors("inputs"), tensors("outputs"));
    Some(Signature { inputs: inputs?, outputs: outputs? })
}

fn tensor(reader: &mut Reader<'_>, node: &Node, path: &Path<'_>) -> Option<TensorSpec> {
    let fields = reader.fields(node, path, &language::TENSOR)?;
    for key in ["name", "datatype", "shape"] {
        reader.missing(&fields, path, key, "`{ name: <text>, datatype: <datatype>, shape: [<dimensions>] }`");
    }
    let name =
        fields.get("name").and_then(|node| reader.filled_text(node, &path.key("name"))).map(str::to_owned);
    let datatype = fields.get("datatype").and_then(|node| {
        let path = path.key("datatype");
        let text = reader.text(node, &path)?;
        let datatype = text.parse::<Datatype>().ok();
        if datatype.is_none() {
            let names = || Datatype::ALL.iter().map(|datatype| datatype.name());
            let expected =
                format!("one of {}", Datatype::ALL.map(|datatype| format!("`{datatype}`")).join(", "));
            let hint = reader.suggest(&text.to_ascii_uppercase(), names());
            reader.problem(node.position, &path, format!("unknown datatype `{text}`"), Some(expected), hint);
        }
        datatype
    });
    let shape = fields.get("shape").and_then(|node| {
        let path = path.key("shape");
        let mut shape = Vec::new();
        let mut whole = matches!(node.value, Value::List(_));
        for (item, index) in reader.list(node, &path).iter().zip(0..) {
            let path = path.index(index);
            let expected = "-1 for a free dimension, or a whole number from 1 on";
            let dimension = match &item.value {
                Value::Number(text) => integer(text).filter(|dimension| *dimension == -1 || *dimension > 0),
                _ => None,
            };
            match dimension {
                Some(dimension) => shape.push(dimension),
                None => {
                    whole = false;
                    let message = format!("found {} where a dimension belongs", item.value.describe());
                    reader.problem(item.position, &path, message, Some(expected.to_owned()), None);
                }
            }
        }
        whole.then_some(shape)
    });
    Some(TensorSpec { name: name?, datatype: datatype?, shape: shape? })
}
