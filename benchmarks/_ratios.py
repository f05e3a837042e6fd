"""Ratios of the library's speed to that of plain JAX: a record of them, and what fell since.

A ratio of two rates taken in turns says more of the program than of the machine or of its other
work, so that it may be compared with one of another day. An absolute time may not.
"""

import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

TOLERANCE = 0.1  # as much may be lost
BUSY_CORES = 0.2  # used by other processes, from where the ratios suffer


class Record(NamedTuple):
    """Measured ratios.

    Attributes:
      machine: as `_machine.describe` has it.
      ratios: steps/s of the library over those of plain JAX, by problem.
      cores_busy_with_others: mean number of them meanwhile.
    """

    machine: dict[str, Any]
    ratios: dict[str, float]
    cores_busy_with_others: float


def read(path: pathlib.Path) -> Record:
    """The record in a file.

    Raises:
      FileNotFoundError: if there is none.
      ValueError: if the file is no record.
    """
    try:
        return Record(**json.loads(path.read_text()))
    except TypeError as error:
        raise ValueError(f"{path} is no record of ratios: {error}") from None


def write(path: pathlib.Path, record: Record) -> None:
    """Write a record, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record._asdict(), indent=2) + "\n")


def fallen(ratios: Mapping[str, float], recorded: Mapping[str, float]) -> list[str]:
    """Names of the ratios that are lower than recorded by more than `TOLERANCE` of it."""
    return [
        name
        for name, ratio in ratios.items()
        if name in recorded and ratio < (1 - TOLERANCE) * recorded[name]
    ]


def differences(machine: Mapping[str, Any], recorded: Mapping[str, Any]) -> list[str]:
    """A line for each way in which this machine isn't the recorded one."""
    return [
        f"{name}: {recorded.get(name)} then, {value} now"
        for name, value in machine.items()
        if recorded.get(name) != value
    ]


def compare(here: Record, recorded: Record, again: Callable[[str], float]) -> list[str]:
    """Print both records side by side, and name what fell.

    Args:
      here: measured just now.
      recorded: to compare it with.
      again: measures the ratio of a problem once more.

    Returns:
      The names of the problems that fell both times: on a busy machine one of four may once.
    """
    print(table(here.ratios, recorded.ratios))
    if differing := differences(here.machine, recorded.machine):
        print(
            "  This is not the machine of the record, so that ratios may differ; record them here:"
        )
        print("\n".join(f"    {line}" for line in differing))
    then, now = recorded.cores_busy_with_others, here.cores_busy_with_others
    if max(then, now) > BUSY_CORES:
        print(f"  Other programs moved them too: {then:.1f} cores were busy then, {now:.1f} now.")
    fell = fallen(here.ratios, recorded.ratios)
    if fell:
        print(f"  Measured again: {', '.join(fell)}.", flush=True)
    second = {name: again(name) for name in fell}
    if second:
        print(table(second, recorded.ratios))
    return fallen(second, recorded.ratios)


def table(ratios: Mapping[str, float], recorded: Mapping[str, float]) -> str:
    """The ratios beside those recorded, a line for each problem."""
    lines = [f"  {'times plain JAX':<18}{'recorded':>10}{'now':>8}{'change':>9}"]
    for name, ratio in ratios.items():
        then = recorded.get(name)
        before, change = ("-", "-") if then is None else (f"{then:.2f}", f"{ratio / then - 1:+.0%}")
        lines.append(f"  {name:<18}{before:>10}{ratio:>8.2f}{change:>9}")
    return "\n".join(lines)
