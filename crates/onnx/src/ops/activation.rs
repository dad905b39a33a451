//! Functions of one element.
//!
//! Single precision runs over whole slices, so that the loops become SIMD code. NaN goes through every function
//! that does not say otherwise.

use std::borrow::Cow;

use lockgate_onnx_ml::math::Float;

use crate::operator::{ai, required};
use crate::{Build, Kernel, Kind, Meter, Numbers, Operator, Problem, Tensor};

/// What operator sets before 6 say about memory, which says nothing about values.
const OLD: &[&str] = &["consumed_inputs"];

pub(super) const TABLE: &[Operator] = &[
    ai("Abs", 1, OLD, |build| exact(build, Float::abs, Float::abs, i64::wrapping_abs, |x| x)),
    ai("Acos", 7, &[], |build| curve(build, libm::acosf, libm::acos)),
    // The library answers below 1, too.
    ai("Acosh", 9, &[], |build| {
        curve(
            build,
            |x| if x < 1.0 { f32::NAN } else { libm::acoshf(x) },
            |x| if x < 1.0 { f64::NAN } else { libm::acosh(x) },
        )
    }),
    ai("Asin", 7, &[], |build| curve(build, libm::asinf, libm::asin)),
    ai("Asinh", 9, &[], |build| curve(build, libm::asinhf, libm::asinh)),
    ai("Atan", 7, &[], |build| curve(build, libm::atanf, libm::atan)),
    ai("Atanh", 9, &[], |build| curve(build, libm::atanhf, libm::atanh)),
    ai("BitwiseNot", 18, &[], bitwise_not),
    ai("Ceil", 1, OLD, |build| curve(build, f32::ceil, f64::ceil)),
    ai("Celu", 12, &["alpha"], celu),
    ai("Cos", 7, &[], |build| curve(build, libm::cosf, libm::cos)),
    ai("Cosh", 9, &[], |build| curve(build, libm::coshf, libm::cosh)),
    ai("Elu", 1, &["alpha", "consumed_inputs"], elu),
    ai("Erf", 9, &[], erf),
    ai("Exp", 1, OLD, |build| curve(build, <f32 as Float>::exp, <f64 as Float>::exp)),
    ai("Floor", 1, OLD, |build| curve(build, f32::floor, f64::floor)),
    ai("Gelu", 20, &["approximate"], gelu),
    ai("HardSigmoid", 1, &["alpha", "beta", "consumed_inputs"], hard_sigmoid),
    ai("HardSwish", 14, &[], |build| curve(build, hard_swish::<f32>, hard_swish::<f64>)),
    ai("IsInf", 10, &["detect_negative", "detect_positive"], is_inf),
    ai("IsNaN", 9, &[], |_| Ok(asks(f32::is_nan, f64::is_nan))),
    ai("LeakyRelu", 1, &["alpha", "consumed_inputs"], leaky_relu),
    ai("Log", 1, OLD, |build| curve(build, libm::logf, libm::log)),
    ai("Mish", 18, &[], |build| curve(build, mish::<f32>, mish::<f64>)),
    ai("Neg", 1, OLD, |build| exact(build, |x| -x, |x| -x, i64::wrapping_neg, u64::wrapping_neg)),
    ai("Not", 1, &[], not),
    ai("Reciprocal", 1, OLD, |build| curve(build, |x| 1.0 / x, |x| 1.0 / x)),
    ai("Relu", 1, OLD, |build| exact(build, relu::<f32>, relu::<f64>, |x| x.max(0), |x| x)),
    ai("Round", 11, &[], |build| curve(build, f32::round_ties_even, f64::round_ties_even)),
    ai("Selu", 1, &["alpha", "consumed_inputs", "gamma"], selu),
    ai("Shrink", 9, &["bias", "lambd"], shrink),
    ai("Sigmoid", 1, OLD, |build| curve(build, <f32 as Float>::logistic, <f64 as Float>::logistic)),
    ai("Sign", 9, &[], |build| exact(build, sign::<f32>, sign::<f64>, i64::signum, |x| x.min(1))),
    ai("Sin", 7, &[], |build| curve(build, libm::sinf, libm::sin)),
    ai("Sinh", 9, &[], |build| curve(build, libm::sinhf, libm::sinh)),
    ai("Softplus", 1, &[], |build| curve(build, |x| softplus(x, libm::log1pf), |x| softplus(x, libm::log1p))),
    ai("Softsign", 1, &[], |build| curve(build, softsign::<f32>, softsign::<f64>)),
    ai("Sqrt", 1, OLD, |build| curve(build, f32::sqrt, f64::sqrt)),
    ai("SwiGLU", 28, &["alpha"], swiglu),
    ai("Swish", 24, &["alpha"], |build| {
        let alpha = build.attributes.float_or("alpha", 1.0)?;
        curve(build, move |x| swish(x, alpha), move |x| swish(x, alpha))
    }),
    ai("Tan", 7, &[], |build| curve(build, libm::tanf, libm::tan)),
    ai("Tanh", 1, OLD, |build| curve(build, <f32 as Float>::tanh, <f64 as Float>::tanh)),
    ai("ThresholdedRelu", 10, &["alpha"], thresholded_relu),
];

