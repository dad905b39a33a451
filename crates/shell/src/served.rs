//! Whom a request is for, and what its rows got.

use std::collections::BTreeMap;
use std::sync::Arc;

use lockgate_package::{Digest, Engine};
use lockgate_policy::{Attribute, Placement, Reason, RequestContext, Step, VariantView};

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

/// Which versions serve a request and which rows each of them got.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Served {
    /// Each version that serves at least one row, in the order of its first row.
    pub versions: Vec<ServedVersion>,
    /// One entry per context: one for all rows, or one per row.
    pub rows: Vec<ServedRow>,
}

impl Served {
    /// A pinned version serves every row, and nothing was decided.
    pub fn pinned(variant: &VariantView<'_>) -> Self {
        let version = ServedVersion { variant: None, payload: None, ..ServedVersion::from(variant) };
        Self { versions: vec![version], rows: vec![ServedRow { version: 0, decision: None }] }
    }

    /// What row `row` got; a single context stands for every row.
    pub fn row(&self, row: usize) -> Option<(&ServedRow, &ServedVersion)> {
        let entry = if self.rows.len() == 1 { self.rows.first() } else { self.rows.get(row) }?;
        Some((entry, self.versions.get(entry.version)?))
    }

    /// The rows of each version, in the order of the versions.
    pub fn groups(&self) -> Vec<Vec<usize>> {
        let mut groups = vec![Vec::new(); self.versions.len()];
        for (row, entry) in self.rows.iter().enumerate() {
            if let Some(group) = groups.get_mut(entry.version) {
                group.push(row);
            }
        }
        groups
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
    /// What ran it, where that is known.
    pub execution: Option<Execution>,
}

impl From<&VariantView<'_>> for ServedVersion {
    fn from(variant: &VariantView<'_>) -> Self {
        Self {
            variant: Some(variant.name.to_owned()),
            model: variant.model.to_owned(),
            version: variant.version.to_owned(),
            package: variant.digest,
            placement: variant.placement,
            payload: variant.payload.map(str::to_owned),
            execution: None,
        }
    }
}

/// What ran a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Execution {
    /// The engine inside the module.
    pub engine: Engine,
    /// The identity of the inference module.
    pub core: Digest,
    /// Whether the package is a mock.
    pub mock: bool,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BundleId {
    /// Its version.
    pub version: u64,
    /// SHA-256 of its content.
    pub digest: Digest,
}
