//! Operators that move elements, and the arithmetic on shapes around them.

use std::sync::Arc;

use super::super::Refusal;
use super::super::onnx::ElementType;
use super::builder::Value;
use super::literal::{Int, Literal, MOST_FOLDED};
use super::{Context, datatype};
use crate::Datatype;
use crate::plan::graph::{Bound, Dim, Fact, Operator, broadcast};

type Results = Result<Vec<Value>, Box<Refusal>>;

const SHAPE_HINT: &str = "export with constant shapes apart from the batch, and with constant folding";

pub(super) fn identity(context: &mut Context<'_>) -> Results {
    Ok(vec![context.operand(0)?])
}

pub(super) fn dropout(context: &mut Context<'_>) -> Results {
    // At inference nothing is dropped, whatever the ratio or the seed.
    context.attributes.has_no_effect(&["ratio", "seed", "is_test"]);
    context.only_first_result()?;
    let training = context.optional(2).map(|value| value.literal().map(|literal| literal.is_zero()));
    if training.is_some_and(|off| off != Some(true)) {
        return Err(context.refuse(
            "its training mode is on",
            "export the model for inference (`model.eval()` in PyTorch)",
        ));
    }
    identity(context)
}

pub(super) fn cast(context: &mut Context<'_>) -> Results {
    let to = context.attributes.int_or("to", 0);
    // These concern conversions to 8-bit floats, which are refused below.
    context.attributes.has_no_effect(&["saturate", "round_mode"]);
    let element = ElementType::from_onnx(to);
    let Some(to) = datatype(element) else {
        return Err(context.refuse_attribute(
            "to",
            format!("casts to {element} are not supported"),
            "export the model in FP32",
        ));
    };
    let x = context.operand(0)?;
    if x.fact().datatype == to {
        return Ok(vec![x]);
    }
    if let Some(cast) = x.literal().and_then(|literal| literal.cast(to)) {
        return Ok(vec![Value::constant(cast)]);
    }
    if let Value::Uniform { element, fact } = &x
        && let Some(element) = element.cast(to)
    {
        return Ok(vec![Value::Uniform {
            element: Arc::new(element),
            fact: Fact::new(to, fact.shape.clone()),
        }]);
    }
    Ok(vec![context.emit(Operator::Cast { to }, &[&x])?])
}

pub(super) fn shape(context: &mut Context<'_>) -> Results {
    let dims = context.operand(0)?.shape();
    let rank = i64::try_from(dims.len()).unwrap_or(i64::MAX);
    let clamp = |at: i64| {
        usize::try_from(if at < 0 { at.saturating_add(rank) } else { at }.clamp(0, rank)).unwrap_or(0)
    };
    let start = clamp(context.attributes.int_or("start", 0));
    let end = clamp(context.attributes.int_or("end", rank));
    let dims = dims.get(start..end.max(start)).unwrap_or_default();
    Ok(vec![Value::constant(Literal::list(dims.iter().map(|&dim| dim.into()).collect()))])
}

pub(super) fn constant_of_shape(context: &mut Context<'_>) -> Results {
    let element = match context.attributes.tensor("value") {
        None => Literal::floats(vec![], vec![0.0]),
        Some(constant) => {
            let literal = Literal::from_onnx(&constant).and_then(|literal| literal.reshaped(vec![]));
            literal.ok_or_else(|| {
                context.refuse_attribute(
                    "value",
                    "expected one number of a supported type",
                    "export the model in FP32",
                )
            })?
        }
    };
    let shape = dims(context, 0)?;
    Ok(vec![repeated(element, shape)])
}

/// One element everywhere.
fn repeated(element: Literal, shape: Vec<Dim>) -> Value {
    let fact = Fact::new(element.data.datatype(), shape);
    folded_shape(&fact.shape)
        .and_then(|shape| element.broadcast(&shape))
        .map_or_else(|| Value::Uniform { element: Arc::new(element), fact }, Value::constant)
}

