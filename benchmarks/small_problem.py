"""Algorithm 3 on the paper's small problem: speed beside other ways to do it, and beside the least.

    python -m benchmarks.small_problem [--output=results.json]

takes one or two minutes on 2 cores.
"""

import argparse
import functools
import importlib
import json
import math
import pathlib
import sys
import time
from typing import Any

import jax
import numpy as np

import shohypernet as shn
from benchmarks import (
    machine,
    roofline,
    setting,
    small_problem_jax,
    small_problem_library,
    small_problem_numpy,
    timing,
)
from benchmarks.setting import Arrays, Contender
from shohypernet.data import Data, DataError

LIBRARY = "shohypernet"
STEPS_A_CALL = 50  # of compiled loops, shared among the seeds
FEWEST_STEPS_A_CALL = 3
EAGER_STEPS_A_CALL = 5
STEPS_COMPARED = 30
LOSS_TOLERANCE = 1e-3  # nats, after steps in float32 whose sums run in other orders


def main() -> None:
    """Measures, prints and, if asked, writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.small_problem", description=__doc__)
    parser.add_argument("--output", type=pathlib.Path, help="a file for the same as JSON")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each contender (7)")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[1, 4, 16, 64], help="seeds in one run (1 4 16 64)"
    )
    arguments = parser.parse_args()
    if arguments.rounds < 1 or min(arguments.seeds) < 1:
        parser.error("--rounds and --seeds must be 1 or more")
    results = run(arguments.rounds, sorted({1, *arguments.seeds}))
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=2) + "\n")
        print(f"\nAll of it is in {arguments.output}.")
    if not results["agreement"]["holds"]:
        sys.exit("The contenders do not agree, so their speeds are not comparable.")


def run(rounds: int, seed_counts: list[int]) -> dict[str, Any]:
    """Everything that is printed, as JSON can hold it."""
    began = time.perf_counter()
    described = machine.describe()
    _title("Machine")
    for name, value in described._asdict().items():
        print(f"  {name:<8} {value}")
    source, data = _data()
    print(f"  data     {source}")

    subject = small_problem_library.subject(data)
    arrays = small_problem_library.start_arrays(subject, seed=0)
    measure_peaks = functools.partial(machine.measure_peaks, arrays.valid_inputs.shape)
    before = measure_peaks()
    contenders = _contenders(arrays)
    agreement = _agreement(subject, contenders)
    chunks = {
        seeds: small_problem_library.chunk(
            subject, seeds, max(STEPS_A_CALL // seeds, FEWEST_STEPS_A_CALL)
        )
        for seeds in seed_counts
    }
    rates, samples = timing.by_turns(
        {name: (contender.advance, STEPS_A_CALL) for name, contender in contenders.items()}
        | {_name(seeds): (chunk.advance, chunk.steps) for seeds, chunk in chunks.items()},
        rounds,
    )
    peaks = machine.best_of(before, measure_peaks())

    _show_peaks(peaks, arrays)
    _show_agreement(agreement)
    _show_contenders(contenders, rates, samples)
    _show_seeds(chunks, rates, samples)
    bounds = _show_roofline(chunks, rates, peaks, arrays)
    driver = _show_fit(subject)
    seconds = time.perf_counter() - began
    print(f"\nThe whole took {seconds:.0f} s; load average {described.load:.1f} at its start.")
    return {
        "machine": described._asdict(),
        "peaks": peaks._asdict(),
        "data": source,
        "agreement": agreement,
        "steps_per_second": {
            name: {**rate._asdict(), "samples": samples[name]} for name, rate in rates.items()
        },
        "roofline": bounds,
        "fit": driver,
        "seconds": seconds,
    }


def _data() -> tuple[str, Data]:
    try:
        data = shn.data.load(
            "mnist",
            train=setting.TRAIN_IMAGES,
            valid=setting.VALID_IMAGES,
            test=setting.VALID_IMAGES,
        )
        return "mnist, prepared by TensorFlow Datasets", data
    except DataError:
        data = shn.data.load("mnist_5k", train=setting.TRAIN_IMAGES, valid=3_990)
    rows = np.resize(np.arange(3_990), setting.VALID_IMAGES)
    valid = jax.tree.map(lambda leaf: leaf[rows], data.valid)
    source = (
        f"mnist_5k, 3,990 images repeated to {setting.VALID_IMAGES:,}, for no mnist is prepared "
        "where TFDS_DATA_DIR or its default points"
    )
    return source, Data(data.train, valid, data.test)


def _contenders(arrays: Arrays) -> dict[str, Contender]:
    contenders = {"NumPy and autograd": small_problem_numpy.contender(arrays)}
    try:
        peer = importlib.import_module("benchmarks.small_problem_torch")
        contenders["PyTorch, eager"] = peer.contender(arrays)
    except ImportError:
        print("  (no PyTorch is installed, so it is left out)")
    if jax.devices()[0].platform != "cpu":
        print("  NumPy and PyTorch run on the CPU, the others on the device.")
    return contenders | {
        "plain JAX, jit in a loop": small_problem_jax.in_a_loop(arrays),
        "plain JAX, jit and scan": small_problem_jax.in_a_scan(arrays),
    }


def _agreement(
    subject: small_problem_library.Subject, contenders: dict[str, Contender]
) -> dict[str, Any]:
    noise = small_problem_library.drawn_noise(subject, STEPS_COMPARED, seed=0)
    expected, _ = small_problem_library.replay(subject, STEPS_COMPARED, seed=0)
    furthest = {
        name: float(np.max(np.abs(contender.replay(noise) - expected)))
        for name, contender in contenders.items()
    }
    return {
        "steps": STEPS_COMPARED,
        "furthest_loss_difference": furthest,
        "last_losses": expected[:, -1].tolist(),
        "holds": all(difference < LOSS_TOLERANCE for difference in furthest.values()),
    }


def _name(seeds: int) -> str:
    return f"{LIBRARY}, {seeds} seed{'s' if seeds > 1 else ''}"


def _title(text: str) -> None:
    print(f"\n{text}")


def _show_peaks(peaks: machine.Peaks, arrays: Arrays) -> None:
    _title("Its peaks, the best medians of before and after the rest")
    size, megabytes = peaks.product_size, arrays.valid_inputs.nbytes / 1e6
    print(f"  product of {size} x {size}, float32   {peaks.flops / 1e9:8.1f} GFLOP/s")
    print(f"  read 537 MB                     {peaks.read / 1e9:8.1f} GB/s")
    print(f"  read {megabytes:.1f} MB again and again    {peaks.read_again / 1e9:8.1f} GB/s")
    print(f"  copy 537 MB, read and written   {peaks.copy / 1e9:8.1f} GB/s")


def _show_agreement(agreement: dict[str, Any]) -> None:
    _title(f"Same calculation: losses of {agreement['steps']} steps, given the same sampled λ")
    for name, difference in agreement["furthest_loss_difference"].items():
        print(f"  {name:<28} within {difference:.1e} nats of {LIBRARY}'s")
    verdict = "agree" if agreement["holds"] else "DO NOT AGREE"
    print(f"  They {verdict} (tolerance {LOSS_TOLERANCE:g}).")


def _show_contenders(
    contenders: dict[str, Contender],
    rates: dict[str, timing.Rate],
    samples: dict[str, list[float]],
) -> None:
    _title("One seed, steps/s: median and range; the last column is the median ratio of a round")
    first = next(iter(contenders))
    for name in (*contenders, _name(1)):
        ratio = timing.median_ratio(samples[name], samples[first])
        print(f"  {name:<28} {rates[name]!s:<32} {ratio:7.1f} x")


def _show_seeds(
    chunks: dict[int, small_problem_library.Chunk],
    rates: dict[str, timing.Rate],
    samples: dict[str, list[float]],
) -> None:
    _title("Seeds in one run of shohypernet")
    print("  seeds   steps/s   seed-steps/s   to one seed   compiled in   memory held")
    for seeds, chunk in chunks.items():
        rate = rates[_name(seeds)].median
        ratio = seeds * timing.median_ratio(samples[_name(seeds)], samples[_name(1)])
        print(
            f"  {seeds:5}  {rate:8.1f}   {seeds * rate:12.1f}   {ratio:9.2f} x   "
            f"{chunk.compile_seconds:9.1f} s   {chunk.bytes_held / 1e6:8.1f} MB"
        )


def _show_roofline(
    chunks: dict[int, small_problem_library.Chunk],
    rates: dict[str, timing.Rate],
    peaks: machine.Peaks,
    arrays: Arrays,
) -> list[dict[str, Any]]:
    _title("Roofline of a step: what it must read and compute, counted by hand and by the compiler")
    print(
        "  seeds   read MB (compiler)   MFLOP (compiler)   bound by   at most/s   reached/s   share"
    )
    pixels, classes = arrays.slope_kernel.shape
    rows = []
    for seeds, chunk in chunks.items():
        bound = roofline.bound(peaks, pixels, classes, seeds)
        rate = rates[_name(seeds)].median
        rows.append(
            {
                "seeds": seeds,
                **bound._asdict(),
                "compiler_bytes": chunk.step_bytes,
                "compiler_flops": chunk.step_flops,
                "compile_seconds": chunk.compile_seconds,
                "bytes_held": chunk.bytes_held,
                "steps_per_second_bound": bound.steps_per_second,
                "steps_per_second": rate,
                "share": rate / bound.steps_per_second,
            }
        )
        print(
            f"  {seeds:5}   {bound.bytes / 1e6:7.1f} ({_mega(chunk.step_bytes):>8})   "
            f"{bound.flops / 1e6:7.0f} ({_mega(chunk.step_flops):>8})   {bound.limit:<8}   "
            f"{bound.steps_per_second:9.1f}   {rate:9.1f}   {rate / bound.steps_per_second:5.0%}"
        )
    crossing = roofline.seeds_where_flops_take_over(peaks, pixels, classes)
    print(f"  Reading is the limit up to {crossing:.2g} seeds, computing beyond.")
    return rows


def _mega(count: float) -> str:
    return "unknown" if math.isnan(count) else f"{count / 1e6:.1f}"


def _show_fit(subject: small_problem_library.Subject) -> dict[str, float]:
    result = small_problem_library.fit(subject, 4 * STEPS_A_CALL, eval_every=STEPS_A_CALL)
    rate = float(result.history.step[-1] / result.history.seconds[-1])
    _title("The driver, fit(), one seed, with its evaluation of all data every 50 steps")
    print(f"  {rate:.1f} steps/s after {result.compile_seconds:.1f} s of compiling")
    return {"steps_per_second": rate, "compile_seconds": result.compile_seconds}


if __name__ == "__main__":
    main()
