"""scikit-learn's HistGradientBoosting: from the fitted predictors to tree operators, leaf for leaf."""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import ExportError
from .trees import Ensemble, Link, Tree
from .xgboost_models import Boosted

LINKS: dict[str, Link] = {
    "AbsoluteError": "identity",
    "HalfBinomialLoss": "logistic",
    "HalfGammaLoss": "exp",
    "HalfMultinomialLoss": "softmax",
    "HalfPoissonLoss": "exp",
    "HalfSquaredError": "identity",
    "PinballLoss": "identity",
}


def read(model: Any) -> Boosted:
    """Reads a fitted HistGradientBoostingClassifier or HistGradientBoostingRegressor."""
    loss = type(model._loss).__name__
    if loss not in LINKS:
        raise ExportError(f"the loss {loss} cannot be exported", where=type(model).__name__, hint="use a loss of scikit-learn's own")
    columns = _columns(model)
    trees = []
    for iteration in model._predictors:
        for score, predictor in enumerate(iteration):
            trees.append(_tree(predictor.nodes, score, columns))
    base = np.ravel(np.asarray(model._baseline_prediction, dtype=np.float64))
    classes = list(model.classes_) if hasattr(model, "classes_") else None
    return Boosted(Ensemble(trees, base, "BRANCH_LEQ"), LINKS[loss], classes, None, int(model.n_features_in_))


def _columns(model: Any) -> np.ndarray:
    """The column that each index in a tree stands for: with categories, the library encodes their columns and puts them first."""
    columns = np.arange(int(model.n_features_in_))
    if getattr(model, "_preprocessor", None) is None:
        return columns
    categorical = np.asarray(model.is_categorical_, dtype=bool)
    return np.concatenate([columns[categorical], columns[~categorical]])


def _tree(nodes: np.ndarray, score: int, columns: np.ndarray) -> Tree:
    leaf = nodes["is_leaf"].astype(bool)
    if nodes["is_categorical"][~leaf].any():
        raise ExportError(
            "a tree splits on categories",
            where="HistGradientBoosting, parameter `categorical_features`",
            hint="encode the columns as numbers before training, with OneHotEncoder or OrdinalEncoder, and set "
            "categorical_features=None",
        )
    return Tree(
        feature=np.where(leaf, -1, columns[np.where(leaf, 0, nodes["feature_idx"])]).astype(np.int64),
        threshold=np.where(leaf, 0.0, nodes["num_threshold"]),
        yes=np.where(leaf, 0, nodes["left"]).astype(np.int64),
        no=np.where(leaf, 0, nodes["right"]).astype(np.int64),
        missing_yes=np.where(leaf, False, nodes["missing_go_to_left"]).astype(bool),
        value=np.where(leaf, nodes["value"], 0.0),
        cover=nodes["count"].astype(np.float64),
        score=score,
    )
