"""A PRNG for `jax.random` with JAX's own numbers, on CPUs in a fraction of the time.

JAX compiles its PRNG, threefry2x32, on CPUs to a loop over twenty rounds, each a pass over all
numbers. Here the rounds are unrolled, and XLA makes one pass of them. The PRNG is chosen once,
where a run makes its keys (`key`, `fast`): everything below calls `jax.random`.

Large arrays with a short last axis, such as a kernel with ten outputs, are drawn flat by
`random_like`, for XLA would not use vector instructions otherwise.

Keys of other PRNGs, and devices other than CPUs, are left to JAX.

Salmon, Moraes, Dror and Shaw (2011), "Parallel random numbers: as easy as 1, 2, 3", SC11.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.extend import random as extended

ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)
PARITY = np.uint32(0x1BD11BDA)
COUNTERS = 2**32  # that fit in one word


def key(seed: int) -> jax.Array:
    """`jax.random.key`, for the PRNG below where that is faster."""
    return fast(jax.random.key(seed))


def fast(key: jax.Array) -> jax.Array:
    """The same key, for the PRNG below where that is faster."""
    usual = str(jax.random.key_impl(key)) == "threefry2x32"
    if usual and jax.threefry_partitionable.value and jax.default_backend() == "cpu":
        return jax.random.wrap_key_data(jax.random.key_data(key), impl=_UNROLLED)
    return key


def usual(key: jax.Array) -> jax.Array:
    """The inverse of `fast`: for programs that run once, and make a chain of many keys.

    Unrolled, all of a chain is one piece to XLA, which some releases take minutes to compile.
    """
    if key.dtype == jax.random.wrap_key_data(jnp.zeros(2, jnp.uint32), impl=_UNROLLED).dtype:
        return jax.random.wrap_key_data(jax.random.key_data(key), impl="threefry2x32")
    return key


def random_like(
    key: jax.Array, tree: Any, sampler: Callable[..., jax.Array] = jax.random.normal
) -> Any:
    """`optax.tree.random_like`, drawn flat: random numbers of a tree's shapes and dtypes."""

    def flat(key: jax.Array, shape: Any, dtype: Any) -> jax.Array:
        return sampler(key, (math.prod(shape),), dtype).reshape(shape)

    return optax.tree.random_like(key, tree, flat)


@jax.jit
def _threefry2x32(key: jax.Array, high: jax.Array, low: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Hash of counters of two words by a key of two, all uint32, in twenty rounds."""
    words = [key[0], key[1], key[0] ^ key[1] ^ PARITY]
    high, low = high + words[0], low + words[1]
    for block in range(5):
        for rotation in ROTATIONS[block % 2]:
            high = high + low
            low = high ^ (low << np.uint32(rotation) | low >> np.uint32(32 - rotation))
        high = high + words[(block + 1) % 3]
        low = low + words[(block + 2) % 3] + np.uint32(block + 1)
    return high, low


def _hashed(key: jax.Array, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    size = math.prod(shape)
    if size > COUNTERS:
        raise ValueError(f"can draw at most {COUNTERS} numbers with one key, got shape {shape}.")
    low = jax.lax.iota(np.uint32, size).reshape(shape)
    return _threefry2x32(key, jnp.zeros_like(low), low)


def _seed(seed: Any) -> jax.Array:
    return jax.random.key_data(jax.random.key(seed))


def _split(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jnp.stack(_hashed(key, shape), axis=-1)


def _random_bits(key: jax.Array, bit_width: int, shape: tuple[int, ...]) -> jax.Array:
    high, low = _hashed(key, shape)
    if bit_width == 64:
        return high.astype(np.uint64) << np.uint64(32) | low.astype(np.uint64)
    return (high ^ low).astype(f"uint{bit_width}")


def _fold_in(key: jax.Array, data: int) -> jax.Array:
    low = jnp.asarray(data, np.uint32)
    return jnp.stack(_threefry2x32(key, jnp.zeros_like(low), low))


_UNROLLED = extended.define_prng_impl(
    key_shape=(2,),
    seed=_seed,
    split=_split,
    random_bits=_random_bits,
    fold_in=_fold_in,
    name="threefry2x32_unrolled",
    tag="unrolled",
)
