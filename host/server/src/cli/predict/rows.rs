//! Rows of a CSV file as inputs of a model.
//!
//! A column belongs to a feature, or to an input of one column, by its name in the header; without a header, by its place. Texts are
//! taken as they stand, everything else without the blanks around it.

use std::borrow::Cow;

use csv::StringRecord;
use lockgate_package::{Datatype, Manifest, TensorSpec};
use serde_json::{Value, json};

/// The inputs of a request, as JSON.
///
/// # Errors
/// A text that says what does not fit, and where.
pub(super) fn inputs(text: &str, manifest: &Manifest) -> Result<Value, String> {
    let inputs = &manifest.signature.inputs;
    let columns = Columns::of(manifest)?;
    let text = if columns.count == Some(1) { with_empty_lines(text) } else { Cow::Borrowed(text) };
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
    let records: Vec<StringRecord> =
        reader.records().collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    let first = records.first().ok_or("the file is empty")?;
    let (places, rows) = match columns.header(first)? {
        Some(places) => (places, records.get(1..).unwrap_or_default()),
        None => ((0..first.len()).collect(), records.as_slice()),
    };
    let mut data: Vec<Vec<Value>> = inputs.iter().map(|_| Vec::new()).collect();
    for row in rows {
        for (index, &place) in places.iter().enumerate() {
            // A single input has all columns.
            let input = if inputs.len() == 1 { 0 } else { index };
            let (Some(spec), Some(data)) = (inputs.get(input), data.get_mut(input)) else { continue };
            let text = row.get(place).unwrap_or_default();
            let value = cell(text, spec.datatype).map_err(|expected| {
                let line = row.position().map_or(0, csv::Position::line);
                let column = columns.names.get(index).cloned().unwrap_or_else(|| (place + 1).to_string());
                format!("line {line}, column {column}: {text:?} is not {expected}")
            })?;
            data.push(value);
        }
    }
    let width = if inputs.len() == 1 { places.len() } else { 1 };
    let tensor = |(spec, data): (&TensorSpec, Vec<Value>)| {
        let shape = if spec.shape.len() == 1 { json!([rows.len()]) } else { json!([rows.len(), width]) };
        json!({ "name": spec.name, "datatype": spec.datatype, "shape": shape, "data": data })
    };
    Ok(inputs.iter().zip(data).map(tensor).collect())
}

/// What a row has.
struct Columns {
    /// One for each column, where they have some.
    names: Vec<String>,
    /// One for each column, or one for all.
    datatypes: Vec<Datatype>,
    /// How many there are, unless the model takes any number.
    count: Option<usize>,
}

impl Columns {
    fn of(manifest: &Manifest) -> Result<Self, String> {
        let inputs = &manifest.signature.inputs;
        let datatypes = inputs.iter().map(|input| input.datatype).collect();
        let [input] = inputs.as_slice() else {
            let names = inputs.iter().map(|input| input.name.clone()).collect();
            return Ok(Self { names, datatypes, count: Some(inputs.len()) });
        };
        let names = manifest.features.iter().map(|feature| feature.name.clone()).collect();
        let count = match input.shape.as_slice() {
            [_] => Some(1),
            [_, -1] => None,
            [_, columns] => Some(usize::try_from(*columns).map_err(|error| error.to_string())?),
            shape => {
                return Err(format!(
                    "input `{}` has shape {shape:?}, which no table has; write an inference request",
                    input.name
                ));
            }
        };
        Ok(Self { names, datatypes, count })
    }

    /// The places of the columns if the first line is a header; nothing if it is a row.
    fn header(&self, first: &StringRecord) -> Result<Option<Vec<usize>>, String> {
        let find = |name: &String| {
            let mut places = first.iter().enumerate().filter(|(_, cell)| cell.trim() == name);
            (places.next().map(|(place, _)| place), places.next().is_some())
        };
        let found: Vec<_> = self.names.iter().map(find).collect();
        let named = found.iter().filter(|(place, _)| place.is_some()).count();
        if let Some((name, _)) = self.names.iter().zip(&found).find(|(_, (_, is_twice))| *is_twice) {
            // A row may hold the same text twice, but hardly the names of all columns.
            if named == self.names.len() {
                return Err(format!("the header has the column {name} twice"));
            }
        }
        if named > 0 && named == self.names.len() {
            return Ok(Some(found.into_iter().filter_map(|(place, _)| place).collect()));
        }
        let has_width = self.count.is_none_or(|count| count == first.len());
        let is_row = first.iter().enumerate().all(|(index, text)| {
            let datatype = self.datatypes.get(index).or(self.datatypes.first());
            datatype.is_some_and(|&datatype| cell(text, datatype).is_ok())
        });
        if is_row && named == 0 && has_width {
            return Ok(None);
        }
        if self.names.is_empty() && has_width {
            // A header that nothing can be checked against, over as many columns as the model takes.
            return Ok(Some((0..first.len()).collect()));
        }
        let missing = self.names.iter().zip(&found).filter(|(_, (place, _))| place.is_none());
        let missing: Vec<&str> = missing.map(|(name, _)| name.as_str()).collect();
        Err(if (named > 0 || !is_row) && !missing.is_empty() {
            format!("the header lacks the columns {}", missing.join(", "))
        } else {
            let count = self.count.unwrap_or(first.len());
            format!("the first line has {} columns, the model takes {count}", first.len())
        })
    }
}

