"""The hypernet of multi-rate VAEs: a gate for each output unit, which no λ can carry away.

    w_φ(λ) = W ∘ 2σ(U λ + c),    for a kernel with outputs on its last axis, and likewise a bias

σ is the logistic function. However large λ becomes, weights stay between 0 and 2W, while those of
an affine hypernet grow with |λ|.

Bae, Zhang, Ruan, Wang, Hasegawa, Ba and Grosse (2022), "Multi-Rate VAE: Train Once, Get the Full
Rate-Distortion Curve", arXiv:2212.03905.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from shohypernet._internal import random
from shohypernet.hypernets._base import Hypernet, ravel, require_floating
from shohypernet.hypernets._started import Form, started
from shohypernet.hypernets._structured import gates, small_gates
from shohypernet.types import Hyperparams, Key, Params


class GatedParams(NamedTuple):
    """φ of `gated`: W, U and c, trees like the weights; U's arrays are (n, units), c's (units,)."""

    weights: Params
    gate: Params
    bias: Params


def gated(*, init_scale: float | None = None) -> Hypernet:
    """w_φ(λ) = W ∘ 2σ(U λ + c) for every array of weights.

    The weights' arrays have the output units on their last axis, as Flax's have.

    Args:
      init_scale: standard deviation of the initial φ; None for a start at the model's weights.

    Returns:
      A Hypernet with D + units·(n + 1) numbers for D weights and n hyperparameters.

    Raises:
      ValueError: for a negative scale.

    Reference:
      arXiv:2212.03905, where it multiplies the units' inputs to their activations.
    """

    def draw(key: Key, params: Params, hyperparams: Hyperparams) -> GatedParams:
        require_floating(params)
        bias = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[-1:], leaf.dtype), params)
        like = GatedParams(params, gates(params, ravel(hyperparams).size), bias)
        return random.random_like(key, like)

    def start(drawn: GatedParams, params: Params) -> GatedParams:
        return GatedParams(params, small_gates(drawn.gate), optax.tree.zeros_like(drawn.bias))

    def apply(hypernet_params: GatedParams, hyperparams: Hyperparams) -> Params:
        flat = ravel(hyperparams)

        def made(weights: jax.Array, gate: jax.Array, bias: jax.Array) -> jax.Array:
            open_by = 2 * jax.nn.sigmoid(flat.astype(gate.dtype) @ gate + bias)
            return weights * jnp.broadcast_to(open_by, weights.shape)

        return jax.tree.map(made, *hypernet_params)

    return started("gated", Form(draw, start, apply), init_scale)
