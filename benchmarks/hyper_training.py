"""Algorithm 3 on the paper's problems: its speed beside other ways to do it, and the limit.

    python -m benchmarks.hyper_training [--problems small large ...] [--output=results.json]

takes about ten minutes on 2 cores. `settings` has the calculation, which all contenders share, and
its four problems. All contenders of a problem take turns, with the machine's own peaks among them.

What was found to stand between a step and its limit, from compiled programs and profiles (CPU, jax
0.10.2):

- The data. A product with images has 10 or 20 columns where kernels work on 16 at a time. Without
  `vmap`, Xᵀ·G keeps its transposed left side, which takes twice as long; the batching rule of
  `vmap`, even over a single λ, turns it into Gᵀ·X, as in `hypertraining.updates`. Minibatches are
  copied together before they are read.
- The hypernet. Its kernels are laid out for products with few rows (see `hypernets.hypernet`).
  Under a `vmap` over seeds their gradients come out transposed, and Adam reads them in strides.
- Adam. XLA on a CPU makes three loops of it, which pass ten times over arrays of φ's size where
  seven would do.
- Drawing λ. Once its loops are gone (see `draws`), XLA still draws anew for each of λ's readers.
- More seeds share one reading of images that all of them take, and make the products wider. Those
  that draw minibatches of their own go fastest one after another, on a device for each core: most
  operations are too small for two.
"""

import argparse
import importlib
import json
import math
import os
import pathlib
import sys
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

import shohypernet as shn
from benchmarks import (
    images,
    jax_contender,
    machine,
    numpy_contender,
    own_contender,
    roofline,
    settings,
    timing,
)
from benchmarks.machine import Gauge, Peaks
from benchmarks.own_contender import Chunk
from benchmarks.settings import Contender, Setting, Start
from benchmarks.timing import Rate, Turn
from shohypernet.batches import Data

STEPS_A_CALL = 50  # of compiled loops, shared among the seeds
FEWEST_STEPS_A_CALL = 3
STEPS_A_TURN = 10  # of a seed before the next one's, whose state has to be fetched
FIT_CALLS = 10  # as many steps as these between two evaluations of `fit`
GAUGE_SECONDS = 0.1
STEPS_COMPARED = 20
OWN = "shohypernet, "
LOSS_TOLERANCE = 1e-4  # float32 sums that run in other orders differ by far less
BUSY_CORES = 0.2  # kept by others, from where the figures are said to suffer


