//! An edge answers as the server does: the same requests go to both, on the same bundle, packages and modules, and every byte of what comes
//! back must be equal, but for what names the one request.

use std::time::Duration;

use lockgate_edge::{
    Catalog, Edge, Event, FetchError, Fetched, Freshness, HeaderList, Identity, Moment, Outcome, Request,
    Response, Serving, Settings, Step,
};
use serde_json::{Value, json};

use crate::flat::FlatCore;
use crate::harness::{Answer, POLICY, Server, core, lockgate, packages, request, rows};

struct Bytes {
    bundle: Vec<u8>,
    packages: Vec<Vec<u8>>,
    folder: tempfile::TempDir,
}

/// The compiled policy and the packages.
fn bytes(policy: &str) -> Bytes {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.yaml");
    let file = folder.path().join("policy.lgb");
    std::fs::write(&source, policy).unwrap();
    let paths = [source.to_str().unwrap(), "--packages", packages(), "--output", file.to_str().unwrap()];
    let output = lockgate(&[&["policy", "compile"][..], &paths].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut files: Vec<_> =
        std::fs::read_dir(packages()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let packages = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    Bytes { bundle: std::fs::read(&file).unwrap(), packages, folder }
}

/// An edge on these modules, and the server that it is compared with or that is its origin.
struct Pair {
    edge: Edge,
    core: FlatCore,
    catalog: Catalog,
    freshness: Freshness,
    server: Server,
    count: u8,
}

impl Pair {
    fn new(fault: bool, bytes: &Bytes, flags: &[&str], settings: &[(&str, &str)], has_origin: bool) -> Self {
        let file = bytes.folder.path().join("policy.lgb");
        let files = ["--policy", file.to_str().unwrap(), "--packages", packages()];
        let server =
            Server::start_in(tempfile::tempdir().unwrap(), &core(fault), &[&files[..], flags].concat());
        let slices: Vec<&[u8]> = bytes.packages.iter().map(Vec::as_slice).collect();
        let catalog = Catalog::of(&bytes.bundle, &slices).unwrap();
        let catalog = Catalog::from_json(&catalog.to_json()).unwrap();
        let look_up = |name: &str| {
            settings.iter().find(|(have, _)| *have == name).map(|(_, value)| (*value).to_owned())
        };
        let identity = Identity { shell: "spin", emitter: "test".to_owned(), has_origin, started_ms: 0 };
        let settings = Settings::read(&look_up).unwrap();
        Self {
            edge: Edge::new(settings, identity),
            core: FlatCore::new(&core(fault), &bytes.bundle, &bytes.packages),
            freshness: Freshness::baked(catalog.bundle),
            catalog,
            server,
            count: 0,
        }
    }

    /// What the edge answers; `fetch` is its network.
    fn ask_with(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        mut fetch: impl FnMut(&Server, &lockgate_edge::Fetch) -> Result<Fetched, FetchError>,
    ) -> Outcome {
        self.count = self.count.wrapping_add(1);
        let moment = Moment { now_ms: 1_800_000_000_000, random: [self.count; 16] };
        let headers = HeaderList::from(headers);
        let request = Request { method, path, headers: &headers, body };
        let serving = Serving { catalog: Some(&self.catalog), freshness: &self.freshness, image: None };
        let head = Request { body: b"", ..request };
        let mut step = match self.edge.admit(&head, moment) {
            Ok(_) => self.edge.begin(&mut self.core, serving, &request, moment),
            Err(response) => return Outcome { response, ..Outcome::default() },
        };
        loop {
            let (event, pending) = match step {
                Step::Done(outcome) => return *outcome,
                Step::Verify(..) => panic!("no token is used here"),
                Step::Fetch(fetches, pending) => {
                    let results = fetches.iter().map(|one| fetch(&self.server, one)).collect();
                    (Event::Fetched(results), pending)
                }
            };
            step = self.edge.resume(&mut self.core, serving, &request, pending, event, moment.now_ms);
        }
    }

    fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        self.ask_with(method, path, headers, body, |_, fetch| panic!("a fetch of {}", fetch.path)).response
    }

    /// Asks both and compares.
    #[track_caller]
    fn check(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let there = match method {
            "GET" => self.server.get_with(path, headers),
            _ => self.server.post(path, headers, body),
        };
        let here = self.ask(method, path, headers, body);
        let what = format!("{method} {path} {headers:?} {}", String::from_utf8_lossy(body));
        assert_eq!(here.status, there.status, "{what}: {}", there.text());
        for name in ["content-type", "inference-header-content-length", "www-authenticate", "allow"] {
            assert_eq!(here.header(name), there.header(name), "{what}: {name}");
        }
        let (ours, theirs) = (settle(&here.body), settle(&there.body));
        assert!(ours == theirs, "{what}\nedge   {}\nserver {}", show(&ours), show(&theirs));
        there
    }

    #[track_caller]
    fn infer(&mut self, route: &str, body: &Value) -> Answer {
        self.check("POST", &format!("/v2/models/{route}/infer"), &[], body.to_string().as_bytes())
    }
}

fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The body without the id that is new for each request.
fn settle(body: &[u8]) -> Vec<u8> {
    const BEFORE: &[u8] = b"\"decision_id\":\"";
    let mut body = body.to_vec();
    if let Some(at) = body.windows(BEFORE.len()).position(|part| part == BEFORE) {
        let id = at + BEFORE.len()..at + BEFORE.len() + 36;
        assert_eq!(body[id.end], b'"', "an id is a UUID");
        body[id].fill(b'0');
    }
    body
}

#[test]
fn an_edge_answers_as_the_server_does() {
    let bytes = bytes(POLICY);
    let mut pair = Pair::new(false, &bytes, &["--max-body", "64KiB"], &[("max_body", "64KiB")], false);
    for path in [
        "/v2",
        "/v2/",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/direction",
        "/v2/models/missing",
        "/v2/models/direction/ready",
        "/v2/models/direction/versions/1.1.0",
        "/v2/models/direction/versions/eurusd_lr@1.0.0",
        "/v2/models/direction/versions/eurusd_lr%401.0.0/ready",
        "/v2/models/direction/versions/1.0.0",
        "/v2/models/direction/versions/3.0.0",
        "/v2/models/nothing",
        "/v2/models/nothing/ready",
        "/v2/models/nothing/versions/1.0.0",
        "/v2/models/%ff",
        "/v2/models/direction/versions/%c3",
        "/v2/models/%C3%A9%zz/ready",
        "/v2/models/direction/infer",
    ] {
        pair.check("GET", path, &[], b"");
    }
    pair.check("POST", "/v2", &[], b"");
    for parameters in [
        json!({}),
        json!({ "user": "alice" }),
        json!({ "user": "bob" }),
        json!({ "user": 7 }),
        json!({ "tenant": "acme" }),
        json!({ "symbol": "EURCHF" }),
        json!({ "country": "DE", "n": 1.5, "b": true, "timeout": 0, "priority": 3 }),
        json!({ "user": "a", "timeout": "soon" }),
        json!({ "user": true }),
        json!({ "user": ["a"] , "timeout": 5_000_000 }),
        json!({ "binary_data_output": true, "user": "alice" }),
        json!({ "binary_data_output": 3 }),
    ] {
        let mut body = request(1, &parameters);
        body["id"] = json!("7");
        pair.infer("direction", &body);
        pair.infer("nothing", &body);
        for version in ["1.1.0", "eurusd_gb@1.1.0", "eurusd_lr@1.0.0", "1.0.0", "9.9.9"] {
            pair.infer(&format!("direction/versions/{version}"), &body);
        }
    }
    // Rows that go different ways.
    let users: Vec<String> = (0..40).map(|row| format!("user-{row}")).collect();
    let answer = pair.infer("direction", &request(40, &json!({ "user": users, "symbol": "EURUSD" })));
    assert!(answer.json()["parameters"]["variant"].is_array());
    pair.infer("direction", &request(2, &json!({ "user": ["bob", null] })));
    pair.infer("direction", &request(2, &json!({ "user": ["bob", 1.5] })));
    pair.infer("direction", &request(2, &json!({ "user": ["bob", "b", "c"] })));
    pair.infer("direction/versions/1.1.0", &request(2, &json!({ "user": ["bob", "b"] })));
    // Features outside their range, in rows of two versions.
    let mut far = request(4, &json!({ "user": ["alice", "bob", "alice", "user-3"] }));
    far["inputs"][0]["data"][2][3] = json!(1000.0);
    far["inputs"][0]["data"][1][4] = json!("-Infinity");
    assert!(pair.infer("direction", &far).json()["parameters"]["out_of_range"].is_array());
    let missing = json!({ "inputs": [{ "name": "input", "shape": [1, 5], "datatype": "FP32", "data": ["NaN", 1, "NaN", 2, "Infinity"] }] });
    pair.infer("missing", &missing);
    // No rows at all.
    let none = json!({ "parameters": { "user": [] }, "inputs": [{ "name": "input", "shape": [0, 17], "datatype": "FP32", "data": [] }] });
    pair.infer("direction", &none);
    pair.infer("nothing", &none);
    pair.infer("direction/versions/1.1.0", &none);
    outputs(&mut pair);
    contributions(&mut pair);
    binary(&mut pair);
    bodies(&mut pair);
    tensors(&mut pair);
    headers(&mut pair);
}

fn outputs(pair: &mut Pair) {
    let mut body = request(1, &json!({ "binary_data_output": true }));
    body["outputs"] = json!([{ "name": "output_probability", "parameters": { "binary_data": false } }]);
    pair.infer("direction", &body);
    body["outputs"] = json!([{ "name": "output_probability" }, { "name": "output_label" }]);
    pair.infer("direction", &body);
    body["outputs"] = json!([{ "name": "nothing" }]);
    pair.infer("direction", &body);
    body["outputs"] = json!([{ "name": "output_label", "parameters": { "classification": 3 } }]);
    pair.infer("direction", &body);
}

fn contributions(pair: &mut Pair) {
    for asked in
        [json!(true), json!("linear"), json!("interventional"), json!(false), json!("shap"), json!(1)]
    {
        // The second model's package has no data for them.
        for user in [json!(null), json!("alice"), json!(["alice", null])] {
            pair.infer("direction", &request(2, &json!({ "user": user, "contributions": asked })));
        }
    }
    let mut body = request(2, &json!({ "contributions": true, "binary_data_output": true }));
    pair.infer("direction", &body);
    body["outputs"] = json!([{ "name": "contributions_base" }, { "name": "output_label" }]);
    let answer = pair.infer("direction", &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn binary(pair: &mut Pair) {
    let data: Vec<u8> = rows(2).iter().flatten().flat_map(|value| (*value as f32).to_le_bytes()).collect();
    for (parameters, len) in [
        (json!({ "binary_data_output": true, "user": "alice" }), data.len()),
        (json!({ "user": ["alice", "bob"] }), data.len()),
        (json!({}), data.len() - 1),
    ] {
        let head = json!({
            "id": "b",
            "parameters": parameters,
            "inputs": [{ "name": "input", "shape": [2, 17], "datatype": "FP32", "parameters": { "binary_data_size": len } }],
        })
        .to_string();
        let body = [head.as_bytes(), &data].concat();
        let length = head.len().to_string();
        for length in [length.as_str(), "99999", "-1", "3"] {
            let headers = [("inference-header-content-length", length)];
            pair.check("POST", "/v2/models/direction/infer", &headers, &body);
        }
    }
}

fn bodies(pair: &mut Pair) {
    let nan = request(1, &json!({})).to_string().replacen("[[", "[[NaN,", 1);
    let deep = format!("{{\"inputs\":[{{\"data\":{}", "[".repeat(10_000));
    for body in [
        &b""[..],
        b"hello",
        b"{\"inputs\": [",
        b"{}",
        b"[]",
        nan.as_bytes(),
        deep.as_bytes(),
        &vec![b' '; 100_000],
        b"{\"id\":\"7\",\"inputs\":[]}",
        b"\xff\xfe",
    ] {
        pair.check("POST", "/v2/models/direction/infer", &[], body);
        pair.check("POST", "/v2/models/nothing/infer", &[], body);
    }
}

fn tensors(pair: &mut Pair) {
    let changes: [&dyn Fn(&mut Value); 11] = [
        &|input| input["name"] = json!("inptu"),
        &|input| input["datatype"] = json!("FP64"),
        &|input| input["datatype"] = json!("FP128"),
        &|input| input["shape"] = json!([17]),
        &|input| input["shape"] = json!([2, 17]),
        &|input| input["data"] = json!([1.0]),
        &|input| input["shape"] = json!([-1, 17]),
        &|input| input["data"][0][2] = json!(1e300),
        &|input| input["data"][0][2] = json!("x"),
        &|input| input["data"][0][4] = json!("NaN"),
        &|input| input["parameters"] = json!({ "shared_memory_region": "x" }),
    ];
    for change in changes {
        let mut body = request(1, &json!({}));
        body["id"] = json!("7");
        change(&mut body["inputs"][0]);
        let answer = pair.infer("direction", &body);
        assert_eq!(answer.error().0, 400);
    }
    let mut twice = request(2, &json!({ "user": ["a", "b"] }));
    let other = json!({ "name": "other", "shape": [1, 1], "datatype": "FP32", "data": [1] });
    twice["inputs"] = json!([twice["inputs"][0], other]);
    pair.infer("direction", &twice);
}

fn headers(pair: &mut Pair) {
    let body = request(1, &json!({})).to_string();
    for header in [
        ("x-request-timeout-ms", "soon"),
        ("x-request-timeout-ms", "0"),
        ("x-request-timeout-ms", "4000"),
        ("content-encoding", "gzip"),
        ("content-encoding", "identity"),
        ("x-lockgate-user", "bob"),
        ("x-lockgate-tenant", "acme"),
        ("x-lockgate-symbol", " EURCHF "),
        ("authorization", "Basic x"),
    ] {
        pair.check("POST", "/v2/models/direction/infer", &[header], body.as_bytes());
        pair.check("GET", "/v2/models/direction", &[header], b"");
    }
    let answer = pair.ask("POST", "/v2/models/direction/infer", &[("x-request-id", "mine")], body.as_bytes());
    assert_eq!(answer.header("x-request-id"), Some("mine"));
    assert!(answer.header("server-timing").unwrap().contains("predict;dur="));
}

#[test]
fn an_edge_knows_callers_as_the_server_does() {
    let bytes = bytes(POLICY);
    let sha256 = lockgate_package::Digest::of(b"secret");
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("lockgate.toml");
    let keys = format!(
        "[[api_keys]]\nname = \"desk\"\nsha256 = \"{sha256}\"\ntenant = \"acme\"\nroutes = [\"direction\"]\n"
    );
    std::fs::write(&config, keys).unwrap();
    let keys =
        json!([{ "name": "desk", "sha256": sha256, "tenant": "acme", "routes": ["direction"] }]).to_string();
    let flags = ["--config", config.to_str().unwrap(), "--allow-pinned", "false"];
    let mut pair = Pair::new(false, &bytes, &flags, &[("api_keys", &keys), ("allow_pinned", "false")], false);
    let body = request(1, &json!({ "user": "alice", "tenant": "other" })).to_string();
    for headers in [
        &[][..],
        &[("x-api-key", "secret")],
        &[("x-api-key", "Secret")],
        &[("authorization", "Bearer secret")],
        &[("authorization", "bearer  secret")],
        &[("authorization", "Basic secret")],
        &[("authorization", "Bearer other"), ("x-api-key", "secret")],
    ] {
        for route in ["direction", "missing", "nothing"] {
            pair.check("POST", &format!("/v2/models/{route}/infer"), headers, body.as_bytes());
            pair.check("GET", &format!("/v2/models/{route}"), headers, b"");
            pair.check("GET", &format!("/v2/models/{route}/versions/1.1.0/ready"), headers, b"");
        }
        pair.check("POST", "/v2/models/direction/versions/1.1.0/infer", headers, body.as_bytes());
        pair.check("GET", "/v2/health/ready", headers, b"");
        pair.check("GET", "/v2/nothing", headers, b"");
    }
}

#[test]
fn a_fault_costs_an_edge_one_request() {
    let bytes = bytes(POLICY);
    let mut pair = Pair::new(true, &bytes, &["--fault-limit", "1000"], &[("fault_limit", "1000")], false);
    for (index, mark) in [
        "trap",
        "malformed-pointer",
        "malformed-size",
        "malformed-offset",
        "malformed-header",
        "malformed-record",
    ]
    .into_iter()
    .enumerate()
    {
        let made = pair.core.made;
        let decision = request(1, &json!({ "user": format!("lockgate-fault:{mark}") }));
        let mut prediction = request(1, &json!({}));
        let number = [1, 4, 5, 6, 7, 8][index];
        prediction["inputs"][0]["data"][0][0] = json!(f32::from_bits(0x7F00_FA00 + number));
        for body in [decision, prediction] {
            let answer = pair.infer("direction", &body);
            assert_eq!(answer.status, 500, "{mark}");
            assert_eq!(pair.infer("direction", &request(1, &json!({}))).status, 200, "after {mark}");
        }
        assert_eq!(
            pair.core.made - made,
            if index == 0 { 4 } else { 2 },
            "{mark}: each module was made anew"
        );
    }
}

#[test]
fn a_faulty_package_is_quarantined_at_an_edge_too() {
    let bytes = bytes(POLICY);
    let settings = [("fault_limit", "2"), ("quarantine", "60s")];
    let mut pair = Pair::new(true, &bytes, &["--fault-limit", "2", "--quarantine", "60s"], &settings, false);
    let mut bad = request(1, &json!({}));
    bad["inputs"][0]["data"][0][0] = json!(f32::from_bits(0x7F00_FA01));
    for _ in 0..2 {
        assert_eq!(pair.infer("direction", &bad).error(), (500, "trap".to_owned()));
    }
    let good = request(1, &json!({})).to_string();
    let answer = pair.ask("POST", "/v2/models/direction/infer", &[], good.as_bytes());
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("60")), "{}", show(&answer.body));
    pair.check("GET", "/v2/models/direction/ready", &[], b"");
    let health = pair.ask("GET", "/health", &[], b"");
    let report: Value = serde_json::from_slice(&health.body).unwrap();
    assert_eq!((health.status, &report["status"]), (200, &json!("degraded")), "{report}");
}

/// The policy of the harness, but that one model runs on a server, with another one to stand in for it.
fn placed() -> String {
    POLICY.replace("  eurusd_gb@1.1.0:\n", "  eurusd_gb@1.1.0: { placement: host }\n").replace(
        "canary: { model: eurusd_gb@1.1.0 }",
        "canary: { model: eurusd_gb@1.1.0, fallbacks: [forest] }",
    )
}

/// Sends what an edge forwards to the server.
fn send(server: &Server, fetch: &lockgate_edge::Fetch) -> Result<Fetched, FetchError> {
    assert!(fetch.timeout > Duration::ZERO && fetch.timeout <= Duration::from_secs(2));
    let headers: Vec<(&str, &str)> =
        fetch.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let answer = server.post(&fetch.path, &headers, &fetch.body);
    let header_length = answer.header("inference-header-content-length").map(str::to_owned);
    Ok(Fetched { status: answer.status, header_length, body: answer.body })
}

#[test]
fn what_runs_at_the_origin_is_answered_as_if_it_ran_here() {
    let bytes = bytes(&placed());
    let mut pair = Pair::new(false, &bytes, &[], &[], true);
    let users: Vec<String> = (0..20).map(|row| format!("user-{row}")).collect();
    let bodies = [
        request(1, &json!({ "user": "alice" })),
        request(20, &json!({ "user": users, "symbol": "EURUSD", "country": "FR" })),
        request(3, &json!({ "user": "alice", "binary_data_output": true })),
    ];
    for body in bodies {
        let body = body.to_string();
        let mut fetches = 0;
        let here =
            pair.ask_with("POST", "/v2/models/direction/infer", &[], body.as_bytes(), |server, fetch| {
                fetches += 1;
                assert_eq!(fetch.path, "/v2/models/direction/versions/eurusd_gb@1.1.0/infer");
                send(server, fetch)
            });
        assert_eq!(fetches, 1, "{body}");
        let there = pair.server.post("/v2/models/direction/infer", &[], body.as_bytes());
        assert_eq!(here.response.status, 200, "{}", show(&here.response.body));
        assert_eq!(show(&settle(&here.response.body)), show(&settle(&there.body)));
        assert!(here.response.header("server-timing").unwrap().contains("forward;dur="));
    }
    // The origin serves under the edge's id.
    let body = request(1, &json!({ "user": "alice" })).to_string();
    let mut ids = Vec::new();
    pair.ask_with("POST", "/v2/models/direction/infer", &[], body.as_bytes(), |server, fetch| {
        let told = fetch.headers.iter().find(|(name, _)| name == lockgate_shell::HEADER_DECISION).unwrap();
        let told: Value = serde_json::from_str(&told.1).unwrap();
        let answer = send(server, fetch)?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        ids.push(text.contains(told["id"].as_str().unwrap()));
        Ok(answer)
    });
    assert_eq!(ids, [true]);
    assert!(pair.server.log().contains("forwarded by an edge"));
    // What is wrong with the tensors, the origin says.
    let mut wrong = request(1, &json!({ "user": "alice" }));
    wrong["id"] = json!("7");
    wrong["inputs"][0]["data"][0][4] = json!("NaN");
    let wrong = wrong.to_string();
    let here = pair.ask_with("POST", "/v2/models/direction/infer", &[], wrong.as_bytes(), send);
    let there = pair.server.post("/v2/models/direction/infer", &[], wrong.as_bytes());
    assert_eq!((here.response.status, show(&here.response.body)), (there.status, there.text()));
    // Records were made of all of it.
    let batch = pair.edge.records.batch(Moment { now_ms: 0, random: [0; 16] }).unwrap();
    let lines: Vec<Value> = batch
        .body
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            lockgate_shell::record::read(line).unwrap();
            serde_json::from_slice(line).unwrap()
        })
        .collect();
    assert_eq!(lines.len(), 5);
    assert_eq!((&lines[1]["forwarded"], &lines[1]["row_count"]), (&json!(true), &json!(20)));
    assert_eq!(lines[4]["error"]["status"], 400);
}

