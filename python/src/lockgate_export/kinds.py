"""Which kind a column of a text file is, by the categories that the model's encoders were fitted on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Sequence

import numpy as np

from .parts import is_sampler, walk
from .table import Table, is_missing, numbers_of, truths_of


def as_trained(model: Any, table: Table) -> Table:
    """The table with columns read as the encoders' categories are: texts, truth values or numbers."""
    if not table.cells or table.names is None:
        return table
    columns = list(table.columns)
    for name, categories in _categories(model, table.names).items():
        if name in table.names:
            place = table.names.index(name)
            columns[place] = _read_as(categories, table.cells[place], columns[place])
    return replace(table, columns=columns)


def _categories(model: Any, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The categories of each column that an encoder takes as it is, or with missing values filled in."""
    found: dict[str, np.ndarray] = {}
    front = _steps(model)[0]
    for part in walk(model):
        steps = _steps(part)
        known = getattr(steps[0], "feature_names_in_", None)
        columns = list(names) if known is None and part in (model, front) else [] if known is None else [str(name) for name in known]
        for step in steps:
            categories = getattr(step, "categories_", None)
            if categories is not None and len(categories) == len(columns):
                found.update(zip(columns, categories))
                break
            if type(step).__name__ != "SimpleImputer":
                break
    return found


def _steps(model: Any) -> list[Any]:
    """What a row goes through when it is predicted, one after the other."""
    return [step for _, step in getattr(model, "steps", []) if not is_sampler(step)] or [model]


def _read_as(categories: np.ndarray, cells: Sequence[str], column: np.ndarray) -> np.ndarray:
    if any(isinstance(category, str) for category in categories):
        missing = next((category for category in categories if is_missing(category)), np.nan)
        return np.array([cell if cell else missing for cell in cells], dtype=object)
    if all(isinstance(category, (bool, np.bool_)) for category in categories):
        truths = truths_of(cells)
        return column if truths is None else truths
    numbers = numbers_of(cells)
    return column if numbers is None or column.dtype.kind == "b" else numbers
