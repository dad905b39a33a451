"""Writes small models with the covers of their trees, and what the `shap` package says each feature contributes.

    python -m venv .venv && .venv/bin/pip install -r requirements.txt && .venv/bin/python generate.py

Exporters write 1 into `nodes_hitrates`; this script writes how many rows of the training set, or what weight of them, came to each
node, as `lockgate-export` does. README.md says what the files hold. Everything is seeded.
"""

import json
import sys
import warnings
from pathlib import Path

import lightgbm
import numpy as np
import onnx
import shap
import xgboost
from onnx import helper
from onnxmltools import convert_lightgbm, convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType as OnnxmlFloat
from skl2onnx import to_onnx
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.tree import DecisionTreeRegressor

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "python"))

from skl2onnx_patches import accept_numpy_bools  # noqa: E402

OPSET = {"": 18, "ai.onnx.ml": 3}
COLUMNS = 5
ROWS = 12


def features(seed, rows=300, missing=False):
    rng = np.random.default_rng(seed)
    scale = np.array([1.0, 0.01, 100.0, 3.0, 1.0])
    x = (rng.normal(size=(rows, COLUMNS)) * scale).astype(np.float32)
    if missing:
        x[rng.random(x.shape) < 0.15] = np.nan
    return x


def score(x):
    z = np.nan_to_num(x) / np.array([1.0, 0.01, 100.0, 3.0, 1.0])
    return 2 * z[:, 0] - z[:, 1] + np.sin(2 * z[:, 2]) + z[:, 3] * z[:, 4]


def classes(x, count):
    s = score(x)
    return np.digitize(s, np.quantile(s, np.linspace(0, 1, count + 1)[1:-1]))


# The covers of each tree's nodes, by the numbers that the exporter gives the nodes.


def sklearn_covers(model):
    trees = model.estimators_ if hasattr(model, "estimators_") else [model]
    return [tree.tree_.weighted_n_node_samples for tree in np.ravel(trees)]


def histogram_covers(model):
    return [tree.nodes["count"].astype(float) for trees in model._predictors for tree in trees]


def lightgbm_covers(model):
    def walk(node, into):
        into.append(float(node.get("internal_count", node.get("leaf_count", 0))))
        for side in ("left_child", "right_child"):
            if side in node:
                walk(node[side], into)
        return into

    return [walk(tree["tree_structure"], []) for tree in model.booster_.dump_model()["tree_info"]]


def xgboost_covers(model):
    """By node ids as the exporter numbers them: a node, then what is behind each of its children as the dump lists them."""

    def walk(node, into):
        into.append(float(node["cover"]))
        for child in node.get("children", []):
            walk(child, into)
        return into

    dump = model.get_booster().get_dump(with_stats=True, dump_format="json")
    return [walk(json.loads(text), []) for text in dump]


def structure(attributes):
    """The nodes of each tree from the root, first branch first: true, false."""
    ids = list(zip(attributes["nodes_treeids"], attributes["nodes_nodeids"]))
    place = {key: index for index, key in enumerate(ids)}
    return ids, place


def write_covers(proto, covers, preorder=False):
    """Puts covers into the tree operators, tree by tree in the order of the file."""
    left = list(covers)
    for node in proto.graph.node:
        if not node.op_type.startswith("TreeEnsemble"):
            continue
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        ids, place = structure(attributes)
        count = len(set(attributes["nodes_treeids"]))
        mine, left = left[:count], left[count:]
        by_tree = dict(zip(dict.fromkeys(attributes["nodes_treeids"]), mine))
        values = [0.0] * len(ids)
        for tree, tree_covers in by_tree.items():
            if not preorder:
                for (own, node_id), index in place.items():
                    if own == tree:
                        values[index] = float(tree_covers[node_id])
                continue
            stack, order = [next(i for i, key in enumerate(ids) if key[0] == tree)], iter(tree_covers)
            while stack:
                index = stack.pop()
                values[index] = next(order)
                if attributes["nodes_modes"][index] != b"LEAF":
                    stack.append(place[tree, attributes["nodes_falsenodeids"][index]])
                    stack.append(place[tree, attributes["nodes_truenodeids"][index]])
        kept = [a for a in node.attribute if a.name != "nodes_hitrates"]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute("nodes_hitrates", values)])
    assert not left, "covers of trees that the file does not have"


