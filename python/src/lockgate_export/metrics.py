"""Metrics of the whole: the exported model with its scaler, calibration and threshold, on rows that it was not trained on."""

from __future__ import annotations

from typing import Sequence

import numpy as np

from .errors import ExportError

# How far outside of 0 to 1 single precision puts a probability.
ROUNDING = 1e-5


def classification(truth: np.ndarray, scores: np.ndarray, predicted: np.ndarray, labels: Sequence[str]) -> dict[str, float]:
    """Accuracy, logarithmic loss (of probabilities, not of log-odds or distances), and the area under the ROC curve (for more than
    two classes: one against the rest, averaged)."""
    truth = np.array([str(label) for label in truth], dtype=object)
    unknown = sorted(set(truth) - set(labels))
    if unknown:
        raise ExportError(
            f"the test data have the label `{unknown[0]}`, the model has {', '.join(labels)}",
            hint="give y in the labels that the model was trained with",
        )
    index = {label: place for place, label in enumerate(labels)}
    true = np.array([index[label] for label in truth])
    figures = {
        "rows": float(len(true)),
        "accuracy": float(np.mean(truth == np.array([str(label) for label in predicted], dtype=object))),
    }
    if np.all((scores >= -ROUNDING) & (scores <= 1.0 + ROUNDING)):
        chosen = np.clip(scores[np.arange(len(true)), true], 1e-15, 1.0)
        total = np.clip(scores.sum(axis=1), 1e-15, None)
        figures["log_loss"] = float(-np.mean(np.log(chosen / total)))
    classes = [len(labels) - 1] if len(labels) == 2 else range(len(labels))
    areas = [area for area in (_area(true == place, scores[:, place]) for place in classes) if area is not None]
    if len(areas) == len(list(classes)):
        figures["roc_auc"] = float(np.mean(areas))
    return figures


def regression(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Root of the mean squared error, mean absolute error, and the share of variance explained."""
    truth = np.asarray(truth, dtype=np.float64).reshape(len(truth), -1)
    predicted = predicted.reshape(len(predicted), -1)
    if truth.shape != predicted.shape:
        raise ExportError(f"y has the shape {truth.shape}, the model's answers {predicted.shape}")
    errors = predicted - truth
    figures = {
        "rows": float(len(truth)),
        "rmse": float(np.sqrt(np.mean(errors**2))),
        "mae": float(np.mean(np.abs(errors))),
    }
    variance = np.sum((truth - truth.mean(axis=0)) ** 2, axis=0)
    if np.all(variance > 0):
        figures["r2"] = float(np.mean(1.0 - np.sum(errors**2, axis=0) / variance))
    return figures


def _area(positive: np.ndarray, scores: np.ndarray) -> float | None:
    """The probability that a positive row has the higher score, ties counted half; None without rows of both kinds."""
    count = int(positive.sum())
    if count in (0, len(positive)):
        return None
    values, places, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(sizes) - (sizes - 1) / 2.0
    total = ranks[places][positive].sum()
    return float((total - count * (count + 1) / 2.0) / (count * (len(positive) - count)))
