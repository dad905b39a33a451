//! Tensors that are made, or partly filled: constants, ranges, triangles, images from columns.

use std::ops::AddAssign;

use super::{around, element, kinds_differ, length, lengths, put, room, walk};
use crate::operator::{optional, required};
use crate::shape::{elements, strides};
use crate::{Build, Kernel, Kind, Meter, Numbers, Problem, Tensor};

pub(super) fn constant(build: &Build<'_>) -> Result<Kernel, Problem> {
    let all = &build.attributes;
    let value = if let Some(value) = all.tensor("value")? {
        value.clone()
    } else if let Some(value) = all.float("value_float")? {
        Tensor::scalar(value)
    } else if let Some(values) = all.floats("value_floats")? {
        Tensor::vector(values.to_vec())
    } else if let Some(value) = all.int("value_int")? {
        Tensor::scalar(value)
    } else if let Some(values) = all.ints("value_ints")? {
        Tensor::vector(values.to_vec())
    } else if let Some(value) = all.text("value_string")? {
        Tensor::scalar(value.to_owned())
    } else if let Some(values) = all.texts("value_strings")? {
        Tensor::vector(values.to_vec())
    } else {
        return Err(Problem::attribute("value", "it is missing", "sparse constants are not supported"));
    };
    Ok(Box::new(move |_, _| Ok(vec![value.clone()])))
}

pub(super) fn constant_of_shape(build: &Build<'_>) -> Result<Kernel, Problem> {
    let value = build.attributes.tensor("value")?.cloned().unwrap_or_else(|| Tensor::scalar(0.0_f32));
    if value.len() != 1 {
        let message = format!("it has {} elements, expected one", value.len());
        return Err(Problem::attribute("value", message, "export the model again"));
    }
    Ok(Box::new(move |operands, meter| {
        let shape = lengths(required(operands, 0)?)?;
        Ok(vec![filled(shape, &value, meter)?])
    }))
}

/// The only element of `value`, all over this shape.
fn filled(shape: Vec<usize>, value: &Tensor, meter: &mut Meter) -> Result<Tensor, Problem> {
    if room(meter, &shape, value)? == 0 {
        return Tensor::new(shape, value.kind().empty());
    }
    let lists: Vec<Vec<usize>> = shape.iter().map(|&len| vec![0; len]).collect();
    Tensor::new(shape, walk(value.data(), &lists, None)?)
}

/// `start + index * delta` for each index, computed in the type of the operands; of half precision in single
/// precision.
pub(super) fn range(build: &Build<'_>) -> Result<Kernel, Problem> {
    let stash = if build.opset >= 27 { build.attributes.int_or("stash_type", 1)? } else { 1 };
    if stash != 1 {
        let message = format!("type {stash} for what is in between is not supported");
        return Err(Problem::attribute("stash_type", message, "use float (1)"));
    }
    Ok(Box::new(|operands, meter| {
        let (start, limit, delta) = (required(operands, 0)?, required(operands, 1)?, required(operands, 2)?);
        let kind = start.kind();
        for other in [limit, delta] {
            if other.kind() != kind {
                return Err(kinds_differ(kind, other.kind()));
            }
        }
        let steps =
            match (start.doubles()?.as_slice(), limit.doubles()?.as_slice(), delta.doubles()?.as_slice()) {
                (&[start], &[limit], &[delta]) if delta != 0.0 => ((limit - start) / delta).ceil(),
                (&[_], &[_], &[_]) => return Err(Problem::invalid("a range with steps of 0")),
                _ => return Err(Problem::invalid("the bounds of a range are one number each")),
            };
        let whole = |tensor: &Tensor| Ok::<_, Problem>(i128::from(tensor.integer()?));
        let count = match (start.numbers()?, delta.numbers()?) {
            (Numbers::F32(_) | Numbers::F64(_), _) if steps.is_finite() => steps.max(0.0) as usize,
            (Numbers::F32(_) | Numbers::F64(_), _) => {
                return Err(Problem::invalid("the bounds of a range are not finite"));
            }
            _ => {
                let (start, limit, delta) = (whole(start)?, whole(limit)?, whole(delta)?);
                let (distance, step) =
                    if delta < 0 { (start - limit, -delta) } else { (limit - start, delta) };
                usize::try_from((distance.max(0) + step - 1) / step).unwrap_or(usize::MAX)
            }
        };
        meter.room(&[count], kind.size())?;
        let numbers = match (start.numbers()?, delta.numbers()?) {
            (Numbers::F32(start), Numbers::F32(delta)) => {
                let pair = start.first().zip(delta.first());
                Numbers::F32((0..count).filter_map(|at| pair.map(|(a, b)| a + at as f32 * b)).collect())
            }
            (Numbers::F64(start), Numbers::F64(delta)) => {
                let pair = start.first().zip(delta.first());
                Numbers::F64((0..count).filter_map(|at| pair.map(|(a, b)| a + at as f64 * b)).collect())
            }
            _ => {
                let (start, delta) = (start.integer()?, delta.integer()?);
                Numbers::I64(
                    (0..count).map(|at| start.wrapping_add((at as i64).wrapping_mul(delta))).collect(),
                )
            }
        };
        Ok(vec![Tensor::new([count], numbers.narrow(kind))?])
    }))
}

