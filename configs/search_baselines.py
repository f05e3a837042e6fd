"""The appendix figure: hyper-training beside black-box searches (Lorraine and Duvenaud, 2018).

Expect centered hyper-training to end below every search with 10 decays, but not to be below them
from early on, for it is one inner run as long as the budget; and with 7,850 to be below all the
way.

    python -m experiments.search_baselines --config=configs/search_baselines.py:mnist --workdir=DIR

takes about 40 minutes on 2 cores; `:quick`, on 200 images of `mnist_5k`, one or two. Finished
methods are kept in the folder, so that `--resume` goes on with the next.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(data: str = "mnist_5k") -> ConfigDict:
    """The linear problem with decays on 10,000 images; `quick` is a small one for tests."""
    quick = data == "quick"
    config = common.sizes(data) | {
        "seeds": (0, 1, 2, 3, 4),
        "main_decays": (10, 7_850),  # numbers of decays in the figure, with claims
        "other_decays": (1, 2, 5, 50),  # those of the second figure only
        # The prior, log-uniform, and hyper-training's start in its middle.
        "low": -10.0,
        "high": 2.0,
        # Of every method, gradient evaluations on one minibatch for one λ.
        "budget": 20_000,
        "points": 100,  # along it, where the losses are read
        "batch_size": 250,
        # An inner run: Adam, falling to 0 on a cosine over its full length.
        "training_steps": 500,
        "learning_rate": 1e-2,
        # Successive halving and Hyperband: R units, one in η goes on. Freeze-thaw's units.
        "resource": 27,
        "eta": 3,
        "units": 5,
        # Hyper-training with the Kronecker hypernet, with the settings of the large problem; rounds
        # are as many as the budget has room for.
        "centered": common.tuned(quick),
        # Hyper-training with the paper's hypernets: Algorithm 3.
        "inner_steps": 5,
        "samples": 1,
        "sampling_scale": 1.0,
        "hypernet_learning_rate": 1e-4,
        "hypernet_decay": 0.03,  # of that, what is left at the end; on the way, exponentially
        "hyper_learning_rate": 2e-2,
        # With a decay for each weight the hypernet is the factorized one, of this rank.
        "rank": 10,
        "factorized_learning_rate": 1e-3,
        "factorized_sampling_scale": 0.1,
    }
    if quick:
        config |= {
            "seeds": (0, 1),
            "main_decays": (10,),
            "other_decays": (1,),
            "budget": 540,
            "points": 30,
            "batch_size": 50,
            "training_steps": 54,
            "resource": 9,
        }
    return ConfigDict(config)
