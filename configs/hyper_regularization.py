r"""Ours: a prior that holds the decays of a layer together, 784-100-10 (the paper's future work).

Expect validation and test loss in the run to fall the less, the tighter the prior, the loss after
training again on all images to be lowest with a tight one, and one decay of a fine grid to be as
good.

    python -m experiments.hyper_regularization --config=configs/hyper_regularization.py:idx \
        --workdir=DIR

takes about a quarter of an hour on 2 cores. Without a word after the colon it takes the 5,000
images of `mnist_5k`; `mnist` and `fashion_mnist` as in `configs/common.py`; `quick` is for tests.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(data: str = "mnist_5k") -> ConfigDict:
    """The settings of `deeper_networks` for its second network, and scales of the prior."""
    config = common.decay_problem(data)
    quick, full = data == "quick", data in common.FULL
    config.update(
        {
            "hidden": (5,) if quick else (100,),  # units of the hidden layers
            "init_scale": 0.05,  # of all initial weights
            "start": -7.0,  # log decay of every weight
            # Of the prior: standard deviation of log decays around the mean of their array. 0 is
            # one decay for each layer, and infinity no prior.
            "scales": (0.3,) if quick else (0.0, 0.1, 0.3, 1.0, 3.0, float("inf")),
            # σ² of the squared error as a likelihood: about the loss that is reached.
            "noise": 0.01,
            # Single log decays, each trained on all images.
            "decays": (-9.0, -8.5, -8.0, -7.5, -7.0, -6.5) if full else (-7.5, -7.0, -6.5, -6.0),
            # How a network is trained at one λ.
            "training": {
                "steps": 20 if quick else 6_000,  # of each run
                "batch_size": 100,
                "learning_rate": 1e-3,  # Adam on a cosine
            },
            "tuned": common.tuned(quick),
        }
    )
    if quick:
        config.decays = (-7.0,)
    # As for this network in `deeper_networks`.
    config.tuned.update(
        {
            "rounds": config.training.steps // config.tuned.inner_steps,
            "batch_size": 100,
            "learning_rate": 1e-3,
            "hyper_learning_rate": 0.03,
            "iterations": 1,
        }
    )
    return config
