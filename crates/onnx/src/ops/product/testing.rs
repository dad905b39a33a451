//! Nodes for tests.

use std::collections::BTreeMap;

use crate::{Attribute, Graph, Meter, Node, Source, Tensor};

/// An attribute.
pub(crate) fn int(name: &str, value: i64) -> (String, Attribute) {
    (name.to_owned(), Attribute::Int(value))
}

/// An attribute.
pub(crate) fn ints(name: &str, value: &[i64]) -> (String, Attribute) {
    (name.to_owned(), Attribute::Ints(value.to_vec()))
}

/// An attribute.
pub(crate) fn text(name: &str, value: &str) -> (String, Attribute) {
    (name.to_owned(), Attribute::Text(value.to_owned()))
}

/// A node of `ai.onnx` with as many results as it may have.
pub(crate) fn node(
    operator: &str,
    opset: i64,
    attributes: &[(String, Attribute)],
    inputs: &[Option<u32>],
    outputs: &[u32],
) -> Node {
    Node {
        name: "n".to_owned(),
        domain: "ai.onnx".to_owned(),
        operator: operator.to_owned(),
        opset,
        attributes: attributes.iter().cloned().collect::<BTreeMap<_, _>>(),
        inputs: inputs.to_vec(),
        outputs: outputs.iter().copied().map(Some).collect(),
    }
}

/// The result of a node, whose operands change with every run; an empty vector of texts stands for one that is omitted. A run may
/// take a megabyte and a million operations.
pub(crate) fn run(
    operator: &str,
    opset: i64,
    attributes: &[(String, Attribute)],
    operands: &[Tensor],
) -> Result<Vec<Tensor>, String> {
    results(operator, opset, attributes, operands, 1)
}

/// As [`run`], with some results.
pub(crate) fn results(
    operator: &str,
    opset: i64,
    attributes: &[(String, Attribute)],
    operands: &[Tensor],
    count: u32,
) -> Result<Vec<Tensor>, String> {
    let omitted = |tensor: &Tensor| tensor.is_empty() && tensor.kind() == crate::Kind::Text;
    let given = u32::try_from(operands.len()).unwrap();
    let inputs: Vec<Option<u32>> =
        (0..given).zip(operands).map(|(value, tensor)| (!omitted(tensor)).then_some(value)).collect();
    let outputs: Vec<u32> = (given..given + count).collect();
    let source = Source {
        inputs: given,
        constants: Vec::new(),
        nodes: vec![node(operator, opset, attributes, &inputs, &outputs)],
        outputs,
    };
    let graph = Graph::new(&source, &[]).map_err(|problem| problem.to_string())?;
    graph.run(operands.to_vec(), &mut Meter::new(1 << 20, 1 << 20)).map_err(|problem| problem.to_string())
}

/// An operand that is omitted.
pub(crate) fn none() -> Tensor {
    Tensor::vector(Vec::<String>::new())
}
