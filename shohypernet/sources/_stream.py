"""Minibatches that come in an order, and can only be gone through."""

import dataclasses
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from shohypernet._internal import validation
from shohypernet.sources._source import Source, rows
from shohypernet.types import Batch

KEPT = 16  # minibatches, for a call that JAX repeats


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True, eq=False)
class Stream(Source):
    """A split that is gone through, made by `stream`; as a source, its first minibatches.

    Attributes:
      batch_size: number of examples in each minibatch.
      at: `at(number) -> minibatch`, in NumPy: minibatch `number`, counted from 0.
    """

    batch_size: int
    at: Callable[[int], Batch]

    def batches(self, first: Any, count: int | None) -> Batch:
        """Minibatches from a number on, traced or not: a tree whose leaves lead with `count`.

        Args:
          first: number of the first one, a scalar.
          count: how many; None for one without that axis.
        """
        sizes = (self.batch_size,) if count is None else (count, self.batch_size)
        wanted = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((*sizes, *leaf.shape), leaf.dtype), self.like
        )

        def read(first: Any) -> Batch:
            if count is None:
                return self.at(int(first))
            each = [self.at(int(first) + i) for i in range(count)]
            return jax.tree.map(lambda *leaves: np.stack(leaves), *each)

        # A function of the number alone, so that JAX may call it as often as it likes.
        return jax.pure_callback(read, wanted, first, vmap_method="sequential")

    def describe(self) -> str:
        """Size and contents, of which a checksum of the first minibatches has to do."""
        return f"stream of minibatches of {self.batch_size}, the first a {super().describe()}"


def stream(batches: Iterable[Batch] | Callable[[], Iterable[Batch]], *, evaluated: int) -> Stream:
    """A split that hands over its minibatches in an order of its own.

        train = shn.sources.stream(loader, evaluated=10)  # a DataLoader, a tf.data.Dataset
        train = shn.sources.stream(lambda: make_batches(seed=0), evaluated=10)  # a generator

    Round n of a run with T inner steps takes minibatches n T to n T + T − 1, for all seeds alike.
    Where the order ends it begins again. While the device works on one, a thread prepares the next.
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
      ValueError: if there are no minibatches, fewer than `evaluated`, or those are of different
        shapes.
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
    shapes = {str(jax.tree.map(np.shape, batch)) for batch in first}
    if len(shapes) > 1:
        raise ValueError(
            "sources.stream() needs minibatches of the same shapes, got "
            f"{' and '.join(sorted(shapes))}; drop the last one that is smaller."
        )
    held = rows(jax.tree.map(lambda *leaves: np.concatenate(leaves), *first))
    size = len(jax.tree.leaves(first[0])[0])
    return Stream(held.read, held.count, held.like, size, _Reader(make, held.like, size))


class _Reader:
    """`reader(number)`: a minibatch of an order that begins again where it ends."""

    def __init__(self, make: Callable[[], Iterable[Batch]], like: Any, size: int) -> None:
        self._make, self._like, self._size = make, like, size
        self._lock = threading.Lock()
        self._kept: dict[int, Batch] = {}
        self._ahead: Future[Batch] | None = None
        self._position = 0  # of the one ahead

    def __call__(self, number: int) -> Batch:
        with self._lock:
            if number in self._kept:
                return self._kept[number]
            if self._ahead is None or number < self._position:
                self._begin()
            while True:
                assert self._ahead is not None
                try:
                    found, position = self._ahead.result(), self._position
                except BaseException:
                    self._ahead = None  # the next run begins anew
                    raise
                self._advance()
                if position == number:
                    break
            self._kept[number] = found = self._checked(found, number)
            for old in sorted(self._kept)[:-KEPT]:
                del self._kept[old]
            return found

    def _begin(self) -> None:
        self._kept.clear()
        if self._ahead is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        self._order = _again_and_again(self._make)
        self._pool = ThreadPoolExecutor(1, "shohypernet-stream")
        self._ahead, self._position = self._pool.submit(next, self._order), 0

    def _advance(self) -> None:
        self._ahead = self._pool.submit(next, self._order)
        self._position += 1

    def _checked(self, batch: Batch, number: int) -> Batch:
        batch = _as_arrays(batch)
        found = jax.tree.map(np.shape, batch)
        wanted = jax.tree.map(lambda leaf: (self._size, *leaf.shape), self._like)
        if found != wanted:
            raise ValueError(
                f"minibatch {number} of a stream has shapes {found}, the first {wanted}; drop the "
                "last one of a pass if it is smaller."
            )
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
