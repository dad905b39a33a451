//! The engine of tabular plans: steps over blocks of rows.
//!
//! A request is worked off in blocks, so that working memory is bounded by the plan and not by the request, and stays in the
//! cache. Each value has a buffer that is kept between calls.

use lockgate_explain::{Explainer, Problem, Read, Sample, Source, Values};
use lockgate_onnx_ml::math::{self, Float};
use lockgate_onnx_ml::transform::{Transform as RowTransform, both_classes, transform_rows};
use lockgate_onnx_ml::{dense, tree};
use lockgate_package::plan::explain::{Contributions, Explanation};
use lockgate_package::plan::tabular::{
    Aggregate, Binary, Choice, Kind, Leaves, Norm, Operand, Reduction, Rounding, Step, Table, TabularPlan,
    Transform, Trees, Unary,
};
use lockgate_package::{Datatype, Envelope, Signature, Tensor, TensorView};

use crate::PredictError;

/// Rows that are worked off together.
const BLOCK: usize = 256;

/// Outputs of at most so many bytes are kept for the next request.
const SPARE: usize = 64 * 1024;

/// A plan, ready to run.
#[derive(Debug)]
pub(crate) struct TabularModel {
    plan: TabularPlan,
    /// Of each step with trees, how many levels these have.
    levels: Vec<Vec<u8>>,
    buffers: Vec<Buffer>,
    scratch: tree::Scratch,
    /// Outputs of an earlier request, for what they can hold.
    spare: Vec<Tensor>,
    /// What the last request for contributions left ready for the next one.
    explainer: Option<Box<Explainer>>,
}

/// The elements of a value for one block of rows.
#[derive(Debug)]
enum Buffer {
    F32(Vec<f32>),
    F64(Vec<f64>),
    I64(Vec<i64>),
    Bool(Vec<u8>),
    Text(Vec<u32>),
}

impl Default for Buffer {
    fn default() -> Self {
        Self::F32(Vec::new())
    }
}

/// A defect: the plan was checked, and yet a step does not fit.
struct Misfit;

enum StepError {
    Misfit,
    OutsideTable { index: i64, len: usize },
}

impl From<Misfit> for StepError {
    fn from(_: Misfit) -> Self {
        Self::Misfit
    }
}

impl TabularModel {
    /// Checks what the arrays hold and prepares the buffers.
    pub(crate) fn load(plan: TabularPlan, envelope: &Envelope) -> Result<Self, String> {
        let arrays = Arrays { plan: &plan, envelope };
        let mut levels = vec![Vec::new(); plan.steps.len()];
        for (index, (step, levels)) in plan.steps.iter().zip(&mut levels).enumerate() {
            if let Step::Trees(trees) = step {
                let columns = plan.values.get(trees.input as usize).map_or(0, |value| value.columns as usize);
                let ensemble = arrays.ensemble(trees, columns, &[]);
                let ensemble = ensemble.map_err(|Misfit| format!("step {index}: its arrays do not fit"))?;
                *levels = ensemble.validate().map_err(|problem| format!("step {index}: {problem}"))?;
            }
        }
        Ok(Self {
            buffers: empty_buffers(&plan),
            plan,
            levels,
            scratch: tree::Scratch::default(),
            spare: Vec::new(),
            explainer: None,
        })
    }

