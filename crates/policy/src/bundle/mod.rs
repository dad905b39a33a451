//! The binary policy: loading, checking once, and reading in place.

pub(crate) mod format;
mod reader;
mod validate;
mod views;

use std::sync::Arc;

use lockgate_package::{
    AlignedBytes, Digest, Envelope, EnvelopeError, Kind, MessagePackReader, UnexpectedMessagePack,
};

use crate::Placement;
use crate::hash::{Algorithm, BucketPrefix, set_hash};
use crate::lists::ListObject;
use format::{NONE, Name, ROUTE_NAMES, Section, Shard};
use reader::Table;

pub(crate) use reader::Reader;
pub use views::{ModelView, RouteView, ShadowView, VariantView};

/// Why bytes are no usable bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The envelope around the bundle or a unit list cannot be opened.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// A format that was never released.
    #[error("the policy bundle has format {major}.{minor}, this program reads 2.x; compile the policy again")]
    OldFormat {
        /// The first number of its format.
        major: u16,
        /// The second.
        minor: u16,
    },
    /// The envelope is intact, but what it holds makes no sense.
    #[error("the policy bundle is malformed: section `{section}`: {problem}")]
    Malformed {
        /// The section that makes no sense.
        section: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The unit list's envelope is intact, but what it holds makes no sense.
    #[error("the unit list sha256:{digest} is malformed: {problem}")]
    MalformedList {
        /// The unit list.
        digest: Digest,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A decision could take longer than any request may.
    #[error(
        "a decision on route `{route}` could take more than {} tests; let its conditions ask fewer segments and routes",
        format::MAX_TESTS
    )]
    TooCostly {
        /// The route's name.
        route: String,
    },
    /// A unit list that the bundle needs is not at hand.
    #[error("the policy bundle needs the unit list sha256:{digest}; load it together with the bundle")]
    MissingObject {
        /// SHA-256 of the list's content.
        digest: Digest,
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

/// What a bundle says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BundleHeader {
    /// The bundle's version, which only ever grows.
    pub version: u64,
    /// The digest of the bundle that this one replaces.
    pub parent: Option<Digest>,
    /// SHA-256 of the bundle's content.
    pub digest: Digest,
}

/// A loaded policy bundle. It owns its bytes and reads them where they lie; only the texts, which must be known to be UTF-8
/// whenever one is read, are held a second time, and the beginning of what is hashed for each layer is kept hashed.
#[derive(Clone)]
pub struct Bundle {
    envelope: Envelope,
    version: u64,
    parent: Option<Digest>,
    tables: [Table; Section::ALL.len()],
    texts: Box<str>,
    /// By layer, what all its messages begin with; `None` for another system's hash.
    prefixes: Box<[Option<BucketPrefix>]>,
    /// The unit lists, in the order of the section `objects`.
    objects: Arc<[ListObject]>,
}

impl Bundle {
    /// Opens a bundle and checks it once, so that [`decide`](Self::decide) has nothing left to fail on.
    ///
    /// # Errors
    /// An envelope that cannot be opened (not one, damaged, of another kind or a newer format), one whose content makes
    /// no sense, or a bundle that needs unit lists.
    pub fn load(bytes: AlignedBytes) -> Result<Self, LoadError> {
        Self::load_with(bytes, Vec::new())
    }

