"""The names of the classes that people give: refused where packaging would refuse them, with what the model has."""

from __future__ import annotations

from typing import Sequence

import onnx

from .errors import ExportError
from .families import Converted


def check_labels(given: Sequence[str], converted: Converted, *, answered: bool) -> None:
    """Refuses names that are not one per class, or that are others than the model's own texts.

    answered: something is done with the scores, so that one column may be the score of the second of two classes.
    """
    classes = converted.classes
    if converted.multilabel:
        raise ExportError(
            "the model's labels do not exclude each other, so they are no classes",
            where="labels",
            hint="leave `labels` out; the scores are a probability per label, in the order of y's columns",
        )
    if classes is not None and len(given) != len(classes):
        raise ExportError(
            f"{len(given)} labels are given, the model has {len(classes)} classes: {_listed(classes)}",
            where="labels",
            hint="list one label per class, in the order of the scores",
        )
    if classes is not None and any(isinstance(label, str) for label in classes) and list(given) != list(classes):
        raise ExportError(
            f"the labels {_listed(given)} are given, and the model itself calls its classes {_listed(classes)}, in this order",
            where="labels",
            hint="leave `labels` out, or list the same names in the same order",
        )
    for place, label in enumerate(given):
        if not label:
            raise ExportError(f"label {place} is empty", where="labels", hint="name the class")
        if label in given[:place]:
            raise ExportError(f"the label `{label}` is given twice", where="labels", hint="give each class its own name")
    if classes is None:
        _check_columns(len(given), converted.onnx, answered)


def _check_columns(count: int, model: onnx.ModelProto, answered: bool) -> None:
    widths = {output.name: _columns(output) for output in model.graph.output}
    fitting = {None, count} | ({1} if answered and count == 2 else set())
    if fitting.isdisjoint(widths.values()):
        found = ", ".join(f"`{name}` has {width}" for name, width in widths.items())
        raise ExportError(
            f"{count} labels are given, and no output of the model has {count} columns: {found}",
            where="labels",
            hint="list one label per score, in the order of the scores; leave `labels` out for a regressor",
        )


def _columns(output: onnx.ValueInfoProto) -> int | None:
    """How many numbers an output has per row, None where the file does not say."""
    if not output.type.HasField("tensor_type") or not output.type.tensor_type.HasField("shape"):
        return None
    sizes = output.type.tensor_type.shape.dim
    if len(sizes) < 2:
        return 1
    return int(sizes[-1].dim_value) or None


def _listed(labels: Sequence[object]) -> str:
    return ", ".join(str(label) for label in labels)
