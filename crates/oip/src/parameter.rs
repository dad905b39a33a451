use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

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
            Self::Number(value) => format!("the number {value}"),
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

impl<'de> Deserialize<'de> for Parameter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ParameterVisitor;
        impl<'de> Visitor<'de> for ParameterVisitor {
            type Value = Parameter;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a number, a boolean, or an array of these with one element per row")
            }

            fn visit_unit<E>(self) -> Result<Parameter, E> {
                Ok(Parameter::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Parameter, E> {
                Ok(Parameter::Boolean(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Parameter, E> {
                Ok(Parameter::Integer(value))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Parameter, E> {
                // Above the range of i64 a number keeps its magnitude, not every digit.
                #[expect(clippy::cast_precision_loss, reason = "said above")]
                Ok(i64::try_from(value).map_or(Parameter::Number(value as f64), Parameter::Integer))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Parameter, E> {
                Ok(Parameter::Number(value))
            }

            fn visit_str<E>(self, value: &str) -> Result<Parameter, E> {
                Ok(Parameter::Text(value.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Parameter, A::Error> {
                let mut list = Vec::new();
                while let Some(element) = elements.next_element()? {
                    if matches!(element, Parameter::List(_)) {
                        return Err(A::Error::custom(
                            "an array in a parameter's array; expected scalars, one per row",
                        ));
                    }
                    list.push(element);
                }
                Ok(Parameter::List(list))
            }
        }
        deserializer.deserialize_any(ParameterVisitor)
    }
}
