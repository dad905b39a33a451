//! Graphs: nodes in the order in which they run, over numbered values.
//!
//! The inputs are the first values; each node writes values that nobody wrote before. A graph inside of a node (the body of a `Scan` or `Loop`)
//! reads values of the graph around it through inputs of its own, which stand behind the formal ones: [`Node::inputs`] of the node
//! ends with what they are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::operator::find;
use crate::{Attribute, Attributes, Build, Kernel, Meter, Problem, Tensor};

/// A graph as it is written down.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// How many inputs there are: the values 0 and up.
    pub inputs: u32,
    /// Values that are the same in every run, and which tensor of [`Graph::new`]'s `arrays` each is.
    pub constants: Vec<(u32, u32)>,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// The values that are given back.
    pub outputs: Vec<u32>,
}

/// A node as it is written down.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// What the model calls it, for messages.
    pub name: String,
    /// `ai.onnx` or `ai.onnx.ml`.
    pub domain: String,
    /// `Softmax`.
    pub operator: String,
    /// The version of the operator set.
    pub opset: i64,
    /// Everything that is not a default.
    pub attributes: BTreeMap<String, Attribute>,
    /// The values that it reads; `None` where an operand is omitted.
    pub inputs: Vec<Option<u32>>,
    /// The values that it writes; `None` where a result is not wanted.
    pub outputs: Vec<Option<u32>>,
}

/// What is wrong with a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("node `{node}` ({operator}): {problem}")]
pub struct NodeProblem {
    /// The node's name.
    pub node: String,
    /// Its operator.
    pub operator: String,
    /// The operator's domain.
    pub domain: String,
    /// The version of the operator set.
    pub opset: i64,
    /// What is wrong.
    pub problem: Problem,
}

/// A graph, ready to run.
pub struct Graph {
    values: usize,
    inputs: usize,
    constants: Vec<(usize, Tensor)>,
    steps: Vec<Step>,
    outputs: Vec<usize>,
}

struct Step {
    /// The node that it runs, without what it reads, writes and is told.
    node: Node,
    kernel: Kernel,
    inputs: Vec<Option<usize>>,
    outputs: Vec<Option<usize>>,
    /// Values that nobody reads any more once it has run.
    last: Vec<usize>,
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.steps.iter().map(|step| step.node.operator.as_str()).collect();
        f.debug_struct("Graph").field("inputs", &self.inputs).field("steps", &names).finish_non_exhaustive()
    }
}

