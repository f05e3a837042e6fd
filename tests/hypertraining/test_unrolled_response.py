"""A hypernet and steps behind it, against closed forms on a quadratic problem."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import shohypernet as shn
from shohypernet.samplers import local_gaussian

LEARNING_RATE = 0.3


@pytest.fixture
def built(quadratic, linear_hypernet):
    def build(**changed):
        arguments = {
            "optimizer": optax.sgd(LEARNING_RATE),
            "unrolled_steps": 2,
            "hypernet_optimizer": optax.sgd(0.25),
            "hyper_optimizer": optax.sgd(0.5),
            "sampler": local_gaussian(0.3),
        }
        return shn.unrolled_response(quadratic.problem, linear_hypernet, **arguments | changed)

    return build


def test_hypergradient_in_closed_form(quadratic, built, key):
    """w = Jλ + x̄ + (I − αH)² (w_φ − Jλ − x̄) where both steps see all rows, and its derivative."""
    method = built()
    before = method.init(key, jnp.array([1.0, -2.0]))
    batches = np.stack([quadratic.train[::-1] + 1, quadratic.train, quadratic.train])
    after, info = jax.jit(method.step)(key, before, batches, quadratic.valid)

    lam, phi = jax.tree.map(np.asarray, (before.hyperparams, after.hypernet_params))
    left = np.linalg.matrix_power(np.eye(3) - LEARNING_RATE * quadratic.hessian, 2)
    best = quadratic.jacobian @ lam + quadratic.train.mean(0)
    weights = best + left @ (phi["kernel"] @ lam + phi["bias"] - best)
    slope = left @ phi["kernel"] + (np.eye(3) - left) @ quadratic.jacobian
    expected = slope.T @ (weights - quadratic.valid.mean(0)) + quadratic.ridge * lam
    np.testing.assert_allclose((lam - after.hyperparams) / 0.5, expected, rtol=1e-10)
    np.testing.assert_allclose(method.weights(after), weights, rtol=1e-10)
    squares = np.sum((weights - quadratic.valid) ** 2, axis=1).mean()
    np.testing.assert_allclose(
        info.valid_loss, (squares + quadratic.ridge * lam @ lam) / 2, rtol=1e-10
    )


def test_phi_is_trained_as_in_algorithm_3(quadratic, linear_hypernet, built, key):
    start = jnp.array([1.0, -2.0])
    method = built()
    plain = shn.local_response(
        quadratic.problem,
        linear_hypernet,
        hypernet_optimizer=optax.sgd(0.25),
        hyper_optimizer=optax.sgd(0.5),
        sampler=local_gaussian(0.3),
    )
    batches = np.stack([quadratic.train] * 3)
    key_hypernet, _ = jax.random.split(key)  # the other is that of the steps
    after, _ = jax.jit(method.step)(key, method.init(key, start), batches, quadratic.valid)
    expected, _ = jax.jit(plain.step)(
        key_hypernet, plain.init(key, start), batches, quadratic.valid
    )
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-12),
        after.hypernet_params,
        expected.hypernet_params,
    )


def test_the_steps_start_with_a_fresh_optimizer_in_every_round(quadratic, built, key):
    """With a momentum that never decays, steps that went on would be longer and longer."""
    still = {"hypernet_optimizer": optax.sgd(0.0), "hyper_optimizer": optax.sgd(0.0)}
    method = built(optimizer=optax.sgd(0.1, momentum=1.0), **still)
    state = method.init(key, jnp.array([1.0, -2.0]))
    batches = np.stack([quadratic.train] * 2)
    step = jax.jit(method.step)
    first, _ = step(key, state, batches, quadratic.valid)
    second, _ = step(key, first, batches, quadratic.valid)
    np.testing.assert_array_equal(first.params, second.params)
    assert np.all(first.params != state.params)


def test_more_steps_than_a_round_has_are_refused(quadratic, built, key):
    method = built(unrolled_steps=3)
    state = method.init(key, jnp.zeros(2))
    with pytest.raises(ValueError, match=r"takes 3 steps .* the round has 2 inner steps"):
        method.step(key, state, np.stack([quadratic.train] * 2), quadratic.valid)


def test_no_steps_and_functions_of_hyperparameters_are_refused(built):
    with pytest.raises(ValueError, match="unrolled_steps"):
        built(unrolled_steps=0)
    with pytest.raises(TypeError, match=r"unrolled_response\(\) needs optimizer to be an optax"):
        built(optimizer=lambda lam: optax.sgd(lam))
