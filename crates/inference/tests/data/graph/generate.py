"""Writes tiny graph models in the forms that exporters use, and onnxruntime's answers for them.

Run with onnx, numpy and onnxruntime installed:  python generate.py
Weights and inputs come from a fixed seed. onnxruntime has no batch-first recurrent layers; `lstm_batch_first` has the weights
of `lstm_time_major` and so its answers.
"""

import json
import pathlib

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).parent
STEPS, FEATURES = 6, 4


class Graph:
    """Collects nodes and weights."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.nodes, self.initializers = [], []

    def weights(self, name, *shape, scale=0.6):
        values = (self.random.standard_normal(shape) * scale).astype(np.float32)
        return self.constant(name, values)

    def constant(self, name, values, dtype=None):
        self.initializers.append(numpy_helper.from_array(np.asarray(values, dtype=dtype), name))
        return name

    def ints(self, name, *values):
        return self.constant(name, values, np.int64)

    def node(self, operator, inputs, outputs, **attributes):
        outputs = [outputs] if isinstance(outputs, str) else outputs
        self.nodes.append(helper.make_node(operator, inputs, outputs, name=f"{operator.lower()}_{len(self.nodes)}", **attributes))
        return outputs[0]

    def recurrent(self, operator, x, outputs, inputs, hidden, gates, directions=1, states=(), **attributes):
        prefix = f"{operator.lower()}{len(self.nodes)}"
        operands = [
            x,
            self.weights(f"{prefix}_w", directions, gates * hidden, inputs),
            self.weights(f"{prefix}_r", directions, gates * hidden, hidden),
            self.weights(f"{prefix}_b", directions, 2 * gates * hidden),
        ]
        if states:
            operands += ["", *states]
        return self.node(operator, operands, outputs, hidden_size=hidden, **attributes)

    def model(self, inputs, outputs, opset):
        value = lambda name, element, shape: helper.make_tensor_value_info(name, element, shape)
        graph = helper.make_graph(
            self.nodes, "graph", [value(*i) for i in inputs], [value(*o) for o in outputs], self.initializers
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], producer_name="generate.py", ir_version=8 if opset < 21 else 10
        )
        onnx.checker.check_model(model)
        return model


SEQUENCE = ("x", TensorProto.FLOAT, ["N", STEPS, FEATURES])
SCORES = ("scores", TensorProto.FLOAT, ["N", 3])


def lstm_time_major(opset=13, batch_first=False):
    """Hand-written: time first, squeezed between the layers, last hidden state into a softmax."""
    g = Graph(1)
    layout = {"layout": 1} if batch_first else {}
    x = "x" if batch_first else g.node("Transpose", ["x"], "xt", perm=[1, 0, 2])
    y = g.recurrent("LSTM", x, ["y1"], FEATURES, 5, 4, **layout)
    axis = 2 if batch_first else 1
    if opset >= 13:
        y = g.node("Squeeze", [y, g.ints("axis", axis)], "y1s")
    else:
        y = g.node("Squeeze", [y], "y1s", axes=[axis])
    g.recurrent("LSTM", y, ["", "h2"], 5, 3, 4, **layout)
    axis = 1 if batch_first else 0
    if opset >= 13:
        h = g.node("Squeeze", ["h2", g.ints("axis2", axis)], "h2s")
    else:
        h = g.node("Squeeze", ["h2"], "h2s", axes=[axis])
    z = g.node("Gemm", [h, g.weights("w", 3, 3), g.weights("b", 3)], "z")
    g.node("Softmax", [z], "scores", **({"axis": 1} if opset < 13 else {}))
    return g.model([SEQUENCE], [SCORES], opset)


def lstm_torch():
    """As torch.onnx writes two stacked layers: states from Shape, ConstantOfShape and Expand; the last step by Gather."""
    g = Graph(2)
    g.node("Shape", ["x"], "shape")
    g.node("Gather", ["shape", g.constant("zero", 0, np.int64)], "n", axis=0)
    g.node("Unsqueeze", ["n", g.ints("first", 0)], "n1")
    g.node("Concat", [g.ints("layers", 1), "n1", g.ints("hidden", 4)], "wanted", axis=0)
    g.node("ConstantOfShape", ["wanted"], "h0", value=numpy_helper.from_array(np.zeros(1, np.float32)))
    # expand(-1, n, -1) as the exporter spells it
    g.node("ConstantOfShape", [g.ints("three", 3)], "ones", value=numpy_helper.from_array(np.ones(1, np.int64)))
    g.node("Mul", ["ones", g.constant("minus", -1, np.int64)], "minus_ones")
    g.node("Equal", ["wanted", "minus_ones"], "open")
    g.node("Where", ["open", "ones", "wanted"], "expanded_shape")
    g.node("Expand", [g.constant("zeros", np.zeros((1, 1, 4), np.float32)), "expanded_shape"], "c0")
    xt = g.node("Transpose", ["x"], "xt", perm=[1, 0, 2])
    g.recurrent("LSTM", xt, ["y1", "h1", "c1"], FEATURES, 4, 4, states=("h0", "c0"))
    g.node("Transpose", ["y1"], "y1t", perm=[0, 2, 1, 3])
    g.node("Reshape", ["y1t", g.ints("merge", 0, 0, -1)], "y1m")
    g.recurrent("LSTM", "y1m", ["y2"], 4, 4, 4, states=("h0", "c0"))
    g.node("Squeeze", ["y2", g.ints("direction", 1)], "y2s")
    g.node("Transpose", ["y2s"], "batch_first", perm=[1, 0, 2])
    g.node("Gather", ["batch_first", g.constant("last", -1, np.int64)], "step", axis=1)
    g.node("Gemm", ["step", g.weights("w", 3, 4), g.weights("b", 3)], "scores", alpha=1.0, beta=1.0, transB=1)
    return g.model([SEQUENCE], [SCORES], 17)


def lstm_keras():
    """As tf2onnx writes Keras layers: unnamed batch, layers batch-first between transposes, MatMul and Add."""
    g = Graph(3)
    xt = g.node("Transpose", ["x"], "xt", perm=[1, 0, 2])
    y = g.recurrent("LSTM", xt, ["y1"], FEATURES, 4, 4, direction="forward", activations=["Sigmoid", "Tanh", "Tanh"])
    y = g.node("Squeeze", [y, g.ints("one", 1)], "y1s")
    y = g.node("Transpose", [y], "sequence", perm=[1, 0, 2])
    y = g.node("Transpose", [y], "again", perm=[1, 0, 2])
    g.recurrent("LSTM", y, ["y2", "h2", "c2"], 4, 3, 4, activations=["HardSigmoid", "Tanh", "Tanh"], activation_alpha=[0.25], activation_beta=[0.4])
    h = g.node("Squeeze", ["h2", g.ints("none", 0)], "h2s")
    z = g.node("MatMul", [h, g.weights("w", 3, 3)], "product")
    z = g.node("Add", [z, g.weights("b", 3)], "z")
    g.node("Softmax", [z], "scores", axis=-1)
    return g.model([("x", TensorProto.FLOAT, [None, STEPS, FEATURES])], [("scores", TensorProto.FLOAT, [None, 3])], 15)


def lstm_states():
    """Both directions, initial states as inputs, every output of the layer, opset 22."""
    g = Graph(4)
    xt = g.node("Transpose", ["x"], "xt", perm=[1, 0, 2])
    g.recurrent("LSTM", xt, ["y", "hn", "cn"], FEATURES, 3, 4, directions=2, states=("h0", "c0"), direction="bidirectional")
    g.node("Transpose", ["y"], "yt", perm=[2, 0, 1, 3])
    g.node("Reshape", ["yt", g.ints("merge", 0, 0, 6)], "sequence")
    state = lambda name: (name, TensorProto.FLOAT, [2, "N", 3])
    return g.model(
        [SEQUENCE, state("h0"), state("c0")], [("sequence", TensorProto.FLOAT, ["N", STEPS, 6]), state("hn"), state("cn")], 22
    )


def lstm_free_length():
    """The number of steps is free as well; the last step by Slice."""
    g = Graph(5)
    xt = g.node("Transpose", ["x"], "xt", perm=[1, 0, 2])
    g.recurrent("LSTM", xt, ["y"], FEATURES, 3, 4, direction="reverse")
    g.node("Slice", ["y", g.ints("from", -1), g.ints("to", 2**63 - 1), g.ints("along", 0)], "step")
    g.node("Squeeze", ["step", g.ints("gone", 0, 1)], "h")
    g.node("Gemm", ["h", g.weights("w", 3, 3), g.weights("b", 3)], "z")
    g.node("Sigmoid", ["z"], "scores")
    return g.model([("x", TensorProto.FLOAT, ["N", "T", FEATURES])], [SCORES], 14)


def gru():
    """Both forms of the reset gate, both directions, a plain layer with ReLU at the end."""
    g = Graph(6)
    xt = g.node("Transpose", ["x"], "xt", perm=[1, 0, 2])
    g.recurrent("GRU", xt, ["y1"], FEATURES, 4, 3, directions=2, direction="bidirectional", linear_before_reset=1)
    g.node("Transpose", ["y1"], "y1t", perm=[0, 2, 1, 3])
    g.node("Reshape", ["y1t", g.ints("merge", STEPS, -1, 8)], "y1m")
    g.recurrent("GRU", "y1m", ["y2"], 8, 5, 3, linear_before_reset=0)
    g.node("Squeeze", ["y2", g.ints("one", 1)], "y2s")
    g.recurrent("RNN", "y2s", ["", "h"], 5, 3, 1, activations=["Relu"])
    g.node("Squeeze", ["h", g.ints("zero", 0)], "scores")
    return g.model([SEQUENCE], [SCORES], 14)


def cnn():
    """A one-dimensional convolutional network."""
    g = Graph(7)
    g.node("Transpose", ["x"], "channels", perm=[0, 2, 1])
    g.node("Conv", ["channels", g.weights("k1", 5, FEATURES, 4), g.weights("b1", 5)], "c1", kernel_shape=[4], auto_pad="SAME_UPPER")
    g.node("LeakyRelu", ["c1"], "r1", alpha=0.1)
    g.node("MaxPool", ["r1"], "m1", kernel_shape=[2], strides=[1], pads=[1, 0])
    names = [g.weights("scale", 5), g.weights("bias", 5), g.weights("mean", 5)]
    names.append(g.constant("variance", g.random.uniform(0.5, 2, 5), np.float32))
    g.node("BatchNormalization", ["m1", *names], "n1", epsilon=1e-3)
    g.node("Pad", ["n1", g.ints("pads", 0, 0, 1, 0, 0, 0)], "p1")
    g.node("Conv", ["p1", g.weights("k2", 5, 1, 2)], "c2", kernel_shape=[2], strides=[2], dilations=[2], pads=[1, 0], group=5)
    g.node("AveragePool", ["c2"], "a2", kernel_shape=[2], strides=[1], pads=[1, 1])
    g.node("GlobalAveragePool", ["a2"], "pooled")
    g.node("Flatten", ["pooled"], "flat")
    g.node("Gemm", ["flat", g.weights("w", 3, 5), g.weights("b", 1, 3)], "z", transB=1, alpha=0.5, beta=2.0)
    g.node("LogSoftmax", ["z"], "scores", axis=-1)
    return g.model([SEQUENCE], [SCORES], 13)


def functions():
    """Functions of one and two numbers, normalisation, reductions."""
    g = Graph(8)
    parts = []
    for operator, attributes in [
        ("Relu", {}), ("Elu", {"alpha": 0.7}), ("Selu", {}), ("Softplus", {}), ("Softsign", {}), ("Tanh", {}), ("Exp", {}),
        ("HardSigmoid", {}), ("HardSwish", {}), ("Erf", {}), ("Abs", {}), ("Neg", {}), ("Floor", {}), ("Ceil", {}), ("Mish", {}),
        ("Gelu", {}), ("Gelu", {"approximate": "tanh"}),
    ]:
        parts.append(g.node(operator, ["x"], f"part{len(parts)}", **attributes))
    parts.append(g.node("Clip", ["x", g.constant("low", -0.5, np.float32), g.constant("high", 0.5, np.float32)], "clipped"))
    parts.append(g.node("Pow", ["x", g.constant("cube", 3.0, np.float32)], "cubed"))
    parts.append(g.node("Sub", [g.constant("row", [[1.0, 2.0, 3.0, 4.0]], np.float32), "x"], "difference"))
    parts.append(g.node("Max", ["x", "difference", "cubed"], "largest"))
    positive = g.node("Add", ["part10", g.constant("one", 1.0, np.float32)], "positive")
    parts += [g.node(operator, [positive], operator) for operator in ("Sqrt", "Log", "Reciprocal")]
    parts.append(g.node("Div", ["x", positive], "ratio"))
    g.node("LayerNormalization", ["x", g.weights("gain", FEATURES), g.weights("shift", FEATURES)], "normal", axis=-1)
    g.node("Concat", [*parts, "normal"], "all", axis=1)
    g.node("ReduceMean", ["x", g.ints("one_axis", 1)], "mean", keepdims=0)
    g.node("ReduceMax", ["x", g.ints("same_axis", -2)], "top")
    g.node("ReduceL2", ["x", g.ints("two_axes", 1, 2)], "length", keepdims=1)
    g.node("ReduceSum", ["x", g.ints("features", 2)], "sum", keepdims=0)
    g.node("Softmax", ["x"], "over_time", axis=1)
    g.node("ArgMax", ["x"], "label", axis=2, keepdims=0)
    f = TensorProto.FLOAT
    outputs = [
        ("all", f, ["N", 26 * STEPS, FEATURES]), ("mean", f, ["N", FEATURES]), ("top", f, ["N", 1, FEATURES]),
        ("length", f, ["N", 1, 1]), ("sum", f, ["N", STEPS]), ("over_time", f, ["N", STEPS, FEATURES]),
        ("label", TensorProto.INT64, ["N", STEPS]),
    ]
    return g.model([SEQUENCE], outputs, 22)


def attention():
    """Products of two computed matrices, Split, and a view whose shape is computed from the batch."""
    g = Graph(9)
    g.node("MatMul", ["x", g.weights("w", FEATURES, 9)], "qkv")
    g.node("Split", ["qkv", g.ints("parts", 3, 3, 3)], ["q", "k", "v"], axis=2)
    g.node("Transpose", ["k"], "kt", perm=[0, 2, 1])
    g.node("MatMul", ["q", "kt"], "similar")
    g.node("Div", ["similar", g.constant("root", 3**0.5, np.float32)], "scaled")
    g.node("Softmax", ["scaled"], "attention", axis=-1)
    g.node("MatMul", ["attention", "v"], "mixed")
    g.node("Shape", ["x"], "shape")
    g.node("Slice", ["shape", g.ints("s0", 0), g.ints("s1", 1)], "n")
    g.node("Slice", ["shape", g.ints("s1b", 1), g.ints("s2", 2)], "t")
    g.node("Mul", ["n", "t"], "rows")
    g.node("Concat", ["rows", g.ints("three", 3)], "flat_shape", axis=0)
    g.node("Reshape", ["mixed", "flat_shape"], "flat")
    g.node("Gemm", ["flat", g.weights("w2", 3, 2), g.weights("b2", 2)], "dense")
    g.node("Concat", ["n", g.ints("rest", -1)], "view_shape", axis=0)
    g.node("Reshape", ["dense", "view_shape"], "view")
    g.node("Slice", ["view", g.ints("back", -1), g.ints("front", -(2**31)), g.ints("columns", 1), g.ints("step", -3)], "picked")
    g.node("MatMul", ["picked", g.weights("vector", 4)], "score")
    g.node("Unsqueeze", ["score", g.ints("new", 1)], "scores")
    return g.model([SEQUENCE], [("scores", TensorProto.FLOAT, ["N", 1])], 13)


def old():
    """Opset 9: axes, starts and bounds are attributes; the first axis of Softmax takes all behind it."""
    g = Graph(10)
    g.node("Slice", ["x"], "part", starts=[1, 0], ends=[2**31 - 1, -1], axes=[1, 2])
    g.node("Clip", ["part"], "clipped", min=-1.0, max=0.75)
    g.node("Softmax", ["clipped"], "soft", axis=1)
    g.node("Split", ["soft"], ["left", "right"], axis=1, split=[2, 3])
    g.node("Reshape", ["right", g.ints("flat", -1, 9)], "columns")
    g.node("Unsqueeze", ["columns"], "deep", axes=[1, 3])
    g.node("Squeeze", ["deep"], "back", axes=[1, 3])
    g.node("Gemm", ["back", g.weights("w", 9, 3), g.constant("b", 0.5, np.float32)], "scores")
    return g.model([SEQUENCE], [SCORES], 9)


def fixed_batch():
    """A file whose batch is one: the signature says so."""
    g = Graph(11)
    g.node("Flatten", ["x"], "flat", axis=1)
    g.node("Gemm", ["flat", g.weights("w", STEPS * FEATURES, 3), g.weights("b", 3)], "scores")
    return g.model([("x", TensorProto.FLOAT, [1, STEPS, FEATURES])], [("scores", TensorProto.FLOAT, [1, 3])], 13)


def loop_over_values(trips=None):
    """A loop that runs as often as the largest element of the input says, or so often."""
    g = Graph(12)
    g.constant("one", 1.0, np.float32)
    if trips is None:
        g.node("ReduceMax", ["x"], "most", keepdims=0)
        g.node("Cast", ["most"], "trips", to=TensorProto.INT64)
    else:
        g.constant("trips", trips, np.int64)
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["still_on"]), helper.make_node("Add", ["state", "one"], ["next"])],
        "body",
        [value("trip", TensorProto.INT64, []), value("on", TensorProto.BOOL, []), value("state", TensorProto.FLOAT, ["N", 4])],
        [value("still_on", TensorProto.BOOL, []), value("next", TensorProto.FLOAT, ["N", 4])],
    )
    g.node("Loop", ["trips", "", "x"], "y", body=body)
    row = ["N", 4]
    return g.model([("x", TensorProto.FLOAT, row)], [("y", TensorProto.FLOAT, row)], 17)


def tensor(values):
    names = {"float32": "FP32", "int64": "INT64"}
    return {"datatype": names[values.dtype.name], "shape": list(values.shape), "data": [v.item() for v in values.reshape(-1)]}


def cases(model, batches, seed, steps=(STEPS,)):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    random = np.random.default_rng(seed)
    for batch, length in zip(batches, steps * len(batches)):
        inputs = {}
        for value in session.get_inputs():
            free = {"N": batch, "T": length, None: batch}
            shape = [d if isinstance(d, int) else free.get(d, batch) for d in value.shape]
            inputs[value.name] = random.standard_normal(shape).astype(np.float32).round(3)
        outputs = session.run(None, inputs)
        yield {
            "inputs": {name: tensor(values) for name, values in inputs.items()},
            "outputs": {value.name: tensor(values) for value, values in zip(session.get_outputs(), outputs)},
        }


def main():
    batches = (1, 2, 18)
    models = {
        "lstm_time_major": lstm_time_major(), "lstm_opset9": lstm_time_major(opset=9), "lstm_torch": lstm_torch(),
        "lstm_keras": lstm_keras(), "lstm_states": lstm_states(), "lstm_free_length": lstm_free_length(), "gru": gru(),
        "cnn": cnn(), "functions": functions(), "attention": attention(), "old": old(), "fixed_batch": fixed_batch(),
        "loop_over_values": loop_over_values(),
    }
    answers = {}
    for seed, (name, model) in enumerate(models.items()):
        mine = {"fixed_batch": (1, 1), "functions": (1, 2), "lstm_states": (1, 2, 17)}.get(name, batches)
        steps = (3, 7, 5) if name == "lstm_free_length" else (STEPS,)
        answers[name] = list(cases(model, mine, 100 + seed, steps))
    models["loop_without_end"] = loop_over_values(trips=2**62)
    models["lstm_batch_first"] = lstm_time_major(opset=14, batch_first=True)
    for name, model in models.items():
        (HERE / f"{name}.onnx").write_bytes(model.SerializeToString())
    (HERE / "data_elsewhere.onnx.data").unlink(missing_ok=True)
    onnx.save_model(
        models["fixed_batch"], HERE / "data_elsewhere.onnx", save_as_external_data=True, location="data_elsewhere.onnx.data", size_threshold=0
    )
    for name, cases_of_model in answers.items():
        (HERE / f"{name}.json").write_text(json.dumps(cases_of_model, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
