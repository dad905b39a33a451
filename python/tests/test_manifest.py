"""Columns, names and ranges; the manifest as a file; the command; and what errors say."""

import os
import pathlib
import pickle
import subprocess
import sys

import joblib
import lightgbm
import numpy as np
import lockgate_export
import onnx
import pandas
import pytest
import xgboost
import yaml
from conftest import check_covers, close, run_onnx
from sklearn import (
    calibration, cluster, compose, ensemble, feature_extraction, impute, linear_model, multioutput, naive_bayes, neighbors, pipeline, preprocessing,
)  # fmt: skip

from lockgate_export import ExportError, ExportWarning, export
from lockgate_export.cli import main
from lockgate_export.manifest import Manifest


@pytest.fixture
def frame(data):
    return pandas.DataFrame(data.X, columns=data.names)


@pytest.fixture
def forest(data, frame):
    return ensemble.RandomForestClassifier(5, max_depth=4, random_state=0).fit(frame, data.target("three_texts"))


def test_names_ranges_and_labels_come_from_the_model_and_the_data(forest, frame, data):
    shuffled = frame[data.names[::-1]].assign(unused=1.0)
    manifest = export(forest, shuffled, name="forest", version="1.2.3").manifest
    assert [feature["name"] for feature in manifest.features] == data.names
    for feature, column in zip(manifest.features, data.X.T):
        assert feature["min"] == column.min() and feature["max"] == column.max()
    assert manifest.labels == ["down", "flat", "up"]
    assert [feature["name"] for feature in export(forest).manifest.features] == data.names


def test_the_file_says_what_the_manifest_holds(forest, frame, tmp_path):
    exported = export(
        forest, frame, name="eurusd_forest", version="1.0.0-rc.1", description='says "up": or down', feature_version=3,
        scope={"symbols": ["EURUSD", "yes"], "timeframe": "1h"}, metrics={"tiny": 1e-9, "large": 3e20, "whole": 7, "half": 0.5},
        thresholds={"up": 0.5}, otherwise="flat", background=2, scaler={"kind": "standard", "mean": None, "scale": [1e-7] * 6},
    )
    model, manifest = exported.save(tmp_path / "new/folder")
    read = yaml.safe_load(manifest.read_text())
    assert read == exported.manifest.as_dict()
    assert isinstance(read["metrics"]["tiny"], float) and read["scope"]["symbols"] == ["EURUSD", "yes"]
    assert read["feature_version"] == "3" and read["scaler"]["mean"] is None
    assert onnx.load(model).graph.name == "eurusd_forest"
    assert exported.save(tmp_path)[0].read_bytes() == model.read_bytes(), "equal exports are equal files"


def test_texts_that_yaml_takes_for_something_else_are_quoted():
    texts = ["yes", "No", "null", "1", "1.5", "1e5", "a: b", "- a", "#a", "", " a", "ü", "a\nb", '"', "~", "2026-01-01", "0x10"]
    read = yaml.safe_load(Manifest("m", labels=texts, scope={text: text for text in texts}).to_yaml())
    assert read["labels"] == texts and read["scope"] == {text: text for text in texts}
    numbers = [0.1, 1e-300, 1.5e300, -0.0, 123456789.125, 1e22, 5e-324]
    assert yaml.safe_load(Manifest("m", background=[numbers]).to_yaml())["background"] == [numbers]


def test_columns_of_several_kinds_are_inputs_of_their_own(data):
    frame = pandas.DataFrame({"price": data.X[:, 0], "venue": np.array(["x", "y", "z"])[data.three], "gap": data.X[:, 1]})
    frame.loc[::7, "gap"] = np.nan
    columns = compose.ColumnTransformer(
        [
            ("numbers", pipeline.make_pipeline(impute.SimpleImputer(), preprocessing.StandardScaler()), ["price", "gap"]),
            ("texts", preprocessing.OneHotEncoder(), ["venue"]),
        ]
    )
    model = pipeline.make_pipeline(columns, linear_model.LogisticRegression()).fit(frame, data.binary)
    exported = export(model, frame)
    assert [value.name for value in exported.onnx.graph.input] == ["price", "venue", "gap"]
    assert exported.manifest.features[1] == {"name": "venue"} and exported.manifest.accepts_missing is True
    inputs = [frame[[name]].to_numpy() for name in frame]
    close(run_onnx(exported.onnx, *inputs)[1], model.predict_proba(frame), 1e-4)
    with pytest.raises(ExportError, match="chooses columns by name"):
        export(model)


