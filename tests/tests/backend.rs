//! The node tests of the `onnx` package and cases of our own with onnxruntime's answers (`tests/onnx`), through packaging: every case gives the
//! expected answers, or stands in a list under the reason why not. The core in wasmtime gives the native bits; what it gives is left for V8
//! (`tests/node/operators.test.mjs`).
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "the counts are worth seeing")]

mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use lockgate_inference::Model;
use lockgate_onnx::{Data, Kind};
use lockgate_package::{AlignedBytes, Digest, Engine, Tensor};
use lockgate_tests::root;
use serde::Deserialize;

use support::{Answered, CaseTensor, Exchange, Outcome, ask, in_json, in_wasmtime, names, report};

#[derive(Deserialize)]
struct Case {
    #[serde(default)]
    rtol: f64,
    #[serde(default)]
    atol: f64,
    /// In place of the two: what a difference may be of the larger of 1 and the expected number.
    tolerance: Option<f64>,
    sets: Vec<Set>,
}

#[derive(Deserialize)]
struct Set {
    inputs: Vec<CaseTensor>,
    outputs: Vec<Expected>,
}

#[derive(Deserialize)]
struct Expected {
    #[serde(flatten)]
    tensor: CaseTensor,
    /// Rows of labels that may be others, because two classes are as good.
    #[serde(default)]
    ties: Vec<usize>,
}

/// Why cases are refused, held to another tolerance, or answered otherwise, and which.
#[derive(Deserialize)]
struct Exception {
    reason: String,
    atol: Option<f64>,
    /// They are not refused: their answers are others than expected.
    #[serde(default)]
    differs: bool,
    /// Names, in which `*` stands for any text.
    cases: Vec<String>,
}

/// Where the cases of a set are.
fn folder(set: &str) -> PathBuf {
    let folder =
        std::env::var_os("LOCKGATE_ONNX_CASES").expect("`cargo xtask test` writes the cases and says where");
    Path::new(&folder).join(set)
}

#[test]
fn the_node_tests_of_onnx() {
    check("backend", "exceptions.json", 1_800);
}

#[test]
fn cases_of_our_own_with_answers_of_onnxruntime() {
    let engines = check("generated", "generated.json", 4_000);
    // The cases are there for both engines.
    assert!(engines.iter().all(|(_, count)| *count > 700), "{engines:?}");
}

/// Every case of a set; how many of them each engine took.
fn check(set: &str, exceptions: &str, least: usize) -> BTreeMap<&'static str, usize> {
    let exceptions = std::fs::read(root().join("tests/onnx").join(exceptions)).unwrap();
    let exceptions: Vec<Exception> = serde_json::from_slice(&exceptions).unwrap();
    let names = names(&folder(set));
    assert!(names.len() > least, "only {} cases in {}", names.len(), folder(set).display());
    let mut problems = Vec::new();
    let mut excepted: BTreeMap<&str, &Exception> = BTreeMap::new();
    for exception in &exceptions {
        for pattern in &exception.cases {
            let fits = |name: &&String| matches(pattern, name);
            let before = excepted.len();
            excepted.extend(names.iter().filter(fits).map(|name| (name.as_str(), exception)));
            if excepted.len() == before {
                problems.push(format!("{pattern}: is listed, and there is no such case"));
            }
        }
    }
    let mut passed = Vec::new();
    let mut engines = BTreeMap::new();
    let mut operators: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
    for name in &names {
        let exception = excepted.get(name.as_str());
        let refused = exception.filter(|exception| exception.atol.is_none() && !exception.differs);
        let differs = exception.filter(|exception| exception.differs);
        match run(set, name, exception.and_then(|exception| exception.atol)) {
            Outcome::Passed(..) if refused.is_some() || differs.is_some() => {
                let reason = exception.map(|exception| exception.reason.as_str()).unwrap_or_default();
                problems.push(format!("{name}: passes, and is listed: {reason}"));
            }
            Outcome::Passed(model) => {
                let engine = model.engine();
                *engines.entry(engine.name()).or_default() += 1;
                let operator = name.split('_').next().unwrap_or_default();
                operators.entry(operator).or_default()[usize::from(engine == Engine::Graph)] += 1;
                passed.push((name.clone(), model));
            }
            Outcome::Refused(_) if refused.is_some() => {}
            Outcome::Wrong(_) if differs.is_some() => {}
            Outcome::Refused(problem) | Outcome::Wrong(problem) => {
                problems.push(format!("{name}: {problem}"));
            }
        }
    }
    println!(
        "{set}: {} of {} cases pass, {} are listed; engines: {engines:?}",
        passed.len(),
        names.len(),
        excepted.len()
    );
    if set != "backend" {
        for (operator, [tabular, graph]) in operators {
            println!("    {operator}: {tabular} tabular, {graph} graph");
        }
    }
    problems.extend(in_wasmtime(&passed));
    leave_for_v8(set, &passed);
    report(&problems);
    engines
}

