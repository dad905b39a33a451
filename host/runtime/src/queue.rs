//! The bounded queue between callers and workers. It is short-lived state behind a mutex that no one holds while a
//! guest runs. Unlike a channel it lets go of requests whose time ran out while they wait, so that they are answered
//! on time and make room.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

pub(crate) struct Queue<J> {
    state: Mutex<State<J>>,
    changed: Condvar,
    capacity: usize,
}

struct State<J> {
    jobs: VecDeque<J>,
    generation: u64,
    closed: bool,
}

/// What a queue needs to know about a job.
pub(crate) trait Deadline {
    fn deadline(&self) -> Instant;
}

/// Why a job was not taken.
pub(crate) enum Refused<J> {
    /// So many are waiting.
    Full(J, usize),
    /// The runtime is going away.
    Closed(J),
}

/// What a worker does next.
pub(crate) enum Next<J> {
    Job(J),
    /// A new generation is installed.
    Refresh,
    Closed,
}

impl<J: Deadline> Queue<J> {
    pub(crate) fn new(capacity: usize) -> Self {
        let state = State { jobs: VecDeque::new(), generation: 0, closed: false };
        Self { state: Mutex::new(state), changed: Condvar::new(), capacity }
    }

    pub(crate) fn push(&self, job: J) -> Result<(), Refused<J>> {
        let mut state = self.lock();
        if state.closed {
            return Err(Refused::Closed(job));
        }
        if state.jobs.len() >= self.capacity {
            return Err(Refused::Full(job, state.jobs.len()));
        }
        state.jobs.push_back(job);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Waits for the next thing to do; `generation` is the one that the worker has seen.
    pub(crate) fn pop(&self, generation: u64) -> Next<J> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return Next::Closed;
            }
            if let Some(job) = state.jobs.pop_front() {
                return Next::Job(job);
            }
            if state.generation != generation {
                return Next::Refresh;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes out the jobs whose time ran out.
    pub(crate) fn expired(&self, now: Instant) -> Vec<J> {
        let mut state = self.lock();
        if state.jobs.iter().all(|job| job.deadline() > now) {
            return Vec::new();
        }
        let (expired, waiting) =
            state.jobs.drain(..).partition::<VecDeque<_>, _>(|job| job.deadline() <= now);
        state.jobs = waiting;
        expired.into()
    }

    /// Wakes the workers, so that they let go of what an older generation needed.
    pub(crate) fn refresh(&self, generation: u64) {
        self.lock().generation = generation;
        self.changed.notify_all();
    }

    /// Lets no more jobs in or out, and returns those that wait.
    pub(crate) fn close(&self) -> Vec<J> {
        let mut state = self.lock();
        state.closed = true;
        let jobs = state.jobs.drain(..).collect();
        drop(state);
        self.changed.notify_all();
        jobs
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().jobs.len()
    }

    fn lock(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    struct Job(u32, Instant);

    impl Deadline for Job {
        fn deadline(&self) -> Instant {
            self.1
        }
    }

    #[test]
    fn jobs_leave_in_order_or_when_their_time_is_up() {
        let queue = Queue::new(3);
        let now = Instant::now();
        let later = now + Duration::from_secs(9);
        for (number, deadline) in [(1, later), (2, now), (3, later)] {
            assert!(queue.push(Job(number, deadline)).is_ok());
        }
        assert!(matches!(queue.push(Job(4, later)), Err(Refused::Full(Job(4, _), 3))));
        assert_eq!(queue.expired(now).iter().map(|job| job.0).collect::<Vec<_>>(), [2]);
        assert_eq!(queue.len(), 2);
        assert!(matches!(queue.pop(0), Next::Job(Job(1, _))));
        queue.refresh(1);
        assert!(matches!(queue.pop(0), Next::Job(Job(3, _))), "work comes first");
        assert!(matches!(queue.pop(0), Next::Refresh));
        assert!(queue.push(Job(5, later)).is_ok());
        assert_eq!(queue.close().len(), 1);
        assert!(matches!(queue.pop(1), Next::Closed));
        assert!(matches!(queue.push(Job(6, later)), Err(Refused::Closed(Job(6, _)))));
    }
}
