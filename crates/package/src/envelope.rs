//! The container of bundles and packages.
//!
//! ```text
//! 0    8  "LOCKGATE"
//! 8    2  envelope format, major          16  4  length of the header
//! 10   2  envelope format, minor          20  4  reserved, zero
//! 12   4  kind: 1 bundle, 2 package,      24  8  length of the content
//!         3 unit list
//! 32  32  reserved, zero
//! 64      header, MessagePack: {format: [major, minor], sections: [[name, offset, length]…], meta: bytes}
//!         sections, each at a multiple of 64, zeros between
//!         trailer, MessagePack: {sha256: bytes, signatures: [{key: bytes, algorithm: text, signature: bytes}…]}
//! ```
//!
//! The content is everything before the trailer, and its SHA-256 is the envelope's digest: adding a signature does not
//! change what the content is called. Opening an envelope passes over the signatures; the feature `signing` makes and
//! checks them (`docs/trust.md`).

use serde::Serialize;

use crate::{AlignedBytes, Digest, MessagePackReader, UnexpectedMessagePack};

const MAGIC: [u8; 8] = *b"LOCKGATE";
const ENVELOPE_MAJOR: u16 = 1;
const ENVELOPE_MINOR: u16 = 0;
const PREAMBLE: usize = 64;
const ALIGNMENT: usize = 64;

/// What an envelope holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A compiled routing policy.
    Bundle,
    /// A model package.
    Package,
    /// A sorted list of units that a bundle's segment names by its digest.
    UnitList,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Bundle, Self::Package, Self::UnitList];

    /// What the preamble calls it.
    pub fn number(self) -> u32 {
        match self {
            Self::Bundle => 1,
            Self::Package => 2,
            Self::UnitList => 3,
        }
    }

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bundle => "policy bundle",
            Self::Package => "model package",
            Self::UnitList => "unit list",
        }
    }

    pub(crate) fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }
}

/// Why bytes are no readable envelope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// The first bytes are not an envelope's.
    #[error("not a Lockgate {expected}: the first bytes are not `LOCKGATE`")]
    NotAnEnvelope {
        /// What the caller wanted.
        expected: &'static str,
    },
    /// The bytes end early, or more follow than the envelope has.
    #[error("the {what} is truncated or has bytes behind its end: {len} bytes are there")]
    Truncated {
        /// What the caller wanted.
        what: &'static str,
        /// How many bytes there are.
        len: usize,
    },
    /// Another kind of envelope.
    #[error("expected a {expected}, found a {found}")]
    WrongKind {
        /// What the caller wanted.
        expected: &'static str,
        /// What the envelope says it is.
        found: String,
    },
    /// A newer format of the envelope or of its content.
    #[error(
        "the {what} has format {found}, this program reads formats up to {supported}; use a newer Lockgate"
    )]
    NewerFormat {
        /// The part with the newer format.
        what: &'static str,
        /// Its format.
        found: String,
        /// The newest readable format.
        supported: String,
    },
    /// The content does not have the digest that the trailer records.
    #[error("the {what} is damaged: its content has SHA-256 {found}, its trailer says {recorded}")]
    DigestMismatch {
        /// What the caller wanted.
        what: &'static str,
        /// The digest of the bytes that are there.
        found: Digest,
        /// The digest that the trailer records.
        recorded: Digest,
    },
    /// The header or the section table makes no sense although the digest fits.
    #[error("the {what} is malformed: {problem}")]
    Malformed {
        /// What the caller wanted.
        what: &'static str,
        /// What is wrong.
        problem: String,
    },
}

#[derive(Default, Serialize)]
struct Header {
    format: (u16, u16),
    sections: Vec<(String, u64, u64)>,
    #[serde(serialize_with = "as_bytes")]
    meta: Vec<u8>,
}

impl Header {
    /// Reads a header; keys of later minor versions are passed over.
    fn read(bytes: &[u8]) -> Result<Self, UnexpectedMessagePack> {
        let mut reader = MessagePackReader::new(bytes);
        let mut header = Self::default();
        for _ in 0..reader.map()? {
            match reader.text()? {
                "format" => {
                    expect(reader.array()? == 2)?;
                    header.format = (read_u16(&mut reader)?, read_u16(&mut reader)?);
                }
                "sections" => {
                    for _ in 0..reader.array()? {
                        expect(reader.array()? == 3)?;
                        header.sections.push((
                            reader.text()?.to_owned(),
                            reader.unsigned()?,
                            reader.unsigned()?,
                        ));
                    }
                }
                "meta" => header.meta = reader.bytes()?.to_vec(),
                _ => reader.skip()?,
            }
        }
        expect(reader.rest().is_empty() && header.format.0 > 0)?;
        Ok(header)
    }
}

