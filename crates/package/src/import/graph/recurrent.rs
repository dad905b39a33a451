//! `LSTM`, `GRU` and `RNN`.

use super::super::Refusal;
use super::Context;
use super::builder::Value;
use super::literal::Literal;
use super::shape::{transposed, uniform_int};
use crate::plan::graph::{Activation, Cell, Dim, Direction, Operator, Recurrent};

const NAMES: &str = "supported are Sigmoid, Tanh, Relu and HardSigmoid";

pub(super) fn recurrent(context: &mut Context<'_>) -> Result<Vec<Value>, Box<Refusal>> {
    let attributes = context.attributes;
    let (names, alphas, betas) = (
        attributes.strings("activations"),
        attributes.floats("activation_alpha"),
        attributes.floats("activation_beta"),
    );
    let clip = attributes.float("clip");
    let direction = attributes.string_or("direction", "forward").to_owned();
    let declared = attributes.int("hidden_size");
    let batch_first = attributes.int_or("layout", 0);
    let cell = match context.node.operator.as_str() {
        "LSTM" => Cell::Lstm,
        "GRU" => Cell::Gru { linear_before_reset: attributes.int_or("linear_before_reset", 0) != 0 },
        _ => Cell::Rnn,
    };
    let coupled = cell == Cell::Lstm && attributes.int_or("input_forget", 0) != 0;

    if let Some(clip) = clip {
        let hint = "export without a cell clip; Keras and PyTorch layers have none";
        return Err(context.refuse_attribute(
            "clip",
            format!("clipping of the gates ({clip}) is not supported"),
            hint,
        ));
    }
    if coupled {
        let hint = "export an LSTM with separate input and forget gates";
        return Err(context.refuse_attribute(
            "input_forget",
            "coupled input and forget gates are not supported",
            hint,
        ));
    }
    if !matches!(batch_first, 0 | 1) {
        return Err(context.refuse_attribute("layout", format!("expected 0 or 1, found {batch_first}"), ""));
    }
    let reverse: &[bool] = match direction.as_str() {
        "forward" => &[false],
        "reverse" => &[true],
        "bidirectional" => &[false, true],
        other => {
            let message = format!("expected forward, reverse or bidirectional, found `{other}`");
            return Err(context.refuse_attribute(
                "direction",
                message,
                "check the file with onnx.checker.check_model",
            ));
        }
    };
    let functions = activations(context, cell, reverse.len(), &names, alphas, betas)?;
    if context.optional(7).is_some_and(|peepholes| !peepholes.is_zero()) {
        let hint = "export an LSTM without peepholes; Keras and PyTorch layers have none";
        return Err(context.refuse("peephole weights (input 7, `P`) are not supported", hint));
    }

    let count = reverse.len();
    let weights = matrix(context, 1, "weights `W`", count)?;
    let recurrent = matrix(context, 2, "recurrent weights `R`", count)?;
    let hidden = recurrent.shape.get(2).copied().unwrap_or(0);
    if declared.is_some_and(|declared| usize::try_from(declared) != Ok(hidden)) {
        let message =
            format!("it says {}, the recurrent weights have {hidden}", declared.unwrap_or_default());
        return Err(context.refuse_attribute(
            "hidden_size",
            message,
            "check the file with onnx.checker.check_model",
        ));
    }
    let bias = bias(context, cell, count, hidden)?;

    let mut x = context.operand(0)?;
    if x.shape().len() != 3 {
        let message = format!("the sequence is {}, expected three axes", x.fact());
        return Err(context.refuse(message, "check the shapes with onnx.shape_inference"));
    }
    if batch_first == 1 {
        x = transposed(context, &x, vec![1, 0, 2])?;
    }
    whole_sequences(context, &x)?;
    let mut operands = vec![
        x,
        weights.into_transposed(context)?,
        recurrent.into_transposed(context)?,
        Value::constant(bias),
    ];
    let mut state = |context: &mut Context<'_>, index: usize| -> Result<bool, Box<Refusal>> {
        let Some(value) = context.optional(index).cloned() else { return Ok(false) };
        if value.is_zero() {
            return Ok(false);
        }
        let value = if batch_first == 1 { transposed(context, &value, vec![1, 0, 2])? } else { value };
        operands.push(value);
        Ok(true)
    };
    let initial_hidden = state(context, 5)?;
    let initial_cell = cell == Cell::Lstm && state(context, 6)?;
    let directions =
        reverse.iter().zip(functions).map(|(&reverse, activations)| Direction { reverse, activations });
    let layer = Recurrent {
        cell,
        hidden: hidden as u64,
        directions: directions.collect(),
        initial_hidden,
        initial_cell,
    };
    let operands: Vec<&Value> = operands.iter().collect();
    let mut results = context.emit_all(Operator::Recurrent(layer), &operands)?;
    if batch_first == 1 {
        for (index, result) in results.iter_mut().enumerate() {
            if context.node.output(index).is_some() {
                let order = if index == 0 { vec![2, 0, 1, 3] } else { vec![1, 0, 2] };
                *result = transposed(context, result, order)?;
            }
        }
    }
    Ok(results)
}

/// Three-dimensional weights, one matrix per direction.
struct Matrix {
    literal: std::sync::Arc<Literal>,
    shape: Vec<usize>,
}