#[test]
fn an_origin_hears_for_whom_an_edge_asks() {
    let own = "tenants:\n  acme:\n    routes:\n      own:\n        variants: { only: { model: eurusd_gb@1.1.0 } }\n        default: { serve: only }\n";
    let bytes = bytes(&(placed() + own));
    let key = |name: &str, secret: &str, more: &str| {
        let sha256 = lockgate_package::Digest::of(secret.as_bytes());
        format!("[[api_keys]]\nname = \"{name}\"\nsha256 = \"{sha256}\"\n{more}\n")
    };
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("lockgate.toml");
    std::fs::write(&config, key("edge", "trusted", "forwards = true") + &key("other", "plain", "")).unwrap();
    let sha256 = |secret: &str| lockgate_package::Digest::of(secret.as_bytes());
    let callers = json!([
        { "name": "acme", "sha256": sha256("a"), "tenant": "acme", "user": "alice" },
        { "name": "rival", "sha256": sha256("r"), "tenant": "rival" },
    ])
    .to_string();
    let body = request(1, &json!({ "tenant": "acme", "user": "bob" })).to_string();
    for (origin_key, status) in [("trusted", 200), ("plain", 502)] {
        let settings = [("api_keys", callers.as_str()), ("origin_key", origin_key)];
        let flags = ["--config", config.to_str().unwrap()];
        let mut pair = Pair::new(false, &bytes, &flags, &settings, true);
        let path = "/v2/models/own/infer";
        let outcome = pair.ask_with("POST", path, &[("x-api-key", "a")], body.as_bytes(), send);
        let answer: Value = serde_json::from_slice(&outcome.response.body).unwrap();
        assert_eq!(outcome.response.status, status, "{origin_key}: {answer}");
        if status == 200 {
            assert_eq!(answer["parameters"]["verified"], "user,tenant", "{answer}");
        }
        let told = pair.server.log().contains("no key with `forwards = true`");
        assert_eq!(told, status != 200, "{}", pair.server.log());
        // Who is somebody else at the edge cannot become acme at the origin.
        let refused = pair.ask("POST", path, &[("x-api-key", "r")], body.as_bytes());
        assert_eq!(refused.status, 404, "{}", show(&refused.body));
    }
}

