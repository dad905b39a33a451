//! From a checked ONNX graph to a [`GraphPlan`].
//!
//! Nodes are taken in order, those alone that an output depends on. What depends on no request is computed here, with the operators that
//! the engine runs. What a request's shapes lead to is learnt by running the plan: on one row and on two, to see which dimensions
//! follow the batch, and on one row with everything free as long as it may be, to see what a row costs at most.

mod automata;
mod body;
mod dependence;
mod probe;

use std::collections::{BTreeMap, BTreeSet};

use lockgate_onnx::graph::NodeProblem;
use lockgate_onnx::{Kind, Meter, Node, Problem, Source, Tensor, operator};

use super::onnx::{self, Dimension, ElementType, OnnxModel};
use super::operators::{NEWEST_OPSETS, newer_opset};
use super::tabular::Label;
use super::{ImportLimits, Refusal, about_graph, classes};
use automata::Automata;

use crate::TensorSpec;
use crate::plan::graph::{Array, GraphPlan};

/// A graph model, ready to be sealed into a package.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedGraph {
    /// The plan.
    pub plan: GraphPlan,
    /// The bytes of the plan's arrays, in their order.
    pub arrays: Vec<Vec<u8>>,
    /// What a request brings.
    pub inputs: Vec<TensorSpec>,
    /// What an answer holds.
    pub outputs: Vec<TensorSpec>,
    /// The classes that a `ZipMap` or a table of labels names, in the order of the scores.
    pub(super) classes: Vec<Label>,
    /// What one row costs at most.
    pub cost: Cost,
}

/// What one row costs, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Multiplications, comparisons and the like.
    pub operations: u64,
    /// Bytes of the values in between.
    pub memory: u64,
}

/// The operators that the graph engine has, by domain and name.
pub fn operators() -> impl Iterator<Item = &'static lockgate_onnx::Operator> {
    operator::operators()
}

/// What a name stands for.
#[derive(Debug, Clone, Copy)]
enum Value {
    /// The array with this index.
    Constant(usize),
    /// A value of the plan.
    Computed(u32),
}

/// A plan while it grows.
#[derive(Default)]
struct Builder {
    arrays: Vec<Tensor>,
    /// The values that arrays have where nodes read them.
    constants: BTreeMap<usize, u32>,
    nodes: Vec<Node>,
    next: u32,
    classes: Vec<Label>,
    automata: Automata,
    /// Bytes and operations of the constants that were computed ahead: a small file must not ask for all memory.
    folded: (u64, u64),
}

