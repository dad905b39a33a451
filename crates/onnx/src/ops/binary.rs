//! Functions of the elements at one place of two operands or more.
//!
//! Operands broadcast as in NumPy. They are cut into runs along which each of them is either contiguous or
//! constant, so that a bias, a scalar or an equal shape costs no arithmetic on indices.

use std::ops::{Add, Div, Mul, Sub};

use super::activation::room;
use crate::operator::{ai, optional, required};
use crate::shape::{Sources, broadcast, elements, sources, strides};
use crate::{Build, Data, Kernel, Kind, Meter, Numbers, Operator, Problem, Tensor};

/// How operator sets before 7 broadcast, and what those before 6 say about memory.
const OLD: &[&str] = &["axis", "broadcast", "consumed_inputs"];

pub(super) const TABLE: &[Operator] = &[
    ai("Add", 1, OLD, |build| {
        numeric(build, f32::add, Others::new(f64::add, i64::wrapping_add, u64::wrapping_add))
    }),
    ai("And", 1, OLD, |build| logical(build, |a, b| a && b)),
    ai("BitShift", 11, &["direction"], bit_shift),
    ai("BitwiseAnd", 18, &[], |build| bitwise(build, |a, b| a & b, |a, b| a & b)),
    ai("BitwiseOr", 18, &[], |build| bitwise(build, |a, b| a | b, |a, b| a | b)),
    ai("BitwiseXor", 18, &[], |build| bitwise(build, |a, b| a ^ b, |a, b| a ^ b)),
    ai("Clip", 1, &["consumed_inputs", "max", "min"], clip_by_attributes),
    ai("Clip", 11, &[], |_| Ok(clip(None, None))),
    ai("Div", 1, OLD, |build| {
        numeric(build, f32::div, Others::dividing(f64::div, i64::wrapping_div, u64::wrapping_div))
    }),
    ai("Equal", 1, OLD, |build| {
        compare(build, |a, b| a == b, |a, b| a == b, |a, b| a == b, |a, b| a == b, Some(|a, b| a == b))
    }),
    ai("Greater", 1, OLD, |build| {
        compare(build, |a, b| a > b, |a, b| a > b, |a, b| a > b, |a, b| a > b, None)
    }),
    ai("GreaterOrEqual", 12, &[], |build| {
        compare(build, |a, b| a >= b, |a, b| a >= b, |a, b| a >= b, |a, b| a >= b, None)
    }),
    ai("Less", 1, OLD, |build| compare(build, |a, b| a < b, |a, b| a < b, |a, b| a < b, |a, b| a < b, None)),
    ai("LessOrEqual", 12, &[], |build| {
        compare(build, |a, b| a <= b, |a, b| a <= b, |a, b| a <= b, |a, b| a <= b, None)
    }),
    ai("Max", 1, &["consumed_inputs"], |build| {
        variadic(build, fold(greater::<f32>, Others::new(greater::<f64>, i64::max, u64::max)), false)
    }),
    ai("Mean", 1, &["consumed_inputs"], |build| {
        variadic(build, fold(f32::add, Others::floats(f64::add)), true)
    }),
    ai("Min", 1, &["consumed_inputs"], |build| {
        variadic(build, fold(lesser::<f32>, Others::new(lesser::<f64>, i64::min, u64::min)), false)
    }),
    ai("Mod", 10, &["fmod"], modulo),
    ai("Mul", 1, OLD, |build| {
        numeric(build, f32::mul, Others::new(f64::mul, i64::wrapping_mul, u64::wrapping_mul))
    }),
    ai("Or", 1, OLD, |build| logical(build, |a, b| a || b)),
    ai("PRelu", 7, &[], prelu),
    ai("Pow", 1, OLD, |build| pairwise(build, false, Box::new(power))),
    ai("Sub", 1, OLD, |build| {
        numeric(build, f32::sub, Others::new(f64::sub, i64::wrapping_sub, u64::wrapping_sub))
    }),
    ai("Sum", 1, &["consumed_inputs"], |build| {
        variadic(build, fold(f32::add, Others::floats(f64::add)), false)
    }),
    ai("Where", 9, &[], |_| Ok(Box::new(choose))),
    ai("Xor", 1, OLD, |build| logical(build, |a, b| a != b)),
];

/// Operands that broadcast to a shape, cut into runs along which each is contiguous or constant.
struct Runs {
    /// Elements of a run.
    len: usize,
    /// Of each operand: where its runs begin, and how many elements it has for one.
    operands: Vec<(Sources, usize)>,
}

