//! wasmtime: compiled modules, and instances that are called through the flat entry point.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use lockgate_abi::{Malformed, Reply};
use lockgate_core::{CoreModules, Module as CoreModule, recorded_identity};
use lockgate_package::{Digest, Engine as PlanEngine};
use wasmtime::{
    Cache, CacheConfig, Config, Engine, InstancePre, Linker, Memory, ResourceLimiter, Store, Trap, TypedFunc,
    UpdateDeadline,
};

use crate::stats::{Gauge, ModuleCounters, Stats};
use crate::{BuildError, CompileCache, Settings};

/// The modules of the core, compiled.
pub(crate) struct Guests {
    engine: Engine,
    pub(crate) policy: Guest,
    pub(crate) tabular: Guest,
    graph: Option<(CoreModule, OnceLock<Result<Guest, String>>)>,
    stats: Arc<Stats>,
}

/// A compiled module.
pub(crate) struct Guest {
    pub(crate) name: &'static str,
    pub(crate) identity: Digest,
    pre: InstancePre<State>,
    entry: &'static str,
    pub(crate) counters: Arc<ModuleCounters>,
}

impl Guests {
    /// Compiles the policy module and the tabular flavour. The graph flavour is large and waits until a package needs
    /// it.
    pub(crate) fn compile(
        core: &CoreModules,
        settings: &Settings,
        stats: Arc<Stats>,
    ) -> Result<Self, BuildError> {
        let engine = engine(settings)?;
        let policy = Guest::compile(&engine, "policy", &core.policy, "lockgate_decide", &stats.policy)?;
        let tabular = Guest::compile(&engine, "tabular", &core.tabular, "lockgate_predict", &stats.tabular)?;
        let graph = core.graph.clone().map(|module| (module, OnceLock::new()));
        Ok(Self { engine, policy, tabular, graph, stats })
    }

    /// The inference module that runs plans of this engine, or why there is none.
    pub(crate) fn inference(&self, engine: PlanEngine) -> Result<&Guest, String> {
        match engine {
            PlanEngine::Tabular => Ok(&self.tabular),
            PlanEngine::Graph => {
                let (module, compiled) = self.graph.as_ref().ok_or("this core does not have it")?;
                let compile = || {
                    Guest::compile(&self.engine, "graph", module, "lockgate_predict", &self.stats.graph)
                        .map_err(|error| error.to_string())
                };
                compiled.get_or_init(compile).as_ref().map_err(Clone::clone)
            }
        }
    }

    /// An image of the policy module, compiled.
    pub(crate) fn policy_image(&self, bytes: &[u8]) -> Result<Guest, String> {
        self.image(bytes, "policy", "lockgate_decide", self.policy.identity, &self.stats.policy)
    }

    /// An image of the inference module that runs plans of this engine, compiled.
    pub(crate) fn inference_image(&self, bytes: &[u8], engine: PlanEngine) -> Result<Guest, String> {
        let (name, identity, counters) = match engine {
            PlanEngine::Tabular => ("tabular", self.tabular.identity, &self.stats.tabular),
            PlanEngine::Graph => {
                let (module, _) = self.graph.as_ref().ok_or("this core does not have the graph flavour")?;
                ("graph", module.identity(), &self.stats.graph)
            }
        };
        self.image(bytes, name, "lockgate_predict", identity, counters)
    }

    fn image(
        &self,
        bytes: &[u8],
        name: &'static str,
        entry: &'static str,
        identity: Digest,
        counters: &Arc<ModuleCounters>,
    ) -> Result<Guest, String> {
        match recorded_identity(bytes).map_err(|error| error.to_string())? {
            Some(found) if found == identity => {}
            Some(found) => {
                return Err(format!("it was made from the module {found}, this core has {identity}"));
            }
            None => return Err("it was made from no module of the core".to_owned()),
        }
        Guest::compile_bytes(&self.engine, name, bytes, identity, entry, counters)
            .map_err(|error| error.to_string())
    }

    /// Lets running guest calls look at their deadline.
    pub(crate) fn tick(&self) {
        self.engine.increment_epoch();
    }
}