def test_texts(data):
    texts = ["rates rise on strong jobs", "rates fall as growth slows", "shares rise", "growth falls and jobs slow"] * 10
    target = np.array(["up", "down", "up", "down"] * 10)
    model = pipeline.make_pipeline(feature_extraction.text.TfidfVectorizer(lowercase=False), naive_bayes.MultinomialNB()).fit(texts, target)
    exported = export(model, texts, feature_names=["headline"])
    assert exported.manifest.features == [{"name": "headline"}] and exported.manifest.labels == ["down", "up"]
    close(run_onnx(exported.onnx, np.array(texts).reshape(-1, 1))[1], model.predict_proba(texts), 1e-4)


def test_models_without_predictions_of_classes_or_numbers(data):
    scaler = preprocessing.StandardScaler().fit(data.X)
    close(run_onnx(export(scaler, data.X).onnx, data.X)[0], scaler.transform(data.X))
    groups = cluster.KMeans(3, n_init=1, random_state=0).fit(data.X)
    assert (run_onnx(export(groups, data.X).onnx, data.X)[0].ravel() == groups.predict(data.X)).all()


def test_truth_values_are_classes_too(data):
    model = linear_model.LogisticRegression().fit(data.X, data.binary.astype(bool))
    exported = export(model, data.X, X_test=data.X, y_test=data.binary.astype(bool))
    assert exported.manifest.labels == ["False", "True"]
    close(exported.manifest.metrics["accuracy"], model.score(data.X, data.binary.astype(bool)))


@pytest.mark.parametrize(
    "given, what",
    [
        ("up,flat,down", "the labels up, flat, down are given, and the model itself calls its classes down, flat, up, in this order"),
        ("a,b,c", "the labels a, b, c are given, and the model itself calls its classes down, flat, up, in this order"),
        ("up,down", "2 labels are given, the model has 3 classes: down, flat, up"),
    ],
)
def test_labels_that_are_not_those_of_the_model_are_refused(given, what, forest, tmp_path, capsys):
    joblib.dump(forest, tmp_path / "forest.joblib")
    assert main([str(tmp_path / "forest.joblib"), "--labels", given, "-o", str(tmp_path)]) == 1
    assert f"error: {what} (labels)\nhint: " in capsys.readouterr().err
    assert main([str(tmp_path / "forest.joblib"), "--labels", "down,flat,up", "-o", str(tmp_path)]) == 0


def test_labels_that_no_output_has_columns_for_are_refused(data, lockgate):
    regressor = ensemble.RandomForestRegressor(3, random_state=0).fit(data.X, data.binary)
    with pytest.raises(ExportError, match="2 labels are given, and no output of the model has 2 columns: `variable` has 1"):
        export(regressor, labels=["down", "up"])
    # With a threshold, one column is the score of the second class, which packaging knows as well.
    lockgate(export(regressor, labels=["down", "up"], threshold=0.5, name="share"), data.X[:3])
    for given, what in ((["a", "a"], "the label `a` is given twice"), (["a", ""], "label 1 is empty")):
        with pytest.raises(ExportError, match=what):
            export(linear_model.LogisticRegression().fit(data.X, data.binary), labels=given)


