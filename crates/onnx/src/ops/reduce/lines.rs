//! Lines: the elements of a tensor along some of its axes, side by side.

use std::borrow::Cow;

use half::{bf16, f16};
use lockgate_onnx_ml::math::Float;

use crate::shape::{Sources, elements, strides};
use crate::{Element, Kind, Numbers, Problem, Tensor};

/// `f32` or `f64`, whichever a tensor of floating-point numbers is computed in.
pub(in crate::ops) trait Real: Float + Element {}

impl Real for f32 {}
impl Real for f64 {}

/// Joins the elements of a line: every eighth one into one of eight partial results, then these from the first to the last. This is the
/// order of every sum over a line; compilers make SIMD code of it, and its error grows more slowly than that of one running sum.
#[inline]
pub(in crate::ops) fn fold<T: Copy, A: Copy>(
    line: &[T],
    start: A,
    step: impl Fn(A, T) -> A,
    join: impl Fn(A, A) -> A,
) -> A {
    let mut lanes = [start; 8];
    let (eights, rest) = line.as_chunks::<8>();
    for eight in eights {
        for (lane, &element) in lanes.iter_mut().zip(eight) {
            *lane = step(*lane, element);
        }
    }
    for (lane, &element) in lanes.iter_mut().zip(rest) {
        *lane = step(*lane, element);
    }
    let [first, others @ ..] = lanes;
    others.into_iter().fold(first, join)
}

/// The sum of what `of` makes of the elements, in the order of [`fold`].
#[inline]
pub(in crate::ops) fn sum<T: Float>(line: &[T], of: impl Fn(T) -> T) -> T {
    fold(line, T::ZERO, |sum, element| sum + of(element), |one, other| one + other)
}

/// The sum of the elements over their number; NaN when there are none.
#[inline]
pub(in crate::ops) fn mean<T: Float>(line: &[T], of: impl Fn(T) -> T) -> T {
    sum(line, of) / T::from_f64(line.len() as f64)
}

/// The sum of the products of two lines, in the order of [`fold`].
#[inline]
pub(in crate::ops) fn dot<T: Float>(one: &[T], other: &[T]) -> T {
    let mut lanes = [T::ZERO; 8];
    let (eights, rest) = one.as_chunks::<8>();
    let (others, other_rest) = other.as_chunks::<8>();
    for (eight, other) in eights.iter().zip(others) {
        for ((lane, &a), &b) in lanes.iter_mut().zip(eight).zip(other) {
            *lane += a * b;
        }
    }
    for ((lane, &a), &b) in lanes.iter_mut().zip(rest).zip(other_rest) {
        *lane += a * b;
    }
    let [first, others @ ..] = lanes;
    others.into_iter().fold(first, |one, other| one + other)
}

/// The greatest number that is not NaN; −∞ when there is none.
#[inline]
pub(in crate::ops) fn peak<T: Float>(line: &[T]) -> T {
    let greater = |one, other| if other > one { other } else { one };
    fold(line, -T::infinity(), greater, greater)
}

/// What [`Float`] leaves out.
pub(in crate::ops) trait Infinite: Float {
    /// +∞.
    fn infinity() -> Self {
        Self::from_f64(f64::INFINITY)
    }
}

impl<T: Float> Infinite for T {}

/// How the elements of a tensor lie along some of its axes.
#[derive(Debug)]
pub(in crate::ops) struct Lines {
    /// The elements of a line.
    pub(in crate::ops) len: usize,
    /// The lines.
    pub(in crate::ops) count: usize,
    /// A walk over the tensor, line by line; `None` if its elements already lie so.
    walk: Option<Sources>,
}

impl Lines {
    /// The lines along these axes, which are ascending. Lines follow each other, and elements in a line, in the order of the tensor.
    pub(in crate::ops) fn new(shape: &[usize], axes: &[usize]) -> Self {
        let kept: Vec<usize> = (0..shape.len()).filter(|axis| !axes.contains(axis)).collect();
        let order: Vec<usize> = kept.iter().chain(axes).copied().collect();
        let of = |all: &[usize], order: &[usize]| -> Vec<usize> {
            order.iter().filter_map(|&axis| all.get(axis).copied()).collect()
        };
        let long: Vec<usize> = order.iter().copied().filter(|&axis| shape.get(axis) != Some(&1)).collect();
        let walk =
            (!long.is_sorted()).then(|| Sources::new(of(&strides(shape), &order), of(shape, &order), 0));
        // Only a tensor without elements can have more of the one than fit.
        let len = elements(&of(shape, axes)).unwrap_or(usize::MAX);
        let count = elements(&of(shape, &kept)).unwrap_or(usize::MAX);
        Self { len, count, walk }
    }