/// Makes sure of room for a result of this kind, and for its elements in the type that is computed with.
pub(super) fn room(meter: &mut Meter, shape: &[usize], kind: Kind) -> Result<usize, Problem> {
    let size = match kind {
        Kind::F32 | Kind::F64 | Kind::I64 | Kind::U64 => kind.size(),
        kind if kind.is_float() => 4 + kind.size(),
        kind => 8 + kind.size(),
    };
    meter.room(shape, size)
}

/// Replaces the elements of a slice by what a function makes of them.
type Pass<T> = Box<dyn Fn(&mut [T]) + Send + Sync>;

fn pass<T: Copy>(function: impl Fn(T) -> T + Send + Sync + 'static) -> Pass<T> {
    Box::new(move |all| all.iter_mut().for_each(|x| *x = function(*x)))
}

/// A function of floating-point numbers.
fn curve(
    build: &Build<'_>,
    single: impl Fn(f32) -> f32 + Send + Sync + 'static,
    double: impl Fn(f64) -> f64 + Send + Sync + 'static,
) -> Result<Kernel, Problem> {
    Ok(kernel(build, pass(single), pass(double), None))
}

/// A function of numbers of any kind.
fn exact(
    build: &Build<'_>,
    single: impl Fn(f32) -> f32 + Send + Sync + 'static,
    double: impl Fn(f64) -> f64 + Send + Sync + 'static,
    signed: fn(i64) -> i64,
    unsigned: fn(u64) -> u64,
) -> Result<Kernel, Problem> {
    Ok(kernel(build, pass(single), pass(double), Some((pass(signed), pass(unsigned)))))
}

/// A function of numbers of any kind that is defined on real ones: integers are computed with in double precision,
/// what is behind the point of the result is cut off.
fn real(
    build: &Build<'_>,
    single: impl Fn(f32) -> f32 + Send + Sync + 'static,
    double: impl Fn(f64) -> f64 + Clone + Send + Sync + 'static,
) -> Result<Kernel, Problem> {
    let (signed, unsigned) = (double.clone(), double.clone());
    let integers =
        (pass(move |x: i64| signed(x as f64) as i64), pass(move |x: u64| unsigned(x as f64) as u64));
    Ok(kernel(build, pass(single), pass(double), Some(integers)))
}

