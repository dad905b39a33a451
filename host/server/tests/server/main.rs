//! The program as its users see it: started as a process, asked over HTTP. Needs the core: `cargo xtask build` makes it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../common/damage.rs"]
mod damage;
mod endpoints;
mod faults;
mod harness;
mod hostile;
mod identity;
mod lifecycle;
mod predict;
mod refusals;
mod shadows;
mod trust;
