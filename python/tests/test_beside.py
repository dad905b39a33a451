"""What stands beside a model: scalers, calibration, thresholds, background; and metrics of the whole."""

import joblib
import numpy as np
import pytest
import sklearn
import xgboost
from conftest import close, run_onnx
from sklearn import ensemble, isotonic, linear_model, metrics, model_selection, pipeline, preprocessing
from sklearn.calibration import _SigmoidCalibration

from lockgate_export import ExportError, export
from lockgate_export.answers import apply_calibration, apply_scaler, calibration_entry, scaler_entry

SCALERS = {
    "standard": preprocessing.StandardScaler,
    "standard without mean": lambda: preprocessing.StandardScaler(with_mean=False),
    "standard without scale": lambda: preprocessing.StandardScaler(with_std=False),
    "min_max": preprocessing.MinMaxScaler,
    "min_max to −1 … 2": lambda: preprocessing.MinMaxScaler(feature_range=(-1, 2)),
    "max_abs": preprocessing.MaxAbsScaler,
    "robust": preprocessing.RobustScaler,
    "robust without centre": lambda: preprocessing.RobustScaler(with_centering=False),
    "robust without scale": lambda: preprocessing.RobustScaler(with_scaling=False),
    "in a pipeline": lambda: pipeline.make_pipeline(preprocessing.StandardScaler()),
}


@pytest.mark.parametrize("name", SCALERS)
def test_scalers(name, data):
    scaler = SCALERS[name]().fit(data.X.astype(np.float64))
    entry = scaler_entry(scaler, 6)
    close(apply_scaler(entry, data.X), scaler.transform(data.X.astype(np.float64)), 1e-12)
    assert entry["kind"] in ("standard", "min_max", "robust")


def test_scalers_as_json(data, tmp_path):
    fitted = preprocessing.MinMaxScaler((0, 2)).fit(data.X.astype(np.float64))
    wanted = fitted.transform(data.X.astype(np.float64))
    for mapping in (
        {"kind": "min_max", "min_": fitted.min_.tolist(), "scale_": fitted.scale_.tolist()},
        {"kind": "min_max", "data_min": fitted.data_min_.tolist(), "data_max": fitted.data_max_.tolist(), "feature_range": [0, 2]},
    ):
        close(apply_scaler(scaler_entry(mapping, 6), data.X), wanted, 1e-12)


def test_scalers_that_are_refused(data):
    for scaler, what in (
        (preprocessing.MinMaxScaler(clip=True).fit(data.X), "clip=True"),
        (preprocessing.StandardScaler(), "not fitted"),
        (preprocessing.QuantileTransformer(n_quantiles=10).fit(data.X), "QuantileTransformer"),
        (preprocessing.StandardScaler().fit(data.X[:, :3]), "fitted on 3 columns, the model takes 6"),
        ({"kind": "standard", "median": [1.0]}, "no `median`"),
        ({"kind": "log"}, "'log'"),
    ):
        with pytest.raises(ExportError, match=what) as refused:
            scaler_entry(scaler, 6)
        assert refused.value.where == "scaler"


def test_metrics_are_those_of_scaler_and_model(data):
    scaler = preprocessing.StandardScaler().fit(data.X)
    model = linear_model.LogisticRegression().fit(scaler.transform(data.X), data.three)
    exported = export(model, data.X, X_test=data.X, y_test=data.three, scaler=scaler, check=False)
    probabilities = model.predict_proba(scaler.transform(data.X))
    figures = exported.manifest.metrics
    assert figures["rows"] == 300
    close(figures["accuracy"], metrics.accuracy_score(data.three, probabilities.argmax(axis=1)))
    close(figures["log_loss"], metrics.log_loss(data.three, probabilities))
    close(figures["roc_auc"], metrics.roc_auc_score(data.three, probabilities, multi_class="ovr"))
    assert exported.manifest.scaler["mean"] == scaler.mean_.tolist()