/// What follows the content. Sealing leaves the list of signatures empty.
#[derive(Serialize)]
struct Trailer {
    sha256: Digest,
    signatures: [(); 0],
}

impl Trailer {
    /// The digest of a trailer that fills `bytes`.
    fn read(bytes: &[u8]) -> Result<Digest, UnexpectedMessagePack> {
        let mut reader = MessagePackReader::new(bytes);
        let (mut digest, mut has_signatures) = (None, false);
        for _ in 0..reader.map()? {
            match reader.text()? {
                "sha256" => digest = reader.bytes()?.try_into().ok().map(Digest),
                "signatures" => {
                    has_signatures = true;
                    for _ in 0..reader.array()? {
                        reader.skip()?;
                    }
                }
                _ => reader.skip()?,
            }
        }
        expect(reader.rest().is_empty() && has_signatures)?;
        digest.ok_or(UnexpectedMessagePack)
    }
}

fn expect(holds: bool) -> Result<(), UnexpectedMessagePack> {
    if holds { Ok(()) } else { Err(UnexpectedMessagePack) }
}

fn read_u16(reader: &mut MessagePackReader<'_>) -> Result<u16, UnexpectedMessagePack> {
    reader.unsigned()?.try_into().map_err(|_| UnexpectedMessagePack)
}

fn as_bytes<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

/// The outermost layer of an envelope of any kind.
pub(crate) struct Sealed<'a> {
    preamble: &'a [u8; PREAMBLE],
    pub(crate) content: &'a [u8],
    pub(crate) trailer: &'a [u8],
}

impl<'a> Sealed<'a> {
    /// Splits `bytes`; errors call them `what`.
    pub(crate) fn split(bytes: &'a [u8], what: &'static str) -> Result<Self, EnvelopeError> {
        let truncated = || EnvelopeError::Truncated { what, len: bytes.len() };
        let known = bytes.len().min(MAGIC.len());
        if bytes[..known] != MAGIC[..known] || known == 0 {
            return Err(EnvelopeError::NotAnEnvelope { expected: what });
        }
        let preamble = bytes.first_chunk::<PREAMBLE>().ok_or_else(truncated)?;
        let major = u16_at(preamble, 8);
        if major > ENVELOPE_MAJOR {
            return Err(EnvelopeError::NewerFormat {
                what: "envelope",
                found: format!("{major}.{}", u16_at(preamble, 10)),
                supported: format!("{ENVELOPE_MAJOR}.x"),
            });
        }
        let content_len = usize::try_from(u64_at(preamble, 24)).map_err(|_| truncated())?;
        // The digest must cover the preamble.
        if content_len < PREAMBLE {
            return Err(truncated());
        }
        let (content, trailer) = bytes.split_at_checked(content_len).ok_or_else(truncated)?;
        Ok(Self { preamble, content, trailer })
    }

    /// The kind's number.
    pub(crate) fn kind(&self) -> u32 {
        u32_at(self.preamble, 12)
    }

    /// The digest of the content if it is the one in the trailer; errors call the envelope `what`.
    pub(crate) fn digest(&self, what: &'static str) -> Result<Digest, EnvelopeError> {
        let len = self.content.len().saturating_add(self.trailer.len());
        let recorded = Trailer::read(self.trailer).map_err(|_| EnvelopeError::Truncated { what, len })?;
        let digest = Digest::of(self.content);
        if digest != recorded {
            return Err(EnvelopeError::DigestMismatch { what, found: digest, recorded });
        }
        Ok(digest)
    }
}

/// Where a section lies in the envelope's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SectionRange {
    /// Offset of the first byte, a multiple of 64.
    pub offset: usize,
    /// Length in bytes.
    pub len: usize,
}

/// An opened envelope, its digest checked. It owns the bytes; sections are read where they lie.
#[derive(Debug, Clone)]
pub struct Envelope {
    bytes: AlignedBytes,
    digest: Digest,
    format: (u16, u16),
    sections: Vec<(String, SectionRange)>,
    meta: Vec<u8>,
}

