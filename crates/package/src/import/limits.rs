//! How large a model may be, and how large a file becomes when it is read: a byte of it can stand for hundreds in memory.

use super::ImportError;

/// How large a model may be. Errors call a limit by the name of its field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportLimits {
    /// Bytes of the ONNX file.
    pub file_bytes: usize,
    /// Bytes of memory that the file's content takes when it is read.
    pub decoded_bytes: u64,
    /// Nodes of the graph and of the graphs inside of nodes.
    pub nodes: usize,
    /// Bytes of the constants that are computed ahead, all together.
    pub folded_bytes: u64,
    /// Operations of computing them.
    pub folded_operations: u64,
    /// Bytes of the automaton of one expression. What it takes to make one follows from this: at most eight times as many.
    pub automaton_bytes: usize,
    /// Bytes of the automata of all expressions.
    pub automata_bytes: u64,
    /// Multiplications, comparisons and the like per row.
    pub operations_per_row: u64,
    /// Bytes of working memory per row.
    pub memory_per_row: u64,
}

impl Default for ImportLimits {
    fn default() -> Self {
        Self {
            file_bytes: 512 * 1024 * 1024,
            decoded_bytes: 2 * 1024 * 1024 * 1024,
            nodes: 100_000,
            folded_bytes: 512 * 1024 * 1024,
            folded_operations: 1 << 34,
            automaton_bytes: 1024 * 1024,
            automata_bytes: 16 * 1024 * 1024,
            operations_per_row: 10_000_000_000,
            memory_per_row: 256 * 1024 * 1024,
        }
    }
}

impl ImportLimits {
    /// The names of the limits.
    pub const NAMES: [&'static str; 9] = [
        "file_bytes",
        "decoded_bytes",
        "nodes",
        "folded_bytes",
        "folded_operations",
        "automaton_bytes",
        "automata_bytes",
        "operations_per_row",
        "memory_per_row",
    ];

    /// Changes the limit called `name`; whether there is one.
    pub fn set(&mut self, name: &str, limit: u64) -> bool {
        let length = usize::try_from(limit).unwrap_or(usize::MAX);
        match name {
            "file_bytes" => self.file_bytes = length,
            "decoded_bytes" => self.decoded_bytes = limit,
            "nodes" => self.nodes = length,
            "folded_bytes" => self.folded_bytes = limit,
            "folded_operations" => self.folded_operations = limit,
            "automaton_bytes" => self.automaton_bytes = length,
            "automata_bytes" => self.automata_bytes = limit,
            "operations_per_row" => self.operations_per_row = limit,
            "memory_per_row" => self.memory_per_row = limit,
            _ => return false,
        }
        true
    }

    /// The limit called `name`.
    pub fn get(&self, name: &str) -> Option<u64> {
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        Some(match name {
            "file_bytes" => number(self.file_bytes),
            "decoded_bytes" => self.decoded_bytes,
            "nodes" => number(self.nodes),
            "folded_bytes" => self.folded_bytes,
            "folded_operations" => self.folded_operations,
            "automaton_bytes" => number(self.automaton_bytes),
            "automata_bytes" => self.automata_bytes,
            "operations_per_row" => self.operations_per_row,
            "memory_per_row" => self.memory_per_row,
            _ => return None,
        })
    }

    /// Refuses a file by its length, before it is read.
    ///
    /// # Errors
    /// It is longer than `file_bytes`.
    pub fn check_file(&self, bytes: u64) -> Result<(), ImportError> {
        self.check("file_bytes", "the file's length in bytes", bytes)
    }

    /// Refuses more of something than the limit called `name` allows.
    pub(super) fn check(&self, name: &'static str, what: &str, found: u64) -> Result<(), ImportError> {
        match self.get(name) {
            Some(limit) if found > limit => {
                Err(ImportError::TooLarge { what: what.to_owned(), name, found, limit })
            }
            _ => Ok(()),
        }
    }
}

/// What a file becomes in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Weight {
    pub(super) bytes: u64,
    pub(super) nodes: u64,
}

/// The messages of the format that the importer reads.
#[derive(Debug, Clone, Copy)]
enum Message {
    Model,
    Function,
    Graph,
    Node,
    Attribute,
    Tensor,
    Value,
    Type,
    Map,
    TensorType,
    Shape,
    /// One that holds texts and numbers alone.
    Plain,
}

