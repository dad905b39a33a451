//! A worker: a thread that owns its instances and answers one request at a time. Nothing it touches during a guest
//! call is shared, so a guest that loops or dies concerns nobody else.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lockgate_abi::{
    AttributeValue, ContextFields, DecideRequestWriter, DecisionRecord, ErrorCode, Failure, Malformed, Reply,
    Response, TooLarge, write_predict_request,
};
use lockgate_package::{Digest, Tensor, TensorView};
use lockgate_policy::{Attribute, Placement, Reason, Step};

use crate::engine::{CallFailure, Guest, Instance};
use crate::generation::{Generation, InstalledModel, Policy};
use crate::rows::{self, Part};
use crate::runtime::Shared;
use crate::stats::{ModuleCounters, count};
use crate::{
    Context, DecideAnswer, DecideRequest, Execution, InferAnswer, InferRequest, OutOfRange, PredictAnswer,
    PredictRequest, RuntimeError, Served, ServedRow, ServedVersion, Timings, Why,
};

/// The time that a request has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    pub(crate) submitted: Instant,
    pub(crate) deadline: Instant,
    pub(crate) allowed: Duration,
}

impl Clock {
    fn check(&self, stage: &'static str) -> Result<(), RuntimeError> {
        if Instant::now() >= self.deadline { Err(self.exceeded(stage)) } else { Ok(()) }
    }

    pub(crate) fn exceeded(&self, stage: &'static str) -> RuntimeError {
        RuntimeError::DeadlineExceeded { after: self.allowed, stage }
    }
}

pub(crate) struct Worker {
    shared: Arc<Shared>,
    generation: Arc<Generation>,
    policy: Option<(Digest, Instance)>,
    models: Vec<LoadedModel>,
    /// Where requests are written, kept from call to call.
    request: Vec<u8>,
    calls: u64,
}

struct LoadedModel {
    package: Digest,
    instance: Instance,
    handle: u32,
    last_call: u64,
}

