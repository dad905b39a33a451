//! Support vector machines.
//!
//! Kernels are computed in single precision and left to right; what a pair of classes decides is summed in double precision.

use lockgate_onnx_ml::dense::arg_max;
use lockgate_onnx_ml::math::{exp, tanh};
use lockgate_onnx_ml::transform::{Transform, both_classes};

use super::{EXPORT_AGAIN, choose, class_labels, post_transform, rows_of, singles, transform_rows, work};
use crate::operator::required;
use crate::{Attributes, Build, Data, Kernel, Problem, Tensor};

pub(super) const CLASSIFIER: &[&str] = &[
    "classlabels_ints",
    "classlabels_strings",
    "coefficients",
    "kernel_params",
    "kernel_type",
    "post_transform",
    "prob_a",
    "prob_b",
    "rho",
    "support_vectors",
    "vectors_per_class",
];

pub(super) const REGRESSOR: &[&str] = &[
    "coefficients",
    "kernel_params",
    "kernel_type",
    "n_supports",
    "one_class",
    "post_transform",
    "rho",
    "support_vectors",
];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Similarity {
    Linear { offset: f32 },
    Polynomial { gamma: f32, offset: f32, degree: f32 },
    Radial { gamma: f32 },
    Sigmoid { gamma: f32, offset: f32 },
}

impl Similarity {
    fn read(a: &Attributes<'_>) -> Result<Self, Problem> {
        let kind = a.text_or("kernel_type", "LINEAR")?;
        let parameters = a.floats("kernel_params")?.unwrap_or_default();
        if kind == "LINEAR" {
            return Ok(Self::Linear { offset: 0.0 });
        }
        let &[gamma, offset, degree] = parameters else {
            let message = format!("expected gamma, coef0 and degree, found {} numbers", parameters.len());
            return Err(Problem::attribute("kernel_params", message, EXPORT_AGAIN));
        };
        match kind {
            "POLY" => Ok(Self::Polynomial { gamma, offset, degree }),
            "RBF" => Ok(Self::Radial { gamma }),
            "SIGMOID" => Ok(Self::Sigmoid { gamma, offset }),
            other => {
                let message = format!("expected LINEAR, POLY, RBF or SIGMOID, found `{other}`");
                Err(Problem::attribute("kernel_type", message, EXPORT_AGAIN))
            }
        }
    }

    fn of(self, row: &[f32], vector: &[f32]) -> f32 {
        let pairs = row.iter().zip(vector);
        if let Self::Radial { gamma } = self {
            let distance = pairs.fold(0.0_f32, |sum, (x, y)| sum + (x - y) * (x - y));
            return exp(-gamma * distance);
        }
        let product = pairs.fold(0.0_f32, |sum, (x, y)| sum + x * y);
        match self {
            Self::Linear { offset } => product + offset,
            Self::Polynomial { gamma, offset, degree } => {
                let base = gamma * product + offset;
                if degree == 2.0 {
                    base * base
                } else if degree == 3.0 {
                    base * base * base
                } else {
                    libm::powf(base, degree)
                }
            }
            Self::Sigmoid { gamma, offset } => tanh(gamma * product + offset),
            Self::Radial { .. } => 0.0,
        }
    }
}

/// Vectors, row by row, that a row is compared with.
struct Vectors {
    similarity: Similarity,
    columns: usize,
    count: usize,
    all: Vec<f32>,
}

impl Vectors {
    fn new(name: &str, similarity: Similarity, count: usize, all: &[f32]) -> Result<Self, Problem> {
        if count == 0 || all.is_empty() || !all.len().is_multiple_of(count) {
            let message = format!("{} numbers are not {count} vectors", all.len());
            return Err(Problem::attribute(name, message, EXPORT_AGAIN));
        }
        Ok(Self { similarity, columns: all.len() / count, count, all: all.to_vec() })
    }

    fn compare<'r>(&'r self, row: &'r [f32]) -> impl Iterator<Item = f32> + 'r {
        self.all.chunks_exact(self.columns).map(|vector| self.similarity.of(row, vector))
    }
}

fn first_rho(rho: &[f32]) -> Result<f32, Problem> {
    rho.first().copied().ok_or_else(|| Problem::attribute("rho", "there are no numbers", EXPORT_AGAIN))
}

