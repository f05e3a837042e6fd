"""Dense layers from λ to all weights at once, the inside of the paper's hypernets."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
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
        sizes = tuple((leaf.size, leaf.dtype) for leaf in leaves)
        network = _Initial(tuple(features), sizes, init_scale)
        drawn: Any = network.init(key, ravel(hyperparams).size)["params"]
        return DenseParams(
            hidden=[
                (drawn[f"hidden_kernel_{i}"], drawn[f"hidden_bias_{i}"])
                for i in range(len(features))
            ],
            kernels=jax.tree.unflatten(treedef, [drawn[f"kernel_{i}"] for i in range(len(leaves))]),
            shapes=tuple(leaf.shape for leaf in leaves),
            dtypes=tuple(str(leaf.dtype) for leaf in leaves),
        )

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


class _Initial(nn.Module):
    """Makes φ, a parameter for each kernel and bias."""

    features: Sequence[int]
    sizes: Sequence[tuple[int, Any]]
    init_scale: float

    @nn.compact
    def __call__(self, inputs: int) -> None:
        initial = nn.initializers.normal(self.init_scale)
        for i, width in enumerate(self.features):
            self.param(f"hidden_kernel_{i}", initial, (width, inputs))
            self.param(f"hidden_bias_{i}", initial, (width,))
            inputs = width
        for i, (size, dtype) in enumerate(self.sizes):
            dtype = jnp.promote_types(dtype, jnp.float32)
            self.param(f"kernel_{i}", initial, (inputs + 1, size), dtype)
