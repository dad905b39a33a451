use lockgate_abi::Failure;
use lockgate_core::CoreError;
use lockgate_runtime::InstallError;

/// Why nothing was baked. [`code`](Self::code) is stable, [`hint`](Self::hint) says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BakeError {
    /// There is neither a bundle nor a package.
    #[error("there is nothing to bake: neither a policy nor a package was given")]
    Nothing,
    /// A loader would refuse it too.
    #[error(transparent)]
    Refused(#[from] InstallError),
    /// The flavour that is needed is not part of the core.
    #[error("{name} needs the graph flavour of the inference module, which this core does not have")]
    NoGraph {
        /// The package that needs it, `model@version`, or what else asked for it.
        name: String,
    },
    /// The flavour that was asked for cannot run a package.
    #[error("{name} needs the graph flavour of the inference module, and the tabular one was asked for")]
    WrongFlavour {
        /// `model@version`.
        name: String,
    },
    /// The module refused what it was handed.
    #[error("{name} cannot be loaded into the core: {}", failure.message)]
    Load {
        /// The bundle, a unit list, or `model@version`.
        name: String,
        /// What the module said.
        failure: Failure,
    },
    /// The module's memory does not hold it.
    #[error("{name} of {bytes} bytes does not fit into what is left of the module's memory of {limit} bytes")]
    NoRoom {
        /// The bundle, a unit list, or `model@version`.
        name: String,
        /// Its size.
        bytes: usize,
        /// The module's limit.
        limit: u64,
    },
    /// The module stopped while it was loading.
    #[error("{name} cannot be loaded into the core, which stopped: {problem}")]
    Trap {
        /// The bundle, a unit list, or `model@version`.
        name: String,
        /// What wasmtime said.
        problem: String,
    },
    /// The module of the core, or its component, cannot be used.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// The module is none of the core, or its image came out wrong.
    #[error("the {module} module cannot be baked: {problem}")]
    Module {
        /// `policy`, `tabular` or `graph`.
        module: &'static str,
        /// What is wrong.
        problem: String,
    },
}

impl BakeError {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Nothing => "nothing_to_bake",
            Self::Refused(error) => error.code(),
            Self::NoGraph { .. } | Self::WrongFlavour { .. } => "missing_module",
            Self::Load { failure, .. } => failure.code.name(),
            Self::NoRoom { .. } => "limit_exceeded",
            Self::Trap { .. } => "trap",
            Self::Core(_) | Self::Module { .. } => "unusable_core",
        }
    }

    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Nothing => Some("name a policy, packages, or both"),
            Self::Refused(error) => error.hint(),
            Self::NoGraph { .. } => Some("build the core with the graph flavour"),
            Self::WrongFlavour { .. } => {
                Some("leave the flavour out, so that the smallest one that fits is taken")
            }
            Self::Load { failure, .. } => Some(failure.hint.as_str()).filter(|hint| !hint.is_empty()),
            Self::NoRoom { .. } => Some("bake fewer packages into one module, or a smaller model"),
            Self::Trap { .. } => Some("bake fewer packages into one module"),
            Self::Core(_) | Self::Module { .. } => None,
        }
    }
}
