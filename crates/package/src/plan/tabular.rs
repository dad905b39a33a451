//! The plan of the tabular engine: steps over numbered values, each a matrix with one row per row of the request.
//!
//! Values are numbered: first the inputs, then what the steps write, each once. A step reads only values that earlier steps
//! wrote, so a plan cannot be cyclic. A value has a kind and a number of columns; its rows are the request's.
//! Everything that ONNX leaves to be worked out is settled when the plan is written: broadcasting, defaults, axes, which
//! branch a missing value takes.

use serde::Serialize;

use crate::packed::{Packed, packed_names, packed_structs};
use crate::{
    Datatype, Envelope, EnvelopeBuilder, MessagePackReader, SectionRange, Signature, UnexpectedMessagePack,
};

/// The newest version of tabular plans that this crate reads. It writes the oldest one that has all a plan needs.
pub const TABULAR_PLAN_VERSION: (u16, u16) = (1, 1);

/// The version of plans with neither covers nor a background, which came with 1.1.
const PLAIN_VERSION: (u16, u16) = (1, 0);

/// The most columns that a value can have.
pub const MOST_COLUMNS: u32 = 1 << 24;

const PLAN_SECTION: &str = "plan";

/// Why a tabular plan cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TabularPlanError {
    /// The plan is of a newer version.
    #[error(
        "the tabular plan has version {}.{}, this program reads versions up to {}.x; use a newer Lockgate",
        found.0, found.1, TABULAR_PLAN_VERSION.0
    )]
    NewerVersion {
        /// The plan's version.
        found: (u16, u16),
    },
    /// A section is missing or its bytes make no sense.
    #[error("the tabular plan is malformed: {problem}")]
    Malformed {
        /// What is wrong and where.
        problem: String,
    },
}

/// The steps of a tabular model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TabularPlan {
    version: (u16, u16),
    /// The kinds and widths of all values; the first ones are the inputs, in the order of the signature.
    pub values: Vec<Value>,
    /// How many of the values are inputs.
    pub inputs: u32,
    /// The constants, whose elements lie in sections of their own.
    pub arrays: Vec<Array>,
    /// Texts that [`Kind::Text`] values refer to by their index.
    pub texts: Vec<String>,
    /// What is computed, in order.
    pub steps: Vec<Step>,
    /// The values that are given back, in the order of the signature.
    pub outputs: Vec<u32>,
    /// Rows of the inputs, all their columns one behind the other, that contributions can be measured against; single or
    /// double precision. Since 1.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub background: Option<u32>,
    #[serde(skip)]
    sections: Vec<SectionRange>,
}

/// The form of a value: as many rows as the request, this many columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Value {
    /// The kind of its elements.
    pub kind: Kind,
    /// The number of columns, at least 1.
    pub columns: u32,
}

/// The kinds of elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum Kind {
    /// Single precision.
    F32,
    /// Double precision.
    F64,
    /// 64-bit integers.
    I64,
    /// 0 or 1.
    Bool,
    /// An index into the plan's texts.
    Text,
}

/// The form of a constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Array {
    /// The kind of its elements.
    pub kind: ArrayKind,
    /// The number of elements.
    pub len: u64,
}

/// The kinds of elements of a constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum ArrayKind {
    /// Single precision, 4 bytes.
    F32,
    /// Double precision, 8 bytes.
    F64,
    /// Unsigned integers, 4 bytes.
    U32,
    /// Tree nodes, 8 bytes: see [`Trees`].
    Node,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Step {
    /// Another kind of number.
    Cast {
        /// Read.
        input: u32,
        /// Written.
        output: u32,
        /// What happens to a double that no single-precision number equals.
        rounding: Rounding,
    },
    /// A function of each element.
    Unary {
        /// The function.
        function: Unary,
        /// Read.
        input: u32,
        /// Written; the same form.
        output: u32,
    },
    /// A function of two elements; an operand with one column goes with every column of the other.
    Binary {
        /// The function.
        function: Binary,
        /// Read first.
        left: Operand,
        /// Read second.
        right: Operand,
        /// Written.
        output: u32,
    },
    /// (x − offset) · scale, computed in the input's kind, given in single precision.
    Scale {
        /// Read; single or double precision.
        input: u32,
        /// Single precision, one element or one per column.
        offset: u32,
        /// Single precision, one element or one per column.
        scale: u32,
        /// Written; single precision.
        output: u32,
    },
    /// x · W + b.
    Dense {
        /// Read; K columns.
        input: u32,
        /// K rows of C elements, of the input's kind.
        weights: u32,
        /// C elements, of the input's kind.
        bias: Option<u32>,
        /// Written; C columns.
        output: u32,
    },
    /// The softmax of each row.
    Softmax {
        /// Read.
        input: u32,
        /// Written.
        output: u32,
    },
    /// Each row divided by its norm.
    Normalize {
        /// Which norm.
        norm: Norm,
        /// Read.
        input: u32,
        /// Written.
        output: u32,
    },
    /// Each row folded to one column.
    Reduce {
        /// How.
        reduction: Reduction,
        /// Read.
        input: u32,
        /// Written; one column.
        output: u32,
    },
    /// Each element moved between two bounds; NaN stays.
    Clip {
        /// The lower bound.
        low: f64,
        /// The upper bound.
        high: f64,
        /// Read.
        input: u32,
        /// Written.
        output: u32,
    },
    /// Elements that equal a marker replaced by a constant of their column.
    Impute {
        /// What is replaced; NaN means every NaN.
        marker: f32,
        /// Single precision, one element or one per column.
        replacement: u32,
        /// Read; single precision.
        input: u32,
        /// Written.
        output: u32,
    },
    /// Columns side by side.
    Concat {
        /// Read, from left to right; all of one kind.
        inputs: Vec<u32>,
        /// Written.
        output: u32,
    },
    /// Some columns in some order.
    Select {
        /// Read.
        input: u32,
        /// The columns.
        columns: Vec<u32>,
        /// Written.
        output: u32,
    },
    /// The index of each row's largest element, the first of equal ones.
    ArgMax {
        /// Read.
        input: u32,
        /// Written; one column of integers.
        output: u32,
    },
    /// 1 where the only column is greater than 0, else 0.
    IsPositive {
        /// Read; one column.
        input: u32,
        /// Written; one column of integers.
        output: u32,
    },
    /// The entry of a table with the index given by an integer.
    Lookup {
        /// Read; integers.
        input: u32,
        /// The table.
        table: Table,
        /// Written.
        output: u32,
    },
    /// Scores of a linear classifier as `ai.onnx.ml` transforms them.
    Transform {
        /// The transformation.
        transform: Transform,
        /// A single score becomes a score per class, the second class's being the given one.
        second_class: bool,
        /// Read; single precision.
        input: u32,
        /// Written; as wide, or two columns.
        output: u32,
    },
    /// An ensemble of trees.
    Trees(Box<Trees>),
}

