"""Prediction losses against hand sums and SciPy's normal density."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from shohypernet.losses import gaussian_nll, gaussian_nll_from_mse, mean_squared_error, weighted


def test_mean_squared_error_by_hand():
    outputs, targets = jnp.array([[1.0, 2.0], [3.0, -1.0]]), jnp.array([[0.0, 2.0], [1.0, 2.0]])
    np.testing.assert_allclose(mean_squared_error(outputs, targets), (1 + 0 + 4 + 9) / 4)


@pytest.mark.parametrize("scale", [0.1, 2.0])
def test_gaussian_nll_against_scipy(scale):
    outputs, targets = np.random.default_rng(0).normal(size=(2, 7, 3)).astype(np.float32)
    expected = -stats.norm.logpdf(targets, outputs, scale).mean()
    np.testing.assert_allclose(gaussian_nll(outputs, targets, scale), expected, rtol=1e-6)


def test_gaussian_nll_at_the_paper_s_scale():
    outputs, targets = jnp.zeros((2, 1)), jnp.array([[0.2], [0.0]])
    np.testing.assert_allclose(gaussian_nll(outputs, targets), 50 * 0.02 - 1.3836, atol=1e-4)


@pytest.mark.parametrize("scale", [0.1, 2.0])
def test_gaussian_nll_from_mse_against_scipy(scale):
    errors = np.array([0.0, 0.3, -2.0])
    expected = -stats.norm.logpdf(errors, 0.0, scale)
    np.testing.assert_allclose(gaussian_nll_from_mse(errors**2, scale), expected, rtol=1e-12)


@pytest.mark.parametrize("loss", [mean_squared_error, gaussian_nll])
@pytest.mark.parametrize("shapes", [((3, 1), (3,)), ((3,), (3, 1)), ((3, 1), (3, 2)), ((3, 1), ())])
def test_shapes_that_would_broadcast_are_refused(loss, shapes):
    with pytest.raises(ValueError, match=r"must be the same; write targets\[:, None\]"):
        jax.eval_shape(loss, *(jnp.zeros(shape) for shape in shapes))


def test_weighted_by_hand_and_its_gradient_in_each_weight():
    losses, weights = jnp.array([1.0, 2.0, 4.0]), jnp.array([0.5, 0.25, 0.0, 1.0])
    index = jnp.array([3, 0, 3])
    np.testing.assert_allclose(weighted(losses, weights, index), (1 + 1 + 4) / 3, rtol=1e-6)
    found = jax.grad(lambda weights: weighted(losses, weights, index))(weights)
    np.testing.assert_allclose(found, [2 / 3, 0, 0, 5 / 3], rtol=1e-6)


def test_minibatches_of_a_weighted_loss_have_its_mean():
    rng = np.random.default_rng(0)
    losses, weights = rng.uniform(size=(2, 12)).astype(np.float32)
    parts = rng.permutation(12).reshape(4, 3)
    means = [weighted(losses[part], jnp.asarray(weights), jnp.asarray(part)) for part in parts]
    np.testing.assert_allclose(np.mean(means), np.mean(weights * losses), rtol=1e-6)


def test_what_weighted_refuses():
    weights, index = jnp.ones(4), jnp.arange(3)
    assert np.isnan(weighted(jnp.ones(3), weights, index + 2))
    for losses, numbers in (
        (jnp.ones(()), index),
        (jnp.ones((3, 1)), index),
        (jnp.ones(3), 0.0 * index),
    ):
        with pytest.raises(ValueError, match=r"weighted\(\) needs losses of shape \(B,\)"):
            weighted(losses, weights, numbers)
