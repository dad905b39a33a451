//! Recurrent layers, all steps in one operator.
//!
//! The inputs of many steps are multiplied at once; what remains per step is one product with the recurrent weights and the gates'
//! functions over contiguous slices. A gate's sum starts with its bias; then come the products with the input, then those with the
//! state. Formulas: ONNX operators `LSTM`, `GRU` and `RNN`. `clip` bounds what the gates have summed up, but not the cell state
//! that the last activation of an LSTM reads, as in onnxruntime.

use std::borrow::Cow;

use lockgate_onnx_ml::math::Float;

use super::product::number::{Number, Width, float, width};
use super::product::operations;
use super::product::panels::{Matrix, Panels};
use crate::operator::{ai, optional, required};
use crate::shape::Sources;
use crate::{Attributes, Build, Kernel, Meter, Operator, Problem, Tensor};

pub(super) const TABLE: &[Operator] = &[
    ai(
        "GRU",
        7,
        &[
            "activation_alpha",
            "activation_beta",
            "activations",
            "clip",
            "direction",
            "hidden_size",
            "layout",
            "linear_before_reset",
        ],
        |build| recurrent(build, Cell::Gru),
    ),
    ai(
        "LSTM",
        7,
        &[
            "activation_alpha",
            "activation_beta",
            "activations",
            "clip",
            "direction",
            "hidden_size",
            "input_forget",
            "layout",
        ],
        |build| recurrent(build, Cell::Lstm),
    ),
    ai(
        "RNN",
        7,
        &["activation_alpha", "activation_beta", "activations", "clip", "direction", "hidden_size", "layout"],
        |build| recurrent(build, Cell::Rnn),
    ),
];

/// Rows that run side by side: enough to use a panel of weights several times while it is in the nearest cache.
const BLOCK: usize = 16;
/// Gate inputs that are computed ahead, in elements.
const AHEAD: usize = 64 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell {
    Gru,
    Lstm,
    Rnn,
}

/// A layer without its weights.
#[derive(Debug)]
struct Layer {
    cell: Cell,
    hidden: Option<usize>,
    directions: Vec<Direction>,
    clip: Option<f32>,
    /// Of an LSTM: the forget gate is what the input gate leaves.
    input_forget: bool,
    /// Of a GRU: the reset gate is applied to the product with the state, not to the state.
    linear_before_reset: bool,
    /// Whether rows come before steps.
    batch_first: bool,
}

#[derive(Debug)]
struct Direction {
    reverse: bool,
    activations: Vec<Activation>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Activation {
    Affine(f32, f32),
    Elu(f32),
    HardSigmoid(f32, f32),
    LeakyRelu(f32),
    Relu,
    ScaledTanh(f32, f32),
    Sigmoid,
    Softplus,
    Softsign,
    Tanh,
    ThresholdedRelu(f32),
}

/// One direction's weights.
#[derive(Debug)]
struct Weights<T> {
    input: Panels<T>,
    /// All gates, but for a GRU only update and reset.
    recurrent: Panels<T>,
    /// The hidden gate of a GRU.
    candidate: Panels<T>,
}

/// Types that layers compute in.
trait Real: Float + Number {
    /// Weights in single precision, if these are such.
    fn weights(_: &[Weights<f32>]) -> Option<&[Weights<Self>]> {
        None
    }
}

impl Real for f64 {}

impl Real for f32 {
    fn weights(weights: &[Weights<f32>]) -> Option<&[Weights<Self>]> {
        Some(weights)
    }
}

impl Cell {
    fn gates(self) -> usize {
        match self {
            Self::Gru => 3,
            Self::Lstm => 4,
            Self::Rnn => 1,
        }
    }

    fn activations(self) -> &'static [Activation] {
        match self {
            Self::Gru => &[Activation::Sigmoid, Activation::Tanh],
            Self::Lstm => &[Activation::Sigmoid, Activation::Tanh, Activation::Tanh],
            Self::Rnn => &[Activation::Tanh],
        }
    }
}

