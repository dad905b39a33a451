//! What a client gets that sends something wrong. The server stays up and says what it expected.

use serde_json::{Value, json};

use crate::harness::{Server, lockgate, request, rows};

#[test]
fn everything_that_should_be_refused() {
    let server = Server::start(&["--max-body", "64KiB"]);
    bodies(&server);
    tensors(&server);
    contexts(&server);
    paths(&server);
    headers(&server);
    // After all that, a good request is answered.
    assert_eq!(server.infer("direction", &request(1, &json!({}))).status, 200);
}

fn check(server: &Server, body: &[u8], status: u16, code: &str, text: &str) {
    let answer = server.post("/v2/models/direction/infer", &[], body);
    assert_eq!(answer.error(), (status, code.to_owned()), "{}", answer.text());
    let error = answer.json()["error"].as_str().unwrap().to_owned();
    assert!(error.starts_with(text), "{error}");
}

fn bodies(server: &Server) {
    check(server, b"", 400, "not_json", "the body is not JSON: EOF while parsing a value");
    check(server, b"hello", 400, "not_json", "the body is not JSON: expected value at line 1 column 1");
    check(server, b"{\"inputs\": [", 400, "not_json", "the body is not JSON: EOF while parsing");
    check(
        server,
        b"{}",
        400,
        "invalid_request",
        "the body is not an inference request: missing field `inputs`",
    );
    check(server, "[".repeat(10_000).as_bytes(), 400, "too_deep", "the JSON is nested deeper than 64 levels");
    let deep = format!("{{\"inputs\":[{{\"data\":{}", "[".repeat(10_000));
    check(server, deep.as_bytes(), 400, "too_deep", "the JSON is nested deeper than 64 levels");
    check(server, &vec![b' '; 100_000], 413, "body_too_large", "the body is larger than 65536 bytes");
    check(server, &vec![b' '; 3_000_000], 413, "body_too_large", "the body is larger than 65536 bytes");
    let nan = request(1, &json!({})).to_string().replacen("[[", "[[NaN,", 1);
    let answer = server.post("/v2/models/direction/infer", &[], nan.as_bytes());
    assert_eq!(answer.error(), (400, "not_json".to_owned()));
    assert!(answer.json()["hint"].as_str().unwrap().contains("\"NaN\""));
}

