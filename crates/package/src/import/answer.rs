//! What is made of a model's scores beside the model: calibrated scores, the top score as a confidence, a label by thresholds, labels by
//! name.
//!
//! Calibration does what scikit-learn's `CalibratedClassifierCV` does with its calibrators, in double precision. A decision compares
//! the scores that the answer shows: who recomputes it from the answer comes to the same label. Thresholds stay in double precision.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use lockgate_onnx::Tensor;

use super::onnx::{ElementType, OnnxModel, ValueInfo};
use super::rewrite::{Renamed, Rewriter, Value};
use super::tabular::Label;
use super::{ManifestProblem, Scalar};
use crate::{Datatype, Engine, Signature, TensorSpec};

/// The most points of all isotonic calibrations together: each costs some operations per row.
const MOST_POINTS: usize = 10_000;

/// What people want from a model's scores.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AnswerSource {
    /// The output that holds the scores, where it is not plain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scores: Option<String>,
    /// Whether labels are names or integers. Left out: as the model has them; of a model without a label, names if the manifest
    /// has some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<LabelKind>,
    /// Adds the top score of each row as the output `confidence`.
    #[serde(skip_serializing_if = "is_false")]
    pub confidence: bool,
    /// Makes probabilities of the scores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration: Option<CalibrationSource>,
    /// Of two classes: the second is the label when its score is at least this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// The label is the best of the classes whose scores are at least their thresholds; 0 for classes that are not listed.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub thresholds: BTreeMap<String, f64>,
    /// The label where no score is at least its threshold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otherwise: Option<Scalar>,
}

/// What labels are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelKind {
    /// Texts.
    Names,
    /// The model's own integers, else the places of the classes, from 0.
    Integers,
}

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
    #[serde(skip_serializing_if = "Vec::is_empty")]
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

/// What is known of a model before its answer is changed.
pub(super) struct Known<'a> {
    pub(super) signature: &'a Signature,
    pub(super) classes: &'a [Label],
    pub(super) engine: Engine,
    /// The manifest's names of the classes.
    pub(super) labels: &'a [Scalar],
}

/// A calibration that makes sense.
#[derive(Debug, Clone, PartialEq)]
enum Calibration {
    Sigmoid { a: f64, b: f64 },
    Isotonic { x: Vec<f64>, y: Vec<f64> },
}

/// The output with the scores.
struct Scores {
    position: usize,
    name: String,
    element: ElementType,
    /// 1: the second class's of two.
    columns: usize,
    /// Of the shape `[rows]`.
    is_vector: bool,
}

impl AnswerSource {
    /// What makes no sense whatever the model is.
    pub(super) fn problems(&self, problems: &mut Vec<ManifestProblem>) {
        let mut add =
            |field: &str, message: &str, hint: &str| problem(problems, field, message.to_owned(), hint);
        if *self == Self::default() || (*self == Self { scores: self.scores.clone(), ..Self::default() }) {
            add("answer", "it asks for nothing", "ask for labels, confidence, a calibration or a threshold");
        }
        if self.threshold.is_some() && !self.thresholds.is_empty() {
            add(
                "answer",
                "`threshold` and `thresholds` exclude each other",
                "use `thresholds` and `otherwise`",
            );
        }
        if !self.thresholds.is_empty() && self.otherwise.is_none() {
            add(
                "answer.otherwise",
                "it is missing beside `thresholds`",
                "say what the label is when no score reaches its threshold",
            );
        }
        if self.thresholds.is_empty() && self.otherwise.is_some() {
            add("answer.otherwise", "it means nothing without `thresholds`", "leave it out");
        }
        if self.otherwise.as_ref().is_some_and(|otherwise| otherwise.0.is_empty()) {
            add("answer.otherwise", "it is empty", "name the label");
        }
        let thresholds = self.thresholds.iter().map(|(label, t)| (format!("answer.thresholds.{label}"), *t));
        let threshold = self.threshold.map(|threshold| ("answer.threshold".to_owned(), threshold));
        for (field, threshold) in thresholds.chain(threshold) {
            if !threshold.is_finite() {
                problem(problems, &field, format!("{threshold} is not a finite number"), "give a number");
            } else if self.calibration.is_some() && !(0.0..=1.0).contains(&threshold) {
                let message = format!("{threshold} is no probability, and calibrated scores are");
                problem(problems, &field, message, "give a number from 0 to 1");
            }
        }
        if let Some(calibration) = &self.calibration {
            calibration.problems("answer.calibration", problems);
            let all = || std::iter::once(calibration).chain(&calibration.per_class);
            let points: usize = all().map(|calibration| calibration.x.len()).sum();
            if points > MOST_POINTS {
                let message = format!(
                    "its calibrations have {points} points together, at most {MOST_POINTS} are taken"
                );
                problem(problems, "answer.calibration", message, "thin the points out");
            }
        }
    }

