//! Baked modules: decisions are those of the second evaluator, predictions those of the loaded module to the bit.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::sync::Mutex;

use flate2::read::GzDecoder;
use lockgate_abi::{Reply, write_predict_request};
use lockgate_bake::{Baked, Options, bake};
use lockgate_core::CoreModules;
use lockgate_package::{AlignedBytes, Engine as PlanEngine, Package, Tensor};
use lockgate_policy::Bundle;
use lockgate_runtime::{Content, Contents, Demands};
use lockgate_tests::core_dir;
use wasmtime::{Config, Engine, Module, OptLevel};

use crate::flat::Guest;
use crate::golden::{self, Counts};
use crate::vectors;

/// Of so many golden policies one is baked; the others take the same way through the module.
const EVERY: usize = 30;

/// An engine that compiles quickly; what is compared does not depend on it.
fn engine() -> Engine {
    Engine::new(Config::new().cranelift_opt_level(OptLevel::None)).unwrap()
}

fn baked(core: &CoreModules, contents: Contents) -> Baked {
    bake(core, contents, &Demands::default(), &Options::default()).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn baked_policies_decide_as_the_second_evaluator() {
    let core = CoreModules::from_dir(&core_dir()).unwrap();
    let engine = engine();
    let (counts, failures) = (Mutex::new(Counts::new()), Mutex::new(Vec::new()));
    let (mut seen, mut lists) = (0_usize, 0);
    for file in golden::files() {
        for line in BufReader::new(GzDecoder::new(std::fs::File::open(file).unwrap())).lines() {
            let line = line.unwrap();
            let line: golden::Line = serde_json::from_str(&line).unwrap();
            // What a base changes is in the bundle before the module sees it.
            let Ok(compiled) = golden::compiled(&line, None) else { continue };
            seen += 1;
            if !seen.is_multiple_of(EVERY) && (compiled.objects.is_empty() || lists > 3) {
                continue;
            }
            lists += usize::from(!compiled.objects.is_empty());
            let aligned =
                compiled.objects.iter().map(|object| AlignedBytes::copy_of(&object.bytes)).collect();
            let bundle = Bundle::load_with(AlignedBytes::copy_of(&compiled.bundle), aligned).unwrap();
            let named = |object: &lockgate_policy::Object| {
                Content::new(object.digest.to_string(), object.bytes.clone())
            };
            let mut contents = Contents::unnamed(Some(compiled.bundle.clone()), Vec::new());
            contents.lists = compiled.objects.iter().map(named).collect();
            let image = baked(&core, contents).policy.module;
            let mut module = golden::Core::of(&Module::new(&engine, image).unwrap());
            golden::run_line(&format!("baked {seen}"), &line, &bundle, &mut module, &counts, &failures);
        }
    }
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} fail, the first:\n{}", failures.len(), failures[0]);
    let vectors = counts.into_inner().unwrap().get("vectors").copied().unwrap_or_default();
    assert!(vectors >= 2_000, "{vectors} vectors");
}

#[test]
fn baked_models_predict_as_the_loaded_ones() {
    let core = CoreModules::from_dir(&core_dir()).unwrap();
    let engine = engine();
    let mut flavours: BTreeMap<bool, Vec<vectors::Vector>> = BTreeMap::new();
    for vector in vectors::all() {
        let engine = Package::open(AlignedBytes::copy_of(&vector.package)).unwrap().manifest().engine;
        flavours.entry(engine == PlanEngine::Graph).or_default().push(vector);
    }
    assert_eq!(flavours.len(), 2);
    for (is_graph, vectors) in flavours {
        // All packages of a flavour share one image.
        let packages = vectors.iter().map(|vector| vector.package.clone()).collect();
        let Baked { inference, manifest, .. } = baked(&core, Contents::unnamed(None, packages));
        let mut baked = Guest::of(&Module::new(&engine, &inference.module).unwrap());
        let plain = if is_graph { core.graph.as_ref().unwrap() } else { &core.tabular };
        let plain = Module::new(&engine, plain.bytes()).unwrap();
        for vector in vectors {
            let digest = Package::open(AlignedBytes::copy_of(&vector.package)).unwrap().digest();
            let handle = manifest.handle(&digest).unwrap();
            let mut loaded = Guest::of(&plain);
            assert_eq!(loaded.load(&vector.package), Ok(0));
            let [of_baked, of_loaded] = [(&mut baked, handle), (&mut loaded, 0)]
                .map(|(guest, handle)| predict(guest, handle, &vector.inputs));
            assert!(of_baked == of_loaded, "{}", vector.name);
        }
    }
}

/// The bytes of a prediction.
fn predict(guest: &mut Guest, handle: u32, inputs: &[Tensor]) -> Vec<u8> {
    let inputs: Vec<_> = inputs.iter().map(Tensor::view).collect();
    let mut request = Vec::new();
    write_predict_request(&mut request, handle, &inputs, &[]).unwrap();
    let (memory, address) = guest.call("lockgate_predict", &request);
    match Reply::read(memory, address).unwrap() {
        Reply::Done(_) => {}
        Reply::Failed(failure) => panic!("{failure:?}"),
    }
    let at = address as usize;
    let len = u32::from_le_bytes(memory[at + 4..at + 8].try_into().unwrap()) as usize;
    memory[at..at + len].to_vec()
}
