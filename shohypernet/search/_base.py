"""What a black-box search is: it asks for trainings, and is told how they validate.

One driver, `driver.run`, does the trainings for all of them, so they share the problem, the space
and the accounting.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np


class Proposal(NamedTuple):
    """Trainings to be done, P of them, side by side.

    Attributes:
      trials: which trainings, shape (P,). A number not seen before starts from fresh weights;
        another goes on from its own weights and optimizer state, and must be among the last
        proposal's `kept`. All of a proposal have had as many steps.
      hyperparams: λ, unconstrained, a tree with leaves (P, ...).
      steps: updates of w that each is to have now, on top of those that it had.
      kept: trials that a later proposal may go on with, shape (K,). The weights of others are let
        go, but for the best's.
    """

    trials: np.ndarray
    hyperparams: Any
    steps: int
    kept: np.ndarray


class Search(NamedTuple):
    """A black-box method: which λ are trained, and for how long.

    Attributes:
      init: `init(key) -> state`.
      ask: `ask(key, state) -> (state, proposal)`, with no proposal (None) when it has ended.
      tell: `tell(state, proposal, losses) -> state`, with the validation losses of the proposal's
        trainings, shape (P,): infinite for one that diverged, and for one that the budget did not
        allow any more.
      steps: of its first trainings, which no budget may be below.
    """

    init: Callable[[jax.Array], Any]
    ask: Callable[[jax.Array, Any], tuple[Any, Proposal | None]]
    tell: Callable[[Any, Proposal, np.ndarray], Any]
    steps: int


def generator(key: jax.Array) -> np.random.Generator:
    """NumPy's randomness from a JAX key, for methods that work in NumPy."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))
