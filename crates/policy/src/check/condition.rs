use std::collections::BTreeMap;

use super::reader::{Path, Reader};
use crate::Field;
use crate::diagnostic::{list_of, suggestion};
use crate::policy::{AttributeTest, Comparison, Condition, Members, Scalar, TextTest};
use crate::source::{Entry, Node, Value, number};

const COMBINATORS: &[&str] =
    &["all", "any", "not", "segment", "user", "symbol", "tenant", "session", "attribute"];
const TEXT_TESTS: &[&str] = &["eq", "ne", "in", "not_in", "present"];
const ATTRIBUTE_TESTS: &[&str] = &["eq", "ne", "in", "not_in", "lt", "lte", "gt", "gte", "present"];

/// Reads a condition. Several keys of one mapping must all hold.
pub(super) fn condition(
    reader: &mut Reader<'_>,
    segments: &BTreeMap<String, Members>,
    node: &Node,
    path: &Path<'_>,
) -> Option<Condition> {
    let entries = reader.mapping(node, path)?;
    let tested = entries.iter().find(|entry| entry.key == "attribute");
    let mut parts = Vec::new();
    let mut whole = true;
    for entry in entries {
        let path = path.key(&entry.key);
        let part = match entry.key.as_str() {
            "all" => all(reader, segments, &entry.value, &path).map(Condition::All),
            "any" => all(reader, segments, &entry.value, &path).map(Condition::Any),
            "not" => {
                condition(reader, segments, &entry.value, &path).map(|inner| Condition::Not(Box::new(inner)))
            }
            "segment" => segment(reader, segments, &entry.value, &path),
            "attribute" => attribute(reader, entries, entry, &path),
            key => match Field::ALL.into_iter().find(|field| field.name() == key) {
                Some(field) => field_test(reader, field, &entry.value, &path),
                // Tests of the attribute, which `attribute` reads.
                None if tested.is_some() && ATTRIBUTE_TESTS.contains(&key) => continue,
                None => {
                    unknown_key(reader, entry, tested.is_some(), path.parent());
                    None
                }
            },
        };
        whole &= part.is_some();
        parts.extend(part);
    }
    if entries.is_empty() {
        let expected = format!("at least one of {}", list_of(COMBINATORS.iter().copied()));
        reader.problem(node.position, path, "the condition is empty", Some(expected), None);
        return None;
    }
    whole.then(|| combined(parts))
}

/// All of these, or the only one.
fn combined(mut parts: Vec<Condition>) -> Condition {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        last => Condition::All(parts.into_iter().chain(last).collect()),
    }
}

fn unknown_key(reader: &mut Reader<'_>, entry: &Entry, attribute: bool, path: &Path<'_>) {
    let tests = if attribute { ATTRIBUTE_TESTS } else { &[] };
    let known = || COMBINATORS.iter().chain(tests).copied();
    let message = format!("unknown key `{}`", entry.key);
    let expected = format!("one of {}", known().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", "));
    let hint = if ATTRIBUTE_TESTS.contains(&entry.key.as_str()) {
        Some(format!("say what is tested: `attribute: <name>` beside `{}`", entry.key))
    } else {
        suggestion(&entry.key, known())
            .or_else(|| (!attribute).then(|| format!("for an attribute, write `attribute: {}`", entry.key)))
    };
    reader.problem(entry.position, path, message, Some(expected), hint);
}

fn all(
    reader: &mut Reader<'_>,
    segments: &BTreeMap<String, Members>,
    node: &Node,
    path: &Path<'_>,
) -> Option<Vec<Condition>> {
    let items = reader.list(node, path);
    if matches!(&node.value, Value::List(items) if items.is_empty()) {
        reader.problem(
            node.position,
            path,
            "the list is empty",
            Some("at least one condition".to_owned()),
            None,
        );
    }
    let parts: Vec<Condition> = items
        .iter()
        .zip(0..)
        .filter_map(|(item, index)| condition(reader, segments, item, &path.index(index)))
        .collect();
    (!parts.is_empty() && parts.len() == items.len()).then_some(parts)
}

fn segment(
    reader: &mut Reader<'_>,
    segments: &BTreeMap<String, Members>,
    node: &Node,
    path: &Path<'_>,
) -> Option<Condition> {
    let name = reader.text(node, path)?;
    if !segments.contains_key(name) {
        reader.unknown_segment(node.position, path.to_string(), name, segments);
        return None;
    }
    Some(Condition::Segment(name.to_owned()))
}

