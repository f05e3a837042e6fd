"""Fifty validation images fitted by hyperparameters alone (Lorraine, Vicol and Duvenaud, 2020).

Their check that thousands of hyperparameters are tuned at all: weights are trained on 50 images, a
decay for each weight on 50 others, and the accuracy on these must come to 100 %. It says nothing of
test images, and is no way to choose decays.

    python -m experiments.overfit_validation --config=configs/overfit_validation.py --workdir=DIR

takes a minute or two on 2 cores. Their settings but for images, sizes of the networks, the number
of rounds and a step size that falls: T1 − T2, 5 steps of Adam 1e-4 for each of λ's, by PyTorch's
RMSprop, 1e-2. `--config.models='("linear","mlp","lenet")'` takes ten minutes.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(size: str = "full") -> ConfigDict:
    """Images, networks, and settings of both levels."""
    quick = common.is_quick("overfit_validation", size)
    return ConfigDict(
        common.source("quick" if quick else "mnist_5k")
        | {
            "train_examples": 50,
            "valid_examples": 50,
            "test_examples": 100 if quick else 1_000,
            "models": ("linear", "mlp"),  # and "lenet"
            "hidden": 10 if quick else 100,  # units of the MLP
            "start": -4.0,  # log decay of every weight
            "rounds": 5 if quick else 3_000,  # updates of λ
            "inner_steps": 5,  # updates of the weights in a round
            "learning_rate": 1e-4,  # Adam
            "hyper_learning_rate": 1e-2,  # RMSprop on a cosine
            "evaluations": 5 if quick else 60,  # of the losses, on the way
        }
    )