fn recurrent(build: &Build<'_>, cell: Cell) -> Result<Kernel, Problem> {
    let layer = Layer::new(&build.attributes, cell)?;
    let prepared = match (build.constant(1), build.constant(2)) {
        (Some(w), Some(r)) if width(w.kind()) == Width::Single => {
            let size = layer.size(w, r)?;
            Some(layer.weights::<f32>(w, r, size)?)
        }
        _ => None,
    };
    Ok(Box::new(move |operands, meter| {
        let kind = required(operands, 0)?.kind();
        float!(kind, T => layer.run::<T>(operands, prepared.as_deref().and_then(T::weights), meter))
    }))
}

impl Layer {
    fn new(attributes: &Attributes<'_>, cell: Cell) -> Result<Self, Problem> {
        let direction = attributes.text_or("direction", "forward")?;
        let reverse: &[bool] = match direction {
            "forward" => &[false],
            "reverse" => &[true],
            "bidirectional" => &[false, true],
            _ => {
                let message = format!("`{direction}` is no direction");
                return Err(Problem::attribute(
                    "direction",
                    message,
                    "use forward, reverse or bidirectional",
                ));
            }
        };
        let activations = activations(attributes, cell, reverse.len())?;
        let directions = reverse.iter().zip(activations.chunks(cell.activations().len()));
        let hidden = attributes.int("hidden_size")?.map(|size| usize::try_from(size).unwrap_or(0));
        let clip = attributes.float("clip")?;
        if clip.is_some_and(|clip| clip.is_nan() || clip < 0.0) {
            return Err(Problem::attribute("clip", "it must not be negative", "use a bound of 0 or more"));
        }
        Ok(Self {
            cell,
            hidden,
            directions: directions
                .map(|(&reverse, activations)| Direction { reverse, activations: activations.to_vec() })
                .collect(),
            clip,
            input_forget: cell == Cell::Lstm && attributes.flag("input_forget", false)?,
            linear_before_reset: cell == Cell::Gru && attributes.flag("linear_before_reset", false)?,
            batch_first: attributes.flag("layout", false)?,
        })
    }

    /// The lengths of input and hidden state.
    fn size(&self, w: &Tensor, r: &Tensor) -> Result<(usize, usize), Problem> {
        let count = self.directions.len();
        match (w.shape(), r.shape()) {
            (&[w_count, w_gates, inputs], &[r_count, r_gates, hidden])
                if w_count == count
                    && r_count == count
                    && Some(w_gates) == hidden.checked_mul(self.cell.gates())
                    && r_gates == w_gates
                    && hidden > 0
                    && self.hidden.is_none_or(|wanted| wanted == hidden) =>
            {
                Ok((inputs, hidden))
            }
            (w, r) => Err(Problem::invalid(format!(
                "weights of the shapes {w:?} and {r:?} do not fit {count} directions of {} gates with {} states",
                self.cell.gates(),
                self.hidden.map_or("as many".to_owned(), |hidden| hidden.to_string())
            ))),
        }
    }

    /// The gates of which the product with the state comes first.
    fn first_gates(&self) -> usize {
        if self.cell == Cell::Gru { 2 } else { self.cell.gates() }
    }

    fn weights<T: Number>(
        &self,
        w: &Tensor,
        r: &Tensor,
        (inputs, hidden): (usize, usize),
    ) -> Result<Vec<Weights<T>>, Problem> {
        let gates = self.cell.gates() * hidden;
        let before = self.first_gates() * hidden;
        let (w, r) = (T::read(w)?, T::read(r)?);
        let part =
            |all: &Cow<'_, [T]>, index: usize, size: usize| index * size..all.len().min((index + 1) * size);
        Ok((0..self.directions.len())
            .map(|index| {
                let w = w.get(part(&w, index, gates * inputs)).unwrap_or_default();
                let r = r.get(part(&r, index, gates * hidden)).unwrap_or_default();
                let recurrent = Matrix::by_columns(r, hidden, gates);
                Weights {
                    input: Panels::new(Matrix::by_columns(w, inputs, gates)),
                    recurrent: Panels::new(recurrent.part(0, before)),
                    candidate: Panels::new(recurrent.part(before, gates)),
                }
            })
            .collect())
    }

