"""The operators of ai.onnx.ml but for trees: every attribute, kind of input and operator set."""

import numpy as np
from onnx import helper

from cases import (
    DOUBLE, DTYPES, FLOAT, INF, INT16, INT32, INT64, NAN, NUMBERS, STRING, finite, near_ties, numbers, tensor, texts,
)

POST = ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT", None]


def generate(cases, seed):
    for number, family in enumerate((columns, scalers, encoders, labels, linear, support_vectors, named_scores, single_scores, maps)):
        family(cases, np.random.default_rng([seed, 10, number]))


def columns(cases, random):
    for kind in [*NUMBERS, STRING]:
        for shape, index in [((2, 4), [3, 0, 0]), ((5,), [1]), ((5,), [4, 2]), ((2, 3, 4), [0, 3]), ((0, 3), [1])]:
            x = np.arange(int(np.prod(shape))).reshape(shape)
            x = np.array([f"t{i}" for i in x.reshape(-1)], object).reshape(shape) if kind == STRING else x.astype(DTYPES[kind])
            cases.add("ArrayFeatureExtractor", {}, [[x, np.array(index, np.int64)]], [kind], constants=[1], free=len(shape) > 1, opset=1)
            cases.add("ArrayFeatureExtractor", {}, [[x, np.array(index, np.int64)]], [kind], free=False, opset=1)
    for widths in [[2, 3], [1, 3], [3, 4], [2, 0]]:
        for one in NUMBERS:
            for other in NUMBERS:
                feeds = [[numbers(random, rows, 2, one), numbers(random, rows, 3, other)] for rows in (4, 1)]
                cases.add("FeatureVectorizer", {"inputdimensions": widths}, feeds, [FLOAT], opset=1, both=True)
    cases.add("FeatureVectorizer", {"inputdimensions": [4]}, [[numbers(random, 3, 4)]], [FLOAT], opset=1, both=True)


def scalers(cases, random):
    def rows(kind, width=3, special=0.25):
        return [[numbers(random, count, width, kind, special)] for count in (6, 1, 40)]

    for kind in NUMBERS:
        for threshold in [0.0, 0.5, -1.0, None, NAN, INF, float(np.float32(0.1))]:
            cases.add("Binarizer", {"threshold": threshold}, rows(kind, 4), [kind], opset=1, both=True)
        for floats, mark in [([1.5], NAN), ([1.5, 2.5, 3.5], NAN), ([7.0, NAN, -0.0], 0.0), ([9.0], INF), ([9.0], None), ([1.0, 2.0], 0.0)]:
            attributes = {"imputed_value_floats": floats, "replaced_value_float": mark}
            cases.add("Imputer", attributes, rows(kind), [kind], opset=1, both=True)
        for integers, mark in [([7], 0), ([7, 8, 9], -1), ([5], None)]:
            attributes = {"imputed_value_int64s": integers, "replaced_value_int64": mark}
            cases.add("Imputer", attributes, rows(kind), [kind], opset=1, both=True)
        for offset, scale in [
            ([0.5], [2.0]), ([1.0, 2.0, 3.0], [0.1, -1.0, 1e20]), ([0.1], [NAN]), ([1.0], [1.0, 2.0, 3.0]), ([], [1.0]),
            ([INF, 0.0, 1e-30], [1.0, 3.0, 1e-30]), ([1.0, 2.0], [1.0, 2.0]),
        ]:
            cases.add("Scaler", {"offset": offset, "scale": scale}, rows(kind), [FLOAT], opset=1, both=True)
        for norm in ["MAX", "L1", "L2", None]:
            cases.add("Normalizer", {"norm": norm}, [*rows(kind, 3, 0.1), [np.zeros((2, 3), DTYPES[kind])]], [FLOAT], opset=1, both=True)
            cases.add("Normalizer", {"norm": norm}, rows(kind, 1), [FLOAT], opset=1, both=True)
        if kind in (FLOAT, DOUBLE):
            extreme = np.array([[1e20, 1, 0], [1e-30, 0, 0], [1e-25, 1e-25, 0], [1e30, -1e30, 1], [-2, -3, -1]], DTYPES[kind])
            for norm in ["MAX", "L1", "L2"]:
                cases.add("Normalizer", {"norm": norm}, [[extreme]], [FLOAT], opset=1, both=True, tag="_extreme")


