//! Conditions become programs: a list of tests, each of which says where to go next. Jumps lead forward only, so a program
//! ends after as many tests as it has at most, needs no stack, and stops at the first test that settles it.

use super::Places;
use super::writer::{Writer, count};
use crate::Field;
use crate::bundle::format::{
    ACCEPT, Instruction, MomentRelation, NumberRelation, REJECT, Slice as SliceRecord, Span, Subject, Test,
    TextTest as TextRecord,
};
use crate::policy::{
    AttributeTest, Comparison, Condition, Members, Scalar, Segment, Slice, TextTest, TimeTest,
};

/// Writes the program of a condition; without one, the empty program, which holds for everyone.
pub(super) fn condition(writer: &mut Writer, places: &Places<'_>, condition: Option<&Condition>) -> Span {
    let Some(condition) = condition else { return Span::default() };
    let mut emitter = Emitter::new(writer, places);
    emitter.condition(condition, ACCEPT, REJECT);
    emitter.finish()
}

/// Writes the program that says whether a context belongs to any of these.
pub(super) fn members<'p>(
    writer: &mut Writer,
    places: &Places<'_>,
    members: impl IntoIterator<Item = &'p Members>,
) -> Span {
    let mut emitter = Emitter::new(writer, places);
    let mut tests: Vec<Test> = members.into_iter().flat_map(|members| emitter.members(members)).collect();
    if tests.is_empty() {
        tests.push(emitter.never());
    }
    emitter.any(&tests, ACCEPT, REJECT);
    emitter.finish()
}

/// Writes the program of a segment.
pub(super) fn segment(writer: &mut Writer, places: &Places<'_>, segment: &Segment) -> Span {
    enum Part<'p> {
        Excludes(Test),
        Includes(Test),
        Condition(&'p Condition),
    }
    let mut emitter = Emitter::new(writer, places);
    let mut parts: Vec<Part<'_>> =
        emitter.members(&segment.exclude).into_iter().map(Part::Excludes).collect();
    let included = emitter.members(&segment.include).into_iter().map(Part::Includes);
    let excludes = parts.len();
    parts.extend(included.chain(segment.condition.as_ref().map(Part::Condition)));
    if parts.len() == excludes {
        parts.push(Part::Includes(emitter.never()));
    }
    emitter.chain(&parts, |emitter, part, next| {
        let next = next.unwrap_or(REJECT);
        match part {
            Part::Excludes(test) => emitter.test(*test, REJECT, next),
            Part::Includes(test) => emitter.test(*test, ACCEPT, next),
            Part::Condition(condition) => emitter.condition(condition, ACCEPT, next),
        }
    });
    emitter.finish()
}

struct Emitter<'w, 'p> {
    writer: &'w mut Writer,
    places: &'w Places<'p>,
    /// Jump targets are labels until [`finish`](Self::finish) replaces them.
    code: Vec<Instruction>,
    /// The instruction at which each label stands.
    labels: Vec<u32>,
}

impl<'w, 'p> Emitter<'w, 'p> {
    fn new(writer: &'w mut Writer, places: &'w Places<'p>) -> Self {
        Self { writer, places, code: Vec::new(), labels: Vec::new() }
    }

    /// Emits `condition`, which goes to the label `on_true` or `on_false`.
    fn condition(&mut self, condition: &Condition, on_true: u32, on_false: u32) {
        let test = match condition {
            Condition::All(parts) => {
                return self.chain(parts, |emitter, part, next| {
                    emitter.condition(part, next.unwrap_or(on_true), on_false);
                });
            }
            Condition::Any(parts) => {
                return self.chain(parts, |emitter, part, next| {
                    emitter.condition(part, on_true, next.unwrap_or(on_false));
                });
            }
            Condition::Not(inner) => return self.condition(inner, on_false, on_true),
            Condition::Attribute(name, test) => {
                let attribute = self.writer.attribute(name);
                let tests = self.attribute(attribute, test);
                return self.any(&tests, on_true, on_false);
            }
            Condition::Segment(name) => Test::Segment(self.places.segment(name)),
            Condition::Tier(name) => self.places.tier(name).map_or(Test::Always, Test::Segment),
            Condition::Field(field, test) => Test::Text(Subject::Field(*field), self.text(test)),
            Condition::Time(test) => time(*test),
            Condition::Bucket(slice) => Test::Bucket(self.slice(slice)),
            Condition::Route { route, serves } => {
                let variants = self.writer.set(serves.iter().map(String::as_str));
                Test::Route { name: self.places.name(route), variants }
            }
        };
        self.test(test, on_true, on_false);
    }

