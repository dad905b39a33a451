//! Matrix products and sums of products.
//!
//! Every sum of products starts at zero and runs from left to right along the inner axis; a bias is added behind it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::operator::{ai, optional, required};
use crate::shape::{Sources, broadcast, elements, sources, strides};
use crate::{Build, Data, Kernel, Kind, Meter, Operator, Problem, Tensor};

pub(crate) mod number;
pub(crate) mod panels;
#[cfg(test)]
pub(crate) mod testing;

use number::{Number, Width, wide, width};
use panels::{Matrix, Panels, add_products};

pub(super) const TABLE: &[Operator] = &[
    ai("Det", 11, &[], det),
    ai("Einsum", 12, &["equation"], einsum),
    ai("Gemm", 1, &["alpha", "beta", "broadcast", "transA", "transB"], gemm),
    ai("MatMul", 1, &[], matmul),
    ai("MatMulInteger", 10, &[], matmul_integer),
    ai("QLinearMatMul", 10, &[], quantized_matmul),
];

/// How many operations loops of these lengths in each other take.
pub(crate) fn operations(lengths: &[usize]) -> u64 {
    lengths.iter().fold(1_u64, |product, &len| product.saturating_mul(u64::try_from(len).unwrap_or(u64::MAX)))
}

/// The product of lengths, which cannot be too large where all of them are those of one tensor with elements.
pub(crate) fn size(mut lengths: impl Iterator<Item = usize>) -> usize {
    lengths.try_fold(1_usize, usize::checked_mul).unwrap_or(usize::MAX)
}

fn matmul(build: &Build<'_>) -> Result<Kernel, Problem> {
    let prepared = match build.constant(1) {
        Some(b) if width(b.kind()) == Width::Single => Some(matrices(b)?),
        _ => None,
    };
    Ok(Box::new(move |operands, meter| {
        let (a, b) = (required(operands, 0)?, required(operands, 1)?);
        let prepared = prepared.as_deref();
        let (shape, data) = wide!(a.kind(), T => {
            let left = Factor { shape: a.shape(), elements: &T::read(a)? };
            match prepared.and_then(T::panels) {
                Some(panels) => multiply(&left, &Factor { shape: b.shape(), elements: &[] }, Some(panels), meter)
                    .map(|(shape, sums)| (shape, T::data(sums, a.kind()))),
                None => multiply(&left, &Factor { shape: b.shape(), elements: &T::read(b)? }, None, meter)
                    .map(|(shape, sums)| (shape, T::data(sums, a.kind()))),
            }
        })?;
        Ok(vec![Tensor::new(shape, data)?])
    }))
}

/// The matrices along the last two axes, laid out.
fn matrices(tensor: &Tensor) -> Result<Vec<Panels<f32>>, Problem> {
    let (_, rows, columns) = right_axes(tensor.shape())?;
    let size = rows.saturating_mul(columns).max(1);
    let all = f32::read(tensor)?;
    Ok(all.chunks_exact(size).map(|matrix| Panels::new(Matrix::by_rows(matrix, rows, columns))).collect())
}

/// An operand of [`multiply`].
struct Factor<'e, T> {
    shape: &'e [usize],
    elements: &'e [T],
}

/// The axes that are walked along, and the lengths of the last two; a vector is a column.
fn right_axes(shape: &[usize]) -> Result<(&[usize], usize, usize), Problem> {
    match shape {
        [] => Err(Problem::invalid("a product needs vectors or matrices, found a single value")),
        [inner] => Ok((&[], *inner, 1)),
        [outer @ .., rows, columns] => Ok((outer, *rows, *columns)),
    }
}

