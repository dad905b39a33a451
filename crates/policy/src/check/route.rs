//! One definition of a route: variants, baseline, the steps of the precedence, shadows.

use std::collections::{BTreeMap, BTreeSet};

use super::condition::{self, Place};
use super::reader::{Fields, NameSet, Path, Reader};
use super::segment::some_members;
use super::split::{layer, own_layer, serve, unit};
use super::{MAX_NAME, Names, model_version, name, scalar, signature, user};
use crate::diagnostic::list_of;
use crate::language::{self, Mapping};
use crate::policy::{
    Group, GroupKind, Layer, Origin, Override, Request, Route, RouteKey, Rule, Shadow, Share, Unit, Variant,
};
use crate::source::{Entry, Node, Position, Value};
use crate::{Field, ShadowLimits};

/// The most variants of a route.
const MAX_VARIANTS: usize = 256;
/// The most shadows of a route.
const MAX_SHADOWS: usize = 32;

/// What the parts of a route share.
pub(super) struct RouteScope<'a> {
    pub(super) names: &'a Names<'a>,
    pub(super) variants: NameSet<'a>,
    /// What splits stick to.
    pub(super) unit: Unit,
    /// The layer of splits; `None` when it could not be read.
    pub(super) layer: Option<Layer>,
    /// The route's own layer.
    pub(super) own: Layer,
    /// `None` when there is none, which is reported.
    pub(super) baseline: Option<String>,
}

pub(super) fn route(
    reader: &mut Reader<'_>,
    names: &Names<'_>,
    key: &RouteKey,
    entry: &Entry,
    path: &Path<'_>,
) -> Option<Route> {
    let fields = reader.fields(&entry.value, path, &language::ROUTE)?;
    let description = reader
        .at(&fields, path, "description", |reader, node, path| reader.text(node, path).map(str::to_owned));
    let signature = reader.at(&fields, path, "signature", signature::signature);
    let enabled = reader.at(&fields, path, "enabled", Reader::boolean);
    let access = reader.at(&fields, path, "access", |reader, node, path| {
        condition::condition(reader, names, Place::Route, node, path)
    });
    let unit = reader.at(&fields, path, "unit", unit).flatten().unwrap_or_else(user);
    let (own, layer) = layers(reader, names, key, &fields, path);
    let variants_of_route = super::keys_of(fields.get("variants"));
    let variant_names = NameSet {
        kind: "variant",
        section: "",
        // A route without variants is reported as such.
        complete: !variants_of_route.is_empty() && reader.is_complete(&fields, "variants", path),
        names: variants_of_route,
    };
    let mut scope = RouteScope { names, variants: variant_names, unit, layer, own, baseline: None };
    let variants = variants(reader, &scope, &fields, path);
    scope.baseline = baseline(reader, &scope, &fields, path);
    let fallbacks = reader
        .at(&fields, path, "fallbacks", |reader, node, path| reader.names_in(node, path, &scope.variants));

    let overrides = reader
        .at(&fields, path, "overrides", |reader, node, path| Some(overrides(reader, &scope, node, path)));
    let mut taken = BTreeMap::new();
    let mut named = |reader: &mut Reader<'_>, key: &'static str| {
        let Some(node) = fields.get(key) else { return Vec::new() };
        items(reader, node, &path.key(key), of_list(key), &mut taken)
    };
    let requests = named(reader, "requests");
    let groups = GroupKind::ALL.map(|kind| (kind, named(reader, kind.section())));
    let rules = named(reader, "rules");
    let requests = of_items(reader, &path.key("requests"), requests, |reader, item, path| {
        request(reader, &scope, item, path)
    });
    let groups = groups.into_iter().flat_map(|(kind, items)| {
        of_items(reader, &path.key(kind.section()), items, |reader, item, path| {
            let members = some_members(reader, names, &item.fields, path);
            let window = scalar::window(reader, &item.fields, path);
            let serve = serve(reader, &scope, &item.fields, path, &item.name);
            let origin = item.origin(reader, path);
            Some(Group { kind, name: item.name, members: members?, window: window?, serve: serve?, origin })
        })
    });
    let groups: Vec<Group> = groups.collect();
    let rules =
        of_items(reader, &path.key("rules"), rules, |reader, item, path| rule(reader, &scope, item, path));
    let expected = "`default: { serve: <variant> }` or `default: { split: { … } }`";
    let default = reader.required(&fields, path, "default", expected).and_then(|node| {
        let path = path.key("default");
        let fields = reader.fields(node, &path, &language::DEFAULT)?;
        serve(reader, &scope, &fields, &path, "default")
    });
    let shadows =
        reader.at(&fields, path, "shadows", |reader, node, path| Some(shadows(reader, &scope, node, path)));
    let records = reader.at(&fields, path, "records", scalar::share);
    let baseline = scope.baseline;
    Some(Route {
        description: description.flatten(),
        signature: signature.flatten(),
        enabled: enabled.flatten().unwrap_or(true),
        access: access.flatten(),
        layer: scope.own,
        fallbacks: fallbacks.flatten().unwrap_or_else(|| baseline.iter().cloned().collect()),
        baseline: baseline?,
        variants,
        overrides: overrides.flatten().unwrap_or_default(),
        requests,
        groups,
        rules,
        default: default?,
        shadows: shadows.flatten().unwrap_or_default(),
        records: records.flatten(),
        origin: reader.origin(entry.position, path),
    })
}

