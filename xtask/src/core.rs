//! The build pipeline of the core: each module compiled alone and with flags of its own, then released (see
//! [`component`](crate::component)) into `target/core` with a manifest that names sizes and identities.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::component::{Released, release};
use crate::setup::{cargo, output, root, run, say, target, wasm_target};

/// The flat entry point's version, as in `docs/abi.md`.
const ABI: &str = "1.3";

/// The most memory `policy` may ever have, linked in: half of what a Worker has for everything.
const POLICY_MEMORY: usize = 64 << 20;

/// The same for `inference`: all that a Worker has.
const INFERENCE_MEMORY: usize = 128 << 20;

/// Bytes of stack inside that memory. It lies at its bottom, so that an overflow traps.
const POLICY_STACK: usize = 256 << 10;

/// The same for `inference`.
const INFERENCE_STACK: usize = 1 << 20;

/// The profile of `Cargo.toml` that the core is built with.
const PROFILE: &str = "core";

/// What to build and how.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct BuildOptions {
    /// The fault core too, which only tests of shells need.
    pub(crate) fault: bool,
}

/// A module to build.
struct Variant {
    /// Its name in the manifest of its folder.
    name: &'static str,
    package: &'static str,
    flavour: &'static str,
    /// Cargo gives a `cdylib` no hash in its file name, so each set of features has a target folder of its own;
    /// otherwise one build would pass for the other.
    build: Build,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Build {
    Plain,
    Graph,
    Fault,
}

impl Build {
    fn features(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Graph => "graph",
            Self::Fault => "fault",
        }
    }

    fn target(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Graph => "graph",
            Self::Fault => "fault",
        }
    }
}

const CORE: [Variant; 3] = [
    Variant { name: "policy", package: "lockgate-policy-guest", flavour: "policy", build: Build::Plain },
    Variant {
        name: "inference-tabular",
        package: "lockgate-inference-guest",
        flavour: "tabular",
        build: Build::Plain,
    },
    Variant {
        name: "inference-graph",
        package: "lockgate-inference-guest",
        flavour: "graph",
        build: Build::Graph,
    },
];

/// The fault core has the names of the real one, so that a shell is pointed to its folder and nothing else changes.
const FAULT: [Variant; 2] = [
    Variant { name: "policy", package: "lockgate-policy-guest", flavour: "policy", build: Build::Fault },
    Variant {
        name: "inference-tabular",
        package: "lockgate-inference-guest",
        flavour: "tabular",
        build: Build::Fault,
    },
];

/// `manifest.json`, which names every file and its identity.
#[derive(Serialize)]
struct Manifest {
    abi: &'static str,
    wit: &'static str,
    modules: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    name: &'static str,
    flavour: &'static str,
    file: String,
    component: String,
    identity: String,
    bytes: usize,
    gzip_bytes: usize,
    component_bytes: usize,
    profile: &'static str,
}

/// The folder of the built core.
pub(crate) fn directory() -> PathBuf {
    target().join("core")
}

/// Builds every module and component into [`directory`], and the fault core into `fault` below it.
pub(crate) fn build(options: BuildOptions) -> Result<()> {
    wasm_target()?;
    write_core(&CORE, &directory())?;
    if options.fault {
        write_core(&FAULT, &directory().join("fault"))?;
    }
    Ok(())
}

fn write_core(variants: &[Variant], directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory)?;
    let mut modules = Vec::new();
    for variant in variants {
        let what = if variant.build == Build::Fault { "fault core" } else { "core" };
        say(&format!("{what}: {}", variant.name));
        let compiled = compile(variant)?;
        let Released { module, component, identity } =
            release(&compiled).with_context(|| format!("cannot make the component of {}", variant.name))?;
        let (file, component_file) =
            (format!("{}.wasm", variant.name), format!("{}.component.wasm", variant.name));
        write_if_changed(&directory.join(&file), &module)?;
        write_if_changed(&directory.join(&component_file), &component)?;
        let entry = Entry {
            name: variant.name,
            flavour: variant.flavour,
            file,
            component: component_file,
            identity: hex::encode(identity),
            bytes: module.len(),
            gzip_bytes: gzip_len(&module)?,
            component_bytes: component.len(),
            profile: PROFILE,
        };
        say(&format!(
            "    {} of {:.1} KB, {:.1} KB gzipped, identity {}",
            entry.file,
            entry.bytes as f64 / 1000.0,
            entry.gzip_bytes as f64 / 1000.0,
            &entry.identity[..12],
        ));
        modules.push(entry);
    }
    let manifest = Manifest { abi: ABI, wit: "lockgate:core@0.1.0", modules };
    write_if_changed(&directory.join("manifest.json"), &serde_json::to_vec_pretty(&manifest)?)
}

/// Compiles one guest, alone and with flags of its own, and returns what the compiler wrote.
fn compile(variant: &Variant) -> Result<Vec<u8>> {
    let out = target().join("wasm").join(variant.build.target());
    let mut command = cargo();
    command
        .args(["build", "--quiet", "--target", "wasm32-unknown-unknown", "--package", variant.package])
        .args(["--profile", PROFILE, "--features", variant.build.features(), "--target-dir"])
        .arg(&out)
        .env_remove("RUSTFLAGS")
        .env("CARGO_ENCODED_RUSTFLAGS", flags(variant.flavour)?.join("\u{1f}"));
    run(&mut command)?;
    let file = format!("{}.wasm", variant.package.replace('-', "_"));
    let file = out.join("wasm32-unknown-unknown").join(PROFILE).join(file);
    std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))
}

fn flags(flavour: &str) -> Result<Vec<String>> {
    let (memory, stack) =
        if flavour == "policy" { (POLICY_MEMORY, POLICY_STACK) } else { (INFERENCE_MEMORY, INFERENCE_STACK) };
    let mut flags = vec![
        "-Ctarget-feature=+simd128".to_owned(),
        "--cfg=getrandom_backend=\"unsupported\"".to_owned(),
        format!("-Clink-arg=--max-memory={memory}"),
        format!("-Clink-arg=-zstack-size={stack}"),
    ];
    if flavour != "policy" {
        // Addresses that this pass counts up from step to step are out of reach of the offsets that loads have.
        flags.push("-Cllvm-args=-disable-lsr".to_owned());
    }
    flags.extend(remapped_paths()?);
    Ok(flags)
}

/// Paths are remapped so that the bytes do not depend on where the sources or the toolchain lie.
pub(crate) fn remapped_paths() -> Result<Vec<String>> {
    let home = match std::env::var("CARGO_HOME") {
        Ok(home) => home,
        Err(_) => format!("{}/.cargo", std::env::var("HOME").context("neither CARGO_HOME nor HOME is set")?),
    };
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]))?;
    Ok(vec![
        format!("--remap-path-prefix={}=/lockgate", root().display()),
        format!("--remap-path-prefix={home}=/cargo"),
        format!("--remap-path-prefix={}=/rust", sysroot.trim()),
    ])
}

pub(crate) fn gzip_len(bytes: &[u8]) -> Result<usize> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?.len())
}

/// Leaves an equal file alone, so that what depends on it is not rebuilt.
pub(crate) fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<()> {
    if std::fs::read(path).is_ok_and(|have| have == bytes) {
        return Ok(());
    }
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}
