//! Models as people train and export them (`tests/estimators`): what skl2onnx, onnxmltools and CatBoost write is packaged, and answers as
//! onnxruntime does, natively and in wasmtime, bit for bit the same in both. `docs/estimators.md` is what comes of it; with `UPDATE_DOCS=1`
//! the page is written instead of compared.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod cases;
mod page;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lockgate_core::CoreModules;
use lockgate_inference::Contributions;
use lockgate_package::{AlignedBytes, Digest, Package, Tensor};
use lockgate_runtime::{PredictRequest, Runtime};
use lockgate_tests::{core_dir, root};
use serde::Deserialize;
use serde_json::{Value, json};

use cases::Outcome;

/// More than a request is usually given time for: what is measured elsewhere is not measured here.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is known about models that do not run, or do not answer as onnxruntime does.
#[derive(Deserialize)]
struct Exceptions {
    refused: BTreeMap<String, String>,
    differs: BTreeMap<String, String>,
}

/// Where `generate.py` has written the models.
fn folder() -> PathBuf {
    let folder =
        std::env::var_os("LOCKGATE_ESTIMATORS").expect("`cargo xtask test` writes the models and says where");
    PathBuf::from(folder)
}

/// The models that are committed, which need no Python.
#[test]
fn the_sample_answers_as_onnxruntime_does() {
    let folder = root().join("tests/estimators/sample");
    let (passed, problems) = compare(&folder, &cases::names(&folder));
    assert!(passed.len() >= 30, "only {} models in {}", passed.len(), folder.display());
    report(&problems);
}

#[test]
fn every_estimator_answers_as_onnxruntime_does() {
    let folder = folder();
    let names = cases::names(&folder);
    assert!(names.len() > 700, "only {} models in {}", names.len(), folder.display());
    let (passed, mut problems) = compare(&folder, &names);
    let index: page::Index =
        serde_json::from_slice(&std::fs::read(folder.join("index.json")).unwrap()).unwrap();
    let engines = passed.iter().map(|(name, model)| (name.clone(), model.engine)).collect();
    let (summary, more) = page::check(&index, &engines, &exceptions().refused);
    println!("{summary}");
    problems.extend(more);
    let largest = passed.values().map(|model| model.largest).fold(0.0, f64::max);
    println!("the largest difference is {largest:.1e}");
    let packages: Vec<_> = passed.into_iter().collect();
    problems.extend(in_wasmtime(&packages));
    report(&problems);
}

fn report(problems: &[String]) {
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

fn exceptions() -> Exceptions {
    let path = root().join("tests/estimators/exceptions.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The models that answer as they should, and what is wrong with the others.
fn compare(folder: &Path, names: &[String]) -> (BTreeMap<String, cases::Passed>, Vec<String>) {
    let exceptions = exceptions();
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(names.len().max(1));
    let mut outcomes: Vec<(String, Outcome)> = std::thread::scope(|scope| {
        let tasks: Vec<_> = (0..workers)
            .map(|worker| {
                scope.spawn(move || {
                    let mine = names.iter().skip(worker).step_by(workers);
                    mine.map(|name| (name.clone(), cases::run(folder, name))).collect::<Vec<_>>()
                })
            })
            .collect();
        tasks.into_iter().flat_map(|task| task.join().unwrap()).collect()
    });
    outcomes.sort_by(|a, b| a.0.cmp(&b.0));
    let (mut passed, mut problems) = (BTreeMap::new(), Vec::new());
    for (name, outcome) in outcomes {
        let known = (exceptions.refused.get(&name), exceptions.differs.get(&name));
        match (outcome, known) {
            (Outcome::Passed(model), (None, None)) => {
                passed.insert(name, model);
            }
            (Outcome::Refused(_), (Some(_), None)) | (Outcome::Wrong(_), (None, Some(_))) => {}
            (Outcome::Passed(_), _) => {
                problems.push(format!("{name}: passes, and is listed as an exception"));
            }
            (Outcome::Refused(problem) | Outcome::Wrong(problem), _) => {
                problems.push(format!("{name}: {problem}"));
            }
        }
    }
    (passed, problems)
}

/// The same in the sandbox, some packages at a time. What JavaScript is held to is left in `target/tmp/estimators`.
fn in_wasmtime(models: &[(String, cases::Passed)]) -> Vec<String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("estimators");
    std::fs::remove_dir_all(&folder).ok();
    std::fs::create_dir_all(&folder).unwrap();
    let runtime = Runtime::builder(CoreModules::from_dir(&core_dir()).unwrap()).build().unwrap();
    let mut problems = Vec::new();
    for models in models.chunks(64) {
        runtime.install(None, models.iter().map(|(_, model)| model.package.clone()).collect()).unwrap();
        for (name, model) in models {
            for (inputs, expected) in &model.answers {
                let request = PredictRequest {
                    package: digest(&model.package),
                    inputs: inputs.clone(),
                    deadline: Some(PATIENCE),
                    contributions: Contributions::None,
                };
                match runtime.predict(request) {
                    Ok(answer) if answer.outputs == *expected => {}
                    Ok(_) => problems.push(format!("{name}: other bits in wasmtime")),
                    Err(error) => problems.push(format!("{name}: in wasmtime: {error}")),
                }
            }
            let answers: Vec<Value> = model
                .answers
                .iter()
                .map(|(inputs, outputs)| json!({ "inputs": in_json(inputs), "outputs": in_json(outputs) }))
                .collect();
            std::fs::write(folder.join(format!("{name}.lgp")), &model.package).unwrap();
            std::fs::write(folder.join(format!("{name}.json")), Value::from(answers).to_string()).unwrap();
        }
    }
    problems
}

fn digest(package: &[u8]) -> Digest {
    Package::open(AlignedBytes::copy_of(package)).unwrap().digest()
}

/// Tensors with every bit of their data.
fn in_json(tensors: &[Tensor]) -> Vec<Value> {
    let tensor = |tensor: &Tensor| {
        let Tensor { name, datatype, shape, data } = tensor;
        json!({ "name": name, "datatype": datatype.to_string(), "shape": shape, "data": hex::encode(data) })
    };
    tensors.iter().map(tensor).collect()
}
