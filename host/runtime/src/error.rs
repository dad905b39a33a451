//! Who makes errors and what they mean.
//!
//! [`BuildError`] comes before the first request and says that the machine or the core cannot be used. [`InstallError`]
//! comes from a new bundle or package set; what was installed stays. [`RuntimeError`] belongs to one request and
//! never harms another: whatever a guest did, its instance is gone and the next request gets a new one.
//! [`RuntimeError::code`] is stable and meant for programs; messages are meant for people and name what was expected.

use std::time::Duration;

use lockgate_abi::{ErrorCode, Malformed};
use lockgate_package::Digest;
use lockgate_package::signing::TrustError;

/// Why a runtime could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// wasmtime refused its configuration or a module.
    #[error("cannot prepare the {what}: {problem}")]
    Engine {
        /// Which part.
        what: String,
        /// What wasmtime said.
        problem: String,
    },
    /// A module is not one that this runtime can drive.
    #[error("the {module} module speaks ABI {}.{}, this runtime speaks {}.x; use a core of the same release",
        found >> 16, found & 0xffff, lockgate_abi::VERSION >> 16)]
    Abi {
        /// Which module.
        module: &'static str,
        /// `major << 16 | minor`.
        found: u32,
    },
    /// A module imports something. The core imports nothing, so this is not one of its modules.
    #[error("the {module} module imports `{import}`; a module of the core imports nothing")]
    Imports {
        /// Which module.
        module: &'static str,
        /// The first import.
        import: String,
    },
    /// The operating system gave no thread.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// Why a bundle or package set was not installed. What was installed before still serves. [`code`](Self::code) is stable,
/// [`hint`](Self::hint) says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// The bundle cannot be read.
    #[error("the policy bundle cannot be used: {0}")]
    Bundle(String),
    /// A package cannot be read.
    #[error("package {name} cannot be used: {problem}")]
    Package {
        /// Its model and version where known, else its place in the list.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// A demand is not met: a signature, a version, a parent, a digest. Every bundle must have a higher version than all before
    /// it, or be the newest of them again.
    #[error("{name}: {error}")]
    Untrusted {
        /// The file.
        name: String,
        /// What was demanded, and what was found.
        error: Box<TrustError>,
    },
    /// The bundle was accepted, but that could not be remembered.
    #[error(
        "{name} is not installed, because a restart would forget that its version was accepted: {problem}"
    )]
    NotRecorded {
        /// The file.
        name: String,
        /// Why not.
        problem: String,
    },
    /// Two packages have one name.
    #[error("two packages are called {name} but differ: {} and {}", first.short(), second.short())]
    Conflict {
        /// `model@version`.
        name: String,
        /// One of them.
        first: Digest,
        /// The other.
        second: Digest,
    },
    /// The bundle pins packages that were not given.
    #[error("the bundle needs packages that are missing:\n{}", .0.join("\n"))]
    Missing(Vec<String>),
    /// Packages were given for models that the bundle pins to other ones.
    #[error("the bundle pins other packages than the ones that are there:\n{}", .0.join("\n"))]
    WronglyPinned(Vec<String>),
    /// A package's inputs or outputs are not those of a route that it serves.
    #[error("packages do not fit the routes that they serve:\n{}", .0.join("\n"))]
    Signature(Vec<String>),
    /// A module of the core cannot be compiled, or a flavour that a package needs is not part of the core.
    #[error("{name} needs the {flavour} inference module: {problem}")]
    Module {
        /// `model@version`.
        name: String,
        /// `tabular` or `graph`.
        flavour: &'static str,
        /// Why it cannot be had.
        problem: String,
    },
    /// Loading into an instance failed.
    #[error("{name} cannot be loaded into the core: {error}")]
    Load {
        /// The bundle, or a package's `model@version`.
        name: String,
        /// What happened.
        error: RuntimeError,
    },
}

impl InstallError {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Bundle(_) => "unusable_bundle",
            Self::Package { .. } => "unusable_package",
            Self::Untrusted { error, .. } => error.code(),
            Self::NotRecorded { .. } => "not_recorded",
            Self::Conflict { .. } => "package_conflict",
            Self::Missing(_) => "missing_package",
            Self::WronglyPinned(_) => "wrong_pin",
            Self::Signature(_) => "signature_mismatch",
            Self::Module { .. } => "missing_module",
            Self::Load { error, .. } => error.code(),
        }
    }

    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Untrusted { error, .. } => Some(error.hint()),
            Self::WronglyPinned(_) => Some(
                "give the packages that the bundle pins, or compile the policy again with the ones that are there",
            ),
            Self::Load { error, .. } => error.hint(),
            _ => None,
        }
    }
}

