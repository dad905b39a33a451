use lockgate_explain::Problem;
use lockgate_package::PackageError;
use lockgate_package::plan::explain::Unexplained;

/// Why a package cannot be loaded.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The bytes are no readable package, or their plan does not check.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// The package is fine, but this build lacks its engine.
    #[error(
        "the package of {model} needs the `{engine}` engine, which this flavour of the inference module lacks"
    )]
    UnsupportedPlan {
        /// The model and version, `eurusd_lstm_1h@2.1.0`.
        model: String,
        /// The engine that the plan is written for.
        engine: &'static str,
    },
    /// The plan's arrays do not hold what the plan relies on.
    #[error("the package of {model} is malformed: {problem}")]
    MalformedPlan {
        /// The model and version.
        model: String,
        /// What is wrong and where.
        problem: String,
    },
}

/// Why a request cannot be answered. The kinds are those of the flat entry point.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PredictError {
    /// A tensor's name, datatype, shape or data do not fit the signature.
    #[error("{message}")]
    InvalidInput {
        /// Which tensor, what was expected and what was found.
        message: String,
        /// What to do about it; may be empty.
        hint: String,
    },
    /// NaN for a model that does not accept missing values.
    #[error("{message}")]
    MissingValue {
        /// Which tensor, row and feature.
        message: String,
        /// What to do about it.
        hint: String,
    },
    /// The request is larger than what one call may hold.
    #[error("{message}")]
    LimitExceeded {
        /// Which limit, and by how much.
        message: String,
        /// What to do about it.
        hint: String,
    },
    /// Contributions are asked of a model that has none to give.
    #[error("{message}")]
    NoContributions {
        /// What stands in the way.
        message: String,
        /// What to do about it.
        hint: String,
    },
    /// A defect of the engine.
    #[error("{message}")]
    Internal {
        /// What happened.
        message: String,
    },
}

impl LoadError {
    /// What to do about it; may be empty.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Package(_) => "package the model again with this version of Lockgate",
            Self::UnsupportedPlan { .. } => "load it into the graph flavour of the inference module",
            Self::MalformedPlan { .. } => "package the model again from its ONNX file",
        }
    }
}

impl PredictError {
    /// What to do about it; may be empty.
    pub fn hint(&self) -> &str {
        match self {
            Self::InvalidInput { hint, .. }
            | Self::MissingValue { hint, .. }
            | Self::LimitExceeded { hint, .. }
            | Self::NoContributions { hint, .. } => hint,
            Self::Internal { .. } => "",
        }
    }
}

impl From<Problem> for PredictError {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::None(Unexplained { message, hint }) => {
                Self::NoContributions { message, hint: hint.to_owned() }
            }
            Problem::TooLarge(message, hint) => Self::LimitExceeded { message, hint: hint.to_owned() },
            Problem::Misfit => {
                Self::Internal { message: "the raw scores of a plan do not fit it".to_owned() }
            }
        }
    }
}
