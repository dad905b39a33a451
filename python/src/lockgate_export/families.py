"""Which library a model is of, and its conversion: to ONNX, its classes, and the names and number of its columns."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper

from . import catboost_files, keras_models, sklearn_models
from .errors import ExportError, ExportWarning
from .graph import Graph
from .keras_file import read_keras, read_live
from .loading import CATBOOST_HINT, TORCH_HINT, KerasFile
from .table import Table
from .trees import write_classifier, write_regressor
from .xgboost_models import Boosted


@dataclass
class Converted:
    """A model in ONNX, and what is known about it."""

    onnx: onnx.ModelProto
    # None for a model without classes; in the order of the scores.
    classes: list[int] | list[str] | None = None
    names: list[str] | None = None
    # How many columns one row (or one step of a row) has, where that is known.
    features: int | None = None
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    # Whether the scores are a probability each, of labels that do not exclude each other.
    multilabel: bool = False


def family(model: Any) -> str:
    """The library of a model."""
    if isinstance(model, type):
        raise ExportError(
            f"{model.__name__} is a class, not a model",
            hint=f"give what `{model.__name__}(…).fit(X, y)` returns",
        )
    if isinstance(model, onnx.ModelProto):
        return "onnx"
    if isinstance(model, KerasFile):
        return "keras"
    modules = [kind.__module__.split(".")[0] for kind in type(model).__mro__]
    for name in ("xgboost", "lightgbm", "catboost", "keras", "torch"):
        if name in modules:
            return name
    if "tensorflow" in modules or "tf_keras" in modules:
        raise ExportError(
            f"{type(model).__name__} is a model of TensorFlow's old Keras",
            hint="build it with Keras 3 (`import keras`), or convert it with tf2onnx and give the ONNX file",
        )
    if hasattr(model, "get_params") or hasattr(model, "transform") or hasattr(model, "predict"):
        return "sklearn"
    raise ExportError(
        f"{type(model).__module__}.{type(model).__name__} is no model that can be exported",
        hint="expected a fitted model of scikit-learn, XGBoost, LightGBM or Keras, or an ONNX file",
    )


def is_fitted(model: Any) -> bool:
    """Whether an estimator of scikit-learn, or of a library with its interface, was fitted."""
    try:
        from sklearn.exceptions import NotFittedError
        from sklearn.utils.validation import check_is_fitted
    except ImportError:
        return True
    try:
        check_is_fitted(model)
    except NotFittedError:
        return False
    except TypeError:
        return True
    return True


def column_names(model: Any, kind: str) -> list[str] | None:
    """The names that a model was trained with."""
    if kind == "sklearn" or hasattr(model, "feature_names_in_"):
        names = attribute(model, "feature_names_in_")
        if names is not None:
            return [str(name) for name in names]
    if kind == "xgboost":
        booster = model.get_booster() if hasattr(model, "get_booster") else model
        return list(booster.feature_names) if booster.feature_names else None
    if kind == "lightgbm":
        booster = model.booster_ if hasattr(model, "booster_") else model
        names = booster.feature_name()
        return None if all(name == f"Column_{index}" for index, name in enumerate(names)) else list(names)
    return None


def attribute(model: Any, name: str) -> Any:
    """An attribute that fitted models may have; some raise other errors than AttributeError where they have none."""
    try:
        return getattr(model, name)
    except Exception:
        return None


def is_multilabel(model: Any) -> bool:
    """Whether a classifier of scikit-learn answers with several labels that do not exclude each other."""
    steps = getattr(model, "steps", None)
    if steps:
        model = steps[-1][1]
    binarizer = getattr(model, "_label_binarizer", getattr(model, "label_binarizer_", None))
    return attribute(model, "multilabel_") is True or str(getattr(binarizer, "y_type_", "")).startswith("multilabel")


def convert(model: Any, table: Table | None, *, double: bool, binary: bool) -> Converted:
    """Converts a model. `binary` says that one probability stands for two classes."""
    kind = family(model)
    if kind == "onnx":
        return _existing(model)
    if kind == "keras":
        return _keras(model, double, binary)
    if kind == "catboost":
        raise ExportError(f"{type(model).__name__} is a model of CatBoost", hint=CATBOOST_HINT)
    if kind == "torch":
        raise ExportError(f"{type(model).__name__} is a model of PyTorch", hint=TORCH_HINT)
    if kind != "sklearn" and type(model).__name__ == "Booster" or is_fitted(model):
        return _boosted(model, kind, double) if kind in ("xgboost", "lightgbm") else _sklearn(model, table, double)
    raise ExportError(f"the {type(model).__name__} is not fitted", hint="call `fit` before exporting")


def _boosted(model: Any, kind: str, double: bool) -> Converted:
    if kind == "xgboost":
        from .xgboost_models import read
    else:
        from .lightgbm_models import read
    if not hasattr(model, "get_booster") and not hasattr(model, "booster_") and type(model).__name__ != "Booster":
        raise ExportError(f"{type(model).__name__} is no model", hint="give the Booster, or the fitted estimator")
    boosted: Boosted = read(model)
    graph = Graph("model")
    rows = graph.input("X", "double" if double else "float", ["N", boosted.features])
    labels = None if boosted.labels is None else sklearn_models.plain_labels(boosted.labels)
    wide = double and kind == "lightgbm"
    if double and not wide:
        # XGBoost computes in single precision, whatever it is given.
        rows = graph.node("Cast", [rows], to=onnx.TensorProto.FLOAT)
    if labels is not None:
        outputs = [graph.unique("label"), graph.unique("probabilities")]
        write_classifier(graph, rows, boosted.ensemble, labels, boosted.link, outputs, double=wide)
        graph.output(outputs[0], "string" if isinstance(labels[0], str) else "int64", ["N"])
        graph.output(outputs[1], "float", ["N", len(labels)])
    else:
        output = graph.unique("variable")
        write_regressor(graph, rows, boosted.ensemble, boosted.link, output, double=wide)
        graph.output(output, "float", ["N", boosted.ensemble.scores])
    names = column_names(model, kind)
    return Converted(graph.model(), labels, names, boosted.features, boosted.ranges or {}, boosted.multilabel)


def _sklearn(model: Any, table: Table | None, double: bool) -> Converted:
    features = attribute(model, "n_features_in_")
    if features is None and table is not None and table.array is None:
        features = table.width
    converted = sklearn_models.convert(model, table, None if features is None else int(features), double=double)
    classes = attribute(model, "classes_")
    labels = None
    multilabel = is_multilabel(model) or (isinstance(classes, list) and any(np.ndim(part) for part in classes))
    if classes is not None and not multilabel and np.ndim(classes) == 1:
        labels = sklearn_models.plain_labels(classes)
    features = None if features is None else int(features)
    return Converted(converted, labels, column_names(model, "sklearn"), features, multilabel=multilabel)


def _keras(model: Any, double: bool, binary: bool) -> Converted:
    if double:
        raise ExportError("Keras models compute in single precision", where="double=True", hint="leave double out")
    config, weights = read_keras(model.path) if isinstance(model, KerasFile) else read_live(model)
    export = keras_models.convert(config, weights, two_columns=binary)
    classes = None
    if export.activation == "softmax" and export.columns is not None and export.columns > 1:
        classes = list(range(export.columns))
    elif export.activation == "sigmoid" and binary:
        classes = [0, 1]
    return Converted(export.model, classes, None, export.features)


def _existing(model: onnx.ModelProto) -> Converted:
    """An ONNX file that another program wrote."""
    model, multilabel = catboost_files.repair(model)
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    fixed = [value for value in inputs if value.type.tensor_type.shape.dim and value.type.tensor_type.shape.dim[0].dim_value]
    if fixed:
        warnings.warn(
            f"the input `{fixed[0].name}` has a fixed batch of {fixed[0].type.tensor_type.shape.dim[0].dim_value}; export it with "
            "a batch of any size (PyTorch: `dynamic_shapes`, or `dynamic_axes` with dynamo=False)",
            ExportWarning,
            stacklevel=4,
        )
    names, features = None, None
    if len(inputs) == 1:
        sizes = inputs[0].type.tensor_type.shape.dim
        if len(sizes) > 1 and sizes[-1].HasField("dim_value"):
            features = int(sizes[-1].dim_value)
    else:
        widths = [value.type.tensor_type.shape.dim for value in inputs]
        if all(len(sizes) < 2 or sizes[-1].dim_value == 1 for sizes in widths):
            names, features = [value.name for value in inputs], len(inputs)
    classes: Any = None
    for node in model.graph.node if not multilabel else []:
        for item in node.attribute:
            if item.name in ("classlabels_strings", "classlabels_int64s", "classlabels_ints"):
                values = helper.get_attribute_value(item)
                if len(values) > 0:
                    classes = [value.decode() if isinstance(value, bytes) else int(value) for value in values]
    return Converted(model, classes, names, features, multilabel=multilabel)