fn tensors(server: &Server) {
    let with = |change: &dyn Fn(&mut Value)| {
        let mut body = request(1, &json!({}));
        body["id"] = json!("7");
        change(&mut body["inputs"][0]);
        let answer = server.infer("direction", &body);
        let (status, code) = answer.error();
        assert_eq!(answer.json()["id"], "7", "an error names its request");
        (status, code, answer.json()["error"].as_str().unwrap().to_owned())
    };
    let check = |change: &dyn Fn(&mut Value), code: &str, parts: &[&str]| {
        let (status, found, error) = with(change);
        assert_eq!((status, found.as_str()), (400, code), "{error}");
        for part in parts {
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
    };
    check(&|input| input["name"] = json!("inptu"), "invalid_input", &["inptu", "input"]);
    check(&|input| input["datatype"] = json!("FP64"), "invalid_input", &["input", "FP32", "FP64"]);
    check(&|input| input["datatype"] = json!("FP128"), "invalid_input", &["unknown datatype `FP128`"]);
    check(&|input| input["shape"] = json!([17]), "invalid_input", &["input"]);
    check(
        &|input| {
            input["shape"] = json!([1, 16]);
            input["data"] = json!(rows(1)[0][..16]);
        },
        "invalid_input",
        &["input", "17", "16"],
    );
    check(&|input| input["shape"] = json!([2, 17]), "invalid_input", &["nesting"]);
    check(
        &|input| input["data"] = json!([1.0]),
        "invalid_input",
        &["`data` has 1 elements, shape [1, 17] needs 17"],
    );
    check(&|input| input["shape"] = json!([-1, 17]), "invalid_input", &["negative dimension -1"]);
    check(&|input| input["data"][0][2] = json!(1e300), "invalid_input", &["element 2 is 1e+300"]);
    check(&|input| input["data"][0][2] = json!("x"), "invalid_input", &["element 2 is the string \"x\""]);
    check(&|input| input["data"][0][4] = json!("NaN"), "missing_value", &["input"]);
    let mut none = request(1, &json!({}));
    none["inputs"] = json!([]);
    assert_eq!(server.infer("direction", &none).error().0, 400);
    let mut twice = request(1, &json!({}));
    twice["inputs"] = json!([twice["inputs"][0], twice["inputs"][0]]);
    assert_eq!(server.infer("direction", &twice).error(), (400, "invalid_input".to_owned()));
}

fn contexts(server: &Server) {
    let check = |parameters: Value, text: &str| {
        let answer = server.infer("direction", &request(2, &parameters));
        assert_eq!(answer.error(), (400, "invalid_parameter".to_owned()), "{}", answer.text());
        assert_eq!(answer.json()["error"], text);
    };
    check(json!({ "user": ["a", "b", "c"] }), "parameter `user` has 3 values, the request has 2 rows");
    check(json!({ "user": true }), "parameter `user`: expected a string, found the boolean true");
    check(
        json!({ "user": ["a", 1.5] }),
        "parameter `user` in row 1: expected a string, found the number 1.5",
    );
    check(
        json!({ "timeout": "soon" }),
        "parameter `timeout`: expected a number of microseconds, found the string \"soon\"",
    );
    let answer = server.infer("direction", &request(1, &json!({ "user": { "name": "a" } })));
    assert_eq!(answer.error(), (400, "invalid_request".to_owned()));
}

fn paths(server: &Server) {
    for (path, code) in [
        ("/v2/models/nothing", "unknown_route"),
        ("/v2/models/nothing/ready", "unknown_route"),
        ("/v2/models/nothing/versions/1.0.0", "unknown_route"),
        ("/v2/models/direction/versions/3.0.0", "unknown_version"),
        ("/v3", "not_found"),
        ("/", "not_found"),
    ] {
        assert_eq!(server.get(path).error(), (404, code.to_owned()), "{path}");
    }
    assert_eq!(server.infer("nothing", &request(1, &json!({}))).error(), (404, "unknown_route".to_owned()));
    let wrong = server.get("/v2/models/direction/infer");
    assert_eq!(wrong.error(), (405, "method_not_allowed".to_owned()));
    assert_eq!(wrong.header("allow"), Some("POST"));
    assert_eq!(server.post("/v2", &[], b"").error(), (405, "method_not_allowed".to_owned()));
    assert_eq!(server.post("/health", &[], b"").error().0, 405);
}

fn headers(server: &Server) {
    let body = request(1, &json!({})).to_string();
    let check = |header: (&str, &str), status: u16, code: &str| {
        let answer = server.post("/v2/models/direction/infer", &[header], body.as_bytes());
        assert_eq!(answer.error(), (status, code.to_owned()), "{header:?}");
    };
    check(("inference-header-content-length", "99999"), 400, "invalid_binary_data");
    check(("inference-header-content-length", "-1"), 400, "invalid_binary_data");
    check(("x-request-timeout-ms", "soon"), 400, "invalid_header");
    check(("x-request-timeout-ms", "0"), 400, "invalid_header");
    check(("content-encoding", "gzip"), 415, "unsupported_encoding");
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let check = |arguments: &[&str], code: i32, text: &str| {
        let output = lockgate(arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{error}");
        assert!(error.contains(text), "{error}");
    };
    let core = crate::harness::core(false);
    let core = core.to_str().unwrap();
    check(&["serve"], 2, "error: there is no policy to serve");
    check(
        &["serve", "--policy", "none.yaml", "--core", core, "--listen", "127.0.0.1:0"],
        1,
        "error: cannot read none.yaml",
    );
    check(&["serve", "--policy", "none.yaml", "--core", "/nowhere"], 1, "/nowhere/manifest.json");
    check(
        &["serve", "--policy", "none.yaml", "--core", core, "--listen", "nonsense"],
        1,
        "error: cannot listen on nonsense",
    );
    check(&["serve", "--queue", "many"], 1, "--queue: `many` is not a whole number, 1 or more");
    check(&["serve", "--queu", "1"], 2, "a similar argument exists: '--queue'");

    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name).to_str().unwrap().to_owned()
    };
    let policy = file("policy.yaml", crate::harness::POLICY);
    let serve = |policy: &str, packages: &str| -> Vec<String> {
        ["serve", "--core", core, "--listen", "127.0.0.1:0", "--policy", policy, "--packages", packages]
            .map(str::to_owned)
            .to_vec()
    };
    let check_owned = |arguments: Vec<String>, text: &str| {
        check(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), 1, text);
    };
    check_owned(serve(&policy, folder.path().to_str().unwrap()), "eurusd_lr@1.0.0");
    check_owned(
        serve(&file("typo.yaml", "lockgate: 1\nrotues: {}\n"), crate::harness::packages()),
        "did you mean `routes`?",
    );
    // A package with a flipped byte.
    let damaged = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(crate::harness::packages()).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        if path.ends_with("eurusd_lr-1.0.0.lgp") {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
        std::fs::write(damaged.path().join(path.file_name().unwrap()), bytes).unwrap();
    }
    check_owned(
        serve(&policy, damaged.path().to_str().unwrap()),
        "eurusd_lr-1.0.0.lgp: the model package is damaged",
    );
}
