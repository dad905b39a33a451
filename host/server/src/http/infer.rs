//! Inference: a request in, its rows routed and predicted, an answer out that says what each row got.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::Response;
use lockgate_oip::{HEADER_LENGTH, InferResponse, decode_request, encode_response, request_id};
use lockgate_runtime::{Context, InferAnswer, InferRequest, RuntimeError};
use lockgate_shell::answer::{Provenance, select};
use lockgate_shell::{
    Caller, Contexts, HEADER_DECISION, Problem, contexts, contributions, header_length, header_timeout,
    parameter_timeout, versions,
};

use super::error::refusal;
use super::headers::RequestHeaders;
use super::identity::identify;
use super::models::ModelPath;
use super::{App, RouteLabel, body};
use crate::config::Config;

/// Bodies from this size on are read and written on a thread for long work, so that others' requests are not held up.
const LONG_WORK: usize = 256 << 10;

pub(super) async fn infer(
    State(app): State<Arc<App>>,
    path: ModelPath,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let mut request =
        Request { app: &app, path, headers, peer, started: Instant::now(), id: None, known: false };
    let result = request.answer(body).await;
    let label = RouteLabel { name: request.path.model, known: request.known };
    let mut response = result.unwrap_or_else(|problem| refusal(problem, request.id));
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
    async fn answer(&mut self, body: Body) -> Result<Response, Problem> {
        let settings = &self.app.config.settings;
        let caller = identify(&self.app.config, &self.headers, self.peer.ip())?;
        let forwarded = forwarded(&self.app.config, &caller, &self.headers);
        if self.app.draining.load(Ordering::Relaxed) {
            return Err(RuntimeError::ShuttingDown.into());
        }
        if self.path.version.is_some() && !settings.allow_pinned {
            return Err(Problem::pinning_not_allowed());
        }
        let timeout = header_timeout(&RequestHeaders(&self.headers))?
            .unwrap_or(settings.timeout)
            .min(settings.max_timeout);
        let bytes =
            body::read(&self.headers, body, settings.max_body.0, self.started + timeout, timeout).await?;
        let header_length = header_length(&RequestHeaders(&self.headers))?;
        let long = bytes.len() >= LONG_WORK;
        let decode = move || {
            decode_request(&bytes, header_length).map_err(|error| (error, request_id(&bytes, header_length)))
        };
        let mut message = offload(long, decode).await?.map_err(|(error, id)| {
            self.id = id;
            Problem::from(error)
        })?;
        self.id = message.id.take();
        let timeout = match parameter_timeout(message.parameters.get("timeout"))? {
            Some(asked) => timeout.min(asked),
            None => timeout,
        };

        let route = self.path.model.clone();
        let rows = message.inputs.first().and_then(|input| usize::try_from(*input.shape.first()?).ok());
        let headers = RequestHeaders(&self.headers);
        let Contexts { all: contexts, no_rows } =
            contexts(&settings.context_headers(), &headers, &caller, &message.parameters, rows)?;
        self.check_route(&caller, &contexts)?;
        if no_rows && self.path.version.is_none() {
            return Err(RuntimeError::no_context().into());
        }
        let request = InferRequest {
            route,
            contexts,
            pinned: self.path.version.clone(),
            inputs: std::mem::take(&mut message.inputs),
            contributions: contributions(&message.parameters)?,
            now_ms: None,
            deadline: Some(self.left(timeout)?),
        };
        let answer = self.app.runtime.infer_async(request).await?;
        self.count(&answer, rows.unwrap_or(0));

        if let Some(id) = &forwarded {
            tracing::info!(
                decision_id = id,
                route = self.path.model,
                version = self.path.version,
                "forwarded by an edge"
            );
        }
        let id = forwarded.unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
        let provenance = Provenance {
            decision_id: &id,
            pinned: answer.pinned,
            bundle: answer.bundle,
            policy_core: answer.core,
            served: &answer.served,
            out_of_range: &answer.out_of_range,
            caller: &caller,
        };
        let parameters = provenance.parameters();
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
            outputs: select(&message, answer.outputs)?,
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
    fn check_route(&mut self, caller: &Caller, contexts: &[Context]) -> Result<(), Problem> {
        let name = &self.path.model;
        let generation = self.app.runtime.generation();
        for context in contexts {
            super::models::visible(self.app, &generation, caller, name, context)?;
        }
        self.known = true;
        Ok(())
    }

    /// What is left of a timeout that began with the request.
    fn left(&self, timeout: Duration) -> Result<Duration, Problem> {
        timeout
            .checked_sub(self.started.elapsed())
            .filter(|left| !left.is_zero())
            .ok_or_else(|| RuntimeError::DeadlineExceeded { after: timeout, stage: "being read" }.into())
    }

    /// How a path would name the version that ran; `None` when rows were served by several.
    fn version_name(&self, answer: &InferAnswer) -> Option<String> {
        let generation = self.app.runtime.generation();
        versions::name_of_served(&answer.served, |tenant, user| {
            let route = generation.bundle()?.definition(&self.path.model, tenant, user)?;
            Some(route.variants())
        })
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

/// The id under which an edge decided, of a request that it forwards. The version that the path names is served whatever the header
/// says; the id is what both logs and records have in common. Where callers are identified at all, those are believed who may speak for
/// others.
fn forwarded(config: &Config, caller: &Caller, headers: &HeaderMap) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Decision {
        id: String,
    }
    let decision = headers.get(HEADER_DECISION)?;
    if config.identifies_callers() && !caller.forwards {
        let key = caller.key.as_deref();
        tracing::warn!(
            key,
            "a request says that it is forwarded, but its caller has no key with `forwards = true`"
        );
        return None;
    }
    let decision: Decision = serde_json::from_slice(decision.as_bytes()).ok()?;
    uuid::Uuid::try_parse(&decision.id).ok().map(|id| id.to_string())
}

/// Runs `work` here, or on a thread for long work.
pub(super) async fn offload<T: Send + 'static>(
    long: bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    if !long {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| RuntimeError::Internal { message: error.to_string() }.into())
}
