"""The protocol of gradient methods, by which one driver runs and compares them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from shohypernet.problem import Problem
from shohypernet.types import Batch, Hyperparams, Key, ModelState, Params


class Info(NamedTuple):
    """Metrics of a step; nothing here is needed by the next step.

    Attributes:
      train_loss: L_train on the step's training batches, their mean, scalar.
      valid_loss: L_valid at the hyperparameters before their update, on the step's batch, scalar.
      hypergradient_norm: ‖dL_valid/dλ‖₂ as the method estimates it, λ unconstrained, scalar.
      gradient_evaluations: gradients of an elementary loss on one batch for one λ that the step
        took, scalar int32; the unit of compute in every comparison.
    """

    train_loss: jax.Array
    valid_loss: jax.Array
    hypergradient_norm: jax.Array
    gradient_evaluations: jax.Array


def _no_model_state(state: Any) -> ModelState:
    del state
    return ()


def _never(state: Any) -> bool:
    del state
    return False


def _none_rejected(state: Any) -> int:
    del state
    return 0


class HyperOptimizer(NamedTuple):
    """A method: how a Problem's hyperparameters are tuned.

    Attributes:
      init: `init(key, hyperparams) -> state`, from λ unconstrained; the state is a NamedTuple with
        a field `hyperparams`, unconstrained too.
      step: `step(key, state, train_batches, valid_batch) -> (state, Info)`; `train_batches` leads
        with the inner-step axis, one training batch for each inner update of the round.
      weights: `weights(state) -> params` at the current hyperparameters.
      model_state: `model_state(state)`, the model's state that goes with these weights.
      problem: the problem that the method was built for; `fit` refuses another.
      whole_batches: whether every batch must be the whole split, of which the method draws
        minibatches by itself; `fit` then refuses batch sizes.
      waiting: `waiting(state)`, whether all rounds so far were of a phase that leaves λ̂ where it
        starts, for one state or many: that λ̂ stands still is no fault then.
      rejected: `rejected(state)`: how many of its own estimates, such as of the curvature, weren't
        finite and were left out, for one state or many; `fit` warns of them.
      weights_at: `weights_at(state, hyperparams, train_batch) -> params`, the weights that the
        method's model of the response predicts for another λ, unconstrained; None for a method that
        has no such model. The batch is for a slope that depends on training examples.
    """

    init: Callable[[Key, Hyperparams], Any]
    step: Callable[[Key, Any, Batch, Batch], tuple[Any, Info]]
    weights: Callable[[Any], Params]
    model_state: Callable[[Any], ModelState] = _no_model_state
    problem: Problem | None = None
    whole_batches: bool = False
    waiting: Callable[[Any], Any] = _never
    rejected: Callable[[Any], Any] = _none_rejected
    weights_at: Callable[[Any, Hyperparams, Batch], Params] | None = None
