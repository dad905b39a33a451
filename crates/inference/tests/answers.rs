//! What stands beside a model, against scikit-learn's answers: scalers, calibrations, thresholds, labels, confidence.

#![expect(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests read cases from files, and fail where they cannot"
)]

mod support;

use std::collections::BTreeSet;
use std::path::Path;

use lockgate_inference::Model;
use lockgate_package::import::{ImportOptions, ManifestSource, MockSource, import, mock};
use lockgate_package::{AlignedBytes, Datatype, Engine, Tensor};
use serde_json::Value;

use support::{is_close, numbers, tensors};

/// What is computed beside a model rounds once; a network in single precision has roundings of its own, and double precision keeps
/// its digits.
fn tolerance(case: &Value, datatype: Datatype) -> f64 {
    let is_plain =
        ["single.onnx", "pair.onnx", "three.onnx", "four.onnx"].contains(&case["model"].as_str().unwrap());
    match datatype {
        Datatype::Fp64 => 1e-12,
        _ if is_plain => 1e-7,
        _ => 1e-5,
    }
}

#[test]
fn answers_are_those_of_scikit_learn() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/answers");
    let mut engines = BTreeSet::new();
    let mut differences = Vec::new();
    let mut compared = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap();
        let case: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let onnx = std::fs::read(folder.join(case["model"].as_str().unwrap())).unwrap();
        let source: ManifestSource = serde_json::from_value(case["manifest"].clone()).unwrap();
        let options = ImportOptions {
            model: Some(name.to_owned()),
            version: Some("1.0.0".to_owned()),
            ..Default::default()
        };
        let bytes = import(&onnx, &source, &options).unwrap_or_else(|error| panic!("{name}: {error}"));
        let file = case["model"].as_str().unwrap();
        let needs_graph = ["sequence", "written_out"].iter().any(|part| file.contains(part));
        let mut model = match Model::load(AlignedBytes::copy_of(&bytes)) {
            Ok(model) => model,
            // The flavour without the graph engine.
            Err(_) if !cfg!(feature = "graph") && needs_graph => continue,
            Err(error) => panic!("{name}: {error}"),
        };
        let engine = model.manifest().engine;
        assert_eq!(engine == Engine::Graph, needs_graph, "{name}");
        engines.insert(engine.name());
        let inputs = tensors(&case["inputs"]);
        let views: Vec<_> = inputs.iter().map(Tensor::view).collect();
        let found = model.predict(&views).unwrap_or_else(|error| panic!("{name}: {error}")).outputs;
        let expected = tensors(&case["outputs"]);
        let form = |tensors: &[Tensor]| -> Vec<_> {
            tensors
                .iter()
                .map(|tensor| (tensor.name.clone(), tensor.datatype, tensor.shape.clone()))
                .collect()
        };
        assert_eq!(form(&found), form(&expected), "{name}");
        for (found, expected) in found.iter().zip(&expected) {
            match (numbers(found), numbers(expected)) {
                (Some(found_numbers), Some(numbers)) => {
                    let tolerance = tolerance(&case, expected.datatype);
                    for (at, (a, b)) in found_numbers.into_iter().zip(numbers).enumerate() {
                        if !is_close(a, b, tolerance) {
                            differences.push(format!("{name}: `{}`[{at}] is {a}, expected {b}", found.name));
                        }
                    }
                }
                _ if found.data == expected.data => {}
                _ => differences.push(format!(
                    "{name}: `{}` is {:?}, expected {:?}",
                    found.name,
                    String::from_utf8_lossy(&found.data),
                    String::from_utf8_lossy(&expected.data)
                )),
            }
        }
        compared += 1;
    }
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
    assert!(compared >= 40, "only {compared} cases were compared");
    assert!(engines.contains("tabular"));
}

#[test]
fn mocks_give_every_row_the_same_answer() {
    let predict = |signature: &str, manifest: &str, inputs: &[Tensor]| {
        let signature: MockSource = serde_json::from_str(signature).unwrap();
        let manifest: ManifestSource = serde_json::from_str(manifest).unwrap();
        let options = ImportOptions {
            model: Some("m".to_owned()),
            version: Some("1.0.0".to_owned()),
            ..Default::default()
        };
        let bytes = mock(&signature, &manifest, &options).unwrap_or_else(|error| panic!("{error}"));
        let mut model = Model::load(AlignedBytes::copy_of(&bytes)).unwrap();
        model.predict(&inputs.iter().map(Tensor::view).collect::<Vec<_>>()).unwrap().outputs
    };
    let rows = [f32::INFINITY, -3.0, 0.0, 7.0, f32::NAN, 1e30];
    let tabular = predict(
        r#"{"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
            "outputs": [{"name": "label", "datatype": "BYTES", "shape": [-1]}, {"name": "p", "datatype": "FP32", "shape": [-1, 2]},
                        {"name": "n", "datatype": "INT32", "shape": [-1, 1], "value": -7}, {"name": "b", "datatype": "BOOL", "shape": [-1], "value": true},
                        {"name": "s", "datatype": "FP64", "shape": [-1, 2], "value": [0.1, 0.9]}]}"#,
        r#"{"labels": ["no", "yes"], "accepts_missing": true}"#,
        &[Tensor::fp32("x", vec![3, 2], &rows)],
    );
    assert_eq!(tabular[0].to_byte_strings().unwrap(), vec![b"no".to_vec(); 3]);
    assert_eq!(tabular[1].to_fp32().unwrap(), [0.5; 6]);
    assert_eq!(tabular[2].data, [-7_i32; 3].map(i32::to_le_bytes).concat());
    assert_eq!((tabular[3].shape.as_slice(), tabular[3].data.as_slice()), (&[3][..], &[1, 1, 1][..]));
    assert_eq!(numbers(&tabular[4]).unwrap(), [0.1, 0.9, 0.1, 0.9, 0.1, 0.9]);
    if cfg!(feature = "graph") {
        let graph = predict(
            r#"{"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3, 1]}],
                "outputs": [{"name": "text", "datatype": "BYTES", "shape": [-1, 2], "value": ["a", "bc"]},
                            {"name": "y", "datatype": "FP32", "shape": [-1, 1, 2], "value": [1.5, -2]}]}"#,
            "{}",
            &[Tensor::fp32("x", vec![2, 3, 1], &[0.0; 6])],
        );
        assert_eq!(
            graph[0].to_byte_strings().unwrap(),
            [b"a".to_vec(), b"bc".to_vec(), b"a".to_vec(), b"bc".to_vec()]
        );
        assert_eq!(
            (graph[1].shape.as_slice(), graph[1].to_fp32().unwrap()),
            (&[2, 1, 2][..], vec![1.5, -2.0, 1.5, -2.0])
        );
    }
}
