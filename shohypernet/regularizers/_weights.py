"""Weights of examples and of classes: L_train = (1/n) Σ_b a_b L_pred(z_b, y_b)."""

from typing import Any

import jax
import jax.numpy as jnp

from shohypernet import hyperparameters as hp
from shohypernet import losses
from shohypernet._internal import validation
from shohypernet.regularizers._base import Regularizer


def example_weights(
    count: int, start: float = 0.5, *, name: str = "example_weights"
) -> Regularizer:
    """A weight in (0, 1) for each training example, such as to find wrong labels.

    Batches are (inputs, targets, numbers), numbers being those of the training examples, from 0 to
    count − 1, as `batches.numbered` makes them. For validation examples, whose weights are all 1,
    they mean nothing.

    Args:
      count: number of training examples.
      start: weight to start from.
      name: of these hyperparameters, shape (count,).

    Raises:
      ValueError: for a start outside (0, 1); when traced, for batches without numbers.
    """
    validation.whole("example_weights", count=count)
    validation.require(0 < start < 1, f"example_weights() needs 0 < start < 1, got {start}.")

    def weigh(weights: jax.Array, targets: Any, *numbers: Any) -> jax.Array:
        del targets
        if len(numbers) != 1 or not jnp.issubdtype(numbers[0].dtype, jnp.integer):
            raise ValueError(
                "example_weights() needs batches (inputs, targets, numbers), where numbers are "
                "those of the training examples: data._replace(train=batches.numbered(data.train))."
            )
        return losses.looked_up(weights, numbers[0])

    return Regularizer(
        name, hp.bounded(0.0, 1.0), lambda model: jnp.full(count, start), weigh=weigh
    )


def class_weights(classes: int, *, name: str = "class_weights") -> Regularizer:
    """A positive weight for each class, all 1 at the start.

    Args:
      classes: number of classes, the last axis of one-hot targets.
      name: of these hyperparameters, shape (classes,).

    Raises:
      ValueError: for a number of classes below 1.
    """
    validation.whole("class_weights", classes=classes)

    def weigh(weights: jax.Array, targets: jax.Array, *numbers: Any) -> jax.Array:
        del numbers
        return losses.looked_up(weights, targets) if targets.ndim == 1 else targets @ weights

    return Regularizer(name, hp.log(), lambda model: jnp.ones(classes), weigh=weigh)
