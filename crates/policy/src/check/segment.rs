//! Named segments, and the lists that segments and groups are made of.

use std::collections::{BTreeMap, BTreeSet};

use super::name;
use super::reader::{Fields, Path, Reader};
use crate::Field;
use crate::policy::Members;
use crate::source::{Node, Position, Value};

/// How deep segments may contain each other.
const MAX_SEGMENT_DEPTH: usize = 64;

pub(super) fn segments(reader: &mut Reader<'_>, node: &Node, path: &Path<'_>) -> BTreeMap<String, Members> {
    let mut segments = BTreeMap::new();
    for entry in reader.entries(node, path) {
        let path = path.key(&entry.key);
        name(reader, entry, &path);
        let known = ["users", "symbols", "tenants", "sessions", "segments"];
        if let Some(fields) = reader.fields(&entry.value, &path, &known) {
            let members = members(reader, &fields, &path);
            segments.insert(entry.key.clone(), members);
        } else {
            // What refers to it should not be reported as well.
            segments.insert(entry.key.clone(), Members::default());
        }
    }
    for entry in reader.entries_silently(node) {
        let path = path.key(&entry.key);
        let Some(members) = segments.get(&entry.key) else { continue };
        let listed = reader.fields_silently(&entry.value).and_then(|fields| fields.get("segments"));
        for segment in &members.segments {
            known_segment(reader, &segments, segment, listed, &path);
        }
    }
    acyclic(reader, &segments, node, path);
    segments
}

/// Reports a segment that does not exist; `listed` is the value that names it.
pub(super) fn known_segment(
    reader: &mut Reader<'_>,
    segments: &BTreeMap<String, Members>,
    segment: &str,
    listed: Option<&Node>,
    path: &Path<'_>,
) {
    if segments.contains_key(segment) {
        return;
    }
    let (position, index) = match listed.map(|node| &node.value) {
        Some(Value::List(items)) => items
            .iter()
            .zip(0..)
            .find(|(item, _)| matches!(&item.value, Value::Text(text) if text == segment))
            .map_or((Position::START, None), |(item, index)| (item.position, Some(index))),
        _ => (listed.map_or(Position::START, |node| node.position), None),
    };
    let path = path.key("segments");
    let path = index.map_or_else(|| path.to_string(), |index| path.index(index).to_string());
    reader.unknown_segment(position, path, segment, segments);
}

/// Reports each cycle of segments once, and nesting that is too deep.
fn acyclic(reader: &mut Reader<'_>, segments: &BTreeMap<String, Members>, node: &Node, path: &Path<'_>) {
    let position_of = |name: &str| {
        let entries = if let Value::Mapping(entries) = &node.value { entries.as_slice() } else { &[] };
        entries.iter().find(|entry| entry.key == name).map_or(node.position, |entry| entry.position)
    };
    let mut done: BTreeSet<&str> = BTreeSet::new();
    for start in segments.keys() {
        if done.contains(start.as_str()) {
            continue;
        }
        // A walk without recursion: the chain of segments, each with those of its segments still to be visited.
        let mut chain: Vec<(&str, Vec<&str>)> = vec![(start, inner(segments, start))];
        while let Some((_, open)) = chain.last_mut() {
            let Some(next) = open.pop() else {
                if let Some((name, _)) = chain.pop() {
                    done.insert(name);
                }
                continue;
            };
            if let Some(at) = chain.iter().position(|(name, _)| *name == next) {
                let cycle: Vec<&str> = chain.iter().skip(at).map(|(name, _)| *name).chain([next]).collect();
                let message = format!("segments contain each other in a cycle: {}", cycle.join(" → "));
                let hint = Some("remove one of these segments from another".to_owned());
                reader.problem(position_of(next), &path.key(next), message, None, hint);
            } else if chain.len() >= MAX_SEGMENT_DEPTH {
                let message =
                    format!("segments contain each other more than {MAX_SEGMENT_DEPTH} levels deep");
                reader.problem(position_of(start), &path.key(start), message, None, None);
                return;
            } else if !done.contains(next) {
                chain.push((next, inner(segments, next)));
            }
        }
    }
}

/// The segments that a segment contains, the first one last.
fn inner<'a>(segments: &'a BTreeMap<String, Members>, name: &str) -> Vec<&'a str> {
    let members = segments.get(name);
    members.into_iter().flat_map(|members| members.segments.iter().rev().map(String::as_str)).collect()
}

/// Reads the lists of a segment or group. Whether the segments exist is for the caller to check.
pub(super) fn members(reader: &mut Reader<'_>, fields: &Fields<'_>, path: &Path<'_>) -> Members {
    let mut members = Members::default();
    for field in Field::ALL {
        let key = format!("{}s", field.name());
        if let Some(node) = fields.get(&key) {
            let values = reader.set(node, &path.key(&key));
            members.values.insert(field, values);
        }
    }
    if let Some(node) = fields.get("segments") {
        members.segments = reader.set(node, &path.key("segments"));
    }
    members
}