    fn run<T: Real>(
        &self,
        operands: &[Option<&Tensor>],
        prepared: Option<&[Weights<T>]>,
        meter: &mut Meter,
    ) -> Result<Vec<Tensor>, Problem> {
        let (x, w, r) = (required(operands, 0)?, required(operands, 1)?, required(operands, 2)?);
        let (inputs, hidden) = self.size(w, r)?;
        let (count, gates) = (self.directions.len(), self.cell.gates() * hidden);
        let (steps, rows) = match *x.shape() {
            [steps, rows, last] if last == inputs && !self.batch_first => (steps, rows),
            [rows, steps, last] if last == inputs => (steps, rows),
            _ => {
                return Err(Problem::invalid(format!(
                    "a sequence of the shape {:?} does not fit {inputs} inputs",
                    x.shape()
                )));
            }
        };
        let whole =
            if self.batch_first { [rows, steps, count, hidden] } else { [steps, count, rows, hidden] };
        let length = meter.room(&whole, size_of::<T>())?;
        meter.room(&[4, count, rows, hidden], size_of::<T>())?;
        meter.work(operations(&[count, steps, rows, gates, inputs.saturating_add(hidden)]))?;
        let built;
        let weights = if let Some(weights) = prepared {
            weights
        } else {
            meter.room(&[3, count, gates, inputs.saturating_add(hidden)], size_of::<T>())?;
            built = self.weights::<T>(w, r, (inputs, hidden))?;
            &built
        };
        let biases = self.vector::<T>("B", optional(operands, 3), 2 * gates)?;
        let lens = lengths(optional(operands, 4), steps, rows)?;
        let mut last_hidden = self.initial::<T>("initial_h", optional(operands, 5), rows, hidden)?;
        let (cell, peepholes) = if self.cell == Cell::Lstm { (6, 7) } else { (usize::MAX, usize::MAX) };
        let mut last_cell = self.initial::<T>("initial_c", optional(operands, cell), rows, hidden)?;
        let has_peepholes = optional(operands, peepholes).is_some();
        let peepholes = self.vector::<T>("P", optional(operands, peepholes), 3 * hidden)?;
        let x_elements = T::read(x)?;
        let mut y = vec![T::default(); length];
        let states =
            last_hidden.chunks_mut((rows * hidden).max(1)).zip(last_cell.chunks_mut((rows * hidden).max(1)));
        let parts = self.directions.iter().zip(weights).zip(biases.chunks(2 * gates));
        let parts = parts.zip(peepholes.chunks(3 * hidden));
        for (index, ((((direction, weights), biases), peepholes), (h, c))) in parts.zip(states).enumerate() {
            let (bias, candidate_bias) = self.biases(biases, hidden);
            let mut walk = Walk {
                layer: self,
                direction,
                weights,
                bias,
                candidate_bias,
                peepholes: has_peepholes.then_some(peepholes),
                hidden,
                inputs,
                x: &x_elements,
                steps,
                rows,
                count,
                index,
                lens: lens.as_deref(),
                gates: Vec::new(),
                spare: vec![T::default(); BLOCK.min(rows) * hidden],
            };
            let blocks = h.chunks_mut(BLOCK * hidden).zip(c.chunks_mut(BLOCK * hidden));
            for (block, (h, c)) in blocks.enumerate() {
                walk.block(block * BLOCK, h, c, &mut y);
            }
        }
        let kind = x.kind();
        let mut results = vec![Tensor::new(whole, T::data(y, kind))?];
        let state = if self.batch_first { [rows, count, hidden] } else { [count, rows, hidden] };
        let mut push = |last: Vec<T>| -> Result<(), Problem> {
            let last = if self.batch_first { swapped(&last, count, rows, hidden) } else { last };
            results.push(Tensor::new(state, T::data(last, kind))?);
            Ok(())
        };
        push(last_hidden)?;
        if self.cell == Cell::Lstm {
            push(last_cell)?;
        }
        Ok(results)
    }

