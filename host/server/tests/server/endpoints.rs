//! What a well-behaved client gets.

use serde_json::{Value, json};

use crate::harness::{Server, output, request, root, rows};

#[test]
fn everything_that_should_work() {
    let server = Server::start(&[]);
    metadata(&server);
    decisions(&server);
    per_row(&server);
    pinned(&server);
    binary(&server);
    outputs(&server);
    values(&server);
    surroundings(&server);
}

fn metadata(server: &Server) {
    assert_eq!(server.get("/v2/health/live").json(), json!({ "live": true }));
    assert_eq!(server.get("/v2/health/ready").json(), json!({ "ready": true }));
    for path in ["/v2", "/v2/"] {
        let metadata = server.get(path).json();
        assert_eq!(metadata["name"], "lockgate");
        assert_eq!(metadata["extensions"], json!(["binary_tensor_data"]));
    }
    let direction = server.get("/v2/models/direction").json();
    assert_eq!(direction["name"], "direction");
    assert_eq!(direction["versions"], json!(["eurusd_lr@1.0.0", "1.1.0", "eurusd_rf_a@1.0.0"]));
    assert_eq!(direction["platform"], "lockgate_tabular");
    assert_eq!(direction["inputs"], json!([{ "name": "input", "datatype": "FP32", "shape": [-1, 17] }]));
    assert_eq!(
        direction["outputs"],
        json!([
            { "name": "output_label", "datatype": "INT64", "shape": [-1] },
            { "name": "output_probability", "datatype": "FP32", "shape": [-1, 2] },
        ])
    );
    assert_eq!(direction["parameters"]["labels"], json!(["down", "up"]));
    assert_eq!(direction["parameters"]["features"].as_array().unwrap().len(), 17);
    for version in ["1.1.0", "eurusd_gb@1.1.0", "eurusd_lr@1.0.0"] {
        let path = format!("/v2/models/direction/versions/{version}");
        assert_eq!(server.get(&path).json()["inputs"], direction["inputs"], "{version}");
        assert_eq!(
            server.get(&format!("{path}/ready")).json(),
            json!({ "name": "direction", "ready": true })
        );
    }
    assert_eq!(server.get("/v2/models/missing").json()["versions"], json!(["0.1.0"]));
    assert_eq!(server.get("/v2/models/direction/ready").status, 200);
}

fn decisions(server: &Server) {
    let check = |parameters: Value, variant: &str, model: &str, reason: &str, step: &str, rule: Value| {
        let answer = server.infer("direction", &request(1, &parameters));
        assert_eq!(answer.parameter("variant"), variant, "{}", answer.text());
        assert_eq!(answer.parameter("model"), model);
        assert_eq!(answer.parameter("reason"), reason);
        assert_eq!(answer.parameter("step"), step);
        assert_eq!(answer.parameter("rule"), rule);
        assert_eq!(answer.json()["model_name"], "direction");
        answer
    };
    check(json!({ "user": "alice" }), "canary", "eurusd_gb", "TARGETING_MATCH", "override", Value::Null);
    check(
        json!({ "tenant": "acme" }),
        "forest",
        "eurusd_rf_a",
        "TARGETING_MATCH",
        "test_group",
        json!("acme"),
    );
    check(
        json!({ "symbol": "EURCHF" }),
        "canary",
        "eurusd_gb",
        "TARGETING_MATCH",
        "symbol_rollout",
        json!("francs"),
    );
    check(json!({ "country": "DE" }), "forest", "eurusd_rf_a", "TARGETING_MATCH", "rule", json!("german"));
    let nobody = check(json!({}), "stable", "eurusd_lr", "DEFAULT", "default", Value::Null);
    assert_eq!(nobody.parameter("unit_missing"), true);
    assert_eq!(nobody.json()["model_version"], "eurusd_lr@1.0.0", "1.0.0 alone would be ambiguous");

    let answer = server.infer("direction", &request(1, &json!({ "user": "bob" })));
    assert_eq!(answer.parameter("reason"), "SPLIT");
    assert!(answer.parameter("bucket").as_u64().unwrap() < 100_000);
    assert_eq!(answer.parameter("layer"), "direction");
    assert_eq!(answer.parameter("bundle_version"), 1);
    for digest in ["bundle_digest", "package_digest", "policy_core", "inference_core"] {
        assert_eq!(answer.parameter(digest).as_str().unwrap().len(), 64, "{digest}");
    }
    assert_eq!(answer.parameter("engine"), "tabular");
    assert_eq!(answer.parameter("placement"), "edge");
    assert_eq!(answer.parameter("pinned"), false);
    let again = server.infer("direction", &request(1, &json!({ "user": "bob" })));
    assert_eq!(again.parameter("bucket"), answer.parameter("bucket"));
    assert_ne!(again.parameter("decision_id"), answer.parameter("decision_id"));

    // The same context as headers.
    let body = request(1, &json!({})).to_string();
    let by_header = server.post("/v2/models/direction/infer", &[("x-lockgate-user", "bob")], body.as_bytes());
    assert_eq!(by_header.parameter("bucket"), answer.parameter("bucket"));
    // The request's id comes back.
    let mut with_id = request(1, &json!({}));
    with_id["id"] = json!("42");
    assert_eq!(server.infer("direction", &with_id).json()["id"], "42");
}

