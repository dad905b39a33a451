//! Models and answers as `tests/estimators/generate.py` leaves them, and what the engines make of them.

use std::path::{Path, PathBuf};

use lockgate_inference::Model;
use lockgate_onnx::Kind;
use lockgate_package::import::{ImportOptions, ManifestSource, import};
use lockgate_package::{AlignedBytes, Datatype, Engine, Tensor};
use serde::Deserialize;

/// How far a number may be from onnxruntime's, relative to numbers above one, unless a case says otherwise.
const TOLERANCE: f64 = 1e-5;

#[derive(Deserialize)]
struct Case {
    /// Another tolerance, where the reference's own terms are so large that its sums are no better.
    tolerance: Option<f64>,
    sets: Vec<Set>,
}

#[derive(Deserialize)]
struct Set {
    inputs: Vec<CaseTensor>,
    outputs: Vec<CaseTensor>,
}

#[derive(Deserialize)]
struct CaseTensor {
    name: String,
    kind: i64,
    shape: Vec<i64>,
    data: String,
}

/// What became of a model.
pub(crate) enum Outcome {
    /// It runs as it should.
    Passed(Passed),
    /// It cannot be packaged, and why.
    Refused(String),
    /// It answers something else.
    Wrong(String),
}

/// A model that runs as it should.
pub(crate) struct Passed {
    pub(crate) package: Vec<u8>,
    pub(crate) engine: Engine,
    /// Requests and their answers.
    pub(crate) answers: Vec<(Vec<Tensor>, Vec<Tensor>)>,
    /// The largest difference, relative to numbers above one.
    pub(crate) largest: f64,
}

/// The names of all models of a folder.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let file_of = |entry: std::io::Result<std::fs::DirEntry>| -> PathBuf { entry.unwrap().path() };
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(file_of)
        .filter(|path| path.extension().is_some_and(|extension| extension == "onnx"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

/// Packages a model and compares its answers.
pub(crate) fn run(folder: &Path, name: &str) -> Outcome {
    let text = std::fs::read(folder.join(format!("{name}.json"))).unwrap();
    let case: Case = serde_json::from_slice(&text).unwrap();
    let onnx = std::fs::read(folder.join(format!("{name}.onnx"))).unwrap();
    let options = ImportOptions {
        model: Some(name.to_owned()),
        version: Some("1.0.0".to_owned()),
        ..ImportOptions::default()
    };
    // Whether NaN means a missing value is the caller's to say where the model itself does not.
    let source = ManifestSource { accepts_missing: Some(true), ..ManifestSource::default() };
    let package = match import(&onnx, &source, &options) {
        Ok(package) => package,
        Err(error) => return Outcome::Refused(error.to_string()),
    };
    let mut model = match Model::load(AlignedBytes::copy_of(&package)) {
        Ok(model) => model,
        Err(error) => return Outcome::Wrong(error.to_string()),
    };
    let engine = model.manifest().engine;
    let (mut answers, mut largest) = (Vec::new(), 0.0_f64);
    for (index, set) in case.sets.iter().enumerate() {
        match answer(&mut model, set, case.tolerance.unwrap_or(TOLERANCE)) {
            Ok((inputs, outputs, difference)) => {
                largest = largest.max(difference);
                answers.push((inputs, outputs));
            }
            Err(problem) => return Outcome::Wrong(format!("request {index}: {problem}")),
        }
    }
    Outcome::Passed(Passed { package, engine, answers, largest })
}

fn answer(model: &mut Model, set: &Set, tolerance: f64) -> Result<(Vec<Tensor>, Vec<Tensor>, f64), String> {
    let inputs: Vec<Tensor> = set.inputs.iter().map(tensor).collect();
    let views: Vec<_> = inputs.iter().map(Tensor::view).collect();
    let outputs = model.predict(&views).map_err(|error| error.to_string())?.outputs;
    let expected: Vec<Tensor> = set.outputs.iter().map(tensor).collect();
    let mut largest = 0.0_f64;
    for expected_output in &expected {
        let found = outputs.iter().find(|output| output.name == expected_output.name);
        let found = found.ok_or_else(|| format!("there is no output `{}`", expected_output.name))?;
        let difference = compare(found, expected_output, &expected, tolerance)?;
        largest = largest.max(difference);
    }
    Ok((inputs, outputs, largest))
}

fn tensor(tensor: &CaseTensor) -> Tensor {
    let datatype = Datatype::of_kind(Kind::from_number(tensor.kind).unwrap());
    let data = hex::decode(&tensor.data).unwrap();
    Tensor { name: tensor.name.clone(), datatype, shape: tensor.shape.clone(), data }
}

/// The largest difference, when none is over the tolerance and labels are equal but for ties.
fn compare(found: &Tensor, expected: &Tensor, all: &[Tensor], tolerance: f64) -> Result<f64, String> {
    let name = &expected.name;
    if (found.datatype, &found.shape) != (expected.datatype, &expected.shape) {
        let form = |tensor: &Tensor| format!("{} {:?}", tensor.datatype, tensor.shape);
        return Err(format!("output `{name}`: {} instead of {}", form(found), form(expected)));
    }
    let mut largest = 0.0_f64;
    if matches!(expected.datatype, Datatype::Fp32 | Datatype::Fp64) {
        for (index, (&found, &expected)) in numbers(found).iter().zip(&numbers(expected)).enumerate() {
            if found == expected || (found.is_nan() && expected.is_nan()) {
                continue;
            }
            let difference = (found - expected).abs() / expected.abs().max(1.0);
            if difference.is_nan() || difference > tolerance {
                return Err(format!("output `{name}`[{index}]: {found} instead of {expected}"));
            }
            largest = largest.max(difference);
        }
        return Ok(largest);
    }
    for (index, (found, expected)) in elements(found).iter().zip(&elements(expected)).enumerate() {
        if found != expected && !is_tie(all, index, tolerance) {
            let text = |element: &[u8]| match name {
                _ if element.len() == 8 => {
                    i64::from_le_bytes(element.try_into().unwrap_or_default()).to_string()
                }
                _ => String::from_utf8_lossy(element).into_owned(),
            };
            return Err(format!("output `{name}`[{index}]: {} instead of {}", text(found), text(expected)));
        }
    }
    Ok(largest)
}

/// Whether the reference's two best scores for a row are closer than the tolerance.
fn is_tie(all: &[Tensor], row: usize, tolerance: f64) -> bool {
    all.iter().any(|output| match (output.datatype, output.shape.as_slice()) {
        (Datatype::Fp32 | Datatype::Fp64, [rows, columns]) if *columns > 1 && *rows > row as i64 => {
            let width = *columns as usize;
            let mut scores: Vec<f64> = numbers(output).into_iter().skip(row * width).take(width).collect();
            scores.sort_by(|a, b| b.total_cmp(a));
            scores[0] - scores[1] <= tolerance * scores[0].abs().max(1.0)
        }
        _ => false,
    })
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    match tensor.datatype {
        Datatype::Fp32 => {
            tensor.data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes).into()).collect()
        }
        _ => tensor.data.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect(),
    }
}

/// Labels as they lie in the tensor.
fn elements(tensor: &Tensor) -> Vec<Vec<u8>> {
    tensor.to_byte_strings().unwrap_or_else(|| {
        let count = tensor.shape.iter().product::<i64>().max(1) as usize;
        let size = (tensor.data.len() / count).max(1);
        tensor.data.chunks(size).map(<[u8]>::to_vec).collect()
    })
}
