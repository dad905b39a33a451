//! A server that demands signatures and rising versions, across reloads and restarts.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{POLICY, Server, core, lockgate, packages, request};

/// Signed packages, a signed bundle per version, and the trusted public key of `release.pem`.
fn prepared() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    for name in ["trusted", "packages"] {
        std::fs::create_dir(path(name)).unwrap();
    }
    for key in ["release", "next"] {
        run(&["keys", "new", "--output", &path(&format!("{key}.pem"))]);
    }
    trust(&folder, "release");
    std::fs::write(path("policy.yaml"), POLICY).unwrap();
    for entry in std::fs::read_dir(packages()).unwrap() {
        let entry = entry.unwrap();
        let target = folder.path().join("packages").join(entry.file_name());
        std::fs::copy(entry.path(), &target).unwrap();
        sign(&folder, "release", target.to_str().unwrap());
    }
    let mut parent: Option<String> = None;
    for version in ["1", "2", "3"] {
        let bundle = path(&format!("{version}.lgb"));
        let (source, packages) = (path("policy.yaml"), path("packages"));
        let mut arguments = vec!["policy", "compile", &source, "--packages", &packages, "-o", &bundle];
        arguments.extend(["--bundle-version", version]);
        if let Some(parent) = &parent {
            arguments.extend(["--parent", parent]);
        }
        run(&arguments);
        parent = Some(bundle);
    }
    for version in ["1", "2", "3"] {
        sign(&folder, "release", &path(&format!("{version}.lgb")));
    }
    deploy(&folder, "1.lgb");
    folder
}

