//! Modules, called through the flat entry point.

use lockgate_abi::{ContextFields, DecideRequestWriter, Failure, Reply, write_predict_request};
use lockgate_bake::{BakeError, Baked, Options, bake};
use lockgate_core::CoreModules;
use lockgate_package::{Digest, Tensor};
use lockgate_runtime::{Contents, Demands};
use wasmtime::{Config, Engine, Instance, Memory, Module, OptLevel, Store, Trap};

use crate::support::World;

/// An engine that compiles quickly; what is compared does not depend on it.
pub(crate) fn engine() -> Engine {
    Engine::new(Config::new().cranelift_opt_level(OptLevel::None)).unwrap()
}

/// Contents without names, as `Contents::unnamed` makes them.
pub(crate) fn contents(world: World) -> Contents {
    Contents::unnamed(Some(world.bundle), world.packages)
}

/// Bakes with nothing demanded.
pub(crate) fn bake_all(core: &CoreModules, contents: Contents) -> Result<Baked, BakeError> {
    bake(core, contents, &Demands::default(), &Options::default())
}

/// An instance of a module.
pub(crate) struct Guest {
    store: Store<()>,
    instance: Instance,
    memory: Memory,
}

impl Guest {
    pub(crate) fn new(engine: &Engine, module: &[u8]) -> Self {
        Self::of(&Module::new(engine, module).unwrap())
    }

    pub(crate) fn of(module: &Module) -> Self {
        let mut store = Store::new(module.engine(), ());
        let instance = Instance::new(&mut store, module, &[]).unwrap();
        let memory = instance.get_memory(&mut store, "memory").unwrap();
        Self { store, instance, memory }
    }

    fn number(&mut self, export: &str, argument: usize) -> Result<u32, Trap> {
        let function = self.instance.get_typed_func::<u32, u32>(&mut self.store, export).unwrap();
        let argument = u32::try_from(argument).unwrap();
        function.call(&mut self.store, argument).map_err(|error| *error.downcast_ref::<Trap>().unwrap())
    }

    /// The bytes of the response, or of nothing when they cannot be a response.
    pub(crate) fn call(&mut self, export: &str, request: &[u8]) -> Result<Vec<u8>, Trap> {
        let address = self.number("lockgate_reserve", request.len())?;
        self.memory.write(&mut self.store, address as usize, request).unwrap();
        let address = self.number(export, request.len())?;
        Ok(self.response(address))
    }

    fn response(&self, address: u32) -> Vec<u8> {
        let rest = self.memory.data(&self.store).get(address as usize..).unwrap_or_default();
        let len = rest.get(4..8).map_or(0, |len| u32::from_le_bytes(len.try_into().unwrap()) as usize);
        rest.get(..len).unwrap_or_default().to_vec()
    }

    /// Hands a bundle, a unit list or a package over.
    pub(crate) fn load(&mut self, bytes: &[u8]) -> Result<u32, Failure> {
        let response = self.call("lockgate_load", bytes).unwrap();
        match Reply::read(&response, 0).unwrap() {
            Reply::Done(response) => Ok(response.count),
            Reply::Failed(failure) => Err(failure),
        }
    }

    /// What it holds as number `index`: version and digest.
    pub(crate) fn loaded(&mut self, index: usize) -> Result<(u64, Digest), Failure> {
        let address = self.number("lockgate_loaded", index).unwrap();
        let response = self.response(address);
        match Reply::read(&response, 0).unwrap() {
            Reply::Done(response) => Ok((response.bundle_version, Digest(response.digest))),
            Reply::Failed(failure) => Err(failure),
        }
    }

    /// How often its allocator was asked for memory.
    pub(crate) fn allocations(&mut self) -> u64 {
        let function = self.instance.get_typed_func::<(), u64>(&mut self.store, "lockgate_allocations");
        function.unwrap().call(&mut self.store, ()).unwrap()
    }
}

/// A decide request for these users.
pub(crate) fn decide_request(route: &str, users: &[&str], compact: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let writer = DecideRequestWriter::new(&mut out, 0);
    let mut writer = if compact { writer.compact() } else { writer };
    for user in users {
        let fields = ContextFields {
            route,
            user: Some(user),
            symbol: None,
            tenant: None,
            session: None,
            variant: None,
        };
        writer.context(&fields, std::iter::empty()).unwrap();
    }
    writer.finish(&[]).unwrap();
    out
}

pub(crate) fn predict_request(handle: u32, inputs: &[Tensor]) -> Vec<u8> {
    let mut out = Vec::new();
    let inputs: Vec<_> = inputs.iter().map(Tensor::view).collect();
    write_predict_request(&mut out, handle, &inputs, &[]).unwrap();
    out
}
