"""The faster generator against JAX's own, number by number."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from shohypernet._internal import random

KEY = jax.random.key(3)
FAST = random.fast(KEY)
TREE = {
    "kernel": jnp.zeros((7, 10)),
    "scalar": jnp.zeros(()),
    "half": jnp.zeros((4, 3), jnp.bfloat16),
    "none": jnp.zeros((0, 2)),
}


def data(keys):
    return np.asarray(jax.random.key_data(keys))


@pytest.mark.parametrize(
    ("key", "counter", "hashed"),
    [
        # The known answers that the generator's authors publish for twenty rounds.
        ([0, 0], [0, 0], [0x6B200159, 0x99BA4EFE]),
        ([0xFFFFFFFF, 0xFFFFFFFF], [0xFFFFFFFF, 0xFFFFFFFF], [0x1CB996FC, 0xBB002BE7]),
        ([0x13198A2E, 0x03707344], [0x243F6A88, 0x85A308D3], [0xC4923A9C, 0x483DF7A0]),
    ],
)
def test_the_hash_gives_its_authors_known_answers(key, counter, hashed):
    made = random._threefry2x32(jnp.array(key, jnp.uint32), *np.array(counter, np.uint32))
    assert np.stack(made).tolist() == hashed


@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("shape", [(), (5,), (3, 4)])
def test_bits_are_those_of_jax(bits, shape):
    dtype = jnp.dtype(f"uint{bits}")
    unrolled = jax.random.bits(random.fast(KEY), shape, dtype)
    np.testing.assert_array_equal(unrolled, jax.random.bits(KEY, shape, dtype))


def test_bits_of_64_are_those_of_jax():
    with jax.enable_x64(True):
        unrolled = jax.random.bits(random.fast(KEY), (5,), jnp.uint64)
        np.testing.assert_array_equal(unrolled, jax.random.bits(KEY, (5,), jnp.uint64))


@pytest.mark.parametrize("number", [0, 7, 2**32 - 1])
def test_a_number_folded_in_is_that_of_jax(number):
    unrolled = jax.random.fold_in(random.fast(KEY), number)
    np.testing.assert_array_equal(data(unrolled), data(jax.random.fold_in(KEY, number)))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_split_keys_are_those_of_jax(count):
    made, expected = jax.random.split(FAST, count), jax.random.split(KEY, count)
    assert made.dtype == FAST.dtype != expected.dtype
    np.testing.assert_array_equal(data(made), data(expected))


def test_keys_are_those_of_jax_read_by_the_faster_generator():
    for made in (random.key(3), random.fast(random.key(3))):
        assert made.dtype == FAST.dtype != KEY.dtype
        np.testing.assert_array_equal(data(made), data(KEY))


def test_whole_numbers_are_those_of_jax():
    made = jax.random.randint(FAST, (3, 5), -4, 1000)
    np.testing.assert_array_equal(made, jax.random.randint(KEY, (3, 5), -4, 1000))


@pytest.mark.parametrize("sampler", [jax.random.normal, jax.random.uniform, jax.random.rademacher])
def test_trees_are_those_of_optax(sampler):
    tree = jax.tree.map(jnp.int32, TREE) if sampler is jax.random.rademacher else TREE
    made = random.random_like(FAST, tree, sampler)
    expected = optax.tree.random_like(KEY, tree, sampler)
    for leaf, other in zip(jax.tree.leaves(made), jax.tree.leaves(expected), strict=True):
        assert (leaf.shape, leaf.dtype) == (other.shape, other.dtype)
        np.testing.assert_array_equal(leaf, other)


def test_many_keys_draw_what_each_draws_alone():
    together = jax.vmap(lambda key: random.random_like(key, TREE)["kernel"])(
        jax.random.split(FAST, 3)
    )
    alone = [optax.tree.random_like(key, TREE)["kernel"] for key in jax.random.split(KEY, 3)]
    np.testing.assert_allclose(together, np.stack(alone), rtol=1e-6)


@pytest.mark.parametrize("generator", ["rbg", "unsafe_rbg"])
def test_keys_of_another_generator_are_left_to_it(generator):
    key = jax.random.key(3, impl=generator)
    assert random.fast(key) is key


def test_the_older_order_of_counters_is_left_to_jax():
    with jax.threefry_partitionable(False):
        assert random.fast(KEY) is KEY


def test_no_loop_is_left_in_what_is_compiled():
    for draw in (
        lambda key: random.random_like(key, TREE),
        lambda key: jax.random.randint(key, (9,), 0, 5),
    ):
        assert " while(" not in jax.jit(draw).lower(FAST).compile().as_text()


def test_more_numbers_than_counters_are_refused():
    with pytest.raises(ValueError, match=r"at most 4294967296 numbers with one key, got shape"):
        jax.jit(lambda key: jax.random.bits(random.fast(key), (2**16, 2**16 + 1))).lower(KEY)


def test_the_usual_prng_makes_the_same_numbers():
    fast, usual = random.key(3), random.usual(random.key(3))
    assert str(jax.random.key_impl(usual)) == "threefry2x32"
    chain = [jax.random.split(jax.random.split(key)[1])[0] for key in (fast, usual)]
    drawn = [jax.random.normal(key, (5,)) for key in chain]
    np.testing.assert_array_equal(*drawn)
    assert random.usual(usual) is usual
