//! Floating-point numbers of 8 bits and fewer: <https://onnx.ai/onnx/technical/float8.html>, float4.html.

use super::Kind;

/// How the bits of a tiny kind are laid out.
struct Layout {
    exponent_bits: u32,
    mantissa_bits: u32,
    bias: i32,
    special: Special,
}

/// What the bits say that stand for no finite number.
#[derive(PartialEq, Eq)]
enum Special {
    /// As IEEE 754: the largest exponent is infinity and NaN.
    Ieee,
    /// All bits set but the sign: NaN. No infinity.
    LastIsNan,
    /// Only the negative zero is NaN. No infinity.
    NegativeZeroIsNan,
    /// Everything is finite.
    None,
}

fn layout(kind: Kind) -> Layout {
    let (exponent_bits, mantissa_bits, bias, special) = match kind {
        Kind::F8E4M3FnUz => (4, 3, 8, Special::NegativeZeroIsNan),
        Kind::F8E5M2 => (5, 2, 15, Special::Ieee),
        Kind::F8E5M2FnUz => (5, 2, 16, Special::NegativeZeroIsNan),
        Kind::F4E2M1 => (2, 1, 1, Special::None),
        _ => (4, 3, 7, Special::LastIsNan),
    };
    Layout { exponent_bits, mantissa_bits, bias, special }
}

/// The number that the bits of a tiny floating-point kind stand for.
pub fn tiny_to_f32(kind: Kind, bits: u8) -> f32 {
    if kind == Kind::F8E8M0 {
        return match bits {
            0xff => f32::NAN,
            bits => libm::ldexpf(1.0, i32::from(bits) - 127),
        };
    }
    let Layout { exponent_bits, mantissa_bits, bias, special } = layout(kind);
    let bits = u32::from(bits);
    let sign_bit = 1 << (exponent_bits + mantissa_bits);
    let magnitude = bits & (sign_bit - 1);
    let exponent = magnitude >> mantissa_bits;
    let mantissa = magnitude & ((1 << mantissa_bits) - 1);
    let value = match special {
        Special::NegativeZeroIsNan if bits == sign_bit => return f32::NAN,
        Special::LastIsNan if magnitude == sign_bit - 1 => return f32::NAN,
        Special::Ieee if exponent == (1 << exponent_bits) - 1 => {
            if mantissa == 0 {
                f32::INFINITY
            } else {
                return f32::NAN;
            }
        }
        _ => {
            let scale = mantissa_bits.cast_signed();
            if exponent == 0 {
                libm::ldexpf(mantissa as f32, 1 - bias - scale)
            } else {
                libm::ldexpf((mantissa | 1 << mantissa_bits) as f32, exponent.cast_signed() - bias - scale)
            }
        }
    };
    if bits & sign_bit != 0 { -value } else { value }
}

/// The bits of a tiny floating-point kind for a number, rounded to the nearest, ties to even. What is too large becomes the largest number when
/// `saturate`, else infinity or NaN.
pub fn tiny_from_f32(kind: Kind, value: f32, saturate: bool) -> u8 {
    if kind == Kind::F8E8M0 {
        return e8m0(value, saturate);
    }
    let Layout { exponent_bits, mantissa_bits, special, .. } = layout(kind);
    let sign_bit = 1_u32 << (exponent_bits + mantissa_bits);
    let sign = if value.is_sign_negative() { sign_bit } else { 0 };
    let last = sign_bit - 1;
    let (largest, nan, infinity) = match special {
        Special::Ieee => {
            let infinity = ((1 << exponent_bits) - 1) << mantissa_bits;
            (infinity - 1, last | sign, Some(infinity | sign))
        }
        Special::LastIsNan => (last - 1, last | sign, None),
        Special::NegativeZeroIsNan => (last, sign_bit, None),
        Special::None => (last, sign, None),
    };
    if value.is_nan() {
        return nan as u8;
    }
    let outside = || match infinity {
        _ if saturate => largest | sign,
        Some(infinity) => infinity,
        None if special == Special::None => largest | sign,
        None => nan,
    };
    if value.is_infinite() {
        return outside() as u8;
    }
    // Magnitudes grow with their bits, so the nearest is one of two neighbours.
    let magnitude = value.abs();
    let at = |bits: u32| tiny_to_f32(kind, bits as u8);
    let (mut low, mut high) = (0, largest);
    while low < high {
        let middle = (low + high).div_ceil(2);
        if at(middle) <= magnitude { low = middle } else { high = middle - 1 }
    }
    let below = at(low);
    let found = if low == largest {
        // As if there were one more number behind the last.
        let step = below - at(low - 1);
        let beyond = magnitude - below;
        let rounds_up = beyond > step / 2.0 || (beyond == step / 2.0 && low & 1 == 1);
        if rounds_up {
            return outside() as u8;
        }
        low
    } else {
        let above = at(low + 1);
        let (down, up) = (magnitude - below, above - magnitude);
        if down < up || (down == up && low & 1 == 0) { low } else { low + 1 }
    };
    if found == 0 && special == Special::NegativeZeroIsNan {
        return 0;
    }
    (found | sign) as u8
}

/// Powers of two: the nearest, upwards where two are equally near.
fn e8m0(value: f32, saturate: bool) -> u8 {
    if value.is_nan() {
        return 0xff;
    }
    let magnitude = value.abs();
    if magnitude.is_infinite() {
        return if saturate { 0xfe } else { 0xff };
    }
    if magnitude == 0.0 {
        return 0;
    }
    let (mantissa, exponent) = libm::frexpf(magnitude);
    // `mantissa` lies in [½, 1): the power below is 2^(exponent - 1).
    let nearest = if mantissa >= 0.75 { exponent } else { exponent - 1 } + 127;
    match nearest {
        ..=0 => 0,
        255.. => {
            if saturate {
                0xfe
            } else {
                0xff
            }
        }
        nearest => nearest as u8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_come_back() {
        for kind in
            [Kind::F8E4M3Fn, Kind::F8E4M3FnUz, Kind::F8E5M2, Kind::F8E5M2FnUz, Kind::F4E2M1, Kind::F8E8M0]
        {
            let last = if kind == Kind::F4E2M1 { 15 } else { 255 };
            for bits in 0..=last {
                let value = tiny_to_f32(kind, bits);
                let back = tiny_from_f32(kind, value, false);
                assert!(
                    back == bits || (value.is_nan() && tiny_to_f32(kind, back).is_nan()),
                    "{kind} {bits:#x} {value} {back:#x}"
                );
            }
        }
    }

    #[test]
    fn what_is_too_large_saturates_where_it_shall() {
        let check = |kind, value, saturated, not| {
            assert_eq!(
                (tiny_from_f32(kind, value, true), tiny_from_f32(kind, value, false)),
                (saturated, not),
                "{kind} {value}"
            );
        };
        check(Kind::F8E4M3Fn, 464.0, 0x7e, 0x7e);
        check(Kind::F8E4M3Fn, 480.0, 0x7e, 0x7f);
        check(Kind::F8E5M2, 1e6, 0x7b, 0x7c);
        check(Kind::F8E4M3FnUz, -1e6, 0xff, 0x80);
        check(Kind::F4E2M1, 100.0, 7, 7);
    }
}
