//! Elementary functions, the same bits on every target.
//!
//! The single-precision ones are polynomials without branches or tables, so that loops over slices become SIMD code.
//! Their coefficients are minimax fits (Remez exchange, relative error) made for this crate. Errors are bounded over all
//! finite inputs by the tests below, in units in the last place (ulp) against double precision.

use crate::lanes::{F32x4, F64x4, Transpose};

/// `f32` or `f64`: what the dense kernels compute in.
pub trait Float:
    Copy
    + PartialOrd
    + Default
    + core::ops::Add<Output = Self>
    + core::ops::Sub<Output = Self>
    + core::ops::Mul<Output = Self>
    + core::ops::Div<Output = Self>
    + core::ops::Neg<Output = Self>
    + core::ops::AddAssign
{
    /// Four of them.
    type Four: Transpose<Self>;
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// The smallest number that is not infinite.
    const LOWEST: Self;
    /// The one NaN that leaves a kernel.
    const NAN: Self;

    /// e to the power of `self`.
    fn exp(self) -> Self;
    /// The natural logarithm.
    fn ln(self) -> Self;
    /// The hyperbolic tangent.
    fn tanh(self) -> Self;
    /// 1 / (1 + e⁻ˣ).
    fn logistic(self) -> Self;
    /// The square root.
    fn sqrt(self) -> Self;
    /// The magnitude.
    fn abs(self) -> Self;
    /// Whether it is NaN.
    fn is_nan(self) -> bool;
    /// The nearest value.
    fn from_f32(value: f32) -> Self;
    /// The nearest value.
    fn from_f64(value: f64) -> Self;
    /// The nearest value.
    fn to_f32(self) -> f32;
    /// The same value.
    fn to_f64(self) -> f64;
}

impl Float for f32 {
    type Four = F32x4;
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const LOWEST: Self = Self::MIN;
    const NAN: Self = Self::from_bits(0x7fc0_0000);

    #[inline]
    fn exp(self) -> Self {
        exp(self)
    }

    #[inline]
    fn ln(self) -> Self {
        libm::logf(self)
    }

    #[inline]
    fn tanh(self) -> Self {
        tanh(self)
    }

    #[inline]
    fn logistic(self) -> Self {
        sigmoid(self)
    }

    #[inline]
    fn sqrt(self) -> Self {
        libm::sqrtf(self)
    }

    #[inline]
    fn abs(self) -> Self {
        Self::from_bits(self.to_bits() & 0x7fff_ffff)
    }

    #[inline]
    fn is_nan(self) -> bool {
        Self::is_nan(self)
    }

    #[inline]
    fn from_f32(value: f32) -> Self {
        value
    }

    #[inline]
    fn from_f64(value: f64) -> Self {
        value as Self
    }

    #[inline]
    fn to_f32(self) -> f32 {
        self
    }

    #[inline]
    fn to_f64(self) -> f64 {
        self.into()
    }
}

impl Float for f64 {
    type Four = F64x4;
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const LOWEST: Self = Self::MIN;
    const NAN: Self = Self::from_bits(0x7ff8_0000_0000_0000);

    #[inline]
    fn exp(self) -> Self {
        libm::exp(self)
    }

    #[inline]
    fn ln(self) -> Self {
        libm::log(self)
    }

    #[inline]
    fn tanh(self) -> Self {
        libm::tanh(self)
    }

    #[inline]
    fn logistic(self) -> Self {
        let tail = libm::exp(-Float::abs(self));
        if self < 0.0 { tail / (1.0 + tail) } else { 1.0 / (1.0 + tail) }
    }

    #[inline]
    fn sqrt(self) -> Self {
        libm::sqrt(self)
    }

    #[inline]
    fn abs(self) -> Self {
        Self::from_bits(self.to_bits() & !(1 << 63))
    }

    #[inline]
    fn is_nan(self) -> bool {
        Self::is_nan(self)
    }

