use lockgate_package::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::request::{BodyWriter, RawTensor, read_tensors, split};
use crate::{Body, Error, json};

/// The answer to an inference request. Its parameters are a map, or anything that is written as one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InferResponse<P = Map<String, Value>> {
    /// The model that was asked for.
    pub model_name: String,
    /// The version that ran.
    pub model_version: Option<String>,
    /// The request's `id`.
    pub id: Option<String>,
    /// What the server says beside the outputs.
    pub parameters: P,
    /// The tensors.
    pub outputs: Vec<Tensor>,
}

#[derive(Deserialize)]
struct RawResponse<'a> {
    model_name: String,
    #[serde(default)]
    model_version: Option<String>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    parameters: Option<Map<String, Value>>,
    #[serde(borrow)]
    outputs: Vec<RawTensor<'a>>,
}

/// Writes the answer to an inference request; `as_binary` says which outputs follow the JSON as binary data.
///
/// # Errors
/// Tensors whose shape and data do not agree; `BYTES` that are not UTF-8, as JSON.
pub fn encode_response<P: Serialize>(
    response: &InferResponse<P>,
    as_binary: impl Fn(&str) -> bool,
) -> Result<Body, Error> {
    let mut body = BodyWriter::new();
    body.key("model_name", &Some(&response.model_name));
    body.key("model_version", &response.model_version);
    body.key("id", &response.id);
    body.object("parameters", &response.parameters);
    body.tensors("outputs", response.outputs.iter().map(|tensor| (tensor.view(), as_binary(&tensor.name))))?;
    Ok(body.finish())
}

/// Reads the answer to an inference request. `header_length` is the value of [`HEADER_LENGTH`](crate::HEADER_LENGTH).
///
/// # Errors
/// A body that is no such answer.
pub fn decode_response(body: &[u8], header_length: Option<usize>) -> Result<InferResponse, Error> {
    let (head, mut tail) = split(body, header_length)?;
    let raw: RawResponse<'_> = json::read(head, "response")?;
    Ok(InferResponse {
        model_name: raw.model_name,
        model_version: raw.model_version,
        id: raw.id,
        parameters: raw.parameters.unwrap_or_default(),
        outputs: read_tensors(raw.outputs, &mut tail)?,
    })
}
