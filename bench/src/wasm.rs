//! The core through wasmtime: the flat entry point of the released modules, called directly.

use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, bail};
use lockgate_abi::{ContextFields, DecideRequestWriter, Reply, write_predict_request};
use lockgate_bake::Options;
use lockgate_core::CoreModules;
use lockgate_package::{Datatype, TensorView};
use lockgate_policy::Bundle;
use lockgate_runtime::{Contents, Demands};
use serde::Serialize;
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, InstancePre, Linker, Memory, PoolingAllocationConfig, Store,
    TypedFunc,
};

use crate::case::{Case, Peer, Spent, Turn, first_row};
use crate::setup::{Caller, PolicyFiles, Setup};

/// The modules compiled once, an instance per model and one for the policy.
pub(crate) struct Wasmtime {
    tabular: Compiled,
    graph: Compiled,
    policy: Compiled,
    policies: Vec<Decider>,
    models: Vec<Loaded>,
    memory: Vec<MemoryUse>,
    callers: Vec<Caller>,
    route: String,
    request: Vec<u8>,
}

/// What a model takes of an instance's memory, bytes.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct MemoryUse {
    model: String,
    package: usize,
    /// The instance's memory before the package was handed over.
    empty: usize,
    /// The same afterwards; memories do not shrink, so what loading needed for a while is in it.
    loaded: usize,
}

struct Loaded {
    name: String,
    graph: bool,
    package: Vec<u8>,
    row_shape: Vec<usize>,
    pool: Vec<f32>,
    instance: Instance,
}

/// A policy in an instance, and beside it for the names of what decisions only number.
struct Decider {
    files: PolicyFiles,
    bundle: Bundle,
    instance: Instance,
}

struct Compiled {
    engine: Engine,
    pre: InstancePre<()>,
    entry: &'static str,
}

struct Instance {
    store: Store<()>,
    instance: wasmtime::Instance,
    memory: Memory,
    reserve: TypedFunc<u32, u32>,
    load: TypedFunc<u32, u32>,
    entry: TypedFunc<u32, u32>,
    input: (u32, u32),
}

impl Wasmtime {
    pub(crate) fn new(setup: &Setup) -> Result<Self> {
        let core = CoreModules::from_dir(&setup.core_folder)?;
        let graph =
            core.graph.as_ref().context("this core has no graph flavour; `cargo xtask build` makes it")?;
        let tabular = Compiled::new(core.tabular.bytes(), "lockgate_predict")?;
        let graph = Compiled::new(graph.bytes(), "lockgate_predict")?;
        let policy = Compiled::new(core.policy.bytes(), "lockgate_decide")?;
        let mut policies = Vec::new();
        for files in &setup.policies {
            let mut instance = policy.instance()?;
            instance.hand_over_policy(&files.read()?)?;
            policies.push(Decider { files: files.clone(), bundle: files.native()?, instance });
        }
        let (mut models, mut memory) = (Vec::new(), Vec::new());
        for model in &setup.models {
            let is_graph = model.engine == "graph";
            let mut instance = if is_graph { &graph } else { &tabular }.instance()?;
            let package = std::fs::read(&model.package)?;
            let empty = instance.memory.data_size(&instance.store);
            instance.hand_over(&package)?;
            let loaded = instance.memory.data_size(&instance.store);
            memory.push(MemoryUse { model: model.name.clone(), package: package.len(), empty, loaded });
            models.push(Loaded {
                name: model.name.clone(),
                graph: is_graph,
                package,
                row_shape: model.row_shape.clone(),
                pool: model.pool()?,
                instance,
            });
        }
        let (callers, route) = (setup.callers()?, setup.route.clone());
        Ok(Self { tabular, graph, policy, policies, models, memory, callers, route, request: Vec::new() })
    }

    /// What every model takes.
    pub(crate) fn memory(&self) -> Vec<MemoryUse> {
        self.memory.clone()
    }

    fn model(&mut self, name: &str) -> Result<usize> {
        self.models.iter().position(|model| model.name == name).with_context(|| format!("no model {name}"))
    }
}

impl Peer for Wasmtime {
    fn name(&self) -> &str {
        "core in wasmtime"
    }

