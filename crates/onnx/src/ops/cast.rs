//! Other kinds of elements, and quantisation.

use half::{bf16, f16};

use super::activation::room;
use crate::operator::{ai, optional, required};
use crate::shape::{axis, elements, sources};
use crate::tensor::tiny_from_f32;
use crate::{Build, Data, Kernel, Kind, Meter, Numbers, Operator, Problem, Tensor};
use lockgate_onnx_ml::dense::whole;

const KINDS: &str = "complex and float6 kinds are refused: use another kind";

pub(super) const TABLE: &[Operator] = &[
    ai("BitCast", 26, &["to"], bit_cast).but(KINDS),
    ai("Cast", 1, &["round_mode", "saturate", "to"], cast).but(KINDS),
    ai("CastLike", 15, &["round_mode", "saturate"], cast_like).but(KINDS),
    ai("DequantizeLinear", 10, &["axis", "block_size", "output_dtype"], dequantize).but(KINDS),
    ai("DynamicQuantizeLinear", 11, &[], |_| Ok(Box::new(dynamic_quantize))),
    ai("QuantizeLinear", 10, &["axis", "block_size", "output_dtype", "precision", "saturate"], quantize)
        .but(KINDS),
];

/// The kind that an attribute names by number; `None` where it is left out or 0.
fn kind_attribute(build: &Build<'_>, name: &str) -> Result<Option<Kind>, Problem> {
    let Some(number) = build.attributes.int(name)?.filter(|&number| number != 0) else { return Ok(None) };
    Kind::from_number(number).map(Some).ok_or_else(|| {
        Problem::attribute(name, format!("elements of the kind {number} are not supported"), "another kind")
    })
}

/// Where numbers go that lie between two powers of two.
#[derive(Debug, Clone, Copy)]
enum Rounding {
    Up,
    Down,
    Nearest,
}

/// What the attributes of a cast say.
#[derive(Debug, Clone, Copy)]
struct Manner {
    saturate: bool,
    rounding: Rounding,
}

impl Manner {
    fn of(build: &Build<'_>) -> Result<Self, Problem> {
        let rounding = match build.attributes.text_or("round_mode", "up")? {
            "up" => Rounding::Up,
            "down" => Rounding::Down,
            "nearest" => Rounding::Nearest,
            other => {
                let message = format!("there is no way of rounding `{other}`");
                return Err(Problem::attribute("round_mode", message, "`up`, `down` or `nearest`"));
            }
        };
        Ok(Self { saturate: build.attributes.flag("saturate", true)?, rounding })
    }
}

fn cast(build: &Build<'_>) -> Result<Kernel, Problem> {
    let kind = if build.opset < 6 {
        let name = build.attributes.text_or("to", "")?;
        Kind::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(name))
    } else {
        kind_attribute(build, "to")?
    };
    let kind =
        kind.ok_or_else(|| Problem::attribute("to", "it names no kind of elements", "say the kind"))?;
    let manner = Manner::of(build)?;
    Ok(Box::new(move |operands, meter| Ok(vec![converted(required(operands, 0)?, kind, manner, meter)?])))
}

fn cast_like(build: &Build<'_>) -> Result<Kernel, Problem> {
    let manner = Manner::of(build)?;
    Ok(Box::new(move |operands, meter| {
        let kind = required(operands, 1)?.kind();
        Ok(vec![converted(required(operands, 0)?, kind, manner, meter)?])
    }))
}

fn converted(x: &Tensor, kind: Kind, manner: Manner, meter: &mut Meter) -> Result<Tensor, Problem> {
    if x.kind() == kind {
        return Ok(x.clone());
    }
    room(meter, x.shape(), kind)?;
    let data = match (x.data(), kind) {
        (Data::Text(texts), kind) => {
            meter.work(x.bytes())?;
            numerals(texts, kind)?.to(kind, manner)
        }
        (_, Kind::Text) => {
            let numbers = x.numbers()?;
            let digits = match &numbers {
                Numbers::F32(_) | Numbers::F64(_) => LONGEST_NUMBER,
                _ => 20,
            };
            meter.room(x.shape(), Kind::Text.size() + digits)?;
            Data::Text(written(&numbers))
        }
        _ => x.numbers()?.to(kind, manner),
    };
    Tensor::new(x.shape(), data)
}

