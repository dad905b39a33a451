//! What the importer refuses and in which words; what it reads from a manifest source. Answers of imported models are
//! compared with onnxruntime's where they can be computed, in `lockgate-inference`.

mod beside;
mod containers;

use super::pb;
use super::pb::attribute_proto::AttributeType;
use prost::Message as _;

use super::*;
use crate::plan::tabular::{Step, Transform};
use crate::{AlignedBytes, Datatype};

fn attribute(name: &str, r#type: AttributeType) -> pb::AttributeProto {
    pb::AttributeProto { name: name.to_owned(), r#type: r#type.into(), ..Default::default() }
}

fn int(name: &str, i: i64) -> pb::AttributeProto {
    pb::AttributeProto { i, ..attribute(name, AttributeType::Int) }
}

fn ints(name: &str, ints: &[i64]) -> pb::AttributeProto {
    pb::AttributeProto { ints: ints.to_vec(), ..attribute(name, AttributeType::Ints) }
}

fn floats(name: &str, floats: &[f32]) -> pb::AttributeProto {
    pb::AttributeProto { floats: floats.to_vec(), ..attribute(name, AttributeType::Floats) }
}

fn text(name: &str, text: &str) -> pb::AttributeProto {
    pb::AttributeProto { s: text.as_bytes().to_vec(), ..attribute(name, AttributeType::String) }
}

fn texts(name: &str, texts: &[&str]) -> pb::AttributeProto {
    let strings = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    pb::AttributeProto { strings, ..attribute(name, AttributeType::Strings) }
}

fn node(
    operator: &str,
    inputs: &[&str],
    outputs: &[&str],
    attributes: Vec<pb::AttributeProto>,
) -> pb::NodeProto {
    let ml = [
        "Scaler",
        "LinearClassifier",
        "LinearRegressor",
        "ZipMap",
        "TreeEnsembleRegressor",
        "TreeEnsembleClassifier",
    ];
    pb::NodeProto {
        input: inputs.iter().map(|&name| name.to_owned()).collect(),
        output: outputs.iter().map(|&name| name.to_owned()).collect(),
        name: format!("{}_node", operator.to_lowercase()),
        op_type: operator.to_owned(),
        domain: if ml.contains(&operator) { "ai.onnx.ml".to_owned() } else { String::new() },
        attribute: attributes,
        overload: String::new(),
    }
}

fn value(name: &str, columns: i64) -> pb::ValueInfoProto {
    let dim = |value| pb::tensor_shape_proto::Dimension { value };
    let columns = pb::tensor_shape_proto::dimension::Value::DimValue(columns);
    let shape = pb::TensorShapeProto { dim: vec![dim(None), dim(Some(columns))] };
    let tensor = pb::type_proto::Tensor { elem_type: 1, shape: Some(shape) };
    pb::ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(pb::TypeProto { value: Some(pb::type_proto::Value::TensorType(tensor)) }),
    }
}

/// A model with an input `X` of three columns; what the last node writes first is the output.
fn model(nodes: Vec<pb::NodeProto>) -> pb::ModelProto {
    let output = nodes.last().and_then(|node| node.output.first()).cloned().unwrap_or_default();
    let opset = |domain: &str, version| pb::OperatorSetIdProto { domain: domain.to_owned(), version };
    pb::ModelProto {
        ir_version: 8,
        producer_name: "tests".to_owned(),
        producer_version: "1".to_owned(),
        graph: Some(pb::GraphProto {
            node: nodes,
            name: "g".to_owned(),
            input: vec![value("X", 3)],
            output: vec![pb::ValueInfoProto { name: output, ..Default::default() }],
            ..Default::default()
        }),
        opset_import: vec![opset("", 15), opset("ai.onnx.ml", 1)],
        ..Default::default()
    }
}

fn scaler(offset: &[f32]) -> pb::NodeProto {
    node("Scaler", &["X"], &["scaled"], vec![floats("offset", offset), floats("scale", &[1.0])])
}

fn classifier(labels: pb::AttributeProto) -> Vec<pb::NodeProto> {
    let attributes =
        vec![floats("coefficients", &[0.5; 6]), floats("intercepts", &[0.1, 0.2]), labels.clone()];
    let zip_name = if labels.strings.is_empty() { "classlabels_int64s" } else { "classlabels_strings" };
    let zip_labels = pb::AttributeProto { name: zip_name.to_owned(), ..labels };
    vec![
        scaler(&[0.0, 1.0, 2.0]),
        node("LinearClassifier", &["scaled"], &["label", "scores"], attributes),
        node("ZipMap", &["scores"], &["probability"], vec![zip_labels]),
    ]
}

