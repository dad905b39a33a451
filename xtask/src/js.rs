//! The npm package (`edge/js`): puts the built modules and the types into it, and runs its tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::setup::{chromium, node_modules, root, run, say, target};

/// What the package takes over from the built core.
const CORE_FILES: [&str; 4] =
    ["policy.wasm", "inference-tabular.wasm", "inference-graph.wasm", "manifest.json"];

/// Completes the package in its folder: `npm pack` in `edge/js` makes what is published. The core must have been built.
pub(crate) fn assemble() -> Result<PathBuf> {
    let package = root().join("edge/js");
    node_modules("edge/js")?;
    say("the npm package: the built modules and the types go into edge/js");
    let core = package.join("core");
    fs::create_dir_all(&core).with_context(|| format!("cannot make {}", core.display()))?;
    for name in CORE_FILES {
        copy(&crate::core::directory().join(name), &core.join(name))?;
    }
    copy(&root().join("LICENSE"), &package.join("LICENSE"))?;
    run(Command::new("node").args(["edge/js/node_modules/typescript/bin/tsc", "--project", "edge/js"]))?;
    run(Command::new("node").arg("edge/js/types.mjs"))?;
    Ok(package)
}

/// Completes the package for people, and says what to do with it.
pub(crate) fn npm() -> Result<()> {
    if !crate::core::directory().join("manifest.json").is_file() {
        crate::core::build(crate::core::BuildOptions::default())?;
    }
    let package = assemble()?;
    say(&format!(
        "{} is complete: `npm install {0}` uses it, `npm pack` in it makes the archive",
        package.display()
    ));
    Ok(())
}

/// The package's tests. The core, the program and what the Rust tests leave behind for others must be there.
pub(crate) fn test() -> Result<()> {
    assemble()?;
    node_modules("tests/node")?;
    let mut files: Vec<_> = fs::read_dir(root().join("tests/node"))
        .context("tests/node cannot be read")?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .filter(|name| name.ends_with(".test.mjs"))
        .collect();
    files.sort();
    if files.is_empty() {
        bail!("tests/node has no tests");
    }
    let chromium = chromium()?;
    say("JavaScript: the package and its modules in Node, Chromium and workerd");
    run(Command::new("node")
        // A call that never returns is a failure, too.
        .args(["--test", "--test-timeout=600000"])
        .args(files.iter().map(|name| format!("tests/node/{name}")))
        .env("LOCKGATE", target().join("debug/lockgate"))
        .env("LOCKGATE_CORE_DIR", crate::core::directory())
        .env("LOCKGATE_TARGET", target())
        .env("LOCKGATE_CHROMIUM", chromium))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
        .map(|_| ())
}