/// The lengths of a shape that is small and the same in every request.
fn folded_shape(shape: &[Dim]) -> Option<Vec<usize>> {
    let lengths: Option<Vec<u64>> = shape.iter().map(|dim| dim.fixed()).collect();
    let lengths = lengths?;
    let count = lengths.iter().try_fold(1_u64, |count, &len| count.checked_mul(len.max(1)))?;
    (count <= MOST_FOLDED as u64)
        .then(|| lengths.iter().map(|&len| usize::try_from(len).ok()).collect())
        .flatten()
}

pub(super) fn equal(context: &mut Context<'_>) -> Results {
    let (a, b) = (context.operand(0)?.literal(), context.operand(1)?.literal());
    match a.zip(b).and_then(|(a, b)| a.equals(&b)) {
        Some(equal) => Ok(vec![Value::constant(equal)]),
        None => Err(context.refuse("comparisons are supported between constant integers only", SHAPE_HINT)),
    }
}

pub(super) fn select(context: &mut Context<'_>) -> Results {
    let operands =
        [context.operand(0)?.literal(), context.operand(1)?.literal(), context.operand(2)?.literal()];
    let [Some(condition), Some(yes), Some(no)] = operands else {
        return Err(context.refuse("choices are supported between constant integers only", SHAPE_HINT));
    };
    match condition.select(&yes, &no) {
        Some(chosen) => Ok(vec![Value::constant(chosen)]),
        None => Err(context.refuse("choices are supported between constant integers only", SHAPE_HINT)),
    }
}

pub(super) fn reshape(context: &mut Context<'_>) -> Results {
    let allow_zero = context.attributes.int_or("allowzero", 0) != 0;
    let x = context.operand(0)?;
    let from = x.shape();
    let wanted = ints(context, 1, "shape")?;
    let mut shape: Vec<Option<Dim>> = Vec::with_capacity(wanted.len());
    for (axis, wanted) in wanted.iter().enumerate() {
        shape.push(match wanted {
            Int::Known(-1) => None,
            Int::Known(0) if !allow_zero => Some(*from.get(axis).ok_or_else(|| {
                context.refuse(format!("the shape keeps axis {axis}, which {} has not", x.fact()), SHAPE_HINT)
            })?),
            other => Some(
                other.dim().ok_or_else(|| context.refuse("the shape has a negative length", SHAPE_HINT))?,
            ),
        });
    }
    let open = shape.iter().filter(|dim| dim.is_none()).count();
    if open > 1 {
        return Err(context.refuse("the shape leaves two lengths open", SHAPE_HINT));
    }
    let rest = remaining(&from, &shape);
    let shape: Option<Vec<Dim>> = shape.into_iter().map(|dim| dim.or(rest)).collect();
    let Some(shape) = shape else {
        let wanted: Vec<String> = wanted.iter().map(Int::to_string).collect();
        let message = format!("{} does not divide into the shape [{}]", x.fact(), wanted.join(", "));
        return Err(context.refuse(message, SHAPE_HINT));
    };
    reshaped(context, &x, shape)
}

/// What is left of `from` for the length that `to` leaves open.
fn remaining(from: &[Dim], to: &[Option<Dim>]) -> Option<Dim> {
    let mut from = from.to_vec();
    let mut divisor = Dim::Fixed(1);
    for dim in to.iter().flatten() {
        // Lengths that occur on both sides cancel out; with two free dimensions there is no other way to divide.
        match from.iter().position(|have| have == dim) {
            Some(at) => {
                from.swap_remove(at);
            }
            None => divisor = divisor.times(*dim)?,
        }
    }
    let volume = from.into_iter().try_fold(Dim::Fixed(1), Dim::times)?;
    match (volume, divisor) {
        (Dim::Fixed(volume), Dim::Fixed(divisor)) => {
            (divisor > 0 && volume.is_multiple_of(divisor)).then(|| Dim::Fixed(volume / divisor))
        }
        (Dim::Free { symbol, times }, Dim::Fixed(divisor)) => (divisor > 0 && times.is_multiple_of(divisor))
            .then(|| Dim::Free { symbol, times: times / divisor }),
        (Dim::Free { symbol, times }, Dim::Free { symbol: other, times: divisor }) => {
            (symbol == other && divisor > 0 && times.is_multiple_of(divisor))
                .then(|| Dim::Fixed(times / divisor))
        }
        (Dim::Fixed(_), Dim::Free { .. }) => None,
    }
}