def numbers(array):
    """Exactly, as the shortest text that comes back; missing values as null."""
    return [None if np.isnan(value) else float(value) for value in np.ravel(np.asarray(array, dtype=float))]


def write(name, proto, x, values):
    """`values`: for each method the background or nothing, contributions and base."""
    # Exporters call some graphs by random names, and list operator sets in any order.
    proto.graph.name = name
    opsets = sorted(proto.opset_import, key=lambda opset: opset.domain, reverse=True)
    del proto.opset_import[:]
    proto.opset_import.extend(opsets)
    (HERE / f"{name}.onnx").write_bytes(proto.SerializeToString())
    rows = [numbers(row.astype(np.float32)) for row in x]
    (HERE / f"{name}.json").write_text(json.dumps({"rows": rows, **values}, indent=None) + "\n")


def answer(contributions, base):
    """From shap's [rows, features, scores] and one base per score."""
    contributions = np.asarray(contributions, dtype=float)
    if contributions.ndim == 2:
        contributions = contributions[:, :, None]
    return {
        "scores": contributions.shape[2],
        "contributions": numbers(contributions),
        "base": numbers(np.ravel(base)),
    }


def trees(name, model, proto, covers, x, path=True, preorder=False, against=True, model_output=None):
    write_covers(proto, covers, preorder)
    rows, background = x[:ROWS], x[100:120]
    values = {"background": [numbers(row) for row in background]}
    if path:
        explainer = shap.TreeExplainer(model, feature_perturbation="tree_path_dependent")
        values["path_dependent"] = answer(explainer.shap_values(rows, check_additivity=False), explainer.expected_value)
    if against:
        explainer = shap.TreeExplainer(model, data=background, feature_perturbation="interventional")
        values["interventional"] = answer(
            explainer.shap_values(rows, check_additivity=False), explainer.expected_value
        )
    write(name, proto, rows, values)


def sklearn_trees():
    x = features(3)
    two, three, y = classes(x, 2), classes(x, 3), score(x)
    small = dict(n_estimators=8, max_depth=5, random_state=7)
    models = {
        "tree_regressor": (DecisionTreeRegressor(max_depth=6, random_state=7), y),
        "forest_regressor": (RandomForestRegressor(**small), y),
        "forest_two_outputs": (RandomForestRegressor(**small), np.stack([y, y**2], axis=1)),
        "forest_binary": (RandomForestClassifier(**small), two),
        "forest_three": (RandomForestClassifier(**small), three),
        "extra_trees_regressor": (ExtraTreesRegressor(**small), y),
        "extra_trees_three": (ExtraTreesClassifier(**small), three),
        "boosting_regressor": (GradientBoostingRegressor(n_estimators=10, random_state=7), y),
        "boosting_binary": (GradientBoostingClassifier(n_estimators=10, random_state=7), two),
    }
    for name, (model, target) in models.items():
        model.fit(x, target)
        options = {id(model): {"zipmap": False}} if hasattr(model, "classes_") else None
        proto = to_onnx(model, x[:1], options=options, target_opset=OPSET)
        trees(name, model, proto, sklearn_covers(model), x)
    # shap knows no gradient boosting of several classes, and no scaler before trees.


