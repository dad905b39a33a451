//! The engine of graph plans: ONNX's operators on the tensors of a request.

use std::collections::BTreeMap;

use lockgate_onnx::graph::NodeProblem;
use lockgate_onnx::{Graph, Kind, Meter, Numbers, Problem, Tensor as OnnxTensor};
use lockgate_package::plan::graph::{GraphPlan, GraphPlanError, LONGEST_FREE_DIMENSION};
use lockgate_package::{Datatype, Envelope, Signature, Tensor, TensorSpec, TensorView};

use crate::PredictError;

/// What one request may take of the graph engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestLimits {
    /// Bytes that the values take together.
    pub memory: u64,
    /// Operations, whatever the package says that its rows cost.
    pub operations: u64,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self { memory: 256 * 1024 * 1024, operations: 1 << 40 }
    }
}

/// How many times what a row costs by the manifest it may take, since some models' work grows faster than their rows.
const TIMES: u64 = 2;
/// Operations that every request may take, about a second: what a text costs is not known before it comes.
const LEAST: u64 = 1_000_000_000;

/// A plan, ready to run.
#[derive(Debug)]
pub(crate) struct GraphModel {
    graph: Graph,
    /// The kinds of the inputs' elements.
    kinds: Vec<Kind>,
    /// What the free dimensions of the inputs are called.
    free: Vec<Vec<Option<String>>>,
    /// What a row costs, by the manifest.
    operations_per_row: u64,
    pub(crate) limits: RequestLimits,
}

