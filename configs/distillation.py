"""Data set distillation: one image for each class that trains a model (Lorraine et al., 2020).

Expect ten distilled images to train a linear model that classifies far better than one trained on
ten real images or on the means of the classes, though not as well as on all images.

    python -m experiments.distillation --config=configs/distillation.py:idx --workdir=DIR

takes some minutes on 2 cores, on all 60,000 training images (`mnist` likewise). Without a word
after the colon it takes the 4,000 of `mnist_5k`; `:quick` takes seconds, and judges no claim.

As in Lorraine et al. (arXiv:1911.02590) it is a linear model with a decay of e⁻⁴; they
take 10,000 steps of λ, and these are 1,000. Step sizes were not searched.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(data: str = "mnist_5k") -> ConfigDict:
    """Images, and settings of both levels."""
    quick = data == "quick"
    train, valid, test = (10_000, 50_000, 10_000) if data in common.FULL else (1_000, 3_000, 1_000)
    if quick:
        train = valid = test = 100
    return ConfigDict(
        common.source(data)
        | {
            "train_examples": train,  # the images to be stood for are these
            "valid_examples": valid,  # and these
            "test_examples": test,
            "methods": ("implicit", "centered"),
            "decay": -4.0,  # log decay of all weights
            "rounds": 10 if quick else 1_000,  # updates of the distilled images
            "inner_steps": 10,  # updates of the weights in a round
            "batch_size": 50 if quick else 500,  # real images of a round
            "learning_rate": 0.01,  # Adam
            "hyper_learning_rate": 0.02,  # Adam on a cosine
            "products": 10,  # of conjugate gradients
            "refresh_every": 50,  # rounds, of the Kronecker factors
            "start": 0.1,  # standard deviation of the pixels that distillation starts from
            "evaluations": 2 if quick else 20,
            # Training from scratch.
            "steps": 20 if quick else 2_000,  # Adam, full batch; minibatches of all images
            "scratch_decays": (-8.0, -4.0, -2.0),  # log; each rival has the best, by test images
            "hidden": 4 if quick else 100,  # units of another network on the same images
            "real_draws": 2 if quick else 10,  # sets of ten real images
        }
    )
