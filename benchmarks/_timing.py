"""Contenders timed in turns, so that a slowdown of the machine slows them all."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import psutil

PAUSE_SECONDS = 0.1  # before each turn: idle threads of the one before may spin for a while


class Turn(NamedTuple):
    """A contender's work in its turn.

    Attributes:
      advance: makes a number of steps and waits for the end.
      steps: number of steps of each call.
      seconds: the least duration of a turn; calls repeat until it is over.
    """

    advance: Callable[[int], None]
    steps: int
    seconds: float = 0.3


class Rate(NamedTuple):
    """Speed of one contender over all rounds.

    Attributes:
      median: steps/s.
      low: of the slowest round, steps/s.
      high: of the fastest round, steps/s.
      cpu_milliseconds: CPU time of all our threads per step, the median. On a shared machine it is
        the more reliable number, since it leaves out the waiting for a core.
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


def interleaved(contenders: Mapping[str, Turn], rounds: int) -> tuple[dict[str, Rate], float]:
    """Rates of contenders timed A B C A B C …, after one call each to warm up.

    Args:
      contenders: their work, by name.
      rounds: number of turns of each.

    Returns:
      The rates, and the mean number of cores that other processes kept busy meanwhile.
    """
    for advance, steps, _ in contenders.values():
        advance(steps)
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    cpu: dict[str, list[float]] = {name: [] for name in contenders}
    began, busy, ours = time.perf_counter(), _busy_seconds(), time.process_time()
    for _ in range(rounds):
        for name, turn in contenders.items():
            time.sleep(PAUSE_SECONDS)
            rate, milliseconds = _timed(turn)
            samples[name].append(rate)
            cpu[name].append(milliseconds)
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


def _timed(turn: Turn) -> tuple[float, float]:
    """Steps/s of one turn, and its CPU milliseconds per step."""
    done, elapsed = 0, 0.0
    began, began_cpu = time.perf_counter(), time.process_time()
    while elapsed < turn.seconds:
        turn.advance(turn.steps)
        done += turn.steps
        elapsed = time.perf_counter() - began
    return done / elapsed, 1e3 * (time.process_time() - began_cpu) / done


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0.0)
