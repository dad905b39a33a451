//! A shadow that hangs, over HTTP: answers come as without it, and what it missed is in the metrics.

use serde_json::{Value, json};

use crate::harness::{POLICY, Server, request};

/// Rows of `slow` are served by `stable` and copied to shadows that run the canary.
fn policy(shadows: &str) -> String {
    let overrides = "      - { user: alice, serve: canary }\n";
    let more = "      - { user: slow, serve: stable }\n      - { user: quick, serve: stable }\n";
    let split = "      split: { stable: 50, canary: 50 }\n";
    POLICY
        .replace(overrides, &format!("{overrides}{more}"))
        .replace(split, &format!("{split}    shadows: [{shadows}]\n"))
}

/// Two rows, of which the shadows get the second. It begins with the mark on which the fault core loops; for the version that serves
/// both rows, and begins with the first, it is a number like any other.
fn hanging() -> Value {
    let mut body = request(2, &json!({ "user": ["quick", "slow"] }));
    body["inputs"][0]["data"][1][0] = json!(f32::from_bits(0x7F00_FA01 + 1));
    body
}

#[test]
fn a_shadow_that_hangs_costs_no_answer_anything() {
    let plain = Server::start_on(true, &policy(""), &[]);
    let shadow = |name: &str, limits: &str| {
        format!("{{ name: {name}, variant: canary, if: {{ user: slow }}, limits: {{ {limits} }} }}")
    };
    let shadows = [
        // It never comes to an end, and holds its two places.
        shadow("hung", "rate: 1000000, concurrency: 2, deadline: 1h"),
        shadow("late", "rate: 1000000, concurrency: 1000, deadline: 100ms"),
        shadow("small", "rate: 1000000, concurrency: 1000, bytes: 67"),
    ];
    let mut server = Server::start_on(true, &policy(&shadows.join(", ")), &[]);
    let body = hanging();
    let essence = |server: &Server| {
        let answer = server.infer("direction", &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let answer = answer.json();
        let parameters =
            ["variant", "reason", "bundle_version"].map(|name| answer["parameters"][name].clone());
        (answer["outputs"].clone(), parameters)
    };
    let expected = essence(&plain);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..20).for_each(|_| assert_eq!(essence(&server), expected)));
        }
    });
    let dropped = |server: &Server, shadow: &str, cause: &str| {
        let labels = format!("cause=\"{cause}\",route=\"direction\",shadow=\"{shadow}\"");
        server.metric(&format!("lockgate_shadow_dropped_total{{{labels}}}"))
    };
    assert_eq!(dropped(&server, "hung", "concurrency"), Some(78.0));
    assert_eq!(dropped(&server, "small", "bytes"), Some(80.0));
    server.wait_for("the late copies to go", |server| dropped(server, "late", "deadline") == Some(80.0));
    let runs = |result: &str| {
        let labels = format!("result=\"{result}\",route=\"direction\",shadow=\"hung\"");
        server.metric(&format!("lockgate_shadow_runs_total{{{labels}}}")).unwrap_or_default()
    };
    assert_eq!(["compared", "failed", "incomparable"].map(runs), [0.0; 3], "it still hangs");
    // The version that hangs as a shadow serves others as ever.
    assert_eq!(
        server.infer("direction", &request(1, &json!({ "user": "alice" }))).parameter("variant"),
        "canary"
    );
    assert_eq!(server.get("/health").json()["status"], "healthy");
    // The server ends without waiting for it.
    server.signal("-TERM");
    for _ in 0..1000 {
        if let Some(status) = server.process.try_wait().unwrap() {
            assert!(status.success(), "{}", server.log());
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("the server does not end:\n{}", server.log());
}