/// Whether a name is what a pattern with `*` says.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|left| {
            left.char_indices().map(|(at, _)| at).chain([left.len()]).any(|at| matches(rest, &left[at..]))
        }),
    }
}

/// A line for each case with its requests and the digests of the answers; the packages one behind the other in a file beside them.
fn leave_for_v8(set: &str, passed: &[(String, Answered)]) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("onnx");
    std::fs::create_dir_all(&folder).unwrap();
    let file = |ending: &str| {
        std::io::BufWriter::new(std::fs::File::create(folder.join(format!("{set}.{ending}"))).unwrap())
    };
    let (mut lines, mut packages) = (file("jsonl"), file("packages"));
    for (name, model) in passed {
        packages.write_all(&model.package).unwrap();
        let request = |(inputs, outputs): &Exchange| {
            let inputs = in_json(inputs);
            serde_json::json!({ "inputs": inputs, "answer": answer_digest(outputs) })
        };
        let requests: Vec<_> = model.exchanges.iter().map(request).collect();
        let line = serde_json::json!({ "name": name, "bytes": model.package.len(), "requests": requests });
        writeln!(lines, "{line}").unwrap();
    }
}

/// SHA-256 over a line for each output, as in `tests/node/conformance.mjs`.
fn answer_digest(outputs: &[Tensor]) -> String {
    let mut text = String::new();
    for Tensor { name, datatype, shape, data } in outputs {
        let shape: Vec<String> = shape.iter().map(i64::to_string).collect();
        writeln!(text, "{name} {datatype} {} {}", shape.join(","), hex::encode(data)).unwrap();
    }
    Digest::of(text.as_bytes()).to_string()
}

fn run(set: &str, name: &str, atol: Option<f64>) -> Outcome<Answered> {
    let folder = folder(set);
    let mut case: Case = support::read(&folder, name);
    if let Some(atol) = atol {
        (case.atol, case.tolerance) = (atol, None);
    }
    let package = match support::package(&folder, name) {
        Ok(package) => package,
        Err(error) => return Outcome::Refused(error.to_string()),
    };
    let exchanges: Result<Vec<_>, String> = Model::load(AlignedBytes::copy_of(&package))
        .map_err(|error| error.to_string())
        .and_then(|mut model| case.sets.iter().map(|set| answer(&mut model, set, &case)).collect());
    match exchanges {
        Ok(exchanges) => Outcome::Passed(Answered { package, exchanges }),
        // What an input switches on is known when the request comes.
        Err(problem) if problem.contains("not supported") => Outcome::Refused(problem),
        Err(problem) => Outcome::Wrong(problem),
    }
}

/// A request and its answer, which is the expected one.
fn answer(model: &mut Model, set: &Set, case: &Case) -> Result<Exchange, String> {
    let (inputs, outputs) = ask(model, &set.inputs)?;
    for Expected { tensor, ties } in &set.outputs {
        let expected = tensor.tensor()?;
        compare(support::output(&outputs, &expected)?, &expected, ties, case)?;
    }
    Ok((inputs, outputs))
}

fn compare(found: &Tensor, expected: &Tensor, ties: &[usize], case: &Case) -> Result<(), String> {
    let name = &expected.name;
    let doubles = |tensor: &Tensor| {
        let shape: Vec<usize> = tensor.shape.iter().map(|&len| usize::try_from(len).unwrap()).collect();
        lockgate_onnx::Tensor::from_bytes(tensor.datatype.kind(), shape, &tensor.data).unwrap().doubles()
    };
    match (doubles(found), doubles(expected)) {
        (Ok(found), Ok(expected)) => {
            for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let most = match case.tolerance {
                    Some(tolerance) => tolerance * expected.abs().max(1.0),
                    None => case.atol + case.rtol * expected.abs(),
                };
                let is_close = found == expected
                    || (found.is_nan() && expected.is_nan())
                    || (found - expected).abs() <= most
                    || ties.contains(&index);
                if !is_close {
                    return Err(format!("output `{name}`[{index}]: {found} instead of {expected}"));
                }
            }
            Ok(())
        }
        _ => {
            for (index, (found, expected)) in texts(found).iter().zip(texts(expected)).enumerate() {
                if *found != expected && !ties.contains(&index) {
                    return Err(format!("output `{name}`[{index}]: {found:?} instead of {expected:?}"));
                }
            }
            Ok(())
        }
    }
}

fn texts(tensor: &Tensor) -> Vec<String> {
    let shape: Vec<usize> = tensor.shape.iter().map(|&len| usize::try_from(len).unwrap()).collect();
    match lockgate_onnx::Tensor::from_bytes(Kind::Text, shape, &tensor.data).unwrap().into_data() {
        Data::Text(texts) => texts,
        other => unreachable!("{other:?} for texts"),
    }
}
