//! The automata of expressions, compiled before a node first runs.

use std::collections::BTreeMap;

use lockgate_onnx::expressions::{self, AUTOMATA, Expression, ExpressionError};
use lockgate_onnx::{Attribute, Node, Tensor};

use super::super::{ImportLimits, Refusal, onnx};

const REWRITE: &str = "write it in another way, or do this step before the request is sent";
const REWRITE_OR_RAISE: &str = "write it in another way, or raise the limit";

/// The automata of a model while it is imported.
#[derive(Default)]
pub(super) struct Automata {
    /// What became of expressions, by how they are written.
    known: BTreeMap<String, Result<Vec<u8>, ExpressionError>>,
    /// The bytes of all that nodes have.
    bytes: u64,
}

/// What is wrong with an expression.
struct Problem {
    message: String,
    hint: &'static str,
}

impl Automata {
    /// Gives a node of the plan, made of `node`, the automata of its expressions, and the nodes of graphs inside of it theirs.
    ///
    /// Refusals of expressions are given back, and their nodes left without: a node that cannot be made has them to blame, one that can
    /// does not run them, as in a branch that is never taken.
    pub(super) fn add(&mut self, node: &onnx::Node, made: &mut Node, limits: &ImportLimits) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        self.compile(made, limits, &mut |_, expression, problem| {
            let attribute = Some(expression.attribute.to_owned());
            refusals.push(Refusal { attribute, ..node.refusal(problem.message, problem.hint) });
        });
        for (name, attribute) in &mut made.attributes {
            self.inside(attribute, limits, &mut |inner, expression, problem| {
                let Problem { message, hint } = problem;
                let message = format!(
                    "node `{}` ({}): attribute `{}`: {message}",
                    inner.name, inner.operator, expression.attribute
                );
                refusals.push(Refusal { attribute: Some(name.clone()), ..node.refusal(message, hint) });
            });
        }
        refusals
    }

    fn inside(
        &mut self,
        attribute: &mut Attribute,
        limits: &ImportLimits,
        refuse: &mut dyn FnMut(&Node, Expression<'_>, Problem),
    ) {
        let Attribute::Graph(source) = attribute else { return };
        for node in &mut source.nodes {
            self.compile(node, limits, refuse);
            for attribute in node.attributes.values_mut() {
                self.inside(attribute, limits, refuse);
            }
        }
    }

    /// Compiles the expressions of one node.
    fn compile(
        &mut self,
        node: &mut Node,
        limits: &ImportLimits,
        refuse: &mut dyn FnMut(&Node, Expression<'_>, Problem),
    ) {
        let mut all = Vec::new();
        let mut is_whole = true;
        for expression in expressions::of(node) {
            match self.tables(expression.pattern, limits) {
                Ok(tables) => all.extend_from_slice(tables),
                Err(problem) => {
                    is_whole = false;
                    refuse(node, expression, problem);
                }
            }
        }
        if is_whole && !all.is_empty() {
            node.attributes.insert(AUTOMATA.to_owned(), Attribute::Tensor(Tensor::vector(all)));
        }
    }

    fn tables(&mut self, pattern: &str, limits: &ImportLimits) -> Result<&[u8], Problem> {
        let problem = |message: String, hint| Problem {
            message: format!("the expression `{}` cannot be used: {message}", shortened(pattern)),
            hint,
        };
        let compiled = self
            .known
            .entry(pattern.to_owned())
            .or_insert_with(|| expressions::compile(pattern, limits.automaton_bytes));
        let tables = compiled.as_ref().map_err(|error| match error {
            ExpressionError::TooLarge => problem(
                format!(
                    "{error}; the limit `automaton_bytes` is {}, and none has more than 65535 states",
                    limits.automaton_bytes
                ),
                REWRITE_OR_RAISE,
            ),
            error => problem(error.to_string(), REWRITE),
        })?;
        let bytes = u64::try_from(tables.len()).unwrap_or(u64::MAX).saturating_add(self.bytes);
        if bytes > limits.automata_bytes {
            let limit = limits.automata_bytes;
            return Err(problem(
                format!(
                    "the automata of all expressions would take {bytes} bytes; the limit `automata_bytes` is {limit}"
                ),
                REWRITE_OR_RAISE,
            ));
        }
        self.bytes = bytes;
        Ok(tables)
    }
}

/// The beginning of a text that may be of any length.
fn shortened(text: &str) -> String {
    const MOST: usize = 80;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
