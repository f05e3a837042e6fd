"""A small ridge problem, whose hypergradient is known exactly, and training on it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from shohypernet import Problem, ridge
from shohypernet.batches import Data, Examples
from shohypernet.inner_loop import TrainState

FEATURES, CLASSES = 3, 2
LEARNING_RATE = 0.3  # below 1/λ_max


class Small(NamedTuple):
    """One decay a weight, the bias last, as `ridge` has them.

    L_train = MSE + (1/C) Σ e^λ w², L_valid = MSE + 0.1 Σ λ, so that λ enters both directly.
    """

    problem: Problem
    data: Data
    exact: ridge.Ridge
    hyperparams: np.ndarray  # λ, shape (4, 2)
    params: np.ndarray  # w_0, shape (4, 2)

    def train(self, steps):
        """The whole training set, for each of so many steps."""
        return jax.tree.map(lambda leaf: np.stack([leaf] * steps), self.data.train)

    def start(self, optimizer):
        """w_0 and the state of an optimizer."""
        params = jnp.asarray(self.params)
        return TrainState(params, optimizer.init(params))

    def best_response(self, hyperparams):
        return ridge.best_response(self.exact, hyperparams)

    def hypergradient(self):
        """At the best response, in closed form."""
        return ridge.hypergradient(self.exact, self.hyperparams)[1] + 0.1


def with_bias(inputs: Any) -> Any:
    return jnp.concatenate([inputs, jnp.ones((len(inputs), 1), inputs.dtype)], axis=1)


def build():
    """Made outside of JAX, so that it may be used in either precision."""
    rng = np.random.default_rng(0)
    data = Data(
        *(
            Examples(rng.normal(size=(n, FEATURES)), rng.normal(size=(n, CLASSES)))
            for n in (9, 7, 8)
        )
    )

    def error(params, batch):
        inputs, targets = (jnp.asarray(leaf, params.dtype) for leaf in batch)
        return jnp.mean((with_bias(inputs) @ params - targets) ** 2)

    problem = Problem(
        init=lambda key: jax.random.normal(key, (FEATURES + 1, CLASSES)),
        train_loss=lambda params, hyperparams, batch, key: (
            error(params, batch) + jnp.sum(jnp.exp(hyperparams) * params**2) / CLASSES
        ),
        valid_loss=lambda params, hyperparams, batch: (
            error(params, batch) + 0.1 * jnp.sum(hyperparams)
        ),
    )
    return Small(
        problem,
        data,
        ridge.ridge(data),
        rng.normal(-1.0, 0.5, size=(FEATURES + 1, CLASSES)),
        rng.normal(size=(FEATURES + 1, CLASSES)),
    )


@pytest.fixture(scope="package")
def small():
    return build()


@pytest.fixture
def slope():
    """Central differences of a function of one array, entry by entry."""

    def differences(function, at, width=1e-5):
        at = np.asarray(at)
        slopes = np.empty(at.shape)
        for index in np.ndindex(at.shape):
            shift = np.zeros(at.shape)
            shift[index] = width
            slopes[index] = (function(at + shift) - function(at - shift)) / (2 * width)
        return slopes

    return differences


@pytest.fixture
def sgd():
    return optax.sgd(LEARNING_RATE, momentum=0.5)
