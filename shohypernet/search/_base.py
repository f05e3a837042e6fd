"""The protocol of black-box searches: they ask for trials, and are told how those validate.

One driver, `run`, trains the trials of all of them, so that they share the problem, the space and
the accounting. A search of your own is a `Search` with three functions, bound to a space:

    def bind(space, like):
        def ask(key, asked):
            keys = jax.random.split(key, 10)
            λ = jax.vmap(lambda key: hyperparameters.sample(key, space, like))(keys)
            return asked + 10, Proposal(np.arange(asked, asked + 10), λ, steps=100)

        return Asker(init=lambda key: 0, ask=ask, tell=lambda asked, proposal, losses: asked)

    run(problem, Search(bind, steps=100), data, hyperparams, optimizer=..., budget=...)
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from shohypernet import _conditions as conditions
from shohypernet.types import Hyperparams, Key, Space

NONE_KEPT = np.zeros(0, int)


class Proposal(NamedTuple):
    """Trials to be trained side by side, P of them.

    Attributes:
      trials: their numbers, shape (P,). A number not seen before starts from fresh weights;
        another continues from its own weights and optimizer state, and must be among the last
        proposal's `kept`. All trials of a proposal have had as many steps.
      hyperparams: λ, unconstrained, a tree with leaves (P, ...).
      steps: updates of w for each of them now, besides those that it has had.
      kept: trials that a later proposal may continue, shape (K,). The weights of all others are
        released, but for those of the best.
    """

    trials: np.ndarray
    hyperparams: Hyperparams
    steps: int
    kept: np.ndarray = NONE_KEPT


class Asker(NamedTuple):
    """A search of one space, as functions of an immutable state.

    Attributes:
      init: `init(key) -> state`.
      ask: `ask(key, state) -> (state, proposal)`; None in place of a proposal ends the search.
      tell: `tell(state, proposal, losses) -> state`, with the validation losses of the proposal's
        trials, shape (P,): infinite for one that diverged, NaN for one that the budget did not
        allow any more, or that was interrupted.
      enqueue: `enqueue(state, hyperparams) -> state`, called once before the first proposal, with λ
        to try before any other, unconstrained, leaves (K, ...). None for a search that can't.
      recall: `recall(state, trials) -> hyperparams`, λ of trials that were asked for in an earlier
        run, by their numbers, for a search whose trials outlive it; None for one that is resumed by
        being asked, and told, the same again.
      identify: `identify(state, identity)`, called once before the first proposal, for a search
        whose trials outlive the run: raises ValueError if those that it has are of a search with
        another description, by name. None for a search without such trials.
    """

    init: Callable[[Key], Any]
    ask: Callable[[Key, Any], tuple[Any, Proposal | None]]
    tell: Callable[[Any, Proposal, np.ndarray], Any]
    enqueue: Callable[[Any, Hyperparams], Any] | None = None
    recall: Callable[[Any, np.ndarray], Hyperparams] | None = None
    identify: Callable[[Any, Mapping[str, str]], None] | None = None


def projected(asker: Asker, space: Space) -> Asker:
    """The same search, whose λ have the middles of their priors where they are inactive."""

    def ask(key: Key, state: Any) -> tuple[Any, Proposal | None]:
        state, proposal = asker.ask(key, state)
        if proposal is not None:
            hyperparams = conditions.project(space, proposal.hyperparams)
            proposal = proposal._replace(hyperparams=hyperparams)
        return state, proposal

    return asker._replace(ask=ask)


class Search(NamedTuple):
    """A black-box method: which λ are tried, and for how long each is trained.

    Attributes:
      bind: `bind(space, like) -> Asker`: the search of a problem's space, a tree of specs from
        `hyperparameters`, for hyperparameters with the shapes of the arrays in `like`.
      steps: updates of w for each of its first trials, which no budget may be below.
      settings: what else tells it from others when a run is resumed, as JSON can hold it.
    """

    bind: Callable[[Space, Hyperparams], Asker]
    steps: int
    settings: Mapping[str, Any] = {}


def queued(first: Any, drawn: Any, count: int | None = None) -> tuple[Any, Any]:
    """As many rows as were drawn, those of a queue first, and what is left of the queue.

    Args:
      first: a tree with leaves (K, ...), or None.
      drawn: likewise, leaves (P, ...).
      count: number of rows, P by default.
    """
    if first is None:
        return drawn, None
    count = rows(drawn) if count is None else count
    mixed = jax.tree.map(lambda one, other: np.concatenate([one, other])[:count], first, drawn)
    left = jax.tree.map(lambda leaf: leaf[count:], first)
    return mixed, left if rows(left) else None


def rows(tree: Any) -> int:
    """Length of the leading axis of a tree's leaves, 0 for None."""
    leaves = jax.tree.leaves(tree)
    return len(leaves[0]) if leaves else 0


def generator(key: jax.Array) -> np.random.Generator:
    """A NumPy generator seeded by a JAX key, for methods that work in NumPy."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))
