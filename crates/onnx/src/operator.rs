//! The table of operators.

pub use crate::ops::{TREE_ENSEMBLE_CLASSIFIER, TREE_ENSEMBLE_REGRESSOR};
use crate::{Attributes, Meter, Problem, Tensor, ops};

/// A node, ready to run: operands to results. An omitted operand is `None`.
pub type Kernel = Box<dyn Fn(&[Option<&Tensor>], &mut Meter) -> Result<Vec<Tensor>, Problem> + Send + Sync>;

/// One operator of the table, for a range of operator sets. An operator whose meaning changed may have several entries.
#[derive(Debug, Clone, Copy)]
pub struct Operator {
    /// Its domain, `ai.onnx` or `ai.onnx.ml`.
    pub domain: &'static str,
    /// Its name, `Softmax`.
    pub name: &'static str,
    /// The oldest operator set whose form of it is understood.
    pub since: i64,
    /// The attributes that it has in any operator set; [`Build::attributes`] refuses those that its own does not have.
    pub attributes: &'static [&'static str],
    /// What is refused, and what to do about it; empty when nothing is.
    pub limits: &'static str,
    /// Makes the kernel of a node.
    pub make: fn(&Build<'_>) -> Result<Kernel, Problem>,
}

/// What a node says about itself, and what is known when it is made.
#[derive(Debug)]
pub struct Build<'a> {
    /// The version of the operator set.
    pub opset: i64,
    /// The attributes.
    pub attributes: Attributes<'a>,
    /// How many operands are written down, omitted ones included.
    pub inputs: usize,
    /// How many results are wanted.
    pub outputs: usize,
    /// The operands that are the same in every run; as many as there are operands.
    pub constants: &'a [Option<&'a Tensor>],
    /// What the constants of graphs inside of the node refer to.
    pub arrays: &'a [Tensor],
}

impl Build<'_> {
    /// The operand at `index`, if it is the same in every run.
    pub fn constant(&self, index: usize) -> Option<&Tensor> {
        self.constants.get(index).copied().flatten()
    }
}

/// The table, ordered by domain and name.
pub fn operators() -> impl Iterator<Item = &'static Operator> {
    ops::TABLES.iter().copied().flatten()
}

/// The entry for an operator of an operator set.
pub fn find(domain: &str, name: &str, opset: i64) -> Option<&'static Operator> {
    operators()
        .filter(|entry| entry.name == name && entry.domain == domain && entry.since <= opset)
        .max_by_key(|entry| entry.since)
}

/// Whether an operator draws random numbers, which nothing here can.
pub fn is_random(domain: &str, name: &str) -> bool {
    domain == "ai.onnx"
        && matches!(
            name,
            "Bernoulli"
                | "Multinomial"
                | "RandomNormal"
                | "RandomNormalLike"
                | "RandomUniform"
                | "RandomUniformLike"
        )
}

/// The operand at `index`, which the operator cannot do without.
///
/// # Errors
/// There is none.
pub fn required<'t>(operands: &[Option<&'t Tensor>], index: usize) -> Result<&'t Tensor, Problem> {
    optional(operands, index).ok_or_else(|| Problem::invalid(format!("operand {index} is missing")))
}

/// The operand at `index`, unless it is omitted.
pub fn optional<'t>(operands: &[Option<&'t Tensor>], index: usize) -> Option<&'t Tensor> {
    operands.get(index).copied().flatten()
}

/// An entry of `ai.onnx` of which nothing is refused.
pub(crate) const fn ai(
    name: &'static str,
    since: i64,
    attributes: &'static [&'static str],
    make: fn(&Build<'_>) -> Result<Kernel, Problem>,
) -> Operator {
    Operator { domain: "ai.onnx", name, since, attributes, limits: "", make }
}

impl Operator {
    /// The same entry in another domain.
    pub(crate) const fn of(self, domain: &'static str) -> Self {
        Self { domain, ..self }
    }

    /// The same entry, of which something is refused.
    pub(crate) const fn but(self, limits: &'static str) -> Self {
        Self { limits, ..self }
    }
}
