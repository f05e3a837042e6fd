"""The picture of `deeper_networks`: a column of losses for each network."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from experiments import _plots
from experiments._network_runs import Network, losses
from experiments._plots import COLORS


def draw(found: list[Network]) -> Figure:
    """Validation and test loss (rows) of each network (columns) against compute."""
    width = 4.2 * len(found) + 0.8
    figure, axes = plt.subplots(
        2, len(found), figsize=(width, 7.5), sharex="col", sharey="col", squeeze=False
    )
    for column, network in enumerate(found):
        for row, name in enumerate(_plots.SPLITS.values()):
            panel, place = axes[row, column], row + 1
            for history, color, mark, label in (
                (network.tuned, COLORS[0], "o", "hyper-training, tuned"),
                (network.paper, COLORS[1], "s", "hyper-training, paper"),
                (network.factorized, COLORS[3], "^", "paper's hypernet, tuned"),
            ):
                look = {"color": color, "marker": mark, "markersize": 3.5}
                cost = history.gradient_evaluations.mean(1)
                _plots.seed_line(panel, cost, losses(history)[place], label, **look)
            for at, color, style, label in (
                (network.grid.losses[network.best], "0.2", "--", "best single decay of a grid"),
                (
                    network.retrained.losses,
                    COLORS[2],
                    "-.",
                    r"trained again at the tuned $\hat\lambda$",
                ),
            ):
                panel.axhline(at[:, place].mean(), color=color, linestyle=style, label=label)
            panel.set(yscale="log", ylabel=f"{name} loss (MSE)" if column == 0 else "")
        axes[0, column].set_title(network.name)
        axes[1, column].set_xlabel("gradient evaluations per seed")
    _plots.legend_below(figure, axes[0, 0], columns=2)
    return figure
