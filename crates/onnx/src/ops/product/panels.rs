//! Matrices, laid out for products of rows with them.

use lockgate_onnx_ml::lanes;

use super::number::Number;

/// Columns in a full panel: as many sums as fit the vector registers of the smallest target.
const WIDTH: usize = lanes::WIDTH;
/// Fewer rows than this are multiplied with a matrix as it lies: laying it out would cost more than it saves.
const FEW: usize = 4;

/// A matrix in somebody's elements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'e, T> {
    /// The elements from the first one of the matrix on.
    pub(crate) elements: &'e [T],
    /// How many rows there are.
    pub(crate) rows: usize,
    /// How many columns there are.
    pub(crate) columns: usize,
    /// How far apart the elements of a column lie.
    pub(crate) down: usize,
    /// How far apart the elements of a row lie.
    pub(crate) right: usize,
}

impl<'e, T> Matrix<'e, T> {
    /// Row after row.
    pub(crate) fn by_rows(elements: &'e [T], rows: usize, columns: usize) -> Self {
        Self { elements, rows, columns, down: columns, right: 1 }
    }

    /// Column after column.
    pub(crate) fn by_columns(elements: &'e [T], rows: usize, columns: usize) -> Self {
        Self { elements, rows, columns, down: 1, right: rows }
    }

    /// Some of the columns.
    pub(crate) fn part(self, from: usize, to: usize) -> Self {
        let elements = self.elements.get(from.saturating_mul(self.right)..).unwrap_or_default();
        Self { elements, columns: to.saturating_sub(from), ..self }
    }
}

/// A matrix in panels of columns. Within a panel, rows follow each other, so a product reads the panel from front to back while its
/// sums stay in registers. The last panel is as narrow as 4, 8 or 16 columns when that holds what is left.
///
/// Products are summed up in the order of the rows and never fused, so every target gets the same bits, and the same as
/// [`add_products`] without panels.
#[derive(Debug)]
pub(crate) struct Panels<T> {
    outputs: usize,
    full: Vec<Vec<[T; WIDTH]>>,
    rest: Rest<T>,
}

#[derive(Debug)]
enum Rest<T> {
    Four(Vec<[T; 4]>),
    Eight(Vec<[T; 8]>),
    Sixteen(Vec<[T; 16]>),
    ThirtyTwo(Vec<[T; WIDTH]>),
}

impl<T: Number> Panels<T> {
    /// Lays out a matrix.
    pub(crate) fn new(matrix: Matrix<'_, T>) -> Self {
        let outputs = matrix.columns;
        let full = (0..outputs / WIDTH).map(|panel| columns(matrix, panel * WIDTH, WIDTH)).collect();
        let left = outputs % WIDTH;
        let at = outputs - left;
        let rest = match left {
            0..=4 => Rest::Four(columns(matrix, at, left)),
            5..=8 => Rest::Eight(columns(matrix, at, left)),
            9..=16 => Rest::Sixteen(columns(matrix, at, left)),
            _ => Rest::ThirtyTwo(columns(matrix, at, left)),
        };
        Self { outputs, full, rest }
    }

    /// Adds each row's product to the corresponding `stride` elements of `sums`, of which those of the first columns are touched.
    pub(crate) fn add_products<'r>(
        &self,
        rows: impl Iterator<Item = &'r [T]> + Clone,
        sums: &mut [T],
        stride: usize,
    ) {
        if stride == 0 {
            return;
        }
        let mut at = 0;
        for panel in &self.full {
            let sums = sums.chunks_mut(stride).filter_map(|sums| sums.get_mut(at..)?.first_chunk_mut());
            let mut rows = rows.clone().zip(sums);
            while let Some((row, sums)) = rows.next() {
                match rows.next() {
                    Some((second, second_sums)) if second.len() == row.len() => {
                        add_two_rows(panel, [row, second], [sums, second_sums]);
                    }
                    // A row of a sequence that has ended may be empty.
                    other => {
                        add_row(panel, row, sums);
                        if let Some((second, sums)) = other {
                            add_row(panel, second, sums);
                        }
                    }
                }
            }
            at += WIDTH;
        }
        if at == self.outputs {
            return;
        }
        for (row, sums) in rows.zip(sums.chunks_mut(stride)) {
            let Some(sums) = sums.get_mut(at..self.outputs) else { continue };
            match &self.rest {
                Rest::Four(panel) => add_narrow(panel, row, sums),
                Rest::Eight(panel) => add_narrow(panel, row, sums),
                Rest::Sixteen(panel) => add_narrow(panel, row, sums),
                Rest::ThirtyTwo(panel) => add_narrow(panel, row, sums),
            }
        }
    }
}

/// Adds the products of rows, which lie one behind the other, with a matrix to rows of sums.
pub(crate) fn add_products<T: Number>(rows: &[T], matrix: Matrix<'_, T>, sums: &mut [T]) {
    let (inputs, outputs) = (matrix.rows, matrix.columns);
    if inputs == 0 || outputs == 0 {
        return;
    }
    let rows = rows.chunks_exact(inputs);
    if rows.len() >= FEW || matrix.right != 1 {
        Panels::new(matrix).add_products(rows, sums, outputs);
        return;
    }
    for (row, sums) in rows.zip(sums.chunks_exact_mut(outputs)) {
        for (at, &x) in row.iter().enumerate() {
            let weights = matrix.elements.get(at.saturating_mul(matrix.down)..).unwrap_or_default();
            for (sum, &weight) in sums.iter_mut().zip(weights) {
                *sum = sum.plus(x.times(weight));
            }
        }
    }
}