/// What a model said.
struct Predicted {
    outputs: Vec<Tensor>,
    out_of_range: Vec<OutOfRange>,
    execution: Execution,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let generation = Arc::new(Generation::empty());
        Self { shared, generation, policy: None, models: Vec::new(), request: Vec::new(), calls: 0 }
    }

    /// The generation that this worker serves.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.number
    }

    /// Takes the newest generation and lets go of instances that it does not need.
    pub(crate) fn refresh(&mut self) {
        let newest = self.shared.generation.load();
        if newest.number == self.generation.number {
            return;
        }
        self.generation = Arc::clone(&newest);
        let bundle = self.generation.policy.as_ref().map(|policy| policy.bundle.digest());
        self.policy = self.policy.take().filter(|(digest, _)| Some(*digest) == bundle);
        self.models.retain(|model| self.generation.models.contains_key(&model.package));
    }

    /// Lets go of every instance.
    pub(crate) fn clear(&mut self) {
        self.policy = None;
        self.models.clear();
    }

    pub(crate) fn decide(
        &mut self,
        request: &DecideRequest,
        clock: Clock,
    ) -> Result<DecideAnswer, RuntimeError> {
        let queue = clock.submitted.elapsed();
        let generation = Arc::clone(&self.generation);
        let policy = generation.policy.as_ref().ok_or(RuntimeError::NoBundle)?;
        if request.contexts.is_empty() {
            return Err(no_context());
        }
        let begin = Instant::now();
        let served = self.ask(policy, &request.route, &request.contexts, request.now_ms, clock)?;
        Ok(DecideAnswer {
            served,
            bundle: policy.id(),
            core: self.shared.guests.policy.identity,
            timings: Timings { queue, decide: begin.elapsed(), predict: Duration::ZERO },
        })
    }

    pub(crate) fn predict(
        &mut self,
        request: &PredictRequest,
        clock: Clock,
    ) -> Result<PredictAnswer, RuntimeError> {
        let queue = clock.submitted.elapsed();
        let begin = Instant::now();
        let predicted = self.run(&request.package, &request.inputs, clock)?;
        Ok(PredictAnswer {
            outputs: predicted.outputs,
            out_of_range: predicted.out_of_range,
            core: predicted.execution.core,
            engine: predicted.execution.engine,
            timings: Timings { queue, decide: Duration::ZERO, predict: begin.elapsed() },
        })
    }

    pub(crate) fn infer(
        &mut self,
        request: &InferRequest,
        clock: Clock,
    ) -> Result<InferAnswer, RuntimeError> {
        let queue = clock.submitted.elapsed();
        let generation = Arc::clone(&self.generation);
        let policy = generation.policy.as_ref().ok_or(RuntimeError::NoBundle)?;
        let total = request.contexts.len();
        let begin = Instant::now();
        let mut served = match &request.pinned {
            Some(version) => pin(&generation, &request.route, version)?,
            None => {
                match total {
                    0 => return Err(no_context()),
                    1 => {}
                    _ => rows::check(&request.inputs, total)?,
                }
                self.ask(policy, &request.route, &request.contexts, request.now_ms, clock)?
            }
        };
        let decide = begin.elapsed();

        let begin = Instant::now();
        for version in &served.versions {
            self.ensure_served_here(version)?;
        }
        let (outputs, out_of_range) = if let [version] = served.versions.as_mut_slice() {
            let predicted = self.run(&version.package, &request.inputs, clock)?;
            version.execution = Some(predicted.execution);
            (predicted.outputs, predicted.out_of_range)
        } else {
            self.run_each(&mut served, request, total, clock)?
        };
        Ok(InferAnswer {
            outputs,
            served,
            out_of_range,
            pinned: request.pinned.is_some(),
            bundle: policy.id(),
            core: self.shared.guests.policy.identity,
            timings: Timings { queue, decide, predict: begin.elapsed() },
        })
    }

    /// Runs every version on its rows and puts the outputs together.
    fn run_each(
        &mut self,
        served: &mut Served,
        request: &InferRequest,
        total: usize,
        clock: Clock,
    ) -> Result<(Vec<Tensor>, Vec<OutOfRange>), RuntimeError> {
        let mut groups = vec![Vec::new(); served.versions.len()];
        for (row, entry) in served.rows.iter().enumerate() {
            if let Some(group) = groups.get_mut(entry.version) {
                group.push(row);
            }
        }
        let mut results = Vec::with_capacity(groups.len());
        let mut warnings = Vec::new();
        for (version, rows) in served.versions.iter_mut().zip(&groups) {
            let inputs = rows::take(&request.inputs, total, rows)?;
            let predicted = self.run(&version.package, &inputs, clock)?;
            version.execution = Some(predicted.execution);
            warnings.extend(predicted.out_of_range.into_iter().filter_map(|warning| {
                let row = *rows.get(usize::try_from(warning.row).ok()?)?;
                Some(OutOfRange { row: u32::try_from(row).ok()?, ..warning })
            }));
            results
                .push((crate::generation::model_name(&version.model, &version.version), predicted.outputs));
        }
        warnings.sort_by_key(|warning| (warning.row, warning.feature));
        let parts: Vec<_> = results
            .into_iter()
            .zip(&groups)
            .map(|((name, outputs), rows)| Part { name, rows, outputs })
            .collect();
        Ok((rows::merge(&parts, total)?, warnings))
    }

    fn ensure_served_here(&self, version: &ServedVersion) -> Result<(), RuntimeError> {
        if version.placement == Placement::Gpu {
            return Err(RuntimeError::NotServedHere {
                model: version.model.clone(),
                version: version.version.clone(),
                placement: version.placement.name(),
            });
        }
        match self.generation.models.get(&version.package) {
            Some(model) => self.ensure_not_quarantined(model),
            None => Err(RuntimeError::UnknownPackage { package: version.package }),
        }
    }

    fn ensure_not_quarantined(&self, model: &InstalledModel) -> Result<(), RuntimeError> {
        match self.shared.faults.quarantined(&model.digest(), Instant::now()) {
            Some(retry_after) => Err(RuntimeError::Quarantined {
                model: model.manifest().model.clone(),
                version: model.manifest().version.clone(),
                retry_after,
            }),
            None => Ok(()),
        }
    }

    /// Asks the policy module.
    fn ask(
        &mut self,
        policy: &Policy,
        route: &str,
        contexts: &[Context],
        now_ms: Option<i64>,
        clock: Clock,
    ) -> Result<Served, RuntimeError> {
        clock.check("waiting")?;
        let unavailable = self.shared.faults.unavailable(Instant::now());
        let too_large = |TooLarge| RuntimeError::LimitExceeded {
            message: TooLarge.to_string(),
            hint: "send fewer contexts at once".to_owned(),
        };
        let mut writer = DecideRequestWriter::new(&mut self.request, now_ms.unwrap_or_else(system_now_ms));
        for context in contexts {
            let Context { user, symbol, tenant, session, attributes } = context;
            let fields = ContextFields {
                route,
                user: user.as_deref(),
                symbol: symbol.as_deref(),
                tenant: tenant.as_deref(),
                session: session.as_deref(),
            };
            let attributes = attributes.iter().map(|(name, value)| (name.as_str(), attribute(value)));
            writer.context(&fields, attributes).map_err(too_large)?;
        }
        writer.finish(&unavailable).map_err(too_large)?;

        let shared = Arc::clone(&self.shared);
        let guest = &shared.guests.policy;
        let digest = policy.bundle.digest();
        let mut instance = match self.policy.take() {
            Some((_, instance)) => instance,
            None => self.load(guest, shared.settings.policy_memory, policy.bundle.as_bytes(), guest.name)?.0,
        };
        count(&guest.counters.calls);
        let began = Instant::now();
        let result = match instance.call(&self.request, clock.deadline) {
            Ok(Reply::Done(response)) => {
                read_decisions(&response, contexts.len(), route).map_err(|failure| match failure {
                    ReadFailure::Malformed(problem) => Broken::Fault(CallFailure::Malformed(problem)),
                    ReadFailure::Error(error) => Broken::Error(error),
                })
            }
            Ok(Reply::Failed(failure)) => Err(Broken::Error(failed(guest.name, failure))),
            Err(CallFailure::NoRoom) => Err(Broken::Error(no_room("send fewer contexts at once"))),
            Err(failure) => Err(Broken::Fault(failure)),
        };
        match result {
            Ok(served) => {
                self.policy = Some((digest, instance));
                Ok(served)
            }
            Err(Broken::Error(error)) => {
                self.policy = Some((digest, instance));
                Err(error)
            }
            Err(Broken::Fault(failure)) => {
                drop(instance);
                count_fault(&guest.counters, &failure);
                tracing::warn!(module = guest.name, ?failure, after = ?began.elapsed(), "guest call failed, instance replaced");
                Err(fault(guest.name, failure, clock.allowed, "deciding"))
            }
        }
    }

    /// Runs a package.
    fn run(&mut self, package: &Digest, inputs: &[Tensor], clock: Clock) -> Result<Predicted, RuntimeError> {
        clock.check("predicting")?;
        let generation = Arc::clone(&self.generation);
        let model =
            generation.models.get(package).ok_or(RuntimeError::UnknownPackage { package: *package })?;
        self.ensure_not_quarantined(model)?;
        let shared = Arc::clone(&self.shared);
        let engine = model.manifest().engine;
        let guest = shared.guests.inference(engine).map_err(|message| RuntimeError::Internal { message })?;
        let module = format!("{} ({})", guest.name, model.name());

        let mut loaded = match self.models.iter().position(|loaded| loaded.package == *package) {
            Some(index) => self.models.swap_remove(index),
            None => {
                let bytes = model.as_bytes();
                let loaded = self.load(guest, shared.settings.inference_memory, bytes, &module);
                let (instance, handle) =
                    loaded.inspect_err(|error| self.blame(package, error, Duration::MAX))?;
                LoadedModel { package: *package, instance, handle, last_call: 0 }
            }
        };
        let views: Vec<TensorView<'_>> = inputs.iter().map(Tensor::view).collect();
        if let Err(TooLarge) = write_predict_request(&mut self.request, loaded.handle, &views, &[]) {
            self.keep(loaded);
            return Err(no_room("send fewer rows at once"));
        }
        count(&guest.counters.calls);
        let began = Instant::now();
        let result = match loaded.instance.call(&self.request, clock.deadline) {
            Ok(Reply::Done(response)) => read_prediction(&response, model)
                .map_err(|problem| Broken::Fault(CallFailure::Malformed(problem))),
            Ok(Reply::Failed(failure)) => Err(Broken::Error(failed(&module, failure))),
            Err(CallFailure::NoRoom) => Err(Broken::Error(no_room("send fewer rows at once"))),
            Err(failure) => Err(Broken::Fault(failure)),
        };
        match result {
            Ok((outputs, out_of_range)) => {
                self.keep(loaded);
                Ok(Predicted { outputs, out_of_range, execution: Execution { engine, core: guest.identity } })
            }
            Err(Broken::Error(error)) => {
                self.keep(loaded);
                Err(error)
            }
            Err(Broken::Fault(failure)) => {
                drop(loaded);
                count_fault(&guest.counters, &failure);
                let ran = began.elapsed();
                tracing::warn!(module, ?failure, after = ?ran, "guest call failed, instance replaced");
                let error = fault(&module, failure, clock.allowed, "predicting");
                self.blame(package, &error, ran);
                Err(error)
            }
        }
    }

    /// Makes an instance and loads it; a package's handle comes with it. Loading has a time of its own: a caller
    /// with a short deadline should not keep a large package from ever being loaded.
    fn load(
        &self,
        guest: &Guest,
        memory: usize,
        bytes: &[u8],
        module: &str,
    ) -> Result<(Instance, u32), RuntimeError> {
        let allowed = self.shared.settings.load_deadline;
        let mut instance = guest.instance(memory, &self.shared.closing).map_err(|error| {
            RuntimeError::Internal { message: format!("no instance of {module}: {error:#}") }
        })?;
        count(&guest.counters.calls);
        match instance.load(bytes, Instant::now() + allowed) {
            Ok(Reply::Done(response)) => {
                let handle = response.count;
                Ok((instance, handle))
            }
            Ok(Reply::Failed(failure)) => Err(failed(module, failure)),
            Err(failure) => {
                count_fault(&guest.counters, &failure);
                tracing::warn!(module, ?failure, "loading into an instance failed");
                Err(fault(module, failure, allowed, "loading"))
            }
        }
    }

    /// Counts a package's fault, if it is one.
    fn blame(&self, package: &Digest, error: &RuntimeError, ran: Duration) {
        let looped =
            matches!(error, RuntimeError::DeadlineExceeded { .. }) && ran >= self.shared.settings.slow_call;
        if (error.is_fault() || looped)
            && self.shared.faults.record(*package, Instant::now(), &self.shared.settings)
        {
            tracing::error!(package = %package.short(), "package quarantined");
        }
    }

    /// Keeps an instance for the next request, and lets go of others when the worker's instances hold too much memory.
    fn keep(&mut self, mut loaded: LoadedModel) {
        self.calls += 1;
        loaded.last_call = self.calls;
        self.models.push(loaded);
        let held = |models: &[LoadedModel]| {
            models.iter().map(|model| model.instance.memory_size()).fold(0, usize::saturating_add)
        };
        while self.models.len() > 1 && held(&self.models) > self.shared.settings.worker_memory {
            let oldest = self.models.iter().enumerate().min_by_key(|(_, model)| model.last_call);
            let Some((index, _)) = oldest else { break };
            self.models.swap_remove(index);
        }
    }
}

