//! Where a warning points: the key or the value that somebody has to change, looked up in the tree that the policy was read from.

use std::collections::BTreeMap;

use crate::diagnostic::write_key;
use crate::policy::RouteKey;
use crate::source::{Entry, Node, Position, Value};

/// The tree that a policy was read from, with an index of its large mappings.
pub(super) struct Document<'p> {
    root: &'p Node,
    large: BTreeMap<*const Node, BTreeMap<&'p str, &'p Entry>>,
}

/// Mappings of more entries than this have an index.
const LARGE: usize = 16;

impl<'p> Document<'p> {
    pub(super) fn new(root: &'p Node) -> Self {
        let mut large = BTreeMap::new();
        let mut open = vec![root];
        while let Some(node) = open.pop() {
            match &node.value {
                Value::List(items) => open.extend(items),
                Value::Mapping(entries) => {
                    open.extend(entries.iter().map(|entry| &entry.value));
                    if entries.len() > LARGE {
                        let index = entries.iter().map(|entry| (entry.key.as_str(), entry)).collect();
                        large.insert(std::ptr::from_ref(node), index);
                    }
                }
                _ => {}
            }
        }
        Self { root, large }
    }

    fn entry(&self, node: &'p Node, key: &str) -> Option<&'p Entry> {
        match (&node.value, self.large.get(&std::ptr::from_ref(node))) {
            (_, Some(index)) => index.get(key).copied(),
            (Value::Mapping(entries), None) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }
}

/// A place within the document.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Part {
    Key(String),
    Index(usize),
}

/// What of an entry is meant; both are the same for the item of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Key,
    Value,
}

impl Place {
    /// The definition of a route.
    pub(super) fn route(key: &RouteKey) -> Self {
        let mut place = Self::default();
        for (section, name) in [("tenants", &key.scope.tenant), ("users", &key.scope.user)] {
            if let Some(name) = name {
                place = place.key(section).key(name);
            }
        }
        place.key("routes").key(&key.name)
    }

    pub(super) fn key(&self, key: &str) -> Self {
        self.with(Part::Key(key.to_owned()))
    }

    pub(super) fn index(&self, index: usize) -> Self {
        self.with(Part::Index(index))
    }

    fn with(&self, part: Part) -> Self {
        let mut parts = self.parts.clone();
        parts.push(part);
        Self { parts }
    }

    /// As messages write it, `routes.eurusd-direction.rules[0]`.
    pub(super) fn path(&self) -> String {
        let mut path = String::new();
        for part in &self.parts {
            match part {
                Part::Key(key) => {
                    let first = path.is_empty();
                    // Writing into a string cannot fail.
                    let _ = write_key(&mut path, first, key);
                }
                Part::Index(index) => path.push_str(&format!("[{index}]")),
            }
        }
        path
    }

    /// Where it stands; the nearest place around it when the document lacks it.
    pub(super) fn position(&self, document: &Document<'_>, of: Of) -> Position {
        let (mut node, mut position) = (document.root, document.root.position);
        for part in &self.parts {
            match part {
                Part::Key(key) => {
                    let Some(entry) = document.entry(node, key) else { return position };
                    position = if of == Of::Key { entry.position } else { entry.value.position };
                    node = &entry.value;
                }
                Part::Index(index) => {
                    let Value::List(items) = &node.value else { return position };
                    let Some(item) = items.get(*index) else { return position };
                    position = item.position;
                    node = item;
                }
            }
        }
        position
    }

    /// What stands there.
    pub(super) fn node<'p>(&self, document: &Document<'p>) -> Option<&'p Node> {
        self.parts.iter().try_fold(document.root, |node, part| match (part, &node.value) {
            (Part::Key(key), _) => document.entry(node, key).map(|entry| &entry.value),
            (Part::Index(index), Value::List(items)) => items.get(*index),
            (Part::Index(_), _) => None,
        })
    }

    /// The first of these keys that the mapping at this place has.
    pub(super) fn first_key(&self, document: &Document<'_>, keys: &[&str]) -> Option<Self> {
        let node = self.node(document)?;
        keys.iter().find(|key| document.entry(node, key).is_some()).map(|key| self.key(key))
    }

    /// The first item of the list at this place that is one of these texts.
    pub(super) fn item(&self, document: &Document<'_>, is_meant: impl Fn(&str) -> bool) -> Option<Self> {
        let Value::List(items) = &self.node(document)?.value else { return None };
        let found = items.iter().position(|item| match &item.value {
            Value::Text(text) => is_meant(text),
            _ => false,
        });
        found.map(|index| self.index(index))
    }
}
