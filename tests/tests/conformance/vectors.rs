//! Reads `tests/models` and `tests/answers` and compares answers with the recorded ones.

use std::path::PathBuf;

use lockgate_package::import::{ImportOptions, ManifestSource, import};
use lockgate_package::{Datatype, Tensor};
use lockgate_tests::root;
use serde::Deserialize;
use serde_json::Value;

/// How far a number may be from onnxruntime's, relative to numbers above one.
const TOLERANCE: f64 = 1e-5;

/// One model with inputs and onnxruntime's answers.
pub(crate) struct Vector {
    pub(crate) name: String,
    pub(crate) package: Vec<u8>,
    pub(crate) inputs: Vec<Tensor>,
    pub(crate) expected: Vec<Tensor>,
    /// The labels that the scores are for.
    pub(crate) classes: Vec<Value>,
}

/// What onnxruntime's answers were compared with.
#[derive(Default)]
pub(crate) struct Comparison {
    pub(crate) rows: usize,
    /// The largest difference within the tolerance, relative to numbers above one.
    pub(crate) largest: f64,
    pub(crate) differences: Vec<String>,
}

#[derive(Deserialize)]
struct File {
    model: String,
    /// What stands beside the model.
    #[serde(default)]
    manifest: ManifestSource,
    #[serde(default)]
    classes: Vec<Value>,
    inputs: Vec<JsonTensor>,
    outputs: Vec<JsonTensor>,
}

#[derive(Deserialize)]
struct JsonTensor {
    name: String,
    datatype: String,
    shape: Vec<i64>,
    data: Vec<Value>,
}

/// Every vector of `tests/models` and `tests/answers`, packaged.
pub(crate) fn all() -> Vec<Vector> {
    let vectors = |folder: &str, at_least: usize| {
        let folder = root().join(folder);
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        files.sort();
        assert!(files.len() >= at_least, "only {} vectors in {}", files.len(), folder.display());
        files
    };
    [vectors("tests/models", 60), vectors("tests/answers", 50)].concat().iter().map(read).collect()
}

fn read(path: &PathBuf) -> Vector {
    let file: File = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
    let onnx = std::fs::read(path.with_file_name(&file.model)).unwrap();
    let package = package(&name, &onnx, &file.manifest);
    Vector {
        name,
        package,
        inputs: file.inputs.iter().map(tensor).collect(),
        expected: file.outputs.iter().map(tensor).collect(),
        classes: file.classes,
    }
}

/// Packages a model under its file's name.
pub(crate) fn package(name: &str, onnx: &[u8], manifest: &ManifestSource) -> Vec<u8> {
    let options = ImportOptions {
        model: Some(name.to_owned()),
        version: Some("1.0.0".to_owned()),
        ..Default::default()
    };
    import(onnx, manifest, &options).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn tensor(json: &JsonTensor) -> Tensor {
    let datatype: Datatype = json.datatype.parse().unwrap();
    let number = |value: &Value| match value {
        Value::String(text) if text == "NaN" => f64::NAN,
        Value::String(text) if text == "Infinity" => f64::INFINITY,
        Value::String(text) if text == "-Infinity" => f64::NEG_INFINITY,
        value => value.as_f64().unwrap(),
    };
    let data = json.data.iter().flat_map(|value| match datatype {
        // Parsed as f32, for the shortest digits of an f32 may round differently on the way through f64.
        Datatype::Fp32 => match value {
            Value::Number(digits) => digits.to_string().parse::<f32>().unwrap(),
            value => number(value) as f32,
        }
        .to_le_bytes()
        .to_vec(),
        Datatype::Fp64 => number(value).to_le_bytes().to_vec(),
        Datatype::Int64 => value.as_i64().unwrap().to_le_bytes().to_vec(),
        Datatype::Bool => vec![u8::from(value.as_bool().unwrap())],
        Datatype::Bytes => {
            let text = value.as_str().unwrap();
            [&(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
        }
        other => panic!("no vector has {other} yet"),
    });
    Tensor { name: json.name.clone(), datatype, shape: json.shape.clone(), data: data.collect() }
}

impl Vector {
    /// Compares `outputs` with onnxruntime's. Rows are those of the first output.
    pub(crate) fn compare(&self, outputs: &[Tensor], comparison: &mut Comparison) {
        let Comparison { rows, largest, differences } = comparison;
        *rows += self.expected[0].shape[0] as usize;
        for expected in &self.expected {
            let Some(have) = outputs.iter().find(|output| output.name == expected.name) else {
                differences.push(format!("{}: output `{}` is missing", self.name, expected.name));
                continue;
            };
            if (have.datatype, &have.shape) != (expected.datatype, &expected.shape) {
                differences.push(format!(
                    "{}: `{}` is {} {:?}, onnxruntime gives {} {:?}",
                    self.name, expected.name, have.datatype, have.shape, expected.datatype, expected.shape
                ));
                continue;
            }
            match expected.datatype {
                Datatype::Fp32 | Datatype::Fp64 => {
                    for (at, (a, b)) in numbers(have).into_iter().zip(numbers(expected)).enumerate() {
                        if a == b || (a.is_nan() && b.is_nan()) {
                            continue;
                        }
                        let difference = (a - b).abs() / b.abs().max(1.0);
                        if difference <= TOLERANCE {
                            *largest = largest.max(difference);
                        } else {
                            differences.push(format!(
                                "{}: `{}`[{at}] is {a}, onnxruntime gives {b}",
                                self.name, expected.name
                            ));
                        }
                    }
                }
                _ => self.compare_labels(have, expected, differences),
            }
        }
    }

    fn compare_labels(&self, have: &Tensor, expected: &Tensor, differences: &mut Vec<String>) {
        for (row, (a, b)) in elements(have).into_iter().zip(elements(expected)).enumerate() {
            if a != b && !self.is_tie(row) {
                differences.push(format!("{}: label {row} is {a}, onnxruntime gives {b}", self.name));
            }
        }
    }

    /// Whether onnxruntime's two best scores for a row are closer than the tolerance.
    fn is_tie(&self, row: usize) -> bool {
        let scores = self.expected.iter().find(|output| {
            output.datatype == Datatype::Fp32 && output.shape.last() == Some(&(self.classes.len() as i64))
        });
        let Some(scores) = scores else { return false };
        let width = self.classes.len();
        let mut row: Vec<f64> = numbers(scores).into_iter().skip(row * width).take(width).collect();
        row.sort_by(|a, b| b.total_cmp(a));
        matches!(row.as_slice(), [first, second, ..] if first - second <= TOLERANCE * first.abs().max(1.0))
    }
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    match tensor.datatype {
        Datatype::Fp32 => tensor.to_fp32().unwrap().into_iter().map(f64::from).collect(),
        _ => tensor.data.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect(),
    }
}

fn elements(tensor: &Tensor) -> Vec<String> {
    match tensor.datatype {
        Datatype::Bytes => tensor
            .to_byte_strings()
            .unwrap()
            .into_iter()
            .map(|text| String::from_utf8(text).unwrap())
            .collect(),
        Datatype::Int64 => tensor.to_int64().unwrap().iter().map(i64::to_string).collect(),
        _ => tensor.data.iter().map(u8::to_string).collect(),
    }
}