/// A call that gave no result: through the request, or through the guest.
enum Broken {
    Error(RuntimeError),
    Fault(CallFailure),
}

enum ReadFailure {
    Malformed(Malformed),
    Error(RuntimeError),
}

impl From<Malformed> for ReadFailure {
    fn from(problem: Malformed) -> Self {
        Self::Malformed(problem)
    }
}

/// The decisions of a response, rows grouped by variant.
fn read_decisions(response: &Response<'_>, expected: usize, route: &str) -> Result<Served, ReadFailure> {
    let mut served = Served { versions: Vec::new(), rows: Vec::with_capacity(expected) };
    // The variants in the order of `served.versions`, and texts that rows share.
    let mut variants: Vec<u32> = Vec::new();
    let mut texts: Vec<Arc<str>> = Vec::new();
    for decision in response.decisions() {
        let Some(decision) = decision? else {
            return Err(ReadFailure::Error(RuntimeError::UnknownRoute { route: route.to_owned() }));
        };
        let version = match variants.iter().position(|index| *index == decision.variant_index) {
            Some(version) => version,
            None => {
                variants.push(decision.variant_index);
                served.versions.push(served_version(&decision)?);
                variants.len() - 1
            }
        };
        let mut share = |text: Option<&str>| {
            let text = text?;
            let known = texts.iter().find(|known| known.as_ref() == text).cloned();
            Some(known.unwrap_or_else(|| {
                let text: Arc<str> = text.into();
                texts.push(Arc::clone(&text));
                text
            }))
        };
        let why = Why {
            reason: Reason::from_number(decision.reason).ok_or(NUMBER)?,
            step: Step::from_number(decision.step).ok_or(NUMBER)?,
            rule: share(decision.rule),
            layer: share(decision.layer),
            bucket: decision.bucket,
            unit_missing: decision.unit_missing,
        };
        served.rows.push(ServedRow { version, decision: Some(why) });
    }
    if served.rows.len() != expected {
        return Err(Malformed { problem: "there are not as many decisions as contexts", at: 12 }.into());
    }
    Ok(served)
}

