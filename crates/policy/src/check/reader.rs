use std::collections::BTreeSet;
use std::fmt;

use crate::diagnostic::{Diagnostic, list_of, nearest, write_key};
use crate::language::Mapping;
use crate::moment;
use crate::policy::Origin;
use crate::source::{Dropped, Entry, Node, Position, Value, integer};

/// With more problems than this, names are no longer compared with all others: a broken source of many megabytes must not
/// take minutes to refuse.
const SUGGESTIONS: usize = 200;

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
    /// What was in the source and is not in the tree, because it has been reported.
    pub(super) dropped: &'s BTreeSet<Dropped>,
}

/// A mapping with known keys.
pub(super) struct Fields<'n> {
    pub(super) position: Position,
    pub(super) mapping: &'static Mapping,
    entries: &'n [Entry],
    /// The known keys that are probably there under another name.
    misspelt: Vec<&'static str>,
    /// Whether there is a key that nobody knows.
    unknown: bool,
}

impl<'n> Fields<'n> {
    pub(super) fn get(&self, key: &str) -> Option<&'n Node> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// Whether the key is missing and not just misspelt, which is reported already.
    pub(super) fn lacks(&self, key: &str) -> bool {
        self.get(key).is_none() && !self.misspelt.contains(&key)
    }

    /// Whether there is a key that nobody knows, which is reported already.
    pub(super) fn has_unknown(&self) -> bool {
        self.unknown
    }

    /// Whether none of these keys is there, nor misspelt.
    pub(super) fn lacks_all(&self, keys: &[&str]) -> bool {
        keys.iter().all(|key| self.lacks(key))
    }
}

