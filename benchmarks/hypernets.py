"""Cost of hyper-training beside plain training of the same model, per training step.

    python -m benchmarks.hypernets [--output=results.json]

takes about six minutes on 2 cores. Plain training is Adam on the same minibatches at one fixed
decay per weight, in the same kind of compiled loop; hyper-training makes one hyper-step in ten
steps, on 1,000 validation images, and its time includes all updates of the Kronecker factors. All
take turns, for one seed.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import shohypernet as shn
from benchmarks import _cli as cli
from benchmarks import _problems as problems
from benchmarks import _timing as timing
from benchmarks._timing import Turn
from shohypernet import hypernets, jacobians
from shohypernet._internal import random, sharding
from shohypernet.batches import Data, minibatch
from shohypernet.jacobians import ResponseJacobian
from shohypernet.models import MLP
from shohypernet.problem import Problem, param_shapes

HIDDEN = (), (100,), (100, 100)
IMAGES = 10_000
TRAIN_BATCHES = 100, 1_000
VALID_BATCH = 1_000
INNER_STEPS = 10
ROUNDS_PER_CALL = 50  # so that updates of the factors, one in 50 rounds, have their share

LOG_DECAY = -6.0
PLAIN = "plain training"


def main() -> None:
    """Measure, print and, if asked, write."""
    arguments = cli.parser("hypernets", rounds=3).parse_args()
    machine = cli.machine()
    source, data = problems.images(IMAGES, IMAGES)
    print(f"{IMAGES:,} training and validation images of {source}")
    rows = measure(data, arguments.rounds)
    cli.write(arguments.output, {"machine": machine, "rows": rows})


def measure(data: Data, rounds: int) -> list[dict[str, Any]]:
    """One row per network, minibatch and method, printed as they come."""
    print(f"{'network':<16}{'examples':>9}  {'method':<24}{'steps/s':>10}{'times plain':>13}")
    rows = []
    for hidden in HIDDEN:
        widths = data.train.inputs.shape[1], *hidden, shn.datasets.CLASSES
        name = "-".join(map(str, widths))
        problem = problem_of(hidden, data.train.inputs[:1])
        for size in TRAIN_BATCHES:
            rates, _ = timing.interleaved(_turns(problem, data, size), rounds)
            for method, rate in rates.items():
                times = timing.median_ratio(rates[PLAIN], rate)
                print(f"{name:<16}{size:>9}  {method:<24}{rate.median:>10.0f}{times:>13.2f}")
                rows.append(
                    {
                        "network": name,
                        "examples": size,
                        "method": method,
                        "steps_per_second": rate.median,
                        "times_plain": times,
                    }
                )
    return rows


def methods(problem: Problem) -> dict[str, shn.HyperOptimizer]:
    """The methods that are measured, by the names of their rows."""
    adam = optax.adam(1e-3)

    def centered(jacobian: ResponseJacobian) -> shn.HyperOptimizer:
        return shn.centered_response(problem, jacobian, optimizer=adam, hyper_optimizer=adam)

    return {
        "centered, Kronecker": centered(jacobians.kronecker()),
        "the same, 1 iteration": centered(jacobians.kronecker(iterations=1)),
        "the same, 2 products": centered(jacobians.kronecker(products=2)),
        "centered, elementwise": centered(
            jacobians.linearized(
                hypernets.elementwise(init_scale=hypernets.PAPER_INIT_SCALE), optimizer=adam
            )
        ),
        "factorized (paper)": shn.local_response(
            problem,
            hypernets.factorized(init_scale=hypernets.PAPER_INIT_SCALE),
            hypernet_optimizer=adam,
            hyper_optimizer=adam,
            sampler=shn.samplers.local_gaussian(0.003),
        ),
    }


def problem_of(hidden: tuple[int, ...], inputs: jax.Array) -> Problem:
    """A network with one decay per weight."""
    return shn.supervised(
        MLP(shn.datasets.CLASSES, hidden, 0.05),
        inputs,
        shn.losses.mean_squared_error,
        shn.penalties.weight_decay,
        space=shn.hyperparameters.log(),
    )


def _turns(problem: Problem, data: Data, size: int) -> dict[str, Turn]:
    start = shn.penalties.decays(param_shapes(problem), LOG_DECAY, "weight")
    optimizer = optax.adam(1e-3)
    params = problem.init(random.key(0))
    decays = shn.hyperparameters.decode(problem.space, start)
    plain = decays, params, optimizer.init(params)
    # A call to warm up has the updates of the first rounds, which come more often.
    turns = {PLAIN: _turn(_plain(problem, optimizer, size), plain, data)}
    for name, method in methods(problem).items():
        state = jax.jit(method.init)(random.key(0), start)
        turns[name] = _turn(chunk_of(method, size), state, data)
    return turns


def _plain(
    problem: Problem, optimizer: optax.GradientTransformation, size: int
) -> Callable[[Any, Any, Data], Any]:
    """Plain training as a function of (decays, weights, optimizer's state), a key and the data."""

    def step(carry: Any, key: jax.Array, data: Data) -> Any:
        decays, params, opt_state = carry
        key_batch, key_loss = jax.random.split(key)
        batch = minibatch(key_batch, data.train, size)
        gradient = jax.grad(problem.train_loss)(params, decays, batch, key_loss)
        change, opt_state = optimizer.update(gradient, opt_state, params)
        return decays, optax.apply_updates(params, change), opt_state

    def chunk(carry: Any, key: jax.Array, data: Data) -> Any:
        keys = jax.random.split(key, ROUNDS_PER_CALL * INNER_STEPS)
        return jax.lax.scan(lambda carry, key: (step(carry, key, data), None), carry, keys)[0]

    return chunk


def chunk_of(method: shn.HyperOptimizer, size: int) -> Callable[[Any, Any, Data], Any]:
    """Rounds of a method as a function of its state, a key and the data."""

    def step(state: Any, key: jax.Array, data: Data) -> Any:
        key_train, key_valid, key_step = jax.random.split(key, 3)
        train_batches = minibatch(key_train, data.train, (INNER_STEPS, size))
        valid_batch = minibatch(key_valid, data.valid, VALID_BATCH)
        return method.step(key_step, state, train_batches, valid_batch)[0]

    def chunk(state: Any, key: jax.Array, data: Data) -> Any:
        keys = jax.random.split(key, ROUNDS_PER_CALL)
        return jax.lax.scan(lambda state, key: (step(state, key, data), None), state, keys)[0]

    return chunk


def _turn(chunk: Callable[[Any, Any, Data], Any], state: Any, data: Data) -> Turn:
    """Continues from its last state; compiled as in `fit` with one seed."""
    compiled = jax.jit(sharding.each_seed(chunk, 2), donate_argnums=0)
    # Copies, since the state is donated.
    state = jax.tree.map(lambda leaf: jnp.array(leaf)[None], state)
    key = random.key(1)

    def advance(steps: int) -> None:
        nonlocal state, key
        del steps  # a call makes as many as there are in a chunk
        key, key_now = jax.random.split(key)
        state = jax.block_until_ready(compiled(state, key_now[None], data))

    return Turn(advance, ROUNDS_PER_CALL * INNER_STEPS)


if __name__ == "__main__":
    main()
