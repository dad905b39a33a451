"""Cases of our own: models with dynamic batches, requests, and onnxruntime's answers, in the files of `backend.py`.

A case fixes what all of its requests have in common: the first axis of an input is free, another one where requests differ.
"""

import collections
import json

import numpy as np
import onnxruntime
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from backend import elements

FLOAT, DOUBLE, INT32, INT64, STRING = (
    TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT32, TensorProto.INT64, TensorProto.STRING,
)
BOOL, INT16 = TensorProto.BOOL, TensorProto.INT16
NUMBERS = [FLOAT, DOUBLE, INT64, INT32]
DTYPES = {FLOAT: np.float32, DOUBLE: np.float64, INT64: np.int64, INT32: np.int32, INT16: np.int16, STRING: object}
NAN, INF = np.nan, np.inf

# |a - b| <= TOLERANCE * max(1, |b|), and what a double tree ensemble is held to.
TOLERANCE, EXACT = 1e-5, 1e-12


def kind_of(array):
    return STRING if array.dtype.kind in "OUS" else helper.np_dtype_to_tensor_dtype(array.dtype)


def tensor(array):
    """An array as the value of an attribute."""
    array = np.asarray(array)
    if array.dtype.kind in "OUS":
        return helper.make_tensor("", STRING, array.shape, [str(text).encode() for text in array.reshape(-1)])
    return numpy_helper.from_array(array)


def texts(*lines):
    return np.array(lines, object)


class Cases:
    """Writes cases into a folder."""

    def __init__(self, folder):
        self.folder = folder
        self.names = collections.Counter()
        self.refused = collections.defaultdict(list)
        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads = 1
        self.options.log_severity_level = 4
        # What is compared are the operators, not what the optimizer makes of them.
        self.options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL

    def add(self, operator, attributes, feeds, outputs, *, domain="ai.onnx.ml", opset=3, constants=(), free=True, tag="", both=False, **how):
        """One node. `feeds` are requests, each a list of arrays, `None` for an operand that is left out; operands numbered in `constants` are
        initializers. Without `free`, shapes are those of the first request. With `both`, a second model turns its inputs around twice, which keeps it from the tabular engine."""
        feeds = [[None if array is None else np.asarray(array) for array in feed] for feed in feeds]
        names = ["" if array is None else f"x{place}" for place, array in enumerate(feeds[0])]
        results = [f"y{place}" if kind is not None else "" for place, kind in enumerate(outputs)]
        node = helper.make_node(operator, names, results, name=operator, domain="" if domain == "ai.onnx" else domain)
        for key, value in attributes.items():
            if value is None or (isinstance(value, list) and not value):
                continue
            kind = AttributeProto.FLOATS if isinstance(value, list) and isinstance(value[0], (float, np.floating)) else None
            node.attribute.append(helper.make_attribute(key, value, attr_type=kind))
        initializers = [numpy_helper.from_array(feeds[0][place], names[place]) for place in constants]
        inputs = [place for place, name in enumerate(names) if name and place not in constants]
        requests = [{names[place]: feed[place] for place in inputs} for feed in feeds]
        imports = {"": 20, domain: opset} if domain != "ai.onnx" else {"": opset}
        known = [name for name, kind in zip(results, outputs) if kind is not None]
        kinds = dict(zip(known, [kind for kind in outputs if kind is not None]))
        name = f"{operator}_{self.names[operator]:04d}{tag}"
        self.names[operator] += 1
        if not self.model(name, [node], initializers, requests, kinds, imports, free=free, **how) or not both:
            return
        if any(np.asarray(array).ndim != 2 or array.shape[1] < 2 for request in requests for array in request.values()):
            return
        turned, nodes = {}, []
        for place in inputs:
            nodes.append(helper.make_node("Transpose", [f"t{place}"], [f"u{place}"], perm=[1, 0]))
            nodes.append(helper.make_node("Transpose", [f"u{place}"], [names[place]], perm=[1, 0]))
            turned[names[place]] = f"t{place}"
        requests = [{turned[key]: array for key, array in request.items()} for request in requests]
        self.model(name + "_turned", [*nodes, node], initializers, requests, kinds, imports, **how)

    def model(self, name, nodes, initializers, requests, outputs, imports, *, free=True, tolerance=TOLERANCE, ties=None, instead=None, maps=None):
        """A model. `instead` makes the expected answer from onnxruntime's where that is wrong; `ties` names the rows of a label that may be another.
        `maps` are the keys of the only input's columns where that is a map: onnxruntime gets a map for each row, without what is 0 in it."""
        first = requests[0]
        inputs = []
        for key in first:
            shapes = [np.asarray(request[key]).shape for request in requests]
            shape = [
                None if (free and axis == 0) or len({other[axis] for other in shapes}) > 1 else length
                for axis, length in enumerate(shapes[0])
            ]
            held = helper.make_tensor_type_proto(kind_of(np.asarray(first[key])), [])
            inputs.append(
                helper.make_value_info(key, helper.make_map_type_proto(INT64, held)) if maps
                else helper.make_tensor_value_info(key, kind_of(np.asarray(first[key])), shape)
            )
        info = [
            helper.make_tensor_value_info(key, kind, None) if isinstance(kind, int) else helper.make_value_info(key, kind)
            for key, kind in outputs.items()
        ]
        graph = helper.make_graph(nodes, name, inputs, info, initializers)
        opsets = [helper.make_opsetid(domain, version) for domain, version in imports.items()]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
        operator = name.split("_")[0]
        try:
            session = onnxruntime.InferenceSession(model.SerializeToString(), self.options, providers=["CPUExecutionProvider"])
        except Exception as error:
            self.refused[operator].append(f"{name}: {str(error)[-120:]}")
            return False
        sets = []
        for request in requests:
            given = {key: array.astype(object) if array.dtype.kind in "US" else array for key, array in request.items()}
            try:
                if maps:
                    (key, rows), = given.items()
                    each = [session.run(None, {key: {k: float(x) for k, x in zip(maps, row) if x}}) for row in rows]
                    answers = [np.concatenate(parts) for parts in zip(*each)]
                else:
                    answers = [answer if isinstance(answer, list) else np.asarray(answer) for answer in session.run(None, given)]
            except Exception as error:
                self.refused[operator].append(f"{name}: {str(error)[-120:]}")
                continue
            answers = instead(request, answers) if instead else answers
            written = [self.tensor(key, answer) for key, answer in zip(outputs, answers)]
            if ties:
                written[0]["ties"] = ties(request, answers)
            sets.append({"inputs": [self.tensor(key, array) for key, array in request.items()], "outputs": written})
        if not sets:
            return False
        # Ranks are what an exporter declares, too.
        for place, output in enumerate(model.graph.output):
            rank = len(sets[0]["outputs"][place]["shape"])
            if output.type.HasField("tensor_type"):
                output.CopyFrom(helper.make_tensor_value_info(output.name, output.type.tensor_type.elem_type, [None] * rank))
        (self.folder / f"{name}.onnx").write_bytes(model.SerializeToString())
        (self.folder / f"{name}.json").write_text(json.dumps({"tolerance": tolerance, "sets": sets}))
        return True

    @staticmethod
    def tensor(name, array):
        array = np.asarray(array)
        kind = kind_of(array)
        return {"name": name, "kind": kind, "shape": list(array.shape), "data": elements(kind, array).hex()}