fn per_row(server: &Server) {
    let count = 40;
    let users: Vec<String> = (0..count).map(|row| format!("user-{row}")).collect();
    let answer = server.infer("direction", &request(count, &json!({ "user": users, "symbol": "EURUSD" })));
    let (variants, buckets) = (answer.parameter("variant"), answer.parameter("bucket"));
    assert_eq!(variants.as_array().unwrap().len(), count);
    assert_eq!(answer.parameter("reason"), "SPLIT", "all rows agree, so it is one value");
    let body = answer.json();
    assert_eq!(body["model_version"], Value::Null, "several versions ran");
    let probabilities = output(&body, "output_probability")["data"].as_array().unwrap();
    for row in 0..count {
        // Each row got what it would have got alone.
        let mut alone = request(1, &json!({ "user": users[row], "symbol": "EURUSD" }));
        alone["inputs"][0]["data"] = json!(rows(count)[row]);
        let alone = server.infer("direction", &alone);
        assert_eq!(alone.parameter("variant"), variants[row]);
        assert_eq!(alone.parameter("bucket"), buckets[row]);
        let expected = output(&alone.json(), "output_probability")["data"].clone();
        assert_eq!(json!(probabilities[2 * row..2 * row + 2]), expected, "row {row}");
    }
    // A row without a user has no bucket.
    let answer = server.infer("direction", &request(2, &json!({ "user": ["bob", null] })));
    assert!(answer.parameter("bucket")[0].is_u64() && answer.parameter("bucket")[1].is_null());
    assert_eq!(answer.parameter("reason"), json!(["SPLIT", "DEFAULT"]));
}

#[test]
fn a_server_may_let_nobody_pin_a_version() {
    let server = Server::start(&["--allow-pinned", "false"]);
    let body = request(1, &json!({ "user": "alice" })).to_string();
    let answer = server.post("/v2/models/direction/versions/1.1.0/infer", &[], body.as_bytes());
    assert_eq!(answer.error(), (403, "pinning_not_allowed".to_owned()));
    assert_eq!(
        server.infer("direction", &request(1, &json!({ "user": "alice" }))).parameter("variant"),
        "canary"
    );
    assert_eq!(server.get("/v2/models/direction/versions/1.1.0").status, 200, "what there is, is no secret");
}

fn pinned(server: &Server) {
    let post = |version: &str| {
        let body = request(2, &json!({ "user": "alice" })).to_string();
        server.post(&format!("/v2/models/direction/versions/{version}/infer"), &[], body.as_bytes())
    };
    for (version, model, name) in [
        ("1.1.0", "eurusd_gb", "1.1.0"),
        ("eurusd_gb@1.1.0", "eurusd_gb", "1.1.0"),
        ("eurusd_lr@1.0.0", "eurusd_lr", "eurusd_lr@1.0.0"),
    ] {
        let answer = post(version);
        assert_eq!(answer.parameter("pinned"), true);
        assert_eq!(answer.parameter("model"), model);
        assert_eq!(answer.parameter("reason"), Value::Null, "the policy was not asked");
        assert_eq!(answer.json()["model_version"], name);
    }
    let ambiguous = post("1.0.0");
    assert_eq!(ambiguous.error(), (400, "ambiguous_version".to_owned()));
    assert_eq!(
        ambiguous.json()["error"],
        "version `1.0.0` of route `direction` is ambiguous; ask for one of eurusd_lr@1.0.0, eurusd_rf_a@1.0.0"
    );
    assert_eq!(post("9.9.9").error(), (404, "unknown_version".to_owned()));
    assert_eq!(
        server.get("/v2/models/direction/versions/1.0.0").error(),
        (400, "ambiguous_version".to_owned())
    );
    assert_eq!(
        server.get("/v2/models/direction/versions/9.9.9/ready").error(),
        (404, "unknown_version".to_owned())
    );
}

