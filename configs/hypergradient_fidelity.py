"""Ours: how true every hypergradient is, against its cost, on a problem with an exact answer.

At λ = −5 expect conjugate gradients to be within 0.99 cosine after 50 products, the Neumann series
to be far slower, T1 − T2 to be about 0.4, the paper's factorized hypernet to point nowhere, and the
centered Kronecker one to be within 0.95 after 5,000 training steps.

    python -m experiments.hypergradient_fidelity --config=configs/hypergradient_fidelity.py \\
      --workdir=DIR

takes some minutes on 2 cores. After a colon: `mnist` or `idx` for the paper's 10,000 / 10,000
examples instead of the 5,000 images of `mnist_5k`, in twelve minutes; `quick` for less than one.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(data: str = "mnist_5k") -> ConfigDict:
    """Budgets of every method."""
    quick = data == "quick"
    return ConfigDict(
        common.sizes(data)
        | {
            "levels": (-5.0,) if quick else (-7.0, -5.0, -3.0),  # means of the log decays
            "main_level": -5.0,  # at which claims are judged
            "draws": 1 if quick else 3,  # of N(0, 1), at the main level; elsewhere one
            "batch_size": 100 if quick else 1_000,  # where not the whole training set is used
            "cg_steps": (5, 20, 50) if quick else (5, 10, 20, 50, 100),  # products of each entry
            "neumann_terms": (5, 20) if quick else (5, 20, 100, 500, 2_000),  # likewise
            "unrolled_steps": (10, 30) if quick else (10, 30, 100, 300),  # likewise
            "hypernet_steps": (20, 100) if quick else (100, 1_000, 5_000),  # of training
            "hypernet_inner_steps": 10,
            "hypernet_learning_rate": 1e-3,  # Adam, for all of φ at once
            "weights_learning_rate": 1e-3,  # Adam on a cosine, for w₀ of centered hypernets
            "jacobian_learning_rate": 1e-3,  # likewise, for those that learn J
            "kronecker_iterations": 3,
            "sampling_scale": 0.003,  # the paper's variance of 1e-5
        }
    )
