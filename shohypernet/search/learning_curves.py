"""A Gaussian process over learning curves: each decays exponentially to where it will end.

    y_n(t) = f(x_n) + g_n(t) + ε,   f ~ GP(m, k_x),   g_n ~ GP(0, k_t),   ε ~ N(0, s²)
    k_t(t, t′) = c² β^α / (t + t′ + β)^α

k_x is the Matérn-5/2 kernel over λ; k_t is a mixture of e^{−ρ (t + t′)} over rates ρ ~ Γ(α, β), so
that g_n vanishes as t grows and f is where the curves end. Given f they are independent, so with N
curves no matrix is larger than N or than the longest curve:

    Λ_n = 1ᵀ K_n⁻¹ 1,  γ_n = 1ᵀ K_n⁻¹ (y_n − m),   K_n = k_t + s²I on curve n's times
    f | y ~ N(m + C γ, C),   C = (K_x⁻¹ + Λ)⁻¹

A curve without observations has Λ_n = γ_n = 0, so new λ are curves of length 0.

Swersky, Snoek and Adams (2014), "Freeze-Thaw Bayesian Optimization", arXiv:1406.3896, sections 3.1
and 3.2; the scale c is ours. In NumPy and float64.
"""

import math
from typing import NamedTuple

import numpy as np
import scipy.linalg

from shohypernet.search import gaussian_process
from shohypernet.search.gaussian_process import JITTER, Kernel

OWN_PARAMETERS = 3  # those of k_t, before those of k_x


class Curves(NamedTuple):
    """Learning curves observed at times 1, 2, ….

    Attributes:
      inputs: λ as the model sees it, shape (N, D).
      values: losses, shape (N, T), anything beyond a curve's length.
      lengths: observations of each, from 0 to T, shape (N,).
    """

    inputs: np.ndarray
    values: np.ndarray
    lengths: np.ndarray


class Model(NamedTuple):
    """The parameters.

    Attributes:
      scale: c, a standard deviation.
      shape: α.
      rate: β, in units of t.
      kernel: m, s and the parameters of k_x.
    """

    scale: float
    shape: float
    rate: float
    kernel: Kernel


class Posterior(NamedTuple):
    """What the observations tell.

    Attributes:
      mean: of the ends f, shape (N,).
      covariance: of the ends, C, shape (N, N).
      gain: Ω, how far a curve's next observation moves with its end, shape (N,).
      next_mean: of each curve's next observation, shape (N,).
      next_variance: likewise.
    """

    mean: np.ndarray
    covariance: np.ndarray
    gain: np.ndarray
    next_mean: np.ndarray
    next_variance: np.ndarray


def unpack(flat: np.ndarray) -> Model:
    """A model from (log c, log α, log β, m, log a, log s, log ℓ_1 … log ℓ_D)."""
    own = np.exp(flat[:OWN_PARAMETERS]).tolist()
    return Model(*own, gaussian_process.unpack(flat[OWN_PARAMETERS:]))


def log_prior(flat: np.ndarray) -> float:
    """Its log density, up to a constant: log c, log α, log β ~ N(0, 1), the others as there."""
    own = -0.5 * float(np.sum(flat[:OWN_PARAMETERS] ** 2))
    return own + gaussian_process.log_prior(flat[OWN_PARAMETERS:])


def prior_mean(dimensions: int) -> np.ndarray:
    """A place to start from."""
    return np.concatenate([np.zeros(OWN_PARAMETERS), gaussian_process.prior_mean(dimensions)])


def decay_covariance(model: Model, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """k_t(t, t′) for all pairs of times, shapes (T,) and (T′,)."""
    total = left[:, None] + right[None]
    return model.scale**2 * (model.rate / (total + model.rate)) ** model.shape


def log_likelihood(model: Model, curves: Curves) -> float:
    """The logarithm of p(y), of all observations together."""
    white, ones, factor = _whitened(model, curves)
    sums = np.cumsum(ones**2), np.cumsum(ones[:, None] * white, axis=0)
    precision, moment = (_upto(total, curves.lengths) for total in sums)
    ends, log_determinant = _ends(model, curves.inputs, precision)
    seen = np.arange(len(white))[:, None] < curves.lengths[None]
    quadratic = np.sum(white**2, where=seen) - moment @ ends @ moment
    log_determinant += 2 * np.sum(np.log(np.diag(factor))[:, None] * seen)
    return float(-0.5 * (quadratic + log_determinant + seen.sum() * math.log(2 * math.pi)))


def posterior(model: Model, curves: Curves) -> Posterior:
    """Where the curves will end, and what is to be seen next of each."""
    longer = curves._replace(values=np.pad(curves.values, ((0, 0), (0, 1))))
    white, ones, factor = _whitened(model, longer)
    sums = np.cumsum(ones**2), np.cumsum(ones[:, None] * white, axis=0)
    precision, moment = (_upto(total, curves.lengths) for total in sums)
    ends, _ = _ends(model, curves.inputs, precision)
    mean = model.kernel.mean + ends @ moment
    # Row T of the Cholesky factor predicts time T + 1 from those before, for any length T.
    rows = np.tril(factor, -1)[curves.lengths]
    deviation = np.diag(factor)[curves.lengths]
    gain = deviation * ones[curves.lengths]
    # `white` is of y − m, and what g predicts is of y − f.
    known = np.sum(rows.T * white, axis=0) + (1 - gain) * model.kernel.mean
    variance = deviation**2 + gain**2 * np.diag(ends)
    return Posterior(mean, ends, gain, known + gain * mean, variance)


def _whitened(model: Model, curves: Curves) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """L⁻¹(y − m) of all curves (T, N), L⁻¹1 (T,), and L (T, T), for L Lᵀ = k_t + s²I.

    L⁻¹ is lower triangular, so the first rows are right for curves that are shorter than T.
    """
    times = np.arange(1.0, curves.values.shape[1] + 1)
    matrix = decay_covariance(model, times, times)
    matrix[np.diag_indices(len(times))] += model.kernel.noise**2 + JITTER * model.scale**2
    factor = np.linalg.cholesky(matrix)
    beyond = np.arange(len(times))[None] >= curves.lengths[:, None]
    residuals = np.where(beyond, 0.0, curves.values - model.kernel.mean)
    both = np.concatenate([residuals.T, np.ones((len(times), 1))], axis=1)
    solved = scipy.linalg.solve_triangular(factor, both, lower=True)
    return solved[:, :-1], solved[:, -1], factor


def _upto(totals: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The running total over times at each curve's length; 0 for a curve of length 0."""
    if totals.ndim == 1:
        totals = np.broadcast_to(totals[:, None], (len(totals), len(lengths)))
    padded = np.concatenate([np.zeros((1, len(lengths))), totals])
    return padded[lengths, np.arange(len(lengths))]


def _ends(model: Model, inputs: np.ndarray, precision: np.ndarray) -> tuple[np.ndarray, float]:
    """C = (K_x⁻¹ + Λ)⁻¹ = K_x − K_x √Λ B⁻¹ √Λ K_x, and log |B|, B = I + √Λ K_x √Λ."""
    prior = gaussian_process.covariance(model.kernel, inputs, inputs)
    root = np.sqrt(precision)
    factor = np.linalg.cholesky(np.eye(len(inputs)) + root[:, None] * prior * root[None])
    half = scipy.linalg.solve_triangular(factor, root[:, None] * prior, lower=True)
    return prior - half.T @ half, 2 * float(np.log(np.diag(factor)).sum())
