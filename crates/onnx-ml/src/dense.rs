//! Kernels over dense rows: scalers, linear layers, norms, reductions.
//!
//! `columns` is the width of a row of the input. Slices are whole matrices; a trailing part of a row is ignored, so no
//! length can make a kernel panic.

use crate::lanes::{self, Lanes as _, Transpose as _};
use crate::math::Float;

/// x · W + b for every row. `weights` has a row of `outputs` elements per column of the input. Each output is summed in the
/// order of the columns, then the bias is added.
pub fn dense<T: Float>(
    input: &[T],
    columns: usize,
    weights: &[T],
    bias: Option<&[T]>,
    outputs: usize,
    output: &mut [T],
) {
    if columns == 0 || outputs == 0 {
        return;
    }
    output.fill(T::ZERO);
    let weights = weights.get(..columns * outputs).unwrap_or_default();
    // Columns that fill no lanes are summed for several rows at once.
    let wide = outputs - outputs % NARROW;
    let rows = input.chunks(columns * SIDE_BY_SIDE).zip(output.chunks_mut(outputs * SIDE_BY_SIDE));
    for (rows, output) in rows {
        let mut done = wide;
        if let [Some(a), Some(b), Some(c), Some(d)] =
            std::array::from_fn(|row| rows.get(row * columns..)?.get(..columns))
        {
            while done + 2 <= outputs {
                add_rows::<T, 2>(weights, outputs, done, [a, b, c, d], output);
                done += 2;
            }
            if done < outputs {
                add_rows::<T, 1>(weights, outputs, done, [a, b, c, d], output);
                done = outputs;
            }
        }
        let left = if done == outputs { wide } else { outputs };
        for (row, output) in rows.chunks_exact(columns).zip(output.chunks_exact_mut(outputs)) {
            add_row(weights, outputs, row, output.get_mut(..left).unwrap_or_default());
            if let Some(bias) = bias {
                output.iter_mut().zip(bias).for_each(|(sum, &bias)| *sum += bias);
            }
        }
    }
}

/// So many columns, or more, are worked off at a time.
const NARROW: usize = 8;

/// Rows of which the columns that are left are summed side by side.
const SIDE_BY_SIDE: usize = 4;

/// Adds the products of rows with some columns, from `first` on, of a matrix of `outputs` columns.
fn add_rows<T: Float, const COLUMNS: usize>(
    weights: &[T],
    outputs: usize,
    first: usize,
    [a, b, c, d]: [&[T]; SIDE_BY_SIDE],
    output: &mut [T],
) {
    // A lane per row.
    let mut sums = [T::Four::all(T::ZERO); COLUMNS];
    let mut add = |weights: &[T], x: T::Four| {
        let weights = weights.get(first..).and_then(|weights| weights.first_chunk::<COLUMNS>());
        for (sum, &weight) in sums.iter_mut().zip(weights.into_iter().flatten()) {
            *sum = sum.plus(x.times(T::Four::all(weight)));
        }
    };
    let ((a, e), (b, f), (c, g), (d, h)) = (fours(a), fours(b), fours(c), fours(d));
    let (weights, left) = weights.split_at(weights.len().min(a.len() * SIDE_BY_SIDE * outputs));
    for ((((weights, a), b), c), d) in
        weights.chunks_exact(outputs * SIDE_BY_SIDE).zip(a).zip(b).zip(c).zip(d)
    {
        let columns = T::Four::transpose([a, b, c, d].map(T::Four::load));
        weights.chunks_exact(outputs).zip(columns).for_each(|(weights, x)| add(weights, x));
    }
    for ((((weights, &e), &f), &g), &h) in left.chunks_exact(outputs).zip(e).zip(f).zip(g).zip(h) {
        add(weights, T::Four::load(&[e, f, g, h]));
    }
    for (column, sum) in (first..).zip(sums) {
        let mut rows = [T::ZERO; SIDE_BY_SIDE];
        sum.store(&mut rows);
        for (output, sum) in output.chunks_exact_mut(outputs).zip(rows) {
            if let Some(place) = output.get_mut(column) {
                *place = sum;
            }
        }
    }
}

/// The columns of a row that are read four at a time, and the others.
fn fours<T: Float>(row: &[T]) -> (&[[T; 4]], &[T]) {
    if T::Four::SHUFFLES { row.as_chunks() } else { (&[], row) }
}

