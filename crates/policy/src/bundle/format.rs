//! The sections of a bundle, format 1.0, and their records.
//!
//! Every record is a row of little-endian `u32`; a text is an index into the string table, and [`NONE`] stands for
//! "nothing". A list is a start and a count in another section. A reader of this format finds everything by index and
//! copies nothing.
//!
//! Set 0 holds the names of the routes, so a route is found as quickly as a member of any set.

use std::marker::PhantomData;

/// The newest format that this code reads and the one that it writes.
pub(crate) const FORMAT: (u16, u16) = (1, 0);

/// An absent index.
pub(crate) const NONE: u32 = u32::MAX;
/// A jump target: the program's answer is yes.
pub(crate) const ACCEPT: u32 = u32::MAX;
/// A jump target: the program's answer is no.
pub(crate) const REJECT: u32 = u32::MAX - 1;
/// The set of the routes' names.
pub(crate) const ROUTE_NAMES: u32 = 0;
/// The bit of a route's flags that says it is enabled.
pub(crate) const ENABLED: u32 = 1;

macro_rules! sections {
    ($($(#[$doc:meta])* $name:ident = $text:literal),* $(,)?) => {
        /// A section of the bundle.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Section { $($(#[$doc])* $name),* }

        impl Section {
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The name in the envelope's section table.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }
    };
}

sections! {
    /// Where each string begins; one more entry than strings.
    StringOffsets = "string-offsets",
    /// The strings, UTF-8, one behind the other.
    StringBytes = "string-bytes",
    /// [`Route`] records, sorted by name.
    Routes = "routes",
    /// [`Variant`] records.
    Variants = "variants",
    /// [`Model`] records.
    Models = "models",
    /// 32 bytes for each model: the SHA-256 of its package.
    Digests = "digests",
    /// [`Layer`] records.
    Layers = "layers",
    /// [`Override`] records.
    Overrides = "overrides",
    /// [`OverrideValue`] records.
    OverrideValues = "override-values",
    /// [`Target`] records.
    Targets = "targets",
    /// [`Interval`] records.
    Intervals = "intervals",
    /// [`Segment`] records.
    Segments = "segments",
    /// [`Instruction`] records.
    Programs = "programs",
    /// [`Set`] records.
    Sets = "sets",
    /// [`Word`] records: the members of sets, as strings.
    SetMembers = "set-members",
    /// [`Word`] records: hash tables; 0 is an empty slot, n the member n − 1 of the set.
    SetTables = "set-tables",
    /// MessagePack, one signature behind the other.
    Signatures = "signatures",
}

/// A row of `u32`.
pub(crate) trait Record: Copy + Default {
    /// Bytes of one record.
    const SIZE: usize;

    /// Reads a record of at least `SIZE` bytes.
    fn read(bytes: &[u8]) -> Self;

    /// Appends the record.
    #[cfg(feature = "compiler")]
    fn write(&self, out: &mut Vec<u8>);
}

macro_rules! records {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident),* $(,)? })*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub(crate) struct $name { $($(#[$field_doc])* pub(crate) $field: u32),* }

        impl Record for $name {
            const SIZE: usize = 4 * [$(stringify!($field)),*].len();

            fn read(bytes: &[u8]) -> Self {
                let (words, _) = bytes.as_chunks::<4>();
                let mut words = words.iter();
                Self { $($field: words.next().map_or(0, |word| u32::from_le_bytes(*word))),* }
            }

            #[cfg(feature = "compiler")]
            fn write(&self, out: &mut Vec<u8>) {
                $(out.extend_from_slice(&self.$field.to_le_bytes());)*
            }
        }
    )* };
}

records! {
    /// One number.
    Word { value }
    /// A route. The targets are in the order of precedence; the last one is the default.
    Route {
        name, description, flags,
        /// Index among the route's variants.
        baseline,
        variants_start, variants_count,
        overrides_start, overrides_count,
        targets_start, targets_count,
        /// Bytes in the section `signatures`.
        signature_start, signature_len,
    }
    /// A variant of a route.
    Variant { name, model, payload }
    /// A model version and where it runs.
    Model { name, version, placement }
    /// A hash space.
    Layer { name, salt }
    /// The overrides of a route by one field: the set's member n gets value `values_start` + n.
    Override { field, set, values_start }
    /// Which variant an override serves, and its place in the source: the earlier of two that match wins.
    OverrideValue { order, variant }
    /// What a step of the precedence serves to whom. An empty program matches everyone.
    Target {
        step, name, program_start, program_len,
        /// Index among the route's variants, or `NONE` for a split.
        variant,
        /// Up to four bytes, the first part lowest: field number + 1, 0 at the end.
        unit,
        layer,
        intervals_start, intervals_count,
    }
    /// The buckets from the end of the one before up to, not including, `end`.
    Interval { end, variant }
    /// A named segment.
    Segment { name, program_start, program_len }
    /// A test and where to go next, counted from the program's first instruction.
    Instruction {
        /// Operation, lowest byte; field or comparison, next byte.
        code,
        on_true, on_false,
        /// The attribute's name.
        name,
        /// The operand's lower and upper half.
        low, high,
    }
    /// A set of texts. A table of 0 slots means that the members are compared one by one.
    Set { members_start, members_count, table_start, table_len }
}

/// A section read as records.
#[derive(Clone, Copy)]
pub(crate) struct Table<'b, R> {
    bytes: &'b [u8],
    record: PhantomData<R>,
}

