//! The ids of the latest lines.

use std::collections::{HashSet, VecDeque};

use lockgate_package::Digest;

/// An id's fingerprint. Ids come from outside, so it is one that nobody finds two ids for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Fingerprint(u128);

impl Fingerprint {
    pub(super) fn of(id: &str) -> Self {
        let digest = Digest::of(id.as_bytes());
        Self(digest.0.iter().take(16).fold(0, |sum, byte| sum << 8 | u128::from(*byte)))
    }
}

/// A bounded set that forgets what it has held longest.
#[derive(Debug)]
pub(super) struct Seen {
    limit: usize,
    set: HashSet<Fingerprint>,
    order: VecDeque<Fingerprint>,
}

impl Seen {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, set: HashSet::new(), order: VecDeque::new() }
    }

    /// Whether it is new; it is held from now on.
    pub(super) fn insert(&mut self, id: Fingerprint) -> bool {
        if !self.set.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > self.limit
            && let Some(oldest) = self.order.pop_front()
        {
            self.set.remove(&oldest);
        }
        true
    }

    /// Forgets what was inserted last, since nothing came of it.
    pub(super) fn take_back(&mut self, ids: &[Fingerprint]) {
        for id in ids {
            self.set.remove(id);
        }
        self.order.retain(|id| self.set.contains(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten() {
        let mut seen = Seen::new(2);
        let [a, b, c] = ["a", "b", "c"].map(Fingerprint::of);
        assert!(seen.insert(a) && seen.insert(b) && !seen.insert(a));
        assert!(seen.insert(c) && !seen.insert(b) && !seen.insert(c));
        assert!(seen.insert(a), "it was the oldest");
        seen.take_back(&[a]);
        assert!(seen.insert(a) && !seen.insert(c));
    }
}
