r"""Ours: hypernets' hypergradients for 784-100-10 against converged conjugate gradients.

Expect the paper's hypernet to point nowhere, and the Kronecker one to agree with the reference the
better, the more the reference is damped.

    python -m experiments.network_fidelity --config=configs/network_fidelity.py:mnist --workdir=DIR

takes about five minutes on 2 cores. Without a word after the colon it takes the 5,000 images of
`mnist_5k`; `fashion_mnist` and `idx` as in `configs/common.py`; `quick` is for tests.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(data: str = "mnist_5k") -> ConfigDict:
    """One seed; the reference costs more than all that it judges."""
    config = common.decay_problem(data)
    quick = data == "quick"
    config.update(
        {
            "seed": 0,
            "hidden": (4,) if quick else (100,),  # units of the hidden layers
            "init_scale": 0.05,  # of the weights
            "level": -7.0,  # the mean of the log decays
            "steps": 40 if quick else 5_000,  # of training at fixed λ
            "inner_steps": 10,
            "batch_size": 100,
            "valid_batch_size": 100 if quick else 1_000,
            "learning_rate": 1e-3,  # of the weights: Adam on a cosine
            "jacobian_learning_rate": 1e-3,  # where one is learned: likewise
            "hypernet_learning_rate": 1e-3,  # of the paper's: Adam
            "sampling_scale": 0.003,
            "iterations": 3,
            "products": 2,
            "damping": 1e-3,  # of the Kronecker curvature
            # Of the reference, in units of the training loss's curvature.
            "dampings": (1e-3,) if quick else (1e-4, 1e-3, 1e-2),
            "cg_steps": 10 if quick else 400,  # of the reference
        }
    )
    return config
