"""Writes the conformance models: small ONNX files as exporters write them, and onnxruntime's answers.

    python -m venv .venv && .venv/bin/pip install -r requirements.txt && .venv/bin/python generate.py

README.md says what the files hold. Everything is seeded.
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, Normalizer, RobustScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "python"))

from skl2onnx_patches import accept_numpy_bools  # noqa: E402

OPSET = {"": 18, "ai.onnx.ml": 3}
COLUMNS = 5
DATATYPES = {
    np.dtype(np.float32): "FP32",
    np.dtype(np.float64): "FP64",
    np.dtype(np.int64): "INT64",
    np.dtype(np.int32): "INT32",
    np.dtype(np.bool_): "BOOL",
}


def main():
    warnings.filterwarnings("ignore", category=UserWarning)
    accept_numpy_bools()
    for folder in (HERE, HERE / "refused"):
        folder.mkdir(exist_ok=True)
        for stale in [*folder.glob("*.onnx"), *folder.glob("*.json")]:
            stale.unlink()
    for case in [*linear_models(), *tree_models(), *perceptrons()]:
        sklearn_case(**case)
    recurrent_cases()
    refused_cases()
    files = [file for file in HERE.rglob("*") if file.suffix in (".onnx", ".json")]
    print(f"{len(files)} files, {sum(file.stat().st_size for file in files):,} bytes", file=sys.stderr)


# ---------------------------------------------------------------------------------------------------------------
# scikit-learn through skl2onnx
# ---------------------------------------------------------------------------------------------------------------


def features(seed, rows=240):
    """Features of unequal scale and offset, so that a scaler has something to do."""
    rng = np.random.default_rng(seed)
    scale = np.array([1.0, 0.01, 100.0, 3.0, 1.0])
    offset = np.array([0.0, 0.05, -200.0, 7.0, 1.0])
    return (rng.normal(size=(rows, COLUMNS)) * scale + offset).astype(np.float32)


def classes(x, count, names=None):
    """`count` classes cut out of a noisy linear score, each equally frequent."""
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    score = z @ np.array([1.0, -0.8, 0.6, 0.0, 0.4]) + 0.7 * np.sin(3 * z[:, 3])
    edges = np.quantile(score, np.linspace(0, 1, count + 1)[1:-1])
    labels = np.digitize(score, edges)
    return labels if names is None else np.array(names)[labels]


def target(x, outputs=1):
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    y = np.stack([z[:, 0] * 2 - z[:, 1], np.sin(z[:, 2]) + 5, z[:, 3] * z[:, 4]], axis=1)[:, :outputs]
    return y[:, 0] if outputs == 1 else y


NAMES = ["short", "flat", "long", "größer", ""]


def linear_models():
    def scaled(**options):
        return make_pipeline(StandardScaler(), LogisticRegression(max_iter=500, **options))

    x = features(1)
    two, three, five = classes(x, 2), classes(x, 3), classes(x, 5)
    plain = {"zipmap": False}
    yield dict(name="lr_binary", estimator=scaled(), x=x, y=two)
    yield dict(name="lr_binary_tensor", estimator=scaled(), x=x, y=two, options=plain)
    yield dict(name="lr_binary_strings", estimator=scaled(), x=x, y=classes(x, 2, ["sell", "buy"]))
    # onnxruntime refuses ZipMap behind double scores; only trees, whose scores are single, are exported with it.
    yield dict(name="lr_binary_double_tensor", estimator=scaled(), x=x, y=two, double=True, options=plain)
    yield dict(name="lr_binary_uneven_labels", estimator=scaled(), x=x, y=np.array([-3, 12])[two], options=plain)
    yield dict(name="lr_no_scaler", estimator=LogisticRegression(max_iter=5000), x=x, y=two)
    yield dict(name="lr_three", estimator=scaled(), x=x, y=three)
    yield dict(name="lr_three_double_tensor", estimator=scaled(), x=x, y=three, double=True, options=plain)
    yield dict(name="lr_five_strings", estimator=scaled(), x=x, y=classes(x, 5, NAMES))
    yield dict(name="lr_five_tensor", estimator=scaled(C=100.0), x=x, y=five, options=plain)
    rest = make_pipeline(StandardScaler(), OneVsRestClassifier(LogisticRegression()))
    yield dict(name="lr_columns", estimator=scaled(), x=x, y=three, columns=True)
    yield dict(name="lr_one_vs_rest", estimator=rest, x=x, y=three)
    for name, scaler in [("minmax", MinMaxScaler()), ("maxabs", MaxAbsScaler()), ("robust", RobustScaler())]:
        yield dict(name=f"lr_{name}_scaler", estimator=make_pipeline(scaler, LogisticRegression()), x=x, y=two)
    for norm in ("l1", "l2", "max"):
        pipeline = make_pipeline(StandardScaler(), Normalizer(norm), LogisticRegression())
        yield dict(name=f"lr_normalizer_{norm}", estimator=pipeline, x=x, y=three)
    yield dict(name="linear_regression", estimator=LinearRegression(), x=x, y=target(x))
    yield dict(name="linear_regression_double", estimator=LinearRegression(), x=x, y=target(x), double=True)
    yield dict(name="ridge_three_outputs", estimator=make_pipeline(StandardScaler(), Ridge()), x=x, y=target(x, 3))


def tree_models():
    x = features(2)
    two, three, five = classes(x, 2), classes(x, 3), classes(x, 5)
    strings = classes(x, 5, NAMES)
    plain = {"zipmap": False}

    def forest(kind=RandomForestClassifier, trees=12, depth=5, **options):
        return kind(n_estimators=trees, max_depth=depth, random_state=7, **options)

    def case(name, estimator, y, **more):
        return dict(name=name, estimator=estimator, x=more.pop("x", x), y=y, trees=True, **more)

    tree = DecisionTreeClassifier(max_depth=4, random_state=7)
    yield case("tree_binary", tree, two)
    yield case("tree_five_tensor", DecisionTreeClassifier(max_depth=6, random_state=7), five, options=plain)
    yield case("tree_regressor", DecisionTreeRegressor(max_depth=6, random_state=7), target(x))
    yield case("tree_single_leaf", DecisionTreeRegressor(max_depth=1, min_samples_leaf=200), target(x))
    yield case("forest_binary", forest(), two)
    yield case("forest_binary_tensor", forest(), two, options=plain)
    yield case("forest_binary_strings", forest(), classes(x, 2, ["sell", "buy"]))
    yield case("forest_three", forest(), three)
    yield case("forest_five_strings", forest(depth=4), strings)
    # Four trees of pure leaves: every probability is a multiple of a quarter, so ties are everywhere.
    yield case("forest_ties_binary", forest(trees=4, depth=None), two, options=plain)
    yield case("forest_ties_three", forest(trees=4, depth=None), three)
    yield case("forest_double", forest(), three, double=True)
    yield case("forest_double_binary_tensor", forest(), two, double=True, options=plain)
    yield case("forest_scaled", make_pipeline(StandardScaler(), forest()), two)
    yield case("forest_no_bootstrap", forest(trees=8, bootstrap=False, max_features=2), five, options=plain)
    yield case("extra_trees_three_strings", forest(ExtraTreesClassifier), classes(x, 3, NAMES[:3]))
    yield case("forest_regressor", forest(RandomForestRegressor), target(x))
    yield case("forest_regressor_three_outputs", forest(RandomForestRegressor, trees=6), target(x, 3))
    yield case("extra_trees_regressor", forest(ExtraTreesRegressor), target(x))
    boosted = dict(n_estimators=15, max_depth=3, random_state=7)
    yield case("boosting_binary", GradientBoostingClassifier(**boosted), two)
    yield case("boosting_binary_tensor", GradientBoostingClassifier(**boosted), two, options=plain)
    yield case("boosting_binary_strings", GradientBoostingClassifier(**boosted), classes(x, 2, ["sell", "buy"]))
    yield case("boosting_binary_init_zero", GradientBoostingClassifier(init="zero", **boosted), two)
    uneven = (two & (three == 2)).astype(np.int64)
    yield case("boosting_binary_rare_class", GradientBoostingClassifier(**boosted), uneven, options=plain)
    boosted["n_estimators"] = 6
    yield case("boosting_three", GradientBoostingClassifier(**boosted), three)
    yield case("boosting_five_strings", GradientBoostingClassifier(**{**boosted, "max_depth": 2}), strings)
    boosted["n_estimators"] = 15
    yield case("boosting_regressor", GradientBoostingRegressor(**boosted), target(x))
    yield case("boosting_scaled", make_pipeline(StandardScaler(), GradientBoostingClassifier(**boosted)), two)
    missing = x.copy()
    missing[np.random.default_rng(3).random(x.shape) < 0.15] = np.nan
    histogram = dict(max_iter=8, max_leaf_nodes=8, random_state=7)
    yield case("histogram_binary", HistGradientBoostingClassifier(**histogram), two, x=missing, missing=True)
    yield case("histogram_three", HistGradientBoostingClassifier(**histogram), three, x=missing, missing=True)
    yield case("histogram_regressor", HistGradientBoostingRegressor(**histogram), target(x), x=missing, missing=True)


def perceptrons():
    x = features(4)
    two, three = classes(x, 2), classes(x, 3)
    plain = {"zipmap": False}

    def scaled(kind=MLPClassifier, hidden=(12, 6), **options):
        return make_pipeline(StandardScaler(), kind(hidden_layer_sizes=hidden, max_iter=60, random_state=7, **options))

    yield dict(name="mlp_relu_binary", estimator=scaled(), x=x, y=two)
    yield dict(name="mlp_relu_binary_tensor", estimator=scaled(), x=x, y=two, options=plain)
    yield dict(name="mlp_tanh_three", estimator=scaled(activation="tanh"), x=x, y=three)
    yield dict(name="mlp_logistic_five_strings", estimator=scaled(activation="logistic"), x=x, y=classes(x, 5, NAMES))
    yield dict(name="mlp_identity_three", estimator=scaled(activation="identity"), x=x, y=three, options=plain)
    yield dict(name="mlp_binary_strings", estimator=scaled(hidden=(9,)), x=x, y=classes(x, 2, ["sell", "buy"]))
    yield dict(name="mlp_double_three_tensor", estimator=scaled(), x=x, y=three, double=True, options=plain)
    unscaled = MLPClassifier((8,), max_iter=20, random_state=7)
    yield dict(name="mlp_no_scaler", estimator=unscaled, x=x, y=two, calm=True)
    yield dict(name="mlp_regressor", estimator=scaled(MLPRegressor), x=x, y=target(x))
    # With several targets skl2onnx folds them into the rows (a Reshape to [-1, 1]), so there is no such vector.
    yield dict(name="mlp_regressor_tanh", estimator=scaled(MLPRegressor, (10, 5), activation="tanh"), x=x, y=target(x))


def sklearn_case(name, estimator, x, y, options=None, double=False, trees=False, missing=False, calm=False, columns=False):
    """`columns`: one input per feature, as models trained on a data frame are exported."""
    estimator.fit(x, y)
    # Options name the estimator that classifies, which may be the last step of a pipeline.
    options = {id(estimator): options} if options else None
    kind = DoubleTensorType if double else FloatTensorType
    inputs = [("input", kind([None, COLUMNS]))]
    if columns:
        inputs = [(f"feature_{column}", kind([None, 1])) for column in range(COLUMNS)]
    model = to_onnx(estimator, initial_types=inputs, target_opset=OPSET, options=options)
    rows = x[:10].astype(np.float64 if double else np.float32)
    rows = np.concatenate([rows, special_rows(model, x, rows.dtype, trees, missing, calm)])
    known = getattr(estimator, "classes_", None)
    inputs = {f"feature_{column}": rows[:, [column]] for column in range(COLUMNS)} if columns else {"input": rows}
    write_case(name, model, inputs, None if known is None else known.tolist())


def special_rows(model, x, dtype, trees, missing, calm):
    """Rows at the edges: zeros of both signs, tiny and large values, and for trees thresholds and infinities."""
    middle = np.nanmean(x, axis=0).astype(dtype)
    rows = [np.zeros(COLUMNS), -np.zeros(COLUMNS), np.full(COLUMNS, 1e-40), middle]
    for column in range(COLUMNS):
        row = middle.copy()
        row[column] += np.nanstd(x[:, column]) * (4 if calm else 40) * (-1) ** column
        rows.append(row)
    if trees:
        node = next(node for node in model.graph.node if node.op_type.startswith("TreeEnsemble"))
        values = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        splits = [
            (feature, value)
            for feature, value, mode in zip(values["nodes_featureids"], values["nodes_values"], values["nodes_modes"])
            if mode != b"LEAF"
        ]
        rng = np.random.default_rng(5)
        # Exactly on a threshold, and the next representable number to each side of it.
        for index in rng.permutation(len(splits))[:4]:
            feature, value = splits[index]
            exact = dtype.type(value)
            for moved in (exact, np.nextafter(exact, dtype.type(np.inf)), np.nextafter(exact, dtype.type(-np.inf))):
                row = np.nanmean(x, axis=0).astype(dtype)
                row[feature] = moved
                rows.append(row)
        rows += [np.full(COLUMNS, np.inf), np.full(COLUMNS, -np.inf), np.full(COLUMNS, 1e38), np.full(COLUMNS, -1e38)]
        row = middle.copy()
        row[0], row[2] = np.inf, -np.inf
        rows.append(row)
    if missing:
        rows.append(np.full(COLUMNS, np.nan))
        for column in range(COLUMNS):
            row = middle.copy()
            row[column] = np.nan
            rows.append(row)
    return np.array(rows, dtype=dtype)


# ---------------------------------------------------------------------------------------------------------------
# Recurrent graphs, written node by node
# ---------------------------------------------------------------------------------------------------------------

STEPS, WIDTH = 6, 4
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


class Graph:
    """Collects nodes and random weights."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.initializers = [], []

    def constant(self, value, name=None):
        name = name or f"constant_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.array(value, order="C"), name))
        return name

    def weights(self, *shape, scale=0.6):
        return self.constant((self.rng.normal(size=shape) * scale).astype(np.float32))

    def node(self, operator, inputs, outputs=1, **attributes):
        names = [f"{operator.lower()}_{len(self.nodes)}_{k}" for k in range(outputs)]
        self.nodes.append(helper.make_node(operator, inputs, names, name=f"{operator.lower()}_{len(self.nodes)}", **attributes))
        return names[0] if outputs == 1 else names

    def recurrent(self, cell, x, width, hidden, directions=1, extra=(), **attributes):
        gates = GATES[cell] * hidden
        inputs = [
            x,
            self.weights(directions, gates, width),
            self.weights(directions, gates, hidden),
            self.weights(directions, 2 * gates, scale=0.2),
            *extra,
        ]
        return self.node(cell, inputs, 3 if cell == "LSTM" else 2, hidden_size=hidden, **attributes)

    def dense(self, x, width, count):
        return self.node("Gemm", [x, self.weights(width, count), self.weights(count, scale=0.2)])

    def model(self, outputs, shape=("N", STEPS, WIDTH), opset=18):
        infos = []
        for old, new, element, dims in outputs:
            self.nodes.append(helper.make_node("Identity", [old], [new], name=f"{new}_out"))
            infos.append(helper.make_tensor_value_info(new, element, dims))
        graph = helper.make_graph(
            self.nodes,
            "graph",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, list(shape))],
            infos,
            self.initializers,
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8, producer_name="lockgate-tests"
        )
        onnx.checker.check_model(model)
        return model


