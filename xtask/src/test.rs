//! All tests: Rust (native and through wasmtime), V8, and a real client of the Open Inference Protocol.

use std::process::Command;

use anyhow::Result;

use crate::setup::{cargo, python, run, say, target};

/// Builds the core, then runs every suite; the first that fails ends the run.
pub(crate) fn test() -> Result<()> {
    crate::core::build(crate::core::BuildOptions { fault: true, ..Default::default() })?;

    say("Rust: every crate natively, the core through wasmtime");
    run(cargo()
        .args(["test", "--workspace", "--all-features"])
        .args(["--exclude", "lockgate-policy-guest", "--exclude", "lockgate-inference-guest"])
        .env("LOCKGATE_CORE_DIR", crate::core::directory()))?;

    say("V8: the same modules in Node, and the golden vectors with the bundles that the Rust tests compiled");
    run(Command::new("node")
        .args([
            "--test",
            "tests/node/core.test.mjs",
            "tests/node/golden.test.mjs",
            "tests/node/signature.test.mjs",
        ])
        .env("LOCKGATE", target().join("debug/lockgate"))
        .env("LOCKGATE_CORE_DIR", crate::core::directory())
        .env("LOCKGATE_GOLDEN_DIR", target().join("tmp/golden")))?;

    say("the second evaluator: the golden vectors are what it decides");
    run(Command::new(std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into()))
        .args(["tests/reference/generate.py", "--check"]))?;

    say("a real client: tritonclient against `lockgate serve`");
    let python = python("tests/clients/requirements.txt")?;
    run(Command::new(python)
        .args(["-m", "pytest", "--quiet", "tests/clients"])
        .env("LOCKGATE", target().join("debug/lockgate")))?;
    Ok(())
}
