"""DrMAD: the backward pass along the straight line between initial and final weights.

    w_t ≈ (1 − t/T) w_0 + (t/T) w_T,    t = 0 … T − 1

Nothing of the training is kept but its two ends, however long it was; the gradient is only as good
as the line. What the optimizer remembers lies on a line too, where it has derivatives.

Fu et al. (2016), "DrMAD: Distilling Reverse-Mode Automatic Differentiation for Optimizing
Hyperparameters of Deep Neural Networks", arXiv:1601.00917, Algorithms 1 and 2.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from shohypernet import inner_loop
from shohypernet.hypergradients import _restarts as restarts
from shohypernet.hypergradients._restarts import Hypergradient
from shohypernet.hypergradients._sweep import sweep
from shohypernet.hyperoptimizer import HyperOptimizer
from shohypernet.inner_loop import TrainState
from shohypernet.problem import Problem
from shohypernet.types import Batch, Hyperparams, Key, Optimizer


def hypergradient(
    problem: Problem,
    optimizer: Optimizer,
    hyperparams: Hyperparams,
    state: TrainState,
    train_batches: Batch,
    valid_batch: Batch,
    key: Key,
) -> Hypergradient:
    """T steps of training from `state`, and dL_valid/dλ along the line between its ends.

    Args:
      problem: gives both losses.
      optimizer: Φ, an optax optimizer, or a function from λ to one.
      hyperparams: λ, as the losses of `problem` read it.
      state: where training starts.
      train_batches: a training batch for each of the T steps, on a leading axis.
      valid_batch: the batch of L_valid.
      key: PRNG key of the stochastic terms of the training loss.

    Returns:
      The estimate, which takes 3T + 1 gradient evaluations: a step of the backward pass is a
      Hessian-vector product, counted as two. Where the step isn't linear in the gradient, as
      Adam's, the gradient is needed again, and isn't counted.
    """
    step = functools.partial(inner_loop.train_step, problem, optimizer)
    inputs = inner_loop.inputs(key, train_batches)
    steps = inner_loop.count(train_batches)

    def through(state: TrainState, at: Any) -> tuple[TrainState, tuple[jax.Array, TrainState]]:
        new, loss = step(state, hyperparams, *at)
        return new, (loss, jax.tree.map(_counter, state))

    end, (losses, counters) = jax.lax.scan(through, state, inputs)

    def between(place: tuple[jax.Array, TrainState]) -> TrainState:
        t, counters = place

        def one(first: jax.Array, last: jax.Array, counter: jax.Array) -> jax.Array:
            if not jnp.issubdtype(first.dtype, jnp.floating):
                return counter
            return first + (t / steps).astype(first.dtype) * (last - first)

        return jax.tree.map(one, state, end, counters)

    valid = inner_loop.valid_gradients(problem, end, hyperparams, valid_batch)
    places = jnp.arange(steps), counters
    gradient = sweep(step, hyperparams, between, places, inputs, valid)
    return Hypergradient(gradient, end, jnp.mean(losses), valid.loss, 3 * steps + 1)


def drmad(
    problem: Problem,
    *,
    optimizer: Optimizer,
    hyper_optimizer: optax.GradientTransformation,
) -> HyperOptimizer:
    """DrMAD: every round restarts from the same w_0, and only its ends are kept.

    Args:
      problem: the bilevel problem.
      optimizer: an optax optimizer, or a function from λ to one; SGD with momentum in the
        paper.
      hyper_optimizer: for λ.

    Returns:
      A HyperOptimizer whose round of T inner steps takes 3T + 1 gradient evaluations.

    Reference:
      Fu et al. (2016), arXiv:1601.00917.
    """
    inner, optimizer, hyper_optimizer = restarts.parts(
        "drmad", problem, optimizer, hyper_optimizer, function_of_hyperparams=True
    )
    return restarts.restart(
        restarts.start(inner, optimizer),
        functools.partial(hypergradient, inner, optimizer),
        hyper_optimizer,
        problem,
    )


def _counter(leaf: jax.Array) -> jax.Array:
    # A count has no line to lie on, but is small; of the weights a zero stands for all.
    return jnp.zeros((), leaf.dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf
