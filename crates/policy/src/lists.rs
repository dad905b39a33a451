//! Lists of up to millions of units, in objects of their own that a bundle names by digest.
//!
//! A list is cut into *shards* by the uppermost bits of its units' hashes. Only a shard that would be larger than 256 KiB is
//! halved, so shards are ranges of uneven width, and a unit more or less changes one of them (or makes two of it) and leaves the
//! others, and so their digests, as they are. Each shard is an envelope of kind "unit list" with two sections:
//!
//! - `directory`: little-endian `u32`, one more than a power of two; entry n is the offset of the first unit whose hash ends in
//!   the bits of n, and the last one is the length of the units;
//! - `units`: the units, those of one entry in the order of their bytes, each behind its length: one byte below 255, or 255
//!   and a little-endian `u32`.

use lockgate_package::{AlignedBytes, Digest, Envelope, Kind, SectionRange};

use crate::LoadError;

#[cfg(feature = "compiler")]
pub(crate) use build::{Shard, shards};

const DIRECTORY: &str = "directory";
const UNITS: &str = "units";

/// The newest format that this code reads and the one that it writes.
const FORMAT: (u16, u16) = (1, 0);

/// A shard of a list of units. It owns its bytes and reads them where they lie.
#[derive(Debug, Clone)]
pub struct ListObject {
    envelope: Envelope,
    directory: SectionRange,
    units: SectionRange,
}

impl ListObject {
    /// Opens a shard and checks it once, so that looking up has nothing left to fail on.
    ///
    /// # Errors
    /// An envelope that cannot be opened (not one, damaged, of another kind or a newer format), or one whose content makes
    /// no sense.
    pub fn open(bytes: AlignedBytes) -> Result<Self, LoadError> {
        let envelope = Envelope::open(bytes, Kind::UnitList, FORMAT)?;
        let digest = envelope.digest();
        let missing = |problem| LoadError::MalformedList { digest, problem };
        let directory = envelope.section(DIRECTORY).ok_or_else(|| missing("it has no directory"))?;
        let units = envelope.section(UNITS).ok_or_else(|| missing("it has no units"))?;
        let list = Self { envelope, directory, units };
        list.check()?;
        Ok(list)
    }

    /// What the bundle calls it: SHA-256 of its content.
    pub fn digest(&self) -> Digest {
        self.envelope.digest()
    }

    /// The bytes as they were loaded.
    pub fn as_bytes(&self) -> &[u8] {
        self.envelope.as_bytes()
    }

    /// The units, in the order of the file. One that is not UTF-8, which no compiler writes, is empty.
    pub fn units(&self) -> impl Iterator<Item = &str> {
        Units(self.envelope.bytes_of(self.units)).map(|unit| std::str::from_utf8(unit).unwrap_or_default())
    }

    /// Whether `unit` is in this shard; `hash` is its [`set_hash`](crate::hash::set_hash).
    pub(crate) fn contains(&self, hash: u64, unit: &str) -> bool {
        let (offsets, _) = self.envelope.bytes_of(self.directory).as_chunks::<4>();
        let mask = offsets.len().saturating_sub(2);
        let [start, end] = [0, 1].map(|next| {
            let offset = offsets.get((hash as usize & mask) + next).copied().unwrap_or_default();
            u32::from_le_bytes(offset) as usize
        });
        let units = self.envelope.bytes_of(self.units).get(start..end).unwrap_or_default();
        Units(units).any(|have| have == unit.as_bytes())
    }

    fn check(&self) -> Result<(), LoadError> {
        let digest = self.digest();
        let ensure =
            |holds, problem| if holds { Ok(()) } else { Err(LoadError::MalformedList { digest, problem }) };
        let (offsets, rest) = self.envelope.bytes_of(self.directory).as_chunks::<4>();
        let entries = offsets.len().saturating_sub(1);
        ensure(
            rest.is_empty() && entries.is_power_of_two(),
            "the length of its directory is no power of two and one",
        )?;
        let units = self.envelope.bytes_of(self.units);
        let mut start = 0;
        for (offset, at) in offsets.iter().zip(0..) {
            let end = u32::from_le_bytes(*offset) as usize;
            ensure(at > 0 || end == 0, "its directory does not begin at 0")?;
            let within = units.get(start..end).unwrap_or_default();
            ensure(within.len() == end.wrapping_sub(start), "its directory is not in order")?;
            let read = Units(within).map(<[u8]>::len).try_fold(0, read);
            ensure(read == Some(within.len()), "a unit is cut off")?;
            start = end;
        }
        ensure(start == units.len(), "there are units behind the directory's end")
    }
}

/// How much has been read when a unit of `len` bytes follows `before` bytes.
fn read(before: usize, len: usize) -> Option<usize> {
    let prefix = if len < LONG { 1 } else { 5 };
    before.checked_add(prefix)?.checked_add(len)
}

/// The first length that takes five bytes.
const LONG: usize = 255;

/// Units one behind the other; ends early where one is cut off.
struct Units<'b>(&'b [u8]);

