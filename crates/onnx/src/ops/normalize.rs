//! Elements relative to those around them.
//!
//! Everything is computed in `f32`, or in `f64` when an operand is: 16-bit kinds are rounded once, at the end
//! ([`soften`] says where it differs).

use std::borrow::Cow;

use lockgate_onnx_ml::math::Float;

use super::reduce::extreme;
use super::reduce::lines::{
    Lines, Real, along, floats, fold, mean, peak, product, round, rounded, sum, tensor,
};
use crate::operator::{ai, optional, required};
use crate::shape::{self, broadcast, elements, sources};
use crate::{Build, Kernel, Kind, Meter, Operator, Problem, Tensor};

const BATCH: &[&str] = &["consumed_inputs", "epsilon", "is_test", "momentum", "spatial", "training_mode"];
const GROUP: &[&str] = &["epsilon", "num_groups", "stash_type"];
const LAYER: &[&str] = &["axis", "epsilon", "stash_type"];

pub(super) const TABLE: &[Operator] = &[
    ai("BatchNormalization", 1, BATCH, batch).but("training before opset 14: export the model for inference"),
    ai("GroupNormalization", 18, GROUP, group),
    ai("Hardmax", 1, &["axis"], |build| softmax(build, Form::Hard)),
    ai("InstanceNormalization", 1, &["consumed_inputs", "epsilon"], instance),
    ai("LRN", 1, &["alpha", "beta", "bias", "size"], local_response),
    ai("LayerNormalization", 17, LAYER, |build| layer(build, true)),
    ai("LogSoftmax", 1, &["axis"], |build| softmax(build, Form::Log)),
    ai("LpNormalization", 1, &["axis", "p"], lp),
    ai("MeanVarianceNormalization", 9, &["axes"], mean_variance),
    ai("RMSNormalization", 23, LAYER, |build| layer(build, false)),
    ai("Softmax", 1, &["axis"], |build| softmax(build, Form::Soft)),
];

/// Room for a copy of `x` in wide numbers, and so many operations for each element.
fn take(meter: &mut Meter, x: &Tensor, operations: usize) -> Result<(), Problem> {
    meter.room(x.shape(), 8)?;
    meter.work(product(&[x.len(), operations]))
}

#[derive(Debug, Clone, Copy)]
enum Form {
    Soft,
    Log,
    Hard,
}

/// Before opset 13 a line is everything from the axis on, since then it is what lies along the axis.
fn softmax(build: &Build<'_>, form: Form) -> Result<Kernel, Problem> {
    let flat = build.opset < 13;
    let axis = build.attributes.int_or("axis", if flat { 1 } else { -1 })?;
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        let first = shape::axis(axis, x.rank())?;
        let axes: Vec<usize> = if flat { (first..x.rank()).collect() } else { vec![first] };
        take(meter, x, 8)?;
        let y = if x.kind() == Kind::F64 {
            along::<f64>(x, &axes, |line| softmax_line(line, form, x.kind()))
        } else {
            along::<f32>(x, &axes, |line| softmax_line(line, form, x.kind()))
        };
        Ok(vec![y?])
    }))
}

fn softmax_line<T: Real>(line: &mut [T], form: Form, kind: Kind) {
    match form {
        Form::Soft => soften(line, kind),
        Form::Log => log_soften(line),
        Form::Hard => {
            let best = extreme(line, true, false);
            for (at, element) in line.iter_mut().enumerate() {
                *element = if at == best { T::ONE } else { T::ZERO };
            }
        }
    }
}

/// Softmax. NaN or +∞ in the line, or nothing but −∞, makes all of it NaN.
///
/// In a 16-bit kind every step is rounded, as in the specification's formula, but for the sum, which would lose the small ones of many numbers:
/// in float16 it is rounded once, in bfloat16 as its eight partial sums are joined.
pub(super) fn soften<T: Real>(line: &mut [T], kind: Kind) {
    let greatest = peak(line);
    line.iter_mut().for_each(|element| *element = *element - greatest);
    round(line, kind);
    line.iter_mut().for_each(|element| *element = element.exp());
    round(line, kind);
    let join = |one, other| if kind == Kind::Bf16 { rounded(one + other, kind) } else { one + other };
    let total = rounded(fold(line, T::ZERO, |sum, x| sum + x, join), kind);
    line.iter_mut().for_each(|element| *element = *element / total);
    round(line, kind);
}

