//! LSTM, GRU and plain recurrent layers, all steps in one operator.
//!
//! The inputs of many steps are multiplied at once; what remains per step is one product with the recurrent weights and the
//! gates' functions over contiguous slices. Formulas: ONNX operators `LSTM`, `GRU` and `RNN`.

use lockgate_onnx_ml::math;
use lockgate_package::plan::graph::{Activation, Cell, Recurrent};
use tract_core::internal::*;

use super::kernel_op::{Kernel, floats, output};
use super::panels::Panels;

/// Rows that run side by side: enough to use a panel of weights several times while it is in the nearest cache.
const BLOCK: usize = 16;
/// Gate inputs that are computed ahead, in elements.
const AHEAD: usize = 64 * 1024;

/// A recurrent layer with its weights.
#[derive(Debug)]
pub(super) struct RecurrentKernel {
    cell: Cell,
    hidden: usize,
    directions: Vec<DirectionKernel>,
    initial_hidden: bool,
    initial_cell: bool,
}

#[derive(Debug)]
struct DirectionKernel {
    reverse: bool,
    activations: Vec<Activation>,
    input: Panels,
    /// All gates, but for a GRU only update and reset.
    recurrent: Panels,
    /// The hidden gate of a GRU.
    candidate: Panels,
    /// Added to the product with the input, one entry per gate.
    bias: Vec<f32>,
    /// Added to the product with the hidden gate's recurrent weights; of a GRU with `linear_before_reset`.
    candidate_bias: Vec<f32>,
}

/// One layer's state while it walks along the sequence, for a block of rows.
struct State<'s> {
    hidden: &'s mut [f32],
    cell: &'s mut [f32],
    /// Room for one vector per row.
    spare: &'s mut [f32],
}

impl RecurrentKernel {
    /// The layer with weights `[direction, input, gate·hidden]`, `[direction, hidden, gate·hidden]` and bias, as the plan lays them out.
    pub(super) fn new(
        layer: &Recurrent,
        inputs: usize,
        weights: &[f32],
        recurrent: &[f32],
        bias: &[f32],
    ) -> TractResult<Self> {
        let hidden = usize::try_from(layer.hidden)?;
        let gates = usize::try_from(layer.cell.gates())? * hidden;
        let biases = usize::try_from(layer.cell.biases())? * hidden;
        let count = layer.directions.len();
        ensure!(gates > 0 && inputs > 0, "a recurrent layer without inputs or hidden state");
        ensure!(
            weights.len() == count * inputs * gates
                && recurrent.len() == count * hidden * gates
                && bias.len() == count * biases,
            "the weights do not have the layer's shape"
        );
        let before = if matches!(layer.cell, Cell::Gru { .. }) { 2 * hidden } else { gates };
        let parts = weights
            .chunks_exact(inputs * gates)
            .zip(recurrent.chunks_exact(hidden * gates))
            .zip(bias.chunks_exact(biases));
        let directions =
            layer.directions.iter().zip(parts).map(|(direction, ((weights, recurrent), bias))| {
                let (bias, candidate_bias) = bias.split_at_checked(gates).unwrap_or((bias, &[]));
                DirectionKernel {
                    reverse: direction.reverse,
                    activations: direction.activations.clone(),
                    input: Panels::new(weights, gates, 0, gates),
                    recurrent: Panels::new(recurrent, gates, 0, before),
                    candidate: Panels::new(recurrent, gates, before, gates),
                    bias: bias.to_vec(),
                    candidate_bias: candidate_bias.to_vec(),
                }
            });
        Ok(Self {
            cell: layer.cell,
            hidden,
            directions: directions.collect(),
            initial_hidden: layer.initial_hidden,
            initial_cell: layer.initial_cell,
        })
    }
}

