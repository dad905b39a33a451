//! Numbers of a row changed one by one or by what the row holds.

use lockgate_onnx_ml::dense;

use super::{EXPORT_AGAIN, matrix, singles};
use crate::operator::required;
use crate::{Build, Data, Kernel, Numbers, Problem, Tensor};

/// The constant for each element: always the same, or one per column, over and over.
fn by_column<'c, T: Copy>(
    x: &Tensor,
    constants: &'c [T],
) -> Result<impl Iterator<Item = T> + use<'c, T>, Problem> {
    let columns = x.shape().get(1).or(x.shape().first()).copied().unwrap_or(1);
    if constants.len() == 1 || (x.rank() <= 2 && constants.len() == columns) {
        return Ok(constants.iter().copied().cycle());
    }
    let message =
        format!("the model has constants for {} columns, found the shape {:?}", constants.len(), x.shape());
    Err(Problem::invalid(message))
}

/// x > threshold; of NaN 0.
pub(super) fn binarizer(build: &Build<'_>) -> Result<Kernel, Problem> {
    let threshold = build.attributes.float_or("threshold", 0.0)?;
    let wide = f64::from(threshold);
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        meter.room(x.shape(), x.kind().size())?;
        let y = match x.numbers()? {
            Numbers::F32(all) => {
                Numbers::F32(all.iter().map(|&x| f32::from(u8::from(x > threshold))).collect())
            }
            Numbers::F64(all) => Numbers::F64(all.iter().map(|&x| f64::from(u8::from(x > wide))).collect()),
            Numbers::I64(all) => Numbers::I64(all.iter().map(|&x| i64::from(x as f64 > wide)).collect()),
            Numbers::U64(all) => Numbers::U64(all.iter().map(|&x| u64::from(x as f64 > wide)).collect()),
        };
        Ok(vec![Tensor::new(x.shape(), y.narrow(x.kind()))?])
    }))
}

/// Inputs side by side, each cut or filled up with zeros to its declared width.
pub(super) fn feature_vectorizer(build: &Build<'_>) -> Result<Kernel, Problem> {
    let declared = build.attributes.ints("inputdimensions")?.unwrap_or_default();
    let widths = declared
        .iter()
        .map(|&width| usize::try_from(width).ok())
        .collect::<Option<Vec<usize>>>()
        .filter(|widths| widths.is_empty() || widths.len() == build.inputs);
    let Some(widths) = widths else {
        let message = format!("expected a width for each of {} inputs, found {declared:?}", build.inputs);
        return Err(Problem::attribute("inputdimensions", message, EXPORT_AGAIN));
    };
    Ok(Box::new(move |operands, meter| {
        let mut inputs = Vec::with_capacity(operands.len());
        let (mut rows, mut columns) = (None, 0_usize);
        for index in 0..operands.len() {
            let x = required(operands, index)?;
            let (count, own) = match *x.shape() {
                [] => (1, 1),
                [columns] => (1, columns),
                [count, ref rest @ ..] => (count, crate::shape::elements(rest).unwrap_or(usize::MAX)),
            };
            if *rows.get_or_insert(count) != count {
                return Err(Problem::invalid(format!("input {index} has {count} rows, expected {rows:?}")));
            }
            let width = widths.get(index).copied().unwrap_or(own);
            inputs.push((x, own, width));
            columns = columns.saturating_add(width);
        }
        let shape = [rows.unwrap_or(0), columns];
        let mut result = vec![0.0_f32; meter.room(&shape, size_of::<f32>())?];
        let mut first = 0;
        for (x, own, width) in inputs {
            let all = singles(x)?;
            let from = all.chunks_exact(own.max(1));
            for (row, from) in result.chunks_exact_mut(columns.max(1)).zip(from) {
                let into = row.get_mut(first..).unwrap_or_default().iter_mut();
                into.zip(from).take(width).for_each(|(into, from)| *into = *from);
            }
            first += width;
        }
        Ok(vec![Tensor::of(shape, result)?])
    }))
}

