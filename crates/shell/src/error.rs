//! Why a request gets no answer, and the status and body that say so.
//!
//! [`RequestError`] is made where something fails: in the runtime, in the state machine of an edge. [`Problem`] is what a caller is told: a
//! status, a stable code, a sentence that is safe to send and, for the log alone, the detail. `From<RequestError>` is the one place that
//! maps causes to statuses.

use std::time::Duration;

use lockgate_abi::{ErrorCode, Failure, Malformed};
use lockgate_oip::ErrorMessage;
use lockgate_package::Digest;

/// Why one request got no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Too many requests are waiting.
    #[error("{waiting} requests are waiting already; try again in {} s", retry_after.as_secs().max(1))]
    Overloaded {
        /// How many wait.
        waiting: usize,
        /// When it makes sense to come back.
        retry_after: Duration,
    },
    /// The request's time ran out, waiting or running.
    #[error("no answer within {} ms; the request was {stage}", after.as_millis())]
    DeadlineExceeded {
        /// The request's time.
        after: Duration,
        /// `waiting`, `deciding` or `predicting`.
        stage: &'static str,
    },
    /// The runtime is being dropped.
    #[error("the runtime is shutting down")]
    ShuttingDown,
    /// No bundle is installed, so there are no routes.
    #[error("no policy bundle is installed")]
    NoBundle,
    /// The bundle has no such route.
    #[error("unknown route `{route}`")]
    UnknownRoute {
        /// What was asked for.
        route: String,
    },
    /// No variant of the route has the pinned version.
    #[error("route `{route}` has no version `{version}`; it has {}", available.join(", "))]
    UnknownVersion {
        /// The route.
        route: String,
        /// What was asked for.
        version: String,
        /// `model@version` of each.
        available: Vec<String>,
    },
    /// The policy has switched the pinned version off.
    #[error("version `{version}` of route `{route}` is disabled")]
    VersionDisabled {
        /// The route.
        route: String,
        /// `model@version`.
        version: String,
    },
    /// Several models of the route have the pinned version.
    #[error("version `{version}` of route `{route}` is ambiguous; ask for one of {}", candidates.join(", "))]
    AmbiguousVersion {
        /// The route.
        route: String,
        /// What was asked for.
        version: String,
        /// `model@version` of each.
        candidates: Vec<String>,
    },
    /// No package with this digest is installed.
    #[error("no package {package} is installed")]
    UnknownPackage {
        /// What was asked for.
        package: Digest,
    },
    /// The inputs or contexts do not line up, or a tensor is not what the model takes.
    #[error("{message}")]
    InvalidInput {
        /// What, and what was expected.
        message: String,
        /// What to do about it; may be empty.
        hint: String,
    },
    /// NaN for a model that does not accept missing values.
    #[error("{message}")]
    MissingValue {
        /// Where it is.
        message: String,
        /// What to do about it; may be empty.
        hint: String,
    },
    /// The request is beyond a limit that the module announced.
    #[error("{message}")]
    LimitExceeded {
        /// Which limit.
        message: String,
        /// What to do about it; may be empty.
        hint: String,
    },
    /// The version runs elsewhere.
    #[error("{model}@{version} is placed on `{placement}`, which this runtime does not serve")]
    NotServedHere {
        /// The model.
        model: String,
        /// Its version.
        version: String,
        /// Its placement.
        placement: &'static str,
    },
    /// The versions that serve the rows of one request give outputs that cannot be merged.
    #[error("the rows of this request are served by versions whose outputs differ: {problem}")]
    OutputsDiffer {
        /// Which, and how.
        problem: String,
    },
    /// The package failed too often and is refused for a while.
    #[error("{model}@{version} failed repeatedly and is quarantined for another {} s", retry_after.as_secs().max(1))]
    Quarantined {
        /// The model.
        model: String,
        /// Its version.
        version: String,
        /// When it will be tried again.
        retry_after: Duration,
    },
    /// The guest trapped.
    #[error("the {module} module trapped: {message}")]
    Trap {
        /// `policy`, or the inference flavour and the package.
        module: String,
        /// What wasmtime said.
        message: String,
    },
    /// The guest wanted more memory than it may have, and gave up.
    #[error("the {module} module wanted more than its {} MiB of memory", limit >> 20)]
    MemoryLimit {
        /// `policy`, or the inference flavour and the package.
        module: String,
        /// The cap in bytes.
        limit: usize,
    },
    /// The guest's response is not what the ABI says.
    #[error("the {module} module gave a malformed response: {problem}")]
    MalformedResponse {
        /// `policy`, or the inference flavour and the package.
        module: String,
        /// What is wrong with it.
        problem: Malformed,
    },
    /// The guest reported an error that a request should not cause.
    #[error("the {module} module reported `{}`: {message}", code.name())]
    Core {
        /// `policy`, or the inference flavour and the package.
        module: String,
        /// The kind.
        code: ErrorCode,
        /// What it said.
        message: String,
    },
    /// The origin that runs the version gave no answer that can be used.
    #[error("{model}@{version} runs at the origin, which {problem}")]
    Origin {
        /// The model.
        model: String,
        /// Its version.
        version: String,
        /// What it did instead.
        problem: String,
    },
    /// A defect of the runtime.
    #[error("a defect of the runtime: {message}")]
    Internal {
        /// What happened.
        message: String,
    },
}

