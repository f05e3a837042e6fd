"""The picture of `loss_manifold`: two surfaces with lines on them, and a profile."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from experiments._manifold import Array, Found, Response, Surfaces
from experiments._plots import COLORS


def draw(surfaces: Surfaces, exact: Response, linear: Response, found: Found) -> Figure:
    """Both losses with the best responses on them, and the profiles of the validation loss."""
    figure = plt.figure(figsize=(13, 5))
    grid = figure.add_gridspec(1, 3, width_ratios=(1.15, 1.15, 1))
    # What lies on a surface is as deep as the surface, so the order is given: lines last.
    train = figure.add_subplot(grid[0], projection="3d", computed_zorder=False)
    valid = figure.add_subplot(grid[1], projection="3d", computed_zorder=False)
    profile = figure.add_subplot(grid[2])

    # Beyond the picture's weights there is no surface for the line to lie on.
    shown = np.abs(linear.weights - np.mean(surfaces.weights)) <= np.ptp(surfaces.weights) / 2
    shown = Response(*(np.where(shown, value, np.nan) for value in linear))
    for response, color, line, label in (
        (exact, COLORS[0], "-", r"exact best response $w^*(\lambda)$"),
        (shown, COLORS[1], "--", r"linear best response $w_\phi(\lambda)$"),
    ):
        look = {"color": color, "linestyle": line, "linewidth": 2.5}
        train.plot(response.weights, response.hyperparams, response.train_loss, **look)
        valid.plot(response.weights, response.hyperparams, response.valid_loss, **look)
        profile.plot(response.hyperparams, response.valid_loss, label=label, **look)
    _draw_surface(train, surfaces, surfaces.train_loss)
    _draw_surface(valid, surfaces, surfaces.valid_loss)

    start, linear_optimum, optimum = found.places
    for response, place, color, mark, name in (
        (exact, start, "0.1", "o", r"$\hat\lambda$"),
        (exact, optimum, COLORS[0], "s", r"$\lambda^*$"),
        (linear, linear_optimum, COLORS[1], "D", r"$\lambda_{\phi^*}$"),
    ):
        weight, train_loss, valid_loss = (
            np.interp(place, response.hyperparams, values) for values in response[1:]
        )
        look = {"color": color, "marker": mark, "markersize": 8, "markeredgecolor": "white"}
        train.plot([weight], [place], [train_loss], **look)
        valid.plot([weight], [place], [valid_loss], **look)
        profile.plot([place], [valid_loss], linestyle="", label=name, **look)
    train.set_title(r"Training loss $L_\mathrm{train}(w, \lambda)$")
    valid.set_title(r"Validation loss $L_\mathrm{valid}(w)$")
    profile.set(
        title="Validation loss along each response",
        xlabel=r"hyperparameter $\lambda$",
        ylabel="loss",
    )
    figure.legend(loc="outside lower center", ncols=5)
    return figure


def _draw_surface(axes: Any, surfaces: Surfaces, losses: Array) -> None:
    axes.plot_surface(
        *np.meshgrid(surfaces.weights, surfaces.hyperparams),
        losses,
        rstride=1,
        cstride=1,
        cmap="Greys",
        # Only its light third, on which the lines stand out.
        vmin=losses.min(),
        vmax=losses.min() + 3 * np.ptp(losses),
        edgecolor="0.6",
        linewidth=0.2,
        zorder=0,
    )
    axes.view_init(elev=40, azim=120)
    axes.set_box_aspect((1, 1, 0.75), zoom=1.05)
    axes.grid(visible=False)
    axes.locator_params(nbins=4)
    axes.set(xlabel="weight $w$", ylabel=r"hyperparameter $\lambda$")