fn engine(settings: &Settings) -> Result<Engine, BuildError> {
    let refuse = |error: &wasmtime::Error| BuildError::Engine {
        what: "engine".to_owned(),
        problem: format!("{error:#}"),
    };
    let mut config = Config::new();
    config.epoch_interruption(true).wasm_relaxed_simd(false);
    match &settings.cache {
        CompileCache::Off => {}
        CompileCache::Folder(folder) => {
            config.cache(Some(cache(Some(folder)).map_err(|error| refuse(&error))?));
        }
        CompileCache::User => match cache(None) {
            Ok(cache) => {
                config.cache(Some(cache));
            }
            Err(error) => tracing::warn!("compiled modules cannot be kept between runs: {error:#}"),
        },
    }
    Engine::new(&config).map_err(|error| refuse(&error))
}

fn cache(folder: Option<&Path>) -> wasmtime::Result<Cache> {
    let mut config = CacheConfig::new();
    if let Some(folder) = folder {
        config.with_directory(folder);
    }
    Cache::new(config)
}

impl Guest {
    fn compile(
        engine: &Engine,
        name: &'static str,
        module: &CoreModule,
        entry: &'static str,
        counters: &Arc<ModuleCounters>,
    ) -> Result<Self, BuildError> {
        Self::compile_bytes(engine, name, module.bytes(), module.identity(), entry, counters)
    }

    fn compile_bytes(
        engine: &Engine,
        name: &'static str,
        bytes: &[u8],
        identity: Digest,
        entry: &'static str,
        counters: &Arc<ModuleCounters>,
    ) -> Result<Self, BuildError> {
        let refuse = |error: &wasmtime::Error| BuildError::Engine {
            what: format!("{name} module"),
            problem: format!("{error:#}"),
        };
        let compiled = wasmtime::Module::new(engine, bytes).map_err(|error| refuse(&error))?;
        if let Some(import) = compiled.imports().next() {
            let import = format!("{}.{}", import.module(), import.name());
            return Err(BuildError::Imports { module: name, import });
        }
        let pre = Linker::new(engine).instantiate_pre(&compiled).map_err(|error| refuse(&error))?;
        let guest = Self { name, identity, pre, entry, counters: Arc::clone(counters) };
        let mut scratch = guest.instance(usize::MAX, &Closing::default()).map_err(|error| refuse(&error))?;
        let found = scratch.abi().map_err(|error| refuse(&error))?;
        if found >> 16 != lockgate_abi::VERSION >> 16 {
            return Err(BuildError::Abi { module: name, found });
        }
        Ok(guest)
    }

    /// A fresh instance that may grow to `memory` bytes.
    pub(crate) fn instance(&self, memory: usize, closing: &Closing) -> wasmtime::Result<Instance> {
        let state = State {
            cap: memory,
            denied: false,
            deadline: Instant::now() + Duration::from_secs(3600),
            closing: closing.clone(),
        };
        let mut store = Store::new(self.pre.module().engine(), state);
        store.limiter(|state| state);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|context| {
            let state = context.data();
            if Instant::now() >= state.deadline || state.closing.is_closing() {
                Ok(UpdateDeadline::Interrupt)
            } else {
                Ok(UpdateDeadline::Continue(1))
            }
        });
        let instance = self.pre.instantiate(&mut store)?;
        let memory = instance
            .get_memory(&mut store, "memory")
            .ok_or_else(|| wasmtime::Error::msg("the module exports no memory"))?;
        let abi = instance.get_typed_func(&mut store, "lockgate_abi")?;
        let reserve = instance.get_typed_func(&mut store, "lockgate_reserve")?;
        let load = instance.get_typed_func(&mut store, "lockgate_load")?;
        let entry = instance.get_typed_func(&mut store, self.entry)?;
        let mut gauge = Gauge::new(Arc::clone(&self.counters));
        gauge.set(memory.data_size(&store));
        Ok(Instance { store, instance, memory, abi, reserve, load, entry, input: (0, 0), gauge })
    }
}

impl std::fmt::Debug for Guest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guest").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Tells running guest calls that the runtime is going away.
#[derive(Clone, Default)]
pub(crate) struct Closing(Arc<AtomicBool>);

