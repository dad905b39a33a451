use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use lockgate_core::CoreModules;
use lockgate_package::Engine;
use lockgate_policy::RouteView;
use tokio::sync::oneshot;

use crate::engine::{Closing, Guests};
use crate::faults::SharedFaults;
use crate::generation::{self, Generation, Installed};
use crate::queue::{Deadline, Next, Queue, Refused};
use crate::shadow::{ShadowStatus, Shadows};
use crate::stats::{Stats, count};
use crate::worker::{Clock, Worker, system_now_ms};
use crate::{
    BuildError, BundleId, BundleStatus, Contents, Context, DecideAnswer, DecideRequest, InferAnswer,
    InferRequest, InstallError, ModelStatus, PredictAnswer, PredictRequest, RuntimeError, Settings,
    StatsSnapshot, Status, Trust,
};

/// The core, running: a handle that is cheap to clone. When the last one is dropped, running guest calls are cut off
/// and the threads end.
#[derive(Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

/// Collects what a [`Runtime`] is built from.
#[derive(Debug, Clone)]
pub struct RuntimeBuilder {
    core: CoreModules,
    settings: Settings,
}

/// What the threads share.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) guests: Guests,
    pub(crate) generation: ArcSwap<Generation>,
    pub(crate) faults: SharedFaults,
    pub(crate) stats: Arc<Stats>,
    pub(crate) shadows: Shadows,
    pub(crate) closing: Closing,
    queue: Queue<Job>,
    busy: AtomicUsize,
}

struct Inner {
    shared: Arc<Shared>,
    core: CoreModules,
    /// The newest bundle ever installed; held while a new generation is built, so that installations queue up.
    newest: Mutex<Option<BundleId>>,
    workers: Vec<JoinHandle<()>>,
    ticker: Option<(Arc<Stop>, JoinHandle<()>)>,
}

impl RuntimeBuilder {
    /// Takes these settings instead of the default ones.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Compiles the modules and starts the threads. Nothing is installed yet.
    ///
    /// # Errors
    /// Modules that are none of the core, a cache folder that cannot be used, threads that cannot be had.
    pub fn build(self) -> Result<Runtime, BuildError> {
        let Self { core, settings } = self;
        let stats = Arc::new(Stats::default());
        let guests = Guests::compile(&core, &settings, Arc::clone(&stats))?;
        let shared = Arc::new(Shared {
            queue: Queue::new(settings.queue),
            guests,
            generation: ArcSwap::from_pointee(Generation::empty()),
            faults: SharedFaults::new(&settings),
            stats,
            shadows: Shadows::new(),
            closing: Closing::default(),
            busy: AtomicUsize::new(0),
            settings,
        });
        let mut inner = Inner {
            shared: Arc::clone(&shared),
            core,
            newest: Mutex::new(None),
            workers: Vec::new(),
            ticker: None,
        };
        // Should a thread be refused, dropping `inner` ends those that run.
        for index in 0..shared.settings.workers.max(1) {
            let shared = Arc::clone(&shared);
            let thread = thread::Builder::new().name(format!("lockgate-worker-{index}"));
            inner.workers.push(thread.spawn(move || work(&shared)).map_err(BuildError::Thread)?);
        }
        let shadows = Arc::clone(&shared);
        let thread = thread::Builder::new().name("lockgate-shadows".to_owned());
        inner.workers.push(thread.spawn(move || run_shadows(&shadows)).map_err(BuildError::Thread)?);
        let stop = Arc::new(Stop::default());
        // A ticker that never rests would take a core for itself.
        let (signal, tick) = (Arc::clone(&stop), shared.settings.tick.max(Duration::from_millis(1)));
        let thread = thread::Builder::new().name("lockgate-ticker".to_owned());
        let ticker = thread.spawn(move || {
            while !signal.wait(tick) {
                shared.guests.tick();
                for job in shared.queue.expired(Instant::now()) {
                    job.expire(&shared.stats);
                }
                for copy in shared.shadows.queue.expired(Instant::now()) {
                    copy.expire();
                }
            }
        });
        inner.ticker = Some((stop, ticker.map_err(BuildError::Thread)?));
        Ok(Runtime { inner: Arc::new(inner) })
    }
}

impl Runtime {
    /// Begins to build a runtime on these modules.
    pub fn builder(core: CoreModules) -> RuntimeBuilder {
        RuntimeBuilder { core, settings: Settings::default() }
    }

