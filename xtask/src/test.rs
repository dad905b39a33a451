//! All tests: Rust (native and through wasmtime), JavaScript (Node, Chromium, workerd), and a real client of the Open Inference Protocol.

use std::process::Command;

use anyhow::Result;

use crate::setup::{cargo, python, run, say, target};

/// Builds the core, then runs every suite; the first that fails ends the run.
pub(crate) fn test() -> Result<()> {
    crate::conformance::start()?;
    crate::core::build(crate::core::BuildOptions { fault: true })?;
    // Programs carry them, so they come first.
    crate::shells::build()?;

    say("the node tests of the onnx package");
    let cases = target().join("onnx/backend");
    run(Command::new(python("tests/onnx/requirements.txt")?).arg("tests/onnx/backend.py").arg(&cases))?;

    say("Rust: every crate natively, the core through wasmtime");
    run(cargo()
        .args(["test", "--workspace", "--all-features"])
        .args(["--exclude", "lockgate-policy-guest", "--exclude", "lockgate-inference-guest"])
        .env("LOCKGATE_CORE_DIR", crate::core::directory())
        .env("LOCKGATE_ONNX_CASES", &cases)
        .env("LOCKGATE_SHELLS_DIR", crate::shells::directory()))?;

    crate::js::test()?;
    crate::worker::test()?;

    say("the second evaluator: the golden vectors are what it decides");
    run(Command::new(std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into()))
        .args(["tests/reference/generate.py", "--check"]))?;

    say("a real client: tritonclient against `lockgate serve`");
    let python = python("tests/clients/requirements.txt")?;
    run(Command::new(python)
        .args(["-m", "pytest", "--quiet", "tests/clients"])
        .env("LOCKGATE", target().join("debug/lockgate")))?;

    crate::conformance::conformance(false)
}
