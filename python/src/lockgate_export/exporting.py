"""From a fitted model to an ONNX file and a manifest: the steps, in order."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np
import onnx

from . import answers as beside
from . import families, metrics as figures, running
from .checking import compare, first_line
from .errors import ExportError, ExportWarning
from .kinds import as_trained
from .labels import check_labels
from .loading import load
from .manifest import Manifest, label_text
from .parts import is_frozen
from .table import Table, as_table, is_missing

MOST_BACKGROUND = 1000


@dataclass
class Exported:
    """An ONNX model and the manifest beside it."""

    onnx: onnx.ModelProto
    manifest: Manifest

    def save(self, folder: str | Path) -> tuple[Path, Path]:
        """Writes `NAME.onnx` and `NAME.yaml` into a folder, and returns where they are."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        model, manifest = folder / f"{self.manifest.model}.onnx", folder / f"{self.manifest.model}.yaml"
        model.write_bytes(self.onnx.SerializeToString(deterministic=True))
        manifest.write_text(self.manifest.to_yaml(), encoding="utf-8")
        return model, manifest


def export(
    model: Any,
    X: Any = None,
    y: Any = None,
    *,
    name: str | None = None,
    version: str = "0.1.0",
    description: str = "",
    feature_names: Sequence[str] | None = None,
    labels: Sequence[Any] | None = None,
    feature_version: str | None = None,
    scope: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
    X_test: Any = None,
    y_test: Any = None,
    scaler: Any = None,
    calibrator: Any = None,
    threshold: float | None = None,
    thresholds: Mapping[Any, float] | None = None,
    otherwise: Any = None,
    answer_labels: str | None = None,
    confidence: bool | None = None,
    background: Any = None,
    seed: int = 0,
    accepts_missing: bool | None = None,
    double: bool = False,
    check: bool = True,
) -> Exported:
    """Turns a fitted model, or a model file, into ONNX and a manifest.

    X: rows of the training data: they name the columns, give their ranges, and are what the export is compared on.
    y: the target; tells a Keras model with one sigmoid output from a regressor.
    labels: names of the classes, in the order of the scores.
    metrics: figures to write down; with X_test and y_test, some are computed.
    scaler: a scaler that was fitted separately and that the model expects its rows to have gone through.
    calibrator: fitted on held-out scores of the model: one for the second of two classes, or one per class.
    threshold: of the second of two classes; thresholds: by class, with the class that is answered `otherwise`.
    background: how many rows of X to write down for interventional contributions, or the rows themselves.
    double: the inputs are in double precision.
    check: compare the export with the model on rows of X.

    Raises ExportError, which says what, where and what to do.
    """
    loaded_from = None
    if isinstance(model, (str, Path)):
        loaded_from = Path(model)
        loaded = load(loaded_from)
        model = loaded.model
        scaler = loaded.scaler if scaler is None else scaler
    elif isinstance(model, bytes):
        model = onnx.load_from_string(model)
    model, found, positive = beside.threshold_of(_best(model))
    model = _best(model)

    table = None if X is None else _named(as_table(X), feature_names)
    kind = families.family(model)
    table = _expected_columns(model, kind, table)
    converted = families.convert(model, table, double=double, binary=_is_binary(labels, y))
    table = _fitting(table, converted, feature_names)
    classes = converted.classes
    given = None if labels is None else [label_text(label) for label in labels]
    if given is not None:
        answered = any(value is not None for value in (calibrator, threshold, thresholds, answer_labels, confidence))
        check_labels(given, converted, answered=answered)
    if classes is None and given is not None:
        classes = given
    native = None if classes is None else [label_text(label) for label in classes]
    shown = given if given is not None else native
    if given is None and getattr(families.attribute(model, "classes_"), "dtype", None) == bool:
        shown = ["False", "True"]
    if kind == "keras" and given is None and native is not None and y is not None and _texts(y):
        raise ExportError(
            "y holds texts, and the model's classes are numbers",
            where="labels",
            hint="give the names in the order of the model's outputs, such as labels=['down', 'flat', 'up']",
        )

    if threshold is None and found is not None:
        threshold = found
        if native is not None and label_text(positive) != native[-1]:
            # The first class from `found` on is the second one from just above the rest on.
            threshold = float(np.nextafter(np.float32(1.0 - found), np.float32(2.0)))
    manifest = Manifest(
        model=name or _default_name(loaded_from, model),
        version=str(version),
        description=description,
        labels=_manifest_labels(native, shown),
        features=_features(table, converted),
        feature_version=None if feature_version is None else str(feature_version),
        scope=dict(scope or {}),
        accepts_missing=_accepts_missing(table, accepts_missing),
    )
    if scaler is not None:
        manifest.scaler = beside.scaler_entry(scaler, converted.features or (table.width if table is not None else None))
    manifest.answer = _answer(shown, native, calibrator, threshold, thresholds, otherwise, answer_labels, confidence)
    manifest.background = _background(background, table, seed)
    _describe(converted.onnx, manifest)

    if check and table is not None:
        compare(model, kind, converted, table)
    if table is not None:
        _say_what_missing_texts_are(table)
    manifest.metrics = dict(_measured(converted, manifest, native, X_test, y_test, feature_names, model, kind))
    manifest.metrics.update({key: float(value) for key, value in (metrics or {}).items()})
    manifest.check()
    return Exported(converted.onnx, manifest)