/// Names that something may refer to.
pub(super) struct NameSet<'a> {
    /// What they are names of, `segment`.
    pub(super) kind: &'static str,
    /// Where they stand, `a segment of the section`.
    pub(super) section: &'static str,
    pub(super) names: BTreeSet<&'a str>,
    /// Whether all of them could be read. If not, a name that is missing may well exist.
    pub(super) complete: bool,
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
        let error = Diagnostic::error(self.file, position, path.to_string(), message);
        self.problems.push(Diagnostic { expected, hint, ..error });
    }

    /// Reports something at a place that has been read before.
    pub(super) fn problem_at(&mut self, origin: &Origin, message: impl Into<String>, hint: Option<String>) {
        let error = Diagnostic::error(self.file, origin.position, origin.path.clone(), message);
        self.problems.push(Diagnostic { hint, ..error });
    }

    pub(super) fn origin(&self, position: Position, path: &Path<'_>) -> Origin {
        Origin { position, path: path.to_string() }
    }

    /// A hint for what `found` most likely misspells.
    pub(super) fn suggest<'a>(
        &self,
        found: &str,
        candidates: impl IntoIterator<Item = &'a str>,
    ) -> Option<String> {
        self.nearest(found, candidates).map(|candidate| format!("did you mean `{candidate}`?"))
    }

    fn nearest<'a>(&self, found: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
        if self.problems.len() > SUGGESTIONS { None } else { nearest(found, candidates) }
    }

    pub(super) fn wrong_type(&mut self, node: &Node, path: &Path<'_>, expected: &str) {
        let message = format!("found {}", node.value.describe());
        let wants_number = expected.contains("number") || expected.contains("percentage");
        let wants_text = expected.starts_with("text") || expected.starts_with("a moment");
        let hint = match &node.value {
            Value::Number(text) if expected.starts_with("a moment") => {
                moment_of(text).map(|moment| format!("write `{moment}`"))
            }
            Value::Number(text) if wants_text => Some(format!("quote it: \"{text}\"")),
            Value::Boolean(value) if wants_text => Some(format!("quote it: \"{value}\"")),
            Value::Number(text) if expected.starts_with("a duration") => {
                Some(format!("add the unit, such as `{text}s` or `{text}h`"))
            }
            Value::Text(text) if wants_number => {
                let bare = text.trim_end_matches('%').trim();
                let what = if bare == text { "quotes" } else { "the percent sign" };
                bare.parse::<f64>().is_ok().then(|| format!("without {what}: {bare}"))
            }
            Value::Text(text) if expected.starts_with("a list") => {
                Some(format!("for a list of one, write `[{text}]`"))
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

    /// A mapping all of whose keys the language knows there.
    pub(super) fn fields<'n>(
        &mut self,
        node: &'n Node,
        path: &Path<'_>,
        mapping: &'static Mapping,
    ) -> Option<Fields<'n>> {
        let entries = self.mapping(node, path)?;
        let mut fields =
            Fields { position: node.position, mapping, entries, misspelt: Vec::new(), unknown: false };
        for entry in entries.iter().filter(|entry| !mapping.knows(&entry.key)) {
            let merge = entry.key == "<<";
            let nearest = self.nearest(&entry.key, mapping.names());
            let hint = nearest.map(|candidate| format!("did you mean `{candidate}`?"));
            let no_merging = || "YAML 1.2 has no merge keys; write the keys out, or let an alias stand for the whole value";
            let hint = hint.or_else(|| merge.then(|| no_merging().to_owned()));
            let expected = format!("one of {}", quoted(mapping.names()));
            self.problem(entry.position, path, format!("unknown key `{}`", entry.key), Some(expected), hint);
            fields.unknown = true;
            fields.misspelt.extend(nearest);
            // What would have been merged may be any of the keys.
            fields.misspelt.extend(mapping.names().filter(|_| merge));
        }
        Some(fields)
    }

    /// A mapping all of whose keys the language knows there, or nothing.
    pub(super) fn fields_or_nothing<'n>(
        &mut self,
        node: &'n Node,
        path: &Path<'_>,
        mapping: &'static Mapping,
    ) -> Option<Fields<'n>> {
        if node.value == Value::Null {
            let position = node.position;
            return Some(Fields { position, mapping, entries: &[], misspelt: Vec::new(), unknown: false });
        }
        self.fields(node, path, mapping)
    }

    /// Whether all names in the section that stands at `key` could be read.
    pub(super) fn is_complete(&self, fields: &Fields<'_>, key: &str, path: &Path<'_>) -> bool {
        let readable = match fields.get(key) {
            Some(node) => match node.value {
                Value::Mapping(_) => true,
                Value::List(_) => key == "tiers",
                _ => false,
            },
            // What nobody knows may be this section.
            None => !fields.unknown,
        };
        readable && self.lost_nothing(&path.key(key))
    }

    /// Whether everything that the source has at this place is in the tree.
    pub(super) fn lost_nothing(&self, path: &Path<'_>) -> bool {
        if self.dropped.is_empty() {
            return true;
        }
        let (here, above) = (path.to_string(), path.parent().to_string());
        !self.dropped.iter().any(|Dropped { path: at, key }| {
            *at == here || (*at == above && matches!(path, Path::Key(_, name) if key == name))
        })
    }

    /// Reports a key that must be there and is not.
    pub(super) fn missing(&mut self, fields: &Fields<'_>, path: &Path<'_>, key: &str, expected: &str) {
        if fields.lacks(key) {
            let message = format!("the key `{key}` is missing");
            self.problem(fields.position, path, message, Some(expected.to_owned()), None);
        }
    }

    /// The value of a key that must be there.
    pub(super) fn required<'n>(
        &mut self,
        fields: &Fields<'n>,
        path: &Path<'_>,
        key: &str,
        expected: &str,
    ) -> Option<&'n Node> {
        self.missing(fields, path, key, expected);
        fields.get(key)
    }

    /// Reads what stands at a key: nothing when the key is not there, `Some(None)` when it cannot be read.
    pub(super) fn at<'n, T>(
        &mut self,
        fields: &Fields<'n>,
        path: &Path<'_>,
        key: &str,
        read: impl FnOnce(&mut Self, &'n Node, &Path<'_>) -> Option<T>,
    ) -> Option<Option<T>> {
        fields.get(key).map(|node| read(self, node, &path.key(key)))
    }

    /// The items of a list, none when it is none.
    pub(super) fn list<'n>(&mut self, node: &'n Node, path: &Path<'_>) -> &'n [Node] {
        if let Value::List(items) = &node.value {
            return items;
        }
        self.wrong_type(node, path, "a list");
        &[]
    }

    /// The items of a list that has some.
    pub(super) fn filled_list<'n>(
        &mut self,
        node: &'n Node,
        path: &Path<'_>,
        expected: &str,
    ) -> Option<&'n [Node]> {
        let Value::List(items) = &node.value else {
            self.wrong_type(node, path, "a list");
            return None;
        };
        if items.is_empty() {
            self.problem(node.position, path, "the list is empty", Some(expected.to_owned()), None);
            return None;
        }
        Some(items)
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
            let expected = Some("at least one character".to_owned());
            self.problem(node.position, path, "the text is empty", expected, None);
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

    /// A list of texts without repetition, at least one.
    pub(super) fn filled_set(&mut self, node: &Node, path: &Path<'_>) -> Option<BTreeSet<String>> {
        self.filled_list(node, path, "at least one value")?;
        let before = self.problems.len();
        let set = self.set(node, path);
        (self.problems.len() == before).then_some(set)
    }

    /// A list of names that all exist, without repetition, in order.
    pub(super) fn names_in(
        &mut self,
        node: &Node,
        path: &Path<'_>,
        known: &NameSet<'_>,
    ) -> Option<Vec<String>> {
        let mut names: Vec<String> = Vec::new();
        let mut whole = matches!(node.value, Value::List(_));
        let mut seen = BTreeSet::new();
        for (item, index) in self.list(node, path).iter().zip(0..) {
            let path = path.index(index);
            let Some(name) = self.name_of(item, &path, known) else {
                whole = false;
                continue;
            };
            if !seen.insert(name) {
                self.problem(item.position, &path, format!("`{name}` occurs twice in this list"), None, None);
            }
            names.push(name.to_owned());
        }
        whole.then_some(names)
    }

    /// A name that exists.
    pub(super) fn name_of<'n>(
        &mut self,
        node: &'n Node,
        path: &Path<'_>,
        known: &NameSet<'_>,
    ) -> Option<&'n str> {
        let name = self.text(node, path)?;
        self.resolve(name, node.position, path, known).then_some(name)
    }

    /// Whether there is such a name; if not, that is reported.
    pub(super) fn resolve(
        &mut self,
        name: &str,
        position: Position,
        path: &Path<'_>,
        known: &NameSet<'_>,
    ) -> bool {
        if known.names.contains(name) {
            return true;
        }
        if known.complete {
            let all = || known.names.iter().copied();
            let expected = match (known.section, known.names.is_empty()) {
                ("", _) => format!("a {} of this route: {}", known.kind, list_of(all())),
                (section, true) => {
                    format!("a {} of the section `{section}`, which is missing or empty", known.kind)
                }
                (_, false) => format!("one of {}", list_of(all())),
            };
            let hint = self.suggest(name, all());
            self.problem(position, path, format!("unknown {} `{name}`", known.kind), Some(expected), hint);
        }
        false
    }
}

/// The moment that a number counts to: in seconds since 1970, or in milliseconds when that would be in a far future.
fn moment_of(text: &str) -> Option<String> {
    const FAR: i64 = 100_000_000_000;
    let number = integer(text)?;
    let millis = if number.saturating_abs() < FAR { number.checked_mul(1000)? } else { number };
    moment::format(millis)
}

/// The keys in backticks.
pub(super) fn quoted<'a>(keys: impl IntoIterator<Item = &'a str>) -> String {
    keys.into_iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
}
