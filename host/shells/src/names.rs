// Shared with the build script.

/// The files of the Worker without the core: the shell's module and what Cloudflare calls.
pub(crate) const CLOUDFLARE: &[&str] = &["shell_bg.wasm", "worker.js"];

/// The files of the Spin application without the core: the shell's component.
pub(crate) const SPIN: &[&str] = &["lockgate.wasm"];