/// What a field holds.
enum Field {
    Message(Message),
    /// Integers of variable length, each of which takes a word.
    Integers,
    /// As many bytes as in the file.
    Bytes,
    /// Nothing that is kept.
    Ignored,
}

/// The most bytes of any message's fields, with the room that a growing list leaves free.
const MESSAGE: u64 = 512;
/// The same of a text or a number.
const ENTRY: u64 = 48;
/// As deep as the decoder goes.
const DEEPEST: u32 = 100;

fn field(message: Message, number: u64) -> Field {
    match (message, number) {
        (Message::Model, 7) | (Message::Attribute, 6) => Field::Message(Message::Graph),
        (Message::Model, 8) | (Message::Function, 9) | (Message::Tensor, 3 | 13) | (Message::Shape, 1) => {
            Field::Message(Message::Plain)
        }
        (Message::Model, 25) => Field::Message(Message::Function),
        (Message::Graph, 1) | (Message::Function, 7) => Field::Message(Message::Node),
        (Message::Graph, 5) | (Message::Attribute, 5) => Field::Message(Message::Tensor),
        (Message::Graph, 11 | 12) => Field::Message(Message::Value),
        (Message::Graph, 15) => Field::Message(Message::Plain),
        (Message::Node, 5) | (Message::Function, 11) => Field::Message(Message::Attribute),
        (Message::Attribute, 8) | (Message::Tensor, 1 | 5 | 7 | 11) => Field::Integers,
        (Message::Value, 2) | (Message::Map, 2) => Field::Message(Message::Type),
        (Message::Type, 5) => Field::Message(Message::Map),
        (Message::Type, 1) => Field::Message(Message::TensorType),
        (Message::TensorType, 2) => Field::Message(Message::Shape),
        (Message::Model, 2 | 3)
        | (Message::Function, 1 | 4..=6 | 10 | 13)
        | (Message::Graph, 2)
        | (Message::Node, 1..=8)
        | (Message::Attribute, 1..=9 | 21)
        | (Message::Tensor, 1..=14)
        | (Message::Value, 1)
        | (Message::Plain, _) => Field::Bytes,
        _ => Field::Ignored,
    }
}

/// Weighs a file without decoding it. Of bytes that are no messages, what stands before the damage is weighed.
pub(super) fn weigh(file: &[u8]) -> Weight {
    let mut weight = Weight::default();
    add(Message::Model, file, 0, &mut weight);
    weight
}

fn add(message: Message, mut bytes: &[u8], depth: u32, weight: &mut Weight) {
    if depth > DEEPEST {
        return;
    }
    while let Some((key, after)) = super::file::varint(bytes) {
        let kept = field(message, key >> 3);
        let more = |weight: &mut Weight, bytes: u64| weight.bytes = weight.bytes.saturating_add(bytes);
        let rest = match key & 7 {
            0 => super::file::varint(after).map(|(_, rest)| rest),
            1 => after.get(8..),
            5 => after.get(4..),
            2 => {
                let content = super::file::varint(after).and_then(|(len, rest)| {
                    let len = usize::try_from(len).ok()?;
                    Some((rest.get(..len)?, rest.get(len..)?))
                });
                let Some((content, rest)) = content else { return };
                match kept {
                    Field::Message(inner) => {
                        more(weight, MESSAGE);
                        if matches!(inner, Message::Node) {
                            weight.nodes = weight.nodes.saturating_add(1);
                        }
                        add(inner, content, depth + 1, weight);
                    }
                    Field::Integers => {
                        let count = content.iter().filter(|byte| **byte < 0x80).count();
                        more(weight, u64::try_from(count).unwrap_or(u64::MAX).saturating_mul(8));
                    }
                    Field::Bytes => {
                        more(weight, u64::try_from(content.len()).unwrap_or(u64::MAX).saturating_add(ENTRY));
                    }
                    Field::Ignored => {}
                }
                Some(rest)
            }
            _ => return,
        };
        if key & 7 != 2 && !matches!(kept, Field::Ignored) {
            more(weight, ENTRY);
        }
        let Some(rest) = rest else { return };
        bytes = rest;
    }
}
