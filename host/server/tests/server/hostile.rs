//! Damaged content on reload and at the start: refused with the file's name, and what was served goes on.

use std::process::Command;

use lockgate_package::Kind;
use serde_json::json;

use crate::damage::{Damaged, damaged};
use crate::harness::{POLICY, Server, core, lockgate, packages, request};

const SEGMENT: &str = "segments:\n  big: { users: { file: big.txt } }\nroutes:";

/// A folder with a bundle, its lists and its packages.
fn prepared() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::create_dir(path("packages")).unwrap();
    for entry in std::fs::read_dir(packages()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.path().join("packages").join(entry.file_name())).unwrap();
    }
    let units: String = (0..3000).map(|number| format!("unit-{number}\n")).collect();
    std::fs::write(path("big.txt"), units).unwrap();
    let policy = POLICY.replace("routes:", SEGMENT).replace(
        "{ name: acme, tenants: [acme], serve: forest }",
        "{ name: big, segments: [big], serve: forest }",
    );
    std::fs::write(path("policy.yaml"), policy).unwrap();
    let (source, target) = (path("policy.yaml"), path("policy.lgb"));
    let output = lockgate(&["policy", "compile", &source, "--packages", &path("packages"), "-o", &target]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    folder
}

fn flags(folder: &tempfile::TempDir) -> Vec<String> {
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    vec!["--policy".to_owned(), path("policy.lgb"), "--packages".to_owned(), path("packages")]
}

fn loads(server: &Server, result: &str) -> f64 {
    server.metric(&format!("lockgate_reloads_total{{result=\"{result}\"}}")).unwrap_or_default()
}

/// Reloads; returns whether that succeeded.
fn reload(server: &mut Server) -> bool {
    let before = (loads(server, "success"), loads(server, "failure"));
    server.signal("-HUP");
    server.wait_for("the reload", |server| (loads(server, "success"), loads(server, "failure")) != before);
    loads(server, "success") > before.0
}

/// Which file is damaged, and what it is.
fn targets(folder: &tempfile::TempDir) -> [(String, Kind, u64, usize); 3] {
    let list = std::fs::read_dir(folder.path().join("objects")).unwrap().next().unwrap().unwrap();
    let list = format!("objects/{}", list.file_name().to_str().unwrap());
    let package = std::fs::read_dir(folder.path().join("packages")).unwrap();
    let mut packages: Vec<_> =
        package.map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned()).collect();
    packages.sort();
    let package = format!("packages/{}", packages[0]);
    [
        ("policy.lgb".to_owned(), Kind::Bundle, 11, 36),
        (package, Kind::Package, 13, 18),
        (list, Kind::UnitList, 17, 9),
    ]
}

#[test]
fn a_running_server_keeps_what_it_serves() {
    let folder = prepared();
    let (targets, flags) = (targets(&folder), flags(&folder));
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let mut server = Server::start_in(folder, &core(false), &flags);
    // It is ready a moment before it counts its first load.
    server.wait_for("the first load", |server| loads(server, "success") > 0.0);
    let ask = request(1, &json!({ "user": "unit-7" }));
    let expected = server.infer("direction", &ask);
    assert_eq!(expected.parameter("variant"), "forest", "the list is in use");
    let outputs = |server: &Server| server.infer("direction", &ask).json()["outputs"].clone();
    let identity = |server: &Server| {
        let policy = server.get("/health").json()["parts"]["policy"].clone();
        (policy["version"].clone(), policy["digest"].clone())
    };
    let before = identity(&server);
    for (name, kind, seed, count) in targets {
        let file = server.folder.path().join(&name);
        let good = std::fs::read(&file).unwrap();
        for Damaged { what, bytes, is_resealed } in damaged(&good, kind, seed, count) {
            std::fs::write(&file, bytes).unwrap();
            let accepted = reload(&mut server);
            let about = || format!("{name}, {what}:\n{}", server.log());
            if accepted {
                // What it says makes sense after all; it is answered from, for better or worse.
                assert!(is_resealed, "{}", about());
                assert_ne!(server.infer("direction", &ask).status, 0, "{}", about());
            } else {
                let last = server.get("/health").json()["parts"]["policy"]["last_load"].clone();
                let error = last["error"].as_str().unwrap();
                // A package that was made to fit again is sound, and another one than the bundle names.
                assert!(error.contains(name.as_str()) || is_resealed, "{error}: {}", about());
                assert_eq!(server.get("/health").json()["status"], "degraded", "{}", about());
            }
            std::fs::write(&file, &good).unwrap();
            if accepted {
                assert!(reload(&mut server), "{name}, {what}:\n{}", server.log());
            }
            assert_eq!(identity(&server), before, "{name}, {what}");
            assert_eq!(outputs(&server), expected.json()["outputs"], "{name}, {what}");
        }
    }
    assert!(reload(&mut server), "{}", server.log());
    assert!(!server.log().contains("panicked"), "{}", server.log());
    assert!(server.process.try_wait().unwrap().is_none());
}

#[test]
fn a_server_does_not_start_on_damaged_content() {
    let folder = prepared();
    let core = core(false);
    for (name, kind, seed, _) in targets(&folder) {
        let file = folder.path().join(&name);
        let good = std::fs::read(&file).unwrap();
        // Those that were made to fit again may be sound; the others never are.
        let all = damaged(&good, kind, seed + 1, 9);
        for Damaged { what, bytes, .. } in all.iter().filter(|damaged| !damaged.is_resealed) {
            std::fs::write(&file, bytes).unwrap();
            let output = Command::new(env!("CARGO_BIN_EXE_lockgate"))
                .args(["serve", "--listen", "127.0.0.1:0", "--core", core.to_str().unwrap()])
                .args(flags(&folder))
                .output()
                .unwrap();
            let error = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{name}, {what}: {error}");
            let last = &error[error.rfind("\nerror").unwrap_or_default()..];
            assert!(last.contains(name.as_str()) && !error.contains("panicked"), "{name}, {what}: {error}");
        }
        std::fs::write(&file, good).unwrap();
    }
}