/// The product as `numpy.matmul` defines it. With `panels`, which hold the matrices of `right`, its elements are not looked at.
fn multiply<T: Number>(
    left: &Factor<'_, T>,
    right: &Factor<'_, T>,
    panels: Option<&[Panels<T>]>,
    meter: &mut Meter,
) -> Result<(Vec<usize>, Vec<T>), Problem> {
    let (right_outer, inner, columns) = right_axes(right.shape)?;
    let (left_outer, rows, left_inner) = match left.shape {
        [] => return Err(Problem::invalid("a product needs vectors or matrices, found a single value")),
        [inner] => (&[][..], 1, *inner),
        [outer @ .., rows, inner] => (outer, *rows, *inner),
    };
    if left_inner != inner {
        return Err(Problem::invalid(format!(
            "shapes {:?} and {:?} have no product: the inner lengths are {left_inner} and {inner}",
            left.shape, right.shape
        )));
    }
    let outer = broadcast(&[left_outer, right_outer])?;
    let mut shape = outer.clone();
    if left.shape.len() > 1 {
        shape.push(rows);
    }
    if right.shape.len() > 1 {
        shape.push(columns);
    }
    let count = meter.room(&shape, size_of::<T>())?;
    meter.work(operations(&[count, inner]))?;
    let mut sums = vec![T::default(); count];
    if inner == 0 || count == 0 {
        return Ok((shape, sums));
    }
    if panels.is_none() {
        meter.room(&[inner, columns.saturating_add(32)], size_of::<T>())?;
    }
    if elements(right_outer) == Some(1) {
        match panels.and_then(<[_]>::first) {
            Some(panels) => panels.add_products(left.elements.chunks_exact(inner), &mut sums, columns),
            None => {
                add_products(left.elements, Matrix::by_rows(right.elements, inner, columns), &mut sums);
            }
        }
        return Ok((shape, sums));
    }
    // Neither can overflow: both lie within an operand or the result.
    let (left_size, right_size) = (rows * inner, inner * columns);
    let pairs = sources(left_outer, &outer).zip(sources(right_outer, &outer));
    for ((from, to), sums) in pairs.zip(sums.chunks_exact_mut(rows * columns)) {
        let rows = left.elements.chunks_exact(left_size).nth(from).unwrap_or_default();
        match panels {
            Some(panels) => {
                if let Some(panels) = panels.get(to) {
                    panels.add_products(rows.chunks_exact(inner), sums, columns);
                }
            }
            None => {
                let matrix = right.elements.chunks_exact(right_size).nth(to).unwrap_or_default();
                add_products(rows, Matrix::by_rows(matrix, inner, columns), sums);
            }
        }
    }
    Ok((shape, sums))
}

/// `alpha · (A · B) + beta · C`. With `beta` 0, C is not looked at, not even for NaN.
fn gemm(build: &Build<'_>) -> Result<Kernel, Problem> {
    let attributes = &build.attributes;
    let (alpha, beta) = (attributes.float_or("alpha", 1.0)?, attributes.float_or("beta", 1.0)?);
    let (turn_a, turn_b) = (attributes.flag("transA", false)?, attributes.flag("transB", false)?);
    if build.opset < 7 {
        // C is broadcast where it is smaller, whether the old form allows it or not.
        attributes.have_no_effect(&["broadcast"]);
    }
    let prepared = match build.constant(1) {
        Some(b) if width(b.kind()) == Width::Single => {
            Some([Panels::new(second(&f32::read(b)?, b.shape(), turn_b)?)])
        }
        _ => None,
    };
    Ok(Box::new(move |operands, meter| {
        let (a, b) = (required(operands, 0)?, required(operands, 1)?);
        let c = optional(operands, 2).filter(|_| beta != 0.0);
        let &[down, along] = a.shape() else {
            return Err(Problem::invalid(format!("A must be a matrix, its shape is {:?}", a.shape())));
        };
        let (rows, inner) = if turn_a { (along, down) } else { (down, along) };
        let prepared = prepared.as_ref().map(<[_; 1]>::as_slice);
        let (columns, data) = wide!(a.kind(), T => {
            let panels = prepared.and_then(T::panels).and_then(<[_]>::first);
            let weights = if panels.is_some() { Cow::Borrowed(&[][..]) } else { T::read(b)? };
            let matrix = second(&weights, b.shape(), turn_b)?;
            let columns = matrix.columns;
            if matrix.rows != inner {
                return Err(Problem::invalid(format!(
                    "A has {inner} columns, B has {} rows (after transposition)",
                    matrix.rows
                )));
            }
            let count = meter.room(&[rows, columns], size_of::<T>())?;
            meter.work(operations(&[rows, columns, inner]))?;
            let mut sums = vec![T::default(); count];
            if count > 0 && inner > 0 {
                let mut left = T::read(a)?;
                if turn_a {
                    meter.room(&[rows, inner], size_of::<T>())?;
                    left = Sources::new(vec![1, rows], vec![rows, inner], 0)
                        .map(|place| left.get(place).copied().unwrap_or_default())
                        .collect();
                }
                match panels {
                    Some(panels) => panels.add_products(left.chunks_exact(inner), &mut sums, columns),
                    None => {
                        meter.room(&[inner, columns.saturating_add(32)], size_of::<T>())?;
                        add_products(&left, matrix, &mut sums);
                    }
                }
            }
            if alpha != 1.0 {
                let alpha = factor::<T>("alpha", alpha)?;
                sums.iter_mut().for_each(|sum| *sum = sum.times(alpha));
            }
            if let Some(c) = c {
                add_scaled(&mut sums, [rows, columns], &T::read(c)?, c.shape(), factor::<T>("beta", beta)?)?;
            }
            (columns, T::data(sums, a.kind()))
        });
        Ok(vec![Tensor::new([rows, columns], data)?])
    }))
}

