//! What an image is: a module without imports, of the same shape, that names the core it was made from.

use lockgate_bake::{Baked, Image};
use lockgate_core::{Module as CoreModule, identity_of, recorded_identity};
use lockgate_package::Digest;
use wasmparser::{Parser, Payload};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::guest::{Guest, bake_all, contents, decide_request, predict_request};
use crate::support::{self, MODELS, POLICY, World, rows};

fn baked() -> Baked {
    bake_all(&support::core(), contents(World::new(POLICY, &MODELS))).unwrap()
}

/// Names and kinds of the exports, and how many imports and tables there are.
fn shape(module: &[u8]) -> (Vec<String>, u32, u32) {
    let (mut exports, mut imports, mut tables) = (Vec::new(), 0, 0);
    for payload in Parser::new(0).parse_all(module) {
        match payload.unwrap() {
            Payload::ImportSection(section) => imports += section.count(),
            Payload::TableSection(section) => tables += section.count(),
            Payload::ExportSection(section) => {
                exports.extend(section.into_iter().map(|export| {
                    let export = export.unwrap();
                    format!("{} {:?} {}", export.name, export.kind, export.index)
                }));
            }
            _ => {}
        }
    }
    (exports, imports, tables)
}

#[test]
fn an_image_keeps_identity_exports_and_the_single_table() {
    let core = support::core();
    let Baked { policy, inference, manifest, catalog, .. } = baked();
    let modules =
        [(&policy, &core.policy, &manifest.policy), (&inference, &core.tabular, &manifest.inference)];
    for (image, plain, entry) in modules {
        let Image { module, component, identity, abi, memory, memory_limit } = image;
        assert_eq!(*identity, plain.identity());
        assert_eq!(recorded_identity(module).unwrap(), Some(*identity));
        assert_ne!(identity_of(module).unwrap(), *identity, "an image has other bytes");
        assert!(CoreModule::new("image", module.clone()).is_err(), "an image is no released module");
        let (exports, imports, tables) = shape(module);
        assert_eq!((exports, imports, tables), shape(plain.bytes()));
        assert_eq!((imports, tables), (0, 1));
        assert_eq!(entry.image, Digest::of(module));
        assert_eq!(entry.component_image, component.as_deref().map(Digest::of));
        assert_eq!(entry.abi, format!("{}.{}", abi >> 16, abi & 0xffff));
        assert_eq!((entry.memory_bytes, entry.memory_limit_bytes), (*memory, *memory_limit));
        assert!(memory < memory_limit && memory % 65536 == 0);
        assert_eq!(entry.bytes, module.len() as u64);
        assert!(entry.gzip_bytes > 50_000 && entry.gzip_bytes < entry.bytes);
        // The component holds the image in place of the module.
        let component = component.as_ref().unwrap();
        assert!(component.windows(module.len()).any(|window| window == module));
    }
    assert_eq!(manifest.catalog.image, Digest::of(&catalog));
    let catalog = lockgate_edge::Catalog::from_json(&catalog).unwrap();
    assert_eq!(catalog.bundle.digest, manifest.bundle.unwrap().digest);
    assert_eq!(catalog.packages.len(), MODELS.len());
}

/// wasmtime's pool takes one table for each module unless told otherwise.
#[test]
fn the_pool_takes_images_as_it_comes() {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(4).total_memories(4).total_tables(4);
    let mut config = Config::new();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    let engine = Engine::new(&config).unwrap();
    let Baked { policy, inference, .. } = baked();
    let (policy, inference) = [&policy.module, &inference.module]
        .map(|module| wasmtime::Module::new(&engine, module).unwrap())
        .into();
    // A slot that was used before gives the image again, not what was left in it.
    let mut answers = Vec::new();
    for users in [["alice"], ["bob"], ["alice"], ["bob"]] {
        let request = decide_request("eurusd-direction", &users, false);
        let decision = Guest::of(&policy).call("lockgate_decide", &request).unwrap();
        let prediction = Guest::of(&inference).call("lockgate_predict", &predict_request(0, &[rows(1)]));
        answers.push((decision, prediction.unwrap()));
    }
    assert!(answers[0] == answers[2] && answers[1] == answers[3] && answers[0].0 != answers[1].0);
}