/// Imports a graph of operators.
///
/// # Errors
/// Everything that cannot be imported, in the order of the nodes.
pub fn import_graph(model: &OnnxModel, limits: &ImportLimits) -> Result<ImportedGraph, Vec<Refusal>> {
    let mut refusals = Vec::new();
    let mut builder = Builder::default();
    let mut values = BTreeMap::new();
    let free = inputs(model, &mut builder, &mut values, &mut refusals);
    let wanted = wanted(model);
    for node in &model.nodes {
        if !node.outputs.iter().any(|output| wanted.contains(output.as_str())) {
            continue;
        }
        if let Err(refusal) = builder.node(model, node, &wanted, &mut values, limits) {
            refusals.extend(refusal);
        }
    }
    for (domain, newest) in NEWEST_OPSETS {
        if let Some(version) = model.newest_opset(domain).filter(|&version| version > newest) {
            refusals.push(newer_opset(domain, version, newest));
        }
    }
    let mut outputs = Vec::new();
    for output in &model.outputs {
        match values.get(output.name.as_str()) {
            Some(&value) => outputs.push(builder.place(value)),
            None => match model.constant(&output.name) {
                Some(tensor) => {
                    let value = builder.constant(tensor.clone());
                    outputs.push(builder.place(value));
                }
                _ if refusals.is_empty() => refusals.push(about_graph(
                    format!("output `{}` is computed by no node", output.name),
                    "export the model again",
                )),
                _ => {}
            },
        }
    }
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let Builder { arrays, constants, nodes, mut classes, .. } = builder;
    if classes.is_empty() {
        classes = classes::chosen_from(model);
    }
    // Arrays that only folded nodes read are left out.
    let mut used: BTreeSet<usize> = constants.keys().copied().collect();
    nodes.iter().for_each(|node| body::arrays_of(node, &mut used));
    let positions: BTreeMap<usize, u32> = used.iter().copied().zip(0..).collect();
    let position = |index: usize| positions.get(&index).copied();
    let source = Source {
        inputs: u32::try_from(model.inputs.len()).unwrap_or(u32::MAX),
        constants: constants.iter().filter_map(|(index, value)| Some((*value, position(*index)?))).collect(),
        nodes: nodes.into_iter().map(|node| body::renumbered(node, &position)).collect(),
        outputs,
    };
    let arrays: Vec<Tensor> = used.iter().filter_map(|index| arrays.get(*index).cloned()).collect();
    let kinds: Vec<Kind> =
        model.inputs.iter().filter_map(|input| input.element.and_then(ElementType::kind)).collect();
    let probed =
        probe::probe(model, &source, &arrays, &kinds, &free, limits).map_err(|refusal| vec![refusal])?;
    let declared = arrays.iter().map(|array| Array { kind: array.kind(), shape: array.shape().to_vec() });
    let plan = GraphPlan::new(kinds, free, declared.collect(), source);
    let bytes = arrays.iter().map(Tensor::to_bytes).collect();
    Ok(ImportedGraph {
        plan,
        arrays: bytes,
        inputs: probed.inputs,
        outputs: probed.outputs,
        classes,
        cost: probed.cost,
    })
}

/// The names that outputs depend on.
fn wanted(model: &OnnxModel) -> BTreeSet<&str> {
    let mut wanted: BTreeSet<&str> = model.outputs.iter().map(|output| output.name.as_str()).collect();
    for node in model.nodes.iter().rev() {
        if node.outputs.iter().any(|output| wanted.contains(output.as_str())) {
            wanted.extend(node.inputs.iter().map(String::as_str));
            wanted.extend(body::reads(node));
        }
    }
    wanted
}

/// Declares the inputs; gives what their free dimensions are called.
fn inputs<'m>(
    model: &'m OnnxModel,
    builder: &mut Builder,
    values: &mut BTreeMap<&'m str, Value>,
    refusals: &mut Vec<Refusal>,
) -> Vec<Vec<Option<String>>> {
    // The leading dimension is the batch whatever it is called; a dimension elsewhere that has its name is the batch too.
    let leading = model.inputs.iter().find_map(|input| match input.shape.as_ref()?.first()? {
        Dimension::Named(name) => Some(name.clone()),
        _ => None,
    });
    let batch = leading.unwrap_or_else(|| "batch".to_owned());
    let mut free = Vec::new();
    for input in &model.inputs {
        let value = builder.value();
        values.insert(&input.name, Value::Computed(value));
        let mut refuse = |message: String, hint: &str| {
            refusals.push(about_graph(format!("input `{}` {message}", input.name), hint));
        };
        let kind = input.element.and_then(ElementType::kind);
        if kind.is_none() {
            let element = input.element.map_or_else(|| "no tensor".to_owned(), |element| element.to_string());
            refuse(
                format!("is {element}, which a request cannot hold"),
                "export with inputs of float, an integer type, bool or string",
            );
        }
        let Some(dimensions) = &input.shape else {
            refuse(
                "does not declare its shape".to_owned(),
                "export with a declared shape, such as [batch, 20, 17]",
            );
            continue;
        };
        let name = |(axis, dimension): (usize, &Dimension)| match dimension {
            Dimension::Fixed(_) => None,
            Dimension::Unknown if axis == 0 => Some(batch.clone()),
            Dimension::Unknown => Some(format!("{}[{axis}]", input.name)),
            Dimension::Named(_) if axis == 0 => Some(batch.clone()),
            Dimension::Named(name) => Some(name.clone()),
        };
        free.push(dimensions.iter().enumerate().map(name).collect());
    }
    free
}

