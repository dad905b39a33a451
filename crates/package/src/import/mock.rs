//! Mocks: packages with a signature and no model, so that what surrounds a model can be tested before there is one.
//!
//! A mock gives every row the same answer: the values that its source names, else 0, `false`, the first label, and for scores equal
//! parts of 1. It runs in the engines like any package. Its manifest says that it is a mock, and production refuses it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use lockgate_onnx::Tensor;

use super::error::problem;
use super::onnx::{Dimension, ElementType, OnnxModel, ValueInfo};
use super::rewrite::{Renamed, Rewriter, Value, rename};
use super::{
    ImportError, ImportOptions, Imported, ManifestProblem, ManifestSource, Scalar, graph, identity, tabular,
    unsupported,
};
use crate::{Datatype, Digest, Manifest, Signature, TensorSpec};

/// The most elements that an output of a mock has per row.
const MOST_ELEMENTS: usize = 1 << 16;

/// What a mock takes and gives.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MockSource {
    /// What a request brings.
    pub inputs: Vec<TensorSpec>,
    /// What an answer holds.
    pub outputs: Vec<MockOutput>,
}

/// An output of a mock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MockOutput {
    /// Its name.
    pub name: String,
    /// The element type.
    pub datatype: Datatype,
    /// The dimensions; only the leading one may be free.
    pub shape: Vec<i64>,
    /// What every row gets: one value for all elements, or one per element.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<MockValue>,
}

/// What a mock answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number, a text, a truth value, or a list of them")]
pub enum MockValue {
    /// `true` or `false`.
    Truth(bool),
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
    /// One per element of a row.
    List(Vec<Self>),
}

impl std::fmt::Display for MockValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Truth(truth) => write!(f, "{truth}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "`{text}`"),
            Self::List(_) => f.write_str("a list in a list"),
        }
    }
}

impl From<&Signature> for MockSource {
    fn from(signature: &Signature) -> Self {
        let output = |spec: &TensorSpec| {
            let TensorSpec { name, datatype, shape } = spec.clone();
            MockOutput { name, datatype, shape, value: None }
        };
        Self { inputs: signature.inputs.clone(), outputs: signature.outputs.iter().map(output).collect() }
    }
}

/// Makes a mock. Equal input gives equal bytes.
///
/// # Errors
/// A signature that no package can have, values that do not fit it, and what a manifest source can get wrong.
pub fn mock(
    mock: &MockSource,
    source: &ManifestSource,
    options: &ImportOptions,
) -> Result<Vec<u8>, ImportError> {
    let mut problems = source.problems();
    let (name, version) = identity(source, options, &mut problems);
    for (field, is_there) in [
        ("scaler", source.scaler.is_some()),
        ("answer", source.answer.is_some()),
        ("background", source.background.as_ref().is_some_and(|background| !background.is_empty())),
    ] {
        if is_there {
            let message = "a mock has no model that it could stand beside".to_owned();
            problem(&mut problems, field, message, "leave it out; the mock's signature says what it answers");
        }
    }
    mock.check(&mut problems);
    let columns = mock.columns();
    if !source.features.is_empty() && columns.is_some_and(|columns| columns != source.features.len()) {
        let message =
            format!("{} features are named, the inputs have {columns:?} columns", source.features.len());
        problem(&mut problems, "features", message, "name every column once, in the order of the columns");
    }
    let mut rows = Vec::new();
    for (at, output) in mock.outputs.iter().enumerate() {
        rows.push(output.row(at, &source.labels, &mut problems));
    }
    if !problems.is_empty() {
        return Err(ImportError::Manifest { problems });
    }
    let is_tabular = mock.is_tabular();
    let (model, renamed) = if is_tabular { mock.tabular(&rows) } else { mock.graph(&rows) };
    let refused = |refusals| unsupported(refusals, &renamed);
    let mut imported = if is_tabular {
        Imported::Tabular(tabular::import_tabular(&model, source.features.len()).map_err(refused)?)
    } else {
        Imported::Graph(graph::import_graph(&model, &options.limits).map_err(refused)?)
    };
    imported.rename(&renamed);
    let signature = imported.signature();
    let mut wanted = Signature {
        inputs: mock.inputs.clone(),
        outputs: mock.outputs.iter().map(MockOutput::spec).collect(),
    };
    rename(&mut wanted.inputs, &renamed);
    check_came_out(&wanted, &signature)?;
    let (operations_per_row, memory_per_row) = imported.cost();
    let text =
        rmp_serde::to_vec_named(mock).map_err(|error| ImportError::Package { problem: error.to_string() })?;
    let manifest = Manifest {
        model: name,
        version,
        description: source.description.clone(),
        signature,
        features: source.features.iter().map(|feature| feature.0.clone()).collect(),
        feature_version: source.feature_version.as_ref().map(|version| version.0.clone()),
        labels: source.labels.iter().map(|label| label.0.clone()).collect(),
        scope: source.scope.clone(),
        metrics: BTreeMap::new(),
        accepts_missing: source.accepts_missing.unwrap_or(false),
        engine: imported.engine(),
        source_digest: Digest::of(&text),
        producer: "lockgate package --mock".to_owned(),
        operations_per_row,
        memory_per_row,
        contributions: Vec::new(),
        mock: true,
    };
    imported.seal(&manifest, Vec::new())
}

