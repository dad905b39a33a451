//! Tables whose records concern no route in particular.

use super::Validator;
use crate::bundle::format::{
    Attribute, Automaton, Comparator, FIELDS, Holdout, Label, Layer, List, MAX_SHARD_BITS, MAX_UNIT_PARTS,
    Model, Object, Section, Set, SetMember, SetSlot, Shard, Slice, Span, Split, Unit, UnitPart,
    VersionRelation,
};
use crate::bundle::format::{HOLDOUT_NAMED, HOLDOUT_OF_LAYER};
use crate::bundle::placement;
use crate::hash::probe;
use crate::semver::Version;

impl Validator<'_> {
    pub(super) fn sets(&mut self) {
        let section = Section::Set;
        for member in self.reader.all::<SetMember>() {
            self.text(member.text, Section::SetMember);
        }
        for set in self.reader.all::<Set>() {
            self.range(set.members, self.reader.count::<SetMember>(), 2, section);
            let members = self.list::<SetMember>(set.members, section);
            let probed = |member: SetMember| set.probes & probe(self.reader.text(member.text)) != 0;
            self.ensure(members.into_iter().all(probed), section, "a member's probe is missing");
            let slots = self.list::<SetSlot>(set.slots, section);
            let fits = set.slots.is_empty() || set.slots.count.is_power_of_two();
            self.ensure(fits, section, "the number of slots is no power of two");
            // What a search may have to pass: a row of slots that are taken, which may go on at the beginning.
            let (mut longest, mut row, mut first_row) = (0, 0, None);
            for slot in slots {
                self.ensure(slot.member <= set.members.count, Section::SetSlot, "a member does not exist");
                if slot.member == 0 {
                    first_row.get_or_insert(row);
                    row = 0;
                } else {
                    row += 1;
                    longest = longest.max(row);
                }
            }
            longest = longest.max(row + first_row.unwrap_or_default());
            let cost = if set.slots.is_empty() { u64::from(set.members.count) } else { longest };
            self.set_costs.push(cost);
        }
    }

    pub(super) fn tables(&self) {
        self.names_and_hashes();
        self.units();
        self.holdouts_and_slices();
        self.lists();
        self.reader.all::<Automaton>().for_each(|automaton| self.automaton(&automaton));
        for comparator in self.reader.all::<Comparator>() {
            let section = Section::Comparator;
            self.text(comparator.version, section);
            let known = VersionRelation::from_number(comparator.relation).is_some()
                && Version::parse(self.reader.text(comparator.version)).is_some();
            self.ensure(known, section, "a version cannot be read");
        }
    }

    fn names_and_hashes(&self) {
        for model in self.reader.all::<Model>() {
            self.text(model.name, Section::Model);
            self.text(model.version, Section::Model);
            self.ensure(placement(model.placement).is_some(), Section::Model, "a placement does not exist");
        }
        for layer in self.reader.all::<Layer>() {
            self.text(layer.name, Section::Layer);
            self.text(layer.salt, Section::Layer);
            self.ensure(layer.algorithm().is_some(), Section::Layer, "a hash does not exist");
        }
        for label in self.reader.all::<Label>() {
            self.optional_text(label.name, Section::Label);
            self.optional_place::<Layer>(label.layer, Section::Label, "a layer does not exist");
        }
        self.reader.all::<Attribute>().for_each(|attribute| self.text(attribute.name, Section::Attribute));
    }

    fn units(&self) {
        let section = Section::Unit;
        for Unit { parts } in self.reader.all() {
            self.ensure(
                (1..=MAX_UNIT_PARTS).contains(&parts.count),
                section,
                "a unit has no part or too many",
            );
            for UnitPart { part } in self.list(parts, section) {
                let exists =
                    part.checked_sub(FIELDS).is_none_or(|place| place < self.reader.count::<Attribute>());
                self.ensure(exists, Section::UnitPart, "an attribute does not exist");
            }
        }
    }

    fn holdouts_and_slices(&self) {
        for holdout in self.reader.all::<Holdout>() {
            let section = Section::Holdout;
            self.ensure(
                matches!(holdout.kind, HOLDOUT_NAMED | HOLDOUT_OF_LAYER),
                section,
                "a kind does not exist",
            );
            self.label(holdout.label, section);
            self.place::<Split>(holdout.split, section, "a split does not exist");
            let split = self.reader.get(holdout.split);
            self.split(&split, 1, true);
        }
        for Slice { layer, unit, scale, from, below } in self.reader.all() {
            let section = Section::Slice;
            self.layer(layer, scale, section);
            self.unit(unit, section);
            self.ensure(from <= below && below <= scale, section, "a slice lies outside its layer");
        }
    }

    /// Checks a split that the first `variants` variants share, and nobody if that may be.
    pub(super) fn split(&self, split: &Split, variants: u32, nobody: bool) {
        self.layer(split.layer, split.scale, Section::Split);
        self.unit(split.unit, Section::Split);
        self.intervals(split.intervals, split.scale, variants, nobody);
    }

    fn lists(&self) {
        let objects = self.reader.count::<Object>();
        for List { name, bits, shards } in self.reader.all() {
            let section = Section::List;
            self.text(name, section);
            let fits = bits <= MAX_SHARD_BITS && shards.count == 1 << bits;
            self.ensure(fits, section, "a list has another number of shards");
            for Shard { object } in self.list(shards, section) {
                self.ensure(object < objects, Section::Shard, "an object does not exist");
            }
        }
    }

    fn automaton(&self, automaton: &Automaton) {
        let section = Section::Automaton;
        let &Automaton { pattern, start, states, classes, data: Span { start: at, count } } = automaton;
        self.text(pattern, section);
        self.ensure(start < states && states <= u32::from(u16::MAX), section, "a state does not exist");
        self.ensure((1..=256).contains(&classes), section, "a class does not exist");
        let bytes = self.reader.section(Section::AutomatonData);
        self.range(automaton.data, bytes.len() as u32, 1, section);
        let ends = u64::from(states).next_multiple_of(2);
        let table = u64::from(states).saturating_mul(u64::from(classes)).saturating_mul(2);
        let whole = table.saturating_add(ends + 256);
        self.ensure(
            at.is_multiple_of(2) && u64::from(count) == whole,
            section,
            "its data have another length",
        );
        let data = bytes.get(at as usize..).and_then(|rest| rest.get(..count as usize)).unwrap_or_default();
        let (map, rest) = data.split_at_checked(256).unwrap_or_default();
        let (_, transitions) = rest.split_at_checked(ends as usize).unwrap_or_default();
        let classified = map.iter().all(|class| u32::from(*class) < classes);
        self.ensure(classified, Section::AutomatonData, "a class does not exist");
        let (transitions, _) = transitions.as_chunks::<2>();
        let lead_on = transitions.iter().all(|next| u32::from(u16::from_le_bytes(*next)) < states);
        self.ensure(lead_on, Section::AutomatonData, "a state does not exist");
    }
}
