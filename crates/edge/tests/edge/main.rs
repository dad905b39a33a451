//! The state machine on a core without modules: what needs no modules to be seen. That an edge answers byte for byte as the server does is
//! tested beside the server, on the real ones.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking, in their helpers too")]

mod contributions;
mod native;

use std::time::Duration;

use lockgate_edge::{
    BundleId, Catalog, CoreFault, Edge, Event, Fetch, FetchError, Fetched, Freshness, HeaderList, Identity,
    Moment, Outcome, Request, Response, Serving, Settings, Step,
};
use lockgate_oip::{InferResponse, decode_request, encode_response};
use lockgate_package::{Digest, Tensor};
use native::{Models, NativeCore, core, digest_of, explained, multiplied};
use serde_json::{Value, json};

const NOW: i64 = 1_800_000_000_000;

const POLICY: &str = r#"
lockgate: 1
models:
  small@1.0.0:
  large@1.0.0: { placement: host }
  huge@1.0.0: { placement: gpu }
  trial@1.0.0:
routes:
  r:
    unit: user
    variants:
      small: { model: small@1.0.0, payload: { threshold: 0.5 } }
      large: { model: large@1.0.0, fallbacks: [huge, small] }
      huge: { model: huge@1.0.0, fallbacks: [small] }
      trial: { model: trial@1.0.0 }
    baseline: small
    rules:
      - { name: large, if: { attribute: size, eq: large }, serve: large }
      - { name: huge, if: { attribute: size, eq: huge }, serve: huge }
      - { name: trial, if: { attribute: size, eq: trial }, serve: trial }
    default: { serve: small }
    shadows:
      - { name: beside, variant: trial, limits: { rate: 2 } }
tenants:
  acme:
    routes:
      own: { variants: { only: { model: small@1.0.0 } }, default: { serve: only } }
"#;

const MODELS: Models<'_> =
    &[("small", "1.0.0", 2.0), ("large", "1.0.0", 3.0), ("huge", "1.0.0", 5.0), ("trial", "1.0.0", 7.0)];

struct Shell {
    edge: Edge,
    core: NativeCore,
    catalog: Catalog,
    freshness: Freshness,
    now_ms: i64,
    asked: Vec<Fetch>,
    count: u8,
}

type Network<'n> = &'n mut dyn FnMut(&Fetch, &mut i64) -> Result<Fetched, FetchError>;

impl Shell {
    fn new(settings: &[(&str, &str)]) -> Self {
        Self::with(POLICY, settings)
    }

    fn with(policy: &str, settings: &[(&str, &str)]) -> Self {
        let (core, catalog) = core(policy, 1, MODELS);
        let look_up = |name: &str| {
            settings.iter().find(|(have, _)| *have == name).map(|(_, value)| (*value).to_owned())
        };
        let settings = Settings::read(&look_up).unwrap_or_else(|errors| panic!("{errors:?}"));
        let identity =
            Identity { shell: "spin", emitter: "e1".to_owned(), has_origin: true, started_ms: NOW };
        let freshness = Freshness::baked(catalog.bundle);
        Self {
            edge: Edge::new(settings, identity),
            core,
            catalog,
            freshness,
            now_ms: NOW,
            asked: Vec::new(),
            count: 0,
        }
    }