/// A test of a field: a text that it equals, or a mapping of tests.
fn field_test(reader: &mut Reader<'_>, field: Field, node: &Node, path: &Path<'_>) -> Option<Condition> {
    let test = |test| Condition::Field(field, test);
    let Value::Mapping(_) = &node.value else {
        let text = reader.filled_text(node, path)?;
        return Some(test(TextTest::In([text.to_owned()].into())));
    };
    let fields = reader.fields(node, path, TEXT_TESTS)?;
    let mut parts = Vec::new();
    let mut whole = true;
    for key in TEXT_TESTS {
        let Some(node) = fields.get(key) else { continue };
        let path = path.key(key);
        let part = match *key {
            "present" => {
                reader.boolean(node, &path).map(|present| negated(!present, test(TextTest::Present)))
            }
            "eq" | "ne" => {
                let text = reader.filled_text(node, &path).map(str::to_owned);
                text.map(|text| negated(*key == "ne", test(TextTest::In([text].into()))))
            }
            _ => {
                let values = reader.set(node, &path);
                some_values(reader, node, &path);
                Some(negated(*key == "not_in", test(TextTest::In(values))))
            }
        };
        whole &= part.is_some();
        parts.extend(part);
    }
    settle(reader, node, path, parts, whole, TEXT_TESTS)
}

/// The tests that stand beside `attribute`.
fn attribute(
    reader: &mut Reader<'_>,
    entries: &[Entry],
    entry: &Entry,
    path: &Path<'_>,
) -> Option<Condition> {
    let name = reader.filled_text(&entry.value, path)?.to_owned();
    let test = |test| Condition::Attribute(name.clone(), test);
    let parent = path.parent();
    let mut parts = Vec::new();
    let mut whole = true;
    for key in ATTRIBUTE_TESTS {
        let Some(node) = entries.iter().find(|entry| entry.key == *key).map(|entry| &entry.value) else {
            continue;
        };
        let path = parent.key(key);
        let part = match *key {
            "present" => {
                reader.boolean(node, &path).map(|present| negated(!present, test(AttributeTest::Present)))
            }
            "eq" | "ne" => scalar(reader, node, &path)
                .map(|value| negated(*key == "ne", test(AttributeTest::In(vec![value])))),
            "in" | "not_in" => {
                let items = reader.list(node, &path);
                some_values(reader, node, &path);
                let values: Vec<Scalar> = items
                    .iter()
                    .zip(0..)
                    .filter_map(|(item, index)| scalar(reader, item, &path.index(index)))
                    .collect();
                let negative = *key == "not_in";
                (values.len() == items.len()).then(|| negated(negative, test(AttributeTest::In(values))))
            }
            _ => {
                let comparison = match *key {
                    "lt" => Comparison::Less,
                    "lte" => Comparison::LessOrEqual,
                    "gt" => Comparison::Greater,
                    _ => Comparison::GreaterOrEqual,
                };
                match scalar(reader, node, &path) {
                    Some(Scalar::Number(value)) => Some(test(AttributeTest::Compare(comparison, value))),
                    Some(_) => {
                        reader.wrong_type(node, &path, "a number");
                        None
                    }
                    None => None,
                }
            }
        };
        whole &= part.is_some();
        parts.extend(part);
    }
    settle(reader, &entry.value, path, parts, whole, ATTRIBUTE_TESTS)
}

fn settle(
    reader: &mut Reader<'_>,
    node: &Node,
    path: &Path<'_>,
    parts: Vec<Condition>,
    whole: bool,
    known: &[&str],
) -> Option<Condition> {
    if parts.is_empty() && whole {
        let expected = format!("at least one of {}", list_of(known.iter().copied()));
        reader.problem(node.position, path, "nothing is tested", Some(expected), None);
        return None;
    }
    whole.then(|| combined(parts))
}

fn negated(negative: bool, condition: Condition) -> Condition {
    if negative { Condition::Not(Box::new(condition)) } else { condition }
}

fn some_values(reader: &mut Reader<'_>, node: &Node, path: &Path<'_>) {
    if matches!(&node.value, Value::List(items) if items.is_empty()) {
        reader.problem(node.position, path, "the list is empty", Some("at least one value".to_owned()), None);
    }
}

fn scalar(reader: &mut Reader<'_>, node: &Node, path: &Path<'_>) -> Option<Scalar> {
    let expected = "text, a finite number, `true` or `false`";
    match &node.value {
        Value::Text(text) => Some(Scalar::Text(text.clone())),
        Value::Boolean(value) => Some(Scalar::Boolean(*value)),
        Value::Number(text) => {
            let value = number(text);
            if value.is_none() {
                let message = format!("`{text}` is not finite");
                reader.problem(node.position, path, message, Some(expected.to_owned()), None);
            }
            value.map(Scalar::Number)
        }
        _ => {
            reader.wrong_type(node, path, expected);
            None
        }
    }
}