pub(super) fn flatten(context: &mut Context<'_>) -> Results {
    let axis = context.attributes.int_or("axis", 1);
    let x = context.operand(0)?;
    let shape = x.shape();
    // The axis may be the rank itself: everything lies before it.
    let axis = context
        .axis(axis, shape.len() + 1, "axis")
        .map(|at| if axis < 0 { at.saturating_sub(1) } else { at })?;
    let (before, behind) = shape.split_at_checked(axis as usize).unwrap_or((&shape, &[]));
    let volume = |dims: &[Dim]| dims.iter().try_fold(Dim::Fixed(1), |volume, &dim| volume.times(dim));
    let (Some(rows), Some(columns)) = (volume(before), volume(behind)) else {
        return Err(
            context.refuse(format!("{} has two free dimensions that would be merged", x.fact()), SHAPE_HINT)
        );
    };
    reshaped(context, &x, vec![rows, columns])
}

pub(super) fn squeeze(context: &mut Context<'_>) -> Results {
    let x = context.operand(0)?;
    let shape = x.shape();
    let axes = axes(context, shape.len())?;
    let gone =
        |axis: usize, dim: Dim| axes.as_ref().map_or(dim == Dim::Fixed(1), |axes| axes.contains(&axis));
    for (axis, dim) in shape.iter().enumerate() {
        if gone(axis, *dim) && *dim != Dim::Fixed(1) {
            let message = format!("axis {axis} of {} is not of length 1", x.fact());
            return Err(context.refuse(message, "squeeze axes of length 1 only; do not squeeze the batch"));
        }
    }
    let shape =
        shape.iter().enumerate().filter(|(axis, dim)| !gone(*axis, **dim)).map(|(_, dim)| *dim).collect();
    reshaped(context, &x, shape)
}

pub(super) fn unsqueeze(context: &mut Context<'_>) -> Results {
    let x = context.operand(0)?;
    let shape = x.shape();
    // The axes count within the result, which has as many more as there are.
    let listed = if context.node.opset < 13 {
        context.attributes.ints("axes").to_vec()
    } else {
        known_ints(context, 1, "axes")?
    };
    let rank = shape.len() + listed.len();
    let mut added = Vec::with_capacity(listed.len());
    for axis in listed {
        let axis = context.axis(axis, rank, "axes")? as usize;
        if added.contains(&axis) {
            return Err(context.refuse(format!("axis {axis} is added twice"), ""));
        }
        added.push(axis);
    }
    let mut rest = shape.iter();
    let shape = (0..rank).map(|axis| {
        if added.contains(&axis) { Dim::Fixed(1) } else { rest.next().copied().unwrap_or(Dim::Fixed(1)) }
    });
    let shape = shape.collect();
    reshaped(context, &x, shape)
}

/// The axes of an operator that takes them as an attribute or, from opset 13 on, as an input; `None` means all that fit.
fn axes(context: &Context<'_>, rank: usize) -> Result<Option<Vec<usize>>, Box<Refusal>> {
    let axes = if context.node.opset < 13 {
        if !context.attributes.has("axes") {
            return Ok(None);
        }
        context.attributes.ints("axes").to_vec()
    } else {
        if context.optional(1).is_none() {
            return Ok(None);
        }
        known_ints(context, 1, "axes")?
    };
    axes.iter()
        .map(|&axis| Ok(context.axis(axis, rank, "axes")? as usize))
        .collect::<Result<_, _>>()
        .map(Some)
}

pub(super) fn transpose(context: &mut Context<'_>) -> Results {
    let order = context.attributes.ints("perm").to_vec();
    let x = context.operand(0)?;
    let rank = x.shape().len();
    let permutation: Vec<u32> = if order.is_empty() {
        (0..u32::try_from(rank).unwrap_or(0)).rev().collect()
    } else {
        order.iter().map(|&axis| context.axis(axis, rank, "perm")).collect::<Result<_, _>>()?
    };
    transposed(context, &x, permutation).map(|value| vec![value])
}

