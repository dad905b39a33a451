//! Whether tests of one subject contradict each other.

use std::collections::{BTreeMap, BTreeSet};

use super::logic::{Bucket, Leaf, Literal};
use super::texts::{Automata, implies, nothing_matches, version_passes};
use crate::Field;
use crate::moment::{self, DAY};
use crate::policy::{
    AttributeTest, Comparison, Millis, Scalar, TextTest, TimeTest, UnitPart, VersionComparison,
};

/// Whether these can not all be so. `left` is what may still be spent.
pub(super) fn contradictory(
    literals: &[Literal<'_>],
    serves: &BTreeMap<&str, BTreeSet<&str>>,
    automata: &Automata,
    left: &mut usize,
) -> bool {
    let fields = Field::ALL.into_iter().any(|field| {
        let tests: Vec<Test<'_>> = literals.iter().filter_map(|literal| of_field(literal, field)).collect();
        value(&tests, automata, left)
    });
    let mut attributes: BTreeMap<&str, Vec<Test<'_>>> = BTreeMap::new();
    for Literal { leaf, holds } in literals {
        if let Leaf::Attribute(name, test) = leaf {
            attributes.entry(name).or_default().push(Test { what: of_attribute(test), holds: *holds });
        }
    }
    fields
        || attributes.values().any(|tests| value(tests, automata, left))
        || time(literals)
        || buckets(literals)
        || routes(literals, serves)
}

/// A test of one value, of a field or an attribute.
struct Test<'p> {
    what: What<'p>,
    holds: bool,
}

enum What<'p> {
    /// The text is one of these.
    Texts(&'p BTreeSet<String>),
    /// The value is one of these.
    Scalars(&'p [Scalar]),
    Present,
    Text(&'p TextTest),
    Compare(Comparison, f64),
    From(Millis),
    Until(Millis),
    /// Nobody knows from the policy alone; whoever passes is there.
    Unknown,
}

fn of_field<'p>(literal: &Literal<'p>, wanted: Field) -> Option<Test<'p>> {
    let (field, what) = match literal.leaf {
        Leaf::Values(field, values) => (field, What::Texts(values.0)),
        Leaf::File(field, _) => (field, What::Unknown),
        Leaf::Field(field, test) => (field, of_text(test)),
        _ => return None,
    };
    (field == wanted).then_some(Test { what, holds: literal.holds })
}

fn of_text(test: &TextTest) -> What<'_> {
    match test {
        TextTest::Present => What::Present,
        TextTest::In(values) => What::Texts(values),
        test => What::Text(test),
    }
}

fn of_attribute(test: &AttributeTest) -> What<'_> {
    match test {
        AttributeTest::Present => What::Present,
        AttributeTest::In(values) => What::Scalars(values),
        AttributeTest::Compare(comparison, operand) => What::Compare(*comparison, *operand),
        AttributeTest::Text(test) => of_text(test),
        AttributeTest::From(at) => What::From(*at),
        AttributeTest::Until(at) => What::Until(*at),
    }
}

/// A value that is tried.
#[derive(Clone, Copy)]
enum Candidate<'p> {
    Text(&'p str),
    Number(f64),
    Boolean(bool),
}

/// Whether no value, nor its absence, passes all tests.
fn value(tests: &[Test<'_>], automata: &Automata, left: &mut usize) -> bool {
    let positive = || tests.iter().filter(|test| test.holds).map(|test| &test.what);
    // Whatever passes a test is there.
    if positive().next().is_some()
        && tests.iter().any(|test| !test.holds && matches!(test.what, What::Present))
    {
        return true;
    }
    let count = |what: &What<'_>| match what {
        What::Texts(values) => Some(values.len()),
        What::Scalars(values) => Some(values.len()),
        _ => None,
    };
    let fewest = positive().filter_map(|what| Some((count(what)?, what))).min_by_key(|(count, _)| *count);
    if let Some((count, what)) = fewest {
        let Some(rest) = left.checked_sub(count.saturating_mul(tests.len())) else {
            *left = 0;
            return false;
        };
        *left = rest;
        let mut possible = |candidate| {
            tests.iter().all(|test| passes(candidate, &test.what, automata, left) != Some(!test.holds))
        };
        return match what {
            What::Texts(values) => !values.iter().any(|text| possible(Candidate::Text(text))),
            What::Scalars(values) => !values.iter().any(|value| possible(candidate(value))),
            _ => false,
        };
    }
    wrong_types(tests)
        || numbers(tests, automata, left)
        || moments(tests)
        || texts(tests)
        || versions(tests, left)
        || expressions(tests, automata, left)
}

