//! Whether a text can pass several tests at once: each of them is an automaton, and all read the same text.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::automaton::{Automaton, build};
use crate::policy::{TextTest, VersionComparison};
use crate::semver::Version;

/// The automata of the expressions that were asked about.
#[derive(Default)]
pub(super) struct Automata {
    known: RefCell<BTreeMap<String, Option<Rc<Automaton>>>>,
}

/// How many automata are kept: at 64 KiB each, no more than 16 MiB.
const KEPT: usize = 256;
/// The longest list of beginnings, ends or parts that becomes an automaton, in bytes.
const MAX_LIST: usize = 2000;

impl Automata {
    /// Whether the expression finds a match in the text; `None` when that would cost too much.
    pub(super) fn matches(&self, pattern: &str, text: &str, left: &mut usize) -> Option<bool> {
        let automaton = self.of_pattern(pattern, left)?;
        let end = text.bytes().fold(automaton.start, |state, byte| automaton.next(state, byte));
        *left = left.saturating_sub(text.len() / 8);
        Some(automaton.accepts(end))
    }

    fn of_pattern(&self, pattern: &str, left: &mut usize) -> Option<Rc<Automaton>> {
        let mut known = self.known.borrow_mut();
        if let Some(automaton) = known.get(pattern) {
            return automaton.clone();
        }
        if *left == 0 {
            return None;
        }
        if known.len() >= KEPT {
            known.clear();
        }
        let automaton = build(pattern).ok().map(Rc::new);
        let size = automaton.as_ref().map_or(0, |automaton| automaton.data.len());
        *left = left.saturating_sub(500 + size);
        known.insert(pattern.to_owned(), automaton.clone());
        automaton
    }

    fn of_test(&self, test: &TextTest, left: &mut usize) -> Option<Rc<Automaton>> {
        let one_of = |texts: &BTreeSet<String>| {
            let length: usize = texts.iter().map(String::len).sum();
            let escaped: Vec<String> = texts.iter().map(|text| regex_syntax::escape(text)).collect();
            (length <= MAX_LIST).then(|| format!("({})", escaped.join("|")))
        };
        let pattern = match test {
            TextTest::Matches(pattern) => pattern.clone(),
            TextTest::Prefix(texts) => format!("^{}", one_of(texts)?),
            TextTest::Suffix(texts) => format!("{}$", one_of(texts)?),
            TextTest::Contains(texts) => one_of(texts)?,
            TextTest::Present | TextTest::In(_) | TextTest::Semver(_) => return None,
        };
        self.of_pattern(&pattern, left)
    }
}

/// Whether no text passes all of these, of which one must hold. What is no expression, nor a beginning, an end or a part, is left aside, and
/// so are tests without any expression: what those exclude is seen without automata.
pub(super) fn nothing_matches(tests: &[(&TextTest, bool)], automata: &Automata, left: &mut usize) -> bool {
    let expressions = || tests.iter().filter(|(test, _)| matches!(test, TextTest::Matches(_)));
    match tests {
        _ if expressions().next().is_none() => return false,
        [(TextTest::Matches(pattern), true)] if !is_doubtful(pattern) => return false,
        _ => {}
    }
    let found = tests.iter().map(|(test, holds)| Some((automata.of_test(test, left)?, *holds)));
    let found: Vec<(Rc<Automaton>, bool)> = found.flatten().collect();
    nothing_passes(&found, left)
}

/// Whether an expression may match nothing at all: only anchors and classes can contradict what is around them.
fn is_doubtful(pattern: &str) -> bool {
    pattern.contains(['^', '$', '['])
}

/// Whether no text leads all automata where they shall end.
fn nothing_passes(automata: &[(Rc<Automaton>, bool)], left: &mut usize) -> bool {
    // One byte speaks for all that no automaton tells apart.
    let mut speakers: BTreeMap<Vec<u8>, u8> = BTreeMap::new();
    for byte in 0..=u8::MAX {
        let classes = automata.iter().map(|(automaton, _)| automaton.class(byte)).collect();
        speakers.entry(classes).or_insert(byte);
    }
    let start: Vec<u32> = automata.iter().map(|(automaton, _)| automaton.start).collect();
    let mut seen = BTreeSet::from([start.clone()]);
    let mut open = vec![start];
    while let Some(states) = open.pop() {
        let mut ends = automata.iter().zip(&states);
        if ends.all(|((automaton, holds), state)| automaton.accepts(*state) == *holds) {
            return false;
        }
        for byte in speakers.values() {
            let Some(rest) = left.checked_sub(4 * automata.len() + 4) else {
                *left = 0;
                return false;
            };
            *left = rest;
            let next: Vec<u32> = automata
                .iter()
                .zip(&states)
                .map(|((automaton, _), state)| automaton.next(*state, *byte))
                .collect();
            let mut decided = automata.iter().zip(&next);
            let hopeless =
                decided.any(|((automaton, holds), state)| automaton.settled(*state) == Some(!*holds));
            if !hopeless && seen.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    true
}

/// Whether a text is a version that fulfils all comparators.
pub(super) fn version_passes(text: &str, comparators: &[(VersionComparison, semver::Version)]) -> bool {
    let Some(version) = Version::parse(text) else { return false };
    comparators.iter().all(|(comparison, bound)| {
        let bound = bound.to_string();
        let Some(bound) = Version::parse(&bound) else { return false };
        let order = version.precedence(&bound);
        match comparison {
            VersionComparison::Equal => order.is_eq(),
            VersionComparison::NotEqual => order.is_ne(),
            VersionComparison::Less => order.is_lt(),
            VersionComparison::LessOrEqual => order.is_le(),
            VersionComparison::Greater => order.is_gt(),
            VersionComparison::GreaterOrEqual => order.is_ge(),
        }
    })
}

/// Whether whatever passes the first test passes the second.
pub(super) fn implies(first: &TextTest, second: &TextTest) -> bool {
    let each = |first: &BTreeSet<String>, second: &BTreeSet<String>, has: fn(&str, &str) -> bool| {
        first.iter().all(|one| second.iter().any(|other| has(one, other)))
    };
    match (first, second) {
        (TextTest::Prefix(one), TextTest::Prefix(other)) => {
            each(one, other, |one, other| one.starts_with(other))
        }
        (TextTest::Suffix(one), TextTest::Suffix(other)) => {
            each(one, other, |one, other| one.ends_with(other))
        }
        (
            TextTest::Prefix(one) | TextTest::Suffix(one) | TextTest::Contains(one),
            TextTest::Contains(other),
        ) => each(one, other, |one, other| one.contains(other)),
        (one, other) => one == other,
    }
}
