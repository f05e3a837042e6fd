"""Fidelity and cost of each method's hypergradient, where the exact one is known.

The linear model with a decay for each of its 7,850 weights (see `_decay_problem`), at
λ = level + N(0, 1): cosine and norm ratio of every estimate to the closed form, against gradient
evaluations, seconds and peak memory. The quality of a small budget depends on the draw of
N(0, 1), so at the main level there are several. Implicit methods are given the best response w*(λ),
of whose cost nothing is counted; unrolled ones and hypernets start from fresh weights and pay for
all.

python -m experiments.hypergradient_fidelity --config=configs/hypergradient_fidelity.py \
  --workdir=DIR
"""

import pathlib
from typing import Any

import numpy as np

from experiments import _decay_problem, _fidelity_plot, _launch, _plots, _results
from experiments._fidelity_entries import KRONECKER, PAPER, entries
from experiments._fidelity_judge import Row, judge, points

NAME = "hypergradient_fidelity"
CLAIMED = "conjugate gradients", 50, 0.99  # method, budget, least cosine at the main level
HYPERNET_LEAST = 0.95


def run(config: Any, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Judge every entry at every point, and draw the findings."""
    del resume  # a few minutes' work, all in memory
    data = _decay_problem.load_data(config)
    problem = _decay_problem.problem_on(data)
    where = points(problem, data, config)
    rows: list[Row] = []
    for entry in entries(problem, config):
        found = list(judge(entry, where))
        rows += found
        cosines = "  ".join(
            f"{level:g}: {_mean(found, 'cosine', level):6.3f}" for level in config.levels
        )
        print(f"{entry.method:<36}{entry.budget:>6}  cosine at {cosines}", flush=True)

    _plots.save_figure(_fidelity_plot.draw(rows, config.main_level), workdir, NAME)
    _plots.save_figure(_fidelity_plot.draw_levels(rows, config), workdir, f"{NAME}_by_level")
    table = {field: np.array([row[i] for row in rows]) for i, field in enumerate(Row._fields)}
    _results.save_arrays(workdir, NAME, table)
    return {
        "main": {
            f"cosine, {method}": [
                row.cosine
                for row in rows
                if row[:3] == (method, config.hypernet_steps[-1], config.main_level)
            ]
            for method in (PAPER, KRONECKER)
        },
        "claims": [_claim(rows, config), _claim_hypernet(rows, config)],
        "rows": [row._asdict() for row in rows],
        "sharpness": {
            f"{level:g}, draw {draw}": float(point.sharpness)
            for (level, draw), (point, _) in where.items()
        },
    }


def _claim(rows: list[Row], config: Any) -> dict[str, Any]:
    method, budget, least = CLAIMED
    level = config.main_level
    found = [row for row in rows if row[:3] == (method, budget, level)]
    cosines = [row.cosine for row in found]
    return _results.claim(
        f"At λ = {level:g}, {budget} products of conjugate gradients, each with the whole training "
        f"set, give a cosine of {least} or more.",
        ", ".join(f"{cosine:.4f}" for cosine in cosines),
        holds=bool(cosines) and min(cosines) >= least,
    )


def _claim_hypernet(rows: list[Row], config: Any) -> dict[str, Any]:
    level, steps = config.main_level, config.hypernet_steps[-1]
    found = {
        method: [row.cosine for row in rows if row[:3] == (method, steps, level)]
        for method in (PAPER, KRONECKER)
    }
    shown = {name: ", ".join(f"{cosine:.3f}" for cosine in each) for name, each in found.items()}
    return _results.claim(
        f"At λ = {level:g}, a hypernet gives a cosine of {HYPERNET_LEAST} or more after {steps:,} "
        "training steps.",
        f"centered, Kronecker: {shown[KRONECKER]}; the paper's factorized: {shown[PAPER]}",
        holds=bool(found[KRONECKER]) and min(found[KRONECKER]) >= HYPERNET_LEAST,
    )


def _mean(rows: list[Row], field: str, level: float) -> float:
    return float(np.mean([getattr(row, field) for row in rows if row.level == level]))


if __name__ == "__main__":
    _launch.main(run)
