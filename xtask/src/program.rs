//! The `lockgate` program with everything that it carries: the core, and the shells that `lockgate init` hands out.

use anyhow::Result;

use crate::setup::{cargo, root, run, say, target};

/// Builds it as tests use it, and says where it lies. `cargo xtask dist` builds it as it is released.
pub(crate) fn program() -> Result<()> {
    crate::core::build(crate::core::BuildOptions::default())?;
    crate::shells::build()?;
    say("building the lockgate program (the first time takes some minutes)");
    run(cargo()
        .args(["build", "--package", "lockgate-server"])
        .env("LOCKGATE_CORE_DIR", crate::core::directory())
        .env("LOCKGATE_SHELLS_DIR", crate::shells::directory()))?;
    let program = target().join("debug/lockgate");
    let shown = program.strip_prefix(root()).unwrap_or(&program).display();
    say(&format!("{shown} carries the core and the shells"));
    Ok(())
}
