//! Elements put elsewhere, unchanged: shapes, order, parts.

use crate::operator::{ai, optional, required};
use crate::shape::{axes, axis, broadcast, elements, strides};
use crate::{Build, Data, Kernel, Operator, Problem, Tensor};

mod fill;
mod walk;

pub(super) use walk::{
    ABSENT, PLACE, append, around, element, index, kinds_differ, length, lengths, put, room, select, walk,
};

pub(super) const TABLE: &[Operator] = &[
    ai("CenterCropPad", 18, &["axes"], center_crop_pad),
    ai("Col2Im", 18, &["dilations", "pads", "strides"], fill::col2im),
    ai("Concat", 1, &["axis"], concat),
    ai(
        "Constant",
        1,
        &["value", "value_float", "value_floats", "value_int", "value_ints", "value_string", "value_strings"],
        fill::constant,
    )
    .but("`sparse_value`: write the constant as a dense tensor"),
    ai("ConstantOfShape", 9, &["value"], fill::constant_of_shape),
    ai("DepthToSpace", 1, &["blocksize", "mode"], depth_to_space),
    ai("Dropout", 1, &["consumed_inputs", "is_test", "ratio", "seed"], dropout)
        .but("training, unless the ratio is 0: export the model for inference"),
    ai("Expand", 8, &[], expand),
    ai("EyeLike", 9, &["dtype", "k"], fill::eye_like),
    ai("Flatten", 1, &["axis"], flatten),
    ai("Identity", 1, &[], identity),
    ai("Pad", 1, &["mode", "paddings", "pads", "value"], pad),
    ai("Range", 11, &["stash_type"], fill::range)
        .but("a `stash_type` other than 1: half precision is computed in single precision"),
    ai("Reshape", 1, &["allowzero", "consumed_inputs", "shape"], reshape),
    ai("ReverseSequence", 10, &["batch_axis", "time_axis"], reverse_sequence),
    ai("Shape", 1, &["end", "start"], shape),
    ai("Size", 1, &[], size),
    ai("Slice", 1, &["axes", "ends", "starts"], slice),
    ai("SpaceToDepth", 1, &["blocksize", "mode"], space_to_depth),
    ai("Split", 1, &["axis", "num_outputs", "split"], split),
    ai("Squeeze", 1, &["axes"], squeeze),
    ai("Tile", 6, &[], tile),
    ai("Transpose", 1, &["perm"], transpose),
    ai("Trilu", 14, &["upper"], fill::trilu),
    ai("Unsqueeze", 1, &["axes"], unsqueeze),
];

/// Integers that older operator sets have as an attribute and newer ones as an operand.
enum Given {
    Attribute(Option<Vec<i64>>),
    Operand(usize),
}

impl Given {
    /// The attribute `name` before the operator set `since`, the operand at `index` from there on.
    fn new(build: &Build<'_>, name: &str, since: i64, index: usize) -> Result<Self, Problem> {
        if build.opset >= since {
            return Ok(Self::Operand(index));
        }
        Ok(Self::Attribute(build.attributes.ints(name)?.map(<[i64]>::to_vec)))
    }

    fn get(&self, operands: &[Option<&Tensor>]) -> Result<Option<Vec<i64>>, Problem> {
        match self {
            Self::Attribute(values) => Ok(values.clone()),
            Self::Operand(index) => optional(operands, *index).map(Tensor::integers).transpose(),
        }
    }

    fn required(&self, name: &str, operands: &[Option<&Tensor>]) -> Result<Vec<i64>, Problem> {
        self.get(operands)?.ok_or_else(|| Problem::invalid(format!("`{name}` is missing")))
    }
}

/// The axes that are named, in their order, or all of them.
fn named_or_all(given: Option<&[i64]>, rank: usize) -> Result<Vec<usize>, Problem> {
    let Some(given) = given else { return Ok((0..rank).collect()) };
    axes(given, rank)?;
    given.iter().map(|&one| axis(one, rank)).collect()
}

fn differ(what: &str, found: usize, expected: usize) -> Problem {
    Problem::invalid(format!("`{what}` has {found} entries, expected {expected}"))
}

fn identity(_: &Build<'_>) -> Result<Kernel, Problem> {
    Ok(Box::new(|operands, _| Ok(vec![required(operands, 0)?.clone()])))
}

fn reshape(build: &Build<'_>) -> Result<Kernel, Problem> {
    // A hint that the memory of the operand may be written over.
    build.attributes.have_no_effect(&["consumed_inputs"]);
    let shape = Given::new(build, "shape", 5, 1)?;
    let zeros = build.attributes.flag("allowzero", false)?;
    Ok(Box::new(move |operands, _| {
        let x = required(operands, 0)?;
        Ok(vec![x.reshaped(reshaped(x.shape(), &shape.required("shape", operands)?, zeros)?)?])
    }))
}

