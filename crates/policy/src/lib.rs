//! The routing policy: what people write, what machines run, and the decision.
//!
//! A policy passes through three types, each of which can only hold what the step before has let through:
//!
//! - a policy source, a tree of values with their places in a YAML or JSON file;
//! - a checked policy: plain data, every reference resolved, every share exact;
//! - a [`Bundle`], the binary form: explicit bucket intervals, every model version pinned to a package digest, sections
//!   that are used where they lie.
//!
//! Only the last one is needed to decide. Reading and checking source, compiling and explaining sit behind the feature
//! `compiler`, so that the core's `policy` module carries the evaluator alone.
//!
//! [`Bundle::decide`] is a pure function of the bundle, the context, the time and the list of unavailable packages: it
//! allocates nothing, and a bundle that has loaded cannot make it fail. `docs/policy-reference.md` is the reference of the language,
//! `docs/policy-semantics.md` says what a decision depends on, and `docs/hashing.md` fixes the hash byte by byte.
//!
//! This crate knows nothing of files, clocks, networks or of what a model computes; times, bytes and digests come in as
//! arguments.

mod bundle;
mod clock;
mod context;
mod decision;
mod evaluate;
mod hash;
mod lists;
mod message;
pub mod moment;
mod profiles;
mod semver;

pub use bundle::{Bundle, BundleHeader, LoadError, ModelView, RouteView, ShadowView, VariantView};
pub use context::{Attribute, AttributeValue, Context, Field, RequestContext};
pub use decision::{Decision, Placement, Reason, ShadowLimits, Step, UnknownRoute};
pub use evaluate::Choice;
pub use hash::{Algorithm, BUCKETS, bucket};
pub use lists::ListObject;

#[cfg(feature = "compiler")]
mod attributes;
#[cfg(feature = "compiler")]
mod automaton;
#[cfg(feature = "compiler")]
mod cases;
#[cfg(feature = "compiler")]
mod check;
#[cfg(feature = "compiler")]
mod compile;
#[cfg(feature = "compiler")]
mod diagnostic;
#[cfg(feature = "compiler")]
mod diff;
#[cfg(feature = "compiler")]
mod explain;
#[cfg(feature = "compiler")]
mod fmt;
#[cfg(feature = "compiler")]
mod import;
#[cfg(feature = "compiler")]
mod intervals;
#[cfg(feature = "compiler")]
mod language;
#[cfg(feature = "compiler")]
mod lint;
#[cfg(feature = "compiler")]
mod missing;
#[cfg(feature = "compiler")]
mod policy;
#[cfg(feature = "compiler")]
mod simulate;
#[cfg(feature = "compiler")]
mod source;
#[cfg(feature = "compiler")]
mod steps;
#[cfg(feature = "compiler")]
mod verify;
#[cfg(feature = "compiler")]
mod write;

#[cfg(feature = "compiler")]
pub use attributes::{AttributeUse, InexactNumber, attribute_uses, decimal};
#[cfg(feature = "compiler")]
pub use cases::{
    Case, CaseFailure, CaseResult, Cases, Difference, context_words, decision_words, parse_cases,
};
#[cfg(feature = "compiler")]
pub use check::check;
#[cfg(feature = "compiler")]
pub use compile::{CompileOptions, Compiled, Object, PackageRef, compile, stand_ins};
#[cfg(feature = "compiler")]
pub use diagnostic::{Diagnostic, Diagnostics, Severity, printable};
#[cfg(feature = "compiler")]
pub use diff::{
    Change, ListChange, MissingInDiff, Move, PackageChange, Period, PolicyDiff, RouteDiff, RouteUnits,
    Status, StepDiff, UnitMove, UnitsDiff, diff, diff_units,
};
#[cfg(feature = "compiler")]
pub use explain::{DecidedShadow, Trace, TraceDecision, TraceShadow, TraceStep, explain};
#[cfg(feature = "compiler")]
pub use fmt::format_source;
#[cfg(feature = "compiler")]
pub use import::{Extent, ImportOptions, Imported, Loss, Models, PLACEHOLDER_MODEL, System, import};
#[cfg(feature = "compiler")]
pub use language::{reference, schema};
#[cfg(feature = "compiler")]
pub use lint::{lint, lint_with};
#[cfg(feature = "compiler")]
pub use missing::{MissingEffect, MissingPart, MissingUnit};
#[cfg(feature = "compiler")]
pub use policy::{
    AttributeTest, Comparison, Condition, Experiment, Group, GroupKind, Holdout, Layer, Members, Millis,
    Model, ModelVersion, NamedLayer, Origin, Override, Pause, Policy, Ramp, Request, Route, RouteKey,
    RouteScope, Rule, Scalar, Segment, Serve, Shadow, Share, Shares, Slice, Split, Stage, Switchback,
    TextTest, Tier, TimeTest, Unit, UnitPart, Variant, VersionComparison, Window,
};
#[cfg(feature = "compiler")]
pub use simulate::{Point, Simulation, StepCount, assume_approvals, simulate};
#[cfg(feature = "compiler")]
pub use source::{Entry, ListFile, Node, PolicySource, Position, Value, parse, parse_list, read};
#[cfg(feature = "compiler")]
pub use verify::{SourceMismatch, unit_lists, verify_source};
#[cfg(feature = "compiler")]
pub use write::write_source;
