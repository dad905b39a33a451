//! Tensors of one vector per batch item, head and position.

use std::borrow::Cow;

use super::super::normalize;
use super::super::reduce::lines::{Real, floats, product, round, rounded, tensor};
use crate::{Build, Kind, Meter, Problem, Tensor};

/// Vectors of `size` numbers. The tensor is `[batch, heads, len, size]` or `[batch, len, heads × size]`.
#[derive(Debug, Clone)]
pub(super) struct Heads<'a, T: Clone> {
    pub(super) all: Cow<'a, [T]>,
    pub(super) batch: usize,
    pub(super) heads: usize,
    pub(super) len: usize,
    pub(super) size: usize,
    /// Whether positions come before heads: the tensor has three axes.
    packed: bool,
}

/// A number of heads that an attribute gives.
pub(super) fn count(build: &Build<'_>, name: &str) -> Result<Option<usize>, Problem> {
    let Some(given) = build.attributes.int(name)? else { return Ok(None) };
    match usize::try_from(given) {
        Ok(count) if count > 0 => Ok(Some(count)),
        _ => Err(Problem::attribute(name, format!("there cannot be {given} heads"), "give 1 or more")),
    }
}

/// The floating-point kind that the attribute `softmax_precision` names.
pub(super) fn precision(build: &Build<'_>) -> Result<Option<Kind>, Problem> {
    let name = "softmax_precision";
    let Some(number) = build.attributes.int(name)? else { return Ok(None) };
    match Kind::from_number(number) {
        Some(kind @ (Kind::F32 | Kind::F64 | Kind::F16 | Kind::Bf16)) => Ok(Some(kind)),
        _ => Err(Problem::attribute(name, format!("{number} is no floating-point type"), "use 1, float")),
    }
}

impl<'a, T: Real> Heads<'a, T> {
    /// The vectors of a tensor; one of three axes needs the number of heads.
    pub(super) fn of(x: &'a Tensor, name: &str, heads: Option<usize>) -> Result<Self, Problem> {
        let shape = x.shape();
        let (batch, heads, len, size, packed) = match (shape, heads) {
            (&[batch, heads, len, size], None) => (batch, heads, len, size, false),
            (&[batch, heads, len, size], Some(given)) if given == heads => (batch, heads, len, size, false),
            (&[batch, len, hidden], Some(heads)) if hidden.checked_rem(heads) == Some(0) => {
                (batch, heads, len, hidden / heads, true)
            }
            (_, Some(heads)) => {
                return Err(Problem::invalid(format!(
                    "the shape {shape:?} of {name} does not have {heads} heads"
                )));
            }
            (_, None) => {
                return Err(Problem::invalid(format!(
                    "the shape of {name} is {shape:?}, expected four axes, or three and the attribute with the number of heads"
                )));
            }
        };
        Ok(Self { all: floats(x)?, batch, heads, len, size, packed })
    }

