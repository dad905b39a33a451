//! The fault core: a request that makes a module misbehave fails, the server stays up, the next request succeeds.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Server, request};

const USERS: [(&str, &str); 8] = [
    ("trap", "trap"),
    ("loop", "deadline_exceeded"),
    ("allocate", "memory_limit"),
    ("malformed-pointer", "malformed_response"),
    ("malformed-size", "malformed_response"),
    ("malformed-offset", "malformed_response"),
    ("malformed-header", "malformed_response"),
    ("malformed-record", "malformed_response"),
];

/// A request whose decision misbehaves.
fn bad_decision(mark: &str) -> Value {
    request(1, &json!({ "user": format!("lockgate-fault:{mark}"), "timeout": 500_000 }))
}

/// A request whose prediction misbehaves; marks are numbered as in [`USERS`].
fn bad_prediction(mark: usize) -> Value {
    let mut body = request(1, &json!({ "timeout": 500_000 }));
    let mark = f32::from_bits(0x7F00_FA01 + u32::try_from(mark).unwrap());
    body["inputs"][0]["data"][0][0] = json!(mark);
    body
}

#[test]
fn a_fault_costs_one_request() {
    let mut server = Server::start_faulty(&["--fault-limit", "1000"]);
    for (index, (mark, code)) in USERS.into_iter().enumerate() {
        for body in [bad_decision(mark), bad_prediction(index)] {
            let answer = server.infer("direction", &body);
            let status = if mark == "loop" { 504 } else { 500 };
            assert_eq!(answer.error(), (status, code.to_owned()), "{mark}: {}", answer.text());
            assert!(!answer.text().contains("wasm"), "the cause is for the log: {}", answer.text());
            let next = server.infer("direction", &request(1, &json!({})));
            assert_eq!(next.status, 200, "after {mark}: {}", next.text());
        }
    }
    assert!(server.process.try_wait().unwrap().is_none());
    assert_eq!(server.metric("lockgate_traps_total{kind=\"trap\",module=\"policy\"}"), Some(1.0));
    assert_eq!(server.metric("lockgate_traps_total{kind=\"trap\",module=\"tabular\"}"), Some(1.0));
    assert_eq!(server.metric("lockgate_traps_total{kind=\"memory\",module=\"tabular\"}"), Some(1.0));
    assert_eq!(server.metric("lockgate_traps_total{kind=\"malformed\",module=\"policy\"}"), Some(5.0));
    assert_eq!(server.metric("lockgate_errors_total{code=\"trap\",endpoint=\"infer\"}"), Some(2.0));
    assert!(server.log().contains("trapped"), "the cause is in the log");
}

#[test]
fn a_package_that_fails_again_and_again_is_quarantined() {
    let server = Server::start_faulty(&["--fault-limit", "2", "--quarantine", "60s"]);
    for _ in 0..2 {
        assert_eq!(server.infer("direction", &bad_prediction(0)).error(), (500, "trap".to_owned()));
    }
    let refused = server.infer("direction", &request(1, &json!({})));
    assert_eq!(refused.error(), (503, "quarantined".to_owned()));
    assert!(refused.header("retry-after").unwrap().parse::<u32>().unwrap() >= 50);
    // Other versions serve.
    assert_eq!(server.infer("direction", &request(1, &json!({ "user": "alice" }))).status, 200);
    let health = server.get("/health");
    assert_eq!((health.status, &health.json()["status"]), (200, &json!("degraded")));
    assert_eq!(health.json()["parts"]["packages"]["status"], "degraded");
    assert_eq!(server.get("/v2/models/direction/ready").status, 503);
    assert_eq!(server.get("/v2/models/direction/versions/1.1.0/ready").status, 200);
    assert_eq!(server.get("/v2/health/ready").status, 200);
    assert_eq!(server.metric("lockgate_quarantined_packages"), Some(1.0));
}

#[test]
fn a_full_queue_sheds_and_a_looping_request_delays_no_other() {
    let server = Server::start_faulty(&["--workers", "2", "--queue", "1", "--fault-limit", "1000"]);
    let looping = |millis: &str| {
        let body = bad_decision("loop").to_string().replace("500000", "0");
        server.post("/v2/models/direction/infer", &[("x-request-timeout-ms", millis)], body.as_bytes())
    };
    std::thread::scope(|scope| {
        let first = scope.spawn(|| looping("4000"));
        std::thread::sleep(Duration::from_millis(300));
        let started = Instant::now();
        assert_eq!(server.infer("direction", &request(1, &json!({}))).status, 200);
        assert!(started.elapsed() < Duration::from_millis(2500), "one worker loops, the other answers");
        let second = scope.spawn(|| looping("3000"));
        std::thread::sleep(Duration::from_millis(300));
        let waiting = scope.spawn(|| server.infer("direction", &request(1, &json!({}))));
        std::thread::sleep(Duration::from_millis(300));
        let shed = server.infer("direction", &request(1, &json!({})));
        assert_eq!(shed.error(), (503, "overloaded".to_owned()));
        assert!(shed.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
        assert_eq!(first.join().unwrap().error().0, 504);
        assert_eq!(second.join().unwrap().error().0, 504);
        assert_eq!(waiting.join().unwrap().status, 200);
    });
    assert_eq!(server.metric("lockgate_shed_total"), Some(1.0));
    assert!(server.metric("lockgate_deadline_exceeded_total").unwrap() >= 2.0);
}

#[test]
fn a_request_past_its_deadline_is_told_so() {
    let server =
        Server::start_faulty(&["--timeout", "400ms", "--max-timeout", "600ms", "--fault-limit", "1000"]);
    let check = |header: Option<&str>, parameter: Value, expected: &str| {
        let body = request(1, &json!({ "user": "lockgate-fault:loop", "timeout": parameter })).to_string();
        let headers: Vec<(&str, &str)> =
            header.map(|millis| ("x-request-timeout-ms", millis)).into_iter().collect();
        let answer = server.post("/v2/models/direction/infer", &headers, body.as_bytes());
        assert_eq!(answer.error(), (504, "deadline_exceeded".to_owned()));
        let error = answer.json()["error"].as_str().unwrap().to_owned();
        let millis: u64 = error.split_whitespace().find_map(|word| word.parse().ok()).unwrap();
        let (from, to) = expected.split_once("..").unwrap();
        assert!((from.parse().unwrap()..=to.parse().unwrap()).contains(&millis), "{error}");
    };
    check(None, Value::Null, "300..400");
    check(Some("200"), Value::Null, "100..200");
    check(None, json!(100_000), "50..100");
    check(Some("60000"), json!(0), "500..600");
}
