//! What the conformance runners share: where the core and the vectors are.

use std::path::{Path, PathBuf};

/// The folder of the built core.
///
/// # Panics
/// When no core has been built.
#[expect(clippy::panic, reason = "a test without the core can only fail, and says what to do")]
pub fn core_dir() -> PathBuf {
    let dir = std::env::var_os("LOCKGATE_CORE_DIR").map_or_else(|| root().join("target/core"), PathBuf::from);
    if !dir.join("manifest.json").is_file() {
        panic!("no core in {}: run `cargo xtask build` first", dir.display());
    }
    dir
}

/// The workspace's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}