fn named() -> ImportOptions {
    ImportOptions { model: Some("m".to_owned()), version: Some("1.0.0".to_owned()), ..Default::default() }
}

fn run(model: &pb::ModelProto, source: &ManifestSource) -> Result<Package, ImportError> {
    let options = named();
    let bytes = import(&model.encode_to_vec(), source, &options)?;
    assert_eq!(bytes, import(&model.encode_to_vec(), source, &options)?, "equal input gives equal bytes");
    Ok(Package::open(AlignedBytes::copy_of(&bytes)).unwrap())
}

#[track_caller]
fn refused(model: &pb::ModelProto, want: &str) {
    let error = run(model, &ManifestSource::default()).expect_err("it must be refused");
    assert_eq!(error.to_string(), want);
}

#[test]
fn a_package_says_what_its_model_takes_and_gives() {
    let package =
        run(&model(classifier(ints("classlabels_ints", &[0, 1]))), &ManifestSource::default()).unwrap();
    let manifest = package.manifest();
    assert_eq!(manifest.producer, "tests 1");
    assert_eq!(manifest.engine, Engine::Tabular);
    assert_eq!(manifest.labels, ["0", "1"]);
    assert!(!manifest.accepts_missing);
    assert!(manifest.operations_per_row > 0 && manifest.memory_per_row > 0);
    let [input] = manifest.signature.inputs.as_slice() else { panic!("{:?}", manifest.signature) };
    assert_eq!(
        (input.name.as_str(), input.datatype, input.shape.as_slice()),
        ("X", Datatype::Fp32, &[-1, 3][..])
    );
    let [output] = manifest.signature.outputs.as_slice() else { panic!("{:?}", manifest.signature) };
    assert_eq!((output.name.as_str(), output.shape.as_slice()), ("probability", &[-1, 2][..]));
    package.tabular_plan().unwrap();
    assert!(package.graph_plan().is_err());
}

#[test]
fn what_is_no_onnx_is_refused() {
    let check = |bytes: &[u8], want: &str| {
        let error = import(bytes, &ManifestSource::default(), &ImportOptions::default()).unwrap_err();
        assert_eq!(error.to_string(), want, "{bytes:?}");
    };
    let hint = "hint: give a model exported with skl2onnx, onnxmltools, tf2onnx, torch.onnx or the like";
    check(b"", &format!("not an ONNX file: it is empty; {hint}"));
    let foreign = format!(
        "not an ONNX file: its bytes are no ONNX model (a protobuf message that begins with the format's version); {hint}"
    );
    for bytes in [
        &b"PK\x03\x04zip"[..],
        b"{\"a\": 1}",
        b"hello, world",
        b"\x80\x04\x95pickle",
        b"LOCKGATE\x01\0",
        b"\x08\x08\x7b",
    ] {
        check(bytes, &foreign);
    }
}

#[test]
fn a_model_cut_anywhere_is_refused() {
    let mut whole = model(classifier(ints("classlabels_ints", &[0, 1])));
    // The last operator set is one that nodes need.
    whole.opset_import.rotate_left(1);
    whole.opset_import.reverse();
    let bytes = whole.encode_to_vec();
    for end in 0..bytes.len() {
        let error = import(&bytes[..end], &ManifestSource::default(), &ImportOptions::default()).unwrap_err();
        let known = matches!(
            error,
            ImportError::NotOnnx { .. } | ImportError::Truncated { .. } | ImportError::Malformed { .. }
        );
        assert!(known, "cut at {end}: {error}");
        if end > 2 {
            assert!(!matches!(error, ImportError::NotOnnx { .. }), "cut at {end}: {error}");
        }
    }
    let cut =
        import(&bytes[..bytes.len() / 2], &ManifestSource::default(), &ImportOptions::default()).unwrap_err();
    assert_eq!(
        cut.to_string(),
        format!(
            "the ONNX file is truncated: the field that begins at byte 12 runs past the end, byte {}; hint: copy or export \
             the file again",
            bytes.len() / 2
        )
    );
}

