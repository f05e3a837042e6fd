"""Finding the angle of a camera where gradients lead to a wrong one (ours).

The paper leaves exploration under uncertainty to be done. The validation loss has minima at wrong
angles, and hyper-training starts near one of them. Expect Algorithms 2 and 3 to end at wrong
angles, and the choice of λ by drawn hypernets, or by their most hopeful, to find the right one
within 375 evaluations, where Bayesian optimization takes 1,750 and ends with the better decay
(models trained there: 0.370 against 0.385). A choice by the mean alone does as well: it isn't the
uncertainty.

    python -m experiments.exploration --config=configs/exploration.py --workdir=DIR

takes some minutes on 2 cores; `:quick` takes seconds, and judges no claim. Step sizes and scales of
sampling were set once, by hand, on the first seeds.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(data: str = "mnist_5k") -> ConfigDict:
    """Sizes and settings; the problem's are those of `uncertain_response`."""
    quick = data == "quick"
    return ConfigDict(
        common.turned_digits(data)
        | {
            "waves": 2 if quick else 4,
            "seeds": (0, 1) if quick else (0, 1, 2, 3, 4),
            "start": -92.0,  # degrees; its log decay is in the middle of p(λ)
            # Of every method, gradient evaluations on one minibatch for one λ, and losses of λ to
            # choose from.
            "budget": 400 if quick else 8_000,
            "points": 2 if quick else 20,  # along it, where losses are measured
            "inner_steps": 5 if quick else 20,  # updates of φ in a round
            "samples": 2,  # λ of an update
            "candidates": 4 if quick else 32,  # λ to choose from in a round, by all draws together
            "optimistic_draws": 2 if quick else 4,
            "hypernet_learning_rate": 1e-2,  # Adam, on a cosine to a tenth of it
            "hyper_learning_rate": 3e-2,  # Adam
            "second_phase": 4 if quick else 200,  # rounds of Algorithm 2 that move λ̂
            # p(λ | λ̂): standard deviations, in radians and in log decay.
            "angle_scale": 0.3,
            "decay_scale": 0.5,
            "search_steps": 20 if quick else 250,  # of a trial
            "around": 10 if quick else 73,  # angles at which models are trained for the picture
        }
    )
