"""Measures of a hypergradient and of a best response, against numbers by hand."""

import jax.numpy as jnp
import pytest

from shohypernet import diagnostics


def test_cosine_and_norm_ratio_by_hand():
    exact = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([[4.0]])}
    estimate = {"a": jnp.array([0.0, 5.0]), "b": jnp.array([[12.0]])}
    assert diagnostics.cosine(estimate, exact) == pytest.approx(48 / (13 * 5))
    assert diagnostics.norm_ratio(estimate, exact) == pytest.approx(13 / 5)
    assert diagnostics.cosine(exact, {"a": -exact["a"], "b": -exact["b"]}) == pytest.approx(-1)


def test_a_zero_estimate_points_nowhere():
    exact = jnp.array([1.0, 2.0])
    assert diagnostics.cosine(jnp.zeros(2), exact) == 0
    assert diagnostics.norm_ratio(jnp.zeros(2), exact) == 0


def test_best_response_error_by_hand():
    exact = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([[4.0]])}
    params = {"a": jnp.array([3.0, 2.0]), "b": jnp.array([[4.0]])}
    assert diagnostics.best_response_error(params, exact) == pytest.approx(2 / 5)
