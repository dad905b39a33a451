//! Contributions against those of the `shap` package (`tests/contributions`), and what models say that have none.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests read models and answers from files, and fail where they cannot"
)]

use std::path::{Path, PathBuf};

use lockgate_inference::{BASE, CONTRIBUTIONS, Contributions, Method, Model, PredictError, Prediction};
use lockgate_package::import::{ImportError, ImportOptions, ManifestSource, import};
use lockgate_package::{AlignedBytes, Package, Tensor};
use serde_json::{Value, json};

const METHODS: [Method; 3] = [Method::Linear, Method::PathDependent, Method::Interventional];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests").join(name)
}

fn try_package(folder_name: &str, name: &str, source: &Value) -> Result<Vec<u8>, ImportError> {
    let onnx = std::fs::read(folder(folder_name).join(format!("{name}.onnx"))).unwrap();
    let source: ManifestSource = serde_json::from_value(source.clone()).unwrap();
    let options = ImportOptions {
        model: Some(name.to_owned()),
        version: Some("1.0.0".to_owned()),
        ..Default::default()
    };
    import(&onnx, &source, &options)
}

fn package(folder_name: &str, name: &str, source: &Value) -> Vec<u8> {
    try_package(folder_name, name, source).unwrap()
}

fn open(bytes: &[u8]) -> Model {
    Model::load(AlignedBytes::copy_of(bytes)).unwrap()
}

fn numbers(json: &Value) -> Vec<f64> {
    json.as_array().unwrap().iter().map(|value| value.as_f64().unwrap_or(f64::NAN)).collect()
}

fn doubles(prediction: &Prediction, name: &str) -> (Vec<i64>, Vec<f64>) {
    let tensor = prediction.outputs.iter().find(|output| output.name == name).unwrap();
    let values = tensor.data.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
    (tensor.shape.clone(), values)
}

fn explain(model: &mut Model, rows: &[f32], asked: Contributions) -> Result<Prediction, PredictError> {
    let spec = &model.manifest().signature.inputs[0];
    let columns = spec.shape[1];
    let input = Tensor::fp32(&spec.name, vec![rows.len() as i64 / columns, columns], rows);
    model.explain(&[input.view()], asked)
}

#[track_caller]
fn assert_close(found: &[f64], want: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), want.len(), "{what}");
    for (index, (a, b)) in found.iter().zip(want).enumerate() {
        assert!((a - b).abs() <= tolerance * b.abs().max(1.0), "{what}, number {index}: {a}, expected {b}");
    }
}

/// The raw score of the last output of a prediction, where it can be told.
fn raw(prediction: &Prediction, scores: usize) -> Option<Vec<f64>> {
    let output = prediction.outputs.iter().rfind(|output| output.shape.len() == 2)?;
    let values: Vec<f64> = output.to_fp32()?.into_iter().map(f64::from).collect();
    let columns = output.shape[1] as usize;
    (columns == scores).then_some(values)
}

