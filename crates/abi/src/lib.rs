//! The flat entry point between a shell and the core modules, for both sides. `docs/abi.md` is the specification.
//!
//! ```text
//! shell                                            module
//! DecideRequestWriter, write_predict_request  ──▶  DecideRequest, PredictRequest
//! Reply → Response → decisions, tensors       ◀──  DecideResponseWriter, write_predict_response, write_failure
//! ```
//!
//! Neither side trusts the other. Every reader checks each offset, length, number and string before it uses it, and
//! says where a message stops making sense ([`Malformed`]); writers append to a `Vec` that is kept from call to call.
//! This crate knows bytes and offsets. What a route or a model is, it leaves to others.

mod allocator;
mod decide;
mod decision;
mod error;
#[cfg(feature = "fault")]
pub mod fault;
mod guest;
mod module;
mod predict;
mod response;
mod texts;
mod wire;

pub use allocator::{OutlinedAllocator, allocations};
pub use decide::{
    AttributeValue, Attributes, ContextFields, ContextRecord, Contexts, DecideRequest, DecideRequestWriter,
};
pub use decision::{CompactDecision, DecideResponseWriter, DecisionRecord, Decisions, ShadowRecord, Shadows};
pub use error::{ErrorCode, Failure, Malformed, TooLarge};
pub use module::Buffers;
pub use predict::{
    Options, OutOfRangeRecord, PredictRequest, TensorRecord, Tensors, write_predict_request,
    write_predict_response,
};
pub use response::{Reply, Response, write_failure, write_loaded};

/// The version of the flat entry point: `major << 16 | minor`.
pub const VERSION: u32 = 0x0001_0003;

/// At most so many features outside their training range are listed in one response.
pub const WARNING_LIMIT: usize = 1024;
