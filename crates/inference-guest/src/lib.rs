//! The `inference` module of the core: [`lockgate_inference`] behind the flat entry point of `docs/abi.md` and the
//! world `inference-core` of `wit/core.wit`. Both give the same answers.
//!
//! With the feature `graph` it is the graph flavour, without it the tabular one. A module imports nothing, so it can do
//! nothing but compute: bytes come in, bytes go out.

mod component;
pub mod flat;

use lockgate_abi::{ErrorCode, Failure};
use lockgate_inference::{Contributions, LoadError, Model, PredictError, Prediction};
#[cfg(feature = "graph")]
use lockgate_package::plan::graph::GraphPlanError;
use lockgate_package::plan::tabular::TabularPlanError;
use lockgate_package::{AlignedBytes, PackageError, TensorView};

#[cfg(target_arch = "wasm32")]
#[global_allocator]
static ALLOCATOR: lockgate_abi::OutlinedAllocator = lockgate_abi::OutlinedAllocator;

fn load(bytes: AlignedBytes) -> Result<Model, Failure> {
    Model::load(bytes).map_err(|error| Failure {
        code: load_code(&error),
        message: error.to_string(),
        hint: error.hint().to_owned(),
    })
}

fn load_code(error: &LoadError) -> ErrorCode {
    match error {
        LoadError::Package(PackageError::Envelope(error)) => error.into(),
        LoadError::Package(PackageError::TabularPlan(TabularPlanError::NewerVersion { .. })) => {
            ErrorCode::UnsupportedVersion
        }
        #[cfg(feature = "graph")]
        LoadError::Package(PackageError::GraphPlan(GraphPlanError::OtherVersion { .. })) => {
            ErrorCode::UnsupportedVersion
        }
        LoadError::UnsupportedPlan { .. } => ErrorCode::UnsupportedPlan,
        _ => ErrorCode::MalformedContent,
    }
}

fn predict(
    model: &mut Model,
    inputs: &[TensorView<'_>],
    contributions: Contributions,
) -> Result<Prediction, Failure> {
    model.explain(inputs, contributions).map_err(|error| {
        let code = match &error {
            PredictError::InvalidInput { .. } | PredictError::NoContributions { .. } => {
                ErrorCode::InvalidInput
            }
            PredictError::MissingValue { .. } => ErrorCode::MissingValue,
            PredictError::LimitExceeded { .. } => ErrorCode::LimitExceeded,
            _ => ErrorCode::Internal,
        };
        Failure { code, message: error.to_string(), hint: error.hint().to_owned() }
    })
}

/// What the options of a request ask for; of several with one name the last counts.
fn options<'a>(
    options: impl Iterator<Item = Result<(&'a str, &'a str), Failure>>,
) -> Result<Contributions, Failure> {
    let mut contributions = Contributions::None;
    for option in options {
        let (name, value) = option?;
        let malformed =
            |message: String| Failure { code: ErrorCode::MalformedRequest, message, hint: String::new() };
        if name != "contributions" {
            return Err(malformed(format!("unknown option `{name}`; expected `contributions`")));
        }
        contributions = Contributions::of(value).ok_or_else(|| {
            malformed(format!(
                "option `contributions`: expected {}, found `{value}`",
                Contributions::EXPECTED
            ))
        })?;
    }
    Ok(contributions)
}

/// The mark of a request of the fault core: the first element of the first FP32 input.
#[cfg(feature = "fault")]
fn mark<'a>(
    mut inputs: impl Iterator<Item = (lockgate_package::Datatype, &'a [u8])>,
) -> Option<lockgate_abi::fault::Mark> {
    let (_, data) = inputs.find(|(datatype, _)| *datatype == lockgate_package::Datatype::Fp32)?;
    lockgate_abi::fault::Mark::of_value(f32::from_le_bytes(*data.first_chunk()?))
}
