//! Which steps of a route a context can get to, and which shares: what matches nobody, and what steps before it take away.
//!
//! Steps that only compare a field with values are looked up by value, so that thousands of them cost no more than their values.
//! Of all others, each step is held against so many of those before it that the whole stays linear.

use std::collections::BTreeMap;

use super::Linter;
use super::logic::{Bucket, Formula, Leaf, Literal, Values, Whom};
use super::place::{Of, Place};
use super::steps::{Kind, Step, steps};
use crate::Field;
use crate::policy::{Condition, Members, Policy, Route, RouteKey, Serve};

/// How many steps before it a step is held against one by one.
const SINGLE: usize = 128;
/// How many all together.
const TOGETHER: usize = 32;
/// How many it takes to name each of them.
const NAMED: usize = 8;
/// How many steps that compare values are also held against others than their like.
const PLAIN: usize = 64;
/// How many values are looked up for one policy.
pub(super) const VALUES: usize = 5_000_000;

/// What the steps that were looked at so far leave to those that come.
#[derive(Default)]
struct Taken<'p> {
    /// The first step that takes everyone with a value.
    values: BTreeMap<(Field, &'p str), usize>,
    /// The steps that take whomever they match, in their order.
    steps: Vec<usize>,
    /// How many of these only compare values.
    plain: usize,
    /// The step that leaves nobody.
    everyone: Option<usize>,
}

impl<'p> Linter<'p> {
    /// Warns of what nobody gets to. Gives the steps of which that is true, by their places among all.
    pub(super) fn reach(&mut self, place: &Place, key: &'p RouteKey, route: &'p Route) -> Vec<Step<'p>> {
        let mut steps = steps(self.policy, &self.experiments, &self.masks, place, key, route);
        self.logic.begin(steps.len());
        let mut context: Vec<Formula<'p>> = Vec::new();
        for (field, name) in [(Field::Tenant, &key.scope.tenant), (Field::User, &key.scope.user)] {
            if let Some(values) = name.as_ref().and_then(|name| self.scopes.get(name)) {
                context.push(Formula::Literal(Literal {
                    leaf: Leaf::Values(field, Values(values)),
                    holds: true,
                }));
            }
        }
        if let Some(access) = &route.access {
            let access = Formula::Condition(access, true);
            if self.logic.possible(&[access]) {
                context.push(access);
            } else {
                let message = "nothing fulfils this condition, so nobody sees the route";
                self.warn("never-matches", (&place.key("access"), Of::Key), message, None);
            }
        }
        let context_mask = if context.is_empty() { 0 } else { u64::MAX };

