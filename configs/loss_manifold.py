"""Figure 1: the losses over weight and hyperparameter (Lorraine and Duvenaud, 2018, section 2).

Expect the numerical best response to be sin(λ + π) to rounding, its linearization at λ̂ = 0 to be
−λ, and λ_φ* = 1.2 near λ* = π/2.

    python -m experiments.loss_manifold --config=configs/loss_manifold.py --workdir=DIR

takes about ten seconds; it needs no data.
"""

import math

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The authors' ranges; the weight that validates best is ours."""
    return ConfigDict(
        {
            "weight_low": -2.0,
            "weight_high": 2.0,
            "hyperparam_low": -math.pi,
            "hyperparam_high": math.pi,
            "linearized_at": 0.0,  # λ̂
            # The authors' validation loss, sin w, is that of −π/2: then λ* and λ_φ* are the same.
            # Between −1 and 1 the best response would pass it twice, and λ* be either place.
            "valid_weight": -1.2,
            "surface_points": 41,  # along each side
            "curve_points": 401,
        }
    )