/// The second operand of a Gemm.
fn second<'e, T>(elements: &'e [T], shape: &[usize], turn: bool) -> Result<Matrix<'e, T>, Problem> {
    match *shape {
        [rows, columns] if turn => Ok(Matrix::by_columns(elements, columns, rows)),
        [rows, columns] => Ok(Matrix::by_rows(elements, rows, columns)),
        _ => Err(Problem::invalid(format!("B must be a matrix, its shape is {shape:?}"))),
    }
}

fn factor<T: Number>(name: &str, value: f32) -> Result<T, Problem> {
    T::factor(value)
        .ok_or_else(|| Problem::invalid(format!("`{name}` is {value}, but the matrices hold integers")))
}

fn add_scaled<T: Number>(
    sums: &mut [T],
    shape: [usize; 2],
    c: &[T],
    own: &[usize],
    beta: T,
) -> Result<(), Problem> {
    if broadcast(&[own, &shape]).ok().as_deref() != Some(&shape[..]) {
        return Err(Problem::invalid(format!(
            "C of the shape {own:?} cannot be added to a product of {shape:?}"
        )));
    }
    let add = |sums: &mut [T], c: &mut dyn Iterator<Item = T>| {
        for (sum, c) in sums.iter_mut().zip(c) {
            *sum = sum.plus(c.times(beta));
        }
    };
    if own.iter().rev().skip(1).all(|&len| len == 1) && own.last() == Some(&shape[1]) && !c.is_empty() {
        for sums in sums.chunks_exact_mut(c.len()) {
            add(sums, &mut c.iter().copied());
        }
    } else {
        add(sums, &mut sources(own, &shape).map(|place| c.get(place).copied().unwrap_or_default()));
    }
    Ok(())
}

/// An integer matrix without its zero point, which may be one per row (A) or column (B).
fn centred(tensor: &Tensor, zero: Option<&Tensor>, per_row: bool) -> Result<Vec<i64>, Problem> {
    let mut all = i64::read(tensor)?.into_owned();
    let Some(zero) = zero else { return Ok(all) };
    for (element, zero) in all.iter_mut().zip(along(tensor.shape(), zero, per_row)?) {
        *element = element.wrapping_sub(zero);
    }
    Ok(all)
}

/// For each element of a tensor of matrices its scale or zero point: one for all, or one per row or column.
fn along<T: Number>(shape: &[usize], each: &Tensor, per_row: bool) -> Result<Vec<T>, Problem> {
    let mut own = each.shape().to_vec();
    if per_row && own.len() == 1 && shape.len() > 1 {
        own.push(1);
    }
    let all = T::read(each)?;
    if all.len() == 1 {
        own.clear();
    }
    if broadcast(&[&own, shape]).ok().as_deref() != Some(shape) {
        return Err(Problem::invalid(format!(
            "a scale or zero point of the shape {:?} does not fit matrices of {shape:?}",
            each.shape()
        )));
    }
    Ok(sources(&own, shape).map(|place| all.get(place).copied().unwrap_or_default()).collect())
}

fn matmul_integer(_: &Build<'_>) -> Result<Kernel, Problem> {
    Ok(Box::new(|operands, meter| {
        let (a, b) = (required(operands, 0)?, required(operands, 1)?);
        meter.room(&[a.len().saturating_add(b.len())], 2 * size_of::<i64>())?;
        let left = centred(a, optional(operands, 2), true)?;
        let right = centred(b, optional(operands, 3), false)?;
        let left = Factor { shape: a.shape(), elements: &left };
        let right = Factor { shape: b.shape(), elements: &right };
        let (shape, sums) = multiply(&left, &right, None, meter)?;
        Ok(vec![Tensor::new(shape, i64::data(sums, Kind::I32))?])
    }))
}

