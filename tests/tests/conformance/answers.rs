//! One digest over all answers of a runner, equal for two runners where every answer is equal bit for bit. `tests/node/conformance.mjs` computes
//! the same; the tests of the Spin application include this module.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use lockgate_package::{Digest, Tensor};

/// The answers so far, whatever their order.
#[derive(Default)]
pub(crate) struct Answers(BTreeSet<String>);

impl Answers {
    /// Adds what a model answered to its vector: a line for each output with name, datatype, shape and the bytes of its data.
    pub(crate) fn add(&mut self, vector: &str, outputs: &[Tensor]) {
        let mut text = String::new();
        for Tensor { name, datatype, shape, data } in outputs {
            let shape: Vec<String> = shape.iter().map(i64::to_string).collect();
            let _ = writeln!(text, "{name} {datatype} {} {}", shape.join(","), hex::encode(data));
        }
        assert!(self.0.insert(format!("{vector} {}", Digest::of(text.as_bytes()))), "two vectors `{vector}`");
    }

    /// SHA-256 over the digests of the answers, by the names of their vectors.
    pub(crate) fn digest(&self) -> String {
        let lines: Vec<&str> = self.0.iter().map(String::as_str).collect();
        Digest::of(lines.join("\n").as_bytes()).to_string()
    }
}
