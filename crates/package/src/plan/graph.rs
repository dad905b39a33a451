//! The plan of the graph engine: a graph of ONNX's operators, its constants, and what a request must look like.
//!
//! Operators and their attributes are ONNX's own ([`lockgate_onnx`]); what the importer settles is which values are constant, where they lie,
//! and which results anybody wants. Shapes are known when a request comes.

use lockgate_onnx::{Attribute, Kind, Source, Tensor};
use serde::{Deserialize, Serialize};

use crate::{Datatype, Envelope, EnvelopeBuilder, SectionRange, Signature, TensorSpec};

/// The version of the graph plan that this crate writes: major, minor. From 3.0 on, the nodes that have regular expressions hold their automata.
pub const GRAPH_PLAN_VERSION: (u16, u16) = (3, 0);

/// The oldest major version that this crate reads. What a node of an older plan lacks it is refused for itself.
const OLDEST_MAJOR: u16 = 2;

/// The longest a free dimension other than the batch may be in a request. Bounds of work and memory per row count with it.
pub const LONGEST_FREE_DIMENSION: u64 = 1024;

/// How deep graphs may lie inside of each other.
pub const DEEPEST_GRAPH: usize = 8;

/// How deep the values of a plan's text may be nested; a graph inside of a node takes six levels.
const DEEPEST_VALUE: usize = 16 + 8 * DEEPEST_GRAPH;

const PLAN_SECTION: &str = "plan";

/// Why a graph plan cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GraphPlanError {
    /// A plan of a major version that is too old or too new.
    #[error(
        "the graph plan has version {}.{}, this program reads versions {OLDEST_MAJOR}.0 to {}.x; package the model again, or use a newer Lockgate",
        found.0, found.1, GRAPH_PLAN_VERSION.0
    )]
    OtherVersion {
        /// The plan's version.
        found: (u16, u16),
    },
    /// A section is missing or its bytes make no sense.
    #[error("the graph plan is malformed: {0}")]
    Malformed(String),
}

/// How to compute a model's outputs from its inputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GraphPlan {
    version: (u16, u16),
    /// The kinds of the inputs' elements, which requests may hold as others.
    pub kinds: Vec<Kind>,
    /// What the dimensions of each input are called that are not the same in every request: as many entries as the input has axes.
    pub free: Vec<Vec<Option<String>>>,
    /// The constants, whose bytes lie in sections of their own.
    pub arrays: Vec<Array>,
    /// The graph; its inputs and outputs are those of the signature, in its order.
    pub graph: Source,
    #[serde(skip)]
    sections: Vec<SectionRange>,
}

/// One constant of a plan. Its bytes are the section `array/<index>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Array {
    /// The kind of its elements.
    pub kind: Kind,
    /// The dimensions, row-major.
    pub shape: Vec<usize>,
}

impl GraphPlan {
    /// A plan of the newest version.
    pub fn new(kinds: Vec<Kind>, free: Vec<Vec<Option<String>>>, arrays: Vec<Array>, graph: Source) -> Self {
        Self { version: GRAPH_PLAN_VERSION, kinds, free, arrays, graph, sections: Vec::new() }
    }

    /// Adds the plan and the arrays' bytes, in the order of [`GraphPlan::arrays`], to an envelope.
    ///
    /// # Errors
    /// Another number of arrays than the plan declares.
    pub fn write(&self, arrays: Vec<Vec<u8>>, envelope: &mut EnvelopeBuilder) -> Result<(), GraphPlanError> {
        if arrays.len() != self.arrays.len() {
            let message = format!("{} arrays are declared, {} are there", self.arrays.len(), arrays.len());
            return Err(GraphPlanError::Malformed(message));
        }
        let plan =
            rmp_serde::to_vec_named(self).map_err(|error| GraphPlanError::Malformed(error.to_string()))?;
        envelope.section(PLAN_SECTION, plan);
        for (index, bytes) in arrays.into_iter().enumerate() {
            envelope.section(format!("array/{index}"), bytes);
        }
        Ok(())
    }

