//! Operators that compute.

use super::super::Refusal;
use super::Context;
use super::builder::Value;
use super::literal::{Arithmetic, Literal};
use super::shape::{known_ints, transposed, with_shape};
use crate::Datatype;
use crate::plan::graph::{Binary, Dim, Fact, Operator, PoolKind, Reduction, Unary, Window};

type Results = Result<Vec<Value>, Box<Refusal>>;

const CHECK: &str = "check the file with onnx.checker.check_model";
const TRAINING: &str = "export the model for inference (`model.eval()` in PyTorch)";

pub(super) fn mat_mul(context: &mut Context<'_>) -> Results {
    let (mut a, mut b) = (context.operand(0)?, context.operand(1)?);
    let (vector_a, vector_b) = (a.shape().len() == 1, b.shape().len() == 1);
    // A vector is a matrix of one row on the left and of one column on the right, and its axis goes again.
    if vector_a {
        let shape = [vec![Dim::Fixed(1)], a.shape()].concat();
        a = with_shape(context, &a, shape)?;
    }
    if vector_b {
        let shape = [b.shape(), vec![Dim::Fixed(1)]].concat();
        b = with_shape(context, &b, shape)?;
    }
    let constant =
        matches!(b, Value::Constant(_)) && !matches!(a, Value::Constant(_)) && b.shape().len() == 2;
    let operator = if constant { Operator::Dense } else { Operator::MatMul };
    let mut product = context.emit(operator, &[&a, &b])?;
    let mut shape = product.shape();
    if vector_b {
        shape.pop();
    }
    if vector_a {
        shape.remove(shape.len().saturating_sub(if vector_b { 1 } else { 2 }));
    }
    product = with_shape(context, &product, shape)?;
    Ok(vec![product])
}

pub(super) fn gemm(context: &mut Context<'_>) -> Results {
    let attributes = context.attributes;
    let (alpha, beta) = (attributes.float_or("alpha", 1.0), attributes.float_or("beta", 1.0));
    let (trans_a, trans_b) = (attributes.int_or("transA", 0) != 0, attributes.int_or("transB", 0) != 0);
    let (mut a, mut b) = (context.operand(0)?, context.operand(1)?);
    if a.shape().len() != 2 || b.shape().len() != 2 {
        return Err(
            context.refuse(format!("expected two matrices, found {} and {}", a.fact(), b.fact()), CHECK)
        );
    }
    if trans_a {
        a = transposed(context, &a, vec![1, 0])?;
    }
    if trans_b {
        b = transposed(context, &b, vec![1, 0])?;
    }
    let c = context.optional(2).cloned();
    if let Some(weights) = b.literal().filter(|_| a.literal().is_none()) {
        let weights = scaled(&weights, alpha)
            .ok_or_else(|| context.refuse("the weights are not FP32", "export the model in FP32"))?;
        let weights = Value::constant(weights);
        let outputs =
            weights.shape().get(1).and_then(|dim| dim.fixed()).and_then(|len| usize::try_from(len).ok());
        let bias = c.as_ref().and_then(Value::literal).and_then(|c| vector(&scaled(&c, beta)?, outputs?));
        if let Some(bias) = bias {
            return Ok(vec![context.emit(Operator::Dense, &[&a, &weights, &Value::constant(bias)])?]);
        }
        let product = context.emit(Operator::Dense, &[&a, &weights])?;
        return add_scaled(context, product, c, beta);
    }
    let product = context.emit(Operator::MatMul, &[&a, &b])?;
    let product = times(context, product, alpha)?;
    add_scaled(context, product, c, beta)
}

fn scaled(literal: &Literal, factor: f32) -> Option<Literal> {
    let values = literal.fp32()?.iter().map(|value| if factor == 1.0 { *value } else { value * factor });
    Some(Literal::floats(literal.shape.clone(), values.collect()))
}

