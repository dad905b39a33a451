"""Keras: from the configuration and the weights of a saved model to ONNX, layer by layer.

Each function below writes one kind of layer; `LAYERS` is the table. What stands in no table is refused by the layer's name.
Keras keeps the channels last and the batch first; ONNX's convolutions want the channels second, its recurrent operators the
time first, so these are transposed around.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable

import numpy as np
import onnx
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


@dataclass
class KerasExport:
    model: onnx.ModelProto
    # The last dimension of the input, when the model has one input.
    features: int | None
    # "softmax" or "sigmoid" when the outputs are probabilities, and how many columns there are.
    activation: str | None
    columns: int | None


def convert(config: Config, weights: Weights, *, two_columns: bool = False) -> KerasExport:
    """Writes a saved model. With `two_columns`, a single probability p becomes the two columns 1 − p and p."""
    graph = Graph("model")
    if config.get("class_name") not in ("Sequential", "Functional", "Model"):
        raise ExportError(
            f"the model is a {config.get('class_name')}, a class of its own",
            hint="only Sequential and functional models say what they consist of; rebuild it as one with the same weights",
        )
    inputs = [_input(graph, name, shape, dtype) for name, shape, dtype in _inputs(config)]
    outputs = _model(graph, config["config"], config["class_name"], weights, inputs)
    activation = _last_activation(config)
    columns = outputs[0].shape[-1] if len(outputs) == 1 and outputs[0].shape else None
    if two_columns and activation == "sigmoid" and columns == 1:
        one = graph.constant(np.asarray([1.0], dtype=np.float32), "one")
        rest = graph.node("Sub", [one, outputs[0].name])
        outputs = [Value(graph.node("Concat", [rest, outputs[0].name], axis=-1), (*outputs[0].shape[:-1], 2))]
        columns = 2
    names = ["output"] if len(outputs) == 1 else [f"output_{index}" for index in range(len(outputs))]
    if len(outputs) == 1 and activation is not None and columns is not None and columns > 1:
        names = ["probabilities"]
    for name, value in zip(names, outputs):
        name = graph.node("Identity", [value.name], outputs=[graph.unique(name)])
        graph.output(name, "float", ["N", *(_dimension(size, index) for index, size in enumerate(value.shape))])
    features = inputs[0].shape[-1] if len(inputs) == 1 and inputs[0].shape else None
    return KerasExport(graph.model(), features, activation, columns)


def _dimension(size: int | None, index: int) -> int | str:
    return size if size is not None else ("T" if index == 0 else f"D{index}")


def _inputs(config: Config) -> list[tuple[str, tuple[int | None, ...], str]]:
    inner = config["config"]
    layers = {layer["config"]["name"]: layer for layer in inner["layers"]}
    if config["class_name"] == "Sequential":
        first = inner["layers"][0] if inner["layers"] else None
        if first is not None and first["class_name"] == "InputLayer":
            return [_input_layer(first["config"])]
        shape = inner.get("build_input_shape")
        if not shape:
            raise ExportError(
                "the model was never built, so the shape of its input is not known",
                hint="begin it with `keras.Input(shape=…)`, or call it once before saving",
            )
        return [("input", tuple(shape[1:]), "float32")]
    return [_input_layer(layers[name]["config"]) for name, _, _ in _references(inner["input_layers"])]


def _input_layer(config: Config) -> tuple[str, tuple[int | None, ...], str]:
    shape = config.get("batch_shape") or config.get("batch_input_shape")
    if not shape:
        raise ExportError("the input has no shape", where=f"layer `{config['name']}`", hint="give `keras.Input(shape=…)`")
    return config["name"], tuple(shape[1:]), str(config.get("dtype", "float32"))


def _input(graph: Graph, name: str, shape: tuple[int | None, ...], dtype: str) -> Value:
    kinds = {"float32": "float", "float16": "float", "bfloat16": "float", "float64": "double", "int32": "int64", "int64": "int64"}
    if dtype not in kinds:
        raise ExportError(f"the input is of the kind {dtype}", where=f"layer `{name}`", hint="use float32 or int32")
    given = graph.input(name, kinds[dtype], ["N", *(_dimension(size, index) for index, size in enumerate(shape))])
    if kinds[dtype] == "double":
        given = graph.node("Cast", [given], to=TensorProto.FLOAT)
    return Value(given, shape)


def _last_activation(config: Config) -> str | None:
    """The activation of a model's only output, when it makes probabilities."""
    inner = config["config"]
    layers = {layer["config"]["name"]: layer for layer in inner["layers"]}
    if config["class_name"] == "Sequential":
        last = inner["layers"][-1] if inner["layers"] else None
    else:
        ends = _references(inner["output_layers"])
        last = layers.get(ends[0][0]) if len(ends) == 1 else None
    if last is None:
        return None
    if last["class_name"] in ("Sequential", "Functional", "Model"):
        return _last_activation(last)
    activation = "softmax" if last["class_name"] == "Softmax" else last["config"].get("activation")
    return activation if activation in ("softmax", "sigmoid") else None


