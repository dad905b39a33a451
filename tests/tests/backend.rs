//! The node tests of the `onnx` package and cases of our own with onnxruntime's answers (`tests/onnx`), through packaging: every case gives the
//! expected answers, or stands in a list under the reason why not. The core in wasmtime gives the native bits; what it gives is left for V8
//! (`tests/node/operators.test.mjs`).
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "the counts are worth seeing")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lockgate_core::CoreModules;
use lockgate_inference::Model;
use lockgate_onnx::{Data, Kind};
use lockgate_package::import::{ImportOptions, ManifestSource, import};
use lockgate_package::{AlignedBytes, Datatype, Digest, Engine, Package, Tensor};
use lockgate_runtime::{PredictRequest, Runtime};
use lockgate_tests::{core_dir, root};
use serde::Deserialize;

/// More than a request is usually given time for: what is measured elsewhere is not measured here.
const PATIENCE: Duration = Duration::from_secs(60);

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

/// What became of a case.
enum Outcome {
    /// It passes; its package, and its requests with their answers.
    Passed(Vec<u8>, Vec<(Vec<Tensor>, Vec<Tensor>)>),
    Refused(String),
    Wrong(String),
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
    let names = names(set);
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
            Outcome::Passed(package, answers) => {
                let engine = Package::open(AlignedBytes::copy_of(&package)).unwrap().manifest().engine;
                *engines.entry(engine.name()).or_default() += 1;
                let operator = name.split('_').next().unwrap_or_default();
                operators.entry(operator).or_default()[usize::from(engine == Engine::Graph)] += 1;
                passed.push((name, package, answers));
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
    in_wasmtime(&passed, &mut problems);
    leave_for_v8(set, &passed);
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
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

/// A case that passed: its name, its package, and its requests with their answers.
type Passed<'a> = (&'a String, Vec<u8>, Vec<(Vec<Tensor>, Vec<Tensor>)>);

/// The same in the sandbox, some packages at a time.
fn in_wasmtime(passed: &[Passed<'_>], problems: &mut Vec<String>) {
    let runtime = Runtime::builder(CoreModules::from_dir(&core_dir()).unwrap()).build().unwrap();
    for cases in passed.chunks(64) {
        // Some cases have equal models.
        let packages: BTreeMap<_, _> =
            cases.iter().map(|(_, package, _)| (digest(package), package.clone())).collect();
        runtime.install(None, packages.into_values().collect()).unwrap();
        for (name, package, answers) in cases {
            for (inputs, expected) in answers {
                let request = PredictRequest {
                    contributions: Default::default(),
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
}

/// A line for each case with its requests and the digests of the answers; the packages one behind the other in a file beside them.
fn leave_for_v8(set: &str, passed: &[Passed<'_>]) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("onnx");
    std::fs::create_dir_all(&folder).unwrap();
    let file = |ending: &str| {
        std::io::BufWriter::new(std::fs::File::create(folder.join(format!("{set}.{ending}"))).unwrap())
    };
    let (mut lines, mut packages) = (file("jsonl"), file("packages"));
    for (name, package, answers) in passed {
        packages.write_all(package).unwrap();
        let written = |tensor: &Tensor| {
            let Tensor { name, datatype, shape, data } = tensor;
            serde_json::json!({ "name": name, "datatype": datatype, "shape": shape, "data": hex::encode(data) })
        };
        let requests: Vec<_> = answers
            .iter()
            .map(|(inputs, outputs)| {
                let inputs: Vec<_> = inputs.iter().map(written).collect();
                serde_json::json!({ "inputs": inputs, "answer": answer_digest(outputs) })
            })
            .collect();
        let line = serde_json::json!({ "name": name, "bytes": package.len(), "requests": requests });
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

fn digest(package: &[u8]) -> Digest {
    Package::open(AlignedBytes::copy_of(package)).unwrap().digest()
}

/// The names of all cases.
fn names(set: &str) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder(set))
        .unwrap()
        .filter_map(|entry| {
            let path = entry.unwrap().path();
            let is_model = path.extension().is_some_and(|extension| extension == "onnx");
            is_model.then(|| path.file_stem().unwrap().to_str().unwrap().to_owned())
        })
        .collect();
    names.sort();
    names
}

fn run(set: &str, name: &str, atol: Option<f64>) -> Outcome {
    let text = std::fs::read(folder(set).join(format!("{name}.json"))).unwrap();
    let mut case: Case = serde_json::from_slice(&text).unwrap();
    if let Some(atol) = atol {
        (case.atol, case.tolerance) = (atol, None);
    }
    let onnx = std::fs::read(folder(set).join(format!("{name}.onnx"))).unwrap();
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
        let ties = expected.ties.as_slice();
        let expected = tensor(expected)?;
        let found = outputs.iter().find(|output| output.name == expected.name);
        let found = found.ok_or_else(|| format!("there is no output `{}`", expected.name))?;
        compare(found, &expected, ties, case)?;
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

fn compare(found: &Tensor, expected: &Tensor, ties: &[usize], case: &Case) -> Result<(), String> {
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
