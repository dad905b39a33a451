//! The classes of a classifier that is written out in operators: a table, and the place of the best score in it.

use std::collections::BTreeMap;

use lockgate_onnx::Tensor;

use super::onnx::{ElementType, Node, OnnxModel, integers};
use super::tabular::Label;

/// The classes that the model's only such output is chosen from, in the order of the scores; none where that is not plain.
pub(super) fn chosen_from(model: &OnnxModel) -> Vec<Label> {
    let writers = Writers::of(model);
    let mut found = model.outputs.iter().filter_map(|output| writers.table(&output.name));
    match (found.next(), found.next()) {
        (Some(only), None) => labels(only).unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// The nodes of a model by what they write.
struct Writers<'m> {
    model: &'m OnnxModel,
    nodes: BTreeMap<&'m str, &'m Node>,
}

impl<'m> Writers<'m> {
    fn of(model: &'m OnnxModel) -> Self {
        let written = |node: &'m Node| node.outputs.iter().map(move |output| (output.as_str(), node));
        Self { model, nodes: model.nodes.iter().flat_map(written).collect() }
    }

    /// The table that a value is taken from by the place of a largest score.
    fn table(&self, value: &str) -> Option<&'m Tensor> {
        let node = self.source(value)?;
        if !matches!(node.operator.as_str(), "ArrayFeatureExtractor" | "Gather") {
            return None;
        }
        let best = self.source(node.input(1)?)?;
        (best.operator == "ArgMax").then(|| self.model.constant(node.input(0)?))?
    }

    /// The node that computes a value, behind those that only change its form. Nodes are in order, so this ends.
    fn source(&self, value: &str) -> Option<&'m Node> {
        let mut node = *self.nodes.get(value)?;
        while changes_form_only(node) {
            node = self.nodes.get(node.input(0)?)?;
        }
        Some(node)
    }
}

fn changes_form_only(node: &Node) -> bool {
    match node.operator.as_str() {
        "Flatten" | "Identity" | "Reshape" | "Squeeze" | "Unsqueeze" => true,
        "Cast" => ElementType::from_onnx(node.attributes().int_or("to", 0)) != ElementType::String,
        _ => false,
    }
}

fn labels(table: &Tensor) -> Option<Vec<Label>> {
    if let Ok(texts) = table.elements::<String>() {
        return Some(texts.iter().cloned().map(Label::Text).collect());
    }
    Some(integers(table)?.into_iter().map(Label::Integer).collect())
}
