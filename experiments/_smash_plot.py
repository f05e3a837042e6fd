"""The picture of `smash`: losses after training against what ranks them, and the search."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from experiments._plots import COLORS
from experiments._rankings import Rankings

HYPERNET, SHUFFLED, SIZE = "hypernet", "hypernet, shuffled encodings", "number of weights"
LABELS = {
    HYPERNET: "validation loss with the hypernet's weights",
    SHUFFLED: "the same, encodings shuffled",
    SIZE: "number of weights",
}


def draw(
    trained: np.ndarray,
    scores: Mapping[str, np.ndarray],
    rankings: Rankings,
    found: np.ndarray,
    random: np.ndarray,
) -> Figure:
    """Draw a panel for each predictor, and one of what searches found.

    Args:
      trained: test losses after training, shape (seeds, networks).
      scores: of the same networks by predictor, shape (runs, networks).
      rankings: of these.
      found: test losses of the best candidates by each hypernet, shape (seeds, hypernets).
      random: test loss of random search with each seed, shape (seeds,).
    """
    figure, axes = plt.subplots(1, 4, figsize=(15, 4), sharey=True)
    for color, panel, (name, each) in zip(COLORS, axes, scores.items(), strict=False):
        across = np.abs(each)  # a number of weights is a score by its negative
        panel.errorbar(
            across.mean(0),
            trained.mean(0),
            xerr=np.abs(np.stack([across.min(0), across.max(0)]) - across.mean(0)),
            yerr=np.abs(np.stack([trained.min(0), trained.max(0)]) - trained.mean(0)),
            fmt="o",
            color=color,
            alpha=0.7,
            markersize=4,
            linewidth=0.8,
        )
        mean, low, high = rankings.interval(name)
        panel.set(xlabel=LABELS[name], title=f"ρ = {mean:.2f} [{low:.2f}, {high:.2f}]")
    axes[0].set_ylabel("test loss after training (cross-entropy)")
    last = axes[-1]
    for i, losses in enumerate((found, random, trained)):
        last.plot(np.full(losses.size, i), losses.ravel(), "o", color=COLORS[3], alpha=0.5)
        last.plot(i, losses.mean(), "_", color="0.2", markersize=24)
    last.set_xticks(
        range(3), ["best of all\nby hypernet", "random\nsearch", "networks\non the left"]
    )
    last.set(xlim=(-0.6, 2.6), title="What searches find (bar: mean)")
    return figure
