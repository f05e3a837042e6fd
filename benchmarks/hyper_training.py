"""Speed of Algorithm 3 on the paper's problems beside other implementations, and the roofline.

    python -m benchmarks.hyper_training [--problems small large ...] [--output=results.json]

takes about ten minutes on 2 cores. `_problems` has the calculation, which all contenders share, and
its four problems. All contenders of a problem take turns, and so do the calls that measure the
machine's peaks.

Between a step and its bound stand, by compiled programs and profiles (CPU, jax 0.10.2):

- The data. A product with images has 10 or 20 columns where kernels work on 16 at a time. Without
  `vmap`, Xᵀ·G keeps its transposed left side, which takes twice as long; the batching rule of
  `vmap`, even over a single λ, turns it into Gᵀ·X, as in `hypertraining._updates`. Minibatches are
  gathered before they are read.
- The hypernet. Its kernels are laid out for products with few rows (see `hypernets._dense`).
  Under a `vmap` over seeds their gradients come out transposed, and Adam reads them in strides.
- Adam. XLA on a CPU makes three loops of it, which pass ten times over arrays of φ's size where
  seven would do.
- Drawing λ. With the generator's rounds written out (see `_internal.random`), XLA still draws
  again for each reader of λ.
- Several seeds share one reading of images that all of them take, and make the products wider.
  Those that draw their own minibatches go fastest one after another, with one device per core: most
  operations are too small for two.
"""

import importlib
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

import shohypernet as shn
from benchmarks import _cli as cli
from benchmarks import _hyper_training_tables as tables
from benchmarks import _machine as machine
from benchmarks import _problems as problems
from benchmarks import _ratios as ratios
from benchmarks import _roofline as roofline
from benchmarks import _timing as timing
from benchmarks._hyper_training_tables import OWN, name_of
from benchmarks._machine import Gauge, Peaks
from benchmarks._problems import Setting
from benchmarks._timing import Rate, Turn
from benchmarks.contenders import numpy_autograd, own, plain_jax
from benchmarks.contenders._base import Contender, Start
from benchmarks.contenders.own import Chunk
from shohypernet.batches import Data

STEPS_PER_CALL = 50  # of compiled loops, shared among the seeds
FEWEST_STEPS_PER_CALL = 3
STEPS_PER_TURN = 10  # of a seed before the next one's, whose state has to be fetched
FIT_CALLS = 10  # as many calls' steps lie between two evaluations of `fit`
GAUGE_SECONDS = 0.1
STEPS_COMPARED = 20
LOSS_TOLERANCE = 1e-4  # float32 sums in other orders differ by far less


def main() -> None:
    """Measure, print and, if asked, write."""
    parser = cli.parser("hyper_training", rounds=5)
    parser.add_argument(
        "--problems",
        nargs="+",
        choices=problems.SETTINGS,
        metavar="NAME",
        default=list(problems.SETTINGS),
        help=f"{' '.join(problems.SETTINGS)} (all)",
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[1, 4, 16, 64], help="seeds in one run (1 4 16 64)"
    )
    arguments = parser.parse_args()
    if arguments.rounds < 1 or min(arguments.seeds) < 1:
        parser.error("--rounds and --seeds must be 1 or more")
    # On a CPU, for seeds that take turns; a program on one of the devices still uses all cores.
    jax.config.update("jax_num_cpu_devices", os.cpu_count())
    results: dict[str, Any] = {"machine": cli.machine()}
    for name in arguments.problems:
        seeds = sorted({1, *arguments.seeds})
        results[name] = run(problems.SETTINGS[name], arguments.rounds, seeds)
    cli.write(arguments.output, results)
    if not all(results[name]["agreement"]["holds"] for name in arguments.problems):
        sys.exit("The contenders do not agree, so their speeds cannot be compared.")


