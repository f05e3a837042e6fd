"""Messages between devices, read off a compiled program.

XLA's partitioner writes them into the program of each device as collectives. Of a result of B bytes
on each of n devices, the usual ring algorithms have each device send

    all-reduce 2 (n−1)/n B,  all-gather (n−1)/n B,  all-to-all (n−1)/n B,  reduce-scatter (n−1) B,
    collective-permute B.
"""

import math
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

SENT: dict[str, Callable[[int], float]] = {
    "all-reduce": lambda devices: 2 * (devices - 1) / devices,
    "all-gather": lambda devices: (devices - 1) / devices,
    "reduce-scatter": lambda devices: devices - 1,
    "all-to-all": lambda devices: (devices - 1) / devices,
    "collective-permute": lambda devices: 1,
}

_BITS = {"pred": 8} | {f"{kind}{bits}": bits for kind in "suf" for bits in (8, 16, 32, 64)}
_BITS |= {"bf16": 16, "c64": 64, "c128": 128}
_HEADER = re.compile(r"^(ENTRY )?%?([\w.-]+) .*\{$")
_CALL = re.compile(r"= (.+?) ([\w-]+)\(")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")
_CALLED = re.compile(r"(?:body|to_apply|calls|\w+_computation)=%?([\w.-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_GROUPS = re.compile(r"replica_groups=(?:\[\d+,(\d+)\]|\{\{([\d,]*)\})")


class Collective(NamedTuple):
    """A collective of a compiled program.

    Attributes:
      kind: a key of `SENT`.
      bytes: bytes of its result on each device.
      devices: number of devices that take part in it together.
      loops: trip counts of the loops around it, the outermost first; 0 where XLA knows none.
    """

    kind: str
    bytes: float
    devices: int
    loops: tuple[int, ...]

    @property
    def sent(self) -> float:
        """Bytes that a device sends each time."""
        return SENT[self.kind](self.devices) * self.bytes


def collectives(program: str, devices: int) -> list[Collective]:
    """All collectives that a program runs, those of a computation once for each of its callers.

    Args:
      program: `compiled.as_text()`.
      devices: number of them in the program, for collectives that name no groups.
    """
    computations, entry = _computations(program)
    return list(_walk(computations, entry, (), devices))


def per_step(found: list[Collective], steps: int) -> dict[str, tuple[float, float]]:
    """Number of collectives, and bytes that a device sends, in each step of a loop, by kind.

    Args:
      found: collectives of the program.
      steps: trip count of the loop over steps, which no other loop may have.
    """
    totals: dict[str, tuple[float, float]] = {}
    for one in found:
        if steps in one.loops:
            inner = one.loops[one.loops.index(steps) + 1 :]
            times = math.prod(inner)
            count, sent = totals.get(one.kind, (0, 0))
            totals[one.kind] = count + times, sent + times * one.sent
    return totals


def _computations(program: str) -> tuple[dict[str, list[str]], str]:
    """Lines of each computation by its name, and the name of the first to run."""
    found: dict[str, list[str]] = {}
    entry, lines = "", []
    for line in program.splitlines():
        if header := _HEADER.match(line):
            lines = found[header[2]] = []
            entry = header[2] if header[1] else entry
        elif line.startswith(" "):
            lines.append(line)
    return found, entry


def _walk(
    computations: dict[str, list[str]], name: str, loops: tuple[int, ...], devices: int
) -> Iterator[Collective]:
    for line in computations.get(name, []):
        call = _CALL.search(line)
        if not call:
            continue
        kind = call[2].removesuffix("-start")
        if kind in SENT:
            yield Collective(kind, _bytes(call[1]), _group(line, devices), loops)
            continue
        within = loops
        if kind == "while":
            trips = _TRIPS.search(line)
            within = (*loops, int(trips[1]) if trips else 0)
        called = _CALLED.findall(line)
        for branches in _BRANCHES.findall(line):
            called += [branch.strip(" %") for branch in branches.split(",")]
        for each in called:
            yield from _walk(computations, each, within, devices)


def _bytes(shape: str) -> float:
    """Bytes of an array, or of a tuple of them."""
    return sum(
        _BITS[kind] / 8 * math.prod(int(size) for size in sizes.split(",") if size)
        for kind, sizes in _ARRAY.findall(shape)
        if kind in _BITS
    )


def _group(line: str, devices: int) -> int:
    groups = _GROUPS.search(line)
    if not groups:
        return devices
    return int(groups[1]) if groups[1] else len(groups[2].split(","))