impl<'b, R: Record> Table<'b, R> {
    pub(crate) fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, record: PhantomData }
    }

    /// The number of records; `u32::MAX` stands for more than a bundle can address.
    pub(crate) fn len(self) -> u32 {
        u32::try_from(self.bytes.len() / R::SIZE).unwrap_or(u32::MAX)
    }

    /// Record `index`; zeros beyond the end, which a loaded bundle never asks for.
    pub(crate) fn get(self, index: u32) -> R {
        let start = (index as usize).saturating_mul(R::SIZE);
        let record = self.bytes.get(start..).and_then(|rest| rest.get(..R::SIZE));
        record.map_or_else(R::default, R::read)
    }

    /// `count` records from `start` on.
    pub(crate) fn range(self, start: u32, count: u32) -> impl Iterator<Item = R> + use<'b, R> {
        let first = (start as usize).saturating_mul(R::SIZE);
        let rest = self.bytes.get(first..).unwrap_or_default();
        rest.chunks_exact(R::SIZE).take(count as usize).map(R::read)
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = R> + use<'b, R> {
        self.range(0, u32::MAX)
    }
}

/// How an attribute that is a number is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NumberTest {
    Equal = 0,
    Less = 1,
    LessOrEqual = 2,
    Greater = 3,
    GreaterOrEqual = 4,
}

impl NumberTest {
    fn from_number(number: u32) -> Option<Self> {
        use NumberTest::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual};
        [Equal, Less, LessOrEqual, Greater, GreaterOrEqual].into_iter().find(|test| *test as u32 == number)
    }

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

/// What an instruction asks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Test {
    /// The field's value is in the set.
    FieldIn(crate::Field, u32),
    /// The field has a value.
    FieldPresent(crate::Field),
    /// The attribute is a text in the set.
    AttributeIn { name: u32, set: u32 },
    /// The attribute has a value of any type.
    AttributePresent { name: u32 },
    /// The attribute is a number that stands in this relation to `value`.
    AttributeNumber { name: u32, test: NumberTest, value: f64 },
    /// The attribute is this boolean.
    AttributeBoolean { name: u32, value: bool },
    /// The segment's program says yes.
    Segment(u32),
}

impl Test {
    /// Reads the test of an instruction; `None` for an operation that does not exist.
    pub(crate) fn of(instruction: Instruction) -> Option<Self> {
        let Instruction { code, name, low, high, .. } = instruction;
        let detail = code >> 8;
        match code & 0xff {
            1 => Some(Self::FieldIn(crate::Field::from_number(detail)?, low)),
            2 => Some(Self::FieldPresent(crate::Field::from_number(detail)?)),
            3 => Some(Self::AttributeIn { name, set: low }),
            4 => Some(Self::AttributePresent { name }),
            5 => {
                let value = f64::from_bits(u64::from(low) | u64::from(high) << 32);
                Some(Self::AttributeNumber { name, test: NumberTest::from_number(detail)?, value })
            }
            6 => Some(Self::AttributeBoolean { name, value: low != 0 }),
            7 => Some(Self::Segment(low)),
            _ => None,
        }
    }

    /// The instruction that asks this, its jump targets still open.
    #[cfg(feature = "compiler")]
    pub(crate) fn instruction(self) -> Instruction {
        let blank = Instruction { name: NONE, ..Instruction::default() };
        match self {
            Self::FieldIn(field, set) => Instruction { code: 1 | field.number() << 8, low: set, ..blank },
            Self::FieldPresent(field) => Instruction { code: 2 | field.number() << 8, ..blank },
            Self::AttributeIn { name, set } => Instruction { code: 3, name, low: set, ..blank },
            Self::AttributePresent { name } => Instruction { code: 4, name, ..blank },
            Self::AttributeNumber { name, test, value } => {
                let bits = value.to_bits();
                let (low, high) = (bits as u32, (bits >> 32) as u32);
                Instruction { code: 5 | (test as u32) << 8, name, low, high, ..blank }
            }
            Self::AttributeBoolean { name, value } => {
                Instruction { code: 6, name, low: u32::from(value), ..blank }
            }
            Self::Segment(segment) => Instruction { code: 7, low: segment, ..blank },
        }
    }
}

/// The fields of a packed unit, in order.
pub(crate) fn unit_fields(unit: u32) -> impl Iterator<Item = crate::Field> {
    let bytes = unit.to_le_bytes();
    bytes.into_iter().take_while(|byte| *byte != 0).filter_map(|byte| {
        let number = u32::from(byte).checked_sub(1)?;
        crate::Field::from_number(number)
    })
}

/// The packed form of at most four fields.
#[cfg(feature = "compiler")]
pub(crate) fn pack_unit(fields: &[crate::Field]) -> u32 {
    let mut bytes = [0; 4];
    for (byte, field) in bytes.iter_mut().zip(fields) {
        *byte = *field as u8 + 1;
    }
    u32::from_le_bytes(bytes)
}
