//! Puts the built core into the crate when there is one: from `LOCKGATE_CORE_DIR`, else from `core` in the target
//! folder, where `cargo xtask build` leaves it. Without it the crate builds all the same and carries nothing.

#[path = "src/component.rs"]
mod component;

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Constants, and the modules that they hold.
const MODULES: [(&str, &str); 3] =
    [("POLICY", "policy"), ("TABULAR", "inference-tabular"), ("GRAPH", "inference-graph")];

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-env-changed=LOCKGATE_CORE_DIR");
    println!("cargo::rerun-if-env-changed=CARGO_TARGET_DIR");
    let folder = folder();
    // Cargo reruns a script forever while a path it watches is missing; an empty folder is watched quietly.
    fs::create_dir_all(&folder)?;
    println!("cargo::rerun-if-changed={}", folder.display());

    let out = env::var_os("OUT_DIR").map(PathBuf::from).unwrap_or_default();
    let mut code = String::new();
    for (constant, name) in MODULES {
        let module = folder.join(format!("{name}.wasm"));
        let value = if module.is_file() {
            format!("Some(({}, {}))", include(&module), around(&folder, name, &module, &out)?)
        } else {
            "None".to_owned()
        };
        code += &format!("pub(super) const {constant}: Option<super::EmbeddedModule> = {value};\n");
    }
    fs::write(out.join("embedded.rs"), code)
}

/// What the component has around its module, which is not carried twice.
fn around(folder: &Path, name: &str, module: &Path, out: &Path) -> io::Result<String> {
    let component = folder.join(format!("{name}.component.wasm"));
    if !component.is_file() {
        return Ok("None".to_owned());
    }
    let (component, module) = (fs::read(component)?, fs::read(module)?);
    // A folder that is half written holds a component of another module; the next build finds it whole.
    let Some((before, behind)) = component::split(&component, &module) else { return Ok("None".to_owned()) };
    let files = [("before", before), ("behind", behind)].map(|(side, bytes)| {
        let path = out.join(format!("{name}.{side}"));
        fs::write(&path, bytes).map(|()| include(&path))
    });
    let [before, behind] = files;
    Ok(format!("Some(({}, {}))", before?, behind?))
}

fn include(path: &Path) -> String {
    format!("include_bytes!({:?})", path.display().to_string())
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
