"""The exact linear problem, against scikit-learn, finite differences and the known figures."""

import os

import numpy as np
import pytest
from sklearn.linear_model import Ridge as ScikitRidge

from shohypernet import ridge
from shohypernet.data import Data, Examples, load

CLASSES = 3


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return Data(
        *(Examples(rng.normal(size=(n, 5)), rng.normal(size=(n, CLASSES))) for n in (9, 7, 8))
    )


def with_bias(inputs):
    return np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1)


@pytest.mark.parametrize("log_decay", [-2.0, np.array([-3.0, 0.5, 1.0])])
def test_best_response_is_scikit_learns(data, log_decay):
    inputs, targets = data.train
    # Scikit-learn minimises Σ (xw − y)² + α‖w‖², ours a mean over examples: α = n e^λ.
    alphas = np.broadcast_to(len(inputs) * np.exp(log_decay), (CLASSES,))
    expected = ScikitRidge(alphas, fit_intercept=False).fit(with_bias(inputs), targets).coef_.T
    found = ridge.best_response(ridge.ridge(data), log_decay)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_losses_are_mean_squared_errors(data):
    weights = np.random.default_rng(1).normal(size=(6, CLASSES))
    expected = [np.mean((with_bias(x) @ weights - y) ** 2) for x, y in data]
    np.testing.assert_allclose(ridge.losses(ridge.ridge(data), weights), expected, rtol=1e-12)


@pytest.mark.parametrize("shape", [(), (CLASSES,), (6, CLASSES)])
def test_hypergradient_is_the_slope_of_the_validation_loss(data, shape):
    problem = ridge.ridge(data)
    log_decay = np.random.default_rng(2).normal(size=shape)
    _, gradient = ridge.hypergradient(problem, log_decay)
    assert gradient.shape == shape

    def valid_loss(log_decay):
        return ridge.losses(problem, ridge.best_response(problem, log_decay)).valid

    width = 1e-5
    slopes = np.empty(shape)
    for index in np.ndindex(shape):
        shift = np.zeros(shape)
        shift[index] = width
        slopes[index] = (valid_loss(log_decay + shift) - valid_loss(log_decay - shift)) / (
            2 * width
        )
    np.testing.assert_allclose(gradient, slopes, rtol=1e-6, atol=1e-10)


def test_other_shapes_are_refused(data):
    with pytest.raises(ValueError, match=r"one a class \(3,\).*got shape \(5,\)"):
        ridge.best_response(ridge.ridge(data), np.zeros(5))


# Computed elsewhere, by other code, on the first 10,000 and last 10,000 of the 60,000 images.
KNOWN = {
    -12: (0.039787, 0.041549),
    -7: (0.038458, 0.040114),
    -5: (0.038089, 0.039651),
    -3: (0.039221, 0.040678),
    -1: (0.044638, 0.045850),
}


def test_known_figures_of_mnist_in_its_standard_order():
    folder = os.environ.get("SHOHYPERNET_MNIST_IDX")
    if not folder:
        pytest.skip("SHOHYPERNET_MNIST_IDX names no folder with MNIST's IDX files")
    problem = ridge.ridge(load("idx", train=10_000, valid=10_000, directory=folder))
    for log_decay, expected in KNOWN.items():
        found = ridge.losses(problem, ridge.best_response(problem, log_decay))
        np.testing.assert_allclose((found.valid, found.test), expected, atol=1e-6)
