//! The plan of the graph engine: a closed list of tensor operators in the order they run.
//!
//! Values are numbered: first the inputs, then the arrays (weights), then the results of the nodes, node by node. A node
//! reads only values with smaller numbers, so a plan cannot be cyclic. Everything that ONNX leaves to be worked out is
//! settled when the plan is written: axes count from the front, shapes are known up to the free dimensions, layouts are
//! fixed (recurrent cells are time-major, weights lie transposed), and what an attribute defaults to is written out.
//!
//! [`GraphPlan::facts`] is the one place that knows which shapes and datatypes an operator accepts and gives. The importer asks it
//! while it writes a plan and the engine asks it again when it loads one, so an engine never sees a node that does not fit.

use serde::{Deserialize, Serialize};

use crate::{Datatype, Envelope, EnvelopeBuilder, SectionRange, Signature, TensorSpec};

/// The newest version of the graph plan that this crate writes and reads: major, minor.
pub const GRAPH_PLAN_VERSION: (u16, u16) = (1, 0);

/// The longest a free dimension other than the batch may be in a request. Bounds of work and memory per row count with it.
pub const LONGEST_FREE_DIMENSION: u64 = 1024;

/// No tensor of a plan may have more elements than this for one row.
const MOST_ELEMENTS: u64 = 1 << 31;
const HIGHEST_RANK: usize = 8;
const PLAN_SECTION: &str = "plan";

/// Why a graph plan cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GraphPlanError {
    /// A plan of a newer major version.
    #[error("the graph plan has version {}.{}, this program reads versions up to {}.x; use a newer Lockgate", found.0, found.1, GRAPH_PLAN_VERSION.0)]
    NewerVersion {
        /// The plan's version.
        found: (u16, u16),
    },
    /// A section is missing or its bytes make no sense.
    #[error("the graph plan is malformed: {0}")]
    Malformed(String),
    /// A node's operands do not fit its operator.
    #[error("node `{node}` ({operator}) of the graph plan makes no sense: {problem}")]
    Node {
        /// The node's name.
        node: String,
        /// The plan's name of the operator.
        operator: &'static str,
        /// What does not fit.
        problem: String,
    },
}

/// How to compute a model's outputs from its inputs, tensor by tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GraphPlan {
    version: (u16, u16),
    /// Names of the free dimensions. The first is the batch.
    pub symbols: Vec<String>,
    /// What a request brings; values 0 and up.
    pub inputs: Vec<GraphInput>,
    /// Constants, whose bytes lie in sections of their own; the values behind the inputs.
    pub arrays: Vec<Array>,
    /// The operators in the order they run; their results are the values behind the arrays.
    pub nodes: Vec<Node>,
    /// What an answer holds.
    pub outputs: Vec<GraphOutput>,
    #[serde(skip)]
    sections: Vec<SectionRange>,
}

/// One input of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphInput {
    /// The tensor's name.
    pub name: String,
    /// Its datatype and shape.
    pub fact: Fact,
}

/// One constant of a plan. Its bytes are the section `array/<index>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Array {
    /// `FP32`, `INT64` or another datatype of fixed size.
    pub datatype: Datatype,
    /// The dimensions, row-major.
    pub shape: Vec<u64>,
}

/// One output of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphOutput {
    /// The tensor's name.
    pub name: String,
    /// The number of the value.
    pub value: u32,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// The name of the ONNX node that it comes from, for messages.
    pub name: String,
    /// What to do.
    pub operator: Operator,
    /// The numbers of the operands.
    pub inputs: Vec<u32>,
}

/// The length of one dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Dim {
    /// The same in every request.
    Fixed(u64),
    /// A multiple of a free dimension.
    Free {
        /// The index among [`GraphPlan::symbols`].
        symbol: u32,
        /// How often the free dimension is contained, at least once.
        times: u64,
    },
}

/// What is known about a value before a request comes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// The element type.
    pub datatype: Datatype,
    /// The dimensions.
    pub shape: Vec<Dim>,
}

/// The operators of the graph engine. Where nothing else is said, values are `FP32`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Operator {
    /// A recurrent layer. Operands: the sequence `[time, batch, input]`, weights `[direction, input, gate·hidden]`, recurrent
    /// weights `[direction, hidden, gate·hidden]`, bias `[direction, …]` (see [`Cell`]), then, as far as there, the initial hidden
    /// and the initial cell state `[direction, batch, hidden]`. Results: the sequence `[time, direction, batch, hidden]`, the last
    /// hidden state `[direction, batch, hidden]` and, for an LSTM, the last cell state.
    Recurrent(Recurrent),
    /// Rows times constant weights: `[…, input]`, `[input, output]` and, as third operand, a bias `[output]` if there is one.
    Dense,
    /// Matrix product over the last two axes; the axes before broadcast.
    MatMul,
    /// Convolution of `[batch, channel, space…]` with `[output, channel/group, kernel…]` and, if there is a third operand, a bias `[output]`.
    Conv {
        /// How the kernel moves.
        window: Window,
        /// The number of channel groups.
        group: u64,
    },
    /// The largest or the average value under a window over `[batch, channel, space…]`.
    Pool {
        /// How the window moves.
        window: Window,
        /// What is computed.
        kind: PoolKind,
    },
    /// Every element by itself.
    Unary(Unary),
    /// Two values, element by element, after broadcasting.
    Binary(Binary),
    /// Another element type.
    Cast {
        /// The new element type.
        to: Datatype,
    },
    /// `exp(x) / Σ exp(x)` along an axis.
    Softmax {
        /// The axis.
        axis: u32,
        /// Whether the logarithm is taken.
        log: bool,
    },
    /// One value in place of all along some axes.
    Reduce {
        /// What is computed.
        kind: Reduction,
        /// The axes, ascending.
        axes: Vec<u32>,
        /// Whether the reduced axes stay with length 1.
        keep: bool,
    },
    /// The index of an extreme value along an axis, `INT64`.
    ArgExtreme {
        /// The axis.
        axis: u32,
        /// Whether the axis stays with length 1.
        keep: bool,
        /// The largest value, else the smallest.
        largest: bool,
        /// Among equals the last, else the first.
        last: bool,
    },
    /// Another order of the axes; any datatype.
    Transpose {
        /// Result axis `i` is operand axis `permutation[i]`.
        permutation: Vec<u32>,
    },
    /// The same elements under another shape; any datatype.
    Reshape {
        /// The new shape.
        shape: Vec<Dim>,
    },
    /// Repetition along axes of length 1 and new leading axes; any datatype.
    Broadcast {
        /// The new shape.
        shape: Vec<Dim>,
    },
    /// Operands behind each other; any datatype.
    Concat {
        /// The axis along which they follow each other.
        axis: u32,
    },
    /// A contiguous part along one axis; any datatype.
    Slice {
        /// The axis.
        axis: u32,
        /// The first index.
        start: Bound,
        /// The index behind the last.
        end: Bound,
    },
    /// Elements picked by index: the first operand's entries along `axis` at the `INT64` positions of the second; negative
    /// positions count from the end. Any datatype.
    Gather {
        /// The axis.
        axis: u32,
    },
    /// Zeros, or another value, around the elements.
    Pad {
        /// How many before and behind, per axis.
        pads: Vec<(u64, u64)>,
        /// The value put there.
        value: f32,
    },
}

