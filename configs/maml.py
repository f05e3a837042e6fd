"""Model-agnostic meta-learning as a problem of two levels (Finn, Abbeel and Levine, 2017).

Expect, on quadratic tasks, MAML, its first-order form and implicit MAML to end at their own closed
forms, and Meta-SGD to have a lower loss than MAML; on sinusoids from ten points, a test error far
below 4.25, that of predicting 0, after a few gradient steps. Reports of it range from .06 to .67,
by protocol.

    python -m experiments.maml --config=configs/maml.py --workdir=DIR

takes ten minutes of a core; it needs no data. `:quick` takes seconds, and judges no claim.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(size: str = "full") -> ConfigDict:
    """Finn et al.'s sinusoids; the quadratic tasks are ours."""
    quick = common.is_quick("maml", size)
    return ConfigDict(
        {
            "judged": not quick,
            # Quadratic tasks.
            "tasks": 8,  # quadratic functions
            "dimensions": 5,
            "rate": 0.3,  # α of the inner step
            "steps": 1,  # inner steps
            "proximity": 0.5,  # of implicit MAML: a half of it times ‖w − θ‖² is added
            "implicit_steps": 40,
            "quadratic_rounds": 5 if quick else 1_500,
            "quadratic_learning_rate": 0.05,  # Adam on a cosine
            # Sinusoids.
            "hidden": (5,) if quick else (40, 40),
            "shots": 10,  # points of a task
            "meta_batch": 25,  # tasks of an iteration
            "iterations": 5 if quick else 70_000,  # updates of the initial weights
            "meta_learning_rate": 1e-3,  # Adam on a cosine
            "inner_rate": 0.01,  # of the inner steps
            "inner_steps": 1,  # in training
            "sinusoid_proximity": 2.0,  # of implicit MAML
            "sinusoid_implicit_steps": 5 if quick else 20,
            # Of these steps; 0.01 diverged on more tasks, for no gradient tells θ of the step size.
            "sinusoid_implicit_rate": 0.003,
            "sinusoid_products": 2 if quick else 5,
            "test_tasks": 20 if quick else 600,
            "test_steps": 10,  # inner steps in testing
        }
    )
