"""ONNX files that CatBoost wrote: the last function, which its exporter leaves out or writes otherwise for some losses, and the bias of
two classes, which onnxruntime reads otherwise."""

from __future__ import annotations

import json

import onnx
from onnx import TensorProto, helper

from .errors import ExportError
from .graph import ML, OPSET

# Losses whose answer is the exponential of what the file gives.
EXPONENTIAL = {"Poisson", "Tweedie"}
# Losses with a logistic function for each score, where the file has a softmax over all.
EACH_ITS_OWN = {"MultiClassOneVsAll", "MultiCrossEntropy", "MultiLogloss"}
# Of those, the ones whose scores are labels that do not exclude each other.
MULTILABEL = {"MultiCrossEntropy", "MultiLogloss"}

# Losses with several numbers per row, which the file has as scores of classes.
NUMBERS = {"MultiQuantile", "MultiRMSE", "MultiRMSEWithMissingValues"}


def repair(model: onnx.ModelProto) -> tuple[onnx.ModelProto, bool]:
    """A file that answers as the model does, and whether its scores are labels that do not exclude each other. Other files stay."""
    if model.producer_name != "CatBoost":
        return model, False
    loss = _loss(model)
    repaired = onnx.ModelProto()
    repaired.CopyFrom(model)
    for node in list(repaired.graph.node):
        if node.domain != ML or not node.op_type.startswith("TreeEnsemble"):
            continue
        attributes = {attribute.name: attribute for attribute in node.attribute}
        if node.op_type == "TreeEnsembleClassifier" and not _has_labels(attributes):
            if loss is None:
                continue
            if loss not in NUMBERS:
                raise ExportError(
                    f"CatBoost writes several numbers per row as a classifier without classes (loss `{loss}`)",
                    where=f"node `{node.name}`" if node.name else node.op_type,
                    hint=f"train one model per number, or with one of {', '.join(sorted(NUMBERS))}",
                )
            _become_regressor(repaired.graph, node)
        elif node.op_type == "TreeEnsembleClassifier":
            _move_bias_into_leaves(node, attributes, difference=loss not in EACH_ITS_OWN)
        if loss in EXPONENTIAL:
            _add_exponential(repaired, node)
        if loss in EACH_ITS_OWN and "post_transform" in attributes:
            attributes["post_transform"].s = b"LOGISTIC"
    if loss in MULTILABEL:
        _keep_scores_alone(repaired.graph)
    return repaired, loss in MULTILABEL


def _loss(model: onnx.ModelProto) -> str | None:
    stored = {entry.key: entry.value for entry in model.metadata_props}
    try:
        return str(json.loads(stored["params"])["loss_function"]["type"])
    except (KeyError, TypeError, ValueError):
        return None


def _has_labels(attributes: dict[str, onnx.AttributeProto]) -> bool:
    return any(name.startswith("classlabels_") and (item.strings or item.ints) for name, item in attributes.items())


def _move_bias_into_leaves(node: onnx.NodeProto, attributes: dict[str, onnx.AttributeProto], *, difference: bool) -> None:
    """The bias of two scores as part of the first tree. CatBoost writes it as one number per class, to be added to that class's score,
    as the specification has it; onnxruntime adds the second one to the score of the first class, and answers with the second class
    where its score is positive. So scores of which the difference alone counts are moved to be each other's negative."""
    base = attributes.get("base_values")
    if base is None or len(base.floats) != 2 or not any(base.floats):
        return
    middle = sum(base.floats) / 2.0 if difference else 0.0
    weights = attributes["class_weights"].floats
    trees, scores = attributes["class_treeids"].ints, attributes["class_ids"].ints
    for place, (tree, score) in enumerate(zip(trees, scores)):
        if tree == trees[0]:
            weights[place] += base.floats[score] - middle
    node.attribute.remove(base)


def _become_regressor(graph: onnx.GraphProto, node: onnx.NodeProto) -> None:
    """A target for each score, and no classes."""
    kept = [item for item in node.attribute if not item.name.startswith("classlabels_") and item.name != "post_transform"]
    for item in kept:
        item.name = item.name.replace("class_", "target_")
    count = _scores(node, "target_ids")
    regressor = helper.make_node("TreeEnsembleRegressor", list(node.input), ["predictions"], name=node.name, domain=ML, n_targets=count)
    regressor.attribute.extend(kept)
    del graph.node[:], graph.output[:]
    graph.node.append(regressor)
    graph.output.append(helper.make_tensor_value_info("predictions", TensorProto.FLOAT, [None, count]))


def _scores(node: onnx.NodeProto, name: str) -> int:
    return len({score for item in node.attribute if item.name == name for score in item.ints})


def _add_exponential(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
    output = node.output[0]
    node.output[0] = f"{output}_raw"
    model.graph.node.append(helper.make_node("Exp", [node.output[0]], [output], name="exponential"))
    # CatBoost names the set of its own operators alone.
    if not any(opset.domain in ("", "ai.onnx") for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid("", OPSET))


def _keep_scores_alone(graph: onnx.GraphProto) -> None:
    """Labels that do not exclude each other have no class with the greatest score, and no map from classes to scores."""
    nodes = [node for node in graph.node if node.op_type != "ZipMap"]
    scores = next(node for node in nodes if node.op_type == "TreeEnsembleClassifier")
    scores.output[1] = "probabilities"
    count = _scores(scores, "class_ids")
    del graph.node[:], graph.output[:]
    graph.node.extend(nodes)
    graph.output.append(helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, count]))
