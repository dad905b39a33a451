//! Reloading and ending.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{POLICY, Server, request};

#[test]
fn a_hangup_reloads_and_a_bad_policy_changes_nothing() {
    let mut server = Server::start(&[]);
    let file = server.folder.path().join("policy.yaml");
    let alice = |server: &Server| server.infer("direction", &request(1, &json!({ "user": "alice" })));
    assert_eq!(alice(&server).parameter("variant"), "canary");

    std::fs::write(&file, POLICY.replace("user: alice, serve: canary", "user: alice, serve: forest"))
        .unwrap();
    server.signal("-HUP");
    server
        .wait_for("the new policy", |server| server.get("/health").json()["parts"]["policy"]["version"] == 2);
    assert_eq!(alice(&server).parameter("variant"), "forest");
    assert_eq!(alice(&server).parameter("bundle_version"), 2);

    std::fs::write(&file, POLICY.replace("stable: 50, canary: 50", "stable: 60, canary: 50")).unwrap();
    server.signal("-HUP");
    server.wait_for("the refusal", |server| {
        server.metric("lockgate_reloads_total{result=\"failure\"}") == Some(1.0)
    });
    assert_eq!(alice(&server).parameter("variant"), "forest", "the last good policy serves");
    let health = server.get("/health");
    assert_eq!((health.status, &health.json()["status"]), (200, &json!("degraded")));
    let error = health.json()["parts"]["policy"]["last_load"]["error"].as_str().unwrap().to_owned();
    assert!(error.contains("policy.yaml:") && error.contains("110"), "{error}");

    std::fs::write(&file, POLICY).unwrap();
    server.signal("-HUP");
    server.wait_for("the repair", |server| server.get("/health").json()["status"] == "healthy");
    assert_eq!(alice(&server).parameter("bundle_version"), 3);
    assert_eq!(server.metric("lockgate_reloads_total{result=\"success\"}"), Some(3.0));
}

#[test]
fn a_terminated_server_finishes_what_it_began() {
    for signal in ["-TERM", "-INT"] {
        let mut server = Server::start_faulty(&[]);
        let url = server.url.clone();
        let status = std::thread::scope(|scope| {
            let server = &server;
            let looping = scope.spawn(move || {
                let body = request(1, &json!({ "user": "lockgate-fault:loop", "timeout": 1_500_000 }));
                server.infer("direction", &body).status
            });
            std::thread::sleep(Duration::from_millis(500));
            server.signal(signal);
            looping.join().unwrap()
        });
        assert_eq!(status, 504, "the request in progress got its answer");
        assert_eq!(server.process.wait().unwrap().code(), Some(0), "{}", server.log());
        assert!(server.log().contains("draining"));
        server.url = url;
        assert_eq!(server.get("/v2/health/live").status, 0, "nobody listens any more");
    }
}

#[test]
fn a_drain_that_takes_too_long_is_cut_off() {
    let mut server = Server::start_faulty(&["--drain-timeout", "300ms"]);
    let status = std::thread::scope(|scope| {
        let server = &server;
        let looping = scope.spawn(move || {
            let body = request(1, &json!({ "user": "lockgate-fault:loop" }));
            server.infer("direction", &body).status
        });
        std::thread::sleep(Duration::from_millis(500));
        server.signal("-TERM");
        looping.join().unwrap()
    });
    assert_eq!(status, 0, "its connection was closed");
    assert_eq!(server.process.wait().unwrap().code(), Some(1));
    assert!(server.log().contains("error: 1 requests were cut off"), "{}", server.log());
}

#[test]
fn logs_can_be_read_by_machines() {
    let server = Server::start(&["--log-format", "json", "--log", "debug"]);
    server.infer("direction", &request(1, &json!({})));
    server.infer("nothing", &request(1, &json!({})));
    let log = server.log();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let request =
        lines.iter().find(|line| line["message"] == "request" && line["route"] == "direction").unwrap();
    assert_eq!((request["status"].as_u64(), request["method"].as_str()), (Some(200), Some("POST")));
    assert!(request["request_id"].as_str().is_some() && request["duration_ms"].as_f64().is_some());
    let refused = lines.iter().find(|line| line["message"] == "request refused").unwrap();
    assert_eq!(refused["code"], "unknown_route");
}

fn connect(server: &Server, begun: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.url.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(begun.as_bytes()).unwrap();
    stream
}

#[test]
fn a_connection_without_a_request_is_closed() {
    let server = Server::start(&["--idle-timeout", "300ms"]);
    let live = "GET /v2/health/live HTTP/1.1\r\nhost: x\r\n";
    for begun in ["", "P", "PRI * HTTP/2.0\r\n", live, &format!("{live}\r\n")] {
        let mut answer = Vec::new();
        match connect(&server, begun).read_to_end(&mut answer) {
            Ok(_) => {}
            // What it began with was not read.
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{begun:?}"),
        }
        assert_eq!(answer.starts_with(b"HTTP/1.1 200"), begun.ends_with("\r\n\r\n"), "{begun:?}");
    }
    assert_eq!(server.get("/v2/health/live").status, 200);
}

#[test]
fn silent_connections_do_not_keep_a_server_from_ending() {
    let mut server = Server::start(&[]);
    let silent = [connect(&server, ""), connect(&server, "P")];
    std::thread::sleep(Duration::from_millis(200));
    let began = Instant::now();
    server.signal("-TERM");
    assert_eq!(server.process.wait().unwrap().code(), Some(0), "{}", server.log());
    // The time for requests in progress is 30 s, that for silence 75.
    assert!(began.elapsed() < Duration::from_secs(25));
    drop(silent);

    // One that has begun a request may finish it in that time; it is none in progress.
    let mut server = Server::start(&["--drain-timeout", "300ms"]);
    let begun = connect(&server, "GET /v2/health/live HTTP/1.1\r\n");
    std::thread::sleep(Duration::from_millis(200));
    server.signal("-TERM");
    assert_eq!(server.process.wait().unwrap().code(), Some(0), "{}", server.log());
    drop(begun);
}
