"""Reverse mode through the steps of training, all of them or the last few.

    w_t = Φ_t(w_{t−1}, λ),  t = 1 … T;    dL_valid/dλ = ∂L_valid/∂λ + Σ_t (∂Φ_t/∂λ)ᵀ w̄_t
    w̄_T = ∂L_valid/∂w_T,   w̄_{t−1} = (∂Φ_t/∂w_{t−1})ᵀ w̄_t

Φ is one step of any optax optimizer on L_train, and may itself depend on λ: step sizes and momenta
can be tuned. Truncated after K of the T steps, the sum leaves out how the first T − K depend on λ.

Domke (2012), "Generic Methods for Optimization-Based Modeling"; Maclaurin et al. (2015),
"Gradient-based Hyperparameter Optimization through Reversible Learning", arXiv:1502.03492;
Franceschi et al. (2017), "Forward and Reverse Gradient-Based Hyperparameter Optimization",
arXiv:1703.01785, Algorithm 1 (Reverse-HG). Truncation: Shaban et al. (2019), arXiv:1810.10667.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from shohypernet import inner_loop
from shohypernet._internal import validation
from shohypernet.hypergradients import _restarts as restarts
from shohypernet.hypergradients import _segments as segments
from shohypernet.hypergradients._restarts import Hypergradient
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
    *,
    backward_steps: int | None = None,
    segment: int | None = None,
) -> Hypergradient:
    """T steps of training from `state`, and dL_valid/dλ in reverse mode through the last K.

    Args:
      problem: gives both losses.
      optimizer: Φ, an optax optimizer, or a function from λ to one.
      hyperparams: λ, as the losses of `problem` read it.
      state: where training starts.
      train_batches: a training batch for each of the T steps, on a leading axis.
      valid_batch: the batch of L_valid.
      key: PRNG key of the stochastic terms of the training loss.
      backward_steps: K; None takes all T, and the gradient is that of the training as it was done.
      segment: inner steps of which only the first weights are kept, and the rest is computed again;
        None takes ⌈√K⌉, for memory that grows like √K. K or more keeps all of them.

    Returns:
      The estimate, which takes T + 2K + 1 gradient evaluations, and one for every step that was
      computed again: going back through a step costs a Hessian-vector product, counted as two.

    Raises:
      ValueError: if backward_steps is not between 1 and T, or segment is below 1.
    """
    steps = inner_loop.count(train_batches)
    last = steps if backward_steps is None else backward_steps
    if not 1 <= last <= steps:
        raise ValueError(
            f"backward_steps must lie between 1 and the number of inner steps, {steps}, got {last}."
        )
    segment = segments.square_root(last) if segment is None else segment
    if segment < 1:
        raise ValueError(f"a segment needs 1 step or more, got segment={segment}.")

    def train(
        hyperparams: Hyperparams, state: TrainState, inputs: Any
    ) -> tuple[TrainState, jax.Array]:
        return segments.scan(
            lambda state, at: inner_loop.train_step(problem, optimizer, state, hyperparams, *at),
            state,
            inputs,
            segment,
        )

    inputs = inner_loop.inputs(key, train_batches)
    before = jax.tree.map(lambda leaf: leaf[: steps - last], inputs)
    through = jax.tree.map(lambda leaf: leaf[steps - last :], inputs)
    first_losses = []
    if last < steps:
        state, losses = train(hyperparams, state, before)
        first_losses.append(losses)

    def outer(hyperparams: Hyperparams) -> tuple[jax.Array, tuple[TrainState, jax.Array]]:
        end, losses = train(hyperparams, state, through)
        loss = inner_loop.valid_loss(problem, end.params, end.model_state, hyperparams, valid_batch)
        return loss, (end, losses)

    (valid_loss, (end, losses)), gradient = jax.value_and_grad(outer, has_aux=True)(hyperparams)
    return Hypergradient(
        gradient=gradient,
        state=end,
        train_loss=jnp.mean(jnp.concatenate([*first_losses, losses])),
        valid_loss=valid_loss,
        gradient_evaluations=steps + 2 * last + 1 + segments.recomputed(last, segment),
    )


def unrolled(
    problem: Problem,
    *,
    optimizer: Optimizer,
    hyper_optimizer: optax.GradientTransformation,
    segment: int | None = None,
) -> HyperOptimizer:
    """Full unrolling: every round restarts from the same w_0, and is differentiated whole.

    λ is tuned for just that training: its start, its steps and its optimizer.

    Args:
      problem: the bilevel problem.
      optimizer: an optax optimizer, or a function from λ, in natural units, to one, such as
        `lambda λ: optax.sgd(λ["rate"], momentum=λ["momentum"])`.
      hyper_optimizer: for λ.
      segment: inner steps that are kept or computed again together, ⌈√T⌉ if None.

    Returns:
      A HyperOptimizer whose round of T inner steps takes 3T + 1 gradient evaluations, and one more
      for each step computed again.

    Raises:
      ValueError: if segment is below 1.

    Reference:
      Maclaurin et al. (2015), arXiv:1502.03492; Franceschi et al. (2017), arXiv:1703.01785.
    """
    if segment is not None:
        validation.whole("unrolled", segment=segment)
    inner, optimizer, hyper_optimizer = restarts.parts(
        "unrolled", problem, optimizer, hyper_optimizer, function_of_hyperparams=True
    )
    return restarts.restart(
        restarts.start(inner, optimizer),
        functools.partial(hypergradient, inner, optimizer, segment=segment),
        hyper_optimizer,
        problem,
    )


def truncated(
    problem: Problem,
    *,
    optimizer: Optimizer,
    hyper_optimizer: optax.GradientTransformation,
    backward_steps: int,
    segment: int | None = None,
) -> HyperOptimizer:
    """Truncated unrolling: weights go on from round to round, and the last K steps are reversed.

    Cheap, and biased towards what a few steps can show (Wu et al. 2018, arXiv:1803.02021).

    Args:
      problem: the bilevel problem.
      optimizer: an optax optimizer, or a function from λ to one.
      hyper_optimizer: for λ.
      backward_steps: K, at most the inner steps T of a round.
      segment: inner steps that are kept or computed again together, ⌈√K⌉ if None.

    Returns:
      A HyperOptimizer whose round takes T + 2K + 1 gradient evaluations, and one more for each step
      computed again.

    Raises:
      ValueError: if backward_steps or segment is below 1, or a round has fewer inner steps.

    Reference:
      Shaban et al. (2019), arXiv:1810.10667.
    """
    validation.whole("truncated", backward_steps=backward_steps)
    if segment is not None:
        validation.whole("truncated", segment=segment)

    inner, optimizer, hyper_optimizer = restarts.parts(
        "truncated", problem, optimizer, hyper_optimizer, function_of_hyperparams=True
    )
    return restarts.warm_start(
        restarts.start(inner, optimizer),
        functools.partial(
            hypergradient, inner, optimizer, backward_steps=backward_steps, segment=segment
        ),
        hyper_optimizer,
        problem,
    )
