//! The modules behind the flat entry point, as an edge's shell holds them: on wasmtime, since there is no JavaScript here.

use lockgate_abi::{Malformed, Reply};
use lockgate_edge::{Core, CoreFault};
use lockgate_package::Digest;
use wasmtime::{Engine, Instance, Memory, Module, Store, TypedFunc};

pub(crate) struct FlatCore {
    policy: Held,
    inference: Held,
    packages: Vec<Digest>,
    /// How often an instance was made.
    pub(crate) made: usize,
}

struct Held {
    engine: Engine,
    module: Module,
    identity: Digest,
    verb: &'static str,
    contents: Vec<Vec<u8>>,
    live: Option<Live>,
}

struct Live {
    store: Store<()>,
    memory: Memory,
    reserve: TypedFunc<u32, u32>,
    load: TypedFunc<u32, u32>,
    call: TypedFunc<u32, u32>,
}

impl FlatCore {
    /// The core in `folder`, with a bundle and packages.
    pub(crate) fn new(folder: &std::path::Path, bundle: &[u8], packages: &[Vec<u8>]) -> Self {
        let engine = Engine::default();
        let held = |file: &str, verb, contents| {
            let bytes = std::fs::read(folder.join(file)).unwrap();
            let identity = lockgate_core::identity_of(&bytes).unwrap();
            let module = Module::new(&engine, &bytes).unwrap();
            Held { engine: engine.clone(), module, identity, verb, contents, live: None }
        };
        let digest = |bytes: &Vec<u8>| {
            let bytes = lockgate_package::AlignedBytes::copy_of(bytes);
            lockgate_package::Package::open(bytes).unwrap().digest()
        };
        Self {
            policy: held("policy.wasm", "lockgate_decide", vec![bundle.to_vec()]),
            inference: held("inference-tabular.wasm", "lockgate_predict", packages.to_vec()),
            packages: packages.iter().map(digest).collect(),
            made: 0,
        }
    }

    /// Forgets a package, as if its bytes could not be fetched.
    pub(crate) fn lose(&mut self, package: &Digest) {
        for have in self.packages.iter_mut().filter(|have| *have == package) {
            *have = Digest([0; 32]);
        }
    }
}

impl Live {
    fn new(held: &Held) -> Self {
        let mut store = Store::new(&held.engine, ());
        let instance = Instance::new(&mut store, &held.module, &[]).unwrap();
        let memory = instance.get_memory(&mut store, "memory").unwrap();
        let mut function = |name| instance.get_typed_func(&mut store, name).unwrap();
        let (reserve, load, call) =
            (function("lockgate_reserve"), function("lockgate_load"), function(held.verb));
        let mut live = Self { store, memory, reserve, load, call };
        for bytes in &held.contents {
            let mut response = Vec::new();
            let load = live.load.clone();
            live.run(&load, bytes, &mut response).unwrap();
            assert!(matches!(Reply::read(&response, 0), Ok(Reply::Done(_))), "the content loads");
        }
        live
    }

    fn run(
        &mut self,
        function: &TypedFunc<u32, u32>,
        request: &[u8],
        response: &mut Vec<u8>,
    ) -> Result<(), CoreFault> {
        let trap = |error: wasmtime::Error| CoreFault::Trap(format!("{error:#}"));
        let len = u32::try_from(request.len()).map_err(|_| CoreFault::NoRoom)?;
        let at = self.reserve.call(&mut self.store, len).map_err(trap)?;
        if at == 0 {
            return Err(CoreFault::NoRoom);
        }
        self.memory.write(&mut self.store, at as usize, request).unwrap();
        let address = function.call(&mut self.store, len).map_err(trap)?;
        let memory = self.memory.data(&self.store);
        Reply::read(memory, address).map_err(CoreFault::Malformed)?;
        let rest = &memory[address as usize..];
        let size = u32::from_le_bytes(*rest[4..].first_chunk().unwrap()) as usize;
        let outside = Malformed { problem: "the response lies outside the memory", at: 0 };
        response.clear();
        response.extend_from_slice(rest.get(..size).ok_or(CoreFault::Malformed(outside))?);
        Ok(())
    }
}

impl Held {
    fn run(&mut self, request: &[u8], response: &mut Vec<u8>, made: &mut usize) -> Result<(), CoreFault> {
        let mut live = match self.live.take() {
            Some(live) => live,
            None => {
                *made += 1;
                Live::new(self)
            }
        };
        let call = live.call.clone();
        let result = live.run(&call, request, response);
        self.live = Some(live);
        result
    }
}

impl Core for FlatCore {
    fn decide(&mut self, request: &[u8], response: &mut Vec<u8>) -> Result<(), CoreFault> {
        self.policy.run(request, response, &mut self.made)
    }

    fn predict(&mut self, request: &[u8], response: &mut Vec<u8>) -> Result<(), CoreFault> {
        self.inference.run(request, response, &mut self.made)
    }

    fn handle(&mut self, package: &Digest) -> Option<u32> {
        let place = self.packages.iter().position(|have| have == package)?;
        u32::try_from(place).ok()
    }

    fn drop_policy(&mut self) {
        self.policy.live = None;
    }

    fn drop_inference(&mut self) {
        self.inference.live = None;
    }

    fn policy_identity(&self) -> Digest {
        self.policy.identity
    }

    fn inference_identity(&self) -> Digest {
        self.inference.identity
    }

    fn micros(&self) -> Option<u64> {
        let passed = std::time::UNIX_EPOCH.elapsed().unwrap();
        Some(u64::try_from(passed.as_micros()).unwrap())
    }
}
