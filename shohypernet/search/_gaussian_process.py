"""Gaussian process regression with a Matérn-5/2 ARD kernel, and expected improvement.

    k(x, x′) = a² (1 + √5 r + 5r²/3) e^{−√5 r},   r² = Σ_d (x_d − x′_d)² / ℓ_d²
    y ~ N(m, K + s²I)
    EI(x) = σ(x) (z Φ(z) + φ(z)),   z = (y_best − μ(x)) / σ(x)

In NumPy and float64, for some hundred points: in float32 the kernel's matrix soon has no Cholesky
factor. Rasmussen and Williams (2006), chapters 2 and 4; Snoek, Larochelle and Adams (2012),
"Practical Bayesian Optimization of Machine Learning Algorithms", arXiv:1206.2944.
"""

import contextlib
import functools
import math
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
import scipy.spatial.distance
import scipy.special

# Added to the variances, relative to a²: the noise may be as good as none.
JITTER = 1e-8


class Kernel(NamedTuple):
    """A mean and the kernel's parameters, in units of standardized outputs and of the unit cube.

    Attributes:
      mean: m.
      amplitude: a, a standard deviation.
      noise: s, a standard deviation.
      lengthscales: ℓ, shape (D,).
    """

    mean: float
    amplitude: float
    noise: float
    lengthscales: np.ndarray


class Posterior(NamedTuple):
    """What observations tell, for J alternative vectors of outputs at the same N inputs.

    Attributes:
      kernel: its parameters.
      inputs: shape (N, D).
      whitener: L⁻¹, the inverse Cholesky factor of K + s²I, shape (N, N).
      weights: (K + s²I)⁻¹ (y − m), shape (N, J).
      best: y_best of each vector of outputs, shape (J,).
    """

    kernel: Kernel
    inputs: np.ndarray
    whitener: np.ndarray
    weights: np.ndarray
    best: np.ndarray


def one_thread() -> contextlib.AbstractContextManager:
    """Products and factors of matrices by one thread, where threadpoolctl is installed.

    These matrices are small, and the threads would spend their time in waiting for one another:
    fifteen times as long on a busy machine of two cores.
    """
    controller = _threads()
    return controller.limit(limits=1, user_api="blas") if controller else contextlib.nullcontext()


@functools.cache
def _threads() -> Any:
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController()


def unpack(flat: np.ndarray) -> Kernel:
    """A kernel from (m, log a, log s, log ℓ_1 … log ℓ_D)."""
    return Kernel(flat[0].item(), np.exp(flat[1]).item(), np.exp(flat[2]).item(), np.exp(flat[3:]))


def log_prior(flat: np.ndarray) -> float:
    """The log density of the parameters' prior at (m, log a, log s, log ℓ …), up to a constant.

    m ~ N(0, 1), log a ~ N(0, 1), log s ~ N(log 0.1, 2²), log ℓ_d ~ N(log (√D / 2), 1): outputs are
    standardized, and distances in the unit cube grow as √D, and so do the scales that matter
    (Hvarfner et al., 2024, arXiv:2402.02229).
    """
    return -0.5 * float(np.sum(((flat - prior_mean(flat.size - 3)) / _prior_scale(flat.size)) ** 2))


def prior_mean(dimensions: int) -> np.ndarray:
    """The mean of the prior over (m, log a, log s, log ℓ …), a place to start from."""
    scales = np.full(dimensions, math.log(math.sqrt(dimensions) / 2))
    return np.concatenate([[0.0, 0.0, math.log(0.1)], scales])


def _prior_scale(size: int) -> np.ndarray:
    scale = np.ones(size)
    scale[2] = 2.0
    return scale


