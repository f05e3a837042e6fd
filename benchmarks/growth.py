"""Growth of the cost of a step with the number of hyperparameters, and of sampled λ.

    python -m benchmarks.growth [--output=results.json] [--picture=growth.png]

takes some minutes on 2 cores, most of them for compilation. `contenders.growth` has the models and
methods:

- One dense layer of n weights, as nearly square as the divisors of n allow, with one decay per
  weight, for n = 10 … 10⁷.
- The linear model of MNIST's size, 784-10 with 7,850 decays, and 1 … 256 sampled λ per step.

Constant throughout: 100 training and 100 validation examples, random and all in every step; squared
error; float32; Adam for the weights, φ and λ̂; two sampled λ where their number doesn't vary. A step
is one hyper-training step with one training batch, so one update of the hypernet and one of λ̂,
beside one step of plain training of the same model at fixed λ. The steps run in compiled loops, as
in `fit`, many per call where they are short.

Memory is that of the compiled call, as the compiler counts it: arguments, results and temporaries,
less what it uses twice.
"""

import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import psutil

from benchmarks import _cli as cli
from benchmarks import _growth_picture as growth_picture
from benchmarks import _machine as machine
from benchmarks import _timing as timing
from benchmarks._timing import Turn
from benchmarks.contenders import growth as growth_contenders
from benchmarks.contenders.growth import (
    KRONECKER,
    PLAIN,
    REFRESH_EVERY,
    GrowthContender,
    GrowthSubject,
)
from shohypernet._internal import random

HYPERPARAMETERS = tuple(10**power for power in range(1, 8))
SAMPLES = tuple(4**power for power in range(5))  # each takes seconds to compile
MNIST = 784, 10
LOG_DECAY = -6.0
MOST_FOR_KRONECKER = 10**6
MOST_STEPS_PER_CALL = 100
NUMBERS_PER_CALL = 10**6  # weights times steps
TURN_SECONDS = 0.2


def main() -> None:
    """Measure, print and, if asked, write and draw."""
    parser = cli.parser("growth", rounds=3)
    parser.add_argument(
        "--picture", type=pathlib.Path, help="a file for the picture, such as a PNG"
    )
    parser.add_argument(
        "--hyperparameters",
        type=int,
        nargs="+",
        default=HYPERPARAMETERS,
        help="(10 100 … 10000000)",
    )
    parser.add_argument("--samples", type=int, nargs="+", default=SAMPLES, help="(1 4 … 256)")
    arguments = parser.parse_args()
    if min(arguments.rounds, *arguments.samples) < 1 or min(arguments.hyperparameters) < 2:
        parser.error("--rounds and --samples must be 1 or more, --hyperparameters 2 or more")
    began = time.perf_counter()
    results = {
        "machine": cli.machine(),
        "hyperparameters": by_hyperparameters(arguments.hyperparameters, arguments.rounds),
        "samples": by_samples(arguments.samples, arguments.rounds),
    }
    cli.write(arguments.output, results)
    if arguments.picture:
        growth_picture.draw(results["hyperparameters"], results["samples"], arguments.picture)
    print(f"Duration: {time.perf_counter() - began:.0f} s.")


