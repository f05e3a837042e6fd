"""What holds in every test: one platform, no windows, and JAX at its strictest."""

import os

# Both are read on import, so they come before it.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["MPLBACKEND"] = "Agg"

import jax
import pytest

# A silent broadcast between ranks is nearly always a mistake in a loss.
jax.config.update("jax_numpy_rank_promotion", "raise")
# Typed keys only: an array of uint32 passed for a key raises.
jax.config.update("jax_legacy_prng_key", "error")


@pytest.fixture
def key():
    return jax.random.key(0)
