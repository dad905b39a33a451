//! Whether a combination of conditions can hold at all.
//!
//! The answer "no" is always right; "yes" may mean "not found out". Conditions are taken apart into single tests, `any` is tried
//! branch by branch, and the tests of one subject (a field, an attribute, the time, a slice of a layer) are held against each other.

use std::collections::{BTreeMap, BTreeSet};

use super::subject;
use super::texts::Automata;
use crate::Field;
use crate::policy::{
    AttributeTest, Condition, Layer, Members, Policy, Segment, Slice, TextTest, TimeTest, Unit, Window,
};

/// Something that holds or does not.
#[derive(Clone, Copy)]
pub(super) enum Formula<'p> {
    Literal(Literal<'p>),
    Condition(&'p Condition, bool),
    Segment(&'p Segment, bool),
    /// What makes a segment contain somebody, exclusions left aside.
    Included(&'p Segment, bool),
    Members(&'p Members, bool),
    /// The context has the tier at this place, or a higher one.
    Tier(usize, bool),
    Window(Window, bool),
    Step(Whom<'p>, bool),
}

/// Whom a step of a route concerns: whoever is all of this.
#[derive(Clone, Copy, Default)]
pub(super) struct Whom<'p> {
    pub(super) values: Option<(Field, Values<'p>)>,
    pub(super) members: Option<&'p Members>,
    pub(super) condition: Option<&'p Condition>,
    /// The unit's bucket.
    pub(super) bucket: Option<Bucket<'p>>,
    pub(super) window: Window,
    /// When its schedule runs.
    pub(super) runs: Window,
}

/// A slice of a hash space.
#[derive(Clone, Copy)]
pub(super) struct Bucket<'p> {
    pub(super) layer: &'p Layer,
    pub(super) unit: &'p Unit,
    /// How many buckets there are.
    pub(super) scale: u32,
    /// The first bucket.
    pub(super) from: u32,
    /// The first bucket behind it.
    pub(super) below: u32,
}

impl<'p> Bucket<'p> {
    pub(super) fn of(slice: &'p Slice) -> Self {
        let Slice { layer, unit, scale, from, below } = slice;
        Self { layer, unit, scale: *scale, from: *from, below: *below }
    }

    /// Whether a unit has the same bucket in both hash spaces. Their names do not count.
    pub(super) fn same_space(&self, other: &Self) -> bool {
        let same = |one: &Layer, other: &Layer| one.salt == other.salt && one.algorithm == other.algorithm;
        self.scale == other.scale && self.unit == other.unit && same(self.layer, other.layer)
    }
}

impl PartialEq for Bucket<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.from == other.from && self.below == other.below && self.same_space(other)
    }
}

/// A single test.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Leaf<'p> {
    Values(Field, Values<'p>),
    File(Field, &'p str),
    Field(Field, &'p TextTest),
    Attribute(&'p str, &'p AttributeTest),
    Time(TimeTest),
    Bucket(Bucket<'p>),
    Route(&'p str, &'p BTreeSet<String>),
}

/// A list of values.
#[derive(Clone, Copy)]
pub(super) struct Values<'p>(pub(super) &'p BTreeSet<String>);

impl PartialEq for Values<'_> {
    /// Long lists are equal only to themselves: to compare them costs more than what it would find.
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0, other.0)
            || (self.0.len() == other.0.len() && self.0.len() <= LONG && self.0 == other.0)
    }
}

/// Above this many values a list is long.
pub(super) const LONG: usize = 1000;

/// A test that must hold, or must not.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Literal<'p> {
    pub(super) leaf: Leaf<'p>,
    pub(super) holds: bool,
}

