//! Data that an ONNX file keeps in files beside it.

use std::collections::{BTreeMap, BTreeSet};

use super::{ImportError, ImportLimits, pb};

/// The names of all files that a model keeps data in.
pub(super) fn locations(model: &mut pb::ModelProto) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let walked = each_tensor(model, &mut |tensor| {
        found.extend(entry(tensor, "location").filter(|_| is_external(tensor)).map(str::to_owned));
        Ok(())
    });
    debug_assert!(walked.is_ok(), "looking at tensors does not fail");
    found
}

pub(super) fn is_external(tensor: &pb::TensorProto) -> bool {
    tensor.data_location.is_some_and(|location| location != 0) || !tensor.external_data.is_empty()
}

/// Where an external tensor's data are, for messages.
pub(super) fn location(tensor: &pb::TensorProto) -> String {
    entry(tensor, "location").map_or_else(|| "another file".to_owned(), |location| format!("`{location}`"))
}

/// Puts data that lie in given files into the model. Tensors whose file is not given stay as they are.
///
/// # Errors
/// Data that lie outside of their file, and more of them than the limit allows: many tensors may name the same bytes.
pub(super) fn fill(
    model: &mut pb::ModelProto,
    files: &BTreeMap<String, Vec<u8>>,
    limits: &ImportLimits,
) -> Result<(), ImportError> {
    let mut filled = 0_u64;
    if files.is_empty() {
        return Ok(());
    }
    each_tensor(model, &mut |tensor| {
        if !is_external(tensor) {
            return Ok(());
        }
        let Some((location, file)) = entry(tensor, "location").and_then(|name| files.get_key_value(name))
        else {
            return Ok(());
        };
        let number = |key: &str| match entry(tensor, key).map(str::parse::<u64>) {
            None => Ok(None),
            Some(Ok(number)) => Ok(Some(number)),
            Some(Err(_)) => Err(malformed(tensor, &format!("the {key} of its data is no number"))),
        };
        let length = u64::try_from(file.len()).unwrap_or(u64::MAX);
        let from = number("offset")?.unwrap_or(0);
        let end = number("length")?.map_or(Some(length), |length| from.checked_add(length));
        let range = end.and_then(|end| Some(usize::try_from(from).ok()?..usize::try_from(end).ok()?));
        let Some(data) = range.and_then(|range| file.get(range)) else {
            let end = end.map_or_else(|| "beyond".to_owned(), |end| end.to_string());
            let problem = format!("its data are bytes {from} to {end} of `{location}`, which has {length}");
            return Err(malformed(tensor, &problem));
        };
        filled = filled.saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX));
        limits.check("decoded_bytes", "the memory for data of other files in bytes", filled)?;
        tensor.raw_data = data.to_vec();
        tensor.external_data.clear();
        tensor.data_location = None;
        Ok(())
    })
}

type Visit<'v> = dyn FnMut(&mut pb::TensorProto) -> Result<(), ImportError> + 'v;

fn each_tensor(model: &mut pb::ModelProto, visit: &mut Visit<'_>) -> Result<(), ImportError> {
    for function in &mut model.functions {
        in_nodes(&mut function.node, visit)?;
    }
    model.graph.as_mut().map_or(Ok(()), |graph| in_graph(graph, visit))
}

/// Decoding has bounded how deep graphs lie inside of each other.
fn in_graph(graph: &mut pb::GraphProto, visit: &mut Visit<'_>) -> Result<(), ImportError> {
    graph.initializer.iter_mut().try_for_each(&mut *visit)?;
    in_nodes(&mut graph.node, visit)
}

fn in_nodes(nodes: &mut [pb::NodeProto], visit: &mut Visit<'_>) -> Result<(), ImportError> {
    for attribute in nodes.iter_mut().flat_map(|node| &mut node.attribute) {
        if let Some(tensor) = &mut attribute.t {
            visit(tensor)?;
        }
        if let Some(graph) = &mut attribute.g {
            in_graph(graph, visit)?;
        }
    }
    Ok(())
}

fn entry<'t>(tensor: &'t pb::TensorProto, key: &str) -> Option<&'t str> {
    tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
}

fn malformed(tensor: &pb::TensorProto, problem: &str) -> ImportError {
    ImportError::Malformed {
        problem: format!("tensor `{}`: {problem}", tensor.name),
        hint: "export the model again, and keep the files together".to_owned(),
    }
}
