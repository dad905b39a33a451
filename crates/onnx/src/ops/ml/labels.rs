//! `LabelEncoder`: a table of keys and values.

use std::collections::BTreeMap;

use super::{EXPORT_AGAIN, choose};
use crate::operator::required;
use crate::{Attributes, Build, Data, Element, Kernel, Kind, Numbers, Problem, Tensor};

/// A key, such that equal numbers of all kinds are equal keys.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Text(String),
    Integer(i64),
    /// The bits of a double; those of one zero and one NaN.
    Float(u64),
}

impl Key {
    fn float(x: f64) -> Self {
        Self::Float(if x == 0.0 {
            0
        } else if x.is_nan() {
            f64::NAN.to_bits()
        } else {
            x.to_bits()
        })
    }
}

/// Texts to their places in a list and back.
pub(super) fn first_label_encoder(build: &Build<'_>) -> Result<Kernel, Problem> {
    let a = &build.attributes;
    let classes = a.texts("classes_strings")?.unwrap_or_default();
    let default = a.text_or("default_string", "_Unused")?.to_owned();
    let unknown = a.int_or("default_int64", -1)?;
    let mut places: Vec<i64> = (0_i64..).take(classes.len()).collect();
    let of_text: BTreeMap<String, usize> = classes.iter().cloned().zip(0..).collect();
    let count = classes.len();
    places.push(unknown);
    let texts = Data::Text(classes.iter().cloned().chain([default]).collect());
    let places = Data::I64(places);
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        meter.room(x.shape(), crate::meter::PLACE)?;
        let (values, at): (_, Vec<usize>) = if let Data::Text(all) = x.data() {
            (&places, all.iter().map(|text| of_text.get(text).copied().unwrap_or(count)).collect())
        } else {
            let all = x.integers()?;
            let place = |&index: &i64| usize::try_from(index).map_or(count, |index| index.min(count));
            (&texts, all.iter().map(place).collect())
        };
        Ok(vec![choose(values, x.shape(), &at, meter)?])
    }))
}

/// Keys to values. Of a key that is listed twice, the first one counts. NaN is a key like others from opset 4 on, before it is never found.
pub(super) fn label_encoder(build: &Build<'_>) -> Result<Kernel, Problem> {
    let a = &build.attributes;
    let keys = list(a, "keys")?;
    let values = list(a, "values")?;
    if keys.len() != values.len() {
        let message = format!("there are {} keys and {} values", keys.len(), values.len());
        return Err(Problem::attribute("keys_tensor", message, EXPORT_AGAIN));
    }
    let mut table = BTreeMap::new();
    for (key, place) in keys_of(&keys)?.into_iter().zip(0_usize..) {
        table.entry(key).or_insert(place);
    }
    if build.opset < 4 {
        table.remove(&Key::float(f64::NAN));
    }
    let count = values.len();
    let values = with_default(a, &values)?;
    let kind = keys.kind();
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        if x.kind() != kind {
            return Err(Problem::invalid(format!("expected keys of the kind {kind}, found {}", x.kind())));
        }
        meter.room(x.shape(), Kind::Text.size() + crate::meter::PLACE)?;
        let places: Vec<usize> =
            keys_of(x)?.iter().map(|key| table.get(key).copied().unwrap_or(count)).collect();
        Ok(vec![choose(&values, x.shape(), &places, meter)?])
    }))
}

/// The one list that is given.
fn list(a: &Attributes<'_>, what: &str) -> Result<Tensor, Problem> {
    let lists = [
        a.texts(&format!("{what}_strings"))?.map(|all| Tensor::vector(all.to_vec())),
        a.ints(&format!("{what}_int64s"))?.map(|all| Tensor::vector(all.to_vec())),
        a.floats(&format!("{what}_floats"))?.map(|all| Tensor::vector(all.to_vec())),
        a.tensor(&format!("{what}_tensor"))?.cloned(),
    ];
    let mut given = lists.into_iter().flatten();
    match (given.next(), given.next()) {
        (Some(list), None) => Ok(list),
        (None, _) => Err(Problem::attribute(what, format!("there are no {what}"), EXPORT_AGAIN)),
        (Some(_), Some(_)) => {
            Err(Problem::attribute(what, format!("there are {what} of two kinds"), EXPORT_AGAIN))
        }
    }
}

fn keys_of(x: &Tensor) -> Result<Vec<Key>, Problem> {
    if let Data::Text(all) = x.data() {
        return Ok(all.iter().cloned().map(Key::Text).collect());
    }
    Ok(match x.numbers()? {
        Numbers::F32(all) => all.iter().map(|&x| Key::float(f64::from(x))).collect(),
        Numbers::F64(all) => all.iter().map(|&x| Key::float(x)).collect(),
        Numbers::I64(all) => all.iter().map(|&x| Key::Integer(x)).collect(),
        Numbers::U64(_) => x.integers()?.into_iter().map(Key::Integer).collect(),
    })
}

/// The values, and behind them what stands for unknown keys. The defaults of other kinds of values mean nothing.
fn with_default(a: &Attributes<'_>, values: &Tensor) -> Result<Data, Problem> {
    let text = a.text_or("default_string", "_Unused")?;
    let integer = a.int_or("default_int64", -1)?;
    let float = a.float_or("default_float", -0.0)?;
    if let Some(default) = a.tensor("default_tensor")? {
        if default.kind() != values.kind() || default.len() != 1 {
            let message =
                format!("expected one {}, found {} {}", values.kind(), default.len(), default.kind());
            return Err(Problem::attribute("default_tensor", message, EXPORT_AGAIN));
        }
        let mut all = values.kind().zeros(values.len().saturating_add(1));
        all.put(values.data(), (0..values.len()).map(|place| (place, place)))?;
        all.put(default.data(), std::iter::once((values.len(), 0)))?;
        return Ok(all);
    }
    fn extended<T: Element>(all: &[T], last: T) -> Data {
        T::data(all.iter().cloned().chain([last]).collect())
    }
    Ok(match values.data() {
        Data::Text(all) => extended(all, text.to_owned()),
        Data::I64(all) => extended(all, integer),
        Data::F32(all) => extended(all, float),
        Data::F64(all) => extended(all, f64::from(float)),
        Data::I32(all) => extended(all, i32::try_from(integer).unwrap_or(-1)),
        Data::I16(all) => extended(all, i16::try_from(integer).unwrap_or(-1)),
        other => {
            let message = format!("values of the kind {} are not supported", other.kind());
            return Err(Problem::attribute("values_tensor", message, EXPORT_AGAIN));
        }
    })
}