    /// One vector per direction, zeros where it is omitted.
    fn vector<'t, T: Number>(
        &self,
        name: &str,
        tensor: Option<&'t Tensor>,
        len: usize,
    ) -> Result<Cow<'t, [T]>, Problem> {
        let shape = [self.directions.len(), len];
        match tensor {
            None => Ok(vec![T::default(); shape.iter().product()].into()),
            Some(tensor) if tensor.shape() == shape => T::read(tensor),
            Some(tensor) => Err(Problem::invalid(format!(
                "{name} has the shape {:?}, expected {shape:?}",
                tensor.shape()
            ))),
        }
    }

    /// What is added to the product with the input, and of a GRU with `linear_before_reset` to that with the state.
    fn biases<T: Number>(&self, biases: &[T], hidden: usize) -> (Vec<T>, Vec<T>) {
        let (input, state) = biases.split_at(biases.len() / 2);
        let mut sums: Vec<T> = input.iter().zip(state).map(|(&input, &state)| input.plus(state)).collect();
        let from = self.first_gates() * hidden;
        if self.linear_before_reset {
            for (sum, &input) in sums.iter_mut().zip(input).skip(from) {
                *sum = input;
            }
        }
        (sums, state.get(from..).unwrap_or_default().to_vec())
    }

    /// States `[direction, row, hidden]`.
    fn initial<T: Number>(
        &self,
        name: &str,
        tensor: Option<&Tensor>,
        rows: usize,
        hidden: usize,
    ) -> Result<Vec<T>, Problem> {
        let count = self.directions.len();
        let shape = if self.batch_first { [rows, count, hidden] } else { [count, rows, hidden] };
        match tensor {
            None => Ok(vec![T::default(); count * rows * hidden]),
            Some(tensor) if tensor.shape() == shape => {
                let all = T::read(tensor)?;
                Ok(if self.batch_first { swapped(&all, rows, count, hidden) } else { all.into_owned() })
            }
            Some(tensor) => Err(Problem::invalid(format!(
                "{name} has the shape {:?}, expected {shape:?}",
                tensor.shape()
            ))),
        }
    }
}

/// `[outer, inner, hidden]` as `[inner, outer, hidden]`.
fn swapped<T: Number>(all: &[T], outer: usize, inner: usize, hidden: usize) -> Vec<T> {
    Sources::new(vec![hidden, inner * hidden, 1], vec![inner, outer, hidden], 0)
        .map(|place| all.get(place).copied().unwrap_or_default())
        .collect()
}

/// How many steps of each row count; `None` where all do.
fn lengths(tensor: Option<&Tensor>, steps: usize, rows: usize) -> Result<Option<Vec<usize>>, Problem> {
    let Some(tensor) = tensor else { return Ok(None) };
    let lens = tensor.integers()?;
    if lens.len() != rows {
        return Err(Problem::invalid(format!("sequence_lens has {} lengths for {rows} rows", lens.len())));
    }
    let lens = lens.iter().map(|&len| {
        usize::try_from(len).ok().filter(|&len| len <= steps).ok_or_else(|| {
            Problem::invalid(format!("sequence_lens holds {len}, the sequences have {steps} steps"))
        })
    });
    let lens = lens.collect::<Result<Vec<_>, _>>()?;
    Ok(if lens.iter().all(|&len| len == steps) { None } else { Some(lens) })
}

/// The activations of all directions. `activation_alpha` and `activation_beta` go to those that have such a parameter, in order.
fn activations(
    attributes: &Attributes<'_>,
    cell: Cell,
    directions: usize,
) -> Result<Vec<Activation>, Problem> {
    let alphas = attributes.floats("activation_alpha")?.unwrap_or_default();
    let betas = attributes.floats("activation_beta")?.unwrap_or_default();
    let (mut alphas, mut betas) = (alphas.iter().copied(), betas.iter().copied());
    let wanted = cell.activations().len() * directions;
    let all = match attributes.texts("activations")? {
        None => (0..directions).flat_map(|_| cell.activations().iter().copied()).collect(),
        Some(names) => {
            // The default of RNN names two, which exporters write down for one direction as well.
            let enough = names.len() == wanted || cell == Cell::Rnn && names.len() == 2;
            if !enough {
                let message = format!("{} names are given, expected {wanted}", names.len());
                return Err(Problem::attribute(
                    "activations",
                    message,
                    "name one function per gate and direction",
                ));
            }
            let mut all = Vec::with_capacity(wanted);
            for name in names.iter().take(wanted) {
                let mut alpha = |default: f32| alphas.next().unwrap_or(default);
                let mut beta = |default: f32| betas.next().unwrap_or(default);
                all.push(match name.to_ascii_lowercase().as_str() {
                    "affine" => Activation::Affine(alpha(1.0), beta(0.0)),
                    "elu" => Activation::Elu(alpha(1.0)),
                    "hardsigmoid" => Activation::HardSigmoid(alpha(0.2), beta(0.5)),
                    "leakyrelu" => Activation::LeakyRelu(alpha(0.01)),
                    "relu" => Activation::Relu,
                    "scaledtanh" => Activation::ScaledTanh(alpha(1.0), beta(1.0)),
                    "sigmoid" => Activation::Sigmoid,
                    "softplus" => Activation::Softplus,
                    "softsign" => Activation::Softsign,
                    "tanh" => Activation::Tanh,
                    "thresholdedrelu" => Activation::ThresholdedRelu(alpha(1.0)),
                    _ => {
                        let hint = "use one that the ONNX operator names";
                        return Err(Problem::attribute("activations", format!("`{name}` is unknown"), hint));
                    }
                });
            }
            all
        }
    };
    for (name, left) in [("activation_alpha", alphas.len()), ("activation_beta", betas.len())] {
        if left > 0 {
            let message = format!("{left} of its values belong to no activation");
            return Err(Problem::attribute(
                name,
                message,
                "give one value per activation that has this parameter",
            ));
        }
    }
    Ok(all)
}