/// A position along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bound {
    /// Counted from the first element.
    FromStart(u64),
    /// Counted back from behind the last element.
    FromEnd(u64),
}

/// A recurrent layer's form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recurrent {
    /// The cell.
    pub cell: Cell,
    /// The length of the hidden state.
    pub hidden: u64,
    /// One entry per direction.
    pub directions: Vec<Direction>,
    /// Whether the initial hidden state is an operand; it is zero otherwise.
    pub initial_hidden: bool,
    /// Whether the initial cell state is an operand; it is zero otherwise.
    pub initial_cell: bool,
}

/// One direction of a recurrent layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Direction {
    /// Whether the sequence is read from its end.
    pub reverse: bool,
    /// The activation functions in ONNX's order: LSTM f, g, h; GRU f, g; RNN f.
    pub activations: Vec<Activation>,
}

/// The kinds of recurrent cells. Gates lie in ONNX's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cell {
    /// One gate; bias `[hidden]`.
    Rnn,
    /// Input, output, forget and cell gate; bias `[4·hidden]`, input and recurrent bias added up.
    Lstm,
    /// Update, reset and hidden gate; bias `[3·hidden]`, input and recurrent bias added up, except with
    /// `linear_before_reset`, where the recurrent bias of the hidden gate follows by itself: `[4·hidden]`.
    Gru {
        /// Whether the reset gate acts on the product of state and weights rather than on the state.
        linear_before_reset: bool,
    },
}

/// The activation functions of recurrent cells.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Activation {
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// `max(0, x)`.
    Relu,
    /// `max(0, min(1, alpha·x + beta))`.
    HardSigmoid {
        /// The slope.
        alpha: f32,
        /// The value at zero.
        beta: f32,
    },
}

/// How a kernel moves over the axes behind the first two. One entry per such axis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// The kernel's lengths.
    pub kernel: Vec<u64>,
    /// The steps.
    pub strides: Vec<u64>,
    /// The distances between neighbouring elements under the kernel.
    pub dilations: Vec<u64>,
    /// How many positions before and behind the elements belong to the space.
    pub pads: Vec<(u64, u64)>,
}

/// What a pool computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PoolKind {
    /// The largest value.
    Max,
    /// The average.
    Average {
        /// Whether positions outside the elements count.
        count_include_pad: bool,
    },
}

/// Functions of one number.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "ONNX's own names; `alpha`, `beta` and `gamma` are its attributes")]
pub enum Unary {
    Abs,
    Neg,
    Reciprocal,
    Sqrt,
    Floor,
    Ceil,
    Exp,
    Log,
    Erf,
    Tanh,
    Sigmoid,
    HardSigmoid { alpha: f32, beta: f32 },
    Relu,
    LeakyRelu { alpha: f32 },
    Elu { alpha: f32 },
    Selu { alpha: f32, gamma: f32 },
    Softplus,
    Softsign,
    HardSwish,
    Mish,
    Gelu { tanh: bool },
    Clip { min: f32, max: f32 },
}

/// Functions of two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "ONNX's own names")]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
    Max,
    Min,
}

/// What a reduction computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "ONNX's own names, without `Reduce`")]
pub enum Reduction {
    Sum,
    Mean,
    Max,
    Min,
    Prod,
    SumSquare,
    L1,
    L2,
}

/// What one row costs, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Multiplications, comparisons and the like.
    pub operations: u64,
    /// Bytes of the values in between.
    pub memory: u64,
}

impl Dim {
    /// The batch itself.
    pub const BATCH: Self = Self::Free { symbol: 0, times: 1 };

    /// The product, as long as at most one side is free.
    pub fn times(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Fixed(a), Self::Fixed(b)) => a.checked_mul(b).map(Self::Fixed),
            (Self::Fixed(0), Self::Free { .. }) | (Self::Free { .. }, Self::Fixed(0)) => Some(Self::Fixed(0)),
            (Self::Fixed(a), Self::Free { symbol, times })
            | (Self::Free { symbol, times }, Self::Fixed(a)) => {
                times.checked_mul(a).map(|times| Self::Free { symbol, times })
            }
            (Self::Free { .. }, Self::Free { .. }) => None,
        }
    }

    /// The length when the length is the same in every request.
    pub fn fixed(self) -> Option<u64> {
        match self {
            Self::Fixed(len) => Some(len),
            Self::Free { .. } => None,
        }
    }

    /// The length for these lengths of the free dimensions; `None` for an unknown symbol or a product beyond `u64`.
    pub fn with(self, symbols: &[u64]) -> Option<u64> {
        match self {
            Self::Fixed(len) => Some(len),
            Self::Free { symbol, times } => symbols.get(usize::try_from(symbol).ok()?)?.checked_mul(times),
        }
    }
}

