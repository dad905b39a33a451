//! The nodes that change a model's answer.

use lockgate_onnx::Tensor;

use super::super::error::{ManifestProblem, problem};
use super::super::onnx::{ElementType, OnnxModel, ValueInfo};
use super::super::rewrite::{Renamed, Rewriter, Value};
use super::calibration::{Calibration, CalibrationSource, normalised};
use super::classes::{CountedClasses, LIST_LABELS, Table};
use super::scores::Scores;
use super::{AnswerSource, Known, LabelKind, Labels};
use crate::Engine;

/// A model whose answer is being changed. What cannot be done is noted as a problem, and the step gives nothing.
pub(super) struct Change<'m> {
    answer: &'m AnswerSource,
    known: &'m Known<'m>,
    rewriter: Rewriter<'m>,
    pub(super) problems: &'m mut Vec<ManifestProblem>,
    pub(super) renamed: Vec<Renamed>,
}

impl<'m> Change<'m> {
    pub(super) fn new(
        answer: &'m AnswerSource,
        known: &'m Known<'m>,
        model: &'m mut OnnxModel,
        problems: &'m mut Vec<ManifestProblem>,
    ) -> Self {
        Self { answer, known, rewriter: Rewriter::new(model), problems, renamed: Vec::new() }
    }

    /// Puts calibrated scores in the place of the model's. Gives the scores as the answer shows them, with two dimensions.
    pub(super) fn calibrate(&mut self, scores: &Scores, classes: usize) -> Option<String> {
        let rewriter = &mut self.rewriter;
        let matrix = if scores.is_vector { as_column(rewriter, &scores.name) } else { scores.name.clone() };
        let Some(source) = &self.answer.calibration else {
            return Some(matrix);
        };
        let given = rewriter.cast(&matrix, ElementType::Double);
        let per_class: Vec<Calibration> =
            source.per_class.iter().filter_map(CalibrationSource::checked).collect();
        let single = source.checked();
        let result = match (single.as_ref(), per_class.as_slice()) {
            (Some(calibration), _) | (None, [calibration]) if classes == 2 => {
                if scores.columns == 1 {
                    calibration.nodes(rewriter, &given)
                } else {
                    let second = column(rewriter, &given, 1);
                    let second = calibration.nodes(rewriter, &second);
                    with_first(rewriter, &second)
                }
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
                let all = rewriter.node("Concat", &columns, &[("axis", Value::Integer(1))]);
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
                problem(self.problems, "answer.calibration", message, hint);
                return None;
            }
        };
        let shown = rewriter.cast(&result, scores.element);
        let output = if scores.is_vector { squeezed(rewriter, &shown) } else { shown.clone() };
        if let Some(place) = rewriter.model.outputs.get_mut(scores.position) {
            *place = ValueInfo { name: output.clone(), element: None, shape: None };
        }
        self.renamed.push(Renamed { inner: output, outer: scores.name.clone() });
        Some(shown)
    }

    /// Chooses each row's label by the scores.
    pub(super) fn choose(
        &mut self,
        labels: &Labels,
        shown: &str,
        scores: &Scores,
        classes: &CountedClasses<'_>,
    ) -> Option<()> {
        let names = classes.names(self.known);
        let index = match self.answer.threshold {
            Some(threshold) => self.passes(threshold, shown, scores, classes.count)?,
            None => self.best(shown, scores, &names),
        };
        let table = self.labels(labels.kind, names, classes)?;
        let table = self.rewriter.constant(table);
        let label = self.rewriter.node("Gather", &[&table, &index], &[("axis", Value::Integer(0))]);
        let spec = labels.place.and_then(|place| self.known.signature.outputs.get(place));
        let label = match spec {
            Some(spec) if spec.shape.len() == 2 => as_column(&mut self.rewriter, &label),
            _ => label,
        };
        self.put(label, labels.place, "label")
    }

    /// Adds the top score of each row.
    pub(super) fn add_confidence(&mut self, shown: &str, scores: &Scores) -> Option<()> {
        let rewriter = &mut self.rewriter;
        let all = if scores.columns == 1 { both(rewriter, shown) } else { shown.to_owned() };
        let over_classes = [("axes", Value::Integers(&[1])), ("keepdims", Value::Integer(0))];
        let top = rewriter.node("ReduceMax", &[&all], &over_classes);
        let top = rewriter.cast(&top, ElementType::Float);
        self.put(top, None, "confidence")
    }

    /// Gives the model's integers their names.
    pub(super) fn name(&mut self, labels: &Labels, table: Table) -> Option<()> {
        let spec = labels.place.and_then(|place| self.known.signature.outputs.get(place))?;
        let rewriter = &mut self.rewriter;
        let index = rewriter.cast(&spec.name, ElementType::Double);
        let least = rewriter.constant(Tensor::vector(vec![table.least as f64]));
        let index = rewriter.node("Sub", &[&index, &least], &[]);
        let index = rewriter.cast(&index, ElementType::Int64);
        let names = rewriter.constant(Tensor::vector(table.names));
        let name = rewriter.node("Gather", &[&names, &index], &[("axis", Value::Integer(0))]);
        self.put(name, labels.place, "label")
    }