/// Why one request got no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// Too many requests are waiting.
    #[error("{waiting} requests are waiting already; try again in {} s", retry_after.as_secs().max(1))]
    Overloaded {
        /// How many wait.
        waiting: usize,
        /// When it makes sense to come back.
        retry_after: Duration,
    },
    /// The request's time ran out, waiting or running.
    #[error("no answer within {} ms; the request was {stage}", after.as_millis())]
    DeadlineExceeded {
        /// The request's time.
        after: Duration,
        /// `waiting`, `deciding` or `predicting`.
        stage: &'static str,
    },
    /// The runtime is being dropped.
    #[error("the runtime is shutting down")]
    ShuttingDown,
    /// No bundle is installed, so there are no routes.
    #[error("no policy bundle is installed")]
    NoBundle,
    /// The bundle has no such route.
    #[error("unknown route `{route}`")]
    UnknownRoute {
        /// What was asked for.
        route: String,
    },
    /// No variant of the route has the pinned version.
    #[error("route `{route}` has no version `{version}`; it has {}", available.join(", "))]
    UnknownVersion {
        /// The route.
        route: String,
        /// What was asked for.
        version: String,
        /// `model@version` of each.
        available: Vec<String>,
    },
    /// The policy has switched the pinned version off.
    #[error("version `{version}` of route `{route}` is disabled")]
    VersionDisabled {
        /// The route.
        route: String,
        /// `model@version`.
        version: String,
    },
    /// Several models of the route have the pinned version.
    #[error("version `{version}` of route `{route}` is ambiguous; ask for one of {}", candidates.join(", "))]
    AmbiguousVersion {
        /// The route.
        route: String,
        /// What was asked for.
        version: String,
        /// `model@version` of each.
        candidates: Vec<String>,
    },
    /// No package with this digest is installed.
    #[error("no package {package} is installed")]
    UnknownPackage {
        /// What was asked for.
        package: Digest,
    },
    /// The inputs or contexts do not line up, or a tensor is not what the model takes.
    #[error("{message}")]
    InvalidInput {
        /// What, and what was expected.
        message: String,
        /// What to do about it; may be empty.
        hint: String,
    },
    /// NaN for a model that does not accept missing values.
    #[error("{message}")]
    MissingValue {
        /// Where it is.
        message: String,
        /// What to do about it; may be empty.
        hint: String,
    },
    /// The request is beyond a limit that the module announced.
    #[error("{message}")]
    LimitExceeded {
        /// Which limit.
        message: String,
        /// What to do about it; may be empty.
        hint: String,
    },
    /// The version runs elsewhere.
    #[error("{model}@{version} is placed on `{placement}`, which this runtime does not serve")]
    NotServedHere {
        /// The model.
        model: String,
        /// Its version.
        version: String,
        /// Its placement.
        placement: &'static str,
    },
    /// The versions that serve the rows of one request give outputs that cannot be merged.
    #[error("the rows of this request are served by versions whose outputs differ: {problem}")]
    OutputsDiffer {
        /// Which, and how.
        problem: String,
    },
    /// The package failed too often and is refused for a while.
    #[error("{model}@{version} failed repeatedly and is quarantined for another {} s", retry_after.as_secs().max(1))]
    Quarantined {
        /// The model.
        model: String,
        /// Its version.
        version: String,
        /// When it will be tried again.
        retry_after: Duration,
    },
    /// The guest trapped.
    #[error("the {module} module trapped: {message}")]
    Trap {
        /// `policy`, or the inference flavour and the package.
        module: String,
        /// What wasmtime said.
        message: String,
    },
    /// The guest wanted more memory than it may have, and gave up.
    #[error("the {module} module wanted more than its {} MiB of memory", limit >> 20)]
    MemoryLimit {
        /// `policy`, or the inference flavour and the package.
        module: String,
        /// The cap in bytes.
        limit: usize,
    },
    /// The guest's response is not what the ABI says.
    #[error("the {module} module gave a malformed response: {problem}")]
    MalformedResponse {
        /// `policy`, or the inference flavour and the package.
        module: String,
        /// What is wrong with it.
        problem: Malformed,
    },
    /// The guest reported an error that a request should not cause.
    #[error("the {module} module reported `{}`: {message}", code.name())]
    Core {
        /// `policy`, or the inference flavour and the package.
        module: String,
        /// The kind.
        code: ErrorCode,
        /// What it said.
        message: String,
    },
    /// A defect of the runtime.
    #[error("a defect of the runtime: {message}")]
    Internal {
        /// What happened.
        message: String,
    },
}

impl RuntimeError {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Overloaded { .. } => "overloaded",
            Self::DeadlineExceeded { .. } => "deadline_exceeded",
            Self::ShuttingDown => "shutting_down",
            Self::NoBundle => "no_bundle",
            Self::UnknownRoute { .. } => "unknown_route",
            Self::UnknownVersion { .. } => "unknown_version",
            Self::VersionDisabled { .. } => "version_disabled",
            Self::AmbiguousVersion { .. } => "ambiguous_version",
            Self::UnknownPackage { .. } => "unknown_package",
            Self::InvalidInput { .. } => "invalid_input",
            Self::MissingValue { .. } => "missing_value",
            Self::LimitExceeded { .. } => "limit_exceeded",
            Self::NotServedHere { .. } => "not_served_here",
            Self::OutputsDiffer { .. } => "outputs_differ",
            Self::Quarantined { .. } => "quarantined",
            Self::Trap { .. } => "trap",
            Self::MemoryLimit { .. } => "memory_limit",
            Self::MalformedResponse { .. } => "malformed_response",
            Self::Core { .. } => "core_error",
            Self::Internal { .. } => "internal",
        }
    }

    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<&str> {
        let hint = match self {
            Self::InvalidInput { hint, .. }
            | Self::MissingValue { hint, .. }
            | Self::LimitExceeded { hint, .. } => hint,
            Self::OutputsDiffer { .. } => {
                "let the variants of a route share the names, datatypes and shapes of their outputs, or send one row per request"
            }
            _ => return None,
        };
        (!hint.is_empty()).then_some(hint)
    }

    /// Whether a guest misbehaved, so that its instance was replaced.
    pub fn is_fault(&self) -> bool {
        matches!(self, Self::Trap { .. } | Self::MemoryLimit { .. } | Self::MalformedResponse { .. })
    }
}
