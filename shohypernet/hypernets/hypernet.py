"""What a hypernet is, and the step that dense ones share: trees to vectors and back."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from shohypernet.models import MLP


class Hypernet(NamedTuple):
    """A model of the best response, w_φ(λ) ≈ argmin_w L_train(w, λ).

    Attributes:
      init: `init(key, hyperparams) -> hypernet_params` φ.
      apply: `apply(hypernet_params, hyperparams) -> params` w, for one λ; `vmap` gives many.
    """

    init: Callable[[jax.Array, Any], Any]
    apply: Callable[[Any, Any], Any]


def dense(
    params: Any,
    features: Sequence[int],
    activation: Callable[[jax.Array], jax.Array],
    init_scale: float,
) -> Hypernet:
    """Dense layers from the flattened λ to the flattened w, `activation` between them.

    Args:
      params: the weights to be made, or their `jax.ShapeDtypeStruct`s: any tree.
      features: widths of the hidden layers, none for a linear map.
      activation: elementwise function after each hidden layer.
      init_scale: standard deviation of every initial φ, biases included.

    Raises:
      ValueError: for a width below 1, an empty tree, or weights that aren't floating point.
    """
    if any(width < 1 for width in features):
        raise ValueError(f"a hypernet's widths must be 1 or more, got {tuple(features)}.")
    leaves, treedef = jax.tree.flatten(params)
    if not leaves or not all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves):
        raise ValueError(
            "a hypernet makes a tree of floating-point weights with at least one array, got "
            f"{jax.tree.map(lambda leaf: leaf.dtype, params)}."
        )
    sizes = [math.prod(leaf.shape) for leaf in leaves]
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    network = MLP(ends[-1], features, activation, init_scale)

    def init(key: jax.Array, hyperparams: Any) -> Any:
        return network.init(key, _ravel(hyperparams))

    def apply(hypernet_params: Any, hyperparams: Any) -> Any:
        flat = network.apply(hypernet_params, _ravel(hyperparams))
        pieces = [
            flat[end - size : end].reshape(leaf.shape).astype(leaf.dtype)
            for leaf, size, end in zip(leaves, sizes, ends, strict=True)
        ]
        return jax.tree.unflatten(treedef, pieces)

    return Hypernet(init, apply)


def _ravel(hyperparams: Any) -> jax.Array:
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(hyperparams)])
