//! One module: driven, and written back with what it holds.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use lockgate_abi::Reply;
use lockgate_core::{Module as CoreModule, recorded_identity};
use lockgate_package::Digest;
use wasmparser::{DataKind, Operator, Parser, Payload};
use wasmtime::{Cache, CacheConfig, Config, Engine, Instance, Memory, OptLevel, Store, TypedFunc, Val};
use wasmtime_wizer::{InstanceState, SnapshotVal, ValType, Wizer};

use crate::BakeError;

/// A module of the core, baked, or plain when there was nothing to bake into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The core module.
    pub module: Vec<u8>,
    /// Its component, when the core came with components.
    pub component: Option<Vec<u8>>,
    /// The identity of the released module that it was made from.
    pub identity: Digest,
    /// The version of its flat entry point: `major << 16 | minor`.
    pub abi: u32,
    /// Bytes of memory that a new instance has.
    pub memory: u64,
    /// Bytes of memory that an instance may ever have.
    pub memory_limit: u64,
}

/// What is handed to a module, and what errors call it.
pub(crate) struct Part<'a> {
    pub(crate) name: String,
    pub(crate) bytes: &'a [u8],
    /// What the module must say that it holds now; nothing of a unit list.
    pub(crate) digest: Option<Digest>,
}

impl Image {
    /// Loads `parts` into an instance of the module and writes it back; without parts the module stays as it is.
    pub(crate) fn bake(name: &'static str, core: &CoreModule, parts: &[Part<'_>]) -> Result<Self, BakeError> {
        let unusable = |problem: String| BakeError::Module { module: name, problem };
        let wrong = |error: wasmtime::Error| unusable(format!("{error:#}"));
        let wizer = Wizer::new();
        let (context, instrumented) = wizer.instrument(core.bytes()).map_err(wrong)?;
        let limit = memory_limit(core.bytes()).map_err(unusable)?;
        let mut guest = Guest::new(&instrumented, limit).map_err(wrong)?;
        let abi = guest.abi.call(&mut guest.store, ()).map_err(wrong)?;
        if abi >> 16 != lockgate_abi::VERSION >> 16 {
            let (found, ours) = (abi >> 16, lockgate_abi::VERSION >> 16);
            return Err(unusable(format!("it speaks ABI {found}.x, this program speaks {ours}.x")));
        }
        for part in parts {
            guest.load(part)?;
        }
        let memory = guest.memory.data_size(&guest.store) as u64;
        let module = if parts.is_empty() {
            core.bytes().to_vec()
        } else {
            let mut state = guest.state(core.bytes()).map_err(unusable)?;
            ready(wizer.snapshot(&context, &mut state))
                .ok_or_else(|| unusable("wizer waits".to_owned()))?
                .map_err(wrong)?
        };
        check(&module, core.identity()).map_err(unusable)?;
        let component = core.component_with(&module)?;
        if let Some(component) = &component {
            valid(component).map_err(|problem| unusable(format!("its component is invalid: {problem}")))?;
        }
        Ok(Self { module, component, identity: core.identity(), abi, memory, memory_limit: limit })
    }
}

