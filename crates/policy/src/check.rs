//! From source to policy: every key known, every name resolved, every share exact. All that is wrong is reported at once, and
//! one mistake once: what refers to something that could not be read is not reported again.

mod condition;
pub(crate) mod graph;
mod reader;
mod route;
pub(crate) mod scalar;
mod schedule;
mod segment;
mod signature;
mod split;

use std::collections::{BTreeMap, BTreeSet};

use lockgate_package::Digest;

use crate::diagnostic::{Diagnostic, Diagnostics, list_of};
use crate::language;
use crate::policy::{
    Holdout, Layer, Model, ModelVersion, NamedLayer, Pause, Policy, RouteKey, RouteScope, Share, Tier, Unit,
    UnitPart,
};
use crate::source::{Entry, Node, PolicySource, Position, SourceTree, Value, integer};
use crate::{Algorithm, Field, Placement};
use reader::{Fields, NameSet, Path, Reader};

/// The version of the policy language that this code reads.
const LANGUAGE: &str = "1";
/// The longest name.
const MAX_NAME: usize = 128;

/// Checks a source and gives the policy that it describes.
///
/// # Errors
/// Everything that is wrong with it, each with its place, what was expected and, where there is one, a hint.
pub fn check(source: &PolicySource) -> Result<Policy, Diagnostics> {
    let problems = source.problems.clone();
    let mut reader = Reader { file: &source.file, problems, dropped: &source.dropped };
    let policy = document(&mut reader, &source.tree);
    if let Some(policy) = &policy {
        graph::segments(&mut reader, policy);
        graph::prerequisites(&mut reader, policy);
        experiments(&mut reader, policy);
    }
    Diagnostics::check(reader.problems)?;
    // Whatever yields no policy has reported a problem.
    policy.ok_or_else(|| {
        Diagnostic::of_document(&source.file, "the policy cannot be read: a defect of Lockgate").into()
    })
}

/// What the parts of a policy may refer to.
struct Names<'a> {
    models: Option<&'a BTreeMap<ModelVersion, Model>>,
    /// Whether every model version of the section could be read.
    all_models: bool,
    segments: NameSet<'a>,
    tiers: NameSet<'a>,
    layers: NameSet<'a>,
    named_layers: &'a BTreeMap<String, NamedLayer>,
    routes: NameSet<'a>,
    /// The variants of each route, of all its definitions together.
    variants: BTreeMap<&'a str, NameSet<'a>>,
}

fn document(reader: &mut Reader<'_>, tree: &SourceTree) -> Option<Policy> {
    let (root, path) = (tree.0.as_ref(), Path::Root);
    let fields = reader.fields(root, &path, &language::DOCUMENT)?;
    language_version(reader, &fields, &path);
    let version = reader.at(&fields, &path, "version", version).flatten();
    let models = reader.at(&fields, &path, "models", models).flatten();
    let layers = reader.at(&fields, &path, "layers", layers).unwrap_or_default().unwrap_or_default();
    let freezes = reader.at(&fields, &path, "freezes", freezes).flatten().unwrap_or_default();

    let section = |reader: &Reader<'_>, kind, section, names| {
        let complete = reader.is_complete(&fields, section, &path);
        NameSet { kind, section, names, complete }
    };
    let (routes, variants) = survey(reader, root, &fields);
    let names = Names {
        models: models.as_ref(),
        all_models: reader.is_complete(&fields, "models", &path),
        segments: section(reader, "segment", "segments", keys_of(fields.get("segments"))),
        tiers: section(reader, "tier", "tiers", tier_names(fields.get("tiers"))),
        layers: section(reader, "layer", "layers", keys_of(fields.get("layers"))),
        named_layers: &layers,
        routes,
        variants,
    };
    let tiers = reader.at(&fields, &path, "tiers", |reader, node, path| tiers(reader, &names, node, path));
    let segments = reader.at(&fields, &path, "segments", |reader, node, path| {
        Some(segment::segments(reader, &names, node, path))
    });
    let holdouts = reader
        .at(&fields, &path, "holdouts", |reader, node, path| Some(holdouts(reader, &names, node, path)));

    let mut routes = BTreeMap::new();
    let mut read = |reader: &mut Reader<'_>, fields: &Fields<'_>, path: &Path<'_>, scope: RouteScope| {
        let Some(node) = fields.get("routes") else { return };
        let path = path.key("routes");
        for entry in reader.entries(node, &path) {
            let path = path.key(&entry.key);
            name(reader, entry, &path);
            let key = RouteKey { name: entry.key.clone(), scope: scope.clone() };
            if let Some(route) = route::route(reader, &names, &key, entry, &path) {
                routes.insert(key, route);
            }
        }
    };
    reader.missing(&fields, &path, "routes", "a mapping from the name of each route to what it serves");
    read(reader, &fields, &path, RouteScope::default());
    users(reader, &fields, &path, None, &mut read);
    tenants(reader, &fields, &path, &mut read);

    one_name_each(reader, &layers, &holdouts, &fields, &path);
    Some(Policy {
        file: reader.file.to_owned(),
        version,
        models,
        freezes,
        tiers: tiers.flatten().unwrap_or_default(),
        segments: segments.flatten().unwrap_or_default(),
        layers,
        holdouts: holdouts.flatten().unwrap_or_default(),
        routes,
        tree: tree.clone(),
    })
}

