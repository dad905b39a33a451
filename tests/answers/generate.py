"""Writes the cases of what stands beside a model: scalers, calibrations, thresholds, labels, confidence.

    python -m venv .venv && .venv/bin/pip install -r requirements.txt && .venv/bin/python generate.py

A case is an ONNX file, a manifest, inputs, and what scikit-learn's own objects make of onnxruntime's answers. Everything is seeded.
"""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.calibration import _SigmoidCalibration
from sklearn.datasets import make_classification
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler

HERE = Path(__file__).resolve().parent
DATATYPES = {"float32": "FP32", "float64": "FP64", "int64": "INT64"}
NAMES = ["down", "flat", "up"]


def main():
    for stale in [*HERE.glob("*.onnx"), *HERE.glob("*.json")]:
        stale.unlink()
    scalers()
    labels()
    calibrations()
    thresholds()
    print(f"{len(list(HERE.glob('*.json')))} cases, {sum(file.stat().st_size for file in HERE.iterdir()) // 1024} KiB")


# Scalers


def scalers():
    random = np.random.default_rng(1)
    # Prices: large beside what they vary by, which single precision would lose.
    centers, widths = np.array([1.0834, 1e4, -3.0, 0.0]), np.array([5e-4, 2.0, 10.0, 1e-3])
    train = centers + widths * random.standard_normal((200, 4))
    rows = np.vstack([centers + 2 * widths * random.standard_normal((14, 4)), centers, np.zeros(4), np.full(4, 1e30)])
    model = softmax_net(random, 4, 3)
    for scaler in [
        StandardScaler(), StandardScaler(with_mean=False), StandardScaler(with_std=False),
        MinMaxScaler(), MinMaxScaler(feature_range=(-1, 2), clip=True),
        RobustScaler(), RobustScaler(with_centering=False), RobustScaler(quantile_range=(10, 90), unit_variance=True),
    ]:
        scaler.fit(train)
        given = rows.astype(np.float32)
        scaled = scaler.transform(given.astype(np.float64)).astype(np.float32)
        kind = {"StandardScaler": "standard", "MinMaxScaler": "min_max", "RobustScaler": "robust"}[type(scaler).__name__]
        number = len(list(HERE.glob(f"scaled_{kind}_*.json"))) + 1
        write(f"scaled_plain_{kind}_{number}", "four", plain(4), {"scaler": {"kind": kind, **attributes(scaler)}}, {"X": given}, {"scores": scaled})
        write(f"scaled_{kind}_{number}", "softmax", model, {"scaler": {"kind": kind, **attributes(scaler)}}, {"X": given}, run(model, {"X": scaled}))
    # Three dimensions, which the graph engine runs: the last one is scaled.
    scaler = StandardScaler().fit(train)
    model = sequence_net(random, 4, 3)
    given = (centers + widths * random.standard_normal((6, 5, 4))).astype(np.float32)
    scaled = scaler.transform(given.reshape(-1, 4).astype(np.float64)).astype(np.float32).reshape(given.shape)
    answers = run(model, {"X": scaled})
    write("scaled_sequence", "sequence", model, {"scaler": attributes(scaler)}, {"X": given}, answers)
    manifest = {"scaler": attributes(scaler), "labels": NAMES, "answer": {"labels": "names", "confidence": True, "thresholds": {"up": 0.4, "down": 0.35}, "otherwise": "none"}}
    scores = answers["scores"]
    decided = decide(scores, [0.35, 0, 0.4], NAMES, "none")
    write("scaled_sequence_decided", "sequence", model, manifest, {"X": given}, {**answers, "label": decided, "confidence": scores.max(axis=1)})
    manifest["answer"]["thresholds"]["flat"] = 0.99
    decided = decide(scores, [0.35, 0.99, 0.4], NAMES, "none")
    write("scaled_sequence_refrained", "sequence", model, manifest, {"X": given}, {**answers, "label": decided, "confidence": scores.max(axis=1)})
    # Double precision all the way.
    data, classes = make_classification(200, 4, n_informative=3, n_redundant=0, n_classes=3, n_clusters_per_class=1, random_state=3)
    train = centers + widths * data
    scaler = StandardScaler().fit(train)
    regression = LogisticRegression().fit(scaler.transform(train), classes)
    model = to_onnx(regression, data[:1], options={"zipmap": False}, target_opset={"": 18, "ai.onnx.ml": 3})
    given = train[:20]
    write("scaled_double", "double", model, {"scaler": attributes(scaler)}, {"X": given}, run(model, {"X": scaler.transform(given)}))


