"""The comparison of an export with its model: what it lets pass, what it refuses, and what it says."""

import warnings

import numpy as np
import pandas
import pytest
import xgboost
from conftest import close, run_onnx
from sklearn import compose, ensemble, feature_extraction, linear_model, naive_bayes, pipeline, preprocessing, tree

from lockgate_export import ExportError, ExportWarning, checking, export, families


def wrong_in(monkeypatch, change):
    """Lets every conversion go wrong in the same way."""
    convert = families.convert

    def changed(*arguments, **options):
        converted = convert(*arguments, **options)
        change(converted.onnx)
        return converted

    monkeypatch.setattr(families, "convert", changed)


def test_a_few_wrong_rows_of_a_tree_are_refused(data, monkeypatch):
    model = tree.DecisionTreeClassifier(max_depth=4, random_state=0).fit(data.X, data.binary)

    def move_a_threshold(model):
        (node,) = [node for node in model.graph.node if node.op_type == "TreeEnsembleClassifier"]
        values = next(attribute for attribute in node.attribute if attribute.name == "nodes_values")
        values.floats[0] += 0.05

    wrong_in(monkeypatch, move_a_threshold)
    with pytest.raises(ExportError, match=r"[1-9]\d? of 200 rows get another answer from the export than from the model") as refused:
        export(model, data.X)
    assert "the worst is row " in refused.value.where and ", not `" in refused.value.where
    assert "check=False" in refused.value.hint


def test_labels_are_compared_where_scores_agree(data, monkeypatch):
    model = linear_model.LogisticRegression().fit(data.X, data.target("three_texts"))

    def swap_the_labels(model):
        for node in model.graph.node:
            for attribute in node.attribute:
                if attribute.name == "classlabels_strings":
                    attribute.strings[:] = attribute.strings[::-1]

    wrong_in(monkeypatch, swap_the_labels)
    with pytest.raises(ExportError, match="rows get another answer") as refused:
        export(model, data.X)
    assert "` with [" in refused.value.where and ", not `" in refused.value.where


def test_rows_on_thresholds_behind_a_scaler_are_explained(data):
    X = np.float64(1000.0) + np.round(data.X[:, :3].astype(np.float64), 2)
    model = pipeline.make_pipeline(preprocessing.StandardScaler(), xgboost.XGBRegressor(n_estimators=20)).fit(X, data.real)
    with pytest.warns(ExportWarning, match=r"of 200 rows get another answer .* within rounding of .*; double=True keeps them apart"):
        export(model, X)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ExportWarning)
        export(model, X, double=True)


def test_rows_that_differ_in_double_precision_alone_are_said(data, monkeypatch):
    X = np.column_stack([data.X[:, 1], 1.0 + 1e-9 * data.binary])
    model = ensemble.HistGradientBoostingClassifier(max_iter=5).fit(X, data.binary)
    assert (model.predict(X) == data.binary).all() and (model.predict(X.astype(np.float32)) == 0).all()
    count = int(data.binary[np.linspace(0, 299, 200).astype(int)].sum())
    with pytest.warns(ExportWarning, match=f"{count} of 200 rows get another answer .* within rounding of .*; double=True keeps them apart"):
        export(model, X)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ExportWarning)
        export(model, X, double=True)
        export(model, X.astype(np.float32))
    monkeypatch.setattr(checking, "_agrees_in_double", lambda *_: False)
    with pytest.warns(ExportWarning, match="where the model's answer changes$"):
        export(model, X)


def test_single_precision_that_is_not_enough_is_told_from_a_wrong_converter(data):
    codes = 16777216 + np.arange(300) % 10
    frame = pandas.DataFrame({"code": codes, "gap": data.X[:, 0].astype(np.float64)})
    columns = compose.ColumnTransformer([("codes", preprocessing.OneHotEncoder(), ["code"])], remainder="passthrough")
    model = pipeline.make_pipeline(columns, linear_model.LogisticRegression(C=100.0)).fit(frame, codes % 2)
    with pytest.raises(ExportError, match="rows get another answer") as refused:
        export(model, frame)
    assert "double=True" in refused.value.hint
    exported = export(model, frame, double=True)
    close(run_onnx(exported.onnx, frame[["code"]], frame[["gap"]])[1], model.predict_proba(frame), 1e-4)


@pytest.mark.parametrize("missing", [np.nan, None])
def test_missing_texts_are_compared_as_what_they_are(missing, data):
    frame = pandas.DataFrame({"price": data.X[:, 0], "day": pandas.Series(np.array(["mon", "tue", "wed"])[data.three], dtype=object)})
    frame.loc[::4, "day"] = missing
    days = compose.ColumnTransformer([("days", preprocessing.OneHotEncoder(handle_unknown="ignore"), ["day"])], remainder="passthrough")
    target = np.where(frame["day"].isna(), "none", "some")
    model = pipeline.make_pipeline(days, linear_model.LogisticRegression()).fit(frame, target)
    with pytest.warns(ExportWarning, match=f"column `day` has missing values, which the export takes as the text `{missing}`") as caught:
        exported = export(model, frame)
    assert len(caught) == 1
    scores = run_onnx(exported.onnx, frame[["price"]], frame[["day"]].map(str))[1]
    close(scores, model.predict_proba(frame), 1e-4)


def test_answers_for_fewer_rows_are_refused(data, monkeypatch):
    model = linear_model.RidgeClassifier().fit(data.X, data.three)
    run = checking.running.run
    monkeypatch.setattr(checking.running, "run", lambda *arguments: [output[:-1] for output in run(*arguments)])
    with pytest.raises(ExportError, match="200 of 200 rows get another answer"):
        export(model, data.X)


def test_texts_in_lower_case_are_compared_on_every_system(data):
    texts, target = ["Rates rise", "RATES fall", "Shares rise", "growth Falls"] * 10, ["up", "down", "up", "down"] * 10
    model = pipeline.make_pipeline(feature_extraction.text.TfidfVectorizer(), naive_bayes.MultinomialNB()).fit(texts, target)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ExportWarning)
        export(model, texts)


@pytest.mark.parametrize("offset", [0.0, 1.1, 60000.0])
def test_small_numbers_are_compared_in_their_own_scale(offset, data, monkeypatch):
    model = ensemble.RandomForestRegressor(10, random_state=0).fit(data.X, offset + data.real * (1e-4 if offset < 10 else 10.0))
    export(model, data.X)

    def move_the_leaves(model):
        (node,) = [node for node in model.graph.node if node.op_type == "TreeEnsembleRegressor"]
        weights = next(attribute for attribute in node.attribute if attribute.name == "target_weights")
        weights.floats[:] = [weight + 1e-4 * (1.0 + offset) / 10 for weight in weights.floats]

    wrong_in(monkeypatch, move_the_leaves)
    with pytest.raises(ExportError, match="200 of 200 rows get another answer"):
        export(model, data.X)


def test_a_booster_with_one_probability_is_compared(data, monkeypatch):
    booster = xgboost.train({"objective": "binary:logistic"}, xgboost.DMatrix(data.X, label=data.binary), 4)

    def move_the_base(model):
        for node in model.graph.node:
            for attribute in node.attribute:
                if attribute.name == "class_weights":
                    attribute.floats[:] = [2.0 * weight for weight in attribute.floats]

    export(booster, data.X)
    wrong_in(monkeypatch, move_the_base)
    with pytest.raises(ExportError, match="rows get another answer"):
        export(booster, data.X)