impl Envelope {
    /// Opens an envelope of `kind` whose content's format is at most `newest` (major, minor): a newer major version
    /// is refused, a newer minor one is read, since minor versions only add what an older reader may ignore.
    ///
    /// # Errors
    /// Bytes that are no envelope, are damaged, hold another kind or a newer format.
    #[inline(never)]
    pub fn open(bytes: AlignedBytes, kind: Kind, newest: (u16, u16)) -> Result<Self, EnvelopeError> {
        let what = kind.name();
        let malformed = |problem: &str| EnvelopeError::Malformed { what, problem: problem.to_owned() };

        let sealed = Sealed::split(&bytes, what)?;
        let found = sealed.kind();
        if found != kind.number() {
            let found = Kind::from_number(found)
                .map_or_else(|| format!("unknown kind {found}"), |kind| kind.name().to_owned());
            return Err(EnvelopeError::WrongKind { expected: what, found });
        }
        let digest = sealed.digest(what)?;
        let Sealed { preamble, content, .. } = sealed;
        let content_len = content.len();

        let header_len = u32_at(preamble, 16) as usize;
        let header = content
            .get(PREAMBLE..)
            .and_then(|rest| rest.get(..header_len))
            .ok_or_else(|| malformed("the header is longer than the content"))?;
        let header = Header::read(header).map_err(|_| malformed("its header cannot be read"))?;
        if header.format.0 > newest.0 {
            return Err(EnvelopeError::NewerFormat {
                what,
                found: format!("{}.{}", header.format.0, header.format.1),
                supported: format!("{}.x", newest.0),
            });
        }
        let mut sections = Vec::with_capacity(header.sections.len().min(1024));
        for (name, offset, len) in header.sections {
            let offset = usize::try_from(offset).unwrap_or(usize::MAX);
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            let inside = offset.checked_add(len).is_some_and(|end| end <= content_len);
            if !inside || !offset.is_multiple_of(ALIGNMENT) {
                return Err(malformed(&format!(
                    "section `{name}` lies outside the content or is not aligned"
                )));
            }
            sections.push((name, SectionRange { offset, len }));
        }
        Ok(Self { digest, format: header.format, sections, meta: header.meta, bytes })
    }

    /// SHA-256 of the content.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The content's format, major and minor.
    pub fn format(&self) -> (u16, u16) {
        self.format
    }

    /// The kind-specific part of the header, MessagePack.
    pub fn meta(&self) -> &[u8] {
        &self.meta
    }

    /// Where the section called `name` lies.
    pub fn section(&self, name: &str) -> Option<SectionRange> {
        self.sections.iter().find(|(have, _)| have == name).map(|(_, range)| *range)
    }

    /// Where the arrays of a plan lie: `array/0`, `array/1` and so on, in this order behind the plan's section.
    ///
    /// # Errors
    /// The name of the first that is not in its place.
    pub(crate) fn arrays(&self, plan: &str, count: usize) -> Result<Vec<SectionRange>, String> {
        let mut sections = self.sections.iter().skip_while(|(have, _)| have != plan).skip(1);
        let array = |index| {
            let name = format!("array/{index}");
            match sections.next() {
                Some((have, range)) if *have == name => Ok(*range),
                _ => Err(name),
            }
        };
        (0..count).map(array).collect()
    }

    /// The bytes of a section; empty for a range that is not of this envelope.
    pub fn bytes_of(&self, range: SectionRange) -> &[u8] {
        self.bytes.get(range.offset..).and_then(|rest| rest.get(..range.len)).unwrap_or_default()
    }

    /// The names of the sections in the order they lie.
    pub fn section_names(&self) -> impl Iterator<Item = &str> {
        self.sections.iter().map(|(name, _)| name.as_str())
    }

    /// The whole envelope, trailer included.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same by fours; those behind the last byte mean nothing.
    #[inline(always)]
    pub fn as_words(&self) -> &[[u8; 4]] {
        self.bytes.as_words()
    }
}

/// Collects sections and seals them into an envelope.
#[derive(Debug)]
pub struct EnvelopeBuilder {
    kind: Kind,
    format: (u16, u16),
    meta: Vec<u8>,
    sections: Vec<(String, Vec<u8>)>,
}

impl EnvelopeBuilder {
    /// An envelope of `kind` whose content has `format`; `meta` is the kind-specific header, MessagePack.
    pub fn new(kind: Kind, format: (u16, u16), meta: Vec<u8>) -> Self {
        Self { kind, format, meta, sections: Vec::new() }
    }

    /// Adds a section behind the others.
    pub fn section(&mut self, name: impl Into<String>, bytes: Vec<u8>) -> &mut Self {
        self.sections.push((name.into(), bytes));
        self
    }