/// What a step reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Operand {
    /// A value.
    Value(u32),
    /// A constant row: one element or one per column.
    Array(u32),
}

/// What becomes of a double that no single-precision number equals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Rounding {
    /// The nearest number.
    Nearest,
    /// The next greater number: x ≤ t keeps its truth for every single-precision t.
    Up,
    /// The next smaller number: x < t keeps its truth for every single-precision t.
    Down,
}

/// Functions of one element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[expect(missing_docs, reason = "named after the functions")]
pub enum Unary {
    Abs,
    Exp,
    Log,
    Logistic,
    Negate,
    /// Of a boolean.
    Not,
    Reciprocal,
    Relu,
    Sqrt,
    Tanh,
}

/// Functions of two elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[expect(missing_docs, reason = "named after the functions")]
pub enum Binary {
    Add,
    Subtract,
    Multiply,
    Divide,
}

/// Norms of a row, as the operator `Normalizer` knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum Norm {
    /// The largest element.
    Max,
    /// The sum of magnitudes.
    L1,
    /// The root of the sum of squares.
    L2,
}

/// Ways to fold a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[expect(missing_docs, reason = "named after the functions")]
pub enum Reduction {
    Sum,
    Mean,
    Product,
    Max,
    Min,
}

/// Entries that an index chooses from. A negative index counts from the end, as in ONNX.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Table {
    /// Integers.
    Integers(Vec<i64>),
    /// Indices into the plan's texts.
    Texts(Vec<u32>),
}

/// What `ai.onnx.ml` does to scores at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[expect(missing_docs, reason = "named as in the specification")]
pub enum Transform {
    None,
    Logistic,
    Softmax,
    SoftmaxZero,
    Probit,
}

/// An ensemble of trees.
///
/// A node is 8 bytes: a threshold in single precision and a link, whose bits from the lowest on are: 1 inner node; 1 a missing
/// value takes the first branch; 1 the test is x = threshold rather than x ≤ threshold; `feature_bits` the column; the rest the
/// distance to the node of the first branch. The second branch's node follows the first's. A leaf has a link of 0; its
/// threshold is its value when there is one score, else the bits of an index into `leaves`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trees {
    /// Read; single precision.
    pub input: u32,
    /// Written; single precision.
    pub scores: u32,
    /// Written: the index of the class; classifiers only.
    pub class: Option<u32>,
    /// The nodes of all trees.
    pub nodes: u32,
    /// The index of each tree's root, [`ArrayKind::U32`].
    pub roots: u32,
    /// Bits of a link that hold the column.
    pub feature_bits: u32,
    /// Whether a node tests for equality.
    pub tests_equality: bool,
    /// Whether a node sends missing values to its first branch.
    pub tracks_missing: bool,
    /// Sums are computed in double precision, as onnxruntime does when the model's input is double.
    pub wide: bool,
    /// What the leaves hold.
    pub leaves: Leaves,
    /// How many scores the trees vote for.
    pub targets: u32,
    /// How votes are put together.
    pub aggregate: Aggregate,
    /// What is added to the scores: nothing, or one number per target.
    pub base: Vec<f32>,
    /// What happens to the scores at the end.
    pub transform: Transform,
    /// How scores choose a class; absent for regressors.
    pub choice: Option<Choice>,
    /// How many rows of the training set, or what weight of them, came to each node; single precision. Since 1.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub covers: Option<u32>,
}

/// What the leaves of an ensemble hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Leaves {
    /// One vote for the only target, in the node itself.
    One,
    /// A vote for every target: rows of `targets` single-precision numbers.
    Dense {
        /// The rows.
        weights: u32,
    },
    /// Votes for some targets: leaf `i` holds the votes from `starts[i]` up to `starts[i + 1]`.
    Sparse {
        /// One more than there are leaves, [`ArrayKind::U32`].
        starts: u32,
        /// The targets voted for, [`ArrayKind::U32`].
        targets: u32,
        /// The votes, single precision.
        weights: u32,
    },
}

/// How the votes of the trees are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[expect(missing_docs, reason = "named as in the specification")]
pub enum Aggregate {
    Sum,
    Average,
    Min,
    Max,
}

