"""Writing ONNX graphs: one small builder, and the same interface over the containers of skl2onnx."""

from __future__ import annotations

from typing import Any, Protocol, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .errors import ExportError

ML = "ai.onnx.ml"
# The oldest sets that have all that is written here: double attributes of trees (3), LayerNormalization (17), axes as inputs (18).
OPSET = 18
ML_OPSET = 3

TENSOR_TYPES = {"float": TensorProto.FLOAT, "double": TensorProto.DOUBLE, "int64": TensorProto.INT64, "string": TensorProto.STRING}


class Writer(Protocol):
    """Where nodes go."""

    def constant(self, values: np.ndarray, name: str = "constant") -> str:
        """Adds a constant and returns its name."""

    def node(self, operator: str, inputs: Sequence[str], *, outputs: Sequence[str] | None = None, domain: str = "", **attributes: Any) -> str:
        """Adds a node and returns the name of its first output."""


class Graph:
    """A graph that becomes a model of its own."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._used: set[str] = set()

    def unique(self, name: str) -> str:
        """A name that nothing has yet."""
        candidate, count = name, 0
        while candidate in self._used:
            count += 1
            candidate = f"{name}_{count}"
        self._used.add(candidate)
        return candidate

    def input(self, name: str, kind: str, shape: Sequence[int | str | None]) -> str:
        name = self.unique(name)
        self._inputs.append(helper.make_tensor_value_info(name, TENSOR_TYPES[kind], list(shape)))
        return name

    def output(self, name: str, kind: str, shape: Sequence[int | str | None]) -> None:
        """Declares a value that a node wrote as an output of the model."""
        self._outputs.append(helper.make_tensor_value_info(name, TENSOR_TYPES[kind], list(shape)))

    def constant(self, values: np.ndarray, name: str = "constant") -> str:
        name = self.unique(name)
        array = np.asarray(values)
        if array.dtype.kind in "UO":
            array = array.astype(object)
        self._constants.append(numpy_helper.from_array(array, name))
        return name

    def node(self, operator: str, inputs: Sequence[str], *, outputs: Sequence[str] | None = None, domain: str = "", **attributes: Any) -> str:
        name = self.unique(f"{operator}_node")
        if outputs is None:
            outputs = [self.unique(operator.lower())]
        else:
            self._used.update(outputs)
        self._nodes.append(helper.make_node(operator, list(inputs), list(outputs), name=name, domain=domain, **attributes))
        return next(output for output in outputs if output)

    def model(self) -> onnx.ModelProto:
        graph = helper.make_graph(self._nodes, self.name, self._inputs, self._outputs, initializer=self._constants)
        domains = {node.domain for node in self._nodes}
        opsets = [helper.make_opsetid("", OPSET)]
        if ML in domains:
            opsets.append(helper.make_opsetid(ML, ML_OPSET))
        model = helper.make_model(graph, opset_imports=opsets, producer_name="lockgate-export", producer_version="0.1.0")
        model.ir_version = 8
        onnx.checker.check_model(model)
        return model


class ContainerWriter:
    """The same, into a model that skl2onnx is writing."""

    def __init__(self, scope: Any, container: Any) -> None:
        self._scope, self._container = scope, container

    def constant(self, values: np.ndarray, name: str = "constant") -> str:
        array = np.asarray(values)
        if array.dtype.kind in "UO":
            array = array.astype(object)
        name = self._scope.get_unique_variable_name(name)
        tensor = numpy_helper.from_array(array, name)
        self._container.add_initializer(name, tensor.data_type, list(array.shape), array.ravel().tolist())
        return name

    def node(self, operator: str, inputs: Sequence[str], *, outputs: Sequence[str] | None = None, domain: str = "", **attributes: Any) -> str:
        if outputs is None:
            outputs = [self._scope.get_unique_variable_name(operator.lower())]
        self._container.add_node(
            operator,
            list(inputs),
            list(outputs),
            op_domain=domain,
            op_version=ML_OPSET if domain == ML else OPSET,
            name=self._scope.get_unique_operator_name(operator),
            **attributes,
        )
        return next(output for output in outputs if output)


def rename_inputs(model: onnx.ModelProto, names: Sequence[str]) -> None:
    """Gives the inputs these names, as they stand. A value that already has one of them, such as an output, gets another."""
    inputs = [value.name for value in model.graph.input]
    if inputs == list(names):
        return
    if len(inputs) != len(names):
        raise ExportError(f"the ONNX file has {len(inputs)} inputs for {len(names)} columns", hint="leave out columns that the model drops")
    new = dict(zip(inputs, names))
    used = _values(model.graph)
    for name in sorted((used & set(names)) - set(inputs)):
        count = 1
        while f"{name}_{count}" in used | set(names):
            count += 1
        new[name] = f"{name}_{count}"
        used.add(new[name])
    _rename(model.graph, new)


def _values(graph: onnx.GraphProto) -> set[str]:
    """The names of all values, those of graphs inside it too."""
    found = {value.name for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info)}
    for node in graph.node:
        found.update((*node.input, *node.output))
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                found |= _values(attribute.g)
    return found


def _rename(graph: onnx.GraphProto, new: dict[str, str]) -> None:
    for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        value.name = new.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _rename(attribute.g, new)
