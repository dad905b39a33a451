//! The sections of a bundle, format 2.0, and their records.
//!
//! A section is a table of records, rows of little-endian `u32`, or plain bytes. A section that is empty may be missing.
//! Nothing is copied but the texts: a record is found by its place and read where it lies.
//!
//! [`NONE`] stands for "nothing" wherever a place could stand. A condition is a [`Span`] of instructions; an empty one holds
//! for everyone.

use crate::{Field, hash::Algorithm};

/// The newest format that this code reads and the one that it writes.
pub(crate) const FORMAT: (u16, u16) = (2, 0);

/// An absent index.
pub(crate) const NONE: u32 = u32::MAX;
/// A jump target: the program's answer is yes.
pub(crate) const ACCEPT: u32 = u32::MAX;
/// A jump target: the program's answer is no.
pub(crate) const REJECT: u32 = u32::MAX - 1;
/// The set of the routes' names; its members and the records of [`Name`] are in the same order.
pub(crate) const ROUTE_NAMES: u32 = 0;

/// The bit of [`Route::flags`] that says it is enabled.
pub(crate) const ROUTE_ENABLED: u32 = 1;
/// The bit of [`Variant::flags`] that says that the source disables it.
pub(crate) const VARIANT_DISABLED: u32 = 1;
/// The bit of [`Ramp::flags`] that says that no stage needs an approval.
pub(crate) const RAMP_AUTOMATIC: u32 = 1;
/// The bit of [`Switchback::flags`] that says that it has an end.
pub(crate) const SWITCHBACK_ENDS: u32 = 1;
/// [`Holdout::kind`]: one of the policy's named holdouts.
pub(crate) const HOLDOUT_NAMED: u32 = 0;
/// [`Holdout::kind`]: that of a layer with experiments.
pub(crate) const HOLDOUT_OF_LAYER: u32 = 1;
/// [`Segment::kind`]: a segment.
pub(crate) const SEGMENT: u32 = 0;
/// [`Segment::kind`]: the members of a tier and of all higher ones.
pub(crate) const SEGMENT_TIER: u32 = 1;

/// Routes may ask what other routes serve this deep.
pub(crate) const MAX_PREREQUISITES: u32 = 8;
/// Segments may contain segments this deep.
pub(crate) const MAX_SEGMENT_DEPTH: u32 = 32;
/// The most variants that a route has.
pub(crate) const MAX_VARIANTS: u32 = 256;
/// The most shadows that a route has: a decision lists them in the bits of one number.
pub(crate) const MAX_SHADOWS: u32 = 32;
/// The most variants that take turns in a switchback.
pub(crate) const MAX_SWITCHBACK_VARIANTS: u32 = 16;
/// The most parts of a unit.
pub(crate) const MAX_UNIT_PARTS: u32 = 8;
/// The most bytes of an automaton's data.
#[cfg(feature = "compiler")]
pub(crate) const MAX_AUTOMATON: u32 = 64 * 1024;
/// The most tests that one decision may take in the worst case. Segments and prerequisites could multiply without it.
pub(crate) const MAX_TESTS: u32 = 1 << 20;
/// The first bits of a hash that choose a list's shard, at most this many.
pub(crate) const MAX_SHARD_BITS: u32 = 16;

/// A piece of a record.
pub(crate) trait Part: Copy + Default {
    /// How many `u32` it takes.
    const WORDS: usize;

    /// Reads it at the word `at`; zeros beyond the end.
    fn read(words: &[[u8; 4]], at: usize) -> Self;

    #[cfg(feature = "compiler")]
    fn write(self, out: &mut Vec<u8>);
}

impl Part for u32 {
    const WORDS: usize = 1;

    #[inline]
    fn read(words: &[[u8; 4]], at: usize) -> Self {
        words.get(at).map_or(0, |word| Self::from_le_bytes(*word))
    }

    #[cfg(feature = "compiler")]
    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }
}

impl Part for u64 {
    const WORDS: usize = 2;

    #[inline]
    fn read(words: &[[u8; 4]], at: usize) -> Self {
        Self::from(u32::read(words, at)) | Self::from(u32::read(words, at + 1)) << 32
    }

