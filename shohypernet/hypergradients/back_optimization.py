"""Domke's truncated back-optimization: an inner optimizer of T iterations, and its backward sweep.

    gradient descent   w_t = w_{t−1} − α ∇L
    heavy ball         w_t = w_{t−1} − α ∇L + β (w_{t−1} − w_{t−2})
    L-BFGS             w_t = w_{t−1} − α B_t ∇L,  B_t from the last m steps, by two loops

The iterates w_t are kept and nothing else. Going back, each step is made again at its iterate and
its transposed derivative applied, which needs products with the Hessian of L_train only.

Domke (2012), "Generic Methods for Optimization-Based Modeling", Algorithms 2 to 7.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from shohypernet import inner_loop
from shohypernet._internal import validation
from shohypernet.hypergradients import _restarts as restarts
from shohypernet.hypergradients._restarts import Hypergradient
from shohypernet.hypergradients._sweep import sweep
from shohypernet.hyperoptimizer import HyperOptimizer
from shohypernet.inner_loop import TrainState
from shohypernet.problem import Problem
from shohypernet.types import Batch, Hyperparams, Key, Params


class LBFGSState(NamedTuple):
    """What L-BFGS keeps, of weights in one row.

    Attributes:
      params: w_{t−1}, shape (D,).
      gradient: ∇L there.
      steps: differences of the last weights, shape (memory, D), the newest last.
      changes: those of their gradients.
    """

    params: jax.Array
    gradient: jax.Array
    steps: jax.Array
    changes: jax.Array


def gradient_descent(learning_rate: float) -> optax.GradientTransformation:
    """Optimizer: w ← w − α ∇L."""
    return optax.sgd(learning_rate)


def heavy_ball(learning_rate: float, momentum: float) -> optax.GradientTransformation:
    """Optimizer: w_t = w_{t−1} − α ∇L + β (w_{t−1} − w_{t−2})."""
    return optax.sgd(learning_rate, momentum=momentum)


def l_bfgs(learning_rate: float, memory: int = 5) -> optax.GradientTransformation:
    """Optimizer: w ← w − α B ∇L, B the inverse Hessian that the last `memory` steps suggest.

    With a step size in place of a line search, and the plain gradient at first. It is for one whole
    training set: from one minibatch to another the gradient changes for other reasons than the
    curvature. Optax's own takes the length of its first step for a constant, which it isn't here.

    Reference:
      Nocedal and Wright (2006), "Numerical Optimization", algorithm 7.4.
    """
    validation.positive("l_bfgs", learning_rate=learning_rate)
    validation.whole("l_bfgs", memory=memory)

    def init(params: Params) -> LBFGSState:
        flat = ravel_pytree(params)[0]
        return LBFGSState(
            flat, jnp.zeros_like(flat), *jnp.zeros((2, memory, flat.size), flat.dtype)
        )

    def update(updates: Any, state: Any, params: Params = None) -> tuple[Any, LBFGSState]:
        (slope, unravel), at = ravel_pytree(updates), ravel_pytree(params)[0]
        # Not by concatenation, which crashed within nested scans on a CPU (jaxlib 0.10.2).
        steps = jnp.roll(state.steps, -1, axis=0).at[-1].set(at - state.params)
        changes = jnp.roll(state.changes, -1, axis=0).at[-1].set(slope - state.gradient)
        products = jnp.sum(steps * changes, axis=1)
        # A pair that isn't there yet, or shows no positive curvature, is passed over.
        good = products > 0
        inverses = jnp.where(good, 1 / jnp.where(good, products, 1), 0)
        pairs = steps, changes, inverses

        def down(direction: jax.Array, pair: Any) -> tuple[jax.Array, jax.Array]:
            step, change, inverse = pair
            length = inverse * jnp.sum(step * direction)
            return direction - length * change, length

        def up(direction: jax.Array, pair: Any) -> tuple[jax.Array, None]:
            (step, change, inverse), length = pair
            return direction + (length - inverse * jnp.sum(change * direction)) * step, None

        direction, lengths = jax.lax.scan(down, slope, pairs, reverse=True)
        square = jnp.where(good[-1], jnp.sum(changes[-1] ** 2), 1)
        direction *= jnp.where(good[-1], products[-1] / square, 1)
        direction, _ = jax.lax.scan(up, direction, (pairs, lengths))
        return unravel(-learning_rate * direction), LBFGSState(at, slope, steps, changes)

    return optax.GradientTransformation(init, update)


def hypergradient(
    problem: Problem,
    optimizer: optax.GradientTransformation,
    hyperparams: Hyperparams,
    state: TrainState,
    train_batches: Batch,
    valid_batch: Batch,
    key: Key,
) -> Hypergradient:
    """T iterations of a optimizer from `state`, and dL_valid/dλ by sweeping back over its iterates.

    Args:
      problem: gives both losses.
      optimizer: `gradient_descent`, `heavy_ball`, `l_bfgs`, or any optax optimizer.
      hyperparams: λ, as the losses of `problem` read it.
      state: where the optimizer starts.
      train_batches: a training batch for each of the T iterations, on a leading axis.
      valid_batch: the batch of L_valid.
      key: PRNG key of the stochastic terms of the training loss.

    Returns:
      The estimate, which takes 3T + 1 gradient evaluations: an iteration going back is a
      Hessian-vector product, counted as two. Where it isn't linear in the gradient, as that of
      L-BFGS, the gradient is needed again, and isn't counted.
    """
    step = functools.partial(inner_loop.train_step, problem, optimizer)
    inputs = inner_loop.inputs(key, train_batches)

    def through(state: TrainState, at: Any) -> tuple[TrainState, tuple[jax.Array, TrainState]]:
        new, loss = step(state, hyperparams, *at)
        return new, (loss, state)

    end, (losses, iterates) = jax.lax.scan(through, state, inputs)
    valid = inner_loop.valid_gradients(problem, end, hyperparams, valid_batch)
    gradient = sweep(step, hyperparams, lambda iterate: iterate, iterates, inputs, valid)
    return Hypergradient(gradient, end, jnp.mean(losses), valid.loss, 3 * len(losses) + 1)


def back_optimization(
    problem: Problem,
    *,
    optimizer: optax.GradientTransformation,
    hyper_optimizer: optax.GradientTransformation,
) -> HyperOptimizer:
    """Truncated back-optimization: every round solves anew from the same w_0, by T iterations.

    Args:
      problem: the bilevel problem.
      optimizer: `gradient_descent`, `heavy_ball`, `l_bfgs`, or any optax optimizer.
      hyper_optimizer: for λ.

    Returns:
      A HyperOptimizer whose round of T iterations takes 3T + 1 gradient evaluations.

    Reference:
      Domke (2012), "Generic Methods for Optimization-Based Modeling".
    """
    inner, optimizer, hyper_optimizer = restarts.parts(
        "back_optimization", problem, optimizer, hyper_optimizer
    )
    return restarts.restart(
        restarts.start(inner, optimizer),
        functools.partial(hypergradient, inner, optimizer),
        hyper_optimizer,
        problem,
    )