/// The logarithm of the softmax.
pub(super) fn log_soften<T: Float>(line: &mut [T]) {
    let greatest = peak(line);
    let shift = sum(line, |x| (x - greatest).exp()).ln();
    for element in line {
        *element = *element - greatest - shift;
    }
}

/// What `stash_type` says: the kind of the statistics, which are never computed in less than `f32`.
fn stash(build: &Build<'_>) -> Result<Kind, Problem> {
    let number = build.attributes.int_or("stash_type", 1)?;
    match Kind::from_number(number) {
        Some(kind @ (Kind::F32 | Kind::F64 | Kind::F16 | Kind::Bf16)) => Ok(kind),
        _ => Err(Problem::attribute(
            "stash_type",
            format!("{number} is no floating-point type"),
            "use 1, float",
        )),
    }
}

struct Layer {
    axis: i64,
    epsilon: f64,
    stash: Kind,
    /// Whether the mean is taken off: `LayerNormalization`, else `RMSNormalization`.
    centred: bool,
}

fn layer(build: &Build<'_>, centred: bool) -> Result<Kernel, Problem> {
    let axis = build.attributes.int_or("axis", -1)?;
    let epsilon = f64::from(build.attributes.float_or("epsilon", 1e-5)?);
    let layer = Layer { axis, epsilon, stash: stash(build)?, centred };
    Ok(Box::new(move |operands, meter| {
        let [x, scale] = [required(operands, 0)?, required(operands, 1)?];
        take(meter, x, 8)?;
        if [x.kind(), scale.kind(), layer.stash].contains(&Kind::F64) {
            layer.run::<f64>(x, scale, optional(operands, 2), meter)
        } else {
            layer.run::<f32>(x, scale, optional(operands, 2), meter)
        }
    }))
}

impl Layer {
    fn run<T: Real>(
        &self,
        x: &Tensor,
        scale: &Tensor,
        bias: Option<&Tensor>,
        meter: &mut Meter,
    ) -> Result<Vec<Tensor>, Problem> {
        let axis = shape::axis(self.axis, x.rank())?;
        let (outer, inner) = x.shape().split_at_checked(axis).unwrap_or_default();
        let lines = outer.iter().copied().chain(inner.iter().map(|_| 1)).collect::<Vec<_>>();
        let count = meter.room(&lines, 16)?;
        let scale_kind = scale.kind();
        let scale = spread::<T>(scale, x.shape(), axis, meter)?;
        let bias = bias.map(|bias| spread::<T>(bias, x.shape(), axis, meter)).transpose()?;
        let epsilon = T::from_f64(self.epsilon);
        let len = elements(inner).unwrap_or(usize::MAX).max(1);
        let mut all = floats::<T>(x)?.into_owned();
        let (mut means, mut inverses) = (Vec::new(), Vec::new());
        if inner.contains(&0) {
            means.resize(count, T::NAN);
            inverses.resize(count, T::NAN);
        }
        let mut scales = scale.chunks_exact(len).cycle();
        let mut biases = bias.as_ref().map(|bias| bias.chunks_exact(len).cycle());
        for line in all.chunks_exact_mut(len) {
            if self.centred {
                let mean = mean(line, |x| x);
                for element in line.iter_mut() {
                    *element = *element - mean;
                }
                means.push(mean);
            }
            let inverse = T::ONE / (mean(line, |x| x * x) + epsilon).sqrt();
            inverses.push(inverse);
            for (element, &scale) in line.iter_mut().zip(scales.next().unwrap_or_default()) {
                *element = *element * inverse * scale;
            }
            let bias = biases.as_mut().and_then(Iterator::next).unwrap_or_default();
            for (element, &bias) in line.iter_mut().zip(bias) {
                *element += bias;
            }
        }
        if !self.centred {
            return Ok(vec![tensor(x.shape(), all, scale_kind)?]);
        }
        Ok(vec![
            tensor(x.shape(), all, x.kind())?,
            tensor(lines.as_slice(), means, self.stash)?,
            tensor(lines, inverses, self.stash)?,
        ])
    }
}

