use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use super::answer::AnswerSource;
use super::background::BackgroundSource;
use super::error::{ManifestProblem, problem};
use super::fields::{from_map, maybe_from_map};
use super::scaler::ScalerSource;
use crate::{Feature, Scope};

/// What people write about a model: the manifest's source, in YAML, JSON or TOML. Every field may be left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ManifestSource {
    /// The model's name, `eurusd_lstm_1h`; letters, digits and `_ - .`.
    pub model: Option<String>,
    /// The semantic version, `2.1.0`.
    pub version: Option<String>,
    /// One line for people.
    pub description: String,
    /// Names of the classes, in the order of the scores. They name the classes of a model whose labels are integers; the model's
    /// answers keep the integers. A model whose labels are texts already has names, and these must be the same.
    pub labels: Vec<Scalar>,
    /// The input's columns, in order: names, or names with the range seen in training. With several inputs, all their columns
    /// one after the other.
    pub features: Vec<FeatureSource>,
    /// The version of the code or table that computes the features.
    pub feature_version: Option<Scalar>,
    /// What the model was trained for.
    #[serde(deserialize_with = "from_map")]
    pub scope: Scope,
    /// Figures from training or validation.
    pub metrics: BTreeMap<String, f64>,
    /// Whether NaN means "missing" to this model. Left out, it is so for trees that were trained with missing values and for
    /// pipelines that replace them.
    pub accepts_missing: Option<bool>,
    /// Rows that contributions are measured against: a sample of the training set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub background: Option<BackgroundSource>,
    /// What was done to the data before training, and is done to each request before the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scaler: Option<ScalerSource>,
    /// What is made of the model's scores: calibration, confidence, thresholds, labels by name.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "maybe_from_map")]
    pub answer: Option<AnswerSource>,
}

/// A feature: its name, or its name and range.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct FeatureSource(pub Feature);

/// A text; a number or truth value is taken as it is written, so that `labels: [0, 1]` and `feature_version: 3` mean what
/// they seem to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Scalar(pub String);

impl ManifestSource {
    /// The names of the features.
    pub(super) fn feature_names(&self) -> Vec<&str> {
        self.features.iter().map(|feature| feature.0.name.as_str()).collect()
    }

    /// What makes no sense whatever the model is. The scaler is checked where it is made.
    pub(super) fn problems(&self) -> Vec<ManifestProblem> {
        let mut problems = Vec::new();
        let mut add = |field: &str, message: &str, hint: &str| problem(&mut problems, field, message, hint);
        let mut names = BTreeMap::new();
        for (index, feature) in self.features.iter().enumerate() {
            let FeatureSource(Feature { name, min, max }) = feature;
            let field = format!("features[{index}]");
            if name.is_empty() {
                add(&format!("{field}.name"), "it is empty", "name the column");
            } else if let Some(other) = names.get(name) {
                let message = format!("`{name}` is the name of features[{other}] too");
                add(&format!("{field}.name"), &message, "give each column its own name");
            } else {
                names.insert(name, index);
            }
            for (bound, value) in [("min", min), ("max", max)] {
                if value.is_some_and(f64::is_nan) {
                    add(&format!("{field}.{bound}"), "it is not a number", "leave it out");
                }
            }
            if let (Some(min), Some(max)) = (min, max)
                && min > max
            {
                let message = format!("the range of `{name}` is empty: min {min} is greater than max {max}");
                add(&field, &message, "exchange them");
            }
        }
        let mut labels = BTreeSet::new();
        for (index, label) in self.labels.iter().enumerate() {
            let field = format!("labels[{index}]");
            if label.0.is_empty() {
                add(&field, "it is empty", "name the class");
            } else if !labels.insert(&label.0) {
                add(&field, &format!("`{}` is listed twice", label.0), "give each class its own name");
            }
        }
        for (name, value) in &self.metrics {
            if !value.is_finite() {
                add(&format!("metrics.{name}"), &format!("{value} is not a finite number"), "leave it out");
            }
        }
        if let Some(background) = &self.background {
            background.problems(&mut problems);
        }
        if let Some(answer) = &self.answer {
            answer.problems(&mut problems);
        }
        problems
    }
}

/// Why a text cannot name a model.
pub(super) fn name_problem(name: &str) -> Option<String> {
    if name.is_empty() || name.len() > 128 {
        return Some(format!("expected 1 to 128 characters, found {}", name.len()));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let wrong = name.chars().find(|&c| !allowed(c));
    wrong.map(|c| format!("`{name}` contains {c:?}; expected letters, digits and `_ - .`"))
}

impl<'de> Deserialize<'de> for FeatureSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Range {
            name: String,
            #[serde(default)]
            min: Option<f64>,
            #[serde(default)]
            max: Option<f64>,
        }
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = FeatureSource;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a feature's name, or its name, min and max")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<FeatureSource, E> {
                Ok(FeatureSource(Feature { name: name.to_owned(), min: None, max: None }))
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<FeatureSource, A::Error> {
                let Range { name, min, max } =
                    Range::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(FeatureSource(Feature { name, min, max }))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number or a truth value")
            }

            fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar(text.to_owned()))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