    fn serving(&self) -> Serving<'_> {
        Serving { catalog: Some(&self.catalog), freshness: &self.freshness, image: None }
    }

    fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        network: Network<'_>,
    ) -> Outcome {
        self.count += 1;
        let moment = Moment { now_ms: self.now_ms, random: [self.count; 16] };
        let headers = HeaderList::from(headers);
        let request = Request { method, path, headers: &headers, body };
        let serving = Serving { catalog: Some(&self.catalog), freshness: &self.freshness, image: None };
        let mut step = self.edge.begin(&mut self.core, serving, &request, moment);
        loop {
            let (event, pending) = match step {
                Step::Done(outcome) => return *outcome,
                Step::Verify(check, pending) => {
                    // What is signed here is good when it says so.
                    (Event::Verified(check.signature == b"good"), pending)
                }
                Step::Fetch(fetches, pending) => {
                    let results = fetches.iter().map(|fetch| network(fetch, &mut self.now_ms)).collect();
                    self.asked.extend(fetches);
                    (Event::Fetched(results), pending)
                }
            };
            step = self.edge.resume(&mut self.core, serving, &request, pending, event, self.now_ms);
        }
    }

    fn infer(&mut self, rows: usize, parameters: &Value, network: Network<'_>) -> Outcome {
        self.send("POST", "/v2/models/r/infer", &[], request(rows, parameters).as_bytes(), network)
    }

    /// The parameters of an answer, and the numbers that were predicted.
    #[track_caller]
    fn good(&mut self, rows: usize, parameters: &Value, network: Network<'_>) -> (Value, Vec<f64>) {
        let outcome = self.infer(rows, parameters, network);
        let answer: Value = serde_json::from_slice(&outcome.response.body).unwrap();
        assert_eq!(outcome.response.status, 200, "{answer}");
        let data = answer["outputs"][0]["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one.as_f64().unwrap())
            .collect();
        (answer["parameters"].clone(), data)
    }

    fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> (u16, Value) {
        let response = self.send("GET", path, headers, b"", &mut nowhere).response;
        (response.status, serde_json::from_slice(&response.body).unwrap())
    }

    fn records(&mut self) -> Vec<Value> {
        let Some(batch) = self.edge.records.batch(Moment { now_ms: self.now_ms, random: [0; 16] }) else {
            return Vec::new();
        };
        let lines: Vec<Value> = batch
            .body
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| {
                lockgate_shell::record::read(line).unwrap_or_else(|refusal| panic!("{refusal:?}"));
                serde_json::from_slice(line).unwrap()
            })
            .collect();
        self.edge.records.settle(batch, Some((200, b"{}")), self.now_ms);
        lines
    }
}

fn request(rows: usize, parameters: &Value) -> String {
    let data: Vec<usize> = (1..=rows).collect();
    json!({ "id": "7", "parameters": parameters, "inputs": [{ "name": "x", "datatype": "FP32", "shape": [rows, 1], "data": data }] })
        .to_string()
}

fn code(outcome: &Outcome) -> (u16, String) {
    let body: Value = serde_json::from_slice(&outcome.response.body).unwrap();
    assert!(body["error"].as_str().is_some_and(|text| !text.is_empty()), "{body}");
    (outcome.response.status, body["code"].as_str().unwrap_or_default().to_owned())
}

fn nowhere(fetch: &Fetch, _: &mut i64) -> Result<Fetched, FetchError> {
    panic!("a fetch of {}", fetch.path)
}

/// An origin that holds all models.
fn origin(fetch: &Fetch, _: &mut i64) -> Result<Fetched, FetchError> {
    let header =
        |name: &str| fetch.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str());
    let length = header("inference-header-content-length").unwrap().parse().unwrap();
    let message = decode_request(&fetch.body, Some(length)).unwrap();
    let name = fetch
        .path
        .strip_prefix("/v2/models/r/versions/")
        .and_then(|rest| rest.strip_suffix("/infer"))
        .unwrap();
    let (model, version, by) =
        *MODELS.iter().find(|(model, version, _)| format!("{model}@{version}") == name).unwrap();
    let decision: Value = serde_json::from_str(header("x-lockgate-decision").unwrap()).unwrap();
    assert_eq!(decision["package_digest"], digest_of(model, version).to_string());
    let parameters = json!({
        "package_digest": digest_of(model, version), "engine": "tabular", "inference_core": Digest([3; 32]),
        "out_of_range": [{ "row": 0, "feature": "f", "index": 4, "value": "NaN" }],
    });
    let outputs = multiplied(&message.inputs, by);
    let is_explained = message.parameters.contains_key("contributions");
    let response = InferResponse {
        model_name: "r".to_owned(),
        model_version: None,
        id: None,
        parameters: parameters.as_object().unwrap().clone(),
        outputs: if is_explained { explained(outputs) } else { outputs },
    };
    let body = encode_response(&response, |_| true).unwrap();
    let header_length = body.header_length.map(|length| length.to_string());
    Ok(Fetched { status: 200, header_length, body: body.bytes })
}

