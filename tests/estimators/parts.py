"""Everything that generate.py makes: a name and a function for each model, and the list of skl2onnx's converters."""

import functools

import numpy as np
from skl2onnx import supported_converters, to_onnx
from skl2onnx._supported_operators import sklearn_operator_name_map
from skl2onnx.common.data_types import (
    DictionaryType,
    DoubleTensorType,
    FloatTensorType,
    Int64TensorType,
    StringTensorType,
)
from sklearn.base import is_classifier

import boosting
import branches
import case
import data
import estimators
import networks
import tables
from skl2onnx_patches import accept_numpy_bools


@functools.cache
def jobs():
    accept_numpy_bools()
    found = [(recipe.name, Sklearn(recipe)) for recipe in estimators.all_recipes()]
    for part in (boosting, tables, networks, branches):
        found += part.jobs()
    return found


def converters():
    """Every converter of skl2onnx, and the classes that it is for."""
    classes = {}
    for kind, alias in sklearn_operator_name_map.items():
        classes.setdefault(alias.removeprefix("Sklearn"), []).append(kind.__name__)
    known = {name.removeprefix("Sklearn") for name in supported_converters()}
    return {name: sorted(classes.get(name, [])) for name in sorted(known | set(classes))}


# What skl2onnx writes at most.
NEWEST = 21


class Sklearn:
    """Fits and exports a recipe."""

    def __init__(self, recipe):
        self.recipe = recipe
        self.of = recipe.of.__name__

    def __call__(self):
        recipe = self.recipe
        estimator, x, y = recipe.estimator, recipe.x, recipe.y
        if y is None:
            estimator.fit(x)
        else:
            estimator.fit(x, y)
        kind, rows = inputs_of(recipe)
        options = {}
        if recipe.options is not None:
            options = dict(recipe.options)
        elif is_classifier(estimator):
            options = {"zipmap": False}
        if "zipmap" not in options and is_classifier(estimator):
            options["zipmap"] = False
        opset = recipe.opset or NEWEST
        target = {"": opset, "ai.onnx.ml": 3} if recipe.of.__name__ == "IsolationForest" else opset
        export = functools.partial(to_onnx, estimator, initial_types=[("input", kind)], target_opset=target)
        try:
            model = export(options={id(estimator): options} if options else None)
        except NameError:
            # A converter without options. Of a pipeline, skl2onnx asks the last step for them unless that step has options of its own.
            if recipe.options is not None:
                raise
            steps = getattr(estimator, "steps", None)
            model = export(options={id(steps[-1][1]): {}} if steps else None)
        if recipe.ask is None:
            rows = asked(recipe, model)
        requests = requests_of(rows)
        return {"model": model, "requests": requests, "of": self.of, "tolerance": recipe.tolerance, "trained": functools.partial(differs, estimator, rows)}


def inputs_of(recipe):
    ask = recipe.ask
    if isinstance(ask, list):
        value = next(iter(ask[0].values()))
        element = StringTensorType([1]) if isinstance(value, str) else FloatTensorType([1])
        return DictionaryType(StringTensorType([1]), element), ask
    rows = recipe.x if ask is None else ask
    if rows.dtype.kind in "OU":
        return StringTensorType([None, rows.shape[1]]), rows
    if rows.dtype.kind == "i":
        return Int64TensorType([None, rows.shape[1]]), rows
    kind = DoubleTensorType if recipe.double else FloatTensorType
    return kind([None, rows.shape[1]]), rows.astype(np.float64 if recipe.double else np.float32)


def asked(recipe, model):
    x = recipe.x.astype(np.float64 if recipe.double else np.float32)
    return data.edges(x, recipe.wild, recipe.trees, recipe.missing, thresholds(model) if recipe.trees else ())


def thresholds(model, count=4):
    """Splits of the model's trees."""
    from onnx import helper

    for node in model.graph.node:
        if node.op_type.startswith("TreeEnsemble"):
            values = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            numbers = values.get("nodes_values")
            if numbers is None:
                from onnx import numpy_helper

                numbers = numpy_helper.to_array(values["nodes_values_as_tensor"]).tolist()
            splits = [split for *split, mode in zip(values["nodes_featureids"], numbers, values["nodes_modes"]) if mode != b"LEAF" and split[0] < data.COLUMNS]
            return [splits[k] for k in np.random.default_rng(5).permutation(len(splits))[:count]]
    return []


def requests_of(rows):
    """All rows, one, none, and for numbers a thousand."""
    if isinstance(rows, list):
        return [{"input": row} for row in rows]
    if rows.dtype.kind in "OU":
        rows = rows.astype(object)
    requests = [{"input": rows}, {"input": rows[:1]}, {"input": rows[:0]}]
    if rows.dtype.kind in "OU" or not rows.dtype.kind == "f":
        requests[0], requests[1] = {"input": rows}, {"input": rows[1:2]}
    else:
        rows = np.ascontiguousarray(rows)
        requests = [{"input": rows}, {"input": rows[:1]}, {"input": rows[:0]}]
    return requests


def differs(estimator, rows, answers):
    """How far onnxruntime is from the library that trained the model."""
    found = {}
    calls = {"label": "predict", "output_label": "predict", "probabilities": "predict_proba", "output_probability": "predict_proba", "variable": None, "scores": None}
    for name, value in answers[0].items():
        call = calls.get(name)
        if name in ("variable", "scores", "variable1"):
            call = "predict" if hasattr(estimator, "predict") and name == "variable" else "transform" if hasattr(estimator, "transform") else None
        if name == "probabilities" and not hasattr(estimator, "predict_proba"):
            call = "decision_function"
        if call is None or not hasattr(estimator, call):
            continue
        try:
            asked = rows.ravel() if hasattr(rows, "dtype") and rows.dtype.kind in "OU" and rows.shape[1] == 1 else rows
            expected = getattr(estimator, call)(asked)
            expected = expected.toarray() if hasattr(expected, "toarray") else expected
            found[name] = case.furthest(value, expected)
        except Exception as error:
            found[name] = case.first_line(error)[:60]
    return found
