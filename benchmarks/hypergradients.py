"""Cost of hypergradients: memory predicted and measured, and time per gradient evaluation.

    python -m benchmarks.hypergradients [--output=results.json]

takes two or three minutes on 2 cores. The model is linear, 784-10, with one decay per weight and
SGD with momentum, so a set of weights is 31 kB and a step is two products with the images.

Memory is that of the compiled program besides its arguments, in sets of weights. Counted by hand,
for T steps:

    all steps kept        T + 1       each w_t; the rest of a linear step's derivative is its inputs
    in segments of ⌈√T⌉   3 ⌈√T⌉      a w and a v at the start of each, and each w_t of one
    iterates kept         T + 1       Domke's sweep computes a step again from its w_t
    both ends kept        2           DrMAD
    nothing kept          2 + 2 W     reversible: w and v, and W = ⌈T log₂(1/γ) / 29⌉ words of lost
                                      bits, which XLA holds twice, for both loops
    forward mode          2 (n + 1)   w and v, and their derivatives for each of n hyperparameters

plus the temporaries of any step, measured with T = 2.

Time is that of a method's whole hypergradient per gradient evaluation that it counts, relative to a
plain training step on the same batch. A product with second derivatives counts as two, which is its
cost in a deep network; in a linear model it costs as much as one.
"""

import functools
import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import shohypernet as shn
from benchmarks import _cli as cli
from benchmarks import _timing as timing
from shohypernet import hypergradients, inner_loop
from shohypernet.batches import Data, Examples
from shohypernet.inner_loop import TrainState
from shohypernet.linear_solvers import conjugate_gradient, identity, neumann
from shohypernet.models import MLP
from shohypernet.problem import Problem, unconstrained

LEARNING_RATE, MOMENTUM = 0.01, 0.9
PIXELS, CLASSES = 784, 10
LOG_DECAY = -7.0
MEMORY_STEPS = (10, 100, 1_000)
MEMORY_EXAMPLES = 100
TIMED_STEPS, TIMED_EXAMPLES = 30, 1_000
PRODUCTS = 30
MOST = 2.0  # times a plain step, per gradient evaluation
FLOAT_BYTES = 4
WORD_BITS = 29  # of 32, which are always filled before the next word

# Of a problem, λ, weights, the training batches, a validation batch and a key.
Hypergradient = Callable[..., Any]


class Subject(NamedTuple):
    """A model with an unconstrained problem, and a point to take its hypergradients at."""

    name: str
    problem: Problem
    hyperparams: Any
    params: Any
    data: Data


def main() -> None:
    """Measure, print and, if asked, write."""
    arguments = cli.parser("hypergradients", rounds=5).parse_args()
    results = {
        "machine": cli.machine(),
        "memory": memory(),
        "time": [
            row
            for hidden in ((), (100,))
            for row in times(subject(TIMED_EXAMPLES, hidden), arguments.rounds)
        ],
    }
    cli.write(arguments.output, results)
    slow = [row for row in results["time"] if row["ratio"] > MOST]
    if slow:
        sys.exit(f"Slower than {MOST:g} plain steps per gradient evaluation: {slow}")


def subject(examples: int, hidden: tuple[int, ...] = (), per: Any = "weight") -> Subject:
    """A network on random images, with one decay per weight, or per output."""

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
    hyperparams = shn.penalties.decays(params, LOG_DECAY, per)
    name = "-".join(str(width) for width in (PIXELS, *hidden, CLASSES))
    return Subject(name, unconstrained(problem), hyperparams, params, data)


def contenders(segment: int | None = None) -> dict[str, Hypergradient]:
    """The unrolled family: each a function of (problem, λ, w_0, batches, valid batch, key)."""
    methods = hypergradients
    return {
        "all steps kept": functools.partial(_through, methods.unrolled, segment=sys.maxsize),
        "in segments": functools.partial(_through, methods.unrolled, segment=segment),
        "iterates kept": functools.partial(_through, methods.back_optimization),
        "both ends kept": functools.partial(_through, methods.drmad),
        "nothing kept": _reversible,
        "forward mode": functools.partial(_through, methods.forward),
    }


def implicit_contenders() -> dict[str, Hypergradient]:
    """The implicit family, likewise; of the batches they use the first."""
    return {
        "implicit, CG": functools.partial(_implicit, conjugate_gradient(PRODUCTS)),
        "implicit, Neumann": functools.partial(_implicit, neumann(PRODUCTS, LEARNING_RATE)),
        "T1-T2": functools.partial(_implicit, identity()),
    }


def _through(
    module: Any, problem: Problem, hyperparams: Any, params: Any, *rest: Any, **options: Any
) -> Any:
    optimizer = optax.sgd(LEARNING_RATE, momentum=MOMENTUM)
    state = TrainState(params, optimizer.init(params))
    return module.hypergradient(problem, optimizer, hyperparams, state, *rest, **options)


