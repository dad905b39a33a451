//! One value in place of many.

use std::borrow::Cow;

use lockgate_onnx_ml::math::Float;

use crate::operator::{ai, optional, required};
use crate::shape;
use crate::{Build, Kernel, Kind, Numbers, Operator, Problem, Tensor};

pub(super) mod lines;

use lines::{Infinite, Lines, fold, mean, product, sum};

const REDUCTION: &[&str] = &["axes", "keepdims", "noop_with_empty_axes"];
const POSITION: &[&str] = &["axis", "keepdims", "select_last_index"];

pub(super) const TABLE: &[Operator] = &[
    ai("ArgMax", 1, POSITION, |build| position(build, true)),
    ai("ArgMin", 1, POSITION, |build| position(build, false)),
    ai("ReduceL1", 1, REDUCTION, |build| reduce(build, Reduction::L1)),
    ai("ReduceL2", 1, REDUCTION, |build| reduce(build, Reduction::L2)),
    ai("ReduceLogSum", 1, REDUCTION, |build| reduce(build, Reduction::LogSum)),
    ai("ReduceLogSumExp", 1, REDUCTION, |build| reduce(build, Reduction::LogSumExp)),
    ai("ReduceMax", 1, REDUCTION, |build| reduce(build, Reduction::Max)),
    ai("ReduceMean", 1, REDUCTION, |build| reduce(build, Reduction::Mean)),
    ai("ReduceMin", 1, REDUCTION, |build| reduce(build, Reduction::Min)),
    ai("ReduceProd", 1, REDUCTION, |build| reduce(build, Reduction::Prod)),
    ai("ReduceSum", 1, REDUCTION, |build| reduce(build, Reduction::Sum)),
    ai("ReduceSumSquare", 1, REDUCTION, |build| reduce(build, Reduction::SumSquare)),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reduction {
    L1,
    L2,
    LogSum,
    LogSumExp,
    Max,
    Mean,
    Min,
    Prod,
    Sum,
    SumSquare,
}

/// The axes are an attribute or, since opset 13 (`ReduceSum`) and 18 (the others), an operand. Without any, all axes are reduced, or with
/// `noop_with_empty_axes` none: then each element is reduced for itself, so that `ReduceL1` still gives its magnitude.
fn reduce(build: &Build<'_>, how: Reduction) -> Result<Kernel, Problem> {
    let given = build.attributes.ints("axes")?.unwrap_or_default().to_vec();
    let keep = build.attributes.flag("keepdims", true)?;
    let none_means_none = build.attributes.flag("noop_with_empty_axes", false)?;
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        let given = match optional(operands, 1) {
            Some(axes) => axes.integers()?,
            None => given.clone(),
        };
        let axes = if given.is_empty() && !none_means_none {
            (0..x.rank()).collect()
        } else {
            shape::axes(&given, x.rank())?
        };
        if x.kind() == Kind::Bool && !matches!(how, Reduction::Max | Reduction::Min) {
            return Err(Problem::invalid("expected numbers, found bool"));
        }
        let result = reduced(x.shape(), &axes, keep);
        meter.room(&result, 8)?;
        meter.room(x.shape(), 8)?;
        meter.work(product(&[x.len()]))?;
        let lines = Lines::new(x.shape(), &axes);
        if how == Reduction::Mean && x.kind().is_integer() && lines.len == 0 && lines.count > 0 {
            return Err(Problem::invalid(format!(
                "there is no mean of no integers: the shape is {:?}",
                x.shape()
            )));
        }
        let fractions = matches!(how, Reduction::L2 | Reduction::LogSum | Reduction::LogSumExp);
        let numbers = match x.numbers()? {
            Numbers::F32(all) => Numbers::F32(lines.map(all, |line| float_line(line, how)).into()),
            Numbers::F64(all) => Numbers::F64(lines.map(all, |line| float_line(line, how)).into()),
            // As NumPy: in double precision, then cut to an integer.
            Numbers::I64(_) if fractions => {
                Numbers::I64(lines.map(x.doubles()?.into(), |line| float_line(line, how) as i64).into())
            }
            Numbers::U64(_) if fractions => {
                Numbers::U64(lines.map(x.doubles()?.into(), |line| float_line(line, how) as u64).into())
            }
            Numbers::I64(all) => {
                let unused = 64_usize.saturating_sub(x.kind().size().saturating_mul(8));
                let (lowest, highest) = (i64::MIN >> unused, i64::MAX >> unused);
                Numbers::I64(lines.map(all, |line| signed_line(line, how, lowest, highest)).into())
            }
            Numbers::U64(all) => {
                let unused = 64_usize.saturating_sub(x.kind().size().saturating_mul(8));
                let highest = if x.kind() == Kind::Bool { 1 } else { u64::MAX >> unused };
                Numbers::U64(lines.map(all, |line| unsigned_line(line, how, 0, highest)).into())
            }
        };
        Ok(vec![Tensor::new(result, numbers.narrow(x.kind()))?])
    }))
}

