//! Mocks: served where tests run, marked in every answer, and refused in production.

use serde_json::{Value, json};

use crate::harness::{Server, core, lockgate, rows};

const POLICY: &str = r#"
lockgate: 1
models:
  signals@1.0.0:
routes:
  signals:
    variants:
      only: { model: signals@1.0.0 }
    default: { serve: only }
"#;

/// A folder with a mock and the policy that serves it.
fn prepared() -> (tempfile::TempDir, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::create_dir(path("packages")).unwrap();
    std::fs::write(path("policy.yaml"), POLICY).unwrap();
    let signature = json!({
        "name": "signals",
        "inputs": [{ "name": "input", "datatype": "FP32", "shape": [-1, 17] }],
        "outputs": [
            { "name": "label", "datatype": "BYTES", "shape": [-1], "value": "up" },
            { "name": "scores", "datatype": "FP32", "shape": [-1, 2], "value": [0.25, 0.75] },
        ],
        "parameters": { "labels": ["down", "up"] },
    });
    std::fs::write(path("signature.json"), signature.to_string()).unwrap();
    let made = lockgate(&[
        "package",
        "--mock",
        &path("signature.json"),
        "--version",
        "1.0.0",
        "-o",
        &path("packages"),
    ]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert!(String::from_utf8_lossy(&made.stdout).contains(", MOCK"));
    let flags = ["--policy", &path("policy.yaml"), "--packages", &path("packages")].map(str::to_owned);
    (folder, flags.to_vec())
}

#[test]
fn a_mock_answers_and_says_that_it_is_one() {
    let (folder, flags) = prepared();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let server = Server::start_in(folder, &core(false), &flags);
    let body =
        json!({ "inputs": [{ "name": "input", "datatype": "FP32", "shape": [2, 17], "data": rows(2) }] });
    let answer = server.infer("signals", &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.parameter("mock"), true);
    let outputs: Vec<Value> =
        answer.json()["outputs"].as_array().unwrap().iter().map(|output| output["data"].clone()).collect();
    assert_eq!(outputs, [json!(["up", "up"]), json!([0.25, 0.75, 0.25, 0.75])]);
}

#[test]
fn production_refuses_mocks() {
    let (_folder, flags) = prepared();
    let core = core(false);
    let mut arguments = vec!["serve", "--listen", "127.0.0.1:0", "--core", core.to_str().unwrap()];
    arguments.extend(flags.iter().map(String::as_str));
    arguments.extend(["--environment", "production"]);
    let output = lockgate(&arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("mocks are not served in production: signals@1.0.0"), "{error}");
    assert!(error.contains("package the real models"), "{error}");
}
