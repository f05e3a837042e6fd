"""What every loader returns, and the error that they share."""

import numpy as np

CLASSES = 10
IMAGE_SHAPE = (28, 28)
WAYS_OUT = """Three ways to get data:
  1. load("mnist_5k"), which needs no download, only `pip install 'shohypernet[data]'`;
  2. prepare it once with `pip install 'shohypernet[prepare]'` and then
     `tfds build mnist --file_format=array_record` (or fashion_mnist), or point TFDS_DATA_DIR or
     directory=... at a folder where that was done;
  3. load("idx", directory=...) on a folder with the four IDX files, such as
     train-images-idx3-ubyte.gz."""


Pool = tuple[np.ndarray, np.ndarray]
"""uint8 images (n, 28, 28) and integer labels (n,)."""


class DataError(RuntimeError):
    """The data is absent or damaged; the message ends with the ways to get it."""

    def __str__(self) -> str:
        """The problem, then the ways out of it."""
        return f"{super().__str__()}\n{WAYS_OUT}"