impl std::fmt::Display for Dim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed(len) => write!(f, "{len}"),
            Self::Free { symbol: 0, times: 1 } => write!(f, "batch"),
            Self::Free { symbol: 0, times } => write!(f, "{times}·batch"),
            Self::Free { symbol, times: 1 } => write!(f, "free{symbol}"),
            Self::Free { symbol, times } => write!(f, "{times}·free{symbol}"),
        }
    }
}

impl Fact {
    /// A value of this datatype and shape.
    pub fn new(datatype: Datatype, shape: impl Into<Vec<Dim>>) -> Self {
        Self { datatype, shape: shape.into() }
    }

    /// The number of elements for these lengths of the free dimensions, `u64::MAX` when it is larger than that.
    pub fn elements(&self, symbols: &[u64]) -> u64 {
        self.shape
            .iter()
            .fold(1, |count: u64, dim| count.saturating_mul(dim.with(symbols).unwrap_or(u64::MAX)))
    }

    /// The number of elements as far as it is a multiple of one free dimension.
    pub fn volume(&self) -> Option<Dim> {
        self.shape.iter().try_fold(Dim::Fixed(1), |volume, &dim| volume.times(dim))
    }

    /// The declared form of an input or output called `name`.
    pub fn spec(&self, name: impl Into<String>) -> TensorSpec {
        let shape =
            self.shape.iter().map(|dim| dim.fixed().and_then(|len| i64::try_from(len).ok()).unwrap_or(-1));
        TensorSpec { name: name.into(), datatype: self.datatype, shape: shape.collect() }
    }
}

impl std::fmt::Display for Fact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.datatype, show(&self.shape))
    }
}

impl Array {
    /// The same as a fact.
    pub fn fact(&self) -> Fact {
        Fact::new(self.datatype, self.shape.iter().map(|&len| Dim::Fixed(len)).collect::<Vec<_>>())
    }

    /// The number of bytes; `None` for a datatype without size or a product that is out of bounds.
    pub fn byte_len(&self) -> Option<usize> {
        let count = self.shape.iter().try_fold(1_u64, |count, &len| count.checked_mul(len))?;
        usize::try_from(count).ok()?.checked_mul(self.datatype.size()?)
    }
}

impl Cell {
    /// How many gates the weights hold.
    pub fn gates(self) -> u64 {
        match self {
            Self::Rnn => 1,
            Self::Lstm => 4,
            Self::Gru { .. } => 3,
        }
    }

    /// How many vectors of the hidden length the bias holds.
    pub fn biases(self) -> u64 {
        match self {
            Self::Gru { linear_before_reset: true } => 4,
            cell => cell.gates(),
        }
    }

    /// How many activation functions a direction has.
    pub fn activations(self) -> usize {
        match self {
            Self::Rnn => 1,
            Self::Lstm => 3,
            Self::Gru { .. } => 2,
        }
    }
}

impl Bound {
    /// The index along an axis of this length.
    pub fn index(self, len: u64) -> Option<u64> {
        match self {
            Self::FromStart(at) => (at <= len).then_some(at),
            Self::FromEnd(back) => len.checked_sub(back),
        }
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::FromStart(at) => write!(f, "{at}"),
            Self::FromEnd(0) => write!(f, "the end"),
            Self::FromEnd(back) => write!(f, "-{back}"),
        }
    }
}

impl Operator {
    /// The plan's name of the operator.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Recurrent(Recurrent { cell: Cell::Rnn, .. }) => "Rnn",
            Self::Recurrent(Recurrent { cell: Cell::Lstm, .. }) => "Lstm",
            Self::Recurrent(Recurrent { cell: Cell::Gru { .. }, .. }) => "Gru",
            Self::Dense => "Dense",
            Self::MatMul => "MatMul",
            Self::Conv { .. } => "Conv",
            Self::Pool { .. } => "Pool",
            Self::Unary(_) => "Unary",
            Self::Binary(_) => "Binary",
            Self::Cast { .. } => "Cast",
            Self::Softmax { .. } => "Softmax",
            Self::Reduce { .. } => "Reduce",
            Self::ArgExtreme { .. } => "ArgExtreme",
            Self::Transpose { .. } => "Transpose",
            Self::Reshape { .. } => "Reshape",
            Self::Broadcast { .. } => "Broadcast",
            Self::Concat { .. } => "Concat",
            Self::Slice { .. } => "Slice",
            Self::Gather { .. } => "Gather",
            Self::Pad { .. } => "Pad",
        }
    }

    /// What the operator gives for operands like these, or why it cannot take them.
    ///
    /// # Errors
    /// Says which operand does not fit, and what would.
    pub fn results(&self, operands: &[&Fact]) -> Result<Vec<Fact>, String> {
        let facts = infer(self, operands)?;
        for fact in &facts {
            if fact.shape.len() > HIGHEST_RANK {
                return Err(format!("the result {fact} has more than {HIGHEST_RANK} axes"));
            }
            let free = fact.shape.iter().try_fold(1_u64, |count, dim| match dim {
                Dim::Fixed(len) | Dim::Free { times: len, .. } => count.checked_mul(*len),
            });
            if free.is_none_or(|count| count > MOST_ELEMENTS) {
                return Err(format!("the result {fact} has more than {MOST_ELEMENTS} elements"));
            }
        }
        Ok(facts)
    }

    /// Bytes that an operator needs besides its operands and results: of a recurrent layer the gates of all steps.
    fn scratch(&self, results: &[Fact], symbols: &[u64]) -> u64 {
        match (self, results.first()) {
            (Self::Recurrent(layer), Some(sequence)) => {
                sequence.elements(symbols).saturating_mul(layer.cell.gates()).saturating_mul(4)
            }
            _ => 0,
        }
    }

    fn operations(&self, operands: &[&Fact], results: &[Fact], symbols: &[u64]) -> u64 {
        let elements =
            |facts: &[Fact]| facts.iter().fold(0_u64, |sum, f| sum.saturating_add(f.elements(symbols)));
        let last = |fact: Option<&&Fact>, back: usize| -> u64 {
            let dim = fact.and_then(|f| f.shape.len().checked_sub(back).and_then(|at| f.shape.get(at)));
            dim.and_then(|dim| dim.with(symbols)).unwrap_or(1)
        };
        match self {
            Self::Recurrent(layer) => {
                // A gate costs one multiplication per weight and about twenty for its activation.
                let gates = layer.cell.gates().saturating_mul(elements(results.get(..1).unwrap_or_default()));
                gates
                    .saturating_mul(last(operands.first(), 1).saturating_add(layer.hidden).saturating_add(20))
            }
            Self::Dense | Self::MatMul => elements(results).saturating_mul(last(operands.first(), 1)),
            Self::Conv { .. } => {
                let weights = operands.get(1).map_or(1, |fact| {
                    fact.shape
                        .iter()
                        .skip(1)
                        .fold(1_u64, |n, d| n.saturating_mul(d.with(symbols).unwrap_or(1)))
                });
                elements(results).saturating_mul(weights)
            }
            Self::Pool { window, .. } => elements(results)
                .saturating_mul(window.kernel.iter().fold(1, |n: u64, &len| n.saturating_mul(len))),
            Self::Unary(_) | Self::Softmax { .. } => elements(results).saturating_mul(20),
            Self::Reduce { .. } | Self::ArgExtreme { .. } => {
                operands.iter().fold(0, |sum, f| f.elements(symbols).saturating_add(sum))
            }
            _ => elements(results),
        }
    }
}

