use lockgate_package::TensorSpec;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The answer to `GET v2/health/live`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerLive {
    /// Whether the server runs.
    pub live: bool,
}

/// The answer to `GET v2/health/ready`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerReady {
    /// Whether every model is ready.
    pub ready: bool,
}

/// The answer to `GET v2`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerMetadata {
    /// The server's name.
    pub name: String,
    /// The server's version.
    pub version: String,
    /// The protocol extensions it has.
    pub extensions: Vec<String>,
}

/// The answer to `GET v2/models/{name}[/versions/{version}]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelMetadata {
    /// The model's name.
    pub name: String,
    /// The versions that can be named in a path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<String>,
    /// The framework or format.
    pub platform: String,
    /// What goes in.
    pub inputs: Vec<TensorMetadata>,
    /// What comes out.
    pub outputs: Vec<TensorMetadata>,
    /// What else the server says of the model.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub parameters: Map<String, Value>,
}

/// One tensor of a model's metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorMetadata {
    /// The tensor's name.
    pub name: String,
    /// The datatype's name, `FP32`.
    pub datatype: String,
    /// The dimensions; -1 is free.
    pub shape: Vec<i64>,
}

impl From<&TensorSpec> for TensorMetadata {
    fn from(spec: &TensorSpec) -> Self {
        Self { name: spec.name.clone(), datatype: spec.datatype.name().to_owned(), shape: spec.shape.clone() }
    }
}

/// The answer to `GET v2/models/{name}[/versions/{version}]/ready`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelReady {
    /// The model's name.
    pub name: String,
    /// Whether it can answer.
    pub ready: bool,
}

/// The body of every answer that is not 2xx. The protocol defines `error` alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorMessage {
    /// A sentence for people.
    pub error: String,
    /// A stable name for programs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub code: String,
    /// How to repair it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The request's `id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}
