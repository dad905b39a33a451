//! `lockgate init`: projects that run as they are. What the Worker and the Spin application do is tested where those run.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::harness::{Server, core};

fn init(arguments: &[&str]) -> Output {
    let core = core(false);
    crate::harness::lockgate(&[&["init"], arguments, &["--core", core.to_str().unwrap()]].concat())
}

#[track_caller]
fn error(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Shells that hold their names alone.
fn shells(home: &Path) -> String {
    for (shell, names) in
        [("cloudflare", ["worker.js", "shell_bg.wasm"].as_slice()), ("spin", &["lockgate.wasm"])]
    {
        let folder = home.join("shells").join(shell);
        std::fs::create_dir_all(&folder).unwrap();
        names.iter().for_each(|name| std::fs::write(folder.join(name), name).unwrap());
    }
    home.join("shells").to_str().unwrap().to_owned()
}

#[test]
fn a_server_serves_at_once() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("new/project");
    let output = init(&["host", folder.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("next: cd ") && said.trim_end().ends_with("lockgate serve"), "{said}");

    let mut command = Command::new(env!("CARGO_BIN_EXE_lockgate"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--core", core(false).to_str().unwrap()]);
    command.current_dir(&folder).stdin(Stdio::null());
    let server = Server::spawn(tempfile::tempdir().unwrap(), command);
    let request = std::fs::read(folder.join("request.json")).unwrap();
    let answer = server.post("/v2/models/direction/infer", &[], &request);
    assert_eq!(answer.parameter("variant"), "canary", "the request comes from alice");

    // The cases beside the policy hold.
    let test = Command::new(env!("CARGO_BIN_EXE_lockgate"))
        .args(["policy", "test", "policy.yaml"])
        .current_dir(&folder)
        .output()
        .unwrap();
    assert!(test.status.success(), "{}", String::from_utf8_lossy(&test.stdout));
    // Building again changes nothing.
    let program = Path::new(env!("CARGO_BIN_EXE_lockgate")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let build = Command::new("./build.sh").current_dir(&folder).env("PATH", path).output().unwrap();
    assert!(build.status.success(), "{}", String::from_utf8_lossy(&build.stderr));
}

#[test]
fn projects_hold_what_their_platform_wants() {
    let home = tempfile::tempdir().unwrap();
    let shells = shells(home.path());
    for (platform, names) in [
        (
            "cloudflare",
            [
                "wrangler.toml",
                "worker/worker.js",
                "worker/shell_bg.wasm",
                "worker/policy.wasm",
                "worker/catalog.json",
            ]
            .as_slice(),
        ),
        (
            "spin",
            &[
                "spin.toml",
                "lockgate.wasm",
                "core/policy.component.wasm",
                "core/inference.component.wasm",
                "core/about.component.wasm",
            ],
        ),
    ] {
        let folder = home.path().join(platform);
        let output = init(&["--json", platform, folder.to_str().unwrap(), "--shells", &shells]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let made: Value = serde_json::from_slice(&output.stdout).unwrap();
        for name in names.iter().chain(&[
            "policy.yaml",
            "models/eurusd_lr.onnx",
            "packages/eurusd_gb-1.1.0.lgp",
            "build.sh",
            "README.md",
        ]) {
            assert!(folder.join(name).is_file(), "{platform}: {name}");
            assert!(
                made["files"].as_array().unwrap().iter().any(|file| file == name),
                "{platform}: {name} is not listed"
            );
        }
        let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
        assert!(readme.contains("request.json"));
    }
    let spin = std::fs::read_to_string(home.path().join("spin/spin.toml")).unwrap();
    for line in [
        "source = \"lockgate.wasm\"",
        "command = \"sh build.sh\"",
        "\"lockgate:core@0.1.0\" = { path = \"core/policy.component.wasm\" }",
        "\"lockgate:about@0.1.0\" = { path = \"core/about.component.wasm\" }",
        "inference = { path = \"core/inference.component.wasm\", export = \"lockgate:core/inference@0.1.0\" }",
    ] {
        assert_eq!(spin.matches(line).count(), 1, "{line}");
    }
    // Every file that the Worker uploads is named by wrangler.toml.
    let wrangler = std::fs::read_to_string(home.path().join("cloudflare/wrangler.toml")).unwrap();
    for name in
        ["worker.js", "shell_bg.wasm", "policy.wasm", "inference.wasm", "catalog.json", "manifest.json"]
    {
        assert!(
            wrangler.contains(name) && home.path().join("cloudflare/worker").join(name).is_file(),
            "{name}"
        );
    }
}

#[test]
fn nothing_is_overwritten() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().to_str().unwrap();
    std::fs::write(home.path().join("policy.yaml"), "mine").unwrap();
    std::fs::write(home.path().join("notes.txt"), "mine").unwrap();
    let refused = error(&init(&["host", folder]));
    assert!(refused.contains("holds policy.yaml already; nothing was written"), "{refused}");
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 2);
    // A link that leads nowhere is somebody's, too.
    std::fs::remove_file(home.path().join("policy.yaml")).unwrap();
    std::os::unix::fs::symlink("nowhere", home.path().join("packages")).unwrap();
    let refused = error(&init(&["host", folder]));
    assert!(refused.contains("packages"), "{refused}");
    std::fs::remove_file(home.path().join("packages")).unwrap();
    assert!(init(&["host", folder]).status.success());
    assert_eq!(std::fs::read_to_string(home.path().join("notes.txt")).unwrap(), "mine");
    assert!(error(&init(&["host", folder])).contains("nothing was written"));
}

/// Two projects must not replace each other where they are deployed.
#[test]
fn a_project_is_called_after_its_folder_or_as_it_is_told() {
    let home = tempfile::tempdir().unwrap();
    let shells = shells(home.path());
    for (platform, file, folder, name, expected) in [
        ("cloudflare", "wrangler.toml", "direction", None, "direction"),
        ("spin", "spin.toml", "My Models_2", None, "my-models-2"),
        ("spin", "spin.toml", "7", None, "lockgate"),
        ("cloudflare", "wrangler.toml", "Ünicode", None, "nicode"),
        ("cloudflare", "wrangler.toml", "told", Some("far-away"), "far-away"),
    ] {
        let folder = home.path().join(folder);
        let mut arguments = vec![platform, folder.to_str().unwrap(), "--shells", &shells];
        arguments.extend(name.map(|name| ["--name", name]).into_iter().flatten());
        let output = init(&arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        let found: toml::Table = text.parse().unwrap();
        let found = found.get("application").map_or(&found, |found| found.as_table().unwrap());
        assert_eq!(found["name"].as_str(), Some(expected));
    }
    let folder = home.path().join("project");
    let long = "a".repeat(55);
    for name in ["", "My App", "7up", "a--b", "-a", "a-", "a.b", "a\"\nmain = \"x", &long] {
        let name = format!("--name={name}");
        let refused = error(&init(&["spin", folder.to_str().unwrap(), "--shells", &shells, &name]));
        assert!(refused.contains("cannot be the name of a deployment"), "{name}: {refused}");
        assert!(refused.contains("hint: take a letter, then letters, digits and single dashes"), "{refused}");
        assert!(!folder.exists());
    }
}

/// A program that was compiled where no shells lie carries none, and says what to do about it.
#[test]
fn shells_are_carried_or_said_to_be_missing() {
    let home = tempfile::tempdir().unwrap();
    for (platform, shell, file) in [
        ("cloudflare", lockgate_shells::Shell::Cloudflare, "worker/shell_bg.wasm"),
        ("spin", lockgate_shells::Shell::Spin, "lockgate.wasm"),
    ] {
        let folder = home.path().join(platform);
        let output = init(&[platform, folder.to_str().unwrap()]);
        if shell.files(None).is_ok() {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert!(std::fs::read(folder.join(file)).unwrap().starts_with(b"\0asm"));
            continue;
        }
        let refused = error(&output);
        assert!(
            refused.contains(&format!("this program was built without the shell for {platform}")),
            "{refused}"
        );
        assert!(refused.contains("run `cargo xtask shells` and pass `--shells target/shells`"), "{refused}");
        assert!(!folder.exists());
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_said() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("file");
    std::fs::write(&file, "mine").unwrap();
    for folder in [file.clone(), file.join("below")] {
        let refused = error(&init(&["host", folder.to_str().unwrap()]));
        assert!(refused.contains(&format!("cannot make the folder {}", folder.display())), "{refused}");
        assert!(refused.contains("is no folder"), "{refused}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    // Nobody writes there, whoever runs this.
    let refused = error(&init(&["host", "/proc/lockgate"]));
    assert!(refused.contains("cannot make the folder /proc/lockgate: "), "{refused}");
}

#[test]
fn a_project_that_cannot_be_built_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("project");
    let missing = error(&init(&["spin", folder.to_str().unwrap(), "--shells", "/nowhere"]));
    assert!(missing.contains("cannot read /nowhere/spin/lockgate.wasm"), "{missing}");
    let shells = shells(home.path());
    let output = crate::harness::lockgate(&[
        "init",
        "spin",
        folder.to_str().unwrap(),
        "--shells",
        &shells,
        "--core",
        "/nowhere",
    ]);
    let refused = error(&output);
    assert!(refused.contains("the project cannot be built: cannot read /nowhere/manifest.json"), "{refused}");
    assert!(!folder.exists());
}
