//! The regular expressions of nodes, which run as automata that the plan holds.
//!
//! An expression is compiled once, when a model is packaged (feature `compile`); what runs it reads tables. An automaton follows all alternatives, so
//! that the longest match is found from where it begins, and takes one step per byte.

#[cfg(feature = "compile")]
mod re2;

use crate::{Attribute, Node};

/// The attribute of a plan's nodes that holds the automata of their expressions, in the order of [`of`], one behind the other.
pub const AUTOMATA: &str = "automata";

/// What a Tokenizer takes for no expression: every character is a token, a line's end too, as in onnxruntime. Plans that hold an automaton for
/// it leave lines' ends out.
pub const EVERY_CHARACTER: &str = ".";

/// An expression of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expression<'n> {
    /// The attribute that it is written in.
    pub attribute: &'static str,
    /// How it is written.
    pub pattern: &'n str,
}

/// The expressions of a node that must be compiled; none where attributes are not what the operator takes, which making its kernel finds.
pub fn of(node: &Node) -> Vec<Expression<'_>> {
    let text = |attribute: &'static str| match node.attributes.get(attribute) {
        Some(Attribute::Text(pattern)) => Some(Expression { attribute, pattern }),
        _ => None,
    };
    match (node.domain.as_str(), node.operator.as_str()) {
        ("ai.onnx", "RegexFullMatch") => {
            vec![text("pattern").unwrap_or(Expression { attribute: "pattern", pattern: "" })]
        }
        ("com.microsoft", "Tokenizer") => match node.attributes.get("separators") {
            Some(Attribute::Texts(separators)) if !separators.is_empty() => {
                // One empty separator is none: every character is a token.
                let is_none = matches!(separators.as_slice(), [only] if only.is_empty());
                let separator = |pattern| Expression { attribute: "separators", pattern };
                if is_none { Vec::new() } else { separators.iter().map(|one| separator(one)).collect() }
            }
            _ => {
                let is_one = |one: &Expression<'_>| !one.pattern.is_empty() && one.pattern != EVERY_CHARACTER;
                text("tokenexp").filter(is_one).into_iter().collect()
            }
        },
        _ => Vec::new(),
    }
}

/// Why an expression has no automaton.
#[cfg(feature = "compile")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExpressionError {
    /// It is wrong, or beyond what is understood.
    #[error("{0}")]
    Wrong(String),
    /// Its automaton would be larger than it may be.
    #[error("it needs too large an automaton")]
    TooLarge,
}

/// The automaton of an expression, in at most as many bytes. Equal languages give equal bytes.
///
/// # Errors
/// See [`ExpressionError`].
#[cfg(feature = "compile")]
pub fn compile(pattern: &str, bytes: usize) -> Result<Vec<u8>, ExpressionError> {
    let expression = re2::read(pattern).map_err(ExpressionError::Wrong)?;
    let automaton = lockgate_automaton::compile::longest(&expression, bytes);
    let tables = automaton.map(|automaton| automaton.to_bytes());
    tables.filter(|tables| tables.len() <= bytes).ok_or(ExpressionError::TooLarge)
}
