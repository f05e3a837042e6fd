"""Forward mode: the derivative of the weights travels with them, for few hyperparameters.

    Z_t = A_t Z_{t−1} + B_t,   A_t = ∂Φ_t/∂w_{t−1},   B_t = ∂Φ_t/∂λ,   Z_0 = 0
    dL_valid/dλ = ∂L_valid/∂λ + Z_Tᵀ ∂L_valid/∂w_T

Z_t = dw_t/dλ has a column for each hyperparameter, pushed by `jvp` and all at once by `vmap`, so
memory doesn't grow with T but is that of n + 1 sets of weights. In real time (RTHO) λ moves at each
step by the gradient that Z_t gives there, and Z is carried on although λ has moved.

Franceschi et al. (2017), "Forward and Reverse Gradient-Based Hyperparameter Optimization",
arXiv:1703.01785, Algorithm 2 (Forward-HG) and section 3.3 (RTHO).
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from shohypernet.hypergradients import _inner as inners
from shohypernet.hypergradients import _restarts as restarts
from shohypernet.hypergradients._inner import (
    Estimate,
    Inner,
    InnerOptimizer,
    Step,
)
from shohypernet.hyperoptimizer import HyperOptimizer, Info
from shohypernet.problem import Problem

Tangents = list[jax.Array]  # Z, of each floating-point leaf of Inner, led by an axis of n


class RealTimeState(NamedTuple):
    """What an inner step of RTHO needs of the one before.

    Attributes:
      hyperparams: λ, unconstrained.
      inner: the weights and their optimizer's state.
      tangents: Z.
      hyper_opt_state: the optimizer of λ.
    """

    hyperparams: Any
    inner: Inner
    tangents: Tangents
    hyper_opt_state: Any


def hypergradient(
    problem: Problem,
    optimizer: InnerOptimizer,
    hyperparams: Any,
    inner: Inner,
    train_batches: Any,
    valid_batch: Any,
    key: jax.Array,
) -> Estimate:
    """T steps of training from `inner`, and dL_valid/dλ in forward mode.

    The result is that of `unrolled.hypergradient` but for rounding.

    Args:
      problem: gives both losses.
      optimizer: Φ, an optax optimizer, or a function from λ to one.
      hyperparams: λ, unconstrained, n numbers.
      inner: where training starts.
      train_batches: a training batch for each of the T steps, on a leading axis.
      valid_batch: the batch of L_valid.
      key: for what is random in the training loss.

    Returns:
      The estimate, which takes T (1 + 2n) + 1 gradient evaluations.
    """
    advance = inners.step(problem, optimizer)

    def through(carry: tuple[Inner, Tangents], at: Any) -> tuple[tuple[Inner, Tangents], jax.Array]:
        inner, tangents, loss = _push(advance, *carry, hyperparams, *at)
        return (inner, tangents), loss

    carry = inner, _no_tangents(inner, hyperparams)
    (inner, tangents), losses = jax.lax.scan(through, carry, inners.inputs(key, train_batches))
    valid_loss, gradient = _pull(problem, inner, tangents, hyperparams, valid_batch)
    n, steps = _size(hyperparams), len(losses)
    return Estimate(gradient, inner, jnp.mean(losses), valid_loss, steps * (1 + 2 * n) + 1)


def forward(
    problem: Problem,
    *,
    optimizer: InnerOptimizer,
    hyper_optimizer: optax.GradientTransformation,
) -> HyperOptimizer:
    """Forward-HG: every round trains anew from the same w_0, with the derivative alongside.

    Args:
      problem: what is tuned.
      optimizer: an optax optimizer, or a function from λ to one.
      hyper_optimizer: for λ.

    Returns:
      A HyperOptimizer whose round takes T (1 + 2n) + 1 gradient evaluations, for T inner steps and
      n hyperparameters.

    Reference:
      Algorithm 2 of Franceschi et al. (2017), arXiv:1703.01785.
    """
    return restarts.anew(
        functools.partial(inners.start, problem, optimizer),
        functools.partial(hypergradient, problem, optimizer),
        hyper_optimizer,
    )


def real_time(
    problem: Problem,
    *,
    optimizer: InnerOptimizer,
    hyper_optimizer: optax.GradientTransformation,
) -> HyperOptimizer:
    """RTHO: λ moves at every inner step, and training is never started again.

    Args:
      problem: what is tuned.
      optimizer: an optax optimizer, or a function from λ to one.
      hyper_optimizer: for λ, whose updates are as many as those of the weights.

    Returns:
      A HyperOptimizer whose round takes T (2 + 2n) gradient evaluations, for T inner steps and n
      hyperparameters. Its Info holds means over the inner steps.

    Reference:
      Section 3.3 of Franceschi et al. (2017), arXiv:1703.01785.
    """
    advance = inners.step(problem, optimizer)

    def init(key: jax.Array, hyperparams: Any) -> RealTimeState:
        hyperparams = restarts.typed(hyperparams)
        inner = inners.start(problem, optimizer, key, hyperparams)
        tangents = _no_tangents(inner, hyperparams)
        return RealTimeState(hyperparams, inner, tangents, hyper_optimizer.init(hyperparams))

    def step(
        key: jax.Array, state: RealTimeState, train_batches: Any, valid_batch: Any
    ) -> tuple[RealTimeState, Info]:
        def one(state: RealTimeState, at: Any) -> tuple[RealTimeState, Info]:
            hyperparams, inner, tangents, opt_state = state
            inner, tangents, loss = _push(advance, inner, tangents, hyperparams, *at)
            valid_loss, gradient = _pull(problem, inner, tangents, hyperparams, valid_batch)
            hyperparams, opt_state = restarts.move(
                hyper_optimizer, gradient, opt_state, hyperparams
            )
            made = Estimate(gradient, inner, loss, valid_loss, 2 + 2 * _size(hyperparams))
            return RealTimeState(hyperparams, inner, tangents, opt_state), restarts.info(made)

        state, infos = jax.lax.scan(one, state, inners.inputs(key, train_batches))
        evaluations = jnp.sum(infos.gradient_evaluations, dtype=jnp.int32)
        return state, jax.tree.map(jnp.mean, infos)._replace(gradient_evaluations=evaluations)

    return HyperOptimizer(init, step, lambda state: state.inner.params)


def _push(
    advance: Step, inner: Inner, tangents: Tangents, hyperparams: Any, batch: Any, key: jax.Array
) -> tuple[Inner, Tangents, jax.Array]:
    """w_t and Z_t from w_{t−1} and Z_{t−1}, and the training loss."""
    floats, rebuild = inners.split_floats(inner)
    flat, unravel = ravel_pytree(hyperparams)

    def moved(floats: Tangents, hyperparams: Any) -> Any:
        new, loss = advance(rebuild(floats), hyperparams, batch, key)
        return inners.split_floats(new)[0], (new, loss)

    def along(tangent: Tangents, direction: jax.Array) -> Any:
        start, course = (floats, hyperparams), (tangent, unravel(direction))
        _, tangent, (new, loss) = jax.jvp(moved, start, course, has_aux=True)
        return new, tangent, loss

    directions = jnp.eye(flat.size, dtype=flat.dtype)
    return jax.vmap(along, out_axes=(None, 0, None))(tangents, directions)


def _pull(
    problem: Problem, inner: Inner, tangents: Tangents, hyperparams: Any, valid_batch: Any
) -> tuple[jax.Array, Any]:
    """L_valid, and its derivative through Z."""
    loss, (through, direct) = jax.value_and_grad(problem.valid_loss, (0, 1))(
        inner.params, hyperparams, valid_batch
    )
    weights = jax.tree.leaves(through)
    moved = [jnp.tensordot(z, w, w.ndim) for z, w in zip(tangents, weights, strict=False)]
    return loss, optax.tree.add(
        direct, ravel_pytree(hyperparams)[1](jnp.sum(jnp.stack(moved), axis=0))
    )


def _no_tangents(inner: Inner, hyperparams: Any) -> Tangents:
    n, (floats, _) = _size(hyperparams), inners.split_floats(inner)
    return [jnp.zeros((n, *leaf.shape), leaf.dtype) for leaf in floats]


def _size(hyperparams: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(hyperparams))
