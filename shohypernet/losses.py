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

    Raises:
      ValueError: for shapes that differ, which NumPy would broadcast to differences of all pairs.
    """
    if jnp.shape(outputs) != jnp.shape(targets):
        raise ValueError(
            f"outputs have shape {jnp.shape(outputs)} and targets {jnp.shape(targets)}, which must "
            "be the same; write targets[:, None] for models with one output, outputs[:, 0] for "
            "targets without an axis of their own."
        )
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

    Raises:
      ValueError: for shapes that differ.
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


def weighted(losses: jax.Array, weights: jax.Array, index: jax.Array) -> jax.Array:
    """Mean over a batch of each example's loss times a weight that is looked up by number.

        L = (1/B) Σ_b weights[index_b] · losses_b

    With the numbers of the examples (`batches.numbered`) there is a weight for each training
    example, and with the labels one for each class. The sum isn't divided by that of the weights:
    so the mean over minibatches is that over all examples, and a weight of 0 leaves an example out.

    Args:
      losses: a loss for each example, shape (B,).
      weights: non-negative, such as hyperparameters in a space `bounded(0, 1)`, shape (n,).
      index: numbers from 0 to n − 1, shape (B,), whole numbers. Others give NaN.

    Returns:
      A scalar, in units of the losses.

    Raises:
      ValueError: for shapes that don't fit, or an index that isn't of whole numbers.
    """
    shapes = [jnp.shape(array) for array in (losses, weights, index)]
    whole = jnp.issubdtype(jnp.result_type(index), jnp.integer)
    if [len(shape) for shape in shapes] != [1, 1, 1] or shapes[0] != shapes[2] or not whole:
        raise ValueError(
            "weighted() needs losses of shape (B,), weights (n,) and whole numbers of shape (B,), "
            f"got {shapes[0]}, {shapes[1]} and {jnp.result_type(index)} {shapes[2]}. A mean over "
            "examples has no loss for each of them: leave the mean out."
        )
    return jnp.mean(looked_up(weights, index) * losses)


def looked_up(weights: jax.Array, index: jax.Array) -> jax.Array:
    """Weights by number, shape (B,): those of examples or classes. Other numbers give NaN."""
    return jnp.take(weights, index, mode="fill", fill_value=jnp.nan)
