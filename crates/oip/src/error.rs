/// Why a body is no inference message, or a message no body.
///
/// Every text is safe to show to whoever sent the body: it holds nothing but parts of that body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The body (or the part that should be) is not JSON.
    #[error("the body is not JSON: {message}")]
    NotJson {
        /// What the parser found, with line and column.
        message: String,
        /// How to repair it, where that is known.
        hint: Option<&'static str>,
    },
    /// Arrays or objects are nested too deeply.
    #[error("the JSON is nested deeper than {limit} levels at byte {offset}")]
    TooDeep {
        /// How many levels are read.
        limit: usize,
        /// Where the level beyond begins.
        offset: usize,
    },
    /// JSON, but not this message.
    #[error("the body is not an inference {message}: {problem}")]
    NotTheMessage {
        /// `request` or `response`.
        message: &'static str,
        /// What is missing or of another type, with line and column.
        problem: String,
    },
    /// The header with the length of the JSON does not fit the body.
    #[error(
        "the header Inference-Header-Content-Length says {header_length}, the body has {body_length} bytes"
    )]
    HeaderLength {
        /// What the header says.
        header_length: usize,
        /// How long the body is.
        body_length: usize,
    },
    /// Bytes follow the last tensor.
    #[error(
        "{count} bytes follow the last binary tensor; the sizes in `binary_data_size` do not add up to the body"
    )]
    BytesLeft {
        /// How many.
        count: usize,
    },
    /// A parameter is of a type that it cannot have.
    #[error("parameter `{name}`: expected {expected}, found {found}")]
    Parameter {
        /// The parameter's name.
        name: String,
        /// What it may be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// Something asks for an extension of the protocol that is not implemented.
    #[error("{at}: `{name}` asks for an extension that this server does not have")]
    UnsupportedExtension {
        /// Where it stands, `output \`label\``.
        at: String,
        /// The parameter's name.
        name: String,
    },
    /// A tensor's datatype, shape and data do not agree.
    #[error("tensor `{tensor}`: {problem}")]
    Tensor {
        /// The tensor's name.
        tensor: String,
        /// What was found and what was expected.
        problem: String,
        /// How to repair it, where that is known.
        hint: Option<&'static str>,
    },
}

impl Error {
    /// A stable name for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotJson { .. } => "not_json",
            Self::TooDeep { .. } => "too_deep",
            Self::NotTheMessage { .. } => "invalid_request",
            Self::HeaderLength { .. } | Self::BytesLeft { .. } => "invalid_binary_data",
            Self::Parameter { .. } => "invalid_parameter",
            Self::UnsupportedExtension { .. } => "unsupported_extension",
            Self::Tensor { .. } => "invalid_input",
        }
    }

    /// How to repair it, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotJson { hint, .. } | Self::Tensor { hint, .. } => *hint,
            Self::HeaderLength { .. } => {
                Some("the header counts the bytes of the JSON alone, at most the whole body")
            }
            _ => None,
        }
    }

    pub(crate) fn tensor(tensor: &str, problem: impl Into<String>) -> Self {
        Self::Tensor { tensor: tensor.to_owned(), problem: problem.into(), hint: None }
    }

    pub(crate) fn tensor_with_hint(tensor: &str, problem: impl Into<String>, hint: &'static str) -> Self {
        Self::Tensor { tensor: tensor.to_owned(), problem: problem.into(), hint: Some(hint) }
    }
}

/// At most 40 characters of what somebody sent, so that an error stays a line long.
pub(crate) fn excerpt(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
