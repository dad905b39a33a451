use std::borrow::Cow;
use std::collections::BTreeSet;

use lockgate_package::{Datatype, Tensor, TensorView};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::{Body, Error, Parameter, Parameters, binary, data, json};

/// An inference request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InferRequest {
    /// What the caller calls the request; the answer repeats it.
    pub id: Option<String>,
    /// Context, options and whatever else the caller sent.
    pub parameters: Parameters,
    /// The tensors, each name once.
    pub inputs: Vec<Tensor>,
    /// The outputs the caller wants; empty means all.
    pub outputs: Vec<RequestedOutput>,
}

/// An output that the caller asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestedOutput {
    /// The tensor's name.
    pub name: String,
    /// Whether it is to come as binary data; `None` leaves it to the request's `binary_data_output`.
    pub binary: Option<bool>,
}

impl InferRequest {
    /// Whether the caller wants this output as binary data.
    pub fn wants_binary(&self, output: &str) -> bool {
        self.outputs
            .iter()
            .find(|requested| requested.name == output)
            .and_then(|requested| requested.binary)
            .unwrap_or(self.parameters.get("binary_data_output") == Some(&Parameter::Boolean(true)))
    }
}

#[derive(Deserialize)]
#[serde(expecting = "an inference request, an object with `inputs`")]
struct RawRequest<'a> {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    parameters: Option<Parameters>,
    #[serde(borrow)]
    inputs: Vec<RawTensor<'a>>,
    #[serde(default)]
    outputs: Option<Vec<RawOutput>>,
}

/// A tensor whose elements are still text, since `datatype` may stand behind `data`.
#[derive(Deserialize)]
pub(crate) struct RawTensor<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    shape: Vec<i64>,
    #[serde(borrow)]
    datatype: Cow<'a, str>,
    #[serde(default)]
    parameters: Option<Map<String, Value>>,
    #[serde(default, borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawOutput {
    name: String,
    #[serde(default)]
    parameters: Option<Map<String, Value>>,
}

/// Reads the body of an inference request. `header_length` is the value of [`HEADER_LENGTH`](crate::HEADER_LENGTH).
///
/// Fields that the protocol does not name are ignored, as it asks; parameters that would change the answer and are not
/// implemented (`classification`, shared memory) are refused.
///
/// # Errors
/// A body that is no such request.
pub fn decode_request(body: &[u8], header_length: Option<usize>) -> Result<InferRequest, Error> {
    let (head, mut tail) = split(body, header_length)?;
    let raw: RawRequest<'_> = json::read(head, "request")?;
    let parameters = raw.parameters.unwrap_or_default();
    if let Some(value) = parameters.get("binary_data_output")
        && !matches!(value, Parameter::Boolean(_) | Parameter::Null)
    {
        return Err(Error::Parameter {
            name: "binary_data_output".to_owned(),
            expected: "true or false",
            found: value.describe(),
        });
    }
    let inputs = read_tensors(raw.inputs, &mut tail)?;
    let mut outputs = Vec::new();
    for output in raw.outputs.unwrap_or_default() {
        let parameters = output.parameters.unwrap_or_default();
        let at = || format!("output `{}`", output.name);
        refuse_extensions(&parameters, at)?;
        let binary = match parameters.get("binary_data") {
            None | Some(Value::Null) => None,
            Some(Value::Bool(binary)) => Some(*binary),
            Some(other) => {
                return Err(Error::Parameter {
                    name: "binary_data".to_owned(),
                    expected: "true or false",
                    found: crate::error::excerpt(&other.to_string()),
                });
            }
        };
        if outputs.iter().any(|have: &RequestedOutput| have.name == output.name) {
            return Err(Error::tensor(&output.name, "is asked for twice"));
        }
        outputs.push(RequestedOutput { name: output.name, binary });
    }
    Ok(InferRequest { id: raw.id, parameters, inputs, outputs })
}

/// The `id` of a request that may be wrong in any other way, so that the error can name it.
pub fn request_id(body: &[u8], header_length: Option<usize>) -> Option<String> {
    #[derive(Deserialize)]
    struct Id {
        id: Option<String>,
    }
    let (head, _) = split(body, header_length).ok()?;
    json::read::<Id>(head, "request").ok()?.id
}

/// Writes an inference request, its tensors as binary data or as JSON.
///
/// # Errors
/// Tensors whose shape and data do not agree; `BYTES` that are not UTF-8, as JSON.
pub fn encode_request(request: &InferRequest, as_binary: bool) -> Result<Body, Error> {
    let mut body = BodyWriter::new();
    body.key("id", &request.id);
    if !request.parameters.is_empty() {
        body.key("parameters", &Some(&request.parameters));
    }
    body.tensors("inputs", request.inputs.iter().map(|tensor| (tensor.view(), as_binary)))?;
    if !request.outputs.is_empty() {
        let outputs: Vec<Value> = request
            .outputs
            .iter()
            .map(|output| match output.binary {
                Some(binary) => {
                    serde_json::json!({"name": output.name, "parameters": {"binary_data": binary}})
                }
                None => serde_json::json!({"name": output.name}),
            })
            .collect();
        body.key("outputs", &Some(outputs));
    }
    Ok(body.finish())
}

/// The JSON and what follows it.
pub(crate) fn split(body: &[u8], header_length: Option<usize>) -> Result<(&[u8], &[u8]), Error> {
    let Some(header_length) = header_length else { return Ok((body, &[])) };
    body.split_at_checked(header_length).ok_or(Error::HeaderLength { header_length, body_length: body.len() })
}

