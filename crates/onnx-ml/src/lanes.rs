//! Four numbers at a time, and the inner loops of matrix products on them.
//!
//! A compiler finds vectors in plain loops too, but where it has to keep a dozen of them in registers over many steps it reads ahead and
//! runs out of them. Each lane computes what the plain loop would: products are added in the order of the rows, and never fused.
//!
//! A runtime that can interrupt a module may do so wherever a branch leads back, and some write all sums to memory there and read them
//! again; so a loop takes several steps before it leads back. Behind each step it may end, which makes the sums due there: otherwise they
//! are computed after everything has been read.

/// Columns that one row is multiplied with at a time: their sums take half of the vector registers of the smallest target.
pub const WIDTH: usize = 32;

/// Four numbers.
pub trait Lanes<T>: Copy {
    /// These four.
    fn load(numbers: &[T; 4]) -> Self;
    /// Writes them.
    fn store(self, numbers: &mut [T; 4]);
    /// Four times this one.
    fn all(number: T) -> Self;
    /// The sums.
    fn plus(self, other: Self) -> Self;
    /// The products.
    fn times(self, other: Self) -> Self;
}

/// Lanes that exchange numbers.
pub trait Transpose<T>: Lanes<T> {
    /// Whether this takes less than reading numbers one by one.
    const SHUFFLES: bool;
    /// The first number of each, the second of each, and so on.
    fn transpose(rows: [Self; 4]) -> [Self; 4];
}

impl<T: Copy + core::ops::Add<Output = T> + core::ops::Mul<Output = T>> Lanes<T> for [T; 4] {
    #[inline(always)]
    fn load(numbers: &[T; 4]) -> Self {
        *numbers
    }

    #[inline(always)]
    fn store(self, numbers: &mut [T; 4]) {
        *numbers = self;
    }

    #[inline(always)]
    fn all(number: T) -> Self {
        [number; 4]
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        let ([a, b, c, d], [e, f, g, h]) = (self, other);
        [a + e, b + f, c + g, d + h]
    }

    #[inline(always)]
    fn times(self, other: Self) -> Self {
        let ([a, b, c, d], [e, f, g, h]) = (self, other);
        [a * e, b * f, c * g, d * h]
    }
}

impl<T> Transpose<T> for [T; 4]
where
    Self: Lanes<T>,
    T: Copy,
{
    const SHUFFLES: bool = false;

    #[inline(always)]
    fn transpose(rows: [Self; 4]) -> [Self; 4] {
        std::array::from_fn(|column| rows.map(|row| row[column]))
    }
}

/// Four `f64`.
pub type F64x4 = [f64; 4];

/// Four `f32`.
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
pub type F32x4 = [f32; 4];

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub use simd128::F32x4;

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod simd128 {
    use core::arch::wasm32::{f32x4_add, f32x4_mul, f32x4_splat, i32x4_shuffle, v128};

    use super::{Lanes, Transpose};

    /// Four `f32`.
    #[derive(Debug, Clone, Copy)]
    pub struct F32x4(v128);

    impl Lanes<f32> for F32x4 {
        #[inline(always)]
        fn load(numbers: &[f32; 4]) -> Self {
            Self(bytemuck::cast(*numbers))
        }

        #[inline(always)]
        fn store(self, numbers: &mut [f32; 4]) {
            *numbers = bytemuck::cast(self.0);
        }

        #[inline(always)]
        fn all(number: f32) -> Self {
            Self(f32x4_splat(number))
        }

        #[inline(always)]
        fn plus(self, other: Self) -> Self {
            Self(f32x4_add(self.0, other.0))
        }

        #[inline(always)]
        fn times(self, other: Self) -> Self {
            Self(f32x4_mul(self.0, other.0))
        }
    }

    impl Transpose<f32> for F32x4 {
        const SHUFFLES: bool = true;

        #[inline(always)]
        fn transpose([a, b, c, d]: [Self; 4]) -> [Self; 4] {
            let low = |x: Self, y: Self| i32x4_shuffle::<0, 4, 1, 5>(x.0, y.0);
            let high = |x: Self, y: Self| i32x4_shuffle::<2, 6, 3, 7>(x.0, y.0);
            let [ac, bd] = [low(a, c), low(b, d)];
            let [ca, db] = [high(a, c), high(b, d)];
            [
                i32x4_shuffle::<0, 4, 1, 5>(ac, bd),
                i32x4_shuffle::<2, 6, 3, 7>(ac, bd),
                i32x4_shuffle::<0, 4, 1, 5>(ca, db),
                i32x4_shuffle::<2, 6, 3, 7>(ca, db),
            ]
            .map(Self)
        }
    }
}

/// Half of the columns that are worked off at a time.
pub const HALF: usize = WIDTH / 2;

