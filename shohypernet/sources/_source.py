"""Random access to examples on a disk, and the mean over all of them."""

import contextlib
import dataclasses
import functools
import itertools
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from shohypernet._internal import sharding, validation
from shohypernet.sources._ahead import Ahead
from shohypernet.types import Batch

EVALUATED_BYTES = 2**25  # read together where a whole split is evaluated
LOOKED_AT = 64  # rows, by whose contents runs are told apart


class ReadError(RuntimeError):
    """A source couldn't be read; its `__cause__` is the error of the read."""


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """A split that is read as it is needed, made by `rows` or `examples`.

    Attributes:
      read: `read(numbers) -> examples`, a tree of NumPy arrays with the axis of `numbers` first.
      count: number of examples.
      like: shape and dtype of an example, a tree of `jax.ShapeDtypeStruct`.
    """

    read: Callable[[Any], Batch]
    count: int
    like: Any
    on_device: ClassVar[bool] = False  # whether a run needs no callback to read

    def __len__(self) -> int:
        """Number of examples."""
        return self.count

    def take(self, numbers: jax.Array, following: jax.Array | None = None) -> Batch:
        """Examples by their numbers, leaves of shape (*numbers.shape, ...).

        Under a mesh with an axis "examples", each device reads its own share of the last axis.

        Args:
          numbers: of the examples, traced or not.
          following: those of the next call, of the same shape, which a thread reads meanwhile; by
            default there is none.
        """

        def read(device: jax.Array, *asked: jax.Array) -> Batch:
            wanted = stacked(self.like, *asked[0].shape)
            return jax.pure_callback(
                lambda device, *asked: self._ahead(*asked, device=int(np.max(device))),
                wanted,
                device,
                *asked,
                vmap_method="broadcast_all",
            )

        return sharding.by_device(read, numbers, numbers if following is None else following)

    def describe(self) -> str:
        """Size and contents, of which a checksum of some rows has to do."""
        numbers = np.linspace(0, self.count - 1, min(self.count, LOOKED_AT)).astype(int)
        checksum = 0
        for leaf in jax.tree.leaves(self._read(numbers)):
            checksum = zlib.crc32(leaf.tobytes(), checksum)
        each = (f"{leaf.dtype}{list(leaf.shape)}" for leaf in jax.tree.leaves(self.like))
        return f"source of {self.count} ({', '.join(each)}), some of crc32 {checksum:08x}"

    def readers(self) -> tuple[Ahead, ...]:
        """All that read for it, each in a thread of its own."""
        return (self._ahead,)

    @functools.cached_property
    def _ahead(self) -> Ahead:
        return Ahead(self._read)

    def _read(self, numbers: np.ndarray) -> Batch:
        found = self.read(numbers.reshape(-1))

        def shaped(leaf: Any, like: Any) -> np.ndarray:
            return np.asarray(leaf, like.dtype).reshape((*numbers.shape, *like.shape))

        return jax.tree.map(shaped, found, self.like)


def is_read(split: Any) -> bool:
    """Whether a split is read by a callback, and so may be read ahead."""
    return isinstance(split, Source) and not split.on_device