fn kernel(
    build: &Build<'_>,
    single: Pass<f32>,
    double: Pass<f64>,
    integers: Option<(Pass<i64>, Pass<u64>)>,
) -> Kernel {
    if build.opset < 6 {
        build.attributes.have_no_effect(OLD);
    }
    fn over<'a, T: Clone>(all: Cow<'_, [T]>, pass: &Pass<T>) -> Cow<'a, [T]> {
        let mut all = all.into_owned();
        pass(&mut all);
        Cow::Owned(all)
    }
    Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        room(meter, x.shape(), x.kind())?;
        let y = match (x.numbers()?, &integers) {
            (Numbers::F32(all), _) => Numbers::F32(over(all, &single)),
            (Numbers::F64(all), _) => Numbers::F64(over(all, &double)),
            (Numbers::I64(all), Some((signed, _))) => Numbers::I64(over(all, signed)),
            (Numbers::U64(all), Some((_, unsigned))) if x.kind() != Kind::Bool => {
                Numbers::U64(over(all, unsigned))
            }
            _ => return Err(not_numbers(x, integers.is_some())),
        };
        Ok(vec![Tensor::new(x.shape(), y.narrow(x.kind()))?])
    })
}

fn not_numbers(x: &Tensor, integers: bool) -> Problem {
    let expected = if integers { "numbers" } else { "floating-point numbers" };
    Problem::invalid(format!("expected {expected}, found {}", x.kind()))
}

/// A question about floating-point numbers.
fn asks(
    single: impl Fn(f32) -> bool + Send + Sync + 'static,
    double: impl Fn(f64) -> bool + Send + Sync + 'static,
) -> Kernel {
    Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        room(meter, x.shape(), x.kind())?;
        let answers: Vec<bool> = match x.numbers()? {
            Numbers::F32(all) => all.iter().map(|&x| single(x)).collect(),
            Numbers::F64(all) => all.iter().map(|&x| double(x)).collect(),
            _ => return Err(not_numbers(x, false)),
        };
        Ok(vec![Tensor::of(x.shape(), answers)?])
    })
}

fn is_inf(build: &Build<'_>) -> Result<Kernel, Problem> {
    let negative = build.attributes.flag("detect_negative", true)?;
    let positive = build.attributes.flag("detect_positive", true)?;
    Ok(asks(
        move |x| (negative && x == f32::NEG_INFINITY) || (positive && x == f32::INFINITY),
        move |x| (negative && x == f64::NEG_INFINITY) || (positive && x == f64::INFINITY),
    ))
}

fn not(_: &Build<'_>) -> Result<Kernel, Problem> {
    Ok(Box::new(|operands, meter| {
        let x = required(operands, 0)?;
        meter.room(x.shape(), 1)?;
        let all = x.elements::<bool>()?.iter().map(|x| !x).collect::<Vec<_>>();
        Ok(vec![Tensor::of(x.shape(), all)?])
    }))
}

fn bitwise_not(_: &Build<'_>) -> Result<Kernel, Problem> {
    Ok(Box::new(|operands, meter| {
        let x = required(operands, 0)?;
        room(meter, x.shape(), x.kind())?;
        let y = match x.numbers()? {
            Numbers::I64(all) => Numbers::I64(all.iter().map(|x| !x).collect()),
            Numbers::U64(all) if x.kind() != Kind::Bool => Numbers::U64(all.iter().map(|x| !x).collect()),
            _ => return Err(Problem::invalid(format!("expected integers, found {}", x.kind()))),
        };
        Ok(vec![Tensor::new(x.shape(), y.narrow(x.kind()))?])
    }))
}

fn relu<T: Float>(x: T) -> T {
    if x < T::ZERO { T::ZERO } else { x }
}

/// −1, 0 or 1; NaN of NaN, as NumPy.
fn sign<T: Float>(x: T) -> T {
    if x > T::ZERO {
        T::ONE
    } else if x < T::ZERO {
        -T::ONE
    } else {
        x
    }
}

fn leaky_relu(build: &Build<'_>) -> Result<Kernel, Problem> {
    fn function<T: Float>(x: T, alpha: f32) -> T {
        if x < T::ZERO { T::from_f32(alpha) * x } else { x }
    }
    let alpha = build.attributes.float_or("alpha", 0.01)?;
    curve(build, move |x| function(x, alpha), move |x| function(x, alpha))
}

