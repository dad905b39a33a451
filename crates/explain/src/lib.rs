//! What each feature contributes to the raw scores of a tabular model: an engine's values in, contributions out.
//!
//! [`Explainer`] is made once per method, from a plan and what its terms read for the rows of the background ([`Sample`]); then it
//! takes what they read for each block of a request's rows. It runs no steps, and the walks over trees are kernels of
//! `lockgate-onnx-ml`. It is a crate of its own because it is compiled for size, which an engine is not; what is
//! public is kept from being inlined there.

use std::sync::Arc;

use lockgate_onnx_ml::explain::{Counts, Quadrature, Scratch};
use lockgate_onnx_ml::tree::Ensemble;
use lockgate_package::plan::explain::{
    BASE, CONTRIBUTIONS, Contributions, Explanation, Method, Part, Unexplained,
};
use lockgate_package::plan::tabular::{Kind, Step, TabularPlan, Trees};
use lockgate_package::{Datatype, Envelope, Signature, Tensor};

/// The most contributions in one answer.
pub const MOST_CONTRIBUTIONS: usize = 1 << 23;

/// The most operations that the contributions of one request may take.
pub const MOST_OPERATIONS: u64 = 1 << 36;

/// Why a request cannot be explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The model has no contributions to give, or not in this way.
    None(Unexplained),
    /// The request is too large: what it is, and what to do.
    TooLarge(String, &'static str),
    /// A defect: the plan was checked, and yet something does not fit.
    Misfit,
}

impl From<Unexplained> for Problem {
    fn from(unexplained: Unexplained) -> Self {
        Self::None(unexplained)
    }
}

/// The elements of a value, row by row.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Double precision.
    F64(&'a [f64]),
}

impl Values<'_> {
    fn get(&self, index: usize) -> Option<f64> {
        match self {
            Self::F32(values) => values.get(index).map(|&value| value.into()),
            Self::F64(values) => values.get(index).copied(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F64(values) => values.len(),
        }
    }
}

/// A plan and the envelope that holds its arrays.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// The plan.
    pub plan: &'a TabularPlan,
    /// The envelope.
    pub envelope: &'a Envelope,
    /// The ensemble of a step.
    pub ensemble: &'a dyn Fn(&'a Trees) -> Option<Ensemble<'a>>,
}

impl<'a> Source<'a> {
    fn singles(&self, array: u32) -> Option<&'a [f32]> {
        bytemuck::try_cast_slice(self.envelope.bytes_of(self.plan.array_section(array)?)).ok()
    }
}

/// Gives the elements of a value.
pub type Read<'a> = dyn Fn(u32) -> Option<Values<'a>> + 'a;

/// The raw scores of a plan, ready to be explained in one way.
#[derive(Debug)]
pub struct Explainer {
    asked: Contributions,
    columns: usize,
    /// The raw scores with nobody present.
    base: Vec<f64>,
    terms: Vec<Ready>,
    /// Operations per row, an upper bound.
    operations: u64,
    scratch: Scratch,
    /// What each column contributes to each component of a term.
    local: Vec<f64>,
    contributions: Vec<f64>,
}

/// A term, ready.
#[derive(Debug)]
struct Ready {
    step: usize,
    input: u32,
    /// Columns of the input.
    width: usize,
    players: Vec<u32>,
    parts: Vec<Part>,
    how: How,
}

#[derive(Debug)]
enum How {
    Linear {
        /// A row of outputs per column of the input.
        weights: Vec<f64>,
        outputs: usize,
        /// What the columns of the input are measured from.
        reference: Vec<f64>,
    },
    Paths {
        targets: usize,
        rule: Quadrature,
    },
    Against {
        targets: usize,
        counts: Counts,
        /// Rows of the input.
        background: Arc<[f32]>,
    },
}

/// What the terms read for the rows of the background.
#[derive(Debug)]
pub struct Sample {
    /// The values that terms read, and their elements.
    inputs: Vec<(u32, Vec<f64>)>,
}

impl Sample {
    /// Nothing yet of what an explanation's terms read.
    #[inline(never)]
    pub fn new(explanation: &Explanation, plan: &TabularPlan) -> Self {
        let input = |step: usize| match plan.steps.get(step) {
            Some(Step::Dense { input, .. }) => *input,
            Some(Step::Trees(trees)) => trees.input,
            _ => u32::MAX,
        };
        let mut inputs: Vec<(u32, Vec<f64>)> = Vec::new();
        for input in explanation.terms.iter().map(|term| input(term.step)) {
            if !inputs.iter().any(|(have, _)| *have == input) {
                inputs.push((input, Vec::new()));
            }
        }
        Self { inputs }
    }