    /// Changes what the model answers. Gives the new names of its outputs and the number of classes, where it matters.
    pub(super) fn apply(
        &self,
        model: &mut OnnxModel,
        known: &Known<'_>,
        problems: &mut Vec<ManifestProblem>,
    ) -> Option<(Vec<Renamed>, Option<usize>)> {
        let outputs = &known.signature.outputs;
        let labels: Vec<usize> =
            (0..outputs.len()).filter(|&at| outputs.get(at).is_some_and(is_label)).collect();
        let decides = self.threshold.is_some() || !self.thresholds.is_empty();
        let label = match labels.as_slice() {
            [] => None,
            [only] => Some(*only),
            _ if !decides && self.labels.is_none() && self.calibration.is_none() => None,
            _ => {
                let message =
                    format!("the model has {} outputs with labels: {}", labels.len(), shown(outputs));
                let hint = "export the model with one label output; a decision concerns one";
                problem(problems, "answer", message, hint);
                return None;
            }
        };
        let label_spec = label.and_then(|at| outputs.get(at));
        let classes = Classes::find(model, known);
        let kind = self.labels.unwrap_or(match label_spec {
            Some(spec) if spec.datatype == Datatype::Bytes => LabelKind::Names,
            Some(_) => LabelKind::Integers,
            None if known.labels.is_empty() => LabelKind::Integers,
            None => LabelKind::Names,
        });
        let is_text = label_spec.is_some_and(|spec| spec.datatype == Datatype::Bytes);
        // A label that the model gives is left as it is, or gets a name, unless something else decides.
        let chooses = decides
            || self.calibration.is_some() && (label.is_some() || self.labels.is_some())
            || self.labels.is_some() && (label.is_none() || is_text && kind == LabelKind::Integers);
        let names = self.labels == Some(LabelKind::Names) && !chooses && label.is_some() && !is_text;
        let mut renamed = Vec::new();
        let mut count = None;
        if chooses || self.confidence || self.calibration.is_some() {
            let scores =
                self.find_scores(outputs, classes.count, chooses || self.calibration.is_some(), problems)?;
            let classes = classes.with_width(scores.columns.max(2));
            count = Some(classes.count);
            let mut rewriter = Rewriter::new(model);
            let shown = self.calibrate(&mut rewriter, &scores, classes.count, problems, &mut renamed)?;
            if chooses {
                let choice = self.choose(&mut rewriter, &shown, &scores, &classes, kind, known, problems)?;
                let as_column = label_spec.is_some_and(|spec| spec.shape.len() == 2);
                put(&mut rewriter, choice, as_column, label, "label", outputs, problems, &mut renamed)?;
            }
            if self.confidence {
                let value = if scores.columns == 1 { both(&mut rewriter, &shown) } else { shown };
                let top = rewriter.node(
                    "ReduceMax",
                    &[&value],
                    &[("axes", Value::Integers(&[1])), ("keepdims", Value::Integer(0))],
                );
                let top = rewriter.cast(&top, ElementType::Float);
                put(&mut rewriter, top, false, None, "confidence", outputs, problems, &mut renamed)?;
            }
        }
        if names && let (Some(at), Some(spec)) = (label, label_spec) {
            let table = classes.name_by_integer(known, problems)?;
            let mut rewriter = Rewriter::new(model);
            let index = rewriter.cast(&spec.name, ElementType::Double);
            let least = rewriter.constant(Tensor::vector(vec![table.least as f64]));
            let index = rewriter.node("Sub", &[&index, &least], &[]);
            let index = rewriter.cast(&index, ElementType::Int64);
            let names = rewriter.constant(Tensor::vector(table.names));
            let name = rewriter.node("Gather", &[&names, &index], &[("axis", Value::Integer(0))]);
            put(&mut rewriter, name, false, Some(at), "label", outputs, problems, &mut renamed)?;
        }
        Some((renamed, count))
    }