    fn can_run(&self, _case: &Case) -> bool {
        true
    }

    fn run(&mut self, case: &Case, turn: Turn) -> Result<Spent> {
        let started = Instant::now();
        let mut answer = None;
        match case {
            Case::Predict { model, rows } => {
                let index = self.model(model)?;
                let model = &mut self.models[index];
                for call in turn.start..turn.start + turn.calls {
                    let score = predict(
                        &mut model.instance,
                        &model.row_shape,
                        &model.pool,
                        call,
                        *rows,
                        &mut self.request,
                    )?;
                    answer.get_or_insert(score);
                }
            }
            Case::Decide { contexts, policy } => {
                let named = self.policies.iter_mut().find(|decider| decider.files.name == *policy);
                let Decider { bundle, instance, .. } =
                    named.with_context(|| format!("no policy {policy}"))?;
                for call in turn.start..turn.start + turn.calls {
                    let callers = callers(&self.callers, call, *contexts);
                    write_decide_request(&mut self.request, &self.route, callers)?;
                    answer.get_or_insert(sum_of(&instance.call(&self.request)?, bundle)?);
                }
            }
            Case::Load { policy } => {
                let named = self.policies.iter().find(|decider| decider.files.name == *policy);
                let files = named.with_context(|| format!("no policy {policy}"))?.files.read()?;
                let started = Instant::now();
                for _ in 0..turn.calls {
                    self.policy.instance()?.hand_over_policy(&files)?;
                }
                return Ok(Spent { nanoseconds: started.elapsed().as_nanos() as f64, answer: None });
            }
            Case::First { model } => {
                let index = self.model(model)?;
                for call in turn.start..turn.start + turn.calls {
                    let model = &self.models[index];
                    let mut instance = if model.graph { &self.graph } else { &self.tabular }.instance()?;
                    instance.hand_over(&model.package)?;
                    let score =
                        predict(&mut instance, &model.row_shape, &model.pool, call, 1, &mut self.request)?;
                    answer.get_or_insert(score);
                }
            }
        }
        Ok(Spent { nanoseconds: started.elapsed().as_nanos() as f64, answer })
    }
}

/// Modules that wake up with a package in their memory, one for each model: a new instance answers without being handed anything.
pub(crate) struct Baked {
    models: Vec<Image>,
    request: Vec<u8>,
}

struct Image {
    name: String,
    row_shape: Vec<usize>,
    pool: Vec<f32>,
    module: Compiled,
}

impl Baked {
    pub(crate) fn new(setup: &Setup) -> Result<Self> {
        let core = CoreModules::from_dir(&setup.core_folder)?;
        let mut models = Vec::new();
        for model in &setup.models {
            let contents = Contents::unnamed(None, vec![std::fs::read(&model.package)?]);
            let baked = lockgate_bake::bake(&core, contents, &Demands::default(), &Options::default())?;
            models.push(Image {
                name: model.name.clone(),
                row_shape: model.row_shape.clone(),
                pool: model.pool()?,
                module: Compiled::new(&baked.inference.module, "lockgate_predict")?,
            });
        }
        Ok(Self { models, request: Vec::new() })
    }
}

impl Peer for Baked {
    fn name(&self) -> &str {
        "core in wasmtime, baked"
    }

    fn can_run(&self, case: &Case) -> bool {
        matches!(case, Case::First { .. })
    }

    fn run(&mut self, case: &Case, turn: Turn) -> Result<Spent> {
        let Case::First { model } = case else {
            bail!("baked modules are measured on the way to the first answer")
        };
        let image = self.models.iter().find(|image| image.name == *model);
        let image = image.with_context(|| format!("no model {model}"))?;
        let mut answer = None;
        let started = Instant::now();
        for call in turn.start..turn.start + turn.calls {
            let mut instance = image.module.instance()?;
            let score = predict(&mut instance, &image.row_shape, &image.pool, call, 1, &mut self.request)?;
            answer.get_or_insert(score);
        }
        Ok(Spent { nanoseconds: started.elapsed().as_nanos() as f64, answer })
    }
}

