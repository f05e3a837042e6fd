"""Compiled programs of a run, each for all seeds at once."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from shohypernet import inner_loop
from shohypernet import problem as problems
from shohypernet._internal import convolutions, random, sharding
from shohypernet.batches import Data, Turn, drawn
from shohypernet.fitting import _checks as checks
from shohypernet.fitting import _consistency as consistency
from shohypernet.fitting._plan import Plan
from shohypernet.fitting._result import Best
from shohypernet.fitting._together import seeds_at_once
from shohypernet.hyperoptimizer import HyperOptimizer, Info
from shohypernet.inner_loop import Evaluation
from shohypernet.problem import Problem
from shohypernet.sources._source import is_read


class Programs(NamedTuple):
    """Programs of a run; keys, states and losses lead with the seed axis.

    Attributes:
      like: shapes and dtypes of a state.
      best_like: likewise of a `Best`.
      evaluation_like: likewise of an `Evaluation`.
      start: `start(keys) -> state`.
      evaluate: `evaluate(state, data) -> (best, evaluation)`, before the first step.
      chunk: `chunk(steps)((state, best), keys, data, first_step) -> ((state, best), infos,
        evaluation)`: so many steps, then an evaluation. The buffers of both are donated.
      weights: `weights(state) -> (params, model_state)`.
      start_trace: jaxpr of `start`.
    """

    like: Any
    best_like: Any
    evaluation_like: Any
    start: Callable[..., Any]
    evaluate: Callable[..., Any]
    chunk: Callable[[int], Any]
    weights: Callable[..., Any]
    start_trace: Any


def programs(
    problem: Problem, method: HyperOptimizer, hyperparams: Any, data: Data, plan: Plan
) -> Programs:
    """The programs of a run, once its parts fit together; nothing is compiled yet.

    Args:
      problem: as given, with λ in natural units.
      method: built for it.
      hyperparams: as `checks.encoded` makes them.
      data: the three splits.
      plan: sizes of the run.

    Raises:
      ValueError: as `consistency.require_consistent` does.
    """
    inner = problems.relaxed(problem)

    # A seed's first key starts it, and its second drives the steps.
    def start(key: jax.Array) -> Any:
        key_first, key_method = jax.random.split(jax.random.split(random.usual(key))[0])
        first = hyperparams(key_first) if checks.is_function(hyperparams) else hyperparams
        return method.init(key_method, first)

    def weights(state: Any) -> tuple[Any, Any]:
        return method.weights(state), method.model_state(state)

    def evaluate(state: Any, data: Data, step: jax.Array | int) -> tuple[Best, Evaluation]:
        params, model_state = weights(state)
        hyperparams = state.hyperparams
        found = inner_loop.evaluate(inner, params, model_state, hyperparams, data)
        best = Best(jnp.int32(step), found.losses, hyperparams, params, model_state)
        return best, found

    def chunk(steps: int) -> Any:
        def run(
            carried: tuple[Any, Best], key: jax.Array, data: Data, first_step: jax.Array
        ) -> Any:
            state, best = carried
            state, infos = _steps(method, plan, steps, state, key, data, first_step)
            here, evaluation = evaluate(state, data, first_step + steps)
            better = here.losses.valid < best.losses.valid
            best = jax.tree.map(lambda new, old: jnp.where(better, new, old), here, best)
            return (state, best), infos, evaluation

        return jax.jit(
            sharding.each_seed(run, 2, plan.seeds_at_once),
            donate_argnums=0,
            out_shardings=((at, best_at), by_seed, by_seed),
        )

    traced, started = jax.make_jaxpr(jax.vmap(start), return_shape=True)(keys(plan.seeds))
    # Without the weak types that it may start with, for a restored state has none.
    like = sharding.laid_out(started)
    plan = plan._replace(seeds_at_once=seeds_at_once(plan, data, like))
    consistency.require_consistent(problem, method, like, data, plan)
    at_start = sharding.each_seed(lambda state, data: evaluate(state, data, 0), 1)
    best, evaluation = jax.eval_shape(at_start, like, data)
    best = sharding.laid_out(best)
    at, best_at = jax.tree.map(lambda leaf: leaf.sharding, (like, best))
    by_seed = sharding.by_seed()
    return Programs(
        like=like,
        best_like=best,
        evaluation_like=evaluation,
        start=jax.jit(sharding.each_seed(start, 1), out_shardings=at),
        evaluate=jax.jit(at_start, out_shardings=(best_at, by_seed)),
        chunk=chunk,
        weights=jax.jit(sharding.each_seed(weights, 1), out_shardings=by_seed),
        start_trace=traced,
    )


def _steps(
    method: HyperOptimizer,
    plan: Plan,
    steps: int,
    state: Any,
    key: jax.Array,
    data: Data,
    first_step: jax.Array,
) -> tuple[Any, Info]:
    """Some steps of one seed."""
    key_steps = jax.random.split(key)[1]
    # Before the loop, for XLA makes a copy for each inner step.
    everything = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (plan.inner_steps, *leaf.shape)), data.train
    )

    def step(state: Any, rounds: tuple[_Round, _Round | None]) -> tuple[Any, Info]:
        now, then = rounds
        train_batches = everything
        if plan.train_batch_size is not None:
            size = plan.inner_steps, plan.train_batch_size
            train_batches = drawn(now.train, data.train, size, then and then.train)
        valid_batch = drawn(now.valid, data.valid, plan.valid_batch_size, then and then.valid)
        train_batches = sharding.constrain(train_batches, "examples", axis=1)
        valid_batch = sharding.constrain(valid_batch, "examples")
        with convolutions.as_products():
            return method.step(now.key, state, train_batches, valid_batch)

    def rounds(numbers: jax.Array) -> _Round:
        # All keys in one go, for each round of hashing by itself costs as much as a small product.
        keys = jax.vmap(lambda n: jax.random.split(jax.random.fold_in(key_steps, n), 3))(numbers)
        return _Round(Turn(keys[:, 0], numbers), Turn(keys[:, 1], numbers), keys[:, 2])

    numbers = first_step + jnp.arange(steps)
    then = None
    if any(map(is_read, data[:2])):
        # Where seeds take turns, the next chunk is another seed's.
        at_once = plan.seeds_at_once in (None, len(plan.seeds))
        last = (plan.steps if at_once else first_step + steps) - 1
        then = rounds(jnp.minimum(numbers + 1, last))
    return jax.lax.scan(step, state, (rounds(numbers), then))


class _Round(NamedTuple):
    """Turns of a round's minibatches, and the key of its step."""

    train: Turn
    valid: Turn
    key: jax.Array


def keys(seeds: list[int]) -> jax.Array:
    """A PRNG key for each seed."""
    return jnp.stack([random.key(seed) for seed in seeds])