impl<'b> Iterator for Units<'b> {
    type Item = &'b [u8];

    fn next(&mut self) -> Option<&'b [u8]> {
        let (&len, rest) = self.0.split_first()?;
        let (len, rest) = if usize::from(len) < LONG {
            (usize::from(len), rest)
        } else {
            let (len, rest) = rest.split_first_chunk::<4>()?;
            (u32::from_le_bytes(*len) as usize, rest)
        };
        let (unit, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some(unit)
    }
}

#[cfg(feature = "compiler")]
mod build {
    use lockgate_package::{EnvelopeBuilder, EnvelopeError, Kind};

    use super::{DIRECTORY, FORMAT, LONG, UNITS};
    use crate::bundle::format::MAX_SHARD_BITS;
    use crate::hash::set_hash;

    /// The most bytes of units and directory that a shard has, unless it is of one unit or of equal hashes.
    const MAX_BYTES: usize = 256 * 1024;
    /// Units to an entry of the directory, about.
    const PER_ENTRY: usize = 4;

    /// A shard on its way into the bundle.
    pub(crate) struct Shard {
        /// How many of the uppermost bits of a hash its units have in common. The shards of a list are in the order of these
        /// bits and cover all.
        pub(crate) depth: u32,
        /// The envelope.
        pub(crate) bytes: Vec<u8>,
    }

    /// The shards of a list, whatever the order and number of times in which its units come.
    ///
    /// # Errors
    /// A unit of 4 GiB and more.
    pub(crate) fn shards<'a>(units: impl IntoIterator<Item = &'a str>) -> Result<Vec<Shard>, EnvelopeError> {
        let mut units: Vec<(u64, &str)> = units.into_iter().map(|unit| (set_hash(unit), unit)).collect();
        units.sort_unstable();
        units.dedup();
        let mut shards = Vec::new();
        split(&mut units, 0, 0, &mut shards)?;
        Ok(shards)
    }

    /// Writes the units, whose hashes agree in the upper `depth` bits with `first`, as one shard or as the shards of their
    /// halves. The units are sorted by hash.
    fn split(
        units: &mut [(u64, &str)],
        first: u64,
        depth: u32,
        shards: &mut Vec<Shard>,
    ) -> Result<(), EnvelopeError> {
        let bytes: usize = units.iter().map(|(_, unit)| unit.len() + 1 + 4 / PER_ENTRY).sum();
        if bytes <= MAX_BYTES || units.len() == 1 || depth == MAX_SHARD_BITS {
            shards.push(Shard { depth, bytes: seal(units)? });
            return Ok(());
        }
        let middle = first | 1 << (u64::BITS - 1 - depth);
        let (lower, upper) = units.split_at_mut(units.partition_point(|(hash, _)| *hash < middle));
        split(lower, first, depth + 1, shards)?;
        split(upper, middle, depth + 1, shards)
    }

    fn seal(units: &mut [(u64, &str)]) -> Result<Vec<u8>, EnvelopeError> {
        let entries = (units.len() / PER_ENTRY).max(1).next_power_of_two();
        let entry = |hash: u64| hash as usize & (entries - 1);
        units.sort_unstable_by_key(|(hash, unit)| (entry(*hash), *unit));
        let mut directory = Vec::with_capacity((entries + 1) * 4);
        let mut bytes = Vec::new();
        let mut units = units.iter().peekable();
        for at in 0..entries {
            directory.extend_from_slice(&length(bytes.len())?.to_le_bytes());
            while let Some((_, unit)) = units.next_if(|(hash, _)| entry(*hash) == at) {
                match u8::try_from(unit.len()) {
                    Ok(len) if usize::from(len) < LONG => bytes.push(len),
                    _ => {
                        bytes.push(u8::MAX);
                        bytes.extend_from_slice(&length(unit.len())?.to_le_bytes());
                    }
                }
                bytes.extend_from_slice(unit.as_bytes());
            }
        }
        directory.extend_from_slice(&length(bytes.len())?.to_le_bytes());
        let mut builder = EnvelopeBuilder::new(Kind::UnitList, FORMAT, Vec::new());
        builder.section(DIRECTORY, directory).section(UNITS, bytes);
        builder.seal()
    }

    fn length(len: usize) -> Result<u32, EnvelopeError> {
        u32::try_from(len).map_err(|_| EnvelopeError::Malformed {
            what: "unit list",
            problem: "a unit of 4 GiB and more".to_owned(),
        })
    }
}

#[cfg(test)]
#[cfg(feature = "compiler")]
mod tests {
    use std::collections::BTreeSet;

    use lockgate_package::EnvelopeBuilder;
    use proptest::prelude::*;

    use super::*;
    use crate::hash::set_hash;

