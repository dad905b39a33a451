use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lockgate_package::{Digest, Engine};

use crate::BundleId;

/// What a runtime counted since it was built.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StatsSnapshot {
    /// Requests answered, with a result or an error, the refused ones left out.
    pub answered: u64,
    /// Requests refused because too many were waiting.
    pub shed: u64,
    /// Requests whose time ran out, waiting or running.
    pub deadline_exceeded: u64,
    /// Requests refused because of a quarantined package.
    pub quarantined: u64,
    /// Bundles and package sets that were installed.
    pub installs: u64,
    /// Bundles and package sets that were refused.
    pub failed_installs: u64,
    /// The policy module.
    pub policy: ModuleSnapshot,
    /// The tabular flavour of the inference module.
    pub tabular: ModuleSnapshot,
    /// The graph flavour of the inference module.
    pub graph: ModuleSnapshot,
}

/// What was counted for one module.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ModuleSnapshot {
    /// Calls, loads included.
    pub calls: u64,
    /// Calls that trapped.
    pub traps: u64,
    /// Calls that gave up because memory was refused.
    pub memory_limits: u64,
    /// Calls whose response was malformed.
    pub malformed: u64,
    /// Calls that a deadline cut off.
    pub cut_off: u64,
    /// Instances made.
    pub created: u64,
    /// Instances that are alive now.
    pub instances: u64,
    /// Bytes of memory that they hold now.
    pub memory: u64,
}

/// How a runtime is.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// How often a bundle or package set was installed.
    pub generation: u64,
    /// The installed bundle.
    pub bundle: Option<BundleStatus>,
    /// The installed packages, by model and version.
    pub models: Vec<ModelStatus>,
    /// Threads that run guest calls.
    pub workers: usize,
    /// How many of them are running one.
    pub busy: usize,
    /// Requests that wait.
    pub waiting: usize,
    /// Requests that may wait.
    pub queue: usize,
    /// Identity of the policy module.
    pub policy_core: Digest,
    /// Identity of the tabular flavour of the inference module.
    pub tabular_core: Digest,
    /// Identity of the graph flavour, if there is one.
    pub graph_core: Option<Digest>,
}

/// How a bundle is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BundleStatus {
    /// Which one.
    pub id: BundleId,
    /// How many routes it has.
    pub routes: usize,
    /// Its size in bytes.
    pub bytes: usize,
    /// How long it took to load it into an instance.
    pub load: Duration,
}

/// How a package is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelStatus {
    /// The model.
    pub model: String,
    /// Its version.
    pub version: String,
    /// The package.
    pub package: Digest,
    /// What runs it.
    pub engine: Engine,
    /// Its size in bytes.
    pub bytes: usize,
    /// How long it took to load it into an instance.
    pub load: Duration,
    /// Faults since it was installed.
    pub faults: u64,
    /// How much longer it is quarantined, if it is.
    pub quarantined: Option<Duration>,
}

#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub(crate) answered: AtomicU64,
    pub(crate) shed: AtomicU64,
    pub(crate) deadline_exceeded: AtomicU64,
    pub(crate) quarantined: AtomicU64,
    pub(crate) installs: AtomicU64,
    pub(crate) failed_installs: AtomicU64,
    /// Time that workers spent on answers, in microseconds.
    pub(crate) busy_us: AtomicU64,
    pub(crate) policy: Arc<ModuleCounters>,
    pub(crate) tabular: Arc<ModuleCounters>,
    pub(crate) graph: Arc<ModuleCounters>,
}

#[derive(Debug, Default)]
pub(crate) struct ModuleCounters {
    pub(crate) calls: AtomicU64,
    pub(crate) traps: AtomicU64,
    pub(crate) memory_limits: AtomicU64,
    pub(crate) malformed: AtomicU64,
    pub(crate) cut_off: AtomicU64,
    created: AtomicU64,
    instances: AtomicU64,
    memory: AtomicU64,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

pub(crate) fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Stats {
    pub(crate) fn snapshot(&self) -> StatsSnapshot {
        StatsSnapshot {
            answered: read(&self.answered),
            shed: read(&self.shed),
            deadline_exceeded: read(&self.deadline_exceeded),
            quarantined: read(&self.quarantined),
            installs: read(&self.installs),
            failed_installs: read(&self.failed_installs),
            policy: self.policy.snapshot(),
            tabular: self.tabular.snapshot(),
            graph: self.graph.snapshot(),
        }
    }

    /// When a refused caller may come back: the time in which the workers get through what is waiting, as far as can be
    /// told from what they did so far; between one second and half a minute.
    pub(crate) fn retry_after(&self, waiting: usize, workers: usize) -> Duration {
        let mean = read(&self.busy_us) / read(&self.answered).max(1);
        let waiting = u64::try_from(waiting).unwrap_or(u64::MAX);
        let workers = u64::try_from(workers).unwrap_or(u64::MAX).max(1);
        Duration::from_micros(mean.saturating_mul(waiting) / workers)
            .clamp(Duration::from_secs(1), Duration::from_secs(30))
    }
}

impl ModuleCounters {
    fn snapshot(&self) -> ModuleSnapshot {
        ModuleSnapshot {
            calls: read(&self.calls),
            traps: read(&self.traps),
            memory_limits: read(&self.memory_limits),
            malformed: read(&self.malformed),
            cut_off: read(&self.cut_off),
            created: read(&self.created),
            instances: read(&self.instances),
            memory: read(&self.memory),
        }
    }
}

/// Counts one instance and its memory for as long as it lives.
pub(crate) struct Gauge {
    counters: Arc<ModuleCounters>,
    bytes: u64,
}

impl Gauge {
    pub(crate) fn new(counters: Arc<ModuleCounters>) -> Self {
        count(&counters.created);
        count(&counters.instances);
        Self { counters, bytes: 0 }
    }

    pub(crate) fn set(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        if bytes != self.bytes {
            self.counters.memory.fetch_add(bytes.wrapping_sub(self.bytes), Ordering::Relaxed);
            self.bytes = bytes;
        }
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        self.set(0);
        self.counters.instances.fetch_sub(1, Ordering::Relaxed);
    }
}
