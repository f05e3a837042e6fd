"""Algorithm 3 with a centered hypernet, followed by hand and to the optimum of a quadratic."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from shohypernet import centered_response
from shohypernet.jacobians import ResponseJacobian


def known(matrix, taken=0):
    """A Jacobian that is told what it is; φ counts the rounds."""
    return ResponseJacobian(
        init=lambda problem, key, params, hyperparams: jnp.zeros((), int),
        update=lambda problem, key, phi, *rest: (phi + 1, jnp.asarray(taken)),
        jvp=lambda problem, phi, point, direction: matrix @ direction,
        vjp=lambda problem, phi, point, cotangent: (matrix.T @ cotangent, phi),
        update_evaluations=lambda *sizes: taken,
        vjp_evaluations=3,
    )


def test_a_round_by_hand(one_weight, key):
    """L_train = ½(w − 2λx)², so w* = 2λx; from w₀ = 0 and λ̂ = 1, on x = 1 and x = 2, y = 3."""
    jacobian = known(jnp.array([[4.0]]), taken=5)
    jacobian = jacobian._replace(vjp=lambda problem, phi, point, cotangent: (4 * cotangent, phi))
    method = centered_response(
        one_weight.problem,
        jacobian,
        optimizer=optax.sgd(0.5),
        hyper_optimizer=optax.sgd(0.1),
    )
    state = method.init(key, one_weight.hyperparams)
    state, info = method.step(key, state, one_weight.train_batches, one_weight.valid_batch)
    # w: 0 − ½(0 − 2) = 1, then 1 − ½(1 − 4) = 2.5; ∂L_valid/∂w = −½, so dλ = −2.
    assert float(method.weights(state)) == pytest.approx(2.5)
    assert float(state.hyperparams) == pytest.approx(1.2)
    assert float(info.train_loss) == pytest.approx((2 + 4.5) / 2)
    assert float(info.valid_loss) == pytest.approx(0.125)
    assert float(info.hypergradient_norm) == pytest.approx(2)
    assert int(info.gradient_evaluations) == 2 + 1 + 3 + 5
    assert int(state.jacobian_state) == 1


def test_it_finds_the_optimum_and_the_weights_there(quadratic, key):
    method = centered_response(
        quadratic.problem,
        known(quadratic.jacobian),
        optimizer=optax.sgd(0.3),
        hyper_optimizer=optax.sgd(0.1),
    )
    batches = np.stack([quadratic.train] * 5)
    state, _ = jax.lax.scan(
        lambda state, key: method.step(key, state, batches, quadratic.valid),
        method.init(key, jnp.zeros(2)),
        jax.random.split(key, 400),
    )
    # The direct part of the gradient, ρλ, counts too.
    np.testing.assert_allclose(state.hyperparams, quadratic.optimum, rtol=1e-6)
    best = quadratic.jacobian @ quadratic.optimum + quadratic.train.mean(0)
    np.testing.assert_allclose(method.weights(state), best, rtol=1e-6)
