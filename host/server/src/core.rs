//! The core that this program runs.

use std::path::Path;

use lockgate_core::CoreModules;
use lockgate_runtime::{Runtime, Settings};

use crate::failure::Failure;

/// The core in `folder`, or the one that was built into this program.
pub(crate) fn load(folder: Option<&Path>) -> Result<CoreModules, Failure> {
    let core = match folder {
        Some(folder) => CoreModules::from_dir(folder).map(Some),
        None => CoreModules::embedded(),
    };
    core.map_err(|error| Failure::new(error.to_string()))?.ok_or_else(|| {
        Failure::new("this program was built without a core")
            .hint("run `cargo xtask build`, then pass `--core target/core` or build the program again")
    })
}

/// A runtime on that core.
pub(crate) fn runtime(folder: Option<&Path>, settings: Settings) -> Result<Runtime, Failure> {
    Runtime::builder(load(folder)?)
        .settings(settings)
        .build()
        .map_err(|error| Failure::new(format!("the core cannot be started: {error}")))
}
