//! One route: variants, baseline, and the steps of the precedence.

use std::collections::{BTreeMap, BTreeSet};

use super::reader::{Fields, Path, Reader};
use super::segment::{known_segment, members};
use super::split::{layer, serve, unit};
use super::{MAX_NAME, Names, condition, model_version, name, signature};
use crate::Field;
use crate::diagnostic::{list_of, suggestion};
use crate::policy::{
    Layer, Members, Origin, Override, Route, Rule, Serve, SymbolRollout, TestGroup, Unit, Variant,
};
use crate::source::{Entry, Node, Position, Value};

const ROUTE_KEYS: &[&str] = &[
    "description",
    "signature",
    "enabled",
    "unit",
    "layer",
    "salt",
    "variants",
    "baseline",
    "overrides",
    "test_groups",
    "symbol_rollouts",
    "rules",
    "default",
];

/// What the parts of a route share.
pub(super) struct RouteScope<'a> {
    pub(super) names: &'a Names<'a>,
    variants: &'a [Variant],
    /// The variants could not be read in full, so a name that is missing may well exist.
    partial: bool,
    pub(super) unit: Unit,
    pub(super) layer: Layer,
}

pub(super) fn route(
    reader: &mut Reader<'_>,
    names: &Names<'_>,
    entry: &Entry,
    path: &Path<'_>,
) -> Option<Route> {
    let fields = reader.fields(&entry.value, path, ROUTE_KEYS)?;
    let text = |reader: &mut Reader<'_>, key: &str| {
        fields.get(key).and_then(|node| reader.text(node, &path.key(key))).map(str::to_owned)
    };
    let description = text(reader, "description");
    let signature =
        fields.get("signature").and_then(|node| signature::signature(reader, node, &path.key("signature")));
    let enabled =
        fields.get("enabled").and_then(|node| reader.boolean(node, &path.key("enabled"))).unwrap_or(true);
    let unit = fields.get("unit").and_then(|node| unit(reader, node, &path.key("unit")));
    let layer = route_layer(reader, names, &entry.key, &fields, path);
    let before = reader.problems.len();
    let variants = variants(reader, names, &fields, path);
    let partial = reader.problems.len() > before;

    let unit = unit.unwrap_or_else(|| Unit(vec![Field::User]));
    let scope = RouteScope { names, variants: &variants, partial, unit, layer };
    let mut overrides = Vec::new();
    if let Some(node) = fields.get("overrides") {
        overrides = overrides_of(reader, &scope, node, &path.key("overrides"));
    }
    let mut taken = BTreeMap::new();
    let test_groups = named(reader, &fields, path, "test_groups", GROUP_KEYS, &mut taken, |reader, item| {
        let members = members_of(reader, &scope, item)?;
        let serve = serve(reader, &scope, &item.fields, item.path)?;
        Some(TestGroup { name: item.name.to_owned(), members, serve, origin: item.origin(reader) })
    });
    let symbol_rollouts =
        named(reader, &fields, path, "symbol_rollouts", ROLLOUT_KEYS, &mut taken, |reader, item| {
            let members = members_of(reader, &scope, item)?;
            let serve = serve(reader, &scope, &item.fields, item.path)?;
            Some(SymbolRollout { name: item.name.to_owned(), members, serve, origin: item.origin(reader) })
        });
    let rules = named(reader, &fields, path, "rules", RULE_KEYS, &mut taken, |reader, item| {
        let condition = match item.fields.get("if") {
            Some(node) => condition::condition(reader, scope.names.segments, node, &item.path.key("if")),
            None => {
                let expected = "a condition, such as `if: { symbol: EURUSD }`".to_owned();
                let hint = Some("what serves everyone belongs into `default`".to_owned());
                reader.problem(
                    item.fields.position,
                    item.path,
                    "the key `if` is missing",
                    Some(expected),
                    hint,
                );
                None
            }
        };
        let serve = serve(reader, &scope, &item.fields, item.path);
        Some(Rule {
            name: item.name.to_owned(),
            condition: condition?,
            serve: serve?,
            origin: item.origin(reader),
        })
    });
    let default = match fields.get("default") {
        None => {
            let expected = "`default: { serve: <variant> }` or `default: { split: { … } }`".to_owned();
            reader.problem(fields.position, path, "the key `default` is missing", Some(expected), None);
            None
        }
        Some(node) => {
            let path = path.key("default");
            let fields = reader.fields(node, &path, &["unit", "layer", "serve", "split"]);
            fields.and_then(|fields| serve(reader, &scope, &fields, &path))
        }
    };
    let baseline = baseline(reader, &scope, &fields, default.as_ref(), path);
    let origin = reader.origin(entry.position, path);
    Some(Route {
        description,
        signature,
        enabled,
        baseline: baseline?,
        overrides,
        test_groups,
        symbol_rollouts,
        rules,
        default: default?,
        origin,
        variants,
    })
}

