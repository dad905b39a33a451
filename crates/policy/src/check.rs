//! From source to policy: every key known, every name resolved, every share exact. All that is wrong is reported at once.

mod condition;
mod reader;
mod route;
mod segment;
mod signature;
mod split;

use std::collections::BTreeMap;

use lockgate_package::Digest;

use crate::Placement;
use crate::diagnostic::{Diagnostic, Diagnostics, list_of, suggestion};
use crate::policy::{Layer, Members, Model, ModelVersion, Policy};
use crate::source::{Entry, Node, PolicySource, Position, Value, integer};
use reader::{Fields, Path, Reader};
use route::route;
use segment::segments;

/// The version of the policy language that this code reads.
const LANGUAGE: &str = "1";
/// The longest name.
const MAX_NAME: usize = 128;

/// Checks a source and gives the policy that it describes.
///
/// # Errors
/// Everything that is wrong with it, each with its place, what was expected and, where there is one, a hint.
pub fn check(source: &PolicySource) -> Result<Policy, Diagnostics> {
    let mut reader = Reader { file: &source.file, problems: source.problems.clone() };
    let policy = document(&mut reader, &source.root);
    Diagnostics::check(reader.problems)?;
    // Whatever yields no policy has reported a problem.
    policy.ok_or_else(|| {
        Diagnostic::of_document(&source.file, "the policy cannot be read: a defect of Lockgate").into()
    })
}

fn document(reader: &mut Reader<'_>, root: &Node) -> Option<Policy> {
    let path = Path::Root;
    let fields =
        reader.fields(root, &path, &["lockgate", "version", "models", "segments", "layers", "routes"])?;
    language(reader, &fields, &path);
    let version = fields.get("version").and_then(|node| version(reader, node, &path.key("version")));

    let models = fields.get("models").and_then(|node| models(reader, node, &path.key("models")));
    let segments = fields.get("segments").map(|node| segments(reader, node, &path.key("segments")));
    let segments = segments.unwrap_or_default();
    let layers =
        fields.get("layers").map(|node| layers(reader, node, &path.key("layers"))).unwrap_or_default();

    let names = Names { models: models.as_ref(), segments: &segments, layers: &layers };
    let path = path.key("routes");
    let routes = match fields.get("routes") {
        None => {
            let expected = "a mapping from the name of each route to what it serves";
            reader.problem(
                root.position,
                &Path::Root,
                "the key `routes` is missing",
                Some(expected.to_owned()),
                None,
            );
            return None;
        }
        Some(node) => {
            let mut routes = BTreeMap::new();
            for entry in reader.entries(node, &path) {
                let path = path.key(&entry.key);
                name(reader, entry, &path);
                if layers.contains_key(&entry.key) {
                    let message = format!("the route `{}` has the name of a layer", entry.key);
                    let hint = "decisions name the layer, and a route's own layer is called as the route is; rename one";
                    reader.problem(entry.position, &path, message, None, Some(hint.to_owned()));
                }
                if let Some(route) = route(reader, &names, entry, &path) {
                    routes.insert(entry.key.clone(), route);
                }
            }
            routes
        }
    };
    Some(Policy { file: reader.file.to_owned(), version, models, segments, layers, routes })
}

/// What routes may refer to.
struct Names<'a> {
    models: Option<&'a BTreeMap<ModelVersion, Model>>,
    segments: &'a BTreeMap<String, Members>,
    layers: &'a BTreeMap<String, Layer>,
}

fn language(reader: &mut Reader<'_>, fields: &Fields<'_>, path: &Path<'_>) {
    let expected = Some(format!("`lockgate: {LANGUAGE}`"));
    let Some(node) = fields.get("lockgate") else {
        let message = "the key `lockgate` is missing, which says the version of the policy language";
        reader.problem(fields.position, path, message, expected, None);
        return;
    };
    let path = path.key("lockgate");
    match &node.value {
        Value::Number(text) if text == LANGUAGE => {}
        Value::Number(text) => {
            let message = format!("version {text} of the policy language is not supported");
            let newer = integer(text).is_some_and(|version| version > 1);
            let hint = newer.then(|| "use a newer Lockgate".to_owned());
            reader.problem(node.position, &path, message, expected, hint);
        }
        _ => reader.wrong_type(node, &path, &format!("the number {LANGUAGE}")),
    }
}

fn version(reader: &mut Reader<'_>, node: &Node, path: &Path<'_>) -> Option<u64> {
    let expected = "a whole number from 1 on";
    let Value::Number(text) = &node.value else {
        reader.wrong_type(node, path, expected);
        return None;
    };
    let version = text.parse::<u64>().ok().filter(|version| *version > 0);
    if version.is_none() {
        reader.problem(
            node.position,
            path,
            format!("`{text}` is no version"),
            Some(expected.to_owned()),
            None,
        );
    }
    version
}

