//! Inference: its rows routed, predicted here or at the origin, and put together.

use std::time::Duration;

use lockgate_oip::{HEADER_LENGTH, InferResponse, Parameter, decode_request, encode_response, request_id};
use lockgate_package::plan::explain::Contributions;
use lockgate_package::{Digest, Tensor};
use lockgate_policy::Placement;
use lockgate_shell::answer::{Provenance, select};
use lockgate_shell::record::Record;
use lockgate_shell::{
    BundleId, Caller, Context, Contexts, OutOfRange, Problem, RequestError, Served, ServedVersion, contexts,
    contributions, header_length, header_timeout, parameter_timeout, rows, versions,
};

use crate::core::Core;
use crate::decide::Asked;
use crate::edge::{Edge, Loaded, Serving, Surroundings};
use crate::forward::{self, Came, Fetch, FetchError, Fetched, Told};
use crate::http::{Name, Request, Response, plain};
use crate::predict::{self, Predicted};
use crate::records;
use crate::shadows::ShadowRun;

/// With less time than this a second attempt is not begun.
const SHORTEST: Duration = Duration::from_millis(20);

/// An inference request on its way.
pub(crate) struct Infer {
    pub(crate) name: Name,
    pub(crate) caller: Caller,
    /// The request without its inputs.
    message: lockgate_oip::InferRequest,
    pub(crate) inputs: Vec<Tensor>,
    pub(crate) contexts: Vec<Context>,
    /// Whether there is no row to decide for.
    no_rows: bool,
    pub(crate) rows: usize,
    timeout: Duration,
    /// What each feature contributes: outputs more.
    contributions: Contributions,
    pub(crate) decision_id: String,
    pub(crate) bundle: BundleId,
    pub(crate) policy_core: Digest,
    pub(crate) image: Option<Digest>,
    pub(crate) asked: Asked,
    /// The rows of each version; one version has all of them.
    groups: Vec<Vec<usize>>,
    /// What each version said.
    results: Vec<Option<Predicted>>,
    /// Packages of which the origin gave no prediction to this request.
    failed: Vec<Digest>,
    /// The versions that were asked for at the origin, and how often.
    waiting: Vec<usize>,
    attempt: u32,
    is_idempotent: bool,
    /// Time in the modules, where there is a clock for it.
    pub(crate) decide_us: Option<u64>,
    pub(crate) predict_us: Option<u64>,
    forward_began_ms: i64,
    pub(crate) forward_us: Option<u64>,
}

/// What an inference request comes to next.
#[expect(clippy::large_enum_variant, reason = "moved once per fetch")]
pub(crate) enum Next {
    Fetch(Vec<Fetch>, Infer),
    Answer { response: Response, shadows: Vec<ShadowRun> },
}

/// An inference request that gets no answer.
pub(crate) struct Stop {
    pub(crate) problem: Box<Problem>,
    pub(crate) id: Option<String>,
    /// What the origin said to the caller, instead of the problem.
    pub(crate) refused: Option<Box<Response>>,
    pub(crate) record: Option<Box<Record>>,
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Self { problem: Box::new(problem), id: None, refused: None, record: None }
    }
}

impl From<RequestError> for Stop {
    fn from(error: RequestError) -> Self {
        Problem::from(error).into()
    }
}

impl From<lockgate_oip::Error> for Stop {
    fn from(error: lockgate_oip::Error) -> Self {
        Problem::from(error).into()
    }
}