def test_metrics_of_regressors_and_of_text_labels(data):
    regressor = linear_model.Ridge().fit(data.X, data.real)
    figures = export(regressor, data.X, X_test=data.X, y_test=data.real, metrics={"sharpe": 1.25}).manifest.metrics
    predicted = regressor.predict(data.X)
    close(figures["rmse"], np.sqrt(metrics.mean_squared_error(data.real, predicted)))
    close(figures["mae"], metrics.mean_absolute_error(data.real, predicted))
    close(figures["r2"], metrics.r2_score(data.real, predicted))
    assert figures["sharpe"] == 1.25
    target = data.target("binary_texts")
    classifier = linear_model.LogisticRegression().fit(data.X, target)
    figures = export(classifier, data.X, X_test=data.X, y_test=target).manifest.metrics
    close(figures["roc_auc"], metrics.roc_auc_score(target == "up", classifier.predict_proba(data.X)[:, 1]))
    with pytest.raises(ExportError, match="have the label `sideways`"):
        export(classifier, data.X, X_test=data.X, y_test=np.array(["sideways"] * 300))


def test_scores_that_are_no_probabilities_have_no_logarithmic_loss(data):
    model = xgboost.XGBClassifier(objective="binary:logitraw", n_estimators=5).fit(data.X, data.binary)
    figures = export(model, data.X, X_test=data.X, y_test=data.binary).manifest.metrics
    assert set(figures) == {"rows", "accuracy", "roc_auc"}
    close(figures["accuracy"], metrics.accuracy_score(data.binary, model.predict(data.X)))


def test_calibrators(data):
    scores = np.random.default_rng(0).random(300)
    both = np.column_stack([1 - scores, scores])
    platt = _SigmoidCalibration().fit(scores, data.binary)
    close(apply_calibration(calibration_entry(platt, ["0", "1"]), both)[:, 1], platt.predict(scores), 1e-9)
    logistic = linear_model.LogisticRegression().fit(scores.reshape(-1, 1), data.binary)
    close(apply_calibration(calibration_entry(logistic, ["0", "1"]), both), logistic.predict_proba(scores.reshape(-1, 1)), 1e-9)
    steps = isotonic.IsotonicRegression(out_of_bounds="clip").fit(scores[50:], data.binary[50:])
    close(apply_calibration(calibration_entry(steps, ["0", "1"]), both)[:, 1], steps.predict(scores), 1e-6)
    one_each = calibration_entry({"b": steps, "a": platt, "c": logistic}, ["a", "b", "c"])
    assert [part["method"] for part in one_each["per_class"]] == ["sigmoid", "isotonic", "sigmoid"]
    with pytest.raises(ExportError, match="no answer outside the scores"):
        calibration_entry(isotonic.IsotonicRegression().fit(scores, data.binary), ["0", "1"])
    with pytest.raises(ExportError, match="2 calibrators for 3 classes"):
        calibration_entry([platt, platt], ["a", "b", "c"])
    with pytest.raises(ExportError, match="Ridge is no calibrator"):
        calibration_entry(linear_model.Ridge(), ["0", "1"])


def test_thresholds(data):
    target = data.target("binary_texts")
    tuned = model_selection.TunedThresholdClassifierCV(linear_model.LogisticRegression(), scoring="f1", cv=2)
    tuned = tuned.set_params(scoring=metrics.make_scorer(metrics.f1_score, pos_label="up")).fit(data.X, target)
    fixed = model_selection.FixedThresholdClassifier(ensemble.RandomForestClassifier(5, random_state=0), threshold=0.3, pos_label="up")
    first = model_selection.FixedThresholdClassifier(ensemble.RandomForestClassifier(5, random_state=0), threshold=0.3, pos_label="down")
    last = pipeline.make_pipeline(preprocessing.StandardScaler(), sklearn.clone(fixed))
    for model in (tuned, fixed.fit(data.X, target), first.fit(data.X, target), last.fit(data.X, target)):
        exported = export(model, data.X, X_test=data.X, y_test=target)
        scores = run_onnx(exported.onnx, data.X)[1]
        close(scores, model.predict_proba(data.X))
        limit = exported.manifest.answer["threshold"]
        assert (np.where(scores[:, 1] >= limit, "up", "down") == model.predict(data.X)).all()
        close(exported.manifest.metrics["accuracy"], metrics.accuracy_score(target, model.predict(data.X)))
    assert export(fixed, data.X).manifest.answer == {"threshold": 0.3}


def test_thresholds_by_class_have_the_numbers_of_their_names(data):
    model = linear_model.LogisticRegression().fit(data.X, data.three)
    labels = ["down", "flat", "up"]
    exported = export(
        model, data.X, labels=labels, thresholds={"up": 0.6, 0: 0.5}, otherwise=1, answer_labels="names", confidence=True,
        X_test=data.X, y_test=np.array(labels)[data.three],
    )
    assert exported.manifest.answer == {
        "labels": "names", "confidence": True, "thresholds": {"up": 0.6, "down": 0.5}, "otherwise": "flat",
    }
    scores = model.predict_proba(data.X)
    reached = np.where(scores >= [0.5, 0.0, 0.6], scores, -1)
    close(exported.manifest.metrics["accuracy"], np.mean(reached.argmax(axis=1) == data.three))