# What is exported


def _best(model: Any) -> Any:
    """The model that a search found, and the one that was frozen."""
    for _ in range(4):
        best = model.estimator if is_frozen(model) else getattr(model, "best_estimator_", None)
        if best is None:
            return model
        model = best
    return model


def _is_binary(labels: Any, y: Any) -> bool:
    if labels is not None:
        return len(labels) == 2
    if y is None:
        return False
    values = np.asarray(y)
    return values.ndim == 1 and values.size > 0 and values.dtype.kind in "iubfOU" and len(set(values.tolist())) <= 2


def _texts(y: Any) -> bool:
    values = np.asarray(y)
    return values.size > 0 and isinstance(values.ravel().tolist()[0], str)


def _default_name(path: Path | None, model: Any) -> str:
    if path is not None:
        base = path.stem
    elif isinstance(model, onnx.ModelProto):
        base = model.graph.name or "model"
    else:
        base = type(model).__name__
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", base).strip("_") or "model"


def _manifest_labels(native: list[str] | None, shown: list[str] | None) -> list[str]:
    return list(shown or native or [])


def _describe(model: onnx.ModelProto, manifest: Manifest) -> None:
    """Says in the ONNX file which model it is, for whoever finds it alone."""
    if model.producer_name in ("lockgate-export", "skl2onnx"):
        model.graph.name = manifest.model


# Columns


def _named(table: Table, names: Sequence[str] | None) -> Table:
    if names is None:
        return table
    names = [str(name) for name in names]
    if table.names is not None and len(names) != table.width:
        return table.select(names)
    if len(names) != table.width:
        raise ExportError(f"{len(names)} names are given, X has {table.width} columns", where="feature_names")
    return replace(table, names=names)


def _expected_columns(model: Any, kind: str, table: Table | None) -> Table | None:
    """The columns that the model was trained on, in its order and of their kinds."""
    if table is None or table.array is not None:
        return table
    ordered = _in_order(model, kind, table)
    return as_trained(model, ordered) if kind == "sklearn" else ordered


def _in_order(model: Any, kind: str, table: Table) -> Table:
    names = families.column_names(model, kind) if kind in ("sklearn", "xgboost", "lightgbm") else None
    if names is not None and table.names is not None and set(names) <= set(table.names):
        return table.select(names)
    if names is not None and table.names is not None and table.width != len(names):
        return table.select(names)
    if names is not None and len(names) == table.width:
        return replace(table, names=table.names or names)
    return table


def _fitting(table: Table | None, converted: families.Converted, names: Sequence[str] | None) -> Table | None:
    if table is None:
        if names is not None:
            converted.names = [str(name) for name in names]
            if converted.features is not None and len(names) != converted.features:
                raise ExportError(
                    f"{len(names)} names are given, the model takes {converted.features} columns", where="feature_names"
                )
        return None
    if converted.features is not None and table.width != converted.features:
        raise ExportError(
            f"X has {table.width} columns, the model takes {converted.features}",
            where="X",
            hint="give the columns that the model was trained on, without the target",
        )
    return table


