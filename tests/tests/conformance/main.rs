//! Vectors as data, several ways to run them: native and in the core through wasmtime, by the flat entry point and by the
//! component. `tests/node` runs the same vectors in V8.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod answers;
mod baked;
mod cases;
mod components;
mod contributions;
mod decisions;
mod errors;
mod example;
mod faults;
mod flat;
mod golden;
mod predictions;
mod record;
mod refusals;
mod vectors;