/// The variant that serves when nothing else may, and a problem when there is none.
fn baseline(
    reader: &mut Reader<'_>,
    scope: &RouteScope<'_>,
    fields: &Fields<'_>,
    path: &Path<'_>,
) -> Option<String> {
    if let Some(node) = fields.get("baseline") {
        return reader.name_of(node, &path.key("baseline"), &scope.variants).map(str::to_owned);
    }
    // Where the default is unreadable, that is reported.
    let default = fields.get("default")?;
    if let Some(Node { value: Value::Text(name), .. }) = super::child(default, "serve") {
        return scope.variants.names.contains(name.as_str()).then(|| name.clone());
    }
    let kinds = [("split", "split"), ("weights", "split"), ("ramp", "ramp")];
    let (key, kind) = kinds.into_iter().find(|(key, _)| super::child(default, key).is_some())?;
    if fields.lacks("baseline") {
        let message = format!("the key `baseline` is missing, and the default is a {kind}");
        let expected =
            "`baseline: <variant>`, which serves when the unit is missing or the route is disabled";
        let widest = super::entries_of(super::child(default, key)).iter().rev().max_by_key(|entry| {
            let Value::Number(text) = &entry.value.value else { return None };
            scalar::parse_share(text).ok()
        });
        let widest = widest.filter(|entry| scope.variants.names.contains(entry.key.as_str()));
        let hint = widest.map(|entry| format!("perhaps `baseline: {}`", entry.key));
        reader.problem(fields.position, path, message, Some(expected.to_owned()), hint);
    }
    None
}

/// The route's own layer, and that of its splits.
fn layers(
    reader: &mut Reader<'_>,
    names: &Names<'_>,
    key: &RouteKey,
    fields: &Fields<'_>,
    path: &Path<'_>,
) -> (Layer, Option<Layer>) {
    let salt = fields.get("salt").and_then(|node| reader.filled_text(node, &path.key("salt")));
    let own = own_layer(key.layer_name(), salt);
    let Some(node) = fields.get("layer") else { return (own.clone(), Some(own)) };
    if let Some(salt) = fields.get("salt") {
        let message = "`salt` and `layer` exclude each other: a named layer has its own salt";
        let hint = "remove `salt`, or set it in `layers`".to_owned();
        reader.problem(salt.position, &path.key("salt"), message, None, Some(hint));
    }
    let named = layer(reader, names, node, &path.key("layer"));
    (own, named.map(|named| named.layer.clone()))
}