/// The product of what quantised matrices stand for, quantised. The scales meet in single precision.
fn quantized_matmul(_: &Build<'_>) -> Result<Kernel, Problem> {
    Ok(Box::new(|operands, meter| {
        let (a, a_scale, a_zero) = (required(operands, 0)?, required(operands, 1)?, required(operands, 2)?);
        let (b, b_scale, b_zero) = (required(operands, 3)?, required(operands, 4)?, required(operands, 5)?);
        let (y_scale, y_zero) = (required(operands, 6)?, required(operands, 7)?);
        meter.room(&[a.len().saturating_add(b.len())], 2 * size_of::<i64>())?;
        let (shape, mut sums) = if width(a.kind()) == Width::Whole {
            let (left, right) = (centred(a, Some(a_zero), true)?, centred(b, Some(b_zero), false)?);
            let left = Factor { shape: a.shape(), elements: &left };
            let right = Factor { shape: b.shape(), elements: &right };
            let (shape, sums) = multiply(&left, &right, None, meter)?;
            (shape, sums.into_iter().map(|sum| sum as f32).collect::<Vec<_>>())
        } else {
            let minus = |tensor: &Tensor, zero, per_row| -> Result<Vec<f32>, Problem> {
                let zeros = along::<f32>(tensor.shape(), zero, per_row)?;
                Ok(f32::read(tensor)?.iter().zip(zeros).map(|(element, zero)| element - zero).collect())
            };
            let (left, right) = (minus(a, a_zero, true)?, minus(b, b_zero, false)?);
            let left = Factor { shape: a.shape(), elements: &left };
            multiply(&left, &Factor { shape: b.shape(), elements: &right }, None, meter)?
        };
        let y_scale = along::<f32>(&shape, y_scale, true)?;
        let scales =
            along::<f32>(&shape, a_scale, true)?.into_iter().zip(along::<f32>(&shape, b_scale, false)?);
        for ((sum, (a, b)), y) in sums.iter_mut().zip(scales).zip(y_scale) {
            *sum *= a * b / y;
        }
        Ok(vec![quantized(shape, &sums, y_zero)?])
    }))
}

/// Numbers as quantised elements of the zero point's kind: rounded to the nearest, halves to even, before the zero point is added;
/// what does not fit becomes the nearest that does.
pub(crate) fn quantized(shape: Vec<usize>, numbers: &[f32], zero: &Tensor) -> Result<Tensor, Problem> {
    let (least, most) = match zero.kind() {
        Kind::I8 => (-128, 127),
        Kind::U8 => (0, 255),
        kind if width(kind) == Width::Single => {
            let zeros = along::<f32>(&shape, zero, true)?;
            let sums = numbers.iter().zip(zeros).map(|(number, zero)| number + zero).collect();
            return Tensor::new(shape, f32::data(sums, kind));
        }
        kind => return Err(Problem::invalid(format!("cannot quantise to {kind}"))),
    };
    let zeros = along::<i64>(&shape, zero, true)?;
    let rounded = numbers
        .iter()
        .zip(zeros)
        .map(|(number, zero)| (number.round_ties_even() as i64).saturating_add(zero).clamp(least, most));
    let rounded = rounded.collect();
    Tensor::new(shape, i64::data(rounded, zero.kind()))
}

/// The determinants of the matrices along the last two axes, by elimination with the largest pivot of each column, in double precision.
fn det(_: &Build<'_>) -> Result<Kernel, Problem> {
    Ok(Box::new(|operands, meter| {
        let x = required(operands, 0)?;
        let [outer @ .., rows, columns] = x.shape() else {
            return Err(Problem::invalid(format!("expected matrices, the shape is {:?}", x.shape())));
        };
        if rows != columns {
            return Err(Problem::invalid(format!("a matrix of {rows} by {columns} has no determinant")));
        }
        let count = meter.room(outer, size_of::<f64>())?;
        meter.room(x.shape(), size_of::<f64>())?;
        meter.work(operations(&[count, *rows, *rows, *rows]))?;
        let mut all = x.doubles()?;
        let mut results = vec![1.0; count];
        if *rows > 0 {
            for (result, matrix) in results.iter_mut().zip(all.chunks_exact_mut(rows * rows)) {
                *result = determinant(matrix, *rows);
            }
        }
        let data = match width(x.kind()) {
            Width::Double => Data::F64(results),
            Width::Single => f32::data(results.iter().map(|&result| result as f32).collect(), x.kind()),
            Width::Whole => return Err(Problem::invalid("the determinant of integers is not defined")),
        };
        Ok(vec![Tensor::new(outer, data)?])
    }))
}

