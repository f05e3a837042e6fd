"""What a hypergradient costs: memory predicted and measured, and time for each gradient evaluation.

    python -m benchmarks.hypergradients [--output=results.json]

takes two or three minutes on 2 cores. The model is linear, 784-10, with a decay for each weight and
SGD with momentum, so a set of weights is 31 kB and a step is two products with the images.

Memory is what the compiled program asks for besides its arguments, in sets of weights. Counted by
hand, of T steps:

    all steps kept        T + 1       each w_t; the rest of a linear step's derivative is its inputs
    in segments of ⌈√T⌉   3 ⌈√T⌉      a w and a v at the start of each, and each w_t of one
    iterates kept         T + 1       Domke's sweep makes a step again from its w_t
    both ends kept        2           DrMAD
    nothing kept          2 + 2 W     reversible: w and v, and W = ⌈T log₂(1/γ) / 29⌉ words of lost
                                      bits, which XLA holds twice, for both loops
    forward mode          2 (n + 1)   w and v, and their derivatives for each of n hyperparameters

to which comes what any step needs while it is made, measured with T = 2.

Time is that of a method's whole hypergradient over the gradient evaluations that it counts, held
against a plain training step on the same batch. A product with second derivatives counts as two,
which is what it costs in a deep network; in a linear model it costs as much as one.
"""

import argparse
import json
import math
import pathlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import shohypernet as shn
from benchmarks import machine, timing
from shohypernet import hypergradients
from shohypernet.batches import Data, Examples
from shohypernet.hypergradients._inner import Inner
from shohypernet.linear_solvers import conjugate_gradient, identity, neumann
from shohypernet.models import MLP
from shohypernet.problem import Problem

LEARNING_RATE, MOMENTUM = 0.01, 0.9
PIXELS, CLASSES = 784, 10
MEMORY_STEPS = (10, 100, 1_000)
MEMORY_EXAMPLES = 100
TIMED_STEPS, TIMED_EXAMPLES = 30, 1_000
PRODUCTS = 30
MOST = 2.0  # times a plain step, for each gradient evaluation
FLOAT_BYTES = 4
WORD_BITS = 29  # of 32, those that are sure to be filled before the next word is begun

# Of a problem, λ, weights, the steps' numbers, a validation batch and a key.
Hypergradient = Callable[..., Any]


class Subject(NamedTuple):
    """A model, and what its hypergradients are taken of."""

    name: str
    problem: Problem
    hyperparams: Any
    params: Any
    data: Data


