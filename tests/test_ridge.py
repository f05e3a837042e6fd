"""The exact linear problem, against scikit-learn, finite differences and the known figures."""

import itertools
import os

import numpy as np
import optax
import pytest
from sklearn.linear_model import Ridge as ScikitRidge

from shohypernet import ridge
from shohypernet.batches import Data, Examples
from shohypernet.datasets import load

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
    # Scikit-learn minimizes Σ (xw − y)² + α‖w‖², ours a mean over examples: α = n e^λ.
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


@pytest.mark.parametrize("start", [0.0, np.zeros(CLASSES)])
def test_optimum_is_no_worse_than_its_neighbors(start):
    # Noise in the training targets alone, so that some decay helps and too much hurts.
    rng = np.random.default_rng(4)
    weights, splits = rng.normal(size=(5, CLASSES)), []
    for n, noise in ((9, 2.0), (50, 0.0), (8, 0.0)):
        inputs = rng.normal(size=(n, 5))
        splits.append(Examples(inputs, inputs @ weights + noise * rng.normal(size=(n, CLASSES))))
    problem = ridge.ridge(Data(*splits))
    found = ridge.optimum(problem, start)
    assert found.shape == np.shape(start)
    least, gradient = ridge.hypergradient(problem, found)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)
    for shift in 0.1 * np.eye(max(found.size, 1)):
        for sign in (-1, 1):
            away = found + sign * shift.reshape(np.shape(start))
            assert ridge.losses(problem, ridge.best_response(problem, away)).valid > least.valid


def test_descent_is_optax_s_adam_along_the_hypergradient(data, float64):
    problem, start = ridge.ridge(data), np.random.default_rng(3).normal(size=(6, CLASSES))
    adam = optax.adam(0.1, eps=1e-12)
    log_decay, state = start, adam.init(start)
    for found, losses in itertools.islice(ridge.descent(problem, start), 4):
        np.testing.assert_allclose(found, log_decay, rtol=1e-9)
        expected, gradient = ridge.hypergradient(problem, log_decay)
        np.testing.assert_allclose(losses, expected, rtol=1e-9)
        change, state = adam.update(gradient, state)
        log_decay = np.asarray(optax.apply_updates(log_decay, change))


def test_other_shapes_are_refused(data):
    with pytest.raises(ValueError, match=r"one per class \(3,\).*got shape \(5,\)"):
        ridge.best_response(ridge.ridge(data), np.zeros(5))


# Computed elsewhere, by other code, on the first 10,000 and last 10,000 of the 60,000 images.
KNOWN = {
    -12: (0.039787, 0.041549),
    -7: (0.038458, 0.040114),
    -5: (0.038089, 0.039651),
    -3: (0.039221, 0.040678),
    -1: (0.044638, 0.045850),
}


KNOWN_PATH = {1: (0.038205, 0.039814), 10: (0.037466, 0.039542), 30: (0.036424, 0.039297)}
KNOWN_CLASSES = (0.038019, 0.039600)


@pytest.mark.slow
def test_known_figures_of_mnist_in_its_standard_order():
    folder = os.environ.get("SHOHYPERNET_MNIST_IDX")
    if not folder:
        pytest.skip("SHOHYPERNET_MNIST_IDX names no folder with MNIST's IDX files")
    problem = ridge.ridge(load("idx", train=10_000, valid=10_000, directory=folder))
    for log_decay, expected in KNOWN.items():
        found = ridge.losses(problem, ridge.best_response(problem, log_decay))
        np.testing.assert_allclose((found.valid, found.test), expected, atol=1e-6)
    steps = itertools.islice(ridge.descent(problem, np.full((785, 10), -6.0)), 30)
    for step, (_, found) in enumerate(steps, start=1):
        if step in KNOWN_PATH:
            np.testing.assert_allclose((found.valid, found.test), KNOWN_PATH[step], atol=1e-6)
    found = ridge.losses(problem, ridge.best_response(problem, ridge.optimum(problem, [-5.0] * 10)))
    np.testing.assert_allclose((found.valid, found.test), KNOWN_CLASSES, atol=1e-6)
