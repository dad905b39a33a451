//! The binary policy: loading, checking once, and reading in place.

pub(crate) mod format;
mod validate;

use lockgate_package::{
    AlignedBytes, Digest, Envelope, EnvelopeError, Kind, MessagePackReader, SectionRange, Signature,
    UnexpectedMessagePack,
};

use crate::Placement;
use crate::hash::set_hash;
use format::{NONE, ROUTE_NAMES, Record, Section, Table, Word};

/// Why bytes are no usable bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The envelope around the bundle cannot be opened.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The envelope is intact, but what it holds makes no sense.
    #[error("the policy bundle is malformed: section `{section}`: {problem}")]
    Malformed {
        /// The section that makes no sense.
        section: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// The kind-specific part of the envelope's header.
#[derive(Default)]
#[cfg_attr(feature = "compiler", derive(serde::Serialize))]
pub(crate) struct Meta {
    pub(crate) version: u64,
    pub(crate) parent: Option<Digest>,
}

impl Meta {
    /// Reads the header by hand, which is a fraction of the size of a derived reader; unknown keys are passed over.
    fn read(bytes: &[u8]) -> Result<Self, UnexpectedMessagePack> {
        let mut reader = MessagePackReader::new(bytes);
        let mut meta = Self::default();
        for _ in 0..reader.map()? {
            match reader.text()? {
                "version" => meta.version = reader.unsigned()?,
                "parent" if reader.nil() => {}
                "parent" => {
                    let digest = reader.bytes()?.try_into().map_err(|_| UnexpectedMessagePack)?;
                    meta.parent = Some(Digest(digest));
                }
                _ => reader.skip()?,
            }
        }
        // Versions begin at 1, so a header without one is noticed.
        if meta.version == 0 { Err(UnexpectedMessagePack) } else { Ok(meta) }
    }
}

/// A loaded policy bundle. It owns its bytes and reads them where they lie.
#[derive(Debug, Clone)]
pub struct Bundle {
    envelope: Envelope,
    version: u64,
    parent: Option<Digest>,
    sections: [SectionRange; Section::ALL.len()],
}

impl Bundle {
    /// Opens a bundle and checks it once, so that [`decide`](Self::decide) has nothing left to fail on.
    ///
    /// # Errors
    /// An envelope that cannot be opened (not one, damaged, of another kind or a newer format), or one whose content makes
    /// no sense.
    pub fn load(bytes: AlignedBytes) -> Result<Self, LoadError> {
        let envelope = Envelope::open(bytes, Kind::Bundle, format::FORMAT)?;
        let meta = Meta::read(envelope.meta())
            .map_err(|_| LoadError::Malformed { section: "meta", problem: "it cannot be read" })?;
        let mut sections = [SectionRange::default(); Section::ALL.len()];
        for (section, range) in Section::ALL.iter().zip(&mut sections) {
            *range = envelope
                .section(section.name())
                .ok_or(LoadError::Malformed { section: section.name(), problem: "it is missing" })?;
        }
        let bundle = Self { envelope, version: meta.version, parent: meta.parent, sections };
        validate::validate(&bundle)?;
        Ok(bundle)
    }

    /// The bundle's version, which only ever grows.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// SHA-256 of the bundle's content.
    pub fn digest(&self) -> Digest {
        self.envelope.digest()
    }

    /// The digest of the bundle that this one replaces.
    pub fn parent(&self) -> Option<Digest> {
        self.parent
    }

    /// The bytes of the bundle as they were loaded.
    pub fn as_bytes(&self) -> &[u8] {
        self.envelope.as_bytes()
    }

    /// How many routes there are.
    pub fn route_count(&self) -> usize {
        self.routes_table().len() as usize
    }

    /// The routes, sorted by name.
    pub fn routes(&self) -> impl Iterator<Item = RouteView<'_>> {
        let records = self.routes_table().iter();
        records.zip(0..).map(|(record, index)| RouteView { bundle: self, index, record })
    }

    /// The route called `name`.
    pub fn route(&self, name: &str) -> Option<RouteView<'_>> {
        let index = self.find(ROUTE_NAMES, name, set_hash(name))?;
        Some(RouteView { bundle: self, index, record: self.routes_table().get(index) })
    }

    /// The model versions that the bundle pins, sorted by name and version text. One that no variant uses is not among them.
    pub fn models(&self) -> impl Iterator<Item = ModelView<'_>> {
        (0..self.table::<format::Model>(Section::Models).len()).map(|index| self.model(index))
    }

    fn routes_table(&self) -> Table<'_, format::Route> {
        self.table(Section::Routes)
    }

    pub(crate) fn bytes(&self, section: Section) -> &[u8] {
        self.sections.get(section as usize).map_or(&[], |range| self.envelope.bytes_of(*range))
    }

    pub(crate) fn table<R: Record>(&self, section: Section) -> Table<'_, R> {
        Table::new(self.bytes(section))
    }

    /// The bytes of string `index`.
    pub(crate) fn text_bytes(&self, index: u32) -> &[u8] {
        let offsets = self.table::<Word>(Section::StringOffsets);
        let (start, end) = (offsets.get(index).value, offsets.get(index.saturating_add(1)).value);
        self.bytes(Section::StringBytes).get(start as usize..end as usize).unwrap_or_default()
    }

    /// String `index`.
    pub(crate) fn text(&self, index: u32) -> &str {
        std::str::from_utf8(self.text_bytes(index)).unwrap_or_default()
    }

    /// String `index`, unless it is [`NONE`].
    pub(crate) fn optional_text(&self, index: u32) -> Option<&str> {
        (index != NONE).then(|| self.text(index))
    }

    /// The place of `text` among the members of a set; `hash` is its [`set_hash`].
    pub(crate) fn find(&self, set: u32, text: &str, hash: u64) -> Option<u32> {
        let set = self.table::<format::Set>(Section::Sets).get(set);
        let members = self.table::<Word>(Section::SetMembers);
        let is_text = |member: u32| {
            self.text_bytes(members.get(set.members_start.saturating_add(member)).value) == text.as_bytes()
        };
        if set.table_len == 0 {
            return (0..set.members_count).find(|member| is_text(*member));
        }
        let slots = self.table::<Word>(Section::SetTables);
        // The table's length is a power of two, so the mask keeps the hash's lower bits.
        let mask = set.table_len.saturating_sub(1);
        let first = hash as u32 & mask;
        for step in 0..set.table_len {
            let slot = first.wrapping_add(step) & mask;
            let member = slots.get(set.table_start.saturating_add(slot)).value.checked_sub(1)?;
            if member < set.members_count && is_text(member) {
                return Some(member);
            }
        }
        None
    }

    pub(crate) fn model(&self, index: u32) -> ModelView<'_> {
        let record = self.table::<format::Model>(Section::Models).get(index);
        let digests = self.bytes(Section::Digests).get((index as usize).saturating_mul(32)..);
        ModelView {
            name: self.text(record.name),
            version: self.text(record.version),
            digest: Digest(digests.and_then(|rest| rest.first_chunk::<32>()).copied().unwrap_or_default()),
            placement: placement(record.placement).unwrap_or_default(),
        }
    }

    pub(crate) fn variant(&self, route: &format::Route, index: u32) -> VariantView<'_> {
        let variants = self.table::<format::Variant>(Section::Variants);
        let record = variants.get(route.variants_start.saturating_add(index));
        let ModelView { name: model, version, digest, placement } = self.model(record.model);
        let (name, payload) = (self.text(record.name), self.optional_text(record.payload));
        VariantView { name, model, version, digest, placement, payload }
    }
}

