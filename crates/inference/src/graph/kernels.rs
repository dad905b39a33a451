//! Kernels of the operators that are no recurrent layers: constant matrices, functions of one number, softmax, reductions, lookups.

use lockgate_onnx_ml::math;
use lockgate_package::plan::graph::{Reduction, Unary};
use tract_core::internal::*;

use super::kernel_op::{Kernel, floats, in_place, output};
use super::panels::Panels;

/// Rows times constant weights, plus a bias.
#[derive(Debug)]
pub(super) struct DenseKernel {
    inputs: usize,
    weights: Panels,
    bias: Vec<f32>,
}

impl DenseKernel {
    /// Weights `[inputs, outputs]`, row-major, and a bias or nothing.
    pub(super) fn new(
        inputs: usize,
        outputs: usize,
        weights: &[f32],
        bias: Option<&[f32]>,
    ) -> TractResult<Self> {
        ensure!(
            Some(weights.len()) == inputs.checked_mul(outputs),
            "the weights do not have the layer's shape"
        );
        ensure!(bias.is_none_or(|bias| bias.len() == outputs), "the bias does not have the layer's shape");
        let bias = bias.map_or_else(|| vec![0.0; outputs], <[f32]>::to_vec);
        Ok(Self { inputs, weights: Panels::new(weights, outputs, 0, outputs), bias })
    }
}

impl Kernel for DenseKernel {
    fn run(&self, operands: &[TValue]) -> TractResult<TVec<TValue>> {
        let Some(x) = operands.first() else { bail!("the operand is missing") };
        let mut shape: TVec<usize> = x.shape().into();
        let Some(last) = shape.last_mut() else { bail!("expected rows, found a single value") };
        ensure!(*last == self.inputs, "rows of {last} do not fit {} inputs", self.inputs);
        *last = self.weights.outputs();
        let rows = shape.iter().rev().skip(1).product();
        let mut sums = Vec::with_capacity(rows * self.bias.len());
        for _ in 0..rows {
            sums.extend_from_slice(&self.bias);
        }
        if self.inputs > 0 && !self.bias.is_empty() {
            self.weights.add_products(floats(x)?.chunks_exact(self.inputs), &mut sums, self.bias.len());
        }
        Ok(tvec!(output(&shape, &sums)?))
    }
}

/// A function of one number.
#[derive(Debug)]
pub(super) struct UnaryKernel(pub(super) Unary);

impl Kernel for UnaryKernel {
    fn run(&self, operands: &[TValue]) -> TractResult<TVec<TValue>> {
        in_place(operands, |values, _| {
            map(self.0, values);
            Ok(())
        })
    }
}

/// Applies the function to every value. NaN stays NaN.
fn map(function: Unary, values: &mut [f32]) {
    let mut each = |f: &dyn Fn(f32) -> f32| values.iter_mut().for_each(|value| *value = f(*value));
    match function {
        Unary::Exp => math::exp_in_place(values),
        Unary::Tanh => math::tanh_in_place(values),
        Unary::Sigmoid => math::sigmoid_in_place(values),
        Unary::Abs => each(&f32::abs),
        Unary::Neg => each(&|x| -x),
        Unary::Reciprocal => each(&|x| 1.0 / x),
        Unary::Sqrt => each(&f32::sqrt),
        Unary::Floor => each(&f32::floor),
        Unary::Ceil => each(&f32::ceil),
        Unary::Log => each(&libm::logf),
        Unary::Erf => each(&libm::erff),
        Unary::HardSigmoid { alpha, beta } => each(&|x| clip(alpha * x + beta, 0.0, 1.0)),
        Unary::Relu => each(&|x| if x < 0.0 { 0.0 } else { x }),
        Unary::LeakyRelu { alpha } => each(&|x| if x < 0.0 { alpha * x } else { x }),
        Unary::Elu { alpha } => each(&|x| if x < 0.0 { alpha * libm::expm1f(x) } else { x }),
        Unary::Selu { alpha, gamma } => {
            each(&|x| if x > 0.0 { gamma * x } else { gamma * (alpha * libm::expf(x) - alpha) });
        }
        Unary::Softplus => each(&softplus),
        Unary::Softsign => each(&|x| x / (1.0 + x.abs())),
        Unary::HardSwish => each(&|x| x * clip(x / 6.0 + 0.5, 0.0, 1.0)),
        Unary::Mish => each(&|x| x * libm::tanhf(softplus(x))),
        Unary::Gelu { tanh: false } => {
            each(&|x| 0.5 * x * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2)));
        }
        Unary::Gelu { tanh: true } => {
            // sqrt(2/π), as in the ONNX operator's definition.
            const FACTOR: f32 = 0.797_884_6;
            each(&|x| 0.5 * x * (1.0 + libm::tanhf(FACTOR * (x + 0.044_715 * x * x * x))));
        }
        Unary::Clip { min, max } => each(&|x| clip(x, min, max)),
    }
}

