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

from shohypernet._internal import random, validation
from shohypernet.hypernets._base import PAPER_INIT_SCALE, Hypernet, ravel, require_floating
from shohypernet.types import Hyperparams, Key, Params


class StructuredParams(NamedTuple):
    """φ of `structured`: W, V and U, trees like the weights; U's arrays are (n, units)."""

    center: Params
    scaled: Params
    gate: Params


def structured(*, init_scale: float = PAPER_INIT_SCALE) -> Hypernet:
    """w_φ(λ) = W + V ∘ (U λ) for every array of weights, φ ~ N(0, init_scale²).

    The weights' arrays have the output units on their last axis, as Flax's have.

    Args:
      init_scale: standard deviation of the initial φ.

    Returns:
      A Hypernet with 2·D + units·n numbers for D weights and n hyperparameters.

    Raises:
      ValueError: for a negative scale.
    """
    validation.not_negative("structured", init_scale=init_scale)

    def init(key: Key, params: Params, hyperparams: Hyperparams) -> StructuredParams:
        require_floating(params)
        length = ravel(hyperparams).size
        gates = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((length, *leaf.shape[-1:]), leaf.dtype), params
        )
        like = StructuredParams(params, params, gates)
        return optax.tree.scale(init_scale, random.random_like(key, like))

    def apply(hypernet_params: StructuredParams, hyperparams: Hyperparams) -> Params:
        flat = ravel(hyperparams)

        def made(center: jax.Array, scaled: jax.Array, gate: jax.Array) -> jax.Array:
            gates = flat.astype(gate.dtype) @ gate
            return center + scaled * jnp.broadcast_to(gates, center.shape)

        return jax.tree.map(made, *hypernet_params)

    return Hypernet(init, apply)
