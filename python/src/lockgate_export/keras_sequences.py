"""Keras layers over time: convolutions, pooling and recurrent layers. Each function writes one kind of layer.

Keras keeps the channels last and the batch first; ONNX's convolutions want the channels second, its recurrent operators the
time first, so these are transposed around.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .keras_file import Weights
from .keras_layers import Config, Layer, Value, activate, variables

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


def convolution(layer: Layer, value: Value) -> Value:
    _first_and_last(layer)
    use_bias = layer.config.get("use_bias", True)
    kernel, *bias = variables(layer, 1 + use_bias)
    name = layer.op("Transpose", value.name, perm=[0, 2, 1])
    group = int(layer.config.get("groups", 1))
    name, after = _convolve(layer, name, value.shape[0], kernel.transpose(2, 1, 0), bias[0] if bias else None, group)
    return _conv_output(layer, name, after, kernel.shape[2])


def _conv_output(layer: Layer, name: str, steps: int | None, channels: int) -> Value:
    name = layer.op("Transpose", name, perm=[0, 2, 1])
    return Value(activate(layer, name, layer.config.get("activation")), (steps, channels))


def _depthwise_kernel(kernel: np.ndarray) -> np.ndarray:
    """From [size, channels, multiplier] to [channels × multiplier, 1, size]."""
    size, channels, multiplier = kernel.shape
    return kernel.transpose(1, 2, 0).reshape(channels * multiplier, 1, size)


def depthwise_convolution(layer: Layer, value: Value) -> Value:
    _first_and_last(layer)
    use_bias = layer.config.get("use_bias", True)
    kernel, *bias = variables(layer, 1 + use_bias)
    name = layer.op("Transpose", value.name, perm=[0, 2, 1])
    name, after = _convolve(layer, name, value.shape[0], _depthwise_kernel(kernel), bias[0] if bias else None, kernel.shape[1])
    return _conv_output(layer, name, after, kernel.shape[1] * kernel.shape[2])


def separable_convolution(layer: Layer, value: Value) -> Value:
    _first_and_last(layer)
    use_bias = layer.config.get("use_bias", True)
    depthwise, pointwise, *bias = variables(layer, 2 + use_bias)
    name = layer.op("Transpose", value.name, perm=[0, 2, 1])
    name, after = _convolve(layer, name, value.shape[0], _depthwise_kernel(depthwise), None, depthwise.shape[1])
    name, _ = _convolve(layer, name, after, pointwise.transpose(2, 1, 0), bias[0] if bias else None, 1, windows=False)
    return _conv_output(layer, name, after, pointwise.shape[2])


def pooling(layer: Layer, value: Value) -> Value:
    _first_and_last(layer)
    size = _single(layer.config.get("pool_size", 2))
    stride = _single(layer.config.get("strides") or size)
    attributes, after = _window(layer, value.shape[0], size, stride)
    name = layer.op("Transpose", value.name, perm=[0, 2, 1])
    operator = "MaxPool" if layer.kind.startswith("Max") else "AveragePool"
    name = layer.op(operator, name, kernel_shape=[size], strides=[stride], **attributes)
    return Value(layer.op("Transpose", name, perm=[0, 2, 1]), (after, *value.shape[1:]))


def global_pooling(layer: Layer, value: Value) -> Value:
    _first_and_last(layer)
    kept = bool(layer.config.get("keepdims", False))
    operator = "ReduceMax" if "Max" in layer.kind else "ReduceMean"
    name = layer.op(operator, value.name, layer.integers(1), keepdims=int(kept))
    return Value(name, (1, *value.shape[1:]) if kept else value.shape[1:])


# Recurrent layers


def recurrent(layer: Layer, value: Value) -> Value:
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


def bidirectional(layer: Layer, value: Value) -> Value:
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
