"""MNIST and its kin as device arrays, one loader a file.

`load` reads one of four sources: `"mnist_5k"`, `"mnist"`, `"fashion_mnist"` and `"idx"`; see their
files. It downloads nothing and does not import TensorFlow.

All but the first have 60,000 examples in the training pool and 10,000 in the test pool. A split
takes the first `train` and the last `valid` examples of the training pool and the first `test`
of the test pool, so that the validation examples don't depend on the amount of training data. The
orders differ: figures from `"mnist"` and from the same digits by `"idx"` aren't comparable.
"""

import functools
import os

import jax.numpy as jnp
import numpy as np

from shohypernet.batches import Data, Examples, is_positive
from shohypernet.datasets import idx, mnist_5k, tfds
from shohypernet.datasets._pool import CLASSES, IMAGE_SHAPE, DataError, Pool

__all__ = ["CLASSES", "IMAGE_SHAPE", "DataError", "load"]

_READERS = {
    "mnist_5k": mnist_5k.read,
    "mnist": functools.partial(tfds.read, "mnist"),
    "fashion_mnist": functools.partial(tfds.read, "fashion_mnist"),
    "idx": idx.read,
}


def load(
    name: str,
    *,
    train: int | None = None,
    valid: int | None = None,
    test: int | None = None,
    directory: str | os.PathLike | None = None,
) -> Data:
    """Read a data set and put its three splits on the default device.

    Args:
      name: `"mnist_5k"`, `"mnist"`, `"fashion_mnist"` or `"idx"`; see the module's docstring.
      train: number of training examples, the first of the training pool. None takes all that
        `valid` leaves.
      valid: number of validation examples, the last of the training pool. None takes a sixth of
        the pool, rounded down: 10,000 of 60,000, or 666 of the 4,000 of `"mnist_5k"`.
      test: number of test examples, the first of the test pool. None takes all.
      directory: folder with the files. For `"idx"` None takes the environment variable
        SHOHYPERNET_MNIST_IDX. For `"mnist"` and `"fashion_mnist"` it is the folder of prepared
        TensorFlow Datasets; None takes TFDS_DATA_DIR, and without it TFDS's default. `"mnist_5k"`
        ignores it.

    Returns:
      `Data` of three `Examples`: `inputs` (n, 784) float32, pixels divided by 255 and flattened
      row by row, and `targets` (n, 10) float32, one-hot.

    Raises:
      ValueError: for an unknown name, a count that isn't a positive whole number or exceeds the
        pool, or `"idx"` without a directory.
      DataError: if the data, or the package that reads it, is absent, or a file is corrupted.
    """
    if name not in _READERS:
        raise ValueError(f"unknown data set {name!r}; expected one of {', '.join(_READERS)}.")
    for split, count in {"train": train, "valid": valid, "test": test}.items():
        if not (count is None or is_positive(count)):
            raise ValueError(f"{split} must be a positive whole number or None, got {count!r}.")

    train_pool, test_pool = _READERS[name](directory)
    pooled, tested = _checked(name, *train_pool), _checked(name, *test_pool)
    valid = pooled // 6 if valid is None else valid
    train = pooled - valid if train is None else train
    test = tested if test is None else test
    if min(train, valid) < 1 or train + valid > pooled:
        raise ValueError(
            f"{name!r} has {pooled} examples to train and validate on, got train={train} and "
            f"valid={valid}; each must be at least 1 and their sum at most {pooled}."
        )
    if test > tested:
        raise ValueError(f"{name!r} has {tested} examples to test on, got test={test}.")
    return Data(
        train=_to_device(train_pool, slice(train)),
        valid=_to_device(train_pool, slice(pooled - valid, pooled)),
        test=_to_device(test_pool, slice(test)),
    )


def _checked(name: str, images: np.ndarray, labels: np.ndarray) -> int:
    """Number of examples in a pool of images and labels that fit together."""
    if images.dtype != np.uint8 or images.shape != (len(labels), *IMAGE_SHAPE):
        raise DataError(
            f"{name!r} should hold {len(labels)} uint8 images of shape {IMAGE_SHAPE}, one per "
            f"label, but holds {images.dtype} of shape {images.shape}."
        )
    if labels.min() < 0 or labels.max() >= CLASSES:
        raise DataError(
            f"labels of {name!r} should be 0 to {CLASSES - 1}, but span "
            f"{labels.min()} to {labels.max()}."
        )
    return len(labels)


def _to_device(pool: Pool, rows: slice) -> Examples:
    images, labels = pool[0][rows], pool[1][rows]
    # Divided by NumPy: XLA multiplies by 1 / 255 instead, which is an ulp off for some pixels.
    inputs = images.reshape(len(images), -1).astype(np.float32) / 255
    targets = np.eye(CLASSES, dtype=np.float32)[labels]
    return Examples(jnp.asarray(inputs), jnp.asarray(targets))