#[test]
fn rows_go_where_their_version_runs_and_come_back_in_place() {
    for is_flat in [true, false] {
        let mut shell = Shell::new(&[("origin_key", "hush")]);
        shell.core.is_flat = is_flat;
        let parameters =
            json!({ "size": ["large", "small", "huge", "large"], "tenant": "acme", "user": "é" });
        let (said, numbers) = shell.good(4, &parameters, &mut origin);
        assert_eq!(numbers, [3.0, 4.0, 15.0, 12.0]);
        assert_eq!(said["placement"], json!(["host", "edge", "gpu", "host"]));
        assert_eq!(said["rule"], json!(["large", null, "huge", "large"]));
        assert_eq!(said["inference_core"][0], Digest([3; 32]).to_string());
        assert_eq!(said["inference_core"][1], Digest([2; 32]).to_string());
        let warnings: Vec<&Value> =
            said["out_of_range"].as_array().unwrap().iter().map(|one| &one["row"]).collect();
        assert_eq!(warnings, [&json!(0), &json!(2)], "rows are the caller's");
        // Both at once, each with its rows and their contexts.
        let [large, huge] = shell.asked.as_slice() else { panic!("{:?}", shell.asked) };
        assert_eq!(large.path, "/v2/models/r/versions/large@1.0.0/infer");
        assert_eq!(huge.path, "/v2/models/r/versions/huge@1.0.0/infer");
        assert!(large.headers.contains(&("authorization".to_owned(), "Bearer hush".to_owned())));
        let head = String::from_utf8_lossy(&large.body);
        for part in ["\"size\":\"large\"", "\"tenant\":\"acme\"", "\"user\":\"é\"", "\"shape\":[2,1]"] {
            assert!(head.contains(part), "{head}");
        }
    }
}

#[test]
fn who_was_verified_here_is_who_the_origin_hears_of() {
    let keys = json!([
        { "name": "acme", "sha256": Digest::of(b"a"), "tenant": "acme", "user": "alice" },
        { "name": "nobody", "sha256": Digest::of(b"n") },
        { "name": "edge", "sha256": Digest::of(b"e"), "forwards": true },
    ])
    .to_string();
    let mut shell = Shell::new(&[("api_keys", &keys), ("origin_key", "hush")]);
    let body = request(1, &json!({ "size": "large", "tenant": "claimed", "user": "bob" }));
    let claimed = [("x-lockgate-tenant", "claimed-too")];
    for (key, user, tenant) in
        [("a", "alice", Some("acme")), ("n", "bob", None), ("e", "bob", Some("claimed"))]
    {
        let headers = [&[("x-api-key", key)], &claimed[..]].concat();
        let outcome = shell.send("POST", "/v2/models/r/infer", &headers, body.as_bytes(), &mut origin);
        assert_eq!(outcome.response.status, 200, "{key}");
        let fetch = shell.asked.pop().unwrap();
        let length =
            fetch.headers.iter().find(|(name, _)| name == "inference-header-content-length").unwrap();
        let message = decode_request(&fetch.body, Some(length.1.parse().unwrap())).unwrap();
        let said = serde_json::to_value(&message.parameters).unwrap();
        assert_eq!((said["user"].as_str(), said["tenant"].as_str()), (Some(user), tenant), "{key}");
        // Nobody's own headers go along.
        assert!(fetch.headers.contains(&("authorization".to_owned(), "Bearer hush".to_owned())));
        assert!(!fetch.headers.iter().any(|(name, _)| name == "x-api-key" || name == "x-lockgate-tenant"));
    }
}

#[test]
fn an_origin_that_fails_is_asked_once_more_and_then_stood_in_for() {
    let mut shell = Shell::new(&[]);
    // Down once: the second attempt answers.
    let mut attempts = 0;
    let (said, _) = shell.good(1, &json!({ "size": "large" }), &mut |fetch, now| {
        attempts += 1;
        if attempts == 1 { Err(FetchError::Unreachable("reset".to_owned())) } else { origin(fetch, now) }
    });
    assert_eq!((&said["variant"], attempts), (&json!("large"), 2));
    // `large` is down, `huge` stands in for it at the origin, and for the other rows nothing is asked again.
    let mut paths = Vec::new();
    let mut network = |fetch: &Fetch, now: &mut i64| {
        paths.push(fetch.path.clone());
        if fetch.path.contains("large") { Err(FetchError::TimedOut) } else { origin(fetch, now) }
    };
    let parameters = json!({ "size": ["large", "small"] });
    let (said, numbers) = shell.good(2, &parameters, &mut network);
    assert_eq!(numbers, [5.0, 4.0]);
    assert_eq!(
        (&said["variant"], &said["intended_variant"]),
        (&json!(["huge", "small"]), &json!(["large", null]))
    );
    assert_eq!(paths.iter().filter(|path| path.contains("large")).count(), 2);
    assert_eq!(paths.len(), 3);
    assert_eq!(shell.core.predictions, 1, "the row that ran here ran once");
    // Nothing is up: the last in line runs here.
    let (said, numbers) = shell.good(1, &json!({ "size": "large" }), &mut |_, _| Err(FetchError::TimedOut));
    assert_eq!((&said["variant"], &said["placement"], numbers), (&json!("small"), &json!("edge"), vec![2.0]));
}

