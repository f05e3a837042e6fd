"""The picture of `hyper_cleaning`: the weights, how they were found, and what they are good for."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments._cleaning_contenders import JUDGED
from experiments._plots import COLORS, STYLES


def draw(
    outcomes: dict[str, list[Any]],
    paths: dict[str, tuple[np.ndarray, np.ndarray]],
    weights: np.ndarray,
    wrong: np.ndarray,
    reference: float,
) -> Figure:
    """Histogram of the tuned weights, F1 over seconds, and test accuracies.

    Args:
      outcomes: of each recipe, for each seed.
      paths: seconds and F1 at each evaluation, of each method, one seed.
      weights: of the training images by the method that is judged, the same seed.
      wrong: whether their labels are.
      reference: F1 of the filter, the same seed.
    """
    figure, (left, middle, right) = plt.subplots(
        1, 3, figsize=(13.5, 4.4), width_ratios=(1, 1.2, 1.5)
    )
    bins = np.linspace(0, 1, 41)
    for color, label, those in ((COLORS[0], "right", ~wrong), (COLORS[1], "wrong", wrong)):
        left.hist(weights[those], bins, color=color, alpha=0.65, label=f"label is {label}")
    left.set(
        yscale="log",
        xlabel="tuned weight",
        ylabel="training images",
        title=f"{JUDGED}, one seed",
    )
    left.legend(loc="upper center")

    for i, (name, (seconds, f1)) in enumerate(paths.items()):
        look = {"color": COLORS[i % 4], "linestyle": STYLES[i // 4], "marker": "o^"[i // 4]}
        middle.plot(seconds, f1, label=name, markersize=3, **look)
    middle.axhline(reference, color="0.45", linestyle=":", label="filter by validation images")
    middle.set(
        xscale="log",
        xlabel="seconds of tuning",
        ylabel="F1 of wrong labels",
        title="Finding wrong labels, the same seed",
    )
    middle.legend(fontsize=8)
    _draw_accuracies(right, outcomes, set(paths))
    return figure


def _draw_accuracies(axes: Axes, outcomes: dict[str, list[Any]], tuned: set[str]) -> None:
    order = sorted(outcomes, key=lambda name: np.mean([each.accuracy for each in outcomes[name]]))
    for i, name in enumerate(order):
        values = np.array([100 * each.accuracy for each in outcomes[name]])
        color = COLORS[0] if name in tuned else "0.45"
        axes.plot(values, np.full(len(values), i), "o", color=color, alpha=0.6)
        axes.vlines(values.mean(), i - 0.3, i + 0.3, color=color, linewidth=2.5)
        axes.text(
            1.02, i, f"{values.mean():.2f}", transform=axes.get_yaxis_transform(), va="center"
        )
    axes.set_yticks(range(len(order)), order, fontsize=8)
    axes.set(
        xlabel="test accuracy (%), blue: tuned weights",
        title="Trained from scratch on what is kept\n(dots: seeds, bar and number: mean)",
    )
