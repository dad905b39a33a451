use std::collections::BTreeMap;

use crate::automaton;
use crate::bundle::format::{
    self, Attribute, Comparator, FIELDS, Layer as LayerRecord, REJECT, Record, Section, Set, SetMember,
    SetSlot, Span, Text, UnitPart as UnitPartRecord, VariantPlace, VersionRelation, field_unit,
};
use crate::hash::{probe, set_hash};
use crate::policy::{Layer, Unit, UnitPart, VersionComparison, Window};

/// Sets up to this size have no table: comparing a few short texts costs less than hashing one.
const SMALL_SET: usize = 8;

/// The longest list that is stored once for all who have it.
const LONGEST_SHARED: usize = 16;

/// Collects the sections of a bundle. Texts, sets and other records that are referred to from several places are stored
/// once.
pub(super) struct Writer {
    /// Bytes and number of records (of bytes, for a section of plain bytes) of every section.
    sections: Vec<(Vec<u8>, u32)>,
    texts: BTreeMap<String, Text>,
    sets: BTreeMap<Vec<Text>, u32>,
    automata: BTreeMap<String, u32>,
    /// Lists of records, as they are written, by section.
    lists: BTreeMap<(usize, Vec<u8>), Span>,
    /// The first thing that could not be written.
    failure: Option<String>,
}

/// A length as the bundle writes it; one that is too large is noticed when the sections are finished.
pub(super) fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

impl Writer {
    pub(super) fn new() -> Self {
        Self {
            sections: Section::ALL.iter().map(|_| (Vec::new(), 0)).collect(),
            texts: BTreeMap::new(),
            sets: BTreeMap::new(),
            automata: BTreeMap::new(),
            lists: BTreeMap::new(),
            failure: None,
        }
    }

    /// The number of records so far.
    pub(super) fn len<R: Record>(&self) -> u32 {
        self.sections.get(R::SECTION as usize).map_or(0, |(_, len)| *len)
    }

    /// Appends a record and returns its place.
    pub(super) fn push<R: Record>(&mut self, record: &R) -> u32 {
        let Some((bytes, len)) = self.sections.get_mut(R::SECTION as usize) else { return 0 };
        let place = *len;
        record.write(bytes);
        *len = len.saturating_add(1);
        place
    }

    /// Appends records and returns where they lie.
    pub(super) fn push_all<R: Record>(&mut self, records: &[R]) -> Span {
        let start = self.len::<R>();
        for record in records {
            self.push(record);
        }
        Span { start, count: count(records.len()) }
    }

    /// Where these records lie one behind the other; appends them the first time. Long lists are appended every time: a
    /// loader wants a bundle's lists to be about as long as the bundle.
    pub(super) fn shared_all<R: Record>(&mut self, records: &[R]) -> Span {
        if records.len() > LONGEST_SHARED {
            return self.push_all(records);
        }
        let mut bytes = Vec::new();
        records.iter().for_each(|record| record.write(&mut bytes));
        let key = (R::SECTION as usize, bytes);
        if let Some(span) = self.lists.get(&key) {
            return *span;
        }
        let span = self.push_all(records);
        self.lists.insert(key, span);
        span
    }

    /// The place of this record; appends it the first time.
    pub(super) fn shared<R: Record>(&mut self, record: R) -> u32 {
        self.shared_all(&[record]).start
    }

    /// Appends bytes to a section of plain bytes and returns where they lie.
    pub(super) fn bytes(&mut self, section: Section, bytes: &[u8]) -> Span {
        let Some((all, len)) = self.sections.get_mut(section as usize) else { return Span::default() };
        let start = *len;
        all.extend_from_slice(bytes);
        *len = count(all.len());
        Span { start, count: count(bytes.len()) }
    }

    pub(super) fn text(&mut self, text: &str) -> Text {
        if let Some(place) = self.texts.get(text) {
            return *place;
        }
        let Span { start, count: len } = self.bytes(Section::Texts, text.as_bytes());
        let place = Text { start, len };
        self.texts.insert(text.to_owned(), place);
        place
    }

    pub(super) fn optional_text(&mut self, text: Option<&str>) -> Text {
        text.map_or(Text::NONE, |text| self.text(text))
    }

    pub(super) fn layer(&mut self, layer: &Layer) -> u32 {
        let (name, salt) = (self.text(&layer.name), self.text(&layer.salt));
        self.shared(LayerRecord { name, salt, algorithm: layer.algorithm.number().into() })
    }

    pub(super) fn attribute(&mut self, name: &str) -> u32 {
        let name = self.text(name);
        self.shared(Attribute { name })
    }

    pub(super) fn unit(&mut self, unit: &Unit) -> u32 {
        if let [UnitPart::Field(field)] = unit.parts() {
            return field_unit(*field);
        }
        let part = |part: &UnitPart| match part {
            UnitPart::Field(field) => UnitPartRecord { part: field.number() },
            UnitPart::Attribute(name) => UnitPartRecord { part: FIELDS.saturating_add(self.attribute(name)) },
        };
        let parts: Vec<UnitPartRecord> = unit.parts().iter().map(part).collect();
        let parts = self.shared_all(&parts);
        FIELDS.saturating_add(self.shared(format::Unit { parts }))
    }

