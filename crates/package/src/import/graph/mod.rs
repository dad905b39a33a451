//! From a checked ONNX graph to a [`GraphPlan`].
//!
//! Nodes are taken in order. What depends on no request (weights that are reshaped, arithmetic on shapes) is computed here; the
//! rest becomes plan nodes, with shapes known up to the free dimensions. Every attribute is read or refused. A node that cannot be
//! imported leaves its results unknown, and nodes that read unknown values are passed over, so that one run shows every
//! operator there is to change, each once.

mod builder;
mod literal;
mod nn;
mod recurrent;
mod shape;

use std::collections::BTreeMap;

use super::Refusal;
use super::onnx::{Attributes, Dimension, ElementType, Node, OnnxModel};
use crate::Datatype;
use crate::plan::graph::{Cost, Dim, Fact, GraphPlan};

use builder::{Builder, Value};
use literal::Literal;

/// The operator sets of `ai.onnx` whose meaning the importer knows.
pub const OPSETS: std::ops::RangeInclusive<i64> = 7..=25;

/// A graph model, ready to be sealed into a package.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedGraph {
    /// The plan.
    pub plan: GraphPlan,
    /// The bytes of the plan's arrays, in their order.
    pub arrays: Vec<Vec<u8>>,
    /// What one row costs at most.
    pub cost: Cost,
}

/// Imports a graph of `ai.onnx` operators.
///
/// # Errors
/// Everything that cannot be imported, in the order of the nodes.
pub fn import_graph(model: &OnnxModel) -> Result<ImportedGraph, Vec<Refusal>> {
    let mut builder = Builder::default();
    let mut values: BTreeMap<&str, Value> = BTreeMap::new();
    let mut refusals = Vec::new();
    let symbols = inputs(model, &mut builder, &mut values, &mut refusals);
    for (name, constant) in &model.initializers {
        let value =
            Literal::from_onnx(constant).map_or(Value::Unsupported(constant.element()), Value::constant);
        values.insert(name, value);
    }
    for node in &model.nodes {
        match import_node(node, &values, &mut builder) {
            Ok(results) => {
                for (name, value) in node.outputs.iter().zip(results) {
                    values.insert(name, value);
                }
            }
            Err(more) => {
                refusals.extend(more);
            }
        }
    }
    let mut outputs = Vec::new();
    for output in &model.outputs {
        match values.get(output.name.as_str()).map(|value| builder.place(&output.name, value)) {
            Some(Ok(place)) => outputs.push((output.name.clone(), place)),
            Some(Err(message)) => refusals.push(about_graph(
                format!("output `{}`: {message}", output.name),
                "give outputs that depend on the inputs and have a datatype that a request can hold",
            )),
            None if refusals.is_empty() => refusals.push(about_graph(
                format!("output `{}` is computed by no node", output.name),
                "export the model again",
            )),
            None => {}
        }
    }
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let finished = builder.finish(symbols, outputs).and_then(|(plan, arrays)| {
        let cost = plan.cost_per_row().map_err(|error| error.to_string())?;
        Ok(ImportedGraph { plan, arrays, cost })
    });
    finished.map_err(|problem| {
        vec![about_graph(problem, "report this file: the importer wrote a plan that it cannot read")]
    })
}

/// Whether the graph engine has this operator of `ai.onnx`.
pub fn is_supported(operator: &str) -> bool {
    handler(operator).is_some()
}

/// The operators of `ai.onnx` that the graph engine has, by name.
pub fn operators() -> impl Iterator<Item = &'static str> {
    OPERATORS.iter().map(|(name, _)| *name)
}

/// What a handler is given: the node, its operands, and the plan so far.
struct Context<'a> {
    node: &'a Node,
    attributes: &'a Attributes<'a>,
    operands: Vec<Option<Value>>,
    builder: &'a mut Builder,
}

