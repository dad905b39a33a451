//! Constants while a graph is imported, and what can be computed from them before any request.
//!
//! Exporters write much of a shape's arithmetic into the graph. Its integers may be free dimensions, so the batch that
//! `Shape` reads can travel through `Gather`, `Concat` and `Mul` to the `Reshape` or `Expand` that wants it.

use super::super::onnx::{Constant, ConstantData};
use crate::Datatype;
use crate::plan::graph::{Dim, Fact};

/// The most elements of a constant that is computed ahead; a small file must not ask for all memory.
pub(super) const MOST_FOLDED: usize = 1 << 26;

/// A constant tensor.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Literal {
    pub(super) shape: Vec<usize>,
    pub(super) data: Data,
}

/// The elements of a constant.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Data {
    Fp32(Vec<f32>),
    Fp64(Vec<f64>),
    Int32(Vec<Int>),
    Int64(Vec<Int>),
    Bool(Vec<bool>),
}

/// An integer that is known, or a free dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Int {
    Known(i64),
    Free { symbol: u32, times: u64 },
}

impl Int {
    pub(super) fn known(self) -> Option<i64> {
        match self {
            Self::Known(value) => Some(value),
            Self::Free { .. } => None,
        }
    }

    /// The length it stands for; `None` for a negative one.
    pub(super) fn dim(self) -> Option<Dim> {
        match self {
            Self::Known(value) => u64::try_from(value).ok().map(Dim::Fixed),
            Self::Free { symbol, times } => Some(Dim::Free { symbol, times }),
        }
    }

    fn times(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Known(a), Self::Known(b)) => a.checked_mul(b).map(Self::Known),
            (Self::Known(0), _) | (_, Self::Known(0)) => Some(Self::Known(0)),
            (Self::Known(a), Self::Free { symbol, times })
            | (Self::Free { symbol, times }, Self::Known(a)) => {
                // A negative multiple is no length; exporters mark "any length" by -1, which is compared and thrown away.
                let times = u64::try_from(a).ok()?.checked_mul(times)?;
                Some(Self::Free { symbol, times })
            }
            (Self::Free { .. }, Self::Free { .. }) => None,
        }
    }

    fn over(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Known(a), Self::Known(b)) => {
                (b != 0).then(|| a.checked_div_euclid(b)).flatten().map(Self::Known)
            }
            (Self::Free { symbol, times }, Self::Known(b)) => {
                let divisor = u64::try_from(b).ok().filter(|&divisor| divisor > 0)?;
                times.is_multiple_of(divisor).then(|| Self::Free { symbol, times: times / divisor })
            }
            (Self::Free { symbol, times }, Self::Free { symbol: other, times: divisor }) => {
                let known = symbol == other && divisor > 0 && times.is_multiple_of(divisor);
                known.then(|| i64::try_from(times / divisor).ok().map(Self::Known)).flatten()
            }
            (Self::Known(_), Self::Free { .. }) => None,
        }
    }

    fn plus(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Known(a), Self::Known(b)) => a.checked_add(b).map(Self::Known),
            (Self::Known(0), free) | (free, Self::Known(0)) => Some(free),
            (Self::Free { symbol, times }, Self::Free { symbol: other, times: more }) if symbol == other => {
                times.checked_add(more).map(|times| Self::Free { symbol, times })
            }
            _ => None,
        }
    }

    fn minus(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Known(a), Self::Known(b)) => a.checked_sub(b).map(Self::Known),
            (free, Self::Known(0)) => Some(free),
            (Self::Free { .. }, Self::Free { .. }) if self == other => Some(Self::Known(0)),
            _ => None,
        }
    }

    /// Whether the two are equal in every request; `None` when that depends on the request.
    fn equals(self, other: Self) -> Option<bool> {
        match (self, other) {
            (Self::Known(a), Self::Known(b)) => Some(a == b),
            (Self::Known(a), Self::Free { .. }) | (Self::Free { .. }, Self::Known(a)) if a < 0 => Some(false),
            _ if self == other => Some(true),
            _ => None,
        }
    }
}

impl std::fmt::Display for Int {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::Known(value) => write!(f, "{value}"),
            Self::Free { symbol, times } => Dim::Free { symbol, times }.fmt(f),
        }
    }
}

