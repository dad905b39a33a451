//! From an ONNX file to a model package.
//!
//! The importer runs where models are built, once per model: it parses the file, checks every attribute of every node, drops
//! `ZipMap`, chooses an engine and writes the plan. What it does not implement it refuses, naming node, operator
//! and attribute, with a hint; it ignores nothing.
//!
//! [`import`] does all of it. The steps are [`onnx`] (bytes to a checked graph), `tabular` and [`graph`] (the graph to a
//! plan); [`operators`] is the table of what the tabular engine takes.

mod answer;
mod background;
mod beside;
mod classes;
mod containers;
mod error;
mod external;
mod fields;
mod file;
mod functions;
pub mod graph;
mod limits;
mod mock;
pub mod onnx;
pub mod operators;
mod pb;
mod rewrite;
mod scaler;
mod source;
mod tabular;

pub use answer::{AnswerSource, CalibrationMethod, CalibrationSource, LabelKind};
pub use background::{BackgroundSource, MOST_BACKGROUND};
pub use beside::Beside;
pub use error::{ImportError, ManifestProblem, Refusal};
pub use fields::from_map;
pub use file::OnnxFile;
pub use limits::ImportLimits;
pub use mock::{MockOutput, MockSource, MockValue, mock};
pub use scaler::{Numbers, Scaler, ScalerKind, ScalerNumbers, ScalerSource};
pub use source::{FeatureSource, ManifestSource, Scalar};

use std::collections::BTreeMap;

use crate::{Engine, Feature, Manifest, Package, Signature};

use answer::Known;
use error::problem;
use graph::ImportedGraph;
use onnx::OnnxModel;
use rewrite::Renamed;
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
    /// Files that the model keeps data in, under the names of [`OnnxFile::data_files`].
    pub files: BTreeMap<String, Vec<u8>>,
}

/// Makes a package from an ONNX file and what people say about it. Equal input gives equal bytes.
///
/// # Errors
/// See [`ImportError`].
pub fn import(onnx: &[u8], source: &ManifestSource, options: &ImportOptions) -> Result<Vec<u8>, ImportError> {
    import_file(OnnxFile::decode(onnx, &options.limits)?, source, options)
}

/// [`import`] of a file that is decoded already.
///
/// # Errors
/// See [`ImportError`].
pub fn import_file(
    file: OnnxFile<'_>,
    source: &ManifestSource,
    options: &ImportOptions,
) -> Result<Vec<u8>, ImportError> {
    let limits = &options.limits;
    let source_digest = file.digest(&options.files);
    let mut model = file.check(&options.files, limits)?;
    let mut problems = source.problems();
    let (name, version) = identity(source, options, &mut problems);
    let scaler =
        source.scaler.as_ref().and_then(|scaler| scaler.check(&source.feature_names(), &mut problems));
    let mut renamed = Vec::new();
    if let Some(scaler) = &scaler {
        renamed = scaler.apply(&mut model, &mut problems);
    }
    let mut imported = Imported::by_any_engine(&model, source, limits)
        .map_err(|refusals| unsupported(refusals, &renamed))?;
    imported.rename(&renamed);
    let mut classes = None;
    // What does not fit by now would only be found once more.
    if let Some(answer) = source.answer.as_ref().filter(|_| problems.is_empty()) {
        let base = imported;
        let signature = base.signature();
        let known = Known {
            signature: &signature,
            classes: base.classes(),
            engine: base.engine(),
            labels: &source.labels,
        };
        let changed = answer.apply(&mut model, &known, &mut problems);
        imported = match changed.filter(|_| problems.is_empty()) {
            Some(changed) => {
                classes = changed.classes;
                renamed.extend(changed.renamed);
                let changed = base
                    .by_the_same_engine(&model, source, limits)
                    .map_err(|refusals| unsupported(refusals, &renamed))?;
                changed.renamed(&renamed)
            }
            None => base,
        };
    }
    let signature = imported.signature();
    let (operations_per_row, memory_per_row) = imported.cost();
    limits.check("operations_per_row", "the number of operations per row", operations_per_row)?;
    limits.check("memory_per_row", "the working memory per row in bytes", memory_per_row)?;
    let labels = labels(source, &imported, &signature, classes, &mut problems);
    check_features(source, &imported, &signature, &mut problems);
    background::add(source, &mut imported, &mut problems);
    if !problems.is_empty() {
        return Err(ImportError::Manifest { problems });
    }
    let manifest = Manifest {
        model: name,
        version,
        description: source.description.clone(),
        signature,
        features: features(source, &model),
        feature_version: source.feature_version.as_ref().map(|version| version.0.clone()),
        labels,
        scope: source.scope.clone(),
        metrics: source.metrics.clone(),
        accepts_missing: source.accepts_missing.unwrap_or(imported.accepts_missing()),
        engine: imported.engine(),
        source_digest,
        producer: model.producer,
        operations_per_row,
        memory_per_row,
        contributions: background::methods(&imported),
        mock: false,
    };
    let beside = Beside { scaler, answer: source.answer.clone() };
    let sections = beside.sections().map_err(|problem| ImportError::Package { problem })?;
    imported.seal(&manifest, sections)
}

/// A plan of either engine.
enum Imported {
    Tabular(ImportedTabular),
    Graph(ImportedGraph),
}

impl Imported {
    /// A tabular plan where that can be, else a graph.
    fn by_any_engine(
        model: &OnnxModel,
        source: &ManifestSource,
        limits: &ImportLimits,
    ) -> Result<Self, Vec<Refusal>> {
        match tabular::import_tabular(model, source.features.len()) {
            Ok(tabular) => Ok(Self::Tabular(tabular)),
            Err(from_tabular) => match graph::import_graph(model, limits) {
                Ok(graph) => Ok(Self::Graph(graph)),
                Err(from_graph) => Err(more_helpful(model, from_tabular, from_graph)),
            },
        }
    }

