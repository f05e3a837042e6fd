"""Steps of a LeNet-5 on a CPU or GPU: jitted one by one, in loops, and self-tuned.

    python -m benchmarks.self_tuning

All train the same network, with all of its regularizers, on batches of 100 images. A step of
self-tuning is a fifth of a round: one inner step, and its share of the hyper-step.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import optax

import shohypernet as shn
from benchmarks import _cli, _timing
from configs import self_tuning as configs
from experiments import _augmented_lenet
from shohypernet import inner_loop, problem
from shohypernet._internal import convolutions
from shohypernet.batches import Data, Examples, Turn, minibatch
from shohypernet.hyperparameters import encode

STEPS, INNER, SIZE = 20, 5, 100
JITTED, SCANNED = "plain, each step jitted", "plain, in a scan, XLA's convolutions"
TRAINED, TUNED = "plain, shn.train", "shn.self_tuning"


def main() -> None:
    """Time all contenders in turns and print milliseconds per step."""
    parsed = _cli.parser("self_tuning", rounds=7).parse_args()
    machine = _cli.machine()
    rates, others = _timing.interleaved(contenders(), parsed.rounds)
    print(f"Milliseconds per step, median (range); other processes kept {others:.1f} cores busy.")
    for name, rate in rates.items():
        times = 1e3 / rate.median, 1e3 / rate.high, 1e3 / rate.low
        print(f"{name:38}{times[0]:8.1f} ({times[1]:.1f} to {times[2]:.1f})")
    ratio = 1 / _timing.median_ratio(rates[TUNED], rates[TRAINED])
    print(f"A step of self-tuning takes {ratio:.2f} times one of shn.train.")
    results = {name: rate._asdict() for name, rate in rates.items()}
    _cli.write(parsed.output, {"machine": machine, "rates": results, "ratio": ratio})


def contenders() -> dict[str, _timing.Turn]:
    """The work of each; noise in place of images."""
    made = _augmented_lenet.build(configs.get_config("idx"))
    keys = jax.random.split(jax.random.key(0))
    images = jax.random.uniform(keys[0], (2_000, 784))
    labels = jax.nn.one_hot(jax.random.randint(keys[1], (2_000,), 0, 10), 10)
    examples, start = Examples(images, labels), jax.tree.map(jnp.float32, made.start)
    adam, key = optax.adam(1e-3), jax.random.key(1)
    # Its losses read natural units as they are.
    natural = made._replace(space=problem.hp.UNCONSTRAINED)
    state = inner_loop.start(natural, adam, key)

    def one(state: Any, key: jax.Array) -> Any:
        given = natural, adam, Turn(key), state, start, examples
        return inner_loop.drawn_step(*given, batch_size=SIZE)[0]

    def loop(key: jax.Array) -> Any:
        return shn.train(made, adam, key, start, examples, steps=STEPS, batch_size=SIZE).params

    with _xla_s_own():
        jitted = jax.jit(one).lower(state, key).compile()
        scanned = jax.jit(lambda key: loop(key)).lower(key).compile()
    trained = jax.jit(loop).lower(key).compile()

    def one_by_one(key: jax.Array) -> Any:
        after = state
        for step in range(STEPS):
            after = jitted(after, inner_loop.step_key(key, step))
        return after

    tuned = _tuned(made, Data(examples, examples, examples), start)
    each = {JITTED: one_by_one, SCANNED: scanned, TRAINED: trained, TUNED: tuned}
    return {name: _turn(run, key) for name, run in each.items()}


def _tuned(made: problem.Problem, data: Data, start: Any) -> Callable[[jax.Array], Any]:
    method = shn.self_tuning(made, optimizer=optax.adam(1e-3), hyper_optimizer=optax.rmsprop(1e-2))
    state = method.init(jax.random.key(2), jax.tree.map(jnp.asarray, encode(made.space, start)))

    def round_(state: Any, key: jax.Array) -> tuple[Any, None]:
        keys = jax.random.split(key, 3)
        batches = minibatch(keys[0], data.train, (INNER, SIZE))
        with convolutions.as_products():
            valid = minibatch(keys[1], data.valid, SIZE)
            return method.step(keys[2], state, batches, valid)[0], None

    def rounds(key: jax.Array) -> Any:
        return jax.lax.scan(round_, state, jax.random.split(key, STEPS // INNER))[0]

    return jax.jit(rounds).lower(jax.random.key(0)).compile()


@contextlib.contextmanager
def _xla_s_own() -> Iterator[None]:
    """Within it, convolutions in loops are left as they are."""
    with mock.patch.object(convolutions, "as_products", contextlib.nullcontext):
        yield


def _turn(run: Callable[[jax.Array], Any], key: jax.Array) -> _timing.Turn:
    return _timing.Turn(lambda steps: jax.block_until_ready(run(key)) and None, STEPS)


if __name__ == "__main__":
    main()
