//! Records that shells send, on their way into files.
//!
//! A request's lines are checked one by one ([`batch`]). One thread owns the folder ([`folder`]) and the ids that were seen ([`seen`]); it takes batches from a
//! bounded queue, writes those that wait together, and answers them when they are on the disk ([`writer`]). `docs/records.md` is the contract.

mod batch;
mod folder;
mod metrics;
mod seen;
mod writer;

pub(crate) use batch::{Batch, MAX_LINES, RefusedLine};
pub(crate) use folder::{Durability, Limits, WhenFull};
pub(crate) use metrics::RecordMetrics;
pub(crate) use writer::{Records, Unwritten};

/// The clock, in milliseconds since 1970.
fn now_ms() -> i64 {
    crate::cli::time::Moment::now().0
}
