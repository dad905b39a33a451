"""Comparing an export with the model, on rows of the training data.

A row that gets another answer must be explained: the library answers as the export does once the row's numbers are moved by what
single precision rounds away, as when a scaled value is the threshold of a tree. Any other difference refuses the export.
"""

from __future__ import annotations

import warnings
from typing import Any, Sequence

import numpy as np
import onnx

from . import families, running
from .errors import ExportError, ExportWarning
from .loading import KerasFile
from .manifest import label_text
from .running import Answers
from .sklearn_models import separate_columns
from .table import Table

# How many rows are compared with the library's own predictions.
CHECKED_ROWS = 200
# Answers differ when they are further apart than this, relative to how far the library's answers spread (at most 1), so that small
# numbers such as returns are compared as closely as probabilities.
CHECK_TOLERANCE = 1e-3
# What single precision loses of large answers that lie close together, and of answers that are all the same.
RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE = 2e-5, 1e-7
# Up to this share of different answers is what single precision does. Trees behind a scaler answer otherwise where a scaled value
# is a threshold, as it is for rows of the training data.
TREES_SHARE, OTHER_SHARE = 0.25, 0.01
# How far numbers are moved to explain a difference, in roundings of the column's greatest number: after one step, and after several.
ROUNDINGS = (4.0, 16.0)
# Combinations of moved columns that are tried where no column explains the difference alone.
COMBINATIONS = 24


def compare(model: Any, kind: str, converted: families.Converted, table: Table) -> None:
    """Compares the export with the library's own predictions, on rows in the precision that the export takes."""
    chosen = np.unique(np.linspace(0, table.rows - 1, min(CHECKED_ROWS, table.rows)).astype(int))
    double = _is_double(converted.onnx)
    exact = table.take(chosen)
    rows = exact if double else _rounded(exact)
    try:
        expected = _library(model, kind, rows)
    except Exception as error:
        _not_compared(f"the model does not predict rows of X: {first_line(error)}")
        return
    if expected is None:
        return
    try:
        outputs = running.run(converted.onnx, rows)
        got = Answers(None, _joined(outputs)) if kind == "keras" else running.answers(outputs)
    except ExportError:
        raise
    except Exception as error:
        _not_compared(f"it does not run here: {first_line(error)}")
        return
    spread = _spread(expected)
    distance = _distance(got, expected, spread)
    if distance is None:
        _not_compared("its answers have another form than the model's")
        return
    wrong = distance > 1.0
    # Rows that the export takes rounded, and answers as the model answers them rounded.
    changed = wrong if double else wrong | _changed_by_rounding(model, kind, exact, rows, got, spread)
    if not changed.any():
        return
    unexplained = wrong.copy()
    if wrong.any() and np.mean(wrong) <= (TREES_SHARE if _has_trees(converted.onnx) else OTHER_SHARE):
        unexplained[wrong] = ~_explained(model, kind, rows.take(np.flatnonzero(wrong)), _of(got, wrong), spread, double)
    if not unexplained.any():
        kept = not double and _agrees_in_double(model, kind, exact.take(np.flatnonzero(changed)), spread)
        warnings.warn(
            f"{_count(changed)}, because their values lie within rounding of where the model's answer changes"
            f"{'; double=True keeps them apart' if kept else ''}",
            ExportWarning,
            stacklevel=3,
        )
        return
    text = _count(wrong)
    worst = int(np.argmax(np.where(unexplained, distance, -1.0)))
    if not unexplained[wrong].all():
        text = f"{text}, {int(unexplained.sum())} of them not by rounding"
    raise ExportError(
        text,
        where=f"the worst is row {chosen[worst]} of X: {_shown(got, expected, worst)}, not {_shown(expected, expected, worst)}",
        hint=(
            "single precision is not enough for these rows, double precision is: double=True, or --double"
            if not double and _agrees_in_double(model, kind, exact.take(np.flatnonzero(wrong)), spread)
            else "the converter does not do what the library does; check=False exports nevertheless"
        ),
    )


def _count(rows: np.ndarray) -> str:
    return f"{int(rows.sum())} of {len(rows)} rows get another answer from the export than from the model"


def _changed_by_rounding(model: Any, kind: str, exact: Table, rounded: Table, got: Answers, spread: float) -> np.ndarray:
    """Which rows the library answers otherwise when their numbers are in double precision."""
    unchanged = np.zeros(exact.rows, dtype=bool)
    pairs = zip(exact.columns, rounded.columns)
    if all(before.dtype.kind != "f" or np.array_equal(before, after, equal_nan=True) for before, after in pairs):
        return unchanged
    try:
        expected = _library(model, kind, exact)
    except Exception:
        return unchanged
    distance = None if expected is None else _distance(got, expected, spread)
    return unchanged if distance is None else distance > 1.0


