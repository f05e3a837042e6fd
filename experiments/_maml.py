"""MAML in the seam of two levels: λ is the initialization θ, w is how far each task moves from it.

    L_train(δ, θ) = Σ_i L_i(θ + δ_i; support),    L_valid(δ, θ) = mean_i L_i(θ + δ_i; query)

Weights that start from δ = 0 and take k steps of SGD are MAML's adapted weights, and to unroll the
steps is MAML. Without their second derivatives it is first-order MAML; with step sizes in λ,
Meta-SGD; with (ρ/2) Σ_i ‖δ_i‖² added and solved for, implicit MAML.

Finn, Abbeel and Levine (2017), arXiv:1703.03400. Meta-SGD: Li et al. (2017), arXiv:1707.09835.
Implicit MAML: Rajeswaran et al. (2019), arXiv:1909.04630.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import shohypernet as shn
from shohypernet.problem import Problem
from shohypernet.types import Hyperparams, Params

MAML, FIRST_ORDER, META_SGD, IMPLICIT = "MAML", "first-order MAML", "Meta-SGD", "implicit MAML"

TaskLoss = Callable[[Params, Any], jax.Array]  # of the weights and one task's examples


def problem(theta: Params, loss: TaskLoss, tasks: int, proximity: float = 0.0) -> Problem:
    """The problem of some tasks.

    Args:
      theta: weights, for their shapes.
      loss: of one task.
      tasks: number of tasks in a batch, which lead every array of it.
      proximity: ρ.

    Returns:
      A Problem whose hyperparameters are {"theta": θ, "rate": step sizes, a prefix of θ}; where no
      optimizer reads the rate, leave it out.
    """

    def losses(params: Params, hyperparams: Hyperparams, batch: Any) -> jax.Array:
        def one(moved: Params, task: Any) -> jax.Array:
            return loss(jax.tree.map(jnp.add, hyperparams["theta"], moved), task)

        return jax.vmap(one)(params, batch)

    def train_loss(
        params: Params, hyperparams: Hyperparams, batch: Any, key: jax.Array
    ) -> jax.Array:
        near = optax.tree.norm(params, squared=True) if proximity else 0.0
        return jnp.sum(losses(params, hyperparams, batch)) + proximity / 2 * near

    return Problem(
        init=lambda key: jax.tree.map(lambda leaf: jnp.zeros((tasks, *leaf.shape)), theta),
        train_loss=train_loss,
        valid_loss=lambda params, hyperparams, batch: jnp.mean(losses(params, hyperparams, batch)),
        space={"theta": shn.hyperparameters.real(), "rate": shn.hyperparameters.log()},
    )


def without_rate(given: Problem) -> Problem:
    """The same problem, whose hyperparameters are θ alone."""
    return given._replace(space={"theta": given.space["theta"]})


def method(
    name: str,
    given: Problem,
    rate: float,
    hyper_optimizer: optax.GradientTransformation,
    products: int,
) -> shn.HyperOptimizer:
    """A method by name.

    Args:
      name: of it.
      given: from `problem`.
      rate: α of the inner steps, but for Meta-SGD, which learns it.
      hyper_optimizer: of λ.
      products: of implicit MAML's conjugate gradients.
    """
    if name == META_SGD:
        return shn.unrolled(given, optimizer=by_rate, hyper_optimizer=hyper_optimizer)
    given, optimizer = without_rate(given), optax.sgd(rate)
    if name == IMPLICIT:
        solver = shn.linear_solvers.conjugate_gradient(products)
        return shn.implicit(
            given, optimizer=optimizer, hyper_optimizer=hyper_optimizer, solver=solver
        )
    if name == FIRST_ORDER:
        held = optax.stateless(lambda updates, params: jax.lax.stop_gradient(updates))
        optimizer = optax.chain(held, optimizer)
    return shn.unrolled(given, optimizer=optimizer, hyper_optimizer=hyper_optimizer)


def from_theta(method: shn.HyperOptimizer) -> shn.HyperOptimizer:
    """The same method, a warm start by itself, whose tasks start from θ in every round.

    Where tasks are drawn, the last round's displacements are those of others.
    """

    def step(
        key: jax.Array, state: Any, train_batches: Any, valid_batch: Any
    ) -> tuple[Any, shn.Info]:
        inner = state.inner._replace(params=optax.tree.zeros_like(state.inner.params))
        return method.step(key, state._replace(inner=inner), train_batches, valid_batch)

    return method._replace(step=step)


def by_rate(hyperparams: Hyperparams) -> optax.GradientTransformation:
    """SGD with the step sizes of λ, a rate for each weight of θ."""
    rates = hyperparams["rate"]
    return optax.stateless(
        lambda updates, params: jax.tree.map(
            lambda step, rate: -jnp.broadcast_to(rate, step.shape[1:])[None] * step, updates, rates
        )
    )


def adapted(
    theta: Params,
    loss: TaskLoss,
    rates: Params,
    task: Any,
    query: Any,
    steps: int,
    proximity: float = 0.0,
) -> jax.Array:
    """One task's losses on its query after 0, …, `steps` inner steps from θ, shape (steps + 1,).

    With a proximity ρ they are steps on the loss with (ρ/2) ‖w − θ‖² added.
    """

    def step(weights: Params, _: None) -> tuple[Params, jax.Array]:
        before = loss(weights, query)
        slopes = jax.grad(loss)(weights, task)
        moved = jax.tree.map(
            lambda w, rate, slope, start: w - rate * (slope + proximity * (w - start)),
            weights,
            rates,
            slopes,
            theta,
        )
        return moved, before

    last, losses = jax.lax.scan(step, theta, None, length=steps)
    return jnp.append(losses, loss(last, query))
