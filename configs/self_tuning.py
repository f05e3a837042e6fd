"""Seventeen hyperparameters of a LeNet, tuned in one run by self_tuning and by searches.

Of our own, after the set-ups of arXiv:1903.03088 and arXiv:2010.13514. Everything starts from next
to no regularization. Each method's choice is trained again on training and validation images
together, from new weights, and only then tested. The searches get `budget` times the gradient
evaluations of the tuning.

    python -m experiments.self_tuning --config=configs/self_tuning.py:idx --workdir=DIR

Settings are those of arXiv:2010.13514 (5 inner steps to a round, RMSprop, σ of 1, τ of 1e-3), but
for a hyper learning rate of 0.03 in place of 0.01, as a run here is shorter than theirs, and Adam
in place of SGD with momentum for the weights, of the baselines too. Nothing was chosen by the test
images.
"""

from ml_collections import ConfigDict

from configs import common

EVERY = (
    "translate",
    "rotate",
    "scale",
    "cutout",
    "contrast",
    "input_noise",
    "label_smoothing",
    "dropout",
    "weight_decay",
)


def get_config(data: str = "mnist_5k") -> ConfigDict:
    """Sizes, and settings of the network, the searches and the tuning."""
    quick, full = data == "quick", data in common.FULL
    return ConfigDict(
        common.sizes(data)
        | {
            "seeds": (0, 1) if quick else (0, 1, 2),
            "channels": (2, 2) if quick else (6, 16),  # of the LeNet's convolutions
            "hidden": (4, 4) if quick else (120, 84),  # units of its dense layers
            "regularizers": ("label_smoothing", "dropout", "weight_decay") if quick else EVERY,
            "batch_size": 20 if quick else 100,
            "learning_rate": 2e-3,  # Adam on a cosine, for all networks
            "train_steps": 4 if quick else 6_000 if full else 1_500,  # of an inner run of a search
            "train_again_steps": 4 if quick else 12_000 if full else 3_000,  # of what is tested
            # The baselines: a grid of one decay, and searches.
            "decays": (1e-5, 1e-3) if quick else (1e-6, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
            "searches": ("random search",) if quick else ("random search", "TPE"),
            "budget": 1.0,  # of a search, in gradient evaluations of the tuning
            # Self-tuning.
            "rounds": 2 if quick else 2_400 if full else 900,  # updates of λ
            "inner_steps": 5,  # updates of the weights in a round
            "valid_batch_size": 20 if quick else 100,
            "warmup_rounds": 1 if quick else 100,  # in which λ stands still
            "evaluations": 2 if quick else 40,  # of the losses, on the way
            "response_learning_rate": 1e-3,  # Adam
            "hyper_learning_rate": 0.03,  # RMSprop
            "scale": 1.0,  # σ of the λ of each example, at first
            "entropy_weight": 1e-3,  # τ, which keeps σ from going to 0
        }
    )
