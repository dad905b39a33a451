//! The runtime with the built core, the real one and the fault core.
//!
//! `cargo xtask test` builds both first and switches the feature `core-tests` on.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod component;
mod embed;
mod faults;
mod install;
mod load;
mod serve;
mod shadows;
mod support;
mod trust;