#[test]
fn unsupported_operators_and_attributes_are_named_all_at_once() {
    refused(
        &model(vec![node("SequenceLength", &["X"], &["Y"], vec![])]),
        "the model cannot be packaged: operator `SequenceLength` (node `sequencelength_node`, ai.onnx opset 15): this operator is \
         not supported; hint: export without sequences and optional values; tensors with one more axis hold the same",
    );
    let mut unknown = scaler(&[0.0]);
    unknown.attribute.push(int("clip", 1));
    let broken = model(vec![
        unknown,
        node("LinearRegressor", &["X"], &["Y"], vec![floats("coefficients", &[1.0; 4])]),
        node("Sharpen", &["Y"], &["Z"], vec![]),
        // The graph engine runs this, so that nothing has to change about it.
        node("Det", &["Z"], &["D"], vec![]),
    ]);
    let want = "the model cannot be packaged, 3 problems:\n  \
        attribute `clip` of operator `Scaler` (node `scaler_node`, ai.onnx.ml opset 1): this attribute is not supported; hint: \
        export without it, or leave it at its default where the exporter can omit it\n  \
        attribute `coefficients` of operator `LinearRegressor` (node `linearregressor_node`, ai.onnx.ml opset 1): expected \
        1 × 3 numbers, found 4; hint: check that the input has as many columns as the model was trained with\n  \
        operator `Sharpen` (node `sharpen_node`, ai.onnx opset 15): this operator is not supported; hint: export the part of the \
        model that uses supported operators; the reference page of operators lists them";
    refused(&broken, want);
}

#[test]
fn unsupported_values_of_attributes_are_refused() {
    let regressor = |name: &str, value: pb::AttributeProto| {
        let mut attributes = vec![floats("coefficients", &[1.0; 3])];
        attributes.push(value);
        let mut model = model(vec![node("LinearRegressor", &["X"], &["Y"], attributes)]);
        model.producer_name = name.to_owned();
        model
    };
    refused(
        &regressor("t", text("post_transform", "SIGMOID")),
        "the model cannot be packaged: attribute `post_transform` of operator `LinearRegressor` (node `linearregressor_node`, \
         ai.onnx.ml opset 1): expected NONE, LOGISTIC, SOFTMAX, SOFTMAX_ZERO or PROBIT, found `SIGMOID`; hint: export the \
         model again",
    );
    refused(
        &regressor("t", int("post_transform", 1)),
        "the model cannot be packaged: attribute `post_transform` of operator `LinearRegressor` (node `linearregressor_node`, \
         ai.onnx.ml opset 1): expected a text, found INT; hint: export the model again",
    );
    refused(
        &model(vec![scaler(&[1.0, 2.0])]),
        "the model cannot be packaged: attribute `offset` of operator `Scaler` (node `scaler_node`, ai.onnx.ml opset 1): expected \
         1 or 3 numbers, found 2; hint: export the model again",
    );
}

/// A stump: x₀ ≤ 0.
fn stump(change: impl FnOnce(&mut Vec<pb::AttributeProto>)) -> pb::ModelProto {
    let mut attributes = vec![
        ints("nodes_nodeids", &[0, 1, 2]),
        ints("nodes_treeids", &[0, 0, 0]),
        ints("nodes_featureids", &[0, 0, 0]),
        ints("nodes_truenodeids", &[1, 0, 0]),
        ints("nodes_falsenodeids", &[2, 0, 0]),
        floats("nodes_values", &[0.0, 0.0, 0.0]),
        texts("nodes_modes", &["BRANCH_LEQ", "LEAF", "LEAF"]),
        ints("target_ids", &[0, 0]),
        ints("target_nodeids", &[1, 2]),
        ints("target_treeids", &[0, 0]),
        floats("target_weights", &[1.0, 2.0]),
    ];
    change(&mut attributes);
    model(vec![node("TreeEnsembleRegressor", &["X"], &["Y"], attributes)])
}

fn set(attributes: &mut [pb::AttributeProto], value: pb::AttributeProto) {
    let place = attributes.iter_mut().find(|attribute| attribute.name == value.name).unwrap();
    *place = value;
}