def encoders(cases, random):
    for kind in [*NUMBERS, STRING]:
        for zeros in [0, 1, None]:
            for categories in [
                {"cats_int64s": [1, 3, 0]}, {"cats_int64s": [2, 2, -1]}, {"cats_strings": ["a", "b", ""]}, {"cats_int64s": [-(2**63), 4]},
            ]:
                if kind == STRING:
                    feeds = [[np.array([["a", "b"], ["", "zz"]], object)], [np.array([["a", "b"], ["", "a"]], object)]]
                else:
                    feeds = [[numbers(random, 5, 2, kind, 0.1)], [np.array([[1, 3], [0, 1]], DTYPES[kind])]]
                for feed in feeds:
                    cases.add("OneHotEncoder", {"zeros": zeros, **categories}, [feed], [FLOAT], opset=1)
                cases.add("OneHotEncoder", {"zeros": zeros, **categories}, [[feeds[-1][0][:, :1]]], [FLOAT], opset=1)
    for defaults in [{"default_int64": -7, "default_string": "none"}, {}]:
        for known, numbered in [(["a", "b", "ü", ""], [1, 5, -3, 0]), (["a", "b", "a"], [1, 5, 1]), (["x"], [9])]:
            attributes = {"cats_strings": known, "cats_int64s": numbered, **defaults}
            cases.add("CategoryMapper", attributes, [[np.array([["a", "b"], ["ü", "zz"], ["", "x"]], object)]], [INT64], opset=1)
            cases.add("CategoryMapper", attributes, [[np.array([[1, 5], [-3, 2], [0, 9]], np.int64)]], [STRING], opset=1)
            cases.add("CategoryMapper", attributes, [[np.array([1, 5, 2], np.int64)]], [STRING], opset=1)


def labels(cases, random):
    for defaults in [{}, {"default_int64": -5, "default_string": "dd"}]:
        attributes = {"classes_strings": ["a", "b", "a", "ü"], **defaults}
        cases.add("LabelEncoder", attributes, [[np.array([["a", "b"], ["zz", "ü"]], object)]], [INT64], opset=1)
        cases.add("LabelEncoder", attributes, [[np.array([[0, 1], [2, 3], [-1, 9]], np.int64)]], [STRING], opset=1)
    values = {"strings": ["k0", "k1", "ü", "k1"], "int64s": [4, -2, 0, -2], "floats": [0.5, -0.0, NAN, INF]}
    keys = {"strings": ["a", "b", "a", ""], "int64s": [1, 2, 1, -9], "floats": [1.5, 0.0, NAN, 1.5]}
    above = np.nextafter(np.float32(1.5), np.float32(2))
    probes = {
        "strings": np.array([["a", "zz", ""], ["b", "B", "a"]], object), "int64s": np.array([[1, 2, 0], [-9, 9, 1]], np.int64),
        "floats": np.array([[1.5, -0.0, NAN], [0.1, 0.0, above]], np.float32),
    }
    kinds = {"strings": STRING, "int64s": INT64, "floats": FLOAT}
    for key in keys:
        for value in values:
            for defaults in [{}, {"default_int64": 77, "default_string": "none", "default_float": 2.5}]:
                for opset in [2, 3, 4, 5]:
                    attributes = {f"keys_{key}": keys[key], f"values_{value}": values[value], **defaults}
                    cases.add("LabelEncoder", attributes, [[probes[key]], [probes[key][:1]]], [kinds[value]], opset=opset, tag=f"_v{opset}")
                    cases.add("LabelEncoder", attributes, [[probes[key][0]]], [kinds[value]], opset=opset, tag=f"_v{opset}")
    tensors = {
        STRING: texts(*keys["strings"]), INT64: np.array(keys["int64s"], np.int64), FLOAT: np.array(keys["floats"], np.float32),
        DOUBLE: np.array(keys["floats"], np.float64), INT32: np.array(keys["int64s"], np.int32), INT16: np.array(keys["int64s"], np.int16),
    }
    probes = {
        STRING: probes["strings"], INT64: probes["int64s"], FLOAT: probes["floats"], DOUBLE: probes["floats"].astype(np.float64),
        INT32: probes["int64s"].astype(np.int32), INT16: probes["int64s"].astype(np.int16),
    }
    for key in tensors:
        for value in tensors:
            for has_default in [False, True]:
                attributes = {"keys_tensor": tensor(tensors[key]), "values_tensor": tensor(tensors[value])}
                if has_default:
                    attributes["default_tensor"] = tensor(texts("dd") if value == STRING else np.array([42], DTYPES[value]))
                for opset in [4, 5]:
                    cases.add("LabelEncoder", attributes, [[probes[key]]], [value], opset=opset, tag="_tensors")
    attributes = {"keys_int64s": [1, 2], "values_tensor": tensor(texts("x", "y")), "default_string": "q"}
    cases.add("LabelEncoder", attributes, [[probes[INT64]]], [STRING], opset=4)