fn baseline(
    reader: &mut Reader<'_>,
    scope: &RouteScope<'_>,
    fields: &Fields<'_>,
    default: Option<&Serve>,
    path: &Path<'_>,
) -> Option<String> {
    match (fields.get("baseline"), default) {
        (Some(node), _) => variant_name(reader, scope, node, &path.key("baseline")),
        (None, Some(Serve::Variant(name))) => Some(name.clone()),
        (None, Some(Serve::Split(split))) => {
            let expected =
                "`baseline: <variant>`, which serves when the unit is missing or the route is disabled";
            let message = "the key `baseline` is missing, and the default is a split";
            let widest = split.shares.iter().max_by_key(|(_, share)| **share).map(|(name, _)| name);
            let hint = widest.map(|name| format!("perhaps `baseline: {name}`"));
            reader.problem(fields.position, path, message, Some(expected.to_owned()), hint);
            None
        }
        (None, None) => None,
    }
}

fn route_layer(
    reader: &mut Reader<'_>,
    names: &Names<'_>,
    route: &str,
    fields: &Fields<'_>,
    path: &Path<'_>,
) -> Layer {
    let own = Layer { name: route.to_owned(), salt: route.to_owned() };
    match (fields.get("layer"), fields.get("salt")) {
        (None, None) => own,
        (None, Some(node)) => {
            let salt = reader.filled_text(node, &path.key("salt"));
            Layer { salt: salt.unwrap_or(route).to_owned(), ..own }
        }
        (Some(node), None) => layer(reader, names, node, &path.key("layer")).unwrap_or(own),
        (Some(_), Some(salt)) => {
            let message = "`salt` and `layer` exclude each other: a named layer has its own salt";
            let hint = "remove `salt`, or set it in `layers`".to_owned();
            reader.problem(salt.position, &path.key("salt"), message, None, Some(hint));
            own
        }
    }
}

fn variants(
    reader: &mut Reader<'_>,
    names: &Names<'_>,
    fields: &Fields<'_>,
    path: &Path<'_>,
) -> Vec<Variant> {
    let expected = "a mapping from the name of each variant to its model";
    let Some(node) = fields.get("variants") else {
        reader.problem(
            fields.position,
            path,
            "the key `variants` is missing",
            Some(expected.to_owned()),
            None,
        );
        return Vec::new();
    };
    let path = path.key("variants");
    let mut variants = Vec::new();
    for entry in reader.entries(node, &path) {
        let path = path.key(&entry.key);
        name(reader, entry, &path);
        let Some(fields) = reader.fields(&entry.value, &path, &["model", "payload"]) else { continue };
        let payload = fields.get("payload").and_then(|node| payload(reader, node, &path.key("payload")));
        let Some(node) = fields.get("model") else {
            let expected = "`model: <model>@<version>`".to_owned();
            reader.problem(fields.position, &path, "the key `model` is missing", Some(expected), None);
            continue;
        };
        let model_path = path.key("model");
        let Some(text) = reader.text(node, &model_path) else { continue };
        let Some(model) = model_version(reader, text, node.position, &model_path) else { continue };
        if let Some(known) = names.models.filter(|known| !known.contains_key(&model)) {
            let known: Vec<String> = known.keys().map(ToString::to_string).collect();
            let known = || known.iter().map(String::as_str);
            let message = format!("unknown model `{model}`");
            let expected = format!("a model version of the section `models`: {}", list_of(known()));
            let hint = suggestion(text, known()).unwrap_or_else(|| {
                "the section `models`, where there is one, lists every model version used".to_owned()
            });
            reader.problem(node.position, &model_path, message, Some(expected), Some(hint));
        }
        let origin = reader.origin(entry.position, &path);
        variants.push(Variant { name: entry.key.clone(), model, payload, origin });
    }
    if variants.is_empty() && matches!(&node.value, Value::Mapping(entries) if entries.is_empty()) {
        reader.problem(node.position, &path, "the route has no variants", Some(expected.to_owned()), None);
    }
    variants
}

