//! Installing bundles and packages, and what is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use lockgate_runtime::{InstallError, Runtime};

use crate::support::{self, MODELS, POLICY, World, infer, package, rows, user};

fn empty() -> Runtime {
    Runtime::builder(support::core()).settings(support::settings()).build().unwrap()
}

fn version(number: u32) -> String {
    POLICY.replace("\nversion: 1\n", &format!("\nversion: {number}\n"))
}

/// Installs into a runtime that serves version 2, and sees that it still does after the refusal.
fn check(bundle: Vec<u8>, packages: Vec<Vec<u8>>, expected: &str) -> InstallError {
    let runtime = empty();
    World::new(&version(2), &MODELS).install(&runtime);
    let error = runtime.install(Some(bundle), packages).unwrap_err();
    assert!(error.to_string().starts_with(expected), "{error}");
    let answer = runtime.infer(infer(vec![user("alice")], vec![rows(1)])).unwrap();
    assert_eq!(answer.bundle.version, 2);
    assert_eq!((runtime.stats().installs, runtime.stats().failed_installs), (1, 1));
    error
}

#[test]
fn what_cannot_serve_is_refused_and_the_old_stays() {
    let world = || World::new(&version(3), &MODELS);
    let (bundle, packages) = (world().bundle, world().packages);

    let mut damaged = bundle.clone();
    let last = damaged.len() / 2;
    damaged[last] ^= 1;
    check(damaged, packages.clone(), "the policy bundle cannot be used: the policy bundle is damaged");
    check(b"PK".to_vec(), packages.clone(), "the policy bundle cannot be used: not a Lockgate policy bundle");
    check(
        packages[0].clone(),
        packages.clone(),
        "the policy bundle cannot be used: expected a policy bundle, found a model package",
    );
    let mut damaged = packages.clone();
    let last = damaged[1].len() / 2;
    damaged[1][last] ^= 1;
    check(bundle.clone(), damaged, "package number 2 cannot be used: the model package is damaged");

    let error =
        check(bundle, vec![package("eurusd_lr@1.0.0")], "the bundle needs packages that are missing:\n");
    let InstallError::Missing(missing) = error else { panic!("{error}") };
    let digest = |name| support::digest(&package(name)).short();
    assert_eq!(
        missing,
        [
            format!("eurusd_gb@1.1.0, package {}", digest("eurusd_gb@1.1.0")),
            format!("eurusd_rf_a@1.0.0, package {}", digest("eurusd_rf_a@1.0.0")),
        ]
    );
}

#[test]
fn a_bundle_only_gives_way_to_a_newer_one() {
    let packages = || World::new(POLICY, &MODELS).packages;
    let older = "the bundle: the policy bundle has version 1 (sha256:";
    let error = check(World::new(&version(1), &MODELS).bundle, packages(), older);
    assert_eq!(error.code(), "older_version");
    let other = version(2).replace("stable: 50, canary: 50", "stable: 60, canary: 40");
    let conflict = "the bundle: the policy bundle has version 2 but is sha256:";
    let error = check(World::new(&other, &MODELS).bundle, packages(), conflict);
    assert_eq!(error.code(), "version_conflict");
    assert!(error.hint().unwrap().contains("a rollback, too, is old content under a higher version"));

    let runtime = empty();
    for number in [1, 1, 4] {
        World::new(&version(number), &MODELS).install(&runtime);
    }
    assert_eq!(runtime.status().generation, 3);
    assert_eq!(runtime.status().bundle.unwrap().id.version, 4);
}

#[test]
fn two_packages_of_one_name_are_refused() {
    let again = {
        let onnx = std::fs::read(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../examples/eurusd/models/eurusd_mlp.onnx"
        ));
        let source = r#"{"model": "eurusd_lr", "version": "1.0.0"}"#;
        let source: lockgate_package::import::ManifestSource = serde_json::from_str(source).unwrap();
        lockgate_package::import::import(&onnx.unwrap(), &source, &Default::default()).unwrap()
    };
    let mut packages = World::new(POLICY, &MODELS).packages;
    packages.push(again);
    check(
        World::new(&version(3), &MODELS).bundle,
        packages,
        "two packages are called eurusd_lr@1.0.0 but differ: ",
    );
}

#[test]
fn packages_that_the_bundle_does_not_pin_are_left_out() {
    let runtime = empty();
    let world = World::new(POLICY, &MODELS);
    let mut packages = world.packages;
    packages.push(package("eurusd_mlp@1.0.0"));
    let installed = runtime.install(Some(world.bundle), packages).unwrap();
    assert_eq!((installed.models, installed.unused.as_slice()), (3, &["eurusd_mlp@1.0.0".to_owned()][..]));
    assert_eq!(runtime.generation().models().len(), 3);
}

#[test]
fn a_swap_under_load_fails_no_request() {
    let runtime = Arc::new(empty());
    World::new(POLICY, &MODELS).install(&runtime);
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (runtime, stop) = (Arc::clone(&runtime), Arc::clone(&stop));
            thread::spawn(move || {
                let mut newest = 0;
                // Each asks at least once, however late its thread begins.
                loop {
                    let contexts = ["stable", "alice", "forest"].map(user).to_vec();
                    let answer = runtime.infer(infer(contexts, vec![rows(3)])).unwrap();
                    assert!(answer.bundle.version >= newest, "an answer went back to an older bundle");
                    newest = answer.bundle.version;
                    if stop.load(Ordering::Relaxed) {
                        return newest;
                    }
                }
            })
        })
        .collect();
    for number in 2..12 {
        World::new(&version(number), &MODELS).install(&runtime);
    }
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        assert!(caller.join().unwrap() > 0);
    }
    let last = runtime.infer(infer(vec![user("alice")], vec![rows(1)])).unwrap();
    assert_eq!(last.bundle.version, 11);
}

#[test]
fn workers_let_go_of_what_is_no_longer_installed() {
    let runtime = empty();
    World::new(POLICY, &MODELS).install(&runtime);
    for name in ["stable", "alice", "forest"] {
        runtime.infer(infer(vec![user(name)], vec![rows(1)])).unwrap();
    }
    assert!(runtime.stats().tabular.instances >= 3);
    runtime.install(None, Vec::new()).unwrap();
    while runtime.stats().tabular.instances > 0 || runtime.stats().policy.instances > 0 {
        thread::yield_now();
    }
    assert_eq!(runtime.stats().tabular.memory, 0);
}