/// Adds the product of a row with the first columns of a matrix of `outputs` columns.
fn add_row<T: Float>(weights: &[T], outputs: usize, row: &[T], output: &mut [T]) {
    let (wide, rest) = output.as_chunks_mut::<{ lanes::WIDTH }>();
    let mut first = 0;
    for sums in wide {
        lanes::add_row::<T, T::Four>(lanes::Columns::new(weights, outputs, first, row), sums);
        first += lanes::WIDTH;
    }
    let (tiles, rest) = rest.as_chunks_mut::<8>();
    for sums in tiles {
        for (weights, &x) in weights.chunks_exact(outputs).zip(row) {
            let weights = weights.get(first..).unwrap_or_default();
            sums.iter_mut().zip(weights).for_each(|(sum, &weight)| *sum += x * weight);
        }
        first += 8;
    }
    for (column, sum) in (first..).zip(rest) {
        for (weights, &x) in weights.chunks_exact(outputs).zip(row) {
            *sum += x * weights.get(column).copied().unwrap_or(T::ZERO);
        }
    }
}

/// (x − offset) · scale, computed in the input's precision. `offset` and `scale` have one element or one per column.
pub fn scale<T: Float>(input: &[T], columns: usize, offset: &[f32], scale: &[f32], output: &mut [f32]) {
    if columns == 0 {
        return;
    }
    let at = |values: &[f32], column: usize| {
        let value = if let [only] = values { Some(only) } else { values.get(column) };
        value.copied().unwrap_or_default()
    };
    if offset.len() == columns && scale.len() == columns {
        for (input, output) in input.chunks_exact(columns).zip(output.chunks_exact_mut(columns)) {
            for (((output, &x), &offset), &scale) in output.iter_mut().zip(input).zip(offset).zip(scale) {
                *output = ((x - T::from_f32(offset)) * T::from_f32(scale)).to_f32();
            }
        }
        return;
    }
    for (input, output) in input.chunks_exact(columns).zip(output.chunks_exact_mut(columns)) {
        for (column, (output, &x)) in output.iter_mut().zip(input).enumerate() {
            *output = ((x - T::from_f32(at(offset, column))) * T::from_f32(at(scale, column))).to_f32();
        }
    }
}

/// An operand of [`binary`].
#[derive(Debug, Clone, Copy)]
pub enum Rows<'a, T> {
    /// A matrix of rows of this width.
    Each(&'a [T], usize),
    /// The same row for all.
    Same(&'a [T]),
}

/// A function of two elements; a row with one column goes with every column of the other.
pub fn binary<T: Float>(
    left: Rows<'_, T>,
    right: Rows<'_, T>,
    columns: usize,
    output: &mut [T],
    function: impl Fn(T, T) -> T,
) {
    if columns == 0 {
        return;
    }
    for (index, output) in output.chunks_exact_mut(columns).enumerate() {
        match (left.row(index), right.row(index)) {
            ([left], [right]) => output.fill(function(*left, *right)),
            ([left], right) => output.iter_mut().zip(right).for_each(|(out, &y)| *out = function(*left, y)),
            (left, [right]) => output.iter_mut().zip(left).for_each(|(out, &x)| *out = function(x, *right)),
            (left, right) => output
                .iter_mut()
                .zip(left.iter().zip(right))
                .for_each(|(out, (&x, &y))| *out = function(x, y)),
        }
    }
}

impl<'a, T> Rows<'a, T> {
    #[inline]
    fn row(&self, index: usize) -> &'a [T] {
        match *self {
            Self::Same(row) => row,
            Self::Each(rows, columns) => {
                rows.get(index * columns..).and_then(|rest| rest.get(..columns)).unwrap_or(&[])
            }
        }
    }
}

/// The softmax of each row: e to the power of the distance to the largest element, divided by the sum of those.
pub fn softmax<T: Float>(input: &[T], columns: usize, output: &mut [T]) {
    if columns == 0 {
        return;
    }
    for (input, output) in input.chunks_exact(columns).zip(output.chunks_exact_mut(columns)) {
        let max = input.iter().fold(T::LOWEST, |max, &x| if x > max { x } else { max });
        let mut sum = T::ZERO;
        for (output, &x) in output.iter_mut().zip(input) {
            *output = (x - max).exp();
        }
        for &power in output.iter() {
            sum += power;
        }
        output.iter_mut().for_each(|output| *output = *output / sum);
    }
}

/// The norms that `Normalizer` knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norm {
    /// The largest element, with its sign.
    Max,
    /// The sum of magnitudes.
    L1,
    /// The root of the sum of squares.
    L2,
}