fn variants(
    reader: &mut Reader<'_>,
    scope: &RouteScope<'_>,
    fields: &Fields<'_>,
    path: &Path<'_>,
) -> Vec<Variant> {
    let expected = "a mapping from the name of each variant to its model";
    let Some(node) = reader.required(fields, path, "variants", expected) else { return Vec::new() };
    let path = path.key("variants");
    let entries = reader.entries(node, &path);
    let mut variants = Vec::new();
    for entry in entries {
        let path = path.key(&entry.key);
        name(reader, entry, &path);
        let Some(fields) = reader.fields(&entry.value, &path, &language::VARIANT) else { continue };
        let expected = "`model: <model>@<version>`";
        let model = reader.required(&fields, &path, "model", expected);
        let model = model.and_then(|node| model_of(reader, scope, node, &path.key("model")));
        let payload = reader.at(&fields, &path, "payload", |reader, node, path| match node.to_json() {
            Ok(json) => Some(json),
            Err((position, text)) => {
                let message = format!("JSON cannot express the number `{text}`, and payloads travel as JSON");
                reader.problem(position, path, message, Some("a finite number".to_owned()), None);
                None
            }
        });
        if let Some((position, number)) = fields.get("payload").and_then(Node::inexact) {
            let hint = format!("quote it, so that it is a text: \"{}\"", number.number);
            reader.problem(position, &path.key("payload"), number.to_string(), None, Some(hint));
        }
        let enabled = reader.at(&fields, &path, "enabled", Reader::boolean);
        let fallbacks = reader.at(&fields, &path, "fallbacks", |reader, node, path| {
            reader.names_in(node, path, &scope.variants)
        });
        let Some(model) = model else { continue };
        variants.push(Variant {
            name: entry.key.clone(),
            model,
            payload: payload.flatten(),
            enabled: enabled.flatten().unwrap_or(true),
            fallbacks: fallbacks.flatten(),
            origin: reader.origin(entry.position, &path),
        });
    }
    if entries.is_empty() && matches!(node.value, Value::Mapping(_)) {
        reader.problem(node.position, &path, "the route has no variants", Some(expected.to_owned()), None);
    }
    if entries.len() > MAX_VARIANTS {
        let message = format!("the route has {} variants", entries.len());
        let expected = Some(format!("at most {MAX_VARIANTS}"));
        reader.problem(node.position, &path, message, expected, None);
    }
    variants
}

fn model_of(
    reader: &mut Reader<'_>,
    scope: &RouteScope<'_>,
    node: &Node,
    path: &Path<'_>,
) -> Option<crate::policy::ModelVersion> {
    let text = reader.text(node, path)?;
    let model = model_version(reader, text, node.position, path)?;
    let Some(models) = scope.names.models else { return Some(model) };
    if scope.names.all_models && !models.contains_key(&model) {
        let known: Vec<String> = models.keys().map(ToString::to_string).collect();
        let expected =
            format!("a model version of the section `models`: {}", list_of(known.iter().map(String::as_str)));
        let hint = reader
            .suggest(text, known.iter().map(String::as_str))
            .unwrap_or_else(|| format!("add `{text}:` to `models`"));
        reader.problem(node.position, path, format!("unknown model `{text}`"), Some(expected), Some(hint));
    }
    Some(model)
}

fn overrides(reader: &mut Reader<'_>, scope: &RouteScope<'_>, node: &Node, path: &Path<'_>) -> Vec<Override> {
    let mut overrides = Vec::new();
    let mut taken: BTreeMap<(Field, String), Position> = BTreeMap::new();
    for (item, index) in reader.list(node, path).iter().zip(0..) {
        let path = path.index(index);
        let Some(fields) = reader.fields(item, &path, &language::OVERRIDE) else { continue };
        let serve = reader.required(&fields, &path, "serve", "`serve: <variant>`");
        let serve = serve.and_then(|node| reader.name_of(node, &path.key("serve"), &scope.variants));
        let mut whom = Vec::new();
        for field in Field::ALL {
            if let Some(node) = fields.get(field.name()) {
                let value = reader.filled_text(node, &path.key(field.name()));
                whom.push((field, node, value.map(str::to_owned).into_iter().collect()));
            }
            let key = field.list_key();
            if let Some(node) = fields.get(&key) {
                let values = reader.filled_set(node, &path.key(&key));
                whom.push((field, node, values.unwrap_or_default()));
            }
        }
        if whom.is_empty() && fields.has_unknown() {
            continue;
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
            let origin = reader.origin(fields.position, &path);
            overrides.push(Override { field, values, serve: serve.to_owned(), origin });
        }
    }
    overrides
}

