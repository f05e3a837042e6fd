"""Algorithm 3 with a centered hypernet: weights trained at λ̂, and a Jacobian to move λ̂ along.

    w_φ(λ) = w₀ + J_φ (λ − λ̂)
    w₀ ← w₀ − α ∇_w L_train(w₀, λ̂, x)                        for each training batch
    J_φ is updated                                           from the same batches
    λ̂ ← λ̂ − β [∂L_valid/∂λ + J_φᵀ ∂L_valid/∂w (w₀, x′)]       once

At λ̂ itself the hypernet's weights are w₀, trained without sampling noise and with a step size of
their own, while J_φ has only the local slope of the best response to model.

Algorithm 3: Lorraine and Duvenaud (2018), arXiv:1802.09419. Centering: Bae and Grosse (2020),
"Delta-STN: Efficient Bilevel Optimization for Neural Networks using Structured Response Jacobians",
arXiv:2010.13514.
"""

import functools
from operator import attrgetter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from shohypernet import inner_loop
from shohypernet import problem as problems
from shohypernet._internal import frozen, validation
from shohypernet._internal.trees import typed
from shohypernet.hyperoptimizer import HyperOptimizer, Info
from shohypernet.inner_loop import TrainState
from shohypernet.jacobians import Point, ResponseJacobian
from shohypernet.problem import Problem, unconstrained
from shohypernet.types import Batch, Hyperparams, Key, ModelState, OptState, Params


class CenteredResponseState(NamedTuple):
    """State of `centered_response`.

    Attributes:
      hyperparams: λ̂, unconstrained.
      params: w₀.
      jacobian_state: state of the Jacobian, φ.
      hyper_opt_state: state of the optimizer of λ̂.
      opt_state: state of the optimizer of w₀.
      model_state: the model's at w₀.
    """

    hyperparams: Hyperparams
    params: Params
    jacobian_state: Any
    hyper_opt_state: OptState
    opt_state: OptState
    model_state: ModelState


def centered_response(
    problem: Problem,
    jacobian: ResponseJacobian,
    *,
    optimizer: optax.GradientTransformation,
    hyper_optimizer: optax.GradientTransformation,
) -> HyperOptimizer:
    """Hyper-training with separate models of the weights and of how they respond.

    Weights that training never moves (frozen by the optimizer, or by a `stop_gradient`) stay out of
    the Jacobian.

    Args:
      problem: the bilevel problem.
      jacobian: the model of ∂w*/∂λ, such as `jacobians.kronecker()`.
      optimizer: α, for w₀: whatever trains this model well at fixed λ.
      hyper_optimizer: β, for λ̂.

    Returns:
      A HyperOptimizer whose round takes inner steps + 1 gradient evaluations, and those of the
      Jacobian.

    Raises:
      TypeError: for something that is no problem, Jacobian or optimizer.

    Reference:
      Algorithm 3 of arXiv:1802.09419, with the hypernet of arXiv:2010.13514.
    """
    inner = unconstrained(problem)
    validation.jacobian("centered_response", jacobian)
    optimizer, hyper_optimizer = validation.optimizer(
        "centered_response", optimizer=optimizer, hyper_optimizer=hyper_optimizer
    )

    def step(
        key: Key, state: CenteredResponseState, train_batches: Batch, valid_batch: Batch
    ) -> tuple[CenteredResponseState, Info]:
        key_train, key_jacobian, key_point = jax.random.split(key, 3)
        hyperparams = state.hyperparams
        trained = TrainState(state.params, state.opt_state, state.model_state)
        trained, losses = inner_loop.train_steps(
            inner, optimizer, trained, hyperparams, train_batches, key_train
        )
        trainable = frozen.moved_by_optimizer(optimizer, trained.params)
        respond, params = _responding(inner, trained, trainable)
        jacobian_state, taken = jacobian.update(
            respond, key_jacobian, state.jacobian_state, params, hyperparams, train_batches
        )
        valid = inner_loop.valid_gradients(inner, trained, hyperparams, valid_batch)
        point = Point(params, hyperparams, train_batches, key_point)
        through, jacobian_state = jacobian.vjp(
            respond,
            jacobian_state,
            point,
            _moved(respond, point, problems.select(valid.params, trainable)),
        )
        gradient = optax.tree.add(valid.hyperparams, through)
        moved, hyper_opt_state = inner_loop.apply_gradient(
            hyper_optimizer, gradient, state.hyper_opt_state, hyperparams, value=valid.loss
        )
        evaluations = len(losses) + 1 + jacobian.vjp_evaluations + taken
        state = CenteredResponseState(
            hyperparams=moved,
            params=trained.params,
            jacobian_state=jacobian_state,
            hyper_opt_state=hyper_opt_state,
            opt_state=trained.opt_state,
            model_state=trained.model_state,
        )
        norm = optax.tree.norm(gradient)
        return state, Info(jnp.mean(losses), valid.loss, norm, jnp.asarray(evaluations, jnp.int32))

    return HyperOptimizer(
        functools.partial(_init, inner, jacobian, optimizer, hyper_optimizer),
        step,
        lambda state: state.params,
        attrgetter("model_state"),
        problem,
        rejected=lambda state: jacobian.rejected(state.jacobian_state),
        weights_at=functools.partial(_weights_at, inner, jacobian, optimizer),
    )