/// The axes in another order.
pub(super) fn transposed(
    context: &mut Context<'_>,
    x: &Value,
    permutation: Vec<u32>,
) -> Result<Value, Box<Refusal>> {
    if permutation.iter().zip(0..).all(|(&axis, at)| axis == at) && permutation.len() == x.shape().len() {
        return Ok(x.clone());
    }
    let places: Vec<usize> = permutation.iter().map(|&axis| axis as usize).collect();
    if let Some(literal) = x.literal()
        && permutation.len() == literal.shape.len()
        && let Some(moved) = literal.transposed(&places)
    {
        return Ok(Value::constant(moved));
    }
    context.emit(Operator::Transpose { permutation }, &[x])
}

/// The same elements under another shape.
pub(super) fn with_shape(
    context: &mut Context<'_>,
    x: &Value,
    shape: Vec<Dim>,
) -> Result<Value, Box<Refusal>> {
    if x.shape() == shape {
        return Ok(x.clone());
    }
    if let Some(literal) = x.literal()
        && let Some(moved) = folded_shape(&shape).and_then(|shape| literal.reshaped(shape))
    {
        return Ok(Value::constant(moved));
    }
    context.emit(Operator::Reshape { shape }, &[x])
}

fn reshaped(context: &mut Context<'_>, x: &Value, shape: Vec<Dim>) -> Results {
    with_shape(context, x, shape).map(|value| vec![value])
}

pub(super) fn expand(context: &mut Context<'_>) -> Results {
    let x = context.operand(0)?;
    let wanted = dims(context, 1)?;
    let shape = broadcast(&x.shape(), &wanted).map_err(|problem| context.refuse(problem, SHAPE_HINT))?;
    if shape == x.shape() {
        return Ok(vec![x]);
    }
    if let Some(literal) = x.literal() {
        if let Some(expanded) = folded_shape(&shape).and_then(|shape| literal.broadcast(&shape)) {
            return Ok(vec![Value::constant(expanded)]);
        }
        if let Some(element) = literal.repeated_element() {
            return Ok(vec![repeated(element, shape)]);
        }
    }
    Ok(vec![context.emit(Operator::Broadcast { shape }, &[&x])?])
}

pub(super) fn concat(context: &mut Context<'_>) -> Results {
    let axis = context.attributes.int_or("axis", 0);
    let rank = context.rank(0)?;
    let axis = context.axis(axis, rank, "axis")?;
    let operands =
        (0..context.operands.len()).map(|index| context.operand(index)).collect::<Result<Vec<_>, _>>()?;
    let literals: Option<Vec<Arc<Literal>>> = operands.iter().map(Value::literal).collect();
    if let Some(literals) = literals {
        let parts: Vec<&Literal> = literals.iter().map(AsRef::as_ref).collect();
        if let Some(joined) = Literal::concatenated(&parts, axis as usize) {
            return Ok(vec![Value::constant(joined)]);
        }
    }
    let operands: Vec<&Value> = operands.iter().collect();
    Ok(vec![context.emit(Operator::Concat { axis }, &operands)?])
}

pub(super) fn slice(context: &mut Context<'_>) -> Results {
    let x = context.operand(0)?;
    let rank = x.shape().len();
    let (starts, ends, axes, steps);
    if context.node.opset < 10 {
        let list = |name: &str| -> Vec<Int> {
            context.attributes.ints(name).iter().map(|&v| Int::Known(v)).collect()
        };
        starts = list("starts");
        ends = list("ends");
        axes = context.attributes.has("axes").then(|| context.attributes.ints("axes").to_vec());
        steps = vec![1; starts.len()];
    } else {
        starts = ints(context, 1, "starts")?;
        ends = ints(context, 2, "ends")?;
        axes = if context.optional(3).is_some() { Some(known_ints(context, 3, "axes")?) } else { None };
        steps = if context.optional(4).is_some() {
            known_ints(context, 4, "steps")?
        } else {
            vec![1; starts.len()]
        };
    }
    let axes = axes.unwrap_or_else(|| (0..).take(starts.len()).collect());
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
        return Err(context.refuse(
            "starts, ends, axes and steps differ in number",
            "check the file with onnx.checker.check_model",
        ));
    }
    let mut value = x;
    for (((start, end), axis), step) in starts.into_iter().zip(ends).zip(axes).zip(steps) {
        let axis = context.axis(axis, rank, "axes")?;
        value = sliced(context, &value, axis, start, end, step)?;
    }
    Ok(vec![value])
}