def near_ties(scores):
    """The rows whose two best scores are closer than the tolerance, and not equal."""
    scores = np.asarray(scores, np.float64)
    if scores.ndim < 2 or scores.shape[-1] < 2:
        return []
    best = np.sort(scores, axis=-1)[..., -2:]
    gap = best[..., 1] - best[..., 0]
    return [int(row) for row in np.flatnonzero((gap > 0) & (gap <= TOLERANCE * np.maximum(1, np.abs(best[..., 1]))))]


# What numbers hurt: both zeros, infinities, the neighbours of a half, the smallest and the largest ones.
SPECIAL = np.array([
    0.0, -0.0, 1.0, -1.0, 0.5, NAN, INF, -INF, 1e-30, -1e30, 3e38, 0.1, 1e-45, 2.0, 3.0,
    np.nextafter(np.float32(0.5), np.float32(1)), np.nextafter(np.float32(0.5), np.float32(0)),
])


def numbers(random, rows, columns, kind=FLOAT, special=0.25):
    """Rows of numbers, of which a part is taken from SPECIAL and another is a multiple of a half."""
    x = random.normal(size=(rows, columns)) * 2
    x = np.where(random.random((rows, columns)) < 0.3, np.round(x * 2) / 2, x)
    if kind in (FLOAT, DOUBLE):
        x = np.where(random.random((rows, columns)) < special, random.choice(SPECIAL, size=(rows, columns)), x)
    with np.errstate(all="ignore"):
        return x.astype(DTYPES[kind])


def finite(random, rows, columns, kind=FLOAT):
    return numbers(random, rows, columns, kind, special=0)