/// `f32::clamp` without its panic; where the limits cross, the upper one wins, as ONNX says.
fn clip(x: f32, min: f32, max: f32) -> f32 {
    let x = if x < min { min } else { x };
    if x > max { max } else { x }
}

/// `ln(1 + exp(x))` without overflow.
fn softplus(x: f32) -> f32 {
    let tail = libm::log1pf(libm::expf(-x.abs()));
    if x > 0.0 { x + tail } else { tail }
}

/// `a` to the power of `b`; both of one shape.
#[derive(Debug)]
pub(super) struct PowKernel;

impl Kernel for PowKernel {
    fn run(&self, operands: &[TValue]) -> TractResult<TVec<TValue>> {
        let Some(exponents) = operands.get(1) else { bail!("the exponents are missing") };
        let exponents = floats(exponents)?;
        in_place(operands, |values, _| {
            ensure!(values.len() == exponents.len(), "bases and exponents differ in number");
            for (value, &exponent) in values.iter_mut().zip(exponents) {
                *value = if exponent == 2.0 { *value * *value } else { libm::powf(*value, exponent) };
            }
            Ok(())
        })
    }
}

/// Softmax or its logarithm along an axis.
#[derive(Debug)]
pub(super) struct SoftmaxKernel {
    /// The axis.
    pub(super) axis: usize,
    /// Whether the logarithm is wanted.
    pub(super) log: bool,
}

impl Kernel for SoftmaxKernel {
    fn run(&self, operands: &[TValue]) -> TractResult<TVec<TValue>> {
        in_place(operands, |values, shape| {
            let (len, inner) = lanes(shape, self.axis)?;
            if values.is_empty() {
                return Ok(());
            }
            let mut lane = vec![0.0; len];
            for block in values.chunks_exact_mut(len * inner) {
                for offset in 0..inner {
                    for (to, from) in lane.iter_mut().zip(block.iter().skip(offset).step_by(inner)) {
                        *to = *from;
                    }
                    softmax(&mut lane, self.log);
                    for (to, from) in block.iter_mut().skip(offset).step_by(inner).zip(&lane) {
                        *to = *from;
                    }
                }
            }
            Ok(())
        })
    }
}

fn softmax(lane: &mut [f32], log: bool) {
    let most = lane.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    lane.iter_mut().for_each(|value| *value -= most);
    if log {
        let mut exps = lane.to_vec();
        math::exp_in_place(&mut exps);
        let total = libm::logf(exps.iter().sum());
        lane.iter_mut().for_each(|value| *value -= total);
    } else {
        math::exp_in_place(lane);
        let total: f32 = lane.iter().sum();
        lane.iter_mut().for_each(|value| *value /= total);
    }
}

/// The length of an axis and how many elements lie between its neighbours.
fn lanes(shape: &[usize], axis: usize) -> TractResult<(usize, usize)> {
    let Some(&len) = shape.get(axis) else { bail!("axis {axis} is not one of {shape:?}") };
    Ok((len, shape.iter().skip(axis + 1).product()))
}

/// One value in place of all along some axes.
#[derive(Debug)]
pub(super) struct ReduceKernel {
    /// What is computed.
    pub(super) kind: Reduction,
    /// The axes, ascending.
    pub(super) axes: Vec<usize>,
    /// Whether the axes stay with length 1.
    pub(super) keep: bool,
}

impl Kernel for ReduceKernel {
    fn run(&self, operands: &[TValue]) -> TractResult<TVec<TValue>> {
        let Some(x) = operands.first() else { bail!("the operand is missing") };
        let shape = x.shape();
        let reduced = |axis: usize| self.axes.contains(&axis);
        // How far the result moves when an axis of the operand moves by one: not at all along the reduced ones.
        let mut steps = vec![0; shape.len()];
        let mut total = 1;
        for (axis, (step, &len)) in steps.iter_mut().zip(shape).enumerate().rev() {
            if !reduced(axis) {
                *step = total;
                total *= len;
            }
        }
        let start = match self.kind {
            Reduction::Max => f32::NEG_INFINITY,
            Reduction::Min => f32::INFINITY,
            Reduction::Prod => 1.0,
            _ => 0.0,
        };
        let mut results = vec![start; total];
        let mut index = vec![0_usize; shape.len()];
        let mut at = 0_usize;
        for &value in floats(x)? {
            if let Some(result) = results.get_mut(at) {
                *result = match self.kind {
                    Reduction::Sum | Reduction::Mean => *result + value,
                    Reduction::L1 => *result + value.abs(),
                    Reduction::SumSquare | Reduction::L2 => *result + value * value,
                    Reduction::Prod => *result * value,
                    Reduction::Max => {
                        if value > *result || value.is_nan() {
                            value
                        } else {
                            *result
                        }
                    }
                    Reduction::Min => {
                        if value < *result || value.is_nan() {
                            value
                        } else {
                            *result
                        }
                    }
                };
            }
            for ((index, &len), &step) in index.iter_mut().zip(shape).zip(&steps).rev() {
                *index += 1;
                at += step;
                if *index < len {
                    break;
                }
                at -= step * len;
                *index = 0;
            }
        }
        let count: usize =
            shape.iter().enumerate().filter(|(axis, _)| reduced(*axis)).map(|(_, len)| len).product();
        match self.kind {
            Reduction::Mean => results.iter_mut().for_each(|result| *result /= count as f32),
            Reduction::L2 => results.iter_mut().for_each(|result| *result = result.sqrt()),
            _ => {}
        }
        Ok(tvec!(output(&self.shape_of(shape), &results)?))
    }
}

