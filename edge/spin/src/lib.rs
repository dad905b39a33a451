//! Lockgate as a Spin application: the Open Inference Protocol in front of the core, whose components are composed with this one.
//!
//! ```text
//! request ─▶ lib (HTTP, what is left for after the answer)
//!              ├─▶ state (settings, what serves) ─▶ store (policy and packages in key-value)
//!              ├─▶ lockgate-edge (what to answer) ─▶ core (lockgate:core/policy, lockgate:core/inference)
//!              └─▶ platform (variables, clock, outbound HTTP)
//! ```
//!
//! Correct with a new instance for every request and with one for many at once: what an instance keeps saves time, and nothing depends on
//! it. No borrow is held while something is waited for. A trap ends the instance with all requests in it, so nothing here panics, and
//! shadows run when the answer is gone.

mod core;
mod platform;
mod state;
mod store;
mod verify;

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use lockgate_edge::{Event, Headers, Outcome, Problem, Response, ShadowRun, Step};
use spin_sdk::http::{HeaderMap, Request, StatusCode};
use spin_sdk::http_service;

use state::{App, Serving};

/// How long records may take on their way.
const RECORDS_TIMEOUT: Duration = Duration::from_secs(10);

#[http_service]
async fn handle(request: Request) -> spin_sdk::http::Result<spin_sdk::http::Response<Sent>> {
    let app = match App::get().await {
        Ok(app) => app,
        Err(problem) => {
            platform::log(&problem);
            let problem = Problem::new(500, "invalid_settings", problem);
            return answer(Response::problem(&problem, None), Rc::default());
        }
    };
    let sent = Rc::<Signal>::default();
    let Outcome { response, shadows, problem } = respond(&app, request).await;
    if let Some((code, detail)) = problem {
        platform::log(&format!("{code}: {detail}"));
    }
    let later = Rc::clone(&sent);
    spin_sdk::wit_bindgen::spawn(async move {
        later.wait().await;
        afterwards(&app, shadows).await;
    });
    answer(response, sent)
}

/// What to answer.
async fn respond(app: &Rc<App>, request: Request) -> Outcome {
    let (parts, body) = request.into_parts();
    let headers = RequestHeaders(&parts.headers);
    let (method, path) = (parts.method.as_str(), parts.uri.path());
    let moment = platform::moment();
    let head = lockgate_edge::Request { method, path, headers: &headers, body: &[] };
    let admitted = app.edge.borrow().admit(&head, moment);
    let most = match admitted {
        Ok(most) => most,
        Err(response) => return Outcome { response, ..Outcome::default() },
    };
    let body = match read(body, most).await {
        Ok(body) => body,
        Err(detail) => {
            let problem = Problem::bad_request("broken_body", "the connection broke within the body");
            let response = Response::problem(&problem, None);
            return Outcome { response, problem: Some(("broken_body", detail)), ..Outcome::default() };
        }
    };
    let serving = app.serving(moment.now_ms).await;
    let request = lockgate_edge::Request { method, path, headers: &headers, body: &body };
    let mut step = serving.with(|core, serving| app.edge.borrow_mut().begin(core, serving, &request, moment));
    loop {
        let (pending, event) = match step {
            Step::Done(outcome) => return *outcome,
            Step::Verify(check, pending) => (pending, Event::Verified(verify::holds(&check))),
            Step::Fetch(fetches, pending) => {
                let fetched = platform::fetch_all(app.origin.as_deref(), fetches).await;
                (pending, Event::Fetched(fetched))
            }
        };
        let now_ms = platform::now_ms();
        step = serving.with(|core, serving| {
            app.edge.borrow_mut().resume(core, serving, &request, pending, event, now_ms)
        });
    }
}

