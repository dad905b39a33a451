//! The files with lists of units that a source names: found even where the source is broken, so that everything wrong is said at once.

use std::collections::BTreeMap;

use super::{Entry, Node, PolicySource, Position, Value};
use crate::Field;
use crate::diagnostic::{Diagnostic, Diagnostics};

/// A list of units that a source takes from a file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListFile<'s> {
    /// The file, as the source writes it.
    pub name: &'s str,
    /// Where the source names it first.
    pub position: Position,
    /// The same place within the document, `segments.desk.users.file`.
    pub path: String,
}

impl PolicySource {
    /// The files with lists of units, each once.
    pub fn list_files(&self) -> Vec<ListFile<'_>> {
        let mut found = BTreeMap::new();
        collect(&self.tree.0, "", &mut found);
        let mut files: Vec<ListFile<'_>> = found.into_values().collect();
        files.sort_by_key(|file| file.position);
        files
    }

    /// What to say of a list file that cannot be read.
    pub fn unreadable(&self, list: &ListFile<'_>, why: &str) -> Diagnostic {
        let message = format!("cannot read the list of units `{}`: {why}", list.name);
        Diagnostic::error(&self.file, list.position, list.path.clone(), message)
    }
}

/// Adds the files that stand under a field's name, which is where lists of units stand.
fn collect<'s>(node: &'s Node, path: &str, found: &mut BTreeMap<&'s str, ListFile<'s>>) {
    match &node.value {
        Value::List(items) => {
            for (item, index) in items.iter().zip(0..) {
                collect(item, &format!("{path}[{index}]"), found);
            }
        }
        Value::Mapping(entries) => {
            for Entry { key, value, .. } in entries {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match &value.value {
                    // Whatever stands there is the application's.
                    _ if key == "payload" => {}
                    Value::Mapping(inner) if Field::ALL.iter().any(|field| field.list_key() == *key) => {
                        for entry in inner.iter().filter(|entry| entry.key == "file") {
                            if let Value::Text(name) = &entry.value.value {
                                let (position, path) = (entry.value.position, format!("{path}.file"));
                                found.entry(name).or_insert(ListFile { name, position, path });
                            }
                        }
                    }
                    _ => collect(value, &path, found),
                }
            }
        }
        _ => {}
    }
}

/// The units of a list file, one a line. `file` names it in messages.
///
/// # Errors
/// Every line that cannot be a unit.
pub fn parse_list(file: &str, bytes: &[u8]) -> Result<Vec<String>, Diagnostics> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let (mut units, mut problems) = (Vec::new(), Vec::new());
    let lines = bytes.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    for (line, number) in lines.zip(1_usize..) {
        let mut problem = |message: &str| {
            problems.push(Diagnostic::error(file, Position::new(number, 1), String::new(), message));
        };
        match std::str::from_utf8(line) {
            Err(_) => problem("this line is not UTF-8 text"),
            Ok("") => {}
            Ok(unit) if unit.trim() != unit => {
                problem("this unit begins or ends with white space, which would count; remove it");
            }
            Ok(unit) => units.push(unit.to_owned()),
        }
    }
    Diagnostics::check(problems)?;
    Ok(units)
}
