use std::collections::BTreeSet;

use super::reader::{Path, Reader, quoted};
use super::{Names, scalar, split};
use crate::attributes::inexact;
use crate::policy::{AttributeTest, Comparison, Condition, Scalar, Slice, TextTest, TimeTest};
use crate::source::{Entry, Node, Value, number};
use crate::{Field, automaton, language};

/// Where a condition stands.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Place {
    Route,
    Segment,
}

/// What stands beside `attribute`.
fn is_attribute_test(key: &str) -> bool {
    language::CONDITION.needs.iter().any(|(name, needed)| *name == key && *needed == "attribute")
}

/// The keys of a condition that are no tests.
fn own_keys() -> impl Iterator<Item = &'static str> {
    language::CONDITION.names().filter(|key| !is_attribute_test(key) && *key != "serves")
}

/// Reads a condition. Several keys of one mapping must all hold.
pub(super) fn condition(
    reader: &mut Reader<'_>,
    names: &Names<'_>,
    place: Place,
    node: &Node,
    path: &Path<'_>,
) -> Option<Condition> {
    let entries = reader.mapping(node, path)?;
    if entries.is_empty() {
        let expected = format!("at least one of {}", quoted(own_keys()));
        reader.problem(node.position, path, "the condition is empty", Some(expected), None);
        return None;
    }
    let beside = |key: &str| entries.iter().find(|entry| entry.key == key);
    let tested = beside("attribute").is_some();
    let mut parts = Vec::new();
    let mut whole = true;
    for entry in entries {
        let (node, above) = (&entry.value, path);
        let path = path.key(&entry.key);
        let part = match entry.key.as_str() {
            "all" => all(reader, names, place, node, &path).map(Condition::All),
            "any" => all(reader, names, place, node, &path).map(Condition::Any),
            "not" => condition(reader, names, place, node, &path).map(negated),
            "segment" => {
                let name = reader.name_of(node, &path, &names.segments);
                name.map(|name| Condition::Segment(name.to_owned()))
            }
            "tier" => {
                let name = reader.name_of(node, &path, &names.tiers);
                name.map(|name| Condition::Tier(name.to_owned()))
            }
            "time" => time(reader, node, &path),
            "bucket" => bucket(reader, names, node, &path),
            "attribute" => attribute(reader, entries, entry, &path),
            "route" => route(reader, names, place, entry, beside("serves"), above),
            "serves" if beside("route").is_some() => continue,
            "serves" => {
                let hint = Some("say of which route: `route: <name>` beside `serves`".to_owned());
                reader.problem(entry.position, above, "`serves` stands alone", None, hint);
                None
            }
            key => match Field::ALL.into_iter().find(|field| field.name() == key) {
                Some(field) => field_test(reader, field, node, &path),
                // Tests of the attribute, which `attribute` reads.
                None if tested && is_attribute_test(key) => continue,
                None => {
                    unknown_key(reader, entry, tested, above);
                    None
                }
            },
        };
        whole &= part.is_some();
        parts.extend(part);
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

fn negated(condition: Condition) -> Condition {
    Condition::Not(Box::new(condition))
}

fn negated_if(negative: bool, condition: Condition) -> Condition {
    if negative { negated(condition) } else { condition }
}

fn unknown_key(reader: &mut Reader<'_>, entry: &Entry, attribute: bool, path: &Path<'_>) {
    let tests = || language::CONDITION.names().filter(|key| attribute && is_attribute_test(key));
    let known = || own_keys().chain(tests());
    let message = format!("unknown key `{}`", entry.key);
    let expected = format!("one of {}", quoted(known()));
    let hint = if is_attribute_test(&entry.key) {
        Some(format!("say what is tested: `attribute: <name>` beside `{}`", entry.key))
    } else {
        reader
            .suggest(&entry.key, known())
            .or_else(|| (!attribute).then(|| format!("for an attribute, write `attribute: {}`", entry.key)))
    };
    reader.problem(entry.position, path, message, Some(expected), hint);
}

fn all(
    reader: &mut Reader<'_>,
    names: &Names<'_>,
    place: Place,
    node: &Node,
    path: &Path<'_>,
) -> Option<Vec<Condition>> {
    let items = reader.filled_list(node, path, "at least one condition")?;
    let parts: Vec<Condition> = items
        .iter()
        .zip(0..)
        .filter_map(|(item, index)| condition(reader, names, place, item, &path.index(index)))
        .collect();
    (parts.len() == items.len()).then_some(parts)
}

/// `route` with `serves` beside it.
fn route(
    reader: &mut Reader<'_>,
    names: &Names<'_>,
    place: Place,
    entry: &Entry,
    serves: Option<&Entry>,
    path: &Path<'_>,
) -> Option<Condition> {
    if place == Place::Segment {
        let message = "a segment cannot ask what a route serves";
        let hint = "write this condition into the rules that use the segment".to_owned();
        reader.problem(entry.position, path, message, None, Some(hint));
        return None;
    }
    let route = reader.name_of(&entry.value, &path.key("route"), &names.routes);
    let Some(serves) = serves else {
        let expected = Some("`serves: <variant>` or `serves: [<variants>]` beside `route`".to_owned());
        reader.problem(entry.position, path, "the key `serves` is missing", expected, None);
        return None;
    };
    let (route, path) = (route?, path.key("serves"));
    let variants = names.variants.get(route)?;
    let serves = match &serves.value.value {
        Value::List(_) => {
            reader.filled_list(&serves.value, &path, "at least one variant")?;
            reader.names_in(&serves.value, &path, variants)?
        }
        _ => vec![reader.name_of(&serves.value, &path, variants)?.to_owned()],
    };
    Some(Condition::Route { route: route.to_owned(), serves: serves.into_iter().collect() })
}

/// A test of a field: a text that it equals, or a mapping of tests.
fn field_test(reader: &mut Reader<'_>, field: Field, node: &Node, path: &Path<'_>) -> Option<Condition> {
    let test = |test| Condition::Field(field, test);
    let Value::Mapping(_) = &node.value else {
        let text = reader.filled_text(node, path)?;
        return Some(test(TextTest::In([text.to_owned()].into())));
    };
    let fields = reader.fields(node, path, &language::FIELD_TESTS)?;
    let mut parts = Vec::new();
    let mut whole = true;
    for key in language::FIELD_TESTS.names() {
        let Some(node) = fields.get(key) else { continue };
        let path = path.key(key);
        let part = match key {
            "eq" | "ne" => {
                let text = reader.filled_text(node, &path).map(str::to_owned);
                text.map(|text| negated_if(key == "ne", test(TextTest::In([text].into()))))
            }
            "in" | "not_in" => {
                let values = reader.filled_set(node, &path);
                values.map(|values| negated_if(key == "not_in", test(TextTest::In(values))))
            }
            "present" => {
                let present = reader.boolean(node, &path);
                present.map(|present| negated_if(!present, test(TextTest::Present)))
            }
            _ => text_test(reader, key, node, &path).map(test),
        };
        whole &= part.is_some();
        parts.extend(part);
    }
    if parts.is_empty() && fields.has_unknown() {
        return None;
    }
    settle(reader, node, path, parts, whole, language::FIELD_TESTS.names())
}

/// A test that fields and attributes have in common.
fn text_test(reader: &mut Reader<'_>, key: &str, node: &Node, path: &Path<'_>) -> Option<TextTest> {
    match key {
        "prefix" => texts(reader, node, path).map(TextTest::Prefix),
        "suffix" => texts(reader, node, path).map(TextTest::Suffix),
        "contains" => texts(reader, node, path).map(TextTest::Contains),
        "matches" => {
            let pattern = reader.text(node, path)?;
            if let Err(problem) = automaton::check_pattern(pattern) {
                let message = format!("`{pattern}` is no regular expression that can be used: {problem}");
                reader.problem(node.position, path, message, None, None);
                return None;
            }
            Some(TextTest::Matches(pattern.to_owned()))
        }
        _ => scalar::comparators(reader, node, path).map(TextTest::Semver),
    }
}

/// One text or several.
fn texts(reader: &mut Reader<'_>, node: &Node, path: &Path<'_>) -> Option<BTreeSet<String>> {
    match &node.value {
        Value::List(_) => reader.filled_set(node, path),
        Value::Text(_) => reader.filled_text(node, path).map(|text| [text.to_owned()].into()),
        _ => {
            reader.wrong_type(node, path, "text, or a list of texts");
            None
        }
    }
}

/// The tests that stand beside `attribute`.
fn attribute(
    reader: &mut Reader<'_>,
    entries: &[Entry],
    entry: &Entry,
    path: &Path<'_>,
) -> Option<Condition> {
    let name = reader.filled_text(&entry.value, path).map(str::to_owned);
    let test = |test| Condition::Attribute(name.clone().unwrap_or_default(), test);
    let parent = path.parent();
    let mut parts = Vec::new();
    let mut whole = true;
    for key in language::CONDITION.names().filter(|key| is_attribute_test(key)) {
        let Some(node) = entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value) else {
            continue;
        };
        let path = parent.key(key);
        let part = match key {
            "eq" | "ne" => scalar(reader, node, &path)
                .map(|value| negated_if(key == "ne", test(AttributeTest::In(vec![value])))),
            "in" | "not_in" => scalars(reader, node, &path)
                .map(|values| negated_if(key == "not_in", test(AttributeTest::In(values)))),
            "present" => {
                let present = reader.boolean(node, &path);
                present.map(|present| negated_if(!present, test(AttributeTest::Present)))
            }
            "lt" => compare(reader, Comparison::Less, node, &path).map(test),
            "lte" => compare(reader, Comparison::LessOrEqual, node, &path).map(test),
            "gt" => compare(reader, Comparison::Greater, node, &path).map(test),
            "gte" => compare(reader, Comparison::GreaterOrEqual, node, &path).map(test),
            "from" => scalar::moment(reader, node, &path).map(|moment| test(AttributeTest::From(moment))),
            "until" => scalar::moment(reader, node, &path).map(|moment| test(AttributeTest::Until(moment))),
            _ => text_test(reader, key, node, &path).map(|inner| test(AttributeTest::Text(inner))),
        };
        whole &= part.is_some();
        parts.extend(part);
    }
    // A misspelt test is reported where it stands.
    let only_known = entries.iter().all(|entry| language::CONDITION.knows(&entry.key));
    let keys = language::CONDITION.names().filter(|key| is_attribute_test(key));
    if parts.is_empty() && !only_known {
        return None;
    }
    let condition = settle(reader, &entry.value, path, parts, whole, keys);
    name.is_some().then_some(condition).flatten()
}

fn compare(
    reader: &mut Reader<'_>,
    comparison: Comparison,
    node: &Node,
    path: &Path<'_>,
) -> Option<AttributeTest> {
    let Value::Number(_) = &node.value else {
        reader.wrong_type(node, path, "a number");
        return None;
    };
    match scalar(reader, node, path)? {
        Scalar::Number(value) => Some(AttributeTest::Compare(comparison, value)),
        _ => None,
    }
}

fn settle<'k>(
    reader: &mut Reader<'_>,
    node: &Node,
    path: &Path<'_>,
    parts: Vec<Condition>,
    whole: bool,
    known: impl Iterator<Item = &'k str>,
) -> Option<Condition> {
    if parts.is_empty() && whole {
        let expected = format!("at least one of {}", quoted(known));
        reader.problem(node.position, path, "nothing is tested", Some(expected), None);
        return None;
    }
    whole.then(|| combined(parts))
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
            if let Some(number) = inexact(text) {
                let hint = format!("an identifier is a text: \"{text}\"");
                reader.problem(node.position, path, number.to_string(), None, Some(hint));
                return None;
            }
            value.map(Scalar::Number)
        }
        _ => {
            reader.wrong_type(node, path, expected);
            None
        }
    }
}