#[test]
fn without_the_origin_the_declared_fallback_serves() {
    let bytes = bytes(&placed());
    let mut pair = Pair::new(false, &bytes, &[], &[("fault_limit", "3")], true);
    let body = request(1, &json!({ "user": "alice" })).to_string();
    let mut attempts = Vec::new();
    type Bad = fn() -> Result<Fetched, FetchError>;
    let failures: [Bad; 4] = [
        || Err(FetchError::Unreachable("refused".to_owned())),
        || Err(FetchError::TimedOut),
        || Ok(Fetched { status: 503, header_length: None, body: b"busy".to_vec() }),
        || {
            Ok(Fetched {
                status: 200,
                header_length: None,
                body: b"{\"model_name\":\"m\",\"outputs\":[]}".to_vec(),
            })
        },
    ];
    for (index, fail) in failures.into_iter().enumerate() {
        let mut count = 0;
        let outcome = pair.ask_with("POST", "/v2/models/direction/infer", &[], body.as_bytes(), |_, _| {
            count += 1;
            fail()
        });
        let answer: Value = serde_json::from_slice(&outcome.response.body).unwrap();
        let parameters = &answer["parameters"];
        assert_eq!(outcome.response.status, 200, "{answer}");
        let said = (&parameters["variant"], &parameters["intended_variant"], &parameters["fallback"]);
        assert_eq!(said, (&json!("forest"), &json!("canary"), &json!(true)), "{index}");
        assert_eq!(parameters["placement"], "edge");
        attempts.push(count);
    }
    // One retry each; after three failures the package is left alone for a while.
    assert_eq!(attempts, [2, 2, 2, 0]);
    // A pinned version has no stand-in.
    let mut pair = Pair::new(false, &bytes, &[], &[], true);
    let path = "/v2/models/direction/versions/1.1.0/infer";
    let outcome = pair.ask_with("POST", path, &[], body.as_bytes(), |_, _| Err(FetchError::TimedOut));
    let answer: Value = serde_json::from_slice(&outcome.response.body).unwrap();
    assert_eq!((outcome.response.status, &answer["code"]), (502, &json!("origin_failed")));
    assert!(outcome.problem.unwrap().1.contains("gave no answer in time"), "the cause is for the log");
    // A sequence is not sent twice.
    let sequence = request(1, &json!({ "user": "alice", "sequence_id": 5 })).to_string();
    let mut count = 0;
    pair.ask_with("POST", "/v2/models/direction/infer", &[], sequence.as_bytes(), |_, _| {
        count += 1;
        Err(FetchError::TimedOut)
    });
    assert_eq!(count, 1);
}

