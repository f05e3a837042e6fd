"""F2SA against the finite difference in closed form, and its order."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import shohypernet as shn
from shohypernet.hypergradients import f2sa

LAM = np.array([2.0, -1.0])


def best(quadratic, share, lam=LAM):
    """argmin L_train + share · L_valid: (H + share I) y = H w* + share ȳ."""
    target = quadratic.hessian @ (quadratic.jacobian @ lam + quadratic.train.mean(0))
    matrix = quadratic.hessian + share * np.eye(3)
    return np.linalg.solve(matrix, target + share * quadratic.valid.mean(0))


def exact(quadratic, lam=LAM):
    slope = quadratic.jacobian @ lam + quadratic.train.mean(0) - quadratic.valid.mean(0)
    return quadratic.ridge * lam + quadratic.jacobian.T @ slope


def estimate(quadratic, key, multiplier, symmetric):
    other = -1 / multiplier if symmetric else 0.0
    return f2sa.hypergradient(
        quadratic.problem,
        jnp.asarray(LAM),
        jnp.asarray(best(quadratic, 1 / multiplier)),
        jnp.asarray(best(quadratic, other)),
        quadratic.train,
        quadratic.valid,
        key,
        multiplier=multiplier,
        symmetric=symmetric,
    )


def by_hand(quadratic, multiplier, symmetric):
    """Derivatives of L_train in λ are −JᵀH (y − w*)."""
    pulled = best(quadratic, 1 / multiplier)
    other = best(quadratic, -1 / multiplier if symmetric else 0.0)
    through = quadratic.jacobian.T @ quadratic.hessian @ (other - pulled)
    return quadratic.ridge * LAM + multiplier * through / (1 + symmetric)


@pytest.mark.parametrize("symmetric", [False, True])
def test_closed_form_at_every_multiplier(quadratic, key, symmetric):
    for multiplier in (5.0, 50.0):
        found = estimate(quadratic, key, multiplier, symmetric)
        np.testing.assert_allclose(found, by_hand(quadratic, multiplier, symmetric), rtol=1e-10)


@pytest.mark.parametrize(("symmetric", "order"), [(False, 1), (True, 2)])
def test_the_error_falls_with_its_order(quadratic, key, symmetric, order):
    errors = [
        np.linalg.norm(estimate(quadratic, key, multiplier, symmetric) - exact(quadratic))
        for multiplier in (100.0, 200.0)
    ]
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.02)


@pytest.mark.parametrize("symmetric", [False, True])
def test_rounds_end_where_the_finite_difference_is_zero(quadratic, key, symmetric):
    multiplier = 10.0
    method = shn.f2sa(
        quadratic.problem,
        optimizer=optax.sgd(0.3),
        hyper_optimizer=optax.sgd(0.2),
        multiplier=multiplier,
        symmetric=symmetric,
    )
    result = shn.fit(
        quadratic.problem,
        method,
        (quadratic.train, quadratic.valid, quadratic.valid),
        jnp.asarray(LAM),
        steps=400,
        inner_steps=5,
        progress=False,
    )
    found = np.asarray(result.hyperparams)
    pulled = best(quadratic, 1 / multiplier, found)
    other = best(quadratic, -1 / multiplier if symmetric else 0.0, found)
    through = quadratic.jacobian.T @ quadratic.hessian @ (other - pulled)
    zero = quadratic.ridge * found + multiplier * through / (1 + symmetric)
    np.testing.assert_allclose(zero, np.zeros(2), atol=1e-8)
    middle = (pulled + other) / 2 if symmetric else other
    np.testing.assert_allclose(result.params, middle, atol=1e-7)
    # Near the optimum, and nearer by the symmetric difference.
    distance = np.linalg.norm(found - quadratic.optimum)
    assert 0 < distance < (0.02 if symmetric else 0.2)


def test_a_multiplier_that_grows_leaves_no_bias(quadratic, key):
    method = shn.f2sa(
        quadratic.problem,
        optimizer=optax.sgd(0.3),
        hyper_optimizer=optax.sgd(0.2),
        multiplier=lambda rounds: 10.0 * 1.05**rounds,
    )
    state = method.init(key, jnp.asarray(LAM))
    # So many that y follows the multiplier: its lag is a bias too.
    batches = jnp.broadcast_to(quadratic.train, (40, *quadratic.train.shape))

    def rounds(state, keys):
        return jax.lax.scan(
            lambda state, key: method.step(key, state, batches, quadratic.valid), state, keys
        )

    state, infos = jax.jit(rounds)(state, jax.random.split(key, 300))
    np.testing.assert_allclose(state.hyperparams, quadratic.optimum, atol=1e-5)
    assert infos.train_loss.shape == (300,)


def test_what_it_refuses(quadratic):
    options = {"problem": quadratic.problem, "hyper_optimizer": optax.sgd(0.1)}
    with pytest.raises(TypeError, match=r"f2sa\(\) needs optimizer to be an optax optimizer"):
        shn.f2sa(**options, optimizer=lambda lam: optax.sgd(lam[0]), multiplier=10.0)