def test_an_existing_onnx_file(data, tmp_path, capsys):
    from lockgate_export.graph import Graph

    graph = Graph("torch")
    rows = graph.input("rows", "float", ["N", 6])
    weights = graph.constant(np.eye(6, 3, dtype=np.float32))
    graph.node("Softmax", [graph.node("MatMul", [rows, weights])], outputs=["scores"], axis=-1)
    graph.output("scores", "float", ["N", 3])
    onnx.save(graph.model(), tmp_path / "torch.onnx")
    pandas.DataFrame(data.X, columns=data.names).assign(y=data.three).to_csv(tmp_path / "rows.csv", index=False)
    arguments = ["--onnx", str(tmp_path / "torch.onnx"), "--data", str(tmp_path / "rows.csv"), "--test", str(tmp_path / "rows.csv")]
    assert main([*arguments, "--target", "y", "--labels", "down,flat,up", "-o", str(tmp_path / "out")]) == 0
    read = yaml.safe_load((tmp_path / "out/torch.yaml").read_text())
    assert read["labels"] == ["down", "flat", "up"] and [feature["name"] for feature in read["features"]] == data.names
    scores = run_onnx(onnx.load(tmp_path / "out/torch.onnx"), data.X)[0]
    close(read["metrics"]["accuracy"], np.mean(scores.argmax(axis=1) == data.three))


