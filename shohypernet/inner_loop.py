"""The inner loop: training of the weights at one λ. Every method, the search and `train` use it.

    w ← w − α ∇_w L_train(w, λ, x)

α stands for any optax optimizer. A step may be differentiated with respect to all floating-point
arrays of its `TrainState` and to λ, both where λ enters the training loss and where it enters the
optimizer. `training.train` does all of it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from shohypernet import problem as problems
from shohypernet import sources
from shohypernet._internal import convolutions, random, sharding
from shohypernet._internal.trees import split_floats
from shohypernet.batches import Data, SplitLosses, Turn, drawn
from shohypernet.problem import Problem
from shohypernet.sources import Source
from shohypernet.types import (
    Batch,
    Hyperparams,
    Key,
    ModelState,
    Optimizer,
    OptState,
    Params,
    ValidLoss,
)


class TrainState(NamedTuple):
    """State of the inner loop.

    Attributes:
      params: weights w.
      opt_state: state of their optimizer.
      model_state: what the model keeps besides, such as batch statistics; `()` if nothing.
    """

    params: Params
    opt_state: OptState
    model_state: ModelState = ()


class Evaluation(NamedTuple):
    """The problem's validation loss and metrics on all examples of each split.

    Attributes:
      losses: `valid_loss` by split; None for a test split that there isn't.
      metrics: `SplitLosses` of each of the problem's metrics, by its name.
    """

    losses: SplitLosses
    metrics: dict[str, SplitLosses]


Step = Callable[[TrainState, Hyperparams, Batch, Key], tuple[TrainState, jax.Array]]
"""`train_step` with problem and optimizer given."""


class ValidGradients(NamedTuple):
    """L_valid on one batch and its gradients, as if w, λ and the model's state were free.

    Attributes:
      loss: L_valid, scalar.
      params: ∂L_valid/∂w, a tree like w.
      model_state: likewise for the model's state.
      hyperparams: ∂L_valid/∂λ, a tree like λ.
    """

    loss: jax.Array
    params: Params
    model_state: ModelState
    hyperparams: Hyperparams


def optimizer_at(optimizer: Optimizer, hyperparams: Hyperparams) -> optax.GradientTransformation:
    """The optimizer itself, or what a function of λ makes of λ."""
    if isinstance(optimizer, optax.GradientTransformation):
        return optimizer
    return optimizer(hyperparams)


def init(problem: Problem, optimizer: Optimizer, key: Key, hyperparams: Hyperparams) -> TrainState:
    """Fresh weights w_0 and the state of their optimizer and model."""
    params, model_state = problems.initialize(problem, key)
    return TrainState(params, optimizer_at(optimizer, hyperparams).init(params), model_state)


def train_loss(
    problem: Problem,
    params: Params,
    model_state: ModelState,
    hyperparams: Hyperparams,
    batch: Batch,
    key: Key,
) -> tuple[jax.Array, ModelState]:
    """L_train on a batch, and the model's state after it."""
    if problem.stateful:
        return problem.train_loss(params, hyperparams, batch, key, model_state)
    return problem.train_loss(params, hyperparams, batch, key), model_state


def valid_loss(
    problem: Problem,
    params: Params,
    model_state: ModelState,
    hyperparams: Hyperparams,
    batch: Batch,
) -> jax.Array:
    """L_valid on a batch."""
    state = (model_state,) if problem.stateful else ()
    return problem.valid_loss(params, hyperparams, batch, *state)


def evaluate(
    problem: Problem,
    params: Params,
    model_state: ModelState,
    hyperparams: Hyperparams,
    data: Data,
) -> Evaluation:
    """L_valid and the problem's metrics on all examples of each split, shared by the devices."""
    splits = [sharding.constrain_if_even(split, "examples") for split in data]

    def on_splits(loss: ValidLoss) -> SplitLosses:
        measured = problem._replace(valid_loss=loss)
        at = params, model_state, hyperparams
        return SplitLosses(*(whole_valid_loss(measured, *at, split) for split in splits))

    metrics = {name: on_splits(metric) for name, metric in (problem.metrics or {}).items()}
    return Evaluation(on_splits(problem.valid_loss), metrics)


def whole_valid_loss(
    problem: Problem,
    params: Params,
    model_state: ModelState,
    hyperparams: Hyperparams,
    split: Any,
) -> Any:
    """L_valid on a whole split, of a source some examples at a time; None for a split of None."""
    if split is None:
        return None
    at = params, model_state, hyperparams
    if isinstance(split, Source):
        return sources.mean(lambda batch: valid_loss(problem, *at, batch), split)
    return valid_loss(problem, *at, split)


