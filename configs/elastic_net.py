"""Elastic nets tuned by gradients, in spite of the kinks (Feng and Simon, 2018).

Their setting: 250 features, 15 of them with a weight of 1, correlations of .5^|i − j|, a signal of
twice the noise's norm, 80 / 20 / 200 examples, 30 runs. Expect the implicit hypergradient on the
support to be the exact slope between kinks, and tuning along it to reach the validation loss of a
10 × 10 grid. Twenty validation examples choose badly, whoever looks: with the loss of five folds of
all hundred expect the test error of scikit-learn's ElasticNetCV, which has five folds too.

    python -m experiments.elastic_net --config=configs/elastic_net.py --workdir=DIR

takes about two minutes on 2 cores; it needs no data. `:quick` takes seconds, and judges no claim.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(size: str = "full") -> ConfigDict:
    """Feng and Simon's data; settings of the methods are ours."""
    quick = common.is_quick("elastic_net", size)
    return ConfigDict(
        {
            "judged": not quick,
            "runs": 2 if quick else 30,  # draws of the data
            "features": 30 if quick else 250,
            "active": 5 if quick else 15,  # features with a weight
            "correlation": 0.5,  # of features i and j, to the power |i − j|
            "ratio": 2.0,  # of the signal's norm to the noise's
            "sizes": (20, 10, 30) if quick else (80, 20, 200),  # of train, valid and test
            "low": 1e-2,  # ends of the grid, and bounds of both decays
            "high": 1e1,
            "grid": 3 if quick else 10,  # points along each side
            "folds": 5,  # of training and validation examples together
            "start": {"l1": 0.1, "l2": 0.1},
            "rounds": 5 if quick else 200,  # updates of both decays
            "inner_steps": 50,  # updates of the weights in a round
            "products": 30,  # of conjugate gradients
            "hyper_learning_rate": 0.1,  # Adam on a cosine
            "unrolled_steps": 20 if quick else 400,  # steps that are differentiated
            "unrolled_rounds": 3 if quick else 60,
            "hypernet_learning_rate": 3e-3,  # Adam on a cosine
            "sampling_scale": 0.3,  # of local_response
            "path_points": 20 if quick else 400,  # of l1, where the slope is drawn
            "path_l2": 0.1,
        }
    )