/// What is left to do once the answer is sent: shadows, then records.
async fn afterwards(app: &Rc<App>, shadows: Vec<ShadowRun>) {
    if !shadows.is_empty() {
        let serving = app.serving(platform::now_ms()).await;
        for run in shadows {
            shadow(app, &serving, run).await;
        }
    }
    let Some(origin) = app.origin.as_deref() else { return };
    let batch = app.edge.borrow_mut().records.batch(platform::moment());
    let Some(batch) = batch else { return };
    let mut headers = vec![("content-type".to_owned(), lockgate_edge::records::CONTENT_TYPE.to_owned())];
    if let Some(key) = app.edge.borrow().settings().origin_key.as_deref() {
        headers.push(("authorization".to_owned(), format!("Bearer {key}")));
    }
    let posted = platform::post(origin, lockgate_edge::records::PATH, &headers, batch.body.clone());
    let answer = platform::within(RECORDS_TIMEOUT, posted).await.and_then(Result::ok);
    let answer = answer.as_ref().map(|answer| (answer.status, answer.body.as_slice()));
    app.edge.borrow_mut().records.settle(batch, answer, platform::now_ms());
}

async fn shadow(app: &Rc<App>, serving: &Serving, run: ShadowRun) {
    let now_ms = platform::now_ms();
    let mut step = serving.with(|core, serving| app.edge.borrow_mut().run_shadow(core, serving, run, now_ms));
    while let Step::Fetch(fetches, pending) = step {
        let event = Event::Fetched(platform::fetch_all(app.origin.as_deref(), fetches).await);
        let now_ms = platform::now_ms();
        let none = lockgate_edge::HeaderList::default();
        let request = lockgate_edge::Request { method: "POST", path: "", headers: &none, body: &[] };
        step = serving.with(|core, serving| {
            app.edge.borrow_mut().resume(core, serving, &request, pending, event, now_ms)
        });
    }
}

/// Reads a body, at most so many bytes of it.
async fn read<B>(body: B, most: usize) -> Result<Vec<u8>, String>
where
    B: http_body_util::BodyExt<Data = Bytes>,
    B::Error: std::fmt::Debug,
{
    let mut body = pin!(body);
    let mut bytes = Vec::new();
    while bytes.len() < most
        && let Some(frame) = body.frame().await
    {
        if let Ok(data) = frame.map_err(|error| format!("{error:?}"))?.into_data() {
            let wanted = data.len().min(most - bytes.len());
            bytes.extend_from_slice(data.get(..wanted).unwrap_or_default());
        }
    }
    Ok(bytes)
}

fn answer(response: Response, sent: Rc<Signal>) -> spin_sdk::http::Result<spin_sdk::http::Response<Sent>> {
    let status = StatusCode::from_u16(response.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = spin_sdk::http::Response::new(Sent { body: Some(response.body.into()), sent });
    *answer.status_mut() = status;
    for (name, value) in &response.headers {
        let name = spin_sdk::http::HeaderName::try_from(name);
        if let (Ok(name), Ok(value)) = (name, spin_sdk::http::HeaderValue::try_from(value)) {
            answer.headers_mut().append(name, value);
        }
    }
    Ok(answer)
}

/// A body that says when it has been taken.
struct Sent {
    body: Option<Bytes>,
    sent: Rc<Signal>,
}

impl http_body::Body for Sent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        match self.body.take() {
            Some(body) if !body.is_empty() => Poll::Ready(Some(Ok(http_body::Frame::data(body)))),
            // Asked for more, or there was nothing: whoever reads has all of it.
            _ => Poll::Ready(None),
        }
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.sent.give();
    }
}

/// Something that happens once.
#[derive(Default)]
struct Signal {
    has_happened: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

impl Signal {
    fn give(&self) {
        self.has_happened.set(true);
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }

    async fn wait(&self) {
        poll_fn(|context| {
            if self.has_happened.get() {
                return Poll::Ready(());
            }
            self.waiting.replace(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

/// The headers of a request.
struct RequestHeaders<'a>(&'a HeaderMap);

impl Headers for RequestHeaders<'_> {
    fn get(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        self.0.get(name).map(|value| Cow::Borrowed(value.as_bytes()))
    }

    fn is_repeated(&self, name: &str) -> bool {
        self.0.get_all(name).iter().count() > 1
    }
}
