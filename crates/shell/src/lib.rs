//! What every shell does alike, native or at an edge: who asks and for whom, which rows go to which version, what an answer says, and what
//! a caller is told when there is none.
//!
//! A *shell* is the program around the core on some platform. It does the I/O; this crate does none, reads no clock, and calls no module.
//! Reading order: [`Headers`] and [`contexts`] (a request in), [`Caller`] (who sent it), [`Served`] (what its rows got), [`rows`] (taking
//! them apart and putting them together), [`versions`] (what a path may name), [`exchange`] (what goes to a module and comes from it),
//! [`answer`] (what an answer says), [`RequestError`] and [`Problem`] (what is said instead), [`Faults`] (what is refused for a while),
//! [`record`] (what is told afterwards).

pub mod answer;
mod comparison;
mod context;
mod environment;
mod error;
pub mod exchange;
mod faults;
mod headers;
mod identity;
pub mod metadata;
pub mod quantities;
pub mod record;
pub mod rows;
mod served;
pub mod versions;

pub use comparison::{Differences, compare};
pub use context::{ContextHeaders, Contexts, contexts, contributions};
pub use environment::Environment;
pub use error::{Problem, RequestError};
pub use faults::{FaultLimits, Faults};
pub use headers::{
    HEADER_DECISION, HEADER_TIMEOUT, HeaderList, Headers, header_length, header_text, header_timeout,
    parameter_timeout,
};
pub use identity::{ApiKey, Caller, bearer, key_of};
pub use served::{BundleId, Context, Execution, OutOfRange, Served, ServedRow, ServedVersion, Why};
