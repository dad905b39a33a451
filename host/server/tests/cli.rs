//! The commands that need no core, as their users see them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/eurusd")
}

/// Exit code, standard output, standard error.
fn lockgate(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_lockgate"))
        .args(arguments)
        .env_remove("LOCKGATE_CORE")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[track_caller]
fn succeed(arguments: &[&str]) -> String {
    let (code, out, error) = lockgate(arguments);
    assert_eq!((code, error.as_str()), (0, ""), "{arguments:?}");
    out
}

#[track_caller]
fn fail(arguments: &[&str], expected: i32) -> String {
    let (code, out, error) = lockgate(arguments);
    assert_eq!((code, out.as_str()), (expected, ""), "{arguments:?}: {error}");
    error
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    /// The package of an example model.
    fn package(&self, model: &str) -> String {
        let onnx = example().join(format!("models/{model}.onnx"));
        let manifest = onnx.with_extension("manifest.yaml");
        let path = self.path(&format!("{model}.lgp"));
        let (onnx, manifest) = (onnx.to_str().unwrap().to_owned(), manifest.to_str().unwrap().to_owned());
        succeed(&["package", &onnx, "--manifest", &manifest, "--output", &path]);
        path
    }
}

#[test]
fn a_model_becomes_a_package_that_never_changes() {
    let folder = Folder::new();
    let package = folder.package("eurusd_lr");
    let inspected: Value = serde_json::from_str(&succeed(&["inspect", "--json", &package])).unwrap();
    assert_eq!(inspected["kind"], "package");
    assert_eq!(inspected["manifest"]["model"], "eurusd_lr");
    assert_eq!(inspected["manifest"]["labels"], serde_json::json!(["down", "up"]));
    assert!(succeed(&["inspect", &package]).starts_with("package           eurusd_lr@1.0.0\n"));

    // The same again changes nothing; other content under the name is refused.
    let before = std::fs::read(&package).unwrap();
    folder.package("eurusd_lr");
    let other = example().join("models/eurusd_gb.onnx");
    let other = other.to_str().unwrap();
    let error = fail(&["package", other, "--output", &package], 1);
    assert!(error.contains("exists with other content\nhint: packages and bundles never change"), "{error}");
    assert_eq!(std::fs::read(&package).unwrap(), before);

    // Without a manifest: named by the file, in a folder by name and version.
    let out = succeed(&["package", "--json", other, "--output", &folder.path("")]);
    let out: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&out["model"], &out["version"], &out["new"]),
        (&"eurusd_gb".into(), &"0.1.0".into(), &true.into())
    );
    assert!(Path::new(&folder.path("eurusd_gb-0.1.0.lgp")).exists());
    // Flags are stronger than the manifest, which may be YAML, JSON or TOML.
    for (name, text) in [
        ("m.yaml", "model: named\nversion: 1.0.0\n"),
        ("m.json", r#"{"model": "named", "version": "1.0.0"}"#),
        ("m.toml", "model = \"named\"\nversion = \"1.0.0\"\n"),
    ] {
        let manifest = folder.file(name, text);
        let target = folder.path(&format!("{name}.lgp"));
        let out =
            succeed(&["package", "--json", other, "-m", &manifest, "--version", "2.0.0", "-o", &target]);
        let out: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((&out["model"], &out["version"]), (&"named".into(), &"2.0.0".into()));
    }
}

#[test]
fn weights_may_lie_in_a_file_beside_the_model() {
    let folder = Folder::new();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/inference/tests/data/graph");
    let onnx = folder.path("data_elsewhere.onnx");
    std::fs::copy(models.join("data_elsewhere.onnx"), &onnx).unwrap();
    let package = folder.path("m.lgp");
    let error = fail(&["package", &onnx, "--output", &package], 1);
    assert!(error.contains("keeps its data in `data_elsewhere.onnx.data`, which was not read"), "{error}");
    assert!(error.contains("put the file beside the model"), "{error}");

    std::fs::copy(models.join("data_elsewhere.onnx.data"), folder.path("data_elsewhere.onnx.data")).unwrap();
    succeed(&["package", &onnx, "--output", &package]);
    let whole = folder.path("whole.lgp");
    let fixed_batch = models.join("fixed_batch.onnx");
    succeed(&["package", fixed_batch.to_str().unwrap(), "--name", "data_elsewhere", "--output", &whole]);
    let answer = |package: &str| {
        let row = [[[0.5; 4]; 6]];
        let request = serde_json::json!({ "inputs": [{ "name": "x", "datatype": "FP32", "shape": [1, 6, 4], "data": row }] });
        let request = folder.file("request.json", request.to_string());
        let answer: Value =
            serde_json::from_str(&succeed(&["predict", "--json", package, "--input", &request])).unwrap();
        answer["outputs"].clone()
    };
    assert_eq!(answer(&package), answer(&whole));
}

#[cfg(unix)]
#[test]
fn data_files_lie_in_the_models_folder_and_are_counted_before_they_are_read() {
    let (folder, elsewhere) = (Folder::new(), Folder::new());
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/inference/tests/data/graph");
    let onnx = folder.path("data_elsewhere.onnx");
    std::fs::copy(models.join("data_elsewhere.onnx"), &onnx).unwrap();
    let data = elsewhere.path("data");
    std::fs::copy(models.join("data_elsewhere.onnx.data"), &data).unwrap();
    let beside = folder.path("data_elsewhere.onnx.data");
    std::os::unix::fs::symlink(&data, &beside).unwrap();
    let package = folder.path("m.lgp");
    let error = fail(&["package", &onnx, "--output", &package], 1);
    assert!(error.contains("which was not read"), "{error}");

    std::fs::remove_file(&beside).unwrap();
    std::fs::File::create(&beside).unwrap().set_len(1 << 40).unwrap();
    let error = fail(&["package", &onnx, "--output", &package], 1);
    assert!(error.contains("is 1099511627776, the limit `file_bytes` is"), "{error}");
}