/// Reads the sections `users`, of a tenant or of none.
fn users(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    path: &Path<'_>,
    tenant: Option<&str>,
    read: &mut dyn FnMut(&mut Reader<'_>, &Fields<'_>, &Path<'_>, RouteScope),
) {
    let Some(node) = fields.get("users") else { return };
    let path = path.key("users");
    for entry in reader.entries(node, &path) {
        let path = path.key(&entry.key);
        scope_name(reader, entry, &path);
        let Some(fields) = reader.fields(&entry.value, &path, &language::USER) else { continue };
        reader.missing(&fields, &path, "routes", "the user's routes");
        let scope = RouteScope { tenant: tenant.map(str::to_owned), user: Some(entry.key.clone()) };
        read(reader, &fields, &path, scope);
    }
}

fn tenants(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    path: &Path<'_>,
    read: &mut dyn FnMut(&mut Reader<'_>, &Fields<'_>, &Path<'_>, RouteScope),
) {
    let Some(node) = fields.get("tenants") else { return };
    let path = path.key("tenants");
    for entry in reader.entries(node, &path) {
        let path = path.key(&entry.key);
        scope_name(reader, entry, &path);
        let Some(fields) = reader.fields(&entry.value, &path, &language::TENANT) else { continue };
        if fields.lacks_all(&["routes", "users"]) {
            let expected = Some("`routes`, or `users` with routes of their own".to_owned());
            reader.problem(fields.position, &path, "it defines no routes", expected, None);
        }
        let scope = RouteScope { tenant: Some(entry.key.clone()), user: None };
        read(reader, &fields, &path, scope);
        users(reader, &fields, &path, Some(&entry.key), read);
    }
}

fn scope_name(reader: &mut Reader<'_>, entry: &Entry, path: &Path<'_>) {
    if entry.key.is_empty() {
        let expected = Some("at least one character".to_owned());
        reader.problem(entry.position, path, "the name is empty", expected, None);
    }
}

/// The names of all routes and, by route, of their variants, before anything is checked.
fn survey<'n>(
    reader: &Reader<'_>,
    root: &'n Node,
    fields: &Fields<'_>,
) -> (NameSet<'n>, BTreeMap<&'n str, NameSet<'n>>) {
    let mut variants: BTreeMap<&str, NameSet<'_>> = BTreeMap::new();
    let mut complete =
        ["routes", "tenants", "users"].iter().all(|section| reader.is_complete(fields, section, &Path::Root));
    let mut definitions = vec![child(root, "routes")];
    let tenants = entries_of(child(root, "tenants")).iter().map(|entry| &entry.value);
    for owner in [root].into_iter().chain(tenants) {
        definitions.push(child(owner, "routes").filter(|_| !std::ptr::eq(owner, root)));
        for user in entries_of(child(owner, "users")) {
            definitions.push(child(&user.value, "routes"));
        }
    }
    for entry in definitions.into_iter().flat_map(entries_of) {
        let readable = reader.dropped.is_empty()
            && child(&entry.value, "variants").is_some_and(|node| matches!(node.value, Value::Mapping(_)));
        let set = variants.entry(&entry.key).or_insert_with(|| NameSet {
            kind: "variant",
            section: "variants",
            names: BTreeSet::new(),
            complete: true,
        });
        set.complete &= readable;
        set.names.extend(keys_of(child(&entry.value, "variants")));
    }
    complete &= reader.dropped.is_empty();
    let names = variants.keys().copied().collect();
    (NameSet { kind: "route", section: "routes", names, complete }, variants)
}

fn child<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    entries_of(Some(node)).iter().find(|entry| entry.key == key).map(|entry| &entry.value)
}

