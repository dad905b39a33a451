//! Formatting, lints, the hosted workflows, and the licences, bans and sources of the dependencies.

use anyhow::Result;

use crate::setup::{cargo, cargo_deny, node_modules, root, run, rust_target, say, wasm_target};

/// What each shell is compiled for: its folder, the package, its target, and its features.
const EDGE: [(&str, &str, &str, &[&str]); 3] = [
    ("edge/cloudflare", "lockgate-worker", "wasm32-unknown-unknown", &["--features", "fetched"]),
    ("edge/cloudflare", "lockgate-worker", "wasm32-unknown-unknown", &["--features", "baked"]),
    ("edge/spin", "lockgate-spin", "wasm32-wasip2", &[]),
];

/// Runs them all; the first that complains ends the run.
pub(crate) fn lint() -> Result<()> {
    say("formatting");
    run(cargo().args(["fmt", "--all", "--check"]))?;
    for folder in ["edge/cloudflare", "edge/spin"] {
        run(cargo()
            .args(["fmt", "--all", "--check", "--manifest-path"])
            .arg(root().join(folder).join("Cargo.toml")))?;
    }
    wasm_target()?;
    say("lints");
    run(cargo().args(["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"]))?;
    say("lints of the shells at the edge");
    edge()?;
    say("workflows");
    node_modules("xtask/workflows")?;
    run(std::process::Command::new("node").arg("xtask/workflows/check.mjs"))?;
    say("bans, licences and sources of the dependencies");
    run(std::process::Command::new(cargo_deny()?).args([
        "check",
        "--hide-inclusion-graph",
        "bans",
        "licenses",
        "sources",
    ]))
}

/// The lints of the workspaces at the edge, each for the target that it runs on.
fn edge() -> Result<()> {
    rust_target("wasm32-wasip2")?;
    for (folder, package, target, features) in EDGE {
        run(cargo()
            .args(["clippy", "--locked", "--package", package, "--target", target])
            .args(features)
            .arg("--manifest-path")
            .arg(root().join(folder).join("Cargo.toml"))
            .arg("--target-dir")
            .arg(crate::worker::edge_target())
            .args(["--", "-D", "warnings"])
            .env_remove("CARGO_TARGET_DIR")
            .env_remove("RUSTFLAGS"))?;
    }
    run(cargo()
        .args(["clippy", "--locked", "--package", "lockgate-worker-bindgen", "--manifest-path"])
        .arg(root().join("edge/cloudflare/Cargo.toml"))
        .arg("--target-dir")
        .arg(crate::worker::edge_target())
        .args(["--", "-D", "warnings"])
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTFLAGS"))
}
