//! Order, selection and sets.
//!
//! Numbers are compared as 64-bit keys that keep their order: -0 equals 0, NaN equals NaN and is greater than
//! everything else (as NumPy sorts).

use std::cmp::Ordering;

use super::movement::{ABSENT, PLACE, around, length, room, select, walk};
use crate::operator::{ai, optional, required};
use crate::shape::{axis, strides};
use crate::{Build, Data, Kernel, Meter, Numbers, Operator, Problem, Tensor};

pub(super) const TABLE: &[Operator] = &[
    ai("Compress", 9, &["axis"], compress),
    ai("CumProd", 26, &["exclusive", "reverse"], cum_prod),
    ai("CumSum", 11, &["exclusive", "reverse"], cum_sum),
    ai("NonMaxSuppression", 10, &["center_point_box"], non_max_suppression),
    ai("NonZero", 9, &[], non_zero),
    ai("TopK", 1, &["axis", "k", "largest", "sorted"], top_k),
    ai("Unique", 11, &["axis", "sorted"], unique),
];

fn many(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn signed(place: usize) -> i64 {
    i64::try_from(place).unwrap_or(i64::MAX)
}

/// A key for each element, in the order of the elements.
fn keys(x: &Tensor, meter: &mut Meter) -> Result<Vec<u64>, Problem> {
    const SIGN: u64 = 1 << 63;
    fn key(number: f64) -> u64 {
        if number.is_nan() {
            return u64::MAX;
        }
        // Adding 0 makes 0 of -0.
        let bits = (number + 0.0).to_bits();
        if bits & SIGN == 0 { bits | SIGN } else { !bits }
    }
    meter.room(x.shape(), 3 * size_of::<u64>())?;
    if let Data::Text(texts) = x.data() {
        meter.work(sorting(texts.len()))?;
        let mut sorted: Vec<&String> = texts.iter().collect();
        sorted.sort_unstable();
        sorted.dedup();
        return Ok(texts.iter().map(|text| many(sorted.binary_search(&text).unwrap_or(0))).collect());
    }
    Ok(match x.numbers()? {
        Numbers::F32(all) => all.iter().map(|&one| key(f64::from(one))).collect(),
        Numbers::F64(all) => all.iter().map(|&one| key(one)).collect(),
        Numbers::I64(all) => all.iter().map(|&one| one as u64 ^ SIGN).collect(),
        Numbers::U64(all) => all.into_owned(),
    })
}

/// Comparisons that sorting takes, about.
fn sorting(count: usize) -> u64 {
    many(count).saturating_mul(u64::from(count.checked_ilog2().unwrap_or(0)) + 1)
}

/// The least or the greatest elements, of equal ones those that come first. They are always sorted: without `sorted`,
/// any order will do.
fn top_k(build: &Build<'_>) -> Result<Kernel, Problem> {
    let along = build.attributes.int_or("axis", -1)?;
    let fixed = if build.opset < 10 { build.attributes.int("k")? } else { None };
    let largest = build.attributes.flag("largest", true)?;
    build.attributes.have_no_effect(&["sorted"]);
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        let k = fixed.map_or_else(|| required(operands, 1)?.integer(), Ok)?;
        let along = axis(along, x.rank())?;
        let (before, len, after) = around(x.shape(), along);
        let k = usize::try_from(k).ok().filter(|&k| k <= len).ok_or_else(|| {
            Problem::invalid(format!("the {k} greatest or least of {len} elements are asked for"))
        })?;
        let mut shape = x.shape().to_vec();
        if let Some(place) = shape.get_mut(along) {
            *place = k;
        }
        let count = meter.room(&shape, 4 * PLACE)?;
        room(meter, &shape, x)?;
        let keys = keys(x, meter)?;
        meter.work(sorting(x.len()))?;
        let mut places = vec![0; count];
        let mut indices = vec![0; count];
        for lane in 0..if count == 0 { 0 } else { before.saturating_mul(after) } {
            let (row, column) = (lane / after, lane % after);
            let start = row * len * after + column;
            let mut order: Vec<(u64, usize)> = (0..len)
                .map(|at| {
                    let key = keys.get(start + at * after).copied().unwrap_or(0);
                    (if largest { !key } else { key }, at)
                })
                .collect();
            if k < len {
                order.select_nth_unstable(k);
                order.truncate(k);
            }
            order.sort_unstable();
            for (rank, (_, at)) in order.into_iter().enumerate() {
                let to = (row * k + rank) * after + column;
                if let (Some(place), Some(index)) = (places.get_mut(to), indices.get_mut(to)) {
                    (*place, *index) = (start + at * after, signed(at));
                }
            }
        }
        let values = Tensor::new(shape.as_slice(), walk(x.data(), &[places], None)?)?;
        Ok(vec![values, Tensor::of(shape, indices)?])
    }))
}

