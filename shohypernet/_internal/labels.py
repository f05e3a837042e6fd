"""Check of class labels against the outputs of a model.

JAX reads beyond the end of an array without error: a label that no output stands for is NaN in one
loss, the last class in another, and no class at all in a third.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def require_known(loss: Callable[[Any, Any], jax.Array], outputs: Any, examples: Any) -> None:
    """Refuse whole numbers that a loss would take for classes which the model has no output for.

    Those that the loss leaves out, as by a mask, pass.

    Args:
      loss: `loss(outputs, targets)`, a mean over examples.
      outputs: shape and dtype of the model's outputs.
      examples: pairs (inputs, targets), and perhaps more.

    Raises:
      ValueError: naming the labels.
    """
    if not isinstance(examples, tuple | list) or len(examples) < 2:
        return
    targets = examples[1]
    if not _are_labels(targets, outputs):
        return
    classes = outputs.shape[-1]
    found = np.unique(np.asarray(targets))
    outside = found[(found < 0) | (found >= classes)]
    misread = [int(label) for label in outside[[0, -1]]] if outside.size else []
    misread = [label for label in misread if not _is_left_out(loss, outputs, targets, label)]
    if misread:
        raise ValueError(
            f"its labels go from {found[0]} to {found[-1]}, but the model has {classes} outputs, "
            f"for labels from 0 to {classes - 1}; give it more outputs, or number the classes from "
            "0. A label for none must be left out by the loss."
        )


def _are_labels(targets: Any, outputs: Any) -> bool:
    """Whether targets are one whole number for each row of outputs."""
    arrays = all(hasattr(array, "shape") for array in (targets, outputs))
    return (
        arrays
        and jnp.issubdtype(targets.dtype, jnp.integer)
        and len(targets.shape) == len(outputs.shape) - 1
        and outputs.shape[-1] > 1
    )


def _is_left_out(
    loss: Callable[[Any, Any], jax.Array], outputs: Any, targets: Any, label: int
) -> bool:
    """Whether an example of that label, beside one of label 0, moves no output."""
    values = jnp.zeros((2, *outputs.shape[1:]), outputs.dtype)
    labels = np.zeros((2, *outputs.shape[1:-1]), targets.dtype)
    labels[1] = label
    total, gradient = jax.value_and_grad(lambda values: jnp.sum(loss(values, jnp.asarray(labels))))(
        values
    )
    return bool(jnp.isfinite(total) & jnp.all(gradient[1] == 0))
