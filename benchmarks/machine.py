"""What the machine under the benchmark is, and the fastest that it was seen to go.

The peaks are measured, by XLA on the device that the benchmark uses, not looked up: a share of one
says how much of what is to be had here was had.
"""

import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

PRODUCT_SIZES = (512, 1024, 2048)
LARGE_BYTES = 2**29  # far above any cache
SECONDS_A_PEAK = 0.25
FEWEST_REPEATS = 5


class Machine(NamedTuple):
    """What runs the benchmark, in words."""

    cpu: str
    cores: int
    device: str
    jax: str
    python: str


class Peaks(NamedTuple):
    """The best medians of several sizes and ways.

    Attributes:
      flops: of a square float32 product at the default precision, 1/s.
      product_size: the size of the product that reached it.
      read: bytes/s of a reduction over an array far larger than any cache.
      read_again: bytes/s of the same over an array of a size that matters here, again and again.
      copy: bytes/s, read and written, of a large copy into memory that was already touched.
    """

    flops: float
    product_size: int
    read: float
    read_again: float
    copy: float

    @property
    def bandwidth(self) -> float:
        """The faster of the two reads, which for a small array is partly a cache's."""
        return max(self.read, self.read_again)


def describe() -> Machine:
    """Names the machine."""
    device = jax.devices()[0]
    return Machine(
        cpu=_cpu_name(),
        cores=len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1,
        device=f"{device.platform}: {device.device_kind}",
        jax=jax.__version__,
        python=platform.python_version(),
    )


def measure_peaks(shape_read_again: Sequence[int]) -> Peaks:
    """Measures the machine, in a few seconds.

    Args:
      shape_read_again: of the float32 array that the benchmark reads in every step.
    """
    products = {size: 2 * size**3 / _product_seconds(size) for size in PRODUCT_SIZES}
    best = max(products, key=lambda size: products[size])
    large = jnp.ones((LARGE_BYTES // 4096, 1024))
    return Peaks(
        flops=products[best],
        product_size=best,
        read=_read_rate(large),
        read_again=_read_rate(jnp.ones(shape_read_again)),
        copy=_copy_rate(large),
    )


def best_of(*peaks: Peaks) -> Peaks:
    """The fastest of each kind that any of several measurements saw."""
    fastest = max(peaks, key=lambda one: one.flops)
    return fastest._replace(
        read=max(one.read for one in peaks),
        read_again=max(one.read_again for one in peaks),
        copy=max(one.copy for one in peaks),
    )


def median_seconds(run: Callable[[], Any]) -> float:
    """The median time of a call, over about `SECONDS_A_PEAK` after one to warm up."""
    jax.block_until_ready(run())
    times: list[float] = []
    while len(times) < FEWEST_REPEATS or sum(times) < SECONDS_A_PEAK:
        began = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def _product_seconds(size: int) -> float:
    square = jnp.ones((size, size))
    product = jax.jit(jnp.dot)
    return median_seconds(lambda: product(square, square))


def _read_rate(array: jax.Array) -> float:
    # Which of them is faster differs with the machine; the best of them is what memory can give.
    ways = [jax.jit(jnp.sum), jax.jit(lambda x: jnp.sum(x, axis=1)), jax.jit(jnp.max)]
    return array.nbytes / min(median_seconds(lambda way=way: way(array)) for way in ways)


def _copy_rate(array: jax.Array) -> float:
    # The target is donated, so that it is written to memory that the system has mapped before.
    copy = jax.jit(lambda source, target: -source, donate_argnums=1, keep_unused=True)
    target = jnp.zeros_like(array)

    def run() -> jax.Array:
        nonlocal target
        target = copy(array, target)
        return target

    return 2 * array.nbytes / median_seconds(run)


def _cpu_name() -> str:
    try:
        if platform.system() == "Darwin":
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(
                command, capture_output=True, check=True, text=True
            ).stdout.strip()
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(
            line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration, subprocess.CalledProcessError):
        return platform.processor() or platform.machine()
