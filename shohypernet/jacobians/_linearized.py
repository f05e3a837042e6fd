"""A response Jacobian trained by SGD: the slope of any hypernet that is linear in λ.

    J_φ δ = h_φ(δ) − h_φ(0)
    φ ← φ − α ∇_φ (1/K) Σ_k [⟨J_φ δ_k, M δ_k⟩ + ½ ⟨J_φ δ_k, H J_φ δ_k⟩],   δ_k ~ N(0, I)

H = ∂²L_train/∂w² and M = ∂²L_train/∂w∂λ at (w₀, λ̂): it minimizes the training loss to second
order along each direction, so how long the directions are doesn't matter. The gradient in J_φ δ is
M δ + H J_φ δ, one derivative of ∂L_train/∂w along (J_φ δ, δ).

Bae and Grosse (2020), arXiv:2010.13514, who linearize the network's outputs instead.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from shohypernet import inner_loop
from shohypernet._internal import random, sharding, validation
from shohypernet.hypernets import Hypernet
from shohypernet.jacobians._base import Point, ResponseJacobian
from shohypernet.problem import Problem
from shohypernet.types import Batch, Hyperparams, Key, OptState, Params


class LinearizedState(NamedTuple):
    """State of `linearized`: the hypernet's φ, and that of its optimizer."""

    hypernet_params: Params
    opt_state: OptState


def linearized(
    hypernet: Hypernet, *, optimizer: optax.GradientTransformation, samples: int = 2
) -> ResponseJacobian:
    """The slope of a linear hypernet, trained on the training loss to second order.

    Args:
      hypernet: a model linear in λ: `linear`, `factorized`, `structured` or `elementwise`.
      optimizer: α, for φ.
      samples: K, directions for each training batch, which they share.

    Returns:
      A ResponseJacobian that takes 2K gradient evaluations for each training batch, and none for a
      vjp.

    Raises:
      ValueError: if samples is below 1.
      TypeError: for something that is no hypernet, or no optimizer.
    """
    validation.hypernet("linearized", hypernet)
    (optimizer,) = validation.optimizer("linearized", optimizer=optimizer)
    validation.whole("linearized", samples=samples)

    def init(
        problem: Problem, key: Key, params: Params, hyperparams: Hyperparams
    ) -> LinearizedState:
        del problem
        hypernet_params = hypernet.init(key, params, hyperparams)
        return LinearizedState(hypernet_params, optimizer.init(hypernet_params))

    slope = functools.partial(_slope, hypernet)

    def update(
        problem: Problem,
        key: Key,
        state: LinearizedState,
        params: Params,
        hyperparams: Hyperparams,
        train_batches: Batch,
    ) -> tuple[LinearizedState, jax.Array]:
        def one(state: LinearizedState, inputs: tuple[Batch, Key]) -> tuple[LinearizedState, None]:
            batch, key = inputs
            at = params, hyperparams, batch
            gradient = functools.partial(_gradient, problem, hypernet, state.hypernet_params, *at)
            keys = sharding.constrain(jax.random.split(key, samples), "samples")
            mean = jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), jax.vmap(gradient)(keys))
            phi, opt_state = inner_loop.apply_gradient(
                optimizer, mean, state.opt_state, state.hypernet_params
            )
            return LinearizedState(phi, opt_state), None

        state, _ = jax.lax.scan(one, state, inner_loop.inputs(key, train_batches))
        return state, jnp.asarray(2 * samples * inner_loop.count(train_batches))

    def jvp(
        problem: Problem, state: LinearizedState, point: Point, direction: Hyperparams
    ) -> Params:
        del problem, point
        return slope(state.hypernet_params, direction)

    def vjp(
        problem: Problem, state: LinearizedState, point: Point, cotangent: Params
    ) -> Hyperparams:
        del problem
        _, pull = jax.vjp(functools.partial(slope, state.hypernet_params), point.hyperparams)
        return pull(cotangent)[0], state

    def update_evaluations(
        problem: Problem, params: Params, rounds: Any, inner_steps: int, batch_size: int
    ) -> Any:
        del problem, params, batch_size
        return jnp.full(jnp.shape(rounds), 2 * samples * inner_steps)

    return ResponseJacobian(init, update, jvp, vjp, update_evaluations, vjp_evaluations=0)


def _slope(hypernet: Hypernet, hypernet_params: Params, direction: Hyperparams) -> Params:
    """J_φ δ."""
    return jax.jvp(
        lambda hyperparams: hypernet.apply(hypernet_params, hyperparams),
        (optax.tree.zeros_like(direction),),
        (direction,),
    )[1]


def _gradient(
    problem: Problem,
    hypernet: Hypernet,
    hypernet_params: Params,
    params: Params,
    hyperparams: Hyperparams,
    batch: Batch,
    key: Key,
) -> Params:
    """∇_φ of the training loss to second order along one δ ~ N(0, I)."""
    key_direction, key_loss = jax.random.split(key)
    direction = random.random_like(key_direction, hyperparams)
    tangent, pull = jax.vjp(lambda phi: _slope(hypernet, phi, direction), hypernet_params)
    _, bent = jax.jvp(
        lambda *at: jax.grad(problem.train_loss)(*at, batch, key_loss),
        (params, hyperparams),
        (tangent, direction),
    )
    return pull(bent)[0]
