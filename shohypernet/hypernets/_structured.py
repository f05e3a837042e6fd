"""The hypernet of Self-Tuning Networks: each output unit's weights are scaled and shifted.

    w_φ(λ) = W + V ∘ (U λ),    for a kernel with outputs on its last axis, and likewise a bias

U λ has one number for each output unit, and multiplies all weights that lead to it. With λ near λ̂
this is MacKay's layer, y = W x + b + (Uλ) ∘ (V x) + (Cλ) ∘ c, written as weights.

MacKay, Vicol, Lorraine, Duvenaud and Grosse (2019), "Self-Tuning Networks: Bilevel Optimization of
Hyperparameters using Structured Best-Response Functions", arXiv:1903.03088, section 3.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from shohypernet._internal import random
from shohypernet.hypernets._base import Hypernet, ravel, require_floating
from shohypernet.hypernets._started import RESPONSE, Form, size, started
from shohypernet.types import Hyperparams, Key, Params


class StructuredParams(NamedTuple):
    """φ of `structured`: W, V and U, trees like the weights; U's arrays are (n, units)."""

    center: Params
    scaled: Params
    gate: Params


def structured(*, init_scale: float | None = None) -> Hypernet:
    """w_φ(λ) = W + V ∘ (U λ) for every array of weights.

    The weights' arrays have the output units on their last axis, as Flax's have.

    Args:
      init_scale: standard deviation of the initial φ; None for a start at the model's weights.

    Returns:
      A Hypernet with 2·D + units·n numbers for D weights and n hyperparameters.

    Raises:
      ValueError: for a negative scale.
    """

    def draw(key: Key, params: Params, hyperparams: Hyperparams) -> StructuredParams:
        require_floating(params)
        like = StructuredParams(params, params, gates(params, ravel(hyperparams).size))
        return random.random_like(key, like)

    def start(drawn: StructuredParams, params: Params) -> StructuredParams:
        scale = size(params)
        scaled = jax.tree.map(lambda leaf: (scale * leaf).astype(leaf.dtype), drawn.scaled)
        return StructuredParams(params, scaled, small_gates(drawn.gate))

    def apply(hypernet_params: StructuredParams, hyperparams: Hyperparams) -> Params:
        flat = ravel(hyperparams)

        def made(center: jax.Array, scaled: jax.Array, gate: jax.Array) -> jax.Array:
            gates = flat.astype(gate.dtype) @ gate
            return center + scaled * jnp.broadcast_to(gates, center.shape)

        return jax.tree.map(made, *hypernet_params)

    return started("structured", Form(draw, start, apply), init_scale)


def gates(params: Params, count: int) -> Params:
    """Shapes of a matrix (count, units) for each array of weights."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((count, *leaf.shape[-1:]), leaf.dtype), params
    )


def small_gates(drawn: Params) -> Params:
    """Matrices from N(0, 1) so scaled that the gates are small."""
    return optax.tree.scale(RESPONSE, drawn)