/// Each row divided by its norm; a row whose norm is 0 stays as it is.
pub fn normalize<T: Float>(norm: Norm, input: &[T], columns: usize, output: &mut [T]) {
    if columns == 0 {
        return;
    }
    for (input, output) in input.chunks_exact(columns).zip(output.chunks_exact_mut(columns)) {
        let size = match norm {
            Norm::Max => input.iter().fold(T::LOWEST, |max, &x| if x > max { x } else { max }),
            Norm::L1 => input.iter().fold(T::ZERO, |sum, &x| sum + x.abs()),
            Norm::L2 => input.iter().fold(T::ZERO, |sum, &x| sum + x * x),
        };
        if size == T::ZERO {
            output.copy_from_slice(input);
        } else if norm == Norm::L2 {
            // The root is taken last, as in onnxruntime: it makes a difference where squares overflow or vanish.
            output.iter_mut().zip(input).for_each(|(output, &x)| {
                let share = (x * x / size).sqrt();
                *output = if x < T::ZERO { -share } else { share };
            });
        } else {
            output.iter_mut().zip(input).for_each(|(output, &x)| *output = x / size);
        }
    }
}

/// Each row folded from the left, starting with its first element.
pub fn reduce<T: Float>(input: &[T], columns: usize, output: &mut [T], fold: impl Fn(T, T) -> T) {
    if columns == 0 {
        return;
    }
    for (input, output) in input.chunks_exact(columns).zip(output) {
        *output = input.iter().copied().reduce(&fold).unwrap_or_default();
    }
}

/// A number without its fraction. NaN and what lies outside of 64 bits become the least integer, as with onnxruntime on x86-64.
pub fn whole(x: f64) -> i64 {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if (-LIMIT..LIMIT).contains(&x) { x as i64 } else { i64::MIN }
}

/// The index of each row's largest element, the first of equal ones.
pub fn arg_max<T: Float>(input: &[T], columns: usize, output: &mut [i64]) {
    if columns == 0 {
        return;
    }
    if columns == 2 {
        for ([first, second], output) in input.as_chunks().0.iter().zip(output) {
            *output = i64::from(second > first);
        }
        return;
    }
    for (input, output) in input.chunks_exact(columns).zip(output) {
        let mut best = (0, T::ZERO);
        for (index, &x) in input.iter().enumerate() {
            if index == 0 || x > best.1 {
                best = (index, x);
            }
        }
        *output = best.0 as i64;
    }
}

/// Elements that equal `marker` replaced by the constant of their column; a marker of NaN means every NaN.
/// `replacement` has one element or one per column.
pub fn impute(marker: f32, input: &[f32], columns: usize, replacement: &[f32], output: &mut [f32]) {
    if columns == 0 {
        return;
    }
    for (input, output) in input.chunks_exact(columns).zip(output.chunks_exact_mut(columns)) {
        for (column, (output, &x)) in output.iter_mut().zip(input).enumerate() {
            let replace = if marker.is_nan() { x.is_nan() } else { x == marker };
            let constant = if let [only] = replacement { Some(only) } else { replacement.get(column) };
            *output = if replace { constant.copied().unwrap_or(x) } else { x };
        }
    }
}

/// The smallest single-precision number that is not below `x`.
pub fn round_up(x: f64) -> f32 {
    let nearest = x as f32;
    if f64::from(nearest) < x { nearest.next_up() } else { nearest }
}

