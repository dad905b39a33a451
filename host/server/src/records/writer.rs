//! The thread that writes, and how requests reach it.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::batch::{Batch, BatchLine};
use super::folder::{Folder, Limits, WriteError};
use super::metrics::RecordMetrics;
use super::now_ms;
use super::seen::{Fingerprint, Seen};
use crate::failure::Failure;

/// Batches that may wait for the disk; one more is told to come again.
const QUEUE: usize = 64;
/// How long the thread sleeps at most before it looks at the clock.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);
/// How long to wait before another try at completing a file that could not be completed.
const RETRY: Duration = Duration::from_secs(1);

/// Takes batches for the files.
pub(crate) struct Records {
    jobs: SyncSender<Job>,
    state: Arc<Mutex<State>>,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) received: usize,
    pub(crate) duplicates: usize,
}

/// Why nothing of a batch counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unwritten {
    /// Too many batches wait.
    Overloaded,
    /// The files have reached their limit.
    Full,
    /// Writing failed; the reason is for the log.
    Failed(String),
}

/// How writing goes.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    /// Why the latest write failed, if it did.
    pub(crate) error: Option<String>,
    /// Whether the latest batch met the limit on all files.
    pub(crate) full: bool,
    /// The size of all files.
    pub(crate) bytes: u64,
}

struct Job {
    lines: Vec<BatchLine>,
    answer: oneshot::Sender<Result<Received, Unwritten>>,
}

impl Records {
    /// Takes the folder, and starts the thread that writes to it. The ids of the latest `window` lines are remembered.
    pub(crate) fn start(
        path: &Path,
        limits: Limits,
        window: usize,
        metrics: RecordMetrics,
    ) -> Result<Self, Failure> {
        let (folder, notes) = Folder::open(path, limits)?;
        for note in notes {
            tracing::warn!(folder = %path.display(), "records: {note}");
        }
        let mut seen = Seen::new(window);
        for id in folder.latest_ids(window) {
            seen.insert(id);
        }
        let state = Arc::new(Mutex::new(State { bytes: folder.size(), ..State::default() }));
        let (jobs, queue) = sync_channel(QUEUE);
        let mut writer = Writer { folder, seen, metrics, state: Arc::clone(&state), counted: (0, 0) };
        writer.publish(None);
        std::thread::Builder::new()
            .name("records".to_owned())
            .spawn(move || writer.run(&queue))
            .map_err(|error| Failure::new(format!("cannot start the thread for records: {error}")))?;
        Ok(Self { jobs, state })
    }

    /// Writes what is new of a batch, and answers when it is where the settings want it.
    pub(crate) async fn write(&self, batch: Batch) -> Result<Received, Unwritten> {
        let (answer, answered) = oneshot::channel();
        self.jobs.try_send(Job { lines: batch.lines, answer }).map_err(|error| match error {
            TrySendError::Full(_) => Unwritten::Overloaded,
            TrySendError::Disconnected(_) => gone(),
        })?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }

    pub(crate) fn state(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn gone() -> Unwritten {
    Unwritten::Failed("the thread that writes records has ended".to_owned())
}

struct Writer {
    folder: Folder,
    seen: Seen,
    metrics: RecordMetrics,
    state: Arc<Mutex<State>>,
    /// How many completed and removed files the metrics know of.
    counted: (u64, u64),
}

/// A batch whose lines are in the file, and not yet for sure.
struct Pending {
    answer: oneshot::Sender<Result<Received, Unwritten>>,
    received: Received,
    ids: Vec<Fingerprint>,
    lost: Vec<(String, String, u64)>,
    bytes: usize,
}

impl Writer {
    fn run(&mut self, queue: &Receiver<Job>) {
        loop {
            let sleep = self.folder.until_old(now_ms()).unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP);
            match queue.recv_timeout(sleep) {
                Ok(first) => {
                    let mut pending = Vec::new();
                    self.take(first, &mut pending);
                    // What waits meanwhile shares one sync.
                    for job in queue.try_iter().take(QUEUE) {
                        self.take(job, &mut pending);
                    }
                    self.settle(&mut pending);
                }
                Err(RecvTimeoutError::Timeout) => {
                    if let Err(error) = self.folder.complete_if_old(now_ms()) {
                        self.publish(Some(error));
                        std::thread::sleep(RETRY);
                    } else {
                        self.publish(None);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Appends what is new of a batch.
    fn take(&mut self, job: Job, pending: &mut Vec<Pending>) {
        let now = now_ms();
        let (mut ids, mut lost, mut text) = (Vec::new(), Vec::new(), Vec::new());
        let count = job.lines.len();
        for line in job.lines {
            if self.seen.insert(line.id) {
                ids.push(line.id);
                lost.extend(line.lost);
                text.extend_from_slice(&line.text);
            }
        }
        if self.folder.wants_new_file(text.len(), now) {
            self.settle(pending);
        }
        let written = if text.is_empty() { Ok(()) } else { self.folder.append(&text, now) };
        if let Err(error) = written {
            self.seen.take_back(&ids);
            let why = match error {
                WriteError::Full => Unwritten::Full,
                WriteError::Failed(error) => Unwritten::Failed(error),
            };
            self.refuse(job.answer, why);
            return;
        }
        let received = Received { received: ids.len(), duplicates: count - ids.len() };
        pending.push(Pending { answer: job.answer, received, ids, lost, bytes: text.len() });
    }

    /// Makes sure of what was appended, and answers.
    fn settle(&mut self, pending: &mut Vec<Pending>) {
        if pending.is_empty() {
            return;
        }
        let synced = self.folder.sync();
        match synced {
            Ok(()) => {
                for batch in pending.iter() {
                    self.metrics.received.inc_by(batch.received.received as u64);
                    self.metrics.duplicates.inc_by(batch.received.duplicates as u64);
                    self.metrics.written_bytes.inc_by(batch.bytes as u64);
                    batch
                        .lost
                        .iter()
                        .for_each(|(shell, cause, count)| self.metrics.lost(shell, cause, *count));
                }
                self.publish(None);
                for batch in pending.drain(..) {
                    // Whoever no longer waits will send it again, and it will be a duplicate.
                    let _ = batch.answer.send(Ok(batch.received));
                }
            }
            Err(error) => {
                for batch in pending.drain(..) {
                    self.seen.take_back(&batch.ids);
                    self.refuse(batch.answer, Unwritten::Failed(error.clone()));
                }
            }
        }
    }

    fn refuse(&mut self, answer: oneshot::Sender<Result<Received, Unwritten>>, why: Unwritten) {
        match &why {
            Unwritten::Failed(error) => self.publish(Some(error.clone())),
            _ => {
                self.publish(None);
                self.state.lock().unwrap_or_else(PoisonError::into_inner).full = why == Unwritten::Full;
            }
        }
        let _ = answer.send(Err(why));
    }

    /// Says how writing goes.
    fn publish(&mut self, error: Option<String>) {
        let bytes = self.folder.size();
        let (completed, removed) = (self.folder.completed, self.folder.removed);
        self.metrics.completed.inc_by(completed.saturating_sub(self.counted.0));
        self.metrics.removed.inc_by(removed.saturating_sub(self.counted.1));
        self.counted = (completed, removed);
        self.metrics.folder_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State { error, full: false, bytes };
    }
}