/// One direction, as it walks along the sequence for a block of rows.
struct Walk<'w, T> {
    layer: &'w Layer,
    direction: &'w Direction,
    weights: &'w Weights<T>,
    bias: Vec<T>,
    candidate_bias: Vec<T>,
    /// Of the gates input, output and forget.
    peepholes: Option<&'w [T]>,
    hidden: usize,
    inputs: usize,
    x: &'w [T],
    steps: usize,
    rows: usize,
    /// How many directions there are, and which this is.
    count: usize,
    index: usize,
    lens: Option<&'w [usize]>,
    gates: Vec<T>,
    /// Room for one vector per row.
    spare: Vec<T>,
}

impl<T: Real> Walk<'_, T> {
    fn len(&self, row: usize) -> usize {
        self.lens.and_then(|lens| lens.get(row)).copied().unwrap_or(self.steps)
    }

    /// Which step of the sequence a row reads in a step of the walk, if it has that many.
    fn time(&self, row: usize, step: usize) -> Option<usize> {
        let len = self.len(row);
        let left = len.checked_sub(step + 1)?;
        Some(if self.direction.reverse { left } else { step })
    }

    /// What a row reads in a step: nothing behind its end.
    fn input(&self, row: usize, step: usize) -> &[T] {
        let Some(time) = self.time(row, step) else { return &[] };
        let place = if self.layer.batch_first { row * self.steps + time } else { time * self.rows + row };
        self.x.get(place * self.inputs..).and_then(|x| x.get(..self.inputs)).unwrap_or_default()
    }

    /// Walks with the rows from `first` on, of which `h` and `c` are the states.
    fn block(&mut self, first: usize, h: &mut [T], c: &mut [T], y: &mut [T]) {
        let (hidden, width) = (self.hidden, self.bias.len());
        let rows = h.len() / hidden;
        let lens = (first..first + rows).map(|row| self.len(row));
        let (shortest, longest) = (lens.clone().min().unwrap_or(0), lens.max().unwrap_or(0));
        let ahead = (AHEAD / (width * rows).max(1)).max(1);
        let mut gates = std::mem::take(&mut self.gates);
        let mut spare = std::mem::take(&mut self.spare);
        let spare_of_block = spare.get_mut(..rows * hidden).unwrap_or_default();
        let mut step = 0;
        while step < longest {
            let chunk = ahead.min(longest - step);
            gates.clear();
            for _ in 0..chunk * rows {
                gates.extend_from_slice(&self.bias);
            }
            let inputs =
                (step..step + chunk).flat_map(|step| (first..first + rows).map(move |row| (row, step)));
            let inputs = inputs.map(|(row, step)| self.input(row, step));
            self.weights.input.add_products(inputs, &mut gates, width);
            for gates in gates.chunks_exact_mut(rows * width) {
                // Rows behind their end run along, then get their state back.
                let before = (step >= shortest).then(|| (h.to_vec(), c.to_vec()));
                match self.layer.cell {
                    Cell::Lstm => self.lstm(gates, h, c),
                    Cell::Gru => self.gru(gates, h, spare_of_block),
                    Cell::Rnn => self.rnn(gates, h),
                }
                let states = h.chunks_exact_mut(hidden).zip(c.chunks_exact_mut(hidden));
                for (at, (h, c)) in states.enumerate() {
                    let row = first + at;
                    if let Some(time) = self.time(row, step) {
                        let place = if self.layer.batch_first {
                            (row * self.steps + time) * self.count + self.index
                        } else {
                            (time * self.count + self.index) * self.rows + row
                        };
                        if let Some(y) = y.get_mut(place * hidden..).and_then(|y| y.get_mut(..hidden)) {
                            y.copy_from_slice(h);
                        }
                    } else if let Some((old_h, old_c)) = &before {
                        let part = at * hidden..(at + 1) * hidden;
                        h.copy_from_slice(old_h.get(part.clone()).unwrap_or(&[]));
                        c.copy_from_slice(old_c.get(part).unwrap_or(&[]));
                    }
                }
                step += 1;
            }
        }
        self.gates = gates;
        self.spare = spare;
    }

    /// Applies one of the activations to what a gate has summed up.
    fn activate(&self, index: usize, values: &mut [T]) {
        if let Some(clip) = self.layer.clip {
            let most = T::from_f32(clip);
            for value in values.iter_mut() {
                *value = if *value > most { most } else { *value };
                *value = if *value < -most { -most } else { *value };
            }
        }
        self.direction.activations.get(index).unwrap_or(&Activation::Tanh).apply(values);
    }

    fn lstm(&self, gates: &mut [T], h: &mut [T], c: &mut [T]) {
        let (hidden, width) = (self.hidden, 4 * self.hidden);
        self.weights.recurrent.add_products(h.chunks_exact(hidden), gates, width);
        let rows =
            gates.chunks_exact_mut(width).zip(h.chunks_exact_mut(hidden)).zip(c.chunks_exact_mut(hidden));
        for ((gates, h), c) in rows {
            let (i, rest) = gates.split_at_mut(hidden);
            let (o, rest) = rest.split_at_mut(hidden);
            let (f, g) = rest.split_at_mut(hidden);
            self.look(i, 0, c);
            self.activate(0, i);
            if self.layer.input_forget {
                for (f, &i) in f.iter_mut().zip(&*i) {
                    *f = T::ONE - i;
                }
            } else {
                self.look(f, 2, c);
                self.activate(0, f);
            }
            self.activate(1, g);
            for (((c, &f), &i), &g) in c.iter_mut().zip(&*f).zip(&*i).zip(&*g) {
                *c = f * *c + i * g;
            }
            self.look(o, 1, c);
            self.activate(0, o);
            h.copy_from_slice(c);
            self.direction.activations.get(2).unwrap_or(&Activation::Tanh).apply(h);
            for (h, &o) in h.iter_mut().zip(&*o) {
                *h = *h * o;
            }
        }
    }

    /// Adds what a gate sees of the cell through its peephole.
    fn look(&self, gate: &mut [T], index: usize, c: &[T]) {
        let Some(peepholes) = self.peepholes.and_then(|all| all.chunks_exact(self.hidden).nth(index)) else {
            return;
        };
        for ((gate, &peephole), &c) in gate.iter_mut().zip(peepholes).zip(c) {
            *gate += peephole * c;
        }
    }

    fn gru(&self, gates: &mut [T], h: &mut [T], spare: &mut [T]) {
        let (hidden, width) = (self.hidden, 3 * self.hidden);
        self.weights.recurrent.add_products(h.chunks_exact(hidden), gates, width);
        for gates in gates.chunks_exact_mut(width) {
            self.activate(0, gates.get_mut(..2 * hidden).unwrap_or_default());
        }
        if self.layer.linear_before_reset {
            for spare in spare.chunks_exact_mut(hidden) {
                spare.copy_from_slice(&self.candidate_bias);
            }
            self.weights.candidate.add_products(h.chunks_exact(hidden), spare, hidden);
            for (gates, spare) in gates.chunks_exact_mut(width).zip(spare.chunks_exact(hidden)) {
                let (before, candidate) = gates.split_at_mut(2 * hidden);
                for ((candidate, &r), &product) in
                    candidate.iter_mut().zip(before.iter().skip(hidden)).zip(spare)
                {
                    *candidate += r * product;
                }
            }
        } else {
            let rows =
                spare.chunks_exact_mut(hidden).zip(gates.chunks_exact(width)).zip(h.chunks_exact(hidden));
            for ((spare, gates), h) in rows {
                for ((spare, &r), &h) in spare.iter_mut().zip(gates.iter().skip(hidden)).zip(h) {
                    *spare = r * h;
                }
            }
            let candidates = gates.get_mut(2 * hidden..).unwrap_or_default();
            self.weights.candidate.add_products(spare.chunks_exact(hidden), candidates, width);
        }
        for (gates, h) in gates.chunks_exact_mut(width).zip(h.chunks_exact_mut(hidden)) {
            let (before, candidate) = gates.split_at_mut(2 * hidden);
            self.activate(1, candidate);
            for ((h, &z), &candidate) in h.iter_mut().zip(&*before).zip(&*candidate) {
                *h = (T::ONE - z) * candidate + z * *h;
            }
        }
    }

    fn rnn(&self, gates: &mut [T], h: &mut [T]) {
        self.weights.recurrent.add_products(h.chunks_exact(self.hidden), gates, self.hidden);
        self.activate(0, gates);
        h.copy_from_slice(gates);
    }
}

