//! What a policy asks of attributes, so that values without a type, such as the cells of a table, can be given one.

use std::collections::BTreeMap;

use crate::bundle::format::{self, FIELDS, Instruction, Subject, Test, TextTest, UnitPart};
use crate::source::{integer, number};
use crate::{Attribute, Bundle};

/// How a policy uses an attribute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AttributeUse {
    /// As a unit, or a part of one.
    pub unit: bool,
    /// In tests that only texts fulfil.
    pub text: bool,
    /// In tests that only numbers fulfil.
    pub number: bool,
    /// In tests that only booleans fulfil.
    pub boolean: bool,
    /// In tests that numbers and texts fulfil: moments.
    pub moment: bool,
}

/// How a bundle uses each attribute that it asks for.
pub fn attribute_uses(bundle: &Bundle) -> BTreeMap<String, AttributeUse> {
    let reader = bundle.reader();
    let mut uses: Vec<(String, AttributeUse)> = reader
        .all::<format::Attribute>()
        .map(|attribute| (reader.text(attribute.name).to_owned(), AttributeUse::default()))
        .collect();
    let mut used = |place: u32, how: fn(&mut AttributeUse)| {
        if let Some((_, used)) = uses.get_mut(place as usize) {
            how(used);
        }
    };
    for UnitPart { part } in reader.all() {
        if let Some(place) = part.checked_sub(FIELDS) {
            used(place, |of| of.unit = true);
        }
    }
    for instruction in reader.all::<Instruction>() {
        match Test::of(&instruction) {
            Some(Test::Text(Subject::Attribute(_), TextTest::Present)) => {}
            Some(Test::Text(Subject::Attribute(place), _)) => used(place, |of| of.text = true),
            Some(Test::Number { attribute, .. }) => used(attribute, |of| of.number = true),
            Some(Test::Boolean { attribute, .. }) => used(attribute, |of| of.boolean = true),
            Some(Test::Moment { attribute, .. }) => used(attribute, |of| of.moment = true),
            _ => {}
        }
    }
    uses.into_iter().collect()
}

impl AttributeUse {
    /// The use in two policies together.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            unit: self.unit || other.unit,
            text: self.text || other.text,
            number: self.number || other.number,
            boolean: self.boolean || other.boolean,
            moment: self.moment || other.moment,
        }
    }

    /// Whether no one type fulfils all that is asked.
    pub fn is_mixed(self) -> bool {
        (self.unit || self.text) && (self.number || self.boolean)
    }

    /// The attribute that a cell of a table stands for: a text where one is needed, else a number or a boolean where the policy asks for
    /// such and the cell is written as one.
    ///
    /// # Errors
    /// A number that cannot be kept exactly.
    pub fn read(self, cell: &str) -> Result<Attribute, InexactNumber> {
        let text = || Attribute::Text(cell.to_owned());
        if self.unit || self.text {
            return Ok(text());
        }
        match cell {
            "true" if self.boolean => return Ok(Attribute::Boolean(true)),
            "false" if self.boolean => return Ok(Attribute::Boolean(false)),
            _ => {}
        }
        match decimal(cell).filter(|_| self.number || self.moment) {
            Some(number) => number.map(Attribute::Number),
            None => Ok(text()),
        }
    }
}

/// A number that a double cannot hold, so that another one would be compared in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InexactNumber {
    /// As it is written.
    pub number: String,
    /// What would be kept instead.
    pub nearest: String,
}

impl std::fmt::Display for InexactNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { number, nearest } = self;
        write!(
            f,
            "the number `{number}` cannot be kept exactly: numbers are doubles, and the nearest is {nearest}"
        )
    }
}

impl std::error::Error for InexactNumber {}

/// Reads a decimal number; `None` for a text that is none, or is not finite.
pub fn decimal(text: &str) -> Option<Result<f64, InexactNumber>> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return None;
    }
    let value = text.parse::<f64>().ok().filter(|value| value.is_finite())?;
    Some(inexact(text).map_or(Ok(value), Err))
}

/// Says so when a number is a whole one, written as such, that a double cannot hold. Fractions are doubles from the start.
pub(crate) fn inexact(text: &str) -> Option<InexactNumber> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let whole = match integer(text) {
        Some(value) => Some(i128::from(value)),
        None if digits.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        None => return None,
    };
    let nearest = number(text)?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a whole double below 2^127 is one of these, and others differ"
    )]
    let kept = whole.is_some_and(|whole| nearest as i128 == whole);
    (!kept).then(|| InexactNumber { number: text.to_owned(), nearest: format!("{nearest:.0}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_exact_or_refused() {
        for exact in [
            "0",
            "-0",
            "5",
            "+5",
            "9007199254740992",
            "-9007199254740992",
            "9007199254740994",
            "1e30",
            "0.1",
            "0x1F",
        ] {
            assert_eq!(inexact(exact), None, "{exact}");
        }
        for wrong in [
            "9007199254740993",
            "-9007199254740993",
            "0x20000000000001",
            "123456789012345678901234567890",
            &"1".repeat(60),
        ] {
            assert!(inexact(wrong).is_some(), "{wrong}");
        }
        assert_eq!(inexact("9007199254740993").unwrap().nearest, "9007199254740992");
        assert_eq!(decimal("1.5"), Some(Ok(1.5)));
        for text in ["", "nan", "inf", "-inf", "1e999", "x", "1 "] {
            assert_eq!(decimal(text), None, "{text}");
        }
    }

    #[test]
    fn a_cell_is_what_the_policy_asks_for() {
        let check = |how: fn(&mut AttributeUse), cell: &str, expected: Attribute| {
            let mut used = AttributeUse::default();
            how(&mut used);
            assert_eq!(used.read(cell), Ok(expected), "{used:?} {cell}");
        };
        let text = |text: &str| Attribute::Text(text.to_owned());
        check(|_| {}, "5", text("5"));
        check(|of| of.unit = true, "0123", text("0123"));
        check(|of| (of.text, of.number) = (true, true), "5", text("5"));
        check(|of| of.number = true, "0123", Attribute::Number(123.0));
        check(|of| of.number = true, "n/a", text("n/a"));
        check(|of| of.number = true, "true", text("true"));
        check(|of| of.boolean = true, "true", Attribute::Boolean(true));
        check(|of| of.boolean = true, "1", text("1"));
        check(|of| of.moment = true, "1700000000000", Attribute::Number(1.7e12));
        check(|of| of.moment = true, "2026-01-01T00:00:00Z", text("2026-01-01T00:00:00Z"));
        let number = AttributeUse { number: true, ..AttributeUse::default() };
        assert!(number.read("9007199254740993").is_err());
    }
}