    /// Installs a bundle with the packages that it pins; both replace what was installed. Without a bundle there are
    /// no routes, and the packages answer [`predict`](Self::predict) alone.
    ///
    /// Everything is opened, checked against each other and loaded into an instance before the first request sees it.
    /// Requests that run already finish on what they began with. Nothing changes when there is an error. This takes as
    /// long as loading takes, on the calling thread.
    ///
    /// # Errors
    /// Bundles and packages that cannot be read or loaded, that do not fit each other, or a bundle that is not newer.
    pub fn install(
        &self,
        bundle: Option<Vec<u8>>,
        packages: Vec<Vec<u8>>,
    ) -> Result<Installed, InstallError> {
        self.install_contents(Contents::unnamed(bundle, packages), None)
    }

    /// Installs like [`install`](Self::install), with names for errors, unit lists, and demands that must be met before anything in
    /// the contents is believed.
    ///
    /// # Errors
    /// Those of [`install`](Self::install), and demands that are not met.
    pub fn install_contents(
        &self,
        contents: Contents,
        trust: Option<Trust<'_>>,
    ) -> Result<Installed, InstallError> {
        let shared = &self.inner.shared;
        let begin = Instant::now();
        let mut newest = self.inner.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let current = shared.generation.load_full();
        let built = generation::build(&shared.guests, &shared.settings, &current, *newest, contents, trust);
        let (next, unused) = built.inspect_err(|_| count(&shared.stats.failed_installs))?;
        let installed = Installed {
            generation: next.number,
            bundle: next.policy.as_ref().map(generation::Policy::id),
            models: next.models.len(),
            unused,
            duration: begin.elapsed(),
        };
        shared.faults.retain(|package| next.models.contains_key(package));
        shared.generation.store(Arc::new(next));
        shared.queue.refresh(installed.generation);
        shared.shadows.queue.refresh(installed.generation);
        *newest = installed.bundle.or(*newest);
        count(&shared.stats.installs);
        Ok(installed)
    }

    /// What is installed now: routes, signatures, manifests.
    pub fn generation(&self) -> Arc<Generation> {
        self.inner.shared.generation.load_full()
    }

