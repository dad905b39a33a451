//! Baking with the built core, the real one and the fault core.
//!
//! `cargo xtask test` builds both first and switches the feature `core-tests` on.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod answers;
mod component;
mod faults;
mod graph;
mod guest;
mod host;
mod images;
mod refusals;
#[expect(dead_code, reason = "the runtime's tests use all of it")]
#[path = "../../../runtime/tests/core/support.rs"]
mod support;