/// `asked` with the lengths that it leaves open: 0 stands for the length that the axis has (unless `zeros` says that
/// it means 0), one -1 for what is left.
fn reshaped(from: &[usize], asked: &[i64], zeros: bool) -> Result<Vec<usize>, Problem> {
    let mut open = None;
    let mut shape = Vec::with_capacity(asked.len());
    for (at, &len) in asked.iter().enumerate() {
        shape.push(match len {
            -1 if open.is_none() => {
                open = Some(at);
                1
            }
            0 if !zeros => *from.get(at).ok_or_else(|| {
                Problem::invalid(format!(
                    "the shape {asked:?} copies axis {at}, which {from:?} does not have"
                ))
            })?,
            len => usize::try_from(len)
                .map_err(|_| Problem::invalid(format!("the shape {asked:?} has a length that is not one")))?,
        });
    }
    if let Some(open) = open {
        let count = elements(from).unwrap_or(0);
        let rest = elements(&shape).filter(|&rest| rest > 0 && count.is_multiple_of(rest));
        let rest = rest.ok_or_else(|| {
            Problem::invalid(format!("the shape {asked:?} leaves no whole length for {count} elements"))
        })?;
        if let Some(place) = shape.get_mut(open) {
            *place = count / rest;
        }
    }
    Ok(shape)
}

fn flatten(build: &Build<'_>) -> Result<Kernel, Problem> {
    let at = build.attributes.int_or("axis", 1)?;
    Ok(Box::new(move |operands, _| {
        let x = required(operands, 0)?;
        // The end is a place to cut at, too.
        let from_end = i64::try_from(x.rank()).is_ok_and(|rank| at == rank);
        let cut = if from_end { x.rank() } else { axis(at, x.rank())? };
        let product = |part: Option<&[usize]>| elements(part.unwrap_or(&[])).unwrap_or(usize::MAX);
        Ok(vec![x.reshaped([product(x.shape().get(..cut)), product(x.shape().get(cut..))])?])
    }))
}

fn squeeze(build: &Build<'_>) -> Result<Kernel, Problem> {
    let given = Given::new(build, "axes", 13, 1)?;
    Ok(Box::new(move |operands, _| {
        let x = required(operands, 0)?;
        let gone = match given.get(operands)? {
            Some(given) => axes(&given, x.rank())?,
            None => (0..x.rank()).filter(|&at| x.shape().get(at) == Some(&1)).collect(),
        };
        let kept = |at: &usize| gone.binary_search(at).is_err();
        let shape: Vec<usize> =
            x.shape().iter().enumerate().filter(|(at, _)| kept(at)).map(|(_, &len)| len).collect();
        if gone.iter().any(|&at| x.shape().get(at) != Some(&1)) {
            return Err(Problem::invalid(format!(
                "axes {gone:?} of the shape {:?} are not all of length 1",
                x.shape()
            )));
        }
        Ok(vec![x.reshaped(shape)?])
    }))
}

fn unsqueeze(build: &Build<'_>) -> Result<Kernel, Problem> {
    let given = Given::new(build, "axes", 13, 1)?;
    Ok(Box::new(move |operands, _| {
        let x = required(operands, 0)?;
        let given = given.required("axes", operands)?;
        let rank = x.rank().saturating_add(given.len());
        let new = axes(&given, rank)?;
        let mut old = x.shape().iter();
        let shape: Vec<usize> = (0..rank)
            .filter_map(|at| if new.binary_search(&at).is_ok() { Some(1) } else { old.next().copied() })
            .collect();
        Ok(vec![x.reshaped(shape)?])
    }))
}

fn shape(build: &Build<'_>) -> Result<Kernel, Problem> {
    let (start, end) = (build.attributes.int_or("start", 0)?, build.attributes.int("end")?);
    Ok(Box::new(move |operands, _| {
        let x = required(operands, 0)?;
        let rank = i64::try_from(x.rank()).unwrap_or(i64::MAX);
        let place = |at: i64| {
            let at = if at < 0 { at.saturating_add(rank) } else { at };
            usize::try_from(at.clamp(0, rank)).unwrap_or(0)
        };
        let range = place(start)..place(end.unwrap_or(rank));
        let shape = x.shape().get(range).unwrap_or(&[]).iter();
        Ok(vec![Tensor::vector(shape.map(|&len| i64::try_from(len).unwrap_or(i64::MAX)).collect())])
    }))
}