/// A bias that is the same for every row.
fn vector(literal: &Literal, outputs: usize) -> Option<Literal> {
    match literal.shape.as_slice() {
        [] | [_] => literal.broadcast(&[outputs]),
        [1, _] => literal.broadcast(&[1, outputs])?.reshaped(vec![outputs]),
        _ => None,
    }
}

fn times(context: &mut Context<'_>, value: Value, factor: f32) -> Result<Value, Box<Refusal>> {
    if factor == 1.0 {
        return Ok(value);
    }
    let factor = Value::constant(Literal::floats(vec![], vec![factor]));
    context.emit(Operator::Binary(Binary::Mul), &[&value, &factor])
}

fn add_scaled(context: &mut Context<'_>, product: Value, c: Option<Value>, beta: f32) -> Results {
    let Some(c) = c else { return Ok(vec![product]) };
    let c = match c.literal().and_then(|literal| scaled(&literal, beta)) {
        Some(c) => Value::constant(c),
        None => times(context, c, beta)?,
    };
    Ok(vec![context.emit(Operator::Binary(Binary::Add), &[&product, &c])?])
}

pub(super) fn binary(context: &mut Context<'_>) -> Results {
    let (a, b) = (context.operand(0)?, context.operand(1)?);
    let (function, arithmetic) = match context.node.operator.as_str() {
        "Add" => (Binary::Add, Some(Arithmetic::Add)),
        "Sub" => (Binary::Sub, Some(Arithmetic::Sub)),
        "Mul" => (Binary::Mul, Some(Arithmetic::Mul)),
        "Div" => (Binary::Div, Some(Arithmetic::Div)),
        _ => (Binary::Pow, None),
    };
    if let (Some(arithmetic), Some(a), Some(b)) = (arithmetic, a.literal(), b.literal())
        && let Some(computed) = a.computed(arithmetic, &b)
    {
        return Ok(vec![Value::constant(computed)]);
    }
    // Exponents are often integers.
    let b = match b
        .literal()
        .filter(|b| function == Binary::Pow && b.fp32().is_none())
        .and_then(|b| b.cast(Datatype::Fp32))
    {
        Some(exponent) => Value::constant(exponent),
        None => b,
    };
    Ok(vec![context.emit(Operator::Binary(function), &[&a, &b])?])
}

pub(super) fn variadic(context: &mut Context<'_>) -> Results {
    let function = match context.node.operator.as_str() {
        "Max" => Binary::Max,
        "Min" => Binary::Min,
        _ => Binary::Add,
    };
    let mut total = context.operand(0)?;
    let count = context.operands.len();
    for index in 1..count {
        let next = context.operand(index)?;
        total = context.emit(Operator::Binary(function), &[&total, &next])?;
    }
    if context.node.operator == "Mean" && count > 1 {
        total = times(context, total, 1.0 / count as f32)?;
    }
    Ok(vec![total])
}

pub(super) fn unary(context: &mut Context<'_>) -> Results {
    let attributes = context.attributes;
    let alpha = |default: f32| attributes.float_or("alpha", default);
    let function = match context.node.operator.as_str() {
        "Abs" => Unary::Abs,
        "Neg" => Unary::Neg,
        "Reciprocal" => Unary::Reciprocal,
        "Sqrt" => Unary::Sqrt,
        "Floor" => Unary::Floor,
        "Ceil" => Unary::Ceil,
        "Exp" => Unary::Exp,
        "Log" => Unary::Log,
        "Erf" => Unary::Erf,
        "Tanh" => Unary::Tanh,
        "Sigmoid" => Unary::Sigmoid,
        "HardSigmoid" => Unary::HardSigmoid { alpha: alpha(0.2), beta: attributes.float_or("beta", 0.5) },
        "Relu" => Unary::Relu,
        "LeakyRelu" => Unary::LeakyRelu { alpha: alpha(0.01) },
        "Elu" => Unary::Elu { alpha: alpha(1.0) },
        "Selu" => Unary::Selu { alpha: alpha(1.673_263_2), gamma: attributes.float_or("gamma", 1.050_701) },
        "Softplus" => Unary::Softplus,
        "Softsign" => Unary::Softsign,
        "HardSwish" => Unary::HardSwish,
        "Mish" => Unary::Mish,
        _ => match attributes.string_or("approximate", "none") {
            "none" => Unary::Gelu { tanh: false },
            "tanh" => Unary::Gelu { tanh: true },
            other => {
                let message = format!("expected none or tanh, found `{other}`");
                return Err(context.refuse_attribute("approximate", message, CHECK));
            }
        },
    };
    let x = context.operand(0)?;
    Ok(vec![context.emit(Operator::Unary(function), &[&x])?])
}

