"""A Gaussian process over learning curves: each decays exponentially to where it will end.

    y_n(t) = f(x_n) + g_n(t) + ε,   f ~ GP(m, k_x),   g_n ~ GP(0, k_t),   ε ~ N(0, s²)
    k_t(t, t′) = c² β^α / (t + t′ + β)^α

k_x is the Matérn-5/2 kernel over λ; k_t is a mixture of e^{−ρ (t + t′)} over rates ρ ~ Γ(α, β), so
that g_n vanishes as t grows and f is where the curves end. Given f they are independent, so with N
curves no matrix is larger than N or than the longest curve: one that was observed is worth a single
observation of its end, γ_n / Λ_n with a noise of variance 1 / Λ_n,

    Λ_n = 1ᵀ K_n⁻¹ 1,  γ_n = 1ᵀ K_n⁻¹ (y_n − m),   K_n = k_t + s²I on curve n's times
    f | y ~ N(m + K_x (K_x + Λ⁻¹)⁻¹ Λ⁻¹γ,  K_x − K_x (K_x + Λ⁻¹)⁻¹ K_x)

(the paper's C = (K_x⁻¹ + Λ)⁻¹ and m + Cγ, where no digits are lost). New λ are curves of length 0.

Swersky, Snoek and Adams (2014), "Freeze-Thaw Bayesian Optimization", arXiv:1406.3896, sections 3.1
and 3.2; the scale c is ours. In NumPy and float64.
"""

import math
from typing import NamedTuple

import numpy as np
import scipy.linalg

from shohypernet.search import _gaussian_process as gaussian_process
from shohypernet.search._gaussian_process import JITTER, Kernel

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
    scale, shape, rate = np.exp(flat[:OWN_PARAMETERS]).tolist()
    return Model(scale, shape, rate, gaussian_process.unpack(flat[OWN_PARAMETERS:]))


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
    seen = _seen(len(white), curves.lengths)
    ends = _observed_ends(model, curves, white, ones)
    # What is left of a curve once its end is taken off, and what is left of the ends.
    residuals = (white - ones[:, None] * ends.values)[seen]
    quadratic = np.sum(residuals**2) + np.sum(ends.white**2)
    log_determinant = 2 * np.sum(np.log(np.diag(factor))[:, None] * seen)
    log_determinant += np.sum(np.log(ends.precision[ends.observed]))
    log_determinant += 2 * np.sum(np.log(np.diag(ends.factor)))
    return float(-0.5 * (quadratic + log_determinant + seen.sum() * math.log(2 * math.pi)))


def posterior(model: Model, curves: Curves) -> Posterior:
    """Where the curves will end, and what is to be seen next of each."""
    longer = curves._replace(values=np.pad(curves.values, ((0, 0), (0, 1))))
    white, ones, factor = _whitened(model, longer)
    ends = _observed_ends(model, curves, white, ones)
    prior = gaussian_process.covariance(model.kernel, curves.inputs, curves.inputs)
    half = scipy.linalg.solve_triangular(ends.factor, prior[ends.observed], lower=True)
    mean, covariance = model.kernel.mean + half.T @ ends.white, prior - half.T @ half
    # Row T of the Cholesky factor predicts time T + 1 from those before, for any length T.
    rows = np.tril(factor, -1)[curves.lengths]
    deviation = np.diag(factor)[curves.lengths]
    gain = deviation * ones[curves.lengths]
    # `white` is of y − m, and what g predicts is of y − f.
    known = np.sum(rows.T * white, axis=0) + (1 - gain) * model.kernel.mean
    # Rounding may leave the variance of an end that is known below 0.
    variance = deviation**2 + gain**2 * np.maximum(np.diag(covariance), 0.0)
    return Posterior(mean, covariance, gain, known + gain * mean, variance)


class _Ends(NamedTuple):
    """The curves as observations of their ends.

    Attributes:
      observed: which curves have any length, shape (M,).
      precision: Λ of all, shape (N,).
      values: γ / Λ of all, 0 without observations, shape (N,).
      factor: the Cholesky factor of K_x + Λ⁻¹ among the observed, (M, M).
      white: its inverse times their values, (M,).
    """

    observed: np.ndarray
    precision: np.ndarray
    values: np.ndarray
    factor: np.ndarray
    white: np.ndarray


def _observed_ends(model: Model, curves: Curves, white: np.ndarray, ones: np.ndarray) -> _Ends:
    padded = np.concatenate([[0.0], np.cumsum(ones**2)])
    precision = padded[curves.lengths]
    moment = np.sum(ones[:, None] * white, axis=0, where=_seen(len(white), curves.lengths))
    observed = np.flatnonzero(curves.lengths)
    values = np.zeros(len(precision))
    values[observed] = moment[observed] / precision[observed]
    inputs = curves.inputs[observed]
    matrix = gaussian_process.covariance(model.kernel, inputs, inputs)
    noise = 1 / precision[observed] + JITTER * model.kernel.amplitude**2
    factor = np.linalg.cholesky(matrix + np.diag(noise))
    solved = scipy.linalg.solve_triangular(factor, values[observed], lower=True)
    return _Ends(observed, precision, values, factor, solved)


def _seen(times: int, lengths: np.ndarray) -> np.ndarray:
    return np.arange(times)[:, None] < lengths[None]


def _whitened(model: Model, curves: Curves) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """L⁻¹(y − m) of all curves (T, N), L⁻¹1 (T,), and L (T, T), for L Lᵀ = k_t + s²I.

    L⁻¹ is lower triangular, so the first rows are right for curves that are shorter than T.
    """
    times = np.arange(1.0, curves.values.shape[1] + 1)
    matrix = decay_covariance(model, times, times)
    matrix[np.diag_indices(len(times))] += model.kernel.noise**2 + JITTER * model.scale**2
    factor = np.linalg.cholesky(matrix)
    seen = _seen(len(times), curves.lengths)
    residuals = np.where(seen, curves.values.T - model.kernel.mean, 0.0)
    both = np.concatenate([residuals, np.ones((len(times), 1))], axis=1)
    solved = scipy.linalg.solve_triangular(factor, both, lower=True)
    return solved[:, :-1], solved[:, -1], factor
