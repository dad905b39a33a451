"""What stands beside a model: a scaler that was fitted separately, calibration, thresholds. From fitted objects to manifest keys,
and what they do to numbers, so that metrics are those of the whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Sequence

import numpy as np

from .errors import ExportError

SCALER_HINT = "use StandardScaler, MinMaxScaler, MaxAbsScaler or RobustScaler, or scale inside the model"


def scaler_entry(scaler: Any, width: int | None) -> dict[str, Any]:
    """The manifest's `scaler` for a fitted scaler, or for the mapping that a JSON file holds."""
    if isinstance(scaler, (str, Path)):
        scaler = json.loads(Path(scaler).read_text(encoding="utf-8"))
    entry = _mapping_scaler(scaler) if isinstance(scaler, dict) else _fitted_scaler(scaler)
    lengths = {len(value) for value in entry.values() if isinstance(value, list)}
    if width is not None and lengths and lengths != {width}:
        raise ExportError(
            f"the scaler was fitted on {max(lengths)} columns, the model takes {width}",
            where="scaler",
            hint="fit it on rows with the model's columns (of a sequence: on its last dimension)",
        )
    return entry


def _fitted_scaler(scaler: Any) -> dict[str, Any]:
    steps = getattr(scaler, "steps", None)
    if steps is not None:
        parts = [part for _, part in steps if part not in (None, "passthrough")]
        if len(parts) != 1:
            raise ExportError(f"the scaler is a pipeline of {len(parts)} steps", where="scaler", hint=SCALER_HINT)
        scaler = parts[0]
    kind = type(scaler).__name__
    if kind not in ("StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler"):
        raise ExportError(f"{kind} cannot stand beside a model", where="scaler", hint=SCALER_HINT)
    if getattr(scaler, "clip", False):
        raise ExportError(
            f"{kind} with clip=True does more than scale", where="scaler", hint="fit it with clip=False, or put it into a Pipeline"
        )
    if not hasattr(scaler, "scale_"):
        raise ExportError(f"the {kind} is not fitted", where="scaler", hint="fit it on the training data")
    scale = _list(scaler.scale_)
    if kind == "StandardScaler":
        return {"kind": "standard", "mean": _list(scaler.mean_) if scaler.with_mean else None, "scale": scale}
    if kind == "MinMaxScaler":
        return {"kind": "min_max", "min": _list(scaler.min_), "scale": scale}
    if kind == "MaxAbsScaler":
        return {"kind": "standard", "mean": None, "scale": scale}
    return {"kind": "robust", "center": _list(scaler.center_), "scale": scale}


def _mapping_scaler(mapping: dict[str, Any]) -> dict[str, Any]:
    kind = mapping.get("kind")
    keys = {
        "standard": {"mean", "scale"},
        "min_max": {"min", "scale", "data_min", "data_max", "feature_range"},
        "robust": {"center", "scale"},
    }
    if kind not in keys:
        raise ExportError(f"the scaler's kind is {kind!r}", where="scaler", hint="expected standard, min_max or robust")
    entry: dict[str, Any] = {"kind": kind}
    for key, value in mapping.items():
        name = key.rstrip("_")
        if name == "kind":
            continue
        if name not in keys[kind]:
            raise ExportError(
                f"a {kind} scaler has no `{key}`", where="scaler", hint=f"expected {', '.join(sorted(keys[kind]))}"
            )
        entry[name] = value
    if kind == "min_max" and "scale" not in entry:
        if not {"data_min", "data_max"} <= set(entry):
            raise ExportError("a min_max scaler needs min and scale, or data_min and data_max", where="scaler")
        low, high = entry.get("feature_range") or (0.0, 1.0)
        span = np.asarray(entry["data_max"], dtype=float) - np.asarray(entry["data_min"], dtype=float)
        scale = (high - low) / np.where(span == 0.0, 1.0, span)
        return {"kind": kind, "min": _list(low - np.asarray(entry["data_min"]) * scale), "scale": _list(scale)}
    return entry


def apply_scaler(entry: dict[str, Any], rows: np.ndarray) -> np.ndarray:
    """What the scaler does, on the last dimension."""
    wide = rows.astype(np.float64)
    if entry["kind"] == "min_max":
        return wide * np.asarray(entry["scale"]) + np.asarray(entry["min"])
    offset = entry.get("mean") if entry["kind"] == "standard" else entry.get("center")
    if offset is not None:
        wide = wide - np.asarray(offset)
    if entry.get("scale") is not None:
        wide = wide / np.asarray(entry["scale"])
    return wide