/// Whether an element is something: a number but 0 (NaN is something), or a text that is not empty.
fn somethings(x: &Tensor) -> Result<Vec<bool>, Problem> {
    Ok(match x.data() {
        Data::Text(texts) => texts.iter().map(|text| !text.is_empty()).collect(),
        _ => match x.numbers()? {
            Numbers::F32(all) => all.iter().map(|&one| one != 0.0).collect(),
            Numbers::F64(all) => all.iter().map(|&one| one != 0.0).collect(),
            Numbers::I64(all) => all.iter().map(|&one| one != 0).collect(),
            Numbers::U64(all) => all.iter().map(|&one| one != 0).collect(),
        },
    })
}

fn non_zero(_: &Build<'_>) -> Result<Kernel, Problem> {
    Ok(Box::new(|operands, meter| {
        let x = required(operands, 0)?;
        let rank = x.rank();
        meter.room(x.shape(), size_of::<u64>())?;
        let all = somethings(x)?;
        let found: Vec<usize> = all.iter().enumerate().filter(|(_, is)| **is).map(|(at, _)| at).collect();
        let count = meter.room(&[rank, found.len()], size_of::<i64>())?;
        let mut indices = Vec::with_capacity(count);
        for (stride, &len) in strides(x.shape()).into_iter().zip(x.shape()) {
            indices.extend(found.iter().map(|at| signed(at / stride.max(1) % len.max(1))));
        }
        Ok(vec![Tensor::of([rank, found.len()], indices)?])
    }))
}

fn compress(build: &Build<'_>) -> Result<Kernel, Problem> {
    let along = build.attributes.int("axis")?;
    Ok(Box::new(move |operands, meter| {
        let (x, condition) = (required(operands, 0)?, required(operands, 1)?);
        let (x, along) = match along {
            Some(along) => (x.clone(), axis(along, x.rank())?),
            None => (x.reshaped([x.len()])?, 0),
        };
        let len = x.shape().get(along).copied().unwrap_or(0);
        meter.room(condition.shape(), PLACE)?;
        let kept = condition.elements::<bool>()?.iter().enumerate().filter(|(_, is)| **is);
        let kept: Vec<usize> = kept.map(|(at, _)| at).collect();
        if let Some(at) = kept.iter().find(|&&at| at >= len) {
            return Err(Problem::invalid(format!("element {at} is to be kept, of {len} along axis {along}")));
        }
        Ok(vec![slices(&x, along, &kept, meter)?])
    }))
}

/// The slices at these indices of an axis.
fn slices(x: &Tensor, along: usize, kept: &[usize], meter: &mut Meter) -> Result<Tensor, Problem> {
    let mut shape = x.shape().to_vec();
    if let Some(len) = shape.get_mut(along) {
        *len = kept.len();
    }
    let place = |at: usize, index: usize| {
        if at == along { kept.get(index).copied().unwrap_or(ABSENT) } else { index }
    };
    select(x, shape, None, meter, &place)
}

