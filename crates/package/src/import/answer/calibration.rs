//! How scores become probabilities: what people write, what it means, and the nodes that do it.

use serde::{Deserialize, Serialize};

use lockgate_onnx::Tensor;

use super::super::error::{ManifestProblem, problem};
use super::super::fields::each_from_map;
use super::super::onnx::ElementType;
use super::super::rewrite::{Rewriter, Value};

/// How scores become probabilities: one calibration, or one per class.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CalibrationSource {
    /// Which kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<CalibrationMethod>,
    /// `sigmoid`: the a of 1 / (1 + exp(a · score + b)).
    #[serde(alias = "a_", skip_serializing_if = "Option::is_none")]
    pub a: Option<f64>,
    /// `sigmoid`: the b.
    #[serde(alias = "b_", skip_serializing_if = "Option::is_none")]
    pub b: Option<f64>,
    /// `isotonic`: the scores of the points, rising.
    #[serde(alias = "X_thresholds_", alias = "x_thresholds", skip_serializing_if = "Vec::is_empty")]
    pub x: Vec<f64>,
    /// `isotonic`: the probabilities of the points.
    #[serde(alias = "y_thresholds_", alias = "y_thresholds", skip_serializing_if = "Vec::is_empty")]
    pub y: Vec<f64>,
    /// One calibration per class, in the order of the scores; the results are divided by their sum.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "each_from_map")]
    pub per_class: Vec<Self>,
}

/// The kinds of calibration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CalibrationMethod {
    /// Platt's: 1 / (1 + exp(a · score + b)).
    #[serde(alias = "platt")]
    Sigmoid,
    /// Straight lines between points, level outside of them.
    Isotonic,
}

/// A calibration that makes sense.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Calibration {
    Sigmoid { a: f64, b: f64 },
    Isotonic { x: Vec<f64>, y: Vec<f64> },
}

impl CalibrationSource {
    pub(super) fn problems(&self, field: &str, problems: &mut Vec<ManifestProblem>) {
        if !self.per_class.is_empty() {
            let own = Self { per_class: Vec::new(), ..self.clone() };
            if own != Self::default() {
                let message = "`per_class` stands alone".to_owned();
                problem(problems, field, message, "give each class its own method and numbers");
            }
            for (class, calibration) in self.per_class.iter().enumerate() {
                let field = format!("{field}.per_class[{class}]");
                if calibration.per_class.is_empty() {
                    calibration.problems(&field, problems);
                } else {
                    problem(
                        problems,
                        &field,
                        "it has `per_class` again".to_owned(),
                        "give a method and numbers",
                    );
                }
            }
            return;
        }
        let mut add = |name: &str, message: String, hint: &str| {
            problem(problems, &format!("{field}{name}"), message, hint);
        };
        match self.method {
            None => add(".method", "it is missing".to_owned(), "give sigmoid or isotonic, or per_class"),
            Some(CalibrationMethod::Sigmoid) => {
                for (name, number) in [(".a", self.a), (".b", self.b)] {
                    match number {
                        None => add(name, "it is missing".to_owned(), "scikit-learn calls it `a_` and `b_`"),
                        Some(number) if !number.is_finite() => {
                            add(
                                name,
                                format!("{number} is not a finite number"),
                                "fit the calibration again",
                            );
                        }
                        Some(_) => {}
                    }
                }
                if !self.x.is_empty() || !self.y.is_empty() {
                    add("", "a sigmoid has no points".to_owned(), "leave `x` and `y` out");
                }
            }
            Some(CalibrationMethod::Isotonic) => {
                if self.a.is_some() || self.b.is_some() {
                    add("", "an isotonic calibration has no a and b".to_owned(), "leave them out");
                }
                if self.x.len() != self.y.len() || self.x.is_empty() {
                    let message =
                        format!("there are {} numbers in `x` and {} in `y`", self.x.len(), self.y.len());
                    add(
                        "",
                        message,
                        "give both for every point; scikit-learn has X_thresholds_ and y_thresholds_",
                    );
                }
                let steps =
                    || self.x.windows(2).map(|pair| if let [low, high] = pair { high - low } else { 1.0 });
                if let Some(at) = self.x.iter().position(|x| !x.is_finite()) {
                    add(
                        &format!(".x[{at}]"),
                        "it is not a finite number".to_owned(),
                        "fit the calibration again",
                    );
                } else if let Some(at) = steps().position(|step| step <= 0.0) {
                    let message = "it is not greater than the number before".to_owned();
                    add(&format!(".x[{}]", at + 1), message, "sort the points; give each score once");
                } else if steps().any(|step| !step.is_finite()) {
                    add(".x", "two numbers are too far apart".to_owned(), "fit the calibration again");
                }
                if let Some((at, y)) = self.y.iter().enumerate().find(|(_, y)| !(0.0..=1.0).contains(*y)) {
                    add(&format!(".y[{at}]"), format!("{y} is no probability"), "give numbers from 0 to 1");
                } else if !self.y.is_sorted() && !self.y.iter().rev().is_sorted() {
                    let message = "the probabilities rise and fall".to_owned();
                    add(".y", message, "an isotonic calibration does one of the two");
                }
            }
        }
    }