    /// The output that holds the scores: the one that was named, or the only one that can be it.
    fn find_scores(
        &self,
        outputs: &[TensorSpec],
        classes: Option<usize>,
        is_certain: bool,
        problems: &mut Vec<ManifestProblem>,
    ) -> Option<Scores> {
        let form = |position: usize, spec: &TensorSpec| {
            let element = match spec.datatype {
                Datatype::Fp32 => ElementType::Float,
                Datatype::Fp64 => ElementType::Double,
                _ => return None,
            };
            let (columns, is_vector) = match spec.shape.as_slice() {
                [_] => (1, true),
                [_, columns] => (usize::try_from(*columns).ok().filter(|&columns| columns > 0)?, false),
                _ => return None,
            };
            Some(Scores { position, name: spec.name.clone(), element, columns, is_vector })
        };
        let fits = |scores: &Scores| match classes {
            Some(classes) => scores.columns == classes || scores.columns == 1 && classes == 2,
            None => true,
        };
        if let Some(wanted) = &self.scores {
            let position = outputs.iter().position(|spec| spec.name == *wanted);
            let found = position.and_then(|at| form(at, outputs.get(at)?)).filter(fits);
            if found.is_none() {
                let message = match position {
                    Some(_) => format!(
                        "`{wanted}` cannot hold the scores{}; the outputs are {}",
                        classes.map_or_else(String::new, |classes| format!(" of {classes} classes")),
                        shown(outputs)
                    ),
                    None => format!("the model has no output `{wanted}`; its outputs are {}", shown(outputs)),
                };
                problem(
                    problems,
                    "answer.scores",
                    message,
                    "name the FP32 or FP64 output with a score per class",
                );
            }
            return found;
        }
        let mut found: Vec<Scores> =
            outputs.iter().enumerate().filter_map(|(at, spec)| form(at, spec)).filter(fits).collect();
        if classes.is_none() && found.iter().any(|scores| scores.columns > 1) {
            found.retain(|scores| scores.columns > 1);
        }
        // A single column may be anything; labels, a threshold or a calibration say that it is a score.
        if classes.is_none() && !is_certain {
            found.retain(|scores| scores.columns > 1);
        }
        if found.len() == 1 {
            return found.pop();
        }
        let message = match found.len() {
            0 => format!(
                "no output of the model holds scores{}; its outputs are {}",
                classes.map_or_else(String::new, |classes| format!(" of {classes} classes")),
                shown(outputs)
            ),
            _ => format!("several outputs can hold the scores; the outputs are {}", shown(outputs)),
        };
        let hint = match found.len() {
            0 => {
                "export the model with its probabilities; of a single column, list the two labels in the manifest"
            }
            _ => "name the one that is meant: answer.scores",
        };
        problem(problems, "answer.scores", message, hint);
        None
    }

