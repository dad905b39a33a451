"""Seeded data to train on, and rows to ask about."""

import numpy as np

COLUMNS = 5
NAMES = np.array(["short", "flat", "long", "größer", ""])


def features(seed=1, rows=160):
    """Features of unequal scale and offset, so that a scaler has something to do."""
    rng = np.random.default_rng(seed)
    scale = np.array([1.0, 0.01, 100.0, 3.0, 1.0])
    offset = np.array([0.0, 0.05, -200.0, 7.0, 1.0])
    return (rng.normal(size=(rows, COLUMNS)) * scale + offset).astype(np.float32)


def calm(seed=1, rows=160):
    """Features around zero, for what only trains on those."""
    return np.random.default_rng(seed).normal(size=(rows, COLUMNS)).astype(np.float32)


def score(x):
    z = (x - np.nanmean(x, axis=0)) / np.nanstd(x, axis=0)
    z = np.nan_to_num(z)
    return z @ np.array([1.0, -0.8, 0.6, 0.0, 0.4]) + 0.7 * np.sin(3 * z[:, 3])


def classes(x, count):
    """`count` classes cut out of a noisy linear score, each equally frequent."""
    value = score(x)
    return np.digitize(value, np.quantile(value, np.linspace(0, 1, count + 1)[1:-1])).astype(np.int64)


def target(x, outputs=1):
    z = np.nan_to_num((x - np.nanmean(x, axis=0)) / np.nanstd(x, axis=0))
    y = np.stack([z[:, 0] * 2 - z[:, 1], np.sin(z[:, 2]) + 5, z[:, 3] * z[:, 4]], axis=1)[:, :outputs]
    return y[:, 0] if outputs == 1 else y


def with_missing(x, seed=3):
    x = x.copy()
    x[np.random.default_rng(seed).random(x.shape) < 0.15] = np.nan
    return x


WORDS = "buy sell hold the market rises falls today Größe naïve x1 don't 42".split()


def texts(seed=5, rows=60):
    rng = np.random.default_rng(seed)
    lines = [" ".join(rng.choice(WORDS, size=rng.integers(1, 9))) for _ in range(rows)]
    return np.array(lines)


def categories(seed=6, rows=120, columns=2):
    rng = np.random.default_rng(seed)
    choices = [np.array(["red", "green", "blue", "größer"]), np.array(["x", "y", "z"])]
    return np.stack([rng.choice(choices[k % 2], size=rows) for k in range(columns)], axis=1)


def integers(seed=7, rows=120, columns=3, most=4):
    return np.random.default_rng(seed).integers(0, most, size=(rows, columns)).astype(np.int64)


def edges(x, wild=True, trees=False, missing=False, thresholds=()):
    """Rows to ask about: a few of `x`, zeros of both signs, tiny and large numbers; for trees infinities and thresholds with their neighbours;
    missing values."""
    middle = np.nanmean(x.astype(np.float64), axis=0).astype(x.dtype)
    width = x.shape[1]
    rows = [*x[:8], np.zeros(width), -np.zeros(width), np.full(width, 1e-40), middle]
    for column in range(width):
        row = middle.copy()
        row[column] += np.nanstd(x[:, column]) * (40 if wild else 3) * (-1) ** column
        rows.append(row)
    if trees:
        rows += [np.full(width, np.inf), np.full(width, -np.inf), np.full(width, 1e38), np.full(width, -1e38)]
        for feature, threshold in thresholds:
            exact = x.dtype.type(threshold)
            with np.errstate(over="ignore"):
                for moved in (exact, np.nextafter(exact, x.dtype.type(np.inf)), np.nextafter(exact, x.dtype.type(-np.inf))):
                    row = middle.copy()
                    row[feature] = moved
                    rows.append(row)
    if missing:
        rows.append(np.full(width, np.nan))
        for column in range(width):
            row = middle.copy()
            row[column] = np.nan
            rows.append(row)
    return np.array(rows, dtype=x.dtype)