#[test]
fn a_request_that_is_not_idempotent_is_sent_once() {
    for (settings, parameters) in [
        (&[][..], json!({ "size": "large", "sequence_id": 5 })),
        (&[("origin_retry", "false")], json!({ "size": "large" })),
    ] {
        let mut shell = Shell::new(settings);
        let mut paths = Vec::new();
        shell.good(1, &parameters, &mut |fetch, _| {
            paths.push(fetch.path.clone());
            Err(FetchError::TimedOut)
        });
        assert_eq!(paths.len(), 2, "`large` once and `huge` once: {paths:?}");
    }
}

#[test]
fn time_runs_out_for_forwarded_requests_too() {
    let mut shell = Shell::new(&[("timeout", "1s"), ("origin_timeout", "600ms")]);
    let mut timeouts = Vec::new();
    let outcome = shell.infer(1, &json!({ "size": "large" }), &mut |fetch, now| {
        timeouts.push(fetch.timeout);
        *now += i64::try_from(fetch.timeout.as_millis()).unwrap();
        Err(FetchError::TimedOut)
    });
    assert_eq!(code(&outcome), (504, "deadline_exceeded".to_owned()));
    assert_eq!(timeouts, [Duration::from_millis(600), Duration::from_millis(400)]);
    // A caller's own time counts as well.
    let mut shell = Shell::new(&[]);
    let parameters = json!({ "size": "large", "timeout": 300_000 });
    let outcome = shell.infer(1, &parameters, &mut |fetch, now| {
        assert_eq!(fetch.timeout, Duration::from_millis(300));
        *now += 290;
        Err(FetchError::Unreachable("reset".to_owned()))
    });
    assert_eq!(code(&outcome).0, 504);
}

#[test]
fn an_origin_that_fails_again_and_again_is_left_alone_for_a_while() {
    let mut shell = Shell::new(&[("fault_limit", "2"), ("quarantine", "10s")]);
    let mut count = 0;
    for _ in 0..4 {
        shell.good(1, &json!({ "size": "huge" }), &mut |_, _| {
            count += 1;
            Err(FetchError::TimedOut)
        });
    }
    assert_eq!(count, 4, "two requests, two attempts each");
    let (_, health) = shell.get("/health", &[]);
    assert_eq!(health["status"], "degraded", "{health}");
    shell.now_ms += 10_001;
    let (said, _) = shell.good(1, &json!({ "size": "huge" }), &mut origin);
    assert_eq!(said["variant"], "huge", "tried again");
}

#[test]
fn what_the_origin_says_is_not_believed_blindly() {
    type Change = fn(&mut Fetched);
    let changes: [(Change, &str); 5] = [
        (|answer| answer.header_length = None, "unreadable"),
        (|answer| answer.header_length = Some("99999".to_owned()), "unreadable"),
        (|answer| answer.body.truncate(20), "unreadable"),
        (
            |answer| {
                let text = String::from_utf8_lossy(&answer.body)
                    .replace(&digest_of("large", "1.0.0").to_string(), &"0".repeat(64));
                answer.body = text.into_bytes();
            },
            "served package",
        ),
        (
            |answer| {
                *answer = Fetched {
                    status: 400,
                    header_length: None,
                    body: br#"{"error":"no such route","code":"unknown_route"}"#.to_vec(),
                }
            },
            "answered 400 `unknown_route`",
        ),
    ];
    for (change, expected) in changes {
        let mut shell = Shell::new(&[("origin_retry", "false")]);
        let path = "/v2/models/r/versions/large@1.0.0/infer";
        let outcome = shell.send("POST", path, &[], request(1, &json!({})).as_bytes(), &mut |fetch, now| {
            let mut answer = origin(fetch, now)?;
            change(&mut answer);
            Ok(answer)
        });
        assert_eq!(code(&outcome), (502, "origin_failed".to_owned()));
        let detail = outcome.problem.unwrap().1;
        assert!(detail.contains(expected), "{detail}");
    }
    // Rows that are missing.
    let mut shell = Shell::new(&[]);
    let outcome = shell.infer(2, &json!({ "size": ["large", "small"] }), &mut |fetch, now| {
        let mut answer = origin(fetch, now)?;
        let mut message =
            lockgate_oip::decode_response(&answer.body, answer.header_length.unwrap().parse().ok()).unwrap();
        message.outputs = vec![Tensor::fp32("y", vec![2, 1], &[0.0, 0.0])];
        let body = encode_response(&message, |_| true).unwrap();
        answer.header_length = body.header_length.map(|length| length.to_string());
        answer.body = body.bytes;
        Ok(answer)
    });
    assert_eq!(code(&outcome), (400, "outputs_differ".to_owned()));
}

