//! Lockgate in a Cloudflare Worker: the shell around the core modules.
//!
//! ```text
//! worker.js ─▶ fetch ─▶ Isolate ─▶ lockgate_edge::Edge (what to do) ─▶ Cores ─▶ glue.js ─▶ policy.wasm, inference.wasm
//!                          ├─ refresh: KV, R2 ─▶ a new pair of cores     origin: URL or service binding
//!                          └─ records ─▶ the origin, after the answer
//! ```
//!
//! This crate does the I/O of its platform and nothing else: what a request means, what is answered and what is asked of an origin is
//! `lockgate-edge`'s, which the Spin app shares. It must not panic: a panic loses every request that is under way in its isolate. What
//! must outlive that, the instances of the core modules and the state of freshness, is held by `glue.js`.

#[cfg(not(any(feature = "baked", feature = "fetched")))]
compile_error!("a shell takes its policy from somewhere: choose the feature `baked`, `fetched`, or both");

mod core;
mod glue;
mod isolate;
mod origin;
mod records;
#[cfg(feature = "fetched")]
mod refresh;
#[cfg(not(feature = "fetched"))]
#[path = "baked.rs"]
mod refresh;
mod settings;

use std::rc::Rc;

use lockgate_edge::{
    Event, HeaderList, Moment, Outcome, Pending, Request, Response, ShadowRun, SignatureCheck, Step,
};
use wasm_bindgen::JsValue;
use worker::js_sys::{self, Uint8Array, futures::JsFuture};
use worker::{Context, Env, ScheduleContext, ScheduledEvent, event, web_sys};

use crate::isolate::{Isolate, Loaded};

/// The most bytes of a body that is wanted by nobody, which is read all the same so that the connection can be used again.
const IGNORED_BODY: usize = 1 << 16;

#[event(fetch)]
async fn fetch(request: web_sys::Request, env: Env, context: Context) -> worker::Result<web_sys::Response> {
    let response = match Isolate::get(&env) {
        Ok(isolate) => answer(&isolate, &request, &env, &context).await?,
        Err(problems) => settings::refusal(&problems),
    };
    to_js(&response)
}

/// A cron trigger keeps the policy fresh in an isolate that nobody asks, and sends what is left of its records.
#[event(scheduled)]
async fn scheduled(_event: ScheduledEvent, env: Env, _context: ScheduleContext) {
    if let Ok(isolate) = Isolate::get(&env) {
        refresh::if_due(&isolate, &env).await;
        records::send(&isolate, &env).await;
    }
}

/// Answers a request, and leaves to the platform what can wait until the answer is sent.
async fn answer(
    isolate: &Rc<Isolate>,
    request: &web_sys::Request,
    env: &Env,
    context: &Context,
) -> worker::Result<Response> {
    let head = Head::of(request)?;
    let moment = moment();
    let loaded = refresh::ready(isolate, env, context).await;
    let admitted = isolate.edge.borrow_mut().admit(&head.with(&[]), moment);
    let body = match admitted {
        Ok(limit) => read_body(request, limit.saturating_sub(1)).await?,
        Err(response) => {
            // A body that nobody reads would break the connection for the request after this one.
            let _ = read_body(request, IGNORED_BODY).await;
            return Ok(response);
        }
    };
    let request = head.with(&body);
    let loaded = loaded.as_deref();
    let step = isolate.with(loaded, |edge, core, serving| edge.begin(core, serving, &request, moment));
    let outcome = run(isolate, loaded, &request, step, env).await;
    if let Some((code, detail)) = &outcome.problem {
        worker::console_error!("{} {}: {code}: {detail}", head.method, head.path);
    }
    after(isolate, outcome.shadows, env, context);
    let mut response = outcome.response;
    if head.path == "/health" && response.status != 405 {
        add_figures(&mut response);
    }
    Ok(response)
}

/// What this isolate holds: instances of the core modules that were made, that were lost to faults and that live, and bytes of memory.
fn add_figures(response: &mut Response) {
    // The report is an object of JSON, which this goes into as its last field.
    if response.body.pop() != Some(b'}') {
        return;
    }
    let figures = glue::core_figures();
    let figure = |index: u32| figures.get_index(index) as u64;
    let memory = format!(
        ",\"memory\":{{\"instances_made\":{},\"instances_lost\":{},\"instances\":{},\"instance_bytes\":{},\"shell_bytes\":{}}}}}",
        figure(0),
        figure(1),
        figure(2),
        figure(3),
        (core_memory_pages() as u64) << 16
    );
    response.body.extend_from_slice(memory.as_bytes());
}

