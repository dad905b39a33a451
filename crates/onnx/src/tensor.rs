//! Tensors: a shape, and elements of one kind, row-major.

use std::borrow::Cow;
use std::sync::Arc;

use half::{bf16, f16};
use lockgate_onnx_ml::math;
use serde::{Deserialize, Serialize};

use crate::Problem;
use crate::shape::elements;

mod bytes;
mod tiny;

pub use tiny::{tiny_from_f32, tiny_to_f32};

/// The kinds of elements, numbered as in ONNX files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the format's own names")]
#[repr(u8)]
pub enum Kind {
    F32 = 1,
    U8 = 2,
    I8 = 3,
    U16 = 4,
    I16 = 5,
    I32 = 6,
    I64 = 7,
    Text = 8,
    Bool = 9,
    F16 = 10,
    F64 = 11,
    U32 = 12,
    U64 = 13,
    Bf16 = 16,
    F8E4M3Fn = 17,
    F8E4M3FnUz = 18,
    F8E5M2 = 19,
    F8E5M2FnUz = 20,
    U4 = 21,
    I4 = 22,
    F4E2M1 = 23,
    F8E8M0 = 24,
    U2 = 25,
    I2 = 26,
}

/// The elements of a tensor.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "named after the kinds")]
pub enum Data {
    F32(Vec<f32>),
    F64(Vec<f64>),
    F16(Vec<f16>),
    Bf16(Vec<bf16>),
    I8(Vec<i8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
    U64(Vec<u64>),
    Bool(Vec<bool>),
    Text(Vec<String>),
    /// The kinds of 8 bits and fewer that no machine computes with: the bits of one element in each byte.
    Tiny(Kind, Vec<u8>),
}

/// A tensor. Its elements are shared: a copy, or the same elements under another shape, costs nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Arc<Data>,
}

/// Types that elements have in memory.
pub trait Element: Clone + Default + PartialEq + 'static {
    /// Their kind.
    const KIND: Kind;
    /// The elements, if they are of this type.
    fn of(data: &Data) -> Option<&[Self]>;
    /// The elements as a tensor holds them.
    fn data(elements: Vec<Self>) -> Data;
}

macro_rules! elements {
    ($($type:ty, $kind:ident;)*) => {$(
        impl Element for $type {
            const KIND: Kind = Kind::$kind;

            fn of(data: &Data) -> Option<&[Self]> {
                match data {
                    Data::$kind(elements) => Some(elements),
                    _ => None,
                }
            }

            fn data(elements: Vec<Self>) -> Data {
                Data::$kind(elements)
            }
        }
    )*};
}

elements! {
    f32, F32; f64, F64; f16, F16; bf16, Bf16;
    i8, I8; i16, I16; i32, I32; i64, I64;
    u8, U8; u16, U16; u32, U32; u64, U64;
    bool, Bool; String, Text;
}

/// Runs an expression on the elements of a [`Data`], whatever their type: `each!(data, elements => elements.len())`.
#[macro_export]
macro_rules! each {
    ($data:expr, $elements:ident => $body:expr) => {
        match $data {
            $crate::Data::F32($elements) => $body,
            $crate::Data::F64($elements) => $body,
            $crate::Data::F16($elements) => $body,
            $crate::Data::Bf16($elements) => $body,
            $crate::Data::I8($elements) => $body,
            $crate::Data::I16($elements) => $body,
            $crate::Data::I32($elements) => $body,
            $crate::Data::I64($elements) => $body,
            $crate::Data::U8($elements) => $body,
            $crate::Data::U16($elements) => $body,
            $crate::Data::U32($elements) => $body,
            $crate::Data::U64($elements) => $body,
            $crate::Data::Bool($elements) => $body,
            $crate::Data::Text($elements) => $body,
            $crate::Data::Tiny(_, $elements) => $body,
        }
    };
}

