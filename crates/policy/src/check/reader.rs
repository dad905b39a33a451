use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::diagnostic::{Diagnostic, list_of, suggestion, write_key};
use crate::policy::{Members, Origin};
use crate::source::{Entry, Node, Position, Value};

/// A place within the document, built on the way down.
pub(super) enum Path<'p> {
    Root,
    Key(&'p Path<'p>, &'p str),
    Index(&'p Path<'p>, usize),
}

impl Path<'_> {
    pub(super) fn key<'p>(&'p self, key: &'p str) -> Path<'p> {
        Path::Key(self, key)
    }

    pub(super) fn index(&self, index: usize) -> Path<'_> {
        Path::Index(self, index)
    }

    /// The place that contains this one.
    pub(super) fn parent(&self) -> &Path<'_> {
        match self {
            Path::Root => self,
            Path::Key(parent, _) | Path::Index(parent, _) => parent,
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Index(parent, index) => write!(f, "{parent}[{index}]"),
            Path::Key(parent, key) => {
                write!(f, "{parent}")?;
                write_key(f, matches!(parent, Path::Root), key)
            }
        }
    }
}

/// Reads values of the expected type and collects what is wrong.
pub(super) struct Reader<'s> {
    pub(super) file: &'s str,
    pub(super) problems: Vec<Diagnostic>,
}

/// A mapping with known keys.
pub(super) struct Fields<'n> {
    pub(super) position: Position,
    pub(super) known: &'n [&'n str],
    entries: &'n [Entry],
}

impl<'n> Fields<'n> {
    pub(super) fn get(&self, key: &str) -> Option<&'n Node> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }
}

impl Reader<'_> {
    pub(super) fn problem(
        &mut self,
        position: Position,
        path: &Path<'_>,
        message: impl Into<String>,
        expected: Option<String>,
        hint: Option<String>,
    ) {
        self.report(position, path.to_string(), message.into(), expected, hint);
    }

    fn report(
        &mut self,
        position: Position,
        path: String,
        message: String,
        expected: Option<String>,
        hint: Option<String>,
    ) {
        let Position { line, column } = position;
        let file = self.file.to_owned();
        self.problems.push(Diagnostic { line, column, file, path, message, expected, hint });
    }

    pub(super) fn origin(&self, position: Position, path: &Path<'_>) -> Origin {
        Origin { position, path: path.to_string() }
    }

    pub(super) fn wrong_type(&mut self, node: &Node, path: &Path<'_>, expected: &str) {
        let message = format!("found {}", node.value.describe());
        let wants_number = expected.contains("number") || expected.contains("percentage");
        let hint = match &node.value {
            Value::Number(text) if expected == "text" => Some(format!("quote it: \"{text}\"")),
            Value::Boolean(value) if expected == "text" => Some(format!("quote it: \"{value}\"")),
            Value::Text(text) if wants_number => {
                let bare = text.trim_end_matches('%').trim();
                let what = if bare == text { "quotes" } else { "the percent sign" };
                bare.parse::<f64>().is_ok().then(|| format!("without {what}: {bare}"))
            }
            _ => None,
        };
        self.problem(node.position, path, message, Some(expected.to_owned()), hint);
    }

    /// The entries of a mapping.
    pub(super) fn mapping<'n>(&mut self, node: &'n Node, path: &Path<'_>) -> Option<&'n [Entry]> {
        if let Value::Mapping(entries) = &node.value {
            return Some(entries);
        }
        self.wrong_type(node, path, "a mapping");
        None
    }

    /// The entries of a mapping, none when it is none.
    pub(super) fn entries<'n>(&mut self, node: &'n Node, path: &Path<'_>) -> &'n [Entry] {
        self.mapping(node, path).unwrap_or_default()
    }

    /// The entries of a mapping that has been read before.
    pub(super) fn entries_silently<'n>(&self, node: &'n Node) -> &'n [Entry] {
        if let Value::Mapping(entries) = &node.value { entries } else { &[] }
    }

    /// The fields of a mapping that has been read before.
    pub(super) fn fields_silently<'n>(&self, node: &'n Node) -> Option<Fields<'n>> {
        match &node.value {
            Value::Mapping(entries) => Some(Fields { position: node.position, known: &[], entries }),
            _ => None,
        }
    }

    /// A mapping all of whose keys are among `known`.
    pub(super) fn fields<'n>(
        &mut self,
        node: &'n Node,
        path: &Path<'_>,
        known: &'n [&'n str],
    ) -> Option<Fields<'n>> {
        let entries = self.mapping(node, path)?;
        for entry in entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            let message = format!("unknown key `{}`", entry.key);
            let expected = format!(
                "one of {}",
                known.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
            );
            let hint = suggestion(&entry.key, known.iter().copied());
            self.problem(entry.position, path, message, Some(expected), hint);
        }
        Some(Fields { position: node.position, known, entries })
    }

    /// The items of a list, none when it is none.
    pub(super) fn list<'n>(&mut self, node: &'n Node, path: &Path<'_>) -> &'n [Node] {
        if let Value::List(items) = &node.value {
            return items;
        }
        self.wrong_type(node, path, "a list");
        &[]
    }

    pub(super) fn text<'n>(&mut self, node: &'n Node, path: &Path<'_>) -> Option<&'n str> {
        if let Value::Text(text) = &node.value {
            return Some(text);
        }
        self.wrong_type(node, path, "text");
        None
    }

    /// A text that is not empty.
    pub(super) fn filled_text<'n>(&mut self, node: &'n Node, path: &Path<'_>) -> Option<&'n str> {
        let text = self.text(node, path)?;
        if text.is_empty() {
            self.problem(
                node.position,
                path,
                "the text is empty",
                Some("at least one character".to_owned()),
                None,
            );
            return None;
        }
        Some(text)
    }

    pub(super) fn boolean(&mut self, node: &Node, path: &Path<'_>) -> Option<bool> {
        if let Value::Boolean(value) = &node.value {
            return Some(*value);
        }
        self.wrong_type(node, path, "`true` or `false`");
        None
    }

    /// A list of texts without repetition.
    pub(super) fn set(&mut self, node: &Node, path: &Path<'_>) -> BTreeSet<String> {
        let mut set = BTreeSet::new();
        for (item, index) in self.list(node, path).iter().zip(0..) {
            let path = path.index(index);
            if let Some(text) = self.filled_text(item, &path)
                && !set.insert(text.to_owned())
            {
                self.problem(item.position, &path, format!("`{text}` occurs twice in this list"), None, None);
            }
        }
        set
    }

    pub(super) fn unknown_segment(
        &mut self,
        position: Position,
        path: String,
        segment: &str,
        segments: &BTreeMap<String, Members>,
    ) {
        let known = || segments.keys().map(String::as_str);
        let expected = if segments.is_empty() {
            "a segment of the section `segments`, which is missing or empty".to_owned()
        } else {
            format!("one of {}", list_of(known()))
        };
        let hint = suggestion(segment, known());
        self.report(position, path, format!("unknown segment `{segment}`"), Some(expected), hint);
    }
}