def attributes(scaler):
    """A scaler's attributes as `json.dumps` takes them, which is what people have."""
    plain = lambda value: value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
    return {name: plain(value) for name, value in vars(scaler).items()}


# Labels and confidence


def labels():
    plain_names = [("integers", [0, 1, 2], True), ("uneven", [-1, 3, 7], False), ("texts", NAMES, True)]
    # skl2onnx writes Bayes out in operators, with a table of the classes.
    written_out = [("uneven_written_out", [-1, 3, 7], False), ("texts_written_out", NAMES, False)]
    for name, classes, zipmap in plain_names + written_out:
        data, model = regression(classes, zipmap, kind=GaussianNB if name.endswith("written_out") else LogisticRegression)
        answers = run(model, {"X": data}, classes)
        label, scores = answers
        top = answers[scores].max(axis=1)
        kept = {**answers, "confidence": top}
        write(f"labels_{name}_kept", f"labels_{name}", model, {"answer": {"confidence": True}}, {"X": data}, kept, classes)
        named = {label: np.array([NAMES[classes.index(value)] for value in answers[label].tolist()], dtype=object), scores: answers[scores]}
        write(f"labels_{name}_named", f"labels_{name}", model, {"labels": NAMES, "answer": {"labels": "names"}}, {"X": data}, named, classes)
        numbers = classes if isinstance(classes[0], int) else [0, 1, 2]
        counted = {label: np.array([numbers[classes.index(value)] for value in answers[label].tolist()]), scores: answers[scores]}
        write(f"labels_{name}_counted", f"labels_{name}", model, {"answer": {"labels": "integers"}}, {"X": data}, counted, classes)
    random = np.random.default_rng(5)
    data = random.standard_normal((16, 4)).astype(np.float32)
    model = softmax_net(random, 4, 3)
    answers = run(model, {"X": data})
    best = answers["scores"].argmax(axis=1)
    write("labels_added", "softmax_labels", model, {"labels": NAMES, "answer": {"labels": "names", "confidence": True}}, {"X": data}, {**answers, "label": np.array(NAMES, dtype=object)[best], "confidence": answers["scores"].max(axis=1)}, NAMES)
    write("labels_added_integers", "softmax_labels", model, {"answer": {"labels": "integers"}}, {"X": data}, {**answers, "label": best})
    model = sigmoid_net(random, 4)
    answers = run(model, {"X": data})
    second = answers["p"][:, 0]
    write("labels_of_a_sigmoid", "sigmoid", model, {"labels": ["no", "yes"], "answer": {"labels": "names", "confidence": True}}, {"X": data}, {**answers, "label": np.where(second > 0.5, "yes", "no").astype(object), "confidence": np.maximum(second, 1 - second.astype(np.float64)).astype(np.float32)}, ["no", "yes"])


# Calibration: on scores that are the input itself, so that points are hit exactly.


