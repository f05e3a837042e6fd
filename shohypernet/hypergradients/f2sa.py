"""F2SA: hypergradients from first derivatives alone, by pulling the weights towards L_valid.

    w = argmin L_train(w, λ),    y = argmin L_train(y, λ) + L_valid(y, λ) / μ
    dL_valid/dλ ≈ ∂L_valid/∂λ (y) + μ [∂L_train/∂λ (y) − ∂L_train/∂λ (w)]

That is a finite difference. The envelope F(ε) = min_y L_train(y, λ) + ε L_valid(y, λ) has the
gradient ∂F/∂λ = ∂L_train/∂λ + ε ∂L_valid/∂λ at its minimum, whose derivative in ε at ε = 0 is the
hypergradient. F2SA takes (∂F(ε) − ∂F(0)) / ε at ε = 1/μ, with an error of order 1/μ; the symmetric
form takes (∂F(ε) − ∂F(−ε)) / 2ε, with one of order 1/μ². Both sets of weights are trained on the
same minibatches with the same noise, most of which cancels.

Kwon, Kwon, Wright and Nowak (2023), "A fully first-order method for stochastic bilevel
optimization", arXiv:2301.10945, Algorithm 1 (whose λ is this μ). Symmetric: Chen, Li, Chayti and
Zhang (2025), "Faster gradient methods for highly-smooth stochastic bilevel optimization",
arXiv:2509.02937.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from shohypernet import inner_loop
from shohypernet import problem as problems
from shohypernet._internal import frozen, validation
from shohypernet._internal.trees import split_floats, typed
from shohypernet.hypergradients import _restarts as restarts
from shohypernet.hypergradients._restarts import Hypergradient
from shohypernet.hyperoptimizer import HyperOptimizer, Info
from shohypernet.inner_loop import TrainState
from shohypernet.problem import Problem
from shohypernet.types import Batch, Hyperparams, Key, ModelState, OptState, Params


class F2saState(NamedTuple):
    """State of `f2sa`.

    Attributes:
      hyperparams: λ, unconstrained.
      pulled: y, its optimizer's state and the model's.
      other: w likewise; in the symmetric form the weights that are pushed away from L_valid.
      hyper_opt_state: state of the optimizer of λ.
      rounds: rounds done, scalar int32.
    """

    hyperparams: Hyperparams
    pulled: TrainState
    other: TrainState
    hyper_opt_state: OptState
    rounds: jax.Array


def hypergradient(
    problem: Problem,
    hyperparams: Hyperparams,
    pulled: Params,
    other: Params,
    train_batch: Batch,
    valid_batch: Batch,
    key: Key,
    *,
    multiplier: float | jax.Array,
    symmetric: bool = False,
) -> Hyperparams:
    """The finite difference of the envelope's gradient, at weights that are taken for its minima.

    Args:
      problem: gives both losses; without model state (see `problem.with_state`).
      hyperparams: λ, as the losses of `problem` read it.
      pulled: y, a minimum of L_train + L_valid / μ.
      other: w, a minimum of L_train; in the symmetric form one of L_train − L_valid / μ.
      train_batch: the training examples of both derivatives.
      valid_batch: the batch of L_valid.
      key: PRNG key of the stochastic terms of the training loss.
      multiplier: μ, in units of the training loss over those of the validation loss.
      symmetric: whether the difference is.

    Returns:
      The estimated dL_valid/dλ, a tree like λ. It takes three gradient evaluations, four in the
      symmetric form.
    """

    def difference(hyperparams: Hyperparams) -> jax.Array:
        above = problem.train_loss(pulled, hyperparams, train_batch, key)
        below = problem.train_loss(other, hyperparams, train_batch, key)
        direct = problem.valid_loss(pulled, hyperparams, valid_batch)
        if not symmetric:
            return multiplier * (above - below) + direct
        direct += problem.valid_loss(other, hyperparams, valid_batch)
        return (multiplier * (above - below) + direct) / 2

    return jax.grad(difference)(hyperparams)


def f2sa(
    problem: Problem,
    *,
    optimizer: optax.GradientTransformation,
    hyper_optimizer: optax.GradientTransformation,
    multiplier: float | Callable[[jax.Array], Any],
    symmetric: bool = False,
) -> HyperOptimizer:
    """F2SA: two sets of weights that go on from round to round, and λ once a round.

    In the symmetric form the method's weights are the mean of the two, within order 1/μ² of the
    minimum of L_train. It needs a μ so large that L_train bends more than L_valid / μ.

    Args:
      problem: the bilevel problem.
      optimizer: any optax optimizer of both sets of weights.
      hyper_optimizer: for λ.
      multiplier: μ, in units of the training loss over those of the validation loss; or a function
        of the number of the round, that grows, for a bias that vanishes.
      symmetric: whether to take the symmetric difference.

    Returns:
      A HyperOptimizer whose round of T training batches takes 3T + 3 gradient evaluations, or
      4T + 4 in the symmetric form. L_valid at w, for the Info, is computed without gradient.

    Raises:
      ValueError: if the multiplier is a number that isn't above 0.
      TypeError: if optimizer is a function of λ, which this can't tune, or something else that is
        no problem or optimizer.

    Reference:
      Algorithm 1 of Kwon et al. (2023), arXiv:2301.10945.
    """
    inner, optimizer, hyper_optimizer = restarts.parts("f2sa", problem, optimizer, hyper_optimizer)
    validation.positive("f2sa", multiplier=multiplier)

    def init(key: Key, hyperparams: Hyperparams) -> F2saState:
        hyperparams = typed(hyperparams)
        start = inner_loop.init(inner, optimizer, key, hyperparams)
        return F2saState(hyperparams, start, start, hyper_optimizer.init(hyperparams), jnp.int32(0))

    def weights(state: F2saState) -> tuple[Params, ModelState]:
        if not symmetric:
            return state.other.params, state.other.model_state
        return (
            _middle(state.pulled.params, state.other.params),
            _middle(state.pulled.model_state, state.other.model_state),
        )

    def step(
        key: Key, state: F2saState, train_batches: Batch, valid_batch: Batch
    ) -> tuple[F2saState, Info]:
        key_train, key_last = jax.random.split(key)
        mu = multiplier(state.rounds) if callable(multiplier) else multiplier
        hyperparams = state.hyperparams

        def trained(problem: Problem, start: TrainState) -> tuple[TrainState, jax.Array]:
            at = start, hyperparams, train_batches, key_train
            return inner_loop.train_steps(problem, optimizer, *at)

        pushed = _pulled(inner, -1 / mu, valid_batch) if symmetric else inner
        pulled, pulled_losses = trained(_pulled(inner, 1 / mu, valid_batch), state.pulled)
        other, losses = trained(pushed, state.other)
        if symmetric:  # where the shares of L_valid cancel
            losses = (losses + pulled_losses) / 2
        held = problems.with_state(inner, other.model_state)
        last_batch = jax.tree.map(lambda leaf: leaf[-1], train_batches)
        at = hyperparams, pulled.params, other.params, last_batch, valid_batch, key_last
        gradient = hypergradient(held, *at, multiplier=mu, symmetric=symmetric)
        state = state._replace(pulled=pulled, other=other, rounds=state.rounds + 1)
        params, model_state = weights(state)
        valid_loss = inner_loop.valid_loss(inner, params, model_state, hyperparams, valid_batch)
        evaluations = (3 + symmetric) * (len(losses) + 1)
        made = Hypergradient(gradient, other, jnp.mean(losses), valid_loss, evaluations)
        moved, opt_state = restarts.move(hyper_optimizer, made, state.hyper_opt_state, hyperparams)
        return state._replace(hyperparams=moved, hyper_opt_state=opt_state), restarts.info(made)

    return HyperOptimizer(
        init, step, lambda state: weights(state)[0], lambda state: weights(state)[1], problem
    )


def _pulled(problem: Problem, share: Any, valid_batch: Batch) -> Problem:
    """The same problem with a share of L_valid in its training loss.

    L_valid pulls at those weights alone that L_train moves.
    """

    def train_loss(
        params: Params, hyperparams: Hyperparams, batch: Batch, key: Key, *state: ModelState
    ) -> Any:
        (model_state,) = state or ((),)
        loss, after = inner_loop.train_loss(problem, params, model_state, hyperparams, batch, key)
        held = problems.with_state(problem, model_state)
        moved = frozen.moved_by_loss(held, params, hyperparams, batch, key)
        params = jax.tree.map(
            lambda leaf, moves: leaf if moves else jax.lax.stop_gradient(leaf), params, moved
        )
        loss += share * held.valid_loss(params, hyperparams, valid_batch)
        return (loss, after) if problem.stateful else loss

    return problem._replace(train_loss=train_loss)


def _middle(one: Any, other: Any) -> Any:
    """The mean of the floating-point leaves of two trees, and the other leaves of the first."""
    floats, rebuild = split_floats(one)
    others, _ = split_floats(other)
    return rebuild([(a + b) / 2 for a, b in zip(floats, others, strict=True)])
