//! Conditions become programs: a list of tests, each of which says where to go next. Jumps lead forward only, so a program
//! ends after as many tests as it has at most, needs no stack, and stops at the first test that settles it.

use std::collections::BTreeMap;

use super::writer::{Writer, count};
use crate::Field;
use crate::bundle::format::{ACCEPT, Instruction, NumberTest, REJECT, Test};
use crate::policy::{AttributeTest, Comparison, Condition, Members, Scalar, TextTest};

/// The program of a condition.
pub(super) fn program(
    writer: &mut Writer,
    segments: &BTreeMap<&str, u32>,
    condition: &Condition,
) -> Vec<Instruction> {
    let mut emitter = Emitter { writer, segments, code: Vec::new(), labels: Vec::new() };
    emitter.condition(condition, ACCEPT, REJECT);
    emitter.finish()
}

/// The program that says whether a context belongs to these members.
pub(super) fn members(
    writer: &mut Writer,
    segments: &BTreeMap<&str, u32>,
    members: &Members,
) -> Vec<Instruction> {
    let mut emitter = Emitter { writer, segments, code: Vec::new(), labels: Vec::new() };
    let mut tests = Vec::new();
    for (field, values) in members.values.iter().filter(|(_, values)| !values.is_empty()) {
        tests.push(Test::FieldIn(*field, emitter.writer.set(values.iter().map(String::as_str))));
    }
    tests.extend(members.segments.iter().map(|segment| emitter.segment(segment)));
    if tests.is_empty() {
        // An empty program would match everyone; nobody is in an empty set.
        tests.push(Test::FieldIn(Field::User, emitter.writer.set(std::iter::empty())));
    }
    emitter.any(&tests, ACCEPT, REJECT);
    emitter.finish()
}

struct Emitter<'w, 's> {
    writer: &'w mut Writer,
    segments: &'s BTreeMap<&'s str, u32>,
    /// Jump targets are labels until [`finish`](Self::finish) replaces them.
    code: Vec<Instruction>,
    /// The instruction at which each label stands.
    labels: Vec<u32>,
}

impl Emitter<'_, '_> {
    /// Emits `condition`, which goes to the label `on_true` or `on_false`.
    fn condition(&mut self, condition: &Condition, on_true: u32, on_false: u32) {
        match condition {
            Condition::All(parts) => self.chain(parts, |emitter, part, next| match next {
                Some(next) => emitter.condition(part, next, on_false),
                None => emitter.condition(part, on_true, on_false),
            }),
            Condition::Any(parts) => self.chain(parts, |emitter, part, next| match next {
                Some(next) => emitter.condition(part, on_true, next),
                None => emitter.condition(part, on_true, on_false),
            }),
            Condition::Not(inner) => self.condition(inner, on_false, on_true),
            Condition::Segment(name) => {
                let test = self.segment(name);
                self.test(test, on_true, on_false);
            }
            Condition::Field(field, TextTest::Present) => {
                self.test(Test::FieldPresent(*field), on_true, on_false);
            }
            Condition::Field(field, TextTest::In(values)) => {
                let set = self.writer.set(values.iter().map(String::as_str));
                self.test(Test::FieldIn(*field, set), on_true, on_false);
            }
            Condition::Attribute(name, test) => {
                let name = self.writer.text(name);
                let tests = self.attribute(name, test);
                self.any(&tests, on_true, on_false);
            }
        }
    }

    /// The tests of which any must hold.
    fn attribute(&mut self, name: u32, test: &AttributeTest) -> Vec<Test> {
        let number = |test, value| Test::AttributeNumber { name, test, value };
        match test {
            AttributeTest::Present => vec![Test::AttributePresent { name }],
            AttributeTest::Compare(comparison, value) => {
                let test = match comparison {
                    Comparison::Less => NumberTest::Less,
                    Comparison::LessOrEqual => NumberTest::LessOrEqual,
                    Comparison::Greater => NumberTest::Greater,
                    Comparison::GreaterOrEqual => NumberTest::GreaterOrEqual,
                };
                vec![number(test, *value)]
            }
            AttributeTest::In(values) => {
                let mut texts: Vec<&str> = Vec::new();
                let mut tests = Vec::new();
                for value in values {
                    match value {
                        Scalar::Text(text) => texts.push(text),
                        Scalar::Number(value) => tests.push(number(NumberTest::Equal, *value)),
                        Scalar::Boolean(value) => tests.push(Test::AttributeBoolean { name, value: *value }),
                    }
                }
                if !texts.is_empty() {
                    texts.sort_unstable();
                    texts.dedup();
                    let set = self.writer.set(texts.into_iter());
                    tests.insert(0, Test::AttributeIn { name, set });
                }
                tests
            }
        }
    }

    fn segment(&self, name: &str) -> Test {
        // A checked policy names no segment that it does not have.
        Test::Segment(self.segments.get(name).copied().unwrap_or_default())
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

    fn finish(mut self) -> Vec<Instruction> {
        let labels = self.labels;
        let target = |label: u32| match label {
            ACCEPT | REJECT => label,
            label => labels.get(label as usize).copied().unwrap_or(REJECT),
        };
        for instruction in &mut self.code {
            instruction.on_true = target(instruction.on_true);
            instruction.on_false = target(instruction.on_false);
        }
        self.code
    }
}
