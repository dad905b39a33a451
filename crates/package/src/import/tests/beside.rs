//! What people write beside a model: what is taken, what is refused, and in which words.

use super::*;
use crate::Signature;

fn binary() -> pb::ModelProto {
    let mut model = model(classifier(ints("classlabels_ints", &[0, 1])));
    model
        .graph
        .as_mut()
        .unwrap()
        .output
        .push(pb::ValueInfoProto { name: "label".to_owned(), ..Default::default() });
    model
}

fn source(text: &str) -> ManifestSource {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn packaged(model: &pb::ModelProto, text: &str) -> Package {
    run(model, &source(text)).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[track_caller]
fn check(model: &pb::ModelProto, text: &str, want: &[&str]) {
    let error = run(model, &source(text)).expect_err("it must be refused");
    let ImportError::Manifest { problems } = error else { panic!("{error}") };
    let found: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(found, want, "{text}");
}

#[track_caller]
fn unreadable(text: &str, want: &str) {
    let error = serde_json::from_str::<ManifestSource>(text).unwrap_err().to_string();
    assert!(error.contains(want), "{error}");
}

#[test]
fn scalers_are_taken_under_many_names() {
    let same = |texts: &[&str]| {
        let scalers: Vec<Scaler> = texts
            .iter()
            .map(|text| {
                Beside::read(&packaged(&binary(), &format!(r#"{{"scaler": {text}}}"#)))
                    .unwrap()
                    .scaler
                    .unwrap()
            })
            .collect();
        assert!(scalers.iter().all(|scaler| *scaler == scalers[0]), "{scalers:?}");
        scalers[0].clone()
    };
    let standard = same(&[
        r#"{"kind": "standard", "mean": [1, 2, 3], "scale": [1, 2, 4]}"#,
        r#"{"type": "StandardScaler", "mean_": [1, 2, 3], "scale_": [1, 2, 4], "var_": [1, 4, 16], "n_samples_seen_": 9, "with_mean": true, "copy": true}"#,
        r#"{"mean": [1, 2, 3], "std": [1, 2, 4]}"#,
        r#"{"mean": [1, 2, 3], "var": [1, 4, 16]}"#,
    ]);
    assert_eq!((standard.kind, standard.columns()), (ScalerKind::Standard, 3));
    let min_max = same(&[
        r#"{"kind": "min-max", "min": [-1, 0, 0.5], "scale": [0.5, 0.25, 1]}"#,
        r#"{"min_": [-1, 0, 0.5], "scale_": [0.5, 0.25, 1], "data_min_": [2, 0, -0.5], "data_max_": [4, 4, 0.5], "feature_range": [0, 1], "clip": false}"#,
        r#"{"data_min": [2, 0, -0.5], "data_max": [4, 4, 0.5]}"#,
        r#"{"min": [2, 0, -0.5], "max": [4, 4, 0.5]}"#,
    ]);
    assert_eq!(min_max.kind, ScalerKind::MinMax);
    let robust = same(&[
        r#"{"kind": "RobustScaler", "center": 0.5, "scale": null}"#,
        r#"{"center_": [0.5], "scale_": [2], "with_scaling": false, "quantile_range": [25, 75]}"#,
    ]);
    assert_eq!((robust.kind, robust.columns(), robust.scale), (ScalerKind::Robust, 1, None));
    // A column that never changed, as scikit-learn treats it.
    let constant =
        same(&[r#"{"mean": [1, 2, 3], "var": [1, 0, 4]}"#, r#"{"mean": [1, 2, 3], "scale": [1, 1, 2]}"#]);
    assert_eq!(constant.scale, Some(vec![1.0, 1.0, 2.0]));
}

#[test]
fn scalers_that_make_no_sense_are_refused() {
    let scaler = |text: &str, want: &[&str]| {
        check(&binary(), &format!(r#"{{"features": ["a", "b", "c"], "scaler": {text}}}"#), want);
    };
    scaler(
        r#"{"scale": [1, 1, 1]}"#,
        &[
            "`scaler.kind`: it is missing, and the other keys do not tell the kind; hint: give kind: standard, min_max or robust",
        ],
    );
    scaler(
        r#"{"kind": "max_abs", "scale": [1, 1, 1]}"#,
        &[
            "`scaler.kind`: expected standard, min_max or robust, found `max_abs`; hint: put other scalers into the exported model",
        ],
    );
    scaler(
        r#"{"mean": [1, 2, 3], "scale": [1, 0, 1]}"#,
        &[
            "`scaler.scale[1]`: a scale of 0 has no meaning (feature `b`); hint: use 1 for a column that never changed in training, as scikit-learn does",
        ],
    );
}

#[test]
fn a_scaler_fits_its_model() {
    check(
        &binary(),
        r#"{"scaler": {"mean": [1, 2], "scale": [1, 1]}}"#,
        &[
            "`scaler`: input `X` has 3 columns, and the scaler has numbers for 2; hint: use the scaler that was fitted with this model",
        ],
    );
    check(
        &binary(),
        r#"{"scaler": {"mean": [1, 2, 3], "scale": [1, 1]}}"#,
        &["`scaler`: its parts have different lengths, [3, 2]; hint: give each part one number per column"],
    );
    check(
        &binary(),
        r#"{"scaler": {"mean": [1, 2, 3]}}"#,
        &[
            "`scaler.scale`: it is missing; hint: give one number per column, or null where it was switched off (with_std=False)",
        ],
    );
    check(
        &binary(),
        r#"{"scaler": {"kind": "standard", "mean": [1, 2, 3], "scale": [1, 1, 1], "center": [0, 0, 0]}}"#,
        &[
            "`scaler.center`: a scaler of kind standard has no such part; hint: leave it out, or give the kind that it belongs to",
        ],
    );
    check(
        &binary(),
        r#"{"scaler": {"kind": "min_max", "scale": [1, 1, 1]}}"#,
        &[
            "`scaler`: the numbers of a min_max scaler are not complete; hint: give `min` and `scale` (x · scale + min), or `data_min` and `data_max`",
        ],
    );
    check(
        &binary(),
        r#"{"scaler": {"min": [0, 0, 0], "scale": [1, 1, 1], "data_min": [1, 0, 0], "data_max": [2, 1, 1]}}"#,
        &[
            "`scaler`: `min` and `scale` are not those of `data_min`, `data_max` and `feature_range`; hint: give one of the two forms",
        ],
    );
    check(
        &binary(),
        r#"{"scaler": {"mean": null, "scale": null}}"#,
        &["`scaler`: it neither moves nor scales anything; hint: leave it out of the manifest"],
    );
    check(
        &binary(),
        r#"{"scaler": {"input": "Y", "mean": [0, 0, 0], "scale": [1, 1, 1]}}"#,
        &[
            "`scaler.input`: the model has no input `Y`; its inputs are `X`; hint: give the name of the input that is scaled",
        ],
    );
    check(
        &binary(),
        r#"{"features": ["a", "b", "c"], "scaler": {"mean": [0, 0, 0], "scale": [1, 1, 1], "feature_names_in_": ["a", "c", "b"]}}"#,
        &[
            "`scaler.feature_names_in`: column 1 is `c`, and the manifest's features call it `b`; hint: the scaler must have been fitted on the model's columns, in their order",
        ],
    );
    check(
        &binary(),
        r#"{"scaler": "scaler.json"}"#,
        &[
            "`scaler`: the file `scaler.json` was not read; hint: give the numbers themselves, or package with the lockgate program, which reads the file",
        ],
    );
    unreadable(r#"{"scaler": {"mean": [0], "scales": [1]}}"#, "unknown field `scales`");
    unreadable(
        r#"{"scaler": {"mean": [0, null], "scale": [1, 1]}}"#,
        "expected a number, a list of numbers, or null",
    );
    unreadable(r#"{"scaler": 3}"#, "expected a scaler's file, or its kind and numbers");
}

#[test]
fn a_scaler_tells_the_width_that_a_model_does_not() {
    let mut model = binary();
    let graph = model.graph.as_mut().unwrap();
    if let Some(pb::type_proto::Value::TensorType(tensor)) =
        graph.input[0].r#type.as_mut().and_then(|kind| kind.value.as_mut())
    {
        tensor.shape.as_mut().unwrap().dim[1].value = None;
    }
    let package = packaged(&model, r#"{"scaler": {"mean": [1, 2, 3], "scale": [1, 1, 1]}}"#);
    let input = &package.manifest().signature.inputs[0];
    assert_eq!((input.name.as_str(), input.shape.as_slice()), ("X", &[-1, 3][..]));
}

#[test]
fn a_package_tells_what_stands_beside_its_model() {
    let alone = packaged(&binary(), "{}");
    assert_eq!(Beside::read(&alone).unwrap(), Beside::default());
    assert!(
        alone.envelope().section("beside").is_none(),
        "a model that stands alone has the package that it always had"
    );
    let text = r#"{"labels": ["no", "yes"], "scaler": {"mean": [1, 2, 3], "scale": [1, 2, 4]},
        "answer": {"labels": "names", "confidence": true, "calibration": {"method": "platt", "a_": -1, "b_": 0.5},
                   "thresholds": {"yes": 0.7}, "otherwise": "unsure"}}"#;
    let package = packaged(&binary(), text);
    assert_eq!(package.manifest().engine, Engine::Tabular);
    assert_eq!(package.manifest().labels, ["no", "yes"]);
    let beside = Beside::read(&package).unwrap();
    assert_eq!(beside.answer, source(text).answer);
    let names = |signature: &Signature| -> Vec<String> {
        signature
            .outputs
            .iter()
            .map(|spec| format!("{} {} {:?}", spec.name, spec.datatype, spec.shape))
            .collect()
    };
    assert_eq!(
        names(&package.manifest().signature),
        ["probability FP32 [-1, 2]", "label BYTES [-1]", "confidence FP32 [-1]"]
    );
}

#[test]
fn answers_that_make_no_sense_are_refused() {
    let answer = |text: &str, want: &[&str]| check(&binary(), &format!(r#"{{"answer": {text}}}"#), want);
    answer(
        "{}",
        &["`answer`: it asks for nothing; hint: ask for labels, confidence, a calibration or a threshold"],
    );
    answer(
        r#"{"labels": "names"}"#,
        &[
            "`answer.labels`: the model's labels are integers without names; hint: list the names as `labels`, in the order of the scores",
        ],
    );
    answer(
        r#"{"thresholds": {"1": 0.6, "up": 0.7}, "otherwise": 0}"#,
        &[
            "`answer.thresholds.up`: the model has no class of this name; its classes are 0, 1; hint: check its spelling",
        ],
    );
    answer(
        r#"{"thresholds": {"1": 0.6}}"#,
        &[
            "`answer.otherwise`: it is missing beside `thresholds`; hint: say what the label is when no score reaches its threshold",
        ],
    );
    answer(
        r#"{"thresholds": {"1": 0.6}, "otherwise": "no_trade"}"#,
        &[
            "`answer.otherwise`: `no_trade` is no class, and the labels are integers; hint: name a class, give an integer, or set answer.labels to names",
        ],
    );
    answer(
        r#"{"threshold": 0.5, "otherwise": "0"}"#,
        &["`answer.otherwise`: it means nothing without `thresholds`; hint: leave it out"],
    );
    answer(
        r#"{"threshold": 0.5, "thresholds": {"1": 0.6}, "otherwise": "0"}"#,
        &[
            "`answer`: `threshold` and `thresholds` exclude each other; hint: use `thresholds` and `otherwise`",
        ],
    );
    answer(
        r#"{"threshold": 60, "calibration": {"method": "sigmoid", "a": -1, "b": 0}}"#,
        &[
            "`answer.threshold`: 60 is no probability, and calibrated scores are; hint: give a number from 0 to 1",
        ],
    );
    answer(
        r#"{"confidence": true, "scores": "label"}"#,
        &[
            "`answer.scores`: `label` cannot hold the scores of 2 classes; the outputs are `probability` (FP32 [-1, 2]), `label` (INT64 [-1]); hint: name the FP32 or FP64 output with a score per class",
        ],
    );
    answer(
        r#"{"confidence": true, "scores": "p"}"#,
        &[
            "`answer.scores`: the model has no output `p`; its outputs are `probability` (FP32 [-1, 2]), `label` (INT64 [-1]); hint: name the FP32 or FP64 output with a score per class",
        ],
    );
    let calibration = |text: &str, want: &[&str]| answer(&format!(r#"{{"calibration": {text}}}"#), want);
    calibration(
        "{}",
        &["`answer.calibration.method`: it is missing; hint: give sigmoid or isotonic, or per_class"],
    );
    calibration(
        r#"{"method": "sigmoid", "a": 1}"#,
        &["`answer.calibration.b`: it is missing; hint: scikit-learn calls it `a_` and `b_`"],
    );
    calibration(
        r#"{"method": "isotonic", "x": [0, 1], "y": [0]}"#,
        &[
            "`answer.calibration`: there are 2 numbers in `x` and 1 in `y`; hint: give both for every point; scikit-learn has X_thresholds_ and y_thresholds_",
        ],
    );
    calibration(
        r#"{"method": "isotonic", "x": [0, 0], "y": [0, 1]}"#,
        &[
            "`answer.calibration.x[1]`: it is not greater than the number before; hint: sort the points; give each score once",
        ],
    );
    calibration(
        r#"{"method": "isotonic", "x": [0, 1, 2], "y": [0, 0.5, 1.5]}"#,
        &["`answer.calibration.y[2]`: 1.5 is no probability; hint: give numbers from 0 to 1"],
    );
    calibration(
        r#"{"method": "isotonic", "x": [0, 1, 2], "y": [0, 0.5, 0.25]}"#,
        &[
            "`answer.calibration.y`: the probabilities rise and fall; hint: an isotonic calibration does one of the two",
        ],
    );
    calibration(
        r#"{"per_class": [{"method": "sigmoid", "a": 1, "b": 0}, {"method": "sigmoid", "a": 1, "b": 0}, {"method": "sigmoid", "a": 1, "b": 0}]}"#,
        &[
            "`answer.calibration`: 3 calibrations are given for 2 classes and 2 columns of scores; hint: of two classes, calibrate the second; of more, list one per class as per_class",
        ],
    );
    unreadable(r#"{"answer": {"treshold": 0.5}}"#, "unknown field `treshold`");
    unreadable(r#"{"answer": {"labels": "text"}}"#, "unknown variant `text`, expected `names` or `integers`");
}

#[test]
fn outputs_do_not_clash_and_scores_are_not_guessed() {
    let twice = |names: [&str; 2]| {
        let attributes = || {
            vec![
                floats("coefficients", &[0.5; 6]),
                floats("intercepts", &[0.1, 0.2]),
                ints("classlabels_ints", &[0, 1]),
            ]
        };
        let mut model = model(vec![
            node("LinearClassifier", &["X"], &["l", names[0]], attributes()),
            node("LinearClassifier", &["X"], &["k", names[1]], attributes()),
        ]);
        model.graph.as_mut().unwrap().output =
            names.map(|name| pb::ValueInfoProto { name: name.to_owned(), ..Default::default() }).to_vec();
        model
    };
    check(
        &twice(["a", "b"]),
        r#"{"answer": {"confidence": true}}"#,
        &[
            "`answer.scores`: several outputs can hold the scores; the outputs are `a` (FP32 [-1, 2]), `b` (FP32 [-1, 2]); hint: name the one that is meant: answer.scores",
        ],
    );
    check(
        &twice(["a", "confidence"]),
        r#"{"answer": {"confidence": true, "scores": "a"}}"#,
        &[
            "`answer`: the model has an output `confidence` already, and the answer gets one of this name; hint: export the model with another name for it",
        ],
    );
    packaged(&twice(["a", "b"]), r#"{"answer": {"confidence": true, "scores": "b"}}"#);
    // A single column may be anything.
    check(
        &stump(|_| {}),
        r#"{"answer": {"confidence": true}}"#,
        &[
            "`answer.scores`: no output of the model holds scores; its outputs are `Y` (FP32 [-1, 1]); hint: export the model with its probabilities; of a single column, list the two labels in the manifest",
        ],
    );
}

#[test]
fn a_background_is_rows_that_were_read() {
    let unread = "`background`: the file `rows.csv` was not read; hint: give the rows themselves, or package with the lockgate program, which reads the file";
    check(&binary(), r#"{"background": "rows.csv"}"#, &[unread]);
    unreadable(
        r#"{"background": [1, 2]}"#,
        "expected the name of a file, or a list of rows of numbers and null",
    );
    assert_eq!(
        run(&binary(), &source(r#"{"background": []}"#)).unwrap().digest(),
        packaged(&binary(), "{}").digest()
    );
    for text in [r#"{"background": "rows.csv"}"#, r#"{"background": [[1, null]]}"#, "{}"] {
        let read = source(text);
        assert_eq!(source(&serde_json::to_string(&read).unwrap()), read);
    }
}

fn a_mock(text: &str, manifest: &str) -> Result<Package, ImportError> {
    let mock_source: MockSource = serde_json::from_str(text).unwrap();
    let options = ImportOptions {
        model: Some("m".to_owned()),
        version: Some("1.0.0".to_owned()),
        ..Default::default()
    };
    let bytes = mock(&mock_source, &source(manifest), &options)?;
    assert_eq!(bytes, mock(&mock_source, &source(manifest), &options)?, "equal input gives equal bytes");
    Ok(Package::open(AlignedBytes::copy_of(&bytes)).unwrap())
}

#[test]
fn a_mock_has_the_signature_that_was_asked_for_and_says_so() {
    let tabular = a_mock(
        r#"{"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}, {"name": "n", "datatype": "INT64", "shape": [-1, 1]}],
            "outputs": [{"name": "label", "datatype": "BYTES", "shape": [-1]}, {"name": "p", "datatype": "FP32", "shape": [-1, 2]}]}"#,
        r#"{"labels": ["no", "yes"]}"#,
    )
    .unwrap();
    assert!(tabular.manifest().mock);
    assert_eq!((tabular.manifest().engine, tabular.envelope().format()), (Engine::Tabular, (1, 1)));
    let graph = a_mock(
        r#"{"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 20, 17]}, {"name": "t", "datatype": "BYTES", "shape": [-1]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 4, 2]}, {"name": "n", "datatype": "UINT8", "shape": [-1]}]}"#,
        "{}",
    )
    .unwrap();
    assert!(graph.manifest().mock);
    assert_eq!(graph.manifest().engine, Engine::Graph);
    assert_eq!(graph.manifest().signature.outputs[0].shape, [-1, 4, 2]);
    assert!(!packaged(&binary(), "{}").manifest().mock);
    assert_eq!(packaged(&binary(), "{}").envelope().format(), (1, 0));
}

#[test]
fn mocks_that_make_no_sense_are_refused() {
    let check = |text: &str, manifest: &str, want: &str| {
        let error = a_mock(text, manifest).expect_err("it must be refused").to_string();
        assert_eq!(error, want);
    };
    let input = r#""inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]"#;
    let output = |text: &str| format!(r#"{{{input}, "outputs": [{{"name": "y", {text}}}]}}"#);
    check(
        &format!(r#"{{{input}, "outputs": []}}"#),
        "{}",
        "the manifest does not fit: `outputs`: there are none; hint: give at least one tensor",
    );
    check(
        &output(r#""datatype": "FP32", "shape": [-1, -1]"#),
        "{}",
        "the manifest does not fit: `outputs[0].shape`: [-1, -1] leaves more open than the rows; hint: give every dimension but the first a size",
    );
    check(
        r#"{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2]}], "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 1]}]}"#,
        "{}",
        "the manifest does not fit: `outputs[0].shape`: [-1, 1] cannot be; with the other shapes it is [1, 1]; hint: leave the rows \
         of all inputs and outputs open (-1), or give all the same number",
    );
    check(
        &output(r#""datatype": "INT64", "shape": [-1], "value": 0.5"#),
        "{}",
        "the manifest does not fit: `outputs[0].value`: 0.5 is no INT64; hint: give values of the output's datatype",
    );
    check(
        &output(r#""datatype": "FP32", "shape": [-1, 2], "value": [1, 2, 3]"#),
        "{}",
        "the manifest does not fit: `outputs[0].value`: 3 values are given, a row has 2; hint: give one value, or one per element of a row",
    );
    check(
        &output(r#""datatype": "FP32", "shape": [-1, 2]"#),
        r#"{"answer": {"confidence": true}}"#,
        "the manifest does not fit: `answer`: a mock has no model that it could stand beside; hint: leave it out; the mock's signature says what it answers",
    );
}
