"""Type of the loaders' results, and the error that they share."""

import numpy as np

CLASSES = 10
IMAGE_SHAPE = (28, 28)
HOW_TO_GET_DATA = """Three ways to get data:
  1. load("mnist_5k"), which needs no download, only `pip install 'shohypernet[data]'`;
  2. prepare it once with `pip install 'shohypernet[prepare]'` and then
     `tfds build mnist --file_format=array_record` (or fashion_mnist), or point TFDS_DATA_DIR or
     directory=... at a folder where that was done;
  3. load("idx", directory=...) on a folder with the four IDX files, such as
     train-images-idx3-ubyte.gz."""


Pool = tuple[np.ndarray, np.ndarray]
"""uint8 images (n, 28, 28) and integer labels (n,)."""


class DataError(RuntimeError):
    """Absent or corrupted data; the message ends with three ways to get it."""

    def __str__(self) -> str:
        """The error, then the ways to get data."""
        return f"{super().__str__()}\n{HOW_TO_GET_DATA}"