/// Something with a name in a list: a request, test group, symbol rollout, rule or shadow.
struct Item<'n> {
    index: usize,
    name: String,
    fields: Fields<'n>,
}

impl Item<'_> {
    fn origin(&self, reader: &Reader<'_>, path: &Path<'_>) -> Origin {
        reader.origin(self.fields.position, path)
    }
}

/// What the items of a route's list are.
fn of_list(key: &str) -> &'static Mapping {
    match key {
        "requests" => &language::REQUEST,
        "test_groups" => &language::TEST_GROUP,
        "symbol_rollouts" => &language::SYMBOL_ROLLOUT,
        "rules" => &language::RULE,
        _ => &language::SHADOW,
    }
}

/// Reads the names in a list of mappings; each is unique among those in `taken`.
fn items<'n>(
    reader: &mut Reader<'_>,
    node: &'n Node,
    path: &Path<'_>,
    mapping: &'static Mapping,
    taken: &mut BTreeMap<String, Position>,
) -> Vec<Item<'n>> {
    let mut items = Vec::new();
    for (item, index) in reader.list(node, path).iter().zip(0..) {
        let path = path.index(index);
        let Some(fields) = reader.fields(item, &path, mapping) else { continue };
        let expected = "`name: <text>`, which decisions carry as what matched";
        let node = reader.required(&fields, &path, "name", expected);
        let name = node.and_then(|node| {
            let path = path.key("name");
            let name = reader.filled_text(node, &path)?;
            label(reader, name, node.position, &path);
            if let Some(Position { line, column }) = taken.get(name) {
                let message = format!("the name `{name}` occurs twice in this route");
                let hint = Some(format!("the other one is at line {line}, column {column}"));
                reader.problem(node.position, &path, message, None, hint);
            } else {
                taken.insert(name.to_owned(), node.position);
            }
            Some(name.to_owned())
        });
        // Without a name the rest is still checked.
        items.push(Item { index, name: name.unwrap_or_default(), fields });
    }
    items
}

fn of_items<'n, T>(
    reader: &mut Reader<'_>,
    path: &Path<'_>,
    items: Vec<Item<'n>>,
    mut read: impl FnMut(&mut Reader<'_>, Item<'n>, &Path<'_>) -> Option<T>,
) -> Vec<T> {
    items
        .into_iter()
        .filter_map(|item| {
            let path = path.index(item.index);
            read(reader, item, &path)
        })
        .collect()
}

/// Checks the name of something that is only shown to people.
fn label(reader: &mut Reader<'_>, name: &str, position: Position, path: &Path<'_>) {
    if name.len() > MAX_NAME || name.chars().any(char::is_control) {
        let message = "this name is too long or holds control characters".to_owned();
        let expected = format!("at most {MAX_NAME} bytes of printable text");
        reader.problem(position, path, message, Some(expected), None);
    }
}

fn request(
    reader: &mut Reader<'_>,
    scope: &RouteScope<'_>,
    item: Item<'_>,
    path: &Path<'_>,
) -> Option<Request> {
    let members = some_members(reader, scope.names, &item.fields, path);
    let expected = "`variants: [<variants>]`, for which they may ask";
    let variants = reader.required(&item.fields, path, "variants", expected).and_then(|node| {
        let path = path.key("variants");
        reader.filled_list(node, &path, "at least one variant")?;
        reader.names_in(node, &path, &scope.variants)
    });
    let origin = item.origin(reader, path);
    Some(Request { name: item.name, members: members?, variants: variants?, origin })
}

