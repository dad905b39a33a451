//! Policy source as a tree of values, each with its place in the file. YAML and JSON give the same tree.

mod json;
mod lists;
mod yaml;

pub(crate) use json::STRICT as STRICT_JSON;
pub use lists::{ListFile, parse_list};

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::attributes::{InexactNumber, inexact};
use crate::diagnostic::{Diagnostic, Diagnostics};

/// Values nested deeper than this are refused, so that nothing that walks the tree can exhaust the stack.
const MAX_DEPTH: usize = 64;

/// A place in a source file, counted from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

impl Position {
    /// Where a file begins.
    pub(crate) const START: Self = Self { line: 1, column: 1 };

    fn new(line: usize, column: usize) -> Self {
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        Self { line: number(line), column: number(column) }
    }
}

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where the value begins.
    pub position: Position,
    /// The value.
    pub value: Value,
}

/// A value as the source writes it.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false`.
    Boolean(bool),
    /// A number, as it is written: a share of `0.1` must not become binary on its way.
    Number(String),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the source, no key twice.
    Mapping(Vec<Entry>),
}

/// An entry of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key begins.
    pub position: Position,
    /// The value.
    pub value: Node,
}

/// A policy source that is well-formed YAML or JSON; whether it is a policy is for [`check`](crate::check) to say.
#[derive(Debug, Clone)]
pub struct PolicySource {
    pub(crate) file: String,
    pub(crate) tree: SourceTree,
    /// What is wrong without making the document unreadable, such as a key that occurs twice.
    pub(crate) problems: Vec<Diagnostic>,
    /// What these problems have kept out of the tree.
    pub(crate) dropped: BTreeSet<Dropped>,
}

/// The tree of a document, kept to say where in it something stands. It adds nothing to what a policy says, so all trees are equal.
#[derive(Clone)]
pub(crate) struct SourceTree(pub(crate) Arc<Node>);

impl PartialEq for SourceTree {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Debug for SourceTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SourceTree")
    }
}

/// An entry that has been reported and is not in the tree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Dropped {
    /// The place of its mapping.
    pub(crate) path: String,
    /// Its key; empty for one that is no text.
    pub(crate) key: String,
}

/// Reads policy source: JSON when `file_name` ends in `.json`, else YAML. The name appears in messages; no file is opened.
///
/// # Errors
/// Text that is no YAML or JSON, an empty document, or one nested too deeply.
pub fn parse(file_name: &str, text: &str) -> Result<PolicySource, Diagnostics> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut tree = Tree { file: file_name, problems: Vec::new(), dropped: BTreeSet::new() };
    let root = if is_json(file_name) { json::read(&mut tree, text)? } else { yaml::read(&mut tree, text)? };
    let Tree { problems, dropped, .. } = tree;
    Ok(PolicySource { file: file_name.to_owned(), tree: SourceTree(Arc::new(root)), problems, dropped })
}

/// Whether a file of this name holds JSON.
pub(crate) fn is_json(file_name: &str) -> bool {
    let end = file_name.len().checked_sub(5).and_then(|start| file_name.get(start..));
    end.is_some_and(|end| end.eq_ignore_ascii_case(".json"))
}

/// Reads any YAML or JSON document strictly into a tree of values, for other files that people write.
///
/// # Errors
/// What [`parse`] refuses, and a key that occurs twice, a key that is no text, a tag.
pub fn read(file_name: &str, text: &str) -> Result<Node, Diagnostics> {
    let PolicySource { tree, problems, .. } = parse(file_name, text)?;
    Diagnostics::check(problems)?;
    Ok(Arc::unwrap_or_clone(tree.0))
}

impl Value {
    /// What it is, for messages: "the number `5`".
    pub fn describe(&self) -> String {
        match self {
            Self::Null => "nothing".to_owned(),
            Self::Boolean(value) => format!("the boolean `{value}`"),
            Self::Number(text) => format!("the number `{text}`"),
            Self::Text(text) if text.chars().count() > 40 => {
                format!("the text `{}…`", text.chars().take(40).collect::<String>())
            }
            Self::Text(text) => format!("the text `{text}`"),
            Self::List(_) => "a list".to_owned(),
            Self::Mapping(_) => "a mapping".to_owned(),
        }
    }
}

impl Node {
    /// The value as compact JSON text. Numbers keep the digits they are written with, so long as JSON knows that form.
    ///
    /// # Errors
    /// A number that JSON cannot express, such as infinity: its place and how it is written.
    pub fn to_json(&self) -> Result<String, (Position, String)> {
        let mut out = String::new();
        self.write_json(&mut out)?;
        Ok(out)
    }