def _references(stored: Any) -> list[tuple[str, int, int]]:
    """Tensors that a configuration names: one, a list, or a mapping of them."""
    if isinstance(stored, dict):
        stored = list(stored.values())
    if stored and isinstance(stored[0], str):
        stored = [stored]
    return [(name, int(node), int(tensor)) for name, node, tensor in stored]


def _model(graph: Graph, config: Config, kind: str, weights: Weights, inputs: list[Value]) -> list[Value]:
    """Writes a model, which may stand inside another, and returns its outputs."""
    by_name = weights.layers(config["layers"])
    if kind == "Sequential":
        values = inputs
        for layer in config["layers"]:
            if layer["class_name"] != "InputLayer":
                values = _layer(graph, layer, by_name, values)
        return values
    layers = {layer["config"]["name"]: layer for layer in config["layers"]}
    done: dict[tuple[str, int], list[Value]] = {}
    for (name, node, _), value in zip(_references(config["input_layers"]), inputs):
        done[name, node] = [value]
    wanted = _references(config["output_layers"])
    stack = [(name, node) for name, node, _ in wanted]
    while stack:
        name, node = stack[-1]
        if (name, node) in done:
            stack.pop()
            continue
        layer = layers[name]
        calls = layer["inbound_nodes"]
        if node >= len(calls):
            raise ExportError(f"the model does not say how it calls layer `{name}`", hint="save it with a newer Keras 3")
        needed = _arguments(layer, calls[node])
        waiting = [(before, at) for before, at, _ in needed if (before, at) not in done]
        if waiting:
            stack += waiting
            continue
        values = [done[before, at][tensor] for before, at, tensor in needed]
        done[name, node] = _layer(graph, layer, by_name, values)
        stack.pop()
    return [done[name, node][tensor] for name, node, tensor in wanted]


def _arguments(layer: Config, call: Any) -> list[tuple[str, int, int]]:
    """The tensors that a call of a layer takes."""
    if not isinstance(call, dict):
        raise ExportError(
            f"layer `{layer['config']['name']}` is stored in the form of Keras 2", hint="load the model with Keras 3 and save it again"
        )
    found: list[tuple[str, int, int]] = []

    def collect(value: Any) -> None:
        if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
            name, node, tensor = value["config"]["keras_history"]
            found.append((name, int(node), int(tensor)))
        elif isinstance(value, (list, tuple)):
            for part in value:
                collect(part)

    collect(call.get("args", []))
    for key, value in call.get("kwargs", {}).items():
        if value is None or key == "training":
            continue
        raise ExportError(
            f"{layer['class_name']}: it is called with `{key}`",
            where=f"layer `{layer['config']['name']}`",
            hint="masks, initial states and other arguments of calls are not exported; call the layer with its input alone",
        )
    return found


def _layer(graph: Graph, stored: Config, weights: dict[str, Weights], inputs: list[Value]) -> list[Value]:
    kind, config = stored["class_name"], stored["config"]
    own = weights.get(config["name"], Weights(None, config["name"]))
    if kind in ("Sequential", "Functional", "Model"):
        return _model(graph, config, kind, own, inputs)
    return [_write(Layer(graph, kind, config, own), stored, inputs)]