    /// The scores as the answer shows them, with two dimensions.
    fn calibrate(
        &self,
        rewriter: &mut Rewriter<'_>,
        scores: &Scores,
        classes: usize,
        problems: &mut Vec<ManifestProblem>,
        renamed: &mut Vec<Renamed>,
    ) -> Option<String> {
        let axis = [("axis", Value::Integer(1))];
        let matrix = if scores.is_vector {
            let axes = rewriter.constant(Tensor::vector(vec![1_i64]));
            rewriter.node("Unsqueeze", &[&scores.name, &axes], &[])
        } else {
            scores.name.clone()
        };
        let Some(source) = &self.calibration else {
            return Some(matrix);
        };
        let given = rewriter.cast(&matrix, ElementType::Double);
        let per_class: Vec<Calibration> =
            source.per_class.iter().filter_map(CalibrationSource::checked).collect();
        let single = source.checked();
        let result = match (single.as_ref(), per_class.as_slice()) {
            (Some(calibration), _) | (None, [calibration]) if classes == 2 => {
                let (calibration, second) = match scores.columns {
                    1 => (calibration, given),
                    _ => (calibration, column(rewriter, &given, 1)),
                };
                let second = calibration.nodes(rewriter, &second);
                if scores.columns == 1 { second } else { with_first(rewriter, &second) }
            }
            (None, all) if all.len() == classes && scores.columns == classes => {
                let columns: Vec<String> = (0_i64..)
                    .zip(all)
                    .map(|(at, calibration)| {
                        let score = column(rewriter, &given, at);
                        calibration.nodes(rewriter, &score)
                    })
                    .collect();
                let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
                let all = rewriter.node("Concat", &columns, &axis);
                normalised(rewriter, &all, classes)
            }
            (_, all) => {
                let message = match all.len() {
                    0 => format!("one calibration is given for {classes} classes"),
                    count => format!(
                        "{count} calibrations are given for {classes} classes and {} columns of scores",
                        scores.columns
                    ),
                };
                let hint = "of two classes, calibrate the second; of more, list one per class as per_class";
                problem(problems, "answer.calibration", message, hint);
                return None;
            }
        };
        let shown = rewriter.cast(&result, scores.element);
        let output = if scores.is_vector { squeezed(rewriter, &shown) } else { shown.clone() };
        if let Some(place) = rewriter.model.outputs.get_mut(scores.position) {
            *place = ValueInfo { name: output.clone(), element: None, shape: None };
        }
        renamed.push(Renamed { inner: output, outer: scores.name.clone() });
        Some(shown)
    }

    /// The label of each row, of the shape `[rows]`.
    #[expect(clippy::too_many_arguments, reason = "it is where everything meets")]
    fn choose(
        &self,
        rewriter: &mut Rewriter<'_>,
        shown: &str,
        scores: &Scores,
        classes: &CountedClasses<'_>,
        kind: LabelKind,
        known: &Known<'_>,
        problems: &mut Vec<ManifestProblem>,
    ) -> Option<String> {
        let names = classes.names(known);
        let index = if let Some(threshold) = self.threshold {
            if classes.count != 2 {
                let message = format!("it is for two classes, the model has {}", classes.count);
                problem(problems, "answer.threshold", message, "use `thresholds` and `otherwise`");
                return None;
            }
            let second = match scores.columns {
                1 => shown.to_owned(),
                _ => column(rewriter, shown, 1),
            };
            let second = rewriter.cast(&second, ElementType::Double);
            let fails = below(rewriter, &second, vec![threshold]);
            let passes = rewriter.node("Not", &[&fails], &[]);
            let index = rewriter.cast(&passes, ElementType::Int64);
            squeezed(rewriter, &index)
        } else {
            let mut all = match scores.columns {
                1 => both(rewriter, shown),
                _ => rewriter.cast(shown, ElementType::Double),
            };
            if !self.thresholds.is_empty() {
                for label in self.thresholds.keys().filter(|label| !names.contains(label)) {
                    let message =
                        format!("the model has no class of this name; its classes are {}", names.join(", "));
                    problem(problems, &format!("answer.thresholds.{label}"), message, "check its spelling");
                }
                let thresholds = names.iter().map(|name| self.thresholds.get(name).copied().unwrap_or(0.0));
                all = self.masked(rewriter, &all, thresholds.collect(), known.engine);
            }
            rewriter.node("ArgMax", &[&all], &[("axis", Value::Integer(1)), ("keepdims", Value::Integer(0))])
        };
        let otherwise = self.otherwise.as_ref().filter(|_| !self.thresholds.is_empty());
        let table = match kind {
            LabelKind::Names => {
                if !classes.are_named(known) {
                    let message = "the model's classes have no names".to_owned();
                    problem(
                        problems,
                        "answer.labels",
                        message,
                        "list the names as `labels`, in the order of the scores",
                    );
                    return None;
                }
                Tensor::vector(otherwise.map(|label| label.0.clone()).into_iter().chain(names).collect())
            }
            LabelKind::Integers => {
                let integers = classes.integers();
                let otherwise = match otherwise {
                    None => None,
                    // A class by its name, else a number.
                    Some(label) => {
                        let place = names.iter().position(|name| *name == label.0);
                        let number = place.and_then(|at| integers.get(at).copied()).or(label.0.parse().ok());
                        if number.is_none() {
                            let message = format!("`{}` is no class, and the labels are integers", label.0);
                            let hint = "name a class, give an integer, or set answer.labels to names";
                            problem(problems, "answer.otherwise", message, hint);
                            return None;
                        }
                        number
                    }
                };
                Tensor::vector(otherwise.into_iter().chain(integers).collect())
            }
        };
        let table = rewriter.constant(table);
        Some(rewriter.node("Gather", &[&table, &index], &[("axis", Value::Integer(0))]))
    }