#[test]
fn trees_that_make_no_sense_are_refused() {
    let check = |change: fn(&mut Vec<pb::AttributeProto>), want: &str| {
        let error = run(&stump(change), &ManifestSource::default()).unwrap_err().to_string();
        assert!(error.contains(want), "expected `{want}` in: {error}");
    };
    assert!(!run(&stump(|_| {}), &ManifestSource::default()).unwrap().manifest().accepts_missing);
    check(|a| set(a, ints("nodes_truenodeids", &[0, 0, 0])), "node 0 of tree 0 is reached twice");
    check(
        |a| set(a, ints("nodes_truenodeids", &[7, 0, 0])),
        "node 0 of tree 0 has a branch that leads to no node",
    );
    check(|a| set(a, ints("nodes_nodeids", &[0, 1, 1])), "tree 0 has node 1 twice");
    check(|a| set(a, ints("nodes_featureids", &[3, 0, 0])), "node 0 of tree 0 tests column 3 of 3");
    check(|a| set(a, ints("nodes_featureids", &[0, 0])), "`nodes_featureids`");
    check(
        |a| set(a, texts("nodes_modes", &["BRANCH_MEMBER", "LEAF", "LEAF"])),
        "`BRANCH_MEMBER` is not supported",
    );
    check(|a| set(a, ints("target_nodeids", &[0, 2])), "which is no leaf");
    check(|a| set(a, ints("target_ids", &[0, 1])), "beyond the 1 declared");
    check(|a| set(a, ints("target_nodeids", &[1, 1])), "votes twice");
    check(
        |a| a.push(text("aggregate_function", "MEDIAN")),
        "expected SUM, AVERAGE, MIN or MAX, found `MEDIAN`",
    );
    check(|a| a.push(text("post_transform", "SIGMOID")), "found `SIGMOID`");
    check(|a| a.push(floats("base_values", &[1.0, 2.0])), "expected 1 numbers, found 2");
}

/// As in onnxruntime, so that no step has to know.
#[test]
fn a_single_score_is_transformed_by_probit_only() {
    let transform = |model: &pb::ModelProto| {
        let package = run(model, &ManifestSource::default()).unwrap();
        let plan = package.tabular_plan().unwrap();
        plan.steps.iter().find_map(|step| match step {
            Step::Transform { transform, .. } => Some(*transform),
            Step::Trees(trees) => Some(trees.transform).filter(|&transform| transform != Transform::None),
            _ => None,
        })
    };
    for name in ["LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT"] {
        let want = (name == "PROBIT").then_some(Transform::Probit);
        let linear = vec![floats("coefficients", &[1.0; 3]), text("post_transform", name)];
        let linear = model(vec![node("LinearRegressor", &["X"], &["Y"], linear)]);
        assert_eq!(transform(&linear), want, "{name}");
        assert_eq!(transform(&stump(|a| a.push(text("post_transform", name)))), want, "{name}");
    }
}

#[test]
fn trees_trained_with_missing_values_accept_them() {
    let tracks = stump(|a| a.push(ints("nodes_missing_value_tracks_true", &[1, 0, 0])));
    assert!(run(&tracks, &ManifestSource::default()).unwrap().manifest().accepts_missing);
    let source = ManifestSource { accepts_missing: Some(false), ..Default::default() };
    assert!(!run(&tracks, &source).unwrap().manifest().accepts_missing);
    let source = ManifestSource { accepts_missing: Some(true), ..Default::default() };
    assert!(run(&stump(|_| {}), &source).unwrap().manifest().accepts_missing);
}

#[test]
fn graphs_that_contradict_themselves_are_refused() {
    let hint = "hint: check the file with onnx.checker.check_model, or export it again";
    let check = |change: fn(&mut pb::ModelProto), want: &str| {
        let mut model = model(vec![scaler(&[0.0]), node("Relu", &["scaled"], &["Y"], vec![])]);
        change(&mut model);
        refused(&model, &format!("the ONNX file is malformed: {want}; {hint}"));
    };
    fn graph(model: &mut pb::ModelProto) -> &mut pb::GraphProto {
        model.graph.as_mut().unwrap()
    }
    check(
        |model| graph(model).node.reverse(),
        "node `relu_node` reads `scaled`, which only a later node writes: the graph is cyclic or out of order",
    );
    check(
        |model| graph(model).node[0].input[0] = "x".to_owned(),
        "node `scaler_node` reads `x`, which nothing writes",
    );
    check(
        |model| graph(model).node[1].output[0] = "scaled".to_owned(),
        "value `scaled` is written twice, by node `scaler_node` and by node `relu_node`",
    );
    check(|model| graph(model).output[0].name = "Z".to_owned(), "output `Z` is written by no node");
    check(
        |model| {
            let again = graph(model).output[0].clone();
            graph(model).output.push(again);
        },
        "output `Y` is listed twice",
    );
    check(
        |model| model.opset_import.truncate(1),
        "node `scaler_node` uses an operator of domain ai.onnx.ml, whose version the file does not say",
    );
    check(
        |model| model.opset_import.push(pb::OperatorSetIdProto { domain: String::new(), version: 14 }),
        "domain ai.onnx is imported as opset 15 and as 14",
    );
    check(
        |model| {
            let tensor =
                pb::TensorProto { dims: vec![3], data_type: 1, name: "w".to_owned(), ..Default::default() };
            graph(model).initializer.push(tensor);
        },
        "initializer `w`: its shape [3] asks for 3 elements, 0 are there",
    );
}

