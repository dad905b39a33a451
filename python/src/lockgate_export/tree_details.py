"""What skl2onnx leaves out of scikit-learn's trees: covers, exact thresholds, and where missing values go."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .errors import ExportError, ExportWarning
from .graph import ML, ML_OPSET
from .parts import walk
from .trees import covers_add_up, single

TREE_OPERATORS = ("TreeEnsembleClassifier", "TreeEnsembleRegressor")


def fill_trees(model: onnx.ModelProto, estimator: Any, *, double: bool = False) -> None:
    """Writes covers into the trees that skl2onnx wrote, exact thresholds, and where missing values go.

    Both trees are walked in parallel: features, children and thresholds must agree.
    """
    sources = [trees for part in walk(estimator) for trees in _source_trees(part)]
    written = False
    for node in model.graph.node:
        if node.op_type not in TREE_OPERATORS or node.domain != ML:
            continue
        attributes = {attribute.name: attribute for attribute in node.attribute}
        numbers = [name for name in attributes if name.startswith("nodes_") and name != "nodes_modes"]
        values = {name: _values(attributes[name]) for name in numbers}
        rates = values.get("nodes_hitrates", values.get("nodes_hitrates_as_tensor"))
        if rates is None or not np.all(rates == 1.0):
            continue
        place = next((place for place, trees in enumerate(sources) if _matches(values, trees)), None)
        if place is None:
            warnings.warn(
                f"the trees of node `{node.name}` do not match those of the model node for node, so their covers are left out; "
                "contributions need a background instead (`background=100`)",
                ExportWarning,
                stacklevel=2,
            )
            continue
        # Equal trees are written in the order in which they stand in the model; one may also be written twice.
        trees = sources.pop(place)
        sources.append(trees)
        _write(node, trees, double)
        written = True
    if written and double:
        # Attributes in double precision are there from this set on.
        for opset in model.opset_import:
            if opset.domain == ML:
                opset.version = max(opset.version, ML_OPSET)


class SourceTree:
    """A tree of scikit-learn, in the numbering that skl2onnx keeps."""

    def __init__(self, left: Any, right: Any, feature: Any, threshold: Any, cover: Any, missing_left: Any) -> None:
        self.left = np.asarray(left, dtype=np.int64)
        self.right = np.asarray(right, dtype=np.int64)
        self.feature = np.asarray(feature, dtype=np.int64)
        self.threshold = np.asarray(threshold, dtype=np.float64)
        self.cover = np.asarray(cover, dtype=np.float64)
        self.missing_left = np.asarray(missing_left, dtype=bool)


def _source_trees(part: Any) -> list[list[SourceTree]]:
    """The ensembles that an operator may hold: all trees of an estimator."""
    if hasattr(part, "tree_"):
        return [[_plain_tree(part.tree_)]]
    names = ("RandomForest", "ExtraTrees", "GradientBoosting")
    if not type(part).__name__.startswith(names) or not hasattr(part, "estimators_"):
        return []
    return [[_plain_tree(tree.tree_) for tree in np.asarray(part.estimators_, dtype=object).ravel()]]


def _plain_tree(tree: Any) -> SourceTree:
    leaf = tree.children_left == -1
    missing = getattr(tree, "missing_go_to_left", np.zeros(len(leaf), dtype=bool))
    return SourceTree(
        np.where(leaf, 0, tree.children_left),
        np.where(leaf, 0, tree.children_right),
        np.where(leaf, -1, tree.feature),
        tree.threshold,
        tree.weighted_n_node_samples,
        np.where(leaf, False, missing),
    )


def _matches(values: dict[str, np.ndarray], trees: list[SourceTree]) -> bool:
    """Whether the operator's trees are these, node for node."""
    ids = values["nodes_treeids"].astype(np.int64)
    if len(ids) != sum(len(tree.left) for tree in trees):
        return False
    sizes = np.array([len(tree.left) for tree in trees])
    expected_numbers = np.concatenate([np.arange(size) for size in sizes])
    changes = np.flatnonzero(np.diff(ids)) + 1
    starts = np.concatenate([[0], changes])
    if len(starts) != len(trees) or np.any(starts != np.concatenate([[0], np.cumsum(sizes)[:-1]])):
        return False
    if np.any(values["nodes_nodeids"] != expected_numbers):
        return False
    join = np.concatenate
    feature = join([tree.feature for tree in trees])
    inner = feature >= 0
    left, right = join([tree.left for tree in trees]), join([tree.right for tree in trees])
    if np.any(values["nodes_truenodeids"][inner] != left[inner]) or np.any(values["nodes_falsenodeids"][inner] != right[inner]):
        return False
    if np.any(values["nodes_featureids"][inner] != feature[inner]):
        return False
    written = values.get("nodes_values", values.get("nodes_values_as_tensor"))
    threshold = join([tree.threshold for tree in trees])
    scale = np.maximum(np.abs(threshold[inner]), 1e-6)
    with np.errstate(invalid="ignore"):
        return bool(np.all((np.abs(written[inner] - threshold[inner]) <= 1e-5 * scale) | (written[inner] == threshold[inner])))


