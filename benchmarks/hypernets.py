"""What hyper-training costs beside plain training of the same model, for each training step.

    python -m benchmarks.hypernets [--output=results.json]

takes about six minutes on 2 cores. Plain training is Adam on the same minibatches at one fixed
decay for each weight, in the same kind of compiled loop; hyper-training makes one hyper-step in ten
steps, on 1,000 validation images, and all of its looks at the curvature fall into the time. All are
run in turns, for one seed.
"""

import argparse
import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import shohypernet as shn
from benchmarks import images, machine, timing
from benchmarks.timing import Turn
from shohypernet import jacobians
from shohypernet._internal import sharding
from shohypernet.batches import Data, minibatch
from shohypernet.hypernets import Jacobian
from shohypernet.models import MLP
from shohypernet.problem import Problem

HIDDEN = (), (100,), (100, 100)
IMAGES = 10_000
TRAIN_BATCHES = 100, 1_000
VALID_BATCH = 1_000
INNER_STEPS = 10
ROUNDS_A_CALL = 50  # so that looks, one in 50 rounds once it is under way, have their share

START = -6.0
PLAIN = "plain training"


def main() -> None:
    """Measures, prints and, if asked, writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hypernets")
    parser.add_argument("--output", type=pathlib.Path, help="a file for all of it as JSON")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender (3)")
    arguments = parser.parse_args()
    described = machine.describe()
    print("  ".join(f"{name}: {value}" for name, value in described._asdict().items()))
    source, data = images.load(IMAGES, IMAGES)
    print(f"{IMAGES:,} training and validation images of {source}")
    rows = measure(data, arguments.rounds)
    if arguments.output:
        text = json.dumps({"machine": described._asdict(), "rows": rows}, indent=2)
        arguments.output.write_text(text + "\n")


def measure(data: Data, rounds: int) -> list[dict[str, Any]]:
    """A row for each network, minibatch and method, printed as they come."""
    print(f"{'network':<16}{'examples':>9}  {'method':<24}{'steps/s':>10}{'times plain':>13}")
    rows = []
    for hidden in HIDDEN:
        name = "-".join(map(str, (data.train.inputs.shape[1], *hidden, shn.data.CLASSES)))
        problem = _problem(hidden, data)
        for size in TRAIN_BATCHES:
            turns = _turns(problem, data, size)
            rates, _ = timing.by_turns(turns, rounds)
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


def _problem(hidden: tuple[int, ...], data: Data) -> Problem:
    return shn.supervised(
        MLP(shn.data.CLASSES, hidden, 0.05),
        data.train.inputs[:1],
        shn.losses.mean_squared_error,
        shn.penalties.weight_decay,
        space=shn.hyperparameters.log(),
    )


def _turns(problem: Problem, data: Data, size: int) -> dict[str, Turn]:
    weights = jax.eval_shape(problem.init, jax.random.key(0))
    start = shn.penalties.decays(weights, START, "weight")
    adam = optax.adam(1e-3)
    hypernets = shn.hypernets

    def centered(jacobian: Jacobian) -> shn.HyperOptimizer:
        return shn.centered_response(problem, jacobian, optimizer=adam, hyper_optimizer=adam)

    methods = {
        "centered, Kronecker": centered(jacobians.kronecker(problem)),
        "the same, 1 iteration": centered(jacobians.kronecker(problem, iterations=1)),
        "centered, elementwise": centered(
            jacobians.linearized(problem, hypernets.elementwise(weights), optimizer=adam)
        ),
        "factorized (paper)": shn.local_response(
            problem,
            hypernets.factorized(weights),
            hypernet_optimizer=adam,
            hyper_optimizer=adam,
            sampler=shn.hyperparameters.local_gaussian(0.003),
        ),
    }
    # A call to warm up has the looks of the first rounds, which come more often.
    turns = {PLAIN: _turn(_plain(problem, start, size), _adam_state(problem, adam), data)}
    for name, method in methods.items():
        state = jax.jit(method.init)(jax.random.key(0), start)
        turns[name] = _turn(_rounds(method, size), state, data)
    return turns


def _adam_state(problem: Problem, optimizer: optax.GradientTransformation) -> Any:
    """Fresh weights and their optimizer's state."""
    params = problem.init(jax.random.key(0))
    return params, optimizer.init(params)


def _plain(problem: Problem, hyperparams: Any, size: int) -> Callable[[Any, Any, Data], Any]:
    optimizer = optax.adam(1e-3)

    def step(carry: Any, key: jax.Array, data: Data) -> Any:
        params, opt_state = carry
        key_batch, key_loss = jax.random.split(key)
        batch = minibatch(key_batch, data.train, size)
        gradient = jax.grad(problem.train_loss)(params, hyperparams, batch, key_loss)
        change, opt_state = optimizer.update(gradient, opt_state, params)
        return optax.apply_updates(params, change), opt_state

    def chunk(carry: Any, key: jax.Array, data: Data) -> Any:
        keys = jax.random.split(key, ROUNDS_A_CALL * INNER_STEPS)
        return jax.lax.scan(lambda carry, key: (step(carry, key, data), None), carry, keys)[0]

    return chunk


def _rounds(method: shn.HyperOptimizer, size: int) -> Callable[[Any, Any, Data], Any]:
    def step(state: Any, key: jax.Array, data: Data) -> Any:
        key_train, key_valid, key_step = jax.random.split(key, 3)
        train_batches = minibatch(key_train, data.train, (INNER_STEPS, size))
        valid_batch = minibatch(key_valid, data.valid, VALID_BATCH)
        return method.step(key_step, state, train_batches, valid_batch)[0]

    def chunk(state: Any, key: jax.Array, data: Data) -> Any:
        keys = jax.random.split(key, ROUNDS_A_CALL)
        return jax.lax.scan(lambda state, key: (step(state, key, data), None), state, keys)[0]

    return chunk


def _turn(chunk: Callable[[Any, Any, Data], Any], state: Any, data: Data) -> Turn:
    """Goes on from where it is; all as in `fit` with one seed."""
    compiled = jax.jit(sharding.each_seed(chunk, 2), donate_argnums=0)
    state = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], state)
    key = jax.random.key(1)

    def advance(steps: int) -> None:
        nonlocal state, key
        del steps  # a call makes as many as there are in a chunk
        key, key_now = jax.random.split(key)
        state = jax.block_until_ready(compiled(state, key_now[None], data))

    return Turn(advance, ROUNDS_A_CALL * INNER_STEPS)


if __name__ == "__main__":
    main()
