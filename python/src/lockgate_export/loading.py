"""Model files, by their ending.

Pickled files (`.joblib`, `.pkl`) run code that they contain when they are loaded; the others are data.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from .errors import ExportError, missing_package

PICKLED = (".joblib", ".pkl", ".pickle")
CATBOOST_HINT = "CatBoost writes ONNX itself: `model.save_model('model.onnx', format='onnx')`; then give the ONNX file"
# Without `external_data=False` the weights go into a second file, and without `dynamic_shapes` the file takes as many rows as the
# example has, which must not be one: a size of one is never dynamic.
TORCH_HINT = (
    "export it with `torch.onnx.export(model, (example,), 'model.onnx', external_data=False, "
    "dynamic_shapes=({0: torch.export.Dim('batch')},))`, the example of two rows or more, and give the ONNX file; with dynamo=False, "
    "`input_names=['X'], dynamic_axes={'X': {0: 'batch'}}` instead"
)
HINTS = {
    ".pt": TORCH_HINT,
    ".pth": TORCH_HINT,
    ".h5": "load it with Keras 3 and save it with `model.save('model.keras')`",
    ".hdf5": "load it with Keras 3 and save it with `model.save('model.keras')`",
    ".cbm": CATBOOST_HINT,
}


@dataclass
class KerasFile:
    """A `.keras` file, which is read without Keras."""

    path: Path


@dataclass
class Loaded:
    model: Any
    # A scaler that stood in the same file.
    scaler: Any = None


def load(path: Path) -> Loaded:
    """Loads a model file."""
    if not path.is_file():
        raise ExportError(f"there is no file {path}")
    ending = path.suffix.lower()
    if ending in PICKLED:
        return _unpack(_unpickle(path, ending), path)
    if ending == ".keras":
        return Loaded(KerasFile(path))
    if ending == ".onnx":
        return Loaded(read_onnx(path))
    if ending in (".ubj", ".json"):
        return Loaded(_xgboost(path))
    if ending in (".txt", ".lgb"):
        return Loaded(_lightgbm(path))
    raise ExportError(
        f"cannot read a model from {path}: unknown ending `{ending}`",
        hint=HINTS.get(ending, "expected .joblib, .pkl, .keras, .onnx, .json or .ubj (XGBoost), .txt (LightGBM)"),
    )


def read_onnx(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ExportError(f"{path} is no valid ONNX file: {first}") from error
    return model


def _unpickle(path: Path, ending: str) -> Any:
    try:
        if ending == ".joblib":
            try:
                import joblib
            except ImportError:
                raise missing_package("joblib", "sklearn", "to read .joblib files") from None
            return joblib.load(path)
        with open(path, "rb") as file:
            return pickle.load(file)
    except ExportError:
        raise
    except ModuleNotFoundError as error:
        raise ExportError(
            f"{path} needs the module `{error.name}`, which is not installed",
            hint="install what the model was trained with, in the same versions",
        ) from error
    except Exception as error:
        if ending != ".joblib":
            try:
                import joblib

                return joblib.load(path)
            except Exception:
                pass
        raise ExportError(
            f"cannot load {path}: {type(error).__name__}: {error}",
            hint="load it with the versions of the libraries that saved it",
        ) from error


def _unpack(loaded: Any, path: Path) -> Loaded:
    """A model, or a mapping with a `model` and perhaps its `scaler`."""
    if not isinstance(loaded, dict):
        if isinstance(loaded, (list, tuple)):
            raise ExportError(
                f"{path} holds {len(loaded)} objects, not a model", hint="save the model alone, or {'model': …, 'scaler': …}"
            )
        if isinstance(loaded, (str, bytes, int, float)):
            raise ExportError(f"{path} holds {type(loaded).__name__}, not a model", hint="save the fitted model")
        return Loaded(loaded)
    if "model" not in loaded:
        raise ExportError(
            f"{path} holds a mapping with the keys {', '.join(map(str, loaded))}",
            hint="save the model alone, or {'model': …, 'scaler': …}",
        )
    return Loaded(loaded["model"], loaded.get("scaler"))


def _xgboost(path: Path) -> Any:
    try:
        import xgboost
    except ImportError:
        raise missing_package("xgboost", "xgboost") from None
    booster = xgboost.Booster()
    try:
        booster.load_model(path)
    except xgboost.core.XGBoostError as error:
        raise ExportError(
            f"{path} is no model of XGBoost: {str(error).splitlines()[0]}", hint="save it with `model.save_model(path)`"
        ) from error
    return booster


def _lightgbm(path: Path) -> Any:
    try:
        import lightgbm
    except ImportError:
        raise missing_package("lightgbm", "lightgbm") from None
    _complete(path)
    try:
        return lightgbm.Booster(model_file=str(path))
    except lightgbm.basic.LightGBMError as error:
        raise ExportError(f"{path} is no model of LightGBM: {error}", hint="save it with `booster.save_model(path)`") from error


def _complete(path: Path) -> None:
    """Refuses a file whose end is missing, which the library may read beyond."""
    text = path.read_bytes()
    if not text.startswith(b"tree"):
        return
    for begin, end in ((b"tree", b"\nend of trees"), (b"\nparameters:", b"\nend of parameters")):
        if begin in text and end not in text:
            raise ExportError(
                f"{path} is cut off: it has no `{end.decode().strip()}`",
                hint="copy the whole file, or save it again with `booster.save_model(path)`",
            )
