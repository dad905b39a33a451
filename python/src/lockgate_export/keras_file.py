"""Reading `.keras` files (Keras 3): the configuration and the weights, without Keras and without running anything."""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .errors import ExportError, missing_package


class Weights:
    """The weights of a layer, or of a model and its layers."""

    def __init__(self, group: Any, path: str) -> None:
        self._group, self._path = group, path

    def variables(self) -> list[np.ndarray]:
        """The layer's own variables, in the order in which it made them."""
        if self._group is None or "vars" not in self._group:
            return []
        stored = self._group["vars"]
        return [np.asarray(stored[str(index)]) for index in range(len(stored))]

    def child(self, name: str) -> Weights:
        """The weights of a part, such as the cell of a recurrent layer."""
        if self._group is None or name not in self._group:
            return Weights(None, f"{self._path}/{name}")
        return Weights(self._group[name], f"{self._path}/{name}")

    def layers(self, layers: list[dict[str, Any]]) -> dict[str, Weights]:
        """The weights of a model's layers, by the layers' names."""
        folder = None if self._group is None else self._group.get("layers")
        if folder is None:
            return {}
        by_name = {}
        for key, group in folder.items():
            name = group["vars"].attrs.get("name") if "vars" in group else None
            if name is not None:
                by_name[name.decode() if isinstance(name, bytes) else str(name)] = Weights(group, f"{self._path}/{key}")
        if by_name:
            return by_name
        # Early releases of Keras 3 name the groups by class, counting in the order of the layers.
        counts: dict[str, int] = {}
        for layer in layers:
            kind = _snake_case(layer["class_name"])
            count = counts.get(kind, 0)
            counts[kind] = count + 1
            key = f"{kind}_{count}" if count else kind
            if key in folder:
                by_name[layer["config"]["name"]] = Weights(folder[key], f"{self._path}/{key}")
        return by_name


def read_keras(source: Path | BinaryIO) -> tuple[dict[str, Any], Weights]:
    """The configuration and the weights of a saved model."""
    try:
        import h5py
    except ImportError:
        raise missing_package("h5py", "keras", "to read .keras files") from None
    name = str(source) if isinstance(source, Path) else "the model"
    try:
        with zipfile.ZipFile(source) as archive:
            config = json.loads(archive.read("config.json"))
            weights = archive.read("model.weights.h5")
    except (zipfile.BadZipFile, KeyError, json.JSONDecodeError) as error:
        raise ExportError(
            f"{name} is no .keras file of Keras 3: {error}",
            hint="save the model with `model.save('model.keras')`; an .h5 file of Keras 2 must be loaded and saved again",
        ) from error
    file = h5py.File(io.BytesIO(weights), "r")
    return config, Weights(file, "")


def read_live(model: Any) -> tuple[dict[str, Any], Weights]:
    """The same of a model in memory, by saving it to a temporary file."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        try:
            model.save(path)
        except Exception as error:
            raise ExportError(
                f"Keras cannot save the model: {error}", hint="`model.save('model.keras')` of Keras 3 must work"
            ) from error
        return read_keras(io.BytesIO(path.read_bytes()))


def _snake_case(name: str) -> str:
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