    /// The place of a window of time; [`NONE`](format::NONE) for all of time.
    pub(super) fn window(&mut self, window: Window) -> u32 {
        if window == Window::default() {
            return format::NONE;
        }
        let last = window.until.map_or(i64::MAX, |until| until.saturating_sub(1));
        self.shared(format::Window { first: window.from.unwrap_or(i64::MIN), last })
    }

    /// What a decision says about the step that matched; [`NONE`](format::NONE) when it says nothing.
    pub(super) fn label(&mut self, name: Option<&str>, layer: u32) -> u32 {
        if name.is_none() && layer == format::NONE {
            return format::NONE;
        }
        let name = self.optional_text(name);
        self.shared(format::Label { name, layer })
    }

    pub(super) fn variant_places(&mut self, places: &[u32]) -> Span {
        let places: Vec<VariantPlace> =
            places.iter().map(|variant| VariantPlace { variant: *variant }).collect();
        self.shared_all(&places)
    }

    pub(super) fn comparators(&mut self, comparators: &[(VersionComparison, semver::Version)]) -> Span {
        let mut record = |(comparison, version): &(VersionComparison, semver::Version)| {
            let relation = match comparison {
                VersionComparison::Equal => VersionRelation::Equal,
                VersionComparison::NotEqual => VersionRelation::NotEqual,
                VersionComparison::Less => VersionRelation::Less,
                VersionComparison::LessOrEqual => VersionRelation::LessOrEqual,
                VersionComparison::Greater => VersionRelation::Greater,
                VersionComparison::GreaterOrEqual => VersionRelation::GreaterOrEqual,
            };
            let version = semver::Version { build: semver::BuildMetadata::EMPTY, ..version.clone() };
            Comparator { relation: relation.number(), version: self.text(&version.to_string()) }
        };
        let records: Vec<Comparator> = comparators.iter().map(&mut record).collect();
        self.shared_all(&records)
    }

    /// The automaton of a regular expression.
    pub(super) fn automaton(&mut self, pattern: &str) -> u32 {
        if let Some(place) = self.automata.get(pattern) {
            return *place;
        }
        let automaton = match automaton::build(pattern) {
            Ok(automaton) => automaton,
            Err(problem) => {
                // A checked policy has no such expression.
                self.fail(format!("`{pattern}`: {problem}"));
                return 0;
            }
        };
        // Data of odd length would put those behind them on an odd place.
        let mut data = automaton.data;
        let len = data.len();
        data.resize(len.next_multiple_of(2), 0);
        let Span { start, .. } = self.bytes(Section::AutomatonData, &data);
        let record = format::Automaton {
            pattern: self.text(pattern),
            start: automaton.start,
            states: automaton.states,
            classes: automaton.classes,
            data: Span { start, count: count(len) },
        };
        let place = self.push(&record);
        self.automata.insert(pattern.to_owned(), place);
        place
    }

    /// A set of texts.
    pub(super) fn set<'a>(&mut self, members: impl IntoIterator<Item = &'a str>) -> u32 {
        let mut texts: Vec<&str> = members.into_iter().collect();
        texts.sort_unstable();
        texts.dedup();
        let members: Vec<Text> = texts.iter().map(|text| self.text(text)).collect();
        if let Some(place) = self.sets.get(&members) {
            return *place;
        }
        let records: Vec<SetMember> = members.iter().map(|text| SetMember { text: *text }).collect();
        let set = Set {
            members: self.push_all(&records),
            slots: self.push_all(&slots(&texts)),
            probes: texts.iter().fold(0, |probes, text| probes | probe(text)),
        };
        let place = self.push(&set);
        self.sets.insert(members, place);
        place
    }

    /// Remembers why the bundle cannot be written.
    pub(super) fn fail(&mut self, problem: String) {
        self.failure.get_or_insert(problem);
    }

    /// The sections that are not empty, or what makes them unwritable.
    pub(super) fn finish(self) -> Result<Vec<(Section, Vec<u8>)>, String> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        // The two highest numbers stand for something else.
        if self.sections.iter().any(|(_, len)| *len >= REJECT) {
            return Err("the policy is too large for one bundle; split it into several".to_owned());
        }
        let sections = Section::ALL.iter().copied().zip(self.sections);
        let sections = sections.map(|(section, (bytes, _))| (section, bytes));
        Ok(sections.filter(|(_, bytes)| !bytes.is_empty()).collect())
    }
}

/// The hash table of a set; none for a small one.
fn slots(members: &[&str]) -> Vec<SetSlot> {
    if members.len() <= SMALL_SET {
        return Vec::new();
    }
    let mut slots = vec![SetSlot::default(); members.len().saturating_mul(2).next_power_of_two()];
    let mask = slots.len().saturating_sub(1);
    for (text, member) in members.iter().zip(1..) {
        let hash = set_hash(text);
        // The table is at most half full, so an empty slot comes.
        let mut place = hash as usize & mask;
        while slots.get(place).is_some_and(|slot| slot.member != 0) {
            place = (place + 1) & mask;
        }
        if let Some(slot) = slots.get_mut(place) {
            *slot = SetSlot { hash: (hash >> 32) as u32, member };
        }
    }
    slots
}