impl RequestError {
    /// What a failure that a module reports means to the caller.
    pub fn reported(module: &str, failure: Failure) -> Self {
        let Failure { code, message, hint } = failure;
        match code {
            ErrorCode::InvalidInput => Self::InvalidInput { message, hint },
            ErrorCode::MissingValue => Self::MissingValue { message, hint },
            ErrorCode::LimitExceeded => Self::LimitExceeded { message, hint },
            code => Self::Core { module: module.to_owned(), code, message },
        }
    }

    /// A request for nobody.
    pub fn no_context() -> Self {
        Self::InvalidInput {
            message: "the request has no context".to_owned(),
            hint: "send one context, which may be empty, or one per row".to_owned(),
        }
    }

    /// A pinned version for rows that see the route defined in different ways.
    pub fn definitions_differ() -> Self {
        Self::InvalidInput {
            message: "the rows' contexts see different definitions of the route".to_owned(),
            hint: "pin a version for one tenant or user at a time".to_owned(),
        }
    }

    /// A request that a module has no room for.
    pub fn no_room(hint: &str) -> Self {
        Self::LimitExceeded {
            message: "the module has not enough memory for this request".to_owned(),
            hint: hint.to_owned(),
        }
    }

    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Overloaded { .. } => "overloaded",
            Self::DeadlineExceeded { .. } => "deadline_exceeded",
            Self::ShuttingDown => "shutting_down",
            Self::NoBundle => "no_bundle",
            Self::UnknownRoute { .. } => "unknown_route",
            Self::UnknownVersion { .. } => "unknown_version",
            Self::VersionDisabled { .. } => "version_disabled",
            Self::AmbiguousVersion { .. } => "ambiguous_version",
            Self::UnknownPackage { .. } => "unknown_package",
            Self::InvalidInput { .. } => "invalid_input",
            Self::MissingValue { .. } => "missing_value",
            Self::LimitExceeded { .. } => "limit_exceeded",
            Self::NotServedHere { .. } => "not_served_here",
            Self::OutputsDiffer { .. } => "outputs_differ",
            Self::Quarantined { .. } => "quarantined",
            Self::Trap { .. } => "trap",
            Self::MemoryLimit { .. } => "memory_limit",
            Self::MalformedResponse { .. } => "malformed_response",
            Self::Core { .. } => "core_error",
            Self::Origin { .. } => "origin_failed",
            Self::Internal { .. } => "internal",
        }
    }

    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<&str> {
        let hint = match self {
            Self::InvalidInput { hint, .. }
            | Self::MissingValue { hint, .. }
            | Self::LimitExceeded { hint, .. } => hint,
            Self::OutputsDiffer { .. } => {
                "let the variants of a route share the names, datatypes and shapes of their outputs, or send one row per request"
            }
            _ => return None,
        };
        (!hint.is_empty()).then_some(hint)
    }

    /// Whether a guest misbehaved, so that its instance was replaced.
    pub fn is_fault(&self) -> bool {
        matches!(self, Self::Trap { .. } | Self::MemoryLimit { .. } | Self::MalformedResponse { .. })
    }
}

