"""Domke's truncated back-optimisation: an inner solver of T iterations, and its backward sweep.

    gradient descent   w_t = w_{t−1} − α ∇L
    heavy ball         w_t = w_{t−1} − α ∇L + β (w_{t−1} − w_{t−2})
    L-BFGS             w_t = w_{t−1} − α B_t ∇L,  B_t from the last m steps, by two loops

The iterates w_t are kept and nothing else. Going back, each step is made again at its iterate and
its transposed derivative applied, which needs products with the Hessian of L_train only.

Domke (2012), "Generic Methods for Optimization-Based Modeling", Algorithms 2 to 7.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from shohypernet.hypergradients import inner as inners
from shohypernet.hypergradients import rounds
from shohypernet.hypergradients.inner import Estimate, Inner
from shohypernet.hyperoptimizer import HyperOptimizer
from shohypernet.problem import Problem


def gradient_descent(learning_rate: float) -> optax.GradientTransformation:
    """An inner solver: w ← w − α ∇L."""
    return optax.sgd(learning_rate)


def heavy_ball(learning_rate: float, momentum: float) -> optax.GradientTransformation:
    """An inner solver: w_t = w_{t−1} − α ∇L + β (w_{t−1} − w_{t−2})."""
    return optax.sgd(learning_rate, momentum=momentum)


def l_bfgs(learning_rate: float, memory: int = 5) -> optax.GradientTransformation:
    """An inner solver: w ← w − α B ∇L with B the inverse Hessian of the last `memory` steps.

    With a step size in place of Domke's line search. It is for one whole training set: from one
    minibatch to another the gradient changes for other reasons than the curvature.
    """
    return optax.chain(optax.scale_by_lbfgs(memory), optax.scale_by_learning_rate(learning_rate))


def hypergradient(
    problem: Problem,
    solver: optax.GradientTransformation,
    hyperparams: Any,
    inner: Inner,
    train_batches: Any,
    valid_batch: Any,
    key: jax.Array,
) -> Estimate:
    """T iterations of a solver from `inner`, and dL_valid/dλ by sweeping back over its iterates.

    Args:
      problem: gives both losses.
      solver: `gradient_descent`, `heavy_ball`, `l_bfgs`, or any optax optimiser.
      hyperparams: λ, unconstrained.
      inner: where the solver starts.
      train_batches: a training batch for each of the T iterations, on a leading axis.
      valid_batch: the batch of L_valid.
      key: for what is random in the training loss.

    Returns:
      The estimate, which takes 3T + 1 gradient evaluations: an iteration going back is a
      Hessian-vector product, counted as two. Where it isn't linear in the gradient, as that of
      L-BFGS, the gradient is needed again, and isn't counted.
    """
    advance = inners.step(problem, solver)
    inputs = inners.inputs(key, train_batches)

    def through(inner: Inner, at: Any) -> tuple[Inner, tuple[jax.Array, Inner]]:
        new, loss = advance(inner, hyperparams, *at)
        return new, (loss, inner)

    end, (losses, iterates) = jax.lax.scan(through, inner, inputs)
    valid_loss, (through_weights, direct) = jax.value_and_grad(problem.valid_loss, (0, 1))(
        end.params, hyperparams, valid_batch
    )
    gradient = inners.sweep(advance, hyperparams, iterates, inputs, through_weights, direct)
    return Estimate(gradient, end, jnp.mean(losses), valid_loss, 3 * len(losses) + 1)


def back_optimisation(
    problem: Problem,
    *,
    solver: optax.GradientTransformation,
    hyper_optimizer: optax.GradientTransformation,
) -> HyperOptimizer:
    """Truncated back-optimisation: every round solves anew from the same w_0, by T iterations.

    Args:
      problem: what is tuned.
      solver: `gradient_descent`, `heavy_ball`, `l_bfgs`, or any optax optimiser.
      hyper_optimizer: for λ.

    Returns:
      A HyperOptimizer whose round of T iterations takes 3T + 1 gradient evaluations.

    Reference:
      Domke (2012), "Generic Methods for Optimization-Based Modeling".
    """
    return rounds.anew(
        functools.partial(inners.start, problem, solver),
        functools.partial(hypergradient, problem, solver),
        hyper_optimizer,
    )
