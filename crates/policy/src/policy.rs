//! A checked policy: plain data, every reference resolved, every share exact, every name unique.
//!
//! Only [`check`](crate::check) makes these, so [`compile`](crate::compile) finds nothing left to refuse but what depends on
//! the packages at hand.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use lockgate_package::{Digest, Signature};

use crate::decision::ShadowLimits;
use crate::source::{Position, SourceTree};
use crate::{Algorithm, BUCKETS, Field, Placement, Step};

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
    /// Times in which every ramp's clock stands still, sorted; they may overlap.
    pub freezes: Vec<Pause>,
    /// The tiers, lowest first; the first is everyone's.
    pub tiers: Vec<Tier>,
    /// The named segments.
    pub segments: BTreeMap<String, Segment>,
    /// The named layers.
    pub layers: BTreeMap<String, NamedLayer>,
    /// The named holdouts.
    pub holdouts: BTreeMap<String, Holdout>,
    /// The routes, by scope and name.
    pub routes: BTreeMap<RouteKey, Route>,
    /// What it was read from, for the places of warnings.
    pub(crate) tree: SourceTree,
}

impl Policy {
    /// Every model version that a variant uses.
    pub fn model_versions(&self) -> BTreeSet<&ModelVersion> {
        let variants = self.routes.values().flat_map(|route| &route.variants);
        variants.map(|variant| &variant.model).collect()
    }

    /// The names of all files with lists of units, as the source writes them.
    pub fn list_files(&self) -> BTreeSet<&str> {
        let segments = self.segments.values().flat_map(|segment| [&segment.include, &segment.exclude]);
        let tiers = self.tiers.iter().map(|tier| &tier.members);
        let routes = self.routes.values().flat_map(|route| route.members().map(|(members, _)| members));
        let members = segments.chain(tiers).chain(routes);
        members.flat_map(|members| members.files.values().map(String::as_str)).collect()
    }

    /// Calls files with lists of units otherwise: `name` gives the new name of one that changes its name.
    pub fn rename_list_files(&mut self, name: impl Fn(&str) -> Option<String>) {
        let segments =
            self.segments.values_mut().flat_map(|segment| [&mut segment.include, &mut segment.exclude]);
        let tiers = self.tiers.iter_mut().map(|tier| &mut tier.members);
        let routes = self.routes.values_mut().flat_map(|route| {
            let requests = route.requests.iter_mut().map(|request| &mut request.members);
            requests.chain(route.groups.iter_mut().map(|group| &mut group.members))
        });
        for file in segments.chain(tiers).chain(routes).flat_map(|members| members.files.values_mut()) {
            if let Some(name) = name(file) {
                *file = name;
            }
        }
    }
}

/// Names one definition of a route: a name may be defined for the platform, for tenants, and for users.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteKey {
    /// The name that callers ask for.
    pub name: String,
    /// Whose definition it is.
    pub scope: RouteScope,
}

impl RouteKey {
    /// The platform's definition of `name`.
    pub fn platform(name: impl Into<String>) -> Self {
        Self { name: name.into(), scope: RouteScope::default() }
    }

    /// The name of the route's own layer: `name`, `tenant/name`, `tenant/user/name` or `/user/name`.
    pub fn layer_name(&self) -> String {
        let escape = |text: &str| text.replace('%', "%25").replace('/', "%2F");
        let RouteScope { tenant, user } = &self.scope;
        let tenant = tenant.as_deref().map(escape);
        match user.as_deref().map(escape) {
            Some(user) => format!("{}/{user}/{}", tenant.unwrap_or_default(), self.name),
            None => tenant.map_or_else(|| self.name.clone(), |tenant| format!("{tenant}/{}", self.name)),
        }
    }
}

/// Whose definition of a route it is; nobody's in particular is the platform's.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteScope {
    /// The tenant.
    pub tenant: Option<String>,
    /// The user, of the tenant if there is one.
    pub user: Option<String>,
}

/// Milliseconds since 1970-01-01T00:00Z.
pub type Millis = i64;