/// How the scores of a tree classifier choose a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum Choice {
    /// Two classes, votes for one: a single score, which becomes two. The second class is chosen by a score over ½ when all
    /// votes are positive or zero, else by a score over 0.
    Single {
        /// No vote is negative.
        positive: bool,
    },
    /// Two classes with a score each, of which only the second is voted for; chosen like [`Choice::Single`].
    Second {
        /// No vote is negative.
        positive: bool,
    },
    /// Two classes, votes for both: the second is chosen by a score over 0.
    Both,
    /// The largest score among the classes that got a vote, the first of equal ones.
    Largest,
}

impl TabularPlan {
    /// A plan of the newest version.
    pub fn new(
        inputs: u32,
        values: Vec<Value>,
        arrays: Vec<Array>,
        texts: Vec<String>,
        steps: Vec<Step>,
        outputs: Vec<u32>,
    ) -> Self {
        let covers = steps.iter().any(|step| matches!(step, Step::Trees(trees) if trees.covers.is_some()));
        Self {
            version: if covers { TABULAR_PLAN_VERSION } else { PLAIN_VERSION },
            values,
            inputs,
            arrays,
            texts,
            steps,
            outputs,
            background: None,
            sections: Vec::new(),
        }
    }

    /// The plan with a background: an array of rows of the inputs, all their columns one behind the other.
    #[must_use]
    pub fn with_background(mut self, array: Array) -> Self {
        self.version = TABULAR_PLAN_VERSION;
        self.background = u32::try_from(self.arrays.len()).ok();
        self.arrays.push(array);
        self
    }

    /// Columns of all inputs together.
    #[inline(never)]
    pub fn input_columns(&self) -> u64 {
        self.values.iter().take(self.inputs as usize).map(|value| u64::from(value.columns)).sum()
    }

    /// Adds the plan and the arrays' bytes, in the order of [`TabularPlan::arrays`], to an envelope.
    ///
    /// # Errors
    /// A plan that contradicts itself, or arrays of other lengths than it says.
    pub fn write(
        &self,
        arrays: Vec<Vec<u8>>,
        envelope: &mut EnvelopeBuilder,
    ) -> Result<(), TabularPlanError> {
        self.check()?;
        let plan = rmp_serde::to_vec_named(self).map_err(|error| malformed(error.to_string()))?;
        if arrays.len() != self.arrays.len() {
            return Err(malformed(format!(
                "{} arrays are declared, {} are there",
                self.arrays.len(),
                arrays.len()
            )));
        }
        envelope.section(PLAN_SECTION, plan);
        for (index, (array, bytes)) in self.arrays.iter().zip(arrays).enumerate() {
            if array.byte_len() != Some(bytes.len()) {
                return Err(malformed(format!(
                    "array {index} has {} bytes, not what it declares",
                    bytes.len()
                )));
            }
            envelope.section(format!("array/{index}"), bytes);
        }
        Ok(())
    }

    /// Reads the plan of an envelope and checks that steps, values and arrays fit together. What lies in the arrays is
    /// checked by the engine, which knows how it uses them.
    ///
    /// # Errors
    /// A newer version, a missing section, or a plan that contradicts itself.
    #[inline(never)]
    pub fn read(envelope: &Envelope) -> Result<Self, TabularPlanError> {
        let section = envelope
            .section(PLAN_SECTION)
            .ok_or_else(|| malformed("there is no section `plan`".to_owned()))?;
        let bytes = envelope.bytes_of(section);
        let unreadable = |error: UnexpectedMessagePack| malformed(error.to_string());
        let Version { version } = Packed::read(&mut MessagePackReader::new(bytes)).map_err(unreadable)?;
        if version.0 > TABULAR_PLAN_VERSION.0 {
            return Err(TabularPlanError::NewerVersion { found: version });
        }
        let mut plan: Self = Packed::read(&mut MessagePackReader::new(bytes)).map_err(unreadable)?;
        plan.check()?;
        plan.sections = envelope
            .arrays(PLAN_SECTION, plan.arrays.len())
            .map_err(|name| malformed(format!("there is no section `{name}` in its place")))?;
        for (index, (array, section)) in plan.arrays.iter().zip(&plan.sections).enumerate() {
            if array.byte_len() != Some(section.len) {
                return Err(malformed(format!(
                    "section `array/{index}` has {} bytes, not what the plan says",
                    section.len
                )));
            }
        }
        Ok(plan)
    }

    /// Where the elements of an array lie in the envelope that the plan was read from.
    pub fn array_section(&self, array: u32) -> Option<SectionRange> {
        self.sections.get(usize::try_from(array).ok()?).copied()
    }

    /// The elements of an array of numbers, in the envelope that the plan was read from.
    pub fn numbers(&self, envelope: &Envelope, array: u32) -> Option<Vec<f64>> {
        let form = self.arrays.get(usize::try_from(array).ok()?)?;
        form.numbers(envelope.bytes_of(self.array_section(array)?))
    }

    /// Checks that the inputs and outputs are those that a signature declares.
    ///
    /// # Errors
    /// Another number, kind or width.
    #[inline(never)]
    pub fn check_signature(&self, signature: &Signature) -> Result<(), TabularPlanError> {
        let inputs = 0..self.inputs;
        if signature.inputs.len() != inputs.len() || signature.outputs.len() != self.outputs.len() {
            return Err(malformed("it has other inputs or outputs than the signature".to_owned()));
        }
        for (spec, value) in signature.inputs.iter().zip(inputs) {
            let value = self.value(value)?;
            let fits = match spec.shape.as_slice() {
                [_, columns] => *columns == i64::from(value.columns),
                _ => false,
            };
            if !fits || !value.kind.is_carried_by(spec.datatype) {
                return Err(malformed(format!("input `{}` is declared in another form", spec.name)));
            }
        }
        for (spec, &value) in signature.outputs.iter().zip(&self.outputs) {
            let value = self.value(value)?;
            let rest: Option<i64> = spec.shape.get(1..).and_then(|rest| {
                rest.iter()
                    .try_fold(1_i64, |product, &dim| if dim < 1 { None } else { product.checked_mul(dim) })
            });
            let fits = rest.is_some_and(|rest| i64::from(value.columns) % rest == 0);
            if !fits || !value.kind.is_carried_by(spec.datatype) {
                return Err(malformed(format!("output `{}` is declared in another form", spec.name)));
            }
        }
        Ok(())
    }

