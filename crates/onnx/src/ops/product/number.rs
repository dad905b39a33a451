//! The types that products are summed in.

use std::borrow::Cow;

use lockgate_onnx_ml::lanes::{F32x4, F64x4, Lanes};

use super::panels::Panels;
use crate::{Data, Kind, Numbers, Problem, Tensor};

/// `f32`, `f64` or, for all integers, `i64` that wraps: the low bits of sums and products do not depend on the sign.
pub(crate) trait Number: Copy + Default + PartialOrd + Send + Sync + 'static {
    /// Four of them.
    type Four: Lanes<Self>;
    /// The sum.
    fn plus(self, other: Self) -> Self;
    /// The product.
    fn times(self, other: Self) -> Self;
    /// An attribute's value, if this type has it.
    fn factor(value: f32) -> Option<Self>;
    /// The elements of a tensor whose kind is computed with in this type.
    fn read(tensor: &Tensor) -> Result<Cow<'_, [Self]>, Problem>;
    /// The numbers as elements of a kind that is computed with in this type.
    fn data(numbers: Vec<Self>, kind: Kind) -> Data;
    /// Panels in single precision, if these are such.
    fn panels(_: &[Panels<f32>]) -> Option<&[Panels<Self>]> {
        None
    }
}

/// Runs an expression for the type that elements of a kind are computed with in: `wide!(kind, T => read::<T>(x))`.
macro_rules! wide {
    ($kind:expr, $type:ident => $body:expr) => {
        match $crate::ops::product::number::width($kind) {
            $crate::ops::product::number::Width::Single => {
                type $type = f32;
                $body
            }
            $crate::ops::product::number::Width::Double => {
                type $type = f64;
                $body
            }
            $crate::ops::product::number::Width::Whole => {
                type $type = i64;
                $body
            }
        }
    };
}

/// As [`wide`], with an error for integers.
macro_rules! float {
    ($kind:expr, $type:ident => $body:expr) => {
        match $crate::ops::product::number::width($kind) {
            $crate::ops::product::number::Width::Single => {
                type $type = f32;
                $body
            }
            $crate::ops::product::number::Width::Double => {
                type $type = f64;
                $body
            }
            $crate::ops::product::number::Width::Whole => {
                Err($crate::Problem::invalid(format!("expected floating-point numbers, found {}", $kind)))
            }
        }
    };
}

pub(crate) use {float, wide};

/// Which of the three types a kind is computed with in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    /// `f32`
    Single,
    /// `f64`
    Double,
    /// `i64`
    Whole,
}

/// The type for a kind.
pub(crate) fn width(kind: Kind) -> Width {
    match kind {
        Kind::F64 => Width::Double,
        Kind::U4 | Kind::I4 | Kind::U2 | Kind::I2 => Width::Whole,
        Kind::F32 | Kind::F16 | Kind::Bf16 => Width::Single,
        kind if kind.is_tiny() => Width::Single,
        _ => Width::Whole,
    }
}

fn kinds_differ(expected: &str, tensor: &Tensor) -> Problem {
    Problem::invalid(format!("the operands go with {expected}, but one of them is {}", tensor.kind()))
}

impl Number for f32 {
    type Four = F32x4;

    #[inline]
    fn plus(self, other: Self) -> Self {
        self + other
    }

    #[inline]
    fn times(self, other: Self) -> Self {
        self * other
    }

    fn factor(value: f32) -> Option<Self> {
        Some(value)
    }

    fn read(tensor: &Tensor) -> Result<Cow<'_, [Self]>, Problem> {
        match tensor.numbers()? {
            Numbers::F32(elements) => Ok(elements),
            _ => Err(kinds_differ("single precision", tensor)),
        }
    }

    fn data(numbers: Vec<Self>, kind: Kind) -> Data {
        Numbers::F32(Cow::Owned(numbers)).narrow(kind)
    }

    fn panels(panels: &[Panels<f32>]) -> Option<&[Panels<Self>]> {
        Some(panels)
    }
}

impl Number for f64 {
    type Four = F64x4;

    #[inline]
    fn plus(self, other: Self) -> Self {
        self + other
    }

    #[inline]
    fn times(self, other: Self) -> Self {
        self * other
    }

    fn factor(value: f32) -> Option<Self> {
        Some(value.into())
    }

    fn read(tensor: &Tensor) -> Result<Cow<'_, [Self]>, Problem> {
        match tensor.numbers()? {
            Numbers::F64(elements) => Ok(elements),
            _ => Err(kinds_differ("double precision", tensor)),
        }
    }

    fn data(numbers: Vec<Self>, _: Kind) -> Data {
        Data::F64(numbers)
    }
}

/// Four `i64` that wrap.
#[derive(Debug, Clone, Copy)]
pub(crate) struct I64x4([i64; 4]);

impl Lanes<i64> for I64x4 {
    #[inline(always)]
    fn load(numbers: &[i64; 4]) -> Self {
        Self(*numbers)
    }

    #[inline(always)]
    fn store(self, numbers: &mut [i64; 4]) {
        *numbers = self.0;
    }

    #[inline(always)]
    fn all(number: i64) -> Self {
        Self([number; 4])
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
        Self([a.wrapping_add(e), b.wrapping_add(f), c.wrapping_add(g), d.wrapping_add(h)])
    }

    #[inline(always)]
    fn times(self, other: Self) -> Self {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
        Self([a.wrapping_mul(e), b.wrapping_mul(f), c.wrapping_mul(g), d.wrapping_mul(h)])
    }
}

impl Number for i64 {
    type Four = I64x4;

    #[inline]
    fn plus(self, other: Self) -> Self {
        self.wrapping_add(other)
    }

    #[inline]
    fn times(self, other: Self) -> Self {
        self.wrapping_mul(other)
    }

    fn factor(value: f32) -> Option<Self> {
        (value.trunc() == value && value.abs() < 9.0e18).then_some(value as i64)
    }

    fn read(tensor: &Tensor) -> Result<Cow<'_, [Self]>, Problem> {
        match tensor.numbers()? {
            Numbers::I64(elements) => Ok(elements),
            Numbers::U64(elements) => Ok(elements.iter().map(|&element| element as i64).collect()),
            _ => Err(kinds_differ("integers", tensor)),
        }
    }

    fn data(numbers: Vec<Self>, kind: Kind) -> Data {
        Numbers::I64(Cow::Owned(numbers)).narrow(kind)
    }
}
