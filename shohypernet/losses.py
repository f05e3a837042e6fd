"""Prediction losses L_pred(x, w), averaged over examples and outputs."""

import math

import jax
import jax.numpy as jnp
import optax

from shohypernet._internal import validation


def mean_squared_error(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean of (output − target)² over examples and outputs.

    Args:
      outputs: predictions, shape (n, outputs).
      targets: true values, same shape.

    Returns:
      A scalar, in squared units of the targets.
    """
    return jnp.mean(optax.losses.squared_error(outputs, targets))


def gaussian_nll(outputs: jax.Array, targets: jax.Array, scale: float = 0.1) -> jax.Array:
    """Mean negative log-likelihood of the targets under N(output, scale²).

    NLL = MSE / (2 scale²) + log(scale √(2π)), which is 50·MSE − 1.3836 at the paper's scale 0.1.

    Args:
      outputs: predictions, shape (n, outputs).
      targets: true values, same shape.
      scale: standard deviation of the noise, in units of the targets.

    Returns:
      A scalar in nats.
    """
    return gaussian_nll_from_mse(mean_squared_error(outputs, targets), scale)


def gaussian_nll_from_mse(mse: jax.Array, scale: float = 0.1) -> jax.Array:
    """Gaussian negative log-likelihood in nats, from a mean squared error.

    Args:
      mse: mean squared error, in squared units of the targets, any shape.
      scale: standard deviation of the noise, in units of the targets.
    """
    validation.positive("gaussian_nll", scale=scale)
    return mse / (2 * scale**2) + math.log(scale * math.sqrt(2 * math.pi))