#[test]
fn a_manifest_says_which_field_does_not_fit() {
    let folder = Folder::new();
    let onnx = example().join("models/eurusd_lr.onnx");
    let check = |manifest: &str, want: &str| {
        let manifest = folder.file("m.yaml", manifest);
        let package = folder.path("m.lgp");
        let error = fail(&["package", onnx.to_str().unwrap(), "-m", &manifest, "-o", &package], 1);
        assert!(error.contains(want), "{error}");
    };
    let no_fields = "m.yaml: invalid type: sequence, expected fields with their names";
    check("[eurusd, 1.0.0, a model]", no_fields);
    check("hello", "m.yaml: invalid type: string \"hello\", expected fields with their names");
    check("answer: { treshold: 0.5 }", "m.yaml: `answer`: unknown field `treshold`, expected one of");
    check("version: 1.0", "m.yaml: `version`: invalid type: floating point `1.0`, expected a string");
    check("answer: [scores]", "m.yaml: `answer`: invalid type: sequence, expected fields");
    check("answer: { threshold: '0.5' }", "m.yaml: `answer.threshold`: invalid type: string \"0.5\"");
    check("scope: [[EURUSD]]", "m.yaml: `scope`: invalid type: sequence, expected fields");
    let calibration = "answer: { calibration: { per_class: [[sigmoid, 1, 2]] } }";
    check(calibration, "m.yaml: `answer.calibration.per_class[0]`: invalid type: sequence");
}

#[test]
fn texts_in_answers_stay_json() {
    let folder = Folder::new();
    let text = "\u{1}\u{7f}\u{85}\u{202e}";
    let signature = serde_json::json!({
        "inputs": [{ "name": "x", "datatype": "FP32", "shape": [-1, 1] }],
        "outputs": [{ "name": "y", "datatype": "BYTES", "shape": [-1], "value": text }],
    });
    let signature = folder.file("signature.json", signature.to_string());
    let package = folder.path("m.lgp");
    succeed(&["package", "--mock", &signature, "--name", "m", "--output", &package]);
    let request = folder
        .file("request.json", r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,1],"data":[0]}]}"#);
    let answer = succeed(&["predict", "--json", &package, "--input", &request]);
    assert!(!answer.contains(['\u{7f}', '\u{85}', '\u{202e}']), "{answer:?}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["outputs"][0]["data"][0], text);
}