    /// The shards of a list, opened.
    fn load(units: &[String]) -> Vec<(u64, ListObject)> {
        let shards = shards(units.iter().map(String::as_str)).unwrap();
        let mut end = 0_u128;
        let loaded = shards.into_iter().map(|shard| {
            end += 1 << (64 - shard.depth);
            ((end - 1) as u64, open(&shard.bytes).unwrap())
        });
        let loaded: Vec<_> = loaded.collect();
        assert_eq!(loaded.last().unwrap().0, u64::MAX, "the shards cover all hashes");
        loaded
    }

    fn open(bytes: &[u8]) -> Result<ListObject, LoadError> {
        ListObject::open(AlignedBytes::copy_of(bytes))
    }

    fn contains(shards: &[(u64, ListObject)], unit: &str) -> bool {
        let hash = set_hash(unit);
        shards[shards.partition_point(|(last, _)| *last < hash)].1.contains(hash, unit)
    }

    fn digests(shards: &[(u64, ListObject)]) -> BTreeSet<String> {
        shards.iter().map(|(_, shard)| shard.digest().to_string()).collect()
    }

    #[test]
    fn a_large_list_finds_its_units_and_no_other() {
        let units: Vec<String> = (0..100_000).map(|n| format!("user-{n:07}")).collect();
        let shards = load(&units);
        assert!(shards.len() > 4, "{}", shards.len());
        assert_eq!(shards.iter().map(|(_, shard)| shard.units().count()).sum::<usize>(), units.len());
        let bytes: usize = shards.iter().map(|(_, shard)| shard.as_bytes().len()).sum();
        assert!(bytes < 16 * units.len(), "{bytes}");
        assert!(shards.iter().all(|(_, shard)| shard.as_bytes().len() < 300_000));
        assert!(units.iter().all(|unit| contains(&shards, unit)));
        for n in 0..100_000 {
            assert!(!contains(&shards, &format!("user-{n}x")));
        }
        assert!(!contains(&shards, ""));
    }

    #[test]
    fn one_unit_more_changes_one_shard() {
        let mut units: Vec<String> = (0..100_000).map(|n| format!("user-{n:07}")).collect();
        let before = digests(&load(&units));
        units.push("one more".to_owned());
        let after = digests(&load(&units));
        assert_eq!(before.difference(&after).count(), 1);
        assert!((1..=2).contains(&after.difference(&before).count()));
        units.swap_remove(17);
        assert!(after.difference(&digests(&load(&units))).count() <= 2);
    }

    #[test]
    fn long_and_strange_units() {
        let units =
            ["", "\u{0}", "é", &"x".repeat(254), &"x".repeat(255), &"y".repeat(70_000)].map(str::to_owned);
        let shards = load(&units);
        assert!(units.iter().all(|unit| contains(&shards, unit)));
        assert!(!contains(&shards, &"x".repeat(253)));
        assert_eq!(load(&[]).len(), 1);
        assert!(!contains(&load(&[]), ""));
    }

    #[test]
    fn broken_lists_are_refused() {
        let check = |directory: &[u32], units: &[u8], expected: Option<&str>| {
            let directory = directory.iter().flat_map(|offset| offset.to_le_bytes()).collect();
            let mut builder = EnvelopeBuilder::new(Kind::UnitList, FORMAT, Vec::new());
            builder.section(DIRECTORY, directory).section(UNITS, units.to_vec());
            let problem = match open(&builder.seal().unwrap()) {
                Ok(_) => None,
                Err(LoadError::MalformedList { problem, .. }) => Some(problem),
                Err(other) => panic!("{other}"),
            };
            assert_eq!(problem, expected);
        };
        let length = Some("the length of its directory is no power of two and one");
        check(&[0, 2], b"\x01a", None);
        check(&[0, 0], b"", None);
        check(&[], b"", length);
        check(&[0, 2, 2, 2], b"\x01a", length);
        check(&[1, 2], b"\x01a", Some("its directory does not begin at 0"));
        check(&[0, 2, 0, 2, 2], b"\x01a", Some("its directory is not in order"));
        check(&[0, 3], b"\x01a", Some("its directory is not in order"));
        check(&[0, 2], b"\x01ab", Some("there are units behind the directory's end"));
        check(&[0, 2], b"\x02a", Some("a unit is cut off"));
        check(&[0, 3], b"\xff\0\0", Some("a unit is cut off"));
        check(&[0, 6], b"\xff\x01\0\0\0a", Some("a unit is cut off"));
        let bundle = EnvelopeBuilder::new(Kind::Bundle, FORMAT, Vec::new()).seal().unwrap();
        assert_eq!(open(&bundle).unwrap_err().to_string(), "expected a unit list, found a policy bundle");
    }

    proptest! {
        #[test]
        fn lists_are_sets(units in prop::collection::vec("[ab]{0,3}", 0..20), others in prop::collection::vec("[ab]{0,3}", 20)) {
            let shards = load(&units);
            let mut reversed = units.clone();
            reversed.reverse();
            reversed.extend(units.first().cloned());
            prop_assert_eq!(digests(&shards), digests(&load(&reversed)));
            for unit in others.iter().chain(&units) {
                prop_assert_eq!(contains(&shards, unit), units.contains(unit));
            }
        }
    }
}
