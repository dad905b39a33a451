//! The state machine: a request in, an answer out, and in between what only the shell can do.

use std::borrow::Cow;
use std::time::Duration;

use lockgate_oip::{BINARY_EXTENSION, ServerLive, ServerMetadata, ServerReady};
use lockgate_package::Digest;
use lockgate_policy::Placement;
use lockgate_shell::{
    Caller, Context, FaultLimits, Faults, Problem, RequestError, bearer, contexts, header_text, key_of,
};

use crate::catalog::{Catalog, RouteEntry};
use crate::core::Core;
use crate::decide::{self, Asked, Buffers};
use crate::forward::{Fetch, FetchError, Fetched};
use crate::fresh::{Freshness, Mode};
use crate::http::{Endpoint, Moment, Name, Request, Response, lossy, plain};
use crate::infer::Infer;
use crate::jwt::{self, SignatureCheck};
use crate::records::{self, Queue};
use crate::settings::{Cors, Settings};
use crate::shadows::{ShadowRun, Shadows};

const REQUEST_ID: &str = "x-request-id";
/// A caller's own request id is kept if it is no longer than this and plain ASCII.
const REQUEST_ID_LENGTH: usize = 128;

/// What an edge is, beside its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `cloudflare` or `spin`.
    pub shell: &'static str,
    /// Which isolate or instance it is: 1 to 64 printable ASCII characters.
    pub emitter: String,
    /// Whether there is an origin to forward to.
    pub has_origin: bool,
    /// When it began to serve.
    pub started_ms: i64,
}

/// What serves at the moment. The shell keeps it, for it knows what it has loaded.
#[derive(Clone, Copy)]
pub struct Serving<'a> {
    /// The names of the bundle that the policy module holds; `None` while there is none.
    pub catalog: Option<&'a Catalog>,
    /// How fresh that is.
    pub freshness: &'a Freshness,
    /// The digest of the baked image, where there is one.
    pub image: Option<Digest>,
}

/// What serves, and how: there is something.
#[derive(Clone, Copy)]
pub(crate) struct Loaded<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) mode: Mode,
    pub(crate) image: Option<Digest>,
}

/// What every request of an isolate or instance shares. Losing it loses counters and quarantines, nothing else.
pub struct Edge {
    pub(crate) settings: Settings,
    pub(crate) identity: Identity,
    pub(crate) faults: Faults,
    pub(crate) shadows: Shadows,
    pub(crate) buffers: Buffers,
    /// Records that wait to be sent.
    pub records: Queue,
}

/// What the shell does next.
pub enum Step {
    /// Send the answer, then the rest.
    Done(Box<Outcome>),
    /// Verify a signature, then [`Edge::resume`] with [`Event::Verified`].
    Verify(SignatureCheck, Pending),
    /// Send these to the origin, all at once, then [`Edge::resume`] with [`Event::Fetched`].
    Fetch(Vec<Fetch>, Pending),
}

/// An answer and what is left to do once it is sent.
#[derive(Default)]
pub struct Outcome {
    /// The answer.
    pub response: Response,
    /// Shadows, each for [`Edge::run_shadow`].
    pub shadows: Vec<ShadowRun>,
    /// What went wrong, for the log: the stable code and the detail.
    pub problem: Option<(&'static str, String)>,
}

/// A request that waits for an [`Event`].
pub struct Pending(Box<State>);

/// What is said about a route and the packages of one or all of its versions.
type AnswerWithRoute =
    fn(&Edge, &Catalog, &RouteEntry, &Name, &[Digest], i64) -> Result<Response, RequestError>;

#[expect(clippy::large_enum_variant, reason = "boxed wherever it waits")]
enum State {
    Verifying { caller: Caller, surroundings: Surroundings },
    Inferring { infer: Infer, surroundings: Surroundings },
    Shadowing(ShadowRun),
}

/// What a request waited for.
pub enum Event {
    /// Whether the signature holds.
    Verified(bool),
    /// What the origin said to each fetch, in their order.
    Fetched(Vec<Result<Fetched, FetchError>>),
}

/// What surrounds every answer.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    request_id: String,
    /// `access-control-allow-origin`, where the browser may read the answer.
    allow_origin: Option<String>,
    is_head: bool,
    is_infer: bool,
    /// When the request came.
    pub(crate) moment: Moment,
}

