"""How sure a Bayesian hypernet may be of the validation loss at each λ (ours).

The paper leaves the uncertainty of hypernets to be done. Expect the posterior's own intervals to
hold 65 % of trained models where 90 % is meant, for they leave out that the hypernet can't make
every best response; and, scaled by a number for each end that comes of 200 other trained models, to
hold 90.5 %, three fifths as wide as intervals that are as wide everywhere. A Gaussian process of
the 200 losses is narrower still.

    python -m experiments.uncertain_response --config=configs/uncertain_response.py --workdir=DIR

takes some minutes on 2 cores; `:quick` takes seconds, and judges no claim. N and the number of
waves were chosen on 60 models, none of them among those of the figure.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(data: str = "mnist_5k") -> ConfigDict:
    """Sizes and settings; the problem's are those of `exploration`."""
    quick = data == "quick"
    return ConfigDict(
        common.turned_digits(data)
        | {
            "seeds": (0, 1) if quick else (0, 1, 2),  # of the hypernets
            "rounds": 2 if quick else 500,
            "inner_steps": 20,  # updates of φ in a round
            "samples": 4,  # λ of an update
            "hypernet_learning_rate": 1e-2,  # Adam on a cosine
            "draws": 20 if quick else 100,  # hypernets from the posterior
            "calibration": 20 if quick else 200,  # models that intervals are scaled by
            "few": 20 if quick else 25,  # of these, where there are but few
            "held_out": 30 if quick else 500,  # models that are to lie in them
            "curve_decay": -6.0,  # log decay of the curve that is drawn
            "curve_points": 5 if quick else 37,  # angles, of models and of the curve
        }
    )
