//! Recorded tensors: JSON with every number in its shortest digits, and `NaN` and the infinities as texts.

use lockgate_package::{Datatype, Tensor};
use serde_json::Value;

pub(crate) fn tensors(json: &Value) -> Vec<Tensor> {
    json.as_array().unwrap().iter().map(tensor).collect()
}

fn tensor(json: &Value) -> Tensor {
    let datatype: Datatype = json["datatype"].as_str().unwrap().parse().unwrap();
    let bytes = |value: &Value| match datatype {
        // The shortest digits of a single-precision number are read as one.
        Datatype::Fp32 => match value {
            Value::Number(digits) => digits.to_string().parse::<f32>().unwrap(),
            value => number(value) as f32,
        }
        .to_le_bytes()
        .to_vec(),
        Datatype::Fp64 => number(value).to_le_bytes().to_vec(),
        Datatype::Int64 => value.as_i64().unwrap().to_le_bytes().to_vec(),
        Datatype::Bytes => {
            let text = value.as_str().unwrap();
            [&(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
        }
        other => panic!("no case uses {other}"),
    };
    Tensor {
        name: json["name"].as_str().unwrap().to_owned(),
        datatype,
        shape: json["shape"].as_array().unwrap().iter().map(|dim| dim.as_i64().unwrap()).collect(),
        data: json["data"].as_array().unwrap().iter().flat_map(bytes).collect(),
    }
}

fn number(value: &Value) -> f64 {
    match value.as_str() {
        Some("NaN") => f64::NAN,
        Some("Infinity") => f64::INFINITY,
        Some("-Infinity") => f64::NEG_INFINITY,
        _ => value.as_f64().unwrap(),
    }
}

/// The numbers of a tensor that has a tolerance; nothing of one that is compared bit for bit.
pub(crate) fn numbers(tensor: &Tensor) -> Option<Vec<f64>> {
    match tensor.datatype {
        Datatype::Fp32 => Some(tensor.to_fp32()?.into_iter().map(f64::from).collect()),
        Datatype::Fp64 => {
            Some(tensor.data.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect())
        }
        _ => None,
    }
}

/// Whether a number is within a tolerance, relative to expected numbers greater than 1.
pub(crate) fn is_close(found: f64, want: f64, tolerance: f64) -> bool {
    found == want
        || (found.is_nan() && want.is_nan())
        || (found - want).abs() <= tolerance * want.abs().max(1.0)
}
