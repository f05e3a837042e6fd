"""Methods that let w, the adjoint q and λ move together: what `soba` and `saba` share.

    w ← w − ρ ∂L_train/∂w
    q ← q − ρ [(∂²L_train/∂w²) q − ∂L_valid/∂w]
    λ ← λ − γ [∂L_valid/∂λ − (∂²L_train/∂λ∂w) q]

They differ in how the derivatives in these directions are estimated.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from shohypernet import inner_loop
from shohypernet import problem as problems
from shohypernet._internal import frozen, validation
from shohypernet._internal.trees import typed
from shohypernet.hypergradients import _restarts as restarts
from shohypernet.hypergradients import curvature
from shohypernet.hypergradients._restarts import Hypergradient, Parts
from shohypernet.hyperoptimizer import HyperOptimizer, Info
from shohypernet.inner_loop import TrainState
from shohypernet.problem import Problem
from shohypernet.types import Batch, Hyperparams, Key, ModelState, OptState, Params

EVALUATIONS = 4  # of a step: a gradient of each loss, and a product with second derivatives


class TrainTerms(NamedTuple):
    """Derivatives of L_train on one batch.

    Attributes:
      slope: ∂L_train/∂w, a tree like the weights.
      bent: (∂²L_train/∂w²) q, likewise.
      mixed: (∂²L_train/∂λ∂w) q, a tree like λ.
    """

    slope: Params
    bent: Params
    mixed: Hyperparams


class ValidTerms(NamedTuple):
    """Derivatives of L_valid on one batch.

    Attributes:
      slope: ∂L_valid/∂w, a tree like the weights.
      direct: ∂L_valid/∂λ, a tree like λ.
    """

    slope: Params
    direct: Hyperparams


class Estimate(NamedTuple):
    """Derivatives at some w, q and λ, as a method estimates them.

    Attributes:
      train: of L_train.
      valid: of L_valid.
      train_loss: L_train on the batch that was used, scalar.
      valid_loss: L_valid, likewise.
      value_fn: L_train on that batch as a function of w, for optimizers that ask for it.
      model_state: the model's after that batch.
      memory: what the method remembers for the next estimate.
    """

    train: TrainTerms
    valid: ValidTerms
    train_loss: jax.Array
    valid_loss: jax.Array
    value_fn: Callable[[Params], jax.Array]
    model_state: ModelState
    memory: Any


class TrackingState(NamedTuple):
    """State of `soba` and `saba`.

    Attributes:
      hyperparams: λ, unconstrained.
      inner: weights, their optimizer's state and the model's.
      adjoint: q, a tree like the weights.
      adjoint_opt_state: state of the optimizer of q.
      hyper_opt_state: state of the optimizer of λ.
      memory: what the method remembers of earlier derivatives.
    """

    hyperparams: Hyperparams
    inner: TrainState
    adjoint: Params
    adjoint_opt_state: OptState
    hyper_opt_state: OptState
    memory: Any


def estimate(
    problem: Problem,
    inner: TrainState,
    adjoint: Params,
    hyperparams: Hyperparams,
    train_batch: Batch,
    valid_batch: Batch,
    key: Key,
) -> Estimate:
    """The derivatives on one training and one validation batch, in four gradient evaluations."""

    def loss(params: Params) -> tuple[jax.Array, ModelState]:
        return inner_loop.train_loss(
            problem, params, inner.model_state, hyperparams, train_batch, key
        )

    (train_loss, model_state), slope = jax.value_and_grad(loss, has_aux=True)(inner.params)
    held = problems.with_state(problem, inner.model_state)
    along = curvature.slope(held, train_batch, key, adjoint)
    bent, mixed = jax.grad(along, (0, 1))(inner.params, hyperparams)
    valid_loss, (valid_slope, direct) = jax.value_and_grad(held.valid_loss, (0, 1))(
        inner.params, hyperparams, valid_batch
    )
    return Estimate(
        train=TrainTerms(slope, bent, mixed),
        valid=ValidTerms(valid_slope, direct),
        train_loss=train_loss,
        valid_loss=valid_loss,
        value_fn=lambda params: loss(params)[0],
        model_state=model_state,
        memory=(),
    )


def residual(train: TrainTerms, valid: ValidTerms, moved: Params) -> Params:
    """(∂²L_train/∂w²) q − ∂L_valid/∂w, and zero for weights that training doesn't move."""
    return jax.tree.map(
        lambda bent, slope, moves: bent - slope if moves else jnp.zeros_like(bent),
        train.bent,
        valid.slope,
        moved,
    )


