//! The elements of a tensor as JSON.
//!
//! Data arrays are most of a body, so they are read from their text straight into the tensor's bytes. The text has
//! passed a JSON parser before: the scanner relies on it being well formed for its meaning, never for its safety.

use std::borrow::Cow;
use std::fmt::Display;
use std::str::FromStr;

use half::f16;
use lockgate_package::{Datatype, TensorView};

use crate::Error;
use crate::error::excerpt;

const NOT_FINITE: &str = "write NaN and the infinities as the strings \"NaN\", \"Infinity\", \"-Infinity\"";

/// The elements in `text`, a JSON array, as the little-endian bytes of a tensor.
pub(crate) fn read(name: &str, datatype: Datatype, shape: &[i64], text: &str) -> Result<Vec<u8>, Error> {
    let count = element_count(name, shape)?;
    let mut scanner = Scanner { text, at: 0 };
    if scanner.next() != Some(Token::Open) {
        return Err(Error::tensor(name, format!("`data` is {}, expected an array", excerpt(text))));
    }
    // An element takes two characters at least, so a wild shape reserves no more than the text deserves.
    let mut bytes = Vec::with_capacity(count.min(text.len() / 2 + 1) * datatype.size().unwrap_or(4));
    let mut structure = Structure { open: vec![0], leaf_depth: None };
    let mut found = 0_usize;
    while let Some(token) = scanner.next() {
        match token {
            Token::Open => structure.open(name, shape)?,
            Token::Close => structure.close(name, shape)?,
            Token::Scalar(scalar) => {
                structure.leaf(name, shape)?;
                if found < count {
                    push(name, datatype, found, scalar, &mut bytes)?;
                }
                found += 1;
            }
        }
    }
    if found != count {
        return Err(Error::tensor(
            name,
            format!("`data` has {found} elements, shape {shape:?} needs {count}"),
        ));
    }
    Ok(bytes)
}

/// The most dimensions that a tensor may have: no model takes as many, and errors show all of them.
const MOST_DIMENSIONS: usize = 64;

/// How many elements a shape has.
pub(crate) fn element_count(name: &str, shape: &[i64]) -> Result<usize, Error> {
    if shape.len() > MOST_DIMENSIONS {
        let found = shape.len();
        let problem = format!("its shape has {found} dimensions, at most {MOST_DIMENSIONS} are taken");
        return Err(Error::tensor(name, problem));
    }
    if let Some(dim) = shape.iter().find(|dim| **dim < 0) {
        return Err(Error::tensor(name, format!("shape {shape:?} has the negative dimension {dim}")));
    }
    let view = TensorView { name, datatype: Datatype::Bool, shape, data: &[] };
    view.element_count()
        .filter(|count| count.checked_mul(8).is_some_and(|size| isize::try_from(size).is_ok()))
        .ok_or_else(|| Error::tensor(name, format!("shape {shape:?} has more elements than memory can hold")))
}

/// Whether nested arrays have the tensor's shape. Flat data have one level whatever the shape.
struct Structure {
    /// How many elements each open array has had so far.
    open: Vec<usize>,
    /// The level on which the first scalar stood.
    leaf_depth: Option<usize>,
}

impl Structure {
    fn open(&mut self, name: &str, shape: &[i64]) -> Result<(), Error> {
        if self.leaf_depth.is_some_and(|depth| self.open.len() >= depth) || self.open.len() >= shape.len() {
            return Err(Self::wrong(name, shape));
        }
        if let Some(count) = self.open.last_mut() {
            *count += 1;
        }
        self.open.push(0);
        Ok(())
    }

    fn leaf(&mut self, name: &str, shape: &[i64]) -> Result<(), Error> {
        let depth = self.open.len();
        let allowed = depth == 1 || depth == shape.len();
        if !allowed || *self.leaf_depth.get_or_insert(depth) != depth {
            return Err(Self::wrong(name, shape));
        }
        if let Some(count) = self.open.last_mut() {
            *count += 1;
        }
        Ok(())
    }

    fn close(&mut self, name: &str, shape: &[i64]) -> Result<(), Error> {
        let level = self.open.len().saturating_sub(1);
        let Some(count) = self.open.pop() else { return Ok(()) };
        let nested = level > 0 || self.leaf_depth.is_none_or(|depth| depth > 1);
        let dim = shape.get(level).and_then(|&dim| usize::try_from(dim).ok());
        // An empty outer array is right for any shape without elements.
        if nested && dim != Some(count) && !(level == 0 && count == 0) {
            return Err(Self::wrong(name, shape));
        }
        Ok(())
    }

    fn wrong(name: &str, shape: &[i64]) -> Error {
        Error::tensor(
            name,
            format!(
                "the nesting of `data` does not match shape {shape:?}; expected a flat array or arrays of that shape"
            ),
        )
    }
}