/// What a shell spends around the module: requests are written and handed over, a function that does nothing is called,
/// and the response to an earlier request is read. No evaluator can make a decision through wasmtime cheaper than this.
pub(crate) struct Glue {
    decider: Decider,
    nothing: TypedFunc<(), u32>,
    callers: Vec<Caller>,
    route: String,
    request: Vec<u8>,
}

impl Glue {
    pub(crate) fn new(setup: &Setup) -> Result<Self> {
        let core = CoreModules::from_dir(&setup.core_folder)?;
        let policy = Compiled::new(core.policy.bytes(), "lockgate_decide")?;
        let files = setup.policies.first().context("no policy")?;
        let mut instance = policy.instance()?;
        instance.hand_over_policy(&files.read()?)?;
        let nothing =
            instance.instance.get_typed_func(&mut instance.store, "lockgate_abi").map_err(wasmtime_error)?;
        let decider = Decider { files: files.clone(), bundle: files.native()?, instance };
        let (callers, route) = (setup.callers()?, setup.route.clone());
        Ok(Self { decider, nothing, callers, route, request: Vec::new() })
    }
}

impl Peer for Glue {
    fn name(&self) -> &str {
        "glue alone, wasmtime"
    }

    fn can_run(&self, case: &Case) -> bool {
        matches!(case, Case::Decide { policy, .. } if *policy == self.decider.files.name)
    }

    fn run(&mut self, case: &Case, turn: Turn) -> Result<Spent> {
        let Case::Decide { contexts, .. } = case else { bail!("the glue only decides") };
        let Decider { bundle, instance, .. } = &mut self.decider;
        write_decide_request(&mut self.request, &self.route, callers(&self.callers, turn.start, *contexts))?;
        let (_, response) = instance.respond(&self.request)?;
        let started = Instant::now();
        for call in turn.start..turn.start + turn.calls {
            write_decide_request(&mut self.request, &self.route, callers(&self.callers, call, *contexts))?;
            instance.write(&self.request)?;
            std::hint::black_box(self.nothing.call(&mut instance.store, ()).map_err(wasmtime_error)?);
            std::hint::black_box(sum_of(
                &Reply::read(instance.memory.data(&instance.store), response)?,
                bundle,
            )?);
        }
        Ok(Spent { nanoseconds: started.elapsed().as_nanos() as f64, answer: None })
    }
}

fn write_decide_request<'a>(
    request: &mut Vec<u8>,
    route: &str,
    callers: impl Iterator<Item = &'a Caller>,
) -> Result<()> {
    let mut writer = DecideRequestWriter::new(request, 0).compact();
    for caller in callers {
        let fields = ContextFields {
            route,
            user: Some(&caller.user),
            symbol: Some(&caller.symbol),
            ..ContextFields::default()
        };
        writer.context(&fields, [].into_iter())?;
    }
    Ok(writer.finish(&[])?)
}

/// Reads every decision and its names, as a shell would.
fn sum_of(reply: &Reply<'_>, bundle: &Bundle) -> Result<f64> {
    let Reply::Done(response) = reply else { bail!("the policy module refuses") };
    let mut sum = 0.0;
    for decision in response.compact_decisions()? {
        let decision = decision?.context("the bundle lacks the route")?;
        sum += f64::from(decision.variant_index + 1);
        let route = bundle.route_at(decision.route_index).context("no such route")?;
        let names = decision.target_index.and_then(|target| bundle.target_names(target));
        std::hint::black_box((route.variant(decision.variant_index), names));
    }
    Ok(sum)
}

/// The callers of call number `call`.
pub(crate) fn callers(pool: &[Caller], call: usize, contexts: usize) -> impl Iterator<Item = &Caller> {
    let start = first_row(call, contexts, pool.len());
    pool[start..start + contexts].iter()
}