fn rule(reader: &mut Reader<'_>, scope: &RouteScope<'_>, item: Item<'_>, path: &Path<'_>) -> Option<Rule> {
    let condition = reader.at(&item.fields, path, "if", |reader, node, path| {
        condition::condition(reader, scope.names, Place::Route, node, path)
    });
    let window = scalar::window(reader, &item.fields, path);
    let serve = serve(reader, scope, &item.fields, path, &item.name);
    // An experiment and a switchback choose whom they concern by themselves.
    let needs = ["experiment", "switchback"].iter().all(|key| item.fields.lacks(key));
    if needs && item.fields.lacks("if") {
        let expected = "a condition, such as `if: { symbol: EURUSD }`".to_owned();
        let hint = Some("what serves everyone belongs into `default`".to_owned());
        let message = "the key `if` is missing";
        reader.problem(item.fields.position, path, message, Some(expected), hint);
        return None;
    }
    if condition == Some(None) {
        return None;
    }
    let origin = item.origin(reader, path);
    Some(Rule { name: item.name, condition: condition.flatten(), window: window?, serve: serve?, origin })
}

fn shadows(reader: &mut Reader<'_>, scope: &RouteScope<'_>, node: &Node, path: &Path<'_>) -> Vec<Shadow> {
    // Shadows are carried beside what matched, so only their own names matter.
    let items = items(reader, node, path, of_list("shadows"), &mut BTreeMap::new());
    if items.len() > MAX_SHADOWS {
        let message = format!("the route has {} shadows", items.len());
        reader.problem(node.position, path, message, Some(format!("at most {MAX_SHADOWS}")), None);
    }
    of_items(reader, path, items, |reader, item, path| shadow(reader, scope, item, path))
}

fn shadow(
    reader: &mut Reader<'_>,
    scope: &RouteScope<'_>,
    item: Item<'_>,
    path: &Path<'_>,
) -> Option<Shadow> {
    let fields = &item.fields;
    let variant = reader.required(fields, path, "variant", "`variant: <variant>`");
    let variant = variant.and_then(|node| reader.name_of(node, &path.key("variant"), &scope.variants));
    let condition = reader.at(fields, path, "if", |reader, node, path| {
        condition::condition(reader, scope.names, Place::Route, node, path)
    });
    let window = scalar::window(reader, fields, path);
    let unit = reader.at(fields, path, "unit", unit);
    let sample = reader.at(fields, path, "sample", scalar::share);
    let limits = reader.at(fields, path, "limits", limits);
    let origin = item.origin(reader, path);
    if condition == Some(None) {
        return None;
    }
    Some(Shadow {
        variant: variant?.to_owned(),
        condition: condition.flatten(),
        window: window?,
        unit: unit.unwrap_or_else(|| Some(scope.unit.clone()))?,
        sample: sample.unwrap_or(Some(Share::WHOLE))?,
        limits: limits.unwrap_or_else(|| Some(ShadowLimits::default()))?,
        origin,
        name: item.name,
    })
}

fn limits(reader: &mut Reader<'_>, node: &Node, path: &Path<'_>) -> Option<ShadowLimits> {
    let fields = reader.fields(node, path, &language::LIMITS)?;
    let standard = ShadowLimits::default();
    let count = |reader: &mut Reader<'_>, node: &Node, path: &Path<'_>| {
        scalar::whole(reader, node, path, 1, u32::MAX)
    };
    let rate = reader.at(&fields, path, "rate", count);
    let concurrency = reader.at(&fields, path, "concurrency", count);
    let bytes = reader.at(&fields, path, "bytes", scalar::size);
    let deadline = reader.at(&fields, path, "deadline", |reader, node, path| {
        let millis = scalar::positive_duration(reader, node, path)?;
        let fitting = u32::try_from(millis).ok();
        if fitting.is_none() {
            let expected = Some("at most 7w".to_owned());
            reader.problem(node.position, path, "the deadline is too long", expected, None);
        }
        fitting
    });
    Some(ShadowLimits {
        rate: rate.unwrap_or(Some(standard.rate))?,
        concurrency: concurrency.unwrap_or(Some(standard.concurrency))?,
        bytes: bytes.unwrap_or(Some(standard.bytes))?,
        deadline_ms: deadline.unwrap_or(Some(standard.deadline_ms))?,
    })
}