/// The numbers that texts say, in the type that a kind is computed in. A fraction that becomes an integer is cut off.
fn numerals(texts: &[String], kind: Kind) -> Result<Numbers<'static>, Problem> {
    fn all<T>(texts: &[String], parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, Problem> {
        let each = texts.iter().map(|text| {
            parse(text.trim()).ok_or_else(|| {
                let start: String = text.chars().take(40).collect();
                Problem::invalid(format!("the text `{start}` is not a number"))
            })
        });
        each.collect()
    }
    let double = |text: &str| text.parse::<f64>().ok();
    Ok(match kind {
        Kind::F64 | Kind::Bool => Numbers::F64(all(texts, double)?.into()),
        kind if kind.is_float() => Numbers::F32(all(texts, |text| text.parse().ok())?.into()),
        Kind::U8 | Kind::U16 | Kind::U32 | Kind::U64 | Kind::U4 | Kind::U2 => {
            Numbers::U64(all(texts, |text| text.parse().ok().or_else(|| double(text).map(unsigned)))?.into())
        }
        _ => Numbers::I64(
            all(texts, |text| text.parse().ok().or_else(|| double(text).map(|x| x as i64)))?.into(),
        ),
    })
}

/// Numbers as texts. ONNX leaves open how many digits floating-point numbers have; here they have the eight at most that
/// onnxruntime writes, of both precisions, and an exponent where C's `%g` has one. Of a boolean 0 or 1.
fn written(numbers: &Numbers<'_>) -> Vec<String> {
    match numbers {
        Numbers::F32(all) => all.iter().map(|&x| eight_digits(x.into())).collect(),
        Numbers::F64(all) => all.iter().map(|&x| eight_digits(x)).collect(),
        Numbers::I64(all) => all.iter().map(ToString::to_string).collect(),
        Numbers::U64(all) => all.iter().map(ToString::to_string).collect(),
    }
}

/// The most characters that [`eight_digits`] writes, `-1.2345678e-308`.
const LONGEST_NUMBER: usize = 15;

/// C's `%.8g`; `NaN`, `INF` and `-INF`.
fn eight_digits(x: f64) -> String {
    if x.is_nan() {
        return "NaN".to_owned();
    }
    if x.is_infinite() {
        return if x > 0.0 { "INF" } else { "-INF" }.to_owned();
    }
    let scientific = format!("{:.7e}", x.abs());
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits = digits.replace('.', "");
    let digits = match digits.trim_end_matches('0') {
        "" => "0",
        digits => digits,
    };
    let zeros = |count: usize| "0".repeat(count);
    let places = exponent.unsigned_abs() as usize;
    let number = match exponent {
        -4..=-1 => format!("0.{}{digits}", zeros(places - 1)),
        0..=7 => {
            let whole = places + 1;
            match digits.split_at_checked(whole) {
                Some((whole, "")) => whole.to_owned(),
                Some((whole, part)) => format!("{whole}.{part}"),
                None => format!("{digits}{}", zeros(whole - digits.len())),
            }
        }
        _ => {
            let sign = if exponent < 0 { '-' } else { '+' };
            let (first, rest) = digits.split_at_checked(1).unwrap_or((digits, ""));
            let point = if rest.is_empty() { "" } else { "." };
            format!("{first}{point}{rest}e{sign}{places:02}")
        }
    };
    if x.is_sign_negative() { format!("-{number}") } else { number }
}

/// A number without its fraction, modulo 2⁶⁴.
fn unsigned(x: f64) -> u64 {
    if x < 0.0 { x as i64 as u64 } else { x as u64 }
}