enum Part<'p> {
    Literal(Literal<'p>),
    All(Vec<Formula<'p>>),
    Any(Vec<Formula<'p>>),
}

/// Lists of units by the name of their file, those of at most [`LONG`] units.
pub(super) type Lists = BTreeMap<String, BTreeSet<String>>;

/// What formulas are about, and how much may still be spent on them.
pub(super) struct Logic<'p> {
    policy: &'p Policy,
    lists: &'p Lists,
    /// The variants that each route can serve, over all its definitions.
    pub(super) serves: BTreeMap<&'p str, BTreeSet<&'p str>>,
    pub(super) automata: Automata,
    /// Steps left for what is asked now.
    budget: usize,
    /// Steps left for the whole policy.
    rest: usize,
}

/// What one question may cost, in steps of about a test each.
const QUESTION: usize = 100_000;
/// What the questions about one route may cost, to begin with and for each of its steps.
const ROUTE: (usize, usize) = (200_000, 10_000);
/// What all questions about one policy may cost together.
const POLICY: usize = 30_000_000;

impl<'p> Logic<'p> {
    pub(super) fn new(
        policy: &'p Policy,
        lists: &'p Lists,
        serves: BTreeMap<&'p str, BTreeSet<&'p str>>,
    ) -> Self {
        let mut logic =
            Self { policy, lists, serves, automata: Automata::default(), budget: 0, rest: POLICY };
        logic.begin(policy.segments.len());
        logic
    }

    /// Grants what may be spent on something of so many parts.
    pub(super) fn begin(&mut self, parts: usize) {
        let (fixed, each) = ROUTE;
        self.rest = self.rest.saturating_add(self.budget);
        self.budget = parts.saturating_mul(each).saturating_add(fixed).min(self.rest);
        self.rest -= self.budget;
    }

    /// Whether all of these can hold at once. When that would take too long to find out, they can.
    pub(super) fn possible(&mut self, formulas: &[Formula<'p>]) -> bool {
        let whole = QUESTION.min(self.budget);
        let mut left = whole;
        let answer = self.search(formulas.to_vec(), &[], &[], &mut left);
        self.budget = self.budget.saturating_sub(whole - left);
        answer
    }

    fn search(
        &self,
        mut open: Vec<Formula<'p>>,
        literals: &[Literal<'p>],
        choices: &[Vec<Formula<'p>>],
        left: &mut usize,
    ) -> bool {
        // What is copied costs too, and so the recursion stays shallow.
        let Some(rest) = left.checked_sub(literals.len() + choices.len() + 1) else { return true };
        *left = rest;
        let (mut literals, mut choices) = (literals.to_vec(), choices.to_vec());
        while let Some(formula) = open.pop() {
            let part = self.part(formula);
            let cost = match &part {
                Part::Literal(_) => 1,
                Part::All(parts) | Part::Any(parts) => parts.len() + 1,
            };
            let Some(rest) = left.checked_sub(cost + literals.len()) else { return true };
            *left = rest;
            match part {
                Part::Literal(literal) if literals.contains(&literal) => {}
                Part::Literal(literal) => {
                    if literals.contains(&Literal { holds: !literal.holds, ..literal }) {
                        return false;
                    }
                    literals.push(literal);
                }
                Part::All(parts) => open.extend(parts),
                Part::Any(parts) => match parts.as_slice() {
                    [] => return false,
                    [only] => open.push(*only),
                    _ => choices.push(parts),
                },
            }
        }
        // Holding tests against each other costs more than collecting them.
        let Some(rest) = left.checked_sub(4 * literals.len()) else { return true };
        *left = rest;
        if subject::contradictory(&literals, &self.serves, &self.automata, left) {
            return false;
        }
        let fewest = choices.iter().enumerate().min_by_key(|(_, parts)| parts.len()).map(|(place, _)| place);
        let Some(place) = fewest else { return true };
        let parts = choices.swap_remove(place);
        parts.into_iter().any(|part| *left == 0 || self.search(vec![part], &literals, &choices, left))
    }

    /// What a formula consists of, negations carried to the tests.
    fn part(&self, formula: Formula<'p>) -> Part<'p> {
        use Formula as F;
        // A conjunction that must not hold is a choice of what does not, and the other way round.
        let all = |parts: Vec<F<'p>>, holds: bool| if holds { Part::All(parts) } else { Part::Any(parts) };
        let any = |parts: Vec<F<'p>>, holds: bool| all(parts, !holds);
        let literal = |leaf, holds| F::Literal(Literal { leaf, holds });
        match formula {
            F::Literal(literal) => Part::Literal(literal),
            F::Condition(condition, holds) => match condition {
                Condition::All(parts) => {
                    all(parts.iter().map(|part| F::Condition(part, holds)).collect(), holds)
                }
                Condition::Any(parts) => {
                    any(parts.iter().map(|part| F::Condition(part, holds)).collect(), holds)
                }
                Condition::Not(inner) => Part::All(vec![F::Condition(inner, !holds)]),
                Condition::Segment(name) => {
                    let segment = self.policy.segments.get(name);
                    Part::All(segment.map(|segment| F::Segment(segment, holds)).into_iter().collect())
                }
                Condition::Tier(name) => {
                    let place = self.policy.tiers.iter().position(|tier| tier.name == *name);
                    Part::All(place.map(|place| F::Tier(place, holds)).into_iter().collect())
                }
                Condition::Field(field, TextTest::In(values)) => {
                    Part::Literal(Literal { leaf: Leaf::Values(*field, Values(values)), holds })
                }
                Condition::Field(field, test) => {
                    Part::Literal(Literal { leaf: Leaf::Field(*field, test), holds })
                }
                Condition::Attribute(name, test) => {
                    Part::Literal(Literal { leaf: Leaf::Attribute(name, test), holds })
                }
                Condition::Time(test) => Part::Literal(Literal { leaf: Leaf::Time(*test), holds }),
                Condition::Bucket(slice) => {
                    Part::Literal(Literal { leaf: Leaf::Bucket(Bucket::of(slice)), holds })
                }
                Condition::Route { route, serves } => {
                    Part::Literal(Literal { leaf: Leaf::Route(route, serves), holds })
                }
            },
            F::Segment(segment, holds) => {
                all(vec![F::Members(&segment.exclude, !holds), F::Included(segment, holds)], holds)
            }
            F::Included(segment, holds) => {
                let condition = segment.condition.iter().map(|condition| F::Condition(condition, holds));
                any([F::Members(&segment.include, holds)].into_iter().chain(condition).collect(), holds)
            }
            F::Members(members, holds) => {
                let values = members.values.iter();
                let values =
                    values.map(|(field, values)| literal(Leaf::Values(*field, Values(values)), holds));
                let files = members.files.iter();
                let files = files.map(|(field, file)| {
                    let known = self.lists.get(file).map(|units| Leaf::Values(*field, Values(units)));
                    literal(known.unwrap_or(Leaf::File(*field, file)), holds)
                });
                let segments = members.segments.iter().filter_map(|name| self.policy.segments.get(name));
                let segments = segments.map(|segment| F::Segment(segment, holds));
                any(values.chain(files).chain(segments).collect(), holds)
            }
            // Everyone has the lowest.
            F::Tier(0, holds) => all(Vec::new(), holds),
            F::Tier(place, holds) => {
                let tiers = self.policy.tiers.iter().skip(place);
                any(tiers.map(|tier| F::Members(&tier.members, holds)).collect(), holds)
            }
            F::Window(window, holds) => {
                let from = window.from.map(|from| literal(Leaf::Time(TimeTest::From(from)), holds));
                let until = window.until.map(|until| literal(Leaf::Time(TimeTest::Until(until)), holds));
                all(from.into_iter().chain(until).collect(), holds)
            }
            F::Step(whom, holds) => {
                let Whom { values, members, condition, bucket, window, runs } = whom;
                let values = values.map(|(field, values)| literal(Leaf::Values(field, values), holds));
                let members = members.map(|members| F::Members(members, holds));
                let condition = condition.map(|condition| F::Condition(condition, holds));
                let bucket = bucket.map(|bucket| literal(Leaf::Bucket(bucket), holds));
                let windows = [window, runs].into_iter().filter(|window| *window != Window::default());
                let windows = windows.map(|window| F::Window(window, holds));
                let parts = values.into_iter().chain(members).chain(condition).chain(bucket).chain(windows);
                all(parts.collect(), holds)
            }
        }
    }
}