    /// The first number in the value that is no double, if there is one.
    pub(crate) fn inexact(&self) -> Option<(Position, InexactNumber)> {
        match &self.value {
            Value::Number(text) => inexact(text).map(|number| (self.position, number)),
            Value::List(items) => items.iter().find_map(Self::inexact),
            Value::Mapping(entries) => entries.iter().find_map(|entry| entry.value.inexact()),
            Value::Null | Value::Boolean(_) | Value::Text(_) => None,
        }
    }

    fn write_json(&self, out: &mut String) -> Result<(), (Position, String)> {
        match &self.value {
            Value::Null => out.push_str("null"),
            Value::Boolean(value) => out.push_str(if *value { "true" } else { "false" }),
            Value::Number(text) => match json_number(text) {
                Some(number) => out.push_str(&number),
                None => return Err((self.position, text.clone())),
            },
            Value::Text(text) => push_json_text(out, text),
            Value::List(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    item.write_json(out)?;
                }
                out.push(']');
            }
            Value::Mapping(entries) => {
                out.push('{');
                for (index, entry) in entries.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    push_json_text(out, &entry.key);
                    out.push(':');
                    entry.value.write_json(out)?;
                }
                out.push('}');
            }
        }
        Ok(())
    }
}

fn push_json_text(out: &mut String, text: &str) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

/// A number in JSON's notation: unchanged when it is one already, else by value.
fn json_number(text: &str) -> Option<String> {
    // Readers make a float of `-0`.
    if integer(text) == Some(0) {
        return Some("0".to_owned());
    }
    if serde_json::from_str::<serde_json::Number>(text).is_ok() {
        return Some(text.to_owned());
    }
    if let Some(value) = integer(text) {
        return Some(value.to_string());
    }
    number(text).and_then(serde_json::Number::from_f64).map(|number| number.to_string())
}

/// The value of a number as an integer, when it is written as one.
pub(crate) fn integer(text: &str) -> Option<i64> {
    if let Some(digits) = text.strip_prefix("0x") {
        return i64::from_str_radix(digits, 16).ok();
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return i64::from_str_radix(digits, 8).ok();
    }
    text.parse().ok()
}

/// The value of a number; `None` for one that is not finite.
pub(crate) fn number(text: &str) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "a policy's numbers are doubles")]
    let value = integer(text).map_or_else(|| text.parse::<f64>().ok(), |value| Some(value as f64));
    value.filter(|value| value.is_finite())
}

/// A document on its way into a tree.
struct Tree<'a> {
    file: &'a str,
    problems: Vec<Diagnostic>,
    dropped: BTreeSet<Dropped>,
}

impl Tree<'_> {
    /// What ends the reading.
    fn fatal(&self, position: Position, message: String) -> Diagnostics {
        let Position { line, column } = position;
        Diagnostic { line, column, ..Diagnostic::of_document(self.file, message) }.into()
    }

    fn problem(
        &mut self,
        position: Position,
        path: &str,
        message: String,
        expected: Option<&str>,
        hint: String,
    ) {
        let Position { line, column } = position;
        let (path, expected, hint) = (path.to_owned(), expected.map(str::to_owned), Some(hint));
        let problem =
            Diagnostic { line, column, path, expected, hint, ..Diagnostic::of_document(self.file, message) };
        self.problems.push(problem);
    }

    fn too_deep(&self, position: Position) -> Diagnostics {
        self.fatal(position, format!("the values are nested more than {MAX_DEPTH} levels deep"))
    }

    fn empty(&self) -> Diagnostics {
        self.fatal(Position::START, "the document is empty".to_owned())
    }

    /// Drops all but the first entry of each key, and reports the others. `path` is that of the mapping.
    fn unique(&mut self, entries: Vec<Entry>, path: &str) -> Vec<Entry> {
        let mut first: BTreeMap<&str, Position> = BTreeMap::new();
        let mut repeated = Vec::new();
        let keep: Vec<bool> = entries
            .iter()
            .map(|entry| match first.get(entry.key.as_str()) {
                Some(position) => {
                    repeated.push((entry, *position));
                    false
                }
                None => {
                    first.insert(&entry.key, entry.position);
                    true
                }
            })
            .collect();
        for (entry, Position { line, column }) in repeated {
            let message = format!("the key `{}` occurs twice in one mapping", entry.key);
            let hint = format!("it is first at line {line}, column {column}");
            self.problem(entry.position, path, message, Some("each key once"), hint);
            self.dropped.insert(Dropped { path: path.to_owned(), key: entry.key.clone() });
        }
        entries.into_iter().zip(keep).filter_map(|(entry, keep)| keep.then_some(entry)).collect()
    }
}