impl GraphPlan {
    /// A plan of the newest version.
    pub fn new(
        symbols: Vec<String>,
        inputs: Vec<GraphInput>,
        arrays: Vec<Array>,
        nodes: Vec<Node>,
        outputs: Vec<GraphOutput>,
    ) -> Self {
        Self { version: GRAPH_PLAN_VERSION, symbols, inputs, arrays, nodes, outputs, sections: Vec::new() }
    }

    /// Adds the plan and the arrays' bytes, in the order of [`GraphPlan::arrays`], to an envelope.
    ///
    /// # Errors
    /// A plan that [`GraphPlan::facts`] refuses, or arrays that are not as long as their shapes say.
    pub fn write(&self, arrays: Vec<Vec<u8>>, envelope: &mut EnvelopeBuilder) -> Result<(), GraphPlanError> {
        self.facts()?;
        if arrays.len() != self.arrays.len() {
            return Err(malformed(format!(
                "{} arrays are declared, {} are there",
                self.arrays.len(),
                arrays.len()
            )));
        }
        let plan = rmp_serde::to_vec_named(self).map_err(|error| malformed(error.to_string()))?;
        envelope.section(PLAN_SECTION, plan);
        for (index, (array, bytes)) in self.arrays.iter().zip(arrays).enumerate() {
            if array.byte_len() != Some(bytes.len()) {
                return Err(malformed(format!(
                    "array {index} has {} bytes, its shape asks for others",
                    bytes.len()
                )));
            }
            envelope.section(format!("array/{index}"), bytes);
        }
        Ok(())
    }

    /// Reads and checks the plan of an envelope.
    ///
    /// # Errors
    /// A newer version, a missing section, or a plan that [`GraphPlan::facts`] refuses.
    pub fn read(envelope: &Envelope) -> Result<Self, GraphPlanError> {
        #[derive(Deserialize)]
        struct Version {
            version: (u16, u16),
        }
        let section =
            envelope.section(PLAN_SECTION).ok_or_else(|| malformed("it has no section `plan`".to_owned()))?;
        let bytes = envelope.bytes_of(section);
        let unreadable = |error: rmp_serde::decode::Error| malformed(format!("it cannot be read: {error}"));
        let Version { version } = rmp_serde::from_slice(bytes).map_err(unreadable)?;
        if version.0 > GRAPH_PLAN_VERSION.0 {
            return Err(GraphPlanError::NewerVersion { found: version });
        }
        let mut plan: Self = rmp_serde::from_slice(bytes).map_err(unreadable)?;
        plan.facts()?;
        for (index, array) in plan.arrays.iter().enumerate() {
            let section = envelope.section(&format!("array/{index}"));
            let section = section.ok_or_else(|| malformed(format!("it has no section `array/{index}`")))?;
            if array.byte_len() != Some(section.len) {
                return Err(malformed(format!(
                    "section `array/{index}` has {} bytes, its shape asks for others",
                    section.len
                )));
            }
            plan.sections.push(section);
        }
        Ok(plan)
    }

    /// Where the bytes of array `index` lie in the envelope that the plan was read from.
    pub fn array_section(&self, index: usize) -> Option<SectionRange> {
        self.sections.get(index).copied()
    }

    /// The declared form of the inputs.
    pub fn input_specs(&self) -> Vec<TensorSpec> {
        self.inputs.iter().map(|input| input.fact.spec(&input.name)).collect()
    }

    /// The declared form of the outputs.
    ///
    /// # Errors
    /// A plan that [`GraphPlan::facts`] refuses.
    pub fn output_specs(&self) -> Result<Vec<TensorSpec>, GraphPlanError> {
        let facts = self.facts()?;
        let specs = self.outputs.iter().map(|output| {
            let fact = usize::try_from(output.value).ok().and_then(|value| facts.get(value));
            fact.map(|fact| fact.spec(&output.name))
        });
        specs
            .collect::<Option<_>>()
            .ok_or_else(|| malformed("an output names a value that does not exist".to_owned()))
    }