type Handler = fn(&mut Context<'_>) -> Result<Vec<Value>, Box<Refusal>>;

/// Every operator of the graph engine, by name.
const OPERATORS: &[(&str, Handler)] = &[
    ("Abs", nn::unary),
    ("Add", nn::binary),
    ("ArgMax", nn::arg_extreme),
    ("ArgMin", nn::arg_extreme),
    ("AveragePool", nn::pool),
    ("BatchNormalization", nn::batch_normalization),
    ("Cast", shape::cast),
    ("Ceil", nn::unary),
    ("Clip", nn::clip),
    ("Concat", shape::concat),
    ("ConstantOfShape", shape::constant_of_shape),
    ("Conv", nn::conv),
    ("Div", nn::binary),
    ("Dropout", shape::dropout),
    ("Elu", nn::unary),
    ("Equal", shape::equal),
    ("Erf", nn::unary),
    ("Exp", nn::unary),
    ("Expand", shape::expand),
    ("Flatten", shape::flatten),
    ("Floor", nn::unary),
    ("Gather", shape::gather),
    ("Gelu", nn::unary),
    ("Gemm", nn::gemm),
    ("GlobalAveragePool", nn::global_pool),
    ("GlobalMaxPool", nn::global_pool),
    ("GRU", recurrent::recurrent),
    ("HardSigmoid", nn::unary),
    ("HardSwish", nn::unary),
    ("Identity", shape::identity),
    ("LayerNormalization", nn::layer_normalization),
    ("LeakyRelu", nn::unary),
    ("Log", nn::unary),
    ("LogSoftmax", nn::softmax),
    ("LSTM", recurrent::recurrent),
    ("MatMul", nn::mat_mul),
    ("Max", nn::variadic),
    ("MaxPool", nn::pool),
    ("Mean", nn::variadic),
    ("Min", nn::variadic),
    ("Mish", nn::unary),
    ("Mul", nn::binary),
    ("Neg", nn::unary),
    ("Pad", shape::pad),
    ("Pow", nn::binary),
    ("Reciprocal", nn::unary),
    ("ReduceL1", nn::reduce),
    ("ReduceL2", nn::reduce),
    ("ReduceMax", nn::reduce),
    ("ReduceMean", nn::reduce),
    ("ReduceMin", nn::reduce),
    ("ReduceProd", nn::reduce),
    ("ReduceSum", nn::reduce),
    ("ReduceSumSquare", nn::reduce),
    ("Relu", nn::unary),
    ("Reshape", shape::reshape),
    ("RNN", recurrent::recurrent),
    ("Selu", nn::unary),
    ("Shape", shape::shape),
    ("Sigmoid", nn::unary),
    ("Slice", shape::slice),
    ("Softmax", nn::softmax),
    ("Softplus", nn::unary),
    ("Softsign", nn::unary),
    ("Split", shape::split),
    ("Sqrt", nn::unary),
    ("Squeeze", shape::squeeze),
    ("Sub", nn::binary),
    ("Sum", nn::variadic),
    ("Tanh", nn::unary),
    ("Transpose", shape::transpose),
    ("Unsqueeze", shape::unsqueeze),
    ("Where", shape::select),
];

fn handler(operator: &str) -> Option<Handler> {
    OPERATORS.iter().find(|(name, _)| *name == operator).map(|(_, handler)| *handler)
}

fn import_node(
    node: &Node,
    values: &BTreeMap<&str, Value>,
    builder: &mut Builder,
) -> Result<Vec<Value>, Vec<Refusal>> {
    if node.domain != "ai.onnx" {
        let hint = if node.domain == "ai.onnx.ml" {
            "operators of ai.onnx.ml run in models that hold nothing but them and the dense operators around them"
        } else {
            "export for the standard operator set"
        };
        return Err(vec![node.refusal("the graph engine has no operators of this domain", hint)]);
    }
    let Some(handler) = handler(&node.operator) else {
        return Err(vec![node.refusal("this operator is not supported", unsupported_hint(&node.operator))]);
    };
    if !OPSETS.contains(&node.opset) {
        let (first, last) = (OPSETS.start(), OPSETS.end());
        return Err(vec![node.refusal(
            format!("operator sets {first} to {last} are supported"),
            format!("export with opset {}", node.opset.clamp(*first, 17)),
        )]);
    }
    let mut operands = Vec::with_capacity(node.inputs.len());
    for index in 0..node.inputs.len() {
        let operand = match node.input(index).map(|name| (name, values.get(name))) {
            None => None,
            // What makes the value unknown has been refused already.
            Some((_, None)) => return Err(Vec::new()),
            Some((name, Some(Value::Unsupported(element)))) => {
                let message = format!("the constant `{name}` is {element}, which is not supported");
                return Err(vec![node.refusal(message, "export the model with FP32 weights")]);
            }
            Some((_, Some(value))) => Some(value.clone()),
        };
        operands.push(operand);
    }
    let attributes = node.attributes();
    let mut context = Context { node, attributes: &attributes, operands, builder };
    let results = handler(&mut context).map_err(|refusal| vec![*refusal])?;
    let refusals = attributes.finish();
    if refusals.is_empty() { Ok(results) } else { Err(refusals) }
}

fn unsupported_hint(operator: &str) -> &'static str {
    match operator {
        "Loop" | "Scan" | "If" => {
            "export without control flow: give the exporter a fixed sequence length, or use the LSTM, GRU or RNN operator"
        }
        "QuantizeLinear" | "DequantizeLinear" | "QLinearMatMul" | "DynamicQuantizeLinear" => {
            "export the model before quantisation"
        }
        "RandomNormal" | "RandomUniform" | "RandomNormalLike" | "RandomUniformLike" | "Bernoulli"
        | "Multinomial" => "export the model for inference: it may not draw random numbers",
        "StringNormalizer" | "TfIdfVectorizer" | "StringSplit" | "RegexFullMatch" => {
            "do this step before the request is sent"
        }
        _ => "build the model from other operators, or do this step before the request is sent",
    }
}

