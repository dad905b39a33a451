//! A checked policy: plain data, every reference resolved, every share exact, every name unique.
//!
//! Only [`check`](crate::check) makes these, so [`compile`](crate::compile) finds nothing left to refuse but what depends on
//! the packages at hand.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use lockgate_package::{Digest, Signature};

use crate::source::Position;
use crate::{BUCKETS, Field, Placement};

/// A checked policy.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Policy {
    /// The file it came from, for messages.
    pub file: String,
    /// The version that the source gives itself.
    pub version: Option<u64>,
    /// What the source says about model versions; `None` when it has no section `models`.
    pub models: Option<BTreeMap<ModelVersion, Model>>,
    /// The named segments.
    pub segments: BTreeMap<String, Members>,
    /// The named layers.
    pub layers: BTreeMap<String, Layer>,
    /// The routes.
    pub routes: BTreeMap<String, Route>,
}

impl Policy {
    /// Every model version that a variant uses.
    pub fn model_versions(&self) -> BTreeSet<&ModelVersion> {
        let variants = self.routes.values().flat_map(|route| &route.variants);
        variants.map(|variant| &variant.model).collect()
    }
}

/// Where in the source something was written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Line and column.
    pub position: Position,
    /// The place within the document, `routes.eurusd-direction`.
    pub path: String,
}

/// A model and its semantic version, `eurusd_lstm@2.1.0`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelVersion {
    /// The model's name.
    pub model: String,
    /// The version, as it is written.
    pub version: String,
}

impl fmt::Display for ModelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.model, self.version)
    }
}

/// What the source says about a model version.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Model {
    /// The package that the source pins.
    pub digest: Option<Digest>,
    /// Where the version runs.
    pub placement: Placement,
    /// Where this was written.
    pub origin: Origin,
}

/// A hash space that several splits may share.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Layer {
    /// The layer's name, which decisions carry.
    pub name: String,
    /// What goes into the hash.
    pub salt: String,
}

/// Who belongs to a segment or group: whoever is in one of the lists or segments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Members {
    /// Values by field.
    pub values: BTreeMap<Field, BTreeSet<String>>,
    /// Names of segments whose members belong too.
    pub segments: BTreeSet<String>,
}

/// A route.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Route {
    /// What it is for, in words.
    pub description: Option<String>,
    /// Inputs and outputs, when the source declares them.
    pub signature: Option<Signature>,
    /// Whether it is enabled; a disabled route serves its baseline.
    pub enabled: bool,
    /// The name of the variant that serves when the route is disabled or a split's unit is missing.
    pub baseline: String,
    /// The variants, in the order of the source.
    pub variants: Vec<Variant>,
    /// The overrides, in the order of the source; the first that names the context wins.
    pub overrides: Vec<Override>,
    /// The test groups, in order.
    pub test_groups: Vec<TestGroup>,
    /// The symbol rollouts, in order.
    pub symbol_rollouts: Vec<SymbolRollout>,
    /// The rules, in order.
    pub rules: Vec<Rule>,
    /// What serves when nothing before matched.
    pub default: Serve,
    /// Where this was written.
    pub origin: Origin,
}

/// A named choice of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Variant {
    /// Its name.
    pub name: String,
    /// The model version that it runs.
    pub model: ModelVersion,
    /// What the caller receives beside the prediction, JSON text.
    pub payload: Option<String>,
    /// Where this was written.
    pub origin: Origin,
}

/// Gives named units a variant, before anything else is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Override {
    /// The field that is compared.
    pub field: Field,
    /// Its values.
    pub values: BTreeSet<String>,
    /// The variant's name.
    pub serve: String,
}

/// Gives the members of a group a variant or a split.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TestGroup {
    /// Its name.
    pub name: String,
    /// Who belongs to it.
    pub members: Members,
    /// What they get.
    pub serve: Serve,
    /// Where this was written.
    pub origin: Origin,
}

/// Gives symbols a variant or a split.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SymbolRollout {
    /// Its name.
    pub name: String,
    /// The symbols, and segments of them.
    pub members: Members,
    /// What they get.
    pub serve: Serve,
    /// Where this was written.
    pub origin: Origin,
}

/// Gives whoever fulfils a condition a variant or a split.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// The condition.
    pub condition: Condition,
    /// What serves.
    pub serve: Serve,
    /// Where this was written.
    pub origin: Origin,
}

/// What a step serves.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Serve {
    /// One variant, by name.
    Variant(String),
    /// Several, by bucket.
    Split(Split),
}

/// The shares of variants in the hash space of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Split {
    /// What the split sticks to.
    pub unit: Unit,
    /// The hash space.
    pub layer: Layer,
    /// Each variant's share; together they are 100 %.
    pub shares: BTreeMap<String, Share>,
}

/// What a split sticks to: one field, or several in this order. Never empty, no field twice.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Unit(pub(crate) Vec<Field>);

impl Unit {
    /// The fields.
    pub fn fields(&self) -> &[Field] {
        &self.0
    }
}

/// A share in thousandths of a percent, the width of one bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(pub(crate) u32);

impl Share {
    /// Everything.
    pub const WHOLE: Self = Self(BUCKETS);

    /// How many buckets it is wide.
    pub fn buckets(self) -> u32 {
        self.0
    }
}

/// In percent, `12.5`.
impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_percent(u64::from(self.0), f)
    }
}

/// Thousandths of a percent as a decimal number of percent.
pub(crate) fn write_percent(thousandths: u64, out: &mut impl fmt::Write) -> fmt::Result {
    let (whole, rest) = (thousandths / 1000, thousandths % 1000);
    if rest == 0 {
        return write!(out, "{whole}");
    }
    let digits = format!("{rest:03}");
    write!(out, "{whole}.{}", digits.trim_end_matches('0'))
}

/// What must hold for a rule to match.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Condition {
    /// All of these; at least one.
    All(Vec<Condition>),
    /// Any of these; at least one.
    Any(Vec<Condition>),
    /// Not this.
    Not(Box<Condition>),
    /// The context belongs to the segment.
    Segment(String),
    /// A test of a field.
    Field(Field, TextTest),
    /// A test of an attribute.
    Attribute(String, AttributeTest),
}

/// A test of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TextTest {
    /// It is there.
    Present,
    /// It is one of these.
    In(BTreeSet<String>),
}

/// A test of an attribute.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum AttributeTest {
    /// It is there.
    Present,
    /// It is one of these, in type and value.
    In(Vec<Scalar>),
    /// It is a number that stands in this relation to the operand.
    Compare(Comparison, f64),
}

/// A value that an attribute can be equal to.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Scalar {
    /// A text.
    Text(String),
    /// A number.
    Number(f64),
    /// True or false.
    Boolean(bool),
}

/// A relation between numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// Less than.
    Less,
    /// Less than or equal to.
    LessOrEqual,
    /// Greater than.
    Greater,
    /// Greater than or equal to.
    GreaterOrEqual,
}
