//! The tabular engine against onnxruntime's recorded answers, and what a model says to requests that do not fit.

#![expect(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests read models and answers from files, and fail where they cannot"
)]

mod support;

use std::path::{Path, PathBuf};

use lockgate_inference::{LoadError, Model, OutOfRange, PredictError, Prediction, WARNING_LIMIT};
use lockgate_package::import::{ImportOptions, ManifestSource, import};
use lockgate_package::{AlignedBytes, Datatype, Engine, Package, Tensor};
use serde_json::Value;

use support::{is_close, numbers, tensors};

/// How far a number may be from onnxruntime's, relative to numbers above one.
const TOLERANCE: f64 = 1e-5;

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models")
}

fn package(name: &str, source: &str) -> Vec<u8> {
    let onnx = std::fs::read(models().join(format!("{name}.onnx"))).unwrap();
    let source: ManifestSource = serde_json::from_str(source).unwrap();
    let options = ImportOptions {
        model: Some(name.to_owned()),
        version: Some("1.0.0".to_owned()),
        ..Default::default()
    };
    import(&onnx, &source, &options).unwrap()
}

fn load(name: &str, source: &str) -> Model {
    Model::load(AlignedBytes::copy_of(&package(name, source))).unwrap()
}

fn predict(model: &mut Model, inputs: &[Tensor]) -> Result<Prediction, PredictError> {
    model.predict(&inputs.iter().map(Tensor::view).collect::<Vec<_>>())
}

fn compare(name: &str, found: &[Tensor], want: &[Tensor]) {
    assert_eq!(found.len(), want.len(), "{name}");
    for want in want {
        let found = found
            .iter()
            .find(|found| found.name == want.name)
            .unwrap_or_else(|| panic!("{name}: {}", want.name));
        assert_eq!((found.datatype, &found.shape), (want.datatype, &want.shape), "{name}: {}", want.name);
        match (numbers(found), numbers(want)) {
            (Some(found), Some(numbers)) => {
                for (index, (&found, &wanted)) in found.iter().zip(&numbers).enumerate() {
                    assert!(
                        is_close(found, wanted, TOLERANCE),
                        "{name}: {}[{index}] is {found}, expected {wanted}",
                        want.name
                    );
                }
            }
            _ => assert_eq!(found.data, want.data, "{name}: {}", want.name),
        }
    }
}

#[test]
fn models_answer_as_onnxruntime_does() {
    let mut compared = 0;
    for entry in std::fs::read_dir(models()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let bytes = package(&name, "{}");
        if Package::open(AlignedBytes::copy_of(&bytes)).unwrap().manifest().engine != Engine::Tabular {
            continue;
        }
        let case: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let inputs = tensors(&case["inputs"]);
        let mut model = Model::load(AlignedBytes::copy_of(&bytes)).unwrap();
        let together = predict(&mut model, &inputs).unwrap_or_else(|error| panic!("{name}: {error}"));
        compare(&name, &together.outputs, &tensors(&case["outputs"]));
        // Any batch gives the same bits.
        let rows = usize::try_from(inputs[0].shape[0]).unwrap();
        let mut apart: Vec<Vec<u8>> = vec![Vec::new(); together.outputs.len()];
        for row in 0..rows {
            let one = |tensor: &Tensor| {
                let size = tensor.data.len() / rows;
                let mut shape = tensor.shape.clone();
                shape[0] = 1;
                Tensor { shape, data: tensor.data[row * size..(row + 1) * size].to_vec(), ..tensor.clone() }
            };
            let alone = predict(&mut model, &inputs.iter().map(one).collect::<Vec<_>>()).unwrap();
            apart
                .iter_mut()
                .zip(&alone.outputs)
                .for_each(|(data, output)| data.extend_from_slice(&output.data));
        }
        for (apart, together) in apart.iter().zip(&together.outputs) {
            assert!(*apart == together.data, "{name}: `{}` depends on the batch", together.name);
        }
        compared += 1;
    }
    assert!(compared >= 40, "only {compared} models were compared");
}

fn row(values: &[f32]) -> Tensor {
    Tensor::fp32("input", vec![1, 5], values)
}