/// NaN becomes 0, as in onnxruntime: it does not exceed the threshold.
fn thresholded_relu(build: &Build<'_>) -> Result<Kernel, Problem> {
    fn function<T: Float>(x: T, alpha: f32) -> T {
        if x > T::from_f32(alpha) { x } else { T::ZERO }
    }
    let alpha = build.attributes.float_or("alpha", 1.0)?;
    curve(build, move |x| function(x, alpha), move |x| function(x, alpha))
}

/// `alpha` (eˣ − 1) below 0. The difference is taken as it is written, so near 0 the error is relative to 1, as in
/// onnxruntime.
fn elu(build: &Build<'_>) -> Result<Kernel, Problem> {
    fn function<T: Float>(x: T, alpha: f32) -> T {
        if x < T::ZERO { T::from_f32(alpha) * (x.exp() - T::ONE) } else { x }
    }
    let alpha = build.attributes.float_or("alpha", 1.0)?;
    curve(build, move |x| function(x, alpha), move |x| function(x, alpha))
}

fn celu(build: &Build<'_>) -> Result<Kernel, Problem> {
    fn function<T: Float>(x: T, alpha: f32) -> T {
        let alpha = T::from_f32(alpha);
        if x > T::ZERO { x } else { alpha * ((x / alpha).exp() - T::ONE) }
    }
    let alpha = build.attributes.float_or("alpha", 1.0)?;
    if alpha == 0.0 {
        let hint = "any other value, or Relu in place of Celu";
        return Err(Problem::attribute("alpha", "elements are divided by it, so it cannot be 0", hint));
    }
    curve(build, move |x| function(x, alpha), move |x| function(x, alpha))
}

fn selu(build: &Build<'_>) -> Result<Kernel, Problem> {
    fn function<T: Float>(x: T, alpha: f32, gamma: f32) -> T {
        let (alpha, gamma) = (T::from_f32(alpha), T::from_f32(gamma));
        gamma * if x > T::ZERO { x } else { alpha * (x.exp() - T::ONE) }
    }
    // Operator set 6 gave the constants more digits.
    let (alpha, gamma) = if build.opset < 6 { (1.6732, 1.0507) } else { (1.673_263_2, 1.050_701) };
    let alpha = build.attributes.float_or("alpha", alpha)?;
    let gamma = build.attributes.float_or("gamma", gamma)?;
    curve(build, move |x| function(x, alpha, gamma), move |x| function(x, alpha, gamma))
}

/// NaN becomes 0: it lies on neither side.
fn shrink(build: &Build<'_>) -> Result<Kernel, Problem> {
    fn function<T: Float>(x: T, bias: f32, lambd: f32) -> T {
        let (bias, lambd) = (T::from_f32(bias), T::from_f32(lambd));
        if x < -lambd {
            x + bias
        } else if x > lambd {
            x - bias
        } else {
            T::ZERO
        }
    }
    let bias = build.attributes.float_or("bias", 0.0)?;
    let lambd = build.attributes.float_or("lambd", 0.5)?;
    real(build, move |x| function(x, bias, lambd), move |x| function(x, bias, lambd))
}

fn hard_sigmoid(build: &Build<'_>) -> Result<Kernel, Problem> {
    let alpha = build.attributes.float_or("alpha", 0.2)?;
    let beta = build.attributes.float_or("beta", 0.5)?;
    curve(build, move |x| unit(alpha * x + beta), move |x| unit(f64::from(alpha) * x + f64::from(beta)))
}

/// The nearest number of 0 … 1.
fn unit<T: Float>(x: T) -> T {
    if x < T::ZERO {
        T::ZERO
    } else if x > T::ONE {
        T::ONE
    } else {
        x
    }
}

fn hard_swish<T: Float>(x: T) -> T {
    x * unit(x / T::from_f32(6.0) + T::from_f32(0.5))
}

fn swish<T: Float>(x: T, alpha: f32) -> T {
    x * (T::from_f32(alpha) * x).logistic()
}

