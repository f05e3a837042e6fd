"""Grid search: every combination of a few values of each hyperparameter, each trained in full.

    λ ∈ Q_1 × … × Q_D,    Q_d = { F_d⁻¹((j + ½) / n) : j = 0 … n − 1 }

F_d is the distribution function of coordinate d's prior: the values are the middles of n bins that
are equally probable. Of whole numbers and categories no value comes twice, and of an inactive
hyperparameter there is only one.
"""

from typing import NamedTuple

import jax
import numpy as np

from shohypernet._internal import validation
from shohypernet.hyperparameters import Spec
from shohypernet.search._base import Asker, Proposal, Search, queued, rows
from shohypernet.search._combinations import combinations
from shohypernet.search._unit_cube import bin_count, unit_cube
from shohypernet.types import Hyperparams, Key, Space

MOST_TRIALS = 1_000_000


class State(NamedTuple):
    """State of `grid_search`.

    Attributes:
      order: numbers of the grid's points that are still to be tried, in order.
      asked: trials so far.
      first: λ to begin with, None once they were asked for.
    """

    order: np.ndarray
    asked: int
    first: Hyperparams | None = None


def grid_search(*, points: int, steps: int, population: int = 100) -> Search:
    """Search over a grid, in a random order, so that a short budget sees no mere corner of it.

    Args:
      points: n, values on each axis; a category has all of its own instead. Each number in the
        hyperparameters' tree is an axis, where it is active.
      steps: updates of w for each trial.
      population: trials in a proposal.

    Returns:
      A Search that ends with the grid.

    Raises:
      ValueError: for sizes below 1; by `run`, for an empty space, or a grid of more than a million
        points.
    """
    validation.whole("grid_search", points=points, steps=steps, population=population)

    def bind(space: Space, like: Hyperparams) -> Asker:
        cube = unit_cube(space, like)
        grid = combinations(cube, [_axis(spec, points) for spec in cube.specs], MOST_TRIALS)
        if grid is None:
            raise ValueError(
                f"a grid of {points} points on each of {cube.size} axes is more than "
                f"{MOST_TRIALS:,} trials; use fewer points, or random_search()."
            )

        def init(key: Key) -> State:
            return State(np.asarray(jax.random.permutation(key, len(grid))), 0)

        def ask(key: Key, state: State) -> tuple[State, Proposal | None]:
            turn, left = np.split(state.order, [max(0, population - rows(state.first))])
            drawn = cube.hyperparams(grid[turn])
            hyperparams, first = queued(state.first, drawn, population)
            asked = state.asked + rows(hyperparams)
            if asked == state.asked:
                return state, None
            trials = np.arange(state.asked, asked)
            return State(left, asked, first), Proposal(trials, hyperparams, steps)

        def enqueue(state: State, hyperparams: Hyperparams) -> State:
            return state._replace(first=hyperparams)

        return Asker(init, ask, lambda state, proposal, losses: state, enqueue)

    settings = {"method": "grid_search", "points": points, "population": population}
    return Search(bind, steps, settings)


def _axis(spec: Spec, points: int) -> np.ndarray:
    if not spec.differentiable:
        points = bin_count(spec) if spec.choices else min(points, bin_count(spec))
    return (np.arange(points) + 0.5) / points