    /// The background as tensors, and how many rows it has.
    #[inline(never)]
    pub fn inputs(plan: &TabularPlan, envelope: &Envelope) -> Option<(Vec<Tensor>, usize)> {
        let numbers = plan.numbers(envelope, plan.background?)?;
        let columns = usize::try_from(plan.input_columns()).ok()?;
        let rows = numbers.len().checked_div(columns)?;
        let mut inputs = Vec::new();
        let mut first = 0;
        for value in plan.values.iter().take(plan.inputs as usize) {
            let datatype = match value.kind {
                Kind::F64 => Datatype::Fp64,
                Kind::I64 => Datatype::Int64,
                Kind::Bool => Datatype::Bool,
                _ => Datatype::Fp32,
            };
            let mut data = Vec::new();
            for row in 0..rows {
                for column in first..first + value.columns as usize {
                    let &number = numbers.get(row * columns + column)?;
                    match datatype {
                        Datatype::Fp64 => data.extend_from_slice(&number.to_le_bytes()),
                        Datatype::Int64 => data.extend_from_slice(&(number as i64).to_le_bytes()),
                        Datatype::Bool => data.push(u8::from(number != 0.0)),
                        _ => data.extend_from_slice(&(number as f32).to_le_bytes()),
                    }
                }
            }
            first += value.columns as usize;
            inputs.push(Tensor { name: String::new(), datatype, shape: Vec::new(), data });
        }
        Some((inputs, rows))
    }

    /// Takes what the terms read for a block of rows.
    ///
    /// # Errors
    /// A value that holds no numbers.
    #[inline(never)]
    pub fn take(&mut self, read: &Read<'_>) -> Result<(), Problem> {
        for (input, elements) in &mut self.inputs {
            let values = read(*input).ok_or(Problem::Misfit)?;
            elements.extend((0..values.len()).filter_map(|index| values.get(index)));
        }
        Ok(())
    }
}

impl Explainer {
    /// Makes the terms of an explanation ready. `sample` has what they read for the rows of the background.
    ///
    /// # Errors
    /// Trees that cannot be walked, or arrays that do not fit.
    #[inline(never)]
    pub fn new(
        source: Source<'_>,
        explanation: Explanation,
        method: Method,
        asked: Contributions,
        sample: &Sample,
    ) -> Result<Self, Problem> {
        let mut explainer = Self {
            asked,
            columns: explanation.columns,
            base: explanation.constants,
            terms: Vec::new(),
            operations: 0,
            scratch: Scratch::default(),
            local: Vec::new(),
            contributions: Vec::new(),
        };
        let narrow = |(_, sample): &(u32, Vec<f64>)| sample.iter().map(|&x| x as f32).collect();
        let backgrounds: Vec<Arc<[f32]>> = sample.inputs.iter().map(narrow).collect();
        for term in explanation.terms {
            let input = match source.plan.steps.get(term.step) {
                Some(Step::Dense { input, .. }) => *input,
                Some(Step::Trees(trees)) => trees.input,
                _ => u32::MAX,
            };
            let mut samples = sample.inputs.iter().zip(&backgrounds);
            let ((_, sample), background) =
                samples.find(|((have, _), _)| *have == input).ok_or(Problem::Misfit)?;
            let width = source.plan.values.get(input as usize).map_or(0, |value| value.columns as usize);
            let ready = Ready {
                step: term.step,
                input,
                width,
                players: term.players,
                parts: term.parts,
                // Until it is known.
                how: How::Linear { weights: Vec::new(), outputs: 0, reference: Vec::new() },
            };
            explainer.add(source, ready, method, sample, background)?;
        }
        Ok(explainer)
    }

