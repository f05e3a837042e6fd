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

from shohypernet import inner_loop
from shohypernet._internal import jaxprs, reasons
from shohypernet._internal.trees import split_floats, typed
from shohypernet.hypergradients import _restarts as restarts
from shohypernet.hypergradients._restarts import Hypergradient
from shohypernet.hyperoptimizer import HyperOptimizer, Info
from shohypernet.inner_loop import Step, TrainState
from shohypernet.problem import Problem
from shohypernet.types import Batch, Hyperparams, Key, Optimizer, OptState

Tangents = list[jax.Array]  # Z, of each floating-point leaf of TrainState, led by an axis of n


class RealTimeState(NamedTuple):
    """State of `real_time`.

    Attributes:
      hyperparams: λ, as the losses of `problem` read it.
      inner: weights, their optimizer's state and the model's.
      tangents: Z.
      hyper_opt_state: state of the optimizer of λ.
    """

    hyperparams: Hyperparams
    inner: TrainState
    tangents: Tangents
    hyper_opt_state: OptState


def hypergradient(
    problem: Problem,
    optimizer: Optimizer,
    hyperparams: Hyperparams,
    state: TrainState,
    train_batches: Batch,
    valid_batch: Batch,
    key: Key,
) -> Hypergradient:
    """T steps of training from `state`, and dL_valid/dλ in forward mode.

    The result is that of `unrolled.hypergradient` but for rounding.

    Args:
      problem: gives both losses.
      optimizer: Φ, an optax optimizer, or a function from λ to one.
      hyperparams: λ, unconstrained, n numbers.
      state: where training starts.
      train_batches: a training batch for each of the T steps, on a leading axis.
      valid_batch: the batch of L_valid.
      key: PRNG key of the stochastic terms of the training loss.

    Returns:
      The estimate, which takes T (1 + 2n) + 1 gradient evaluations.

    Raises:
      ValueError: for a hyperparameter that has no derivative, by name.
    """
    step = functools.partial(inner_loop.train_step, problem, optimizer)
    first = jax.tree.map(lambda leaf: leaf[0], train_batches)
    _require_derivatives(problem, step, hyperparams, state, (first, valid_batch), key)

    def through(
        carry: tuple[TrainState, Tangents], at: Any
    ) -> tuple[tuple[TrainState, Tangents], jax.Array]:
        state, tangents, loss = _push(step, *carry, hyperparams, *at)
        return (state, tangents), loss

    carry = state, _no_tangents(state, hyperparams)
    (end, tangents), losses = jax.lax.scan(through, carry, inner_loop.inputs(key, train_batches))
    valid_loss, gradient = _pull(problem, end, tangents, hyperparams, valid_batch)
    n, steps = _size(hyperparams), len(losses)
    return Hypergradient(gradient, end, jnp.mean(losses), valid_loss, steps * (1 + 2 * n) + 1)


def forward(
    problem: Problem,
    *,
    optimizer: Optimizer,
    hyper_optimizer: optax.GradientTransformation,
) -> HyperOptimizer:
    """Forward-HG: every round restarts from the same w_0, with the derivative alongside.

    Args:
      problem: the bilevel problem.
      optimizer: an optax optimizer, or a function from λ to one.
      hyper_optimizer: for λ.

    Returns:
      A HyperOptimizer whose round takes T (1 + 2n) + 1 gradient evaluations, for T inner steps and
      n hyperparameters.

    Reference:
      Algorithm 2 of Franceschi et al. (2017), arXiv:1703.01785.
    """
    inner, optimizer, hyper_optimizer = restarts.parts(
        "forward", problem, optimizer, hyper_optimizer, function_of_hyperparams=True
    )
    return restarts.restart(
        restarts.start(inner, optimizer),
        functools.partial(hypergradient, inner, optimizer),
        hyper_optimizer,
        problem,
    )


def real_time(
    problem: Problem,
    *,
    optimizer: Optimizer,
    hyper_optimizer: optax.GradientTransformation,
) -> HyperOptimizer:
    """RTHO: λ moves at every inner step, and training is never started again.

    Args:
      problem: the bilevel problem.
      optimizer: an optax optimizer, or a function from λ to one.
      hyper_optimizer: for λ, whose updates are as many as those of the weights.

    Returns:
      A HyperOptimizer whose round takes T (2 + 2n) gradient evaluations, for T inner steps and n
      hyperparameters. Its Info holds means over the inner steps.

    Reference:
      Section 3.3 of Franceschi et al. (2017), arXiv:1703.01785.
    """
    given = problem
    problem, optimizer, hyper_optimizer = restarts.parts(
        "real_time", problem, optimizer, hyper_optimizer, function_of_hyperparams=True
    )
    advance = functools.partial(inner_loop.train_step, problem, optimizer)

    def init(key: Key, hyperparams: Hyperparams) -> RealTimeState:
        hyperparams = typed(hyperparams)
        inner = inner_loop.init(problem, optimizer, key, hyperparams)
        tangents = _no_tangents(inner, hyperparams)
        return RealTimeState(hyperparams, inner, tangents, hyper_optimizer.init(hyperparams))

    def step(
        key: Key, state: RealTimeState, train_batches: Batch, valid_batch: Batch
    ) -> tuple[RealTimeState, Info]:
        first = jax.tree.map(lambda leaf: leaf[0], train_batches)
        at = state.hyperparams, state.inner, (first, valid_batch), key
        _require_derivatives(problem, advance, *at)

        def one(state: RealTimeState, at: Any) -> tuple[RealTimeState, Info]:
            hyperparams, inner, tangents, opt_state = state
            inner, tangents, loss = _push(advance, inner, tangents, hyperparams, *at)
            valid_loss, gradient = _pull(problem, inner, tangents, hyperparams, valid_batch)
            made = Hypergradient(gradient, inner, loss, valid_loss, 2 + 2 * _size(hyperparams))
            hyperparams, opt_state = restarts.move(hyper_optimizer, made, opt_state, hyperparams)
            return RealTimeState(hyperparams, inner, tangents, opt_state), restarts.info(made)

        state, infos = jax.lax.scan(one, state, inner_loop.inputs(key, train_batches))
        evaluations = jnp.sum(infos.gradient_evaluations, dtype=jnp.int32)
        return state, jax.tree.map(jnp.mean, infos)._replace(gradient_evaluations=evaluations)

    return restarts.persistent(init, step, given)