pub(super) fn clip(context: &mut Context<'_>) -> Results {
    let attributes = context.attributes;
    let (min, max) = if context.node.opset < 11 {
        (attributes.float("min"), attributes.float("max"))
    } else {
        let mut bounds = [None, None];
        for (bound, index) in bounds.iter_mut().zip(1..) {
            if context.optional(index).is_some() {
                let given = context.constant(index, "bound")?.scalar();
                let wrong = || {
                    context
                        .refuse(format!("input {index} is not one FP32 number"), "export the model in FP32")
                };
                *bound = Some(given.ok_or_else(wrong)?);
            }
        }
        let [min, max] = bounds;
        (min, max)
    };
    let function = Unary::Clip { min: min.unwrap_or(f32::NEG_INFINITY), max: max.unwrap_or(f32::INFINITY) };
    let x = context.operand(0)?;
    Ok(vec![context.emit(Operator::Unary(function), &[&x])?])
}

pub(super) fn softmax(context: &mut Context<'_>) -> Results {
    let log = context.node.operator == "LogSoftmax";
    let whole = context.node.opset < 13;
    let axis = context.attributes.int_or("axis", if whole { 1 } else { -1 });
    let x = context.operand(0)?;
    let shape = x.shape();
    let axis = context.axis(axis, shape.len(), "axis")?;
    if !whole || axis as usize + 1 == shape.len() {
        return Ok(vec![context.emit(Operator::Softmax { axis, log }, &[&x])?]);
    }
    // Before opset 13 all axes from `axis` on are one.
    let (before, behind) = shape.split_at_checked(axis as usize).unwrap_or((&shape, &[]));
    let length = behind.iter().try_fold(Dim::Fixed(1), |length, &dim| length.times(dim));
    let Some(length) = length else {
        return Err(context.refuse(
            format!("{} has two free dimensions that would be merged", x.fact()),
            "export with opset 13",
        ));
    };
    let merged = with_shape(context, &x, [before, &[length]].concat())?;
    let merged = context.emit(Operator::Softmax { axis, log }, &[&merged])?;
    Ok(vec![with_shape(context, &merged, shape.clone())?])
}

pub(super) fn reduce(context: &mut Context<'_>) -> Results {
    let attributes = context.attributes;
    let keep = attributes.int_or("keepdims", 1) != 0;
    let all_by_default = attributes.int_or("noop_with_empty_axes", 0) == 0;
    let from_input = context.node.opset >= if context.node.operator == "ReduceSum" { 13 } else { 18 };
    let listed = if !from_input {
        attributes.ints("axes").to_vec()
    } else if context.optional(1).is_some() {
        known_ints(context, 1, "axes")?
    } else {
        Vec::new()
    };
    let x = context.operand(0)?;
    if let Some(product) =
        x.literal().filter(|_| context.node.operator == "ReduceProd").and_then(|literal| literal.product())
    {
        let shape = if keep { vec![1; x.shape().len()] } else { vec![] };
        if let Some(product) = Literal::list(vec![product]).reshaped(shape) {
            return Ok(vec![Value::constant(product)]);
        }
    }
    if listed.is_empty() && !all_by_default {
        return Ok(vec![x]);
    }
    let rank = x.shape().len();
    let mut axes: Vec<u32> = if listed.is_empty() {
        (0..u32::try_from(rank).unwrap_or(0)).collect()
    } else {
        listed.iter().map(|&axis| context.axis(axis, rank, "axes")).collect::<Result<_, _>>()?
    };
    axes.sort_unstable();
    axes.dedup();
    let kind = match context.node.operator.as_str() {
        "ReduceSum" => Reduction::Sum,
        "ReduceMean" => Reduction::Mean,
        "ReduceMax" => Reduction::Max,
        "ReduceMin" => Reduction::Min,
        "ReduceProd" => Reduction::Prod,
        "ReduceSumSquare" => Reduction::SumSquare,
        "ReduceL1" => Reduction::L1,
        _ => Reduction::L2,
    };
    Ok(vec![context.emit(Operator::Reduce { kind, axes, keep }, &[&x])?])
}