impl Activation {
    fn apply<T: Float>(self, values: &mut [T]) {
        #[inline]
        fn each<T: Copy>(values: &mut [T], function: impl Fn(T) -> T) {
            values.iter_mut().for_each(|value| *value = function(*value));
        }
        let (zero, one) = (T::ZERO, T::ONE);
        match self {
            Self::Sigmoid => each(values, T::logistic),
            Self::Tanh => each(values, T::tanh),
            Self::Relu => each(values, |x| if x < zero { zero } else { x }),
            Self::Affine(alpha, beta) => {
                let (alpha, beta) = (T::from_f32(alpha), T::from_f32(beta));
                each(values, |x| alpha * x + beta);
            }
            Self::Elu(alpha) => {
                let alpha = T::from_f32(alpha);
                each(values, |x| if x < zero { alpha * (x.exp() - one) } else { x });
            }
            Self::HardSigmoid(alpha, beta) => {
                let (alpha, beta) = (T::from_f32(alpha), T::from_f32(beta));
                each(values, |x| {
                    let y = alpha * x + beta;
                    let y = if y < zero { zero } else { y };
                    if y > one { one } else { y }
                });
            }
            Self::LeakyRelu(alpha) => {
                let alpha = T::from_f32(alpha);
                each(values, |x| if x < zero { alpha * x } else { x });
            }
            Self::ScaledTanh(alpha, beta) => {
                let (alpha, beta) = (T::from_f32(alpha), T::from_f32(beta));
                each(values, |x| alpha * (beta * x).tanh());
            }
            Self::Softplus => each(values, |x| {
                let tail = (one + (-x.abs()).exp()).ln();
                if x > zero { x + tail } else { tail }
            }),
            Self::Softsign => each(values, |x| x / (one + x.abs())),
            Self::ThresholdedRelu(alpha) => {
                let alpha = T::from_f32(alpha);
                each(values, |x| if x < alpha { zero } else { x });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::product::testing::{int, none, results, text};
    use crate::{Attribute, Tensor};

    fn floats(shape: &[usize]) -> Tensor {
        let all = (0..shape.iter().product()).map(|at: usize| (at as f32 * 0.37) % 1.1 - 0.5);
        Tensor::of(shape, all.collect()).unwrap()
    }

    fn turned(x: &Tensor) -> Tensor {
        let &[a, b, c] = x.shape() else { panic!() };
        x.take([b, a, c], crate::shape::Sources::new(vec![c, b * c, 1], vec![b, a, c], 0)).unwrap()
    }

    fn both_ways() -> Vec<(String, Attribute)> {
        vec![text("direction", "bidirectional")]
    }

    /// More rows than a block, more steps than one.
    fn operands() -> Vec<Tensor> {
        vec![floats(&[3, 18, 2]), floats(&[2, 12, 2]), floats(&[2, 12, 3]), floats(&[2, 24])]
    }

    #[test]
    fn layouts_differ_in_nothing_but_order() {
        let mut operands = operands();
        let plain = results("LSTM", 14, &both_ways(), &operands, 3).unwrap();
        operands[0] = turned(&operands[0]);
        let attributes = [both_ways(), vec![int("layout", 1)]].concat();
        let other = results("LSTM", 14, &attributes, &operands, 3).unwrap();
        assert_eq!(other[0].shape(), [18, 3, 2, 3]);
        assert_eq!((turned(&other[1]), turned(&other[2])), (plain[1].clone(), plain[2].clone()));
    }

    #[test]
    fn a_row_that_ends_early_is_like_a_shorter_sequence() {
        let mut operands = operands();
        operands.push(Tensor::vector((0..18).map(|row| i32::from(row != 5) + 2).collect()));
        for operator in ["LSTM", "GRU", "RNN"] {
            let gates = [("LSTM", 4), ("GRU", 3), ("RNN", 1)]
                .into_iter()
                .find(|(name, _)| *name == operator)
                .unwrap()
                .1;
            operands[1] = floats(&[2, gates * 3, 2]);
            operands[2] = floats(&[2, gates * 3, 3]);
            operands[3] = floats(&[2, gates * 6]);
            let found = results(operator, 14, &both_ways(), &operands, 2).unwrap();
            let mut short = operands.clone();
            short[0] = Tensor::of([2, 18, 2], operands[0].elements::<f32>().unwrap()[..72].to_vec()).unwrap();
            short[4] = none();
            let whole = results(operator, 14, &both_ways(), &short, 2).unwrap();
            let row =
                |tensor: &Tensor, first: usize| tensor.elements::<f32>().unwrap()[first..][..3].to_vec();
            for at in [5, 18 + 5] {
                assert_eq!(row(&found[1], at * 3), row(&whole[1], at * 3), "{operator}");
                assert_eq!(row(&found[0], at * 3), row(&whole[0], at * 3), "{operator}");
            }
            assert_eq!(row(&found[0], (2 * 36 + 5) * 3), [0.0; 3]);
            assert_ne!(row(&found[0], (2 * 36 + 6) * 3), [0.0; 3]);
        }
    }

    #[test]
    fn double_precision_agrees() {
        let operands = operands();
        let doubles =
            operands.iter().map(|x| Tensor::of(x.shape(), x.doubles().unwrap()).unwrap()).collect::<Vec<_>>();
        let found = results("LSTM", 14, &both_ways(), &operands, 1).unwrap()[0].doubles().unwrap();
        let wanted = results("LSTM", 14, &both_ways(), &doubles, 1).unwrap()[0].doubles().unwrap();
        assert!(found.iter().zip(&wanted).all(|(found, wanted)| (found - wanted).abs() < 1e-6));
    }

    #[test]
    fn sequences_without_steps_rows_or_inputs() {
        let mut operands = operands();
        operands[0] = Tensor::of([0, 2, 2], Vec::<f32>::new()).unwrap();
        let found = results("LSTM", 14, &both_ways(), &operands, 2).unwrap();
        assert_eq!(
            (found[0].shape(), found[1].elements::<f32>().unwrap()),
            (&[0, 2, 2, 3][..], &[0.0; 12][..])
        );
        operands[0] = Tensor::of([2, 0, 2], Vec::<f32>::new()).unwrap();
        assert_eq!(results("LSTM", 14, &both_ways(), &operands, 1).unwrap()[0].shape(), [2, 2, 0, 3]);
        operands[0] = Tensor::of([2, 1, 0], Vec::<f32>::new()).unwrap();
        operands[1] = Tensor::of([2, 12, 0], Vec::<f32>::new()).unwrap();
        assert_eq!(results("LSTM", 14, &both_ways(), &operands, 1).unwrap()[0].shape(), [2, 2, 1, 3]);
    }

    #[test]
    fn refusals_say_what_is_wrong() {
        let operands = operands();
        let error =
            |attributes: &[(String, Attribute)]| results("LSTM", 14, attributes, &operands, 1).unwrap_err();
        assert!(error(&[]).contains("do not fit 1 directions of 4 gates"));
        assert!(error(&[text("direction", "up")]).contains("`up` is no direction"));
        let alphas = ("activation_alpha".to_owned(), Attribute::Floats(vec![1.0]));
        assert!(error(&[both_ways(), vec![alphas]].concat()).contains("belong to no activation"));
        let names = ("activations".to_owned(), Attribute::Texts(vec!["Swish".to_owned(); 6]));
        assert!(error(&[both_ways(), vec![names]].concat()).contains("`Swish` is unknown"));
    }
}
