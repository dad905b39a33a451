//! What the shells at an edge share: a Worker, a Spin app. A request goes in, an answer comes out, and whatever takes a network, a clock or
//! a random number is the shell's: the crate does no I/O and waits for nothing.
//!
//! ```text
//! Request ─▶ Edge::begin ─┬─▶ Step::Done    answer, shadows to run afterwards, records in the queue
//!                         ├─▶ Step::Verify  a signature to be verified ─┐
//!                         └─▶ Step::Fetch   requests to the origin ─────┴─▶ Edge::resume ─▶ Step …
//! ```
//!
//! Reading order: [`Core`] (the two modules, as the platform calls them), [`Catalog`] (what a bundle names), [`Edge`] (the state machine),
//! [`Fetch`] (what goes to the origin), [`fresh`] (which policy may serve, and until when), [`trust`] (whose), [`records`] (what is told
//! afterwards), [`Settings`].
//!
//! It decides nothing: variants, and what serves in place of a version that is unavailable, come from the policy module. Endpoints,
//! statuses and JSON are those of `docs/http-api.md`, and what all shells do alike stands in `lockgate-shell`.
#![forbid(unsafe_code)]

mod catalog;
mod core;
mod decide;
mod edge;
mod forward;
pub mod fresh;
mod health;
mod http;
mod infer;
mod jwt;
mod needs;
mod predict;
pub mod records;
mod settings;
mod shadows;
pub mod trust;

pub use catalog::{
    Catalog, CatalogError, FORMAT, PackageEntry, PinnedModel, RouteEntry, ShadowEntry, Target, VariantEntry,
};
pub use core::{Core, CoreFault};
pub use edge::{Edge, Event, Identity, Outcome, Pending, Serving, Step};
pub use forward::{Fetch, FetchError, Fetched};
pub use fresh::{Found, Freshness};
pub use http::{Moment, Request, Response};
pub use jwt::{Algorithm, Jwk, JwtKeys, SignatureCheck};
pub use needs::Needs;
pub use settings::{Cors, SettingError, SettingInfo, Settings, Signatures, Text, UnitsKey, WhenStale};
pub use shadows::ShadowRun;

pub use lockgate_shell::{BundleId, HeaderList, Headers, Problem, RequestError};
