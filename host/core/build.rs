//! Puts the built core into the crate when there is one: from `LOCKGATE_CORE_DIR`, else from `core` in the target
//! folder, where `cargo xtask build` leaves it. Without it the crate builds all the same and carries nothing.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const FILES: [&str; 3] = ["policy.wasm", "inference-tabular.wasm", "inference-graph.wasm"];

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-env-changed=LOCKGATE_CORE_DIR");
    println!("cargo::rerun-if-env-changed=CARGO_TARGET_DIR");
    let folder = folder();
    // Cargo reruns a script forever while a path it watches is missing; an empty folder is watched quietly.
    fs::create_dir_all(&folder)?;
    println!("cargo::rerun-if-changed={}", folder.display());

    let found = |name: &str| Some(folder.join(name)).filter(|path| path.is_file());
    let constant = |name: &str, path: Option<PathBuf>| match path {
        Some(path) => format!(
            "pub(super) const {name}: Option<&[u8]> = Some(include_bytes!({:?}));\n",
            path.display().to_string()
        ),
        None => format!("pub(super) const {name}: Option<&[u8]> = None;\n"),
    };
    let [policy, tabular, graph] = FILES.map(found);
    let code = constant("POLICY", policy) + &constant("TABULAR", tabular) + &constant("GRAPH", graph);
    let out = env::var_os("OUT_DIR").map(PathBuf::from).unwrap_or_default();
    fs::write(out.join("embedded.rs"), code)
}

fn folder() -> PathBuf {
    if let Some(folder) = env::var_os("LOCKGATE_CORE_DIR") {
        return folder.into();
    }
    let manifest = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    let workspace = manifest.ancestors().nth(2).unwrap_or(Path::new(".")).to_path_buf();
    env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace.join("target"), |target| workspace.join(target))
        .join("core")
}