    #[cfg(feature = "compiler")]
    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }
}

impl Part for i64 {
    const WORDS: usize = 2;

    #[inline]
    fn read(words: &[[u8; 4]], at: usize) -> Self {
        u64::read(words, at).cast_signed()
    }

    #[cfg(feature = "compiler")]
    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }
}

/// Bytes of the section `texts`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Text {
    /// The first byte; [`NONE`] for no text.
    pub(crate) start: u32,
    /// How many bytes; 0 for no text.
    pub(crate) len: u32,
}

impl Text {
    /// No text.
    pub(crate) const NONE: Self = Self { start: NONE, len: 0 };

    pub(crate) fn is_none(self) -> bool {
        self.start == NONE
    }
}

/// Records of the section that the field's description names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    /// The first record.
    pub(crate) start: u32,
    /// How many.
    pub(crate) count: u32,
}

impl Span {
    pub(crate) fn is_empty(self) -> bool {
        self.count == 0
    }

    /// The places of the records.
    pub(crate) fn places(self) -> std::ops::Range<u32> {
        self.start..self.start.saturating_add(self.count)
    }
}

/// A set of texts with a value for each: that of the set's member n is record `values + n` of the section that the
/// field's description names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Map {
    /// Place in `sets`; [`NONE`] for a map without entries.
    pub(crate) set: u32,
    /// The value of the first member.
    pub(crate) values: u32,
}

impl Map {
    /// A map without entries.
    pub(crate) const EMPTY: Self = Self { set: NONE, values: 0 };
}

impl Default for Map {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// The SHA-256 of a package or of an object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sha256(pub(crate) [u8; 32]);

impl Part for Sha256 {
    const WORDS: usize = 8;

    #[inline]
    fn read(words: &[[u8; 4]], at: usize) -> Self {
        let bytes = words.get(at..).and_then(|rest| rest.as_flattened().first_chunk::<32>());
        Self(bytes.copied().unwrap_or_default())
    }

    #[cfg(feature = "compiler")]
    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}

macro_rules! pairs {
    ($($name:ident { $first:ident, $second:ident })*) => { $(
        impl Part for $name {
            const WORDS: usize = 2;

            #[inline]
            fn read(words: &[[u8; 4]], at: usize) -> Self {
                Self { $first: u32::read(words, at), $second: u32::read(words, at + 1) }
            }

            #[cfg(feature = "compiler")]
            fn write(self, out: &mut Vec<u8>) {
                self.$first.write(out);
                self.$second.write(out);
            }
        }
    )* };
}

pairs! {
    Text { start, len }
    Span { start, count }
    Map { set, values }
}

/// A row of a section.
pub(crate) trait Record: Copy + Default {
    /// Where the records lie.
    const SECTION: Section;
    /// How many `u32` one takes.
    const WORDS: usize;

    /// Reads the record that `words` begins with; zeros when `words` is too short.
    fn read(words: &[[u8; 4]]) -> Self;

