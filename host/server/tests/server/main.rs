//! The program as its users see it: started as a process, asked over HTTP. Needs the core: `cargo xtask build` makes it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod bake;
mod contributions;
#[path = "../common/damage.rs"]
mod damage;
mod edge;
mod endpoints;
mod faults;
mod flat;
mod harness;
mod hostile;
mod identity;
mod init;
mod lifecycle;
mod mocks;
mod predict;
mod records;
mod refusals;
mod shadows;
mod trust;
