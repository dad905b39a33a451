//! The node tests of the `onnx` package (`tests/onnx`), through packaging: every case gives the answers that ONNX asks for, or stands in
//! `tests/onnx/exceptions.json` under the reason why it is refused. The core in wasmtime gives the native bits.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use lockgate_core::CoreModules;
use lockgate_inference::Model;
use lockgate_onnx::Kind;
use lockgate_package::import::{ImportOptions, ManifestSource, import};
use lockgate_package::{AlignedBytes, Datatype, Digest, Package, Tensor};
use lockgate_runtime::{PredictRequest, Runtime};
use lockgate_tests::{core_dir, root};
use serde::Deserialize;

/// More than a request is usually given time for: what is measured elsewhere is not measured here.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
struct Case {
    rtol: f64,
    atol: f64,
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
    #[serde(default)]
    kind: i64,
    #[serde(default)]
    shape: Vec<i64>,
    #[serde(default)]
    data: String,
}

/// Why cases are refused, or held to another tolerance, and which.
#[derive(Deserialize)]
struct Exception {
    reason: String,
    atol: Option<f64>,
    cases: Vec<String>,
}

/// Where `backend.py` has written the cases.
fn folder() -> PathBuf {
    let folder =
        std::env::var_os("LOCKGATE_ONNX_CASES").expect("`cargo xtask test` writes the cases and says where");
    PathBuf::from(folder)
}

/// What became of a case.
enum Outcome {
    /// It passes; its package, and its requests with their answers.
    Passed(Vec<u8>, Vec<(Vec<Tensor>, Vec<Tensor>)>),
    Refused(String),
    Wrong(String),
}

