//! The fault core: whatever a guest does, its request fails, and nothing else does.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::thread;
use std::time::{Duration, Instant};

use lockgate_abi::fault::Mark;
use lockgate_package::Tensor;
use lockgate_runtime::{DecideRequest, InferRequest, PredictRequest, Runtime, RuntimeError, Settings, Step};

use crate::support::{self, infer, predict, rows, runtime, user};

fn faulty(settings: Settings) -> Runtime {
    runtime(support::fault_core(), settings)
}

fn patient() -> Settings {
    Settings { fault_limit: 1000, ..support::settings() }
}

fn marked(mark: Mark) -> Tensor {
    let mut values = [0.0; 17];
    values[0] = mark.value();
    Tensor::fp32("input", vec![1, 17], &values)
}

fn decide(name: &str, deadline: Duration) -> DecideRequest {
    DecideRequest {
        route: "eurusd-direction".to_owned(),
        contexts: vec![user(name)],
        now_ms: Some(0),
        deadline: Some(deadline),
    }
}

/// How long to wait for what a mark gives: only a loop is ended by the deadline.
fn patience(mark: Mark) -> Duration {
    if mark == Mark::Loop { Duration::from_millis(300) } else { Duration::from_secs(20) }
}

/// What each mark gives, module and engine-specific words cut away.
fn expected(mark: Mark) -> (&'static str, &'static str) {
    match mark {
        Mark::Trap => ("trap", "trapped: wasm trap: wasm `unreachable` instruction executed"),
        Mark::Loop => ("deadline_exceeded", "no answer within 300 ms; the request was "),
        Mark::Allocate => ("memory_limit", "MiB of memory"),
        Mark::MalformedPointer => ("malformed_response", "the response lies outside the memory"),
        Mark::MalformedSize => ("malformed_response", "total_size reaches beyond the memory"),
        Mark::MalformedOffset => ("malformed_response", "an offset or length points outside the message"),
        Mark::MalformedHeader => ("malformed_response", "header_size or total_size is too small"),
        Mark::MalformedRecord => ("malformed_response", "outside"),
    }
}

fn check(mark: Mark, error: &RuntimeError) {
    let (code, words) = expected(mark);
    assert_eq!(error.code(), code, "{mark:?}: {error}");
    assert!(error.to_string().contains(words), "{mark:?}: {error}");
}

#[test]
fn a_faulty_decision_costs_its_own_request() {
    let runtime = faulty(patient());
    for mark in Mark::ALL {
        let error = runtime.decide(decide(mark.user(), patience(mark))).unwrap_err();
        if mark == Mark::MalformedOffset {
            // A decision has no offsets, but places in the bundle.
            assert_eq!(error.code(), "malformed_response");
            assert!(error.to_string().contains("a place that the bundle does not have"), "{error}");
        } else {
            check(mark, &error);
        }
        let next = runtime.decide(decide("bob", Duration::from_secs(20)));
        assert!(next.is_ok(), "after {mark:?}: {next:?}");
    }
    let stats = runtime.stats();
    assert_eq!((stats.policy.traps, stats.policy.memory_limits, stats.policy.cut_off), (1, 1, 1));
    assert_eq!(stats.policy.malformed, 5);
    assert_eq!(stats.tabular.traps, 0, "the other module is untouched");
}

#[test]
fn a_faulty_prediction_costs_its_own_request() {
    let runtime = faulty(patient());
    for mark in Mark::ALL {
        let request = PredictRequest {
            contributions: Default::default(),
            deadline: Some(patience(mark)),
            ..predict("eurusd_lr@1.0.0", vec![marked(mark)])
        };
        check(mark, &runtime.predict(request).unwrap_err());
        let next = runtime.predict(predict("eurusd_lr@1.0.0", vec![rows(1)]));
        assert!(next.is_ok(), "after {mark:?}: {next:?}");
    }
    let stats = runtime.stats();
    assert_eq!((stats.tabular.traps, stats.tabular.memory_limits, stats.tabular.cut_off), (1, 1, 1));
    assert_eq!(stats.tabular.malformed, 5);
    assert_eq!(runtime.status().models.iter().map(|model| model.faults).sum::<u64>(), 7);
}

#[test]
fn a_request_that_loops_delays_no_other() {
    let runtime = Arc::new(faulty(patient()));
    let looping = {
        let runtime = Arc::clone(&runtime);
        let mut request = infer(vec![user("stable")], vec![marked(Mark::Loop)]);
        request.deadline = Some(Duration::from_secs(2));
        thread::spawn(move || runtime.infer(request))
    };
    while runtime.status().busy == 0 {
        thread::yield_now();
    }
    for _ in 0..50 {
        assert!(runtime.infer(infer(vec![user("stable")], vec![rows(1)])).is_ok());
    }
    assert!(!looping.is_finished(), "fifty others were answered while it looped");
    assert_eq!(looping.join().unwrap().unwrap_err().code(), "deadline_exceeded");
}

