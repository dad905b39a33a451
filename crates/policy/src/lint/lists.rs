//! Lists of units in files: what an export that went wrong looks like.

use std::collections::{BTreeMap, BTreeSet};

use super::Linter;
use super::logic::{LONG, Lists};
use super::place::{Of, Place};
use crate::policy::{GroupKind, Members};

/// The short lists as sets, which conditions can be held against.
pub(super) fn short(lists: &BTreeMap<String, Vec<String>>) -> Lists {
    let short = lists.iter().filter(|(_, units)| units.len() <= LONG);
    // An empty value is an absent one, which belongs to no list.
    let set = |units: &[String]| units.iter().filter(|unit| !unit.is_empty()).cloned().collect();
    short.map(|(file, units)| (file.clone(), set(units))).collect()
}

impl<'p> Linter<'p> {
    /// Each list once, where it is first named.
    pub(super) fn lists(&mut self, lists: &BTreeMap<String, Vec<String>>) {
        let mut seen = BTreeSet::new();
        for (file, place) in self.list_places() {
            let Some(units) = lists.get(file).filter(|_| seen.insert(file)) else { continue };
            let at = (&place, Of::Value);
            if units.iter().all(String::is_empty) {
                let message = format!("the list `{file}` is empty");
                self.warn("odd-list", at, message, Some("it holds one unit a line"));
                continue;
            }
            if let Some(comment) = units.iter().find(|unit| unit.starts_with('#')) {
                let message = format!("the list `{file}` has the unit `{}`", shown(comment));
                let hint = "a list has no comments: each of its lines is a unit";
                self.warn("odd-list", at, message, Some(hint));
            }
            let mut known = BTreeSet::new();
            let mut twice = units.iter().filter(|unit| !known.insert(unit.as_str()));
            if let Some(first) = twice.next() {
                let message = format!("the list `{file}` has the unit `{}` twice", shown(first));
                let more = twice.count();
                let hint = (more > 0).then(|| format!("{more} more of its lines are there already"));
                self.warn("odd-list", at, message, hint.as_deref());
            }
        }
    }

    /// Every file that the policy names, with where it does.
    fn list_places(&self) -> Vec<(&'p str, Place)> {
        let policy = self.policy;
        let root = Place::default();
        let mut found = Vec::new();
        let mut add = |members: &'p Members, place: &Place| {
            for (field, file) in &members.files {
                let place = place.key(&field.list_key()).key("file");
                found.push((file.as_str(), place));
            }
        };
        for (index, tier) in policy.tiers.iter().enumerate() {
            add(&tier.members, &root.key("tiers").index(index));
        }
        for (name, segment) in &policy.segments {
            let place = root.key("segments").key(name);
            add(&segment.include, &place);
            add(&segment.exclude, &place.key("exclude"));
        }
        for (key, route) in &policy.routes {
            let place = Place::route(key);
            for (index, request) in route.requests.iter().enumerate() {
                add(&request.members, &place.key("requests").index(index));
            }
            for kind in GroupKind::ALL {
                for (index, group) in route.groups_of(kind).enumerate() {
                    add(&group.members, &place.key(kind.section()).index(index));
                }
            }
        }
        found
    }
}

/// The beginning of a unit.
fn shown(unit: &str) -> String {
    const SHOWN: usize = 40;
    if unit.chars().count() <= SHOWN {
        return unit.to_owned();
    }
    unit.chars().take(SHOWN).chain(['…']).collect()
}
