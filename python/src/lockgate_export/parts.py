"""What a model of scikit-learn consists of: the estimators inside it."""

from __future__ import annotations

from typing import Any, Iterator

import numpy as np


def walk(model: Any) -> Iterator[Any]:
    """A model and every estimator fitted inside it, in a fixed order. Estimators that were only configured are left out."""
    seen: set[int] = set()
    stack = [model]
    while stack:
        part = stack.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if is_frozen(part):
            stack.append(part.estimator)
        elif isinstance(part, (list, tuple)):
            stack.extend(reversed(part))
        elif isinstance(part, np.ndarray):
            if part.dtype == object:
                stack.extend(reversed(part.ravel().tolist()))
        elif isinstance(part, dict):
            stack.extend(reversed(list(part.values())))
        elif hasattr(part, "get_params") or type(part).__module__.startswith("sklearn.calibration"):
            yield part
            stack.extend(reversed([value for name, value in sorted(vars(part).items()) if _holds_estimators(name, value)]))


def is_frozen(part: Any) -> bool:
    """Whether it is a fitted estimator behind a wrapper that keeps it from being fitted again."""
    return type(part).__name__ == "FrozenEstimator" and type(part).__module__.startswith("sklearn.")


def is_sampler(part: Any) -> bool:
    """Whether it chooses or makes rows for training, as those of imbalanced-learn do, and leaves rows alone that are predicted."""
    return hasattr(part, "fit_resample") and not hasattr(part, "transform")


def _holds_estimators(name: str, value: Any) -> bool:
    if name.startswith("__"):
        return False
    return isinstance(value, (list, tuple, dict)) or hasattr(value, "get_params") or (
        isinstance(value, np.ndarray) and value.dtype == object
    )
