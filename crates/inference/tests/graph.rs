//! Models in the forms that exporters write, against onnxruntime's recorded answers (`tests/data/graph`).
#![cfg(feature = "graph")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "tests read files")]

use lockgate_inference::{Model, OutOfRange, PredictError, RequestLimits};
use lockgate_package::import::{FeatureSource, ImportLimits, ImportOptions, ManifestSource, import};
use lockgate_package::{
    AlignedBytes, Datatype, Engine, Envelope, EnvelopeBuilder, Feature, Kind, Package, Tensor,
};
use serde_json::Value;

fn onnx(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/data/graph/{name}.onnx", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn package(name: &str) -> Vec<u8> {
    let options = ImportOptions {
        model: Some(name.to_owned()),
        version: Some("1.0.0".to_owned()),
        ..ImportOptions::default()
    };
    import(&onnx(name), &ManifestSource::default(), &options)
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn model(name: &str) -> Model {
    Model::load(AlignedBytes::copy_of(&package(name))).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn tensors(values: &Value) -> Vec<Tensor> {
    let tensor = |(name, tensor): (&String, &Value)| {
        let numbers = tensor["data"].as_array().unwrap().iter();
        let (datatype, data) = match tensor["datatype"].as_str().unwrap() {
            "FP32" => {
                (Datatype::Fp32, numbers.flat_map(|n| (n.as_f64().unwrap() as f32).to_le_bytes()).collect())
            }
            "INT64" => (Datatype::Int64, numbers.flat_map(|n| n.as_i64().unwrap().to_le_bytes()).collect()),
            other => panic!("unexpected {other}"),
        };
        let shape = tensor["shape"].as_array().unwrap().iter().map(|n| n.as_i64().unwrap()).collect();
        Tensor { name: name.clone(), datatype, shape, data }
    };
    values.as_object().unwrap().iter().map(tensor).collect()
}

fn predict(model: &mut Model, inputs: &[Tensor]) -> Result<Vec<Tensor>, PredictError> {
    let views: Vec<_> = inputs.iter().map(Tensor::view).collect();
    model.predict(&views).map(|prediction| prediction.outputs)
}

/// Packages, loads and runs a model on every recorded request.
#[track_caller]
fn check(name: &str, answers: &str) {
    let mut model = model(name);
    assert_eq!(model.manifest().engine, Engine::Graph, "{name}");
    let folder = format!("{}/tests/data/graph", env!("CARGO_MANIFEST_DIR"));
    let cases: Vec<Value> =
        serde_json::from_slice(&std::fs::read(format!("{folder}/{answers}.json")).unwrap()).unwrap();
    assert!(!cases.is_empty());
    for case in &cases {
        let results =
            predict(&mut model, &tensors(&case["inputs"])).unwrap_or_else(|error| panic!("{name}: {error}"));
        let expected = tensors(&case["outputs"]);
        assert_eq!(results.len(), expected.len(), "{name}");
        for (have, want) in results.iter().zip(&expected) {
            let form = |tensor: &Tensor| (tensor.name.clone(), tensor.datatype, tensor.shape.clone());
            assert_eq!(form(have), form(want), "{name}");
            if have.datatype == Datatype::Int64 {
                assert_eq!(have.to_int64(), want.to_int64(), "{name}: {}", have.name);
                continue;
            }
            for (at, (a, b)) in have.to_fp32().unwrap().iter().zip(want.to_fp32().unwrap()).enumerate() {
                let is_close = (a - b).abs() <= 1e-5 * b.abs().max(1.0);
                assert!(is_close, "{name}: {}[{at}] is {a}, onnxruntime says {b}", have.name);
            }
        }
    }
}

#[test]
fn recurrent_networks_in_every_exporters_form() {
    check("lstm_time_major", "lstm_time_major");
    check("lstm_opset9", "lstm_opset9");
    check("lstm_batch_first", "lstm_time_major");
    check("lstm_torch", "lstm_torch");
    check("lstm_keras", "lstm_keras");
    check("lstm_states", "lstm_states");
    check("lstm_free_length", "lstm_free_length");
    check("gru", "gru");
}

#[test]
fn convolutions_attention_and_functions() {
    check("cnn", "cnn");
    check("functions", "functions");
    check("attention", "attention");
    check("old", "old");
    check("fixed_batch", "fixed_batch");
}

fn specs(name: &str) -> Vec<String> {
    let bytes = AlignedBytes::copy_of(&package(name));
    let signature = Package::open(bytes).unwrap().manifest().signature.clone();
    let specs = signature.inputs.iter().chain(&signature.outputs);
    specs.map(|spec| format!("{} {} {:?}", spec.name, spec.datatype, spec.shape)).collect()
}

#[test]
fn the_signature_says_which_dimensions_are_free() {
    assert_eq!(specs("lstm_torch"), ["x FP32 [-1, 6, 4]", "scores FP32 [-1, 3]"]);
    assert_eq!(specs("lstm_free_length"), ["x FP32 [-1, -1, 4]", "scores FP32 [-1, 3]"]);
    assert_eq!(specs("fixed_batch"), ["x FP32 [1, 6, 4]", "scores FP32 [1, 3]"]);
    assert_eq!(
        specs("lstm_states"),
        [
            "x FP32 [-1, 6, 4]",
            "h0 FP32 [2, -1, 3]",
            "c0 FP32 [2, -1, 3]",
            "sequence FP32 [-1, 6, 6]",
            "hn FP32 [2, -1, 3]",
            "cn FP32 [2, -1, 3]"
        ]
    );
}

#[test]
fn packages_are_deterministic() {
    for name in ["lstm_torch", "functions", "attention"] {
        assert_eq!(package(name), package(name));
    }
}

#[test]
fn the_cost_of_a_row_is_bounded() {
    let cost = |name| {
        let model = model(name);
        (model.manifest().operations_per_row, model.manifest().memory_per_row)
    };
    // 6 steps of 20 gates over 4 inputs and 5 states, then of 12 gates over 5 and 3, and what their activations cost.
    let (operations, memory) = cost("lstm_time_major");
    assert!((6 * (20 * 9 + 12 * 8)..20_000).contains(&operations), "{operations}");
    // The first layer's 30 states, before and behind the axis that is taken out; what came before is gone by then.
    assert!((4 * 2 * 30..8_000).contains(&memory), "{memory}");
    let (operations, _) = cost("lstm_free_length");
    assert!(operations > 1024 * 12 * 7, "{operations}");
}

#[test]
fn work_that_values_decide_counts_as_the_most_there_may_be() {
    check("loop_over_values", "loop_over_values");
    let mut model = model("loop_over_values");
    assert_eq!(model.manifest().operations_per_row, ImportLimits::default().operations_per_row);
    let trips = |count: f32| [Tensor::fp32("x", vec![1, 4], &[count, 0.0, 0.0, 0.0])];
    assert_eq!(
        predict(&mut model, &trips(1000.0)).unwrap()[0].to_fp32().unwrap(),
        [2000.0, 1000.0, 1000.0, 1000.0]
    );
    // What a trip takes is given back: 100 000 of them stay within 100 kB.
    model.limit_requests(RequestLimits { memory: 100_000, ..RequestLimits::default() });
    assert!(predict(&mut model, &trips(1e5)).is_ok());
    model.limit_requests(RequestLimits { operations: 2_000_000, ..RequestLimits::default() });
    let problem = predict(&mut model, &trips(1e9)).unwrap_err();
    let PredictError::LimitExceeded { message, hint } = &problem else { panic!("{problem}") };
    assert!(message.contains("at most 2000000") && hint.contains("values"), "{problem}: {hint}");
}

#[test]
fn loops_without_end_are_refused_in_time() {
    let limits = ImportLimits { operations_per_row: 10_000_000, ..ImportLimits::default() };
    let options = ImportOptions { limits, ..ImportOptions::default() };
    let error =
        import(&onnx("loop_without_end"), &ManifestSource::default(), &options).unwrap_err().to_string();
    assert!(error.contains("the limit `operations_per_row` is 10000000"), "{error}");
}

fn request(name: &str, shape: &[i64]) -> Tensor {
    let count: i64 = shape.iter().product();
    Tensor::fp32(name, shape.to_vec(), &vec![0.25; usize::try_from(count).unwrap()])
}

#[track_caller]
fn refused(model: &mut Model, inputs: &[Tensor]) -> String {
    match predict(model, inputs).unwrap_err() {
        PredictError::Internal { message } => panic!("a defect: {message}"),
        error => error.to_string(),
    }
}

#[test]
fn requests_that_do_not_fit_are_named() {
    let mut states = model("lstm_states");
    let uneven = [request("x", &[2, 6, 4]), request("h0", &[2, 3, 3]), request("c0", &[2, 2, 3])];
    assert_eq!(refused(&mut states, &uneven), "input `h0`: the dimension `N` is 3, in another place it is 2");
    let mut free = model("lstm_free_length");
    assert_eq!(
        refused(&mut free, &[request("x", &[1, 1025, 4])]),
        "input `x`: the dimension `T` is 1025, at most 1024 are allowed"
    );
    let message = refused(&mut free, &[request("x", &[20_000, 1024, 4])]);
    assert!(message.contains("bytes of memory, at most 268435456 are allowed"), "{message}");
    // The model is as good as before.
    assert_eq!(predict(&mut free, &[request("x", &[0, 5, 4])]).unwrap()[0].shape, [0, 3]);
    assert_eq!(predict(&mut free, &[request("x", &[2, 5, 4])]).unwrap()[0].shape, [2, 3]);
}

#[test]
fn nan_stays_nan_and_comes_out_in_one_form() {
    let source = ManifestSource { accepts_missing: Some(true), ..ManifestSource::default() };
    let options = ImportOptions {
        model: Some("m".to_owned()),
        version: Some("1.0.0".to_owned()),
        ..ImportOptions::default()
    };
    let package = import(&onnx("fixed_batch"), &source, &options).unwrap();
    let mut model = Model::load(AlignedBytes::copy_of(&package)).unwrap();
    let mut input = request("x", &[1, 6, 4]);
    input.data[..4].copy_from_slice(&0xffc1_2345_u32.to_le_bytes());
    let output = predict(&mut model, &[input]).unwrap().swap_remove(0);
    assert_eq!(output.data.as_chunks::<4>().0[0], f32::NAN.to_bits().to_le_bytes());
}

/// The package with another section `plan`.
fn with_plan(package: &[u8], plan: &[u8]) -> Vec<u8> {
    let old = Envelope::open(AlignedBytes::copy_of(package), Kind::Package, (1, 0)).unwrap();
    let mut envelope = EnvelopeBuilder::new(Kind::Package, (1, 0), old.meta().to_vec());
    for name in old.section_names() {
        let bytes = old.bytes_of(old.section(name).unwrap()).to_vec();
        envelope.section(name, if name == "plan" { plan.to_vec() } else { bytes });
    }
    envelope.seal().unwrap()
}

#[test]
fn plans_that_make_no_sense_are_refused_and_never_panic() {
    for name in ["lstm_torch", "gru", "cnn", "attention", "old"] {
        let package = package(name);
        let envelope = Envelope::open(AlignedBytes::copy_of(&package), Kind::Package, (1, 0)).unwrap();
        let plan = envelope.bytes_of(envelope.section("plan").unwrap()).to_vec();
        let mut refused = 0;
        for at in (0..plan.len()).step_by(3) {
            for mask in [1, 7, 0x80] {
                let mut plan = plan.clone();
                plan[at] ^= mask;
                match Model::load(AlignedBytes::copy_of(&with_plan(&package, &plan))) {
                    Err(_) => refused += 1,
                    Ok(mut model) => {
                        let specs = model.manifest().signature.inputs.clone();
                        let shape = |spec: &lockgate_package::TensorSpec| -> Vec<i64> {
                            spec.shape.iter().map(|len| (*len).max(2)).collect()
                        };
                        let inputs: Vec<Tensor> =
                            specs.iter().map(|spec| request(&spec.name, &shape(spec))).collect();
                        // Whatever it says, it says it.
                        let _ = predict(&mut model, &inputs);
                    }
                }
            }
        }
        assert!(refused > plan.len() / 4, "{name}: only {refused} refused of {}", plan.len());
    }
}

#[test]
fn other_plans_and_missing_arrays_are_named() {
    let package = package("fixed_batch");
    let old = Envelope::open(AlignedBytes::copy_of(&package), Kind::Package, (1, 0)).unwrap();
    let plan = old.bytes_of(old.section("plan").unwrap()).to_vec();
    let mut envelope = EnvelopeBuilder::new(Kind::Package, (1, 0), old.meta().to_vec());
    envelope.section("plan", plan.clone());
    let error = Model::load(AlignedBytes::copy_of(&envelope.seal().unwrap())).unwrap_err();
    assert!(
        error.to_string().contains("the graph plan is malformed: it has no section `array/0`"),
        "{error}"
    );

    // Sections are looked for where they were written: in order, behind the plan.
    let mut backwards = EnvelopeBuilder::new(Kind::Package, (1, 0), old.meta().to_vec());
    let arrays: Vec<&str> = old.section_names().filter(|name| *name != "plan").collect();
    assert!(arrays.len() > 1);
    backwards.section("plan", plan.clone());
    for name in arrays.into_iter().rev() {
        backwards.section(name, old.bytes_of(old.section(name).unwrap()).to_vec());
    }
    let error = Model::load(AlignedBytes::copy_of(&backwards.seal().unwrap())).unwrap_err();
    assert!(error.to_string().contains("it has no section `array/0` in its place"), "{error}");

    let mut newer = plan;
    let version = newer.windows(7).position(|bytes| bytes == b"version").unwrap() + 8;
    assert_eq!(newer[version], 3);
    for other in [1, 4] {
        newer[version] = other;
        let error = Model::load(AlignedBytes::copy_of(&with_plan(&package, &newer))).unwrap_err();
        let want = format!("the graph plan has version {other}.0, this program reads versions 2.0 to 3.x");
        assert!(error.to_string().contains(&want), "{error}");
    }
}

/// Packages as the version before this one has written them, of models in `fuzz/models`.
#[test]
fn plans_of_version_2_still_run() {
    let old = |name: &str| {
        let file = format!("{}/tests/data/packages/graph-2.0/{name}.lgp", env!("CARGO_MANIFEST_DIR"));
        Model::load(AlignedBytes::copy_of(&std::fs::read(file).unwrap()))
    };
    let now = |name: &str| {
        let file = format!("{}/../../fuzz/models/{name}.onnx", env!("CARGO_MANIFEST_DIR"));
        let options = ImportOptions {
            model: Some(name.to_owned()),
            version: Some("1.0.0".to_owned()),
            ..ImportOptions::default()
        };
        let package = import(&std::fs::read(file).unwrap(), &ManifestSource::default(), &options).unwrap();
        Model::load(AlignedBytes::copy_of(&package)).unwrap()
    };
    for name in ["product", "loop_if"] {
        let input = [request("x", &[2, 3])];
        assert_eq!(predict(&mut old(name).unwrap(), &input), predict(&mut now(name), &input), "{name}");
    }
    for (name, node) in [("regex", "RegexFullMatch"), ("tokens", "Tokenizer")] {
        let error = old(name).unwrap_err().to_string();
        let want = "the automaton of its expression is missing, as it is in packages of older versions; package the model again";
        assert!(error.contains(node) && error.contains(want), "{error}");
        now(name);
    }
}

#[test]
fn a_package_checks_ranges_and_missing_values() {
    let feature = |index: u8| Feature { name: format!("lag_{index}"), min: Some(-1.0), max: Some(1.0) };
    let source = ManifestSource {
        model: Some("direction".to_owned()),
        version: Some("1.2.0".to_owned()),
        features: (1..=4).map(|index| FeatureSource(feature(index))).collect(),
        ..ManifestSource::default()
    };
    let package = import(&onnx("lstm_keras"), &source, &ImportOptions::default()).unwrap();
    let mut model = Model::load(AlignedBytes::copy_of(&package)).unwrap();
    let mut input = request("x", &[2, 6, 4]);
    // The second row's first step, third feature.
    input.data[4 * (24 + 2)..][..4].copy_from_slice(&3.0_f32.to_le_bytes());
    let prediction = model.predict(&[input.view()]).unwrap();
    assert_eq!(prediction.outputs[0].shape, [2, 3]);
    assert_eq!(prediction.out_of_range, [OutOfRange { row: 1, feature: 2, value: 3.0 }]);
    input.data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    assert!(matches!(model.predict(&[input.view()]), Err(PredictError::MissingValue { .. })));
}
