"""Checks of what searches and their driver are given, in plain words, before anything is traced."""

from typing import Any

import jax
import numpy as np

from shohypernet import hyperparameters as hp
from shohypernet import problem as problems
from shohypernet._internal import jaxprs
from shohypernet._internal import losses as returned
from shohypernet._internal.validation import require, whole
from shohypernet.batches import Data, minibatch
from shohypernet.problem import Problem
from shohypernet.search._base import Search
from shohypernet.types import Hyperparams, Key, Space


def eta(function: str, value: Any) -> None:
    """Refuse to let all trials go on.

    Raises:
      ValueError: for anything but a whole number of 2 or more.
    """
    whole(function, eta=value)
    require(value >= 2, f"{function}() needs eta to be 2 or more, got {value}: one in eta goes on.")


def initial(function: str, value: Any) -> None:
    """Refuse a first proposal that no model can be fitted to.

    Raises:
      ValueError: for anything but a whole number of 2 or more.
    """
    whole(function, initial=value)
    require(value >= 2, f"{function}() needs initial to be 2 or more, got {value}.")


def search(value: Any) -> Search:
    """A search, once it is known to be one.

    Raises:
      TypeError: for a gradient method, a builder that wasn't called, or anything else.
    """
    if hasattr(value, "bind") and hasattr(value, "steps"):
        return value
    if hasattr(value, "step") and hasattr(value, "weights"):
        fix = "a gradient method is run by shn.fit()"
    elif hasattr(value, "ask") and hasattr(value, "tell"):
        fix = "an Asker is what the bind of a Search returns: shn.search.Search(bind, steps)"
    elif callable(value):
        fix = f"call it: shn.search.{getattr(value, '__name__', 'random_search')}(...)"
    else:
        fix = "make one, such as shn.search.random_search(steps=100)"
    raise TypeError(f"search.run() needs a Search, got {type(value).__name__}; {fix}.")


def form(key: Key, space: Space, hyperparams: Any) -> Hyperparams:
    """Zeros in the form of the hyperparameters, which the space is a prefix of.

    Args:
      key: PRNG key of hyperparameters that a function makes.
      space: a tree of specs.
      hyperparams: a tree of arrays or numbers, or a function from a key to one.

    Raises:
      ValueError: for a tree that the space is no prefix of.
    """
    # A tree may be callable too, as an Equinox module is.
    if callable(hyperparams) and jax.tree_util.all_leaves([hyperparams]):
        hyperparams = jax.eval_shape(hyperparams, key)
    specs = hp.broadcast_space(space, hyperparams)

    def zeros(spec: hp.Spec, leaf: Any) -> np.ndarray:
        return np.zeros(() if spec.holds(leaf) else np.shape(leaf), np.float32)

    return jax.tree.map(zeros, specs, hyperparams)


def require_consistent(
    problem: Problem, like: Hyperparams, data: Data, batch_size: int | None
) -> None:
    """Refuse losses that aren't scalars, and hyperparameters that no loss reads.

    The functions are traced, but nothing is computed.

    Args:
      problem: as given, with λ in natural units.
      like: zeros in the form of λ.
      data: the three splits.
      batch_size: examples of a training batch; None takes all.

    Raises:
      ValueError: saying which.
    """

    def check(key: Key, hyperparams: Hyperparams) -> None:
        batches = minibatch(key, data.train, batch_size), data.valid
        losses = returned.losses_at(problem, *problems.initialize(problem, key), batches, key)
        returned.require_scalars(problem, losses, hyperparams)
        read = jaxprs.reads(lambda free: losses(hp.decode(problem.space, free)), hyperparams)
        paths = [path for path, _ in jax.tree.leaves_with_path(hyperparams)]
        unread = [
            jax.tree_util.keystr(path, simple=True, separator=".") or "λ"
            for path, is_read in zip(paths, read, strict=True)
            if not is_read
        ]
        require(
            not unread,
            f"hyperparameter {', '.join(unread)} enters neither loss, so that no trial can tell "
            "its values apart; use it in the losses, or leave it out of the search.",
        )

    jax.eval_shape(check, jax.random.key(0), like)
