//! What may not go in circles or too deep: segments of segments, and routes that ask what other routes serve.

use std::collections::{BTreeMap, BTreeSet};

use super::reader::Reader;
use crate::policy::{Condition, Members, Origin, Policy, Route};

/// How many levels segments may have.
const MAX_SEGMENT_DEPTH: usize = 32;
/// How many prerequisites may hang on one another.
const MAX_PREREQUISITES: usize = 8;

/// Reports each cycle of segments once, and nesting that is too deep. Tiers are part of it: a segment's condition may ask for
/// a tier, and a tier may list segments.
pub(super) fn segments(reader: &mut Reader<'_>, policy: &Policy) {
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut origins: BTreeMap<String, &Origin> = BTreeMap::new();
    for (name, segment) in &policy.segments {
        let mut inner = of_members(&segment.include);
        inner.extend(of_members(&segment.exclude));
        if let Some(condition) = &segment.condition {
            each(condition, &mut |part| match part {
                Condition::Segment(name) => inner.extend([name.clone()]),
                Condition::Tier(name) => inner.extend([tier_node(name)]),
                _ => {}
            });
        }
        edges.insert(name.clone(), inner);
        origins.insert(name.clone(), &segment.origin);
    }
    for (place, tier) in policy.tiers.iter().enumerate() {
        // Whoever has a higher tier has this one, and everybody has the lowest.
        let above = policy.tiers.iter().skip(if place == 0 { usize::MAX } else { place });
        edges.insert(tier_node(&tier.name), above.flat_map(|tier| of_members(&tier.members)).collect());
        origins.insert(tier_node(&tier.name), &tier.origin);
    }
    let found = walk(&edges);
    // How deep a circle is says nothing.
    let deepest = found.deepest.filter(|_| found.cycles.is_empty());
    for cycle in found.cycles {
        let Some(origin) = cycle.first().and_then(|name| origins.get(*name)) else { continue };
        let message = format!("segments contain each other in a cycle: {}", chain(&cycle));
        let hint = "remove one of these segments from another".to_owned();
        reader.problem_at(origin, message, Some(hint));
    }
    if let Some((name, depth)) = deepest
        && depth > MAX_SEGMENT_DEPTH
        && let Some(origin) = origins.get(name)
    {
        let message = format!("segments contain each other {depth} levels deep");
        let hint = format!("{MAX_SEGMENT_DEPTH} levels are allowed; list the innermost segments directly");
        reader.problem_at(origin, message, Some(hint));
    }
}

fn tier_node(name: &str) -> String {
    format!("tier {name}")
}

fn of_members(members: &Members) -> BTreeSet<String> {
    members.segments.clone()
}

/// Reports each cycle of prerequisites once, and chains of them that are too long.
pub(super) fn prerequisites(reader: &mut Reader<'_>, policy: &Policy) {
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut origins: BTreeMap<&str, &Origin> = BTreeMap::new();
    for (key, route) in &policy.routes {
        let asked = edges.entry(key.name.clone()).or_default();
        for (condition, origin) in conditions(route) {
            each(condition, &mut |part| {
                if let Condition::Route { route, .. } = part {
                    asked.insert(route.clone());
                    origins.insert(&key.name, origin);
                }
            });
        }
    }
    let found = walk(&edges);
    // How deep a circle is says nothing.
    let deepest = found.deepest.filter(|_| found.cycles.is_empty());
    for cycle in found.cycles {
        let Some(origin) = cycle.first().and_then(|name| origins.get(*name)) else { continue };
        let message = format!("routes ask for each other in a cycle: {}", chain(&cycle));
        let hint = "remove one of these `route` conditions".to_owned();
        reader.problem_at(origin, message, Some(hint));
    }
    if let Some((name, depth)) = deepest
        && depth > MAX_PREREQUISITES + 1
        && let Some(origin) = origins.get(name)
    {
        let message = format!("this begins a chain of {} prerequisites", depth - 1);
        let hint = format!("at most {MAX_PREREQUISITES} `route` conditions may hang on one another");
        reader.problem_at(origin, message, Some(hint));
    }
}

/// Every condition of a route, with where it stands.
pub(crate) fn conditions(route: &Route) -> impl Iterator<Item = (&Condition, &Origin)> {
    let access = route.access.iter().map(|condition| (condition, &route.origin));
    let rules = route.rules.iter().filter_map(|rule| Some((rule.condition.as_ref()?, &rule.origin)));
    let shadows =
        route.shadows.iter().filter_map(|shadow| Some((shadow.condition.as_ref()?, &shadow.origin)));
    access.chain(rules).chain(shadows)
}

/// Calls `visit` for a condition and everything in it.
pub(crate) fn each<'c>(condition: &'c Condition, visit: &mut dyn FnMut(&'c Condition)) {
    visit(condition);
    match condition {
        Condition::All(parts) | Condition::Any(parts) => parts.iter().for_each(|part| each(part, visit)),
        Condition::Not(inner) => each(inner, visit),
        _ => {}
    }
}

/// The names of a cycle, the middle of a long one left out.
fn chain(cycle: &[&str]) -> String {
    match cycle {
        [first @ .., last] if first.len() > SHOWN => {
            let shown: Vec<&str> = first.iter().copied().take(SHOWN).chain(["…", last]).collect();
            shown.join(" → ")
        }
        all => all.join(" → "),
    }
}

/// How many names of a cycle are shown.
const SHOWN: usize = 12;
/// How many cycles are reported: a dense graph has more of them than anybody can read.
const MAX_CYCLES: usize = 20;

struct Found<'g> {
    /// The nodes of each cycle, the first one again at the end.
    cycles: Vec<Vec<&'g str>>,
    /// The node from which the longest way leads down, and how many nodes are on that way.
    deepest: Option<(&'g str, usize)>,
}

/// Walks a graph without recursion: names come from outside, and a chain of them may be long.
fn walk(edges: &BTreeMap<String, BTreeSet<String>>) -> Found<'_> {
    let inner = |name: &str| -> Vec<&str> {
        // The first one last, so that popping takes it first.
        edges.get(name).into_iter().flatten().rev().map(String::as_str).collect()
    };
    let mut found = Found { cycles: Vec::new(), deepest: None };
    let mut depths: BTreeMap<&str, usize> = BTreeMap::new();
    for start in edges.keys() {
        if depths.contains_key(start.as_str()) {
            continue;
        }
        // The chain of nodes, each with those below it that are still to be visited and the depth found so far.
        let mut chain: Vec<(&str, Vec<&str>, usize)> = vec![(start, inner(start), 1)];
        let mut open: BTreeSet<&str> = [start.as_str()].into();
        while let Some((name, below, depth)) = chain.last_mut() {
            let Some(next) = below.pop() else {
                let (name, depth) = (*name, *depth);
                chain.pop();
                open.remove(name);
                depths.insert(name, depth);
                if found.deepest.is_none_or(|(_, deepest)| depth > deepest) {
                    found.deepest = Some((name, depth));
                }
                if let Some((_, _, above)) = chain.last_mut() {
                    *above = (*above).max(depth + 1);
                }
                continue;
            };
            if open.contains(next) {
                if found.cycles.len() < MAX_CYCLES {
                    let cycle = chain.iter().map(|(name, ..)| *name).skip_while(|name| *name != next);
                    found.cycles.push(cycle.chain([next]).collect());
                }
            } else if let Some(known) = depths.get(next) {
                *depth = (*depth).max(known + 1);
            } else if edges.contains_key(next) {
                chain.push((next, inner(next), 1));
                open.insert(next);
            }
        }
    }
    found
}