impl Builder {
    fn value(&mut self) -> u32 {
        let value = self.next;
        self.next = self.next.saturating_add(1);
        value
    }

    fn constant(&mut self, tensor: Tensor) -> Value {
        self.arrays.push(tensor);
        Value::Constant(self.arrays.len() - 1)
    }

    /// The number under which nodes read a value.
    fn place(&mut self, value: Value) -> u32 {
        match value {
            Value::Computed(value) => value,
            Value::Constant(index) => match self.constants.get(&index) {
                Some(value) => *value,
                None => {
                    let value = self.value();
                    self.constants.insert(index, value);
                    value
                }
            },
        }
    }

    /// Takes a node. Its results stay unknown when it cannot be taken, and nodes that read unknown values are passed over.
    fn node<'m>(
        &mut self,
        model: &'m OnnxModel,
        node: &'m onnx::Node,
        wanted: &BTreeSet<&str>,
        values: &mut BTreeMap<&'m str, Value>,
        limits: &ImportLimits,
    ) -> Result<(), Vec<Refusal>> {
        if node.operator == "ZipMap" && node.domain == "ai.onnx.ml" {
            return self.zip_map(node, values);
        }
        if operator::find(&node.domain, &node.operator, node.opset).is_none() {
            let hint = super::operators::hint(&node.operator);
            return Err(vec![node.refusal("this operator is not supported", hint)]);
        }
        let mut operands = Vec::with_capacity(node.inputs.len());
        for index in 0..node.inputs.len() {
            operands.push(match node.input(index) {
                None => None,
                Some(name) => Some(self.operand(model, name, values)?),
            });
        }
        let (attributes, captured) =
            body::attributes(node, model, &mut self.arrays).map_err(|refusal| vec![refusal])?;
        for name in &captured {
            let known = values.get_key_value(name.as_str()).map(|(name, _)| *name);
            let name =
                known.or_else(|| model.initializers.get_key_value(name).map(|(name, _)| name.as_str()));
            // What makes the value unknown has been refused already.
            operands.push(Some(self.operand(model, name.ok_or_else(Vec::new)?, values)?));
        }
        let has_body =
            attributes.values().any(|attribute| matches!(attribute, lockgate_onnx::Attribute::Graph(_)));
        let mut made = Node {
            name: node.name.clone(),
            domain: node.domain.clone(),
            operator: node.operator.clone(),
            opset: node.opset,
            attributes,
            inputs: Vec::new(),
            outputs: Vec::new(),
        };
        made.outputs = node.outputs.iter().map(|name| wanted.contains(name.as_str()).then_some(0)).collect();
        while made.outputs.last() == Some(&None) {
            made.outputs.pop();
        }
        let tensors: Vec<Option<&Tensor>> = operands
            .iter()
            .map(|operand| match operand {
                Some(Value::Constant(index)) => self.arrays.get(*index),
                _ => None,
            })
            .collect();
        made.inputs = operands.iter().map(|operand| operand.map(|_| 0)).collect();
        let refused = self.automata.add(node, &mut made, limits);
        let kernel = made.kernel(&tensors, &self.arrays).map_err(|problem| {
            if refused.is_empty() { vec![refusal(node, &problem.problem)] } else { refused }
        })?;
        let is_constant = operands.iter().all(|operand| !matches!(operand, Some(Value::Computed(_))));
        if is_constant && !has_body && !operator::is_random(&node.domain, &node.operator) {
            let left = (
                limits.folded_bytes.saturating_sub(self.folded.0),
                limits.folded_operations.saturating_sub(self.folded.1),
            );
            let mut meter = Meter::new(left.0, left.1);
            let results = kernel(&tensors, &mut meter)
                .map_err(|problem| vec![folding_refusal(node, &problem, limits, self.folded)])?;
            self.folded.1 = self.folded.1.saturating_add(meter.operations());
            for (name, result) in node.outputs.iter().zip(results) {
                self.folded.0 = self.folded.0.saturating_add(result.bytes());
                if self.folded.0 > limits.folded_bytes {
                    let problem =
                        Problem::Limit { what: "bytes of memory", needed: result.bytes(), limit: left.0 };
                    return Err(vec![folding_refusal(node, &problem, limits, self.folded)]);
                }
                let value = self.constant(result);
                values.insert(name, value);
            }
            return Ok(());
        }
        made.inputs = operands.iter().map(|operand| operand.map(|value| self.place(value))).collect();
        for (name, place) in node.outputs.iter().zip(&mut made.outputs) {
            if place.is_some() {
                let value = self.value();
                *place = Some(value);
                values.insert(name, Value::Computed(value));
            }
        }
        self.nodes.push(made);
        Ok(())
    }

    fn operand<'m>(
        &mut self,
        model: &'m OnnxModel,
        name: &'m str,
        values: &mut BTreeMap<&'m str, Value>,
    ) -> Result<Value, Vec<Refusal>> {
        if let Some(value) = values.get(name) {
            return Ok(*value);
        }
        // What makes the value unknown has been refused already.
        let constant = model.constant(name).ok_or_else(Vec::new)?;
        let value = self.constant(constant.clone());
        values.insert(name, value);
        Ok(value)
    }

    /// Scores under the names of classes are the scores; the names go into the manifest.
    fn zip_map<'m>(
        &mut self,
        node: &'m onnx::Node,
        values: &mut BTreeMap<&'m str, Value>,
    ) -> Result<(), Vec<Refusal>> {
        let attributes = node.attributes();
        let integers = attributes.ints("classlabels_int64s").iter().map(|label| Label::Integer(*label));
        let texts =
            attributes.strings("classlabels_strings").into_iter().map(|label| Label::Text(label.to_owned()));
        self.classes = integers.chain(texts).collect();
        let refusals = attributes.finish();
        if !refusals.is_empty() {
            return Err(refusals);
        }
        let value = node.input(0).and_then(|name| values.get(name)).copied().ok_or_else(Vec::new)?;
        values.extend(node.output(0).map(|name| (name, value)));
        Ok(())
    }
}

