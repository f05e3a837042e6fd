r"""One decay for each of 10 classes (Lorraine and Duvenaud, 2018, section 4.2 and its appendix).

Expect ours within 2 % of the exact optimum of ten decays, which is hardly better than one decay.

    python -m experiments.medium --config=configs/medium.py:mnist --workdir=DIR

takes about three minutes on 2 cores. Without a word after the colon it takes the 5,000 images of
`mnist_5k`; `idx` takes the standard order, `--config.directory=FOLDER`; `quick` is for tests.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(data: str = "mnist_5k") -> ConfigDict:
    """The paper's settings, and ours."""
    config = common.decay_problem(data)
    quick = data == "quick"
    config.update(
        {
            "name": "medium",
            "title": "One decay per class: 10 hyperparameters",
            "per": "output",
            "paper": common.paper(quick),
            "tuned": common.tuned(quick),
        }
    )
    if config.data in common.FULL:
        config.train_examples = 50_000
    config.paper.target = config.tuned.target = (1.02,)  # of the exact optimum's validation loss
    return config
