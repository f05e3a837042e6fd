"""Successive halving: train many trials a little, go on with the best.

    n_i = ⌊n η^{-i}⌋ trials reach r_i = r η^i steps, i = 0 … s;
    those of rung i + 1 are the n_{i+1} of rung i with the least validation loss

Jamieson and Talwalkar (2016), "Non-stochastic Best Arm Identification and Hyperparameter
Optimization", arXiv:1502.07943, with η = 2; any η as in Li et al. (2016), arXiv:1603.06560.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from shohypernet import hyperparameters as hp
from shohypernet._internal import validation
from shohypernet.search import _checks as checks
from shohypernet.search._base import NONE_KEPT, Asker, Proposal, Search, queued
from shohypernet.search._unit_cube import unit_cube
from shohypernet.types import Hyperparams, Key, Space


class Rung(NamedTuple):
    """A stage of a bracket.

    Attributes:
      trials: number of trials that take part.
      steps: updates of w that each has had at its end.
    """

    trials: int
    steps: int


class State(NamedTuple):
    """State of `successive_halving` and `hyperband`.

    Attributes:
      bracket: number of the bracket.
      rung: number of the rung in it.
      trials: those of the rung, once they are known.
      hyperparams: their λ, unconstrained.
      asked: trials begun, over all brackets.
      first: λ that the next first rung begins with, None if no others are to come first.
    """

    bracket: int
    rung: int
    trials: np.ndarray
    hyperparams: Hyperparams
    asked: int
    first: Hyperparams | None = None


FIRST = State(bracket=0, rung=0, trials=NONE_KEPT, hyperparams=None, asked=0)


def successive_halving(*, population: int = 81, steps: int, eta: int = 3) -> Search:
    """Successive halving, restarted with other λ for as long as the budget lasts.

    Args:
      population: n, trials of the first rung.
      steps: r, updates of w for each in the first rung; the last one standing gets r η^s,
        s = ⌊log_η n⌋.
      eta: η; one trial in η goes on.

    Returns:
      A Search without end. Trials that go on do so from their own weights and optimizer state.

    Raises:
      ValueError: for sizes below 1, or an eta below 2; by `run`, for an empty space.

    Reference:
      Jamieson and Talwalkar (2016), arXiv:1502.07943.
    """
    validation.whole("successive_halving", population=population, steps=steps)
    checks.eta("successive_halving", eta)
    return among_brackets([bracket(population, steps, eta, whole_log(population, eta))])


def bracket(population: int, steps: float, eta: int, halvings: int) -> list[Rung]:
    """The rungs (n_i, r_i) of one bracket, i = 0 … halvings."""
    return [Rung(population // eta**i, max(1, round(steps * eta**i))) for i in range(halvings + 1)]


def whole_log(number: int, base: int) -> int:
    """⌊log_base number⌋, exactly."""
    power = 0
    while base ** (power + 1) <= number:
        power += 1
    return power


def among_brackets(brackets: Sequence[Sequence[Rung]]) -> Search:
    """Successive halving in one bracket after another, in a cycle, with λ from the prior."""

    def bind(space: Space, like: Hyperparams) -> Asker:
        unit_cube(space, like)  # refuses an empty space

        @functools.partial(jax.jit, static_argnums=1)
        def draw(key: Key, count: int) -> Hyperparams:
            return jax.vmap(hp.sample, (0, None, None))(jax.random.split(key, count), space, like)

        def ask(key: Key, state: State) -> tuple[State, Proposal]:
            rungs = brackets[state.bracket]
            rung, before = rungs[state.rung], rungs[state.rung - 1].steps if state.rung else 0
            if not state.rung:
                drawn = jax.device_get(draw(key, rung.trials))
                hyperparams, first = queued(state.first, drawn)
                state = state._replace(
                    trials=np.arange(state.asked, state.asked + rung.trials),
                    hyperparams=hyperparams,
                    asked=state.asked + rung.trials,
                    first=first,
                )
            last = state.rung == len(rungs) - 1
            kept = NONE_KEPT if last else state.trials
            return state, Proposal(state.trials, state.hyperparams, rung.steps - before, kept)

        return Asker(
            lambda key: FIRST,
            ask,
            functools.partial(_tell, brackets),
            lambda state, hyperparams: state._replace(first=hyperparams),
        )

    return Search(bind, brackets[0][0].steps, {"method": "halving", "brackets": brackets})


def _tell(
    brackets: Sequence[Sequence[Rung]], state: State, proposal: Proposal, losses: np.ndarray
) -> State:
    """The state at the next rung, whose trials are the best of this one's, or the next bracket."""
    rungs = brackets[state.bracket]
    if state.rung == len(rungs) - 1:
        return state._replace(bracket=(state.bracket + 1) % len(brackets), rung=0)
    best = np.argsort(losses, kind="stable")[: rungs[state.rung + 1].trials]
    return state._replace(
        rung=state.rung + 1,
        trials=proposal.trials[best],
        hyperparams=jax.tree.map(lambda leaf: leaf[best], proposal.hyperparams),
    )