impl Closing {
    pub(crate) fn close(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_closing(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a store knows about its instance's limits.
struct State {
    cap: usize,
    /// Whether the guest was refused memory since the call began.
    denied: bool,
    deadline: Instant,
    closing: Closing,
}

impl ResourceLimiter for State {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // The module may be linked to less.
        self.cap = maximum.map_or(self.cap, |maximum| self.cap.min(maximum));
        let allowed = desired <= self.cap;
        self.denied |= !allowed;
        Ok(allowed)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.denied = true;
        Ok(())
    }

    fn table_growing(
        &mut self,
        _current: usize,
        _desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // The core's tables are as large as they will ever be.
        Ok(maximum.is_none_or(|maximum| _desired <= maximum))
    }
}

/// An instance of a module. After any [`CallFailure`] but `NoRoom` it must not be called again.
pub(crate) struct Instance {
    store: Store<State>,
    instance: wasmtime::Instance,
    memory: Memory,
    abi: TypedFunc<(), u32>,
    reserve: TypedFunc<u32, u32>,
    load: TypedFunc<u32, u32>,
    entry: TypedFunc<u32, u32>,
    /// Address and length of the input buffer.
    input: (u32, u32),
    gauge: Gauge,
}

/// Why a call gave no response.
#[derive(Debug)]
pub(crate) enum CallFailure {
    /// The module has no room for the request; it is unharmed.
    NoRoom,
    /// The guest trapped.
    Trap(String),
    /// The deadline passed.
    CutOff,
    /// The guest was refused memory and gave up.
    Memory(usize),
    /// The response makes no sense.
    Malformed(Malformed),
}

impl Instance {
    fn abi(&mut self) -> wasmtime::Result<u32> {
        self.abi.call(&mut self.store, ())
    }

    /// Hands a bundle or package over.
    pub(crate) fn load(&mut self, bytes: &[u8], deadline: Instant) -> Result<Reply<'_>, CallFailure> {
        let load = self.load.clone();
        let address = self.send(&load, bytes, deadline)?;
        self.input = (0, 0);
        self.receive(address)
    }

    /// Sends a decide or predict request.
    pub(crate) fn call(&mut self, request: &[u8], deadline: Instant) -> Result<Reply<'_>, CallFailure> {
        let entry = self.entry.clone();
        let address = self.send(&entry, request, deadline)?;
        self.receive(address)
    }

    /// Asks what was loaded, or baked in, as number `index`.
    pub(crate) fn loaded(&mut self, index: u32, deadline: Instant) -> Result<Reply<'_>, CallFailure> {
        let loaded = self
            .instance
            .get_typed_func::<u32, u32>(&mut self.store, "lockgate_loaded")
            .map_err(|error| CallFailure::Trap(error.to_string()))?;
        self.prepare(deadline);
        let address = loaded.call(&mut self.store, index).map_err(|error| self.explain(&error))?;
        self.receive(address)
    }

    /// The size of the instance's memory in bytes.
    pub(crate) fn memory_size(&self) -> usize {
        self.memory.data_size(&self.store)
    }

    fn send(
        &mut self,
        function: &TypedFunc<u32, u32>,
        bytes: &[u8],
        deadline: Instant,
    ) -> Result<u32, CallFailure> {
        self.prepare(deadline);
        let len = u32::try_from(bytes.len()).map_err(|_| CallFailure::NoRoom)?;
        if len > self.input.1 || self.input.0 == 0 {
            let address = self.reserve.call(&mut self.store, len).map_err(|error| self.explain(&error))?;
            if address == 0 {
                self.input = (0, 0);
                return Err(CallFailure::NoRoom);
            }
            self.input = (address, len);
        }
        let start = self.input.0 as usize;
        let outside = Malformed { problem: "the input buffer lies outside the memory", at: start };
        self.memory
            .data_mut(&mut self.store)
            .get_mut(start..)
            .and_then(|rest| rest.get_mut(..bytes.len()))
            .ok_or(CallFailure::Malformed(outside))?
            .copy_from_slice(bytes);
        function.call(&mut self.store, len).map_err(|error| self.explain(&error))
    }

    /// Lets the next call run until the deadline.
    fn prepare(&mut self, deadline: Instant) {
        let state = self.store.data_mut();
        state.denied = false;
        state.deadline = deadline;
        self.store.set_epoch_deadline(1);
    }

    fn receive(&mut self, address: u32) -> Result<Reply<'_>, CallFailure> {
        self.gauge.set(self.memory.data_size(&self.store));
        Reply::read(self.memory.data(&self.store), address).map_err(CallFailure::Malformed)
    }

    fn explain(&self, error: &wasmtime::Error) -> CallFailure {
        let state = self.store.data();
        match error.downcast_ref::<Trap>() {
            Some(Trap::Interrupt) => CallFailure::CutOff,
            _ if state.denied => CallFailure::Memory(state.cap),
            Some(trap) => CallFailure::Trap(trap.to_string()),
            None => CallFailure::Trap(error.root_cause().to_string()),
        }
    }
}
