"""Arithmetic that can be undone exactly: fixed-point numbers, and the bits that they lose.

To multiply an integer v by a fraction n/d < 1 loses log₂(d/n) bits. They are pushed into a word b
that belongs to the number, as the digits of a mixed-radix number are:

    b ← b d + (v mod d),   v ← v div d        v is divided; b has what was left over
    v ← v n + (b mod n),   b ← b div n        v is multiplied; b makes up for the gap

Both lines can be read backwards, so nothing is ever lost. A word is full after some 29/log₂(d/n)
multiplications, about 190 at 9/10, and then another is begun. When that is depends on n and d
alone, so all numbers of an array begin it together.

Maclaurin et al. (2015), arXiv:1502.03492, section 2.2 and Algorithm 3.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp

WORD_BITS = 32
LARGEST_DENOMINATOR = 1_000


def fraction(number: float) -> Fraction:
    """A fraction in (0, 1] as given, such as 0.9 = 9/10.

    Raises:
      ValueError: for a number outside, or none that is close to a fraction with few digits.
    """
    found = Fraction(number).limit_denominator(LARGEST_DENOMINATOR)
    if not 0 < number <= 1 or not math.isclose(found, number, rel_tol=1e-12):
        raise ValueError(
            "exact multiplication needs a fraction above 0 and up to 1 with a denominator of at "
            f"most {LARGEST_DENOMINATOR}, such as 0.9, 0.95 or 0.99, got {number}."
        )
    return found


def words(steps: int, factor: Fraction) -> Sequence[int]:
    """Which word each of so many multiplications by a factor uses, from 0 on."""
    used, word, bound = [], 0, 0
    for _ in range(steps):
        if (bound + 1) * factor.denominator > 2**WORD_BITS:
            word, bound = word + 1, 0
        bound = ((bound + 1) * factor.denominator - 1) // factor.numerator
        used.append(word)
    return used


def encode(numbers: jax.Array, bits: int) -> jax.Array:
    """The nearest multiples of 2^−bits, as int32: numbers below 2^(31−bits) in size have one."""
    return jnp.round(numbers * 2.0**bits).astype(jnp.int32)


def decode(fixed: jax.Array, bits: int, dtype: Any = float) -> jax.Array:
    """Fixed-point numbers as floating-point ones."""
    return fixed.astype(dtype) * 2.0**-bits


def multiply(value: jax.Array, word: jax.Array, factor: Fraction) -> tuple[jax.Array, jax.Array]:
    """(v n/d, b) from v, int32, and b, uint32, which must have room (see `words`)."""
    n, d = factor.numerator, factor.denominator
    word = word * jnp.uint32(d) + (value % d).astype(jnp.uint32)
    value = value // d * n + (word % jnp.uint32(n)).astype(jnp.int32)
    return value, word // jnp.uint32(n)


def divide(value: jax.Array, word: jax.Array, factor: Fraction) -> tuple[jax.Array, jax.Array]:
    """What `multiply` made its result of."""
    n, d = factor.numerator, factor.denominator
    word = word * jnp.uint32(n) + (value % n).astype(jnp.uint32)
    value = value // n * d + (word % jnp.uint32(d)).astype(jnp.int32)
    return value, word // jnp.uint32(d)
