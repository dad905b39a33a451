//! What is counted of records. Shells and causes that nobody knows share a label: what callers write never becomes one.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::metrics::register;

const SHELLS: [&str; 5] = ["cloudflare", "spin", "host", "browser", "node"];
const CAUSES: [&str; 4] = ["buffer_full", "undelivered", "refused", "too_large"];
const OTHER: &str = "other";

/// Counters of the receiving endpoint and of its files.
#[derive(Clone)]
pub(crate) struct RecordMetrics {
    pub(super) received: IntCounter,
    pub(super) duplicates: IntCounter,
    refused: IntCounterVec,
    unwritten: IntCounterVec,
    lost: IntCounterVec,
    pub(super) completed: IntCounter,
    pub(super) removed: IntCounter,
    pub(super) written_bytes: IntCounter,
    pub(super) folder_bytes: IntGauge,
}

impl RecordMetrics {
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| register(registry, IntCounter::new(name, help)?);
        let counters = |name: &str, help: &str, labels: &[&str]| {
            register(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
        };
        Ok(Self {
            received: counter(
                "lockgate_records_received_total",
                "Records that were written and acknowledged",
            )?,
            duplicates: counter(
                "lockgate_records_duplicates_total",
                "Records that came again and were not written again",
            )?,
            refused: counters(
                "lockgate_records_refused_total",
                "Lines that are no records, by code",
                &["code"],
            )?,
            unwritten: counters(
                "lockgate_records_unwritten_total",
                "Batches of records that were not taken and will come again, by code",
                &["code"],
            )?,
            lost: counters(
                "lockgate_records_lost_total",
                "Records that shells say they dropped, by shell and cause",
                &["shell", "cause"],
            )?,
            completed: counter(
                "lockgate_record_files_completed_total",
                "Files of records that were completed",
            )?,
            removed: counter(
                "lockgate_record_files_removed_total",
                "Complete files that were removed to make room",
            )?,
            written_bytes: counter(
                "lockgate_records_written_bytes_total",
                "Bytes of records that were acknowledged",
            )?,
            folder_bytes: register(
                registry,
                IntGauge::new("lockgate_record_folder_bytes", "Size of all files of records")?,
            )?,
        })
    }

    pub(crate) fn refused(&self, code: &str) {
        self.refused.with_label_values(&[code]).inc();
    }

    pub(crate) fn unwritten(&self, code: &str) {
        self.unwritten.with_label_values(&[code]).inc();
    }

    pub(super) fn lost(&self, shell: &str, cause: &str, count: u64) {
        let known = |word: &str, words: &[&'static str]| {
            words.iter().find(|have| **have == word).map_or(OTHER, |have| *have)
        };
        self.lost.with_label_values(&[known(shell, &SHELLS), known(cause, &CAUSES)]).inc_by(count);
    }
}