fn scalars(reader: &mut Reader<'_>, node: &Node, path: &Path<'_>) -> Option<Vec<Scalar>> {
    let items = reader.filled_list(node, path, "at least one value")?;
    let mut seen = BTreeSet::new();
    let mut values = Vec::new();
    for (item, index) in items.iter().zip(0..) {
        let path = path.index(index);
        let Some(value) = scalar(reader, item, &path) else { continue };
        let text = match &value {
            Scalar::Text(text) => format!("{text:?}"),
            Scalar::Number(number) => number.to_string(),
            Scalar::Boolean(value) => value.to_string(),
        };
        if !seen.insert(text.clone()) {
            reader.problem(item.position, &path, format!("`{text}` occurs twice in this list"), None, None);
        }
        values.push(value);
    }
    (values.len() == items.len()).then_some(values)
}

fn time(reader: &mut Reader<'_>, node: &Node, path: &Path<'_>) -> Option<Condition> {
    let fields = reader.fields(node, path, &language::TIME)?;
    let before = reader.problems.len();
    let window = scalar::window(reader, &fields, path);
    let offset = reader.at(&fields, path, "offset", scalar::offset);
    let mut parts = Vec::new();
    let window = window.unwrap_or_default();
    parts.extend(window.from.map(TimeTest::From));
    parts.extend(window.until.map(TimeTest::Until));
    let minutes = offset.flatten().unwrap_or_default();
    let daily = reader.at(&fields, path, "daily", daily).flatten();
    parts.extend(daily.map(|(from, until)| TimeTest::Daily { from, until, offset: minutes }));
    let days = reader.at(&fields, path, "weekdays", weekdays).flatten();
    parts.extend(days.map(|days| TimeTest::Weekdays { days, offset: minutes }));
    if let Some(node) = fields.get("offset")
        && fields.lacks_all(&["daily", "weekdays"])
    {
        let message = "`offset` has no meaning without `daily` or `weekdays`";
        let hint = Some("`from` and `until` have an offset of their own".to_owned());
        reader.problem(node.position, &path.key("offset"), message, None, hint);
    }
    let keys = language::TIME.some_of.first().copied().unwrap_or_default();
    if fields.lacks_all(keys) && offset.is_none() {
        let expected = Some(format!("at least one of {}", quoted(keys.iter().copied())));
        reader.problem(node.position, path, "nothing is tested", expected, None);
    }
    let whole = reader.problems.len() == before && !parts.is_empty();
    whole.then(|| combined(parts.into_iter().map(Condition::Time).collect()))
}