/// A refusal of a node.
fn refusal(node: &onnx::Node, problem: &Problem) -> Refusal {
    match problem {
        Problem::Unsupported { message, attribute, hint } => {
            Refusal { attribute: attribute.clone(), ..node.refusal(message, hint) }
        }
        other => node
            .refusal(other.to_string(), "check the file with onnx.checker.check_model, or export it again"),
    }
}

/// A refusal of a node whose results are the same in every run and too large, or take too long, to compute ahead.
fn folding_refusal(
    node: &onnx::Node,
    problem: &Problem,
    limits: &ImportLimits,
    folded: (u64, u64),
) -> Refusal {
    let Problem::Limit { what, needed, .. } = problem else { return refusal(node, problem) };
    let (name, limit, before) = match *what {
        "operations" => ("folded_operations", limits.folded_operations, folded.1),
        _ => ("folded_bytes", limits.folded_bytes, folded.0),
    };
    node.refusal(
        format!(
            "it is the same in every run, and computing it ahead would take {needed} {what} beside {before} for others; the limit `{name}` is {limit}"
        ),
        "export the model without the constant, or raise the limit",
    )
}

/// A refusal of a node of the plan, which may lie inside of another.
fn refusal_of(problem: &NodeProblem) -> Refusal {
    let hint = match &problem.problem {
        Problem::Unsupported { hint, .. } => hint.clone(),
        _ => "check the shapes with onnx.shape_inference, and export the model again".to_owned(),
    };
    Refusal {
        node: problem.node.clone(),
        operator: problem.operator.clone(),
        domain: problem.domain.clone(),
        opset: problem.opset,
        message: problem.problem.to_string(),
        hint,
        ..Refusal::default()
    }
}

#[cfg(test)]
mod tests;