def _reversible(problem: Problem, hyperparams: Any, params: Any, *rest: Any) -> Any:
    reversible = hypergradients.reversible
    state = TrainState(params, reversible.Momentum(jnp.float32(LEARNING_RATE)))
    return reversible.hypergradient(problem, MOMENTUM, hyperparams, state, *rest)


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
    """Predicted and measured memory, in sets of weights."""
    rows = []
    print("\nSets of weights (31 kB) of a hypergradient: predicted + one step's, measured")
    print(f"{'':<20}" + "".join(f"{f'T = {steps:,}':>26}" for steps in MEMORY_STEPS))
    for name, hypergradient in contenders().items():
        few = name == "forward mode"  # its memory grows with the number of hyperparameters
        point = subject(MEMORY_EXAMPLES, per="output" if few else "weight")
        count = sum(leaf.size for leaf in jax.tree.leaves(point.hyperparams))
        step = _sets(hypergradient, point, 2) - predicted(name, 2, count)
        cells = []
        for steps in MEMORY_STEPS:
            hand, measured = predicted(name, steps, count), _sets(hypergradient, point, steps)
            rows.append({"method": name, "steps": steps, "predicted": hand + step})
            rows[-1] |= {"counted_by_hand": hand, "one_step": step, "measured": measured}
            cells.append(f"{f'{hand:,.0f} + {step:.0f}':>15}, {f'{measured:,.1f}':>9}")
        print(f"{name:<20}" + "".join(cells), flush=True)
    return rows


def _sets(hypergradient: Hypergradient, subject: Subject, steps: int) -> float:
    size = FLOAT_BYTES * sum(leaf.size for leaf in jax.tree.leaves(subject.params))
    used: Any = _compiled(hypergradient, subject, steps).memory_analysis()
    return (used.temp_size_in_bytes + used.output_size_in_bytes) / size


def times(subject: Subject, rounds: int) -> list[dict[str, Any]]:
    """Seconds per gradient evaluation, over those of a plain training step."""
    methods = contenders() | implicit_contenders()
    # With thousands of hyperparameters forward mode would push as many sets of weights.
    del methods["forward mode"]
    arguments = subject.hyperparams, subject.params, subject.data
    turns, counts = {}, {"plain steps": TIMED_STEPS}
    for name, method in {"plain steps": _training, **methods}.items():
        compiled = _compiled(method, subject, TIMED_STEPS)
        if name in methods:
            counts[name] = int(compiled(*arguments).gradient_evaluations)
        turns[name] = timing.Turn(_repeated(compiled, *arguments), 1)
    rates, others = timing.interleaved(turns, rounds)
    print(
        f"\n{subject.name}, {TIMED_EXAMPLES:,} examples, {TIMED_STEPS} steps or {PRODUCTS} products"
    )
    print(f"{'':<20}{'evaluations':>12}{'ms each':>10}{'over a plain step':>20}")
    rows = []
    for name, count in counts.items():
        # Taken within a round, since the speed of a shared machine changes from round to round.
        ratio = timing.median_ratio(rates["plain steps"], rates[name]) * TIMED_STEPS / count
        milliseconds = 1e3 / rates[name].median / count
        rows.append({"model": subject.name, "method": name, "evaluations": count})
        rows[-1] |= {"milliseconds": milliseconds, "ratio": ratio}
        print(f"{name:<20}{count:>12}{milliseconds:>10.2f}{ratio:>20.2f}")
    print(f"Other processes kept {others:.1f} cores busy meanwhile.")
    return rows


def _implicit(
    solver: Any,
    problem: Problem,
    hyperparams: Any,
    params: Any,
    batches: Any,
    valid_batch: Any,
    key: Any,
) -> Any:
    return hypergradients.implicit.hypergradient(
        problem, hyperparams, params, batches[0], valid_batch, key, solver=solver
    )


def _training(
    problem: Problem, hyperparams: Any, params: Any, batches: Any, valid_batch: Any, key: Any
) -> Any:
    del valid_batch
    optimizer = optax.sgd(LEARNING_RATE, momentum=MOMENTUM)
    state = TrainState(params, optimizer.init(params))
    return inner_loop.train_steps(problem, optimizer, state, hyperparams, batches, key)


def whole(method: Hypergradient, subject: Subject, steps: int) -> Callable[[Any, Any, Data], Any]:
    """A method's hypergradient as a function of λ, weights and data, with no batch per step."""

    def function(hyperparams: Any, params: Any, data: Data) -> Any:
        def train_loss(params: Any, hyperparams: Any, _: Any, key: jax.Array) -> jax.Array:
            return subject.problem.train_loss(params, hyperparams, data.train, key)

        # All steps see the same images: one batch per step would be memory of another kind.
        problem = subject.problem._replace(train_loss=train_loss)
        key = jax.random.key(0)
        return method(problem, hyperparams, params, jnp.zeros(steps), data.valid, key)

    return function


def _compiled(method: Hypergradient, subject: Subject, steps: int) -> Any:
    function = jax.jit(whole(method, subject, steps))
    return function.lower(subject.hyperparams, subject.params, subject.data).compile()


def _repeated(compiled: Any, *arguments: Any) -> Callable[[int], None]:
    def repeat(times: int) -> None:
        for _ in range(times):
            jax.block_until_ready(compiled(*arguments))

    return repeat


if __name__ == "__main__":
    main()
