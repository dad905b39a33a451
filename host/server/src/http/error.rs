//! From a [`Problem`] to an answer. Which cause has which status, and what a caller is told of it, stands in `lockgate-shell`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use lockgate_shell::Problem;

/// The answer, with the request's `id` where it is known. The problem goes along for the metrics and the log, which are made in one place.
pub(crate) fn refusal(problem: Problem, id: Option<String>) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, Json(problem.message(id))).into_response();
    let headers = response.headers_mut();
    if let Some(seconds) = problem.retry_after_seconds() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response.extensions_mut().insert(problem);
    response
}