fn payload(reader: &mut Reader<'_>, node: &Node, path: &Path<'_>) -> Option<String> {
    match node.to_json() {
        Ok(json) => Some(json),
        Err((position, number)) => {
            let message = format!("JSON cannot express the number `{number}`, and payloads travel as JSON");
            reader.problem(position, path, message, Some("a finite number".to_owned()), None);
            None
        }
    }
}

/// The name of a variant of this route.
pub(super) fn variant_name(
    reader: &mut Reader<'_>,
    scope: &RouteScope<'_>,
    node: &Node,
    path: &Path<'_>,
) -> Option<String> {
    let text = reader.text(node, path)?;
    known_variant(reader, scope, text, node.position, path)
}

pub(super) fn known_variant(
    reader: &mut Reader<'_>,
    scope: &RouteScope<'_>,
    text: &str,
    position: Position,
    path: &Path<'_>,
) -> Option<String> {
    let known = || scope.variants.iter().map(|variant| variant.name.as_str());
    if known().any(|name| name == text) {
        return Some(text.to_owned());
    }
    if !scope.partial {
        let message = format!("unknown variant `{text}`");
        let expected = format!("a variant of this route: {}", list_of(known()));
        reader.problem(position, path, message, Some(expected), suggestion(text, known()));
    }
    None
}

const OVERRIDE_KEYS: &[&str] =
    &["user", "symbol", "tenant", "session", "users", "symbols", "tenants", "sessions", "serve"];

fn overrides_of(
    reader: &mut Reader<'_>,
    scope: &RouteScope<'_>,
    node: &Node,
    path: &Path<'_>,
) -> Vec<Override> {
    let mut overrides = Vec::new();
    let mut taken: BTreeMap<(Field, String), Position> = BTreeMap::new();
    for (item, index) in reader.list(node, path).iter().zip(0..) {
        let path = path.index(index);
        let Some(fields) = reader.fields(item, &path, OVERRIDE_KEYS) else { continue };
        let serve = match fields.get("serve") {
            Some(node) => variant_name(reader, scope, node, &path.key("serve")),
            None => {
                let expected = "`serve: <variant>`".to_owned();
                reader.problem(fields.position, &path, "the key `serve` is missing", Some(expected), None);
                None
            }
        };
        let mut whom = Vec::new();
        for field in Field::ALL {
            if let Some(node) = fields.get(field.name()) {
                let value = reader.filled_text(node, &path.key(field.name()));
                whom.push((field, node, value.map(str::to_owned).into_iter().collect()));
            }
            let key = format!("{}s", field.name());
            if let Some(node) = fields.get(&key) {
                whom.push((field, node, reader.set(node, &path.key(&key))));
            }
        }
        let Ok([(field, node, values)]) = <[(Field, &Node, BTreeSet<String>); 1]>::try_from(whom) else {
            let message = "an override compares exactly one field";
            let expected =
                "one of `user`, `symbol`, `tenant`, `session`, or one of these in the plural with a list";
            let hint = "for a combination of fields, write a rule".to_owned();
            reader.problem(fields.position, &path, message, Some(expected.to_owned()), Some(hint));
            continue;
        };
        for value in &values {
            if let Some(first) = taken.get(&(field, value.clone())) {
                let message = format!("the {} `{value}` has two overrides", field.name());
                let hint = Some(format!("the first is at line {}, column {}", first.line, first.column));
                reader.problem(node.position, &path, message, None, hint);
            } else {
                taken.insert((field, value.clone()), node.position);
            }
        }
        if let Some(serve) = serve {
            overrides.push(Override { field, values, serve });
        }
    }
    overrides
}