def _write(layer: Layer, stored: Config, inputs: list[Value]) -> Value:
    write = LAYERS.get(layer.kind)
    if write is None or not str(stored.get("module", "keras.layers")).startswith("keras.layers"):
        raise layer.refuse("this kind of layer is not exported", HINTS.get(layer.kind, f"known are {', '.join(sorted(LAYERS))}"))
    if layer.config.get("quantization_config"):
        raise layer.refuse("it is quantised", "save the model before quantising it")
    if layer.kind in MERGES:
        return write(layer, inputs)
    if len(inputs) != 1:
        raise layer.refuse(f"it is called with {len(inputs)} tensors", "initial states and the like are not exported")
    return write(layer, inputs[0])


# Activations


def _activation(layer: Layer, name: str, activation: Any) -> str:
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
# Activations inside recurrent operators: the operator's word, alpha and beta.
RECURRENT_ACTIVATIONS: dict[str, tuple[str, float, float]] = {
    "elu": ("Elu", 1.0, 0.0),
    "hard_sigmoid": ("HardSigmoid", 1 / 6, 0.5),
    "leaky_relu": ("LeakyRelu", 0.2, 0.0),
    "linear": ("Affine", 1.0, 0.0),
    "relu": ("Relu", 0.0, 0.0),
    "sigmoid": ("Sigmoid", 0.0, 0.0),
    "softplus": ("Softplus", 0.0, 0.0),
    "softsign": ("Softsign", 0.0, 0.0),
    "tanh": ("Tanh", 0.0, 0.0),
}


def _activation_layer(layer: Layer, value: Value) -> Value:
    return Value(_activation(layer, value.name, layer.config["activation"]), value.shape)


def _relu(layer: Layer, value: Value) -> Value:
    slope = float(layer.config.get("negative_slope") or 0.0)
    if layer.config.get("threshold"):
        raise layer.refuse("a threshold other than 0 is not exported", "leave it out")
    name = layer.op("LeakyRelu", value.name, alpha=slope) if slope else layer.op("Relu", value.name)
    most = layer.config.get("max_value")
    if most is not None:
        name = layer.op("Min", name, layer.constant(most))
    return Value(name, value.shape)


def _leaky_relu(layer: Layer, value: Value) -> Value:
    slope = layer.config.get("negative_slope", layer.config.get("alpha", 0.3))
    return Value(layer.op("LeakyRelu", value.name, alpha=float(slope)), value.shape)


def _elu(layer: Layer, value: Value) -> Value:
    return Value(layer.op("Elu", value.name, alpha=float(layer.config.get("alpha", 1.0))), value.shape)


def _prelu(layer: Layer, value: Value) -> Value:
    (alpha,) = _variables(layer, 1)
    return Value(layer.op("PRelu", value.name, layer.constant(alpha)), value.shape)


def _softmax(layer: Layer, value: Value) -> Value:
    axis = layer.config.get("axis", -1)
    if isinstance(axis, list):
        if len(axis) != 1:
            raise layer.refuse("a softmax over several axes is not exported", "use axis=-1")
        axis = axis[0]
    return Value(layer.op("Softmax", value.name, axis=int(axis)), value.shape)


# Dense and element-wise layers


def _variables(layer: Layer, count: int) -> list[np.ndarray]:
    found = layer.weights.variables()
    if len(found) != count:
        raise layer.refuse(f"{len(found)} weights are stored, {count} are needed", "the file is damaged, or made by another kind of layer")
    return found


def _identity(layer: Layer, value: Value) -> Value:
    return value


def _dense(layer: Layer, value: Value) -> Value:
    use_bias = layer.config.get("use_bias", True)
    kernel, *bias = _variables(layer, 1 + use_bias)
    if len(value.shape) == 1:
        inputs = [value.name, layer.constant(kernel)] + [layer.constant(part) for part in bias]
        name = layer.op("Gemm", *inputs)
    else:
        name = layer.op("MatMul", value.name, layer.constant(kernel))
        if bias:
            name = layer.op("Add", name, layer.constant(bias[0]))
    name = _activation(layer, name, layer.config.get("activation"))
    return Value(name, (*value.shape[:-1], kernel.shape[1]))