#[test]
fn requests_that_do_not_fit_are_refused() {
    let mut model = load("lr_binary", "{}");
    let mut check = |inputs: &[Tensor], want: &str| {
        let error = predict(&mut model, inputs).unwrap_err();
        assert!(matches!(error, PredictError::InvalidInput { .. }), "{error:?}");
        assert_eq!(error.to_string(), want);
    };
    let good = row(&[0.0; 5]);
    check(&[], "input `input` is missing; expected FP32 [-1, 5], the request has none");
    check(
        &[Tensor { name: "inputs".to_owned(), ..good.clone() }],
        "input `input` is missing; expected FP32 [-1, 5], the request has `inputs`",
    );
    check(&[good.clone(), good.clone()], "input `input` is given twice");
    check(
        &[good.clone(), Tensor { name: "more".to_owned(), ..good.clone() }],
        "the model has no input `more`; its inputs are `input`",
    );
    check(
        &[Tensor { datatype: Datatype::Fp64, ..good.clone() }],
        "input `input`: expected datatype FP32, found FP64",
    );
    check(
        &[Tensor { shape: vec![1, 4], ..good.clone() }],
        "input `input`: expected shape [-1, 5] (-1 is free), found [1, 4]",
    );
    check(
        &[Tensor { shape: vec![5], ..good.clone() }],
        "input `input`: expected shape [-1, 5] (-1 is free), found [5]",
    );
    check(
        &[Tensor { shape: vec![-1, 5], ..good.clone() }],
        "input `input`: shape [-1, 5] has a negative dimension or is too large",
    );
    check(
        &[Tensor { shape: vec![2, 5], ..good }],
        "input `input`: shape [2, 5] asks for 10 elements of FP32, found 20 bytes",
    );
    let empty = predict(&mut model, &[Tensor::fp32("input", vec![0, 5], &[])]).unwrap();
    assert_eq!(empty.outputs[0].shape, [0]);
    assert_eq!(empty.outputs[1].shape, [0, 2]);
}

#[test]
fn too_many_rows_are_refused() {
    let rows = (1 << 20) + 1;
    let error = predict(
        &mut load("lr_binary", "{}"),
        &[Tensor::fp32("input", vec![rows, 5], &vec![0.0; rows as usize * 5])],
    );
    let error = error.unwrap_err();
    assert!(matches!(error, PredictError::LimitExceeded { .. }));
    assert_eq!(error.to_string(), "the request has 1048577 rows, one request may have 1048576");
}

#[test]
fn missing_values_pass_only_to_models_that_accept_them() {
    let nan = Tensor::fp32("input", vec![2, 5], &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, f32::NAN, 0.0, 0.0]);
    let error = predict(
        &mut load("lr_binary", r#"{"features": ["a", "b", "c", "d", "e"]}"#),
        std::slice::from_ref(&nan),
    )
    .unwrap_err();
    assert!(matches!(error, PredictError::MissingValue { .. }));
    assert_eq!(
        error.to_string(),
        "input `input`: row 1, feature 2 (`c`) is NaN, and the model does not accept missing values"
    );
    let forced =
        predict(&mut load("lr_binary", r#"{"accepts_missing": true}"#), std::slice::from_ref(&nan)).unwrap();
    let scores = forced.outputs[1].to_fp32().unwrap();
    assert_eq!(scores[2].to_bits(), 0x7fc0_0000, "NaN leaves in one form");
    let mut trees = load("histogram_binary", "{}");
    assert!(trees.manifest().accepts_missing);
    predict(&mut trees, &[nan]).unwrap();
    predict(&mut load("lr_binary", "{}"), &[row(&[f32::INFINITY, 0.0, 0.0, 0.0, f32::NEG_INFINITY])])
        .unwrap();
}

#[test]
fn features_out_of_their_range_are_reported() {
    let source = r#"{"features": [{"name": "a", "min": -1, "max": 1}, "b", {"name": "c", "max": 2}, "d", {"name": "e", "min": 0}]}"#;
    let mut model = load("lr_binary", source);
    let inputs = [Tensor::fp32("input", vec![2, 5], &[1.0, 9.0, 2.0, 9.0, 0.0, 1.5, 9.0, 2.5, 9.0, -0.5])];
    let found = predict(&mut model, &inputs).unwrap().out_of_range;
    let want = [(1, 0, 1.5), (1, 2, 2.5), (1, 4, -0.5)];
    assert_eq!(found, want.map(|(row, feature, value)| OutOfRange { row, feature, value }));
    let many = [Tensor::fp32("input", vec![600, 5], &[7.0; 3000])];
    assert_eq!(predict(&mut model, &many).unwrap().out_of_range.len(), WARNING_LIMIT);

    let names = |index: usize| format!("feature_{index}");
    let mut columns = load("lr_columns", source);
    let inputs: Vec<Tensor> =
        (0..5).rev().map(|index| Tensor::fp32(names(index), vec![1, 1], &[-3.0])).collect();
    let found = predict(&mut columns, &inputs).unwrap().out_of_range;
    assert_eq!(found.iter().map(|found| found.feature).collect::<Vec<_>>(), [0, 4]);
}

#[test]
fn damaged_and_foreign_packages_are_refused() {
    let good = package("forest_binary", "{}");
    for at in (0..good.len()).step_by(61) {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        assert!(Model::load(AlignedBytes::copy_of(&bad)).is_err(), "byte {at}");
    }
    let error = Model::load(AlignedBytes::copy_of(b"no package")).unwrap_err();
    assert_eq!(error.to_string(), "not a Lockgate model package: the first bytes are not `LOCKGATE`");
    assert!(matches!(error, LoadError::Package(_)));
}

#[cfg(not(feature = "graph"))]
#[test]
fn a_graph_model_needs_the_graph_flavour() {
    let error = Model::load(AlignedBytes::copy_of(&package("gru_forward", "{}"))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the package of gru_forward@1.0.0 needs the `graph` engine, which this flavour of the inference module lacks"
    );
}
