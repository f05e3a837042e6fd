"""Architectures ranked by a hypernet: SMASH (Brock et al., 2017), on small networks.

Expect the loss of the hypernet's weights to rank trained networks with a ρ of 0.83 on MNIST and of
0.80 on Fashion-MNIST, with shuffled encodings 0.75 and 0.48, and the number of weights 0.74 and
0.75; and random search at the same compute to find worse networks on MNIST and better ones on
Fashion-MNIST.

    python -m experiments.smash --config=configs/smash.py:idx --workdir=DIR

takes half an hour of one core, and so does `:fashion_mnist`. `:quick` takes seconds, and
judges no claim. Settings are not searched, but for the hypernet's initial scale and step size.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(data: str = "mnist_5k") -> ConfigDict:
    """Sizes and settings; a full-size data set trains on 10,000 images and tests on 5,000."""
    quick, full = data == "quick", data in common.FULL
    return ConfigDict(
        common.source(data)
        | {
            "train_examples": 100 if quick else 10_000 if full else 3_000,
            "valid_examples": 100 if quick else 1_000,
            "test_examples": 100 if quick else 5_000 if full else 1_000,
            "seeds": (0, 1) if quick else (0, 1, 2),  # of hypernets, and of trained networks
            # Architectures, of two to four layers.
            "widths": (1, 2) if quick else (2, 4, 8),  # channels of a layer
            "kernels": (1, 3) if quick else (1, 3, 5),  # sizes of a layer's kernel, odd
            "blocks": 1 if quick else 3,  # at most, after the first layer
            "architectures": 6 if quick else 25,  # that are trained to the end, with every seed
            "candidates": 8 if quick else 500,  # of which the hypernet's best is trained
            # Training, of networks and of hypernets.
            "batch_size": 10 if quick else 32,
            "learning_rate": 0.03,  # of networks: Adam on a cosine
            "train_steps": 3 if quick else 2_000,  # of each network
            # The hypernet.
            "hidden": (4,) if quick else (64,),  # units of its hidden layers
            "init_scale": 0.1,  # of its initial weights
            "hypernet_learning_rate": 3e-3,  # Adam on a cosine
            "rounds": 2 if quick else 1_000,
            "inner_steps": 2 if quick else 10,  # updates of the hypernet in a round
            "samples": 1,  # architectures for each update
            "evaluations": 1 if quick else 3,  # of one architecture's losses, on the way
            "resamples": 20 if quick else 5_000,  # of the bootstrap
        }
    )
