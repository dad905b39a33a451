"""LightGBM: from the library's own dump to tree operators, leaf for leaf."""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import ExportError
from .trees import Ensemble, Link, Tree
from .xgboost_models import Boosted

LINKS: dict[str, Link] = {
    "binary": "logistic",
    "cross_entropy": "logistic",
    "cross_entropy_lambda": "log1p_exp",
    "fair": "identity",
    "gamma": "exp",
    "huber": "identity",
    "lambdarank": "identity",
    "mape": "identity",
    "multiclass": "softmax",
    "multiclassova": "logistic",
    "poisson": "exp",
    "quantile": "identity",
    "rank_xendcg": "identity",
    "regression": "identity",
    "regression_l1": "identity",
    "tweedie": "exp",
}


def read(model: Any) -> Boosted:
    """Reads a booster, or an estimator of the scikit-learn interface."""
    booster, is_estimator = (model.booster_, True) if hasattr(model, "booster_") else (model, False)
    dump = booster.dump_model()
    words = dump.get("objective", "none").split()
    objective, options = words[0], dict(word.split(":", 1) for word in words[1:] if ":" in word)
    if objective not in LINKS:
        raise ExportError(
            f"the objective `{objective}` cannot be exported",
            where="LightGBM",
            hint=f"train with one of {', '.join(sorted(LINKS))}",
        )
    link = LINKS[objective]
    # Binary and one-versus-all scores are multiplied by this number before the logistic function.
    factor = float(options.get("sigmoid", 1.0)) if objective in ("binary", "multiclassova") else 1.0
    sigmoid = factor
    if "sqrt" in words[1:]:
        link = "square"
    scores = int(dump["num_tree_per_iteration"])
    infos = dump["tree_info"]
    if dump.get("average_output"):
        factor /= max(len(infos) // scores, 1)
    trees = []
    for index, info in enumerate(infos):
        tree = _tree(info["tree_structure"], index)
        tree.value = tree.value * factor
        tree.score = index % scores
        trees.append(tree)
    labels = None
    if objective in ("binary", "multiclass", "multiclassova"):
        labels = list(range(max(scores, 2)))
        if is_estimator:
            labels = list(model.classes_) if hasattr(model, "classes_") else None
    names = list(dump["feature_names"])
    ranges = {
        name: (float(info["min_value"]), float(info["max_value"]))
        for name, info in (dump.get("feature_infos") or {}).items()
        if not info.get("values")
    }
    if all(name == f"Column_{index}" for index, name in enumerate(names)):
        ranges = {f"x{name[7:]}": span for name, span in ranges.items()}
        names = []
    ensemble = Ensemble(trees, np.zeros(scores), "BRANCH_LEQ")
    return Boosted(ensemble, link, labels, names or None, int(dump["max_feature_idx"]) + 1, ranges, factor=sigmoid)


def _tree(root: dict[str, Any], index: int) -> Tree:
    nodes: list[dict[str, Any]] = []
    children: list[tuple[int, int]] = []
    stack: list[tuple[dict[str, Any], int, bool]] = [(root, -1, False)]
    while stack:
        node, parent, is_left = stack.pop()
        place = len(nodes)
        nodes.append(node)
        children.append((0, 0))
        if parent >= 0:
            left, right = children[parent]
            children[parent] = (place, right) if is_left else (left, place)
        if "split_feature" in node:
            stack += [(node["right_child"], place, False), (node["left_child"], place, True)]
    inner = np.array(["split_feature" in node for node in nodes])
    thresholds, missing_yes = np.zeros(len(nodes)), np.zeros(len(nodes), dtype=bool)
    for place, node in enumerate(nodes):
        if "leaf_coeff" in node and node["leaf_coeff"]:
            raise ExportError(
                f"tree {index} has linear functions in its leaves",
                where="LightGBM, parameter `linear_tree`",
                hint="train without linear_tree",
            )
        if not inner[place]:
            continue
        if node["decision_type"] != "<=":
            raise ExportError(
                f"tree {index} splits on categories",
                where="LightGBM, parameter `categorical_feature`",
                hint="encode the columns as numbers before training (with pandas, category columns are found by themselves)",
            )
        threshold = float(node["threshold"])
        thresholds[place] = threshold
        missing_yes[place] = _missing_yes(node, threshold, index)
    return Tree(
        feature=np.array([node.get("split_feature", -1) for node in nodes], dtype=np.int64),
        threshold=thresholds,
        yes=np.array([left for left, _ in children], dtype=np.int64),
        no=np.array([right for _, right in children], dtype=np.int64),
        missing_yes=missing_yes,
        value=np.array([node.get("leaf_value", 0.0) for node in nodes], dtype=np.float64),
        # A tree that is one leaf carries no count, and none is needed: nothing is divided there.
        cover=np.array([node.get("internal_count", node.get("leaf_count", 1)) for node in nodes], dtype=np.float64),
    )


def _missing_yes(node: dict[str, Any], threshold: float, index: int) -> bool:
    kind = node["missing_type"]
    if kind == "NaN":
        return bool(node["default_left"])
    if kind == "None":
        # NaN is taken for zero.
        return threshold >= 0.0
    raise ExportError(
        f"tree {index} takes zeros for missing values",
        where="LightGBM, parameter `zero_as_missing`",
        hint="train with zero_as_missing=False, and NaN for what is missing",
    )
