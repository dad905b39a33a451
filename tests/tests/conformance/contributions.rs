//! Contributions: native and in wasmtime, bit for bit. `crates/inference/tests/contributions.rs` compares native ones with `shap`.

use std::path::Path;
use std::time::Duration;

use lockgate_core::CoreModules;
use lockgate_inference::{Contributions, Model};
use lockgate_package::import::{ImportOptions, ManifestSource, import};
use lockgate_package::{AlignedBytes, Package, Tensor};
use lockgate_runtime::{Method, PredictRequest, Runtime};
use lockgate_tests::core_dir;
use serde_json::{Value, json};

const ASKED: [Contributions; 4] = [
    Contributions::Usual,
    Contributions::By(Method::Linear),
    Contributions::By(Method::PathDependent),
    Contributions::By(Method::Interventional),
];

/// A package, and rows to explain.
fn cases() -> Vec<(String, Vec<u8>, Vec<f32>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("contributions");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    let case = |path: &std::path::PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let values: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let source: ManifestSource =
            serde_json::from_value(json!({ "background": values["background"] })).unwrap();
        let options = ImportOptions {
            model: Some(name.clone()),
            version: Some("1.0.0".to_owned()),
            ..Default::default()
        };
        let onnx = std::fs::read(path.with_extension("onnx")).unwrap();
        let package = import(&onnx, &source, &options).unwrap();
        let rows = values["rows"].as_array().unwrap().iter().flat_map(|row| row.as_array().unwrap());
        let rows = rows.map(|value| value.as_f64().unwrap_or(f64::NAN) as f32).collect();
        (name, package, rows)
    };
    files.iter().map(case).collect()
}

#[test]
fn the_core_in_wasmtime_explains_as_natively() {
    let cases = cases();
    assert_eq!(cases.len(), 22);
    let runtime = Runtime::builder(CoreModules::from_dir(&core_dir()).unwrap()).build().unwrap();
    runtime.install(None, cases.iter().map(|(_, package, _)| package.clone()).collect()).unwrap();
    let mut compared = 0;
    for (name, bytes, rows) in &cases {
        let package = Package::open(AlignedBytes::copy_of(bytes)).unwrap();
        let spec = package.manifest().signature.inputs[0].clone();
        let columns = spec.shape[1];
        let input = Tensor::fp32(spec.name, vec![rows.len() as i64 / columns, columns], rows);
        let mut model = Model::load(AlignedBytes::copy_of(bytes)).unwrap();
        for contributions in ASKED {
            let native = model.explain(&[input.view()], contributions);
            let in_core = runtime.predict(PredictRequest {
                package: package.digest(),
                inputs: vec![input.clone()],
                contributions,
                deadline: Some(Duration::from_secs(60)),
            });
            match (native, in_core) {
                (Ok(native), Ok(in_core)) => {
                    assert_eq!(native.outputs, in_core.outputs, "{name}, {contributions:?}");
                    compared += 1;
                }
                (Err(native), Err(in_core)) => {
                    assert_eq!(native.to_string(), in_core.to_string(), "{name}, {contributions:?}");
                    assert_eq!(in_core.code(), "invalid_input");
                }
                (native, in_core) => panic!("{name}, {contributions:?}: {native:?}, {in_core:?}"),
            }
        }
    }
    // Each model by itself, and by each of its methods.
    assert_eq!(compared, 22 + 4 + 2 * 18);
}