#[test]
fn what_stands_beside_a_model_comes_from_files() {
    let folder = Folder::new();
    let onnx = example().join("models/eurusd_lr.onnx");
    let onnx = onnx.to_str().unwrap();
    let numbers = |number: &str| vec![number; 17].join(", ");
    let scaler = format!(r#"{{"mean_": [{}], "scale_": [{}]}}"#, numbers("0.5"), numbers("2"));
    let scaler = folder.file("scaler.json", scaler);
    let manifest = folder.file(
        "m.yaml",
        "labels: [down, up]\nscaler: scaler.json\nanswer:\n  labels: names\n  confidence: true\n  thresholds: {up: 0.6, down: 0.55}\n  otherwise: no_trade\n  calibration: {method: sigmoid, a: -1.5, b: 0.25}\n",
    );
    let target = folder.path("a.lgp");
    succeed(&["package", onnx, "-m", &manifest, "-o", &target]);
    let text = succeed(&["inspect", &target]);
    for line in [
        "output            output_label BYTES [-1]\n",
        "output            confidence FP32 [-1]\n",
        "scaler            standard, 17 columns\n",
        "calibration       sigmoid, a = -1.5, b = 0.25\n",
        "threshold         down from 0.55 on\n",
        "threshold         up from 0.6 on\n",
        "threshold         otherwise no_trade\n",
        "label             by name\n",
        "confidence        the top score\n",
    ] {
        assert!(text.contains(line), "expected `{line}` in:\n{text}");
    }
    let json: Value = serde_json::from_str(&succeed(&["inspect", "--json", &target])).unwrap();
    assert_eq!(
        (&json["scaler"]["kind"], &json["answer"]["thresholds"]["up"]),
        (&"standard".into(), &0.6.into())
    );

    // The flag's file wins, and errors name the file and the place.
    let other = folder.file("other.json", r#"{"mean": [0], "scale": [0]}"#);
    let error = fail(&["package", onnx, "-m", &manifest, "--scaler", &other, "-o", &folder.path("b.lgp")], 1);
    assert!(error.contains("`scaler.scale[0]`: a scale of 0 has no meaning"), "{error}");
    let other = folder.file("other.json", r#"{"means": [0], "scale": [1]}"#);
    let error = fail(&["package", onnx, "--scaler", &other, "-o", &folder.path("b.lgp")], 1);
    assert!(error.contains("other.json: unknown field `means`"), "{error}");
    let error = fail(&["package", onnx, "--scaler", &folder.path("none.json")], 1);
    assert!(error.contains("none.json: No such file"), "{error}");
    let _ = scaler;
}

#[test]
fn a_background_is_rows_or_a_file_beside_any_manifest() {
    let folder = Folder::new();
    let onnx = example().join("models/eurusd_gb.onnx");
    let onnx = onnx.to_str().unwrap();
    let row = |first: &str, other: &str| format!("{first}{}", format!(", {other}").repeat(16));
    let names: Vec<String> = (0..17).map(|column| format!("column {column}")).collect();
    let csv = format!("{}\n{}\n{}\n", names.join(","), row("0.5", "-1"), row("", "nan"));
    folder.file("rows.csv", csv);
    let rows = format!("[[{}], [{}]]", row("0.5", "-1"), row("null", "null"));
    folder.file("rows.json", &rows);
    let package = |name: &str, text: &str| {
        let manifest = folder.file(name, text);
        let target = folder.path(&format!("{name}.lgp"));
        succeed(&["package", onnx, "-m", &manifest, "-o", &target]);
        target
    };
    let inline = package("rows.yaml", &format!("accepts_missing: true\nbackground: {rows}\n"));
    let inspected: Value = serde_json::from_str(&succeed(&["inspect", "--json", &inline])).unwrap();
    assert_eq!(inspected["manifest"]["contributions"], serde_json::json!(["interventional"]));
    for file in ["rows.csv", "rows.json"] {
        for (name, text) in [
            ("m.yaml", format!("accepts_missing: true\nbackground: {file}\n")),
            ("m.json", format!(r#"{{"accepts_missing": true, "background": "{file}"}}"#)),
            ("m.toml", format!("accepts_missing = true\nbackground = \"{file}\"\n")),
        ] {
            let package = package(&format!("{file}.{name}"), &text);
            assert_eq!(std::fs::read(package).unwrap(), std::fs::read(&inline).unwrap(), "{file}, {name}");
        }
    }
    // No rows are no background.
    let empty = package("empty.toml", "background = []\n");
    assert_eq!(std::fs::read(empty).unwrap(), std::fs::read(package("none.toml", "")).unwrap());

    let check = |name: &str, content: &str, want: &str| {
        folder.file(name, content);
        let manifest = folder.file("wrong.toml", format!("background = \"{name}\"\n"));
        let error = fail(&["package", onnx, "-m", &manifest, "-o", &folder.path("wrong.lgp")], 1);
        assert!(error.contains(want), "{error}");
    };
    check("word.csv", "a,b\n1,2\n3,up\n", "word.csv: row 1: `up` is not a number");
    check("cut.json", "[[1, 2], [3", "cut.json: this is not JSON: EOF while parsing");
    check("texts.json", r#"[["1"]]"#, "texts.json: invalid type: string \"1\", expected f64");
    check("narrow.csv", "a\n1\n", "row 0 has 1 numbers, the model's inputs have 17 columns");
    for (name, text) in
        [("m.yaml", "background: nowhere.csv\n"), ("m.toml", "background = \"nowhere.csv\"\n")]
    {
        let error = fail(&["package", onnx, "-m", &folder.file(name, text)], 1);
        assert!(error.contains("nowhere.csv: No such file or directory"), "{error}");
    }
    let error = fail(&["package", onnx, "-m", &folder.file("m.yaml", "background: 3\n")], 1);
    assert!(
        error.contains(
            "m.yaml: `background`: expected the name of a file, or a list of rows of numbers and null"
        ),
        "{error}"
    );
}

#[test]
fn a_mock_is_made_from_a_signature_wherever_it_stands() {
    let folder = Folder::new();
    let package = folder.package("eurusd_lr");
    let onnx = example().join("models/eurusd_lr.onnx");
    let manifest = onnx.with_extension("manifest.yaml");
    let inspected = folder.file("inspected.json", succeed(&["inspect", "--json", &package]));
    let real: Value = serde_json::from_str(&std::fs::read_to_string(&inspected).unwrap()).unwrap();
    let flags = |source: &str, target: &str| -> Vec<String> {
        ["package", "--mock", source, "-o", target].map(str::to_owned).to_vec()
    };
    let mut from_onnx = flags(onnx.to_str().unwrap(), &folder.path("c.lgp"));
    from_onnx.extend(["--manifest".to_owned(), manifest.to_str().unwrap().to_owned()]);
    let runs = [flags(&package, &folder.path("a.lgp")), flags(&inspected, &folder.path("b.lgp")), from_onnx];
    for arguments in runs {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let out = succeed(&arguments);
        assert!(out.contains(", MOCK"), "{out}");
        let mock: Value = serde_json::from_str(&succeed(&["inspect", "--json", arguments[4]])).unwrap();
        assert_eq!(mock["manifest"]["mock"], true);
        for field in ["model", "version", "signature", "labels", "features", "accepts_missing"] {
            if field == "features" && arguments[4].ends_with("c.lgp") {
                continue;
            }
            assert_eq!(mock["manifest"][field], real["manifest"][field], "{field}");
        }
    }
    assert!(succeed(&["inspect", &folder.path("a.lgp")]).contains("\nMOCK "));
    let error = fail(&["package", "--mock", &package, "model.onnx"], 2);
    assert!(error.contains("cannot be used with"), "{error}");
    let error = fail(&["package"], 2);
    assert!(error.contains("required"), "{error}");
    let wrong = folder.file("wrong.yaml", "inputs: []\noutputs: []\nimputs: []\n");
    let error = fail(&["package", "--mock", &wrong], 1);
    assert!(error.contains("wrong.yaml: unknown field `imputs`"), "{error}");
}

#[test]
fn what_is_no_model_is_refused() {
    let folder = Folder::new();
    let target = folder.path("out.lgp");
    let onnx = example().join("models/eurusd_lr.onnx");
    let bytes = std::fs::read(&onnx).unwrap();
    let onnx = onnx.to_str().unwrap();
    let check = |file: &str, text: &str| {
        let error = fail(&["package", file, "-o", &target], 1);
        assert!(error.starts_with("error: ") && error.contains(text), "{error}");
        assert!(error.contains("\nhint: "), "{error}");
        assert!(!Path::new(&target).exists());
    };
    check(&folder.file("text.onnx", "hello"), "not an ONNX file");
    check(&folder.file("cut.onnx", &bytes[..bytes.len() / 2]), "truncated");
    let error = fail(&["package", onnx, "--version", "one", "-o", &target], 1);
    assert!(error.contains("semantic version"), "{error}");
    let typo = folder.file("m.yaml", "modle: x\n");
    let error = fail(&["package", onnx, "-m", &typo, "-o", &target], 1);
    assert!(error.contains("unknown field `modle`, expected one of"), "{error}");
    let json = fail(&["package", "--json", "/nowhere.onnx", "-o", &target], 1);
    assert_eq!(
        serde_json::from_str::<Value>(&json).unwrap()["error"],
        "cannot read /nowhere.onnx: No such file or directory (os error 2)"
    );
    assert_eq!(
        fail(&["inspect", &folder.file("x", "x")], 1),
        format!(
            "error: {}: neither a model package nor a policy bundle: the first bytes are not `LOCKGATE`\n",
            folder.path("x")
        )
    );
}

#[test]
fn a_policy_is_checked_compiled_and_explained() {
    let folder = Folder::new();
    for model in ["eurusd_lr", "eurusd_gb", "eurusd_rf_a", "eurusd_rf_b", "eurusd_lstm"] {
        folder.package(model);
    }
    let source = example().join("policy.yaml");
    let (source, packages) = (source.to_str().unwrap(), folder.path(""));
    assert!(succeed(&["policy", "check", source]).contains("2 routes, 5 variants, nothing wrong"));
    let (bundle, copy) = (folder.path("policy.lgb"), folder.path("copy.lgb"));
    succeed(&["policy", "compile", source, "--packages", &packages, "-o", &bundle]);
    succeed(&["policy", "compile", source, "--packages", &packages, "-o", &copy]);
    assert_eq!(std::fs::read(&bundle).unwrap(), std::fs::read(&copy).unwrap(), "equal input, equal bytes");
    let inspected: Value = serde_json::from_str(&succeed(&["inspect", "--json", &bundle])).unwrap();
    assert_eq!((&inspected["kind"], &inspected["version"]), (&"bundle".into(), &1.into()));

    let context = ["--route", "eurusd-direction", "--user", "bob"];
    let explained = succeed(&[&["policy", "explain", &bundle], &context[..]].concat());
    assert!(explained.contains("no entry for user `bob`") && explained.contains("bucket"), "{explained}");
    let from_bundle = succeed(&[&["decide", "--json", &bundle], &context[..]].concat());
    let from_source =
        succeed(&[&["decide", "--json", source, "--packages", &packages], &context[..]].concat());
    assert_eq!(from_bundle, from_source);
    let decision: Value = serde_json::from_str(&from_bundle).unwrap();
    assert_eq!((&decision["reason"], &decision["step"]), (&"SPLIT".into(), &"default".into()));
    let at = [
        &[
            "decide",
            &bundle,
            "--now",
            "2026-05-01T12:00:00Z",
            "--attribute",
            "strategy=forest-comparison",
            "--symbol",
            "GBPUSD",
        ],
        &context[..],
    ]
    .concat();
    assert!(succeed(&at).contains("rule     forests"));

    let newer = folder.path("newer.lgb");
    succeed(&[
        "policy",
        "compile",
        source,
        "--packages",
        &packages,
        "--bundle-version",
        "2",
        "--base",
        &bundle,
        "-o",
        &newer,
    ]);
    let newer: Value = serde_json::from_str(&succeed(&["inspect", "--json", &newer])).unwrap();
    assert_eq!(newer["parent"], inspected["digest"]);
    let error = fail(
        &["policy", "compile", source, "--packages", &packages, "--parent", &bundle, "-o", &folder.path("z")],
        1,
    );
    assert!(error.contains("is not above the parent's"), "{error}");
    let error = fail(&["policy", "compile", source, "-o", &folder.path("z")], 1);
    assert!(error.contains("--packages"), "{error}");
    let error = fail(&["decide", &bundle, "--route", "eurusd-directoin"], 1);
    assert!(error.contains("hint: did you mean `eurusd-direction`?"), "{error}");
    assert!(fail(&["decide", &bundle], 2).contains("--route"));
}

#[test]
fn a_wrong_policy_is_refused_with_its_place() {
    let folder = Folder::new();
    let source = folder.file("p.yaml", "lockgate: 1\nrotues: {}\n");
    let error = fail(&["policy", "check", &source], 1);
    assert!(error.contains("p.yaml:2:1") && error.contains("did you mean `routes`?"), "{error}");
    let (code, out, _) = lockgate(&["policy", "check", "--json", &source]);
    let out: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &out["ok"]), (1, &false.into()));
    let diagnostics = out["diagnostics"].as_array().unwrap();
    assert!(
        diagnostics.iter().any(|one| one["line"] == 2 && one["hint"] == "did you mean `routes`?"),
        "{out}"
    );
    let many: String = (0..30).map(|index| format!("x{index}: 1\n")).collect();
    let error = fail(&["policy", "check", &folder.file("many.yaml", format!("lockgate: 1\n{many}"))], 1);
    assert!(error.contains("unknown key `x29`") && error.contains("31 errors"), "{error}");
    let error = fail(&["decide", &folder.file("b.lgb", b"LOCKGATE"), "--route", "r"], 1);
    assert!(error.contains("b.lgb: the policy bundle is truncated"), "{error}");
}

/// A policy that needs no packages: its versions are pinned and its route says what goes in and out.
const PINNED: &str = "lockgate: 1
models:
  m@1.0.0: { digest: sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef }
  m@2.0.0: { digest: sha256:6f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef }
segments:
  big: { users: { file: big.txt } }
routes:
  r:
    signature:
      inputs: [{ name: input, datatype: FP32, shape: [-1, 17] }]
      outputs: [{ name: label, datatype: INT64, shape: [-1] }]
    variants: { stable: { model: m@1.0.0 }, canary: { model: m@2.0.0 } }
    baseline: stable
    test_groups: [{ name: big, segments: [big], serve: canary }]
    default: { split: { stable: 90, canary: 10 } }
";

#[test]
fn lists_of_units_become_objects_beside_the_bundle() {
    let folder = Folder::new();
    let source = folder.file("p.yaml", PINNED);
    let bundle = folder.path("p.lgb");
    let error = fail(&["policy", "check", &source], 1);
    let place = "(segments.big.users.file)";
    assert!(error.contains("cannot read the list of units `big.txt`") && error.contains(place), "{error}");
    let error = fail(&["policy", "compile", &source, "-o", &bundle], 1);
    assert!(error.contains("cannot read ") && error.contains("names it as a list of units"), "{error}");
    folder.file("big.txt", "alice\nbob \n\tcarol\n");
    let error = fail(&["policy", "compile", &source, "-o", &bundle], 1);
    assert!(error.contains("big.txt:2:1: this unit begins or ends with white space"), "{error}");
    // Everything at once: what is wrong with the source, and every line of its lists.
    let broken = folder.file("broken.yaml", PINNED.replace("baseline: stable", "baseline: stabel"));
    let error = fail(&["policy", "check", &broken], 1);
    let all = ["stabel", "big.txt:2:1", "big.txt:3:1", "3 |  carol", "3 errors"];
    assert!(all.iter().all(|part| error.contains(part)), "{error}");

    let units: String = (0..60_000).map(|number| format!("unit-{number}\n")).collect();
    folder.file("big.txt", &units);
    let compile = |output: &str, more: &[&str]| -> Value {
        let arguments = [&["policy", "compile", "--json", &source, "-o", output], more].concat();
        serde_json::from_str(&succeed(&arguments)).unwrap()
    };
    let new = |compiled: &Value| {
        let objects = compiled["objects"].as_array().unwrap();
        (objects.len(), objects.iter().filter(|object| object["new"] == true).count())
    };
    let first = compile(&bundle, &[]);
    let (count, written) = new(&first);
    assert!(count > 1 && count == written);
    assert!(succeed(&["decide", &bundle, "--route", "r", "--user", "unit-77"]).contains("rule     big"));
    assert_eq!(new(&compile(&bundle, &[])), (count, 0));
    // One unit more changes one object, and the versions share the others.
    folder.file("big.txt", units + "one-more\n");
    let next = folder.path("next.lgb");
    assert_eq!(new(&compile(&next, &["--base", &bundle, "--bundle-version", "2"])), (count, 1));
    let changed = succeed(&["policy", "diff", &bundle, &next]);
    assert_eq!(changed, "version 1 → 2\nlist big.txt: 1 added, 0 removed\n");
    let (code, out, notes) = lockgate(&["policy", "source", &next, "--verify"]);
    assert_eq!((code, notes), (0, format!("{next}: the source compiles to this bundle\n")));
    assert!(out.starts_with("{\n  \"lockgate\": 1,\n"), "{out}");

    let object =
        format!("{}.lgl", first["objects"][0]["digest"].as_str().unwrap().trim_start_matches("sha256:"));
    let object = folder.path("objects") + "/" + &object;
    let bytes = std::fs::read(&object).unwrap();
    std::fs::write(&object, &bytes[..bytes.len() - 1]).unwrap();
    let error = fail(&["policy", "explain", &bundle, "--route", "r"], 1);
    assert!(error.contains(".lgl: "), "{error}");
    std::fs::remove_file(&object).unwrap();
    for command in [
        &["policy", "explain", &bundle, "--route", "r"][..],
        &["inspect", &bundle],
        &["policy", "source", &bundle],
    ] {
        let error = fail(command, 1);
        assert!(error.starts_with("error[missing_object]: ") && error.contains(&object), "{error}");
    }
}

#[test]
fn differences_have_an_exit_code() {
    let folder = Folder::new();
    folder.file("big.txt", "alice\n");
    let old = folder.file("old.yaml", PINNED);
    let new = folder.file("new.yaml", PINNED.replace("stable: 90, canary: 10", "stable: 75, canary: 25"));
    let diff = |arguments: &[&str]| lockgate(&[&["policy", "diff", "--exit-code"], arguments].concat());
    assert_eq!(diff(&[&old, &old]), (0, "version 1 → 1: nothing else changes\n".to_owned(), String::new()));
    let (code, out, error) = diff(&[&old, &new]);
    assert_eq!((code, error.as_str()), (3, ""));
    assert!(
        out.contains("default: 15 % of the units that it matches move\n    stable → canary  15 %"),
        "{out}"
    );
    assert_eq!(lockgate(&["policy", "diff", &old, &new]).0, 0);
    assert_eq!(diff(&[&old, &folder.path("none.yaml")]).0, 1);

    let units: String = (0..1000).map(|number| format!("user-{number}\n")).collect();
    let units = folder.file("units.csv", format!("user\n{units}alice\n"));
    let (code, out, _) = diff(&[&old, &new, "--units", &units, "--json"]);
    let out: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &out["changed"], &out["units"]["contexts"]), (3, &true.into(), &1001.into()));
    let moves = out["units"]["routes"]["r"]["moves"].as_array().unwrap();
    assert_eq!((moves.len(), &moves[0]["from"], &moves[0]["to"]), (1, &"stable".into(), &"canary".into()));
    assert_eq!(out["policy"]["routes"][0]["steps"][0]["moved"], 15.0);
    let wrong = folder.file("wrong.csv", "usre\nalice\n");
    let error = fail(&["policy", "diff", &old, &new, "--units", &wrong], 1);
    assert!(error.contains("wrong.csv:1: ") && error.contains("did you mean `user`?"), "{error}");
}

/// A policy that sticks to accounts, whose numbers a table does not tell from numbers.
const ACCOUNTS: &str = "lockgate: 1
routes:
  r:
    unit: { attribute: account }
    variants: { a: { model: m@1.0.0 }, b: { model: m@2.0.0 } }
    baseline: a
    default: { split: { a: 50, b: 50 } }
";

#[test]
fn accounts_are_texts_wherever_units_are_read() {
    let folder = Folder::new();
    let old = folder.file("old.yaml", ACCOUNTS);
    let new = folder.file("new.yaml", ACCOUNTS.replace("a: 50, b: 50", "a: 0, b: 100"));
    let rows: String = (0..200).map(|number| format!("u{number},{number:04}\n")).collect();
    let csv = folder.file("units.csv", format!("user,account\n{rows}"));
    let moved = |units: &str, more: &[&str]| -> Value {
        let arguments = [&["policy", "diff", &old, &new, "--json", "--units", units], more].concat();
        serde_json::from_str::<Value>(&succeed(&arguments)).unwrap()["units"].take()
    };
    let by_text = moved(&csv, &[]);
    let count = by_text["moved"].as_u64().unwrap();
    assert!((60..140).contains(&count) && by_text.get("missing").is_none(), "{by_text}");
    let lines: String = (0..200)
        .map(|number| {
            format!("{{\"user\": \"u{number}\", \"attributes\": {{\"account\": \"{number:04}\"}}}}\n")
        })
        .collect();
    assert_eq!(moved(&folder.file("units.jsonl", lines), &[]), by_text);
    // Numbers are no units, and all tools say so.
    let numbers = folder.file("numbers.csv", format!("user,account:number\n{rows}"));
    let by_number = moved(&numbers, &[]);
    assert_eq!((&by_number["moved"], &by_number["missing"][0]["units"]), (&0.into(), &200.into()));
    let note = "200 of 200 units have no text but a number as attribute `account`, so the default serves them the baseline";
    let out = succeed(&["policy", "diff", &old, &new, "--units", &numbers]);
    assert!(out.ends_with(&format!("\n  note: with both policies, {note}\n")), "{out}");
    let out = succeed(&["policy", "simulate", &old, "--route", "r", "--units", &numbers]);
    assert!(out.ends_with(&format!("\n\nnote: {note}\n")), "{out}");
    let out = succeed(&["policy", "explain", &old, "--route", "r", "--attribute", "account=123"]);
    assert!(out.contains("attribute `account` is the number 123; only texts count"), "{out}");
    let out = succeed(&["policy", "explain", &old, "--route", "r", "--attribute", "account=\"123\""]);
    assert!(out.contains("for attribute `account` `123` falls into"), "{out}");
    let error = fail(&["policy", "diff", &old, &new, "--units", &folder.file("e.csv", "user,account\n")], 1);
    assert!(error.contains("e.csv: there are no units in it"), "{error}");
}

#[test]
fn a_simulation_says_how_units_get_what_they_lack() {
    let folder = Folder::new();
    let source = folder.file("p.yaml", ACCOUNTS.replace("{ attribute: account }", "symbol"));
    let (code, out, notes) = lockgate(&["policy", "simulate", &source, "--route", "r", "--users", "50"]);
    assert!(code == 0 && out.contains("note: 50 of 50 units have no symbol, so the default"), "{out}");
    assert_eq!(notes, "hint: units get what they lack from `--symbols COUNT`\n");
    assert!(!succeed(&["policy", "simulate", &source, "--route", "r", "--symbols", "50"]).contains("note"));
}

#[test]
fn decisions_need_no_packages_and_come_by_the_file() {
    let folder = Folder::new();
    let source = folder.file("p.yaml", ACCOUNTS);
    let note = "note: no package of m@1.0.0, m@2.0.0 is at hand, so digests are made up; `--packages FOLDER` gives the real ones\n";
    let (code, out, notes) = lockgate(&["decide", &source, "--route", "r", "--attribute", "account=x"]);
    assert_eq!((code, notes.as_str()), (0, note), "{out}");
    assert!(out.starts_with("variant  "), "{out}");
    // Whoever names packages wants them.
    let error = fail(&["decide", &source, "--route", "r", "--packages", &folder.path("")], 1);
    assert!(error.contains("there is no package of `m@1.0.0`"), "{error}");

    let units = folder.file("units.csv", "route,user,account\nr,alice,1\n,bob,2\nx,carol,3\n");
    let decide = |more: &[&str]| lockgate(&[&["decide", &source, "--units", &units], more].concat());
    let (code, out, error) = decide(&["--json", "--route", "r", "--now", "0"]);
    assert_eq!((code, error.as_str()), (0, note));
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(
        lines[1]["context"],
        serde_json::json!({ "route": "r", "user": "bob", "attributes": { "account": "2" } })
    );
    for (line, account) in lines.iter().zip(["account=\"1\"", "account=\"2\""]) {
        let (_, one, _) =
            lockgate(&["decide", &source, "--json", "--route", "r", "--now", "0", "--attribute", account]);
        let mut line = line.clone();
        line.as_object_mut().unwrap().remove("context");
        assert_eq!(line, serde_json::from_str::<Value>(&one).unwrap());
    }
    assert_eq!((&lines[2]["error"], &lines[2]["route"]), (&"unknown_route".into(), &"x".into()));
    let (_, out, _) = decide(&["--route", "r"]);
    assert!(
        out.starts_with("route=r user=alice account=\"1\": `") && out.ends_with(": unknown route\n"),
        "{out}"
    );
    let (code, out, error) = decide(&[]);
    assert!(code == 1 && out.is_empty() && error.contains("units.csv: unit 2 names no route"), "{error}");
}

#[test]
fn the_schema_comes_with_the_program() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/policy.schema.json");
    let schema = succeed(&["policy", "schema"]);
    assert!(schema == std::fs::read_to_string(page).unwrap(), "docs/policy.schema.json says otherwise");
    assert_eq!(serde_json::from_str::<Value>(&schema).unwrap()["$id"], "urn:lockgate:policy:1");
}

#[test]
fn a_bundle_gives_back_its_source_and_lists() {
    let folder = Folder::new();
    // One list lies below the source, one beside its folder, under the same name.
    std::fs::create_dir_all(folder.path("policies/lists")).unwrap();
    let source = PINNED.replace(
        "big: { users: { file: big.txt } }",
        "big: { users: { file: lists/big.txt } }\n  more: { users: { file: ../big.txt }, exclude: { users: { file: none.txt } } }\n  same: { users: { file: big.txt } }",
    );
    let source = folder.file("policies/p.yaml", source);
    folder.file(
        "policies/lists/big.txt",
        (0..3000).map(|number| format!("unit-{number}\n")).collect::<String>(),
    );
    folder.file("policies/none.txt", "");
    folder.file("policies/big.txt", "same\n");
    folder.file("big.txt", "zo\u{eb}\nalice\nalice\n");
    let bundle = folder.path("v.lgb");
    succeed(&["policy", "compile", &source, "-o", &bundle, "--bundle-version", "7"]);

    let (back, out) = (folder.path("out/s.json"), folder.path("out"));
    std::fs::create_dir(&out).unwrap();
    let (code, answer, notes) =
        lockgate(&["policy", "source", &bundle, "--verify", "-o", &back, "--lists", &out, "--json"]);
    assert_eq!(code, 0, "{notes}");
    assert!(
        notes.ends_with("note: the list `../big.txt` is called `big-2.txt` now, also in the source\n"),
        "{notes}"
    );
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["lists"].as_array().unwrap().len(), 4);
    let read = |name: &str| std::fs::read_to_string(folder.path(name)).unwrap();
    assert_eq!(
        (read("out/big-2.txt"), read("out/none.txt")),
        ("alice\nzo\u{eb}\n".to_owned(), String::new())
    );
    assert_eq!(read("out/lists/big.txt").lines().count(), 3000);
    assert!(!Path::new(&folder.path("out/../big-2.txt")).exists());

    // Everything is gone but what was written back, and decisions stay as they are.
    std::fs::remove_dir_all(folder.path("policies")).unwrap();
    let again = folder.path("again.lgb");
    succeed(&["policy", "compile", &back, "-o", &again, "--bundle-version", "7"]);
    for user in ["unit-5", "alice", "same", "nobody"] {
        let decide = |bundle: &str| {
            let out = succeed(&["decide", bundle, "--json", "--route", "r", "--user", user, "--now", "0"]);
            let mut decision: Value = serde_json::from_str(&out).unwrap();
            decision["bundle"].take();
            decision
        };
        assert_eq!(decide(&bundle), decide(&again));
    }
    // Without a list that changes its name, the bytes stay too, from here on and for ever.
    let (third, there) = (folder.path("third.lgb"), folder.path("there"));
    let source = folder.path("there/s.json");
    std::fs::create_dir(&there).unwrap();
    succeed(&["policy", "source", &again, "-o", &source, "--lists", &there]);
    succeed(&["policy", "compile", &source, "-o", &third, "--bundle-version", "7"]);
    assert_eq!(std::fs::read(&again).unwrap(), std::fs::read(&third).unwrap());
    // Nothing that is there is overwritten.
    folder.file("there/big.txt", "other\n");
    let error = fail(&["policy", "source", &again, "--lists", &there], 1);
    assert!(error.contains("big.txt exists with other content\nhint: name another folder"), "{error}");
}

