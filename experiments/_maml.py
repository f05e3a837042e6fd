"""MAML in the seam of two levels: λ is the initialization θ, w is how far each task moves from it.

    L_train(δ, θ) = Σ_i L_i(θ + δ_i; support),    L_valid(δ, θ) = mean_i L_i(θ + δ_i; query)

Weights that start from δ = 0 and take k steps of SGD are MAML's adapted weights, and to unroll the
steps is MAML. Without their second derivatives it is first-order MAML; with step sizes in λ,
Meta-SGD. Implicit MAML adds (ρ/2) Σ_i ‖δ_i‖² and differentiates the minimum.

Finn, Abbeel and Levine (2017), arXiv:1703.03400. Meta-SGD: Li et al. (2017), arXiv:1707.09835.
Implicit MAML: Rajeswaran et al. (2019), arXiv:1909.04630.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import shohypernet as shn
from shohypernet.hypergradients.curvature import Curvature
from shohypernet.problem import Problem
from shohypernet.types import Hyperparams, Params

MAML, FIRST_ORDER, META_SGD, IMPLICIT = "MAML", "first-order MAML", "Meta-SGD", "implicit MAML"

TaskLoss = Callable[[Params, Any], jax.Array]  # of the weights and one task's examples


def problem(theta: Params, loss: TaskLoss, tasks: int) -> Problem:
    """The problem of some tasks.

    Args:
      theta: weights, for their shapes.
      loss: of one task.
      tasks: number of tasks in a batch, which lead every array of it.

    Returns:
      A Problem whose hyperparameters are {"theta": θ, "rate": step sizes, a prefix of θ}; where no
      optimizer reads the rate, leave it out.
    """

    def losses(params: Params, hyperparams: Hyperparams, batch: Any) -> jax.Array:
        def one(moved: Params, task: Any) -> jax.Array:
            return loss(jax.tree.map(jnp.add, hyperparams["theta"], moved), task)

        return jax.vmap(one)(params, batch)

    return Problem(
        init=lambda key: _for_each(tasks, optax.tree.zeros_like(theta)),
        train_loss=lambda params, hyperparams, batch, key: jnp.sum(
            losses(params, hyperparams, batch)
        ),
        valid_loss=lambda params, hyperparams, batch: jnp.mean(losses(params, hyperparams, batch)),
        space={"theta": shn.hyperparameters.real(), "rate": shn.hyperparameters.log()},
    )


def proximal_problem(theta: Params, loss: TaskLoss, tasks: int, proximity: float) -> Problem:
    """The problem of implicit MAML, whose weights are the tasks' own and not displacements.

    With displacements the solution of a few products would be multiplied by the tasks' curvature,
    and its error too; so it is multiplied by ρ.

    Args:
      theta: weights, for their shapes.
      loss: of one task.
      tasks: number of tasks in a batch.
      proximity: ρ.

    Returns:
      A Problem whose hyperparameters are {"theta": θ}.
    """

    def train_loss(
        params: Params, hyperparams: Hyperparams, batch: Any, key: jax.Array
    ) -> jax.Array:
        return jnp.sum(jax.vmap(loss)(params, batch)) + penalty(params, hyperparams, proximity)

    return Problem(
        init=lambda key: _for_each(tasks, theta),
        train_loss=train_loss,
        valid_loss=lambda params, hyperparams, batch: jnp.mean(jax.vmap(loss)(params, batch)),
        space={"theta": shn.hyperparameters.real()},
    )


def penalty(params: Params, hyperparams: Hyperparams, proximity: float) -> jax.Array:
    """(ρ/2) Σ_i ‖w_i − θ‖²."""
    away = jax.tree.map(lambda w, start: w - start[None], params, hyperparams["theta"])
    return jnp.asarray(proximity / 2 * optax.tree.norm(away, squared=True))


def _for_each(tasks: int, theta: Params) -> Params:
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (tasks, *leaf.shape)), theta)


def without_rate(given: Problem) -> Problem:
    """The same problem, whose hyperparameters are θ alone."""
    return given._replace(space={"theta": given.space["theta"]})


def method(
    name: str,
    given: Problem,
    rate: float,
    hyper_optimizer: optax.GradientTransformation,
    products: int = 20,
    curvature: Curvature | None = None,
) -> shn.HyperOptimizer:
    """A method by name.

    Args:
      name: of it.
      given: from `problem`, or from `proximal_problem` for implicit MAML.
      rate: α of the inner steps, but for Meta-SGD, which learns it.
      hyper_optimizer: of λ.
      products: of implicit MAML's conjugate gradients.
      curvature: C in them; the Hessian if None.
    """
    if name == META_SGD:
        return shn.unrolled(given, optimizer=by_rate, hyper_optimizer=hyper_optimizer)
    optimizer = optax.sgd(rate)
    if name == IMPLICIT:
        return shn.implicit(
            given,
            optimizer=optimizer,
            hyper_optimizer=hyper_optimizer,
            solver=shn.linear_solvers.conjugate_gradient(products),
            curvature=curvature,
        )
    given = without_rate(given)
    if name == FIRST_ORDER:
        held = optax.stateless(lambda updates, params: jax.lax.stop_gradient(updates))
        optimizer = optax.chain(held, optimizer)
    return shn.unrolled(given, optimizer=optimizer, hyper_optimizer=hyper_optimizer)


def from_theta(method: shn.HyperOptimizer) -> shn.HyperOptimizer:
    """The same method, of a `proximal_problem`, whose tasks start from θ in every round.

    Where tasks are drawn, the last round's weights are those of others.
    """

    def step(
        key: jax.Array, state: Any, train_batches: Any, valid_batch: Any
    ) -> tuple[Any, shn.Info]:
        tasks = len(jax.tree.leaves(valid_batch)[0])
        inner = state.inner._replace(params=_for_each(tasks, state.hyperparams["theta"]))
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
