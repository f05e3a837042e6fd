"""Choices by hand, and a validation loss with a wrong minimum, beside which the start lies."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from shohypernet import Problem, exploring_response, hyperparameters, local_response, sources
from shohypernet.hypernets import bayesian, linear
from shohypernet.hypertraining import optimistic, predicted_losses, thompson, variational
from shohypernet.samplers import fixed_set, local_gaussian, uniform

ADAM = optax.adam(0.02)


def well(w):
    """Two minima, at about 0.96 and -1.04; the second is the lower."""
    return (w**2 - 1) ** 2 + 0.3 * w


WELL = Problem(
    lambda key: jnp.zeros(()),
    lambda w, lam, batch, key: jnp.mean((w - lam - batch) ** 2),
    lambda w, lam, batch: well(w) + 0 * jnp.mean(batch),
)


def lowest():
    """The lower root of the well's derivative, 4w³ − 4w + 0.3, by NumPy."""
    return np.min(np.roots([4.0, 0.0, -4.0, 0.3]).real)


def run(method, start, rounds, key):
    batches, batch = jnp.zeros((rounds, 5, 4)), jnp.zeros(4)
    state = method.init(key, jnp.float32(start))
    step = jax.jit(
        lambda state: jax.lax.scan(
            lambda state, at: (method.step(at[0], state, at[1], batch)[0], None),
            state,
            (jax.random.split(key, rounds), batches),
        )[0]
    )
    return step(state)


@pytest.mark.parametrize("choice", [thompson(), optimistic()], ids=["Thompson", "optimistic"])
def test_it_leaves_a_wrong_minimum(choice, key):
    method = exploring_response(
        WELL,
        bayesian(linear(), init_deviation=0.05),
        hypernet_optimizer=ADAM,
        hyper_optimizer=ADAM,
        candidates=uniform(-2.0, 2.0),
        sampler=local_gaussian(0.3),
        examples=1_000,
        choice=choice,
    )
    state = run(method, 1.0, 300, key)
    assert float(method.weights(state)) == pytest.approx(lowest(), abs=0.03)
    assert float(state.hyperparams) == pytest.approx(lowest(), abs=0.1)


def test_a_local_response_does_not(key):
    method = local_response(
        WELL,
        bayesian(linear(), init_deviation=0.05),
        hypernet_optimizer=ADAM,
        hyper_optimizer=ADAM,
        sampler=local_gaussian(0.3),
        response_loss=variational(1_000),
    )
    assert float(run(method, 1.0, 300, key).hyperparams) > 0.8


def test_phi_is_trained_at_the_best_candidate(key):
    """Of a posterior next to certain it is known which that is: w = λ, nearest to the minimum.

    One whose loss isn't a number is none.
    """
    seen = []

    def train_loss(w, lam, batch, key):
        jax.debug.callback(lambda lam: seen.append(float(lam)), lam)
        return WELL.train_loss(w, lam, batch, key)

    method = exploring_response(
        WELL._replace(train_loss=train_loss),
        bayesian(linear(init_scale=0.01), init_deviation=1e-6),
        hypernet_optimizer=optax.sgd(0.0),
        hyper_optimizer=optax.sgd(0.0),
        candidates=fixed_set(jnp.array([0.9, jnp.nan, -1.1, 0.0, 1.7])),
        sampler=lambda key, chosen: chosen,
        examples=10,
        candidate_count=64,
    )
    state = method.init(key, jnp.float32(0.5))
    kernel = jnp.array([[1.0], [0.0]])
    mean = state.hypernet_params.mean.replace(kernels=kernel)
    state = state._replace(hypernet_params=state.hypernet_params._replace(mean=mean))
    after, info = method.step(key, state, jnp.zeros((1, 4)), jnp.zeros(4))
    jax.effects_barrier()
    np.testing.assert_allclose(seen, [-1.1, -1.1], rtol=1e-6)
    assert float(after.hyperparams) == pytest.approx(-1.1)  # which is better than the start
    assert int(info.gradient_evaluations) == 2 + 1 + 64 + 2


def test_scores_by_hand():
    losses = np.array([[1.0, 4.0], [3.0, 2.0]])
    np.testing.assert_allclose(thompson().score(jnp.asarray(losses)), losses[0])
    found = optimistic(3.0, draws=2).score(jnp.asarray(losses))
    np.testing.assert_allclose(found, [2.0 - 3.0, 3.0 - 3.0])


def test_predicted_losses_are_one_hypernet_s_a_row(key):
    """With L_valid(w) = w and a hypernet that is linear in log λ, each row is a line of its own."""
    problem = Problem(
        WELL.init,
        WELL.train_loss,
        lambda w, lam, batch: w + 0 * jnp.mean(batch),
        hyperparameters.log(),
    )
    hypernet = bayesian(linear(), init_deviation=0.5)
    phi = hypernet.init(key, jnp.zeros(()), jnp.zeros(()))
    points = np.array([0.1, 1.0, 10.0, 1e4])
    rows = predicted_losses(problem, hypernet, phi, points, jnp.zeros(4), key, draws=30)
    assert rows.shape == (30, 4)
    slopes = np.diff(rows, axis=1) / np.diff(np.log(points))
    np.testing.assert_allclose(
        slopes, np.broadcast_to(slopes[:, :1], (30, 3)), rtol=1e-3, atol=1e-5
    )
    assert np.std(slopes[:, 0]) == pytest.approx(0.5, rel=0.4)
    source = sources.rows(np.zeros(4, np.float32))
    read = predicted_losses(problem, hypernet, phi, points, source, key, draws=30)
    np.testing.assert_allclose(read, rows, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=r"leading axis in common.*got shapes \(\); of a single"):
        predicted_losses(problem, hypernet, phi, 0.1, jnp.zeros(4), key)


def test_wrong_arguments_are_refused(key):
    options = {
        "hypernet_optimizer": ADAM,
        "hyper_optimizer": ADAM,
        "candidates": uniform(0.0, 1.0),
        "sampler": local_gaussian(0.1),
        "examples": 10,
    }
    with pytest.raises(TypeError, match=r"exploring_response\(\) needs a Bayesian hypernet"):
        exploring_response(WELL, linear(), **options)
    with pytest.raises(ValueError, match="candidate_count to be a whole number >= 1, got 0"):
        exploring_response(WELL, bayesian(linear()), candidate_count=0, **options)
    with pytest.raises(ValueError, match="draws to be a whole number >= 2, got 1"):
        optimistic(draws=1)
    with pytest.raises(TypeError, match=r"predicted_losses\(\) needs a Bayesian hypernet"):
        predicted_losses(WELL, linear(), None, jnp.zeros(2), jnp.zeros(4), key)