/// What a caller is told instead of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// Stable, for programs.
    pub code: &'static str,
    /// A sentence that is safe to send.
    pub message: String,
    /// How to repair it, where that is known.
    pub hint: Option<String>,
    /// When to come back.
    pub retry_after: Option<Duration>,
    detail: Option<String>,
}

impl Problem {
    /// A problem without a hint.
    pub fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), hint: None, retry_after: None, detail: None }
    }

    /// The caller's mistake.
    pub fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(400, code, message)
    }

    /// A caller that is not let in.
    pub fn unauthorized(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(401, code, message)
    }

    /// The answer for a route that does not exist and for one that the caller may not ask.
    pub fn unknown_route(route: &str) -> Self {
        RequestError::UnknownRoute { route: route.to_owned() }.into()
    }

    /// A path that names nothing.
    pub fn not_found(path: &str) -> Self {
        Self::new(404, "not_found", format!("there is nothing at {path}"))
            .hint("the Open Inference Protocol lives under /v2; see also /health")
    }

    /// A path that is no text once its escapes are read.
    pub fn invalid_path() -> Self {
        Self::bad_request("invalid_path", "the path is not UTF-8 once its escapes are read")
    }

    /// A path that takes another method.
    pub fn method_not_allowed(path: &str, method: &str, taken: &str) -> Self {
        Self::new(405, "method_not_allowed", format!("{path} does not take {method}"))
            .hint(format!("send a {taken} request"))
    }

    /// A request that names a version where none may.
    pub fn pinning_not_allowed() -> Self {
        Self::new(403, "pinning_not_allowed", "this server lets no request name a version").hint(
            "leave the version out of the path: the policy chooses, and `variant` asks for one where it permits that",
        )
    }

    /// A body beyond `limit` bytes.
    pub fn body_too_large(limit: usize) -> Self {
        Self::new(413, "body_too_large", format!("the body is larger than {limit} bytes"))
            .hint("send fewer rows per request, or raise `max_body`")
    }

    /// A compressed body.
    pub fn unsupported_encoding(encoding: &[u8]) -> Self {
        let encoding = String::from_utf8_lossy(encoding);
        Self::new(415, "unsupported_encoding", format!("the body is compressed with `{encoding}`"))
            .hint("send the body without compression")
    }

    /// How to repair it.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// For the log alone.
    #[must_use]
    pub fn detail(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }

    /// What the log says: the detail, or what was sent.
    pub fn for_log(&self) -> &str {
        self.detail.as_deref().unwrap_or(&self.message)
    }

    /// The body, with the request's `id` where it is known.
    pub fn message(&self, id: Option<String>) -> ErrorMessage {
        ErrorMessage { error: self.message.clone(), code: self.code.to_owned(), hint: self.hint.clone(), id }
    }

    /// The value of the header `Retry-After`: whole seconds, one at least.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        let after = self.retry_after?;
        Some((after.as_secs() + u64::from(after.subsec_nanos() > 0)).max(1))
    }
}

