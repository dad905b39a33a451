//! Request bodies: limits, and telling a caller that a body is too large in a way it hears.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use lockgate_shell::Problem;

/// How much of a body that is too large is read and dropped, and for how long, before the connection closes: a caller that is still
/// sending reads no answer.
const DRAINED: usize = 256 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// The body's bytes, at most `limit`, there before `deadline`.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
    deadline: Instant,
    timeout: Duration,
) -> Result<Bytes, Problem> {
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING)
        && encoding != "identity"
    {
        return Err(Problem::unsupported_encoding(encoding.as_bytes()));
    }
    let announced =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let announced_too_large = announced.is_some_and(|length| length > limit as u64);
    // Whoever asks before sending has not sent anything.
    if announced_too_large && headers.contains_key(header::EXPECT) {
        return Err(Problem::body_too_large(limit));
    }
    let collected = tokio::time::timeout_at(deadline.into(), collect(body, limit, announced_too_large)).await;
    collected.unwrap_or_else(|_| {
        Err(Problem::new(
            504,
            "deadline_exceeded",
            format!("the body did not arrive within {} ms", timeout.as_millis()),
        ))
    })
}

async fn collect(mut body: Body, limit: usize, too_large_already: bool) -> Result<Bytes, Problem> {
    if too_large_already {
        drain(&mut body).await;
        return Err(Problem::body_too_large(limit));
    }
    let mut first = Bytes::new();
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame
            .map_err(|error| Problem::bad_request("broken_body", format!("the body broke off: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + bytes.len() + data.len() > limit {
            drain(&mut body).await;
            return Err(Problem::body_too_large(limit));
        }
        // Most bodies come in one piece, which needs no copy.
        if first.is_empty() && bytes.is_empty() {
            first = data;
            continue;
        }
        if bytes.is_empty() {
            bytes.extend_from_slice(&first);
            first = Bytes::new();
        }
        bytes.extend_from_slice(&data);
    }
    Ok(if bytes.is_empty() { first } else { bytes.freeze() })
}

async fn drain(body: &mut Body) {
    let mut dropped = 0_usize;
    let all = async {
        while let Some(Ok(frame)) = body.frame().await {
            dropped = dropped.saturating_add(frame.data_ref().map_or(0, Bytes::len));
            if dropped > DRAINED {
                break;
            }
        }
    };
    // Whether or not the rest came, the answer is the same.
    let _ = tokio::time::timeout(DRAIN_TIME, all).await;
}