fn candidate(scalar: &Scalar) -> Candidate<'_> {
    match scalar {
        Scalar::Text(text) => Candidate::Text(text),
        Scalar::Number(number) => Candidate::Number(*number),
        Scalar::Boolean(value) => Candidate::Boolean(*value),
    }
}

/// Whether a value passes a test; `None` when that is not known here.
fn passes(candidate: Candidate<'_>, what: &What<'_>, automata: &Automata, left: &mut usize) -> Option<bool> {
    let text = if let Candidate::Text(text) = candidate { Some(text) } else { None };
    Some(match what {
        What::Unknown => return None,
        What::Present => true,
        What::Texts(values) => text.is_some_and(|text| values.contains(text)),
        What::Scalars(values) => values.iter().any(|value| match (candidate, value) {
            (Candidate::Text(one), Scalar::Text(other)) => one == other,
            (Candidate::Number(one), Scalar::Number(other)) => one == *other,
            (Candidate::Boolean(one), Scalar::Boolean(other)) => one == *other,
            _ => false,
        }),
        What::Compare(comparison, operand) => match candidate {
            Candidate::Number(number) => match comparison {
                Comparison::Less => number < *operand,
                Comparison::LessOrEqual => number <= *operand,
                Comparison::Greater => number > *operand,
                Comparison::GreaterOrEqual => number >= *operand,
            },
            _ => false,
        },
        What::From(at) => moment_of(candidate).is_some_and(|moment| moment >= millis(*at)),
        What::Until(at) => moment_of(candidate).is_some_and(|moment| moment < millis(*at)),
        What::Text(test) => match (text, test) {
            (None, _) => false,
            (Some(text), TextTest::Prefix(parts)) => parts.iter().any(|part| text.starts_with(part.as_str())),
            (Some(text), TextTest::Suffix(parts)) => parts.iter().any(|part| text.ends_with(part.as_str())),
            (Some(text), TextTest::Contains(parts)) => parts.iter().any(|part| text.contains(part.as_str())),
            (Some(text), TextTest::In(values)) => values.contains(text),
            (Some(_), TextTest::Present) => true,
            (Some(text), TextTest::Matches(pattern)) => return automata.matches(pattern, text, left),
            (Some(text), TextTest::Semver(comparators)) => version_passes(text, comparators),
        },
    })
}

fn moment_of(candidate: Candidate<'_>) -> Option<f64> {
    match candidate {
        Candidate::Text(text) => moment::parse(text).map(millis),
        Candidate::Number(number) => Some(number),
        Candidate::Boolean(_) => None,
    }
}

#[expect(clippy::cast_precision_loss, reason = "moments of a policy are far below 2^53")]
fn millis(at: Millis) -> f64 {
    at as f64
}