    /// As many vectors, all zero, of another size: in the same order, or in that of four axes.
    pub(super) fn zeros(
        &self,
        size: usize,
        four_axes: bool,
        meter: &mut Meter,
    ) -> Result<Heads<'static, T>, Problem> {
        let count = meter.room(&[self.batch, self.heads, self.len, size], 8)?;
        let (batch, heads, len) = (self.batch, self.heads, self.len);
        Ok(Heads {
            all: vec![T::ZERO; count].into(),
            batch,
            heads,
            len,
            size,
            packed: self.packed && !four_axes,
        })
    }

    fn start(&self, batch: usize, head: usize, at: usize) -> usize {
        let place = if self.packed {
            batch.saturating_mul(self.len).saturating_add(at).saturating_mul(self.heads).saturating_add(head)
        } else {
            batch.saturating_mul(self.heads).saturating_add(head).saturating_mul(self.len).saturating_add(at)
        };
        place.saturating_mul(self.size)
    }

    /// A vector; there is an empty one where there is none.
    #[inline]
    pub(super) fn row(&self, batch: usize, head: usize, at: usize) -> &[T] {
        let start = self.start(batch, head, at);
        self.all.get(start..start.saturating_add(self.size)).unwrap_or_default()
    }

    /// A vector to write to; there is an empty one where there is none.
    #[inline]
    pub(super) fn row_mut(&mut self, batch: usize, head: usize, at: usize) -> &mut [T] {
        let start = self.start(batch, head, at);
        self.all.to_mut().get_mut(start..start.saturating_add(self.size)).unwrap_or_default()
    }

    /// The same vectors behind those of `past`, in four axes.
    pub(super) fn behind(self, past: Option<&Self>, meter: &mut Meter) -> Result<Self, Problem> {
        if past.is_none() && !self.packed {
            return Ok(self);
        }
        if let Some(past) = past
            && [past.batch, past.heads, past.size] != [self.batch, self.heads, self.size]
        {
            return Err(Problem::invalid(format!(
                "past vectors have the batch, heads and size {:?}, new ones {:?}",
                [past.batch, past.heads, past.size],
                [self.batch, self.heads, self.size]
            )));
        }
        let before = past.map_or(0, |past| past.len);
        let len = self.len.saturating_add(before);
        let count = meter.room(&[self.batch, self.heads, len, self.size], 8)?;
        meter.work(product(&[self.batch, self.heads, len.saturating_add(1), self.size.saturating_add(1)]))?;
        let mut all = Vec::with_capacity(count);
        for batch in 0..self.batch {
            for head in 0..self.heads {
                if let Some(past) = past {
                    (0..past.len).for_each(|at| all.extend_from_slice(past.row(batch, head, at)));
                }
                (0..self.len).for_each(|at| all.extend_from_slice(self.row(batch, head, at)));
            }
        }
        Ok(Self { all: all.into(), len, packed: false, ..self })
    }

    /// The vectors times a number, rounded to a kind.
    pub(super) fn times(mut self, factor: T, kind: Kind) -> Self {
        if factor != T::ONE {
            let all = self.all.to_mut();
            all.iter_mut().for_each(|element| *element = *element * factor);
            round(all, kind);
        }
        self
    }

    /// The vectors as a tensor.
    pub(super) fn tensor(self, kind: Kind) -> Result<Tensor, Problem> {
        let Self { batch, heads, len, size, .. } = self;
        let shape = if self.packed {
            vec![batch, len, heads.saturating_mul(size)]
        } else {
            vec![batch, heads, len, size]
        };
        tensor(shape, self.all.into_owned(), kind)
    }
}

/// Queries, keys and values that go together: how many query heads share one of keys and values.
pub(super) fn share<T: Real>(q: &Heads<'_, T>, k: &Heads<'_, T>, v: &Heads<'_, T>) -> Result<usize, Problem> {
    if q.batch != k.batch || k.batch != v.batch || q.size != k.size || k.heads != v.heads || k.len != v.len {
        let of = |one: &Heads<'_, T>| [one.batch, one.heads, one.len, one.size];
        return Err(Problem::invalid(format!(
            "Q, K and V do not go together: their batches, heads, lengths and sizes are {:?}, {:?} and {:?}",
            of(q),
            of(k),
            of(v)
        )));
    }
    match (q.heads.checked_div(k.heads), q.heads.checked_rem(k.heads)) {
        (Some(share), Some(0)) => Ok(share.max(1)),
        _ => Err(Problem::invalid(format!("{} query heads cannot share {} heads of keys", q.heads, k.heads))),
    }
}

/// What to multiply queries and keys by before their products: the specification's √scale each when it computes in a 16-bit kind,
/// else all of it in the queries, which spares a copy of the keys.
pub(super) fn factors<T: Real>(scale: Option<f32>, size: usize, kind: Kind) -> (T, T) {
    let scale = scale.map_or_else(|| 1.0 / (size as f64).sqrt(), f64::from);
    if matches!(kind, Kind::F16 | Kind::Bf16) {
        let root = rounded(T::from_f64(scale.sqrt()), kind);
        return (root, root);
    }
    (T::from_f64(scale), T::ONE)
}

/// Adds `factor` times a vector.
#[inline]
pub(super) fn add_times<T: Real>(to: &mut [T], factor: T, vector: &[T]) {
    for (to, &element) in to.iter_mut().zip(vector) {
        *to += factor * element;
    }
}

/// Softmax, in a kind. A line of nothing but −∞ becomes zero.
pub(super) fn soften<T: Real>(line: &mut [T], kind: Kind) {
    let hidden = T::from_f64(f64::NEG_INFINITY);
    if line.iter().all(|&score| score == hidden) {
        line.fill(T::ZERO);
    } else {
        normalize::soften(line, kind);
    }
}