impl Infer {
    pub(crate) fn begin(
        edge: &mut Edge,
        core: &mut dyn Core,
        serving: Serving<'_>,
        request: &Request<'_>,
        caller: Caller,
        name: Name,
        surroundings: &Surroundings,
    ) -> Result<Next, Stop> {
        if name.version.is_some() && !edge.settings.allow_pinned {
            return Err(Problem::pinning_not_allowed().into());
        }
        let settings = &edge.settings;
        let timeout = header_timeout(request.headers)?.unwrap_or(settings.timeout).min(settings.max_timeout);
        plain(request.headers)?;
        if request.body.len() > settings.max_body {
            return Err(Problem::body_too_large(settings.max_body).into());
        }
        let header_length = header_length(request.headers)?;
        let mut message = decode_request(request.body, header_length)
            .map_err(|error| Stop { id: request_id(request.body, header_length), ..Stop::from(error) })?;
        let id = message.id.clone();
        let with_id = |stop: Stop| Stop { id: id.clone(), ..stop };
        let timeout = match parameter_timeout(message.parameters.get("timeout"))
            .map_err(|error| with_id(error.into()))?
        {
            Some(asked) => timeout.min(asked),
            None => timeout,
        };
        let given = message.inputs.first().and_then(|input| usize::try_from(*input.shape.first()?).ok());
        let headers = settings.context_headers();
        let Contexts { all: contexts, no_rows } =
            contexts(&headers, request.headers, &caller, &message.parameters, given)
                .map_err(|error| with_id(error.into()))?;
        let contributions = contributions(&message.parameters).map_err(|error| with_id(error.into()))?;
        let inputs = std::mem::take(&mut message.inputs);
        let is_idempotent = settings.origin_retry
            && !matches!(message.parameters.get("sequence_id"), Some(value) if *value != Parameter::Null);
        let loaded =
            edge.loaded(serving, surroundings.moment.now_ms).map_err(|error| with_id(error.into()))?;
        let infer = Self {
            name,
            caller,
            inputs,
            contexts,
            no_rows,
            rows: given.unwrap_or(0),
            timeout,
            contributions,
            message,
            decision_id: records::uuid(surroundings.moment, 0),
            bundle: loaded.catalog.bundle,
            policy_core: core.policy_identity(),
            image: loaded.image,
            asked: Asked::default(),
            groups: Vec::new(),
            results: Vec::new(),
            failed: Vec::new(),
            waiting: Vec::new(),
            attempt: 0,
            is_idempotent,
            decide_us: None,
            predict_us: None,
            forward_began_ms: 0,
            forward_us: None,
        };
        infer.decide(edge, core, loaded, surroundings.moment.now_ms, surroundings)
    }

    /// Takes what the origin said.
    pub(crate) fn fetched(
        mut self,
        edge: &mut Edge,
        core: &mut dyn Core,
        loaded: Loaded<'_>,
        results: Vec<Result<Fetched, FetchError>>,
        now_ms: i64,
        surroundings: &Surroundings,
    ) -> Result<Next, Stop> {
        let took = u64::try_from(now_ms.saturating_sub(self.forward_began_ms)).unwrap_or(0);
        self.forward_us = Some(self.forward_us.unwrap_or(0).saturating_add(took.saturating_mul(1000)));
        let mut results = results.into_iter();
        let waiting = std::mem::take(&mut self.waiting);
        let mut left_over = Vec::new();
        let mut last = None;
        for place in waiting {
            let result = results.next().unwrap_or(Err(FetchError::NoOrigin));
            let Some(version) = self.asked.served.versions.get(place) else { continue };
            match forward::came(result, version, self.message.id.as_ref()) {
                Came::Predicted(predicted) => {
                    if let Some(into) = self.results.get_mut(place) {
                        *into = Some(*predicted);
                    }
                }
                Came::Refused(response) => {
                    let problem =
                        Problem::new(response.status, "refused_by_origin", "the origin refused the request");
                    let stop = self.fail(edge, problem, surroundings, now_ms);
                    return Err(Stop { refused: Some(Box::new(response)), ..stop });
                }
                Came::Failed { problem, timed_out } => {
                    left_over.push(place);
                    last = Some((problem, timed_out));
                }
            }
        }
        let Some((problem, timed_out)) = last else {
            return self.finish(edge, loaded, now_ms, surroundings);
        };
        let left = Edge::left(self.timeout, surroundings.moment.now_ms, now_ms);
        if self.attempt == 1 && self.is_idempotent && left >= SHORTEST {
            return self.fetch(edge, left_over, left, now_ms, surroundings);
        }
        let mut version = None;
        for place in left_over {
            let Some(one) = self.asked.served.versions.get(place) else { continue };
            edge.blame(one.package, now_ms);
            self.failed.push(one.package);
            version = Some((one.model.clone(), one.version.clone()));
        }
        let (model, version) = version.unwrap_or_default();
        let error = if left < SHORTEST || (timed_out && left.is_zero()) {
            RequestError::DeadlineExceeded { after: self.timeout, stage: "being forwarded" }
        } else {
            RequestError::Origin { model, version, problem }
        };
        if self.name.version.is_some() || left.is_zero() {
            return Err(self.fail(edge, error.into(), surroundings, now_ms));
        }
        // The policy itself says what serves in place of what is unavailable.
        let failed = self.failed.clone();
        let still = |asked: &Asked| asked.served.versions.iter().any(|one| failed.contains(&one.package));
        self.attempt = 0;
        self.bundle = loaded.catalog.bundle;
        match edge.decide(core, loaded, &self.caller, &self.name.route, &self.contexts, now_ms, &self.failed)
        {
            Ok(asked) if still(&asked) => Err(self.fail(edge, error.into(), surroundings, now_ms)),
            Ok(asked) => {
                self.take(asked);
                self.advance(edge, core, loaded, now_ms, surroundings)
            }
            Err(error) => Err(self.fail(edge, error.into(), surroundings, now_ms)),
        }
    }