def histogram_trees():
    for name, kind, missing, target in [
        ("histogram_regressor", HistGradientBoostingRegressor, False, score),
        ("histogram_binary_missing", HistGradientBoostingClassifier, True, lambda x: classes(x, 2)),
        ("histogram_three", HistGradientBoostingClassifier, False, lambda x: classes(x, 3)),
    ]:
        x = features(4, missing=missing)
        model = kind(max_iter=6, max_leaf_nodes=8, min_samples_leaf=5, random_state=7).fit(x, target(x))
        options = {id(model): {"zipmap": False}} if hasattr(model, "classes_") else None
        proto = to_onnx(model, x[:1], options=options, target_opset=OPSET)
        # shap reads neither these trees with several classes nor their covers; the values of the trees in the file are there.
        trees(name, model, proto, histogram_covers(model), x, against=name != "histogram_three")


def xgboost_trees():
    small = dict(n_estimators=6, max_depth=4, random_state=7)
    for name, kind, missing, target in [
        ("xgboost_regressor", xgboost.XGBRegressor, False, score),
        ("xgboost_binary_missing", xgboost.XGBClassifier, True, lambda x: classes(x, 2)),
        ("xgboost_three", xgboost.XGBClassifier, False, lambda x: classes(x, 3)),
    ]:
        x = features(5, missing=missing)
        model = kind(**small).fit(x, target(x))
        proto = convert_xgboost(model, initial_types=[("input", OnnxmlFloat([None, COLUMNS]))], target_opset=15)
        trees(name, model, proto, xgboost_covers(model), x)


def lightgbm_trees():
    small = dict(n_estimators=6, num_leaves=8, min_child_samples=5, random_state=7, verbose=-1)
    for name, kind, missing, target in [
        ("lightgbm_regressor", lightgbm.LGBMRegressor, False, score),
        ("lightgbm_binary_missing", lightgbm.LGBMClassifier, True, lambda x: classes(x, 2)),
        ("lightgbm_three", lightgbm.LGBMClassifier, False, lambda x: classes(x, 3)),
    ]:
        x = features(6, missing=missing)
        model = kind(**small).fit(x, target(x))
        proto = convert_lightgbm(
            model, initial_types=[("input", OnnxmlFloat([None, COLUMNS]))], target_opset=15, zipmap=False
        )
        trees(name, model, proto, lightgbm_covers(model), x, preorder=True)


def linear_models():
    x = features(7)
    two, three, y = classes(x, 2), classes(x, 3), score(x)
    models = {
        "linear_regression": (LinearRegression(), y),
        "ridge_two_outputs": (make_pipeline(StandardScaler(), Ridge()), np.stack([y, y**2], axis=1)),
        "logistic_binary": (make_pipeline(StandardScaler(), LogisticRegression()), two),
        "logistic_three": (make_pipeline(MinMaxScaler(), LogisticRegression()), three),
    }
    for name, (model, target) in models.items():
        model.fit(x, target)
        options = {id(model): {"zipmap": False}} if hasattr(model, "classes_") else None
        proto = to_onnx(model, x[:1], options=options, target_opset=OPSET)
        background = x[100:120]
        *before, last = [step for _, step in model.steps] if hasattr(model, "steps") else [model]

        def scaled(rows):
            for step in before:
                rows = step.transform(rows)
            return rows

        explainer = shap.LinearExplainer(last, shap.maskers.Independent(scaled(background), max_samples=1000))
        linear = answer(explainer.shap_values(scaled(x[:ROWS])), explainer.expected_value)
        write(name, proto, x[:ROWS], {"background": [numbers(row) for row in background], "linear": linear})


def main():
    warnings.filterwarnings("ignore")
    accept_numpy_bools()
    for stale in [*HERE.glob("*.onnx"), *HERE.glob("*.json")]:
        stale.unlink()
    for part in (sklearn_trees, histogram_trees, xgboost_trees, lightgbm_trees, linear_models):
        part()
    files = [*HERE.glob("*.onnx"), *HERE.glob("*.json")]
    print(f"{len(files)} files, {sum(file.stat().st_size for file in files):,} bytes")


main()