const NUMBER: Malformed = Malformed { problem: "a decision's reason, placement or step is unknown", at: 8 };

fn served_version(decision: &DecisionRecord<'_>) -> Result<ServedVersion, Malformed> {
    Ok(ServedVersion {
        variant: Some(decision.variant.to_owned()),
        model: decision.model.to_owned(),
        version: decision.version.to_owned(),
        package: Digest(decision.package),
        placement: Placement::from_number(decision.placement).ok_or(NUMBER)?,
        payload: decision.payload.map(str::to_owned),
        execution: None,
    })
}

fn read_prediction(
    response: &Response<'_>,
    model: &InstalledModel,
) -> Result<(Vec<Tensor>, Vec<OutOfRange>), Malformed> {
    let outputs = response.outputs().map(|output| output?.to_tensor()).collect::<Result<Vec<_>, _>>()?;
    let mut names: Vec<Option<Arc<str>>> = Vec::new();
    let mut name = |feature: u32| {
        let index = usize::try_from(feature).ok()?;
        let text = &model.manifest().features.get(index)?.name;
        if names.len() <= index {
            names.resize(index + 1, None);
        }
        let known = names.get_mut(index)?;
        Some(Arc::clone(known.get_or_insert_with(|| text.as_str().into())))
    };
    let mut out_of_range = Vec::new();
    for warning in response.out_of_range()? {
        let name = name(warning.feature)
            .ok_or(Malformed { problem: "a warning names a feature that the model does not have", at: 56 })?;
        out_of_range.push(OutOfRange {
            row: warning.row,
            feature: warning.feature,
            name,
            value: warning.value,
        });
    }
    Ok((outputs, out_of_range))
}

