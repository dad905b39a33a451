"""Small networks, node by node as tf2onnx and torch.onnx write them, in the ways in which a batch is declared."""

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

STEPS, WIDTH = 8, 3
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}

# What the first dimension is called.
BATCHES = {"named": "batch_size", "unnamed": None, "one": 1}


class Graph:
    """Collects nodes and random weights."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.initializers = [], []

    def constant(self, value):
        name = f"constant_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.array(value, order="C"), name))
        return name

    def axes(self, *values):
        return self.constant(np.array(values, np.int64))

    def weights(self, *shape, scale=0.6):
        return self.constant((self.rng.normal(size=shape) * scale).astype(np.float32))

    def node(self, operator, *inputs, outputs=1, **attributes):
        names = [f"{operator.lower()}_{len(self.nodes)}_{k}" for k in range(outputs)]
        self.nodes.append(helper.make_node(operator, inputs, names, name=f"{operator}_{len(self.nodes)}", **attributes))
        return names[0] if outputs == 1 else names

    def recurrent(self, cell, x, width, hidden, directions=1, extra=(), **attributes):
        gates = GATES[cell] * hidden
        weights = [self.weights(directions, gates, width), self.weights(directions, gates, hidden), self.weights(directions, 2 * gates, scale=0.2)]
        outputs = 3 if cell == "LSTM" else 2
        return self.node(cell, x, *weights, *extra, outputs=outputs, hidden_size=hidden, **attributes)

    def matmul(self, x, width, count):
        """A dense layer as tf2onnx writes it."""
        return self.node("Add", self.node("MatMul", x, self.weights(width, count)), self.weights(count, scale=0.2))

    def gemm(self, x, width, count):
        """A dense layer as torch.onnx writes it."""
        return self.node("Gemm", x, self.weights(count, width), self.weights(count, scale=0.2), transB=1)

    def model(self, output, shape, outputs, opset=17, element=TensorProto.FLOAT):
        self.nodes.append(helper.make_node("Identity", [output], ["output"], name="output"))
        graph = helper.make_graph(
            self.nodes,
            "graph",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("output", element, outputs)],
            self.initializers,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8, producer_name="lockgate-tests")
        checker.check_model(model)
        return model


def keras_recurrent(cell, batch, stacked=False, bidirectional=False, masked=False):
    graph = Graph(31)
    x = graph.node("Transpose", "input", perm=[1, 0, 2])
    directions = 2 if bidirectional else 1
    direction = "bidirectional" if bidirectional else "forward"
    options = {"linear_before_reset": 1} if cell == "GRU" else {}
    width = WIDTH
    if stacked:
        y, *_ = graph.recurrent(cell, x, width, 6, **options)
        x, width = graph.node("Squeeze", y, graph.axes(1)), 6
    _, last, *_ = graph.recurrent(cell, x, width, 5, directions, direction=direction, **options)
    last = graph.node("Transpose", last, perm=[1, 0, 2])
    last = graph.node("Reshape", last, graph.axes(-1, 5 * directions))
    scores = graph.node("Softmax", graph.matmul(graph.node("Relu", graph.matmul(last, 5 * directions, 7)), 7, 3), axis=-1)
    return graph.model(scores, [batch, STEPS, WIDTH], [batch, 3])


def torch_recurrent(cell, batch, layers=1):
    graph = Graph(32)
    x, width = graph.node("Transpose", "input", perm=[1, 0, 2]), WIDTH
    size = graph.node("Gather", graph.node("Shape", "input"), graph.constant(np.array(0, np.int64)), axis=0)
    shape = graph.node("Concat", graph.axes(1), graph.node("Unsqueeze", size, graph.axes(0)), graph.axes(5), axis=0)
    zero = graph.node("Expand", graph.constant(np.zeros((1, 1, 1), np.float32)), shape)
    states = [zero, zero] if cell == "LSTM" else [zero]
    options = {"linear_before_reset": 1} if cell == "GRU" else {}
    for _ in range(layers):
        y, *_ = graph.recurrent(cell, x, width, 5, extra=["", *states], **options)
        x, width = graph.node("Squeeze", y, graph.axes(1)), 5
    y = graph.node("Transpose", x, perm=[1, 0, 2])
    last = graph.node("Gather", y, graph.constant(np.array(-1, np.int64)), axis=1)
    return graph.model(graph.gemm(last, 5, 2), [batch, STEPS, WIDTH], [batch, 2])


def keras_perceptron(batch, activation="Relu", vector=False):
    graph = Graph(33)
    x = graph.node(activation, graph.matmul("input", WIDTH, 16))
    x = graph.node(activation, graph.matmul(x, 16, 8))
    x = graph.node("Sigmoid", graph.matmul(x, 8, 1))
    if vector:
        x = graph.node("Squeeze", x, graph.axes(1))
    return graph.model(x, [batch, WIDTH], [batch] if vector else [batch, 1])


def torch_perceptron(batch, activation="Relu", normalised=False):
    graph = Graph(34)
    x = graph.gemm("input", WIDTH, 16)
    if normalised:
        parameters = [graph.constant(np.abs(graph.rng.normal(size=16)).astype(np.float32)) for _ in range(4)]
        x = graph.node("BatchNormalization", x, *parameters)
    x = graph.node(activation, x)
    x = graph.node("Softmax", graph.gemm(x, 16, 4), axis=1)
    return graph.model(x, [batch, WIDTH], [batch, 4])


def keras_convolution(batch):
    """`Conv1D`, `MaxPooling1D`, `Flatten`, `Dense`: convolutions with an axis of length 1 put in."""
    graph = Graph(35)
    x = graph.node("Unsqueeze", graph.node("Transpose", "input", perm=[0, 2, 1]), graph.axes(2))
    x = graph.node("Conv", x, graph.weights(6, WIDTH, 1, 3), graph.weights(6), kernel_shape=[1, 3], auto_pad="SAME_UPPER")
    x = graph.node("MaxPool", graph.node("Relu", x), kernel_shape=[1, 2], strides=[1, 2])
    x = graph.node("Transpose", graph.node("Squeeze", x, graph.axes(2)), perm=[0, 2, 1])
    x = graph.node("Reshape", x, graph.axes(-1, STEPS // 2 * 6))
    return graph.model(graph.matmul(x, STEPS // 2 * 6, 2), [batch, STEPS, WIDTH], [batch, 2])


def torch_convolution(batch):
    """`Conv1d` twice, `BatchNorm1d`, `AdaptiveAvgPool1d`, `Linear`; channels come first."""
    graph = Graph(36)
    x = graph.node("Conv", "input", graph.weights(6, WIDTH, 3), graph.weights(6), kernel_shape=[3], pads=[1, 1], strides=[1], dilations=[1], group=1)
    parameters = [graph.constant(np.abs(graph.rng.normal(size=6)).astype(np.float32)) for _ in range(4)]
    x = graph.node("Relu", graph.node("BatchNormalization", x, *parameters, epsilon=1e-5))
    x = graph.node("Conv", x, graph.weights(4, 3, 3), graph.weights(4), kernel_shape=[3], pads=[2, 2], strides=[2], dilations=[2], group=2)
    x = graph.node("GlobalAveragePool", graph.node("LeakyRelu", x, alpha=0.1))
    x = graph.node("Flatten", x, axis=1)
    return graph.model(graph.gemm(x, 4, 3), [batch, WIDTH, STEPS], [batch, 3])


class Network:
    of = "network"

    def __init__(self, make, shape):
        self.make, self.shape = make, shape

    def __call__(self):
        model = self.make()
        fixed = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1
        rows = np.random.default_rng(9).normal(size=(9, *self.shape)).astype(np.float32)
        rows[1], rows[2], rows[3] = 0.0, rows[2] * 30, rows[3] * 1e-4
        many = np.random.default_rng(10).normal(size=(1024, *self.shape)).astype(np.float32)
        # onnxruntime's recurrent and convolutional kernels end the process when there is no row.
        requests = [rows[:1], rows[2:3]] if fixed else [rows, rows[:1]]
        if not fixed and len(self.shape) == 1:
            requests += [rows[:0], many]
        return {"model": model, "requests": [{"input": some} for some in requests], "of": self.of}


def jobs():
    sequence, row, channels = (STEPS, WIDTH), (WIDTH,), (WIDTH, STEPS)
    found = []

    def add(name, shape, make, *arguments, **options):
        network = Network(lambda: make(*arguments, **options), shape)
        network.of = name.split("_", 2)[0].capitalize() + " " + " ".join(name.split("_")[1:2])
        found.append((f"networks_{name}", network))

    for cell in GATES:
        add(f"keras_{cell.lower()}", sequence, keras_recurrent, cell, "unk__10")
        add(f"keras_{cell.lower()}_stacked", sequence, keras_recurrent, cell, "unk__10", stacked=True)
        add(f"keras_{cell.lower()}_bidirectional", sequence, keras_recurrent, cell, "unk__10", bidirectional=True)
        add(f"torch_{cell.lower()}", sequence, torch_recurrent, cell, "batch")
        add(f"torch_{cell.lower()}_two_layers", sequence, torch_recurrent, cell, "batch", layers=2)
    for variant, batch in BATCHES.items():
        add(f"keras_lstm_{variant}", sequence, keras_recurrent, "LSTM", batch)
        add(f"torch_gru_{variant}", sequence, torch_recurrent, "GRU", batch)
        add(f"keras_mlp_{variant}", row, keras_perceptron, batch)
        add(f"torch_mlp_{variant}", row, torch_perceptron, batch)
        add(f"keras_convolution_{variant}", sequence, keras_convolution, batch)
        add(f"torch_convolution_{variant}", channels, torch_convolution, batch)
        add(f"keras_mlp_vector_{variant}", row, keras_perceptron, batch, vector=True)
    add("keras_convolution", sequence, keras_convolution, "unk__5")
    add("torch_convolution", channels, torch_convolution, "N")
    add("torch_mlp", row, torch_perceptron, "N")
    for activation in ("Relu", "Tanh", "Sigmoid", "Elu", "Selu", "Softplus", "Softsign", "LeakyRelu", "HardSigmoid"):
        add(f"keras_mlp_{activation.lower()}", row, keras_perceptron, "N", activation=activation)
        add(f"torch_mlp_{activation.lower()}", row, torch_perceptron, "N", activation=activation)
    add("torch_mlp_normalised", row, torch_perceptron, "N", normalised=True)
    return found
