//! Taking rows out of tensors and putting them back together. A row is an index of the leading dimension.

use lockgate_package::{Tensor, TensorView};

use crate::RequestError;

/// The number of rows that all inputs have, which must be `expected`.
///
/// # Errors
/// An input of another length, by name; no input, which leaves nothing to have rows.
pub fn check(inputs: &[Tensor], expected: usize) -> Result<(), RequestError> {
    if inputs.is_empty() {
        return Err(RequestError::InvalidInput {
            message: format!("the request has no inputs, but there are {expected} contexts"),
            hint: "send one context, or the inputs".to_owned(),
        });
    }
    for input in inputs {
        let rows = input.shape.first().copied();
        if rows.and_then(|rows| usize::try_from(rows).ok()) != Some(expected) {
            let found = rows.map_or_else(|| "no dimension".to_owned(), |rows| format!("{rows} rows"));
            return Err(RequestError::InvalidInput {
                message: format!("input `{}` has {found}, but there are {expected} contexts", input.name),
                hint: "send one context for all rows, or exactly one per row of every input".to_owned(),
            });
        }
    }
    Ok(())
}

/// Where the rows of a tensor begin in its data, and where the last one ends.
enum Rows {
    Equal(usize),
    Offsets(Vec<usize>),
}

impl Rows {
    /// `None` when the data do not fit the shape.
    fn of(tensor: TensorView<'_>, rows: usize) -> Option<Self> {
        let elements = tensor.element_count()?;
        if let Some(size) = tensor.datatype.size() {
            let fits = elements.checked_mul(size)? == tensor.data.len();
            return fits.then(|| Self::Equal(tensor.data.len().checked_div(rows).unwrap_or(0)));
        }
        let per_row = elements.checked_div(rows).unwrap_or(0);
        let mut offsets = vec![0];
        let mut at = 0_usize;
        for _ in 0..rows {
            for _ in 0..per_row {
                let len = tensor.data.get(at..)?.first_chunk()?;
                at = at.checked_add(4)?.checked_add(u32::from_le_bytes(*len) as usize)?;
            }
            offsets.push(at);
        }
        (at == tensor.data.len()).then_some(Self::Offsets(offsets))
    }

    fn slice<'d>(&self, data: &'d [u8], row: usize) -> Option<&'d [u8]> {
        match self {
            Self::Equal(len) => data.get(row.checked_mul(*len)?..)?.get(..*len),
            Self::Offsets(offsets) => data.get(*offsets.get(row)?..*offsets.get(row + 1)?),
        }
    }
}

/// The given rows of every input, of which each has `total`.
///
/// # Errors
/// Data that do not fit their shape.
pub fn take(inputs: &[Tensor], total: usize, rows: &[usize]) -> Result<Vec<Tensor>, RequestError> {
    inputs
        .iter()
        .map(|input| {
            let taken = Rows::of(input.view(), total).and_then(|places| {
                let slices = rows.iter().map(|row| places.slice(&input.data, *row));
                slices.collect::<Option<Vec<_>>>().map(|slices| slices.concat())
            });
            let data = taken.ok_or_else(|| RequestError::InvalidInput {
                message: format!("the data of input `{}` do not fit its shape {:?}", input.name, input.shape),
                hint: String::new(),
            })?;
            Ok(Tensor { data, ..with_rows(input, rows.len()) })
        })
        .collect()
}

/// The outputs of one version, and the rows they belong to.
#[derive(Debug, Clone)]
pub struct Part<'a> {
    /// `model@version`, for errors.
    pub name: String,
    /// The rows, as the caller counts them.
    pub rows: &'a [usize],
    /// Their outputs, in that order.
    pub outputs: Vec<Tensor>,
}

