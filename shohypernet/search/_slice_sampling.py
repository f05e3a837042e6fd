"""Slice sampling, one coordinate at a time: draws from a density known up to a constant.

    h ~ U(0, p(x));  x′ ~ U{ x′ : p(x′) > h },  within an interval stepped out from x and shrunk

Neal (2003), "Slice Sampling", Annals of Statistics 31, figures 3 and 5. It has no step size that
matters, which is why Snoek et al. (2012) marginalize kernel parameters with it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

MOST_STEPS_OUT = 10


def sweep(
    rng: np.random.Generator,
    log_density: Callable[[np.ndarray], float],
    point: np.ndarray,
    width: float = 1.0,
) -> np.ndarray:
    """Moves each coordinate once, in a random order; leaves the density as it is.

    Args:
      rng: where the randomness comes from.
      log_density: log p up to a constant; −inf where p is 0.
      point: x, shape (D,), where p is above 0.
      width: of the first interval, about a standard deviation of p.

    Returns:
      x′, shape (D,).
    """
    point = np.array(point, float)
    level = log_density(point)
    for axis in rng.permutation(point.size):
        height = level + np.log1p(-rng.random())  # the log of a uniform in (0, 1]

        def at(value: Any, axis: int = axis) -> float:
            moved = point.copy()
            moved[axis] = value
            return log_density(moved)

        low = point[axis] - width * rng.random()
        high = low + width
        # Neal's limit on the steps is shared out at random, or the chain would not be reversible.
        left = rng.integers(MOST_STEPS_OUT)
        for _ in range(left):
            if at(low) <= height:
                break
            low -= width
        for _ in range(MOST_STEPS_OUT - 1 - left):
            if at(high) <= height:
                break
            high += width
        while True:
            value = rng.uniform(low, high)
            level = at(value)
            if level > height or value == point[axis]:
                point[axis] = value
                break
            low, high = (value, high) if value < point[axis] else (low, value)
    return point
