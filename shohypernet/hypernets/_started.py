"""Where hypernets start: at the model's own weights, or from the paper's normal distribution.

    w_φ(λ) = h_φ((λ − λ₀) / √n),    h_φ(0) = w₀

λ₀ is where the run starts, n the number of hyperparameters, and w₀ are weights as the model makes
them. So h reads about a unit vector, of which a step of Adam in φ makes a step of that size. Log
decays of −7 in 79,510 inputs would move weights by up to 556,570 times what each number of φ moves.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from shohypernet._internal import validation
from shohypernet.hypernets._base import Hypernet
from shohypernet.types import Hyperparams, Key, Params

RESPONSE = 0.01  # of the weights' size, to λ whose distances from λ₀ are N(0, 1)


class Form(NamedTuple):
    """A hypernet whose start is still to be chosen.

    Attributes:
      draw: `draw(key, params, hyperparams) -> φ ~ N(0, 1)`.
      start: `start(φ, params) -> φ`, of numbers like those that `draw` made, with h_φ(0) = params
        and a small response.
      apply: `apply(φ, hyperparams) -> params`, h_φ.
      joint: whether each weight reads all hyperparameters, so that √n divides them.
    """

    draw: Callable[[Key, Params, Hyperparams], Any]
    start: Callable[[Any, Params], Any]
    apply: Callable[[Any, Hyperparams], Params]
    joint: bool = True


class StartedParams(NamedTuple):
    """φ of a hypernet that starts at the model's weights.

    Attributes:
      start: λ₀, and of `chunked` what else is held, whose gradient is zero. An optimizer that
        decays all of φ, such as `adamw`, decays it too, which W (λ − λ₀) + b makes up for.
      response: φ of h.
    """

    start: Any
    response: Any


def started(function: str, form: Form, init_scale: float | None) -> Hypernet:
    """A hypernet of some form.

    Args:
      function: name of the caller, for its errors.
      form: its form.
      init_scale: standard deviation of φ, which reads λ as it is; None for the model's weights.

    Raises:
      ValueError: for a negative scale.
    """
    if init_scale is not None:
        validation.not_negative(function, init_scale=init_scale)
        return Hypernet(
            lambda *like: optax.tree.scale(init_scale, form.draw(*like)),
            form.apply,
        )

    def init(key: Key, params: Params, hyperparams: Hyperparams) -> StartedParams:
        require_weights(function, params)
        start = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf)), hyperparams)
        return StartedParams(start, form.start(form.draw(key, params, hyperparams), params))

    def apply(hypernet_params: StartedParams, hyperparams: Hyperparams) -> Params:
        start = jax.lax.stop_gradient(hypernet_params.start)
        count = sum(leaf.size for leaf in jax.tree.leaves(start)) if form.joint else 1
        read = jax.tree.map(lambda at, start: (at - start) / count**0.5, hyperparams, start)
        return form.apply(hypernet_params.response, read)

    return Hypernet(init, apply)


def require_weights(function: str, params: Params) -> None:
    """Refuse the shapes of weights, where the weights themselves are needed.

    Raises:
      ValueError: naming the hypernet.
    """
    if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(params)):
        raise ValueError(
            f"{function}() starts from the model's weights, but got their shapes alone; give init "
            "the weights, as problem.init makes them, or take a hypernet with init_scale=0.01."
        )


def size(params: Params) -> jax.Array:
    """Root mean square of all weights; 1 where all are 0."""
    leaves = jax.tree.leaves(params)
    total: Any = sum(jnp.sum(jnp.square(leaf.astype(float))) for leaf in leaves)
    mean = total / max(1, sum(leaf.size for leaf in leaves))
    return jnp.where(mean > 0, jnp.sqrt(jnp.where(mean > 0, mean, 1.0)), 1.0)
