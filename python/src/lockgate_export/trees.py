"""Ensembles of trees: from plain arrays to the tree operators of `ai.onnx.ml`, with the covers that contributions need.

A cover is how much training data reached a node. It travels in the standard attribute `nodes_hitrates`, and that of every
inner node is the sum of its children's.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal, Sequence

import numpy as np

from .errors import ExportError, ExportWarning
from .graph import ML, Writer

# With `one_half`, the score of the second of two classes is compared with one half, and that of the first is 1 minus it.
Link = Literal["identity", "logistic", "softmax", "exp", "square", "log1p_exp", "one_half"]
Labels = Sequence[int] | Sequence[str]
# Inner covers are sums of the children's, up to the rounding of single precision.
COVER_TOLERANCE = 1e-3


@dataclass
class Tree:
    """One tree, a node per element, the root first. Of a leaf, `feature` is −1 and `yes`, `no` mean nothing."""

    feature: np.ndarray
    threshold: np.ndarray
    yes: np.ndarray
    no: np.ndarray
    missing_yes: np.ndarray
    value: np.ndarray
    cover: np.ndarray
    # Which score its leaves add to.
    score: int = 0

    @property
    def is_leaf(self) -> np.ndarray:
        return self.feature < 0


@dataclass
class Ensemble:
    """Trees whose leaves are summed."""

    trees: list[Tree]
    # One number per score, added to the sums.
    base: np.ndarray
    # A row goes to `yes` when its value is less than the threshold (BRANCH_LT) or not greater (BRANCH_LEQ).
    mode: Literal["BRANCH_LT", "BRANCH_LEQ"]

    @property
    def scores(self) -> int:
        return len(self.base)


def covers_add_up(yes: np.ndarray, no: np.ndarray, cover: np.ndarray, inner: np.ndarray) -> bool:
    """Whether every inner node's cover is the sum of its children's."""
    if not np.all(np.isfinite(cover)) or np.any(cover < 0):
        return False
    sums = cover[yes[inner]] + cover[no[inner]]
    return bool(np.all(np.abs(sums - cover[inner]) <= COVER_TOLERANCE * np.maximum(np.abs(cover[inner]), 1e-30)))


def single(thresholds: np.ndarray, mode: str) -> np.ndarray:
    """Thresholds in single precision, such that every single-precision value goes where it went: the greatest one that is not
    above for `<=`, the least one that is not below for `<`."""
    with np.errstate(over="ignore"):
        rounded = thresholds.astype(np.float32)
    wide = rounded.astype(np.float64)
    if mode == "BRANCH_LEQ":
        rounded = np.where(wide > thresholds, np.nextafter(rounded, np.float32(-np.inf)), rounded)
    elif mode == "BRANCH_LT":
        rounded = np.where(wide < thresholds, np.nextafter(rounded, np.float32(np.inf)), rounded)
    return rounded.astype(np.float32)


def node_attributes(ensemble: Ensemble, *, double: bool) -> dict[str, Any]:
    """The attributes that describe the nodes, without the leaves' weights."""
    trees = ensemble.trees
    join = np.concatenate
    leaf = join([tree.is_leaf for tree in trees])
    modes = np.where(leaf, "LEAF", ensemble.mode)
    thresholds = join([np.where(tree.is_leaf, 0.0, tree.threshold) for tree in trees])
    attributes: dict[str, Any] = {
        "nodes_treeids": join([np.full(len(tree.feature), index) for index, tree in enumerate(trees)]).tolist(),
        "nodes_nodeids": join([np.arange(len(tree.feature)) for tree in trees]).tolist(),
        "nodes_featureids": np.where(leaf, 0, join([tree.feature for tree in trees])).tolist(),
        "nodes_modes": modes.tolist(),
        "nodes_truenodeids": np.where(leaf, 0, join([tree.yes for tree in trees])).tolist(),
        "nodes_falsenodeids": np.where(leaf, 0, join([tree.no for tree in trees])).tolist(),
        "nodes_missing_value_tracks_true": np.where(leaf, 0, join([tree.missing_yes for tree in trees])).astype(int).tolist(),
    }
    attributes.update(_numbers("nodes_values", thresholds if double else single(thresholds, ensemble.mode), double))
    if all(covers_add_up(tree.yes, tree.no, tree.cover, ~tree.is_leaf) for tree in trees):
        attributes.update(_numbers("nodes_hitrates", join([tree.cover for tree in trees]), double))
    else:
        warnings.warn(
            "the covers of the trees do not add up, so they are left out; contributions need a background instead "
            "(`background=100`)",
            ExportWarning,
            stacklevel=2,
        )
    return attributes