    /// The outputs for inputs that fit the signature, in its order, and behind them the contributions that are asked for.
    pub(crate) fn run(
        &mut self,
        envelope: &Envelope,
        signature: &Signature,
        inputs: &[TensorView<'_>],
        rows: usize,
        contributions: Contributions,
    ) -> Result<Vec<Tensor>, PredictError> {
        let mut explainer = match contributions {
            Contributions::None => None,
            asked => Some(self.explainer(envelope, signature, rows, asked)?),
        };
        let mut outputs = std::mem::take(&mut self.spare);
        if outputs.is_empty() {
            outputs.extend(signature.outputs.iter().map(|spec| Tensor {
                name: spec.name.clone(),
                datatype: spec.datatype,
                shape: spec.shape.clone(),
                data: Vec::new(),
            }));
        }
        for ((output, spec), &value) in outputs.iter_mut().zip(&signature.outputs).zip(&self.plan.outputs) {
            let columns = self.plan.values.get(value as usize).map_or(0, |value| value.columns as usize);
            let size = spec.datatype.size().unwrap_or(8);
            output.data.clear();
            output.data.reserve(rows.saturating_mul(columns).saturating_mul(size));
            set_leading(&mut output.shape, rows, columns);
        }
        self.blocks(envelope, inputs, rows, &mut outputs, &mut |arrays, read, rows| match &mut explainer {
            Some(explainer) => explainer.explain(
                Source { plan: arrays.plan, envelope, ensemble: &|trees| arrays.ensemble_of(trees) },
                read,
                rows,
            ),
            None => Ok(()),
        })?;
        if let Some(explainer) = &mut explainer {
            outputs.extend(explainer.tensors(rows));
        }
        if explainer.is_some() {
            self.explainer = explainer;
        }
        Ok(outputs)
    }

    /// Keeps outputs for the next request, unless they are contributions as well or have become large.
    pub(crate) fn recycle(&mut self, outputs: Vec<Tensor>) {
        let room: usize = outputs.iter().map(|output| output.data.capacity()).sum();
        if outputs.len() == self.plan.outputs.len() && room <= SPARE {
            self.spare = outputs;
        }
    }

    /// Works rows off, and calls `behind` after each block of them. There is one copy of it and of the steps in it.
    #[inline(never)]
    fn blocks(
        &mut self,
        envelope: &Envelope,
        inputs: &[TensorView<'_>],
        rows: usize,
        outputs: &mut [Tensor],
        behind: &mut dyn FnMut(Arrays<'_>, &Read<'_>, usize) -> Result<(), Problem>,
    ) -> Result<(), PredictError> {
        let misfit = |step: usize| PredictError::Internal {
            message: format!("step {step} of the plan does not fit its values"),
        };
        let mut first = 0;
        while first < rows {
            let count = BLOCK.min(rows - first);
            self.block(envelope, inputs, first, count, outputs).map_err(|(step, error)| {
                // The step that failed has kept what it was about to write into.
                self.buffers = empty_buffers(&self.plan);
                match error {
                    StepError::Misfit => misfit(step),
                    StepError::OutsideTable { index, len } => PredictError::InvalidInput {
                        message: format!("index {index} lies outside of a table of {len} entries"),
                        hint: "check the values of integer inputs".to_owned(),
                    },
                }
            })?;
            let arrays = Arrays { plan: &self.plan, envelope };
            let read = |value: u32| match self.buffers.get(value as usize)? {
                Buffer::F32(values) => Some(Values::F32(values)),
                Buffer::F64(values) => Some(Values::F64(values)),
                _ => None,
            };
            behind(arrays, &read, count)?;
            first += count;
        }
        Ok(())
    }

    /// What explains requests in the way that is asked for.
    #[inline(never)]
    fn explainer(
        &mut self,
        envelope: &Envelope,
        signature: &Signature,
        rows: usize,
        asked: Contributions,
    ) -> Result<Box<Explainer>, PredictError> {
        if let Some(ready) = self.explainer.take().filter(|ready| ready.answers(asked)) {
            ready.check(signature, rows)?;
            return Ok(ready);
        }
        let explanation = Explanation::of(&self.plan, &|array| self.plan.numbers(envelope, array))
            .map_err(Problem::None)?;
        let method = explanation.choose(&self.plan, asked).map_err(Problem::None)?;
        let mut sample = Sample::new(&explanation, &self.plan);
        if let Some((inputs, rows)) = Sample::inputs(&self.plan, envelope) {
            let views: Vec<TensorView<'_>> = inputs.iter().map(Tensor::view).collect();
            self.blocks(envelope, &views, rows, &mut [], &mut |_, read, _| sample.take(read))?;
        }
        let arrays = Arrays { plan: &self.plan, envelope };
        let source = Source { plan: arrays.plan, envelope, ensemble: &|trees| arrays.ensemble_of(trees) };
        let ready = Explainer::new(source, explanation, method, asked, &sample)?;
        ready.check(signature, rows)?;
        Ok(Box::new(ready))
    }

    fn block(
        &mut self,
        envelope: &Envelope,
        inputs: &[TensorView<'_>],
        first: usize,
        rows: usize,
        outputs: &mut [Tensor],
    ) -> Result<(), (usize, StepError)> {
        let Self { plan, levels, buffers, scratch, .. } = self;
        for (index, tensor) in inputs.iter().enumerate() {
            let columns = plan.values.get(index).map_or(0, |value| value.columns as usize);
            let range = first * columns..(first + rows) * columns;
            buffers
                .get_mut(index)
                .ok_or(Misfit)
                .and_then(|buffer| buffer.read(tensor, range))
                .map_err(|_| (0, StepError::Misfit))?;
        }
        let arrays = Arrays { plan, envelope };
        for (index, (step, levels)) in plan.steps.iter().zip(levels.iter()).enumerate() {
            let result = Runner { arrays, levels, buffers, scratch, rows }.step(step);
            result.map_err(|error| (index, error))?;
        }
        for (tensor, &value) in outputs.iter_mut().zip(&plan.outputs) {
            let buffer = buffers.get_mut(value as usize).ok_or((plan.steps.len(), StepError::Misfit))?;
            buffer.write(tensor, &plan.texts);
        }
        Ok(())
    }
}

/// A buffer for each value of a plan.
fn empty_buffers(plan: &TabularPlan) -> Vec<Buffer> {
    let buffers = plan.values.iter().map(|value| match value.kind {
        Kind::F32 => Buffer::F32(Vec::new()),
        Kind::F64 => Buffer::F64(Vec::new()),
        Kind::I64 => Buffer::I64(Vec::new()),
        Kind::Bool => Buffer::Bool(Vec::new()),
        Kind::Text => Buffer::Text(Vec::new()),
    });
    buffers.collect()
}

/// Completes the shape of an output: all but the leading dimension are declared.
fn set_leading(shape: &mut [i64], rows: usize, columns: usize) {
    let rest: i64 = shape.iter().skip(1).product();
    let elements = i64::try_from(rows.saturating_mul(columns)).unwrap_or(i64::MAX);
    if let Some(leading) = shape.first_mut() {
        *leading = elements.checked_div(rest).unwrap_or(0);
    }
}

/// The plan's constants, where they lie.
#[derive(Clone, Copy)]
struct Arrays<'a> {
    plan: &'a TabularPlan,
    envelope: &'a Envelope,
}

impl<'a> Arrays<'a> {
    fn get<T: bytemuck::AnyBitPattern>(&self, array: u32) -> Result<&'a [T], Misfit> {
        let section = self.plan.array_section(array).ok_or(Misfit)?;
        bytemuck::try_cast_slice(self.envelope.bytes_of(section)).map_err(|_| Misfit)
    }

    /// The ensemble of a step, for a walk that asks for no levels.
    fn ensemble_of(&self, trees: &'a Trees) -> Option<tree::Ensemble<'a>> {
        let input = self.plan.values.get(trees.input as usize)?;
        self.ensemble(trees, input.columns as usize, &[]).ok()
    }

    fn ensemble(
        &self,
        trees: &'a Trees,
        columns: usize,
        levels: &'a [u8],
    ) -> Result<tree::Ensemble<'a>, Misfit> {
        let leaves = match trees.leaves {
            Leaves::One => tree::Leaves::One,
            Leaves::Dense { weights } => tree::Leaves::Dense(self.get(weights)?),
            Leaves::Sparse { starts, targets, weights } => tree::Leaves::Sparse {
                starts: self.get(starts)?,
                targets: self.get(targets)?,
                weights: self.get(weights)?,
            },
        };
        Ok(tree::Ensemble {
            nodes: self.get(trees.nodes)?,
            roots: self.get(trees.roots)?,
            levels,
            leaves,
            columns,
            feature_bits: trees.feature_bits,
            tests_equality: trees.tests_equality,
            tracks_missing: trees.tracks_missing,
            targets: trees.targets as usize,
            aggregate: match trees.aggregate {
                Aggregate::Sum => tree::Aggregate::Sum,
                Aggregate::Average => tree::Aggregate::Average,
                Aggregate::Min => tree::Aggregate::Min,
                Aggregate::Max => tree::Aggregate::Max,
            },
            base: &trees.base,
            transform: row_transform(trees.transform),
            choice: trees.choice.map(|choice| match choice {
                Choice::Single { positive } => tree::Choice::Single { positive },
                Choice::Second { positive } => tree::Choice::Second { positive },
                Choice::Both => tree::Choice::Both,
                Choice::Largest => tree::Choice::Largest,
            }),
        })
    }
}

fn row_transform(transform: Transform) -> RowTransform {
    match transform {
        Transform::None => RowTransform::None,
        Transform::Logistic => RowTransform::Logistic,
        Transform::Softmax => RowTransform::Softmax,
        Transform::SoftmaxZero => RowTransform::SoftmaxZero,
        Transform::Probit => RowTransform::Probit,
    }
}

/// Runs the steps of one block.
struct Runner<'a, 'b> {
    arrays: Arrays<'a>,
    /// If the step has trees, how many levels these have.
    levels: &'b [u8],
    buffers: &'b mut Vec<Buffer>,
    scratch: &'b mut tree::Scratch,
    rows: usize,
}

impl Runner<'_, '_> {
    fn step(&mut self, step: &Step) -> Result<(), StepError> {
        match step {
            Step::Cast { input, output, rounding } => self.cast(*input, *output, *rounding)?,
            Step::Unary { function, input, output } => self.unary(*function, *input, *output)?,
            Step::Binary { function, left, right, output } => {
                self.binary(*function, *left, *right, *output)?;
            }
            Step::Scale { input, offset, scale, output } => {
                let (offset, scale): (&[f32], &[f32]) = (self.arrays.get(*offset)?, self.arrays.get(*scale)?);
                let columns = self.columns(*input);
                let mut out = self.take(*output)?;
                let y = f32::slice_mut(&mut out)?;
                match self.read(*input)? {
                    Buffer::F32(x) => dense::scale(x, columns, offset, scale, y),
                    Buffer::F64(x) => dense::scale(x, columns, offset, scale, y),
                    _ => return Err(StepError::Misfit),
                }
                self.put(*output, out);
            }
            Step::Dense { input, weights, bias, output } => match self.read(*input)? {
                Buffer::F32(_) => self.dense::<f32>(*input, *weights, *bias, *output)?,
                Buffer::F64(_) => self.dense::<f64>(*input, *weights, *bias, *output)?,
                _ => return Err(StepError::Misfit),
            },
            Step::Softmax { input, output } => {
                let columns = self.columns(*input);
                self.floats(
                    *input,
                    *output,
                    |x, y| dense::softmax(x, columns, y),
                    |x, y| dense::softmax(x, columns, y),
                )?;
            }
            Step::Normalize { norm, input, output } => {
                let columns = self.columns(*input);
                let norm = match norm {
                    Norm::Max => dense::Norm::Max,
                    Norm::L1 => dense::Norm::L1,
                    Norm::L2 => dense::Norm::L2,
                };
                self.floats(
                    *input,
                    *output,
                    |x, y| dense::normalize(norm, x, columns, y),
                    |x, y| dense::normalize(norm, x, columns, y),
                )?;
            }
            Step::Reduce { reduction, input, output } => {
                let columns = self.columns(*input);
                let reduction = *reduction;
                self.floats(
                    *input,
                    *output,
                    |x, y| reduce(reduction, x, columns, y),
                    |x, y| reduce(reduction, x, columns, y),
                )?;
            }
            Step::Clip { low, high, input, output } => {
                let (low, high) = (*low, *high);
                self.floats(*input, *output, |x, y| clip(x, y, low, high), |x, y| clip(x, y, low, high))?;
            }
            Step::Impute { marker, replacement, input, output } => {
                let columns = self.columns(*input);
                let replacement = self.arrays.get(*replacement)?;
                self.single(*input, *output, |x, y| dense::impute(*marker, x, columns, replacement, y))?;
            }
            Step::Concat { inputs, output } => self.concat(inputs, *output)?,
            Step::Select { input, columns, output } => {
                let width = self.columns(*input);
                let mut out = self.take(*output)?;
                match (self.read(*input)?, &mut out) {
                    (Buffer::F32(x), Buffer::F32(y)) => select(x, width, columns, y),
                    (Buffer::F64(x), Buffer::F64(y)) => select(x, width, columns, y),
                    (Buffer::I64(x), Buffer::I64(y)) => select(x, width, columns, y),
                    (Buffer::Bool(x), Buffer::Bool(y)) => select(x, width, columns, y),
                    (Buffer::Text(x), Buffer::Text(y)) => select(x, width, columns, y),
                    _ => return Err(StepError::Misfit),
                }
                self.put(*output, out);
            }
            Step::ArgMax { input, output } => {
                let columns = self.columns(*input);
                let mut out = self.take(*output)?;
                let y = integers(&mut out)?;
                match self.read(*input)? {
                    Buffer::F32(x) => dense::arg_max(x, columns, y),
                    Buffer::F64(x) => dense::arg_max(x, columns, y),
                    _ => return Err(StepError::Misfit),
                }
                self.put(*output, out);
            }
            Step::IsPositive { input, output } => {
                let mut out = self.take(*output)?;
                let y = integers(&mut out)?;
                match self.read(*input)? {
                    Buffer::F32(x) => y.iter_mut().zip(x).for_each(|(y, &x)| *y = i64::from(x > 0.0)),
                    Buffer::F64(x) => y.iter_mut().zip(x).for_each(|(y, &x)| *y = i64::from(x > 0.0)),
                    _ => return Err(StepError::Misfit),
                }
                self.put(*output, out);
            }
            Step::Lookup { input, table, output } => self.lookup(*input, table, *output)?,
            Step::Transform { transform, second_class, input, output } => {
                let columns = self.columns(*input);
                let transform = row_transform(*transform);
                self.single(*input, *output, |x, y| {
                    if *second_class {
                        for (y, &x) in y.as_chunks_mut::<2>().0.iter_mut().zip(x) {
                            *y = both_classes(transform, x);
                        }
                    } else {
                        y.copy_from_slice(x);
                        transform_rows(transform, y, columns);
                    }
                })?;
            }
            Step::Trees(trees) => self.trees(trees)?,
        }
        Ok(())
    }

