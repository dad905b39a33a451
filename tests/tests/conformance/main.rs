//! Vectors as data, several ways to run them: native and in the core through wasmtime, by the flat entry point and by the
//! component. `tests/node` runs the same vectors in V8.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod components;
mod decisions;
mod flat;
mod golden;
mod predictions;
mod refusals;
mod vectors;