fn reduced(shape: &[usize], axes: &[usize], keep: bool) -> Vec<usize> {
    let lengths = shape.iter().enumerate();
    if keep {
        return lengths.map(|(axis, &len)| if axes.contains(&axis) { 1 } else { len }).collect();
    }
    lengths.filter(|(axis, _)| !axes.contains(axis)).map(|(_, &len)| len).collect()
}

/// NaN among the elements makes the result NaN, as in NumPy.
fn float_line<T: Float>(line: &[T], how: Reduction) -> T {
    match how {
        Reduction::L1 => sum(line, T::abs),
        Reduction::L2 => sum(line, |x| x * x).sqrt(),
        Reduction::LogSum => sum(line, |x| x).ln(),
        Reduction::LogSumExp => {
            let greatest = float_line(line, Reduction::Max);
            let finite = greatest.abs() < T::infinity();
            let shift = if finite { greatest } else { T::ZERO };
            sum(line, |x| (x - shift).exp()).ln() + shift
        }
        Reduction::Max => {
            let greater = |one: T, other: T| if one >= other || one.is_nan() { one } else { other };
            fold(line, -T::infinity(), greater, greater)
        }
        Reduction::Min => {
            let smaller = |one: T, other: T| if one <= other || one.is_nan() { one } else { other };
            fold(line, T::infinity(), smaller, smaller)
        }
        Reduction::Mean => mean(line, |x| x),
        Reduction::Prod => fold(line, T::ONE, |product, x| product * x, |one, other| one * other),
        Reduction::Sum => sum(line, |x| x),
        Reduction::SumSquare => sum(line, |x| x * x),
    }
}

/// Sums and products wrap; a mean is cut to an integer. `lowest` and `highest` are those of the kind, and what the maximum and the minimum of
/// nothing are.
macro_rules! integer_line {
    ($name:ident, $type:ty, $magnitude:expr) => {
        fn $name(line: &[$type], how: Reduction, lowest: $type, highest: $type) -> $type {
            let sum = |of: fn($type) -> $type| line.iter().fold(0, |sum: $type, &x| sum.wrapping_add(of(x)));
            match how {
                Reduction::Max => line.iter().copied().max().unwrap_or(lowest),
                Reduction::Min => line.iter().copied().min().unwrap_or(highest),
                Reduction::Prod => line.iter().fold(1, |product: $type, &x| product.wrapping_mul(x)),
                Reduction::SumSquare => sum(|x| x.wrapping_mul(x)),
                Reduction::L1 => sum($magnitude),
                Reduction::Mean => {
                    let len = <$type>::try_from(line.len()).unwrap_or(<$type>::MAX);
                    sum(|x| x).checked_div(len).unwrap_or(0)
                }
                _ => sum(|x| x),
            }
        }
    };
}

integer_line!(signed_line, i64, i64::wrapping_abs);
integer_line!(unsigned_line, u64, |x| x);

