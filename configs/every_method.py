"""Every method on every problem of two levels whose answer is known exactly.

Expect each method to arrive within 1 % of the loss that was to be gained, or the library to say in
words why it doesn't apply, or the table to say why it aims at another point or falls short. All
have the same budget of gradient evaluations, the best of the same few step sizes, and each world's
own optimizer of the weights, at 1 / its largest curvature or less.

    python -m experiments.every_method --config=configs/every_method.py --workdir=DIR

takes about ten minutes of one core, nearly all of it compilation; it needs no data. With `:quick`
it takes seconds, runs three methods on two worlds, and judges no claim.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import common


def get_config(size: str = "full") -> ConfigDict:
    """The worlds, and what all methods share; all ours."""
    quick = common.is_quick("every_method", size)
    return ConfigDict(
        {
            "judged": not quick,
            # Names of worlds and methods to run; empty for all.
            "worlds": ("duopoly", "Dirac-GAN") if quick else (),
            "methods": ("implicit, identity", "self_tuning", "grid_search") if quick else (),
            "seeds": (0,) if quick else (0, 1, 2),
            "budget": 2_000 if quick else 40_000,  # gradient evaluations of a run, at most
            "inner_steps": 10,  # training steps in a round of a method that goes on
            "steps": 100,  # of a whole training, for those that start again in every round
            # Step sizes that are tried: Adam on a cosine, but for hoag, which adapts its own.
            "hyper_rates": (0.1,) if quick else (0.03, 0.1, 0.3),  # of λ̂
            "hypernet_rates": (0.01,) if quick else (0.005, 0.02),  # of φ
            "sampling_scale": 0.3,  # of local_response and its kin, and of self_tuning
            "hypernet_share": 0.9,  # of the rounds of global_response that train φ
            "examples": 1e4,  # N of exploring_response
            "products": 10,  # of conjugate_gradient, neumann, nystrom, hoag and kronecker
            "damping": 0.01,  # of nystrom
            "multiplier": 100.0,  # of f2sa
            "trials": 40,  # of bayesian, at most, whose own cost grows with their cube
        }
        | _worlds()
    )


def _worlds() -> dict[str, Any]:
    """What each world is made of; step sizes are those of the weights."""
    return {
        "duopoly": {"intercept": 4.0, "slope": 1.0, "cost": 1.0, "start": 0.25},
        # The decay is γ = decay · step_size / 4.
        "dirac": {"decay": 1.0, "step_size": 2.0, "start": 1.0},
        "pennies": {"temperature": 0.5, "start": (0.5, -0.5), "step_size": 2.0},
        "prediction": {
            "columns": (2, 8, 10),  # of diabetes: body mass, a blood lipid, ones
            "rows": 30,
            "cost": 10.0,  # γ
            "lengths": (0.1, 10.0),  # of the prior
            "step_size": 0.02,
        },
        "net": {
            "features": 10,
            "active": 3,
            "correlation": 0.5,
            "ratio": 2.0,
            "sizes": (40, 30, 1),  # of train, valid and test
            "seed": 8,
            "low": 1e-2,
            "high": 1e1,
            "grid": 15,  # points of each side, from which the exact decays are searched
            "start": {"l1": 0.02, "l2": 0.02},
        },
        "regression": {
            "seed": 7,
            "sizes": (1.0, 0.3),  # of the weights of each target
            "features": 8,
            "examples": 20,
            "noise": 2.0,
            "low": 1e-3,
            "high": 1e1,
            "start": 0.02,
            "grid": 15,
            "step_size": 0.1,
        },
        "distillation": {
            "seed": 0,
            "weights": (0.6, -0.4, 0.5),
            "examples": 40,
            "noise": 0.5,
            "decay": 0.1,
            "start_scale": 0.5,
            "step_size": 0.4,
        },
        "maml": {
            "tasks": 6,
            "dimensions": 3,
            "steps": 5,  # of MAML
            "proximity": 0.5,  # ρ of implicit MAML
            "start": 2.0,  # every entry of θ
            "step_size": 0.1,
        },
    }
