"""Minibatches that come in an order, and can only be gone through."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from shohypernet._internal import sharding, validation
from shohypernet.sources._ahead import Ahead
from shohypernet.sources._source import Source, rows, stacked
from shohypernet.types import Batch


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True, eq=False)
class Stream(Source):
    """A split that is gone through, made by `stream`; as a source, its first minibatches.

    Attributes:
      batch_size: number of examples in each minibatch.
      order: all minibatches, by their numbers.
    """

    batch_size: int
    order: "_Order"

    def at(self, number: int) -> Batch:
        """Minibatch `number`, counted from 0, in NumPy."""
        asked = np.array([number, 1])
        return jax.tree.map(lambda leaf: leaf[0], self._rounds(asked, asked))

    def batches(self, first: Any, count: int | None, following: Any = None) -> Batch:
        """Minibatches from a number on, traced or not: a tree whose leaves lead with `count`.

        Args:
          first: number of the first one, a scalar.
          count: how many; None for one without that axis.
          following: that of the next call, which a thread prepares meanwhile; by default there is
            none.
        """
        many = count or 1
        following = first if following is None else following
        asked = (jnp.stack([at, many]) for at in (first, following))
        wanted = stacked(self.like, many, self.batch_size)
        # A function of the numbers alone, so that JAX may call it as often as it likes.
        read = jax.pure_callback(self._rounds, wanted, *asked, vmap_method="sequential")
        read = sharding.from_one(read)
        return jax.tree.map(lambda leaf: leaf[0], read) if count is None else read

    def describe(self) -> str:
        """Size and contents, of which a checksum of the first minibatches has to do."""
        return f"stream of minibatches of {self.batch_size}, the first a {super().describe()}"

    def readers(self) -> tuple[Ahead, ...]:
        """See `Source`."""
        return (*super().readers(), self._rounds)

    @functools.cached_property
    def _rounds(self) -> Ahead:
        return Ahead(self.order.read, self.order.leave)


def stream(batches: Iterable[Batch] | Callable[[], Iterable[Batch]], *, evaluated: int) -> Stream:
    """A split that hands over its minibatches in an order of its own.

        train = shn.sources.stream(loader, evaluated=10)  # a DataLoader, a tf.data.Dataset
        train = shn.sources.stream(lambda: make_batches(seed=0), evaluated=10)  # a generator

    Round n of a run with T inner steps takes minibatches n T to n T + T − 1, for all seeds alike.
    Where the order ends it begins again. While one round computes, a thread prepares the next, so
    that two rounds' minibatches are in memory.
    A run that is resumed goes through the order from its start to where it was: it reads what it
    would have read, if the order is the same each time. A loader that shuffles must be seeded anew
    by whatever makes it.

    Args:
      batches: minibatches, each a tree, such as `Examples`, of arrays with a shared leading axis,
        of NumPy or anything that `np.asarray` reads, all of the same shapes. It must be possible to
        begin again: an object that makes a new iterator each time, or a function that returns one.
      evaluated: number of minibatches, the first ones, that stand for the split where losses on all
        of it are measured. They are kept in memory.

    Returns:
      A source for `fit` and `train`, whose batch size is that of the minibatches.

    Raises:
      TypeError: for an iterator, which can't begin again.
      ValueError: if there are no minibatches, fewer than `evaluated`, or those differ in structure
        or shapes.
    """
    validation.whole("sources.stream", evaluated=evaluated)
    if hasattr(batches, "shape") or hasattr(batches, "_fields"):
        raise TypeError(
            f"sources.stream() needs minibatches in an order, got a single "
            f"{type(batches).__name__}; arrays are a split as they are."
        )
    make = batches if callable(batches) else lambda: batches
    if not callable(batches) and (hasattr(batches, "__next__") or not hasattr(batches, "__iter__")):
        raise TypeError(
            "sources.stream() needs minibatches that can be gone through again, as a resumed run "
            f"does, got a {type(batches).__name__}; give what makes it, such as "
            "lambda: batches(seed)."
        )
    if callable(batches) and hasattr(once := batches(), "__next__") and once is batches():
        raise TypeError(
            "sources.stream() needs a function that makes a new iterator at each call; this one "
            "returns the same again."
        )
    first = [_as_arrays(batch) for batch in itertools.islice(make(), evaluated)]
    if len(first) < evaluated:
        raise ValueError(
            f"sources.stream(evaluated={evaluated}) needs as many minibatches, got {len(first)}."
        )
    for batch in first[1:]:
        _require_alike("sources.stream() needs minibatches that are alike", batch, first[0])
    held = rows(jax.tree.map(lambda *leaves: np.concatenate(leaves), *first))
    size = len(jax.tree.leaves(first[0])[0])
    return Stream(held.read, held.count, held.like, size, _Order(make, stacked(held.like, size)))


class _Order:
    """Minibatches of an order that begins again where it ends, gone through by one thread."""

    def __init__(self, make: Callable[[], Iterable[Batch]], like: Any) -> None:
        self._make, self._like = make, like
        self._rest: Iterator[Batch] | None = None
        self._position = 0

    def read(self, asked: np.ndarray) -> Batch:
        """Minibatches from a number on, and how many: their arrays stacked."""
        first, count = map(int, asked)
        if self._rest is None or first < self._position:
            self._rest, self._position = _again_and_again(self._make), 0
        try:
            while self._position < first:
                self._next(self._rest)
            each = [self._checked(self._next(self._rest)) for _ in range(count)]
        except BaseException:
            self.leave()
            raise
        return jax.tree.map(lambda *leaves: np.stack(leaves), *each)

    def leave(self) -> None:
        """Go through it from its start the next time."""
        self._rest = None

    def _next(self, rest: Iterator[Batch]) -> Batch:
        batch = next(rest)
        self._position += 1
        return batch

    def _checked(self, batch: Batch) -> Batch:
        batch = _as_arrays(batch)
        which = f"minibatch {self._position - 1} of a stream isn't like the first"
        _require_alike(which, batch, self._like)
        return jax.tree.map(lambda leaf, like: np.asarray(leaf, like.dtype), batch, self._like)


def _again_and_again(make: Callable[[], Iterable[Batch]]) -> Iterator[Batch]:
    while True:
        came = 0
        for batch in make():
            came += 1
            yield batch
        if not came:
            raise ValueError(
                "a stream can't be gone through again: the second time there were no minibatches; "
                "give a function that makes them anew."
            )


def _as_arrays(batch: Batch) -> Batch:
    return jax.tree.map(np.asarray, batch)


def _require_alike(what: str, batch: Batch, first: Batch) -> None:
    """Refuse a minibatch of another structure than the first, or of other shapes."""
    structures = jax.tree.structure(batch), jax.tree.structure(first)
    if structures[0] != structures[1]:
        raise ValueError(f"{what}: got {structures[0]} after {structures[1]}.")
    shapes = tuple(jax.tree.map(np.shape, each) for each in (batch, first))
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"{what}: got shapes {shapes[0]} after {shapes[1]}; if the last of a pass is smaller, "
            "drop it (drop_last=True, drop_remainder=True)."
        )
