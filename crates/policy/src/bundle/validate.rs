//! The one check that a bundle goes through.
//!
//! Lists in other sections lie one behind the other in the order of their owners, without gaps. That keeps the check linear
//! in the bundle's size whatever the bytes say, and leaves one way to write a bundle.

use super::format::{
    ACCEPT, Instruction, Interval, Layer, Model, NONE, Override, OverrideValue, REJECT, ROUTE_NAMES, Record,
    Route, Section, Segment, Set, Table, Target, Test, Variant, Word, unit_fields,
};
use super::{Bundle, LoadError, placement};
use crate::{BUCKETS, Field, Step};

pub(super) fn validate(bundle: &Bundle) -> Result<(), LoadError> {
    let strings = strings(bundle)?;
    records_are_whole(bundle)?;
    let validator = Validator { bundle, strings };
    validator.sets()?;
    validator.models_and_layers()?;
    let programs = validator.segments()?;
    validator.routes(programs)
}

/// Checks the string table and returns the number of strings.
fn strings(bundle: &Bundle) -> Result<u32, LoadError> {
    let section = Section::StringOffsets;
    let offsets = bundle.table::<Word>(section);
    let bytes = bundle.bytes(Section::StringBytes);
    let text = std::str::from_utf8(bytes).map_err(|_| malformed(Section::StringBytes, "it is not UTF-8"))?;
    let count = offsets.len().checked_sub(1).ok_or_else(|| malformed(section, "it is empty"))?;
    let mut before = 0;
    for offset in offsets.iter() {
        ensure(offset.value >= before, section, "an offset lies before the one before it")?;
        ensure(text.is_char_boundary(offset.value as usize), section, "an offset lies within a character")?;
        before = offset.value;
    }
    ensure(offsets.get(0).value == 0, section, "the first offset is not 0")?;
    ensure(before as usize == bytes.len(), section, "the last offset is not the end of the strings")?;
    Ok(count)
}

fn records_are_whole(bundle: &Bundle) -> Result<(), LoadError> {
    let whole = |section: Section, size: usize| {
        ensure(
            bundle.bytes(section).len().is_multiple_of(size),
            section,
            "its length is no multiple of a record",
        )
    };
    whole(Section::StringOffsets, Word::SIZE)?;
    whole(Section::Routes, Route::SIZE)?;
    whole(Section::Variants, Variant::SIZE)?;
    whole(Section::Models, Model::SIZE)?;
    whole(Section::Layers, Layer::SIZE)?;
    whole(Section::Overrides, Override::SIZE)?;
    whole(Section::OverrideValues, OverrideValue::SIZE)?;
    whole(Section::Targets, Target::SIZE)?;
    whole(Section::Intervals, Interval::SIZE)?;
    whole(Section::Segments, Segment::SIZE)?;
    whole(Section::Programs, Instruction::SIZE)?;
    whole(Section::Sets, Set::SIZE)?;
    whole(Section::SetMembers, Word::SIZE)?;
    whole(Section::SetTables, Word::SIZE)
}

struct Validator<'b> {
    bundle: &'b Bundle,
    strings: u32,
}

