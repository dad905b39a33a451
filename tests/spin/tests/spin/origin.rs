//! Versions of other placements go to a real `lockgate serve`; what becomes of a request when that is slow, down or not there.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::endpoints::stocked;
use crate::fixtures::{Origin, POLICY, baked, body, plain};
use crate::host::{Answer, Ask, World};

fn far() -> Ask {
    Ask::post("/v2/models/far/infer", body(3, 2, &json!({ "user": "u" })))
}

fn infers(world: &World) -> usize {
    world.sent().iter().filter(|sent| sent.ends_with("/infer")).count()
}

fn towards(world: &Arc<World>, address: &str) {
    world.set("origin", &format!("http://{address}"));
    world.allow(address);
}

fn served(answer: &Answer) -> (u16, String, bool) {
    let answer_json = answer.json();
    let parameters = &answer_json["parameters"];
    (
        answer.status,
        parameters["variant"].as_str().unwrap_or_default().to_owned(),
        parameters["fallback"] == true,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_origin_serves_what_is_placed_there() {
    let origin = Origin::start(POLICY, &[]);
    for (host, world) in [(baked(), World::new()), (plain(), stocked(POLICY))] {
        towards(&world, &origin.address);
        let answer = host.send(&world, far()).await.unwrap();
        assert_eq!(served(&answer), (200, "heavy".to_owned(), false), "{answer:?}");
        let theirs = crate::endpoints::ask_host(&origin, &far()).await;
        assert_eq!(answer.json()["outputs"], theirs.json()["outputs"]);
        assert_eq!(answer.json()["parameters"]["placement"], "host");
        assert_eq!(infers(&world), 1, "{:?}", world.sent());
        let health = host.send(&world, Ask::get("/health")).await.unwrap().json();
        let models = health["parts"]["packages"]["models"].as_array().unwrap();
        assert!(models.iter().any(|model| model["status"] == "forwarded"), "{health}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_origin_the_fallback_serves() {
    for (host, world) in [(baked(), World::new()), (plain(), stocked(POLICY))] {
        let answer = host.send(&world, far()).await.unwrap();
        assert_eq!(served(&answer), (200, "light".to_owned(), true), "{answer:?}");
        assert!(world.sent().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_is_down_is_asked_twice_and_then_the_fallback_serves() {
    let world = World::new();
    // A port that nobody listens on any more.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    towards(&world, &address);
    let answer = baked().send(&world, far()).await.unwrap();
    assert_eq!(served(&answer), (200, "light".to_owned(), true), "{answer:?}");
    assert_eq!(infers(&world), 2, "one retry: {:?}", world.sent());

    // Spin refuses what `allowed_outbound_hosts` does not list.
    let world = World::new();
    world.set("origin", &format!("http://{address}"));
    let answer = baked().send(&world, far()).await.unwrap();
    assert_eq!(served(&answer), (200, "light".to_owned(), true), "{answer:?}");
    world.set("origin", "models.example.com");
    assert_eq!(baked().send(&world, far()).await.unwrap().problem(), (500, "invalid_settings".to_owned()));
}

/// A server that does with each connection what `act` does.
fn server(act: fn(std::net::TcpStream)) -> (String, Arc<AtomicUsize>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            counted.fetch_add(1, Ordering::Relaxed);
            let stream = stream.unwrap();
            std::thread::spawn(move || act(stream));
        }
    });
    (address, count)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_is_slow_or_talks_nonsense_is_given_up() {
    let hang = |mut stream: std::net::TcpStream| {
        let mut buffer = [0; 1024];
        while stream.read(&mut buffer).is_ok_and(|len| len > 0) {}
        std::thread::sleep(Duration::from_secs(60));
    };
    let nonsense = |mut stream: std::net::TcpStream| {
        let mut buffer = [0; 1 << 16];
        let _ = stream.read(&mut buffer);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nwhat");
    };
    let broken = |mut stream: std::net::TcpStream| {
        let mut buffer = [0; 1 << 16];
        let _ = stream.read(&mut buffer);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 400\r\n\r\n{\"outputs\"");
    };
    for (what, act) in [("hang", hang as fn(_)), ("nonsense", nonsense), ("broken", broken)] {
        let (address, asked) = server(act);
        let world = World::new();
        towards(&world, &address);
        world.set("origin_timeout", "200ms");
        world.set("records", "false");
        let answer = baked().send(&world, far()).await.unwrap();
        assert_eq!(served(&answer), (200, "light".to_owned(), true), "{what}: {answer:?}");
        assert!(asked.load(Ordering::Relaxed) >= 1, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_go_out_when_the_answer_is_gone() {
    let (address, _) = server(|mut stream| {
        let mut request = Vec::new();
        let mut buffer = [0; 1 << 16];
        while let Ok(len) = stream.read(&mut buffer) {
            request.extend_from_slice(&buffer[..len]);
            let text = String::from_utf8_lossy(&request).into_owned();
            if len == 0 || text.ends_with("}\n") || text.ends_with("}\n\r\n0\r\n\r\n") {
                let body = text.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned();
                RECORDS.lock().unwrap().push((text.lines().next().unwrap().to_owned(), body));
                let answer = br#"{"received":1,"duplicates":0,"refused":[]}"#;
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", answer.len());
                let _ = stream.write_all(&[head.as_bytes(), answer].concat());
                return;
            }
        }
    });
    let world = World::new();
    towards(&world, &address);
    world.set("record_units_key", "k1:0123456789abcdef");
    let ask = Ask::post("/v2/models/direction/infer", body(0, 1, &json!({ "user": "alice" })));
    let answer = baked().send(&world, ask).await.unwrap();
    assert_eq!(answer.status, 200);
    let records = RECORDS.lock().unwrap().clone();
    let (line, body) = records.first().expect("a record was sent");
    assert!(line.starts_with("POST /v1/records "), "{line}");
    let start = body.find('{').unwrap();
    let record: serde_json::Value =
        serde_json::Deserializer::from_str(&body[start..]).into_iter().next().unwrap().unwrap();
    assert_eq!(record["id"], answer.json()["parameters"]["decision_id"], "{record}");
    assert_eq!((&record["shell"], &record["route"]), (&json!("spin"), &json!("direction")));
    assert!(!body.contains("alice"), "units are hashed: {body}");
}

static RECORDS: std::sync::Mutex<Vec<(String, String)>> = std::sync::Mutex::new(Vec::new());
