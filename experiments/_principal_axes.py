"""The linear model in the principal axes of its inputs, where a full-batch gradient costs little.

A squared error depends on data through A = XᵀX/n and B = XᵀY/n alone. With A = V diag(a) Vᵀ for the
training inputs, weights w = V u and b = VᵀB,

    MSE(u) = (1/C) Σ_c (Σ_i (a_i u_ic² − 2 u_ic b_ic) + 1),    ‖w_c‖ = ‖u_c‖.

So with a penalty that depends on the norms of the classes alone this is the same problem, to
rounding. But a gradient takes 785·10 products, however many the images, and Adam, which scales each
coordinate by itself, reaches the optimum in hundreds of steps, not in tens of thousands.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from shohypernet import hyperparameters, ridge
from shohypernet.batches import Data
from shohypernet.problem import Problem

INIT_SCALE = 0.01  # as in the paper; N(0, s²) is the same in all axes


class Moments(NamedTuple):
    """Sufficient statistics of the squared error on one split, with one-hot targets.

    Attributes:
      gram: a, shape (785,), for the training split, VᵀAV, shape (785, 785), for the others.
      cross: b, shape (785, 10).
    """

    gram: jax.Array
    cross: jax.Array


def rotate(data: Data) -> Any:
    """The moments of the three splits in the axes of the training inputs, as `Data` for `fit`."""
    exact = ridge.ridge(data)
    values, axes = np.linalg.eigh(exact.train.gram)
    # Pixels that are never lit give eigenvalues of 0, which may come out as -1e-16.
    grams = [np.maximum(values, 0.0), *(axes.T @ split.gram @ axes for split in exact[1:])]
    crosses = [axes.T @ split.cross for split in exact]
    splits: Any = map(Moments, map(jnp.float32, grams), map(jnp.float32, crosses))
    return Data(*splits)


def mean_squared_error(weights: jax.Array, moments: Moments) -> jax.Array:
    """The mean over examples and classes, for weights u of shape (785, 10)."""
    gram, cross = moments
    product = gram[:, None] * weights if gram.ndim == 1 else gram @ weights
    return (jnp.sum(weights * (product - 2 * cross)) + 1.0) / weights.shape[1]


def best_response(moments: Moments, log_decay: jax.Array) -> jax.Array:
    """u*(λ) of MSE + (1/C) exp(λ)‖u‖² for one λ: b_ic / (a_i + exp λ), on the training split."""
    return moments.cross / (moments.gram[:, None] + jnp.exp(log_decay))


def problem_on(
    data: Any,
    loss: Callable[[jax.Array], jax.Array],
    penalty: Callable[[jax.Array, jax.Array], jax.Array],
) -> Problem:
    """L_train(u, λ) = loss(MSE(train, u)) + penalty(u, exp λ), L_valid(u) = loss(MSE(valid, u)).

    Its losses read the decays exp λ, in natural units.

    Args:
      data: from `rotate`.
      loss: of the mean squared error.
      penalty: of u and of decays in natural units.
    """
    shape = data.train.cross.shape

    def init(key: jax.Array) -> jax.Array:
        return INIT_SCALE * jax.random.normal(key, shape)

    def train_loss(
        params: jax.Array, hyperparams: jax.Array, batch: Moments, key: jax.Array
    ) -> jax.Array:
        del key
        return loss(mean_squared_error(params, batch)) + penalty(params, hyperparams)

    def valid_loss(params: jax.Array, hyperparams: jax.Array, batch: Moments) -> jax.Array:
        del hyperparams
        return loss(mean_squared_error(params, batch))

    return Problem(init, train_loss, valid_loss, hyperparameters.log())
