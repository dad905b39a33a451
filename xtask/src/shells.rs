//! The shells of other platforms, gathered where programs that carry them look (`host/shells`).

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::setup::target;

/// Where they are gathered.
pub(crate) fn directory() -> PathBuf {
    target().join("shells")
}

/// Builds the Worker's shell and the Spin application's, and gathers both. The core must have been built.
pub(crate) fn build() -> Result<()> {
    crate::worker::build(crate::worker::WorkerOptions::default())?;
    crate::spin::build()?;
    gather()
}

/// Copies what was built. A file that has not changed is left alone, so that the program is not linked again.
pub(crate) fn gather() -> Result<()> {
    let (worker, spin) = (crate::worker::Source::Baked.directory(), crate::spin::directory());
    for (shell, from, names) in [
        ("cloudflare", worker, ["worker.js", "shell_bg.wasm"].as_slice()),
        ("spin", spin, &["lockgate.wasm"]),
    ] {
        let folder = directory().join(shell);
        std::fs::create_dir_all(&folder)?;
        for name in names {
            let from = from.join(name);
            let bytes = std::fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
            crate::core::write_if_changed(&folder.join(name), &bytes)?;
        }
    }
    Ok(())
}