#[test]
fn cases_must_name_what_there_is() {
    let folder = Folder::new();
    let source = folder.file("p.yaml", ACCOUNTS);
    let error = fail(&["policy", "test", &source, "--cases", &folder.file("c.yaml", "cases: []\n")], 1);
    assert!(error.contains("c.yaml:1:8: there are no cases"), "{error}");
    let cases =
        "cases:\n  - { name: n, context: { route: r }, population: { users: 10, expect: { zz: 0 } } }\n";
    let (code, out, _) = lockgate(&["policy", "test", &source, "--cases", &folder.file("c.yaml", cases)]);
    assert!(code == 1 && out.contains("expected: a variant `zz`"), "{out}");
}

#[test]
fn files_are_laid_out_all_or_none() {
    let folder = Folder::new();
    let messy = folder.file(
        "a.yaml",
        "lockgate:   1 # one\nroutes: {r: {variants: {v: {model: 'm@1.0.0'}}, default: {serve: v}}}\n",
    );
    let anchors = folder.file("b.yaml", "a: &x [1]\nb: *x\n");
    let before = std::fs::read(&messy).unwrap();
    let error = fail(&["policy", "fmt", &messy, &anchors], 1);
    assert!(error.contains("b.yaml:1:4: an anchor or alias cannot be kept by the formatter"), "{error}");
    assert_eq!(std::fs::read(&messy).unwrap(), before);
    let (code, out, _) = lockgate(&["policy", "fmt", "--check", &messy]);
    assert_eq!((code, out), (1, format!("{messy}: is laid out otherwise from line 1 on\n")));
    assert_eq!(std::fs::read(&messy).unwrap(), before);
    succeed(&["policy", "fmt", &messy]);
    assert_eq!(
        std::fs::read_to_string(&messy).unwrap(),
        "lockgate: 1  # one\nroutes: { r: { variants: { v: { model: \"m@1.0.0\" } }, default: { serve: v } } }\n"
    );
    assert_eq!(succeed(&["policy", "fmt", "--check", &messy]), "1 file, nothing to do\n");
    let example = example().join("policy.yaml");
    succeed(&["policy", "fmt", "--check", example.to_str().unwrap()]);
}