fn size(_: &Build<'_>) -> Result<Kernel, Problem> {
    Ok(Box::new(|operands, _| {
        Ok(vec![Tensor::scalar(i64::try_from(required(operands, 0)?.len()).unwrap_or(i64::MAX))])
    }))
}

fn transpose(build: &Build<'_>) -> Result<Kernel, Problem> {
    let order = build.attributes.ints("perm")?.map(<[i64]>::to_vec);
    if let Some(order) = &order
        && axes(order, order.len()).is_err()
    {
        let message = format!("{order:?} does not name each axis once");
        return Err(Problem::attribute("perm", message, "export the model again"));
    }
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        let order = match &order {
            None => (0..x.rank()).rev().collect(),
            Some(order) if order.len() == x.rank() => named_or_all(Some(order), x.rank())?,
            Some(order) => return Err(differ("perm", order.len(), x.rank())),
        };
        room(meter, x.shape(), x)?;
        Ok(vec![transposed(x, &order)?])
    }))
}

/// A tensor whose axes stand in another order: `order` names each once.
fn transposed(x: &Tensor, order: &[usize]) -> Result<Tensor, Problem> {
    let strides = strides(x.shape());
    let shape: Vec<usize> = order.iter().filter_map(|&at| x.shape().get(at).copied()).collect();
    if x.is_empty() {
        return Tensor::new(shape, x.kind().empty());
    }
    let lists: Vec<Vec<usize>> = shape
        .iter()
        .zip(order.iter().filter_map(|&at| strides.get(at)))
        .map(|(&len, &stride)| (0..len).map(|at| at.saturating_mul(stride)).collect())
        .collect();
    Tensor::new(shape, walk(x.data(), &lists, None)?)
}

fn slice(build: &Build<'_>) -> Result<Kernel, Problem> {
    let starts = Given::new(build, "starts", 10, 1)?;
    let ends = Given::new(build, "ends", 10, 2)?;
    let given = Given::new(build, "axes", 10, 3)?;
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        let starts = starts.required("starts", operands)?;
        let ends = ends.required("ends", operands)?;
        let steps = optional(operands, 4).map(Tensor::integers).transpose()?;
        let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
        let all: Vec<i64> = (0_i64..).take(starts.len()).collect();
        let cut = named_or_all(Some(&given.get(operands)?.unwrap_or(all)), x.rank())?;
        for (name, entries) in [("starts", &starts), ("ends", &ends), ("steps", &steps)] {
            if entries.len() != cut.len() {
                return Err(differ(name, entries.len(), cut.len()));
            }
        }
        let mut shape = x.shape().to_vec();
        let mut parts = vec![(0_i64, 1_i64); x.rank()];
        for (((&at, &start), &end), &step) in cut.iter().zip(&starts).zip(&ends).zip(&steps) {
            if let (Some(len), Some(part)) = (shape.get_mut(at), parts.get_mut(at)) {
                let (start, count) = cut_axis(*len, start, end, step)?;
                (*len, *part) = (count, (start, step));
            }
        }
        let place = |at: usize, index: usize| {
            let (start, step) = parts.get(at).copied().unwrap_or((0, 1));
            let offset = i64::try_from(index).unwrap_or(i64::MAX).saturating_mul(step);
            usize::try_from(start.saturating_add(offset)).unwrap_or(ABSENT)
        };
        Ok(vec![select(x, shape, None, meter, &place)?])
    }))
}

/// Where a slice of an axis begins, and how many elements it has. Bounds count from the end if negative, and are
/// moved to the nearest that exist; the greatest integer stands for the last element in whichever direction, as in onnxruntime.
fn cut_axis(len: usize, start: i64, end: i64, step: i64) -> Result<(i64, usize), Problem> {
    let len = i64::try_from(len).unwrap_or(i64::MAX);
    let from_front = |at: i64| if at < 0 { at.saturating_add(len) } else { at };
    let (start, distance) = match step {
        0 => return Err(Problem::invalid("a slice with step 0")),
        _ if len == 0 => (0, 0),
        1.. => {
            let start = from_front(start).clamp(0, len);
            (start, from_front(end).clamp(0, len) - start)
        }
        _ => {
            let start = from_front(start).clamp(0, len - 1);
            let is_open = end == i64::MAX || end == i64::from(i32::MAX);
            let end = if is_open { -1 } else { from_front(end).clamp(-1, len - 1) };
            (start, start - end)
        }
    };
    let distance = u64::try_from(distance).unwrap_or(0);
    Ok((start, usize::try_from(distance.div_ceil(step.unsigned_abs())).unwrap_or(usize::MAX)))
}

