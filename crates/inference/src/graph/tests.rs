//! Models in the forms that exporters write, against onnxruntime's recorded answers.

use lockgate_package::import::graph::{ImportedGraph, import_graph};
use lockgate_package::import::onnx::OnnxModel;
use lockgate_package::import::{self, FeatureSource, ImportLimits, ImportOptions, ManifestSource, Refusal};
use lockgate_package::plan::graph::{GraphPlan, GraphPlanError};
use lockgate_package::{AlignedBytes, Datatype, Engine, Envelope, EnvelopeBuilder, Feature, Kind, Tensor};
use serde_json::Value;

use super::{GraphLoadError, GraphModel};
use crate::{Model, OutOfRange, PredictError};

macro_rules! model {
    ($name:literal) => {
        include_bytes!(concat!("../../tests/data/graph/", $name, ".onnx"))
    };
}

macro_rules! answers {
    ($name:literal) => {
        include_str!(concat!("../../tests/data/graph/", $name, ".json"))
    };
}

fn import_plan(onnx: &[u8]) -> Result<ImportedGraph, Vec<Refusal>> {
    import_graph(&OnnxModel::parse(onnx, &ImportLimits::default()).unwrap())
}

fn seal(graph: &ImportedGraph) -> Vec<u8> {
    let mut envelope = EnvelopeBuilder::new(Kind::Package, (1, 0), Vec::new());
    graph.plan.write(graph.arrays.clone(), &mut envelope).unwrap();
    envelope.seal().unwrap()
}

