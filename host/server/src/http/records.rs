//! Receiving records from other shells: `docs/records.md` is the contract.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use lockgate_runtime::RuntimeError;
use lockgate_shell::{Caller, Problem};
use serde::Serialize;

use super::error::refusal;
use super::identity::identify;
use super::infer::offload;
use super::{App, body};
use crate::records::{Batch, MAX_LINES, RefusedLine, Unwritten};

/// When to come again where nothing says when there will be room.
const RETRY_FULL: Duration = Duration::from_secs(60);
const RETRY_FAILED: Duration = Duration::from_secs(10);
const RETRY_OVERLOADED: Duration = Duration::from_secs(1);

#[derive(Serialize)]
struct Answer {
    received: usize,
    duplicates: usize,
    refused: Vec<RefusedLine>,
}

pub(super) async fn receive(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let kept = keep(&app, &headers, peer, body).await;
    kept.map_or_else(|problem| refusal(problem, None), |answer| Json(answer).into_response())
}

async fn keep(app: &App, headers: &HeaderMap, peer: SocketAddr, body: Body) -> Result<Answer, Problem> {
    let started = Instant::now();
    let caller = identify(&app.config, headers, peer.ip())?;
    let Some(records) = &app.records else {
        let error = Problem::new(404, "records_disabled", "this server keeps no records");
        return Err(error.hint("the setting `records` names the folder for them"));
    };
    if !may_send(app, &caller) {
        let message = "this caller may not send records";
        let error = Problem::new(403, "records_not_allowed", message);
        return Err(error.hint("records are taken from API keys that have `records = true`"));
    }
    if app.draining.load(Ordering::Relaxed) {
        app.metrics.records.unwritten("shutting_down");
        return Err(RuntimeError::ShuttingDown.into());
    }
    let settings = &app.config.settings;
    let (limit, timeout) = (settings.records_batch.0, settings.max_timeout);
    let bytes = body::read(headers, body, limit, started + timeout, timeout).await.map_err(|error| {
        if error.code == "body_too_large" {
            error.hint("send fewer records at once, or raise `records_batch`")
        } else {
            error
        }
    })?;
    let check = move || {
        let now = crate::cli::time::Moment::now().0;
        Batch::read(&bytes, now, caller.key.as_deref(), |route| caller.may_ask(route))
    };
    let Some(mut batch) = offload(true, check).await? else {
        let message = format!("the batch has more than {MAX_LINES} lines");
        return Err(Problem::new(413, "too_many_lines", message).hint("send fewer records at once"));
    };
    let refused = std::mem::take(&mut batch.refused);
    let written = records.write(batch).await.map_err(|why| {
        let error = unwritten(why);
        app.metrics.records.unwritten(error.code);
        error
    })?;
    refused.iter().for_each(|line| app.metrics.records.refused(line.code));
    Ok(Answer { received: written.received, duplicates: written.duplicates, refused })
}

/// Where callers are identified at all, records are taken from those who are meant to send them.
fn may_send(app: &App, caller: &Caller) -> bool {
    !app.config.identifies_callers() || caller.records
}

fn unwritten(why: Unwritten) -> Problem {
    let unavailable = |code, message, after| {
        let mut problem = Problem::new(503, code, message);
        problem.retry_after = Some(after);
        problem
    };
    match why {
        Unwritten::Overloaded => {
            unavailable("overloaded", "too many batches of records wait to be written", RETRY_OVERLOADED)
        }
        Unwritten::Full => unavailable("records_full", "the files of records have reached their limit", RETRY_FULL)
            .hint("remove files that were shipped, raise `records_total_size`, or set `records_when_full` to `remove-oldest`"),
        Unwritten::Failed(detail) => {
            unavailable("records_not_written", "the records could not be written", RETRY_FAILED).detail(detail)
        }
    }
}
