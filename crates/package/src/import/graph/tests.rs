//! What is refused, and in which words. What is imported is compared with onnxruntime's answers where plans run.

use super::super::onnx::OnnxModel;
use super::super::{ImportLimits, pb};
use super::{ImportedGraph, import_graph};
use crate::import::Refusal;
use prost::Message as _;

mod automata;

fn int(name: &str, value: i64) -> pb::AttributeProto {
    let int = pb::attribute_proto::AttributeType::Int.into();
    pb::AttributeProto { name: name.to_owned(), r#type: int, i: value, ..Default::default() }
}

fn float(name: &str, value: f32) -> pb::AttributeProto {
    let float = pb::attribute_proto::AttributeType::Float.into();
    pb::AttributeProto { name: name.to_owned(), r#type: float, f: value, ..Default::default() }
}

fn text(name: &str, value: &str) -> pb::AttributeProto {
    let string = pb::attribute_proto::AttributeType::String.into();
    pb::AttributeProto {
        name: name.to_owned(),
        r#type: string,
        s: value.as_bytes().to_vec(),
        ..Default::default()
    }
}

fn texts(name: &str, values: &[&str]) -> pb::AttributeProto {
    let strings = pb::attribute_proto::AttributeType::Strings.into();
    let values = values.iter().map(|value| value.as_bytes().to_vec()).collect();
    pb::AttributeProto { name: name.to_owned(), r#type: strings, strings: values, ..Default::default() }
}

fn node(
    operator: &str,
    inputs: &[&str],
    outputs: &[&str],
    attributes: &[pb::AttributeProto],
) -> pb::NodeProto {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    pb::NodeProto {
        name: format!("the_{}", operator.to_lowercase()),
        op_type: operator.to_owned(),
        input: owned(inputs),
        output: owned(outputs),
        attribute: attributes.to_vec(),
        ..Default::default()
    }
}

fn floats(name: &str, dims: &[i64]) -> pb::TensorProto {
    let count: i64 = dims.iter().product();
    let values = (0..count).map(|i| i as f32 * 0.01).collect();
    pb::TensorProto {
        name: name.to_owned(),
        dims: dims.to_vec(),
        data_type: 1,
        float_data: values,
        ..Default::default()
    }
}

fn integers(name: &str, values: &[i64]) -> pb::TensorProto {
    let dims = vec![i64::try_from(values.len()).unwrap()];
    pb::TensorProto {
        name: name.to_owned(),
        dims,
        data_type: 7,
        int64_data: values.to_vec(),
        ..Default::default()
    }
}

fn value(name: &str, element: i32, dims: &[i64]) -> pb::ValueInfoProto {
    use pb::tensor_shape_proto::{Dimension, dimension};
    let dim = dims.iter().map(|&dim| Dimension {
        value: Some(if dim < 0 {
            dimension::Value::DimParam(format!("d{}", -dim))
        } else {
            dimension::Value::DimValue(dim)
        }),
    });
    let shape = Some(pb::TensorShapeProto { dim: dim.collect() });
    let tensor = pb::type_proto::Tensor { elem_type: element, shape };
    let r#type = pb::TypeProto { value: Some(pb::type_proto::Value::TensorType(tensor)) };
    pb::ValueInfoProto { name: name.to_owned(), r#type: Some(r#type) }
}

/// A model with the input `x` `[batch, 6, 4]`, weights for recurrent layers of 3 units, and the output `y`.
fn import_with(
    opset: i64,
    nodes: Vec<pb::NodeProto>,
    inputs: Vec<pb::ValueInfoProto>,
    mut initializer: Vec<pb::TensorProto>,
) -> Result<ImportedGraph, Vec<Refusal>> {
    for gates in [1, 3, 4] {
        initializer.push(floats(&format!("w{gates}"), &[1, gates * 3, 4]));
        initializer.push(floats(&format!("r{gates}"), &[1, gates * 3, 3]));
    }
    initializer.push(floats("p", &[1, 9]));
    initializer.push(floats("kernel", &[2, 6, 3]));
    initializer.push(integers("lens", &[6, 5]));
    let graph = pb::GraphProto {
        name: "graph".to_owned(),
        node: nodes,
        input: inputs,
        output: vec![value("y", 1, &[-1])],
        initializer,
        ..Default::default()
    };
    let model = pb::ModelProto {
        ir_version: 8,
        opset_import: vec![pb::OperatorSetIdProto { domain: String::new(), version: opset }],
        graph: Some(graph),
        ..Default::default()
    };
    let limits = ImportLimits::default();
    import_graph(&OnnxModel::parse(&model.encode_to_vec(), &limits).unwrap(), &limits)
}

#[test]
fn refusals_name_node_attribute_and_a_way_out() {
    let check_part = |operator: &str,
                      inputs: &[&str],
                      attributes: &[pb::AttributeProto],
                      attribute: Option<&str>,
                      part: &str| {
        let nodes = vec![node(operator, inputs, &["y"], attributes)];
        let refusals = import_with(17, nodes, vec![value("x", 1, &[-1, 6, 4])], vec![]).unwrap_err();
        let [refusal] = refusals.as_slice() else { panic!("{refusals:?}") };
        assert_eq!(refusal.node, format!("the_{}", operator.to_lowercase()));
        assert_eq!(refusal.attribute.as_deref(), attribute, "{refusal}");
        assert!(refusal.message.contains(part) && !refusal.hint.is_empty(), "{refusal}");
    };
    check_part(
        "LSTM",
        &["x", "w4", "r4"],
        &[texts("activations", &["Sigmoid", "Sinus", "Tanh"])],
        Some("activations"),
        "Sinus",
    );
    check_part("LSTM", &["x", "w4", "r4"], &[text("direction", "sideways")], Some("direction"), "sideways");
    check_part(
        "LSTM",
        &["x", "w4", "r4"],
        &[int("output_sequence", 1)],
        Some("output_sequence"),
        "not supported",
    );
    check_part("Pad", &["x", "lens"], &[text("mode", "mirror")], Some("mode"), "mirror");
    check_part("Cast", &["x"], &[int("to", 14)], Some("to"), "");
    check_part("Sharpen", &["x"], &[], None, "not supported");
    check_part("RandomNormalLike", &["x"], &[], None, "not supported");
}

#[test]
fn every_refusal_is_listed_once() {
    let nodes = vec![
        node("Sharpen", &["x"], &["a"], &[]),
        node("Relu", &["a"], &["b"], &[]),
        node("LSTM", &["x", "w4", "r4"], &["c"], &[float("clap", 1.0)]),
        node("Add", &["b", "c"], &["y"], &[]),
    ];
    let refusals = import_with(17, nodes, vec![value("x", 1, &[-1, 6, 4])], vec![]).unwrap_err();
    let names: Vec<&str> = refusals.iter().map(|refusal| refusal.node.as_str()).collect();
    assert_eq!(names, ["the_sharpen", "the_lstm"]);
}

#[test]
fn what_no_output_needs_is_left_out() {
    let nodes = vec![node("Sharpen", &["x"], &["a"], &[]), node("Relu", &["x"], &["y"], &[])];
    let graph = import_with(17, nodes, vec![value("x", 1, &[-1, 6, 4])], vec![]).unwrap();
    let operators: Vec<&str> = graph.plan.graph.nodes.iter().map(|node| node.operator.as_str()).collect();
    assert_eq!(operators, ["Relu"]);
    assert!(graph.arrays.is_empty());
}

#[test]
fn what_depends_on_no_request_is_computed_once() {
    let constants = vec![floats("a", &[4]), floats("b", &[4])];
    let nodes = vec![node("Add", &["a", "b"], &["c"], &[]), node("Mul", &["x", "c"], &["y"], &[])];
    let graph = import_with(17, nodes, vec![value("x", 1, &[-1, 6, 4])], constants).unwrap();
    assert_eq!(graph.plan.graph.nodes.len(), 1);
    let [array] = graph.arrays.as_slice() else { panic!("{} arrays", graph.arrays.len()) };
    assert_eq!(array.as_chunks::<4>().0[3], 0.06_f32.to_le_bytes());
}

#[test]
fn shapes_that_do_not_fit_are_explained() {
    let check = |node: pb::NodeProto, part: &str| {
        let constants = vec![integers("seven", &[7, -1]), integers("first", &[0]), floats("row", &[5])];
        let refusals = import_with(17, vec![node], vec![value("x", 1, &[-1, 6, 4])], constants).unwrap_err();
        let [refusal] = refusals.as_slice() else { panic!("{refusals:?}") };
        assert!(refusal.message.contains(part) && !refusal.hint.is_empty(), "{refusal}");
    };
    check(node("Reshape", &["x", "seven"], &["y"], &[]), "7");
    check(node("Add", &["x", "row"], &["y"], &[]), "lengths 4 and 5 do not go together");
    // It would fit one row alone.
    check(node("Squeeze", &["x", "first"], &["y"], &[]), "with 2 rows in place of one");
}

#[test]
fn inputs_need_a_shape_and_a_datatype() {
    let nodes = vec![node("Identity", &["x"], &["y"], &[])];
    let inputs =
        vec![value("x", 14, &[-1, 4]), pb::ValueInfoProto { name: "z".to_owned(), ..Default::default() }];
    let messages: Vec<String> =
        import_with(17, nodes, inputs, vec![]).unwrap_err().iter().map(Refusal::to_string).collect();
    assert_eq!(messages.len(), 3, "{messages:?}");
    assert!(
        messages[0].starts_with("input `x` is element type 14, which a request cannot hold"),
        "{messages:?}"
    );
    assert!(messages[1].starts_with("input `z` is no tensor"), "{messages:?}");
    assert!(messages[2].starts_with("input `z` does not declare its shape"), "{messages:?}");
}

#[test]
fn newer_operator_sets_are_refused() {
    let relu = || vec![node("Relu", &["x"], &["y"], &[])];
    let refusals = import_with(29, relu(), vec![value("x", 1, &[-1, 4])], vec![]).unwrap_err();
    assert!(refusals[0].message.contains("opset 29") && refusals[0].message.contains("28"), "{refusals:?}");
    assert!(import_with(28, relu(), vec![value("x", 1, &[-1, 4])], vec![]).is_ok());
    assert!(import_with(7, relu(), vec![value("x", 1, &[-1, 4])], vec![]).is_ok());
}

/// `Loop` around the input: its body reads a value of the graph around it.
#[test]
fn graphs_inside_of_nodes_read_what_is_around_them() {
    let body = pb::GraphProto {
        name: "body".to_owned(),
        node: vec![
            node("Identity", &["going"], &["go_on"], &[]),
            node("Add", &["sum", "step"], &["more"], &[]),
        ],
        input: vec![value("round", 7, &[]), value("going", 9, &[]), value("sum", 1, &[-1, 4])],
        output: vec![value("go_on", 9, &[]), value("more", 1, &[-1, 4])],
        ..Default::default()
    };
    let attribute = pb::AttributeProto {
        name: "body".to_owned(),
        r#type: pb::attribute_proto::AttributeType::Graph.into(),
        g: Some(body),
        ..Default::default()
    };
    let nodes = vec![
        node("Mul", &["x", "step"], &["scaled"], &[]),
        node("Loop", &["trips", "", "scaled"], &["y"], &[attribute]),
    ];
    let mut trips = integers("trips", &[3]);
    trips.dims = vec![];
    let graph =
        import_with(17, nodes, vec![value("x", 1, &[-1, 4])], vec![trips, floats("step", &[4])]).unwrap();
    assert_eq!(graph.outputs[0].shape, [-1, 4]);
    let arrays = graph.plan.arrays.len();
    assert_eq!(arrays, 2, "the step is held once");
}
