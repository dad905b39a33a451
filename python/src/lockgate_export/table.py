"""Rows: what people give as X (arrays, data frames, files), as named columns, and as what an ONNX model takes."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Sequence

import numpy as np

from .errors import ExportError, missing_package


@dataclass
class Table:
    """Rows of named columns, or an array of three dimensions or more whose last one is named."""

    # None when nobody named them.
    names: list[str] | None
    # One array per column; empty when `array` is given.
    columns: list[np.ndarray]
    # Rows of more than one dimension each, such as time steps × features.
    array: np.ndarray | None = None
    # What the columns were read from, where that was text; the model may know better which kind it is.
    cells: list[Sequence[str]] = field(default_factory=list)

    @property
    def rows(self) -> int:
        if self.array is not None:
            return len(self.array)
        return len(self.columns[0]) if self.columns else 0

    @property
    def width(self) -> int:
        return int(self.array.shape[-1]) if self.array is not None else len(self.columns)

    @property
    def is_numeric(self) -> bool:
        return self.array is not None or all(column.dtype.kind in "fiub" for column in self.columns)

    def take(self, rows: np.ndarray) -> Table:
        array = None if self.array is None else self.array[rows]
        return Table(self.names, [column[rows] for column in self.columns], array)

    def matrix(self, dtype: Any = np.float64) -> np.ndarray:
        """All columns as one array of numbers."""
        if self.array is not None:
            return self.array.astype(dtype)
        if not self.is_numeric:
            texts = [self.name(index) for index, column in enumerate(self.columns) if column.dtype.kind not in "fiub"]
            raise ExportError(
                f"column `{texts[0]}` is not numeric", hint="encode it before training, or leave the column out"
            )
        return np.column_stack([column.astype(dtype) for column in self.columns])

    def name(self, index: int) -> str:
        return self.names[index] if self.names else f"x{index}"

    def select(self, names: Sequence[str]) -> Table:
        """The columns of these names, in this order."""
        have = self.names or []
        missing = [name for name in names if name not in have]
        if missing:
            raise ExportError(
                f"the data have no column `{missing[0]}`" + (f" and {len(missing) - 1} others" if len(missing) > 1 else ""),
                hint=f"the columns are {', '.join(have) or 'not named'}",
            )
        return self._at([have.index(name) for name in names])

    def without(self, names: Sequence[str]) -> Table:
        kept = [index for index, name in enumerate(self.names or []) if name not in names]
        return self._at(kept)

    def _at(self, places: Sequence[int]) -> Table:
        cells = [self.cells[place] for place in places] if self.cells else []
        return Table([self.name(place) for place in places], [self.columns[place] for place in places], cells=cells)


def as_table(data: Any) -> Table:
    """Takes a data frame, an array, a list of rows, a list of texts, or a mapping of names to columns."""
    if isinstance(data, Table):
        return data
    if hasattr(data, "columns") and hasattr(data, "__getitem__") and hasattr(data, "dtypes"):
        names = [str(name) for name in data.columns]
        return Table(names, [_column(data[name]) for name in data.columns])
    if isinstance(data, dict):
        return Table([str(name) for name in data], [_column(column) for column in data.values()])
    if hasattr(data, "toarray"):
        data = data.toarray()
    if hasattr(data, "to_numpy"):
        data = data.to_numpy()
    array = np.asarray(data)
    if array.ndim == 0:
        raise ExportError(f"X is {type(data).__name__}, not rows", hint="give a data frame or a two-dimensional array")
    if array.ndim == 1:
        return Table(None, [_column(array)])
    if array.ndim == 2:
        return Table(None, [_column(array[:, index]) for index in range(array.shape[1])])
    if array.dtype.kind not in "fiub":
        raise ExportError("X has more than two dimensions and is not numeric", hint="give an array of numbers")
    return Table(None, [], array)


def _column(values: Any) -> np.ndarray:
    if hasattr(values, "to_numpy"):
        values = values.to_numpy()
    array = np.asarray(values)
    if array.dtype.kind in "fiub":
        return array
    try:
        if array.dtype.kind == "O" and not any(isinstance(value, str) for value in array):
            return array.astype(np.float64)
    except (TypeError, ValueError):
        pass
    # As they are, for the library; `texts_of` is what the export is given.
    kept = np.empty(len(array), dtype=object)
    kept[:] = array.tolist()
    return kept


def texts_of(column: np.ndarray) -> np.ndarray:
    """A column as texts. A missing one is `nan` or `None`, which is what encoders' categories become in ONNX."""
    return np.array([str(value) for value in column], dtype=object)