fn place(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

impl Node {
    /// What is wrong with it.
    pub fn problem(&self, problem: Problem) -> NodeProblem {
        NodeProblem {
            node: self.name.clone(),
            operator: self.operator.clone(),
            domain: self.domain.clone(),
            opset: self.opset,
            problem,
        }
    }

    /// Makes it ready to run. `constants` are the operands that are the same in every run, `arrays` what graphs inside of it refer to.
    ///
    /// # Errors
    /// An operator or an attribute that is not implemented.
    pub fn kernel(&self, constants: &[Option<&Tensor>], arrays: &[Tensor]) -> Result<Kernel, NodeProblem> {
        let entry = find(&self.domain, &self.operator, self.opset).ok_or_else(|| {
            let hint = "build the model from other operators, or do this step before the request is sent";
            self.problem(Problem::unsupported(
                format!("opset {} has no such operator here", self.opset),
                hint,
            ))
        })?;
        let build = Build {
            opset: self.opset,
            attributes: Attributes::new(&self.attributes),
            inputs: self.inputs.len(),
            outputs: self.outputs.len(),
            constants,
            arrays,
        };
        let kernel = (entry.make)(&build).map_err(|problem| self.problem(problem))?;
        match build.attributes.unread().next() {
            None => Ok(kernel),
            Some(name) => Err(self.problem(Problem::attribute(
                name,
                "this attribute is not supported",
                "export without it, or leave it at its default",
            ))),
        }
    }
}

impl Graph {
    /// Makes a graph ready to run. `arrays` are what its constants refer to.
    ///
    /// # Errors
    /// A node that cannot be made, or values that are read before they are written.
    pub fn new(source: &Source, arrays: &[Tensor]) -> Result<Self, NodeProblem> {
        Self::with_more(source, arrays, &[])
    }

    /// [`Graph::new`] with constants that the graphs inside of the nodes do not see, numbered behind `arrays`.
    pub(crate) fn with_more(
        source: &Source,
        arrays: &[Tensor],
        more: &[Tensor],
    ) -> Result<Self, NodeProblem> {
        let whole = |message: String| Node::default().problem(Problem::Invalid(message));
        let given = place(source.inputs);
        let written = source.nodes.iter().map(|node| node.outputs.len()).sum::<usize>();
        // Numbers leave no gaps, so that there is no more room for values than a plan has text.
        let most = given.saturating_add(source.constants.len()).saturating_add(written);
        let mut known: BTreeMap<usize, Option<&Tensor>> = BTreeMap::new();
        let mut constants = Vec::new();
        for &(value, array) in &source.constants {
            let (value, array) = (place(value), place(array));
            let array = arrays.get(array).or_else(|| more.get(array.checked_sub(arrays.len())?));
            let array = array.ok_or_else(|| whole(format!("constant {value} has no array")))?;
            if value >= most {
                return Err(whole(format!("there are no {value} values")));
            }
            known.insert(value, Some(array));
            constants.push((value, array.clone()));
        }
        let mut steps: Vec<Step> = Vec::with_capacity(source.nodes.len());
        for node in &source.nodes {
            let inputs: Vec<Option<usize>> = node.inputs.iter().map(|value| value.map(place)).collect();
            let outputs: Vec<Option<usize>> = node.outputs.iter().map(|value| value.map(place)).collect();
            let mut operands = Vec::with_capacity(inputs.len());
            for input in &inputs {
                operands.push(match input {
                    None => None,
                    Some(value) => match known.get(value) {
                        Some(constant) => *constant,
                        None if *value < given => None,
                        None => {
                            let message = format!("it reads value {value}, which nobody has written");
                            return Err(node.problem(Problem::Invalid(message)));
                        }
                    },
                });
            }
            let kernel = node.kernel(&operands, arrays)?;
            for value in outputs.iter().flatten() {
                if *value >= most {
                    return Err(node.problem(Problem::Invalid(format!("there are no {value} values"))));
                }
                if *value < given || known.insert(*value, None).is_some() {
                    return Err(node.problem(Problem::Invalid(format!("value {value} is written twice"))));
                }
            }
            let node = Node {
                name: node.name.clone(),
                domain: node.domain.clone(),
                operator: node.operator.clone(),
                opset: node.opset,
                ..Node::default()
            };
            steps.push(Step { node, kernel, inputs, outputs, last: Vec::new() });
        }
        let outputs: Vec<usize> = source.outputs.iter().map(|value| place(*value)).collect();
        let missing = |value: &&usize| **value >= given && !known.contains_key(*value);
        if let Some(missing) = outputs.iter().find(missing) {
            return Err(whole(format!("output {missing} is written by nobody")));
        }
        let values = known.last_key_value().map_or(0, |(last, _)| last + 1).max(given);
        let fixed: BTreeMap<usize, ()> = constants.iter().map(|(value, _)| (*value, ())).collect();
        // From the end: who reads a value first, seen from there, is its last reader.
        let mut read: BTreeMap<usize, ()> = outputs.iter().map(|value| (*value, ())).collect();
        for step in steps.iter_mut().rev() {
            for value in step.inputs.iter().chain(&step.outputs).flatten() {
                if read.insert(*value, ()).is_none() && !fixed.contains_key(value) {
                    step.last.push(*value);
                }
            }
        }
        Ok(Self { values, inputs: given, constants, steps, outputs })
    }

    /// The outputs for these inputs.
    ///
    /// # Errors
    /// Operands that do not fit, or a limit of the meter.
    pub fn run(&self, inputs: Vec<Tensor>, meter: &mut Meter) -> Result<Vec<Tensor>, NodeProblem> {
        let whole = |problem: Problem| Node::default().problem(problem);
        if inputs.len() != self.inputs {
            let message = format!("{} inputs are given, expected {}", inputs.len(), self.inputs);
            return Err(whole(Problem::Invalid(message)));
        }
        let mut values: Vec<Option<Tensor>> = vec![None; self.values];
        for (value, constant) in &self.constants {
            if let Some(place) = values.get_mut(*value) {
                *place = Some(constant.clone());
            }
        }
        for (place, input) in values.iter_mut().zip(inputs) {
            meter.hold(&input).map_err(whole)?;
            *place = Some(input);
        }
        for step in &self.steps {
            let failed = |problem| step.node.problem(problem);
            let operands: Vec<Option<&Tensor>> =
                step.inputs.iter().map(|value| values.get((*value)?)?.as_ref()).collect();
            let results = (step.kernel)(&operands, meter).map_err(failed)?;
            if results.len() < step.outputs.len() {
                let message = format!("it gave {} results, expected {}", results.len(), step.outputs.len());
                return Err(failed(Problem::Invalid(message)));
            }
            for (value, result) in step.outputs.iter().zip(results) {
                let Some(place) = value.and_then(|value| values.get_mut(value)) else { continue };
                meter.hold(&result).map_err(failed)?;
                meter.work(u64::try_from(result.len()).unwrap_or(u64::MAX)).map_err(failed)?;
                *place = Some(result);
            }
            for value in &step.last {
                if let Some(gone) = values.get_mut(*value).and_then(Option::take) {
                    meter.release(&gone);
                }
            }
        }
        let outputs: Option<Vec<Tensor>> =
            self.outputs.iter().map(|value| values.get(*value).cloned().flatten()).collect();
        let outputs = outputs.ok_or_else(|| whole(Problem::invalid("an output has no value")))?;
        // Constants were never counted, but a graph inside of a node may get one as an input, too.
        for (value, _) in self.constants.iter().filter(|(value, _)| *value >= self.inputs) {
            if let Some(place) = values.get_mut(*value) {
                *place = None;
            }
        }
        for value in values.iter().flatten() {
            meter.release(value);
        }
        Ok(outputs)
    }
}
