"""Algorithm 3 on the paper's small problem: its speed beside other ways to do it, and the limit.

    python -m benchmarks.small_problem [--output=results.json]

takes one or two minutes on 2 cores. `setting` has the calculation, which all contenders share.

Why the contenders in JAX differ, from their compiled programs and profiles (CPU, jax 0.10.2): a
step is two products with the 10,000 images, X·W for the outputs and Xᵀ·G for the gradient of the
weights; all else takes less than a tenth of the time.

- The jitted step and the same step in `scan` compile to the same kernels. `scan` alone saves only
  what calling each step costs, 3 % to 14 % on 2 cores.
- Without `vmap`, Xᵀ·G keeps its transposed left side and is left to Eigen, which takes twice as
  long over it as the other kernels over X·W. The batching rule of `vmap`, even over a single run,
  turns it into Gᵀ·X, which those can do. A lone seed gains that from `fit`, which always has its
  `vmap` over seeds, and plain JAX gains it the same way: hence the third of its rows.
- More seeds share one reading of the images, and make wider the products that for one are 10
  columns wide, in kernels that work on 16 at a time.
"""

import argparse
import importlib
import json
import math
import pathlib
import sys
import time
from collections.abc import Mapping
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
from benchmarks.machine import Peaks
from benchmarks.setting import Arrays, Contender
from benchmarks.small_problem_library import Chunk, Subject
from benchmarks.timing import Rate, Turn
from shohypernet.data import Data, DataError

STEPS_A_CALL = 50  # of compiled loops, shared among the seeds
FEWEST_STEPS_A_CALL = 3
GAUGE_SECONDS = 0.1
STEPS_COMPARED = 20
LOSS_TOLERANCE = 1e-4  # nats; float32 sums that run in other orders differ by far less
BUSY_CORES = 0.2  # kept by others, from where the figures are said to suffer

FOOTNOTE = """\
On a CPU, `scan` compiles to the same kernels as the step alone and saves only the calls; `vmap`,
even over one run, gains by computing Gᵀ·X in place of Xᵀ·G (see the docstring)."""


