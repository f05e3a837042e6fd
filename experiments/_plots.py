"""Drawing shared by the figures: colors, lines over seeds, loss panels, saving."""

import pathlib
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import shohypernet as shn
from shohypernet.batches import SplitLosses

# Dark to light, so that they stay apart in gray; line styles tell them apart as well.
COLORS = ("#0b3c5d", "#d1495b", "#2e8b57", "#e3a72f")
STYLES = ("-", "--", "-.", ":")
SPLITS = {"valid": "validation", "test": "test"}

mpl.rcParams.update(
    {
        "axes.grid": True,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "figure.constrained_layout.use": True,
        "figure.dpi": 150,
        "grid.alpha": 0.25,
        "legend.frameon": False,
        "pdf.fonttype": 42,
    }
)


def save_figure(figure: Figure, workdir: pathlib.Path, name: str) -> None:
    """Write a figure as NAME.png and NAME.pdf, and close it."""
    for ending in ("png", "pdf"):
        figure.savefig(workdir / f"{name}.{ending}")
    plt.close(figure)


def legend_below(figure: Figure, axes: Axes, columns: int, size: int = 9) -> None:
    """One legend for all panels, from the labels of one of them."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=size)


def seed_line(axes: Axes, cost: np.ndarray, losses: np.ndarray, label: str, **look: Any) -> None:
    """Mean loss over the seeds, with a band from the least to the greatest.

    The first evaluation, of fresh weights, is far above all others and is left out.

    Args:
      axes: the panel.
      cost: horizontal coordinate of each evaluation, shape (E,).
      losses: shape (E, S).
      label: of the line.
      **look: color, marker and so on, as for `Axes.plot`.
    """
    cost, losses = cost[1:], losses[1:]
    axes.plot(cost, losses.mean(1), label=label, **look)
    axes.fill_between(
        cost, losses.min(1), losses.max(1), color=look["color"], alpha=0.15, linewidth=0
    )


def cost_panels(
    histories: Mapping[str, shn.History], looks: Mapping[str, dict[str, Any]]
) -> tuple[Figure, np.ndarray]:
    """Validation and test loss (rows) of each run against seconds and compute (columns).

    Args:
      histories: of `fit`, by label, for several seeds.
      looks: keywords of each label's lines, as for `Axes.plot`.

    Returns:
      The figure, and its axes, shape (2, 2).
    """
    figure, axes = plt.subplots(2, 2, figsize=(12, 8.5), sharex="col", sharey="row")
    for label, history in histories.items():
        look = {"markersize": 4, "linewidth": 1.2} | looks[label]
        for row, split in zip(axes, SPLITS, strict=True):
            losses = getattr(history, f"{split}_loss")
            for panel, cost in zip(row, costs(history), strict=True):
                seed_line(panel, cost, losses, label, **look)
    for row, split in zip(axes, SPLITS.values(), strict=True):
        row[0].set_ylabel(f"{split} loss (MSE)")
    axes[1, 0].set_xlabel("seconds, all seeds at once")
    axes[1, 1].set_xlabel("gradient evaluations per seed")
    return figure, axes


def costs(history: shn.History) -> tuple[np.ndarray, np.ndarray]:
    """Seconds and mean gradient evaluations at each evaluation, each of shape (E,)."""
    return history.seconds, history.gradient_evaluations.mean(1)


def reference_lines(axes: np.ndarray, lines: Mapping[str, tuple[SplitLosses, Any]]) -> None:
    """Horizontal lines in the panels of `cost_panels`: label -> losses, line style."""
    for row, split in zip(axes, SPLITS, strict=True):
        for label, (losses, style) in lines.items():
            for panel in row:
                panel.axhline(getattr(losses, split), color="0.4", linestyle=style, label=label)


def frame(axes: np.ndarray, shown: Mapping[str, Any], above: float = 0.1) -> None:
    """Vertical limits of the panels of `cost_panels`, so that some losses fill them.

    What is gained in the first rounds would leave no room for the rest.

    Args:
      axes: from `cost_panels`.
      shown: losses that must be seen, by split; any arrays.
      above: margin above the greatest of them, as a share of their range; below it is 0.1.
    """
    for row, split in zip(axes, SPLITS, strict=True):
        flat = np.hstack([np.ravel(each) for each in shown[split]])
        least, span = flat.min(), np.ptp(flat)
        row[0].set_ylim(least - 0.1 * span, flat.max() + above * span)
