"""Contenders timed by turns, so that a machine that slows down slows them all."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import psutil

PAUSE_SECONDS = 0.1  # before each turn: idle threads of the one before may spin for a while


class Turn(NamedTuple):
    """What a contender does in its turn.

    Attributes:
      advance: makes a number of steps and waits for the end.
      steps: the number to ask of it, again and again.
      seconds: for at least so long.
    """

    advance: Callable[[int], None]
    steps: int
    seconds: float = 0.3


class Rate(NamedTuple):
    """Of one contender, over all rounds.

    Attributes:
      median: steps/s.
      low: the slowest round's.
      high: the fastest round's.
      cpu_milliseconds: of all our threads for a step, the median. Where others use the machine too,
        it says more than the rest, for it leaves out the waiting for a core.
      samples: steps/s of each round, in the order taken.
    """

    median: float
    low: float
    high: float
    cpu_milliseconds: float
    samples: list[float]

    def __str__(self) -> str:
        """The median, then the range."""
        return f"{self.median:8.1f} ({self.low:.1f} to {self.high:.1f})"


def by_turns(contenders: Mapping[str, Turn], rounds: int) -> tuple[dict[str, Rate], float]:
    """Rates of contenders timed A B C A B C …, after one call each to warm up.

    Args:
      contenders: what each does, by name.
      rounds: turns of each.

    Returns:
      The rates, and how many cores other processes kept busy meanwhile, on average.
    """
    for advance, steps, _ in contenders.values():
        advance(steps)
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    cpu: dict[str, list[float]] = {name: [] for name in contenders}
    began, busy, ours = time.perf_counter(), _busy_seconds(), time.process_time()
    for _ in range(rounds):
        for name, (advance, steps, seconds) in contenders.items():
            time.sleep(PAUSE_SECONDS)
            done, elapsed = 0, 0.0
            turn, turn_cpu = time.perf_counter(), time.process_time()
            while elapsed < seconds:
                advance(steps)
                done += steps
                elapsed = time.perf_counter() - turn
            samples[name].append(done / elapsed)
            cpu[name].append(1e3 * (time.process_time() - turn_cpu) / done)
    others = (_busy_seconds() - busy) - (time.process_time() - ours)
    rates = {
        name: Rate(
            statistics.median(values),
            min(values),
            max(values),
            statistics.median(cpu[name]),
            values,
        )
        for name, values in samples.items()
    }
    return rates, max(0.0, others / (time.perf_counter() - began))


def median_ratio(rate: Rate, other: Rate) -> float:
    """The median over the rounds of one contender's rate over another's in the same round."""
    return statistics.median(a / b for a, b in zip(rate.samples, other.samples, strict=True))


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0.0)
