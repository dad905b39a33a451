//! Baked components: what they were baked with is there without loading, and answers as if it had been loaded.

use lockgate_bake::Baked;
use lockgate_package::Tensor;
use wasmtime::Store;
use wasmtime::component::{Component, Linker};

use crate::guest::{bake_all, contents, engine};
use crate::support::{self, MODELS, POLICY, World, package, rows};

mod policy {
    wasmtime::component::bindgen!({ path: "../../wit", world: "policy-core" });
}

mod inference {
    wasmtime::component::bindgen!({ path: "../../wit", world: "inference-core" });
}

use inference::exports::lockgate::core::inference::Datatype;

fn baked() -> Baked {
    bake_all(&support::core(), contents(World::new(POLICY, &MODELS))).unwrap()
}

fn plain(name: &str) -> Vec<u8> {
    std::fs::read(support::core_folder("").join(format!("{name}.component.wasm"))).unwrap()
}

#[test]
fn a_baked_bundle_decides_as_a_loaded_one() {
    let engine = engine();
    let bytes = World::new(POLICY, &MODELS).bundle;
    let mut answers = Vec::new();
    for component in [plain("policy"), baked().policy.component.unwrap()] {
        let component = Component::new(&engine, component).unwrap();
        let mut store = Store::new(&engine, ());
        let world = policy::PolicyCore::instantiate(&mut store, &component, &Linker::new(&engine)).unwrap();
        let exports = world.lockgate_core_policy();
        let baked = exports.bundle().call_baked(&mut store).unwrap();
        assert_eq!(baked.is_some(), !answers.is_empty(), "only the baked component holds a bundle");
        let bundle = match baked {
            Some(bundle) => bundle,
            None => exports.bundle().call_load(&mut store, &bytes).unwrap().unwrap(),
        };
        let version = exports.bundle().call_version(&mut store, bundle).unwrap();
        let digest = exports.bundle().call_digest(&mut store, bundle).unwrap();
        let routes = exports.bundle().call_routes(&mut store, bundle).unwrap();
        let mut found = vec![format!("{version} {digest:?} {routes:?}")];
        for number in 0..300 {
            let user = if number == 0 { "alice".to_owned() } else { format!("user-{number}") };
            let context = exports.context().call_constructor(&mut store, "eurusd-direction").unwrap();
            exports.context().call_set_user(&mut store, context, &user).unwrap();
            let decision =
                exports.bundle().call_decide(&mut store, bundle, context, 0, &[]).unwrap().unwrap();
            let methods = exports.decision();
            let variant = methods.call_variant(&mut store, decision).unwrap();
            let package = methods.call_package_digest(&mut store, decision).unwrap();
            let payload = methods.call_payload(&mut store, decision).unwrap();
            let bucket = methods.call_bucket(&mut store, decision).unwrap();
            found.push(format!("{user} {variant} {package:?} {payload:?} {bucket:?}"));
            decision.resource_drop(&mut store).unwrap();
            context.resource_drop(&mut store).unwrap();
        }
        bundle.resource_drop(&mut store).unwrap();
        // A dropped handle takes nothing with it.
        let again = exports.bundle().call_baked(&mut store).unwrap();
        assert_eq!(again.is_some(), !answers.is_empty());
        answers.push(found);
    }
    assert_eq!(answers[0], answers[1]);
}

#[test]
fn baked_models_predict_as_loaded_ones() {
    let engine = engine();
    let baked = baked();
    let held: Vec<_> =
        baked.manifest.packages.iter().map(|held| format!("{}@{}", held.model, held.version)).collect();
    let mut answers: Vec<Vec<String>> = Vec::new();
    for component in [plain("inference-tabular"), baked.inference.component.unwrap()] {
        let component = Component::new(&engine, component).unwrap();
        let mut store = Store::new(&engine, ());
        let world =
            inference::InferenceCore::instantiate(&mut store, &component, &Linker::new(&engine)).unwrap();
        let exports = world.lockgate_core_inference();
        let mut models = exports.model().call_baked(&mut store).unwrap();
        assert_eq!(models.len(), if answers.is_empty() { 0 } else { held.len() });
        if models.is_empty() {
            for name in &held {
                models.push(exports.model().call_load(&mut store, &package(name)).unwrap().unwrap());
            }
        }
        let mut found = Vec::new();
        for model in models {
            let name = exports.model().call_name(&mut store, model).unwrap();
            let digest = exports.model().call_digest(&mut store, model).unwrap();
            let features = exports.model().call_features(&mut store, model).unwrap();
            found.push(format!("{name} {digest:?} {features:?}"));
            for count in [1, 40] {
                let Tensor { name, shape, data, .. } = rows(count);
                let input = exports
                    .tensor()
                    .call_constructor(&mut store, &name, Datatype::Fp32, &shape, &data)
                    .unwrap();
                let prediction =
                    exports.model().call_predict(&mut store, model, &[input], &[]).unwrap().unwrap();
                for output in exports.prediction().call_outputs(&mut store, prediction).unwrap() {
                    let methods = exports.tensor();
                    let name = methods.call_name(&mut store, output).unwrap();
                    let shape = methods.call_shape(&mut store, output).unwrap();
                    let data = methods.call_data(&mut store, output).unwrap();
                    found.push(format!("{name} {shape:?} {data:?}"));
                }
            }
            model.resource_drop(&mut store).unwrap();
        }
        answers.push(found);
    }
    assert_eq!(answers[0], answers[1]);
}