/// `ArgMax` and `ArgMin`.
fn position(build: &Build<'_>, greatest: bool) -> Result<Kernel, Problem> {
    let axis = build.attributes.int_or("axis", 0)?;
    let keep = build.attributes.flag("keepdims", true)?;
    let last = build.attributes.flag("select_last_index", false)?;
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        let axes = [shape::axis(axis, x.rank())?];
        let result = reduced(x.shape(), &axes, keep);
        meter.room(&result, 8)?;
        meter.room(x.shape(), 8)?;
        meter.work(product(&[x.len()]))?;
        let lines = Lines::new(x.shape(), &axes);
        if lines.len == 0 && lines.count > 0 {
            return Err(Problem::invalid(format!(
                "axis {axis} of the shape {:?} has no elements to choose from",
                x.shape()
            )));
        }
        fn of<T: Copy + Default + PartialOrd>(
            lines: &Lines,
            all: Cow<'_, [T]>,
            greatest: bool,
            last: bool,
        ) -> Vec<i64> {
            lines.map(all, |line| i64::try_from(extreme(line, greatest, last)).unwrap_or(i64::MAX))
        }
        let places = match x.numbers()? {
            Numbers::F32(all) => of(&lines, all, greatest, last),
            Numbers::F64(all) => of(&lines, all, greatest, last),
            Numbers::I64(all) => of(&lines, all, greatest, last),
            Numbers::U64(all) => of(&lines, all, greatest, last),
        };
        Ok(vec![Tensor::of(result, places)?])
    }))
}

