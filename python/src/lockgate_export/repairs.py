"""Where skl2onnx refuses what it could write, or writes something else than scikit-learn computes: repaired while a model is converted,
and put back afterwards."""

from __future__ import annotations

import contextlib
from typing import Any, Iterator

import numpy as np

from .errors import ExportError
from .graph import ContainerWriter
from .parts import is_frozen, is_sampler, walk
from .table import is_missing


@contextlib.contextmanager
def repaired(model: Any) -> Iterator[Any]:
    """The model with all repairs, for as long as it is converted."""
    model = _plain(model)
    with contextlib.ExitStack() as stack:
        for part in walk(model):
            for name, value in list(vars(part).items()):
                plain = _plain(value)
                if plain is not value:
                    stack.enter_context(_replaced(part, name, plain))
            if getattr(part, "flatten_transform", False) is True:
                # skl2onnx refuses votes that flatten what `transform` returns; predictions do not depend on it.
                stack.enter_context(_replaced(part, "flatten_transform", False))
            if type(part).__name__ in ("VotingClassifier", "VotingRegressor") and isinstance(part.weights, (list, tuple)):
                # It sums weights as an array does.
                stack.enter_context(_replaced(part, "weights", np.asarray(part.weights)))
            if type(getattr(part, "intercept_", None)) is float:
                # Without intercepts it wants an array of them all the same.
                stack.enter_context(_replaced(part, "intercept_", np.full(len(np.atleast_2d(part.coef_)), part.intercept_)))
            if type(part).__name__ == "GradientBoostingClassifier" and isinstance(part.init, str):
                # It writes a single zero for several classes; asked for its first scores, the model says zero for each.
                stack.enter_context(_replaced(part, "init", None))
            texts = [value for value in getattr(part, "statistics_", ()) if isinstance(value, str)]
            if type(part).__name__ == "SimpleImputer" and texts and is_missing(part.missing_values):
                # Among texts it wants the text that is missing; see `texts_of`.
                stack.enter_context(_replaced(part, "missing_values", str(part.missing_values)))
        stack.enter_context(_zipmap_everywhere())
        stack.enter_context(_interpolating_calibration())
        stack.enter_context(_thresholds_of_missing_values())
        yield model


def _plain(value: Any) -> Any:
    """The same as skl2onnx knows it: what searches found and what is frozen without their wrappers, and pipelines of other kinds as
    scikit-learn's, of the steps that change rows which are predicted. The very value where nothing changes."""
    from sklearn.pipeline import Pipeline

    if is_frozen(value):
        return _plain(value.estimator)
    if type(value) in (list, tuple):
        plain = [_plain(part) for part in value]
        return value if all(new is old for new, old in zip(plain, value)) else type(value)(plain)
    if isinstance(value, Pipeline):
        steps = [(name, step) for name, step in value.steps if step not in (None, "passthrough") and not is_sampler(step)]
        if steps and (type(value) is not Pipeline or len(steps) < len(value.steps)):
            return Pipeline(steps)
    best = getattr(value, "__dict__", {}).get("best_estimator_")
    return value if best is None else _plain(best)


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextlib.contextmanager
def _zipmap_everywhere() -> Iterator[None]:
    """Classifiers whose converters know no `zipmap`, such as LinearSVC, write none; asking for none is no mistake."""
    from skl2onnx._supported_operators import sklearn_operator_name_map
    from skl2onnx.common import _registration
    from sklearn.base import ClassifierMixin

    pool = _registration._converter_pool
    names = {
        alias
        for kind, alias in sklearn_operator_name_map.items()
        if isinstance(kind, type) and issubclass(kind, ClassifierMixin) and alias in pool
    }
    with contextlib.ExitStack() as stack:
        for name in names:
            options = pool[name].get_allowed_options()
            if options is not None and "zipmap" not in options:
                stack.enter_context(_replaced(pool[name], "_options", {**options, "zipmap": [True, False]}))
        yield


@contextlib.contextmanager
def _interpolating_calibration() -> Iterator[None]:
    """skl2onnx takes the value at the nearest threshold of an isotonic calibration; scikit-learn interpolates between the two."""
    try:
        from skl2onnx.operator_converters import calibrated_classifier_cv as converter
    except ImportError:
        converter = None
    if not hasattr(converter, "_transform_isotonic"):
        # What it writes is compared with the model all the same.
        yield
        return
    with _replaced(converter, "_transform_isotonic", _isotonic):
        yield


@contextlib.contextmanager
def _thresholds_of_missing_values() -> Iterator[None]:
    """A tree that parts missing values from all others has an infinite threshold, whose neighbour in double precision skl2onnx looks
    for without an end."""
    from skl2onnx.common import tree_ensemble

    search = getattr(tree_ensemble, "sklearn_threshold", None)
    if search is None:
        yield
        return

    def threshold(value: Any, dtype: Any, mode: str) -> Any:
        return np.float64(value) if np.isinf(value) else search(value, dtype, mode)

    with _replaced(tree_ensemble, "sklearn_threshold", threshold):
        yield


def _isotonic(scope: Any, container: Any, model: Any, scores: str, k: int, dtype: Any, proto_type: int) -> str:
    """A piecewise linear function of a column of scores: each piece adds its rise times the share of it that lies below the score."""
    calibrator = model.calibrators[k]
    if not hasattr(calibrator, "X_thresholds_"):
        raise ExportError(
            f"the calibration `{model.method}` cannot be exported",
            where="CalibratedClassifierCV, parameter `method`",
            hint="use method='sigmoid' or method='isotonic'",
        )
    x = np.asarray(calibrator.X_thresholds_, dtype=dtype)
    y = np.asarray(calibrator.y_thresholds_, dtype=np.float64)
    writer = ContainerWriter(scope, container)
    column = writer.node("Reshape", [scores, writer.constant(np.array([-1, 1], dtype=np.int64))])
    if len(x) == 1:
        nothing = writer.node("Mul", [column, writer.constant(np.zeros(1, dtype=dtype))])
        return writer.node("Add", [nothing, writer.constant(y.astype(dtype))])
    # Thresholds that are equal in this precision leave a step.
    widths = np.maximum(np.diff(x), np.maximum(np.spacing(np.abs(x[:-1])), np.finfo(dtype).tiny))
    shares = writer.node("Div", [writer.node("Sub", [column, writer.constant(x[:-1])]), writer.constant(widths)])
    limits = [writer.constant(np.asarray(limit, dtype=dtype)) for limit in (0.0, 1.0)]
    within = writer.node("Clip", [shares, *limits])
    rises = writer.constant(np.diff(y).astype(dtype).reshape(-1, 1))
    return writer.node("Add", [writer.node("MatMul", [within, rises]), writer.constant(y[:1].astype(dtype))])