def calibrations():
    random = np.random.default_rng(7)
    truth = random.integers(0, 2, 300)
    scores = truth + random.standard_normal(300)
    sigmoid, isotonic = _SigmoidCalibration().fit(scores, truth), IsotonicRegression(out_of_bounds="clip").fit(scores, truth)
    steep = IsotonicRegression(out_of_bounds="clip").fit([0.1, 0.1 + 1e-9, 0.1 + 3e-9, 7.0], [0, 0.25, 0.75, 1])
    for name, calibrator in [("sigmoid", sigmoid), ("isotonic", isotonic), ("steep", steep)]:
        given = on_and_around(calibrator, random)
        p = predict(calibrator, given[:, 0])
        source = calibration(calibrator)
        manifest = {"answer": {"calibration": source}, "labels": ["no", "yes"], "accepts_missing": True}
        write(f"calibrated_{name}_single", "single", plain(1), manifest, {"X": given}, {"scores": p.astype(np.float32)[:, None]})
        pair = np.hstack([-given, given])
        both = np.stack([1 - p, p], axis=1).astype(np.float32)
        top = both.max(axis=1)
        decided = np.array(["yes" if row[1] > row[0] else "no" for row in both], dtype=object)
        manifest["answer"] |= {"confidence": True, "labels": "names"}
        write(f"calibrated_{name}_pair", "pair", plain(2), manifest, {"X": pair}, {"scores": both, "label": decided, "confidence": top}, ["no", "yes"])
        # scikit-learn computes in the precision of its points, double here, on scores in double precision too.
        double = np.vstack([given.astype(np.float64), given.astype(np.float64) * (1 + 1e-12)])
        write(f"calibrated_{name}_double", "single_double", plain(1, np.float64), {"answer": {"calibration": source}, "accepts_missing": True}, {"X": double}, {"scores": predict(calibrator, double[:, 0])[:, None]})
    # Several classes, with rows that no class claims: they become equal parts.
    classes = random.integers(0, 3, 300)
    scores = np.eye(3)[classes] * 1.5 + random.standard_normal((300, 3))
    for name, kinds in [("sigmoid", "sss"), ("isotonic", "iii"), ("mixed", "sii")]:
        fitted = [
            (_SigmoidCalibration() if kind == "s" else IsotonicRegression(out_of_bounds="clip")).fit(scores[:, at], classes == at)
            for at, kind in enumerate(kinds)
        ]
        given = np.vstack([scores[:30], np.full(3, -9.0), np.full(3, 9.0), np.full(3, -3e38)]).astype(np.float32)
        p = normalised(np.stack([predict(calibrator, given[:, at]) for at, calibrator in enumerate(fitted)], axis=1)).astype(np.float32)
        source = {"per_class": [calibration(calibrator) for calibrator in fitted]}
        manifest = {"labels": NAMES, "answer": {"calibration": source, "labels": "names", "confidence": True}}
        write(f"calibrated_three_{name}", "three", plain(3), manifest, {"X": given}, {"scores": p, "label": np.array(NAMES, dtype=object)[p.argmax(axis=1)], "confidence": p.max(axis=1)}, NAMES)
    # A label of the model's own is decided anew, in its place.
    data, model = regression(NAMES, True, raw=True)
    raw = run(model, {"X": data}, NAMES)
    label, name = raw
    fitted = [_SigmoidCalibration().fit(raw[name][:, at], raw[label] == NAMES[at]) for at in range(3)]
    p = normalised(np.stack([calibrator.predict(raw[name][:, at].astype(np.float64)) for at, calibrator in enumerate(fitted)], axis=1)).astype(np.float32)
    write("calibrated_model", "raw_texts", model, {"answer": {"calibration": {"per_class": [calibration(calibrator) for calibrator in fitted]}}}, {"X": data}, {label: np.array(NAMES, dtype=object)[p.argmax(axis=1)], name: p}, NAMES)


def calibration(calibrator):
    if isinstance(calibrator, IsotonicRegression):
        return {"method": "isotonic", "x": calibrator.X_thresholds_.tolist(), "y": calibrator.y_thresholds_.tolist()}
    return {"method": "sigmoid", "a": float(calibrator.a_), "b": float(calibrator.b_)}


def predict(calibrator, scores):
    """What the calibrator says; NaN, which scikit-learn refuses, stays NaN."""
    result = np.full(len(scores), np.nan)
    is_number = ~np.isnan(scores)
    # It refuses infinite scores too; the ends of the range stand for them.
    finite = np.clip(scores[is_number].astype(np.float64), -1.7e308, 1.7e308)
    with np.errstate(over="ignore"):
        result[is_number] = calibrator.predict(finite)
    return result


def normalised(p):
    """As scikit-learn's `_CalibratedClassifier` does with more than two classes."""
    total = p.sum(axis=1)[:, None]
    p = np.divide(p, total, out=np.full_like(p, 1 / p.shape[1]), where=total != 0)
    p[(1.0 < p) & (p <= 1.0 + 1e-5)] = 1.0
    return p


def on_and_around(calibrator, random):
    """The points themselves, the numbers beside them, between and beyond them, and what is no number."""
    points = np.asarray(getattr(calibrator, "X_thresholds_", np.linspace(-3, 3, 9)), dtype=np.float32)
    scores = [points, np.nextafter(points, np.float32(-np.inf)), np.nextafter(points, np.float32(np.inf)), random.normal(0.5, 1.5, 40)]
    scores += [[0.0, -0.0, 1e-30, -1e-30, 1e30, -1e30, 3.4e38, -3.4e38, np.inf, -np.inf, np.nan]]
    return np.concatenate(scores).astype(np.float32)[:, None]


# Thresholds


