//! Reading a loaded bundle's records in place.

use super::Bundle;
use super::format::{Map, NONE, Record, Section, Set, SetMember, SetSlot, Span, Text};
use crate::hash::probe;

/// A table's place in the bundle.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Table {
    /// The first `u32`, or for plain bytes the first byte.
    pub(super) start: usize,
    /// How many records, or bytes.
    pub(super) count: u32,
}

/// A bundle seen as one row of `u32`. Places come from the bundle itself and have been checked when it was loaded; one
/// that is wrong all the same reads zeros.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'b> {
    bundle: &'b Bundle,
    words: &'b [[u8; 4]],
}

impl<'b> Reader<'b> {
    #[inline]
    pub(super) fn new(bundle: &'b Bundle) -> Self {
        Self { bundle, words: bundle.envelope.as_words() }
    }

    /// The bundle.
    #[inline]
    pub(crate) fn bundle(self) -> &'b Bundle {
        self.bundle
    }

    #[inline]
    fn table(self, section: Section) -> Table {
        self.bundle.tables.get(section as usize).copied().unwrap_or_default()
    }

    /// How many records the section has.
    #[inline]
    pub(crate) fn count<R: Record>(self) -> u32 {
        self.table(R::SECTION).count
    }

    /// The record at `place`.
    #[inline]
    pub(crate) fn get<R: Record>(self, place: u32) -> R {
        let start = self.table(R::SECTION).start.wrapping_add((place as usize).wrapping_mul(R::WORDS));
        self.words.get(start..).map_or_else(R::default, R::read)
    }

    /// The records of a list.
    #[inline]
    pub(crate) fn list<R: Record>(self, span: Span) -> impl Iterator<Item = R> + Clone + use<'b, R> {
        let start = self.table(R::SECTION).start.wrapping_add((span.start as usize).wrapping_mul(R::WORDS));
        let end = start.wrapping_add((span.count as usize).wrapping_mul(R::WORDS));
        self.words.get(start..end).unwrap_or_default().chunks_exact(R::WORDS).map(R::read)
    }

    /// All records of the section.
    pub(crate) fn all<R: Record>(self) -> impl Iterator<Item = R> + Clone + use<'b, R> {
        self.list(Span { start: 0, count: self.count::<R>() })
    }

    /// The bytes of a section that is no table.
    pub(crate) fn section(self, section: Section) -> &'b [u8] {
        let Table { start, count } = self.table(section);
        let bytes = self.bundle.envelope.as_bytes().get(start..);
        bytes.and_then(|rest| rest.get(..count as usize)).unwrap_or_default()
    }

    /// A text; the empty one for no text.
    #[inline]
    pub(crate) fn text(self, text: Text) -> &'b str {
        let start = text.start as usize;
        self.bundle.texts.get(start..start.wrapping_add(text.len as usize)).unwrap_or_default()
    }

    /// A text, unless there is none.
    #[inline]
    pub(crate) fn optional(self, text: Text) -> Option<&'b str> {
        (!text.is_none()).then(|| self.text(text))
    }

    /// Whether a text is this one.
    #[inline]
    pub(crate) fn is(self, text: Text, other: &str) -> bool {
        let part = |len: usize| self.bundle.texts.as_bytes().get(text.start as usize..)?.get(..len);
        text.len as usize == other.len() && part(other.len()).is_some_and(|part| same(part, other.as_bytes()))
    }

    /// The members of a set.
    #[inline]
    pub(crate) fn members(self, set: u32) -> impl Iterator<Item = &'b str> + Clone + use<'b> {
        let set: Set = self.get(set);
        self.list::<SetMember>(set.members).map(move |member| self.text(member.text))
    }

    /// The place of `text` among the members of a set; `hash` gives its [`set_hash`](crate::hash::set_hash).
    #[inline]
    pub(crate) fn find(self, set: u32, text: &str, hash: impl FnOnce() -> u64) -> Option<u32> {
        let set: Set = self.get(set);
        if set.probes & probe(text) == 0 {
            None
        } else if set.slots.is_empty() {
            self.find_among(set.members, text)
        } else {
            self.find_in_slots(&set, text, hash())
        }
    }

    /// The place of `text` among these members of a set, which are few.
    #[inline]
    pub(crate) fn find_among(self, members: Span, text: &str) -> Option<u32> {
        let start =
            self.table(SetMember::SECTION).start.wrapping_add((members.start as usize).wrapping_mul(2));
        let (pairs, _) = self.words.get(start..)?.as_chunks::<2>();
        let pairs = pairs.get(..members.count as usize)?;
        for (member, place) in pairs.iter().zip(0..) {
            let [start, len] = member.map(u32::from_le_bytes);
            if self.is(Text { start, len }, text) {
                return Some(place);
            }
        }
        None
    }

    /// The place of `text`, whose [`set_hash`](crate::hash::set_hash) is `hash`, in a set with a table.
    #[inline(never)]
    pub(crate) fn find_in_slots(self, set: &Set, text: &str, hash: u64) -> Option<u32> {
        // The number of slots is a power of two, so the mask keeps the hash's lower bits.
        let mask = set.slots.count.wrapping_sub(1);
        let (first, upper) = (hash as u32 & mask, (hash >> 32) as u32);
        for step in 0..set.slots.count {
            let slot = first.wrapping_add(step) & mask;
            let slot: SetSlot = self.get(set.slots.start.wrapping_add(slot));
            let member = slot.member.checked_sub(1)?;
            if slot.hash == upper {
                let SetMember { text: have } = self.get(set.members.start.wrapping_add(member));
                if self.is(have, text) {
                    return Some(member);
                }
            }
        }
        None
    }

    /// The place of a map's value for `text`.
    #[inline]
    pub(crate) fn value(self, map: Map, text: &str, hash: impl FnOnce() -> u64) -> Option<u32> {
        if map.set == NONE {
            return None;
        }
        self.find(map.set, text, hash).map(|member| map.values.wrapping_add(member))
    }
}

/// Whether two rows of bytes of one length are equal. What is compared here is short, and a call of the library's comparison
/// would cost more than comparing.
#[inline]
fn same(one: &[u8], other: &[u8]) -> bool {
    let eight = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
    let four = |bytes: &[u8; 4]| u32::from_le_bytes(*bytes);
    // The last bytes are compared as a whole, some of them for the second time.
    if let (Some(last), Some(other_last)) = (one.last_chunk(), other.last_chunk()) {
        let (words, other_words) = (one.as_chunks().0, other.as_chunks().0);
        return eight(last) == eight(other_last)
            && words.iter().zip(other_words).all(|(one, other)| eight(one) == eight(other));
    }
    match (one.first_chunk(), one.last_chunk(), other.first_chunk(), other.last_chunk()) {
        (Some(first), Some(last), Some(other_first), Some(other_last)) => {
            four(first) == four(other_first) && four(last) == four(other_last)
        }
        _ => one.iter().zip(other).all(|(one, other)| one == other),
    }
}

#[cfg(test)]
mod tests {
    use super::same;

    #[test]
    fn rows_are_equal_when_every_byte_is() {
        for len in 0..40_u8 {
            let one: Vec<u8> = (0..len).collect();
            assert!(same(&one, &one.clone()));
            for at in 0..usize::from(len) {
                let mut other = one.clone();
                other[at] ^= 0x80;
                assert!(!same(&one, &other), "{len} bytes, byte {at}");
            }
        }
    }
}