    /// Whether a manifest declares what the plan takes and gives.
    ///
    /// # Errors
    /// A plan that [`GraphPlan::facts`] refuses, or another signature.
    pub fn check_signature(&self, signature: &Signature) -> Result<(), GraphPlanError> {
        if signature.inputs == self.input_specs() && signature.outputs == self.output_specs()? {
            return Ok(());
        }
        Err(malformed("the manifest's signature is not the plan's".to_owned()))
    }

    /// Datatype and shape of every value, in the order of their numbers.
    ///
    /// # Errors
    /// Anything by which an engine could stumble: an operand that does not come before its node, shapes or datatypes that
    /// do not fit, names that occur twice.
    pub fn facts(&self) -> Result<Vec<Fact>, GraphPlanError> {
        let mut facts = Vec::new();
        for input in &self.inputs {
            self.check_fact(&input.fact)
                .map_err(|problem| malformed(format!("input `{}`: {problem}", input.name)))?;
            facts.push(input.fact.clone());
        }
        for (index, array) in self.arrays.iter().enumerate() {
            let fact = array.fact();
            self.check_fact(&fact).map_err(|problem| malformed(format!("array {index}: {problem}")))?;
            if array.byte_len().is_none() {
                return Err(malformed(format!("array {index} ({fact}) is too large")));
            }
            facts.push(fact);
        }
        for node in &self.nodes {
            let fail = |problem| GraphPlanError::Node {
                node: node.name.clone(),
                operator: node.operator.name(),
                problem,
            };
            let mut operands = Vec::with_capacity(node.inputs.len().min(64));
            for &input in &node.inputs {
                let fact = usize::try_from(input).ok().and_then(|input| facts.get(input));
                operands
                    .push(fact.ok_or_else(|| fail(format!("its operand {input} does not come before it")))?);
            }
            let results = node.operator.results(&operands).map_err(fail)?;
            for fact in &results {
                self.check_fact(fact).map_err(fail)?;
            }
            // These operands are used when the plan is loaded, so they have to be there then.
            let constant = |position: usize| {
                node.inputs.get(position).is_none_or(|&value| self.array_index(value).is_some())
            };
            let constants: &[usize] = match node.operator {
                Operator::Recurrent(_) => &[1, 2, 3],
                Operator::Dense | Operator::Conv { .. } => &[1, 2],
                _ => &[],
            };
            if let Some(position) = constants.iter().find(|&&position| !constant(position)) {
                return Err(fail(format!("its operand {position} has to be an array")));
            }
            facts.extend(results);
        }
        if self.outputs.is_empty() || self.inputs.is_empty() {
            return Err(malformed("it has no input or no output".to_owned()));
        }
        if let Some(output) =
            self.outputs.iter().find(|o| usize::try_from(o.value).map_or(true, |v| v >= facts.len()))
        {
            return Err(malformed(format!("output `{}` names a value that does not exist", output.name)));
        }
        Ok(facts)
    }

    /// The index among the arrays of a value that is one.
    pub fn array_index(&self, value: u32) -> Option<usize> {
        let index = usize::try_from(value).ok()?.checked_sub(self.inputs.len())?;
        (index < self.arrays.len()).then_some(index)
    }

    /// What one row costs at most; other free dimensions count as [`LONGEST_FREE_DIMENSION`].
    ///
    /// # Errors
    /// A plan that [`GraphPlan::facts`] refuses.
    pub fn cost_per_row(&self) -> Result<Cost, GraphPlanError> {
        let facts = self.facts()?;
        let mut symbols = vec![LONGEST_FREE_DIMENSION; self.symbols.len()];
        if let Some(batch) = symbols.first_mut() {
            *batch = 1;
        }
        let bytes =
            |fact: &Fact| fact.elements(&symbols).saturating_mul(fact.datatype.size().unwrap_or(0) as u64);
        let mut cost = Cost::default();
        let mut next = self.inputs.len().saturating_add(self.arrays.len());
        cost.memory =
            facts.iter().take(self.inputs.len()).fold(0, |sum, fact| bytes(fact).saturating_add(sum));
        for node in &self.nodes {
            let operands: Vec<&Fact> =
                node.inputs.iter().filter_map(|&input| facts.get(usize::try_from(input).ok()?)).collect();
            let count = match &node.operator {
                Operator::Recurrent(Recurrent { cell: Cell::Lstm, .. }) => 3,
                Operator::Recurrent(_) => 2,
                _ => 1,
            };
            let end = next.saturating_add(count);
            let results = facts.get(next..end).unwrap_or_default();
            next = end;
            cost.operations =
                cost.operations.saturating_add(node.operator.operations(&operands, results, &symbols));
            cost.memory = results.iter().fold(cost.memory, |sum, fact| bytes(fact).saturating_add(sum));
            cost.memory = cost.memory.saturating_add(node.operator.scratch(results, &symbols));
        }
        Ok(cost)
    }

    fn check_fact(&self, fact: &Fact) -> Result<(), String> {
        if fact.datatype.size().is_none() || fact.datatype == Datatype::Fp16 {
            return Err(format!("{} is no datatype of the graph engine", fact.datatype));
        }
        if fact.shape.len() > HIGHEST_RANK {
            return Err(format!("{fact} has more than {HIGHEST_RANK} axes"));
        }
        let known = fact.shape.iter().all(|dim| match dim {
            Dim::Fixed(len) => *len <= MOST_ELEMENTS,
            Dim::Free { symbol, times } => {
                (1..=MOST_ELEMENTS).contains(times)
                    && usize::try_from(*symbol).is_ok_and(|symbol| symbol < self.symbols.len())
            }
        });
        if known { Ok(()) } else { Err(format!("{fact} has an unknown or oversized dimension")) }
    }
}

fn malformed(problem: String) -> GraphPlanError {
    GraphPlanError::Malformed(problem)
}

fn show(shape: &[Dim]) -> String {
    let dims: Vec<String> = shape.iter().map(Dim::to_string).collect();
    format!("[{}]", dims.join(", "))
}