    #[inline(never)]
    fn add(
        &mut self,
        source: Source<'_>,
        mut term: Ready,
        method: Method,
        sample: &[f64],
        background: &Arc<[f32]>,
    ) -> Result<(), Problem> {
        let misfit = || Problem::Misfit;
        let rows = sample.len().checked_div(term.width).unwrap_or(0);
        let mut expected;
        match source.plan.steps.get(term.step) {
            Some(Step::Dense { weights, bias, .. }) => {
                let numbers = |array: u32| source.plan.numbers(source.envelope, array).ok_or_else(misfit);
                let weights = numbers(*weights)?;
                let outputs = weights.len().checked_div(term.width).unwrap_or(0);
                let mut reference = vec![0.0; term.width];
                for row in sample.chunks_exact(term.width.max(1)) {
                    reference.iter_mut().zip(row).for_each(|(sum, &x)| *sum += x);
                }
                if rows > 0 {
                    reference.iter_mut().for_each(|sum| *sum /= rows as f64);
                }
                expected = bias.map(numbers).transpose()?.unwrap_or_else(|| vec![0.0; outputs]);
                for (row, reference) in weights.chunks_exact(outputs.max(1)).zip(&reference) {
                    expected.iter_mut().zip(row).for_each(|(sum, weight)| *sum += weight * reference);
                }
                self.work(1, term.width.saturating_mul(term.parts.len()));
                term.how = How::Linear { weights, outputs, reference };
            }
            Some(Step::Trees(trees)) => {
                let ensemble = (source.ensemble)(trees).ok_or_else(misfit)?;
                let depth = ensemble.depth().ok_or_else(|| Unexplained {
                    message: "an ensemble has trees of more than 512 levels, or whose branches meet again"
                        .to_owned(),
                    hint: "train with a smaller depth",
                })?;
                let most = depth.min(self.columns);
                let targets = ensemble.targets;
                let nodes = ensemble.nodes.len();
                expected = vec![0.0; targets];
                if method == Method::PathDependent {
                    let covers: &[f32] =
                        trees.covers.and_then(|covers| source.singles(covers)).unwrap_or_default();
                    if !ensemble.fits_covers(covers) {
                        return Err(Problem::None(Unexplained {
                            message: "the covers of an ensemble weigh no branches".to_owned(),
                            hint: "package the model again from its ONNX file",
                        }));
                    }
                    ensemble.expect_paths(covers, &mut expected, &mut self.scratch);
                    self.work(nodes, most.saturating_mul(most).saturating_add(targets));
                    term.how = How::Paths { targets, rule: Quadrature::for_players(most) };
                } else {
                    for row in background.chunks_exact(term.width.max(1)) {
                        ensemble.expect_row(row, 1.0 / rows as f64, &mut expected);
                    }
                    ensemble.add_base(&mut expected);
                    self.work(nodes.saturating_mul(rows), targets.saturating_add(2));
                    term.how = How::Against {
                        targets,
                        counts: Counts::for_players(most),
                        background: Arc::clone(background),
                    };
                }
            }
            _ => return Err(misfit()),
        }
        for part in &term.parts {
            let expected = expected.get(part.component).ok_or_else(misfit)?;
            *self.base.get_mut(part.score).ok_or_else(misfit)? += part.factor * expected;
        }
        self.terms.push(term);
        Ok(())
    }

    fn work(&mut self, times: usize, operations: usize) {
        let all = u64::try_from(times.saturating_mul(operations)).unwrap_or(u64::MAX);
        self.operations = self.operations.saturating_add(all);
    }

    /// Whether it answers what is asked.
    pub fn answers(&self, asked: Contributions) -> bool {
        self.asked == asked
    }

    /// Checks that a request can be explained.
    #[inline(never)]
    pub fn check(&self, signature: &Signature, rows: usize) -> Result<(), Problem> {
        if let Some(output) =
            signature.outputs.iter().find(|output| [CONTRIBUTIONS, BASE].contains(&&*output.name))
        {
            return Err(Problem::None(Unexplained {
                message: format!("the model has an output `{}` of its own", output.name),
                hint: "export the model with another name for it",
            }));
        }
        let numbers = rows.saturating_mul(self.columns).saturating_mul(self.base.len());
        if numbers > MOST_CONTRIBUTIONS {
            return Err(Problem::TooLarge(
                format!(
                    "the request asks for {numbers} contributions, one answer may have {MOST_CONTRIBUTIONS}"
                ),
                "send the rows in several requests",
            ));
        }
        let operations = self.operations.saturating_mul(u64::try_from(rows).unwrap_or(u64::MAX));
        if operations > MOST_OPERATIONS {
            return Err(Problem::TooLarge(
                format!(
                    "the contributions of this request take up to {operations} operations, one request may take {MOST_OPERATIONS}"
                ),
                "send the rows in several requests, or package a smaller background",
            ));
        }
        Ok(())
    }