impl Numbers<'_> {
    /// The numbers as elements of any kind of number. Integers keep their low bits. What floating-point numbers become that
    /// do not fit, ONNX leaves open; here it is what onnxruntime makes of them on x86-64, but for unsigned ones of 64 bits.
    fn to(&self, kind: Kind, manner: Manner) -> Data {
        macro_rules! map {
            ($x:ident => $body:expr) => {
                match self {
                    Numbers::F32(all) => all.iter().map(|&$x| $body).collect(),
                    Numbers::F64(all) => all.iter().map(|&$x| $body).collect(),
                    Numbers::I64(all) => all.iter().map(|&$x| $body).collect(),
                    Numbers::U64(all) => all.iter().map(|&$x| $body).collect(),
                }
            };
        }
        if let Numbers::F64(all) = self
            && kind.is_float()
            && kind.size() < Kind::F32.size()
        {
            return Numbers::F32(all.iter().map(|&x| to_odd(x)).collect()).to(kind, manner);
        }
        match kind {
            Kind::F32 => Data::F32(map!(x => x as f32)),
            Kind::F64 => Data::F64(map!(x => x as f64)),
            Kind::F16 => Data::F16(map!(x => f16::from_f32(x as f32))),
            Kind::Bf16 => Data::Bf16(map!(x => bf16::from_f32(x as f32))),
            Kind::F8E8M0 => Data::Tiny(kind, map!(x => power_of_two(x as f32, manner))),
            kind if kind.is_float() => {
                Data::Tiny(kind, map!(x => tiny_from_f32(kind, x as f32, manner.saturate)))
            }
            kind => match self {
                Numbers::F32(all) => integers(all.iter().map(|&x| f64::from(x)), kind),
                Numbers::F64(all) => integers(all.iter().copied(), kind),
                Numbers::I64(_) | Numbers::U64(_) => self.clone().narrow(kind),
            },
        }
    }
}

/// A number in single precision that rounds to the same number of any narrower kind as the double itself: what
/// does not fit goes to the neighbour whose last bit is set, which lies in the middle of no two narrower numbers
/// (S. Boldo and G. Melquiond, "Emulation of a FMA and correctly rounded sums: proved algorithms using rounding to
/// odd", 2008).
fn to_odd(x: f64) -> f32 {
    let near = x as f32;
    let bits = near.to_bits();
    if f64::from(near) == x || !near.is_finite() || bits & 1 == 1 {
        return near;
    }
    let beyond = f64::from(near).abs() > x.abs();
    f32::from_bits(if beyond { bits - 1 } else { bits + 1 })
}

/// [`whole`] with 32 bits.
fn whole_of_32_bits(x: f64) -> i64 {
    let (least, most) = (f64::from(i32::MIN) - 1.0, f64::from(i32::MAX) + 1.0);
    if x > least && x < most { x as i64 } else { i32::MIN.into() }
}

fn integers(all: impl Iterator<Item = f64>, kind: Kind) -> Data {
    let numbers = match kind {
        Kind::Bool => Numbers::U64(all.map(|x| u64::from(x != 0.0)).collect()),
        Kind::I64 | Kind::U32 => Numbers::I64(all.map(whole).collect()),
        Kind::U64 => Numbers::U64(all.map(unsigned).collect()),
        // Narrow ones keep the low bits of 32.
        _ => Numbers::I64(all.map(whole_of_32_bits).collect()),
    };
    numbers.narrow(kind)
}

/// The bits of a float8e8m0, which are an exponent; of the magnitude, because it has no sign. What is too small or
/// too large becomes the smallest or largest number, or NaN without `saturate`.
fn power_of_two(value: f32, manner: Manner) -> u8 {
    const NAN: u8 = 0xff;
    let outside = |nearest| if manner.saturate { nearest } else { NAN };
    let magnitude = value.abs();
    if magnitude.is_nan() {
        return NAN;
    }
    if magnitude == 0.0 {
        return outside(0);
    }
    if magnitude.is_infinite() {
        return outside(0xfe);
    }
    // The mantissa lies in [½, 1): the power below is 2^(exponent − 1).
    let (mantissa, exponent) = libm::frexpf(magnitude);
    let above = match manner.rounding {
        Rounding::Up => mantissa > 0.5,
        Rounding::Down => false,
        Rounding::Nearest => mantissa >= 0.75,
    };
    match exponent - i32::from(!above) + 127 {
        ..0 => outside(0),
        bits => u8::try_from(bits).ok().filter(|&bits| bits != NAN).unwrap_or_else(|| outside(0xfe)),
    }
}

/// How many bits an element has in ONNX; texts have none.
fn bits(kind: Kind) -> Option<usize> {
    match kind {
        Kind::Text => None,
        Kind::U4 | Kind::I4 | Kind::F4E2M1 => Some(4),
        Kind::U2 | Kind::I2 => Some(2),
        kind => Some(kind.size() * 8),
    }
}

