"""Exact arithmetic against Python's own integers and fractions."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shohypernet.hypergradients import _lossless as lossless


@pytest.mark.parametrize("number", [0.5, 0.9, 0.95, 0.99, 0.999, 1.0])
def test_multiplications_are_undone(number):
    factor, steps = lossless.fraction(number), 60
    used = lossless.words(steps, factor)
    rng = np.random.default_rng(0)
    first = jnp.asarray(rng.integers(-(2**30), 2**30, 50), jnp.int32)
    pushed = jnp.asarray(rng.integers(-(2**20), 2**20, (steps, 50)), jnp.int32)
    value, words = first, [jnp.zeros(50, jnp.uint32)] * (used[-1] + 1)
    sizes = [float(jnp.abs(first).max())]
    for word, push in zip(used, pushed, strict=True):
        before = np.asarray(value, float)
        value, words[word] = lossless.multiply(value, words[word], factor)
        # The gap that is made up for is below n.
        assert np.all(np.abs(np.asarray(value) - number * before) <= factor.numerator)
        value = value + push
        sizes.append(float(jnp.abs(value).max()))
    assert max(sizes) < 2**31
    for word, push in zip(used[::-1], pushed[::-1], strict=True):
        value, words[word] = lossless.divide(value - push, words[word], factor)
    np.testing.assert_array_equal(value, first)
    np.testing.assert_array_equal(jnp.stack(words), 0)


def test_words_by_hand():
    """Halving adds a bit each time, so that a word of 32 serves 32 times."""
    assert lossless.words(70, Fraction(1, 2)) == [0] * 32 + [1] * 32 + [2] * 6
    assert lossless.words(5, Fraction(1)) == [0] * 5
    assert max(lossless.words(1_000, Fraction(9, 10))) == 5


def test_a_word_never_overflows():
    factor = Fraction(7, 10)
    used = lossless.words(300, factor)
    # The worst digits, with Python's integers, which don't wrap around.
    word, last = 0, 0
    for now in used:
        word, last = (0 if now != last else word), now
        word = word * 10 + 9
        assert word < 2**32
        word //= 7


def test_fixed_point():
    numbers = jnp.array([0.0, 1.0, -1.5, 3e-9, 7.99])
    fixed = lossless.encode(numbers, 28)
    assert fixed.dtype == jnp.int32
    np.testing.assert_array_equal(fixed[:3], [0, 2**28, -3 * 2**27])
    np.testing.assert_allclose(lossless.decode(fixed, 28), numbers, rtol=1e-6, atol=2.0**-29)
    assert lossless.decode(fixed, 28).dtype == jax.numpy.float32


@pytest.mark.parametrize("number", [0.0, 1.1, -0.5, 0.123456789])
def test_other_numbers_are_refused(number):
    with pytest.raises(ValueError, match=rf"such as 0\.9.*got {number}"):
        lossless.fraction(number)