/// Puts the outputs of several versions together, `total` rows in the caller's order.
///
/// # Errors
/// Outputs that differ in number, name, datatype or shape.
pub fn merge(parts: &[Part<'_>], total: usize) -> Result<Vec<Tensor>, RequestError> {
    let Some((first, others)) = parts.split_first() else { return Ok(Vec::new()) };
    let differ = |problem: String| RequestError::OutputsDiffer { problem };
    let show = |tensor: &Tensor| format!("`{}` {} {:?}", tensor.name, tensor.datatype, tensor.shape);
    for part in others {
        if part.outputs.len() != first.outputs.len() {
            let (a, b) = (first.outputs.len(), part.outputs.len());
            return Err(differ(format!("{} gives {a} outputs, {} gives {b}", first.name, part.name)));
        }
    }
    first
        .outputs
        .iter()
        .map(|output| {
            let mut slices: Vec<&[u8]> = vec![&[]; total];
            for part in parts {
                let have = part.outputs.iter().find(|have| have.name == output.name).ok_or_else(|| {
                    differ(format!(
                        "{} gives {}, {} gives no such output",
                        first.name,
                        show(output),
                        part.name
                    ))
                })?;
                if (have.datatype, have.shape.get(1..)) != (output.datatype, output.shape.get(1..)) {
                    let (a, b) = (show(output), show(have));
                    return Err(differ(format!("{} gives {a}, {} gives {b}", first.name, part.name)));
                }
                let rows = part.rows.len();
                if have.shape.first().and_then(|rows| usize::try_from(*rows).ok()) != Some(rows) {
                    return Err(differ(format!("{} gives {} for {rows} rows", part.name, show(have))));
                }
                let broken = || RequestError::Internal {
                    message: format!("{} gave an output that is no tensor", part.name),
                };
                let places = Rows::of(have.view(), rows).ok_or_else(broken)?;
                for (row, target) in part.rows.iter().enumerate() {
                    let slice = places.slice(&have.data, row).ok_or_else(broken)?;
                    *slices.get_mut(*target).ok_or_else(broken)? = slice;
                }
            }
            Ok(Tensor { data: slices.concat(), ..with_rows(output, total) })
        })
        .collect()
}

/// A tensor like this one but with so many rows, and no data yet.
fn with_rows(tensor: &Tensor, rows: usize) -> Tensor {
    let mut shape = tensor.shape.clone();
    if let Some(leading) = shape.first_mut() {
        *leading = i64::try_from(rows).unwrap_or(i64::MAX);
    }
    Tensor { name: tensor.name.clone(), datatype: tensor.datatype, shape, data: Vec::new() }
}

#[cfg(test)]
mod tests {
    use lockgate_package::Datatype;

    use super::*;

    fn words(name: &str, shape: Vec<i64>, words: &[&str]) -> Tensor {
        let data = words
            .iter()
            .flat_map(|word| (word.len() as u32).to_le_bytes().into_iter().chain(word.bytes()))
            .collect();
        Tensor { name: name.to_owned(), datatype: Datatype::Bytes, shape, data }
    }

    #[test]
    fn rows_go_out_and_come_back_in_place() {
        let inputs = [
            Tensor::fp32("x", vec![3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
            words("w", vec![3, 1], &["a", "", "ccc"]),
            Tensor::fp32("empty", vec![3, 0], &[]),
        ];
        let (odd, even) = ([1], [0, 2]);
        let odds = take(&inputs, 3, &odd).unwrap();
        assert_eq!(odds[0], Tensor::fp32("x", vec![1, 2], &[3.0, 4.0]));
        assert_eq!(odds[1], words("w", vec![1, 1], &[""]));
        let evens = take(&inputs, 3, &even).unwrap();
        assert_eq!(evens[1], words("w", vec![2, 1], &["a", "ccc"]));
        let part = |rows, outputs| Part { name: "m@1.0.0".to_owned(), rows, outputs };
        assert_eq!(merge(&[part(&even[..], evens), part(&odd[..], odds)], 3).unwrap(), inputs);
    }

    #[test]
    fn inputs_that_do_not_line_up_are_refused() {
        let check = |inputs: &[Tensor], expected: &str| {
            assert_eq!(super::check(inputs, 3).unwrap_err().to_string(), expected);
        };
        check(
            &[Tensor::fp32("x", vec![2, 1], &[1.0, 2.0])],
            "input `x` has 2 rows, but there are 3 contexts",
        );
        check(&[Tensor::fp32("x", vec![], &[1.0])], "input `x` has no dimension, but there are 3 contexts");
        check(&[], "the request has no inputs, but there are 3 contexts");
        let broken = Tensor { data: vec![0; 5], ..Tensor::fp32("x", vec![3], &[]) };
        assert_eq!(
            take(&[broken], 3, &[0]).unwrap_err().to_string(),
            "the data of input `x` do not fit its shape [3]"
        );
        let cut = Tensor { data: vec![9, 0, 0, 0], ..words("w", vec![1], &[]) };
        assert!(take(&[cut], 1, &[0]).is_err());
    }

    #[test]
    fn outputs_that_differ_are_named() {
        let check = |a: Tensor, b: Tensor, expected: &str| {
            let parts = [
                Part { name: "a@1.0.0".to_owned(), rows: &[0], outputs: vec![a] },
                Part { name: "b@1.0.0".to_owned(), rows: &[1], outputs: vec![b] },
            ];
            let error = merge(&parts, 2).unwrap_err();
            assert_eq!(error.code(), "outputs_differ");
            assert_eq!(
                error.to_string(),
                format!("the rows of this request are served by versions whose outputs differ: {expected}")
            );
        };
        let row =
            |name: &str, columns: i64| Tensor::fp32(name, vec![1, columns], &vec![0.0; columns as usize]);
        check(row("p", 2), row("p", 3), "a@1.0.0 gives `p` FP32 [1, 2], b@1.0.0 gives `p` FP32 [1, 3]");
        check(row("p", 2), row("q", 2), "a@1.0.0 gives `p` FP32 [1, 2], b@1.0.0 gives no such output");
        let two = Tensor::fp32("p", vec![2, 1], &[0.0, 0.0]);
        check(row("p", 1), two, "b@1.0.0 gives `p` FP32 [2, 1] for 1 rows");
    }
}