def covariance(kernel: Kernel, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """k(x, x′) for all pairs, shape (N, M), of inputs (N, D) and (M, D)."""
    return _matern(kernel.amplitude, _distances(kernel, left, right))


def log_likelihood(kernel: Kernel, inputs: np.ndarray, outputs: np.ndarray) -> float:
    """The logarithm of N(y; m, K + s²I) for inputs (N, D) and outputs (N,)."""
    factor = _factor(kernel, inputs)
    white = scipy.linalg.solve_triangular(factor, outputs - kernel.mean, lower=True)
    constant = len(outputs) / 2 * math.log(2 * math.pi)
    return float(-0.5 * white @ white - np.log(np.diag(factor)).sum() - constant)


def posterior(kernel: Kernel, inputs: np.ndarray, outputs: np.ndarray) -> Posterior:
    """What inputs (N, D) and outputs (N, J) tell."""
    factor = _factor(kernel, inputs)
    whitener = scipy.linalg.solve_triangular(factor, np.eye(len(inputs)), lower=True)
    weights = whitener.T @ (whitener @ (outputs - kernel.mean))
    return Posterior(kernel, inputs, whitener, weights, outputs.min(axis=0))


def predict(known: Posterior, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The means (M, J) and covariance (M, M) of the function, without noise, at inputs (M, D)."""
    cross = covariance(known.kernel, inputs, known.inputs)
    white = known.whitener @ cross.T
    prior = covariance(known.kernel, inputs, inputs)
    return known.kernel.mean + cross @ known.weights, prior - white.T @ white


def expected_improvement(known: Posterior, inputs: np.ndarray) -> np.ndarray:
    """EI at inputs (M, D), the mean over the J vectors of outputs, shape (M,)."""
    cross = covariance(known.kernel, inputs, known.inputs)
    white = known.whitener @ cross.T
    variance = known.kernel.amplitude**2 - np.sum(white**2, axis=0)
    scale = np.sqrt(np.maximum(variance, _floor(known)))[:, None]
    gain = known.best[None] - known.kernel.mean - cross @ known.weights
    return improvement(gain, scale).mean(axis=1)


def improvement(gain: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """EI where the mean is `gain` below the best, and the standard deviation is `scale`."""
    standard = gain / scale
    return scale * (standard * scipy.special.ndtr(standard) + _density(standard))


def improvement_and_slope(known: Posterior, point: np.ndarray) -> tuple[float, np.ndarray]:
    """EI at one point (D,) and its gradient (D,)."""
    kernel = known.kernel
    distances = _distances(kernel, point[None], known.inputs)[0]
    cross = _matern(kernel.amplitude, distances)
    # dk/dx_d = −(5a²/3) (1 + √5 r) e^{−√5 r} (x_d − x′_d) / ℓ_d²
    root = math.sqrt(5) * distances
    steepness = -5 / 3 * kernel.amplitude**2 * (1 + root) * np.exp(-root)
    slopes = steepness[:, None] * (point - known.inputs) / kernel.lengthscales**2
    solved = known.whitener.T @ (known.whitener @ cross)
    variance = kernel.amplitude**2 - cross @ solved
    if variance <= _floor(known):
        variance, variance_slope = _floor(known), np.zeros_like(point)
    else:
        variance_slope = -2 * solved @ slopes
    scale = math.sqrt(variance)
    gain = known.best - kernel.mean - cross @ known.weights
    standard = gain / scale
    value = improvement(gain, np.array(scale)).mean()
    # dEI = φ(z) dσ − Φ(z) dμ
    mean_slope = known.weights.T @ slopes
    per_output = (
        _density(standard)[:, None] * variance_slope / (2 * scale)
        - scipy.special.ndtr(standard)[:, None] * mean_slope
    )
    return float(value), per_output.mean(axis=0)


def _density(standard: np.ndarray) -> np.ndarray:
    return np.exp(-(standard**2) / 2) / math.sqrt(2 * math.pi)


def _floor(known: Posterior) -> float:
    return JITTER * known.kernel.amplitude**2


def _factor(kernel: Kernel, inputs: np.ndarray) -> np.ndarray:
    matrix = covariance(kernel, inputs, inputs)
    matrix[np.diag_indices(len(inputs))] += kernel.noise**2 + JITTER * kernel.amplitude**2
    return np.linalg.cholesky(matrix)


def _matern(amplitude: float, distances: np.ndarray) -> np.ndarray:
    root = math.sqrt(5) * distances
    return amplitude**2 * (1 + root + root**2 / 3) * np.exp(-root)


def _distances(kernel: Kernel, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    scales = kernel.lengthscales
    return scipy.spatial.distance.cdist(left / scales, right / scales)
