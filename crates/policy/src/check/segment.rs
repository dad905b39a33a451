//! Named segments, and the lists that segments, tiers and groups are made of.

use std::collections::BTreeMap;

use super::reader::{Fields, Path, Reader};
use super::{Names, condition, name};
use crate::policy::{Members, Segment};
use crate::source::{Node, Value};
use crate::{Field, language};

pub(super) fn segments(
    reader: &mut Reader<'_>,
    names: &Names<'_>,
    node: &Node,
    path: &Path<'_>,
) -> BTreeMap<String, Segment> {
    let mut segments = BTreeMap::new();
    for entry in reader.entries(node, path) {
        let path = path.key(&entry.key);
        name(reader, entry, &path);
        let Some(fields) = reader.fields(&entry.value, &path, &language::SEGMENT) else { continue };
        let include = members(reader, names, &fields, &path);
        let condition = reader.at(&fields, &path, "if", |reader, node, path| {
            condition::condition(reader, names, condition::Place::Segment, node, path)
        });
        let exclude = reader.at(&fields, &path, "exclude", |reader, node, path| {
            let fields = reader.fields(node, path, &language::EXCLUDE)?;
            some_members(reader, names, &fields, path)
        });
        let origin = reader.origin(entry.position, &path);
        let segment = Segment {
            include: include.unwrap_or_default(),
            exclude: exclude.flatten().unwrap_or_default(),
            condition: condition.flatten(),
            origin,
        };
        segments.insert(entry.key.clone(), segment);
    }
    segments
}

/// Reads the lists of a segment, tier or group, of which there may be none.
pub(super) fn members(
    reader: &mut Reader<'_>,
    names: &Names<'_>,
    fields: &Fields<'_>,
    path: &Path<'_>,
) -> Option<Members> {
    let before = reader.problems.len();
    let mut members = Members::default();
    for field in Field::ALL {
        let key = field.list_key();
        let Some(node) = fields.get(&key) else { continue };
        let path = path.key(&key);
        match &node.value {
            Value::Mapping(_) => {
                let Some(fields) = reader.fields(node, &path, &language::UNIT_FILE) else { continue };
                let expected = "`{ file: <name> }`, a file with one unit a line";
                let node = reader.required(&fields, &path, "file", expected);
                if let Some(file) = node.and_then(|node| reader.filled_text(node, &path.key("file"))) {
                    members.files.insert(field, file.to_owned());
                }
            }
            Value::List(_) => {
                let values = reader.set(node, &path);
                if !values.is_empty() {
                    members.values.insert(field, values);
                }
            }
            _ => reader.wrong_type(node, &path, "a list, or `{ file: <name> }`"),
        }
    }
    if let Some(segments) =
        reader.at(fields, path, "segments", |reader, node, path| reader.names_in(node, path, &names.segments))
    {
        members.segments = segments.unwrap_or_default().into_iter().collect();
    }
    (reader.problems.len() == before).then_some(members)
}

/// Reads the lists of something that must have some.
pub(super) fn some_members(
    reader: &mut Reader<'_>,
    names: &Names<'_>,
    fields: &Fields<'_>,
    path: &Path<'_>,
) -> Option<Members> {
    let keys = fields.mapping.some_of.first().copied().unwrap_or_default();
    if fields.lacks_all(keys) {
        let message = "it says nothing about who belongs to it";
        let expected = format!("at least one of {}", super::reader::quoted(keys.iter().copied()));
        reader.problem(fields.position, path, message, Some(expected), None);
        return None;
    }
    members(reader, names, fields, path)
}
