"""Rows from text files: which kind a column is, by its cells and by what the model was trained on."""

import numpy as np
import joblib
import pandas
import pytest
import yaml
from sklearn import compose, ensemble, impute, linear_model, pipeline, preprocessing

from lockgate_export.cli import main
from lockgate_export.table import read_csv


@pytest.mark.parametrize(
    "cells, wanted",
    [
        (["1", "", "-2.5e3"], [1.0, np.nan, -2500.0]),
        (["True", "false"], [True, False]),
        (["True", "", "FALSE"], [1.0, np.nan, 0.0]),
        (["01234", "12345"], ["01234", "12345"]),
        (["0", "0.5", "-0"], [0.0, 0.5, -0.0]),
        (["1_000", "2"], ["1_000", "2"]),
        (["mon", "true"], ["mon", "true"]),
        (["", ""], [np.nan, np.nan]),
    ],
)
def test_cells(cells, wanted, tmp_path):
    (tmp_path / "rows.csv").write_text("first,column\n" + "".join(f"0,{cell}\n" for cell in cells))
    got = read_csv(tmp_path / "rows.csv").columns[1]
    assert got.dtype.kind == {bool: "b", float: "f", str: "O"}[type(wanted[0])]
    np.testing.assert_array_equal(got, np.array(wanted, dtype=got.dtype))


@pytest.fixture
def frame(data):
    rng = np.random.default_rng(0)
    return pandas.DataFrame(
        {
            "price": data.X[:, 0].astype(np.float64), "flag": data.X[:, 1] > 0, "grade": rng.choice(["1", "2", "3"], 300),
            "zone": rng.choice(["01234", "00999", "12345"], 300), "count": rng.integers(0, 5, 300),
        }
    )  # fmt: skip


def encoders():
    one_hot = preprocessing.OneHotEncoder
    filled = pipeline.make_pipeline(impute.SimpleImputer(strategy="most_frequent"), one_hot(handle_unknown="ignore"))
    return [
        ("price", preprocessing.StandardScaler(), ["price"]), ("flag", one_hot(), ["flag"]), ("grade", filled, ["grade"]),
        ("zone", one_hot(), ["zone"]), ("count", one_hot(), ["count"]),
    ]  # fmt: skip


@pytest.mark.parametrize("inner", ["pipeline", "positions", "forest"])
def test_columns_of_a_text_file_are_what_the_model_was_trained_on(inner, frame, tmp_path, capsys):
    target = np.where(frame["price"] + frame["flag"] + (frame["grade"] == "2") + (frame["zone"] == "00999") > 1, "up", "down")
    if inner == "forest":
        frame = frame[["price", "flag", "count"]]
        model = ensemble.RandomForestClassifier(5, random_state=0)
    else:
        frame.loc[::6, "grade"] = np.nan
        places = {name: place for place, name in enumerate(frame)}
        parts = [(name, part, [places[name] for name in names] if inner == "positions" else names) for name, part, names in encoders()]
        model = pipeline.make_pipeline(compose.ColumnTransformer(parts), linear_model.LogisticRegression())
    model.fit(frame, target)
    joblib.dump(model, tmp_path / "model.joblib")
    frame.assign(y=target).to_csv(tmp_path / "train.csv", index=False)
    file = str(tmp_path / "train.csv")
    arguments = [str(tmp_path / "model.joblib"), "--data", file, "--test", file, "--target", "y", "-o", str(tmp_path)]
    assert main(arguments) == 0, capsys.readouterr().err
    assert "warning" not in capsys.readouterr().err.replace("warning: column `grade` has missing values", "")
    read = yaml.safe_load((tmp_path / "model.yaml").read_text())
    assert read["metrics"]["accuracy"] == pytest.approx(model.score(frame, target))
    texts = [feature["name"] for feature in read["features"] if "min" not in feature]
    assert texts == ([] if inner == "forest" else ["grade", "zone"])
