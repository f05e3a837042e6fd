"""How the cost of a step grows with the number of hyperparameters, and of sampled λ.

    python -m benchmarks.growth [--output=results.json] [--picture=growth.png]

takes some minutes on 2 cores, most of them to compile. `growth_contenders` has
what is measured:

- One dense layer of n weights, as nearly square as the divisors of n allow, with a decay for each
  weight, for n = 10 … 10⁷.
- The linear model of MNIST's size, 784-10 with 7,850 decays, and 1 … 256 sampled λ a step.

Constant throughout: 100 training and 100 validation examples, random and all in every step; squared
error; float32; Adam for all that moves; two sampled λ where their number isn't what varies. A step
is one hyper-training step with one training batch, so one update of the hypernet and one of λ̂,
beside one step of plain training of the same model at fixed λ. The steps run in compiled loops, as
in `fit`, many a call where they are short.

Memory is what the compiled call holds, as the compiler counts it: arguments, results and
temporaries, less what it uses twice.
"""

import argparse
import json
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import psutil

from benchmarks import growth_contenders, growth_picture, machine, timing
from benchmarks.growth_contenders import KRONECKER, LOOK_EVERY, PLAIN, Contender, Subject
from benchmarks.timing import Turn

HYPERPARAMETERS = tuple(10**power for power in range(1, 8))
SAMPLES = tuple(4**power for power in range(5))  # each takes seconds to compile
MNIST = 784, 10
LOG_DECAY = -6.0
MOST_FOR_KRONECKER = 10**6
MOST_STEPS_A_CALL = 100
NUMBERS_A_CALL = 10**6  # weights times steps
TURN_SECONDS = 0.2