impl From<Dim> for Int {
    fn from(dim: Dim) -> Self {
        match dim {
            Dim::Fixed(len) => Self::Known(i64::try_from(len).unwrap_or(i64::MAX)),
            Dim::Free { symbol, times } => Self::Free { symbol, times },
        }
    }
}

/// The arithmetic that shapes go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Sub,
    Mul,
    Div,
}

impl Literal {
    pub(super) fn new(shape: Vec<usize>, data: Data) -> Self {
        Self { shape, data }
    }

    pub(super) fn floats(shape: Vec<usize>, values: Vec<f32>) -> Self {
        Self::new(shape, Data::Fp32(values))
    }

    /// A list of integers.
    pub(super) fn list(values: Vec<Int>) -> Self {
        Self::new(vec![values.len()], Data::Int64(values))
    }

    /// The constant of a file; `None` for an element type that the graph engine does not have.
    pub(super) fn from_onnx(constant: &Constant) -> Option<Self> {
        constant.shape.iter().try_fold(1_usize, |count, &len| count.checked_mul(len.max(1)))?;
        let data = match &constant.data {
            ConstantData::Float(values) => Data::Fp32(values.clone()),
            ConstantData::Double(values) => Data::Fp64(values.clone()),
            ConstantData::Int32(values) => {
                Data::Int32(values.iter().map(|&value| Int::Known(value.into())).collect())
            }
            ConstantData::Int64(values) => {
                Data::Int64(values.iter().map(|&value| Int::Known(value)).collect())
            }
            ConstantData::Bool(values) => Data::Bool(values.clone()),
            ConstantData::String(_) | ConstantData::Other(_) => return None,
        };
        Some(Self::new(constant.shape.clone(), data))
    }

    pub(super) fn fact(&self) -> Fact {
        let shape: Vec<Dim> = self.shape.iter().map(|&len| Dim::Fixed(len as u64)).collect();
        Fact::new(self.data.datatype(), shape)
    }

    pub(super) fn ints(&self) -> Option<&[Int]> {
        match &self.data {
            Data::Int32(values) | Data::Int64(values) => Some(values),
            _ => None,
        }
    }

    /// The elements of an integer constant without free dimensions.
    pub(super) fn known_ints(&self) -> Option<Vec<i64>> {
        self.ints()?.iter().map(|value| value.known()).collect()
    }

    pub(super) fn fp32(&self) -> Option<&[f32]> {
        match &self.data {
            Data::Fp32(values) => Some(values),
            _ => None,
        }
    }

    /// The only element of an `FP32` constant.
    pub(super) fn scalar(&self) -> Option<f32> {
        match self.fp32()? {
            [only] => Some(*only),
            _ => None,
        }
    }

    /// The element that all are, bit for bit; `None` when they differ or there are none.
    pub(super) fn repeated_element(&self) -> Option<Self> {
        let bytes = self.bytes()?;
        let size = self.data.datatype().size()?;
        let first = bytes.get(..size)?;
        let same = bytes.chunks_exact(size).all(|element| element == first);
        if same { Some(Self::new(Vec::new(), self.data.pick(&[0])?)) } else { None }
    }

    pub(super) fn is_zero(&self) -> bool {
        match &self.data {
            Data::Fp32(values) => values.iter().all(|&value| value == 0.0),
            Data::Fp64(values) => values.iter().all(|&value| value == 0.0),
            Data::Int32(values) | Data::Int64(values) => values.iter().all(|&value| value == Int::Known(0)),
            Data::Bool(values) => values.iter().all(|&value| !value),
        }
    }

