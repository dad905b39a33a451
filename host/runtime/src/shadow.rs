//! Shadows: versions that get a copy of a request after it was answered, and whose outputs are compared with what was
//! served. They have a thread and instances of their own, so a shadow that loops, traps or eats memory delays nobody; nor do its faults
//! count towards the quarantine of a package that serves elsewhere. What a shadow says is counted and never returned.
//!
//! The policy bounds each shadow: so many requests a second, so many at once, so many bytes, so much time. A copy beyond a
//! bound is dropped, and the drop is counted by its cause.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lockgate_package::{Digest, Tensor};
use lockgate_policy::{Placement, RouteView, ShadowLimits, ShadowView};
use lockgate_shell::{Differences, compare, rows};

use crate::RuntimeError;
use crate::queue::{Deadline, Queue};
use crate::stats::{count, read};

/// Copies that wait for the shadows' thread, at most; the limits of each shadow are usually lower.
const WAITING: usize = 256;

/// Which shadow it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShadowId {
    /// The route.
    pub route: String,
    /// The tenant whose definition of the route has it.
    pub tenant: Option<String>,
    /// The user whose definition of the route has it.
    pub user: Option<String>,
    /// The shadow's name.
    pub name: String,
    /// Its model.
    pub model: String,
    /// The model's version.
    pub version: String,
}

/// What was counted for one shadow since the runtime was built.
#[derive(Debug, Clone, PartialEq)]
pub struct ShadowStatus {
    /// Which shadow.
    pub id: ShadowId,
    /// Copies that ran and were compared.
    pub runs: u64,
    /// Rows in them.
    pub rows: u64,
    /// Copies that ran and gave an error instead of outputs.
    pub failed: u64,
    /// Copies that ran and gave outputs of another form than the served ones.
    pub incomparable: u64,
    /// Copies that were dropped, by cause.
    pub dropped: ShadowDrops,
    /// Numbers that were compared.
    pub values: u64,
    /// The sum of their absolute differences; those that are no number are left out.
    pub difference_sum: f64,
    /// The largest absolute difference.
    pub difference_max: f64,
    /// Labels that were compared.
    pub labels: u64,
    /// How many of them differ.
    pub label_mismatches: u64,
}

/// Copies that were not made or not run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShadowDrops {
    /// More requests in this second than the policy allows.
    pub rate: u64,
    /// As many are running or waiting as the policy allows.
    pub concurrency: u64,
    /// The request is larger than the policy allows.
    pub bytes: u64,
    /// The time was over before there was an answer.
    pub deadline: u64,
    /// The runtime has too many copies of all shadows waiting.
    pub queue: u64,
    /// The version does not run here.
    pub elsewhere: u64,
}

impl ShadowDrops {
    /// Cause and number.
    pub fn by_cause(&self) -> [(&'static str, u64); 6] {
        [
            ("rate", self.rate),
            ("concurrency", self.concurrency),
            ("bytes", self.bytes),
            ("deadline", self.deadline),
            ("queue", self.queue),
            ("elsewhere", self.elsewhere),
        ]
    }
}

/// Every shadow that was ever asked for, and the copies that wait.
pub(crate) struct Shadows {
    known: Mutex<BTreeMap<ShadowId, Arc<Shadow>>>,
    pub(crate) queue: Queue<ShadowCopy>,
}

/// One shadow's counters and what bounds it.
#[derive(Default)]
pub(crate) struct Shadow {
    bucket: Mutex<Option<TokenBucket>>,
    in_flight: AtomicU64,
    runs: AtomicU64,
    rows: AtomicU64,
    failed: AtomicU64,
    incomparable: AtomicU64,
    dropped_rate: AtomicU64,
    dropped_concurrency: AtomicU64,
    dropped_bytes: AtomicU64,
    dropped_deadline: AtomicU64,
    dropped_queue: AtomicU64,
    dropped_elsewhere: AtomicU64,
    differences: Mutex<Differences>,
}

/// Lets through so many a second, and as many at once when nothing came for a while.
struct TokenBucket {
    tokens: f64,
    filled: Instant,
}

/// What the copies of one request share.
pub(crate) struct Copied {
    pub(crate) inputs: Vec<Tensor>,
    pub(crate) outputs: Vec<Tensor>,
    /// Rows of the whole request; 0 when one context stands for all of them.
    pub(crate) total: usize,
}

/// A copy that was let through, before the request's inputs are at hand.
pub(crate) struct Admitted {
    shadow: Arc<Shadow>,
    package: Digest,
    rows: Option<Vec<usize>>,
    deadline: Instant,
}

/// A request's copy for one shadow. It counts as in flight until it is dropped.
pub(crate) struct ShadowCopy {
    admitted: Admitted,
    copied: Arc<Copied>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.shadow.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Deadline for ShadowCopy {
    fn deadline(&self) -> Instant {
        self.admitted.deadline
    }
}

impl Shadows {
    pub(crate) fn new() -> Self {
        Self { known: Mutex::default(), queue: Queue::new(WAITING) }
    }