/// A time in which a ramp's clock stands still: from the first moment up to, not including, the second.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pause {
    /// The first moment.
    pub from: Millis,
    /// The moment when it goes on; `None` when that is not known yet.
    pub until: Option<Millis>,
    /// Why, for people.
    pub reason: Option<String>,
}

/// The time in which a step can match: from the first moment up to, not including, the second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Window {
    /// The first moment.
    pub from: Option<Millis>,
    /// The moment when it is over.
    pub until: Option<Millis>,
}

/// A level of service.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tier {
    /// Its name.
    pub name: String,
    /// Who has it; nobody needs to be listed in the lowest.
    pub members: Members,
    /// Where this was written.
    pub origin: Origin,
}

/// A named group.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Segment {
    /// Who belongs to it.
    pub include: Members,
    /// Who does not, whatever else says so.
    pub exclude: Members,
    /// Whoever fulfils this belongs to it too.
    pub condition: Option<Condition>,
    /// Where this was written.
    pub origin: Origin,
}

/// A named hash space, with what is kept out of its experiments.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NamedLayer {
    /// The hash space.
    pub layer: Layer,
    /// What its experiments and its holdout stick to.
    pub unit: Unit,
    /// The share that belongs to no experiment and gets the baseline.
    pub holdout: Share,
    /// Where this was written.
    pub origin: Origin,
}

/// A slice of units that gets the baseline of some routes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holdout {
    /// Its hash space.
    pub layer: Layer,
    /// What it sticks to.
    pub unit: Unit,
    /// How much is held out.
    pub share: Share,
    /// The names of the routes; `None` means all.
    pub routes: Option<BTreeSet<String>>,
    /// Where this was written.
    pub origin: Origin,
}

/// Where in the source something was written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Line and column.
    pub position: Position,
    /// The place within the document, `routes.eurusd-direction`.
    pub path: String,
}

/// The beginning of the document.
impl Default for Origin {
    fn default() -> Self {
        Self { position: Position::START, path: String::new() }
    }
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
    /// The hash.
    pub algorithm: Algorithm,
}

/// Who belongs to a segment or group: whoever is in one of the lists or segments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Members {
    /// Values by field.
    pub values: BTreeMap<Field, BTreeSet<String>>,
    /// Files with further values, one a line, as the source names them.
    pub files: BTreeMap<Field, String>,
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
    /// Who may know of it; `None` means everyone within its scope.
    pub access: Option<Condition>,
    /// The hash space of its own, which carries its name.
    pub layer: Layer,
    /// The name of the variant that serves when the route is disabled or a split's unit is missing.
    pub baseline: String,
    /// The variants, in the order of the source.
    pub variants: Vec<Variant>,
    /// What serves instead of an unavailable variant that has no such list of its own, in order.
    pub fallbacks: Vec<String>,
    /// The overrides, in the order of the source; the first that names the context wins.
    pub overrides: Vec<Override>,
    /// Who may ask for which variants.
    pub requests: Vec<Request>,
    /// The test groups, in order, then the symbol rollouts, in order.
    pub groups: Vec<Group>,
    /// The rules, in order.
    pub rules: Vec<Rule>,
    /// What serves when nothing before matched.
    pub default: Serve,
    /// What runs beside the variant that serves.
    pub shadows: Vec<Shadow>,
    /// The share of requests that are recorded; `None` leaves it to the shell.
    pub records: Option<Share>,
    /// Where this was written.
    pub origin: Origin,
}

impl Route {
    /// The groups that stand in one step of the precedence, in order.
    pub fn groups_of(&self, kind: GroupKind) -> impl Iterator<Item = &Group> {
        self.groups.iter().filter(move |group| group.kind == kind)
    }

    /// What its groups, its rules and its default serve, in the order of the precedence.
    pub fn serves(&self) -> impl Iterator<Item = &Serve> {
        let groups = self.groups.iter().map(|group| &group.serve);
        let rules = self.rules.iter().map(|rule| &rule.serve);
        groups.chain(rules).chain([&self.default])
    }

    pub(crate) fn serves_mut(&mut self) -> impl Iterator<Item = &mut Serve> {
        let groups = self.groups.iter_mut().map(|group| &mut group.serve);
        let rules = self.rules.iter_mut().map(|rule| &mut rule.serve);
        groups.chain(rules).chain([&mut self.default])
    }

