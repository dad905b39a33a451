//! How a package computes its model: one kind of plan per engine.
//!
//! A plan's structure is small and lies in the section `plan`, as MessagePack with a version of its own; its big arrays
//! (trees, weights) lie in the sections `array/0`, `array/1`, … and are used in place. Reading a plan checks everything that
//! running it relies on, so an engine can neither read outside of an array nor loop.

pub mod explain;
#[cfg(feature = "graph")]
pub mod graph;
pub mod tabular;

// Sections are little-endian and used where they lie.
const _: () = assert!(cfg!(target_endian = "little"));