    /// The model with other outputs. Its classes, and what it makes of missing values, stay.
    fn by_the_same_engine(
        self,
        model: &OnnxModel,
        source: &ManifestSource,
        limits: &ImportLimits,
    ) -> Result<Self, Vec<Refusal>> {
        match self {
            Self::Tabular(ImportedTabular { classes, accepts_missing, .. }) => {
                let tabular = tabular::import_tabular(model, source.features.len())?;
                Ok(Self::Tabular(ImportedTabular { classes, accepts_missing, ..tabular }))
            }
            Self::Graph(ImportedGraph { classes, .. }) => {
                Ok(Self::Graph(ImportedGraph { classes, ..graph::import_graph(model, limits)? }))
            }
        }
    }

    fn rename(&mut self, names: &[Renamed]) {
        let (inputs, outputs) = match self {
            Self::Tabular(model) => (&mut model.inputs, &mut model.outputs),
            Self::Graph(model) => (&mut model.inputs, &mut model.outputs),
        };
        rewrite::rename(inputs, names);
        rewrite::rename(outputs, names);
    }

    fn renamed(mut self, names: &[Renamed]) -> Self {
        self.rename(names);
        self
    }

    fn classes(&self) -> &[Label] {
        match self {
            Self::Tabular(model) => &model.classes,
            Self::Graph(model) => &model.classes,
        }
    }

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

    /// The package, with further sections that no engine reads.
    fn seal(self, manifest: &Manifest, sections: Vec<(String, Vec<u8>)>) -> Result<Vec<u8>, ImportError> {
        let sealed = match self {
            Self::Tabular(ImportedTabular { plan, arrays, .. }) => {
                Package::seal_tabular(manifest, &plan, arrays, sections)
            }
            Self::Graph(ImportedGraph { plan, arrays, .. }) => {
                Package::seal_graph(manifest, &plan, arrays, sections)
            }
        };
        sealed.map_err(|error| ImportError::Package { problem: error.to_string() })
    }
}

/// The model's name and version.
fn identity(
    source: &ManifestSource,
    options: &ImportOptions,
    problems: &mut Vec<ManifestProblem>,
) -> (String, String) {
    let name = source.model.as_ref().or(options.model.as_ref()).cloned().unwrap_or_default();
    if let Some(message) = source::name_problem(&name) {
        problem(
            problems,
            "model",
            message,
            "give the model a name, such as eurusd_lstm_1h: `model` in the manifest, --name on the command line",
        );
    }
    let version = source.version.as_ref().or(options.version.as_ref()).cloned().unwrap_or_default();
    if let Err(error) = semver::Version::parse(&version) {
        problem(
            problems,
            "version",
            format!("`{version}` is not a semantic version: {error}"),
            "write three numbers, such as 1.0.0",
        );
    }
    (name, version)
}

/// Refusals in the words of the signature.
fn unsupported(mut refusals: Vec<Refusal>, names: &[Renamed]) -> ImportError {
    for Renamed { inner, outer } in names {
        for refusal in &mut refusals {
            refusal.message = refusal.message.replace(&format!("`{inner}`"), &format!("`{outer}`"));
        }
    }
    ImportError::Unsupported { refusals }
}

/// The names of the classes. `counted` is how many there are, where the answer had to know.
fn labels(
    source: &ManifestSource,
    imported: &Imported,
    signature: &Signature,
    counted: Option<usize>,
    problems: &mut Vec<ManifestProblem>,
) -> Vec<String> {
    let given: Vec<String> = source.labels.iter().map(|label| label.0.clone()).collect();
    let known = imported.classes();
    if given.is_empty() {
        return known.iter().map(ToString::to_string).collect();
    }
    let mut problem = |message: String, hint: &str| problem(problems, "labels", message, hint);
    if known.is_empty() && counted == Some(given.len()) {
        // The answer has settled what the scores are.
    } else if known.is_empty() {
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

/// The features as the manifest's source names them, else as the file does.
fn features(source: &ManifestSource, model: &OnnxModel) -> Vec<Feature> {
    if source.features.is_empty() {
        let named = |name: &String| Feature { name: name.clone(), min: None, max: None };
        return model.columns.iter().map(named).collect();
    }
    source.features.iter().map(|feature| feature.0.clone()).collect()
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
        let message = format!("{given} features are named, the model's input has {columns} columns");
        problem(problems, "features", message, "name every column once, in the order of the columns");
    }
}

/// When neither engine takes the model: the refusals of the one that was meant. Where the tabular engine lacks an operator that the graph
/// engine has and refuses for a reason, that reason is what must change. Else a model with operators of `ai.onnx.ml` is tabular; else it
/// is the engine with less to complain about, or the one that knows the operators in question.
fn more_helpful(model: &OnnxModel, tabular: Vec<Refusal>, graph: Vec<Refusal>) -> Vec<Refusal> {
    let only_in_graph = |refusal: &Refusal| {
        let in_tabular = operators::TABULAR_OPERATORS.iter().any(|known| known.operator == refusal.operator);
        !in_tabular
            && lockgate_onnx::operator::find(&refusal.domain, &refusal.operator, refusal.opset).is_some()
    };
    let refused_there = |refusal: &Refusal| graph.iter().any(|other| other.node == refusal.node);
    if tabular.iter().any(|refusal| only_in_graph(refusal) && refused_there(refusal)) {
        return graph;
    }
    // What the graph engine runs is no reason.
    let tabular: Vec<Refusal> = tabular.into_iter().filter(|refusal| !only_in_graph(refusal)).collect();
    if tabular.is_empty() {
        return graph;
    }
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

#[cfg(test)]
mod tests;
