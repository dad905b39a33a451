"""XGBoost: from the library's own JSON model to tree operators, leaf for leaf."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import ExportError, ExportWarning
from .trees import Ensemble, Link, Tree

# What the library does to the sum of the leaves, by objective.
LINKS: dict[str, Link] = {
    "binary:logistic": "logistic",
    "binary:logitraw": "identity",
    "count:poisson": "exp",
    "multi:softmax": "softmax",
    "multi:softprob": "softmax",
    "rank:map": "identity",
    "rank:ndcg": "identity",
    "rank:pairwise": "identity",
    "reg:absoluteerror": "identity",
    "reg:gamma": "exp",
    "reg:linear": "identity",
    "reg:logistic": "logistic",
    "reg:pseudohubererror": "identity",
    "reg:quantileerror": "identity",
    "reg:expectileerror": "identity",
    "reg:squarederror": "identity",
    "reg:squaredlogerror": "identity",
    "reg:tweedie": "exp",
    "survival:aft": "exp",
    "survival:cox": "exp",
}
# Objectives whose stored base score is a probability.
LOGIT_BASE = {"binary:logistic", "reg:logistic"}


@dataclass
class Boosted:
    """What the converters need of a boosted model."""

    ensemble: Ensemble
    link: Link
    # None for a regressor.
    labels: list[Any] | None
    feature_names: list[str] | None
    features: int
    ranges: dict[str, tuple[float, float]] | None = None
    # Whether the scores are a probability each, of labels that do not exclude each other.
    multilabel: bool = False
    # What the trees' scores were multiplied by before the link, which the library's decision function leaves out.
    factor: float = 1.0


def read(model: Any) -> Boosted:
    """Reads a booster, or an estimator of the scikit-learn interface."""
    booster, is_estimator = (model.get_booster(), True) if hasattr(model, "get_booster") else (model, False)
    missing = getattr(model, "missing", None)
    if missing is not None and not np.isnan(missing):
        raise ExportError(
            f"the model takes {missing} for missing values; only NaN can be exported",
            where="XGBoost, parameter `missing`",
            hint="replace the value by NaN before training, and leave `missing` out",
        )
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    objective = learner["objective"]["name"]
    if objective not in LINKS:
        raise ExportError(
            f"the objective `{objective}` cannot be exported",
            where="XGBoost",
            hint=f"train with one of {', '.join(sorted(LINKS))}",
        )
    parameters = learner["learner_model_param"]
    classes = int(parameters["num_class"])
    scores = max(classes, int(parameters.get("num_target", 1)), 1)
    wanted = iterations(model)
    if wanted is None:
        _say_that_all_predict(booster)
    trees = _trees(learner["gradient_booster"], wanted, scores)
    labels = None
    # Labels that do not exclude each other are a probability each, and no classes.
    multilabel = scores > max(classes, 1) and objective.startswith("binary:")
    # Of boosters with log-odds for answers, only the estimators say that they are classifiers.
    raw_classifier = objective == "binary:logitraw" and is_estimator and hasattr(model, "classes_")
    if not multilabel and (classes > 1 or objective == "binary:logistic" or raw_classifier):
        labels = list(range(max(classes, 2)))
        if is_estimator:
            labels = list(model.classes_) if hasattr(model, "classes_") else None
    # XGBClassifier takes log-odds for the probability of the second class all the same.
    link = "one_half" if raw_classifier and labels is not None else LINKS[objective]
    names = learner.get("feature_names") or None
    base = _base(parameters["base_score"], objective, scores)
    ensemble = Ensemble(trees, base, "BRANCH_LT")
    return Boosted(ensemble, link, labels, names, int(parameters["num_feature"]), multilabel=multilabel)


def iterations(model: Any) -> int | None:
    """How many iterations predict, None for all: training that stopped early leaves the best one, which estimators of the
    scikit-learn interface go by, and which their files are loaded with again. A booster uses all."""
    booster = model.get_booster() if hasattr(model, "get_booster") else model
    best = booster.attr("best_iteration")
    if best is None:
        return None
    if not hasattr(model, "get_booster") and booster.attr("scikit_learn") is None:
        return None
    return int(best) + 1


def _say_that_all_predict(booster: Any) -> None:
    best = booster.attr("best_iteration")
    if best is None or int(best) + 1 >= booster.num_boosted_rounds():
        return
    warnings.warn(
        f"training stopped early, and all {booster.num_boosted_rounds()} iterations of the booster are exported, as they all predict; "
        f"give `booster[: booster.best_iteration + 1]` for the best {int(best) + 1}",
        ExportWarning,
        stacklevel=3,
    )


def _base(stored: str, objective: str, scores: int) -> np.ndarray:
    values = np.atleast_1d(np.asarray(json.loads(stored), dtype=np.float32)).astype(np.float64)
    if objective in LOGIT_BASE:
        values = -np.log(1.0 / values - 1.0)
    elif LINKS[objective] == "exp":
        values = np.log(values)
    return np.broadcast_to(values, (scores,)).astype(np.float64) if len(values) == 1 else values


def _trees(booster: dict[str, Any], iterations: int | None, scores: int) -> list[Tree]:
    if booster["name"] == "gblinear":
        raise ExportError(
            "the linear booster has no trees",
            where="XGBoost, parameter `booster`",
            hint="train with gbtree, or a linear model of scikit-learn",
        )
    weights = booster.get("weight_drop")
    model = booster["gbtree"]["model"] if "gbtree" in booster else booster["model"]
    stored, groups = model["trees"], model["tree_info"]
    if iterations is not None:
        starts = model.get("iteration_indptr")
        parallel = int(model["gbtree_model_param"].get("num_parallel_tree", 1))
        end = starts[min(iterations, len(starts) - 1)] if starts else iterations * scores * max(parallel, 1)
        stored = stored[:end]
    trees = []
    for index, (tree, group) in enumerate(zip(stored, groups)):
        if int(tree["tree_param"].get("size_leaf_vector", "1")) > 1:
            raise ExportError(
                f"tree {index} has several numbers per leaf",
                where="XGBoost, parameter `multi_strategy`",
                hint="train with multi_strategy='one_output_per_tree'",
            )
        if any(tree["split_type"]):
            raise ExportError(
                f"tree {index} splits on categories",
                where="XGBoost, parameter `enable_categorical`",
                hint="encode the columns as numbers before training, with OneHotEncoder or OrdinalEncoder",
            )
        trees.append(_tree(tree, group, 1.0 if weights is None else float(weights[index])))
    return trees


def _tree(stored: dict[str, Any], score: int, weight: float) -> Tree:
    """Nodes that pruning left behind are dropped; the rest keep their order."""
    left = np.asarray(stored["left_children"], dtype=np.int64)
    right = np.asarray(stored["right_children"], dtype=np.int64)
    kept = np.zeros(len(left), dtype=bool)
    stack = [0]
    while stack:
        node = stack.pop()
        kept[node] = True
        if left[node] != -1:
            stack += [int(left[node]), int(right[node])]
    place = np.cumsum(kept) - 1
    leaf = left == -1
    condition = np.asarray(stored["split_conditions"], dtype=np.float32).astype(np.float64)
    return Tree(
        feature=np.where(leaf, -1, np.asarray(stored["split_indices"], dtype=np.int64))[kept],
        threshold=np.where(leaf, 0.0, condition)[kept],
        yes=np.where(leaf, 0, place[left])[kept],
        no=np.where(leaf, 0, place[right])[kept],
        missing_yes=np.asarray(stored["default_left"], dtype=bool)[kept],
        value=np.where(leaf, condition * weight, 0.0)[kept],
        cover=np.asarray(stored["sum_hessian"], dtype=np.float64)[kept],
        score=score,
    )