    /// The envelope's bytes. Equal input gives equal bytes.
    ///
    /// # Errors
    /// A header of 4 GiB and more.
    pub fn seal(self) -> Result<Vec<u8>, EnvelopeError> {
        let what = self.kind.name();
        let malformed = |problem: String| EnvelopeError::Malformed { what, problem };
        // The table holds offsets, whose encoded length depends on their values; lay out until the header's length is stable.
        let mut header_len = 0;
        let (header, offsets) = loop {
            let mut end = PREAMBLE + header_len;
            let mut offsets = Vec::with_capacity(self.sections.len());
            for (_, bytes) in &self.sections {
                end = end.next_multiple_of(ALIGNMENT);
                offsets.push(end);
                end += bytes.len();
            }
            let table = self.sections.iter().zip(&offsets);
            let header = Header {
                format: self.format,
                sections: table.map(|((n, b), &at)| (n.clone(), at as u64, b.len() as u64)).collect(),
                meta: self.meta.clone(),
            };
            let header = rmp_serde::to_vec_named(&header).map_err(|error| malformed(error.to_string()))?;
            if header.len() <= header_len {
                break (header, offsets);
            }
            header_len = header.len().next_multiple_of(ALIGNMENT);
        };
        let mut out = vec![0; PREAMBLE];
        out[..8].copy_from_slice(&MAGIC);
        out[8..10].copy_from_slice(&ENVELOPE_MAJOR.to_le_bytes());
        out[10..12].copy_from_slice(&ENVELOPE_MINOR.to_le_bytes());
        out[12..16].copy_from_slice(&self.kind.number().to_le_bytes());
        let len =
            u32::try_from(header.len()).map_err(|_| malformed("a header of 4 GiB and more".to_owned()))?;
        out[16..20].copy_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&header);
        for ((_, bytes), offset) in self.sections.iter().zip(offsets) {
            out.resize(offset, 0);
            out.extend_from_slice(bytes);
        }
        let content_len = out.len() as u64;
        out[24..32].copy_from_slice(&content_len.to_le_bytes());
        let trailer = Trailer { sha256: Digest::of(&out), signatures: [] };
        out.extend(rmp_serde::to_vec_named(&trailer).map_err(|error| malformed(error.to_string()))?);
        Ok(out)
    }
}

fn u16_at(bytes: &[u8; PREAMBLE], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8; PREAMBLE], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8; PREAMBLE], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut builder = EnvelopeBuilder::new(Kind::Package, (1, 0), vec![1, 2, 3]);
        builder.section("plan", vec![7; 100]).section("weights", vec![9; 65]);
        builder.seal().unwrap()
    }

    fn open(bytes: &[u8]) -> Result<Envelope, EnvelopeError> {
        Envelope::open(AlignedBytes::copy_of(bytes), Kind::Package, (1, 0))
    }

    #[test]
    fn sections_come_back_aligned() {
        let envelope = open(&sample()).unwrap();
        assert_eq!(envelope.meta(), [1, 2, 3]);
        assert_eq!(envelope.section_names().collect::<Vec<_>>(), ["plan", "weights"]);
        let weights = envelope.section("weights").unwrap();
        assert_eq!(weights.offset % 64, 0);
        assert_eq!(envelope.bytes_of(weights), [9; 65]);
        assert_eq!(sample(), sample());
    }

    #[test]
    fn every_flipped_byte_and_every_truncation_is_noticed() {
        let good = sample();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            assert!(open(&bad).is_err(), "byte {at} flipped");
            assert!(open(&good[..at]).is_err(), "cut at {at}");
        }
        let mut longer = good.clone();
        longer.push(0);
        assert!(matches!(open(&longer), Err(EnvelopeError::Truncated { .. })));
        let mut damaged = good;
        damaged[100] ^= 1;
        assert!(matches!(open(&damaged), Err(EnvelopeError::DigestMismatch { .. })));
    }

    #[test]
    fn other_kinds_and_newer_formats_are_named() {
        let bundle = EnvelopeBuilder::new(Kind::Bundle, (1, 0), Vec::new()).seal().unwrap();
        assert_eq!(open(&bundle).unwrap_err().to_string(), "expected a model package, found a policy bundle");
        let newer = EnvelopeBuilder::new(Kind::Package, (2, 3), Vec::new()).seal().unwrap();
        assert_eq!(
            open(&newer).unwrap_err().to_string(),
            "the model package has format 2.3, this program reads formats up to 1.x; use a newer Lockgate"
        );
        assert_eq!(
            open(b"PK\x03\x04").unwrap_err().to_string(),
            "not a Lockgate model package: the first bytes are not `LOCKGATE`"
        );
    }
}