def main() -> None:
    """Measures, prints and, if asked, writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hypergradients")
    parser.add_argument("--output", type=pathlib.Path, help="a file for all of it as JSON")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender (5)")
    arguments = parser.parse_args()
    described = machine.describe()
    print("  ".join(f"{name}: {value}" for name, value in described._asdict().items()))
    results = {
        "machine": described._asdict(),
        "memory": memory(),
        "time": [
            row
            for hidden in ((), (100,))
            for row in times(subject(TIMED_EXAMPLES, hidden), arguments.rounds)
        ],
    }
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=2) + "\n")
    slow = [row for row in results["time"] if row["ratio"] > MOST]
    if slow:
        sys.exit(f"Slower than {MOST:g} plain steps a gradient evaluation: {slow}")


def subject(examples: int, hidden: tuple[int, ...] = (), per: Any = "weight") -> Subject:
    """Random images with a decay for each weight, or one an output."""

    def images(key: jax.Array) -> Examples:
        key_inputs, key_classes = jax.random.split(key)
        classes = jax.random.randint(key_classes, (examples,), 0, CLASSES)
        inputs = jax.random.uniform(key_inputs, (examples, PIXELS))
        return Examples(inputs, jax.nn.one_hot(classes, CLASSES))

    data = Data(*map(images, jax.random.split(jax.random.key(0), 3)))
    problem = shn.supervised(
        MLP(CLASSES, hidden),
        data.train.inputs[:1],
        shn.losses.mean_squared_error,
        shn.penalties.weight_decay,
        space=shn.hyperparameters.log(),
    )
    params = problem.init(jax.random.key(1))
    hyperparams = shn.penalties.decays(params, -7.0, per)
    name = "-".join(str(width) for width in (PIXELS, *hidden, CLASSES))
    return Subject(name, problem, hyperparams, params, data)


def contenders(segment: int | None = None) -> dict[str, Hypergradient]:
    """The unrolled family: each a function of (problem, λ, w_0, batches, valid batch, key)."""
    optimizer = optax.sgd(LEARNING_RATE, momentum=MOMENTUM)

    def by(module: Any, **options: Any) -> Hypergradient:
        def hypergradient(problem: Problem, hyperparams: Any, params: Any, *rest: Any) -> Any:
            inner = Inner(params, optimizer.init(params))
            return module.hypergradient(problem, optimizer, hyperparams, inner, *rest, **options)

        return hypergradient

    def reversible(problem: Problem, hyperparams: Any, params: Any, *rest: Any) -> Any:
        rate = hypergradients.reversible.Momentum(jnp.float32(LEARNING_RATE))
        inner = Inner(params, rate)
        return hypergradients.reversible.hypergradient(problem, MOMENTUM, hyperparams, inner, *rest)

    return {
        "all steps kept": by(hypergradients.unrolled, segment=sys.maxsize),
        "in segments": by(hypergradients.unrolled, segment=segment),
        "iterates kept": by(hypergradients.back_optimization),
        "both ends kept": by(hypergradients.drmad),
        "nothing kept": reversible,
        "forward mode": by(hypergradients.forward),
    }


def predicted(name: str, steps: int, hyperparams: int) -> float:
    """Sets of weights, counted by hand; see the module's docstring."""
    root = math.ceil(math.sqrt(steps))
    words = math.ceil(steps * math.log2(1 / MOMENTUM) / WORD_BITS)
    return {
        "all steps kept": steps + 1,
        "in segments": 3 * root,
        "iterates kept": steps + 1,
        "both ends kept": 2,
        "nothing kept": 2 + 2 * words,
        "forward mode": 2 * (hyperparams + 1),
    }[name]


def memory() -> list[dict[str, Any]]:
    """Predicted and measured, in sets of weights."""
    rows = []
    print("\nSets of weights (31 kB) that a hypergradient needs: predicted + one step's, measured")
    print(f"{'':<20}" + "".join(f"{f'T = {steps:,}':>26}" for steps in MEMORY_STEPS))
    for name, hypergradient in contenders().items():
        few = name == "forward mode"  # its memory grows with the number of hyperparameters
        taken = subject(MEMORY_EXAMPLES, per="output" if few else "weight")
        size = FLOAT_BYTES * sum(leaf.size for leaf in jax.tree.leaves(taken.params))
        count = sum(leaf.size for leaf in jax.tree.leaves(taken.hyperparams))

        def sets(steps: int, taken: Any = taken, f: Any = hypergradient, size: int = size) -> float:
            used: Any = _compiled(f, taken, steps).memory_analysis()
            return (used.temp_size_in_bytes + used.output_size_in_bytes) / size

        step = sets(2) - predicted(name, 2, count)
        for steps in MEMORY_STEPS:
            hand = predicted(name, steps, count)
            rows.append({"method": name, "steps": steps, "predicted": hand + step})
            rows[-1] |= {"counted_by_hand": hand, "one_step": step, "measured": sets(steps)}
        found = rows[-len(MEMORY_STEPS) :]
        cells = [f"{row['counted_by_hand']:,.0f} + {step:.0f}" for row in found]
        measured = [f"{row['measured']:,.1f}" for row in found]
        print(
            f"{name:<20}"
            + "".join(f"{c:>15}, {m:>9}" for c, m in zip(cells, measured, strict=True)),
            flush=True,
        )
    return rows


