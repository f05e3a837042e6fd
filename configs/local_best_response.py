"""Figure 3: Algorithm 3 on one decay (Lorraine and Duvenaud, 2018, section 4.1).

Expect λ̂ to rise from −3.5 and to end within 0.25 of the cross-validated optimum for every seed
(about 2.5 on `mnist_5k`, 1.8 on `mnist`). With little sampling noise it ends too high.

    python -m experiments.local_best_response --config=configs/local_best_response.py --workdir=DIR

takes about a minute on 2 cores; with `--config=configs/local_best_response.py:mnist` it takes the
paper's 10,000 validation images, and about five.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(data: str = "mnist_5k") -> ConfigDict:
    """The authors' step sizes and 10 sampled λ per step; the sampling scales are ours."""
    config = common.small_problem(data)
    quick = data == "quick"
    config.update(
        {
            "seeds": (0, 1, 2),
            "steps": 20 if quick else 5_000,
            "inner_steps": 1,  # hypernet steps per round
            "start": -3.5,
            "init_scale": 0.01,  # of φ
            "samples": 10,
            # The paper's variance of 1e-5 is a scale of 0.003, at which λ̂ ends too high.
            "sampling_scale": 0.3,
            # With the first seed only.
            "other_sampling_scales": (0.0,) if quick else (0.0, 0.003, 0.06),
            "hypernet_learning_rate": 1e-4,  # SGD
            "hyper_learning_rate": 1e-2,  # Adam
        }
    )
    return config
