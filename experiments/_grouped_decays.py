"""The linear problem with one decay for each group of weights, and its exact optimum.

L_train(w, λ) = MSE(train, w) + (1/10) Σ_i exp(λ_g(i)) w_i²,   g: weight -> its decay's number
"""

import itertools
from typing import Any

import jax
import numpy as np
import scipy.optimize

import shohypernet as shn
from experiments import _decay_problem
from shohypernet import ridge
from shohypernet.batches import Data, SplitLosses
from shohypernet.datasets import CLASSES, IMAGE_SHAPE
from shohypernet.models import MLP
from shohypernet.problem import Problem
from shohypernet.ridge import Ridge

FEATURES = IMAGE_SHAPE[0] * IMAGE_SHAPE[1] + 1  # the bias last
EVERY_WEIGHT = FEATURES * CLASSES


def grouping(count: int) -> np.ndarray:
    """Number of each weight's decay, shape (785, 10), the bias last.

    Up to 10 decays share the classes out; 10·b are one for each class and band of the image, from
    top to bottom; 7,850 are one for each weight.
    """
    if count == EVERY_WEIGHT:
        return np.arange(count).reshape(FEATURES, CLASSES)
    classes = min(count, CLASSES)
    bands = count // classes
    if CLASSES % classes or count % classes or IMAGE_SHAPE[0] < bands:
        raise ValueError(
            f"the number of decays must divide 10, be 10 for each of up to {IMAGE_SHAPE[0]} bands, "
            f"or be {EVERY_WEIGHT:,}; got {count}."
        )
    row = np.arange(FEATURES - 1) // IMAGE_SHAPE[1]
    band = np.append(row * bands // IMAGE_SHAPE[0], bands // 2)
    return band[:, None] * classes + np.arange(CLASSES)[None] * classes // CLASSES


def problem_on(data: Data, groups: np.ndarray, low: float, high: float) -> Problem:
    """The linear problem with one decay for each group of weights, shape (groups,).

    Args:
      data: three splits.
      groups: from `grouping`.
      low: the least log decay of the prior.
      high: the greatest.
    """

    def penalty(params: Any, decays: jax.Array) -> jax.Array:
        each = decays[groups]
        tree = {"Dense_0": {"kernel": each[:-1], "bias": each[-1]}}
        return _decay_problem.penalty(params, tree)

    return shn.supervised(
        MLP(CLASSES),
        data.train.inputs[:1],
        shn.losses.mean_squared_error,
        penalty,
        space=shn.hyperparameters.log(prior=(float(np.exp(low)), float(np.exp(high)))),
    )


def descended(exact: Ridge) -> SplitLosses:
    """The losses after 30 steps along the exact hypergradient of all decays; later ones overfit."""
    start = np.full(exact.train.cross.shape, _decay_problem.DESCENT_START)
    path = ridge.descent(exact, start)
    *_, (_, losses) = itertools.islice(path, _decay_problem.DESCENT_STEPS)
    return losses


def optimum(exact: Ridge, groups: np.ndarray) -> SplitLosses:
    """The losses of the exact best decays, one for each group."""
    count = groups.max() + 1
    start = np.full(count, _decay_problem.SCALAR_START)
    scale = ridge.hypergradient(exact, start[groups])[0].valid

    def objective(log_decays: np.ndarray) -> tuple[float, np.ndarray]:
        found, gradient = ridge.hypergradient(exact, log_decays[groups])
        by_group = np.bincount(groups.ravel(), gradient.ravel(), minlength=count)
        return found.valid / scale, by_group / scale

    found = scipy.optimize.minimize(objective, start, jac=True, method="L-BFGS-B", tol=1e-8)
    return ridge.losses(exact, ridge.best_response(exact, found.x[groups]))