#[test]
fn what_lies_outside_of_the_graph_is_refused() {
    let check = |change: fn(&mut pb::ModelProto), want: &str| {
        let mut model = model(vec![scaler(&[0.0])]);
        change(&mut model);
        refused(&model, &format!("the model cannot be packaged: {want}"));
    };
    check(
        |model| {
            let tensor =
                pb::TensorProto { name: "w".to_owned(), data_location: Some(1), ..Default::default() };
            model.graph.as_mut().unwrap().initializer.push(tensor);
        },
        "initializer `w` keeps its data in another file, which was not read; hint: put the file beside the model, or save \
         the model in one file: onnx.save_model(model, path, save_as_external_data=False)",
    );
    check(
        |model| {
            let values = Some(pb::TensorProto { name: "w".to_owned(), ..Default::default() });
            let graph = model.graph.as_mut().unwrap();
            graph.sparse_initializer.push(pb::SparseTensorProto { values });
            graph.node[0].input.push("w".to_owned());
        },
        "sparse initializers are not supported; hint: export with dense weights",
    );
    check(
        |model| model.opset_import[0].version = 999,
        "the model uses ai.onnx opset 999, which is newer than 28, the newest one known; hint: export with an older \
         target_opset",
    );
}

/// A model that adds the four numbers of a file to its input.
fn with_data_elsewhere(entries: &[(&str, &str)]) -> pb::ModelProto {
    let mut model = model(vec![node("Add", &["X", "w"], &["Y"], vec![])]);
    let entry = |&(key, value): &(&str, &str)| pb::StringStringEntryProto {
        key: key.to_owned(),
        value: value.to_owned(),
    };
    model.graph.as_mut().unwrap().initializer.push(pb::TensorProto {
        name: "w".to_owned(),
        dims: vec![4],
        data_type: 1,
        data_location: Some(1),
        external_data: entries.iter().map(entry).collect(),
        ..Default::default()
    });
    model
}

#[test]
fn data_may_lie_in_other_files() {
    let data: Vec<u8> =
        [0.0_f32, 1.0, 2.0, 3.0, 4.0].iter().flat_map(|number| number.to_le_bytes()).collect();
    let parse = |entries: &[(&str, &str)], limits: &ImportLimits| {
        let bytes = with_data_elsewhere(entries).encode_to_vec();
        let files = |file: &OnnxFile<'_>| -> BTreeMap<String, Vec<u8>> {
            file.data_files().iter().map(|name| (name.clone(), data.clone())).collect()
        };
        let parsed = OnnxFile::decode(&bytes, limits).and_then(|file| {
            let files = files(&file);
            file.check(&files, limits)
        });
        parsed.map_err(|error| error.to_string())
    };
    let limits = ImportLimits::default();
    let found =
        parse(&[("location", "model.onnx.data"), ("offset", "4"), ("length", "16")], &limits).unwrap();
    assert_eq!(found.constant("w").unwrap().elements::<f32>().unwrap(), [1.0, 2.0, 3.0, 4.0]);
    let check = |entries: &[(&str, &str)], limits: &ImportLimits, want: &str| {
        let problem = parse(entries, limits).unwrap_err();
        assert!(problem.contains(want), "{problem}");
    };
    let at = |offset| [("location", "d"), ("offset", offset), ("length", "16")];
    // Before anything is allocated for what the file says.
    check(
        &at("4"),
        &ImportLimits { decoded_bytes: 100, ..limits.clone() },
        "the limit `decoded_bytes` is 100",
    );
    check(&at("8"), &limits, "tensor `w`: its data are bytes 8 to 24 of `d`, which has 20");
    check(&at("18446744073709551615"), &limits, "to beyond of `d`");
    check(&at("-1"), &limits, "the offset of its data is no number");
    check(&[("location", "d")], &limits, "asks for 4 elements, 5 are there");
    check(&at("4"), &ImportLimits { decoded_bytes: 300, ..limits.clone() }, "`decoded_bytes` is 300");
    let small = ImportLimits { file_bytes: 150, ..limits };
    check(&at("4"), &small, "`file_bytes` is 150");
}

