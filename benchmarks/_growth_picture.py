"""The picture of `growth`: time and memory over the number of hyperparameters, and of sampled λ."""

import pathlib
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from benchmarks.contenders.growth import ELEMENTWISE, FACTORIZED, KRONECKER, PLAIN
from experiments import _plots

APPEARANCE = {
    name: {"color": color, "linestyle": style, "marker": marker, "markersize": 5}
    for name, color, style, marker in zip(
        (PLAIN, FACTORIZED, KRONECKER, ELEMENTWISE),
        _plots.COLORS,
        _plots.STYLES,
        "osD^",
        strict=True,
    )
}
LABELS = {FACTORIZED: "factorized, rank 10 (the paper's)"}

Rows = Sequence[dict[str, Any]]


def draw(hyperparameters: Rows, samples: Rows, path: pathlib.Path) -> None:
    """Draw two panels of time above two of memory, log-log, with lines of slope 1 to compare with.

    Args:
      hyperparameters: the rows of `growth.by_hyperparameters`.
      samples: the rows of `growth.by_samples`.
      path: the file to write.
    """
    figure, axes = plt.subplots(2, 2, figsize=(11, 8), sharex="col")
    for (time, memory), over, rows in (
        (axes[:, 0], "hyperparameters", hyperparameters),
        (axes[:, 1], "samples", samples),
    ):
        _lines(time, rows, over, "seconds")
        _lines(memory, rows, over, "bytes")
        time.set_ylabel("seconds per step")
        memory.set_ylabel("bytes held")
    each = [row | {"seconds": row["seconds"] / row["samples"]} for row in samples]
    _lines(axes[0, 1], each, "samples", "seconds", mfc="white", guided=False)
    axes[0, 0].plot([], [], "s", color="0.3", mfc="white", label=r"per sampled $\lambda$")
    axes[0, 0].set_title("one decay per weight of one dense layer")
    axes[0, 1].set_title("7,850 decays of 784-10")
    axes[1, 0].set_xlabel("hyperparameters")
    axes[1, 1].set_xlabel(r"sampled $\lambda$ per step")
    axes[1, 1].set_xscale("log", base=2)
    ticks = sorted({row["samples"] for row in samples})
    axes[1, 1].set_xticks(ticks, [str(tick) for tick in ticks])
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.savefig(path)
    plt.close(figure)


def guide(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Ends (x, y) of a line of slope 1 that runs below the lowest curve and ends with it."""
    end, first = max(x for x, _ in points), min(x for x, _ in points)
    low = min(y for x, y in points if x == end) / 2
    least = min(y for _, y in points) / 2
    # The ratio first: it is exactly 1 where the lowest point is at the end, so that a picture of a
    # single number has a guide of no length, and not one that rounding makes too short to draw.
    start = max(first, end * (least / low))
    return [start, end], [low * (start / end), low]


def _lines(
    panel: Axes, rows: Rows, over: str, value: str, *, guided: bool = True, **changed: Any
) -> None:
    for name, appearance in APPEARANCE.items():
        points = [(row[over], row[value]) for row in rows if row["method"] == name]
        if points:
            look = appearance | changed
            panel.loglog(*zip(*points, strict=True), label=LABELS.get(name, name), **look)
    if guided:
        ends = guide([(row[over], row[value]) for row in rows])
        panel.loglog(*ends, "-", color="0.6", lw=0.8, label="slope 1")