    #[cfg(feature = "compiler")]
    fn write(&self, out: &mut Vec<u8>);
}

macro_rules! sections {
    (
        bytes { $($(#[$bytes_doc:meta])* $bytes:ident = $bytes_text:literal),* $(,)? }
        records { $(
            $(#[$doc:meta])* $name:ident = $text:literal { $($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)? }
        )* }
    ) => {
        /// A section of the bundle.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Section { $($(#[$bytes_doc])* $bytes,)* $($(#[$doc])* $name,)* }

        impl Section {
            pub(crate) const ALL: &'static [Self] = &[$(Self::$bytes,)* $(Self::$name,)*];

            /// The name in the envelope's section table.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$bytes => $bytes_text,)* $(Self::$name => $text,)* }
            }

            /// How many `u32` a record takes; 0 for plain bytes.
            pub(crate) fn record_words(self) -> usize {
                match self { $(Self::$bytes => 0,)* $(Self::$name => $name::WORDS,)* }
            }
        }

        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
            pub(crate) struct $name { $($(#[$field_doc])* pub(crate) $field: $type),* }

            impl Record for $name {
                const SECTION: Section = Section::$name;
                const WORDS: usize = 0 $(+ <$type as Part>::WORDS)*;

                #[inline]
                #[expect(unused_assignments, reason = "the last field needs no place behind it")]
                fn read(words: &[[u8; 4]]) -> Self {
                    let Some(words) = words.first_chunk::<{ $name::WORDS }>() else { return Self::default() };
                    let mut at = 0;
                    $(
                        let $field = <$type as Part>::read(words, at);
                        at += <$type as Part>::WORDS;
                    )*
                    Self { $($field),* }
                }

                #[cfg(feature = "compiler")]
                fn write(&self, out: &mut Vec<u8>) {
                    $(Part::write(self.$field, out);)*
                }
            }
        )*
    };
}

sections! {
    bytes {
        /// The texts, UTF-8, in any order; they may overlap.
        Texts = "texts",
        /// MessagePack, one signature behind the other.
        Signatures = "signatures",
        /// What [`Automaton`] says.
        AutomatonData = "automaton-data",
        /// The policy in its canonical source form. Deciding does not need it.
        Source = "source",
    }
    records {
        /// A route name, in the order of the members of the set [`ROUTE_NAMES`], which are sorted.
        Name = "names" {
            /// Its definitions, in `routes`.
            routes: Span,
            /// How deep its definitions ask what other routes serve: 0 when none does, else more than any route that they ask.
            depth: u32,
            /// The platform's definition, in `routes`.
            platform: u32,
            /// The definitions for users without tenant: by user, in `scoped-routes`.
            users: Map,
            /// The definitions for tenants and their users: by tenant, in `tenants`.
            tenants: Map,
        }
        /// The definitions of one name within a tenant.
        Tenant = "tenants" {
            /// The tenant's own, in `routes`.
            route: u32,
            /// Those of its users: by user, in `scoped-routes`.
            users: Map,
        }
        /// A route that a user has.
        ScopedRoute = "scoped-routes" { route: u32 }
        /// What deciding needs of a route. Sorted by name, tenant and user, by bytes, what is absent first.
        Route = "routes" {
            flags: u32,
            /// Place among the route's variants.
            baseline: u32,
            /// Who may know of it, in `programs`.
            access: Span,
            /// In `variants`.
            variants: Span,
            /// In `overrides`.
            overrides: Span,
            /// In `requests`.
            requests: Span,
            /// In `route-holdouts`, in the order in which they are looked at.
            holdouts: Span,
            /// In `targets`, in the order of precedence; the last one is the default.
            targets: Span,
            /// In `shadows`.
            shadows: Span,
        }
        /// What only people need of a route, at the route's place.
        RouteText = "route-texts" {
            name: Text,
            tenant: Text,
            user: Text,
            description: Text,
            /// Bytes in `signatures`.
            signature: Span,
            /// The share of requests that are recorded, in thousandths of a percent; [`NONE`] leaves it to the shell.
            records: u32,
        }
        /// A variant of a route.
        Variant = "variants" {
            name: Text,
            model: u32,
            payload: Text,
            flags: u32,
            /// What serves instead when it is unavailable, in `variant-places`: its own list, else the route's, else the baseline.
            fallbacks: Span,
        }
        /// A place among a route's variants.
        VariantPlace = "variant-places" { variant: u32 }
        /// A model version and where it runs. Sorted by name and version.
        Model = "models" {
            name: Text,
            version: Text,
            placement: u32,
            digest: Sha256,
        }
        /// A hash space.
        Layer = "layers" {
            name: Text,
            salt: Text,
            /// An `Algorithm`'s number.
            algorithm: u32,
        }
        /// A unit of other than one field. Other records name a unit by one number: below 4 it is that field alone,
        /// else it is the record `number − 4` here.
        Unit = "units" {
            /// In `unit-parts`.
            parts: Span,
        }
        /// A part of a unit: below 4 a field, else the attribute `number − 4` of `attributes`.
        UnitPart = "unit-parts" { part: u32 }
        /// The name of an attribute that the policy asks for.
        Attribute = "attributes" { name: Text }
        /// What a decision says about the step that matched. Equal labels are stored once.
        Label = "labels" {
            /// The permitted request, holdout, test group, symbol rollout or rule.
            name: Text,
            /// The layer, if a bucket decided.
            layer: u32,
        }
        /// Who gets the baseline: whoever has a bucket in an interval that is not nobody's.
        Holdout = "holdouts" {
            kind: u32,
            label: u32,
            /// In `splits`; the intervals belong to variant 0, which means the holdout, or to nobody ([`NONE`]).
            split: u32,
        }
        /// A holdout that applies to a route.
        RouteHoldout = "route-holdouts" { holdout: u32 }
        /// The overrides of a route by one field, at most one record per field.
        Override = "overrides" {
            field: u32,
            /// By the field's value, in `override-values`.
            entries: Map,
        }
        /// Which variant an override serves, and its place in the source: the earlier of two that match wins.
        OverrideValue = "override-values" { order: u32, variant: u32 }
        /// Who may ask for which variants.
        Request = "requests" {
            label: u32,
            /// In `programs`.
            members: Span,
            /// In `variant-places`.
            variants: Span,
        }
        /// A step that serves something to someone.
        Target = "targets" {
            /// The number of its [`Step`](crate::Step), lowest byte; [`Kind`], next byte.
            code: u32,
            /// [`NONE`] for a default that serves one variant.
            label: u32,
            /// In `programs`.
            condition: Span,
            /// In `windows`.
            window: u32,
            /// What it serves; [`Kind`] says which.
            serve: u32,
        }
        /// From the first moment to the last, in milliseconds since 1970, both included: `until` is one more than `last`. The
        /// lowest and the highest number stand for no bound.
        Window = "windows" { first: i64, last: i64 }
        /// Variants by bucket. That of an experiment or holdout may leave intervals to nobody ([`NONE`]).
        Split = "splits" {
            layer: u32,
            unit: u32,
            /// How many buckets there are.
            scale: u32,
            /// In `intervals`; the last one ends at `scale`.
            intervals: Span,
        }
        /// The buckets from the end of the one before up to, not including, `end`.
        Interval = "intervals" { end: u32, variant: u32 }
        /// Splits that follow each other.
        Ramp = "ramps" {
            layer: u32,
            unit: u32,
            flags: u32,
            /// The variant of stage 0.
            from: u32,
            approved_stage: u32,
            start: i64,
            /// In `stages`, at least one.
            stages: Span,
            /// In `pauses`: its own and the policy's freezes, merged: each begins after the end of the one before.
            pauses: Span,
        }
        /// A stage of a ramp.
        Stage = "stages" {
            /// Milliseconds on the ramp's clock; each above that of the stage before, the first one 0.
            offset: u64,
            scale: u32,
            /// In `intervals`.
            intervals: Span,
        }
        /// A time in which a ramp's clock stands still: `until` is not included; the highest number stands for no end.
        Pause = "pauses" { from: i64, until: i64 }
        /// Variants by unit and window of time.
        Switchback = "switchbacks" {
            unit: u32,
            flags: u32,
            /// In `variant-places`, two or more, in the order of the source.
            variants: Span,
            start: i64,
            /// Not included; it counts only with [`SWITCHBACK_ENDS`].
            end: i64,
            /// Milliseconds, at least 1.
            window: u64,
            /// Milliseconds, less than the window.
            washout: u64,
            seed: Text,
        }
        /// A variant that runs beside the one that serves.
        Shadow = "shadows" {
            name: Text,
            variant: u32,
            /// In `programs`.
            condition: Span,
            /// In `windows`.
            window: u32,
            layer: u32,
            unit: u32,
            /// It runs for the buckets below this one, of 100 000.
            sample: u32,
            rate: u32,
            concurrency: u32,
            bytes: u32,
            deadline_ms: u32,
        }
        /// A slice of a hash space that a condition asks for.
        Slice = "slices" {
            layer: u32,
            unit: u32,
            scale: u32,
            from: u32,
            below: u32,
        }
        /// A named segment, or a tier. Its program asks for segments before it only, and for no route.
        Segment = "segments" {
            kind: u32,
            name: Text,
            /// In `programs`, not empty.
            program: Span,
        }
        /// A test and where to go next: an instruction behind this one, counted from the program's first, or
        /// [`ACCEPT`] or [`REJECT`].
        Instruction = "programs" {
            /// Operation, lowest byte; subject or relation, next byte.
            code: u32,
            on_true: u32,
            on_false: u32,
            /// What [`Test`] says.
            subject: u32,
            low: u32,
            high: u32,
        }
        /// A set of texts. The members are sorted by their bytes, none twice. A table of 0 slots means that the members are
        /// compared one by one.
        Set = "sets" {
            /// In `set-members`.
            members: Span,
            /// In `set-slots`; a power of two of them, or none.
            slots: Span,
            /// The [`probe`](crate::hash::probe)s of the members: a text whose bit is missing is no member.
            probes: u64,
        }
        /// A member of a set.
        SetMember = "set-members" { text: Text }
        /// A slot of a hash table with open addressing: a member goes into the first free slot from `set_hash & (slots − 1)` on.
        SetSlot = "set-slots" {
            /// The upper half of the member's hash.
            hash: u32,
            /// The member + 1; 0 when the slot is free.
            member: u32,
        }
        /// A list of units in objects of its own.
        List = "lists" {
            /// The file that the source names.
            name: Text,
            /// How many of the uppermost bits of a text's hash choose the shard.
            bits: u32,
            /// In `shards`, 2 to the power of `bits`.
            shards: Span,
        }
        /// A part of a list.
        Shard = "shards" { object: u32 }
        /// An object that a list needs, by the digest of its envelope. Sorted, none twice.
        Object = "objects" { digest: Sha256 }
        /// A regular expression as a deterministic automaton over bytes. In state 0 there is no match and will be none, in state 1
        /// there is one. Its data: 256 bytes, the class of each byte; for each state one byte, 1 when there is a match if the text
        /// ends here, else 0; then, from the next multiple of 2 on, for each state and class the next state, `u16`.
        Automaton = "automata" {
            /// The expression, as the source has it.
            pattern: Text,
            start: u32,
            states: u32,
            classes: u32,
            /// Bytes in `automaton-data`; the start is a multiple of 2.
            data: Span,
        }
        /// A semantic version and how it is compared.
        Comparator = "comparators" {
            /// [`VersionRelation`]'s number.
            relation: u32,
            /// Without build metadata.
            version: Text,
        }
    }
}

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $number:literal),* $(,)? })*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $name { $($(#[$variant_doc])* $variant = $number),* }

        impl $name {
            #[inline]
            pub(crate) fn from_number(number: u32) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)* _ => None }
            }

            #[cfg(feature = "compiler")]
            pub(crate) fn number(self) -> u32 {
                self as u32
            }
        }
    )* };
}

