"""Ten million weights hyper-trained by a hypernet of some hundred thousand numbers.

Of our own. A decay for each layer of 784-w-w-10 is tuned by `local_response`; w = 2,820 gives ten
million weights. A layer of 64 units in front of all weights would have 65 numbers for each.

    python -m experiments.chunked_hypernet --config=configs/chunked_hypernet.py:idx --workdir=DIR

takes some minutes of CPU time. Expect a validation loss of 0.27, where as many steps of plain
training end at 0.10; at w = 100, 0.18 and 0.20.

The step size of φ was chosen at w = 2,820, seed 0: after 40 steps the loss of 500 validation images
was 0.43, 0.86 and 1.82 with 3e-3, 1e-3 and 3e-4. Plain training has the 1e-3 that is usual, and
nothing of it was searched.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(data: str = "mnist_5k") -> ConfigDict:
    """Sizes and settings."""
    quick, full = data == "quick", data in common.FULL
    train, rest = (10_000, 2_000) if full else (60, 40) if quick else (3_000, 1_000)
    return ConfigDict(
        common.source(data)
        | {
            "train_examples": train,
            "valid_examples": rest,
            "test_examples": rest,
            "seeds": (0,),
            "widths": (2, 4) if quick else (100, 2_820) if full else (100, 860),  # w
            "chunk": 16 if quick else 1_024,  # weights that are made at once
            "embedding": 4 if quick else 16,  # length of each chunk's embedding
            "units": 4 if quick else 64,  # of the hypernet's hidden layer
            "start": 1e-4,  # decay of every layer at first
            "rounds": 2 if quick else 30,  # updates of λ
            "inner_steps": 2 if quick else 10,  # updates of φ in a round
            "samples": 2,  # λ for each update of φ
            "sampling_scale": 0.1,  # their distance from λ̂, in logarithms
            "batch_size": 20 if quick else 100,
            "valid_batch_size": 20 if quick else 500,
            "hypernet_learning_rate": 3e-3,  # Adam on a cosine
            "hyper_learning_rate": 0.03,  # Adam
            "learning_rate": 1e-3,  # of plain training: Adam on a cosine
            "evaluations": 2 if quick else 6,  # of the losses, on the way
        }
    )
