//! The HTTP side: routes, what surrounds every request, and the shared state.

mod body;
mod error;
mod headers;
mod health;
mod identity;
mod infer;
mod listen;
mod models;
mod records;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, Uri};
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::{get, post};
use lockgate_package::Digest;
use lockgate_runtime::Runtime;
use lockgate_shell::Problem;
use uuid::Uuid;

use crate::config::Config;
use crate::metrics::Metrics;
use crate::records::Records;
use crate::repository::Repository;
use error::refusal;
pub(crate) use listen::serve;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A caller's own request id is kept if it is no longer than this and plain ASCII.
const REQUEST_ID_LENGTH: usize = 128;

/// What every request needs.
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) repository: Repository,
    pub(crate) metrics: Metrics,
    /// Where other shells' records go, if this server keeps any.
    pub(crate) records: Option<Records>,
    pub(crate) started: Instant,
    pub(crate) draining: AtomicBool,
}

impl App {
    /// Whether requests can be answered: something is installed, and the server is not about to end.
    pub(crate) fn is_ready(&self) -> bool {
        !self.draining.load(Ordering::Relaxed) && self.runtime.generation().bundle().is_some()
    }

    /// The packages that are refused for a while.
    fn quarantined(&self) -> Vec<Digest> {
        let models = self.runtime.status().models;
        models.into_iter().filter(|model| model.quarantined.is_some()).map(|model| model.package).collect()
    }
}

/// The route that a request is about, for metrics and logs. Handlers put it into their answers.
#[derive(Clone)]
struct RouteLabel {
    name: String,
    known: bool,
}

/// All endpoints.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/health", get(health::health))
        .route("/metrics", get(health::metrics))
        .route("/v1/records", post(records::receive))
        .route("/v2", get(models::server))
        .route("/v2/", get(models::server))
        .route("/v2/health/live", get(health::live))
        .route("/v2/health/ready", get(health::ready))
        .route("/v2/models/{model}", get(models::metadata))
        .route("/v2/models/{model}/ready", get(models::ready))
        .route("/v2/models/{model}/infer", post(infer::infer))
        .route("/v2/models/{model}/versions/{version}", get(models::metadata))
        .route("/v2/models/{model}/versions/{version}/ready", get(models::ready))
        .route("/v2/models/{model}/versions/{version}/infer", post(infer::infer))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&app), observe))
        .with_state(app)
}

async fn not_found(uri: Uri) -> Response {
    refusal(Problem::not_found(uri.path()), None)
}

async fn method_not_allowed(method: Method, uri: Uri) -> Response {
    let path = uri.path();
    let taken = if path.ends_with("/infer") || path == "/v1/records" { "POST" } else { "GET" };
    refusal(Problem::method_not_allowed(path, method.as_str(), taken), None)
}

/// Counts, times and logs every request, and gives it an id.
async fn observe(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let id = request_id(&request);
    let endpoint = endpoint(request.extensions().get());
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    app.metrics.in_flight.inc();
    let in_flight = InFlight(&app.metrics);
    let mut response = next.run(request).await;
    drop(in_flight);

    let took = started.elapsed();
    let status = response.status();
    let problem = response.extensions().get::<Problem>();
    let label = response.extensions().get::<RouteLabel>();
    let route = label.map_or("", |label| app.metrics.route_label(&label.name, label.known));
    app.metrics.request(endpoint, route, status.as_u16(), problem.map(|problem| problem.code), took);
    let status = status.as_u16();
    let duration_ms = millis(took);
    let route = label.filter(|label| label.known).map(|label| label.name.as_str());
    match problem {
        Some(problem) if status >= 500 => tracing::error!(
            request_id = id, %peer, %method, path, status, duration_ms, route,
            code = problem.code, detail = problem.for_log(), "request failed"
        ),
        Some(problem) => tracing::info!(
            request_id = id, %peer, %method, path, status, duration_ms, route,
            code = problem.code, detail = problem.for_log(), "request refused"
        ),
        None if matches!(endpoint, "health" | "metrics" | "live" | "ready") => tracing::debug!(
            request_id = id, %peer, %method, path, status, duration_ms, "request"
        ),
        None => tracing::info!(
            request_id = id, %peer, %method, path, status, duration_ms, route, "request"
        ),
    }
    if let Ok(id) = HeaderValue::try_from(id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// Counts a request down also when its caller has gone and it is dropped on the way.
struct InFlight<'a>(&'a Metrics);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.dec();
    }
}

fn request_id(request: &Request) -> String {
    request
        .headers()
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|id| !id.is_empty() && id.len() <= REQUEST_ID_LENGTH)
        .map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

/// The endpoint's name in metrics.
fn endpoint(path: Option<&axum::extract::MatchedPath>) -> &'static str {
    match path.map(axum::extract::MatchedPath::as_str) {
        Some("/health") => "health",
        Some("/metrics") => "metrics",
        Some("/v1/records") => "records",
        Some("/v2" | "/v2/") => "server_metadata",
        Some("/v2/health/live") => "live",
        Some("/v2/health/ready") => "ready",
        Some(path) if path.ends_with("/infer") => "infer",
        Some(path) if path.ends_with("/ready") => "model_ready",
        Some(path) if path.starts_with("/v2/models/") => "model_metadata",
        _ => "none",
    }
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
