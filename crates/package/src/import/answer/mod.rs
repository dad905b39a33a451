//! What is made of a model's scores beside the model: calibrated scores, the top score as a confidence, a label by thresholds, labels by
//! name.
//!
//! Calibration does what scikit-learn's `CalibratedClassifierCV` does with its calibrators, in double precision. A decision compares
//! the scores that the answer shows: who recomputes it from the answer comes to the same label. Thresholds stay in double precision.

mod calibration;
mod change;
mod classes;
mod scores;

pub use calibration::{CalibrationMethod, CalibrationSource};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Scalar;
use super::error::{ManifestProblem, problem};
use super::fields::maybe_from_map;
use super::onnx::OnnxModel;
use super::rewrite::Renamed;
use super::tabular::Label;
use crate::{Datatype, Engine, Signature, TensorSpec};

use change::Change;
use classes::Classes;
use scores::Scores;

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
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "maybe_from_map")]
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

/// What is known of a model before its answer is changed.
pub(super) struct Known<'a> {
    pub(super) signature: &'a Signature,
    pub(super) classes: &'a [Label],
    pub(super) engine: Engine,
    /// The manifest's names of the classes.
    pub(super) labels: &'a [Scalar],
}

/// What was changed.
pub(super) struct Changed {
    /// The outputs' new names.
    pub(super) renamed: Vec<Renamed>,
    /// The number of classes, where it had to be known.
    pub(super) classes: Option<usize>,
}

/// What becomes of a model's label.
struct Labels {
    /// The output that holds it.
    place: Option<usize>,
    kind: LabelKind,
    /// Whether it is chosen anew, from the scores.
    are_chosen: bool,
    /// Whether the model's integers get names.
    are_named: bool,
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

    /// Changes what the model answers.
    pub(super) fn apply(
        &self,
        model: &mut OnnxModel,
        known: &Known<'_>,
        problems: &mut Vec<ManifestProblem>,
    ) -> Option<Changed> {
        let labels = self.labels_of(known, problems)?;
        let classes = Classes::find(model, known);
        let is_certain = labels.are_chosen || self.calibration.is_some();
        let mut count = None;
        let mut change = Change::new(self, known, model, problems);
        if is_certain || self.confidence {
            let scores = Scores::find(self, known, classes.count, is_certain, change.problems)?;
            let classes = classes.with_width(scores.columns.max(2));
            count = Some(classes.count);
            let shown = change.calibrate(&scores, classes.count)?;
            if labels.are_chosen {
                change.choose(&labels, &shown, &scores, &classes)?;
            }
            if self.confidence {
                change.add_confidence(&shown, &scores)?;
            }
        }
        if labels.are_named {
            let table = classes.name_by_integer(known, change.problems)?;
            change.name(&labels, table)?;
        }
        Some(Changed { renamed: change.renamed, classes: count })
    }

    /// What becomes of the label. A label that the model gives is left as it is, or gets a name, unless something else decides.
    fn labels_of(&self, known: &Known<'_>, problems: &mut Vec<ManifestProblem>) -> Option<Labels> {
        let outputs = &known.signature.outputs;
        let decides = self.threshold.is_some() || !self.thresholds.is_empty();
        let mut places = outputs.iter().enumerate().filter(|(_, spec)| is_label(spec));
        let (first, others) = (places.next(), places.count());
        if others > 0 && (decides || self.labels.is_some() || self.calibration.is_some()) {
            let message = format!("the model has {} outputs with labels: {}", others + 1, shown(outputs));
            problem(
                problems,
                "answer",
                message,
                "export the model with one label output; a decision concerns one",
            );
            return None;
        }
        let label = first.filter(|_| others == 0);
        let is_text = label.is_some_and(|(_, spec)| spec.datatype == Datatype::Bytes);
        let kind = self.labels.unwrap_or(match label {
            Some(_) if is_text => LabelKind::Names,
            None if !known.labels.is_empty() => LabelKind::Names,
            _ => LabelKind::Integers,
        });
        let are_chosen = decides
            || self.calibration.is_some() && (label.is_some() || self.labels.is_some())
            || self.labels.is_some() && (label.is_none() || is_text && kind == LabelKind::Integers);
        let are_named = self.labels == Some(LabelKind::Names) && !are_chosen && label.is_some() && !is_text;
        Some(Labels { place: label.map(|(place, _)| place), kind, are_chosen, are_named })
    }
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