/// The same bits as another kind. Of a NaN only that it is one is the same on every target, so all of them have
/// one pattern here. A boolean is any bits but 0.
fn bit_cast(build: &Build<'_>) -> Result<Kernel, Problem> {
    let kind = kind_attribute(build, "to")?
        .filter(|&kind| bits(kind).is_some())
        .ok_or_else(|| Problem::attribute("to", "it names no kind of numbers", "say the kind"))?;
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        if bits(x.kind()) != bits(kind) {
            let (from, to) = (x.kind(), kind);
            return Err(Problem::invalid(format!("elements of the kinds {from} and {to} differ in size")));
        }
        if x.kind() == kind {
            return Ok(vec![x.clone()]);
        }
        meter.room(x.shape(), kind.size().saturating_mul(3))?;
        let bytes = match x.data() {
            Data::F32(all) => canonical(all, f32::NAN, f32::is_nan).to_bytes(),
            Data::F64(all) => canonical(all, f64::NAN, f64::is_nan).to_bytes(),
            Data::F16(all) => canonical(all, f16::NAN, f16::is_nan).to_bytes(),
            Data::Bf16(all) => canonical(all, bf16::NAN, bf16::is_nan).to_bytes(),
            _ => x.to_bytes(),
        };
        Ok(vec![Tensor::from_bytes(kind, x.shape(), &bytes)?])
    }))
}

fn canonical<T: crate::Element + Copy>(all: &[T], nan: T, is_nan: impl Fn(T) -> bool) -> Tensor {
    Tensor::vector(all.iter().map(|&x| if is_nan(x) { nan } else { x }).collect())
}

/// Along what scales differ.
#[derive(Debug, Clone, Copy)]
struct Grain {
    axis: i64,
    /// Elements along the axis that share a scale; 0 where scales are one per element of the axis.
    block: usize,
}

/// Positions of scales.
type Places = Box<dyn Iterator<Item = usize>>;

impl Grain {
    fn of(build: &Build<'_>) -> Result<Self, Problem> {
        let block = build.attributes.int_or("block_size", 0)?;
        let block = usize::try_from(block).map_err(|_| {
            Problem::attribute("block_size", format!("a block cannot have {block} elements"), "1 or more")
        })?;
        Ok(Self { axis: build.attributes.int_or("axis", 1)?, block })
    }

    /// Where the scale of each element stands; `None` where there is one for all.
    fn places(self, x: &[usize], scale: &[usize]) -> Result<Option<Places>, Problem> {
        if elements(scale) == Some(1) {
            return Ok(None);
        }
        let unfit =
            || Problem::invalid(format!("scales of the shape {scale:?} do not fit elements of {x:?}"));
        let axis = axis(self.axis, x.len())?;
        let len = x.get(axis).copied().unwrap_or(0);
        if self.block == 0 {
            if scale != [len] {
                return Err(unfit());
            }
            let mut shape = vec![1; x.len()];
            if let Some(place) = shape.get_mut(axis) {
                *place = len;
            }
            return Ok(Some(Box::new(sources(&shape, x))));
        }
        let mut expected = x.to_vec();
        let blocks = len.div_ceil(self.block);
        if let Some(place) = expected.get_mut(axis) {
            *place = blocks;
        }
        if scale != expected {
            return Err(unfit());
        }
        let outer = elements(x.get(..axis).unwrap_or_default()).unwrap_or(0);
        let inner = elements(x.get(axis + 1..).unwrap_or_default()).unwrap_or(0);
        let block = self.block;
        let rows = (0..outer).flat_map(move |outer| (0..len).map(move |at| outer * blocks + at / block));
        Ok(Some(Box::new(rows.flat_map(move |row| (0..inner).map(move |at| row * inner + at)))))
    }
}

/// A function of each element and the position of its scale.
fn along<T: Copy, R>(all: &[T], places: Option<Places>, function: impl Fn(T, usize) -> R) -> Vec<R> {
    match places {
        None => all.iter().map(|&x| function(x, 0)).collect(),
        Some(places) => all.iter().zip(places).map(|(&x, at)| function(x, at)).collect(),
    }
}

/// Numbers in single precision.
fn singles(x: &Tensor) -> Result<Vec<f32>, Problem> {
    Ok(match x.numbers()? {
        Numbers::F32(all) => all.into_owned(),
        Numbers::I64(all) => all.iter().map(|&x| x as f32).collect(),
        _ => return Err(Problem::invalid(format!("elements of the kind {} cannot be quantised", x.kind()))),
    })
}

