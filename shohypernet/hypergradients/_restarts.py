"""The two ways in which a gradient method's rounds follow each other.

Either every round *restarts* training from the same w_0 for the same number of steps, so that λ is
tuned for that training; or the weights *continue* from round to round (a warm start), so that they
follow the moving λ and no training is ever finished.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from shohypernet import hyperparameters as hp
from shohypernet import inner_loop
from shohypernet._internal import validation
from shohypernet._internal.trees import typed
from shohypernet.hyperoptimizer import HyperOptimizer, Info
from shohypernet.inner_loop import TrainState
from shohypernet.problem import Problem, unconstrained
from shohypernet.types import Batch, Hyperparams, Key, ModelState, Optimizer, OptState, Params


class Hypergradient(NamedTuple):
    """What a round of training and its differentiation give.

    Attributes:
      gradient: the estimated dL_valid/dλ, a tree like λ.
      state: weights, their optimizer's state and the model's after the round.
      train_loss: mean of the training losses before each inner step, scalar.
      valid_loss: L_valid at the end, scalar.
      gradient_evaluations: what it took, a number or a scalar array.
    """

    gradient: Hyperparams
    state: TrainState
    train_loss: jax.Array
    valid_loss: jax.Array
    gradient_evaluations: Any


Start = Callable[[Key, Hyperparams], TrainState]
Round = Callable[[Hyperparams, TrainState, Batch, Batch, Key], Hypergradient]


class Parts(NamedTuple):
    """What a builder was given, once it is known to fit together.

    Attributes:
      problem: in unconstrained space.
      optimizer: of the weights, or a function from unconstrained λ to one.
      hyper_optimizer: of λ.
    """

    problem: Problem
    optimizer: Any
    hyper_optimizer: optax.GradientTransformation


class RestartState(NamedTuple):
    """State of a method whose rounds restart.

    Attributes:
      hyperparams: λ, unconstrained.
      start: w_0, and the first state of its optimizer and of the model, the same in every round.
      params: weights at the last round's end, trained with the λ before its update.
      model_state: the model's that goes with them.
      hyper_opt_state: state of the optimizer of λ.
    """

    hyperparams: Hyperparams
    start: TrainState
    params: Params
    model_state: ModelState
    hyper_opt_state: OptState


class WarmStartState(NamedTuple):
    """State of a method whose rounds continue.

    Attributes:
      hyperparams: λ, unconstrained.
      inner: weights, their optimizer's state and the model's.
      hyper_opt_state: state of the optimizer of λ.
    """

    hyperparams: Hyperparams
    inner: TrainState
    hyper_opt_state: OptState


def parts(
    function: str,
    problem: Problem,
    optimizer: Any,
    hyper_optimizer: Any,
    *,
    function_of_hyperparams: bool = False,
) -> Parts:
    """Check what a builder was given.

    Raises:
      TypeError: for something that is no problem or no optimizer.
      ValueError: for a space that no gradient can move in.
    """
    inner = unconstrained(problem)
    (optimizer,) = validation.optimizer(
        function, optimizer=optimizer, function_of_hyperparams=function_of_hyperparams
    )
    (hyper_optimizer,) = validation.optimizer(function, hyper_optimizer=hyper_optimizer)
    if isinstance(optimizer, optax.GradientTransformation):
        return Parts(inner, optimizer, hyper_optimizer)
    space = problem.space
    return Parts(inner, lambda codes: optimizer(hp.decode(space, codes)), hyper_optimizer)


def restart(
    start: Start, estimate: Round, optimizer: optax.GradientTransformation, problem: Problem
) -> HyperOptimizer:
    """A method whose rounds all train from the same w_0."""

    def init(key: Key, hyperparams: Hyperparams) -> RestartState:
        hyperparams = typed(hyperparams)
        first = start(key, hyperparams)
        return RestartState(
            hyperparams, first, first.params, first.model_state, optimizer.init(hyperparams)
        )

    def step(
        key: Key, state: RestartState, train_batches: Batch, valid_batch: Batch
    ) -> tuple[RestartState, Info]:
        made = estimate(state.hyperparams, state.start, train_batches, valid_batch, key)
        hyperparams, opt_state = move(optimizer, made, state.hyper_opt_state, state.hyperparams)
        end = made.state
        state = RestartState(hyperparams, state.start, end.params, end.model_state, opt_state)
        return state, info(made)

    return HyperOptimizer(
        init, step, lambda state: state.params, lambda state: state.model_state, problem
    )


def warm_start(
    start: Start, estimate: Round, optimizer: optax.GradientTransformation, problem: Problem
) -> HyperOptimizer:
    """A method whose weights persist from round to round."""

    def init(key: Key, hyperparams: Hyperparams) -> WarmStartState:
        hyperparams = typed(hyperparams)
        return WarmStartState(hyperparams, start(key, hyperparams), optimizer.init(hyperparams))

    def step(
        key: Key, state: WarmStartState, train_batches: Batch, valid_batch: Batch
    ) -> tuple[WarmStartState, Info]:
        made = estimate(state.hyperparams, state.inner, train_batches, valid_batch, key)
        hyperparams, opt_state = move(optimizer, made, state.hyper_opt_state, state.hyperparams)
        return WarmStartState(hyperparams, made.state, opt_state), info(made)

    return persistent(init, step, problem)


def persistent(
    init: Callable[..., Any], step: Callable[..., Any], problem: Problem
) -> HyperOptimizer:
    """A method whose state has its weights in a field `inner`."""
    return HyperOptimizer(
        init,
        step,
        lambda state: state.inner.params,
        lambda state: state.inner.model_state,
        problem,
    )


def start(problem: Problem, optimizer: Optimizer) -> Start:
    """Fresh weights from a key and λ."""
    return lambda key, hyperparams: inner_loop.init(problem, optimizer, key, hyperparams)


def move(
    optimizer: optax.GradientTransformation,
    made: Hypergradient,
    opt_state: OptState,
    hyperparams: Hyperparams,
) -> tuple[Hyperparams, OptState]:
    """λ after one update, and its optimizer's state."""
    return inner_loop.apply_gradient(
        optimizer, made.gradient, opt_state, hyperparams, value=made.valid_loss
    )


def info(made: Hypergradient) -> Info:
    """An Info of a round."""
    return Info(
        made.train_loss,
        made.valid_loss,
        optax.tree.norm(made.gradient),
        jnp.asarray(made.gradient_evaluations, jnp.int32),
    )