def run(setting: Setting, rounds: int, seed_counts: list[int]) -> dict[str, Any]:
    """All results of one problem, printed and in a form for JSON."""
    began = time.perf_counter()
    source, data = problems.images(setting.train_images, setting.valid_images)
    data = jax.device_get(data)
    print(f"\n{setting.name}\n  images of {source}", flush=True)
    contenders = _contenders(own.start(setting, data, seed=0))
    agreement = _agreement(setting, data, contenders)
    chunks = _chunks(setting, data, seed_counts)
    image_gauges = machine.gauges(data.valid.inputs.shape)
    moments = {"sgd": 1, "adam": 3}[setting.optimizer]
    state_gauges = machine.gauges((moments, setting.hypernet_params))
    gauges = image_gauges | state_gauges
    rates, others = timing.interleaved(
        {name: Turn(one.advance, one.steps_per_call) for name, one in contenders.items()}
        | {name: Turn(chunk.advance, chunk.steps) for name, chunk in chunks.items()}
        | {name: Turn(gauge.repeat, 1, GAUGE_SECONDS) for name, gauge in gauges.items()},
        rounds,
    )
    peaks = _peaks(image_gauges, rates)
    # A small array may be read slower than a large one, since a call takes time of its own.
    state_bandwidth = max(peaks.bandwidth, _peaks(state_gauges, rates).bandwidth)
    rows = _roofline(setting, chunks, rates, peaks, state_bandwidth)

    tables.print_agreement(agreement, LOSS_TOLERANCE)
    tables.print_one_seed([*contenders, name_of(1)], rates)
    tables.print_seeds(chunks, rates)
    tables.print_roofline(rows, peaks, state_bandwidth)
    driver = _fit(setting, data, chunks[name_of(1)])
    tables.print_fit(driver)
    if others > ratios.BUSY_CORES:
        print(
            f"  Other processes kept {others:.1f} cores busy during the rounds, enough to distort "
            "the rates:\n  run it again on an idle machine."
        )
    seconds = time.perf_counter() - began
    print(f"  Duration: {seconds:.0f} s.", flush=True)
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
    contenders = {"NumPy, autograd": numpy_autograd.contender(start)}
    try:
        peer = importlib.import_module("benchmarks.contenders.pytorch")
        contenders["PyTorch, eager"] = peer.eager(start)
        contenders["PyTorch, compiled"] = peer.compiled(start)
    except ImportError:
        print("  PyTorch is not installed, so it is left out.")
    if jax.devices()[0].platform != "cpu":
        print("  NumPy and PyTorch run on the CPU, everything else on the device.")
    return contenders | {"plain JAX, jit(scan)": plain_jax.contender(start, STEPS_PER_CALL)}


def _chunks(setting: Setting, data: Data, seed_counts: list[int]) -> dict[str, Chunk]:
    devices = jax.device_count()
    mesh = jax.make_mesh((devices,), ("seeds",), axis_types=(jax.sharding.AxisType.Auto,))
    chunks = {}
    for seeds in seed_counts:
        steps = max(STEPS_PER_CALL // seeds, FEWEST_STEPS_PER_CALL)
        chunks[name_of(seeds)] = own.chunk(setting, data, seeds, steps)
        if seeds > 1 and seeds % devices == 0:
            chunks[f"{OWN}{seeds} in turns"] = own.chunk(
                setting, data, seeds, STEPS_PER_TURN, at_once=1, mesh=mesh
            )
    return chunks


def _agreement(setting: Setting, data: Data, contenders: Mapping[str, Contender]) -> dict[str, Any]:
    draws = own.draws(setting, STEPS_COMPARED, seed=0)
    expected = own.replay(setting, data, draws, seed=0)
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
    # Beside the bare steps just before and after: it can't take turns, since each call compiles.
    turn = {"steps": Turn(chunk.advance, chunk.steps)}
    eval_every = FIT_CALLS * chunk.steps
    problem = own.problem_of(setting)
    before, _ = timing.interleaved(turn, rounds=3)
    result = shn.fit(
        problem,
        own.method_of(setting, problem),
        data,
        own.hyperparams_of(setting),
        steps=4 * eval_every,
        train_batch_size=setting.batch,
        valid_batch_size=setting.batch,
        eval_every=eval_every,
        progress=False,
    )
    after, _ = timing.interleaved(turn, rounds=3)
    rate = eval_every / float(np.median(np.diff(result.history.seconds)))
    bare = (before["steps"].median + after["steps"].median) / 2
    return {
        "eval_every": eval_every,
        "steps_per_second": rate,
        "ratio_to_bare_steps": rate / bare,
        "compile_seconds": result.compile_seconds,
    }


if __name__ == "__main__":
    main()
