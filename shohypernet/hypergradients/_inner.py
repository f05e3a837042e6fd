"""The inner problem as a dynamical system: w_t = Φ_t(w_{t−1}, λ), t = 1 … T.

Φ is one step of an optax optimizer on L_train(·, λ), so its state is part of what moves. All
methods that differentiate through training share what is here.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from shohypernet.problem import Problem

InnerOptimizer = optax.GradientTransformation | Callable[[Any], optax.GradientTransformation]


class Inner(NamedTuple):
    """What an inner step moves.

    Attributes:
      params: w.
      opt_state: the inner optimizer's state.
    """

    params: Any
    opt_state: Any


class Estimate(NamedTuple):
    """What a round of training and its differentiation give.

    Attributes:
      gradient: the estimated dL_valid/dλ, a tree like λ.
      inner: the weights and their optimizer's state after the round.
      train_loss: the mean of the training losses before each inner step, scalar.
      valid_loss: L_valid at the end, scalar.
      gradient_evaluations: what it took, a number or a scalar array.
    """

    gradient: Any
    inner: Inner
    train_loss: jax.Array
    valid_loss: jax.Array
    gradient_evaluations: Any


Step = Callable[[Inner, Any, Any, jax.Array], tuple[Inner, jax.Array]]


def optimizer_at(optimizer: InnerOptimizer, hyperparams: Any) -> optax.GradientTransformation:
    """The inner optimizer itself, or what a function of λ makes of λ."""
    if isinstance(optimizer, optax.GradientTransformation):
        return optimizer
    return optimizer(hyperparams)


def start(problem: Problem, optimizer: InnerOptimizer, key: jax.Array, hyperparams: Any) -> Inner:
    """Fresh weights w_0 and their optimizer's state."""
    params = problem.init(key)
    return Inner(params, optimizer_at(optimizer, hyperparams).init(params))


def step(problem: Problem, optimizer: InnerOptimizer) -> Step:
    """Φ: `step(inner, hyperparams, batch, key) -> (inner, training loss before it)`.

    It may be differentiated with respect to all floating-point arrays of `inner`, and to λ, both
    where λ enters the training loss and where it enters the optimizer.
    """

    def advance(
        inner: Inner, hyperparams: Any, batch: Any, key: jax.Array
    ) -> tuple[Inner, jax.Array]:
        params, opt_state = inner
        loss, gradient = jax.value_and_grad(problem.train_loss)(params, hyperparams, batch, key)
        change, opt_state = optimizer_at(optimizer, hyperparams).update(gradient, opt_state, params)
        return Inner(optax.apply_updates(params, change), opt_state), loss

    return advance


def inputs(key: jax.Array, train_batches: Any) -> tuple[Any, jax.Array]:
    """What a scan over inner steps goes through: their batches, and a key for each."""
    batches = jax.tree.map(jnp.asarray, train_batches)
    return batches, jax.random.split(key, count(batches))


def count(train_batches: Any) -> int:
    """T, the inner steps that a round's batches allow: the length of their leading axis."""
    return jax.tree.leaves(train_batches)[0].shape[0]


def split_floats(tree: Any) -> tuple[list[jax.Array], Callable[[list[jax.Array]], Any]]:
    """The leaves that have derivatives, and how to put others in their place.

    The rest, such as Adam's count of steps, has none, and JAX's own zero for it fits in no carry.
    """
    leaves, treedef = jax.tree.flatten(tree)
    moving = [i for i, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, jnp.floating)]

    def rebuild(floats: list[jax.Array]) -> Any:
        replaced = list(leaves)
        for i, leaf in zip(moving, floats, strict=True):
            replaced[i] = leaf
        return jax.tree.unflatten(treedef, replaced)

    return [leaves[i] for i in moving], rebuild


def sweep(
    advance: Step,
    hyperparams: Any,
    trajectory: Callable[[Any], Inner],
    places: Any,
    inputs: tuple[Any, jax.Array],
    params_gradient: Any,
    hyperparams_gradient: Any,
) -> Any:
    """The backward pass along a given trajectory, from w_{T−1} down to w_0.

        λ̄ ← λ̄ + (∂Φ_t/∂λ)ᵀ w̄,    w̄ ← (∂Φ_t/∂w)ᵀ w̄

    Args:
      advance: Φ, from `step`.
      hyperparams: λ.
      trajectory: where a step is taken to have started, from its place.
      places: what the trajectory makes that of, leaves led by an axis of T.
      inputs: the batches and keys of the steps, likewise.
      params_gradient: w̄ at the end, ∂L_valid/∂w_T.
      hyperparams_gradient: λ̄ at the end, ∂L_valid/∂λ.

    Returns:
      dL_valid/dλ.
    """

    def back(carry: tuple[Any, Any], at: tuple[Any, tuple[Any, jax.Array]]) -> Any:
        cotangent, gradient = carry
        place, (batch, key) = at
        floats, rebuild = split_floats(trajectory(place))

        def forward(floats: list[jax.Array], hyperparams: Any) -> list[jax.Array]:
            return split_floats(advance(rebuild(floats), hyperparams, batch, key)[0])[0]

        cotangent, more = jax.vjp(forward, floats, hyperparams)[1](cotangent)
        return (cotangent, optax.tree.add(gradient, more)), None

    last = trajectory(jax.tree.map(lambda leaf: leaf[-1], places))
    still = last._replace(opt_state=optax.tree.zeros_like(last.opt_state))
    cotangent = split_floats(still._replace(params=params_gradient))[0]
    carry = cotangent, hyperparams_gradient
    return jax.lax.scan(back, carry, (places, inputs), reverse=True)[0][1]