pub(super) fn arg_extreme(context: &mut Context<'_>) -> Results {
    let attributes = context.attributes;
    let axis = attributes.int_or("axis", 0);
    let keep = attributes.int_or("keepdims", 1) != 0;
    let last = attributes.int_or("select_last_index", 0) != 0;
    let largest = context.node.operator == "ArgMax";
    let x = context.operand(0)?;
    let axis = context.axis(axis, x.shape().len(), "axis")?;
    Ok(vec![context.emit(Operator::ArgExtreme { axis, keep, largest, last }, &[&x])?])
}

pub(super) fn batch_normalization(context: &mut Context<'_>) -> Results {
    let attributes = context.attributes;
    let epsilon = attributes.float_or("epsilon", 1e-5);
    // The momentum moves the running averages, which inference only reads.
    attributes.has_no_effect(&["momentum"]);
    if attributes.int_or("training_mode", 0) != 0 {
        return Err(context.refuse_attribute(
            "training_mode",
            "normalising by the batch itself is not supported",
            TRAINING,
        ));
    }
    if attributes.int_or("spatial", 1) != 1 {
        return Err(context.refuse_attribute("spatial", "expected 1", "export with opset 9 or later"));
    }
    context.only_first_result()?;
    let x = context.operand(0)?;
    let mut parameters = Vec::with_capacity(4);
    for (index, what) in ["scale", "bias", "mean", "variance"].into_iter().enumerate() {
        let literal = context.constant(index + 1, what)?;
        let values = literal.fp32().map(<[f32]>::to_vec);
        parameters.push(
            values.ok_or_else(|| {
                context.refuse(format!("the {what} is not FP32"), "export the model in FP32")
            })?,
        );
    }
    let [scale, bias, mean, variance] = parameters.as_slice() else {
        return Err(context.refuse("expected four parameters", CHECK));
    };
    let channels = scale.len();
    if [bias, mean, variance].iter().any(|values| values.len() != channels) || x.shape().len() < 2 {
        return Err(
            context.refuse(format!("the parameters of {channels} channels do not fit {}", x.fact()), CHECK)
        );
    }
    let factors: Vec<f32> =
        scale.iter().zip(variance).map(|(scale, variance)| scale / (variance + epsilon).sqrt()).collect();
    let offsets: Vec<f32> =
        bias.iter().zip(mean).zip(&factors).map(|((bias, mean), factor)| bias - mean * factor).collect();
    let mut shape = vec![1; x.shape().len() - 1];
    if let Some(first) = shape.first_mut() {
        *first = channels;
    }
    let factors = Value::constant(Literal::floats(shape.clone(), factors));
    let offsets = Value::constant(Literal::floats(shape, offsets));
    let product = context.emit(Operator::Binary(Binary::Mul), &[&x, &factors])?;
    if product.shape() != x.shape() {
        return Err(
            context.refuse(format!("the parameters of {channels} channels do not fit {}", x.fact()), CHECK)
        );
    }
    Ok(vec![context.emit(Operator::Binary(Binary::Add), &[&product, &offsets])?])
}

