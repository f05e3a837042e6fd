"""Random search: λ drawn from the prior, each trained in full.

    λ_i ~ p(λ),    i = 1, 2, …

Of whole numbers and categories alone no λ comes twice: they are drawn without replacement, by a
Fisher–Yates shuffle of their numbers of which only the entries that have moved are kept. Numbers
that differ in inactive hyperparameters are the same λ, of which the first counts.

Bergstra and Bengio (2012), "Random Search for Hyper-Parameter Optimization", Journal of Machine
Learning Research 13. With it, Algorithm 1 of arXiv:1802.09419 is the paper's own baseline.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np

from shohypernet import hyperparameters as hp
from shohypernet._internal import validation
from shohypernet.search._base import Asker, Proposal, Search, generator, queued, rows
from shohypernet.search._combinations import count
from shohypernet.search._unit_cube import UnitCube, bin_count, unit_cube
from shohypernet.types import Hyperparams, Key, Space

MOST_NUMBERED = 2**63  # points of a discrete space; of more, a repeat is as good as impossible


class State(NamedTuple):
    """State of `random_search`.

    Attributes:
      asked: trials so far.
      first: λ to begin with, None once they were asked for.
      shuffled: number of points of a discrete space that were drawn.
      moved: entries of the shuffle that differ from their places.
      tried: numbers of the points of a discrete space that were asked for.
    """

    asked: int = 0
    first: Hyperparams | None = None
    shuffled: int = 0
    moved: Mapping[int, int] = {}
    tried: tuple[int, ...] = ()


def random_search(*, steps: int, population: int = 100) -> Search:
    """Search by draws from the prior of the space.

    Args:
      steps: updates of w for each trial.
      population: trials in a proposal.

    Returns:
      A Search without end, but for a space of whole numbers and categories alone: it ends once all
      points were tried.

    Raises:
      ValueError: for steps or a population below 1; by `run`, for an empty space.

    Reference:
      Bergstra and Bengio (2012).
    """
    validation.whole("random_search", steps=steps, population=population)

    def bind(space: Space, like: Hyperparams) -> Asker:
        cube = unit_cube(space, like)
        bins = [] if cube.continuous.any() else [bin_count(spec) for spec in cube.specs]
        numbered = bool(bins) and math.prod(bins) < MOST_NUMBERED
        different = (count(cube) if numbered else None) or math.prod(bins)

        @jax.jit
        def draw(key: Key) -> Hyperparams:
            keys = jax.random.split(key, population)
            return jax.vmap(hp.sample, (0, None, None))(keys, space, like)

        def ask(key: Key, state: State) -> tuple[State, Proposal | None]:
            if numbered:
                wanted = max(0, population - rows(state.first))
                wanted = min(wanted, different - len(state.tried))
                numbers, state = _without_replacement(key, state, wanted, cube, bins)
                drawn = cube.hyperparams(_points(numbers, bins))
            else:
                drawn = draw(key)
            hyperparams, first = queued(state.first, drawn, population)
            asked = state.asked + rows(hyperparams)
            if asked == state.asked:
                return state, None
            trials = np.arange(state.asked, asked)
            return state._replace(asked=asked, first=first), Proposal(trials, hyperparams, steps)

        def enqueue(state: State, hyperparams: Hyperparams) -> State:
            tried = _numbers(cube.points(hyperparams), bins) if numbered else []
            return state._replace(first=hyperparams, tried=tuple(tried))

        return Asker(lambda key: State(), ask, lambda state, proposal, losses: state, enqueue)

    return Search(bind, steps, {"method": "random_search", "population": population})


def _without_replacement(
    key: Key, state: State, wanted: int, cube: UnitCube, bins: list[int]
) -> tuple[list[int], State]:
    """Numbers of so many points that weren't asked for before, and the state after them."""
    rng, moved, drawn, numbers = generator(key), dict(state.moved), state.shuffled, []
    total, tried = math.prod(bins), set(state.tried)
    while drawn < total and len(numbers) < wanted:
        place = int(rng.integers(drawn, total))
        number = moved.get(place, place)
        moved[place] = moved.pop(drawn, drawn)
        drawn += 1
        (number,) = _numbers(cube.project(_points([number], bins)), bins)
        if number not in tried:
            numbers.append(number)
            tried.add(number)
    return numbers, State(state.asked, state.first, drawn, moved, tuple(sorted(tried)))


def _points(numbers: list[int], bins: list[int]) -> np.ndarray:
    """Points (P, D) of the unit cube, by their numbers."""
    places = np.unravel_index(np.array(numbers, int), bins)
    return (np.stack(places, axis=1) + 0.5) / bins


def _numbers(points: np.ndarray, bins: list[int]) -> list[int]:
    places = np.floor(points * bins).astype(int)
    return np.atleast_1d(np.ravel_multi_index(tuple(places.T), bins)).tolist()
