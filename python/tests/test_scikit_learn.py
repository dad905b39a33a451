"""What scikit-learn's own converters lack or get wrong: categories, calibration, votes, classifiers without probabilities."""

import json

import lightgbm
import numpy as np
import onnx
import pandas
import pytest
from conftest import TREES, attributes, call, check_covers, close, run_onnx
from skl2onnx.common import tree_ensemble
from sklearn import base, calibration, compose, ensemble, feature_extraction, frozen, linear_model, pipeline, preprocessing, svm, tree
from sklearn.model_selection import GridSearchCV

from lockgate_export import export


def histogram(**options):
    return ensemble.HistGradientBoostingClassifier(max_iter=5, random_state=0, **options)


@pytest.mark.parametrize("kind", [ensemble.HistGradientBoostingClassifier, ensemble.HistGradientBoostingRegressor])
def test_columns_of_categories_that_no_tree_splits_on_keep_their_place(kind, data):
    X = data.X.copy()
    X[:, 3] = np.arange(300) < 3
    model = kind(max_iter=5, categorical_features=[3], min_samples_leaf=30).fit(X, data.binary)
    wanted = model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X).reshape(-1, 1)
    for rows in (None, X):
        close(run_onnx(export(model, rows).onnx, X)[-1], wanted)


@pytest.mark.parametrize("double", [False, True])
def test_texts_that_no_tree_splits_on(double, data):
    frame = pandas.DataFrame({"a": data.X[:, 0], "venue": np.where(np.arange(300) < 3, "x", "y"), "b": data.X[:, 1]})
    frame["venue"] = frame["venue"].astype("category")
    model = histogram(categorical_features="from_dtype", min_samples_leaf=30).fit(frame, data.three)
    exported = export(model, frame, double=double)
    assert [feature["name"] for feature in exported.manifest.features] == ["a", "venue", "b"]
    inputs = [frame[["a"]], frame[["venue"]].astype(str), frame[["b"]]]
    close(run_onnx(exported.onnx, *inputs)[1], model.predict_proba(frame))


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize(
    "model",
    [
        tree.DecisionTreeClassifier(),
        tree.DecisionTreeRegressor(),
        ensemble.RandomForestClassifier(3, random_state=0),
        pipeline.make_pipeline(preprocessing.StandardScaler(), tree.DecisionTreeClassifier()),
    ],
    ids=["classifier", "regressor", "forest", "pipeline"],
)
def test_trees_that_part_missing_values_from_all_others(model, double, data, monkeypatch):
    search = tree_ensemble.find_switch_point

    def finite(low, high):
        assert np.isfinite([low, high]).all(), "the search would not end"
        return search(low, high)

    monkeypatch.setattr(tree_ensemble, "find_switch_point", finite)
    X = data.X[:, :2].astype(np.float64)
    X[::3, 0] = np.nan
    model.fit(X, np.isnan(X[:, 0]).astype(int))
    exported = export(model, X, double=double)
    wanted = model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X).reshape(-1, 1)
    close(run_onnx(exported.onnx, X)[-1], wanted)
    thresholds = [attributes(node)["nodes_values"] for node in exported.onnx.graph.node if node.op_type in TREES]
    assert np.isinf(thresholds[0]).any(), "the tree parts missing values from all others"


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("targets", [1, 2])
def test_linear_models_without_intercepts(targets, double, data):
    X = data.X.astype(np.float64) if double else data.X
    y = data.real if targets == 1 else np.stack([data.real, data.positive], axis=1)
    for kind in (linear_model.LinearRegression, linear_model.Ridge):
        model = kind(fit_intercept=False).fit(X, y)
        close(run_onnx(export(model, X, double=double).onnx, X)[0], model.predict(X).reshape(-1, targets))
        assert model.intercept_ == 0.0


@pytest.mark.parametrize("kind", ["binary", "three", "three_texts"])
def test_boosting_that_begins_at_zero(kind, data):
    model = ensemble.GradientBoostingClassifier(n_estimators=5, init="zero").fit(data.X, data.target(kind))
    close(run_onnx(export(model, data.X).onnx, data.X)[1], model.predict_proba(data.X))
    assert model.init == "zero"