/// A weighted sum of similarities; the sign of it for a machine of one class.
pub(super) fn regressor(build: &Build<'_>) -> Result<Kernel, Problem> {
    let a = &build.attributes;
    let similarity = Similarity::read(a)?;
    let coefficients = a.floats("coefficients")?.unwrap_or_default().to_vec();
    let support = a.floats("support_vectors")?.unwrap_or_default();
    let rho = first_rho(a.floats("rho")?.unwrap_or_default())?;
    let count = usize::try_from(a.int_or("n_supports", 0)?).unwrap_or(0);
    let one_class = a.flag("one_class", false)?;
    // onnxruntime reads it and applies none, not even PROBIT.
    post_transform(a)?;
    // Without support vectors the coefficients are those of one linear function.
    let vectors = if count == 0 {
        Vectors::new("coefficients", Similarity::Linear { offset: rho }, 1, &coefficients)?
    } else {
        Vectors::new("support_vectors", similarity, count, support)?
    };
    if count > coefficients.len() {
        let message = format!("expected {count} numbers, found {}", coefficients.len());
        return Err(Problem::attribute("coefficients", message, EXPORT_AGAIN));
    }
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        let rows = rows_of(x, vectors.columns)?;
        meter.room(&[rows, 1], size_of::<f32>())?;
        work(meter, rows, vectors.all.len())?;
        let all = singles(x)?;
        let scores = all.chunks_exact(vectors.columns).map(|row| {
            let mut similar = vectors.compare(row);
            let score = if count == 0 {
                similar.next().unwrap_or(0.0)
            } else {
                similar.zip(&coefficients).fold(0.0_f32, |sum, (x, weight)| sum + x * weight) + rho
            };
            match one_class {
                true if score > 0.0 => 1.0,
                true => -1.0,
                false => score,
            }
        });
        Ok(vec![Tensor::of([rows, 1], scores.collect::<Vec<f32>>())?])
    }))
}

/// Scores, and the class with the most votes.
pub(super) fn classifier(build: &Build<'_>) -> Result<Kernel, Problem> {
    let a = &build.attributes;
    let labels = class_labels(a, "classlabels_ints", "classlabels_strings")?;
    let transform = post_transform(a)?;
    let similarity = Similarity::read(a)?;
    let per_class = a
        .ints("vectors_per_class")?
        .unwrap_or_default()
        .iter()
        .map(|&count| usize::try_from(count).ok())
        .collect::<Option<Vec<usize>>>();
    let per_class = per_class
        .ok_or_else(|| Problem::attribute("vectors_per_class", "there are negative numbers", EXPORT_AGAIN))?;
    let support = a.floats("support_vectors")?.unwrap_or_default();
    let coefficients = a.floats("coefficients")?.unwrap_or_default();
    let rho = a.floats("rho")?.unwrap_or_default();
    let platt = [a.floats("prob_a")?.unwrap_or_default(), a.floats("prob_b")?.unwrap_or_default()];
    let count = per_class.iter().fold(0_usize, |sum, &count| sum.saturating_add(count));
    if count == 0 {
        return linear(labels, transform, coefficients, first_rho(rho)?, platt[0].is_empty());
    }
    let classes = labels.len();
    let pairs = classes.saturating_mul(classes.saturating_sub(1)) / 2;
    let expect = |name, found: usize, expected: usize| {
        if found >= expected {
            return Ok(());
        }
        Err(Problem::attribute(name, format!("expected {expected} numbers, found {found}"), EXPORT_AGAIN))
    };
    if classes < 2 || per_class.len() != classes {
        let message = format!("there are {classes} classes, found {} numbers", per_class.len());
        return Err(Problem::attribute("vectors_per_class", message, EXPORT_AGAIN));
    }
    let with_probabilities = !platt[0].is_empty() || !platt[1].is_empty();
    expect("rho", rho.len(), pairs)?;
    expect("coefficients", coefficients.len(), count.saturating_mul(classes - 1))?;
    if with_probabilities {
        expect("prob_a", platt[0].len(), pairs)?;
        expect("prob_b", platt[1].len(), pairs)?;
    } else if classes == 2 && transform == Transform::Probit {
        return Err(Problem::attribute(
            "post_transform",
            "PROBIT of a single score for two classes is not defined",
            "export with probabilities",
        ));
    }
    let vectors = Vectors::new("support_vectors", similarity, count, support)?;
    let machine = Machine {
        starts: per_class
            .iter()
            .scan(0, |start, &own| Some(std::mem::replace(start, *start + own)))
            .collect(),
        per_class,
        coefficients: coefficients.to_vec(),
        rho: rho.to_vec(),
        vectors,
    };
    let platt = with_probabilities.then(|| platt.map(<[f32]>::to_vec));
    let width = if platt.is_some() || classes == 2 { classes } else { pairs };
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        let rows = rows_of(x, machine.vectors.columns)?;
        let mut scores = Vec::with_capacity(meter.room(&[rows, width], size_of::<f32>())?);
        meter.room(&[rows], 2 * crate::meter::PLACE)?;
        work(meter, rows, machine.vectors.all.len())?;
        work(meter, rows, machine.coefficients.len())?;
        let mut chosen = Vec::with_capacity(rows);
        for row in singles(x)?.chunks_exact(machine.vectors.columns) {
            let (decisions, votes) = machine.decide(row);
            let most = votes.iter().max().copied().unwrap_or(0);
            chosen.push(votes.iter().position(|&own| own == most).unwrap_or(0));
            match (&platt, decisions.as_slice()) {
                (Some([a, b]), decisions) => {
                    let against = decisions.iter().zip(a).zip(b);
                    let against: Vec<f32> =
                        against.map(|((score, a), b)| 1.0 - logistic(score * a + b)).collect();
                    work(meter, classes, classes.saturating_mul(100))?;
                    scores.extend(probabilities(classes, &against));
                }
                (None, &[only]) => {
                    scores.extend(match transform {
                        Transform::None => [-only, only],
                        transform => both_classes(transform, only),
                    });
                }
                (None, decisions) => scores.extend(decisions),
            }
        }
        if platt.is_some() || classes > 2 {
            transform_rows(transform, &mut scores, width);
        }
        let label = choose(&labels, &[rows], &chosen, meter)?;
        Ok(vec![label, Tensor::of([rows, width], scores)?])
    }))
}