def recurrent_cases():
    def save(name, model):
        rng = np.random.default_rng(11)
        rows = rng.normal(size=(5, STEPS, WIDTH)).astype(np.float32)
        rows[1], rows[2], rows[3] = 0.0, rows[2] * 30, rows[3] * 1e-4
        write_case(name, model, {"input": rows}, None)

    def time_major(graph):
        return graph.node("Transpose", ["input"], perm=[1, 0, 2])

    def axes(graph, *values):
        return graph.constant(np.array(values, np.int64))

    # The shape of the example's sequence model, small: two layers, the last state, a label and probabilities.
    graph = Graph(21)
    y, _, _ = graph.recurrent("LSTM", time_major(graph), WIDTH, 5)
    y = graph.node("Squeeze", [y, axes(graph, 1)])
    _, last, _ = graph.recurrent("LSTM", y, 5, 3)
    last = graph.node("Squeeze", [last, axes(graph, 0)])
    scores = graph.node("Softmax", [graph.dense(last, 3, 3)], axis=-1)
    label = graph.node("ArgMax", [scores], axis=1, keepdims=0)
    outputs = [(label, "label", TensorProto.INT64, ["N"]), (scores, "probabilities", TensorProto.FLOAT, ["N", 3])]
    save("lstm_two_layers", graph.model(outputs))

    # As PyTorch writes it: batch_first, zero states made from the input's shape, last step gathered from Y.
    graph = Graph(22)
    batch = graph.node("Gather", [graph.node("Shape", ["input"]), graph.constant(np.array(0, np.int64))], axis=0)
    batch = graph.node("Unsqueeze", [batch, axes(graph, 0)])
    shape = graph.node("Concat", [axes(graph, 1), batch, axes(graph, 5)], axis=0)
    zero = graph.node("Expand", [graph.constant(np.zeros((1, 1, 1), np.float32)), shape])
    y, _, _ = graph.recurrent("LSTM", time_major(graph), WIDTH, 5, extra=["", zero, zero])
    y = graph.node("Transpose", [graph.node("Squeeze", [y, axes(graph, 1)])], perm=[1, 0, 2])
    last = graph.node("Gather", [y, graph.constant(np.array(-1, np.int64))], axis=1)
    save("lstm_torch_states", graph.model([(graph.dense(last, 5, 2), "output", TensorProto.FLOAT, ["N", 2])]))

    graph = Graph(23)
    batch = graph.node("Slice", [graph.node("Shape", ["input"]), axes(graph, 0), axes(graph, 1), axes(graph, 0)])
    shape = graph.node("Concat", [axes(graph, 1), batch, axes(graph, 4)], axis=0)
    zero = graph.node("ConstantOfShape", [shape], value=numpy_helper.from_array(np.zeros(1, np.float32)))
    y, _ = graph.recurrent("GRU", time_major(graph), WIDTH, 4, extra=["", zero], linear_before_reset=1)
    y = graph.node("Squeeze", [y, axes(graph, 1)])
    y = graph.node("Slice", [y, axes(graph, -1), axes(graph, 2**31), axes(graph, 0)])
    last = graph.node("Squeeze", [y, axes(graph, 0)])
    save("gru_torch_states", graph.model([(graph.dense(last, 4, 2), "output", TensorProto.FLOAT, ["N", 2])]))

    # Every step is answered.
    graph = Graph(24)
    y, _, _ = graph.recurrent("LSTM", time_major(graph), WIDTH, 3)
    y = graph.node("Transpose", [graph.node("Squeeze", [y, axes(graph, 1)])], perm=[1, 0, 2])
    y = graph.node("Add", [graph.node("MatMul", [y, graph.weights(3, 2)]), graph.weights(2)])
    save("lstm_every_step", graph.model([(graph.node("Tanh", [y]), "output", TensorProto.FLOAT, ["N", STEPS, 2])]))

    # A learnt initial state, the same for every row, and both final states as outputs.
    graph = Graph(25)
    batch = graph.node("Slice", [graph.node("Shape", ["input"]), axes(graph, 0), axes(graph, 1), axes(graph, 0)])
    shape = graph.node("Concat", [axes(graph, 1), batch, axes(graph, 3)], axis=0)
    h, c = (graph.node("Expand", [graph.weights(1, 1, 3), shape]) for _ in range(2))
    _, h, c = graph.recurrent("LSTM", time_major(graph), WIDTH, 3, extra=["", h, c])
    h, c = (graph.node("Squeeze", [state, axes(graph, 0)]) for state in (h, c))
    outputs = [(h, "hidden", TensorProto.FLOAT, ["N", 3]), (c, "cell", TensorProto.FLOAT, ["N", 3])]
    save("lstm_initial_states", graph.model(outputs))

    for cell, direction, options in [
        ("LSTM", "reverse", {}),
        ("LSTM", "bidirectional", {}),
        ("GRU", "forward", {}),
        ("GRU", "bidirectional", {"linear_before_reset": 1}),
        ("RNN", "forward", {}),
    ]:
        graph = Graph(26)
        count = 2 if direction == "bidirectional" else 1
        outputs = graph.recurrent(
            cell, time_major(graph), WIDTH, 4, count, direction=direction.encode(), **options
        )
        # [steps, directions, N, 4] → [N, steps, directions·4], and the mean over the steps.
        y = graph.node("Transpose", [outputs[0]], perm=[2, 0, 1, 3])
        y = graph.node("Reshape", [y, axes(graph, 0, STEPS, count * 4)])
        mean = graph.node("ReduceMean", [y, axes(graph, 1)], keepdims=0)
        name = f"{cell.lower()}_{direction}"
        save(name, graph.model([(graph.dense(mean, count * 4, 3), "output", TensorProto.FLOAT, ["N", 3])]))

    # A sequence whose features are scaled in the graph, an older operator set with its attributes.
    graph = Graph(27)
    x = graph.node("Div", [graph.node("Sub", ["input", graph.weights(WIDTH)]), graph.constant(np.float32([2, 0.5, 1, 4]))])
    _, h, _ = graph.recurrent("LSTM", graph.node("Transpose", [x], perm=[1, 0, 2]), WIDTH, 4)
    h = graph.node("Relu", [graph.dense(graph.node("Squeeze", [h], axes=[0]), 4, 6)])
    scores = graph.node("Softmax", [graph.dense(h, 6, 3)], axis=1)
    save("lstm_opset_11", graph.model([(scores, "output", TensorProto.FLOAT, ["N", 3])], opset=11))