impl Kernel for RecurrentKernel {
    fn run(&self, operands: &[TValue]) -> TractResult<TVec<TValue>> {
        let Some(sequence) = operands.first() else { bail!("the sequence is missing") };
        let &[steps, rows, inputs] = sequence.shape() else { bail!("expected a sequence of rank 3") };
        let (count, hidden) = (self.directions.len(), self.hidden);
        let mut next = 1;
        let mut initial = |there: bool| -> TractResult<Vec<f32>> {
            if !there {
                return Ok(vec![0.0; count * rows * hidden]);
            }
            let Some(state) = operands.get(next) else { bail!("an initial state is missing") };
            next += 1;
            ensure!(
                state.shape() == [count, rows, hidden],
                "an initial state has the shape {:?}",
                state.shape()
            );
            Ok(floats(state)?.to_vec())
        };
        let mut last_hidden = initial(self.initial_hidden)?;
        let mut last_cell = initial(self.initial_cell)?;
        let mut spare = vec![0.0; BLOCK.min(rows) * hidden];
        let mut gates = Vec::new();
        let x = floats(sequence)?;
        let mut whole = Tensor::zero::<f32>(&[steps, count, rows, hidden])?;
        {
            let mut view = whole.try_as_plain_ram_mut()?;
            let y = view.as_slice_mut::<f32>()?;
            let states = last_hidden
                .chunks_mut((rows * hidden).max(1))
                .zip(last_cell.chunks_mut((rows * hidden).max(1)));
            for (index, (direction, (h, c))) in self.directions.iter().zip(states).enumerate() {
                let mut first = 0;
                for (h, c) in h.chunks_mut(BLOCK * hidden).zip(c.chunks_mut(BLOCK * hidden)) {
                    let block = h.len() / hidden;
                    let mut state = State {
                        hidden: h,
                        cell: c,
                        spare: spare.get_mut(..block * hidden).unwrap_or_default(),
                    };
                    let place = Place { steps, rows, inputs, first, block, count, index };
                    direction.walk(self.cell, hidden, x, &place, &mut state, &mut gates, y)?;
                    first += block;
                }
            }
        }
        let state = [count, rows, hidden];
        let mut results = tvec!(whole.into_tvalue(), output(&state, &last_hidden)?);
        if self.cell == Cell::Lstm {
            results.push(output(&state, &last_cell)?);
        }
        Ok(results)
    }
}

/// Which part of the tensors one walk covers.
struct Place {
    steps: usize,
    rows: usize,
    inputs: usize,
    /// The block's first row, and how many there are.
    first: usize,
    block: usize,
    /// How many directions there are, and which this is.
    count: usize,
    index: usize,
}

impl DirectionKernel {
    #[expect(clippy::too_many_arguments, reason = "the tensors of one layer, borrowed apart from each other")]
    fn walk(
        &self,
        cell: Cell,
        hidden: usize,
        x: &[f32],
        place: &Place,
        state: &mut State<'_>,
        gates: &mut Vec<f32>,
        y: &mut [f32],
    ) -> TractResult<()> {
        let width = self.bias.len();
        let at_step = |step: usize| if self.reverse { place.steps - 1 - step } else { step };
        let ahead = (AHEAD / (width * place.block).max(1)).max(1);
        let mut step = 0;
        while step < place.steps {
            let chunk = ahead.min(place.steps - step);
            gates.clear();
            for _ in 0..chunk * place.block {
                gates.extend_from_slice(&self.bias);
            }
            let rows = (step..step + chunk).flat_map(|step| {
                let at = (at_step(step) * place.rows + place.first) * place.inputs;
                x.get(at..).unwrap_or_default().chunks_exact(place.inputs).take(place.block)
            });
            self.input.add_products(rows, gates, width);
            for gates in gates.chunks_exact_mut(place.block * width) {
                match cell {
                    Cell::Lstm => self.lstm(hidden, gates, state),
                    Cell::Gru { linear_before_reset } => self.gru(hidden, linear_before_reset, gates, state),
                    Cell::Rnn => self.rnn(hidden, gates, state),
                }
                let at = ((at_step(step) * place.count + place.index) * place.rows + place.first) * hidden;
                let Some(y) = y.get_mut(at..).and_then(|y| y.get_mut(..state.hidden.len())) else {
                    bail!("a step lies outside the result")
                };
                y.copy_from_slice(state.hidden);
                step += 1;
            }
        }
        Ok(())
    }

