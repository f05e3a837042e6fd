r"""Ours: how well one hypernet predicts the losses of trained models, by width and by encoding.

Expect errors of about 0.02 nats with one hyperparameter and 0.1 with ten, the least with ten behind
a circular encoding, and two of three claims not to hold: the errors are more than a tenth of the
spread of the trained models, and with ten standardized λ do no better than the paper's start.

    python -m experiments.best_response_error --config=configs/best_response_error.py:idx \
      --workdir=DIR

takes about a quarter of an hour of one core, half of it to compile. Step sizes are searched in the
run; nothing else was.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(data: str = "mnist_5k") -> ConfigDict:
    """Softmax regression on images of 14 x 14 pixels with 1 to 10 hyperparameters."""
    quick = data == "quick"
    encodings = ("paper", "none", "standardized", "learned bounds", "circular")
    return ConfigDict(
        common.source(data)
        | {
            "train_examples": 50 if quick else 1_000,
            "valid_examples": 50 if quick else 10_000 if data in common.FULL else 2_000,
            "decay": (1e-5, 1.0),  # ends of log-uniform p(λ)
            "smoothing": (1e-3, 0.5),  # likewise; share of the labels that all classes share
            "init_scale": 0.01,  # of the weights
            "numbers": (1, 5) if quick else (1, 2, 5, 10),  # of hyperparameters
            "widths": (2, 4) if quick else (8, 64),  # hidden units of the hypernets
            "encodings": ("paper", "standardized") if quick else encodings,
            # The hypernets: Adam, falling to 0 on a cosine, from the best of these for each.
            "hypernet_learning_rates": (1e-3,) if quick else (1e-3, 3e-3, 1e-2),
            "steps": 20 if quick else 2_000,  # updates of each hypernet
            "samples": 4,  # λ for each update
            "batch_size": 10 if quick else 100,
            # The models that they are held against, each trained from new weights.
            "held_out": 3 if quick else 12,  # λ, drawn from p(λ)
            "learning_rate": 3e-2,  # Adam, falling to 0 on a cosine
            "train_steps": 20 if quick else 2_000,  # on all training images
            "seeds": (0,) if quick else (0, 1, 2),  # of the hypernets
        }
    )