fn determinant(matrix: &mut [f64], size: usize) -> f64 {
    let mut rows: Vec<&mut [f64]> = matrix.chunks_exact_mut(size).collect();
    let mut result = 1.0;
    for column in 0..size {
        let at = |row: &[f64]| row.get(column).copied().unwrap_or_default();
        let mut best = column;
        for (index, row) in rows.iter().enumerate().skip(column + 1) {
            if at(row).abs() > rows.get(best).map_or(0.0, |row| at(row).abs()) {
                best = index;
            }
        }
        if best != column {
            rows.swap(best, column);
            result = -result;
        }
        let Some((pivot, below)) = rows.get_mut(column..).and_then(<[_]>::split_first_mut) else { break };
        let top = at(pivot);
        result *= top;
        if top == 0.0 {
            break;
        }
        for row in below {
            let part = at(row) / top;
            for (element, above) in row.iter_mut().zip(pivot.iter()).skip(column) {
                *element -= part * above;
            }
        }
    }
    result
}

/// A label of an axis: a letter, or how far from the last one an axis of the ellipsis is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    Dots(usize),
    Letter(char),
}

/// One operand's labels, or the result's.
#[derive(Debug, Default)]
struct Term {
    before: Vec<char>,
    /// Whether there is an ellipsis, and what stands behind it.
    after: Option<Vec<char>>,
}

/// What `equation` of an Einsum says.
#[derive(Debug)]
struct Equation {
    operands: Vec<Term>,
    result: Term,
}

impl Term {
    fn parse(text: &str) -> Result<Self, Problem> {
        let bad = |message: String| {
            Err(Problem::attribute(
                "equation",
                message,
                "write it as in `ij,jk->ik`, with at most one `...` in a term",
            ))
        };
        let letters = |text: &str| text.chars().filter(|letter| *letter != ' ').collect::<Vec<_>>();
        let mut parts = text.splitn(2, "...");
        let term =
            Self { before: letters(parts.next().unwrap_or_default()), after: parts.next().map(letters) };
        let other = term.letters().find(|letter| !letter.is_ascii_alphabetic());
        match other {
            None => Ok(term),
            Some(letter) => bad(format!("`{letter}` in `{text}` is not a letter")),
        }
    }

    fn letters(&self) -> impl Iterator<Item = char> {
        self.before.iter().chain(self.after.iter().flatten()).copied()
    }

    /// The labels, with `dots` axes for the ellipsis.
    fn labels(&self, dots: usize) -> Vec<Label> {
        let dots = if self.after.is_some() { dots } else { 0 };
        let before = self.before.iter().map(|&letter| Label::Letter(letter));
        let after = self.after.iter().flatten().map(|&letter| Label::Letter(letter));
        before.chain((0..dots).rev().map(Label::Dots)).chain(after).collect()
    }
}

impl Equation {
    fn parse(text: &str) -> Result<Self, Problem> {
        let bad =
            |message: String| Err(Problem::attribute("equation", message, "write it as in `ij,jk->ik`"));
        let (left, right) = text.split_once("->").map_or((text, None), |(left, right)| (left, Some(right)));
        let operands = left.split(',').map(Term::parse).collect::<Result<Vec<_>, _>>()?;
        let mut counts = BTreeMap::<char, usize>::new();
        for letter in operands.iter().flat_map(Term::letters) {
            *counts.entry(letter).or_default() += 1;
        }
        let result = match right {
            Some(right) => Term::parse(right)?,
            None => Term {
                before: Vec::new(),
                after: Some(
                    counts.iter().filter(|(_, count)| **count == 1).map(|(letter, _)| *letter).collect(),
                ),
            },
        };
        for (index, letter) in result.letters().enumerate() {
            if !counts.contains_key(&letter) {
                return bad(format!("no operand of `{text}` has the axis `{letter}`"));
            }
            if result.letters().skip(index + 1).any(|other| other == letter) {
                return bad(format!("the result of `{text}` has the axis `{letter}` twice"));
            }
        }
        Ok(Self { operands, result })
    }
}

