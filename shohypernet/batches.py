"""Examples on the device: three splits, and minibatches as a pure function of a key."""

import numbers
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from shohypernet.types import Batch, Key


class Examples(NamedTuple):
    """Images and what they show: `inputs` (n, 784) in [0, 1], `targets` (n, 10) one-hot."""

    inputs: jax.Array
    targets: jax.Array


class Data(NamedTuple):
    """The three splits: one to fit weights, one to tune hyperparameters, one to report."""

    train: Examples
    valid: Examples
    test: Examples


class SplitLosses(NamedTuple):
    """A number or an array for each split, such as the loss of one set of weights."""

    train: Any
    valid: Any
    test: Any


def minibatch(key: Key, examples: Batch, size: int | tuple[int, ...] | None) -> Batch:
    """Draw rows uniformly with replacement, the same rows from every leaf.

    A pure function of the key, to be used under `jit`, `vmap` and `scan`.

    Args:
      key: a typed PRNG key.
      examples: any pytree whose leaves share their leading axis, such as `Examples`.
      size: how many rows. A tuple gives several leading axes, such as `(inner_steps, rows)`, and
        `()` a single example with none. None returns `examples` itself: the whole split.

    Returns:
      A pytree like `examples`, each leaf's leading axis replaced by `size`.

    Raises:
      ValueError: `size` isn't made of positive whole numbers, or the leaves have no leading axis
        in common.
    """
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(examples)]
    rows = {leaf_shape[:1] for leaf_shape in shapes}
    if len(rows) != 1 or rows <= {(), (0,)}:
        raise ValueError(f"examples must share a leading axis of at least 1 row, got {shapes}")
    if size is None:
        return examples
    shape = size if isinstance(size, tuple) else (size,)
    if not all(map(is_positive, shape)):
        raise ValueError(f"size must be a positive whole number, a tuple of them or None: {size!r}")
    (count,) = rows.pop()
    indices = jax.random.randint(key, shape, 0, count)
    # The indices are in range by construction; "clip" only spares the default's fill with NaN.
    return jax.tree.map(lambda leaf: jnp.take(leaf, indices, axis=0, mode="clip"), examples)


def is_positive(count: Any) -> bool:
    """Whether it is a whole number above 0."""
    whole = isinstance(count, numbers.Integral) and not isinstance(count, bool)
    return whole and int(count) > 0
