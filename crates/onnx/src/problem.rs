//! What can be wrong.

/// Why an operator cannot be made, or cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The operands of a request do not fit: an index outside of its tensor, shapes that do not go together.
    #[error("{0}")]
    Invalid(String),
    /// The node asks for what is not implemented.
    #[error("{message}")]
    Unsupported {
        /// What is not supported.
        message: String,
        /// The attribute that asks for it.
        attribute: Option<String>,
        /// What to do about it.
        hint: String,
    },
    /// More memory or more operations than a request may take.
    #[error("it would take {needed} {what}, at most {limit} are allowed")]
    Limit {
        /// `bytes of memory` or `operations`.
        what: &'static str,
        /// How much it would take, as far as was counted.
        needed: u64,
        /// How much is allowed.
        limit: u64,
    },
}

impl Problem {
    /// Operands that do not fit.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    /// What is not implemented, and what to do about it.
    pub fn unsupported(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Unsupported { message: message.into(), attribute: None, hint: hint.into() }
    }

    /// A value of an attribute that is not implemented or that makes no sense.
    pub fn attribute(name: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Unsupported { message: message.into(), attribute: Some(name.to_owned()), hint: hint.into() }
    }
}