    fn trees(&mut self, trees: &Trees) -> Result<(), Misfit> {
        let columns = self.columns(trees.input);
        let mut scores = self.take(trees.scores)?;
        let mut class = match trees.class {
            Some(class) => self.take(class)?,
            None => Buffer::I64(Vec::new()),
        };
        let Buffer::F32(input) = self.buffers.get(trees.input as usize).ok_or(Misfit)? else {
            return Err(Misfit);
        };
        // The borrow of the plan must outlive the ensemble, not this runner.
        let ensemble = self.arrays.ensemble(trees, columns, self.levels)?;
        ensemble.predict(
            input,
            trees.wide,
            f32::slice_mut(&mut scores)?,
            integers(&mut class)?,
            self.scratch,
        );
        self.put(trees.scores, scores);
        if let Some(place) = trees.class {
            self.put(place, class);
        }
        Ok(())
    }

    fn dense<T: Element>(
        &mut self,
        input: u32,
        weights: u32,
        bias: Option<u32>,
        output: u32,
    ) -> Result<(), Misfit> {
        let (columns, outputs) = (self.columns(input), self.columns(output));
        let weights = self.arrays.get::<T>(weights)?;
        let bias = match bias {
            Some(bias) => Some(self.arrays.get::<T>(bias)?),
            None => None,
        };
        let mut out = self.take(output)?;
        dense::dense(T::slice(self.read(input)?)?, columns, weights, bias, outputs, T::slice_mut(&mut out)?);
        self.put(output, out);
        Ok(())
    }