/// The elements of a tensor of numbers in one of the four types that are computed with. Narrower kinds are widened, which loses nothing.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "named after the types")]
pub enum Numbers<'a> {
    F32(Cow<'a, [f32]>),
    F64(Cow<'a, [f64]>),
    I64(Cow<'a, [i64]>),
    U64(Cow<'a, [u64]>),
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 24] = [
        Self::F32,
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::I32,
        Self::I64,
        Self::Text,
        Self::Bool,
        Self::F16,
        Self::F64,
        Self::U32,
        Self::U64,
        Self::Bf16,
        Self::F8E4M3Fn,
        Self::F8E4M3FnUz,
        Self::F8E5M2,
        Self::F8E5M2FnUz,
        Self::U4,
        Self::I4,
        Self::F4E2M1,
        Self::F8E8M0,
        Self::U2,
        Self::I2,
    ];

    /// The kind with this number in ONNX files.
    pub fn from_number(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| i64::from(*kind as u8) == number)
    }

    /// As ONNX writes it, `float`, `int64`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "float",
            Self::U8 => "uint8",
            Self::I8 => "int8",
            Self::U16 => "uint16",
            Self::I16 => "int16",
            Self::I32 => "int32",
            Self::I64 => "int64",
            Self::Text => "string",
            Self::Bool => "bool",
            Self::F16 => "float16",
            Self::F64 => "double",
            Self::U32 => "uint32",
            Self::U64 => "uint64",
            Self::Bf16 => "bfloat16",
            Self::F8E4M3Fn => "float8e4m3fn",
            Self::F8E4M3FnUz => "float8e4m3fnuz",
            Self::F8E5M2 => "float8e5m2",
            Self::F8E5M2FnUz => "float8e5m2fnuz",
            Self::U4 => "uint4",
            Self::I4 => "int4",
            Self::F4E2M1 => "float4e2m1",
            Self::F8E8M0 => "float8e8m0",
            Self::U2 => "uint2",
            Self::I2 => "int2",
        }
    }

    /// Bytes of an element in memory; a text counts as its handle, which counts the same on every target.
    pub fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 | Self::U64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 | Self::U16 => 2,
            Self::Text => 24,
            _ => 1,
        }
    }

    /// Whether it is a floating-point kind, of any size.
    pub fn is_float(self) -> bool {
        matches!(
            self,
            Self::F32
                | Self::F64
                | Self::F16
                | Self::Bf16
                | Self::F8E4M3Fn
                | Self::F8E4M3FnUz
                | Self::F8E5M2
                | Self::F8E5M2FnUz
                | Self::F8E8M0
                | Self::F4E2M1
        )
    }

    /// Whether it is an integer kind, of any size; `bool` is none.
    pub fn is_integer(self) -> bool {
        !self.is_float() && !matches!(self, Self::Bool | Self::Text)
    }

    /// Whether it is one of [`Data::Tiny`].
    pub fn is_tiny(self) -> bool {
        self as u8 >= Self::F8E4M3Fn as u8
    }

    /// No elements of this kind.
    pub fn empty(self) -> Data {
        match self {
            Self::F32 => Data::F32(Vec::new()),
            Self::F64 => Data::F64(Vec::new()),
            Self::F16 => Data::F16(Vec::new()),
            Self::Bf16 => Data::Bf16(Vec::new()),
            Self::I8 => Data::I8(Vec::new()),
            Self::I16 => Data::I16(Vec::new()),
            Self::I32 => Data::I32(Vec::new()),
            Self::I64 => Data::I64(Vec::new()),
            Self::U8 => Data::U8(Vec::new()),
            Self::U16 => Data::U16(Vec::new()),
            Self::U32 => Data::U32(Vec::new()),
            Self::U64 => Data::U64(Vec::new()),
            Self::Bool => Data::Bool(Vec::new()),
            Self::Text => Data::Text(Vec::new()),
            kind => Data::Tiny(kind, Vec::new()),
        }
    }

    /// As many zeros, `false` or empty texts.
    pub fn zeros(self, count: usize) -> Data {
        let mut data = self.empty();
        each!(&mut data, elements => elements.resize(count, Default::default()));
        data
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Data {
    /// Gives every NaN the sign and payload that leave the core: what computing leaves there depends on the machine.
    pub fn canonicalize_nan(&mut self) {
        match self {
            Self::F32(elements) => math::canonicalize_nan(elements),
            Self::F64(elements) => math::canonicalize_nan(elements),
            Self::F16(elements) => {
                elements.iter_mut().filter(|x| x.is_nan()).for_each(|x| *x = f16::NAN);
            }
            Self::Bf16(elements) => {
                elements.iter_mut().filter(|x| x.is_nan()).for_each(|x| *x = bf16::NAN);
            }
            _ => {}
        }
    }

    /// The kind of the elements.
    pub fn kind(&self) -> Kind {
        match self {
            Self::F32(_) => Kind::F32,
            Self::F64(_) => Kind::F64,
            Self::F16(_) => Kind::F16,
            Self::Bf16(_) => Kind::Bf16,
            Self::I8(_) => Kind::I8,
            Self::I16(_) => Kind::I16,
            Self::I32(_) => Kind::I32,
            Self::I64(_) => Kind::I64,
            Self::U8(_) => Kind::U8,
            Self::U16(_) => Kind::U16,
            Self::U32(_) => Kind::U32,
            Self::U64(_) => Kind::U64,
            Self::Bool(_) => Kind::Bool,
            Self::Text(_) => Kind::Text,
            Self::Tiny(kind, _) => *kind,
        }
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        each!(self, elements => elements.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements at these places, in this order; those of places that do not exist are zero.
    pub fn take(&self, places: impl Iterator<Item = usize>) -> Self {
        fn pick<T: Clone + Default>(elements: &[T], places: impl Iterator<Item = usize>) -> Vec<T> {
            places.map(|place| elements.get(place).cloned().unwrap_or_default()).collect()
        }
        match self {
            Self::F32(elements) => Self::F32(pick(elements, places)),
            Self::F64(elements) => Self::F64(pick(elements, places)),
            Self::F16(elements) => Self::F16(pick(elements, places)),
            Self::Bf16(elements) => Self::Bf16(pick(elements, places)),
            Self::I8(elements) => Self::I8(pick(elements, places)),
            Self::I16(elements) => Self::I16(pick(elements, places)),
            Self::I32(elements) => Self::I32(pick(elements, places)),
            Self::I64(elements) => Self::I64(pick(elements, places)),
            Self::U8(elements) => Self::U8(pick(elements, places)),
            Self::U16(elements) => Self::U16(pick(elements, places)),
            Self::U32(elements) => Self::U32(pick(elements, places)),
            Self::U64(elements) => Self::U64(pick(elements, places)),
            Self::Bool(elements) => Self::Bool(pick(elements, places)),
            Self::Text(elements) => Self::Text(pick(elements, places)),
            Self::Tiny(kind, elements) => Self::Tiny(*kind, pick(elements, places)),
        }
    }

    /// Copies elements of `other`, which must be of the same kind: pairs of a place here and a place there. Places that do not exist are passed over.
    ///
    /// # Errors
    /// Another kind.
    pub fn put(&mut self, other: &Self, places: impl Iterator<Item = (usize, usize)>) -> Result<(), Problem> {
        fn copy<T: Clone>(to: &mut [T], from: &[T], places: impl Iterator<Item = (usize, usize)>) {
            for (into, place) in places {
                if let (Some(into), Some(from)) = (to.get_mut(into), from.get(place)) {
                    into.clone_from(from);
                }
            }
        }
        match (self, other) {
            (Self::F32(to), Self::F32(from)) => copy(to, from, places),
            (Self::F64(to), Self::F64(from)) => copy(to, from, places),
            (Self::F16(to), Self::F16(from)) => copy(to, from, places),
            (Self::Bf16(to), Self::Bf16(from)) => copy(to, from, places),
            (Self::I8(to), Self::I8(from)) => copy(to, from, places),
            (Self::I16(to), Self::I16(from)) => copy(to, from, places),
            (Self::I32(to), Self::I32(from)) => copy(to, from, places),
            (Self::I64(to), Self::I64(from)) => copy(to, from, places),
            (Self::U8(to), Self::U8(from)) => copy(to, from, places),
            (Self::U16(to), Self::U16(from)) => copy(to, from, places),
            (Self::U32(to), Self::U32(from)) => copy(to, from, places),
            (Self::U64(to), Self::U64(from)) => copy(to, from, places),
            (Self::Bool(to), Self::Bool(from)) => copy(to, from, places),
            (Self::Text(to), Self::Text(from)) => copy(to, from, places),
            (Self::Tiny(kind, to), Self::Tiny(other, from)) if kind == other => copy(to, from, places),
            (to, from) => return Err(kinds_differ(to.kind(), from.kind())),
        }
        Ok(())
    }
}

fn kinds_differ(one: Kind, other: Kind) -> Problem {
    Problem::invalid(format!("elements of the kinds {one} and {other} do not go together"))
}

impl Tensor {
    /// A tensor of these elements.
    ///
    /// # Errors
    /// Another number of elements than the shape asks for.
    pub fn new(shape: impl Into<Vec<usize>>, data: Data) -> Result<Self, Problem> {
        let shape = shape.into();
        if elements(&shape) == Some(data.len()) {
            return Ok(Self { shape, data: Arc::new(data) });
        }
        Err(Problem::invalid(format!("the shape {shape:?} does not hold {} elements", data.len())))
    }

    /// A tensor of these elements.
    ///
    /// # Errors
    /// Another number of elements than the shape asks for.
    pub fn of<T: Element>(shape: impl Into<Vec<usize>>, elements: Vec<T>) -> Result<Self, Problem> {
        Self::new(shape, T::data(elements))
    }

    /// A tensor without axes.
    pub fn scalar<T: Element>(element: T) -> Self {
        Self { shape: Vec::new(), data: Arc::new(T::data(vec![element])) }
    }

    /// A tensor of one axis.
    pub fn vector<T: Element>(elements: Vec<T>) -> Self {
        Self { shape: vec![elements.len()], data: Arc::new(T::data(elements)) }
    }

    /// The lengths of the axes.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// How many axes there are.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The kind of the elements.
    pub fn kind(&self) -> Kind {
        self.data.kind()
    }

    /// The elements.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// The elements, copied if somebody else holds them too.
    pub fn into_data(self) -> Data {
        Arc::unwrap_or_clone(self.data)
    }

    /// Bytes that the elements take.
    pub fn bytes(&self) -> u64 {
        let bytes = match &*self.data {
            Data::Text(texts) => texts.iter().map(|text| text.len() + Kind::Text.size()).sum(),
            data => data.len().saturating_mul(data.kind().size()),
        };
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    /// The same elements under another shape.
    ///
    /// # Errors
    /// A shape that asks for another number of elements.
    pub fn reshaped(&self, shape: impl Into<Vec<usize>>) -> Result<Self, Problem> {
        let shape = shape.into();
        if elements(&shape) == Some(self.len()) {
            return Ok(Self { shape, data: Arc::clone(&self.data) });
        }
        Err(Problem::invalid(format!("{:?} elements cannot take the shape {shape:?}", self.shape)))
    }

    /// The elements at these places, in this order, under a new shape.
    ///
    /// # Errors
    /// Another number of places than the shape asks for.
    pub fn take(
        &self,
        shape: impl Into<Vec<usize>>,
        places: impl Iterator<Item = usize>,
    ) -> Result<Self, Problem> {
        Self::new(shape, self.data.take(places))
    }

    /// The elements as one type.
    ///
    /// # Errors
    /// Elements of another kind.
    pub fn elements<T: Element>(&self) -> Result<&[T], Problem> {
        T::of(&self.data).ok_or_else(|| {
            Problem::invalid(format!("expected elements of the kind {}, found {}", T::KIND, self.kind()))
        })
    }

    /// The elements of an integer tensor, as used for shapes, axes and indices.
    ///
    /// # Errors
    /// Elements of another kind.
    pub fn integers(&self) -> Result<Vec<i64>, Problem> {
        match self.numbers()? {
            Numbers::I64(elements) => Ok(elements.into_owned()),
            Numbers::U64(elements) => {
                Ok(elements.iter().map(|&element| i64::try_from(element).unwrap_or(i64::MAX)).collect())
            }
            _ => Err(Problem::invalid(format!("expected integers, found {}", self.kind()))),
        }
    }

    /// The only element of an integer tensor.
    ///
    /// # Errors
    /// Elements of another kind, or several of them.
    pub fn integer(&self) -> Result<i64, Problem> {
        match self.integers()?.as_slice() {
            [one] => Ok(*one),
            all => Err(Problem::invalid(format!("expected one integer, found {}", all.len()))),
        }
    }

    /// The elements of a tensor of numbers in double precision; integers beyond 2⁵³ are rounded.
    ///
    /// # Errors
    /// Texts.
    pub fn doubles(&self) -> Result<Vec<f64>, Problem> {
        Ok(match self.numbers()? {
            Numbers::F32(elements) => elements.iter().map(|&element| f64::from(element)).collect(),
            Numbers::F64(elements) => elements.into_owned(),
            Numbers::I64(elements) => elements.iter().map(|&element| element as f64).collect(),
            Numbers::U64(elements) => elements.iter().map(|&element| element as f64).collect(),
        })
    }

    /// The elements in one of the four types that are computed with; of booleans 0 and 1.
    ///
    /// # Errors
    /// Texts.
    pub fn numbers(&self) -> Result<Numbers<'_>, Problem> {
        fn wide<'a, T: Copy, W: From<T> + Clone>(elements: &[T]) -> Cow<'a, [W]> {
            Cow::Owned(elements.iter().map(|&element| W::from(element)).collect())
        }
        Ok(match &*self.data {
            Data::F32(elements) => Numbers::F32(Cow::Borrowed(elements)),
            Data::F64(elements) => Numbers::F64(Cow::Borrowed(elements)),
            Data::F16(elements) => Numbers::F32(wide(elements)),
            Data::Bf16(elements) => Numbers::F32(wide(elements)),
            Data::I8(elements) => Numbers::I64(wide(elements)),
            Data::I16(elements) => Numbers::I64(wide(elements)),
            Data::I32(elements) => Numbers::I64(wide(elements)),
            Data::I64(elements) => Numbers::I64(Cow::Borrowed(elements)),
            Data::U8(elements) => Numbers::U64(wide(elements)),
            Data::U16(elements) => Numbers::U64(wide(elements)),
            Data::U32(elements) => Numbers::U64(wide(elements)),
            Data::U64(elements) => Numbers::U64(Cow::Borrowed(elements)),
            Data::Bool(elements) => Numbers::U64(wide(elements)),
            Data::Tiny(kind, bits) => match kind {
                Kind::U4 | Kind::U2 => Numbers::U64(wide(bits)),
                Kind::I4 => {
                    Numbers::I64(bits.iter().map(|&bits| i64::from((bits << 4) as i8 >> 4)).collect())
                }
                Kind::I2 => {
                    Numbers::I64(bits.iter().map(|&bits| i64::from((bits << 6) as i8 >> 6)).collect())
                }
                kind => Numbers::F32(bits.iter().map(|&bits| tiny_to_f32(*kind, bits)).collect()),
            },
            Data::Text(_) => return Err(Problem::invalid("expected numbers, found string")),
        })
    }
}

impl Numbers<'_> {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(elements) => elements.len(),
            Self::F64(elements) => elements.len(),
            Self::I64(elements) => elements.len(),
            Self::U64(elements) => elements.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The numbers as elements of the kind that they were widened from: integers wrap, floating-point numbers are rounded to the nearest.
    pub fn narrow(self, kind: Kind) -> Data {
        match self {
            Self::F32(elements) => match kind {
                Kind::F16 => Data::F16(elements.iter().map(|&element| f16::from_f32(element)).collect()),
                Kind::Bf16 => Data::Bf16(elements.iter().map(|&element| bf16::from_f32(element)).collect()),
                kind if kind.is_tiny() => Data::Tiny(
                    kind,
                    elements.iter().map(|&element| tiny_from_f32(kind, element, true)).collect(),
                ),
                _ => Data::F32(elements.into_owned()),
            },
            Self::F64(elements) => Data::F64(elements.into_owned()),
            Self::I64(elements) => integers(&elements, kind, |element| element as u64),
            Self::U64(elements) => integers(&elements, kind, |element| element),
        }
    }
}

fn integers<T: Copy>(elements: &[T], kind: Kind, bits: impl Fn(T) -> u64) -> Data {
    let all = elements.iter().map(|&element| bits(element));
    match kind {
        Kind::I8 => Data::I8(all.map(|bits| bits as i8).collect()),
        Kind::I16 => Data::I16(all.map(|bits| bits as i16).collect()),
        Kind::I32 => Data::I32(all.map(|bits| bits as i32).collect()),
        Kind::U8 => Data::U8(all.map(|bits| bits as u8).collect()),
        Kind::U16 => Data::U16(all.map(|bits| bits as u16).collect()),
        Kind::U32 => Data::U32(all.map(|bits| bits as u32).collect()),
        Kind::U64 => Data::U64(all.collect()),
        Kind::Bool => Data::Bool(all.map(|bits| bits != 0).collect()),
        Kind::I4 | Kind::U4 => Data::Tiny(kind, all.map(|bits| bits as u8 & 0x0f).collect()),
        Kind::I2 | Kind::U2 => Data::Tiny(kind, all.map(|bits| bits as u8 & 0x03).collect()),
        _ => Data::I64(all.map(|bits| bits as i64).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_nan_leaves_as_the_same_one() {
        let mut halves = Data::F16([0xFE01, 0x7C01, 0xFC00, 0x3C00].map(f16::from_bits).to_vec());
        halves.canonicalize_nan();
        assert!(
            matches!(&halves, Data::F16(all) if all.iter().map(|x| x.to_bits()).eq([0x7E00, 0x7E00, 0xFC00, 0x3C00]))
        );
        let mut brains = Data::Bf16([0xFFC1, 0x3F80].map(bf16::from_bits).to_vec());
        brains.canonicalize_nan();
        assert!(
            matches!(&brains, Data::Bf16(all) if all[0].to_bits() == 0x7FC0 && all[1].to_bits() == 0x3F80)
        );
        let mut singles = Data::F32(vec![f32::from_bits(0xFFC0_0001), 1.0]);
        singles.canonicalize_nan();
        assert!(
            matches!(&singles, Data::F32(all) if all[0].to_bits() == f32::NAN.to_bits() && all[1] == 1.0)
        );
    }
}
