//! `examples/eurusd`: its packages and bundle, made as `lockgate package` and `lockgate policy compile` make them, and 500 rows of
//! real prices beside what onnxruntime answered for each model.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;

use lockgate_package::import::{ImportOptions, ManifestSource, import};
use lockgate_package::{AlignedBytes, Datatype, Package, Tensor};
use lockgate_policy::{CompileOptions, PackageRef, check, compile, parse, read};
use lockgate_tests::root;
use serde_json::Value;

use crate::vectors::Vector;

/// The columns of a row that are features.
const WIDTH: usize = 17;
const STEPS: usize = 20;

/// The example's packages by their models' names.
pub(crate) fn packages() -> &'static BTreeMap<String, Vec<u8>> {
    static MADE: OnceLock<BTreeMap<String, Vec<u8>>> = OnceLock::new();
    MADE.get_or_init(|| {
        let files = std::fs::read_dir(folder().join("models")).unwrap().map(|entry| entry.unwrap().path());
        let models = files.filter(|path| path.extension().is_some_and(|extension| extension == "onnx"));
        models
            .map(|path| {
                let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
                let manifest = path.with_extension("manifest.yaml");
                let text = std::fs::read_to_string(&manifest).unwrap();
                let json = read("manifest.yaml", &text).unwrap().to_json().unwrap();
                let source: ManifestSource = serde_json::from_str(&json).unwrap();
                let onnx = std::fs::read(&path).unwrap();
                let package = import(&onnx, &source, &ImportOptions::default());
                (name.clone(), package.unwrap_or_else(|error| panic!("{name}: {error}")))
            })
            .collect()
    })
}

/// The example's policy, or another over the same packages.
pub(crate) fn bundle(policy: Option<&str>) -> Vec<u8> {
    let packages: Vec<_> = packages().values().map(|bytes| open(bytes)).collect();
    let refs: Vec<_> =
        packages.iter().map(|package| PackageRef::new(package.manifest(), package.digest())).collect();
    let text =
        policy.map_or_else(|| std::fs::read_to_string(folder().join("policy.yaml")).unwrap(), str::to_owned);
    let source = parse("policy.yaml", &text).unwrap_or_else(|errors| panic!("{errors}"));
    let policy = check(&source).unwrap_or_else(|errors| panic!("{errors}"));
    let options = CompileOptions { packages: &refs, ..CompileOptions::default() };
    compile(&policy, &options).unwrap_or_else(|errors| panic!("{errors}")).bundle
}

/// The held-out rows for each model.
pub(crate) fn vectors() -> Vec<Vector> {
    packages().iter().map(|(name, package)| vector(name, package)).collect()
}

fn vector(name: &str, package: &[u8]) -> Vector {
    let rows = table("rows.csv");
    let columns = |rows: &[Vec<String>], title: &str| -> Vec<usize> {
        let titles = rows[0].iter().enumerate();
        titles.filter(|(_, found)| found.starts_with(title)).map(|(column, _)| column).collect()
    };
    let features = columns(&rows, "return_lag_");
    assert_eq!(features.len(), WIDTH);
    let held_out = rows.iter().position(|row| row[1] == "held_out").unwrap();
    let count = rows.len() - held_out;
    let opened = open(package);
    let signature = &opened.manifest().signature;
    let steps = if signature.inputs[0].shape.len() == 3 { STEPS } else { 1 };
    // Sequence i ends with held-out row i.
    let values: Vec<f32> = (held_out..rows.len())
        .flat_map(|row| &rows[row + 1 - steps..=row])
        .flat_map(|row| features.iter().map(|column| row[*column].parse().unwrap()))
        .collect();
    let shape = |shape: &[i64]| -> Vec<i64> {
        shape.iter().map(|size| if *size == -1 { count as i64 } else { *size }).collect()
    };
    let input = &signature.inputs[0];
    let shape_of_input =
        if steps == 1 { vec![-1, WIDTH as i64] } else { vec![-1, STEPS as i64, WIDTH as i64] };

    let answers = table(&format!("answers/{name}.csv"));
    assert_eq!(answers.len(), count + 1);
    let scores = columns(&answers, "probability_");
    let expected = signature
        .outputs
        .iter()
        .map(|output| {
            let columns = match output.datatype {
                Datatype::Int64 => columns(&answers, "label"),
                _ if scores.is_empty() => columns(&answers, "value"),
                _ => scores.clone(),
            };
            let cells = answers[1..].iter().flat_map(|row| columns.iter().map(|column| &row[*column]));
            let data = match output.datatype {
                Datatype::Int64 => {
                    cells.flat_map(|cell| cell.parse::<i64>().unwrap().to_le_bytes()).collect()
                }
                Datatype::Fp32 => cells.flat_map(|cell| cell.parse::<f32>().unwrap().to_le_bytes()).collect(),
                other => panic!("{name} answers in {other}"),
            };
            let shape = shape(&output.shape);
            Tensor { name: output.name.clone(), datatype: output.datatype, shape, data }
        })
        .collect();
    Vector {
        name: name.to_owned(),
        package: package.to_vec(),
        inputs: vec![Tensor::fp32(&input.name, shape(&shape_of_input), &values)],
        expected,
        classes: vec![Value::Null; scores.len()],
    }
}

fn open(package: &[u8]) -> Package {
    Package::open(AlignedBytes::copy_of(package)).unwrap()
}

fn folder() -> PathBuf {
    root().join("examples/eurusd")
}

/// The cells of a table, titles first.
fn table(file: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(folder().join("data").join(file)).unwrap();
    text.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect()
}
