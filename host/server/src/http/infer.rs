//! Inference: a request in, its rows routed and predicted, an answer out that says what each row got.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use lockgate_oip::{
    HEADER_LENGTH, InferResponse, Parameter, Parameters, decode_request, encode_response, request_id,
};
use lockgate_package::Tensor;
use lockgate_runtime::{Context, InferAnswer, InferRequest, RuntimeError};

use super::context::contexts;
use super::error::ApiError;
use super::identity::{Caller, identify};
use super::models::ModelPath;
use super::served::parameters;
use super::{App, RouteLabel, body};
use crate::repository::versions;

const TIMEOUT_HEADER: &str = "x-request-timeout-ms";
/// Bodies from this size on are read and written on a thread for long work, so that others' requests are not held up.
const LONG_WORK: usize = 256 << 10;

pub(super) async fn infer(
    State(app): State<Arc<App>>,
    Path(path): Path<ModelPath>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let mut request =
        Request { app: &app, path, headers, peer, started: Instant::now(), id: None, known: false };
    let result = request.answer(body).await;
    let label = RouteLabel { name: request.path.model, known: request.known };
    let mut response = result.unwrap_or_else(|error| error.into_response_with(request.id));
    response.extensions_mut().insert(label);
    response
}

struct Request<'a> {
    app: &'a Arc<App>,
    path: ModelPath,
    headers: HeaderMap,
    peer: SocketAddr,
    started: Instant,
    /// The request's own id, as soon as it is known: errors carry it too.
    id: Option<String>,
    /// Whether the route exists and the caller may ask it.
    known: bool,
}

impl Request<'_> {
    async fn answer(&mut self, body: Body) -> Result<Response, ApiError> {
        let settings = &self.app.config.settings;
        let caller = identify(&self.app.config, &self.headers, self.peer.ip())?;
        if self.app.draining.load(Ordering::Relaxed) {
            return Err(RuntimeError::ShuttingDown.into());
        }
        if self.path.version.is_some() && !settings.allow_pinned {
            return Err(ApiError::new(
                StatusCode::FORBIDDEN,
                "pinning_not_allowed",
                "this server lets no request name a version",
            )
            .hint("leave the version out of the path: the policy chooses, and `variant` asks for one where it permits that"));
        }
        let timeout = self.header_timeout()?.unwrap_or(settings.timeout).min(settings.max_timeout);
        let bytes =
            body::read(&self.headers, body, settings.max_body.0, self.started + timeout, timeout).await?;
        let header_length = header_length(&self.headers)?;
        let long = bytes.len() >= LONG_WORK;
        let decode = move || {
            decode_request(&bytes, header_length).map_err(|error| (error, request_id(&bytes, header_length)))
        };
        let mut message = offload(long, decode).await?.map_err(|(error, id)| {
            self.id = id;
            ApiError::from(error)
        })?;
        self.id = message.id.take();
        let timeout = match parameter_timeout(message.parameters.get("timeout"))? {
            Some(asked) => timeout.min(asked),
            None => timeout,
        };

        let route = self.path.model.clone();
        let rows = message.inputs.first().and_then(|input| usize::try_from(*input.shape.first()?).ok());
        let contexts = contexts(settings, &self.headers, &caller, &message.parameters, rows)?;
        if contexts.is_empty() {
            // No row asks, but the caller does.
            let caller_alone =
                super::context::contexts(settings, &self.headers, &caller, &Parameters::default(), None)?;
            self.check_route(&caller, &caller_alone)?;
        }
        self.check_route(&caller, &contexts)?;
        let request = InferRequest {
            route,
            contexts,
            pinned: self.path.version.clone(),
            inputs: std::mem::take(&mut message.inputs),
            now_ms: None,
            deadline: Some(self.left(timeout)?),
        };
        let answer = self.app.runtime.infer_async(request).await?;
        self.count(&answer, rows.unwrap_or(0));

        let outputs = select(&message, &answer.outputs)?;
        let parameters = parameters(&answer, &caller, &uuid::Uuid::now_v7().to_string());
        let timings = format!(
            "queue;dur={}, decide;dur={}, predict;dur={}",
            super::millis(answer.timings.queue),
            super::millis(answer.timings.decide),
            super::millis(answer.timings.predict)
        );
        let response = InferResponse {
            model_name: self.path.model.clone(),
            model_version: self.version_name(&answer),
            id: self.id.clone(),
            parameters,
            outputs,
        };
        let size: usize = response.outputs.iter().map(|output| output.data.len()).sum();
        let body = offload(size >= LONG_WORK / 4, move || {
            encode_response(&response, |name| message.wants_binary(name))
        })
        .await??;
        let mut response = Response::new(Body::from(body.bytes));
        let headers = response.headers_mut();
        let content_type =
            if body.header_length.is_some() { "application/octet-stream" } else { "application/json" };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some(length) = body.header_length {
            headers.insert(HeaderName::from_static(HEADER_LENGTH), HeaderValue::from(length));
        }
        if let Ok(timings) = HeaderValue::try_from(timings) {
            headers.insert("server-timing", timings);
        }
        Ok(response)
    }

    /// Refuses routes that do not exist, and in the same words those that the caller may not ask.
    fn check_route(&mut self, caller: &Caller, contexts: &[Context]) -> Result<(), ApiError> {
        let name = &self.path.model;
        let generation = self.app.runtime.generation();
        for context in contexts {
            super::models::visible(self.app, &generation, caller, name, context)?;
        }
        self.known = true;
        Ok(())
    }

    fn header_timeout(&self) -> Result<Option<Duration>, ApiError> {
        let Some(value) = self.headers.get(TIMEOUT_HEADER) else { return Ok(None) };
        let millis =
            value.to_str().ok().and_then(|text| text.trim().parse::<u64>().ok()).filter(|millis| *millis > 0);
        millis.map(|millis| Some(Duration::from_millis(millis))).ok_or_else(|| {
            ApiError::bad_request(
                "invalid_header",
                format!("the header {TIMEOUT_HEADER} is not a number of milliseconds, 1 or more"),
            )
        })
    }

    /// What is left of a timeout that began with the request.
    fn left(&self, timeout: Duration) -> Result<Duration, ApiError> {
        timeout
            .checked_sub(self.started.elapsed())
            .filter(|left| !left.is_zero())
            .ok_or_else(|| RuntimeError::DeadlineExceeded { after: timeout, stage: "being read" }.into())
    }

    /// How a path would name the version that ran; `None` when rows were served by several.
    fn version_name(&self, answer: &InferAnswer) -> Option<String> {
        let (first, others) = answer.served.versions.split_first()?;
        // Two variants may share a version.
        if others.iter().any(|other| (&other.model, &other.version) != (&first.model, &first.version)) {
            return None;
        }
        let generation = self.app.runtime.generation();
        let why = answer.served.rows.first().and_then(|row| row.decision.as_ref());
        let (tenant, user) = why.map_or((None, None), |why| (why.tenant.as_deref(), why.user.as_deref()));
        let route = generation.bundle().and_then(|bundle| bundle.definition(&self.path.model, tenant, user));
        let all = route.map(|route| versions(&route)).unwrap_or_default();
        let found = all.into_iter().find(|one| one.model == first.model && one.version == first.version);
        Some(found.map_or_else(|| first.version.clone(), |one| one.name))
    }

    fn count(&self, answer: &InferAnswer, rows: usize) {
        let metrics = &self.app.metrics;
        let route = metrics.route_label(&self.path.model, true);
        metrics.inference(route, rows, answer.timings.queue, answer.timings.predict);
        for (index, version) in answer.served.versions.iter().enumerate() {
            let count = answer.served.rows.iter().filter(|row| row.version == index).count();
            metrics.decision(route, version.variant.as_deref().unwrap_or("pinned"), count);
        }
    }
}

