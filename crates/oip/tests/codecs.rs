//! The codecs seen from outside: what is read, what is refused and in which words, and that nothing is lost on the way.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use lockgate_oip::{
    InferRequest, InferResponse, MAX_DEPTH, Parameter, RequestedOutput, decode_request, decode_response,
    encode_request, encode_response, request_id,
};
use lockgate_package::{Datatype, Tensor};
use proptest::prelude::*;

fn decode(json: &str) -> Result<InferRequest, lockgate_oip::Error> {
    decode_request(json.as_bytes(), None)
}

/// The bytes of the one input with this datatype, shape and data.
fn data(datatype: &str, shape: &str, data: &str) -> Result<Vec<u8>, String> {
    let body =
        format!(r#"{{"inputs":[{{"name":"x","data":{data},"shape":{shape},"datatype":"{datatype}"}}]}}"#);
    decode(&body).map(|mut request| request.inputs.remove(0).data).map_err(|error| error.to_string())
}

/// The JSON array that an output with these bytes becomes.
fn written(datatype: Datatype, data: Vec<u8>) -> String {
    let count = match datatype.size() {
        Some(size) => data.len() / size,
        None => Tensor { name: String::new(), datatype, shape: vec![], data: data.clone() }
            .to_byte_strings()
            .unwrap()
            .len(),
    };
    let shape = vec![i64::try_from(count).unwrap()];
    let output = Tensor { name: "y".to_owned(), datatype, shape, data };
    let response: InferResponse =
        InferResponse { model_name: "m".to_owned(), outputs: vec![output], ..Default::default() };
    let body = encode_response(&response, |_| false).unwrap();
    let text = String::from_utf8(body.bytes).unwrap();
    let from = text.find("\"data\":").unwrap() + 7;
    text[from..text.len() - 3].to_owned()
}

#[test]
fn every_datatype_is_read() {
    assert_eq!(data("BOOL", "[2]", "[true,false]").unwrap(), [1, 0]);
    assert_eq!(data("UINT8", "[2]", "[0,255]").unwrap(), [0, 255]);
    assert_eq!(data("INT8", "[2]", "[-128, 127]").unwrap(), [128, 127]);
    assert_eq!(data("UINT16", "[1]", "[65535]").unwrap(), [255, 255]);
    assert_eq!(data("INT16", "[1]", "[-2]").unwrap(), [254, 255]);
    assert_eq!(data("UINT32", "[1]", "[4294967295]").unwrap(), [255; 4]);
    assert_eq!(data("INT32", "[1]", "[-1]").unwrap(), [255; 4]);
    assert_eq!(data("UINT64", "[1]", "[18446744073709551615]").unwrap(), [255; 8]);
    assert_eq!(data("INT64", "[1]", "[-9223372036854775808]").unwrap(), i64::MIN.to_le_bytes());
    assert_eq!(
        data("INT64", "[2]", "[3.0, 4e2]").unwrap(),
        [3_i64.to_le_bytes(), 400_i64.to_le_bytes()].concat()
    );
    assert_eq!(data("FP16", "[2]", "[1.5, -65504]").unwrap(), [0x00, 0x3e, 0xff, 0xfb]);
    assert_eq!(
        data("FP32", "[2]", "[0.1, -0.0]").unwrap(),
        [0.1_f32.to_le_bytes(), (-0.0_f32).to_le_bytes()].concat()
    );
    assert_eq!(data("FP64", "[1]", "[0.1]").unwrap(), 0.1_f64.to_le_bytes());
    assert_eq!(
        data("BYTES", "[3]", r#"["ab", "", "\u00e9\"\\"]"#).unwrap(),
        [&[2, 0, 0, 0][..], b"ab", &[0, 0, 0, 0], &[4, 0, 0, 0], "é\"\\".as_bytes()].concat()
    );
}

#[test]
fn values_that_are_not_finite_travel_as_strings() {
    let read = data("FP32", "[3]", r#"["NaN","Infinity","-Infinity"]"#).unwrap();
    let (values, _) = read.as_chunks::<4>();
    assert!(f32::from_le_bytes(values[0]).is_nan());
    assert_eq!(values[1], f32::INFINITY.to_le_bytes());
    assert_eq!(values[2], f32::NEG_INFINITY.to_le_bytes());
    for datatype in [Datatype::Fp16, Datatype::Fp32, Datatype::Fp64] {
        let text = r#"["NaN","Infinity","-Infinity"]"#;
        assert_eq!(written(datatype, data(datatype.name(), "[3]", text).unwrap()), text, "{datatype}");
    }
}

#[test]
fn numbers_are_written_as_short_as_their_type_allows() {
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
    assert_eq!(written(Datatype::Fp32, bytes(&[0.1, 1.0, -0.0, 16_777_216.0])), "[0.1,1.0,-0.0,16777216.0]");
    assert_eq!(written(Datatype::Fp64, 0.1_f64.to_le_bytes().to_vec()), "[0.1]");
    assert_eq!(written(Datatype::Bool, vec![1, 0]), "[true,false]");
    assert_eq!(written(Datatype::Uint64, vec![255; 8]), "[18446744073709551615]");
    assert_eq!(written(Datatype::Bytes, vec![2, 0, 0, 0, b'"', b'\n']), r#"["\"\n"]"#);
}

#[test]
fn data_may_be_flat_or_have_the_shape() {
    let flat = data("UINT8", "[2,3]", "[1,2,3,4,5,6]").unwrap();
    assert_eq!(data("UINT8", "[2,3]", "[[1,2,3],[4,5,6]]").unwrap(), flat);
    assert_eq!(data("UINT8", "[1,2,1]", "[[[1],[2]]]").unwrap(), [1, 2]);
    assert_eq!(data("UINT8", "[]", "[7]").unwrap(), [7]);
    assert_eq!(data("UINT8", "[0,3]", "[]").unwrap(), [0; 0]);
    assert_eq!(data("UINT8", "[2,0]", "[[],[]]").unwrap(), [0; 0]);
    let wrong = "tensor `x`: the nesting of `data` does not match shape [2, 3]; expected a flat array or arrays of that shape";
    for nested in [
        "[[1,2],[3,4],[5,6]]",
        "[[1,2,3],4,5,6]",
        "[1,[2,3],4,5,6]",
        "[[[1,2,3]],[[4,5,6]]]",
        "[[1,2,3,4,5,6]]",
    ] {
        assert_eq!(data("UINT8", "[2,3]", nested).unwrap_err(), wrong, "{nested}");
    }
}

#[test]
fn wrong_data_are_refused_by_element() {
    let table = [
        ("UINT8", "[1]", "[256]", "element 0 is 256, expected UINT8, a whole number from 0 to 255"),
        ("UINT8", "[2]", "[1,-1]", "element 1 is -1, expected UINT8, a whole number from 0 to 255"),
        ("INT8", "[1]", "[1.5]", "element 0 is 1.5, expected INT8, a whole number from -128 to 127"),
        (
            "INT32",
            "[1]",
            "[1e300]",
            "element 0 is 1e300, expected INT32, a whole number from -2147483648 to 2147483647",
        ),
        (
            "FP32",
            "[1]",
            "[1e39]",
            "element 0 is 1e39, expected FP32, a number from -3.4028235e38 to 3.4028235e38",
        ),
        ("FP16", "[1]", "[1e6]", "element 0 is 1e6, expected FP16, a number from -65504 to 65504"),
        (
            "FP64",
            "[1]",
            "[1e999]",
            "element 0 is 1e999, expected FP64, a number from -1.7976931348623157e308 to 1.7976931348623157e308",
        ),
        (
            "FP32",
            "[1]",
            "[null]",
            "element 0 is null, expected FP32, a number from -3.4028235e38 to 3.4028235e38",
        ),
        (
            "FP32",
            "[1]",
            r#"["nan"]"#,
            "element 0 is the string \"nan\", expected FP32, a number from -3.4028235e38 to 3.4028235e38",
        ),
        ("BOOL", "[1]", "[1]", "element 0 is 1, expected BOOL, true or false"),
        ("BYTES", "[1]", "[1]", "element 0 is 1, expected BYTES, a string"),
        ("FP32", "[2]", "[1]", "`data` has 1 elements, shape [2] needs 2"),
        ("FP32", "[1]", "[1,2]", "`data` has 2 elements, shape [1] needs 1"),
        ("FP32", "[-1]", "[1]", "shape [-1] has the negative dimension -1"),
        ("FP32", "[1]", "7", "`data` is 7, expected an array"),
        (
            "FP32",
            "[4294967296,4294967296,4294967296]",
            "[]",
            "shape [4294967296, 4294967296, 4294967296] has more elements than memory can hold",
        ),
        (
            "FP32",
            &format!("[{}1]", "1,".repeat(64)),
            "[1]",
            "its shape has 65 dimensions, at most 64 are taken",
        ),
        (
            "FP32",
            "[1152921504606846976]",
            "[1]",
            "shape [1152921504606846976] has more elements than memory can hold",
        ),
        (
            "FP8",
            "[1]",
            "[1]",
            "unknown datatype `FP8`; expected one of BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, FP32, FP64, BYTES",
        ),
    ];
    for (datatype, shape, elements, problem) in table {
        assert_eq!(data(datatype, shape, elements).unwrap_err(), format!("tensor `x`: {problem}"));
    }
}

#[test]
fn what_is_no_request_is_refused() {
    let check = |body: &str, code: &str, text: &str| {
        let error = decode(body).unwrap_err();
        assert_eq!((error.code(), error.to_string().as_str()), (code, text), "{body}");
    };
    check("", "not_json", "the body is not JSON: EOF while parsing a value at line 1 column 0");
    check("{\"inputs\":[}", "not_json", "the body is not JSON: expected value at line 1 column 12");
    check("[]", "invalid_request", "the body is not an inference request: expected an object");
    check(
        "{}",
        "invalid_request",
        "the body is not an inference request: missing field `inputs` at line 1 column 2",
    );
    check(
        r#"{"inputs":[{"name":"x","datatype":"FP32","data":[1]}]}"#,
        "invalid_request",
        "the body is not an inference request: missing field `shape` at line 1 column 52",
    );
    check(
        r#"{"inputs":[{"name":"x","shape":[1],"datatype":"FP32"}]}"#,
        "invalid_input",
        "tensor `x`: has no `data` and no `binary_data_size`",
    );
    check(
        r#"{"inputs":[{"name":"x","shape":[1],"datatype":"UINT8","data":[1]},{"name":"x","shape":[1],"datatype":"UINT8","data":[1]}]}"#,
        "invalid_input",
        "tensor `x`: is given twice",
    );
    check(
        r#"{"inputs":[],"outputs":[{"name":"y","parameters":{"classification":3}}]}"#,
        "unsupported_extension",
        "output `y`: `classification` asks for an extension that this server does not have",
    );
    check(
        r#"{"inputs":[],"parameters":{"user":{"name":"a"}}}"#,
        "invalid_request",
        "the body is not an inference request: invalid type: map, expected a string, a number, a boolean, or an array of these with one element per row at line 1 column 47",
    );
    check(
        r#"{"inputs":[],"parameters":{"binary_data_output":"yes"}}"#,
        "invalid_parameter",
        "parameter `binary_data_output`: expected true or false, found the string \"yes\"",
    );
}

#[test]
fn a_wrong_request_still_has_an_id() {
    let id = |body: &str| request_id(body.as_bytes(), None);
    assert_eq!(id(r#"{"id":"7","inputs":[{"name":1}]}"#).as_deref(), Some("7"));
    assert_eq!(id(r#"{"inputs":[]}"#), None);
    assert_eq!(id(r#"{"id":7}"#), None);
    assert_eq!(id("{"), None);
}

#[test]
fn bare_nan_is_not_json_and_the_hint_says_what_to_write() {
    for bare in ["NaN", "Infinity", "-Infinity"] {
        let error = decode(&format!(
            r#"{{"inputs":[{{"name":"x","shape":[1],"datatype":"FP32","data":[{bare}]}}]}}"#
        ))
        .unwrap_err();
        assert_eq!(error.code(), "not_json");
        assert!(error.hint().unwrap().contains("\"NaN\""), "{bare}: {error}");
    }
    assert_eq!(decode("{").unwrap_err().hint(), None);
}

#[test]
fn deep_nesting_is_refused_wherever_it_stands() {
    let deep = "[".repeat(100_000);
    let start = MAX_DEPTH - 1;
    for before in ["{\"inputs\":", "{\"inputs\":[],\"other\":", "{\"inputs\":[{\"data\":"] {
        let error = decode(&format!("{before}{deep}")).unwrap_err();
        assert_eq!(error.code(), "too_deep", "{before}");
    }
    let error = decode(&format!("{{\"a\":{deep}")).unwrap_err();
    assert_eq!(error.to_string(), format!("the JSON is nested deeper than 64 levels at byte {}", start + 5));
    // Brackets in a string nest nothing.
    assert!(decode(&format!(r#"{{"inputs":[],"id":"\"{deep}"}}"#)).is_ok());
}

#[test]
fn parameters_are_scalars_or_one_scalar_per_row() {
    let request = decode(
        r#"{"inputs":[],"id":"7","parameters":{"user":["a",null],"n":3,"big":18446744073709551615,"f":0.5,"b":true}}"#,
    )
    .unwrap();
    assert_eq!(request.id.as_deref(), Some("7"));
    assert_eq!(request.parameters["user"], Parameter::List(vec!["a".into(), Parameter::Null]));
    assert_eq!(request.parameters["n"], Parameter::Integer(3));
    assert_eq!(request.parameters["big"], Parameter::Number(18_446_744_073_709_551_615.0));
    assert_eq!(request.parameters["f"], Parameter::Number(0.5));
    assert_eq!(request.parameters["b"], Parameter::Boolean(true));
    assert!(decode(r#"{"inputs":[],"parameters":{"user":[["a"]]}}"#).is_err());
}

fn binary_body(json: &str, tail: &[u8]) -> (Vec<u8>, usize) {
    ([json.as_bytes(), tail].concat(), json.len())
}

#[test]
fn binary_tensors_follow_the_json() {
    let json = r#"{"inputs":[{"name":"a","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}},
        {"name":"j","shape":[1],"datatype":"UINT8","data":[9]},
        {"name":"b","shape":[2],"datatype":"BYTES","parameters":{"binary_data_size":9}}]}"#;
    let tail = [1.0_f32.to_le_bytes(), 2.0_f32.to_le_bytes(), [1, 0, 0, 0], [b'x', 0, 0, 0]].concat();
    let (body, len) = binary_body(json, &[&tail[..], &[0]].concat());
    let request = decode_request(&body, Some(len)).unwrap();
    assert_eq!(request.inputs[0].to_fp32().unwrap(), [1.0, 2.0]);
    assert_eq!(request.inputs[1].data, [9]);
    assert_eq!(request.inputs[2].to_byte_strings().unwrap(), [b"x".to_vec(), b"".to_vec()]);
}

#[test]
fn wrong_binary_tensors_are_refused() {
    let check = |datatype: &str, shape: &str, size: &str, tail: &[u8], header_offset: isize, text: &str| {
        let json = format!(
            r#"{{"inputs":[{{"name":"x","shape":{shape},"datatype":"{datatype}","parameters":{{"binary_data_size":{size}}}}}]}}"#
        );
        let (body, len) = binary_body(&json, tail);
        let len = len.checked_add_signed(header_offset).unwrap();
        assert_eq!(decode_request(&body, Some(len)).unwrap_err().to_string(), text);
    };
    check(
        "FP32",
        "[1]",
        "4",
        &[0; 3],
        0,
        "tensor `x`: `binary_data_size` is 4, but 3 bytes are left behind the JSON",
    );
    check(
        "FP32",
        "[2]",
        "4",
        &[0; 4],
        0,
        "tensor `x`: has 4 bytes of binary data, FP32 of shape [2] needs 8",
    );
    check(
        "FP32",
        "[1]",
        "4",
        &[0; 5],
        0,
        "1 bytes follow the last binary tensor; the sizes in `binary_data_size` do not add up to the body",
    );
    check("BOOL", "[2]", "2", &[1, 2], 0, "tensor `x`: element 1 is 2, expected BOOL, 0 or 1");
    check(
        "BYTES",
        "[1]",
        "5",
        &[9, 0, 0, 0, 1],
        0,
        "tensor `x`: element 0 ends beyond the 5 bytes of binary data",
    );
    check(
        "BYTES",
        "[2]",
        "5",
        &[1, 0, 0, 0, 1],
        0,
        "tensor `x`: has 1 elements of binary data, shape [2] needs 2",
    );
    check(
        "FP32",
        "[1]",
        "-4",
        &[0; 4],
        0,
        "parameter `binary_data_size`: expected a number of bytes, found -4",
    );
    check(
        "FP32",
        "[1]",
        "4",
        &[0; 4],
        100,
        "the header Inference-Header-Content-Length says 191, the body has 95 bytes",
    );
}

#[test]
fn outputs_say_how_they_want_to_travel() {
    let request = decode(
        r#"{"inputs":[],"parameters":{"binary_data_output":true},"outputs":[{"name":"a"},{"name":"b","parameters":{"binary_data":false}}]}"#,
    )
    .unwrap();
    assert_eq!(
        request.outputs,
        [
            RequestedOutput { name: "a".to_owned(), binary: None },
            RequestedOutput { name: "b".to_owned(), binary: Some(false) }
        ]
    );
    assert!(request.wants_binary("a") && !request.wants_binary("b"));
    assert!(!decode(r#"{"inputs":[]}"#).unwrap().wants_binary("a"));
}

#[test]
fn an_answer_has_the_protocols_fields() {
    let mut parameters = serde_json::Map::new();
    parameters.insert("variant".to_owned(), "stable".into());
    let response = InferResponse {
        model_name: "m".to_owned(),
        model_version: Some("1.0.0".to_owned()),
        id: Some("7".to_owned()),
        parameters,
        outputs: vec![Tensor::fp32("y", vec![1, 2], &[0.25, 0.75]), Tensor::fp32("z", vec![1], &[1.0])],
    };
    let body = encode_response(&response, |name| name == "z").unwrap();
    let header_length = body.header_length.unwrap();
    assert_eq!(
        str::from_utf8(&body.bytes[..header_length]).unwrap(),
        r#"{"model_name":"m","model_version":"1.0.0","id":"7","parameters":{"variant":"stable"},"outputs":[{"name":"y","datatype":"FP32","shape":[1,2],"data":[0.25,0.75]},{"name":"z","datatype":"FP32","shape":[1],"parameters":{"binary_data_size":4}}]}"#
    );
    assert_eq!(&body.bytes[header_length..], 1.0_f32.to_le_bytes());
    assert_eq!(decode_response(&body.bytes, body.header_length).unwrap(), response);
}

#[test]
fn bytes_that_are_not_text_need_a_binary_output() {
    let output = Tensor {
        name: "y".to_owned(),
        datatype: Datatype::Bytes,
        shape: vec![1],
        data: vec![1, 0, 0, 0, 0xff],
    };
    let response: InferResponse =
        InferResponse { model_name: "m".to_owned(), outputs: vec![output], ..Default::default() };
    let error = encode_response(&response, |_| false).unwrap_err();
    assert_eq!(error.to_string(), "tensor `y`: element 0 is not UTF-8, so JSON cannot carry it");
    assert_eq!(error.hint(), Some("ask for this output with `binary_data: true`"));
    assert!(encode_response(&response, |_| true).is_ok());
}

fn tensors() -> impl Strategy<Value = Tensor> {
    (0..Datatype::ALL.len(), prop::collection::vec(any::<u8>(), 0..64), prop::collection::vec(".*", 0..4))
        .prop_map(|(datatype, mut data, texts)| {
            let datatype = Datatype::ALL[datatype];
            let count = match datatype.size() {
                Some(size) => {
                    data.truncate(data.len() / size * size);
                    if datatype == Datatype::Bool {
                        data.iter_mut().for_each(|byte| *byte &= 1);
                    }
                    data.len() / size
                }
                None => {
                    data.clear();
                    for text in &texts {
                        data.extend_from_slice(&u32::try_from(text.len()).unwrap().to_le_bytes());
                        data.extend_from_slice(text.as_bytes());
                    }
                    texts.len()
                }
            };
            Tensor { name: "t".to_owned(), datatype, shape: vec![i64::try_from(count).unwrap(), 1], data }
        })
}

/// NaN has many bit patterns and one spelling.
fn same(a: &Tensor, b: &Tensor) -> bool {
    let nan = |tensor: &Tensor, index: usize| match tensor.datatype {
        Datatype::Fp16 => tensor
            .data
            .as_chunks::<2>()
            .0
            .get(index)
            .is_some_and(|bytes| half::f16::from_le_bytes(*bytes).is_nan()),
        Datatype::Fp32 => {
            tensor.data.as_chunks::<4>().0.get(index).is_some_and(|bytes| f32::from_le_bytes(*bytes).is_nan())
        }
        Datatype::Fp64 => {
            tensor.data.as_chunks::<8>().0.get(index).is_some_and(|bytes| f64::from_le_bytes(*bytes).is_nan())
        }
        _ => false,
    };
    let size = a.datatype.size().unwrap_or(1);
    (&a.name, a.datatype, &a.shape, a.data.len()) == (&b.name, b.datatype, &b.shape, b.data.len())
        && (0..a.data.len()).all(|at| a.data[at] == b.data[at] || (nan(a, at / size) && nan(b, at / size)))
}

proptest! {
    #[test]
    fn tensors_survive_both_forms(tensor in tensors(), as_binary: bool) {
        let request = InferRequest { inputs: vec![tensor.clone()], ..Default::default() };
        let body = encode_request(&request, as_binary).unwrap();
        let back = decode_request(&body.bytes, body.header_length).unwrap();
        prop_assert!(same(&back.inputs[0], &tensor), "{:?} became {:?}", tensor, back.inputs[0]);
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), header_length in prop::option::of(0_usize..300)) {
        let _ = decode_request(&bytes, header_length);
        let _ = decode_response(&bytes, header_length);
    }

    #[test]
    fn no_damaged_request_makes_a_decoder_panic(at in 0_usize..200, byte: u8, cut in 0_usize..400, as_binary: bool) {
        let request = InferRequest {
            id: Some("id".to_owned()),
            inputs: vec![Tensor::fp32("a", vec![2, 2], &[1.0, f32::NAN, 0.5, -3.0])],
            outputs: vec![RequestedOutput { name: "y".to_owned(), binary: Some(true) }],
            ..Default::default()
        };
        let mut body = encode_request(&request, as_binary).unwrap();
        if let Some(target) = body.bytes.get_mut(at) {
            *target = byte;
        }
        body.bytes.truncate(cut);
        let _ = decode_request(&body.bytes, body.header_length);
    }

    #[test]
    fn no_data_text_makes_the_scanner_panic(text in r#"[\[\]"\\{}:,0-9.eE+\-ntf é]{0,40}"#) {
        let _ = data("FP32", "[2,2]", &text);
        let _ = data("BYTES", "[2,2]", &text);
    }
}
