"""The picture of `games`: paths of both firms, and of strategies in two zero-sum games."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments._plots import COLORS, STYLES

WAYS = {
    "fictitious": ("fictitious play (frequencies)", COLORS[0], "-"),
    "responses": ("best-response dynamics (actions)", COLORS[1], "--"),
    "led": ("leader with a learned response (strategies)", COLORS[2], "-."),
}
CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])  # rock, paper, scissors


def draw(
    quantities: dict[str, tuple[np.ndarray, np.ndarray]],
    stackelberg: tuple[float, float],
    nash: tuple[float, float],
    played: dict[str, Any],
    margin: float,
) -> Figure:
    """Draw all three games.

    Args:
      quantities: of leader and follower after each round, shape (R + 1, S), by method.
      stackelberg: their exact quantities with a leader who knows the response.
      nash: without.
      played: by game, see `games.Played`.
      margin: (a − c)/b, where a firm alone would sell without profit.
    """
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 5))
    _draw_duopoly(left, quantities, stackelberg, nash, margin)
    pennies, rock = played.values()
    for way, (label, color, style) in WAYS.items():
        p, q = getattr(pennies, way)
        _draw_path(middle, p[:, 0], q[:, 0], label, color, style)
        strategies, _ = getattr(rock, way)
        points = strategies @ CORNERS
        _draw_path(right, points[:, 0], points[:, 1], label, color, style)
    middle.plot(0.5, 0.5, "k*", markersize=12, label="equilibrium")
    middle.set(
        xlabel="row player's share of heads",
        ylabel="column player's share of heads",
        title="Matching pennies",
        aspect="equal",
    )
    middle.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), fontsize=8)
    right.plot(*CORNERS.mean(0), "k*", markersize=12, label="equilibrium")
    right.plot(*CORNERS[[0, 1, 2, 0]].T, color="0.7", linewidth=0.8, zorder=0)
    for name, (x, y), align in zip(
        ("rock", "paper", "scissors"), CORNERS, ("right", "left", "center"), strict=True
    ):
        right.text(x, y + (0.03 if y else -0.06), name, ha=align)
    right.set(aspect="equal", xlim=(-0.2, 1.2))
    right.set_title("Rock-paper-scissors, the row player", pad=16)
    right.set_axis_off()
    return figure


def _draw_duopoly(
    axes: Axes,
    quantities: dict[str, tuple[np.ndarray, np.ndarray]],
    stackelberg: tuple[float, float],
    nash: tuple[float, float],
    margin: float,
) -> None:
    """Paths of the first seed, and where each firm's response to the other lies."""
    grid = np.linspace(0, margin, 2)
    axes.plot(grid, (margin - grid) / 2, color="0.6", linewidth=1, label="follower's best response")
    axes.plot((margin - grid) / 2, grid, color="0.6", linewidth=1, linestyle=":", label="leader's")
    for i, (name, (leader, follower)) in enumerate(quantities.items()):
        color, style = COLORS[i % len(COLORS)], STYLES[i // len(COLORS)]
        axes.plot(leader[:, 0], follower[:, 0], color=color, linestyle=style, label=name)
    axes.plot(*stackelberg, "k*", markersize=12, label="Stackelberg")
    axes.plot(*nash, "kD", markersize=7, label="Nash")
    largest = max(np.max(part) for pair in quantities.values() for part in pair)
    axes.set(
        xlabel="leader's quantity",
        ylabel="follower's quantity",
        title="Duopoly (first seed)",
        xlim=(0, 1.1 * max(stackelberg[0], largest)),
        ylim=(-0.1, 1.1 * margin / 2),
    )
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize=8)


def _draw_path(axes: Axes, x: Any, y: Any, label: str, color: str, style: str) -> None:
    axes.plot(x, y, color=color, linestyle=style, linewidth=1.2, alpha=0.9, label=label)
    axes.plot(x[-1], y[-1], "o", color=color, markersize=5)
