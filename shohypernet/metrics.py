"""Metrics of predictions that no gradient follows, for `supervised(..., metrics=...)`."""

import jax
import jax.numpy as jnp

from shohypernet._internal import validation


def accuracy(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Share of the examples whose greatest output is that of their class.

    Args:
      outputs: scores or probabilities, shape (n, classes).
      targets: classes from 0 on, shape (n,), whole numbers; or one-hot, shape (n, classes).

    Returns:
      A scalar in [0, 1].

    Raises:
      ValueError: for targets of another shape or kind.
    """
    of_classes = jnp.issubdtype(targets.dtype, jnp.integer) and targets.shape == outputs.shape[:-1]
    validation.require(
        of_classes or targets.shape == outputs.shape,
        f"accuracy() needs one-hot targets of shape {outputs.shape}, or whole numbers of shape "
        f"{outputs.shape[:-1]}; got {targets.dtype} of shape {targets.shape}.",
    )
    classes = targets if of_classes else jnp.argmax(targets, -1)
    return jnp.mean(jnp.argmax(outputs, -1) == classes)