/// x tanh(ln(1 + eˣ)), with the logarithm resolved: tanh(ln(1 + e)) = e (e + 2) / (e (e + 2) + 2).
fn mish<T: Float>(x: T) -> T {
    // Above 20 the quotient is 1 in either precision.
    let bound = T::from_f32(20.0);
    let e = if x > bound { bound } else { x }.exp();
    let product = e * (e + T::from_f32(2.0));
    x * (product / (product + T::from_f32(2.0)))
}

/// ln(1 + eˣ), without an overflow on the way.
fn softplus<T: Float>(x: T, log1p: impl Fn(T) -> T) -> T {
    relu(x) + log1p((-x.abs()).exp())
}

fn softsign<T: Float>(x: T) -> T {
    x / (T::ONE + x.abs())
}

fn erf(build: &Build<'_>) -> Result<Kernel, Problem> {
    real(build, libm::erff, libm::erf)
}

fn gelu(build: &Build<'_>) -> Result<Kernel, Problem> {
    fn half<T: Float>(x: T, share: T) -> T {
        T::from_f32(0.5) * x * (T::ONE + share)
    }
    fn by_tanh<T: Float>(x: T) -> T {
        let root = T::from_f64((2.0 / std::f64::consts::PI).sqrt());
        half(x, (root * (x + T::from_f64(0.044_715) * x * x * x)).tanh())
    }
    match build.attributes.text_or("approximate", "none")? {
        "none" => curve(
            build,
            |x| half(x, libm::erff(x * std::f32::consts::FRAC_1_SQRT_2)),
            |x| half(x, libm::erf(x * std::f64::consts::FRAC_1_SQRT_2)),
        ),
        "tanh" => curve(build, by_tanh::<f32>, by_tanh::<f64>),
        other => {
            let message = format!("there is no approximation `{other}`");
            Err(Problem::attribute("approximate", message, "`none` or `tanh`"))
        }
    }
}

