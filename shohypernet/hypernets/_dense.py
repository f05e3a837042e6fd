"""Dense layers from λ to all weights at once, the inside of the paper's hypernets."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from shohypernet._internal import validation
from shohypernet.hypernets._base import Hypernet, ravel, require_floating
from shohypernet.hypernets._started import RESPONSE, Form, size, started
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
    init_scale: float | None,
) -> Hypernet:
    """Dense layers from the flattened λ to w, `activation` between them.

    The last layer has a kernel for each array of w, so that nothing is cut up or put together, and
    the products with φ, their own gradients among them, are those of matrices with few rows. On a
    CPU anything else took two or three times as long.

    Args:
      function: name of the caller, for its errors.
      features: widths of the hidden layers, none for a linear map.
      activation: elementwise function after each hidden layer.
      init_scale: standard deviation of every initial φ, biases included; None for a start at the
        model's weights.

    Raises:
      ValueError: for a width below 1, or a negative scale.
    """
    for width in features:
        validation.whole(function, width=width)

    def draw(key: Key, params: Params, hyperparams: Hyperparams) -> DenseParams:
        require_floating(params)
        leaves, treedef = jax.tree.flatten(params)
        sizes = tuple((leaf.size, leaf.dtype) for leaf in leaves)
        network = _Initial(tuple(features), sizes)
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

    def start(drawn: DenseParams, params: Params) -> DenseParams:
        # For inputs of length 1, in the first layer, or of size 1 each, behind it. No bias is below
        # 0, so that every ReLU of the first is open at λ₀, and closes on one side of it.
        hidden = [
            (kernel / (kernel.shape[1] ** 0.5 if i else 1.0), jnp.abs(bias))
            for i, (kernel, bias) in enumerate(drawn.hidden)
        ]
        first = hidden[0][0] if hidden else jax.tree.leaves(drawn.kernels)[0][:-1].T
        at_start = _features(hidden, activation, jnp.zeros(first.shape[1]))
        scale = RESPONSE * size(params) / (len(at_start) ** 0.5 if hidden else 1.0)

        def last(kernel: jax.Array, weights: jax.Array) -> jax.Array:
            rows = (scale * kernel[:-1]).astype(kernel.dtype)
            bias = weights.ravel().astype(kernel.dtype) - at_start.astype(kernel.dtype) @ rows
            return jnp.concatenate([rows, bias[None]])

        kernels = jax.tree.map(last, drawn.kernels, params)
        return DenseParams(hidden, kernels, drawn.shapes, drawn.dtypes)

    def apply(hypernet_params: DenseParams, hyperparams: Hyperparams) -> Params:
        flat = jnp.append(_features(hypernet_params.hidden, activation, ravel(hyperparams)), 1.0)
        kernels, treedef = jax.tree.flatten(hypernet_params.kernels)
        arrays = zip(kernels, hypernet_params.shapes, hypernet_params.dtypes, strict=True)
        made = [
            (flat.astype(kernel.dtype) @ kernel).reshape(shape).astype(dtype)
            for kernel, shape, dtype in arrays
        ]
        return jax.tree.unflatten(treedef, made)

    return started(function, Form(draw, start, apply), init_scale)


def _features(
    hidden: list[tuple[jax.Array, jax.Array]],
    activation: Callable[[jax.Array], jax.Array],
    flat: jax.Array,
) -> jax.Array:
    """Outputs of the last hidden layer, or the inputs where there is none."""
    for kernel, bias in hidden:
        flat = activation(jnp.inner(flat.astype(kernel.dtype), kernel) + bias)
    return flat


class _Initial(nn.Module):
    """Makes φ ~ N(0, 1), a parameter for each kernel and bias."""

    features: Sequence[int]
    sizes: Sequence[tuple[int, Any]]

    @nn.compact
    def __call__(self, inputs: int) -> None:
        initial = nn.initializers.normal(1.0)
        for i, width in enumerate(self.features):
            self.param(f"hidden_kernel_{i}", initial, (width, inputs))
            self.param(f"hidden_bias_{i}", initial, (width,))
            inputs = width
        for i, (count, dtype) in enumerate(self.sizes):
            dtype = jnp.promote_types(dtype, jnp.float32)
            self.param(f"kernel_{i}", initial, (inputs + 1, count), dtype)