@pytest.mark.parametrize("kind", ["binary", "three_texts"])
@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
@pytest.mark.parametrize(
    "inner",
    [
        histogram(),
        lightgbm.LGBMClassifier(n_estimators=5, verbose=-1),
        lightgbm.LGBMClassifier(objective="multiclassova", num_class=3, sigmoid=1.7, n_estimators=5, verbose=-1),
        ensemble.GradientBoostingClassifier(n_estimators=5),
        ensemble.RandomForestClassifier(5, random_state=0),
        svm.LinearSVC(),
        pipeline.make_pipeline(preprocessing.StandardScaler(), histogram()),
        pipeline.make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression()),
        pipeline.make_pipeline(preprocessing.StandardScaler(), svm.LinearSVC()),
    ],
    ids=["histogram", "lightgbm", "lightgbm_ova", "boosted", "forest", "svc", "scaled_histogram", "scaled_logistic", "scaled_svc"],
)
def test_calibrated_models(inner, method, kind, data):
    if kind == "binary" and getattr(inner, "objective", None) == "multiclassova":
        inner = lightgbm.LGBMClassifier(sigmoid=1.7, n_estimators=5, verbose=-1)
    model = calibration.CalibratedClassifierCV(inner, method=method, cv=2).fit(data.X.astype(np.float64), data.target(kind))
    scores = run_onnx(export(model, data.X).onnx, data.X)[1]
    close(scores, model.predict_proba(data.X.astype(np.float64)), 1e-3)


def test_frozen_models(data):
    X = data.X.astype(np.float64)
    forest = ensemble.RandomForestClassifier(5, random_state=0).fit(X, data.binary)
    scaled = pipeline.make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression()).fit(X, data.binary)
    models = [frozen.FrozenEstimator(forest), frozen.FrozenEstimator(frozen.FrozenEstimator(scaled))]
    for inner in list(models):
        models.append(calibration.CalibratedClassifierCV(inner).fit(X, data.binary))
        models.append(ensemble.VotingClassifier([("a", inner), ("b", linear_model.LogisticRegression())], voting="soft").fit(X, data.binary))
    scaler = frozen.FrozenEstimator(preprocessing.StandardScaler().fit(X))
    models.append(pipeline.make_pipeline(scaler, linear_model.LogisticRegression()).fit(X, data.binary))
    for model in models:
        close(run_onnx(export(model, data.X).onnx, data.X)[1], model.predict_proba(X), 1e-4)
    assert isinstance(models[2].calibrated_classifiers_[0].estimator, frozen.FrozenEstimator), "exporting leaves the model as it was"
    assert models[-1].steps[0][1] is scaler
    check_covers(export(models[2], data.X).onnx)


class Sampler(base.BaseEstimator):
    """Rows for training, as those of imbalanced-learn."""

    def fit_resample(self, X, y):
        return X[y == 1], y[y == 1]


class SamplingPipeline(pipeline.Pipeline):
    """Passes samplers over when it predicts."""

    def _iter(self, **options):
        return (step for step in super()._iter(**options) if not isinstance(step[-1], Sampler))


@pytest.mark.parametrize("place", [0, 1])
def test_samplers_are_passed_over(place, data):
    frame = pandas.DataFrame({"price": data.X[:, 0], "code": data.binary.astype(str)})
    columns = compose.ColumnTransformer([("code", preprocessing.OneHotEncoder(), ["code"])], remainder="passthrough")
    by_name = SamplingPipeline([("columns", columns), ("model", linear_model.LogisticRegression())]).fit(frame, data.three)
    plain = SamplingPipeline([("scaler", preprocessing.StandardScaler()), ("model", linear_model.LogisticRegression())]).fit(data.X, data.three)
    for model in (by_name, plain):
        model.steps.insert(place, ("more", Sampler()))
    close(run_onnx(export(by_name, frame).onnx, frame[["price"]], frame[["code"]])[1], by_name.predict_proba(frame), 1e-4)
    for model in (plain, calibration.CalibratedClassifierCV(frozen.FrozenEstimator(plain)).fit(data.X, data.three)):
        close(run_onnx(export(model, data.X).onnx, data.X)[1], model.predict_proba(data.X), 1e-4)
    searched = GridSearchCV(pipeline.make_pipeline("passthrough", linear_model.LogisticRegression()), {"logisticregression__C": [0.5]}, cv=2)
    for inner in (SamplingPipeline([("model", linear_model.LogisticRegression())]), searched):
        model = calibration.CalibratedClassifierCV(inner, cv=2).fit(data.X, data.three)
        close(run_onnx(export(model, data.X).onnx, data.X)[1], model.predict_proba(data.X), 1e-4)
    assert len(plain.steps) == 3, "exporting leaves the model as it was"