    /// The calibration, once it has no problems; nothing for one per class.
    pub(super) fn checked(&self) -> Option<Calibration> {
        match self.method? {
            CalibrationMethod::Sigmoid => Some(Calibration::Sigmoid { a: self.a?, b: self.b? }),
            CalibrationMethod::Isotonic => {
                Some(Calibration::Isotonic { x: self.x.clone(), y: self.y.clone() })
            }
        }
    }
}

impl Calibration {
    /// The probability for each score of a single column, in double precision.
    pub(super) fn nodes(&self, rewriter: &mut Rewriter<'_>, score: &str) -> String {
        match self {
            Self::Sigmoid { a, b } => {
                let (a, b) = (vec![-a], vec![-b]);
                let (a, b) = (rewriter.constant(Tensor::vector(a)), rewriter.constant(Tensor::vector(b)));
                let product = rewriter.node("Mul", &[score, &a], &[]);
                let sum = rewriter.node("Add", &[&product, &b], &[]);
                rewriter.node("Sigmoid", &[&sum], &[])
            }
            Self::Isotonic { x, y } => isotonic(rewriter, score, x, y),
        }
    }
}

/// Straight lines between points: the first probability and, of each piece, as much of its step as the score has gone of its way. The
/// pieces that were passed and those that were not reached count whole and not at all, so this loses no digits.
fn isotonic(rewriter: &mut Rewriter<'_>, score: &str, x: &[f64], y: &[f64]) -> String {
    let (mut x, mut y) = (x.to_vec(), y.to_vec());
    if let ([_], [only]) = (x.as_slice(), y.as_slice()) {
        // One point says the same everywhere.
        y.push(*only);
        x = vec![0.0, 1.0];
    }
    let differences = |numbers: &[f64]| -> Vec<f64> {
        numbers.iter().zip(numbers.iter().skip(1)).map(|(low, high)| high - low).collect()
    };
    let (widths, steps) = (differences(&x), differences(&y));
    let (first, last) = (y.first().copied().unwrap_or_default(), y.last().copied().unwrap_or_default());
    let ends = (x.first().copied(), x.last().copied());
    x.pop();
    let starts = rewriter.constant(Tensor::vector(x));
    let widths = rewriter.constant(Tensor::vector(widths));
    // Beyond the points nothing changes. What contributions add up to is the score as it comes here.
    let score = rewriter.clip(score, ends.0, ends.1);
    let from = rewriter.node("Sub", &[&score, &starts], &[]);
    let part = rewriter.node("Div", &[&from, &widths], &[]);
    let part = rewriter.clip(&part, Some(0.0), Some(1.0));
    let steps = rewriter.constant(Tensor::vector(steps));
    let risen = rewriter.node("Mul", &[&part, &steps], &[]);
    let axes = rewriter.constant(Tensor::vector(vec![1_i64]));
    let risen = rewriter.node("ReduceSum", &[&risen, &axes], &[("keepdims", Value::Integer(1))]);
    let first_constant = rewriter.constant(Tensor::vector(vec![first]));
    let result = rewriter.node("Add", &[&risen, &first_constant], &[]);
    rewriter.clip(&result, Some(first.min(last)), Some(first.max(last)))
}

/// Each row divided by its sum; a row of zeros becomes equal parts, as in scikit-learn.
pub(super) fn normalised(rewriter: &mut Rewriter<'_>, all: &str, classes: usize) -> String {
    let axes = rewriter.constant(Tensor::vector(vec![1_i64]));
    let sum = rewriter.node("ReduceSum", &[all, &axes], &[("keepdims", Value::Integer(1))]);
    let is_something = rewriter.cast(&sum, ElementType::Bool);
    let is_nothing = rewriter.node("Not", &[&is_something], &[]);
    let one = rewriter.cast(&is_nothing, ElementType::Double);
    let all = rewriter.node("Add", &[all, &one], &[]);
    let count = rewriter.constant(Tensor::vector(vec![classes as f64]));
    let ones = rewriter.node("Mul", &[&one, &count], &[]);
    let sum = rewriter.node("Add", &[&sum, &ones], &[]);
    rewriter.node("Div", &[&all, &sum], &[])
}
