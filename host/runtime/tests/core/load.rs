//! Much of everything.

use std::fmt::Write as _;

use lockgate_package::plan::explain::Contributions;
use lockgate_runtime::{DecideRequest, PredictRequest, Runtime, Settings};

use crate::support::{self, World, infer, predict, rows, user};

#[test]
fn a_hundred_thousand_routes_load() {
    let mut policy =
        r#"{"lockgate": 1, "version": 1, "models": {"eurusd_lr@1.0.0": {}}, "routes": {"#.to_owned();
    for index in 0..100_000 {
        let comma = if index == 0 { "" } else { "," };
        write!(
            policy,
            r#"{comma}"route-{index}": {{"variants": {{"a": {{"model": "eurusd_lr@1.0.0"}}}}, "default": {{"serve": "a"}}}}"#
        )
        .unwrap();
    }
    policy.push_str("}}");
    let runtime = Runtime::builder(support::core()).settings(support::settings()).build().unwrap();
    let world = World::new(&policy, &["eurusd_lr@1.0.0"]);
    runtime.install(Some(world.bundle), world.packages).unwrap();
    assert_eq!(runtime.status().bundle.unwrap().routes, 100_000);
    for route in ["route-0", "route-54321", "route-99999"] {
        let contexts = vec![user("alice")];
        let request = DecideRequest { route: route.to_owned(), contexts, now_ms: Some(0), deadline: None };
        assert_eq!(runtime.decide(request).unwrap().served.versions[0].model, "eurusd_lr");
    }
}

#[test]
fn a_worker_keeps_within_its_memory() {
    let settings = Settings { workers: 1, worker_memory: 1, ..support::settings() };
    let runtime = support::runtime(support::core(), settings);
    for _ in 0..3 {
        for name in ["stable", "alice", "forest"] {
            runtime.infer(infer(vec![user(name)], vec![rows(1)])).unwrap();
            // The instance in use always stays, all others went.
            assert_eq!(runtime.stats().tabular.instances, 1);
        }
    }
}

#[test]
fn a_request_beyond_the_memory_is_an_error_and_the_next_is_answered() {
    let settings = Settings { workers: 1, inference_memory: 4 << 20, ..support::settings() };
    let runtime = support::runtime(support::core(), settings);
    let error = runtime.predict(predict("eurusd_lr@1.0.0", vec![rows(100_000)])).unwrap_err();
    assert_eq!(error.code(), "limit_exceeded", "{error}");
    assert!(runtime.predict(predict("eurusd_lr@1.0.0", vec![rows(10)])).is_ok());
}

#[test]
fn large_requests_quarantine_no_package() {
    let settings = Settings { workers: 1, inference_memory: 24 << 20, fault_limit: 1, ..support::settings() };
    let runtime = support::runtime(support::core(), settings);
    let mut refused = 0;
    for count in (20..200).step_by(20) {
        // Contributions are twice as many bytes as what they are of.
        let request = predict("eurusd_lr@1.0.0", vec![rows(count * 1000)]);
        let request = PredictRequest { contributions: Contributions::Usual, ..request };
        match runtime.predict(request) {
            Ok(_) => {}
            Err(error) => {
                refused += 1;
                assert_eq!(error.code(), "limit_exceeded", "{error}");
                assert_eq!(error.hint(), Some("send fewer rows at once"));
            }
        }
        assert!(runtime.predict(predict("eurusd_lr@1.0.0", vec![rows(10)])).is_ok());
    }
    assert!(refused > 3, "{refused}");
    assert!(runtime.stats().tabular.memory_limits > 0, "none ran out of memory on the way");
}