@pytest.mark.parametrize(
    "model",
    [
        svm.LinearSVC(),
        pipeline.make_pipeline(preprocessing.StandardScaler(), svm.LinearSVC()),
        GridSearchCV(svm.LinearSVC(), {"C": [0.5, 1.0]}, cv=2),
        GridSearchCV(pipeline.make_pipeline(preprocessing.StandardScaler(), svm.LinearSVC()), {"linearsvc__C": [0.5, 1.0]}, cv=2),
        ensemble.VotingClassifier([("a", pipeline.make_pipeline(preprocessing.StandardScaler(), svm.LinearSVC())), ("b", svm.LinearSVC(C=0.1))]),
    ],
    ids=["alone", "pipeline", "searched", "searched_pipeline", "voting"],
)
def test_classifiers_without_probabilities(model, data):
    model.fit(data.X, data.target("three_texts"))
    labels = run_onnx(export(model, data.X).onnx, data.X)[0]
    assert np.mean(labels == model.predict(data.X)) > 0.99


def test_outliers(data):
    forest = ensemble.IsolationForest(n_estimators=10, random_state=0).fit(data.X)
    labels, scores = run_onnx(export(forest, data.X).onnx, data.X)
    assert (labels.ravel() == forest.predict(data.X)).all()
    close(scores.ravel(), forest.decision_function(data.X), 1e-4)


def test_texts_into_a_classifier_without_probabilities():
    texts, target = ["rates rise", "rates fall", "shares rise", "growth falls"] * 10, ["up", "down", "up", "down"] * 10
    model = pipeline.make_pipeline(feature_extraction.text.TfidfVectorizer(lowercase=False), svm.LinearSVC()).fit(texts, target)
    labels = run_onnx(export(model, texts).onnx, np.array(texts).reshape(-1, 1))[0]
    assert (labels == model.predict(texts)).all()


@pytest.mark.parametrize("names", [["mid price (€)", "vol/1", "day"], ["a b", "a_b", "a_b1"], ["label", "probabilities", "variable"]])
def test_columns_keep_their_names(names, data, tmp_path):
    days = np.array(["mon", "tue", "wed"])[data.three]
    frame = pandas.DataFrame({names[0]: data.X[:, 0], names[1]: data.X[:, 1], names[2]: days})
    columns = compose.ColumnTransformer([("n", preprocessing.StandardScaler(), names[:2]), ("c", preprocessing.OneHotEncoder(), names[2:])])
    model = pipeline.make_pipeline(columns, linear_model.LogisticRegression()).fit(frame, data.binary)
    exported = export(model, frame, name="named")
    assert [value.name for value in exported.onnx.graph.input] == names
    assert [feature["name"] for feature in exported.manifest.features] == names
    onnx.checker.check_model(exported.onnx, full_check=True)
    wanted = model.predict_proba(frame)
    close(run_onnx(exported.onnx, *[frame[[name]] for name in names])[1], wanted)
    package, manifest = exported.save(tmp_path)
    call("package", package, "--manifest", manifest, "--output", tmp_path / "named.lgp")
    rows = frame[:20]
    rows[names[::-1]].to_csv(tmp_path / "rows.csv", index=False)
    inputs = [
        {"name": name, "shape": [20, 1], "datatype": "BYTES" if name == names[2] else "FP32", "data": rows[name].tolist()} for name in names
    ]
    (tmp_path / "rows.json").write_text(json.dumps({"inputs": inputs}))
    for file in ("rows.csv", "rows.json"):
        outputs = json.loads(call("predict", tmp_path / "named.lgp", "--input", tmp_path / file, "--json"))["outputs"]
        scores = next(output for output in outputs if output["datatype"] == "FP32")
        close(np.reshape(scores["data"], scores["shape"]), wanted[:20])


@pytest.mark.parametrize("weights", [[1, 2], (3.0, 1.0), np.array([1, 2]), None])
def test_votes_with_weights(weights, data):
    forest = ensemble.RandomForestClassifier(5, random_state=0)
    classifier = ensemble.VotingClassifier([("a", forest), ("b", linear_model.LogisticRegression())], voting="soft", weights=weights)
    classifier.fit(data.X, data.three)
    close(run_onnx(export(classifier, data.X).onnx, data.X)[1], classifier.predict_proba(data.X))
    assert classifier.weights is weights, "exporting leaves the model as it was"
    trees = ensemble.RandomForestRegressor(5, random_state=0)
    regressor = ensemble.VotingRegressor([("a", trees), ("b", linear_model.Ridge())], weights=weights).fit(data.X, data.real)
    close(run_onnx(export(regressor, data.X).onnx, data.X)[0][:, 0], regressor.predict(data.X))
