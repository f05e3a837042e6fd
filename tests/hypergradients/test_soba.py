"""SOBA against its three updates by hand, and the optimum in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import shohypernet as shn
from shohypernet.hypergradients import soba

LAM, PARAMS = np.array([2.0, -1.0]), np.array([0.5, -1.5, 1.0])
ADJOINT = np.array([-0.25, 0.75, 2.0])


def directions(quadratic, rows, lam=LAM, params=PARAMS, adjoint=ADJOINT):
    """∂L_train/∂w, the residual of q and the hypergradient at q, in NumPy."""
    slope = quadratic.hessian @ (params - quadratic.jacobian @ lam - rows.mean(0))
    bent = quadratic.hessian @ adjoint
    residual = bent - (params - quadratic.valid.mean(0))
    return slope, residual, quadratic.ridge * lam + quadratic.jacobian.T @ bent


def test_directions_by_hand(quadratic, key):
    found = soba.hypergradient(
        quadratic.problem, *map(jnp.asarray, (LAM, PARAMS, ADJOINT, quadratic.train)),
        quadratic.valid, key,
    )  # fmt: skip
    _, residual, gradient = directions(quadratic, quadratic.train)
    np.testing.assert_allclose(found.residual, residual, rtol=1e-12)
    np.testing.assert_allclose(found.gradient, gradient, rtol=1e-12)
    expected = quadratic.problem.valid_loss(PARAMS, LAM, quadratic.valid)
    np.testing.assert_allclose(found.valid_loss, expected, rtol=1e-12)


def test_at_rest_it_is_the_exact_hypergradient(quadratic, key):
    best = quadratic.jacobian @ LAM + quadratic.train.mean(0)
    slope = best - quadratic.valid.mean(0)
    adjoint = np.linalg.solve(quadratic.hessian, slope)
    found = soba.hypergradient(
        quadratic.problem, *map(jnp.asarray, (LAM, best, adjoint, quadratic.train)),
        quadratic.valid, key,
    )  # fmt: skip
    exact = quadratic.ridge * LAM + quadratic.jacobian.T @ slope
    np.testing.assert_allclose(found.gradient, exact, rtol=1e-12)
    np.testing.assert_allclose(found.residual, np.zeros(3), atol=1e-12)


def test_a_round_moves_weights_and_adjoint_by_every_batch_and_lambda_by_the_last(quadratic, key):
    method = shn.soba(
        quadratic.problem,
        optimizer=optax.sgd(0.3),
        adjoint_optimizer=optax.sgd(0.2),
        hyper_optimizer=optax.sgd(0.1),
    )
    state = method.init(key, jnp.asarray(LAM))
    state = state._replace(
        inner=state.inner._replace(params=jnp.asarray(PARAMS)), adjoint=jnp.asarray(ADJOINT)
    )
    batches = quadratic.train[[[0, 1], [2, 3]]]
    after, info = jax.jit(method.step)(key, state, batches, quadratic.valid)

    params, adjoint = PARAMS, ADJOINT
    for rows in batches:
        slope, residual, gradient = directions(quadratic, rows, LAM, params, adjoint)
        params, adjoint = params - 0.3 * slope, adjoint - 0.2 * residual
    np.testing.assert_allclose(method.weights(after), params, rtol=1e-12)
    np.testing.assert_allclose(after.adjoint, adjoint, rtol=1e-12)
    np.testing.assert_allclose(after.hyperparams, LAM - 0.1 * gradient, rtol=1e-12)
    assert info.hypergradient_norm == pytest.approx(np.linalg.norm(gradient))


def test_finds_the_optimum(quadratic, key):
    method = shn.soba(quadratic.problem, optimizer=optax.sgd(0.3), hyper_optimizer=optax.sgd(0.1))
    result = shn.fit(
        quadratic.problem,
        method,
        (quadratic.train, quadratic.valid, quadratic.valid),
        jnp.asarray(LAM),
        steps=200,
        progress=False,
    )
    np.testing.assert_allclose(result.hyperparams, quadratic.optimum, atol=1e-6)


def test_what_it_refuses(quadratic):
    options = {"problem": quadratic.problem, "hyper_optimizer": optax.sgd(0.1)}
    with pytest.raises(TypeError, match=r"soba\(\) needs adjoint_optimizer to be an optax opt"):
        shn.soba(**options, optimizer=optax.sgd(0.1), adjoint_optimizer=0.1)
    with pytest.raises(TypeError, match=r"soba\(\) needs optimizer to be an optax optimizer"):
        shn.soba(**options, optimizer=lambda lam: optax.sgd(lam[0]))
