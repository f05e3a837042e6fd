"""Grid search: every combination of a few values of each hyperparameter, each trained in full.

    λ ∈ Q_1 × … × Q_D,    Q_d = { F_d⁻¹((j + ½) / n) : j = 0 … n − 1 }

F_d is the distribution function of coordinate d's prior: the values are the middles of n bins that
are equally probable. Of whole numbers and categories no value comes twice.
"""

import math
from typing import Any, NamedTuple

import jax
import numpy as np

from shohypernet.search import _checks as checks
from shohypernet.search._base import Proposal, Search
from shohypernet.search._unit_cube import bin_count, cube

MOST_TRAININGS = 1_000_000


class State(NamedTuple):
    """What is left of the grid.

    Attributes:
      order: the numbers of its points, in the order of their turn.
      asked: how many had theirs.
    """

    order: np.ndarray
    asked: int


def grid_search(space: Any, like: Any, *, points: int, steps: int, population: int = 100) -> Search:
    """Search over a grid, in a random order, so that a short budget sees no mere corner of it.

    Args:
      space: a tree of specs from `hyperparameters`, a prefix of `like`.
      like: a tree of arrays that gives the hyperparameters' shapes; each number in it is an axis.
      points: n, values an axis; a category has all of its own instead.
      steps: updates of w for each training.
      population: trainings a proposal.

    Returns:
      A Search that ends with the grid.

    Raises:
      ValueError: for an empty space, sizes below 1, or a grid of more than a million points.
    """
    checks.whole("grid_search", points=points, steps=steps, population=population)
    cell = cube(space, like)
    axes = [_axis(spec, points) for spec in cell.specs]
    lengths = [len(axis) for axis in axes]
    total = math.prod(lengths)
    if total > MOST_TRAININGS:
        raise ValueError(
            f"a grid of {points} points on each of {cell.size} axes is {total:.2g} trainings, more "
            f"than {MOST_TRAININGS:,}; use fewer points, or random_search()."
        )

    def init(key: jax.Array) -> State:
        return State(np.asarray(jax.random.permutation(key, total)), 0)

    def ask(key: jax.Array, state: State) -> tuple[State, Proposal | None]:
        turn = state.order[state.asked : state.asked + population]
        if not turn.size:
            return state, None
        places = np.unravel_index(turn, lengths)
        chosen = np.stack([axis[i] for axis, i in zip(axes, places, strict=True)], axis=1)
        trials = np.arange(state.asked, state.asked + turn.size)
        proposal = Proposal(trials, cell.hyperparams(chosen), steps, kept=np.array([], int))
        return state._replace(asked=state.asked + turn.size), proposal

    return Search(init, ask, lambda state, proposal, losses: state, steps)


def _axis(spec: Any, points: int) -> np.ndarray:
    if not spec.differentiable:
        points = bin_count(spec) if spec.choices else min(points, bin_count(spec))
    return (np.arange(points) + 0.5) / points
