//! The components: the same answers as the flat entry point, through the component model.

use lockgate_package::{Datatype, Tensor};
use lockgate_runtime::{DecideRequest, Placement, Reason};
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, Store};

use crate::support::{self, POLICY, World, package, predict, rows, runtime, user};

mod policy {
    wasmtime::component::bindgen!({ path: "../../wit", world: "policy-core" });
}

mod inference {
    wasmtime::component::bindgen!({ path: "../../wit", world: "inference-core" });
}

use inference::exports::lockgate::core::inference as wit_inference;
use policy::exports::lockgate::core::policy as wit_policy;
use policy::exports::lockgate::core::types::ErrorCode;

fn component(engine: &Engine, name: &str) -> Component {
    let file = support::core_folder("").join(format!("{name}.component.wasm"));
    Component::new(engine, std::fs::read(file).unwrap()).unwrap()
}

#[test]
fn the_policy_component_decides_like_the_module() {
    let engine = Engine::default();
    let mut store = Store::new(&engine, ());
    let component = component(&engine, "policy");
    let world = policy::PolicyCore::instantiate(&mut store, &component, &Linker::new(&engine)).unwrap();
    let exports = world.lockgate_core_policy();
    let World { bundle: bytes, .. } = World::new(POLICY, &support::MODELS);

    let error = exports.bundle().call_load(&mut store, b"no bundle").unwrap().unwrap_err();
    assert_eq!(error.code, ErrorCode::MalformedEnvelope);
    let bundle = exports.bundle().call_load(&mut store, &bytes).unwrap().unwrap();
    assert_eq!(exports.bundle().call_version(&mut store, bundle).unwrap(), 1);
    assert_eq!(exports.bundle().call_routes(&mut store, bundle).unwrap(), ["eurusd-direction"]);

    let flat = runtime(support::core(), support::settings());
    for name in ["alice", "bob", "carol", "user-17"] {
        let context = exports.context().call_constructor(&mut store, "eurusd-direction").unwrap();
        exports.context().call_set_user(&mut store, context, name).unwrap();
        let decision = exports.bundle().call_decide(&mut store, bundle, context, 0, &[]).unwrap().unwrap();
        let request = DecideRequest {
            route: "eurusd-direction".to_owned(),
            contexts: vec![user(name)],
            now_ms: Some(0),
            deadline: None,
        };
        let expected = flat.decide(request).unwrap();
        let (row, version) = expected.served.row(0).unwrap();
        let why = row.decision.as_ref().unwrap();
        let methods = exports.decision();
        assert_eq!(Some(methods.call_variant(&mut store, decision).unwrap()), version.variant);
        assert_eq!(methods.call_model(&mut store, decision).unwrap(), version.model);
        assert_eq!(methods.call_package_digest(&mut store, decision).unwrap(), version.package.0);
        assert_eq!(methods.call_bucket(&mut store, decision).unwrap(), why.bucket);
        assert_eq!(methods.call_payload(&mut store, decision).unwrap(), version.payload);
        let placement = methods.call_placement(&mut store, decision).unwrap();
        assert_eq!((placement, version.placement), (wit_policy::Placement::Edge, Placement::Edge));
        let reason = methods.call_reason(&mut store, decision).unwrap();
        assert_eq!(reason == wit_policy::Reason::Split, why.reason == Reason::Split, "{name}");
        decision.resource_drop(&mut store).unwrap();
        context.resource_drop(&mut store).unwrap();
    }

    let nowhere = exports.context().call_constructor(&mut store, "nowhere").unwrap();
    let known = exports.context().call_constructor(&mut store, "eurusd-direction").unwrap();
    let both = exports.bundle().call_decide_batch(&mut store, bundle, &[nowhere, known], 0, &[]).unwrap();
    assert!(both[0].is_err() && both[1].is_ok());
    bundle.resource_drop(&mut store).unwrap();
}

#[test]
fn the_inference_component_predicts_like_the_module() {
    let engine = Engine::default();
    let mut store = Store::new(&engine, ());
    let component = component(&engine, "inference-tabular");
    let world = inference::InferenceCore::instantiate(&mut store, &component, &Linker::new(&engine)).unwrap();
    let exports = world.lockgate_core_inference();
    let model = exports.model().call_load(&mut store, &package("eurusd_gb@1.1.0")).unwrap().unwrap();
    assert_eq!(exports.model().call_name(&mut store, model).unwrap(), "eurusd_gb");
    assert_eq!(exports.model().call_features(&mut store, model).unwrap().len(), 17);

    let rows = rows(3);
    let input = exports
        .tensor()
        .call_constructor(&mut store, &rows.name, wit_inference::Datatype::Fp32, &rows.shape, &rows.data)
        .unwrap();
    let prediction = exports.model().call_predict(&mut store, model, &[input], &[]).unwrap().unwrap();
    let outputs = exports.prediction().call_outputs(&mut store, prediction).unwrap();
    let expected = runtime(support::core(), support::settings())
        .predict(predict("eurusd_gb@1.1.0", vec![rows]))
        .unwrap();
    assert_eq!(outputs.len(), expected.outputs.len());
    for (output, expected) in outputs.into_iter().zip(expected.outputs) {
        let methods = exports.tensor();
        let found = Tensor {
            name: methods.call_name(&mut store, output).unwrap(),
            datatype: match methods.call_datatype(&mut store, output).unwrap() {
                wit_inference::Datatype::Fp32 => Datatype::Fp32,
                wit_inference::Datatype::Int64 => Datatype::Int64,
                wit_inference::Datatype::Bytes => Datatype::Bytes,
                other => panic!("{other:?}"),
            },
            shape: methods.call_shape(&mut store, output).unwrap(),
            data: methods.call_data(&mut store, output).unwrap(),
        };
        assert_eq!(found, expected);
    }
    let option = [("speed".to_owned(), "high".to_owned())];
    let error = exports.model().call_predict(&mut store, model, &[input], &option).unwrap().err().unwrap();
    assert_eq!(error.message, "unknown option `speed`; expected `contributions`");
}

#[test]
fn neither_modules_nor_components_import_anything() {
    let engine = Engine::default();
    for folder in ["", "fault"] {
        for name in ["policy", "inference-tabular"] {
            let file = support::core_folder(folder).join(format!("{name}.wasm"));
            let module = wasmtime::Module::from_file(&engine, file).unwrap();
            assert_eq!(module.imports().count(), 0);
            let file = support::core_folder(folder).join(format!("{name}.component.wasm"));
            let component = Component::from_file(&engine, file).unwrap();
            assert_eq!(component.component_type().imports(&engine).count(), 0);
        }
    }
}
