"""Cells of the table of `every_method`: a method on a world, run or refused.

A refusal is what the library says, in an error or a warning, when the method is built and `fit` is
called with it; nothing of it is written here. What raises without saying is let through.
"""

import contextlib
import linecache
import traceback
import warnings
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import shohypernet as shn
from experiments import _every_method_worlds as worlds
from experiments._every_method_methods import METHODS, SEARCHES, Method, Pace
from experiments._every_method_worlds import World

ROUNDS = 2  # of `fit`, after which it knows whether λ̂ can move


class Cell(NamedTuple):
    """What became of a method on a world.

    Attributes:
      share: what is left of the way to the exact answer (`share_left`), the median over the seeds
        of the best step sizes; NaN if the method was refused, or came to no number.
      refusal: the library's sentence; empty if the method ran.
      ends: λ of these seeds, in natural units, leaves (seeds, …); None if it was refused.
      pace: the best step sizes.
      evaluations: gradient evaluations of a run.
    """

    share: float
    refusal: str = ""
    ends: Any = None
    pace: Mapping[str, float] = MappingProxyType({})
    evaluations: int = 0


class Refused(Exception):
    """What the library says where a method doesn't apply."""


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """Make a `Refused` of an error that the library itself raises in words; let others through."""
    try:
        yield
    except (TypeError, ValueError) as error:
        *_, (frame, number) = traceback.walk_tb(error.__traceback__)
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        line = linecache.getline(frame.f_code.co_filename, number).strip()
        if package == "shohypernet" and line.startswith("raise "):
            raise Refused(" ".join(str(error).split())) from error
        raise


def run(name: str, world: World, config: Any) -> Cell:
    """A method by its name, from every pair of step sizes, by every seed."""
    method = METHODS[name]
    try:
        cost = round_cost(method, world, config)
    except Refused as refused:
        return Cell(np.nan, str(refused))
    rounds = max(1, config.budget // cost)
    rates = [
        (hyper, hypernet)
        for hyper in config.hyper_rates
        for hypernet in config.hypernet_rates[: None if method.rates else 1]
    ]
    ends, spent = _ends(method, world, rates, rounds, config)
    return best(world, ends, rates, config.seeds)._replace(evaluations=int(np.max(spent)))


def searched(name: str, world: World, config: Any) -> Cell:
    """A search by its name, by every seed, within the same budget."""
    numbers = sum(np.size(leaf) for leaf in jax.tree.leaves(world.start))
    few = world.steps * config.trials
    budget = min(config.budget, few) if SEARCHES[name].costly else config.budget
    try:
        with refusing():
            method = SEARCHES[name].build(numbers, world.steps, config.budget)
            found = shn.search.run(
                world.problem,
                method,
                world.data._replace(test=world.data.valid),
                world.start,
                optimizer=world.optimizer,
                budget=budget,
                seeds=tuple(config.seeds),
                progress=False,
            )
    except Refused as refused:
        return Cell(np.nan, str(refused))
    ends = jax.tree.map(lambda leaf: np.asarray(leaf)[None], found.hyperparams)
    spent = max(int(each.gradient_evaluations[-1]) for each in found.measured)
    return best(world, ends, [()], config.seeds)._replace(evaluations=spent)


def best(world: World, ends: Any, rates: list[tuple[float, ...]], seeds: Any) -> Cell:
    """The cell of the step sizes whose median share over the seeds is least.

    Args:
      world: the world.
      ends: λ in natural units, leaves (rates, seeds, …).
      rates: step sizes of λ̂ and φ.
      seeds: for their number.
    """
    shares = np.asarray(
        [
            [
                worlds.share_left(world, jax.tree.map(lambda leaf, at=(i, j): leaf[at], ends))
                for j in range(len(seeds))
            ]
            for i in range(len(rates))
        ]
    )
    medians = np.median(shares, axis=1)  # NaN where one seed came to no number
    if np.all(np.isnan(medians)):
        return Cell(np.nan, ends=jax.tree.map(lambda leaf: leaf[0], ends))
    at = int(np.nanargmin(medians))
    pace: dict[str, float] = dict(zip(("hyper_rate", "hypernet_rate"), rates[at], strict=False))
    return Cell(float(medians[at]), "", jax.tree.map(lambda leaf: leaf[at], ends), pace)


def round_cost(method: Method, world: World, config: Any) -> int:
    """Gradient evaluations of a method's first round, by `fit`.

    Raises:
      Refused: for a method that doesn't apply to the world, or of which `fit` warns.
    """
    steps = inner_steps(method, world, config)
    with refusing(), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        pace = Pace(config.hyper_rates[0], config.hypernet_rates[0], ROUNDS, steps)
        found = shn.fit(
            world.problem,
            method.build(world, pace, config),
            world.data,
            world.start,
            steps=ROUNDS,
            inner_steps=steps,
            eval_every=1,
            progress=False,
        )
    if told := [each for each in said if issubclass(each.category, RuntimeWarning)]:
        raise Refused(str(told[0].message))
    return int(found.history.gradient_evaluations[1])


def inner_steps(method: Method, world: World, config: Any) -> int:
    """T: a whole training where a method restarts."""
    return world.steps if method.restarts else config.inner_steps


def _ends(
    method: Method, world: World, rates: list[tuple[float, float]], rounds: int, config: Any
) -> tuple[Any, np.ndarray]:
    """λ in natural units, leaves (rates, seeds, …), and gradient evaluations, in one program."""
    steps = inner_steps(method, world, config)
    space = world.problem.space
    began = shn.hyperparameters.encode(space, world.start)
    batches = jax.tree.map(
        lambda part: jnp.broadcast_to(part, (steps, *part.shape)), world.data.train
    )

    def one(rate: jax.Array, key: jax.Array) -> tuple[Any, jax.Array]:
        built = method.build(world, Pace(rate[0], rate[1], rounds, steps), config)

        def round_of(carry: tuple[Any, jax.Array], key: jax.Array) -> tuple[Any, None]:
            state, spent = carry
            after, info = built.step(key, state, batches, world.data.valid)
            total = spent + info.gradient_evaluations
            # Later rounds may cost more than the first.
            return optax.tree.where(total <= config.budget, (after, total), carry), None

        key_first, key_rounds = jax.random.split(key)
        first = built.init(key_first, began), jnp.int32(0)
        (state, spent), _ = jax.lax.scan(round_of, first, jax.random.split(key_rounds, rounds))
        return shn.hyperparameters.decode(space, state.hyperparams), spent

    keys = jnp.stack([jax.random.key(seed) for seed in config.seeds])
    each = jax.vmap(jax.vmap(one, (None, 0)), (0, None))
    ends, spent = jax.jit(each)(jnp.asarray(rates, jnp.float32), keys)
    return jax.tree.map(np.asarray, ends), np.asarray(spent)