impl From<lockgate_oip::Error> for Problem {
    fn from(error: lockgate_oip::Error) -> Self {
        let problem = Self::bad_request(error.code(), error.to_string());
        match error.hint() {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    }
}

impl From<RequestError> for Problem {
    fn from(error: RequestError) -> Self {
        use RequestError as E;
        let status = match &error {
            E::InvalidInput { .. }
            | E::MissingValue { .. }
            | E::LimitExceeded { .. }
            | E::AmbiguousVersion { .. }
            | E::OutputsDiffer { .. } => 400,
            E::UnknownRoute { .. } | E::UnknownVersion { .. } => 404,
            E::VersionDisabled { .. } => 409,
            E::NotServedHere { .. } => 501,
            E::Origin { .. } => 502,
            E::Overloaded { .. } | E::ShuttingDown | E::NoBundle | E::Quarantined { .. } => 503,
            E::DeadlineExceeded { .. } => 504,
            E::UnknownPackage { .. }
            | E::Trap { .. }
            | E::MemoryLimit { .. }
            | E::MalformedResponse { .. }
            | E::Core { .. }
            | E::Internal { .. } => 500,
        };
        let detail = error.to_string();
        // What a module said when it failed may hold parts of other people's models: the caller gets a sentence of ours.
        let message = match &error {
            E::Trap { .. } => "the module failed on this request and was replaced".to_owned(),
            E::MemoryLimit { .. } => "this request needs more memory than the module may use".to_owned(),
            E::MalformedResponse { .. } => {
                "the module gave an answer that makes no sense and was replaced".to_owned()
            }
            // Nor is it told where the origin is.
            E::Origin { model, version, .. } => {
                format!("{model}@{version} runs elsewhere, and gave no answer there")
            }
            _ if status == 500 => "the server failed on this request".to_owned(),
            _ => detail.clone(),
        };
        let retry_after = match &error {
            E::Overloaded { retry_after, .. } | E::Quarantined { retry_after, .. } => Some(*retry_after),
            E::ShuttingDown | E::NoBundle | E::Origin { .. } => Some(Duration::from_secs(1)),
            _ => None,
        };
        Self {
            status,
            code: error.code(),
            message,
            hint: error.hint().map(str::to_owned),
            retry_after,
            detail: Some(detail),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use RequestError as E;

    #[test]
    fn causes_have_their_status() {
        let check = |error: RequestError, status: u16, code: &str, message: &str| {
            let problem = Problem::from(error);
            assert_eq!((problem.status, problem.code, problem.message.as_str()), (status, code, message));
        };
        let text = || "m".to_owned();
        check(E::UnknownRoute { route: text() }, 404, "unknown_route", "unknown route `m`");
        check(
            E::AmbiguousVersion {
                route: text(),
                version: "1.0.0".to_owned(),
                candidates: vec!["a@1.0.0".to_owned(), "b@1.0.0".to_owned()],
            },
            400,
            "ambiguous_version",
            "version `1.0.0` of route `m` is ambiguous; ask for one of a@1.0.0, b@1.0.0",
        );
        check(
            E::VersionDisabled { route: text(), version: "a@1.0.0".to_owned() },
            409,
            "version_disabled",
            "version `a@1.0.0` of route `m` is disabled",
        );
        check(
            E::Trap { module: text(), message: "secret".to_owned() },
            500,
            "trap",
            "the module failed on this request and was replaced",
        );
        check(E::Internal { message: text() }, 500, "internal", "the server failed on this request");
        check(
            E::Origin { model: text(), version: "1.0.0".to_owned(), problem: "secret".to_owned() },
            502,
            "origin_failed",
            "m@1.0.0 runs elsewhere, and gave no answer there",
        );
        check(
            E::DeadlineExceeded { after: Duration::from_millis(7), stage: "waiting" },
            504,
            "deadline_exceeded",
            "no answer within 7 ms; the request was waiting",
        );
        let overloaded =
            Problem::from(E::Overloaded { waiting: 9, retry_after: Duration::from_millis(1500) });
        assert_eq!((overloaded.status, overloaded.retry_after_seconds()), (503, Some(2)));
    }
}
