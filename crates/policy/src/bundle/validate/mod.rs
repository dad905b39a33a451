//! The one check that a bundle goes through, so that deciding has nothing left to fail on: every place exists, every list
//! lies in its section, intervals cover their layers, programs lead forward, segments and routes ask only those before them,
//! and the work of one decision is bounded.
//!
//! The check is linear in the bundle's size whatever the bytes say: lists may overlap, but what they add up to is bounded. It
//! goes on behind the first problem, which it keeps: reading a place that does not exist gives zeros, and a list that does
//! not exist is empty.

mod programs;
mod routes;
mod tables;

use std::cell::{Cell, RefCell};

use super::format::{
    FIELDS, Interval, Label, Layer, Map, NONE, Record, Section, Set, SetMember, Span, Text, Unit,
};
use super::{Bundle, LoadError, Reader};
use crate::BUCKETS;
use crate::hash::Algorithm;

pub(super) fn validate(bundle: &Bundle) -> Result<(), LoadError> {
    let reader = bundle.reader();
    let size = bundle.as_bytes().len() as u64;
    let mut validator = Validator {
        reader,
        // A bundle that a compiler writes has hardly any list twice.
        budget: Cell::new(size.saturating_mul(4).saturating_add(4096)),
        problem: RefCell::default(),
        set_costs: Vec::new(),
        segments: Vec::new(),
        names: Vec::new(),
    };
    validator.sets();
    validator.tables();
    validator.segments();
    validator.names();
    validator.problem.into_inner().map_or(Ok(()), Err)
}

/// What is known so far.
struct Validator<'b> {
    reader: Reader<'b>,
    /// How many words all lists together may still have.
    budget: Cell<u64>,
    /// The first problem.
    problem: RefCell<Option<LoadError>>,
    /// How many comparisons finding a text in each set takes at most.
    set_costs: Vec<u64>,
    /// The segments that have been checked.
    segments: Vec<programs::SegmentFacts>,
    /// How many tests a decision on each name takes at most; `None` for those that have not been checked.
    names: Vec<Option<u64>>,
}

impl<'b> Validator<'b> {
    /// Keeps a problem, unless there was one before.
    #[cold]
    fn fail(&self, problem: LoadError) {
        self.problem.borrow_mut().get_or_insert(problem);
    }

    /// Whether there was no problem yet.
    fn is_sound(&self) -> bool {
        self.problem.borrow().is_none()
    }

    /// Keeps a problem when something does not hold.
    #[inline(never)]
    fn ensure(&self, holds: bool, section: Section, problem: &'static str) {
        if !holds {
            self.fail(LoadError::Malformed { section: section.name(), problem });
        }
    }

    /// The records of a list that `owner` has; none when it does not exist.
    fn list<R: Record>(&self, span: Span, owner: Section) -> impl Iterator<Item = R> + Clone + use<'b, R> {
        let exists = self.range(span, self.reader.count::<R>(), R::WORDS, owner);
        self.reader.list::<R>(if exists { span } else { Span::default() })
    }

    /// Checks that a list lies within the `len` rows of its section.
    #[inline(never)]
    fn range(&self, span: Span, len: u32, words: usize, owner: Section) -> bool {
        let inside = span.start.checked_add(span.count).is_some_and(|end| end <= len);
        self.ensure(inside, owner, "a list lies outside its section");
        let left = self.budget.get().checked_sub(u64::from(span.count).saturating_mul(words as u64));
        self.ensure(!inside || left.is_some(), owner, "its lists overlap too much");
        if inside {
            self.budget.set(left.unwrap_or_default());
        }
        inside && left.is_some()
    }

    #[inline(never)]
    fn text(&self, text: Text, owner: Section) {
        let (start, len) = (text.start as usize, text.len as usize);
        let texts = &self.reader.bundle().texts;
        let exists = start.checked_add(len).is_some_and(|end| texts.get(start..end).is_some());
        self.ensure(exists, owner, "a text does not exist or ends within a character");
    }

    fn optional_text(&self, text: Text, owner: Section) {
        if text != Text::NONE {
            self.text(text, owner);
        }
    }

    /// Checks that a record exists.
    fn place<R: Record>(&self, place: u32, owner: Section, problem: &'static str) {
        self.ensure(place < self.reader.count::<R>(), owner, problem);
    }

    /// Checks that a record exists if there is one.
    fn optional_place<R: Record>(&self, place: u32, owner: Section, problem: &'static str) {
        self.ensure(place == NONE || place < self.reader.count::<R>(), owner, problem);
    }

    fn set(&self, set: u32, owner: Section) {
        self.place::<Set>(set, owner, "a set does not exist");
    }

    fn label(&self, label: u32, owner: Section) {
        self.place::<Label>(label, owner, "a label does not exist");
    }

    /// The keys and values of a map.
    fn map<V: Record>(&self, map: Map, owner: Section) -> impl Iterator<Item = (&'b str, V)> + use<'b, V> {
        self.optional_place::<Set>(map.set, owner, "a set does not exist");
        let members = if map.set == NONE { Span::default() } else { self.reader.get::<Set>(map.set).members };
        let values = self.list::<V>(Span { start: map.values, count: members.count }, owner);
        let reader = self.reader;
        let keys = reader.list::<SetMember>(members).map(move |member| reader.text(member.text));
        keys.zip(values)
    }

    /// How many comparisons finding a text in a set takes at most.
    fn set_cost(&self, set: u32) -> u64 {
        self.set_costs.get(set as usize).copied().unwrap_or_default()
    }

    fn unit(&self, unit: u32, owner: Section) {
        let exists = unit.checked_sub(FIELDS).is_none_or(|place| place < self.reader.count::<Unit>());
        self.ensure(exists, owner, "a unit does not exist");
    }

    /// Checks a layer and the number of buckets that its units are spread over.
    fn layer(&self, layer: u32, scale: u32, owner: Section) {
        self.place::<Layer>(layer, owner, "a layer does not exist");
        let own = self.reader.get::<Layer>(layer).algorithm() == Some(Algorithm::Lockgate);
        let fits = if own { scale == BUCKETS } else { scale > 0 };
        self.ensure(fits, owner, "a layer has another number of buckets");
    }

    /// Checks that intervals cover `scale` buckets and belong to the first `variants` variants, or to nobody if they may.
    fn intervals(&self, span: Span, scale: u32, variants: u32, nobody: bool) {
        let section = Section::Interval;
        let mut end = 0;
        for interval in self.list::<Interval>(span, section) {
            self.ensure(interval.end > end, section, "the intervals are not in order");
            let owned = interval.variant < variants || (nobody && interval.variant == NONE);
            self.ensure(owned, section, "a variant does not exist");
            end = interval.end;
        }
        self.ensure(end == scale, section, "the intervals do not cover all buckets");
    }
}
