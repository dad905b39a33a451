//! Large requests, which are no fault of the package that they are sent to.

use std::time::Duration;

use lockgate_package::plan::explain::Contributions;
use lockgate_package::{Manifest, Tensor};

use crate::RuntimeError;

/// Fewer operations in a microsecond are slow on any machine.
const SLOW: u128 = 10;

/// What a request asks of a package by the package's own account, which tells a large request from a package that fails.
pub(crate) struct Weight {
    bytes: u64,
    operations: u64,
    /// What these cost, no manifest says.
    contributions: bool,
}

impl Weight {
    pub(crate) fn of(
        request: &[u8],
        inputs: &[Tensor],
        contributions: Contributions,
        manifest: &Manifest,
    ) -> Self {
        let rows = inputs.first().and_then(|input| input.shape.first());
        let rows = rows.and_then(|&rows| u64::try_from(rows).ok()).unwrap_or(1);
        // The request is there once as it came and once as what the model reads.
        let request = u64::try_from(request.len()).unwrap_or(u64::MAX).saturating_mul(2);
        Self {
            bytes: rows.saturating_mul(manifest.memory_per_row).saturating_add(request),
            operations: rows.saturating_mul(manifest.operations_per_row),
            contributions: contributions.value().is_some(),
        }
    }

    /// Whether it may well be why an instance with this much memory had not enough: the package itself takes a part, too.
    pub(crate) fn explains_memory(&self, limit: usize) -> bool {
        self.contributions || self.bytes >= u64::try_from(limit).unwrap_or(u64::MAX) / 4
    }

    /// Whether it may well be why a call ran so long.
    pub(crate) fn explains_time(&self, ran: Duration) -> bool {
        self.contributions || u128::from(self.operations) >= ran.as_micros().saturating_mul(SLOW)
    }

    /// What its caller is told.
    pub(crate) fn too_large(limit: usize) -> RuntimeError {
        RuntimeError::LimitExceeded {
            message: format!(
                "the request needs more than the {} MiB of memory that an instance of the model may use",
                limit >> 20
            ),
            hint: "send fewer rows at once".to_owned(),
        }
    }
}
