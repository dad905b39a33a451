"""Recurrent layers, convolutions and products over their attributes."""

import numpy as np

from cases import DTYPES, FLOAT, INT32

ACTIVATIONS = [
    "Sigmoid", "Tanh", "Relu", "Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu", "Softsign", "Softplus",
]
ONE, TWO = {"LeakyRelu", "ThresholdedRelu", "Elu"}, {"Affine", "ScaledTanh", "HardSigmoid"}


def generate(cases, seed):
    for rep in range(60):
        random = np.random.default_rng([seed, 30, rep])
        recurrent(cases, random)
        convolutions(cases, random)
        products(cases, random)


def normal(random, *shape):
    return random.standard_normal(shape).astype(np.float32)


def pick(random, *choices):
    return choices[int(random.integers(len(choices)))]


def between(random, least, most):
    return int(random.integers(least, most + 1))


def activations(random, count):
    names = [pick(random, *ACTIVATIONS) for _ in range(count)]
    alpha = [round(random.uniform(0.1, 0.9), 2) for name in names if name in ONE | TWO]
    beta = [round(random.uniform(0.1, 0.9), 2) for name in names if name in TWO]
    return {"activations": names, "activation_alpha": alpha, "activation_beta": beta}


def recurrent(cases, random):
    for operator, gates, functions in (("LSTM", 4, 3), ("GRU", 3, 2), ("RNN", 1, 1)):
        direction = pick(random, "forward", "reverse", "bidirectional")
        directions = 2 if direction == "bidirectional" else 1
        steps, batch, width, hidden = between(random, 1, 5), pick(random, 1, 2, 5, 20), between(random, 1, 6), pick(random, 1, 3, 9, 16)
        attributes = {"hidden_size": hidden, "direction": direction}
        if random.random() < 0.4:
            attributes |= activations(random, functions * directions)
        if random.random() < 0.3:
            attributes["clip"] = random.uniform(0.2, 1.0)
        if operator == "GRU":
            attributes["linear_before_reset"] = between(random, 0, 1)
        if operator == "LSTM" and random.random() < 0.3:
            attributes["input_forget"] = 1
        feed = [
            normal(random, steps, batch, width), normal(random, directions, gates * hidden, width) * 0.5,
            normal(random, directions, gates * hidden, hidden) * 0.5,
            normal(random, directions, 2 * gates * hidden) if random.random() < 0.5 else None,
            random.integers(1, steps + 1, batch).astype(np.int32) if random.random() < 0.3 else None,
            normal(random, directions, batch, hidden) if random.random() < 0.5 else None,
        ]
        if operator == "LSTM":
            feed.append(normal(random, directions, batch, hidden) if random.random() < 0.5 else None)
            feed.append(normal(random, directions, 3 * hidden) if random.random() < 0.5 else None)
        constants = [place for place in (1, 2, 3, 7) if place < len(feed) and feed[place] is not None]
        cases.add(
            operator, attributes, [feed], [FLOAT] * (3 if operator == "LSTM" else 2), domain="ai.onnx", opset=pick(random, 7, 14, 22),
            constants=constants, free=False, tag=f"_{direction}",
        )


def convolutions(cases, random):
    group, inside, outside = pick(random, 1, 1, 2, 3), between(random, 1, 3), pick(random, 1, 2, 5, 33)
    length, kernel, batch = between(random, 3, 9), between(random, 1, 3), between(random, 1, 3)
    padding = pick(random, {"pads": [between(random, 0, 2), between(random, 0, 2)]}, {"auto_pad": pick(random, "SAME_UPPER", "SAME_LOWER", "VALID")}, {})
    attributes = {"group": group, "strides": [between(random, 1, 3)], "dilations": [between(random, 1, 2)], **padding}
    bias = normal(random, group * outside) if random.random() < 0.5 else None
    feed = [normal(random, batch, group * inside, length), normal(random, group * outside, inside, kernel), bias]
    constants = [1] if bias is None else [1, 2]
    cases.add("Conv", attributes, [feed], [FLOAT], domain="ai.onnx", opset=pick(random, 7, 11, 22), constants=constants)
    pooling = {"kernel_shape": [kernel], "strides": attributes["strides"], **({} if "pads" in padding else padding)}
    x = normal(random, batch, inside, length)
    cases.add("MaxPool", pooling | {"ceil_mode": 0 if "auto_pad" in padding else between(random, 0, 1)}, [[x]], [FLOAT], domain="ai.onnx", opset=12)
    cases.add("AveragePool", pooling | {"count_include_pad": between(random, 0, 1)}, [[x]], [FLOAT], domain="ai.onnx", opset=pick(random, 11, 19))
    cases.add("GlobalAveragePool", {}, [[x]], [FLOAT], domain="ai.onnx", opset=7)


def products(cases, random):
    rows, inner, width = pick(random, 1, 2, 3, 8), pick(random, 1, 4, 17), pick(random, 1, 3, 33)
    left, right = between(random, 0, 1), between(random, 0, 1)
    a = normal(random, *((inner, rows) if left else (rows, inner)))
    b = normal(random, *((width, inner) if right else (inner, width)))
    c = pick(random, None, normal(random, width), normal(random, 1), normal(random, 1, width))
    attributes = {"transA": left, "transB": right, "alpha": pick(random, 1.0, 0.5), "beta": pick(random, 1.0, 2.0, 0.0)}
    cases.add("Gemm", attributes, [[a, b, c]], [FLOAT], domain="ai.onnx", opset=13, free=not left, constants=[1] if c is None else [1, 2])
    shapes = pick(
        random, ((rows, inner), (inner, width)), ((rows, inner), (inner,)), ((2, 1, rows, inner), (3, inner, width)), ((5, rows, inner), (inner, width)),
    )
    x, y = (normal(random, *shape) for shape in shapes)
    cases.add("MatMul", {}, [[x, y]], [FLOAT], domain="ai.onnx", opset=13, constants=[1])
    x, y = (random.integers(0, 2**31 - 1, shape).astype(DTYPES[INT32]) for shape in shapes)
    cases.add("MatMul", {}, [[x, y]], [INT32], domain="ai.onnx", opset=13, free=False)
    unsigned = random.integers(0, 256, (rows, inner)).astype(np.uint8)
    signed = random.integers(-128, 128, (inner, width)).astype(np.int8)
    zero = np.array(7, np.uint8) if random.random() < 0.5 else None
    cases.add("MatMulInteger", {}, [[unsigned, signed, zero]], [INT32], domain="ai.onnx", opset=10, constants=[1] if zero is None else [1, 2])
