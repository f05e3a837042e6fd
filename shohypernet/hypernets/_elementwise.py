"""A hypernet for one hyperparameter a weight: each weight answers to its own alone."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from shohypernet import penalties
from shohypernet._internal import validation
from shohypernet.hypernets._base import Hypernet, require_floating
from shohypernet.hypernets._mlp import PAPER_INIT_SCALE


def elementwise(params: Any, *, init_scale: float = PAPER_INIT_SCALE) -> Hypernet:
    """w_φ(λ) = u ∘ λ + b, with u and b shaped like the weights and φ ~ N(0, init_scale²).

    Args:
      params: the weights to be made, or their `jax.ShapeDtypeStruct`s: any tree.
      init_scale: standard deviation of the initial φ.

    Returns:
      A Hypernet with 2·D numbers for D weights, for hyperparameters that are a prefix of the
      weights' tree and broadcast to them, such as `penalties.decays` makes.

    Raises:
      ValueError: if weights aren't floating point and, from `apply`, if the hyperparameters don't
        broadcast to them.
    """
    validation.not_negative("elementwise", init_scale=init_scale)
    require_floating(params)

    def init(key: jax.Array, hyperparams: Any) -> Any:
        del hyperparams
        keys = jax.random.split(key)
        like = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), params)
        slope, offset = (
            optax.tree.scale(init_scale, optax.tree.random_like(key, like)) for key in keys
        )
        return {"slope": slope, "offset": offset}

    def apply(hypernet_params: Any, hyperparams: Any) -> Any:
        slope, offset = hypernet_params["slope"], hypernet_params["offset"]
        spread = penalties.spread(hyperparams, slope)
        return jax.tree.map(lambda u, value, b: u * value + b, slope, spread, offset)

    return Hypernet(init, apply)