def _write(node: onnx.NodeProto, trees: list[SourceTree], double: bool) -> None:
    feature = np.concatenate([tree.feature for tree in trees])
    inner = feature >= 0
    for tree in trees:
        if not covers_add_up(tree.left, tree.right, tree.cover, tree.feature >= 0):
            raise ExportError(
                "the counts of the training rows do not add up in a tree",
                where=node.name,
                hint="fit the model again; its trees seem to have been edited",
            )
    _replace(node, "nodes_hitrates", np.concatenate([tree.cover for tree in trees]), double)
    missing = np.where(inner, np.concatenate([tree.missing_left for tree in trees]), False).astype(np.int64)
    _replace_integers(node, "nodes_missing_value_tracks_true", missing)
    thresholds = single(np.where(inner, np.concatenate([tree.threshold for tree in trees]), 0.0), "BRANCH_LEQ")
    _replace(node, "nodes_values", _before_rounding(thresholds) if double else thresholds, double)
    if double:
        for attribute in list(node.attribute):
            if attribute.name in ("base_values", "class_weights", "target_weights"):
                _replace(node, attribute.name, _values(attribute), double)


def _before_rounding(thresholds: np.ndarray) -> np.ndarray:
    """scikit-learn's trees round rows to single precision. For a threshold of that precision: the greatest double that rounds to it
    or below, so that doubles go where their rounded values go."""
    wide = thresholds.astype(np.float64)
    middle = (wide + np.nextafter(thresholds, np.float32(np.inf)).astype(np.float64)) / 2.0
    # A value in the middle is rounded to the neighbour whose last bit is 0.
    even = thresholds.view(np.uint32) % 2 == 0
    return np.where(even, middle, np.nextafter(middle, -np.inf))


def _values(attribute: onnx.AttributeProto) -> np.ndarray:
    value = helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value).astype(np.float64)
    return np.asarray(value, dtype=np.float64)


def _replace(node: onnx.NodeProto, name: str, values: np.ndarray, double: bool) -> None:
    _remove(node, name, f"{name}_as_tensor")
    if double:
        tensor = numpy_helper.from_array(np.asarray(values, dtype=np.float64), f"{name}_as_tensor")
        node.attribute.append(helper.make_attribute(f"{name}_as_tensor", tensor))
    else:
        node.attribute.append(helper.make_attribute(name, np.asarray(values, dtype=np.float32).astype(float).tolist()))


def _replace_integers(node: onnx.NodeProto, name: str, values: np.ndarray) -> None:
    _remove(node, name)
    node.attribute.append(helper.make_attribute(name, values.astype(int).tolist()))


def _remove(node: onnx.NodeProto, *names: str) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name not in names]
    del node.attribute[:]
    node.attribute.extend(kept)