/// An operand that broadcasts to `shape`: its own elements if they are those of one line from `axis` on, else one for each element.
fn spread<'a, T: Real>(
    operand: &'a Tensor,
    shape: &[usize],
    axis: usize,
    meter: &mut Meter,
) -> Result<Cow<'a, [T]>, Problem> {
    let all = floats::<T>(operand)?;
    let own = operand.shape();
    let ones = own.iter().take_while(|&&len| len == 1).count();
    let inner = shape.get(axis..).unwrap_or_default();
    let inner_ones = inner.iter().take_while(|&&len| len == 1).count();
    if own.len() <= shape.len() && own.get(ones..) == inner.get(inner_ones..) {
        return Ok(all);
    }
    if broadcast(&[own, shape])?.as_slice() != shape {
        return Err(Problem::invalid(format!("the shape {own:?} does not broadcast to {shape:?}")));
    }
    meter.room(shape, 8)?;
    Ok(Cow::Owned(sources(own, shape).map(|place| all.get(place).copied().unwrap_or_default()).collect()))
}

/// The elements of an operand of one axis, of which there must be `count`.
fn each<'a, T: Real>(operand: &'a Tensor, name: &str, count: usize) -> Result<Cow<'a, [T]>, Problem> {
    if operand.shape() == [count] {
        return floats(operand);
    }
    Err(Problem::invalid(format!("the shape of {name} is {:?}, expected [{count}]", operand.shape())))
}

/// The batch, the channels and the elements of a channel in one item of the batch.
fn channels(shape: &[usize]) -> Result<(usize, usize, usize), Problem> {
    match shape {
        [batch, channels, rest @ ..] => Ok((*batch, *channels, elements(rest).unwrap_or(usize::MAX))),
        _ => Err(Problem::invalid(format!("expected a batch and channels, found the shape {shape:?}"))),
    }
}

fn instance(build: &Build<'_>) -> Result<Kernel, Problem> {
    // A hint about memory in opset 1.
    build.attributes.have_no_effect(&["consumed_inputs"]);
    let epsilon = f64::from(build.attributes.float_or("epsilon", 1e-5)?);
    Ok(Box::new(move |operands, meter| {
        let (_, channels, _) = channels(required(operands, 0)?.shape())?;
        grouped(operands, channels, false, epsilon, meter)
    }))
}

/// Before opset 21 scale and bias are given for each group, since then for each channel.
fn group(build: &Build<'_>) -> Result<Kernel, Problem> {
    let groups = build.attributes.int_or("num_groups", 0)?;
    let groups = usize::try_from(groups).ok().filter(|&groups| groups > 0).ok_or_else(|| {
        Problem::attribute("num_groups", format!("there cannot be {groups} groups"), "give 1 or more")
    })?;
    let epsilon = f64::from(build.attributes.float_or("epsilon", 1e-5)?);
    stash(build)?;
    let for_groups = build.opset < 21;
    Ok(Box::new(move |operands, meter| grouped(operands, groups, for_groups, epsilon, meter)))
}

fn grouped(
    operands: &[Option<&Tensor>],
    groups: usize,
    for_groups: bool,
    epsilon: f64,
    meter: &mut Meter,
) -> Result<Vec<Tensor>, Problem> {
    let x = required(operands, 0)?;
    take(meter, x, 8)?;
    let run = if x.kind() == Kind::F64 { grouped_in::<f64> } else { grouped_in::<f32> };
    run(x, required(operands, 1)?, required(operands, 2)?, groups, for_groups, epsilon)
}

