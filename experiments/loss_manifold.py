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
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments import _launch, _loss_manifold_plot, _plots, _results
from experiments._manifold import NEAR, Found, Response, explore

NAME = "loss_manifold"
ROUNDING = 1e-9  # ample for what is computed in float64


def run(config: ConfigDict, workdir: pathlib.Path, *, resume: bool = False) -> dict[str, Any]:
    """Search the best response, follow its tangent at λ̂, and draw both on the two losses."""
    del resume  # a few seconds' work
    _require_sensible(config)
    with jax.enable_x64(True):
        surfaces, exact, linear, found = explore(config)
    figure = _loss_manifold_plot.draw(surfaces, exact, linear, found)
    _plots.save_figure(figure, workdir, NAME)
    _results.save_arrays(
        workdir,
        NAME,
        {
            **{f"surface_{name}": value for name, value in surfaces._asdict().items()},
            **{f"exact_{name}": value for name, value in exact._asdict().items()},
            **{f"linear_{name}": value for name, value in linear._asdict().items()},
        },
    )
    error = float(np.max(np.abs(exact.weights - np.sin(exact.hyperparams + np.pi))))
    _, linear_optimum, optimum = found.places
    return {
        "main": {"λ_φ*": linear_optimum, "λ*": optimum, "slope": found.slope},
        "claims": [
            _claim_exact(exact, error),
            _claim_tangent(exact, linear, found),
            _claim_optima(found),
        ],
        "best_response_error": error,
        "slope": found.slope,
        "linear_optimum": linear_optimum,
        "optimum": optimum,
    }


def _claim_exact(exact: Response, error: float) -> dict[str, Any]:
    return _results.claim(
        "The best response is w = sin(λ + π).",
        f"what the search found is within {error:.1g} of it, at {exact.weights.size} λ "
        f"from {exact.hyperparams[0]:.2f} to {exact.hyperparams[-1]:.2f}",
        holds=error <= ROUNDING,
    )


def _claim_tangent(exact: Response, linear: Response, found: Found) -> dict[str, Any]:
    start = found.places[0]
    apart, nearer, near = found.gaps
    order = float(np.log2(near / nearer))
    worst = np.abs(exact.weights - linear.weights)
    known = float(np.cos(start + np.pi))
    return _results.claim(
        "The linear best response agrees with it at λ̂, and is wrong away from it.",
        f"at λ̂ = {start:g} they are {apart:.1g} apart and the slope, {found.slope:.6f}, is "
        f"off by {abs(found.slope - known):.1g}; {NEAR} from λ̂ they are {near:.2g} apart, "
        f"a distance of order {order:.1f}, and {worst.max():.2f} at "
        f"λ = {exact.hyperparams[np.argmax(worst)]:.2f}",
        # Another line through the same point would part from the curve at order 1.
        holds=apart <= ROUNDING and abs(found.slope - known) <= ROUNDING and order > 1.5,
    )


def _claim_optima(found: Found) -> dict[str, Any]:
    start, linear_optimum, optimum = found.places
    return _results.claim(
        "λ_φ* lies near λ*: nearer than λ̂ does, and trained weights validate better there.",
        f"λ̂ = {start:.3f}, λ_φ* = {linear_optimum:.3f}, λ* = {optimum:.3f}; the validation "
        "loss of weights trained there is "
        + ", ".join(f"{loss:.3f}" for loss in found.losses)
        + f" (the linear response promised {found.promised:.3f} at λ_φ*)",
        holds=abs(linear_optimum - optimum) < abs(start - optimum)
        and found.losses[1] < found.losses[0],
    )


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


if __name__ == "__main__":
    _launch.main(run)
