use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lockgate_package::{Digest, Engine, Tensor};
use lockgate_policy::{Attribute, Placement, Reason, RequestContext, Step};

/// What is known about a caller or a row. The route is named by the request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Context {
    /// The user.
    pub user: Option<String>,
    /// The instrument.
    pub symbol: Option<String>,
    /// The tenant.
    pub tenant: Option<String>,
    /// The session.
    pub session: Option<String>,
    /// The variant that the caller asks for; the policy says whether that counts.
    pub variant: Option<String>,
    /// Everything else, by name.
    pub attributes: BTreeMap<String, Attribute>,
}

impl Context {
    /// The same, for a route, as the policy's own types have it.
    pub fn for_route(&self, route: &str) -> RequestContext {
        let Self { user, symbol, tenant, session, variant, attributes } = self.clone();
        RequestContext { user, symbol, tenant, session, variant, attributes, ..RequestContext::new(route) }
    }
}

/// Leaves the route out.
impl From<RequestContext> for Context {
    fn from(context: RequestContext) -> Self {
        let RequestContext { route: _, user, symbol, tenant, session, variant, attributes } = context;
        Self { user, symbol, tenant, session, variant, attributes }
    }
}

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

/// Which versions serve a request and which rows each of them got.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Served {
    /// Each version that serves at least one row, in the order of its first row.
    pub versions: Vec<ServedVersion>,
    /// One entry per context: one for all rows, or one per row.
    pub rows: Vec<ServedRow>,
}

impl Served {
    /// What row `row` got; a single context stands for every row.
    pub fn row(&self, row: usize) -> Option<(&ServedRow, &ServedVersion)> {
        let entry = if self.rows.len() == 1 { self.rows.first() } else { self.rows.get(row) }?;
        Some((entry, self.versions.get(entry.version)?))
    }
}

/// A version that serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedVersion {
    /// The variant; `None` when the caller pinned the version.
    pub variant: Option<String>,
    /// The model.
    pub model: String,
    /// The model's version.
    pub version: String,
    /// The package.
    pub package: Digest,
    /// Where the version runs.
    pub placement: Placement,
    /// The variant's payload, JSON text.
    pub payload: Option<String>,
    /// What runs it here; `None` for a version that runs elsewhere.
    pub execution: Option<Execution>,
}

/// What runs a version here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Execution {
    /// The engine inside the module.
    pub engine: Engine,
    /// The identity of the inference module.
    pub core: Digest,
}

/// What one row got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedRow {
    /// Index into [`Served::versions`].
    pub version: usize,
    /// Why; `None` when the caller pinned the version.
    pub decision: Option<Why>,
}

/// Why a variant was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// OpenFeature's word for it.
    pub reason: Reason,
    /// The step of the precedence that decided.
    pub step: Step,
    /// The permitted request, holdout, test group, symbol rollout or rule that matched.
    pub rule: Option<Arc<str>>,
    /// The layer whose hash space was used.
    pub layer: Option<Arc<str>>,
    /// The unit's place in it.
    pub bucket: Option<u32>,
    /// The stage of a ramp; 0 before the first.
    pub stage: Option<u32>,
    /// The number of a switchback's window.
    pub window: Option<u32>,
    /// The unit that the split sticks to was missing.
    pub unit_missing: bool,
    /// The unit is held out, so that the baseline serves.
    pub holdout: bool,
    /// A switchback's window has only begun, so that the baseline serves.
    pub washout: bool,
    /// The variant's package is unavailable, and so are those of all its fallbacks.
    pub unavailable: bool,
    /// The variant that was chosen, when a fallback serves in its place.
    pub intended: Option<Arc<str>>,
    /// The tenant whose definition of the route it is.
    pub tenant: Option<Arc<str>>,
    /// The user whose definition of the route it is.
    pub user: Option<Arc<str>>,
}

/// A feature outside the range seen in training.
#[derive(Debug, Clone, PartialEq)]
pub struct OutOfRange {
    /// The row.
    pub row: u32,
    /// Index of the feature in the manifest of the package that served the row.
    pub feature: u32,
    /// The feature's name.
    pub name: Arc<str>,
    /// The value that the row has.
    pub value: f64,
}

/// Names a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BundleId {
    /// Its version.
    pub version: u64,
    /// SHA-256 of its content.
    pub digest: Digest,
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