    /// Reads the plan of an envelope.
    ///
    /// # Errors
    /// Another version, a missing section, or bytes that make no sense.
    pub fn read(envelope: &Envelope) -> Result<Self, GraphPlanError> {
        #[derive(Deserialize)]
        struct Version {
            version: (u16, u16),
        }
        let malformed = GraphPlanError::Malformed;
        let section =
            envelope.section(PLAN_SECTION).ok_or_else(|| malformed("it has no section `plan`".to_owned()))?;
        let bytes = envelope.bytes_of(section);
        let unreadable = |error: rmp_serde::decode::Error| malformed(format!("it cannot be read: {error}"));
        let Version { version } = nested(bytes).map_err(unreadable)?;
        if !(OLDEST_MAJOR..=GRAPH_PLAN_VERSION.0).contains(&version.0) {
            return Err(GraphPlanError::OtherVersion { found: version });
        }
        let mut plan: Self = nested(bytes).map_err(unreadable)?;
        if depth(&plan.graph) > DEEPEST_GRAPH {
            return Err(malformed(format!("graphs lie more than {DEEPEST_GRAPH} deep inside of each other")));
        }
        plan.sections = envelope
            .arrays(PLAN_SECTION, plan.arrays.len())
            .map_err(|name| malformed(format!("it has no section `{name}` in its place")))?;
        Ok(plan)
    }

    /// The constants, from the envelope that the plan was read from.
    ///
    /// # Errors
    /// Bytes that do not hold what an array declares.
    pub fn tensors(&self, envelope: &Envelope) -> Result<Vec<Tensor>, GraphPlanError> {
        let tensor = |(index, (array, section)): (usize, (&Array, &SectionRange))| {
            Tensor::from_bytes(array.kind, array.shape.clone(), envelope.bytes_of(*section))
                .map_err(|problem| GraphPlanError::Malformed(format!("array {index}: {problem}")))
        };
        self.arrays.iter().zip(&self.sections).enumerate().map(tensor).collect()
    }

    /// Whether a manifest declares what the plan takes and gives.
    ///
    /// # Errors
    /// Another number of inputs, axes or outputs.
    pub fn check_signature(&self, signature: &Signature) -> Result<(), GraphPlanError> {
        let axes = |(spec, free): (&TensorSpec, &Vec<Option<String>>)| {
            spec.shape.len() == free.len()
                && spec.shape.iter().zip(free).all(|(len, name)| (*len == -1) == name.is_some())
        };
        let kinds = || {
            signature
                .inputs
                .iter()
                .zip(&self.kinds)
                .all(|(spec, kind)| spec.datatype == Datatype::of_kind(*kind))
        };
        let fits = signature.inputs.len() == self.free.len()
            && signature.inputs.len() == self.kinds.len()
            && kinds()
            && u32::try_from(signature.inputs.len()) == Ok(self.graph.inputs)
            && signature.outputs.len() == self.graph.outputs.len()
            && signature.inputs.iter().zip(&self.free).all(axes);
        if fits {
            Ok(())
        } else {
            Err(GraphPlanError::Malformed("the manifest's signature is not the plan's".to_owned()))
        }
    }
}

/// Reads a value that is not nested so deep that reading it would take all of the stack.
fn nested<'b, T: Deserialize<'b>>(bytes: &'b [u8]) -> Result<T, rmp_serde::decode::Error> {
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes);
    deserializer.set_max_depth(DEEPEST_VALUE);
    T::deserialize(&mut deserializer)
}

/// How deep graphs lie inside of a graph's nodes.
fn depth(source: &Source) -> usize {
    let bodies =
        source.nodes.iter().flat_map(|node| node.attributes.values()).filter_map(
            |attribute| match attribute {
                Attribute::Graph(body) => Some(depth(body) + 1),
                _ => None,
            },
        );
    bodies.max().unwrap_or(0)
}

impl Datatype {
    /// The kind of elements that tensors of this datatype have.
    pub fn kind(self) -> Kind {
        match self {
            Self::Bool => Kind::Bool,
            Self::Uint8 => Kind::U8,
            Self::Uint16 => Kind::U16,
            Self::Uint32 => Kind::U32,
            Self::Uint64 => Kind::U64,
            Self::Int8 => Kind::I8,
            Self::Int16 => Kind::I16,
            Self::Int32 => Kind::I32,
            Self::Int64 => Kind::I64,
            Self::Fp16 => Kind::F16,
            Self::Fp32 => Kind::F32,
            Self::Fp64 => Kind::F64,
            Self::Bytes => Kind::Text,
        }
    }

    /// The datatype in which requests and answers hold elements of a kind: its own, or for kinds that the protocol does not have one that holds
    /// every value of theirs.
    pub fn of_kind(kind: Kind) -> Self {
        let own = Self::ALL.into_iter().find(|datatype| datatype.kind() == kind);
        own.unwrap_or(match kind {
            Kind::I4 | Kind::I2 => Self::Int8,
            Kind::U4 | Kind::U2 => Self::Uint8,
            _ => Self::Fp32,
        })
    }
}
