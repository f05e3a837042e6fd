"""Whether tuning pays, once everybody may train on all images.

Expect every search to be as good as one decay can be, many decays to be worse than that by the
test that counts, and folds to make them honest.

    python -m experiments.does_it_pay --config=configs/does_it_pay.py:idx --workdir=DIR

takes about an hour on 2 cores, and some minutes on the 5,000 images of `mnist_5k`, without a word
after the colon. `--config.networks='("",)'` leaves out the network with a hidden layer. `quick` is
for tests, and judges no claim. A LeNet-5 with regularizers of many kinds is held against the same
searches by `experiments.self_tuning`.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(data: str = "mnist_5k") -> ConfigDict:
    """Networks, budgets of the searches, and settings of hyper-training."""
    config = common.decay_problem(data)
    quick = data == "quick"
    config.update(
        {
            "networks": ("5",) if quick else ("", "100"),  # their hidden layers
            "init_scale": 0.05,  # of all initial weights
            "start": -7.0,  # log decay that hyper-training starts from
            "default": -9.2,  # log of 1e-4, which is what people set unseen
            # The prior of the searches: log decays between, one for each layer.
            "low": -11.0,
            "high": -3.0,
            "budgets": (1,) if quick else (1, 3, 10),  # of a search, in whole trainings
            "searches": ("random",)
            if quick
            else ("grid", "random", "TPE", "Bayesian optimization", "Hyperband"),
            "grains": ("weight",) if quick else ("layer", "weight"),  # of hyper-training's decays
            "resource": 3 if quick else 27,  # Hyperband: units of a training, one in eta goes on
            "eta": 3,
            "folds": 2 if quick else 5,
            # A whole training, which is also how everything is trained again on all images.
            "training": {
                "steps": 12 if quick else 6_000,
                "batch_size": 20 if quick else 100,
                "learning_rate": 1e-3,  # Adam on a cosine
            },
            "tuned": common.tuned(quick),
        }
    )
    # As `deeper_networks` has them.
    config.tuned.update(
        {
            "rounds": config.training.steps // config.tuned.inner_steps if not quick else 4,
            "batch_size": config.training.batch_size,
            "learning_rate": 1e-3,
            "hyper_learning_rate": 0.03,
            "iterations": 1,
        }
    )
    return config