/// The elements of a row of an output.
#[derive(Debug, Clone, PartialEq)]
enum Row {
    Numbers(Vec<f64>),
    Texts(Vec<String>),
}

/// A mock's answers have the rows that its requests have, and nothing else is left open.
fn check_came_out(wanted: &Signature, found: &Signature) -> Result<(), ImportError> {
    let mut problems = Vec::new();
    let tensors = [("inputs", &wanted.inputs, &found.inputs), ("outputs", &wanted.outputs, &found.outputs)];
    for (what, wanted, found) in tensors {
        for (at, (wanted, found)) in wanted.iter().zip(found).enumerate() {
            if wanted != found {
                let message =
                    format!("{:?} cannot be; with the other shapes it is {:?}", wanted.shape, found.shape);
                let hint = "leave the rows of all inputs and outputs open (-1), or give all the same number";
                problem(&mut problems, &format!("{what}[{at}].shape"), message, hint);
            }
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(ImportError::Manifest { problems }) }
}

impl MockSource {
    fn check(&self, problems: &mut Vec<ManifestProblem>) {
        for (field, is_empty) in [("inputs", self.inputs.is_empty()), ("outputs", self.outputs.is_empty())] {
            if is_empty {
                problem(problems, field, "there are none".to_owned(), "give at least one tensor");
            }
        }
        let outputs: Vec<TensorSpec> = self.outputs.iter().map(MockOutput::spec).collect();
        for (what, specs) in [("inputs", &self.inputs), ("outputs", &outputs)] {
            for (at, spec) in specs.iter().enumerate() {
                let field = |part: &str| format!("{what}[{at}].{part}");
                if spec.name.is_empty() {
                    problem(problems, &field("name"), "it is empty".to_owned(), "name the tensor");
                } else if specs.iter().take(at).any(|other| other.name == spec.name) {
                    let message = format!("`{}` is there twice", spec.name);
                    problem(problems, &field("name"), message, "give each tensor its own name");
                }
                if spec.shape.iter().any(|&dim| dim == 0 || dim < -1) {
                    let message = format!("{:?} is no shape", spec.shape);
                    problem(problems, &field("shape"), message, "give sizes of 1 and more, -1 for the rows");
                }
            }
        }
        for (at, spec) in outputs.iter().enumerate() {
            if spec.shape.get(1..).is_some_and(|rest| rest.contains(&-1)) {
                let message = format!("{:?} leaves more open than the rows", spec.shape);
                let hint = "give every dimension but the first a size";
                problem(problems, &format!("outputs[{at}].shape"), message, hint);
            }
        }
    }

    /// The columns of all inputs, where they are known.
    fn columns(&self) -> Option<usize> {
        let width = |spec: &TensorSpec| match spec.shape.as_slice() {
            [_, .., columns] => usize::try_from(*columns).ok(),
            _ => Some(1),
        };
        self.inputs.iter().map(width).sum()
    }

    /// Whether the tabular engine has such inputs and outputs.
    fn is_tabular(&self) -> bool {
        let is_number = |datatype| {
            matches!(
                datatype,
                Datatype::Fp32 | Datatype::Fp64 | Datatype::Int32 | Datatype::Int64 | Datatype::Bool
            )
        };
        let batch = self.inputs.first().and_then(|input| input.shape.first()).copied();
        let is_batch = |shape: &[i64]| shape.first().copied() == batch;
        self.inputs.iter().all(|input| {
            is_number(input.datatype)
                && is_batch(&input.shape)
                && matches!(input.shape.as_slice(), [_, columns] if *columns > 0)
        }) && self.outputs.iter().all(|output| {
            is_batch(&output.shape)
                && match output.shape.as_slice() {
                    [_] | [_, 1] => is_number(output.datatype) || output.datatype == Datatype::Bytes,
                    [_, _] => is_number(output.datatype),
                    _ => false,
                }
        })
    }

    /// A model with these inputs and nothing else.
    fn bare(&self) -> OnnxModel {
        let inputs = self.inputs.iter().map(|spec| ValueInfo {
            name: spec.name.clone(),
            element: Some(element(spec.datatype)),
            shape: Some(
                spec.shape
                    .iter()
                    .map(|&dim| if dim > 0 { Dimension::Fixed(dim) } else { Dimension::Unknown })
                    .collect(),
            ),
        });
        OnnxModel {
            opsets: BTreeMap::from([("ai.onnx".to_owned(), 18)]),
            producer: String::new(),
            inputs: inputs.collect(),
            outputs: Vec::new(),
            initializers: BTreeMap::new(),
            nodes: Vec::new(),
            columns: Vec::new(),
        }
    }

    /// Constants added to a column of zeros, which has as many rows as the first input.
    fn tabular(&self, rows: &[Row]) -> (OnnxModel, Vec<Renamed>) {
        let mut model = self.bare();
        let mut renamed = Vec::new();
        let first = self.inputs.first().map(|input| input.name.clone()).unwrap_or_default();
        let mut rewriter = Rewriter::new(&mut model);
        // Truth first: whatever the number is, NaN too, it becomes 0 or 1.
        let truth = rewriter.cast(&first, ElementType::Bool);
        let number = rewriter.cast(&truth, ElementType::Double);
        let place = rewriter.constant(Tensor::vector(vec![0_i64]));
        let column = rewriter.node("Gather", &[&number, &place], &[("axis", Value::Integer(1))]);
        let zeros = rewriter.clip(&column, Some(0.0), Some(0.0));
        for (output, row) in self.outputs.iter().zip(rows) {
            let is_vector = output.shape.len() == 1;
            let squeezed = |rewriter: &mut Rewriter<'_>, value: &str| {
                let axes = rewriter.constant(Tensor::vector(vec![1_i64]));
                rewriter.node("Squeeze", &[value, &axes], &[])
            };
            let value = match row {
                Row::Numbers(numbers) => {
                    let numbers = rewriter.constant(Tensor::vector(numbers.clone()));
                    let value = rewriter.node("Add", &[&zeros, &numbers], &[]);
                    let value = rewriter.cast(&value, element(output.datatype));
                    if is_vector { squeezed(&mut rewriter, &value) } else { value }
                }
                Row::Texts(texts) => {
                    let index = rewriter.cast(&zeros, ElementType::Int64);
                    let index = if is_vector { squeezed(&mut rewriter, &index) } else { index };
                    let table = rewriter.constant(Tensor::vector(texts.clone()));
                    rewriter.node("Gather", &[&table, &index], &[("axis", Value::Integer(0))])
                }
            };
            rewriter.model.outputs.push(ValueInfo { name: value.clone(), element: None, shape: None });
            renamed.push(Renamed { inner: value, outer: output.name.clone() });
        }
        (model, renamed)
    }

    /// Constants repeated as often as the first input is long.
    fn graph(&self, rows: &[Row]) -> (OnnxModel, Vec<Renamed>) {
        let mut model = self.bare();
        let mut renamed = Vec::new();
        let first = self.inputs.first().map(|input| input.name.clone()).unwrap_or_default();
        let mut rewriter = Rewriter::new(&mut model);
        let shape = rewriter.node("Shape", &[&first], &[]);
        let place = rewriter.constant(Tensor::vector(vec![0_i64]));
        let count = rewriter.node("Gather", &[&shape, &place], &[("axis", Value::Integer(0))]);
        for (output, row) in self.outputs.iter().zip(rows) {
            let mut shape: Vec<usize> =
                output.shape.iter().map(|&dim| usize::try_from(dim).unwrap_or(1)).collect();
            if let Some(leading) = shape.first_mut() {
                *leading = 1;
            }
            let value = match row {
                Row::Numbers(numbers) => {
                    let numbers = rewriter.constant(shaped(shape.clone(), numbers.clone()));
                    rewriter.cast(&numbers, element(output.datatype))
                }
                Row::Texts(texts) => rewriter.constant(shaped(shape.clone(), texts.clone())),
            };
            let value = match output.shape.split_first() {
                None => rewriter.node("Identity", &[&value], &[]),
                Some((&leading, rest)) => {
                    let rest = rewriter.constant(Tensor::vector(rest.to_vec()));
                    let rows = match leading {
                        -1 => count.clone(),
                        fixed => rewriter.constant(Tensor::vector(vec![fixed])),
                    };
                    let target = rewriter.node("Concat", &[&rows, &rest], &[("axis", Value::Integer(0))]);
                    rewriter.node("Expand", &[&value, &target], &[])
                }
            };
            rewriter.model.outputs.push(ValueInfo { name: value.clone(), element: None, shape: None });
            renamed.push(Renamed { inner: value, outer: output.name.clone() });
        }
        (model, renamed)
    }
}

