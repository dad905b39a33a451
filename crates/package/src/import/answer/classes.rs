//! The classes of a model: how many, and their names and integers.

use super::super::error::{ManifestProblem, problem};
use super::super::onnx::OnnxModel;
use super::super::tabular::Label;
use super::Known;

/// What to do where classes need names and have none.
pub(super) const LIST_LABELS: &str = "list the names as `labels`, in the order of the scores";

/// The classes of a model, as far as they are known.
pub(super) struct Classes {
    labels: Vec<Label>,
    /// Known without names: from the manifest, or the width of the scores.
    pub(super) count: Option<usize>,
}

/// The classes of a model, one per score.
pub(super) struct CountedClasses<'a> {
    labels: &'a [Label],
    pub(super) count: usize,
}

/// Names that lie where integers less a least one point to.
pub(super) struct Table {
    pub(super) least: i64,
    pub(super) names: Vec<String>,
}

impl Classes {
    pub(super) fn find(model: &OnnxModel, known: &Known<'_>) -> Self {
        let labels =
            if known.classes.is_empty() { labels_of_classifier(model) } else { known.classes.to_vec() };
        let count = match labels.len() {
            0 => Some(known.labels.len()).filter(|&count| count > 0),
            count => Some(count),
        };
        Self { labels, count }
    }

    pub(super) fn with_width(&self, width: usize) -> CountedClasses<'_> {
        CountedClasses { labels: &self.labels, count: self.count.unwrap_or(width) }
    }

    /// The manifest's names in the places that the model's integers point to.
    pub(super) fn name_by_integer(
        &self,
        known: &Known<'_>,
        problems: &mut Vec<ManifestProblem>,
    ) -> Option<Table> {
        if known.labels.is_empty() {
            problem(problems, "answer.labels", "the model's labels are integers without names", LIST_LABELS);
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
    pub(super) fn are_named(&self, known: &Known<'_>) -> bool {
        !known.labels.is_empty() || self.labels.iter().any(|label| matches!(label, Label::Text(_)))
    }

    pub(super) fn names(&self, known: &Known<'_>) -> Vec<String> {
        if known.labels.len() == self.count {
            known.labels.iter().map(|label| label.0.clone()).collect()
        } else if self.labels.len() == self.count {
            self.labels.iter().map(ToString::to_string).collect()
        } else {
            (0..self.count).map(|class| class.to_string()).collect()
        }
    }

    pub(super) fn integers(&self) -> Vec<i64> {
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
