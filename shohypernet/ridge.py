"""The exact best response and hypergradient of a linear model with squared error and L2 decays.

    L_train(w, λ) = MSE(train) + (1/C) Σ_ic exp(λ_ic) w_ic²,    L_valid(w) = MSE(valid)

With inputs X (a column of ones added for the bias), targets Y, A = XᵀX/n and B = XᵀY/n, the best
weights of class c and the gradient of the validation loss through them are

    w_c*(λ) = (A + diag e^{λ_c})⁻¹ B_c
    dL_valid/dλ_c = −e^{λ_c} ∘ w_c* ∘ (A + diag e^{λ_c})⁻¹ ∇_{w_c} L_valid

This is what every approximate method can be held against. It is written in NumPy, in float64, apart
from the code that it judges.
"""

from typing import Any, NamedTuple

import numpy as np
import scipy.linalg

from shohypernet.data import Data, Examples


class Moments(NamedTuple):
    """What a squared error depends on: MSE(W) = (tr WᵀAW − 2 tr WᵀB + c) / C.

    Attributes:
      gram: A = XᵀX/n, shape (D + 1, D + 1), the bias last.
      cross: B = XᵀY/n, shape (D + 1, C).
      square: c = Σ Y²/n, a number.
    """

    gram: np.ndarray
    cross: np.ndarray
    square: float


class Ridge(NamedTuple):
    """The moments of the three splits."""

    train: Moments
    valid: Moments
    test: Moments


class Losses(NamedTuple):
    """Mean squared errors of one set of weights."""

    train: float
    valid: float
    test: float


def ridge(data: Data) -> Ridge:
    """The exact problem for three splits of (inputs, targets), shapes (n, D) and (n, C)."""
    return Ridge(*map(_moments, data))


def best_response(problem: Ridge, log_decay: Any) -> np.ndarray:
    """w*(λ), the weights of least training loss.

    Args:
      problem: from `ridge`.
      log_decay: λ, one number, one a class (C,), or one a weight (D + 1, C), the bias last.

    Returns:
      Weights, shape (D + 1, C), the bias last.

    Raises:
      ValueError: for any other shape of λ.
    """
    return _solve(_factors(problem, log_decay), problem.train.cross)


def losses(problem: Ridge, weights: np.ndarray) -> Losses:
    """The mean squared errors of weights, shape (D + 1, C), on the three splits."""
    return Losses(*(_mean_squared_error(moments, weights) for moments in problem))


def hypergradient(problem: Ridge, log_decay: Any) -> tuple[Losses, np.ndarray]:
    """The losses at w*(λ) and dL_valid/dλ, shaped like λ.

    Args:
      problem: from `ridge`.
      log_decay: λ, one number, one a class (C,), or one a weight (D + 1, C).

    Returns:
      The losses, and the gradient, summed over the weights that share a λ.
    """
    factors = _factors(problem, log_decay)
    weights = _solve(factors, problem.train.cross)
    gram, cross, _ = problem.valid
    adjoint = _solve(factors, 2 / weights.shape[1] * (gram @ weights - cross))
    gradient = -np.exp(_spread(problem, log_decay)) * weights * adjoint
    axes = tuple(range(2 - np.ndim(log_decay)))
    return losses(problem, weights), gradient.sum(axis=axes)


def _moments(examples: Examples) -> Moments:
    inputs, targets = (np.asarray(array, np.float64) for array in examples)
    inputs = np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1)
    n = len(inputs)
    return Moments(inputs.T @ inputs / n, inputs.T @ targets / n, float((targets**2).sum() / n))


def _mean_squared_error(moments: Moments, weights: np.ndarray) -> float:
    gram, cross, square = moments
    quadratic = np.sum(weights * (gram @ weights - 2 * cross)) + square
    return float(quadratic / weights.shape[1])


def _factors(problem: Ridge, log_decay: Any) -> list[Any]:
    """The Cholesky factor of A + diag e^{λ_c} for each class c."""
    decay = np.exp(_spread(problem, log_decay))
    return [scipy.linalg.cho_factor(problem.train.gram + np.diag(column)) for column in decay.T]


def _solve(factors: list[Any], targets: np.ndarray) -> np.ndarray:
    columns = zip(factors, targets.T, strict=True)
    return np.stack([scipy.linalg.cho_solve(*column) for column in columns], axis=1)


def _spread(problem: Ridge, log_decay: Any) -> np.ndarray:
    shape = problem.train.cross.shape
    log_decay = np.asarray(log_decay, np.float64)
    if log_decay.shape not in ((), shape[1:], shape):
        raise ValueError(
            f"log decays must be one number, one a class {shape[1:]} or one a weight {shape}, "
            f"got shape {log_decay.shape}."
        )
    return np.broadcast_to(log_decay, shape)
