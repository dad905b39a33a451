//! Formatting, lints, and the licences, bans and sources of the dependencies.

use anyhow::Result;

use crate::setup::{cargo, cargo_deny, run, say, wasm_target};

/// Runs them all; the first that complains ends the run.
pub(crate) fn lint() -> Result<()> {
    say("formatting");
    run(cargo().args(["fmt", "--all", "--check"]))?;
    wasm_target()?;
    say("lints");
    run(cargo().args(["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"]))?;
    say("bans, licences and sources of the dependencies");
    run(std::process::Command::new(cargo_deny()?).args([
        "check",
        "--hide-inclusion-graph",
        "bans",
        "licenses",
        "sources",
    ]))
}
