//! Making automata: from an expression that `regex-syntax` has read to the fewest states and classes that answer the same.
//!
//! `regex-automata` does the hard part, within bounds that end a hostile expression early. What it makes is read out into a [`Machine`], which is then
//! minimised and numbered in the order in which its states are met.

use std::collections::{BTreeMap, VecDeque};

use regex_automata::dfa::{Automaton as _, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::alphabet::Unit;
use regex_automata::util::primitives::StateID;
use regex_automata::util::start;
use regex_automata::{Anchored, MatchKind};
use regex_syntax::hir::Hir;

use crate::Automaton;
use crate::tables::{DEAD, IS_BEHIND, MATCHED, MATCHES_AT_END};

/// The state of a [`finding`] machine in which no match can come any more.
pub const NEVER: u32 = 0;
/// The state of a [`finding`] machine in which a match has been found.
pub const FOUND: u32 = 1;
/// How many states have numbers that are fixed, in machines of both kinds.
const FIXED: u32 = 2;

/// The longest match from any place of a text, as tables. `bytes` bounds what is made on the way, and by that the tables: the nondeterministic automaton
/// takes at most as many, the deterministic one twice and making it eight times as many.
///
/// `None` when that is not enough.
pub fn longest(expression: &Hir, bytes: usize) -> Option<Automaton> {
    let dfa = determined(expression, bytes, StartKind::Anchored, MatchKind::All)?;
    Automaton::of(&Machine::longest(&dfa)?.minimized())
}

/// A machine that says whether there is a match anywhere in a text: [`Machine::marks`] is 1 where there is one if the text ends. Bounded as
/// [`longest`] is.
///
/// `None` when that is not enough.
pub fn finding(expression: &Hir, bytes: usize) -> Option<Machine> {
    let dfa = determined(expression, bytes, StartKind::Unanchored, MatchKind::LeftmostFirst)?;
    Some(Machine::finding(&dfa)?.minimized())
}

fn determined(
    expression: &Hir,
    bytes: usize,
    start: StartKind,
    matches: MatchKind,
) -> Option<dense::DFA<Vec<u32>>> {
    let config =
        thompson::Config::new().nfa_size_limit(Some(bytes)).which_captures(thompson::WhichCaptures::None);
    let nfa = thompson::Compiler::new().configure(config).build_from_hir(expression).ok()?;
    let config = dense::Config::new()
        .start_kind(start)
        .match_kind(matches)
        .accelerate(false)
        .minimize(false)
        .dfa_size_limit(Some(bytes.saturating_mul(2)))
        .determinize_size_limit(Some(bytes.saturating_mul(8)));
    dense::Builder::new().configure(config).build_from_nfa(&nfa).ok()
}

/// An automaton as plain numbers: a row of states for each state, with one for each class of bytes.
#[derive(Debug, Clone)]
pub struct Machine {
    start: u32,
    classes: usize,
    rows: Vec<u32>,
    /// What is known in each state.
    marks: Vec<u8>,
    /// The class of each byte.
    map: [u8; 256],
}

impl Machine {
    /// The state in which a text begins.
    pub fn start(&self) -> u32 {
        self.start
    }

    /// How many states there are.
    pub fn states(&self) -> usize {
        self.marks.len()
    }

    /// How many classes of bytes there are.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The class of each byte.
    pub fn map(&self) -> &[u8; 256] {
        &self.map
    }

    /// Where each class leads to, state by state.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// What is known in each state.
    pub fn marks(&self) -> &[u8] {
        &self.marks
    }

    /// Reads the reachable part, without what follows a match.
    fn finding(dfa: &dense::DFA<Vec<u32>>) -> Option<Self> {
        let mut reader = Reader::new(dfa);
        let number = |reader: &mut Reader<'_>, state| {
            if dfa.is_dead_state(state) {
                return NEVER;
            }
            // A match is reported one byte late; nothing after it counts.
            if dfa.is_match_state(state) { FOUND } else { reader.number(state) }
        };
        let start = dfa.start_state(&start::Config::new()).ok()?;
        let start = number(&mut reader, start);
        let fixed = [NEVER, FOUND].map(|state| vec![state; reader.bytes.len()]);
        let mut rows = fixed.concat();
        let mut marks = vec![0, 1];
        while let Some(state) = reader.queue.pop_front() {
            for byte in reader.bytes.clone() {
                rows.push(number(&mut reader, dfa.next_state(state, byte)));
            }
            marks.push(u8::from(dfa.is_match_state(dfa.next_eoi_state(state))));
        }
        Some(Self { start, classes: reader.bytes.len(), rows, marks, map: reader.map() })
    }

    /// Reads the reachable part, with where a search begins behind each byte.
    fn longest(dfa: &dense::DFA<Vec<u32>>) -> Option<Self> {
        let mut reader = Reader::new(dfa);
        let number = |reader: &mut Reader<'_>, state| {
            if dfa.is_dead_state(state) { u32::from(DEAD) } else { reader.number(state) }
        };
        let begin = |before: Option<u8>| {
            dfa.start_state(&start::Config::new().anchored(Anchored::Yes).look_behind(before)).ok()
        };
        let start = number(&mut reader, begin(None)?);
        let mut rows = vec![u32::from(DEAD); reader.bytes.len()];
        for byte in reader.bytes.clone() {
            rows.push(number(&mut reader, begin(Some(byte))?));
        }
        let mut marks = vec![0, IS_BEHIND];
        while let Some(state) = reader.queue.pop_front() {
            for byte in reader.bytes.clone() {
                rows.push(number(&mut reader, dfa.next_state(state, byte)));
            }
            let matched = if dfa.is_match_state(state) { MATCHED } else { 0 };
            let at_end = if dfa.is_match_state(dfa.next_eoi_state(state)) { MATCHES_AT_END } else { 0 };
            marks.push(matched | at_end);
        }
        Some(Self { start, classes: reader.bytes.len(), rows, marks, map: reader.map() })
    }

    fn next(&self, state: usize, class: usize) -> u32 {
        self.rows[state * self.classes + class]
    }

    /// The machine with the fewest states and classes that answers the same (Hopcroft 1971), numbered in the order in
    /// which they are met.
    fn minimized(&self) -> Self {
        let part = self.parts();
        // One state speaks for its part.
        let mut speaker = vec![0; self.states()];
        for state in (0..self.states()).rev() {
            speaker[part[state]] = state;
        }
        let mut order: Vec<usize> = (0..FIXED as usize).collect();
        let mut numbers: BTreeMap<usize, u32> =
            (0..FIXED).map(|state| (part[state as usize], state)).collect();
        let mut number = |part: usize, order: &mut Vec<usize>| {
            let next = order.len() as u32;
            *numbers.entry(part).or_insert_with(|| {
                order.push(speaker[part]);
                next
            })
        };
        let start = number(part[self.start as usize], &mut order);
        let mut rows = Vec::new();
        let mut at = 0;
        while at < order.len() {
            for class in 0..self.classes {
                rows.push(number(part[self.next(order[at], class) as usize], &mut order));
            }
            at += 1;
        }
        let marks = order.iter().map(|state| self.marks[*state]).collect();
        Self { start, classes: self.classes, rows, marks, map: self.map }.with_fewest_classes()
    }

    /// Which states cannot be told apart by any text: the number of each one's part.
    fn parts(&self) -> Vec<usize> {
        let (states, classes) = (self.states(), self.classes);
        // For each class, the states that lead to each state, one behind the other.
        let mut firsts = vec![0_usize; classes * states + 1];
        for (at, to) in self.rows.iter().enumerate() {
            firsts[(at % classes) * states + *to as usize + 1] += 1;
        }
        for at in 1..firsts.len() {
            firsts[at] += firsts[at - 1];
        }
        let mut free = firsts.clone();
        let mut sources = vec![0_u32; self.rows.len()];
        for (at, to) in self.rows.iter().enumerate() {
            let slot = &mut free[(at % classes) * states + *to as usize];
            sources[*slot] = (at / classes) as u32;
            *slot += 1;
        }

        let mut of_mark: BTreeMap<u8, usize> = BTreeMap::new();
        let mut parts: Vec<Vec<u32>> = Vec::new();
        let mut part = vec![0; states];
        for (state, part) in part.iter_mut().enumerate() {
            *part = *of_mark.entry(self.marks[state]).or_insert_with(|| {
                parts.push(Vec::new());
                parts.len() - 1
            });
            parts[*part].push(state as u32);
        }
        let mut waiting: Vec<usize> = (0..parts.len()).collect();
        let mut is_waiting = vec![true; parts.len()];
        while let Some(splitter) = waiting.pop() {
            is_waiting[splitter] = false;
            let members = parts[splitter].clone();
            for class in 0..classes {
                let mut hit: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
                for member in &members {
                    let at = class * states + *member as usize;
                    for source in &sources[firsts[at]..firsts[at + 1]] {
                        hit.entry(part[*source as usize]).or_default().push(*source);
                    }
                }
                for (old, inside) in hit {
                    if inside.len() == parts[old].len() {
                        continue;
                    }
                    let new = parts.len();
                    for state in &inside {
                        part[*state as usize] = new;
                    }
                    parts[old].retain(|state| part[*state as usize] == old);
                    let smaller = if inside.len() < parts[old].len() { new } else { old };
                    parts.push(inside);
                    is_waiting.push(false);
                    let next = if is_waiting[old] { new } else { smaller };
                    is_waiting[next] = true;
                    waiting.push(next);
                }
            }
        }
        part
    }

    /// Bytes that no state tells apart share a class.
    fn with_fewest_classes(self) -> Self {
        let column =
            |class: usize| (0..self.states()).map(|state| self.next(state, class)).collect::<Vec<u32>>();
        let mut classes: BTreeMap<Vec<u32>, u8> = BTreeMap::new();
        let mut kept = Vec::new();
        let mut renamed = BTreeMap::new();
        for old in &self.map {
            renamed.entry(*old).or_insert_with(|| {
                let next = kept.len() as u8;
                *classes.entry(column(usize::from(*old))).or_insert_with(|| {
                    kept.push(usize::from(*old));
                    next
                })
            });
        }
        let map = self.map.map(|old| renamed[&old]);
        let rows = (0..self.states()).flat_map(|state| kept.iter().map(move |class| (state, *class)));
        let rows = rows.map(|(state, class)| self.next(state, class)).collect();
        Self { start: self.start, classes: kept.len(), rows, marks: self.marks, map }
    }
}

/// What has been met of an automaton.
struct Reader<'d> {
    dfa: &'d dense::DFA<Vec<u32>>,
    /// One byte of each class.
    bytes: Vec<u8>,
    numbers: BTreeMap<StateID, u32>,
    queue: VecDeque<StateID>,
}

impl<'d> Reader<'d> {
    fn new(dfa: &'d dense::DFA<Vec<u32>>) -> Self {
        let bytes = dfa.byte_classes().representatives(..=u8::MAX).filter_map(Unit::as_u8).collect();
        Self { dfa, bytes, numbers: BTreeMap::new(), queue: VecDeque::new() }
    }

    fn number(&mut self, state: StateID) -> u32 {
        let next = FIXED + self.numbers.len() as u32;
        *self.numbers.entry(state).or_insert_with(|| {
            self.queue.push_back(state);
            next
        })
    }

    fn map(&self) -> [u8; 256] {
        let classes = self.dfa.byte_classes();
        std::array::from_fn(|byte| classes.get(byte as u8))
    }
}
