"""Trees of arrays: dtypes of their own, and the leaves that have derivatives."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def typed(tree: Any) -> Any:
    """The same tree with dtypes of its own, not Python's weak ones, which a step would change."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf)), tree)


def split_floats(tree: Any) -> tuple[list[jax.Array], Callable[[list[jax.Array]], Any]]:
    """The leaves that have derivatives, and how to put others in their place.

    The rest, such as Adam's count of steps, has none, and JAX's own zero for it fits in no carry.
    """
    leaves, treedef = jax.tree.flatten(tree)
    moving = [i for i, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, jnp.floating)]

    def rebuild(floats: list[jax.Array]) -> Any:
        replaced = list(leaves)
        for i, leaf in zip(moving, floats, strict=True):
            replaced[i] = leaf
        return jax.tree.unflatten(treedef, replaced)

    return [leaves[i] for i in moving], rebuild
