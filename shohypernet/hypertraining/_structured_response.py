"""How a layer's outputs respond to hyperparameters, computed inside the layers of the user's model.

    s = W a + b + (U h) ∘ (V a) + (C h) ∘ c

h ∈ Rⁿ is how far the hyperparameters are from where W and b stand. That is the layer with weights
W + diag(U h) V and bias b + (C h) ∘ c, at the price of two layers, also where every example has an
h of its own.

MacKay et al. (2019), "Self-Tuning Networks", arXiv:1903.03088.
"""

import contextlib
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from shohypernet._internal.layers import Layer, watched
from shohypernet.types import Key, Params


class LayerResponse(NamedTuple):
    """Response of one layer to n hyperparameters.

    Attributes:
      weights: V, like the layer's weights.
      bias: c, like its bias; None if it has none.
      to_weights: U transposed, shape (n, outputs).
      to_bias: C transposed, likewise; None without a bias.
    """

    weights: jax.Array
    bias: jax.Array | None
    to_weights: jax.Array
    to_bias: jax.Array | None


def init(
    key: Key, layers: tuple[Layer, ...], params: Params, count: int, scale: float
) -> tuple[LayerResponse, ...]:
    """Responses at the start: V and c uniform within ±1/√fan_in, U and C normal.

    Args:
      key: PRNG key.
      layers: layers that respond.
      params: weights, or their shapes.
      count: n, the number of hyperparameters.
      scale: standard deviation of U and C.
    """
    leaves = jax.tree.leaves(params)

    def one(key: Key, layer: Layer) -> LayerResponse:
        keys = jax.random.split(key, 4)
        kernel = leaves[layer.kernel]
        bias = None if layer.bias is None else leaves[layer.bias]
        most = 1 / math.sqrt(layer.inputs - (bias is not None))

        def uniform(key: Key, like: Any) -> jax.Array:
            return jax.random.uniform(key, like.shape, like.dtype, -most, most)

        def normal(key: Key) -> jax.Array:
            return scale * jax.random.normal(key, (count, layer.outputs), kernel.dtype)

        return LayerResponse(
            weights=uniform(keys[0], kernel),
            bias=None if bias is None else uniform(keys[1], bias),
            to_weights=normal(keys[2]),
            to_bias=None if bias is None else normal(keys[3]),
        )

    keys = jax.random.split(key, max(1, len(layers)))
    return tuple(one(key, layer) for key, layer in zip(keys, layers, strict=False))


def responding(
    layers: tuple[Layer, ...], responses: tuple[LayerResponse, ...], moved: jax.Array
) -> contextlib.AbstractContextManager[None]:
    """Within it, layers of a Flax model respond to hyperparameters.

    Args:
      layers: layers that respond.
      responses: of each.
      moved: h, shape (n,).
    """

    def respond(i: int, module: nn.Module, inputs: jax.Array, outputs: jax.Array) -> jax.Array:
        layer, response = layers[i], responses[i]
        without_bias: Any = {"use_bias": False} if response.bias is not None else {}
        copied: Any = module.clone(parent=None, name=None, **without_bias)
        other = copied.apply({"params": {layer.type.weights: response.weights}}, inputs)
        made = outputs + _over(_gates(response.to_weights, moved, response.weights, layer), other)
        if response.bias is not None and response.to_bias is not None:
            gates = _gates(response.to_bias, moved, response.weights, layer)
            made = made + _over(gates * response.bias, jnp.ones_like(made))
        return made.astype(outputs.dtype)

    return watched(layers, respond)


def weights_at(
    layers: tuple[Layer, ...],
    responses: tuple[LayerResponse, ...],
    params: Params,
    moved: jax.Array,
) -> Params:
    """The weights W + diag(U h) V and biases b + (C h) ∘ c that layers respond with.

    Args:
      layers: layers that respond.
      responses: of each.
      params: W and b, and weights of no layer, which don't respond.
      moved: h, shape (n,).
    """
    leaves, treedef = jax.tree.flatten(params)
    for layer, response in zip(layers, responses, strict=True):
        gates = _gates(response.to_weights, moved, response.weights, layer)
        kernel = leaves[layer.kernel]
        leaves[layer.kernel] = kernel + _over(gates, response.weights).astype(kernel.dtype)
        if layer.bias is not None and response.bias is not None and response.to_bias is not None:
            gates = _gates(response.to_bias, moved, response.weights, layer)
            bias = leaves[layer.bias]
            leaves[layer.bias] = bias + (gates * response.bias).astype(bias.dtype)
    return jax.tree.unflatten(treedef, leaves)


def _gates(to_outputs: jax.Array, moved: jax.Array, weights: jax.Array, layer: Layer) -> jax.Array:
    """U h in the shape of the layer's outputs: the last axes of its weights."""
    axes = next(n for n in range(1, weights.ndim) if math.prod(weights.shape[-n:]) == layer.outputs)
    return (moved.astype(to_outputs.dtype) @ to_outputs).reshape(weights.shape[-axes:])


def _over(gates: jax.Array, array: jax.Array) -> jax.Array:
    """The product of gates with the last axes of an array."""
    return gates.reshape((1,) * (array.ndim - gates.ndim) + gates.shape) * array