fn sliced(
    context: &mut Context<'_>,
    x: &Value,
    axis: u32,
    start: Int,
    end: Int,
    step: i64,
) -> Result<Value, Box<Refusal>> {
    let dim = x.shape().get(axis as usize).copied().unwrap_or(Dim::Fixed(0));
    let unclear = |context: &Context<'_>| {
        context.refuse(
            format!("{start} to {end} of axis {axis} of {} is no part known ahead", x.fact()),
            SHAPE_HINT,
        )
    };
    if step == 0 {
        return Err(context.refuse("a step is zero", "check the file with onnx.checker.check_model"));
    }
    let Dim::Fixed(len) = dim else {
        if step != 1 {
            return Err(context.refuse(
                format!("steps of {step} along the free axis {axis} of {} are not supported", x.fact()),
                "export with a fixed length for this axis",
            ));
        }
        // An end as far as integers reach, or the length itself, means "to the end".
        let far = i64::from(i32::MAX);
        let start = match start {
            Int::Known(at) if at >= 0 => Bound::FromStart(at.unsigned_abs()),
            Int::Known(at) => Bound::FromEnd(at.unsigned_abs()),
            Int::Free { .. } => return Err(unclear(context)),
        };
        let end = match end {
            Int::Known(at) if at >= far => Bound::FromEnd(0),
            Int::Known(at) if at >= 0 => Bound::FromStart(at.unsigned_abs()),
            Int::Known(at) => Bound::FromEnd(at.unsigned_abs()),
            free if free == Int::from(dim) => Bound::FromEnd(0),
            Int::Free { .. } => return Err(unclear(context)),
        };
        return context.emit(Operator::Slice { axis, start, end }, &[x]);
    };
    let (Some(start), Some(end)) = (start.known(), end.known()) else { return Err(unclear(context)) };
    let len = i64::try_from(len).unwrap_or(i64::MAX);
    let from_front = |at: i64| if at < 0 { at.saturating_add(len) } else { at };
    // With a negative step positions run down to -1, the place before the first.
    let (start, end) = if step > 0 {
        (from_front(start).clamp(0, len), from_front(end).clamp(0, len))
    } else {
        (from_front(start).clamp(-1, len - 1), from_front(end).clamp(-1, len - 1))
    };
    let index = |at: i64| usize::try_from(at).unwrap_or(0);
    if step == 1 {
        let end = end.max(start);
        if let Some(literal) = x.literal() {
            let places: Vec<usize> = (index(start)..index(end)).collect();
            if let Some(part) = literal.taken(axis as usize, &places) {
                return Ok(Value::constant(part));
            }
        }
        if start == 0 && end == len {
            return Ok(x.clone());
        }
        let (start, end) = (Bound::FromStart(start.unsigned_abs()), Bound::FromStart(end.unsigned_abs()));
        return context.emit(Operator::Slice { axis, start, end }, &[x]);
    }
    let mut places = Vec::new();
    if len > MOST_FOLDED as i64 {
        return Err(unclear(context));
    }
    let mut at = start;
    while (step > 0 && at < end) || (step < 0 && at > end) {
        places.push(at);
        at = at.saturating_add(step);
    }
    picked(context, x, axis, &places)
}

/// The entries at these positions of a fixed axis.
fn picked(context: &mut Context<'_>, x: &Value, axis: u32, places: &[i64]) -> Result<Value, Box<Refusal>> {
    if let Some(literal) = x.literal() {
        let places: Option<Vec<usize>> = places.iter().map(|&at| usize::try_from(at).ok()).collect();
        if let Some(part) = places.and_then(|places| literal.taken(axis as usize, &places)) {
            return Ok(Value::constant(part));
        }
    }
    let indices = Value::constant(Literal::list(places.iter().map(|&at| Int::Known(at)).collect()));
    context.emit(Operator::Gather { axis }, &[x, &indices])
}