def linear(cases, random):
    forms = [
        (3, {"classlabels_ints": [5, -1, 9]}), (3, {"classlabels_strings": ["a", "b", "c"]}), (2, {"classlabels_ints": [7, 3]}),
        (1, {"classlabels_ints": [4, 6]}), (1, {"classlabels_strings": ["no", "yes"]}), (4, {"classlabels_ints": [0, 1, 2, 3]}),
        (1, {"classlabels_ints": [3]}),
    ]
    for rep in range(2):
        for kind in NUMBERS:
            for post in POST:
                for count, classes in forms:
                    coefficients = np.round(random.normal(size=count * 3), 2)
                    intercepts = np.round(random.normal(size=count), 2)
                    if rep == 1 and kind == FLOAT:
                        # Every class is as good as every other.
                        coefficients[:], intercepts[:] = 0, 0.5
                    attributes = {
                        "coefficients": coefficients.tolist(), "intercepts": intercepts.tolist(), "post_transform": post, "multi_class": rep, **classes,
                    }
                    feeds = [[finite(random, rows, 3, kind)] for rows in (6, 1, 40)]
                    if kind in (FLOAT, DOUBLE):
                        feeds.append([numbers(random, 8, 3, kind, 0.05)])
                    outputs = [STRING if "classlabels_strings" in classes else INT64, FLOAT]
                    cases.add(
                        "LinearClassifier", attributes, feeds, outputs, opset=1, both=rep == 0, ties=lambda _, answers: near_ties(answers[1]),
                        tag=f"_{count}_{post}",
                    )
        for post in POST:
            for targets in [1, 3, None]:
                for has_intercepts in [True, False]:
                    count = targets or 1
                    attributes = {
                        "coefficients": random.normal(size=count * 4).tolist(), "targets": targets, "post_transform": post,
                        "intercepts": random.normal(size=count).tolist() if has_intercepts else None,
                    }
                    feeds = [[finite(random, 6, 4)], [finite(random, 1, 4)], [numbers(random, 8, 4, FLOAT, 0.05)]]
                    cases.add("LinearRegressor", attributes, feeds, [FLOAT], opset=1, both=True, tag=f"_{count}_{post}")


def support_vectors(cases, random):
    for kernel in ["LINEAR", "POLY", "RBF", "SIGMOID"]:
        for degree in [2.0, 3.0, 2.5] if kernel == "POLY" else [3.0]:
            base = {"kernel_type": kernel, "kernel_params": [0.3, 0.2, degree]}
            for one_class in [0, 1]:
                for supports in [4, 0]:
                    attributes = base | {
                        "n_supports": supports, "one_class": one_class, "rho": [0.25], "coefficients": random.normal(size=supports or 3).tolist(),
                        "support_vectors": random.normal(size=supports * 3).tolist(),
                    }
                    for post in ["NONE"] if one_class else ["NONE", "LOGISTIC"]:
                        feeds = [[finite(random, 6, 3)], [finite(random, 1, 3)], [numbers(random, 6, 3, FLOAT, 0.05)]]
                        cases.add("SVMRegressor", attributes | {"post_transform": post}, feeds, [FLOAT], opset=1, both=True, tag=f"_{post}")
            for kind in NUMBERS:
                for classes in [2, 3, 4]:
                    for probabilities in [False, True]:
                        classifier(cases, random, base, kind, classes, probabilities, POST[int(random.integers(6))])
    for classes in [1, 2, 3]:
        for post in POST:
            for positive in [False, True]:
                for probabilities in [False, True]:
                    coefficients = np.round(random.normal(size=classes * 3), 1)
                    attributes = {
                        "kernel_type": "LINEAR", "kernel_params": [0.0, 0.0, 0.0], "rho": [0.1], "classlabels_ints": [8, 4, 6][:classes],
                        "coefficients": (abs(coefficients) if positive else coefficients).tolist(), "post_transform": post,
                        "prob_a": [1.0] * classes if probabilities else None, "prob_b": [0.0] * classes if probabilities else None,
                    }
                    feeds = [[finite(random, 8, 3)], [np.zeros((2, 3), np.float32)], [numbers(random, 6, 3, FLOAT, 0.1)]]
                    cases.add("SVMClassifier", attributes, feeds, [INT64, FLOAT], opset=1, both=True, tag=f"_linear{classes}_{post}")


def classifier(cases, random, base, kind, classes, probabilities, post):
    counts = random.integers(1, 4, size=classes).tolist()
    vectors, pairs = sum(counts), classes * (classes - 1) // 2
    labels = {"classlabels_ints": [10, 5, 7, 1][:classes]} if random.random() < 0.5 else {"classlabels_strings": ["z", "b", "ü", "d"][:classes]}
    coefficients = np.round(random.normal(size=(classes - 1) * vectors), 2)
    if random.random() < 0.3:
        coefficients = abs(coefficients)
    attributes = base | labels | {
        "vectors_per_class": counts, "support_vectors": random.normal(size=vectors * 3).tolist(), "coefficients": coefficients.tolist(),
        "rho": random.normal(size=pairs).tolist(), "post_transform": post,
        "prob_a": (-abs(random.normal(size=pairs)) - 0.5).tolist() if probabilities else None,
        "prob_b": random.normal(size=pairs).tolist() if probabilities else None,
    }
    feeds = [[finite(random, rows, 3, kind)] for rows in (6, 1)]
    outputs = [STRING if "classlabels_strings" in labels else INT64, FLOAT]
    cases.add("SVMClassifier", attributes, feeds, outputs, opset=1, both=True, tag=f"_{classes}_{int(probabilities)}_{post}")