fn same_shape(scale: &Tensor, zero: &Tensor) -> Result<(), Problem> {
    if scale.shape() == zero.shape() || (scale.len() == 1 && zero.len() == 1) {
        return Ok(());
    }
    Err(Problem::invalid(format!(
        "scales of the shape {:?} need zero points of the same, found {:?}",
        scale.shape(),
        zero.shape()
    )))
}

/// The least and the greatest integer of a kind that is quantised to.
fn bounds(kind: Kind) -> Option<(i64, i64)> {
    match kind {
        Kind::U8 | Kind::U16 | Kind::U4 | Kind::U2 => bits(kind).map(|bits| (0, (1 << bits) - 1)),
        Kind::I8 | Kind::I16 | Kind::I4 | Kind::I2 => {
            bits(kind).map(|bits| (-(1 << (bits - 1)), (1 << (bits - 1)) - 1))
        }
        _ => None,
    }
}

/// Rounds to a kind that is narrower than single precision.
fn rounded(x: f32, kind: Kind) -> f32 {
    match kind {
        Kind::F16 => f16::from_f32(x).to_f32(),
        Kind::Bf16 => bf16::from_f32(x).to_f32(),
        _ => x,
    }
}

/// `x / scale`, rounded to the nearest, ties to even, plus the zero point, within the bounds of the kind. NaN
/// becomes the zero point. The quotient is as precise as `precision` or the kind of the scale.
fn quantize(build: &Build<'_>) -> Result<Kernel, Problem> {
    let grain = Grain::of(build)?;
    let saturate = build.attributes.flag("saturate", true)?;
    let precision = kind_attribute(build, "precision")?;
    if precision.is_some_and(|kind| !matches!(kind, Kind::F32 | Kind::F16 | Kind::Bf16)) {
        let message = "quotients are computed in float, float16 or bfloat16 only";
        return Err(Problem::attribute("precision", message, "one of these"));
    }
    let wanted = kind_attribute(build, "output_dtype")?;
    Ok(Box::new(move |operands, meter| {
        let (x, scale) = (required(operands, 0)?, required(operands, 1)?);
        let zero = optional(operands, 2);
        let kind = match (zero.map(Tensor::kind), wanted) {
            (Some(kind), Some(wanted)) if kind != wanted => {
                return Err(Problem::invalid(format!(
                    "the zero point is {kind}, `output_dtype` says {wanted}"
                )));
            }
            (kind, wanted) => kind.or(wanted).unwrap_or(Kind::U8),
        };
        if let Some(zero) = zero {
            same_shape(scale, zero)?;
        }
        let places = grain.places(x.shape(), scale.shape())?;
        room(meter, x.shape(), kind)?;
        let precision = precision.unwrap_or(scale.kind());
        let scales = singles(scale)?;
        let quotient = |x: f32, at: usize| {
            let scale = scales.get(at).copied().unwrap_or(1.0);
            rounded(rounded(x, precision) / rounded(scale, precision), precision)
        };
        let all = singles(x)?;
        let data = if let Some((low, high)) = bounds(kind) {
            let zeros = zero.map_or(Ok(Vec::new()), Tensor::integers)?;
            let function = |x, at| {
                let zero = zeros.get(at).copied().unwrap_or(0);
                (quotient(x, at).round_ties_even() as i64).saturating_add(zero).clamp(low, high)
            };
            Numbers::I64(along(&all, places, function).into()).narrow(kind)
        } else if matches!(
            kind,
            Kind::F4E2M1 | Kind::F8E4M3Fn | Kind::F8E4M3FnUz | Kind::F8E5M2 | Kind::F8E5M2FnUz
        ) {
            let zeros = zero.map_or(Ok(Vec::new()), singles)?;
            let function = |x, at| {
                // Nothing is added to a negative zero, which would lose its sign.
                let moved = match zeros.get(at) {
                    Some(&zero) if zero != 0.0 => quotient(x, at) + zero,
                    _ => quotient(x, at),
                };
                tiny_from_f32(kind, moved, saturate)
            };
            Data::Tiny(kind, along(&all, places, function))
        } else {
            return Err(Problem::invalid(format!("{kind} is not a kind that elements are quantised to")));
        };
        Ok(vec![Tensor::new(x.shape(), data)?])
    }))
}