    /// Bytes of working memory that one row takes, an upper bound.
    pub fn memory_per_row(&self) -> u64 {
        self.values.iter().map(|value| u64::from(value.columns) * value.kind.size()).sum()
    }

    /// Checks everything about the plan that does not need the arrays' elements.
    #[inline(never)]
    fn check(&self) -> Result<(), TabularPlanError> {
        for (index, value) in self.values.iter().enumerate() {
            if value.columns == 0 || value.columns > MOST_COLUMNS {
                return Err(malformed(format!("value {index} has {} columns", value.columns)));
            }
        }
        let mut written = vec![false; self.values.len()];
        let inputs = usize::try_from(self.inputs).ok().and_then(|inputs| written.get_mut(..inputs));
        inputs.ok_or_else(|| malformed("there are fewer values than inputs".to_owned()))?.fill(true);
        for (index, step) in self.steps.iter().enumerate() {
            let in_step = |problem: String| malformed(format!("step {index}: {problem}"));
            for value in step.reads() {
                if !written.get(value as usize).is_some_and(|&written| written) {
                    return Err(in_step(format!("value {value} is read before it is written")));
                }
            }
            for value in step.writes() {
                match written.get_mut(value as usize) {
                    Some(written) if !*written => *written = true,
                    _ => return Err(in_step(format!("value {value} is written twice or does not exist"))),
                }
            }
            let problem = match self.check_step(step) {
                Ok(None) => continue,
                Ok(Some(problem)) => problem.to_owned(),
                Err(TabularPlanError::Malformed { problem }) => problem,
                Err(other) => return Err(other),
            };
            return Err(in_step(problem));
        }
        for &output in &self.outputs {
            if !written.get(output as usize).is_some_and(|&written| written) {
                return Err(malformed(format!("output value {output} is never written")));
            }
        }
        if let Some(background) = self.background {
            let Array { kind, len } = self.array(background)?;
            let columns = self.input_columns();
            let is_rows = len > 0 && columns > 0 && len.is_multiple_of(columns);
            if !is_rows || !matches!(kind, ArrayKind::F32 | ArrayKind::F64) {
                return Err(malformed("the background is no rows of the inputs".to_owned()));
            }
        }
        Ok(())
    }

