//! The engine of graph plans.
//!
//! A plan is checked as a whole ([`GraphPlan::facts`]), wired onto tract's typed operators with the batch as a free dimension,
//! optimised once and kept as a runnable state. Recurrent layers, products with constant weights and the elementary functions
//! are kernels of our own: they are where tract is slow or would give other bits on other targets.

mod kernel_op;
mod kernels;
mod panels;
mod recurrent;
mod wire;

use lockgate_onnx_ml::math;
use lockgate_package::plan::graph::{Dim, Fact, GraphPlan, GraphPlanError, LONGEST_FREE_DIMENSION};
use lockgate_package::{Datatype, Envelope, Tensor, TensorView};
use tract_core::internal::{IntoTValue, TValue, TVec, TractError, TypedFact, TypedOp};
use tract_core::plan::{SimplePlan, SimpleState};

use crate::PredictError;

/// The most bytes that the values of one request may take together.
const MOST_BYTES: u64 = 256 * 1024 * 1024;

/// A plan, ready to run.
#[derive(Debug)]
pub(crate) struct GraphModel {
    state: SimpleState<TypedFact, Box<dyn TypedOp>>,
    inputs: Vec<(String, Fact)>,
    outputs: Vec<(String, Fact)>,
    symbols: Vec<String>,
    /// Every value that costs memory while a request runs.
    values: Vec<Fact>,
}

/// Why a plan cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GraphLoadError {
    /// The plan does not hold together.
    #[error(transparent)]
    Plan(#[from] GraphPlanError),
    /// The plan holds together but cannot be wired.
    #[error("node `{node}` of the graph plan cannot be wired: {problem}")]
    Node {
        /// The node's name.
        node: String,
        /// What tract or a kernel said.
        problem: String,
    },
    /// The wired plan cannot be run.
    #[error("the graph plan cannot be wired: {0}")]
    Whole(String),
}

impl GraphModel {
    /// Wires the plan that `envelope` holds.
    ///
    /// # Errors
    /// A plan that does not hold together, or that tract refuses; names the node.
    pub(crate) fn load(plan: &GraphPlan, envelope: &Envelope) -> Result<Self, GraphLoadError> {
        let facts = plan.facts()?;
        let bytes =
            |index: usize| plan.array_section(index).map_or(&[][..], |section| envelope.bytes_of(section));
        let model = wire::wire(plan, &facts, &bytes).map_err(|error| {
            let wire::WireError { node, problem } = error;
            if node.is_empty() {
                GraphLoadError::Whole(problem)
            } else {
                GraphLoadError::Node { node, problem }
            }
        })?;
        let whole = |error| GraphLoadError::Whole(wire::chain(&error));
        let model = model.into_optimized().map_err(whole)?;
        let state = SimplePlan::new(model).and_then(|plan| plan.spawn()).map_err(whole)?;
        let fact = |value: u32| usize::try_from(value).ok().and_then(|value| facts.get(value)).cloned();
        let outputs = plan.outputs.iter().map(|output| Some((output.name.clone(), fact(output.value)?)));
        let outputs: Option<Vec<(String, Fact)>> = outputs.collect();
        let arrays = plan.inputs.len()..plan.inputs.len().saturating_add(plan.arrays.len());
        Ok(Self {
            state,
            inputs: plan.inputs.iter().map(|input| (input.name.clone(), input.fact.clone())).collect(),
            outputs: outputs.ok_or_else(|| GraphLoadError::Whole("an output is missing".to_owned()))?,
            symbols: plan.symbols.clone(),
            values: facts
                .iter()
                .enumerate()
                .filter(|(at, _)| !arrays.contains(at))
                .map(|(_, fact)| fact.clone())
                .collect(),
        })
    }