    fn unary(&mut self, function: Unary, input: u32, output: u32) -> Result<(), Misfit> {
        let copied = |x: &[f32], y: &mut [f32], function: fn(&mut [f32])| {
            y.copy_from_slice(x);
            function(y);
        };
        match function {
            Unary::Exp => self.floats(
                input,
                output,
                |x, y| copied(x, y, math::exp_in_place),
                |x, y| map(x, y, Float::exp),
            ),
            Unary::Logistic => self.floats(
                input,
                output,
                |x, y| copied(x, y, math::sigmoid_in_place),
                |x, y| map(x, y, Float::logistic),
            ),
            Unary::Tanh => self.floats(
                input,
                output,
                |x, y| copied(x, y, math::tanh_in_place),
                |x, y| map(x, y, Float::tanh),
            ),
            Unary::Relu => {
                self.floats(input, output, |x, y| copied(x, y, math::relu_in_place), |x, y| map(x, y, relu))
            }
            Unary::Abs => {
                self.floats(input, output, |x, y| map(x, y, Float::abs), |x, y| map(x, y, Float::abs))
            }
            Unary::Log => {
                self.floats(input, output, |x, y| map(x, y, Float::ln), |x, y| map(x, y, Float::ln))
            }
            Unary::Negate => self.floats(input, output, |x, y| map(x, y, |x| -x), |x, y| map(x, y, |x| -x)),
            Unary::Reciprocal => {
                self.floats(input, output, |x, y| map(x, y, |x| 1.0 / x), |x, y| map(x, y, |x| 1.0 / x))
            }
            Unary::Sqrt => {
                self.floats(input, output, |x, y| map(x, y, Float::sqrt), |x, y| map(x, y, Float::sqrt))
            }
            Unary::Not => {
                let mut out = self.take(output)?;
                let (Buffer::Bool(x), Buffer::Bool(y)) = (self.read(input)?, &mut out) else {
                    return Err(Misfit);
                };
                y.iter_mut().zip(x).for_each(|(y, &x)| *y = u8::from(x == 0));
                self.put(output, out);
                Ok(())
            }
        }
    }

