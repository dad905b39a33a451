//! `lockgate init spin`: the project answers as it was written, and with another model and policy.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::composition::as_spin_composes;
use crate::fixtures::{app, core_folder, program, root};
use crate::host::{Ask, Host, World};

#[tokio::test]
async fn a_new_project_answers() {
    let home = tempfile::tempdir().unwrap();
    let (project, shells) = (home.path().join("project"), home.path().join("shells"));
    std::fs::create_dir_all(shells.join("spin")).unwrap();
    std::fs::write(shells.join("spin/lockgate.wasm"), app()).unwrap();
    let core = core_folder(false);
    let output = Command::new(program())
        .args(["init", "spin"])
        .arg(&project)
        .args(["--core".as_ref(), core.as_os_str(), "--shells".as_ref(), shells.as_os_str()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let request = std::fs::read(project.join("request.json")).unwrap();
    let infer = |route: &str| Ask::post(&format!("/v2/models/{route}/infer"), request.clone());
    let world = World::new();
    let answer = composed(&project).send(&world, infer("direction")).await.unwrap();
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    assert_eq!(answer.json()["parameters"]["variant"], json!("canary"));

    // A model and a policy of one's own, built as `spin build` does.
    for name in ["eurusd_lr", "eurusd_gb"] {
        for end in ["onnx", "manifest.yaml"] {
            std::fs::remove_file(project.join(format!("models/{name}.{end}"))).unwrap();
        }
    }
    for end in ["onnx", "manifest.yaml"] {
        let model = root().join(format!("examples/eurusd/models/eurusd_rfr.{end}"));
        std::fs::copy(model, project.join(format!("models/mine.{end}"))).unwrap();
    }
    let policy = "lockgate: 1\nversion: 2\nmodels: { eurusd_rfr@1.0.0: }\nroutes:\n  returns:\n    \
                  variants: { forest: { model: eurusd_rfr@1.0.0 } }\n    baseline: forest\n    default: { serve: forest }\n";
    std::fs::write(project.join("policy.yaml"), policy).unwrap();
    let manifest = manifest(&project);
    let path = format!("{}:{}", program().parent().unwrap().display(), std::env::var("PATH").unwrap());
    let build = Command::new("sh")
        .args(["-c", manifest["component"]["lockgate"]["build"]["command"].as_str().unwrap()])
        .current_dir(&project)
        .env("PATH", path)
        .env("LOCKGATE_CORE", core_folder(false))
        .output()
        .unwrap();
    assert!(build.status.success(), "{}", String::from_utf8_lossy(&build.stderr));
    let host = composed(&project);
    let answer = host.send(&world, infer("returns")).await.unwrap();
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    assert_eq!(answer.json()["parameters"]["variant"], json!("forest"));
    assert_eq!(answer.json()["parameters"]["bundle_version"], json!(2));
    assert_eq!(host.send(&world, infer("direction")).await.unwrap().status, 404);
}

fn manifest(project: &Path) -> toml::Table {
    std::fs::read_to_string(project.join("spin.toml")).unwrap().parse().unwrap()
}

/// As Spin composes what `spin.toml` names.
fn composed(project: &Path) -> Host {
    let manifest = manifest(project);
    let component = &manifest["component"]["lockgate"];
    let source = std::fs::read(project.join(component["source"].as_str().unwrap())).unwrap();
    Host::new(&as_spin_composes(&source, component, project).unwrap())
}