    /// What was counted, by shadow.
    pub(crate) fn status(&self) -> Vec<ShadowStatus> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|(id, shadow)| shadow.status(id.clone())).collect()
    }

    /// Lets a copy of `bytes` bytes through, or counts why not.
    pub(crate) fn admit(
        &self,
        route: &RouteView<'_>,
        view: &ShadowView<'_>,
        is_here: bool,
        bytes: usize,
        rows: Option<Vec<usize>>,
    ) -> Option<Admitted> {
        let id = ShadowId {
            route: route.name().to_owned(),
            tenant: route.tenant().map(str::to_owned),
            user: route.user().map(str::to_owned),
            name: view.name.to_owned(),
            model: view.variant.model.to_owned(),
            version: view.variant.version.to_owned(),
        };
        let shadow =
            Arc::clone(self.known.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_default());
        let ShadowLimits { rate, concurrency, bytes: most, deadline_ms } = view.limits;
        let now = Instant::now();
        if !is_here || view.variant.placement == Placement::Gpu {
            count(&shadow.dropped_elsewhere);
            return None;
        }
        if u32::try_from(bytes).map_or(true, |bytes| bytes > most) {
            count(&shadow.dropped_bytes);
            return None;
        }
        if !shadow.take_token(f64::from(rate), now) {
            count(&shadow.dropped_rate);
            return None;
        }
        if !shadow.take_place(concurrency) {
            count(&shadow.dropped_concurrency);
            return None;
        }
        let allowed = Duration::from_millis(u64::from(deadline_ms));
        let deadline = now.checked_add(allowed).unwrap_or(now);
        Some(Admitted { shadow, package: view.variant.digest, rows, deadline })
    }

    /// Hands copies over to the shadows' thread.
    pub(crate) fn submit(&self, admitted: Vec<Admitted>, copied: Copied) {
        let copied = Arc::new(copied);
        for admitted in admitted {
            let shadow = Arc::clone(&admitted.shadow);
            let copy = ShadowCopy { admitted, copied: Arc::clone(&copied) };
            if self.queue.push(copy).is_err() {
                count(&shadow.dropped_queue);
            }
        }
    }
}

impl ShadowCopy {
    /// When it was let through too long ago.
    pub(crate) fn expire(&self) {
        count(&self.admitted.shadow.dropped_deadline);
    }

    pub(crate) fn package(&self) -> &Digest {
        &self.admitted.package
    }

