//! Regular expressions as deterministic automata over bytes: made once, where there is time, and read with one look-up per byte where there is none.
//!
//! An [`Automaton`] is tables that a package holds. Reading them checks all that a search relies on, so that damaged ones are refused and none can lead a
//! search out of its tables or around in a circle. With the feature `compile`, [`compile`] makes automata within bounds and as small as they can be: equal
//! languages give equal bytes.
//!
//! Which expressions there are is the users' business: the policy language and the operators of ONNX each have a dialect, and hand over what
//! `regex-syntax` makes of it.

#[cfg(feature = "compile")]
pub mod compile;
mod tables;

pub use tables::{Automaton, Damage};