/// `(x - zero) * scale`, the difference of integers exact, the product in single precision and then rounded to the
/// kind of the result.
fn dequantize(build: &Build<'_>) -> Result<Kernel, Problem> {
    let grain = Grain::of(build)?;
    let wanted = kind_attribute(build, "output_dtype")?;
    Ok(Box::new(move |operands, meter| {
        let (x, scale) = (required(operands, 0)?, required(operands, 1)?);
        let zero = optional(operands, 2);
        if let Some(zero) = zero {
            same_shape(scale, zero)?;
            if zero.kind() != x.kind() {
                let (zero, x) = (zero.kind(), x.kind());
                return Err(Problem::invalid(format!("the zero point is {zero}, the elements are {x}")));
            }
        }
        let kind = wanted.unwrap_or(scale.kind());
        if !matches!(kind, Kind::F32 | Kind::F16 | Kind::Bf16) {
            return Err(Problem::invalid(format!("elements cannot be dequantised to {kind}")));
        }
        let places = grain.places(x.shape(), scale.shape())?;
        room(meter, x.shape(), kind)?;
        let scales = singles(scale)?;
        let scaled = |x: f32, at: usize| x * scales.get(at).copied().unwrap_or(1.0);
        let all = match x.numbers()? {
            Numbers::F32(all) if x.kind().is_tiny() => {
                let zeros = zero.map_or(Ok(Vec::new()), singles)?;
                along(&all, places, |x, at| scaled(x - zeros.get(at).copied().unwrap_or(0.0), at))
            }
            Numbers::I64(_) | Numbers::U64(_) if x.kind().is_integer() => {
                let zeros = zero.map_or(Ok(Vec::new()), Tensor::integers)?;
                let difference = |x: i64, at: usize| x.saturating_sub(zeros.get(at).copied().unwrap_or(0));
                along(&x.integers()?, places, |x, at| scaled(difference(x, at) as f32, at))
            }
            _ => {
                return Err(Problem::invalid(format!("elements of the kind {} are not quantised", x.kind())));
            }
        };
        Ok(vec![Tensor::new(x.shape(), Numbers::F32(all.into()).narrow(kind))?])
    }))
}

/// Quantisation to 0 … 255 of the range of the elements and 0. NaN does not count for the range.
fn dynamic_quantize(operands: &[Option<&Tensor>], meter: &mut Meter) -> Result<Vec<Tensor>, Problem> {
    let x = required(operands, 0)?;
    let all = x.elements::<f32>()?;
    meter.room(x.shape(), 1)?;
    let (mut low, mut high) = (0.0_f32, 0.0_f32);
    for &x in all {
        low = if x < low { x } else { low };
        high = if x > high { x } else { high };
    }
    // Elements that are all 0 have no range; any scale gives them back.
    let scale = if high == low { 1.0 } else { (high - low) / 255.0 };
    let zero = (0.0 - low / scale).clamp(0.0, 255.0).round_ties_even() as u8;
    let quantized = all.iter().map(|&x| {
        let steps = (x / scale).round_ties_even() as i64;
        steps.saturating_add(i64::from(zero)).clamp(0, 255) as u8
    });
    Ok(vec![
        Tensor::of(x.shape(), quantized.collect::<Vec<_>>())?,
        Tensor::scalar(scale),
        Tensor::scalar(zero),
    ])
}

#[cfg(test)]
mod tests {
    use super::super::activation::tests::run;
    use super::*;
    use crate::Attribute;

    fn cast_to(x: &Tensor, kind: Kind) -> Result<Tensor, String> {
        run("Cast", 25, &[("to", Attribute::Int(kind as i64))], &[x])
    }

    fn text(text: &str) -> Tensor {
        Tensor::scalar(text.to_owned())
    }

    #[test]
    fn floating_point_numbers_become_integers() {
        // As onnxruntime 1.31 answers on x86-64.
        let x = Tensor::vector(vec![2.9_f32, -300.7, 3e9, -70000.0, f32::NAN, f32::INFINITY, -1e20]);
        let least = i32::MIN;
        assert_eq!(
            cast_to(&x, Kind::I32).unwrap(),
            Tensor::vector(vec![2, -300, least, -70000, least, least, least])
        );
        assert_eq!(cast_to(&x, Kind::I8).unwrap(), Tensor::vector(vec![2_i8, -44, 0, -112, 0, 0, 0]));
        assert_eq!(cast_to(&x, Kind::U16).unwrap(), Tensor::vector(vec![2_u16, 65236, 0, 61072, 0, 0, 0]));
        assert_eq!(
            cast_to(&x, Kind::U32).unwrap(),
            Tensor::vector(vec![2_u32, 4_294_966_996, 3_000_000_000, 4_294_897_296, 0, 0, 0])
        );
        let least = i64::MIN;
        assert_eq!(
            cast_to(&x, Kind::I64).unwrap(),
            Tensor::vector(vec![2_i64, -300, 3_000_000_000, -70000, least, least, least])
        );
        assert_eq!(cast_to(&x, Kind::Bool).unwrap(), Tensor::vector(vec![true; 7]));
    }