#[test]
fn data_files_count_in_the_digest() {
    let mut model = with_data_elsewhere(&[("location", "d")]);
    model.graph.as_mut().unwrap().initializer[0].dims = vec![3];
    let bytes = model.encode_to_vec();
    let digest = |data: [f32; 3]| {
        let data = data.iter().flat_map(|number| number.to_le_bytes()).collect();
        let files = BTreeMap::from([("d".to_owned(), data)]);
        let package =
            import(&bytes, &ManifestSource::default(), &ImportOptions { files, ..named() }).unwrap();
        Package::open(AlignedBytes::copy_of(&package)).unwrap().manifest().source_digest
    };
    assert_ne!(digest([0.0; 3]), digest([1.0; 3]));
    let missing = import(&bytes, &ManifestSource::default(), &named()).unwrap_err().to_string();
    assert!(missing.contains("initializer `w` keeps its data in `d`, which was not read"), "{missing}");
}

/// A table of indices gives each row two dimensions more than the tabular engine has.
#[test]
fn columns_are_chosen_by_a_list_alone() {
    let chosen = |dims: &[i64]| {
        let count = dims.iter().product::<i64>();
        let indices = pb::TensorProto {
            name: "indices".to_owned(),
            dims: dims.to_vec(),
            data_type: 7,
            int64_data: (0..count).map(|index| index % 3).collect(),
            ..Default::default()
        };
        let axis = pb::AttributeProto { i: 1, ..ints("axis", &[]) };
        let axis = pb::AttributeProto { r#type: pb::attribute_proto::AttributeType::Int.into(), ..axis };
        let mut model = model(vec![node("Gather", &["X", "indices"], &["Y"], vec![axis])]);
        model.graph.as_mut().unwrap().initializer.push(indices);
        let package = run(&model, &ManifestSource::default()).unwrap();
        let manifest = package.manifest();
        (manifest.engine, manifest.signature.outputs[0].shape.clone())
    };
    assert_eq!(chosen(&[2]), (Engine::Tabular, vec![-1, 2]));
    assert_eq!(chosen(&[]), (Engine::Tabular, vec![-1]));
    assert_eq!(chosen(&[2, 2]), (Engine::Graph, vec![-1, 2, 2]));
}

#[test]
fn there_are_only_so_many_inputs() {
    let input =
        |name: String| crate::TensorSpec { name, datatype: crate::Datatype::Fp32, shape: vec![-1, 1] };
    let made = |count: usize| {
        let output = MockOutput {
            name: "y".to_owned(),
            datatype: crate::Datatype::Fp32,
            shape: vec![-1],
            value: None,
        };
        let signature = MockSource {
            inputs: (0..count).map(|column| input(format!("x{column}"))).collect(),
            outputs: vec![output],
        };
        mock(&signature, &ManifestSource::default(), &named()).map_err(|error| error.to_string())
    };
    assert!(made(100).is_ok());
    let error = made(10_001).unwrap_err();
    assert!(error.contains("has 10001 inputs, at most 10000 are taken"), "{error}");
}

#[test]
fn limits_are_named() {
    let bytes = model(vec![scaler(&[0.0])]).encode_to_vec();
    let check = |limits: ImportLimits, want: &str| {
        let options = ImportOptions { limits, ..Default::default() };
        let error = import(&bytes, &ManifestSource::default(), &options).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    };
    let limits = ImportLimits::default();
    check(ImportLimits { file_bytes: 10, ..limits.clone() }, "the limit `file_bytes` is 10");
    check(ImportLimits { nodes: 0, ..limits.clone() }, "the number of nodes is 1, the limit `nodes` is 0");
    check(
        ImportLimits { operations_per_row: 1, ..limits.clone() },
        "the number of operations per row is 6, the limit `operations_per_row` is 1",
    );
    check(ImportLimits { decoded_bytes: 100, ..limits }, "the limit `decoded_bytes` is 100");
    for name in ImportLimits::NAMES {
        let mut limits = ImportLimits::default();
        assert!(limits.set(name, 7) && limits.get(name) == Some(7), "{name}");
    }
    assert!(!ImportLimits::default().set("rows", 1));
}

/// A length-delimited field of the wire format.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    prost::encoding::encode_varint(content.len() as u64, &mut bytes);
    bytes.extend_from_slice(content);
    bytes
}

#[test]
fn a_small_file_cannot_take_much_memory() {
    let check = |graph: &[u8], want: &str| {
        let bytes = [&[8, 9][..], &field(7, graph), &field(8, &[16, 17])].concat();
        let error = import(&bytes, &ManifestSource::default(), &ImportOptions::default()).unwrap_err();
        assert!(error.to_string().contains(want), "{error}");
    };
    // Two bytes make a node of some hundred bytes.
    check(&[10, 0].repeat(1_000_000), "the number of nodes is 1000000, the limit `nodes` is 100000");
    let attributes = field(1, &[42, 0].repeat(5_000_000));
    check(&attributes, "the limit `decoded_bytes` is 2147483648");
    // Bodies count as well.
    let body = [10, 0].repeat(60_000);
    let node = field(1, &field(5, &field(6, &body)));
    check(&node.repeat(2), "the number of nodes is 120002");
    // A graph in a graph in a graph.
    let mut deep = Vec::new();
    for _ in 0..5_000 {
        deep = field(1, &field(5, &field(6, &deep)));
    }
    check(&deep, "recursion limit");
}

