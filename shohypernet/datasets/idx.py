"""IDX files in the standard order, gzipped or not.

Debian's dataset-fashion-mnist, for one, installs some under /usr/share/datasets/fashion-mnist.
"""

import gzip
import math
import os
import pathlib
import zlib

import numpy as np

from shohypernet.datasets._pool import DataError, Pool


def read(directory: str | os.PathLike | None) -> tuple[Pool, Pool]:
    """The training pool and the test pool."""
    directory = directory or os.environ.get("SHOHYPERNET_MNIST_IDX")
    if not directory:
        raise ValueError(
            "'idx' needs directory=..., the folder with the IDX files, or the environment variable "
            "SHOHYPERNET_MNIST_IDX."
        )
    folder = pathlib.Path(directory).expanduser()

    def pool(prefix: str) -> Pool:
        return (
            _read_file(folder, f"{prefix}-images-idx3-ubyte", dimensions=3),
            _read_file(folder, f"{prefix}-labels-idx1-ubyte", dimensions=1),
        )

    return pool("train"), pool("t10k")


def _read_file(folder: pathlib.Path, name: str, dimensions: int) -> np.ndarray:
    """Read one IDX file: two zeros, type, rank, sizes as big-endian uint32, bytes."""
    path = folder / name
    if not path.exists():
        path = folder / f"{name}.gz"
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    except FileNotFoundError as error:
        raise DataError(f"neither {name} nor {name}.gz is in {folder}.") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {path}; is it truncated? {error}") from error

    unsigned_byte = 0x08
    magic = bytes([0, 0, unsigned_byte, dimensions])
    header = len(magic) + 4 * dimensions
    if content[: len(magic)] != magic or len(content) <= header:
        raise DataError(
            f"{path} is no IDX file of bytes in {dimensions} dimensions: expected {magic.hex()} at "
            f"its start and a header of {header} bytes, got {content[: len(magic)].hex()} and a "
            f"file {len(content)} bytes long."
        )
    shape = tuple(np.frombuffer(content, ">u4", dimensions, offset=len(magic)).tolist())
    if len(content) != header + math.prod(shape):
        raise DataError(
            f"{path} announces {shape}, {math.prod(shape)} bytes, but holds "
            f"{len(content) - header}."
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