/// Support vectors class by class, and a decision between each pair of classes.
struct Machine {
    vectors: Vectors,
    /// Where each class's vectors begin.
    starts: Vec<usize>,
    per_class: Vec<usize>,
    /// A row for each class but the last, of one number per vector: what the vector weighs against that class, or against the next one for vectors of that
    /// and earlier classes.
    coefficients: Vec<f32>,
    rho: Vec<f32>,
}

impl Machine {
    /// The scores of all pairs and how many each class has won.
    fn decide(&self, row: &[f32]) -> (Vec<f32>, Vec<usize>) {
        let similar: Vec<f32> = self.vectors.compare(row).collect();
        let classes = self.per_class.len();
        let weigh = |sum: f64, class: usize, against: usize| {
            let start = self.starts.get(class).copied().unwrap_or(0);
            let own = self.per_class.get(class).copied().unwrap_or(0);
            let weights = self.coefficients.get(against * self.vectors.count + start..).unwrap_or_default();
            let similar = similar.get(start..).unwrap_or_default();
            weights.iter().zip(similar).take(own).fold(sum, |sum, (weight, x)| sum + f64::from(weight * x))
        };
        let mut scores = Vec::with_capacity(self.rho.len());
        let mut votes = vec![0; classes];
        let mut rho = self.rho.iter();
        for first in 0..classes {
            for second in first + 1..classes {
                let sum = weigh(weigh(0.0, first, second - 1), second, first);
                let sum = sum + f64::from(rho.next().copied().unwrap_or(0.0));
                scores.push(sum as f32);
                if let Some(votes) = votes.get_mut(if sum > 0.0 { first } else { second }) {
                    *votes += 1;
                }
            }
        }
        (scores, votes)
    }
}

