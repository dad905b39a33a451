//! Tests of a text that is there.

use crate::bundle::Reader;
use crate::bundle::format::{Automaton, Comparator, Section, TextTest, VersionRelation};
use crate::semver::Version;

/// Whether a text fulfils a test. Those for membership need its hash and are made where that is known.
pub(super) fn holds(reader: Reader<'_>, test: TextTest, text: &str) -> bool {
    let bytes = text.as_bytes();
    let any = |set: u32, fulfils: fn(&[u8], &[u8]) -> bool| {
        reader.members(set).any(|member| fulfils(bytes, member.as_bytes()))
    };
    match test {
        TextTest::Prefix(set) => any(set, <[u8]>::starts_with),
        TextTest::Suffix(set) => any(set, <[u8]>::ends_with),
        TextTest::Contains(set) => any(set, contains),
        TextTest::Matches(automaton) => matches(reader, &reader.get(automaton), bytes),
        TextTest::Version(comparators) => Version::parse(text).is_some_and(|version| {
            reader.list::<Comparator>(comparators).all(|comparator| {
                let relation = VersionRelation::from_number(comparator.relation);
                let wanted = Version::parse(reader.text(comparator.version));
                relation
                    .zip(wanted)
                    .is_some_and(|(relation, wanted)| relation.holds(version.precedence(&wanted)))
            })
        }),
        TextTest::Present | TextTest::In(_) | TextTest::Listed(_) => false,
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    // `windows` refuses the empty part, which every text contains.
    part.is_empty() || bytes.windows(part.len()).any(|window| window == part)
}

/// Whether the automaton finds a match: one step for each byte.
fn matches(reader: Reader<'_>, automaton: &Automaton, bytes: &[u8]) -> bool {
    let data =
        reader.section(Section::AutomatonData).get(automaton.data.start as usize..).unwrap_or_default();
    let Some((classes, data)) = data.split_first_chunk::<256>() else { return false };
    let states = automaton.states as usize;
    let Some((ends, transitions)) = data.split_at_checked(states + (states & 1)) else { return false };
    let (transitions, _) = transitions.as_chunks::<2>();
    let mut state = automaton.start as usize;
    for byte in bytes {
        if state <= 1 {
            break;
        }
        let class = classes.get(usize::from(*byte)).copied().unwrap_or_default();
        let next =
            transitions.get(state.wrapping_mul(automaton.classes as usize).wrapping_add(usize::from(class)));
        state = next.map_or(0, |next| usize::from(u16::from_le_bytes(*next)));
    }
    state == 1 || ends.get(state).is_some_and(|end| *end != 0)
}

#[cfg(test)]
mod tests {
    use super::contains;

    #[test]
    fn a_text_contains_its_parts() {
        let check = |text: &str, part: &str| {
            assert_eq!(contains(text.as_bytes(), part.as_bytes()), text.contains(part));
        };
        for text in ["", "a", "abcabd", "Zoë"] {
            for part in ["", "a", "b", "abd", "abcabd", "abcabda", "ë"] {
                check(text, part);
            }
        }
    }
}
