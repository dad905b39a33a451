//! The hash behind every sticky split. `docs/hashing.md` specifies it for auditors; change neither alone.

use crate::bundle::format::MAX_SWITCHBACK_VARIANTS;
use crate::message::{Message, Prefix, hash};

/// The number of buckets of a layer; a share of one bucket is 0.001 %.
pub const BUCKETS: u32 = 100_000;

/// The hash of a layer. All but the first are other systems', kept so that a unit that comes from there keeps its variant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Algorithm {
    /// Ours, `docs/hashing.md`.
    #[default]
    Lockgate = 0,
    /// flagd's `fractional`, in JavaScript.
    Flagd = 1,
    /// flagd's `fractional` as it was before 2026, in JavaScript.
    FlagdLegacy = 2,
    /// Unleash's gradual rollout, in JavaScript.
    Unleash = 3,
    /// Unleash's variants, in JavaScript.
    UnleashVariants = 4,
    /// GrowthBook's hash version 2.
    GrowthBook = 5,
    /// GrowthBook's hash version 1.
    GrowthBookV1 = 6,
    /// LaunchDarkly's rollouts.
    LaunchDarkly = 7,
    /// Statsig's pass percentages.
    Statsig = 8,
    /// Statsig's user buckets, of which its experiments are made.
    StatsigExperiment = 9,
    /// flagd's `fractional`, in all other languages.
    FlagdUtf8 = 10,
    /// flagd's `fractional` as it was before 2026, in all other languages.
    FlagdLegacyUtf8 = 11,
    /// Unleash's gradual rollout, in all other languages.
    UnleashUtf8 = 12,
    /// Unleash's variants, in all other languages.
    UnleashVariantsUtf8 = 13,
    /// flagd's `fractional` that hashes CBOR.
    FlagdCbor = 14,
}

impl Algorithm {
    /// Every algorithm, in the order of its number.
    pub const ALL: [Self; 15] = [
        Self::Lockgate,
        Self::Flagd,
        Self::FlagdLegacy,
        Self::Unleash,
        Self::UnleashVariants,
        Self::GrowthBook,
        Self::GrowthBookV1,
        Self::LaunchDarkly,
        Self::Statsig,
        Self::StatsigExperiment,
        Self::FlagdUtf8,
        Self::FlagdLegacyUtf8,
        Self::UnleashUtf8,
        Self::UnleashVariantsUtf8,
        Self::FlagdCbor,
    ];

    /// The word used in policies.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lockgate => "lockgate",
            Self::Flagd => "flagd",
            Self::FlagdLegacy => "flagd-legacy",
            Self::Unleash => "unleash",
            Self::UnleashVariants => "unleash-variants",
            Self::GrowthBook => "growthbook",
            Self::GrowthBookV1 => "growthbook-v1",
            Self::LaunchDarkly => "launchdarkly",
            Self::Statsig => "statsig",
            Self::StatsigExperiment => "statsig-experiment",
            Self::FlagdUtf8 => "flagd-utf8",
            Self::FlagdLegacyUtf8 => "flagd-legacy-utf8",
            Self::UnleashUtf8 => "unleash-utf8",
            Self::UnleashVariantsUtf8 => "unleash-variants-utf8",
            Self::FlagdCbor => "flagd-cbor",
        }
    }

    /// The number used in bundles.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The algorithm with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.number() == number)
    }

    /// The number of buckets of a split that gives shares in percent.
    pub fn scale(self) -> u32 {
        match self {
            Self::Lockgate | Self::LaunchDarkly => BUCKETS,
            Self::Flagd | Self::FlagdUtf8 | Self::FlagdCbor | Self::FlagdLegacy | Self::FlagdLegacyUtf8 => {
                BUCKETS
            }
            Self::Unleash | Self::UnleashUtf8 => 100,
            Self::UnleashVariants
            | Self::UnleashVariantsUtf8
            | Self::GrowthBookV1
            | Self::StatsigExperiment => 1000,
            Self::GrowthBook | Self::Statsig => 10_000,
        }
    }

    /// Whether the scale is the sum of a split's weights, whatever it is.
    pub fn takes_any_scale(self) -> bool {
        matches!(
            self,
            Self::Flagd
                | Self::FlagdLegacy
                | Self::FlagdUtf8
                | Self::FlagdCbor
                | Self::FlagdLegacyUtf8
                | Self::UnleashVariants
                | Self::UnleashVariantsUtf8
        )
    }
}

/// What a message begins with that a bucket is drawn from.
const BUCKET_DOMAIN: &[u8] = b"lockgate/bucket/1";
/// What a message begins with that the order of a switchback's variants is drawn from.
const SWITCHBACK_DOMAIN: &[u8] = b"lockgate/switchback/1";

/// The bucket, 0 … 99 999, of a unit in the layer with this salt. `parts` are the unit's parts in the order in which the
/// policy lists them; most units have one.
pub fn bucket<'a>(salt: &str, parts: impl IntoIterator<Item = &'a str>) -> u32 {
    let mut message = beginning(salt);
    parts.into_iter().for_each(|part| message.text(part.as_bytes()));
    bucket_of(message.hash())
}

fn beginning(salt: &str) -> Message {
    let mut message = Message::new();
    message.bytes(BUCKET_DOMAIN);
    message.text(salt.as_bytes());
    message
}

/// What the messages of all units of a layer begin with.
#[derive(Clone)]
pub(crate) struct BucketPrefix(Prefix);

impl BucketPrefix {
    /// The beginning in the layer with this salt.
    pub(crate) fn new(salt: &str) -> Self {
        Self(Prefix::new(beginning(salt)))
    }

    /// The bucket of a unit of one part.
    #[inline]
    pub(crate) fn bucket(&self, part: &str) -> u32 {
        bucket_of(self.0.hash_with(part.as_bytes()))
    }
}

#[inline]
fn bucket_of(hash: u64) -> u32 {
    let upper = hash >> 32;
    // Below 2^32 × 100 000 / 2^32, so it fits.
    ((upper * u64::from(BUCKETS)) >> 32) as u32
}

/// The variant, 0 … `variants` − 1, whose turn it is at `place` in a block of a switchback's windows: in each block the
/// variants take turns in the order of their hashes.
#[inline(never)]
pub(crate) fn turn(seed: &str, parts: &[&str], block: u64, place: u32, variants: u32) -> u32 {
    let mut message = Message::new();
    message.bytes(SWITCHBACK_DOMAIN);
    message.text(seed.as_bytes());
    parts.iter().for_each(|part| message.text(part.as_bytes()));
    message.number(block, 64);
    let mut hashes = [u64::MAX; MAX_SWITCHBACK_VARIANTS as usize];
    for (hash, variant) in hashes.iter_mut().zip(0..variants) {
        let mut message = message.clone();
        message.number(variant.into(), 32);
        *hash = message.hash();
    }
    let order = |variant: u32| (hashes.get(variant as usize).copied(), variant);
    let rank = |variant: u32| (0..variants).filter(|other| order(*other) < order(variant)).count();
    (0..variants).find(|variant| rank(*variant) == place as usize).unwrap_or_default()
}

/// One bit of 64, drawn from a text's length, first and last byte: what tells most texts from the few members of a set.
#[inline]
pub(crate) fn probe(text: &str) -> u64 {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return 1 };
    let number = bytes.len() + 5 * usize::from(*first) + 11 * usize::from(*last);
    1 << (number as u64 & 63)
}

/// The hash that places a text in a set's table and in a list's shards: XXH64 with seed 0.
#[inline]
pub(crate) fn set_hash(text: &str) -> u64 {
    hash(text.as_bytes())
}