numbers! {
    /// What a target serves.
    Kind {
        /// One variant; `serve` is its place among the route's.
        Variant = 0,
        /// Variants by bucket; `serve` is a place in `splits`.
        Split = 1,
        /// The same, but a unit that is missing, or whose bucket is nobody's, does not match.
        Experiment = 2,
        /// `serve` is a place in `ramps`.
        Ramp = 3,
        /// `serve` is a place in `switchbacks`.
        Switchback = 4,
    }
    /// How a number is compared.
    NumberRelation {
        Equal = 0,
        Less = 1,
        LessOrEqual = 2,
        Greater = 3,
        GreaterOrEqual = 4,
    }
    /// How a version is compared.
    VersionRelation {
        Equal = 0,
        NotEqual = 1,
        Less = 2,
        LessOrEqual = 3,
        Greater = 4,
        GreaterOrEqual = 5,
    }
    /// How a moment is compared.
    MomentRelation {
        /// At or after.
        From = 0,
        /// Before.
        Until = 1,
    }
}

/// The text that a test looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A field; an empty one is absent.
    Field(Field),
    /// An attribute, by its place in `attributes`. One that is no text fulfils no test but [`TextTest::Present`].
    Attribute(u32),
}

/// What is asked of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextTest {
    /// It is there.
    Present,
    /// It is in the set.
    In(u32),
    /// It begins with a member of the set.
    Prefix(u32),
    /// It ends with a member of the set.
    Suffix(u32),
    /// It contains a member of the set.
    Contains(u32),
    /// The automaton finds a match.
    Matches(u32),
    /// It is a version that fulfils all these `comparators`; at least one.
    Version(Span),
    /// It is in the list.
    Listed(u32),
}

