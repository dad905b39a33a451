//! The fault core in the server's engine: each mark, in a decision and in a prediction, costs its request alone, and the next one is
//! answered as before.

use std::time::Duration;

use lockgate_abi::fault::Mark;
use lockgate_core::CoreModules;
use lockgate_package::{AlignedBytes, Package, Tensor};
use lockgate_runtime::{
    Attribute, Context, DecideAnswer, DecideRequest, PredictRequest, Runtime, RuntimeError, Settings,
};
use lockgate_tests::core_dir;

use crate::decisions::NOW;
use crate::example;
use crate::record::{self, Runner};

const POLICY: &str = "
lockgate: 1
version: 1
models: { eurusd_gb@1.1.0: , eurusd_rfr@1.0.0: }
routes:
  eurusd-direction:
    unit: user
    variants: { stable: { model: eurusd_gb@1.1.0 }, canary: { model: eurusd_gb@1.1.0, payload: 1 } }
    baseline: stable
    default: { split: { stable: 50, canary: 50 } }
  eurusd-move:
    variants: { only: { model: eurusd_rfr@1.0.0 } }
    default: { serve: only }
";

fn code(mark: Mark) -> &'static str {
    match mark {
        Mark::Trap => "trap",
        Mark::Loop => "deadline_exceeded",
        Mark::Allocate => "memory_limit",
        _ => "malformed_response",
    }
}

/// Only a loop is ended by its deadline.
fn patience(mark: Option<Mark>) -> Option<Duration> {
    Some(Duration::from_secs(if mark == Some(Mark::Loop) { 1 } else { 60 }))
}

fn decide(runtime: &Runtime, mark: Option<Mark>, attributed: bool) -> Result<DecideAnswer, RuntimeError> {
    let user = Some(mark.map_or("alice", Mark::user).to_owned());
    let attributes = attributed.then(|| ("strategy".to_owned(), Attribute::Text("x".to_owned())));
    let context = Context { user, attributes: attributes.into_iter().collect(), ..Context::default() };
    runtime.decide(DecideRequest {
        route: "eurusd-direction".to_owned(),
        contexts: vec![context],
        now_ms: Some(NOW),
        deadline: patience(mark),
    })
}

fn predict(runtime: &Runtime, model: &str, mark: Option<Mark>) -> Result<Vec<Tensor>, RuntimeError> {
    let mut row: Vec<f32> = (0..17_u8).map(|k| f32::from(k) / 10.0).collect();
    if let Some(mark) = mark {
        row[0] = mark.value();
    }
    let package = Package::open(AlignedBytes::copy_of(&example::packages()[model])).unwrap();
    let request = PredictRequest {
        contributions: Default::default(),
        package: package.digest(),
        inputs: vec![Tensor::fp32("input", vec![1, 17], &row)],
        deadline: patience(mark),
    };
    runtime.predict(request).map(|answer| answer.outputs)
}

#[test]
fn every_fault_costs_its_request_alone() {
    let core = CoreModules::from_dir(&core_dir().join("fault")).unwrap();
    // One worker, so that whoever comes next meets the instance that failed, or the one in its place.
    let settings = Settings { workers: 1, fault_limit: 1000, ..Settings::default() };
    let runtime = Runtime::builder(core).settings(settings).build().unwrap();
    let models = ["eurusd_gb", "eurusd_rfr"];
    let packages = models.iter().map(|name| example::packages()[*name].clone()).collect();
    runtime.install(Some(example::bundle(Some(POLICY))), packages).unwrap();

    let good = || {
        let served = decide(&runtime, None, true).unwrap().served;
        (served, models.map(|model| predict(&runtime, model, None).unwrap()))
    };
    let before = good();
    let mut compared = 0;
    for mark in Mark::ALL {
        let what = [("decide", decide(&runtime, Some(mark), false).map(drop).unwrap_err())];
        let again = [("predict", predict(&runtime, models[0], Some(mark)).map(drop).unwrap_err())];
        for (verb, error) in what.into_iter().chain(again) {
            assert_eq!(error.code(), code(mark), "{verb}, {mark:?}: {error}");
            assert!(good() == before, "{verb}, {mark:?}: the next request is answered differently");
            compared += 1;
        }
    }
    let stats = runtime.stats();
    for module in [stats.policy, stats.tabular] {
        let seen = (module.traps, module.cut_off, module.memory_limits, module.malformed);
        assert_eq!(seen, (1, 1, 1, 5), "each instance met what its request was marked with");
    }
    record::passed(Runner::Wasmtime, "faults", compared, &[]);
    record::not_run(
        Runner::Native,
        "faults",
        "the fault core is a WebAssembly module; native code has no instance to lose",
    );
}
