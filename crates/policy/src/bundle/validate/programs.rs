//! Programs, and how many tests they take at most: each instruction runs once at most, but segments and routes that are
//! asked several times would multiply.

use super::Validator;
use crate::bundle::format::{
    ACCEPT, Attribute, Automaton, Comparator, Instruction, List, MAX_SEGMENT_DEPTH, Name, REJECT, Record,
    SEGMENT, SEGMENT_TIER, Section, Segment, Set, Slice, Span, Subject, Test, TextTest,
};

/// What is known of a segment.
#[derive(Clone, Copy, Default)]
pub(super) struct SegmentFacts {
    /// How many tests it takes at most.
    cost: u64,
    /// How deep segments contain each other, 1 for one without segments.
    depth: u32,
}

/// What a program may ask.
#[derive(Clone, Copy)]
pub(super) enum Asker {
    /// A segment asks no routes.
    Segment,
    /// A definition of a route with this depth asks routes of less.
    Route(u32),
}

/// What is known of a program.
#[derive(Clone, Copy, Default)]
pub(super) struct ProgramFacts {
    /// How many tests it takes at most.
    pub(super) cost: u64,
    /// How deep the segments that it asks contain each other.
    segments: u32,
}

impl Validator<'_> {
    pub(super) fn segments(&mut self) {
        let section = Section::Segment;
        for segment in self.reader.all::<Segment>() {
            self.ensure(matches!(segment.kind, SEGMENT | SEGMENT_TIER), section, "a kind does not exist");
            self.text(segment.name, section);
            self.ensure(!segment.program.is_empty(), section, "a segment has no program");
            let facts = self.program(segment.program, Asker::Segment, section);
            let (cost, depth) = (facts.cost, facts.segments.saturating_add(1));
            self.ensure(depth <= MAX_SEGMENT_DEPTH, section, "segments contain segments too deep");
            self.segments.push(SegmentFacts { cost, depth });
        }
    }

    /// Checks a program of `owner`, which may ask the segments that have been checked.
    pub(super) fn program(&self, program: Span, asker: Asker, owner: Section) -> ProgramFacts {
        let section = Section::Instruction;
        let mut facts = ProgramFacts::default();
        for (instruction, at) in self.list::<Instruction>(program, owner).zip(0..) {
            for target in [instruction.on_true, instruction.on_false] {
                let forward = target > at && target < program.count;
                self.ensure(forward || target == ACCEPT || target == REJECT, section, "a jump leads nowhere");
            }
            let test = Test::of(&instruction);
            self.ensure(test.is_some(), section, "an operation does not exist");
            let test = test.unwrap_or(Test::Always);
            let cost = match test {
                Test::Text(subject, test) => {
                    if let Subject::Attribute(attribute) = subject {
                        self.attribute(attribute);
                    }
                    self.text_test(test)
                }
                Test::Number { attribute, .. }
                | Test::Boolean { attribute, .. }
                | Test::Moment { attribute, .. } => {
                    self.attribute(attribute);
                    1
                }
                Test::Always | Test::Time { .. } | Test::Daily { .. } | Test::Weekdays { .. } => 1,
                Test::Segment(segment) => {
                    let segment = self.segments.get(segment as usize);
                    self.ensure(segment.is_some(), section, "a segment does not exist or comes later");
                    let SegmentFacts { cost, depth } = segment.copied().unwrap_or_default();
                    facts.segments = facts.segments.max(depth);
                    cost.saturating_add(1)
                }
                Test::Bucket(slice) => {
                    self.place::<Slice>(slice, section, "a slice does not exist");
                    1
                }
                Test::Route { name, variants } => {
                    self.set(variants, section);
                    let cost = self.prerequisite(name, asker);
                    cost.saturating_add(self.set_cost(variants)).saturating_add(1)
                }
            };
            facts.cost = facts.cost.saturating_add(cost.max(1));
        }
        facts
    }

    fn attribute(&self, attribute: u32) {
        self.place::<Attribute>(attribute, Section::Instruction, "an attribute does not exist");
    }

    /// Checks a test of a text and says how much it takes.
    fn text_test(&self, test: TextTest) -> u64 {
        let section = Section::Instruction;
        match test {
            TextTest::Present => 1,
            TextTest::In(set) => {
                self.set(set, section);
                self.set_cost(set)
            }
            TextTest::Prefix(set) | TextTest::Suffix(set) | TextTest::Contains(set) => {
                self.set(set, section);
                self.reader.get::<Set>(set).members.count.into()
            }
            TextTest::Matches(automaton) => {
                self.place::<Automaton>(automaton, section, "an automaton does not exist");
                1
            }
            TextTest::Version(comparators) => {
                self.ensure(!comparators.is_empty(), section, "a version is compared with nothing");
                self.range(comparators, self.reader.count::<Comparator>(), Comparator::WORDS, section);
                comparators.count.into()
            }
            TextTest::Listed(list) => {
                self.place::<List>(list, section, "a list does not exist");
                1
            }
        }
    }

    /// How many tests asking a route takes at most. Names are checked in the order of their depth, so those that may be asked
    /// have been.
    fn prerequisite(&self, name: u32, asker: Asker) -> u64 {
        let section = Section::Instruction;
        let Asker::Route(depth) = asker else {
            self.ensure(false, section, "a segment asks a route");
            return 0;
        };
        let below = self.reader.get::<Name>(name).depth < depth;
        let cost = self.names.get(name as usize).copied().flatten().filter(|_| below);
        self.ensure(cost.is_some(), section, "a route asks one that does not exist or is not below it");
        cost.unwrap_or_default()
    }
}