    fn activation(&self, index: usize) -> Activation {
        self.activations.get(index).copied().unwrap_or(Activation::Tanh)
    }

    fn lstm(&self, hidden: usize, gates: &mut [f32], state: &mut State<'_>) {
        let width = 4 * hidden;
        self.recurrent.add_products(state.hidden.chunks_exact(hidden), gates, width);
        let rows = gates
            .chunks_exact_mut(width)
            .zip(state.hidden.chunks_exact_mut(hidden))
            .zip(state.cell.chunks_exact_mut(hidden));
        for ((gates, h), c) in rows {
            let (iof, g) = gates.split_at_mut(3 * hidden);
            activate(self.activation(0), iof);
            activate(self.activation(1), g);
            let (i, of) = iof.split_at(hidden);
            let (o, f) = of.split_at(hidden);
            for (((c, &f), &i), &g) in c.iter_mut().zip(f).zip(i).zip(&*g) {
                *c = f * *c + i * g;
            }
            h.copy_from_slice(c);
            activate(self.activation(2), h);
            for (h, &o) in h.iter_mut().zip(o) {
                *h *= o;
            }
        }
    }

    fn gru(&self, hidden: usize, linear_before_reset: bool, gates: &mut [f32], state: &mut State<'_>) {
        let width = 3 * hidden;
        self.recurrent.add_products(state.hidden.chunks_exact(hidden), gates, width);
        for gates in gates.chunks_exact_mut(width) {
            activate(self.activation(0), gates.get_mut(..2 * hidden).unwrap_or_default());
        }
        if linear_before_reset {
            for spare in state.spare.chunks_exact_mut(hidden) {
                spare.copy_from_slice(&self.candidate_bias);
            }
            self.candidate.add_products(state.hidden.chunks_exact(hidden), state.spare, hidden);
        } else {
            let rows = state
                .spare
                .chunks_exact_mut(hidden)
                .zip(gates.chunks_exact_mut(width))
                .zip(state.hidden.chunks_exact(hidden));
            for ((spare, gates), h) in rows {
                let (before, candidate) = gates.split_at_mut(2 * hidden);
                for ((spare, &r), &h) in spare.iter_mut().zip(before.iter().skip(hidden)).zip(h) {
                    *spare = r * h;
                }
                self.candidate.add_products(std::iter::once(&*spare), candidate, hidden);
            }
        }
        let rows = gates
            .chunks_exact_mut(width)
            .zip(state.spare.chunks_exact(hidden))
            .zip(state.hidden.chunks_exact_mut(hidden));
        for ((gates, spare), h) in rows {
            let (z, rest) = gates.split_at_mut(hidden);
            let (r, candidate) = rest.split_at_mut(hidden);
            if linear_before_reset {
                for ((candidate, &r), &product) in candidate.iter_mut().zip(&*r).zip(spare) {
                    *candidate += r * product;
                }
            }
            activate(self.activation(1), candidate);
            for ((h, &z), &candidate) in h.iter_mut().zip(&*z).zip(&*candidate) {
                *h = (1.0 - z) * candidate + z * *h;
            }
        }
    }

    fn rnn(&self, hidden: usize, gates: &mut [f32], state: &mut State<'_>) {
        self.recurrent.add_products(state.hidden.chunks_exact(hidden), gates, hidden);
        activate(self.activation(0), gates);
        state.hidden.copy_from_slice(gates);
    }
}

fn activate(activation: Activation, values: &mut [f32]) {
    match activation {
        Activation::Sigmoid => math::sigmoid_in_place(values),
        Activation::Tanh => math::tanh_in_place(values),
        Activation::Relu => values.iter_mut().for_each(|v| *v = if *v < 0.0 { 0.0 } else { *v }),
        Activation::HardSigmoid { alpha, beta } => {
            values.iter_mut().for_each(|value| *value = (alpha * *value + beta).clamp(0.0, 1.0));
        }
    }
}