/// A number that must be a text.
fn wrong_types(tests: &[Test<'_>]) -> bool {
    let any = |wanted: fn(&What<'_>) -> bool| tests.iter().any(|test| test.holds && wanted(&test.what));
    any(|what| matches!(what, What::Compare(..))) && any(|what| matches!(what, What::Text(_)))
}

/// Bounds that leave nothing between them.
#[derive(Clone, Copy)]
struct Range {
    low: f64,
    low_included: bool,
    high: f64,
    high_included: bool,
}

impl Range {
    const ALL: Self =
        Self { low: f64::NEG_INFINITY, low_included: true, high: f64::INFINITY, high_included: true };

    fn at_least(&mut self, low: f64, included: bool) {
        if low > self.low || (low == self.low && !included) {
            (self.low, self.low_included) = (low, included);
        }
    }

    fn at_most(&mut self, high: f64, included: bool) {
        if high < self.high || (high == self.high && !included) {
            (self.high, self.high_included) = (high, included);
        }
    }

    fn is_empty(self) -> bool {
        self.low > self.high || (self.low == self.high && !(self.low_included && self.high_included))
    }
}

/// Comparisons that no number passes. Once one must hold, the value is a number, and what must not hold is its opposite.
fn numbers(tests: &[Test<'_>], automata: &Automata, left: &mut usize) -> bool {
    if !tests.iter().any(|test| test.holds && matches!(test.what, What::Compare(..))) {
        return false;
    }
    let mut range = Range::ALL;
    for Test { what, holds } in tests {
        match (what, holds) {
            (What::Compare(Comparison::Less, operand), true)
            | (What::Compare(Comparison::GreaterOrEqual, operand), false) => range.at_most(*operand, false),
            (What::Compare(Comparison::LessOrEqual, operand), true)
            | (What::Compare(Comparison::Greater, operand), false) => range.at_most(*operand, true),
            (What::Compare(Comparison::Greater, operand), true)
            | (What::Compare(Comparison::LessOrEqual, operand), false) => range.at_least(*operand, false),
            (What::Compare(Comparison::GreaterOrEqual, operand), true)
            | (What::Compare(Comparison::Less, operand), false) => range.at_least(*operand, true),
            (What::From(at), true) | (What::Until(at), false) => range.at_least(millis(*at), true),
            (What::Until(at), true) | (What::From(at), false) => range.at_most(millis(*at), false),
            _ => {}
        }
    }
    if range.low < range.high {
        return false;
    }
    // The bounds leave nothing, or one number, which another test may exclude.
    let only = Candidate::Number(range.low);
    range.is_empty() || tests.iter().any(|test| passes(only, &test.what, automata, left) == Some(!test.holds))
}

/// The same for moments.
fn moments(tests: &[Test<'_>]) -> bool {
    if !tests.iter().any(|test| test.holds && matches!(test.what, What::From(_) | What::Until(_))) {
        return false;
    }
    let mut range = Range::ALL;
    for Test { what, holds } in tests {
        match (what, holds) {
            (What::From(at), true) | (What::Until(at), false) => range.at_least(millis(*at), true),
            (What::Until(at), true) | (What::From(at), false) => range.at_most(millis(*at), false),
            _ => {}
        }
    }
    range.is_empty()
}

/// Beginnings that exclude each other, ends that do, and what one test implies and another forbids.
fn texts(tests: &[Test<'_>]) -> bool {
    let text_tests = |holds: bool| {
        tests.iter().filter(move |test| test.holds == holds).filter_map(|test| match test.what {
            What::Text(test) => Some(test),
            _ => None,
        })
    };
    let compatible = |one: &TextTest, other: &TextTest| match (one, other) {
        (TextTest::Prefix(one), TextTest::Prefix(other)) => one.iter().any(|one| {
            other.iter().any(|other| one.starts_with(other.as_str()) || other.starts_with(one.as_str()))
        }),
        (TextTest::Suffix(one), TextTest::Suffix(other)) => one.iter().any(|one| {
            other.iter().any(|other| one.ends_with(other.as_str()) || other.ends_with(one.as_str()))
        }),
        _ => true,
    };
    if text_tests(true).any(|one| text_tests(true).any(|other| !compatible(one, other))) {
        return true;
    }
    text_tests(true).any(|required| text_tests(false).any(|forbidden| implies(required, forbidden)))
}

/// Tests with regular expressions that no text passes.
fn expressions(tests: &[Test<'_>], automata: &Automata, left: &mut usize) -> bool {
    let tests: Vec<(&TextTest, bool)> = tests
        .iter()
        .filter_map(|test| match test.what {
            What::Text(of_text) => Some((of_text, test.holds)),
            _ => None,
        })
        .collect();
    // Without one that must hold, the value may be absent, or of another type.
    tests.iter().any(|(_, holds)| *holds) && nothing_matches(&tests, automata, left)
}

/// Comparators that no version fulfils. Once one must hold, the value is a version, and what must not hold fails on a version.
fn versions(tests: &[Test<'_>], left: &mut usize) -> bool {
    let tests: Vec<(&[(VersionComparison, semver::Version)], bool)> = tests
        .iter()
        .filter_map(|test| match test.what {
            What::Text(TextTest::Semver(comparators)) => Some((comparators.as_slice(), test.holds)),
            _ => None,
        })
        .collect();
    if !tests.iter().any(|(_, holds)| *holds) {
        return false;
    }
    let bounds: BTreeSet<&semver::Version> =
        tests.iter().flat_map(|(comparators, _)| comparators.iter().map(|(_, bound)| bound)).collect();
    let bounds: Vec<&semver::Version> = bounds.into_iter().collect();
    // Each bound has an odd place, and what lies between two of them the even one between theirs.
    let place = |bound: &semver::Version| 2 * bounds.partition_point(|other| *other < bound) + 1;
    let tests: Vec<(Vec<(VersionComparison, usize)>, bool)> = tests
        .iter()
        .map(|(comparators, holds)| {
            (comparators.iter().map(|(comparison, bound)| (*comparison, place(bound))).collect(), *holds)
        })
        .collect();
    let count: usize = tests.iter().map(|(comparators, _)| comparators.len()).sum();
    let Some(rest) = left.checked_sub(count.saturating_mul(2 * bounds.len() + 1)) else {
        *left = 0;
        return false;
    };
    *left = rest;
    let fulfils = |at: usize, comparators: &[(VersionComparison, usize)]| {
        comparators.iter().all(|(comparison, bound)| match comparison {
            VersionComparison::Equal => at == *bound,
            VersionComparison::NotEqual => at != *bound,
            VersionComparison::Less => at < *bound,
            VersionComparison::LessOrEqual => at <= *bound,
            VersionComparison::Greater => at > *bound,
            VersionComparison::GreaterOrEqual => at >= *bound,
        })
    };
    !(0..=2 * bounds.len())
        .any(|at| tests.iter().all(|(comparators, holds)| fulfils(at, comparators) == *holds))
}

/// Moments and times of day that exclude each other. The time is always there, so what must not hold is its opposite.
fn time(literals: &[Literal<'_>]) -> bool {
    let tests: Vec<(TimeTest, bool)> = literals
        .iter()
        .filter_map(|literal| match literal.leaf {
            Leaf::Time(test) => Some((test, literal.holds)),
            _ => None,
        })
        .collect();
    let mut range = Range::ALL;
    let mut clocks: BTreeMap<i32, Vec<(TimeTest, bool)>> = BTreeMap::new();
    for (test, holds) in tests {
        match (test, holds) {
            (TimeTest::From(at), true) | (TimeTest::Until(at), false) => range.at_least(millis(at), true),
            (TimeTest::Until(at), true) | (TimeTest::From(at), false) => range.at_most(millis(at), false),
            (TimeTest::Daily { offset, .. } | TimeTest::Weekdays { offset, .. }, holds) => {
                clocks.entry(offset).or_default().push((test, holds));
            }
        }
    }
    range.is_empty() || clocks.values().any(|tests| no_moment_of_the_week(tests))
}

/// Whether no moment of the week by one clock passes. What passes begins at an edge of some test, or at midnight.
fn no_moment_of_the_week(tests: &[(TimeTest, bool)]) -> bool {
    let edges = tests.iter().flat_map(|(test, _)| match test {
        TimeTest::Daily { from, until, .. } => [*from, *until],
        _ => [0, 0],
    });
    let edges: BTreeSet<u32> = edges.chain([0]).filter(|edge| i64::from(*edge) < DAY).collect();
    let passes = |day: u8, edge: u32| {
        tests.iter().all(|(test, holds)| {
            let found = match test {
                TimeTest::Daily { from, until, .. } if from < until => (*from..*until).contains(&edge),
                TimeTest::Daily { from, until, .. } => edge >= *from || edge < *until,
                TimeTest::Weekdays { days, .. } => days & (1 << day) != 0,
                TimeTest::From(_) | TimeTest::Until(_) => return true,
            };
            found == *holds
        })
    };
    !(0..7).any(|day| edges.iter().any(|edge| passes(day, *edge)))
}

/// Slices of one layer without a common bucket. Whoever has no unit is in none, so one slice must contain it, or its unit must be there.
fn buckets(literals: &[Literal<'_>]) -> bool {
    let slices: Vec<(Bucket<'_>, bool)> = literals
        .iter()
        .filter_map(|literal| match literal.leaf {
            Leaf::Bucket(bucket) => Some((bucket, literal.holds)),
            _ => None,
        })
        .collect();
    if slices.is_empty() {
        return false;
    }
    let there = parts_there(literals);
    slices.iter().enumerate().any(|(number, (one, holds))| {
        if *holds && one.unit.parts().iter().any(|part| is_absent(literals, part)) {
            return true;
        }
        if !*holds && !one.unit.parts().iter().all(|part| there.contains(part)) {
            return false;
        }
        let same = || slices.iter().filter(|(other, _)| other.same_space(one));
        // The first slice of a space speaks for all that follow.
        if !*holds && slices.iter().take(number).any(|(other, _)| other.same_space(one)) {
            return false;
        }
        let edges: BTreeSet<u32> =
            same().flat_map(|(slice, _)| [slice.from, slice.below]).chain([0]).collect();
        let edges = edges.into_iter().filter(|edge| *edge < one.scale);
        !edges
            .into_iter()
            .any(|edge| same().all(|(slice, holds)| (slice.from..slice.below).contains(&edge) == *holds))
    })
}

/// The parts of units that are there for certain.
fn parts_there<'p>(literals: &[Literal<'p>]) -> BTreeSet<UnitPart> {
    let mut parts = BTreeSet::new();
    for literal in literals.iter().filter(|literal| literal.holds) {
        match literal.leaf {
            Leaf::Bucket(bucket) => parts.extend(bucket.unit.parts().iter().cloned()),
            Leaf::Values(field, _) | Leaf::File(field, _) | Leaf::Field(field, _) => {
                parts.insert(UnitPart::Field(field));
            }
            // An attribute counts when it is a text.
            Leaf::Attribute(name, AttributeTest::Text(test)) if *test != TextTest::Present => {
                parts.insert(UnitPart::Attribute(name.to_owned()));
            }
            _ => {}
        }
    }
    parts
}

/// Whether a part of a unit is not there for certain.
fn is_absent(literals: &[Literal<'_>], part: &UnitPart) -> bool {
    literals.iter().filter(|literal| !literal.holds).any(|literal| match (literal.leaf, part) {
        (Leaf::Field(field, TextTest::Present), UnitPart::Field(part)) => field == *part,
        (Leaf::Attribute(name, AttributeTest::Present), UnitPart::Attribute(part)) => name == part,
        _ => false,
    })
}

/// Prerequisites that no decision of the other route fulfils.
fn routes(literals: &[Literal<'_>], serves: &BTreeMap<&str, BTreeSet<&str>>) -> bool {
    let asked = || {
        literals.iter().filter_map(|literal| match literal.leaf {
            Leaf::Route(route, variants) => Some((route, variants, literal.holds)),
            _ => None,
        })
    };
    asked().filter(|(.., holds)| *holds).any(|(route, variants, _)| {
        let Some(served) = serves.get(route) else { return false };
        !variants.iter().filter(|variant| served.contains(variant.as_str())).any(|variant| {
            asked()
                .filter(|(other, ..)| *other == route)
                .all(|(_, others, holds)| others.contains(variant) == holds)
        })
    })
}
