use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Digest, Signature};

/// What a package says about its model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The model's name, `eurusd_lstm_1h`.
    pub model: String,
    /// The semantic version, `2.1.0`.
    pub version: String,
    /// One line for people; may be empty.
    #[serde(default)]
    pub description: String,
    /// What goes in and what comes out.
    pub signature: Signature,
    /// The columns of the (last dimension of the) input, in order; empty when the manifest source named none and
    /// gave no training ranges.
    #[serde(default)]
    pub features: Vec<Feature>,
    /// The version of the code or table that computes the features.
    #[serde(default)]
    pub feature_version: Option<String>,
    /// Names of the classes, in the order of the scores; empty for a regressor.
    #[serde(default)]
    pub labels: Vec<String>,
    /// What the model was trained for.
    #[serde(default)]
    pub scope: Scope,
    /// Figures from training or validation, `accuracy: 0.54`.
    #[serde(default)]
    pub metrics: BTreeMap<String, f64>,
    /// Whether NaN means "missing" to this model. When it does not, a request that holds NaN is refused.
    #[serde(default)]
    pub accepts_missing: bool,
    /// The engine that runs the plan.
    pub engine: Engine,
    /// SHA-256 of the ONNX file that the package was made from.
    pub source_digest: Digest,
    /// The program that wrote the ONNX file, `skl2onnx 1.20.0`.
    #[serde(default)]
    pub producer: String,
    /// Multiplications, comparisons and the like that one row costs, an upper bound.
    #[serde(default)]
    pub operations_per_row: u64,
    /// Bytes of working memory that one row costs, an upper bound.
    #[serde(default)]
    pub memory_per_row: u64,
    /// The ways in which the model can say what each feature contributes, by the covers and the background that the package
    /// carries; the usual one first. Linear models can without either, which is not said here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contributions: Vec<String>,
    /// Whether nothing was trained: a stand-in that gives the same answer to everything, for tests. Production refuses it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub mock: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// One column of the input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Feature {
    /// The column's name.
    pub name: String,
    /// The smallest value seen in training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The largest value seen in training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

/// What a model was trained for. Shown to people and to `lockgate policy check`; it routes nothing by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// Symbols, `EURUSD`; empty means any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub symbols: Vec<String>,
    /// Tenants who may use the model; empty means any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<String>,
    /// The bar length, `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeframe: Option<String>,
}

/// The engine a plan is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Trees, linear models, scalers, small MLPs; in every flavour of the inference module.
    Tabular,
    /// General tensor graphs with recurrent cells; in the graph flavour only.
    Graph,
}

impl Engine {
    /// As people and answers call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tabular => "tabular",
            Self::Graph => "graph",
        }
    }
}
