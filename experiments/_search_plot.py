"""The pictures of `search_baselines`."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import _decay_problem
from experiments._grouped_decays import EVERY_WEIGHT
from experiments._plots import COLORS, SPLITS
from experiments._search_claims import excess_over_exact
from experiments._search_contenders import OURS, PAPER, Curve
from shohypernet.batches import SplitLosses

LOOKS = {
    OURS: {"color": "0.1", "linestyle": "-", "linewidth": 2.5, "marker": "o"},
    PAPER: {"color": "0.1", "linestyle": "--", "linewidth": 1.5, "marker": "X"},
    "random search": {"color": COLORS[0], "linestyle": "-", "marker": "s"},
    "grid search": {"color": COLORS[0], "linestyle": ":", "marker": "D"},
    "successive halving": {"color": COLORS[1], "linestyle": "-", "marker": "^"},
    "Hyperband": {"color": COLORS[1], "linestyle": "--", "marker": "v"},
    "TPE": {"color": COLORS[2], "linestyle": "-", "marker": "<"},
    "Bayesian optimization": {"color": COLORS[2], "linestyle": "--", "marker": ">"},
    "freeze-thaw": {"color": COLORS[3], "linestyle": "-", "marker": "P"},
}


def draw(
    counts: list[int],
    curves: dict[int, dict[str, Curve]],
    optima: dict[int, SplitLosses],
    scalar: SplitLosses,
) -> Figure:
    """Losses against compute and seconds, a row of panels for each number of decays."""
    figure, rows = plt.subplots(
        len(counts), 3, figsize=(13, 3.6 * len(counts) + 0.8), squeeze=False
    )
    for row, count in zip(rows, counts, strict=True):
        for name, curve in curves[count].items():
            for axes, along, losses in (
                (row[0], curve.evaluations, curve.valid_loss),
                (row[1], curve.evaluations, curve.test_loss),
                (row[2], curve.seconds, curve.valid_loss),
            ):
                _draw_curve(axes, along, losses, name)
        splits = ("valid", "test", "valid")
        for axes, split in zip(row, splits, strict=True):
            _frame(axes, count, split, curves[count], optima[count], scalar)
        row[2].set(xlabel="seconds, five seeds together", xscale="log")
    handles = {
        label: handle
        for row in rows
        for handle, label in zip(*row[0].get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5)
    return figure


def _draw_curve(axes: Axes, along: np.ndarray, losses: np.ndarray, name: str) -> None:
    look = {key: value for key, value in LOOKS[name].items() if key != "marker"}
    low, middle, high = np.percentile(losses, (25, 50, 75), axis=0)
    axes.fill_between(along, low, high, color=look["color"], alpha=0.12, linewidth=0)
    axes.plot(along, middle, label=name, **look)


def _frame(
    axes: Axes,
    count: int,
    split: str,
    curves: dict[str, Curve],
    best: SplitLosses,
    scalar: SplitLosses,
) -> None:
    exact = getattr(best, split)
    axes.axhline(
        getattr(scalar, split),
        color="0.45",
        linestyle=(0, (1, 2)),
        label="exact, one decay for all",
    )
    axes.axhline(
        exact,
        color="0.45",
        linestyle=(0, (6, 2)),
        label=f"exact, these decays ({EVERY_WEIGHT:,}: {_decay_problem.DESCENT_STEPS} steps)",
    )
    # From the exact best to where the searches are at a fifth of the budget.
    losses = [getattr(curve, f"{split}_loss") for curve in curves.values()]
    reached = np.nanmax([np.nanpercentile(each[:, each.shape[1] // 5], 75) for each in losses])
    low = min(exact, *(np.nanmin(each) for each in losses))
    axes.set_ylim(low - 0.05 * (reached - low), reached + 0.05 * (reached - low))
    axes.set(
        title=f"{count:,} decays",
        xlabel="gradient evaluations",
        ylabel=f"{SPLITS[split]} loss (mean squared error)",
    )


def draw_by_count(curves: dict[int, dict[str, Curve]], optima: dict[int, SplitLosses]) -> Figure:
    """Final losses above the exact best against the number of decays."""
    figure, axes = plt.subplots(figsize=(7, 5))
    places = {count: i for i, count in enumerate(curves)}
    excess = excess_over_exact(curves, optima)
    for shift, (name, by_count) in zip(
        np.linspace(-0.2, 0.2, len(excess)), excess.items(), strict=True
    ):
        low, middle, high = np.percentile(list(by_count.values()), (25, 50, 75), axis=1)
        along = np.array([places[count] for count in by_count]) + shift
        look = {"markersize": 5} | LOOKS[name]
        axes.errorbar(
            along, middle, (middle - low, high - middle), label=name, elinewidth=1, **look
        )
    # A hypernet's weights may validate better than the best response to the best decays.
    axes.axhline(0, color="0.45", linestyle=(0, (6, 2)))
    axes.set(
        xlabel="decays",
        ylabel="validation loss above the exact best (MSE)",
        title="After equal compute: median and quartiles of the seeds",
    )
    axes.set_xticks(list(places.values()), [f"{count:,}" for count in places])
    figure.legend(loc="outside lower center", ncols=3)
    return figure