# ---------------------------------------------------------------------------------------------------------------
# What must be refused
# ---------------------------------------------------------------------------------------------------------------


def refused_cases():
    expected = {}

    def save(name, nodes, initializers=(), inputs=None, outputs=None, opsets=(("", 18),), **names):
        inputs = inputs or [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 4])]
        outputs = outputs or [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", 4])]
        graph = helper.make_graph(nodes, "graph", inputs, outputs, list(initializers))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid(*o) for o in opsets], ir_version=8)
        (HERE / "refused" / f"{name}.onnx").write_bytes(model.SerializeToString())
        expected[f"{name}.onnx"] = names

    pieces = [helper.make_node("SequenceConstruct", ["input"], ["all"], name="gather"), helper.make_node("SequenceLength", ["all"], ["output"], name="count")]
    length = [helper.make_tensor_value_info("output", TensorProto.INT64, [])]
    save("sequence", pieces, outputs=length, node="gather", operator="SequenceConstruct")

    noise = helper.make_node("RandomNormalLike", ["input"], ["output"], name="noise")
    save("random", [noise], node="noise", operator="RandomNormalLike")

    custom = helper.make_node("Sharpen", ["input"], ["output"], name="sharpen", domain="com.example")
    save("custom_domain", [custom], opsets=[("", 18), ("com.example", 1)], node="sharpen", operator="Sharpen")

    future = helper.make_node("Relu", ["input"], ["output"], name="relu")
    save("future_opset", [future], opsets=[("", 99)])

    unknown = helper.make_node("Relu", ["input"], ["output"], name="relu", ceiling=6.0)
    save("unknown_attribute", [unknown], node="relu", operator="Relu", attribute="ceiling")

    def lstm(name, **attributes):
        rng = np.random.default_rng(31)
        shapes = {"W": (1, 12, 4), "R": (1, 12, 3), "B": (1, 24)}
        weights = [numpy_helper.from_array(rng.normal(size=s).astype(np.float32), n) for n, s in shapes.items()]
        node = helper.make_node("LSTM", ["input", "W", "R", "B"], ["", "output"], name="lstm", hidden_size=3, **attributes)
        save(
            name,
            [node],
            weights,
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, [5, "N", 4])],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, "N", 3])],
            node="lstm",
            operator="LSTM",
            attribute=next(iter(attributes)),
        )

    lstm("lstm_activation", activations=["Sigmoid", "Sinus", "Tanh"])
    lstm("lstm_direction", direction="sideways")

    tree = dict(
        nodes_treeids=[0, 0, 0],
        nodes_nodeids=[0, 1, 2],
        nodes_featureids=[0, 0, 0],
        nodes_values=[0.5, 0.0, 0.0],
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"],
        nodes_truenodeids=[1, 0, 0],
        nodes_falsenodeids=[2, 0, 0],
        target_treeids=[0, 0],
        target_nodeids=[1, 2],
        target_ids=[0, 0],
        target_weights=[1.0, 2.0],
        n_targets=1,
        aggregate_function="SUM",
        post_transform="NONE",
    )

    def regressor(name, attribute=None, **changes):
        node = helper.make_node(
            "TreeEnsembleRegressor", ["input"], ["output"], name="trees", domain="ai.onnx.ml", **{**tree, **changes}
        )
        outputs = [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", 1])]
        names = dict(node="trees", operator="TreeEnsembleRegressor")
        if attribute:
            names["attribute"] = attribute
        save(name, [node], outputs=outputs, opsets=[("", 18), ("ai.onnx.ml", 3)], **names)

    regressor("tree_mode", "nodes_modes", nodes_modes=["BRANCH_MEMBER", "LEAF", "LEAF"])
    regressor("tree_cycle", nodes_truenodeids=[0, 0, 0])
    regressor("tree_child_missing", nodes_falsenodeids=[9, 0, 0])
    regressor("tree_short_array", "nodes_values", nodes_values=[0.5, 0.0])
    regressor("tree_aggregate", "aggregate_function", aggregate_function="MEDIAN")
    (HERE / "refused" / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


# ---------------------------------------------------------------------------------------------------------------
# Files
# ---------------------------------------------------------------------------------------------------------------


def write_case(name, model, inputs, known_classes):
    path = HERE / f"{name}.onnx"
    path.write_bytes(model.SerializeToString())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    outputs = []
    for info, value in zip(session.get_outputs(), session.run(None, inputs)):
        if isinstance(value, list) and value and isinstance(value[0], dict):
            # What ZipMap makes of a row is a dictionary; here it is a row of scores in the order of the classes.
            value = np.array([[row[key] for key in known_classes] for row in value], dtype=np.float32)
        outputs.append(tensor(info.name, np.asarray(value)))
    case = {"model": path.name}
    if known_classes is not None:
        case["classes"] = json.dumps(known_classes, ensure_ascii=False)
    case["inputs"] = [tensor(key, value) for key, value in inputs.items()]
    case["outputs"] = outputs
    (HERE / f"{name}.json").write_text(render(case))


def tensor(name, value):
    if value.dtype.kind in "OU":
        return dict(name=name, datatype="BYTES", shape=value.shape, data=[json.dumps(str(v), ensure_ascii=False) for v in value.flat])
    return dict(name=name, datatype=DATATYPES[value.dtype], shape=value.shape, data=[number(v) for v in value.flat])


def number(value):
    """The shortest JSON that reads back as the same number; what JSON cannot say is a string."""
    if isinstance(value, (np.integer, np.bool_)):
        return str(int(value)) if isinstance(value, np.integer) else str(bool(value)).lower()
    if np.isnan(value):
        return '"NaN"'
    if np.isinf(value):
        return '"Infinity"' if value > 0 else '"-Infinity"'
    text = np.format_float_scientific(value, unique=True, trim="-")
    mantissa, exponent = text.split("e")
    if -5 < int(exponent) < 16:
        return np.format_float_positional(value, unique=True, trim="-")
    return f"{mantissa}e{int(exponent)}"


def render(case):
    def tensors(items):
        lines = (
            f'  {{"name": {json.dumps(t["name"])}, "datatype": "{t["datatype"]}", '
            f'"shape": {list(t["shape"])}, "data": [{",".join(t["data"])}]}}'
            for t in items
        )
        return "[\n" + ",\n".join(lines) + "\n ]"

    parts = [f' "model": {json.dumps(case["model"])}']
    if "classes" in case:
        parts.append(f' "classes": {case["classes"]}')
    parts += [f' "{key}": {tensors(case[key])}' for key in ("inputs", "outputs")]
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    main()
