//! A worker: a thread that owns its instances and answers one request at a time. Nothing it touches during a guest
//! call is shared, so a guest that loops or dies concerns nobody else.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lockgate_abi::{
    CompactDecision, DecideRequestWriter, Malformed, Reply, Response, TooLarge, write_predict_request,
};
use lockgate_package::plan::explain::{CONTRIBUTIONS, Contributions};
use lockgate_package::{Digest, Tensor, TensorView};
use lockgate_policy::{Bundle, Placement, RouteView};
use lockgate_shell::exchange::{self, DecisionNames, OTHER_COUNT, Texts, UNKNOWN_PLACE};
use lockgate_shell::rows::{self, Part};
use lockgate_shell::versions;

use crate::engine::{CallFailure, Guest, Instance};
use crate::generation::{Generation, InstalledModel, Policy, policy_contents};
use crate::runtime::Shared;
use crate::shadow::{Admitted, Copied, ShadowCopy};
use crate::stats::{ModuleCounters, count};
use crate::weight::Weight;
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
    /// Whether somebody waits for what its instances say.
    answers: bool,
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
        Self {
            shared,
            generation,
            policy: None,
            models: Vec::new(),
            request: Vec::new(),
            calls: 0,
            answers: true,
        }
    }

    /// A worker for shadows. What a package does as a shadow is never held against it where it serves.
    pub(crate) fn for_shadows(shared: Arc<Shared>) -> Self {
        Self { answers: false, ..Self::new(shared) }
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
            return Err(RuntimeError::no_context());
        }
        let begin = Instant::now();
        let served = self.ask(policy, &request.route, &request.contexts, request.now_ms, clock)?.served;
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
        let predicted = self.run(&request.package, &request.inputs, request.contributions, clock)?;
        Ok(PredictAnswer {
            outputs: predicted.outputs,
            out_of_range: predicted.out_of_range,
            core: predicted.execution.core,
            engine: predicted.execution.engine,
            timings: Timings { queue, decide: Duration::ZERO, predict: begin.elapsed() },
        })
    }

    /// Answers, and lets through what the shadows get once the answer is out.
    pub(crate) fn infer(
        &mut self,
        request: &InferRequest,
        clock: Clock,
    ) -> Result<(InferAnswer, Option<Pending>), RuntimeError> {
        let queue = clock.submitted.elapsed();
        let generation = Arc::clone(&self.generation);
        let policy = generation.policy.as_ref().ok_or(RuntimeError::NoBundle)?;
        let total = request.contexts.len();
        let begin = Instant::now();
        let Asked { mut served, shadows } = match &request.pinned {
            Some(version) => Asked { served: self.pin(&generation, request, version)?, shadows: Vec::new() },
            None => {
                match total {
                    0 => return Err(RuntimeError::no_context()),
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
            let predicted = self.run(&version.package, &request.inputs, request.contributions, clock)?;
            version.execution = Some(predicted.execution);
            (predicted.outputs, predicted.out_of_range)
        } else {
            self.run_each(&mut served, request, total, clock)?
        };
        let predict = begin.elapsed();
        let pending = self.admit_shadows(policy, &shadows, request, &outputs);
        let answer = InferAnswer {
            outputs,
            served,
            out_of_range,
            pinned: request.pinned.is_some(),
            bundle: policy.id(),
            core: self.shared.guests.policy.identity,
            timings: Timings { queue, decide, predict },
        };
        Ok((answer, pending))
    }

    /// Which shadows get a copy. The outputs are copied only when one does.
    fn admit_shadows(
        &self,
        policy: &Policy,
        wanted: &[ShadowRows],
        request: &InferRequest,
        outputs: &[Tensor],
    ) -> Option<Pending> {
        if wanted.is_empty() {
            return None;
        }
        let total = if request.contexts.len() > 1 { request.contexts.len() } else { 0 };
        let bytes: usize = request.inputs.iter().map(|input| input.data.len()).sum();
        let mut admitted = Vec::new();
        for ShadowRows { route, shadow, rows } in wanted {
            let Some(route) = policy.bundle.route_at(*route) else { continue };
            let Some(view) = route.shadow(*shadow) else { continue };
            let is_here = self.generation.models.contains_key(&view.variant.digest);
            let all = total == 0 || rows.len() == total;
            let share = if all { bytes } else { bytes / total.max(1) * rows.len() };
            let rows = (!all).then(|| rows.clone());
            admitted.extend(self.shared.shadows.admit(&route, &view, is_here, share, rows));
        }
        // What a shadow is compared with is what the models say, not why.
        let is_compared = |output: &&Tensor| !request.contributions.is_output(&output.name);
        let outputs = || outputs.iter().filter(is_compared).cloned().collect();
        (!admitted.is_empty()).then(|| Pending { admitted, outputs: outputs(), total })
    }

    /// Runs a shadow's copy and compares.
    pub(crate) fn shadow(&mut self, copy: &ShadowCopy) {
        let now = Instant::now();
        let deadline = crate::queue::Deadline::deadline(copy);
        let Some(allowed) = deadline.checked_duration_since(now) else { return copy.expire() };
        let clock = Clock { submitted: now, deadline, allowed };
        let outputs = copy
            .inputs()
            .and_then(|inputs| self.run(copy.package(), &inputs, Contributions::None, clock))
            .map(|predicted| predicted.outputs);
        copy.compare(outputs);
    }

    /// Runs every version on its rows and puts the outputs together.
    fn run_each(
        &mut self,
        served: &mut Served,
        request: &InferRequest,
        total: usize,
        clock: Clock,
    ) -> Result<(Vec<Tensor>, Vec<OutOfRange>), RuntimeError> {
        let groups = served.groups();
        let mut results = Vec::with_capacity(groups.len());
        let mut warnings = Vec::new();
        for (version, rows) in served.versions.iter_mut().zip(&groups) {
            let inputs = rows::take(&request.inputs, total, rows)?;
            let predicted = self.run(&version.package, &inputs, request.contributions, clock)?;
            version.execution = Some(predicted.execution);
            warnings.extend(predicted.out_of_range.into_iter().filter_map(|warning| {
                let row = *rows.get(usize::try_from(warning.row).ok()?)?;
                Some(OutOfRange { row: u32::try_from(row).ok()?, ..warning })
            }));
            results.push((versions::model_name(&version.model, &version.version), predicted.outputs));
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
        match self.shared.faults.quarantined(&model.digest()) {
            Some(retry_after) => Err(RuntimeError::Quarantined {
                model: model.manifest().model.clone(),
                version: model.manifest().version.clone(),
                retry_after,
            }),
            None => Ok(()),
        }
    }

    /// What a pinned version gives every row. The policy chooses nothing, but it still says who may see the route.
    fn pin(
        &self,
        generation: &Generation,
        request: &InferRequest,
        version: &str,
    ) -> Result<Served, RuntimeError> {
        let unavailable = self.shared.faults.unavailable();
        let now_ms = request.now_ms.unwrap_or_else(system_now_ms);
        let resolve = |context| generation.resolve(&request.route, context, now_ms, &unavailable);
        let nobody = Context::default();
        let route = resolve(request.contexts.first().unwrap_or(&nobody))?;
        for other in request.contexts.iter().skip(1) {
            if resolve(other)?.index() != route.index() {
                return Err(RuntimeError::definitions_differ());
            }
        }
        let variant = generation.pinned(&route, version)?;
        let baseline = (!route.enabled()).then(|| route.baseline());
        versions::ensure_enabled(route.name(), route.variants(), baseline.as_ref(), &variant)?;
        Ok(Served::pinned(&variant))
    }

    /// Asks the policy module.
    fn ask(
        &mut self,
        policy: &Policy,
        route: &str,
        contexts: &[Context],
        now_ms: Option<i64>,
        clock: Clock,
    ) -> Result<Asked, RuntimeError> {
        clock.check("waiting")?;
        let unavailable = self.shared.faults.unavailable();
        let now_ms = now_ms.unwrap_or_else(system_now_ms);
        let mut writer = DecideRequestWriter::new(&mut self.request, now_ms).compact();
        exchange::write_contexts(&mut writer, route, contexts)?;
        writer.finish(&unavailable).map_err(exchange::too_many_contexts)?;

        let shared = Arc::clone(&self.shared);
        let guest = &shared.guests.policy;
        let digest = policy.bundle.digest();
        let mut instance = match self.policy.take() {
            Some((_, instance)) => instance,
            None => self.load_policy(policy)?,
        };
        count(&guest.counters.calls);
        let began = Instant::now();
        let result = match instance.call(&self.request, clock.deadline) {
            Ok(Reply::Done(response)) => read_decisions(&response, &policy.bundle, contexts.len(), route)
                .map_err(|failure| match failure {
                    ReadFailure::Malformed(problem) => Broken::Fault(CallFailure::Malformed(problem)),
                    ReadFailure::Error(error) => Broken::Error(error),
                }),
            Ok(Reply::Failed(failure)) => Err(Broken::Error(RuntimeError::reported(guest.name, failure))),
            Err(CallFailure::NoRoom) => {
                Err(Broken::Error(RuntimeError::no_room("send fewer contexts at once")))
            }
            Err(failure) => Err(Broken::Fault(failure)),
        };
        match result {
            Ok(asked) => {
                self.policy = Some((digest, instance));
                Ok(asked)
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
    fn run(
        &mut self,
        package: &Digest,
        inputs: &[Tensor],
        contributions: Contributions,
        clock: Clock,
    ) -> Result<Predicted, RuntimeError> {
        clock.check("predicting")?;
        let generation = Arc::clone(&self.generation);
        let model =
            generation.models.get(package).ok_or(RuntimeError::UnknownPackage { package: *package })?;
        self.ensure_not_quarantined(model)?;
        let shared = Arc::clone(&self.shared);
        let engine = model.manifest().engine;
        let guest = match &model.baked {
            Some((baked, _)) => baked,
            None => shared.guests.inference(engine).map_err(|message| RuntimeError::Internal { message })?,
        };
        let module = format!("{} ({})", guest.name, model.name());

        let mut loaded = match self.models.iter().position(|loaded| loaded.package == *package) {
            Some(index) => self.models.swap_remove(index),
            None => {
                let loaded = self.load_model(guest, model, &module);
                let (instance, handle) =
                    loaded.inspect_err(|error| self.blame(package, error, Duration::MAX))?;
                LoadedModel { package: *package, instance, handle, last_call: 0 }
            }
        };
        let views: Vec<TensorView<'_>> = inputs.iter().map(Tensor::view).collect();
        let option = contributions.value().map(|value| (CONTRIBUTIONS, value));
        if let Err(TooLarge) =
            write_predict_request(&mut self.request, loaded.handle, &views, option.as_slice())
        {
            self.keep(loaded);
            return Err(RuntimeError::no_room("send fewer rows at once"));
        }
        count(&guest.counters.calls);
        let began = Instant::now();
        let result = match loaded.instance.call(&self.request, clock.deadline) {
            Ok(Reply::Done(response)) => read_prediction(&response, model)
                .map_err(|problem| Broken::Fault(CallFailure::Malformed(problem))),
            Ok(Reply::Failed(failure)) => Err(Broken::Error(RuntimeError::reported(&module, failure))),
            Err(CallFailure::NoRoom) => Err(Broken::Error(RuntimeError::no_room("send fewer rows at once"))),
            Err(failure) => Err(Broken::Fault(failure)),
        };
        match result {
            Ok((outputs, out_of_range)) => {
                self.keep(loaded);
                Ok(Predicted {
                    outputs,
                    out_of_range,
                    execution: Execution { engine, core: guest.identity, mock: model.manifest().mock },
                })
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
                let weight = Weight::of(&self.request, inputs, contributions, model.manifest());
                match failure {
                    CallFailure::Memory(limit) if weight.explains_memory(limit) => {
                        return Err(Weight::too_large(limit));
                    }
                    CallFailure::CutOff if weight.explains_time(ran) => {
                        return Err(fault(&module, failure, clock.allowed, "predicting"));
                    }
                    _ => {}
                }
                let error = fault(&module, failure, clock.allowed, "predicting");
                self.blame(package, &error, ran);
                Err(error)
            }
        }
    }

    /// Makes an instance of the policy module.
    fn load_policy(&self, policy: &Policy) -> Result<Instance, RuntimeError> {
        let memory = self.shared.settings.policy_memory;
        if let Some(baked) = &policy.baked {
            return self.instance(baked, memory, baked.name);
        }
        let guest = &self.shared.guests.policy;
        let mut instance = self.instance(guest, memory, guest.name)?;
        for bytes in policy_contents(&policy.bundle) {
            self.hand_over(guest, &mut instance, bytes, guest.name)?;
        }
        Ok(instance)
    }

    /// Makes an instance that holds a package, whose handle comes with it. Loading has a time of its own: a caller
    /// with a short deadline should not keep a large package from ever being loaded.
    fn load_model(
        &self,
        guest: &Guest,
        model: &InstalledModel,
        module: &str,
    ) -> Result<(Instance, u32), RuntimeError> {
        let memory = self.shared.settings.inference_memory;
        if let Some((baked, handle)) = &model.baked {
            return Ok((self.instance(baked, memory, module)?, *handle));
        }
        let mut instance = self.instance(guest, memory, module)?;
        let handle = self.hand_over(guest, &mut instance, model.as_bytes(), module)?;
        Ok((instance, handle))
    }

    fn instance(&self, guest: &Guest, memory: usize, module: &str) -> Result<Instance, RuntimeError> {
        guest.instance(memory, &self.shared.closing).map_err(|error| RuntimeError::Internal {
            message: format!("no instance of {module}: {error:#}"),
        })
    }

    fn hand_over(
        &self,
        guest: &Guest,
        instance: &mut Instance,
        bytes: &[u8],
        module: &str,
    ) -> Result<u32, RuntimeError> {
        let allowed = self.shared.settings.load_deadline;
        count(&guest.counters.calls);
        match instance.load(bytes, Instant::now() + allowed) {
            Ok(Reply::Done(response)) => Ok(response.count),
            Ok(Reply::Failed(failure)) => Err(RuntimeError::reported(module, failure)),
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
        if self.answers && (error.is_fault() || looped) && self.shared.faults.record(*package) {
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

/// What the policy said.
struct Asked {
    served: Served,
    shadows: Vec<ShadowRows>,
}

/// The rows that a shadow gets.
struct ShadowRows {
    /// The route, by its place in the bundle.
    route: u32,
    /// The shadow, by its place in the route.
    shadow: u32,
    rows: Vec<usize>,
}

/// The shadows of a request that wait for its inputs, which the answer no longer needs.
pub(crate) struct Pending {
    admitted: Vec<Admitted>,
    outputs: Vec<Tensor>,
    total: usize,
}

impl Pending {
    pub(crate) fn submit(self, shared: &Shared, inputs: Vec<Tensor>) {
        let Self { admitted, outputs, total } = self;
        shared.shadows.submit(admitted, Copied { inputs, outputs, total });
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

/// The decisions of a response, rows grouped by variant. They are indices; the names are looked up in the bundle that the
/// instance was loaded with.
fn read_decisions(
    response: &Response<'_>,
    bundle: &Bundle,
    expected: usize,
    route: &str,
) -> Result<Asked, ReadFailure> {
    let mut served = Served { versions: Vec::new(), rows: Vec::with_capacity(expected) };
    let mut shadows: Vec<ShadowRows> = Vec::new();
    // The variants in the order of `served.versions`, and texts that rows share.
    let mut variants: Vec<(u32, u32)> = Vec::new();
    let mut texts = Texts::default();
    for (row, decision) in response.compact_decisions()?.enumerate() {
        let Some(decision) = decision? else {
            return Err(ReadFailure::Error(RuntimeError::UnknownRoute { route: route.to_owned() }));
        };
        let place = (decision.route_index, decision.variant_index);
        let view = bundle.route_at(decision.route_index).ok_or(UNKNOWN_PLACE)?;
        let version = match variants.iter().position(|known| *known == place) {
            Some(version) => version,
            None => {
                variants.push(place);
                served.versions.push((&view.variant(decision.variant_index).ok_or(UNKNOWN_PLACE)?).into());
                variants.len() - 1
            }
        };
        let why = why(&decision, bundle, &view, &mut texts)?;
        served.rows.push(ServedRow { version, decision: Some(why) });
        for shadow in (0..u32::BITS).filter(|shadow| decision.shadow_mask >> shadow & 1 != 0) {
            let route = decision.route_index;
            match shadows.iter_mut().find(|known| (known.route, known.shadow) == (route, shadow)) {
                Some(known) => known.rows.push(row),
                None => shadows.push(ShadowRows { route, shadow, rows: vec![row] }),
            }
        }
    }
    if served.rows.len() != expected {
        return Err(OTHER_COUNT.into());
    }
    Ok(Asked { served, shadows })
}

fn why(
    decision: &CompactDecision,
    bundle: &Bundle,
    route: &RouteView<'_>,
    texts: &mut Texts,
) -> Result<Why, Malformed> {
    let (rule, layer) = match decision.target_index {
        Some(target) => bundle.target_names(target).ok_or(UNKNOWN_PLACE)?,
        None => (None, None),
    };
    let intended = match decision.intended_index {
        Some(index) => Some(route.variant(index).ok_or(UNKNOWN_PLACE)?.name),
        None => None,
    };
    let names = DecisionNames { rule, layer, intended, tenant: route.tenant(), user: route.user() };
    Why::read(decision, &names, texts)
}

fn read_prediction(
    response: &Response<'_>,
    model: &InstalledModel,
) -> Result<(Vec<Tensor>, Vec<OutOfRange>), Malformed> {
    let outputs = response.outputs().map(|output| output?.to_tensor()).collect::<Result<Vec<_>, _>>()?;
    let features = &model.manifest().features;
    let out_of_range =
        OutOfRange::read(response, |index| features.get(index).map(|feature| feature.name.as_str()))?;
    Ok((outputs, out_of_range))
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
        CallFailure::NoRoom => RuntimeError::no_room("raise the memory that an instance may have"),
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

pub(crate) fn system_now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