fn daily(reader: &mut Reader<'_>, node: &Node, path: &Path<'_>) -> Option<(u32, u32)> {
    const DAY: u32 = 86_400_000;
    let fields = reader.fields(node, path, &language::DAILY)?;
    let expected = "`{ from: \"09:30\", until: \"16:00\" }`";
    let from = reader.required(&fields, path, "from", expected);
    let until = reader.required(&fields, path, "until", expected);
    let from = from.and_then(|node| scalar::time_of_day(reader, node, &path.key("from")))?;
    let until = until.and_then(|node| scalar::time_of_day(reader, node, &path.key("until")))?;
    let whole_day = from % DAY == 0 && until == DAY;
    // The end of a day is the beginning of the next.
    let (from, until) = (from % DAY, until % DAY);
    if from == until {
        let message =
            if whole_day { "this is the whole day" } else { "`from` and `until` are the same time of day" };
        let hint = Some("for the whole day, leave `daily` out".to_owned());
        reader.problem(fields.position, path, message, None, hint);
        return None;
    }
    Some((from, until))
}

fn weekdays(reader: &mut Reader<'_>, node: &Node, path: &Path<'_>) -> Option<u8> {
    let items = reader.filled_list(node, path, "at least one day, such as `mon`")?;
    let names = || language::WEEKDAYS.iter().map(|(name, _)| *name);
    let mut days = 0_u8;
    let mut whole = true;
    for (item, index) in items.iter().zip(0..) {
        let path = path.index(index);
        let Some(text) = reader.text(item, &path) else {
            whole = false;
            continue;
        };
        let Some(place) = names().position(|name| name == text) else {
            let short: String = text.to_lowercase().chars().take(3).collect();
            let hint = names().find(|name| *name == short).map(|name| format!("did you mean `{name}`?"));
            let expected = Some(format!("one of {}", quoted(names())));
            reader.problem(item.position, &path, format!("unknown day `{text}`"), expected, hint);
            whole = false;
            continue;
        };
        let bit = 1_u8 << place;
        if days & bit != 0 {
            reader.problem(item.position, &path, format!("`{text}` occurs twice in this list"), None, None);
        }
        days |= bit;
    }
    whole.then_some(days)
}

