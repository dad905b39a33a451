//! The core, packages of the example's models, and policies over them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lockgate_core::CoreModules;
use lockgate_package::import::{ImportOptions, ManifestSource, import};
use lockgate_package::{AlignedBytes, Digest, Package, Tensor};
use lockgate_policy::{CompileOptions, PackageRef, check, compile, parse};
use lockgate_runtime::{Context, InferRequest, PredictRequest, Runtime, Settings};

/// `alice` gets the canary, `forest` the forest, everyone else a split of two versions by user.
pub(crate) const POLICY: &str = "
lockgate: 1
version: 1
models:
  eurusd_lr@1.0.0:
  eurusd_gb@1.1.0:
  eurusd_rf_a@1.0.0:
routes:
  eurusd-direction:
    unit: user
    variants:
      stable: { model: eurusd_lr@1.0.0, payload: { threshold: 0.5 } }
      canary: { model: eurusd_gb@1.1.0 }
      forest: { model: eurusd_rf_a@1.0.0 }
    baseline: stable
    overrides:
      - { user: alice, serve: canary }
      - { user: forest, serve: forest }
      - { user: stable, serve: stable }
    default:
      split: { stable: 50, canary: 50 }
";

pub(crate) const MODELS: [&str; 3] = ["eurusd_lr@1.0.0", "eurusd_gb@1.1.0", "eurusd_rf_a@1.0.0"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The folder of the built core, or of the fault core in it.
pub(crate) fn core_folder(folder: &str) -> PathBuf {
    let target = || std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    std::env::var_os("LOCKGATE_CORE_DIR").map_or_else(|| target().join("core"), PathBuf::from).join(folder)
}

fn core_in(folder: &str) -> CoreModules {
    match CoreModules::from_dir(&core_folder(folder)) {
        Ok(core) => core,
        Err(error) => panic!("these tests need the built core: run `cargo xtask build` first\n{error}"),
    }
}

/// The real core.
pub(crate) fn core() -> CoreModules {
    core_in("")
}

/// The fault core.
pub(crate) fn fault_core() -> CoreModules {
    core_in("fault")
}

/// A package of one of the example's models. Importing takes its time, so each is made once.
pub(crate) fn package(name: &str) -> Vec<u8> {
    static MADE: Mutex<BTreeMap<String, Vec<u8>>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.entry(name.to_owned()).or_insert_with(|| make_package(name)).clone()
}

fn make_package(name: &str) -> Vec<u8> {
    let (model, version) = name.split_once('@').unwrap();
    let onnx = std::fs::read(root().join("examples/eurusd/models").join(format!("{model}.onnx"))).unwrap();
    let range = r#"{"name": "NAME", "min": -1.0, "max": 1.0}"#;
    let features: Vec<_> = (0..17).map(|index| range.replace("NAME", &format!("return-{index}"))).collect();
    let source =
        format!(r#"{{"model": "{model}", "version": "{version}", "features": [{}]}}"#, features.join(","));
    let source: ManifestSource = serde_json::from_str(&source).unwrap();
    import(&onnx, &source, &ImportOptions::default()).unwrap()
}

pub(crate) fn digest(package: &[u8]) -> Digest {
    Package::open(AlignedBytes::copy_of(package)).unwrap().digest()
}

/// A compiled policy and its packages.
pub(crate) struct World {
    pub(crate) bundle: Vec<u8>,
    pub(crate) packages: Vec<Vec<u8>>,
}

impl World {
    pub(crate) fn new(policy: &str, models: &[&str]) -> Self {
        let packages: Vec<_> = models.iter().map(|name| package(name)).collect();
        let references: Vec<_> = packages
            .iter()
            .map(|bytes| {
                let package = Package::open(AlignedBytes::copy_of(bytes)).unwrap();
                PackageRef::new(package.manifest(), package.digest())
            })
            .collect();
        let file = if policy.starts_with('{') { "policy.json" } else { "policy.yaml" };
        let policy = check(&parse(file, policy).unwrap()).unwrap();
        let options = CompileOptions { packages: &references, ..CompileOptions::default() };
        Self { bundle: compile(&policy, &options).unwrap().bundle, packages }
    }

    pub(crate) fn install(self, runtime: &Runtime) {
        runtime.install(Some(self.bundle), self.packages).unwrap();
    }
}

pub(crate) fn settings() -> Settings {
    Settings { workers: 2, ..Settings::default() }
}

pub(crate) fn runtime(core: CoreModules, settings: Settings) -> Runtime {
    let runtime = Runtime::builder(core).settings(settings).build().unwrap();
    World::new(POLICY, &MODELS).install(&runtime);
    runtime
}

pub(crate) fn user(name: &str) -> Context {
    Context { user: Some(name.to_owned()), ..Context::default() }
}

/// Rows of features that differ.
pub(crate) fn rows(count: usize) -> Tensor {
    let values: Vec<f32> = (0..count * 17).map(|index| (index as f32 * 0.37).sin() * 0.01).collect();
    Tensor::fp32("input", vec![count as i64, 17], &values)
}

pub(crate) fn infer(contexts: Vec<Context>, inputs: Vec<Tensor>) -> InferRequest {
    InferRequest {
        contributions: Default::default(),
        route: "eurusd-direction".to_owned(),
        contexts,
        pinned: None,
        inputs,
        now_ms: Some(0),
        deadline: Some(Duration::from_secs(20)),
    }
}

pub(crate) fn predict(model: &str, inputs: Vec<Tensor>) -> PredictRequest {
    PredictRequest {
        contributions: Default::default(),
        package: digest(&package(model)),
        inputs,
        deadline: Some(Duration::from_secs(20)),
    }
}

/// Waits for something that a thread of the runtime does after an answer.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("waited in vain until {what}");
}
