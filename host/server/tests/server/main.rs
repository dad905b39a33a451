//! The program as its users see it: started as a process, asked over HTTP. Needs the core: `cargo xtask build` makes it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod endpoints;
mod faults;
mod harness;
mod identity;
mod lifecycle;
mod predict;
mod refusals;
mod trust;
