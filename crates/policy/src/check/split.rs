//! What a step serves: a variant or a split, with its unit, layer and shares. Schedules are in `schedule`.

use std::collections::BTreeSet;

use super::reader::{Fields, Path, Reader, quoted};
use super::route::RouteScope;
use super::{Names, scalar, schedule};
use crate::policy::{Layer, NamedLayer, Serve, Share, Shares, Split, Unit, UnitPart, write_percent};
use crate::source::{Node, Value};
use crate::{Algorithm, BUCKETS, Field, language};

/// The most parts of a unit.
const MAX_PARTS: usize = 8;
/// The largest sum of weights that every profile computes with.
const MAX_WEIGHTS: u64 = 2_147_483_647;

/// Reads what a step serves. `name` is the step's, for the seed of a switchback.
pub(super) fn serve(
    reader: &mut Reader<'_>,
    scope: &RouteScope<'_>,
    fields: &Fields<'_>,
    path: &Path<'_>,
    name: &str,
) -> Option<Serve> {
    let keys = serve_keys(fields);
    let mut found = keys.iter().filter_map(|key| Some((*key, fields.get(key)?)));
    let (Some((key, node)), None) = (found.next(), found.next()) else {
        let there: Vec<&str> = keys.iter().copied().filter(|key| fields.get(key).is_some()).collect();
        let message = match there.as_slice() {
            [] if !fields.lacks_all(keys) => return None,
            [] => "it says nothing about what it serves".to_owned(),
            [first, second] => format!("`{first}` and `{second}` exclude each other"),
            several => format!("{} exclude each other", quoted(several.iter().copied())),
        };
        let expected = format!("exactly one of {}", quoted(keys.iter().copied()));
        reader.problem(fields.position, path, message, Some(expected), None);
        return None;
    };
    for (beside, users) in
        [("unit", &["split", "weights", "ramp", "switchback"][..]), ("layer", &["split", "weights", "ramp"])]
    {
        if let Some(node) = fields.get(beside).filter(|_| !users.contains(&key)) {
            let message = format!("`{beside}` has no meaning beside `{key}`");
            let hint = match (key, beside) {
                ("experiment", "unit") => "the unit of an experiment is that of its layer",
                ("experiment", _) => "write the layer into the experiment",
                ("switchback", _) => "a switchback has no layer; its `seed` plays that part",
                (_, "unit") => "remove `unit`, or write a `split`",
                (_, _) => "remove `layer`, or write a `split`",
            };
            reader.problem(node.position, &path.key(beside), message, None, Some(hint.to_owned()));
        }
    }
    let unit = reader.at(fields, path, "unit", unit);
    let layer = reader.at(fields, path, "layer", |reader, node, path| {
        layer(reader, scope.names, node, path).map(|named| named.layer.clone())
    });
    let layer = layer.unwrap_or_else(|| scope.layer.clone());
    let path = path.key(key);
    let of_route = || Some(scope.unit.clone());
    match key {
        "serve" => reader.name_of(node, &path, &scope.variants).map(|name| Serve::Variant(name.to_owned())),
        "experiment" => schedule::experiment(reader, scope, node, &path).map(Serve::Experiment),
        "switchback" => {
            let unit = unit.unwrap_or_else(|| Some(Unit(vec![UnitPart::Field(Field::Symbol)])));
            schedule::switchback(reader, scope, node, &path, name, unit).map(Serve::Switchback)
        }
        "ramp" => {
            let unit = unit.unwrap_or_else(of_route);
            schedule::ramp(reader, scope, node, &path, unit, layer).map(Serve::Ramp)
        }
        _ => {
            // With an unknown layer the shares are still checked against each other.
            let algorithm = layer.as_ref().map(|layer| layer.algorithm);
            let shares = match (key, algorithm) {
                ("weights", None) => None,
                ("weights", Some(algorithm)) => weights(reader, scope, node, &path, algorithm),
                (_, algorithm) => shares(reader, scope, node, &path, algorithm.unwrap_or_default()),
            };
            let unit = unit.unwrap_or_else(of_route);
            Some(Serve::Split(Split { unit: unit?, layer: layer?, shares: shares? }))
        }
    }
}

