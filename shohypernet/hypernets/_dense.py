"""Dense layers from λ to all weights at once, the inside of the paper's hypernets."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from shohypernet._internal import validation
from shohypernet.hypernets._base import Hypernet, ravel, require_floating
from shohypernet.types import Hyperparams, Key, Params


@flax.struct.dataclass
class DenseParams:
    """φ of `dense`.

    Attributes:
      hidden: kernel (width, inputs) and bias (width,) of each hidden layer.
      kernels: a tree like w with a kernel (rows, size) for each of its arrays, the bias in the last
        row. Flat, since a CPU takes twice as long to update arrays with a short last axis.
      shapes: of the arrays of w, in the order of the tree.
      dtypes: likewise.
    """

    hidden: list[tuple[jax.Array, jax.Array]]
    kernels: Any
    shapes: tuple[tuple[int, ...], ...] = flax.struct.field(pytree_node=False)
    dtypes: tuple[str, ...] = flax.struct.field(pytree_node=False)


def dense(
    function: str,
    features: Sequence[int],
    activation: Callable[[jax.Array], jax.Array],
    init_scale: float,
) -> Hypernet:
    """Dense layers from the flattened λ to w, `activation` between them; φ ~ N(0, init_scale²).

    The last layer has a kernel for each array of w, so that nothing is cut up or put together, and
    the products with φ, their own gradients among them, are those of matrices with few rows. On a
    CPU anything else took two or three times as long.

    Args:
      function: name of the caller, for its errors.
      features: widths of the hidden layers, none for a linear map.
      activation: elementwise function after each hidden layer.
      init_scale: standard deviation of every initial φ, biases included.

    Raises:
      ValueError: for a width below 1, or a negative scale.
    """
    for width in features:
        validation.whole(function, width=width)
    validation.not_negative(function, init_scale=init_scale)

    def init(key: Key, params: Params, hyperparams: Hyperparams) -> DenseParams:
        require_floating(params)
        leaves, treedef = jax.tree.flatten(params)
        inputs = ravel(hyperparams).size
        keys = iter(jax.random.split(key, 2 * len(features) + len(leaves)))

        def drawn(*shape: int, dtype: Any = jnp.float32) -> jax.Array:
            # Flat, for XLA uses no vector instructions where the last axis is short.
            flat = init_scale * jax.random.normal(next(keys), (math.prod(shape),), dtype)
            return flat.reshape(shape)

        hidden = []
        for width in features:
            hidden.append((drawn(width, inputs), drawn(width)))
            inputs = width
        kernels = [
            drawn(inputs + 1, leaf.size, dtype=jnp.promote_types(leaf.dtype, jnp.float32))
            for leaf in leaves
        ]
        shapes = tuple(leaf.shape for leaf in leaves)
        dtypes = tuple(str(leaf.dtype) for leaf in leaves)
        return DenseParams(hidden, jax.tree.unflatten(treedef, kernels), shapes, dtypes)

    def apply(hypernet_params: DenseParams, hyperparams: Hyperparams) -> Params:
        flat = ravel(hyperparams)
        for kernel, bias in hypernet_params.hidden:
            flat = activation(jnp.inner(flat.astype(kernel.dtype), kernel) + bias)
        flat = jnp.append(flat, 1.0)
        kernels, treedef = jax.tree.flatten(hypernet_params.kernels)
        arrays = zip(kernels, hypernet_params.shapes, hypernet_params.dtypes, strict=True)
        made = [
            (flat.astype(kernel.dtype) @ kernel).reshape(shape).astype(dtype)
            for kernel, shape, dtype in arrays
        ]
        return jax.tree.unflatten(treedef, made)

    return Hypernet(init, apply)