    /// The scores behind a first column that is the largest where no score is at least its threshold; scores below theirs are
    /// moved below it.
    fn masked(
        &self,
        rewriter: &mut Rewriter<'_>,
        scores: &str,
        thresholds: Vec<f64>,
        engine: Engine,
    ) -> String {
        let far = |rewriter: &mut Rewriter<'_>, number: f64| rewriter.constant(Tensor::vector(vec![number]));
        let mut scores = scores.to_owned();
        // NaN reaches no threshold. The tabular engine's ArgMax passes over it behind the first column; the graph engine's, which
        // does as NumPy, would choose it.
        if engine == Engine::Graph {
            let is_nan = rewriter.node("IsNaN", &[&scores], &[]);
            let least = far(rewriter, f64::NEG_INFINITY);
            scores = rewriter.node("Where", &[&is_nan, &least, &scores], &[]);
        }
        let fails = below(rewriter, &scores, thresholds);
        let fails = rewriter.cast(&fails, ElementType::Double);
        let penalty = far(rewriter, 1e300);
        let penalties = rewriter.node("Mul", &[&fails, &penalty], &[]);
        let kept = rewriter.node("Sub", &[&scores, &penalties], &[]);
        let first = column(rewriter, &fails, 0);
        let first = rewriter.clip(&first, Some(-1e299), Some(-1e299));
        rewriter.node("Concat", &[&first, &kept], &[("axis", Value::Integer(1))])
    }
}

/// Whether each score is below its threshold, or NaN. The sign of a difference of doubles is exact.
fn below(rewriter: &mut Rewriter<'_>, scores: &str, thresholds: Vec<f64>) -> String {
    let thresholds = rewriter.constant(Tensor::vector(thresholds));
    let difference = rewriter.node("Sub", &[scores, &thresholds], &[]);
    let negative = rewriter.clip(&difference, None, Some(0.0));
    rewriter.cast(&negative, ElementType::Bool)
}

/// One column of a matrix.
fn column(rewriter: &mut Rewriter<'_>, matrix: &str, at: i64) -> String {
    let at = rewriter.constant(Tensor::vector(vec![at]));
    rewriter.node("Gather", &[matrix, &at], &[("axis", Value::Integer(1))])
}

/// A single column as `[rows]`.
fn squeezed(rewriter: &mut Rewriter<'_>, column: &str) -> String {
    let axes = rewriter.constant(Tensor::vector(vec![1_i64]));
    rewriter.node("Squeeze", &[column, &axes], &[])
}

/// The scores of both classes, from the second's; in double precision.
fn both(rewriter: &mut Rewriter<'_>, second: &str) -> String {
    let second = rewriter.cast(second, ElementType::Double);
    with_first(rewriter, &second)
}

fn with_first(rewriter: &mut Rewriter<'_>, second: &str) -> String {
    let one = rewriter.constant(Tensor::vector(vec![1.0]));
    let first = rewriter.node("Sub", &[&one, second], &[]);
    rewriter.node("Concat", &[&first, second], &[("axis", Value::Integer(1))])
}