def _require_derivatives(
    problem: Problem,
    step: Step,
    hyperparams: Hyperparams,
    state: TrainState,
    batches: tuple[Batch, Batch],
    key: Key,
) -> None:
    """Refuse hyperparameters that neither a step nor L_valid has a derivative by, by construction.

    In one flat vector with others, as `_push` has them, that can't be told any more.
    """
    leaves, treedef = jax.tree.flatten(hyperparams)
    for i, (path, leaf) in enumerate(jax.tree.leaves_with_path(hyperparams)):

        def moved(
            leaf: Any, state: TrainState, others: list[Any], batches: Any, key: Key, i: int = i
        ) -> Any:
            at = jax.tree.unflatten(treedef, [*others[:i], leaf, *others[i + 1 :]])
            new, loss = step(state, at, batches[0], key)
            valid = inner_loop.valid_loss(problem, new.params, new.model_state, at, batches[1])
            return loss, (split_floats(new)[0], valid)

        def along(leaf: Any, *rest: Any, moved: Any = moved) -> Any:
            return jax.jvp(lambda leaf: moved(leaf, *rest)[1], (leaf,), (jnp.ones_like(leaf),))[1]

        rest = state, leaves, batches, key
        if not all(jaxprs.zeros(along, leaf, *rest)):
            continue
        in_loss, *in_others = (row[0] for row in jaxprs.dependence(moved, leaf, *rest))
        if in_loss or any(in_others):
            name = jax.tree_util.keystr(path, simple=True, separator=".") or "λ̂"
            reason = reasons.WITHOUT_DERIVATIVE if any(in_others) else reasons.WITHOUT_WEIGHTS
            raise ValueError(f"hyperparameter {name} {reason}")


def _push(
    step: Step,
    state: TrainState,
    tangents: Tangents,
    hyperparams: Hyperparams,
    batch: Batch,
    key: Key,
) -> tuple[TrainState, Tangents, jax.Array]:
    """w_t and Z_t from w_{t−1} and Z_{t−1}, and the training loss."""
    floats, rebuild = split_floats(state)
    flat, unravel = ravel_pytree(hyperparams)

    def moved(floats: Tangents, hyperparams: Hyperparams) -> Any:
        new, loss = step(rebuild(floats), hyperparams, batch, key)
        return split_floats(new)[0], (new, loss)

    def along(tangent: Tangents, direction: jax.Array) -> Any:
        start, course = (floats, hyperparams), (tangent, unravel(direction))
        _, tangent, (new, loss) = jax.jvp(moved, start, course, has_aux=True)
        return new, tangent, loss

    directions = jnp.eye(flat.size, dtype=flat.dtype)
    return jax.vmap(along, out_axes=(None, 0, None))(tangents, directions)


def _pull(
    problem: Problem,
    state: TrainState,
    tangents: Tangents,
    hyperparams: Hyperparams,
    valid_batch: Batch,
) -> tuple[jax.Array, Hyperparams]:
    """L_valid, and its derivative through Z."""
    valid = inner_loop.valid_gradients(problem, state, hyperparams, valid_batch)
    still = optax.tree.zeros_like(state.opt_state)
    slopes = split_floats(TrainState(valid.params, still, valid.model_state))[0]
    moved = [jnp.tensordot(z, w, w.ndim) for z, w in zip(tangents, slopes, strict=True)]
    through = ravel_pytree(hyperparams)[1](jnp.sum(jnp.stack(moved), axis=0))
    return valid.loss, optax.tree.add(valid.hyperparams, through)


def _no_tangents(state: TrainState, hyperparams: Hyperparams) -> Tangents:
    n, (floats, _) = _size(hyperparams), split_floats(state)
    return [jnp.zeros((n, *leaf.shape), leaf.dtype) for leaf in floats]


def _size(hyperparams: Hyperparams) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(hyperparams))