    fn decide(
        mut self,
        edge: &mut Edge,
        core: &mut dyn Core,
        loaded: Loaded<'_>,
        now_ms: i64,
        surroundings: &Surroundings,
    ) -> Result<Next, Stop> {
        let began = core.micros();
        let asked = self.ask(edge, core, loaded, now_ms);
        self.decide_us = passed(began, core.micros());
        match asked {
            Ok(asked) => {
                self.take(asked);
                self.advance(edge, core, loaded, now_ms, surroundings)
            }
            // What is not visible leaves no record either: it would say that somebody asked.
            Err(error) => Err(Stop { id: self.message.id, ..Stop::from(error) }),
        }
    }

    fn ask(
        &self,
        edge: &mut Edge,
        core: &mut dyn Core,
        loaded: Loaded<'_>,
        now_ms: i64,
    ) -> Result<Asked, RequestError> {
        let total = self.contexts.len();
        let limit = usize::try_from(edge.settings.max_rows).unwrap_or(usize::MAX);
        if self.rows.max(total) > limit {
            return Err(RequestError::LimitExceeded {
                message: format!(
                    "the request has {} rows, at most {limit} are taken at once",
                    self.rows.max(total)
                ),
                hint: "send fewer rows at once".to_owned(),
            });
        }
        let mut asked =
            edge.decide(core, loaded, &self.caller, &self.name.route, &self.contexts, now_ms, &[])?;
        let Some(version) = &self.name.version else {
            if self.no_rows {
                return Err(RequestError::no_context());
            }
            if total > 1 {
                rows::check(&self.inputs, total)?;
            }
            return Ok(asked);
        };
        let mut definitions = asked.definitions.iter();
        let definition = definitions.next().copied().unwrap_or(usize::MAX);
        if definitions.any(|other| *other != definition) {
            return Err(RequestError::definitions_differ());
        }
        let catalog = loaded.catalog;
        let route = catalog.routes.get(definition);
        let route = route.ok_or_else(|| RequestError::UnknownRoute { route: self.name.route.clone() })?;
        let variant = catalog.pinned(route, version)?;
        let baseline = catalog.baseline(route).filter(|_| !route.enabled);
        versions::ensure_enabled(&route.name, catalog.variants(route), baseline.as_ref(), &variant)?;
        asked.served = Served::pinned(&variant);
        asked.shadows = Vec::new();
        Ok(asked)
    }

    /// Takes a decision, and what was predicted already where it still holds.
    fn take(&mut self, asked: Asked) {
        let groups = asked.served.groups();
        let results = asked.served.versions.iter().zip(&groups).map(|(version, rows)| {
            let is_it = |((have, of), result): &((&ServedVersion, &Vec<usize>), &mut Option<Predicted>)| {
                result.is_some() && have.package == version.package && *of == rows
            };
            let known =
                self.asked.served.versions.iter().zip(&self.groups).zip(&mut self.results).find(is_it);
            known.and_then(|(_, result)| result.take())
        });
        self.results = results.collect();
        self.groups = groups;
        self.asked = asked;
    }

    /// Predicts what can be predicted here, and asks the origin for the rest.
    fn advance(
        mut self,
        edge: &mut Edge,
        core: &mut dyn Core,
        loaded: Loaded<'_>,
        now_ms: i64,
        surroundings: &Surroundings,
    ) -> Result<Next, Stop> {
        let began = core.micros();
        let result = self.predict(edge, core, loaded, now_ms);
        if let Some(took) = passed(began, core.micros()) {
            self.predict_us = Some(self.predict_us.unwrap_or(0).saturating_add(took));
        }
        if let Err(error) = result {
            return Err(self.fail(edge, error.into(), surroundings, now_ms));
        }
        let missing: Vec<usize> = self
            .results
            .iter()
            .enumerate()
            .filter(|(_, result)| result.is_none())
            .map(|(place, _)| place)
            .collect();
        if missing.is_empty() {
            return self.finish(edge, loaded, now_ms, surroundings);
        }
        let left = Edge::left(self.timeout, surroundings.moment.now_ms, now_ms);
        self.fetch(edge, missing, left, now_ms, surroundings)
    }

