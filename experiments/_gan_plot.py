"""Pictures of `gan`: distances from the equilibria, modes and good samples, and the samples."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from experiments import _gan_ring as ring
from experiments import _plots

SHOWN = 5  # checkpoints of the samples, the last among them


def draw(
    distances: dict[tuple[str, str], np.ndarray], known: dict[str, float], trained: dict[str, Any]
) -> Figure:
    """Games and qualities.

    Args:
      distances: from the equilibrium, shape (R + 1, S), by game and method.
      known: the closed-form factor of a simultaneous step, by game.
      trained: `gan.Trained` by contender.
    """
    figure, axes = plt.subplots(2, 3, figsize=(13, 7.5))
    for panel, (game, factor) in zip(axes[:, 0], known.items(), strict=False):
        found = {name: each for (which, name), each in distances.items() if which == game}
        for color, style, (name, each) in zip(
            _plots.COLORS, _plots.STYLES, found.items(), strict=True
        ):
            panel.plot(each.mean(1), style, color=color, label=name)
        first = next(iter(found.values()))
        rounds = np.arange(len(first))
        closed = first[0].mean() * factor**rounds
        panel.plot(
            rounds, closed, color="0.6", linewidth=4, alpha=0.5, zorder=0, label="known rate"
        )
        panel.set(yscale="log", ylim=(1e-6, None), xlabel="rounds", title=game)
        panel.set_ylabel("distance from the equilibrium")
    axes[0, 0].legend(fontsize=8)
    labels = {"modes": "modes covered, of 8", "good": "share of good samples"}
    for column, field in enumerate(labels, start=1):
        looks = zip(_plots.COLORS, _plots.STYLES, trained.items(), strict=False)
        for color, style, (name, each) in looks:
            values = getattr(each.quality, field)
            for panel, cost in (
                (axes[0, column], each.gradients),
                (axes[1, column], each.seconds.mean(1)),
            ):
                panel.plot(cost, values.mean(1), style, color=color, label=name)
                panel.fill_between(
                    cost, values.min(1), values.max(1), color=color, alpha=0.12, linewidth=0
                )
                panel.set_ylabel(labels[field])
        axes[0, column].set(xlabel="gradient evaluations per seed", title="Ring of 8 Gaussians")
        axes[1, column].set_xlabel("seconds of processor time per seed")
    axes[0, 1].legend(fontsize=8)
    return figure


def draw_samples(trained: dict[str, Any]) -> Figure:
    """Samples of the first seed (rows: contenders) after more and more gradients (columns)."""
    count = len(next(iter(trained.values())).gradients)
    places = np.unique(np.linspace(0, count - 1, SHOWN).round().astype(int))
    figure, axes = plt.subplots(
        len(trained),
        len(places),
        figsize=(2.1 * len(places), 2.2 * len(trained)),
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for row, (name, each) in zip(axes, trained.items(), strict=True):
        for panel, place in zip(row, places, strict=True):
            panel.plot(*ring.CENTERS.T, "o", color="0.8", markersize=9, zorder=0)
            points = each.samples[place, 0, :1_000].T
            panel.plot(*points, ".", color=_plots.COLORS[0], markersize=2, alpha=0.4)
            panel.set(xlim=(-3, 3), ylim=(-3, 3), aspect="equal", xticks=[], yticks=[])
            panel.set_title(f"{each.gradients[place]:,} gradients", fontsize=8)
        row[0].set_ylabel(name.replace(", ", ",\n"), fontsize=9)
    return figure
