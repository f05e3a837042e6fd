"""The picture of `growth`: time and memory over the number of hyperparameters, and of sampled λ."""

import pathlib
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from benchmarks.growth_contenders import ELEMENTWISE, FACTORISED, KRONECKER, PLAIN
from experiments import _plots

LOOKS = {
    name: {"color": color, "linestyle": style, "marker": marker, "markersize": 5}
    for name, color, style, marker in zip(
        (PLAIN, FACTORISED, KRONECKER, ELEMENTWISE),
        _plots.COLORS,
        _plots.STYLES,
        "osD^",
        strict=True,
    )
}
LABELS = {FACTORISED: "factorized, rank 10 (the paper's)"}

Rows = Sequence[dict[str, Any]]


def draw(hyperparameters: Rows, samples: Rows, path: pathlib.Path) -> None:
    """Two panels of time above two of memory, log-log, with lines of slope 1 to compare with.

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
        time.set_ylabel("seconds a step")
        memory.set_ylabel("bytes held")
    each = [row | {"seconds": row["seconds"] / row["samples"]} for row in samples]
    _lines(axes[0, 1], each, "samples", "seconds", mfc="white", guided=False)
    axes[0, 0].plot([], [], "s", color="0.3", mfc="white", label=r"for each sampled $\lambda$")
    axes[0, 0].set_title("a decay for each weight of one dense layer")
    axes[0, 1].set_title("7,850 decays of 784-10")
    axes[1, 0].set_xlabel("hyperparameters")
    axes[1, 1].set_xlabel(r"sampled $\lambda$ a step")
    axes[1, 1].set_xscale("log", base=2)
    ticks = sorted({row["samples"] for row in samples})
    axes[1, 1].set_xticks(ticks, [str(tick) for tick in ticks])
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.savefig(path)
    plt.close(figure)


def _lines(
    panel: Axes, rows: Rows, over: str, value: str, *, guided: bool = True, **changed: Any
) -> None:
    for name, look in LOOKS.items():
        points = [(row[over], row[value]) for row in rows if row["method"] == name]
        if points:
            panel.loglog(*zip(*points, strict=True), label=LABELS.get(name, name), **look | changed)
    if guided:
        # Below the lowest line at its end, so as to run beside the others.
        end, least = max(row[over] for row in rows), min(row[value] for row in rows) / 2
        low = min(row[value] for row in rows if row[over] == end) / 2
        start = max(min(row[over] for row in rows), end * least / low)
        panel.loglog(
            [start, end], [low * start / end, low], "-", color="0.6", lw=0.8, label="slope 1"
        )