    fn predict(
        &mut self,
        edge: &mut Edge,
        core: &mut dyn Core,
        loaded: Loaded<'_>,
        now_ms: i64,
    ) -> Result<(), RequestError> {
        for version in &self.asked.served.versions {
            if let Some(retry_after) = edge.quarantined(&version.package, now_ms) {
                let (model, version) = (version.model.clone(), version.version.clone());
                return Err(RequestError::Quarantined { model, version, retry_after });
            }
            let is_served = match version.placement {
                Placement::Edge => edge.problem_here(core, loaded.catalog, &version.package).is_none(),
                Placement::Host | Placement::Gpu => edge.identity.has_origin,
            };
            if !is_served {
                return Err(RequestError::NotServedHere {
                    model: version.model.clone(),
                    version: version.version.clone(),
                    placement: version.placement.name(),
                });
            }
        }
        for place in 0..self.results.len() {
            let (Some(version), Some(None)) =
                (self.asked.served.versions.get(place), self.results.get(place))
            else {
                continue;
            };
            if version.placement != Placement::Edge {
                continue;
            }
            let package = version.package;
            let taken;
            let inputs = match self.rows_of(place) {
                None => &self.inputs,
                Some(rows) => {
                    taken = rows::take(&self.inputs, self.contexts.len(), rows)?;
                    &taken
                }
            };
            let predicted =
                predict::run(core, &mut edge.buffers, loaded.catalog, &package, inputs, self.contributions)
                    .inspect_err(|error| {
                    if error.is_fault() {
                        edge.blame(package, now_ms);
                    }
                })?;
            if let Some(into) = self.results.get_mut(place) {
                *into = Some(predicted);
            }
        }
        Ok(())
    }

    /// The rows of a version; `None` when it serves all of them.
    fn rows_of(&self, place: usize) -> Option<&[usize]> {
        if self.asked.served.versions.len() == 1 { None } else { self.groups.get(place).map(Vec::as_slice) }
    }

    fn fetch(
        mut self,
        edge: &mut Edge,
        places: Vec<usize>,
        left: Duration,
        now_ms: i64,
        surroundings: &Surroundings,
    ) -> Result<Next, Stop> {
        if left < SHORTEST {
            let error =
                RequestError::DeadlineExceeded { after: self.timeout, stage: "waiting to be forwarded" };
            return Err(self.fail(edge, error.into(), surroundings, now_ms));
        }
        let timeout = left.min(edge.settings.origin_timeout);
        let fetches: Result<Vec<Fetch>, Stop> = places
            .iter()
            .map(|place| {
                let internal =
                    || RequestError::Internal { message: "a version without its place".to_owned() };
                let version = self.asked.served.versions.get(*place).ok_or_else(internal)?;
                let (contexts, inputs): (Vec<&Context>, Vec<Tensor>) = match self.rows_of(*place) {
                    None => (self.contexts.iter().collect(), self.inputs.clone()),
                    Some(rows) => (
                        rows.iter().filter_map(|row| self.contexts.get(*row)).collect(),
                        rows::take(&self.inputs, self.contexts.len(), rows)?,
                    ),
                };
                let told = Told {
                    route: &self.name.route,
                    decision_id: &self.decision_id,
                    request_id: surroundings.request_id(),
                    bundle: self.bundle,
                    policy_core: self.policy_core,
                    key: edge.settings.origin_key.as_deref(),
                    shadow: None,
                    contributions: self.contributions,
                };
                Ok(forward::fetch(&told, version, &contexts, inputs, timeout)?)
            })
            .collect();
        let fetches = fetches?;
        self.waiting = places;
        self.attempt = self.attempt.saturating_add(1);
        self.forward_began_ms = now_ms;
        Ok(Next::Fetch(fetches, self))
    }

