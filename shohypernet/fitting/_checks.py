"""Checks of the arguments of `fit`, and its start in unconstrained units."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from shohypernet import hyperparameters as hp
from shohypernet._internal import validation
from shohypernet.fitting._plan import Plan
from shohypernet.hyperoptimizer import HyperOptimizer
from shohypernet.problem import Problem
from shohypernet.types import Hyperparams, Space

Start = Callable[[jax.Array], Hyperparams]


def require_match(problem: Any, method: Any) -> None:
    """Refuse what is no problem or no method, and a method that was built for another problem.

    Raises:
      TypeError: for the former, swapped ones included.
      ValueError: for the latter.
    """
    validation.problem_and_method("fit", problem, method)
    if method.problem is None:
        return
    differ = [
        name
        for name, here, built in zip(Problem._fields, problem, method.problem, strict=True)
        if here is not built and not _equal(here, built)
    ]
    if differ:
        raise ValueError(
            f"the method was built for another problem: {', '.join(differ)} of it differ. Give "
            "fit() the very problem that the method's builder was given."
        )


def _equal(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except (TypeError, ValueError):  # arrays, such as those of a partial function
        return False


def require_batches(method: HyperOptimizer, plan: Plan) -> None:
    """Refuse minibatches for a method that draws its own.

    Raises:
      ValueError: naming the sizes.
    """
    sizes = {name: getattr(plan, name) for name in ("train_batch_size", "valid_batch_size")}
    given = [f"{name}={size}" for name, size in sizes.items() if size is not None]
    if method.whole_batches and given:
        raise ValueError(
            "the method draws its minibatches by itself, of all examples; call fit() without "
            f"{' and '.join(given)}."
        )


def require_callbacks(callbacks: Any) -> None:
    """Refuse a callback without a list around it, and what can't be called.

    Raises:
      TypeError: saying what came.
    """
    if callable(callbacks):
        raise TypeError("fit() needs callbacks in a list, such as [shn.callbacks.patience(10)].")
    for callback in callbacks:
        if not callable(callback):
            raise TypeError(f"callbacks: fit() needs functions, got {type(callback).__name__}.")


def encoded(space: Space, hyperparams: Any) -> Hyperparams | Start:
    """The start as λ̂ unconstrained, or a function from a key to it.

    Args:
      space: the problem's.
      hyperparams: a tree of arrays or numbers in natural units, or a function from a key to one.

    Raises:
      ValueError: for something else, or a value outside the range of its spec.
    """
    if is_function(hyperparams):

        def start(key: jax.Array) -> Hyperparams:
            values = _numbers(hyperparams(key))
            hp.require_prefix(space, values)
            # Traced numbers can't be looked at: a run finds NaN there at its start.
            return jax.tree.map(lambda spec, below: jax.tree.map(spec.encode, below), space, values)

        return start
    return jax.tree.map(jnp.asarray, hp.encode(space, _numbers(hyperparams)))


def is_function(start: Any) -> bool:
    """Whether a start is a function from a key, rather than a tree that can be called."""
    return callable(start) and jax.tree_util.all_leaves([start])


def _numbers(hyperparams: Any) -> Any:
    named = jax.tree.leaves_with_path(hyperparams)
    if not named:
        raise ValueError(f"fit() needs hyperparameters to start from, got {hyperparams}.")
    for path, leaf in named:
        name = f"hyperparameter {jax.tree_util.keystr(path) or 'λ̂'}"
        if callable(leaf):
            raise ValueError(
                f"{name} starts as the function {leaf}; leave functions out of the tree, as by "
                "equinox.partition."
            )
        kind = "U" if isinstance(leaf, str) else jnp.result_type(leaf).kind
        if kind not in "biufVU":
            raise ValueError(f"{name} starts as {jnp.result_type(leaf)}; start from real numbers.")
        if kind in "fV" and not isinstance(leaf, Tracer) and np.any(np.isnan(leaf)):
            raise ValueError(f"{name} starts as {leaf}, but must be finite.")
    return hyperparams