    #[test]
    fn every_kind_becomes_every_other_one() {
        for from in Kind::ALL {
            let x = cast_to(&Tensor::vector(vec![1.0_f32, 0.0]), from).unwrap();
            for to in Kind::ALL {
                let y = cast_to(&x, to).unwrap();
                assert_eq!((y.kind(), y.shape()), (to, x.shape()));
                if from != Kind::F8E8M0 && to != Kind::F8E8M0 {
                    let back = cast_to(&y, Kind::F32).unwrap();
                    assert_eq!(back.elements::<f32>().unwrap()[0].abs(), 1.0, "{from} {to}");
                }
                let empty = Tensor::new([0], from.empty()).unwrap();
                assert!(cast_to(&empty, to).unwrap().is_empty());
            }
        }
    }

    #[test]
    fn doubles_are_rounded_once() {
        // Single precision would round this to the middle of two halves.
        let middle = 1.0 + 2.0_f64.powi(-11);
        for (x, want) in [(2.0_f64.powi(-40), 0x3c01), (0.0, 0x3c00), (-(2.0_f64.powi(-40)), 0x3c00)] {
            for sign in [1.0, -1.0] {
                let found = cast_to(&Tensor::scalar(sign * (middle + x)), Kind::F16).unwrap();
                assert_eq!(
                    found.elements::<f16>().unwrap()[0].to_f64(),
                    sign * f16::from_bits(want).to_f64()
                );
            }
        }
        assert_eq!(to_odd(1e-60).to_bits(), 1);
        assert_eq!(to_odd(-1e300), f32::NEG_INFINITY);
    }

    #[test]
    fn numbers_are_read_from_texts_and_written() {
        let read = |from: &str| cast_to(&text(from), Kind::F32).map(|x| x.elements::<f32>().unwrap()[0]);
        assert_eq!(read(" 1e-5 "), Ok(1e-5));
        assert_eq!(read("+INF"), Ok(f32::INFINITY));
        assert_eq!(read("-inf"), Ok(f32::NEG_INFINITY));
        assert!(read("NaN").unwrap().is_nan());
        assert_eq!(read("pear"), Err("the text `pear` is not a number".to_owned()));
        assert_eq!(cast_to(&text("100.5"), Kind::I64).unwrap(), Tensor::scalar(100_i64));
        assert_eq!(cast_to(&text("18446744073709551615"), Kind::U64).unwrap(), Tensor::scalar(u64::MAX));
        assert_eq!(cast_to(&text("0"), Kind::Bool).unwrap(), Tensor::scalar(false));
        assert_eq!(cast_to(&Tensor::scalar(true), Kind::Text).unwrap(), text("1"));
    }

    /// What onnxruntime 1.31 answers.
    #[test]
    fn numbers_are_written_with_eight_digits() {
        let single = |x: f32, want: &str| {
            assert_eq!(cast_to(&Tensor::scalar(x), Kind::Text).unwrap(), text(want));
        };
        let double = |x: f64, want: &str| {
            assert_eq!(cast_to(&Tensor::scalar(x), Kind::Text).unwrap(), text(want));
        };
        single(0.1, "0.1");
        single(-0.0, "-0");
        single(1e20, "1e+20");
        single(1e-5, "9.9999997e-06");
        single(1e-40, "9.9999461e-41");
        single(1_234_567.9, "1234567.9");
        single(99_999_999.0, "1e+08");
        single(16_777_216.0, "16777216");
        single(f32::NAN, "NaN");
        single(f32::NEG_INFINITY, "-INF");
        double(0.1, "0.1");
        double(0.0, "0");
        double(100_000.0, "100000");
        double(99_999_999.0, "99999999");
        double(99_999_999.5, "1e+08");
        double(123_456_789.0, "1.2345679e+08");
        // As near to the one as to the other: the even digit.
        double(12_345_678.5, "12345678");
        double(0.0001, "0.0001");
        double(0.000_1 / 2.0, "5e-05");
        double(-1.0 / 3.0, "-0.33333333");
        double(2.5e-7, "2.5e-07");
        let longest = cast_to(&Tensor::scalar(-1.234_567_8e-308_f64), Kind::Text).unwrap();
        assert_eq!(longest, text("-1.2345678e-308"));
        assert_eq!(longest.bytes(), 24 + LONGEST_NUMBER as u64);
    }