fn concat(build: &Build<'_>) -> Result<Kernel, Problem> {
    let along = match build.attributes.int("axis")? {
        Some(axis) => axis,
        None if build.opset < 4 => 1,
        None => return Err(Problem::attribute("axis", "it is missing", "export the model again")),
    };
    let count = build.inputs;
    Ok(Box::new(move |operands, meter| {
        let parts = (0..count).map(|index| required(operands, index)).collect::<Result<Vec<_>, _>>()?;
        let first = required(operands, 0)?;
        let along = axis(along, first.rank())?;
        let mut total = 0_usize;
        for part in &parts {
            if part.kind() != first.kind() {
                return Err(kinds_differ(first.kind(), part.kind()));
            }
            let fits = part.rank() == first.rank()
                && part
                    .shape()
                    .iter()
                    .zip(first.shape())
                    .enumerate()
                    .all(|(at, (a, b))| a == b || at == along);
            if !fits {
                return Err(Problem::invalid(format!(
                    "the shapes {:?} and {:?} differ elsewhere than along axis {along}",
                    first.shape(),
                    part.shape()
                )));
            }
            total = total.saturating_add(part.shape().get(along).copied().unwrap_or(0));
        }
        let mut shape = first.shape().to_vec();
        if let Some(len) = shape.get_mut(along) {
            *len = total;
        }
        // Texts are copies of what is already held: their lengths sum up to at most as much again.
        meter.room(&shape, first.kind().size())?;
        let (before, _, after) = around(first.shape(), along);
        let mut data = first.kind().empty();
        let rows = if elements(&shape) == Some(0) { 0 } else { before };
        for row in 0..rows {
            for part in &parts {
                let run = part.shape().get(along).copied().unwrap_or(0).saturating_mul(after);
                let start = row.saturating_mul(run);
                append(&mut data, part.data(), start..start.saturating_add(run))?;
            }
        }
        Ok(vec![Tensor::new(shape, data)?])
    }))
}

fn split(build: &Build<'_>) -> Result<Kernel, Problem> {
    let along = build.attributes.int_or("axis", 0)?;
    let given = if build.opset < 2 && !build.attributes.has("split") {
        Given::Operand(1)
    } else {
        Given::new(build, "split", 13, 1)?
    };
    let asked = if build.opset >= 18 { build.attributes.int("num_outputs")? } else { None };
    let count = asked.map_or(Ok(build.outputs), length)?;
    if count == 0 || count > build.outputs.max(1) {
        let message = format!("{count} parts are asked for, the node has {} outputs", build.outputs);
        return Err(Problem::attribute("num_outputs", message, "export the model again"));
    }
    let uneven = build.opset >= 18;
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        let along = axis(along, x.rank())?;
        let len = x.shape().get(along).copied().unwrap_or(0);
        let lengths = match given.get(operands)? {
            Some(given) => given.into_iter().map(length).collect::<Result<Vec<_>, _>>()?,
            None => {
                if !uneven && !len.is_multiple_of(count) {
                    return Err(Problem::invalid(format!(
                        "{len} elements cannot be split into {count} equal parts"
                    )));
                }
                let each = len.div_ceil(count);
                (0..count).map(|part| each.min(len.saturating_sub(each.saturating_mul(part)))).collect()
            }
        };
        if lengths.iter().try_fold(0_usize, |sum, &part| sum.checked_add(part)) != Some(len) {
            return Err(Problem::invalid(format!("the lengths {lengths:?} do not sum up to {len}")));
        }
        room(meter, x.shape(), x)?;
        let mut start = 0_usize;
        let mut results = Vec::with_capacity(lengths.len());
        for part in lengths {
            let mut shape = x.shape().to_vec();
            if let Some(len) = shape.get_mut(along) {
                *len = part;
            }
            let place =
                |at: usize, index: usize| if at == along { start.saturating_add(index) } else { index };
            results.push(select(x, shape, None, meter, &place)?);
            start = start.saturating_add(part);
        }
        Ok(results)
    }))
}

#[derive(Clone, Copy, PartialEq)]
enum Padding {
    Constant,
    Reflect,
    Edge,
    Wrap,
}

