//! The Spin application: the shell as a component, the component that describes the plain core, and all composed for hosts that compose
//! nothing themselves. `target/spin` gets the three.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::setup::{cargo, root, run, rust_target, say, target};

const TARGET: &str = "wasm32-wasip2";

/// Where the application's files are written.
pub(crate) fn directory() -> PathBuf {
    target().join("spin")
}

/// Builds the application; the core must have been built before.
pub(crate) fn build() -> Result<()> {
    rust_target(TARGET)?;
    say("compiling the Spin application");
    let cargo_target = target().join("edge");
    run(cargo()
        .args(["build", "--release", "--locked", "--target", TARGET])
        .args(["--manifest-path", "edge/spin/Cargo.toml"])
        .env("CARGO_TARGET_DIR", &cargo_target))?;
    let app = cargo_target.join(TARGET).join("release/lockgate_spin.wasm");
    let app = std::fs::read(&app).with_context(|| format!("cannot read {}", app.display()))?;

    let part = |name: &str| {
        let path = crate::core::directory().join(format!("{name}.component.wasm"));
        std::fs::read(&path)
            .with_context(|| format!("cannot read {}; run `cargo xtask build`", path.display()))
    };
    let (policy, inference) = (part("policy")?, part("inference-tabular")?);
    let about = lockgate_compose::about(&policy, &inference, None)?;
    let composed = lockgate_compose::compose(&app, &policy, &inference, &about)?;

    std::fs::create_dir_all(directory())?;
    for (name, bytes) in
        [("lockgate.wasm", &app), (lockgate_compose::ABOUT, &about), ("composed.wasm", &composed)]
    {
        let path = directory().join(name);
        std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        let shown = path.strip_prefix(root()).unwrap_or(&path).display();
        say(&format!("{shown}: {} bytes", bytes.len()));
    }
    Ok(())
}
