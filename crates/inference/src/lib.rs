//! A package's plan, executed: tensors in, predictions out.
//!
//! [`Model`] is the one type that callers see. It opens a package, checks its plan once so that running it can neither leave
//! an array nor loop, checks each request against the signature, and hands it to the engine that the plan is written for:
//! `tabular` (trees, linear models, small networks) or, with the feature `graph`, `graph` (recurrent networks and general
//! graphs). Equal requests give equal bits on every target.
//!
//! This crate knows nothing of ONNX, files, threads or clocks.

mod check;
mod error;
#[cfg(feature = "graph")]
mod graph;
mod model;
mod tabular;

pub use error::{LoadError, PredictError};
#[cfg(feature = "graph")]
pub use graph::RequestLimits;
pub use lockgate_explain::{MOST_CONTRIBUTIONS, MOST_OPERATIONS};
pub use lockgate_package::plan::explain::{BASE, CONTRIBUTIONS, Contributions, Method};
pub use model::{MOST_ROWS, Model, OutOfRange, Prediction, WARNING_LIMIT};
