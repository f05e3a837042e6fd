"""HOAG: implicit differentiation with errors that shrink as λ comes to rest.

For k = 0, 1, …, with tolerances ε_k that decrease and have a finite sum:

    1. train until ‖∂L_train/∂w‖ ≤ ε_k
    2. solve  ‖(∂²L_train/∂w²) q − ∂L_valid/∂w‖ ≤ ε_k  by conjugate gradients from the last q
    3. p = ∂L_valid/∂λ − (∂²L_train/∂λ∂w) q
    4. λ ← λ − p / L

The step size 1/L adapts: it grows by a twentieth where L_valid fell, given the tolerances, as far
as that L promised,

    L_valid,k ≤ L_valid,k−1 + ε_k + ε_{k−1} (1 + Δ) − (L/2) Δ²,    Δ = ‖λ_k − λ_{k−1}‖,

and is halved where it did not.

Pedregosa (2016), "Hyperparameter optimization with approximate gradient", arXiv:1602.02355,
Algorithm 1 and the adaptive step of its experiments.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from shohypernet._internal import validation
from shohypernet.hypergradients import _inner as inners
from shohypernet.hypergradients import _restarts as restarts
from shohypernet.hypergradients import implicit
from shohypernet.hypergradients._inner import Estimate, Inner
from shohypernet.hyperoptimizer import HyperOptimizer, Info
from shohypernet.linear_solvers import conjugate_gradient
from shohypernet.problem import Problem

GROWTH, SHRINKAGE = 1.05, 0.5  # of the step size


class Adaptive(NamedTuple):
    """What the adaptive step size needs of the last round.

    Attributes:
      learning_rate: 1/L.
      valid_loss: L_valid,k−1, infinite before the first round.
      distance: Δ, how far λ went.
    """

    learning_rate: jax.Array
    valid_loss: jax.Array
    distance: jax.Array


class State(NamedTuple):
    """What a round of HOAG needs of the one before.

    Attributes:
      hyperparams: λ, unconstrained.
      inner: the weights and their optimizer's state.
      adjoint: q.
      hyper_opt_state: the step size of λ.
      rounds: k.
    """

    hyperparams: Any
    inner: Inner
    adjoint: Any
    hyper_opt_state: Adaptive
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
      ValueError: if solver_steps is below 1, learning_rate not above 0, or optimizer is a
        function of λ.

    Reference:
      Algorithm 1 of Pedregosa (2016), arXiv:1602.02355.
    """
    implicit.require_fixed(optimizer, "hoag")
    validation.whole("hoag", solver_steps=solver_steps)
    validation.positive("hoag", learning_rate=learning_rate)
    tolerance = exponential() if tolerance is None else tolerance

    def init(key: jax.Array, hyperparams: Any) -> State:
        hyperparams = restarts.typed(hyperparams)
        inner = inners.start(problem, optimizer, key, hyperparams)
        dtype = jnp.result_type(*jax.tree.leaves(hyperparams))
        return State(
            hyperparams=hyperparams,
            inner=inner,
            adjoint=optax.tree.zeros_like(inner.params),
            hyper_opt_state=Adaptive(
                *(jnp.asarray(number, dtype) for number in (learning_rate, jnp.inf, 0))
            ),
            rounds=jnp.int32(0),
        )

    def step(
        key: jax.Array, state: State, train_batches: Any, valid_batch: Any
    ) -> tuple[State, Info]:
        key_train, key_products = jax.random.split(key)
        allowed, before = tolerance(state.rounds), tolerance(jnp.maximum(state.rounds - 1, 0))
        inner, train_loss, used = _train_until(
            problem, optimizer, state, train_batches, key_train, allowed
        )
        made = implicit.hypergradient(
            problem,
            state.hyperparams,
            inner.params,
            jax.tree.map(lambda leaf: leaf[-1], train_batches),
            valid_batch,
            key_products,
            solver=conjugate_gradient(solver_steps, tolerance=allowed, start=state.adjoint),
        )
        adaptive = _adapted(state.hyper_opt_state, made.valid_loss, allowed, before)
        change = optax.tree.scale(-adaptive.learning_rate, made.gradient)
        distance = optax.tree.norm(change).astype(adaptive.distance.dtype)
        estimate = Estimate(
            made.gradient, inner, train_loss, made.valid_loss, used + made.gradient_evaluations
        )
        state = State(
            hyperparams=optax.apply_updates(state.hyperparams, change),
            inner=inner,
            adjoint=made.adjoint,
            hyper_opt_state=adaptive._replace(distance=distance),
            rounds=state.rounds + 1,
        )
        return state, restarts.info(estimate)

    return HyperOptimizer(init, step, lambda state: state.inner.params)


def _adapted(
    last: Adaptive, valid_loss: jax.Array, allowed: jax.Array, before: jax.Array
) -> Adaptive:
    """The step size after a look at what the last one, of the same L, has brought."""
    rate, last_loss, distance = last
    promised = allowed + (1 + distance) * before
    # A step size of zero has gone nowhere and promised nothing.
    promised -= distance**2 / (2 * jnp.where(rate > 0, rate, 1))
    grown = jnp.where(valid_loss <= last_loss + promised, GROWTH, SHRINKAGE)
    # Before the first round there was no step.
    rate *= jnp.where(jnp.isfinite(last_loss), grown, 1).astype(rate.dtype)
    return last._replace(learning_rate=rate, valid_loss=valid_loss.astype(last_loss.dtype))


def _train_until(
    problem: Problem,
    optimizer: optax.GradientTransformation,
    state: State,
    train_batches: Any,
    key: jax.Array,
    tolerance: jax.Array,
) -> tuple[Inner, jax.Array, jax.Array]:
    """Weights whose gradient is small, or whose batches are used up; the last loss; the count."""
    batches, keys = inners.inputs(key, train_batches)

    def unfinished(carry: Any) -> jax.Array:
        _, _, used, done = carry
        return (used < len(keys)) & ~done

    def advance(carry: Any) -> Any:
        (params, opt_state), _, used, _ = carry
        batch = jax.tree.map(lambda leaf: leaf[used], batches)
        loss, gradient = jax.value_and_grad(problem.train_loss)(
            params, state.hyperparams, batch, keys[used]
        )
        done = optax.tree.norm(gradient) <= tolerance
        change, moved = optimizer.update(gradient, opt_state, params)
        trained = Inner(optax.apply_updates(params, change), moved)
        inner = optax.tree.where(done, Inner(params, opt_state), trained)
        return inner, loss, used + 1, done

    loss = jax.eval_shape(
        problem.train_loss,
        state.inner.params,
        state.hyperparams,
        jax.tree.map(lambda leaf: leaf[0], batches),
        keys[0],
    )
    carry = state.inner, jnp.zeros(loss.shape, loss.dtype), jnp.int32(0), jnp.bool_(False)
    inner, train_loss, used, _ = jax.lax.while_loop(unfinished, advance, carry)
    return inner, train_loss, used
