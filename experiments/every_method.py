"""Every method on every problem of two levels whose answer is known exactly.

Each cell is what is left of the loss that a method had to gain, the library's own sentence where it
refuses, or the reason why the method goes elsewhere. See `_every_method_worlds` and
`_every_method_data` for the problems, and `_every_method_methods` for the methods.

python -m experiments.every_method --config=configs/every_method.py --workdir=DIR
"""

import os
import pathlib
from collections.abc import Callable
from typing import Any

# Nearly all the time is compilation, most of that in passes that make long runs faster. It is read
# when JAX first computes.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
)

import numpy as np

from experiments import _every_method_cells as cells
from experiments import _every_method_data as data
from experiments import _every_method_plot as plot
from experiments import _every_method_verdicts as verdicts
from experiments import _every_method_worlds as worlds
from experiments import _launch, _plots, _results
from experiments._every_method_methods import METHODS, SEARCHES
from experiments._every_method_reasons import REASONS
from experiments._every_method_verdicts import ARRIVED, ELSEWHERE, REFUSED, SHORT, Judged, Table
from experiments._every_method_worlds import World

NAME = "every_method"
WORLDS: dict[str, Callable[[Any], World]] = {
    "duopoly": worlds.duopoly,
    "Dirac-GAN": worlds.dirac,
    "matching pennies": worlds.pennies,
    "prediction": data.prediction,
    "elastic net": data.net,
    "ridge": data.regression,
    "distillation": data.distillation,
    "MAML": worlds.maml,
    "implicit MAML": worlds.implicit_maml,
}
SIGNS = {ARRIVED: "", REFUSED: "refused", ELSEWHERE: "≠ ", SHORT: "> "}


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Run every method on every world, judge all cells, and draw them."""
    del resume  # it takes ten minutes
    table = contest(config)
    _plots.save_figure(plot.draw(table), workdir, NAME)
    shares = {world: [each.cell.share for each in row.values()] for world, row in table.items()}
    _results.save_arrays(workdir, NAME, {name: np.asarray(each) for name, each in shares.items()})
    print(f"\n{shown(table)}\n\n{explained(table)}")
    return {
        "main": {
            verdict: verdicts.count(table, verdict)
            for verdict in (ARRIVED, REFUSED, ELSEWHERE, SHORT)
        },
        "claims": claims(table),
        "cells": {
            world: {name: _listed(judged) for name, judged in row.items()}
            for world, row in table.items()
        },
    }


def contest(config: Any) -> Table:
    """All cells that the config asks for, judged, by world and method."""
    table: Table = {}
    for world_name in config.worlds or WORLDS:
        world = WORLDS[world_name](config)
        table[world_name] = {}
        for name in config.methods or (*METHODS, *SEARCHES):
            run_one = cells.run if name in METHODS else cells.searched
            cell = run_one(name, world, config)
            judged = verdicts.judge(cell, name, world_name, REASONS, world.elsewhere.get(name))
            table[world_name][name] = judged
            print(f"{world_name}: {name} {_sign(judged)}", flush=True)
    return table


def claims(table: Table) -> list[dict[str, Any]]:
    """Claims about all cells."""
    counts = {each: verdicts.count(table, each) for each in SIGNS}
    silent = verdicts.unexplained(table)
    methods = next(iter(table.values()))
    never = [
        name
        for name in methods
        if not any(table[world][name].verdict == ARRIVED for world in table)
    ]
    off = {
        f"{name} on {world}": judged.off
        for world, row in table.items()
        for name, judged in row.items()
        if judged.off is not None
    }
    return [
        _results.claim(
            f"Every method comes within {verdicts.WITHIN:.0%} of the exact answer of every world, "
            "is refused in words, or misses for a reason that is stated.",
            ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
            + (f"; without a reason: {', '.join(silent)}" if silent else ""),
            holds=not silent,
        ),
        _results.claim(
            "Every method but gradient play arrives somewhere where the leader must lead.",
            f"{len(methods) - len(never)} of {len(methods)} methods arrive"
            + (f", not {', '.join(never)}" if never else ""),
            holds=not never,
        ),
        _results.claim(
            "Where the other point of a method is known exactly, it ends there, within 1 %.",
            ", ".join(f"{name} {each:.1g} off" for name, each in off.items()) or "none was run",
            holds=all(each <= verdicts.WITHIN for each in off.values()),
        ),
    ]


def shown(table: Table) -> str:
    """The table in plain text: shares that are left, and signs for what doesn't arrive."""
    methods = next(iter(table.values()))
    rows = [[name, *(_sign(table[world][name]) for world in table)] for name in methods]
    return _results.table(["share left", *table], rows)


def explained(table: Table) -> str:
    """Reasons for all that doesn't arrive and isn't refused, each with its cells; refusals too."""
    reasons: dict[str, list[str]] = {}
    for world, row in table.items():
        for name, judged in row.items():
            if judged.verdict != ARRIVED:
                sign = SIGNS[judged.verdict].strip()
                reasons.setdefault(f"{sign} {judged.why or 'unknown'}", []).append(
                    f"{name} on {world}"
                )
    return "\n".join(f"{why}\n    {'; '.join(where)}" for why, where in reasons.items())


def _sign(judged: Judged) -> str:
    share = "" if judged.verdict == REFUSED else plot.shown(judged.cell.share)
    return f"{SIGNS[judged.verdict]}{share}"


def _listed(judged: Judged) -> dict[str, Any]:
    """A cell for results.json, where a share that is no number is None."""
    cell = judged.cell
    return {
        "verdict": judged.verdict,
        "why": judged.why,
        "share_left": None if np.isnan(cell.share) else cell.share,
        "hyperparams": _results.listed(cell.ends),
        "step_sizes": dict(cell.pace),
        "gradient_evaluations": cell.evaluations,
    }


if __name__ == "__main__":
    _launch.main(run)