impl Matrix {
    /// `[direction, gate·hidden, k]` as `[direction, k, gate·hidden]`.
    fn into_transposed(self, context: &Context<'_>) -> Result<Value, Box<Refusal>> {
        let moved = self.literal.transposed(&[0, 2, 1]);
        moved.map(Value::constant).ok_or_else(|| context.refuse("the weights have no three axes", ""))
    }
}

fn matrix(
    context: &Context<'_>,
    index: usize,
    what: &str,
    directions: usize,
) -> Result<Matrix, Box<Refusal>> {
    let literal = context.constant(index, what)?;
    if literal.shape.len() != 3 || literal.shape.first() != Some(&directions) || literal.fp32().is_none() {
        let message =
            format!("the {what} are {}, expected FP32 [{directions}, gate·hidden, …]", literal.fact());
        return Err(context.refuse(message, "export the model in FP32"));
    }
    Ok(Matrix { shape: literal.shape.clone(), literal })
}

/// Input and recurrent bias, added up where they always occur as a sum.
fn bias(
    context: &Context<'_>,
    cell: Cell,
    directions: usize,
    hidden: usize,
) -> Result<Literal, Box<Refusal>> {
    let gates = usize::try_from(cell.gates()).unwrap_or(0).saturating_mul(hidden);
    let biases = usize::try_from(cell.biases()).unwrap_or(0).saturating_mul(hidden);
    if context.optional(3).is_none() {
        return Ok(Literal::floats(vec![directions, biases], vec![0.0; directions * biases]));
    }
    let given = context.constant(3, "bias `B`")?;
    let values = given.fp32().filter(|_| given.shape == [directions, 2 * gates] && gates > 0);
    let Some(values) = values else {
        let message = format!("the bias is {}, expected FP32 [{directions}, {}]", given.fact(), 2 * gates);
        return Err(context.refuse(message, "export the model in FP32"));
    };
    let separate = if biases > gates { hidden } else { 0 };
    let mut sums = Vec::with_capacity(directions * biases);
    for direction in values.chunks_exact(2 * gates) {
        let (input, recurrent) = direction.split_at(gates);
        let summed = gates - separate;
        sums.extend(input.iter().zip(recurrent).take(summed).map(|(a, b)| a + b));
        sums.extend(input.iter().skip(summed));
        sums.extend(recurrent.iter().skip(summed));
    }
    Ok(Literal::floats(vec![directions, biases], sums))
}

/// Sequence lengths are accepted as far as they say what the shape says already.
fn whole_sequences(context: &Context<'_>, x: &Value) -> Result<(), Box<Refusal>> {
    let Some(lengths) = context.optional(4) else { return Ok(()) };
    let steps = x.shape().first().copied().and_then(Dim::fixed).and_then(|steps| i64::try_from(steps).ok());
    if steps.is_some() && uniform_int(lengths) == steps {
        return Ok(());
    }
    Err(context.refuse(
        "sequences of differing lengths (input 4, `sequence_lens`) are not supported",
        "export without masking or packed sequences, with sequences of one length",
    ))
}

fn activations(
    context: &Context<'_>,
    cell: Cell,
    directions: usize,
    names: &[&str],
    alphas: &[f32],
    betas: &[f32],
) -> Result<Vec<Vec<Activation>>, Box<Refusal>> {
    let per_direction = cell.activations();
    if names.is_empty() {
        let refuse = |name: &str| {
            context.refuse_attribute(name, "it belongs to no activation function", "leave it out")
        };
        if let Some(name) =
            [("activation_alpha", alphas), ("activation_beta", betas)].iter().find(|(_, v)| !v.is_empty())
        {
            return Err(refuse(name.0));
        }
        let default = match cell {
            Cell::Rnn => vec![Activation::Tanh],
            Cell::Lstm => vec![Activation::Sigmoid, Activation::Tanh, Activation::Tanh],
            Cell::Gru { .. } => vec![Activation::Sigmoid, Activation::Tanh],
        };
        return Ok(vec![default; directions]);
    }
    if names.len() != per_direction * directions {
        let message = format!("expected {} functions, found {}", per_direction * directions, names.len());
        return Err(context.refuse_attribute(
            "activations",
            message,
            "give every direction its own functions",
        ));
    }
    // Parameters belong, in order, to the functions that have any.
    let (mut alphas, mut betas) = (alphas.iter(), betas.iter());
    let mut functions = Vec::with_capacity(names.len());
    for name in names {
        functions.push(match name.to_ascii_lowercase().as_str() {
            "sigmoid" => Activation::Sigmoid,
            "tanh" => Activation::Tanh,
            "relu" => Activation::Relu,
            "hardsigmoid" => Activation::HardSigmoid {
                alpha: alphas.next().copied().unwrap_or(0.2),
                beta: betas.next().copied().unwrap_or(0.5),
            },
            _ => {
                let message = format!("the function `{name}` is not supported");
                return Err(context.refuse_attribute("activations", message, NAMES));
            }
        });
    }
    for (name, left) in [("activation_alpha", alphas.next()), ("activation_beta", betas.next())] {
        if left.is_some() {
            return Err(context.refuse_attribute(
                name,
                "there are more values than functions that take one",
                NAMES,
            ));
        }
    }
    Ok(functions.chunks(per_direction).map(<[Activation]>::to_vec).collect())
}