def _last_axis(layer: Layer, value: Value) -> None:
    axis = layer.config.get("axis", -1)
    axes = axis if isinstance(axis, list) else [axis]
    if axes not in ([-1], [len(value.shape)]):
        raise layer.refuse(f"it works along axis {axis}", "only the last axis is exported")


def _batch_normalization(layer: Layer, value: Value) -> Value:
    _last_axis(layer, value)
    scaled, centred = layer.config.get("scale", True), layer.config.get("center", True)
    found = [part.astype(np.float64) for part in _variables(layer, 2 + scaled + centred)]
    gamma = found.pop(0) if scaled else 1.0
    beta = found.pop(0) if centred else 0.0
    mean, variance = found
    scale = gamma / np.sqrt(variance + float(layer.config.get("epsilon", 1e-3)))
    name = layer.op("Mul", value.name, layer.constant(scale))
    return Value(layer.op("Add", name, layer.constant(beta - mean * scale)), value.shape)


def _layer_normalization(layer: Layer, value: Value) -> Value:
    _last_axis(layer, value)
    if layer.config.get("rms_scaling"):
        raise layer.refuse("rms_scaling is not exported", "leave it out")
    scaled, centred = layer.config.get("scale", True), layer.config.get("center", True)
    found = _variables(layer, int(scaled) + int(centred))
    width = value.shape[-1]
    gamma = found.pop(0) if scaled else np.ones(width or 1)
    inputs = [value.name, layer.constant(gamma)] + [layer.constant(part) for part in found]
    return Value(layer.op("LayerNormalization", *inputs, axis=-1, epsilon=float(layer.config.get("epsilon", 1e-3))), value.shape)


def _normalization(layer: Layer, value: Value) -> Value:
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


def _rescaling(layer: Layer, value: Value) -> Value:
    name = layer.op("Mul", value.name, layer.constant(layer.config["scale"]))
    return Value(layer.op("Add", name, layer.constant(layer.config.get("offset", 0.0))), value.shape)


def _embedding(layer: Layer, value: Value) -> Value:
    if layer.config.get("mask_zero"):
        raise layer.refuse("mask_zero=True makes a mask", "masks are not exported: train without, on sequences of one length")
    (table,) = _variables(layer, 1)
    indices = layer.op("Cast", value.name, to=TensorProto.INT64)
    return Value(layer.op("Gather", layer.constant(table), indices, axis=0), (*value.shape, table.shape[1]))


# Shapes


def _flatten(layer: Layer, value: Value) -> Value:
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


def _reshape(layer: Layer, value: Value) -> Value:
    target = [int(size) for size in layer.config["target_shape"]]
    size = _product(value.shape)
    if -1 in target and size is not None:
        rest = -_product(tuple(target))
        target[target.index(-1)] = size // max(rest, 1)
    name = layer.op("Reshape", value.name, layer.integers(0, *target))
    return Value(name, tuple(None if part == -1 else part for part in target))


def _permute(layer: Layer, value: Value) -> Value:
    dims = [int(dim) for dim in layer.config["dims"]]
    return Value(layer.op("Transpose", value.name, perm=[0, *dims]), tuple(value.shape[dim - 1] for dim in dims))


def _repeat_vector(layer: Layer, value: Value) -> Value:
    count = int(layer.config["n"])
    name = layer.op("Unsqueeze", value.name, layer.integers(1))
    return Value(layer.op("Tile", name, layer.integers(1, count, 1)), (count, *value.shape))


def _zero_padding(layer: Layer, value: Value) -> Value:
    before, after = _pair(layer.config["padding"])
    name = layer.op("Pad", value.name, layer.integers(0, before, 0, 0, after, 0))
    steps = value.shape[0]
    return Value(name, (None if steps is None else steps + before + after, *value.shape[1:]))


def _cropping(layer: Layer, value: Value) -> Value:
    before, after = _pair(layer.config["cropping"])
    end = -after if after else 2**31 - 1
    name = layer.op("Slice", value.name, layer.integers(before), layer.integers(end), layer.integers(1))
    steps = value.shape[0]
    return Value(name, (None if steps is None else steps - before - after, *value.shape[1:]))