/// Slices are compared element by element; the first of equal ones stands for all of them.
fn unique(build: &Build<'_>) -> Result<Kernel, Problem> {
    let along = build.attributes.int("axis")?;
    let sorted = build.attributes.flag("sorted", true)?;
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        let (x, along) = match along {
            Some(along) => (x.clone(), axis(along, x.rank())?),
            None => (x.reshaped([x.len()])?, 0),
        };
        let (before, len, after) = around(x.shape(), along);
        let keys = keys(&x, meter)?;
        let slice = before.saturating_mul(after);
        meter.room(&[len], 8 * PLACE)?;
        meter.work(sorting(len).saturating_mul(many(slice.max(1))))?;
        let compare = |a: usize, b: usize| -> Ordering {
            let key = |at: usize, part: usize| {
                keys.get(((part / after) * len + at) * after + part % after).copied()
            };
            (0..slice)
                .map(|part| key(a, part).cmp(&key(b, part)))
                .find(|order| order.is_ne())
                .unwrap_or(Ordering::Equal)
        };
        let mut order: Vec<usize> = (0..len).collect();
        order.sort_unstable_by(|&a, &b| compare(a, b).then(a.cmp(&b)));
        // For each different slice, in order, the first that is like it, and how many there are.
        let mut groups: Vec<(usize, i64)> = Vec::new();
        let mut group_of = vec![0_usize; len];
        for at in order {
            match groups.last_mut() {
                Some((first, count)) if compare(*first, at).is_eq() => *count += 1,
                _ => groups.push((at, 1)),
            }
            if let Some(group) = group_of.get_mut(at) {
                *group = groups.len() - 1;
            }
        }
        let mut rank: Vec<usize> = (0..groups.len()).collect();
        if !sorted {
            let mut by_place: Vec<(usize, usize)> =
                groups.iter().enumerate().map(|(group, (first, _))| (*first, group)).collect();
            by_place.sort_unstable();
            for (place, (_, group)) in by_place.into_iter().enumerate() {
                if let Some(rank) = rank.get_mut(group) {
                    *rank = place;
                }
            }
            groups.sort_unstable();
        }
        let firsts: Vec<usize> = groups.iter().map(|(first, _)| *first).collect();
        let inverse = group_of.iter().map(|&group| signed(rank.get(group).copied().unwrap_or(0)));
        Ok(vec![
            slices(&x, along, &firsts, meter)?,
            Tensor::vector(firsts.iter().map(|&first| signed(first)).collect()),
            Tensor::vector(inverse.collect()),
            Tensor::vector(groups.iter().map(|(_, count)| *count).collect()),
        ])
    }))
}

/// What comes of each element and those before it, along an axis. Half precision is rounded once, at the end.
fn cumulate(build: &Build<'_>, product: bool) -> Result<Kernel, Problem> {
    fn run<T: Copy>(from: &[T], first: T, lanes: &Lanes, combine: fn(T, T) -> T) -> Vec<T> {
        let mut to = from.to_vec();
        let (len, after) = (lanes.len, lanes.after);
        for lane in 0..lanes.before.saturating_mul(after) {
            let start = (lane / after) * len * after + lane % after;
            let mut so_far = first;
            for step in 0..len {
                let at = start + if lanes.reverse { len - 1 - step } else { step } * after;
                let Some(place) = to.get_mut(at) else { continue };
                let with = combine(so_far, *place);
                *place = if lanes.exclusive { so_far } else { with };
                so_far = with;
            }
        }
        to
    }
    struct Lanes {
        before: usize,
        len: usize,
        after: usize,
        exclusive: bool,
        reverse: bool,
    }
    let (exclusive, reverse) =
        (build.attributes.flag("exclusive", false)?, build.attributes.flag("reverse", false)?);
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        let along = axis(required(operands, 1)?.integer()?, x.rank())?;
        let (before, len, after) = around(x.shape(), along);
        let lanes = Lanes { before, len, after, exclusive, reverse };
        meter.room(x.shape(), 2 * size_of::<u64>())?;
        if x.is_empty() {
            return Ok(vec![x.clone()]);
        }
        let numbers = match (x.numbers()?, product) {
            (Numbers::F32(all), false) => Numbers::F32(run(&all, 0.0, &lanes, |a, b| a + b).into()),
            (Numbers::F64(all), false) => Numbers::F64(run(&all, 0.0, &lanes, |a, b| a + b).into()),
            (Numbers::I64(all), false) => Numbers::I64(run(&all, 0, &lanes, i64::wrapping_add).into()),
            (Numbers::U64(all), false) => Numbers::U64(run(&all, 0, &lanes, u64::wrapping_add).into()),
            (Numbers::F32(all), true) => Numbers::F32(run(&all, 1.0, &lanes, |a, b| a * b).into()),
            (Numbers::F64(all), true) => Numbers::F64(run(&all, 1.0, &lanes, |a, b| a * b).into()),
            (Numbers::I64(all), true) => Numbers::I64(run(&all, 1, &lanes, i64::wrapping_mul).into()),
            (Numbers::U64(all), true) => Numbers::U64(run(&all, 1, &lanes, u64::wrapping_mul).into()),
        };
        Ok(vec![Tensor::new(x.shape(), numbers.narrow(x.kind()))?])
    }))
}

