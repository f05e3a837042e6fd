"""The exact best response and hypergradient of a linear model with squared error and L2 decays.

    L_train(w, λ) = MSE(train) + (1/C) Σ_ic exp(λ_ic) w_ic²,    L_valid(w) = MSE(valid)

With inputs X (a column of ones added for the bias), targets Y, A = XᵀX/n and B = XᵀY/n, the best
weights of class c and the gradient of the validation loss through them are

    w_c*(λ) = (A + diag e^{λ_c})⁻¹ B_c
    dL_valid/dλ_c = −e^{λ_c} ∘ w_c* ∘ (A + diag e^{λ_c})⁻¹ ∇_{w_c} L_valid

A reference for every approximate method, written in NumPy, in float64, apart from the code that it
judges. Here λ is always the logarithm of the decay.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
import scipy.optimize

from shohypernet.batches import Data, Examples, SplitLosses

ADAM_DECAYS = (0.9, 0.999)
ADAM_EPSILON = 1e-12


class Moments(NamedTuple):
    """Moments of a split: MSE(W) = (tr WᵀAW − 2 tr WᵀB + c) / C.

    Attributes:
      gram: A = XᵀX/n, shape (D + 1, D + 1), the bias last.
      cross: B = XᵀY/n, shape (D + 1, C).
      square: c = Σ Y²/n, a number.
    """

    gram: np.ndarray
    cross: np.ndarray
    square: float


class Ridge(NamedTuple):
    """Moments of the three splits."""

    train: Moments
    valid: Moments
    test: Moments


def ridge(data: Data) -> Ridge:
    """Moments of three splits of (inputs, targets), shapes (n, D) and (n, C)."""
    return Ridge(*map(_moments, data))


def best_response(problem: Ridge, log_decay: Any) -> np.ndarray:
    """Weights of least training loss, w*(λ).

    Args:
      problem: moments from `ridge`.
      log_decay: λ, one number, one per class (C,), or one per weight (D + 1, C), the bias last.

    Returns:
      Weights, shape (D + 1, C), the bias last.

    Raises:
      ValueError: for any other shape of λ.
    """
    return _solve(_factors(problem, log_decay), problem.train.cross)


def losses(problem: Ridge, weights: np.ndarray) -> SplitLosses:
    """Mean squared errors of weights, shape (D + 1, C), on the three splits."""
    return SplitLosses(*(_mean_squared_error(moments, weights) for moments in problem))


def hypergradient(problem: Ridge, log_decay: Any) -> tuple[SplitLosses, np.ndarray]:
    """Losses at w*(λ), and dL_valid/dλ.

    Args:
      problem: moments from `ridge`.
      log_decay: λ, one number, one per class (C,), or one per weight (D + 1, C).

    Returns:
      The losses, and the gradient, shaped like λ and summed over the weights that share one.
    """
    factors = _factors(problem, log_decay)
    weights = _solve(factors, problem.train.cross)
    gram, cross, _ = problem.valid
    adjoint = _solve(factors, 2 / weights.shape[1] * (gram @ weights - cross))
    gradient = -np.exp(_broadcast(problem, log_decay)) * weights * adjoint
    axes = tuple(range(2 - np.ndim(log_decay)))
    return losses(problem, weights), gradient.sum(axis=axes)


def optimum(problem: Ridge, log_decay: Any) -> np.ndarray:
    """Local minimum of the validation loss in λ, by a quasi-Newton search (L-BFGS) from a start.

    For one decay or one per class. With one per weight, validation is soon overfitted, and the
    minimum is useless: see `descent`.

    Args:
      problem: moments from `ridge`.
      log_decay: start of the search, one number or one per class (C,).

    Returns:
      λ, shaped like the start.
    """
    shape, start = np.shape(log_decay), np.ravel(np.asarray(log_decay, np.float64))
    scale = hypergradient(problem, log_decay)[0].valid

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        found, gradient = hypergradient(problem, flat.reshape(shape))
        return found.valid / scale, np.ravel(gradient) / scale

    found = scipy.optimize.minimize(objective, start, jac=True, method="L-BFGS-B", tol=1e-12)
    return found.x.reshape(shape)


def descent(
    problem: Ridge, log_decay: Any, learning_rate: float = 0.1
) -> Iterator[tuple[np.ndarray, SplitLosses]]:
    """λ and its losses before each step of Adam along the exact hypergradient, without end.

    Adam's usual ε of 1e-8 would be large beside gradients of 1e-7; here it is 1e-12, for the
    weights of pixels that are never lit, whose gradient is 0.

    Args:
      problem: moments from `ridge`.
      log_decay: start, in any shape that `hypergradient` takes.
      learning_rate: step size of Adam.
    """
    log_decay = np.array(log_decay, np.float64)
    mean, square = np.zeros_like(log_decay), np.zeros_like(log_decay)
    step = 0
    while True:
        step += 1
        found, gradient = hypergradient(problem, log_decay)
        yield log_decay.copy(), found
        mean += (gradient - mean) * (1 - ADAM_DECAYS[0])
        square += (gradient**2 - square) * (1 - ADAM_DECAYS[1])
        unbiased = [m / (1 - d**step) for m, d in zip((mean, square), ADAM_DECAYS, strict=True)]
        log_decay = log_decay - learning_rate * unbiased[0] / (np.sqrt(unbiased[1]) + ADAM_EPSILON)


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
    """Cholesky factors of A + diag e^{λ_c}, one per class c."""
    decay = np.exp(_broadcast(problem, log_decay))
    alike = bool(np.all(decay == decay[:, :1]))
    columns = decay.T[:1] if alike else decay.T
    made = [scipy.linalg.cho_factor(problem.train.gram + np.diag(column)) for column in columns]
    return made * decay.shape[1] if alike else made


def _solve(factors: list[Any], targets: np.ndarray) -> np.ndarray:
    columns = zip(factors, targets.T, strict=True)
    return np.stack([scipy.linalg.cho_solve(*column) for column in columns], axis=1)


def _broadcast(problem: Ridge, log_decay: Any) -> np.ndarray:
    shape = problem.train.cross.shape
    log_decay = np.asarray(log_decay, np.float64)
    if log_decay.shape not in ((), shape[1:], shape):
        raise ValueError(
            f"log decays must be one number, one per class {shape[1:]} or one per weight {shape}, "
            f"got shape {log_decay.shape}."
        )
    return np.broadcast_to(log_decay, shape)