def _pair(value: Any) -> tuple[int, int]:
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[1]))


# Merging


def _concatenate(layer: Layer, values: list[Value]) -> Value:
    axis = int(layer.config.get("axis", -1))
    rank = len(values[0].shape) + 1
    place = (axis + rank if axis < 0 else axis) - 1
    if place < 0:
        raise layer.refuse("it joins along the batch", "use axis=-1")
    sizes = [value.shape[place] for value in values]
    shape = list(values[0].shape)
    shape[place] = None if any(size is None for size in sizes) else sum(size for size in sizes if size is not None)
    return Value(layer.op("Concat", *[value.name for value in values], axis=place + 1), tuple(shape))


def _fold(operator: str) -> Callable[[Layer, list[Value]], Value]:
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


# Convolutions and pooling


def _first_and_last(layer: Layer) -> None:
    if layer.config.get("data_format", "channels_last") not in ("channels_last", None):
        raise layer.refuse("data_format='channels_first' is not exported", "use channels_last")


def _single(value: Any) -> int:
    return int(value[0]) if isinstance(value, (list, tuple)) else int(value)


def _window(layer: Layer, steps: int | None, size: int, stride: int) -> tuple[dict[str, Any], int | None]:
    """Padding as attributes, and the number of steps afterwards."""
    padding = layer.config.get("padding", "valid")
    if padding == "valid":
        return {"pads": [0, 0]}, None if steps is None else (steps - size) // stride + 1
    if padding == "causal":
        return {"pads": [size - 1, 0]}, None if steps is None else (steps - 1) // stride + 1
    if padding != "same":
        raise layer.refuse(f"the padding `{padding}` is not exported", "use valid, same or causal")
    after = None if steps is None else -(-steps // stride)
    if stride == 1:
        total = size - 1
    elif steps is None or after is None:
        raise layer.refuse("same padding with strides needs a fixed number of steps", "give `keras.Input` the number of steps")
    else:
        total = max((after - 1) * stride + size - steps, 0)
    return {"pads": [total // 2, total - total // 2]}, after


def _convolve(layer: Layer, name: str, steps: int | None, kernel: np.ndarray, bias: np.ndarray | None, group: int, *, windows: bool = True) -> tuple[str, int | None]:
    """A convolution over [batch, channels, steps]; the kernel is [out, in / group, size]."""
    stride = _single(layer.config.get("strides", 1)) if windows else 1
    dilation = _single(layer.config.get("dilation_rate", 1)) if windows else 1
    size = kernel.shape[2]
    if windows:
        attributes, after = _window(layer, steps, (size - 1) * dilation + 1, stride)
    else:
        attributes, after = {"pads": [0, 0]}, steps
    inputs = [name, layer.constant(kernel)] + ([] if bias is None else [layer.constant(bias)])
    name = layer.op("Conv", *inputs, kernel_shape=[size], strides=[stride], dilations=[dilation], group=group, **attributes)
    return name, after


def _conv(layer: Layer, value: Value) -> Value:
    _first_and_last(layer)
    use_bias = layer.config.get("use_bias", True)
    kernel, *bias = _variables(layer, 1 + use_bias)
    name = layer.op("Transpose", value.name, perm=[0, 2, 1])
    group = int(layer.config.get("groups", 1))
    name, after = _convolve(layer, name, value.shape[0], kernel.transpose(2, 1, 0), bias[0] if bias else None, group)
    return _conv_output(layer, name, after, kernel.shape[2])


def _conv_output(layer: Layer, name: str, steps: int | None, channels: int) -> Value:
    name = layer.op("Transpose", name, perm=[0, 2, 1])
    return Value(_activation(layer, name, layer.config.get("activation")), (steps, channels))


def _depthwise_kernel(kernel: np.ndarray) -> np.ndarray:
    """From [size, channels, multiplier] to [channels × multiplier, 1, size]."""
    size, channels, multiplier = kernel.shape
    return kernel.transpose(1, 2, 0).reshape(channels * multiplier, 1, size)


def _depthwise_conv(layer: Layer, value: Value) -> Value:
    _first_and_last(layer)
    use_bias = layer.config.get("use_bias", True)
    kernel, *bias = _variables(layer, 1 + use_bias)
    name = layer.op("Transpose", value.name, perm=[0, 2, 1])
    name, after = _convolve(layer, name, value.shape[0], _depthwise_kernel(kernel), bias[0] if bias else None, kernel.shape[1])
    return _conv_output(layer, name, after, kernel.shape[1] * kernel.shape[2])


def _separable_conv(layer: Layer, value: Value) -> Value:
    _first_and_last(layer)
    use_bias = layer.config.get("use_bias", True)
    depthwise, pointwise, *bias = _variables(layer, 2 + use_bias)
    name = layer.op("Transpose", value.name, perm=[0, 2, 1])
    name, after = _convolve(layer, name, value.shape[0], _depthwise_kernel(depthwise), None, depthwise.shape[1])
    name, _ = _convolve(layer, name, after, pointwise.transpose(2, 1, 0), bias[0] if bias else None, 1, windows=False)
    return _conv_output(layer, name, after, pointwise.shape[2])


def _pool(layer: Layer, value: Value) -> Value:
    _first_and_last(layer)
    size = _single(layer.config.get("pool_size", 2))
    stride = _single(layer.config.get("strides") or size)
    attributes, after = _window(layer, value.shape[0], size, stride)
    name = layer.op("Transpose", value.name, perm=[0, 2, 1])
    operator = "MaxPool" if layer.kind.startswith("Max") else "AveragePool"
    name = layer.op(operator, name, kernel_shape=[size], strides=[stride], **attributes)
    return Value(layer.op("Transpose", name, perm=[0, 2, 1]), (after, *value.shape[1:]))


def _global_pool(layer: Layer, value: Value) -> Value:
    _first_and_last(layer)
    kept = bool(layer.config.get("keepdims", False))
    operator = "ReduceMax" if "Max" in layer.kind else "ReduceMean"
    name = layer.op(operator, value.name, layer.integers(1), keepdims=int(kept))
    return Value(name, (1, *value.shape[1:]) if kept else value.shape[1:])


# Recurrent layers


def _recurrent(layer: Layer, value: Value) -> Value:
    backwards = bool(layer.config.get("go_backwards", False))
    sequences = bool(layer.config.get("return_sequences", False))
    name = _recurrence(layer, value, [(layer.config, layer.weights, backwards)])
    units = int(layer.config["units"])
    if not sequences:
        return Value(layer.op("Squeeze", name, layer.integers(0)), (units,))
    # [steps, 1, batch, units] → [batch, steps, units]
    name = layer.op("Transpose", layer.op("Squeeze", name, layer.integers(1)), perm=[1, 0, 2])
    if backwards:
        # Keras leaves the steps in the order in which it went, ONNX puts them back.
        last = -(2**31)
        name = layer.op("Slice", name, layer.integers(-1), layer.integers(last), layer.integers(1), layer.integers(-1))
    return Value(name, (value.shape[0], units))


def _bidirectional(layer: Layer, value: Value) -> Value:
    forward = layer.config["layer"]
    backward = layer.config.get("backward_layer") or forward
    kind, config = forward["class_name"], forward["config"]
    if kind not in ("LSTM", "GRU", "SimpleRNN"):
        raise layer.refuse(f"a {kind} inside is not exported", "use LSTM, GRU or SimpleRNN")
    same = ("units", "activation", "recurrent_activation", "use_bias", "reset_after", "return_sequences")
    if backward["class_name"] != kind or any(backward["config"].get(key) != config.get(key) for key in same):
        raise layer.refuse("its two layers differ", "give both directions the same kind, units and activations")
    if config.get("go_backwards"):
        raise layer.refuse("its forward layer goes backwards", "leave go_backwards out")
    inner = Layer(layer.graph, kind, {**config, "name": layer.name}, layer.weights)
    units, sequences = int(config["units"]), bool(config.get("return_sequences", False))
    directions = [
        (config, layer.weights.child("forward_layer"), False),
        (backward["config"], layer.weights.child("backward_layer"), True),
    ]
    name = _recurrence(inner, value, directions)
    # To [batch, steps, 2, units], or [batch, 2, units].
    name = layer.op("Transpose", name, perm=[2, 0, 1, 3] if sequences else [1, 0, 2])
    before: tuple[int | None, ...] = (value.shape[0],) if sequences else ()
    mode = layer.config.get("merge_mode", "concat")
    if mode == "concat":
        shape = layer.integers(0, 0, 2 * units) if sequences else layer.integers(0, 2 * units)
        return Value(layer.op("Reshape", name, shape), (*before, 2 * units))
    operators = {"sum": "ReduceSum", "ave": "ReduceMean", "mul": "ReduceProd"}
    if mode not in operators:
        raise layer.refuse(f"merge_mode={mode!r} is not exported", "use concat, sum, ave or mul")
    return Value(layer.op(operators[mode], name, layer.integers(-2), keepdims=0), (*before, units))


def _recurrence(layer: Layer, value: Value, directions: list[tuple[Config, Weights, bool]]) -> str:
    """One recurrent operator; gives every step [steps, directions, batch, units], or the last state [directions, batch, units]."""
    config = layer.config
    for key, wanted in (("stateful", False), ("return_state", False)):
        if config.get(key, wanted) != wanted:
            raise layer.refuse(f"{key}={config[key]} is not exported", f"build the model with {key}={wanted}")
    units = int(config["units"])
    parts = [_cell(layer, cell, weights.child("cell")) for cell, weights, _ in directions]
    stacked = [layer.constant(np.stack(arrays)) for arrays in zip(*parts)]
    attributes: dict[str, Any] = {"hidden_size": units}
    if layer.kind == "GRU":
        attributes["linear_before_reset"] = int(config.get("reset_after", True))
    if len(directions) == 2:
        attributes["direction"] = "bidirectional"
    else:
        attributes["direction"] = "reverse" if directions[0][2] else "forward"
    words = [_recurrent_activation(layer, key) for key in _activation_keys(layer.kind)] * len(directions)
    attributes["activations"] = [word for word, _, _ in words]
    # Only the activations that have such a number take one, in the operators' order.
    alphas = [alpha for word, alpha, _ in words if word in ("Affine", "Elu", "HardSigmoid", "LeakyRelu")]
    if alphas:
        attributes["activation_alpha"] = alphas
        attributes["activation_beta"] = [beta for word, _, beta in words if word in ("Affine", "HardSigmoid")]
    if not attributes.get("activation_beta", True):
        del attributes["activation_beta"]
    steps_first = layer.op("Transpose", value.name, perm=[1, 0, 2])
    operator = "RNN" if layer.kind == "SimpleRNN" else layer.kind
    every, last = layer.graph.unique(f"{layer.name}_steps"), layer.graph.unique(f"{layer.name}_last")
    outputs = [every] if config.get("return_sequences") else ["", last]
    return layer.graph.node(operator, [steps_first, *stacked], outputs=outputs, **attributes)


def _activation_keys(kind: str) -> list[str]:
    return {
        "LSTM": ["recurrent_activation", "activation", "activation"],
        "GRU": ["recurrent_activation", "activation"],
        "SimpleRNN": ["activation"],
    }[kind]


def _recurrent_activation(layer: Layer, key: str) -> tuple[str, float, float]:
    activation = layer.config.get(key) or "linear"
    if not isinstance(activation, str) or activation not in RECURRENT_ACTIVATIONS:
        raise layer.refuse(
            f"{key}={activation!r} is not exported", f"use one of {', '.join(sorted(RECURRENT_ACTIVATIONS))}"
        )
    return RECURRENT_ACTIVATIONS[activation]


def _cell(layer: Layer, config: Config, weights: Weights) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Input weights, recurrent weights and biases in ONNX's order of gates: LSTM i, o, f, c (Keras: i, f, c, o); GRU z, r, h in both."""
    use_bias = bool(config.get("use_bias", True))
    found = weights.variables()
    if len(found) != 2 + use_bias:
        raise layer.refuse(f"{len(found)} weights are stored, {2 + use_bias} are needed", "save the model after it was built")
    gates = {"LSTM": [0, 3, 1, 2], "GRU": [0, 1, 2], "SimpleRNN": [0]}[layer.kind]
    units = int(config["units"])

    def order(array: np.ndarray) -> np.ndarray:
        parts = array.reshape(*array.shape[:-1], len(gates), units)
        return parts[..., gates, :].reshape(*array.shape)

    kernel, recurrent = order(found[0]).T, order(found[1]).T
    bias = np.zeros((2, len(gates) * units), dtype=np.float32)
    if use_bias and found[2].ndim == 2:
        bias = order(found[2])
    elif use_bias:
        bias[0] = order(found[2])
    return kernel, recurrent, bias.ravel()


def _time_distributed(layer: Layer, value: Value) -> Value:
    inner = layer.config["layer"]
    kind = inner["class_name"]
    if kind not in ("Dense", "Activation", "Dropout", "BatchNormalization", "LayerNormalization", "ReLU", "LeakyReLU", "ELU", "Softmax"):
        raise layer.refuse(f"a {kind} inside is not exported", "use Dense, an activation or a normalisation")
    config = {**inner["config"]}
    if isinstance(config.get("axis"), (int, list)) and kind != "Softmax":
        axes = config["axis"] if isinstance(config["axis"], list) else [config["axis"]]
        config["axis"] = [axis + 1 if axis > 0 else axis for axis in axes]
    part = Layer(layer.graph, kind, config, layer.weights.child("layer"))
    return LAYERS[kind](part, value)


MERGES: dict[str, Callable[[Layer, list[Value]], Value]] = {
    "Add": _fold("Add"),
    "Average": _fold("Add"),
    "Concatenate": _concatenate,
    "Maximum": _fold("Max"),
    "Minimum": _fold("Min"),
    "Multiply": _fold("Mul"),
    "Subtract": _fold("Sub"),
}

LAYERS: dict[str, Callable[[Layer, Any], Value]] = {
    "Activation": _activation_layer,
    "ActivityRegularization": _identity,
    "AlphaDropout": _identity,
    "AveragePooling1D": _pool,
    "BatchNormalization": _batch_normalization,
    "Bidirectional": _bidirectional,
    "Conv1D": _conv,
    "Cropping1D": _cropping,
    "Dense": _dense,
    "DepthwiseConv1D": _depthwise_conv,
    "Dropout": _identity,
    "ELU": _elu,
    "Embedding": _embedding,
    "Flatten": _flatten,
    "GRU": _recurrent,
    "GaussianDropout": _identity,
    "GaussianNoise": _identity,
    "GlobalAveragePooling1D": _global_pool,
    "GlobalMaxPooling1D": _global_pool,
    "Identity": _identity,
    "InputLayer": _identity,
    "LSTM": _recurrent,
    "LayerNormalization": _layer_normalization,
    "LeakyReLU": _leaky_relu,
    "MaxPooling1D": _pool,
    "Normalization": _normalization,
    "PReLU": _prelu,
    "Permute": _permute,
    "ReLU": _relu,
    "RepeatVector": _repeat_vector,
    "Rescaling": _rescaling,
    "Reshape": _reshape,
    "SeparableConv1D": _separable_conv,
    "SimpleRNN": _recurrent,
    "Softmax": _softmax,
    "SpatialDropout1D": _identity,
    "TimeDistributed": _time_distributed,
    "ZeroPadding1D": _zero_padding,
    **MERGES,
}

MASK_HINT = "masks are not exported: train without, on sequences of one length"
HINTS = {
    "Lambda": "its code is not in the file: replace it by layers, such as Rescaling or Activation",
    "Masking": MASK_HINT,
    "RNN": "use LSTM, GRU or SimpleRNN",
    "StackedRNNCells": "stack layers instead of cells",
    "ConvLSTM1D": "use Conv1D before an LSTM",
    "MultiHeadAttention": "export such a model through PyTorch (`torch.onnx.export`) and give `lockgate-export` the ONNX file",
    "Attention": "export such a model through PyTorch (`torch.onnx.export`) and give `lockgate-export` the ONNX file",
    "Conv2D": "models of images are not what Lockgate is for; Conv1D is exported",
}