/// Sees to it that an image is a module without imports that names the core that it was made from.
fn check(module: &[u8], identity: Digest) -> Result<(), String> {
    valid(module)?;
    for payload in Parser::new(0).parse_all(module) {
        if let Payload::ImportSection(section) = payload.map_err(|error| error.to_string())?
            && section.count() > 0
        {
            return Err("its image imports something".to_owned());
        }
    }
    match recorded_identity(module) {
        Ok(Some(recorded)) if recorded == identity => Ok(()),
        Ok(_) => Err("its image lost the identity of the core".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn valid(bytes: &[u8]) -> Result<(), String> {
    wasmparser::Validator::new().validate_all(bytes).map(|_| ()).map_err(|error| error.to_string())
}

/// How much memory a module may ever have.
fn memory_limit(module: &[u8]) -> Result<u64, String> {
    for payload in Parser::new(0).parse_all(module) {
        if let Payload::MemorySection(section) = payload.map_err(|error| error.to_string())?
            && let Some(memory) = section.into_iter().next()
        {
            let memory = memory.map_err(|error| error.to_string())?;
            return Ok(memory.maximum.unwrap_or(1 << 16) << 16);
        }
    }
    Err("it has no memory".to_owned())
}

/// Where the module's stack lies, when it is at the bottom of the memory as the linker was told: from 0 up to where the stack pointer
/// starts. Between calls nothing in it is alive.
fn stack(module: &[u8]) -> Result<usize, String> {
    let mut end = None;
    let mut lowest = u64::MAX;
    for payload in Parser::new(0).parse_all(module) {
        match payload.map_err(|error| error.to_string())? {
            Payload::GlobalSection(section) => {
                // The linker writes `__stack_pointer` first.
                let first = section.into_iter().next().transpose().map_err(|error| error.to_string())?;
                if let Some(global) = first.filter(|global| global.ty.mutable) {
                    end = constant(&global.init_expr);
                }
            }
            Payload::DataSection(section) => {
                for segment in section {
                    if let DataKind::Active { offset_expr, .. } =
                        segment.map_err(|error| error.to_string())?.kind
                    {
                        lowest = lowest.min(constant(&offset_expr).unwrap_or(0));
                    }
                }
            }
            _ => {}
        }
    }
    // Anything else at the bottom is left alone.
    let end = end.filter(|end| *end <= lowest).unwrap_or(0);
    usize::try_from(end).map_err(|error| error.to_string())
}

fn constant(expression: &wasmparser::ConstExpr<'_>) -> Option<u64> {
    match expression.get_operators_reader().read() {
        Ok(Operator::I32Const { value }) => Some(u64::from(value.cast_unsigned())),
        _ => None,
    }
}

/// An instrumented module that is being loaded.
struct Guest {
    store: Store<()>,
    instance: Instance,
    memory: Memory,
    limit: u64,
    abi: TypedFunc<(), u32>,
    reserve: TypedFunc<u32, u32>,
    load: TypedFunc<u32, u32>,
}

impl Guest {
    fn new(module: &[u8], limit: u64) -> wasmtime::Result<Self> {
        let mut config = Config::new();
        // It runs once, so it is compiled quickly; what it computes does not depend on that. The graph flavour takes a while all the same,
        // without a cache every time.
        config.wasm_relaxed_simd(false).cranelift_opt_level(OptLevel::None);
        if let Ok(cache) = Cache::new(CacheConfig::new()) {
            config.cache(Some(cache));
        }
        let engine = Engine::new(&config)?;
        let module = wasmtime::Module::new(&engine, module)?;
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[])?;
        let memory = instance
            .get_memory(&mut store, "memory")
            .ok_or_else(|| wasmtime::Error::msg("the module exports no memory"))?;
        let abi = instance.get_typed_func(&mut store, "lockgate_abi")?;
        let reserve = instance.get_typed_func(&mut store, "lockgate_reserve")?;
        let load = instance.get_typed_func(&mut store, "lockgate_load")?;
        Ok(Self { store, instance, memory, limit, abi, reserve, load })
    }

    fn load(&mut self, part: &Part<'_>) -> Result<(), BakeError> {
        let Part { name, bytes, digest } = part;
        let trap = |problem: String| BakeError::Trap { name: name.clone(), problem };
        let no_room = || BakeError::NoRoom { name: name.clone(), bytes: bytes.len(), limit: self.limit };
        let len = u32::try_from(bytes.len()).map_err(|_| no_room())?;
        let at = self.reserve.call(&mut self.store, len).map_err(|error| trap(format!("{error:#}")))?;
        if at == 0 {
            return Err(no_room());
        }
        let outside = || trap("its input buffer lies outside its memory".to_owned());
        self.memory.write(&mut self.store, at as usize, bytes).map_err(|_| outside())?;
        let loaded = self.load.call(&mut self.store, len);
        let at = loaded.map_err(|error| {
            // A module that cannot have the memory it needs stops; what it asked for last is not in its memory.
            let taken = u64::try_from(self.memory.data_size(&self.store)).unwrap_or(u64::MAX);
            if taken >= self.limit / 2 { no_room() } else { trap(format!("{error:#}")) }
        })?;
        match Reply::read(self.memory.data(&self.store), at) {
            Ok(Reply::Done(response)) if digest.is_none_or(|digest| digest.0 == response.digest) => Ok(()),
            Ok(Reply::Done(_)) => Err(trap("it holds something else than it was handed".to_owned())),
            Ok(Reply::Failed(failure)) => Err(BakeError::Load { name: name.clone(), failure }),
            Err(malformed) => Err(trap(malformed.to_string())),
        }
    }

    /// What the image is made of. What earlier calls left on the stack would only make it larger.
    fn state(self, plain: &[u8]) -> Result<State, String> {
        let mut memory = self.memory.data(&self.store).to_vec();
        if let Some(stack) = memory.get_mut(..stack(plain)?) {
            stack.fill(0);
        }
        Ok(State { guest: self, memory })
    }
}

struct State {
    guest: Guest,
    memory: Vec<u8>,
}

impl InstanceState for State {
    #[expect(
        clippy::unreachable,
        clippy::expect_used,
        reason = "wizer itself exported these globals, of these types"
    )]
    async fn global_get(&mut self, name: &str, _: ValType) -> SnapshotVal {
        let Guest { store, instance, .. } = &mut self.guest;
        let global = instance.get_global(&mut *store, name).expect("wizer's own export");
        match global.get(&mut *store) {
            Val::I32(value) => SnapshotVal::I32(value),
            Val::I64(value) => SnapshotVal::I64(value),
            Val::F32(value) => SnapshotVal::F32(value),
            Val::F64(value) => SnapshotVal::F64(value),
            Val::V128(value) => SnapshotVal::V128(value.as_u128()),
            _ => unreachable!("wizer refuses globals that hold references"),
        }
    }

    async fn memory_contents(&mut self, _: &str, contents: impl FnOnce(&[u8]) + Send) {
        contents(&self.memory);
    }
}

/// The result of a future that waits for nothing.
fn ready<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}