    /// Decides, and waits for the answer.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub fn decide(&self, request: DecideRequest) -> Result<DecideAnswer, RuntimeError> {
        self.wait(request.deadline, |answer| Work::Decide(request, answer))
    }

    /// Decides.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub async fn decide_async(&self, request: DecideRequest) -> Result<DecideAnswer, RuntimeError> {
        self.answer(request.deadline, |answer| Work::Decide(request, answer)).await
    }

    /// Asks one package, and waits for the answer.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub fn predict(&self, request: PredictRequest) -> Result<PredictAnswer, RuntimeError> {
        self.wait(request.deadline, |answer| Work::Predict(request, answer))
    }

    /// Asks one package.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub async fn predict_async(&self, request: PredictRequest) -> Result<PredictAnswer, RuntimeError> {
        self.answer(request.deadline, |answer| Work::Predict(request, answer)).await
    }

    /// Asks a route, and waits for the answer: decides for every context, predicts, merges.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub fn infer(&self, request: InferRequest) -> Result<InferAnswer, RuntimeError> {
        self.wait(request.deadline, |answer| Work::Infer(request, answer))
    }

    /// Asks a route: decides for every context, predicts, merges. A request that is dropped before a worker takes it
    /// is not run.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub async fn infer_async(&self, request: InferRequest) -> Result<InferAnswer, RuntimeError> {
        self.answer(request.deadline, |answer| Work::Infer(request, answer)).await
    }

    /// What was counted since the runtime was built.
    pub fn stats(&self) -> StatsSnapshot {
        self.inner.shared.stats.snapshot()
    }

    /// What was counted for each shadow since the runtime was built.
    pub fn shadows(&self) -> Vec<ShadowStatus> {
        self.inner.shared.shadows.status()
    }

    /// The definition of a route that a context may see, with what is known now of time and packages.
    ///
    /// # Errors
    /// No bundle; no such route, or none that the context may know of, which cannot be told apart.
    pub fn resolve<'g>(
        &self,
        generation: &'g Generation,
        route: &str,
        context: &Context,
    ) -> Result<RouteView<'g>, RuntimeError> {
        let unavailable = self.inner.shared.faults.unavailable();
        generation.resolve(route, context, system_now_ms(), &unavailable)
    }

    /// How the runtime and what is installed are.
    pub fn status(&self) -> Status {
        let shared = &self.inner.shared;
        let generation = shared.generation.load();
        let model = |model: &Arc<generation::InstalledModel>| {
            let manifest = model.manifest();
            ModelStatus {
                model: manifest.model.clone(),
                version: manifest.version.clone(),
                package: model.digest(),
                engine: manifest.engine,
                bytes: model.as_bytes().len(),
                load: model.load,
                faults: shared.faults.total(&model.digest()),
                quarantined: shared.faults.quarantined(&model.digest()),
            }
        };
        let mut models: Vec<_> = generation.models.values().map(model).collect();
        models.sort_by(|a, b| (&a.model, &a.version).cmp(&(&b.model, &b.version)));
        Status {
            generation: generation.number,
            bundle: generation.policy.as_ref().map(|policy| BundleStatus {
                id: policy.id(),
                routes: policy.bundle.route_count(),
                bytes: policy.bundle.as_bytes().len(),
                load: policy.load,
            }),
            models,
            workers: shared.settings.workers.max(1),
            busy: shared.busy.load(Ordering::Relaxed),
            waiting: shared.queue.len(),
            queue: shared.settings.queue,
            policy_core: self.inner.core.policy.identity(),
            tabular_core: self.inner.core.tabular.identity(),
            graph_core: self.inner.core.graph.as_ref().map(lockgate_core::Module::identity),
        }
    }

    /// The identity of the inference module that runs plans of this engine, if this core has it.
    pub fn inference_core(&self, engine: Engine) -> Option<lockgate_package::Digest> {
        match engine {
            Engine::Tabular => Some(self.inner.core.tabular.identity()),
            Engine::Graph => self.inner.core.graph.as_ref().map(lockgate_core::Module::identity),
        }
    }

    fn wait<T>(
        &self,
        deadline: Option<Duration>,
        work: impl FnOnce(Answer<T>) -> Work,
    ) -> Result<T, RuntimeError> {
        let (sender, receiver) = sync_channel(1);
        self.submit(deadline, work(Answer::Thread(sender)))?;
        receiver.recv().unwrap_or_else(|_| Err(lost()))
    }

    async fn answer<T>(
        &self,
        deadline: Option<Duration>,
        work: impl FnOnce(Answer<T>) -> Work,
    ) -> Result<T, RuntimeError> {
        let (sender, receiver) = oneshot::channel();
        self.submit(deadline, work(Answer::Task(sender)))?;
        receiver.await.unwrap_or_else(|_| Err(lost()))
    }

    fn submit(&self, deadline: Option<Duration>, work: Work) -> Result<(), RuntimeError> {
        let shared = &self.inner.shared;
        let allowed = deadline.unwrap_or(shared.settings.deadline);
        let submitted = Instant::now();
        // A deadline beyond what the clock can hold is as good as a year.
        let year = Duration::from_secs(365 * 24 * 3600);
        let deadline = submitted.checked_add(allowed.min(year)).unwrap_or(submitted);
        let job = Job { work, clock: Clock { submitted, deadline, allowed } };
        shared.queue.push(job).map_err(|refused| match refused {
            Refused::Closed(_) => RuntimeError::ShuttingDown,
            Refused::Full(_, waiting) => {
                count(&shared.stats.shed);
                let retry_after = shared.stats.retry_after(waiting, shared.settings.workers.max(1));
                RuntimeError::Overloaded { waiting, retry_after }
            }
        })
    }
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").field("status", &self.status()).finish()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.closing.close();
        for job in self.shared.queue.close() {
            job.refuse(RuntimeError::ShuttingDown);
        }
        drop(self.shared.shadows.queue.close());
        // The ticker goes last: without it no running call would look at its deadline again.
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
        if let Some((stop, ticker)) = self.ticker.take() {
            stop.set();
            let _ = ticker.join();
        }
    }
}

struct Job {
    work: Work,
    clock: Clock,
}

enum Work {
    Decide(DecideRequest, Answer<DecideAnswer>),
    Predict(PredictRequest, Answer<PredictAnswer>),
    Infer(InferRequest, Answer<InferAnswer>),
}

/// Where an answer goes: to a thread that waits, or to a task.
enum Answer<T> {
    Thread(SyncSender<Result<T, RuntimeError>>),
    Task(oneshot::Sender<Result<T, RuntimeError>>),
}