/// Elements whose axes have labels.
struct Labelled<'e, T: Clone> {
    labels: Vec<Label>,
    shape: Vec<usize>,
    elements: Cow<'e, [T]>,
}

impl<T: Number> Labelled<'_, T> {
    fn len_of(&self, label: Label) -> usize {
        let axes = self.labels.iter().zip(&self.shape).filter(|(own, _)| **own == label);
        axes.map(|(_, &len)| len).fold(1, |have, len| if have == 1 { len } else { have })
    }

    /// The elements along these labels in this order, with these lengths; an axis of length 1 is repeated, a label that occurs twice
    /// is a diagonal.
    fn arrange(&self, labels: &[Label], lengths: Vec<usize>, meter: &mut Meter) -> Result<Vec<T>, Problem> {
        meter.room(&lengths, size_of::<T>())?;
        meter.work(operations(&lengths))?;
        let own = strides(&self.shape);
        let step = |label: &Label| {
            let axes = self.labels.iter().zip(&self.shape).zip(&own);
            axes.filter(|((own, len), _)| *own == label && **len != 1).map(|(_, &stride)| stride).sum()
        };
        let steps: Vec<usize> = labels.iter().map(step).collect();
        let plain = strides(&lengths);
        let mut axes = steps.iter().zip(&plain).zip(&lengths);
        if elements(&lengths) == Some(self.elements.len())
            && axes.all(|((step, plain), &len)| step == plain || len == 1)
        {
            return Ok(self.elements.to_vec());
        }
        let places = Sources::new(steps, lengths, 0);
        Ok(places.map(|place| self.elements.get(place).copied().unwrap_or_default()).collect())
    }

    /// The labels for which `keep` says so, each once, and the sum over all others.
    fn reduced(self, keep: impl Fn(Label) -> bool, meter: &mut Meter) -> Result<Self, Problem> {
        let mut once: Vec<Label> = Vec::new();
        for label in &self.labels {
            if !once.contains(label) {
                once.push(*label);
            }
        }
        let (labels, summed): (Vec<Label>, Vec<Label>) = once.into_iter().partition(|&label| keep(label));
        if summed.is_empty() && labels.len() == self.labels.len() {
            return Ok(self);
        }
        let all: Vec<Label> = labels.iter().chain(&summed).copied().collect();
        let arranged = self.arrange(&all, all.iter().map(|&label| self.len_of(label)).collect(), meter)?;
        let shape: Vec<usize> = labels.iter().map(|&label| self.len_of(label)).collect();
        let count = size(summed.iter().map(|&label| self.len_of(label)));
        let mut sums = vec![T::default(); meter.room(&shape, size_of::<T>())?];
        if count == 1 {
            sums = arranged;
        } else if count > 0 {
            for (sum, all) in sums.iter_mut().zip(arranged.chunks_exact(count)) {
                *sum = all.iter().fold(T::default(), |sum, &element| sum.plus(element));
            }
        }
        Ok(Self { labels, shape, elements: sums.into() })
    }

    /// The product with another, summed over the labels that both have and `keep` does not name.
    fn contracted(
        self,
        other: Self,
        keep: impl Fn(Label) -> bool,
        meter: &mut Meter,
    ) -> Result<Self, Problem> {
        let ours = self.labels.clone();
        let left = self.reduced(|label| keep(label) || other.labels.contains(&label), meter)?;
        let right = other.reduced(|label| keep(label) || ours.contains(&label), meter)?;
        let select = |from: &Self, wanted: &dyn Fn(Label) -> bool| -> Vec<Label> {
            from.labels.iter().copied().filter(|&label| wanted(label)).collect()
        };
        let both = |label: Label| left.labels.contains(&label) && right.labels.contains(&label);
        let batch = select(&left, &|label| both(label) && keep(label));
        let inner = select(&left, &|label| both(label) && !keep(label));
        let rows = select(&left, &|label| !both(label));
        let columns = select(&right, &|label| !both(label));
        let lengths = |labels: &[Label]| -> Vec<usize> {
            let len = |label: &Label| match left.len_of(*label) {
                1 => right.len_of(*label),
                len => len,
            };
            labels.iter().map(len).collect()
        };
        let size = |labels: &[Label]| size(lengths(labels).into_iter());
        let order = [&batch[..], &rows, &inner].concat();
        let a = left.arrange(&order, lengths(&order), meter)?;
        let order = [&batch[..], &inner, &columns].concat();
        let b = right.arrange(&order, lengths(&order), meter)?;
        let (_, sums) = multiply(
            &Factor { shape: &[size(&batch), size(&rows), size(&inner)], elements: &a },
            &Factor { shape: &[size(&batch), size(&inner), size(&columns)], elements: &b },
            None,
            meter,
        )?;
        let labels = [batch, rows, columns].concat();
        Ok(Self { shape: lengths(&labels), labels, elements: sums.into() })
    }
}

