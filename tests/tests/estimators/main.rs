//! Models as people train and export them (`tests/estimators`): what skl2onnx, onnxmltools and CatBoost write is packaged, and answers as
//! onnxruntime does, natively and in wasmtime, bit for bit the same in both. `docs/estimators.md` is what comes of it; with `UPDATE_DOCS=1`
//! the page is written instead of compared.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod cases;
mod page;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lockgate_tests::root;
use serde::Deserialize;
use serde_json::{Value, json};

use support::{Answered, Exchange, Outcome, in_json, in_wasmtime, names, report};

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
    let (passed, problems) = compare(&folder, &names(&folder));
    assert!(passed.len() >= 30, "only {} models in {}", passed.len(), folder.display());
    report(&problems);
}

#[test]
fn every_estimator_answers_as_onnxruntime_does() {
    let folder = folder();
    let names = names(&folder);
    assert!(names.len() > 700, "only {} models in {}", names.len(), folder.display());
    let (passed, mut problems) = compare(&folder, &names);
    let index: page::Index =
        serde_json::from_slice(&std::fs::read(folder.join("index.json")).unwrap()).unwrap();
    let engines = passed.iter().map(|(name, passed)| (name.clone(), passed.model.engine())).collect();
    let (summary, more) = page::check(&index, &engines, &exceptions().refused);
    println!("{summary}");
    problems.extend(more);
    let largest = passed.values().map(|passed| passed.largest).fold(0.0, f64::max);
    println!("the largest difference is {largest:.1e}");
    let models: Vec<_> = passed.into_iter().map(|(name, passed)| (name, passed.model)).collect();
    problems.extend(in_wasmtime(&models));
    leave_for_v8(&models);
    report(&problems);
}

fn exceptions() -> Exceptions {
    let path = root().join("tests/estimators/exceptions.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The models that answer as they should, and what is wrong with the others.
fn compare(folder: &Path, names: &[String]) -> (BTreeMap<String, cases::Passed>, Vec<String>) {
    let exceptions = exceptions();
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(names.len().max(1));
    let mut outcomes: Vec<(String, Outcome<cases::Passed>)> = std::thread::scope(|scope| {
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

/// What JavaScript is held to, in `target/tmp/estimators`.
fn leave_for_v8(models: &[(String, Answered)]) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("estimators");
    std::fs::remove_dir_all(&folder).ok();
    std::fs::create_dir_all(&folder).unwrap();
    for (name, model) in models {
        let exchange =
            |(inputs, outputs): &Exchange| json!({ "inputs": in_json(inputs), "outputs": in_json(outputs) });
        let exchanges: Vec<Value> = model.exchanges.iter().map(exchange).collect();
        std::fs::write(folder.join(format!("{name}.lgp")), &model.package).unwrap();
        std::fs::write(folder.join(format!("{name}.json")), Value::from(exchanges).to_string()).unwrap();
    }
}
