"""Priors of hyperparameters, against the minimum that they move."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import shohypernet as shn
from shohypernet import priors
from shohypernet.batches import Data

EXAMPLES, SCALE = 5, 0.4
PRECISION = 1 / (EXAMPLES * SCALE**2)
START = np.array([0.3, -0.7])


def minimum(quadratic, prior):
    """Where SGD of λ ends, through training that runs to its end in each round."""
    method = shn.unrolled(
        quadratic.problem,
        optimizer=optax.sgd(0.4),
        hyper_optimizer=optax.chain(prior, optax.sgd(0.3)),
    )
    data = Data(quadratic.train, quadratic.valid)
    return shn.fit(quadratic.problem, method, data, START, steps=60, inner_steps=60).hyperparams


def normal_equations(quadratic):
    jacobian = quadratic.jacobian
    hessian = jacobian.T @ jacobian + quadratic.ridge * np.eye(2)
    return hessian, jacobian.T @ (quadratic.valid.mean(0) - quadratic.train.mean(0))


def test_normal_pulls_to_where_the_run_starts(quadratic):
    hessian, right = normal_equations(quadratic)
    expected = np.linalg.solve(hessian + PRECISION * np.eye(2), right + PRECISION * START)
    found = minimum(quadratic, priors.normal(SCALE, examples=EXAMPLES))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_pooled_pulls_to_the_mean_which_is_free(quadratic):
    hessian, right = normal_equations(quadratic)
    around_mean = np.eye(2) - np.full((2, 2), 0.5)
    expected = np.linalg.solve(hessian + PRECISION * around_mean, right)
    found = minimum(quadratic, priors.pooled(SCALE, examples=EXAMPLES))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_each_array_is_a_pool():
    prior = priors.pooled(1.0, examples=1)
    hyperparams = {"a": jnp.array([1.0, 3.0]), "b": jnp.array([[5.0], [5.0]]), "c": jnp.array(7.0)}
    zero = jax.tree.map(jnp.zeros_like, hyperparams)
    found, _ = prior.update(zero, prior.init(hyperparams), hyperparams)
    expected = {"a": [-1.0, 1.0], "b": [[0.0], [0.0]], "c": 0.0}
    jax.tree.map(np.testing.assert_array_equal, found, jax.tree.map(np.asarray, expected))


def test_refusals():
    with pytest.raises(ValueError, match=r"priors.normal.*scale"):
        priors.normal(0.0, examples=10)
    with pytest.raises(ValueError, match=r"priors.pooled.*examples"):
        priors.pooled(1.0, examples=0)
    prior = priors.pooled(1.0, examples=1)
    with pytest.raises(ValueError, match=r"one in each; take priors.normal\(\)"):
        prior.init({"a": jnp.zeros(()), "b": jnp.zeros(1)})
    with pytest.raises(ValueError, match="needs λ"):
        prior.update(jnp.zeros(2), prior.init(jnp.zeros(2)))


def test_the_scales_of_self_tuning_have_no_prior():
    prior = optax.chain(priors.pooled(0.1, examples=1), optax.sgd(1.0))
    hyperparams, gradient = jnp.array([1.0, 3.0]), jnp.array([0.5, 0.25])
    found, _ = prior.update(gradient, prior.init(hyperparams), hyperparams, scales=True)
    np.testing.assert_array_equal(found, -gradient)