/// Each row divided by its sum; a row of zeros becomes equal parts, as in scikit-learn.
fn normalised(rewriter: &mut Rewriter<'_>, all: &str, classes: usize) -> String {
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

/// Makes a value an output: in the place of another, or behind them.
#[expect(clippy::too_many_arguments, reason = "it is where everything meets")]
fn put(
    rewriter: &mut Rewriter<'_>,
    value: String,
    as_column: bool,
    place: Option<usize>,
    name: &str,
    outputs: &[TensorSpec],
    problems: &mut Vec<ManifestProblem>,
    renamed: &mut Vec<Renamed>,
) -> Option<()> {
    let value = if as_column {
        let axes = rewriter.constant(Tensor::vector(vec![1_i64]));
        rewriter.node("Unsqueeze", &[&value, &axes], &[])
    } else {
        value
    };
    let output = ValueInfo { name: value.clone(), element: None, shape: None };
    let name = match place.and_then(|at| Some((rewriter.model.outputs.get_mut(at)?, outputs.get(at)?))) {
        Some((place, spec)) => {
            *place = output;
            spec.name.clone()
        }
        None => {
            if outputs.iter().any(|spec| spec.name == name) {
                let message =
                    format!("the model has an output `{name}` already, and the answer gets one of this name");
                problem(problems, "answer", message, "export the model with another name for it");
                return None;
            }
            rewriter.model.outputs.push(output);
            name.to_owned()
        }
    };
    renamed.push(Renamed { inner: value, outer: name });
    Some(())
}

/// The classes of a model, as far as they are known.
struct Classes {
    labels: Vec<Label>,
    /// Known without names: from the manifest, or the width of the scores.
    count: Option<usize>,
}

/// The classes of a model, one per score.
struct CountedClasses<'a> {
    labels: &'a [Label],
    count: usize,
}

/// Names that lie where integers less a least one point to.
struct Table {
    least: i64,
    names: Vec<String>,
}

impl Classes {
    fn find(model: &OnnxModel, known: &Known<'_>) -> Self {
        let labels =
            if known.classes.is_empty() { labels_of_classifier(model) } else { known.classes.to_vec() };
        let count = match labels.len() {
            0 => Some(known.labels.len()).filter(|&count| count > 0),
            count => Some(count),
        };
        Self { labels, count }
    }

    fn with_width(&self, width: usize) -> CountedClasses<'_> {
        CountedClasses { labels: &self.labels, count: self.count.unwrap_or(width) }
    }

    /// The manifest's names in the places that the model's integers point to.
    fn name_by_integer(&self, known: &Known<'_>, problems: &mut Vec<ManifestProblem>) -> Option<Table> {
        if known.labels.is_empty() {
            let message = "the model's labels are integers without names".to_owned();
            problem(
                problems,
                "answer.labels",
                message,
                "list the names as `labels`, in the order of the scores",
            );
            return None;
        }
        let mut integers = Vec::new();
        for (at, label) in self.labels.iter().enumerate() {
            match label {
                Label::Integer(integer) => integers.push((*integer, at)),
                Label::Text(_) => return None,
            }
        }
        if integers.is_empty() {
            integers = (0_i64..).zip(0..known.labels.len()).collect();
        }
        let least = integers.iter().map(|(integer, _)| *integer).min()?;
        let most = integers.iter().map(|(integer, _)| *integer).max()?;
        let len = most
            .checked_sub(least)
            .and_then(|span| usize::try_from(span).ok())
            .filter(|&span| span < 1 << 16);
        let Some(len) = len.filter(|_| least.checked_abs().is_some_and(|least| least < 1 << 52)) else {
            let message =
                format!("the model's integers reach from {least} to {most}, too far for a table of names");
            problem(problems, "answer.labels", message, "train with classes that are texts");
            return None;
        };
        let mut names = vec![String::new(); len + 1];
        for (integer, at) in integers {
            let place = usize::try_from(integer - least).ok().and_then(|place| names.get_mut(place));
            if let (Some(place), Some(name)) = (place, known.labels.get(at)) {
                place.clone_from(&name.0);
            }
        }
        Some(Table { least, names })
    }
}