def _not_compared(why: str) -> None:
    warnings.warn(f"the export was not compared with the model, because {why}", ExportWarning, stacklevel=4)


def _distance(got: Answers, expected: Answers, spread: float) -> np.ndarray | None:
    """How far apart the answers are, row by row, in what is allowed; infinite where there is no distance. None when they cannot be
    compared."""
    if expected.scores is not None and got.scores is not None:
        theirs, ours = expected.scores, got.scores
        if theirs.shape[1] == 1 and ours.shape[1] == 2:
            # One probability stands for two classes.
            ours = ours[:, 1:]
        if theirs.shape != ours.shape:
            return np.full(len(theirs), np.inf)
        same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
        with np.errstate(all="ignore"):
            allowed = np.maximum(CHECK_TOLERANCE * spread, RELATIVE_TOLERANCE * np.abs(theirs) + ABSOLUTE_TOLERANCE)
            apart = np.where(same, 0.0, np.abs(ours - theirs) / allowed)
        apart = np.nan_to_num(apart, nan=np.inf).max(axis=1, initial=0.0)
        if theirs.shape[1] > 1 and expected.labels is not None and got.labels is not None and expected.labels.ndim == 1:
            first, second = np.sort(theirs, axis=1)[:, :-3:-1].T
            # Of classes that are equally probable, either may be answered.
            apart = np.where((first - second > CHECK_TOLERANCE) & _other_labels(got, expected), np.inf, apart)
        return apart
    if expected.labels is not None and got.labels is not None:
        return np.where(_other_labels(got, expected), np.inf, 0.0)
    return None


def _other_labels(got: Answers, expected: Answers) -> np.ndarray:
    """Which rows get another label."""
    ours, theirs = got.labels, expected.labels
    assert ours is not None and theirs is not None
    if len(ours) != len(theirs):
        return np.full(len(theirs), True)
    return np.array([label_text(a) != label_text(b) for a, b in zip(ours, theirs)], dtype=bool)


def _spread(answers: Answers) -> float:
    """How far the scores lie apart, at most 1."""
    if answers.scores is None:
        return 1.0
    finite = answers.scores[np.isfinite(answers.scores).all(axis=1)]
    return min(1.0, float(np.ptp(finite, axis=0).max(initial=0.0))) if len(finite) else 1.0


def _of(answers: Answers, rows: np.ndarray) -> Answers:
    """The answers for some of the rows, or as many as there are."""
    parts = [None if part is None else part[rows] if len(part) == len(rows) else part for part in (answers.labels, answers.scores)]
    return Answers(*parts)


def _shown(answers: Answers, compared: Answers, row: int) -> str:
    """What was compared: scores and labels where both have them."""
    part = answers.labels if compared.scores is None or answers.scores is None else answers.scores
    if part is None or row >= len(part):
        return "no answer"
    if part is answers.scores and answers.labels is not None and answers.labels.ndim == 1:
        return f"`{label_text(answers.labels[row])}` with {_numbers(part[row])}"
    return _numbers(part[row]) if part.ndim == 2 else f"`{label_text(part[row])}`"


def _numbers(values: np.ndarray) -> str:
    return "[" + ", ".join(f"{value:.6g}" for value in values) + "]"


def _explained(model: Any, kind: str, rows: Table, got: Answers, spread: float, double: bool) -> np.ndarray:
    """Which rows the library answers as the export does once their numbers are moved by some roundings: column after column, keeping
    what comes nearer, and then columns together."""
    best = np.full(rows.rows, np.inf)
    numeric = [index for index, column in enumerate(rows.columns) if column.dtype.kind == "f"]
    if not numeric:
        return np.zeros(rows.rows, dtype=bool)
    precision = float(np.finfo(np.float64 if double else np.float32).eps)

    def nearer(columns: list[np.ndarray], than: np.ndarray) -> np.ndarray:
        try:
            expected = _library(model, kind, Table(rows.names, columns))
        except Exception:
            return than
        distance = None if expected is None else _distance(got, expected, spread)
        return than if distance is None else np.minimum(than, distance)

    rng = np.random.default_rng(0)
    for roundings in ROUNDINGS:
        steps = {index: roundings * precision * _greatest(rows.columns[index]) for index in numeric}
        columns = [column.astype(np.float64) if column.dtype.kind == "f" else column for column in rows.columns]
        current = nearer(columns, np.full(rows.rows, np.inf))
        for index in numeric:
            for sign in (1.0, -1.0):
                moved = list(columns)
                moved[index] = columns[index] + sign * steps[index]
                after = nearer(moved, current)
                columns[index] = np.where(after < current, moved[index], columns[index])
                current = after
        best = np.minimum(best, current)
        for _ in range(COMBINATIONS):
            if (best <= 1.0).all():
                break
            moved = list(rows.columns)
            for index in numeric:
                moved[index] = rows.columns[index].astype(np.float64) + rng.integers(-1, 2, rows.rows) * steps[index]
            best = nearer(moved, best)
    return best <= 1.0


