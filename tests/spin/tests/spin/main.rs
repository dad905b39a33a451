//! The Spin application in a wasmtime host with Spin's interfaces, beside a real `lockgate serve`. Needs the core and the application:
//! `cargo xtask build`, `cargo xtask spin`.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

// The cases and vectors of all runners.
#[path = "../../../tests/conformance/answers.rs"]
mod answers;
#[path = "../../../tests/conformance/cases.rs"]
mod cases;
#[path = "../../../tests/conformance/example.rs"]
mod example;
#[path = "../../../tests/conformance/vectors.rs"]
mod vectors;

mod composition;
mod conformance;
mod endpoints;
mod faults;
mod fixtures;
mod host;
mod identity;
mod init;
mod key_value;
mod origin;