fn placement(number: u32) -> Option<Placement> {
    u8::try_from(number).ok().and_then(Placement::from_number)
}

/// A route of a bundle.
#[derive(Clone, Copy)]
pub struct RouteView<'b> {
    bundle: &'b Bundle,
    index: u32,
    record: format::Route,
}

impl<'b> RouteView<'b> {
    /// The route's name.
    pub fn name(&self) -> &'b str {
        self.bundle.text(self.record.name)
    }

    /// The route's place among the bundle's routes.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// What the route is for, in words.
    pub fn description(&self) -> Option<&'b str> {
        self.bundle.optional_text(self.record.description)
    }

    /// Whether the route is enabled; a disabled one serves its baseline to everyone.
    pub fn enabled(&self) -> bool {
        self.record.flags & format::ENABLED != 0
    }

    /// What goes into the route's models and what comes out. Decoded on each call.
    ///
    /// # Errors
    /// A signature that cannot be decoded.
    pub fn signature(&self) -> Result<Signature, LoadError> {
        let (start, len) = (self.record.signature_start as usize, self.record.signature_len as usize);
        let bytes = self.bundle.bytes(Section::Signatures).get(start..).and_then(|rest| rest.get(..len));
        rmp_serde::from_slice(bytes.unwrap_or_default()).map_err(|_| LoadError::Malformed {
            section: Section::Signatures.name(),
            problem: "a signature cannot be read",
        })
    }

    /// The variant that serves when the route is disabled or a split's unit is missing.
    pub fn baseline(&self) -> VariantView<'b> {
        self.bundle.variant(&self.record, self.record.baseline)
    }

    /// The route's variants, in the order of the source.
    pub fn variants(&self) -> impl Iterator<Item = VariantView<'b>> + use<'b> {
        let (bundle, record) = (self.bundle, self.record);
        (0..record.variants_count).map(move |index| bundle.variant(&record, index))
    }

    pub(crate) fn record(&self) -> format::Route {
        self.record
    }
}

impl std::fmt::Debug for RouteView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RouteView({})", self.name())
    }
}

/// A variant of a route.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VariantView<'b> {
    /// The variant's name.
    pub name: &'b str,
    /// Its model.
    pub model: &'b str,
    /// The model's version.
    pub version: &'b str,
    /// The package that the bundle pins for this model version.
    pub digest: Digest,
    /// Where the version runs.
    pub placement: Placement,
    /// What the caller receives beside the prediction, JSON text.
    pub payload: Option<&'b str>,
}

/// A model version that the bundle pins to a package.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ModelView<'b> {
    /// The model.
    pub name: &'b str,
    /// Its version.
    pub version: &'b str,
    /// SHA-256 of the package's content.
    pub digest: Digest,
    /// Where the version runs.
    pub placement: Placement,
}
