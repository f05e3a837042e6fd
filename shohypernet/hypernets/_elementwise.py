"""A hypernet for one hyperparameter per weight: each weight answers to its own alone.

w_φ(λ) = u ∘ λ + b
"""

from typing import NamedTuple

import jax

from shohypernet import penalties
from shohypernet._internal import random
from shohypernet.hypernets._base import Hypernet, require_floating
from shohypernet.hypernets._started import RESPONSE, Form, size, started
from shohypernet.types import Hyperparams, Key, Params


class ElementwiseParams(NamedTuple):
    """φ of `elementwise`: u and b, trees like the weights."""

    slope: Params
    offset: Params


def elementwise(*, init_scale: float | None = None) -> Hypernet:
    """w_φ(λ) = u ∘ λ + b, with u and b shaped like the weights.

    Args:
      init_scale: standard deviation of the initial φ; None for a start at the model's weights.

    Returns:
      A Hypernet with 2·D numbers for D weights, for hyperparameters that are a prefix of the
      weights' tree and broadcast to them, such as `penalties.decays` makes. Its `init` and `apply`
      raise a ValueError for others.

    Raises:
      ValueError: for a negative scale.
    """

    def draw(key: Key, params: Params, hyperparams: Hyperparams) -> ElementwiseParams:
        require_floating(params)
        penalties.broadcast(hyperparams, params)
        return ElementwiseParams(
            *(random.random_like(key, params) for key in jax.random.split(key))
        )

    def start(drawn: ElementwiseParams, params: Params) -> ElementwiseParams:
        scale = RESPONSE * size(params)
        slope = jax.tree.map(lambda leaf: (scale * leaf).astype(leaf.dtype), drawn.slope)
        return ElementwiseParams(slope, params)

    def apply(hypernet_params: ElementwiseParams, hyperparams: Hyperparams) -> Params:
        slope, offset = hypernet_params
        each = penalties.broadcast(hyperparams, slope)
        return jax.tree.map(lambda u, value, b: u * value.astype(u.dtype) + b, slope, each, offset)

    return started("elementwise", Form(draw, start, apply, joint=False), init_scale)