    /// The inputs of the rows that the shadow gets.
    pub(crate) fn inputs(&self) -> Result<std::borrow::Cow<'_, [Tensor]>, RuntimeError> {
        taken(&self.copied.inputs, self.copied.total, self.admitted.rows.as_deref())
    }

    /// Compares what the shadow said with what was served.
    pub(crate) fn compare(&self, result: Result<Vec<Tensor>, RuntimeError>) {
        let shadow = &self.admitted.shadow;
        let outputs = match result {
            Ok(outputs) => outputs,
            Err(RuntimeError::DeadlineExceeded { .. }) => return count(&shadow.dropped_deadline),
            Err(_) => return count(&shadow.failed),
        };
        let served = taken(&self.copied.outputs, self.copied.total, self.admitted.rows.as_deref());
        let compared = served.ok().and_then(|served| compare(&served, &outputs));
        let Some(differences) = compared else { return count(&shadow.incomparable) };
        count(&shadow.runs);
        let leading = outputs.first().and_then(|output| output.shape.first());
        let rows = leading.and_then(|rows| u64::try_from(*rows).ok()).unwrap_or(1);
        shadow.rows.fetch_add(rows, Ordering::Relaxed);
        let mut all = shadow.differences.lock().unwrap_or_else(PoisonError::into_inner);
        all.add(&differences);
    }
}

fn taken<'t>(
    tensors: &'t [Tensor],
    total: usize,
    rows: Option<&[usize]>,
) -> Result<std::borrow::Cow<'t, [Tensor]>, RuntimeError> {
    match rows {
        Some(rows) => rows::take(tensors, total, rows).map(Into::into),
        None => Ok(tensors.into()),
    }
}

impl Shadow {
    /// Takes one of so many places; dropping [`Admitted`] gives it back.
    fn take_place(&self, concurrency: u32) -> bool {
        let taken = self.in_flight.fetch_add(1, Ordering::Relaxed) < u64::from(concurrency);
        if !taken {
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
        taken
    }

    fn take_token(&self, rate: f64, now: Instant) -> bool {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = bucket.get_or_insert(TokenBucket { tokens: rate, filled: now });
        let passed = now.saturating_duration_since(bucket.filled).as_secs_f64();
        bucket.tokens = (bucket.tokens + passed * rate).min(rate);
        bucket.filled = now;
        let has_token = bucket.tokens >= 1.0;
        if has_token {
            bucket.tokens -= 1.0;
        }
        has_token
    }

    fn status(&self, id: ShadowId) -> ShadowStatus {
        let differences = *self.differences.lock().unwrap_or_else(PoisonError::into_inner);
        ShadowStatus {
            id,
            runs: read(&self.runs),
            rows: read(&self.rows),
            failed: read(&self.failed),
            incomparable: read(&self.incomparable),
            dropped: ShadowDrops {
                rate: read(&self.dropped_rate),
                concurrency: read(&self.dropped_concurrency),
                bytes: read(&self.dropped_bytes),
                deadline: read(&self.dropped_deadline),
                queue: read(&self.dropped_queue),
                elsewhere: read(&self.dropped_elsewhere),
            },
            values: differences.values,
            difference_sum: differences.sum,
            difference_max: differences.max,
            labels: differences.labels,
            label_mismatches: differences.label_mismatches,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shadow_takes_so_many_at_once() {
        let shadow = Arc::new(Shadow::default());
        assert_eq!([(); 3].map(|()| shadow.take_place(2)), [true, true, false]);
        let (package, deadline) = (Digest([0; 32]), Instant::now());
        drop(Admitted { shadow: Arc::clone(&shadow), package, rows: None, deadline });
        assert_eq!([(); 2].map(|()| shadow.take_place(2)), [true, false]);
    }

    #[test]
    fn a_shadow_takes_so_many_a_second() {
        let shadow = Shadow::default();
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let taken: Vec<_> = [0, 0, 0, 400, 500, 500, 10_000, 10_000, 10_000]
            .into_iter()
            .map(|time| shadow.take_token(2.0, at(time)))
            .collect();
        assert_eq!(taken, [true, true, false, false, true, false, true, true, false]);
        assert!(!Shadow::default().take_token(0.0, start));
    }
}
