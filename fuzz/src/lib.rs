//! What is fuzzed. `tests/tests/fuzz.rs` runs the same functions on stable Rust, bounded, with every test run.

pub mod targets;