/// Where the greatest or the smallest element stands, the first or the last of equal ones. NaN is better than nothing and worse than
/// nothing: in front it stays, later it is passed over. So does onnxruntime, and the tabular engine.
pub(super) fn extreme<T: Copy + PartialOrd>(line: &[T], greatest: bool, last: bool) -> usize {
    let mut elements = line.iter().copied().enumerate();
    let Some(mut best) = elements.next() else { return 0 };
    for (at, element) in elements {
        let better = if greatest { element > best.1 } else { element < best.1 };
        if better || last && element == best.1 {
            best = (at, element);
        }
    }
    best.0
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{Attribute, Meter, graph::Node};

    /// The results of a node, or what is wrong.
    pub(in crate::ops) fn run(
        operator: &str,
        opset: i64,
        attributes: &[(&str, Attribute)],
        operands: &[Option<&Tensor>],
        outputs: usize,
    ) -> Result<Vec<Tensor>, String> {
        let node = Node {
            domain: "ai.onnx".to_owned(),
            operator: operator.to_owned(),
            opset,
            attributes: attributes
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect::<BTreeMap<_, _>>(),
            inputs: vec![None; operands.len()],
            outputs: vec![None; outputs],
            ..Node::default()
        };
        let kernel =
            node.kernel(&vec![None; operands.len()], &[]).map_err(|failed| failed.problem.to_string())?;
        kernel(operands, &mut Meter::new(1 << 20, 1 << 20)).map_err(|problem| problem.to_string())
    }

    #[track_caller]
    fn check(
        operator: &str,
        opset: i64,
        attributes: &[(&str, Attribute)],
        operands: &[&Tensor],
        expected: &Tensor,
    ) {
        let operands: Vec<_> = operands.iter().copied().map(Some).collect();
        let found = run(operator, opset, attributes, &operands, 1).unwrap();
        // NaN is equal to NaN here.
        assert_eq!(format!("{:?}", found.first().unwrap()), format!("{expected:?}"));
    }

    fn keep(keep: i64) -> (&'static str, Attribute) {
        ("keepdims", Attribute::Int(keep))
    }

    #[test]
    fn axes_of_old_models() {
        let x = Tensor::of([2, 3], vec![1_f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        let axes = ("axes", Attribute::Ints(vec![-2]));
        check("ReduceSum", 7, &[axes.clone(), keep(0)], &[&x], &Tensor::vector(vec![5_f32, 7.0, 9.0]));
        check("ReduceMean", 17, &[axes], &[&x], &Tensor::of([1, 3], vec![2.5_f32, 3.5, 4.5]).unwrap());
        check("ReduceMax", 12, &[keep(0)], &[&x], &Tensor::scalar(6_f32));
    }

    #[test]
    fn axes_in_the_middle() {
        let x = Tensor::of([2, 2, 2], (0..8).collect::<Vec<i32>>()).unwrap();
        let axes = ("axes", Attribute::Ints(vec![0, 2]));
        check("ReduceSum", 11, &[axes, keep(0)], &[&x], &Tensor::vector(vec![10_i32, 18]));
        let axes = Tensor::vector(vec![1_i64]);
        check(
            "ReduceProd",
            18,
            &[keep(0)],
            &[&x, &axes],
            &Tensor::of([2, 2], vec![0_i32, 3, 24, 35]).unwrap(),
        );
    }

    #[test]
    fn integers() {
        let x = Tensor::vector(vec![-7_i8, 4, 0, 0]);
        check("ReduceMean", 13, &[keep(0)], &[&x], &Tensor::scalar(0_i8));
        check("ReduceL1", 13, &[keep(0)], &[&x], &Tensor::scalar(11_i8));
        check("ReduceL2", 13, &[keep(0)], &[&x], &Tensor::scalar(8_i8));
        check("ReduceSumSquare", 13, &[keep(0)], &[&x], &Tensor::scalar(65_i8));
        let x = Tensor::vector(vec![200_u8, 100]);
        check("ReduceSum", 13, &[keep(0)], &[&x], &Tensor::scalar(44_u8));
        check("ReduceMean", 13, &[keep(0)], &[&x], &Tensor::scalar(150_u8));
    }

    #[test]
    fn nothing_to_reduce() {
        let none = Tensor::vector(Vec::<i8>::new());
        check("ReduceMax", 13, &[keep(0)], &[&none], &Tensor::scalar(i8::MIN));
        check("ReduceMin", 13, &[keep(0)], &[&none], &Tensor::scalar(i8::MAX));
        assert_eq!(
            run("ReduceMean", 13, &[], &[Some(&none)], 1).unwrap_err(),
            "there is no mean of no integers: the shape is [0]"
        );
        let none = Tensor::of([0, 2], Vec::<f32>::new()).unwrap();
        let axes = ("axes", Attribute::Ints(vec![0]));
        check(
            "ReduceMean",
            13,
            &[axes.clone(), keep(0)],
            &[&none],
            &Tensor::vector(vec![f32::NAN, f32::NAN]),
        );
        check("ReduceLogSumExp", 13, &[axes, keep(0)], &[&none], &Tensor::vector(vec![f32::NEG_INFINITY; 2]));
        assert_eq!(
            run("ArgMax", 13, &[], &[Some(&none)], 1).unwrap_err(),
            "axis 0 of the shape [0, 2] has no elements to choose from"
        );
        let wide = Tensor::of([0, 1 << 40], Vec::<f32>::new()).unwrap();
        let found =
            run("ReduceSum", 7, &[("axes", Attribute::Ints(vec![0]))], &[Some(&wide)], 1).unwrap_err();
        assert_eq!(found, "it would take 8796093022208 bytes of memory, at most 1048576 are allowed");
    }

    #[test]
    fn scalars_and_no_axes() {
        let x = Tensor::scalar(-3_f32);
        check("ReduceL1", 18, &[], &[&x], &Tensor::scalar(3_f32));
        let x = Tensor::vector(vec![-3_f32, 4.0]);
        let none = ("noop_with_empty_axes", Attribute::Int(1));
        check("ReduceSumSquare", 18, std::slice::from_ref(&none), &[&x], &Tensor::vector(vec![9_f32, 16.0]));
        check("ReduceSum", 13, &[none], &[&x, &Tensor::vector(Vec::<i64>::new())], &x);
    }

    #[test]
    fn nan() {
        let mut all = vec![1_f32; 20];
        all[11] = f32::NAN;
        all[19] = 7.0;
        let x = Tensor::vector(all);
        check("ReduceMax", 13, &[keep(0)], &[&x], &Tensor::scalar(f32::NAN));
        check("ReduceMin", 13, &[keep(0)], &[&x], &Tensor::scalar(f32::NAN));
        check("ArgMax", 13, &[keep(0)], &[&x], &Tensor::scalar(19_i64));
        check("ArgMin", 13, &[keep(0)], &[&x], &Tensor::scalar(0_i64));
        let last = ("select_last_index", Attribute::Int(1));
        check("ArgMin", 13, &[keep(0), last], &[&x], &Tensor::scalar(18_i64));
        let x = Tensor::vector(vec![f32::NAN, 1.0, 2.0]);
        check("ArgMax", 13, &[keep(0)], &[&x], &Tensor::scalar(0_i64));
        check("ArgMin", 13, &[keep(0)], &[&x], &Tensor::scalar(0_i64));
    }

    #[test]
    fn booleans() {
        let x = Tensor::of([2, 2], vec![true, false, false, false]).unwrap();
        let axes = Tensor::vector(vec![1_i64]);
        check("ReduceMax", 20, &[keep(0)], &[&x, &axes], &Tensor::vector(vec![true, false]));
        assert_eq!(run("ReduceSum", 20, &[], &[Some(&x)], 1).unwrap_err(), "expected numbers, found bool");
    }
}