/// Rows, columns, and the number of matrices of a tensor of matrices.
fn matrices(x: &Tensor) -> Result<(usize, usize, usize), Problem> {
    match x.shape() {
        [.., rows, columns] => Ok((*rows, *columns, around(x.shape(), x.rank().saturating_sub(2)).0)),
        shape => Err(Problem::invalid(format!("the shape {shape:?} has fewer than two axes"))),
    }
}

fn signed(len: usize) -> i64 {
    i64::try_from(len).unwrap_or(i64::MAX)
}

pub(super) fn eye_like(build: &Build<'_>) -> Result<Kernel, Problem> {
    let k = build.attributes.int_or("k", 0)?;
    let kind = match build.attributes.int("dtype")? {
        None => None,
        Some(number) => {
            let kind = Kind::from_number(number).filter(|&kind| kind != Kind::Text);
            Some(kind.ok_or_else(|| {
                let message = format!("there are no numbers of type {number} here");
                Problem::attribute("dtype", message, "export with another type")
            })?)
        }
    };
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        let (rows, columns, _) = matrices(x)?;
        if x.rank() != 2 {
            return Err(Problem::invalid(format!("the shape {:?} is not that of a matrix", x.shape())));
        }
        let kind = kind.unwrap_or(x.kind());
        if kind == Kind::Text {
            return Err(Problem::invalid("expected numbers, found string"));
        }
        let mut data = kind.zeros(meter.room(x.shape(), kind.size())?);
        let rows = if data.is_empty() { 0 } else { rows };
        let diagonal = (0..rows).filter_map(|row| {
            let column = usize::try_from(signed(row).saturating_add(k)).ok()?;
            (column < columns).then(|| (row * columns + column, 0))
        });
        put(&mut data, &element(kind, 1.0), diagonal)?;
        Ok(vec![Tensor::new(x.shape(), data)?])
    }))
}

pub(super) fn trilu(build: &Build<'_>) -> Result<Kernel, Problem> {
    let upper = build.attributes.flag("upper", true)?;
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        let k = optional(operands, 1).map(Tensor::integer).transpose()?.unwrap_or(0);
        let (rows, columns, count) = matrices(x)?;
        let mut data = x.kind().zeros(room(meter, x.shape(), x)?);
        if data.is_empty() {
            return Ok(vec![x.clone()]);
        }
        let all =
            (0..count.saturating_mul(rows)).flat_map(|row| (0..columns).map(move |column| (row, column)));
        let kept = all.filter_map(|(row, column)| {
            let diagonal = signed(row % rows).saturating_add(k);
            let keep = if upper { signed(column) >= diagonal } else { signed(column) <= diagonal };
            keep.then(|| (row * columns + column, row * columns + column))
        });
        put(&mut data, x.data(), kept)?;
        Ok(vec![Tensor::new(x.shape(), data)?])
    }))
}

