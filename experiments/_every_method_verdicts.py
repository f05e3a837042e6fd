"""Verdicts on the cells of `every_method`: arrived, refused, aiming elsewhere or short, and why."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from experiments._every_method_cells import Cell

ARRIVED, REFUSED, ELSEWHERE, SHORT = "arrived", "refused", "aims elsewhere", "short"
WITHIN = 0.01  # of the way that a method had to go, in the loss


class Judged(NamedTuple):
    """A cell with its verdict.

    Attributes:
      cell: the cell.
      verdict: ARRIVED, REFUSED, ELSEWHERE or SHORT.
      why: the library's sentence for what is refused; for ELSEWHERE and SHORT the reason that we
        know, empty if we know none.
      off: distance from the point that it aims at instead, relative; None if that isn't known.
    """

    cell: Cell
    verdict: str
    why: str = ""
    off: float | None = None


Table = dict[str, dict[str, Judged]]
"""Cells by world and by method, all worlds with the same methods."""


class Reason(NamedTuple):
    """Why some methods don't arrive in some worlds.

    Attributes:
      methods: their names.
      worlds: names; of all worlds if empty.
      elsewhere: whether they aim at another point, and not short of this one.
      why: a sentence.
    """

    methods: tuple[str, ...]
    worlds: tuple[str, ...]
    elsewhere: bool
    why: str

    def covers(self, method: str, world: str) -> bool:
        """Whether it speaks of a cell."""
        return method in self.methods and (not self.worlds or world in self.worlds)


def judge(
    cell: Cell, method: str, world: str, reasons: Iterable[Reason], other: Any = None
) -> Judged:
    """The verdict on one cell; a reason for what arrives is not asked for.

    Args:
      cell: the cell.
      method: its name.
      world: likewise.
      reasons: all that are known.
      other: λ, one number, that the method aims at instead, where that is known exactly.
    """
    if cell.refusal:
        return Judged(cell, REFUSED, cell.refusal)
    known = [reason for reason in reasons if reason.covers(method, world)]
    off = None if other is None else float(np.max(np.abs(np.asarray(cell.ends) / other - 1)))
    # What aims elsewhere may come by on its way.
    if elsewhere := [reason for reason in known if reason.elsewhere]:
        return Judged(cell, ELSEWHERE, elsewhere[0].why, off)
    if not np.isnan(cell.share) and cell.share <= WITHIN:
        return Judged(cell, ARRIVED)
    return Judged(cell, SHORT, known[0].why if known else "")


def unexplained(table: Table) -> list[str]:
    """Cells that neither arrive nor say why, as "method on world"."""
    return [
        f"{method} on {world}"
        for world, row in table.items()
        for method, judged in row.items()
        if judged.verdict in (SHORT, ELSEWHERE) and not judged.why
    ]


def count(table: Table, verdict: str) -> int:
    """Number of cells of a verdict."""
    return sum(judged.verdict == verdict for row in table.values() for judged in row.values())
