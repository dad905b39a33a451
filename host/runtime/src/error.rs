//! Who makes errors and what they mean.
//!
//! [`BuildError`] comes before the first request and says that the machine or the core cannot be used. [`InstallError`]
//! comes from a new bundle or package set; what was installed stays. [`RuntimeError`] belongs to one request and
//! never harms another: whatever a guest did, its instance is gone and the next request gets a new one.
//! [`RuntimeError::code`] is stable and meant for programs; messages are meant for people and name what was expected.

use lockgate_package::Digest;
use lockgate_package::signing::TrustError;

use crate::RuntimeError;

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
    /// Mocks, where answers count.
    #[error("mocks are not served in production: {}", .0.join(", "))]
    Mock(Vec<String>),
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
    /// Baked modules are not those of what is installed, or not of this core.
    #[error("the baked {module} module cannot be used: {problem}")]
    Baked {
        /// `policy` or `inference`.
        module: &'static str,
        /// What is wrong.
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
            Self::Mock(_) => "mock_in_production",
            Self::Module { .. } => "missing_module",
            Self::Baked { .. } => "unusable_image",
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
            Self::Mock(_) => Some(
                "package the real models and compile the policy with them; elsewhere, set the environment to another than production",
            ),
            Self::Baked { .. } => Some("bake again with this bundle, these packages and this release"),
            Self::Load { error, .. } => error.hint(),
            _ => None,
        }
    }
}
