"""Two problems on which Algorithms 2, 3 and 4 can be followed by hand, and a spy."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from shohypernet import Problem
from shohypernet.hypernets import Hypernet


class OneWeight(NamedTuple):
    """w = φλ, L_train = ½(w − 2λx)² and L_valid = ½(w − y)², from φ = λ̂ = 1; x = 1, 2 and y = 3.

    With α = ½ a φ step is φ ← φ − ½(φ − 2x)λ²: to 3/2 on x = 1, and on to 11/4 on x = 2.
    With β = ⅒ a λ̂ step is λ̂ ← λ̂ − ⅒(φλ̂ − 3)φ.
    """

    problem: Problem
    hypernet: Hypernet
    optimizers: dict[str, optax.GradientTransformation]
    hyperparams: jax.Array
    train_batches: jax.Array
    valid_batch: jax.Array


@pytest.fixture
def one_weight(float64):
    return OneWeight(
        problem=Problem(
            init=lambda key: jnp.zeros(()),
            train_loss=lambda w, hyperparams, x, key: (w - 2 * hyperparams * x) ** 2 / 2,
            valid_loss=lambda w, hyperparams, y: (w - y) ** 2 / 2,
        ),
        hypernet=Hypernet(
            lambda key, params, hyperparams: jnp.ones(()), lambda phi, lam: phi * lam
        ),
        optimizers={"hypernet_optimizer": optax.sgd(0.5), "hyper_optimizer": optax.sgd(0.1)},
        hyperparams=jnp.ones(()),
        train_batches=jnp.array([1.0, 2.0]),
        valid_batch=jnp.array(3.0),
    )


@pytest.fixture
def linear_hypernet(float64):
    """w_φ(λ) = Wλ + b for the quadratic problem, apart from the library's and in float64."""

    def init(key, params, hyperparams):
        kernel, bias = jax.random.normal(key, (3, 2)), jnp.array([0.5, -1.0, 2.0])
        return {"kernel": kernel, "bias": bias}

    return Hypernet(init, lambda phi, lam: phi["kernel"] @ lam + phi["bias"])


@pytest.fixture
def response_gradient(quadratic):
    """∇_φ of the mean L_train(Wλ_k + b, λ_k): mean_k H r_k λ_kᵀ and mean_k H r_k."""

    def gradient(phi, sampled):
        kernel, bias, sampled = phi["kernel"], phi["bias"], np.asarray(sampled)
        residuals = sampled @ (kernel - quadratic.jacobian).T + (bias - quadratic.train.mean(0))
        slopes = residuals @ quadratic.hessian
        return {"kernel": slopes.T @ sampled / len(sampled), "bias": slopes.mean(0)}

    return lambda phi, sampled: gradient(jax.tree.map(np.asarray, phi), sampled)


@pytest.fixture
def hypergradient(quadratic):
    """∇_λ of L_valid(Wλ + b, λ): Wᵀ(Wλ + b − ȳ) + ρλ."""

    def gradient(phi, hyperparams):
        kernel, bias = np.asarray(phi["kernel"]), np.asarray(phi["bias"])
        residual = kernel @ hyperparams + bias - quadratic.valid.mean(0)
        return kernel.T @ residual + quadratic.ridge * hyperparams

    return lambda phi, hyperparams: gradient(phi, np.asarray(hyperparams))


@pytest.fixture
def spied():
    """Wraps a problem so that a list receives every λ that its training loss is taken at."""

    def wrap(problem):
        seen = []

        def train_loss(params, hyperparams, batch, key):
            jax.debug.callback(lambda lam: seen.append(jax.tree.map(np.asarray, lam)), hyperparams)
            return problem.train_loss(params, hyperparams, batch, key)

        return problem._replace(train_loss=train_loss), seen

    return wrap