    /// Opens a bundle together with the unit lists that it needs, in any order; further ones are put aside.
    ///
    /// # Errors
    /// As [`load`](Self::load), a unit list that cannot be opened, or one that is not among `objects`.
    pub fn load_with(bytes: AlignedBytes, objects: Vec<AlignedBytes>) -> Result<Self, LoadError> {
        let mut bundle = Self::open(bytes)?;
        let mut opened: Vec<ListObject> = Vec::with_capacity(objects.len());
        for object in objects {
            opened.push(ListObject::open(object)?);
        }
        let mut lists = Vec::with_capacity(opened.len());
        for digest in bundle.objects() {
            let at = opened.iter().position(|object| object.digest() == digest);
            let at = at.ok_or(LoadError::MissingObject { digest })?;
            lists.push(opened.remove(at));
        }
        bundle.objects = lists.into();
        validate::validate(&bundle)?;
        let reader = bundle.reader();
        let prefixes = reader.all::<format::Layer>().map(|layer| {
            let own = layer.algorithm() == Some(Algorithm::Lockgate);
            own.then(|| BucketPrefix::new(reader.text(layer.salt)))
        });
        bundle.prefixes = prefixes.collect();
        Ok(bundle)
    }

    /// The unit lists that a bundle needs.
    ///
    /// # Errors
    /// An envelope that cannot be opened.
    pub fn required_objects(bytes: &[u8]) -> Result<Vec<Digest>, LoadError> {
        Ok(Self::open(AlignedBytes::copy_of(bytes))?.objects().collect())
    }

    /// What a bundle says of itself; it needs no unit lists for that.
    ///
    /// # Errors
    /// An envelope that cannot be opened.
    pub fn header(bytes: &[u8]) -> Result<BundleHeader, LoadError> {
        let bundle = Self::open(AlignedBytes::copy_of(bytes))?;
        Ok(BundleHeader { version: bundle.version, parent: bundle.parent, digest: bundle.digest() })
    }

    /// Opens a bundle to read names in it, without its unit lists and without checking what it says: content that makes no sense
    /// gives wrong or empty names, and no panic. For shells whose policy module has loaded the same bytes.
    ///
    /// # Errors
    /// As [`load`](Self::load), as far as the envelope goes.
    pub fn outline(bytes: AlignedBytes) -> Result<Self, LoadError> {
        Self::open(bytes)
    }

    /// Opens the envelope and finds the sections, whose content is not checked yet.
    fn open(bytes: AlignedBytes) -> Result<Self, LoadError> {
        let envelope = Envelope::open(bytes, Kind::Bundle, format::FORMAT)?;
        let (major, minor) = envelope.format();
        if major < format::FORMAT.0 {
            return Err(LoadError::OldFormat { major, minor });
        }
        let meta = Meta::read(envelope.meta())
            .map_err(|_| LoadError::Malformed { section: "meta", problem: "it cannot be read" })?;
        let mut tables = [Table::default(); Section::ALL.len()];
        for (section, table) in Section::ALL.iter().zip(&mut tables) {
            let range = envelope.section(section.name()).unwrap_or_default();
            let malformed = |problem| LoadError::Malformed { section: section.name(), problem };
            let (start, count) = match section.record_words() {
                0 => (range.offset, range.len),
                // Sections begin at multiples of 64 bytes.
                words if range.len.is_multiple_of(4 * words) => (range.offset / 4, range.len / (4 * words)),
                _ => return Err(malformed("its length is no multiple of a record")),
            };
            // The highest number stands for something else.
            let count = u32::try_from(count).ok().filter(|count| *count != u32::MAX);
            *table = Table { start, count: count.ok_or_else(|| malformed("it is too large"))? };
        }
        let (version, parent) = (meta.version, meta.parent);
        let mut bundle = Self {
            envelope,
            version,
            parent,
            tables,
            texts: Box::default(),
            prefixes: Box::default(),
            objects: Arc::default(),
        };
        let texts = std::str::from_utf8(bundle.reader().section(Section::Texts));
        let malformed = LoadError::Malformed { section: Section::Texts.name(), problem: "it is not UTF-8" };
        bundle.texts = texts.map_err(|_| malformed)?.into();
        Ok(bundle)
    }

