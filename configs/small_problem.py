"""What the configs of the small problem share: which data, and how the crosses are trained.

    python -m experiments.NAME --config=configs/NAME.py:mnist ...

The word after the colon chooses the data, `mnist_5k` without one. `mnist`, `fashion_mnist` and
`idx` get the paper's sizes, 10 / 10,000 / 10,000 examples; `mnist_5k` holds fewer. `quick` is
`mnist_5k` with so few examples and steps that a test takes seconds, and shows nothing else.
"""

from ml_collections import ConfigDict


def get_config(data: str = "mnist_5k") -> ConfigDict:
    """The shared fields."""
    quick = data == "quick"
    sizes = {"mnist_5k": (2_000, 1_000), "quick": (200, 200)}
    valid_examples, test_examples = sizes.get(data, (10_000, 10_000))
    return ConfigDict(
        {
            "data": "mnist_5k" if quick else data,
            "directory": "",  # of the data, where it needs one
            "train_examples": 10,
            "valid_examples": valid_examples,
            "test_examples": test_examples,
            # Algorithm 1: Adam with a cosine schedule. On mnist_5k these losses are within 1e-3 of
            # the closed form wherever the best weights are not zero.
            "cross_learning_rate": 1e-2,
            "cross_steps": 20 if quick else 2_000,
            "cross_spacing": 1.0 if quick else 0.1,
            "curve_low": -2.0,
            "curve_high": 4.0,
            "curve_points": 20 if quick else 200,
        }
    )
