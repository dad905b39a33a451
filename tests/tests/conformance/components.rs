//! The components, called through WIT, against the native crates: the reference contract gives the flat one's answers.

use lockgate_inference::Model;
use lockgate_package::{AlignedBytes, Tensor};
use lockgate_policy::Bundle;
use lockgate_runtime::Attribute;
use lockgate_tests::core_dir;
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine, OptLevel, Store};

use crate::decisions::{NOW, bundle, contexts, native_context};
use crate::vectors;

mod policy {
    wasmtime::component::bindgen!({ path: "../wit", world: "policy-core" });
}

mod inference {
    wasmtime::component::bindgen!({ path: "../wit", world: "inference-core" });
}

/// An engine that compiles quickly; what is compared does not depend on it.
fn engine() -> Engine {
    Engine::new(Config::new().cranelift_opt_level(OptLevel::None)).unwrap()
}

fn component(engine: &Engine, file: &str) -> Component {
    Component::from_binary(engine, &std::fs::read(core_dir().join(file)).unwrap()).unwrap()
}

#[test]
fn the_policy_component_decides_as_the_native_evaluator() {
    use policy::exports::lockgate::core::policy::AttributeValue;
    let engine = engine();
    let mut store = Store::new(&engine, ());
    let component = component(&engine, "policy.component.wasm");
    let world = policy::PolicyCore::instantiate(&mut store, &component, &Linker::new(&engine)).unwrap();
    let guest = world.lockgate_core_policy();

    let (bytes, _) = bundle();
    let native = Bundle::load(AlignedBytes::copy_of(&bytes)).unwrap();
    let bundle = guest.bundle().call_load(&mut store, &bytes).unwrap().unwrap();
    assert_eq!(guest.bundle().call_version(&mut store, bundle).unwrap(), native.version());
    assert_eq!(guest.bundle().call_digest(&mut store, bundle).unwrap(), native.digest().0);
    let routes: Vec<_> = native.routes().map(|route| route.name().to_owned()).collect();
    assert_eq!(guest.bundle().call_routes(&mut store, bundle).unwrap(), routes);

    for (index, (route, context)) in contexts().into_iter().step_by(7).enumerate() {
        // One of the two packages is down for a third of them.
        let unavailable =
            if index % 3 == 0 { vec![native.models().next().unwrap().digest.0] } else { vec![] };
        let digests: Vec<Vec<u8>> = unavailable.iter().map(|digest| digest.to_vec()).collect();
        let expected = native.decide(&native_context(&route, &context), NOW, &unavailable);
        let resource = guest.context().call_constructor(&mut store, &route).unwrap();
        let api = guest.context();
        if let Some(user) = &context.user {
            api.call_set_user(&mut store, resource, user).unwrap();
        }
        if let Some(symbol) = &context.symbol {
            api.call_set_symbol(&mut store, resource, symbol).unwrap();
        }
        if let Some(tenant) = &context.tenant {
            api.call_set_tenant(&mut store, resource, tenant).unwrap();
        }
        if let Some(variant) = &context.variant {
            api.call_set_variant(&mut store, resource, variant).unwrap();
        }
        for (name, value) in &context.attributes {
            let value = match value {
                Attribute::Text(text) => AttributeValue::Text(text.clone()),
                Attribute::Number(number) => AttributeValue::Number(*number),
                Attribute::Boolean(value) => AttributeValue::Boolean(*value),
            };
            api.call_set_attribute(&mut store, resource, name, &value).unwrap();
        }
        let answer = guest.bundle().call_decide(&mut store, bundle, resource, NOW, &digests).unwrap();
        let (decision, expected) = match (answer, expected) {
            (Ok(decision), Ok(expected)) => (decision, expected),
            (Err(error), Err(_)) => {
                assert_eq!(format!("{:?}", error.code), "ErrorCode::UnknownRoute");
                continue;
            }
            (answer, expected) => panic!("{route}: {answer:?} against {expected:?}"),
        };
        let api = guest.decision();
        let variant = expected.variant();
        assert_eq!(api.call_variant(&mut store, decision).unwrap(), variant.name);
        assert_eq!(api.call_model(&mut store, decision).unwrap(), variant.model);
        assert_eq!(api.call_package_digest(&mut store, decision).unwrap(), variant.digest.0);
        assert_eq!(api.call_rule(&mut store, decision).unwrap().as_deref(), expected.rule());
        assert_eq!(api.call_layer(&mut store, decision).unwrap().as_deref(), expected.layer());
        assert_eq!(api.call_stage(&mut store, decision).unwrap(), expected.stage);
        assert_eq!(api.call_window(&mut store, decision).unwrap(), expected.window);
        assert_eq!(api.call_holdout(&mut store, decision).unwrap(), expected.holdout);
        assert_eq!(api.call_washout(&mut store, decision).unwrap(), expected.washout);
        assert_eq!(api.call_unavailable(&mut store, decision).unwrap(), expected.unavailable);
        let intended = expected.intended().map(|variant| variant.name);
        assert_eq!(api.call_intended_variant(&mut store, decision).unwrap().as_deref(), intended);
        let route = expected.route();
        assert_eq!(api.call_tenant(&mut store, decision).unwrap().as_deref(), route.tenant());
        assert_eq!(api.call_user(&mut store, decision).unwrap().as_deref(), route.user());
        let shadows = api.call_shadows(&mut store, decision).unwrap();
        assert_eq!(shadows.len(), expected.shadows().count());
        for (shadow, expected) in shadows.into_iter().zip(expected.shadows()) {
            let api = guest.shadow();
            assert_eq!(api.call_name(&mut store, shadow).unwrap(), expected.name);
            assert_eq!(api.call_variant(&mut store, shadow).unwrap(), expected.variant.name);
            assert_eq!(api.call_package_digest(&mut store, shadow).unwrap(), expected.variant.digest.0);
            assert_eq!(api.call_rate(&mut store, shadow).unwrap(), expected.limits.rate);
            assert_eq!(api.call_deadline_ms(&mut store, shadow).unwrap(), expected.limits.deadline_ms);
            shadow.resource_drop(&mut store).unwrap();
        }
        assert_eq!(api.call_bucket(&mut store, decision).unwrap(), expected.bucket);
        assert_eq!(api.call_unit_missing(&mut store, decision).unwrap(), expected.unit_missing);
        assert_eq!(api.call_payload(&mut store, decision).unwrap().as_deref(), variant.payload);
        decision.resource_drop(&mut store).unwrap();
        resource.resource_drop(&mut store).unwrap();
    }
}

