use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// The `parameters` of a request.
pub type Parameters = BTreeMap<String, Parameter>;

/// The value of one parameter.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Parameter {
    /// `null`, which is treated like an absent parameter; in an array, a row without a value.
    Null,
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Number(f64),
    /// A string.
    Text(String),
    /// One scalar per row of the batch: an addition to the protocol.
    List(Vec<Parameter>),
}

impl Parameter {
    /// What it is, for error messages.
    pub fn describe(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Boolean(value) => format!("the boolean {value}"),
            Self::Integer(value) => format!("the number {value}"),
            // As JSON writes it.
            Self::Number(value) => format!("the number {}", serde_json::to_string(value).unwrap_or_default()),
            Self::Text(value) => format!("the string \"{}\"", crate::error::excerpt(value)),
            Self::List(values) => format!("an array of length {}", values.len()),
        }
    }
}

impl From<&str> for Parameter {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<bool> for Parameter {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

/// From JSON only. Numbers are read from their text, so that each is the nearest FP64: serde_json's own reading is off by a bit now and then,
/// or carries tables of its own.
impl<'de> Deserialize<'de> for Parameter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        read(raw.get(), true).map_err(D::Error::custom)
    }
}

fn read(text: &str, may_be_list: bool) -> Result<Parameter, String> {
    let text_error = |error: serde_json::Error| error.to_string();
    match text.as_bytes().first() {
        Some(b'n') => Ok(Parameter::Null),
        Some(b't') => Ok(Parameter::Boolean(true)),
        Some(b'f') => Ok(Parameter::Boolean(false)),
        Some(b'"') => serde_json::from_slice(text.as_bytes()).map(Parameter::Text).map_err(text_error),
        Some(b'[') if may_be_list => {
            let elements: Vec<&RawValue> = serde_json::from_slice(text.as_bytes()).map_err(text_error)?;
            let elements = elements.into_iter().map(|element| read(element.get(), false));
            elements.collect::<Result<_, _>>().map(Parameter::List)
        }
        Some(b'[') => {
            Err("an array in a parameter's array; expected scalars, one per row".to_owned())
        }
        Some(b'{') | None => Err("invalid type: map, expected a string, a number, a boolean, or an array of these with one element per row".to_owned()),
        Some(_) => number(text),
    }
}

fn number(text: &str) -> Result<Parameter, String> {
    if let Ok(integer) = text.parse::<i64>()
        && text != "-0"
    {
        return Ok(Parameter::Integer(integer));
    }
    // Beyond the range of i64 a number keeps its magnitude, not every digit.
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(Parameter::Number(number)),
        _ => Err("number out of range".to_owned()),
    }
}
