//! How the server is, for people, orchestrators and Prometheus.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use lockgate_oip::{ServerLive, ServerReady};
use lockgate_package::Digest;
use lockgate_shell::Problem;
use serde::Serialize;

use super::error::refusal;
use super::{App, millis};

/// How well something is; the worst part decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Health {
    Healthy,
    /// It serves, but somebody should look.
    Degraded,
    /// It does not serve.
    Unhealthy,
}

#[derive(Serialize)]
struct Report {
    status: Health,
    version: &'static str,
    uptime_seconds: f64,
    draining: bool,
    core: Core,
    parts: Parts,
}

#[derive(Serialize)]
struct Core {
    policy: Digest,
    tabular: Digest,
    graph: Option<Digest>,
}

#[derive(Serialize)]
struct Parts {
    policy: Policy,
    packages: Packages,
    runtime: RuntimePart,
    #[serde(skip_serializing_if = "Option::is_none")]
    records: Option<RecordsPart>,
}

#[derive(Serialize)]
struct Policy {
    status: Health,
    version: Option<u64>,
    digest: Option<Digest>,
    routes: usize,
    /// Loading the bundle into the core.
    load_ms: Option<f64>,
    last_load: Option<LastLoad>,
}

#[derive(Serialize)]
struct LastLoad {
    /// Reading, compiling and installing the policy with all packages.
    took_ms: f64,
    error: Option<String>,
    /// A stable word for the error, where there is one.
    code: Option<&'static str>,
}

#[derive(Serialize)]
struct Packages {
    status: Health,
    loaded: usize,
    models: Vec<Model>,
}

#[derive(Serialize)]
struct Model {
    model: String,
    version: String,
    digest: Digest,
    engine: lockgate_package::Engine,
    status: &'static str,
    bytes: usize,
    /// Reading and checking the file.
    read_ms: Option<f64>,
    /// Loading it into the core.
    load_ms: f64,
    faults: u64,
    quarantined_for_ms: Option<f64>,
}

#[derive(Serialize)]
struct RuntimePart {
    status: Health,
    workers: usize,
    busy: usize,
    waiting: usize,
    queue: usize,
}

#[derive(Serialize)]
struct RecordsPart {
    status: Health,
    /// All files together.
    bytes: u64,
    /// Whether their limit is reached.
    full: bool,
    /// Why the latest write failed, if it did.
    error: Option<String>,
}

pub(super) async fn live() -> Json<ServerLive> {
    Json(ServerLive { live: true })
}

pub(super) async fn ready(State(app): State<Arc<App>>) -> Response {
    let ready = app.is_ready();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(ServerReady { ready })).into_response()
}

pub(super) async fn health(State(app): State<Arc<App>>) -> Response {
    let report = report(&app);
    let status = match report.status {
        Health::Healthy | Health::Degraded => StatusCode::OK,
        Health::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(report)).into_response()
}

fn report(app: &App) -> Report {
    let status = app.runtime.status();
    let last = app.repository.last_load();
    let degraded_if = |condition| if condition { Health::Degraded } else { Health::Healthy };

    let policy = Policy {
        status: match &status.bundle {
            None => Health::Unhealthy,
            Some(_) => degraded_if(last.as_ref().is_some_and(|last| last.error.is_some())),
        },
        version: status.bundle.map(|bundle| bundle.id.version),
        digest: status.bundle.map(|bundle| bundle.id.digest),
        routes: status.bundle.map_or(0, |bundle| bundle.routes),
        load_ms: status.bundle.map(|bundle| millis(bundle.load)),
        last_load: last.as_ref().map(|last| LastLoad {
            took_ms: millis(last.took),
            error: last.error.clone(),
            code: last.code,
        }),
    };
    let models: Vec<Model> = status
        .models
        .into_iter()
        .map(|model| Model {
            status: if model.quarantined.is_some() { "quarantined" } else { "loaded" },
            read_ms: last.as_ref().and_then(|last| last.reads.get(&model.package)).copied().map(millis),
            load_ms: millis(model.load),
            quarantined_for_ms: model.quarantined.map(millis),
            model: model.model,
            version: model.version,
            digest: model.package,
            engine: model.engine,
            bytes: model.bytes,
            faults: model.faults,
        })
        .collect();
    let packages = Packages {
        status: degraded_if(models.iter().any(|model| model.quarantined_for_ms.is_some())),
        loaded: models.len(),
        models,
    };
    let runtime = RuntimePart {
        status: degraded_if(status.waiting >= status.queue),
        workers: status.workers,
        busy: status.busy,
        waiting: status.waiting,
        queue: status.queue,
    };
    let records = app.records.as_ref().map(|records| {
        let state = records.state();
        let status = degraded_if(state.full || state.error.is_some());
        RecordsPart { status, bytes: state.bytes, full: state.full, error: state.error }
    });
    let draining = app.draining.load(Ordering::Relaxed);
    let worst = policy.status.max(packages.status).max(runtime.status);
    let worst = worst.max(records.as_ref().map_or(Health::Healthy, |records| records.status));
    Report {
        status: if draining { Health::Unhealthy } else { worst },
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: millis(app.started.elapsed()) / 1e3,
        draining,
        core: Core { policy: status.policy_core, tabular: status.tabular_core, graph: status.graph_core },
        parts: Parts { policy, packages, runtime, records },
    }
}

pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    match app.metrics.page(&app.runtime, app.is_ready(), app.started.elapsed()) {
        Ok(page) => {
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page).into_response()
        }
        Err(error) => {
            let problem = Problem::new(500, "internal", "the metrics cannot be written");
            refusal(problem.detail(error.to_string()), None)
        }
    }
}
