"""What a function reads, against functions that say so."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shohypernet._internal.jaxprs import constants, fixed, reads, unchanged, zeros


def through_scan(x):
    return jax.lax.scan(lambda carry, _: (carry + x["a"], x["b"]), x["c"], None, length=2)[0]


@pytest.mark.parametrize(
    ("function", "read"),
    [
        (lambda x: x["a"] * 2, "a"),
        (lambda x: (x["b"], jnp.sin(x["b"]) + x["c"]), "bc"),
        (lambda x: 1.0, ""),
        (lambda x: (jnp.exp(x["a"]), x["c"])[1], "c"),
        (lambda x: jax.lax.stop_gradient(x["a"]) * 2, "a"),
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


ARGUMENT = {name: jnp.float32(i) for i, name in enumerate("abc")}


@pytest.mark.parametrize(
    ("function", "same"),
    [
        (lambda x: x, "abc"),
        (lambda x: x | {"a": x["a"] + 0.0, "b": x["b"] * 1}, "ac"),
        (lambda x: x | {"a": x["b"], "b": x["a"]}, "c"),
        (lambda x: x | {"a": x["a"] + jax.grad(jnp.round)(x["b"])}, "abc"),
        (lambda x: x | {"a": x["a"] + jax.grad(jnp.sin)(x["b"])}, "bc"),
        (lambda x: jax.lax.cond(x["c"] > 0, lambda x: x, lambda x: x | {"b": x["a"]}, x), "ac"),
        (lambda x: jax.lax.fori_loop(0, 9, lambda i, x: x | {"c": x["a"] * i}, x), "ab"),
    ],
)
def test_unchanged(function, same):
    found = zip("abc", unchanged(function, ARGUMENT), strict=True)
    assert "".join(name for name, yes in found if yes) == same


def test_zeros():
    def gradients(x):
        return jax.grad(lambda x: jnp.floor(x["a"]) * x["b"] + 0 * x["c"] + x["c"])(x)

    assert zeros(gradients, ARGUMENT) == [True, False, False]


@pytest.mark.parametrize(
    ("gradient", "still"),
    [
        (lambda λ, w: jax.grad(lambda λ: jnp.round(λ) * w)(λ), True),
        # Zero at w = 0, where the state starts, and in the first step alone.
        (lambda λ, w: jax.grad(lambda λ: λ * w)(λ), False),
    ],
)
def test_a_leaf_is_fixed_only_if_no_step_moves_it(gradient, still):
    def start(key):
        return {"momentum": jnp.zeros(()), "w": jnp.zeros(()), "λ": jnp.zeros(())}

    def step(state, x):
        momentum = 0.9 * state["momentum"] + gradient(state["λ"], state["w"])
        return {"momentum": momentum, "w": state["w"] + x, "λ": state["λ"] - momentum}, None

    traces = (
        jax.make_jaxpr(start)(0),
        jax.make_jaxpr(lambda state, xs: jax.lax.scan(step, state, xs)[0])(start(0), jnp.ones(3)),
    )
    assert fixed(*traces, [2]) == [still]


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
def test_zeros_by_construction(function, zero):
    argument = {name: jnp.float32(i) for i, name in enumerate("abc")}
    found = zeros(function, argument)
    assert set(found) == {zero}


def test_constants_are_found_wherever_they_are_held():
    inner, outer = np.arange(3.0), np.arange(2.0)

    @jax.jit
    def summed(w):
        return jnp.sum((w - inner) ** 2)

    def step(w, _):
        return w - jax.grad(summed)(w), None

    def function(w):
        return jax.lax.scan(step, w, None, length=2)[0] + jnp.sum(outer)

    found = [np.asarray(array).tolist() for array in constants(jax.make_jaxpr(function)(1.0))]
    assert inner.tolist() in found
    assert outer.tolist() in found
