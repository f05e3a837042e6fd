r"""Ours: hypernets that start at the model's weights, where the paper's φ doesn't train.

Expect validation losses of about 0.12 nats from the model's weights, and no less than the 2.30 of
equal logits from the paper's start, on 2,000 images in standard order (`idx`).

python -m experiments.hypernet_start --config=configs/hypernet_start.py:idx --workdir=DIR

takes some two minutes of a core for each run, half of it to compile. Step sizes were not searched.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(data: str = "mnist_5k") -> ConfigDict:
    """LeNet-5 with a decay for each of its 61,706 weights."""
    quick = data == "quick"
    examples = 20 if quick else 2_000
    return ConfigDict(
        common.source(data)
        | {
            "train_examples": examples,
            "valid_examples": examples,
            "test_examples": examples,
            "channels": () if quick else (6, 16),
            "hidden": (2, 2) if quick else (120, 84),
            "hypernets": ("structured",) if quick else ("structured", "factorized"),
            "start": 1e-3,  # each decay, in natural units: a logarithm of −7
            "rounds": 2 if quick else 30,  # updates of λ
            "inner_steps": 2 if quick else 10,  # updates of φ in a round
            "batch_size": 10 if quick else 100,
            "evaluations": 1 if quick else 10,  # of the losses, on the way
            "hypernet_learning_rate": 1e-3,  # Adam
            "hyper_learning_rate": 1e-2,  # Adam
            "sampling_scale": 0.1,
            "seed": 0,
        }
    )