impl Runs {
    fn new(shapes: &[&[usize]], shape: &[usize]) -> Self {
        let lead = |own: &[usize]| shape.len().saturating_sub(own.len());
        // Whether an operand has elements of its own along an axis of the result; those without are constant there.
        let fills = |own: &[usize], axis: usize| {
            axis.checked_sub(lead(own)).and_then(|axis| own.get(axis)).is_some_and(|&len| len != 1)
        };
        let mut filled: Option<Vec<bool>> = None;
        let (mut outer, mut len) = (shape.len(), 1_usize);
        while let Some(axis) = outer.checked_sub(1) {
            let full = shape.get(axis).copied().unwrap_or(1);
            if full != 1 {
                let here: Vec<bool> = shapes.iter().map(|own| fills(own, axis)).collect();
                if *filled.get_or_insert_with(|| here.clone()) != here {
                    break;
                }
            }
            len = len.saturating_mul(full);
            outer = axis;
        }
        let filled = filled.unwrap_or_default();
        let operands = shapes.iter().enumerate().map(|(operand, own)| {
            let own_strides = strides(own);
            let outer_strides = (0..outer).map(|axis| match axis.checked_sub(lead(own)) {
                Some(at) if fills(own, axis) => own_strides.get(at).copied().unwrap_or(0),
                _ => 0,
            });
            let starts =
                Sources::new(outer_strides.collect(), shape.iter().take(outer).copied().collect(), 0);
            (starts, if filled.get(operand) == Some(&true) { len } else { 1 })
        });
        Self { len, operands: operands.collect() }
    }
}

/// A function of the elements at one place of two operands that broadcast to `shape`.
fn zip<A: Copy, B: Copy, R>(
    (a, a_shape): (&[A], &[usize]),
    (b, b_shape): (&[B], &[usize]),
    shape: &[usize],
    function: impl Fn(A, B) -> R,
) -> Vec<R> {
    let run = |a: &[A], b: &[B], result: &mut Vec<R>| match (a, b) {
        (&[a], b) => result.extend(b.iter().map(|&b| function(a, b))),
        (a, &[b]) => result.extend(a.iter().map(|&a| function(a, b))),
        (a, b) => result.extend(a.iter().zip(b).map(|(&a, &b)| function(a, b))),
    };
    let count = elements(shape).unwrap_or(0);
    let mut result = Vec::with_capacity(count);
    // Whoever has as many elements as the result has them in the same order.
    if [a.len(), b.len()].iter().all(|&len| len == count || len == 1) {
        run(a, b, &mut result);
    } else if count > 0 {
        let mut operands = Runs::new(&[a_shape, b_shape], shape).operands.into_iter();
        if let (Some((a_starts, a_len)), Some((b_starts, b_len))) = (operands.next(), operands.next()) {
            for (at_a, at_b) in a_starts.zip(b_starts) {
                if let (Some(a), Some(b)) = (a.get(at_a..at_a + a_len), b.get(at_b..at_b + b_len)) {
                    run(a, b, &mut result);
                }
            }
        }
    }
    result
}

/// What two operands become that broadcast to a shape.
type Pairwise = Box<dyn Fn(&Tensor, &Tensor, &[usize]) -> Result<Data, Problem> + Send + Sync>;

/// An operator of two operands, of one kind if `same`.
fn pairwise(build: &Build<'_>, same: bool, function: Pairwise) -> Result<Kernel, Problem> {
    let alignment = Alignment::of(build)?;
    Ok(Box::new(move |operands, meter| {
        let (a, b) = (required(operands, 0)?, required(operands, 1)?);
        let aligned = alignment.as_ref().map(|alignment| alignment.apply(a, b)).transpose()?;
        Ok(vec![pair(a, aligned.as_ref().unwrap_or(b), same, &function, meter)?])
    }))
}

fn pair(
    a: &Tensor,
    b: &Tensor,
    same: bool,
    function: &Pairwise,
    meter: &mut Meter,
) -> Result<Tensor, Problem> {
    if same && a.kind() != b.kind() {
        return Err(Problem::invalid(format!("the operands differ in kind: {} and {}", a.kind(), b.kind())));
    }
    let shape = broadcast(&[a.shape(), b.shape()])?;
    room(meter, &shape, a.kind())?;
    let data = function(a, b, &shape)?;
    Tensor::new(shape, data)
}

/// Where the second operand stands in operator sets before 7, which broadcast only on demand: `axis` is the first
/// of its axes.
struct Alignment {
    axis: Option<i64>,
    broadcast: bool,
}

impl Alignment {
    fn of(build: &Build<'_>) -> Result<Option<Self>, Problem> {
        if build.opset >= 7 {
            return Ok(None);
        }
        build.attributes.have_no_effect(&["consumed_inputs"]);
        let broadcast = build.attributes.flag("broadcast", false)?;
        Ok(Some(Self { axis: build.attributes.int("axis")?, broadcast }))
    }

