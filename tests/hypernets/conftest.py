"""Hypernet parameters from NumPy, for tests that need any φ and not the initial one."""

import jax
import numpy as np
import pytest


@pytest.fixture
def random_phi():
    def draw(hypernet, params, hyperparams):
        rng = np.random.default_rng(0)
        phi = jax.eval_shape(hypernet.init, jax.random.key(0), params, hyperparams)
        return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype), phi)

    return draw
