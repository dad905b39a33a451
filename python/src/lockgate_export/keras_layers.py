"""Keras layers without time: activations, dense and element-wise layers, shapes, and merging. Each function writes one kind of layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable

import numpy as np
from onnx import TensorProto

from .errors import ExportError
from .graph import Graph
from .keras_file import Weights

Config = dict[str, Any]


@dataclass(frozen=True)
class Value:
    """A tensor of the graph: its name, and its shape without the batch (None where it is not fixed)."""

    name: str
    shape: tuple[int | None, ...]


@dataclass
class Layer:
    """A layer that is being written."""

    graph: Graph
    kind: str
    config: Config
    weights: Weights

    @property
    def name(self) -> str:
        return str(self.config.get("name", self.kind))

    def refuse(self, what: str, hint: str) -> ExportError:
        return ExportError(f"{self.kind}: {what}", where=f"layer `{self.name}`", hint=hint)

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        return self.graph.constant(np.asarray(values, dtype=dtype), f"{self.name}_constant")

    def integers(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def op(self, operator: str, *inputs: str, **attributes: Any) -> str:
        return self.graph.node(operator, inputs, **attributes)


# Activations


def activate(layer: Layer, name: str, activation: Any) -> str:
    """Applies an activation by its name in Keras."""
    if isinstance(activation, dict):
        activation = activation.get("config") if isinstance(activation.get("config"), str) else activation.get("class_name")
    op = layer.op
    if activation in (None, "linear"):
        return name
    if activation in PLAIN_ACTIVATIONS:
        operator, attributes = PLAIN_ACTIVATIONS[activation]
        return op(operator, name, **attributes)
    if activation in ("silu", "swish"):
        return op("Mul", name, op("Sigmoid", name))
    if activation == "gelu":
        halves = op("Div", name, layer.constant(np.sqrt(2.0)))
        return op("Mul", op("Mul", name, layer.constant(0.5)), op("Add", op("Erf", halves), layer.constant(1.0)))
    if activation == "relu6":
        return op("Clip", name, layer.constant(0.0), layer.constant(6.0))
    if activation in ("hard_silu", "hard_swish"):
        return op("Mul", name, op("HardSigmoid", name, alpha=1 / 6, beta=0.5))
    if activation == "hard_tanh":
        return op("Clip", name, layer.constant(-1.0), layer.constant(1.0))
    if activation == "log_sigmoid":
        return op("Neg", op("Softplus", op("Neg", name)))
    if activation == "tanh_shrink":
        return op("Sub", name, op("Tanh", name))
    raise layer.refuse(f"the activation `{activation}` is not exported", "use relu, tanh, sigmoid, softmax, elu, gelu, silu or the like")


PLAIN_ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "elu": ("Elu", {"alpha": 1.0}),
    "exponential": ("Exp", {}),
    "hard_sigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.2}),
    "log_softmax": ("LogSoftmax", {"axis": -1}),
    "mish": ("Mish", {}),
    "relu": ("Relu", {}),
    "selu": ("Selu", {}),
    "sigmoid": ("Sigmoid", {}),
    "softmax": ("Softmax", {"axis": -1}),
    "softplus": ("Softplus", {}),
    "softsign": ("Softsign", {}),
    "tanh": ("Tanh", {}),
}

def activation(layer: Layer, value: Value) -> Value:
    return Value(activate(layer, value.name, layer.config["activation"]), value.shape)


def relu(layer: Layer, value: Value) -> Value:
    slope = float(layer.config.get("negative_slope") or 0.0)
    if layer.config.get("threshold"):
        raise layer.refuse("a threshold other than 0 is not exported", "leave it out")
    name = layer.op("LeakyRelu", value.name, alpha=slope) if slope else layer.op("Relu", value.name)
    most = layer.config.get("max_value")
    if most is not None:
        name = layer.op("Min", name, layer.constant(most))
    return Value(name, value.shape)


def leaky_relu(layer: Layer, value: Value) -> Value:
    slope = layer.config.get("negative_slope", layer.config.get("alpha", 0.3))
    return Value(layer.op("LeakyRelu", value.name, alpha=float(slope)), value.shape)


def elu(layer: Layer, value: Value) -> Value:
    return Value(layer.op("Elu", value.name, alpha=float(layer.config.get("alpha", 1.0))), value.shape)


def prelu(layer: Layer, value: Value) -> Value:
    (alpha,) = variables(layer, 1)
    return Value(layer.op("PRelu", value.name, layer.constant(alpha)), value.shape)


def softmax(layer: Layer, value: Value) -> Value:
    axis = layer.config.get("axis", -1)
    if isinstance(axis, list):
        if len(axis) != 1:
            raise layer.refuse("a softmax over several axes is not exported", "use axis=-1")
        axis = axis[0]
    return Value(layer.op("Softmax", value.name, axis=int(axis)), value.shape)


# Dense and element-wise layers


def variables(layer: Layer, count: int) -> list[np.ndarray]:
    found = layer.weights.variables()
    if len(found) != count:
        raise layer.refuse(f"{len(found)} weights are stored, {count} are needed", "the file is damaged, or made by another kind of layer")
    return found


def identity(layer: Layer, value: Value) -> Value:
    return value


def dense(layer: Layer, value: Value) -> Value:
    use_bias = layer.config.get("use_bias", True)
    kernel, *bias = variables(layer, 1 + use_bias)
    if len(value.shape) == 1:
        inputs = [value.name, layer.constant(kernel)] + [layer.constant(part) for part in bias]
        name = layer.op("Gemm", *inputs)
    else:
        name = layer.op("MatMul", value.name, layer.constant(kernel))
        if bias:
            name = layer.op("Add", name, layer.constant(bias[0]))
    name = activate(layer, name, layer.config.get("activation"))
    return Value(name, (*value.shape[:-1], kernel.shape[1]))


def _last_axis(layer: Layer, value: Value) -> None:
    axis = layer.config.get("axis", -1)
    axes = axis if isinstance(axis, list) else [axis]
    if axes not in ([-1], [len(value.shape)]):
        raise layer.refuse(f"it works along axis {axis}", "only the last axis is exported")


def batch_normalization(layer: Layer, value: Value) -> Value:
    _last_axis(layer, value)
    scaled, centred = layer.config.get("scale", True), layer.config.get("center", True)
    found = [part.astype(np.float64) for part in variables(layer, 2 + scaled + centred)]
    gamma = found.pop(0) if scaled else 1.0
    beta = found.pop(0) if centred else 0.0
    mean, variance = found
    scale = gamma / np.sqrt(variance + float(layer.config.get("epsilon", 1e-3)))
    name = layer.op("Mul", value.name, layer.constant(scale))
    return Value(layer.op("Add", name, layer.constant(beta - mean * scale)), value.shape)


def layer_normalization(layer: Layer, value: Value) -> Value:
    _last_axis(layer, value)
    if layer.config.get("rms_scaling"):
        raise layer.refuse("rms_scaling is not exported", "leave it out")
    scaled, centred = layer.config.get("scale", True), layer.config.get("center", True)
    found = variables(layer, int(scaled) + int(centred))
    width = value.shape[-1]
    gamma = found.pop(0) if scaled else np.ones(width or 1)
    inputs = [value.name, layer.constant(gamma)] + [layer.constant(part) for part in found]
    return Value(layer.op("LayerNormalization", *inputs, axis=-1, epsilon=float(layer.config.get("epsilon", 1e-3))), value.shape)


def normalization(layer: Layer, value: Value) -> Value:
    axis = layer.config.get("axis", -1)
    if axis not in (None, -1, [-1], (), [], [len(value.shape)], len(value.shape)):
        raise layer.refuse(f"it works along axis {axis}", "only the last axis is exported")
    if layer.config.get("invert"):
        raise layer.refuse("invert=True is not exported", "leave it out")
    if layer.config.get("mean") is not None:
        mean, variance = np.ravel(layer.config["mean"]), np.ravel(layer.config["variance"])
    else:
        found = layer.weights.variables()
        if len(found) < 2:
            raise layer.refuse("it was never adapted", "call `adapt` with the training data before saving")
        mean, variance = np.ravel(found[0]), np.ravel(found[1])
    deviation = np.maximum(np.sqrt(np.asarray(variance, dtype=np.float64)), 1e-7)
    name = layer.op("Sub", value.name, layer.constant(mean))
    return Value(layer.op("Div", name, layer.constant(deviation)), value.shape)


def rescaling(layer: Layer, value: Value) -> Value:
    name = layer.op("Mul", value.name, layer.constant(layer.config["scale"]))
    return Value(layer.op("Add", name, layer.constant(layer.config.get("offset", 0.0))), value.shape)


def embedding(layer: Layer, value: Value) -> Value:
    if layer.config.get("mask_zero"):
        raise layer.refuse("mask_zero=True makes a mask", "masks are not exported: train without, on sequences of one length")
    (table,) = variables(layer, 1)
    indices = layer.op("Cast", value.name, to=TensorProto.INT64)
    return Value(layer.op("Gather", layer.constant(table), indices, axis=0), (*value.shape, table.shape[1]))


# Shapes


def flatten(layer: Layer, value: Value) -> Value:
    size = _product(value.shape)
    if layer.config.get("data_format", "channels_last") == "channels_first" and len(value.shape) > 1:
        raise layer.refuse("data_format='channels_first' is not exported", "use channels_last")
    shape = layer.integers(0, size if size is not None else -1)
    return Value(layer.op("Reshape", value.name, shape), (size,))


def _product(shape: tuple[int | None, ...]) -> int | None:
    size = 1
    for part in shape:
        if part is None:
            return None
        size *= part
    return size


def reshape(layer: Layer, value: Value) -> Value:
    target = [int(size) for size in layer.config["target_shape"]]
    size = _product(value.shape)
    if -1 in target and size is not None:
        rest = -_product(tuple(target))
        target[target.index(-1)] = size // max(rest, 1)
    name = layer.op("Reshape", value.name, layer.integers(0, *target))
    return Value(name, tuple(None if part == -1 else part for part in target))


def permute(layer: Layer, value: Value) -> Value:
    dims = [int(dim) for dim in layer.config["dims"]]
    return Value(layer.op("Transpose", value.name, perm=[0, *dims]), tuple(value.shape[dim - 1] for dim in dims))


def repeat_vector(layer: Layer, value: Value) -> Value:
    count = int(layer.config["n"])
    name = layer.op("Unsqueeze", value.name, layer.integers(1))
    return Value(layer.op("Tile", name, layer.integers(1, count, 1)), (count, *value.shape))


def zero_padding(layer: Layer, value: Value) -> Value:
    before, after = _pair(layer.config["padding"])
    name = layer.op("Pad", value.name, layer.integers(0, before, 0, 0, after, 0))
    steps = value.shape[0]
    return Value(name, (None if steps is None else steps + before + after, *value.shape[1:]))


def cropping(layer: Layer, value: Value) -> Value:
    before, after = _pair(layer.config["cropping"])
    end = -after if after else 2**31 - 1
    name = layer.op("Slice", value.name, layer.integers(before), layer.integers(end), layer.integers(1))
    steps = value.shape[0]
    return Value(name, (None if steps is None else steps - before - after, *value.shape[1:]))


def _pair(value: Any) -> tuple[int, int]:
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[1]))


# Merging


def concatenate(layer: Layer, values: list[Value]) -> Value:
    axis = int(layer.config.get("axis", -1))
    rank = len(values[0].shape) + 1
    place = (axis + rank if axis < 0 else axis) - 1
    if place < 0:
        raise layer.refuse("it joins along the batch", "use axis=-1")
    sizes = [value.shape[place] for value in values]
    shape = list(values[0].shape)
    shape[place] = None if any(size is None for size in sizes) else sum(size for size in sizes if size is not None)
    return Value(layer.op("Concat", *[value.name for value in values], axis=place + 1), tuple(shape))


def fold(operator: str) -> Callable[[Layer, list[Value]], Value]:
    def write(layer: Layer, values: list[Value]) -> Value:
        values = _of_one_rank(layer, values)
        name = values[0].name
        for value in values[1:]:
            name = layer.op(operator, name, value.name)
        if layer.kind == "Average":
            name = layer.op("Div", name, layer.constant(float(len(values))))
        return Value(name, tuple(_broadcast(sizes) for sizes in zip(*(value.shape for value in values))))

    return write


def _of_one_rank(layer: Layer, values: list[Value]) -> list[Value]:
    """Keras gives tensors of fewer dimensions new ones after the batch; ONNX's operators would take them before it."""
    rank = max(len(value.shape) for value in values)
    same = []
    for value in values:
        new = rank - len(value.shape)
        if new:
            axes = layer.integers(*range(1, new + 1))
            value = Value(layer.op("Unsqueeze", value.name, axes), (*[1] * new, *value.shape))
        same.append(value)
    return same


def _broadcast(sizes: tuple[int | None, ...]) -> int | None:
    known = [size for size in sizes if size is not None]
    most = max(known, default=1)
    return most if most > 1 or len(known) == len(sizes) else None
