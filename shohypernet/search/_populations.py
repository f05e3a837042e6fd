"""Populations of inner runs, compiled and vmapped, that keep within a memory bound.

A population is an array of inner runs, (seeds, width). All inner runs of a seed start from the same
weights and see the same minibatches, so that they differ by λ alone, and each minibatch is read
once for all of them: their products are one wide one. What is too many for the memory bound is
trained by one population after another.
"""

import functools
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from shohypernet import inner_loop
from shohypernet._internal.trees import data_as_keys, keys_as_data
from shohypernet.batches import Data, Turn
from shohypernet.inner_loop import TrainState
from shohypernet.problem import Problem
from shohypernet.sources._source import is_read
from shohypernet.types import Hyperparams, Key, Optimizer

# Weights, gradient, update and what goes in and comes out, in units of one inner run's state: a
# first guess, which XLA's own account corrects.
STATES_PER_RUN = 4


class Job(NamedTuple):
    """Inner runs of one seed, P of them, all with as many steps behind them.

    Attributes:
      key: PRNG key of the seed's inner runs.
      states: their states so far, P trees of NumPy arrays, None for one that begins.
      hyperparams: λ, leaves (P, ...).
      done: steps behind them.
    """

    key: Key
    states: Sequence[TrainState | None]
    hyperparams: Hyperparams
    done: int


class Outcome(NamedTuple):
    """States after a job, P trees of NumPy arrays, and their losses, shape (P,)."""

    states: Sequence[TrainState]
    valid_loss: np.ndarray
    test_loss: np.ndarray


class Populations:
    """Compiled programs that train jobs.

    Args:
      problem: the problem, whose losses read λ as the jobs give it.
      optimizer: α, optimizer of the weights, or a function from such λ to it.
      data: three splits, on the device.
      batch_size: examples per step; None takes all of them.
      memory: bytes that a population may take besides the data.

    Attributes:
      compile_seconds: time spent in compiling.
      widest: inner runs of a seed that fit in memory side by side, by the number of seeds.
    """

    def __init__(
        self,
        problem: Problem,
        optimizer: Optimizer,
        data: Data,
        batch_size: int | None,
        memory: int,
    ) -> None:
        """Compile nothing yet."""
        self.compile_seconds = 0.0
        start = functools.partial(inner_loop.start, problem, optimizer)
        self._start = jax.jit(lambda key, hyperparams: keys_as_data(start(key, hyperparams)))
        self._fresh: dict[bytes, TrainState] = {}  # of each seed, if all λ begin alike
        self._alike = isinstance(optimizer, optax.GradientTransformation)
        self._population = jax.jit(_program(problem, optimizer, batch_size))
        self._data, self._memory = data, memory
        self._data_bytes = _bytes(data)
        self._compiled: dict[int, dict[int, Any]] = {}  # by the number of seeds, then the width
        self.widest: dict[int, int] = {}

    def like(self, hyperparams: Hyperparams) -> TrainState:
        """Shapes and dtypes of an inner run's state at one λ."""
        return jax.eval_shape(self._start, jax.random.key(0), hyperparams)

    def widths(self) -> dict[str, list[int]]:
        """By the number of seeds, `widest` and the widths of the programs, as JSON can hold it."""
        return {f"{n}": [self.widest[n], *self._compiled[n]] for n in self._compiled}

    def expect(self, widths: Mapping[str, Sequence[int]]) -> None:
        """Compile the programs of a run that is resumed, once they are needed, and no others.

        A program of another width rounds differently.
        """
        for seeds, (widest, *compiled) in widths.items():
            self.widest[int(seeds)] = widest
            self._compiled.setdefault(int(seeds), {}).update(dict.fromkeys(compiled))

    def _begun(self, job: Job) -> Job:
        """The job, with the states of those that begin."""
        seed = np.asarray(jax.random.key_data(job.key)).tobytes()

        def begin(row: int) -> TrainState:
            if seed in self._fresh:
                return self._fresh[seed]
            at = jax.tree.map(lambda leaf: leaf[row], job.hyperparams)
            fresh = jax.device_get(self._start(job.key, at))
            if self._alike:
                self._fresh[seed] = fresh
            return fresh

        states = [begin(i) if state is None else state for i, state in enumerate(job.states)]
        return job._replace(states=states)

    def run(self, jobs: Sequence[Job], steps: int, *, least: int = 1) -> list[Outcome]:
        """Train all jobs, one for each seed, for as many steps.

        Args:
          jobs: the jobs.
          steps: updates of w.
          least: width of the population, if memory allows it, even of fewer inner runs.

        Raises:
          ValueError: if not even one inner run of each seed fits in memory.
        """
        jobs = [self._begun(job) for job in jobs]
        longest = max(len(job.states) for job in jobs)
        pieces, first = [], 0
        while first < longest:
            compiled, width = self._compile(jobs, max(longest - first, least))
            columns = [_columns(job, first, width) for job in jobs]
            states, hyperparams = jax.tree.map(lambda *leaves: np.stack(leaves), *columns)
            keys = jnp.stack([job.key for job in jobs])
            done = jnp.array([job.done for job in jobs], jnp.int32)
            trained = compiled(states, hyperparams, keys, done, jnp.int32(steps), self._data)
            pieces.append(jax.device_get(trained))
            first += width
        joined = jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=1), *pieces)
        return [_outcome(joined, seed, len(job.states)) for seed, job in enumerate(jobs)]

    def _compile(self, jobs: Sequence[Job], wanted: int) -> tuple[Any, int]:
        """A program for some seeds, and its width: `wanted` padded, or what memory allows."""
        seeds, example = len(jobs), jobs[0]
        if seeds not in self.widest:
            each = STATES_PER_RUN * _bytes(example.states[0])
            self.widest[seeds] = max(1, self._memory // (each * seeds))
        # One that is there and at most twice as wide as it need be spares a compilation.
        there = self._compiled.setdefault(seeds, {})
        serving = [
            width for width in there if wanted <= width <= min(2 * wanted, self.widest[seeds])
        ]
        while True:
            width = min(serving, default=min(_padded(wanted), self.widest[seeds]))
            compiled = there.get(width) or self._lower(example, seeds, width)
            there[width] = compiled
            taken = self._taken(compiled)
            if taken <= self._memory:
                return compiled, width
            if width == 1:
                raise ValueError(
                    f"one inner run for each of {seeds} seeds takes {taken:,} bytes, more than "
                    f"memory={self._memory:,}; allow more, take a smaller batch_size or run fewer "
                    "seeds at once."
                )
            self.widest[seeds], serving = width // 2, []

    def _lower(self, example: Job, seeds: int, width: int) -> Any:
        began = time.perf_counter()
        hyperparams = jax.tree.map(lambda leaf: leaf[0], example.hyperparams)
        states, hyperparams = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((seeds, width, *leaf.shape), leaf.dtype),
            (example.states[0], hyperparams),
        )
        if jax.config.jax_disable_jit:  # pyright: ignore
            return self._population
        keys = jax.ShapeDtypeStruct((seeds,), example.key.dtype)
        done = jax.ShapeDtypeStruct((seeds,), jnp.int32)
        compiled = self._population.lower(
            states, hyperparams, keys, done, jnp.int32(0), self._data
        ).compile()
        self.compile_seconds += time.perf_counter() - began
        return compiled

    def _taken(self, compiled: Any) -> int:
        analysis = getattr(compiled, "memory_analysis", None)
        account = analysis and analysis()
        if account is None:  # not compiled, or by a backend that keeps none
            return 0
        arguments = account.argument_size_in_bytes - self._data_bytes
        return arguments + account.output_size_in_bytes + account.temp_size_in_bytes