def by_hyperparameters(counts: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    """One row per number of hyperparameters and contender, printed as they come."""
    print(f"\nOne decay per weight; of the Kronecker factors one update in {REFRESH_EVERY} steps")
    print(f"{'decays':>10}  {'layer':<10} {'':<18}{'ms per step':>12}{'of plain':>10}"
          f"{'update, ms':>12}{'MB':>11}{'of plain':>10}")  # fmt: skip
    rows = []
    for count in counts:
        inputs, outputs = growth_contenders.sides(count)
        subject = growth_contenders.subject(inputs, outputs)
        methods = growth_contenders.contenders(subject.problem)
        if count > MOST_FOR_KRONECKER:
            del methods[KRONECKER]
            # Eight times, with three iterations, it multiplies n numbers by its eigenvectors.
            flops = 16 * count * (inputs + 1 + outputs)
            print(
                f"{count:>10,}  {KRONECKER} is left out: a step would be {flops / 1e12:.1f} "
                "TFLOP of products with eigenvectors."
            )
        found = measure(subject, methods, rounds)
        for name, one in found.items():
            ratios = {key: one[key] / found[PLAIN][key] for key in ("seconds", "bytes")}
            rows.append({"hyperparameters": count, "layer": [inputs, outputs], "method": name})
            rows[-1] |= one | {f"{key}_of_plain": ratio for key, ratio in ratios.items()}
            refresh = f"{1e3 * one['refresh_seconds']:.3f}" if one["refresh_seconds"] else ""
            print(
                f"{count:>10,}  {f'{inputs}-{outputs}':<10} {name:<18}{1e3 * one['seconds']:>12.3f}"
                f"{ratios['seconds']:>8.1f} x{refresh:>12}{one['bytes'] / 1e6:>11.3f}"
                f"{ratios['bytes']:>8.1f} x",
                flush=True,
            )
    return rows


def by_samples(counts: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    """One row per number of sampled λ and hypernet that is trained on them, printed."""
    subject = growth_contenders.subject(*MNIST)
    print(f"\n784-10, {subject.number:,} decays")
    print(
        f"{'sampled λ':>10}  {'':<18}{'ms per step':>12}{'ms per λ':>10}{'MB':>9}{'MB per λ':>10}"
    )
    rows = []
    for samples in counts:
        methods = growth_contenders.sampling(subject.problem, samples)
        for name, one in measure(subject, methods, rounds).items():
            rows.append({"samples": samples, "method": name, **one})
            milliseconds, megabytes = 1e3 * one["seconds"], one["bytes"] / 1e6
            print(
                f"{samples:>10}  {name:<18}{milliseconds:>12.3f}{milliseconds / samples:>10.3f}"
                f"{megabytes:>9.2f}{megabytes / samples:>10.2f}",
                flush=True,
            )
    return rows


def measure(
    subject: GrowthSubject, methods: Mapping[str, GrowthContender], rounds: int
) -> dict[str, dict[str, float]]:
    """Seconds per step and bytes held of each method; one that doesn't fit is named and omitted."""
    steps = max(1, min(MOST_STEPS_PER_CALL, NUMBERS_PER_CALL // subject.number))
    # Drawn by another generator, which compiles in a quarter of the time.
    key = jax.random.key(0, impl="rbg")
    data = growth_contenders.random_data(subject)

    found, turns = {}, {}
    for name, method in methods.items():
        state = jax.eval_shape(method.init, key, subject.hyperparams)
        compiled = _compiled(method, steps, state, data)
        held = machine.bytes_held(compiled)
        available = psutil.virtual_memory().available
        if held > available:
            print(
                f"{subject.number:>10,}  {name} is left out: it would hold {held / 1e9:.1f} GB of "
                f"the {available / 1e9:.1f} GB that are free."
            )
            continue
        found[name] = {"refresh_seconds": 0.0, "bytes": held}
        turns[name] = _turn(compiled, _start(subject, method, key), data, steps)
        if method.refreshing:
            state = method.refreshing(_start(subject, method, key))
            turns[_refreshing(name)] = _turn(compiled, state, data, steps)
    rates, _ = timing.interleaved(turns, rounds)
    for name, one in found.items():
        one["seconds"] = 1 / rates[name].median
        if _refreshing(name) in rates:
            one["refresh_seconds"] = 1 / rates[_refreshing(name)].median - one["seconds"]
            one["seconds"] += one["refresh_seconds"] / REFRESH_EVERY
    return found


def _start(subject: GrowthSubject, method: GrowthContender, key: jax.Array) -> Any:
    # A copy of λ for each, since a state is donated.
    return method.init(
        key, jax.tree.map(lambda leaf: jnp.full(leaf.shape, LOG_DECAY), subject.hyperparams)
    )


def _compiled(method: GrowthContender, steps: int, state: Any, data: Any) -> Any:
    def chunk(state: Any, key: jax.Array, data: Any) -> Any:
        keys = jax.random.split(key, steps)
        return jax.lax.scan(lambda s, key: (method.step(key, s, data), None), state, keys)[0]

    return jax.jit(chunk, donate_argnums=0).lower(state, random.key(0), data).compile()


def _refreshing(name: str) -> str:
    return f"{name}, refreshing"


def _turn(compiled: Any, state: Any, data: Any, steps: int) -> Turn:
    key = random.key(1)

    def advance(steps: int) -> None:
        nonlocal state
        del steps  # a call makes as many as it was compiled for
        state = jax.block_until_ready(compiled(state, key, data))

    return Turn(advance, steps, TURN_SECONDS)


if __name__ == "__main__":
    main()