/// The outputs that the caller asked for, in that order; all of them when it named none.
fn select(message: &lockgate_oip::InferRequest, outputs: &[Tensor]) -> Result<Vec<Tensor>, ApiError> {
    if message.outputs.is_empty() {
        return Ok(outputs.to_vec());
    }
    let find = |name: &str| {
        outputs.iter().find(|output| output.name == name).cloned().ok_or_else(|| {
            let names: Vec<String> = outputs.iter().map(|output| format!("`{}`", output.name)).collect();
            ApiError::bad_request(
                "unknown_output",
                format!("there is no output `{name}`; expected {}", names.join(" or ")),
            )
        })
    };
    message.outputs.iter().map(|requested| find(&requested.name)).collect()
}

/// The value of the header that says how long the JSON is.
fn header_length(headers: &HeaderMap) -> Result<Option<usize>, ApiError> {
    let Some(value) = headers.get(HEADER_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    length.map(Some).ok_or_else(|| {
        ApiError::bad_request(
            "invalid_binary_data",
            "the header Inference-Header-Content-Length is not a number of bytes",
        )
    })
}

/// The request parameter `timeout`, in microseconds as other servers of the protocol have it; 0 asks for the default.
fn parameter_timeout(parameter: Option<&Parameter>) -> Result<Option<Duration>, ApiError> {
    match parameter {
        None | Some(Parameter::Null | Parameter::Integer(0)) => Ok(None),
        Some(Parameter::Integer(micros)) if *micros > 0 => {
            Ok(Some(Duration::from_micros(micros.unsigned_abs())))
        }
        Some(other) => Err(ApiError::bad_request(
            "invalid_parameter",
            format!("parameter `timeout`: expected a number of microseconds, found {}", other.describe()),
        )),
    }
}

/// Runs `work` here, or on a thread for long work.
async fn offload<T: Send + 'static>(
    long: bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    if !long {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| RuntimeError::Internal { message: error.to_string() }.into())
}
