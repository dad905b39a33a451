//! The tests of `edge/spin` are in `tests/`; this crate has no code of its own.