def single_scores(cases, random):
    """Every post-transform of a support vector machine's only score, and of a linear function's that is a probability."""
    for post in POST:
        for one_class in [0, 1]:
            for supports in [4, 0]:
                attributes = {
                    "kernel_type": "RBF", "kernel_params": [0.3, 0.2, 3.0], "n_supports": supports, "one_class": one_class, "rho": [0.4],
                    "coefficients": (random.random(size=supports or 3) / 8).tolist(), "support_vectors": random.normal(size=supports * 3).tolist(),
                    "post_transform": post,
                }
                cases.add("SVMRegressor", attributes, [[finite(random, 6, 3)], [finite(random, 1, 3)]], [FLOAT], opset=1, both=True, tag=f"_single_{post}")
        attributes = {"coefficients": [0.5, 0.25], "intercepts": [0.125], "post_transform": post}
        feeds = [[random.random(size=(rows, 2)).astype(np.float32)] for rows in (6, 1)]
        cases.add("LinearRegressor", attributes, feeds, [FLOAT], opset=1, both=True, tag=f"_1_single_{post}")
        # As skl2onnx writes several targets without intercepts.
        attributes = {"coefficients": [0.5, 0.25, -0.5, 0.125], "intercepts": [0.0], "targets": 2, "post_transform": post}
        cases.add("LinearRegressor", attributes, feeds, [FLOAT], opset=1, both=True, tag=f"_2_zero_{post}")


def maps(cases, random):
    """CastMap, whose maps a request holds as rows with a column for each key."""
    for to in ["TO_FLOAT", "TO_INT64", None]:
        for form, most, keys in [("DENSE", None, [-4, 0, 7]), (None, None, [3]), ("SPARSE", 5, range(5)), ("SPARSE", None, [0]), ("DENSE", 2, [1, 2, 9])]:
            attributes = {"cast_to": to, "map_form": form, "max_map": most}
            given = {key: value for key, value in attributes.items() if value is not None}
            node = helper.make_node("CastMap", ["x"], ["y"], domain="ai.onnx.ml", **given)
            # A dense map has as many columns as it has keys, so that none may be left out.
            rows = [finite(random, count, len(keys)) for count in (6, 1)]
            requests = [{"x": x if form == "SPARSE" else np.where(x == 0, np.float32(1.5), x)} for x in rows]
            name = f"CastMap_{cases.names['CastMap']:04d}_{to}_{form}"
            cases.names["CastMap"] += 1
            cases.model(name, [node], [], requests, {"y": INT64 if to == "TO_INT64" else FLOAT}, {"": 20, "ai.onnx.ml": 3}, maps=list(keys))


def named_scores(cases, random):
    """ZipMap, whose maps a package answers as the matrix of their values."""
    for classes, names in [({"classlabels_int64s": [3, 1, 2]}, [3, 1, 2]), ({"classlabels_strings": ["c", "a", "b"]}, ["c", "a", "b"])]:
        for turned in [False, True]:
            nodes = [helper.make_node("Transpose", ["x"], ["u"], perm=[1, 0]), helper.make_node("Transpose", ["u"], ["w"], perm=[1, 0])] if turned else []
            source = "w" if turned else "x"
            attributes = {
                "coefficients": random.normal(size=9).tolist(), "intercepts": random.normal(size=3).tolist(), "post_transform": "SOFTMAX",
                ("classlabels_ints" if "classlabels_int64s" in classes else "classlabels_strings"): names,
            }
            nodes.append(helper.make_node("LinearClassifier", [source], ["label", "scores"], domain="ai.onnx.ml", **attributes))
            nodes.append(helper.make_node("ZipMap", ["scores"], ["maps"], domain="ai.onnx.ml", **classes))
            key = INT64 if "classlabels_int64s" in classes else STRING
            maps = helper.make_sequence_type_proto(helper.make_map_type_proto(key, helper.make_tensor_type_proto(FLOAT, [])))

            def matrix(_, answers):
                return [np.array([[row[name] for name in names] for row in answers[0]], np.float32)]

            requests = [{"x": finite(random, rows, 3)} for rows in (5, 1)]
            name = f"ZipMap_{cases.names['ZipMap']:04d}" + "_turned" * turned
            cases.names["ZipMap"] += 1
            cases.model(name, nodes, [], requests, {"maps": maps}, {"": 20, "ai.onnx.ml": 3}, instead=matrix)