    fn binary(&mut self, function: Binary, left: Operand, right: Operand, output: u32) -> Result<(), Misfit> {
        match self.read(output)? {
            Buffer::F32(_) => self.binary_of::<f32>(function, left, right, output),
            Buffer::F64(_) => self.binary_of::<f64>(function, left, right, output),
            _ => Err(Misfit),
        }
    }

    fn binary_of<T: Element>(
        &mut self,
        function: Binary,
        left: Operand,
        right: Operand,
        output: u32,
    ) -> Result<(), Misfit> {
        let columns = self.columns(output);
        let mut out = self.take(output)?;
        let (x, y) = (self.operand::<T>(left)?, self.operand::<T>(right)?);
        let place = T::slice_mut(&mut out)?;
        match function {
            Binary::Add => dense::binary(x, y, columns, place, |x, y| x + y),
            Binary::Subtract => dense::binary(x, y, columns, place, |x, y| x - y),
            Binary::Multiply => dense::binary(x, y, columns, place, |x, y| x * y),
            Binary::Divide => dense::binary(x, y, columns, place, |x, y| x / y),
        }
        self.put(output, out);
        Ok(())
    }

    fn operand<T: Element>(&self, operand: Operand) -> Result<dense::Rows<'_, T>, Misfit> {
        match operand {
            Operand::Value(value) => Ok(dense::Rows::Each(T::slice(self.read(value)?)?, self.columns(value))),
            Operand::Array(array) => Ok(dense::Rows::Same(self.arrays.get(array)?)),
        }
    }