def times(taken: Subject, rounds: int) -> list[dict[str, Any]]:
    """Seconds for each gradient evaluation, over those of a plain training step."""
    methods = contenders()
    # With thousands of hyperparameters forward mode would push as many sets of weights.
    del methods["forward mode"]
    methods |= {
        "implicit, CG": _implicit(conjugate_gradient(PRODUCTS)),
        "implicit, Neumann": _implicit(neumann(PRODUCTS, LEARNING_RATE)),
        "T1-T2": _implicit(identity()),
    }
    turns = {"plain steps": timing.Turn(_repeated(_training, taken), 1)}
    counts = {"plain steps": TIMED_STEPS}
    for name, method in methods.items():
        compiled = _compiled(method, taken, TIMED_STEPS)
        arguments = taken.hyperparams, taken.params, taken.data
        counts[name] = int(compiled(*arguments).gradient_evaluations)
        turns[name] = timing.Turn(_repeated(method, taken), 1)
    rates, others = timing.by_turns(turns, rounds)
    print(
        f"\n{taken.name}, {TIMED_EXAMPLES:,} examples, {TIMED_STEPS} steps or {PRODUCTS} products"
    )
    print(f"{'':<20}{'evaluations':>12}{'ms each':>10}{'over a plain step':>20}")
    rows = []
    for name, count in counts.items():
        # Taken within a round, since a machine that others use is fast and slow by turns.
        ratio = timing.median_ratio(rates["plain steps"], rates[name]) * TIMED_STEPS / count
        milliseconds = 1e3 / rates[name].median / count
        rows.append({"model": taken.name, "method": name, "evaluations": count})
        rows[-1] |= {"milliseconds": milliseconds, "ratio": ratio}
        print(f"{name:<20}{count:>12}{milliseconds:>10.2f}{ratio:>20.2f}")
    print(f"Other processes kept {others:.1f} cores busy meanwhile.")
    return rows


def _implicit(solver: Any) -> Hypergradient:
    def hypergradient(
        problem: Problem, hyperparams: Any, params: Any, batches: Any, valid_batch: Any, key: Any
    ) -> Any:
        return hypergradients.implicit.hypergradient(
            problem, hyperparams, params, batches[0], valid_batch, key, solver=solver
        )

    return hypergradient


def _training(
    problem: Problem, hyperparams: Any, params: Any, batches: Any, valid_batch: Any, key: Any
) -> Any:
    optimizer = optax.sgd(LEARNING_RATE, momentum=MOMENTUM)
    advance = hypergradients.inner.step(problem, optimizer)
    return jax.lax.scan(
        lambda inner, at: advance(inner, hyperparams, *at),
        Inner(params, optimizer.init(params)),
        hypergradients.inner.inputs(key, batches),
    )


def _compiled(method: Hypergradient, taken: Subject, steps: int) -> Any:
    def whole(hyperparams: Any, params: Any, data: Data) -> Any:
        def train_loss(params: Any, hyperparams: Any, _: Any, key: jax.Array) -> jax.Array:
            return taken.problem.train_loss(params, hyperparams, data.train, key)

        # All steps see the same images: a batch for each would be memory of another kind.
        problem = taken.problem._replace(train_loss=train_loss)
        key = jax.random.key(0)
        return method(problem, hyperparams, params, jnp.zeros(steps), data.valid, key)

    return jax.jit(whole).lower(taken.hyperparams, taken.params, taken.data).compile()


def _repeated(method: Hypergradient, taken: Subject) -> Callable[[int], None]:
    compiled = _compiled(method, taken, TIMED_STEPS)

    def repeat(times: int) -> None:
        for _ in range(times):
            jax.block_until_ready(compiled(taken.hyperparams, taken.params, taken.data))

    return repeat


if __name__ == "__main__":
    main()