impl ReduceKernel {
    fn shape_of(&self, shape: &[usize]) -> TVec<usize> {
        let axes = shape.iter().enumerate();
        axes.filter(|(axis, _)| self.keep || !self.axes.contains(axis))
            .map(|(axis, &len)| if self.axes.contains(&axis) { 1 } else { len })
            .collect()
    }
}

/// The index of an extreme value along an axis.
#[derive(Debug)]
pub(super) struct ArgKernel {
    /// The axis.
    pub(super) axis: usize,
    /// Whether the axis stays with length 1.
    pub(super) keep: bool,
    /// The largest value, else the smallest.
    pub(super) largest: bool,
    /// Among equals the last, else the first.
    pub(super) last: bool,
}

impl Kernel for ArgKernel {
    fn run(&self, operands: &[TValue]) -> TractResult<TVec<TValue>> {
        let Some(x) = operands.first() else { bail!("the operand is missing") };
        let (len, inner) = lanes(x.shape(), self.axis)?;
        let mut results = Vec::new();
        let values = floats(x)?;
        if !values.is_empty() {
            for block in values.chunks_exact(len * inner) {
                for offset in 0..inner {
                    results.push(self.place(block.iter().skip(offset).step_by(inner)));
                }
            }
        }
        let mut shape: TVec<usize> = x.shape().into();
        if self.keep {
            if let Some(len) = shape.get_mut(self.axis) {
                *len = 1;
            }
        } else {
            shape.remove(self.axis);
        }
        Ok(tvec!(Tensor::from_shape(&shape, &results)?.into_tvalue()))
    }
}

impl ArgKernel {
    fn place<'v>(&self, lane: impl Iterator<Item = &'v f32>) -> i64 {
        let mut best: Option<(i64, f32)> = None;
        for (index, &value) in (0_i64..).zip(lane) {
            let better = best.is_none_or(|(_, best)| {
                let ahead = if self.largest { value > best } else { value < best };
                ahead || self.last && value == best
            });
            if better {
                best = Some((index, value));
            }
        }
        best.map_or(0, |(index, _)| index)
    }
}

/// Entries picked by index.
#[derive(Debug)]
pub(super) struct GatherKernel {
    /// The axis.
    pub(super) axis: usize,
}

impl Kernel for GatherKernel {
    fn run(&self, operands: &[TValue]) -> TractResult<TVec<TValue>> {
        let [x, indices, ..] = operands else { bail!("an operand is missing") };
        let (len, inner) = lanes(x.shape(), self.axis)?;
        let size = x.datum_type().size_of();
        let bytes = x.as_bytes();
        let view = indices.try_as_plain_ram()?;
        let indices_shape = indices.shape();
        let indices = view.as_slice::<i64>()?;
        let mut offsets = Vec::with_capacity(indices.len());
        for &index in indices {
            let from_start = if index < 0 { index.checked_add(i64::try_from(len)?) } else { Some(index) };
            let place = from_start.and_then(|index| usize::try_from(index).ok()).filter(|&index| index < len);
            let Some(place) = place else { bail!("index {index} is outside an axis of {len}") };
            offsets.push(place * inner * size);
        }
        let mut picked = Vec::with_capacity(offsets.len() * inner * size);
        let block = len * inner * size;
        if block > 0 {
            for block in bytes.chunks_exact(block) {
                for &offset in &offsets {
                    picked.extend_from_slice(
                        block.get(offset..).and_then(|b| b.get(..inner * size)).unwrap_or_default(),
                    );
                }
            }
        }
        let before = x.shape().get(..self.axis).unwrap_or_default();
        let behind = x.shape().get(self.axis + 1..).unwrap_or_default();
        let mut result = Tensor::zero_dt(x.datum_type(), &[before, indices_shape, behind].concat())?;
        let target = result.as_bytes_mut();
        ensure!(target.len() == picked.len(), "the picked entries do not fill the result");
        target.copy_from_slice(&picked);
        Ok(tvec!(result.into_tvalue()))
    }
}