    /// Puts the answer together.
    fn finish(
        mut self,
        edge: &mut Edge,
        loaded: Loaded<'_>,
        now_ms: i64,
        surroundings: &Surroundings,
    ) -> Result<Next, Stop> {
        let (outputs, out_of_range) = match self.merge() {
            Ok(merged) => merged,
            Err(error) => return Err(self.fail(edge, error.into(), surroundings, now_ms)),
        };
        let selected = match select(&self.message, outputs.clone()) {
            Ok(selected) => selected,
            Err(problem) => return Err(self.fail(edge, problem, surroundings, now_ms)),
        };
        let provenance = Provenance {
            decision_id: &self.decision_id,
            pinned: self.name.version.is_some(),
            bundle: self.bundle,
            policy_core: self.policy_core,
            served: &self.asked.served,
            out_of_range: &out_of_range,
            caller: &self.caller,
        };
        let response = InferResponse {
            model_name: self.name.route.clone(),
            model_version: self.version_name(loaded),
            id: self.message.id.clone(),
            parameters: provenance,
            outputs: selected,
        };
        let body = match encode_response(&response, |name| self.message.wants_binary(name)) {
            Ok(body) => body,
            Err(error) => return Err(self.fail(edge, error.into(), surroundings, now_ms)),
        };
        let is_binary = body.header_length.is_some();
        let content_type = if is_binary { "application/octet-stream" } else { "application/json" };
        let mut answer = Response { status: 200, headers: Vec::new(), body: body.bytes };
        answer.set("content-type", content_type);
        if let Some(length) = body.header_length {
            answer.set(HEADER_LENGTH, length.to_string());
        }
        if let Some(timings) = self.timings() {
            answer.set("server-timing", timings);
        }

        // Shadows are compared with what the models say, and records hold that, not why.
        let outputs: Vec<Tensor> =
            outputs.into_iter().filter(|output| !self.contributions.is_output(&output.name)).collect();
        let shadows = edge.admit_shadows(&self, loaded, &outputs, now_ms);
        if let Some(record) = records::of(edge, &self, Some(&outputs), None, surroundings, now_ms) {
            edge.records.push(&record);
        }
        Ok(Next::Answer { response: answer, shadows })
    }

    fn merge(&mut self) -> Result<(Vec<Tensor>, Vec<OutOfRange>), RequestError> {
        let internal = || RequestError::Internal { message: "a version without a prediction".to_owned() };
        let is_one = self.results.len() == 1;
        let mut parts = Vec::with_capacity(self.results.len());
        let mut warnings = Vec::new();
        let total = self.contexts.len();
        let results = std::mem::take(&mut self.results);
        for ((version, rows), result) in self.asked.served.versions.iter_mut().zip(&self.groups).zip(results)
        {
            let predicted = result.ok_or_else(internal)?;
            version.execution = predicted.execution;
            if is_one {
                return Ok((predicted.outputs, predicted.out_of_range));
            }
            warnings.extend(predicted.out_of_range.into_iter().filter_map(|warning| {
                let row = *rows.get(usize::try_from(warning.row).ok()?)?;
                Some(OutOfRange { row: u32::try_from(row).ok()?, ..warning })
            }));
            let name = versions::model_name(&version.model, &version.version);
            parts.push(rows::Part { name, rows, outputs: predicted.outputs });
        }
        warnings.sort_unstable_by_key(|warning| (warning.row, warning.feature));
        Ok((rows::merge(&parts, total)?, warnings))
    }

    /// What took how long, as far as that is known.
    fn timings(&self) -> Option<String> {
        let parts = [("decide", self.decide_us), ("predict", self.predict_us), ("forward", self.forward_us)];
        let known: Vec<String> = parts
            .iter()
            .filter_map(|(name, took)| took.map(|took| format!("{name};dur={}", millis(took))))
            .collect();
        (!known.is_empty()).then(|| known.join(", "))
    }

    /// How a path would name the version that ran; `None` when rows were served by several.
    fn version_name(&self, loaded: Loaded<'_>) -> Option<String> {
        versions::name_of_served(&self.asked.served, |tenant, user| {
            let route = loaded.catalog.definition(&self.name.route, tenant, user)?;
            Some(loaded.catalog.variants(route))
        })
    }

    fn fail(&self, edge: &Edge, problem: Problem, surroundings: &Surroundings, now_ms: i64) -> Stop {
        let record = records::of(edge, self, None, Some(&problem), surroundings, now_ms).map(Box::new);
        Stop { id: self.message.id.clone(), record, ..Stop::from(problem) }
    }
}

/// Time between two looks at a clock.
fn passed(began: Option<u64>, ended: Option<u64>) -> Option<u64> {
    Some(ended?.saturating_sub(began?))
}

/// Milliseconds with three decimals.
fn millis(micros: u64) -> String {
    format!("{}.{:03}", micros / 1000, micros % 1000)
}
