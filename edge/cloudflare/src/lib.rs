//! Lockgate in a Cloudflare Worker: the shell around the core modules.
//!
//! ```text
//! worker.js ─▶ answer ─▶ Isolate ─▶ lockgate_edge::Edge (what to do) ─▶ Cores ─▶ glue.js ─▶ policy.wasm, inference.wasm
//!                            ├─ refresh: KV, R2 ─▶ a new pair of cores     origin: URL or service binding
//!                            └─ records ─▶ the origin, after the answer
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

use std::borrow::Cow;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;

use lockgate_edge::{
    Event, Headers, Moment, Outcome, Pending, Request, Response, ShadowRun, SignatureCheck, Step,
};
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast as _, JsValue};
use worker::js_sys;
use worker::js_sys::futures::{JsFuture, future_to_promise};
use worker::{Context, Env, ScheduleContext, ScheduledEvent, event};

#[global_allocator]
static ALLOCATOR: lockgate_abi::OutlinedAllocator = lockgate_abi::OutlinedAllocator;

use crate::isolate::{Isolate, Loaded};

/// The most bytes of a body that `answer` looks at.
#[wasm_bindgen]
pub fn body_limit(env: &JsValue) -> f64 {
    Isolate::get(env.unchecked_ref()).map_or(0, |isolate| isolate.settings.max_body) as f64
}

/// The answer to a request whose body was read: a response, or the promise of one where something must be waited for. Most requests need
/// nothing but the modules, and a promise costs more than they do.
#[wasm_bindgen]
pub fn answer(head: String, body: Vec<u8>, env: JsValue, context: JsValue) -> Result<JsValue, JsValue> {
    let (env, context): (Env, Context) = (env.unchecked_into(), Context::new(context.unchecked_into()));
    let isolate = match Isolate::get(&env) {
        Ok(isolate) => isolate,
        Err(problems) => return to_js(&settings::refusal(&problems)),
    };
    let asked = Asked { head: Head(head), body, env, context, isolate, moment: moment() };
    let loaded = match refresh::ready(&asked.isolate, &asked.env, &asked.context) {
        Ok(loaded) => loaded,
        Err(wait) => {
            return Ok(promise(async move {
                let loaded = wait.over(&asked.isolate, &asked.env, &asked.context).await;
                let outcome = match asked.begin(loaded.as_deref()) {
                    Step::Done(outcome) => *outcome,
                    step => asked.run(loaded.as_deref(), step).await,
                };
                asked.finish(outcome)
            }));
        }
    };
    match asked.begin(loaded.as_deref()) {
        Step::Done(outcome) => asked.finish(*outcome),
        step => Ok(promise(async move {
            let outcome = asked.run(loaded.as_deref(), step).await;
            asked.finish(outcome)
        })),
    }
}

fn promise(future: impl Future<Output = Result<JsValue, JsValue>> + 'static) -> JsValue {
    future_to_promise(AssertUnwindSafe(future)).into()
}

/// A cron trigger keeps the policy fresh in an isolate that nobody asks, and sends what is left of its records.
#[event(scheduled)]
async fn scheduled(_event: ScheduledEvent, env: Env, _context: ScheduleContext) {
    if let Ok(isolate) = Isolate::get(&env) {
        refresh::if_due(&isolate, &env).await;
        records::send(&isolate, &env).await;
    }
}

/// A request and what surrounds it.
struct Asked {
    head: Head,
    body: Vec<u8>,
    env: Env,
    context: Context,
    isolate: Rc<Isolate>,
    moment: Moment,
}

impl Asked {
    fn begin(&self, loaded: Option<&Loaded>) -> Step {
        let headers = self.head.headers();
        let request = self.head.request(&headers, &self.body);
        let admitted = self.isolate.edge.borrow_mut().admit(&request, self.moment);
        if let Err(response) = admitted {
            return Step::Done(Box::new(Outcome { response, ..Outcome::default() }));
        }
        self.isolate.with(loaded, |edge, core, serving| edge.begin(core, serving, &request, self.moment))
    }

    async fn run(&self, loaded: Option<&Loaded>, step: Step) -> Outcome {
        let headers = self.head.headers();
        run(&self.isolate, loaded, &self.head.request(&headers, &self.body), step, &self.env).await
    }

    /// Gives the answer, and leaves to the platform what can wait until it is sent.
    fn finish(&self, outcome: Outcome) -> Result<JsValue, JsValue> {
        let Self { head, .. } = self;
        if let Some((code, detail)) = &outcome.problem {
            worker::console_error!("{} {}: {code}: {detail}", head.method(), head.path());
        }
        after(&self.isolate, outcome.shadows, &self.env, &self.context, self.moment.now_ms);
        let mut response = outcome.response;
        if head.path() == "/health" && response.status != 405 {
            add_figures(&mut response);
        }
        to_js(&response)
    }
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
fn after(isolate: &Rc<Isolate>, shadows: Vec<ShadowRun>, env: &Env, context: &Context, now_ms: i64) {
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
                let request = Request { method: "", path: "", headers: &Lines(""), body: &[] };
                run(&isolate, loaded.as_deref(), &request, step, &env).await;
            }
        });
    }
    records::send_later(isolate, env, context, now_ms);
}

/// What a request says besides its body: method, path, then names and values of headers in turn, a line each.
struct Head(String);

/// The headers of a [`Head`], where they stand.
struct Lines<'a>(&'a str);

impl Head {
    fn method(&self) -> &str {
        self.0.split('\n').next().unwrap_or_default()
    }

    fn path(&self) -> &str {
        self.0.split('\n').nth(1).unwrap_or_default()
    }

    fn headers(&self) -> Lines<'_> {
        let at = self.0.match_indices('\n').nth(1).map_or(self.0.len(), |(at, _)| at + 1);
        Lines(self.0.get(at..).unwrap_or_default())
    }

    fn request<'a>(&'a self, headers: &'a Lines<'a>, body: &'a [u8]) -> Request<'a> {
        Request { method: self.method(), path: self.path(), headers, body }
    }
}

impl Headers for Lines<'_> {
    fn get(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let mut lines = self.0.split('\n');
        while let (Some(have), Some(value)) = (lines.next(), lines.next()) {
            if have == name {
                return Some(Cow::Borrowed(value.as_bytes()));
            }
        }
        None
    }
}

fn to_js(response: &Response) -> Result<JsValue, JsValue> {
    let mut headers = String::new();
    for (name, value) in &response.headers {
        // A line break in a value would be another header.
        let value = value.replace(['\n', '\r', '\0'], " ");
        for part in [name.as_str(), "\n", &value, "\n"] {
            headers.push_str(part);
        }
    }
    // A text costs the runtime less than bytes, which it copies once more.
    let is_json =
        response.headers.iter().any(|(name, value)| name == "content-type" && value == "application/json");
    match str::from_utf8(&response.body) {
        Ok(text) if is_json => glue::respond_text(response.status, &headers, text),
        _ => glue::respond(response.status, &headers, &response.body),
    }
}

pub(crate) fn now() -> i64 {
    js_sys::Date::now() as i64
}

fn moment() -> Moment {
    let mut random = [0; 16];
    glue::random(&mut random);
    Moment { now_ms: now(), random }
}
