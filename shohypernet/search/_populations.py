"""Populations of trainings, compiled and vmapped, in waves that keep within a memory bound.

A wave is an array of trainings, (seeds, width). All trainings of a seed start from the same weights
and see the same minibatches, so that they differ by λ alone, and each minibatch is read once for
all of them: their products are one wide one.
"""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from shohypernet import inner_loop
from shohypernet.batches import Data
from shohypernet.inner_loop import TrainState as Training
from shohypernet.problem import Problem

# Weights, gradient, update and what goes in and comes out, in units of one training's state: a
# first guess, which XLA's own account corrects.
STATES_A_TRAINING = 4


class Job(NamedTuple):
    """Trainings of one seed, P of them, all with as many steps behind them.

    Attributes:
      key: the seed's key of its trainings.
      trainings: their weights and optimizer states so far, P trees of NumPy arrays.
      hyperparams: λ, leaves (P, ...).
      done: steps behind them.
    """

    key: jax.Array
    trainings: Sequence[Training]
    hyperparams: Any
    done: int


class Outcome(NamedTuple):
    """What became of a job: trainings P trees of NumPy arrays, losses of shape (P,)."""

    trainings: Sequence[Training]
    valid_loss: np.ndarray
    test_loss: np.ndarray


class Waves:
    """Runs jobs; holds what is compiled.

    Args:
      problem: what is tuned.
      optimizer: α, of the weights.
      data: three splits, on the device.
      batch_size: examples a step; None takes all of them.
      memory: bytes that a wave may take besides the data.

    Attributes:
      compile_seconds: time spent in compiling.
      widest: trainings a seed that fit in memory side by side, by the number of seeds.
    """

    def __init__(
        self,
        problem: Problem,
        optimizer: optax.GradientTransformation,
        data: Data,
        batch_size: int | None,
        memory: int,
    ) -> None:
        """Compiles nothing yet."""
        self.compile_seconds = 0.0
        self._start = jax.jit(lambda key: inner_loop.start(problem, optimizer, key))
        self._wave = jax.jit(_program(problem, optimizer, batch_size))
        self._data, self._memory = data, memory
        self._data_bytes = _bytes(data)
        self._compiled: dict[tuple[int, int], Any] = {}
        self.widest: dict[int, int] = {}

    def start(self, key: jax.Array) -> Training:
        """A seed's training before its first step, in NumPy."""
        return jax.device_get(self._start(key))

    def run(self, jobs: Sequence[Job], steps: int) -> list[Outcome]:
        """Trains all jobs, one a seed, for as many steps.

        Raises:
          ValueError: if not even one training a seed fits in memory.
        """
        longest = max(len(job.trainings) for job in jobs)
        pieces, first = [], 0
        while first < longest:
            compiled, width = self._compile(jobs, longest - first)
            columns = [_columns(job, first, width) for job in jobs]
            trainings, hyperparams = jax.tree.map(lambda *leaves: np.stack(leaves), *columns)
            keys = jnp.stack([job.key for job in jobs])
            done = jnp.array([job.done for job in jobs], jnp.int32)
            wave = compiled(trainings, hyperparams, keys, done, jnp.int32(steps), self._data)
            pieces.append(jax.device_get(wave))
            first += width
        joined = jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=1), *pieces)
        return [_outcome(joined, seed, len(job.trainings)) for seed, job in enumerate(jobs)]

    def _compile(self, jobs: Sequence[Job], wanted: int) -> tuple[Any, int]:
        """A compiled wave for some seeds, and its width: `wanted` padded, or what memory allows."""
        seeds, example = len(jobs), jobs[0]
        if seeds not in self.widest:
            each = STATES_A_TRAINING * _bytes(example.trainings[0])
            self.widest[seeds] = max(1, self._memory // (each * seeds))
        # One that is there and at most twice as wide as it need be spares a compilation.
        there = [width for known, width in self._compiled if known == seeds]
        serving = [
            width for width in there if wanted <= width <= min(2 * wanted, self.widest[seeds])
        ]
        while True:
            width = min(serving, default=min(_padded(wanted), self.widest[seeds]))
            if (seeds, width) not in self._compiled:
                self._compiled[seeds, width] = self._lower(example, seeds, width)
            compiled = self._compiled[seeds, width]
            taken = self._taken(compiled)
            if taken <= self._memory:
                return compiled, width
            if width == 1:
                raise ValueError(
                    f"one training for each of {seeds} seeds takes {taken:,} bytes, more than "
                    f"memory={self._memory:,}; allow more, take a smaller batch_size or run fewer "
                    "seeds at once."
                )
            self.widest[seeds], serving = width // 2, []

    def _lower(self, example: Job, seeds: int, width: int) -> Any:
        began = time.perf_counter()
        hyperparams = jax.tree.map(lambda leaf: leaf[0], example.hyperparams)
        trainings, hyperparams = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((seeds, width, *leaf.shape), leaf.dtype),
            (example.trainings[0], hyperparams),
        )
        keys = jax.ShapeDtypeStruct((seeds,), example.key.dtype)
        done = jax.ShapeDtypeStruct((seeds,), jnp.int32)
        compiled = self._wave.lower(
            trainings, hyperparams, keys, done, jnp.int32(0), self._data
        ).compile()
        self.compile_seconds += time.perf_counter() - began
        return compiled

    def _taken(self, compiled: Any) -> int:
        account = compiled.memory_analysis()
        if account is None:  # some backends keep none
            return 0
        arguments = account.argument_size_in_bytes - self._data_bytes
        return arguments + account.output_size_in_bytes + account.temp_size_in_bytes