    /// The outputs, in the plan's order, for inputs in any order.
    ///
    /// # Errors
    /// A tensor is missing or does not fit, or the request is too large.
    pub(crate) fn run(&mut self, inputs: &[TensorView<'_>]) -> Result<Vec<Tensor>, PredictError> {
        let mut symbols = vec![None; self.symbols.len()];
        let mut operands: TVec<TValue> = TVec::new();
        for (name, fact) in &self.inputs {
            let view = inputs.iter().find(|view| view.name == name);
            let view = view.ok_or_else(|| invalid(format!("input `{name}` is missing")))?;
            operands.push(self.operand(name, fact, view, &mut symbols)?);
        }
        let lengths: Vec<u64> = symbols.into_iter().map(|length| length.unwrap_or(1)).collect();
        self.check_size(&lengths)?;
        if lengths.first() == Some(&0) {
            return self.outputs.iter().map(|(name, fact)| empty(name, fact, &lengths)).collect();
        }
        let results = self.state.run(operands);
        let results = match results {
            Ok(results) => results,
            Err(error) => {
                // The next request must not find half of this one.
                let _ = self.state.reset_turn();
                return Err(internal(&error));
            }
        };
        self.outputs
            .iter()
            .zip(results)
            .map(|((name, fact), value)| answer(name, fact.datatype, &value))
            .collect()
    }

    fn operand(
        &self,
        name: &str,
        fact: &Fact,
        view: &TensorView<'_>,
        symbols: &mut [Option<u64>],
    ) -> Result<TValue, PredictError> {
        let spec = fact.spec(name);
        let misfit = || {
            invalid(format!(
                "input `{name}`: expected {} {:?}, found {} {:?}",
                spec.datatype, spec.shape, view.datatype, view.shape
            ))
        };
        let shape: Option<Vec<usize>> = view.shape.iter().map(|&len| usize::try_from(len).ok()).collect();
        let shape =
            shape.filter(|_| view.datatype == fact.datatype && spec.admits(view.shape)).ok_or_else(misfit)?;
        for (dim, &len) in fact.shape.iter().zip(&shape) {
            let (Dim::Free { symbol, .. }, Ok(len)) = (dim, u64::try_from(len)) else { continue };
            let index = usize::try_from(*symbol).unwrap_or(usize::MAX);
            let Some(bound) = symbols.get_mut(index) else { continue };
            let label = self.symbols.get(index).map_or("", String::as_str);
            if bound.is_some_and(|bound| bound != len) {
                return Err(invalid(format!(
                    "input `{name}`: the dimension `{label}` is {len}, in another place it is {}",
                    bound.unwrap_or_default()
                )));
            }
            if index > 0 && len == 0 {
                return Err(invalid(format!("input `{name}`: the dimension `{label}` is empty")));
            }
            if index > 0 && len > LONGEST_FREE_DIMENSION {
                return Err(PredictError::LimitExceeded {
                    message: format!(
                        "input `{name}`: the dimension `{label}` is {len}, at most {LONGEST_FREE_DIMENSION} are allowed"
                    ),
                    hint: "send a shorter sequence".to_owned(),
                });
            }
            *bound = Some(len);
        }
        let tensor = wire::tensor(view.datatype, &shape, view.data);
        tensor.map(IntoTValue::into_tvalue).map_err(|_| {
            invalid(format!(
                "input `{name}`: {} bytes of data do not fill {} {:?}",
                view.data.len(),
                view.datatype,
                view.shape
            ))
        })
    }

    fn check_size(&self, lengths: &[u64]) -> Result<(), PredictError> {
        let bytes = self.values.iter().fold(0_u64, |sum, fact| {
            let size = u64::try_from(fact.datatype.size().unwrap_or(0)).unwrap_or(0);
            sum.saturating_add(fact.elements(lengths).saturating_mul(size))
        });
        if bytes <= MOST_BYTES {
            return Ok(());
        }
        let rows = lengths.first().copied().unwrap_or(1);
        Err(PredictError::LimitExceeded {
            message: format!(
                "{rows} rows need {bytes} bytes of working memory, at most {MOST_BYTES} are allowed"
            ),
            hint: "send fewer rows at once".to_owned(),
        })
    }
}

fn invalid(message: String) -> PredictError {
    PredictError::InvalidInput { message, hint: String::new() }
}

fn internal(error: &TractError) -> PredictError {
    defect(&wire::chain(error))
}

fn defect(problem: &str) -> PredictError {
    PredictError::Internal { message: format!("the graph engine failed: {problem}") }
}

fn empty(name: &str, fact: &Fact, lengths: &[u64]) -> Result<Tensor, PredictError> {
    let shape = fact.shape.iter().map(|dim| dim.with(lengths).and_then(|len| i64::try_from(len).ok()));
    let shape: Option<Vec<i64>> = shape.collect();
    let shape = shape.ok_or_else(|| defect(&format!("output `{name}` has no shape")))?;
    if shape.contains(&0) {
        return Ok(Tensor { name: name.to_owned(), datatype: fact.datatype, shape, data: Vec::new() });
    }
    Err(invalid(format!("output `{name}` cannot be computed from no rows")))
}

fn answer(name: &str, datatype: Datatype, value: &TValue) -> Result<Tensor, PredictError> {
    let shape: Result<Vec<i64>, _> = value.shape().iter().map(|&len| i64::try_from(len)).collect();
    let shape = shape.map_err(|error| defect(&error.to_string()))?;
    let view = value.try_as_plain_ram().map_err(|error| internal(&error))?;
    let data = match datatype {
        Datatype::Fp32 => {
            let mut values = view.as_slice::<f32>().map_err(|error| internal(&error))?.to_vec();
            math::canonicalize_nan(&mut values);
            values.iter().flat_map(|value| value.to_le_bytes()).collect()
        }
        Datatype::Fp64 => {
            let mut values = view.as_slice::<f64>().map_err(|error| internal(&error))?.to_vec();
            math::canonicalize_nan(&mut values);
            values.iter().flat_map(|value| value.to_le_bytes()).collect()
        }
        _ => view.as_bytes().to_vec(),
    };
    Ok(Tensor { name: name.to_owned(), datatype, shape, data })
}

#[cfg(test)]
mod tests;