/// As `tritonclient` sends it: a binary tensor, no outputs named, all of them wanted as binary data.
fn binary(server: &Server) {
    let data: Vec<u8> = rows(2).iter().flatten().flat_map(|value| (*value as f32).to_le_bytes()).collect();
    let head = json!({
        "id": "b",
        "parameters": { "binary_data_output": true, "user": "alice" },
        "inputs": [{ "name": "input", "shape": [2, 17], "datatype": "FP32", "parameters": { "binary_data_size": data.len() } }],
    })
    .to_string();
    let body = [head.as_bytes(), &data].concat();
    let length = head.len().to_string();
    let headers = [("Inference-Header-Content-Length", length.as_str())];
    let answer = server.post("/v2/models/direction/infer", &headers, &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let header_length: usize = answer.header("inference-header-content-length").unwrap().parse().unwrap();
    let message: Value = serde_json::from_slice(&answer.body[..header_length]).unwrap();
    assert_eq!(message["parameters"]["variant"], "canary");
    assert_eq!(output(&message, "output_label")["parameters"]["binary_data_size"], 16);
    assert_eq!(output(&message, "output_probability")["parameters"]["binary_data_size"], 16);
    assert_eq!(answer.body.len(), header_length + 32);
    let json = server.infer("direction", &request(2, &json!({ "user": "alice" }))).json();
    let expected: Vec<u8> = output(&json, "output_probability")["data"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|value| (value.as_f64().unwrap() as f32).to_le_bytes())
        .collect();
    assert_eq!(answer.body[header_length + 16..], expected);
}

fn outputs(server: &Server) {
    let mut body = request(1, &json!({ "binary_data_output": true }));
    body["outputs"] = json!([{ "name": "output_probability", "parameters": { "binary_data": false } }]);
    let answer = server.infer("direction", &body).json();
    assert_eq!(answer["outputs"].as_array().unwrap().len(), 1);
    assert_eq!(output(&answer, "output_probability")["data"].as_array().unwrap().len(), 2);
    body["outputs"] = json!([{ "name": "nothing" }]);
    let answer = server.infer("direction", &body);
    assert_eq!(answer.error(), (400, "unknown_output".to_owned()));
    assert_eq!(
        answer.json()["error"],
        "there is no output `nothing`; expected `output_label` or `output_probability`"
    );
}

fn values(server: &Server) {
    // The recorded answers of onnxruntime.
    let recorded =
        std::fs::read_to_string(root().join("examples/eurusd/data/answers/eurusd_gb.csv")).unwrap();
    let answer = server.infer("direction", &request(20, &json!({ "user": "alice" }))).json();
    let labels = output(&answer, "output_label")["data"].as_array().unwrap();
    let scores = output(&answer, "output_probability")["data"].as_array().unwrap();
    for (row, line) in recorded.lines().skip(1).take(20).enumerate() {
        let cells: Vec<f64> = line.split(',').map(|cell| cell.parse().unwrap()).collect();
        assert_eq!(labels[row].as_f64().unwrap(), cells[0], "row {row}");
        for column in 0..2 {
            let difference = scores[2 * row + column].as_f64().unwrap() - cells[1 + column];
            assert!(difference.abs() <= 1e-5, "row {row}: {difference}");
        }
    }
    // A feature outside its training range is reported with its row.
    let mut far = request(2, &json!({ "user": "alice" }));
    far["inputs"][0]["data"][1][3] = json!(1000.0);
    assert_eq!(
        server.infer("direction", &far).parameter("out_of_range"),
        json!([{ "row": 1, "feature": "return_lag_03", "index": 3, "value": 1000.0 }])
    );
    // NaN is a missing value to a model that accepts it.
    let missing = json!({ "inputs": [{ "name": "input", "shape": [1, 5], "datatype": "FP32", "data": ["NaN", 1, "NaN", 2, "Infinity"] }] });
    let answer = server.infer("missing", &missing);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.parameter("reason"), "STATIC");
}

fn surroundings(server: &Server) {
    let answer = server.post(
        "/v2/models/direction/infer",
        &[("x-request-id", "mine")],
        request(1, &json!({})).to_string().as_bytes(),
    );
    assert_eq!(answer.header("x-request-id"), Some("mine"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(answer.header("server-timing").unwrap().contains("predict;dur="));
    assert!(!server.get("/v2").header("x-request-id").unwrap().is_empty());

    let health = server.get("/health");
    assert_eq!(health.status, 200);
    let health = health.json();
    assert_eq!(health["status"], "healthy", "{health}");
    for part in ["policy", "packages", "runtime"] {
        assert_eq!(health["parts"][part]["status"], "healthy");
    }
    assert_eq!(health["parts"]["packages"]["loaded"], 4);
    let model = &health["parts"]["packages"]["models"][0];
    assert_eq!(model["status"], "loaded");
    assert!(model["load_ms"].as_f64().unwrap() > 0.0);
    assert!(health["parts"]["policy"]["load_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(health["core"]["policy"].as_str().unwrap().len(), 64);

    assert!(
        server
            .metric("lockgate_requests_total{endpoint=\"infer\",route=\"direction\",status=\"200\"}")
            .unwrap()
            > 40.0
    );
    assert!(server.metric("lockgate_decisions_total{route=\"direction\",variant=\"canary\"}").unwrap() > 5.0);
    assert!(
        server.metric("lockgate_decisions_total{route=\"direction\",variant=\"pinned\"}").unwrap() >= 3.0
    );
    assert!(server.metric("lockgate_inference_duration_seconds_count{route=\"direction\"}").unwrap() > 40.0);
    assert_eq!(server.metric("lockgate_reloads_total{result=\"success\"}"), Some(1.0));
    assert_eq!(server.metric("lockgate_shed_total"), Some(0.0));
    assert_eq!(server.metric("lockgate_traps_total{kind=\"trap\",module=\"tabular\"}"), Some(0.0));
    // What callers write never becomes a label.
    assert_eq!(server.get("/v2/models/no-such-route").status, 404);
    let page = server.get("/metrics").text();
    assert!(page.contains("endpoint=\"model_metadata\",route=\"unknown\",status=\"404\""));
    assert!(!page.contains("no-such-route"));
}
