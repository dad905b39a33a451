//! What is refused, and in which words. What is imported is compared with onnxruntime's answers where plans run.

use prost::Message as _;
use tract_onnx::pb;

use super::super::ImportLimits;
use super::super::onnx::OnnxModel;
use super::{ImportedGraph, import_graph, operators};
use crate::import::Refusal;

fn ints(name: &str, values: &[i64]) -> pb::AttributeProto {
    let ints = pb::attribute_proto::AttributeType::Ints.into();
    pb::AttributeProto { name: name.to_owned(), r#type: ints, ints: values.to_vec(), ..Default::default() }
}

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
        ..Default::default()
    });
    let shape = Some(pb::TensorShapeProto { dim: dim.collect() });
    let tensor = pb::type_proto::Tensor { elem_type: element, shape };
    let r#type =
        pb::TypeProto { value: Some(pb::type_proto::Value::TensorType(tensor)), ..Default::default() };
    pb::ValueInfoProto { name: name.to_owned(), r#type: Some(r#type), ..Default::default() }
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
    import_graph(&OnnxModel::parse(&model.encode_to_vec(), &ImportLimits::default()).unwrap())
}

fn check(nodes: Vec<pb::NodeProto>, expected: &[&str]) {
    let refusals = import_with(17, nodes, vec![value("x", 1, &[-1, 6, 4])], vec![]).unwrap_err();
    let messages: Vec<String> = refusals.iter().map(Refusal::to_string).collect();
    assert_eq!(messages, expected);
}

fn check_node(operator: &str, inputs: &[&str], attributes: &[pb::AttributeProto], expected: &str) {
    check(vec![node(operator, inputs, &["y"], attributes)], &[expected]);
}

#[test]
fn recurrent_layers_name_what_they_do_not_have() {
    let lstm = |attributes: &[pb::AttributeProto], expected: &str| {
        check_node("LSTM", &["x", "w4", "r4"], attributes, expected);
    };
    lstm(
        &[float("clip", 3.0)],
        "attribute `clip` of operator `LSTM` (node `the_lstm`, ai.onnx opset 17): clipping of the gates (3) is not supported; \
         hint: export without a cell clip; Keras and PyTorch layers have none",
    );
    lstm(
        &[int("input_forget", 1)],
        "attribute `input_forget` of operator `LSTM` (node `the_lstm`, ai.onnx opset 17): coupled input and forget gates are \
         not supported; hint: export an LSTM with separate input and forget gates",
    );
    lstm(
        &[texts("activations", &["Sigmoid", "Softsign", "Tanh"])],
        "attribute `activations` of operator `LSTM` (node `the_lstm`, ai.onnx opset 17): the function `Softsign` is not \
         supported; hint: supported are Sigmoid, Tanh, Relu and HardSigmoid",
    );
    lstm(
        &[text("direction", "sideways")],
        "attribute `direction` of operator `LSTM` (node `the_lstm`, ai.onnx opset 17): expected forward, reverse or \
         bidirectional, found `sideways`; hint: check the file with onnx.checker.check_model",
    );
    lstm(
        &[int("hidden_size", 5)],
        "attribute `hidden_size` of operator `LSTM` (node `the_lstm`, ai.onnx opset 17): it says 5, the recurrent weights \
         have 3; hint: check the file with onnx.checker.check_model",
    );
    lstm(
        &[int("output_sequence", 1)],
        "attribute `output_sequence` of operator `LSTM` (node `the_lstm`, ai.onnx opset 17): this attribute is not \
         supported; hint: export without it, or leave it at its default where the exporter can omit it",
    );
    check_node(
        "LSTM",
        &["x", "w4", "r4", "", "", "", "", "p"],
        &[],
        "operator `LSTM` (node `the_lstm`, ai.onnx opset 17): peephole weights (input 7, `P`) are not supported; hint: \
         export an LSTM without peepholes; Keras and PyTorch layers have none",
    );
    check_node(
        "GRU",
        &["x", "w3", "r3", "", "lens"],
        &[],
        "operator `GRU` (node `the_gru`, ai.onnx opset 17): sequences of differing lengths (input 4, `sequence_lens`) are \
         not supported; hint: export without masking or packed sequences, with sequences of one length",
    );
    check_node(
        "RNN",
        &["x", "w1", "x"],
        &[],
        "operator `RNN` (node `the_rnn`, ai.onnx opset 17): input 2 (recurrent weights `R`) is computed at run time, \
         expected a constant; hint: export with constant folding, and with weights stored in the file",
    );
}