def _greatest(column: np.ndarray) -> float:
    finite = np.abs(column[np.isfinite(column)])
    return float(finite.max()) if finite.size else 0.0


def _agrees_in_double(model: Any, kind: str, rows: Table, spread: float) -> bool:
    """Whether an export in double precision would answer these rows as the library does."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            converted = families.convert(model, rows, double=True, binary=False)
            expected = _library(model, kind, rows)
            if expected is None:
                return False
            distance = _distance(running.answers(running.run(converted.onnx, rows)), expected, spread)
    except Exception:
        return False
    return distance is not None and bool((distance <= 1.0).all())


def first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _has_trees(model: onnx.ModelProto) -> bool:
    return any(node.op_type.startswith("TreeEnsemble") for node in model.graph.node)


def _is_double(model: onnx.ModelProto) -> bool:
    return any(value.type.tensor_type.elem_type == onnx.TensorProto.DOUBLE for value in model.graph.input)


def _rounded(table: Table) -> Table:
    """Numbers in single precision, in arrays of their own kind. Integers stay: those beyond it are other categories to the export."""
    array = None if table.array is None else table.array.astype(np.float32)
    columns = [
        column.astype(np.float32).astype(column.dtype) if column.dtype.kind == "f" else column for column in table.columns
    ]
    return Table(table.names, columns, array)


def _library(model: Any, kind: str, table: Table) -> Answers | None:
    """The library's own predictions."""
    if kind == "onnx" or isinstance(model, KerasFile):
        return None
    if kind == "keras":
        if not hasattr(model, "predict") or len(model.inputs) != 1:
            return None
        rank = len(model.inputs[0].shape)
        rows = table.matrix(np.float32)
        if rows.ndim != rank:
            return None
        predicted = model.predict(rows, verbose=0)
        if isinstance(predicted, dict):
            # Some backends sort them by name.
            predicted = [predicted[name] for name in model.get_config()["output_layers"]]
        return Answers(None, _joined(predicted if isinstance(predicted, (list, tuple)) else [predicted]))
    if kind == "xgboost" and not hasattr(model, "get_booster"):
        import xgboost

        from .xgboost_models import iterations

        rows = xgboost.DMatrix(table.matrix(np.float32), feature_names=model.feature_names)
        return _raw(model.predict(rows, iteration_range=(0, iterations(model) or 0)))
    if kind == "lightgbm" and not hasattr(model, "booster_"):
        return _raw(model.predict(table.matrix()))
    rows = _rows_for(model, table)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if families.attribute(model, "predict_proba") is not None:
            scores = model.predict_proba(rows)
            if isinstance(scores, list) or np.ndim(scores) != 2:
                return None
            return Answers(np.asarray(model.predict(rows)), np.asarray(scores, dtype=np.float64))
        if families.attribute(model, "predict") is None:
            return None
        predicted = np.asarray(model.predict(rows))
    if families.attribute(model, "classes_") is not None or predicted.dtype.kind not in "f":
        return Answers(predicted, None) if predicted.ndim == 1 else None
    return Answers(None, predicted.astype(np.float64).reshape(len(predicted), -1))


def _joined(outputs: Sequence[np.ndarray]) -> np.ndarray:
    """The numbers of all outputs, a line per row."""
    return np.column_stack([np.asarray(output, dtype=np.float64).reshape(len(output), -1) for output in outputs])


def _raw(values: np.ndarray) -> Answers:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim == 1:
        # One probability of the second class, or one target; the comparison takes what has the export's shape.
        return Answers(None, values.reshape(-1, 1))
    return Answers(None, values)


def _rows_for(model: Any, table: Table) -> Any:
    """Rows in the form that the model was trained on."""
    if len(table.columns) == 1 and table.columns[0].dtype.kind == "O" and not separate_by_name(model):
        return list(table.columns[0])
    if separate_columns(model, table) or families.attribute(model, "feature_names_in_") is not None:
        try:
            import pandas
        except ImportError:
            pass
        else:
            # Of arrays of texts, pandas would make NaN of None, which is another category.
            return pandas.DataFrame(
                {table.name(index): pandas.Series(column, dtype=column.dtype) for index, column in enumerate(table.columns)}
            )
    if table.is_numeric:
        kinds = {column.dtype for column in table.columns}
        return table.matrix(np.float32 if kinds == {np.dtype(np.float32)} else np.float64)
    return np.column_stack([column.astype(object) for column in table.columns])


def separate_by_name(model: Any) -> bool:
    return families.attribute(model, "feature_names_in_") is not None
