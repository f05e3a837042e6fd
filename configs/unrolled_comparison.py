"""Figure 4 (top): 7,850 decays by hyper-training, unrolling and implicit differentiation.

The paper's hypernet reaches 0.0391 / 0.0403 (validation / test) within about 150 s, and unrolling
0.0383 / 0.0401 after 1,000 s, ahead on validation after 350 s; one good decay for all weights gets
0.0381 / 0.0397, and the exact path 0.0364 / 0.0393 (MNIST in its standard order).

    python -m experiments.unrolled_comparison --config=configs/unrolled_comparison.py --workdir=DIR

takes a few minutes on 2 cores. After a colon: `mnist` or `idx` for the paper's 10,000 / 10,000 /
10,000 examples instead of the 5,000 images of `mnist_5k`; `quick` for less than a minute.
"""

from ml_collections import ConfigDict

from configs import common

METHODS = (
    "centered hyper-training",
    "hyper-training",
    "unrolled",
    "truncated",
    "implicit, CG",
    "implicit, Neumann",
    "T1-T2",
    "DrMAD",
)


def get_config(data: str = "mnist_5k") -> ConfigDict:
    """Sizes, budgets, and the step sizes that are tried."""
    quick = data == "quick"
    return ConfigDict(
        common.sizes(data)
        | {
            "methods": METHODS[:3] if quick else METHODS,  # in the order of the figure
            "seeds": (0,) if quick else (0, 1, 2),
            "start": -6.0,  # log decay of every weight
            "batch_size": 100 if quick else 1_000,  # for training and for validation
            "evaluations": 600 if quick else 10_000,  # gradients, of each method and seed
            "search_evaluations": 200 if quick else 2_500,  # for each pair of step sizes
            "search_seed": 100,  # of the search for step sizes
            "checkpoints": 3 if quick else 20,  # of the losses, on the way
            "inner_steps": 10,  # updates of the weights in a round
            "unrolled_steps": 20 if quick else 100,  # of full unrolling and DrMAD
            "products": 20,  # of conjugate gradients and the Neumann series
            "neumann_step_size": 0.1,  # below 1/λ_max, about 0.12
            "inner_rates": (0.03, 0.1),  # SGD with momentum 0.9
            "hypernet_rates": (1e-4, 1e-3),  # Adam
            "centered_rates": (1e-3, 3e-3),  # Adam
            "hyper_rates": (0.01, 0.1) if quick else (0.01, 0.03, 0.1, 0.3),  # Adam
            "sampling_scale": 0.003,  # the paper's variance of 1e-5
        }
    )
