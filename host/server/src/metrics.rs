//! Counters and histograms for Prometheus.
//!
//! Labels are bounded: a route has metrics of its own if it is in the bundle and among the first `metric_routes` that were asked;
//! any other name counts as `unknown` or `other`. What callers write never becomes a label.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use lockgate_runtime::Runtime;
use prometheus::core::Collector;
use prometheus::{
    Encoder as _, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::records::RecordMetrics;

/// The label of routes that are not in the bundle.
const UNKNOWN: &str = "unknown";
/// The label of routes and variants beyond the bound.
const OTHER: &str = "other";
/// How many route and variant pairs may have counters, per route that may.
const VARIANTS_PER_ROUTE: usize = 8;

/// From 50 µs to 10 s: one row of a small model on one end, a deadline on the other.
const BUCKETS: [f64; 17] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// Everything that is measured.
pub(crate) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    errors: IntCounterVec,
    request_seconds: HistogramVec,
    inference_seconds: HistogramVec,
    queue_seconds: Histogram,
    decisions: IntCounterVec,
    rows: IntCounterVec,
    reloads: IntCounterVec,
    pub(crate) in_flight: IntGauge,
    shed: IntCounter,
    deadlines: IntCounter,
    traps: IntCounterVec,
    quarantined: IntGauge,
    waiting: IntGauge,
    workers: IntGauge,
    busy: IntGauge,
    instances: IntGaugeVec,
    instance_bytes: IntGaugeVec,
    bundle_version: IntGauge,
    packages: IntGauge,
    ready: IntGauge,
    uptime: Gauge,
    shadow_runs: IntCounterVec,
    shadow_dropped: IntCounterVec,
    shadow_labels: IntCounterVec,
    shadow_difference: GaugeVec,
    /// What other shells report.
    pub(crate) records: RecordMetrics,
    shadows: Bounded,
    routes: Bounded,
    variants: Bounded,
}

/// The first labels that come along keep their names; the others share one.
struct Bounded {
    limit: usize,
    known: Mutex<BTreeSet<String>>,
}

impl Bounded {
    fn admits(&self, label: &str) -> bool {
        let mut known = self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if known.contains(label) {
            return true;
        }
        known.len() < self.limit && known.insert(label.to_owned())
    }
}