impl<T> Answer<T> {
    /// A caller that went away is no error.
    fn send(self, result: Result<T, RuntimeError>) {
        match self {
            Self::Thread(sender) => drop(sender.send(result)),
            Self::Task(sender) => drop(sender.send(result)),
        }
    }

    fn is_wanted(&self) -> bool {
        match self {
            Self::Thread(_) => true,
            Self::Task(sender) => !sender.is_closed(),
        }
    }
}

impl Deadline for Job {
    fn deadline(&self) -> Instant {
        self.clock.deadline
    }
}

impl Job {
    fn is_wanted(&self) -> bool {
        match &self.work {
            Work::Decide(_, answer) => answer.is_wanted(),
            Work::Predict(_, answer) => answer.is_wanted(),
            Work::Infer(_, answer) => answer.is_wanted(),
        }
    }

    fn refuse(self, error: RuntimeError) {
        match self.work {
            Work::Decide(_, answer) => answer.send(Err(error)),
            Work::Predict(_, answer) => answer.send(Err(error)),
            Work::Infer(_, answer) => answer.send(Err(error)),
        }
    }

    fn expire(self, stats: &Stats) {
        count(&stats.deadline_exceeded);
        count(&stats.answered);
        let error = self.clock.exceeded("waiting");
        self.refuse(error);
    }

    fn run(self, worker: &mut Worker, shared: &Shared) {
        let (clock, stats) = (self.clock, &shared.stats);
        match self.work {
            Work::Decide(request, answer) => {
                finish(answer, stats, worker, |worker| worker.decide(&request, clock));
            }
            Work::Predict(request, answer) => {
                finish(answer, stats, worker, |worker| worker.predict(&request, clock));
            }
            Work::Infer(request, answer) => {
                let mut pending = None;
                finish(answer, stats, worker, |worker| {
                    let (answer, shadows) = worker.infer(&request, clock)?;
                    pending = shadows;
                    Ok(answer)
                });
                // The answer is out; what the shadows need is taken from what it was made of.
                if let Some(pending) = pending {
                    pending.submit(shared, request.inputs);
                }
            }
        }
    }
}

/// Computes and sends an answer. Should the runtime itself panic, that request fails, the worker starts afresh, and
/// nothing else notices.
fn finish<T>(
    answer: Answer<T>,
    stats: &Stats,
    worker: &mut Worker,
    compute: impl FnOnce(&mut Worker) -> Result<T, RuntimeError>,
) {
    let begin = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| compute(worker))).unwrap_or_else(|_| {
        worker.clear();
        Err(RuntimeError::Internal { message: "a worker panicked".to_owned() })
    });
    match &result {
        Err(RuntimeError::DeadlineExceeded { .. }) => count(&stats.deadline_exceeded),
        Err(RuntimeError::Quarantined { .. }) => count(&stats.quarantined),
        _ => {}
    }
    let spent = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
    stats.busy_us.fetch_add(spent, Ordering::Relaxed);
    count(&stats.answered);
    answer.send(result);
}

fn work(shared: &Arc<Shared>) {
    let mut worker = Worker::new(Arc::clone(shared));
    loop {
        let next = shared.queue.pop(worker.generation());
        match next {
            Next::Closed => return,
            Next::Refresh => worker.refresh(),
            Next::Job(job) if !job.is_wanted() => {}
            Next::Job(job) => {
                shared.busy.fetch_add(1, Ordering::Relaxed);
                worker.refresh();
                job.run(&mut worker, shared);
                shared.busy.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

/// The shadows' thread: it has instances of its own and answers nobody.
fn run_shadows(shared: &Arc<Shared>) {
    let mut worker = Worker::for_shadows(Arc::clone(shared));
    loop {
        match shared.shadows.queue.pop(worker.generation()) {
            Next::Closed => return,
            Next::Refresh => worker.refresh(),
            Next::Job(copy) => {
                worker.refresh();
                if catch_unwind(AssertUnwindSafe(|| worker.shadow(&copy))).is_err() {
                    worker.clear();
                }
            }
        }
    }
}

fn lost() -> RuntimeError {
    RuntimeError::Internal { message: "the answer was lost".to_owned() }
}

/// Ends the ticker without waiting for its next tick.
#[derive(Default)]
struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    fn set(&self) {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Waits for `time`, or less when stopped; returns whether it was.
    fn wait(&self, time: Duration) -> bool {
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(stopped, time, |stopped| !*stopped);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}
