"""Hyperband: successive halving in brackets that trade the number of λ for the steps of each.

    s_max = ⌊log_η R⌋; for s = s_max, s_max − 1, …, 0:
        n = ⌈(s_max + 1) η^s / (s + 1)⌉ trials of r = R η^{-s} units, halved s times

Li, Jamieson, DeSalvo, Rostamizadeh and Talwalkar (2016), "Hyperband: A Novel Bandit-Based Approach
to Hyperparameter Optimization", arXiv:1603.06560, Algorithm 1.
"""

from shohypernet._internal import validation
from shohypernet.search import _checks as checks
from shohypernet.search._base import Search
from shohypernet.search._successive_halving import (
    Rung,
    among_brackets,
    bracket,
    whole_log,
)


def hyperband(*, resource: int = 81, unit_steps: int, eta: int = 3) -> Search:
    """Hyperband, repeated for as long as the budget lasts.

    Args:
      resource: R, units that one trial gets at most.
      unit_steps: updates of w in a unit.
      eta: η; one trial in η goes on.

    Returns:
      A Search without end. Trials that go on do so from their own weights and optimizer state.

    Raises:
      ValueError: for sizes below 1, or an eta below 2; by `run`, for an empty space.

    Reference:
      Algorithm 1 of arXiv:1603.06560.
    """
    validation.whole("hyperband", resource=resource, unit_steps=unit_steps)
    checks.eta("hyperband", eta)
    return among_brackets(brackets(resource, eta, unit_steps))


def brackets(resource: int, eta: int, unit_steps: int = 1) -> list[list[Rung]]:
    """The brackets of one run of Hyperband, from the most trials to the longest."""
    most = whole_log(resource, eta)
    table = []
    for halvings in range(most, -1, -1):
        population = -((most + 1) * eta**halvings // -(halvings + 1))  # rounded up
        steps = resource * unit_steps / eta**halvings
        table.append(bracket(population, steps, eta, halvings))
    return table