    fn cast(&mut self, input: u32, output: u32, rounding: Rounding) -> Result<(), Misfit> {
        let mut out = self.take(output)?;
        match (self.read(input)?, &mut out) {
            (Buffer::F64(x), Buffer::F32(y)) => match rounding {
                Rounding::Nearest => map(x, y, |x| x as f32),
                Rounding::Up => map(x, y, dense::round_up),
                Rounding::Down => map(x, y, dense::round_down),
            },
            (Buffer::F32(x), Buffer::F32(y)) => y.copy_from_slice(x),
            (Buffer::F64(x), Buffer::F64(y)) => y.copy_from_slice(x),
            (Buffer::I64(x), Buffer::I64(y)) => y.copy_from_slice(x),
            (Buffer::Bool(x), Buffer::Bool(y)) => y.copy_from_slice(x),
            (Buffer::F32(x), Buffer::F64(y)) => map(x, y, f64::from),
            (Buffer::F32(x), Buffer::I64(y)) => map(x, y, |x| dense::whole(x.into())),
            (Buffer::F64(x), Buffer::I64(y)) => map(x, y, dense::whole),
            (Buffer::F32(x), Buffer::Bool(y)) => map(x, y, |x| u8::from(x != 0.0)),
            (Buffer::F64(x), Buffer::Bool(y)) => map(x, y, |x| u8::from(x != 0.0)),
            (Buffer::I64(x), Buffer::F32(y)) => map(x, y, |x| x as f32),
            (Buffer::I64(x), Buffer::F64(y)) => map(x, y, |x| x as f64),
            (Buffer::I64(x), Buffer::Bool(y)) => map(x, y, |x| u8::from(x != 0)),
            (Buffer::Bool(x), Buffer::F32(y)) => map(x, y, f32::from),
            (Buffer::Bool(x), Buffer::F64(y)) => map(x, y, f64::from),
            (Buffer::Bool(x), Buffer::I64(y)) => map(x, y, i64::from),
            _ => return Err(Misfit),
        }
        self.put(output, out);
        Ok(())
    }

    fn concat(&mut self, inputs: &[u32], output: u32) -> Result<(), Misfit> {
        let width = self.columns(output);
        let mut out = self.take(output)?;
        let mut first = 0;
        for &input in inputs {
            let columns = self.columns(input);
            match (self.read(input)?, &mut out) {
                (Buffer::F32(x), Buffer::F32(y)) => place(x, columns, first, width, y),
                (Buffer::F64(x), Buffer::F64(y)) => place(x, columns, first, width, y),
                (Buffer::I64(x), Buffer::I64(y)) => place(x, columns, first, width, y),
                (Buffer::Bool(x), Buffer::Bool(y)) => place(x, columns, first, width, y),
                (Buffer::Text(x), Buffer::Text(y)) => place(x, columns, first, width, y),
                _ => return Err(Misfit),
            }
            first += columns;
        }
        self.put(output, out);
        Ok(())
    }

    fn lookup(&mut self, input: u32, table: &Table, output: u32) -> Result<(), StepError> {
        let mut out = self.take(output)?;
        let Buffer::I64(indices) = self.read(input)? else {
            return Err(StepError::Misfit);
        };
        match (table, &mut out) {
            (Table::Integers(entries), Buffer::I64(y)) => look_up(indices, entries, y)?,
            (Table::Texts(entries), Buffer::Text(y)) => look_up(indices, entries, y)?,
            _ => return Err(StepError::Misfit),
        }
        self.put(output, out);
        Ok(())
    }