impl MockOutput {
    fn spec(&self) -> TensorSpec {
        TensorSpec { name: self.name.clone(), datatype: self.datatype, shape: self.shape.clone() }
    }

    /// What every row gets.
    fn row(&self, at: usize, labels: &[Scalar], problems: &mut Vec<ManifestProblem>) -> Row {
        let dims = self.shape.get(1..).unwrap_or_default();
        let count =
            dims.iter().try_fold(1_usize, |count, &dim| count.checked_mul(usize::try_from(dim).ok()?));
        let count = match count {
            Some(count) if count <= MOST_ELEMENTS => count,
            // It has been refused already.
            None if dims.contains(&-1) => return Row::Numbers(Vec::new()),
            _ => {
                let message = format!("a mock's output has at most {MOST_ELEMENTS} elements per row");
                problem(problems, &format!("outputs[{at}].shape"), message, "give it a smaller shape");
                return Row::Numbers(Vec::new());
            }
        };
        let is_text = self.datatype == Datatype::Bytes;
        let Some(value) = &self.value else {
            if is_text {
                let label = labels.first().map_or_else(|| "mock".to_owned(), |label| label.0.clone());
                return Row::Texts(vec![label; count]);
            }
            let is_float = matches!(self.datatype, Datatype::Fp16 | Datatype::Fp32 | Datatype::Fp64);
            let is_scores = is_float && count > 1 && count == labels.len();
            return Row::Numbers(vec![if is_scores { 1.0 / count as f64 } else { 0.0 }; count]);
        };
        let elements: Vec<&MockValue> = match value {
            MockValue::List(all) => all.iter().collect(),
            one => vec![one; count],
        };
        let field = format!("outputs[{at}].value");
        if elements.len() != count {
            let message = format!("{} values are given, a row has {count}", elements.len());
            problem(problems, &field, message, "give one value, or one per element of a row");
        }
        let (mut numbers, mut texts) = (Vec::new(), Vec::new());
        for element in elements {
            match element {
                MockValue::Truth(truth) if self.datatype == Datatype::Bool => {
                    numbers.push(f64::from(u8::from(*truth)));
                }
                MockValue::Number(number) if !is_text && fits(*number, self.datatype) => {
                    numbers.push(*number);
                }
                MockValue::Text(text) if is_text => texts.push(text.clone()),
                other => {
                    let message = format!("{other} is no {}", self.datatype);
                    problem(problems, &field, message, "give values of the output's datatype");
                }
            }
        }
        if is_text { Row::Texts(texts) } else { Row::Numbers(numbers) }
    }
}