/// Declares the inputs; gives the names of the free dimensions.
fn inputs<'m>(
    model: &'m OnnxModel,
    builder: &mut Builder,
    values: &mut BTreeMap<&'m str, Value>,
    refusals: &mut Vec<Refusal>,
) -> Vec<String> {
    // The leading dimension is the batch whatever it is called; a dimension elsewhere that has its name is the batch too.
    let leading = model.inputs.iter().filter_map(|input| input.shape.as_ref()?.first());
    let mut names = leading.filter_map(|dimension| match dimension {
        Dimension::Named(name) => Some(name.clone()),
        _ => None,
    });
    let mut symbols = vec![names.next().unwrap_or_else(|| "batch".to_owned())];
    for input in &model.inputs {
        let Some(datatype) = input.element.and_then(datatype) else {
            let element = input.element.map_or_else(|| "no tensor".to_owned(), |element| element.to_string());
            refusals.push(about_graph(
                format!("input `{}` is {element}, which is not supported", input.name),
                "export with FP32 inputs",
            ));
            continue;
        };
        let Some(dimensions) = &input.shape else {
            refusals.push(about_graph(
                format!("input `{}` does not declare its shape", input.name),
                "export with a declared shape, such as [batch, 20, 17]",
            ));
            continue;
        };
        let mut shape = Vec::with_capacity(dimensions.len());
        for (axis, dimension) in dimensions.iter().enumerate() {
            shape.push(match dimension {
                Dimension::Fixed(len) => Dim::Fixed(u64::try_from(*len).unwrap_or(0)),
                Dimension::Unknown if axis == 0 => Dim::BATCH,
                Dimension::Unknown => free(format!("{}[{axis}]", input.name), &mut symbols),
                Dimension::Named(name) => free(name.clone(), &mut symbols),
            });
        }
        values.insert(&input.name, builder.input(&input.name, Fact::new(datatype, shape)));
    }
    symbols
}

fn free(name: String, symbols: &mut Vec<String>) -> Dim {
    let index = symbols.iter().position(|have| *have == name).unwrap_or_else(|| {
        symbols.push(name);
        symbols.len() - 1
    });
    Dim::Free { symbol: u32::try_from(index).unwrap_or(u32::MAX), times: 1 }
}

