"""A hypernet followed by a few steps of SGD, which the paper names as future work.

Expect the steps to find the hypergradient that the paper's hypernet lacks for thousands of decays,
and to end below the hypernet alone at as many gradient evaluations (784-10, MNIST in its standard
order: 0.0392 against 0.0395), but not with a hidden layer (784-100-10: 0.0193 against 0.0154).

    python -m experiments.unrolled_response --config=configs/unrolled_response.py --workdir=DIR

takes some minutes on 2 cores; `--config.networks='("",)'` leaves out the deeper network. After a
colon: `mnist` or `idx` for 10,000 / 10,000 / 10,000 examples instead of the 5,000 images of
`mnist_5k`; `quick` for seconds, and judges no claim.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(data: str = "mnist_5k") -> ConfigDict:
    """Networks, budgets, and the step sizes that are tried."""
    quick = data == "quick"
    return ConfigDict(
        common.sizes(data)
        | {
            "networks": ("",) if quick else ("", "100"),  # their hidden layers
            "init_scale": 0.05,  # of all initial weights and of φ
            "seeds": (0,) if quick else (0, 1, 2),
            "start": -6.0,  # log decay of every weight
            "batch_size": 100 if quick else 250,  # for training and for validation
            "evaluations": 200 if quick else 6_000,  # gradients, of each method and seed
            "search_evaluations": 100 if quick else 1_500,  # for each pair of step sizes
            "search_seed": 100,  # of the search for step sizes
            "checkpoints": 2 if quick else 20,  # of the losses, on the way
            "inner_steps": 10,  # updates of φ, or of the weights, in a round
            "unrolled_steps": 5,  # of SGD, behind the hypernet and in truncated unrolling
            "learning_rate": 0.1,  # of the steps behind the hypernet, below 1/λ_max, about 0.12
            "hypernet_rates": (1e-4, 1e-3),  # Adam
            "inner_rates": (0.03, 0.1),  # of truncated unrolling: SGD
            "hyper_rates": (0.01, 0.1) if quick else (1e-3, 0.01, 0.03, 0.1),  # Adam
            "samples": 1,  # λ for each update of φ
            "sampling_scale": 0.003,  # the paper's variance of 1e-5
        }
    )
