//! `cargo xtask bench`: prepares everything, lets `lockgate-bench` measure, and writes the results and their page.

pub(crate) mod edge;
mod page;
mod policies;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::setup::{cargo, node_modules, output, python, root, run, say, target};

/// Rows in a batch.
const BATCH: usize = 1024;
/// Rows of the example that were held out; those before them are history for the sequences.
const HELD_OUT: usize = 500;
/// Rows in one sequence of the LSTM.
const STEPS: usize = 20;
/// Inputs in a pool; calls go round in it.
const POOL: usize = 4096;
const ROUTE: &str = "eurusd-direction";

/// How to measure.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct BenchOptions {
    /// A few short turns only, to see that everything runs; results and page go to `target/bench`.
    pub(crate) quick: bool,
}

/// Everything that is known about a run; `bench/results/latest.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) machine: BTreeMap<String, String>,
    pub(crate) commit: String,
    /// Seconds since 1970.
    pub(crate) time: u64,
    pub(crate) rustc: String,
    /// `target/core/manifest.json` as it was.
    pub(crate) core: Core,
    #[serde(flatten)]
    pub(crate) measured: Measured,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Core {
    pub(crate) modules: Vec<Module>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Module {
    pub(crate) name: String,
    pub(crate) identity: String,
    pub(crate) bytes: u64,
    pub(crate) gzip_bytes: u64,
    pub(crate) profile: String,
}

/// What `lockgate-bench` writes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) versions: Vec<(String, String)>,
    pub(crate) rounds: usize,
    pub(crate) turn_ms: u64,
    pub(crate) results: Vec<Sample>,
    /// Older results have none.
    #[serde(default)]
    pub(crate) memory: Vec<MemoryUse>,
}

/// What a model takes of an instance's memory in wasmtime, bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct MemoryUse {
    pub(crate) model: String,
    pub(crate) package: u64,
    pub(crate) empty: u64,
    pub(crate) loaded: u64,
}

/// One peer on one case.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// `predict`, `decide`, `load` or `first`.
    pub(crate) case: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rows: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) contexts: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) policy: Option<String>,
    pub(crate) peer: String,
    pub(crate) median_ns: f64,
    pub(crate) fastest_ns: f64,
    pub(crate) slowest_ns: f64,
    pub(crate) calls_per_turn: usize,
    pub(crate) turns: usize,
}

/// Measures and writes `bench/results/latest.json` and `docs/benchmarks.md`.
pub(crate) fn bench(options: BenchOptions) -> Result<()> {
    crate::core::build(crate::core::BuildOptions { fault: false })?;
    say("building lockgate-bench with optimisation (the first time takes some minutes)");
    run(cargo().args(["build", "--release", "--package", "lockgate-bench"]))?;
    say("building the lockgate program");
    run(cargo().args(["build", "--package", "lockgate-server"]))?;
    let python = python("bench/requirements.txt")?;
    node_modules("bench/node")?;

    let out = target().join("bench");
    std::fs::remove_dir_all(&out).ok();
    std::fs::create_dir_all(out.join("packages"))?;
    let setup = out.join("setup.json");
    std::fs::write(&setup, serde_json::to_vec_pretty(&prepare(&out, &python, options)?)?)?;

    say("measuring, all peers in turn; leave the machine alone meanwhile");
    let raw = out.join("results.json");
    run(Command::new(target().join("release/lockgate-bench")).arg(&setup).arg(&raw))?;
    let mut measured: Measured = serde_json::from_slice(&std::fs::read(&raw)?)?;
    measured.versions.push(("wasmtime".to_owned(), locked_version("wasmtime")?));
    measured
        .versions
        .push(("onnxruntime".to_owned(), pinned_version("bench/requirements.txt", "onnxruntime")?));
    measured.versions.sort();
    let run = Run {
        machine: machine()?,
        commit: commit()?,
        time: std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs(),
        rustc: output(Command::new("rustc").arg("--version"))?.trim().to_owned(),
        core: serde_json::from_slice(&std::fs::read(crate::core::directory().join("manifest.json"))?)?,
        measured,
    };
    let (results, page) = if options.quick {
        (out.join("latest.json"), out.join("benchmarks.md"))
    } else {
        (root().join("bench/results/latest.json"), root().join("docs/benchmarks.md"))
    };
    if let Some(folder) = results.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut text = serde_json::to_string_pretty(&run)?;
    text.push('\n');
    std::fs::write(&results, text)?;
    std::fs::write(&page, edge::with_section(&page::render(&run)?)?)?;
    say(&format!("wrote {} and {}", results.display(), page.display()));
    Ok(())
}

