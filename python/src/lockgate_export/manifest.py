"""The manifest's source: what `lockgate package --manifest` reads beside the ONNX file."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .errors import ExportError

PLAIN_TEXT = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
# Words and numbers that YAML would not take for texts.
RESERVED = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}


@dataclass
class Manifest:
    """The keys of the manifest that an export fills in. An empty one is not written."""

    model: str
    version: str = "0.1.0"
    description: str = ""
    labels: list[str] = field(default_factory=list)
    # Names, or names with `min` and `max`.
    features: list[dict[str, Any]] = field(default_factory=list)
    feature_version: str | None = None
    scope: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    accepts_missing: bool | None = None
    scaler: dict[str, Any] | None = None
    answer: dict[str, Any] = field(default_factory=dict)
    background: list[list[float | None]] = field(default_factory=list)

    def check(self) -> None:
        """Refuses what Lockgate would refuse, while the names are still those of Python."""
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,128}", self.model):
            raise ExportError(
                f"`{self.model}` is no name for a model",
                where="name",
                hint="1 to 128 letters, digits and `_ - .`, such as eurusd_lstm_1h",
            )
        if not re.fullmatch(r"\d+\.\d+\.\d+([-+][0-9A-Za-z.+-]+)?", self.version):
            raise ExportError(f"`{self.version}` is no semantic version", where="version", hint="three numbers, such as 1.0.0")
        for key, value in self.metrics.items():
            if not np.isfinite(value):
                raise ExportError(f"{value} is not a finite number", where=f"metrics.{key}", hint="leave it out")
        names = [feature["name"] for feature in self.features]
        twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) != len(names) else []
        if twice:
            raise ExportError(f"two features are called `{twice[0]}`", hint="give each column its own name")

    def as_dict(self) -> dict[str, Any]:
        """The keys in the order of the document, without empty ones."""
        entries: dict[str, Any] = {"model": self.model, "version": self.version}
        for key in ("description", "labels", "features", "feature_version", "scope", "metrics", "accepts_missing"):
            value = getattr(self, key)
            if value is not None and value != "" and value != [] and value != {}:
                entries[key] = value
        for key in ("scaler", "answer", "background"):
            value = getattr(self, key)
            if value:
                entries[key] = value
        return entries

    def to_yaml(self) -> str:
        lines: list[str] = []
        for key, value in self.as_dict().items():
            if key in ("features", "background"):
                lines.append(f"{key}:")
                lines += [f"  - {_flow(item)}" for item in value]
            elif key in ("metrics", "answer", "scaler"):
                lines.append(f"{key}:")
                lines += [f"  {_text(name)}: {_flow(item)}" for name, item in value.items()]
            else:
                lines.append(f"{key}: {_flow(value)}")
        return "\n".join(lines) + "\n"


def label_text(label: Any) -> str:
    """A class as a manifest names it: truth values and whole numbers as Python's integers would be written."""
    if isinstance(label, (bool, np.bool_)):
        return str(int(label))
    if isinstance(label, (float, np.floating)) and float(label).is_integer():
        return str(int(label))
    return str(label)


def _flow(value: Any) -> str:
    """A value on one line."""
    if value is None:
        return "null"
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    if isinstance(value, (float, np.floating)):
        return _number(float(value))
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_text(str(key))}: {_flow(item)}" for key, item in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    return _text(str(value))


def _number(value: float) -> str:
    """A float such that readers of YAML 1.1 and 1.2 both see one: with a point, and a sign in the exponent."""
    if value != value:
        return ".nan"
    if value in (float("inf"), float("-inf")):
        return ".inf" if value > 0 else "-.inf"
    if value.is_integer() and abs(value) < 1e15:
        return f"{value:.1f}"
    text = repr(value)
    mantissa, _, exponent = text.partition("e")
    if not exponent:
        return text
    mantissa = mantissa if "." in mantissa else f"{mantissa}.0"
    return f"{mantissa}e{exponent if exponent[0] in '+-' else '+' + exponent}"


def _text(value: str) -> str:
    if PLAIN_TEXT.fullmatch(value) and value.lower() not in RESERVED:
        return value
    return json.dumps(value, ensure_ascii=False)
