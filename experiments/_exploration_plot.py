"""The picture of `exploration`."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from experiments import _plots
from experiments._explorers import (
    BAYESIAN,
    GLOBAL,
    LOCAL,
    MEAN,
    OPTIMISTIC,
    RANDOM,
    THOMPSON,
    Course,
)

LOOKS = {
    GLOBAL: {"color": "0.4", "linestyle": ":", "marker": "s"},
    LOCAL: {"color": "0.4", "linestyle": "--", "marker": "D"},
    THOMPSON: {"color": _plots.COLORS[0], "linestyle": "-", "marker": "o"},
    OPTIMISTIC: {"color": _plots.COLORS[2], "linestyle": "-", "marker": "^"},
    MEAN: {"color": _plots.COLORS[3], "linestyle": "--", "marker": "v"},
    BAYESIAN: {"color": _plots.COLORS[1], "linestyle": "-", "marker": "P"},
    RANDOM: {"color": _plots.COLORS[1], "linestyle": ":", "marker": "X"},
}


def draw(
    courses: dict[str, Course],
    found: dict[str, tuple[np.ndarray, np.ndarray]],
    landscape: tuple[np.ndarray, np.ndarray],
    config: Any,
) -> Figure:
    """Where each contender ends, and its losses by what it has spent."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4.6))
    left.plot(np.degrees(landscape[0]), landscape[1], color="0.6", linewidth=1)
    left.axvline(config.start, color="0.8", linewidth=1)
    left.text(config.start, landscape[1].min(), " start", color="0.5", fontsize=8)
    for name, course in courses.items():
        look = LOOKS[name] | {"markersize": 5}
        dots = look | {"linestyle": "none", "alpha": 0.6}
        turned = (np.degrees(course.angle[:, -1]) + 180) % 360 - 180
        left.plot(turned, found[name][0], label=name, **dots)
        for axes, along in ((middle, course.evaluations), (right, course.seconds)):
            axes.plot(along, np.median(course.valid_loss, axis=0), **look | {"markersize": 3})
    left.set(xlabel="angle (degrees)", ylabel="validation loss, trained to the end")
    left.set_title("Where each seed ends (line: one decay)")
    middle.set(xlabel="gradient evaluations per seed", ylabel="validation loss of its weights")
    right.set(xlabel="seconds, all seeds together", ylabel="validation loss of its weights")
    for axes in (middle, right):
        axes.set_title("Median seed")
        axes.set_yscale("log")
    _plots.legend_below(figure, left, 7)
    return figure