fn grouped_in<T: Real>(
    x: &Tensor,
    scale: &Tensor,
    bias: &Tensor,
    groups: usize,
    for_groups: bool,
    epsilon: f64,
) -> Result<Vec<Tensor>, Problem> {
    let (_, channels, len) = channels(x.shape())?;
    let in_group = channels.checked_div(groups).unwrap_or(0);
    if in_group.checked_mul(groups) != Some(channels) {
        return Err(Problem::invalid(format!("{channels} channels do not make {groups} equal groups")));
    }
    let given = if for_groups { groups } else { channels };
    let (scale, bias) = (each::<T>(scale, "scale", given)?, each::<T>(bias, "bias", given)?);
    if x.is_empty() {
        return Ok(vec![x.clone()]);
    }
    let repeat = if for_groups { in_group } else { 1 };
    let affine =
        |all: &[T]| -> Vec<T> { all.iter().flat_map(|&one| std::iter::repeat_n(one, repeat)).collect() };
    let (scale, bias) = (affine(&scale), affine(&bias));
    let mut affine = scale.iter().zip(&bias).cycle();
    let mut all = floats::<T>(x)?.into_owned();
    for line in all.chunks_exact_mut(len.saturating_mul(in_group).max(1)) {
        let (mean, inverse) = statistics(line, T::from_f64(epsilon));
        for (channel, (&scale, &bias)) in line.chunks_exact_mut(len.max(1)).zip(affine.by_ref()) {
            for element in channel {
                *element = (*element - mean) * inverse * scale + bias;
            }
        }
    }
    Ok(vec![tensor(x.shape(), all, x.kind())?])
}

/// The mean of a line, and 1 / √(variance + ε).
fn statistics<T: Float>(line: &[T], epsilon: T) -> (T, T) {
    let centre = mean(line, |x| x);
    let variance = mean(line, |x| (x - centre) * (x - centre));
    (centre, T::ONE / (variance + epsilon).sqrt())
}

struct Batch {
    epsilon: f64,
    momentum: f64,
    /// Whether the statistics are those of this batch; the running ones are then results.
    training: bool,
    /// Whether there is one mean for all elements of a channel; else there is one for each place in an item of the batch.
    spatial: bool,
}

fn batch(build: &Build<'_>) -> Result<Kernel, Problem> {
    // A hint about memory in opset 1.
    build.attributes.have_no_effect(&["consumed_inputs"]);
    let training = if build.opset < 7 {
        !build.attributes.flag("is_test", false)?
    } else if build.opset < 14 {
        build.outputs > 1
    } else {
        build.attributes.flag("training_mode", false)?
    };
    let hint = "export the model for inference";
    if training && build.opset < 14 {
        return Err(Problem::unsupported("training is supported from opset 14 on only", hint));
    }
    if !training && build.outputs > 1 {
        return Err(Problem::unsupported("there are running statistics only in training", hint));
    }
    let batch = Batch {
        epsilon: f64::from(build.attributes.float_or("epsilon", 1e-5)?),
        momentum: f64::from(build.attributes.float_or("momentum", 0.9)?),
        training,
        spatial: build.attributes.flag("spatial", true)?,
    };
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        take(meter, x, if batch.training { 8 } else { 4 })?;
        if x.kind() == Kind::F64 {
            batch.run::<f64>(operands, meter)
        } else {
            batch.run::<f32>(operands, meter)
        }
    }))
}

