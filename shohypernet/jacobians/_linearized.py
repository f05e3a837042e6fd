"""A response Jacobian learned by SGD: the slope of any hypernet that is linear in λ.

    J_φ δ = h_φ(δ) − h_φ(0)
    φ ← φ − α ∇_φ (1/K) Σ_k [⟨J_φ δ_k, M δ_k⟩ + ½ ⟨J_φ δ_k, H J_φ δ_k⟩],   δ_k ~ N(0, I)

H = ∂²L_train/∂w² and M = ∂²L_train/∂w∂λ at (w₀, λ̂): it minimizes the training loss to second
order along each direction, so how long the directions are doesn't matter. The gradient in J_φ δ is
M δ + H J_φ δ, one derivative of ∂L_train/∂w along (J_φ δ, δ).

Bae and Grosse (2020), arXiv:2010.13514, who linearize the network's outputs instead.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from shohypernet._internal import random, sharding, validation
from shohypernet.hypernets._base import Hypernet
from shohypernet.jacobians._base import Point, ResponseJacobian
from shohypernet.problem import Problem


class State(NamedTuple):
    """The hypernet's φ, and its optimizer."""

    hypernet_params: Any
    opt_state: Any


def linearized(
    problem: Problem,
    hypernet: Hypernet,
    *,
    optimizer: optax.GradientTransformation,
    samples: int = 2,
) -> ResponseJacobian:
    """The slope of a linear hypernet, trained on the training loss to second order.

    Args:
      problem: what is tuned.
      hypernet: a model linear in λ: `linear`, `factorized`, `structured` or `elementwise`.
      optimizer: α, for φ.
      samples: K, directions for each training batch, which they share.

    Returns:
      A Jacobian that takes 2K gradient evaluations for each training batch, and none for a vjp.

    Raises:
      ValueError: if samples is below 1.
    """
    validation.whole("linearized", samples=samples)

    def init(key: jax.Array, params: Any, hyperparams: Any) -> State:
        del params
        hypernet_params = hypernet.init(key, hyperparams)
        return State(hypernet_params, optimizer.init(hypernet_params))

    def slope(hypernet_params: Any, direction: Any) -> Any:
        return jax.jvp(
            lambda hyperparams: hypernet.apply(hypernet_params, hyperparams),
            (optax.tree.zeros_like(direction),),
            (direction,),
        )[1]

    def learn(
        key: jax.Array, state: State, params: Any, hyperparams: Any, train_batches: Any
    ) -> tuple[State, jax.Array]:
        def update(state: State, at: tuple[Any, jax.Array]) -> tuple[State, None]:
            batch, key = at

            def gradient(key: jax.Array) -> Any:
                key_direction, key_loss = jax.random.split(key)
                direction = random.random_like(key_direction, hyperparams)
                tangent, pull = jax.vjp(lambda phi: slope(phi, direction), state.hypernet_params)
                _, bent = jax.jvp(
                    lambda *at: jax.grad(problem.train_loss)(*at, batch, key_loss),
                    (params, hyperparams),
                    (tangent, direction),
                )
                return pull(bent)[0]

            keys = sharding.spread(jax.random.split(key, samples), "samples")
            gradients = jax.vmap(gradient)(keys)
            mean = jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), gradients)
            change, opt_state = optimizer.update(mean, state.opt_state, state.hypernet_params)
            return State(optax.apply_updates(state.hypernet_params, change), opt_state), None

        batches = jax.tree.leaves(train_batches)[0].shape[0]
        state, _ = jax.lax.scan(update, state, (train_batches, jax.random.split(key, batches)))
        return state, jnp.asarray(2 * samples * batches)

    def jvp(state: State, point: Point, direction: Any) -> Any:
        del point
        return slope(state.hypernet_params, direction)

    def vjp(state: State, point: Point, cotangent: Any) -> Any:
        _, pull = jax.vjp(
            lambda direction: slope(state.hypernet_params, direction), point.hyperparams
        )
        return pull(cotangent)[0]

    return ResponseJacobian(init, learn, jvp, vjp, vjp_evaluations=0)