fn bucket(reader: &mut Reader<'_>, names: &Names<'_>, node: &Node, path: &Path<'_>) -> Option<Condition> {
    let fields = reader.fields(node, path, &language::BUCKET)?;
    let expected = "`{ layer: <name>, unit: <unit>, from: <percent>, below: <percent> }`";
    let layer = reader.required(&fields, path, "layer", expected);
    let layer = layer.and_then(|node| split::layer(reader, names, node, &path.key("layer")));
    let unit = reader.at(&fields, path, "unit", split::unit);
    let below = reader.required(&fields, path, "below", expected);
    let layer = layer?;
    let scale = layer.layer.algorithm.scale();
    let mut edge =
        |node: Option<&Node>, key: &str| node.map(|node| buckets(reader, node, &path.key(key), scale));
    let from = edge(fields.get("from"), "from").unwrap_or(Some(0));
    let below = edge(below, "below").flatten();
    let (from, below) = (from?, below?);
    let unit = unit.unwrap_or_else(|| Some(layer.unit.clone()))?;
    if from >= below {
        let message = "`below` is not above `from`, so no bucket is in this slice";
        reader.problem(fields.position, path, message, None, None);
        return None;
    }
    Some(Condition::Bucket(Slice { layer: layer.layer.clone(), unit, scale, from, below }))
}

/// A percentage as a whole number of buckets.
fn buckets(reader: &mut Reader<'_>, node: &Node, path: &Path<'_>, scale: u32) -> Option<u32> {
    let share = scalar::share(reader, node, path)?;
    split::whole_buckets(reader, share, scale, node, path)
}
