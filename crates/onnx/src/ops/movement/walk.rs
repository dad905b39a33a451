//! Walks over tensors: for each axis of a result, a list of where its elements lie in the operand.

use std::ops::Range;

use crate::shape::strides;
use crate::{Data, Element, Kind, Meter, Numbers, Problem, Tensor};

/// An index that no tensor has: what lies there is zero, or what is put in its place.
pub(in crate::ops) const ABSENT: usize = usize::MAX;

/// Bytes that a place counts as, on every target.
pub(in crate::ops) const PLACE: usize = 8;

macro_rules! both {
    ($one:expr, $other:expr, $a:ident, $b:ident => $body:expr) => {
        match ($one, $other) {
            (Data::F32($a), Data::F32($b)) => Ok($body),
            (Data::F64($a), Data::F64($b)) => Ok($body),
            (Data::F16($a), Data::F16($b)) => Ok($body),
            (Data::Bf16($a), Data::Bf16($b)) => Ok($body),
            (Data::I8($a), Data::I8($b)) => Ok($body),
            (Data::I16($a), Data::I16($b)) => Ok($body),
            (Data::I32($a), Data::I32($b)) => Ok($body),
            (Data::I64($a), Data::I64($b)) => Ok($body),
            (Data::U8($a), Data::U8($b)) => Ok($body),
            (Data::U16($a), Data::U16($b)) => Ok($body),
            (Data::U32($a), Data::U32($b)) => Ok($body),
            (Data::U64($a), Data::U64($b)) => Ok($body),
            (Data::Bool($a), Data::Bool($b)) => Ok($body),
            (Data::Text($a), Data::Text($b)) => Ok($body),
            (Data::Tiny(kind, $a), Data::Tiny(other, $b)) if kind == other => Ok($body),
            (one, other) => Err(kinds_differ(one.kind(), other.kind())),
        }
    };
}

pub(in crate::ops) fn kinds_differ(one: Kind, other: Kind) -> Problem {
    Problem::invalid(format!("operands of the kinds {one} and {other} do not go together"))
}

/// Room for a result of this shape whose elements are copies of those of `like`; how many elements these are.
pub(in crate::ops) fn room(meter: &mut Meter, shape: &[usize], like: &Tensor) -> Result<usize, Problem> {
    meter.room(shape, bytes(like.data()))
}

/// Bytes of an element, whichever is copied: texts count as long as the longest of them.
fn bytes(data: &Data) -> usize {
    let longest = match data {
        Data::Text(texts) => texts.iter().map(String::len).max().unwrap_or(0),
        _ => 0,
    };
    data.kind().size().saturating_add(longest)
}

/// A length or a count that is an operand.
pub(in crate::ops) fn length(value: i64) -> Result<usize, Problem> {
    usize::try_from(value).map_err(|_| Problem::invalid(format!("{value} is not a length")))
}

/// The lengths of axes that are an operand.
pub(in crate::ops) fn lengths(operand: &Tensor) -> Result<Vec<usize>, Problem> {
    operand.integers()?.into_iter().map(length).collect()
}

/// An index that may count from the end.
pub(in crate::ops) fn index(index: i64, len: usize) -> Result<usize, Problem> {
    let whole = i64::try_from(len).unwrap_or(i64::MAX);
    let from_front = if index < 0 { index.saturating_add(whole) } else { index };
    usize::try_from(from_front)
        .ok()
        .filter(|&at| at < len)
        .ok_or_else(|| Problem::invalid(format!("index {index} is outside of an axis of length {len}")))
}

/// The lengths before an axis, of it, and behind it, each as one number.
pub(in crate::ops) fn around(shape: &[usize], axis: usize) -> (usize, usize, usize) {
    let product = |part: Option<&[usize]>| {
        part.unwrap_or(&[]).iter().fold(1_usize, |product, &len| product.saturating_mul(len))
    };
    (
        product(shape.get(..axis)),
        shape.get(axis).copied().unwrap_or(1),
        product(shape.get(axis.saturating_add(1)..)),
    )
}

/// A number as an element of any kind of numbers. Kinds without fractions or signs take what is left of it.
pub(in crate::ops) fn element(kind: Kind, number: f64) -> Data {
    match kind {
        Kind::F64 => Data::F64(vec![number]),
        kind if kind.is_float() => Numbers::F32(vec![number as f32].into()).narrow(kind),
        kind => Numbers::I64(vec![number as i64].into()).narrow(kind),
    }
}

/// Copies elements: pairs of a place here and a place there. Less code than [`Data::put`] with an iterator of its own
/// at each call.
pub(in crate::ops) fn put(
    to: &mut Data,
    from: &Data,
    mut places: impl Iterator<Item = (usize, usize)>,
) -> Result<(), Problem> {
    let places: &mut dyn Iterator<Item = (usize, usize)> = &mut places;
    to.put(from, places)
}