    /// The elements, line by line.
    pub(in crate::ops) fn gather<'a, T: Copy + Default>(&self, all: Cow<'a, [T]>) -> Cow<'a, [T]> {
        match &self.walk {
            None => all,
            Some(walk) => {
                Cow::Owned(walk.clone().map(|place| all.get(place).copied().unwrap_or_default()).collect())
            }
        }
    }

    /// Elements that are given line by line, in the order of the tensor.
    pub(in crate::ops) fn scatter<T: Copy + Default>(&self, lines: Vec<T>) -> Vec<T> {
        let Some(walk) = &self.walk else { return lines };
        let mut all = vec![T::default(); lines.len()];
        for (place, element) in walk.clone().zip(lines) {
            if let Some(into) = all.get_mut(place) {
                *into = element;
            }
        }
        all
    }

    /// One value for each line. Ask the meter for room for [`Lines::count`] of them first: lines without elements count too.
    pub(in crate::ops) fn map<T: Copy + Default, R: Clone>(
        &self,
        all: Cow<'_, [T]>,
        of: impl Fn(&[T]) -> R,
    ) -> Vec<R> {
        if self.len == 0 {
            return vec![of(&[]); self.count];
        }
        self.gather(all).chunks_exact(self.len).map(of).collect()
    }
}

/// As many operations as these factors make.
pub(in crate::ops) fn product(factors: &[usize]) -> u64 {
    factors.iter().fold(1, |all, &factor| all.saturating_mul(u64::try_from(factor).unwrap_or(u64::MAX)))
}

/// The elements of a tensor of floating-point numbers, in the type that is computed in.
pub(in crate::ops) fn floats<T: Real>(tensor: &Tensor) -> Result<Cow<'_, [T]>, Problem> {
    if let Some(all) = T::of(tensor.data()) {
        return Ok(Cow::Borrowed(all));
    }
    match tensor.numbers()? {
        Numbers::F32(all) => Ok(Cow::Owned(all.iter().map(|&one| T::from_f32(one)).collect())),
        Numbers::F64(all) => Ok(Cow::Owned(all.iter().map(|&one| T::from_f64(one)).collect())),
        _ => Err(Problem::invalid(format!("expected floating-point numbers, found {}", tensor.kind()))),
    }
}

/// What was computed, as elements of a floating-point kind.
pub(in crate::ops) fn tensor<T: Real>(
    shape: impl Into<Vec<usize>>,
    all: Vec<T>,
    kind: Kind,
) -> Result<Tensor, Problem> {
    if kind == T::KIND {
        return Tensor::of(shape, all);
    }
    if kind == Kind::F64 {
        return Tensor::of(shape, all.into_iter().map(Float::to_f64).collect::<Vec<_>>());
    }
    let narrow = Numbers::F32(all.into_iter().map(Float::to_f32).collect()).narrow(kind);
    Tensor::new(shape, narrow)
}

/// A number rounded to those that a kind has.
pub(in crate::ops) fn rounded<T: Real>(number: T, kind: Kind) -> T {
    let mut number = [number];
    round(&mut number, kind);
    let [number] = number;
    number
}

/// Rounds numbers to those that a kind has.
pub(in crate::ops) fn round<T: Real>(all: &mut [T], kind: Kind) {
    let nearest = match kind {
        Kind::F16 => |x: f32| f16::from_f32(x).to_f32(),
        Kind::Bf16 => |x: f32| bf16::from_f32(x).to_f32(),
        Kind::F32 if T::KIND == Kind::F64 => |x: f32| x,
        _ => return,
    };
    for element in all {
        *element = T::from_f32(nearest(element.to_f32()));
    }
}

/// Makes new lines of those of a tensor of floating-point numbers.
pub(in crate::ops) fn along<T: Real>(
    x: &Tensor,
    axes: &[usize],
    change: impl Fn(&mut [T]),
) -> Result<Tensor, Problem> {
    let lines = Lines::new(x.shape(), axes);
    let mut all = lines.gather(floats::<T>(x)?).into_owned();
    all.chunks_exact_mut(lines.len.max(1)).for_each(change);
    tensor(x.shape(), lines.scatter(all), x.kind())
}
