"""Figure 1 of the paper: both losses over weight and hyperparameter, and two best responses.

    L_train(w, λ) = −logaddexp(−1, −(w − sin(λ + π))²) − (λ + sin 2λ)/10
    L_valid(w) = −cos(w − w_v)

L_valid depends on w alone, as the theory has it. With w_v = −π/2 it is the sin w of the authors'
script, but there λ* and λ_φ* happen to be equal, so the config takes another w_v. The best response
is found by search and differentiated implicitly; its closed form, sin(λ + π), only checks it.

python -m experiments.loss_manifold --config=configs/loss_manifold.py --workdir=DIR
"""

import math
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from experiments import launch, report

SEARCHED = 1_001  # points; the neighbors of the best one bracket the minimum
HALVINGS = 60  # of that bracket, until float64 has no number inside
ROUNDING = 1e-9  # ample for what is computed in float64
NEAR = 0.1  # in λ, from λ̂

Scalars = Callable[[jax.Array], jax.Array]  # from a scalar to a scalar


class Response(NamedTuple):
    """A best response w(λ): its weights and losses for each λ, arrays of shape (λs,)."""

    hyperparams: np.ndarray
    weights: np.ndarray
    train_loss: np.ndarray
    valid_loss: np.ndarray


class Surfaces(NamedTuple):
    """The two losses over weights (columns) and hyperparameters (rows)."""

    hyperparams: np.ndarray
    weights: np.ndarray
    train_loss: np.ndarray
    valid_loss: np.ndarray


class Found(NamedTuple):
    """What was found on the surfaces.

    Attributes:
      slope: dw*/dλ at λ̂.
      gaps: |w*(λ) − w_φ(λ)| at λ̂, λ̂ + NEAR/2 and λ̂ + NEAR.
      places: λ̂, λ_φ* and λ*.
      losses: L_valid(w*(λ)) at each: what training with that λ gives.
      promised: L_valid(w_φ(λ_φ*)).
    """

    slope: float
    gaps: list[float]
    places: list[float]
    losses: list[float]
    promised: float


