//! Shadows: who gets a copy, what is compared, and what is dropped.

use std::thread;
use std::time::{Duration, Instant};

use lockgate_abi::fault::Mark;
use lockgate_core::CoreModules;
use lockgate_package::Tensor;
use lockgate_runtime::{InferRequest, Runtime, Settings, ShadowStatus};

use crate::support::{self, POLICY, World, infer, rows, user};

fn with_shadows(shadows: &str) -> Runtime {
    on(support::core(), support::settings(), shadows)
}

fn on(core: CoreModules, settings: Settings, shadows: &str) -> Runtime {
    let runtime = Runtime::builder(core).settings(settings).build().unwrap();
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

/// A request of two rows, both served by `stable`. A shadow of `slow` gets the second row alone, and the mark that stands there
/// first in what it gets; for the version that serves, the mark is a number like any other.
fn slow_for_the_shadow(mark: Mark, wide: usize) -> InferRequest {
    let mut values: Vec<f32> = (0..(1 + wide) * 17).map(|index| (index as f32 * 0.37).sin() * 0.01).collect();
    values[17] = mark.value();
    let contexts = [user("stable")].into_iter().chain((0..wide).map(|_| user("slow"))).collect();
    infer(contexts, vec![Tensor::fp32("input", vec![1 + wide as i64, 17], &values)])
}

/// The policy in which `slow` is served by `stable` and has these shadows.
fn slow_world(shadows: &str) -> World {
    let policy = POLICY.replace(
        "- { user: stable, serve: stable }",
        "- { user: stable, serve: stable }\n      - { user: slow, serve: stable }",
    );
    World::new(&format!("{policy}    shadows: [{shadows}]\n"), &support::MODELS)
}

fn slow_runtime(shadows: &str) -> Runtime {
    let runtime = Runtime::builder(support::fault_core()).settings(support::settings()).build().unwrap();
    slow_world(shadows).install(&runtime);
    runtime
}

/// Asks `count` times from each of four threads at once, and sees that every answer is the one that is given without shadows.
fn ask_at_once(runtime: &Runtime, request: &InferRequest, count: usize) {
    let alone = slow_runtime("");
    let expected = alone.infer(request.clone()).unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..count {
                    let answer = runtime.infer(request.clone()).unwrap();
                    assert_eq!((&answer.outputs, &answer.served), (&expected.outputs, &expected.served));
                }
            });
        }
    });
}

fn named(runtime: &Runtime, name: &str) -> ShadowStatus {
    runtime.shadows().into_iter().find(|shadow| shadow.id.name == name).unwrap()
}

fn all_dropped(shadow: &ShadowStatus) -> u64 {
    shadow.dropped.by_cause().iter().map(|(_, count)| count).sum()
}

#[test]
fn a_shadow_that_hangs_delays_and_changes_no_answer() {
    // It hangs for longer than the test lasts, so an answer that waited for it would never come.
    let limits = "rate: 1000000, concurrency: 3, deadline: 1h";
    let runtime = slow_runtime(&format!(
        "{{ name: hung, variant: canary, if: {{ user: slow }}, limits: {{ {limits} }} }}"
    ));
    ask_at_once(&runtime, &slow_for_the_shadow(Mark::Loop, 1), 50);
    let shadow = named(&runtime, "hung");
    assert_eq!(
        (shadow.runs, shadow.failed, shadow.incomparable),
        (0, 0, 0),
        "none came to an end: {shadow:?}"
    );
    // Every copy is accounted for: three have a place for as long as the first hangs, and all others were dropped.
    assert_eq!((shadow.dropped.concurrency, all_dropped(&shadow)), (200 - 3, 200 - 3), "{shadow:?}");
    // The version that serves somebody else is not the worse for it.
    assert!(runtime.infer(infer(vec![user("alice")], vec![rows(1)])).is_ok());
    // Ending the runtime waits for no shadow.
    drop(runtime);
}

