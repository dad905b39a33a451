//! Maps that come in and sequences that go out, as the tensors that a request and an answer hold.
//!
//! A map whose keys a `DictVectorizer` lists is a tensor with a column for each key, in that order; a key that a map would leave out is 0
//! there. A `CastMap` reads a tensor with a column for each key. A sequence that a `SequenceConstruct` makes for the graph's output is
//! several outputs, `<output>.0`, `<output>.1` and so on.

use super::functions::without_version;
use super::onnx::domain_name;
use super::pb;
use super::pb::type_proto::{Tensor, Value};

const FLOAT: i32 = 1;
const INTEGER: i32 = 7;
const TEXT: i32 = 8;

/// Rewrites what can be; the rest is refused later, by name. Gives the names of the columns of a map that is the only input.
pub(super) fn flatten(model: &mut pb::ModelProto) -> Vec<String> {
    let Some(graph) = &mut model.graph else { return Vec::new() };
    let (mut columns, mut is_changed) = (Vec::new(), false);
    for input in 0..graph.input.len() {
        if let Some(names) = map(graph, input) {
            (columns, is_changed) = (names, true);
        }
    }
    sequences(graph);
    // `Identity` and `Cast` may come into a model that had no other operator of their domain.
    if is_changed && !model.opset_import.iter().any(|set| domain_name(&set.domain) == "ai.onnx") {
        model.opset_import.push(pb::OperatorSetIdProto { domain: String::new(), version: 13 });
    }
    if model.graph.as_ref().is_some_and(|graph| graph.input.len() == 1) { columns } else { Vec::new() }
}

/// Makes a map among the inputs a tensor, when a single node reads it and says what the keys are.
fn map(graph: &mut pb::GraphProto, index: usize) -> Option<Vec<String>> {
    let input = graph.input.get_mut(index)?;
    let Some(Value::MapType(map)) = input.r#type.as_ref()?.value.as_ref() else { return None };
    let element = map.value_type.as_ref()?.tensor_type.as_ref()?.elem_type;
    let mut readers = graph.node.iter_mut().filter(|node| node.input.contains(&input.name));
    let reader = readers.next().filter(|node| without_version(domain_name(&node.domain)) == "ai.onnx.ml")?;
    if readers.next().is_some() {
        return None;
    }
    let (columns, names, cast) = match reader.op_type.as_str() {
        "DictVectorizer" => {
            let names = vocabulary(reader)?;
            (Some(i64::try_from(names.len()).ok()?), names, None)
        }
        "CastMap" => {
            if map.key_type != INTEGER {
                return None;
            }
            let (columns, to) = cast_map(reader, element)?;
            (columns, Vec::new(), Some(to).filter(|to| *to != element))
        }
        _ => return None,
    };
    reader.domain = String::new();
    reader.attribute = Vec::new();
    reader.op_type = "Identity".to_owned();
    if let Some(to) = cast {
        reader.op_type = "Cast".to_owned();
        reader.attribute = vec![pb::AttributeProto {
            name: "to".to_owned(),
            i: to.into(),
            r#type: pb::attribute_proto::AttributeType::Int.into(),
            ..pb::AttributeProto::default()
        }];
    }
    let dimension = |len: Option<i64>| pb::tensor_shape_proto::Dimension {
        value: len.map(pb::tensor_shape_proto::dimension::Value::DimValue),
    };
    let shape = pb::TensorShapeProto { dim: vec![dimension(None), dimension(columns)] };
    let tensor = Tensor { elem_type: element, shape: Some(shape) };
    input.r#type = Some(pb::TypeProto { value: Some(Value::TensorType(tensor)) });
    Some(names)
}

/// The keys of a `DictVectorizer`, when it says nothing else.
fn vocabulary(node: &pb::NodeProto) -> Option<Vec<String>> {
    let [attribute] = node.attribute.as_slice() else { return None };
    let names: Vec<String> = match attribute.name.as_str() {
        "string_vocabulary" => {
            let texts = attribute.strings.iter().map(|text| String::from_utf8(text.clone()).ok());
            texts.collect::<Option<_>>()?
        }
        "int64_vocabulary" => attribute.ints.iter().map(i64::to_string).collect(),
        _ => return None,
    };
    Some(names).filter(|names| !names.is_empty())
}

/// How many columns a `CastMap` makes, where it says so, and of which type.
fn cast_map(node: &pb::NodeProto, from: i32) -> Option<(Option<i64>, i32)> {
    let (mut to, mut is_sparse, mut most) = (FLOAT, false, 1);
    for attribute in &node.attribute {
        match (attribute.name.as_str(), attribute.s.as_slice()) {
            ("cast_to", b"TO_FLOAT") => to = FLOAT,
            ("cast_to", b"TO_INT64") => to = INTEGER,
            ("cast_to", b"TO_STRING") => to = TEXT,
            ("map_form", form @ (b"DENSE" | b"SPARSE")) => is_sparse = form == b"SPARSE",
            ("max_map", _) => most = attribute.i,
            _ => return None,
        }
    }
    // How a number is written as text is nobody's agreement, and onnxruntime refuses a form without room.
    let is_clear = (to != TEXT || from == TEXT) && (!is_sparse || most > 0);
    is_clear.then_some((Some(most).filter(|_| is_sparse), to))
}

/// Makes several outputs of one that is a sequence.
fn sequences(graph: &mut pb::GraphProto) {
    let mut outputs = Vec::with_capacity(graph.output.len());
    for output in std::mem::take(&mut graph.output) {
        let is_read = graph.node.iter().any(|node| node.input.contains(&output.name));
        let maker = graph.node.iter().position(|node| {
            node.op_type == "SequenceConstruct"
                && without_version(domain_name(&node.domain)) == "ai.onnx"
                && node.attribute.is_empty()
                && node.output.first() == Some(&output.name)
        });
        let Some(maker) = maker.filter(|_| !is_read) else {
            outputs.push(output);
            continue;
        };
        let made = graph.node.remove(maker);
        let parts = made.input.into_iter().enumerate().map(|(index, input)| {
            let name = format!("{}.{index}", output.name);
            outputs.push(pb::ValueInfoProto { name: name.clone(), r#type: None });
            pb::NodeProto {
                input: vec![input],
                output: vec![name],
                op_type: "Identity".to_owned(),
                ..pb::NodeProto::default()
            }
        });
        graph.node.extend(parts);
    }
    graph.output = outputs;
}
