//! The fault core, baked: it misbehaves on the same marks, and a new instance of the same image is as good as the first.

use lockgate_abi::Reply;
use lockgate_abi::fault::Mark;
use lockgate_package::Tensor;
use wasmtime::{Engine, Module, Trap};

use crate::guest::{Guest, bake_all, contents, decide_request, predict_request};
use crate::support::{self, MODELS, POLICY, World, rows};

/// What a call gave: a trap, a response that cannot be read, or the response.
fn outcome(answer: Result<Vec<u8>, Trap>) -> String {
    match answer {
        Err(trap) => format!("trap: {trap}"),
        Ok(bytes) => match Reply::read(&bytes, 0) {
            Err(malformed) => format!("malformed: {}", malformed.problem),
            Ok(Reply::Failed(failure)) => format!("failed: {}", failure.code.name()),
            Ok(Reply::Done(_)) => "done".to_owned(),
        },
    }
}

#[test]
fn a_baked_fault_core_misbehaves_as_the_loaded_one() {
    let core = support::fault_core();
    let world = World::new(POLICY, &MODELS);
    let (bundle, package) = (world.bundle.clone(), world.packages[1].clone());
    let baked = bake_all(&core, contents(world)).unwrap();
    let engine = Engine::default();
    let [policy, inference] =
        [&baked.policy.module, &baked.inference.module].map(|module| Module::new(&engine, module).unwrap());
    let [plain_policy, plain_inference] =
        [core.policy.bytes(), core.tabular.bytes()].map(|module| Module::new(&engine, module).unwrap());
    let handle = baked.manifest.handle(&support::digest(&package)).unwrap();

    let mut seen = Vec::new();
    // Nothing here ends a loop.
    for mark in Mark::ALL.into_iter().filter(|mark| *mark != Mark::Loop) {
        let request = decide_request("eurusd-direction", &["bob", mark.user()], false);
        let mut loaded = Guest::of(&plain_policy);
        loaded.load(&bundle).unwrap();
        let of_loaded = outcome(loaded.call("lockgate_decide", &request));
        let of_baked = outcome(Guest::of(&policy).call("lockgate_decide", &request));
        assert_eq!(of_baked, of_loaded, "deciding, {mark:?}");

        let mut values = [0.0; 17];
        values[0] = mark.value();
        let inputs = [Tensor::fp32("input", vec![1, 17], &values)];
        let mut loaded = Guest::of(&plain_inference);
        loaded.load(&package).unwrap();
        let of_loaded = outcome(loaded.call("lockgate_predict", &predict_request(0, &inputs)));
        let request = predict_request(handle, &inputs);
        assert_eq!(outcome(Guest::of(&inference).call("lockgate_predict", &request)), of_loaded, "{mark:?}");
        seen.push(of_baked);

        // What the last instance did concerns no other one of the same image.
        let decision =
            Guest::of(&policy).call("lockgate_decide", &decide_request("eurusd-direction", &["bob"], false));
        assert_eq!(outcome(decision), "done");
        let request = predict_request(handle, &[rows(2)]);
        assert_eq!(outcome(Guest::of(&inference).call("lockgate_predict", &request)), "done");
    }
    assert!(seen.iter().any(|outcome| outcome.starts_with("trap")), "{seen:?}");
    assert!(seen.iter().any(|outcome| outcome.starts_with("malformed")), "{seen:?}");
}