def main() -> None:
    """Measures, prints and, if asked, writes and draws."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth")
    parser.add_argument("--output", type=pathlib.Path, help="a file for all of it as JSON")
    parser.add_argument(
        "--picture", type=pathlib.Path, help="a file for the picture, such as a PNG"
    )
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender (3)")
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
    described = machine.describe()
    print("  ".join(f"{name}: {value}" for name, value in described._asdict().items()))
    results = {
        "machine": described._asdict(),
        "hyperparameters": by_hyperparameters(arguments.hyperparameters, arguments.rounds),
        "samples": by_samples(arguments.samples, arguments.rounds),
    }
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=2) + "\n")
    if arguments.picture:
        growth_picture.draw(results["hyperparameters"], results["samples"], arguments.picture)
    print(f"The whole took {time.perf_counter() - began:.0f} s.")


def by_hyperparameters(counts: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    """A row for each number of hyperparameters and each contender, printed as they come."""
    print("\nA decay for each weight. A look is counted to a step by its share, one in 50 steps.")
    print(f"{'decays':>10}  {'layer':<10} {'':<18}{'ms a step':>11}{'of plain':>10}"
          f"{'a look, ms':>12}{'MB':>11}{'of plain':>10}")  # fmt: skip
    rows = []
    for count in counts:
        inputs, outputs = growth_contenders.sides(count)
        taken = growth_contenders.subject(inputs, outputs)
        methods = growth_contenders.contenders(taken.problem)
        if count > MOST_FOR_KRONECKER:
            del methods[KRONECKER]
            # Eight times, with three iterations, it turns n numbers into its eigenvectors or back.
            flops = 16 * count * (inputs + 1 + outputs)
            print(
                f"{count:>10,}  {KRONECKER} is left out: a step would be {flops / 1e12:.1f} "
                "TFLOP of products with eigenvectors."
            )
        found = measure(taken, methods, rounds)
        for name, one in found.items():
            ratios = {key: one[key] / found[PLAIN][key] for key in ("seconds", "bytes")}
            rows.append({"hyperparameters": count, "layer": [inputs, outputs], "method": name})
            rows[-1] |= one | {f"{key}_of_plain": ratio for key, ratio in ratios.items()}
            look = f"{1e3 * one['look_seconds']:.3f}" if one["look_seconds"] else ""
            print(
                f"{count:>10,}  {f'{inputs}-{outputs}':<10} {name:<18}{1e3 * one['seconds']:>11.3f}"
                f"{ratios['seconds']:>8.1f} x{look:>12}{one['bytes'] / 1e6:>11.3f}"
                f"{ratios['bytes']:>8.1f} x",
                flush=True,
            )
    return rows


def by_samples(counts: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    """A row for each number of sampled λ and each hypernet that learns from them, printed."""
    taken = growth_contenders.subject(*MNIST)
    print(f"\n784-10, {taken.number:,} decays")
    print(f"{'sampled λ':>10}  {'':<18}{'ms a step':>11}{'ms a λ':>9}{'MB':>9}{'MB a λ':>9}")
    rows = []
    for samples in counts:
        methods = growth_contenders.sampling(taken.problem, samples)
        for name, one in measure(taken, methods, rounds).items():
            rows.append({"samples": samples, "method": name, **one})
            milliseconds, megabytes = 1e3 * one["seconds"], one["bytes"] / 1e6
            print(
                f"{samples:>10}  {name:<18}{milliseconds:>11.3f}{milliseconds / samples:>9.3f}"
                f"{megabytes:>9.2f}{megabytes / samples:>9.2f}",
                flush=True,
            )
    return rows


def measure(
    taken: Subject, methods: Mapping[str, Contender], rounds: int
) -> dict[str, dict[str, float]]:
    """Seconds a step and bytes held of each method; what finds no room is named and left out."""
    steps = max(1, min(MOST_STEPS_A_CALL, NUMBERS_A_CALL // taken.number))
    # Where it starts is drawn by another generator, which compiles in a quarter of the time.
    key = jax.random.key(0, impl="rbg")
    data = growth_contenders.random_data(taken)

    def start(method: Contender) -> Any:
        # λ anew each time, since what starts is donated.
        return method.init(
            key, jax.tree.map(lambda leaf: jnp.full(leaf.shape, LOG_DECAY), taken.hyperparams)
        )

    found, turns = {}, {}
    for name, method in methods.items():
        state = jax.eval_shape(method.init, key, taken.hyperparams)
        compiled = _compiled(method, steps, state, data)
        held = machine.bytes_held(compiled)
        available = psutil.virtual_memory().available
        if held > available:
            print(
                f"{taken.number:>10,}  {name} is left out: it would hold {held / 1e9:.1f} GB of "
                f"the {available / 1e9:.1f} GB that are free."
            )
            continue
        found[name] = {"look_seconds": 0.0, "bytes": held}
        turns[name] = _turn(compiled, start(method), data, steps)
        if method.looking:
            state = method.looking(start(method))
            turns[_looking(name)] = _turn(compiled, state, data, steps)
    rates, _ = timing.by_turns(turns, rounds)
    for name, one in found.items():
        one["seconds"] = 1 / rates[name].median
        if _looking(name) in rates:
            one["look_seconds"] = 1 / rates[_looking(name)].median - one["seconds"]
            one["seconds"] += one["look_seconds"] / LOOK_EVERY
    return found


def _compiled(method: Contender, steps: int, state: Any, data: Any) -> Any:
    def chunk(state: Any, key: jax.Array, data: Any) -> Any:
        keys = jax.random.split(key, steps)
        return jax.lax.scan(lambda s, key: (method.step(key, s, data), None), state, keys)[0]

    return jax.jit(chunk, donate_argnums=0).lower(state, jax.random.key(0), data).compile()


def _looking(name: str) -> str:
    return f"{name}, looking"


def _turn(compiled: Any, state: Any, data: Any, steps: int) -> Turn:
    key = jax.random.key(1)

    def advance(steps: int) -> None:
        nonlocal state
        del steps  # a call makes as many as it was compiled for
        state = jax.block_until_ready(compiled(state, key, data))

    return Turn(advance, steps, TURN_SECONDS)


if __name__ == "__main__":
    main()