/// What an instruction asks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Test {
    /// Nothing; it holds. (For the lowest tier.)
    Always,
    /// A test of a text.
    Text(Subject, TextTest),
    /// The attribute is a number that stands in this relation to `value`.
    Number { attribute: u32, relation: NumberRelation, value: f64 },
    /// The attribute is this boolean.
    Boolean { attribute: u32, value: bool },
    /// The attribute is a moment that stands in this relation to `moment`.
    Moment { attribute: u32, relation: MomentRelation, moment: i64 },
    /// The time stands in this relation to `moment`.
    Time { relation: MomentRelation, moment: i64 },
    /// The clock on the wall, `offset` minutes ahead of UTC, is in this part of the day, in milliseconds. It goes over
    /// midnight when `from` is above `until`.
    Daily { from: u32, until: u32, offset: i32 },
    /// The clock on the wall is on one of these days; bit 0 is Monday.
    Weekdays { days: u32, offset: i32 },
    /// The segment's program says yes.
    Segment(u32),
    /// The bucket lies in the slice.
    Bucket(u32),
    /// The route called like this place in `names` serves a variant whose name is in the set.
    Route { name: u32, variants: u32 },
}

/// The second byte of a text test's code for an attribute; below it are the fields' numbers.
const ATTRIBUTE: u32 = 4;

impl Test {
    /// Reads the test of an instruction; `None` for an operation that does not exist.
    pub(crate) fn of(instruction: &Instruction) -> Option<Self> {
        let Instruction { code, subject, low, high, .. } = *instruction;
        let detail = code >> 8;
        let wide = u64::from(low) | u64::from(high) << 32;
        let text = match code & 0xff {
            1 => TextTest::Present,
            2 => TextTest::In(low),
            3 => TextTest::Prefix(low),
            4 => TextTest::Suffix(low),
            5 => TextTest::Contains(low),
            6 => TextTest::Matches(low),
            7 => TextTest::Version(Span { start: low, count: high }),
            8 => TextTest::Listed(low),
            16 => {
                let (relation, value) = (NumberRelation::from_number(detail)?, f64::from_bits(wide));
                return Some(Self::Number { attribute: subject, relation, value });
            }
            17 => return Some(Self::Boolean { attribute: subject, value: low != 0 }),
            18 => {
                let (relation, moment) = (MomentRelation::from_number(detail)?, wide.cast_signed());
                return Some(Self::Moment { attribute: subject, relation, moment });
            }
            32 => {
                let (relation, moment) = (MomentRelation::from_number(detail)?, wide.cast_signed());
                return Some(Self::Time { relation, moment });
            }
            33 => return Some(Self::Daily { from: low, until: high, offset: subject.cast_signed() }),
            34 => return Some(Self::Weekdays { days: low, offset: subject.cast_signed() }),
            48 => return Some(Self::Always),
            49 => return Some(Self::Segment(low)),
            50 => return Some(Self::Bucket(low)),
            51 => return Some(Self::Route { name: low, variants: high }),
            _ => return None,
        };
        let subject = match detail {
            ATTRIBUTE => Subject::Attribute(subject),
            field => Subject::Field(Field::from_number(field)?),
        };
        Some(Self::Text(subject, text))
    }

    /// The instruction that asks this, its jump targets still open.
    #[cfg(feature = "compiler")]
    pub(crate) fn instruction(self) -> Instruction {
        let make = |operation: u32, detail: u32, subject: u32, low: u32, high: u32| Instruction {
            code: operation | detail << 8,
            subject,
            low,
            high,
            ..Instruction::default()
        };
        let wide = |operation: u32, detail: u32, subject: u32, bits: u64| {
            make(operation, detail, subject, bits as u32, (bits >> 32) as u32)
        };
        match self {
            Self::Text(subject, test) => {
                let (detail, subject) = match subject {
                    Subject::Field(field) => (field.number(), NONE),
                    Subject::Attribute(attribute) => (ATTRIBUTE, attribute),
                };
                let (operation, low, high) = match test {
                    TextTest::Present => (1, 0, 0),
                    TextTest::In(set) => (2, set, 0),
                    TextTest::Prefix(set) => (3, set, 0),
                    TextTest::Suffix(set) => (4, set, 0),
                    TextTest::Contains(set) => (5, set, 0),
                    TextTest::Matches(automaton) => (6, automaton, 0),
                    TextTest::Version(Span { start, count }) => (7, start, count),
                    TextTest::Listed(list) => (8, list, 0),
                };
                make(operation, detail, subject, low, high)
            }
            Self::Number { attribute, relation, value } => {
                wide(16, relation.number(), attribute, value.to_bits())
            }
            Self::Boolean { attribute, value } => make(17, 0, attribute, value.into(), 0),
            Self::Moment { attribute, relation, moment } => {
                wide(18, relation.number(), attribute, moment.cast_unsigned())
            }
            Self::Time { relation, moment } => wide(32, relation.number(), NONE, moment.cast_unsigned()),
            Self::Daily { from, until, offset } => make(33, 0, offset.cast_unsigned(), from, until),
            Self::Weekdays { days, offset } => make(34, 0, offset.cast_unsigned(), days, 0),
            Self::Always => make(48, 0, NONE, 0, 0),
            Self::Segment(segment) => make(49, 0, NONE, segment, 0),
            Self::Bucket(slice) => make(50, 0, NONE, slice, 0),
            Self::Route { name, variants } => make(51, 0, NONE, name, variants),
        }
    }
}

impl Instruction {
    /// Field and set of the test that most instructions are: whether a field is in a set.
    #[inline]
    pub(crate) fn field_in(&self) -> Option<(Field, u32)> {
        if self.code & 0xff != 2 {
            return None;
        }
        Field::from_number(self.code >> 8).map(|field| (field, self.low))
    }
}

impl NumberRelation {
    /// Whether `have` stands in this relation to `want`; never for NaN.
    #[expect(clippy::float_cmp, reason = "equality of numbers is what the policy asks for")]
    pub(crate) fn holds(self, have: f64, want: f64) -> bool {
        match self {
            Self::Equal => have == want,
            Self::Less => have < want,
            Self::LessOrEqual => have <= want,
            Self::Greater => have > want,
            Self::GreaterOrEqual => have >= want,
        }
    }
}

impl VersionRelation {
    /// Whether a version that compares like this fulfils the comparator.
    pub(crate) fn holds(self, order: std::cmp::Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}

impl MomentRelation {
    /// Whether `have` stands in this relation to `want`.
    pub(crate) fn holds<T: PartialOrd + Copy>(self, have: T, want: T) -> bool {
        match self {
            Self::From => have >= want,
            Self::Until => have < want,
        }
    }
}

impl Target {
    /// The step of the precedence.
    pub(crate) fn step(&self) -> Option<crate::Step> {
        crate::Step::from_number(self.step_number())
    }

    /// The number of the step of the precedence.
    #[inline]
    pub(crate) fn step_number(&self) -> u8 {
        (self.code & 0xff) as u8
    }

    /// What it serves.
    #[inline]
    pub(crate) fn kind(&self) -> Option<Kind> {
        Kind::from_number(self.code >> 8)
    }

    /// The code of a step that serves this.
    #[cfg(feature = "compiler")]
    pub(crate) fn code(step: crate::Step, kind: Kind) -> u32 {
        u32::from(step.number()) | kind.number() << 8
    }
}

impl Layer {
    pub(crate) fn algorithm(&self) -> Option<Algorithm> {
        u8::try_from(self.algorithm).ok().and_then(Algorithm::from_number)
    }
}

/// The number of a unit that is this field alone.
#[cfg(feature = "compiler")]
pub(crate) fn field_unit(field: Field) -> u32 {
    field.number()
}

/// The fields' numbers are below this; see [`Unit`] and [`UnitPart`].
pub(crate) const FIELDS: u32 = 4;