def main() -> None:
    """Measures, prints and, if asked, writes."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.hyper_training",
        description="Algorithm 3 on the paper's problems: speed, scaling and roofline.",
    )
    parser.add_argument(
        "--problems",
        nargs="+",
        choices=settings.SETTINGS,
        metavar="NAME",
        default=list(settings.SETTINGS),
        help="small large large_100 deeper (all)",
    )
    parser.add_argument("--output", type=pathlib.Path, help="a file for all of it as JSON")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender (5)")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[1, 4, 16, 64], help="seeds in one run (1 4 16 64)"
    )
    arguments = parser.parse_args()
    if arguments.rounds < 1 or min(arguments.seeds) < 1:
        parser.error("--rounds and --seeds must be 1 or more")
    # On a CPU, for seeds that take turns; what runs on one of them uses all cores as before.
    jax.config.update("jax_num_cpu_devices", os.cpu_count())
    described = machine.describe()
    print("Machine")
    for name, value in described._asdict().items():
        print(f"  {name:<8}{value}")
    results: dict[str, Any] = {"machine": described._asdict()}
    for name in arguments.problems:
        seeds = sorted({1, *arguments.seeds})
        results[name] = run(settings.SETTINGS[name], arguments.rounds, seeds)
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=2) + "\n")
        print(f"All of it is in {arguments.output}.")
    if not all(results[name]["agreement"]["holds"] for name in arguments.problems):
        sys.exit("The contenders do not agree, so their speeds cannot be compared.")


def run(setting: Setting, rounds: int, seed_counts: list[int]) -> dict[str, Any]:
    """Prints all about one problem, and returns it as JSON can hold it."""
    began = time.perf_counter()
    source, data = images.load(setting.train_images, setting.valid_images)
    data = jax.device_get(data)
    print(f"\n{setting.name}\n  images of {source}", flush=True)
    contenders = _contenders(own_contender.start(setting, data, seed=0))
    agreement = _agreement(setting, data, contenders)
    chunks = _chunks(setting, data, seed_counts)
    image_gauges = machine.gauges(data.valid.inputs.shape)
    moments = {"sgd": 1, "adam": 3}[setting.optimizer]
    state_gauges = machine.gauges((moments, setting.hypernet_params))
    rates, others = timing.by_turns(
        {name: Turn(one.advance, one.steps_a_call) for name, one in contenders.items()}
        | {name: Turn(chunk.advance, chunk.steps) for name, chunk in chunks.items()}
        | {
            name: Turn(gauge.repeat, 1, GAUGE_SECONDS)
            for name, gauge in (image_gauges | state_gauges).items()
        },
        rounds,
    )
    peaks = _peaks(image_gauges, rates)
    # A small array may be read slower than a large one, for a call takes time of its own.
    state_bandwidth = max(peaks.bandwidth, _peaks(state_gauges, rates).bandwidth)

    _print_agreement(agreement)
    _print_one_seed([*contenders, _name(1)], rates)
    _print_seeds(chunks, rates)
    rows = _roofline(setting, chunks, rates, peaks, state_bandwidth)
    _print_roofline(rows, peaks, state_bandwidth)
    driver = _fit(setting, data, chunks[_name(1)])
    print(
        f"\n  fit() itself, one seed, with its evaluation of all data every {driver['eval_every']} "
        f"steps: {driver['steps_per_second']:.1f} steps/s,\n  {driver['ratio_to_bare_steps']:.2f} "
        f"of the bare steps' just before and after; compiling took "
        f"{driver['compile_seconds']:.1f} s."
    )
    if others > BUSY_CORES:
        print(
            f"  Other processes kept {others:.1f} cores busy during the rounds, which is enough to "
            "spoil the rates:\n  run again when the machine is idle."
        )
    seconds = time.perf_counter() - began
    print(f"  That took {seconds:.0f} s.", flush=True)
    return {
        "setting": setting._asdict(),
        "data": source,
        "peaks": peaks._asdict(),
        "state_bandwidth": state_bandwidth,
        "agreement": agreement,
        "rates": {name: rate._asdict() for name, rate in rates.items()},
        "roofline": rows,
        "fit": driver,
        "cores_busy_with_others": others,
        "seconds": seconds,
    }


def _contenders(start: Start) -> dict[str, Contender]:
    contenders = {"NumPy, autograd": numpy_contender.contender(start)}
    try:
        peer = importlib.import_module("benchmarks.torch_contender")
        contenders["PyTorch, eager"] = peer.eager(start)
        contenders["PyTorch, compiled"] = peer.compiled(start)
    except ImportError:
        print("  PyTorch is not installed, so it is left out.")
    if jax.devices()[0].platform != "cpu":
        print("  NumPy and PyTorch run on the CPU, everything else on the device.")
    return contenders | {"plain JAX, jit(scan)": jax_contender.contender(start, STEPS_A_CALL)}


def _chunks(setting: Setting, data: Data, seed_counts: list[int]) -> dict[str, Chunk]:
    devices = jax.device_count()
    mesh = jax.make_mesh((devices,), ("seeds",), axis_types=(jax.sharding.AxisType.Auto,))
    chunks = {}
    for seeds in seed_counts:
        steps = max(STEPS_A_CALL // seeds, FEWEST_STEPS_A_CALL)
        chunks[_name(seeds)] = own_contender.chunk(setting, data, seeds, steps)
        if seeds > 1 and seeds % devices == 0:
            chunks[f"{OWN}{seeds} by turns"] = own_contender.chunk(
                setting, data, seeds, STEPS_A_TURN, at_once=1, mesh=mesh
            )
    return chunks


def _agreement(setting: Setting, data: Data, contenders: Mapping[str, Contender]) -> dict[str, Any]:
    draws = own_contender.draws(setting, STEPS_COMPARED, seed=0)
    expected = own_contender.replay(setting, data, draws, seed=0)
    furthest = {
        name: float(np.max(np.abs(one.replay(draws) - expected)))
        for name, one in contenders.items()
    }
    return {
        "steps": STEPS_COMPARED,
        "furthest_loss_difference": furthest,
        "first_losses": expected[:, 0].tolist(),
        "last_losses": expected[:, -1].tolist(),
        "holds": all(difference < LOSS_TOLERANCE for difference in furthest.values()),
    }


def _peaks(gauges: Mapping[str, Gauge], rates: Mapping[str, Rate]) -> Peaks:
    return machine.peaks(gauges, {name: rates[name].median for name in gauges})


def _roofline(
    setting: Setting,
    chunks: Mapping[str, Chunk],
    rates: Mapping[str, Rate],
    peaks: Peaks,
    state_bandwidth: float,
) -> list[dict[str, Any]]:
    rows = []
    for name, chunk in chunks.items():
        work = roofline.work(setting, chunk.seeds)
        bound = roofline.bound(work, peaks.product, peaks.bandwidth, state_bandwidth)
        rate = rates[name].median
        rows.append(
            {
                "arrangement": name,
                "seeds": chunk.seeds,
                **work._asdict(),
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


def _fit(setting: Setting, data: Data, chunk: Chunk) -> dict[str, float]:
    # Beside the bare steps just before and after, for it can't take turns: each call compiles.
    turn = {"steps": Turn(chunk.advance, chunk.steps)}
    eval_every = FIT_CALLS * chunk.steps
    before, _ = timing.by_turns(turn, rounds=3)
    result = shn.fit(
        own_contender.problem_of(setting),
        own_contender.method_of(setting),
        data,
        own_contender.hyperparams_of(setting),
        steps=4 * eval_every,
        train_batch_size=setting.batch,
        valid_batch_size=setting.batch,
        eval_every=eval_every,
        progress=False,
    )
    after, _ = timing.by_turns(turn, rounds=3)
    rate = eval_every / float(np.median(np.diff(result.history.seconds)))
    bare = (before["steps"].median + after["steps"].median) / 2
    return {
        "eval_every": eval_every,
        "steps_per_second": rate,
        "ratio_to_bare_steps": rate / bare,
        "compile_seconds": result.compile_seconds,
    }


def _name(seeds: int) -> str:
    return f"{OWN}{seeds} seed{'s' if seeds > 1 else ''}"


def _print_agreement(agreement: Mapping[str, Any]) -> None:
    furthest = agreement["furthest_loss_difference"]
    verdict = "make" if agreement["holds"] else "DO NOT MAKE"
    print(
        f"  They {verdict} the same calculation: on the same draws, the losses of "
        f"{agreement['steps']} steps are within {max(furthest.values()):.0e}\n  of shohypernet's "
        f"({LOSS_TOLERANCE:g} allowed)."
    )
    if not agreement["holds"]:
        for name, difference in furthest.items():
            print(f"    {name:<28}{difference:.1e}")


def _print_one_seed(names: list[str], rates: Mapping[str, Rate]) -> None:
    print("\n  One seed              steps/s: median (range)     times NumPy   CPU ms a step")
    for name in names:
        rate = rates[name]
        ratio = timing.median_ratio(rate, rates[names[0]])
        print(f"  {name:<22}{rate!s:<28}{ratio:10.1f} {rate.cpu_milliseconds:15.2f}")


def _print_seeds(chunks: Mapping[str, Chunk], rates: Mapping[str, Rate]) -> None:
    numpy = next(iter(rates.values()))
    print(
        f"\n  Seeds, together or by turns on {jax.device_count()} devices\n"
        "                steps/s: median (range)   seed-steps/s  times NumPy  compile s  memory MB"
    )
    for name, chunk in chunks.items():
        rate = rates[name]
        ratio = chunk.seeds * timing.median_ratio(rate, numpy)
        print(
            f"  {_short(name):<14}{rate!s:<26}{chunk.seeds * rate.median:12.1f} {ratio:12.1f} "
            f"{chunk.compile_seconds:10.1f} {chunk.bytes_held / 1e6:10.1f}"
        )


def _print_roofline(rows: list[dict[str, Any]], peaks: Peaks, state_bandwidth: float) -> None:
    print(
        f"\n  Peaks: products {peaks.product / 1e9:.0f} GFLOP/s; reading images again "
        f"{peaks.bandwidth / 1e9:.0f} GB/s, an array of φ's size {state_bandwidth / 1e9:.0f} GB/s, "
        f"{machine.LARGE_BYTES / 1e6:.0f} MB {peaks.read / 1e9:.0f} GB/s\n"
        "  Counted by hand (and by the compiler)\n"
        "  Seeds         MB moved           MFLOP              limit    at most/s  reached/s  share"
    )
    for row in rows:
        moved = (row["image_bytes"] + row["state_bytes"]) / 1e6
        megabytes = f"{moved:.1f} ({_mega(row['compiler_bytes'])})"
        megaflops = f"{row['flops'] / 1e6:.0f} ({_mega(row['compiler_flops'])})"
        print(
            f"  {_short(row['arrangement']):<14}{megabytes:<18} {megaflops:<18} {row['limit']:<8} "
            f"{row['steps_per_second_at_most']:9.1f} {row['steps_per_second']:10.1f} "
            f"{row['share']:6.0%}"
        )


def _short(name: str) -> str:
    return name.removeprefix(OWN).removesuffix(" seeds").removesuffix(" seed")


def _mega(count: float) -> str:
    return "unknown" if math.isnan(count) else f"{count / 1e6:.0f}"


if __name__ == "__main__":
    main()