/// The shape that two shapes broadcast to; a free dimension matches itself and 1.
pub(crate) fn broadcast(a: &[Dim], b: &[Dim]) -> Result<Vec<Dim>, String> {
    let rank = a.len().max(b.len());
    let at = |shape: &[Dim], axis: usize| {
        (axis + shape.len())
            .checked_sub(rank)
            .and_then(|axis| shape.get(axis))
            .copied()
            .unwrap_or(Dim::Fixed(1))
    };
    (0..rank)
        .map(|axis| match (at(a, axis), at(b, axis)) {
            (a, b) if a == b => Ok(a),
            (Dim::Fixed(1), other) | (other, Dim::Fixed(1)) => Ok(other),
            _ => Err(format!("{} and {} do not broadcast", show(a), show(b))),
        })
        .collect()
}

fn operand<'a>(operands: &[&'a Fact], position: usize) -> Result<&'a Fact, String> {
    operands.get(position).copied().ok_or_else(|| format!("operand {position} is missing"))
}

fn count(operands: &[&Fact], range: std::ops::RangeInclusive<usize>) -> Result<(), String> {
    if range.contains(&operands.len()) {
        return Ok(());
    }
    Err(format!("expected {} to {} operands, found {}", range.start(), range.end(), operands.len()))
}

fn fp32(operands: &[&Fact]) -> Result<(), String> {
    match operands.iter().position(|fact| fact.datatype != Datatype::Fp32) {
        None => Ok(()),
        Some(at) => Err(format!(
            "operand {at} is {}, expected FP32",
            operands.get(at).map_or("", |f| f.datatype.name())
        )),
    }
}

fn axis_of(axis: u32, fact: &Fact) -> Result<usize, String> {
    usize::try_from(axis)
        .ok()
        .filter(|axis| *axis < fact.shape.len())
        .ok_or_else(|| format!("axis {axis} is not one of {fact}"))
}

fn expect_shape(fact: &Fact, shape: &[Dim], what: &str) -> Result<(), String> {
    if fact.shape == shape {
        return Ok(());
    }
    Err(format!("the {what} has the shape {}, expected {}", show(&fact.shape), show(shape)))
}

