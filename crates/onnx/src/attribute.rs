//! What stands in a node besides its operands.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::graph::Source;
use crate::{Problem, Tensor};

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "named after what they hold")]
pub enum Attribute {
    Int(i64),
    Float(f32),
    Text(String),
    Tensor(Tensor),
    Graph(Box<Source>),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Texts(Vec<String>),
}

/// The attributes of a node, which notices those that nobody asked for: an attribute that is not implemented is never ignored.
#[derive(Debug)]
pub struct Attributes<'a> {
    all: &'a BTreeMap<String, Attribute>,
    read: RefCell<BTreeSet<&'a str>>,
}

impl<'a> Attributes<'a> {
    /// The attributes of a node, none of them read.
    pub fn new(all: &'a BTreeMap<String, Attribute>) -> Self {
        Self { all, read: RefCell::default() }
    }

    /// Whether the attribute is there. Does not count as reading it.
    pub fn has(&self, name: &str) -> bool {
        self.all.contains_key(name)
    }

    /// Those that nobody read.
    pub fn unread(&self) -> impl Iterator<Item = &'a str> {
        let read = self.read.borrow().clone();
        self.all.keys().map(String::as_str).filter(move |name| !read.contains(name))
    }

    /// Counts attributes as read although their values make no difference to the result. Say at the call why.
    pub fn have_no_effect(&self, names: &[&str]) {
        for name in names {
            self.get(name);
        }
    }

    /// An integer, if the attribute is there.
    ///
    /// # Errors
    /// Something else.
    pub fn int(&self, name: &str) -> Result<Option<i64>, Problem> {
        match self.get(name) {
            None => Ok(None),
            Some(Attribute::Int(value)) => Ok(Some(*value)),
            Some(_) => Err(mistyped(name, "an integer")),
        }
    }

    /// An integer, or the operator's default.
    ///
    /// # Errors
    /// Something else.
    pub fn int_or(&self, name: &str, default: i64) -> Result<i64, Problem> {
        Ok(self.int(name)?.unwrap_or(default))
    }

    /// An integer that says yes or no, or the operator's default.
    ///
    /// # Errors
    /// Something else.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool, Problem> {
        Ok(self.int(name)?.map_or(default, |value| value != 0))
    }

    /// A float, if the attribute is there.
    ///
    /// # Errors
    /// Something else.
    pub fn float(&self, name: &str) -> Result<Option<f32>, Problem> {
        match self.get(name) {
            None => Ok(None),
            Some(Attribute::Float(value)) => Ok(Some(*value)),
            Some(_) => Err(mistyped(name, "a float")),
        }
    }

    /// A float, or the operator's default.
    ///
    /// # Errors
    /// Something else.
    pub fn float_or(&self, name: &str, default: f32) -> Result<f32, Problem> {
        Ok(self.float(name)?.unwrap_or(default))
    }

    /// A text, if the attribute is there.
    ///
    /// # Errors
    /// Something else.
    pub fn text(&self, name: &str) -> Result<Option<&'a str>, Problem> {
        match self.get(name) {
            None => Ok(None),
            Some(Attribute::Text(value)) => Ok(Some(value)),
            Some(_) => Err(mistyped(name, "a text")),
        }
    }

    /// A text, or the operator's default.
    ///
    /// # Errors
    /// Something else.
    pub fn text_or(&self, name: &str, default: &'a str) -> Result<&'a str, Problem> {
        Ok(self.text(name)?.unwrap_or(default))
    }

    /// Integers, if the attribute is there.
    ///
    /// # Errors
    /// Something else.
    pub fn ints(&self, name: &str) -> Result<Option<&'a [i64]>, Problem> {
        match self.get(name) {
            None => Ok(None),
            Some(Attribute::Ints(value)) => Ok(Some(value)),
            Some(_) => Err(mistyped(name, "a list of integers")),
        }
    }

    /// Floats, if the attribute is there.
    ///
    /// # Errors
    /// Something else.
    pub fn floats(&self, name: &str) -> Result<Option<&'a [f32]>, Problem> {
        match self.get(name) {
            None => Ok(None),
            Some(Attribute::Floats(value)) => Ok(Some(value)),
            Some(_) => Err(mistyped(name, "a list of floats")),
        }
    }

    /// Texts, if the attribute is there.
    ///
    /// # Errors
    /// Something else.
    pub fn texts(&self, name: &str) -> Result<Option<&'a [String]>, Problem> {
        match self.get(name) {
            None => Ok(None),
            Some(Attribute::Texts(value)) => Ok(Some(value)),
            Some(_) => Err(mistyped(name, "a list of texts")),
        }
    }

    /// A tensor, if the attribute is there.
    ///
    /// # Errors
    /// Something else.
    pub fn tensor(&self, name: &str) -> Result<Option<&'a Tensor>, Problem> {
        match self.get(name) {
            None => Ok(None),
            Some(Attribute::Tensor(value)) => Ok(Some(value)),
            Some(_) => Err(mistyped(name, "a tensor")),
        }
    }

    /// A graph, if the attribute is there.
    ///
    /// # Errors
    /// Something else.
    pub fn graph(&self, name: &str) -> Result<Option<&'a Source>, Problem> {
        match self.get(name) {
            None => Ok(None),
            Some(Attribute::Graph(value)) => Ok(Some(value)),
            Some(_) => Err(mistyped(name, "a graph")),
        }
    }

    fn get(&self, name: &str) -> Option<&'a Attribute> {
        let (name, value) = self.all.get_key_value(name)?;
        self.read.borrow_mut().insert(name);
        Some(value)
    }
}

fn mistyped(name: &str, expected: &str) -> Problem {
    Problem::attribute(name, format!("expected {expected}"), "export the model again")
}