#[test]
fn cases_and_simulations_need_no_packages() {
    let folder = Folder::new();
    let source = example().join("policy.yaml");
    let source = folder.file("policy.yaml", std::fs::read(source).unwrap());
    let error = fail(&["policy", "test", &source], 1);
    assert!(error.contains("there are no cases beside") && error.contains("policy.test.yaml"), "{error}");
    folder.file(
        "policy.test.yaml",
        "cases:\n  - name: a\n    context: { route: eurusd-direction, user: desk-1 }\n    expect: { variant: canary }\n",
    );
    assert_eq!(
        succeed(&["policy", "test", &source]),
        "ok     `a` (line 2)\n1 case, 1 passed, 0 failed; 1 decision\n"
    );
    let cases = folder.file(
        "other.yaml",
        "cases:\n  - name: a\n    context: { route: eurusd-direction, user: desk-1 }\n    expect: { variant: stable }\n",
    );
    let (code, out, error) = lockgate(&["policy", "test", &source, "--cases", &cases, "--json"]);
    let out: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &out["ok"], &out["failed"]), (1, &false.into(), &1.into()));
    assert_eq!(out["results"][0]["failures"][0]["differences"][0]["line"], 4);
    assert!(error.contains("1 of 1 case failed"), "{error}");

    let svg = folder.path("shares.svg");
    let arguments = [
        "policy",
        "simulate",
        &source,
        "--route",
        "eurusd-direction",
        "--users",
        "500",
        "--now",
        "0",
        "--svg",
        &svg,
    ];
    let out = succeed(&arguments);
    assert!(out.contains("stable") && out.contains("default"), "{out}");
    let picture = std::fs::read(&svg).unwrap();
    assert_eq!(succeed(&arguments), out);
    assert_eq!(std::fs::read(&svg).unwrap(), picture);
    let error = fail(&["policy", "simulate", &source, "--route", "eurusd-directon"], 1);
    assert!(error.contains("did you mean `eurusd-direction`?"), "{error}");
    let explain =
        ["policy", "explain", &source, "--route", "eurusd-direction", "--user", "alice", "--unavailable"];
    assert!(succeed(&[&explain[..], &["eurusd_gb@1.1.0"]].concat()).contains("fallback"));
    let error = fail(&[&explain[..], &["eurusd_gb@1.0.0"]].concat(), 1);
    assert!(error.contains("did you mean `eurusd_gb@1.1.0`?"), "{error}");
}