    #[test]
    fn powers_of_two_are_rounded_as_asked() {
        let check = |value: f32, saturate: bool, want: [u8; 3]| {
            let found = [Rounding::Up, Rounding::Down, Rounding::Nearest]
                .map(|rounding| power_of_two(value, Manner { saturate, rounding }));
            assert_eq!(found, want, "{value} {saturate}");
        };
        check(1.0, true, [127, 127, 127]);
        check(1.25, true, [128, 127, 127]);
        check(1.5, true, [128, 127, 128]);
        check(0.0, true, [0, 0, 0]);
        check(0.0, false, [255, 255, 255]);
        check(f32::MAX, true, [254, 254, 254]);
        check(f32::MAX, false, [255, 254, 255]);
        check(f32::from_bits(1), true, [0, 0, 0]);
        check(f32::NAN, true, [255, 255, 255]);
    }

    #[test]
    fn the_bits_of_a_nan_are_always_the_same() {
        let x = Tensor::scalar(f32::from_bits(0xffc0_1234));
        let bits = |kind: Kind| run("BitCast", 26, &[("to", Attribute::Int(kind as i64))], &[&x]);
        assert_eq!(bits(Kind::U32).unwrap(), Tensor::scalar(0x7fc0_0000_u32));
        assert!(bits(Kind::U16).is_err());
        assert!(bits(Kind::Text).is_err());
    }

    #[test]
    fn scales_differ_along_an_axis_or_by_block() {
        let x = Tensor::of([2, 3], vec![1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        let quantized = |scale: &Tensor, axis: i64, block: i64| {
            let attributes = [("axis", Attribute::Int(axis)), ("block_size", Attribute::Int(block))];
            run("QuantizeLinear", 21, &attributes, &[&x, scale])
        };
        let bytes = |all: [u8; 6]| Tensor::of([2, 3], all.to_vec()).unwrap();
        let two = Tensor::vector(vec![1.0_f32, 2.0]);
        assert_eq!(quantized(&two, -2, 0).unwrap(), bytes([1, 2, 3, 2, 2, 3]));
        let blocks = Tensor::of([2, 2], vec![1.0_f32, 3.0, 0.5, 0.1]).unwrap();
        assert_eq!(quantized(&blocks, 1, 2).unwrap(), bytes([1, 2, 1, 8, 10, 60]));
        assert_eq!(quantized(&Tensor::scalar(0.0_f32), 9, 0).unwrap(), bytes([255; 6]));
        quantized(&two, 1, 0).unwrap_err();
        quantized(&two, 2, 0).unwrap_err();
        quantized(&blocks, 1, 0).unwrap_err();
        quantized(&blocks, 1, 1).unwrap_err();
        quantized(&blocks, 1, -1).unwrap_err();
    }

    #[test]
    fn zero_points_go_with_their_scales() {
        let (x, scale) = (Tensor::vector(vec![250_u8, 0]), Tensor::scalar(0.5_f32));
        let found = |zero: &Tensor| run("DequantizeLinear", 21, &[], &[&x, &scale, zero]);
        assert_eq!(found(&Tensor::vector(vec![10_u8])).unwrap(), Tensor::vector(vec![120.0_f32, -5.0]));
        found(&Tensor::scalar(0_i8)).unwrap_err();
        found(&Tensor::vector(vec![0_u8, 0])).unwrap_err();
        let nan = Tensor::scalar(f32::NAN);
        let quantized = run("QuantizeLinear", 21, &[], &[&nan, &scale, &Tensor::scalar(7_u8)]);
        assert_eq!(quantized.unwrap(), Tensor::scalar(7_u8));
        let constant = Tensor::vector(vec![f32::NAN, f32::INFINITY, 0.0]);
        assert_eq!(run("DynamicQuantizeLinear", 11, &[], &[&constant]).unwrap().shape(), [3]);
    }
}
