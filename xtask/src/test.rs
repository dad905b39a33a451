//! All tests: Rust (native and through wasmtime), JavaScript (Node, Chromium, workerd), a real client of the Open Inference Protocol, and the Python package.

use std::process::Command;

use anyhow::Result;

use crate::setup::{cargo, python, run, say, target};

/// Builds the core, then runs every suite; the first that fails ends the run.
pub(crate) fn test() -> Result<()> {
    crate::conformance::start()?;
    crate::core::build(crate::core::BuildOptions { fault: true })?;
    // Programs carry them, so they come first.
    crate::shells::build()?;

    say("cases of operators: those of the onnx package, and our own with onnxruntime's answers");
    let cases = target().join("onnx");
    for (program, set) in [("backend.py", "backend"), ("generate.py", "generated")] {
        run(Command::new(python("tests/onnx/requirements.txt")?)
            .arg(format!("tests/onnx/{program}"))
            .arg(cases.join(set)))?;
    }

    say("models of every estimator, with onnxruntime's answers");
    let estimators = target().join("onnx/estimators");
    run(Command::new(python("tests/estimators/requirements.txt")?)
        .arg("tests/estimators/generate.py")
        .arg(&estimators))?;

    say("Rust: every crate natively, the core through wasmtime");
    run(cargo()
        .args(["test", "--workspace", "--all-features"])
        .args(["--exclude", "lockgate-policy-guest", "--exclude", "lockgate-inference-guest"])
        .env("LOCKGATE_CORE_DIR", crate::core::directory())
        .env("LOCKGATE_ONNX_CASES", &cases)
        .env("LOCKGATE_ESTIMATORS", &estimators)
        .env("LOCKGATE_SHELLS_DIR", crate::shells::directory()))?;

    crate::js::test()?;
    crate::worker::test()?;

    say("the second evaluator: the golden vectors are what it decides");
    run(Command::new(std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into()))
        .args(["tests/reference/generate.py", "--check"]))?;

    say("a real client: tritonclient against `lockgate serve`");
    let clients = python("tests/clients/requirements.txt")?;
    run(Command::new(clients)
        .args(["-m", "pytest", "--quiet", "tests/clients"])
        .env("LOCKGATE", target().join("debug/lockgate")))?;

    say("lockgate-export: models of every library, exported, packaged and predicted");
    let exports = python("python/tests/requirements.txt")?;
    run(Command::new(exports)
        .args(["-m", "pytest", "--quiet", "--config-file", "python/pyproject.toml", "python/tests"])
        .env("PYTHONPATH", crate::setup::root().join("python/src"))
        .env("LOCKGATE", target().join("debug/lockgate")))?;

    crate::conformance::conformance(false)
}