/// The largest single-precision number that is not above `x`.
pub fn round_down(x: f64) -> f32 {
    let nearest = x as f32;
    if f64::from(nearest) > x { nearest.next_down() } else { nearest }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dense_layers_of_every_size_agree_with_plain_sums() {
        for rows in [1, 3, 4, 9] {
            for columns in [1, 2, 7] {
                for outputs in [1, 2, 8, 11] {
                    let input: Vec<f64> = (0..rows * columns).map(|i| (i as f64 * 0.7).sin()).collect();
                    let weights: Vec<f64> = (0..columns * outputs).map(|i| (i as f64 * 1.3).cos()).collect();
                    let bias: Vec<f64> = (0..outputs).map(|i| i as f64).collect();
                    let mut output = vec![f64::NAN; rows * outputs];
                    dense(&input, columns, &weights, Some(&bias), outputs, &mut output);
                    for row in 0..rows {
                        for out in 0..outputs {
                            let sum: f64 = (0..columns)
                                .map(|k| input[row * columns + k] * weights[k * outputs + out])
                                .sum();
                            assert!((output[row * outputs + out] - sum - bias[out]).abs() < 1e-12);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn one_row_and_many_rows_give_the_same_bits() {
        let input: Vec<f32> = (0..5 * 3).map(|i| (i as f32 * 0.37).sin()).collect();
        let weights: Vec<f32> = (0..3 * 9).map(|i| (i as f32 * 0.11).cos()).collect();
        let mut together = [0.0; 5 * 9];
        dense(&input, 3, &weights, None, 9, &mut together);
        for row in 0..5 {
            let mut alone = [0.0; 9];
            dense(&input[row * 3..][..3], 3, &weights, None, 9, &mut alone);
            assert_eq!(alone, together[row * 9..][..9]);
        }
    }

    #[test]
    fn rows_are_scaled_in_the_precision_of_the_input() {
        let mut output = [0.0; 4];
        scale(&[1.0_f32, 2.0, 3.0, 4.0], 2, &[1.0, 2.0], &[2.0, 10.0], &mut output);
        assert_eq!(output, [0.0, 0.0, 4.0, 20.0]);
        scale(&[1.0_f32, 2.0, 3.0, 4.0], 2, &[1.0], &[2.0], &mut output);
        assert_eq!(output, [0.0, 2.0, 4.0, 6.0]);
        // onnxruntime 1.31 on the double 0.1 with an offset and a scale in single precision.
        let mut output = [0.0; 1];
        scale(&[0.1_f64], 1, &[0.1], &[3.0], &mut output);
        assert_eq!(output, [-4.470_348_5e-9]);
    }

    #[test]
    fn norms_agree_with_onnxruntime() {
        let check = |norm, row: [f32; 2], want: [f32; 2]| {
            let mut found = [f32::NAN; 2];
            normalize(norm, &row, 2, &mut found);
            assert_eq!(found, want, "{norm:?} of {row:?}");
        };
        check(Norm::Max, [3.0, -4.0], [1.0, -4.0 / 3.0]);
        check(Norm::L1, [3.0, -4.0], [3.0 / 7.0, -4.0 / 7.0]);
        check(Norm::L2, [3.0, -4.0], [0.6, -0.8]);
        check(Norm::L2, [1e-30, 0.0], [1e-30, 0.0]);
        check(Norm::L1, [0.0, 0.0], [0.0, 0.0]);
    }

    #[test]
    fn binary_functions_broadcast_columns() {
        let rows = [1.0_f32, 2.0, 3.0, 4.0];
        let mut output = [0.0; 4];
        binary(Rows::Each(&rows, 2), Rows::Same(&[10.0, 20.0]), 2, &mut output, |x, y| x + y);
        assert_eq!(output, [11.0, 22.0, 13.0, 24.0]);
        binary(Rows::Same(&[1.0]), Rows::Each(&rows, 2), 2, &mut output, |x, y| x - y);
        assert_eq!(output, [0.0, -1.0, -2.0, -3.0]);
        binary(Rows::Each(&rows, 2), Rows::Each(&[2.0, 4.0], 1), 2, &mut output, |x, y| x / y);
        assert_eq!(output, [0.5, 1.0, 0.75, 1.0]);
    }

    #[test]
    fn ties_go_to_the_first_class() {
        let mut output = [9; 3];
        arg_max(&[1.0_f32, 1.0, 0.0, 5.0, f32::NAN, 1.0], 2, &mut output);
        assert_eq!(output, [0, 1, 0]);
    }

    #[test]
    fn softmax_does_not_overflow() {
        let mut output = [0.0_f32; 4];
        softmax(&[1000.0, 999.0, -1e30, 0.0], 2, &mut output);
        assert!((output[0] - 0.731_058_6).abs() < 1e-6);
        assert_eq!(output[2..], [0.0, 1.0]);
    }

    #[test]
    fn directed_rounding_keeps_comparisons() {
        for x in [0.1_f64, -0.1, 1.0, 1e-60, -1e-60, 1e300, -1e300, f64::INFINITY, 16_777_217.0] {
            assert!(f64::from(round_up(x)) >= x && f64::from(round_down(x)) <= x, "{x}");
        }
        assert_eq!(round_up(0.5), 0.5);
        assert!(round_up(f64::NAN).is_nan());
    }

    #[test]
    fn markers_are_replaced() {
        let mut output = [0.0; 4];
        impute(f32::NAN, &[f32::NAN, 1.0, 0.0, f32::NAN], 2, &[7.0, 8.0], &mut output);
        assert_eq!(output, [7.0, 1.0, 0.0, 8.0]);
        impute(0.0, &[0.0, 1.0, -0.0, 3.0], 2, &[7.0], &mut output);
        assert_eq!(output, [7.0, 1.0, 7.0, 3.0]);
    }
}
