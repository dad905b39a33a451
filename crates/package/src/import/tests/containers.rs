//! Maps and sequences, as the tensors that stand for them.

use super::super::*;
use super::{int, model, node, outcome, pb, run, text, texts};
use crate::Datatype;

/// A model whose input `X` is a map from keys to values of these types, read by one `CastMap`.
fn cast_map(key: i32, element: i32, attributes: Vec<pb::AttributeProto>) -> pb::ModelProto {
    let reader =
        pb::NodeProto { domain: "ai.onnx.ml".to_owned(), ..node("CastMap", &["X"], &["Y"], attributes) };
    let mut model = model(vec![reader]);
    let held = pb::type_proto::Tensor { elem_type: element, shape: None };
    let map = pb::type_proto::Map {
        key_type: key,
        value_type: Some(pb::type_proto::Held { tensor_type: Some(held) }),
    };
    model.graph.as_mut().unwrap().input[0].r#type =
        Some(pb::TypeProto { value: Some(pb::type_proto::Value::MapType(map)) });
    model
}

#[test]
fn a_map_that_is_cast_is_a_tensor_with_a_column_for_each_key() {
    let check = |element: i32, attributes: &[pb::AttributeProto], want: (Datatype, i64), cast: Datatype| {
        let package = run(&cast_map(7, element, attributes.to_vec()), &ManifestSource::default()).unwrap();
        let Signature { inputs, outputs } = &package.manifest().signature;
        let form = |spec: &crate::TensorSpec| (spec.datatype, spec.shape.clone());
        assert_eq!(form(&inputs[0]), (want.0, vec![-1, want.1]), "{attributes:?}");
        assert_eq!(form(&outputs[0]), (cast, vec![-1, want.1]), "{attributes:?}");
    };
    let to = |name: &str| text("cast_to", name);
    let (numbers, texts) = ((Datatype::Fp32, -1), (Datatype::Bytes, -1));
    check(1, &[], numbers, Datatype::Fp32);
    check(1, &[to("TO_FLOAT"), text("map_form", "DENSE")], numbers, Datatype::Fp32);
    check(1, &[to("TO_INT64")], numbers, Datatype::Int64);
    check(8, &[to("TO_FLOAT")], texts, Datatype::Fp32);
    check(8, &[to("TO_INT64")], texts, Datatype::Int64);
    check(8, &[to("TO_STRING")], texts, Datatype::Bytes);
    // The width of a dense map is its number of keys, whatever else is said.
    check(1, &[int("max_map", 5)], numbers, Datatype::Fp32);
    let sparse = || text("map_form", "SPARSE");
    check(1, &[sparse(), int("max_map", 5)], (Datatype::Fp32, 5), Datatype::Fp32);
    check(8, &[sparse(), to("TO_STRING")], (Datatype::Bytes, 1), Datatype::Bytes);
}

#[test]
fn a_map_that_cannot_be_cast_is_refused() {
    let check = |key: i32, element: i32, attributes: Vec<pb::AttributeProto>| {
        let error = run(&cast_map(key, element, attributes), &ManifestSource::default()).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("give the columns as tensors, and export the model from there on"), "{error}");
    };
    check(7, 1, vec![text("cast_to", "TO_STRING")]);
    check(7, 1, vec![text("cast_to", "TO_DOUBLE")]);
    check(7, 1, vec![text("map_form", "LOOSE")]);
    check(7, 1, vec![text("map_form", "SPARSE"), int("max_map", 0)]);
    check(7, 1, vec![int("more", 1)]);
    check(8, 1, vec![]);
}

#[test]
fn maps_are_columns_and_sequences_are_outputs() {
    let vectorizer = pb::NodeProto {
        domain: "ai.onnx.ml".to_owned(),
        ..node("DictVectorizer", &["X"], &["Y"], vec![texts("string_vocabulary", &["depth", "price"])])
    };
    let mut dictionary = model(vec![vectorizer]);
    let held =
        pb::type_proto::Held { tensor_type: Some(pb::type_proto::Tensor { elem_type: 1, shape: None }) };
    let map = pb::type_proto::Map { key_type: 8, value_type: Some(held) };
    dictionary.graph.as_mut().unwrap().input[0].r#type =
        Some(pb::TypeProto { value: Some(pb::type_proto::Value::MapType(map)) });
    assert_eq!(outcome(&dictionary), "[\"Identity\"] [\"Y\"] [\"depth\", \"price\"]");

    let sequence =
        vec![node("Relu", &["X"], &["r"], vec![]), node("SequenceConstruct", &["r", "X"], &["S"], vec![])];
    let want = "[\"Relu\", \"Identity\", \"Identity\"] [\"S.0\", \"S.1\"] []";
    assert_eq!(outcome(&model(sequence)), want);
}