def test_an_onnx_file_of_two_parts_and_a_fixed_batch(data, tmp_path):
    from lockgate_export.graph import Graph

    graph = Graph("torch")
    rows = graph.input("rows", "float", [1, 6])
    graph.node("MatMul", [rows, graph.constant(np.eye(6, 3, dtype=np.float32))], outputs=["scores"])
    graph.output("scores", "float", [1, 3])
    onnx.save(graph.model(), tmp_path / "model.onnx", save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    assert (tmp_path / "model.onnx.data").is_file()
    with pytest.warns(ExportWarning, match="the input `rows` has a fixed batch of 1"):
        model, _ = export(tmp_path / "model.onnx").save(tmp_path / "out")
    close(run_onnx(onnx.load(model), data.X[:1])[0], data.X[:1, :3])
    with pytest.raises(ExportError) as refused:
        (tmp_path / "model.pt").write_bytes(b"")
        export(tmp_path / "model.pt")
    assert "external_data=False" in refused.value.hint and "dynamic_shapes" in refused.value.hint and "dynamic_axes" in refused.value.hint


def test_the_command(forest, frame, data, tmp_path, capsys):
    joblib.dump(forest, tmp_path / "my forest.joblib")
    frame.assign(y=data.target("three_texts")).to_csv(tmp_path / "train.csv", index=False)
    arguments = [str(tmp_path / "my forest.joblib"), "--data", str(tmp_path / "train.csv"), "--target", "y"]
    status = main(
        [*arguments, "--test", str(tmp_path / "train.csv"), "-o", str(tmp_path / "out"), "--version", "2.0.0", "--symbols", "EURUSD,GBPUSD",
         "--timeframe", "1h", "--metric", "sharpe=1.5", "--feature-version", "7", "--background", "5"]
    )
    printed = capsys.readouterr()
    assert status == 0, printed.err
    out = tmp_path / "out"
    assert printed.out == (
        f"wrote {out}/my_forest.onnx and {out}/my_forest.yaml\n"
        f"next: lockgate package {out}/my_forest.onnx --manifest {out}/my_forest.yaml\n"
    )
    assert "runs code that it contains" in printed.err
    read = yaml.safe_load((out / "my_forest.yaml").read_text())
    assert read["model"] == "my_forest" and read["version"] == "2.0.0"
    assert read["scope"] == {"symbols": ["EURUSD", "GBPUSD"], "timeframe": "1h"}
    assert read["metrics"]["sharpe"] == 1.5 and read["metrics"]["rows"] == 300
    assert len(read["background"]) == 5 and [feature["name"] for feature in read["features"]] == data.names
    check_covers(onnx.load(out / "my_forest.onnx"))


def test_the_command_as_a_program(forest, tmp_path):
    (tmp_path / "forest.pkl").write_bytes(pickle.dumps(forest))
    package = pathlib.Path(lockgate_export.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "lockgate_export", "forest.pkl"], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(package)},
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "forest.onnx").is_file() and (tmp_path / "forest.yaml").is_file()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "error: one model is needed\nhint: lockgate-export MODEL, or lockgate-export --onnx FILE"),
        (["none.joblib"], "error: there is no file none.joblib"),
        (["model.pt"], "error: cannot read a model from model.pt: unknown ending `.pt`\nhint: export it with `torch.onnx.export"),
        (["model.h5"], "hint: load it with Keras 3 and save it with `model.save('model.keras')`"),
        (["bad.pkl"], "error: cannot load bad.pkl"),
        (["bad.onnx"], "error: bad.onnx is no valid ONNX file"),
        (["bad.json"], "error: bad.json is no model of XGBoost"),
        (["bad.txt"], "error: bad.txt is no model of LightGBM"),
        (["cut.txt"], "error: cut.txt is cut off: it has no `end of trees`\nhint: copy the whole file, or save it again"),
        (["cut2.txt"], "error: cut2.txt is cut off: it has no `end of parameters`\nhint: copy the whole file"),
        (["list.pkl"], "error: list.pkl holds 2 objects, not a model"),
        (["text.pkl"], "error: text.pkl holds str, not a model"),
        (["unfitted.pkl"], "error: the RandomForestClassifier is not fitted\nhint: call `fit` before exporting"),
        (["forest.pkl", "--name", "a b"], "error: `a b` is no name for a model (name)\nhint: 1 to 128 letters"),
        (["forest.pkl", "--version", "1.0"], "error: `1.0` is no semantic version (version)\nhint: three numbers, such as 1.0.0"),
        (["forest.pkl", "--metric", "good"], "error: `good` (--metric)\nhint: expected NAME=NUMBER"),
        (["forest.pkl", "--data", "few.csv"], "error: the data have no column `momentum` and 5 others\nhint: the columns are a, b"),
        (["forest.pkl", "--data", "ragged.csv"], "error: row 3 has 1 cells, the header 2 (ragged.csv)"),
        (["forest.pkl", "--data", "few.csv", "--target", "y"], "error: few.csv has no column `y` (--target)\nhint: the columns are a, b"),
        (["forest.pkl", "--data", "rows.xls"], "error: there is no file rows.xls"),
    ],
)
def test_errors_say_what_where_and_what_to_do(arguments, message, forest, data, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "forest.pkl").write_bytes(pickle.dumps(forest))
    (tmp_path / "unfitted.pkl").write_bytes(pickle.dumps(ensemble.RandomForestClassifier()))
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([1, 2]))
    (tmp_path / "text.pkl").write_bytes(pickle.dumps("a"))
    for name in ("model.pt", "model.h5", "bad.pkl", "bad.onnx", "bad.json", "bad.txt"):
        (tmp_path / name).write_bytes(b"bad")
    whole = lightgbm.train({"verbose": -1}, lightgbm.Dataset(data.X, data.real), 3).model_to_string()
    (tmp_path / "cut.txt").write_text(whole[: whole.index("Tree=1") + 100])
    (tmp_path / "cut2.txt").write_text(whole[: whole.index("end of parameters")])
    (tmp_path / "few.csv").write_text("a,b\n1,2\n")
    (tmp_path / "ragged.csv").write_text("a,b\n1,2\n1\n")
    assert main(arguments) == 1
    assert message in capsys.readouterr().err