/// Pages of memory that this shell has.
fn core_memory_pages() -> usize {
    ::core::arch::wasm32::memory_size(0)
}

/// Does what each step asks for until there is an answer.
async fn run(
    isolate: &Isolate,
    loaded: Option<&Loaded>,
    request: &Request<'_>,
    mut step: Step,
    env: &Env,
) -> Outcome {
    loop {
        let (pending, event): (Pending, Event) = match step {
            Step::Done(outcome) => return *outcome,
            Step::Verify(check, pending) => (pending, Event::Verified(verify(&check).await)),
            Step::Fetch(fetches, pending) => {
                (pending, Event::Fetched(origin::fetch_all(isolate, env, &fetches).await))
            }
        };
        let now = now();
        step = isolate
            .with(loaded, |edge, core, serving| edge.resume(core, serving, request, pending, event, now));
    }
}

/// Verifies the signature of a token.
async fn verify(check: &SignatureCheck) -> bool {
    is_true(glue::verify_jwk(check.algorithm.name(), &check.key, &check.input, &check.signature)).await
}

/// Whether a promise comes true.
pub(crate) async fn is_true(promise: js_sys::Promise) -> bool {
    JsFuture::from(promise).await.is_ok_and(|held| held.is_truthy())
}

/// Shadows and records, once the answer is on its way.
fn after(isolate: &Rc<Isolate>, shadows: Vec<ShadowRun>, env: &Env, context: &Context) {
    if !shadows.is_empty() {
        let (isolate, env) = (Rc::clone(isolate), env.clone());
        context.wait_until(async move {
            // A turn of the event loop: the answer goes first.
            worker::Delay::from(std::time::Duration::ZERO).await;
            let loaded = isolate.loaded();
            for shadow in shadows {
                let now = now();
                let step = isolate.with(loaded.as_deref(), |edge, core, serving| {
                    edge.run_shadow(core, serving, shadow, now)
                });
                let request = Head::none();
                run(&isolate, loaded.as_deref(), &request.with(&[]), step, &env).await;
            }
        });
    }
    records::send_later(isolate, env, context);
}

/// What a request says besides its body.
struct Head {
    method: String,
    path: String,
    headers: HeaderList,
}

impl Head {
    fn of(request: &web_sys::Request) -> worker::Result<Self> {
        let text = glue::head(request)?;
        let mut lines = text.split('\n').map(str::to_owned);
        let (method, path) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        let mut headers = Vec::new();
        while let (Some(name), Some(value)) = (lines.next(), lines.next()) {
            headers.push((name, value));
        }
        Ok(Self { method, path, headers: HeaderList(headers) })
    }

    fn none() -> Self {
        Self { method: String::new(), path: String::new(), headers: HeaderList::default() }
    }

    fn with<'a>(&'a self, body: &'a [u8]) -> Request<'a> {
        Request { method: &self.method, path: &self.path, headers: &self.headers, body }
    }
}

/// A body, `limit` bytes of it or, when it is longer, some more.
async fn read_body(request: &web_sys::Request, limit: usize) -> worker::Result<Vec<u8>> {
    let bytes = JsFuture::from(glue::read_body(request, limit as f64)).await?;
    Ok(Uint8Array::from(bytes).to_vec())
}

fn to_js(response: &Response) -> worker::Result<web_sys::Response> {
    let mut headers = String::new();
    for (name, value) in &response.headers {
        // A line break in a value would be another header.
        let value = value.replace(['\n', '\r', '\0'], " ");
        headers.push_str(&format!("{name}\n{value}\n"));
    }
    let response: JsValue = glue::respond(response.status, &headers, &response.body)?;
    Ok(response.into())
}

pub(crate) fn now() -> i64 {
    js_sys::Date::now() as i64
}

fn moment() -> Moment {
    let mut random = [0; 16];
    glue::random(&mut random);
    Moment { now_ms: now(), random }
}