def run(config: ConfigDict, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Searches the best response, follows its tangent at λ̂, and draws both on the two losses."""
    del resume  # there is nothing to go on with in a few seconds' work
    _require_sensible(config)
    with jax.enable_x64(True):
        surfaces, exact, linear, found = explore(config)
    report.save_figure(_draw(surfaces, exact, linear, found), workdir, "loss_manifold")
    report.save_arrays(
        workdir,
        "loss_manifold",
        {
            **{f"surface_{name}": value for name, value in surfaces._asdict().items()},
            **{f"exact_{name}": value for name, value in exact._asdict().items()},
            **{f"linear_{name}": value for name, value in linear._asdict().items()},
        },
    )

    error = float(np.max(np.abs(exact.weights - np.sin(exact.hyperparams + np.pi))))
    start, linear_optimum, optimum = found.places
    apart, nearer, near = found.gaps
    order = float(np.log2(near / nearer))
    worst = np.abs(exact.weights - linear.weights)
    known = float(np.cos(start + np.pi))
    return {
        "claims": [
            report.claim(
                "The best response is w = sin(λ + π).",
                f"what the search found is within {error:.1g} of it, at {exact.weights.size} λ "
                f"from {exact.hyperparams[0]:.2f} to {exact.hyperparams[-1]:.2f}",
                holds=error <= ROUNDING,
            ),
            report.claim(
                "The linear best response agrees with it at λ̂, and is wrong away from it.",
                f"at λ̂ = {start:g} they are {apart:.1g} apart and the slope, {found.slope:.6f}, is "
                f"off by {abs(found.slope - known):.1g}; {NEAR} from λ̂ they are {near:.2g} apart, "
                f"a distance of order {order:.1f}, and {worst.max():.2f} at "
                f"λ = {exact.hyperparams[np.argmax(worst)]:.2f}",
                # Another line through the same point would part from the curve at order 1.
                holds=apart <= ROUNDING and abs(found.slope - known) <= ROUNDING and order > 1.5,
            ),
            report.claim(
                "λ_φ* lies near λ*: nearer than λ̂ does, and trained weights validate better there.",
                f"λ̂ = {start:.3f}, λ_φ* = {linear_optimum:.3f}, λ* = {optimum:.3f}; the validation "
                "loss of weights trained there is "
                + ", ".join(f"{loss:.3f}" for loss in found.losses)
                + f" (the linear response promised {found.promised:.3f} at λ_φ*)",
                holds=abs(linear_optimum - optimum) < abs(start - optimum)
                and found.losses[1] < found.losses[0],
            ),
        ],
        "best_response_error": error,
        "slope": found.slope,
        "linear_optimum": linear_optimum,
        "optimum": optimum,
    }


def train_loss(weight: jax.Array, hyperparam: jax.Array) -> jax.Array:
    """L_train(w, λ), scalars."""
    distance = weight - jnp.sin(hyperparam + jnp.pi)
    return -jnp.logaddexp(-1.0, -(distance**2)) - (hyperparam + jnp.sin(2 * hyperparam)) / 10


def minimizer(function: Scalars, low: float, high: float) -> jax.Array:
    """Where a smooth function is least between two bounds: a grid, then bisection of its slope."""
    grid = jnp.linspace(low, high, SEARCHED)
    best = grid[jnp.argmin(jax.vmap(function)(grid))]
    spacing = grid[1] - grid[0]

    def halve(_: int, bracket: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        middle = (bracket[0] + bracket[1]) / 2
        rises = jax.grad(function)(middle) > 0
        return jnp.where(rises, bracket[0], middle), jnp.where(rises, middle, bracket[1])

    bracket = jax.lax.fori_loop(0, HALVINGS, halve, (best - spacing, best + spacing))
    return jnp.clip(bracket[0], low, high)


def best_response(low: float, high: float) -> Scalars:
    """w*(λ) = argmin_w L_train(w, λ), with dw*/dλ = −(∂²L_train/∂w²)⁻¹ ∂²L_train/∂w∂λ."""

    def response(hyperparam: jax.Array) -> jax.Array:
        def loss(weight: jax.Array) -> jax.Array:
            return train_loss(weight, hyperparam)

        return jax.lax.custom_root(
            jax.grad(loss),
            jnp.zeros(()),
            solve=lambda slope, start: minimizer(loss, low, high),
            tangent_solve=lambda curvature, cross: cross / curvature(jnp.ones(())),
        )

    return response


def explore(config: Any) -> tuple[Surfaces, Response, Response, Found]:
    """Computes all that is drawn and claimed; in float64 where that is on."""
    low, high = config.hyperparam_low, config.hyperparam_high
    start = jnp.asarray(config.linearized_at)
    exact = jax.jit(best_response(config.weight_low, config.weight_high))
    touched, tangent = jax.linearize(exact, start)

    def linear(hyperparam: jax.Array) -> jax.Array:
        return touched + tangent(hyperparam - start)

    def valid_loss(weight: jax.Array) -> jax.Array:
        return -jnp.cos(weight - config.valid_weight)

    @jax.jit
    @jax.vmap
    @jax.vmap
    def losses(weight: jax.Array, hyperparam: jax.Array) -> tuple[jax.Array, jax.Array]:
        return train_loss(weight, hyperparam), valid_loss(weight)

    def along(response: Scalars) -> Response:
        path = jnp.linspace(low, high, config.curve_points)
        weights = jax.vmap(response)(path)
        train, valid = losses(weights[None], path[None])
        return Response(*map(np.asarray, (path, weights, train[0], valid[0])))

    def optimum(response: Scalars) -> jax.Array:
        return jax.jit(lambda: minimizer(lambda x: valid_loss(response(x)), low, high))()

    weights = jnp.linspace(config.weight_low, config.weight_high, config.surface_points)
    hyperparams = jnp.linspace(low, high, config.surface_points)
    surfaces = Surfaces(
        *map(np.asarray, (hyperparams, weights, *losses(*jnp.meshgrid(weights, hyperparams))))
    )
    places = [start, optimum(linear), optimum(exact)]
    beside = [start, start + NEAR / 2, start + NEAR]
    found = Found(
        slope=float(tangent(jnp.ones(()))),
        gaps=[float(jnp.abs(exact(x) - linear(x))) for x in beside],
        places=[float(x) for x in places],
        losses=[float(valid_loss(exact(x))) for x in places],
        promised=float(valid_loss(linear(places[1]))),
    )
    return surfaces, along(exact), along(linear), found


def _require_sensible(config: Any) -> None:
    for name, value in config.items():
        if not math.isfinite(value):
            raise ValueError(f"{name} must be finite, got {value}.")
    if not (config.weight_low < -1 and config.weight_high > 1):
        raise ValueError(
            "weight_low and weight_high must reach beyond -1 and 1, between which the best "
            f"responses lie, got {config.weight_low} and {config.weight_high}."
        )
    if not config.hyperparam_low < config.linearized_at < config.hyperparam_high:
        raise ValueError(
            "linearized_at must lie between hyperparam_low and hyperparam_high, got "
            f"{config.linearized_at}, {config.hyperparam_low} and {config.hyperparam_high}."
        )
    if min(config.surface_points, config.curve_points) < 2:
        raise ValueError(
            "surface_points and curve_points must be 2 or more, got "
            f"{config.surface_points} and {config.curve_points}."
        )


def _draw(surfaces: Surfaces, exact: Response, linear: Response, found: Found) -> Figure:
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
        (exact, report.COLORS[0], "-", r"exact best response $w^*(\lambda)$"),
        (shown, report.COLORS[1], "--", r"linear best response $w_\phi(\lambda)$"),
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
        (exact, optimum, report.COLORS[0], "s", r"$\lambda^*$"),
        (linear, linear_optimum, report.COLORS[1], "D", r"$\lambda_{\phi^*}$"),
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


def _draw_surface(axes: Any, surfaces: Surfaces, losses: np.ndarray) -> None:
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


if __name__ == "__main__":
    launch.main(run)
