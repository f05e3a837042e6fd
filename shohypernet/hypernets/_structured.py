"""The hypernet of Self-Tuning Networks: each output unit's weights are scaled and shifted.

    w_φ(λ) = W + V ∘ (U λ),    for a kernel with outputs on its last axis, and likewise a bias

U λ has one number for each output unit, and multiplies all weights that lead to it. With λ near λ̂
this is MacKay's layer, y = W x + b + (Uλ) ∘ (V x) + (Cλ) ∘ c, written as weights.

MacKay, Vicol, Lorraine, Duvenaud and Grosse (2019), "Self-Tuning Networks: Bilevel Optimization of
Hyperparameters using Structured Best-Response Functions", arXiv:1903.03088, section 3.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from shohypernet._internal import validation
from shohypernet.hypernets._base import Hypernet, ravel, require_floating
from shohypernet.hypernets._mlp import PAPER_INIT_SCALE


class Params(NamedTuple):
    """φ: W, V and U for each array of weights."""

    center: list[jax.Array]
    scaled: list[jax.Array]
    gate: list[jax.Array]


def structured(params: Any, *, init_scale: float = PAPER_INIT_SCALE) -> Hypernet:
    """w_φ(λ) = W + V ∘ (U λ) for every array of weights, φ ~ N(0, init_scale²).

    Args:
      params: the weights to be made, or their `jax.ShapeDtypeStruct`s: any tree whose arrays have
        the output units on their last axis, as Flax's have.
      init_scale: standard deviation of the initial φ.

    Returns:
      A Hypernet with 2·D + units·n numbers for D weights and n hyperparameters.

    Raises:
      ValueError: if weights aren't floating point.
    """
    validation.not_negative("structured", init_scale=init_scale)
    require_floating(params)
    leaves, treedef = jax.tree.flatten(params)

    def init(key: jax.Array, hyperparams: Any) -> Any:
        length = ravel(hyperparams).size
        like = [jnp.zeros(leaf.shape, leaf.dtype) for leaf in leaves]
        gates = [jnp.zeros((length, *leaf.shape[-1:]), leaf.dtype) for leaf in leaves]
        return optax.tree.scale(init_scale, optax.tree.random_like(key, Params(like, like, gates)))

    def apply(hypernet_params: Any, hyperparams: Any) -> Any:
        flat = ravel(hyperparams)
        made = [
            center + scaled * jnp.broadcast_to(flat.astype(gate.dtype) @ gate, center.shape)
            for center, scaled, gate in zip(*hypernet_params, strict=True)
        ]
        return jax.tree.unflatten(treedef, made)

    return Hypernet(init, apply)