/// Whether a number is one of the datatype's.
fn fits(number: f64, datatype: Datatype) -> bool {
    let (low, high) = match datatype {
        Datatype::Fp16 | Datatype::Fp32 | Datatype::Fp64 => return !number.is_nan(),
        Datatype::Uint8 => (0.0, 255.0),
        Datatype::Uint16 => (0.0, 65_535.0),
        Datatype::Uint32 => (0.0, 4_294_967_295.0),
        // As far as doubles count.
        Datatype::Uint64 => (0.0, 9_007_199_254_740_992.0),
        Datatype::Int8 => (-128.0, 127.0),
        Datatype::Int16 => (-32_768.0, 32_767.0),
        Datatype::Int32 => (-2_147_483_648.0, 2_147_483_647.0),
        Datatype::Int64 => (-9_007_199_254_740_992.0, 9_007_199_254_740_992.0),
        Datatype::Bool => (0.0, 1.0),
        Datatype::Bytes => return false,
    };
    number.fract() == 0.0 && (low..=high).contains(&number)
}

fn element(datatype: Datatype) -> ElementType {
    match datatype {
        Datatype::Bool => ElementType::Bool,
        Datatype::Uint8 => ElementType::Uint8,
        Datatype::Uint16 => ElementType::Uint16,
        Datatype::Uint32 => ElementType::Uint32,
        Datatype::Uint64 => ElementType::Uint64,
        Datatype::Int8 => ElementType::Int8,
        Datatype::Int16 => ElementType::Int16,
        Datatype::Int32 => ElementType::Int32,
        Datatype::Int64 => ElementType::Int64,
        Datatype::Fp16 => ElementType::Float16,
        Datatype::Fp32 => ElementType::Float,
        Datatype::Fp64 => ElementType::Double,
        Datatype::Bytes => ElementType::String,
    }
}

/// A tensor whose elements are as many as its shape says, which they were counted by.
fn shaped<T: lockgate_onnx::Element>(shape: Vec<usize>, elements: Vec<T>) -> Tensor {
    Tensor::of(shape, elements).unwrap_or_else(|_| Tensor::vector(Vec::<i64>::new()))
}
