r"""Ours: Kronecker's hypergradients for convolutions, BatchNorm, attention, a GRU, shared layers.

    python -m experiments.layer_fidelity --config=configs/layer_fidelity.py --workdir=DIR

Images of 14 x 14 pixels, few of them and few steps, for a CPU: the reference goes over all training
images a few hundred times. `mnist`, `fashion_mnist` and `idx` as in `configs/common.py`, with 5,000
steps, for a GPU; `quick` is for tests.
"""

from ml_collections import ConfigDict

from configs import common

NETWORKS = "shared, 2 times", "shared, 5 times", "GRU", "transformer", "LeNet", "ResNet"


def get_config(data: str = "mnist_5k") -> ConfigDict:
    """Three draws of the weights, λ and the minibatches; the references take most of the time."""
    quick, full = data == "quick", data in common.FULL
    config = ConfigDict(common.sizes(data))
    if not full:
        config.train_examples = config.valid_examples = 100 if quick else 200
    config.update(
        {
            "seeds": (0,) if quick else (0, 1, 2),
            "networks": ("shared, 2 times",) if quick else NETWORKS,
            "level": -6.0,  # the mean of the log decays
            # Of training at fixed λ; the last rounds · inner_steps of them are in rounds.
            "steps": 30 if quick else 5_000 if full else 1_000,
            "rounds": 3 if quick else 400 if full else 100,
            "inner_steps": 5,
            "batch_size": 100 if full else 50,
            "learning_rate": 1e-3,  # of the weights: Adam on a cosine
            "last_share": 0.1,  # of it, where the cosine ends and the rounds begin
            "iterations": 3,
            "products": 2,
            "damping": 1e-3,  # of the Kronecker curvature
            # Of the reference: products at most, and the residual at which it has converged.
            "cg_steps": 5 if quick else 1_000,
            "tolerance": 5e-3,
        }
    )
    return config