fn cum_sum(build: &Build<'_>) -> Result<Kernel, Problem> {
    cumulate(build, false)
}

fn cum_prod(build: &Build<'_>) -> Result<Kernel, Problem> {
    cumulate(build, true)
}

/// A box by its corners: the least and the greatest of each coordinate.
#[derive(Clone, Copy)]
struct Corners {
    least: [f32; 2],
    most: [f32; 2],
}

impl Corners {
    fn new(given: [f32; 4], centred: bool) -> Self {
        let [a, b, c, d] = given;
        if centred {
            Self { least: [a - c / 2.0, b - d / 2.0], most: [a + c / 2.0, b + d / 2.0] }
        } else {
            Self { least: [a.min(c), b.min(d)], most: [a.max(c), b.max(d)] }
        }
    }

    fn area(&self) -> f32 {
        (self.most[0] - self.least[0]) * (self.most[1] - self.least[1])
    }

    /// Whether the part that both share is more than `limit` of what they cover together.
    fn overlaps(&self, other: &Self, limit: f32) -> bool {
        let shared = Self {
            least: [self.least[0].max(other.least[0]), self.least[1].max(other.least[1])],
            most: [self.most[0].min(other.most[0]), self.most[1].min(other.most[1])],
        };
        let apart = shared.most[0] <= shared.least[0] || shared.most[1] <= shared.least[1];
        let both = shared.area();
        let together = self.area() + other.area() - both;
        !apart
            && both > 0.0
            && self.area() > 0.0
            && other.area() > 0.0
            && together > 0.0
            && both / together > limit
    }
}

/// For each batch and class, boxes by falling score (of equal ones the first), without those that overlap too much
/// with one before. A score that is NaN comes last.
fn non_max_suppression(build: &Build<'_>) -> Result<Kernel, Problem> {
    let centred = build.attributes.flag("center_point_box", false)?;
    Ok(Box::new(move |operands, meter| {
        let (boxes, scores) = (required(operands, 0)?, required(operands, 1)?);
        let (&[batches, count, 4], &[same, classes, scored]) = (boxes.shape(), scores.shape()) else {
            return Err(Problem::invalid(format!(
                "boxes of the shape {:?}, scores of {:?}: expected [N, B, 4] and [N, C, B]",
                boxes.shape(),
                scores.shape()
            )));
        };
        if (same, scored) != (batches, count) {
            return Err(Problem::invalid(format!(
                "scores of the shape {:?} do not fit {count} boxes in {batches} batches",
                scores.shape()
            )));
        }
        let number = |index: usize| -> Result<Option<f32>, Problem> {
            match optional(operands, index).map(Tensor::elements::<f32>).transpose()? {
                None | Some([]) => Ok(None),
                Some([one]) => Ok(Some(*one)),
                Some(all) => {
                    Err(Problem::invalid(format!("operand {index} has {} numbers, expected one", all.len())))
                }
            }
        };
        let most = match optional(operands, 2) {
            Some(most) if !most.is_empty() => length(most.integer()?.max(0))?.min(count),
            _ => 0,
        };
        let (limit, threshold) = (number(3)?.unwrap_or(0.0), number(4)?);
        meter.room(&[batches, classes, most, 3], size_of::<i64>())?;
        meter.room(&[count], 64)?;
        meter.work(many(batches).saturating_mul(many(classes)))?;
        let (boxes, scores) = (boxes.elements::<f32>()?, scores.elements::<f32>()?);
        let mut found = Vec::new();
        for lane in 0..batches.saturating_mul(classes) {
            let batch = lane / classes;
            let corners: Vec<Corners> = boxes
                .chunks_exact(4)
                .skip(batch.saturating_mul(count))
                .take(count)
                .filter_map(|given| Some(Corners::new(<[f32; 4]>::try_from(given).ok()?, centred)))
                .collect();
            let own = scores.iter().skip(lane.saturating_mul(count)).take(count).copied().enumerate();
            let mut order: Vec<(usize, f32)> =
                own.filter(|(_, score)| threshold.is_none_or(|threshold| *score > threshold)).collect();
            meter.work(sorting(order.len()))?;
            let nan_last = |score: f32| if score.is_nan() { f32::NEG_INFINITY } else { score };
            order.sort_by(|a, b| nan_last(b.1).partial_cmp(&nan_last(a.1)).unwrap_or(Ordering::Equal));
            let mut chosen: Vec<Corners> = Vec::new();
            for (at, _) in order {
                if chosen.len() >= most {
                    break;
                }
                let Some(corner) = corners.get(at) else { continue };
                meter.work(many(chosen.len()).saturating_mul(8))?;
                if !chosen.iter().any(|other| corner.overlaps(other, limit)) {
                    chosen.push(*corner);
                    found.extend([signed(batch), signed(lane % classes), signed(at)]);
                }
            }
        }
        Ok(vec![Tensor::of([found.len() / 3, 3], found)?])
    }))
}

