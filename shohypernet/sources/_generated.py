"""Examples that are made by a function of a key."""

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import jax

from shohypernet._internal import random, validation
from shohypernet._internal.validation import CONCRETE_NEEDED
from shohypernet.sources._source import Source
from shohypernet.types import Batch, Key

LARGEST = 2**31 - 1


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True, eq=False)
class _Generated(Source):
    """A source whose `read` is a JAX function."""

    on_device: ClassVar[bool] = True

    def take(self, numbers: jax.Array, following: jax.Array | None = None) -> Batch:
        """Examples by their numbers, without leaving the device."""
        del following
        found = self.read(numbers.reshape(-1))
        return jax.tree.map(lambda leaf: leaf.reshape((*numbers.shape, *leaf.shape[1:])), found)


def generated(make: Callable[[Key], Batch], count: int, *, seed: int = 0) -> Source:
    """A split of simulated examples, each made anew from its number whenever it is needed.

        train = shn.sources.generated(lambda key: Examples(*simulate(key)), count=1_000_000)

    Args:
      make: `make(key) -> example`, a pure function in JAX to a tree of arrays.
      count: number of different examples. All are made to evaluate the split.
      seed: of the examples: example n is `make(jax.random.fold_in(key, n))`. Splits need different
        ones.

    Raises:
      ValueError: for a count below 1 or a bad seed.
      TypeError: for a function that isn't one of a key, or can't be traced.
    """
    validation.whole("sources.generated", count=count)
    validation.require(
        count <= LARGEST,
        f"sources.generated() numbers up to {LARGEST:,} examples, got {count:,}.",
    )
    key = random.key(seed)

    def read(numbers: jax.Array) -> Batch:
        return jax.vmap(lambda number: make(jax.random.fold_in(key, number)))(numbers)

    try:
        like = jax.eval_shape(make, key)
    except CONCRETE_NEEDED as error:
        raise TypeError(
            "sources.generated() traces make(key), which must draw by jax.random and compute by "
            "jax.numpy, and not decide in Python on a value."
        ) from error
    return _Generated(read, int(count), like)
