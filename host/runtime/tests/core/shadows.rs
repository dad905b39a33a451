//! Shadows: who gets a copy, what is compared, and what is dropped.

use lockgate_runtime::{Runtime, ShadowStatus};

use crate::support::{self, POLICY, World, infer, rows, user};

fn with_shadows(shadows: &str) -> Runtime {
    let runtime = Runtime::builder(support::core()).settings(support::settings()).build().unwrap();
    World::new(&format!("{POLICY}    shadows: [{shadows}]\n"), &support::MODELS).install(&runtime);
    runtime
}

fn only(runtime: &Runtime) -> ShadowStatus {
    let mut all = runtime.shadows();
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

#[test]
fn a_shadow_is_compared_with_what_was_served() {
    let runtime = with_shadows(
        "{ name: next, variant: canary, unit: user, sample: 100, limits: { rate: 100, concurrency: 9 } }",
    );
    let served = runtime.infer(infer(vec![user("stable")], vec![rows(3)])).unwrap();
    support::until("the shadow has run", || runtime.shadows().iter().any(|shadow| shadow.runs == 1));
    let shadow = only(&runtime);
    assert_eq!((shadow.id.route.as_str(), shadow.id.name.as_str()), ("eurusd-direction", "next"));
    assert_eq!((shadow.id.model.as_str(), shadow.rows, shadow.labels, shadow.values), ("eurusd_gb", 3, 3, 6));

    // What it said is what the model says when it is asked itself.
    let alone = runtime.predict(support::predict("eurusd_gb@1.1.0", vec![rows(3)])).unwrap();
    let scores = |outputs: &[lockgate_runtime::Tensor]| outputs.last().unwrap().to_fp32().unwrap();
    let (served, alone) = (scores(&served.outputs), scores(&alone.outputs));
    let largest = served
        .iter()
        .zip(&alone)
        .map(|(a, b)| f64::from(*a) - f64::from(*b))
        .map(f64::abs)
        .fold(0.0, f64::max);
    assert!(largest > 0.0);
    assert_eq!(shadow.difference_max, largest);

    // Alice is served by the canary: a shadow is never the version that serves.
    runtime.infer(infer(vec![user("alice")], vec![rows(1)])).unwrap();
    // Of several rows those get a copy that the shadow does not serve.
    let users = ["stable", "alice", "stable"].map(user).to_vec();
    runtime.infer(infer(users, vec![rows(3)])).unwrap();
    support::until("it has run again", || only(&runtime).runs == 2);
    assert_eq!(only(&runtime).rows, 5);
}

#[test]
fn what_is_beyond_a_bound_is_dropped_and_counted() {
    let check = |limits: &str, requests: usize, dropped: fn(&ShadowStatus) -> u64, least: u64| {
        let runtime = with_shadows(&format!(
            "{{ name: next, variant: canary, unit: user, sample: 100, limits: {{ {limits} }} }}"
        ));
        for _ in 0..requests {
            runtime.infer(infer(vec![user("stable")], vec![rows(2)])).unwrap();
        }
        support::until("enough was dropped", || {
            runtime.shadows().first().is_some_and(|all| dropped(all) >= least)
        });
        let shadow = only(&runtime);
        assert_eq!(shadow.failed + shadow.incomparable, 0);
    };
    check("bytes: 135", 3, |shadow| shadow.dropped.bytes, 3);
    check("rate: 1, concurrency: 9", 30, |shadow| shadow.dropped.rate, 5);
}
