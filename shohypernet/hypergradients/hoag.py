"""HOAG: implicit differentiation with errors that shrink as λ comes to rest.

For k = 0, 1, …, with tolerances ε_k that decrease and have a finite sum:

    1. train until ‖∂L_train/∂w‖ ≤ ε_k
    2. solve  ‖(∂²L_train/∂w²) q − ∂L_valid/∂w‖ ≤ ε_k  by conjugate gradients from the last q
    3. p = ∂L_valid/∂λ − (∂²L_train/∂λ∂w) q
    4. λ ← λ − p / L

The step size 1/L adapts: it grows by a twentieth where L_valid fell, given the tolerances, as far
as that L promised,

    L_valid,k ≤ L_valid,k−1 + ε_k + ε_{k−1} (1 + Δ) − (L/2) Δ²,    Δ = ‖λ_k − λ_{k−1}‖,

and is halved where it did not; a step of exactly 0 changes nothing.

Pedregosa (2016), "Hyperparameter optimization with approximate gradient", arXiv:1602.02355,
Algorithm 1 and the adaptive step of its experiments.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from shohypernet import inner_loop
from shohypernet import problem as problems
from shohypernet._internal import frozen, validation
from shohypernet._internal.trees import typed
from shohypernet.hypergradients import _restarts as restarts
from shohypernet.hypergradients import implicit
from shohypernet.hypergradients._restarts import Hypergradient
from shohypernet.hyperoptimizer import HyperOptimizer, Info
from shohypernet.inner_loop import TrainState
from shohypernet.linear_solvers import Product, Solution, Solver, conjugate_gradient
from shohypernet.problem import Problem, unconstrained
from shohypernet.types import Batch, Hyperparams, Key, ModelState, Params

GROWTH, SHRINKAGE = 1.05, 0.5  # of the step size


class AdaptiveStepSize(NamedTuple):
    """HoagState of the adaptive step size.

    Attributes:
      learning_rate: 1/L.
      valid_loss: L_valid,k−1, infinite before the first round.
      distance: Δ, how far λ went.
    """

    learning_rate: jax.Array
    valid_loss: jax.Array
    distance: jax.Array


class HoagState(NamedTuple):
    """HoagState of `hoag`.

    Attributes:
      hyperparams: λ, as the losses of `problem` read it.
      inner: weights, their optimizer's state and the model's.
      adjoint: q.
      hyper_opt_state: the step size of λ.
      rounds: k.
    """

    hyperparams: Hyperparams
    inner: TrainState
    adjoint: Params
    hyper_opt_state: AdaptiveStepSize
    rounds: jax.Array


def exponential(first: float = 0.1, factor: float = 0.9) -> Callable[[jax.Array], jax.Array]:
    """Tolerances ε_k = first · factorᵏ."""
    validation.positive("exponential", first=first, factor=factor)
    return lambda k: first * factor ** k.astype(float)


def polynomial(first: float = 0.1, power: float = 2.0) -> Callable[[jax.Array], jax.Array]:
    """Tolerances ε_k = first / (k + 1)^power: quadratic or cubic, and summable for power > 1."""
    validation.positive("polynomial", first=first, power=power)
    return lambda k: first / (k + 1.0) ** power


def hoag(
    problem: Problem,
    *,
    optimizer: optax.GradientTransformation,
    learning_rate: float,
    tolerance: Callable[[jax.Array], jax.Array] | None = None,
    solver_steps: int = 100,
) -> HyperOptimizer:
    """HOAG, whose weights go on from round to round, each time to a smaller tolerance.

    It is meant for gradients of the whole training set; those of a minibatch don't become small.

    Args:
      problem: what is tuned; strictly convex in the weights for the theory.
      optimizer: any optax optimizer of the weights. A round uses as many of its training
        batches as it needs to reach ε_k.
      learning_rate: the first step size 1/L, of λ. It adapts, so there is no other optimizer of λ.
      tolerance: `tolerance(k) -> ε_k`, in units of the gradient; `exponential()` if None.
      solver_steps: products with the Hessian in a round, at most.

    Returns:
      A HyperOptimizer whose round takes at most T + 4 + 2K gradient evaluations, for T inner steps
      and K = solver_steps; how many it took is in its Info.

    Raises:
      ValueError: if solver_steps is below 1, or learning_rate not above 0.
      TypeError: if optimizer is a function of λ, which this can't tune.

    Reference:
      Algorithm 1 of Pedregosa (2016), arXiv:1602.02355.
    """
    inner_problem = unconstrained(problem)
    (optimizer,) = validation.optimizer("hoag", optimizer=optimizer)
    validation.whole("hoag", solver_steps=solver_steps)
    validation.positive("hoag", learning_rate=learning_rate)
    tolerance = exponential() if tolerance is None else tolerance

    def step(
        key: Key, state: HoagState, train_batches: Batch, valid_batch: Batch
    ) -> tuple[HoagState, Info]:
        key_train, key_products = jax.random.split(key)
        allowed, before = tolerance(state.rounds), tolerance(jnp.maximum(state.rounds - 1, 0))
        inner, train_loss, used = _train_until(
            inner_problem, optimizer, state, train_batches, key_train, allowed
        )
        trainable = frozen.moved_by_optimizer(optimizer, inner.params)
        made = implicit.hypergradient(
            problems.with_state(inner_problem, inner.model_state),
            state.hyperparams,
            inner.params,
            jax.tree.map(lambda leaf: leaf[-1], train_batches),
            valid_batch,
            key_products,
            solver=_warm_started(solver_steps, allowed, state.adjoint),
            trainable=trainable,
        )
        adaptive = _adapted(state.hyper_opt_state, made.valid_loss, allowed, before)
        change = optax.tree.scale(-adaptive.learning_rate, made.gradient)
        distance = optax.tree.norm(change).astype(adaptive.distance.dtype)
        estimate = Hypergradient(
            made.gradient, inner, train_loss, made.valid_loss, used + made.gradient_evaluations
        )
        state = HoagState(
            hyperparams=optax.apply_updates(state.hyperparams, change),
            inner=inner,
            adjoint=made.adjoint,
            hyper_opt_state=adaptive._replace(distance=distance),
            rounds=state.rounds + 1,
        )
        return state, restarts.info(estimate)

    init = functools.partial(_init, inner_problem, optimizer, learning_rate)
    return restarts.persistent(init, step, problem)


def _init(
    problem: Problem,
    optimizer: optax.GradientTransformation,
    learning_rate: float,
    key: Key,
    hyperparams: Hyperparams,
) -> HoagState:
    hyperparams = typed(hyperparams)
    inner = inner_loop.init(problem, optimizer, key, hyperparams)
    dtype = jnp.result_type(*jax.tree.leaves(hyperparams))
    return HoagState(
        hyperparams=hyperparams,
        inner=inner,
        adjoint=optax.tree.zeros_like(inner.params),
        hyper_opt_state=AdaptiveStepSize(
            *(jnp.asarray(number, dtype) for number in (learning_rate, jnp.inf, 0))
        ),
        rounds=jnp.int32(0),
    )


def _adapted(
    last: AdaptiveStepSize, valid_loss: jax.Array, allowed: jax.Array, before: jax.Array
) -> AdaptiveStepSize:
    """The step size after a look at what the last one, of the same L, has brought."""
    rate, last_loss, distance = last
    promised = allowed + (1 + distance) * before
    # A step size of zero has gone nowhere and promised nothing.
    promised -= distance**2 / (2 * jnp.where(rate > 0, rate, 1))
    grown = jnp.where(valid_loss <= last_loss + promised, GROWTH, SHRINKAGE)
    # Before the first round there was no step, and one that went nowhere has shown nothing: at rest
    # the step size would grow until it overflows.
    tried = jnp.isfinite(last_loss) & (distance > 0)
    rate *= jnp.where(tried, grown, 1).astype(rate.dtype)
    return last._replace(learning_rate=rate, valid_loss=valid_loss.astype(last_loss.dtype))


def _warm_started(steps: int, tolerance: jax.Array, start: Params) -> Solver:
    """Conjugate gradients from a tree like all weights, for a system in some of them."""

    def solve(product: Product, target: Params, key: Key | None = None) -> Solution:
        # In the order of the tree, the target's leaves are those that it has a place for.
        paths = {path for path, _ in jax.tree.leaves_with_path(target)}
        chosen = [leaf for path, leaf in jax.tree.leaves_with_path(start) if path in paths]
        first = jax.tree.unflatten(jax.tree.structure(target), chosen)
        return conjugate_gradient(steps, tolerance=tolerance, start=first)(product, target, key)

    return solve


def _train_until(
    problem: Problem,
    optimizer: optax.GradientTransformation,
    state: HoagState,
    train_batches: Batch,
    key: Key,
    tolerance: jax.Array,
) -> tuple[TrainState, jax.Array, jax.Array]:
    """Weights whose gradient is small, or whose batches are used up; the last loss; the count."""
    batches, keys = inner_loop.inputs(key, train_batches)
    trainable = frozen.moved_by_optimizer(optimizer, state.inner.params)

    def unfinished(carry: Any) -> jax.Array:
        _, _, used, done = carry
        return (used < len(keys)) & ~done

    def advance(carry: Any) -> Any:
        inner, _, used, _ = carry
        batch = jax.tree.map(lambda leaf: leaf[used], batches)

        def loss(params: Params) -> tuple[jax.Array, ModelState]:
            return inner_loop.train_loss(
                problem, params, inner.model_state, state.hyperparams, batch, keys[used]
            )

        (value, model_state), gradient = jax.value_and_grad(loss, has_aux=True)(inner.params)
        done = optax.tree.norm(problems.select(gradient, trainable)) <= tolerance
        params, opt_state = inner_loop.apply_gradient(
            optimizer,
            gradient,
            inner.opt_state,
            inner.params,
            value=value,
            value_fn=lambda params: loss(params)[0],
        )
        trained = TrainState(params, opt_state, model_state)
        return optax.tree.where(done, inner, trained), value, used + 1, done

    first = jax.tree.map(lambda leaf: leaf[0], batches)
    params, _, model_state = state.inner
    loss, _ = jax.eval_shape(
        lambda: inner_loop.train_loss(
            problem, params, model_state, state.hyperparams, first, keys[0]
        )
    )
    carry = state.inner, jnp.zeros(loss.shape, loss.dtype), jnp.int32(0), jnp.bool_(False)
    inner, train_loss, used, _ = jax.lax.while_loop(unfinished, advance, carry)
    return inner, train_loss, used