/// What a pinned version gives every row.
fn pin(generation: &Generation, route: &str, version: &str) -> Result<Served, RuntimeError> {
    let variant = generation.pinned(route, version)?;
    let version = ServedVersion {
        variant: None,
        model: variant.model.to_owned(),
        version: variant.version.to_owned(),
        package: variant.digest,
        placement: variant.placement,
        payload: None,
        execution: None,
    };
    Ok(Served { versions: vec![version], rows: vec![ServedRow { version: 0, decision: None }] })
}

/// What a failure that a module reports means to the caller.
pub(crate) fn failed(module: &str, failure: Failure) -> RuntimeError {
    let Failure { code, message, hint } = failure;
    match code {
        ErrorCode::InvalidInput => RuntimeError::InvalidInput { message, hint },
        ErrorCode::MissingValue => RuntimeError::MissingValue { message, hint },
        ErrorCode::LimitExceeded => RuntimeError::LimitExceeded { message, hint },
        code => RuntimeError::Core { module: module.to_owned(), code, message },
    }
}

/// What a call that gave no response means to the caller.
pub(crate) fn fault(
    module: &str,
    failure: CallFailure,
    allowed: Duration,
    stage: &'static str,
) -> RuntimeError {
    let module = module.to_owned();
    match failure {
        CallFailure::NoRoom => no_room("raise the memory that an instance may have"),
        CallFailure::Trap(message) => RuntimeError::Trap { module, message },
        CallFailure::CutOff => RuntimeError::DeadlineExceeded { after: allowed, stage },
        CallFailure::Memory(limit) => RuntimeError::MemoryLimit { module, limit },
        CallFailure::Malformed(problem) => RuntimeError::MalformedResponse { module, problem },
    }
}

fn count_fault(counters: &ModuleCounters, failure: &CallFailure) {
    match failure {
        CallFailure::NoRoom => {}
        CallFailure::Trap(_) => count(&counters.traps),
        CallFailure::CutOff => count(&counters.cut_off),
        CallFailure::Memory(_) => count(&counters.memory_limits),
        CallFailure::Malformed(_) => count(&counters.malformed),
    }
}

fn no_room(hint: &str) -> RuntimeError {
    RuntimeError::LimitExceeded {
        message: "the module has not enough memory for this request".to_owned(),
        hint: hint.to_owned(),
    }
}

fn no_context() -> RuntimeError {
    RuntimeError::InvalidInput {
        message: "the request has no context".to_owned(),
        hint: "send one context, which may be empty, or one per row".to_owned(),
    }
}

fn attribute(value: &Attribute) -> AttributeValue<'_> {
    match value {
        Attribute::Text(text) => AttributeValue::Text(text),
        Attribute::Number(number) => AttributeValue::Number(*number),
        Attribute::Boolean(boolean) => AttributeValue::Boolean(*boolean),
    }
}

fn system_now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
