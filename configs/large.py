r"""A decay for each of 7,850 weights (Lorraine and Duvenaud, 2018, section 4.3).

The paper's hypernet reaches 0.0391 validation and 0.0403 test loss; one good decay for all weights
gets 0.0381 / 0.0397, and the exact hypergradient 0.0364 / 0.0393 after 30 steps (MNIST in its
standard order). Expect the paper's settings to do no better than one decay, since its hypernet's
hypergradient points nowhere (see `hypergradient_fidelity`), and ours to pass the exact path's 30
steps on validation.

    python -m experiments.large --config=configs/large.py:mnist --workdir=DIR

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
            "name": "large",
            "title": "One decay per weight: 7,850 hyperparameters",
            "per": "weight",
            "paper": common.paper(quick),
            "tuned": common.tuned(quick),
        }
    )
    config.paper.target = (0.0391, 0.0403)
    config.tuned.target = (0.0383, 0.0399)
    return config
