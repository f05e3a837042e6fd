"""Description of the machine and its measured peaks.

The peaks are measured by XLA on the device that the benchmark uses, not taken from a data sheet: a
share of one is a share of the rate that this machine attains.
"""

import os
import pathlib
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

PRODUCT_SIZES = (512, 1024, 2048)
LARGE_BYTES = 2**29  # far above any cache


class Machine(NamedTuple):
    """Names of the hardware and software under a benchmark."""

    cpu: str
    cores: int
    device: str
    jax: str
    python: str


class Gauge(NamedTuple):
    """A call with a known amount of work.

    Attributes:
      kind: the field of `Peaks` that it measures.
      repeat: `repeat(times)` repeats the call and waits for the end.
      work: flops or bytes of one call.
    """

    kind: str
    repeat: Callable[[int], None]
    work: float


class Peaks(NamedTuple):
    """The best medians over several sizes and operations.

    Attributes:
      product: flops/s of a square float32 product at the default precision.
      read: bytes/s of a reduction over an array far larger than any cache.
      read_again: bytes/s of the same over an array of a size that matters here, repeatedly.
      copy: bytes/s, read and written, of a large copy into memory that was touched before.
    """

    product: float
    read: float
    read_again: float
    copy: float

    @property
    def bandwidth(self) -> float:
        """The faster of the two reads, bytes/s; for a small array it is partly a cache's."""
        return max(self.read, self.read_again)


def describe() -> Machine:
    """The machine that runs this process."""
    device = jax.devices()[0]
    return Machine(
        cpu=_cpu_name(),
        cores=len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1,
        device=f"{device.platform}: {device.device_kind}",
        jax=jax.__version__,
        python=platform.python_version(),
    )


def gauges(shape_read_again: Sequence[int]) -> dict[str, Gauge]:
    """The calls that are timed to find the peaks.

    Args:
      shape_read_again: shape of the float32 array that the benchmark reads in every step.
    """
    found = {}
    for size in PRODUCT_SIZES:
        square = jnp.ones((size, size))
        found[f"product of {size} x {size}"] = Gauge(
            "product", _repeated(jax.jit(jnp.dot), square, square), 2 * size**3
        )
    large = jnp.ones((LARGE_BYTES // 4096, 1024))
    # Which of the operations is fastest differs with the machine.
    operations = {"sum": jnp.sum, "row sums": lambda x: jnp.sum(x, axis=1), "maximum": jnp.max}
    for name, operation in operations.items():
        for kind, array in {"read": large, "read_again": jnp.ones(shape_read_again)}.items():
            repeat = _repeated(jax.jit(operation), array)
            found[f"{name} of {array.nbytes / 1e6:.0f} MB"] = Gauge(kind, repeat, array.nbytes)
    found["copy"] = Gauge("copy", _copying(large), 2 * large.nbytes)
    return found


def peaks(gauges: Mapping[str, Gauge], calls_per_second: Mapping[str, float]) -> Peaks:
    """The best of the gauges of each kind, given their measured rates."""
    best = dict.fromkeys(Peaks._fields, 0.0)
    for name, gauge in gauges.items():
        best[gauge.kind] = max(best[gauge.kind], gauge.work * calls_per_second[name])
    return Peaks(**best)


def bytes_held(compiled: Any) -> int:
    """Arguments, results and temporaries of a compiled call, less what it uses twice."""
    memory = compiled.memory_analysis()
    return (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes
    )


def _repeated(function: Callable[..., jax.Array], *arguments: jax.Array) -> Callable[[int], None]:
    def repeat(times: int) -> None:
        for _ in range(times):
            jax.block_until_ready(function(*arguments))

    return repeat


def _copying(array: jax.Array) -> Callable[[int], None]:
    # The target is donated, so that it is written to memory that the system has mapped before.
    copy: Any = jax.jit(lambda source, target: -source, donate_argnums=1, keep_unused=True)
    target = jnp.zeros_like(array)

    def repeat(times: int) -> None:
        nonlocal target
        for _ in range(times):
            target = jax.block_until_ready(copy(array, target))

    return repeat


def _cpu_name() -> str:
    try:
        if sys.platform == "darwin":
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.check_output(command, text=True).strip()
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        line = next(line for line in lines if line.startswith("model name"))
        return line.partition(":")[2].strip()
    except (OSError, StopIteration, subprocess.CalledProcessError):
        return platform.processor() or platform.machine()