fn push(
    name: &str,
    datatype: Datatype,
    index: usize,
    scalar: Scalar<'_>,
    bytes: &mut Vec<u8>,
) -> Result<(), Error> {
    let wrong = |expected: &str, hint| {
        let problem = format!("element {index} is {scalar}, expected {expected}");
        Err(Error::Tensor { tensor: name.to_owned(), problem, hint })
    };
    macro_rules! integer {
        ($type:ty) => {{
            match scalar.integer::<$type>() {
                Some(value) => bytes.extend_from_slice(&value.to_le_bytes()),
                None => {
                    let expected =
                        format!("{datatype}, a whole number from {} to {}", <$type>::MIN, <$type>::MAX);
                    return wrong(&expected, None);
                }
            }
        }};
    }
    macro_rules! float {
        ($value:expr, $max:expr) => {{
            match $value {
                Some(value) => bytes.extend_from_slice(&value.to_le_bytes()),
                None => {
                    let expected = format!("{datatype}, a number from -{} to {}", $max, $max);
                    let hint = (!matches!(scalar, Scalar::Number(_))).then_some(NOT_FINITE);
                    return wrong(&expected, hint);
                }
            }
        }};
    }
    match datatype {
        Datatype::Bool => match scalar {
            Scalar::Boolean(value) => bytes.push(u8::from(value)),
            _ => return wrong("BOOL, true or false", None),
        },
        Datatype::Uint8 => integer!(u8),
        Datatype::Uint16 => integer!(u16),
        Datatype::Uint32 => integer!(u32),
        Datatype::Uint64 => integer!(u64),
        Datatype::Int8 => integer!(i8),
        Datatype::Int16 => integer!(i16),
        Datatype::Int32 => integer!(i32),
        Datatype::Int64 => integer!(i64),
        Datatype::Fp16 => float!(scalar.fp16(), "65504"),
        Datatype::Fp32 => {
            float!(scalar.float::<f32>(f32::is_finite, [f32::NAN, f32::INFINITY]), "3.4028235e38");
        }
        Datatype::Fp64 => {
            float!(scalar.float::<f64>(f64::is_finite, [f64::NAN, f64::INFINITY]), "1.7976931348623157e308");
        }
        Datatype::Bytes => match scalar.text() {
            Some(text) => {
                let Ok(len) = u32::try_from(text.len()) else {
                    return Err(Error::tensor(name, format!("element {index} is longer than 4 GiB")));
                };
                bytes.extend_from_slice(&len.to_le_bytes());
                bytes.extend_from_slice(text.as_bytes());
            }
            None => return wrong("BYTES, a string", None),
        },
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq)]
enum Scalar<'a> {
    Null,
    Boolean(bool),
    /// The number as it was written.
    Number(&'a str),
    /// The string as it was written, quotes included.
    Text(&'a str),
}

impl<'a> Scalar<'a> {
    /// A whole number, also when it is written as `3.0` or `3e2`, as many encoders do.
    fn integer<T: FromStr + TryFrom<i64>>(self) -> Option<T> {
        const EXACT: f64 = 9_007_199_254_740_992.0;
        let Self::Number(text) = self else { return None };
        if let Ok(value) = text.parse::<T>() {
            return Some(value);
        }
        let value = text.parse::<f64>().ok()?;
        #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
        let whole = (value.trunc() == value && value.abs() <= EXACT).then_some(value as i64)?;
        T::try_from(whole).ok()
    }

    fn float<T: FromStr + std::ops::Neg<Output = T> + Copy>(
        self,
        is_finite: fn(T) -> bool,
        [nan, infinity]: [T; 2],
    ) -> Option<T> {
        match self {
            Self::Number(text) => text.parse().ok().filter(|value| is_finite(*value)),
            Self::Text("\"NaN\"") => Some(nan),
            Self::Text("\"Infinity\"") => Some(infinity),
            Self::Text("\"-Infinity\"") => Some(-infinity),
            _ => None,
        }
    }

    fn fp16(self) -> Option<f16> {
        let value = self.float::<f64>(f64::is_finite, [f64::NAN, f64::INFINITY])?;
        let half = f16::from_f64(value);
        (half.is_finite() == value.is_finite()).then_some(half)
    }

    fn text(self) -> Option<Cow<'a, str>> {
        let Self::Text(quoted) = self else { return None };
        let inner = quoted.strip_prefix('"')?.strip_suffix('"')?;
        if inner.contains('\\') {
            return serde_json::from_slice(quoted.as_bytes()).ok().map(Cow::Owned);
        }
        Some(Cow::Borrowed(inner))
    }
}

impl Display for Scalar<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Number(text) => f.write_str(&excerpt(text)),
            Self::Text(text) => write!(f, "the string {}", excerpt(text)),
        }
    }
}

#[derive(PartialEq)]
enum Token<'a> {
    Open,
    Close,
    Scalar(Scalar<'a>),
}