#[test]
fn settings_come_from_file_environment_and_flags() {
    let folder = Folder::new();
    let file = folder.file("c.toml", "queue = 7\nworkers = 3\nlisten = \"127.0.0.1:1\"\n");
    let output = Command::new(env!("CARGO_BIN_EXE_lockgate"))
        .args(["config", "show", "--json", "--config", &file, "--listen", "127.0.0.1:3"])
        .env("LOCKGATE_LISTEN", "127.0.0.1:2")
        .env("LOCKGATE_WORKERS", "4")
        .output()
        .unwrap();
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    let value = |name: &str| {
        let settings = shown["settings"].as_array().unwrap();
        let setting = settings.iter().find(|setting| setting["setting"] == name).unwrap();
        (setting["value"].as_str().unwrap().to_owned(), setting["origin"].as_str().unwrap().to_owned())
    };
    assert_eq!(value("queue"), ("7".to_owned(), format!("{file}:1")));
    assert_eq!(value("workers"), ("4".to_owned(), "LOCKGATE_WORKERS".to_owned()));
    assert_eq!(value("listen"), ("127.0.0.1:3".to_owned(), "--listen".to_owned()));
    assert_eq!(value("max_body"), ("16MiB".to_owned(), "default".to_owned()));
    let typo = folder.file("t.toml", "quue = 7\n");
    assert_eq!(
        fail(&["config", "show", "--config", &typo], 1),
        format!("error: {typo}:1: unknown setting `quue`\nhint: did you mean `queue`?\n")
    );
}

#[test]
fn help_completions_and_pipes_behave() {
    for command in
        ["serve", "package", "inspect", "predict", "policy", "keys", "decide", "config", "completions"]
    {
        assert!(succeed(&[command, "--help"]).contains("Usage: lockgate"), "{command}");
    }
    let help = succeed(&["--help"]);
    assert!(help.contains("Exit codes:") && help.contains("serve"));
    assert!(succeed(&["--version"]).starts_with("lockgate "));
    assert!(fail(&["sevre"], 2).contains("similar subcommand"));
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(succeed(&["completions", shell]).contains("lockgate"), "{shell}");
    }
    // A reader that closes early ends the program quietly.
    let mut child = Command::new(env!("CARGO_BIN_EXE_lockgate"))
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}