def main() -> None:
    """Measures, prints and, if asked, writes."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.small_problem",
        description="Algorithm 3 on the paper's small problem: speed, scaling and roofline.",
    )
    parser.add_argument("--output", type=pathlib.Path, help="a file for all of it as JSON")
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
        print(f"All of it is in {arguments.output}.")
    if not results["agreement"]["holds"]:
        sys.exit("The contenders do not agree, so their speeds cannot be compared.")


def run(rounds: int, seed_counts: list[int]) -> dict[str, Any]:
    """Prints everything, and returns it as JSON can hold it."""
    began = time.perf_counter()
    described = machine.describe()
    print("Machine")
    for name, value in described._asdict().items():
        print(f"  {name:<8}{value}")
    source, data = _data()
    print(f"  {'data':<8}{source}", flush=True)

    subject = small_problem_library.subject(data)
    arrays = small_problem_library.start_arrays(subject, seed=0)
    contenders = _contenders(arrays)
    agreement = _agreement(subject, contenders)
    chunks = {
        seeds: small_problem_library.chunk(
            subject, seeds, max(STEPS_A_CALL // seeds, FEWEST_STEPS_A_CALL)
        )
        for seeds in seed_counts
    }
    gauges = machine.gauges(arrays.valid_inputs.shape)
    rates, others = timing.by_turns(
        {name: Turn(one.advance, one.steps_a_call) for name, one in contenders.items()}
        | {_name(seeds): Turn(chunk.advance, chunk.steps) for seeds, chunk in chunks.items()}
        | {name: Turn(gauge.repeat, 1, GAUGE_SECONDS) for name, gauge in gauges.items()},
        rounds,
    )
    peaks = machine.peaks(gauges, {name: rates[name].median for name in gauges})

    _print_peaks(peaks, arrays)
    _print_agreement(agreement)
    _print_one_seed([*contenders, _name(1)], rates)
    _print_seeds(chunks, rates)
    rows = _roofline(chunks, rates, peaks, arrays)
    _print_roofline(rows, peaks, arrays)
    driver = _fit(subject, chunks[1])
    print(
        f"\nfit() itself, one seed, with its evaluation of all data every {chunks[1].steps} steps: "
        f"{driver['steps_per_second']:.1f} steps/s,\n{driver['ratio_to_bare_steps']:.2f} of the "
        f"bare steps' just before and after; compiling took {driver['compile_seconds']:.1f} s."
    )
    print(f"\n{FOOTNOTE}")
    print(f"\nOther processes kept {others:.1f} of {described.cores} cores busy during the rounds.")
    if others > BUSY_CORES:
        print("That is enough to spoil the rates: run again when the machine is idle.")
    seconds = time.perf_counter() - began
    print(f"The whole took {seconds:.0f} s.")
    return {
        "machine": described._asdict(),
        "peaks": peaks._asdict(),
        "data": source,
        "agreement": agreement,
        "contenders": {name: rate._asdict() for name, rate in rates.items()},
        "roofline": rows,
        "fit": driver,
        "cores_busy_with_others": others,
        "seconds": seconds,
    }


def _data() -> tuple[str, Data]:
    train, valid = setting.TRAIN_IMAGES, setting.VALID_IMAGES
    try:
        data = shn.data.load("mnist", train=train, valid=valid)
        return "mnist, as TensorFlow Datasets prepared it", data
    except DataError:
        data = shn.data.load("mnist_5k", train=train, valid=3_990)
    rows = np.resize(np.arange(len(data.valid.inputs)), valid)
    repeated = jax.tree.map(lambda leaf: leaf[rows], data.valid)
    source = (
        f"mnist_5k, its 3,990 validation images repeated to {valid:,}; for real ones, prepare "
        "mnist and set TFDS_DATA_DIR"
    )
    return source, data._replace(valid=repeated)


def _contenders(arrays: Arrays) -> dict[str, Contender]:
    contenders = {"NumPy, autograd": small_problem_numpy.contender(arrays)}
    try:
        peer = importlib.import_module("benchmarks.small_problem_torch")
        contenders["PyTorch, eager"] = peer.contender(arrays)
    except ImportError:
        print("  PyTorch is not installed, so it is left out.")
    if jax.devices()[0].platform != "cpu":
        print("  NumPy and PyTorch run on the CPU, everything else on the device.")
    return contenders | {
        "plain JAX, jit": small_problem_jax.in_a_loop(arrays),
        "plain JAX, jit(scan)": small_problem_jax.in_a_scan(arrays),
        "plain JAX, jit(vmap(scan))": small_problem_jax.in_a_scan_under_vmap(arrays),
    }


def _agreement(subject: Subject, contenders: Mapping[str, Contender]) -> dict[str, Any]:
    noise = small_problem_library.drawn_noise(subject, STEPS_COMPARED, seed=0)
    expected = small_problem_library.replay(subject, STEPS_COMPARED, seed=0)
    furthest = {
        name: float(np.max(np.abs(one.replay(noise) - expected)))
        for name, one in contenders.items()
    }
    return {
        "steps": STEPS_COMPARED,
        "furthest_loss_difference": furthest,
        "first_losses": expected[:, 0].tolist(),
        "last_losses": expected[:, -1].tolist(),
        "holds": all(difference < LOSS_TOLERANCE for difference in furthest.values()),
    }


def _roofline(
    chunks: Mapping[int, Chunk], rates: Mapping[str, Rate], peaks: Peaks, arrays: Arrays
) -> list[dict[str, Any]]:
    pixels, classes = arrays.slope_kernel.shape
    rows = []
    for seeds, chunk in chunks.items():
        bound = roofline.bound(peaks, pixels, classes, seeds)
        rate = rates[_name(seeds)].median
        rows.append(
            {
                "seeds": seeds,
                **bound._asdict(),
                "limit": bound.limit,
                "compiler_bytes": chunk.step_bytes,
                "compiler_flops": chunk.step_flops,
                "compile_seconds": chunk.compile_seconds,
                "bytes_held": chunk.bytes_held,
                "steps_per_second_at_most": bound.steps_per_second,
                "steps_per_second": rate,
                "share": rate / bound.steps_per_second,
            }
        )
    return rows


def _fit(subject: Subject, chunk: Chunk) -> dict[str, float]:
    # Beside the bare steps just before and after, for it can't take turns: each call compiles.
    turn = {"steps": Turn(chunk.advance, chunk.steps)}
    before, _ = timing.by_turns(turn, rounds=3)
    result = small_problem_library.fit(subject, 8 * chunk.steps, eval_every=chunk.steps)
    after, _ = timing.by_turns(turn, rounds=3)
    rate = chunk.steps / float(np.median(np.diff(result.history.seconds)))
    bare = (before["steps"].median + after["steps"].median) / 2
    return {
        "steps_per_second": rate,
        "ratio_to_bare_steps": rate / bare,
        "compile_seconds": result.compile_seconds,
    }


def _name(seeds: int) -> str:
    return f"shohypernet, {seeds} seed{'s' if seeds > 1 else ''}"


def _print_peaks(peaks: Peaks, arrays: Arrays) -> None:
    large, images = machine.LARGE_BYTES / 1e6, arrays.valid_inputs.nbytes / 1e6
    print(
        f"\nIts peaks, the best medians of several sizes and ways\n"
        f"  float32 product       {peaks.product / 1e9:8.1f} GFLOP/s\n"
        f"  reading {large:.0f} MB        {peaks.read / 1e9:8.1f} GB/s\n"
        f"  reading {images:3.0f} MB again  {peaks.read_again / 1e9:8.1f} GB/s\n"
        f"  copying {large:.0f} MB        {peaks.copy / 1e9:8.1f} GB/s, read and written"
    )


def _print_agreement(agreement: Mapping[str, Any]) -> None:
    furthest = agreement["furthest_loss_difference"]
    verdict = "make" if agreement["holds"] else "DO NOT MAKE"
    print(
        f"\nThey {verdict} the same calculation: given the λ that shohypernet sampled, the losses "
        f"of {agreement['steps']} steps\nare within {max(furthest.values()):.0e} nats of its own"
        f" ({LOSS_TOLERANCE:g} allowed)."
    )
    if not agreement["holds"]:
        for name, difference in furthest.items():
            print(f"  {name:<28}{difference:.1e}")


def _print_one_seed(names: list[str], rates: Mapping[str, Rate]) -> None:
    print("\nOne seed                    steps/s: median (range)      ratio   CPU ms a step")
    for name in names:
        rate = rates[name]
        ratio = timing.median_ratio(rate, rates[names[0]])
        print(f"  {name:<26}{rate!s:<28}{ratio:6.1f} x {rate.cpu_milliseconds:12.2f}")


def _print_seeds(chunks: Mapping[int, Chunk], rates: Mapping[str, Rate]) -> None:
    one = rates[_name(1)]
    print("\nSeeds   steps/s: median (range)   seed-steps/s   to one seed   compile s   memory MB")
    for seeds, chunk in chunks.items():
        rate = rates[_name(seeds)]
        ratio = seeds * timing.median_ratio(rate, one)
        print(
            f"{seeds:5}   {rate!s:<26}{seeds * rate.median:12.1f} {ratio:11.2f} x "
            f"{chunk.compile_seconds:11.1f} {chunk.bytes_held / 1e6:11.1f}"
        )


def _print_roofline(rows: list[dict[str, Any]], peaks: Peaks, arrays: Arrays) -> None:
    print(
        "\nRoofline of a step: counted by hand (and by the compiler)\n"
        "Seeds   MB read            MFLOP                limit     at most/s   reached/s   share"
    )
    for row in rows:
        megabytes = f"{row['bytes'] / 1e6:.1f} ({_mega(row['compiler_bytes'])})"
        megaflops = f"{row['flops'] / 1e6:.0f} ({_mega(row['compiler_flops'])})"
        print(
            f"{row['seeds']:5}   {megabytes:<18} {megaflops:<20} {row['limit']:<8} "
            f"{row['steps_per_second_at_most']:10.1f} {row['steps_per_second']:11.1f} "
            f"{row['share']:7.0%}"
        )
    pixels, classes = arrays.slope_kernel.shape
    crossing = roofline.seeds_where_flops_take_over(peaks, pixels, classes)
    print(f"Up to {crossing:.1f} seeds the limit is reading the images, from there on the flops.")


def _mega(count: float) -> str:
    return "unknown" if math.isnan(count) else f"{count / 1e6:.0f}"


if __name__ == "__main__":
    main()
