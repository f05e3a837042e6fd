"""What a function reads, against functions that say so."""

import jax
import jax.numpy as jnp
import pytest

from shohypernet._internal.jaxprs import reads, unchanged, zeros


def through_scan(x):
    return jax.lax.scan(lambda carry, _: (carry + x["a"], x["b"]), x["c"], None, length=2)[0]


@pytest.mark.parametrize(
    ("function", "read"),
    [
        (lambda x: x["a"] * 2, "a"),
        (lambda x: (x["b"], jnp.sin(x["b"]) + x["c"]), "bc"),
        (lambda x: 1.0, ""),
        (lambda x: (jnp.exp(x["a"]), x["c"])[1], "c"),
        (lambda x: jax.lax.stop_gradient(x["a"]), "a"),
        (lambda x: x["a"] * 0.0 + x["b"], "b"),
        (jax.jit(lambda x: x["b"] * x["b"]), "b"),
        (lambda x: jax.jit(lambda a, b: (a, jax.jit(jnp.sin)(b)))(x["a"], x["b"])[1], "b"),
        (jax.grad(lambda x: x["a"] * x["b"] + x["c"]), "ab"),
        (lambda x: jax.vmap(lambda row: row * x["c"])(jnp.ones(3)), "c"),
        (through_scan, "ac"),
        (lambda x: jax.lax.scan(lambda c, _: (jax.jit(_second)(x, c), None), x["a"], None, 2), "a"),
        (lambda x: jax.lax.cond(x["a"] > 0, jnp.sin, jnp.cos, x["b"]), "ab"),
    ],
)
def test_reads(function, read):
    argument = {name: jnp.float32(i) for i, name in enumerate("abc")}
    found = zip("abc", reads(function, argument), strict=True)
    assert "".join(name for name, yes in found if yes) == read


def _second(x, carry):
    return carry + 1


@pytest.mark.parametrize(
    ("function", "zero"),
    [
        (lambda x: x["a"] - x["a"], False),  # not by construction
        (lambda x: jnp.zeros(()) * x["a"], True),
        (jax.grad(lambda x: jax.lax.stop_gradient(x["a"]) * 2), True),
        (lambda x: jax.lax.cond(x["a"] > 0, jnp.zeros_like, jnp.zeros_like, x["b"]), True),
        (lambda x: jax.lax.cond(x["a"] > 0, jnp.zeros_like, jnp.cos, x["b"]), False),
    ],
)
def test_zeros(function, zero):
    argument = {name: jnp.float32(i) for i, name in enumerate("abc")}
    found = zeros(function, argument)
    assert set(found) == {zero}


def test_unchanged():
    def function(x):
        return {"a": x["b"], "b": x["b"].reshape(1)[0], "c": x["c"] + x["a"]}

    argument = {name: jnp.float32(i) for i, name in enumerate("abc")}
    assert unchanged(function, argument) == [False, True, False]
