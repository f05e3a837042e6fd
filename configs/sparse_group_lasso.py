"""Sparse group lassos with a penalty for each group, where a grid can't go (Feng and Simon, 2018).

As many groups of ten features as `groups` says; in each of the first three the weights are 1 to 5
and five zeros. One penalty for all weights and one for each group are tuned by implicit
differentiation on the support, beside two penalties in total, tuned the same way and by a 10 × 10
grid of trained models.

Expect so many penalties to fit the validation examples far better, to tell the groups with weights
from the others, and all the same to test worse than two penalties, with 30 validation examples as
with five folds of all 120. That the claim of a lower test error doesn't hold is the finding.

    python -m experiments.sparse_group_lasso --config=configs/sparse_group_lasso.py --workdir=DIR

takes a few minutes on 2 cores; it needs no data. `:quick` takes seconds, and judges no claim.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(size: str = "full") -> ConfigDict:
    """The data and all settings are ours, after Feng and Simon's."""
    quick = common.is_quick("sparse_group_lasso", size)
    return ConfigDict(
        {
            "judged": not quick,
            "runs": 2 if quick else 10,  # draws of the data
            "groups": (4,) if quick else (30, 100),  # numbers of them, each a problem
            "group_size": 10,  # features
            "active_groups": 3,  # with weights
            "correlation": 0.0,  # of features i and j, to the power |i − j|
            "ratio": 2.0,  # of the signal's norm to the noise's
            "sizes": (30, 10, 30) if quick else (90, 30, 200),  # of train, valid and test
            "low": 1e-3,  # ends of the grid, and bounds of all penalties
            "high": 1e1,
            "grid": 3 if quick else 10,  # points along each side
            "start": 0.1,  # of every penalty
            "folds": 5,  # of training and validation examples together
            "rounds": 5 if quick else 200,  # updates of the penalties
            "inner_steps": 50,  # updates of the weights in a round
            "products": 30,  # of conjugate gradients
            "hyper_learning_rate": 0.1,  # Adam on a cosine
            "train_steps": 50 if quick else 3_000,  # of every model that is judged
        }
    )
