"""Trees of arrays: dtypes of their own, leaves that have derivatives, PRNG keys as numbers."""

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


def keys_as_data(tree: Any) -> Any:
    """The same tree with PRNG keys as the numbers that they hold, for NumPy has no keys."""

    def data(leaf: Any) -> Any:
        if not _is_key(leaf):
            return leaf
        shaped = isinstance(leaf, jax.ShapeDtypeStruct)
        return jax.eval_shape(jax.random.key_data, leaf) if shaped else jax.random.key_data(leaf)

    return jax.tree.map(data, tree)


def data_as_keys(tree: Any, like: Any) -> Any:
    """The inverse of `keys_as_data`, with keys where `like` has them."""

    def key(leaf: Any, like: Any) -> Any:
        if not _is_key(like):
            return leaf
        generator = jax.random.key_impl(jnp.empty((), like.dtype))
        return jax.random.wrap_key_data(jnp.asarray(leaf), impl=generator)

    return jax.tree.map(key, tree, like)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def by_path(function: Callable[[Any], Any], tree: Any) -> dict[str, Any]:
    """A function of each leaf, by the leaf's path."""
    return {path_name(path): function(leaf) for path, leaf in jax.tree.leaves_with_path(tree)}


def path_name(path: Any) -> str:
    """A path of keys as text, such as "layers.0.kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator=".")
