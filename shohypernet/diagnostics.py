"""How true a hypergradient or a best response is."""

from typing import Any

import jax
import jax.numpy as jnp
import optax


def cosine(estimate: Any, exact: Any) -> jax.Array:
    """⟨a, b⟩ / (‖a‖ ‖b‖): whether an estimated gradient points the right way.

    Args:
      estimate: a gradient, any tree.
      exact: the gradient that it should be, of the same form.

    Returns:
      A scalar from −1 to 1; 0 if either gradient is zero.
    """
    scale = optax.tree.norm(estimate) * optax.tree.norm(exact)
    return jnp.asarray(optax.tree.vdot(estimate, exact) / jnp.where(scale > 0, scale, 1))


def norm_ratio(estimate: Any, exact: Any) -> jax.Array:
    """‖a‖ / ‖b‖: whether an estimated gradient has the right length.

    Args:
      estimate: a gradient, any tree.
      exact: the gradient that it should be.

    Returns:
      A scalar, 1 at best; infinite, or NaN, if the exact gradient is zero.
    """
    return optax.tree.norm(estimate) / optax.tree.norm(exact)


def best_response_error(params: Any, best_response: Any) -> jax.Array:
    """‖w − w*(λ)‖ / ‖w*(λ)‖: how far weights are from the best ones at their hyperparameters.

    Args:
      params: weights, such as a hypernet's.
      best_response: w*(λ), of the same form.

    Returns:
      A scalar, 0 at best.
    """
    return optax.tree.norm(optax.tree.sub(params, best_response)) / optax.tree.norm(best_response)
