"""Implicit hypergradients beside jaxopt's and TorchOpt's: the same calculation, timed by turns.

    python -m benchmarks.implicit_peers [--output=results.json]

takes about a minute on 2 cores. All are given the same weights w, trained beforehand for one decay,
and make

    dL_valid/dλ = −(∂²L_train/∂λ∂w) u,    u ≈ (∂²L_train/∂w²)⁻¹ ∂L_valid/∂w

with 20 iterations of conjugate gradients from zero, no damping, no tolerance to stop at, and a
decay for each weight. Each of the peers is used as its users do: `custom_root` around a solver that
returns w, its own `solve_cg`, and the gradient of the validation loss from outside.

What they do differently, from their sources (jaxopt 0.8.5, TorchOpt 0.7.3):

- Ours linearises ∂L_train/∂w once and multiplies by the Hessian in forward mode; both peers
  multiply by its transpose, the same matrix, in reverse mode.
- Both peers begin with a product with the zero vector, the 21st.
- TorchOpt runs eagerly, so it compiles nothing; it has PyTorch's own number of threads.

That it is the same calculation is checked in float64, after 4 iterations. Further on conjugate
gradients multiply the rounding, so that another order of the same sums (another processor, another
version of JAX) shows: where the largest eigenvalue is found a second time, iterate 12 on 784-10, by
1e-2 in any code; and on a small network, whose Hessian has negative eigenvalues, tenfold with each
iteration. In float32, where it is timed, it shows in the third decimal after 20.
"""

import argparse
import functools
import importlib
import json
import pathlib
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import shohypernet as shn
from benchmarks import images, machine, timing
from benchmarks.timing import Turn
from shohypernet.data import Data
from shohypernet.hypergradients import implicit
from shohypernet.linear_solvers import conjugate_gradient
from shohypernet.models import MLP
from shohypernet.problem import Problem

HIDDEN = (), (100,)
EXAMPLES = 1_000  # of the training and of the validation set, all in every product
ITERATIONS = 20
CHECKED_ITERATIONS = 4
LOG_DECAY = -5.0
TRAINING_STEPS = 500
TOLERANCE = 1e-10  # of the norm, in float64: rounding after 4 iterations leaves 1e-13
OURS = "shohypernet"


class Subject(NamedTuple):
    """What the hypergradient is taken of, and where."""

    problem: Problem
    hyperparams: Any
    params: Any
    data: Data


class Contender(NamedTuple):
    """One way to make the calculation.

    Attributes:
      hypergradient: makes it, waits for the end, and returns it as a flat array in the order of the
        tree of weights.
      compile_seconds: what it took to trace and compile; None where nothing is compiled.
    """

    hypergradient: Callable[[], np.ndarray]
    compile_seconds: float | None


def main() -> None:
    """Measures, prints and, if asked, writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.implicit_peers")
    parser.add_argument("--output", type=pathlib.Path, help="a file for all of it as JSON")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender (5)")
    arguments = parser.parse_args()
    described = machine.describe()
    print("  ".join(f"{name}: {value}" for name, value in described._asdict().items()))
    source, data = images.load(EXAMPLES, EXAMPLES)
    print(f"{EXAMPLES:,} training and {EXAMPLES:,} validation images of {source}")
    rows = [row for hidden in HIDDEN for row in measure(subject(data, hidden), arguments.rounds)]
    if arguments.output:
        text = json.dumps({"machine": described._asdict(), "data": source, "rows": rows}, indent=2)
        arguments.output.write_text(text + "\n")
    apart = [row for row in rows if not row["difference"] <= TOLERANCE]  # NaN too
    if apart:
        sys.exit(f"They do not agree, so their speeds cannot be compared: {apart}")


def subject(data: Data, hidden: tuple[int, ...], training_steps: int = TRAINING_STEPS) -> Subject:
    """A network trained on the whole training set at one decay for all weights."""
    problem = shn.supervised(
        MLP(shn.data.CLASSES, hidden, 0.05),
        data.train.inputs[:1],
        shn.losses.mean_squared_error,
        shn.penalties.weight_decay,
        space=shn.hyperparameters.log(),
    )
    params = problem.init(jax.random.key(0))
    hyperparams = shn.penalties.decays(params, LOG_DECAY, "weight")
    optimizer = optax.adam(1e-2)

    @jax.jit
    def train(params: Any) -> Any:
        def step(carry: Any, _: None) -> Any:
            params, state = carry
            gradient = jax.grad(problem.train_loss)(
                params, hyperparams, data.train, jax.random.key(0)
            )
            change, state = optimizer.update(gradient, state, params)
            return (optax.apply_updates(params, change), state), None

        carry = params, optimizer.init(params)
        return jax.lax.scan(step, carry, None, training_steps)[0][0]

    return Subject(problem, hyperparams, train(params), data)


def contenders(taken: Subject, iterations: int) -> dict[str, Contender]:
    """Ours and those of the peers that are installed."""
    made = {name: peer.contender(taken, iterations) for name, peer in _peers().items()}
    return {OURS: ours(taken, iterations), **made}


@functools.cache
def _peers() -> dict[str, Any]:
    found = {}
    for name in ("jaxopt", "TorchOpt"):
        try:
            found[name] = importlib.import_module(f"benchmarks.implicit_peers_{name.lower()}")
        except ImportError as error:
            print(f"{name} is left out: {error}.")
    return found


def ours(taken: Subject, iterations: int) -> Contender:
    """The library's own."""

    def hypergradient(hyperparams: Any, params: Any, data: Data) -> Any:
        solver = conjugate_gradient(iterations)
        key = jax.random.key(0)
        return implicit.hypergradient(
            taken.problem, hyperparams, params, data.train, data.valid, key, solver=solver
        ).gradient

    return compiled(hypergradient, taken)


