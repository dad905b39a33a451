//! Models and answers as `tests/estimators/generate.py` leaves them, and what the engines make of them.

use std::path::Path;

use lockgate_inference::Model;
use lockgate_package::{AlignedBytes, Datatype, Tensor};
use serde::Deserialize;

use crate::support::{self, Answered, CaseTensor, Exchange, Outcome, ask};

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

/// A model that runs as it should.
pub(crate) struct Passed {
    pub(crate) model: Answered,
    /// The largest difference, relative to numbers above one.
    pub(crate) largest: f64,
}

/// Packages a model and compares its answers.
pub(crate) fn run(folder: &Path, name: &str) -> Outcome<Passed> {
    let case: Case = support::read(folder, name);
    let package = match support::package(folder, name) {
        Ok(package) => package,
        Err(error) => return Outcome::Refused(error.to_string()),
    };
    let mut model = match Model::load(AlignedBytes::copy_of(&package)) {
        Ok(model) => model,
        Err(error) => return Outcome::Wrong(error.to_string()),
    };
    let (mut exchanges, mut largest) = (Vec::new(), 0.0_f64);
    for (index, set) in case.sets.iter().enumerate() {
        match answer(&mut model, set, case.tolerance.unwrap_or(TOLERANCE)) {
            Ok((exchange, difference)) => {
                largest = largest.max(difference);
                exchanges.push(exchange);
            }
            Err(problem) => return Outcome::Wrong(format!("request {index}: {problem}")),
        }
    }
    Outcome::Passed(Passed { model: Answered { package, exchanges }, largest })
}

/// A request with its answer, and the largest difference from the expected one.
fn answer(model: &mut Model, set: &Set, tolerance: f64) -> Result<(Exchange, f64), String> {
    let exchange = ask(model, &set.inputs)?;
    let expected: Vec<Tensor> = set.outputs.iter().map(CaseTensor::tensor).collect::<Result<_, _>>()?;
    let mut largest = 0.0_f64;
    for output in &expected {
        let found = support::output(&exchange.1, output)?;
        largest = largest.max(compare(found, output, &expected, tolerance)?);
    }
    Ok((exchange, largest))
}

/// The largest difference, when none is over the tolerance and labels are equal but for ties.
fn compare(found: &Tensor, expected: &Tensor, all: &[Tensor], tolerance: f64) -> Result<f64, String> {
    let name = &expected.name;
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