/// Appends some of the elements of another tensor.
pub(in crate::ops) fn append(to: &mut Data, from: &Data, range: Range<usize>) -> Result<(), Problem> {
    both!(to, from, to, from => to.extend_from_slice(from.get(range).unwrap_or(&[])))
}

/// Elements of a tensor, under a shape with as many axes: along each axis, `source` says which index an index of the
/// result comes from. What comes from [`ABSENT`] is the first element of `otherwise`, which is of the same kind, or
/// zero.
pub(in crate::ops) fn select(
    x: &Tensor,
    shape: Vec<usize>,
    otherwise: Option<&Data>,
    meter: &mut Meter,
    source: &dyn Fn(usize, usize) -> usize,
) -> Result<Tensor, Problem> {
    let each = bytes(x.data()).max(otherwise.map_or(0, bytes));
    if meter.room(&shape, each)? == 0 {
        return Tensor::new(shape, x.kind().empty());
    }
    let entries = shape.iter().fold(0_usize, |sum, &len| sum.saturating_add(len));
    meter.room(&[entries], PLACE)?;
    let strides = strides(x.shape());
    let lists: Vec<Vec<usize>> = shape
        .iter()
        .zip(strides)
        .enumerate()
        .map(|(axis, (&len, stride))| (0..len).map(|at| source(axis, at).saturating_mul(stride)).collect())
        .collect();
    Tensor::new(shape, walk(x.data(), &lists, otherwise)?)
}

/// The elements whose places are the sums of one entry of each list, the last list fastest.
pub(in crate::ops) fn walk(
    data: &Data,
    lists: &[Vec<usize>],
    otherwise: Option<&Data>,
) -> Result<Data, Problem> {
    let count = lists.iter().try_fold(1_usize, |count, list| count.checked_mul(list.len()));
    let count = count.ok_or_else(|| Problem::invalid("a result with too many elements"))?;
    let mut result = data.kind().empty();
    if count == 0 {
        return Ok(result);
    }
    // Lists of one entry move everything by it. Of the others there are few, however many axes there are.
    let (ones, lists): (Vec<&[usize]>, Vec<&[usize]>) =
        lists.iter().map(Vec::as_slice).partition(|list| list.len() == 1);
    let start = ones.iter().flat_map(|list| list.iter()).fold(0_usize, |sum, &one| sum.saturating_add(one));
    // Neighbours that stay neighbours are copied at once.
    let (mut outer, mut run) = (lists.as_slice(), 1_usize);
    while let Some((list, rest)) = outer.split_last() {
        if !list.iter().enumerate().all(|(at, &offset)| at.checked_mul(run) == Some(offset)) {
            break;
        }
        (outer, run) = (rest, run.saturating_mul(list.len()));
    }
    let plan = Plan { start, lists: outer, run, count };
    // The bits of a tiny kind are bytes in memory.
    let bits = match otherwise {
        Some(Data::Tiny(_, bits)) => Some(Data::U8(bits.clone())),
        _ => None,
    };
    let otherwise = bits.as_ref().or(otherwise);
    both!(&mut result, data, to, from => fill(to, from, &plan, otherwise))?;
    Ok(result)
}

/// How `count` elements are copied, `run` neighbours at a time.
struct Plan<'a> {
    start: usize,
    lists: &'a [&'a [usize]],
    run: usize,
    count: usize,
}

fn fill<T: Element>(to: &mut Vec<T>, from: &[T], plan: &Plan<'_>, otherwise: Option<&Data>) {
    let otherwise = otherwise.and_then(T::of).and_then(<[T]>::first).cloned().unwrap_or_default();
    to.reserve_exact(plan.count);
    let (last, outer) = match plan.lists.split_last() {
        Some((last, outer)) => (*last, outer),
        None => (&[0][..], plan.lists),
    };
    let mut index = vec![0; outer.len()];
    while let Some(base) = base(plan.start, &mut index, outer) {
        for offset in last {
            let at = base.saturating_add(*offset);
            if plan.run == 1 {
                to.push(from.get(at).unwrap_or(&otherwise).clone());
            } else if let Some(block) = at.checked_add(plan.run).and_then(|end| from.get(at..end)) {
                to.extend_from_slice(block);
            } else {
                to.resize(to.len().saturating_add(plan.run), otherwise.clone());
            }
        }
    }
}

/// `start` and the entries that `index` points at, summed up; `index` moves on. `None` after the last. Without lists
/// there is one sum.
fn base(start: usize, index: &mut Vec<usize>, lists: &[&[usize]]) -> Option<usize> {
    if index.len() > lists.len() {
        return None;
    }
    let mut sum = start;
    for (list, &at) in lists.iter().zip(&*index) {
        sum = sum.saturating_add(*list.get(at)?);
    }
    for (list, at) in lists.iter().zip(&mut *index).rev() {
        *at += 1;
        if *at < list.len() {
            return Some(sum);
        }
        *at = 0;
    }
    // One entry too many says that this was the last.
    index.push(0);
    Some(sum)
}