impl Edge {
    /// An edge that does what these settings say.
    pub fn new(settings: Settings, identity: Identity) -> Self {
        let records = Queue::new(&settings, &identity);
        Self {
            settings,
            identity,
            faults: Faults::default(),
            shadows: Shadows::default(),
            buffers: Buffers::default(),
            records,
        }
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Looks at a request before its body is read: how many bytes of it to read at most, one more than is allowed, or the answer at
    /// once. The request's body is not looked at.
    ///
    /// # Errors
    /// The answer to a request whose body is not wanted.
    pub fn admit(&self, request: &Request<'_>, moment: Moment) -> Result<usize, Response> {
        let surroundings = self.surroundings(request, moment);
        let refuse = |problem: &Problem| surroundings.finish(Response::problem(problem, None));
        let limit = self.settings.max_body;
        // No other request has a body that anybody looks at.
        if !(surroundings.is_infer && request.method == "POST") {
            return Ok(limit.saturating_add(1));
        }
        plain(request.headers).map_err(|problem| refuse(&problem))?;
        let announced =
            lossy(request.headers, "content-length").and_then(|length| length.trim().parse::<u64>().ok());
        if announced.is_some_and(|length| usize::try_from(length).map_or(true, |length| length > limit)) {
            return Err(refuse(&Problem::body_too_large(limit)));
        }
        Ok(limit.saturating_add(1))
    }

    /// Begins with a request.
    pub fn begin(
        &mut self,
        core: &mut dyn Core,
        serving: Serving<'_>,
        request: &Request<'_>,
        moment: Moment,
    ) -> Step {
        let surroundings = self.surroundings(request, moment);
        if let Some(response) = self.preflight(request) {
            return surroundings.done(response);
        }
        // What everybody may know needs no identity; nor does it take one to learn that a path is none.
        let is_open = match Endpoint::of(request.method, request.path) {
            Ok(endpoint) => endpoint.is_open(),
            Err(problem) => return surroundings.refused(&problem, None),
        };
        if is_open {
            return self.answer(core, serving, request, Caller::default(), surroundings);
        }
        match self.caller(request, moment.now_ms) {
            Ok(Identified::Known(caller)) => self.answer(core, serving, request, caller, surroundings),
            Ok(Identified::Claimed(caller, check)) => {
                Step::Verify(check, Pending(Box::new(State::Verifying { caller, surroundings })))
            }
            Err(problem) => surroundings.refused(&problem, None),
        }
    }

    /// Goes on with a request. `serving` and `request` are what they were, as far as the shell still has it.
    pub fn resume(
        &mut self,
        core: &mut dyn Core,
        serving: Serving<'_>,
        request: &Request<'_>,
        pending: Pending,
        event: Event,
        now_ms: i64,
    ) -> Step {
        match (*pending.0, event) {
            (State::Verifying { caller, surroundings }, Event::Verified(true)) => {
                self.answer(core, serving, request, caller, surroundings)
            }
            (State::Verifying { surroundings, .. }, Event::Verified(false)) => {
                surroundings.refused(&jwt::bad_signature(), None)
            }
            (State::Inferring { infer, surroundings }, Event::Fetched(results)) => {
                let step = match self.loaded(serving, now_ms) {
                    Ok(loaded) => infer.fetched(self, core, loaded, results, now_ms, &surroundings),
                    Err(error) => Err(error.into()),
                };
                self.inferred(step, surroundings)
            }
            (State::Shadowing(run), Event::Fetched(results)) => {
                self.shadow_came(run, results, now_ms);
                Step::Done(Box::default())
            }
            (State::Inferring { surroundings, .. } | State::Verifying { surroundings, .. }, _) => {
                let message = "the shell gave another event than was waited for".to_owned();
                surroundings.refused(&RequestError::Internal { message }.into(), None)
            }
            (State::Shadowing(_), Event::Verified(_)) => Step::Done(Box::default()),
        }
    }

    fn answer(
        &mut self,
        core: &mut dyn Core,
        serving: Serving<'_>,
        request: &Request<'_>,
        caller: Caller,
        surroundings: Surroundings,
    ) -> Step {
        let now_ms = surroundings.moment.now_ms;
        let endpoint = match Endpoint::of(request.method, request.path) {
            Ok(endpoint) => endpoint,
            Err(problem) => return surroundings.refused(&problem, None),
        };
        let response = match endpoint {
            Endpoint::Infer(name) => {
                let step = Infer::begin(self, core, serving, request, caller, name, &surroundings);
                return self.inferred(step, surroundings);
            }
            Endpoint::Health => Ok(self.health(core, serving, now_ms)),
            Endpoint::Server => Ok(Response::json(
                200,
                &ServerMetadata {
                    name: "lockgate".to_owned(),
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    extensions: vec![BINARY_EXTENSION.to_owned()],
                },
            )),
            Endpoint::Live => Ok(Response::json(200, &ServerLive { live: true })),
            Endpoint::Ready => {
                let ready = serving.catalog.is_some();
                Ok(Response::json(if ready { 200 } else { 503 }, &ServerReady { ready }))
            }
            Endpoint::Metadata(name) => {
                self.with_route(core, serving, request, &caller, &name, now_ms, metadata)
            }
            Endpoint::ModelReady(name) => {
                self.with_route(core, serving, request, &caller, &name, now_ms, model_ready)
            }
        };
        match response {
            Ok(response) => surroundings.done(response),
            Err(problem) => surroundings.refused(&problem, None),
        }
    }

    /// Calls `answer` with the route that the path names and the packages of its version, or of all versions when it names none.
    #[expect(clippy::too_many_arguments, reason = "what a request is made of")]
    fn with_route(
        &mut self,
        core: &mut dyn Core,
        serving: Serving<'_>,
        request: &Request<'_>,
        caller: &Caller,
        name: &Name,
        now_ms: i64,
        answer: AnswerWithRoute,
    ) -> Result<Response, Problem> {
        let headers = self.settings.context_headers();
        let contexts =
            contexts(&headers, request.headers, caller, &lockgate_oip::Parameters::default(), None)?;
        let loaded = self.loaded(serving, now_ms)?;
        let asked = self.decide(core, loaded, caller, &name.route, &contexts.all, now_ms, &[])?;
        let catalog = loaded.catalog;
        let route = asked.definitions.first().and_then(|definition| catalog.routes.get(*definition));
        let route = route.ok_or_else(|| Problem::unknown_route(&name.route))?;
        let chosen: Vec<Digest> = match &name.version {
            None => lockgate_shell::versions::versions(catalog.variants(route))
                .iter()
                .map(|one| one.digest)
                .collect(),
            Some(version) => vec![catalog.pinned(route, version)?.digest],
        };
        Ok(answer(self, catalog, route, name, &chosen, now_ms)?)
    }

    fn inferred(
        &mut self,
        step: Result<crate::infer::Next, crate::infer::Stop>,
        surroundings: Surroundings,
    ) -> Step {
        match step {
            Ok(crate::infer::Next::Fetch(fetches, infer)) => {
                Step::Fetch(fetches, Pending(Box::new(State::Inferring { infer, surroundings })))
            }
            Ok(crate::infer::Next::Answer { response, shadows }) => {
                let response = surroundings.finish(response);
                Step::Done(Box::new(Outcome { response, shadows, problem: None }))
            }
            Err(stop) => {
                if let Some(record) = stop.record {
                    self.records.push(&record);
                }
                match stop.refused {
                    Some(response) => surroundings.done(*response),
                    None => surroundings.refused(&stop.problem, stop.id),
                }
            }
        }
    }

    /// What serves; the packages of an earlier bundle are forgotten.
    pub(crate) fn loaded<'a>(
        &mut self,
        serving: Serving<'a>,
        now_ms: i64,
    ) -> Result<Loaded<'a>, RequestError> {
        let catalog = serving.catalog.ok_or(RequestError::NoBundle)?;
        self.faults.retain(|package| catalog.models.iter().any(|model| model.digest == *package));
        let mode = serving.freshness.mode(&self.settings, now_ms);
        Ok(Loaded { catalog, mode, image: serving.image })
    }

    /// Counts a fault of a package.
    pub(crate) fn blame(&mut self, package: Digest, now_ms: i64) {
        let settings = &self.settings;
        let limits = FaultLimits {
            limit: usize::try_from(settings.fault_limit).unwrap_or(usize::MAX),
            window: settings.fault_window,
            quarantine: settings.quarantine,
        };
        self.faults.record(package, since_1970(now_ms), &limits);
    }

    /// How much longer a package is quarantined.
    pub(crate) fn quarantined(&self, package: &Digest, now_ms: i64) -> Option<Duration> {
        self.faults.quarantined(package, since_1970(now_ms))
    }

    /// The packages that cannot serve: quarantined ones, those that should run here and do not, and without an origin those of other
    /// placements.
    fn unavailable(&self, core: &mut dyn Core, catalog: &Catalog, now_ms: i64) -> Vec<Digest> {
        let mut unavailable: Vec<Digest> = self.faults.unavailable(since_1970(now_ms)).collect();
        let missing = catalog.models.iter().filter(|model| match model.placement {
            Placement::Edge => self.problem_here(core, catalog, &model.digest).is_some(),
            Placement::Host | Placement::Gpu => !self.identity.has_origin,
        });
        unavailable.extend(missing.map(|model| model.digest));
        unavailable.sort_unstable();
        unavailable.dedup();
        unavailable
    }

    /// Why a package with the placement `edge` does not run here.
    pub(crate) fn problem_here(
        &self,
        core: &mut dyn Core,
        catalog: &Catalog,
        package: &Digest,
    ) -> Option<&'static str> {
        match catalog.packages.get(package) {
            None => Some("missing"),
            Some(entry) if entry.operations_per_row > self.settings.max_operations_per_row => {
                Some("too_costly")
            }
            Some(entry) if entry.mock && self.settings.environment.is_production() => Some("mock"),
            Some(_) if core.handle(package).is_none() => Some("not_loaded"),
            Some(_) => None,
        }
    }

    /// Asks which version serves each context; a route that the caller may not ask does not exist.
    #[expect(clippy::too_many_arguments, reason = "what a decision depends on")]
    pub(crate) fn decide(
        &mut self,
        core: &mut dyn Core,
        loaded: Loaded<'_>,
        caller: &Caller,
        route: &str,
        contexts: &[Context],
        now_ms: i64,
        failed: &[Digest],
    ) -> Result<Asked, RequestError> {
        let mut unavailable = self.unavailable(core, loaded.catalog, now_ms);
        unavailable.extend_from_slice(failed);
        let asked =
            decide::ask(core, &mut self.buffers, loaded.catalog, route, contexts, now_ms, &unavailable);
        let mut asked = match asked {
            Ok(_) if !caller.may_ask(route) => {
                return Err(RequestError::UnknownRoute { route: route.to_owned() });
            }
            asked => asked?,
        };
        if loaded.mode == Mode::FailDefault {
            decide::to_baselines(loaded.catalog, &mut asked)?;
        }
        Ok(asked)
    }

    /// Who asks. A key or token that does not hold is refused rather than ignored.
    fn caller(&self, request: &Request<'_>, now_ms: i64) -> Result<Identified, Problem> {
        let settings = &self.settings;
        if !settings.jwt_keys.is_empty()
            && let Some(token) = self.token(request)?
        {
            let claimed = jwt::read(&settings.jwt(), &token, now_ms)?;
            return Ok(match claimed.check {
                Some(check) => Identified::Claimed(claimed.caller, check),
                None => Identified::Known(claimed.caller),
            });
        }
        if !settings.api_keys.is_empty()
            && let Some(secret) = bearer(request.headers)?
        {
            return Ok(Identified::Known(key_of(&settings.api_keys, &secret)?.into()));
        }
        if settings.allows_anonymous() {
            return Ok(Identified::Known(Caller::default()));
        }
        let hint = match (settings.api_keys.is_empty(), settings.jwt_keys.is_empty()) {
            (false, _) => return Err(Caller::unauthenticated()),
            (true, false) => "send your token as `Authorization: Bearer …`",
            (true, true) => "ask whoever runs this server",
        };
        Err(Caller::unauthenticated().hint(hint))
    }

    /// The token that a request brings. What stands behind `Bearer` is one if API keys could not stand there, or if it looks like one.
    fn token(&self, request: &Request<'_>) -> Result<Option<Vec<u8>>, Problem> {
        match self.settings.jwt_header.as_deref() {
            None => Ok(None),
            Some("authorization") => {
                let only = self.settings.api_keys.is_empty();
                let secret = bearer(request.headers)?;
                Ok(secret.map(Cow::into_owned).filter(|secret| only || jwt::is_token(secret)))
            }
            Some(name) => Ok(header_text(request.headers, name)?.map(String::into_bytes)),
        }
    }

    fn surroundings(&self, request: &Request<'_>, moment: Moment) -> Surroundings {
        let given = lossy(request.headers, REQUEST_ID).filter(|id| {
            !id.is_empty()
                && id.len() <= REQUEST_ID_LENGTH
                && id.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        });
        let origin = match &self.settings.cors_origins {
            Cors::Off => None,
            Cors::Any => lossy(request.headers, "origin").map(|_| "*".to_owned()),
            Cors::Origins(allowed) => {
                lossy(request.headers, "origin").filter(|origin| allowed.contains(origin))
            }
        };
        Surroundings {
            request_id: given.unwrap_or_else(|| records::uuid(moment, 1)),
            allow_origin: origin,
            is_head: request.method == "HEAD",
            is_infer: request.path.ends_with("/infer"),
            moment,
        }
    }

    /// The answer to a browser that asks whether it may ask.
    fn preflight(&self, request: &Request<'_>) -> Option<Response> {
        if request.method != "OPTIONS" || self.settings.cors_origins == Cors::Off {
            return None;
        }
        request.headers.get("access-control-request-method")?;
        let mut response = Response { status: 204, ..Response::default() };
        response.set("access-control-allow-methods", "GET, POST");
        if let Some(wanted) = lossy(request.headers, "access-control-request-headers") {
            let is_name = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
            let names: String = wanted.chars().filter(|one| u8::try_from(*one).is_ok_and(is_name)).collect();
            response.set("access-control-allow-headers", names);
        }
        response.set("access-control-max-age", self.settings.cors_max_age.as_secs().to_string());
        Some(response)
    }

    pub(crate) fn shadowing(run: ShadowRun) -> Pending {
        Pending(Box::new(State::Shadowing(run)))
    }

    /// What is left of a request's time.
    pub(crate) fn left(timeout: Duration, began_ms: i64, now_ms: i64) -> Duration {
        let passed = u64::try_from(now_ms.saturating_sub(began_ms)).unwrap_or(0);
        timeout.saturating_sub(Duration::from_millis(passed))
    }
}