fn columns<T: Number, const W: usize>(matrix: Matrix<'_, T>, at: usize, count: usize) -> Vec<[T; W]> {
    if count == 0 {
        return Vec::new();
    }
    (0..matrix.rows)
        .map(|row| {
            let first = row.saturating_mul(matrix.down).saturating_add(at.saturating_mul(matrix.right));
            let row = matrix.elements.get(first..).unwrap_or_default().iter().step_by(matrix.right.max(1));
            let mut columns = [T::default(); W];
            for (column, value) in columns.iter_mut().zip(row.take(count)) {
                *column = *value;
            }
            columns
        })
        .collect()
}

fn add_row<T: Number>(panel: &[[T; WIDTH]], row: &[T], sums: &mut [T; WIDTH]) {
    lanes::add_row::<T, T::Four>(lanes::Panel::new(panel, row), sums);
}

fn add_two_rows<T: Number>(panel: &[[T; WIDTH]], rows: [&[T]; 2], [a, b]: [&mut [T; WIDTH]; 2]) {
    let (halves, _) = panel.as_flattened().as_chunks();
    for (half, (a, b)) in a.as_chunks_mut().0.iter_mut().zip(b.as_chunks_mut().0).enumerate() {
        let weights = halves.iter().skip(half).step_by(WIDTH / lanes::HALF);
        lanes::add_two_rows::<T, T::Four>(weights, rows, [a, b]);
    }
}

fn add_product<T: Number, const W: usize>(panel: &[[T; W]], row: &[T], sums: &mut [T; W]) {
    let mut local = *sums;
    for (weights, &x) in panel.iter().zip(row) {
        for (sum, &weight) in local.iter_mut().zip(weights) {
            *sum = sum.plus(x.times(weight));
        }
    }
    *sums = local;
}

fn add_narrow<T: Number, const W: usize>(panel: &[[T; W]], row: &[T], sums: &mut [T]) {
    let mut local = [T::default(); W];
    for (local, &sum) in local.iter_mut().zip(sums.iter()) {
        *local = sum;
    }
    add_product(panel, row, &mut local);
    for (sum, &local) in sums.iter_mut().zip(&local) {
        *sum = local;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_those_of_the_plain_sum_for_every_width() {
        for outputs in [0, 1, 3, 4, 5, 8, 9, 16, 17, 31, 32, 33, 36, 64, 70] {
            let inputs = 5;
            let stride = outputs + 2;
            let matrix: Vec<f32> = (0..inputs * stride).map(|i| (i as f32 * 0.37) % 1.7 - 0.9).collect();
            let rows: Vec<f32> = (0..3 * inputs).map(|i| (i as f32 * 0.71) % 1.3 - 0.6).collect();
            let part = Matrix::by_rows(&matrix, inputs, stride).part(1, 1 + outputs);
            let panels = Panels::new(part);
            let mut sums = vec![0.5; 3 * stride];
            panels.add_products(rows.chunks_exact(inputs), &mut sums, stride);
            for (row, sums) in rows.chunks_exact(inputs).zip(sums.chunks_exact(stride)) {
                for (column, &sum) in sums.iter().enumerate() {
                    let products = row
                        .iter()
                        .enumerate()
                        .map(|(k, x)| x * matrix[k * stride + 1 + column.min(stride - 2)]);
                    let want =
                        if column < outputs { products.fold(0.5, |sum, product| sum + product) } else { 0.5 };
                    assert_eq!(sum.to_bits(), want.to_bits(), "{outputs} outputs, column {column}");
                }
                let mut few = vec![0.5; outputs];
                add_products(row, part, &mut few);
                assert!(few.iter().zip(sums).all(|(few, many)| few.to_bits() == many.to_bits()));
            }
        }
    }

    #[test]
    fn rows_that_have_ended_take_nothing_from_others() {
        let matrix: Vec<f32> = (0..3 * WIDTH).map(|i| i as f32).collect();
        let panels = Panels::new(Matrix::by_rows(&matrix, 3, WIDTH));
        let (row, ended) = ([1.0_f32, 2.0, 3.0], [0.0_f32; 0]);
        for rows in [[&row[..], &ended], [&ended, &row]] {
            let mut sums = vec![0.5; 2 * WIDTH];
            panels.add_products(rows.into_iter(), &mut sums, WIDTH);
            for (row, sums) in rows.iter().zip(sums.chunks(WIDTH)) {
                let want: f32 =
                    row.iter().zip(matrix.iter().step_by(WIDTH)).map(|(x, weight)| x * weight).sum();
                assert_eq!(sums[0], 0.5 + want);
            }
        }
    }

    #[test]
    fn a_transposed_matrix_gives_the_same_panels() {
        let matrix: Vec<i64> = (0..6).collect();
        let transposed = [0, 3, 1, 4, 2, 5];
        let mut sums = [0; 6];
        add_products(&[1, 10], Matrix::by_rows(&matrix, 2, 3), &mut sums[..3]);
        add_products(&[1, 10], Matrix::by_columns(&transposed, 2, 3), &mut sums[3..]);
        assert_eq!(sums, [30, 41, 52, 30, 41, 52]);
        let mut sums = [0; 3];
        add_products(&[2], Matrix::by_columns(&matrix[..3], 1, 3), &mut sums);
        assert_eq!(sums, [0, 2, 4]);
    }
}