    /// A function of the elements, in either precision.
    fn floats(
        &mut self,
        input: u32,
        output: u32,
        single: impl FnOnce(&[f32], &mut [f32]),
        double: impl FnOnce(&[f64], &mut [f64]),
    ) -> Result<(), Misfit> {
        let mut out = self.take(output)?;
        match (self.read(input)?, &mut out) {
            (Buffer::F32(x), Buffer::F32(y)) => single(x, y),
            (Buffer::F64(x), Buffer::F64(y)) => double(x, y),
            _ => return Err(Misfit),
        }
        self.put(output, out);
        Ok(())
    }

    /// A function of the elements, in single precision.
    fn single(
        &mut self,
        input: u32,
        output: u32,
        function: impl FnOnce(&[f32], &mut [f32]),
    ) -> Result<(), Misfit> {
        self.floats(input, output, function, |_, _| {})
    }

    fn columns(&self, value: u32) -> usize {
        self.arrays.plan.values.get(value as usize).map_or(0, |value| value.columns as usize)
    }

    fn read(&self, value: u32) -> Result<&Buffer, Misfit> {
        self.buffers.get(value as usize).ok_or(Misfit)
    }

    /// The buffer of a value that is about to be written, as long as the block needs it.
    fn take(&mut self, value: u32) -> Result<Buffer, Misfit> {
        let len = self.rows * self.columns(value);
        let mut buffer = std::mem::take(self.buffers.get_mut(value as usize).ok_or(Misfit)?);
        match &mut buffer {
            Buffer::F32(values) => values.resize(len, 0.0),
            Buffer::F64(values) => values.resize(len, 0.0),
            Buffer::I64(values) => values.resize(len, 0),
            Buffer::Bool(values) => values.resize(len, 0),
            Buffer::Text(values) => values.resize(len, 0),
        }
        Ok(buffer)
    }

    fn put(&mut self, value: u32, buffer: Buffer) {
        if let Some(place) = self.buffers.get_mut(value as usize) {
            *place = buffer;
        }
    }
}

/// The kinds that dense kernels compute in.
trait Element: Float + bytemuck::AnyBitPattern {
    fn slice(buffer: &Buffer) -> Result<&[Self], Misfit>;
    fn slice_mut(buffer: &mut Buffer) -> Result<&mut [Self], Misfit>;
}

impl Element for f32 {
    fn slice(buffer: &Buffer) -> Result<&[Self], Misfit> {
        if let Buffer::F32(values) = buffer { Ok(values) } else { Err(Misfit) }
    }

    fn slice_mut(buffer: &mut Buffer) -> Result<&mut [Self], Misfit> {
        if let Buffer::F32(values) = buffer { Ok(values) } else { Err(Misfit) }
    }
}

impl Element for f64 {
    fn slice(buffer: &Buffer) -> Result<&[Self], Misfit> {
        if let Buffer::F64(values) = buffer { Ok(values) } else { Err(Misfit) }
    }

    fn slice_mut(buffer: &mut Buffer) -> Result<&mut [Self], Misfit> {
        if let Buffer::F64(values) = buffer { Ok(values) } else { Err(Misfit) }
    }
}

fn integers(buffer: &mut Buffer) -> Result<&mut [i64], Misfit> {
    if let Buffer::I64(values) = buffer { Ok(values) } else { Err(Misfit) }
}

fn map<T: Copy, U>(x: &[T], y: &mut [U], function: impl Fn(T) -> U) {
    y.iter_mut().zip(x).for_each(|(y, &x)| *y = function(x));
}

fn relu(x: f64) -> f64 {
    if x < 0.0 { 0.0 } else { x }
}

fn clip<T: Float>(x: &[T], y: &mut [T], low: f64, high: f64) {
    let (low, high) = (T::from_f64(low), T::from_f64(high));
    map(x, y, |x| {
        let x = if x < low { low } else { x };
        if x > high { high } else { x }
    });
}

fn reduce<T: Float>(reduction: Reduction, x: &[T], columns: usize, y: &mut [T]) {
    match reduction {
        Reduction::Sum | Reduction::Mean => dense::reduce(x, columns, y, |x, y| x + y),
        Reduction::Product => dense::reduce(x, columns, y, |x, y| x * y),
        Reduction::Max => dense::reduce(x, columns, y, |x, y| if y > x || y.is_nan() { y } else { x }),
        Reduction::Min => dense::reduce(x, columns, y, |x, y| if y < x || y.is_nan() { y } else { x }),
    }
    if reduction == Reduction::Mean {
        let count = T::from_f64(columns as f64);
        y.iter_mut().for_each(|y| *y = *y / count);
    }
}

