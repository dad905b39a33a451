//! Symbols that several rollouts of a route list at the same time.

use std::collections::{BTreeMap, BTreeSet};

use super::Linter;
use super::place::{Of, Place};
use super::reach::at_least;
use super::steps::{Kind, Step};
use crate::Field;
use crate::diagnostic::list_of;
use crate::policy::{Group, GroupKind, Members, Route, Window};

/// How many earlier rollouts of a symbol are compared by their time.
const WINDOWS: usize = 64;

impl<'p> Linter<'p> {
    /// One warning for each rollout that others before it overlap. `gone` are the steps that nobody gets to, of which that is said already.
    pub(super) fn rollouts(&mut self, place: &Place, route: &'p Route, gone: &[Step<'p>]) {
        let kind = GroupKind::SymbolRollout;
        let gone: BTreeSet<&str> =
            gone.iter().filter(|step| step.kind == Kind::Group(kind)).map(|step| step.name).collect();
        let section = place.key(kind.section());
        let mut taken: BTreeMap<&str, Vec<&Group>> = BTreeMap::new();
        for (index, rollout) in route.groups_of(kind).enumerate() {
            if gone.contains(rollout.name.as_str()) {
                continue;
            }
            // The symbols that an earlier rollout has, and the first that has each.
            let (mut both, mut others) = (Vec::new(), Vec::new());
            for symbol in self.symbols_of(&rollout.members) {
                let earlier = taken.entry(symbol).or_default();
                if let Some(other) = earlier.iter().find(|other| overlap(other.window, rollout.window)) {
                    both.push(symbol);
                    others.push(other.name.as_str());
                }
                // Nothing comes by one that is always there.
                let covered = earlier.iter().any(|other| other.window == Window::default());
                if !covered && earlier.len() < WINDOWS {
                    earlier.push(rollout);
                }
            }
            if both.is_empty() {
                continue;
            }
            let place = section.index(index);
            let meant: BTreeSet<&str> = both.iter().copied().collect();
            let listed = place.key("symbols").item(self.document, |symbol| meant.contains(symbol));
            let at = listed.unwrap_or_else(|| self.through(&place, &meant).unwrap_or_else(|| place.clone()));
            let mut unique = BTreeSet::new();
            others.retain(|other| unique.insert(*other));
            let symbols = list_of(both.iter().copied());
            let (message, hint) = match others.as_slice() {
                [other] => (
                    format!("the symbol rollouts `{other}` and `{}` overlap: {symbols}", rollout.name),
                    format!("`{other}` comes first and has them"),
                ),
                _ => (
                    format!(
                        "the symbol rollout `{}` overlaps {} before it: {symbols}",
                        rollout.name,
                        others.len()
                    ),
                    format!("these come first and have them: {}", list_of(others.iter().copied())),
                ),
            };
            self.warn("overlapping-rollouts", (&at, Of::Value), message, Some(&hint));
        }
    }

    /// The segment of a rollout through which it has one of these symbols.
    fn through(&mut self, place: &Place, symbols: &BTreeSet<&str>) -> Option<Place> {
        let document = self.document;
        let policy = self.policy;
        let left = std::cell::Cell::new(self.values);
        let found = place.key("segments").item(document, |name| {
            let Some(segment) = policy.segments.get(name) else { return false };
            let (mut values, mut rest) = (Vec::new(), left.get());
            at_least(policy, &segment.include, &mut values, &mut rest);
            left.set(rest);
            values.iter().any(|(field, value)| *field == Field::Symbol && symbols.contains(value))
        });
        self.values = left.get();
        found
    }

    /// Every symbol that belongs to these members, whatever the rest of the context.
    fn symbols_of(&mut self, members: &'p Members) -> BTreeSet<&'p str> {
        let mut symbols = BTreeSet::new();
        self.add_symbols(members, &mut symbols);
        symbols
    }

    fn add_symbols(&mut self, members: &'p Members, into: &mut BTreeSet<&'p str>) {
        let own = members.values.get(&Field::Symbol);
        let Some(left) = self.values.checked_sub(1 + own.map_or(0, BTreeSet::len)) else { return };
        self.values = left;
        into.extend(own.into_iter().flatten().map(String::as_str));
        let policy = self.policy;
        for segment in members.segments.iter().filter_map(|name| policy.segments.get(name)) {
            // Who else is excluded depends on the rest of the context.
            if !segment.exclude.segments.is_empty() || !segment.exclude.files.is_empty() {
                continue;
            }
            match segment.exclude.values.get(&Field::Symbol) {
                None => self.add_symbols(&segment.include, into),
                Some(excluded) => {
                    let inner = self.symbols_of(&segment.include);
                    into.extend(inner.into_iter().filter(|symbol| !excluded.contains(*symbol)));
                }
            }
        }
    }
}

fn overlap(one: Window, other: Window) -> bool {
    let before =
        |until: Option<i64>, from: Option<i64>| until.zip(from).is_some_and(|(until, from)| until <= from);
    !before(one.until, other.from) && !before(other.until, one.from)
}