#[test]
fn a_fault_costs_one_request_and_the_instance() {
    let mut shell = Shell::new(&[]);
    for (fault, status, expected) in [
        (CoreFault::Trap("unreachable".to_owned()), 500, "trap"),
        (CoreFault::Memory(1 << 20), 500, "memory_limit"),
        (CoreFault::CutOff, 504, "deadline_exceeded"),
    ] {
        let dropped = shell.core.dropped;
        shell.core.fault = Some(fault);
        let outcome = shell.infer(1, &json!({}), &mut nowhere);
        assert_eq!(code(&outcome), (status, expected.to_owned()));
        assert!(
            !String::from_utf8_lossy(&outcome.response.body).contains("unreachable"),
            "the cause is for the log"
        );
        assert_eq!(shell.core.dropped, dropped + 1);
        shell.good(1, &json!({}), &mut nowhere);
    }
    shell.core.fault = Some(CoreFault::NoRoom);
    let dropped = shell.core.dropped;
    assert_eq!(code(&shell.infer(1, &json!({}), &mut nowhere)), (400, "limit_exceeded".to_owned()));
    assert_eq!(shell.core.dropped, dropped, "the instance is sound");
}

#[test]
fn what_is_not_here_or_costs_too_much_is_stood_in_for() {
    let mut shell = Shell::new(&[]);
    shell.core.lost.push(digest_of("trial", "1.0.0"));
    let (said, _) = shell.good(1, &json!({ "size": "trial" }), &mut nowhere);
    assert_eq!((&said["variant"], &said["fallback"]), (&json!("small"), &json!(true)));
    let (_, health) = shell.get("/health", &[]);
    assert_eq!(health["parts"]["packages"]["status"], "degraded");
    let mut shell = Shell::new(&[("max_operations_per_row", "9")]);
    let outcome = shell.infer(1, &json!({}), &mut nowhere);
    assert_eq!(code(&outcome), (501, "not_served_here".to_owned()));
    // Without an origin, what runs there is stood in for.
    let mut shell = Shell::new(&[]);
    shell.edge = Edge::new(
        Settings::defaults().unwrap(),
        Identity { shell: "spin", emitter: "e".to_owned(), has_origin: false, started_ms: 0 },
    );
    let (said, _) = shell.good(1, &json!({ "size": "large" }), &mut nowhere);
    assert_eq!(said["variant"], "small");
    assert!(shell.records().is_empty(), "nor are there records without one");
}

#[test]
fn mocks_are_marked_and_refused_in_production() {
    let mocked = |environment: &str| {
        let mut shell = Shell::new(&[("environment", environment)]);
        shell.catalog.packages.values_mut().for_each(|package| package.mock = true);
        shell
    };
    let (said, _) = mocked("staging").good(1, &json!({}), &mut nowhere);
    assert_eq!(said["mock"], true);
    let outcome = mocked("production").infer(1, &json!({}), &mut nowhere);
    assert_eq!(code(&outcome), (501, "not_served_here".to_owned()));
    assert!(Shell::new(&[]).good(1, &json!({}), &mut nowhere).0.get("mock").is_none());
}

