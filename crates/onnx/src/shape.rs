//! Arithmetic on shapes.

use crate::Problem;

/// The number of elements; `None` beyond `usize`.
pub fn elements(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |count, &len| count.checked_mul(len))
}

/// How far apart neighbours along each axis lie.
pub fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    let mut stride = 1_usize;
    for (place, &len) in strides.iter_mut().zip(shape).rev() {
        *place = stride;
        stride = stride.saturating_mul(len);
    }
    strides
}

/// An axis counted from the front.
///
/// # Errors
/// One outside of the axes.
pub fn axis(axis: i64, rank: usize) -> Result<usize, Problem> {
    let from_front =
        if axis < 0 { axis.checked_add(i64::try_from(rank).unwrap_or(i64::MAX)) } else { Some(axis) };
    from_front
        .and_then(|axis| usize::try_from(axis).ok())
        .filter(|&axis| axis < rank)
        .ok_or_else(|| Problem::invalid(format!("axis {axis} is outside of the {rank} axes")))
}

/// Axes counted from the front, each once, ascending.
///
/// # Errors
/// One outside of the axes, or given twice.
pub fn axes(given: &[i64], rank: usize) -> Result<Vec<usize>, Problem> {
    let mut all = given.iter().map(|&one| axis(one, rank)).collect::<Result<Vec<_>, _>>()?;
    all.sort_unstable();
    if all.windows(2).any(|pair| pair.first() == pair.last()) {
        return Err(Problem::invalid(format!("the axes {given:?} name one axis twice")));
    }
    Ok(all)
}

/// The shape of operands that go together element by element, as ONNX and NumPy broadcast them.
///
/// # Errors
/// Shapes that do not go together.
pub fn broadcast(shapes: &[&[usize]]) -> Result<Vec<usize>, Problem> {
    let rank = shapes.iter().map(|shape| shape.len()).max().unwrap_or(0);
    let mut result = vec![1_usize; rank];
    for shape in shapes {
        for (place, &len) in result.iter_mut().rev().zip(shape.iter().rev()) {
            *place = match (*place, len) {
                (have, len) if have == len => len,
                (1, len) => len,
                (have, 1) => have,
                (have, len) => {
                    return Err(Problem::invalid(format!(
                        "lengths {have} and {len} do not go together: shapes {shapes:?}"
                    )));
                }
            };
        }
    }
    Ok(result)
}

/// Where each element of `result` comes from in an operand of `shape` that broadcasts to it: flat positions, in the order of the result.
pub fn sources<'a>(shape: &'a [usize], result: &'a [usize]) -> Sources {
    let own = strides(shape);
    let lead = result.len().saturating_sub(shape.len());
    let strides = (0..result.len()).map(|axis| match axis.checked_sub(lead) {
        Some(at) if shape.get(at) != Some(&1) => own.get(at).copied().unwrap_or(0),
        _ => 0,
    });
    Sources::new(strides.collect(), result.to_vec(), 0)
}

/// Flat positions of a walk over a shape, the last axis fastest, with a stride for each axis.
#[derive(Debug, Clone)]
pub struct Sources {
    strides: Vec<usize>,
    shape: Vec<usize>,
    index: Vec<usize>,
    at: usize,
    left: usize,
}

impl Sources {
    /// A walk over `shape` that begins at `start` and moves by `strides`.
    pub fn new(strides: Vec<usize>, shape: Vec<usize>, start: usize) -> Self {
        let left = elements(&shape).unwrap_or(0);
        Self { strides, index: vec![0; shape.len()], shape, at: start, left }
    }
}

impl Iterator for Sources {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let found = self.at;
        for ((index, &len), &stride) in self.index.iter_mut().zip(&self.shape).zip(&self.strides).rev() {
            *index += 1;
            if *index < len {
                self.at = self.at.wrapping_add(stride);
                break;
            }
            self.at = self.at.wrapping_sub(stride.wrapping_mul(len.saturating_sub(1)));
            *index = 0;
        }
        Some(found)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Sources {}
