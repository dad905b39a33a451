//! From an ONNX file to a model package.
//!
//! The importer runs where models are built, once per model: it parses the file, checks every attribute of every node, drops
//! `ZipMap`, chooses an engine and writes the plan. What it does not implement it refuses, naming node, operator
//! and attribute, with a hint; it ignores nothing.
//!
//! [`import`] does all of it. The steps are [`onnx`] (bytes to a checked graph), `tabular` and [`graph`] (the graph to a
//! plan); [`operators`] is the table of what the tabular engine takes.

mod error;
pub mod graph;
pub mod onnx;
pub mod operators;
mod pb;
mod source;
mod tabular;

pub use error::{ImportError, ManifestProblem, Refusal};
pub use source::{FeatureSource, ManifestSource, Scalar};

use crate::{Digest, Engine, Manifest, Package, Signature};

use graph::ImportedGraph;
use onnx::OnnxModel;
use tabular::{ImportedTabular, Label};

/// What the caller of [`import`] decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// The model's name when the manifest source has none, such as the file's name.
    pub model: Option<String>,
    /// The version when the manifest source has none.
    pub version: Option<String>,
    /// How large a model may be.
    pub limits: ImportLimits,
}

/// How large a model may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportLimits {
    /// Bytes of the ONNX file.
    pub file_bytes: usize,
    /// Nodes of the graph.
    pub nodes: usize,
    /// Multiplications, comparisons and the like per row.
    pub operations_per_row: u64,
    /// Bytes of working memory per row.
    pub memory_per_row: u64,
}

impl Default for ImportLimits {
    fn default() -> Self {
        Self {
            file_bytes: 512 * 1024 * 1024,
            nodes: 100_000,
            operations_per_row: 10_000_000_000,
            memory_per_row: 256 * 1024 * 1024,
        }
    }
}

/// Makes a package from an ONNX file and what people say about it. Equal input gives equal bytes.
///
/// # Errors
/// See [`ImportError`].
pub fn import(onnx: &[u8], source: &ManifestSource, options: &ImportOptions) -> Result<Vec<u8>, ImportError> {
    let limits = &options.limits;
    let model = OnnxModel::parse(onnx, limits)?;
    let mut problems = source.problems();
    let (name, version) = identity(source, options, &mut problems);
    let imported = match tabular::import_tabular(&model, source.features.len()) {
        Ok(tabular) => Imported::Tabular(tabular),
        Err(from_tabular) => match graph::import_graph(&model, limits) {
            Ok(graph) => Imported::Graph(graph),
            Err(from_graph) => {
                let refusals = more_helpful(&model, from_tabular, from_graph);
                return Err(ImportError::Unsupported { refusals });
            }
        },
    };
    let signature = imported.signature();
    let (operations_per_row, memory_per_row) = imported.cost();
    within("the number of operations per row", operations_per_row, limits.operations_per_row)?;
    within("the working memory per row in bytes", memory_per_row, limits.memory_per_row)?;
    let labels = labels(source, &imported, &signature, &mut problems);
    check_features(source, &imported, &signature, &mut problems);
    if !problems.is_empty() {
        return Err(ImportError::Manifest { problems });
    }
    let manifest = Manifest {
        model: name,
        version,
        description: source.description.clone(),
        signature,
        features: source.features.iter().map(|feature| feature.0.clone()).collect(),
        feature_version: source.feature_version.as_ref().map(|version| version.0.clone()),
        labels,
        scope: source.scope.clone(),
        metrics: source.metrics.clone(),
        accepts_missing: source.accepts_missing.unwrap_or(imported.accepts_missing()),
        engine: imported.engine(),
        source_digest: Digest::of(onnx),
        producer: model.producer,
        operations_per_row,
        memory_per_row,
    };
    let sealed = match imported {
        Imported::Tabular(ImportedTabular { plan, arrays, .. }) => {
            Package::seal_tabular(&manifest, &plan, arrays)
        }
        Imported::Graph(ImportedGraph { plan, arrays, .. }) => Package::seal_graph(&manifest, &plan, arrays),
    };
    sealed.map_err(|error| ImportError::Package { problem: error.to_string() })
}

/// A plan of either engine.
enum Imported {
    Tabular(ImportedTabular),
    Graph(ImportedGraph),
}

impl Imported {
    fn engine(&self) -> Engine {
        match self {
            Self::Tabular(_) => Engine::Tabular,
            Self::Graph(_) => Engine::Graph,
        }
    }

    fn signature(&self) -> Signature {
        match self {
            Self::Tabular(model) => {
                Signature { inputs: model.inputs.clone(), outputs: model.outputs.clone() }
            }
            Self::Graph(model) => Signature { inputs: model.inputs.clone(), outputs: model.outputs.clone() },
        }
    }

    /// Operations and bytes of working memory per row.
    fn cost(&self) -> (u64, u64) {
        match self {
            Self::Tabular(model) => (model.operations_per_row, model.plan.memory_per_row()),
            Self::Graph(model) => (model.cost.operations, model.cost.memory),
        }
    }

