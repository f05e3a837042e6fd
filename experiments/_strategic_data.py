"""Data whose owners will move it: features, labels, and the labels that the owners want to get.

Wine: sellers want a quality of at least 6. Diabetes: patients want a progression of at least 140,
about the median, to be found.
"""

import os
import pathlib
from typing import Any, NamedTuple

import numpy as np

WANTED = {"wine": 6.0, "diabetes": 140.0}  # at least, in units of the label
COLUMNS = 12  # of the wine, quality last


class Rows(NamedTuple):
    """Rows of a strategic data set, float64 in NumPy or float32 on a device.

    Attributes:
      inputs: features scaled to [0, 1], and a column of ones, shape (n, d).
      wanted: z, what their owners want to be predicted, in units of `targets`, shape (n,).
      targets: y, in units of a tenth of the largest |label|, shape (n,).
    """

    inputs: Any
    wanted: Any
    targets: Any

    def at(self, indices: np.ndarray) -> "Rows":
        """Some of the rows."""
        return Rows(*(part[indices] for part in self))


def load(config: Any) -> tuple[Rows, float]:
    """The rows of a config's data, and the unit of their targets, in units of the label."""
    if config.data == "wine":
        features, labels = _wine(config.path)
    else:
        from sklearn.datasets import load_diabetes

        loaded: Any = load_diabetes()
        features, labels = loaded.data, loaded.target
    least, most = features.min(0), features.max(0)
    inputs = np.column_stack([(features - least) / (most - least), np.ones(len(features))])
    unit = 0.1 * float(np.max(np.abs(labels)))
    wanted = np.maximum(labels, WANTED[config.data])
    return Rows(inputs, wanted / unit, labels / unit), unit


def _wine(named: str) -> tuple[np.ndarray, np.ndarray]:
    """Features and qualities from UCI's file."""
    named = named or os.environ.get("SHOHYPERNET_WINE", "")
    path = pathlib.Path(named).expanduser()
    if not named or not path.is_file():
        raise FileNotFoundError(
            f"there is no wine at {named!r}. Name UCI's winequality-red.csv by --config.path or by "
            "the environment variable SHOHYPERNET_WINE, or leave out :wine to take scikit-learn's "
            "diabetes."
        )
    table = np.genfromtxt(path, delimiter=";", skip_header=1)
    if table.ndim != 2 or table.shape[1] != COLUMNS or not np.all(np.isfinite(table)):
        raise ValueError(
            f"{path} should hold {COLUMNS} columns of numbers between semicolons under one line of "
            f"names, as UCI's winequality-red.csv does, got an array of shape {table.shape}."
        )
    return table[:, :-1], table[:, -1]


def folds(count: int, number: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Indices of training and test rows of each fold.

    All folds have ⌊count / number⌋ test rows, so that one compiled call serves them all; the few
    rows that are left over train in every fold.
    """
    order = np.random.default_rng(0).permutation(count)
    size = count // number
    tests = [order[i * size : (i + 1) * size] for i in range(number)]
    return [(np.setdiff1d(order, test), test) for test in tests]


def many(rows: Rows, count: int, jitter: float) -> Rows:
    """More rows like these: drawn with replacement, with noise on all features but the ones."""
    rng = np.random.default_rng(0)
    drawn = rows.at(rng.integers(len(rows.targets), size=count))
    noise = jitter * rng.normal(size=drawn.inputs.shape)
    noise[:, -1] = 0
    return drawn._replace(inputs=drawn.inputs + noise)