def _features(table: Table | None, converted: families.Converted) -> list[dict[str, Any]]:
    """Names, and the ranges seen in the data; else those that the model knows by itself."""
    if table is None:
        count = converted.features
        if converted.names is None and (count is None or not converted.ranges):
            return []
        names = converted.names or [f"x{index}" for index in range(count or 0)]
        ranges = converted.ranges
        return [_feature(name, *ranges[name]) if name in ranges else {"name": name} for name in names]
    features = []
    for index in range(table.width):
        column = table.array[..., index] if table.array is not None else table.columns[index]
        if column.dtype.kind not in "fiub":
            features.append({"name": table.name(index)})
            continue
        values = column.astype(np.float64)
        values = values[np.isfinite(values)]
        features.append(_feature(table.name(index), values.min(), values.max()) if values.size else {"name": table.name(index)})
    return features


def _feature(name: str, low: float, high: float) -> dict[str, Any]:
    return {"name": name, "min": float(low), "max": float(high)}


def _accepts_missing(table: Table | None, given: bool | None) -> bool | None:
    if given is not None or table is None:
        return given
    columns = [table.array] if table.array is not None else table.columns
    return True if any(column.dtype.kind == "f" and np.isnan(column).any() for column in columns) else None


def _say_what_missing_texts_are(table: Table) -> None:
    for index, column in enumerate(table.columns):
        missing = [value for value in column if is_missing(value)] if column.dtype.kind == "O" else []
        if missing:
            warnings.warn(
                f"column `{table.name(index)}` has missing values, which the export takes as the text `{missing[0]}`; an empty text is "
                "another category",
                ExportWarning,
                stacklevel=3,
            )


def _background(background: Any, table: Table | None, seed: int) -> list[list[float | None]]:
    if background is None or (isinstance(background, (int, np.integer)) and background == 0):
        return []
    if isinstance(background, (int, np.integer)):
        if table is None:
            raise ExportError("rows are to be chosen, and there are none", where="background", hint="give X")
        count = int(background)
        if not 0 < count <= MOST_BACKGROUND:
            raise ExportError(f"{count} rows", where="background", hint=f"1 to {MOST_BACKGROUND} rows")
        chosen = np.random.default_rng(seed).choice(table.rows, size=min(count, table.rows), replace=False)
        rows = table.take(np.sort(chosen))
    else:
        rows = as_table(background)
        if rows.rows > MOST_BACKGROUND:
            raise ExportError(f"{rows.rows} rows", where="background", hint=f"1 to {MOST_BACKGROUND} rows")
        if table is not None and rows.width != table.width:
            raise ExportError(f"its rows have {rows.width} columns, X has {table.width}", where="background")
    if rows.array is not None:
        raise ExportError("rows of several dimensions cannot be a background", where="background", hint="leave it out")
    # A missing value is null.
    return [[float(value) if np.isfinite(value) else None for value in row] for row in rows.matrix()]


# Answers


def _answer(
    labels: list[str] | None,
    native: list[str] | None,
    calibrator: Any,
    threshold: float | None,
    thresholds: Mapping[Any, float] | None,
    otherwise: Any,
    answer_labels: str | None,
    confidence: bool | None,
) -> dict[str, Any]:
    wanted = [calibrator, threshold, thresholds, otherwise, answer_labels, confidence]
    if all(value is None for value in wanted):
        return {}
    if labels is None:
        raise ExportError(
            "the model has no classes, so its answers have no labels, thresholds or calibration",
            hint="give the labels, in the order of the scores, if it is a classifier",
        )
    answer: dict[str, Any] = {}
    if answer_labels is not None:
        if answer_labels not in ("names", "integers"):
            raise ExportError(f"{answer_labels!r}", where="answer_labels", hint="expected names or integers")
        answer["labels"] = answer_labels
    if confidence is not None:
        answer["confidence"] = bool(confidence)
    if calibrator is not None:
        entry = beside.calibration_entry(calibrator, labels)
        if "per_class" not in entry and len(labels) != 2:
            raise ExportError(
                f"one calibrator for {len(labels)} classes", where="calibrator", hint="give one per class, as a list"
            )
        answer["calibration"] = entry
    if threshold is not None and thresholds is not None:
        raise ExportError("threshold and thresholds are both given", hint="give one of them")
    if threshold is not None:
        if len(labels) != 2:
            raise ExportError(
                f"one threshold for {len(labels)} classes", where="threshold", hint="give thresholds={label: …} and otherwise"
            )
        answer["threshold"] = _share(threshold, "threshold")
    if thresholds is not None:
        names = dict(zip(native or labels, labels))
        entries = {names.get(label_text(label), label_text(label)): _share(value, f"thresholds[{label}]") for label, value in thresholds.items()}
        if otherwise is None:
            raise ExportError("no class is named for rows that reach no threshold", where="thresholds", hint="give otherwise")
        rest = names.get(label_text(otherwise), label_text(otherwise))
        for label in [*entries, rest]:
            if label not in labels:
                raise ExportError(f"there is no class `{label}`", where="thresholds", hint=f"the classes are {', '.join(labels)}")
        answer["thresholds"] = entries
        answer["otherwise"] = rest
    elif otherwise is not None:
        raise ExportError("otherwise needs thresholds", hint="give thresholds={label: …}")
    return answer


