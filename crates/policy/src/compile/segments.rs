//! Segments and tiers, each behind those that it asks for.

use std::collections::BTreeSet;

use super::writer::Writer;
use super::{Places, Problems, program};
use crate::bundle::format::{MAX_SEGMENT_DEPTH, SEGMENT, SEGMENT_TIER, Segment as SegmentRecord};
use crate::policy::{Condition, Members, Policy, Tier};

/// Writes the segments and tiers of a policy.
pub(super) fn write<'p>(
    problems: &mut Problems<'_>,
    writer: &mut Writer,
    places: &mut Places<'p>,
    policy: &'p Policy,
) {
    places.lowest_tier = policy.tiers.first().map(|tier| tier.name.as_str());
    let mut order =
        Order { policy, open: Vec::new(), done: BTreeSet::new(), list: Vec::new(), too_deep: false };
    policy.segments.keys().for_each(|name| order.visit(Group::Segment(name)));
    policy.tiers.iter().skip(1).for_each(|tier| order.visit(Group::Tier(&tier.name)));
    if order.too_deep {
        let message = "segments and tiers contain each other in a circle, or too deep";
        let expected =
            format!("segments of segments, {MAX_SEGMENT_DEPTH} deep at most, and none that contains itself");
        problems.report(&super::document(), message.to_owned(), Some(expected), None);
        return;
    }
    for group in order.list {
        match group {
            Group::Segment(name) => {
                let Some(segment) = policy.segments.get(name) else { continue };
                let program = program::segment(writer, places, segment);
                let record = SegmentRecord { kind: SEGMENT, name: writer.text(name), program };
                places.segments.insert(name, writer.push(&record));
            }
            Group::Tier(name) => {
                let members = at_least(policy, name).map(|tier| &tier.members);
                let program = program::members(writer, places, members);
                let record = SegmentRecord { kind: SEGMENT_TIER, name: writer.text(name), program };
                places.tiers.insert(name, writer.push(&record));
            }
        }
    }
}

/// This tier and those above it.
fn at_least<'p>(policy: &'p Policy, name: &str) -> impl Iterator<Item = &'p Tier> {
    policy.tiers.iter().skip_while(move |tier| tier.name != name)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Group<'p> {
    Segment(&'p str),
    Tier(&'p str),
}

/// Brings groups into an order in which each stands behind those that it asks for.
struct Order<'p> {
    policy: &'p Policy,
    open: Vec<Group<'p>>,
    done: BTreeSet<Group<'p>>,
    list: Vec<Group<'p>>,
    too_deep: bool,
}

impl<'p> Order<'p> {
    fn visit(&mut self, group: Group<'p>) {
        if self.done.contains(&group) {
            return;
        }
        // Tiers may stand between segments, hence a little more than segments alone may be nested.
        let too_deep = self.open.len() > 2 * MAX_SEGMENT_DEPTH as usize;
        if too_deep || self.open.contains(&group) {
            self.too_deep = true;
            return;
        }
        self.open.push(group);
        match group {
            Group::Segment(name) => {
                if let Some(segment) = self.policy.segments.get(name) {
                    self.members(&segment.exclude);
                    self.members(&segment.include);
                    segment.condition.iter().for_each(|condition| self.condition(condition));
                }
            }
            Group::Tier(name) => at_least(self.policy, name).for_each(|tier| self.members(&tier.members)),
        }
        self.open.pop();
        self.done.insert(group);
        self.list.push(group);
    }

    fn members(&mut self, members: &'p Members) {
        members.segments.iter().for_each(|name| self.visit(Group::Segment(name)));
    }

    fn condition(&mut self, condition: &'p Condition) {
        match condition {
            Condition::All(parts) | Condition::Any(parts) => {
                parts.iter().for_each(|part| self.condition(part));
            }
            Condition::Not(inner) => self.condition(inner),
            Condition::Segment(name) => self.visit(Group::Segment(name)),
            Condition::Tier(name) if self.policy.tiers.first().is_some_and(|tier| tier.name != *name) => {
                self.visit(Group::Tier(name));
            }
            _ => {}
        }
    }
}
