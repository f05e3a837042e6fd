"""HOAG against the optimum in closed form, and its step size by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import shohypernet as shn
from shohypernet.hypergradients import hoag
from shohypernet.hypergradients.hoag import AdaptiveStepSize


def batches(quadratic, steps):
    return jnp.broadcast_to(quadratic.train, (steps, *quadratic.train.shape))


def test_finds_the_optimum_with_ever_more_work(quadratic, key):
    method = shn.hoag(
        quadratic.problem,
        optimizer=optax.sgd(0.3),
        learning_rate=0.1,
        tolerance=hoag.exponential(0.1, 0.9),
    )
    state = method.init(key, jnp.array([2.0, -1.0]))
    train = batches(quadratic, 60)

    def rounds(state, keys):
        return jax.lax.scan(
            lambda state, key: method.step(key, state, train, quadratic.valid), state, keys
        )

    state, infos = jax.jit(rounds)(state, jax.random.split(key, 200))
    np.testing.assert_allclose(state.hyperparams, quadratic.optimum, atol=1e-7)
    best = quadratic.jacobian @ state.hyperparams + quadratic.train.mean(0)
    # ε_199 over the least eigenvalue of the Hessian, and how far the last step moved the best.
    bound = 0.1 * 0.9**199 / np.linalg.eigvalsh(quadratic.hessian)[0]
    bound += np.linalg.norm(quadratic.jacobian, 2) * state.hyper_opt_state.distance
    assert np.linalg.norm(method.weights(state) - best) < bound
    # From the last weights and adjoint a round needs little, but more as the tolerance falls.
    taken = np.asarray(infos.gradient_evaluations)
    assert taken.max() < 60 + 4 + 2 * 100
    assert taken[-20:].mean() > 2 * taken[50:70].mean()


def test_a_loose_tolerance_takes_one_gradient_and_no_product(quadratic, key):
    method = shn.hoag(
        quadratic.problem,
        optimizer=optax.sgd(0.3),
        learning_rate=0.1,
        tolerance=lambda k: jnp.asarray(1e3),
    )
    before = method.init(key, jnp.array([2.0, -1.0]))
    after, info = jax.jit(method.step)(key, before, batches(quadratic, 5), quadratic.valid)
    np.testing.assert_array_equal(method.weights(after), method.weights(before))
    # A gradient to train, one to validate, a mixed product, and the residual of the first guess.
    assert info.gradient_evaluations == 1 + 1 + 1 + 2
    # With q = 0 there is left the direct gradient ρλ.
    moved = before.hyperparams - after.hyperparams
    np.testing.assert_allclose(moved, 0.1 * quadratic.ridge * before.hyperparams, rtol=1e-12)


def test_tolerances_by_hand():
    k = jnp.arange(3)
    np.testing.assert_allclose(hoag.exponential(0.1, 0.5)(k), [0.1, 0.05, 0.025], rtol=1e-6)
    np.testing.assert_allclose(hoag.polynomial(0.1, 2.0)(k), [0.1, 0.025, 0.1 / 9], rtol=1e-6)


@pytest.mark.parametrize(
    ("valid_loss", "factor"),
    # Promised with 1/L = ½, Δ = 2: ε_k + ε_{k−1}(1 + Δ) − ½·2·2² = 0.01 + 0.06 − 4.
    [(6.06, 1.05), (6.08, 0.5)],
)
def test_step_size_by_hand(valid_loss, factor):
    last = AdaptiveStepSize(jnp.float32(0.5), jnp.float32(10.0), jnp.float32(2.0))
    found = hoag._adapted(last, jnp.float32(valid_loss), jnp.float32(0.01), jnp.float32(0.02))
    assert found.learning_rate == pytest.approx(0.5 * factor)
    assert found.valid_loss == pytest.approx(valid_loss)


def test_the_step_size_stays_finite_at_rest(key):
    """λ starts at its optimum, where a step of any size is 0, but for one that is infinite."""
    problem = shn.Problem(
        init=lambda key: jnp.zeros(()),
        train_loss=lambda w, lam, batch, key: (w - lam) ** 2,
        valid_loss=lambda w, lam, batch: w**2 + lam**2,
    )
    method = shn.hoag(problem, optimizer=optax.sgd(0.5), learning_rate=0.1, solver_steps=1)
    rounds = 2_500  # after which 1.05ⁿ is infinite

    @jax.jit
    def last(state):
        def one(state, key):
            return method.step(key, state, jnp.zeros((1, 1)), jnp.zeros(1))[0], None

        return jax.lax.scan(one, state, jax.random.split(key, rounds))[0]

    state = last(method.init(key, jnp.float32(0)))
    assert state.hyperparams == 0
    assert state.hyper_opt_state.learning_rate == np.float32(0.1)


def test_what_it_refuses(quadratic):
    options = {"problem": quadratic.problem, "learning_rate": 0.1}
    with pytest.raises(ValueError, match=r"steps to be a whole number >= 1, got 0"):
        shn.hoag(**options, optimizer=optax.sgd(0.1), solver_steps=0)
    with pytest.raises(TypeError, match=r"hoag\(\) needs optimizer to be an optax optimizer"):
        shn.hoag(**options, optimizer=lambda lam: optax.sgd(lam[0]))
