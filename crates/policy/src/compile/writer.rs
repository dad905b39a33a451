use std::collections::BTreeMap;

use crate::bundle::format::{Instruction, Layer as LayerRecord, REJECT, Record, Section, Set, Word};
use crate::hash::set_hash;
use crate::policy::Layer;

/// Sets up to this size have no table: comparing a few short texts costs less than hashing one.
const SMALL_SET: usize = 8;

/// Collects the sections of a bundle. Texts, sets and layers that are equal are stored once.
#[derive(Default)]
pub(super) struct Writer {
    sections: [(Vec<u8>, u32); Section::ALL.len()],
    texts: BTreeMap<String, u32>,
    text_bytes: Vec<u8>,
    text_ends: Vec<u32>,
    sets: BTreeMap<Vec<u32>, u32>,
    layers: BTreeMap<(String, String), u32>,
}

/// A length as the bundle writes it; one that is too large is noticed when the sections are finished.
pub(super) fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

impl Writer {
    /// The number of records in a section so far.
    pub(super) fn len(&self, section: Section) -> u32 {
        self.sections.get(section as usize).map_or(0, |(_, len)| *len)
    }

    pub(super) fn push(&mut self, section: Section, record: &impl Record) {
        if let Some((bytes, len)) = self.sections.get_mut(section as usize) {
            record.write(bytes);
            *len = len.saturating_add(1);
        }
    }

    /// Appends bytes and returns where they lie.
    pub(super) fn bytes(&mut self, section: Section, bytes: &[u8]) -> (u32, u32) {
        let Some((all, len)) = self.sections.get_mut(section as usize) else { return (0, 0) };
        let start = *len;
        all.extend_from_slice(bytes);
        *len = count(all.len());
        (start, count(bytes.len()))
    }

    pub(super) fn text(&mut self, text: &str) -> u32 {
        if let Some(index) = self.texts.get(text) {
            return *index;
        }
        let index = count(self.texts.len());
        self.texts.insert(text.to_owned(), index);
        self.text_bytes.extend_from_slice(text.as_bytes());
        self.text_ends.push(count(self.text_bytes.len()));
        index
    }

    pub(super) fn layer(&mut self, layer: &Layer) -> u32 {
        let key = (layer.name.clone(), layer.salt.clone());
        if let Some(index) = self.layers.get(&key) {
            return *index;
        }
        let record = LayerRecord { name: self.text(&layer.name), salt: self.text(&layer.salt) };
        let index = self.len(Section::Layers);
        self.push(Section::Layers, &record);
        self.layers.insert(key, index);
        index
    }

    /// The set of the routes' names, which must be the first set.
    pub(super) fn route_names<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        self.set(names);
    }

    /// A set of texts; `members` are sorted and unique.
    pub(super) fn set<'a>(&mut self, members: impl Iterator<Item = &'a str>) -> u32 {
        let texts: Vec<&str> = members.collect();
        let members: Vec<u32> = texts.iter().map(|text| self.text(text)).collect();
        if let Some(index) = self.sets.get(&members) {
            return *index;
        }
        let mut table = Vec::new();
        if texts.len() > SMALL_SET {
            table = vec![0_u32; texts.len().saturating_mul(2).next_power_of_two()];
            let mask = table.len().saturating_sub(1);
            for (text, member) in texts.iter().zip(1..) {
                // The table is at most half full, so an empty slot comes.
                let mut slot = set_hash(text) as usize & mask;
                while table.get(slot).is_some_and(|taken| *taken != 0) {
                    slot = (slot + 1) & mask;
                }
                if let Some(slot) = table.get_mut(slot) {
                    *slot = member;
                }
            }
        }
        let record = Set {
            members_start: self.len(Section::SetMembers),
            members_count: count(members.len()),
            table_start: self.len(Section::SetTables),
            table_len: count(table.len()),
        };
        members.iter().for_each(|member| self.push(Section::SetMembers, &Word { value: *member }));
        table.iter().for_each(|slot| self.push(Section::SetTables, &Word { value: *slot }));
        let index = self.len(Section::Sets);
        self.push(Section::Sets, &record);
        self.sets.insert(members, index);
        index
    }

    /// Appends a program and returns where it lies.
    pub(super) fn program(&mut self, code: &[Instruction]) -> (u32, u32) {
        let start = self.len(Section::Programs);
        code.iter().for_each(|instruction| self.push(Section::Programs, instruction));
        (start, count(code.len()))
    }

    /// The sections, or what makes them unwritable.
    pub(super) fn finish(mut self) -> Result<Vec<(Section, Vec<u8>)>, &'static str> {
        self.push(Section::StringOffsets, &Word { value: 0 });
        for end in std::mem::take(&mut self.text_ends) {
            self.push(Section::StringOffsets, &Word { value: end });
        }
        let text_bytes = std::mem::take(&mut self.text_bytes);
        self.bytes(Section::StringBytes, &text_bytes);
        // The two highest numbers stand for something else.
        if self.sections.iter().any(|(_, len)| *len >= REJECT) {
            return Err("the policy is too large for one bundle; split it into several");
        }
        Ok(Section::ALL
            .iter()
            .copied()
            .zip(self.sections)
            .map(|(section, (bytes, _))| (section, bytes))
            .collect())
    }
}