/// Why a plan cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GraphLoadError {
    /// The plan does not hold together.
    #[error(transparent)]
    Plan(#[from] GraphPlanError),
    /// A node cannot be made.
    #[error("the graph plan cannot be run: {0}")]
    Node(#[from] NodeProblem),
}

impl GraphModel {
    /// Makes the plan that `envelope` holds ready to run.
    pub(crate) fn load(
        plan: &GraphPlan,
        envelope: &Envelope,
        operations_per_row: u64,
    ) -> Result<Self, GraphLoadError> {
        let graph = Graph::new(&plan.graph, &plan.tensors(envelope)?)?;
        Ok(Self {
            graph,
            kinds: plan.kinds.clone(),
            free: plan.free.clone(),
            operations_per_row,
            limits: RequestLimits::default(),
        })
    }

    /// The outputs for inputs that fit the signature, in its order.
    pub(crate) fn run(
        &self,
        signature: &Signature,
        inputs: &[TensorView<'_>],
    ) -> Result<Vec<Tensor>, PredictError> {
        self.check_free(&signature.inputs, inputs)?;
        let tensors: Result<Vec<OnnxTensor>, PredictError> =
            inputs.iter().zip(&self.kinds).map(|(input, kind)| operand(input, *kind)).collect();
        let declared = self.operations_per_row.saturating_mul(TIMES).saturating_mul(self.rows(inputs));
        let mut meter = Meter::new(self.limits.memory, self.limits.operations.min(declared.max(LEAST)));
        let results = self.graph.run(tensors?, &mut meter).map_err(|problem| refused(&problem))?;
        signature.outputs.iter().zip(results).map(|(spec, result)| answer(spec, result)).collect()
    }

    /// How many rows a request has: the length of the batch dimension, or one.
    fn rows(&self, inputs: &[TensorView<'_>]) -> u64 {
        let mut lengths =
            self.free.iter().zip(inputs).filter(|(names, _)| matches!(names.first(), Some(Some(_))));
        let len = lengths.find_map(|(_, input)| input.shape.first().copied());
        len.and_then(|len| u64::try_from(len).ok()).unwrap_or(1).max(1)
    }

    /// Dimensions of one name must have one length, and none may be longer than the bounds of a row count with.
    fn check_free(&self, specs: &[TensorSpec], inputs: &[TensorView<'_>]) -> Result<(), PredictError> {
        let mut lengths: BTreeMap<&str, i64> = BTreeMap::new();
        let batch = self.free.iter().find_map(|names| names.first()?.as_deref());
        for ((spec, input), names) in specs.iter().zip(inputs).zip(&self.free) {
            for (name, &len) in names.iter().zip(input.shape) {
                let Some(name) = name.as_deref() else { continue };
                let first = *lengths.entry(name).or_insert(len);
                if first != len {
                    return Err(invalid(format!(
                        "input `{}`: the dimension `{name}` is {len}, in another place it is {first}",
                        spec.name
                    )));
                }
                if Some(name) != batch && u64::try_from(len).is_ok_and(|len| len > LONGEST_FREE_DIMENSION) {
                    return Err(PredictError::LimitExceeded {
                        message: format!(
                            "input `{}`: the dimension `{name}` is {len}, at most {LONGEST_FREE_DIMENSION} are allowed",
                            spec.name
                        ),
                        hint: "send a shorter sequence".to_owned(),
                    });
                }
            }
        }
        Ok(())
    }
}

fn operand(view: &TensorView<'_>, kind: Kind) -> Result<OnnxTensor, PredictError> {
    let shape: Option<Vec<usize>> = view.shape.iter().map(|&len| usize::try_from(len).ok()).collect();
    let shape = shape.ok_or_else(|| invalid(format!("input `{}`: a dimension is negative", view.name)))?;
    OnnxTensor::from_bytes(view.datatype.kind(), shape, view.data)
        .and_then(|tensor| as_kind(tensor, kind))
        .map_err(|problem| invalid(format!("input `{}`: {problem}", view.name)))
}

/// The same numbers as elements of another kind: requests hold kinds of 16 bits and fewer that the protocol does not have as wider ones.
fn as_kind(tensor: OnnxTensor, kind: Kind) -> Result<OnnxTensor, Problem> {
    if tensor.kind() == kind {
        return Ok(tensor);
    }
    let data = match (tensor.numbers()?, kind) {
        (Numbers::U64(all), Kind::I8) => {
            Numbers::I64(all.iter().map(|&number| number as i64).collect()).narrow(kind)
        }
        (numbers, kind) => numbers.narrow(kind),
    };
    OnnxTensor::new(tensor.shape(), data)
}

fn answer(spec: &TensorSpec, result: OnnxTensor) -> Result<Tensor, PredictError> {
    let result = if Datatype::of_kind(result.kind()) == spec.datatype {
        as_kind(result, spec.datatype.kind())
            .map_err(|problem| PredictError::Internal { message: problem.to_string() })?
    } else {
        result
    };
    if result.kind() != spec.datatype.kind() {
        let message = format!("output `{}` is {}, expected {}", spec.name, result.kind(), spec.datatype);
        return Err(PredictError::Internal { message });
    }
    let shape: Result<Vec<i64>, _> = result.shape().iter().map(|&len| i64::try_from(len)).collect();
    let shape = shape.map_err(|error| PredictError::Internal { message: error.to_string() })?;
    let result = if result.kind().is_float() {
        let dimensions = result.shape().to_vec();
        let mut data = result.into_data();
        data.canonicalize_nan();
        OnnxTensor::new(dimensions, data)
            .map_err(|problem| PredictError::Internal { message: problem.to_string() })?
    } else {
        result
    };
    Ok(Tensor { name: spec.name.clone(), datatype: spec.datatype, shape, data: result.to_bytes() })
}

fn refused(problem: &NodeProblem) -> PredictError {
    match &problem.problem {
        Problem::Limit { .. } => PredictError::LimitExceeded {
            message: format!("the request is too large for the model: {}", problem.problem),
            hint:
                "send fewer rows at once, a shorter sequence, or values with which the model has less to do"
                    .to_owned(),
        },
        Problem::Invalid(_) if problem.node.is_empty() => invalid(problem.problem.to_string()),
        Problem::Invalid(_) => PredictError::InvalidInput {
            message: problem.to_string(),
            hint: "check the shapes and values of the inputs".to_owned(),
        },
        _ => PredictError::Internal { message: problem.to_string() },
    }
}

fn invalid(message: String) -> PredictError {
    PredictError::InvalidInput { message, hint: String::new() }
}