/// Columns of windows back to images: where windows overlap, elements are summed, first in the order of places in a
/// window, then of windows.
pub(super) fn col2im(build: &Build<'_>) -> Result<Kernel, Problem> {
    let given = |name: &str| -> Result<Option<Vec<usize>>, Problem> {
        let Some(values) = build.attributes.ints(name)? else { return Ok(None) };
        let values = values.iter().map(|&value| length(value)).collect::<Result<Vec<_>, _>>();
        values
            .map(Some)
            .map_err(|problem| Problem::attribute(name, problem.to_string(), "lengths are 0 or more"))
    };
    let (dilations, pads, steps) = (given("dilations")?, given("pads")?, given("strides")?);
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        let (image, block) = (lengths(required(operands, 1)?)?, lengths(required(operands, 2)?)?);
        let rank = image.len();
        let ones = vec![1; rank];
        let none = vec![0; rank.saturating_mul(2)];
        let (dilations, steps) = (dilations.as_ref().unwrap_or(&ones), steps.as_ref().unwrap_or(&ones));
        let pads = pads.as_ref().unwrap_or(&none);
        let (before, behind) = pads.split_at_checked(rank).unwrap_or_default();
        let [batch, depth, columns] = *x.shape() else {
            return Err(Problem::invalid(format!("the shape {:?} is not [N, C, L]", x.shape())));
        };
        let lens = [block.len(), dilations.len(), steps.len(), before.len(), behind.len()];
        if lens.iter().any(|&len| len != rank) {
            return Err(Problem::invalid(format!("lengths for other than {rank} axes: {lens:?}")));
        }
        let mut windows = Vec::with_capacity(rank);
        for at in 0..rank {
            let entry = |all: &[usize]| all.get(at).copied().unwrap_or(0);
            let reach = entry(dilations).saturating_mul(entry(&block).saturating_sub(1)).saturating_add(1);
            let whole = entry(&image).saturating_add(entry(before)).saturating_add(entry(behind));
            let free = whole.checked_sub(reach).and_then(|free| free.checked_div(entry(steps)));
            windows.push(free.map_or(0, |free| free.saturating_add(1)));
        }
        let area = elements(&block).unwrap_or(0);
        if elements(&windows) != Some(columns) || area == 0 || depth % area != 0 {
            return Err(Problem::invalid(format!(
                "the shape {:?} does not hold windows {block:?} at {windows:?} places",
                x.shape()
            )));
        }
        let mut shape = vec![batch, depth / area];
        shape.extend(&image);
        // Widened elements take up to eight bytes each.
        let count = meter.room(&shape, 8)?;
        let rows = batch.saturating_mul(depth);
        meter.work(u64::try_from(x.len().saturating_mul(4).saturating_add(rows)).unwrap_or(u64::MAX))?;
        let size = elements(&image).unwrap_or(0);
        let places = Windows { image: &image, block: &block, windows: &windows, dilations, steps, before };
        let mut pairs = |add: &mut dyn FnMut(usize, usize)| {
            for (plane, row) in (0..rows).enumerate() {
                let base = (plane / area).saturating_mul(size);
                places.each(row % area, &mut |column, place| {
                    add(base.saturating_add(place), row.saturating_mul(columns).saturating_add(column));
                });
            }
        };
        let sums = match x.numbers()? {
            Numbers::F32(all) => Numbers::F32(sum(&all, count, &mut pairs).into()),
            Numbers::F64(all) => Numbers::F64(sum(&all, count, &mut pairs).into()),
            Numbers::I64(all) => {
                let all: Vec<_> = all.iter().map(|&one| std::num::Wrapping(one)).collect();
                Numbers::I64(sum(&all, count, &mut pairs).into_iter().map(|one| one.0).collect())
            }
            Numbers::U64(all) => {
                let all: Vec<_> = all.iter().map(|&one| std::num::Wrapping(one)).collect();
                Numbers::U64(sum(&all, count, &mut pairs).into_iter().map(|one| one.0).collect())
            }
        };
        Ok(vec![Tensor::new(shape, sums.narrow(x.kind()))?])
    }))
}

type Pairs<'a> = dyn FnMut(&mut dyn FnMut(usize, usize)) + 'a;

fn sum<T: Copy + Default + AddAssign>(from: &[T], count: usize, pairs: &mut Pairs<'_>) -> Vec<T> {
    let mut sums = vec![T::default(); count];
    pairs(&mut |to, at| {
        if let (Some(to), Some(from)) = (sums.get_mut(to), from.get(at)) {
            *to += *from;
        }
    });
    sums
}

/// Windows of the lengths `block` that move over an image.
struct Windows<'a> {
    image: &'a [usize],
    block: &'a [usize],
    windows: &'a [usize],
    dilations: &'a [usize],
    steps: &'a [usize],
    before: &'a [usize],
}

impl Windows<'_> {
    /// For the place `within` of a window, the number of each window and where in the image that place lies, unless
    /// it lies outside.
    fn each(&self, within: usize, found: &mut dyn FnMut(usize, usize)) {
        let (inner, strides) = (strides(self.block), strides(self.image));
        let axis = |at: usize| -> Option<(usize, usize, usize, usize)> {
            let offset = (within / inner.get(at)?.max(&1)) % self.block.get(at)?.max(&1);
            let offset = offset.saturating_mul(*self.dilations.get(at)?);
            Some((offset, *self.steps.get(at)?, *self.before.get(at)?, *self.image.get(at)?))
        };
        let axes: Vec<_> = (0..self.windows.len()).filter_map(axis).collect();
        for window in 0..elements(self.windows).unwrap_or(0) {
            let mut rest = window;
            let mut place = Some(0_usize);
            for ((&(offset, step, before, len), &stride), &count) in
                axes.iter().zip(&strides).zip(self.windows).rev()
            {
                let at = (rest % count.max(1)).saturating_mul(step).saturating_add(offset);
                rest /= count.max(1);
                let at = at.checked_sub(before).filter(|&at| at < len);
                place = place.zip(at).map(|(place, at)| place.saturating_add(at.saturating_mul(stride)));
            }
            if let Some(place) = place {
                found(window, place);
            }
        }
    }
}