def compiled(hypergradient: Callable[[Any, Any, Data], Any], taken: Subject) -> Contender:
    """A contender from a function of λ, w and the data that JAX can compile."""
    arguments = taken.hyperparams, taken.params, taken.data
    began = time.perf_counter()
    call = jax.jit(hypergradient).lower(*arguments).compile()
    seconds = time.perf_counter() - began

    def flat() -> np.ndarray:
        leaves = jax.tree.leaves(jax.block_until_ready(call(*arguments)))
        return np.concatenate([np.ravel(leaf) for leaf in leaves])

    return Contender(flat, seconds)


def in_float64(taken: Subject) -> Subject:
    """The same in double precision, within `jax.enable_x64`."""
    arrays = taken.hyperparams, taken.params, taken.data
    return Subject(
        taken.problem, *jax.tree.map(lambda x: jnp.asarray(np.asarray(x), jnp.float64), arrays)
    )


def differences(found: Mapping[str, Contender]) -> dict[str, float]:
    """How far each hypergradient is from ours, over the norm of ours."""
    expected = found[OURS].hypergradient()
    norm = np.linalg.norm(expected)
    return {
        name: float(np.linalg.norm(one.hypergradient() - expected) / norm)
        for name, one in found.items()
    }


def measure(taken: Subject, rounds: int) -> list[dict[str, Any]]:
    """A row for each contender, printed."""
    with jax.enable_x64(True):
        apart = differences(contenders(in_float64(taken), CHECKED_ITERATIONS))
    found = contenders(taken, ITERATIONS)
    apart_in_float32 = differences(found)
    rates, others = timing.by_turns(
        {name: Turn(_repeated(one), 1) for name, one in found.items()}, rounds
    )
    widths = _widths(taken.params)
    count = sum(leaf.size for leaf in jax.tree.leaves(taken.hyperparams))
    print(f"\n{widths}, {count:,} decays, {ITERATIONS} iterations of conjugate gradients")
    print(
        f"{'':<14}{'hypergradients/s (range)':<28}{'ours is':>9}{'CPU ms':>8}{'compile s':>11}"
        f"{'apart by':>10}{'in float32':>12}"
    )
    rows = []
    for name, rate in rates.items():
        # Taken within a round, since a machine that others use is fast and slow by turns.
        ratio = timing.median_ratio(rates[OURS], rate)
        seconds = found[name].compile_seconds
        compiling = "eager" if seconds is None else f"{seconds:.1f}"
        print(
            f"{name:<14}{rate!s:<28}{ratio:>7.2f} x{rate.cpu_milliseconds:>8.1f}{compiling:>11}"
            f"{apart[name]:>10.0e}{apart_in_float32[name]:>12.0e}"
        )
        rows.append(
            {
                "model": widths,
                "hyperparameters": count,
                "contender": name,
                **rate._asdict(),
                "ours_over_it": ratio,
                "compile_seconds": seconds,
                "difference": apart[name],
                "difference_in_float32": apart_in_float32[name],
            }
        )
    print(f"Other processes kept {others:.1f} cores busy meanwhile.")
    return rows


def _repeated(contender: Contender) -> Callable[[int], None]:
    def repeat(times: int) -> None:
        for _ in range(times):
            contender.hypergradient()

    return repeat


def _widths(params: Any) -> str:
    kernels = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 2]
    return "-".join(str(width) for width in (kernels[0].shape[0], *(k.shape[1] for k in kernels)))


if __name__ == "__main__":
    main()