#[test]
fn a_manifest_that_does_not_fit_is_refused() {
    let integers = model(classifier(ints("classlabels_ints", &[0, 1])));
    let named = model(classifier(texts("classlabels_strings", &["down", "up"])));
    let check = |model: &pb::ModelProto, source: &str, want: &[&str]| {
        let source: ManifestSource = serde_json::from_str(source).unwrap();
        let error = run(model, &source).expect_err("it must be refused");
        let ImportError::Manifest { problems } = error else { panic!("{error}") };
        let found: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(found, want);
    };
    check(
        &integers,
        r#"{"model": "a b", "version": "1.0", "labels": ["down"], "features": ["a", "b"]}"#,
        &[
            "`model`: `a b` contains ' '; expected letters, digits and `_ - .`; hint: give the model a name, such as eurusd_lstm_1h: `model` in the manifest, --name on the command line",
            "`version`: `1.0` is not a semantic version: unexpected end of input while parsing minor version number; hint: write three numbers, such as 1.0.0",
            "`labels`: 1 labels are given, the model has 2 classes; hint: list one label per class, in the order of the scores",
            "`features`: 2 features are named, the model's input has 3 columns; hint: name every column once, in the order of the columns",
        ],
    );
    check(
        &named,
        r#"{"labels": ["up", "down"], "features": [{"name": "a", "min": 2, "max": 1}, "b", "a"]}"#,
        &[
            "`features[0]`: the range of `a` is empty: min 2 is greater than max 1; hint: exchange them",
            "`features[2].name`: `a` is the name of features[0] too; hint: give each column its own name",
            "`labels`: the model itself calls its classes down, up, in this order; hint: leave labels out, or list the same names in the same order",
        ],
    );
    check(
        &stump(|_| {}),
        r#"{"labels": ["up", "down"]}"#,
        &[
            "`labels`: 2 labels are given, and no output of the model has 2 columns; hint: list one label per score, in the order of the scores; leave labels out for a regressor",
        ],
    );
}

