//! Contributions as a client gets them over HTTP, and from `lockgate predict`.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::{Answer, Server, core, lockgate, output, root};
use crate::predict::predict;

/// A forest with the covers of its trees, one without, and a linear model.
const POLICY: &str = r#"
lockgate: 1
models:
  forest@1.0.0:
  linear@1.0.0:
  silent@1.0.0:
routes:
  price:
    unit: user
    variants:
      forest: { model: forest@1.0.0 }
      linear: { model: linear@1.0.0 }
    baseline: forest
    rules:
      - { name: linear, if: { attribute: by, eq: linear }, serve: linear }
    default: { serve: forest }
  silent:
    variants:
      only: { model: silent@1.0.0 }
    default: { serve: only }
"#;

/// Rows that none of the models has seen.
const ROWS: [[f64; 5]; 3] =
    [[0.5, 0.01, -20.0, 1.5, 0.0], [-1.0, 0.0, 120.0, -3.0, 2.0], [0.0, -0.02, 3.0, 0.25, -1.0]];

fn package(model: &str, manifest: &Value, folder: &Path) -> String {
    let file = folder.join("manifest.json");
    std::fs::write(&file, manifest.to_string()).unwrap();
    let onnx = root().join("tests").join(model);
    let target = folder.join(format!("{}.lgp", manifest["model"].as_str().unwrap()));
    let [onnx, file, target] =
        [&onnx, &file, &target].map(|path: &PathBuf| path.to_str().unwrap().to_owned());
    let made = lockgate(&["package", &onnx, "--version", "1.0.0", "--manifest", &file, "--output", &target]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    target
}

/// A folder with the packages and the policy.
fn prepared() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("policy.yaml"), POLICY).unwrap();
    let background = json!([[1.0, 0.0, 10.0, 0.0, 1.0], [-1.0, 0.01, 30.0, 2.0, 1.0]]);
    for (model, manifest) in [
        ("contributions/forest_regressor.onnx", json!({ "model": "forest" })),
        ("contributions/linear_regression.onnx", json!({ "model": "linear", "background": background })),
        ("models/forest_regressor.onnx", json!({ "model": "silent" })),
    ] {
        package(model, &manifest, folder.path());
    }
    folder
}

fn server() -> Server {
    let folder = prepared();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (policy, packages) = (path("policy.yaml"), path(""));
    Server::start_in(folder, &core(false), &["--policy", &policy, "--packages", &packages])
}

fn ask(server: &Server, parameters: &Value) -> Answer {
    server.infer("price", &json!({ "parameters": parameters, "inputs": [input("X")] }))
}

fn input(name: &str) -> Value {
    json!({ "name": name, "datatype": "FP32", "shape": [ROWS.len(), 5], "data": ROWS })
}

fn numbers(answer: &Value, name: &str) -> Vec<f64> {
    output(answer, name)["data"].as_array().unwrap().iter().map(|one| one.as_f64().unwrap()).collect()
}

/// Whether every row's contributions and base add up to its raw score, which these models give out.
#[track_caller]
fn assert_sums(answer: &Value) {
    let found = output(answer, "contributions");
    assert_eq!((&found["datatype"], &found["shape"]), (&json!("FP64"), &json!([ROWS.len(), 5])));
    assert_eq!(output(answer, "contributions_base")["shape"], json!([ROWS.len()]));
    let (found, base) = (numbers(answer, "contributions"), numbers(answer, "contributions_base"));
    for (row, score) in numbers(answer, "variable").into_iter().enumerate() {
        let sum = base[row] + found[row * 5..row * 5 + 5].iter().sum::<f64>();
        assert!((sum - score).abs() <= 1e-5 * score.abs().max(1.0), "row {row}: {sum}, expected {score}");
    }
    assert!(found.iter().any(|contribution| *contribution != 0.0));
}

#[test]
fn who_asks_gets_contributions_that_add_up() {
    let server = server();
    let plain = ask(&server, &json!({})).json();
    assert_eq!(plain["outputs"].as_array().unwrap().len(), 1, "{plain}");
    let answer = ask(&server, &json!({ "contributions": true }));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    assert_eq!(output(&answer, "variable"), output(&plain, "variable"), "the answer itself stays");
    assert_sums(&answer);
    // `true` is the first method that the package has.
    let named = ask(&server, &json!({ "contributions": "path_dependent" })).json();
    assert_eq!(named["outputs"], answer["outputs"]);
    for none in [json!({ "contributions": false }), json!({ "contributions": "false" })] {
        assert_eq!(ask(&server, &none).json()["outputs"], plain["outputs"]);
    }
    // Rows of several versions, each with its own version's.
    let mixed = ask(&server, &json!({ "by": ["linear", "forest", "linear"], "contributions": true })).json();
    assert_eq!(mixed["parameters"]["model"], json!(["linear", "forest", "linear"]));
    assert_sums(&mixed);
    assert_eq!(numbers(&mixed, "contributions")[5..10], numbers(&answer, "contributions")[5..10]);
}