#[test]
fn contributions_are_those_of_shap() {
    let mut compared = 0;
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder("contributions"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    for file in files {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let want: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let bytes = package("contributions", &name, &json!({ "background": want["background"] }));
        let methods = Package::open(AlignedBytes::copy_of(&bytes)).unwrap().contributions().unwrap();
        let mut model = open(&bytes);
        let rows: Vec<f32> =
            want["rows"].as_array().unwrap().iter().flat_map(numbers).map(|x| x as f32).collect();
        let count = want["rows"].as_array().unwrap().len();
        for method in METHODS {
            let want = &want[method.name()];
            assert!(want.is_null() || methods.contains(&method), "{name}: {methods:?}");
            if want.is_null() {
                continue;
            }
            let what = format!("{name}, {}", method.name());
            let prediction = explain(&mut model, &rows, Contributions::By(method)).unwrap();
            let known = want["scores"].as_u64().unwrap() as usize;
            let (mut want_all, mut want_base) = (numbers(&want["contributions"]), numbers(&want["base"]));
            // The file has one score of two classes, the second one's; shap has both.
            let scores = match name.as_str() {
                "forest_binary" => 1,
                "logistic_binary" => 2,
                _ => known,
            };
            if scores < known {
                want_all = want_all.into_iter().skip(1).step_by(2).collect();
                want_base.remove(0);
            }
            // And here the other way round.
            if scores > known {
                let both =
                    |margins: Vec<f64>| margins.into_iter().flat_map(|margin| [-margin, margin]).collect();
                (want_all, want_base) = (both(want_all), both(want_base));
            }
            let (shape, found) = doubles(&prediction, CONTRIBUTIONS);
            let (base_shape, base) = doubles(&prediction, BASE);
            let columns = found.len() / count / scores;
            let (mut expected_shape, mut expected_base) =
                (vec![count as i64, columns as i64], vec![count as i64]);
            if scores > 1 {
                expected_shape.push(scores as i64);
                expected_base.push(scores as i64);
            }
            assert_eq!((shape, base_shape), (expected_shape, expected_base), "{what}");
            assert_close(&found, &want_all, 1e-5, &what);
            assert_close(&base, &want_base.repeat(count), 1e-5, &format!("{what}, base"));
            // Together they are the raw score, which these models give out untransformed.
            if name.contains("regress") || name.contains("outputs") || name.starts_with("forest") {
                let sums: Vec<f64> = found
                    .chunks(columns * scores)
                    .zip(base.chunks(scores))
                    .flat_map(|(row, base)| {
                        (0..scores)
                            .map(|score| base[score] + row.iter().skip(score).step_by(scores).sum::<f64>())
                    })
                    .collect();
                if let Some(raw) = raw(&prediction, scores) {
                    assert_close(&sums, &raw, 1e-5, &format!("{what}, sum"));
                }
            }
            compared += 1;
            // A row alone gets what it gets among others.
            let width = rows.len() / count;
            let alone = explain(&mut model, &rows[..width], Contributions::By(method)).unwrap();
            assert_eq!(doubles(&alone, CONTRIBUTIONS).1, found[..columns * scores], "{what}");
        }
        // The first method is the one for who asks for none in particular.
        let usual = explain(&mut model, &rows, Contributions::Usual).unwrap();
        let by = explain(&mut model, &rows, Contributions::By(methods[0])).unwrap();
        assert_eq!(usual, by, "{name}");
        let none = explain(&mut model, &rows, Contributions::None).unwrap();
        assert_eq!(usual.outputs[..none.outputs.len()], none.outputs, "{name}");
        assert_eq!(usual.outputs.len(), none.outputs.len() + 2, "{name}");
    }
    assert_eq!(compared, 39);
}

fn refusal(folder_name: &str, name: &str, asked: Contributions) -> (String, String) {
    let mut model = open(&package(folder_name, name, &json!({})));
    let columns = model.manifest().signature.inputs[0].shape[1] as usize;
    let error = explain(&mut model, &vec![0.0; columns], asked).unwrap_err();
    (error.to_string(), error.hint().to_owned())
}

#[test]
fn models_without_contributions_say_why() {
    let check = |name: &str, asked, want: &str, hint: &str| {
        let (message, found) = refusal("models", name, asked);
        assert_eq!(message, want, "{name}");
        assert!(found.contains(hint), "{name}: {found}");
    };
    let usual = Contributions::Usual;
    check(
        "forest_binary",
        usual,
        "the package carries neither the covers of its trees nor a background",
        "lockgate-export",
    );
    check(
        "mlp_regressor",
        usual,
        "step 3 of the plan, `Dense`, is a layer behind another one",
        "linear models and ensembles of trees",
    );
    check(
        "lr_normalizer_l2",
        usual,
        "step 1 of the plan, `Normalize`, mixes columns before the scores",
        "linear models",
    );
    check(
        "lr_binary",
        Contributions::By(Method::PathDependent),
        "the package cannot give `path_dependent` contributions, it gives linear",
        "contributions: true",
    );
}

#[test]
fn linear_models_without_a_background_are_measured_from_zero() {
    let mut model = open(&package("contributions", "linear_regression", &json!({})));
    let rows = [1.0, 0.01, -50.0, 2.0, 0.0];
    let prediction = explain(&mut model, &rows, Contributions::Usual).unwrap();
    let (_, found) = doubles(&prediction, CONTRIBUTIONS);
    let (_, base) = doubles(&prediction, BASE);
    let zero = explain(&mut model, &[0.0; 5], Contributions::None).unwrap();
    assert_close(&base, &[f64::from(zero.outputs[0].to_fp32().unwrap()[0])], 1e-6, "base");
    assert_eq!(found[4], 0.0);
    let sum = base[0] + found.iter().sum::<f64>();
    assert_close(&[sum], &[f64::from(prediction.outputs[0].to_fp32().unwrap()[0])], 1e-5, "sum");
}

/// A calibration comes behind the raw score, however many points it has.
#[test]
fn calibrated_scores_are_explained_as_raw_ones() {
    for name in ["logistic_binary", "forest_binary", "boosting_binary"] {
        let sigmoid = json!({ "method": "sigmoid", "a": -4.0, "b": 2.0 });
        let isotonic = json!({ "method": "isotonic", "x": [0.1, 0.4, 0.6, 0.8], "y": [0.0, 0.3, 0.3, 1.0] });
        let plain = package("contributions", name, &json!({}));
        let rows: Vec<f32> = (0..15).map(|value| value as f32 / 10.0).collect();
        let want = doubles(&explain(&mut open(&plain), &rows, Contributions::Usual).unwrap(), CONTRIBUTIONS);
        for calibration in [sigmoid, isotonic] {
            let source = json!({ "answer": { "calibration": calibration } });
            let calibrated = package("contributions", name, &source);
            let found = explain(&mut open(&calibrated), &rows, Contributions::Usual).unwrap();
            assert_eq!(doubles(&found, CONTRIBUTIONS), want, "{name}: {source}");
        }
    }
}

#[test]
fn backgrounds_that_do_not_fit_are_refused() {
    let check = |folder_name: &str, name: &str, background: Value, want: &str| {
        let error = try_package(folder_name, name, &json!({ "background": background })).unwrap_err();
        assert!(error.to_string().contains(want), "{error}");
    };
    check(
        "contributions",
        "linear_regression",
        json!([[1, 2, 3]]),
        "row 0 has 3 numbers, the model's inputs have 5",
    );
    let missing = json!([[1, 2, 3, 4, 5], [1, 2, null, 4, 5]]);
    check("contributions", "linear_regression", missing, "row 1, column 2: null is no value of this input");
    let many = vec![json!([1, 2, 3, 4, 5]); 1001];
    check("contributions", "linear_regression", json!(many), "1001 rows, at most 1000");
    check("models", "mlp_regressor", json!([[1, 2, 3, 4, 5]]), "gives no contributions: step 3");
}

#[test]
fn requests_beyond_the_limits_are_refused() {
    let mut model = open(&package("contributions", "ridge_two_outputs", &json!({})));
    let rows = vec![0.0; 5 * 900_000];
    let error = explain(&mut model, &rows, Contributions::Usual).unwrap_err();
    let want = "the request asks for 9000000 contributions, one answer may have 8388608";
    assert_eq!(error.to_string(), want);
    assert!(matches!(error, PredictError::LimitExceeded { .. }));
    // It goes on as before.
    assert!(explain(&mut model, &rows[..5], Contributions::Usual).is_ok());
}