    fn apply(&self, a: &Tensor, b: &Tensor) -> Result<Tensor, Problem> {
        if !self.broadcast && a.shape() != b.shape() {
            return Err(Problem::invalid(format!(
                "the shapes {:?} and {:?} differ, and `broadcast` is not set",
                a.shape(),
                b.shape()
            )));
        }
        let Some(axis) = self.axis.filter(|_| self.broadcast && b.rank() > 0) else { return Ok(b.clone()) };
        let axis = crate::shape::axis(axis, a.rank())?;
        let mut shape = b.shape().to_vec();
        shape.resize(shape.len().max(a.rank().saturating_sub(axis)), 1);
        b.reshaped(shape)
    }
}

/// A function of two numbers, in all types but single precision. Those kinds that it is not for are `None`.
#[derive(Clone, Copy)]
struct Others {
    double: Option<fn(f64, f64) -> f64>,
    signed: Option<fn(i64, i64) -> i64>,
    unsigned: Option<fn(u64, u64) -> u64>,
    /// Whether integers cannot have 0 on the right.
    divides: bool,
}

impl Others {
    const fn new(
        double: fn(f64, f64) -> f64,
        signed: fn(i64, i64) -> i64,
        unsigned: fn(u64, u64) -> u64,
    ) -> Self {
        Self { double: Some(double), signed: Some(signed), unsigned: Some(unsigned), divides: false }
    }

    const fn dividing(
        double: fn(f64, f64) -> f64,
        signed: fn(i64, i64) -> i64,
        unsigned: fn(u64, u64) -> u64,
    ) -> Self {
        Self { divides: true, ..Self::new(double, signed, unsigned) }
    }

    const fn floats(double: fn(f64, f64) -> f64) -> Self {
        Self { double: Some(double), signed: None, unsigned: None, divides: false }
    }
}

fn numeric(
    build: &Build<'_>,
    single: impl Fn(f32, f32) -> f32 + Send + Sync + 'static,
    others: Others,
) -> Result<Kernel, Problem> {
    pairwise(build, true, fold(single, others))
}

/// A function of two numbers of one kind.
fn fold(single: impl Fn(f32, f32) -> f32 + Send + Sync + 'static, others: Others) -> Pairwise {
    Box::new(move |a, b, shape| {
        let y = match (a.numbers()?, b.numbers()?) {
            (Numbers::F32(x), Numbers::F32(y)) => {
                Numbers::F32(zip((&x, a.shape()), (&y, b.shape()), shape, &single).into())
            }
            (x, y) => other(others, (&x, a), (&y, b), shape)?,
        };
        Ok(y.narrow(a.kind()))
    })
}