#[test]
fn they_come_whichever_outputs_are_asked_for() {
    let server = server();
    let ask = |outputs: Value| {
        server.infer(
            "price",
            &json!({ "parameters": { "contributions": true }, "inputs": [input("X")], "outputs": outputs }),
        )
    };
    let names = |answer: &Value| -> Vec<String> {
        let outputs = answer["outputs"].as_array().unwrap();
        outputs.iter().map(|output| output["name"].as_str().unwrap().to_owned()).collect()
    };
    let all = ["variable", "contributions", "contributions_base"];
    assert_eq!(names(&ask(json!([{ "name": "variable" }])).json()), all);
    let listed = ask(json!([{ "name": "contributions_base" }])).json();
    assert_eq!(names(&listed), ["contributions_base", "contributions"]);
    // By name, as binary data.
    let binary = ask(json!([{ "name": "contributions", "parameters": { "binary_data": true } }]));
    let length: usize = binary.header("inference-header-content-length").unwrap().parse().unwrap();
    let found: Vec<f64> =
        binary.body[length..].as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
    assert_eq!(found, numbers(&listed, "contributions"));
    // A model has no such output to name when they were not asked for.
    let body = json!({ "inputs": [input("X")], "outputs": [{ "name": "contributions" }] });
    assert_eq!(server.infer("price", &body).error(), (400, "unknown_output".to_owned()));
}

#[test]
fn metadata_lists_what_a_package_has_data_for() {
    let server = server();
    let of = |path: &str| server.get(path).json()["parameters"]["contributions"].clone();
    assert_eq!(of("/v2/models/price/versions/forest@1.0.0"), json!(["path_dependent"]));
    assert_eq!(of("/v2/models/price/versions/linear@1.0.0"), json!(["linear"]));
    assert_eq!(of("/v2/models/price"), Value::Null, "its versions have no method in common");
    assert_eq!(of("/v2/models/silent"), Value::Null);
}

#[test]
fn a_model_that_has_none_says_why() {
    let server = server();
    let check = |answer: &Answer, code: &str, parts: &[&str]| {
        assert_eq!(answer.error(), (400, code.to_owned()), "{}", answer.text());
        for part in parts {
            assert!(answer.text().contains(part), "{part}: {}", answer.text());
        }
    };
    let silent = |parameters: Value| {
        server.infer("silent", &json!({ "parameters": parameters, "inputs": [input("input")] }))
    };
    let why = ["the package carries neither the covers of its trees nor a background", "lockgate-export"];
    check(&silent(json!({ "contributions": true })), "invalid_input", &why);
    assert_eq!(silent(json!({})).status, 200, "it predicts as ever");
    // One version of several that cannot.
    let mixed = ask(&server, &json!({ "by": ["linear", "forest", "linear"], "contributions": "linear" }));
    let why = ["the package cannot give `linear` contributions, it gives path_dependent"];
    check(&mixed, "invalid_input", &why);
    let why =
        ["parameter `contributions` is", "expected true, false, linear, path_dependent or interventional"];
    check(&ask(&server, &json!({ "contributions": "shap" })), "invalid_parameter", &why);
    check(&ask(&server, &json!({ "contributions": 1 })), "invalid_parameter", &why);
}

#[test]
fn predict_gives_a_column_for_each_feature() {
    let folder = tempfile::tempdir().unwrap();
    let features = json!({ "model": "m", "features": ["a", "b", "c", "d", "e"] });
    let forest = package("contributions/forest_regressor.onnx", &features, folder.path());
    let rows = folder.path().join("rows.json");
    std::fs::write(&rows, json!(ROWS).to_string()).unwrap();
    let rows = rows.to_str().unwrap();
    let (code, table, notes) = predict(&[&forest, "--input", rows, "--contributions"]);
    assert_eq!(code, 0, "{notes}");
    let mut lines = table.lines();
    let columns = "variable,contributions.a,contributions.b,contributions.c,contributions.d,contributions.e,contributions_base";
    assert_eq!(lines.next(), Some(columns));
    assert_eq!(table.lines().count(), ROWS.len() + 1);
    for line in lines {
        let cells: Vec<f64> = line.split(',').map(|cell| cell.parse().unwrap()).collect();
        let sum: f64 = cells[1..].iter().sum();
        assert!((sum - cells[0]).abs() <= 1e-5 * cells[0].abs().max(1.0), "{line}");
    }
    let (_, named, _) = predict(&[&forest, "--input", rows, "--contributions=path_dependent"]);
    assert_eq!(named, table);
    let (_, plain, _) = predict(&[&forest, "--input", rows]);
    assert_eq!(plain.lines().next(), Some("variable"));

    let refused = |package: &str, flag: &str, text: &str| {
        let (code, answer, error) = predict(&[package, "--input", rows, flag]);
        assert_eq!((code, answer.as_str()), (1, ""));
        assert!(error.starts_with("error: ") && error.contains(text), "{error}");
    };
    refused(&forest, "--contributions=shap", "--contributions: expected true, false, linear");
    refused(&forest, "--contributions=interventional", "it gives path_dependent");
    let silent = package("models/forest_regressor.onnx", &json!({ "model": "silent" }), folder.path());
    refused(&silent, "--contributions", "neither the covers of its trees nor a background");
}