/// Elements that equal a marker replaced by a constant or by that of their column; a marker of NaN means every NaN. Floats and integers have markers and
/// constants of their own.
pub(super) fn imputer(build: &Build<'_>) -> Result<Kernel, Problem> {
    let a = &build.attributes;
    let marker = a.float_or("replaced_value_float", 0.0)?;
    let integer_marker = a.int_or("replaced_value_int64", 0)?;
    let floats = a.floats("imputed_value_floats")?.unwrap_or_default().to_vec();
    let integers = a.ints("imputed_value_int64s")?.unwrap_or_default().to_vec();
    if floats.is_empty() == integers.is_empty() {
        return Err(Problem::attribute(
            "imputed_value_floats",
            "expected constants for floats or constants for integers",
            EXPORT_AGAIN,
        ));
    }
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        meter.room(x.shape(), x.kind().size())?;
        let wide = f64::from(marker);
        let y = match x.numbers()? {
            Numbers::F32(all) => {
                let constants = by_column(x, &floats)?;
                let replace = |x: f32| if marker.is_nan() { x.is_nan() } else { x == marker };
                let pairs = all.iter().zip(constants);
                Numbers::F32(pairs.map(|(&x, constant)| if replace(x) { constant } else { x }).collect())
            }
            Numbers::F64(all) => {
                let constants = by_column(x, &floats)?;
                let replace = |x: f64| if wide.is_nan() { x.is_nan() } else { x == wide };
                let pairs = all.iter().zip(constants);
                Numbers::F64(
                    pairs.map(|(&x, constant)| if replace(x) { f64::from(constant) } else { x }).collect(),
                )
            }
            Numbers::I64(all) => {
                let pairs = all.iter().zip(by_column(x, &integers)?);
                Numbers::I64(
                    pairs.map(|(&x, constant)| if x == integer_marker { constant } else { x }).collect(),
                )
            }
            Numbers::U64(_) => return Err(Problem::invalid(format!("expected numbers, found {}", x.kind()))),
        };
        Ok(vec![Tensor::new(x.shape(), y.narrow(x.kind()))?])
    }))
}

/// (x − offset) · scale in the precision of the input; the result is in single precision.
pub(super) fn scaler(build: &Build<'_>) -> Result<Kernel, Problem> {
    let list = |name| -> Result<Vec<f32>, Problem> {
        Ok(build.attributes.floats(name)?.unwrap_or_default().to_vec())
    };
    let (offset, scale) = (list("offset")?, list("scale")?);
    if scale.is_empty() || offset.len() != scale.len() {
        let message =
            format!("expected as many offsets as scales, found {} and {}", offset.len(), scale.len());
        return Err(Problem::attribute("offset", message, EXPORT_AGAIN));
    }
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        // Refuses other numbers of columns.
        let _ = by_column(x, &scale)?;
        let mut y = vec![0.0; meter.room(x.shape(), size_of::<f32>())?];
        let columns = scale.len();
        match x.numbers()? {
            Numbers::F64(all) => dense::scale(&all, columns, &offset, &scale, &mut y),
            _ => dense::scale(&singles(x)?, columns, &offset, &scale, &mut y),
        }
        Ok(vec![Tensor::of(x.shape(), y)?])
    }))
}

#[derive(Clone, Copy)]
enum Norm {
    Max,
    L1,
    L2,
}

/// Each row divided by its norm; a row whose norm is 0 stays as it is. Sums are in single precision, left to right.
pub(super) fn normalizer(build: &Build<'_>) -> Result<Kernel, Problem> {
    let norm = match build.attributes.text_or("norm", "MAX")? {
        "MAX" => Norm::Max,
        "L1" => Norm::L1,
        "L2" => Norm::L2,
        other => {
            let message = format!("expected MAX, L1 or L2, found `{other}`");
            return Err(Problem::attribute("norm", message, EXPORT_AGAIN));
        }
    };
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        let (_, columns) = matrix(x)?;
        meter.room(x.shape(), 2 * size_of::<f32>())?;
        let mut y = singles(x)?.into_owned();
        let columns = columns.max(1);
        match norm {
            Norm::Max => y.chunks_exact_mut(columns).for_each(|row| {
                let largest = row.iter().fold(f32::MIN, |most, &x| if x > most { x } else { most });
                divide(row, largest);
            }),
            Norm::L1 => y.chunks_exact_mut(columns).for_each(|row| {
                let sum = row.iter().fold(0.0, |sum, x| sum + x.abs());
                divide(row, sum);
            }),
            Norm::L2 => {
                // Squares of the input's own kind, so that those of doubles neither vanish nor overflow before they are rounded.
                let squares: Vec<f32> = match x.numbers()? {
                    Numbers::F64(all) => all.iter().map(|x| (x * x) as f32).collect(),
                    Numbers::I64(all) => all.iter().map(|x| x.saturating_mul(*x) as f32).collect(),
                    _ => y.iter().map(|x| x * x).collect(),
                };
                for (row, squares) in y.chunks_exact_mut(columns).zip(squares.chunks_exact(columns)) {
                    let sum = squares.iter().fold(0.0, |sum, square| sum + square);
                    if sum != 0.0 {
                        for (x, square) in row.iter_mut().zip(squares) {
                            let size = (square / sum).sqrt();
                            *x = if *x < 0.0 { -size } else { size };
                        }
                    }
                }
            }
        }
        Ok(vec![Tensor::new(x.shape(), Data::F32(y))?])
    }))
}

fn divide(row: &mut [f32], by: f32) {
    if by != 0.0 {
        row.iter_mut().for_each(|x| *x /= by);
    }
}