    #[inline]
    fn from_f32(value: f32) -> Self {
        value.into()
    }

    #[inline]
    fn from_f64(value: f64) -> Self {
        value
    }

    #[inline]
    fn to_f32(self) -> f32 {
        self as f32
    }

    #[inline]
    fn to_f64(self) -> f64 {
        self
    }
}

/// e to the power of `x`, within 2 ulp, subnormal results within one subnormal step.
#[inline]
pub fn exp(x: f32) -> f32 {
    // Outside of these bounds the result is 0 or infinity; the comparisons let NaN through.
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -104.0 { -104.0 } else { x };
    // x = n ln 2 + r, |r| ≤ ln 2 / 2. Adding 1.5·2²³ rounds to an integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let shifted = x * core::f32::consts::LOG2_E + ROUND;
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let whole = shifted - ROUND;
    // ln 2 in two parts; the first has trailing zeros, so that its product with n is exact.
    let r = (x - whole * 0.693_359_4) - whole * -2.121_944_4e-4;
    let p = 0.001_381_166_3_f32;
    let p = p * r + 0.008_370_135;
    let p = p * r + 0.041_668_527;
    let p = p * r + 0.166_665_09;
    let p = p * r + 0.499_999_94;
    let p = p * r * r + r + 1.0;
    // 2ⁿ in two halves, because n can lie outside of the exponents of normal numbers.
    let half = n >> 1;
    p * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

#[inline]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// The hyperbolic tangent of `x`, within 3 ulp.
#[inline]
pub fn tanh(x: f32) -> f32 {
    let magnitude = f32::from_bits(x.to_bits() & 0x7fff_ffff);
    let z = x * x;
    let p = -0.005_895_158_3_f32;
    let p = p * z + 0.020_795_971;
    let p = p * z - 0.053_783_83;
    let p = p * z + 0.133_319_24;
    let p = p * z - 0.333_333;
    let near = magnitude + magnitude * z * p;
    let far = 1.0 - 2.0 / (exp(2.0 * magnitude) + 1.0);
    let result = if magnitude < 0.6 { near } else { far };
    f32::from_bits(result.to_bits() | (x.to_bits() & 0x8000_0000))
}

/// 1 / (1 + e⁻ˣ), within 4 ulp.
#[inline]
pub fn sigmoid(x: f32) -> f32 {
    let magnitude = f32::from_bits(x.to_bits() & 0x7fff_ffff);
    let tail = exp(-magnitude);
    let top = if x < 0.0 { tail } else { 1.0 };
    top / (1.0 + tail)
}

/// Replaces each value by its [`exp`].
pub fn exp_in_place(values: &mut [f32]) {
    values.iter_mut().for_each(|value| *value = exp(*value));
}

/// Replaces each value by its [`tanh`].
pub fn tanh_in_place(values: &mut [f32]) {
    values.iter_mut().for_each(|value| *value = tanh(*value));
}

/// Replaces each value by its [`sigmoid`].
pub fn sigmoid_in_place(values: &mut [f32]) {
    values.iter_mut().for_each(|value| *value = sigmoid(*value));
}

/// Replaces each negative value by 0; NaN stays.
pub fn relu_in_place(values: &mut [f32]) {
    values.iter_mut().for_each(|value| *value = if *value < 0.0 { 0.0 } else { *value });
}

/// The inverse of the normal distribution function's relative that `ai.onnx.ml` calls PROBIT: √2 · erf⁻¹(2p − 1), with
/// the approximation of erf⁻¹ by S. Winitzki ("A handy approximation for the error function and its inverse", 2008) that
/// onnxruntime uses. NaN outside of 0 … 1.
pub fn probit(p: f32) -> f32 {
    const A: f32 = 0.147;
    let x = 2.0 * p - 1.0;
    let log = libm::logf((1.0 - x) * (1.0 + x));
    let first = 2.0 / (core::f32::consts::PI * A) + 0.5 * log;
    let root = libm::sqrtf(libm::sqrtf(first * first - log / A) - first);
    core::f32::consts::SQRT_2 * if x < 0.0 { -root } else { root }
}

/// Replaces every NaN by the one with the sign and payload that leaves the core.
pub fn canonicalize_nan<T: Float>(values: &mut [T]) {
    for value in values {
        if value.is_nan() {
            *value = T::NAN;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The distance to the true value in units of the last place of the result.
    fn ulps(found: f32, want: f64) -> f64 {
        let nearest = want as f32;
        if found.to_bits() == nearest.to_bits() {
            return 0.0;
        }
        let next = f32::from_bits(nearest.abs().to_bits() + 1);
        let step = f64::from(next) - f64::from(nearest.abs());
        (f64::from(found) - want).abs() / step
    }

    fn worst(function: fn(f32) -> f32, reference: fn(f64) -> f64, low: f32, high: f32) -> f64 {
        let mut worst = 0.0_f64;
        // A stride that is no power of two visits every exponent and many mantissas.
        for bits in (0..=u32::MAX).step_by(4_099) {
            let x = f32::from_bits(bits);
            if x >= low && x <= high {
                worst = worst.max(ulps(function(x), reference(x.into())));
            }
        }
        worst
    }

    #[test]
    fn errors_stay_within_the_documented_bounds() {
        let logistic = |x: f64| 1.0 / (1.0 + libm::exp(-x));
        assert!(worst(exp, libm::exp, -87.0, 88.7) <= 2.0, "exp: {}", worst(exp, libm::exp, -87.0, 88.7));
        assert!(worst(exp, libm::exp, -104.0, -87.0) <= 2.0);
        assert!(
            worst(tanh, libm::tanh, f32::MIN, f32::MAX) <= 3.0,
            "tanh: {}",
            worst(tanh, libm::tanh, -20.0, 20.0)
        );
        assert!(
            worst(sigmoid, logistic, -87.0, f32::MAX) <= 4.0,
            "sigmoid: {}",
            worst(sigmoid, logistic, -87.0, 90.0)
        );
    }

    #[test]
    fn limits_are_exact() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(88.8), f32::INFINITY);
        assert_eq!(exp(-103.0), f32::from_bits(1));
        assert!(exp(f32::NAN).is_nan());
        assert_eq!(tanh(f32::INFINITY), 1.0);
        assert_eq!(tanh(f32::NEG_INFINITY), -1.0);
        assert_eq!(tanh(-0.0).to_bits(), (-0.0_f32).to_bits());
        assert!(tanh(f32::NAN).is_nan());
        assert_eq!(sigmoid(0.0), 0.5);
        assert_eq!(sigmoid(f32::INFINITY), 1.0);
        assert_eq!(sigmoid(f32::NEG_INFINITY), 0.0);
        assert!(sigmoid(f32::NAN).is_nan());
        assert_eq!(Float::logistic(-1000.0_f64), 0.0);
    }

    #[test]
    fn a_bit_of_the_result_never_changes() {
        // Pins the bits, so that a change of compiler or target that alters them does not pass unnoticed.
        let found: Vec<u32> = [exp(1.0), exp(-10.3), tanh(0.3), tanh(1.7), sigmoid(2.5)]
            .into_iter()
            .map(f32::to_bits)
            .collect();
        assert_eq!(found, PINNED, "{found:#010x?}");
    }

    const PINNED: [u32; 5] = [0x402d_f854, 0x380d_1141, 0x3e95_26ee, 0x3f6f_76f8, 0x3f6c_948f];

    #[test]
    fn probit_is_the_documented_approximation() {
        assert!((probit(0.7) - 0.524_45).abs() < 1e-5);
        assert!((probit(0.3) + 0.524_45).abs() < 1e-5);
        assert_eq!(probit(0.0), f32::NEG_INFINITY);
        assert!(probit(1.5).is_nan());
    }
}