fn infer(operator: &Operator, operands: &[&Fact]) -> Result<Vec<Fact>, String> {
    let one = |fact: Fact| Ok(vec![fact]);
    match operator {
        Operator::Recurrent(layer) => infer_recurrent(layer, operands),
        Operator::Dense => {
            count(operands, 2..=3)?;
            fp32(operands)?;
            let (x, weights) = (operand(operands, 0)?, operand(operands, 1)?);
            let ([rows @ .., input], [k, output]) = (x.shape.as_slice(), weights.shape.as_slice()) else {
                return Err(format!("expected rows and a matrix, found {x} and {weights}"));
            };
            if input != k {
                return Err(format!("rows of {input} do not fit weights {}", show(&weights.shape)));
            }
            if let Some(bias) = operands.get(2) {
                expect_shape(bias, &[*output], "bias")?;
            }
            one(Fact::new(Datatype::Fp32, [rows, &[*output]].concat()))
        }
        Operator::MatMul => {
            count(operands, 2..=2)?;
            fp32(operands)?;
            let (a, b) = (operand(operands, 0)?, operand(operands, 1)?);
            let ([a_batch @ .., m, k], [b_batch @ .., l, n]) = (a.shape.as_slice(), b.shape.as_slice())
            else {
                return Err(format!("expected two matrices, found {a} and {b}"));
            };
            if k != l {
                return Err(format!("{a} and {b} do not multiply: {k} columns meet {l} rows"));
            }
            one(Fact::new(Datatype::Fp32, [broadcast(a_batch, b_batch)?, vec![*m, *n]].concat()))
        }
        Operator::Conv { window, group } => {
            count(operands, 2..=3)?;
            fp32(operands)?;
            let (x, kernel) = (operand(operands, 0)?, operand(operands, 1)?);
            let ([batch, channels, space @ ..], [output, input, lengths @ ..]) =
                (x.shape.as_slice(), kernel.shape.as_slice())
            else {
                return Err(format!(
                    "expected [batch, channel, space…] and a kernel, found {x} and {kernel}"
                ));
            };
            let lengths: Option<Vec<u64>> = lengths.iter().map(|dim| dim.fixed()).collect();
            if lengths.as_ref() != Some(&window.kernel) {
                return Err(format!("the weights {kernel} do not fit a kernel of {:?}", window.kernel));
            }
            let (Some(channels), Some(input), Some(filters)) =
                (channels.fixed(), input.fixed(), output.fixed())
            else {
                return Err(format!("the channels of {x} are free"));
            };
            if *group == 0
                || input == 0
                || filters == 0
                || input.checked_mul(*group) != Some(channels)
                || !filters.is_multiple_of(*group)
            {
                return Err(format!("{channels} channels in {group} groups do not fit weights {kernel}"));
            }
            if let Some(bias) = operands.get(2) {
                expect_shape(bias, &[*output], "bias")?;
            }
            one(Fact::new(Datatype::Fp32, [&[*batch, *output], slide(window, space)?.as_slice()].concat()))
        }
        Operator::Pool { window, .. } => {
            count(operands, 1..=1)?;
            fp32(operands)?;
            let x = operand(operands, 0)?;
            let [batch, channels, space @ ..] = x.shape.as_slice() else {
                return Err(format!("expected [batch, channel, space…], found {x}"));
            };
            if channels.fixed().is_none() {
                return Err(format!("the channels of {x} are free"));
            }
            // A window that covers nothing but padding has neither a largest value nor an average.
            if window
                .pads
                .iter()
                .zip(&window.kernel)
                .any(|((before, behind), kernel)| before >= kernel || behind >= kernel)
            {
                return Err(format!("pads {:?} are as long as the kernel {:?}", window.pads, window.kernel));
            }
            one(Fact::new(Datatype::Fp32, [&[*batch, *channels], slide(window, space)?.as_slice()].concat()))
        }
        Operator::Unary(_) => {
            count(operands, 1..=1)?;
            fp32(operands)?;
            one(operand(operands, 0)?.clone())
        }
        Operator::Binary(_) => {
            count(operands, 2..=2)?;
            fp32(operands)?;
            one(Fact::new(
                Datatype::Fp32,
                broadcast(&operand(operands, 0)?.shape, &operand(operands, 1)?.shape)?,
            ))
        }
        Operator::Cast { to } => {
            count(operands, 1..=1)?;
            one(Fact::new(*to, operand(operands, 0)?.shape.clone()))
        }
        Operator::Softmax { axis, .. } => {
            count(operands, 1..=1)?;
            fp32(operands)?;
            let x = operand(operands, 0)?;
            axis_of(*axis, x)?;
            one(x.clone())
        }
        Operator::Reduce { axes, keep, .. } => {
            count(operands, 1..=1)?;
            fp32(operands)?;
            let x = operand(operands, 0)?;
            if !axes.is_sorted_by(|a, b| a < b) {
                return Err(format!("the axes {axes:?} are not ascending"));
            }
            one(Fact::new(Datatype::Fp32, reduced(x, axes, *keep)?))
        }
        Operator::ArgExtreme { axis, keep, .. } => {
            count(operands, 1..=1)?;
            fp32(operands)?;
            let x = operand(operands, 0)?;
            if x.shape.get(axis_of(*axis, x)?) == Some(&Dim::Fixed(0)) {
                return Err(format!("axis {axis} of {x} is empty"));
            }
            one(Fact::new(Datatype::Int64, reduced(x, &[*axis], *keep)?))
        }
        Operator::Transpose { permutation } => {
            count(operands, 1..=1)?;
            let x = operand(operands, 0)?;
            let mut sorted = permutation.clone();
            sorted.sort_unstable();
            if sorted.len() != x.shape.len() || !sorted.iter().zip(0_u32..).all(|(&axis, want)| axis == want)
            {
                return Err(format!("{permutation:?} is no order of the axes of {x}"));
            }
            let shape: Result<Vec<Dim>, String> = permutation
                .iter()
                .map(|&axis| axis_of(axis, x).map(|axis| x.shape.get(axis).copied().unwrap_or(Dim::Fixed(1))))
                .collect();
            one(Fact::new(x.datatype, shape?))
        }
        Operator::Reshape { shape } => {
            count(operands, 1..=1)?;
            let x = operand(operands, 0)?;
            let result = Fact::new(x.datatype, shape.clone());
            // Two free dimensions have no common volume; such a reshape may only move ones around.
            let same = match (x.volume(), result.volume()) {
                (Some(have), Some(want)) => have == want,
                _ => x
                    .shape
                    .iter()
                    .filter(|d| **d != Dim::Fixed(1))
                    .eq(shape.iter().filter(|d| **d != Dim::Fixed(1))),
            };
            if !same {
                return Err(format!("{x} cannot take the shape {}", show(shape)));
            }
            one(result)
        }
        Operator::Broadcast { shape } => {
            count(operands, 1..=1)?;
            let x = operand(operands, 0)?;
            if broadcast(&x.shape, shape)? != *shape {
                return Err(format!("{x} does not broadcast to {}", show(shape)));
            }
            one(Fact::new(x.datatype, shape.clone()))
        }
        Operator::Concat { axis } => {
            let first = operand(operands, 0)?;
            let axis = axis_of(*axis, first)?;
            let mut shape = first.shape.clone();
            let mut total = Dim::Fixed(0);
            for fact in operands {
                let fits = fact.datatype == first.datatype
                    && fact.shape.len() == first.shape.len()
                    && fact
                        .shape
                        .iter()
                        .zip(&first.shape)
                        .enumerate()
                        .all(|(at, (a, b))| at == axis || a == b);
                if !fits {
                    return Err(format!("{first} and {fact} cannot follow each other along axis {axis}"));
                }
                let len = fact.shape.get(axis).copied().unwrap_or(Dim::Fixed(0));
                total = match (total, len) {
                    (Dim::Fixed(a), Dim::Fixed(b)) => Dim::Fixed(a.saturating_add(b)),
                    (Dim::Fixed(0), free) | (free, Dim::Fixed(0)) => free,
                    (Dim::Free { symbol, times }, Dim::Free { symbol: other, times: more })
                        if symbol == other =>
                    {
                        Dim::Free { symbol, times: times.saturating_add(more) }
                    }
                    _ => return Err(format!("lengths {total} and {len} along axis {axis} do not add up")),
                };
            }
            if let Some(dim) = shape.get_mut(axis) {
                *dim = total;
            }
            one(Fact::new(first.datatype, shape))
        }
        Operator::Slice { axis, start, end } => {
            count(operands, 1..=1)?;
            let x = operand(operands, 0)?;
            let axis = axis_of(*axis, x)?;
            let len = x.shape.get(axis).copied().unwrap_or(Dim::Fixed(0));
            let outside = || format!("{start} to {end} is no part of axis {axis} of {x}");
            let part = match (len, start, end) {
                (Dim::Fixed(len), start, end) => {
                    let (start, end) =
                        (start.index(len).ok_or_else(outside)?, end.index(len).ok_or_else(outside)?);
                    Dim::Fixed(end.checked_sub(start).ok_or_else(outside)?)
                }
                (free, Bound::FromStart(0), Bound::FromEnd(0)) => free,
                (_, Bound::FromStart(start), Bound::FromStart(end)) => {
                    Dim::Fixed(end.checked_sub(*start).ok_or_else(outside)?)
                }
                (_, Bound::FromEnd(start), Bound::FromEnd(end)) => {
                    Dim::Fixed(start.checked_sub(*end).ok_or_else(outside)?)
                }
                _ => {
                    return Err(format!(
                        "{start} to {end} of the free axis {axis} of {x} has no known length"
                    ));
                }
            };
            let mut shape = x.shape.clone();
            if let Some(dim) = shape.get_mut(axis) {
                *dim = part;
            }
            one(Fact::new(x.datatype, shape))
        }
        Operator::Gather { axis } => {
            count(operands, 2..=2)?;
            let (x, indices) = (operand(operands, 0)?, operand(operands, 1)?);
            let axis = axis_of(*axis, x)?;
            if indices.datatype != Datatype::Int64 {
                return Err(format!("the positions are {}, expected INT64", indices.datatype));
            }
            let before = x.shape.get(..axis).unwrap_or_default();
            let behind = x.shape.get(axis.saturating_add(1)..).unwrap_or_default();
            one(Fact::new(x.datatype, [before, &indices.shape, behind].concat()))
        }
        Operator::Pad { pads, .. } => {
            count(operands, 1..=1)?;
            fp32(operands)?;
            let x = operand(operands, 0)?;
            if pads.len() != x.shape.len() {
                return Err(format!("{} pads do not fit {x}", pads.len()));
            }
            let shape: Result<Vec<Dim>, String> = x
                .shape
                .iter()
                .zip(pads)
                .map(|(dim, &(before, behind))| match (*dim, before, behind) {
                    (dim, 0, 0) => Ok(dim),
                    (Dim::Fixed(len), ..) => {
                        Ok(Dim::Fixed(len.saturating_add(before).saturating_add(behind)))
                    }
                    (free, ..) => Err(format!("the free dimension {free} of {x} cannot be padded")),
                })
                .collect();
            one(Fact::new(Datatype::Fp32, shape?))
        }
    }
}