fn load(bytes: &[u8]) -> Result<GraphModel, GraphLoadError> {
    let envelope = Envelope::open(AlignedBytes::copy_of(bytes), Kind::Package, (1, 0)).unwrap();
    GraphModel::load(&GraphPlan::read(&envelope)?, &envelope)
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

/// Imports, loads and runs a model on every recorded request.
fn check(name: &str, onnx: &[u8], answers: &str) {
    let graph = import_plan(onnx).unwrap_or_else(|refusals| panic!("{name}: {refusals:#?}"));
    let mut model = load(&seal(&graph)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let cases: Vec<Value> = serde_json::from_str(answers).unwrap();
    assert!(!cases.is_empty());
    for case in &cases {
        let inputs = tensors(&case["inputs"]);
        let views: Vec<_> = inputs.iter().map(Tensor::view).collect();
        let results = model.run(&views).unwrap_or_else(|error| panic!("{name}: {error}"));
        let expected = tensors(&case["outputs"]);
        assert_eq!(results.len(), expected.len());
        for (have, want) in results.iter().zip(&expected) {
            assert_eq!(
                (&have.name, have.datatype, &have.shape),
                (&want.name, want.datatype, &want.shape),
                "{name}"
            );
            if have.datatype == Datatype::Int64 {
                assert_eq!(have.to_int64(), want.to_int64(), "{name}: {}", have.name);
                continue;
            }
            for (at, (a, b)) in have.to_fp32().unwrap().iter().zip(want.to_fp32().unwrap()).enumerate() {
                assert!(
                    (a - b).abs() <= 1e-5 * b.abs().max(1.0),
                    "{name}: {}[{at}] is {a}, onnxruntime says {b}",
                    have.name
                );
            }
        }
    }
}

macro_rules! conformance {
    ($($name:ident: $file:literal, $answers:literal;)*) => {
        $(#[test]
        fn $name() {
            check($file, model!($file), answers!($answers));
        })*
    };
}

conformance! {
    lstm_written_by_hand: "lstm_time_major", "lstm_time_major";
    lstm_of_opset_9: "lstm_opset9", "lstm_opset9";
    lstm_batch_first: "lstm_batch_first", "lstm_time_major";
    lstm_as_torch_writes_it: "lstm_torch", "lstm_torch";
    lstm_as_keras_writes_it: "lstm_keras", "lstm_keras";
    lstm_with_initial_states: "lstm_states", "lstm_states";
    lstm_of_any_length: "lstm_free_length", "lstm_free_length";
    gru_and_plain_recurrence: "gru", "gru";
    one_dimensional_convolutions: "cnn", "cnn";
    functions_and_reductions: "functions", "functions";
    attention_with_computed_shapes: "attention", "attention";
    attributes_of_old_operator_sets: "old", "old";
    a_batch_of_one: "fixed_batch", "fixed_batch";
}

fn specs(onnx: &[u8]) -> Vec<String> {
    let plan = import_plan(onnx).unwrap().plan;
    let specs = plan.input_specs().into_iter().chain(plan.output_specs().unwrap());
    specs.map(|spec| format!("{} {} {:?}", spec.name, spec.datatype, spec.shape)).collect()
}

#[test]
fn the_signature_says_which_dimensions_are_free() {
    assert_eq!(specs(model!("lstm_torch")), ["x FP32 [-1, 6, 4]", "scores FP32 [-1, 3]"]);
    assert_eq!(specs(model!("lstm_free_length")), ["x FP32 [-1, -1, 4]", "scores FP32 [-1, 3]"]);
    assert_eq!(specs(model!("fixed_batch")), ["x FP32 [1, 6, 4]", "scores FP32 [1, 3]"]);
    assert_eq!(
        specs(model!("lstm_states")),
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
fn initial_states_of_zeros_are_not_computed() {
    let plan = import_plan(model!("lstm_torch")).unwrap().plan;
    let operators: Vec<&str> = plan.nodes.iter().map(|node| node.operator.name()).collect();
    assert_eq!(
        operators,
        [
            "Transpose",
            "Lstm",
            "Transpose",
            "Reshape",
            "Lstm",
            "Reshape",
            "Transpose",
            "Slice",
            "Reshape",
            "Dense"
        ]
    );
}

#[test]
fn packages_are_deterministic() {
    for onnx in [&model!("lstm_torch")[..], model!("functions"), model!("attention")] {
        assert_eq!(seal(&import_plan(onnx).unwrap()), seal(&import_plan(onnx).unwrap()));
    }
}

#[test]
fn the_cost_of_a_row_is_bounded() {
    let cost = import_plan(model!("lstm_time_major")).unwrap().cost;
    // 6 steps of 20 gates over 4 inputs and 5 states, then of 12 gates over 5 and 3, and what their activations cost.
    assert!((6 * (20 * 9 + 12 * 8)..10_000).contains(&cost.operations), "{cost:?}");
    // Four bytes for 24 inputs and 24 transposed, 4 × 30 + 30 + 2 × 5 of the first layer and what follows.
    assert!((4 * 208..4_000).contains(&cost.memory), "{cost:?}");
    let free = import_plan(model!("lstm_free_length")).unwrap().cost;
    assert!(free.operations > 1024 * 12 * 7, "{free:?}");
}

fn request(name: &str, shape: &[i64]) -> Tensor {
    let count: i64 = shape.iter().product();
    Tensor::fp32(name, shape.to_vec(), &vec![0.25; usize::try_from(count).unwrap()])
}

fn refuse(model: &mut GraphModel, inputs: &[Tensor]) -> String {
    let views: Vec<_> = inputs.iter().map(Tensor::view).collect();
    match model.run(&views).unwrap_err() {
        PredictError::Internal { message } => panic!("a defect: {message}"),
        error => error.to_string(),
    }
}

#[test]
fn requests_that_do_not_fit_are_named() {
    let mut states = load(&seal(&import_plan(model!("lstm_states")).unwrap())).unwrap();
    assert_eq!(refuse(&mut states, &[request("x", &[2, 6, 4])]), "input `h0` is missing");
    let uneven = [request("x", &[2, 6, 4]), request("h0", &[2, 3, 3]), request("c0", &[2, 2, 3])];
    assert_eq!(refuse(&mut states, &uneven), "input `h0`: the dimension `N` is 3, in another place it is 2");
    let mut free = load(&seal(&import_plan(model!("lstm_free_length")).unwrap())).unwrap();
    assert_eq!(
        refuse(&mut free, &[request("x", &[1, 5, 3])]),
        "input `x`: expected FP32 [-1, -1, 4], found FP32 [1, 5, 3]"
    );
    assert_eq!(refuse(&mut free, &[request("x", &[1, 0, 4])]), "input `x`: the dimension `T` is empty");
    assert_eq!(
        refuse(&mut free, &[request("x", &[1, 1025, 4])]),
        "input `x`: the dimension `T` is 1025, at most 1024 are allowed"
    );
    let message = refuse(&mut free, &[request("x", &[20_000, 1024, 4])]);
    assert!(
        message.starts_with("20000 rows need ")
            && message.ends_with(" bytes of working memory, at most 268435456 are allowed"),
        "{message}"
    );
    // The model is as good as before.
    let views = [request("x", &[0, 5, 4])];
    assert_eq!(free.run(&[views[0].view()]).unwrap()[0].shape, [0, 3]);
    assert_eq!(free.run(&[request("x", &[2, 5, 4]).view()]).unwrap()[0].shape, [2, 3]);
}

#[test]
fn nan_stays_nan_and_comes_out_in_one_form() {
    let mut model = load(&seal(&import_plan(model!("fixed_batch")).unwrap())).unwrap();
    let mut input = request("x", &[1, 6, 4]);
    input.data[..4].copy_from_slice(&0xffc1_2345_u32.to_le_bytes());
    let output = model.run(&[input.view()]).unwrap().swap_remove(0);
    assert_eq!(output.data.as_chunks::<4>().0[0], f32::NAN.to_bits().to_le_bytes());
}

#[test]
fn plans_that_make_no_sense_are_refused_and_never_panic() {
    for onnx in [&model!("lstm_torch")[..], model!("gru"), model!("cnn"), model!("attention"), model!("old")]
    {
        let graph = import_plan(onnx).unwrap();
        let good = Envelope::open(AlignedBytes::copy_of(&seal(&graph)), Kind::Package, (1, 0)).unwrap();
        let plan = good.bytes_of(good.section("plan").unwrap()).to_vec();
        let mut refused = 0;
        for at in (0..plan.len()).step_by(3) {
            for mask in [1, 7, 0x80] {
                let mut plan = plan.clone();
                plan[at] ^= mask;
                let mut envelope = EnvelopeBuilder::new(Kind::Package, (1, 0), Vec::new());
                envelope.section("plan", plan);
                for (index, bytes) in graph.arrays.iter().enumerate() {
                    envelope.section(format!("array/{index}"), bytes.clone());
                }
                refused += usize::from(load(&envelope.seal().unwrap()).is_err());
            }
        }
        assert!(refused > plan.len() / 2, "only {refused} refused");
    }
}

#[test]
fn newer_plans_and_missing_arrays_are_named() {
    let graph = import_plan(model!("fixed_batch")).unwrap();
    let good = Envelope::open(AlignedBytes::copy_of(&seal(&graph)), Kind::Package, (1, 0)).unwrap();
    let plan = good.bytes_of(good.section("plan").unwrap()).to_vec();
    let mut envelope = EnvelopeBuilder::new(Kind::Package, (1, 0), Vec::new());
    envelope.section("plan", plan.clone());
    let error = load(&envelope.seal().unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "the graph plan is malformed: it has no section `array/0`");

    let mut newer = plan;
    let version = newer.windows(7).position(|bytes| bytes == b"version").unwrap() + 8;
    assert_eq!(newer[version], 1);
    newer[version] = 2;
    let mut envelope = EnvelopeBuilder::new(Kind::Package, (1, 0), Vec::new());
    envelope.section("plan", newer);
    let error = load(&envelope.seal().unwrap()).unwrap_err();
    assert!(matches!(error, GraphLoadError::Plan(GraphPlanError::NewerVersion { found: (2, 0) })));
    assert_eq!(
        error.to_string(),
        "the graph plan has version 2.0, this program reads versions up to 1.x; use a newer Lockgate"
    );
}

#[test]
fn a_package_runs_through_the_model() {
    let feature = |index: u8| Feature { name: format!("lag_{index}"), min: Some(-1.0), max: Some(1.0) };
    let source = ManifestSource {
        model: Some("direction".to_owned()),
        version: Some("1.2.0".to_owned()),
        features: (1..=4).map(|index| FeatureSource(feature(index))).collect(),
        ..ManifestSource::default()
    };
    let package = import::import(model!("lstm_keras"), &source, &ImportOptions::default()).unwrap();
    let mut model = Model::load(AlignedBytes::copy_of(&package)).unwrap();
    assert_eq!(model.manifest().engine, Engine::Graph);
    assert!(model.manifest().operations_per_row > 0 && model.manifest().memory_per_row > 0);
    let mut input = request("x", &[2, 6, 4]);
    // The second row's first step, third feature.
    input.data[4 * (24 + 2)..][..4].copy_from_slice(&3.0_f32.to_le_bytes());
    let prediction = model.predict(&[input.view()]).unwrap();
    assert_eq!(prediction.outputs[0].shape, [2, 3]);
    assert_eq!(prediction.out_of_range, [OutOfRange { row: 1, feature: 2, value: 3.0 }]);
    input.data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    assert!(matches!(model.predict(&[input.view()]), Err(PredictError::MissingValue { .. })));
}
