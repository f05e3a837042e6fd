r"""Ours: the wider the hypernet, the nearer to the best response (the theorem of section 3.1).

Expect the mean error of both problems to fall with every doubling of the width.

    python -m experiments.hypernet_capacity --config=configs/hypernet_capacity.py:mnist \
      --workdir=DIR

takes about three minutes on 2 cores with any data, and with `:quick` some seconds.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(variant: str = "mnist_5k") -> ConfigDict:
    """The paper's small problem, with one decay of ‖w‖, and the linear one, with one of Σ w²."""
    quick = variant == "quick"
    small = common.small_problem("mnist_5k" if quick else variant)
    full_size = small.data != "mnist_5k"
    return ConfigDict(
        common.source(variant)
        | {
            "norm_examples": small.train_examples,
            "ridge_examples": 10_000 if full_size else 500 if quick else 3_000,
            # p(λ) is uniform between these, and the error is a mean over a grid there. Above 3.5
            # the best weights of the small problem are zero, and a relative error means nothing.
            "norm_low": -2.0,
            "norm_high": 3.0,
            "ridge_low": -3.0,
            "ridge_high": 3.0,
            "grid_points": 11 if quick else 61,
            "cross_learning_rate": small.cross_learning_rate,
            "cross_steps": 100 if quick else small.cross_steps,
            "seeds": (0, 1) if quick else (0, 1, 2),
            "widths": (1, 4) if quick else (1, 2, 4, 8, 16, 32),  # hidden units of the hypernets
            # Adam, falling to 0 on a cosine. At 3e-3 and above some narrow hypernets lose all of
            # their units (of 1e-3, 3e-3 and 1e-2, standard order). With half of the steps and more
            # samples in each, training and not width limits the widest: 0.016 for `norm`.
            "hypernet_learning_rate": 1e-3,
            "steps": 200 if quick else 10_000,  # updates of each hypernet
            "inner_steps": 50,  # updates in a round of fit
            "samples": 4,  # λ for each update
        }
    )