#[test]
fn shadows_run_after_the_answer_and_change_nothing() {
    for is_flat in [true, false] {
        let mut shell = Shell::new(&[]);
        shell.core.is_flat = is_flat;
        let mut runs = Vec::new();
        for _ in 0..3 {
            let outcome = shell.infer(2, &json!({ "user": ["a", "b"] }), &mut nowhere);
            assert_eq!(outcome.response.status, 200);
            runs.extend(outcome.shadows);
        }
        assert_eq!(runs.len(), 2, "the policy lets two a second through");
        let mut runs = runs.into_iter();
        let serving = Serving { catalog: Some(&shell.catalog), freshness: &shell.freshness, image: None };
        let step = shell.edge.run_shadow(&mut shell.core, serving, runs.next().unwrap(), NOW);
        assert!(matches!(step, Step::Done(_)));
        shell.core.fault = Some(CoreFault::Trap("boom".to_owned()));
        shell.edge.run_shadow(&mut shell.core, serving, runs.next().unwrap(), NOW);
        let (_, health) = shell.get("/health", &[]);
        let shadow = &health["parts"]["shadows"]["r/beside trial@1.0.0"];
        // 7 against 2, for the inputs 1 and 2.
        assert_eq!(
            (&shadow["runs"], &shadow["difference_sum"], &shadow["difference_max"]),
            (&json!(1), &json!(15.0), &json!(10.0))
        );
        assert_eq!((&shadow["failed"], &shadow["dropped"]["rate"]), (&json!(1), &json!(1)), "{health}");
        let (said, _) = shell.good(1, &json!({ "size": "trial" }), &mut nowhere);
        assert_eq!(said["variant"], "trial", "a shadow's fault is not held against the package");
    }
}

#[test]
fn tokens_say_who_asks() {
    let keys = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k","x":"AA"}]}"#;
    let mut shell = Shell::new(&[("jwt_keys", keys), ("jwt_audience", "edge")]);
    // {"alg":"EdDSA","kid":"k"} and {"aud":"edge","exp":9999999999,"sub":"alice","tenant":"acme"}; `good` and `evil` as signatures.
    let head = "eyJhbGciOiJFZERTQSIsImtpZCI6ImsifQ";
    let claims = "eyJhdWQiOiJlZGdlIiwiZXhwIjo5OTk5OTk5OTk5LCJzdWIiOiJhbGljZSIsInRlbmFudCI6ImFjbWUifQ";
    let bearer = |signature: &str| format!("Bearer {head}.{claims}.{signature}");
    let body = request(1, &json!({ "user": "mallory", "tenant": "other" }));
    let good = bearer("Z29vZA");
    let outcome = shell.send(
        "POST",
        "/v2/models/own/infer",
        &[("authorization", &good)],
        body.as_bytes(),
        &mut nowhere,
    );
    let answer: Value = serde_json::from_slice(&outcome.response.body).unwrap();
    assert_eq!(
        (outcome.response.status, &answer["parameters"]["verified"]),
        (200, &json!("user,tenant")),
        "{answer}"
    );
    let evil = bearer("ZXZpbA");
    for (headers, expected) in [
        (&[("authorization", evil.as_str())][..], "invalid_token"),
        (&[("authorization", "Bearer nonsense")], "invalid_token"),
        (&[], "unauthenticated"),
    ] {
        let outcome = shell.send("POST", "/v2/models/own/infer", headers, body.as_bytes(), &mut nowhere);
        assert_eq!(code(&outcome), (401, expected.to_owned()));
        assert_eq!(outcome.response.header("www-authenticate"), Some("Bearer"));
    }
    assert_eq!(shell.get("/v2/health/live", &[]).0, 200, "what everybody may know needs no identity");
    assert_eq!(shell.get("/v2/models/own", &[("authorization", &good)]).0, 200);
}

#[test]
fn a_tenants_route_is_nobody_elses() {
    let mut shell = Shell::new(&[]);
    for (tenant, status) in [("acme", 200), ("other", 404)] {
        let headers = [("x-lockgate-tenant", tenant)];
        assert_eq!(shell.get("/v2/models/own", &headers).0, status);
        for path in ["/v2/models/own/infer", "/v2/models/own/versions/1.0.0/infer"] {
            let outcome = shell.send("POST", path, &headers, request(1, &json!({})).as_bytes(), &mut nowhere);
            assert_eq!(outcome.response.status, status, "{path}");
        }
    }
    assert!(
        shell.records().iter().all(|record| record["route"] == "own"),
        "what is not visible leaves no record"
    );
}