    /// Who may ask for variants and who belongs to its groups, with where that was written.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&Members, &Origin)> {
        let requests = self.requests.iter().map(|request| (&request.members, &request.origin));
        requests.chain(self.groups.iter().map(|group| (&group.members, &group.origin)))
    }
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
    /// Whether it may serve; a disabled variant is as good as unavailable.
    pub enabled: bool,
    /// What serves when it is unavailable, in order; `None` means what the route says.
    pub fallbacks: Option<Vec<String>>,
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
    /// Where this was written.
    pub origin: Origin,
}

/// Lets the members of a group have the variant that they ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Request {
    /// Its name.
    pub name: String,
    /// Who may ask.
    pub members: Members,
    /// For which variants.
    pub variants: Vec<String>,
    /// Where this was written.
    pub origin: Origin,
}

/// Gives a copy of some requests to a variant that does not serve.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Shadow {
    /// Its name.
    pub name: String,
    /// The variant.
    pub variant: String,
    /// Which requests; `None` means all.
    pub condition: Option<Condition>,
    /// When.
    pub window: Window,
    /// What the sample sticks to.
    pub unit: Unit,
    /// How much of it.
    pub sample: Share,
    /// How much the shell may spend on it.
    pub limits: ShadowLimits,
    /// Where this was written.
    pub origin: Origin,
}

/// Gives the members of a group a variant or a split.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Group {
    /// In which step of the precedence it stands.
    pub kind: GroupKind,
    /// Its name.
    pub name: String,
    /// Who belongs to it.
    pub members: Members,
    /// When.
    pub window: Window,
    /// What they get.
    pub serve: Serve,
    /// Where this was written.
    pub origin: Origin,
}

/// The step of the precedence in which a group stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupKind {
    /// A test group: whoever belongs to it.
    TestGroup,
    /// A symbol rollout: the symbols, and segments of them.
    SymbolRollout,
}

impl GroupKind {
    /// Both, in the order of the precedence.
    pub const ALL: [Self; 2] = [Self::TestGroup, Self::SymbolRollout];

    /// The step.
    pub fn step(self) -> Step {
        match self {
            Self::TestGroup => Step::TestGroup,
            Self::SymbolRollout => Step::SymbolRollout,
        }
    }

    /// The key of a route under which the source lists such groups.
    pub fn section(self) -> &'static str {
        match self {
            Self::TestGroup => "test_groups",
            Self::SymbolRollout => "symbol_rollouts",
        }
    }

    /// What people call it.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::TestGroup => "test group",
            Self::SymbolRollout => "symbol rollout",
        }
    }
}

/// Gives whoever fulfils a condition a variant or a split.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// The condition; `None` for an experiment or a switchback of everyone.
    pub condition: Option<Condition>,
    /// When.
    pub window: Window,
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
    /// Several, by bucket, in stages.
    Ramp(Ramp),
    /// Several, by bucket, in a slice of a layer of its own. Rules only.
    Experiment(Experiment),
    /// Several, by unit and window of time. Not the default.
    Switchback(Switchback),
}

/// The shares of variants in the hash space of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Split {
    /// What the split sticks to.
    pub unit: Unit,
    /// The hash space.
    pub layer: Layer,
    /// Each variant's share.
    pub shares: Shares,
}

/// Each variant's part of a hash space: in the order of the source in a layer with another system's hash, else in that of the
/// names. The parts add up to the scale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shares {
    /// How many buckets there are: 100 000, or what the layer's algorithm has.
    pub scale: u32,
    /// Variant and number of buckets.
    pub parts: Vec<(String, u32)>,
}

/// A schedule of splits.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ramp {
    /// What the splits stick to.
    pub unit: Unit,
    /// The hash space.
    pub layer: Layer,
    /// The variant that serves everyone before the first stage.
    pub from: String,
    /// When the first stage may begin.
    pub start: Millis,
    /// The stages, first one first; at least one.
    pub stages: Vec<Stage>,
    /// The highest stage that may be entered, counted from 1.
    pub approved_stage: u32,
    /// Whether the clock alone suffices.
    pub automatic: bool,
    /// Times in which the ramp's clock stands still, sorted; they may overlap. The policy's freezes are not among them.
    pub pauses: Vec<Pause>,
}

