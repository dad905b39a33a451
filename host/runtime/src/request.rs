use std::time::Duration;

use lockgate_package::plan::explain::Contributions;
use lockgate_package::{Digest, Engine, Tensor};

use crate::{BundleId, Context, OutOfRange, Served};

/// Asks which version serves each of some contexts.
#[derive(Debug, Clone, PartialEq)]
pub struct DecideRequest {
    /// The route.
    pub route: String,
    /// Whom to decide for.
    pub contexts: Vec<Context>,
    /// Milliseconds since 1970-01-01T00:00Z; `None` takes the system's clock.
    pub now_ms: Option<i64>,
    /// Time from submission to answer; `None` takes [`Settings::deadline`](crate::Settings::deadline).
    pub deadline: Option<Duration>,
}

/// Asks one package for a prediction, past any policy.
#[derive(Debug, Clone, PartialEq)]
pub struct PredictRequest {
    /// The package.
    pub package: Digest,
    /// The model's inputs.
    pub inputs: Vec<Tensor>,
    /// What each feature contributes: outputs more.
    pub contributions: Contributions,
    /// Time from submission to answer; `None` takes [`Settings::deadline`](crate::Settings::deadline).
    pub deadline: Option<Duration>,
}

/// Asks a route for predictions: decide for every row, group the rows by version, predict, merge.
#[derive(Debug, Clone, PartialEq)]
pub struct InferRequest {
    /// The route.
    pub route: String,
    /// One context for all rows, or exactly one per row.
    pub contexts: Vec<Context>,
    /// A version the caller insists on, so that the policy is not asked: `<version>` if only one model of the route
    /// has it, else `<model>@<version>`.
    pub pinned: Option<String>,
    /// The inputs; the leading dimension of each is the number of rows.
    pub inputs: Vec<Tensor>,
    /// What each feature contributes: outputs more.
    pub contributions: Contributions,
    /// Milliseconds since 1970-01-01T00:00Z; `None` takes the system's clock.
    pub now_ms: Option<i64>,
    /// Time from submission to answer; `None` takes [`Settings::deadline`](crate::Settings::deadline).
    pub deadline: Option<Duration>,
}

/// Which version serves each context, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct DecideAnswer {
    /// What each context got.
    pub served: Served,
    /// The bundle that decided.
    pub bundle: BundleId,
    /// The identity of the policy module.
    pub core: Digest,
    /// Where the time went.
    pub timings: Timings,
}

/// What one package said.
#[derive(Debug, Clone, PartialEq)]
pub struct PredictAnswer {
    /// The outputs.
    pub outputs: Vec<Tensor>,
    /// Features outside the range seen in training.
    pub out_of_range: Vec<OutOfRange>,
    /// The identity of the inference module.
    pub core: Digest,
    /// The engine that ran.
    pub engine: Engine,
    /// Where the time went.
    pub timings: Timings,
}

/// What a route said, row by row in the caller's order.
#[derive(Debug, Clone, PartialEq)]
pub struct InferAnswer {
    /// The outputs, merged over all versions that ran.
    pub outputs: Vec<Tensor>,
    /// Which version served which rows.
    pub served: Served,
    /// Features outside the range seen in training; rows are the caller's.
    pub out_of_range: Vec<OutOfRange>,
    /// Whether the caller pinned the version; the policy was not asked then.
    pub pinned: bool,
    /// The bundle that the route comes from.
    pub bundle: BundleId,
    /// The identity of the policy module.
    pub core: Digest,
    /// Where the time went.
    pub timings: Timings,
}

/// Where a request's time went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// Waiting for a worker.
    pub queue: Duration,
    /// In the policy module, crossing included.
    pub decide: Duration,
    /// In the inference module, crossing included; all versions together.
    pub predict: Duration,
}
