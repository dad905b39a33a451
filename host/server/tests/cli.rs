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
    assert!(error.contains("11 more problems; `lockgate policy check --json` lists them all"), "{error}");
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
    assert!(error.contains("cannot read ") && error.contains("names it as a list of units"), "{error}");
    folder.file("big.txt", "alice\nbob \n");
    let error = fail(&["policy", "compile", &source, "-o", &bundle], 1);
    assert!(error.contains("big.txt:2: this unit begins or ends with white space"), "{error}");

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