@pytest.mark.parametrize(
    "options, what",
    [
        ({"threshold": 1.5}, "1.5 is no probability"),
        ({"threshold": 0.5, "thresholds": {0: 0.5}, "otherwise": 1}, "both given"),
        ({"thresholds": {0: 0.5}}, "no class is named"),
        ({"thresholds": {"sideways": 0.5}, "otherwise": 1}, "no class `sideways`"),
        ({"otherwise": 1}, "otherwise needs thresholds"),
        ({"answer_labels": "texts"}, "'texts'"),
        ({"labels": ["a", "b", "c"]}, "3 labels are given, the model has 2 classes"),
    ],
)
def test_answers_that_are_refused(options, what, data):
    model = linear_model.LogisticRegression().fit(data.X, data.binary)
    with pytest.raises(ExportError, match=what):
        export(model, data.X, **options)


def test_answers_of_regressors_are_refused(data):
    with pytest.raises(ExportError, match="has no classes"):
        export(linear_model.Ridge().fit(data.X, data.real), data.X, threshold=0.5)


def test_background(data):
    model = linear_model.LogisticRegression().fit(data.X, data.binary)
    rows = np.array(export(model, data.X, background=20).manifest.background)
    assert rows.shape == (20, 6)
    assert all(any((row == known).all() for known in data.X.astype(np.float64)) for row in rows)
    assert (rows == export(model, data.X, background=20).manifest.background).all()
    assert (rows != export(model, data.X, background=20, seed=1).manifest.background).any()
    assert export(model, data.X, background=data.X[:3]).manifest.background == data.X[:3].astype(float).tolist()
    for background, what in ((2000, "2000 rows"), (data.X[:2, :3], "3 columns, X has 6")):
        with pytest.raises(ExportError, match=what):
            export(model, data.X, background=background)
    with pytest.raises(ExportError, match="give X"):
        export(model, background=20)


def test_a_file_may_hold_a_model_and_its_scaler(data, tmp_path):
    scaler = preprocessing.StandardScaler().fit(data.X)
    model = linear_model.LogisticRegression().fit(scaler.transform(data.X), data.binary)
    joblib.dump({"model": model, "scaler": scaler}, tmp_path / "both.joblib")
    exported = export(tmp_path / "both.joblib")
    assert exported.manifest.scaler["kind"] == "standard" and exported.manifest.model == "both"
    joblib.dump({"estimator": model}, tmp_path / "other.joblib")
    with pytest.raises(ExportError, match="mapping with the keys estimator"):
        export(tmp_path / "other.joblib")


# These need what reads the keys `scaler`, `answer` and `background` of the manifest.


def test_lockgate_scales_before_the_model(data, lockgate):
    X = data.X * 10 + 5
    scaler = preprocessing.RobustScaler().fit(X)
    model = ensemble.RandomForestClassifier(8, random_state=0).fit(scaler.transform(X), data.binary)
    exported = export(model, X, scaler=scaler, name="scaled", check=False)
    wanted = model.predict_proba(scaler.transform(X[:40].astype(np.float64)))
    close(lockgate(exported, X[:40])["probabilities"], wanted)


def test_lockgate_calibrates_and_decides(data, lockgate):
    model = ensemble.RandomForestClassifier(8, max_depth=4, random_state=0).fit(data.X, data.binary)
    scores = model.predict_proba(data.X)[:, 1]
    platt = _SigmoidCalibration().fit(scores, data.binary)
    exported = export(
        model, data.X, name="calibrated", calibrator=platt, threshold=0.35, labels=["down", "up"], answer_labels="names"
    )
    answers = lockgate(exported, data.X[:40])
    second = platt.predict(scores[:40])
    close(answers["probabilities"][:, 1], second)
    assert (answers["label"] == np.where(second >= 0.35, "up", "down")).all()


def test_lockgate_takes_a_background(data, lockgate):
    model = ensemble.RandomForestClassifier(8, max_depth=4, random_state=0).fit(data.X, data.binary)
    answers = lockgate(export(model, data.X, name="background", background=30), data.X[:40])
    close(answers["probabilities"], model.predict_proba(data.X[:40]))