fn infer_recurrent(layer: &Recurrent, operands: &[&Fact]) -> Result<Vec<Fact>, String> {
    let states = usize::from(layer.initial_hidden) + usize::from(layer.initial_cell);
    count(operands, 4 + states..=4 + states)?;
    fp32(operands)?;
    let x = operand(operands, 0)?;
    let [time, batch, input] = x.shape.as_slice() else {
        return Err(format!("expected a sequence [time, batch, input], found {x}"));
    };
    if layer.initial_cell && layer.cell != Cell::Lstm {
        return Err("only an LSTM has a cell state".to_owned());
    }
    if layer.hidden == 0
        || layer.hidden > MOST_ELEMENTS
        || !matches!(layer.directions.len(), 1 | 2)
        || input.fixed().is_none_or(|len| len == 0)
    {
        return Err(format!(
            "{x} into a hidden state of {} in {} directions",
            layer.hidden,
            layer.directions.len()
        ));
    }
    if layer.directions.iter().any(|direction| direction.activations.len() != layer.cell.activations()) {
        return Err(format!("a direction has other than {} activations", layer.cell.activations()));
    }
    let directions = Dim::Fixed(layer.directions.len() as u64);
    let hidden = Dim::Fixed(layer.hidden);
    let gates = Dim::Fixed(layer.cell.gates().saturating_mul(layer.hidden));
    let biases = Dim::Fixed(layer.cell.biases().saturating_mul(layer.hidden));
    expect_shape(operand(operands, 1)?, &[directions, *input, gates], "weights' operand")?;
    expect_shape(operand(operands, 2)?, &[directions, hidden, gates], "recurrent weights' operand")?;
    expect_shape(operand(operands, 3)?, &[directions, biases], "bias")?;
    for state in operands.iter().skip(4) {
        expect_shape(state, &[directions, *batch, hidden], "initial state")?;
    }
    let state = Fact::new(Datatype::Fp32, [directions, *batch, hidden]);
    let sequence = Fact::new(Datatype::Fp32, [*time, directions, *batch, hidden]);
    let cells = usize::from(layer.cell == Cell::Lstm);
    Ok([vec![sequence], vec![state; 1 + cells]].concat())
}

fn slide(window: &Window, space: &[Dim]) -> Result<Vec<Dim>, String> {
    let rank = space.len();
    let lengths = [window.kernel.len(), window.strides.len(), window.dilations.len(), window.pads.len()];
    if rank == 0 || lengths.iter().any(|&len| len != rank) {
        return Err(format!("a window of {} axes does not fit {rank} axes", window.kernel.len()));
    }
    let positive = [&window.kernel, &window.strides, &window.dilations];
    if positive.iter().any(|values| values.contains(&0)) {
        return Err("a kernel length, stride or dilation is zero".to_owned());
    }
    let mut shape = Vec::with_capacity(rank);
    for (axis, dim) in space.iter().enumerate() {
        let value = |values: &[u64]| values.get(axis).copied().unwrap_or(1);
        let (before, behind) = window.pads.get(axis).copied().unwrap_or_default();
        let len = dim.fixed().ok_or_else(|| format!("the axis {} under the window is free", axis + 2))?;
        let covered = (value(&window.kernel) - 1).saturating_mul(value(&window.dilations)).saturating_add(1);
        let padded = len.saturating_add(before).saturating_add(behind);
        let room = padded
            .checked_sub(covered)
            .ok_or_else(|| format!("a kernel over {covered} elements does not fit an axis of {padded}"))?;
        shape.push(Dim::Fixed(room / value(&window.strides) + 1));
    }
    Ok(shape)
}

fn reduced(x: &Fact, axes: &[u32], keep: bool) -> Result<Vec<Dim>, String> {
    let mut drop = vec![false; x.shape.len()];
    for &axis in axes {
        if let Some(drop) = drop.get_mut(axis_of(axis, x)?) {
            *drop = true;
        }
    }
    Ok(x.shape
        .iter()
        .zip(drop)
        .filter(|(_, dropped)| keep || !dropped)
        .map(|(&dim, dropped)| if dropped { Dim::Fixed(1) } else { dim })
        .collect())
}
