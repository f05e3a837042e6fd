"""Checks of the range of a hyperparameter against what float32 holds."""

import math
import numbers

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


def require_log_bounds(low: float, high: float) -> None:
    """Refuse bounds of a logarithm that aren't positive, in order, and held by float32."""
    ordered = 0 < low < high < math.inf
    validation.require(ordered, f"log() needs 0 < low < high, got {low} and {high}.")
    smallest = float(np.finfo(np.float32).tiny)
    validation.require(
        low >= smallest,
        f"log() needs low to be {smallest:.4g} or more, below which float32 has no numbers of full "
        f"precision, got {low}; measure the hyperparameter in another unit.",
    )
    require_numbers_between("log", low, high)


def require_whole_bounds(low: int, high: int) -> None:
    """Refuse bounds that aren't whole numbers in order."""
    whole = all(isinstance(bound, numbers.Integral) for bound in (low, high))
    largest = 2**24  # up to which float32, in which codes are, holds each of them
    validation.require(
        whole and -largest <= low < high <= largest,
        f"integer() needs whole numbers with low < high, at most 2²⁴ from 0, got {low} and {high}.",
    )