const GROUP_KEYS: &[&str] =
    &["name", "users", "symbols", "tenants", "sessions", "segments", "unit", "layer", "serve", "split"];
const ROLLOUT_KEYS: &[&str] = &["name", "symbols", "segments", "unit", "layer", "serve", "split"];
const RULE_KEYS: &[&str] = &["name", "if", "unit", "layer", "serve", "split"];

/// A test group, symbol rollout or rule.
struct Item<'a> {
    name: &'a str,
    fields: Fields<'a>,
    path: &'a Path<'a>,
}

impl Item<'_> {
    fn origin(&self, reader: &Reader<'_>) -> Origin {
        reader.origin(self.fields.position, self.path)
    }
}

/// Reads a list of mappings that each have a name, unique in the route.
fn named<T>(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    path: &Path<'_>,
    key: &str,
    keys: &[&str],
    taken: &mut BTreeMap<String, Position>,
    mut read: impl FnMut(&mut Reader<'_>, &Item<'_>) -> Option<T>,
) -> Vec<T> {
    let Some(node) = fields.get(key) else { return Vec::new() };
    let path = path.key(key);
    let mut items = Vec::new();
    for (item, index) in reader.list(node, &path).iter().zip(0..) {
        let path = path.index(index);
        let Some(fields) = reader.fields(item, &path, keys) else { continue };
        let name = match fields.get("name") {
            None => {
                let expected = "`name: <text>`, which decisions carry as what matched".to_owned();
                reader.problem(fields.position, &path, "the key `name` is missing", Some(expected), None);
                None
            }
            Some(node) => {
                let path = path.key("name");
                let name = reader.filled_text(node, &path);
                if let Some(name) = name {
                    label(reader, name, node.position, &path);
                    if let Some(Position { line, column }) = taken.get(name) {
                        let message = format!("the name `{name}` occurs twice in this route");
                        let hint = Some(format!("the other one is at line {line}, column {column}"));
                        reader.problem(node.position, &path, message, None, hint);
                    } else {
                        taken.insert(name.to_owned(), node.position);
                    }
                }
                name
            }
        };
        // Without a name the rest is still checked.
        let item = Item { name: name.unwrap_or_default(), fields, path: &path };
        items.extend(read(reader, &item));
    }
    items
}

/// Checks the name of something that is only shown to people.
fn label(reader: &mut Reader<'_>, name: &str, position: Position, path: &Path<'_>) {
    if name.len() > MAX_NAME || name.chars().any(char::is_control) {
        let message = "this name is too long or holds control characters".to_owned();
        let expected = format!("at most {MAX_NAME} bytes of printable text");
        reader.problem(position, path, message, Some(expected), None);
    }
}

fn members_of(reader: &mut Reader<'_>, scope: &RouteScope<'_>, item: &Item<'_>) -> Option<Members> {
    let members = members(reader, &item.fields, item.path);
    if members.values.is_empty() && item.fields.get("segments").is_none() {
        let keys = ["users", "symbols", "tenants", "sessions", "segments"];
        let keys = keys.into_iter().filter(|key| item.fields.known.contains(key));
        let expected = format!("at least one of {}", list_of(keys));
        reader.problem(
            item.fields.position,
            item.path,
            "it says nothing about who belongs to it",
            Some(expected),
            None,
        );
        return None;
    }
    for segment in &members.segments {
        known_segment(reader, scope.names.segments, segment, item.fields.get("segments"), item.path);
    }
    Some(members)
}