def _weights_at(
    problem: Problem,
    jacobian: ResponseJacobian,
    optimizer: optax.GradientTransformation,
    state: CenteredResponseState,
    hyperparams: Hyperparams,
    train_batch: Batch,
) -> Params:
    """w₀ + J_φ (λ − λ̂), and w₀ for weights that don't respond."""
    trained = TrainState(state.params, state.opt_state, state.model_state)
    trainable = frozen.moved_by_optimizer(optimizer, trained.params)
    respond, params = _responding(problem, trained, trainable)
    batches = jax.tree.map(lambda leaf: leaf[None], train_batch)
    point = Point(params, state.hyperparams, batches, jax.random.key(0))
    direction = jax.tree.map(jnp.subtract, hyperparams, state.hyperparams)
    moved = _moved(respond, point, jacobian.jvp(respond, state.jacobian_state, point, direction))
    return problems.merge(optax.tree.add(params, moved), trained.params, trainable)


def _init(
    problem: Problem,
    jacobian: ResponseJacobian,
    optimizer: optax.GradientTransformation,
    hyper_optimizer: optax.GradientTransformation,
    key: Key,
    hyperparams: Hyperparams,
) -> CenteredResponseState:
    key_params, key_jacobian = jax.random.split(key)
    hyperparams = typed(hyperparams)
    trained = inner_loop.init(problem, optimizer, key_params, hyperparams)
    trainable = frozen.moved_by_optimizer(optimizer, trained.params)
    respond, params = _responding(problem, trained, trainable)
    return CenteredResponseState(
        hyperparams=hyperparams,
        params=trained.params,
        jacobian_state=jacobian.init(respond, key_jacobian, params, hyperparams),
        hyper_opt_state=hyper_optimizer.init(hyperparams),
        opt_state=trained.opt_state,
        model_state=trained.model_state,
    )


def _responding(problem: Problem, trained: TrainState, trainable: Params) -> tuple[Problem, Params]:
    """The stateless problem in the weights that respond to λ, and these."""
    held = problems.with_state(problem, trained.model_state)
    restricted = problems.restricted(held, trained.params, trainable)
    return restricted, problems.select(trained.params, trainable)


def _moved(problem: Problem, point: Point, cotangent: Params) -> Params:
    """A cotangent without the weights that the training loss doesn't move, and so no λ."""
    moved = frozen.moved_by_loss(
        problem, point.params, point.hyperparams, point.last_batch, point.key
    )
    return jax.tree.map(
        lambda leaf, moves: leaf if moves else jnp.zeros_like(leaf), cotangent, moved
    )