def is_missing(value: Any) -> bool:
    """Whether a cell of a column of texts holds nothing."""
    return value is None or (not isinstance(value, str) and bool(value != value))


def read_file(path: Path) -> tuple[Table, np.ndarray | None]:
    """Reads rows from a file; an archive of arrays (`.npz`) may hold the target too, as `y`."""
    if not path.is_file():
        raise ExportError(f"there is no file {path}")
    kind = path.suffix.lower()
    if kind in (".npy", ".npz"):
        try:
            loaded = np.load(path, allow_pickle=False)
        except ValueError as error:
            raise ExportError(f"cannot read {path}: {error}", hint="save arrays of numbers or texts") from error
        if kind == ".npy":
            return as_table(loaded), None
        if "X" not in loaded:
            raise ExportError(
                f"{path} has no array `X`; it has {', '.join(loaded.files)}", hint="np.savez(path, X=…, y=…)"
            )
        return as_table(loaded["X"]), loaded["y"] if "y" in loaded else None
    if kind == ".parquet":
        try:
            import pandas
        except ImportError:
            raise missing_package("pandas", purpose="to read Parquet files") from None
        return as_table(pandas.read_parquet(path)), None
    if kind not in (".csv", ".tsv", ".txt"):
        raise ExportError(
            f"cannot read data from {path}: unknown ending `{kind}`", hint="expected .csv, .tsv, .parquet, .npy or .npz"
        )
    return read_csv(path, "\t" if kind == ".tsv" else ","), None


def read_csv(path: Path, delimiter: str = ",") -> Table:
    """Reads rows under a header. A column whose cells are all numbers or empty is numeric, one of True and False holds truth values;
    an empty cell is a missing value."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        lines = [line for line in csv.reader(file, delimiter=delimiter) if line]
    if len(lines) < 2:
        raise ExportError(f"{path} has no rows", hint="expected a header with the names of the columns, and rows below it")
    header, rows = lines[0], lines[1:]
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise ExportError(f"row {number} has {len(row)} cells, the header {len(header)}", where=str(path))
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise ExportError(f"two columns are called `{twice[0]}`", where=str(path), hint="give each column its own name")
    cells = list(zip(*rows))
    return Table(header, [_cells(column) for column in cells], cells=cells)


def _cells(cells: Sequence[str]) -> np.ndarray:
    truths = truths_of(cells)
    if truths is not None:
        return truths
    # Codes such as 01234 are no numbers: they would lose their zeros.
    numbers = None if any(CODE.fullmatch(cell.strip()) for cell in cells) else numbers_of(cells)
    return np.array(cells, dtype=object) if numbers is None else numbers


CODE = re.compile(r"[+-]?0[0-9]+|.*_.*")


def numbers_of(cells: Sequence[str]) -> np.ndarray | None:
    """The cells as numbers, NaN where they are empty; None where they are none."""
    try:
        return np.array([float(cell) if cell.strip() else np.nan for cell in cells])
    except ValueError:
        return None


def truths_of(cells: Sequence[str]) -> np.ndarray | None:
    """The cells as truth values, as numbers where some are empty; None where they are none."""
    words = [cell.strip().lower() for cell in cells]
    if not set(words) <= {"true", "false", ""} or set(words) == {""}:
        return None
    if "" in words:
        return np.array([np.nan if word == "" else float(word == "true") for word in words])
    return np.array([word == "true" for word in words])