def _program(
    problem: Problem,
    optimizer: Optimizer,
    batch_size: int | None,
) -> Any:
    """The program of a population, whose states hold what PRNG keys hold in place of those."""
    start = functools.partial(inner_loop.start, problem, optimizer)

    def one_step(
        turn: Turn,
        following: Turn | None,
        state: TrainState,
        hyperparams: Hyperparams,
        examples: Any,
    ) -> TrainState:
        state = data_as_keys(state, jax.eval_shape(start, turn.key, hyperparams))
        sizes: Any = {"batch_size": batch_size, "following": following}
        new, _ = inner_loop.drawn_step(
            problem, optimizer, turn, state, hyperparams, examples, **sizes
        )
        return keys_as_data(new)

    # The key is not mapped, so a seed's inner runs share what is drawn from it.
    all_runs = jax.vmap(one_step, in_axes=(None, None, 0, 0, None))

    def one_seed(
        states: TrainState,
        hyperparams: Hyperparams,
        key: Key,
        done: jax.Array,
        steps: jax.Array,
        data: Data,
    ) -> tuple[TrainState, jax.Array, jax.Array]:
        def body(step: jax.Array, states: TrainState) -> TrainState:
            turn, following = Turn(inner_loop.step_key(key, done + step)), None
            if is_read(data.train):
                last = jnp.minimum(step + 1, steps - 1)
                following = Turn(inner_loop.step_key(key, done + last))
            return all_runs(turn, following, states, hyperparams, data.train)

        # The number of steps is no constant, so that every rung of a bracket is the same program.
        states = jax.lax.fori_loop(0, steps, body, states)
        losses = jax.vmap(_valid_loss, in_axes=(None, 0, 0, None))
        valid = losses(problem, states, hyperparams, data.valid)
        if data.test is None:
            return states, valid, jnp.full_like(valid, jnp.nan)
        return states, valid, losses(problem, states, hyperparams, data.test)

    return jax.vmap(one_seed, in_axes=(0, 0, 0, 0, None, None))


def _valid_loss(
    problem: Problem, state: TrainState, hyperparams: Hyperparams, examples: Any
) -> jax.Array:
    at = state.params, state.model_state, hyperparams
    return inner_loop.whole_valid_loss(problem, *at, examples)


def _columns(job: Job, first: int, width: int) -> tuple[TrainState, Hyperparams]:
    """Inner runs `first` to `first + width` of a job, stacked; the last is repeated to fill up."""
    columns = np.minimum(np.arange(first, first + width), len(job.states) - 1)
    chosen = [job.states[column] for column in columns]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *chosen)
    return stacked, jax.tree.map(lambda leaf: np.asarray(leaf)[columns], job.hyperparams)


def _outcome(trained: tuple[TrainState, np.ndarray, np.ndarray], seed: int, count: int) -> Outcome:
    states, valid, test = jax.tree.map(lambda leaf: leaf[seed, :count], trained)
    each = [jax.tree.map(lambda leaf, i=i: leaf[i], states) for i in range(count)]
    return Outcome(each, valid, test)


def _padded(count: int) -> int:
    """The next 2^k or 3·2^k: few widths to compile, and at most half as many again to train."""
    power = 1 << (count - 1).bit_length()
    return 3 * power // 4 if count <= 3 * power // 4 else power


def _bytes(tree: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