    /// What is wrong with the forms that a step reads and writes.
    #[inline(never)]
    fn check_step(&self, step: &Step) -> Result<Option<&'static str>, TabularPlanError> {
        let require = |ok: bool, problem: &'static str| if ok { None } else { Some(problem) };
        Ok(match step {
            Step::Cast { input, output, rounding } => {
                let (from, to) = (self.value(*input)?, self.value(*output)?);
                let rounds =
                    *rounding == Rounding::Nearest || (from.kind == Kind::F64 && to.kind == Kind::F32);
                let numbers = from.kind != Kind::Text && to.kind != Kind::Text;
                require(numbers && rounds && from.columns == to.columns, "the forms of a cast do not fit")
            }
            Step::Unary { function, input, output } => {
                let (from, to) = (self.value(*input)?, self.value(*output)?);
                let kind =
                    if *function == Unary::Not { from.kind == Kind::Bool } else { from.kind.is_float() };
                require(kind && from == to, "the forms of a unary function do not fit")
            }
            Step::Binary { left, right, output, .. } => {
                let to = self.value(*output)?;
                let (left, right) = (self.operand(*left)?, self.operand(*right)?);
                let broadcasts =
                    |operand: Value| operand.kind == to.kind && [1, to.columns].contains(&operand.columns);
                let widest = left.columns.max(right.columns) == to.columns;
                require(
                    to.kind.is_float() && broadcasts(left) && broadcasts(right) && widest,
                    "the forms of a binary function do not fit",
                )
            }
            Step::Scale { input, offset, scale, output } => {
                let (from, to) = (self.value(*input)?, self.value(*output)?);
                let row = |array: Array| array.is_row(ArrayKind::F32, from.columns);
                let rows = row(self.array(*offset)?) && row(self.array(*scale)?);
                require(
                    from.kind.is_float() && to == Value { kind: Kind::F32, ..from } && rows,
                    "the forms of a scaler do not fit",
                )
            }
            Step::Dense { input, weights, bias, output } => {
                let (from, to) = (self.value(*input)?, self.value(*output)?);
                let weights = self.array(*weights)?;
                let kind = from.kind.array_kind();
                let len = u64::from(from.columns) * u64::from(to.columns);
                let bias = match bias {
                    Some(bias) => {
                        let bias = self.array(*bias)?;
                        Some(bias.kind) == kind && bias.len == u64::from(to.columns)
                    }
                    None => true,
                };
                require(
                    from.kind.is_float()
                        && to.kind == from.kind
                        && Some(weights.kind) == kind
                        && weights.len == len
                        && bias,
                    "the forms of a dense layer do not fit",
                )
            }
            Step::Softmax { input, output }
            | Step::Clip { input, output, .. }
            | Step::Normalize { input, output, .. } => {
                let (from, to) = (self.value(*input)?, self.value(*output)?);
                require(from.kind.is_float() && from == to, "the forms of a row function do not fit")
            }
            Step::Reduce { input, output, .. } => {
                let (from, to) = (self.value(*input)?, self.value(*output)?);
                let fits = from.kind.is_float() && to == Value { kind: from.kind, columns: 1 };
                require(fits, "the forms of a reduction do not fit")
            }
            Step::Impute { replacement, input, output, .. } => {
                let (from, to) = (self.value(*input)?, self.value(*output)?);
                let row = self.array(*replacement)?.is_row(ArrayKind::F32, from.columns);
                require(from.kind == Kind::F32 && from == to && row, "the forms of an imputer do not fit")
            }
            Step::Concat { inputs, output } => {
                let to = self.value(*output)?;
                let mut columns = 0_u64;
                let mut same = true;
                for &input in inputs {
                    let from = self.value(input)?;
                    columns += u64::from(from.columns);
                    same &= from.kind == to.kind;
                }
                require(same && columns == u64::from(to.columns), "the forms of a concatenation do not fit")
            }
            Step::Select { input, columns, output } => {
                let (from, to) = (self.value(*input)?, self.value(*output)?);
                let inside = columns.iter().all(|&column| column < from.columns);
                let fits = inside && from.kind == to.kind && columns.len() == to.columns as usize;
                require(fits, "the forms of a selection do not fit")
            }
            Step::ArgMax { input, output } | Step::IsPositive { input, output } => {
                let (from, to) = (self.value(*input)?, self.value(*output)?);
                let narrow = matches!(step, Step::ArgMax { .. }) || from.columns == 1;
                let fits = from.kind.is_float() && to == Value { kind: Kind::I64, columns: 1 } && narrow;
                require(fits, "the forms of a choice do not fit")
            }
            Step::Lookup { input, table, output } => {
                let (from, to) = (self.value(*input)?, self.value(*output)?);
                let fits = match table {
                    Table::Integers(entries) => to.kind == Kind::I64 && !entries.is_empty(),
                    Table::Texts(entries) => {
                        let known = |&text: &u32| (text as usize) < self.texts.len();
                        to.kind == Kind::Text && !entries.is_empty() && entries.iter().all(known)
                    }
                };
                require(
                    fits && from.kind == Kind::I64 && from.columns == to.columns,
                    "the forms of a table do not fit",
                )
            }
            Step::Transform { second_class, input, output, .. } => {
                let (from, to) = (self.value(*input)?, self.value(*output)?);
                let columns = if *second_class { from.columns == 1 && to.columns == 2 } else { from == to };
                let fits = columns && from.kind == Kind::F32 && to.kind == Kind::F32;
                require(fits, "the forms of a score transformation do not fit")
            }
            Step::Trees(trees) => self.check_trees(trees)?,
        })
    }

    #[inline(never)]
    fn check_trees(&self, trees: &Trees) -> Result<Option<&'static str>, TabularPlanError> {
        let (from, scores) = (self.value(trees.input)?, self.value(trees.scores)?);
        if from.kind != Kind::F32 || scores.kind != Kind::F32 {
            return Ok(Some("an ensemble reads and writes single precision"));
        }
        if trees.feature_bits > 29 || (from.columns - 1).checked_shr(trees.feature_bits).unwrap_or(0) != 0 {
            return Ok(Some("the columns of an ensemble's input do not fit its links"));
        }
        let roots = self.array(trees.roots)?;
        if self.array(trees.nodes)?.kind != ArrayKind::Node || roots.kind != ArrayKind::U32 || roots.len == 0
        {
            return Ok(Some("an ensemble needs nodes and roots"));
        }
        let targets = trees.targets;
        let leaves = match trees.leaves {
            Leaves::One => targets == 1,
            Leaves::Dense { weights } => {
                let weights = self.array(weights)?;
                targets > 0
                    && weights.kind == ArrayKind::F32
                    && weights.len.is_multiple_of(u64::from(targets))
            }
            Leaves::Sparse { starts, targets: voted, weights } => {
                let (starts, voted, weights) =
                    (self.array(starts)?, self.array(voted)?, self.array(weights)?);
                starts.kind == ArrayKind::U32
                    && starts.len > 0
                    && voted.kind == ArrayKind::U32
                    && weights.kind == ArrayKind::F32
                    && voted.len == weights.len
            }
        };
        if !leaves || targets == 0 || targets > MOST_COLUMNS {
            return Ok(Some("the leaves of an ensemble do not fit its targets"));
        }
        if let Some(covers) = trees.covers {
            let covers = self.array(covers)?;
            if covers.kind != ArrayKind::F32 || covers.len != self.array(trees.nodes)?.len {
                return Ok(Some("an ensemble has other covers than nodes"));
            }
        }
        if !trees.base.is_empty() && trees.base.len() != targets as usize {
            return Ok(Some("an ensemble has another number of base values than targets"));
        }
        let columns = match trees.choice {
            Some(Choice::Single { .. }) => targets == 1 && scores.columns == 2,
            Some(Choice::Second { .. } | Choice::Both) => targets == 2 && scores.columns == 2,
            Some(Choice::Largest) | None => targets == scores.columns,
        };
        let class = match (trees.choice, trees.class) {
            (Some(_), Some(class)) => self.value(class)? == Value { kind: Kind::I64, columns: 1 },
            (None, None) => true,
            _ => false,
        };
        let sums = trees.choice.is_none() || trees.aggregate == Aggregate::Sum;
        Ok(if columns && class && sums {
            None
        } else {
            Some("the scores of an ensemble do not fit its targets")
        })
    }

    fn value(&self, value: u32) -> Result<Value, TabularPlanError> {
        let found = self.values.get(value as usize).copied();
        found.ok_or_else(|| malformed(format!("value {value} does not exist")))
    }

    fn array(&self, array: u32) -> Result<Array, TabularPlanError> {
        let found = self.arrays.get(array as usize).copied();
        found.ok_or_else(|| malformed(format!("array {array} does not exist")))
    }

    fn operand(&self, operand: Operand) -> Result<Value, TabularPlanError> {
        match operand {
            Operand::Value(value) => self.value(value),
            Operand::Array(array) => {
                let Array { kind, len } = self.array(array)?;
                let kind = match kind {
                    ArrayKind::F32 => Kind::F32,
                    ArrayKind::F64 => Kind::F64,
                    _ => return Err(malformed(format!("array {array} holds no numbers"))),
                };
                Ok(Value { kind, columns: u32::try_from(len).unwrap_or(0) })
            }
        }
    }
}