#[cfg(test)]
mod tests {
    use crate::Tensor;
    use crate::ops::movement::tests::{floats, ints, run};

    #[test]
    fn nan_is_the_greatest_and_zeros_are_equal() {
        let x = floats(&[5], &[-0.0, f32::NAN, 0.0, f32::INFINITY, f32::NAN]);
        let top = run("TopK", &[], &[x.clone(), ints(&[5])]).unwrap();
        assert_eq!(top[1].integers().unwrap(), [1, 4, 3, 0, 2]);
        let unique = run("Unique", &[], &[x]).unwrap();
        assert_eq!(unique[1].integers().unwrap(), [0, 3, 1]);
        assert_eq!(unique[3].integers().unwrap(), [2, 1, 2]);
    }

    #[test]
    fn texts_are_sets_too() {
        let texts = ["b", "", "a", "b"].map(str::to_owned).to_vec();
        let all = run("Unique", &[], &[Some(Tensor::vector(texts.clone()))]).unwrap();
        assert_eq!(all[0].elements::<String>().unwrap(), ["", "a", "b"]);
        assert_eq!(all[2].integers().unwrap(), [2, 0, 1, 2]);
        let found = run("NonZero", &[], &[Some(Tensor::vector(texts))]).unwrap();
        assert_eq!(found[0].integers().unwrap(), [0, 2, 3]);
    }

    #[test]
    fn nothing_and_scalars() {
        assert_eq!(run("TopK", &[], &[floats(&[0], &[]), ints(&[0])]).unwrap()[0].shape(), [0]);
        assert!(run("TopK", &[], &[floats(&[1], &[1.0]), ints(&[2])]).is_err());
        assert_eq!(run("NonZero", &[], &[floats(&[], &[3.0])]).unwrap()[0].shape(), [0, 1]);
        assert_eq!(run("Unique", &[], &[floats(&[0, 2], &[])]).unwrap()[0].shape(), [0]);
        let sums = run("CumSum", &[], &[floats(&[0], &[]), Some(Tensor::scalar(0_i64))]).unwrap();
        assert!(sums[0].is_empty());
    }

    #[test]
    fn empty_boxes_in_many_batches_do_not_run_forever() {
        let none = |shape: [usize; 3]| Some(Tensor::of(shape, Vec::<f32>::new()).unwrap());
        let operands = [none([1 << 40, 0, 4]), none([1 << 40, 1 << 20, 0])];
        assert!(run("NonMaxSuppression", &[], &operands).unwrap_err().contains("operations"));
    }
}
