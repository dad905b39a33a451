//! Which packages failed, and which are quarantined for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lockgate_package::Digest;

use crate::Settings;

#[derive(Default)]
pub(crate) struct Faults {
    records: Mutex<BTreeMap<Digest, Record>>,
}

#[derive(Default)]
struct Record {
    total: u64,
    recent: VecDeque<Instant>,
    until: Option<Instant>,
}

impl Record {
    fn left(&self, now: Instant) -> Option<Duration> {
        self.until?.checked_duration_since(now).filter(|left| !left.is_zero())
    }
}

impl Faults {
    /// Counts a fault; returns whether it quarantines the package. What came within the window before an earlier
    /// quarantine still counts, so one more fault after it can begin the next.
    pub(crate) fn record(&self, package: Digest, now: Instant, settings: &Settings) -> bool {
        let mut records = self.lock();
        let record = records.entry(package).or_default();
        record.total += 1;
        record.recent.push_back(now);
        while record.recent.front().is_some_and(|then| now.duration_since(*then) > settings.fault_window)
            || record.recent.len() > settings.fault_limit
        {
            record.recent.pop_front();
        }
        let quarantined = record.recent.len() >= settings.fault_limit;
        if quarantined {
            record.until = now.checked_add(settings.quarantine);
        }
        quarantined
    }

    /// How much longer a package is quarantined.
    pub(crate) fn quarantined(&self, package: &Digest, now: Instant) -> Option<Duration> {
        self.lock().get(package)?.left(now)
    }

    /// The packages that are quarantined.
    pub(crate) fn unavailable(&self, now: Instant) -> Vec<[u8; 32]> {
        self.lock()
            .iter()
            .filter(|(_, record)| record.left(now).is_some())
            .map(|(package, _)| package.0)
            .collect()
    }

    /// The faults of a package, and how much longer it is quarantined.
    pub(crate) fn of(&self, package: &Digest, now: Instant) -> (u64, Option<Duration>) {
        self.lock().get(package).map_or((0, None), |record| (record.total, record.left(now)))
    }

    /// Forgets packages that are no longer installed.
    pub(crate) fn retain(&self, installed: impl Fn(&Digest) -> bool) {
        self.lock().retain(|package, _| installed(package));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Digest, Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_within_the_window_quarantine_and_older_ones_do_not() {
        let settings = Settings {
            fault_limit: 3,
            fault_window: Duration::from_secs(10),
            quarantine: Duration::from_secs(5),
            ..Settings::default()
        };
        let faults = Faults::default();
        let (package, start) = (Digest([1; 32]), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!faults.record(package, at(0), &settings));
        assert!(!faults.record(package, at(6), &settings));
        assert!(!faults.record(package, at(11), &settings), "the first one is too old to count");
        assert!(faults.record(package, at(12), &settings));
        assert_eq!(faults.quarantined(&package, at(13)), Some(Duration::from_secs(4)));
        assert_eq!(faults.unavailable(at(13)), [[1; 32]]);
        assert_eq!(faults.quarantined(&package, at(17)), None, "tried again");
        assert!(faults.record(package, at(18), &settings), "and quarantined again at once");
        assert_eq!(faults.of(&package, at(30)), (5, None));
        faults.retain(|_| false);
        assert_eq!(faults.of(&package, at(30)), (0, None));
    }
}
