"""What the tests share: seeded data, onnxruntime as the judge, and the `lockgate` program where it was built."""

import json
import os
import pathlib
import subprocess

# Keras computes with numpy here: its own code, and nothing to compile for each model.
os.environ.setdefault("KERAS_BACKEND", "numpy")
# Data this small is slower on several threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import onnxruntime
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOCKGATE = pathlib.Path(os.environ.get("LOCKGATE", ROOT / "target/debug/lockgate"))
TREES = ("TreeEnsembleClassifier", "TreeEnsembleRegressor")


class Data:
    """300 rows of 6 columns, in single precision as Lockgate's inputs are, and targets that depend on them."""

    def __init__(self):
        rng = np.random.default_rng(7)
        self.X = rng.normal(size=(300, 6)).astype(np.float32)
        score = self.X @ np.array([1.5, -1.0, 0.7, 0.0, 0.4, -0.2]) + rng.normal(scale=0.3, size=300)
        self.binary = (score > 0.2).astype(np.int64)
        self.three = np.digitize(score, [-0.8, 0.9])
        self.real = score
        self.positive = np.exp(score / 3)
        self.counts = rng.poisson(self.positive)
        self.names = ["momentum", "spread", "volume", "hour", "gap", "drift"]

    def target(self, kind):
        texts = {"binary_texts": (self.binary, ["down", "up"]), "three_texts": (self.three, ["down", "flat", "up"])}
        if kind in texts:
            codes, names = texts[kind]
            return np.array(names)[codes]
        return {"binary": self.binary, "three": self.three, "real": self.real, "positive": self.positive, "counts": self.counts}[kind]


@pytest.fixture(scope="session")
def data():
    return Data()


def run_onnx(model, *inputs):
    """The outputs of onnxruntime."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    kinds = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int64)": np.int64, "tensor(string)": object}
    declared = session.get_inputs()
    assert len(declared) == len(inputs)
    return session.run(None, {value.name: np.asarray(rows).astype(kinds[value.type]) for value, rows in zip(declared, inputs)})


def close(got, wanted, tolerance=1e-5):
    got, wanted = np.asarray(got, dtype=np.float64), np.asarray(wanted, dtype=np.float64)
    assert got.shape == wanted.shape
    distance = np.abs(got - wanted) / np.maximum(1.0, np.abs(wanted))
    assert distance.max() <= tolerance, f"row {distance.argmax()} differs by {distance.max()}"


def attributes(node):
    from onnx import helper, numpy_helper

    values = {}
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        name = attribute.name.removesuffix("_as_tensor")
        values[name] = numpy_helper.to_array(value) if attribute.name != name else value
    return values


def check_covers(model):
    """Every inner cover is the sum of its children's; returns the covers of the roots, tree by tree."""
    roots = []
    ensembles = [attributes(node) for node in model.graph.node if node.op_type in TREES]
    assert ensembles, "the model has trees"
    for values in ensembles:
        covers = np.asarray(values["nodes_hitrates"], dtype=np.float64)
        place = {key: index for index, key in enumerate(zip(values["nodes_treeids"], values["nodes_nodeids"]))}
        for index, tree in enumerate(values["nodes_treeids"]):
            if values["nodes_nodeids"][index] == 0:
                roots.append(covers[index])
            if values["nodes_modes"][index] == b"LEAF":
                continue
            children = [place[tree, values[key][index]] for key in ("nodes_truenodeids", "nodes_falsenodeids")]
            assert abs(covers[children].sum() - covers[index]) <= 1e-3 * covers[index]
    return roots


@pytest.fixture(scope="session")
def lockgate(tmp_path_factory):
    """Packages an export and predicts rows with it, as a user would; returns the outputs by name."""
    if not LOCKGATE.is_file():
        pytest.fail(f"{LOCKGATE} is not built: run `cargo xtask program`, or let LOCKGATE name the program")

    def predict(exported, rows):
        folder = tmp_path_factory.mktemp("package")
        model, manifest = exported.save(folder)
        call("package", model, "--manifest", manifest, "--output", folder / "model.lgp")
        rows_file = folder / "rows.json"
        rows_file.write_text(json.dumps(np.asarray(rows).astype(float).tolist()))
        answer = json.loads(call("predict", folder / "model.lgp", "--input", rows_file, "--json"))
        return {output["name"]: np.array(output["data"]).reshape(output["shape"]) for output in answer["outputs"]}

    return predict


def call(*arguments):
    done = subprocess.run([LOCKGATE, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, f"lockgate {arguments[0]}: {done.stderr}"
    return done.stdout
