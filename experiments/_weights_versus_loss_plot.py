"""The picture of `weights_versus_loss`: inferred against true losses, and their errors."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments._inference_claims import COLUMNS, NAMES, QUANTILES
from experiments._plots import COLORS


def draw(true: np.ndarray, inferred: dict[str, np.ndarray]) -> Figure:
    """Inferred against true loss for the first set above, and below the error for all of them."""
    figure, axes = plt.subplots(2, 3, figsize=(12, 7.5), sharex="row", sharey="row")
    errors = {name: np.ravel(each - true) for name, each in inferred.items()}
    ends = np.quantile(np.concatenate([errors[name] for name in COLUMNS]), (0.005, 0.999))
    bins = np.linspace(ends[0], ends[1], 61).tolist()
    columns = zip(axes.T, COLORS, COLUMNS.items(), strict=False)
    for (above, below), color, (name, ours) in columns:
        above.plot(
            true, inferred[name][0], ".", color=color, markersize=2, alpha=0.25, rasterized=True
        )
        above.axline((1, 1), slope=1, color="0.1", linewidth=1, label="inferred = true")
        above.set(title=NAMES[name], xlabel="true loss (nats)")
        above.legend(loc="upper left", fontsize=8)
        _draw_errors(below, errors[name], bins, color)
        if ours:
            below.hist(
                errors[ours],
                bins,
                density=True,
                histtype="step",
                color="0.1",
                linewidth=1.2,
                label=f"ours: {NAMES[ours]}",
            )
        below.legend(loc="upper left", fontsize=8)
    axes[1, 0].set_ylim(top=1.3 * axes[1, 0].get_ylim()[1])  # for the legends
    axes[0, 0].set_xlim(*np.quantile(true, (0, 0.999)))
    axes[0, 0].set_ylim(
        *np.quantile(np.stack([inferred[name][0] for name in COLUMNS]), (0.0005, 0.9995))
    )
    axes[0, 0].set(ylabel="inferred loss (nats)")
    axes[1, 0].set(ylabel="density")
    return figure


def _draw_errors(axes: Axes, errors: np.ndarray, bins: list[float], color: str) -> None:
    axes.hist(errors, bins, density=True, color=color, alpha=0.6)
    low, median, high = np.quantile(errors, QUANTILES)
    axes.axvline(0, color="0.1", linewidth=1)
    axes.axvline(median, color=color, linestyle="--", label=f"median {median:+.3f}")
    axes.axvspan(
        low, high, color=color, alpha=0.12, linewidth=0, label=f"90 %: {low:+.3f} to {high:+.3f}"
    )
    axes.set(xlabel="inferred − true loss (nats), all sets")