/// Splits well-formed JSON into brackets and scalars. Objects come out as scalars that no datatype accepts.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn next(&mut self) -> Option<Token<'a>> {
        let bytes = self.text.as_bytes();
        while bytes
            .get(self.at)
            .is_some_and(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b',' | b':'))
        {
            self.at += 1;
        }
        let start = self.at;
        let first = *bytes.get(start)?;
        self.at += 1;
        match first {
            b'[' => return Some(Token::Open),
            b']' => return Some(Token::Close),
            b'"' => {
                while let Some(&byte) = bytes.get(self.at) {
                    self.at += if byte == b'\\' { 2 } else { 1 };
                    if byte == b'"' {
                        break;
                    }
                }
            }
            _ => {
                while bytes.get(self.at).is_some_and(|byte| {
                    !matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b',' | b']' | b'[' | b'"')
                }) {
                    self.at += 1;
                }
            }
        }
        let written = self.text.get(start..self.at).unwrap_or_default();
        Some(Token::Scalar(match first {
            b'"' => Scalar::Text(written),
            b't' => Scalar::Boolean(true),
            b'f' => Scalar::Boolean(false),
            b'n' => Scalar::Null,
            _ => Scalar::Number(written),
        }))
    }
}

/// Appends the elements of `tensor` as a flat JSON array.
pub(crate) fn write(tensor: TensorView<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    out.push(b'[');
    match tensor.datatype {
        Datatype::Bool => elements::<1>(tensor, out, |[byte], out| {
            out.extend_from_slice(if byte == 0 { b"false" } else { b"true" });
        }),
        Datatype::Uint8 => elements(tensor, out, |bytes, out| number(u8::from_le_bytes(bytes), out)),
        Datatype::Uint16 => elements(tensor, out, |bytes, out| number(u16::from_le_bytes(bytes), out)),
        Datatype::Uint32 => elements(tensor, out, |bytes, out| number(u32::from_le_bytes(bytes), out)),
        Datatype::Uint64 => elements(tensor, out, |bytes, out| number(u64::from_le_bytes(bytes), out)),
        Datatype::Int8 => elements(tensor, out, |bytes, out| number(i8::from_le_bytes(bytes), out)),
        Datatype::Int16 => elements(tensor, out, |bytes, out| number(i16::from_le_bytes(bytes), out)),
        Datatype::Int32 => elements(tensor, out, |bytes, out| number(i32::from_le_bytes(bytes), out)),
        Datatype::Int64 => elements(tensor, out, |bytes, out| number(i64::from_le_bytes(bytes), out)),
        Datatype::Fp16 => elements(tensor, out, |bytes, out| {
            let value = f16::from_le_bytes(bytes).to_f32();
            if !not_finite(f64::from(value), out) {
                number(value, out);
            }
        }),
        Datatype::Fp32 => elements(tensor, out, |bytes, out| {
            let value = f32::from_le_bytes(bytes);
            if !not_finite(f64::from(value), out) {
                number(value, out);
            }
        }),
        Datatype::Fp64 => elements(tensor, out, |bytes, out| {
            let value = f64::from_le_bytes(bytes);
            if !not_finite(value, out) {
                number(value, out);
            }
        }),
        Datatype::Bytes => strings(tensor, out)?,
    }
    out.push(b']');
    Ok(())
}

fn elements<const SIZE: usize>(
    tensor: TensorView<'_>,
    out: &mut Vec<u8>,
    one: impl Fn([u8; SIZE], &mut Vec<u8>),
) {
    for (index, bytes) in tensor.data.as_chunks::<SIZE>().0.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        one(*bytes, out);
    }
}

/// The shortest decimal that reads back as the same value of the same type.
fn number<T: serde::Serialize>(value: T, out: &mut Vec<u8>) {
    // Writing a number into a vector cannot fail.
    let _ = serde_json::to_writer(out, &value);
}

fn not_finite(value: f64, out: &mut Vec<u8>) -> bool {
    let text: &[u8] = if value.is_nan() {
        b"\"NaN\""
    } else if value == f64::INFINITY {
        b"\"Infinity\""
    } else if value == f64::NEG_INFINITY {
        b"\"-Infinity\""
    } else {
        return false;
    };
    out.extend_from_slice(text);
    true
}

fn strings(tensor: TensorView<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    for (index, element) in crate::binary::byte_strings(tensor.data).enumerate() {
        let element = element
            .ok_or_else(|| Error::tensor(tensor.name, format!("element {index} ends beyond the data")))?;
        let text = str::from_utf8(element).map_err(|_| {
            Error::tensor_with_hint(
                tensor.name,
                format!("element {index} is not UTF-8, so JSON cannot carry it"),
                "ask for this output with `binary_data: true`",
            )
        })?;
        if index > 0 {
            out.push(b',');
        }
        let _ = serde_json::to_writer(&mut *out, text);
    }
    Ok(())
}
