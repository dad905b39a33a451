//! Damaged bundles, packages and unit lists, given to the commands that read them: each ends in an error that names the file, none in
//! a panic. The server's side is in `server/hostile.rs`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/damage.rs"]
mod damage;

use std::path::{Path, PathBuf};
use std::process::Command;

use damage::{Damaged, damaged};
use lockgate_package::Kind;

const POLICY: &str = "
lockgate: 1
models: { eurusd_lr@1.0.0: }
segments:
  big: { users: { file: big.txt } }
layers:
  l: { salt: s, unit: user, holdout: 5 }
routes:
  r:
    variants:
      stable: { model: eurusd_lr@1.0.0, payload: { threshold: 0.5 } }
      canary: { model: eurusd_lr@1.0.0 }
    baseline: stable
    overrides: [{ user: alice, serve: canary }]
    test_groups: [{ name: big, segments: [big], serve: canary }]
    rules:
      - { name: german, if: { attribute: country, matches: '^(DE|AT)$' }, serve: canary }
      - { name: trial, experiment: { layer: l, share: 20, split: { stable: 50, canary: 50 } } }
    shadows: [{ name: s, variant: canary, sample: 10 }]
    default: { ramp: { to: canary, start: 2026-05-01T00:00:00Z, stages: [{ share: 10, hold: 1d }, { share: 100 }] } }
";

struct Folder(tempfile::TempDir);

impl Folder {
    /// A folder with `good.lgb` and its lists, and `packages/good.lgp`.
    fn prepared() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(folder.path("packages")).unwrap();
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/eurusd/models");
        let onnx = models.join("eurusd_lr.onnx");
        let named = ["--name", "eurusd_lr", "--version", "1.0.0", "--output", "packages/good.lgp"];
        folder.succeed(&[&["package", onnx.to_str().unwrap()], &named[..]].concat());
        std::fs::write(folder.path("policy.yaml"), POLICY).unwrap();
        let units: String = (0..3000).map(|number| format!("unit-{number}\n")).collect();
        std::fs::write(folder.path("big.txt"), units).unwrap();
        folder.succeed(&["policy", "compile", "policy.yaml", "--packages", "packages", "-o", "good.lgb"]);
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn succeed(&self, arguments: &[&str]) {
        let (code, error) = self.run(arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {error}");
    }

    /// Exit code, which a program that was killed has none of, and standard error.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let program = env!("CARGO_BIN_EXE_lockgate");
        let output = Command::new(program).args(arguments).current_dir(self.0.path()).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Gives a damaged file to a command.
    #[track_caller]
    fn check(&self, damaged: &Damaged, file: &str, command: &[&str]) {
        std::fs::write(self.path(file), &damaged.bytes).unwrap();
        let (code, error) = self.run(command);
        let about = format!("{command:?} on {file}, {}: {code:?} {error}", damaged.what);
        assert!(!error.contains("panicked"), "{about}");
        if damaged.is_resealed && code == Some(0) {
            return;
        }
        assert_eq!(code, Some(1), "{about}");
        let said = error.strip_prefix("error").is_some_and(|rest| rest.starts_with([':', '[']));
        assert!(said && error.contains(file), "{about}");
    }
}

#[test]
fn damaged_bundles_are_refused_by_name() {
    let folder = Folder::prepared();
    let good = std::fs::read(folder.path("good.lgb")).unwrap();
    let commands: [&[&str]; 7] = [
        &["decide", "bad.lgb", "--route", "r", "--user", "alice"],
        &["policy", "explain", "bad.lgb", "--route", "r", "--user", "unit-7", "--now", "0"],
        &["inspect", "bad.lgb"],
        &["policy", "source", "bad.lgb", "--verify"],
        &["policy", "diff", "good.lgb", "bad.lgb"],
        &["policy", "simulate", "bad.lgb", "--route", "r", "--users", "20", "--now", "0"],
        &["keys", "verify", "bad.lgb", "--min-version", "1"],
    ];
    for (damaged, command) in damaged(&good, Kind::Bundle, 3, 252).iter().zip(commands.iter().cycle()) {
        folder.check(damaged, "bad.lgb", command);
    }
    for command in commands {
        folder.succeed(
            &command
                .iter()
                .map(|word| if *word == "bad.lgb" { "good.lgb" } else { word })
                .collect::<Vec<_>>(),
        );
    }
}

#[test]
fn damaged_packages_are_refused_by_name() {
    let folder = Folder::prepared();
    let good = std::fs::read(folder.path("packages/good.lgp")).unwrap();
    std::fs::create_dir(folder.path("others")).unwrap();
    let zeros = "0".repeat(64);
    let commands: [&[&str]; 3] = [
        &["inspect", "others/bad.lgp"],
        &["policy", "check", "policy.yaml", "--packages", "others"],
        &["keys", "verify", "others/bad.lgp", "--pin", &zeros],
    ];
    for (damaged, command) in damaged(&good, Kind::Package, 5, 108).iter().zip(commands.iter().cycle()) {
        folder.check(damaged, "others/bad.lgp", command);
    }
}

#[test]
fn damaged_unit_lists_are_refused_by_name() {
    let folder = Folder::prepared();
    let list = std::fs::read_dir(folder.path("objects")).unwrap().next().unwrap().unwrap();
    let name = format!("objects/{}", list.file_name().to_str().unwrap());
    let good = std::fs::read(list.path()).unwrap();
    for damaged in damaged(&good, Kind::UnitList, 7, 45) {
        let decide = ["decide", "good.lgb", "--route", "r", "--user", "unit-7"];
        // A bundle names its lists by their digests, so one that was made to fit again is another list.
        folder.check(&Damaged { is_resealed: false, ..damaged }, &name, &decide);
    }
    std::fs::write(list.path(), good).unwrap();
    folder.succeed(&["decide", "good.lgb", "--route", "r", "--user", "unit-7"]);
}
