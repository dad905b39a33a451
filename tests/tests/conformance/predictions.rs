//! Predictions: native and in wasmtime against onnxruntime, and against each other. What JavaScript's runtimes need to be held
//! to wasmtime's answers bit for bit is left in `target/tmp/predictions`.

use std::path::Path;
use std::time::Duration;

use lockgate_core::CoreModules;
use lockgate_inference::Model;
use lockgate_package::{AlignedBytes, Package, Tensor};
use lockgate_runtime::{PredictRequest, Runtime};
use lockgate_tests::core_dir;
use serde_json::{Value, json};

use crate::answers::Answers;
use crate::example;
use crate::record::{self, Runner};
use crate::vectors::{self, Comparison, Vector};

/// A batch of 500 sequences is more than a request is usually given time for.
const PATIENCE: Duration = Duration::from_secs(120);

fn native(package: &[u8], inputs: &[Tensor]) -> Vec<Tensor> {
    let mut model = Model::load(AlignedBytes::copy_of(package)).unwrap();
    let inputs: Vec<_> = inputs.iter().map(Tensor::view).collect();
    model.predict(&inputs).unwrap_or_else(|error| panic!("{error}")).outputs
}

#[test]
fn native_agrees_with_onnxruntime() {
    let mut comparison = Comparison::default();
    for vector in vectors::all().iter().chain(&example::vectors()) {
        vector.compare(&native(&vector.package, &vector.inputs), &mut comparison);
    }
    recorded(Runner::Native, &comparison, &[]);
}

#[test]
fn the_core_in_wasmtime_agrees_with_onnxruntime() {
    let runtime = Runtime::builder(CoreModules::from_dir(&core_dir()).unwrap()).build().unwrap();
    let (vectors, example) = (vectors::all(), example::vectors());
    let packages = vectors.iter().chain(&example).map(|vector| vector.package.clone()).collect();
    runtime.install(None, packages).unwrap();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("predictions");
    // Vectors of an earlier run would pass for this one's.
    std::fs::remove_dir_all(&folder).ok();
    std::fs::create_dir_all(&folder).unwrap();
    let (mut comparison, mut answers) = (Comparison::default(), Answers::default());
    for vector in &vectors {
        let answer = predict(&runtime, vector);
        answers.add(&vector.name, &answer);
        let record = json!({ "inputs": in_json(&vector.inputs), "outputs": in_json(&answer) });
        std::fs::write(folder.join(format!("{}.lgp", vector.name)), &vector.package).unwrap();
        std::fs::write(folder.join(format!("{}.json", vector.name)), record.to_string()).unwrap();
        vector.compare(&answer, &mut comparison);
    }
    for vector in &example {
        let answer = predict(&runtime, vector);
        answers.add(&vector.name, &answer);
        vector.compare(&answer, &mut comparison);
    }
    recorded(Runner::Wasmtime, &comparison, &[("digest", json!(answers.digest()))]);
}

fn recorded(runner: Runner, comparison: &Comparison, more: &[(&str, Value)]) {
    let Comparison { rows, largest, differences } = comparison;
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
    let more = [&[("max_difference", json!(largest))], more].concat();
    record::passed(runner, "predictions", *rows, &more);
}

/// Tensors with every bit of their data.
fn in_json(tensors: &[Tensor]) -> Vec<Value> {
    let tensor = |tensor: &Tensor| {
        let Tensor { name, datatype, shape, data } = tensor;
        json!({ "name": name, "datatype": datatype.to_string(), "shape": shape, "data": hex::encode(data) })
    };
    tensors.iter().map(tensor).collect()
}

fn predict(runtime: &Runtime, vector: &Vector) -> Vec<Tensor> {
    let package = Package::open(AlignedBytes::copy_of(&vector.package)).unwrap().digest();
    let inputs = vector.inputs.clone();
    runtime
        .predict(PredictRequest {
            contributions: Default::default(),
            package,
            inputs,
            deadline: Some(PATIENCE),
        })
        .unwrap()
        .outputs
}

/// A row's answer must not depend on the rows beside it.
#[test]
fn rows_are_independent_of_their_batch() {
    for vector in vectors::all() {
        let whole = native(&vector.package, &vector.inputs);
        let rows = vector.inputs[0].shape[0];
        for row in [0, rows / 2, rows - 1] {
            let alone: Vec<_> = vector.inputs.iter().map(|input| row_of(input, row)).collect();
            for (alone, whole) in native(&vector.package, &alone).iter().zip(&whole) {
                assert_eq!(alone, &row_of(whole, row), "{} row {row}", vector.name);
            }
        }
    }
}

fn row_of(tensor: &Tensor, row: i64) -> Tensor {
    let mut shape = tensor.shape.clone();
    let rows = std::mem::replace(&mut shape[0], 1);
    let data = match tensor.to_byte_strings() {
        Some(elements) => {
            let width = elements.len() / rows as usize;
            let wanted = elements.into_iter().skip(row as usize * width).take(width);
            wanted.flat_map(|text| [&(text.len() as u32).to_le_bytes()[..], &text].concat()).collect()
        }
        None => {
            let width = tensor.data.len() / rows as usize;
            tensor.data[row as usize * width..][..width].to_vec()
        }
    };
    Tensor { name: tensor.name.clone(), datatype: tensor.datatype, shape, data }
}