    /// Of two classes: 1 where the second's score is at least the threshold, else 0.
    fn passes(&mut self, threshold: f64, shown: &str, scores: &Scores, classes: usize) -> Option<String> {
        if classes != 2 {
            let message = format!("it is for two classes, the model has {classes}");
            problem(self.problems, "answer.threshold", message, "use `thresholds` and `otherwise`");
            return None;
        }
        let rewriter = &mut self.rewriter;
        let second = if scores.columns == 1 { shown.to_owned() } else { column(rewriter, shown, 1) };
        let second = rewriter.cast(&second, ElementType::Double);
        let fails = below(rewriter, &second, vec![threshold]);
        let passes = rewriter.node("Not", &[&fails], &[]);
        let index = rewriter.cast(&passes, ElementType::Int64);
        Some(squeezed(rewriter, &index))
    }

    /// The place of the best class; where the answer has thresholds, of those that reach theirs, behind a place for none.
    fn best(&mut self, shown: &str, scores: &Scores, names: &[String]) -> String {
        let rewriter = &mut self.rewriter;
        let mut all = match scores.columns {
            1 => both(rewriter, shown),
            _ => rewriter.cast(shown, ElementType::Double),
        };
        let thresholds = &self.answer.thresholds;
        if !thresholds.is_empty() {
            for label in thresholds.keys().filter(|label| !names.contains(label)) {
                let field = format!("answer.thresholds.{label}");
                let message =
                    format!("the model has no class of this name; its classes are {}", names.join(", "));
                problem(self.problems, &field, message, "check its spelling");
            }
            let thresholds = names.iter().map(|name| thresholds.get(name).copied().unwrap_or(0.0));
            all = masked(rewriter, &all, thresholds.collect(), self.known.engine);
        }
        let over_classes = [("axis", Value::Integer(1)), ("keepdims", Value::Integer(0))];
        rewriter.node("ArgMax", &[&all], &over_classes)
    }

    /// The labels by place: the classes', behind the one where no score reaches its threshold.
    fn labels(
        &mut self,
        kind: LabelKind,
        names: Vec<String>,
        classes: &CountedClasses<'_>,
    ) -> Option<Tensor> {
        let otherwise = self.answer.otherwise.as_ref().filter(|_| !self.answer.thresholds.is_empty());
        let otherwise = otherwise.map(|label| label.0.clone());
        match kind {
            LabelKind::Names => {
                if !classes.are_named(self.known) {
                    problem(self.problems, "answer.labels", "the model's classes have no names", LIST_LABELS);
                    return None;
                }
                Some(Tensor::vector(otherwise.into_iter().chain(names).collect()))
            }
            LabelKind::Integers => {
                let integers = classes.integers();
                let Some(label) = otherwise else { return Some(Tensor::vector(integers)) };
                // A class by its name, else a number.
                let place = names.iter().position(|name| *name == label);
                let number = place.and_then(|at| integers.get(at).copied()).or(label.parse().ok());
                let Some(number) = number else {
                    let message = format!("`{label}` is no class, and the labels are integers");
                    let hint = "name a class, give an integer, or set answer.labels to names";
                    problem(self.problems, "answer.otherwise", message, hint);
                    return None;
                };
                Some(Tensor::vector(std::iter::once(number).chain(integers).collect()))
            }
        }
    }

    /// Makes a value an output: in the place of another, or behind them.
    fn put(&mut self, value: String, place: Option<usize>, name: &str) -> Option<()> {
        let outputs = &self.known.signature.outputs;
        let model = &mut *self.rewriter.model;
        let output = ValueInfo { name: value.clone(), element: None, shape: None };
        let name = match place.and_then(|at| Some((model.outputs.get_mut(at)?, outputs.get(at)?))) {
            Some((place, spec)) => {
                *place = output;
                spec.name.clone()
            }
            None => {
                if outputs.iter().any(|spec| spec.name == name) {
                    let message = format!(
                        "the model has an output `{name}` already, and the answer gets one of this name"
                    );
                    problem(self.problems, "answer", message, "export the model with another name for it");
                    return None;
                }
                model.outputs.push(output);
                name.to_owned()
            }
        };
        self.renamed.push(Renamed { inner: value, outer: name });
        Some(())
    }
}

/// The scores behind a first column that is the largest where no score is at least its threshold; scores below theirs are
/// moved below it.
fn masked(rewriter: &mut Rewriter<'_>, scores: &str, thresholds: Vec<f64>, engine: Engine) -> String {
    let mut scores = scores.to_owned();
    // NaN reaches no threshold. The tabular engine's ArgMax passes over it behind the first column; the graph engine's, which
    // does as NumPy, would choose it.
    if engine == Engine::Graph {
        let is_nan = rewriter.node("IsNaN", &[&scores], &[]);
        let least = rewriter.constant(Tensor::vector(vec![f64::NEG_INFINITY]));
        scores = rewriter.node("Where", &[&is_nan, &least, &scores], &[]);
    }
    let fails = below(rewriter, &scores, thresholds);
    let fails = rewriter.cast(&fails, ElementType::Double);
    let penalty = rewriter.constant(Tensor::vector(vec![1e300]));
    let penalties = rewriter.node("Mul", &[&fails, &penalty], &[]);
    let kept = rewriter.node("Sub", &[&scores, &penalties], &[]);
    let first = column(rewriter, &fails, 0);
    let first = rewriter.clip(&first, Some(-1e299), Some(-1e299));
    rewriter.node("Concat", &[&first, &kept], &[("axis", Value::Integer(1))])
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

/// `[rows]` as a single column.
fn as_column(rewriter: &mut Rewriter<'_>, vector: &str) -> String {
    let axes = rewriter.constant(Tensor::vector(vec![1_i64]));
    rewriter.node("Unsqueeze", &[vector, &axes], &[])
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