    /// Explains the rows whose values lie in the buffers.
    #[inline(never)]
    pub fn explain(&mut self, source: Source<'_>, read: &Read<'_>, rows: usize) -> Result<(), Problem> {
        let scores = self.base.len();
        let Self { columns, terms, scratch, local, contributions, .. } = self;
        let start = contributions.len();
        contributions.resize(start + rows * *columns * scores, 0.0);
        let out = contributions.get_mut(start..).ok_or(Problem::Misfit)?;
        for term in terms {
            let Ready { step, input, width, players, parts, how } = term;
            let values = read(*input).ok_or(Problem::Misfit)?;
            let ensemble = match source.plan.steps.get(*step) {
                Some(Step::Trees(trees)) => Some((trees, (source.ensemble)(trees).ok_or(Problem::Misfit)?)),
                _ => None,
            };
            for (row, out) in out.chunks_exact_mut((*columns * scores).max(1)).enumerate() {
                let range = row * *width..(row + 1) * *width;
                let targets = match (&mut *how, &ensemble) {
                    (How::Linear { weights, outputs, reference }, _) => {
                        for (column, &reference) in reference.iter().enumerate() {
                            let x = values.get(range.start + column).ok_or(Problem::Misfit)?;
                            let distance = x - reference;
                            let player = *players.get(column).ok_or(Problem::Misfit)? as usize;
                            for part in &*parts {
                                let weight =
                                    weights.get(column * *outputs + part.component).ok_or(Problem::Misfit)?;
                                let place =
                                    out.get_mut(player * scores + part.score).ok_or(Problem::Misfit)?;
                                *place += part.factor * (weight * distance);
                            }
                        }
                        continue;
                    }
                    (How::Paths { targets, rule }, Some((trees, ensemble))) => {
                        let Values::F32(values) = values else { return Err(Problem::Misfit) };
                        let covers =
                            trees.covers.and_then(|covers| source.singles(covers)).ok_or(Problem::Misfit)?;
                        local.clear();
                        local.resize(*columns * *targets, 0.0);
                        let row = values.get(range).ok_or(Problem::Misfit)?;
                        ensemble.explain_paths(covers, players, row, rule, local, scratch);
                        *targets
                    }
                    (How::Against { targets, counts, background }, Some((_, ensemble))) => {
                        let Values::F32(values) = values else { return Err(Problem::Misfit) };
                        local.clear();
                        local.resize(*columns * *targets, 0.0);
                        let row = values.get(range).ok_or(Problem::Misfit)?;
                        let weight = *width as f64 / background.len() as f64;
                        for other in background.chunks_exact((*width).max(1)) {
                            ensemble.explain_against(other, weight, players, row, counts, local, scratch);
                        }
                        *targets
                    }
                    _ => return Err(Problem::Misfit),
                };
                for (local, out) in local.chunks_exact(targets.max(1)).zip(out.chunks_exact_mut(scores)) {
                    for part in &*parts {
                        let contribution = local.get(part.component).ok_or(Problem::Misfit)?;
                        *out.get_mut(part.score).ok_or(Problem::Misfit)? += part.factor * contribution;
                    }
                }
            }
        }
        Ok(())
    }

    /// The contributions to all rows since the last call, and the base.
    #[inline(never)]
    pub fn tensors(&mut self, rows: usize) -> [Tensor; 2] {
        let size = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let (mut shape, mut base_shape) = (vec![size(rows), size(self.columns)], vec![size(rows)]);
        if self.base.len() > 1 {
            shape.push(size(self.base.len()));
            base_shape.push(size(self.base.len()));
        }
        let contributions = std::mem::take(&mut self.contributions);
        let mut base = Vec::with_capacity(rows.saturating_mul(self.base.len()));
        (0..rows).for_each(|_| base.extend_from_slice(&self.base));
        [tensor(CONTRIBUTIONS, shape, &contributions), tensor(BASE, base_shape, &base)]
    }
}

/// NaN in its one form.
fn tensor(name: &str, shape: Vec<i64>, values: &[f64]) -> Tensor {
    let mut data = Vec::with_capacity(values.len().saturating_mul(8));
    for value in values {
        let value = if value.is_nan() { f64::from_bits(0x7ff8 << 48) } else { *value };
        data.extend_from_slice(&value.to_le_bytes());
    }
    Tensor { name: name.to_owned(), datatype: Datatype::Fp64, shape, data }
}
