"""Successive halving: train many a little, go on with the best.

    n_i = ⌊n η^{-i}⌋ trainings reach r_i = r η^i steps, i = 0 … s;
    those of rung i + 1 are the n_{i+1} of rung i with the least validation loss

Jamieson and Talwalkar (2016), "Non-stochastic Best Arm Identification and Hyperparameter
Optimization", arXiv:1502.07943, with η = 2; any η as in Li et al. (2016), arXiv:1603.06560.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from shohypernet import hyperparameters as hp
from shohypernet.search import _checks as checks
from shohypernet.search._base import Proposal, Search
from shohypernet.search._unit_cube import cube


class Rung(NamedTuple):
    """A stage of a bracket.

    Attributes:
      trainings: how many take part.
      steps: updates of w that each has had at its end.
    """

    trainings: int
    steps: int


class State(NamedTuple):
    """Where a search among brackets is.

    Attributes:
      bracket: number of the bracket.
      rung: number of the rung in it.
      trials: those of the rung, once they are known.
      hyperparams: their λ.
      asked: trainings begun, over all brackets.
    """

    bracket: int
    rung: int
    trials: np.ndarray
    hyperparams: Any
    asked: int


def successive_halving(
    space: Any, like: Any, *, population: int = 81, steps: int, eta: int = 3
) -> Search:
    """Successive halving, begun anew with other λ for as long as the budget lasts.

    Args:
      space: a tree of specs from `hyperparameters`, a prefix of `like`.
      like: a tree of arrays that gives the hyperparameters' shapes.
      population: n, trainings of the first rung.
      steps: r, updates of w for each in the first rung; the last one standing gets r η^s,
        s = ⌊log_η n⌋.
      eta: η, one in how many goes on.

    Returns:
      A Search without end. Trainings that go on do so from their own weights and optimizer state.

    Raises:
      ValueError: for an empty space, sizes below 1, or an eta below 2.

    Reference:
      Jamieson and Talwalkar (2016), arXiv:1502.07943.
    """
    checks.whole("successive_halving", population=population, steps=steps)
    checks.eta("successive_halving", eta)
    return among_brackets(
        space, like, [bracket(population, steps, eta, whole_log(population, eta))]
    )


def bracket(population: int, steps: float, eta: int, halvings: int) -> list[Rung]:
    """The rungs (n_i, r_i) of one bracket, i = 0 … halvings."""
    return [Rung(population // eta**i, max(1, round(steps * eta**i))) for i in range(halvings + 1)]


def whole_log(number: int, base: int) -> int:
    """⌊log_base number⌋, exactly."""
    power = 0
    while base ** (power + 1) <= number:
        power += 1
    return power


def among_brackets(space: Any, like: Any, brackets: Sequence[Sequence[Rung]]) -> Search:
    """Successive halving in one bracket after another, over and over, with λ from the prior."""
    cube(space, like)

    @functools.partial(jax.jit, static_argnums=1)
    def draw(key: jax.Array, count: int) -> Any:
        return jax.vmap(hp.sample, (0, None, None))(jax.random.split(key, count), space, like)

    def ask(key: jax.Array, state: State) -> tuple[State, Proposal]:
        rungs = brackets[state.bracket]
        rung, before = rungs[state.rung], rungs[state.rung - 1].steps if state.rung else 0
        if not state.rung:
            trials = np.arange(state.asked, state.asked + rung.trainings)
            state = state._replace(
                trials=trials,
                hyperparams=jax.device_get(draw(key, rung.trainings)),
                asked=state.asked + rung.trainings,
            )
        last = state.rung == len(rungs) - 1
        kept = np.array([], int) if last else state.trials
        return state, Proposal(state.trials, state.hyperparams, rung.steps - before, kept)

    def tell(state: State, proposal: Proposal, losses: np.ndarray) -> State:
        rungs = brackets[state.bracket]
        if state.rung == len(rungs) - 1:
            return state._replace(bracket=(state.bracket + 1) % len(brackets), rung=0)
        best = np.argsort(losses, kind="stable")[: rungs[state.rung + 1].trainings]
        return state._replace(
            rung=state.rung + 1,
            trials=proposal.trials[best],
            hyperparams=jax.tree.map(lambda leaf: leaf[best], proposal.hyperparams),
        )

    first = State(bracket=0, rung=0, trials=np.array([], int), hyperparams=None, asked=0)
    return Search(lambda key: first, ask, tell, brackets[0][0].steps)
