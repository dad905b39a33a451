//! Asking the origin: through a service binding, or at its address.

use lockgate_edge::{Fetch, FetchError, Fetched};
use wasm_bindgen::{JsCast, JsValue};
use worker::Env;
use worker::js_sys::{Array, Uint8Array, futures::JsFuture};

use crate::glue;
use crate::isolate::Isolate;

/// The largest answer of the origin that is read.
const LIMIT: f64 = 32_000_000.0;

/// Sends requests all at once, and returns what came of each.
pub(crate) async fn fetch_all(
    isolate: &Isolate,
    env: &Env,
    fetches: &[Fetch],
) -> Vec<Result<Fetched, FetchError>> {
    let Some(address) = &isolate.origin else {
        return fetches.iter().map(|_| Err(FetchError::NoOrigin)).collect();
    };
    let service = Isolate::service(env);
    let sent: Vec<JsFuture> = fetches.iter().map(|fetch| send(&service, address, fetch).into()).collect();
    let mut came = Vec::with_capacity(sent.len());
    for answer in sent {
        came.push(match answer.await {
            Ok(answer) => read(&answer.unchecked_into()),
            Err(_) => Err(FetchError::Unreachable("it broke off".to_owned())),
        });
    }
    came
}

fn send(service: &JsValue, address: &str, fetch: &Fetch) -> worker::js_sys::Promise {
    let mut headers = String::new();
    for (name, value) in &fetch.headers {
        headers.push_str(&format!("{name}\n{value}\n"));
    }
    let url = format!("{address}{}", fetch.path);
    glue::fetch_origin(service, &url, &headers, &fetch.body, fetch.timeout.as_millis() as f64, LIMIT)
}

fn read(answer: &Array) -> Result<Fetched, FetchError> {
    let status = answer.get(0).as_f64().unwrap_or_default();
    let text = answer.get(1).as_string().unwrap_or_default();
    if status < 0.0 {
        return Err(FetchError::TimedOut);
    }
    if status == 0.0 {
        return Err(FetchError::Unreachable(text));
    }
    let body = Uint8Array::from(answer.get(2)).to_vec();
    Ok(Fetched { status: status as u16, header_length: Some(text).filter(|text| !text.is_empty()), body })
}