#[track_caller]
fn run(arguments: &[&str]) {
    let output = lockgate(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn sign(folder: &TempDir, key: &str, file: &str) {
    run(&["keys", "sign", "--key", folder.path().join(format!("{key}.pem")).to_str().unwrap(), file]);
}

fn trust(folder: &TempDir, key: &str) {
    let name = format!("{key}.pub.pem");
    std::fs::copy(folder.path().join(&name), folder.path().join("trusted").join(&name)).unwrap();
}

/// Makes a file the one that is served after the next reload or start.
fn deploy(folder: &TempDir, name: &str) {
    std::fs::copy(folder.path().join(name), folder.path().join("policy.lgb")).unwrap();
}

fn flags(folder: &Path) -> Vec<String> {
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let pairs = [
        ("--policy", "policy.lgb"),
        ("--packages", "packages"),
        ("--trust", "trusted"),
        ("--trust-state", "state.json"),
    ];
    pairs.iter().flat_map(|(flag, name)| [(*flag).to_owned(), path(name)]).collect()
}

fn start(folder: TempDir, more: &[&str]) -> Server {
    let flags = flags(folder.path());
    let flags: Vec<&str> = flags.iter().map(String::as_str).chain(more.iter().copied()).collect();
    Server::start_in(folder, &core(false), &flags)
}

/// A start that must be refused; returns the last lines of the standard error.
#[track_caller]
fn refused(folder: &TempDir, more: &[&str]) -> String {
    let core = core(false);
    let Output { status, stderr, .. } = Command::new(env!("CARGO_BIN_EXE_lockgate"))
        .args(["serve", "--listen", "127.0.0.1:0", "--core", core.to_str().unwrap()])
        .args(flags(folder.path()))
        .args(more)
        .output()
        .unwrap();
    let text = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{text}");
    let start = text.rfind("\nerror").map_or(0, |at| at + 1);
    text[start..].replace(&format!("{}/", folder.path().display()), "")
}

/// Version and code of the newest load, as `/health` tells them.
fn health(server: &Server) -> (Value, Value) {
    let policy = server.get("/health").json()["parts"]["policy"].clone();
    (policy["version"].clone(), policy["last_load"]["code"].clone())
}

/// How many loads there were.
fn loads(server: &Server) -> f64 {
    ["success", "failure"]
        .iter()
        .filter_map(|result| server.metric(&format!("lockgate_reloads_total{{result=\"{result}\"}}")))
        .sum()
}

/// Reloads, and sees that it went as expected.
#[track_caller]
fn reload(server: &mut Server, version: u64, code: Value) {
    let before = loads(server);
    server.signal("-HUP");
    server.wait_for("the reload", |server| loads(server) > before);
    assert_eq!(health(server), (json!(version), code), "{}", server.log());
    let answer = server.infer("direction", &request(1, &json!({ "user": "alice" })));
    assert_eq!(answer.parameter("bundle_version"), version);
}

fn state(folder: &TempDir) -> Value {
    serde_json::from_slice(&std::fs::read(folder.path().join("state.json")).unwrap()).unwrap()
}

#[test]
fn only_trusted_content_is_loaded_and_refusals_change_nothing() {
    let mut server = start(prepared(), &[]);
    assert_eq!((health(&server).0, &state(&server.folder)["version"]), (json!(1), &json!(1)));

    let path = |server: &Server, name: &str| server.folder.path().join(name).to_str().unwrap().to_owned();
    let copied = |server: &Server, from: &str, to: &str| {
        std::fs::copy(server.folder.path().join(from), server.folder.path().join(to)).unwrap();
    };
    // Never signed.
    let (source, packages) = (path(&server, "policy.yaml"), path(&server, "packages"));
    let unsigned = path(&server, "unsigned.lgb");
    run(&["policy", "compile", &source, "--packages", &packages, "--bundle-version", "2", "-o", &unsigned]);
    deploy(&server.folder, "unsigned.lgb");
    reload(&mut server, 1, json!("unsigned"));
    assert_eq!(server.get("/health").json()["status"], "degraded");
    // Signed by a key that nobody here trusts.
    sign(&server.folder, "next", &unsigned);
    deploy(&server.folder, "unsigned.lgb");
    reload(&mut server, 1, json!("unknown_key"));
    // Signed, then spoilt.
    let mut bytes = std::fs::read(path(&server, "2.lgb")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(path(&server, "policy.lgb"), bytes).unwrap();
    reload(&mut server, 1, json!("bad_signature"));
    assert!(server.log().contains("policy.lgb: the policy bundle sha256:"), "{}", server.log());
    // A source has nobody's signature.
    copied(&server, "policy.yaml", "policy.lgb");
    reload(&mut server, 1, json!("unsigned"));
    // A package that lost its signature.
    deploy(&server.folder, "2.lgb");
    let package = "eurusd_lr-1.0.0.lgp";
    let signed = std::fs::read(path(&server, &format!("packages/{package}"))).unwrap();
    let plain = Path::new(crate::harness::packages()).join(package);
    std::fs::copy(plain, path(&server, &format!("packages/{package}"))).unwrap();
    reload(&mut server, 1, json!("unsigned"));
    assert!(server.log().contains(&format!("{package}: the model package sha256:")), "{}", server.log());
    std::fs::write(path(&server, &format!("packages/{package}")), signed).unwrap();

    reload(&mut server, 2, Value::Null);
    assert_eq!(state(&server.folder)["version"], 2);
    deploy(&server.folder, "1.lgb");
    reload(&mut server, 2, json!("older_version"));
    // Nobody trusts the old key any more: what was signed with it alone is refused, with both it is fine.
    trust(&server.folder, "next");
    std::fs::remove_file(path(&server, "trusted/release.pub.pem")).unwrap();
    deploy(&server.folder, "3.lgb");
    reload(&mut server, 2, json!("unknown_key"));
    sign(&server.folder, "next", &path(&server, "3.lgb"));
    for entry in std::fs::read_dir(path(&server, "packages")).unwrap() {
        sign(&server.folder, "next", entry.unwrap().path().to_str().unwrap());
    }
    deploy(&server.folder, "3.lgb");
    reload(&mut server, 3, Value::Null);
    assert_eq!(server.get("/health").json()["status"], "healthy");
}

#[test]
fn a_restart_forgets_no_version() {
    let folder = prepared();
    deploy(&folder, "2.lgb");
    drop(start(copy_of(&folder), &[]));
    let mut server = start(folder, &[]);
    server.signal("-TERM");
    assert_eq!(server.process.wait().unwrap().code(), Some(0));
    let folder = copy_of(&server.folder);
    assert_eq!(state(&folder)["version"], 2);

    deploy(&folder, "1.lgb");
    let error = refused(&folder, &[]);
    assert!(
        error.starts_with("error[older_version]: policy.lgb: the policy bundle has version 1 (sha256:")
            && error.contains("), which is older than version 2 (sha256:")
            && error.ends_with(
                "), which was accepted before\n\
                 hint: compile it under a higher version; a rollback, too, is old content under a higher version\n"
            ),
        "{error}"
    );
    deploy(&folder, "2.lgb");
    assert!(refused(&folder, &["--min-version", "3"]).starts_with("error[below_min_version]: policy.lgb: "));
    let pin = "7".repeat(64);
    assert!(refused(&folder, &["--pin", &pin]).starts_with("error[wrong_pin]: policy.lgb: "));
    // The chain: 3 names 2 as its parent, so 1 must not have been the newest.
    deploy(&folder, "3.lgb");
    let mut state = state(&folder);
    let two = state.clone();
    state["version"] = json!(1);
    state["digest"] = json!(pin);
    std::fs::write(folder.path().join("state.json"), state.to_string()).unwrap();
    let error = refused(&folder, &["--require-parent", "true"]);
    assert!(
        error.starts_with("error[wrong_parent]: policy.lgb: the policy bundle version 3 replaces sha256:"),
        "{error}"
    );
    assert!(error.contains(&format!(", expected it to replace sha256:{pin}\nhint: ")), "{error}");
    // A damaged memory is not an empty one.
    std::fs::write(folder.path().join("state.json"), "{").unwrap();
    let error = refused(&folder, &[]);
    assert!(error.starts_with("error[trust_state]: state.json: this is no trust state: "), "{error}");

    std::fs::write(folder.path().join("state.json"), two.to_string()).unwrap();
    let server = start(folder, &["--require-parent", "true"]);
    assert_eq!(health(&server).0, 3);
}

/// The files as they are, in another folder.
fn copy_of(folder: &TempDir) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    let from = format!("{}/.", folder.path().display());
    assert!(Command::new("cp").args(["-R", &from]).arg(copy.path()).status().unwrap().success());
    copy
}
