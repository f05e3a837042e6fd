"""The pictures of `hypergradient_fidelity`."""

import itertools
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import _plots
from experiments._fidelity_judge import Row

MARKS = "osD^vP*X<>dhp8H1"


def _looks(rows: list[Row]) -> dict[str, dict[str, Any]]:
    """A look for each method: no two share marker and color, and gray leaves the markers."""
    methods = list(dict.fromkeys(row.method for row in rows))
    styles = itertools.product(_plots.STYLES, _plots.COLORS)
    return {
        method: {"marker": mark, "color": color, "linestyle": style, "label": method}
        for method, mark, (style, color) in zip(methods, itertools.cycle(MARKS), styles)
    }


def _line(axes: Axes, rows: list[Row], x: str, y: str, look: dict[str, Any]) -> None:
    """Means over the draws, with bars to the least and the greatest."""
    budgets = list(dict.fromkeys(row.budget for row in rows))
    found = [[row for row in rows if row.budget == budget] for budget in budgets]
    across = [np.mean([getattr(row, x) for row in each]) for each in found]
    values = [[getattr(row, y) for row in each] for each in found]
    middle = np.array([np.mean(each) for each in values])
    reach = np.abs([[np.min(each), np.max(each)] for each in values] - middle[:, None]).T
    axes.errorbar(
        across, middle, reach, **look, markersize=5, linewidth=1, elinewidth=0.7, capsize=2
    )


def draw(rows: list[Row], level: float) -> Figure:
    """At one level: cosine and norm ratio, against the three costs."""
    here = [row for row in rows if row.level == level]
    costs = {
        "passes": "gradient evaluations (whole training sets)",
        "seconds": "seconds",
        "megabytes": "peak memory besides the data (MiB)",
    }
    figure, axes = plt.subplots(2, 3, figsize=(13, 8), sharex="col", sharey="row")
    for column, (cost, label) in enumerate(costs.items()):
        for method, look in _looks(rows).items():
            mine = [row for row in here if row.method == method]
            _line(axes[0, column], mine, cost, "cosine", look)
            _line(axes[1, column], mine, cost, "norm_ratio", look)
        axes[1, column].axhline(1, color="0.4", linestyle=":")
        axes[1, column].set(xlabel=label, xscale="log", yscale="log")
    axes[0, 0].set_ylabel("cosine to the exact hypergradient")
    axes[1, 0].set_ylabel("norm, as a multiple of the exact one's")
    figure.suptitle(rf"Hypergradients at $\lambda = {level:g} + \mathcal{{N}}(0, 1)$")
    _plots.legend_below(figure, axes[0, 0], columns=4)
    return figure


def draw_levels(rows: list[Row], config: Any) -> Figure:
    """At every level: the cosine against gradient evaluations."""
    figure, axes = plt.subplots(
        1, len(config.levels), figsize=(13, 5), sharex=True, sharey=True, squeeze=False
    )
    for panel, level in zip(axes[0], config.levels, strict=True):
        for method, look in _looks(rows).items():
            mine = [row for row in rows if row.method == method and row.level == level]
            _line(panel, mine, "passes", "cosine", look)
        panel.set(
            title=rf"$\lambda = {level:g} + \mathcal{{N}}(0, 1)$",
            xlabel="gradient evaluations (whole training sets)",
            xscale="log",
        )
    axes[0, 0].set_ylabel("cosine to the exact hypergradient")
    _plots.legend_below(figure, axes[0, 0], columns=4)
    return figure