def test_models_that_cannot_be_exported_say_why(data):
    categories = pandas.DataFrame({"venue": pandas.Categorical(np.array(list("xyz"))[data.three]), "gap": data.X[:, 0]})
    cases = [
        (xgboost.XGBRegressor(n_estimators=2, booster="gblinear").fit(data.X, data.real), "linear booster has no trees"),
        (xgboost.XGBRegressor(n_estimators=2, missing=-1.0).fit(data.X, data.real), "takes -1.0 for missing values"),
        (
            xgboost.XGBRegressor(n_estimators=2, multi_strategy="multi_output_tree").fit(data.X, np.column_stack([data.real, data.real])),
            "several numbers per leaf",
        ),
        (xgboost.XGBRegressor(n_estimators=2, enable_categorical=True).fit(categories, data.three), "splits on categories"),
        (lightgbm.LGBMRegressor(n_estimators=2, min_child_samples=2, verbose=-1).fit(categories, data.three), "splits on categories"),
        (lightgbm.LGBMRegressor(n_estimators=2, linear_tree=True, verbose=-1).fit(data.X, data.real), "linear functions in its leaves"),
        (lightgbm.LGBMRegressor(n_estimators=2, zero_as_missing=True, verbose=-1).fit(data.X, data.real), "zeros for missing values"),
        (
            ensemble.HistGradientBoostingRegressor(max_iter=2, categorical_features="from_dtype").fit(categories, data.three),
            "splits on categories",
        ),
    ]
    for model, what in cases:
        with pytest.raises(ExportError, match=what) as refused:
            export(model)
        assert refused.value.hint


def test_estimators_that_have_no_converter_are_named(data):
    labels = np.column_stack([data.binary, 1 - data.binary])
    frame = pandas.DataFrame({"venue": np.array(list("xyz"))[data.three], "gap": data.X[:, 0]})
    columns = compose.ColumnTransformer([("x", preprocessing.OneHotEncoder(), ["venue"])], remainder="passthrough")
    inner = pipeline.make_pipeline(columns, linear_model.LogisticRegression())
    sure = calibration.CalibratedClassifierCV(linear_model.LogisticRegression(), method="temperature", cv=2)
    cases = [
        (multioutput.ClassifierChain(linear_model.LogisticRegression()).fit(data.X, labels), data.X, "no converter for ClassifierChain "),
        (neighbors.NearestCentroid().fit(data.X, data.three), data.X, "no converter for NearestCentroid "),
        (lightgbm.LGBMClassifier(n_estimators=2, verbose=-1).fit(data.X, np.ones(300, dtype=int)), data.X, "knows one class alone"),
        (ensemble.RandomForestClassifier, data.X, "RandomForestClassifier is a class, not a model"),
        (sure.fit(data.X, data.binary), data.X, "the calibration `temperature` cannot be exported"),
        (calibration.CalibratedClassifierCV(inner, cv=2).fit(frame, data.binary), frame, "takes columns of several kinds"),
    ]
    for model, rows, what in cases:
        with pytest.raises(ExportError, match=what) as refused:
            export(model, rows)
        assert refused.value.hint


def test_rows_that_do_not_fit(forest, data):
    plain = linear_model.LogisticRegression().fit(data.X, data.binary)
    with pytest.raises(ExportError, match="X has 5 columns, the model takes 6"):
        export(plain, data.X[:, :5])
    with pytest.raises(ExportError, match="2 names are given, X has 6 columns"):
        export(plain, data.X, feature_names=["a", "b"])
    with pytest.raises(ExportError, match="both X_test and y_test"):
        export(plain, data.X, X_test=data.X)


def test_a_wrong_export_is_refused(data):
    """A model whose predictions are not those of its coefficients."""

    class Shifted(linear_model.Ridge):
        def predict(self, X):
            return super().predict(X) + 1.0

    import skl2onnx
    from skl2onnx._supported_operators import sklearn_operator_name_map

    sklearn_operator_name_map[Shifted] = "SklearnLinearRegressor"
    model = Shifted().fit(data.X, data.real)
    with pytest.raises(ExportError, match="200 of 200 rows get another answer"):
        export(model, data.X)
    assert export(model, data.X, check=False).onnx is not None
    assert skl2onnx.__version__


def test_trees_that_are_not_those_of_the_model_get_no_covers(data, monkeypatch):
    from lockgate_export import tree_details

    model = ensemble.RandomForestRegressor(3, random_state=0).fit(data.X, data.real)
    monkeypatch.setattr(tree_details, "_matches", lambda *_: False)
    with pytest.warns(ExportWarning, match="do not match those of the model node for node"):
        export(model, data.X)
