//! Which packages failed, and which are refused for it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use lockgate_package::Digest;

/// How many faults are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultLimits {
    /// Faults of one package within `window` that quarantine it.
    pub limit: usize,
    /// The time in which faults count.
    pub window: Duration,
    /// How long a package is quarantined.
    pub quarantine: Duration,
}

/// The faults of packages. Moments are what has passed since a beginning of the shell's own.
#[derive(Debug, Clone, Default)]
pub struct Faults(BTreeMap<Digest, Record>);

#[derive(Debug, Clone, Default)]
struct Record {
    total: u64,
    recent: VecDeque<Duration>,
    until: Option<Duration>,
}

impl Record {
    fn left(&self, now: Duration) -> Option<Duration> {
        self.until?.checked_sub(now).filter(|left| !left.is_zero())
    }
}

impl Faults {
    /// Counts a fault; returns whether it quarantines the package. What came within the window before an earlier
    /// quarantine still counts, so one more fault after it can begin the next.
    pub fn record(&mut self, package: Digest, now: Duration, limits: &FaultLimits) -> bool {
        let record = self.0.entry(package).or_default();
        record.total += 1;
        record.recent.push_back(now);
        while record.recent.front().is_some_and(|then| now.saturating_sub(*then) > limits.window)
            || record.recent.len() > limits.limit
        {
            record.recent.pop_front();
        }
        let is_quarantined = record.recent.len() >= limits.limit;
        if is_quarantined {
            record.until = Some(now.saturating_add(limits.quarantine));
        }
        is_quarantined
    }

    /// How much longer a package is quarantined.
    pub fn quarantined(&self, package: &Digest, now: Duration) -> Option<Duration> {
        self.0.get(package)?.left(now)
    }

    /// The packages that are quarantined.
    pub fn unavailable(&self, now: Duration) -> impl Iterator<Item = Digest> {
        self.0.iter().filter(move |(_, record)| record.left(now).is_some()).map(|(package, _)| *package)
    }

    /// How often a package has failed.
    pub fn total(&self, package: &Digest) -> u64 {
        self.0.get(package).map_or(0, |record| record.total)
    }

    /// Forgets packages that no longer serve.
    pub fn retain(&mut self, serves: impl Fn(&Digest) -> bool) {
        self.0.retain(|package, _| serves(package));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_within_the_window_quarantine_and_older_ones_do_not() {
        let limits =
            FaultLimits { limit: 3, window: Duration::from_secs(10), quarantine: Duration::from_secs(5) };
        let mut faults = Faults::default();
        let package = Digest([1; 32]);
        let at = Duration::from_secs;
        assert!(!faults.record(package, at(0), &limits));
        assert!(!faults.record(package, at(6), &limits));
        assert!(!faults.record(package, at(11), &limits), "the first one is too old to count");
        assert!(faults.record(package, at(12), &limits));
        assert_eq!(faults.quarantined(&package, at(13)), Some(at(4)));
        assert_eq!(faults.unavailable(at(13)).collect::<Vec<_>>(), [package]);
        assert_eq!(faults.quarantined(&package, at(17)), None, "tried again");
        assert_eq!(faults.unavailable(at(17)).count(), 0);
        assert!(faults.record(package, at(18), &limits), "and quarantined again at once");
        assert_eq!(faults.total(&package), 5);
        faults.retain(|_| false);
        assert_eq!(faults.total(&package), 0);
    }
}