/// Packages, the bundle, the peers' models and the inputs; returns what `lockgate-bench` reads.
fn prepare(out: &Path, python: &Path, options: BenchOptions) -> Result<Value> {
    let example = root().join("examples/eurusd");
    let lockgate = target().join("debug/lockgate");
    say("fitting ensembles of 100 and 1 000 trees");
    let made = out.join("models");
    let mut make = Command::new(python);
    run(make.arg(root().join("bench/models.py")).arg(example.join("data/rows.csv")).arg(&made))?;
    let folders = [example.join("models"), made];
    let mut models = Vec::new();
    for folder in &folders {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "onnx") {
                models.push(path);
            }
        }
    }
    models.sort();
    say(&format!("packaging {} models and compiling policies", models.len()));
    let mut names = Vec::new();
    for onnx in &models {
        let name = onnx.file_stem().and_then(|name| name.to_str()).context("a model without a name")?;
        names.push(name.to_owned());
        let package = out.join("packages").join(format!("{name}.lgp"));
        let mut command = Command::new(&lockgate);
        command.arg("package").arg(onnx).arg("--manifest").arg(onnx.with_extension("manifest.yaml"));
        output(command.arg("--output").arg(&package))?;
    }
    let policies = policies::write(out, &lockgate)?;
    let rego = policies::rego()?;

    say("taking ZipMap out of the peers' models");
    let peer_models = out.join("peer-models");
    let library = output(
        Command::new(python).arg(root().join("bench/peer_models.py")).args(&folders).arg(&peer_models),
    )?;

    let rows = read_rows(&example.join("data/rows.csv"))?;
    let (row_pool, sequence_pool) = (out.join("rows.f32"), out.join("sequences.f32"));
    write_inputs(&rows, &row_pool, &sequence_pool)?;
    let contexts = out.join("contexts.json");
    std::fs::write(&contexts, serde_json::to_vec(&callers())?)?;

    let models = names.iter().map(|name| {
        let sequence = is_sequence(name);
        json!({
            "name": name,
            "package": out.join("packages").join(format!("{name}.lgp")),
            "onnx": peer_models.join(format!("{name}.onnx")),
            "engine": if sequence { "graph" } else { "tabular" },
            "row_shape": if sequence { vec![STEPS, 17] } else { vec![17] },
            "inputs": if sequence { &sequence_pool } else { &row_pool },
        })
    });
    Ok(json!({
        "rounds": if options.quick { 3 } else { 21 },
        "turn_ms": if options.quick { 10 } else { 60 },
        "batch": BATCH,
        "core_folder": crate::core::directory(),
        "node_folder": root().join("bench/node"),
        "onnxruntime": library.trim(),
        "policies": policies,
        "rego": rego,
        "contexts": contexts,
        "route": ROUTE,
        "models": models.collect::<Vec<_>>(),
    }))
}

/// Whether a model reads sequences.
fn is_sequence(model: &str) -> bool {
    model.ends_with("lstm") || model.ends_with("gru")
}

/// The feature rows of the example, history first.
fn read_rows(path: &Path) -> Result<Vec<Vec<f32>>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut lines = text.lines();
    let header = lines.next().context("rows.csv is empty")?;
    let wanted: Vec<_> = header.split(',').map(|name| name.starts_with("return_lag_")).collect();
    let cells = |line: &str| {
        let cells = line.split(',').zip(&wanted).filter(|(_, wanted)| **wanted);
        cells.map(|(cell, _)| cell.parse()).collect::<Result<Vec<f32>, _>>()
    };
    Ok(lines.map(cells).collect::<Result<_, _>>()?)
}