impl Metrics {
    /// Fresh counters. `build` are the labels of the information metric.
    pub(crate) fn new(metric_routes: usize, build: &[(&str, String)]) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| register(&registry, IntCounter::new(name, help)?);
        let counters = |name: &str, help: &str, labels: &[&str]| {
            register(&registry, IntCounterVec::new(Opts::new(name, help), labels)?)
        };
        let gauge = |name: &str, help: &str| register(&registry, IntGauge::new(name, help)?);
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            register(&registry, IntGaugeVec::new(Opts::new(name, help), labels)?)
        };
        let histogram = |name: &str, help: &str| HistogramOpts::new(name, help).buckets(BUCKETS.to_vec());
        let info = IntGauge::with_opts(build.iter().fold(
            Opts::new("lockgate_build_info", "The program and the identities of its core; always 1"),
            |opts, (label, value)| opts.const_label(*label, value),
        ))?;
        register(&registry, info)?.set(1);
        Ok(Self {
            requests: counters(
                "lockgate_requests_total",
                "HTTP requests by endpoint, route and status",
                &["endpoint", "route", "status"],
            )?,
            errors: counters(
                "lockgate_errors_total",
                "Requests answered with an error, by endpoint and code",
                &["endpoint", "code"],
            )?,
            request_seconds: register(
                &registry,
                HistogramVec::new(
                    histogram(
                        "lockgate_request_duration_seconds",
                        "From a request's head to its answer, by endpoint",
                    ),
                    &["endpoint"],
                )?,
            )?,
            inference_seconds: register(
                &registry,
                HistogramVec::new(
                    histogram(
                        "lockgate_inference_duration_seconds",
                        "In the inference module, per request, by route",
                    ),
                    &["route"],
                )?,
            )?,
            queue_seconds: register(
                &registry,
                Histogram::with_opts(histogram("lockgate_queue_duration_seconds", "Waiting for a worker"))?,
            )?,
            decisions: counters(
                "lockgate_decisions_total",
                "Decisions by route and variant; `pinned` where the caller named the version",
                &["route", "variant"],
            )?,
            rows: counters("lockgate_rows_total", "Rows predicted, by route", &["route"])?,
            reloads: counters(
                "lockgate_reloads_total",
                "Loads of the policy and packages, by result",
                &["result"],
            )?,
            in_flight: gauge("lockgate_requests_in_flight", "HTTP requests in progress")?,
            shed: counter("lockgate_shed_total", "Requests refused because the queue was full")?,
            deadlines: counter(
                "lockgate_deadline_exceeded_total",
                "Requests that ran out of time in the runtime",
            )?,
            traps: counters(
                "lockgate_traps_total",
                "Guest calls that trapped, ran out of memory or gave a malformed response, by module and kind",
                &["module", "kind"],
            )?,
            quarantined: gauge("lockgate_quarantined_packages", "Packages that are refused for a while")?,
            waiting: gauge("lockgate_queue_waiting", "Requests waiting for a worker")?,
            workers: gauge("lockgate_workers", "Threads that run the core")?,
            busy: gauge("lockgate_workers_busy", "Threads that are running the core now")?,
            instances: gauges("lockgate_instances", "Instances of a module that are alive", &["module"])?,
            instance_bytes: gauges(
                "lockgate_instance_memory_bytes",
                "Memory of the instances of a module",
                &["module"],
            )?,
            bundle_version: gauge("lockgate_bundle_version", "Version of the policy bundle; 0 without one")?,
            packages: gauge("lockgate_packages", "Packages that are loaded")?,
            ready: gauge("lockgate_ready", "1 when the server takes requests")?,
            uptime: register(&registry, Gauge::new("lockgate_uptime_seconds", "Since the program started")?)?,
            shadow_runs: counters(
                "lockgate_shadow_runs_total",
                "Copies that shadows ran, by result: `compared`, `failed`, or `incomparable` to what was served",
                &["route", "shadow", "result"],
            )?,
            shadow_dropped: counters(
                "lockgate_shadow_dropped_total",
                "Copies for shadows that were dropped, by the bound that they met",
                &["route", "shadow", "cause"],
            )?,
            shadow_labels: counters(
                "lockgate_shadow_labels_total",
                "Labels that shadows gave, by whether they are those that were served",
                &["route", "shadow", "equal"],
            )?,
            shadow_difference: register(
                &registry,
                GaugeVec::new(
                    Opts::new(
                        "lockgate_shadow_difference_max",
                        "Largest absolute difference between a number that a shadow gave and the one that was served",
                    ),
                    &["route", "shadow"],
                )?,
            )?,
            records: RecordMetrics::new(&registry)?,
            shadows: Bounded { limit: metric_routes, known: Mutex::default() },
            routes: Bounded { limit: metric_routes, known: Mutex::default() },
            variants: Bounded {
                limit: metric_routes.saturating_mul(VARIANTS_PER_ROUTE),
                known: Mutex::default(),
            },
            registry,
        })
    }

    /// The label of a route; `known` says whether the bundle has it.
    pub(crate) fn route_label<'a>(&self, route: &'a str, known: bool) -> &'a str {
        match known {
            false => UNKNOWN,
            true if self.routes.admits(route) => route,
            true => OTHER,
        }
    }

    /// An HTTP request was answered.
    pub(crate) fn request(
        &self,
        endpoint: &str,
        route: &str,
        status: u16,
        code: Option<&str>,
        took: Duration,
    ) {
        self.requests.with_label_values(&[endpoint, route, &status.to_string()]).inc();
        self.request_seconds.with_label_values(&[endpoint]).observe(took.as_secs_f64());
        if let Some(code) = code {
            self.errors.with_label_values(&[endpoint, code]).inc();
        }
    }

    /// A route was asked for predictions and gave them. `route` is a label, see [`route_label`](Self::route_label).
    pub(crate) fn inference(&self, route: &str, rows: usize, queue: Duration, predict: Duration) {
        self.rows.with_label_values(&[route]).inc_by(rows as u64);
        self.queue_seconds.observe(queue.as_secs_f64());
        self.inference_seconds.with_label_values(&[route]).observe(predict.as_secs_f64());
    }

    /// `count` decisions of a route fell on a variant. `route` is a label.
    pub(crate) fn decision(&self, route: &str, variant: &str, count: usize) {
        let variant = if self.variants.admits(&format!("{route}\0{variant}")) { variant } else { OTHER };
        self.decisions.with_label_values(&[route, variant]).inc_by(count as u64);
    }

    /// The policy and packages were loaded, or could not be.
    pub(crate) fn reload(&self, succeeded: bool) {
        self.reloads.with_label_values(&[if succeeded { "success" } else { "failure" }]).inc();
    }

    /// The page for Prometheus.
    pub(crate) fn page(
        &self,
        runtime: &Runtime,
        ready: bool,
        uptime: Duration,
    ) -> Result<String, prometheus::Error> {
        self.runtime(runtime);
        self.ready.set(i64::from(ready));
        self.uptime.set(uptime.as_secs_f64());
        let mut page = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut page)?;
        Ok(String::from_utf8_lossy(&page).into_owned())
    }
}