def leaf_attributes(ensemble: Ensemble, prefix: Literal["class", "target"], *, double: bool) -> dict[str, Any]:
    """The attributes that describe what leaves add."""
    join = np.concatenate
    leaves = [np.flatnonzero(tree.is_leaf) for tree in ensemble.trees]
    attributes: dict[str, Any] = {
        f"{prefix}_treeids": join([np.full(len(ids), index) for index, ids in enumerate(leaves)]).tolist(),
        f"{prefix}_nodeids": join(leaves).tolist(),
        f"{prefix}_ids": join([np.full(len(ids), tree.score) for tree, ids in zip(ensemble.trees, leaves)]).tolist(),
    }
    weights = join([tree.value[ids] for tree, ids in zip(ensemble.trees, leaves)])
    attributes.update(_numbers(f"{prefix}_weights", weights, double))
    return attributes


def write_regressor(writer: Writer, rows: str, ensemble: Ensemble, link: Link, output: str, *, double: bool = False) -> None:
    """Adds a regressor's nodes: the sums, then the link."""
    if not ensemble.trees:
        raise ExportError("the model has no trees", hint="fit it with at least one iteration")
    attributes = node_attributes(ensemble, double=double) | leaf_attributes(ensemble, "target", double=double)
    if np.any(ensemble.base):
        attributes |= _numbers("base_values", ensemble.base, double)
    raw = writer.node(
        "TreeEnsembleRegressor",
        [rows],
        outputs=[output] if link == "identity" else None,
        domain=ML,
        n_targets=ensemble.scores,
        post_transform="NONE",
        **attributes,
    )
    if link == "exp":
        writer.node("Exp", [raw], outputs=[output])
    elif link == "logistic":
        writer.node("Sigmoid", [raw], outputs=[output])
    elif link == "square":
        writer.node("Mul", [raw, writer.node("Abs", [raw])], outputs=[output])
    elif link == "log1p_exp":
        writer.node("Softplus", [raw], outputs=[output])
    elif link == "softmax":
        writer.node("Softmax", [raw], outputs=[output], axis=1)


def write_classifier(
    writer: Writer, rows: str, ensemble: Ensemble, labels: Labels, link: Link, outputs: Sequence[str], *, double: bool = False
) -> None:
    """Adds a classifier's node: label and probabilities. With two labels there may be one score, that of the second label."""
    if not ensemble.trees:
        raise ExportError("the model has no trees", hint="fit it with at least one iteration")
    if len(labels) < 2:
        raise ExportError("the model knows one class alone", hint="train it on rows of two classes or more")
    if ensemble.scores != len(labels) and not (ensemble.scores == 1 and len(labels) == 2):
        raise ExportError(
            f"the model has {ensemble.scores} scores and {len(labels)} classes", hint="give one label per class"
        )
    if ensemble.scores == 1:
        ensemble = _above_zero(ensemble) if link == "one_half" else _below_zero(ensemble)
    texts = all(isinstance(label, str) for label in labels)
    attributes = node_attributes(ensemble, double=double) | leaf_attributes(ensemble, "class", double=double)
    attributes["classlabels_strings" if texts else "classlabels_int64s"] = list(labels)
    if np.any(ensemble.base):
        attributes |= _numbers("base_values", ensemble.base, double)
    post_transform = {"identity": "NONE", "one_half": "NONE", "logistic": "LOGISTIC", "softmax": "SOFTMAX"}[link]
    writer.node(
        "TreeEnsembleClassifier", [rows], outputs=list(outputs), domain=ML, post_transform=post_transform, **attributes
    )


def _below_zero(ensemble: Ensemble) -> Ensemble:
    """The same sums with at least one negative weight. onnxruntime takes a single score whose weights are all positive for a
    probability and compares it with one half; the scores here are log-odds, which are compared with zero."""
    first = ensemble.trees[0]
    if any(np.any(tree.value[tree.is_leaf] < 0) for tree in ensemble.trees):
        return ensemble
    # A power of two: the shift changes the exponents of few weights and the base by as much again.
    shift = 2.0 ** np.ceil(np.log2(max(float(first.value[first.is_leaf].min()), 2.0**-10) * 1.5))
    moved = Tree(**{**first.__dict__, "value": first.value - shift})
    return Ensemble([moved, *ensemble.trees[1:]], ensemble.base + shift, ensemble.mode)


def _above_zero(ensemble: Ensemble) -> Ensemble:
    """The same sums without negative weights, for scores that onnxruntime is to compare with one half."""
    lowest = [min(float(tree.value[tree.is_leaf].min()), 0.0) for tree in ensemble.trees]
    moved = [Tree(**{**tree.__dict__, "value": tree.value - low}) for tree, low in zip(ensemble.trees, lowest)]
    return Ensemble(moved, ensemble.base + sum(lowest), ensemble.mode)


def _numbers(name: str, values: np.ndarray, double: bool) -> dict[str, Any]:
    """A list of floats, or a tensor of doubles under the name that the operators have for it."""
    if double:
        from onnx import numpy_helper

        return {f"{name}_as_tensor": numpy_helper.from_array(np.asarray(values, dtype=np.float64), f"{name}_as_tensor")}
    return {name: np.asarray(values, dtype=np.float32).astype(float).tolist()}