fn pad(build: &Build<'_>) -> Result<Kernel, Problem> {
    let mode = match build.attributes.text_or("mode", "constant")? {
        "constant" => Padding::Constant,
        "reflect" => Padding::Reflect,
        "edge" => Padding::Edge,
        "wrap" if build.opset >= 19 => Padding::Wrap,
        mode => {
            let message = format!("there is no mode `{mode}` in operator set {}", build.opset);
            return Err(Problem::attribute("mode", message, "use constant, reflect or edge"));
        }
    };
    let pads = Given::new(build, if build.opset < 2 { "paddings" } else { "pads" }, 11, 1)?;
    let value = if build.opset < 11 { Some(build.attributes.float_or("value", 0.0)?) } else { None };
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        let pads = pads.required("pads", operands)?;
        let given = optional(operands, 3).map(Tensor::integers).transpose()?;
        let padded = named_or_all(given.as_deref(), x.rank())?;
        if pads.len() != padded.len().saturating_mul(2) {
            return Err(differ("pads", pads.len(), padded.len().saturating_mul(2)));
        }
        let value = match (value, optional(operands, 2)) {
            (Some(value), _) => Some(element(x.kind(), f64::from(value))),
            (None, Some(value)) if value.kind() != x.kind() => {
                return Err(kinds_differ(x.kind(), value.kind()));
            }
            (None, Some(value)) if value.len() != 1 => return Err(differ("constant_value", value.len(), 1)),
            (None, value) => value.map(|value| value.data().clone()),
        };
        let mut shape = x.shape().to_vec();
        // For each axis, what is kept of it (the first, how many), and how much is put before that.
        let mut parts: Vec<(i64, i64, i64)> =
            shape.iter().map(|&len| (0, i64::try_from(len).unwrap_or(i64::MAX), 0)).collect();
        let (begins, ends) = pads.split_at_checked(padded.len()).unwrap_or_default();
        for ((&at, &begin), &end) in padded.iter().zip(begins).zip(ends) {
            let (Some(len), Some(part)) = (shape.get_mut(at), parts.get_mut(at)) else { continue };
            let (cut_begin, cut_end) = (begin.saturating_neg().max(0), end.saturating_neg().max(0));
            let kept = part.1.saturating_sub(cut_begin).saturating_sub(cut_end);
            if kept < 0 {
                return Err(Problem::invalid(format!(
                    "axis {at} of length {len} cannot lose {cut_begin} and {cut_end} elements"
                )));
            }
            let new = begin.max(0).saturating_add(end.max(0));
            if kept == 0 && new > 0 && mode != Padding::Constant {
                return Err(Problem::invalid(format!("axis {at} has no elements to pad it with")));
            }
            *part = (cut_begin, kept, begin.max(0));
            *len = length(kept.saturating_add(new))?;
        }
        let place = |at: usize, index: usize| {
            let Some(&(first, len, before)) = parts.get(at) else { return ABSENT };
            let at = i64::try_from(index).unwrap_or(i64::MAX).saturating_sub(before);
            let inside = match mode {
                Padding::Constant if at < 0 || at >= len => return ABSENT,
                Padding::Constant => at,
                Padding::Edge => at.clamp(0, len.saturating_sub(1).max(0)),
                Padding::Wrap => at.checked_rem_euclid(len).unwrap_or(0),
                Padding::Reflect => {
                    let last = len.saturating_sub(1);
                    let at = at.checked_rem_euclid(last.saturating_mul(2)).unwrap_or(0);
                    if at > last { last.saturating_mul(2) - at } else { at }
                }
            };
            usize::try_from(first.saturating_add(inside)).unwrap_or(ABSENT)
        };
        Ok(vec![select(x, shape, value.as_ref(), meter, &place)?])
    }))
}

fn tile(_: &Build<'_>) -> Result<Kernel, Problem> {
    Ok(Box::new(|operands, meter| {
        let x = required(operands, 0)?;
        let repeats = lengths(required(operands, 1)?)?;
        if repeats.len() != x.rank() {
            return Err(differ("repeats", repeats.len(), x.rank()));
        }
        let shape = x.shape().iter().zip(repeats).map(|(&len, times)| len.saturating_mul(times)).collect();
        let place = |at: usize, index: usize| {
            x.shape().get(at).and_then(|&len| index.checked_rem(len)).unwrap_or(ABSENT)
        };
        Ok(vec![select(x, shape, None, meter, &place)?])
    }))
}

fn expand(_: &Build<'_>) -> Result<Kernel, Problem> {
    Ok(Box::new(|operands, meter| {
        let x = required(operands, 0)?;
        let shape = broadcast(&[x.shape(), &lengths(required(operands, 1)?)?])?;
        let mut aligned = vec![1; shape.len().saturating_sub(x.rank())];
        aligned.extend(x.shape());
        let x = x.reshaped(aligned)?;
        let place = |at: usize, index: usize| if x.shape().get(at) == Some(&1) { 0 } else { index };
        Ok(vec![select(&x, shape, None, meter, &place)?])
    }))
}

