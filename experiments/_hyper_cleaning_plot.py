"""The picture of `hyper_cleaning`: the weights, how they were found, and what they are good for."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from experiments._cleaning_contenders import KRONECKER
from experiments._plots import COLORS, STYLES


def draw(
    outcomes: dict[str, list[Any]],
    paths: dict[str, tuple[np.ndarray, np.ndarray]],
    weights: np.ndarray,
    wrong: np.ndarray,
) -> Figure:
    """Histogram of the tuned weights, F1 over seconds, and test accuracies.

    Args:
      outcomes: of each recipe, for each seed.
      paths: seconds and F1 at each evaluation, of each method, one seed.
      weights: of the training images by Kronecker factors, the same seed.
      wrong: whether their labels are.
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
        title=f"{KRONECKER}, one seed",
    )
    left.legend(loc="upper center")

    for i, (name, (seconds, f1)) in enumerate(paths.items()):
        look = {"color": COLORS[i % 4], "linestyle": STYLES[i // 4], "marker": "o^"[i // 4]}
        middle.plot(seconds, f1, label=name, markersize=3, **look)
    middle.set(
        xscale="log",
        xlabel="seconds of tuning",
        ylabel="F1 of wrong labels",
        title="Finding them, one seed",
    )
    middle.legend(fontsize=8)

    order = sorted(outcomes, key=lambda name: np.mean([each.accuracy for each in outcomes[name]]))
    for i, name in enumerate(order):
        values = np.array([100 * each.accuracy for each in outcomes[name]])
        color = COLORS[0] if name in paths else "0.45"
        right.plot(values, np.full(len(values), i), "o", color=color, alpha=0.6)
        right.vlines(values.mean(), i - 0.3, i + 0.3, color=color, linewidth=2.5)
    right.set_yticks(range(len(order)), order, fontsize=8)
    right.set(
        xlabel="test accuracy (%)",
        title="Trained from scratch on what is kept\n(dots: seeds, bar: mean)",
    )
    return figure