fn other(
    others: Others,
    (x, a): (&Numbers<'_>, &Tensor),
    (y, b): (&Numbers<'_>, &Tensor),
    shape: &[usize],
) -> Result<Numbers<'static>, Problem> {
    let divided = |zero: bool| match others.divides && zero && elements(shape) != Some(0) {
        true => Err(Problem::invalid("an integer is divided by zero")),
        false => Ok(()),
    };
    Ok(match (x, y, others) {
        (Numbers::F64(x), Numbers::F64(y), Others { double: Some(function), .. }) => {
            Numbers::F64(zip((x, a.shape()), (y, b.shape()), shape, function).into())
        }
        (Numbers::I64(x), Numbers::I64(y), Others { signed: Some(function), .. }) => {
            divided(y.contains(&0))?;
            Numbers::I64(zip((x, a.shape()), (y, b.shape()), shape, function).into())
        }
        (Numbers::U64(x), Numbers::U64(y), Others { unsigned: Some(function), .. })
            if a.kind() != Kind::Bool =>
        {
            divided(y.contains(&0))?;
            Numbers::U64(zip((x, a.shape()), (y, b.shape()), shape, function).into())
        }
        _ => {
            return Err(Problem::invalid(format!("it is not defined for elements of the kind {}", a.kind())));
        }
    })
}

fn bitwise(
    build: &Build<'_>,
    signed: fn(i64, i64) -> i64,
    unsigned: fn(u64, u64) -> u64,
) -> Result<Kernel, Problem> {
    let others = Others { double: None, signed: Some(signed), unsigned: Some(unsigned), divides: false };
    let function = move |a: &Tensor, b: &Tensor, shape: &[usize]| {
        Ok(other(others, (&a.numbers()?, a), (&b.numbers()?, b), shape)?.narrow(a.kind()))
    };
    pairwise(build, true, Box::new(function))
}

fn logical(build: &Build<'_>, function: fn(bool, bool) -> bool) -> Result<Kernel, Problem> {
    let function = move |a: &Tensor, b: &Tensor, shape: &[usize]| {
        let (x, y) = (a.elements::<bool>()?, b.elements::<bool>()?);
        Ok(Data::Bool(zip((x, a.shape()), (y, b.shape()), shape, function)))
    };
    pairwise(build, true, Box::new(function))
}

fn compare(
    build: &Build<'_>,
    single: impl Fn(f32, f32) -> bool + Send + Sync + 'static,
    double: fn(f64, f64) -> bool,
    signed: fn(i64, i64) -> bool,
    unsigned: fn(u64, u64) -> bool,
    texts: Option<fn(&str, &str) -> bool>,
) -> Result<Kernel, Problem> {
    let function = move |a: &Tensor, b: &Tensor, shape: &[usize]| {
        if let (Data::Text(x), Data::Text(y), Some(function)) = (a.data(), b.data(), texts) {
            let (x, y): (Vec<&str>, Vec<&str>) =
                (x.iter().map(String::as_str).collect(), y.iter().map(String::as_str).collect());
            return Ok(Data::Bool(zip((&x, a.shape()), (&y, b.shape()), shape, function)));
        }
        Ok(Data::Bool(match (a.numbers()?, b.numbers()?) {
            (Numbers::F32(x), Numbers::F32(y)) => zip((&x, a.shape()), (&y, b.shape()), shape, &single),
            (Numbers::F64(x), Numbers::F64(y)) => zip((&x, a.shape()), (&y, b.shape()), shape, double),
            (Numbers::I64(x), Numbers::I64(y)) => zip((&x, a.shape()), (&y, b.shape()), shape, signed),
            (Numbers::U64(x), Numbers::U64(y)) => zip((&x, a.shape()), (&y, b.shape()), shape, unsigned),
            _ => return Err(Problem::invalid("the operands differ in kind")),
        }))
    };
    pairwise(build, true, Box::new(function))
}

/// An operator of one operand or more, taken from left to right; if `mean`, divided by their number.
fn variadic(build: &Build<'_>, step: Pairwise, mean: bool) -> Result<Kernel, Problem> {
    if build.opset < 6 {
        build.attributes.have_no_effect(&["consumed_inputs"]);
    }
    Ok(Box::new(move |operands, meter| {
        let mut result = required(operands, 0)?.clone();
        for index in 1..operands.len() {
            result = pair(&result, required(operands, index)?, true, &step, meter)?;
        }
        if mean {
            let kind = result.kind();
            room(meter, result.shape(), kind)?;
            let count = operands.len() as f64;
            let divided = match result.numbers()? {
                Numbers::F32(all) => Numbers::F32(all.iter().map(|x| x / count as f32).collect()),
                Numbers::F64(all) => Numbers::F64(all.iter().map(|x| x / count).collect()),
                _ => return Err(Problem::invalid(format!("expected floating-point numbers, found {kind}"))),
            };
            result = Tensor::new(result.shape(), divided.narrow(kind))?;
        }
        Ok(vec![result])
    }))
}

/// The greater one, or NaN if either is, as NumPy.
#[expect(clippy::eq_op, reason = "NaN differs from itself")]
fn greater<T: PartialOrd + Copy>(a: T, b: T) -> T {
    if a > b || a != a { a } else { b }
}

/// The lesser one, or NaN if either is, as NumPy.
#[expect(clippy::eq_op, reason = "NaN differs from itself")]
fn lesser<T: PartialOrd + Copy>(a: T, b: T) -> T {
    if a < b || a != a { a } else { b }
}

/// Steps of a remainder of floating-point numbers, which takes one per power of two between them.
const REMAINDER: u64 = 64;

/// The remainder: of the quotient rounded down, with the sign of the divisor, or if `fmod` of the quotient cut
/// off, with the sign of the dividend.
fn modulo(build: &Build<'_>) -> Result<Kernel, Problem> {
    let kernel = if build.attributes.flag("fmod", false)? {
        numeric(build, libm::fmodf, Others::dividing(libm::fmod, i64::wrapping_rem, u64::wrapping_rem))
    } else {
        floored_modulo(build)
    }?;
    Ok(Box::new(move |operands, meter| {
        let (a, b) = (required(operands, 0)?, required(operands, 1)?);
        if a.kind().is_float() {
            let count =
                elements(&broadcast(&[a.shape(), b.shape()])?).and_then(|count| u64::try_from(count).ok());
            meter.work(count.unwrap_or(u64::MAX).saturating_mul(REMAINDER))?;
        }
        kernel(operands, meter)
    }))
}

fn floored_modulo(build: &Build<'_>) -> Result<Kernel, Problem> {
    fn floored(a: i64, b: i64) -> i64 {
        let rest = a.wrapping_rem(b);
        if rest != 0 && (rest < 0) != (b < 0) { rest.wrapping_add(b) } else { rest }
    }
    fn double(a: f64, b: f64) -> f64 {
        let rest = libm::fmod(a, b);
        match rest == 0.0 {
            true => 0.0_f64.copysign(b),
            false if (rest < 0.0) != (b < 0.0) => rest + b,
            false => rest,
        }
    }
    fn single(a: f32, b: f32) -> f32 {
        let rest = libm::fmodf(a, b);
        match rest == 0.0 {
            true => 0.0_f32.copysign(b),
            false if (rest < 0.0) != (b < 0.0) => rest + b,
            false => rest,
        }
    }
    numeric(build, single, Others::dividing(double, floored, u64::wrapping_rem))
}

/// The bits of a number shifted. Whoever shifts by all bits of the kind or more, or by less than 0, gets what is
/// left of the sign.
fn bit_shift(build: &Build<'_>) -> Result<Kernel, Problem> {
    let left = match build.attributes.text("direction")? {
        Some("LEFT") => true,
        Some("RIGHT") => false,
        other => {
            let message = format!("there is no direction `{}`", other.unwrap_or_default());
            return Err(Problem::attribute("direction", message, "`LEFT` or `RIGHT`"));
        }
    };
    let function = move |a: &Tensor, b: &Tensor, shape: &[usize]| {
        let bits = a.kind().size().saturating_mul(8) as u64;
        let by = |b: u64| u32::try_from(b).ok().filter(|_| b < bits);
        let (a_shape, b_shape) = (a.shape(), b.shape());
        let y = match (a.numbers()?, b.numbers()?) {
            (Numbers::I64(x), Numbers::I64(y)) => {
                let by = |b: i64| u64::try_from(b).ok().and_then(by);
                let shifted = |a: i64, b: i64| match by(b) {
                    Some(by) if left => a.wrapping_shl(by),
                    Some(by) => a.wrapping_shr(by),
                    None if left => 0,
                    None => a >> 63,
                };
                Numbers::I64(zip((&x, a_shape), (&y, b_shape), shape, shifted).into())
            }
            (Numbers::U64(x), Numbers::U64(y)) => {
                let shifted = |a: u64, b: u64| match by(b) {
                    Some(by) if left => a.wrapping_shl(by),
                    Some(by) => a.wrapping_shr(by),
                    None => 0,
                };
                Numbers::U64(zip((&x, a_shape), (&y, b_shape), shape, shifted).into())
            }
            _ => return Err(Problem::invalid(format!("expected integers, found {}", a.kind()))),
        };
        Ok(y.narrow(a.kind()))
    };
    pairwise(build, true, Box::new(function))
}

/// Below 0 the product with the slope, which broadcasts to the elements, never the other way round.
fn prelu(build: &Build<'_>) -> Result<Kernel, Problem> {
    fn double(x: f64, slope: f64) -> f64 {
        if x < 0.0 { slope * x } else { x }
    }
    let single = |x: f32, slope: f32| if x < 0.0 { slope * x } else { x };
    let others = Others::new(double, |x, slope| if x < 0 { slope.wrapping_mul(x) } else { x }, |x, _| x);
    let function = fold(single, others);
    pairwise(
        build,
        true,
        Box::new(move |x, slope, shape| {
            if x.shape() == shape {
                return function(x, slope, shape);
            }
            Err(Problem::invalid(format!(
                "slopes of the shape {:?} do not broadcast to {:?}",
                slope.shape(),
                x.shape()
            )))
        }),
    )
}

/// Powers, in the kind of the base. Integers wrap; an integer to a floating-point power is computed in double
/// precision and cut off.
fn power(a: &Tensor, b: &Tensor, shape: &[usize]) -> Result<Data, Problem> {
    let (a_shape, b_shape) = (a.shape(), b.shape());
    let kind = a.kind();
    let doubles = |x: &[f64]| -> Result<Vec<f64>, Problem> {
        Ok(zip((x, a_shape), (&b.doubles()?, b_shape), shape, libm::pow))
    };
    // Products for the powers that models have most.
    let one = if b.len() == 1 { b.doubles()?.first().copied() } else { None };
    let y = match (a.numbers()?, b.numbers()?) {
        (Numbers::F32(x), _) if one == Some(2.0) => Numbers::F32(x.iter().map(|&x| x * x).collect()),
        (Numbers::F32(x), _) if one == Some(3.0) => Numbers::F32(x.iter().map(|&x| x * x * x).collect()),
        (Numbers::F32(x), Numbers::F32(y)) => {
            Numbers::F32(zip((&x, a_shape), (&y, b_shape), shape, libm::powf).into())
        }
        (Numbers::F32(_), _) => Numbers::F32(doubles(&a.doubles()?)?.iter().map(|&y| y as f32).collect()),
        (Numbers::F64(x), _) => Numbers::F64(doubles(&x)?.into()),
        (Numbers::I64(x), Numbers::U64(y)) => {
            Numbers::I64(zip((&x, a_shape), (&y, b_shape), shape, whole_power).into())
        }
        (Numbers::I64(x), Numbers::I64(y)) => {
            if y.iter().any(|&y| y < 0) && x.contains(&0) && elements(shape) != Some(0) {
                return Err(Problem::invalid("an integer 0 cannot have a negative power"));
            }
            let function = |x: i64, y: i64| match (u64::try_from(y), x) {
                (Ok(y), x) => whole_power(x, y),
                (Err(_), 1) => 1,
                (Err(_), -1) => {
                    if y % 2 == 0 {
                        1
                    } else {
                        -1
                    }
                }
                (Err(_), _) => 0,
            };
            Numbers::I64(zip((&x, a_shape), (&y, b_shape), shape, function).into())
        }
        (Numbers::I64(_), _) => Numbers::I64(doubles(&a.doubles()?)?.iter().map(|&y| y as i64).collect()),
        _ => {
            return Err(Problem::invalid(format!(
                "expected floating-point numbers or signed integers, found {kind}"
            )));
        }
    };
    Ok(y.narrow(kind))
}

fn whole_power(mut base: i64, mut exponent: u64) -> i64 {
    let mut result = 1_i64;
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = result.wrapping_mul(base);
        }
        base = base.wrapping_mul(base);
        exponent >>= 1;
    }
    result
}

