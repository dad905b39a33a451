//! The Cloudflare Worker (`edge/cloudflare`), built twice and tested in workerd: `dist` fetches its policy, `dist-baked` is for baked modules.
//!
//! ```text
//! src/ ── cargo, wasm32 ──▶ lockgate_worker.wasm ── bindgen/ ──▶ shell.js, shell_bg.wasm
//! worker.js, shell.js, glue.js ── esbuild ──▶ worker.js
//! dist:        target/core/{policy,inference-tabular}.wasm ──▶ {policy,inference}.wasm
//! dist-baked:  what else belongs to it comes with `lockgate bake`
//! ```
//!
//! `wasm-opt` is left out: on a shell that is compiled for size it takes nothing off the gzipped upload.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::setup::{cargo, node_modules, root, run, say, target, wasm_target};

/// What `wrangler deploy` uploads, by name: `wrangler.toml` lists the same.
const UPLOAD: [&str; 6] =
    ["worker.js", "shell_bg.wasm", "policy.wasm", "inference.wasm", "catalog.json", "manifest.json"];

/// The most that a Worker with the tabular core and a forest of 100 trees may have after gzip: DESIGN's number.
const LIMIT: usize = 450_000;

/// The same with the graph flavour: what Cloudflare's smallest plan takes.
const GRAPH_LIMIT: usize = 3_000_000;

/// Where a Worker has its policy from. Each shell carries only what it needs for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// KV and R2.
    Fetched,
    /// The modules.
    Baked,
}

impl Source {
    fn feature(self) -> &'static str {
        match self {
            Self::Fetched => "fetched",
            Self::Baked => "baked",
        }
    }

    /// What is built for it. A baked Worker has its modules from `lockgate bake`.
    pub(crate) fn files(self) -> &'static [&'static str] {
        match self {
            Self::Fetched => &UPLOAD,
            Self::Baked => &["worker.js", "shell_bg.wasm"],
        }
    }

    /// Where the Worker is built.
    pub(crate) fn directory(self) -> PathBuf {
        root().join("edge/cloudflare").join(match self {
            Self::Fetched => "dist",
            Self::Baked => "dist-baked",
        })
    }
}

/// Which core the Worker carries.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct WorkerOptions {
    /// The graph flavour of the inference module.
    pub(crate) graph: bool,
}

/// Where the workspaces of the edge are compiled.
pub(crate) fn edge_target() -> PathBuf {
    target().join("edge")
}

/// Builds both Workers; the one that fetches gets the plain modules of the core, which `cargo xtask build` has made.
pub(crate) fn build(options: WorkerOptions) -> Result<()> {
    wasm_target()?;
    node_modules("edge/cloudflare")?;
    run(compile().args(["--package", "lockgate-worker-bindgen"]))?;
    for source in [Source::Fetched, Source::Baked] {
        build_shell(source)?;
        if source == Source::Fetched {
            put_core(&crate::core::directory(), &source.directory(), options)?;
        }
        report(source)?;
    }
    Ok(())
}

fn compile() -> Command {
    let mut command = cargo();
    command.args(["build", "--locked", "--quiet", "--manifest-path"]);
    command.arg(root().join("edge/cloudflare/Cargo.toml")).arg("--target-dir").arg(edge_target());
    command.env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS");
    command
}

fn build_shell(source: Source) -> Result<()> {
    let folder = root().join("edge/cloudflare");
    let feature = source.feature();
    say(&format!("the Worker's shell, {feature} (its dependencies take some minutes, once)"));
    let shell = ["--release", "--target", "wasm32-unknown-unknown", "--package", "lockgate-worker"];
    run(compile()
        .args(shell)
        .args(["--features", feature])
        .env("CARGO_ENCODED_RUSTFLAGS", crate::core::remapped_paths()?.join("\u{1f}")))?;

    let stage = edge_target().join("worker").join(feature);
    std::fs::remove_dir_all(&stage).ok();
    std::fs::create_dir_all(&stage)?;
    run(Command::new(edge_target().join("debug/lockgate-worker-bindgen"))
        .arg(edge_target().join("wasm32-unknown-unknown/release/lockgate_worker.wasm"))
        .arg(&stage))?;
    // workerd hands a module over by a plain import; `import source` is a proposal that it does not know.
    let script = stage.join("shell.js");
    let text = std::fs::read_to_string(&script)?;
    std::fs::write(&script, text.replace("import source ", "import "))?;
    for name in ["worker.js", "glue.js"] {
        std::fs::copy(folder.join(name), stage.join(name))?;
    }

    // What was baked for another shell, or from another core, does not stay beside it.
    let out = source.directory();
    std::fs::remove_dir_all(&out).ok();
    std::fs::create_dir_all(&out)?;
    std::fs::copy(stage.join("shell_bg.wasm"), out.join("shell_bg.wasm"))?;
    run(Command::new(folder.join("node_modules/esbuild/bin/esbuild"))
        .arg(stage.join("worker.js"))
        .args(["--bundle", "--format=esm", "--minify", "--log-level=error"])
        .args(["--external:*.wasm", "--external:*.json", "--external:cloudflare:*"])
        .arg(format!("--outfile={}", out.join("worker.js").display())))
}

