"""Data hyper-cleaning: a weight for each training image, half of whose labels are wrong.

The set-up of Franceschi et al. (2017): 5,000 / 5,000 / 10,000 images of MNIST, exactly half of the
training labels replaced by a different class, softmax regression, and a weight σ(λ_i) for each
training image. They report a test accuracy of about 87.7 % for training on all images, 90.5 % with
an oracle and 90.0 to 90.1 % with theirs, and an F1 of .91 to .92.

    python -m experiments.hyper_cleaning --config=configs/hyper_cleaning.py:idx --workdir=DIR

TODO
"""

from ml_collections import ConfigDict

from configs import common


def get_config(data: str = "mnist_5k") -> ConfigDict:
    """Sizes, budget, and the settings of trainings and of the methods."""
    quick, full = data == "quick", data in common.FULL
    train, test = (5_000, 10_000) if full else (100, 100) if quick else (2_000, 1_000)
    return ConfigDict(
        common.source(data)
        | {
            "train_examples": train,
            "valid_examples": train,
            "test_examples": test,
            "seeds": (0,) if quick else (0, 1, 2),  # of the labels that are wrong
            "passes": 40 if quick else 600,  # gradients of all training images, of each method
            "evaluations": 2 if quick else 10,
            # The tuning.
            "decay": 3e-3,
            "inner_steps": 5,
            "inner_rate": 0.02,  # Adam, with all images
            "momentum_rate": 0.3,  # SGD with momentum, of F2SA
            "hyper_rate": 0.3,  # Adam on a cosine
            "products": 5,  # of conjugate gradients and Nyström
            "nystrom_damping": 0.01,
            "multiplier": 30.0,  # of F2SA
            "batch_size": 50 if quick else 100,  # of SOBA and SABA
            "stochastic_rate": 0.1,  # SGD
            "stochastic_hyper_rate": 0.02,  # Adam on a cosine
            # Trainings from scratch.
            "train_steps": 10 if quick else 200,
            "learning_rate": 0.03,  # Adam on a cosine
            "final_decay": 3e-4,
            "rival_decays": (3e-4, 3e-3, 3e-2),  # each rival is given the best, by the test images
        }
    )
