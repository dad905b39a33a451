//! Nodes that are added to a model before an engine imports it: in front of its inputs and behind its outputs.
//!
//! They are nodes like any other, so both engines take them without knowing where they came from. They use only operators that the
//! tabular engine has too, so a tabular model stays one.

use std::collections::{BTreeMap, BTreeSet};

use lockgate_onnx::Tensor;

use super::onnx::{ElementType, Node, OnnxModel};
use super::pb;
use crate::TensorSpec;

/// The operator set of the nodes that are added, whatever the model's is.
const OPSET: i64 = 13;

/// An input or output whose value has another name in the graph than in the signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Renamed {
    /// In the graph.
    pub(super) inner: String,
    /// In the signature.
    pub(super) outer: String,
}

/// Gives inputs and outputs the names that people know.
pub(super) fn rename(specs: &mut [TensorSpec], names: &[Renamed]) {
    for spec in specs {
        if let Some(renamed) = names.iter().find(|renamed| renamed.inner == spec.name) {
            spec.name.clone_from(&renamed.outer);
        }
    }
}

/// Adds nodes to a model.
pub(super) struct Rewriter<'m> {
    pub(super) model: &'m mut OnnxModel,
    taken: BTreeSet<String>,
    /// How many nodes the model had.
    own: usize,
    /// The number that the next name gets.
    next: u64,
}

/// The attributes that the added nodes need.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    Integer(i64),
    Integers(&'a [i64]),
}

impl<'m> Rewriter<'m> {
    pub(super) fn new(model: &'m mut OnnxModel) -> Self {
        let mut taken: BTreeSet<String> = model.initializers.keys().cloned().collect();
        taken.extend(model.inputs.iter().chain(&model.outputs).map(|value| value.name.clone()));
        taken.extend(model.nodes.iter().flat_map(|node| node.outputs.iter().cloned()));
        Self { own: model.nodes.len(), model, taken, next: 1 }
    }

    /// A name that nothing in the model has.
    pub(super) fn fresh(&mut self, like: &str) -> String {
        loop {
            let name = format!("{like}/{}", self.next);
            self.next += 1;
            if self.taken.insert(name.clone()) {
                return name;
            }
        }
    }

    /// A constant; gives its name.
    pub(super) fn constant(&mut self, tensor: Tensor) -> String {
        let name = self.fresh("constant");
        self.model.initializers.insert(name.clone(), tensor);
        name
    }

    /// A node with one output; gives the output's name. An input without a name is one that is left out.
    pub(super) fn node(
        &mut self,
        operator: &str,
        inputs: &[&str],
        attributes: &[(&str, Value<'_>)],
    ) -> String {
        let output = self.fresh(&operator.to_lowercase());
        self.node_to(operator, inputs, attributes, &output);
        output
    }

    fn node_to(&mut self, operator: &str, inputs: &[&str], attributes: &[(&str, Value<'_>)], output: &str) {
        use pb::attribute_proto::AttributeType;
        let attribute = |name: &str, value: &Value<'_>| {
            let name = name.to_owned();
            match value {
                Value::Integer(i) => pb::AttributeProto {
                    name,
                    i: *i,
                    r#type: AttributeType::Int.into(),
                    ..Default::default()
                },
                Value::Integers(ints) => pb::AttributeProto {
                    name,
                    ints: ints.to_vec(),
                    r#type: AttributeType::Ints.into(),
                    ..Default::default()
                },
            }
        };
        let attributes: BTreeMap<String, pb::AttributeProto> =
            attributes.iter().map(|(name, value)| ((*name).to_owned(), attribute(name, value))).collect();
        self.model.nodes.push(Node {
            name: output.to_owned(),
            operator: operator.to_owned(),
            domain: "ai.onnx".to_owned(),
            opset: OPSET,
            inputs: inputs.iter().map(|&input| input.to_owned()).collect(),
            outputs: vec![output.to_owned()],
            attributes,
        });
    }

    pub(super) fn cast(&mut self, value: &str, to: ElementType) -> String {
        self.node("Cast", &[value], &[("to", Value::Integer(number(to)))])
    }

    /// A cast that gives its result a name.
    pub(super) fn cast_to(&mut self, value: &str, to: ElementType, output: &str) {
        self.node_to("Cast", &[value], &[("to", Value::Integer(number(to)))], output);
    }

    /// Bounds of a value in double precision.
    pub(super) fn clip(&mut self, value: &str, low: Option<f64>, high: Option<f64>) -> String {
        let mut bound = |bound: Option<f64>| match bound {
            Some(bound) => self.constant(Tensor::scalar(bound)),
            None => String::new(),
        };
        let (low, high) = (bound(low), bound(high));
        self.node("Clip", &[value, &low, &high], &[])
    }

    /// Moves what was added in front of the model's own nodes.
    pub(super) fn nodes_go_first(&mut self) {
        self.model.nodes.rotate_left(self.own);
    }
}

fn number(element: ElementType) -> i64 {
    element.kind().map_or(0, |kind| i64::from(kind as u8))
}