        let mut taken = Taken::default();
        let mut gone = Vec::new();
        for number in 0..steps.len() {
            let Some(step) = steps.get(number) else { break };
            let reported = step.kind != Kind::Holdout;
            if reported && self.never_matches(step, &context) {
                gone.push(number);
                continue;
            }
            let mut base = context.clone();
            base.push(Formula::Step(step.whom, true));
            let mask = step.mask | context_mask;
            let by = match taken.everyone {
                Some(everyone) => Some(vec![everyone]),
                None => self
                    .taken_by_value(step, &taken)
                    .or_else(|| self.takers(&base, &near(&steps, &taken, mask), &steps)),
            };
            if let Some(by) = by {
                if reported {
                    self.unreachable(step, &by, &steps);
                    gone.push(number);
                }
                continue;
            }
            if let Some(serve) = step.serve {
                let mask = if step.kind == Kind::Default { context_mask } else { mask };
                self.shares_reached(step, serve, route, key, &base, mask, &taken, &steps);
            }
            if !step.takes_all || step.kind == Kind::Default {
                continue;
            }
            let plain = self.take_values(step, number, &mut taken.values);
            taken.plain += usize::from(plain);
            if !plain || taken.plain <= PLAIN {
                taken.steps.push(number);
            }
            let mut nobody_left = context.clone();
            nobody_left.push(Formula::Step(step.whom, false));
            if !plain && !self.logic.possible(&nobody_left) {
                taken.everyone = Some(number);
            }
        }
        let mut index = 0..;
        steps.retain(|_| index.next().is_some_and(|number| gone.binary_search(&number).is_ok()));
        steps
    }

    /// Whether nobody whom the step concerns exists, which is a warning.
    fn never_matches(&mut self, step: &Step<'p>, context: &[Formula<'p>]) -> bool {
        let whom = |whom: Whom<'p>| [Formula::Step(whom, true)];
        let Whom { window, bucket, .. } = step.whom;
        let seen = self.logic.possible(&whom(step.whom));
        let message = match (seen, step.kind) {
            (true, _) => {
                let mut all = context.to_vec();
                all.extend(whom(step.whom));
                if context.is_empty() || self.logic.possible(&all) {
                    return false;
                }
                format!("nobody who may see the route belongs to {}", step.words())
            }
            (false, Kind::Rule) if step.whom.condition.is_some() => {
                format!("nothing fulfils the condition of {}", step.words())
            }
            (false, Kind::Rule) => format!("{} matches at no time", step.words()),
            (false, _) => format!("nobody belongs to {}", step.words()),
        };
        // When its condition can hold, it does so only outside of its time, or of its buckets.
        let condition =
            Whom { window: Default::default(), runs: Default::default(), bucket: None, ..step.whom };
        let timeless = !seen && self.logic.possible(&whom(condition));
        let in_time = timeless && self.logic.possible(&whom(Whom { window, ..condition }));
        let in_buckets =
            timeless && bucket.is_some() && !self.logic.possible(&whom(Whom { bucket, ..condition }));
        let keys: &[&str] = match () {
            () if in_buckets => &["experiment"],
            () if in_time => &["switchback"],
            () if timeless => &["until", "from"],
            () => step.keys,
        };
        let at = step.place.first_key(self.document, keys).unwrap_or_else(|| step.place.clone());
        let hint = match step.kind {
            _ if seen => "its condition contradicts the route's `access` or whose route it is",
            _ if in_time => "its schedule lies outside of its `from` and `until`",
            Kind::Rule => "a part of it contradicts another",
            _ => "its lists are empty, or who is in them is excluded",
        };
        self.warn("never-matches", (&at, Of::Key), message, Some(hint));
        true
    }

    fn unreachable(&mut self, step: &Step<'p>, by: &[usize], steps: &[Step<'p>]) {
        let by: Vec<&Step<'p>> = by.iter().filter_map(|number| steps.get(*number)).collect();
        let what = match (step.kind, step.name) {
            (Kind::Override, _) => "this override".to_owned(),
            _ => step.words(),
        };
        let message = format!("{what} is never reached: {} whatever it matches", take(&by));
        let hint = match (step.kind, by.as_slice()) {
            (_, by) if by.iter().any(|by| by.kind == Kind::Holdout) => None,
            (Kind::Default, [_]) => Some("what serves everyone belongs into `default`"),
            (Kind::Default, _) => None,
            _ => Some("put it first, or remove it"),
        };
        let (at, of) = match (step.place.first_key(self.document, step.keys), step.kind) {
            (Some(place), _) => (place, Of::Key),
            (None, Kind::Default | Kind::Override) => (step.place.clone(), Of::Key),
            (None, _) => (step.place.key("name"), Of::Value),
        };
        self.warn("unreachable", (&at, of), message, hint);
    }

    /// The fewest of these steps that leave nothing of what is asked about, if all of them do.
    fn takers(&mut self, base: &[Formula<'p>], near: &[usize], steps: &[Step<'p>]) -> Option<Vec<usize>> {
        let outside = |number: &usize| steps.get(*number).map(|step| Formula::Step(step.whom, false));
        let left = |linter: &mut Self, numbers: &[usize]| {
            let mut all = base.to_vec();
            all.extend(numbers.iter().filter_map(outside));
            linter.logic.possible(&all)
        };
        let first = near.iter().take(SINGLE / 2);
        let last = near.iter().skip(SINGLE / 2).rev().take(SINGLE / 2);
        for number in first.chain(last) {
            if !left(self, &[*number]) {
                return Some(vec![*number]);
            }
        }
        let skipped = near.len().saturating_sub(TOGETHER);
        let mut together: Vec<usize> = near.iter().skip(skipped).copied().collect();
        if together.len() < 2 || left(self, &together) {
            return None;
        }
        let mut at = 0;
        while at < together.len() && together.len() <= TOGETHER {
            let mut fewer = together.clone();
            fewer.remove(at);
            if left(self, &fewer) {
                at += 1;
            } else {
                together = fewer;
            }
        }
        Some(together)
    }

    /// The steps that have taken every value of one list that a step's context has a value of.
    fn taken_by_value(&mut self, step: &Step<'p>, taken: &Taken<'p>) -> Option<Vec<usize>> {
        if taken.values.is_empty() {
            return None;
        }
        let mut lists: Vec<Vec<(Field, &'p str)>> = Vec::new();
        let mut left = self.values;
        if let Some((field, Values(values))) = step.whom.values {
            lists.push(values.iter().map(|value| (field, value.as_str())).collect());
        }
        if let Some(members) = step.whom.members {
            let mut values = Vec::new();
            if at_most(self.policy, members, &mut values, &mut left) {
                lists.push(values);
            }
        }
        if let Some(condition) = step.whom.condition {
            lists_of(self.policy, condition, &mut lists, &mut left);
        }
        self.values = left;
        lists.iter().filter(|values| !values.is_empty()).find_map(|values| {
            let by: Option<Vec<usize>> =
                values.iter().map(|value| taken.values.get(value).copied()).collect();
            let mut by = by?;
            by.sort_unstable();
            by.dedup();
            Some(by)
        })
    }

    /// Notes the values that a step takes for certain; whether these are all that it does.
    fn take_values(
        &mut self,
        step: &Step<'p>,
        number: usize,
        taken: &mut BTreeMap<(Field, &'p str), usize>,
    ) -> bool {
        let Whom { values, members, condition, bucket, window, runs } = step.whom;
        if bucket.is_some() || window != Default::default() || runs != Default::default() {
            return false;
        }
        let mut found = Vec::new();
        let plain = match (values, members, condition) {
            (Some((field, Values(values))), None, None) => {
                found.extend(values.iter().map(|value| (field, value.as_str())));
                true
            }
            (None, Some(members), None) => at_least(self.policy, members, &mut found, &mut self.values),
            (None, None, Some(Condition::Field(field, crate::policy::TextTest::In(values)))) => {
                found.extend(values.iter().map(|value| (*field, value.as_str())));
                true
            }
            (None, None, Some(Condition::Segment(name))) => match self.policy.segments.get(name) {
                Some(segment) if segment.exclude == Members::default() => {
                    at_least(self.policy, &segment.include, &mut found, &mut self.values)
                        && segment.condition.is_none()
                }
                _ => false,
            },
            _ => false,
        };
        self.values = self.values.saturating_sub(found.len());
        for value in found {
            taken.entry(value).or_insert(number);
        }
        plain
    }

    /// Warns of the shares of a step that nobody gets, though somebody gets to the step.
    #[expect(clippy::too_many_arguments, reason = "what is known of the step, which only one caller has")]
    fn shares_reached(
        &mut self,
        step: &Step<'p>,
        serve: &'p Serve,
        route: &'p Route,
        key: &'p RouteKey,
        base: &[Formula<'p>],
        mask: u64,
        taken: &Taken<'p>,
        steps: &[Step<'p>],
    ) {
        let parts = self.experiments.parts(self.policy, serve, route, key, step.name);
        let Some(unit) = parts.values().flatten().next().map(|bucket| super::steps::bucket_mask(bucket))
        else {
            return;
        };
        let mut near = near(steps, taken, mask | unit);
        if near.is_empty() && mask & unit == 0 {
            return;
        }
        // What is about buckets comes last, and so is looked at first.
        near.sort_by_key(|number| {
            steps.get(*number).is_some_and(|step| step.mask & super::steps::BUCKET != 0)
        });
        let mut nobody: Vec<(&'p str, Vec<usize>)> = Vec::new();
        let count = parts.len();
        for (variant, buckets) in parts {
            let mut by: Vec<usize> = Vec::new();
            let mut reached = false;
            for bucket in buckets {
                match self.bucket_taken(base, bucket, &near, steps) {
                    Some(takers) => by.extend(takers),
                    None => {
                        reached = true;
                        break;
                    }
                }
            }
            if !reached {
                by.sort_unstable();
                by.dedup();
                nobody.push((variant, by));
            }
        }
        let (section, of) = match serve {
            Serve::Ramp(_) => (step.place.key("ramp"), "ramp"),
            Serve::Experiment(_) => (step.place.key("experiment"), "experiment"),
            _ => {
                let place = step.place.first_key(self.document, &["split", "weights"]);
                (place.unwrap_or_else(|| step.place.clone()), "split")
            }
        };
        let reason = |by: &[usize]| {
            let by: Vec<&Step<'p>> = by.iter().filter_map(|number| steps.get(*number)).collect();
            match by.as_slice() {
                [] => "whoever matches has another bucket, or no unit".to_owned(),
                by => format!("{} its buckets", take(by)),
            }
        };
        let hint = "a unit has the same bucket wherever a layer is used; a split that shall not depend on it needs another `layer`";
        if nobody.len() == count {
            let mut by: Vec<usize> = nobody.into_iter().flat_map(|(_, by)| by).collect();
            by.sort_unstable();
            by.dedup();
            let message = format!("nobody gets a share of this {of}: {}", reason(&by).replace("its", "all"));
            self.warn("unreachable-share", (&section, Of::Key), message, None);
            return;
        }
        for (variant, by) in nobody {
            let at = match serve {
                Serve::Ramp(_) => self.share_of(&section.key("stages"), variant),
                Serve::Experiment(_) => section.key("split").key(variant),
                _ => section.key(variant),
            };
            let message = format!("nobody gets the share of the variant `{variant}`: {}", reason(&by));
            self.warn("unreachable-share", (&at, Of::Value), message, Some(hint));
        }
    }

    /// The steps that leave nobody with such a bucket; none when nobody who matches has one.
    fn bucket_taken(
        &mut self,
        base: &[Formula<'p>],
        bucket: Bucket<'p>,
        near: &[usize],
        steps: &[Step<'p>],
    ) -> Option<Vec<usize>> {
        let mut base = base.to_vec();
        base.push(Formula::Literal(Literal { leaf: Leaf::Bucket(bucket), holds: true }));
        if !self.logic.possible(&base) {
            return Some(Vec::new());
        }
        let skipped = near.len().saturating_sub(TOGETHER);
        let near: Vec<usize> = near.iter().skip(skipped).copied().collect();
        let mut all = base.clone();
        all.extend(
            near.iter().filter_map(|number| steps.get(*number).map(|step| Formula::Step(step.whom, false))),
        );
        if near.is_empty() || self.logic.possible(&all) {
            return None;
        }
        self.takers(&base, &near, steps).or(Some(near))
    }
}

/// The steps before that are about something that a step of this mask is about.
fn near(steps: &[Step<'_>], taken: &Taken<'_>, mask: u64) -> Vec<usize> {
    let about = |number: &usize| steps.get(*number).is_some_and(|step| step.mask & mask != 0);
    taken.steps.iter().copied().filter(about).collect()
}

/// "the rule `a` takes", "the rule `a` and the holdout `b` take".
fn take(by: &[&Step<'_>]) -> String {
    let words: Vec<String> = by.iter().map(|step| step.words()).collect();
    match words.as_slice() {
        [] => "what is before it takes".to_owned(),
        [only] => format!("{only} takes"),
        [first @ .., last] if words.len() <= NAMED => format!("{} and {last} take", first.join(", ")),
        [first, rest @ ..] => format!("{first} and {} steps behind it take", rest.len()),
    }
}

/// The values that members list themselves; whether they list all. `None` when there are more than may still be looked up.
fn own_values<'p>(members: &'p Members, into: &mut Vec<(Field, &'p str)>, left: &mut usize) -> Option<bool> {
    let count: usize = members.values.values().map(|values| values.len() + 1).sum();
    *left = left.checked_sub(count + 1)?;
    let values = members.values.iter();
    into.extend(values.flat_map(|(field, values)| values.iter().map(move |value| (*field, value.as_str()))));
    Some(members.files.is_empty())
}

/// Every value that a member has one of; `false` when that is not known.
fn at_most<'p>(
    policy: &'p Policy,
    members: &'p Members,
    into: &mut Vec<(Field, &'p str)>,
    left: &mut usize,
) -> bool {
    own_values(members, into, left) == Some(true)
        && members.segments.iter().all(|name| {
            policy.segments.get(name).is_some_and(|segment| {
                segment.condition.is_none() && at_most(policy, &segment.include, into, left)
            })
        })
}

/// Values with each of which one is a member; whether these are all.
pub(super) fn at_least<'p>(
    policy: &'p Policy,
    members: &'p Members,
    into: &mut Vec<(Field, &'p str)>,
    left: &mut usize,
) -> bool {
    let Some(mut all) = own_values(members, into, left) else { return false };
    for segment in members.segments.iter().filter_map(|name| policy.segments.get(name)) {
        if segment.exclude == Members::default() {
            all &= at_least(policy, &segment.include, into, left) && segment.condition.is_none();
        } else {
            all = false;
        }
    }
    all
}

/// Lists of each of which whoever fulfils the condition has a value.
fn lists_of<'p>(
    policy: &'p Policy,
    condition: &'p Condition,
    into: &mut Vec<Vec<(Field, &'p str)>>,
    left: &mut usize,
) {
    match condition {
        Condition::All(parts) => parts.iter().for_each(|part| lists_of(policy, part, into, left)),
        Condition::Field(field, crate::policy::TextTest::In(values)) => {
            let Some(rest) = left.checked_sub(values.len()) else { return };
            *left = rest;
            into.push(values.iter().map(|value| (*field, value.as_str())).collect());
        }
        Condition::Segment(name) => {
            let Some(segment) = policy.segments.get(name) else { return };
            let mut values = Vec::new();
            if segment.condition.is_none() && at_most(policy, &segment.include, &mut values, left) {
                into.push(values);
            }
        }
        _ => {}
    }
}