fn center_crop_pad(build: &Build<'_>) -> Result<Kernel, Problem> {
    let given = build.attributes.ints("axes")?.map(<[i64]>::to_vec);
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        let asked = lengths(required(operands, 1)?)?;
        let given = named_or_all(given.as_deref(), x.rank())?;
        if asked.len() != given.len() {
            return Err(differ("shape", asked.len(), given.len()));
        }
        let mut shape = x.shape().to_vec();
        for (&at, asked) in given.iter().zip(asked) {
            if let Some(len) = shape.get_mut(at) {
                *len = asked;
            }
        }
        let result = shape.clone();
        let place = |at: usize, index: usize| {
            let (Some(&from), Some(&to)) = (x.shape().get(at), result.get(at)) else { return ABSENT };
            let shifted = index.saturating_add(from.saturating_sub(to) / 2);
            shifted.checked_sub(to.saturating_sub(from) / 2).filter(|&at| at < from).unwrap_or(ABSENT)
        };
        Ok(vec![select(x, shape, None, meter, &place)?])
    }))
}

/// The length of the side of a block, and whether columns and rows stand before depth.
fn blocks(build: &Build<'_>) -> Result<(usize, bool), Problem> {
    let side = build.attributes.int_or("blocksize", 0)?;
    let side = usize::try_from(side).ok().filter(|&side| side > 0).ok_or_else(|| {
        Problem::attribute("blocksize", format!("{side} is not a length"), "export the model again")
    })?;
    match build.attributes.text_or("mode", "DCR")? {
        "DCR" => Ok((side, false)),
        "CRD" => Ok((side, true)),
        mode => Err(Problem::attribute("mode", format!("there is no mode `{mode}`"), "use `DCR` or `CRD`")),
    }
}

/// The four lengths of a batch of images, the depth and the sides of which are multiples of these.
fn image(x: &Tensor, depth: usize, side: usize) -> Result<[usize; 4], Problem> {
    match *x.shape() {
        [n, c, h, w] if c % depth.max(1) == 0 && h % side.max(1) == 0 && w % side.max(1) == 0 => {
            Ok([n, c, h, w])
        }
        _ => Err(Problem::invalid(format!(
            "the shape {:?} is not [N, C, H, W] with C a multiple of {depth}, H and W of {side}",
            x.shape()
        ))),
    }
}

fn depth_to_space(build: &Build<'_>) -> Result<Kernel, Problem> {
    let (side, crd) = blocks(build)?;
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        let area = side.saturating_mul(side);
        let [n, c, h, w] = image(x, area, 1)?;
        let depth = c / area;
        room(meter, x.shape(), x)?;
        let y = if crd {
            transposed(&x.reshaped([n, depth, side, side, h, w])?, &[0, 1, 4, 2, 5, 3])?
        } else {
            transposed(&x.reshaped([n, side, side, depth, h, w])?, &[0, 3, 4, 1, 5, 2])?
        };
        Ok(vec![y.reshaped([n, depth, h.saturating_mul(side), w.saturating_mul(side)])?])
    }))
}

fn space_to_depth(build: &Build<'_>) -> Result<Kernel, Problem> {
    let (side, crd) = blocks(build)?;
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        let [n, c, h, w] = image(x, 1, side)?;
        let (h, w) = (h / side, w / side);
        room(meter, x.shape(), x)?;
        let order: [usize; 6] = if crd { [0, 1, 3, 5, 2, 4] } else { [0, 3, 5, 1, 2, 4] };
        let y = transposed(&x.reshaped([n, c, h, side, w, side])?, &order)?;
        Ok(vec![y.reshaped([n, c.saturating_mul(side).saturating_mul(side), h, w])?])
    }))
}