    /// Little-endian bytes; `None` when an element depends on the request.
    pub(super) fn bytes(&self) -> Option<Vec<u8>> {
        Some(match &self.data {
            Data::Fp32(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Data::Fp64(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Data::Int64(values) => {
                let values: Option<Vec<i64>> = values.iter().map(|value| value.known()).collect();
                values?.iter().flat_map(|value| value.to_le_bytes()).collect()
            }
            Data::Int32(values) => {
                let values: Option<Vec<i32>> =
                    values.iter().map(|value| i32::try_from(value.known()?).ok()).collect();
                values?.iter().flat_map(|value| value.to_le_bytes()).collect()
            }
            Data::Bool(values) => values.iter().map(|&value| u8::from(value)).collect(),
        })
    }

    /// The same elements under another shape, which has to have as many.
    pub(super) fn reshaped(&self, shape: Vec<usize>) -> Option<Self> {
        let count = |shape: &[usize]| shape.iter().try_fold(1_usize, |count, &len| count.checked_mul(len));
        (count(&shape)? == count(&self.shape)?).then(|| Self::new(shape, self.data.clone()))
    }

    /// The axes in another order.
    pub(super) fn transposed(&self, permutation: &[usize]) -> Option<Self> {
        let shape: Option<Vec<usize>> =
            permutation.iter().map(|&axis| self.shape.get(axis).copied()).collect();
        let own = strides(&self.shape);
        let steps: Option<Vec<usize>> = permutation.iter().map(|&axis| own.get(axis).copied()).collect();
        self.picked(shape?, &steps?)
    }

    /// Repetition along axes of length 1 and new leading axes.
    pub(super) fn broadcast(&self, shape: &[usize]) -> Option<Self> {
        let missing = shape.len().checked_sub(self.shape.len())?;
        let own = strides(&self.shape);
        let mut steps = vec![0; missing];
        for ((&have, &want), step) in self.shape.iter().zip(shape.iter().skip(missing)).zip(own) {
            steps.push(if have == want {
                step
            } else if have == 1 {
                0
            } else {
                return None;
            });
        }
        self.picked(shape.to_vec(), &steps)
    }

    /// The entries at `places` along `axis`.
    pub(super) fn taken(&self, axis: usize, places: &[usize]) -> Option<Self> {
        let len = *self.shape.get(axis)?;
        let inner: usize = self.shape.iter().skip(axis + 1).product();
        let outer: usize = self.shape.iter().take(axis).product();
        let mut shape = self.shape.clone();
        *shape.get_mut(axis)? = places.len();
        folded_len(&shape)?;
        let mut indices = Vec::new();
        for block in 0..outer {
            for &place in places {
                if place >= len {
                    return None;
                }
                let start = (block * len + place) * inner;
                indices.extend(start..start + inner);
            }
        }
        Some(Self::new(shape, self.data.pick(&indices)?))
    }

    /// Constants behind each other along `axis`.
    pub(super) fn concatenated(parts: &[&Self], axis: usize) -> Option<Self> {
        let first = parts.first()?;
        let outer: usize = first.shape.iter().take(axis).product();
        let mut shape = first.shape.clone();
        *shape.get_mut(axis)? =
            parts.iter().try_fold(0_usize, |sum, part| sum.checked_add(*part.shape.get(axis)?))?;
        folded_len(&shape)?;
        let mut data = first.data.pick(&[])?;
        for block in 0..outer {
            for part in parts {
                let fits = part.shape.len() == shape.len()
                    && part.shape.iter().zip(&shape).enumerate().all(|(at, (a, b))| at == axis || a == b);
                let size: usize = part.shape.iter().skip(axis).product();
                let indices: Vec<usize> = (block * size..(block + 1) * size).collect();
                if !fits || !data.extend(part.data.pick(&indices)?) {
                    return None;
                }
            }
        }
        Some(Self::new(shape, data))
    }

    /// Another element type; a float loses its fraction when it becomes an integer.
    pub(super) fn cast(&self, to: Datatype) -> Option<Self> {
        let data = match (&self.data, to) {
            (data, to) if data.datatype() == to => data.clone(),
            (Data::Int32(values) | Data::Int64(values), Datatype::Int64) => Data::Int64(values.clone()),
            (Data::Int32(values) | Data::Int64(values), Datatype::Int32) => Data::Int32(values.clone()),
            (Data::Int32(values) | Data::Int64(values), Datatype::Fp32) => {
                Data::Fp32(values.iter().map(|value| value.known().map(|v| v as f32)).collect::<Option<_>>()?)
            }
            (Data::Fp64(values), Datatype::Fp32) => {
                Data::Fp32(values.iter().map(|&value| value as f32).collect())
            }
            (Data::Fp32(values), Datatype::Int64) => {
                Data::Int64(values.iter().map(|&v| Int::Known(v as i64)).collect())
            }
            (Data::Fp32(values), Datatype::Int32) => {
                Data::Int32(values.iter().map(|&v| Int::Known((v as i32).into())).collect())
            }
            (Data::Bool(values), Datatype::Int64) => {
                Data::Int64(values.iter().map(|&v| Int::Known(v.into())).collect())
            }
            (Data::Bool(values), Datatype::Fp32) => {
                Data::Fp32(values.iter().map(|&value| if value { 1.0 } else { 0.0 }).collect())
            }
            _ => return None,
        };
        Some(Self::new(self.shape.clone(), data))
    }

    /// Arithmetic after broadcasting; `None` when a result depends on the request in a way that no shape can.
    pub(super) fn computed(&self, operation: Arithmetic, other: &Self) -> Option<Self> {
        let shape = common_shape(&self.shape, &other.shape)?;
        let (a, b) = (self.broadcast(&shape)?, other.broadcast(&shape)?);
        let data = match (a.data, b.data) {
            (Data::Fp32(a), Data::Fp32(b)) => Data::Fp32(
                a.iter()
                    .zip(&b)
                    .map(|(a, b)| match operation {
                        Arithmetic::Add => a + b,
                        Arithmetic::Sub => a - b,
                        Arithmetic::Mul => a * b,
                        Arithmetic::Div => a / b,
                    })
                    .collect(),
            ),
            (Data::Int64(a), Data::Int64(b)) => Data::Int64(compute_ints(&a, operation, &b)?),
            (Data::Int32(a), Data::Int32(b)) => Data::Int32(compute_ints(&a, operation, &b)?),
            _ => return None,
        };
        Some(Self::new(shape, data))
    }

    /// Where two integer constants are equal.
    pub(super) fn equals(&self, other: &Self) -> Option<Self> {
        let shape = common_shape(&self.shape, &other.shape)?;
        let (a, b) = (self.broadcast(&shape)?, other.broadcast(&shape)?);
        let equal = a.ints()?.iter().zip(b.ints()?).map(|(a, b)| a.equals(*b)).collect::<Option<_>>()?;
        Some(Self::new(shape, Data::Bool(equal)))
    }

    /// Elements of `yes` where `self` holds, else of `no`.
    pub(super) fn select(&self, yes: &Self, no: &Self) -> Option<Self> {
        let shape = common_shape(&common_shape(&self.shape, &yes.shape)?, &no.shape)?;
        let Data::Bool(condition) = self.broadcast(&shape)?.data else { return None };
        let (yes, no) = (yes.broadcast(&shape)?, no.broadcast(&shape)?);
        let pick = |a: &[Int], b: &[Int]| -> Vec<Int> {
            condition
                .iter()
                .zip(a)
                .zip(b)
                .map(|((&condition, &a), &b)| if condition { a } else { b })
                .collect()
        };
        let data = match (&yes.data, &no.data) {
            (Data::Int64(a), Data::Int64(b)) => Data::Int64(pick(a, b)),
            (Data::Int32(a), Data::Int32(b)) => Data::Int32(pick(a, b)),
            _ => return None,
        };
        Some(Self::new(shape, data))
    }

    /// The product of all integers.
    pub(super) fn product(&self) -> Option<Int> {
        self.ints()?.iter().try_fold(Int::Known(1), |product, &value| product.times(value))
    }

    fn picked(&self, shape: Vec<usize>, steps: &[usize]) -> Option<Self> {
        folded_len(&shape)?;
        let mut indices = vec![0_usize];
        for (&len, &step) in shape.iter().zip(steps) {
            indices =
                indices.iter().flat_map(|&start| (0..len).map(move |place| start + place * step)).collect();
        }
        let data = self.data.pick(&indices)?;
        Some(Self::new(shape, data))
    }
}

impl Data {
    pub(super) fn datatype(&self) -> Datatype {
        match self {
            Self::Fp32(_) => Datatype::Fp32,
            Self::Fp64(_) => Datatype::Fp64,
            Self::Int32(_) => Datatype::Int32,
            Self::Int64(_) => Datatype::Int64,
            Self::Bool(_) => Datatype::Bool,
        }
    }

    fn pick(&self, indices: &[usize]) -> Option<Self> {
        fn at<T: Copy>(values: &[T], indices: &[usize]) -> Option<Vec<T>> {
            indices.iter().map(|&index| values.get(index).copied()).collect()
        }
        Some(match self {
            Self::Fp32(values) => Self::Fp32(at(values, indices)?),
            Self::Fp64(values) => Self::Fp64(at(values, indices)?),
            Self::Int32(values) => Self::Int32(at(values, indices)?),
            Self::Int64(values) => Self::Int64(at(values, indices)?),
            Self::Bool(values) => Self::Bool(at(values, indices)?),
        })
    }

    fn extend(&mut self, more: Self) -> bool {
        match (self, more) {
            (Self::Fp32(values), Self::Fp32(more)) => values.extend(more),
            (Self::Fp64(values), Self::Fp64(more)) => values.extend(more),
            (Self::Int32(values), Self::Int32(more)) | (Self::Int64(values), Self::Int64(more)) => {
                values.extend(more);
            }
            (Self::Bool(values), Self::Bool(more)) => values.extend(more),
            _ => return false,
        }
        true
    }
}

fn compute_ints(a: &[Int], operation: Arithmetic, b: &[Int]) -> Option<Vec<Int>> {
    let compute = |(&a, &b): (&Int, &Int)| match operation {
        Arithmetic::Add => a.plus(b),
        Arithmetic::Sub => a.minus(b),
        Arithmetic::Mul => a.times(b),
        Arithmetic::Div => a.over(b),
    };
    a.iter().zip(b).map(compute).collect()
}

/// The number of elements, when a constant of this shape may be computed ahead. Empty axes count as one, so that no
/// product of the others can overflow.
fn folded_len(shape: &[usize]) -> Option<usize> {
    let len = shape.iter().try_fold(1_usize, |count, &len| count.checked_mul(len.max(1)))?;
    (len <= MOST_FOLDED).then_some(len)
}

fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1_usize; shape.len()];
    let mut step = 1_usize;
    for (stride, &len) in strides.iter_mut().zip(shape).rev() {
        *stride = step;
        step = step.saturating_mul(len);
    }
    strides
}

