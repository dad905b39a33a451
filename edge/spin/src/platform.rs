//! What Spin gives: variables, time, random bytes, outbound HTTP, the log.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use lockgate_edge::{Fetch, FetchError, Fetched, Moment};
use spin_sdk::http::{Method, Request};
use spin_sdk::wasip3::clocks::system_clock;
use spin_sdk::wasip3::random::random;

/// An answer of the origin is no longer than this.
const LONGEST_ANSWER: usize = 64 << 20;

/// A variable of the component; one that is not set or empty is none.
///
/// # Errors
/// A provider of variables that does not answer. A variable that `spin.toml` does not list is none.
pub(crate) async fn variable(name: &str) -> Result<Option<String>, String> {
    use spin_sdk::variables::Error;
    match spin_sdk::variables::get(name).await {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(Error::Undefined(_)) => Ok(None),
        Err(error) => Err(format!("the variable `{name}` cannot be read: {error}")),
    }
}

pub(crate) fn now_ms() -> i64 {
    let now = system_clock::now();
    now.seconds.saturating_mul(1000).saturating_add(i64::from(now.nanoseconds / 1_000_000))
}

pub(crate) fn moment() -> Moment {
    Moment { now_ms: now_ms(), random: random_bytes() }
}

pub(crate) fn random_bytes() -> [u8; 16] {
    let mut bytes = [0; 16];
    for (place, byte) in bytes.iter_mut().zip(random::get_random_bytes(16)) {
        *place = byte;
    }
    bytes
}

#[expect(clippy::print_stderr, reason = "Spin writes this to the component's log")]
pub(crate) fn log(text: &str) {
    eprintln!("{text}");
}

/// Sends all of these to the origin at once.
pub(crate) async fn fetch_all(origin: Option<&str>, fetches: Vec<Fetch>) -> Vec<Result<Fetched, FetchError>> {
    let Some(origin) = origin else {
        return fetches.iter().map(|_| Err(FetchError::NoOrigin)).collect();
    };
    let mut pending: Vec<_> = fetches.into_iter().map(|fetch| Box::pin(fetch_one(origin, fetch))).collect();
    let mut results: Vec<Option<Result<Fetched, FetchError>>> = pending.iter().map(|_| None).collect();
    poll_fn(|context| {
        let mut is_waiting = false;
        for (fetch, result) in pending.iter_mut().zip(&mut results) {
            if result.is_none() {
                match fetch.as_mut().poll(context) {
                    Poll::Ready(done) => *result = Some(done),
                    Poll::Pending => is_waiting = true,
                }
            }
        }
        if is_waiting { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    let lost = || Err(FetchError::Unreachable("it was never sent".to_owned()));
    results.into_iter().map(|result| result.unwrap_or_else(lost)).collect()
}

async fn fetch_one(origin: &str, fetch: Fetch) -> Result<Fetched, FetchError> {
    let Fetch { path, headers, body, timeout } = fetch;
    within(timeout, post(origin, &path, &headers, body)).await.unwrap_or(Err(FetchError::TimedOut))
}

/// Posts to the origin and reads the whole answer.
pub(crate) async fn post(
    origin: &str,
    path: &str,
    headers: &[(String, String)],
    body: Vec<u8>,
) -> Result<Fetched, FetchError> {
    let unreachable = |problem: String| FetchError::Unreachable(problem);
    let mut request = Request::builder().method(Method::POST).uri(format!("{origin}{path}"));
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request =
        request.body(Full::new(Bytes::from(body))).map_err(|error| unreachable(error.to_string()))?;
    let response = spin_sdk::http::send(request).await.map_err(|error| unreachable(format!("{error:?}")))?;
    let status = response.status().as_u16();
    let header_length = response.headers().get("inference-header-content-length");
    let header_length = header_length.and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut incoming = pin!(response.into_body());
    let mut body = Vec::new();
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|error| unreachable(format!("its answer broke off: {error:?}")))?;
        if let Ok(data) = frame.into_data() {
            body.extend_from_slice(&data);
        }
        if body.len() > LONGEST_ANSWER {
            return Err(unreachable("its answer is too long".to_owned()));
        }
    }
    Ok(Fetched { status, header_length, body })
}

/// The result of a future, unless it takes longer; then it is dropped, and with it what it waits for.
pub(crate) async fn within<T>(timeout: Duration, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut sleep = pin!(spin_sdk::time::sleep(timeout));
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending => sleep.as_mut().poll(context).map(|()| None),
    })
    .await
}
