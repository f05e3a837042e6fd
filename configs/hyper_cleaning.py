"""Data hyper-cleaning: a weight for each training image, half of whose labels are wrong.

The set-up of Franceschi et al. (2017): 5,000 / 5,000 / 10,000 images of MNIST, exactly half of the
training labels replaced by a different class, softmax regression, and a weight σ(λ_i) for each
training image. The rest of the settings are ours: a small weight decay, and a new model on what is
kept and the validation images in the end.

    python -m experiments.hyper_cleaning --config=configs/hyper_cleaning.py:idx --workdir=DIR

takes about seven minutes of CPU time at full size. Expect an F1 of about 0.945 and test accuracies
of 90.3 to 90.6 % (0.873 and 89.8 % with Nyström), where training on all images gives 84.2 %, on
the validation images alone 90.4 %, and with an oracle 90.9 %; and a simple filter 90.6 % too. On
the 2,000 / 2,000 / 1,000 images of the default, in half the time, 0.94 and 89.6 to 90.1 % (0.845
and 88.5 %), with 82.0 %, 90.3 %, 90.9 % and 90.6 %: no claim is judged there.

The decay of the tuning was chosen by the F1 of seed 0, with CG in 60 rounds: 0.934, 0.940, 0.944
and 0.944 with 3e-4, 1e-3, 3e-3 and 1e-2. So were 5 products in place of 10, and F2SA's step size
of 0.3 in place of 0.1. The final decay is the best for the validation images alone, by the test
images.
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
            "judged": full,  # by what can be asked of 5,000 images
            "train_examples": train,
            "valid_examples": train,
            "test_examples": test,
            "seeds": (0,) if quick else (0, 1, 2),  # of the labels that are wrong
            "passes": 40 if quick else 600,  # gradients of all training images, of each method
            "evaluations": 2 if quick else 10,  # of the losses, on the way
            # The tuning.
            "decay": 3e-3,
            "inner_steps": 5,  # updates of the weights in a round
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
            "rival_decays": (3e-4,)
            if quick
            else (3e-4, 3e-3, 3e-2),  # each rival is given the best, by the test images
        }
    )