    fn accepts_missing(&self) -> bool {
        match self {
            Self::Tabular(model) => model.accepts_missing,
            Self::Graph(_) => false,
        }
    }
}

/// The model's name and version.
fn identity(
    source: &ManifestSource,
    options: &ImportOptions,
    problems: &mut Vec<ManifestProblem>,
) -> (String, String) {
    let mut problem = |field: &str, message: String, hint: &str| {
        problems.push(ManifestProblem { field: field.to_owned(), message, hint: hint.to_owned() });
    };
    let name = source.model.as_ref().or(options.model.as_ref()).cloned().unwrap_or_default();
    if let Some(message) = source::name_problem(&name) {
        problem("model", message, "give the model a name, such as eurusd_lstm_1h");
    }
    let version = source.version.as_ref().or(options.version.as_ref()).cloned().unwrap_or_default();
    if let Err(error) = semver::Version::parse(&version) {
        problem(
            "version",
            format!("`{version}` is not a semantic version: {error}"),
            "write three numbers, such as 1.0.0",
        );
    }
    (name, version)
}

/// The names of the classes.
fn labels(
    source: &ManifestSource,
    imported: &Imported,
    signature: &Signature,
    problems: &mut Vec<ManifestProblem>,
) -> Vec<String> {
    let given: Vec<String> = source.labels.iter().map(|label| label.0.clone()).collect();
    let known = match imported {
        Imported::Tabular(model) => model.classes.as_slice(),
        Imported::Graph(model) => model.classes.as_slice(),
    };
    if given.is_empty() {
        return known.iter().map(ToString::to_string).collect();
    }
    let mut problem = |message: String, hint: &str| {
        problems.push(ManifestProblem { field: "labels".to_owned(), message, hint: hint.to_owned() });
    };
    if known.is_empty() {
        let width = i64::try_from(given.len()).unwrap_or(i64::MAX);
        let is_scores = |shape: &[i64]| shape.len() > 1 && shape.last() == Some(&width);
        if !signature.outputs.iter().any(|output| is_scores(&output.shape)) {
            let message = format!("{width} labels are given, and no output of the model has {width} columns");
            problem(
                message,
                "list one label per score, in the order of the scores; leave labels out for a regressor",
            );
        }
    } else if known.len() != given.len() {
        let message = format!("{} labels are given, the model has {} classes", given.len(), known.len());
        problem(message, "list one label per class, in the order of the scores");
    } else if known.iter().any(|label| matches!(label, Label::Text(_)))
        && known.iter().zip(&given).any(|(known, given)| known.to_string() != *given)
    {
        let names: Vec<String> = known.iter().map(ToString::to_string).collect();
        problem(
            format!("the model itself calls its classes {}, in this order", names.join(", ")),
            "leave labels out, or list the same names in the same order",
        );
    }
    given
}

/// As many features as the input has columns.
fn check_features(
    source: &ManifestSource,
    imported: &Imported,
    signature: &Signature,
    problems: &mut Vec<ManifestProblem>,
) {
    if source.features.is_empty() {
        return;
    }
    let width = |shape: &[i64]| if shape.len() > 1 { shape.last().copied().unwrap_or(-1) } else { 1 };
    let inputs = &signature.inputs;
    let columns: i64 = match imported {
        Imported::Tabular(_) => inputs.iter().map(|input| width(&input.shape)).sum(),
        Imported::Graph(_) => match inputs.as_slice() {
            [only] => width(&only.shape),
            _ => inputs.iter().map(|input| width(&input.shape)).sum(),
        },
    };
    let given = i64::try_from(source.features.len()).unwrap_or(i64::MAX);
    if columns != -1 && columns != given {
        problems.push(ManifestProblem {
            field: "features".to_owned(),
            message: format!("{given} features are named, the model's input has {columns} columns"),
            hint: "name every column once, in the order of the columns".to_owned(),
        });
    }
}

/// When neither engine takes the model: the refusals of the one that was meant. A model with operators of `ai.onnx.ml` is
/// tabular; else it is the engine with less to complain about, or the one that knows the operators in question.
fn more_helpful(model: &OnnxModel, tabular: Vec<Refusal>, graph: Vec<Refusal>) -> Vec<Refusal> {
    let is_tabular = model.nodes.iter().any(|node| node.domain == "ai.onnx.ml");
    let known_to_graph =
        graph.iter().any(|refusal| graph::operators().any(|known| known.name == refusal.operator));
    let fewer = tabular.len() < graph.len() || (tabular.len() == graph.len() && !known_to_graph);
    if is_tabular || fewer { tabular } else { graph }
}

/// A refusal that no node is to blame for.
fn about_graph(message: impl Into<String>, hint: impl Into<String>) -> Refusal {
    Refusal { message: message.into(), hint: hint.into(), ..Refusal::default() }
}

fn within(what: &str, found: u64, limit: u64) -> Result<(), ImportError> {
    if found <= limit {
        return Ok(());
    }
    Err(ImportError::TooLarge { what: what.to_owned(), found, limit })
}

#[cfg(test)]
mod tests;