impl Step {
    /// The step's name, `Dense`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Cast { .. } => "Cast",
            Self::Unary { .. } => "Unary",
            Self::Binary { .. } => "Binary",
            Self::Scale { .. } => "Scale",
            Self::Dense { .. } => "Dense",
            Self::Softmax { .. } => "Softmax",
            Self::Normalize { .. } => "Normalize",
            Self::Reduce { .. } => "Reduce",
            Self::Clip { .. } => "Clip",
            Self::Impute { .. } => "Impute",
            Self::Concat { .. } => "Concat",
            Self::Select { .. } => "Select",
            Self::ArgMax { .. } => "ArgMax",
            Self::IsPositive { .. } => "IsPositive",
            Self::Lookup { .. } => "Lookup",
            Self::Transform { .. } => "Transform",
            Self::Trees(_) => "Trees",
        }
    }

    /// The values that the step reads.
    pub fn reads(&self) -> Vec<u32> {
        let value = |operand: &Operand| match operand {
            Operand::Value(value) => Some(*value),
            Operand::Array(_) => None,
        };
        match self {
            Self::Binary { left, right, .. } => value(left).into_iter().chain(value(right)).collect(),
            Self::Concat { inputs, .. } => inputs.clone(),
            Self::Trees(trees) => vec![trees.input],
            Self::Cast { input, .. }
            | Self::Unary { input, .. }
            | Self::Scale { input, .. }
            | Self::Dense { input, .. }
            | Self::Softmax { input, .. }
            | Self::Normalize { input, .. }
            | Self::Reduce { input, .. }
            | Self::Clip { input, .. }
            | Self::Impute { input, .. }
            | Self::Select { input, .. }
            | Self::ArgMax { input, .. }
            | Self::IsPositive { input, .. }
            | Self::Lookup { input, .. }
            | Self::Transform { input, .. } => vec![*input],
        }
    }

    /// The values that the step writes.
    pub fn writes(&self) -> Vec<u32> {
        match self {
            Self::Trees(trees) => std::iter::once(trees.scores).chain(trees.class).collect(),
            Self::Cast { output, .. }
            | Self::Unary { output, .. }
            | Self::Binary { output, .. }
            | Self::Scale { output, .. }
            | Self::Dense { output, .. }
            | Self::Softmax { output, .. }
            | Self::Normalize { output, .. }
            | Self::Reduce { output, .. }
            | Self::Clip { output, .. }
            | Self::Impute { output, .. }
            | Self::Concat { output, .. }
            | Self::Select { output, .. }
            | Self::ArgMax { output, .. }
            | Self::IsPositive { output, .. }
            | Self::Lookup { output, .. }
            | Self::Transform { output, .. } => vec![*output],
        }
    }
}

impl Kind {
    /// Whether it is a floating-point kind.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64)
    }

    /// Bytes per element in working memory.
    pub fn size(self) -> u64 {
        match self {
            Self::F32 | Self::Text => 4,
            Self::F64 | Self::I64 => 8,
            Self::Bool => 1,
        }
    }

    /// Whether tensors of this datatype carry values of this kind in and out.
    pub fn is_carried_by(self, datatype: Datatype) -> bool {
        match self {
            Self::F32 => datatype == Datatype::Fp32,
            Self::F64 => datatype == Datatype::Fp64,
            Self::I64 => matches!(datatype, Datatype::Int64 | Datatype::Int32),
            Self::Bool => datatype == Datatype::Bool,
            Self::Text => datatype == Datatype::Bytes,
        }
    }

    fn array_kind(self) -> Option<ArrayKind> {
        match self {
            Self::F32 => Some(ArrayKind::F32),
            Self::F64 => Some(ArrayKind::F64),
            _ => None,
        }
    }
}

impl Array {
    fn byte_len(self) -> Option<usize> {
        let size = match self.kind {
            ArrayKind::F32 | ArrayKind::U32 => 4,
            ArrayKind::F64 | ArrayKind::Node => 8,
        };
        usize::try_from(self.len).ok()?.checked_mul(size)
    }

    /// The elements in double precision, of an array of numbers.
    pub fn numbers(self, bytes: &[u8]) -> Option<Vec<f64>> {
        match self.kind {
            ArrayKind::F32 => {
                Some(bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes).into()).collect())
            }
            ArrayKind::F64 => {
                Some(bytes.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect())
            }
            ArrayKind::U32 | ArrayKind::Node => None,
        }
    }

    fn is_row(self, kind: ArrayKind, columns: u32) -> bool {
        self.kind == kind && (self.len == 1 || self.len == u64::from(columns))
    }
}

fn malformed(problem: String) -> TabularPlanError {
    TabularPlanError::Malformed { problem }
}

/// The one field that every version of a plan has.
struct Version {
    version: (u16, u16),
}

