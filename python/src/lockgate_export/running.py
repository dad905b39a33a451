"""Running the exported file, to compare it with the model and to compute its metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Sequence

import numpy as np
import onnx
from onnx import helper

from .errors import ExportError
from .table import Table, texts_of


@dataclass
class Answers:
    """What a model says about rows."""

    # None for a model without classes.
    labels: np.ndarray | None
    # Probabilities, rows × classes; for a regressor, rows × targets.
    scores: np.ndarray | None


def inputs_of(model: onnx.ModelProto, table: Table) -> dict[str, np.ndarray]:
    """The rows as the model's inputs."""
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    kinds = {1: np.float32, 11: np.float64, 6: np.int32, 7: np.int64, 8: object, 9: np.bool_}
    types = {value.name: value.type.tensor_type.elem_type for value in inputs}
    if len(inputs) == 1:
        name = inputs[0].name
        kind = kinds.get(types[name], np.float32)
        if kind is object:
            return {name: np.column_stack([texts_of(column) for column in table.columns])}
        array = table.matrix(kind)
        rank = len(inputs[0].type.tensor_type.shape.dim)
        return {name: array[:, 0] if rank == 1 and array.ndim == 2 else array}
    if len(inputs) != len(table.columns):
        raise ExportError(f"the model has {len(inputs)} inputs, X has {len(table.columns)} columns")
    columns = {}
    for value, column in zip(inputs, table.columns):
        kind = kinds.get(types[value.name], np.float32)
        columns[value.name] = (texts_of(column) if kind is object else column.astype(kind)).reshape(-1, 1)
    return columns


def run(model: onnx.ModelProto, table: Table, *, batch: int = 8192) -> list[np.ndarray]:
    """The outputs for all rows, with onnxruntime where it is installed and with the reference evaluator of onnx otherwise."""
    inputs = inputs_of(model, table)
    model = _in_a_common_locale(model)
    try:
        import onnxruntime
    except ImportError:
        from onnx.reference import ReferenceEvaluator

        evaluator: Any = ReferenceEvaluator(model)
    else:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        evaluator = onnxruntime.InferenceSession(
            model.SerializeToString(), sess_options=options, providers=["CPUExecutionProvider"]
        )
    parts: list[list[np.ndarray]] = []
    for start in range(0, max(table.rows, 1), batch):
        part = {name: values[start : start + batch] for name, values in inputs.items()}
        parts.append([np.asarray(output) for output in evaluator.run(None, part)])
    return [np.concatenate(outputs) for outputs in zip(*parts)]


def _in_a_common_locale(model: onnx.ModelProto) -> onnx.ModelProto:
    """The letters of `StringNormalizer` are those of the locale en_US unless it names another; few systems have it, all have C.UTF-8."""
    if not any(node.op_type == "StringNormalizer" for node in model.graph.node):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        if node.op_type == "StringNormalizer" and not any(attribute.name == "locale" for attribute in node.attribute):
            node.attribute.append(helper.make_attribute("locale", "C.UTF-8"))
    return copy


def answers(outputs: Sequence[np.ndarray]) -> Answers:
    """Sorts the outputs into labels and scores: a classifier's are a vector of labels and a matrix; others give one matrix."""
    if len(outputs) >= 2 and outputs[0].ndim == 1 and outputs[1].ndim == 2:
        return Answers(outputs[0], outputs[1].astype(np.float64))
    first = outputs[0]
    if len(outputs) >= 2 and first.ndim == 2 and first.shape[1] > 1 and first.dtype.kind != "f" and outputs[1].ndim == 2:
        # A label and a probability per target.
        return Answers(first, outputs[1].astype(np.float64))
    if first.dtype.kind != "f":
        return Answers(first.ravel() if first.ndim == 1 or first.shape[1] == 1 else None, None)
    return Answers(None, first.astype(np.float64).reshape(len(first), -1))