def _share(value: Any, where: str) -> float:
    value = float(value)
    if not 0.0 <= value <= 1.0:
        raise ExportError(f"{value} is no probability", where=where, hint="between 0 and 1")
    return value


# Measuring


def _measured(
    converted: families.Converted,
    manifest: Manifest,
    native: list[str] | None,
    X_test: Any,
    y_test: Any,
    names: Sequence[str] | None,
    model: Any,
    kind: str,
) -> dict[str, float]:
    """Metrics of the whole on test rows: scaler, model, calibration and threshold."""
    if X_test is None and y_test is None:
        return {}
    if X_test is None or y_test is None:
        raise ExportError("metrics need both X_test and y_test", hint="give both, or neither")
    table = _expected_columns(model, kind, _named(as_table(X_test), names))
    assert table is not None
    truth = np.asarray(y_test)
    if len(truth) != table.rows:
        raise ExportError(f"X_test has {table.rows} rows, y_test {len(truth)}")
    if manifest.scaler is not None:
        scaled = beside.apply_scaler(manifest.scaler, table.matrix())
        table = as_table(scaled)
    try:
        got = running.answers(running.run(converted.onnx, table))
    except ExportError:
        raise
    except Exception as error:
        raise ExportError(
            f"the export does not run here: {first_line(error)}", where="metrics", hint="leave X_test and y_test out, and pass `metrics` in"
        ) from error
    if native is None:
        if got.scores is None:
            raise ExportError("the model's answers are neither classes nor numbers", where="metrics", hint="pass `metrics` in")
        return figures.regression(truth, got.scores)
    if got.scores is None or got.scores.shape[1] != len(native):
        raise ExportError(
            "the model gives no probability per class", where="metrics", hint="compute them yourself and pass `metrics` in"
        )
    if truth.ndim == 2 and truth.shape[1] == len(native):
        truth = np.array(native, dtype=object)[truth.argmax(axis=1)]
    truth = np.array([label_text(label) for label in truth.ravel()], dtype=object)
    # The target may also be in the names that were given, or number the classes.
    numbers = [str(index) for index in range(len(native))]
    for names in (manifest.labels, numbers):
        if not set(truth) <= set(native) and set(truth) <= set(names):
            truth = np.array([native[names.index(label)] for label in truth], dtype=object)
    scores = got.scores
    answer = manifest.answer
    if "calibration" in answer:
        scores = beside.apply_calibration(answer["calibration"], scores)
    predicted = np.array(native, dtype=object)[scores.argmax(axis=1)]
    if "calibration" not in answer and got.labels is not None:
        predicted = np.array([label_text(label) for label in got.labels], dtype=object)
    if "threshold" in answer:
        predicted = np.where(scores[:, 1] >= answer["threshold"], native[1], native[0])
    elif "thresholds" in answer:
        predicted = _by_thresholds(scores, answer, manifest.labels, native)
    return figures.classification(truth, scores, predicted, native)


def _by_thresholds(scores: np.ndarray, answer: dict[str, Any], labels: list[str], native: list[str]) -> np.ndarray:
    """The class with the greatest probability among those that reach their thresholds, which are 0 where none is given."""
    limits = np.array([answer["thresholds"].get(label, 0.0) for label in labels])
    reached = np.where(scores >= limits, scores, -1.0)
    best = reached.argmax(axis=1)
    rest = labels.index(answer["otherwise"])
    chosen = np.where(reached.max(axis=1) >= 0.0, best, rest)
    return np.array(native, dtype=object)[chosen]
