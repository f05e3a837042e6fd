"""Intervals for the losses of trained models."""

from typing import Any, NamedTuple

import numpy as np
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel


class Intervals(NamedTuple):
    """An interval for each model, arrays (models,)."""

    low: np.ndarray
    high: np.ndarray

    @property
    def width(self) -> np.ndarray:
        """Width of each."""
        return self.high - self.low

    def hold(self, losses: np.ndarray) -> np.ndarray:
        """Whether each loss lies in its interval."""
        return (self.low <= losses) & (losses <= self.high)


def of_draws(draws: np.ndarray, level: float) -> Intervals:
    """The posterior's own intervals: quantiles of losses (draws, models)."""
    return Intervals(*np.quantile(draws, ((1 - level) / 2, (1 + level) / 2), axis=0))


def spread(draws: np.ndarray, noise: float) -> np.ndarray:
    """Standard deviation by the posterior and from seed to seed together, shape (models,)."""
    return np.sqrt(np.var(draws, axis=0) + noise**2)


def scaled(
    known: np.ndarray,
    known_center: np.ndarray,
    known_spread: np.ndarray,
    center: np.ndarray,
    spread: np.ndarray,
    level: float,
) -> Intervals:
    """Intervals center + spread · [a, b], with a and b from models whose losses are known.

    a and b are (loss − center) / spread of such ranks that an interval holds the loss of one more
    model from the same p(λ) at least as often as the level says, whatever the losses are like:
    split conformal prediction (Papadopoulos et al., 2002).

    Args:
      known: losses of the models to scale by, shape (calibration,).
      known_center: what is predicted for them, likewise.
      known_spread: how uncertain that is, likewise.
      center: what is predicted where intervals are asked for, shape (models,).
      spread: how uncertain that is, likewise.
      level: such as 0.9.

    Raises:
      ValueError: for too few known losses for the level.
    """
    ratios = np.sort((known - known_center) / known_spread)
    tail = int((len(ratios) + 1) * (1 - level) / 2 + 1e-9)
    if not tail:
        raise ValueError(f"{len(ratios)} models are too few for intervals of level {level}.")
    return Intervals(center + spread * ratios[tail - 1], center + spread * ratios[-tail])


def of_process(
    inputs: np.ndarray, losses: np.ndarray, at: np.ndarray, quantile: float
) -> Intervals:
    """Mean ± quantile · deviation of a Gaussian process of the losses.

    Args:
      inputs: λ of the models that it learns from, shape (calibration, features).
      losses: their losses, shape (calibration,).
      at: λ to predict at, shape (models, features).
      quantile: of the standard normal distribution.
    """
    scales: Any = np.ones(inputs.shape[1])
    kernel = ConstantKernel(1.0) * RBF(scales) + WhiteKernel(1e-3)
    process = GaussianProcessRegressor(
        kernel, normalize_y=True, n_restarts_optimizer=2, random_state=0
    )
    predicted: Any = process.fit(inputs, losses).predict(at, return_std=True)
    mean, deviation = predicted
    return Intervals(mean - quantile * deviation, mean + quantile * deviation)
