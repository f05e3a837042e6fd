"""Errors of hypergradients and best responses, and the curvature of a loss, in single numbers."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from shohypernet._internal import validation
from shohypernet.hypergradients.curvature import hessian
from shohypernet.problem import Problem
from shohypernet.types import Batch, Hyperparams, Key, Params


def cosine(estimate: Any, exact: Any) -> jax.Array:
    """Cosine of the angle between an estimated gradient and the exact one: ⟨a, b⟩ / (‖a‖ ‖b‖).

    Args:
      estimate: estimated gradient a, any tree.
      exact: exact gradient b, a tree like it.

    Returns:
      A scalar from −1 to 1; 0 if either gradient is zero.
    """
    scale = optax.tree.norm(estimate) * optax.tree.norm(exact)
    return jnp.asarray(optax.tree.vdot(estimate, exact) / jnp.where(scale > 0, scale, 1))


def norm_ratio(estimate: Any, exact: Any) -> jax.Array:
    """Length of an estimated gradient over that of the exact one: ‖a‖ / ‖b‖.

    Args:
      estimate: estimated gradient a, any tree.
      exact: exact gradient b, a tree like it.

    Returns:
      A scalar, 1 at best; infinite, or NaN, if the exact gradient is zero.
    """
    return optax.tree.norm(estimate) / optax.tree.norm(exact)


def best_response_error(params: Params, best_response: Params) -> jax.Array:
    """Relative distance of weights from the best response: ‖w − w*(λ)‖ / ‖w*(λ)‖.

    Args:
      params: weights w, such as a hypernet's.
      best_response: w*(λ), a tree like them.

    Returns:
      A scalar, 0 at best.
    """
    return optax.tree.norm(optax.tree.sub(params, best_response)) / optax.tree.norm(best_response)


def sharpness(
    problem: Problem,
    params: Params,
    hyperparams: Hyperparams,
    batch: Batch,
    key: Key,
    *,
    steps: int = 100,
) -> jax.Array:
    """Largest eigenvalue of ∂²L_train/∂w², by power iteration.

    Gradient descent and Neumann series diverge with step sizes of 2 over it or more.

    Args:
      problem: problem without model state (see `problem.with_state`), for its training loss.
      params: weights w.
      hyperparams: λ, in natural units.
      batch: training examples.
      key: PRNG key of the stochastic terms of the loss, and of the first vector.
      steps: maximum number of products with the Hessian.

    Returns:
      A scalar, a little below the eigenvalue if the iteration has not converged.
    """
    validation.whole("sharpness", steps=steps)
    key_loss, key_first = jax.random.split(key)
    product = hessian(problem)(params, hyperparams, batch, key_loss)
    first = optax.tree.random_like(key_first, params)
    found = optax.power_iteration(product, v0=first, num_iters=steps, error_tolerance=1e-6)
    return jnp.asarray(found[0])
