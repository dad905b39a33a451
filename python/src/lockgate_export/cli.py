"""The command line: `lockgate-export model.joblib --data train.csv --target y -o out/`."""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from typing import Any, Sequence

import numpy as np

from . import __version__
from .errors import ExportError, ExportWarning
from .exporting import Exported, export
from .loading import PICKLED, Loaded, load
from .table import Table, read_file


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lockgate-export",
        description="Turns a fitted model into NAME.onnx and NAME.yaml, ready for `lockgate package NAME.onnx --manifest NAME.yaml`.",
        epilog="Loading a .joblib or .pkl file runs code that it contains: load only files that you trust.",
    )
    parser.add_argument("--version-of-program", action="version", version=f"lockgate-export {__version__}")
    files = parser.add_argument_group("files")
    files.add_argument(
        "model",
        nargs="?",
        type=Path,
        help="the model: .joblib, .pkl, .keras, .json or .ubj (XGBoost), .txt (LightGBM), .onnx",
    )
    files.add_argument("--onnx", type=Path, metavar="FILE", help="an ONNX file that another program wrote, such as PyTorch")
    files.add_argument(
        "--data", type=Path, metavar="FILE", help="training rows (.csv, .tsv, .parquet, .npy, .npz): names and ranges of the columns"
    )
    files.add_argument("--test", type=Path, metavar="FILE", help="rows that the model was not trained on, for metrics")
    files.add_argument("--target", metavar="COLUMN", help="the column of the data that is predicted (in an .npz, the array `y`)")
    files.add_argument("--columns", metavar="A,B,…", help="the columns that the model takes; without it, what the model says, else all")
    files.add_argument("-o", "--output", type=Path, default=Path("."), metavar="FOLDER", help="where the files go [default: .]")
    about = parser.add_argument_group("what people say about the model")
    about.add_argument("--name", help="the model's name [default: the file's name]")
    about.add_argument("--version", default="0.1.0", metavar="SEMVER", help="the model's version [default: 0.1.0]")
    about.add_argument("--description", default="", metavar="TEXT", help="one line for people")
    about.add_argument("--labels", metavar="A,B,…", help="names of the classes, in the order of the scores")
    about.add_argument("--feature-version", metavar="TEXT", help="the version of what computes the features")
    about.add_argument("--symbols", metavar="A,B,…", help="the symbols that the model was trained for")
    about.add_argument("--timeframe", metavar="TEXT", help="the bar length, such as 1h")
    about.add_argument("--metric", action="append", default=[], metavar="NAME=NUMBER", help="a figure to write down; may be repeated")
    beside = parser.add_argument_group("what stands beside the model")
    beside.add_argument("--scaler", type=Path, metavar="FILE", help="a scaler that was fitted separately (.joblib, .pkl, .json)")
    beside.add_argument("--calibrator", type=Path, metavar="FILE", help="a calibrator fitted on scores (.joblib, .pkl): one, or one per class")
    beside.add_argument("--threshold", type=float, metavar="NUMBER", help="from which probability the second of two classes is answered")
    beside.add_argument("--answer-labels", choices=("names", "integers"), help="whether answers name classes or number them")
    beside.add_argument("--confidence", action="store_true", default=None, help="answers carry the top score")
    beside.add_argument("--background", type=int, default=0, metavar="ROWS", help="rows of the data to write down for contributions")
    beside.add_argument("--seed", type=int, default=0, metavar="NUMBER", help="which rows those are [default: 0]")
    how = parser.add_argument_group("how")
    how.add_argument("--double", action="store_true", help="the inputs are in double precision")
    how.add_argument("--no-check", action="store_true", help="do not compare the export with the model on rows of the data")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; the result is the exit status."""
    options = parser().parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default", ExportWarning)
            warnings.showwarning = _warning  # type: ignore[assignment]
            exported = _export(options)
            model, manifest = exported.save(options.output)
    except ExportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {model} and {manifest}")
    print(f"next: lockgate package {model} --manifest {manifest}")
    return 0


def _export(options: argparse.Namespace) -> Exported:
    if (options.model is None) == (options.onnx is None):
        raise ExportError("one model is needed", hint="lockgate-export MODEL, or lockgate-export --onnx FILE")
    path = options.model or options.onnx
    rows, target = _data(options.data, options)
    test_rows, test_target = _data(options.test, options)
    if test_rows is not None and test_target is None:
        raise ExportError("metrics need the target", where="--test", hint="name its column with --target")
    loaded = _load(path)
    scaler = loaded.scaler if options.scaler is None else _beside(options.scaler)
    scope = {"symbols": _list(options.symbols), "timeframe": options.timeframe}
    return export(
        loaded.model,
        rows,
        target,
        name=options.name or _name(path),
        version=options.version,
        description=options.description,
        labels=_list(options.labels),
        feature_names=_list(options.columns),
        feature_version=options.feature_version,
        scope={key: value for key, value in scope.items() if value},
        metrics=dict(_metric(text) for text in options.metric),
        X_test=test_rows,
        y_test=test_target,
        scaler=scaler,
        calibrator=None if options.calibrator is None else _beside(options.calibrator),
        threshold=options.threshold,
        answer_labels=options.answer_labels,
        confidence=options.confidence,
        background=options.background,
        seed=options.seed,
        double=options.double,
        check=not options.no_check,
    )


def _load(path: Path) -> Loaded:
    if path.suffix.lower() in PICKLED:
        print(f"note: loading {path} runs code that it contains; load only files that you trust", file=sys.stderr)
    return load(path)


def _beside(path: Path) -> Any:
    """A scaler or calibrator: a pickled object, or JSON."""
    if path.suffix.lower() == ".json":
        import json

        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ExportError(f"{path} is no JSON: {error}") from error
    if path.suffix.lower() not in PICKLED:
        raise ExportError(f"cannot read {path}: unknown ending `{path.suffix}`", hint="expected .joblib, .pkl or .json")
    if not path.is_file():
        raise ExportError(f"there is no file {path}")
    print(f"note: loading {path} runs code that it contains; load only files that you trust", file=sys.stderr)
    import pickle

    try:
        import joblib
    except ImportError:
        return pickle.loads(path.read_bytes())
    return joblib.load(path)


def _data(path: Path | None, options: argparse.Namespace) -> tuple[Table | None, np.ndarray | None]:
    if path is None:
        return None, None
    table, target = read_file(path)
    if options.target is not None and table.names is not None:
        if options.target not in table.names:
            raise ExportError(
                f"{path} has no column `{options.target}`", where="--target", hint=f"the columns are {', '.join(table.names)}"
            )
        target = table.columns[table.names.index(options.target)]
        table = table.without([options.target])
    return table, target


def _name(path: Path) -> str:
    import re

    return re.sub(r"[^A-Za-z0-9_.-]+", "_", path.stem).strip("_") or "model"


def _list(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",")]


def _metric(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name.strip(), float(value)
    except ValueError:
        raise ExportError(f"`{text}`", where="--metric", hint="expected NAME=NUMBER, such as accuracy=0.71") from None


def _warning(message: Any, category: type, filename: str, lineno: int, file: Any = None, line: Any = None) -> None:
    print(f"warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