packed_structs! {
    Version { version }
    TabularPlan { version, values, inputs, arrays, texts, steps, outputs, background; sections }
    Value { kind, columns }
    Array { kind, len }
    Trees {
        input, scores, class, nodes, roots, feature_bits, tests_equality, tracks_missing, wide, leaves, targets, aggregate,
        base, transform, choice, covers,
    }
}

packed_names! {
    Kind { F32, F64, I64, Bool, Text }
    ArrayKind { F32, F64, U32, Node }
    Rounding { Nearest, Up, Down }
    Unary { Abs, Exp, Log, Logistic, Negate, Not, Reciprocal, Relu, Sqrt, Tanh }
    Binary { Add, Subtract, Multiply, Divide }
    Norm { Max, L1, L2 }
    Reduction { Sum, Mean, Product, Max, Min }
    Transform { None, Logistic, Softmax, SoftmaxZero, Probit }
    Aggregate { Sum, Average, Min, Max }
}

/// Enums whose variants hold something: a map from the variant's name to its fields, or the name of one that holds nothing.
macro_rules! packed_enums {
    ($($type:ident {
        $($variant:ident { $($field:ident),* })*
        $(; $($single:ident($held:ty)),*)?
        $(; ; $($bare:ident),*)?
    })*) => {$(
        impl Packed for $type {
            fn read(reader: &mut MessagePackReader<'_>) -> Result<Self, UnexpectedMessagePack> {
                $($(
                    let mut ahead = *reader;
                    if ahead.text() == Ok(stringify!($bare)) {
                        *reader = ahead;
                        return Ok(Self::$bare);
                    }
                )*)?
                if reader.map()? != 1 {
                    return Err(UnexpectedMessagePack);
                }
                enum Name { $($variant,)* $($($single,)*)? }
                match reader.one_of(&[$(stringify!($variant),)* $($(stringify!($single),)*)?])? {
                    $(at if at == Name::$variant as usize => {
                        #[expect(non_camel_case_types, reason = "the fields' names")]
                        enum Field { $($field),* }
                        $(let mut $field = None;)*
                        for _ in 0..reader.map()? {
                            match reader.one_of(&[$(stringify!($field)),*])? {
                                $(at if at == Field::$field as usize => $field = Some(Packed::read(reader)?),)*
                                _ => reader.skip()?,
                            }
                        }
                        Ok(Self::$variant {
                            $($field: match $field {
                                Some(value) => value,
                                None => Packed::absent()?,
                            },)*
                        })
                    })*
                    $($(at if at == Name::$single as usize => Ok(Self::$single(<$held as Packed>::read(reader)?)),)*)?
                    _ => Err(UnexpectedMessagePack),
                }
            }
        }
    )*};
}

packed_enums! {
    Step {
        Cast { input, output, rounding }
        Unary { function, input, output }
        Binary { function, left, right, output }
        Scale { input, offset, scale, output }
        Dense { input, weights, bias, output }
        Softmax { input, output }
        Normalize { norm, input, output }
        Reduce { reduction, input, output }
        Clip { low, high, input, output }
        Impute { marker, replacement, input, output }
        Concat { inputs, output }
        Select { input, columns, output }
        ArgMax { input, output }
        IsPositive { input, output }
        Lookup { input, table, output }
        Transform { transform, second_class, input, output }
        ; Trees(Box<Trees>)
    }
    Operand { ; Value(u32), Array(u32) }
    Table { ; Integers(Vec<i64>), Texts(Vec<u32>) }
    Leaves {
        Dense { weights }
        Sparse { starts, targets, weights }
        ; ; One
    }
    Choice {
        Single { positive }
        Second { positive }
        ; ; Both, Largest
    }
}

impl Packed for Box<Trees> {
    fn read(reader: &mut MessagePackReader<'_>) -> Result<Self, UnexpectedMessagePack> {
        Trees::read(reader).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AlignedBytes, Kind as EnvelopeKind};