impl Batch {
    fn run<T: Real>(&self, operands: &[Option<&Tensor>], meter: &mut Meter) -> Result<Vec<Tensor>, Problem> {
        let x = required(operands, 0)?;
        let (channels, len) = match x.shape() {
            [_] => (1, 1),
            [_, inner @ ..] if !self.spatial => (elements(inner).unwrap_or(usize::MAX), 1),
            shape => {
                let (_, channels, len) = channels(shape)?;
                (channels, len)
            }
        };
        meter.room(&[channels], 32)?;
        let given = |index: usize, name: &str| {
            let operand = required(operands, index)?;
            if self.spatial {
                return each::<T>(operand, name, channels);
            }
            if Some(operand.shape()) == x.shape().get(1..) {
                return floats::<T>(operand);
            }
            Err(Problem::invalid(format!(
                "the shape of {name} is {:?}, that of X is {:?}",
                operand.shape(),
                x.shape()
            )))
        };
        let (scale, bias) = (given(1, "scale")?, given(2, "B")?);
        let (mut means, mut variances) = (given(3, "mean")?, given(4, "var")?);
        let mut running = Vec::new();
        if self.training {
            let mut axes: Vec<usize> = (0..x.rank()).collect();
            if x.rank() > 1 {
                axes.remove(1);
            }
            let lines = Lines::new(x.shape(), &axes);
            let found = lines.map(floats::<T>(x)?, |line| {
                let centre = mean(line, |x| x);
                (centre, mean(line, |x| (x - centre) * (x - centre)))
            });
            let (new_means, new_variances): (Vec<T>, Vec<T>) = found.into_iter().unzip();
            let momentum = T::from_f64(self.momentum);
            for (index, old, new) in [(3, &means, &new_means), (4, &variances, &new_variances)] {
                let both = old.iter().zip(new);
                let moved =
                    both.map(|(&old, &new)| old * momentum + new * (T::ONE - momentum)).collect::<Vec<_>>();
                running.push(tensor([channels], moved, required(operands, index)?.kind())?);
            }
            (means, variances) = (new_means.into(), new_variances.into());
        }
        let epsilon = T::from_f64(self.epsilon);
        let factors: Vec<T> = scale
            .iter()
            .zip(variances.iter())
            .map(|(&scale, &variance)| scale / (variance + epsilon).sqrt())
            .collect();
        let mut all = floats::<T>(x)?.into_owned();
        let affine = means.iter().zip(&factors).zip(bias.iter());
        if len == 1 {
            for item in all.chunks_exact_mut(channels.max(1)) {
                for (element, ((&mean, &factor), &bias)) in item.iter_mut().zip(affine.clone()) {
                    *element = (*element - mean) * factor + bias;
                }
            }
        } else {
            for (line, ((&mean, &factor), &bias)) in all.chunks_exact_mut(len.max(1)).zip(affine.cycle()) {
                for element in line {
                    *element = (*element - mean) * factor + bias;
                }
            }
        }
        let mut results = vec![tensor(x.shape(), all, x.kind())?];
        results.append(&mut running);
        Ok(results)
    }
}

/// A line of nothing but zeros stays so.
fn lp(build: &Build<'_>) -> Result<Kernel, Problem> {
    let axis = build.attributes.int_or("axis", -1)?;
    let p = build.attributes.int_or("p", 2)?;
    if p != 1 && p != 2 {
        return Err(Problem::attribute("p", format!("there is no norm of order {p}"), "use 1 or 2"));
    }
    fn line<T: Float>(line: &mut [T], p: i64) {
        let norm = if p == 1 { sum(line, T::abs) } else { sum(line, |x| x * x).sqrt() };
        for element in line {
            *element = if norm == T::ZERO { T::ZERO } else { *element / norm };
        }
    }
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        let axes = [shape::axis(axis, x.rank())?];
        take(meter, x, 4)?;
        let y = if x.kind() == Kind::F64 {
            along::<f64>(x, &axes, |all| line(all, p))
        } else {
            along::<f32>(x, &axes, |all| line(all, p))
        };
        Ok(vec![y?])
    }))
}

/// The variance is that of the differences from the mean, which is exact where E(X²) − E(X)² would cancel. The 1e-9 is the specification's.
fn mean_variance(build: &Build<'_>) -> Result<Kernel, Problem> {
    let given = build.attributes.ints("axes")?.unwrap_or(&[0, 2, 3]).to_vec();
    fn line<T: Float>(line: &mut [T]) {
        let centre = mean(line, |x| x);
        let deviation = mean(line, |x| (x - centre) * (x - centre)).sqrt() + T::from_f64(1e-9);
        for element in line {
            *element = (*element - centre) / deviation;
        }
    }
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        let axes = shape::axes(&given, x.rank())?;
        take(meter, x, 8)?;
        let y =
            if x.kind() == Kind::F64 { along::<f64>(x, &axes, line) } else { along::<f32>(x, &axes, line) };
        Ok(vec![y?])
    }))
}