pub(super) fn split(context: &mut Context<'_>) -> Results {
    let axis = context.attributes.int_or("axis", 0);
    let parts = context.attributes.int("num_outputs");
    let listed = if context.node.opset < 13 {
        context.attributes.has("split").then(|| context.attributes.ints("split").to_vec())
    } else if context.optional(1).is_some() {
        Some(known_ints(context, 1, "lengths")?)
    } else {
        None
    };
    let x = context.operand(0)?;
    let axis = context.axis(axis, x.shape().len(), "axis")?;
    let Some(len) =
        x.shape().get(axis as usize).and_then(|dim| dim.fixed()).and_then(|len| i64::try_from(len).ok())
    else {
        return Err(context.refuse(format!("axis {axis} of {} is free", x.fact()), SHAPE_HINT));
    };
    let lengths = listed.unwrap_or_else(|| {
        let parts =
            parts.unwrap_or_else(|| i64::try_from(context.node.outputs.len()).unwrap_or(1)).clamp(1, 1 << 16);
        // When the length does not divide, the last part is the shorter one.
        let part = (len + parts - 1) / parts;
        (0..parts).map(|index| part.min(len - (part * index).min(len))).collect()
    });
    let total = lengths
        .iter()
        .try_fold(0_i64, |sum, &length| if length < 0 { None } else { sum.checked_add(length) });
    if total != Some(len) || lengths.len() != context.node.outputs.len() {
        return Err(
            context.refuse(format!("lengths {lengths:?} do not make up axis {axis} of {}", x.fact()), "")
        );
    }
    let mut results = Vec::with_capacity(lengths.len());
    let mut start = 0;
    for length in lengths {
        results.push(sliced(context, &x, axis, Int::Known(start), Int::Known(start + length), 1)?);
        start += length;
    }
    Ok(results)
}

pub(super) fn gather(context: &mut Context<'_>) -> Results {
    let axis = context.attributes.int_or("axis", 0);
    let (x, indices) = (context.operand(0)?, context.operand(1)?);
    let shape = x.shape();
    let axis = context.axis(axis, shape.len(), "axis")?;
    let dim = shape.get(axis as usize).copied().unwrap_or(Dim::Fixed(0));
    let Some(literal) = indices.literal() else {
        let indices = match indices.fact().datatype {
            Datatype::Int64 => indices,
            Datatype::Int32 => context.emit(Operator::Cast { to: Datatype::Int64 }, &[&indices])?,
            other => {
                return Err(context.refuse(
                    format!("the indices are {other}, expected INT64"),
                    "export with INT64 indices",
                ));
            }
        };
        return Ok(vec![context.emit(Operator::Gather { axis }, &[&x, &indices])?]);
    };
    let Some(places) = literal.known_ints() else {
        return Err(context.refuse("the indices depend on the length of a free dimension", SHAPE_HINT));
    };
    // One index takes the axis away: a slice of length 1 under a shape without it.
    if let ([], [place]) = (literal.shape.as_slice(), places.as_slice()) {
        let end = if *place == -1 { i64::MAX } else { place.saturating_add(1) };
        let outside = dim.fixed().is_some_and(|len| {
            let len = i64::try_from(len).unwrap_or(i64::MAX);
            *place >= len || *place < -len
        });
        if outside {
            return Err(
                context.refuse(format!("index {place} is outside of axis {axis} of {}", x.fact()), "")
            );
        }
        let part = sliced(context, &x, axis, Int::Known(*place), Int::Known(end), 1)?;
        let mut shape = part.shape();
        shape.remove(axis as usize);
        return reshaped(context, &part, shape);
    }
    let Dim::Fixed(len) = dim else {
        return Ok(vec![context.emit(Operator::Gather { axis }, &[&x, &indices])?]);
    };
    let len = i64::try_from(len).unwrap_or(i64::MAX);
    let places: Vec<i64> =
        places.iter().map(|&at| if at < 0 { at.saturating_add(len) } else { at }).collect();
    if let Some(place) = places.iter().find(|at| !(0..len).contains(*at)) {
        return Err(context.refuse(format!("index {place} is outside of axis {axis} of {}", x.fact()), ""));
    }
    let part = picked(context, &x, axis, &places)?;
    let mut shape = part.shape();
    let lengths = literal.shape.iter().map(|&len| Dim::Fixed(len as u64));
    shape.splice(axis as usize..=axis as usize, lengths);
    reshaped(context, &part, shape)
}

