"""Groups of weights, by a number for each, and the precision that penalties are computed in."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from shohypernet.types import Params


def norms(params: Params, groups: Any) -> jax.Array:
    """Euclidean norms of groups of weights.

    Args:
      params: weights.
      groups: number of each weight's group, from 0 to M − 1; a tree like `params` of whole numbers
        in NumPy, each array broadcast to the weights'.

    Returns:
      Norms, shape (M,).

    Raises:
      ValueError: for groups that don't fit the weights, or aren't such numbers.
    """
    each = _numbers(params, groups)
    count = 1 + max(int(np.max(numbers)) for numbers in each)
    squares = [
        jax.ops.segment_sum(jnp.square(in_precision(w, w)).ravel(), numbers.ravel(), count)
        for w, numbers in zip(jax.tree.leaves(params), each, strict=True)
    ]
    # The floor keeps the gradient finite where a group is exactly zero.
    return jnp.sqrt(jnp.maximum(sum(squares[1:], squares[0]), jnp.finfo(jnp.float32).tiny))


def in_precision(array: jax.Array, leaf: jax.Array) -> jax.Array:
    """An array in the precision of some weights, float32 at least."""
    return array.astype(jnp.promote_types(leaf.dtype, jnp.float32))


def _numbers(params: Params, groups: Any) -> list[np.ndarray]:
    """The group of each weight, in the order of the tree."""
    leaves, numbers = jax.tree.leaves(params), jax.tree.leaves(groups)
    try:
        each = [np.broadcast_to(n, w.shape) for w, n in zip(leaves, numbers, strict=True)]
    except ValueError as error:
        raise ValueError(
            f"groups {jax.tree.map(np.shape, groups)} don't fit weights "
            f"{jax.tree.map(np.shape, params)}; give the number of a group for each weight."
        ) from error
    if any(not np.issubdtype(n.dtype, np.integer) or np.min(n) < 0 for n in each):
        raise ValueError("groups must be whole numbers from 0 on, in NumPy.")
    return each
