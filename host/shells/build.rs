//! Puts the built shells into the crate where there are any: from `LOCKGATE_SHELLS_DIR`, else from `shells` in the target folder, where
//! `cargo xtask` leaves them. Without them the crate builds all the same and carries nothing.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

#[path = "src/names.rs"]
mod names;

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-env-changed=LOCKGATE_SHELLS_DIR");
    println!("cargo::rerun-if-env-changed=CARGO_TARGET_DIR");
    let folder = folder();
    let mut code = String::new();
    for (constant, shell, files) in
        [("CLOUDFLARE", "cloudflare", names::CLOUDFLARE), ("SPIN", "spin", names::SPIN)]
    {
        let folder = folder.join(shell);
        // Cargo reruns a script forever while a path it watches is missing; an empty folder is watched quietly.
        fs::create_dir_all(&folder)?;
        println!("cargo::rerun-if-changed={}", folder.display());
        let there = files.iter().all(|name| folder.join(name).is_file());
        let entry = |name: &&str| {
            let path = folder.join(name).display().to_string();
            format!("({name:?}, include_bytes!({path:?}).as_slice())")
        };
        let list = if there { files.iter().map(entry).collect::<Vec<_>>().join(", ") } else { String::new() };
        code += &format!("pub(super) const {constant}: &[(&str, &[u8])] = &[{list}];\n");
    }
    let out = env::var_os("OUT_DIR").map(PathBuf::from).unwrap_or_default();
    fs::write(out.join("embedded.rs"), code)
}

fn folder() -> PathBuf {
    if let Some(folder) = env::var_os("LOCKGATE_SHELLS_DIR") {
        return folder.into();
    }
    let manifest = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    let workspace = manifest.ancestors().nth(2).unwrap_or(Path::new(".")).to_path_buf();
    env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace.join("target"), |target| workspace.join(target))
        .join("shells")
}
