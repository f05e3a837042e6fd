"""Penalties of activations, and of how they change from step to step.

    A(z, λ) = λ E[h²],    A(z, λ) = λ E[(h_{t+1} − h_t)²]

means over examples, steps and units. Merity, McCann and Socher (2017), "Revisiting Activation
Regularization for Language RNNs", arXiv:1708.01009.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from shohypernet import hyperparameters as hp
from shohypernet.regularizers._base import Regularizer, require_start


def activation_penalty(
    of: Callable[[Any], jax.Array],
    start: float = 1e-3,
    *,
    low: float = 1e-6,
    high: float = 10.0,
    name: str = "activation_penalty",
) -> Regularizer:
    """A strength λ of E[h²], which has a derivative and serves every method.

    Args:
      of: `of(outputs) -> h`, shape (n, …), from what the model returns: it has to return them
        beside its predictions, and the loss to read the latter.
      start: strength to start from.
      low: its lower bound; between the bounds its logarithm is tuned.
      high: its upper bound.
      name: of the hyperparameter.

    Raises:
      ValueError: for a start outside the bounds.
    """
    return _penalty("activation_penalty", of, (start, low, high), name)


def temporal_activation_penalty(
    of: Callable[[Any], jax.Array],
    start: float = 1e-3,
    *,
    low: float = 1e-6,
    high: float = 10.0,
    name: str = "temporal_activation_penalty",
) -> Regularizer:
    """A strength λ of E[(h_{t+1} − h_t)²], which has a derivative and serves every method.

    Args:
      of: `of(outputs) -> h`, shape (n, steps, …), as in `activation_penalty`.
      start: strength to start from.
      low: its lower bound; between the bounds its logarithm is tuned.
      high: its upper bound.
      name: of the hyperparameter.

    Raises:
      ValueError: for a start outside the bounds.
    """

    def changes(outputs: Any) -> jax.Array:
        return jnp.diff(of(outputs), axis=1)

    return _penalty("temporal_activation_penalty", changes, (start, low, high), name)


def _penalty(
    function: str,
    of: Callable[[Any], jax.Array],
    values: tuple[float, float, float],
    name: str,
) -> Regularizer:
    start, low, high = values
    space = require_start(function, start, hp.log(low, high))

    def activity(strength: Any, outputs: Any) -> jax.Array:
        return strength * jnp.mean(jnp.square(_at_least_float32(of(outputs))))

    return Regularizer(name, space, lambda model: start, activity=activity)


def _at_least_float32(values: jax.Array) -> jax.Array:
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))