fn reverse_sequence(build: &Build<'_>) -> Result<Kernel, Problem> {
    let (batch, time) = (build.attributes.int_or("batch_axis", 1)?, build.attributes.int_or("time_axis", 0)?);
    if !matches!((batch, time), (0, 1) | (1, 0)) {
        let message = format!("the axes of batch and time are {batch} and {time}");
        return Err(Problem::attribute("time_axis", message, "one must be 0, the other 1"));
    }
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        let counts = lengths(required(operands, 1)?)?;
        let [rows, columns, inner @ ..] = x.shape() else {
            return Err(Problem::invalid(format!("the shape {:?} has fewer than two axes", x.shape())));
        };
        let (batches, steps) = if batch == 0 { (*rows, *columns) } else { (*columns, *rows) };
        if counts.len() != batches || counts.iter().any(|&count| count > steps) {
            return Err(Problem::invalid(format!(
                "`sequence_lens` {counts:?} do not fit {batches} sequences of {steps} steps"
            )));
        }
        room(meter, x.shape(), x)?;
        if x.is_empty() {
            return Ok(vec![x.clone()]);
        }
        meter.room(&[*rows, *columns], PLACE)?;
        let run = elements(inner).unwrap_or(usize::MAX);
        let reversed = |batch: usize, step: usize| match counts.get(batch) {
            Some(&count) if step < count => count - 1 - step,
            _ => step,
        };
        let places = (0..*rows).flat_map(|row| (0..*columns).map(move |column| (row, column)));
        let places = places.map(|(row, column)| {
            let (row, column) =
                if batch == 0 { (row, reversed(row, column)) } else { (reversed(column, row), column) };
            row.saturating_mul(*columns).saturating_add(column).saturating_mul(run)
        });
        let data = walk(x.data(), &[places.collect(), (0..run).collect()], None)?;
        Ok(vec![Tensor::new(x.shape(), data)?])
    }))
}

/// Outside of training nothing is dropped. In training something is, unless the ratio is 0.
fn dropout(build: &Build<'_>) -> Result<Kernel, Problem> {
    // The seed is that of training; the other is a hint that the memory of the operand may be written over.
    build.attributes.have_no_effect(&["consumed_inputs", "seed"]);
    let refused = |name: &str| {
        let hint = "export the model for inference: in evaluation mode, without training operators";
        Problem::attribute(name, "dropout in training is random, which is not supported", hint)
    };
    let ratio = if build.opset < 12 { Some(build.attributes.float_or("ratio", 0.5)?) } else { None };
    if build.opset < 7 && !build.attributes.flag("is_test", false)? && ratio != Some(0.0) {
        return Err(refused("is_test"));
    }
    let trains = |training: Option<&Tensor>, ratio: Option<&Tensor>| -> Result<bool, Problem> {
        let training = training.map(Tensor::elements::<bool>).transpose()?;
        let ratio = ratio.map(Tensor::doubles).transpose()?;
        Ok(training.is_some_and(|all| all.contains(&true))
            && ratio.is_none_or(|all| all.iter().any(|&ratio| ratio != 0.0)))
    };
    // A ratio that is known only at run time may still be 0.
    let known = build.inputs < 2 || build.constants.get(1).is_none_or(Option::is_some);
    if build.opset >= 12 && known && trains(build.constant(2), build.constant(1))? {
        return Err(refused("training_mode"));
    }
    let (opset, mask) = (build.opset, build.outputs > 1);
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        if opset >= 12 && trains(optional(operands, 2), optional(operands, 1))? {
            return Err(refused("training_mode"));
        }
        let mut results = vec![x.clone()];
        if mask {
            let count = meter.room(x.shape(), x.kind().size())?;
            // The mask had the kind of the operand before operator set 10.
            let all = if opset < 10 { element(x.kind(), 1.0) } else { Data::Bool(vec![true]) };
            results.push(Tensor::new(x.shape(), walk(&all, &[vec![0; count]], None)?)?);
        }
        Ok(results)
    }))
}

#[cfg(test)]
pub(super) mod tests {
    use crate::graph::Node;
    use crate::{Attribute, Meter, Tensor};

    /// Runs an operator of the newest operator set within a mebibyte and about a million operations.
    pub(in crate::ops) fn run(
        operator: &str,
        attributes: &[(&str, Attribute)],
        operands: &[Option<Tensor>],
    ) -> Result<Vec<Tensor>, String> {
        let node = Node {
            domain: "ai.onnx".to_owned(),
            operator: operator.to_owned(),
            opset: 28,
            attributes: attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
            inputs: vec![Some(0); operands.len()],
            outputs: vec![Some(0); 2],
            ..Node::default()
        };
        let kernel =
            node.kernel(&vec![None; operands.len()], &[]).map_err(|problem| problem.problem.to_string())?;
        let operands: Vec<Option<&Tensor>> = operands.iter().map(Option::as_ref).collect();
        kernel(&operands, &mut Meter::new(1 << 20, 1 << 20)).map_err(|problem| problem.to_string())
    }

    pub(in crate::ops) fn ints(values: &[i64]) -> Option<Tensor> {
        Some(Tensor::vector(values.to_vec()))
    }

    pub(in crate::ops) fn floats(shape: &[usize], values: &[f32]) -> Option<Tensor> {
        Some(Tensor::of(shape, values.to_vec()).unwrap())
    }

    fn first(operator: &str, operands: &[Option<Tensor>]) -> Result<Tensor, String> {
        run(operator, &[], operands).map(|results| results[0].clone())
    }