/// What [`add_row`] multiplies, step by step: a number of the row with the matrix's elements that belong to it.
pub trait Steps<'m, T: 'm> {
    /// The next number, and the elements of the first half of the columns.
    fn first(&mut self) -> Option<(T, &'m [T; HALF])>;
    /// The elements of the second half.
    fn second(&mut self) -> Option<&'m [T; HALF]>;
}

/// Takes a step again and again until it breaks off: eight of them before the loop leads back.
macro_rules! until_done {
    ($step:block) => {
        loop {
            $step
            $step
            $step
            $step
            $step
            $step
            $step
            $step
        }
    };
}

/// Adds the product of a row with some columns of a matrix to their sums. Each half of a step needs few enough registers.
#[inline(always)]
pub fn add_row<'m, T: Copy + 'm, L: Lanes<T>>(mut steps: impl Steps<'m, T>, sums: &mut [T; WIDTH]) {
    let [mut low, mut high] = halves(sums).map(|half| parts(half).map(L::load));
    until_done!({
        let Some((x, weights)) = steps.first() else { break };
        let x = L::all(x);
        for (sum, weights) in low.iter_mut().zip(parts(weights)) {
            *sum = sum.plus(x.times(L::load(weights)));
        }
        let Some(weights) = steps.second() else { break };
        for (sum, weights) in high.iter_mut().zip(parts(weights)) {
            *sum = sum.plus(x.times(L::load(weights)));
        }
    });
    let (sums, _) = sums.as_chunks_mut::<4>();
    for (sums, four) in sums.iter_mut().zip(low.into_iter().chain(high)) {
        four.store(sums);
    }
}

/// Adds the products of two rows with half of the columns to their sums. The matrix's elements are read once for both.
#[inline(always)]
pub fn add_two_rows<'m, T: Copy + 'm, L: Lanes<T>>(
    weights: impl Iterator<Item = &'m [T; HALF]>,
    [a, b]: [&[T]; 2],
    [a_sums, b_sums]: [&mut [T; HALF]; 2],
) {
    let mut sums = [parts(a_sums).map(L::load), parts(b_sums).map(L::load)];
    let mut steps = weights.zip(a.iter().zip(b));
    until_done!({
        let Some((weights, (&a, &b))) = steps.next() else { break };
        let rows = [L::all(a), L::all(b)];
        for (column, weights) in parts(weights).into_iter().enumerate() {
            let weights = L::load(weights);
            for (sums, x) in sums.iter_mut().zip(rows) {
                sums[column] = sums[column].plus(x.times(weights));
            }
        }
    });
    for (to, from) in [a_sums, b_sums].into_iter().zip(sums) {
        to.as_chunks_mut().0.iter_mut().zip(from).for_each(|(sums, four)| four.store(sums));
    }
}

#[inline(always)]
fn halves<T>(columns: &[T; WIDTH]) -> [&[T; HALF]; 2] {
    let (halves, _) = columns.as_chunks::<HALF>();
    [&halves[0], &halves[1]]
}

#[inline(always)]
fn parts<T>(half: &[T; HALF]) -> [&[T; 4]; 4] {
    let (parts, _) = half.as_chunks::<4>();
    std::array::from_fn(|part| &parts[part])
}

/// Steps along a panel: columns of a matrix, the rows of which follow each other.
#[derive(Debug)]
pub struct Panel<'m, T> {
    halves: std::slice::Iter<'m, [T; HALF]>,
    row: std::slice::Iter<'m, T>,
}

impl<'m, T> Panel<'m, T> {
    /// The steps of a row's product with a panel.
    #[inline(always)]
    pub fn new(panel: &'m [[T; WIDTH]], row: &'m [T]) -> Self {
        Self { halves: panel.as_flattened().as_chunks().0.iter(), row: row.iter() }
    }
}

impl<'m, T: Copy> Steps<'m, T> for Panel<'m, T> {
    #[inline(always)]
    fn first(&mut self) -> Option<(T, &'m [T; HALF])> {
        let x = *self.row.next()?;
        Some((x, self.halves.next()?))
    }

    #[inline(always)]
    fn second(&mut self) -> Option<&'m [T; HALF]> {
        self.halves.next()
    }
}

/// Steps along some columns of a matrix, whose rows are wider.
#[derive(Debug)]
pub struct Columns<'m, T> {
    rows: std::slice::ChunksExact<'m, T>,
    row: std::slice::Iter<'m, T>,
    at: usize,
    second: &'m [T],
}

impl<'m, T> Columns<'m, T> {
    /// The steps of a row's product with the columns from `at` on of a matrix with `width` columns, at least one.
    #[inline(always)]
    pub fn new(matrix: &'m [T], width: usize, at: usize, row: &'m [T]) -> Self {
        Self { rows: matrix.chunks_exact(width.max(1)), row: row.iter(), at, second: &[] }
    }
}

impl<'m, T: Copy> Steps<'m, T> for Columns<'m, T> {
    #[inline(always)]
    fn first(&mut self) -> Option<(T, &'m [T; HALF])> {
        let x = *self.row.next()?;
        let (first, second) = self.rows.next()?.get(self.at..)?.split_first_chunk()?;
        self.second = second;
        Some((x, first))
    }

    #[inline(always)]
    fn second(&mut self) -> Option<&'m [T; HALF]> {
        self.second.first_chunk()
    }
}
