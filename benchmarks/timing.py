"""Contenders timed by turns, so that a machine that slows down slows them all."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

SECONDS_A_SAMPLE = 0.3


class Rate(NamedTuple):
    """Of a contender, 1/s, over all rounds."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        """The median, then the range."""
        return f"{self.median:8.1f}  ({self.low:.1f} to {self.high:.1f})"


def by_turns(
    contenders: Mapping[str, tuple[Callable[[int], None], int]], rounds: int
) -> tuple[dict[str, Rate], dict[str, list[float]]]:
    """Rates of contenders timed A B C A B C …

    Args:
      contenders: by name, a function that makes a number of steps and waits for the end, and the
        number to ask of it.
      rounds: turns of each, after one to warm up; each repeats the call for `SECONDS_A_SAMPLE`.

    Returns:
      The rates, in steps/s, and the samples that they summarise, in the order taken.
    """
    for advance, steps in contenders.values():
        advance(steps)
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, (advance, steps) in contenders.items():
            done, began, elapsed = 0, time.perf_counter(), 0.0
            while elapsed < SECONDS_A_SAMPLE:
                advance(steps)
                done += steps
                elapsed = time.perf_counter() - began
            samples[name].append(done / elapsed)
    rates = {
        name: Rate(statistics.median(values), min(values), max(values))
        for name, values in samples.items()
    }
    return rates, samples


def median_ratio(samples: list[float], others: list[float]) -> float:
    """The median over the rounds of one contender's rate over another's in the same round."""
    return statistics.median(a / b for a, b in zip(samples, others, strict=True))
