"""The picture of `uncertain_response`."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import _plots
from experiments._intervals import Intervals


def draw(
    along: Any,
    bands: dict[str, Intervals],
    judged: dict[str, Intervals],
    held_out: Any,
    spread: np.ndarray,
) -> Figure:
    """Intervals along the angle, and for each held-out model by how sure the posterior is."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4))
    degrees = np.degrees(along.hyperparams["angle"])
    shown = zip(("scaled", "posterior's own"), _plots.COLORS[:2], (0.25, 0.8), strict=True)
    for name, color, alpha in shown:
        band = bands[name]
        left.fill_between(
            degrees, band.low, band.high, color=color, alpha=alpha, linewidth=0, label=name
        )
    left.plot(degrees, along.losses, "k.", markersize=4, label="trained models")
    left.set(xlabel="angle of the training images (degrees)", ylabel="validation loss")
    left.set_title("90 % intervals of one hypernet, at one decay")
    left.legend(fontsize=8)
    _draw_errors(right, judged["scaled"], held_out.losses, spread)
    return figure


def _draw_errors(axes: Axes, scaled: Intervals, losses: np.ndarray, spread: np.ndarray) -> None:
    """Each model's loss against the middle of its interval, by the posterior's spread."""
    middle = (scaled.low + scaled.high) / 2
    inside = scaled.hold(losses)
    for chosen, color, label in (
        (inside, _plots.COLORS[0], f"inside, {inside.mean():.1%}"),
        (~inside, _plots.COLORS[1], "outside"),
    ):
        error = np.abs(losses - middle)[chosen]
        axes.loglog(spread[chosen], error, ".", color=color, markersize=4, label=label)
    order = np.argsort(spread)
    axes.loglog(spread[order], scaled.width[order] / 2, color="0.4", label="half an interval")
    axes.set(xlabel="spread (posterior and seeds)", ylabel="distance from the interval's middle")
    axes.set_title("Held-out models")
    axes.legend(fontsize=8)
