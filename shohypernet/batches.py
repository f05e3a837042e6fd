"""Examples on the device: three splits, and minibatches drawn by a key."""

import numbers
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from shohypernet.sources import Source, Stream
from shohypernet.types import Batch, Key


class Examples(NamedTuple):
    """Examples: `inputs` and `targets`, (n, 784) in [0, 1] and (n, 10) one-hot for digits."""

    inputs: jax.Array
    targets: jax.Array


class NumberedExamples(NamedTuple):
    """Examples with their numbers in the split, shape (n,), which every minibatch carries."""

    inputs: jax.Array
    targets: jax.Array
    numbers: jax.Array


class Data(NamedTuple):
    """Three splits: one to train weights, one to tune hyperparameters, one to report, or none."""

    train: Examples
    valid: Examples
    test: Any = None  # Examples too; not every problem has them


class SplitLosses(NamedTuple):
    """A number or an array for each split, such as the loss at one set of weights."""

    train: Any
    valid: Any
    test: Any


def numbered(examples: Examples) -> NumberedExamples:
    """Examples with their numbers from 0 on, for losses with something of each example's own.

    data = data._replace(train=batches.numbered(data.train))
    """
    inputs, targets = examples
    return NumberedExamples(inputs, targets, jnp.arange(len(targets)))


def minibatch(key: Key, examples: Batch, size: int | tuple[int, ...] | None) -> Batch:
    """Draw rows uniformly with replacement, the same rows from every leaf.

    Args:
      key: PRNG key.
      examples: tree of arrays with a shared leading axis, such as `Examples`; or a `Source`.
      size: number of rows. A tuple gives several leading axes, such as `(inner_steps, rows)`, and
        `()` one example without a leading axis. None returns `examples` itself: the whole split.

    Returns:
      A tree like `examples`, each leaf's leading axis replaced by `size`.

    Raises:
      ValueError: unless `size` is made of positive whole numbers and the leaves share a leading
        axis.
    """
    if isinstance(examples, Source):
        return drawn(Turn(key), examples, size)
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(examples)]
    rows = {leaf_shape[:1] for leaf_shape in shapes}
    if len(rows) != 1 or rows <= {(), (0,)}:
        raise ValueError(f"examples must share a leading axis of at least 1 row, got {shapes}.")
    if size is None:
        return examples
    numbers = _numbers(key, size, examples)
    # In range by construction: "clip" is cheaper than the default, which fills with NaN.
    return jax.tree.map(lambda leaf: jnp.take(leaf, numbers, axis=0, mode="clip"), examples)


class Turn(NamedTuple):
    """A round's place in a run: a key that draws rows and, for streams, its number from 0 on."""

    key: Key
    number: Any = None


def drawn(
    turn: Turn, examples: Batch, size: int | tuple[int, ...] | None, following: Turn | None = None
) -> Batch:
    """`minibatch` or, from a stream, those whose turn it is.

    Args:
      turn: of the round.
      examples: as for `minibatch`.
      size: likewise; of a stream None or that of its minibatches.
      following: the next round's turn, for which a source is read meanwhile; None after the last.
    """
    if not isinstance(examples, Source):
        return minibatch(turn.key, examples, size)
    turns = [turn] if following is None else [turn, following]
    if not isinstance(examples, Stream):
        return examples.take(*(_numbers(each.key, size, examples) for each in turns))
    if turn.number is None:
        raise TypeError(
            "a stream has no random access, which a search or check needs: give a source of the "
            "data set beneath, such as shn.sources.examples(loader.dataset)."
        )
    count, size = size if isinstance(size, tuple) else (None, size)
    if size not in (None, examples.batch_size):
        raise ValueError(
            f"a stream's minibatches have the size that they come in, {examples.batch_size}, not "
            f"{size}; leave the batch size out."
        )
    first, *then = (each.number * (count or 1) for each in turns)
    return examples.batches(first, count, *then)


def _numbers(key: Key, size: int | tuple[int, ...] | None, examples: Batch) -> jax.Array:
    """Numbers of some of the examples."""
    if size is None:
        raise ValueError(
            f"a source can't be taken whole: choose a batch size below {len(examples)}."
        )
    shape = size if isinstance(size, tuple) else (size,)
    if not all(map(is_positive, shape)):
        raise ValueError(
            f"size must be a positive whole number, a tuple of them or None, got {size!r}."
        )
    return jax.random.randint(key, shape, 0, rows(examples))


def rows(split: Batch) -> int:
    """Number of examples of a split."""
    return len(split) if isinstance(split, Source) else len(jax.tree.leaves(split)[0])


def is_positive(count: Any) -> bool:
    """Whether it is a whole number above 0."""
    whole = isinstance(count, numbers.Integral) and not isinstance(count, bool)
    return whole and int(count) > 0
