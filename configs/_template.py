"""TEMPLATE of a config: copy it with `experiments/_template.py`, and change what the comments name.

The first line is the experiment's subject, with the paper and its figure if there is one. Then say
what to expect, with numbers of a run that was made:

Expect a test loss of about 0.15 with the tuned strengths, against 0.22 with those that the tuning
starts from and 0.38 with the best of a random search with as many gradient evaluations (seven inner
runs, in a wide space).

    python -m experiments._template --config=configs/_template.py --workdir=DIR

takes four minutes of CPU time; `:quick` takes seconds, and judges no claim. Last, say how the
settings were chosen: step sizes and lengths are those of the README's first example, and not
searched. Shorter lists of hyperparameters were tried first: of three alone (shift, dropout of the
inputs, decay) random search finds a better choice, 0.19 against 0.22.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(data: str = "mnist_5k") -> ConfigDict:
    """Sizes and settings; `--help` lists the fields with the comments behind and above them."""
    quick = data == "quick"  # as small as it gets: what a test can afford
    return ConfigDict(
        common.source(data)  # data, directory, judged
        | {
            "train_examples": 100 if quick else 1_000,
            "valid_examples": 100 if quick else 1_000,
            "test_examples": 100 if quick else 1_000,
            "seeds": (0,) if quick else (0, 1, 2),  # of all methods, and of training again
            "hidden": 4 if quick else 100,  # units of the network's hidden layer
            "batch_size": 20 if quick else 100,  # for training and for validation
            "learning_rate": 1e-3,  # of all weights: Adam
            "train_steps": 5 if quick else 3_000,  # of training again
            # The tuning.
            "rounds": 4 if quick else 600,  # updates of λ
            "inner_steps": 5,  # updates of the weights in a round
            "warmup_rounds": 1 if quick else 100,  # in which λ stands still
            "evaluations": 2 if quick else 20,  # of the losses, on the way
            "hyper_learning_rate": 3e-2,  # RMSprop
            # The baseline.
            "search_steps": 5 if quick else 1_500,  # of each of its inner runs
        }
    )