pub(super) fn layer_normalization(context: &mut Context<'_>) -> Results {
    let attributes = context.attributes;
    let (axis, epsilon) = (attributes.int_or("axis", -1), attributes.float_or("epsilon", 1e-5));
    if attributes.int_or("stash_type", 1) != 1 {
        return Err(context.refuse_attribute("stash_type", "expected 1 (FP32)", "export the model in FP32"));
    }
    context.only_first_result()?;
    let (x, scale) = (context.operand(0)?, context.operand(1)?);
    let rank = x.shape().len();
    let first = context.axis(axis, rank, "axis")?;
    let axes: Vec<u32> = (first..u32::try_from(rank).unwrap_or(0)).collect();
    let mean_of = |axes: &[u32]| Operator::Reduce { kind: Reduction::Mean, axes: axes.to_vec(), keep: true };
    let mean = context.emit(mean_of(&axes), &[&x])?;
    let centred = context.emit(Operator::Binary(Binary::Sub), &[&x, &mean])?;
    let squares = context.emit(Operator::Binary(Binary::Mul), &[&centred, &centred])?;
    let variance = context.emit(mean_of(&axes), &[&squares])?;
    let epsilon = Value::constant(Literal::floats(vec![], vec![epsilon]));
    let variance = context.emit(Operator::Binary(Binary::Add), &[&variance, &epsilon])?;
    let deviation = context.emit(Operator::Unary(Unary::Sqrt), &[&variance])?;
    let normal = context.emit(Operator::Binary(Binary::Div), &[&centred, &deviation])?;
    let mut result = context.emit(Operator::Binary(Binary::Mul), &[&normal, &scale])?;
    if let Some(bias) = context.optional(2).cloned() {
        result = context.emit(Operator::Binary(Binary::Add), &[&result, &bias])?;
    }
    Ok(vec![result])
}

pub(super) fn conv(context: &mut Context<'_>) -> Results {
    let group = context.attributes.int_or("group", 1);
    let x = context.operand(0)?;
    let kernel = context.constant(1, "kernel")?;
    let lengths: Vec<u64> = kernel.shape.iter().skip(2).map(|&len| len as u64).collect();
    let declared = context.attributes.ints("kernel_shape");
    if !declared.is_empty() && !declared.iter().zip(&lengths).all(|(&a, &b)| u64::try_from(a) == Ok(b)) {
        return Err(context.refuse_attribute(
            "kernel_shape",
            format!("it says {declared:?}, the weights have {lengths:?}"),
            CHECK,
        ));
    }
    let window = window(context, &x.fact(), lengths)?;
    let group = u64::try_from(group)
        .map_err(|_| context.refuse_attribute("group", "expected a positive number", CHECK))?;
    let mut operands = vec![x, Value::Constant(kernel)];
    if context.optional(2).is_some() {
        operands.push(Value::Constant(context.constant(2, "bias")?));
    }
    let operands: Vec<&Value> = operands.iter().collect();
    Ok(vec![context.emit(Operator::Conv { window, group }, &operands)?])
}

pub(super) fn pool(context: &mut Context<'_>) -> Results {
    let attributes = context.attributes;
    let kernel = attributes.ints("kernel_shape");
    let count_include_pad = attributes.int_or("count_include_pad", 0) != 0;
    let round_up = attributes.int_or("ceil_mode", 0) != 0;
    // It orders the indices of the second output, which is refused.
    attributes.has_no_effect(&["storage_order"]);
    context.only_first_result()?;
    let x = context.operand(0)?;
    let lengths: Result<Vec<u64>, _> = kernel.iter().map(|&len| u64::try_from(len)).collect();
    let lengths =
        lengths.map_err(|_| context.refuse_attribute("kernel_shape", "expected positive lengths", CHECK))?;
    let window = window(context, &x.fact(), lengths)?;
    if round_up && !divides(&window, &x.fact()) {
        let hint = "export with ceil_mode=0, or with lengths that the stride divides";
        return Err(context.refuse_attribute(
            "ceil_mode",
            "windows that reach beyond the padding are not supported",
            hint,
        ));
    }
    let kind = if context.node.operator == "MaxPool" {
        PoolKind::Max
    } else {
        PoolKind::Average { count_include_pad }
    };
    Ok(vec![context.emit(Operator::Pool { window, kind }, &[&x])?])
}

