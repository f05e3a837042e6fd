"""Implicit hypergradients beside jaxopt's and TorchOpt's: the same calculation, timed in turns.

    python -m benchmarks.implicit_peers [--output=results.json]

takes about a minute on 2 cores. All get the same weights w, trained beforehand at one decay, and
calculate

    dL_valid/dλ = −(∂²L_train/∂λ∂w) u,    u ≈ (∂²L_train/∂w²)⁻¹ ∂L_valid/∂w

by 20 iterations of conjugate gradients from zero, without damping or stopping tolerance, for one
decay per weight. Each of the peers is used as its users do: `custom_root` around a solver that
returns w, its own `solve_cg`, and the gradient of the validation loss from outside.

Their differences, from their sources (jaxopt 0.8.5, TorchOpt 0.7.3):

- Ours linearizes ∂L_train/∂w once and multiplies by the Hessian in forward mode; both peers
  multiply by its transpose, the same matrix, in reverse mode.
- Both peers begin with a product with the zero vector, the 21st.
- TorchOpt runs eagerly, so it compiles nothing; it has PyTorch's own number of threads.

That it is the same calculation is checked in float64, after 4 iterations. Later iterations amplify
rounding errors, so that sums in another order (on another processor, by another version of JAX)
give another result: by 1e-2 in any implementation at iterate 12 on 784-10, which finds the largest
eigenvalue a second time; and tenfold with each iteration on a small network, whose Hessian has
negative eigenvalues. In float32, which is timed, the third decimal differs after 20.
"""

import functools
import importlib
import math
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import shohypernet as shn
from benchmarks import _cli as cli
from benchmarks import _problems as problems
from benchmarks import _timing as timing
from benchmarks._timing import Turn
from benchmarks.contenders import implicit
from benchmarks.contenders.implicit import ImplicitContender, Subject
from shohypernet.batches import Data
from shohypernet.models import MLP
from shohypernet.problem import unconstrained

HIDDEN = (), (100,)
EXAMPLES = 1_000  # of the training and of the validation set, all in every product
ITERATIONS = 20
CHECKED_ITERATIONS = 4
LOG_DECAY = -5.0
TRAINING_STEPS = 500
TOLERANCE = 1e-10  # of the norm, in float64: rounding after 4 iterations leaves 1e-13
OURS = "shohypernet"


def main() -> None:
    """Measure, print and, if asked, write."""
    arguments = cli.parser("implicit_peers", rounds=5).parse_args()
    machine = cli.machine()
    source, data = problems.images(EXAMPLES, EXAMPLES)
    print(f"{EXAMPLES:,} training and {EXAMPLES:,} validation images of {source}")
    rows = [row for hidden in HIDDEN for row in measure(subject(data, hidden), arguments.rounds)]
    cli.write(arguments.output, {"machine": machine, "data": source, "rows": rows})
    apart = [row for row in rows if not row["difference"] <= TOLERANCE]  # NaN too
    if apart:
        sys.exit(f"They do not agree, so their speeds cannot be compared: {apart}")


def subject(data: Data, hidden: tuple[int, ...], training_steps: int = TRAINING_STEPS) -> Subject:
    """A network trained on the whole training set at one decay for all weights."""
    problem = shn.supervised(
        MLP(shn.datasets.CLASSES, hidden, 0.05),
        data.train.inputs[:1],
        shn.losses.mean_squared_error,
        shn.penalties.weight_decay,
        space=shn.hyperparameters.log(),
    )
    trained = shn.train(
        problem,
        optax.adam(1e-2),
        jax.random.key(0),
        jnp.float32(math.exp(LOG_DECAY)),
        data.train,
        steps=training_steps,
    )
    hyperparams = shn.penalties.decays(trained.params, LOG_DECAY, "weight")
    return Subject(unconstrained(problem), hyperparams, trained.params, data)


def contenders(subject: Subject, iterations: int) -> dict[str, ImplicitContender]:
    """Ours and those of the peers that are installed."""
    modules = {OURS: implicit, **_peers()}
    return {name: module.contender(subject, iterations) for name, module in modules.items()}


@functools.cache
def _peers() -> dict[str, Any]:
    found = {}
    for name in ("jaxopt", "TorchOpt"):
        try:
            module = importlib.import_module(f"benchmarks.contenders.implicit_{name.lower()}")
        except ImportError as error:
            print(f"{name} is left out: {error}.")
        else:
            found[name] = module
    return found


def in_float64(subject: Subject) -> Subject:
    """The same in double precision, within `jax.enable_x64`."""
    arrays = subject.hyperparams, subject.params, subject.data
    return Subject(
        subject.problem, *jax.tree.map(lambda x: jnp.asarray(np.asarray(x), jnp.float64), arrays)
    )


def differences(found: Mapping[str, ImplicitContender]) -> dict[str, float]:
    """Distance of each hypergradient from ours, over the norm of ours."""
    expected = found[OURS].hypergradient()
    norm = np.linalg.norm(expected)
    return {
        name: float(np.linalg.norm(one.hypergradient() - expected) / norm)
        for name, one in found.items()
    }


def measure(subject: Subject, rounds: int) -> list[dict[str, Any]]:
    """One row per contender, printed."""
    with jax.enable_x64(True):
        apart = differences(contenders(in_float64(subject), CHECKED_ITERATIONS))
    found = contenders(subject, ITERATIONS)
    apart_in_float32 = differences(found)
    rates, others = timing.interleaved(
        {name: Turn(_repeated(one), 1) for name, one in found.items()}, rounds
    )
    widths = _widths(subject.params)
    count = sum(leaf.size for leaf in jax.tree.leaves(subject.hyperparams))
    print(f"\n{widths}, {count:,} decays, {ITERATIONS} iterations of conjugate gradients")
    print(
        f"{'':<14}{'hypergradients/s (range)':<28}{'ours is':>9}{'CPU ms':>8}{'compile s':>11}"
        f"{'apart by':>10}{'in float32':>12}"
    )
    rows = []
    for name, rate in rates.items():
        # Taken within a round, since the speed of a shared machine changes from round to round.
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


def _repeated(contender: ImplicitContender) -> Callable[[int], None]:
    def repeat(times: int) -> None:
        for _ in range(times):
            contender.hypergradient()

    return repeat


def _widths(params: Any) -> str:
    kernels = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 2]
    return "-".join(str(width) for width in (kernels[0].shape[0], *(k.shape[1] for k in kernels)))


if __name__ == "__main__":
    main()
