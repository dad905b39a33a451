//! What a step serves: a variant or a split, with its unit, layer and shares.

use std::collections::{BTreeMap, BTreeSet};

use super::Names;
use super::reader::{Fields, Path, Reader};
use super::route::{RouteScope, known_variant, variant_name};
use crate::Field;
use crate::diagnostic::{list_of, suggestion};
use crate::policy::{Layer, Serve, Share, Split, Unit, write_percent};
use crate::source::{Node, Value};

pub(super) fn serve(
    reader: &mut Reader<'_>,
    scope: &RouteScope<'_>,
    fields: &Fields<'_>,
    path: &Path<'_>,
) -> Option<Serve> {
    match (fields.get("serve"), fields.get("split")) {
        (Some(node), None) => {
            for key in ["unit", "layer"] {
                if let Some(node) = fields.get(key) {
                    let message = format!("`{key}` has no meaning beside `serve`");
                    let hint = Some(format!("remove `{key}`, or write a `split`"));
                    reader.problem(node.position, &path.key(key), message, None, hint);
                }
            }
            variant_name(reader, scope, node, &path.key("serve")).map(Serve::Variant)
        }
        (None, Some(node)) => {
            let unit = fields.get("unit").map(|node| unit(reader, node, &path.key("unit")));
            let layer = fields.get("layer").map(|node| layer(reader, scope.names, node, &path.key("layer")));
            let shares = shares(reader, scope, node, &path.key("split"))?;
            let unit = unit.unwrap_or_else(|| Some(scope.unit.clone()))?;
            let layer = layer.unwrap_or_else(|| Some(scope.layer.clone()))?;
            Some(Serve::Split(Split { unit, layer, shares }))
        }
        (serve, _) => {
            let message = match serve {
                Some(_) => "`serve` and `split` exclude each other",
                None => "it says nothing about what it serves",
            };
            let expected = "`serve: <variant>` or `split: { <variant>: <percent>, … }`".to_owned();
            reader.problem(fields.position, path, message, Some(expected), None);
            None
        }
    }
}

fn shares(
    reader: &mut Reader<'_>,
    scope: &RouteScope<'_>,
    node: &Node,
    path: &Path<'_>,
) -> Option<BTreeMap<String, Share>> {
    let expected = "a mapping from variants to percentages, such as `{ stable: 90, canary: 10 }`";
    let entries = reader.mapping(node, path)?;
    if entries.is_empty() {
        reader.problem(node.position, path, "the split is empty", Some(expected.to_owned()), None);
        return None;
    }
    let before = reader.problems.len();
    let mut shares = BTreeMap::new();
    let mut total = 0_u64;
    for entry in entries {
        let path = path.key(&entry.key);
        let variant = known_variant(reader, scope, &entry.key, entry.position, &path);
        let share = share(reader, &entry.value, &path);
        if let Some(share) = share {
            total = total.saturating_add(u64::from(share.buckets()));
        }
        if let (Some(variant), Some(share)) = (variant, share) {
            shares.insert(variant, share);
        }
    }
    let readable = entries
        .iter()
        .all(|entry| matches!(&entry.value.value, Value::Number(text) if parse_share(text).is_ok()));
    let whole = u64::from(Share::WHOLE.buckets());
    if readable && total != whole {
        let percent = |value: u64| {
            let mut text = String::new();
            // Writing into a string cannot fail.
            let _ = write_percent(value, &mut text);
            text
        };
        let difference = percent(total.abs_diff(whole));
        let hint = if total > whole {
            format!("take away {difference} %")
        } else {
            format!("{difference} % is missing; give it to a variant")
        };
        let message = format!("the shares add up to {} %", percent(total));
        reader.problem(node.position, path, message, Some("100 %".to_owned()), Some(hint));
    }
    (reader.problems.len() == before && shares.len() == entries.len()).then_some(shares)
}

fn share(reader: &mut Reader<'_>, node: &Node, path: &Path<'_>) -> Option<Share> {
    let expected = "a percentage from 0 to 100 with at most three decimals, such as `12.5`";
    let Value::Number(text) = &node.value else {
        reader.wrong_type(node, path, expected);
        return None;
    };
    match parse_share(text) {
        Ok(share) => Some(share),
        Err(problem) => {
            reader.problem(
                node.position,
                path,
                format!("`{text}` {problem}"),
                Some(expected.to_owned()),
                None,
            );
            None
        }
    }
}

/// Reads a percentage without rounding: decimal digits become buckets.
fn parse_share(text: &str) -> Result<Share, &'static str> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if text.starts_with('-') {
        return Err("is negative");
    }
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(decimals) || text.ends_with('.') {
        return Err("is no plain decimal number");
    }
    let decimals = decimals.trim_end_matches('0');
    if decimals.len() > 3 {
        return Err("has more than three decimals");
    }
    let too_large = "is more than 100";
    let whole: u32 = whole.parse().map_err(|_| too_large)?;
    let thousandths: u32 = format!("{decimals:0<3}").parse().map_err(|_| "is no plain decimal number")?;
    let buckets =
        whole.checked_mul(1000).and_then(|whole| whole.checked_add(thousandths)).ok_or(too_large)?;
    if buckets > Share::WHOLE.buckets() {
        return Err(too_large);
    }
    Ok(Share(buckets))
}

pub(super) fn unit(reader: &mut Reader<'_>, node: &Node, path: &Path<'_>) -> Option<Unit> {
    let names = || Field::ALL.iter().map(|field| field.name());
    let mut field = |node: &Node, path: &Path<'_>| {
        let text = reader.text(node, path)?;
        let field = Field::ALL.into_iter().find(|field| field.name() == text);
        if field.is_none() {
            let message = format!("unknown unit `{text}`");
            let expected = format!("one of {}, or a list of these", list_of(names()));
            reader.problem(node.position, path, message, Some(expected), suggestion(text, names()));
        }
        field
    };
    let Value::List(items) = &node.value else {
        return Some(Unit(vec![field(node, path)?]));
    };
    let fields: Option<Vec<Field>> =
        items.iter().zip(0..).map(|(item, index)| field(item, &path.index(index))).collect();
    let fields = fields?;
    let unique: BTreeSet<&Field> = fields.iter().collect();
    if unique.len() != fields.len() || fields.is_empty() {
        let message = if fields.is_empty() { "the unit is empty" } else { "the unit lists a field twice" };
        let expected = format!("some of {}, each once", list_of(names()));
        reader.problem(node.position, path, message, Some(expected), None);
        return None;
    }
    Some(Unit(fields))
}

pub(super) fn layer(
    reader: &mut Reader<'_>,
    names: &Names<'_>,
    node: &Node,
    path: &Path<'_>,
) -> Option<Layer> {
    let text = reader.text(node, path)?;
    let layer = names.layers.get(text).cloned();
    if layer.is_none() {
        let known = || names.layers.keys().map(String::as_str);
        let expected = if names.layers.is_empty() {
            "a layer of the section `layers`, which is missing or empty".to_owned()
        } else {
            format!("one of {}", list_of(known()))
        };
        let message = format!("unknown layer `{text}`");
        reader.problem(node.position, path, message, Some(expected), suggestion(text, known()));
    }
    layer
}