def calibration_entry(calibrator: Any, labels: Sequence[str]) -> dict[str, Any]:
    """The manifest's `answer.calibration` for a fitted calibrator, or for one per class (a list, or a mapping of labels)."""
    if isinstance(calibrator, dict) and "method" not in calibrator and "per_class" not in calibrator:
        names = {str(label): part for label, part in calibrator.items()}
        unknown = sorted(set(names) ^ set(labels))
        if unknown:
            raise ExportError(
                f"the calibrators are for {', '.join(names)}, the classes are {', '.join(labels)}",
                where="calibrator",
                hint="give one per class",
            )
        calibrator = [names[label] for label in labels]
    if isinstance(calibrator, dict):
        return calibrator
    if isinstance(calibrator, (list, tuple)):
        if len(calibrator) != len(labels):
            raise ExportError(
                f"{len(calibrator)} calibrators for {len(labels)} classes", where="calibrator", hint="give one per class"
            )
        return {"per_class": [_calibration(part) for part in calibrator]}
    return _calibration(calibrator)


def _calibration(calibrator: Any) -> dict[str, Any]:
    kind = type(calibrator).__name__
    if isinstance(calibrator, dict):
        return calibrator
    if kind == "IsotonicRegression":
        if not hasattr(calibrator, "X_thresholds_"):
            raise ExportError("the IsotonicRegression is not fitted", where="calibrator", hint="fit it on held-out scores")
        if calibrator.out_of_bounds != "clip":
            raise ExportError(
                f"the IsotonicRegression has no answer outside the scores that it saw (out_of_bounds={calibrator.out_of_bounds!r})",
                where="calibrator",
                hint="fit it with out_of_bounds='clip'",
            )
        return {"method": "isotonic", "x": _list(calibrator.X_thresholds_), "y": _list(calibrator.y_thresholds_)}
    if kind == "_SigmoidCalibration":
        return {"method": "sigmoid", "a": float(calibrator.a_), "b": float(calibrator.b_)}
    if kind == "LogisticRegression":
        coefficients = np.asarray(getattr(calibrator, "coef_", np.zeros((0, 0))))
        if coefficients.shape != (1, 1):
            raise ExportError(
                f"the LogisticRegression has coefficients of shape {coefficients.shape}",
                where="calibrator",
                hint="fit it on one column, the score of the second class, and two classes",
            )
        return {"method": "sigmoid", "a": -float(coefficients[0, 0]), "b": -float(np.ravel(calibrator.intercept_)[0])}
    raise ExportError(
        f"{kind} is no calibrator that the manifest can carry",
        where="calibrator",
        hint="use IsotonicRegression or LogisticRegression on the scores; a CalibratedClassifierCV is exported as a model",
    )


def apply_calibration(entry: dict[str, Any], scores: np.ndarray) -> np.ndarray:
    """Calibrated probabilities of each class, from the model's."""
    if "per_class" in entry:
        columns = [_apply_one(part, scores[:, index]) for index, part in enumerate(entry["per_class"])]
        together = np.column_stack(columns)
        total = together.sum(axis=1, keepdims=True)
        return np.where(total > 0, together / np.where(total > 0, total, 1.0), 1.0 / together.shape[1])
    second = _apply_one(entry, scores[:, -1])
    return np.column_stack([1.0 - second, second])


def _apply_one(entry: dict[str, Any], scores: np.ndarray) -> np.ndarray:
    if entry["method"] == "sigmoid":
        return 1.0 / (1.0 + np.exp(entry["a"] * scores + entry["b"]))
    return np.interp(scores, entry["x"], entry["y"])


def threshold_of(model: Any) -> tuple[Any, float | None, Any]:
    """Takes the threshold off a TunedThresholdClassifierCV or FixedThresholdClassifier, which may end a pipeline: the model inside,
    the threshold, and the class that it is for."""
    steps = getattr(model, "steps", None)
    if steps:
        inner, threshold, positive = threshold_of(steps[-1][1])
        if threshold is None:
            return model, None, None
        return type(model)([*steps[:-1], (steps[-1][0], inner)]), threshold, positive
    kind = type(model).__name__
    if kind not in ("TunedThresholdClassifierCV", "FixedThresholdClassifier"):
        return model, None, None
    inner = model.estimator_
    if kind == "TunedThresholdClassifierCV":
        threshold: Any = model.best_threshold_
    else:
        threshold = model.threshold
    response = model.response_method
    if response == "auto":
        response = "predict_proba" if hasattr(inner, "predict_proba") else "decision_function"
    if response != "predict_proba":
        raise ExportError(
            f"the threshold is on {response}",
            where=kind,
            hint="use response_method='predict_proba'",
        )
    threshold = 0.5 if threshold == "auto" else float(threshold)
    positive = getattr(model, "pos_label", None)
    return inner, threshold, inner.classes_[-1] if positive is None else positive


def _list(values: Any) -> list[float] | None:
    return None if values is None else [float(value) for value in np.ravel(values)]
