use lockgate_package::EnvelopeError;

/// The kinds of failure that a module reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum ErrorCode {
    /// The request is not what the ABI says.
    MalformedRequest = 1,
    /// The loaded bytes are no Lockgate envelope, or a truncated one.
    MalformedEnvelope = 2,
    /// The envelope's content does not have the digest it carries.
    DigestMismatch = 3,
    /// The envelope, bundle, package or plan is of a newer format.
    UnsupportedVersion = 4,
    /// A package where a bundle belongs, or the reverse.
    WrongKind = 5,
    /// This flavour of the module lacks the plan's engine.
    UnsupportedPlan = 6,
    /// A request came before a successful load.
    NotLoaded = 7,
    /// The policy module holds a bundle.
    AlreadyLoaded = 8,
    /// The bundle has no such route.
    UnknownRoute = 9,
    /// A tensor's name, datatype or shape does not fit the model's signature.
    InvalidInput = 10,
    /// A memory or size limit.
    LimitExceeded = 11,
    /// No package was loaded under this handle.
    UnknownModel = 12,
    /// NaN for a model that does not accept missing values.
    MissingValue = 13,
    /// The envelope is intact but its header or sections make no sense.
    MalformedContent = 14,
    /// A defect of the module.
    Internal = 15,
    /// The bundle needs a unit list that was not loaded before it.
    MissingObject = 16,
}

impl ErrorCode {
    /// Every code, in the order of its number.
    pub const ALL: [Self; 16] = [
        Self::MalformedRequest,
        Self::MalformedEnvelope,
        Self::DigestMismatch,
        Self::UnsupportedVersion,
        Self::WrongKind,
        Self::UnsupportedPlan,
        Self::NotLoaded,
        Self::AlreadyLoaded,
        Self::UnknownRoute,
        Self::InvalidInput,
        Self::LimitExceeded,
        Self::UnknownModel,
        Self::MissingValue,
        Self::MalformedContent,
        Self::Internal,
        Self::MissingObject,
    ];

    /// The number in a response.
    pub fn number(self) -> u32 {
        self as u32
    }

    /// The code with this number.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.number() == number)
    }

    /// The name, `malformed_request`.
    pub fn name(self) -> &'static str {
        match self {
            Self::MalformedRequest => "malformed_request",
            Self::MalformedEnvelope => "malformed_envelope",
            Self::DigestMismatch => "digest_mismatch",
            Self::UnsupportedVersion => "unsupported_version",
            Self::WrongKind => "wrong_kind",
            Self::UnsupportedPlan => "unsupported_plan",
            Self::NotLoaded => "not_loaded",
            Self::AlreadyLoaded => "already_loaded",
            Self::UnknownRoute => "unknown_route",
            Self::InvalidInput => "invalid_input",
            Self::LimitExceeded => "limit_exceeded",
            Self::UnknownModel => "unknown_model",
            Self::MissingValue => "missing_value",
            Self::MalformedContent => "malformed_content",
            Self::Internal => "internal",
            Self::MissingObject => "missing_object",
        }
    }
}

/// Says which kind of failure an unreadable envelope is.
impl From<&EnvelopeError> for ErrorCode {
    fn from(error: &EnvelopeError) -> Self {
        match error {
            EnvelopeError::WrongKind { .. } => Self::WrongKind,
            EnvelopeError::NewerFormat { .. } => Self::UnsupportedVersion,
            EnvelopeError::DigestMismatch { .. } => Self::DigestMismatch,
            EnvelopeError::Malformed { .. } => Self::MalformedContent,
            _ => Self::MalformedEnvelope,
        }
    }
}

/// What a module reports instead of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The kind.
    pub code: ErrorCode,
    /// What happened, for people.
    pub message: String,
    /// What to do about it; may be empty.
    pub hint: String,
}

/// A message is not what the ABI says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{problem}, at byte {at}")]
pub struct Malformed {
    /// What is wrong.
    pub problem: &'static str,
    /// Where: counted from the start of the request, or of the memory for a response.
    pub at: usize,
}

/// A message would be larger than the ABI's 32-bit sizes allow, or than there is memory for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message is too large for the flat entry point or for the memory that is left")]
pub struct TooLarge;