def thresholds():
    random = np.random.default_rng(11)
    threshold = 0.6
    near = np.float32(threshold)  # greater than the double 0.6
    given = np.array([0, 0.5, near, np.nextafter(near, np.float32(0)), np.nextafter(near, np.float32(1)), 0.7, 1, np.nan, np.inf, -np.inf, *random.random(20)], dtype=np.float32)[:, None]
    reaches = given[:, 0].astype(np.float64) >= threshold
    names = {"labels": ["no", "yes"], "accepts_missing": True}
    decided = np.where(reaches, "yes", "no").astype(object)
    write("threshold_single", "single", plain(1), names | {"answer": {"threshold": threshold}}, {"X": given}, {"scores": given, "label": decided}, ["no", "yes"])
    pair = np.hstack([1 - given, given])
    write("threshold_pair", "pair", plain(2), names | {"answer": {"threshold": threshold, "labels": "integers"}}, {"X": pair}, {"scores": pair, "label": reaches.astype(np.int64)}, ["no", "yes"])
    double = np.array([0.6, np.nextafter(0.6, 0), np.nextafter(0.6, 1), 0.1 + 0.2 + 0.3, 5e-324, 0.0])[:, None]
    for name, threshold in [("point_six", 0.6), ("tiny", 5e-324), ("zero", 0.0)]:
        write(f"threshold_double_{name}", "single_double", plain(1, np.float64), {"answer": {"threshold": threshold}}, {"X": double}, {"scores": double, "label": (double[:, 0] >= threshold).astype(np.int64)})
    scores = random.dirichlet(np.ones(3), 40)
    third = np.float32(1 / 3)
    special = [[third, third, third], [0.4, 0.4, 0.2], [0.2, 0.4, 0.4], [0.55, 0.3, 0.15], [np.nan, 0.5, 0.5], [0.7, np.nan, 0.3], [np.nan] * 3, [-1, -2, -3], [np.inf, 0, 0], [-np.inf] * 3]
    given = np.vstack([scores, special]).astype(np.float32)
    top = given.max(axis=1)
    for name, wanted, otherwise in [("up_and_down", {"up": 0.4, "down": 0.55}, "flat"), ("all", {"up": 0.4, "down": 0.5, "flat": 0.7}, "no_trade"), ("third", {"up": 1 / 3, "down": 1 / 3, "flat": 1 / 3}, "no_trade")]:
        limits = [wanted.get(label, 0.0) for label in NAMES]
        answer = {"thresholds": wanted, "otherwise": otherwise, "confidence": True}
        write(f"thresholds_{name}", "three", plain(3), {"labels": NAMES, "accepts_missing": True, "answer": answer}, {"X": given}, {"scores": given, "label": decide(given, limits, NAMES, otherwise), "confidence": top}, NAMES)
    write("thresholds_integers", "three", plain(3), {"accepts_missing": True, "answer": {"thresholds": {"0": 0.5, "1": 0.6, "2": 0.5}, "otherwise": -1}}, {"X": given}, {"scores": given, "label": np.array([int(label) for label in decide(given, [0.5, 0.6, 0.5], ["0", "1", "2"], "-1")])})
    # The graph engine, where a score is NaN.
    sequence = np.repeat(given[:, None, :], 2, axis=1)
    model = plain_sequence()
    answer = {"thresholds": {"up": 0.4, "down": 0.5, "flat": 0.7}, "otherwise": "no_trade"}
    write("thresholds_graph", "plain_sequence", model, {"labels": NAMES, "accepts_missing": True, "answer": answer}, {"X": sequence}, {"scores": given, "label": decide(given, [0.5, 0.7, 0.4], NAMES, "no_trade")}, NAMES)
    data, model = regression(["no", "yes"], True)
    answers = run(model, {"X": data}, ["no", "yes"])
    label, scores = answers
    answers[label] = np.where(answers[scores][:, 1].astype(np.float64) >= 0.8, "yes", "no").astype(object)
    write("threshold_model", "binary_texts", model, {"answer": {"threshold": 0.8}}, {"X": data}, answers, ["no", "yes"])


def decide(scores, limits, names, otherwise):
    """The best of the labels whose scores reach their thresholds; the first of equal ones."""
    decided = []
    for row in scores.astype(np.float64):
        reached = [at for at in range(len(names)) if row[at] >= limits[at]]
        decided.append(names[max(reached, key=lambda at: row[at])] if reached else otherwise)
    return np.array(decided, dtype=object)


# Models