    /// The tests of which any must hold.
    fn attribute(&mut self, attribute: u32, test: &AttributeTest) -> Vec<Test> {
        let number = |relation, value| Test::Number { attribute, relation, value };
        let text = |test| Test::Text(Subject::Attribute(attribute), test);
        let moment = |relation, moment| Test::Moment { attribute, relation, moment };
        vec![match test {
            AttributeTest::Present => text(TextRecord::Present),
            AttributeTest::Compare(comparison, value) => number(relation(*comparison), *value),
            AttributeTest::Text(test) => text(self.text(test)),
            AttributeTest::From(from) => moment(MomentRelation::From, *from),
            AttributeTest::Until(until) => moment(MomentRelation::Until, *until),
            AttributeTest::In(values) => {
                let texts = values.iter().filter_map(|value| match value {
                    Scalar::Text(text) => Some(text.as_str()),
                    _ => None,
                });
                let texts: Vec<&str> = texts.collect();
                let others = values.iter().filter_map(|value| match value {
                    Scalar::Text(_) => None,
                    Scalar::Number(value) => Some(number(NumberRelation::Equal, *value)),
                    Scalar::Boolean(value) => Some(Test::Boolean { attribute, value: *value }),
                });
                let mut tests: Vec<Test> = others.collect();
                if !texts.is_empty() || tests.is_empty() {
                    tests.insert(0, text(TextRecord::In(self.writer.set(texts))));
                }
                return tests;
            }
        }]
    }

    fn text(&mut self, test: &TextTest) -> TextRecord {
        match test {
            TextTest::Present => TextRecord::Present,
            TextTest::In(values) => TextRecord::In(self.writer.set(values.iter().map(String::as_str))),
            TextTest::Prefix(values) => {
                TextRecord::Prefix(self.writer.set(values.iter().map(String::as_str)))
            }
            TextTest::Suffix(values) => {
                TextRecord::Suffix(self.writer.set(values.iter().map(String::as_str)))
            }
            TextTest::Contains(values) => {
                TextRecord::Contains(self.writer.set(values.iter().map(String::as_str)))
            }
            TextTest::Matches(pattern) => TextRecord::Matches(self.writer.automaton(pattern)),
            TextTest::Semver(comparators) => TextRecord::Version(self.writer.comparators(comparators)),
        }
    }

    fn slice(&mut self, slice: &Slice) -> u32 {
        let record = SliceRecord {
            layer: self.writer.layer(&slice.layer),
            unit: self.writer.unit(&slice.unit),
            scale: slice.scale,
            from: slice.from,
            below: slice.below,
        };
        self.writer.shared(record)
    }

    /// The tests of which any must hold for a context that belongs to these members.
    fn members(&mut self, members: &Members) -> Vec<Test> {
        let text = |field: &Field, test| Test::Text(Subject::Field(*field), test);
        let mut tests = Vec::new();
        for (field, values) in members.values.iter().filter(|(_, values)| !values.is_empty()) {
            let set = self.writer.set(values.iter().map(String::as_str));
            tests.push(text(field, TextRecord::In(set)));
        }
        for (field, file) in &members.files {
            tests.push(text(field, TextRecord::Listed(self.places.list(file))));
        }
        tests.extend(members.segments.iter().map(|name| Test::Segment(self.places.segment(name))));
        tests
    }

    /// Nobody is in an empty set.
    fn never(&mut self) -> Test {
        Test::Text(Subject::Field(Field::User), TextRecord::In(self.writer.set([])))
    }

    fn any(&mut self, tests: &[Test], on_true: u32, on_false: u32) {
        self.chain(tests, |emitter, test, next| emitter.test(*test, on_true, next.unwrap_or(on_false)));
    }

    /// Emits each part with the label of the one behind it, which the last one lacks.
    fn chain<T>(&mut self, parts: &[T], mut emit: impl FnMut(&mut Self, &T, Option<u32>)) {
        let Some((last, others)) = parts.split_last() else { return };
        for part in others {
            let next = count(self.labels.len());
            self.labels.push(0);
            emit(self, part, Some(next));
            let here = count(self.code.len());
            if let Some(label) = self.labels.get_mut(next as usize) {
                *label = here;
            }
        }
        emit(self, last, None);
    }

    fn test(&mut self, test: Test, on_true: u32, on_false: u32) {
        self.code.push(Instruction { on_true, on_false, ..test.instruction() });
    }

    /// Writes the program.
    fn finish(mut self) -> Span {
        let labels = self.labels;
        let target = |label: u32| match label {
            ACCEPT | REJECT => label,
            label => labels.get(label as usize).copied().unwrap_or(REJECT),
        };
        for instruction in &mut self.code {
            instruction.on_true = target(instruction.on_true);
            instruction.on_false = target(instruction.on_false);
        }
        self.writer.push_all(&self.code)
    }
}

fn relation(comparison: Comparison) -> NumberRelation {
    match comparison {
        Comparison::Less => NumberRelation::Less,
        Comparison::LessOrEqual => NumberRelation::LessOrEqual,
        Comparison::Greater => NumberRelation::Greater,
        Comparison::GreaterOrEqual => NumberRelation::GreaterOrEqual,
    }
}

fn time(test: TimeTest) -> Test {
    match test {
        TimeTest::From(moment) => Test::Time { relation: MomentRelation::From, moment },
        TimeTest::Until(moment) => Test::Time { relation: MomentRelation::Until, moment },
        TimeTest::Daily { from, until, offset } => Test::Daily { from, until, offset },
        TimeTest::Weekdays { days, offset } => Test::Weekdays { days: days.into(), offset },
    }
}