/// Whether the windows end exactly at the end of every axis, so that rounding makes no difference.
fn divides(window: &Window, x: &Fact) -> bool {
    let axes = x
        .shape
        .iter()
        .skip(2)
        .zip(&window.kernel)
        .zip(&window.strides)
        .zip(&window.dilations)
        .zip(&window.pads);
    axes.into_iter().all(|((((dim, kernel), stride), dilation), (before, behind))| {
        let covered = kernel.saturating_sub(1).saturating_mul(*dilation).saturating_add(1);
        let room = dim
            .fixed()
            .and_then(|len| len.saturating_add(*before).saturating_add(*behind).checked_sub(covered));
        room.is_some_and(|room| *stride > 0 && room.is_multiple_of(*stride))
    })
}

fn window(context: &Context<'_>, x: &Fact, kernel: Vec<u64>) -> Result<Window, Box<Refusal>> {
    let attributes = context.attributes;
    let axes = kernel.len();
    let list = |name: &str, count: usize, default: u64| -> Result<Vec<u64>, Box<Refusal>> {
        let given = attributes.ints(name);
        if given.is_empty() {
            return Ok(vec![default; count]);
        }
        let values: Result<Vec<u64>, _> = given.iter().map(|&value| u64::try_from(value)).collect();
        values.ok().filter(|values| values.len() == count).ok_or_else(|| {
            context.refuse_attribute(
                name,
                format!("expected {count} numbers of at least zero, found {given:?}"),
                CHECK,
            )
        })
    };
    let (strides, dilations) = (list("strides", axes, 1)?, list("dilations", axes, 1)?);
    let pads = list("pads", 2 * axes, 0)?;
    let (before, behind) = pads.split_at(axes);
    let mut pads: Vec<(u64, u64)> = before.iter().copied().zip(behind.iter().copied()).collect();
    match attributes.string_or("auto_pad", "NOTSET") {
        "NOTSET" => {}
        "VALID" => pads = vec![(0, 0); axes],
        same @ ("SAME_UPPER" | "SAME_LOWER") => {
            pads.clear();
            for (((dim, kernel), stride), dilation) in
                x.shape.iter().skip(2).zip(&kernel).zip(&strides).zip(&dilations)
            {
                let Some(len) = dim.fixed().filter(|_| *stride > 0) else {
                    let message = format!("`{same}` needs a fixed length, {x} has a free one");
                    return Err(context.refuse_attribute("auto_pad", message, "export with explicit pads"));
                };
                let covered = kernel.saturating_sub(1).saturating_mul(*dilation).saturating_add(1);
                let steps = len.div_ceil(*stride).saturating_sub(1).saturating_mul(*stride);
                let total = steps.saturating_add(covered).saturating_sub(len);
                let smaller = total / 2;
                pads.push(if same == "SAME_UPPER" {
                    (smaller, total - smaller)
                } else {
                    (total - smaller, smaller)
                });
            }
        }
        other => {
            let message = format!("expected NOTSET, VALID, SAME_UPPER or SAME_LOWER, found `{other}`");
            return Err(context.refuse_attribute("auto_pad", message, CHECK));
        }
    }
    Ok(Window { kernel, strides, dilations, pads })
}

pub(super) fn global_pool(context: &mut Context<'_>) -> Results {
    let kind = if context.node.operator == "GlobalMaxPool" { Reduction::Max } else { Reduction::Mean };
    let x = context.operand(0)?;
    let axes = (2..u32::try_from(x.shape().len()).unwrap_or(0)).collect();
    Ok(vec![context.emit(Operator::Reduce { kind, axes, keep: true }, &[&x])?])
}