/// Linear functions, one per class, with one number added to all. Of two classes, the second is also chosen by a largest score over ½ when no coefficient is
/// negative, else by one over 0; `by_bound` says so.
fn linear(
    labels: Data,
    transform: Transform,
    coefficients: &[f32],
    rho: f32,
    by_bound: bool,
) -> Result<Kernel, Problem> {
    let classes = labels.len();
    let vectors = Vectors::new("coefficients", Similarity::Linear { offset: rho }, classes, coefficients)?;
    let positive = coefficients.iter().all(|&weight| weight >= 0.0);
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        let rows = rows_of(x, vectors.columns)?;
        let mut scores = Vec::with_capacity(meter.room(&[rows, classes], size_of::<f32>())?);
        meter.room(&[rows], 2 * crate::meter::PLACE)?;
        work(meter, rows, vectors.all.len())?;
        for row in singles(x)?.chunks_exact(vectors.columns) {
            scores.extend(vectors.compare(row));
        }
        let mut largest = vec![0; rows];
        arg_max(&scores, classes, &mut largest);
        let places: Vec<usize> = largest
            .into_iter()
            .zip(scores.chunks_exact(classes))
            .map(|(class, scores)| {
                let class = usize::try_from(class).unwrap_or_default();
                let most = scores.get(class).copied().unwrap_or(0.0);
                let over = if positive { most >= 0.5 } else { most > 0.0 };
                if classes == 2 && by_bound && over { 1 } else { class }
            })
            .collect();
        transform_rows(transform, &mut scores, classes);
        let label = choose(&labels, &[rows], &places, meter)?;
        Ok(vec![label, Tensor::of([rows, classes], scores)?])
    }))
}

fn logistic(x: f32) -> f32 {
    let [_, y] = both_classes(Transform::Logistic, x);
    y
}

/// The probabilities of classes from those of each pair, by the second method of T.-F. Wu, C.-J. Lin and R. C. Weng ("Probability Estimates for Multi-class
/// Classification by Pairwise Coupling", 2004), with the bounds that LIBSVM has.
fn probabilities(classes: usize, pairs: &[f32]) -> Vec<f32> {
    // How likely the class of the row is, compared with that of the column.
    let mut likely = vec![0.0_f32; classes * classes];
    let mut pairs = pairs.iter();
    for first in 0..classes {
        for second in first + 1..classes {
            let p = pairs.next().copied().unwrap_or(0.5);
            // NaN stays.
            let p = if p < 1e-7 { 1e-7 } else { p };
            let p = if p > 1.0 - 1e-7 { 1.0 - 1e-7 } else { p };
            set(&mut likely, first * classes + second, p);
            set(&mut likely, second * classes + first, 1.0 - p);
        }
    }
    let likely = |row: usize, column: usize| likely.get(row * classes + column).copied().unwrap_or(0.0);
    let mut q = vec![0.0_f32; classes * classes];
    for row in 0..classes {
        let others = (0..classes).filter(|&other| other != row);
        let own = others.clone().fold(0.0, |sum, other| sum + likely(other, row) * likely(other, row));
        set(&mut q, row * classes + row, own);
        for other in others {
            set(&mut q, row * classes + other, -likely(other, row) * likely(row, other));
        }
    }
    let mut p = vec![1.0 / classes as f32; classes];
    let mut product = vec![0.0_f32; classes];
    for _ in 0..100 {
        let mut whole = 0.0_f32;
        for ((product, row), own) in product.iter_mut().zip(q.chunks_exact(classes)).zip(&p) {
            *product = row.iter().zip(&p).fold(0.0, |sum, (q, p)| sum + q * p);
            whole += own * *product;
        }
        let error = product.iter().map(|product| (product - whole).abs());
        if error.fold(0.0, |most, error| if error > most { error } else { most }) < 0.005 / classes as f32 {
            break;
        }
        for (own, row) in q.chunks_exact(classes).enumerate() {
            let diagonal = row.get(own).copied().unwrap_or(1.0);
            let before = product.get(own).copied().unwrap_or(0.0);
            let step = (whole - before) / diagonal;
            if let Some(p) = p.get_mut(own) {
                *p += step;
            }
            whole = (whole + step * (step * diagonal + 2.0 * before)) / (1.0 + step) / (1.0 + step);
            for ((product, q), p) in product.iter_mut().zip(row).zip(p.iter_mut()) {
                *product = (*product + step * q) / (1.0 + step);
                *p /= 1.0 + step;
            }
        }
    }
    p
}

fn set(all: &mut [f32], place: usize, value: f32) {
    if let Some(found) = all.get_mut(place) {
        *found = value;
    }
}