/// A moment as the time that has passed until it.
fn since_1970(now_ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(now_ms).unwrap_or(0))
}

/// Who asks, or who says so.
enum Identified {
    Known(Caller),
    Claimed(Caller, SignatureCheck),
}

impl Surroundings {
    pub(crate) fn request_id(&self) -> &str {
        &self.request_id
    }

    fn finish(&self, mut response: Response) -> Response {
        response.set(REQUEST_ID, self.request_id.clone());
        if let Some(origin) = &self.allow_origin {
            response.set("access-control-allow-origin", origin.clone());
            response.set(
                "access-control-expose-headers",
                "inference-header-content-length, server-timing, x-request-id, retry-after",
            );
            if origin != "*" {
                response.set("vary", "origin");
            }
        }
        if self.is_head {
            response.body = Vec::new();
        }
        response
    }

    fn done(&self, response: Response) -> Step {
        let response = self.finish(response);
        Step::Done(Box::new(Outcome { response, ..Outcome::default() }))
    }

    fn refused(&self, problem: &Problem, id: Option<String>) -> Step {
        let mut response = Response::problem(problem, id);
        if problem.status == 405 {
            response.set("allow", if self.is_infer { "POST" } else { "GET,HEAD" });
        }
        let response = self.finish(response);
        let problem = Some((problem.code, problem.for_log().to_owned()));
        Step::Done(Box::new(Outcome { response, shadows: Vec::new(), problem }))
    }
}

fn metadata(
    _: &Edge,
    catalog: &Catalog,
    route: &RouteEntry,
    name: &Name,
    chosen: &[Digest],
    _: i64,
) -> Result<Response, RequestError> {
    crate::health::metadata(catalog, route, name, chosen)
}

fn model_ready(
    edge: &Edge,
    _: &Catalog,
    _: &RouteEntry,
    name: &Name,
    chosen: &[Digest],
    now_ms: i64,
) -> Result<Response, RequestError> {
    let ready = !chosen.iter().any(|digest| edge.quarantined(digest, now_ms).is_some());
    let message = lockgate_oip::ModelReady { name: name.route.clone(), ready };
    Ok(Response::json(if ready { 200 } else { 503 }, &message))
}