pub(super) fn pad(context: &mut Context<'_>) -> Results {
    let mode = context.attributes.string_or("mode", "constant").to_owned();
    let (pads, value, axes);
    let rank = context.rank(0)?;
    if context.node.opset < 11 {
        pads = context.attributes.ints("pads").to_vec();
        value = context.attributes.float_or("value", 0.0);
        axes = None;
    } else {
        pads = known_ints(context, 1, "pads")?;
        value = match context.optional(2) {
            None => 0.0,
            Some(_) => context.constant(2, "padding values")?.scalar().ok_or_else(|| {
                context.refuse("the padding value is not one FP32 number", "export the model in FP32")
            })?,
        };
        axes = if context.optional(3).is_some() { Some(known_ints(context, 3, "axes")?) } else { None };
    }
    if mode != "constant" {
        return Err(context.refuse_attribute(
            "mode",
            format!("mode `{mode}` is not supported"),
            "pad with a constant",
        ));
    }
    let axes = axes.unwrap_or_else(|| (0..).take(rank).collect());
    let mut all = vec![(0, 0); rank];
    let (before, behind) = pads.split_at_checked(axes.len()).unwrap_or((&[], &[]));
    if before.len() != axes.len() || behind.len() != axes.len() {
        return Err(context.refuse(format!("{} pads do not fit {} axes", pads.len(), axes.len()), ""));
    }
    for ((axis, before), behind) in axes.into_iter().zip(before).zip(behind) {
        let axis = context.axis(axis, rank, "axes")? as usize;
        let (Ok(before), Ok(behind)) = (u64::try_from(*before), u64::try_from(*behind)) else {
            return Err(context.refuse("negative pads are not supported", "use Slice to cut elements off"));
        };
        if let Some(pad) = all.get_mut(axis) {
            *pad = (before, behind);
        }
    }
    let x = context.operand(0)?;
    if all.iter().all(|pad| *pad == (0, 0)) {
        return Ok(vec![x]);
    }
    Ok(vec![context.emit(Operator::Pad { pads: all, value }, &[&x])?])
}

/// The elements of a constant integer operand, free dimensions included.
fn ints(context: &Context<'_>, index: usize, what: &str) -> Result<Vec<Int>, Box<Refusal>> {
    let literal = context.constant(index, what)?;
    literal.ints().map(<[Int]>::to_vec).ok_or_else(|| {
        context.refuse(
            format!("input {index} ({what}) holds no integers"),
            "check the file with onnx.checker.check_model",
        )
    })
}

/// The elements of a constant integer operand.
pub(super) fn known_ints(context: &Context<'_>, index: usize, what: &str) -> Result<Vec<i64>, Box<Refusal>> {
    let known: Option<Vec<i64>> = ints(context, index, what)?.into_iter().map(Int::known).collect();
    known.ok_or_else(|| {
        context
            .refuse(format!("input {index} ({what}) depends on the length of a free dimension"), SHAPE_HINT)
    })
}

/// A shape that is an operand.
fn dims(context: &Context<'_>, index: usize) -> Result<Vec<Dim>, Box<Refusal>> {
    let dims: Option<Vec<Dim>> = ints(context, index, "shape")?.into_iter().map(Int::dim).collect();
    dims.ok_or_else(|| context.refuse("the shape has a negative length", SHAPE_HINT))
}

/// An integer that every element equals.
pub(super) fn uniform_int(value: &Value) -> Option<i64> {
    match value {
        Value::Constant(literal) | Value::Uniform { element: literal, .. } => {
            let values = literal.known_ints()?;
            let first = *values.first()?;
            values.iter().all(|&value| value == first).then_some(first)
        }
        _ => None,
    }
}