    /// A plan with every kind of step.
    fn everything() -> (TabularPlan, Vec<Vec<u8>>) {
        let form = |kind, columns| Value { kind, columns };
        let mut values = vec![form(Kind::F32, 2), form(Kind::F64, 2)];
        let mut steps = Vec::new();
        let mut add = |kind, columns, step: &dyn Fn(u32) -> Step| {
            values.push(form(kind, columns));
            let output = u32::try_from(values.len() - 1).unwrap();
            steps.push(step(output));
            output
        };
        add(Kind::F32, 2, &|output| Step::Cast { input: 1, output, rounding: Rounding::Up });
        add(Kind::F32, 2, &|output| Step::Unary { function: Unary::Tanh, input: 0, output });
        let (left, right) = (Operand::Value(0), Operand::Array(0));
        add(Kind::F32, 2, &|output| Step::Binary { function: Binary::Divide, left, right, output });
        add(Kind::F32, 2, &|output| Step::Scale { input: 1, offset: 0, scale: 0, output });
        let score = add(Kind::F32, 1, &|output| Step::Dense { input: 0, weights: 0, bias: None, output });
        add(Kind::F32, 2, &|output| Step::Softmax { input: 0, output });
        add(Kind::F32, 2, &|output| Step::Normalize { norm: Norm::L2, input: 0, output });
        add(Kind::F64, 1, &|output| Step::Reduce { reduction: Reduction::Mean, input: 1, output });
        add(Kind::F32, 2, &|output| Step::Clip { low: -1.0, high: f64::INFINITY, input: 0, output });
        add(Kind::F32, 2, &|output| Step::Impute { marker: -0.5, replacement: 0, input: 0, output });
        add(Kind::F32, 4, &|output| Step::Concat { inputs: vec![0, 0], output });
        add(Kind::F32, 1, &|output| Step::Select { input: 0, columns: vec![1], output });
        let index = add(Kind::I64, 1, &|output| Step::ArgMax { input: 0, output });
        add(Kind::I64, 1, &|output| Step::IsPositive { input: score, output });
        add(Kind::I64, 1, &|output| Step::Lookup {
            input: index,
            table: Table::Integers(vec![-7, 1 << 40]),
            output,
        });
        add(Kind::Text, 1, &|output| Step::Lookup { input: index, table: Table::Texts(vec![1, 0]), output });
        add(Kind::F32, 2, &|output| Step::Transform {
            transform: Transform::SoftmaxZero,
            second_class: true,
            input: score,
            output,
        });
        for (leaves, targets, choice) in [
            (Leaves::One, 1, Some(Choice::Single { positive: true })),
            (Leaves::Dense { weights: 0 }, 2, Some(Choice::Both)),
            (Leaves::Sparse { starts: 2, targets: 2, weights: 0 }, 2, None),
        ] {
            let class = choice.map(|_| {
                values.push(form(Kind::I64, 1));
                u32::try_from(values.len() - 1).unwrap()
            });
            values.push(form(Kind::F32, 2));
            steps.push(Step::Trees(Box::new(Trees {
                input: 0,
                scores: u32::try_from(values.len() - 1).unwrap(),
                class,
                nodes: 1,
                roots: 2,
                feature_bits: 1,
                tests_equality: false,
                tracks_missing: true,
                wide: false,
                leaves,
                targets,
                aggregate: Aggregate::Sum,
                base: vec![0.1; targets as usize],
                transform: Transform::None,
                choice,
                covers: choice.is_none().then_some(3),
            })));
        }
        let array = |kind, len| Array { kind, len };
        let arrays = vec![
            array(ArrayKind::F32, 2),
            array(ArrayKind::Node, 1),
            array(ArrayKind::U32, 2),
            array(ArrayKind::F32, 1),
        ];
        let texts = vec!["down".to_owned(), "up".to_owned()];
        let bytes = vec![vec![0; 8], vec![0; 8], vec![0; 8], vec![0; 4], vec![0; 32]];
        let plan = TabularPlan::new(2, values, arrays, texts, steps, vec![score, index]);
        (plan.with_background(array(ArrayKind::F64, 4)), bytes)
    }

    fn sealed(plan: &TabularPlan, arrays: Vec<Vec<u8>>) -> Result<Envelope, TabularPlanError> {
        let mut builder = EnvelopeBuilder::new(EnvelopeKind::Package, (1, 0), Vec::new());
        plan.write(arrays, &mut builder)?;
        let bytes = AlignedBytes::copy_of(&builder.seal().unwrap());
        Ok(Envelope::open(bytes, EnvelopeKind::Package, (1, 0)).unwrap())
    }

    #[test]
    fn every_step_comes_back() {
        let (plan, arrays) = everything();
        let mut read = TabularPlan::read(&sealed(&plan, arrays).unwrap()).unwrap();
        assert_eq!(read.array_section(1).unwrap().len, 8);
        read.sections.clear();
        assert_eq!(read, plan);
    }

    #[test]
    fn plans_that_contradict_themselves_are_refused() {
        let check = |change: fn(&mut TabularPlan), want: &str| {
            let (mut plan, arrays) = everything();
            change(&mut plan);
            let problem = sealed(&plan, arrays).unwrap_err().to_string();
            assert!(problem.contains(want), "expected `{want}` in: {problem}");
        };
        check(|plan| plan.inputs = 1, "value 1 is read before it is written");
        check(|plan| plan.inputs = 99, "fewer values than inputs");
        check(|plan| plan.steps.swap(12, 14), "is read before it is written");
        check(|plan| plan.steps.push(plan.steps[0].clone()), "written twice");
        check(|plan| plan.outputs.push(99), "output value 99 is never written");
        check(|plan| plan.values[0].columns = 0, "value 0 has 0 columns");
        check(|plan| plan.values[2].columns = 3, "step 0: the forms of a cast do not fit");
        check(|plan| plan.arrays[0].len = 3, "do not fit");
        check(|plan| plan.arrays[4].len = 8, "array 4 has 32 bytes");
        check(|plan| plan.texts.clear(), "the forms of a table do not fit");
        check(|plan| plan.arrays[3].len = 2, "an ensemble has other covers than nodes");
        check(|plan| plan.arrays[4].len = 3, "the background is no rows of the inputs");
    }

    #[test]
    fn plans_without_covers_or_background_are_as_they_were() {
        let (plan, _) = everything();
        assert_eq!(plan.version, (1, 1));
        let steps: Vec<Step> = plan
            .steps
            .into_iter()
            .filter(|step| !matches!(step, Step::Trees(trees) if trees.covers.is_some()))
            .collect();
        let plain = TabularPlan::new(2, plan.values, plan.arrays, plan.texts, steps, plan.outputs);
        assert_eq!(plain.version, (1, 0));
        let bytes = rmp_serde::to_vec_named(&plain).unwrap();
        let holds = |word: &str| bytes.windows(word.len()).any(|window| window == word.as_bytes());
        assert!(!holds("covers") && !holds("background"));
    }

    #[test]
    fn newer_plans_say_so() {
        let (mut plan, arrays) = everything();
        plan.version = (2, 1);
        let error = TabularPlan::read(&sealed(&plan, arrays).unwrap()).unwrap_err();
        let want =
            "the tabular plan has version 2.1, this program reads versions up to 1.x; use a newer Lockgate";
        assert_eq!(error.to_string(), want);
    }
}
