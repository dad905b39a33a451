//! Embeds the core in a program: takes the modules, loads them in wasmtime, and answers requests.
//!
//! ```no_run
//! use lockgate_core::CoreModules;
//! use lockgate_runtime::{Context, Contributions, InferRequest, Runtime, Tensor};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let core = CoreModules::embedded()?.ok_or("compiled without the core")?;
//! let runtime = Runtime::builder(core).build()?;
//! runtime.install(Some(std::fs::read("policy.bundle")?), vec![std::fs::read("eurusd_lr.package")?])?;
//! let answer = runtime.infer(InferRequest {
//!     route: "eurusd-direction".to_owned(),
//!     contexts: vec![Context { user: Some("alice".to_owned()), ..Context::default() }],
//!     inputs: vec![Tensor::fp32("input", vec![1, 17], &[0.0; 17])],
//!     contributions: Contributions::None,
//!     pinned: None,
//!     now_ms: None,
//!     deadline: None,
//! })?;
//! # Ok(())
//! # }
//! ```
//!
//! **Threads.** A fixed number of workers each own their instances: one of the policy module and one of the inference
//! module for each package that the worker has served lately. No lock is held while a guest runs. A guest that loops,
//! traps or eats memory costs its own request and its own instance, which is made anew for the next one.
//!
//! **Limits.** A [deadline](Settings::deadline) counts from submission. Memory is [capped](Settings::inference_memory)
//! per instance and [budgeted](Settings::worker_memory) per worker. The queue is [bounded](Settings::queue). A package
//! that fails again and again is [quarantined](Settings::fault_limit).
//!
//! **Replacing.** [`Runtime::install`] checks a bundle and its packages against each other and loads them once before
//! they serve; then it swaps them in as a whole. [`Runtime::install_contents`] can demand more of them before anything in them is
//! believed: signatures by trusted keys, a version above all that were accepted, a parent, a digest ([`Trust`]).
//!
//! **Shadows.** Versions that the policy runs beside the one that serves get their copy of a request after it was answered, on a
//! thread of their own, within the bounds that the policy sets. What they say is compared and counted ([`Runtime::shadows`]),
//! never returned.
//!
//! Instances are made on demand rather than taken from a pool: they live long, and a pool would set the linked maximum
//! of memory aside for each.
//!
//! This crate knows no HTTP, no files but wasmtime's cache, and no async runtime: `…_async` methods work in any. It
//! chooses no variant; the policy module does.

mod engine;
mod error;
mod faults;
mod generation;
mod install;
mod queue;
mod request;
mod runtime;
mod settings;
mod shadow;
mod stats;
mod weight;
mod worker;

pub use error::{BuildError, InstallError};
pub use generation::{Checked, Generation, Installed, InstalledModel};
pub use install::{Content, Contents, Trust};
pub use lockgate_package::plan::explain::{Contributions, Method};
pub use lockgate_package::signing::{Accepted, Demands, ExpectedParent, TrustError};
pub use lockgate_package::{Datatype, Digest, Engine, Tensor};
pub use lockgate_policy::{Attribute, Placement, Reason, Step};
pub use lockgate_shell::{
    BundleId, Context, Execution, OutOfRange, RequestError as RuntimeError, Served, ServedRow, ServedVersion,
    Why,
};
pub use request::{
    DecideAnswer, DecideRequest, InferAnswer, InferRequest, PredictAnswer, PredictRequest, Timings,
};
pub use runtime::{Runtime, RuntimeBuilder};
pub use settings::{CompileCache, Settings};
pub use shadow::{ShadowDrops, ShadowId, ShadowStatus};
pub use stats::{BundleStatus, ModelStatus, ModuleSnapshot, StatsSnapshot, Status};