/// Operator sets before 11: the bounds are attributes.
fn clip_by_attributes(build: &Build<'_>) -> Result<Kernel, Problem> {
    let (mut min, mut max) = (build.attributes.float("min")?, build.attributes.float("max")?);
    if build.opset < 6 {
        build.attributes.have_no_effect(&["consumed_inputs"]);
    } else {
        (min, max) = (min.or(Some(f32::MIN)), max.or(Some(f32::MAX)));
    }
    Ok(clip(min, max))
}

/// Elements within bounds: the upper one wins where they cross, NaN stays, a bound that is not given does nothing.
fn clip(min: Option<f32>, max: Option<f32>) -> Kernel {
    fn within<T: PartialOrd + Copy>(all: &[T], min: Option<T>, max: Option<T>) -> Vec<T> {
        let above = |x: T| match min {
            Some(min) if x < min => min,
            _ => x,
        };
        let below = |x: T| match max {
            Some(max) if x > max => max,
            _ => x,
        };
        all.iter().map(|&x| below(above(x))).collect()
    }
    fn single<'t>(
        operands: &[Option<&'t Tensor>],
        index: usize,
        x: &Tensor,
    ) -> Result<Option<Numbers<'t>>, Problem> {
        let Some(bound) = optional(operands, index) else { return Ok(None) };
        if bound.len() != 1 || bound.kind() != x.kind() {
            return Err(Problem::invalid(format!(
                "a bound must be one {}, found {} of the kind {}",
                x.kind(),
                bound.len(),
                bound.kind()
            )));
        }
        Ok(Some(bound.numbers()?))
    }
    macro_rules! bound {
        ($numbers:expr, $variant:ident) => {
            match &$numbers {
                Some(Numbers::$variant(all)) => all.first().copied(),
                _ => None,
            }
        };
    }
    Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        let (low, high) = (single(operands, 1, x)?, single(operands, 2, x)?);
        room(meter, x.shape(), x.kind())?;
        let y = match x.numbers()? {
            Numbers::F32(all) => {
                Numbers::F32(within(&all, bound!(low, F32).or(min), bound!(high, F32).or(max)).into())
            }
            Numbers::F64(all) => {
                let (min, max) = (min.map(f64::from), max.map(f64::from));
                Numbers::F64(within(&all, bound!(low, F64).or(min), bound!(high, F64).or(max)).into())
            }
            Numbers::I64(all) => Numbers::I64(within(&all, bound!(low, I64), bound!(high, I64)).into()),
            Numbers::U64(all) => Numbers::U64(within(&all, bound!(low, U64), bound!(high, U64)).into()),
        };
        Ok(vec![Tensor::new(x.shape(), y.narrow(x.kind()))?])
    })
}

