//! From causes to answers.
//!
//! Library errors arrive here as [`ApiError`]: a status, a stable code, a sentence that is safe to send, and, where the cause lies in the
//! server or a module, a detail that only the log gets. [`From<RuntimeError>`] is the one place that maps causes to
//! statuses.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lockgate_oip::ErrorMessage;
use lockgate_runtime::RuntimeError;

/// Why a request gets no answer.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    /// Stable, for programs; the label of the error metric.
    pub(crate) code: &'static str,
    message: String,
    hint: Option<String>,
    retry_after: Option<Duration>,
    detail: Option<String>,
}

/// What the middleware reads from an answer: the metric and the log line are made in one place.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    pub(crate) code: &'static str,
    /// What was sent, or what happened inside.
    pub(crate) detail: String,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), hint: None, retry_after: None, detail: None }
    }

    pub(crate) fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// The answer for a route that does not exist and for one that the caller may not ask.
    pub(crate) fn unknown_route(route: &str) -> Self {
        RuntimeError::UnknownRoute { route: route.to_owned() }.into()
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// For the log alone.
    pub(crate) fn detail(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }

    /// The answer, with the request's `id` where it is known.
    pub(crate) fn into_response_with(self, id: Option<String>) -> Response {
        let detail = self.detail.unwrap_or_else(|| self.message.clone());
        let problem = Problem { code: self.code, detail };
        let body = ErrorMessage { error: self.message, code: self.code.to_owned(), hint: self.hint, id };
        let mut response = (self.status, Json(body)).into_response();
        if let Some(after) = self.retry_after {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(problem);
        response
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.into_response_with(None)
    }
}

impl From<lockgate_oip::Error> for ApiError {
    fn from(error: lockgate_oip::Error) -> Self {
        let api = Self::bad_request(error.code(), error.to_string());
        match error.hint() {
            Some(hint) => api.hint(hint),
            None => api,
        }
    }
}

impl From<RuntimeError> for ApiError {
    fn from(error: RuntimeError) -> Self {
        use RuntimeError as E;
        let status = match &error {
            E::InvalidInput { .. }
            | E::MissingValue { .. }
            | E::LimitExceeded { .. }
            | E::AmbiguousVersion { .. }
            | E::OutputsDiffer { .. } => StatusCode::BAD_REQUEST,
            E::UnknownRoute { .. } | E::UnknownVersion { .. } => StatusCode::NOT_FOUND,
            E::VersionDisabled { .. } => StatusCode::CONFLICT,
            E::NotServedHere { .. } => StatusCode::NOT_IMPLEMENTED,
            E::Overloaded { .. } | E::ShuttingDown | E::NoBundle | E::Quarantined { .. } => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            E::DeadlineExceeded { .. } => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let detail = error.to_string();
        // What a module said when it failed may hold parts of other people's models: the caller gets a sentence of ours.
        let message = match &error {
            E::Trap { .. } => "the module failed on this request and was replaced".to_owned(),
            E::MemoryLimit { .. } => "this request needs more memory than the module may use".to_owned(),
            E::MalformedResponse { .. } => {
                "the module gave an answer that makes no sense and was replaced".to_owned()
            }
            _ if status == StatusCode::INTERNAL_SERVER_ERROR => {
                "the server failed on this request".to_owned()
            }
            _ => detail.clone(),
        };
        let retry_after = match &error {
            E::Overloaded { retry_after, .. } | E::Quarantined { retry_after, .. } => Some(*retry_after),
            E::ShuttingDown | E::NoBundle => Some(Duration::from_secs(1)),
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

    #[test]
    fn causes_have_their_status() {
        let check = |error: RuntimeError, status: u16, code: &str, message: &str| {
            let api = ApiError::from(error);
            assert_eq!((api.status.as_u16(), api.code, api.message.as_str()), (status, code, message));
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
            E::DeadlineExceeded { after: Duration::from_millis(7), stage: "waiting" },
            504,
            "deadline_exceeded",
            "no answer within 7 ms; the request was waiting",
        );
        let overloaded =
            ApiError::from(E::Overloaded { waiting: 9, retry_after: Duration::from_millis(1500) });
        let response = overloaded.into_response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["retry-after"], "2");
    }

    use RuntimeError as E;
}
