//! Elements picked by index, and put at an index. Indices may count from the end; one outside of its axis is an
//! error, if not said otherwise.

use super::movement::{PLACE, around, index, kinds_differ, put, room, select, walk};
use crate::operator::{ai, optional, required};
use crate::shape::{Sources, axis, elements, strides};
use crate::{Build, Kernel, Meter, Numbers, Operator, Problem, Tensor};

pub(super) const TABLE: &[Operator] = &[
    ai("Gather", 1, &["axis"], gather),
    ai("GatherElements", 11, &["axis"], gather_elements),
    ai("GatherND", 11, &["batch_dims"], gather_nd),
    ai("OneHot", 9, &["axis"], one_hot),
    ai("Scatter", 9, &["axis"], scatter_elements),
    ai("ScatterElements", 11, &["axis", "reduction"], scatter_elements),
    ai("ScatterND", 11, &["reduction"], scatter_nd),
    ai("TensorScatter", 24, &["axis", "mode"], tensor_scatter),
];

fn gather(build: &Build<'_>) -> Result<Kernel, Problem> {
    let along = build.attributes.int_or("axis", 0)?;
    Ok(Box::new(move |operands, meter| {
        let (x, indices) = (required(operands, 0)?, required(operands, 1)?);
        let along = axis(along, x.rank())?;
        let (before, len, after) = around(x.shape(), along);
        let mut shape = x.shape().get(..along).unwrap_or(&[]).to_vec();
        shape.extend(indices.shape());
        shape.extend(x.shape().get(along + 1..).unwrap_or(&[]));
        meter.room(indices.shape(), size_of::<i64>())?;
        let picked = indices.integers()?.into_iter().map(|one| index(one, len));
        let picked = picked.collect::<Result<Vec<_>, _>>()?;
        let place =
            |at: usize, index: usize| if at == 1 { picked.get(index).copied().unwrap_or(0) } else { index };
        let x = x.reshaped([before, len, after])?;
        let y = select(&x, vec![before, picked.len(), after], None, meter, &place)?;
        Ok(vec![y.reshaped(shape)?])
    }))
}

/// Where, for each element of `indices`, the element lies in a tensor of `shape` that has the same index, but along
/// one axis the index that is given.
fn places_along(
    shape: &[usize],
    indices: &Tensor,
    along: usize,
    meter: &mut Meter,
) -> Result<Vec<usize>, Problem> {
    let fits = indices.rank() == shape.len()
        && indices.shape().iter().zip(shape).enumerate().all(|(at, (few, all))| few <= all || at == along);
    if !fits {
        return Err(Problem::invalid(format!(
            "indices of the shape {:?} do not fit {shape:?} along axis {along}",
            indices.shape()
        )));
    }
    meter.room(indices.shape(), PLACE + size_of::<i64>())?;
    let mut steps = strides(shape);
    let (len, stride) = (shape.get(along).copied().unwrap_or(0), steps.get(along).copied().unwrap_or(0));
    if let Some(step) = steps.get_mut(along) {
        *step = 0;
    }
    let others = Sources::new(steps, indices.shape().to_vec(), 0);
    others
        .zip(indices.integers()?)
        .map(|(base, one)| Ok(base.saturating_add(index(one, len)?.saturating_mul(stride))))
        .collect()
}

fn gather_elements(build: &Build<'_>) -> Result<Kernel, Problem> {
    let along = build.attributes.int_or("axis", 0)?;
    Ok(Box::new(move |operands, meter| {
        let (x, indices) = (required(operands, 0)?, required(operands, 1)?);
        let along = axis(along, x.rank())?;
        room(meter, indices.shape(), x)?;
        let places = places_along(x.shape(), indices, along, meter)?;
        Ok(vec![Tensor::new(indices.shape(), walk(x.data(), &[places], None)?)?])
    }))
}