/// Elements of one operand where the condition holds, of another elsewhere.
fn choose(operands: &[Option<&Tensor>], meter: &mut Meter) -> Result<Vec<Tensor>, Problem> {
    let (condition, x, y) = (required(operands, 0)?, required(operands, 1)?, required(operands, 2)?);
    let conditions = condition.elements::<bool>()?;
    let shapes = [condition.shape(), x.shape(), y.shape()];
    let shape = broadcast(&shapes)?;
    meter.room(&shape, x.kind().size())?;
    if let (Data::F32(x), Data::F32(y)) = (x.data(), y.data()) {
        return Ok(vec![Tensor::of(shape.as_slice(), choose_singles(conditions, x, y, &shapes, &shape))?]);
    }
    let picks = || {
        let each = sources(condition.shape(), &shape)
            .zip(sources(x.shape(), &shape))
            .zip(sources(y.shape(), &shape));
        each.map(
            |((at, x), y)| if conditions.get(at) == Some(&true) { (Some(x), None) } else { (None, Some(y)) },
        )
    };
    if let (Data::Text(x), Data::Text(y)) = (x.data(), y.data()) {
        let bytes = picks().fold(0_usize, |bytes, (from_x, from_y)| {
            let text = from_x.and_then(|at| x.get(at)).or(from_y.and_then(|at| y.get(at)));
            bytes.saturating_add(Kind::Text.size()).saturating_add(text.map_or(0, String::len))
        });
        meter.room(&[bytes], 1)?;
    }
    let mut data = x.data().take(picks().map(|(x, _)| x.unwrap_or(usize::MAX)));
    data.put(y.data(), picks().enumerate().filter_map(|(at, (_, y))| Some((at, y?))))?;
    Ok(vec![Tensor::new(shape, data)?])
}