#[test]
fn every_case_passes_or_is_refused_for_a_reason() {
    let exceptions = std::fs::read(root().join("tests/onnx/exceptions.json")).unwrap();
    let exceptions: Vec<Exception> = serde_json::from_slice(&exceptions).unwrap();
    let mut reasons: BTreeMap<&str, &str> = BTreeMap::new();
    let mut tolerances: BTreeMap<&str, f64> = BTreeMap::new();
    for exception in &exceptions {
        for case in &exception.cases {
            match exception.atol {
                Some(atol) => tolerances.insert(case, atol).map(drop),
                None => reasons.insert(case, &exception.reason).map(drop),
            };
        }
    }
    let names = names();
    let (mut passed, mut problems) = (Vec::new(), Vec::new());
    for name in &names {
        match (run(name, tolerances.get(name.as_str()).copied()), reasons.get(name.as_str())) {
            (Outcome::Passed(package, answers), None) => passed.push((name, package, answers)),
            (Outcome::Passed(..), Some(reason)) => {
                problems.push(format!("{name}: runs, and is listed as refused: {reason}"));
            }
            (Outcome::Refused(_), Some(_)) => {}
            (Outcome::Refused(problem) | Outcome::Wrong(problem), _) => {
                problems.push(format!("{name}: {problem}"));
            }
        }
    }
    for name in reasons.keys().chain(tolerances.keys()).filter(|name| !names.iter().any(|have| have == *name))
    {
        problems.push(format!("{name}: is listed, and there is no such case"));
    }
    println!("{} of {} cases pass, {} are refused", passed.len(), names.len(), reasons.len());
    // The same in the sandbox, some packages at a time.
    let runtime = Runtime::builder(CoreModules::from_dir(&core_dir()).unwrap()).build().unwrap();
    for cases in passed.chunks(64) {
        // Some cases have equal models.
        let packages: BTreeMap<_, _> =
            cases.iter().map(|(_, package, _)| (digest(package), package.clone())).collect();
        runtime.install(None, packages.into_values().collect()).unwrap();
        for (name, package, answers) in cases {
            for (inputs, expected) in answers {
                let request = PredictRequest {
                    package: digest(package),
                    inputs: inputs.clone(),
                    deadline: Some(PATIENCE),
                };
                match runtime.predict(request) {
                    Ok(answer) if answer.outputs == *expected => {}
                    Ok(_) => problems.push(format!("{name}: other bits in wasmtime")),
                    Err(error) => problems.push(format!("{name}: in wasmtime: {error}")),
                }
            }
        }
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

fn digest(package: &[u8]) -> Digest {
    Package::open(AlignedBytes::copy_of(package)).unwrap().digest()
}

/// The names of all cases.
fn names() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .filter_map(|entry| {
            let path = entry.unwrap().path();
            let is_model = path.extension().is_some_and(|extension| extension == "onnx");
            is_model.then(|| path.file_stem().unwrap().to_str().unwrap().to_owned())
        })
        .collect();
    names.sort();
    assert!(names.len() > 1800, "only {} cases in {}", names.len(), folder().display());
    names
}

fn run(name: &str, atol: Option<f64>) -> Outcome {
    let text = std::fs::read(folder().join(format!("{name}.json"))).unwrap();
    let mut case: Case = serde_json::from_slice(&text).unwrap();
    case.atol = atol.unwrap_or(case.atol);
    let onnx = std::fs::read(folder().join(format!("{name}.onnx"))).unwrap();
    let options = ImportOptions {
        model: Some(name.to_owned()),
        version: Some("1.0.0".to_owned()),
        ..ImportOptions::default()
    };
    // A model may take missing values; whether it does is the caller's to say.
    let source = ManifestSource { accepts_missing: Some(true), ..ManifestSource::default() };
    let package = match import(&onnx, &source, &options) {
        Ok(package) => package,
        Err(error) => return Outcome::Refused(error.to_string()),
    };
    let answers: Result<Vec<_>, String> = Model::load(AlignedBytes::copy_of(&package))
        .map_err(|error| error.to_string())
        .and_then(|mut model| case.sets.iter().map(|set| answer(&mut model, set, &case)).collect());
    match answers {
        Ok(answers) => Outcome::Passed(package, answers),
        // What an input switches on is known when the request comes.
        Err(problem) if problem.contains("not supported") => Outcome::Refused(problem),
        Err(problem) => Outcome::Wrong(problem),
    }
}

/// A request and its answer, which is the expected one.
fn answer(model: &mut Model, set: &Set, case: &Case) -> Result<(Vec<Tensor>, Vec<Tensor>), String> {
    let inputs: Vec<Tensor> = set.inputs.iter().map(tensor).collect::<Result<_, _>>()?;
    let views: Vec<_> = inputs.iter().map(Tensor::view).collect();
    let outputs = model.predict(&views).map_err(|error| error.to_string())?.outputs;
    for expected in &set.outputs {
        let expected = tensor(expected)?;
        let found = outputs.iter().find(|output| output.name == expected.name);
        let found = found.ok_or_else(|| format!("there is no output `{}`", expected.name))?;
        compare(found, &expected, case)?;
    }
    Ok((inputs, outputs))
}

/// The tensor as a request or an answer holds it.
fn tensor(tensor: &CaseTensor) -> Result<Tensor, String> {
    let kind = Kind::from_number(tensor.kind).ok_or_else(|| format!("`{}` is no tensor", tensor.name))?;
    let datatype = Datatype::of_kind(kind);
    let mut data = hex::decode(&tensor.data).unwrap();
    if datatype.kind() != kind {
        let shape: Vec<usize> = tensor.shape.iter().map(|&len| usize::try_from(len).unwrap()).collect();
        let own = lockgate_onnx::Tensor::from_bytes(kind, shape.clone(), &data).unwrap();
        let wide = own.numbers().unwrap().narrow(datatype.kind());
        data = lockgate_onnx::Tensor::new(shape, wide).unwrap().to_bytes();
    }
    Ok(Tensor { name: tensor.name.clone(), datatype, shape: tensor.shape.clone(), data })
}

fn compare(found: &Tensor, expected: &Tensor, case: &Case) -> Result<(), String> {
    let name = &expected.name;
    if (found.datatype, &found.shape) != (expected.datatype, &expected.shape) {
        let form = |tensor: &Tensor| format!("{} {:?}", tensor.datatype, tensor.shape);
        return Err(format!("output `{name}`: {} instead of {}", form(found), form(expected)));
    }
    let doubles = |tensor: &Tensor| {
        let shape: Vec<usize> = tensor.shape.iter().map(|&len| usize::try_from(len).unwrap()).collect();
        lockgate_onnx::Tensor::from_bytes(tensor.datatype.kind(), shape, &tensor.data).unwrap().doubles()
    };
    match (doubles(found), doubles(expected)) {
        (Ok(found), Ok(expected)) => {
            for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let is_close = found == expected
                    || (found.is_nan() && expected.is_nan())
                    || (found - expected).abs() <= case.atol + case.rtol * expected.abs();
                if !is_close {
                    return Err(format!("output `{name}`[{index}]: {found} instead of {expected}"));
                }
            }
            Ok(())
        }
        _ if found.data == expected.data => Ok(()),
        _ => Err(format!("output `{name}`: other texts")),
    }
}