/// Where the slices begin that the rows of `indices` point at, and how many elements a slice has.
/// The first `batches` axes are the same in both tensors; the last axis of `indices` has an index for each of the
/// axes that follow.
fn places_nd(
    shape: &[usize],
    indices: &Tensor,
    batches: usize,
    meter: &mut Meter,
) -> Result<(Vec<usize>, usize), Problem> {
    let misfit = || {
        let given = indices.shape();
        Problem::invalid(format!(
            "indices of the shape {given:?} do not fit {shape:?} ({batches} batch axes)"
        ))
    };
    let (&width, rows) = indices.shape().split_last().ok_or_else(misfit)?;
    let deep = batches.checked_add(width).filter(|&deep| deep <= shape.len()).ok_or_else(misfit)?;
    let same = shape.get(..batches).ok_or_else(misfit)?;
    if rows.get(..batches) != Some(same) {
        return Err(misfit());
    }
    let run = elements(shape.get(deep..).unwrap_or(&[])).ok_or_else(misfit)?;
    let count = elements(rows).ok_or_else(misfit)?;
    meter.room(&[count], PLACE)?;
    meter.room(indices.shape(), size_of::<i64>())?;
    let strides = strides(shape);
    let axes: Vec<(usize, usize)> = shape.iter().copied().zip(strides).skip(batches).take(width).collect();
    let batch = elements(same).unwrap_or(0);
    let (each, stride) = (count.checked_div(batch).unwrap_or(0), around(shape, batches.saturating_sub(1)).2);
    let indices = indices.integers()?;
    let mut left = indices.as_slice();
    let mut places = Vec::with_capacity(count);
    for row in 0..count {
        let (one, rest) = left.split_at_checked(width).unwrap_or_default();
        left = rest;
        let batch = if batches == 0 { 0 } else { row.checked_div(each).unwrap_or(0) };
        let mut place = batch.saturating_mul(stride);
        for (&one, &(len, stride)) in one.iter().zip(&axes) {
            place = place.saturating_add(index(one, len)?.saturating_mul(stride));
        }
        places.push(place);
    }
    Ok((places, run))
}

fn gather_nd(build: &Build<'_>) -> Result<Kernel, Problem> {
    let batches = build.attributes.int_or("batch_dims", 0)?;
    let batches = usize::try_from(batches).map_err(|_| {
        Problem::attribute(
            "batch_dims",
            format!("{batches} is not a number of axes"),
            "export the model again",
        )
    })?;
    Ok(Box::new(move |operands, meter| {
        let (x, indices) = (required(operands, 0)?, required(operands, 1)?);
        let (places, run) = places_nd(x.shape(), indices, batches, meter)?;
        let (width, rows) = indices.shape().split_last().unwrap_or((&0, &[]));
        let mut shape = rows.to_vec();
        shape.extend(x.shape().get(batches.saturating_add(*width)..).unwrap_or(&[]));
        if room(meter, &shape, x)? == 0 {
            return Ok(vec![Tensor::new(shape, x.kind().empty())?]);
        }
        Ok(vec![Tensor::new(shape, walk(x.data(), &[places, (0..run).collect()], None)?)?])
    }))
}

/// What becomes of an element that is written to.
#[derive(Clone, Copy, PartialEq)]
enum Reduction {
    None,
    Add,
    Mul,
    Max,
    Min,
}

fn reduction(build: &Build<'_>) -> Result<Reduction, Problem> {
    let text = if build.opset >= 16 { build.attributes.text_or("reduction", "none")? } else { "none" };
    match text {
        "none" => Ok(Reduction::None),
        "add" => Ok(Reduction::Add),
        "mul" => Ok(Reduction::Mul),
        "max" if build.opset >= 18 => Ok(Reduction::Max),
        "min" if build.opset >= 18 => Ok(Reduction::Min),
        text => {
            let message = format!("there is no reduction `{text}` in operator set {}", build.opset);
            Err(Problem::attribute("reduction", message, "use none, add or mul"))
        }
    }
}

/// A copy of `x` with `updates` written to it: blocks of `run` elements, in their order, the last of several to one
/// place wins. What is added to or multiplied is widened first and rounded once, at the end. NaN is the greatest and
/// the smallest.
fn scatter(
    x: &Tensor,
    updates: &Tensor,
    places: &[usize],
    run: usize,
    reduction: Reduction,
    meter: &mut Meter,
) -> Result<Tensor, Problem> {
    if x.kind() != updates.kind() {
        return Err(kinds_differ(x.kind(), updates.kind()));
    }
    meter.room(x.shape(), 8)?;
    meter.work(u64::try_from(updates.len()).unwrap_or(u64::MAX))?;
    let pairs = places
        .iter()
        .flat_map(|&place| (0..run).map(move |at| place.saturating_add(at)))
        .enumerate()
        .map(|(from, to)| (to, from));
    if reduction == Reduction::None {
        let mut data = x.data().clone();
        put(&mut data, updates.data(), pairs)?;
        return Tensor::new(x.shape(), data);
    }
    fn reduce<T: Copy>(
        to: &[T],
        from: &[T],
        pairs: impl Iterator<Item = (usize, usize)>,
        combine: fn(T, T) -> T,
    ) -> Vec<T> {
        let mut to = to.to_vec();
        for (at, from_at) in pairs {
            if let (Some(to), Some(from)) = (to.get_mut(at), from.get(from_at)) {
                *to = combine(*to, *from);
            }
        }
        to
    }
    // The operand that is NaN, or else the greater or the smaller one.
    macro_rules! float {
        () => {
            match reduction {
                Reduction::Mul => |a, b| a * b,
                Reduction::Max => |a, b| if a > b || a != a { a } else { b },
                Reduction::Min => |a, b| if a < b || a != a { a } else { b },
                _ => |a, b| a + b,
            }
        };
    }
    macro_rules! whole {
        ($type:ty) => {
            match reduction {
                Reduction::Mul => <$type>::wrapping_mul,
                Reduction::Max => <$type>::max,
                Reduction::Min => <$type>::min,
                _ => <$type>::wrapping_add,
            }
        };
    }
    let numbers = match (x.numbers()?, updates.numbers()?) {
        (Numbers::F32(to), Numbers::F32(from)) => Numbers::F32(reduce(&to, &from, pairs, float!()).into()),
        (Numbers::F64(to), Numbers::F64(from)) => Numbers::F64(reduce(&to, &from, pairs, float!()).into()),
        (Numbers::I64(to), Numbers::I64(from)) => Numbers::I64(reduce(&to, &from, pairs, whole!(i64)).into()),
        (Numbers::U64(to), Numbers::U64(from)) => Numbers::U64(reduce(&to, &from, pairs, whole!(u64)).into()),
        _ => return Err(kinds_differ(x.kind(), updates.kind())),
    };
    Tensor::new(x.shape(), numbers.narrow(x.kind()))
}