/// Operands are taken together from left to right, each time summed over what neither the result nor a later operand has. Axes of
/// length 1 go with any length. An ellipsis that the result does not have is summed over.
fn einsum(build: &Build<'_>) -> Result<Kernel, Problem> {
    let text = build.attributes.text("equation")?;
    let text =
        text.ok_or_else(|| Problem::attribute("equation", "it is missing", "export the model again"))?;
    let equation = Equation::parse(text)?;
    if equation.operands.len() != build.inputs {
        let message =
            format!("`{text}` is for {} operands, there are {}", equation.operands.len(), build.inputs);
        return Err(Problem::attribute("equation", message, "give as many terms as operands"));
    }
    Ok(Box::new(move |operands, meter| {
        let kind = required(operands, 0)?.kind();
        let (shape, data) = wide!(kind, T => {
            let (shape, numbers) = equation.run::<T>(operands, meter)?;
            (shape, T::data(numbers, kind))
        });
        Ok(vec![Tensor::new(shape, data)?])
    }))
}

impl Equation {
    fn run<T: Number>(
        &self,
        operands: &[Option<&Tensor>],
        meter: &mut Meter,
    ) -> Result<(Vec<usize>, Vec<T>), Problem> {
        let mut all = Vec::with_capacity(operands.len());
        let mut lengths = BTreeMap::<Label, usize>::new();
        let mut most = 0;
        for (index, term) in self.operands.iter().enumerate() {
            let tensor = required(operands, index)?;
            let misfit = || {
                Problem::invalid(format!(
                    "operand {index} of the shape {:?} does not fit its term",
                    tensor.shape()
                ))
            };
            let dots = tensor.rank().checked_sub(term.letters().count()).ok_or_else(misfit)?;
            let labels = term.labels(dots);
            if labels.len() != tensor.rank() {
                return Err(misfit());
            }
            most = most.max(if term.after.is_some() { dots } else { 0 });
            for (&label, &len) in labels.iter().zip(tensor.shape()) {
                let have = lengths.entry(label).or_insert(len);
                if *have == 1 {
                    *have = len;
                } else if len != 1 && len != *have {
                    let message =
                        format!("operand {index}: lengths {have} and {len} of one axis do not go together");
                    return Err(Problem::invalid(message));
                }
            }
            all.push(Labelled { labels, shape: tensor.shape().to_vec(), elements: T::read(tensor)? });
        }
        let result = self.result.labels(most);
        let mut all = all.into_iter();
        let mut left = all.next().ok_or_else(|| Problem::invalid("there are no operands"))?;
        if all.len() == 0 {
            left = left.reduced(|label| result.contains(&label), meter)?;
        }
        while let Some(right) = all.next() {
            let later: Vec<Label> = all.as_slice().iter().flat_map(|one| one.labels.clone()).collect();
            left =
                left.contracted(right, |label| result.contains(&label) || later.contains(&label), meter)?;
        }
        let shape: Vec<usize> = result.iter().map(|&label| left.len_of(label)).collect();
        let numbers = left.arrange(&result, shape.clone(), meter)?;
        Ok((shape, numbers))
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{run, text};
    use crate::Tensor;

    fn floats(shape: &[usize]) -> Tensor {
        Tensor::of(shape, (0..shape.iter().product()).map(|at: usize| at as f32 + 1.0).collect()).unwrap()
    }

    #[test]
    fn products_without_inner_elements_are_zero() {
        let [y] = &run("MatMul", 13, &[], &[floats(&[2, 0]), floats(&[0, 3])]).unwrap()[..] else { panic!() };
        assert_eq!((y.shape(), y.elements::<f32>().unwrap()), (&[2, 3][..], &[0.0; 6][..]));
        let y = run("MatMul", 13, &[], &[floats(&[0, 2]), floats(&[5, 2, 3])]).unwrap();
        assert_eq!(y[0].shape(), [5, 0, 3]);
        let y = run("Gemm", 13, &[], &[floats(&[2, 0]), floats(&[0, 2]), floats(&[2])]).unwrap();
        assert_eq!(y[0].elements::<f32>().unwrap(), [1.0, 2.0, 1.0, 2.0]);
    }

    #[test]
    fn integers_wrap() {
        let big = Tensor::vector(vec![u64::MAX, 2]);
        let y = run("MatMul", 13, &[], &[big.clone(), big]).unwrap();
        assert_eq!(y[0].elements::<u64>().unwrap(), [5]);
    }

    #[test]
    fn operands_that_do_not_fit_are_named() {
        let error = |op: &str, operands: &[Tensor]| run(op, 13, &[], operands).unwrap_err();
        assert!(
            error("MatMul", &[floats(&[2, 3]), floats(&[2, 3])]).contains("the inner lengths are 3 and 2")
        );
        assert!(error("MatMul", &[floats(&[]), floats(&[1])]).contains("found a single value"));
        assert!(
            error("Gemm", &[floats(&[2, 2]), floats(&[2, 2]), floats(&[3])]).contains("C of the shape [3]")
        );
        assert!(error("Det", &[floats(&[2, 3])]).contains("2 by 3"));
        let double = Tensor::vector(vec![1.0_f64]);
        assert!(error("MatMul", &[floats(&[1]), double]).contains("one of them is double"));
    }

    #[test]
    fn zero_points_may_be_one_per_row_or_column() {
        let a = Tensor::of([2, 2], vec![1_u8, 2, 3, 4]).unwrap();
        let b = Tensor::of([2, 2], vec![1_i8, 0, 0, 1]).unwrap();
        let zeros = [Tensor::vector(vec![1_u8, 3]), Tensor::vector(vec![0_i8, -1])];
        let y = run("MatMulInteger", 10, &[], &[a, b, zeros[0].clone(), zeros[1].clone()]).unwrap();
        // [[0, 1], [0, 1]] · [[1, 1], [0, 2]]
        assert_eq!(y[0].elements::<i32>().unwrap(), [0, 2, 0, 2]);
    }

    #[test]
    fn einsum_broadcasts_and_refuses() {
        let equation = |equation: &str| [text("equation", equation)];
        let y = run("Einsum", 12, &equation("ij, j -> i"), &[floats(&[2, 3]), floats(&[1])]).unwrap();
        assert_eq!(y[0].elements::<f32>().unwrap(), [6.0, 15.0]);
        let y = run("Einsum", 12, &equation("...i"), &[floats(&[2, 0])]).unwrap();
        assert_eq!(y[0].shape(), [2, 0]);
        let y = run("Einsum", 12, &equation("ij->j"), &[floats(&[0, 2])]).unwrap();
        assert_eq!(y[0].elements::<f32>().unwrap(), [0.0; 2]);
        for (bad, part) in
            [("ij->ii", "twice"), ("ij->k", "no operand"), ("i1->i", "not a letter"), ("ij,j", "for 2")]
        {
            let error = run("Einsum", 12, &equation(bad), &[floats(&[2, 2])]).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        assert!(run("Einsum", 12, &equation("ii"), &[floats(&[2, 3])]).unwrap_err().contains("2 and 3"));
    }

    #[test]
    fn a_determinant_needs_no_rows() {
        assert_eq!(run("Det", 11, &[], &[floats(&[0, 0])]).unwrap()[0].elements::<f32>().unwrap(), [1.0]);
    }

    #[test]
    fn a_large_product_is_stopped_before_it_is_made() {
        let wide = Tensor::of([1 << 20, 0], Vec::<f32>::new()).unwrap();
        let error = run("MatMul", 13, &[], &[wide, Tensor::of([0, 1 << 20], Vec::<f32>::new()).unwrap()])
            .unwrap_err();
        assert!(error.contains("bytes of memory"), "{error}");
    }
}
