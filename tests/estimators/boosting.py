"""XGBoost, LightGBM and CatBoost: classifiers, regressors and rankers, with every objective that their exporters know."""

import functools
import tempfile
from pathlib import Path

import catboost
import lightgbm
import numpy as np
import onnx
import onnxmltools
import xgboost
from onnxmltools.convert.common.data_types import DoubleTensorType, FloatTensorType

import data
import parts

OPSET = 15


class Boosted:
    """Fits and exports a boosted ensemble; `last` gives the library's own answer for rows."""

    def __init__(self, library, name, estimator, y, x=None, group=None, missing=False, double=False, tolerance=None, **fit):
        self.library, self.label, self.estimator, self.y, self.group = library, name, estimator, y, group
        self.x = data.features() if x is None else x
        self.missing, self.double, self.tolerance, self.fit = missing, double, tolerance, fit
        self.of = type(estimator).__name__

    @property
    def name(self):
        return f"{self.library}_{self.label}" + ("_f64" if self.double else "")

    def __call__(self):
        estimator = self.estimator
        fit = dict(self.fit)
        if self.group is not None:
            fit["group" if self.library != "catboost" else "group_id"] = self.group
        estimator.fit(self.x, self.y, **fit)
        model = EXPORTS[self.library](estimator, self.double)
        x = self.x.astype(np.float64 if self.double else np.float32)
        rows = data.edges(x, True, True, self.missing, parts.thresholds(model, 8))
        if not self.missing:
            rows = rows[~np.isnan(rows).any(axis=1)]
        if self.library == "catboost":
            # Its exporter calls the input as CatBoost does.
            requests = [{"features": some} for some in (rows, rows[:1], rows[:0])]
        else:
            requests = parts.requests_of(rows)
        return {"model": model, "requests": requests, "of": self.of, "tolerance": self.tolerance, "trained": functools.partial(parts.differs, estimator, rows)}


def by_onnxmltools(convert, estimator, double):
    kind = DoubleTensorType if double else FloatTensorType
    return convert(estimator, initial_types=[("input", kind([None, data.COLUMNS]))], target_opset=OPSET)


def lightgbm_model(estimator, double):
    kind = DoubleTensorType if double else FloatTensorType
    return onnxmltools.convert_lightgbm(estimator, initial_types=[("input", kind([None, data.COLUMNS]))], target_opset=OPSET, zipmap=False)


def catboost_model(estimator, double):
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.onnx")
        estimator.save_model(path, format="onnx")
        return onnx.load(path)


EXPORTS = {
    "xgboost": functools.partial(by_onnxmltools, onnxmltools.convert_xgboost),
    "lightgbm": lightgbm_model,
    "catboost": catboost_model,
}