#[test]
fn what_is_not_here_counts_as_unavailable() {
    let bytes =
        bytes(&placed().replace("{ placement: host }", "").replace("forest: { model", "forest: {  model"));
    let mut pair = Pair::new(false, &bytes, &[], &[], false);
    let canary = pair.catalog.models.iter().find(|model| model.model == "eurusd_gb").unwrap().digest;
    pair.core.lose(&canary);
    let body = request(1, &json!({ "user": "alice" })).to_string();
    let answer = pair.ask("POST", "/v2/models/direction/infer", &[], body.as_bytes());
    let answer: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(answer["parameters"]["variant"], "forest", "{answer}");
    let health: Value = serde_json::from_slice(&pair.ask("GET", "/health", &[], b"").body).unwrap();
    assert_eq!(health["parts"]["packages"]["status"], "degraded", "{health}");
}

#[test]
fn a_policy_that_is_too_old_serves_baselines() {
    let bytes = bytes(POLICY);
    let settings = [("when_stale", "fail_default"), ("max_stale", "60s")];
    let mut pair = Pair::new(false, &bytes, &[], &settings, false);
    pair.freshness = Freshness::default();
    pair.freshness.installed(pair.edge.settings(), pair.catalog.bundle, 1_800_000_000_000 - 61_000);
    let body = request(2, &json!({ "user": ["alice", "bob"] })).to_string();
    let answer = pair.ask("POST", "/v2/models/direction/infer", &[], body.as_bytes());
    let answer: Value = serde_json::from_slice(&answer.body).unwrap();
    let parameters = &answer["parameters"];
    assert_eq!(
        (&parameters["variant"], &parameters["reason"]),
        (&json!("stable"), &json!("ERROR")),
        "{answer}"
    );
    assert_eq!(pair.ask("POST", "/v2/models/nothing/infer", &[], body.as_bytes()).status, 404);
    let health: Value = serde_json::from_slice(&pair.ask("GET", "/health", &[], b"").body).unwrap();
    let policy = &health["parts"]["policy"];
    assert_eq!((&policy["mode"], &policy["age_seconds"]), (&json!("fail_default"), &json!(61)), "{health}");
    pair.freshness.installed(pair.edge.settings(), pair.catalog.bundle, 1_800_000_000_000 - 60_000);
    pair.infer("direction", &request(2, &json!({ "user": ["alice", "bob"] })));
}