#[test]
fn other_operators_name_node_attribute_and_a_way_out() {
    check_node(
        "Scan",
        &["x"],
        &[],
        "operator `Scan` (node `the_scan`, ai.onnx opset 17): this operator is not supported; hint: export without control \
         flow: give the exporter a fixed sequence length, or use the LSTM, GRU or RNN operator",
    );
    check_node(
        "Pad",
        &["x", "lens"],
        &[text("mode", "reflect")],
        "attribute `mode` of operator `Pad` (node `the_pad`, ai.onnx opset 17): mode `reflect` is not supported; hint: pad \
         with a constant",
    );
    check_node(
        "MaxPool",
        &["x"],
        &[ints("kernel_shape", &[2]), ints("strides", &[3]), int("ceil_mode", 1)],
        "attribute `ceil_mode` of operator `MaxPool` (node `the_maxpool`, ai.onnx opset 17): windows that reach beyond the \
         padding are not supported; hint: export with ceil_mode=0, or with lengths that the stride divides",
    );
    check_node(
        "Conv",
        &["x", "kernel"],
        &[ints("pads", &[1])],
        "attribute `pads` of operator `Conv` (node `the_conv`, ai.onnx opset 17): expected 2 numbers of at least zero, found \
         [1]; hint: check the file with onnx.checker.check_model",
    );
    check_node(
        "Cast",
        &["x"],
        &[int("to", 10)],
        "attribute `to` of operator `Cast` (node `the_cast`, ai.onnx opset 17): casts to float16 are not supported; hint: \
         export the model in FP32",
    );
    check_node(
        "Softmax",
        &["x"],
        &[int("axis", 3)],
        "attribute `axis` of operator `Softmax` (node `the_softmax`, ai.onnx opset 17): axis 3 is outside of the 3 axes",
    );
}

#[test]
fn every_refusal_is_listed_once() {
    let nodes = vec![
        node("Det", &["x"], &["a"], &[]),
        node("Relu", &["a"], &["b"], &[]),
        node("LSTM", &["x", "w4", "r4"], &["c"], &[float("clip", 1.0)]),
        node("Add", &["b", "c"], &["y"], &[]),
    ];
    let refusals = import_with(17, nodes, vec![value("x", 1, &[-1, 6, 4])], vec![]).unwrap_err();
    let names: Vec<&str> = refusals.iter().map(|refusal| refusal.node.as_str()).collect();
    assert_eq!(names, ["the_det", "the_lstm"]);
}

#[test]
fn shapes_that_do_not_fit_are_explained() {
    let check = |node: pb::NodeProto, expected: &str| {
        let constants = vec![integers("seven", &[7, -1]), integers("first", &[0]), floats("row", &[5])];
        let refusals = import_with(17, vec![node], vec![value("x", 1, &[-1, 6, 4])], constants).unwrap_err();
        assert_eq!(refusals.iter().map(Refusal::to_string).collect::<Vec<_>>(), [expected]);
    };
    check(
        node("Reshape", &["x", "seven"], &["y"], &[]),
        "operator `Reshape` (node `the_reshape`, ai.onnx opset 17): FP32 [batch, 6, 4] does not divide into the shape \
         [7, -1]; hint: export with constant shapes apart from the batch, and with constant folding",
    );
    check(
        node("Squeeze", &["x", "first"], &["y"], &[]),
        "operator `Squeeze` (node `the_squeeze`, ai.onnx opset 17): axis 0 of FP32 [batch, 6, 4] is not of length 1; hint: \
         squeeze axes of length 1 only; do not squeeze the batch",
    );
    check(
        node("Add", &["x", "row"], &["y"], &[]),
        "operator `Add` (node `the_add`, ai.onnx opset 17): [batch, 6, 4] and [5] do not broadcast; hint: check the shapes \
         with onnx.shape_inference, and export with fixed dimensions other than the batch",
    );
}

#[test]
fn inputs_need_a_shape_and_a_datatype() {
    let refusals = import_with(
        17,
        vec![node("Identity", &["x"], &["y"], &[])],
        vec![value("x", 10, &[-1, 4]), pb::ValueInfoProto { name: "z".to_owned(), ..Default::default() }],
        vec![],
    );
    let messages: Vec<String> = refusals.unwrap_err().iter().map(Refusal::to_string).collect();
    assert_eq!(
        messages,
        [
            "input `x` is float16, which is not supported; hint: export with FP32 inputs",
            "input `z` is no tensor, which is not supported; hint: export with FP32 inputs",
        ]
    );
}

#[test]
fn unknown_operator_sets_are_refused() {
    let relu = || vec![node("Relu", &["x"], &["y"], &[])];
    let refusals = import_with(6, relu(), vec![value("x", 1, &[-1, 4])], vec![]).unwrap_err();
    assert_eq!(
        refusals[0].to_string(),
        "operator `Relu` (node `the_relu`, ai.onnx opset 6): operator sets 7 to 25 are supported; hint: export with opset 7"
    );
    assert!(import_with(25, relu(), vec![value("x", 1, &[-1, 4])], vec![]).is_ok());
}

#[test]
fn the_table_of_operators_is_sorted() {
    let names: Vec<&str> = operators().collect();
    assert!(names.is_sorted_by(|a, b| a.to_lowercase() < b.to_lowercase()), "{names:?}");
}
