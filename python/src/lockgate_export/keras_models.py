"""Keras: from the configuration and the weights of a saved model to ONNX, layer by layer.

`keras_layers` and `keras_sequences` hold a function for each kind of layer; `LAYERS` is the table. What stands in no table is
refused by the layer's name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable

import numpy as np
import onnx
from onnx import TensorProto

from . import keras_layers, keras_sequences
from .errors import ExportError
from .graph import Graph
from .keras_file import Weights
from .keras_layers import Config, Layer, Value


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
    "Add": keras_layers.fold("Add"),
    "Average": keras_layers.fold("Add"),
    "Concatenate": keras_layers.concatenate,
    "Maximum": keras_layers.fold("Max"),
    "Minimum": keras_layers.fold("Min"),
    "Multiply": keras_layers.fold("Mul"),
    "Subtract": keras_layers.fold("Sub"),
}

LAYERS: dict[str, Callable[[Layer, Any], Value]] = {
    "Activation": keras_layers.activation,
    "ActivityRegularization": keras_layers.identity,
    "AlphaDropout": keras_layers.identity,
    "AveragePooling1D": keras_sequences.pooling,
    "BatchNormalization": keras_layers.batch_normalization,
    "Bidirectional": keras_sequences.bidirectional,
    "Conv1D": keras_sequences.convolution,
    "Cropping1D": keras_layers.cropping,
    "Dense": keras_layers.dense,
    "DepthwiseConv1D": keras_sequences.depthwise_convolution,
    "Dropout": keras_layers.identity,
    "ELU": keras_layers.elu,
    "Embedding": keras_layers.embedding,
    "Flatten": keras_layers.flatten,
    "GRU": keras_sequences.recurrent,
    "GaussianDropout": keras_layers.identity,
    "GaussianNoise": keras_layers.identity,
    "GlobalAveragePooling1D": keras_sequences.global_pooling,
    "GlobalMaxPooling1D": keras_sequences.global_pooling,
    "Identity": keras_layers.identity,
    "InputLayer": keras_layers.identity,
    "LSTM": keras_sequences.recurrent,
    "LayerNormalization": keras_layers.layer_normalization,
    "LeakyReLU": keras_layers.leaky_relu,
    "MaxPooling1D": keras_sequences.pooling,
    "Normalization": keras_layers.normalization,
    "PReLU": keras_layers.prelu,
    "Permute": keras_layers.permute,
    "ReLU": keras_layers.relu,
    "RepeatVector": keras_layers.repeat_vector,
    "Rescaling": keras_layers.rescaling,
    "Reshape": keras_layers.reshape,
    "SeparableConv1D": keras_sequences.separable_convolution,
    "SimpleRNN": keras_sequences.recurrent,
    "Softmax": keras_layers.softmax,
    "SpatialDropout1D": keras_layers.identity,
    "TimeDistributed": _time_distributed,
    "ZeroPadding1D": keras_layers.zero_padding,
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
