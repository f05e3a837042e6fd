"""How true a hypergradient or a best response is, and what a method cannot tune at all."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from shohypernet import hyperparameters as hp
from shohypernet import inner_loop
from shohypernet import problem as problems
from shohypernet._internal import validation
from shohypernet.hypergradients.curvature import hessian, slope
from shohypernet.problem import Problem, unconstrained
from shohypernet.types import Optimizer

_UNUSED = (
    "changes neither loss, and no step of the inner optimizer. Is it used at all, or detached by "
    "an int() or a stop_gradient?"
)
NOT_IN_LOSSES = (
    "enters neither loss, and this method sees nothing else. A decay must be a penalty in "
    "train_loss, not a setting of the optimizer as in optax.adamw; a step size or momentum doesn't "
    "move the minimum of the training loss. unrolled(), truncated(), forward() and real_time() can "
    "tune what the inner optimizer reads."
)
WITHOUT_WEIGHTS = (
    "changes the training loss by as much for all weights, and so not where its minimum lies."
)
WITHOUT_DERIVATIVE = (
    "changes a loss but has no derivative: it goes through a rounding, a comparison or a "
    "stop_gradient, or is only the odds of something drawn. Make it smooth, or search for it."
)


def cosine(estimate: Any, exact: Any) -> jax.Array:
    """⟨a, b⟩ / (‖a‖ ‖b‖): whether an estimated gradient points the right way.

    Args:
      estimate: a gradient, any tree.
      exact: the gradient that it should be, of the same form.

    Returns:
      A scalar from −1 to 1; 0 if either gradient is zero.
    """
    scale = optax.tree.norm(estimate) * optax.tree.norm(exact)
    return jnp.asarray(optax.tree.vdot(estimate, exact) / jnp.where(scale > 0, scale, 1))


def norm_ratio(estimate: Any, exact: Any) -> jax.Array:
    """‖a‖ / ‖b‖: whether an estimated gradient has the right length.

    Args:
      estimate: a gradient, any tree.
      exact: the gradient that it should be.

    Returns:
      A scalar, 1 at best; infinite, or NaN, if the exact gradient is zero.
    """
    return optax.tree.norm(estimate) / optax.tree.norm(exact)


def best_response_error(params: Any, best_response: Any) -> jax.Array:
    """‖w − w*(λ)‖ / ‖w*(λ)‖: how far weights are from the best ones at their hyperparameters.

    Args:
      params: weights, such as a hypernet's.
      best_response: w*(λ), of the same form.

    Returns:
      A scalar, 0 at best.
    """
    return optax.tree.norm(optax.tree.sub(params, best_response)) / optax.tree.norm(best_response)


def sharpness(
    problem: Problem,
    params: Any,
    hyperparams: Any,
    batch: Any,
    key: jax.Array,
    *,
    steps: int = 100,
) -> jax.Array:
    """The largest eigenvalue of ∂²L_train/∂w², by power iteration.

    Gradient descent, and a Neumann series, diverge with a step size of 2 over it or more.

    Args:
      problem: gives the training loss.
      params: w.
      hyperparams: λ.
      batch: training examples.
      key: PRNG key of the stochastic terms of the loss, and of the first vector.
      steps: products with the Hessian, at most.

    Returns:
      A scalar, a little below the eigenvalue where the iteration hasn't converged.
    """
    validation.whole("sharpness", steps=steps)
    key_loss, key_first = jax.random.split(key)
    product = hessian(problem)(params, hyperparams, batch, key_loss)
    first = optax.tree.random_like(key_first, params)
    found = optax.power_iteration(product, v0=first, num_iters=steps, error_tolerance=1e-6)
    return jnp.asarray(found[0])


def untunable(
    problem: Problem,
    hyperparams: Any,
    train_batch: Any,
    valid_batch: Any,
    key: jax.Array,
    *,
    optimizer: Optimizer | None = None,
) -> dict[str, str]:
    """What a method cannot tune, and why, in plain words: a check to make before a run.

    A method moves λ by dL_valid/dλ, which comes directly from L_valid, through the minimum of
    L_train, or through steps of the inner optimizer. Where all of these are exactly zero, at
    weights drawn at random, the hyperparameter would silently stay where it starts.

    Args:
      problem: the bilevel problem.
      hyperparams: λ as the run would start, in natural units.
      train_batch: a batch of training examples.
      valid_batch: a batch of validation examples.
      key: for the weights and directions that are tried.
      optimizer: for `unrolled`, `truncated`, `forward`, `real_time` and `drmad`, what they
        are given. None for hyper-training, `implicit`, `hoag`, `reversible` and
        `back_optimization`, which see the training loss alone.

    Returns:
      A reason for each hyperparameter that can't be tuned, by its path in the tree; empty if all
      can.
    """
    key_init, key_noise, key_direction, key_steps = jax.random.split(key, 4)
    unlimited = unconstrained(problem)
    params, model_state = problems.initialize(problem, key_init)
    held = problems.with_state(unlimited, model_state)
    hyperparams = hp.encode(problem.space, hyperparams)
    # Where all weights of a kind start at zero, their decay has no effect yet.
    params = optax.tree.add(params, optax.tree.random_like(key_noise, params))
    direction = optax.tree.random_like(key_direction, params)

    def valid_loss(hyperparams: Any) -> jax.Array:
        return held.valid_loss(params, hyperparams, valid_batch)

    def train_loss(hyperparams: Any) -> jax.Array:
        return held.train_loss(params, hyperparams, train_batch, key_steps)

    def through_minimum(hyperparams: Any) -> jax.Array:
        return slope(held, train_batch, key_steps, direction)(params, hyperparams)

    def through_steps(hyperparams: Any) -> jax.Array:
        assert optimizer is not None
        values = hp.decode(problem.space, hyperparams)
        at = inner_loop.optimizer_at(optimizer, values)
        state = inner_loop.TrainState(params, at.init(params), model_state)
        # Momentum shows in the second step.
        for _ in range(2):
            state, _ = inner_loop.train_step(
                unlimited, at, state, hyperparams, train_batch, key_steps
            )
        return jnp.asarray(optax.tree.vdot(state.params, direction))

    through = through_minimum if optimizer is None else through_steps
    leaves, treedef = jax.tree.flatten(hyperparams)
    paths = [path for path, _ in jax.tree.leaves_with_path(hyperparams)]
    by_valid, by_train, by_path = (
        jax.tree.leaves(jax.grad(f)(hyperparams)) for f in (valid_loss, train_loss, through)
    )
    reasons = {}
    for i, path in enumerate(paths):
        stuck = np.asarray((by_valid[i] == 0) & (by_path[i] == 0))
        if not stuck.any():
            continue
        moved = leaves[i] + jnp.where(stuck, 1.0, 0.0)
        shifted = jax.tree.unflatten(treedef, [*leaves[:i], moved, *leaves[i + 1 :]])
        felt = any(f(shifted) != f(hyperparams) for f in (valid_loss, train_loss, through))
        if np.any(np.asarray(by_train[i])[stuck] != 0):
            reason = WITHOUT_WEIGHTS
        elif felt:
            reason = WITHOUT_DERIVATIVE
        else:
            reason = NOT_IN_LOSSES if optimizer is None else _UNUSED
        name = jax.tree_util.keystr(path, simple=True, separator=".") or "λ"
        some = "" if stuck.all() else f", {stuck.sum():,} of its {stuck.size:,} numbers:"
        reasons[name] = f"{name}{some} {reason}"
    return reasons