#[test]
fn a_manifest_source_reads_as_people_write_it() {
    let source: ManifestSource = serde_json::from_str(
        r#"{
            "model": "m", "version": "2.1.0", "description": "d", "labels": [0, true, "up"], "feature_version": 3,
            "features": ["a", {"name": "b", "min": -1, "max": 1.5}, {"name": "c"}],
            "scope": {"symbols": ["EURUSD"], "timeframe": "1h"}, "metrics": {"accuracy": 0.54}, "accepts_missing": true
        }"#,
    )
    .unwrap();
    let labels: Vec<&str> = source.labels.iter().map(|label| label.0.as_str()).collect();
    assert_eq!(labels, ["0", "true", "up"]);
    assert_eq!(source.feature_version, Some(Scalar("3".to_owned())));
    let [a, b, c] = source.features.as_slice() else { panic!("{:?}", source.features) };
    assert_eq!((a.0.name.as_str(), a.0.min), ("a", None));
    assert_eq!((b.0.min, b.0.max), (Some(-1.0), Some(1.5)));
    assert_eq!(c.0.name, "c");

    let check = |text: &str, want: &str| {
        let error = serde_json::from_str::<ManifestSource>(text).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    };
    check(r#"{"lables": []}"#, "unknown field `lables`, expected one of `model`, `version`");
    check(
        r#"{"features": [{"name": "a", "mim": 1}]}"#,
        "unknown field `mim`, expected one of `name`, `min`, `max`",
    );
    check(r#"{"features": [7]}"#, "expected a feature's name, or its name, min and max");
}

/// What becomes of a model: the engine with the names of inputs, outputs and features, or the error.
fn outcome(model: &pb::ModelProto) -> String {
    let options = ImportOptions {
        model: Some("m".to_owned()),
        version: Some("1.0.0".to_owned()),
        ..ImportOptions::default()
    };
    let limits = &options.limits;
    match OnnxModel::parse(&model.encode_to_vec(), limits) {
        Ok(parsed) => {
            let packaged = import(&model.encode_to_vec(), &ManifestSource::default(), &options);
            let operators: Vec<&str> = parsed.nodes.iter().map(|node| node.operator.as_str()).collect();
            let outputs: Vec<&str> = parsed.outputs.iter().map(|output| output.name.as_str()).collect();
            let problem = packaged.err().map(|error| format!(": {error}")).unwrap_or_default();
            format!("{operators:?} {outputs:?} {:?}{problem}", parsed.columns)
        }
        Err(error) => error.to_string(),
    }
}

#[test]
fn functions_take_the_place_of_their_calls() {
    let function = |name: &str, nodes: Vec<pb::NodeProto>| pb::FunctionProto {
        name: Some(name.to_owned()),
        domain: "local".to_owned(),
        input: vec!["x".to_owned()],
        output: vec!["y".to_owned()],
        attribute: vec!["alpha".to_owned()],
        node: nodes,
        ..Default::default()
    };
    let call = |name: &str, inputs: &[&str], outputs: &[&str], attributes| pb::NodeProto {
        domain: "local".to_owned(),
        ..node(name, inputs, outputs, attributes)
    };
    let check = |functions: Vec<pb::FunctionProto>, attributes, want: &str| {
        let mut model = model(vec![call("f", &["X"], &["Y"], attributes)]);
        model.functions = functions;
        let found = outcome(&model);
        assert!(found.starts_with(want), "{found}");
    };
    let doubled =
        function("f", vec![node("Add", &["x", "x"], &["t"], vec![]), node("Relu", &["t"], &["y"], vec![])]);
    check(vec![doubled], vec![], "[\"Add\", \"Relu\"] [\"Y\"] []");
    let nested = function("f", vec![call("g", &["x"], &["t"], vec![]), call("g", &["t"], &["y"], vec![])]);
    let inner = function("g", vec![node("Relu", &["x"], &["y"], vec![])]);
    check(vec![nested, inner.clone()], vec![], "[\"Relu\", \"Relu\"] [\"Y\"] []");
    let circle = function("f", vec![call("f", &["x"], &["y"], vec![])]);
    check(vec![circle], vec![], "the ONNX file is malformed: function `f` calls itself");
    let plain = pb::FunctionProto { name: Some("f".to_owned()), ..inner };
    check(
        vec![plain],
        vec![floats("beta", &[1.0])],
        "the ONNX file is malformed: function `f` has no attribute `beta`",
    );
}

#[test]
fn functions_may_be_of_another_version_than_the_model() {
    // Axes are an attribute up to opset 12; the model is newer.
    let old = pb::FunctionProto {
        name: Some("f".to_owned()),
        domain: "local".to_owned(),
        input: vec!["x".to_owned()],
        output: vec!["y".to_owned()],
        node: vec![node("ReduceSum", &["x"], &["y"], vec![ints("axes", &[1])])],
        opset_import: vec![pb::OperatorSetIdProto { domain: String::new(), version: 11 }],
        ..Default::default()
    };
    let call = pb::NodeProto { domain: "local".to_owned(), ..node("f", &["X"], &["t"], vec![]) };
    let mut model = model(vec![call, node("ReduceSum", &["t", "axis"], &["Y"], vec![])]);
    model.functions = vec![old];
    model.graph.as_mut().unwrap().initializer.push(pb::TensorProto {
        name: "axis".to_owned(),
        dims: vec![1],
        data_type: 7,
        int64_data: vec![1],
        ..Default::default()
    });
    let parsed = onnx::OnnxModel::parse(&model.encode_to_vec(), &ImportLimits::default()).unwrap();
    let found: Vec<_> = parsed.nodes.iter().map(|node| (node.domain.as_str(), node.opset)).collect();
    assert_eq!((found, parsed.newest_opset("ai.onnx")), (vec![("ai.onnx", 11), ("ai.onnx", 15)], Some(15)));
    run(&model, &ManifestSource::default()).unwrap();
    // Too new for this program, though the model is not.
    model.functions[0].opset_import[0].version = 999;
    let problem = run(&model, &ManifestSource::default()).unwrap_err().to_string();
    assert!(problem.contains("ai.onnx opset 999"), "{problem}");
}

#[test]
fn a_model_may_take_nothing() {
    let mut constant = model(vec![node("Constant", &[], &["Y"], vec![floats("value_floats", &[1.5, 2.0])])]);
    constant.graph.as_mut().unwrap().input.clear();
    let package = run(&constant, &ManifestSource::default()).unwrap();
    let Signature { inputs, outputs } = &package.manifest().signature;
    assert_eq!((inputs.len(), outputs[0].shape.as_slice()), (0, &[2][..]));
    package.graph_plan().unwrap();
}
