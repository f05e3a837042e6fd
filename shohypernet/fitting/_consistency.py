"""Consistency of problem, method, data and start, and hyperparameters that no method could move.

Functions are traced for these checks, but nothing is compiled or computed.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from shohypernet import hyperparameters as hp
from shohypernet import problem as problems
from shohypernet._internal import jaxprs, reasons
from shohypernet._internal import losses as returned
from shohypernet._internal.losses import Losses
from shohypernet._internal.trees import by_path
from shohypernet.batches import Data, Turn, drawn
from shohypernet.fitting._plan import Plan
from shohypernet.hyperoptimizer import HyperOptimizer
from shohypernet.problem import Problem
from shohypernet.types import Hyperparams


def require_consistent(
    problem: Problem, method: HyperOptimizer, states: Any, data: Data, plan: Plan
) -> None:
    """Refuse weights that aren't the problem's, losses without gradient, and λ that enter nothing.

    That is a loss that isn't a floating-point scalar, and a hyperparameter that is read by neither
    loss nor, on the way to the weights, by what the method trains them with. Nor does a hypernet
    learn a response to what the training loss's gradient in the weights doesn't read.

    Args:
      problem: as given, with λ in natural units.
      method: built for it.
      states: of the method for all seeds, or their shapes.
      data: the three splits.
      plan: sizes of the run.

    Raises:
      ValueError: saying which, and what to do.
    """

    def check(state: Any) -> None:
        key = jax.random.key(0)
        batches = _batches(key, data, plan)
        _require_same_form(problem, method.weights(state), method.model_state(state))
        losses = _losses(problem, method, state, batches, key)
        returned.require_scalars(problem, losses, state.hyperparams)
        natural = hp.decode(problem.space, state.hyperparams)
        at = method.weights(state), method.model_state(state), natural
        returned.require_metrics(problem, *at, batches[1])

        def unconstrained(hyperparams: Hyperparams) -> dict[str, Any]:
            return losses(hp.decode(problem.space, hyperparams))

        if unread := _unread(method, key, state, unconstrained, batches):
            raise ValueError(f"hyperparameter {', '.join(unread)} {reasons.NOT_IN_LOSSES}")
        if alike := _without_response(problem, method, key, state, batches):
            raise ValueError(f"hyperparameter {', '.join(alike)} {reasons.WITHOUT_WEIGHTS}")

    jax.eval_shape(jax.vmap(check), states)


def require_movable(
    problem: Problem,
    method: HyperOptimizer,
    states: Any,
    data: Data,
    plan: Plan,
    traces: tuple[Any, Any],
) -> None:
    """Refuse hyperparameters that no number of rounds moves, by construction of the losses.

    Those that a hyper_optimizer holds, such as `optax.sgd(0.0)` in a first phase, are let be.

    Args:
      problem: as given, with λ in natural units.
      method: built for it.
      states: of the method for all seeds, or their shapes.
      data: the three splits.
      plan: sizes of the run.
      traces: jaxprs of the program that makes the states, and of one that makes steps.

    Raises:
      ValueError: naming them, and why.
    """
    leaves, treedef = jax.tree.flatten(states)
    numbered = jax.tree.unflatten(treedef, range(len(leaves)))
    fixed = jaxprs.fixed(*traces, jax.tree.leaves(numbered.hyperparams))
    if not any(fixed):
        return
    constant: list[bool] = []
    alike: list[bool] = []

    def differentiate(state: Any) -> None:
        key = jax.random.key(0)
        at = _batches(key, data, plan)
        at, model_state = (
            (jax.tree.map(lambda leaf: leaf[0], at[0]), at[1]),
            method.model_state(state),
        )

        def train_loss(params: Any, hyperparams: Hyperparams) -> Any:
            losses = returned.losses_at(problem, params, model_state, at, key)
            loss = losses(hp.decode(problem.space, hyperparams))["train_loss"]
            return loss[0] if problem.stateful else loss

        def slope(params: Any, hyperparams: Hyperparams) -> Any:
            return optax.tree.sum(jax.grad(train_loss)(params, hyperparams))

        for function, zeros in ((train_loss, constant), (slope, alike)):
            gradient = functools.partial(jax.grad(function, 1), method.weights(state))
            zeros.extend(jaxprs.zeros(gradient, state.hyperparams))

    jax.eval_shape(jax.vmap(differentiate), states)
    refused = [
        f"hyperparameter {name or 'λ̂'} "
        + (reasons.WITHOUT_DERIVATIVE if no_slope else reasons.WITHOUT_WEIGHTS)
        for name, still, no_slope, as_much in zip(
            by_path(jnp.shape, states.hyperparams), fixed, constant, alike, strict=True
        )
        if still and (no_slope or as_much)
    ]
    if refused:
        raise ValueError("\n".join(refused))


def _batches(key: jax.Array, data: Data, plan: Plan) -> tuple[Any, Any]:
    """Batches of a round, training ones first."""
    turn = Turn(key, 0)
    train_batch = drawn(turn, data.train, plan.train_batch_size)
    return jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (plan.inner_steps, *leaf.shape)), train_batch
    ), drawn(turn, data.valid, plan.valid_batch_size)


def _losses(
    problem: Problem, method: HyperOptimizer, state: Any, batches: tuple[Any, Any], key: jax.Array
) -> Losses:
    params, model_state = method.weights(state), method.model_state(state)
    train_batch = jax.tree.map(lambda leaf: leaf[0], batches[0])
    return returned.losses_at(problem, params, model_state, (train_batch, batches[1]), key)


def _require_same_form(problem: Problem, params: Any, model_state: Any) -> None:
    needed = jax.eval_shape(lambda key: problems.initialize(problem, key), jax.random.key(0))
    for name, here, there in zip(
        ("weights", "model state"), (params, model_state), needed, strict=True
    ):
        made, wanted = by_path(jnp.shape, here), by_path(jnp.shape, there)
        if made != wanted:
            raise ValueError(
                f"the method's {name} are not like those of problem.init; was its hypernet made "
                f"for another model?\n  the method's: {made}\n  the problem's: {wanted}"
            )


def _unread(
    method: HyperOptimizer,
    key: jax.Array,
    state: Any,
    losses: Callable[[Any], Any],
    batches: tuple[Any, Any],
) -> list[str]:
    """The hyperparameters that neither a loss nor an inner optimizer reads, by name."""
    in_losses = jaxprs.reads(losses, state.hyperparams)
    if all(in_losses):
        return []

    def at_once(hyperparams: Hyperparams) -> Any:
        return method.weights(state._replace(hyperparams=hyperparams))

    def after_a_round(hyperparams: Hyperparams) -> Any:
        before = state._replace(hyperparams=hyperparams)
        return method.weights(method.step(key, before, *batches)[0])

    # A hypernet's weights depend at once on any λ, whether it means something or not. Those that an
    # inner optimizer trains depend on the λ that it reads, and by way of a round alone.
    by_hypernet, by_round = (
        jaxprs.reads(weights, state.hyperparams) for weights in (at_once, after_a_round)
    )
    names = by_path(jnp.shape, state.hyperparams)
    each = zip(names, in_losses, by_hypernet, by_round, strict=True)
    return [name or "λ̂" for name, read, now, later in each if not read and (now or not later)]


def _without_response(
    problem: Problem,
    method: HyperOptimizer,
    key: jax.Array,
    state: Any,
    batches: tuple[Any, Any],
) -> list[str]:
    """Those that a hypernet's weights depend on, but neither ∇_w L_train nor L_valid, by name."""

    def weights(hyperparams: Hyperparams) -> Any:
        return method.weights(state._replace(hyperparams=hyperparams))

    by_hypernet = jaxprs.reads(weights, state.hyperparams)
    if not any(by_hypernet):
        return []

    params, model_state = method.weights(state), method.model_state(state)
    at = jax.tree.map(lambda leaf: leaf[0], batches[0]), batches[1]

    def followed(hyperparams: Hyperparams) -> Any:
        natural = hp.decode(problem.space, hyperparams)

        def train_loss(params: Any) -> Any:
            losses = returned.losses_at(problem, params, model_state, at, key)(natural)
            return losses["train_loss"][0] if problem.stateful else losses["train_loss"]

        valid_loss = returned.losses_at(problem, params, model_state, at, key)(natural)
        return jax.grad(train_loss)(params), valid_loss["valid_loss"]

    read = jaxprs.reads(followed, state.hyperparams)
    names = by_path(jnp.shape, state.hyperparams)
    return [
        name or "λ̂"
        for name, now, follows in zip(names, by_hypernet, read, strict=True)
        if now and not follows
    ]