def jobs():
    x = data.features()
    missing = data.with_missing(x)
    two, three, five = (data.classes(x, count) for count in (2, 3, 5))
    y, positive, unit = data.target(x), np.exp(data.target(x) / 4), 1 / (1 + np.exp(-data.target(x)))
    relevance = data.classes(x, 3)
    groups = [20] * (len(x) // 20)
    found = []

    def add(*arguments, **options):
        made = Boosted(*arguments, **options)
        found.append((made.name, made))

    small = {"n_estimators": 12, "max_depth": 4, "random_state": 7, "n_jobs": 1}
    for variant, labels in (("binary", two), ("three", three), ("five", five)):
        for name, rows in (("", x), ("_missing", missing)):
            add("xgboost", f"classifier_{variant}{name}", xgboost.XGBClassifier(**small), labels, rows, missing=bool(name))
            add("lightgbm", f"classifier_{variant}{name}", lightgbm.LGBMClassifier(**small, verbose=-1, min_child_samples=5), labels, rows, missing=bool(name))
            add("catboost", f"classifier_{variant}{name}", cat(catboost.CatBoostClassifier), labels, rows, missing=bool(name))
        add("lightgbm", f"classifier_{variant}", lightgbm.LGBMClassifier(**small, verbose=-1), labels, double=True)
    for objective in ("binary:logistic", "binary:logitraw", "binary:hinge"):
        add("xgboost", f"classifier_{slug(objective)}", xgboost.XGBClassifier(objective=objective, **small), two)
    for objective in ("multi:softprob", "multi:softmax"):
        add("xgboost", f"classifier_{slug(objective)}", xgboost.XGBClassifier(objective=objective, **small), three)
    for objective, target in {
        "reg:squarederror": y, "reg:squaredlogerror": positive, "reg:logistic": unit, "reg:pseudohubererror": y, "reg:absoluteerror": y,
        "reg:gamma": positive, "reg:tweedie": positive, "count:poisson": positive, "survival:cox": positive,
    }.items():  # fmt: skip
        add("xgboost", f"regressor_{slug(objective)}", xgboost.XGBRegressor(objective=objective, **small), target)
    add("xgboost", "regressor_quantile", xgboost.XGBRegressor(objective="reg:quantileerror", quantile_alpha=0.7, **small), y)
    add("xgboost", "regressor_missing", xgboost.XGBRegressor(**small), y, missing, missing=True)
    add("xgboost", "regressor_base_score", xgboost.XGBRegressor(base_score=3.5, **small), y)
    add("xgboost", "regressor_three_outputs", xgboost.XGBRegressor(**small), data.target(x, 3))
    add("xgboost", "regressor_dart", xgboost.XGBRegressor(booster="dart", rate_drop=0.1, **small), y)
    add("xgboost", "regressor_linear", xgboost.XGBRegressor(booster="gblinear", n_estimators=12), y)
    add("xgboost", "classifier_base_score", xgboost.XGBClassifier(base_score=0.3, **small), two)
    add("xgboost", "classifier_stopped", xgboost.XGBClassifier(early_stopping_rounds=2, **{**small, "n_estimators": 60}), two, eval_set=[(x[:40], two[:40])], verbose=False)
    add("xgboost", "classifier_single_tree", xgboost.XGBClassifier(**{**small, "n_estimators": 1}), two)
    add("xgboost", "forest_classifier", xgboost.XGBRFClassifier(**small), two)
    add("xgboost", "forest_regressor", xgboost.XGBRFRegressor(**small), y)
    for objective in ("rank:pairwise", "rank:ndcg", "rank:map"):
        labels = relevance if objective != "rank:map" else two
        add("xgboost", f"ranker_{slug(objective)}", xgboost.XGBRanker(objective=objective, **small), labels, group=groups)

    light = {**small, "verbose": -1, "min_child_samples": 5}
    for objective, target in {
        "regression": y, "regression_l1": y, "huber": y, "fair": y, "quantile": y, "mape": positive, "poisson": positive, "gamma": positive,
        "tweedie": positive, "cross_entropy": unit, "cross_entropy_lambda": unit,
    }.items():  # fmt: skip
        for double in (False, True):
            add("lightgbm", f"regressor_{objective}", lightgbm.LGBMRegressor(objective=objective, **light), target, double=double)
    for objective in ("multiclass", "multiclassova"):
        add("lightgbm", f"classifier_{objective}", lightgbm.LGBMClassifier(objective=objective, **light), three)
    for kind in ("dart", "rf"):
        options = {"subsample": 0.7, "subsample_freq": 1} if kind == "rf" else {}
        add("lightgbm", f"regressor_{kind}", lightgbm.LGBMRegressor(boosting_type=kind, **options, **light), y)
        add("lightgbm", f"classifier_{kind}", lightgbm.LGBMClassifier(boosting_type=kind, **options, **light), two)
    add("lightgbm", "regressor_missing", lightgbm.LGBMRegressor(**light), y, missing, missing=True)
    add("lightgbm", "regressor_zero_missing", lightgbm.LGBMRegressor(zero_as_missing=True, **light), y, missing, missing=True)
    add("lightgbm", "regressor_sqrt", lightgbm.LGBMRegressor(reg_sqrt=True, **light), positive)
    coded = x.copy()
    coded[:, 1] = np.random.default_rng(3).integers(0, 6, size=len(x))
    add("lightgbm", "classifier_categories", lightgbm.LGBMClassifier(**light, cat_smooth=1, min_data_per_group=1), two, coded, categorical_feature=[1])
    for objective in ("lambdarank", "rank_xendcg"):
        add("lightgbm", f"ranker_{objective}", lightgbm.LGBMRanker(objective=objective, **light), relevance, group=groups)
    for variant, labels in (("binary_strings", data.NAMES[two]), ("five_strings", data.NAMES[five])):
        add("lightgbm", f"classifier_{variant}", lightgbm.LGBMClassifier(**light), labels)
        add("catboost", f"classifier_{variant}", cat(catboost.CatBoostClassifier), labels)

    for loss in ("Logloss", "CrossEntropy", "MultiClass", "MultiClassOneVsAll"):
        labels = two if loss in ("Logloss", "CrossEntropy") else three
        add("catboost", f"classifier_{loss.lower()}", cat(catboost.CatBoostClassifier, loss_function=loss), labels)
    for loss in ("RMSE", "MAE", "Quantile:alpha=0.7", "MAPE", "Poisson", "Tweedie:variance_power=1.5", "Huber:delta=1.0", "LogLinQuantile", "Lq:q=2", "Expectile:alpha=0.6"):
        add("catboost", f"regressor_{slug(loss.split(':')[0])}", cat(catboost.CatBoostRegressor, loss_function=loss), positive)
    add("catboost", "regressor_missing", cat(catboost.CatBoostRegressor), y, missing, missing=True)
    add("catboost", "regressor_three_outputs", cat(catboost.CatBoostRegressor, loss_function="MultiRMSE"), data.target(x, 3))
    for policy in ("Depthwise", "Lossguide"):
        add("catboost", f"regressor_{policy.lower()}", cat(catboost.CatBoostRegressor, grow_policy=policy), y)
    for loss in ("YetiRank", "PairLogit", "QueryRMSE", "QuerySoftMax"):
        labels = relevance if loss != "QuerySoftMax" else two
        add("catboost", f"ranker_{loss.lower()}", cat(catboost.CatBoostRanker, loss_function=loss), labels, group=np.repeat(np.arange(len(groups)), 20))
    return found


def cat(kind, **options):
    return kind(iterations=12, depth=4, random_seed=7, verbose=False, thread_count=1, allow_writing_files=False, **options)


def slug(objective):
    return objective.replace(":", "_").lower()
