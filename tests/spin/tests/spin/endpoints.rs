//! The endpoints: what the application answers is what `lockgate serve` answers, baked and from key-value.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::fixtures::{self, Origin, POLICY, body};
use crate::host::{Answer, Ask, Host, World};

/// A world whose key-value store holds a policy and every package, for an application that is told to look there.
pub(crate) fn stocked(policy: &str) -> Arc<World> {
    let world = World::new();
    world.set("policy_source", "key-value");
    world.put("policy", fixtures::compile(policy).bundle);
    for package in fixtures::packages() {
        world.put(&package.key(), package.bytes.clone());
    }
    world
}

pub(crate) fn infer(parameters: &Value) -> Ask {
    Ask::post("/v2/models/direction/infer", body(0, 1, parameters))
}

/// The two ways to give the application a policy.
async fn both() -> [(&'static str, &'static Host, Arc<World>); 2] {
    [("baked", fixtures::baked(), World::new()), ("key-value", fixtures::plain(), stocked(POLICY))]
}

/// What differs from answer to answer.
fn stable(mut answer: Value) -> Value {
    if let Some(parameters) = answer.get_mut("parameters").and_then(Value::as_object_mut) {
        parameters.remove("decision_id");
    }
    answer
}

#[tokio::test]
async fn health_and_metadata() {
    for (way, host, world) in both().await {
        let get = async |path: &str| host.send(&world, Ask::get(path)).await.unwrap();
        assert_eq!(get("/v2/health/live").await.json(), json!({ "live": true }), "{way}");
        assert_eq!(get("/v2/health/ready").await.json(), json!({ "ready": true }), "{way}");
        assert_eq!(get("/v2").await.json()["name"], "lockgate", "{way}");
        let metadata = get("/v2/models/direction").await.json();
        assert_eq!(metadata["versions"], json!(["eurusd_lr@1.0.0", "1.1.0", "eurusd_rf_a@1.0.0"]), "{way}");
        assert_eq!(metadata["inputs"][0]["shape"], json!([-1, 17]), "{way}");
        assert_eq!(get("/v2/models/direction/ready").await.status, 200, "{way}");
        let health = get("/health").await.json();
        let identity = |name: &str| {
            let module = std::fs::read(fixtures::core_folder(false).join(format!("{name}.wasm"))).unwrap();
            lockgate_core::recorded_identity(&module).unwrap().unwrap().to_string()
        };
        assert_eq!(health["core"]["policy"], identity("policy"), "{way}");
        assert_eq!(health["core"]["inference"], identity("inference-tabular"), "{way}");
        assert_eq!(health["parts"]["policy"]["source"], if way == "baked" { "baked" } else { "fetched" });
        assert_eq!(health["parts"]["policy"]["version"], 5, "{way}");
        assert_eq!(health["shell"], "spin");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_those_of_the_host() {
    let origin = Origin::start(POLICY, &[]);
    let paths = ["/v2/models/direction/infer", "/v2/models/direction/versions/eurusd_rf_a@1.0.0/infer"];
    let countries = [json!(null), json!("DE"), json!("CH")];
    let mut variants = std::collections::BTreeMap::<String, usize>::new();
    for (way, host, world) in both().await {
        for number in 0..120_usize {
            let rows = 1 + number % 5;
            let users: Vec<Value> =
                (0..rows).map(|row| json!(format!("user-{}", number * 7 + row))).collect();
            let parameters = match number % 4 {
                0 => json!({ "user": users, "country": countries[number % 3] }),
                1 => json!({ "user": "alice" }),
                2 => json!({ "user": users, "tenant": "acme" }),
                _ => json!({}),
            };
            let ask = Ask::post(paths[usize::from(number % 11 == 10)], body(number, rows, &parameters));
            let ours = host.send(&world, ask.clone()).await.unwrap();
            let theirs = ask_host(&origin, &ask).await;
            assert_eq!((ours.status, theirs.status), (200, 200), "{way} {number} {parameters}: {ours:?}");
            assert_eq!(stable(ours.json()), stable(theirs.json()), "{way} {number} {parameters}");
            *variants.entry(ours.json()["parameters"]["variant"].to_string()).or_default() += 1;
        }
    }
    assert!(variants.len() >= 6, "too few kinds of answers: {variants:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn binary_tensors_go_in_and_out() {
    let header = serde_json::to_vec(&json!({
        "parameters": { "user": "alice", "binary_data_output": true },
        "inputs": [{ "name": "input", "datatype": "FP32", "shape": [1, 17], "parameters": { "binary_data_size": 68 } }],
    }));
    let header = header.unwrap();
    let mut bytes = header.clone();
    bytes.extend((0..17_u8).flat_map(|lag| (f32::from(lag) - 8.0).to_le_bytes()));
    let ask = Ask::post("/v2/models/direction/infer", bytes)
        .header("inference-header-content-length", &header.len().to_string());
    let origin = Origin::start(POLICY, &[]);
    let theirs = ask_host(&origin, &ask).await;
    for (way, host, world) in both().await {
        let ours = host.send(&world, ask.clone()).await.unwrap();
        assert_eq!(ours.status, 200, "{way}: {ours:?}");
        let split = |answer: &Answer| {
            let length: usize = answer.header("inference-header-content-length").unwrap().parse().unwrap();
            let (json, data) = answer.body.split_at(length);
            (stable(serde_json::from_slice(json).unwrap()), data.to_vec())
        };
        assert_eq!(split(&ours), split(&theirs), "{way}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_those_of_the_host() {
    let origin = Origin::start(POLICY, &["--max-body", "64KiB"]);
    let tensor = |shape: Value, data: Value| {
        let input = json!({ "name": "input", "datatype": "FP32", "shape": shape, "data": data });
        serde_json::to_vec(&json!({ "id": "9", "inputs": [input] })).unwrap()
    };
    let path = "/v2/models/direction/infer";
    let nan: Vec<Value> = (0..17).map(|lag| if lag == 3 { json!("NaN") } else { json!(0.5) }).collect();
    let asks = [
        Ask::post(path, "{"),
        Ask::post(path, "{}"),
        Ask::post(path, "[".repeat(100)),
        Ask::post(path, tensor(json!([1, 16]), json!(vec![0.5; 16]))),
        Ask::post(path, tensor(json!([1, 17]), json!(vec![0.5; 16]))),
        Ask::post(path, tensor(json!([1, 17]), json!(nan))),
        Ask::post(path, tensor(json!([1, 17]), json!(vec!["x"; 17]))),
        Ask::post(path, body(0, 2, &json!({ "user": ["a"] }))),
        Ask::post(path, body(0, 1, &json!({ "user": 1.5 }))),
        Ask::post(path, vec![b' '; 80 << 10]),
        Ask::post(path, body(0, 1, &json!({}))).header("content-encoding", "gzip"),
        Ask::post(path, body(0, 1, &json!({}))).header("x-request-timeout-ms", "soon"),
        Ask::post(path, body(0, 1, &json!({}))).header("inference-header-content-length", "7"),
        Ask::post("/v2/models/nothing/infer", body(0, 1, &json!({}))),
        Ask::post("/v2/models/direction/versions/9.9.9/infer", body(0, 1, &json!({}))),
        Ask::post("/v2/models/direction/versions/1.0.0/infer", body(0, 1, &json!({}))),
        Ask::post("/v2/models/direction", ""),
        Ask::get("/v2/models/direction/infer"),
        Ask::get("/v3"),
        Ask::get("/"),
    ];
    for (way, host, world) in both().await {
        world.set("max_body", "64KiB");
        for ask in &asks {
            let ours = host.send(&world, ask.clone()).await.unwrap();
            let theirs = ask_host(&origin, ask).await;
            let shown = format!(
                "{way} {} {} {}",
                ask.method,
                ask.path,
                String::from_utf8_lossy(&ask.body[..ask.body.len().min(60)])
            );
            assert_eq!(ours.problem(), theirs.problem(), "{shown}");
            assert!(ours.status >= 400, "{shown}");
            let sentence = |answer: &Answer| answer.json()["error"].clone();
            assert_eq!(sentence(&ours), sentence(&theirs), "{shown}");
        }
        let ok = host.send(&world, Ask::post(path, body(0, 1, &json!({})))).await.unwrap();
        assert_eq!(ok.status, 200, "{way}: what was refused left something behind");
    }
}

#[tokio::test]
async fn settings_that_make_no_sense_are_said() {
    let world = World::new();
    world.set("max_body", "much");
    let answer = fixtures::baked().send(&world, Ask::get("/health")).await.unwrap();
    assert_eq!(answer.problem(), (500, "invalid_settings".to_owned()));
    assert!(
        answer.json()["error"].as_str().unwrap().contains("setting `max_body`: expected a size"),
        "{answer:?}"
    );
    world.set("max_body", "");
    world.set("policy_source", "somewhere");
    let answer = fixtures::baked().send(&world, Ask::get("/health")).await.unwrap();
    assert_eq!(answer.problem(), (500, "invalid_settings".to_owned()));
}

#[tokio::test]
async fn an_instance_serves_one_request_many_in_a_row_or_many_at_once() {
    for (way, host, world) in both().await {
        let asks: Vec<Ask> =
            (0..50).map(|number| infer(&json!({ "user": format!("user-{number}") }))).collect();
        let mut alone = Vec::new();
        for ask in &asks {
            alone.push(stable(host.send(&world, ask.clone()).await.unwrap().json()));
        }
        let mut reused = host.instance(&world).await.unwrap();
        for (ask, alone) in asks.iter().zip(&alone) {
            let answer = reused.send(ask.clone()).await.unwrap();
            assert_eq!(&stable(answer.json()), alone, "{way}");
        }
        let at_once = host.instance(&world).await.unwrap().send_all(asks).await.unwrap();
        let at_once: Vec<Value> = at_once.iter().map(|answer| stable(answer.json())).collect();
        assert_eq!(at_once, alone, "{way}");
    }
}

/// The same request to the server.
pub(crate) async fn ask_host(origin: &Origin, ask: &Ask) -> Answer {
    use http_body_util::BodyExt as _;
    let stream = tokio::net::TcpStream::connect(&origin.address).await.unwrap();
    let io = wasmtime_wasi_http::io::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let mut request =
        http::Request::builder().method(ask.method).uri(&ask.path).header("host", &origin.address);
    for (name, value) in &ask.headers {
        request = request.header(name, value);
    }
    let body = http_body_util::Full::new(bytes::Bytes::from(ask.body.clone()));
    let response = sender.send_request(request.body(body).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}