    fn objects(&self) -> impl Iterator<Item = Digest> {
        self.reader().all::<format::Object>().map(|object| Digest(object.digest.0))
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

    /// The unit lists that the bundle was loaded with, without those that it does not need.
    pub fn list_objects(&self) -> &[ListObject] {
        &self.objects
    }

    /// The policy that was compiled, in its canonical source form, when the bundle carries it.
    pub fn source(&self) -> Option<&str> {
        let source = self.reader().section(Section::Source);
        std::str::from_utf8(source).ok().filter(|source| !source.is_empty())
    }

    /// How many definitions of routes there are.
    pub fn route_count(&self) -> usize {
        self.reader().count::<format::Route>() as usize
    }

    /// All definitions of routes, sorted by name, tenant and user.
    pub fn routes(&self) -> impl Iterator<Item = RouteView<'_>> {
        let reader = self.reader();
        (0..reader.count::<format::Route>()).map(move |index| RouteView::new(reader, index))
    }

    /// The definition at this place.
    pub fn route_at(&self, index: u32) -> Option<RouteView<'_>> {
        let reader = self.reader();
        (index < reader.count::<format::Route>()).then(|| RouteView::new(reader, index))
    }

    /// The platform's definition of the route called `name`.
    pub fn route(&self, name: &str) -> Option<RouteView<'_>> {
        self.definition(name, None, None)
    }

    /// The definition of the route called `name` for exactly this scope.
    pub fn definition(&self, name: &str, tenant: Option<&str>, user: Option<&str>) -> Option<RouteView<'_>> {
        let reader = self.reader();
        let name: Name = reader.get(reader.find(ROUTE_NAMES, name, || set_hash(name))?);
        let (route, users) = match tenant {
            None => (name.platform, name.users),
            Some(tenant) => {
                let place = reader.value(name.tenants, tenant, || set_hash(tenant))?;
                let format::Tenant { route, users } = reader.get(place);
                (route, users)
            }
        };
        let route = match user {
            None => route,
            Some(user) => {
                let place = reader.value(users, user, || set_hash(user))?;
                reader.get::<format::ScopedRoute>(place).route
            }
        };
        (route != NONE).then(|| RouteView::new(reader, route))
    }

    /// The model versions that the bundle pins, sorted by name and version text. One that no variant uses is not among them.
    pub fn models(&self) -> impl Iterator<Item = ModelView<'_>> {
        let reader = self.reader();
        (0..reader.count::<format::Model>()).map(move |index| ModelView::new(reader, index))
    }

    /// The rule and the layer that a decision with this [`target_index`](crate::Decision::target_index) names.
    pub fn target_names(&self, target_index: u32) -> Option<(Option<&str>, Option<&str>)> {
        let reader = self.reader();
        (target_index < reader.count::<format::Label>()).then(|| views::names_of(reader, target_index))
    }

    #[inline]
    pub(crate) fn reader(&self) -> Reader<'_> {
        Reader::new(self)
    }

    /// The object at this place of the section `objects`.
    #[cfg(feature = "compiler")]
    pub(crate) fn list_object(&self, place: u32) -> Option<&ListObject> {
        self.objects.get(place as usize)
    }

    /// What all messages of a layer begin with; `None` for another system's hash.
    #[inline]
    pub(crate) fn prefix(&self, layer: u32) -> Option<&BucketPrefix> {
        self.prefixes.get(layer as usize).and_then(Option::as_ref)
    }

    /// Whether a unit list contains a text; `hash` is its [`set_hash`].
    pub(crate) fn lists(&self, list: u32, text: &str, hash: u64) -> bool {
        let reader = self.reader();
        let list: format::List = reader.get(list);
        let shard = hash.checked_shr(64 - list.bits).unwrap_or_default() as u32;
        let Shard { object } = reader.get(list.shards.start.wrapping_add(shard));
        self.objects.get(object as usize).is_some_and(|object| object.contains(hash, text))
    }
}

impl std::fmt::Debug for Bundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bundle(version {}, sha256:{})", self.version, self.digest())
    }
}

pub(crate) fn placement(number: u32) -> Option<Placement> {
    u8::try_from(number).ok().and_then(Placement::from_number)
}