fn datatype(element: ElementType) -> Option<Datatype> {
    Some(match element {
        ElementType::Float => Datatype::Fp32,
        ElementType::Double => Datatype::Fp64,
        ElementType::Int8 => Datatype::Int8,
        ElementType::Int16 => Datatype::Int16,
        ElementType::Int32 => Datatype::Int32,
        ElementType::Int64 => Datatype::Int64,
        ElementType::Uint8 => Datatype::Uint8,
        ElementType::Uint16 => Datatype::Uint16,
        ElementType::Uint32 => Datatype::Uint32,
        ElementType::Uint64 => Datatype::Uint64,
        ElementType::Bool => Datatype::Bool,
        ElementType::Float16 | ElementType::Bfloat16 | ElementType::String | ElementType::Other(_) => {
            return None;
        }
    })
}

fn about_graph(message: String, hint: &str) -> Refusal {
    Refusal { message, hint: hint.to_owned(), ..Refusal::default() }
}

impl Context<'_> {
    /// A refusal of the node.
    fn refuse(&self, message: impl Into<String>, hint: impl Into<String>) -> Box<Refusal> {
        Box::new(self.node.refusal(message, hint))
    }

    /// A refusal of one of an attribute's values.
    fn refuse_attribute(
        &self,
        attribute: &str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Box<Refusal> {
        Box::new(Refusal { attribute: Some(attribute.to_owned()), ..self.node.refusal(message, hint) })
    }

    /// The operand at `index`, unless it is omitted.
    fn optional(&self, index: usize) -> Option<&Value> {
        self.operands.get(index)?.as_ref()
    }

    /// The operand at `index`.
    fn operand(&self, index: usize) -> Result<Value, Box<Refusal>> {
        self.optional(index).cloned().ok_or_else(|| {
            self.refuse(format!("input {index} is missing"), "check the file with onnx.checker.check_model")
        })
    }

    /// The constant at `index`, called `what` in the message.
    fn constant(&self, index: usize, what: &str) -> Result<std::sync::Arc<Literal>, Box<Refusal>> {
        let operand = self.operand(index)?;
        operand.literal().ok_or_else(|| {
            self.refuse(
                format!("input {index} ({what}) is computed at run time, expected a constant"),
                "export with constant folding, and with weights stored in the file",
            )
        })
    }

    /// The operand's axes.
    fn rank(&self, index: usize) -> Result<usize, Box<Refusal>> {
        Ok(self.operand(index)?.fact().shape.len())
    }

    /// An axis counted from the front; `rank` is how many there are.
    fn axis(&self, axis: i64, rank: usize, what: &str) -> Result<u32, Box<Refusal>> {
        let rank = i64::try_from(rank).unwrap_or(i64::MAX);
        let from_front = if axis < 0 { axis.checked_add(rank) } else { Some(axis) };
        from_front.filter(|axis| *axis < rank).and_then(|axis| u32::try_from(axis).ok()).ok_or_else(|| {
            let message = format!("axis {axis} is outside of the {rank} axes");
            if self.attributes.has(what) {
                self.refuse_attribute(what, message, "")
            } else {
                self.refuse(message, "")
            }
        })
    }

    /// Adds an operator with one result.
    fn emit(
        &mut self,
        operator: crate::plan::graph::Operator,
        operands: &[&Value],
    ) -> Result<Value, Box<Refusal>> {
        let mut results = self.emit_all(operator, operands)?;
        if results.is_empty() {
            return Err(self.refuse("the operator has no result", ""));
        }
        Ok(results.swap_remove(0))
    }

    /// Adds an operator.
    fn emit_all(
        &mut self,
        operator: crate::plan::graph::Operator,
        operands: &[&Value],
    ) -> Result<Vec<Value>, Box<Refusal>> {
        self.builder.emit(&self.node.name, operator, operands).map_err(|problem| {
            let hint = if problem.contains("expected FP32") {
                "export the model in FP32"
            } else {
                "check the shapes with onnx.shape_inference, and export with fixed dimensions other than the batch"
            };
            self.refuse(problem, hint)
        })
    }

    /// Refuses results other than the first.
    fn only_first_result(&self) -> Result<(), Box<Refusal>> {
        match (1..self.node.outputs.len()).find_map(|index| self.node.output(index)) {
            None => Ok(()),
            Some(name) => Err(self.refuse(
                format!("its additional output `{name}` is not supported"),
                "export for inference, without the outputs that training uses",
            )),
        }
    }
}

#[cfg(test)]
mod tests;