fn scatter_elements(build: &Build<'_>) -> Result<Kernel, Problem> {
    let along = build.attributes.int_or("axis", 0)?;
    let reduction = reduction(build)?;
    Ok(Box::new(move |operands, meter| {
        let (x, indices, updates) = (required(operands, 0)?, required(operands, 1)?, required(operands, 2)?);
        if indices.shape() != updates.shape() {
            return Err(Problem::invalid(format!(
                "indices of the shape {:?} for updates of the shape {:?}",
                indices.shape(),
                updates.shape()
            )));
        }
        let along = axis(along, x.rank())?;
        room(meter, x.shape(), x)?;
        let places = places_along(x.shape(), indices, along, meter)?;
        Ok(vec![scatter(x, updates, &places, 1, reduction, meter)?])
    }))
}

fn scatter_nd(build: &Build<'_>) -> Result<Kernel, Problem> {
    let reduction = reduction(build)?;
    Ok(Box::new(move |operands, meter| {
        let (x, indices, updates) = (required(operands, 0)?, required(operands, 1)?, required(operands, 2)?);
        room(meter, x.shape(), x)?;
        let (places, run) = places_nd(x.shape(), indices, 0, meter)?;
        let (width, rows) = indices.shape().split_last().unwrap_or((&0, &[]));
        let mut shape = rows.to_vec();
        shape.extend(x.shape().get(*width..).unwrap_or(&[]));
        if updates.shape() != shape {
            return Err(Problem::invalid(format!(
                "updates of the shape {:?}, expected {shape:?}",
                updates.shape()
            )));
        }
        Ok(vec![scatter(x, updates, &places, run, reduction, meter)?])
    }))
}

fn tensor_scatter(build: &Build<'_>) -> Result<Kernel, Problem> {
    let along = build.attributes.int_or("axis", -2)?;
    let circular = match build.attributes.text_or("mode", "linear")? {
        "linear" => false,
        "circular" => true,
        mode => {
            let message = format!("there is no mode `{mode}`");
            return Err(Problem::attribute("mode", message, "use `linear` or `circular`"));
        }
    };
    Ok(Box::new(move |operands, meter| {
        let (x, updates) = (required(operands, 0)?, required(operands, 1)?);
        let along = axis(along, x.rank())?;
        let fits = along > 0
            && updates.rank() == x.rank()
            && updates
                .shape()
                .iter()
                .zip(x.shape())
                .enumerate()
                .all(|(at, (new, all))| new == all || (at == along && new < all));
        if !fits {
            return Err(Problem::invalid(format!(
                "an update of the shape {:?} does not fit {:?} along axis {along}",
                updates.shape(),
                x.shape()
            )));
        }
        let batches = x.shape().first().copied().unwrap_or(0);
        let starts = match optional(operands, 2) {
            Some(starts) => starts.integers()?,
            None => vec![0; batches],
        };
        if starts.len() != batches {
            return Err(Problem::invalid(format!("{} write indices for a batch of {batches}", starts.len())));
        }
        let (before, len, after) = around(x.shape(), along);
        let new = updates.shape().get(along).copied().unwrap_or(0);
        room(meter, x.shape(), x)?;
        if updates.is_empty() {
            return Ok(vec![x.clone()]);
        }
        meter.room(&[before, new], PLACE)?;
        let mut places = Vec::with_capacity(before.saturating_mul(new));
        let each = before.checked_div(batches).unwrap_or(1).max(1);
        for row in 0..before {
            let start = starts.get(row / each).copied().unwrap_or(0);
            let whole = i64::try_from(len).unwrap_or(i64::MAX);
            let start = if circular { start.checked_rem_euclid(whole).unwrap_or(0) } else { start };
            let start =
                usize::try_from(start).ok().filter(|start| circular || start.saturating_add(new) <= len);
            let start = start.ok_or_else(|| {
                Problem::invalid(format!(
                    "{new} steps cannot be written at {:?} of {len}",
                    starts.get(row / each)
                ))
            })?;
            for step in 0..new {
                let at = start.saturating_add(step).checked_rem(len).unwrap_or(0);
                places.push(row.saturating_mul(len).saturating_add(at).saturating_mul(after));
            }
        }
        Ok(vec![scatter(x, updates, &places, after, Reduction::None, meter)?])
    }))
}