def stacked(like: Any, *sizes: int) -> Any:
    """Shapes and dtypes with more axes in front."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((*sizes, *leaf.shape), leaf.dtype), like)


def rows(arrays: Batch) -> Source:
    """A split of arrays that are read from a disk, such as `np.load(path, mmap_mode="r")`.

    Args:
      arrays: a tree, such as `Examples`, of arrays with a shared leading axis, whose index may be
        an increasing array of row numbers: NumPy's, memory-mapped or not, h5py's and Zarr's.

    Returns:
      A source with the same tree for its examples, in JAX's dtypes: 64 bits only if it allows them.

    Raises:
      ValueError: for arrays without a leading axis in common.
    """
    leaves, treedef = jax.tree.flatten(arrays)
    counts = {leaf.shape[:1] for leaf in leaves}
    validation.require(
        len(counts) == 1 and counts != {()} and counts != {(0,)},
        f"sources.rows() needs arrays with a leading axis in common, of one example or more, got "
        f"shapes {[leaf.shape for leaf in leaves]}.",
    )

    def read(numbers: np.ndarray) -> Batch:
        # HDF5 reads each row once, and in order.
        different, places = np.unique(numbers, return_inverse=True)
        return jax.tree.unflatten(treedef, [leaf[different][places] for leaf in leaves])

    like = [
        jax.ShapeDtypeStruct(leaf.shape[1:], jax.dtypes.canonicalize_dtype(leaf.dtype))
        for leaf in leaves
    ]
    return Source(read, counts.pop()[0], jax.tree.unflatten(treedef, like))


def examples(
    sequence: Sequence[Any], convert: Callable[[Any], Batch] = lambda each: each
) -> Source:
    """A split of single examples by their number, such as `tfds.data_source(...)`.

    Args:
      sequence: with `len(sequence)` and `sequence[number]`: a data source of TensorFlow Datasets or
        Grain, or a map-style data set of PyTorch.
      convert: from an element to a tree of arrays and numbers, all of the same shapes, such as
        `lambda each: Examples(each["image"] / np.float32(255), each["label"])`.

    Raises:
      ValueError: for a sequence without length or elements.
      TypeError: for what has only an order, such as a generator or a loader of batches.
    """
    if not (hasattr(sequence, "__len__") and hasattr(sequence, "__getitem__")):
        raise TypeError(
            "sources.examples() needs a sequence with len() and [number], got "
            f"{type(sequence).__name__}, which can only be gone through; give the data set that is "
            "beneath it, such as loader.dataset, so that a resumed run finds the same examples."
        )
    validation.require(len(sequence) > 0, "sources.examples() needs one example or more, got none.")
    first = jax.tree.map(np.asarray, convert(sequence[0]))
    treedef = jax.tree.structure(first)

    def read(numbers: np.ndarray) -> Batch:
        found = [jax.tree.leaves(convert(sequence[int(number)])) for number in numbers]
        return jax.tree.unflatten(
            treedef, [np.stack(leaves) for leaves in zip(*found, strict=True)]
        )

    like = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jax.dtypes.canonicalize_dtype(leaf.dtype)),
        first,
    )
    return Source(read, len(sequence), like)


@contextlib.contextmanager
def reading(**splits: Any) -> Iterator[None]:
    """Context of a run that reads: its threads end with it, and errors in them become its own.

    `fit`, `train` and the like have it. Around a compiled function of yours it needs the result:

        with shn.sources.reading(train=source):
            trained = jax.block_until_ready(compiled(key, source))

    Args:
      **splits: by name, sources or not.

    Raises:
      ReadError: from the error of a read, in place of JAX's error of a callback.
      KeyboardInterrupt: on Ctrl-C, likewise.
    """
    readers = {name: split.readers() for name, split in splits.items() if isinstance(split, Source)}

    def close() -> None:
        for reader in itertools.chain(*readers.values()):
            reader.close()

    close()
    try:
        yield
    except Exception:
        for name, each in readers.items():
            for cause in (reader.failure for reader in each if reader.failure is not None):
                if not isinstance(cause, Exception):
                    raise cause from None
                kind = type(cause).__name__
                raise ReadError(f"the {name} split couldn't be read: {kind}: {cause}") from cause
        raise
    finally:
        close()


def mean(function: Callable[[Batch], jax.Array], source: Source) -> jax.Array:
    """The mean over all examples of something that is a mean over those that it is given.

    Args:
      function: `function(examples) -> scalar`, such as a loss.
      source: of the examples, which are read some at a time.
    """
    size = sum(
        np.dtype(leaf.dtype).itemsize * int(np.prod(leaf.shape))
        for leaf in jax.tree.leaves(source.like)
    )
    together = int(np.clip(EVALUATED_BYTES // max(size, 1), 1, source.count))
    together = sharding.even(together, "examples")
    whole, rest = divmod(source.count, together)

    def block(i: Any) -> jax.Array:
        return i * together + jnp.arange(together)

    def add(total: jax.Array, i: jax.Array) -> tuple[jax.Array, None]:
        read = source.take(block(i), block(jnp.minimum(i + 1, whole - 1)))
        return total + function(read) * together, None

    zero = jnp.zeros((), jax.eval_shape(lambda: function(source.take(block(0)))).dtype)
    total, _ = jax.lax.scan(add, zero, jnp.arange(whole))
    if rest:
        total = total + function(source.take(whole * together + jnp.arange(rest))) * rest
    return total / source.count