/// A stage of a ramp.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stage {
    /// Each variant's share.
    pub shares: Shares,
    /// Milliseconds on the ramp's clock after which the stage may be entered; each above that of the stage before.
    pub offset: u64,
}

/// Variants in a slice of a layer that no other experiment of the layer touches.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Experiment {
    /// The name of the layer in [`Policy::layers`].
    pub layer: String,
    /// Each variant's share of the whole layer; what is missing is not the experiment's.
    pub shares: BTreeMap<String, Share>,
}

/// Whole windows of time for one variant after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Switchback {
    /// What has windows of its own.
    pub unit: Unit,
    /// The variants, at least two, in the order of the source.
    pub variants: Vec<String>,
    /// When the first window begins.
    pub start: Millis,
    /// When it is over.
    pub end: Option<Millis>,
    /// The length of a window in milliseconds.
    pub window: u64,
    /// How much of its beginning is left out, less than the window.
    pub washout: u64,
    /// What the order of the variants is drawn with.
    pub seed: String,
}

/// A part of a unit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UnitPart {
    /// A field.
    Field(Field),
    /// An attribute, by name; it counts when it is a text.
    Attribute(String),
}

/// What a split sticks to: one part, or several in this order. Never empty, no part twice, eight at most.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Unit(pub(crate) Vec<UnitPart>);

impl Unit {
    /// The parts.
    pub fn parts(&self) -> &[UnitPart] {
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
    /// The context has this tier or a higher one.
    Tier(String),
    /// A test of a field.
    Field(Field, TextTest),
    /// A test of an attribute.
    Attribute(String, AttributeTest),
    /// A test of the time.
    Time(TimeTest),
    /// The unit's bucket lies in a slice of a layer.
    Bucket(Slice),
    /// Another route would serve one of these variants.
    Route {
        /// The other route's name.
        route: String,
        /// The names of its variants.
        serves: BTreeSet<String>,
    },
}

/// A test of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TextTest {
    /// It is there.
    Present,
    /// It is one of these.
    In(BTreeSet<String>),
    /// It begins with one of these.
    Prefix(BTreeSet<String>),
    /// It ends with one of these.
    Suffix(BTreeSet<String>),
    /// It contains one of these.
    Contains(BTreeSet<String>),
    /// The regular expression, as written, finds a match in it.
    Matches(String),
    /// It is a semantic version that fulfils all of these.
    Semver(Vec<(VersionComparison, semver::Version)>),
}

/// A relation between semantic versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VersionComparison {
    /// Equal to.
    Equal,
    /// Not equal to.
    NotEqual,
    /// Before.
    Less,
    /// Before or equal to.
    LessOrEqual,
    /// After.
    Greater,
    /// After or equal to.
    GreaterOrEqual,
}

/// A test of the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TimeTest {
    /// At or after this moment.
    From(Millis),
    /// Before this moment.
    Until(Millis),
    /// By the clock on the wall: milliseconds of the day.
    Daily {
        /// The first moment.
        from: u32,
        /// The moment when it is over; over midnight when it is not above `from`.
        until: u32,
        /// Minutes by which the clock on the wall is ahead of UTC.
        offset: i32,
    },
    /// On some days of the week.
    Weekdays {
        /// Bit 0 is Monday.
        days: u8,
        /// Minutes by which the clock on the wall is ahead of UTC.
        offset: i32,
    },
}

/// A slice of a hash space.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Slice {
    /// The hash space.
    pub layer: Layer,
    /// What is hashed.
    pub unit: Unit,
    /// How many buckets there are.
    pub scale: u32,
    /// The first bucket.
    pub from: u32,
    /// The first bucket behind it.
    pub below: u32,
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
    /// It is a text that fulfils this.
    Text(TextTest),
    /// It is a moment at or after this one.
    From(Millis),
    /// It is a moment before this one.
    Until(Millis),
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
