//! Categories and columns chosen.

use std::collections::BTreeMap;

use super::{EXPORT_AGAIN, choose, work};
use crate::operator::required;
use crate::{Build, Data, Element, Kernel, Kind, Numbers, Problem, Tensor};

/// The columns of the last axis at these indices. A tensor of one axis becomes a row.
pub(super) fn array_feature_extractor(_: &Build<'_>) -> Result<Kernel, Problem> {
    Ok(Box::new(|operands, meter| {
        let x = required(operands, 0)?;
        let indices = required(operands, 1)?.integers()?;
        let Some((&columns, outer)) = x.shape().split_last() else {
            return Err(Problem::invalid("there are no columns in a scalar"));
        };
        let indices = indices
            .iter()
            .map(|&index| {
                usize::try_from(index).ok().filter(|&index| index < columns).ok_or_else(|| {
                    Problem::invalid(format!("index {index} is outside of the {columns} columns"))
                })
            })
            .collect::<Result<Vec<usize>, Problem>>()?;
        let mut shape = if outer.is_empty() { vec![1] } else { outer.to_vec() };
        shape.push(indices.len());
        let count = meter.room(&shape, crate::meter::PLACE)?;
        let mut places = Vec::with_capacity(count);
        for row in 0..crate::shape::elements(outer).unwrap_or(0) {
            places.extend(indices.iter().map(|index| row * columns + index));
        }
        Ok(vec![choose(x.data(), &shape, &places, meter)?])
    }))
}

/// Texts to integers or back. Of a category that is listed twice, the last one counts.
pub(super) fn category_mapper(build: &Build<'_>) -> Result<Kernel, Problem> {
    let a = &build.attributes;
    let texts = a.texts("cats_strings")?.unwrap_or_default().to_vec();
    let integers = a.ints("cats_int64s")?.unwrap_or_default().to_vec();
    if texts.len() != integers.len() {
        let message = format!("there are {} integers and {} texts", integers.len(), texts.len());
        return Err(Problem::attribute("cats_int64s", message, EXPORT_AGAIN));
    }
    let of_text = index(&texts);
    let of_integer = index(&integers);
    let count = texts.len();
    // The default stands behind the categories.
    let mut texts = texts;
    texts.push(a.text_or("default_string", "_Unused")?.to_owned());
    let mut integers = integers;
    integers.push(a.int_or("default_int64", -1)?);
    let (texts, integers) = (Data::Text(texts), Data::I64(integers));
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        meter.room(x.shape(), crate::meter::PLACE)?;
        let (values, places) = match x.kind() {
            Kind::Text => (&integers, places(x.elements::<String>()?, &of_text, count)),
            _ => (&texts, places(&x.integers()?, &of_integer, count)),
        };
        Ok(vec![choose(values, x.shape(), &places, meter)?])
    }))
}

/// A 1 in the column of the category. Numbers are cut to integers; texts are none of the integers, and the other way round.
pub(super) fn one_hot_encoder(build: &Build<'_>) -> Result<Kernel, Problem> {
    let a = &build.attributes;
    let texts = a.texts("cats_strings")?.unwrap_or_default();
    let integers = a.ints("cats_int64s")?.unwrap_or_default();
    let unknown_is_zeros = a.flag("zeros", true)?;
    if texts.is_empty() == integers.is_empty() {
        return Err(Problem::attribute(
            "cats_int64s",
            "expected integers or texts as categories",
            EXPORT_AGAIN,
        ));
    }
    let (of_text, of_integer) = (index(texts), index(integers));
    let categories = texts.len().max(integers.len());
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        let mut shape = x.shape().to_vec();
        shape.push(categories);
        let mut y = vec![0.0_f32; meter.room(&shape, size_of::<f32>())?];
        work(meter, x.len(), 1)?;
        let places = match x.data() {
            Data::Text(all) => places(all, &of_text, categories),
            _ => {
                let whole: Vec<i64> = match x.numbers()? {
                    Numbers::F32(all) => all.iter().map(|&x| whole(f64::from(x))).collect(),
                    Numbers::F64(all) => all.iter().map(|&x| whole(x)).collect(),
                    _ => x.integers()?,
                };
                places(&whole, &of_integer, categories)
            }
        };
        for (row, (place, number)) in y.chunks_exact_mut(categories).zip(places.into_iter().zip(0..)) {
            match row.get_mut(place) {
                Some(one) => *one = 1.0,
                None if unknown_is_zeros => {}
                None => {
                    return Err(Problem::invalid(format!("element {number} is none of the categories")));
                }
            }
        }
        Ok(vec![Tensor::of(shape, y)?])
    }))
}

/// Without the fraction. What does not fit, NaN too, becomes the smallest integer, as on the processors that onnxruntime runs on.
fn whole(x: f64) -> i64 {
    if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&x) { x as i64 } else { i64::MIN }
}

fn index<T: Ord + Clone>(categories: &[T]) -> BTreeMap<T, usize> {
    categories.iter().cloned().zip(0..).collect()
}

fn places<T: Element + Ord>(elements: &[T], index: &BTreeMap<T, usize>, unknown: usize) -> Vec<usize> {
    elements.iter().map(|element| index.get(element).copied().unwrap_or(unknown)).collect()
}
