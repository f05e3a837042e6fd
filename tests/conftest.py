"""What holds in every test: one platform, no windows, and JAX at its strictest."""

import os
from typing import NamedTuple

# All are read on import, so they come before it.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Nearly all the time is compilation, most of that in passes that make long runs faster. `make
# newest` compiles as users do.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
    " --xla_cpu_parallel_codegen_split_count=1",
)
# A process for each core: threads that wait for each other by spinning only heat the other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ["MPLBACKEND"] = "Agg"
# What one run of the tests compiles is nothing to the next, nor to those of the user.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", "")

import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shohypernet import Problem

# A silent broadcast between ranks is nearly always a mistake in a loss.
jax.config.update("jax_numpy_rank_promotion", "raise")
# Typed keys only: an array of uint32 passed for a key raises.
jax.config.update("jax_legacy_prng_key", "error")


# A trace is made of millions of small objects that live on, which need not be looked at so often.
gc.collect()
gc.freeze()
gc.set_threshold(100_000, 20, 100)

# Those of a minute or so, which come first, lest one of them run last and alone.
LONGEST = (
    "test_readme.py",
    "test_sharding.py",
    "test_protocol.py",
    "test_pages.py",
    "test_decay_experiments.py",
)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture
def float64():
    """Double precision, for closed forms and finite differences to be compared closely."""
    with jax.enable_x64(True):
        yield


class Quadratic(NamedTuple):
    """A bilevel problem whose every answer is known, in NumPy.

    L_train(w, λ) = mean_i ½‖w − Jλ − x_i‖²_H, so that w*(λ) = Jλ + x̄ with the Jacobian J;
    L_valid(w, λ) = mean_i ½‖w − y_i‖² + ½ρ‖λ‖², so that (JᵀJ + ρI) λ* = Jᵀ(ȳ − x̄).
    """

    problem: Problem
    jacobian: np.ndarray  # J, shape (3, 2)
    hessian: np.ndarray  # H, shape (3, 3)
    ridge: float  # ρ
    train: np.ndarray  # rows x_i, shape (4, 3)
    valid: np.ndarray  # rows y_i, shape (5, 3)

    @property
    def optimum(self):
        normal = self.jacobian.T @ self.jacobian + self.ridge * np.eye(2)
        difference = self.valid.mean(0) - self.train.mean(0)
        return np.linalg.solve(normal, self.jacobian.T @ difference)


@pytest.fixture
def quadratic(float64):
    jacobian = np.array([[1.0, -0.5], [0.25, 0.75], [-1.0, 0.5]])
    hessian = np.array([[1.5, 0.25, 0.0], [0.25, 1.0, -0.5], [0.0, -0.5, 2.0]])
    ridge = 0.1

    def train_loss(params, hyperparams, batch, key):
        residuals = (params - jacobian @ hyperparams)[None] - batch
        return jnp.mean(jnp.sum(residuals @ hessian * residuals, axis=1)) / 2

    def valid_loss(params, hyperparams, batch):
        fit = jnp.mean(jnp.sum((params[None] - batch) ** 2, axis=1))
        return (fit + ridge * jnp.sum(hyperparams**2)) / 2

    rng = np.random.default_rng(0)
    problem = Problem(lambda key: jax.random.normal(key, (3,)), train_loss, valid_loss)
    train, valid = rng.normal(size=(4, 3)), rng.normal(1.0, size=(5, 3))
    return Quadratic(problem, jacobian, hessian, ridge, train, valid)
