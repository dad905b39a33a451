"""One model with requests and onnxruntime's answers, as files that the Rust runner reads.

`NAME.onnx` is the model. `NAME.json` holds `sets` of tensors that go in and come out: `kind` is ONNX's number of the element type, `data` the
elements in hexadecimal, little-endian; a text follows its length of 4 bytes.
"""

import json
import math

import numpy as np
import onnxruntime
from onnx import helper

KINDS = {
    np.dtype(np.float32): 1,
    np.dtype(np.int32): 6,
    np.dtype(np.int64): 7,
    np.dtype(np.bool_): 9,
    np.dtype(np.float64): 11,
}
TEXT = 8

# How far apart things are that have no distance.
OTHERWISE = "other labels, shapes or infinities"


class NotRunnable(Exception):
    """onnxruntime does not run the model, so there is nothing to compare with."""


def write(folder, name, model, requests, tolerance=None):
    """Writes the model with its requests, which are maps from input names to arrays; returns onnxruntime's answers."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    data = model.SerializeToString()
    try:
        session = onnxruntime.InferenceSession(in_a_common_locale(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise NotRunnable(first_line(error)) from error
    classes = zip_map_classes(model)
    sets, answers = [], []
    for request in requests:
        try:
            found = session.run(None, request)
        except Exception as error:
            if sets:
                # Shapes such as no row at all, which the reference cannot take.
                continue
            raise NotRunnable(first_line(error)) from error
        outputs = []
        for info, value in zip(session.get_outputs(), found):
            if isinstance(value, list) and any(isinstance(part, np.ndarray) for part in value):
                # A sequence is as many outputs as it has parts.
                outputs += [(f"{info.name}.{index}", part) for index, part in enumerate(value)]
                continue
            if isinstance(value, list):
                value = matrix_of(value, classes)
            outputs.append((info.name, np.asarray(value)))
        answers.append(dict(outputs))
        sets.append(
            {
                "inputs": [tensor(key, value) for key, value in plain(request, model).items()],
                "outputs": [tensor(key, value) for key, value in outputs],
            }
        )
    record = {"sets": sets}
    if tolerance is not None:
        record["tolerance"] = tolerance
    (folder / f"{name}.onnx").write_bytes(data)
    (folder / f"{name}.json").write_text(json.dumps(record))
    return answers


def in_a_common_locale(model):
    """Exporters write `en_US` for the letters of `StringNormalizer`, which onnxruntime takes from the system; few have it, all have `C.UTF-8`."""
    model = type(model).FromString(model.SerializeToString())
    for node in model.graph.node:
        if node.op_type == "StringNormalizer" and not any(attribute.name == "locale" for attribute in node.attribute):
            node.attribute.append(helper.make_attribute("locale", "C.UTF-8"))
    return model.SerializeToString()


def zip_map_classes(model):
    for node in model.graph.node:
        if node.op_type == "ZipMap":
            for attribute in node.attribute:
                values = helper.get_attribute_value(attribute)
                if values:
                    return [value.decode() if isinstance(value, bytes) else value for value in values]
    return None


def matrix_of(rows, classes):
    """What `ZipMap` made of scores is a matrix again, its columns in the order of the operator's labels."""
    if classes is None or any(not isinstance(row, dict) for row in rows):
        raise NotRunnable("an output is a sequence")
    return np.array([[row[label] for label in classes] for row in rows], np.float32).reshape(len(rows), len(classes))


def plain(request, model):
    """A map is a row with a column for each key of the vocabulary."""
    keys = [helper.get_attribute_value(a) for node in model.graph.node if node.op_type == "DictVectorizer" for a in node.attribute]
    found = {}
    for name, value in request.items():
        if isinstance(value, dict):
            names = [key.decode() if isinstance(key, bytes) else key for key in keys[0]]
            value = np.array([[value.get(key, 0.0) for key in names]], np.float32)
        found[name] = value
    return found


def tensor(name, value):
    value = np.asarray(value)
    if value.dtype.kind in "OUS":
        texts = [str(text).encode() for text in value.reshape(-1)]
        data = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
        return {"name": name, "kind": TEXT, "shape": list(value.shape), "data": data.hex()}
    if value.dtype not in KINDS:
        raise NotRunnable(f"a tensor of {value.dtype}")
    return {"name": name, "kind": KINDS[value.dtype], "shape": list(value.shape), "data": np.ascontiguousarray(value).tobytes().hex()}


def first_line(error):
    return " ".join(str(error).split())[:400]


def furthest(found, expected):
    """The largest difference of two arrays, relative to numbers above one; a text where labels or shapes differ."""
    found, expected = np.asarray(found), np.asarray(expected)
    if found.size != expected.size:
        return OTHERWISE
    found, expected = found.reshape(-1), expected.reshape(-1)
    if found.dtype.kind in "OUS" or expected.dtype.kind in "OUS":
        return 0.0 if [str(a) for a in found] == [str(b) for b in expected] else OTHERWISE
    a, b = found.astype(float), expected.astype(float)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(all="ignore"):
        distance = np.where(same, 0.0, np.abs(a - b) / np.maximum(1.0, np.abs(b)))
    largest = float(np.nan_to_num(distance, nan=math.inf).max(initial=0.0))
    return largest if math.isfinite(largest) else OTHERWISE