impl<'b> Validator<'b> {
    fn table<R: Record>(&self, section: Section) -> Table<'b, R> {
        self.bundle.table(section)
    }

    fn is_string(&self, index: u32, section: Section) -> Result<(), LoadError> {
        ensure(index < self.strings, section, "a string does not exist")
    }

    fn is_optional_string(&self, index: u32, section: Section) -> Result<(), LoadError> {
        ensure(index == NONE || index < self.strings, section, "a string does not exist")
    }

    fn sets(&self) -> Result<(), LoadError> {
        let section = Section::Sets;
        let mut members = Run::new(self.table::<Word>(Section::SetMembers).len());
        let mut slots = Run::new(self.table::<Word>(Section::SetTables).len());
        for set in self.table::<Set>(section).iter() {
            members.take(set.members_start, set.members_count, section)?;
            slots.take(set.table_start, set.table_len, section)?;
            let fits = set.table_len == 0 || set.table_len.is_power_of_two();
            ensure(fits, section, "a table's length is no power of two")?;
            for slot in self.table::<Word>(Section::SetTables).range(set.table_start, set.table_len) {
                ensure(slot.value <= set.members_count, Section::SetTables, "a member does not exist")?;
            }
        }
        members.finish(Section::SetMembers)?;
        slots.finish(Section::SetTables)?;
        self.table::<Word>(Section::SetMembers)
            .iter()
            .try_for_each(|member| self.is_string(member.value, Section::SetMembers))
    }

    fn models_and_layers(&self) -> Result<(), LoadError> {
        let models = self.table::<Model>(Section::Models);
        for model in models.iter() {
            self.is_string(model.name, Section::Models)?;
            self.is_string(model.version, Section::Models)?;
            ensure(placement(model.placement).is_some(), Section::Models, "a placement does not exist")?;
        }
        let digests = self.bundle.bytes(Section::Digests).len();
        ensure(
            digests == (models.len() as usize).saturating_mul(32),
            Section::Digests,
            "not one digest per model",
        )?;
        for layer in self.table::<Layer>(Section::Layers).iter() {
            self.is_string(layer.name, Section::Layers)?;
            self.is_string(layer.salt, Section::Layers)?;
        }
        Ok(())
    }

    /// Checks the segments and returns the run of programs behind theirs.
    fn segments(&self) -> Result<Run, LoadError> {
        let mut programs = Run::new(self.table::<Instruction>(Section::Programs).len());
        for segment in self.table::<Segment>(Section::Segments).iter() {
            self.is_string(segment.name, Section::Segments)?;
            programs.take(segment.program_start, segment.program_len, Section::Segments)?;
            ensure(segment.program_len > 0, Section::Segments, "a segment has no program")?;
            self.program(segment.program_start, segment.program_len, 0)?;
        }
        Ok(programs)
    }

    /// Checks a program, which may ask for the first `segments` segments.
    fn program(&self, start: u32, len: u32, segments: u32) -> Result<(), LoadError> {
        let section = Section::Programs;
        let sets = self.table::<Set>(Section::Sets).len();
        for (instruction, at) in self.table::<Instruction>(section).range(start, len).zip(0..) {
            for target in [instruction.on_true, instruction.on_false] {
                let forward = target > at && target < len;
                ensure(forward || target == ACCEPT || target == REJECT, section, "a jump leads nowhere")?;
            }
            let test =
                Test::of(instruction).ok_or_else(|| malformed(section, "an operation does not exist"))?;
            let (name, set, segment) = match test {
                Test::FieldIn(_, set) => (None, Some(set), None),
                Test::FieldPresent(_) => (None, None, None),
                Test::AttributeIn { name, set } => (Some(name), Some(set), None),
                Test::AttributePresent { name }
                | Test::AttributeNumber { name, .. }
                | Test::AttributeBoolean { name, .. } => (Some(name), None, None),
                Test::Segment(segment) => (None, None, Some(segment)),
            };
            name.map_or(Ok(()), |name| self.is_string(name, section))?;
            ensure(set.is_none_or(|set| set < sets), section, "a set does not exist")?;
            ensure(segment.is_none_or(|segment| segment < segments), section, "a segment does not exist")?;
        }
        Ok(())
    }

    fn routes(&self, mut programs: Run) -> Result<(), LoadError> {
        let section = Section::Routes;
        let routes = self.table::<Route>(section);
        let names = self.table::<Set>(Section::Sets).get(ROUTE_NAMES);
        ensure(
            self.table::<Set>(Section::Sets).len() > 0,
            Section::Sets,
            "the set of route names is missing",
        )?;
        ensure(names.members_count == routes.len(), section, "not one name per route")?;
        let names = self.table::<Word>(Section::SetMembers).range(names.members_start, names.members_count);

        let mut variants = Run::new(self.table::<Variant>(Section::Variants).len());
        let mut overrides = Run::new(self.table::<Override>(Section::Overrides).len());
        let mut values = Run::new(self.table::<OverrideValue>(Section::OverrideValues).len());
        let mut targets = Run::new(self.table::<Target>(Section::Targets).len());
        let mut intervals = Run::new(self.table::<Interval>(Section::Intervals).len());
        let signatures = self.bundle.bytes(Section::Signatures).len() as u64;
        let mut before = None;
        for (route, name) in routes.iter().zip(names) {
            ensure(route.name == name.value, section, "the names are not those of the set of names")?;
            let name = self.bundle.text_bytes(route.name);
            ensure(before.is_none_or(|before| before < name), section, "the routes are not sorted by name")?;
            before = Some(name);
            self.is_optional_string(route.description, section)?;
            ensure(route.baseline < route.variants_count, section, "a baseline does not exist")?;
            let end = u64::from(route.signature_start) + u64::from(route.signature_len);
            ensure(end <= signatures, section, "a signature lies outside its section")?;
            variants.take(route.variants_start, route.variants_count, section)?;
            overrides.take(route.overrides_start, route.overrides_count, section)?;
            targets.take(route.targets_start, route.targets_count, section)?;
            self.variants(&route)?;
            self.overrides(&route, &mut values)?;
            self.targets(&route, &mut programs, &mut intervals)?;
        }
        variants.finish(Section::Variants)?;
        overrides.finish(Section::Overrides)?;
        values.finish(Section::OverrideValues)?;
        targets.finish(Section::Targets)?;
        programs.finish(Section::Programs)?;
        intervals.finish(Section::Intervals)
    }

    fn variants(&self, route: &Route) -> Result<(), LoadError> {
        let section = Section::Variants;
        let models = self.table::<Model>(Section::Models).len();
        for variant in self.table::<Variant>(section).range(route.variants_start, route.variants_count) {
            self.is_string(variant.name, section)?;
            self.is_optional_string(variant.payload, section)?;
            ensure(variant.model < models, section, "a model does not exist")?;
        }
        Ok(())
    }

    fn overrides(&self, route: &Route, values: &mut Run) -> Result<(), LoadError> {
        let section = Section::Overrides;
        let sets = self.table::<Set>(Section::Sets);
        for entry in self.table::<Override>(section).range(route.overrides_start, route.overrides_count) {
            ensure(Field::from_number(entry.field).is_some(), section, "a field does not exist")?;
            ensure(entry.set < sets.len(), section, "a set does not exist")?;
            let count = sets.get(entry.set).members_count;
            values.take(entry.values_start, count, section)?;
            for value in self.table::<OverrideValue>(Section::OverrideValues).range(entry.values_start, count)
            {
                let exists = value.variant < route.variants_count;
                ensure(exists, Section::OverrideValues, "a variant does not exist")?;
            }
        }
        Ok(())
    }

    fn targets(&self, route: &Route, programs: &mut Run, intervals: &mut Run) -> Result<(), LoadError> {
        let section = Section::Targets;
        let segments = self.table::<Segment>(Section::Segments).len();
        let mut before = None;
        for target in self.table::<Target>(section).range(route.targets_start, route.targets_count) {
            let step = u8::try_from(target.step).ok().and_then(Step::from_number);
            let known =
                matches!(step, Some(Step::TestGroup | Step::SymbolRollout | Step::Rule | Step::Default));
            ensure(known, section, "a step does not exist")?;
            ensure(before != Some(Step::Default) && before <= step, section, "the steps are not in order")?;
            before = step;
            let default = step == Some(Step::Default);
            ensure(default == (target.program_len == 0), section, "a condition is missing or one too many")?;
            ensure(default == (target.name == NONE), section, "a name is missing or one too many")?;
            self.is_optional_string(target.name, section)?;
            programs.take(target.program_start, target.program_len, section)?;
            self.program(target.program_start, target.program_len, segments)?;
            intervals.take(target.intervals_start, target.intervals_count, section)?;
            self.served(route, &target)?;
        }
        ensure(before == Some(Step::Default), section, "a route has no default")
    }

    fn served(&self, route: &Route, target: &Target) -> Result<(), LoadError> {
        let section = Section::Targets;
        if target.variant != NONE {
            ensure(target.variant < route.variants_count, section, "a variant does not exist")?;
            return ensure(target.intervals_count == 0, section, "a single variant has a split");
        }
        ensure(target.layer < self.table::<Layer>(Section::Layers).len(), section, "a layer does not exist")?;
        let bytes = target.unit.to_le_bytes();
        let parts = bytes.iter().take_while(|byte| **byte != 0).count();
        let whole = bytes.iter().skip(parts).all(|byte| *byte == 0);
        let known = parts > 0 && unit_fields(target.unit).count() == parts;
        ensure(whole && known, section, "a unit does not exist")?;

        let section = Section::Intervals;
        let mut end = 0;
        for interval in self.table::<Interval>(section).range(target.intervals_start, target.intervals_count)
        {
            ensure(interval.end > end, section, "the intervals are not in order")?;
            ensure(interval.variant < route.variants_count, section, "a variant does not exist")?;
            end = interval.end;
        }
        ensure(end == BUCKETS, section, "the intervals do not cover all buckets")
    }
}

/// Lists that must lie one behind the other in a section of `len` records.
struct Run {
    next: u32,
    len: u32,
}

impl Run {
    fn new(len: u32) -> Self {
        Self { next: 0, len }
    }

    fn take(&mut self, start: u32, count: u32, owner: Section) -> Result<(), LoadError> {
        let end = start.checked_add(count).filter(|end| *end <= self.len);
        let end = end.ok_or_else(|| malformed(owner, "a list lies outside its section"))?;
        ensure(start == self.next, owner, "a list does not begin where the one before ends")?;
        self.next = end;
        Ok(())
    }

    fn finish(&self, section: Section) -> Result<(), LoadError> {
        ensure(self.next == self.len, section, "it holds records that nothing refers to")
    }
}

fn malformed(section: Section, problem: &'static str) -> LoadError {
    LoadError::Malformed { section: section.name(), problem }
}

fn ensure(holds: bool, section: Section, problem: &'static str) -> Result<(), LoadError> {
    if holds { Ok(()) } else { Err(malformed(section, problem)) }
}