fn swiglu(build: &Build<'_>) -> Result<Kernel, Problem> {
    fn function<'a, T: Float>(gates: &[T], values: &[T], alpha: f32) -> Cow<'a, [T]> {
        gates.iter().zip(values).map(|(&gate, &value)| swish(gate, alpha) * value).collect()
    }
    let alpha = build.attributes.float_or("alpha", 1.0)?;
    Ok(Box::new(move |operands, meter| {
        let (a, b) = (required(operands, 0)?, required(operands, 1)?);
        if a.shape() != b.shape() || a.kind() != b.kind() {
            return Err(Problem::invalid(format!(
                "gate and value must be of one kind and shape, found {} {:?} and {} {:?}",
                a.kind(),
                a.shape(),
                b.kind(),
                b.shape()
            )));
        }
        room(meter, a.shape(), a.kind())?;
        let y = match (a.numbers()?, b.numbers()?) {
            (Numbers::F32(gates), Numbers::F32(values)) => Numbers::F32(function(&gates, &values, alpha)),
            (Numbers::F64(gates), Numbers::F64(values)) => Numbers::F64(function(&gates, &values, alpha)),
            _ => return Err(not_numbers(a, false)),
        };
        Ok(vec![Tensor::new(a.shape(), y.narrow(a.kind()))?])
    }))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{Attribute, Node};

    /// The first result of an operator that may take 64 MiB.
    pub(in crate::ops) fn run(
        operator: &str,
        opset: i64,
        attributes: &[(&str, Attribute)],
        operands: &[&Tensor],
    ) -> Result<Tensor, String> {
        let node = Node {
            domain: "ai.onnx".to_owned(),
            operator: operator.to_owned(),
            opset,
            attributes: attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
            inputs: (0..operands.len()).map(|at| u32::try_from(at).ok()).collect(),
            outputs: vec![Some(9)],
            ..Node::default()
        };
        let kernel =
            node.kernel(&vec![None; operands.len()], &[]).map_err(|problem| problem.problem.to_string())?;
        let operands: Vec<Option<&Tensor>> = operands.iter().copied().map(Some).collect();
        let mut results =
            kernel(&operands, &mut Meter::new(1 << 26, 1 << 26)).map_err(|problem| problem.to_string())?;
        Ok(results.swap_remove(0))
    }

    fn single(operator: &str, opset: i64, x: f32) -> f32 {
        run(operator, opset, &[], &[&Tensor::scalar(x)]).unwrap().elements::<f32>().unwrap()[0]
    }

    #[test]
    fn every_function_takes_scalars_and_nothing() {
        for entry in TABLE.iter().filter(|entry| !matches!(entry.name, "Not" | "BitwiseNot")) {
            let scalar = Tensor::scalar(0.5_f64);
            let operands = [&scalar, &scalar];
            let count = if entry.name == "SwiGLU" { 2 } else { 1 };
            assert!(
                run(entry.name, 28, &[], &operands[..count]).unwrap().shape().is_empty(),
                "{}",
                entry.name
            );
            let empty = Tensor::of([0, 3], Vec::<f32>::new()).unwrap();
            let operands = [&empty, &empty];
            assert_eq!(
                run(entry.name, 28, &[], &operands[..count]).unwrap().shape(),
                [0, 3],
                "{}",
                entry.name
            );
        }
    }

    #[test]
    fn nan_goes_through() {
        let exceptions = ["BitwiseNot", "IsInf", "IsNaN", "Not", "Shrink", "SwiGLU", "ThresholdedRelu"];
        for entry in TABLE.iter().filter(|entry| !exceptions.contains(&entry.name)) {
            assert!(single(entry.name, 28, f32::NAN).is_nan(), "{}", entry.name);
        }
    }

    #[test]
    fn large_arguments_do_not_overflow_on_the_way() {
        assert_eq!(single("Softplus", 22, 1000.0), 1000.0);
        assert_eq!(single("Softplus", 22, -1000.0), 0.0);
        assert_eq!(single("Mish", 22, 1000.0), 1000.0);
        assert_eq!(single("Mish", 22, -1000.0), -0.0);
        assert_eq!(single("Elu", 22, -1000.0), -1.0);
    }

    #[test]
    fn integers_are_taken_where_they_are_defined() {
        let bytes = Tensor::vector(vec![-128_i8, -3, 0, 5]);
        let check = |operator, want: [i8; 4]| {
            assert_eq!(
                run(operator, 14, &[], &[&bytes]).unwrap(),
                Tensor::vector(want.to_vec()),
                "{operator}"
            );
        };
        check("Abs", [-128, 3, 0, 5]);
        check("Neg", [-128, 3, 0, -5]);
        check("Relu", [0, 0, 0, 5]);
        check("Sign", [-1, -1, 0, 1]);
        check("Shrink", [-128, -3, 0, 5]);
        assert_eq!(
            run("Exp", 13, &[], &[&bytes]).unwrap_err(),
            "expected floating-point numbers, found int8"
        );
        assert_eq!(
            run("Relu", 14, &[], &[&Tensor::scalar(true)]).unwrap_err(),
            "expected numbers, found bool"
        );
    }

    #[test]
    fn refusals() {
        let one = Tensor::scalar(1.0_f32);
        run("Celu", 12, &[("alpha", Attribute::Float(0.0))], &[&one]).unwrap_err();
        run("Gelu", 20, &[("approximate", Attribute::Text("erf".to_owned()))], &[&one]).unwrap_err();
        run("Relu", 14, &[("consumed_inputs", Attribute::Ints(vec![0]))], &[&one]).unwrap_err();
        run("Relu", 1, &[("consumed_inputs", Attribute::Ints(vec![0]))], &[&one]).unwrap();
        run("Relu", 14, &[], &[]).unwrap_err();
        let large = Tensor::of([1 << 25], vec![0.0_f32; 1 << 25]).unwrap();
        assert!(run("Relu", 14, &[], &[&large]).unwrap_err().contains("bytes of memory"));
    }
}
