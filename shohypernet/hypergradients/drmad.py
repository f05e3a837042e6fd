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

from shohypernet.hypergradients import _inner as inners
from shohypernet.hypergradients import _restarts as restarts
from shohypernet.hypergradients._inner import Estimate, Inner, InnerOptimizer
from shohypernet.hyperoptimizer import HyperOptimizer
from shohypernet.problem import Problem


def hypergradient(
    problem: Problem,
    optimizer: InnerOptimizer,
    hyperparams: Any,
    inner: Inner,
    train_batches: Any,
    valid_batch: Any,
    key: jax.Array,
) -> Estimate:
    """T steps of training from `inner`, and dL_valid/dλ along the line between its ends.

    Args:
      problem: gives both losses.
      optimizer: Φ, an optax optimizer, or a function from λ to one.
      hyperparams: λ, unconstrained.
      inner: where training starts.
      train_batches: a training batch for each of the T steps, on a leading axis.
      valid_batch: the batch of L_valid.
      key: for what is random in the training loss.

    Returns:
      The estimate, which takes 3T + 1 gradient evaluations: a step of the backward pass is a
      Hessian-vector product, counted as two. Where the step isn't linear in the gradient, as
      Adam's, the gradient is needed again, and isn't counted.
    """
    advance = inners.step(problem, optimizer)
    inputs = inners.inputs(key, train_batches)
    steps = inners.count(train_batches)

    def through(inner: Inner, at: Any) -> tuple[Inner, tuple[jax.Array, Inner]]:
        new, loss = advance(inner, hyperparams, *at)
        return new, (loss, jax.tree.map(_counter, inner))

    end, (losses, counters) = jax.lax.scan(through, inner, inputs)

    def between(place: tuple[jax.Array, Inner]) -> Inner:
        t, counters = place

        def one(first: jax.Array, last: jax.Array, counter: jax.Array) -> jax.Array:
            if not jnp.issubdtype(first.dtype, jnp.floating):
                return counter
            return first + (t / steps).astype(first.dtype) * (last - first)

        return jax.tree.map(one, inner, end, counters)

    valid_loss, (through_weights, direct) = jax.value_and_grad(problem.valid_loss, (0, 1))(
        end.params, hyperparams, valid_batch
    )
    places = jnp.arange(steps), counters
    gradient = inners.sweep(advance, hyperparams, between, places, inputs, through_weights, direct)
    return Estimate(gradient, end, jnp.mean(losses), valid_loss, 3 * steps + 1)


def drmad(
    problem: Problem,
    *,
    optimizer: InnerOptimizer,
    hyper_optimizer: optax.GradientTransformation,
) -> HyperOptimizer:
    """DrMAD: every round trains anew from the same w_0, and only its ends are kept.

    Args:
      problem: what is tuned.
      optimizer: an optax optimizer, or a function from λ to one; SGD with momentum in the
        paper.
      hyper_optimizer: for λ.

    Returns:
      A HyperOptimizer whose round of T inner steps takes 3T + 1 gradient evaluations.

    Reference:
      Fu et al. (2016), arXiv:1601.00917.
    """
    return restarts.anew(
        functools.partial(inners.start, problem, optimizer),
        functools.partial(hypergradient, problem, optimizer),
        hyper_optimizer,
    )


def _counter(leaf: jax.Array) -> jax.Array:
    # A count has no line to lie on, but is small; of the weights a zero stands for all.
    return jnp.zeros((), leaf.dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf
