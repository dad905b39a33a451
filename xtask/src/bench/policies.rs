//! The policies that decisions are measured with, and the Rego evaluator beside them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::ROUTE;
use crate::setup::{cargo, output, root, run, say, target};

/// What the other evaluators have in their languages.
pub(super) const THREE_RULES: &str = "three rules";
/// The same route among ten thousand.
pub(super) const MANY_ROUTES: &str = "10 000 routes";
/// The same route with a million users in its test group.
pub(super) const MANY_UNITS: &str = "1 000 000 units";

const ROUTES: usize = 10_000;
const UNITS: usize = 1_000_000;

/// Writes and compiles them; returns what `lockgate-bench` reads.
pub(super) fn write(out: &Path, lockgate: &Path) -> Result<Vec<Value>> {
    let desk = "users: [desk-1, desk-2, desk-3]";
    let mut many = source("", &route(ROUTE, desk));
    for number in 0..ROUTES {
        many += &route(&format!("route-{number:05}"), desk);
    }
    let big = "segments:\n  big: { users: { file: units.txt } }\n";
    let files = [
        (THREE_RULES, "three-rules", source("", &route(ROUTE, desk))),
        (MANY_ROUTES, "many-routes", many),
        (MANY_UNITS, "many-units", source(big, &route(ROUTE, "segments: [big]"))),
    ];
    files.into_iter().map(|(name, file, source)| compile(out, lockgate, name, file, &source)).collect()
}

fn source(head: &str, routes: &str) -> String {
    format!("lockgate: 1\n{head}routes:\n{routes}")
}

/// A test group, a list of symbols, 90/10 by user.
fn route(name: &str, group: &str) -> String {
    format!(
        "  {name}:
    variants: {{ stable: {{ model: eurusd_lr@1.0.0 }}, canary: {{ model: eurusd_gb@1.1.0 }} }}
    baseline: stable
    test_groups: [{{ name: desk, {group}, serve: canary }}]
    symbol_rollouts: [{{ name: majors, symbols: [EURUSD, USDCHF, GBPJPY], serve: canary }}]
    default: {{ unit: user, split: {{ stable: 90, canary: 10 }} }}
"
    )
}

fn compile(out: &Path, lockgate: &Path, name: &str, file: &str, source: &str) -> Result<Value> {
    let folder = out.join(file);
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("policy.yaml"), source)?;
    if name == MANY_UNITS {
        let mut units = "desk-1\ndesk-2\ndesk-3\n".to_owned();
        for number in 0..UNITS {
            writeln!(units, "member-{number:07}")?;
        }
        std::fs::write(folder.join("units.txt"), units)?;
    }
    let bundle = folder.join("policy.lgb");
    let mut command = Command::new(lockgate);
    command.args(["policy", "compile"]).arg(folder.join("policy.yaml"));
    command.arg("--packages").arg(out.join("packages")).arg("--output").arg(&bundle);
    output(&mut command)?;
    let mut lists = Vec::new();
    if let Ok(entries) = std::fs::read_dir(folder.join("objects")) {
        for entry in entries {
            lists.push(entry?.path());
        }
    }
    lists.sort();
    Ok(json!({ "name": name, "bundle": bundle, "lists": lists }))
}

/// Builds the Rego evaluator as a module.
pub(super) fn rego() -> Result<PathBuf> {
    say("building regorus as a module (the first time takes some minutes)");
    let folder = target().join("rego");
    let mut command = cargo();
    command
        .args(["build", "--release", "--locked", "--target", "wasm32-unknown-unknown"])
        .arg("--manifest-path")
        .arg(root().join("bench/rego/Cargo.toml"))
        .arg("--target-dir")
        .arg(&folder)
        .env("RUSTFLAGS", "--cfg getrandom_backend=\"unsupported\"");
    run(&mut command).context("the Rego evaluator does not build")?;
    Ok(folder.join("wasm32-unknown-unknown/release/lockgate_bench_rego.wasm"))
}