/// Reads tensors from their JSON and from `tail`, all of which they must use.
pub(crate) fn read_tensors(raw: Vec<RawTensor<'_>>, tail: &mut &[u8]) -> Result<Vec<Tensor>, Error> {
    let mut names = BTreeSet::new();
    let mut tensors = Vec::with_capacity(raw.len());
    for tensor in raw {
        let name = tensor.name.as_ref();
        if !names.insert(tensor.name.clone()) {
            return Err(Error::tensor(name, "is given twice"));
        }
        let datatype: Datatype = tensor
            .datatype
            .parse()
            .map_err(|error: lockgate_package::UnknownDatatype| Error::tensor(name, error.to_string()))?;
        let parameters = tensor.parameters.unwrap_or_default();
        refuse_extensions(&parameters, || format!("tensor `{name}`"))?;
        let binary_size = match parameters.get("binary_data_size") {
            None | Some(Value::Null) => None,
            Some(size) => {
                Some(size.as_u64().and_then(|size| usize::try_from(size).ok()).ok_or_else(|| {
                    Error::Parameter {
                        name: "binary_data_size".to_owned(),
                        expected: "a number of bytes",
                        found: crate::error::excerpt(&size.to_string()),
                    }
                })?)
            }
        };
        let data = match (tensor.data, binary_size) {
            (Some(_), Some(_)) => {
                return Err(Error::tensor(
                    name,
                    "has both `data` and `binary_data_size`; expected one of them",
                ));
            }
            (None, None) => return Err(Error::tensor(name, "has no `data` and no `binary_data_size`")),
            (Some(text), None) => data::read(name, datatype, &tensor.shape, text.get())?,
            (None, Some(size)) => {
                let Some((bytes, rest)) = tail.split_at_checked(size) else {
                    return Err(Error::tensor_with_hint(
                        name,
                        format!(
                            "`binary_data_size` is {size}, but {} bytes are left behind the JSON",
                            tail.len()
                        ),
                        "the header Inference-Header-Content-Length must give the length of the JSON",
                    ));
                };
                *tail = rest;
                binary::check(name, datatype, &tensor.shape, bytes)?;
                bytes.to_vec()
            }
        };
        tensors.push(Tensor { name: name.to_owned(), datatype, shape: tensor.shape, data });
    }
    if !tail.is_empty() {
        return Err(Error::BytesLeft { count: tail.len() });
    }
    Ok(tensors)
}

/// Parameters of known extensions that would change what a tensor means.
fn refuse_extensions(parameters: &Map<String, Value>, at: impl Fn() -> String) -> Result<(), Error> {
    match parameters.keys().find(|name| *name == "classification" || name.starts_with("shared_memory_")) {
        Some(name) => Err(Error::UnsupportedExtension { at: at(), name: name.clone() }),
        None => Ok(()),
    }
}

/// Writes the JSON of a message and collects the tensors that follow it.
pub(crate) struct BodyWriter {
    json: Vec<u8>,
    tail: Vec<u8>,
    has_tail: bool,
}

impl BodyWriter {
    pub(crate) fn new() -> Self {
        Self { json: vec![b'{'], tail: Vec::new(), has_tail: false }
    }

    /// Adds a field unless it is `None`.
    pub(crate) fn key<T: serde::Serialize>(&mut self, key: &str, value: &Option<T>) {
        let Some(value) = value else { return };
        self.start(key);
        self.value(value);
    }

    /// Adds an object unless it is empty.
    pub(crate) fn object<T: serde::Serialize>(&mut self, key: &str, value: &T) {
        let before = self.json.len();
        self.start(key);
        let start = self.json.len();
        self.value(value);
        if self.json.get(start..) == Some(b"{}") {
            self.json.truncate(before);
        }
    }

    pub(crate) fn tensors<'a>(
        &mut self,
        key: &str,
        tensors: impl Iterator<Item = (TensorView<'a>, bool)>,
    ) -> Result<(), Error> {
        self.start(key);
        self.json.push(b'[');
        for (index, (tensor, as_binary)) in tensors.enumerate() {
            if index > 0 {
                self.json.push(b',');
            }
            binary::check(tensor.name, tensor.datatype, tensor.shape, tensor.data)?;
            self.json.extend_from_slice(b"{\"name\":");
            self.value(tensor.name);
            self.json.extend_from_slice(b",\"datatype\":");
            self.value(tensor.datatype.name());
            self.json.extend_from_slice(b",\"shape\":");
            self.value(tensor.shape);
            if as_binary {
                self.json.extend_from_slice(b",\"parameters\":{\"binary_data_size\":");
                self.value(&tensor.data.len());
                self.json.push(b'}');
                self.tail.extend_from_slice(tensor.data);
                self.has_tail = true;
            } else {
                self.json.extend_from_slice(b",\"data\":");
                data::write(tensor, &mut self.json)?;
            }
            self.json.push(b'}');
        }
        self.json.push(b']');
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Body {
        self.json.push(b'}');
        let header_length = self.has_tail.then_some(self.json.len());
        self.json.append(&mut self.tail);
        Body { bytes: self.json, header_length }
    }

    fn start(&mut self, key: &str) {
        if self.json.len() > 1 {
            self.json.push(b',');
        }
        self.value(key);
        self.json.push(b':');
    }

    fn value<T: serde::Serialize + ?Sized>(&mut self, value: &T) {
        // Values come from this crate or are JSON already; writing them into a vector cannot fail.
        let _ = serde_json::to_writer(&mut self.json, value);
    }
}