impl Metrics {
    /// Takes over what the runtime counts.
    fn runtime(&self, runtime: &Runtime) {
        let (stats, status) = (runtime.stats(), runtime.status());
        catch_up(&self.shed, stats.shed);
        catch_up(&self.deadlines, stats.deadline_exceeded);
        for (name, module) in [("policy", stats.policy), ("tabular", stats.tabular), ("graph", stats.graph)] {
            for (kind, total) in
                [("trap", module.traps), ("memory", module.memory_limits), ("malformed", module.malformed)]
            {
                catch_up(&self.traps.with_label_values(&[name, kind]), total);
            }
            self.instances.with_label_values(&[name]).set(number(module.instances));
            self.instance_bytes.with_label_values(&[name]).set(number(module.memory));
        }
        self.shadows(runtime);
        self.bundle_version.set(number(status.bundle.map_or(0, |bundle| bundle.id.version)));
        self.packages.set(number(status.models.len() as u64));
        let quarantined = status.models.iter().filter(|model| model.quarantined.is_some()).count();
        self.quarantined.set(number(quarantined as u64));
        self.waiting.set(number(status.waiting as u64));
        self.workers.set(number(status.workers as u64));
        self.busy.set(number(status.busy as u64));
    }
}

/// What was counted for the shadows that have one name.
#[derive(Default)]
struct ShadowTotals {
    runs: [(&'static str, u64); 3],
    dropped: Vec<(&'static str, u64)>,
    labels: [(&'static str, u64); 2],
    difference: f64,
}

impl Metrics {
    /// Takes over what the runtime counts for shadows. Definitions of a route for tenants and users, and versions that a shadow had
    /// before, share its name here.
    fn shadows(&self, runtime: &Runtime) {
        let mut totals: BTreeMap<(String, String), ShadowTotals> = BTreeMap::new();
        for status in runtime.shadows() {
            let route = if self.routes.admits(&status.id.route) { &status.id.route } else { OTHER };
            let admitted = self.shadows.admits(&format!("{route}\0{}", status.id.name));
            let name = if admitted { &status.id.name } else { OTHER };
            let total = totals.entry((route.to_owned(), name.to_owned())).or_default();
            add(
                &mut total.runs,
                [("compared", status.runs), ("failed", status.failed), ("incomparable", status.incomparable)],
            );
            let equal = status.labels.saturating_sub(status.label_mismatches);
            add(&mut total.labels, [("true", equal), ("false", status.label_mismatches)]);
            let causes = status.dropped.by_cause();
            total.dropped.resize(causes.len(), ("", 0));
            add(&mut total.dropped, causes);
            total.difference = total.difference.max(status.difference_max);
        }
        for ((route, name), total) in totals {
            for (counters, counts) in [
                (&self.shadow_runs, &total.runs[..]),
                (&self.shadow_dropped, &total.dropped[..]),
                (&self.shadow_labels, &total.labels[..]),
            ] {
                for (label, count) in counts {
                    catch_up(&counters.with_label_values(&[route.as_str(), &name, label]), *count);
                }
            }
            self.shadow_difference.with_label_values(&[&route, &name]).set(total.difference);
        }
    }
}

fn add<const N: usize>(totals: &mut [(&'static str, u64)], counts: [(&'static str, u64); N]) {
    for (total, (label, count)) in totals.iter_mut().zip(counts) {
        *total = (label, total.1.saturating_add(count));
    }
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(crate) fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

/// Moves a counter of ours up to a total that is counted elsewhere.
fn catch_up(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}
