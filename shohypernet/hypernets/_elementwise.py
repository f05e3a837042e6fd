"""A hypernet for one hyperparameter per weight: each weight answers to its own alone.

w_φ(λ) = u ∘ λ + b
"""

from typing import NamedTuple

import jax
import optax

from shohypernet import penalties
from shohypernet._internal import random, validation
from shohypernet.hypernets._base import PAPER_INIT_SCALE, Hypernet, require_floating
from shohypernet.types import Hyperparams, Key, Params


class ElementwiseParams(NamedTuple):
    """φ of `elementwise`: u and b, trees like the weights."""

    slope: Params
    offset: Params


def elementwise(*, init_scale: float = PAPER_INIT_SCALE) -> Hypernet:
    """w_φ(λ) = u ∘ λ + b, with u and b shaped like the weights and φ ~ N(0, init_scale²).

    Args:
      init_scale: standard deviation of the initial φ.

    Returns:
      A Hypernet with 2·D numbers for D weights, for hyperparameters that are a prefix of the
      weights' tree and broadcast to them, such as `penalties.decays` makes. Its `init` and `apply`
      raise a ValueError for others.

    Raises:
      ValueError: for a negative scale.
    """
    validation.not_negative("elementwise", init_scale=init_scale)

    def init(key: Key, params: Params, hyperparams: Hyperparams) -> ElementwiseParams:
        require_floating(params)
        penalties.broadcast(hyperparams, params)
        drawn = (random.random_like(key, params) for key in jax.random.split(key))
        return ElementwiseParams(*(optax.tree.scale(init_scale, tree) for tree in drawn))

    def apply(hypernet_params: ElementwiseParams, hyperparams: Hyperparams) -> Params:
        slope, offset = hypernet_params
        each = penalties.broadcast(hyperparams, slope)
        return jax.tree.map(lambda u, value, b: u * value.astype(u.dtype) + b, slope, each, offset)

    return Hypernet(init, apply)