#[test]
fn browsers_may_ask_from_where_they_are_told() {
    let mut shell = Shell::new(&[("cors_origins", "https://a.example, https://b.example")]);
    let body = request(1, &json!({}));
    let mut allowed = |origin: &str| {
        let response = shell
            .send("POST", "/v2/models/r/infer", &[("origin", origin)], body.as_bytes(), &mut nowhere)
            .response;
        (response.status, response.header("access-control-allow-origin").map(str::to_owned))
    };
    assert_eq!(allowed("https://b.example"), (200, Some("https://b.example".to_owned())));
    assert_eq!(allowed("https://c.example"), (200, None));
    let headers = [
        ("origin", "https://a.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type, x-lockgate-user"),
    ];
    let response = shell.send("OPTIONS", "/v2/models/r/infer", &headers, b"", &mut nowhere).response;
    assert_eq!((response.status, response.body.len()), (204, 0));
    assert_eq!(response.header("access-control-allow-headers"), Some("content-type, x-lockgate-user"));
    assert_eq!(response.header("vary"), Some("origin"));
    // An error, too, can be read.
    let response: Response = shell.send("GET", "/v2/models/none", &headers[..1], b"", &mut nowhere).response;
    assert_eq!(
        (response.status, response.header("access-control-allow-origin")),
        (404, Some("https://a.example"))
    );
    let mut shell = Shell::new(&[]);
    assert_eq!(shell.send("OPTIONS", "/v2/models/r/infer", &headers, b"", &mut nowhere).response.status, 405);
}

#[test]
fn bodies_and_rows_have_limits() {
    let mut shell = Shell::new(&[("max_body", "200"), ("max_rows", "3")]);
    let moment = Moment { now_ms: NOW, random: [0; 16] };
    let ask = |method: &str, path: &str, headers: &[(&str, &str)]| {
        let headers = HeaderList::from(headers);
        let request = Request { method, path, headers: &headers, body: b"" };
        shell.edge.admit(&request, moment).map_err(|response| response.status)
    };
    let admit = |headers: &[(&str, &str)]| ask("POST", "/v2/models/r/infer", headers);
    assert_eq!(ask("GET", "/v2/models/r", &[("content-encoding", "gzip")]), Ok(201), "nobody reads it");
    assert_eq!(admit(&[]), Ok(201));
    assert_eq!(admit(&[("content-length", "200")]), Ok(201));
    assert_eq!(admit(&[("content-length", "201")]), Err(413));
    assert_eq!(admit(&[("content-encoding", "gzip")]), Err(415));
    let outcome = shell.send("POST", "/v2/models/r/infer", &[], &[b' '; 201], &mut nowhere);
    assert_eq!(code(&outcome), (413, "body_too_large".to_owned()));
    assert_eq!(shell.infer(3, &json!({}), &mut nowhere).response.status, 200);
    assert_eq!(code(&shell.infer(4, &json!({}), &mut nowhere)), (400, "limit_exceeded".to_owned()));
}

#[test]
fn a_policy_that_is_too_old_serves_as_it_is_told() {
    for (when, variant, reason) in
        [("fail_static", "trial", "TARGETING_MATCH"), ("fail_default", "small", "ERROR")]
    {
        for is_flat in [true, false] {
            let mut shell = Shell::new(&[("max_stale", "60s"), ("when_stale", when)]);
            shell.core.is_flat = is_flat;
            let settings = shell.edge.settings().clone();
            let mut fresh = Freshness::default();
            fresh.installed(&settings, shell.catalog.bundle, NOW);
            shell.freshness = fresh;
            let (said, _) = shell.good(1, &json!({ "size": "trial" }), &mut nowhere);
            assert_eq!(said["variant"], "trial");
            shell.now_ms += 60_001;
            let (said, _) = shell.good(1, &json!({ "size": "trial" }), &mut nowhere);
            assert_eq!((&said["variant"], &said["reason"]), (&json!(variant), &json!(reason)));
            let (status, health) = shell.get("/health", &[]);
            assert_eq!((status, &health["status"]), (200, &json!("degraded")));
            let policy = &health["parts"]["policy"];
            assert_eq!((&policy["mode"], &policy["age_seconds"]), (&json!(when), &json!(60)));
        }
    }
}

