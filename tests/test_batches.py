"""Minibatches against rows that name themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shohypernet.batches import Examples, minibatch, numbered


@pytest.fixture
def rows():
    """Ten rows that say which they are, twice."""
    number = jnp.arange(10)
    return Examples(inputs=number[:, None] * jnp.ones((1, 3)), targets=jax.nn.one_hot(number, 10))


def drawn(batch):
    """The row numbers of a batch, once inputs and targets agree on them."""
    numbers = np.asarray(batch.inputs[..., 0]).astype(int)
    np.testing.assert_array_equal(np.argmax(batch.targets, -1), numbers)
    return numbers


def test_minibatch_draws_matching_rows_with_replacement(rows):
    numbers = drawn(minibatch(jax.random.key(0), rows, 25))
    assert numbers.shape == (25,)
    assert set(numbers) <= set(range(10))


def test_numbered_examples_carry_their_numbers_into_minibatches(rows):
    batch = minibatch(jax.random.key(0), numbered(rows), 25)
    np.testing.assert_array_equal(batch.numbers, drawn(batch))


def test_minibatch_is_pure_in_its_key(rows):
    first, again, other = (drawn(minibatch(jax.random.key(k), rows, 50)) for k in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_minibatch_is_uniform(rows):
    draws = 20_000
    counts = np.bincount(drawn(minibatch(jax.random.key(3), rows, draws)), minlength=10)
    deviation = np.sqrt(draws * 0.1 * 0.9)
    assert np.abs(counts - draws / 10).max() < 4.5 * deviation
    assert ((counts - draws / 10) ** 2).sum() / (draws / 10) < 33.7  # chi-squared, 9 df, p = 1e-4


@pytest.mark.parametrize("size", [4, np.int64(4), (3, 2), ()])
def test_minibatch_size_replaces_the_leading_axis(rows, size):
    shape = size if isinstance(size, tuple) else (4,)
    batch = minibatch(jax.random.key(0), rows, size)
    assert batch.inputs.shape == (*shape, 3)
    assert batch.targets.shape == (*shape, 10)
    assert drawn(batch).shape == shape


def test_minibatch_of_none_is_the_split_itself(rows):
    assert minibatch(jax.random.key(0), rows, None) is rows


def test_minibatch_under_transformations(rows):
    keys = jax.random.split(jax.random.key(4), 6)
    alone = np.stack([drawn(minibatch(key, rows, 5)) for key in keys])
    jitted = jax.jit(minibatch, static_argnums=2)
    np.testing.assert_array_equal(np.stack([drawn(jitted(key, rows, 5)) for key in keys]), alone)
    mapped = jax.vmap(lambda key: minibatch(key, rows, 5))(keys)
    np.testing.assert_array_equal(drawn(mapped), alone)
    _, scanned = jax.lax.scan(lambda carry, key: (carry, minibatch(key, rows, 5)), None, keys)
    np.testing.assert_array_equal(drawn(scanned), alone)


def test_minibatch_of_any_pytree():
    tree = {"a": np.arange(7), "b": (np.arange(7) * 10, jnp.arange(14).reshape(7, 2))}
    batch = jax.jit(lambda key: minibatch(key, tree, 5))(jax.random.key(0))
    assert batch["a"].dtype == jnp.arange(7).dtype
    np.testing.assert_array_equal(batch["b"][0], batch["a"] * 10)
    np.testing.assert_array_equal(batch["b"][1][:, 1], batch["a"] * 2 + 1)


@pytest.mark.parametrize("size", [0, -1, 2.0, True, "3", (3, 0), [2], (2, None)])
def test_bad_sizes_are_refused(rows, size):
    with pytest.raises(ValueError, match="size must be a positive whole number"):
        jax.jit(lambda key: minibatch(key, rows, size))(jax.random.key(0))


def test_traced_size_is_refused(rows):
    with pytest.raises(ValueError, match="size must be a positive whole number"):
        jax.jit(minibatch)(jax.random.key(0), rows, 3)


@pytest.mark.parametrize(
    "examples",
    [
        {},
        jnp.float32(1),
        jnp.zeros((0, 3)),
        (jnp.zeros((4, 2)), jnp.zeros((3, 2))),
        (jnp.zeros((4, 2)), jnp.float32(1)),
    ],
    ids=["empty", "scalar", "no rows", "unequal", "one scalar"],
)
@pytest.mark.parametrize("size", [2, None])
def test_examples_without_a_common_axis_are_refused(examples, size):
    with pytest.raises(ValueError, match="share a leading axis"):
        minibatch(jax.random.key(0), examples, size)
