//! What the metadata of a route say of its models.

use lockgate_package::{Engine, Manifest};
use serde_json::{Map, Value, json};

/// What a package says about its model, as far as metadata repeat it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFacts<'a> {
    /// The engine that runs it.
    pub engine: Engine,
    /// Names of the classes.
    pub labels: &'a [String],
    /// Names of the features.
    pub features: Vec<&'a str>,
    /// The version of what computes the features.
    pub feature_version: Option<&'a str>,
    /// The ways in which it says what each feature contributes.
    pub contributions: &'a [String],
}

impl<'a> From<&'a Manifest> for ModelFacts<'a> {
    fn from(manifest: &'a Manifest) -> Self {
        Self {
            engine: manifest.engine,
            labels: &manifest.labels,
            features: manifest.features.iter().map(|feature| feature.name.as_str()).collect(),
            feature_version: manifest.feature_version.as_deref(),
            contributions: &manifest.contributions,
        }
    }
}

/// The `platform` of a route with these models.
pub fn platform(models: &[ModelFacts<'_>]) -> &'static str {
    let all = |engine| !models.is_empty() && models.iter().all(|model| model.engine == engine);
    if all(Engine::Tabular) {
        "lockgate_tabular"
    } else if all(Engine::Graph) {
        "lockgate_graph"
    } else {
        "lockgate"
    }
}

/// What all these models say alike of their labels and features.
pub fn shared_parameters(models: &[ModelFacts<'_>]) -> Map<String, Value> {
    let mut shared = Map::new();
    let Some((first, others)) = models.split_first() else { return shared };
    if !first.labels.is_empty() && others.iter().all(|other| other.labels == first.labels) {
        shared.insert("labels".to_owned(), json!(first.labels));
    }
    if !first.features.is_empty() && others.iter().all(|other| other.features == first.features) {
        shared.insert("features".to_owned(), json!(first.features));
    }
    if let Some(version) = &first.feature_version
        && others.iter().all(|other| other.feature_version == first.feature_version)
    {
        shared.insert("feature_version".to_owned(), json!(version));
    }
    let all = |method: &&String| others.iter().all(|other| other.contributions.contains(*method));
    let contributions: Vec<&String> = first.contributions.iter().filter(all).collect();
    if !contributions.is_empty() {
        shared.insert("contributions".to_owned(), json!(contributions));
    }
    shared
}