def train_step(
    problem: Problem,
    optimizer: Optimizer,
    state: TrainState,
    hyperparams: Hyperparams,
    batch: Batch,
    key: Key,
) -> tuple[TrainState, jax.Array]:
    """One update of the weights, and the training loss before it."""

    def loss(params: Params) -> tuple[jax.Array, ModelState]:
        return train_loss(problem, params, state.model_state, hyperparams, batch, key)

    (value, model_state), gradient = jax.value_and_grad(loss, has_aux=True)(state.params)
    at, extra = optimizer_at(optimizer, hyperparams), {"value": value}
    extra["value_fn"] = lambda params: loss(params)[0]
    updated = apply_gradient(at, gradient, state.opt_state, state.params, **extra)
    # If nobody differentiates this step, the compiler drops what only derivatives need.
    nudged = jax.tree.map(_without_zeros, gradient)
    smooth = apply_gradient(at, nudged, state.opt_state, state.params, **extra)
    params, opt_state = _with_derivative_of(updated, smooth)
    return TrainState(params, opt_state, model_state), value


def apply_gradient(
    optimizer: optax.GradientTransformation,
    gradient: Params,
    opt_state: OptState,
    params: Params,
    **extra: Any,
) -> tuple[Params, OptState]:
    """One update by an optimizer; `extra` (value, value_fn) is for those that ask for it."""
    update = optax.with_extra_args_support(optimizer).update
    updates, opt_state = update(gradient, opt_state, params, grad=gradient, **extra)
    return optax.apply_updates(params, updates), opt_state


def _without_zeros(gradient: jax.Array) -> jax.Array:
    """A gradient with a number next to nothing in place of exact zeros.

    Adam and its kin divide by √v, which has no derivative at v = 0: NaN would come of 0 · ∞ for a
    weight whose gradient is exactly zero, such as that of a pixel that is never lit. A step away
    from zero the derivative is what it tends to.
    """
    tiny = jnp.finfo(gradient.dtype).tiny ** 0.4  # whose square is still a normal number
    return gradient + jnp.where(gradient == 0, tiny, 0).astype(gradient.dtype)


@jax.custom_jvp
def _with_derivative_of(value: Any, other: Any) -> Any:
    """A value, differentiated as another one."""
    del other
    return value


@_with_derivative_of.defjvp
def _derivative(primals: Any, tangents: Any) -> tuple[Any, Any]:
    return primals[0], tangents[1]


def train_steps(
    problem: Problem,
    optimizer: Optimizer,
    state: TrainState,
    hyperparams: Hyperparams,
    train_batches: Batch,
    key: Key,
) -> tuple[TrainState, jax.Array]:
    """An update for each of the batches, and the losses before each, shape (T,)."""
    return jax.lax.scan(
        lambda state, at: train_step(problem, optimizer, state, hyperparams, *at),
        state,
        inputs(key, train_batches),
    )


def valid_gradients(
    problem: Problem, state: TrainState, hyperparams: Hyperparams, batch: Batch
) -> ValidGradients:
    """L_valid and its gradients at the weights of a state."""
    floats, rebuild = split_floats(state.model_state)

    def loss(params: Params, floats: list[jax.Array], hyperparams: Hyperparams) -> jax.Array:
        return valid_loss(problem, params, rebuild(floats), hyperparams, batch)

    value, gradients = jax.value_and_grad(loss, (0, 1, 2))(state.params, floats, hyperparams)
    params, moved, direct = gradients
    still = optax.tree.zeros_like(state.model_state)
    return ValidGradients(value, params, split_floats(still)[1](moved), direct)


def inputs(key: Key, train_batches: Batch) -> tuple[Batch, jax.Array]:
    """What a scan over inner steps goes through: their batches, and a key for each."""
    batches = jax.tree.map(jnp.asarray, train_batches)
    return batches, jax.random.split(key, count(batches))


def count(train_batches: Batch) -> int:
    """T, the inner steps that a round's batches allow: the length of their leading axis."""
    return jax.tree.leaves(train_batches)[0].shape[0]


def step_key(key: Key, step: Any) -> Key:
    """The key of a training step, by its number from 0 on, from the key that the run started with.

    A run that was paused goes through the same numbers as one that never was.
    """
    return jax.random.fold_in(jax.random.split(key)[1], step)


def start(
    problem: Problem, optimizer: Optimizer, key: Key, hyperparams: Hyperparams = None
) -> TrainState:
    """The state before the first step of a run that is driven by `step_key` and `drawn_step`."""
    return init(problem, optimizer, random.usual(jax.random.split(key)[0]), hyperparams)


def drawn_step(
    problem: Problem,
    optimizer: Optimizer,
    turn: Turn,
    state: TrainState,
    hyperparams: Hyperparams,
    examples: Batch,
    *,
    batch_size: int | None = None,
    following: Turn | None = None,
) -> tuple[TrainState, jax.Array]:
    """`train_step` on a minibatch that the step's own key or number draws, in a loop."""
    key_batch, key_loss = jax.random.split(turn.key)
    if following is not None:
        following = following._replace(key=jax.random.split(following.key)[0])
    batch = drawn(turn._replace(key=key_batch), examples, batch_size, following)
    with convolutions.as_products():
        return train_step(problem, optimizer, state, hyperparams, batch, key_loss)
