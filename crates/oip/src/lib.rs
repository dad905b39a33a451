//! The Open Inference Protocol v2 over REST: messages, and the codecs between them and [`Tensor`](lockgate_package::Tensor)s.
//!
//! A body is JSON, or JSON followed by the raw bytes of some tensors (the *binary tensor data extension*; a header says how
//! long the JSON is). [`decode_request`] and [`encode_response`] are a server's side, [`encode_request`] and
//! [`decode_response`] a client's. All four are total: any bytes give a message or an [`Error`] that names the tensor, the
//! element and what was expected.
//!
//! Three points where the protocol leaves a choice:
//! - NaN and the infinities have no JSON number. They travel as the strings `"NaN"`, `"Infinity"` and `"-Infinity"`.
//! - `data` may be flat or nested; nested arrays must have the tensor's shape.
//! - A request parameter may be an array of scalars, one per row. The protocol knows scalars only.
//!
//! The crate knows no HTTP (the caller passes the header's value) and no model (names, datatypes and shapes are only
//! checked for agreeing with the data).

mod binary;
mod data;
mod error;
mod json;
mod message;
mod parameter;
mod request;
mod response;

pub use error::Error;
pub use json::MAX_DEPTH;
pub use message::{
    ErrorMessage, ModelMetadata, ModelReady, ServerLive, ServerMetadata, ServerReady, TensorMetadata,
};
pub use parameter::{Parameter, Parameters};
pub use request::{InferRequest, RequestedOutput, decode_request, encode_request, request_id};
pub use response::{InferResponse, decode_response, encode_response};

/// The HTTP header that says how many bytes of a body are JSON; the bytes behind them are tensors.
pub const HEADER_LENGTH: &str = "inference-header-content-length";

/// The name of the binary tensor data extension in a server's metadata.
pub const BINARY_EXTENSION: &str = "binary_tensor_data";

/// An encoded body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// The bytes to send.
    pub bytes: Vec<u8>,
    /// The value of [`HEADER_LENGTH`] when tensors follow the JSON; `None` when the whole body is JSON.
    pub header_length: Option<usize>,
}