#[test]
fn a_shadow_past_its_deadline_is_cut_off_and_makes_room() {
    let limits = "rate: 1000000, concurrency: 2, deadline: 200ms";
    let runtime = slow_runtime(&format!(
        "{{ name: slow, variant: canary, if: {{ user: slow }}, limits: {{ {limits} }} }}"
    ));
    ask_at_once(&runtime, &slow_for_the_shadow(Mark::Loop, 1), 25);
    let is_done = |shadow: &ShadowStatus| all_dropped(shadow) == 100;
    support::until("every copy was dropped", || is_done(&named(&runtime, "slow")));
    let shadow = named(&runtime, "slow");
    assert!(shadow.dropped.deadline >= 2 && shadow.dropped.concurrency > 0, "{shadow:?}");
    assert_eq!(shadow.dropped.deadline + shadow.dropped.concurrency, 100, "{shadow:?}");
    // Both places are free again.
    let harmless = infer(vec![user("slow")], vec![rows(1)]);
    for _ in 0..2 {
        runtime.infer(harmless.clone()).unwrap();
    }
    support::until("it runs again", || named(&runtime, "slow").runs == 2);
}

#[test]
fn faults_of_a_shadow_are_not_held_against_the_version_that_serves() {
    let settings = Settings { fault_limit: 1, slow_call: Duration::from_millis(1), ..support::settings() };
    for (mark, deadline) in [(Mark::Trap, "10s"), (Mark::MalformedSize, "10s"), (Mark::Loop, "50ms")] {
        let runtime = Runtime::builder(support::fault_core()).settings(settings.clone()).build().unwrap();
        let limits = format!("rate: 1000000, concurrency: 9, deadline: {deadline}");
        slow_world(&format!(
            "{{ name: bad, variant: canary, if: {{ user: slow }}, limits: {{ {limits} }} }}"
        ))
        .install(&runtime);
        for _ in 0..3 {
            runtime.infer(slow_for_the_shadow(mark, 1)).unwrap();
        }
        support::until("the shadow has failed", || {
            runtime.shadows().iter().any(|shadow| shadow.failed + shadow.dropped.deadline == 3)
        });
        assert_eq!(named(&runtime, "bad").runs, 0);
        let alice = runtime.infer(infer(vec![user("alice")], vec![rows(1)])).unwrap();
        assert_eq!(alice.served.versions[0].model, "eurusd_gb", "{mark:?}");
        assert!(
            runtime.status().models.iter().all(|model| (model.faults, model.quarantined) == (0, None)),
            "{mark:?}"
        );
    }
}

#[test]
fn rate_and_size_hold_under_load() {
    let shadow = |name: &str, limits: &str| {
        format!(
            "{{ name: {name}, variant: canary, if: {{ user: slow }}, limits: {{ {limits}, deadline: 1h }} }}"
        )
    };
    // Rows are 68 bytes; the shadows get three of the four.
    let runtime = slow_runtime(
        &[
            shadow("rate", "rate: 5, concurrency: 100000"),
            shadow("small", "rate: 1000000, concurrency: 100000, bytes: 203"),
            shadow("large", "rate: 1000000, concurrency: 100000, bytes: 204"),
        ]
        .join(", "),
    );
    let began = Instant::now();
    ask_at_once(&runtime, &slow_for_the_shadow(Mark::Loop, 3), 100);
    let seconds = began.elapsed().as_secs() + 1;
    let [rate, small, large] = ["rate", "small", "large"].map(|name| named(&runtime, name).dropped);
    // As many as a second allows at once, and as many again for each second that has passed.
    let let_through = 400 - rate.rate;
    assert!((5..=5 * (1 + seconds)).contains(&let_through), "{let_through} in {seconds} seconds");
    assert_eq!((small.bytes, large.bytes), (400, 0));
    // What no shadow's own bound stops meets the bound on all of them together: one runs, if it has begun, and 256 wait.
    let queued = let_through + 400 - (rate.queue + large.queue);
    assert!((256..=257).contains(&queued), "{queued}");
}
