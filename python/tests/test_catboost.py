"""Files as CatBoost writes them: the losses whose last function its exporter leaves out, and the bias of two classes."""

import json

import numpy as np
import onnx
import pytest
from conftest import close, run_onnx
from onnx import helper

from lockgate_export import ExportError, export
from lockgate_export.graph import ML
from lockgate_export.trees import Ensemble, Tree, leaf_attributes, node_attributes


def trees(scores):
    """A stump per score, on columns of their own."""
    stump = dict(feature=np.array([0, -1, -1]), threshold=np.zeros(3), yes=np.array([1, 0, 0]), no=np.array([2, 0, 0]))
    rest = dict(missing_yes=np.zeros(3, dtype=bool), cover=np.array([2.0, 1.0, 1.0]))
    made = []
    for score in range(scores):
        moved = {**stump, "feature": np.array([score, -1, -1]), "value": np.array([0.0, 0.3 + score, -0.7])}
        made.append(Tree(**moved, **rest, score=score))
    return Ensemble(made, np.zeros(scores), "BRANCH_LEQ")


def raw(X, scores):
    return np.column_stack([np.where(X[:, score] <= 0, 0.3 + score, -0.7) for score in range(scores)])


def file(loss, scores, labels=None):
    rows = [helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, ["N", 6])]
    ensemble = trees(scores)
    if scores == 1:
        attributes = node_attributes(ensemble, double=False) | leaf_attributes(ensemble, "target", double=False)
        nodes = [helper.make_node("TreeEnsembleRegressor", ["features"], ["predictions"], domain=ML, n_targets=1, **attributes)]
        outputs = [helper.make_tensor_value_info("predictions", onnx.TensorProto.FLOAT, ["N", 1])]
    else:
        attributes = node_attributes(ensemble, double=False) | leaf_attributes(ensemble, "class", double=False)
        labels = {"classlabels_int64s": list(range(scores))} if labels is None else {}
        nodes = [
            helper.make_node(
                "TreeEnsembleClassifier", ["features"], ["label", "tensor"], domain=ML, post_transform="SOFTMAX", **attributes, **labels
            ),
            helper.make_node("ZipMap", ["tensor"], ["probabilities"], domain=ML, **labels),
        ]
        kinds = helper.make_map_type_proto(onnx.TensorProto.INT64, helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, []))
        outputs = [
            helper.make_tensor_value_info("label", onnx.TensorProto.INT64, ["N"]),
            helper.make_value_info("probabilities", helper.make_sequence_type_proto(kinds)),
        ]
    graph = helper.make_graph(nodes, "CatBoostModel", rows, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(ML, 2)], producer_name="CatBoost")
    model.ir_version = 8
    helper.set_model_props(model, {"params": json.dumps({"loss_function": {"type": loss, "params": {}}})})
    return model


@pytest.mark.parametrize("loss, function", [("Poisson", np.exp), ("Tweedie", np.exp), ("RMSE", np.positive), ("Quantile", np.positive)])
def test_numbers(loss, function, data, lockgate):
    exported = export(file(loss, 1), data.X, name="numbers")
    close(run_onnx(exported.onnx, data.X)[0], function(raw(data.X, 1)))
    close(lockgate(exported, data.X[:20])["predictions"], function(raw(data.X[:20], 1)))


@pytest.mark.parametrize("loss", ["MultiLogloss", "MultiCrossEntropy"])
def test_labels_that_do_not_exclude_each_other(loss, data, lockgate):
    exported = export(file(loss, 3), data.X, name="labels")
    (scores,) = run_onnx(exported.onnx, data.X)
    close(scores, 1 / (1 + np.exp(-raw(data.X, 3))))
    assert exported.manifest.labels == []
    close(lockgate(exported, data.X[:20])["probabilities"], scores[:20])


@pytest.mark.parametrize("loss", ["MultiClassOneVsAll", "MultiClass"])
def test_classes(loss, data):
    exported = export(file(loss, 3), data.X)
    scores = np.array([list(row.values()) for row in run_onnx(exported.onnx, data.X)[1]])
    exponentials = np.exp(raw(data.X, 3))
    one_each, together = exponentials / (1 + exponentials), exponentials / exponentials.sum(axis=1, keepdims=True)
    close(scores, one_each if loss == "MultiClassOneVsAll" else together)
    assert exported.manifest.labels == ["0", "1", "2"]


@pytest.mark.parametrize("loss", ["MultiRMSE", "MultiQuantile"])
def test_several_numbers_per_row(loss, data, lockgate):
    exported = export(file(loss, 3, labels=[]), data.X, name="numbers")
    close(run_onnx(exported.onnx, data.X)[0], raw(data.X, 3))
    close(lockgate(exported, data.X[:20])["predictions"], raw(data.X[:20], 3))
    assert exported.manifest.labels == []


@pytest.mark.parametrize("described", [True, False])
@pytest.mark.parametrize(
    "loss, function, base, shift", [("Logloss", "LOGISTIC", [0.5, -0.5], -0.5), ("MultiClass", "SOFTMAX", [0.3, 1.7], 1.4)]
)
def test_the_bias_of_two_classes(loss, function, base, shift, described, data, lockgate):
    """Of `boost_from_average`: CatBoost writes a number per leaf and class, and a bias per class, for one score with both signs."""
    model = file(loss, 2)
    (node,) = [node for node in model.graph.node if node.op_type == "TreeEnsembleClassifier"]
    stump = Ensemble(trees(1).trees * 2, np.zeros(1), "BRANCH_LEQ")
    leaves = {"treeids": [0] * 4 + [1] * 4, "nodeids": [1, 1, 2, 2] * 2, "ids": [0, 1] * 4, "weights": [-0.3, 0.3, 0.7, -0.7] * 2}
    attributes = node_attributes(stump, double=False) | {f"class_{name}": values for name, values in leaves.items()}
    attributes |= {"base_values": base, "post_transform": function, "classlabels_int64s": [0, 1]}
    del node.attribute[:]
    node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
    if not described:
        del model.metadata_props[:]
    exported = export(model, data.X, name="classes")
    # A softmax over both signs of a score is the logistic function of its double.
    odds = 2 * raw(data.X, 1)[:, 0] * (2 if function == "SOFTMAX" else 1) + shift
    second = 1 / (1 + np.exp(-odds))
    labels, scores = run_onnx(exported.onnx, data.X)
    close([list(row.values()) for row in scores], np.column_stack([1 - second, second]))
    assert (labels == (second > 0.5)).all() and exported.manifest.labels == ["0", "1"]
    assert any(attribute.name == "base_values" for attribute in node.attribute), "the file that was given stays as it was"
    close(lockgate(exported, data.X[:20])["probabilities"][:, 1], second[:20])


def test_other_losses_with_several_numbers_per_row_are_refused(data):
    with pytest.raises(ExportError, match=r"as a classifier without classes \(loss `RMSEWithUncertainty`\)") as refused:
        export(file("RMSEWithUncertainty", 2, labels=[]), data.X)
    assert "one model per number" in refused.value.hint
