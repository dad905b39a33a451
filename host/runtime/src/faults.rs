//! The faults of packages, as all threads see them.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lockgate_package::Digest;
use lockgate_shell::{FaultLimits, Faults};

use crate::Settings;

pub(crate) struct SharedFaults {
    began: Instant,
    limits: FaultLimits,
    faults: Mutex<Faults>,
}

impl SharedFaults {
    pub(crate) fn new(settings: &Settings) -> Self {
        let limits = FaultLimits {
            limit: settings.fault_limit,
            window: settings.fault_window,
            quarantine: settings.quarantine,
        };
        Self { began: Instant::now(), limits, faults: Mutex::default() }
    }

    /// Counts a fault; returns whether it quarantines the package.
    pub(crate) fn record(&self, package: Digest) -> bool {
        self.lock().record(package, self.began.elapsed(), &self.limits)
    }

    /// How much longer a package is quarantined.
    pub(crate) fn quarantined(&self, package: &Digest) -> Option<Duration> {
        self.lock().quarantined(package, self.began.elapsed())
    }

    /// The packages that are quarantined.
    pub(crate) fn unavailable(&self) -> Vec<[u8; 32]> {
        self.lock().unavailable(self.began.elapsed()).map(|package| package.0).collect()
    }

    /// How often a package has failed.
    pub(crate) fn total(&self, package: &Digest) -> u64 {
        self.lock().total(package)
    }

    /// Forgets packages that are no longer installed.
    pub(crate) fn retain(&self, installed: impl Fn(&Digest) -> bool) {
        self.lock().retain(installed);
    }

    fn lock(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