fn models(reader: &mut Reader<'_>, node: &Node, path: &Path<'_>) -> Option<BTreeMap<ModelVersion, Model>> {
    reader.mapping(node, path)?;
    let mut models = BTreeMap::new();
    for entry in reader.entries(node, path) {
        let path = path.key(&entry.key);
        let Some(version) = model_version(reader, &entry.key, entry.position, &path) else { continue };
        let mut model =
            Model { digest: None, placement: Placement::Edge, origin: reader.origin(entry.position, &path) };
        // A model may be listed without saying anything about it.
        if entry.value.value != Value::Null
            && let Some(fields) = reader.fields(&entry.value, &path, &["digest", "placement"])
        {
            model.digest = fields.get("digest").and_then(|node| digest(reader, node, &path.key("digest")));
            let placement =
                fields.get("placement").and_then(|node| placement(reader, node, &path.key("placement")));
            model.placement = placement.unwrap_or_default();
        }
        models.insert(version, model);
    }
    Some(models)
}

fn digest(reader: &mut Reader<'_>, node: &Node, path: &Path<'_>) -> Option<Digest> {
    let text = reader.text(node, path)?;
    let digest = text.parse().ok();
    if digest.is_none() {
        let message = format!("`{text}` is no SHA-256 digest");
        let expected = "64 hexadecimal digits, optionally after `sha256:`";
        reader.problem(node.position, path, message, Some(expected.to_owned()), None);
    }
    digest
}

fn placement(reader: &mut Reader<'_>, node: &Node, path: &Path<'_>) -> Option<Placement> {
    let names = || Placement::ALL.iter().map(|placement| placement.name());
    let text = reader.text(node, path)?;
    let placement = Placement::ALL.iter().copied().find(|placement| placement.name() == text);
    if placement.is_none() {
        let message = format!("unknown placement `{text}`");
        let expected = format!("one of {}", list_of(names()));
        reader.problem(node.position, path, message, Some(expected), suggestion(text, names()));
    }
    placement
}

fn model_version(
    reader: &mut Reader<'_>,
    text: &str,
    position: Position,
    path: &Path<'_>,
) -> Option<ModelVersion> {
    let expected = || Some("`<model>@<semantic version>`, such as `eurusd_lr@1.0.0`".to_owned());
    let Some((model, version)) = text.rsplit_once('@') else {
        reader.problem(position, path, format!("`{text}` names no version"), expected(), None);
        return None;
    };
    if let Err(problem) = check_name(model) {
        reader.problem(position, path, format!("the model name `{model}` {problem}"), expected(), None);
        return None;
    }
    if let Err(error) = semver::Version::parse(version) {
        let message = format!("`{version}` is no semantic version: {error}");
        let hint = semver_hint(version);
        reader.problem(position, path, message, expected(), hint);
        return None;
    }
    Some(ModelVersion { model: model.to_owned(), version: version.to_owned() })
}

/// The version with what is most often wrong put right.
fn semver_hint(version: &str) -> Option<String> {
    let bare = version.strip_prefix(['v', 'V']).unwrap_or(version);
    [bare.to_owned(), format!("{bare}.0"), format!("{bare}.0.0")]
        .into_iter()
        .find(|candidate| candidate != version && semver::Version::parse(candidate).is_ok())
        .map(|candidate| format!("write `{candidate}`"))
}

fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("is empty".to_owned());
    }
    if name.len() > MAX_NAME {
        return Err(format!("is longer than {MAX_NAME} characters"));
    }
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err("does not begin with a letter or digit".to_owned());
    }
    match name.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_' | '-')) {
        Some(other) => Err(format!("contains {other:?}")),
        None => Ok(()),
    }
}

/// Checks a key that names a route, variant, segment or layer: these appear in URLs, headers and metrics.
fn name(reader: &mut Reader<'_>, entry: &Entry, path: &Path<'_>) {
    if let Err(problem) = check_name(&entry.key) {
        let message = format!("the name `{}` {problem}", entry.key);
        let expected =
            format!("1 to {MAX_NAME} letters, digits, `.`, `_` and `-`, beginning with a letter or digit");
        reader.problem(entry.position, path, message, Some(expected), None);
    }
}

fn layers(reader: &mut Reader<'_>, node: &Node, path: &Path<'_>) -> BTreeMap<String, Layer> {
    let mut layers = BTreeMap::new();
    for entry in reader.entries(node, path) {
        let path = path.key(&entry.key);
        name(reader, entry, &path);
        let mut salt = entry.key.clone();
        if entry.value.value != Value::Null
            && let Some(fields) = reader.fields(&entry.value, &path, &["salt"])
            && let Some(text) =
                fields.get("salt").and_then(|node| reader.filled_text(node, &path.key("salt")))
        {
            salt = text.to_owned();
        }
        layers.insert(entry.key.clone(), Layer { name: entry.key.clone(), salt });
    }
    layers
}