struct LocalResponse {
    alpha: f64,
    beta: f64,
    bias: f64,
    size: usize,
}

/// `LRN`. The squares of a region are added channel by channel; the power is taken in double precision.
fn local_response(build: &Build<'_>) -> Result<Kernel, Problem> {
    let size = build.attributes.int_or("size", 0)?;
    let size = usize::try_from(size).ok().filter(|&size| size > 0).ok_or_else(|| {
        Problem::attribute("size", format!("a region cannot have {size} channels"), "give 1 or more")
    })?;
    let response = LocalResponse {
        alpha: f64::from(build.attributes.float_or("alpha", 1e-4)?),
        beta: f64::from(build.attributes.float_or("beta", 0.75)?),
        bias: f64::from(build.attributes.float_or("bias", 1.0)?),
        size,
    };
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        let (_, channels, _) = channels(x.shape())?;
        take(meter, x, response.size.min(channels).saturating_add(32))?;
        let run = if x.kind() == Kind::F64 { LocalResponse::run::<f64> } else { LocalResponse::run::<f32> };
        Ok(vec![run(&response, x)?])
    }))
}

impl LocalResponse {
    fn run<T: Real>(&self, x: &Tensor) -> Result<Tensor, Problem> {
        let (_, channels, len) = channels(x.shape())?;
        let all = floats::<T>(x)?;
        let mut y = Vec::with_capacity(all.len());
        let before = self.size.saturating_sub(1) / 2;
        let after = self.size / 2;
        let (len, share) = (len.max(1), T::from_f64(self.alpha / self.size as f64));
        for item in all.chunks_exact(len.saturating_mul(channels).max(1)) {
            for (channel, line) in item.chunks_exact(len).enumerate() {
                let first = channel.saturating_sub(before);
                let last = channel.saturating_add(after).min(channels.saturating_sub(1));
                for (at, &element) in line.iter().enumerate() {
                    let region = item.iter().skip(at).step_by(len).take(last.saturating_add(1)).skip(first);
                    let squares = region.fold(T::ZERO, |sum, &x| sum + x * x);
                    let base = T::from_f64(self.bias) + share * squares;
                    y.push(element / T::from_f64(libm::pow(base.to_f64(), self.beta)));
                }
            }
        }
        tensor(x.shape(), y, x.kind())
    }
}

#[cfg(test)]
mod tests {
    use super::super::reduce::tests::run;
    use super::*;
    use crate::Attribute;

    #[track_caller]
    fn check(
        operator: &str,
        opset: i64,
        attributes: &[(&str, Attribute)],
        operands: &[&Tensor],
        expected: &[f32],
    ) {
        let operands: Vec<_> = operands.iter().copied().map(Some).collect();
        let found = run(operator, opset, attributes, &operands, 1).unwrap();
        let found = found.first().unwrap();
        assert_eq!(Some(found.shape()), operands.first().unwrap().map(Tensor::shape));
        for (&found, &expected) in found.elements::<f32>().unwrap().iter().zip(expected) {
            assert!(
                (found - expected).abs() < 1e-6 || found.is_nan() && expected.is_nan(),
                "{found} {expected}"
            );
        }
        assert_eq!(found.len(), expected.len());
    }

    fn axis(axis: i64) -> (&'static str, Attribute) {
        ("axis", Attribute::Int(axis))
    }

