"""The picture of `every_method`: what is left of the way, a row for each method."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from experiments._every_method_verdicts import ELSEWHERE, REFUSED, Judged, Table

LEAST = -8.0  # decimal exponent of the darkest color
GRAY = "0.93"
FIRST = {"implicit, conjugate_gradient", "unrolled", "grid_search"}  # of a kind, below a line


def draw(table: Table) -> Figure:
    """A heat map of log shares; refused cells are hatched, those that aim elsewhere are framed."""
    worlds, methods = list(table), list(next(iter(table.values())))
    figure, axes = plt.subplots(figsize=(1.0 * len(worlds) + 4.2, 0.3 * len(methods) + 1.8))
    colors = mpl.colormaps["YlGnBu_r"]
    shares = np.array([[table[world][name].cell.share for world in worlds] for name in methods])
    with np.errstate(divide="ignore", invalid="ignore"):
        depths = np.clip(np.log10(np.maximum(shares, 10**LEAST)), LEAST, 0.0)
    image = axes.imshow(depths, cmap=colors, vmin=LEAST, vmax=0.0, aspect="auto")
    for column, world in enumerate(worlds):
        for row, name in enumerate(methods):
            judged = table[world][name]
            _cell(axes, column, row, judged, dark=depths[row, column] < LEAST / 2)
    for name in FIRST & set(methods):
        axes.axhline(methods.index(name) - 0.5, color="k", linewidth=1.2)
    axes.set_xticks(range(len(worlds)), worlds, rotation=35, ha="left", rotation_mode="anchor")
    axes.set_yticks(range(len(methods)), methods)
    axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, fraction=0.025, pad=0.02)
    bar.set_label("share of the loss above the exact optimum that is left, decimal exponent")
    marks = [
        Patch(facecolor=GRAY, edgecolor="0.55", hatch="////", label="refused in words"),
        Patch(facecolor="none", edgecolor="#d1495b", linewidth=1.8, label="aims at another point"),
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=2, fontsize=9)
    return figure


def _cell(axes: Axes, column: int, row: int, judged: Judged, *, dark: bool) -> None:
    corner = column - 0.5, row - 0.5
    if judged.verdict == REFUSED:
        axes.add_patch(
            Rectangle(corner, 1, 1, facecolor=GRAY, edgecolor="0.55", hatch="////", linewidth=0)
        )
        return
    axes.text(
        column,
        row,
        shown(judged.cell.share),
        ha="center",
        va="center",
        fontsize=7,
        color="white" if dark else "black",
    )
    if judged.verdict == ELSEWHERE:
        inset = (column - 0.46, row - 0.44)
        axes.add_patch(
            Rectangle(inset, 0.92, 0.88, facecolor="none", edgecolor="#d1495b", linewidth=1.8)
        )


def shown(share: float) -> str:
    """A share in a few characters: 0.24, 3e-5, 4e36, or <1e-8."""
    if np.isnan(share):
        return "diverged"
    if share < 10**LEAST:
        return f"<1e{LEAST:.0f}"
    if 0.001 <= share < 100:
        return f"{share:.2g}"
    return f"{share:.0e}".replace("e-0", "e-").replace("e+", "e")
