//! Constant weights, laid out for products of rows with a matrix.

/// Columns in a full panel: as many sums as fit the vector registers of the smallest target.
const WIDTH: usize = 32;

/// A matrix `[inputs, outputs]` in panels of columns. Within a panel, rows follow each other, so a product reads the panel
/// from front to back while its sums stay in registers. The last panel is as narrow as 4, 8 or 16 columns when that holds what is left.
///
/// Products are summed up in the order of the inputs and never fused, so every target gets the same bits.
#[derive(Debug)]
pub(super) struct Panels {
    outputs: usize,
    full: Vec<Vec<[f32; WIDTH]>>,
    rest: Rest,
}

#[derive(Debug)]
enum Rest {
    Four(Vec<[f32; 4]>),
    Eight(Vec<[f32; 8]>),
    Sixteen(Vec<[f32; 16]>),
    ThirtyTwo(Vec<[f32; 32]>),
}

impl Panels {
    /// Columns `from` to `to` of a row-major matrix with rows of `stride` elements.
    pub(super) fn new(matrix: &[f32], stride: usize, from: usize, to: usize) -> Self {
        let outputs = to.saturating_sub(from);
        let full =
            (0..outputs / WIDTH).map(|panel| columns(matrix, stride, from + panel * WIDTH, WIDTH)).collect();
        let left = outputs % WIDTH;
        let at = to.saturating_sub(left);
        let rest = match left {
            0..=4 => Rest::Four(columns(matrix, stride, at, left)),
            5..=8 => Rest::Eight(columns(matrix, stride, at, left)),
            9..=16 => Rest::Sixteen(columns(matrix, stride, at, left)),
            _ => Rest::ThirtyTwo(columns(matrix, stride, at, left)),
        };
        Self { outputs, full, rest }
    }

    /// The number of columns.
    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Adds each row's product to the corresponding `stride` elements of `sums`, of which the first [`Panels::outputs`] are touched.
    pub(super) fn add_products<'r>(
        &self,
        rows: impl Iterator<Item = &'r [f32]> + Clone,
        sums: &mut [f32],
        stride: usize,
    ) {
        let mut at = 0;
        for panel in &self.full {
            for (row, sums) in rows.clone().zip(sums.chunks_mut(stride)) {
                if let Some(sums) = sums.get_mut(at..).and_then(|sums| sums.first_chunk_mut()) {
                    add_product(panel, row, sums);
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

fn columns<const W: usize>(matrix: &[f32], stride: usize, at: usize, count: usize) -> Vec<[f32; W]> {
    if count == 0 || stride == 0 {
        return Vec::new();
    }
    matrix
        .chunks_exact(stride)
        .map(|row| {
            let mut columns = [0.0; W];
            for (column, value) in columns.iter_mut().zip(row.iter().skip(at).take(count)) {
                *column = *value;
            }
            columns
        })
        .collect()
}

fn add_product<const W: usize>(panel: &[[f32; W]], row: &[f32], sums: &mut [f32; W]) {
    let mut local = *sums;
    for (weights, &x) in panel.iter().zip(row) {
        for (sum, &weight) in local.iter_mut().zip(weights) {
            *sum += x * weight;
        }
    }
    *sums = local;
}

fn add_narrow<const W: usize>(panel: &[[f32; W]], row: &[f32], sums: &mut [f32]) {
    let mut local = [0.0; W];
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
            let matrix: Vec<f32> = (0..inputs * stride).map(|i| (i as f32 * 0.37).sin()).collect();
            let rows: Vec<f32> = (0..3 * inputs).map(|i| (i as f32 * 0.71).cos()).collect();
            let panels = Panels::new(&matrix, stride, 1, 1 + outputs);
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
            }
        }
    }
}
