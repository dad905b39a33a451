"""Makes the models that the benchmark needs beside the example's: ensembles of 100 and 1 000 trees, and a GRU.

    python models.py <rows.csv of the example> <output folder>

The forests are fitted to the example's rows, moved a little many times over, so that trees grow as deep as they may; what
they predict means nothing. The GRU has the shape of the example's LSTM (20 × 17 → 128 → 64 → 3) and seeded weights: what
an inference costs depends on neither.
"""

import csv
import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.ensemble import RandomForestRegressor

FORESTS = [(100, 6), (100, 12), (1000, 6), (1000, 12)]
SAMPLES = 6000
STEPS, FEATURES, FIRST, SECOND, CLASSES = 20, 17, 128, 64, 3


def main():
    rows, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    features, target = samples(read_rows(rows))
    for trees, depth in FORESTS:
        forest = RandomForestRegressor(
            n_estimators=trees, max_depth=depth, min_samples_leaf=5, max_features=0.4, random_state=1, n_jobs=-1
        )
        forest.fit(features, target)
        model = to_onnx(forest, features[:1], target_opset={"": 18, "ai.onnx.ml": 3})
        model.graph.input[0].name, old = "input", model.graph.input[0].name
        for node in model.graph.node:
            node.input[:] = ["input" if name == old else name for name in node.input]
        save(out, f"trees_{trees}_depth_{depth}", model, f"Random forest, {trees} trees, at most {depth} levels deep")
    save(out, "gru", gru(), f"Two-layer GRU ({FIRST}, {SECOND}) over {STEPS} rows of {FEATURES} features, seeded weights")


def read_rows(path):
    with path.open() as file:
        reader = csv.DictReader(file)
        names = [name for name in reader.fieldnames if name.startswith("return_lag_")]
        return np.array([[float(row[name]) for name in names] for row in reader], dtype=np.float32)


def samples(rows):
    """Rows with noise, and a target that depends on several features at once."""
    random = np.random.default_rng(1)
    features = rows[random.integers(len(rows), size=SAMPLES)]
    features = (features * (1 + 0.1 * random.standard_normal(features.shape))).astype(np.float32)
    target = np.sin(features[:, 0] / 5) * features[:, 1] + features[:, 2] * (features[:, 3] > 0) + features[:, 4]
    return features, target + random.standard_normal(SAMPLES)


def gru():
    random = np.random.default_rng(2)

    def constant(name, *shape):
        values = random.uniform(-1, 1, shape) / np.sqrt(shape[-1])
        return numpy_helper.from_array(values.astype(np.float32), name)

    constants = [
        constant("w1", 1, 3 * FIRST, FEATURES), constant("r1", 1, 3 * FIRST, FIRST), constant("b1", 1, 6 * FIRST),
        constant("w2", 1, 3 * SECOND, FIRST), constant("r2", 1, 3 * SECOND, SECOND), constant("b2", 1, 6 * SECOND),
        constant("dense_w", SECOND, CLASSES), constant("dense_b", CLASSES),
        numpy_helper.from_array(np.array([1], dtype=np.int64), "directions"),
        numpy_helper.from_array(np.array([0], dtype=np.int64), "direction"),
    ]
    nodes = [
        helper.make_node("Transpose", ["input"], ["steps"], perm=[1, 0, 2]),
        helper.make_node("GRU", ["steps", "w1", "r1", "b1"], ["y1"], hidden_size=FIRST, linear_before_reset=1),
        helper.make_node("Squeeze", ["y1", "directions"], ["h1"]),
        helper.make_node("GRU", ["h1", "w2", "r2", "b2"], ["", "y2"], hidden_size=SECOND, linear_before_reset=1),
        helper.make_node("Squeeze", ["y2", "direction"], ["last"]),
        helper.make_node("Gemm", ["last", "dense_w", "dense_b"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "gru",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["rows", STEPS, FEATURES])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", CLASSES])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    checker.check_model(model, full_check=True)
    return model


def save(out, name, model, description):
    (out / f"{name}.onnx").write_bytes(model.SerializeToString())
    lines = ["model: " + name, "version: 1.0.0", f'description: "{description}"', "features:"]
    lines += [f"  - {{ name: return_lag_{index:02d} }}" for index in range(FEATURES)]
    (out / f"{name}.manifest.yaml").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
