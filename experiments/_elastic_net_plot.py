"""The picture of `elastic_net`: a validation loss with kinks, its slope, and test errors."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from experiments._plots import COLORS


def draw(outcomes: dict[str, dict[str, np.ndarray]], path: Any) -> Figure:
    """Draw the first run along l1, and errors of all runs by method.

    Args:
      outcomes: errors of every run by method and split.
      path: see `_elastic_net_path.Path`.
    """
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4.6))
    left.plot(path.l1, path.loss, color=COLORS[0])
    left.set(
        xscale="log",
        xlabel="l1",
        ylabel="validation loss (MSE)",
        title="The loss is continuous\n(first run, exact weights)",
    )
    count = left.twinx()
    count.step(path.l1, path.support, color="0.6", where="mid", linewidth=0.8)
    count.set_ylabel("weights that aren't 0", color="0.5")
    count.grid(visible=False)
    middle.plot(path.l1, path.slope, color=COLORS[1], label="implicit, on the support")
    within = path.within
    middle.plot(
        path.l1[within],
        path.difference[within],
        ".",
        color="0.3",
        markersize=3,
        label="finite differences between kinks",
    )
    middle.set(
        xscale="log",
        xlabel="l1",
        ylabel="d validation loss / d log l1",
        title="Its slope jumps where\nthe support changes",
    )
    middle.legend(fontsize=8)
    names = list(outcomes)
    for i, name in enumerate(names):
        values = outcomes[name]["refitted"]
        right.plot(values, np.full(len(values), i), "o", color=COLORS[0], alpha=0.3, markersize=4)
        right.plot(values.mean(), i, "|", color=COLORS[1], markersize=22, markeredgewidth=2.5)
    right.set_yticks(range(len(names)), names)
    right.invert_yaxis()
    right.set(xlabel="test error (MSE)", title="Refitted on all examples\n(dots: runs, bar: mean)")
    return figure
