"""Reversible learning: SGD with momentum run backwards exactly, so that nothing need be kept.

    forward    v_t = γ v_{t−1} − α ∇L_train(w_{t−1}),   w_t = w_{t−1} + v_t
    backward   w_{t−1} = w_t − v_t,   v_{t−1} = (v_t + α ∇L_train(w_{t−1})) / γ
               v̄ ← v̄ + w̄,   (w̄, λ̄) ← (w̄, λ̄) − α (∂²L_train/∂(w, λ)∂w) v̄,   v̄ ← γ v̄

w and v are fixed-point integers, and the bits that γ v loses go into a buffer (see `lossless`), so
the reversed trajectory is the forward one bit for bit. The buffer takes log₂(1/γ) bits a weight and
step, 0.15 at γ = 0.9, where the trajectory itself would take 64. The paper's velocity is this one
divided by its step size, and its (1 − γ) is part of our α: the steps are those of
`optax.sgd(α, momentum=γ)`.

Maclaurin et al. (2015), "Gradient-based Hyperparameter Optimization through Reversible Learning",
arXiv:1502.03492, Algorithms 1 to 3.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from shohypernet import inner_loop
from shohypernet._internal import validation
from shohypernet.hypergradients import _exact_momentum as exact_momentum
from shohypernet.hypergradients import _lossless as lossless
from shohypernet.hypergradients import _restarts as restarts
from shohypernet.hypergradients import curvature
from shohypernet.hypergradients._exact_momentum import Exact
from shohypernet.hypergradients._restarts import Hypergradient
from shohypernet.hyperoptimizer import HyperOptimizer
from shohypernet.inner_loop import TrainState
from shohypernet.problem import Problem, unconstrained
from shohypernet.types import Batch, Hyperparams, Key, Params

BITS = 28  # after the point: numbers up to 8, in steps of 4e-9


class Momentum(NamedTuple):
    """State of the optimizer at rest.

    Attributes:
      learning_rate: α, scalar.
    """

    learning_rate: jax.Array


class Turned(NamedTuple):
    """Where the steps turn back, and what is found from there on.

    Attributes:
      params: w_T.
      valid_loss: L_valid there, scalar.
      of_weights: w̄, a tree like w.
      of_velocity: v̄, likewise.
      of_hyperparams: λ̄, a tree like λ.
    """

    params: Params
    valid_loss: jax.Array
    of_weights: Params
    of_velocity: Params
    of_hyperparams: Hyperparams


def hypergradient(
    problem: Problem,
    momentum: float,
    hyperparams: Hyperparams,
    state: TrainState,
    train_batches: Batch,
    valid_batch: Batch,
    key: Key,
    *,
    bits: int = BITS,
) -> Hypergradient:
    """T steps of training from `state`, and dL_valid/dλ by running them backwards.

    Args:
      problem: gives both losses.
      momentum: γ, a fraction such as 0.9.
      hyperparams: λ, as the losses of `problem` read it.
      state: the weights to start from, at rest, and `Momentum(learning_rate)`.
      train_batches: a training batch for each of the T steps, on a leading axis.
      valid_batch: the batch of L_valid.
      key: PRNG key of the stochastic terms of the training loss.
      bits: of w and v after the point, which leaves 31 − bits before it.

    Returns:
      The estimate, which takes 4T + 1 gradient evaluations: going back through a step is a gradient
      and a Hessian-vector product. If the start isn't reached again exactly, for w or v grew beyond
      2^(31 − bits), every number of the gradient is NaN.

    Raises:
      ValueError: for a momentum that isn't a fraction in (0, 1], or bits outside 1 to 30.
    """
    _require_bits(bits)
    gamma = lossless.fraction(momentum)
    alpha = state.opt_state.learning_rate
    inputs = inner_loop.inputs(key, train_batches)
    dynamics = exact_momentum.descent(
        problem, alpha, gamma, hyperparams, state.params, inputs, bits
    )
    steps = inner_loop.count(train_batches)
    first = dynamics.at_rest(state.params)

    def turn(exact: Exact, _: Turned) -> Turned:
        params = dynamics.params(exact)
        valid_loss, (weights, direct) = jax.value_and_grad(problem.valid_loss, (0, 1))(
            params, hyperparams, valid_batch
        )
        return Turned(params, valid_loss, weights, optax.tree.zeros_like(weights), direct)

    def descend(total: jax.Array, slope: jax.Array) -> jax.Array:
        return total - (alpha * slope).astype(total.dtype)

    def back(exact: Exact, t: jax.Array, turned: Turned) -> Turned:
        batch, key = exact_momentum.at(inputs, t)
        of_velocity = optax.tree.add(turned.of_velocity, turned.of_weights)
        slope = curvature.slope(problem, batch, key, of_velocity)
        bent, mixed = jax.grad(slope, (0, 1))(dynamics.params(exact), hyperparams)
        return turned._replace(
            of_weights=jax.tree.map(descend, turned.of_weights, bent),
            of_velocity=optax.tree.scale(float(gamma), of_velocity),
            of_hyperparams=jax.tree.map(descend, turned.of_hyperparams, mixed),
        )

    def advance(carry: tuple[Exact, Turned], i: jax.Array) -> tuple[Any, Any]:
        exact, turned = carry
        ahead = i < steps
        t = jnp.where(ahead, i, 2 * steps - 1 - i)
        turned = jax.lax.cond(i == steps, turn, lambda exact, same: same, exact, turned)
        exact, loss, fits = dynamics.step(exact, t, ahead)
        turned = jax.lax.cond(ahead, lambda exact, t, same: same, back, exact, t, turned)
        return (exact, turned), (loss, fits | ~ahead)

    shapes = jax.eval_shape(turn, first, None)
    nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    (reached, turned), (losses, fits) = jax.lax.scan(
        advance, (first, nothing), jnp.arange(2 * steps)
    )
    # Nothing but w_0 is kept to compare with: at rest the others are zero.
    returned = jnp.all(reached.position == first.position)
    returned &= jnp.all(reached.velocity == 0) & jnp.all(reached.buffer == 0)
    flat = jnp.abs(ravel_pytree(state.params)[0])
    fits = jnp.all(fits) & jnp.all(flat < 2.0 ** (lossless.WORD_BITS - 1 - bits))
    honest = fits & returned
    gradient = jax.tree.map(lambda leaf: jnp.where(honest, leaf, jnp.nan), turned.of_hyperparams)
    end = TrainState(turned.params, state.opt_state)
    return Hypergradient(gradient, end, jnp.mean(losses[:steps]), turned.valid_loss, 4 * steps + 1)


def reversible(
    problem: Problem,
    *,
    learning_rate: float,
    momentum: float,
    hyper_optimizer: optax.GradientTransformation,
    bits: int = BITS,
) -> HyperOptimizer:
    """Reversible learning: every round restarts from the same w_0, and runs back to it.

    Args:
      problem: the bilevel problem.
      learning_rate: α, of SGD with momentum.
      momentum: γ, a fraction such as 0.9.
      hyper_optimizer: for λ.
      bits: of w and v after the point, which leaves 31 − bits before it.

    Returns:
      A HyperOptimizer whose round of T inner steps takes 4T + 1 gradient evaluations.

    Raises:
      ValueError: for a momentum that isn't a fraction in (0, 1], a step size that isn't above 0, or
        bits outside 1 to 30.

    Reference:
      Maclaurin et al. (2015), arXiv:1502.03492.
    """
    lossless.fraction(momentum)
    validation.positive("reversible", learning_rate=learning_rate)
    _require_bits(bits)

    inner = unconstrained(problem)
    (hyper_optimizer,) = validation.optimizer("reversible", hyper_optimizer=hyper_optimizer)
    if problem.stateful:
        raise ValueError(
            "reversible() runs training backwards bit by bit, which it can't do for a model with "
            "state such as batch statistics; use truncated() or centered_response()."
        )

    def start(key: Key, hyperparams: Hyperparams) -> TrainState:
        del hyperparams
        flat, unravel = ravel_pytree(inner.init(key))
        # To the numbers that there are, so that training with a step size of 0 changes nothing.
        params = unravel(lossless.decode(lossless.encode(flat, bits), bits).astype(flat.dtype))
        return TrainState(
            params, Momentum(jnp.asarray(learning_rate, jnp.promote_types(flat.dtype, jnp.float32)))
        )

    return restarts.restart(
        start,
        functools.partial(hypergradient, inner, momentum, bits=bits),
        hyper_optimizer,
        problem,
    )


def _require_bits(bits: int) -> None:
    if not 1 <= bits <= lossless.WORD_BITS - 2:
        raise ValueError(f"fixed-point numbers need 1 to 30 bits after the point, got {bits}.")