fn common_shape(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |shape: &[usize], axis: usize| {
        (axis + shape.len()).checked_sub(rank).and_then(|axis| shape.get(axis)).copied().unwrap_or(1)
    };
    (0..rank)
        .map(|axis| match (at(a, axis), at(b, axis)) {
            (a, b) if a == b => Some(a),
            (1, other) | (other, 1) => Some(other),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: Int = Int::Free { symbol: 0, times: 1 };

    fn ints(values: &[i64]) -> Literal {
        Literal::list(values.iter().map(|&value| Int::Known(value)).collect())
    }

    #[test]
    fn the_batch_travels_through_the_arithmetic_of_shapes() {
        let shape = Literal::list(vec![BATCH, Int::Known(20), Int::Known(17)]);
        let batch = shape.taken(0, &[0]).unwrap();
        let rows = batch.computed(Arithmetic::Mul, &ints(&[20])).unwrap();
        assert_eq!(rows.ints().unwrap(), [Int::Free { symbol: 0, times: 20 }]);
        assert_eq!(rows.computed(Arithmetic::Div, &ints(&[20])).unwrap().ints().unwrap(), [BATCH]);
        assert_eq!(rows.computed(Arithmetic::Div, &ints(&[3])), None);
        assert_eq!(shape.product(), Some(Int::Free { symbol: 0, times: 340 }));
        let joined = Literal::concatenated(&[&ints(&[1]), &batch, &ints(&[64])], 0).unwrap();
        assert_eq!(joined.ints().unwrap(), [Int::Known(1), BATCH, Int::Known(64)]);
        // What torch writes for `expand(-1, …)`: keep the wanted length unless it is -1.
        let unset = joined.equals(&ints(&[-1])).unwrap();
        assert_eq!(unset.data, Data::Bool(vec![false; 3]));
        assert_eq!(unset.select(&ints(&[1, 1, 1]), &joined), Some(joined.clone()));
        assert_eq!(joined.equals(&ints(&[5])), None, "whether the batch is 5 depends on the request");
    }

    #[test]
    fn layout_operations_move_elements_as_on_tensors() {
        let matrix = Literal::floats(vec![2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(matrix.transposed(&[1, 0]).unwrap().fp32().unwrap(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        assert_eq!(matrix.taken(1, &[2, 0]).unwrap().fp32().unwrap(), [3.0, 1.0, 6.0, 4.0]);
        let both = Literal::concatenated(&[&matrix, &matrix], 1).unwrap();
        assert_eq!(both.fp32().unwrap(), [1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 4.0, 5.0, 6.0]);
        let column = matrix.taken(1, &[0]).unwrap();
        assert_eq!(
            column.broadcast(&[2, 2, 2]).unwrap().fp32().unwrap(),
            [1.0, 1.0, 4.0, 4.0, 1.0, 1.0, 4.0, 4.0]
        );
        assert_eq!(matrix.broadcast(&[2, 2]), None);
    }
}