/// Empty lines as rows: of a single column they are missing values, and the reader would pass over them.
fn with_empty_lines(text: &str) -> Cow<'_, str> {
    // Quotes may hold lines of their own.
    if text.contains('"') {
        return Cow::Borrowed(text);
    }
    let text = text.trim_end_matches(['\r', '\n']);
    let lines = text.lines().map(|line| if line.trim().is_empty() { "\"\"" } else { line });
    Cow::Owned(lines.collect::<Vec<_>>().join("\n"))
}

/// A cell as JSON: numbers as they are written, truth values as 1 and 0 where numbers are asked for, missing values as NaN. What was
/// expected, where it is something else.
fn cell(text: &str, datatype: Datatype) -> Result<Value, String> {
    if datatype == Datatype::Bytes {
        return Ok(json!(text));
    }
    let text = text.trim();
    let is = |other: &str| text.eq_ignore_ascii_case(other);
    if datatype == Datatype::Bool {
        return match text {
            _ if is("true") || text == "1" => Ok(json!(true)),
            _ if is("false") || text == "0" => Ok(json!(false)),
            _ => Err("true or false".to_owned()),
        };
    }
    // As pandas writes columns of truth values, which models take as numbers.
    if is("true") || is("false") {
        return Ok(json!(i32::from(is("true"))));
    }
    if !matches!(datatype, Datatype::Fp16 | Datatype::Fp32 | Datatype::Fp64) {
        let whole = text.parse::<i64>().map(Value::from).or_else(|_| text.parse::<u64>().map(Value::from));
        // Tables of numbers are often written with a point: 3.0.
        let plain =
            || text.parse::<f64>().ok().filter(|x| x.fract() == 0.0 && x.abs() < 9_007_199_254_740_992.0);
        return whole
            .or_else(|_| plain().map(|x| Value::from(x as i64)).ok_or(()))
            .map_err(|()| format!("a whole number, which {datatype} is"));
    }
    if ["", "na", "n/a", "null", "none"].iter().any(|missing| is(missing)) {
        return Ok(json!("NaN"));
    }
    let expected = || format!("a number that {datatype} holds");
    let number = text.parse::<f64>().map_err(|_| expected())?;
    let largest = match datatype {
        Datatype::Fp16 => 65_504.0,
        Datatype::Fp32 => f64::from(f32::MAX),
        _ => f64::MAX,
    };
    let says_infinity = || text.trim_start_matches(['+', '-']).starts_with(['i', 'I']);
    if number.is_nan() {
        Ok(json!("NaN"))
    } else if number.abs() <= largest {
        Ok(text.parse::<i64>().map_or_else(|_| Value::from(number), Value::from))
    } else if says_infinity() {
        Ok(json!(if number > 0.0 { "Infinity" } else { "-Infinity" }))
    } else {
        Err(expected())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_what_the_input_takes() {
        let check = |text: &str, datatype, want: Value| {
            assert_eq!(cell(text, datatype), Ok(want), "{text} {datatype}");
        };
        check("True", Datatype::Fp32, json!(1));
        check("false", Datatype::Int64, json!(0));
        check("True", Datatype::Bool, json!(true));
        check("0", Datatype::Bool, json!(false));
        check(" True ", Datatype::Bytes, json!(" True "));
        for missing in ["", " ", "NA", "n/a", "null", "nan", "NaN"] {
            check(missing, Datatype::Fp64, json!("NaN"));
        }
        check("-inf", Datatype::Fp32, json!("-Infinity"));
        check(" 1e3 ", Datatype::Fp32, json!(1000.0));
        check("9007199254740993", Datatype::Int64, json!(9_007_199_254_740_993_i64));
        check("18446744073709551615", Datatype::Uint64, json!(u64::MAX));
        check("3.0", Datatype::Int32, json!(3));
        let refused = |text: &str, datatype, want: &str| assert_eq!(cell(text, datatype).unwrap_err(), want);
        refused("truth", Datatype::Fp32, "a number that FP32 holds");
        refused("1e39", Datatype::Fp32, "a number that FP32 holds");
        refused("1e999", Datatype::Fp64, "a number that FP64 holds");
        refused("65520", Datatype::Fp16, "a number that FP16 holds");
        refused("1.5", Datatype::Int64, "a whole number, which INT64 is");
        refused("", Datatype::Int64, "a whole number, which INT64 is");
        refused("maybe", Datatype::Bool, "true or false");
    }
}