/// Tests the Workers in workerd. The core with its fault core, the `lockgate` program and the Workers must have been built.
pub(crate) fn test() -> Result<()> {
    let folder = root().join("edge/cloudflare/tests");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(".test.mjs") {
            files.push(path);
        }
    }
    files.sort();
    ensure!(!files.is_empty(), "{} has no tests", folder.display());
    say("the Worker in workerd");
    // One after the other: each file starts workerds of its own, and looks for their processes.
    run(Command::new("node")
        .args(["--test", "--test-concurrency=1"])
        .args(files)
        .env("LOCKGATE", target().join("debug/lockgate"))
        .env("LOCKGATE_TARGET", target())
        .env("LOCKGATE_CORE_DIR", crate::core::directory()))?;
    sizes()
}

/// Asserts what is promised about sizes: both Workers with the tabular core, and the baked one with a forest of 100 trees in it.
fn sizes() -> Result<()> {
    let folder = edge_target().join("worker/sized");
    std::fs::remove_dir_all(&folder).ok();
    std::fs::create_dir_all(&folder)?;
    let example = root().join("examples/eurusd");
    let package = folder.join("forest.lgp");
    let lockgate = target().join("debug/lockgate");
    let (model, manifest) =
        (example.join("models/eurusd_rf_a.onnx"), example.join("models/eurusd_rf_a.manifest.yaml"));
    run(Command::new(&lockgate)
        .arg("package")
        .arg(model)
        .arg("--manifest")
        .arg(manifest)
        .arg("--output")
        .arg(&package))?;
    let policy = folder.join("policy.yaml");
    std::fs::write(&policy, FOREST)?;
    let baked = folder.join("worker");
    std::fs::create_dir_all(&baked)?;
    for name in Source::Baked.files() {
        std::fs::copy(Source::Baked.directory().join(name), baked.join(name))?;
    }
    run(Command::new(&lockgate)
        .args(["bake", "--policy"])
        .arg(&policy)
        .arg("--package")
        .arg(&package)
        .arg("--core")
        .arg(crate::core::directory())
        .arg("--out")
        .arg(&baked))?;
    // As tests build it, the graph flavour is larger than as it is released.
    let graph = folder.join("graph");
    std::fs::create_dir_all(&graph)?;
    for name in ["worker.js", "shell_bg.wasm"] {
        std::fs::copy(Source::Fetched.directory().join(name), graph.join(name))?;
    }
    put_core(&crate::core::directory(), &graph, WorkerOptions { graph: true })?;
    for (what, folder, limit) in [
        ("the Worker that fetches", Source::Fetched.directory(), LIMIT),
        ("the baked Worker with a forest of 100 trees", baked, LIMIT),
        ("the Worker with the graph flavour", graph, GRAPH_LIMIT),
    ] {
        let size = upload_gzip(&folder)?;
        say(&format!(
            "    {what}: {:.1} KB gzipped, {:.1} KB allowed",
            size as f64 / 1000.0,
            limit as f64 / 1000.0
        ));
        ensure!(size <= limit, "{what} has {size} bytes gzipped, allowed are {limit}");
    }
    Ok(())
}

/// A policy of one route, which a forest serves.
const FOREST: &str = "lockgate: 1
version: 1
models: { eurusd_rf_a@1.0.0: {} }
routes:
  eurusd-direction:
    variants: { forest: { model: eurusd_rf_a@1.0.0 } }
    default: { serve: forest }
";

/// Puts the plain modules of a core beside the shell.
pub(crate) fn put_core(core: &Path, out: &Path, options: WorkerOptions) -> Result<()> {
    let inference = if options.graph { "inference-graph.wasm" } else { "inference-tabular.wasm" };
    for (from, to) in
        [("policy.wasm", "policy.wasm"), (inference, "inference.wasm"), ("manifest.json", "manifest.json")]
    {
        let from = core.join(from);
        std::fs::copy(&from, out.join(to))
            .with_context(|| format!("cannot read {}; `cargo xtask build` makes it", from.display()))?;
    }
    std::fs::write(out.join("catalog.json"), "null\n")?;
    Ok(())
}

/// Says how large a Worker is, file by file.
fn report(source: Source) -> Result<()> {
    let folder = source.directory();
    for name in source.files() {
        let bytes = std::fs::read(folder.join(name))?;
        let gzip = crate::core::gzip_len(&bytes)?;
        say(&format!(
            "    {name}: {:.1} KB, {:.1} KB gzipped",
            bytes.len() as f64 / 1000.0,
            gzip as f64 / 1000.0
        ));
    }
    if source == Source::Fetched {
        say(&format!("    the whole Worker: {:.1} KB gzipped", upload_gzip(&folder)? as f64 / 1000.0));
    }
    Ok(())
}

/// What an upload takes after gzip, all files in one stream, as the platform counts.
fn upload_gzip(folder: &Path) -> Result<usize> {
    let mut all = Vec::new();
    for name in UPLOAD {
        let path = folder.join(name);
        all.extend(std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?);
    }
    crate::core::gzip_len(&all)
}