/// The keys of which a step has exactly one: those of the group of the language that has `serve`.
fn serve_keys(fields: &Fields<'_>) -> &'static [&'static str] {
    fields.mapping.one_of.iter().copied().find(|keys| keys.contains(&"serve")).unwrap_or_default()
}

/// Shares in percent that add up to 100.
pub(super) fn shares(
    reader: &mut Reader<'_>,
    scope: &RouteScope<'_>,
    node: &Node,
    path: &Path<'_>,
    algorithm: Algorithm,
) -> Option<Shares> {
    let expected = "a mapping from variants to percentages, such as `{ stable: 90, canary: 10 }`";
    let entries = reader.mapping(node, path)?;
    if entries.is_empty() {
        reader.problem(node.position, path, "the split is empty", Some(expected.to_owned()), None);
        return None;
    }
    let before = reader.problems.len();
    let scale = algorithm.scale();
    let mut parts = Vec::new();
    let mut whole = reader.lost_nothing(path);
    let (mut total, mut readable) = (0_u64, whole);
    for entry in entries {
        let path = path.key(&entry.key);
        let known = reader.resolve(&entry.key, entry.position, &path, &scope.variants);
        let share = scalar::share(reader, &entry.value, &path);
        readable &= share.is_some();
        total += u64::from(share.unwrap_or_default().buckets());
        let width = share.and_then(|share| whole_buckets(reader, share, scale, &entry.value, &path));
        match width.filter(|_| known) {
            Some(width) => parts.push((entry.key.clone(), width)),
            None => whole = false,
        }
    }
    let hundred = u64::from(BUCKETS);
    if readable && total != hundred {
        let difference = percent(total.abs_diff(hundred));
        let hint = if total > hundred {
            format!("take away {difference} %")
        } else {
            format!("{difference} % is missing; give it to a variant")
        };
        let message = format!("the shares add up to {} %", percent(total));
        reader.problem(node.position, path, message, Some("100 %".to_owned()), Some(hint));
    }
    (whole && reader.problems.len() == before).then(|| arranged(algorithm, scale, parts))
}

/// The parts of a split. Only in a layer with another system's hash does the order of the source matter; else equal splits
/// are equal, however they are written.
pub(super) fn arranged(algorithm: Algorithm, scale: u32, mut parts: Vec<(String, u32)>) -> Shares {
    if algorithm == Algorithm::Lockgate {
        parts.sort_unstable();
    }
    Shares { scale, parts }
}

/// A share as a whole number of the buckets of a layer.
pub(super) fn whole_buckets(
    reader: &mut Reader<'_>,
    share: Share,
    scale: u32,
    node: &Node,
    path: &Path<'_>,
) -> Option<u32> {
    let product = u64::from(share.buckets()) * u64::from(scale);
    let (width, rest) = (product / u64::from(BUCKETS), product % u64::from(BUCKETS));
    if rest != 0 {
        let message = format!("{share} % is no whole number of buckets");
        let step = percent(u64::from(BUCKETS) / u64::from(scale).max(1));
        let expected = format!("a multiple of {step} %: the layer's hash has {scale} buckets");
        reader.problem(node.position, path, message, Some(expected), None);
        return None;
    }
    u32::try_from(width).ok()
}

/// Thousandths of a percent in percent.
pub(super) fn percent(thousandths: u64) -> String {
    let mut text = String::new();
    // Writing into a string cannot fail.
    let _ = write_percent(thousandths, &mut text);
    text
}

/// Weights, as flagd and Unleash have them.
fn weights(
    reader: &mut Reader<'_>,
    scope: &RouteScope<'_>,
    node: &Node,
    path: &Path<'_>,
    algorithm: Algorithm,
) -> Option<Shares> {
    if algorithm == Algorithm::Lockgate {
        let message = "weights are for layers with the hash of another system";
        let hint = "write `split` with percentages that add up to 100".to_owned();
        reader.problem(node.position, path, message, None, Some(hint));
        return None;
    }
    let entries = reader.mapping(node, path)?;
    let before = reader.problems.len();
    let mut parts = Vec::new();
    let mut whole = reader.lost_nothing(path);
    for entry in entries {
        let path = path.key(&entry.key);
        let known = reader.resolve(&entry.key, entry.position, &path, &scope.variants);
        let weight = scalar::whole(reader, &entry.value, &path, 0, i32::MAX.unsigned_abs());
        match weight.filter(|_| known) {
            Some(weight) => parts.push((entry.key.clone(), weight)),
            None => whole = false,
        }
    }
    if !whole || reader.problems.len() > before {
        return None;
    }
    let total: u64 = parts.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let fitting = if algorithm.takes_any_scale() {
        (1..=MAX_WEIGHTS).contains(&total)
    } else {
        total == u64::from(algorithm.scale())
    };
    let Some(scale) = u32::try_from(total).ok().filter(|_| fitting) else {
        let expected = if algorithm.takes_any_scale() {
            format!("1 to {MAX_WEIGHTS}")
        } else {
            format!("{}: the number of buckets of the hash `{}`", algorithm.scale(), algorithm.name())
        };
        let message = format!("the weights add up to {total}");
        reader.problem(node.position, path, message, Some(expected), None);
        return None;
    };
    Some(Shares { scale, parts })
}

pub(super) fn unit(reader: &mut Reader<'_>, node: &Node, path: &Path<'_>) -> Option<Unit> {
    let Value::List(items) = &node.value else {
        return Some(Unit(vec![unit_part(reader, node, path)?]));
    };
    let parts: Vec<Option<UnitPart>> =
        items.iter().zip(0..).map(|(item, index)| unit_part(reader, item, &path.index(index))).collect();
    let parts: Vec<UnitPart> = parts.into_iter().collect::<Option<_>>()?;
    let unique: BTreeSet<&UnitPart> = parts.iter().collect();
    let message = if parts.is_empty() {
        "the unit is empty".to_owned()
    } else if unique.len() != parts.len() {
        "the unit lists a part twice".to_owned()
    } else if parts.len() > MAX_PARTS {
        format!("the unit has {} parts", parts.len())
    } else {
        return Some(Unit(parts));
    };
    let expected = format!("1 to {MAX_PARTS} parts, each once");
    reader.problem(node.position, path, message, Some(expected), None);
    None
}

fn unit_part(reader: &mut Reader<'_>, node: &Node, path: &Path<'_>) -> Option<UnitPart> {
    let names = || Field::ALL.iter().map(|field| field.name());
    if matches!(node.value, Value::Mapping(_)) {
        let fields = reader.fields(node, path, &language::UNIT_ATTRIBUTE)?;
        let expected = "`{ attribute: <name> }`";
        let node = reader.required(&fields, path, "attribute", expected)?;
        let name = reader.filled_text(node, &path.key("attribute"))?;
        return Some(UnitPart::Attribute(name.to_owned()));
    }
    let text = reader.text(node, path)?;
    let field = Field::ALL.into_iter().find(|field| field.name() == text);
    if field.is_none() {
        let message = format!("unknown unit `{text}`");
        let expected = format!("one of {}, `{{ attribute: <name> }}`, or a list of these", quoted(names()));
        let hint = reader.suggest(text, names());
        reader.problem(node.position, path, message, Some(expected), hint);
    }
    field.map(UnitPart::Field)
}

pub(super) fn layer<'a>(
    reader: &mut Reader<'_>,
    names: &Names<'a>,
    node: &Node,
    path: &Path<'_>,
) -> Option<&'a NamedLayer> {
    let name = reader.name_of(node, path, &names.layers)?;
    names.named_layers.get(name)
}

/// The hash space of a route's own.
pub(super) fn own_layer(name: String, salt: Option<&str>) -> Layer {
    let salt = salt.map_or_else(|| name.clone(), str::to_owned);
    Layer { name, salt, algorithm: Algorithm::Lockgate }
}
