//! Whether a condition holds: a program of tests, each of which says where to go next.

use super::{Choice, Evaluation, Observer, texts};
use crate::bundle::format::{
    ACCEPT, Attribute, Instruction, REJECT, Route, Segment, Slice, Span, Subject, Test, TextTest,
};
use crate::clock;
use crate::context::{AttributeValue, Context, Field};
use crate::hash::set_hash;
use crate::moment;

impl<'b, C: Context + ?Sized, O: Observer> Evaluation<'b, '_, C, O> {
    /// Whether the condition holds; an empty one does.
    #[inline]
    pub(super) fn holds(&mut self, program: Span) -> bool {
        program.is_empty() || self.run(program, None)
    }

    /// The same for the condition of a target. Nearly all of them ask one thing, whether one field is in one set.
    #[inline(always)]
    pub(super) fn target_holds(&mut self, program: Span) -> bool {
        if program.count != 1 {
            return self.holds(program);
        }
        let instruction: Instruction = self.reader.get(program.start);
        let result = self.test(&instruction, None);
        (if result { instruction.on_true } else { instruction.on_false }) == ACCEPT
    }

    /// Runs a program, which is that of `segment` if there is one. Jumps lead forward only, so every instruction runs once
    /// at most.
    #[inline(never)]
    fn run(&mut self, program: Span, segment: Option<u32>) -> bool {
        let mut at = 0;
        while at < program.count {
            let instruction: Instruction = self.reader.get(program.start.wrapping_add(at));
            let result = self.test(&instruction, segment);
            at = match if result { instruction.on_true } else { instruction.on_false } {
                ACCEPT => return true,
                REJECT => return false,
                next if next > at => next,
                _ => return false,
            };
        }
        false
    }

    #[inline(always)]
    fn test(&mut self, instruction: &Instruction, segment: Option<u32>) -> bool {
        match instruction.field_in() {
            Some((field, set)) => {
                let result = self.field_in(field, set);
                let test = Test::Text(Subject::Field(field), TextTest::In(set));
                self.observer.test(test, segment, result);
                result
            }
            None => self.other_test(instruction, segment),
        }
    }

    /// Whether a field's value is in a set.
    #[inline]
    fn field_in(&mut self, field: Field, set: u32) -> bool {
        field.of(self.context).is_some_and(|text| self.find_in(set, field, text).is_some())
    }

    #[inline(never)]
    fn other_test(&mut self, instruction: &Instruction, segment: Option<u32>) -> bool {
        let Some(test) = Test::of(instruction) else { return false };
        let result = self.result(test);
        self.observer.test(test, segment, result);
        result
    }

    fn result(&mut self, test: Test) -> bool {
        match test {
            Test::Text(Subject::Field(field), TextTest::In(set)) => self.field_in(field, set),
            Test::Text(Subject::Field(field), test) => {
                let Some(text) = field.of(self.context) else { return false };
                match test {
                    TextTest::Present => true,
                    TextTest::Listed(list) => {
                        let hash = self.hash_of(field, text);
                        self.reader.bundle().lists(list, text, hash)
                    }
                    test => texts::holds(self.reader, test, text),
                }
            }
            Test::Text(Subject::Attribute(attribute), test) => match (self.attribute(attribute), test) {
                (None, _) => false,
                (Some(_), TextTest::Present) => true,
                (Some(AttributeValue::Text(text)), TextTest::In(set)) => {
                    self.reader.find(set, text, || set_hash(text)).is_some()
                }
                (Some(AttributeValue::Text(text)), TextTest::Listed(list)) => {
                    self.reader.bundle().lists(list, text, set_hash(text))
                }
                (Some(AttributeValue::Text(text)), test) => texts::holds(self.reader, test, text),
                _ => false,
            },
            Test::Number { attribute, relation, value } => match self.attribute(attribute) {
                Some(AttributeValue::Number(have)) => relation.holds(have, value),
                _ => false,
            },
            Test::Boolean { attribute, value } => {
                self.attribute(attribute) == Some(AttributeValue::Boolean(value))
            }
            Test::Moment { attribute, relation, moment } => match self.attribute(attribute) {
                // Moments that can be written are whole numbers below 2^53, so nothing is rounded.
                Some(AttributeValue::Number(have)) => relation.holds(have, moment as f64),
                Some(AttributeValue::Text(text)) => {
                    moment::parse(text).is_some_and(|have| relation.holds(have, moment))
                }
                _ => false,
            },
            Test::Time { relation, moment } => relation.holds(self.now, moment),
            Test::Daily { from, until, offset } => {
                let (_, time) = clock::wall_clock(self.now, offset);
                clock::within_day(time, from, until)
            }
            Test::Weekdays { days, offset } => {
                let (weekday, _) = clock::wall_clock(self.now, offset);
                days >> weekday & 1 != 0
            }
            Test::Always => true,
            Test::Segment(segment) => {
                let Segment { program, .. } = self.reader.get(segment);
                self.run(program, Some(segment))
            }
            Test::Bucket(slice) => {
                let Slice { layer, unit, scale, from, below } = self.reader.get(slice);
                self.bucket(layer, unit, scale).is_some_and(|bucket| from <= bucket && bucket < below)
            }
            Test::Route { name, variants } => self.route_serves(name, variants),
        }
    }

    #[inline]
    fn attribute(&self, attribute: u32) -> Option<AttributeValue<'_>> {
        let name = self.reader.get::<Attribute>(attribute).name;
        self.context.attribute(self.reader.text(name))
    }

    /// Whether another route serves a variant whose name is in a set.
    fn route_serves(&self, name: u32, variants: u32) -> bool {
        let mut observer = ();
        let Some(mut inner) = self.inner(&mut observer) else { return false };
        let Some(index) = inner.definition(name) else { return false };
        let mut choice = Choice::EMPTY;
        inner.choose(index, &mut choice);
        let route: Route = self.reader.get(index);
        let served = self.reader.text(self.variant(&route, choice.variant).name);
        self.reader.find(variants, served, || set_hash(served)).is_some()
    }
}