fn select<T: Copy>(x: &[T], width: usize, columns: &[u32], y: &mut [T]) {
    if width == 0 || columns.is_empty() {
        return;
    }
    for (row, out) in x.chunks_exact(width).zip(y.chunks_exact_mut(columns.len())) {
        for (out, &column) in out.iter_mut().zip(columns) {
            if let Some(&value) = row.get(column as usize) {
                *out = value;
            }
        }
    }
}

fn place<T: Copy>(x: &[T], columns: usize, first: usize, width: usize, y: &mut [T]) {
    if columns == 0 || width == 0 {
        return;
    }
    for (row, out) in x.chunks_exact(columns).zip(y.chunks_exact_mut(width)) {
        if let Some(out) = out.get_mut(first..first + columns) {
            out.copy_from_slice(row);
        }
    }
}

fn look_up<T: Copy>(indices: &[i64], entries: &[T], y: &mut [T]) -> Result<(), StepError> {
    for (y, &index) in y.iter_mut().zip(indices) {
        let from_start = if index < 0 { index.saturating_add_unsigned(entries.len() as u64) } else { index };
        let entry = usize::try_from(from_start).ok().and_then(|index| entries.get(index));
        *y = *entry.ok_or(StepError::OutsideTable { index, len: entries.len() })?;
    }
    Ok(())
}

impl Buffer {
    /// Fills the buffer with some elements of a tensor.
    fn read(&mut self, tensor: &TensorView<'_>, range: std::ops::Range<usize>) -> Result<(), Misfit> {
        fn fill<T, const N: usize>(
            values: &mut Vec<T>,
            data: &[u8],
            range: std::ops::Range<usize>,
            read: impl Fn([u8; N]) -> T,
        ) -> Result<(), Misfit> {
            let elements = data.as_chunks::<N>().0.get(range).ok_or(Misfit)?;
            values.clear();
            values.extend(elements.iter().map(|bytes| read(*bytes)));
            Ok(())
        }
        let data = tensor.data;
        match (self, tensor.datatype) {
            (Self::F32(values), Datatype::Fp32) => fill(values, data, range, f32::from_le_bytes),
            (Self::F64(values), Datatype::Fp64) => fill(values, data, range, f64::from_le_bytes),
            (Self::I64(values), Datatype::Int64) => fill(values, data, range, i64::from_le_bytes),
            (Self::I64(values), Datatype::Int32) => {
                fill(values, data, range, |bytes| i32::from_le_bytes(bytes).into())
            }
            (Self::Bool(values), Datatype::Bool) => fill(values, data, range, |[byte]| byte),
            _ => Err(Misfit),
        }
    }

    /// Appends the elements to a tensor, NaN in its one form.
    fn write(&mut self, tensor: &mut Tensor, texts: &[String]) {
        let data = &mut tensor.data;
        match self {
            Self::F32(values) => {
                math::canonicalize_nan(values);
                data.extend_from_slice(bytemuck::cast_slice(values));
            }
            Self::F64(values) => {
                math::canonicalize_nan(values);
                data.extend_from_slice(bytemuck::cast_slice(values));
            }
            Self::I64(values) if tensor.datatype == Datatype::Int32 => {
                // What 32 bits do not hold was a fraction or NaN before it was cast; onnxruntime answers with the least integer.
                let narrow = |value: i64| i32::try_from(value).unwrap_or(i32::MIN);
                values.iter().for_each(|&value| data.extend_from_slice(&narrow(value).to_le_bytes()));
            }
            Self::I64(values) => data.extend_from_slice(bytemuck::cast_slice(values)),
            Self::Bool(values) => data.extend_from_slice(values),
            Self::Text(values) => {
                for &text in values.iter() {
                    let text = texts.get(text as usize).map_or("", String::as_str);
                    let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
                    data.extend_from_slice(&len.to_le_bytes());
                    data.extend_from_slice(text.as_bytes());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_32_bits_are_the_least_where_they_do_not_fit() {
        let mut integers = Buffer::I64(vec![7, -3, dense::whole(f64::NAN), 3_000_000_000]);
        let mut tensor =
            Tensor { name: "y".to_owned(), datatype: Datatype::Int32, shape: vec![4], data: Vec::new() };
        integers.write(&mut tensor, &[]);
        let found: Vec<i32> =
            tensor.data.as_chunks::<4>().0.iter().map(|bytes| i32::from_le_bytes(*bytes)).collect();
        assert_eq!(found, [7, -3, i32::MIN, i32::MIN]);
    }
}