    #[test]
    fn softmax_of_old_models_flattens() {
        let x = Tensor::of([1, 2, 2], vec![0_f32; 4]).unwrap();
        check("Softmax", 12, &[], &[&x], &[0.25; 4]);
        check("Softmax", 13, &[], &[&x], &[0.5; 4]);
        check("LogSoftmax", 11, &[axis(2)], &[&x], &[-std::f32::consts::LN_2; 4]);
        check("Hardmax", 7, &[], &[&x], &[1.0, 0.0, 0.0, 0.0]);
        check("Hardmax", 13, &[axis(1)], &[&x], &[1.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn softmax_of_what_is_not_finite() {
        let low = f32::NEG_INFINITY;
        check("Softmax", 13, &[], &[&Tensor::vector(vec![low, 0.0])], &[0.0, 1.0]);
        check("Softmax", 13, &[], &[&Tensor::vector(vec![low, low])], &[f32::NAN; 2]);
        check("Softmax", 13, &[], &[&Tensor::vector(vec![f32::NAN, 0.0])], &[f32::NAN; 2]);
        check("Softmax", 13, &[], &[&Tensor::of([0, 3], Vec::<f32>::new()).unwrap()], &[]);
        let found = run("Softmax", 13, &[], &[Some(&Tensor::scalar(1_f32))], 1).unwrap_err();
        assert_eq!(found, "axis -1 is outside of the 0 axes");
        let found = run("Softmax", 13, &[], &[Some(&Tensor::vector(vec![1_i32]))], 1).unwrap_err();
        assert_eq!(found, "expected floating-point numbers, found int32");
    }

    #[test]
    fn layer_normalization_broadcasts() {
        let x = Tensor::of([2, 2], vec![1_f32, 3.0, 1.0, 3.0]).unwrap();
        let epsilon = ("epsilon", Attribute::Float(0.0));
        let of = |shape: &[usize], all: Vec<f32>| Tensor::of(shape, all).unwrap();
        let every = of(&[2, 2], vec![1.0, 2.0, 3.0, 4.0]);
        check(
            "LayerNormalization",
            17,
            std::slice::from_ref(&epsilon),
            &[&x, &every],
            &[-1.0, 2.0, -3.0, 4.0],
        );
        let column = of(&[2, 1], vec![1.0, 2.0]);
        check(
            "LayerNormalization",
            17,
            std::slice::from_ref(&epsilon),
            &[&x, &column, &of(&[], vec![1.0])],
            &[0.0, 2.0, -1.0, 3.0],
        );
        let wrong = Tensor::vector(vec![1_f32; 3]);
        let found = run("LayerNormalization", 17, &[epsilon], &[Some(&x), Some(&wrong)], 1).unwrap_err();
        assert_eq!(found, "lengths 3 and 2 do not go together: shapes [[3], [2, 2]]");
    }

    #[test]
    fn batch_normalization_of_old_models() {
        let x = Tensor::of([1, 2, 1], vec![1_f32, 2.0]).unwrap();
        let one = Tensor::vector(vec![1_f32; 2]);
        let epsilon = ("epsilon", Attribute::Float(0.0));
        check(
            "BatchNormalization",
            7,
            std::slice::from_ref(&epsilon),
            &[&x, &one, &one, &one, &one],
            &[1.0, 2.0],
        );
        let each = Tensor::of([2, 1], vec![1_f32; 2]).unwrap();
        let spatial = ("spatial", Attribute::Int(0));
        check("BatchNormalization", 7, &[epsilon, spatial], &[&x, &each, &each, &each, &each], &[1.0, 2.0]);
        let all = [Some(&x), Some(&one), Some(&one), Some(&one), Some(&one)];
        assert_eq!(
            run("BatchNormalization", 9, &[], &all, 5).unwrap_err(),
            "training is supported from opset 14 on only"
        );
    }

    #[test]
    fn group_normalization_before_and_since_opset_21() {
        let x = Tensor::of([1, 4, 1], vec![1_f32, 3.0, 1.0, 3.0]).unwrap();
        let groups = [("num_groups", Attribute::Int(2)), ("epsilon", Attribute::Float(0.0))];
        let two = Tensor::vector(vec![1_f32, 2.0]);
        check("GroupNormalization", 18, &groups, &[&x, &two, &two], &[0.0, 2.0, 0.0, 4.0]);
        let four = Tensor::vector(vec![1_f32, 2.0, 3.0, 4.0]);
        check("GroupNormalization", 21, &groups, &[&x, &four, &four], &[0.0, 4.0, 0.0, 8.0]);
    }
}