def regression(classes, zipmap, raw=False, kind=LogisticRegression):
    data, truth = make_classification(60, 4, n_informative=3, n_redundant=0, n_classes=len(classes), n_clusters_per_class=1, random_state=len(classes))
    data = data.astype(np.float32)
    model = kind().fit(data, np.array(classes, dtype=object if isinstance(classes[0], str) else np.int64)[truth])
    options = {"zipmap": zipmap} | ({"raw_scores": True} if raw else {})
    # skl2onnx sorts the classes; these are sorted already.
    return data, to_onnx(model, data[:1], options=options, target_opset={"": 18, "ai.onnx.ml": 3})


def softmax_net(random, columns, classes):
    nodes = [
        helper.make_node("Gemm", ["X", "w1", "b1"], ["h"]), helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "w2", "b2"], ["z"]), helper.make_node("Softmax", ["z"], ["scores"], axis=-1),
    ]
    weights = {"w1": (columns, 8), "b1": (8,), "w2": (8, classes), "b2": (classes,)}
    return network(nodes, random, weights, [None, columns], [None, classes], "scores")


def sigmoid_net(random, columns):
    nodes = [helper.make_node("Gemm", ["X", "w", "b"], ["z"]), helper.make_node("Sigmoid", ["z"], ["p"])]
    return network(nodes, random, {"w": (columns, 1), "b": (1,)}, [None, columns], [None, 1], "p")


def sequence_net(random, columns, classes):
    nodes = [
        helper.make_node("ReduceMean", ["X", "axes"], ["m"], keepdims=0),
        helper.make_node("Gemm", ["m", "w", "b"], ["z"]), helper.make_node("Softmax", ["z"], ["scores"], axis=-1),
    ]
    return network(nodes, random, {"w": (columns, classes), "b": (classes,)}, [None, 5, columns], [None, classes], "scores", {"axes": np.array([1])})


def plain_sequence():
    """The last step of a sequence, as it is."""
    nodes = [helper.make_node("Gather", ["X", "last"], ["scores"], axis=1)]
    return network(nodes, None, {}, [None, 2, 3], [None, 3], "scores", {"last": np.array(1)})


def plain(columns, dtype=np.float32):
    """Scores that are the input."""
    return network([helper.make_node("Identity", ["X"], ["scores"])], None, {}, [None, columns], [None, columns], "scores", dtype=dtype)


def network(nodes, random, weights, shape_in, shape_out, output, constants=None, dtype=np.float32):
    values = {name: random.normal(0, 1, shape).astype(np.float32) for name, shape in weights.items()} | (constants or {})
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    value = lambda name, shape: helper.make_tensor_value_info(name, element, shape)
    graph = helper.make_graph(nodes, "g", [value("X", shape_in)], [value(output, shape_out)], [numpy_helper.from_array(v, n) for n, v in values.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


# Cases


def run(model, inputs, classes=None):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    answers = dict(zip(names, session.run(names, inputs)))
    for name, answer in answers.items():
        if isinstance(answer, list):
            answers[name] = np.array([[row[label] for label in classes] for row in answer], dtype=np.float32)
    return answers


def write(name, file, model, manifest, inputs, outputs, classes=None):
    onnx.checker.check_model(model)
    path = HERE / f"{file}.onnx"
    if path.exists():
        assert path.read_bytes() == model.SerializeToString(), f"{file} is two models"
    path.write_bytes(model.SerializeToString())
    case = {"model": path.name, "manifest": manifest, "classes": classes or [], "inputs": tensors(inputs), "outputs": tensors(outputs)}
    lines = json.dumps(case, allow_nan=False, indent=1)
    compact = "".join(part.strip() if "[" in text else part for text in [lines] for part in lines.splitlines(True))
    (HERE / f"{name}.json").write_text(compact + "\n")


def tensors(values):
    return [tensor(name, np.asarray(value)) for name, value in values.items()]


def tensor(name, value):
    if value.dtype.kind in "OU":
        return {"name": name, "datatype": "BYTES", "shape": list(value.shape), "data": [str(text) for text in value.ravel()]}
    special = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
    number = lambda x: special.get(str(x)) or (int(x) if value.dtype.kind == "i" else float(str(x)))
    return {"name": name, "datatype": DATATYPES[value.dtype.name], "shape": list(value.shape), "data": [number(x) for x in value.ravel()]}


if __name__ == "__main__":
    main()
