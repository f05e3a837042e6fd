"""Priors of a Bayesian hypernet's numbers, all independent and alike.

Blundell, Cornebise, Kavukcuoglu and Wierstra (2015), "Weight Uncertainty in Neural Networks",
arXiv:1505.05424, section 3.3.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm

from shohypernet._internal import validation
from shohypernet._internal.validation import require


class Prior(NamedTuple):
    """A prior p of single numbers.

    Attributes:
      log_density: `log_density(numbers)`, log p of each, of the same shape.
      divergence: `divergence(drawn, mean, deviation)`, KL(N(mean, deviation²) ‖ p) of each number,
        exactly or as an unbiased estimate from what was drawn.
    """

    log_density: Callable[[jax.Array], jax.Array]
    divergence: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def gaussian_prior(scale: float = 1.0) -> Prior:
    """Prior N(0, scale²), whose divergence is exact.

    Args:
      scale: standard deviation.

    Raises:
      ValueError: unless the scale is positive.
    """
    validation.positive("gaussian_prior", scale=scale)

    def divergence(drawn: jax.Array, mean: jax.Array, deviation: jax.Array) -> jax.Array:
        del drawn
        ratio = jnp.square(deviation / scale)
        return (ratio + jnp.square(mean / scale) - 1 - jnp.log(ratio)) / 2

    return Prior(lambda numbers: norm.logpdf(numbers, scale=scale), divergence)


def mixture_prior(
    wide: float = 1.0, narrow: float = math.exp(-6.0), *, weight: float = 0.5
) -> Prior:
    """Prior weight · N(0, wide²) + (1 − weight) · N(0, narrow²), whose divergence is estimated.

    The narrow part pulls numbers that the data don't need to 0, the wide one leaves others alone.

    Args:
      wide: standard deviation of the first part.
      narrow: standard deviation of the second part.
      weight: of the first part, between 0 and 1.

    Raises:
      ValueError: unless both scales are positive, and the weight is between 0 and 1.

    Reference:
      Blundell et al. (2015), arXiv:1505.05424, section 3.3.
    """
    validation.positive("mixture_prior", wide=wide, narrow=narrow)
    require(0 < weight < 1, f"mixture_prior() needs a weight between 0 and 1, got {weight!r}.")

    def log_density(numbers: jax.Array) -> jax.Array:
        # Not the logarithm of a sum, whose parts underflow a dozen deviations from 0.
        return jnp.logaddexp(
            math.log(weight) + norm.logpdf(numbers, scale=wide),
            math.log1p(-weight) + norm.logpdf(numbers, scale=narrow),
        )

    def divergence(drawn: jax.Array, mean: jax.Array, deviation: jax.Array) -> jax.Array:
        return norm.logpdf(drawn, mean, deviation) - log_density(drawn)

    return Prior(log_density, divergence)