impl CountedClasses<'_> {
    fn are_named(&self, known: &Known<'_>) -> bool {
        !known.labels.is_empty() || self.labels.iter().any(|label| matches!(label, Label::Text(_)))
    }

    fn names(&self, known: &Known<'_>) -> Vec<String> {
        if known.labels.len() == self.count {
            known.labels.iter().map(|label| label.0.clone()).collect()
        } else if self.labels.len() == self.count {
            self.labels.iter().map(ToString::to_string).collect()
        } else {
            (0..self.count).map(|class| class.to_string()).collect()
        }
    }

    fn integers(&self) -> Vec<i64> {
        let integers = self.labels.iter().filter_map(|label| match label {
            Label::Integer(integer) => Some(*integer),
            Label::Text(_) => None,
        });
        let integers: Vec<i64> = integers.collect();
        if integers.len() == self.count { integers } else { (0_i64..).take(self.count).collect() }
    }
}

/// The class labels in the model's classifier, where there is one.
fn labels_of_classifier(model: &OnnxModel) -> Vec<Label> {
    let mut found: Vec<Vec<Label>> = Vec::new();
    for node in model.nodes.iter().filter(|node| node.domain == "ai.onnx.ml") {
        let attributes = node.attributes();
        let texts = attributes.has("classlabels_strings").then(|| attributes.strings("classlabels_strings"));
        let integers = ["classlabels_int64s", "classlabels_ints"]
            .into_iter()
            .filter(|name| attributes.has(name))
            .flat_map(|name| attributes.ints(name).iter().map(|label| Label::Integer(*label)));
        let labels = texts.into_iter().flatten().map(|label| Label::Text(label.to_owned()));
        let labels: Vec<Label> = labels.chain(integers).collect();
        if !labels.is_empty() && !found.contains(&labels) {
            found.push(labels);
        }
    }
    if found.len() == 1 { found.pop().unwrap_or_default() } else { Vec::new() }
}

impl CalibrationSource {
    fn problems(&self, field: &str, problems: &mut Vec<ManifestProblem>) {
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
    fn checked(&self) -> Option<Calibration> {
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
    fn nodes(&self, rewriter: &mut Rewriter<'_>, score: &str) -> String {
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
    x.pop();
    let starts = rewriter.constant(Tensor::vector(x));
    let widths = rewriter.constant(Tensor::vector(widths));
    let steps_shape = vec![steps.len(), 1];
    let from = rewriter.node("Sub", &[score, &starts], &[]);
    let part = rewriter.node("Div", &[&from, &widths], &[]);
    let part = rewriter.clip(&part, Some(0.0), Some(1.0));
    // As many elements as the shape has, by how it was made.
    let steps = Tensor::of(steps_shape, steps).unwrap_or_else(|_| Tensor::vector(Vec::<f64>::new()));
    let steps = rewriter.constant(steps);
    let risen = rewriter.node("MatMul", &[&part, &steps], &[]);
    let first_constant = rewriter.constant(Tensor::vector(vec![first]));
    let result = rewriter.node("Add", &[&risen, &first_constant], &[]);
    rewriter.clip(&result, Some(first.min(last)), Some(first.max(last)))
}

/// Whether an output holds a label per row.
fn is_label(spec: &TensorSpec) -> bool {
    matches!(spec.datatype, Datatype::Int64 | Datatype::Int32 | Datatype::Bytes)
        && matches!(spec.shape.as_slice(), [_] | [_, 1])
}

fn shown(outputs: &[TensorSpec]) -> String {
    let shown: Vec<String> =
        outputs.iter().map(|spec| format!("`{}` ({} {:?})", spec.name, spec.datatype, spec.shape)).collect();
    shown.join(", ")
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_false(value: &bool) -> bool {
    !*value
}

fn problem(problems: &mut Vec<ManifestProblem>, field: &str, message: String, hint: &str) {
    problems.push(ManifestProblem { field: field.to_owned(), message, hint: hint.to_owned() });
}
