"""Hyperparameters that a method cannot tune, each with the reason."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from shohypernet import hyperparameters as hp
from shohypernet import inner_loop
from shohypernet import problem as problems
from shohypernet._internal import jaxprs, reasons, validation
from shohypernet.hypergradients.curvature import slope
from shohypernet.problem import Problem, unconstrained
from shohypernet.types import Batch, Hyperparams, Key, Optimizer

_UNUSED = (
    "changes neither loss, and no step of the inner optimizer. Is it used at all, or detached by "
    "an int() or a stop_gradient?"
)

_SHIFTS = (1.0, 8.0, -8.0)  # of λ̂: the larger ones for what is only the odds of something drawn


def untunable(
    problem: Problem,
    hyperparams: Hyperparams,
    train_batch: Batch,
    valid_batch: Batch,
    key: Key,
    *,
    optimizer: Optimizer | None = None,
    sampled: bool = False,
) -> dict[str, str]:
    """Hyperparameters that a method cannot tune, each with the reason: a check before a run.

    A method moves λ by dL_valid/dλ, which comes directly from L_valid, through the minimum of
    L_train, or through steps of the inner optimizer. Where all of these are exactly zero, at
    random weights, the hyperparameter would silently stay where it starts.

    Args:
      problem: the bilevel problem.
      hyperparams: λ as the run would start, in natural units.
      train_batch: training examples. If hyperparameters are looked up by their whole numbers
        (labels, or those of `batches.numbered`), the ones that these don't select are not
        reported, for other examples may.
      valid_batch: validation examples.
      key: PRNG key of the weights and directions that are tried.
      optimizer: that of the weights, for `unrolled`, `truncated`, `forward`, `real_time` and
        `drmad`. None for hyper-training, `implicit`, `hoag`, `soba`, `saba`, `f2sa`, `reversible`
        and `back_optimization`, which see the training loss alone.
      sampled: whether the method compares training losses at sampled λ, as `global_response` and
        `local_response` do. These need no derivative of the training loss in λ.

    Returns:
      A reason for each hyperparameter that can't be tuned, by its path in the tree.
    """
    given = problem, valid_batch, key, optimizer
    losses = _losses(train_batch, *given)
    hyperparams = hp.encode(problem.space, hyperparams)
    leaves, treedef = jax.tree.flatten(hyperparams)
    paths = [path for path, _ in jax.tree.leaves_with_path(hyperparams)]
    decided = _decided_in_python(losses, hyperparams)
    by_valid, by_train, by_path = (jax.tree.leaves(jax.grad(f)(hyperparams)) for f in losses)
    found = {}
    for i, path in enumerate(paths):
        name = jax.tree_util.keystr(path, simple=True, separator=".") or "λ"
        if decided[i]:
            found[name] = f"{name}: {reasons.DECIDES}"
            continue
        stuck = np.asarray((by_valid[i] == 0) & (by_path[i] == 0))
        if not stuck.any():
            continue
        shifted = [
            jax.tree.unflatten(treedef, [*leaves[:i], leaves[i] + shift * stuck, *leaves[i + 1 :]])
            for shift in _SHIFTS
        ]
        felt = [any(f(other) != f(hyperparams) for other in shifted) for f in losses]
        if sampled and felt[-1]:
            continue
        if not (stuck.all() or any(felt)) and _looked_up(hyperparams, train_batch, *given)[i]:
            continue
        constant = not np.any(np.asarray(by_train[i])[stuck] != 0)
        unused = reasons.NOT_IN_LOSSES if optimizer is None else _UNUSED
        reason = (
            (reasons.WITHOUT_DERIVATIVE if any(felt) else unused)
            if constant
            else reasons.WITHOUT_WEIGHTS
        )
        some = "" if stuck.all() else f", {stuck.sum():,} of its {stuck.size:,} numbers:"
        found[name] = f"{name}{some} {reason}"
    return found


_Loss = Callable[[Hyperparams], jax.Array]


def _losses(
    train_batch: Batch, problem: Problem, valid_batch: Batch, key: Key, optimizer: Optimizer | None
) -> tuple[_Loss, _Loss, _Loss]:
    """L_valid, L_train and, along a random direction, what moves the weights; functions of λ̂."""
    key_init, key_noise, key_direction, key_steps = jax.random.split(key, 4)
    inner = unconstrained(problem)
    params, model_state = problems.initialize(problem, key_init)
    held = problems.with_state(inner, model_state)
    # Where all weights of a kind start at zero, their decay has no effect yet.
    params = optax.tree.add(params, optax.tree.random_like(key_noise, params))
    direction = optax.tree.random_like(key_direction, params)

    def valid_loss(hyperparams: Hyperparams) -> jax.Array:
        return held.valid_loss(params, hyperparams, valid_batch)

    def train_loss(hyperparams: Hyperparams) -> jax.Array:
        return held.train_loss(params, hyperparams, train_batch, key_steps)

    def through_minimum(hyperparams: Hyperparams) -> jax.Array:
        return slope(held, train_batch, key_steps, direction)(params, hyperparams)

    def through_steps(hyperparams: Hyperparams) -> jax.Array:
        assert optimizer is not None
        at = inner_loop.optimizer_at(optimizer, hp.decode(problem.space, hyperparams))
        state = inner_loop.TrainState(params, at.init(params), model_state)
        # Momentum shows in the second step.
        for _ in range(2):
            state, _ = inner_loop.train_step(inner, at, state, hyperparams, train_batch, key_steps)
        return jnp.asarray(optax.tree.vdot(state.params, direction))

    return valid_loss, train_loss, through_minimum if optimizer is None else through_steps


def _looked_up(hyperparams: Hyperparams, train_batch: Batch, *given: Any) -> list[bool]:
    """Whether the batch's whole numbers have a part in which of its numbers a leaf of λ̂ moves."""

    def gradient(batch: Batch) -> Hyperparams:
        return jax.grad(_losses(batch, *given)[1])(hyperparams)

    whole = [
        jnp.issubdtype(jnp.result_type(leaf), jnp.integer) for leaf in jax.tree.leaves(train_batch)
    ]
    return [
        any(reads and whole for reads, whole in zip(row, whole, strict=True))
        for row in jaxprs.dependence(gradient, train_batch)
    ]


def _decided_in_python(losses: tuple[_Loss, ...], hyperparams: Hyperparams) -> list[bool]:
    """Whether some loss needs the value of each hyperparameter in Python, by the tree's leaves."""
    leaves, treedef = jax.tree.flatten(hyperparams)

    def evaluated(*leaves: jax.Array) -> list[jax.Array]:
        return [loss(jax.tree.unflatten(treedef, leaves)) for loss in losses]

    if _runs(jax.eval_shape, evaluated, *leaves):
        return [False] * len(leaves)

    # A trace makes all arrays abstract; vmap, only those computed from the one that it maps over.
    def decided(i: int) -> bool:
        axes = [0 if i == j else None for j in range(len(leaves))]
        mapped = [*leaves[:i], leaves[i][None], *leaves[i + 1 :]]
        return not _runs(jax.vmap(evaluated, axes), *mapped)

    return [decided(i) for i in range(len(leaves))]


def _runs(function: Callable[..., Any], *arguments: Any) -> bool:
    try:
        function(*arguments)
    except validation.CONCRETE_NEEDED:
        return False
    return True