    #[test]
    fn lengths_of_requests_do_not_allocate_without_bound() {
        let huge = i64::MAX / 4;
        let one = || floats(&[1], &[1.0]);
        for result in [
            first("Expand", &[one(), ints(&[huge])]),
            first("Tile", &[one(), ints(&[huge])]),
            first("Pad", &[one(), ints(&[0, huge])]),
            first("ConstantOfShape", &[ints(&[huge, huge])]),
            first("CenterCropPad", &[one(), ints(&[huge])]),
            first(
                "Range",
                &[
                    Some(Tensor::scalar(i64::MIN)),
                    Some(Tensor::scalar(i64::MAX)),
                    Some(Tensor::scalar(1_i64)),
                ],
            ),
        ] {
            assert!(result.unwrap_err().contains("bytes of memory"));
        }
        let nothing = first("Expand", &[floats(&[1, 1], &[1.0]), ints(&[0, huge])]).unwrap();
        assert_eq!(nothing.shape(), [0, huge as usize]);
    }

    #[test]
    fn a_long_text_counts_as_often_as_it_is_copied() {
        let text = Some(Tensor::vector(vec!["x".repeat(100_000)]));
        assert!(first("Tile", &[text.clone(), ints(&[20])]).unwrap_err().contains("bytes of memory"));
        assert_eq!(first("Tile", &[text.clone(), ints(&[2])]).unwrap().len(), 2);
        let empty = Some(Tensor::vector(vec![String::new()]));
        assert!(first("Pad", &[empty, ints(&[0, 20]), text]).unwrap_err().contains("bytes of memory"));
    }

    #[test]
    fn pads_may_cut_and_need_something_to_copy() {
        let pad = |mode: &str, values: &[f32], pads: &[i64]| {
            let mode = [("mode", Attribute::Text(mode.to_owned()))];
            let result = run("Pad", &mode, &[floats(&[values.len()], values), ints(pads)]);
            result.map(|all| all[0].elements::<f32>().unwrap().to_vec())
        };
        assert_eq!(pad("reflect", &[1.0, 2.0, 3.0], &[-1, 3]).unwrap(), [2.0, 3.0, 2.0, 3.0, 2.0]);
        assert_eq!(pad("wrap", &[1.0, 2.0], &[3, 0]).unwrap(), [2.0, 1.0, 2.0, 1.0, 2.0]);
        assert_eq!(pad("reflect", &[1.0], &[1, 1]).unwrap(), [1.0; 3]);
        assert_eq!(pad("constant", &[], &[1, 0]).unwrap(), [0.0]);
        assert!(pad("edge", &[], &[1, 0]).unwrap_err().contains("no elements to pad"));
        assert!(pad("constant", &[1.0], &[-1, -1]).unwrap_err().contains("cannot lose"));
    }

    #[test]
    fn slices_move_bounds_to_what_exists() {
        let cut = |start: i64, end: i64, step: i64| {
            let x = floats(&[4], &[0.0, 1.0, 2.0, 3.0]);
            first("Slice", &[x, ints(&[start]), ints(&[end]), ints(&[0]), ints(&[step])])
                .map(|y| y.elements::<f32>().unwrap().to_vec())
        };
        assert_eq!(cut(i64::MIN, i64::MAX, i64::MAX).unwrap(), [0.0]);
        assert_eq!(cut(i64::MAX, i64::MIN, -2).unwrap(), [3.0, 1.0]);
        assert_eq!(cut(-1, 0, i64::MIN).unwrap(), [3.0]);
        assert_eq!(cut(-1, i64::MAX, -1).unwrap(), [3.0, 2.0, 1.0, 0.0]);
        assert_eq!(cut(2, i64::from(i32::MAX), -2).unwrap(), [2.0, 0.0]);
        assert!(cut(-1, i64::MAX - 1, -1).unwrap().is_empty());
        assert!(cut(3, 1, 1).unwrap().is_empty());
        assert!(cut(0, 1, 0).unwrap_err().contains("step 0"));
    }

    #[test]
    fn scalars_have_no_axes_to_name() {
        let scalar = || floats(&[], &[1.0]);
        assert_eq!(first("Transpose", &[scalar()]).unwrap().rank(), 0);
        assert_eq!(first("Unsqueeze", &[scalar(), ints(&[-1, 0])]).unwrap().shape(), [1, 1]);
        assert!(first("Squeeze", &[scalar(), ints(&[0])]).unwrap_err().contains("outside of the 0 axes"));
        assert!(first("Reshape", &[floats(&[2], &[1.0, 2.0]), ints(&[-1, 3])]).is_err());
    }
}