/// The held-out rows again and again, each time a little different, so that no call repeats another one's input.
fn write_inputs(rows: &[Vec<f32>], row_pool: &Path, sequence_pool: &Path) -> Result<()> {
    let history = rows.len() - HELD_OUT;
    let mut noise = Noise(0x9E37_79B9_7F4A_7C15);
    let mut write = |path: &Path, length: usize| {
        let mut bytes = Vec::new();
        for index in 0..POOL {
            let end = history + index % HELD_OUT + 1;
            for value in rows[end - length..end].iter().flatten() {
                let moved = value * (1.0 + 0.02 * noise.next());
                bytes.extend_from_slice(&moved.to_le_bytes());
            }
        }
        std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
    };
    write(row_pool, 1)?;
    write(sequence_pool, STEPS)
}

/// A xorshift generator, so that every run measures the same inputs.
struct Noise(u64);

impl Noise {
    /// The next number in [-0.5, 0.5).
    fn next(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1_u64 << 24) as f32 - 0.5
    }
}

/// Many users and symbols, of which the policy names a few.
fn callers() -> Vec<Value> {
    let caller = |number: usize| {
        let user = match number % 97 {
            1 => "desk-1".to_owned(),
            _ => format!("user-{number:05}"),
        };
        let symbol = if number.is_multiple_of(31) {
            "EURUSD".to_owned()
        } else {
            format!("X{:03}USD", number * 7 % 380)
        };
        json!({ "user": user, "symbol": symbol })
    };
    (0..POOL).map(caller).collect()
}

fn machine() -> Result<BTreeMap<String, String>> {
    let read = |path: &str, key: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        line.split_once(':').map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
    };
    Ok(BTreeMap::from([
        ("processor".to_owned(), read("/proc/cpuinfo", "model name")),
        ("cores".to_owned(), std::thread::available_parallelism()?.to_string()),
        ("memory".to_owned(), read("/proc/meminfo", "MemTotal")),
        ("system".to_owned(), format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)),
    ]))
}

/// The version of a crate in Cargo.lock.
fn locked_version(name: &str) -> Result<String> {
    let lock = std::fs::read_to_string(root().join("Cargo.lock"))?;
    let after = lock.split_once(&format!("name = \"{name}\"\nversion = \"")).map(|(_, after)| after);
    let version = after.and_then(|after| after.split_once('"')).map(|(version, _)| version.to_owned());
    version.with_context(|| format!("Cargo.lock has no {name}"))
}

/// The version of a package in a requirements file.
fn pinned_version(file: &str, name: &str) -> Result<String> {
    let text = std::fs::read_to_string(root().join(file))?;
    let version =
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("==").map(str::to_owned));
    version.with_context(|| format!("{file} does not pin {name}"))
}

/// The commit, and whether files have changed since; those that a run writes do not count.
fn commit() -> Result<String> {
    let commit = output(Command::new("git").args(["rev-parse", "HEAD"]))?.trim().to_owned();
    let arguments = ["status", "--porcelain", "--", ".", ":!bench/results", ":!docs/benchmarks.md"];
    let changed = !output(Command::new("git").args(arguments))?.trim().is_empty();
    Ok(if changed { format!("{commit} with changes") } else { commit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found() {
        assert!(locked_version("wasmtime").unwrap().starts_with("48."));
        assert!(locked_version("no-such-crate").is_err());
        assert!(pinned_version("bench/requirements.txt", "onnxruntime").unwrap().starts_with("1."));
        assert!(pinned_version("bench/requirements.txt", "onnxrun").is_err());
    }

    #[test]
    fn inputs_differ_from_call_to_call() {
        let rows = read_rows(&root().join("examples/eurusd/data/rows.csv")).unwrap();
        assert_eq!((rows.len(), rows[0].len()), (STEPS - 1 + HELD_OUT, 17));
        let folder = target().join("tmp/bench-inputs");
        std::fs::create_dir_all(&folder).unwrap();
        let (row_pool, sequence_pool) = (folder.join("rows.f32"), folder.join("sequences.f32"));
        write_inputs(&rows, &row_pool, &sequence_pool).unwrap();
        let bytes = std::fs::read(&row_pool).unwrap();
        let distinct: std::collections::BTreeSet<_> = bytes.chunks_exact(17 * 4).collect();
        assert_eq!((bytes.len(), distinct.len()), (POOL * 17 * 4, POOL));
        assert_eq!(std::fs::metadata(&sequence_pool).unwrap().len(), (POOL * STEPS * 17 * 4) as u64);
    }
}