/// An index outside of the new axis makes none of its elements the one.
fn one_hot(build: &Build<'_>) -> Result<Kernel, Problem> {
    let along = build.attributes.int_or("axis", -1)?;
    Ok(Box::new(move |operands, meter| {
        let (indices, depth, values) =
            (required(operands, 0)?, required(operands, 1)?, required(operands, 2)?);
        let along = axis(along, indices.rank().saturating_add(1))?;
        let depth = match depth.doubles()?.as_slice() {
            [one] if *one >= 1.0 => *one as usize,
            [one] => return Err(Problem::invalid(format!("a depth of {one}"))),
            all => return Err(Problem::invalid(format!("{} depths, expected one", all.len()))),
        };
        if values.shape() != [2] {
            return Err(Problem::invalid(format!(
                "`values` has the shape {:?}, expected [2]",
                values.shape()
            )));
        }
        let mut shape = indices.shape().to_vec();
        shape.insert(along, depth);
        if room(meter, &shape, values)? == 0 {
            return Ok(vec![Tensor::new(shape, values.kind().empty())?]);
        }
        meter.room(indices.shape(), size_of::<f64>())?;
        meter.room(&[depth], PLACE)?;
        let (before, _, after) = around(&shape, along);
        let mut data = walk(values.data(), &[vec![0; before], vec![0; depth], vec![0; after]], None)?;
        // Counted as NumPy casts floats to integers: towards zero.
        let whole: Vec<i64> = match indices.numbers()? {
            Numbers::F32(all) => all.iter().map(|&one| one as i64).collect(),
            Numbers::F64(all) => all.iter().map(|&one| one as i64).collect(),
            _ => indices.integers()?,
        };
        let ones = whole.iter().enumerate().filter_map(|(at, &one)| {
            let (row, column) = (at.checked_div(after)?, at.checked_rem(after)?);
            Some((
                row.saturating_mul(depth)
                    .saturating_add(index(one, depth).ok()?)
                    .saturating_mul(after)
                    .saturating_add(column),
                1,
            ))
        });
        put(&mut data, values.data(), ones)?;
        Ok(vec![Tensor::new(shape, data)?])
    }))
}

#[cfg(test)]
mod tests {
    use crate::ops::movement::tests::{floats, ints, run};
    use crate::{Attribute, Tensor};

    #[test]
    fn an_index_outside_is_an_error() {
        let x = || floats(&[2], &[1.0, 2.0]);
        assert_eq!(run("Gather", &[], &[x(), ints(&[-2])]).unwrap()[0], floats(&[1], &[1.0]).unwrap());
        for at in [-3, 2, i64::MIN, i64::MAX] {
            let problem = run("Gather", &[], &[x(), ints(&[at])]).unwrap_err();
            assert_eq!(problem, format!("index {at} is outside of an axis of length 2"));
        }
        assert!(run("Gather", &[], &[floats(&[0], &[]), ints(&[0])]).is_err());
        assert_eq!(run("Gather", &[], &[floats(&[0], &[]), ints(&[])]).unwrap()[0].shape(), [0]);
    }

    #[test]
    fn nan_is_kept_by_max_and_min() {
        for how in ["max", "min"] {
            let how = [("reduction", Attribute::Text(how.to_owned()))];
            let operands = [floats(&[2], &[f32::NAN, 1.0]), ints(&[0, 1]), floats(&[2], &[1.0, f32::NAN])];
            let y = run("ScatterElements", &how, &operands).unwrap();
            assert!(y[0].elements::<f32>().unwrap().iter().all(|y| y.is_nan()));
        }
    }

    #[test]
    fn updates_are_of_the_kind_of_the_data() {
        let problem = run("ScatterElements", &[], &[floats(&[1], &[1.0]), ints(&[0]), ints(&[1])]);
        assert!(problem.unwrap_err().contains("float and int64"));
    }

    #[test]
    fn a_hostile_depth_is_refused() {
        for depth in [0, -1, i64::MAX] {
            let operands = [ints(&[0]), Some(Tensor::scalar(depth)), ints(&[0, 1])];
            assert!(run("OneHot", &[], &operands).is_err());
        }
    }
}