def optimizer_of_adjoint(
    function: str, parts: Parts, adjoint_optimizer: optax.GradientTransformation | None
) -> optax.GradientTransformation:
    """That of the weights if None is given.

    Raises:
      TypeError: for something that is no optimizer.
    """
    if adjoint_optimizer is None:
        return parts.optimizer
    (checked,) = validation.optimizer(function, adjoint_optimizer=adjoint_optimizer)
    return checked


def tracked(
    parts: Parts,
    adjoint_optimizer: optax.GradientTransformation,
    estimate: Callable[..., Estimate],
    memory: Callable[[Params, Hyperparams], Any],
    problem: Problem,
) -> HyperOptimizer:
    """A method whose every training batch moves w and q, and the last of a round λ as well.

    Args:
      parts: problem and optimizers.
      adjoint_optimizer: of q.
      estimate: `estimate(memory, inner, adjoint, hyperparams, train_batch, valid_batch, key)`.
      memory: `memory(params, hyperparams)`, the first one.
      problem: as given.
    """
    inner, optimizer, hyper_optimizer = parts

    def init(key: Key, hyperparams: Hyperparams) -> TrackingState:
        hyperparams = typed(hyperparams)
        trained = inner_loop.init(inner, optimizer, key, hyperparams)
        adjoint = optax.tree.zeros_like(trained.params)
        return TrackingState(
            hyperparams=hyperparams,
            inner=trained,
            adjoint=adjoint,
            adjoint_opt_state=adjoint_optimizer.init(adjoint),
            hyper_opt_state=hyper_optimizer.init(hyperparams),
            memory=memory(trained.params, hyperparams),
        )

    def step(
        key: Key, state: TrackingState, train_batches: Batch, valid_batch: Batch
    ) -> tuple[TrackingState, Info]:
        (state, gradient), (losses, valid_losses) = jax.lax.scan(
            functools.partial(_advance, parts, adjoint_optimizer, estimate, valid_batch),
            (state, optax.tree.zeros_like(state.hyperparams)),
            inner_loop.inputs(key, train_batches),
        )
        made = Hypergradient(
            gradient, state.inner, jnp.mean(losses), valid_losses[-1], EVALUATIONS * len(losses)
        )
        hyperparams, opt_state = restarts.move(
            hyper_optimizer, made, state.hyper_opt_state, state.hyperparams
        )
        state = state._replace(hyperparams=hyperparams, hyper_opt_state=opt_state)
        return state, restarts.info(made)

    return restarts.persistent(init, step, problem)


def _advance(
    parts: Parts,
    adjoint_optimizer: optax.GradientTransformation,
    estimate: Callable[..., Estimate],
    valid_batch: Batch,
    carry: tuple[TrackingState, Hyperparams],
    at: tuple[Batch, Key],
) -> tuple[tuple[TrackingState, Hyperparams], tuple[jax.Array, jax.Array]]:
    """One more batch: the state after it, the hypergradient before it, and both losses."""
    inner, optimizer, _ = parts
    state, _ = carry
    trained, hyperparams = state.inner, state.hyperparams
    made = estimate(state.memory, trained, state.adjoint, hyperparams, at[0], valid_batch, at[1])
    params, opt_state = inner_loop.apply_gradient(
        optimizer,
        made.train.slope,
        trained.opt_state,
        trained.params,
        value=made.train_loss,
        value_fn=made.value_fn,
    )
    moved = _moved(inner, optimizer, trained, hyperparams, *at)
    adjoint, adjoint_opt_state = inner_loop.apply_gradient(
        adjoint_optimizer,
        residual(made.train, made.valid, moved),
        state.adjoint_opt_state,
        state.adjoint,
    )
    state = state._replace(
        inner=TrainState(params, opt_state, made.model_state),
        adjoint=adjoint,
        adjoint_opt_state=adjoint_opt_state,
        memory=made.memory,
    )
    gradient = optax.tree.sub(made.valid.direct, made.train.mixed)
    return (state, gradient), (made.train_loss, made.valid_loss)


def _moved(
    problem: Problem,
    optimizer: optax.GradientTransformation,
    inner: TrainState,
    hyperparams: Hyperparams,
    batch: Batch,
    key: Key,
) -> Params:
    """Which weights training moves, a tree of booleans like them."""
    held = problems.with_state(problem, inner.model_state)
    by_loss = frozen.moved_by_loss(held, inner.params, hyperparams, batch, key)
    by_optimizer = frozen.moved_by_optimizer(optimizer, inner.params)
    return jax.tree.map(lambda a, b: a and b, by_loss, by_optimizer)