fn predict(
    instance: &mut Instance,
    row_shape: &[usize],
    pool: &[f32],
    call: usize,
    rows: usize,
    request: &mut Vec<u8>,
) -> Result<f64> {
    let row_len: usize = row_shape.iter().product();
    let start = first_row(call, rows, pool.len() / row_len) * row_len;
    let data = bytemuck::cast_slice(&pool[start..start + rows * row_len]);
    let mut shape = [0; 4];
    shape[0] = rows as i64;
    for (dimension, length) in shape[1..].iter_mut().zip(row_shape) {
        *dimension = *length as i64;
    }
    let shape = &shape[..=row_shape.len()];
    let input = TensorView { name: "input", datatype: Datatype::Fp32, shape, data };
    write_predict_request(request, 0, &[input], &[])?;
    let Reply::Done(response) = instance.call(request)? else { bail!("the inference module refuses") };
    let mut sum = 0.0;
    for output in response.outputs() {
        let output = output?;
        std::hint::black_box(output.name);
        if output.datatype == Datatype::Fp32 {
            // Every value is read, as a caller would.
            sum = output
                .data
                .as_chunks::<4>()
                .0
                .iter()
                .map(|bytes| f64::from(f32::from_le_bytes(*bytes)))
                .enumerate()
                .map(weigh)
                .sum();
        }
    }
    Ok(sum)
}

/// Scores of a row add up to one; weights make their sum tell the answers apart.
pub(crate) fn weigh((index, value): (usize, f64)) -> f64 {
    value * (1 + index % 7) as f64
}

impl Compiled {
    fn new(module: &[u8], entry: &'static str) -> Result<Self> {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_core_instances(32)
            .total_tables(128)
            .total_memories(32)
            .table_elements(20_000)
            .max_memory_size(128 << 20);
        let mut config = Config::new();
        // As `host/runtime` sets it, so that what is measured can be interrupted; the pool is for many short-lived instances.
        config
            .epoch_interruption(true)
            .wasm_relaxed_simd(false)
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let engine = Engine::new(&config).map_err(wasmtime_error)?;
        let module = wasmtime::Module::new(&engine, module).map_err(wasmtime_error)?;
        let pre = Linker::new(&engine).instantiate_pre(&module).map_err(wasmtime_error)?;
        Ok(Self { engine, pre, entry })
    }

    fn instance(&self) -> Result<Instance> {
        let mut store = Store::new(&self.engine, ());
        store.set_epoch_deadline(u64::MAX / 2);
        let instance = self.pre.instantiate(&mut store).map_err(wasmtime_error)?;
        let memory = instance.get_memory(&mut store, "memory").context("the module exports no memory")?;
        let mut function =
            |name| instance.get_typed_func::<u32, u32>(&mut store, name).map_err(wasmtime_error);
        let (reserve, load, entry) =
            (function("lockgate_reserve")?, function("lockgate_load")?, function(self.entry)?);
        Ok(Instance { store, instance, memory, reserve, load, entry, input: (0, 0) })
    }
}

impl Instance {
    fn hand_over(&mut self, bytes: &[u8]) -> Result<()> {
        self.write(bytes)?;
        let address = self.load.call(&mut self.store, bytes.len() as u32).map_err(wasmtime_error)?;
        self.input = (0, 0);
        match Reply::read(self.memory.data(&self.store), address)? {
            Reply::Done(_) => Ok(()),
            Reply::Failed(failure) => bail!("the module refuses what it is handed: {failure:?}"),
        }
    }

    fn hand_over_policy(&mut self, (bundle, lists): &(Vec<u8>, Vec<Vec<u8>>)) -> Result<()> {
        lists.iter().chain([bundle]).try_for_each(|bytes| self.hand_over(bytes))
    }

    fn call(&mut self, request: &[u8]) -> Result<Reply<'_>> {
        self.respond(request).map(|(reply, _)| reply)
    }

    /// The reply and its address.
    fn respond(&mut self, request: &[u8]) -> Result<(Reply<'_>, u32)> {
        self.write(request)?;
        let address = self.entry.call(&mut self.store, request.len() as u32).map_err(wasmtime_error)?;
        Ok((Reply::read(self.memory.data(&self.store), address)?, address))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let len = u32::try_from(bytes.len())?;
        if len > self.input.1 || self.input.0 == 0 {
            self.input = (self.reserve.call(&mut self.store, len).map_err(wasmtime_error)?, len);
        }
        Ok(self.memory.write(&mut self.store, self.input.0 as usize, bytes)?)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "`map_err` hands it over")]
fn wasmtime_error(error: wasmtime::Error) -> anyhow::Error {
    anyhow!("{error:#}")
}
