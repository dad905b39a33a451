use std::collections::BTreeMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};

use super::{Dropped, Entry, MAX_DEPTH, Node, Position, Tree, Value};
use crate::diagnostic::{Diagnostics, write_key};

/// How many values aliases may copy in one document: plenty for a list that several rules share, far too few for a
/// document that multiplies itself.
const MAX_COPIED: usize = 1_000_000;

pub(super) fn read(tree: &mut Tree<'_>, text: &str) -> Result<Node, Diagnostics> {
    let mut builder = Builder { tree, open: Vec::new(), anchors: BTreeMap::new(), copied: 0, root: None };
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| {
            if error.info().contains("recursion limit") {
                return builder.tree.too_deep(position(*error.marker()));
            }
            let message = format!("this is not YAML: {}", error.info());
            builder.tree.fatal(position(*error.marker()), message)
        })?;
        builder.event(event, position(span.start))?;
    }
    let Builder { tree, root, .. } = builder;
    root.filter(|root| root.value != Value::Null).ok_or_else(|| tree.empty())
}

fn position(marker: Marker) -> Position {
    Position::new(marker.line(), marker.col().saturating_add(1))
}

/// A list or mapping that has begun and not ended.
struct Open {
    position: Position,
    anchor: usize,
    items: Items,
}

enum Items {
    List(Vec<Node>),
    Mapping { entries: Vec<Entry>, key: Option<Key> },
}

struct Key {
    /// `None` for one that is no text; its entry is dropped once it has been reported.
    text: Option<String>,
    position: Position,
}

struct Builder<'t, 'f> {
    tree: &'t mut Tree<'f>,
    open: Vec<Open>,
    /// Finished values by anchor, with their size and depth.
    anchors: BTreeMap<usize, (Node, usize, usize)>,
    copied: usize,
    root: Option<Node>,
}

impl Builder<'_, '_> {
    fn event(&mut self, event: Event<'_>, position: Position) -> Result<(), Diagnostics> {
        match event {
            Event::DocumentStart(_) if self.root.is_some() => {
                let message = "a second document begins here; a file holds one".to_owned();
                return Err(self.tree.fatal(position, message));
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => {}
            Event::Alias(anchor) => self.alias(anchor, position)?,
            Event::Scalar(text, style, anchor, tag) => {
                if let Some(tag) = tag {
                    self.tag(&tag, position);
                }
                let value = match style {
                    ScalarStyle::Plain => plain(&text),
                    _ => Value::Text(text.into_owned()),
                };
                self.finished(Node { position, value }, anchor);
            }
            Event::SequenceStart(anchor, tag) => {
                if let Some(tag) = tag {
                    self.tag(&tag, position);
                }
                self.begin(Open { position, anchor, items: Items::List(Vec::new()) })?;
            }
            Event::MappingStart(anchor, tag) => {
                if let Some(tag) = tag {
                    self.tag(&tag, position);
                }
                self.begin(Open {
                    position,
                    anchor,
                    items: Items::Mapping { entries: Vec::new(), key: None },
                })?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(Open { position, anchor, items }) = self.open.pop() {
                    let value = match items {
                        Items::List(items) => Value::List(items),
                        Items::Mapping { entries, .. } => {
                            let path = self.path();
                            Value::Mapping(self.tree.unique(entries, &path))
                        }
                    };
                    self.finished(Node { position, value }, anchor);
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self, open: Open) -> Result<(), Diagnostics> {
        if self.open.len() >= MAX_DEPTH {
            return Err(self.tree.too_deep(open.position));
        }
        self.open.push(open);
        Ok(())
    }

    fn tag(&mut self, tag: &Tag, position: Position) {
        let handle = if tag.is_yaml_core_schema() { "!!" } else { tag.handle.as_str() };
        let message = format!("the tag `{handle}{}` has no meaning here", tag.suffix);
        let hint = "remove it; quote the value to make it text".to_owned();
        self.tree.problem(position, &self.path(), message, None, hint);
    }

    /// Where the next value will stand.
    fn path(&self) -> String {
        let mut path = String::new();
        for open in &self.open {
            match &open.items {
                Items::List(items) => path.push_str(&format!("[{}]", items.len())),
                Items::Mapping { key: Some(Key { text: Some(key), .. }), .. } => {
                    // Writing into a string cannot fail.
                    let first = path.is_empty();
                    let _ = write_key(&mut path, first, key);
                }
                Items::Mapping { .. } => {}
            }
        }
        path
    }

    fn alias(&mut self, anchor: usize, position: Position) -> Result<(), Diagnostics> {
        let Some((node, size, depth)) = self.anchors.get(&anchor) else {
            let message = "this alias stands within the value that it names".to_owned();
            return Err(self.tree.fatal(position, message));
        };
        if self.open.len().saturating_add(*depth) > MAX_DEPTH {
            return Err(self.tree.too_deep(position));
        }
        self.copied = self.copied.saturating_add(*size);
        if self.copied > MAX_COPIED {
            let message = format!("aliases copy more than {MAX_COPIED} values");
            return Err(self.tree.fatal(position, message));
        }
        let node = Node { position, value: node.value.clone() };
        self.finished(node, 0);
        Ok(())
    }

    /// Puts a finished value where it belongs.
    fn finished(&mut self, node: Node, anchor: usize) {
        if anchor != 0 {
            let (size, depth) = measure(&node);
            self.anchors.insert(anchor, (node.clone(), size, depth));
        }
        if self.expects_key() && !matches!(node.value, Value::Text(_)) {
            let message = format!("found {} as a key", node.value.describe());
            let (path, hint) = (self.path(), "quote the key".to_owned());
            self.tree.problem(node.position, &path, message, Some("text"), hint);
            self.tree.dropped.insert(Dropped { path, key: String::new() });
        }
        match self.open.last_mut().map(|open| &mut open.items) {
            None => self.root = Some(node),
            Some(Items::List(items)) => items.push(node),
            Some(Items::Mapping { entries, key }) => match key.take() {
                Some(Key { text: Some(key), position }) => entries.push(Entry { key, position, value: node }),
                Some(Key { text: None, .. }) => {}
                None => {
                    let Node { position, value } = node;
                    let text = if let Value::Text(text) = value { Some(text) } else { None };
                    *key = Some(Key { text, position });
                }
            },
        }
    }

    /// Whether the next value is a key.
    fn expects_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { items: Items::Mapping { key: None, .. }, .. }))
    }
}

/// How many values a tree holds, and how many levels.
fn measure(node: &Node) -> (usize, usize) {
    let inner = |nodes: &mut dyn Iterator<Item = &Node>| {
        nodes.map(measure).fold((1, 1), |(size, depth), (s, d)| (size + s, depth.max(d + 1)))
    };
    match &node.value {
        Value::List(items) => inner(&mut items.iter()),
        Value::Mapping(entries) => inner(&mut entries.iter().map(|entry| &entry.value)),
        _ => (1, 1),
    }
}

/// The value of a plain scalar by YAML 1.2's core schema.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Boolean(true),
        "false" | "False" | "FALSE" => Value::Boolean(false),
        _ if is_number(text) => Value::Number(text.to_owned()),
        _ => Value::Text(text.to_owned()),
    }
}

fn is_number(text: &str) -> bool {
    if let Some(digits) = text.strip_prefix("0x") {
        return !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return !digits.is_empty() && digits.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    }
    if matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return true;
    }
    // Rust reads the same decimal forms as the core schema once letters other than the exponent's are ruled out.
    unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned
            .bytes()
            .all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'))
        && unsigned.parse::<f64>().is_ok()
}
