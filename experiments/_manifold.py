"""The losses of Figure 1 and their best responses, exact and linear.

The best response is found by search and differentiated implicitly.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

SEARCHED = 1_001  # points; the neighbors of the best one bracket the minimum
HALVINGS = 60  # of that bracket, until float64 has no number inside
NEAR = 0.1  # in λ, from λ̂

Array = np.ndarray | jax.Array
Number = Any  # a float, or a scalar while it is traced
Scalars = Callable[[jax.Array], jax.Array]  # from a scalar to a scalar


class Response(NamedTuple):
    """A best response w(λ): its weights and losses for each λ, arrays of shape (λs,)."""

    hyperparams: Array
    weights: Array
    train_loss: Array
    valid_loss: Array


class Surfaces(NamedTuple):
    """The two losses over weights (columns) and hyperparameters (rows)."""

    hyperparams: Array
    weights: Array
    train_loss: Array
    valid_loss: Array


class Found(NamedTuple):
    """Findings on the surfaces.

    Attributes:
      slope: dw*/dλ at λ̂.
      gaps: |w*(λ) − w_φ(λ)| at λ̂, λ̂ + NEAR/2 and λ̂ + NEAR.
      places: λ̂, λ_φ* and λ*.
      losses: L_valid(w*(λ)) at each, of weights trained there.
      promised: L_valid(w_φ(λ_φ*)).
    """

    slope: Number
    gaps: list[Number]
    places: list[Number]
    losses: list[Number]
    promised: Number


def train_loss(weight: jax.Array, hyperparam: jax.Array) -> jax.Array:
    """L_train(w, λ), scalars."""
    distance = weight - jnp.sin(hyperparam + jnp.pi)
    return -jnp.logaddexp(-1.0, -(distance**2)) - (hyperparam + jnp.sin(2 * hyperparam)) / 10


def minimizer(function: Scalars, low: Any, high: Any) -> jax.Array:
    """Minimum of a smooth function between two bounds, by a grid and bisection of its slope."""
    grid = jnp.linspace(low, high, SEARCHED)
    best = grid[jnp.argmin(jax.vmap(function)(grid))]
    spacing = grid[1] - grid[0]

    def halve(_: int, bracket: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        middle = (bracket[0] + bracket[1]) / 2
        rises = jax.grad(function)(middle) > 0
        return jnp.where(rises, bracket[0], middle), jnp.where(rises, middle, bracket[1])

    bracket = jax.lax.fori_loop(0, HALVINGS, halve, (best - spacing, best + spacing))
    return jnp.clip(bracket[0], low, high)


def best_response(low: Any, high: Any) -> Scalars:
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
    """Compute all that is drawn and claimed; in float64 where that is on."""
    surfaces, exact, linear, found = jax.device_get(
        _explored(
            (config.weight_low, config.weight_high),
            (config.hyperparam_low, config.hyperparam_high),
            float(config.linearized_at),
            float(config.valid_weight),
            surface_points=config.surface_points,
            curve_points=config.curve_points,
        )
    )
    return surfaces, exact, linear, jax.tree.map(float, found)


# One program for all values, so that the tests compile it once.
@functools.partial(jax.jit, static_argnames=("surface_points", "curve_points"))
def _explored(
    weight_bounds: tuple[float, float],
    hyperparam_bounds: tuple[float, float],
    start: Any,
    valid_weight: Any,
    *,
    surface_points: int,
    curve_points: int,
) -> tuple[Surfaces, Response, Response, Found]:
    exact = best_response(*weight_bounds)
    start = jnp.asarray(start)
    touched, tangent = jax.linearize(exact, start)

    def linear(hyperparam: jax.Array) -> jax.Array:
        return touched + tangent(hyperparam - start)

    def valid_loss(weight: jax.Array) -> jax.Array:
        return -jnp.cos(weight - valid_weight)

    def along(response: Scalars) -> Response:
        path = jnp.linspace(*hyperparam_bounds, curve_points)
        weights = jax.vmap(response)(path)
        return Response(path, weights, train_loss(weights, path), valid_loss(weights))

    def optimum(response: Scalars) -> jax.Array:
        return minimizer(lambda x: valid_loss(response(x)), *hyperparam_bounds)

    weights = jnp.linspace(*weight_bounds, surface_points)
    hyperparams = jnp.linspace(*hyperparam_bounds, surface_points)
    grid = jnp.meshgrid(weights, hyperparams)
    surfaces = Surfaces(hyperparams, weights, train_loss(*grid), valid_loss(grid[0]))
    places = [start, optimum(linear), optimum(exact)]
    beside = [start, start + NEAR / 2, start + NEAR]
    found = Found(
        slope=tangent(jnp.ones(())),
        gaps=[jnp.abs(exact(x) - linear(x)) for x in beside],
        places=places,
        losses=[valid_loss(exact(x)) for x in places],
        promised=valid_loss(linear(places[1])),
    )
    return surfaces, along(exact), along(linear), found