#[test]
fn without_a_policy_nothing_is_served() {
    let mut shell = Shell::new(&[]);
    let headers = HeaderList::default();
    let freshness = Freshness::default();
    let serving = Serving { catalog: None, freshness: &freshness, image: None };
    let mut ask = |method: &str, path: &str, body: &[u8]| {
        let request = Request { method, path, headers: &headers, body };
        let moment = Moment { now_ms: NOW, random: [0; 16] };
        let Step::Done(outcome) = shell.edge.begin(&mut shell.core, serving, &request, moment) else {
            panic!("another step")
        };
        (outcome.response.status, outcome.response.header("retry-after").map(str::to_owned))
    };
    assert_eq!(ask("GET", "/v2/health/ready", b"").0, 503);
    assert_eq!(ask("GET", "/health", b"").0, 503);
    assert_eq!(ask("GET", "/v2/health/live", b"").0, 200);
    assert_eq!(
        ask("POST", "/v2/models/r/infer", request(1, &json!({})).as_bytes()),
        (503, Some("1".to_owned()))
    );
}

#[test]
fn another_bundles_answer_is_no_answer() {
    let mut shell = Shell::new(&[]);
    shell.catalog.bundle = BundleId { digest: Digest([8; 32]), ..shell.catalog.bundle };
    assert_eq!(code(&shell.infer(1, &json!({}), &mut nowhere)), (500, "malformed_response".to_owned()));
    assert_eq!(shell.core.dropped, 1);
}

#[test]
fn records_tell_what_happened() {
    let mut shell = Shell::new(&[("record_units_key", "k1:0123456789abcdef")]);
    let (said, _) = shell.good(
        2,
        &json!({ "size": ["large", "small"], "user": ["a", "b"], "tenant": "acme" }),
        &mut origin,
    );
    shell.infer(1, &json!({ "size": "trial", "user": "a" }), &mut nowhere);
    let records = shell.records();
    assert_eq!(records.len(), 2);
    let record = &records[0];
    assert_eq!(
        (&record["id"], &record["route"], &record["forwarded"]),
        (&said["decision_id"], &json!("r"), &json!(true))
    );
    assert_eq!((&record["units_key"], record["units"].as_object().unwrap().len()), (&json!("k1"), 1));
    assert_eq!(record["rows"][0]["outputs"]["y"], json!([3.0]));
    assert_eq!(record["versions"][0]["placement"], "host");
    assert!(!record.to_string().contains("acme"), "units are hashed");
    // Nobody is recorded at a rate of nothing, and about a tenth at a tenth.
    let count = |mut shell: Shell, path: &str| {
        for _ in 0..200 {
            shell.now_ms += 1000;
            let body = request(1, &json!({ "tenant": "acme" }));
            assert_eq!(shell.send("POST", path, &[], body.as_bytes(), &mut nowhere).response.status, 200);
        }
        shell.records().len()
    };
    for (rate, least, most) in [("0", 0, 0), ("0.1", 5, 40), ("1", 200, 200)] {
        let count = count(Shell::new(&[("record_sample", rate)]), "/v2/models/r/infer");
        assert!((least..=most).contains(&count), "{rate}: {count}");
    }
    // A route's own share counts before the setting.
    for (share, least, most) in [("0", 0, 0), ("10", 5, 40), ("100", 200, 200)] {
        let policy = POLICY.replace("baseline: small", &format!("baseline: small\n    records: {share}"));
        for (setting, others) in [("0", 0), ("1", 200)] {
            let shell = || Shell::with(&policy, &[("record_sample", setting)]);
            let count_of_route = count(shell(), "/v2/models/r/infer");
            assert!((least..=most).contains(&count_of_route), "{share} {setting}: {count_of_route}");
            assert_eq!(count(shell(), "/v2/models/own/infer"), others);
        }
    }
}

#[test]
fn a_catalogue_comes_back_from_json() {
    let shell = Shell::new(&[]);
    let text = shell.catalog.to_json();
    assert_eq!(Catalog::from_json(&text), Ok(shell.serving().catalog.unwrap().clone()));
    let newer = String::from_utf8(text).unwrap().replace("\"lockgate_catalog\":1", "\"lockgate_catalog\":2");
    assert!(
        Catalog::from_json(newer.as_bytes()).unwrap_err().to_string().contains("it has format 2, expected 1")
    );
    assert!(Catalog::from_json(b"null").is_err());
}

#[test]
fn the_page_of_settings_is_the_table() {
    let page = include_str!("../../../../docs/edge-settings.md");
    let table = Settings::reference();
    assert!(page.contains(&table), "docs/edge-settings.md should have this table:\n{table}");
}
