"""Check of the range of a hyperparameter against what float32 holds."""

import numpy as np

from shohypernet._internal import validation

FEWEST_NUMBERS = 1_000  # of float32 in the range of a hyperparameter


def require_numbers_between(name: str, low: float, high: float) -> None:
    """Refuse a range that float32, in which hyperparameters are, can't hold or tell apart."""
    largest, smallest = (
        float(end) for end in (np.finfo(np.float32).max, np.finfo(np.float32).tiny)
    )
    validation.require(
        max(abs(low), abs(high), high - low) <= largest,
        f"{name}() needs a range that float32 holds, up to {largest:.4g}, got {low:g} to "
        f"{high:g}; measure the hyperparameter in another unit.",
    )
    apart = max(float(np.spacing(np.float32(max(abs(low), abs(high))))), smallest)
    validation.require(
        high - low >= FEWEST_NUMBERS * apart,
        f"{name}() needs a range of {FEWEST_NUMBERS:,} numbers of float32 or more, but from {low} "
        f"to {high} they are {apart:.2g} apart; let the hyperparameter be the difference from one "
        "end, in a unit of its own, and do the sum in the losses.",
    )
