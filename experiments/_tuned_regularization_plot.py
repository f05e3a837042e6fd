"""The picture of `tuned_regularization`: paths of the hyperparameters, and test results."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments._plots import COLORS
from experiments._regularized_network import Outcome

LABELS = {
    "input_dropout": "dropout of inputs",
    "hidden_dropout": "dropout of hidden units",
    "shift": "shift of images (sd, pixels)",
    "decay_0": "weight decay, layer 1",
    "decay_1": "weight decay, layer 2",
}


def draw(outcomes: dict[str, Outcome], path: dict[str, Any], steps: Any) -> Figure:
    """Paths of the hyperparameters, and the networks that were trained again.

    Args:
      outcomes: by recipe.
      path: hyperparameters in natural units at each evaluation, leaves (E, S).
      steps: rounds before each evaluation, shape (E,).
    """
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 4.2), width_ratios=(1.6, 1, 1))
    for color, (name, label) in zip((*COLORS, "0.4"), LABELS.items(), strict=True):
        values = np.asarray(path[name])
        left.plot(steps, values.mean(1), color=color, label=label)
        left.fill_between(steps, values.min(1), values.max(1), color=color, alpha=0.15, linewidth=0)
    left.set(
        yscale="log",
        xlabel="rounds of hyper-training",
        ylabel="value",
        title="All are tuned in one run\n(line: mean of seeds, band: range)",
    )
    left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, fontsize=8)
    _draw_outcomes(middle, {name: each.loss for name, each in outcomes.items()})
    middle.set(
        ylabel="test loss (cross-entropy)",
        title="Trained again: lower is better\n(dots: seeds, bar: mean)",
    )
    _draw_outcomes(right, {name: 100 * each.accuracy for name, each in outcomes.items()})
    right.set(
        ylabel="test accuracy (%)",
        title="Trained again: higher is better\n(dots: seeds, bar: mean)",
    )
    return figure


def _draw_outcomes(axes: Axes, outcomes: dict[str, np.ndarray]) -> None:
    looks = zip(("0.4", COLORS[1], COLORS[0]), outcomes.values(), strict=True)
    for i, (color, values) in enumerate(looks):
        axes.plot(np.full(len(values), i), values, "o", color=color, alpha=0.6)
        axes.hlines(values.mean(), i - 0.25, i + 0.25, color=color, linewidth=2.5)
    names = [name.replace(" ", "\n").replace("-", "-\n") for name in outcomes]
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.6, len(names) - 0.4)
