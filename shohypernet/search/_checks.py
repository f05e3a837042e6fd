"""Checks of what searches and their driver are given, in plain words, before anything is traced."""

from typing import Any

import jax
import numpy as np

from shohypernet import _conditions as conditions
from shohypernet import hyperparameters as hp
from shohypernet import inner_loop
from shohypernet import problem as problems
from shohypernet._internal import jaxprs
from shohypernet._internal import losses as returned
from shohypernet._internal.trees import by_path, path_name
from shohypernet._internal.validation import require, whole
from shohypernet.batches import Data, minibatch
from shohypernet.fitting import _plan as plans
from shohypernet.search._base import Search
from shohypernet.search._static import Inner, Variants
from shohypernet.sources import Source
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


def require_affordable(method: Search, budget: int) -> None:
    """Refuse a budget below one trial.

    Raises:
      ValueError: naming both.
    """
    require(
        budget >= method.steps,
        f"a budget of {budget} gradient evaluations is below one trial of {method.steps} steps; "
        "allow more, or give the method fewer steps.",
    )


def require_stackable(variants: Variants, seeds: list[int]) -> None:
    """Refuse several seeds, whose weights a result stacks, where static choices may shape those.

    Raises:
      ValueError: with the way to do it.
    """
    require(
        not variants.specs or len(seeds) == 1,
        f"search.run() takes one seed with static choices, whose best weights may differ in shape, "
        f"got {seeds}; run one seed after another.",
    )


def form(variants: Variants, hyperparams: Any) -> Hyperparams:
    """Zeros in the form of all hyperparameters, static choices included.

    Args:
      variants: the inner runs, with the space of those.
      hyperparams: all but the static choices, a tree of arrays or numbers or a function from a key
        to one; None for those that the problem starts from.

    Raises:
      ValueError: for a tree that the space is no prefix of, or a condition on an array in it.
    """
    problem = variants.first.problem
    if hyperparams is None and variants.specs and not problem.space:
        hyperparams = {}
    hyperparams = problems.start_of(problem, hyperparams, "search.run")
    zeros = zeros_like(problem.space, hyperparams)
    if variants.specs:
        zeros = {**zeros, **dict.fromkeys(variants.specs, np.zeros((), np.float32))}
    conditions.require_single(variants.space, zeros)
    return zeros


def zeros_like(space: Space, hyperparams: Any) -> Hyperparams:
    """Zeros in the form of hyperparameters that a space is a prefix of."""
    # A tree may be callable too, as an Equinox module is.
    if callable(hyperparams) and jax.tree_util.all_leaves([hyperparams]):
        hyperparams = jax.eval_shape(hyperparams, jax.random.key(0))
    specs = hp.broadcast_space(space, hyperparams)

    def zeros(spec: hp.Spec, leaf: Any) -> np.ndarray:
        return np.zeros(() if spec.holds(leaf) else np.shape(leaf), np.float32)

    return jax.tree.map(zeros, specs, hyperparams)


def require_consistent(variants: Variants, like: Hyperparams, data: Data) -> None:
    """Refuse bad labels and losses, and hyperparameters that neither loss nor optimizer reads.

    The functions are traced, but nothing is computed.

    Args:
      variants: inner runs, of which one where a hyperparameter is active and read is enough.
      like: zeros in the form of λ, static choices left out.
      data: the three splits.

    Raises:
      ValueError: saying which.
    """
    for inner, _ in variants.all():
        plans.require_sizes("search.run", data, batch_size=inner.batch_size)
        problems.require_readable(inner.problem, data)
    spec_names = jax.tree.map_with_path(
        lambda path, _: path_name(path), variants.first.problem.space
    )
    spec_of: dict[str, str] = by_path(str, jax.tree.broadcast(spec_names, like))
    unread = set(spec_of)
    for inner, active in variants.all():
        inactive = {name for name, spec in spec_of.items() if spec not in active}
        unread &= _unread(inner, like, data) | inactive
        if not unread:
            return
    names = ", ".join(name or "λ" for name in sorted(unread))
    where = " where it is active" if conditions.resolve(variants.space).some else ""
    raise ValueError(
        f"hyperparameter {names} enters neither loss, nor the optimizer{where}, so that no trial "
        "can tell its values apart; use it there, or leave it out of the search."
    )


def _unread(inner: Inner, like: Hyperparams, data: Data) -> set[str]:
    """Names of the hyperparameters that some inner runs don't read, whose losses are scalars."""
    problem, unread = inner.problem, set()
    relaxed, optimizer = inner.relaxed()

    def check(key: Key, hyperparams: Hyperparams) -> None:
        one = 1 if isinstance(data.valid, Source) else None
        batches = minibatch(key, data.train, inner.batch_size), minibatch(key, data.valid, one)
        losses = returned.losses_at(problem, *problems.initialize(problem, key), batches, key)
        returned.require_scalars(problem, losses, hyperparams)

        def after_two_steps(free: Hyperparams) -> Any:  # the first has no use for a momentum
            state = inner_loop.start(relaxed, optimizer, key, free)
            for _ in range(2):
                state, _ = inner_loop.train_step(relaxed, optimizer, state, free, batches[0], key)
            return state.params

        read = jaxprs.reads(lambda free: losses(hp.decode(problem.space, free)), hyperparams)
        if not all(read) and optimizer is not inner.optimizer:
            by_optimizer = jaxprs.reads(after_two_steps, hyperparams)
            read = [one or other for one, other in zip(read, by_optimizer, strict=True)]
        names = by_path(np.shape, hyperparams)
        unread.update(name for name, is_read in zip(names, read, strict=True) if not is_read)

    jax.eval_shape(check, jax.random.key(0), like)
    return unread