#[test]
fn waiting_requests_are_shed_or_answered_at_their_deadline() {
    let runtime = Arc::new(faulty(Settings { workers: 1, queue: 2, ..patient() }));
    let request = |mark: Option<Mark>, deadline: u64| InferRequest {
        deadline: Some(Duration::from_millis(deadline)),
        ..infer(vec![user("stable")], vec![mark.map_or_else(|| rows(1), marked)])
    };
    let spawn = |request: InferRequest| {
        let runtime = Arc::clone(&runtime);
        thread::spawn(move || runtime.infer(request))
    };
    let looping = spawn(request(Some(Mark::Loop), 1500));
    while runtime.status().busy == 0 {
        thread::yield_now();
    }
    let begin = Instant::now();
    let (impatient, patient) = (spawn(request(None, 200)), spawn(request(None, 20_000)));
    while runtime.status().waiting < 2 {
        thread::yield_now();
    }
    let shed = runtime.infer(request(None, 20_000)).unwrap_err();
    assert_eq!(
        (shed.code(), shed.to_string().as_str()),
        ("overloaded", "2 requests are waiting already; try again in 1 s")
    );
    let error = impatient.join().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "no answer within 200 ms; the request was waiting");
    assert!(begin.elapsed() < Duration::from_millis(1200), "it was not kept until the worker was free");
    assert!(!looping.is_finished());
    assert!(patient.join().unwrap().is_ok());
    assert!(looping.join().unwrap().is_err());
    assert_eq!(runtime.stats().shed, 1);
}

#[test]
fn a_package_that_traps_again_and_again_is_quarantined_for_a_while() {
    let runtime =
        faulty(Settings { fault_limit: 3, quarantine: Duration::from_millis(600), ..support::settings() });
    let trap = || runtime.infer(infer(vec![user("stable")], vec![marked(Mark::Trap)])).unwrap_err();
    for _ in 0..3 {
        assert_eq!(trap().code(), "trap");
    }
    let error = runtime.infer(infer(vec![user("stable")], vec![rows(1)])).unwrap_err();
    assert_eq!(error.to_string(), "eurusd_lr@1.0.0 failed repeatedly and is quarantined for another 1 s");
    assert!(runtime.infer(infer(vec![user("alice")], vec![rows(1)])).is_ok(), "other packages serve");
    let status = runtime.status();
    let model = status.models.iter().find(|model| model.model == "eurusd_lr").unwrap();
    assert!(model.quarantined.is_some());
    assert_eq!(model.faults, 3);
    thread::sleep(Duration::from_millis(650));
    assert!(runtime.infer(infer(vec![user("stable")], vec![rows(1)])).is_ok(), "it is tried again");
    assert_eq!(trap().code(), "trap");
    assert_eq!(trap().code(), "quarantined", "one more fault is enough now");
}

#[test]
fn another_variant_serves_for_a_quarantined_package() {
    let runtime = faulty(Settings { fault_limit: 2, ..support::settings() });
    for _ in 0..2 {
        let trap = infer(vec![user("alice")], vec![marked(Mark::Trap)]);
        assert_eq!(runtime.infer(trap).unwrap_err().code(), "trap");
    }
    let answer = runtime.infer(infer(vec![user("alice")], vec![rows(1)])).unwrap();
    let (row, version) = answer.served.row(0).unwrap();
    let why = row.decision.as_ref().unwrap();
    assert_eq!((version.variant.as_deref(), version.model.as_str()), (Some("stable"), "eurusd_lr"));
    assert_eq!((why.step, why.intended.as_deref()), (Step::Fallback, Some("canary")));
    assert!(!why.unavailable);
}

#[test]
fn a_faulty_shadow_concerns_nobody() {
    let policy = support::POLICY.to_owned()
        + "    shadows: [{ name: gb, variant: canary, unit: user, sample: 100, limits: { rate: 100, deadline: 300ms } }]\n";
    let runtime = Runtime::builder(support::fault_core()).settings(patient()).build().unwrap();
    support::World::new(&policy, &support::MODELS).install(&runtime);
    for mark in [Mark::Trap, Mark::Loop] {
        // The mark is in the row: the model that serves traps on it too, so only the shadow of a good row is asked here.
        let error = runtime.infer(infer(vec![user("stable")], vec![marked(mark)]));
        assert!(error.is_err());
    }
    assert!(runtime.shadows().is_empty(), "a request without an answer has no shadow");
    assert!(runtime.infer(infer(vec![user("stable")], vec![rows(1)])).is_ok());
    support::until("the shadow has run", || runtime.shadows().iter().any(|shadow| shadow.runs == 1));
}

#[test]
fn short_deadlines_do_not_quarantine_a_slow_package() {
    let runtime =
        faulty(Settings { fault_limit: 2, slow_call: Duration::from_millis(400), ..support::settings() });
    let cut = |milliseconds| {
        let deadline = Some(Duration::from_millis(milliseconds));
        let request = InferRequest { deadline, ..infer(vec![user("stable")], vec![marked(Mark::Loop)]) };
        runtime.infer(request).unwrap_err().code()
    };
    for _ in 0..4 {
        assert_eq!(cut(50), "deadline_exceeded");
    }
    assert!(runtime.infer(infer(vec![user("stable")], vec![rows(1)])).is_ok());
    assert_eq!(cut(600), "deadline_exceeded");
    assert_eq!(cut(600), "deadline_exceeded");
    assert_eq!(cut(600), "quarantined", "but one that loops is");
}

#[test]
fn dropping_a_runtime_cuts_running_calls_off() {
    let runtime = faulty(patient());
    let begin = Instant::now();
    {
        let deadline = Some(Duration::from_secs(60));
        let request = InferRequest { deadline, ..infer(vec![user("stable")], vec![marked(Mark::Loop)]) };
        let mut task = pin!(runtime.infer_async(request));
        assert!(task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        while runtime.status().busy == 0 {
            thread::yield_now();
        }
    }
    drop(runtime);
    assert!(begin.elapsed() < Duration::from_secs(30), "dropping waited for the deadline");
}