fn choose_singles(
    conditions: &[bool],
    x: &[f32],
    y: &[f32],
    shapes: &[&[usize]],
    shape: &[usize],
) -> Vec<f32> {
    let count = elements(shape).unwrap_or(0);
    let mut result = Vec::with_capacity(count);
    // Runs may be empty, however many there are.
    if count == 0 {
        return result;
    }
    let Runs { len, operands } = Runs::new(shapes, shape);
    let mut operands = operands.into_iter();
    let (Some((c_starts, c_len)), Some((x_starts, x_len)), Some((y_starts, y_len))) =
        (operands.next(), operands.next(), operands.next())
    else {
        return result;
    };
    for ((at_c, at_x), at_y) in c_starts.zip(x_starts).zip(y_starts) {
        let (Some(c), Some(x), Some(y)) =
            (conditions.get(at_c..at_c + c_len), x.get(at_x..at_x + x_len), y.get(at_y..at_y + y_len))
        else {
            continue;
        };
        match (c, x, y) {
            (&[c], x, y) => {
                let chosen = if c { x } else { y };
                match chosen {
                    &[one] => result.extend(std::iter::repeat_n(one, len)),
                    all => result.extend_from_slice(all),
                }
            }
            (c, &[x], &[y]) => result.extend(c.iter().map(|&c| if c { x } else { y })),
            (c, &[x], y) => result.extend(c.iter().zip(y).map(|(&c, &y)| if c { x } else { y })),
            (c, x, &[y]) => result.extend(c.iter().zip(x).map(|(&c, &x)| if c { x } else { y })),
            (c, x, y) => {
                result.extend(c.iter().zip(x).zip(y).map(|((&c, &x), &y)| if c { x } else { y }));
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::super::activation::tests::run;
    use super::*;
    use crate::Attribute;

    fn ramp(shape: &[usize]) -> Tensor {
        let count = elements(shape).unwrap();
        Tensor::of(shape, (0..count).map(|at| at as f32).collect()).unwrap()
    }

    #[test]
    fn runs_meet_the_same_elements_as_a_walk_over_positions() {
        let shapes: [&[usize]; 12] = [
            &[],
            &[1],
            &[4],
            &[3, 1],
            &[3, 4],
            &[1, 4],
            &[2, 3, 4],
            &[2, 1, 4],
            &[2, 3, 1],
            &[2, 1, 1],
            &[1, 3, 1],
            &[1, 1, 1, 1],
        ];
        for (a, b) in shapes.iter().flat_map(|a| shapes.iter().map(move |b| (*a, *b))) {
            let shape = broadcast(&[a, b]).unwrap();
            let (x, y) = (ramp(a), ramp(b));
            let pairs = sources(a, &shape).zip(sources(b, &shape));
            let want: Vec<f32> = pairs.clone().map(|(a, b)| a as f32 * 100.0 + b as f32).collect();
            let (x, y) = (x.elements::<f32>().unwrap(), y.elements::<f32>().unwrap());
            assert_eq!(zip((x, a), (y, b), &shape, |x, y| x * 100.0 + y), want, "{a:?} {b:?}");
            for c in shapes {
                let shape = broadcast(&[c, a, b]).unwrap();
                let conditions: Vec<bool> = (0..elements(c).unwrap()).map(|at| at % 3 == 1).collect();
                let places = sources(c, &shape).zip(sources(a, &shape)).zip(sources(b, &shape));
                let want: Vec<f32> =
                    places.map(|((c, a), b)| if conditions[c] { a as f32 } else { b as f32 }).collect();
                assert_eq!(choose_singles(&conditions, x, y, &[c, a, b], &shape), want, "{c:?} {a:?} {b:?}");
            }
        }
    }

    #[test]
    fn empty_operands_take_no_time_however_long_their_other_axes() {
        let long = Tensor::of([1 << 40, 0], Vec::<f32>::new()).unwrap();
        let one = Tensor::of([1, 0], Vec::<f32>::new()).unwrap();
        assert_eq!(run("Add", 14, &[], &[&long, &one]).unwrap().shape(), [1 << 40, 0]);
        let condition = Tensor::of([1, 0], Vec::<bool>::new()).unwrap();
        assert!(run("Where", 16, &[], &[&condition, &long, &one]).unwrap().is_empty());
        let zero = Tensor::scalar(0_i64);
        assert!(run("Div", 14, &[], &[&Tensor::vector(Vec::<i64>::new()), &zero]).unwrap().is_empty());
    }

    #[test]
    fn integers_wrap_and_are_not_divided_by_zero() {
        let (low, minus) = (Tensor::scalar(i64::MIN), Tensor::scalar(-1_i64));
        assert_eq!(run("Div", 14, &[], &[&low, &minus]).unwrap(), low);
        assert_eq!(run("Mod", 14, &[], &[&low, &minus]).unwrap(), Tensor::scalar(0_i64));
        assert_eq!(
            run("Div", 14, &[], &[&Tensor::scalar(-128_i8), &Tensor::scalar(-1_i8)]).unwrap(),
            Tensor::scalar(-128_i8)
        );
        for operator in ["Div", "Mod"] {
            let problem = run(operator, 14, &[], &[&low, &Tensor::scalar(0_i64)]).unwrap_err();
            assert_eq!(problem, "an integer is divided by zero");
            run(operator, 14, &[], &[&Tensor::scalar(3_u8), &Tensor::scalar(0_u8)]).unwrap_err();
        }
    }

    #[test]
    fn powers_of_integers() {
        let check = |base: i64, exponent: i64, want: Option<i64>| {
            let found = run("Pow", 15, &[], &[&Tensor::scalar(base), &Tensor::scalar(exponent)]);
            assert_eq!(found.ok(), want.map(Tensor::scalar), "{base} {exponent}");
        };
        check(3, 40, Some(3_i64.wrapping_pow(40)));
        check(3, 41, Some(3_i64.wrapping_pow(41)));
        check(2, i64::MAX, Some(0));
        check(0, 0, Some(1));
        check(-1, -3, Some(-1));
        check(-1, i64::MIN, Some(1));
        check(5, -1, Some(0));
        check(0, -1, None);
    }

    #[test]
    fn nan_wins_and_kinds_must_agree() {
        let (one, nan) = (Tensor::scalar(1.0_f32), Tensor::scalar(f32::NAN));
        for operator in ["Max", "Min", "Add"] {
            for operands in [[&one, &nan], [&nan, &one]] {
                let found = run(operator, 14, &[], &operands).unwrap();
                assert!(found.elements::<f32>().unwrap()[0].is_nan(), "{operator}");
            }
            assert_eq!(
                run(operator, 14, &[], &[&one, &Tensor::scalar(1.0_f64)]).unwrap_err(),
                "the operands differ in kind: float and double"
            );
        }
        assert!(run("Clip", 13, &[], &[&nan, &one, &one]).unwrap().elements::<f32>().unwrap()[0].is_nan());
        run("Clip", 13, &[], &[&one, &Tensor::vector(vec![0.0_f32, 1.0])]).unwrap_err();
        run("Sum", 13, &[], &[&Tensor::scalar(1_i64), &Tensor::scalar(1_i64)]).unwrap_err();
        run("Add", 13, &[], &[&Tensor::scalar(true), &Tensor::scalar(true)]).unwrap_err();
    }

    #[test]
    fn operands_are_aligned_at_an_axis_before_operator_set_7() {
        let (a, b) = (ramp(&[2, 3, 2]), Tensor::vector(vec![0.0_f32, 10.0, 20.0]));
        let attributes = [("broadcast", Attribute::Int(1)), ("axis", Attribute::Int(1))];
        let found = run("Add", 6, &attributes, &[&a, &b]).unwrap();
        assert_eq!(
            found.elements::<f32>().unwrap(),
            [0.0, 1.0, 12.0, 13.0, 24.0, 25.0, 6.0, 7.0, 18.0, 19.0, 30.0, 31.0]
        );
        run("Add", 6, &[], &[&a, &b]).unwrap_err();
        run("Add", 7, &attributes, &[&a, &b]).unwrap_err();
        run("Add", 6, &[("broadcast", Attribute::Int(1)), ("axis", Attribute::Int(9))], &[&a, &b])
            .unwrap_err();
    }

    #[test]
    fn texts_are_compared_chosen_and_counted() {
        let (a, b) = (Tensor::vector(vec!["a".to_owned(), "b".to_owned()]), Tensor::scalar("b".to_owned()));
        let equal = run("Equal", 19, &[], &[&a, &b]).unwrap();
        assert_eq!(equal, Tensor::vector(vec![false, true]));
        let chosen = run("Where", 16, &[], &[&equal, &Tensor::scalar("x".to_owned()), &a]).unwrap();
        assert_eq!(chosen, Tensor::vector(vec!["a".to_owned(), "x".to_owned()]));
        run("Greater", 13, &[], &[&a, &b]).unwrap_err();
        let long = Tensor::scalar("x".repeat(1 << 10));
        let conditions = Tensor::of([1 << 20], vec![true; 1 << 20]).unwrap();
        let problem = run("Where", 16, &[], &[&conditions, &long, &long]).unwrap_err();
        assert!(problem.contains("bytes of memory"), "{problem}");
    }
}
