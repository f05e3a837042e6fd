"""What a hypernet is, and the dense layers that the paper's have inside."""

import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp


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
    """Dense layers from the flattened λ to w, `activation` between them.

    The last layer has a kernel for each array of w, (rows, size), the bias its last row, so that
    nothing is cut up or put together, and the products with φ, their own gradients among them, are
    those of matrices with few rows. On a CPU anything else took two or three times as long.

    Args:
      params: the weights to be made, or their `jax.ShapeDtypeStruct`s: any tree.
      features: widths of the hidden layers, none for a linear map.
      activation: elementwise function after each hidden layer.
      init_scale: standard deviation of every initial φ, biases included.

    Raises:
      ValueError: for a width below 1, an empty tree, or weights that aren't floating point.
    """
    if any(not isinstance(width, numbers.Integral) or width < 1 for width in features):
        raise ValueError(f"a hypernet's widths must be whole numbers >= 1, got {tuple(features)}.")
    require_floating(params)
    leaves, treedef = jax.tree.flatten(params)
    network = _Dense([leaf.shape for leaf in leaves], features, activation, init_scale)

    def init(key: jax.Array, hyperparams: Any) -> Any:
        return network.init(key, ravel(hyperparams))

    def apply(hypernet_params: Any, hyperparams: Any) -> Any:
        made: Any = network.apply(hypernet_params, ravel(hyperparams))
        typed = [array.astype(leaf.dtype) for array, leaf in zip(made, leaves, strict=True)]
        return jax.tree.unflatten(treedef, typed)

    return Hypernet(init, apply)


class _Dense(nn.Module):
    shapes: Sequence[tuple[int, ...]]
    features: Sequence[int]
    activation: Callable[[jax.Array], jax.Array]
    init_scale: float

    @nn.compact
    def __call__(self, flat: jax.Array) -> list[jax.Array]:
        initial = nn.initializers.normal(self.init_scale)
        for i, width in enumerate(self.features):
            kernel = self.param(f"hidden_kernel_{i}", initial, (width, flat.size))
            bias = self.param(f"hidden_bias_{i}", initial, (width,))
            flat = self.activation(jnp.inner(flat, kernel) + bias)
        flat = jnp.append(flat, 1.0)
        kernels = [
            self.param(f"kernel_{i}", initial, (flat.size, math.prod(shape)))
            for i, shape in enumerate(self.shapes)
        ]
        return [(flat @ k).reshape(s) for k, s in zip(kernels, self.shapes, strict=True)]


def require_floating(params: Any) -> None:
    """Refuses weights that no hypernet can make.

    Raises:
      ValueError: for an empty tree, or weights that aren't floating point.
    """
    leaves = jax.tree.leaves(params)
    if not leaves or not all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves):
        raise ValueError(
            "a hypernet makes a tree of floating-point weights with at least one array, got "
            f"{jax.tree.map(lambda leaf: leaf.dtype, params)}."
        )


def ravel(hyperparams: Any) -> jax.Array:
    """All hyperparameters in one vector, in the order of the tree."""
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(hyperparams)])
