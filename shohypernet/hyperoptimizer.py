"""The protocol that every gradient method follows, so one driver runs and compares them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax


class Info(NamedTuple):
    """What a step tells; nothing here is needed by the next step.

    Attributes:
      train_loss: L_train on the step's training batches, their mean, scalar.
      valid_loss: L_valid at the hyperparameters before their update, on the step's batch, scalar.
      hypergradient_norm: ‖dL_valid/dλ‖₂ as the method estimates it, scalar.
      gradient_evaluations: gradients of an elementary loss on one batch for one λ that the step
        took, scalar int32; the unit of compute in every comparison.
    """

    train_loss: jax.Array
    valid_loss: jax.Array
    hypergradient_norm: jax.Array
    gradient_evaluations: jax.Array


class HyperOptimizer(NamedTuple):
    """A method: how a Problem's hyperparameters are tuned.

    Attributes:
      init: `init(key, hyperparams) -> state`; the state is a NamedTuple with a field `hyperparams`.
      step: `step(key, state, train_batches, valid_batch) -> (state, Info)`; `train_batches` leads
        with the inner-step axis, one training batch for each inner update of the round.
      weights: `weights(state) -> params` at the current hyperparameters.
    """

    init: Callable[[jax.Array, Any], Any]
    step: Callable[[jax.Array, Any, Any, Any], tuple[Any, Info]]
    weights: Callable[[Any], Any]
