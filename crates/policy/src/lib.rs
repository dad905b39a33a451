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
//! allocates nothing, and a bundle that has loaded cannot make it fail. `docs/policy.md` is the reference of the language,
//! `docs/policy-semantics.md` says what a decision depends on, and `docs/hashing.md` fixes the hash byte by byte.
//!
//! This crate knows nothing of files, clocks, networks or of what a model computes; times, bytes and digests come in as
//! arguments.

mod bundle;
mod context;
mod decision;
mod evaluate;
mod hash;

pub use bundle::{Bundle, LoadError, ModelView, RouteView, VariantView};
pub use context::{Attribute, AttributeValue, Context, Field, RequestContext};
pub use decision::{Decision, Placement, Reason, Step, UnknownRoute};
pub use hash::{BUCKETS, bucket};

#[cfg(feature = "compiler")]
mod check;
#[cfg(feature = "compiler")]
mod compile;
#[cfg(feature = "compiler")]
mod diagnostic;
#[cfg(feature = "compiler")]
mod explain;
#[cfg(feature = "compiler")]
mod intervals;
#[cfg(feature = "compiler")]
mod policy;
#[cfg(feature = "compiler")]
mod source;

#[cfg(feature = "compiler")]
pub use check::check;
#[cfg(feature = "compiler")]
pub use compile::{CompileOptions, PackageRef, compile};
#[cfg(feature = "compiler")]
pub use diagnostic::{Diagnostic, Diagnostics};
#[cfg(feature = "compiler")]
pub use explain::{Trace, TraceDecision, TraceStep, explain};
#[cfg(feature = "compiler")]
pub use policy::{
    AttributeTest, Comparison, Condition, Layer, Members, Model, ModelVersion, Origin, Override, Policy,
    Route, Rule, Scalar, Serve, Share, Split, SymbolRollout, TestGroup, TextTest, Unit, Variant,
};
#[cfg(feature = "compiler")]
pub use source::{Entry, Node, PolicySource, Position, Value, parse, read};