def _program(
    problem: Problem, optimizer: optax.GradientTransformation, batch_size: int | None
) -> Any:
    def one_step(key: jax.Array, state: Training, hyperparams: Any, examples: Any) -> Training:
        return inner_loop.update(
            problem, optimizer, key, state, hyperparams, examples, batch_size=batch_size
        )[0]

    # The key is not mapped, so a seed's trainings share what is drawn from it.
    all_trainings = jax.vmap(one_step, in_axes=(None, 0, 0, None))

    def one_seed(
        states: Training, hyperparams: Any, key: jax.Array, done: jax.Array, steps: Any, data: Data
    ) -> tuple[Training, jax.Array, jax.Array]:
        def body(step: Any, states: Training) -> Training:
            key_step = inner_loop.step_key(key, done + step)
            return all_trainings(key_step, states, hyperparams, data.train)

        # The number of steps is no constant, so that every rung of a bracket is the same program.
        states = jax.lax.fori_loop(0, steps, body, states)
        losses = jax.vmap(problem.valid_loss, in_axes=(0, 0, None))
        valid = losses(states.params, hyperparams, data.valid)
        return states, valid, losses(states.params, hyperparams, data.test)

    return jax.vmap(one_seed, in_axes=(0, 0, 0, 0, None, None))


def _columns(job: Job, first: int, width: int) -> tuple[Training, Any]:
    """Trainings `first` to `first + width` of a job, stacked; the last is repeated to fill up."""
    columns = np.minimum(np.arange(first, first + width), len(job.trainings) - 1)
    chosen = [job.trainings[column] for column in columns]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *chosen)
    return stacked, jax.tree.map(lambda leaf: np.asarray(leaf)[columns], job.hyperparams)


def _outcome(wave: tuple[Training, np.ndarray, np.ndarray], seed: int, count: int) -> Outcome:
    states, valid, test = jax.tree.map(lambda leaf: leaf[seed, :count], wave)
    each = [jax.tree.map(lambda leaf, i=i: leaf[i], states) for i in range(count)]
    return Outcome(each, valid, test)


def _padded(count: int) -> int:
    """The next 2^k or 3·2^k: few widths to compile, and at most half as many again to train."""
    power = 1 << (count - 1).bit_length()
    return 3 * power // 4 if count <= 3 * power // 4 else power


def _bytes(tree: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