fn entries_of(node: Option<&Node>) -> &[Entry] {
    match node.map(|node| &node.value) {
        Some(Value::Mapping(entries)) => entries,
        _ => &[],
    }
}

fn keys_of(node: Option<&Node>) -> BTreeSet<&str> {
    entries_of(node).iter().map(|entry| entry.key.as_str()).collect()
}

fn tier_names(node: Option<&Node>) -> BTreeSet<&str> {
    let Some(Node { value: Value::List(items), .. }) = node else { return BTreeSet::new() };
    let names = items.iter().filter_map(|item| match &child(item, "name")?.value {
        Value::Text(name) => Some(name.as_str()),
        _ => None,
    });
    names.collect()
}

fn language_version(reader: &mut Reader<'_>, fields: &Fields<'_>, path: &Path<'_>) {
    let expected = Some(format!("`lockgate: {LANGUAGE}`"));
    let Some(node) = fields.get("lockgate") else {
        if fields.lacks("lockgate") {
            let message = "the key `lockgate` is missing, which says the version of the policy language";
            reader.problem(fields.position, path, message, expected, None);
        }
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
        let message = format!("`{text}` is no version");
        reader.problem(node.position, path, message, Some(expected.to_owned()), None);
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
        if let Some(fields) = reader.fields_or_nothing(&entry.value, &path, &language::MODEL) {
            model.digest = reader.at(&fields, &path, "digest", digest).flatten();
            model.placement = reader.at(&fields, &path, "placement", placement).flatten().unwrap_or_default();
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
        let hint = reader.suggest(text, names());
        reader.problem(node.position, path, message, Some(expected), hint);
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

pub(crate) fn check_name(name: &str) -> Result<(), String> {
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

/// Checks a key that names a route, variant, segment, layer or holdout: these appear in URLs, headers and metrics.
fn name(reader: &mut Reader<'_>, entry: &Entry, path: &Path<'_>) {
    plain_name(reader, &entry.key, entry.position, path);
}

fn plain_name(reader: &mut Reader<'_>, name: &str, position: Position, path: &Path<'_>) {
    if let Err(problem) = check_name(name) {
        let message = format!("the name `{name}` {problem}");
        let expected =
            format!("1 to {MAX_NAME} letters, digits, `.`, `_` and `-`, beginning with a letter or digit");
        reader.problem(position, path, message, Some(expected), None);
    }
}

fn layers(reader: &mut Reader<'_>, node: &Node, path: &Path<'_>) -> Option<BTreeMap<String, NamedLayer>> {
    let mut layers = BTreeMap::new();
    for entry in reader.entries(node, path) {
        let path = path.key(&entry.key);
        name(reader, entry, &path);
        let Some(fields) = reader.fields_or_nothing(&entry.value, &path, &language::LAYER) else { continue };
        let algorithm = reader.at(&fields, &path, "hash", algorithm);
        let ours = matches!(algorithm, None | Some(Some(Algorithm::Lockgate)));
        let salt = reader.at(&fields, &path, "salt", |reader, node, path| {
            let text = if ours { reader.filled_text(node, path) } else { reader.text(node, path) };
            text.map(str::to_owned)
        });
        let unit = reader.at(&fields, &path, "unit", split::unit);
        let holdout = reader.at(&fields, &path, "holdout", scalar::share).flatten().unwrap_or_default();
        if !ours
            && holdout.buckets() > 0
            && let Some(node) = fields.get("holdout")
        {
            let message = "a layer with the hash of another system has no holdout";
            let hint = Some("write a holdout into the section `holdouts`".to_owned());
            reader.problem(node.position, &path.key("holdout"), message, None, hint);
        }
        let layer = Layer {
            name: entry.key.clone(),
            salt: salt.flatten().unwrap_or_else(|| entry.key.clone()),
            algorithm: algorithm.flatten().unwrap_or_default(),
        };
        let unit = unit.flatten().unwrap_or_else(user);
        let origin = reader.origin(entry.position, &path);
        layers.insert(entry.key.clone(), NamedLayer { layer, unit, holdout, origin });
    }
    Some(layers)
}

/// What things stick to unless they say otherwise.
fn user() -> Unit {
    Unit(vec![UnitPart::Field(Field::User)])
}

fn algorithm(reader: &mut Reader<'_>, node: &Node, path: &Path<'_>) -> Option<Algorithm> {
    let names = || Algorithm::ALL.iter().map(|algorithm| algorithm.name());
    let text = reader.text(node, path)?;
    let algorithm = Algorithm::ALL.iter().copied().find(|algorithm| algorithm.name() == text);
    if algorithm.is_none() {
        let expected = format!("one of {}", reader::quoted(names()));
        let hint = reader.suggest(text, names());
        reader.problem(node.position, path, format!("unknown hash `{text}`"), Some(expected), hint);
    }
    algorithm
}

fn freezes(reader: &mut Reader<'_>, node: &Node, path: &Path<'_>) -> Option<Vec<Pause>> {
    schedule::pauses(reader, node, path, &language::FREEZE)
}

fn tiers(reader: &mut Reader<'_>, names: &Names<'_>, node: &Node, path: &Path<'_>) -> Option<Vec<Tier>> {
    let mut tiers: Vec<Tier> = Vec::new();
    for (item, index) in reader.list(node, path).iter().zip(0..) {
        let path = path.index(index);
        let Some(fields) = reader.fields(item, &path, &language::TIER) else { continue };
        let node = reader.required(&fields, &path, "name", "`name: <name of the tier>`");
        let members = segment::members(reader, names, &fields, &path);
        let Some(node) = node else { continue };
        let name_path = path.key("name");
        let Some(name) = reader.text(node, &name_path) else { continue };
        plain_name(reader, name, node.position, &name_path);
        if let Some(first) = tiers.iter().find(|tier| tier.name == name) {
            let Position { line, column } = first.origin.position;
            let message = format!("the tier `{name}` occurs twice");
            let hint = Some(format!("it is first at line {line}, column {column}"));
            reader.problem(node.position, &name_path, message, None, hint);
            continue;
        }
        let origin = reader.origin(fields.position, &path);
        tiers.push(Tier { name: name.to_owned(), members: members.unwrap_or_default(), origin });
    }
    Some(tiers)
}

fn holdouts(
    reader: &mut Reader<'_>,
    names: &Names<'_>,
    node: &Node,
    path: &Path<'_>,
) -> BTreeMap<String, Holdout> {
    let mut holdouts = BTreeMap::new();
    for entry in reader.entries(node, path) {
        let path = path.key(&entry.key);
        name(reader, entry, &path);
        let Some(fields) = reader.fields(&entry.value, &path, &language::HOLDOUT) else { continue };
        let expected = "`share: <percent>`, how much is held out";
        let share = reader.required(&fields, &path, "share", expected);
        let share = share.and_then(|node| scalar::share(reader, node, &path.key("share")));
        let unit = reader.at(&fields, &path, "unit", split::unit);
        let salt = reader.at(&fields, &path, "salt", |reader, node, path| {
            reader.filled_text(node, path).map(str::to_owned)
        });
        let routes = reader.at(&fields, &path, "routes", |reader, node, path| {
            reader.filled_list(node, path, "at least one route")?;
            reader.names_in(node, path, &names.routes)
        });
        let layer = Layer {
            name: entry.key.clone(),
            salt: salt.flatten().unwrap_or_else(|| entry.key.clone()),
            algorithm: Algorithm::Lockgate,
        };
        let unit = unit.flatten().unwrap_or_else(user);
        let routes = routes.flatten().map(|routes| routes.into_iter().collect());
        let origin = reader.origin(entry.position, &path);
        let share: Share = share.unwrap_or_default();
        holdouts.insert(entry.key.clone(), Holdout { layer, unit, share, routes, origin });
    }
    holdouts
}

/// Reports routes, layers and holdouts of one name: each is a layer, and decisions name the layer.
fn one_name_each(
    reader: &mut Reader<'_>,
    layers: &BTreeMap<String, NamedLayer>,
    holdouts: &Option<Option<BTreeMap<String, Holdout>>>,
    fields: &Fields<'_>,
    path: &Path<'_>,
) {
    let hint = "decisions name the layer, and a route's own layer is called as the route is; rename one";
    for entry in entries_of(fields.get("routes")) {
        if layers.contains_key(&entry.key) {
            let message = format!("the route `{}` has the name of a layer", entry.key);
            let path = path.key("routes");
            reader.problem(entry.position, &path.key(&entry.key), message, None, Some(hint.to_owned()));
        }
    }
    for (name, holdout) in holdouts.iter().flatten().flatten() {
        let what = if layers.contains_key(name) {
            "layer"
        } else if entries_of(fields.get("routes")).iter().any(|entry| entry.key == *name) {
            "route"
        } else {
            continue;
        };
        let message = format!("the holdout `{name}` has the name of a {what}");
        let hint = "decisions name the layer, and a holdout is a layer of its own; rename one".to_owned();
        reader.problem_at(&holdout.origin, message, Some(hint));
    }
}

/// Reports layers whose experiments and holdout want more than there is.
fn experiments(reader: &mut Reader<'_>, policy: &Policy) {
    let mut taken: BTreeMap<&str, Vec<(&crate::policy::Rule, u32)>> = BTreeMap::new();
    for route in policy.routes.values() {
        for rule in &route.rules {
            if let crate::policy::Serve::Experiment(experiment) = &rule.serve {
                let share = experiment.shares.values().map(|share| share.buckets()).sum();
                taken.entry(&experiment.layer).or_default().push((rule, share));
            }
        }
    }
    for (name, mut rules) in taken {
        let Some(layer) = policy.layers.get(name) else { continue };
        rules.sort_by_key(|(rule, _)| rule.origin.position);
        let mut total = u64::from(layer.holdout.buckets());
        for (rule, share) in &rules {
            total += u64::from(*share);
            if total <= u64::from(Share::WHOLE.buckets()) {
                continue;
            }
            let mut hint = format!("the layer has {} % for its holdout", layer.holdout);
            for (other, share) in rules.iter().take(12) {
                hint.push_str(&format!(", {} % for `{}`", Share(*share), other.name));
            }
            let message =
                format!("with this experiment, the layer `{name}` is taken to {} %", split::percent(total));
            let error =
                Diagnostic::error(reader.file, rule.origin.position, rule.origin.path.clone(), message);
            reader.problems.push(Diagnostic {
                expected: Some("at most 100 % for the holdout and all experiments of a layer".to_owned()),
                hint: Some(hint),
                ..error
            });
            break;
        }
    }
}
