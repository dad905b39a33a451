use std::fmt;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::setup::Setup;

/// The policy that other evaluators have in their languages.
pub(crate) const THREE_RULES: &str = "three rules";

/// Something to measure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "case", rename_all = "snake_case")]
pub(crate) enum Case {
    /// One call with this many rows.
    Predict { model: String, rows: usize },
    /// One call with this many contexts, each another one, to the policy of this name.
    Decide { contexts: usize, policy: String },
    /// The policy of this name handed to a new instance.
    Load { policy: String },
    /// A new instance from a compiled module, the package handed over, one row predicted.
    First { model: String },
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Predict { model, rows } => write!(f, "{model}: predict, rows in a call: {rows}"),
            Self::Decide { contexts, policy } => {
                write!(f, "{policy}: decide, contexts in a call: {contexts}")
            }
            Self::Load { policy } => write!(f, "{policy}: load"),
            Self::First { model } => write!(f, "{model}: new instance, load, first prediction"),
        }
    }
}

/// One turn of a peer: so many calls, the first with the input at `start` in the pool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    pub(crate) start: usize,
    pub(crate) calls: usize,
}

/// What a turn took.
pub(crate) struct Spent {
    pub(crate) nanoseconds: f64,
    /// The first call's answer as one number, `None` when it is not comparable: the sum of the scores (of the values
    /// for a regressor), or the sum of the variants' indices plus one.
    pub(crate) answer: Option<f64>,
}

/// One way to run cases.
pub(crate) trait Peer {
    fn name(&self) -> &str;
    fn can_run(&self, case: &Case) -> bool;
    fn run(&mut self, case: &Case, turn: Turn) -> Result<Spent>;
}

/// The cases in the order they are measured.
pub(crate) fn all(setup: &Setup) -> Vec<Case> {
    let names = || setup.models.iter().map(|model| model.name.clone());
    let one = names().map(|model| Case::Predict { model, rows: 1 });
    let many = names().map(|model| Case::Predict { model, rows: setup.batch });
    let policies = || setup.policies.iter().map(|policy| policy.name.clone());
    let decide = policies()
        .flat_map(|policy| [1, 256].map(|contexts| Case::Decide { contexts, policy: policy.clone() }));
    let load = policies().map(|policy| Case::Load { policy });
    let first = names().map(|model| Case::First { model });
    decide.chain(load).chain(one).chain(many).chain(first).collect()
}

/// Which rows of a pool call number `call` takes; every peer computes the same.
pub(crate) fn first_row(call: usize, rows: usize, pool: usize) -> usize {
    if rows == 1 { call % pool } else { call * 37 % (pool - rows + 1) }
}