#[test]
fn the_inference_component_predicts_as_the_native_engine() {
    use inference::exports::lockgate::core::inference::Datatype as Wit;
    use lockgate_package::Datatype;
    let engine = engine();
    let mut store = Store::new(&engine, ());
    let component = component(&engine, "inference-tabular.component.wasm");
    let world = inference::InferenceCore::instantiate(&mut store, &component, &Linker::new(&engine)).unwrap();
    let guest = world.lockgate_core_inference();
    let mut compared = 0;
    for vector in vectors::all() {
        let mut native = Model::load(AlignedBytes::copy_of(&vector.package)).unwrap();
        let loaded = guest.model().call_load(&mut store, &vector.package).unwrap();
        if native.manifest().engine == lockgate_package::Engine::Graph {
            let error = loaded.err().unwrap();
            assert!(error.message.contains("graph"), "{}", error.message);
            continue;
        }
        let model = loaded.unwrap();
        assert_eq!(guest.model().call_name(&mut store, model).unwrap(), vector.name);
        assert_eq!(guest.model().call_digest(&mut store, model).unwrap(), native.digest().0);
        let mut inputs = Vec::new();
        for input in &vector.inputs {
            let datatype = match input.datatype {
                Datatype::Fp32 => Wit::Fp32,
                Datatype::Fp64 => Wit::Fp64,
                Datatype::Int64 => Wit::Int64,
                Datatype::Bytes => Wit::Bytes,
                other => panic!("no vector has {other} yet"),
            };
            let tensor = guest
                .tensor()
                .call_constructor(&mut store, &input.name, datatype, &input.shape, &input.data)
                .unwrap();
            inputs.push(tensor);
        }
        let prediction = guest.model().call_predict(&mut store, model, &inputs, &[]).unwrap().unwrap();
        let outputs = guest.prediction().call_outputs(&mut store, prediction).unwrap();
        let views: Vec<_> = vector.inputs.iter().map(Tensor::view).collect();
        for (output, expected) in outputs.into_iter().zip(native.predict(&views).unwrap().outputs) {
            assert_eq!(guest.tensor().call_name(&mut store, output).unwrap(), expected.name);
            assert_eq!(guest.tensor().call_shape(&mut store, output).unwrap(), expected.shape);
            // The tabular engine's arithmetic is the same on every target, to the bit.
            assert!(
                guest.tensor().call_data(&mut store, output).unwrap() == expected.data,
                "{}",
                vector.name
            );
        }
        compared += 1;
    }
    assert!(compared >= 50, "only {compared} models were compared");
}
