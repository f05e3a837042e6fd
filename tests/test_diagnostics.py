"""Measures against numbers by hand, and a check that names what can't be tuned."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from shohypernet import Problem, diagnostics


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


def test_sharpness_is_the_largest_eigenvalue(float64, quadratic, key):
    found = diagnostics.sharpness(
        quadratic.problem, jnp.zeros(3), jnp.zeros(2), quadratic.train, key, steps=500
    )
    assert found == pytest.approx(np.linalg.eigvalsh(quadratic.hessian)[-1], rel=1e-6)


@pytest.fixture
def mixed():
    """Hyperparameters of every kind, most of them out of some method's reach."""

    def train_loss(w, lam, x, key):
        kept = jax.random.bernoulli(key, jax.nn.sigmoid(lam["odds"]))
        fit = jnp.sum((w - x) ** 2) * jnp.where(kept, 1.0, 2.0)
        penalty = jnp.sum(jnp.exp(lam["decay"])[:2] * w[:2] ** 2)
        return fit + penalty + lam["constant"] + jnp.round(lam["rounded"]) * jnp.sum(w)

    problem = Problem(
        init=lambda key: jnp.zeros(3),  # where no decay has an effect
        train_loss=train_loss,
        valid_loss=lambda w, lam, x: jnp.sum((w - lam["shift"] * x) ** 2),
    )
    names = "odds", "constant", "rounded", "shift", "rate", "unused"
    lam = {name: jnp.full((), -1.0) for name in names} | {"decay": jnp.full(3, -1.0)}
    return problem, lam


def test_untunable_by_the_training_loss_alone(mixed, key):
    found = diagnostics.untunable(*mixed, jnp.ones(3), jnp.ones(3), key)
    assert set(found) == {"odds", "constant", "rounded", "decay", "rate", "unused"}
    assert found["rate"].startswith("rate enters neither loss")
    assert "unrolled(), truncated(), forward()" in found["rate"]
    assert found["decay"].startswith("decay, 1 of its 3 numbers: enters neither loss")
    assert "by as much for all weights" in found["constant"]
    assert "has no derivative" in found["rounded"]


def test_untunable_through_the_inner_optimizer(mixed, key):
    found = diagnostics.untunable(
        *mixed,
        jnp.ones(3),
        jnp.ones(3),
        key,
        optimizer=lambda lam: optax.sgd(jnp.exp(lam["rate"])),
    )
    assert set(found) == {"odds", "constant", "rounded", "decay", "unused"}
    assert "no step of the inner optimizer" in found["unused"]


def test_all_is_well_with_a_decay_for_each_weight(key):
    problem = Problem(
        init=lambda key: jnp.zeros(3),
        train_loss=lambda w, lam, x, key: jnp.sum((w - x) ** 2) + jnp.sum(jnp.exp(lam) * w**2),
        valid_loss=lambda w, lam, x: jnp.sum((w - x) ** 2),
    )
    assert diagnostics.untunable(problem, jnp.zeros(3), jnp.ones(3), jnp.ones(3), key) == {}
