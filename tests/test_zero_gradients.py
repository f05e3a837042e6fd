"""Derivatives through Adam where a gradient is exactly zero: √v has none at v = 0."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from shohypernet import Problem, inner_loop
from shohypernet.hypergradients import back_optimization, drmad, forward, unrolled

STEPS = 4
# The second pixel is never lit, so that its weight, zero at first, never has a gradient.
INPUTS = np.array([[1.0, 0.0], [2.0, 0.0], [-1.0, 0.0]])
TARGETS = np.array([1.0, 3.0, -2.0])


def error(params, batch):
    inputs, targets = batch
    return jnp.mean((inputs @ params - targets) ** 2)


PROBLEM = Problem(
    lambda key: jnp.zeros(2),
    lambda params, log_decay, batch, key: (
        error(params, batch) + jnp.exp(log_decay) * jnp.sum(params**2)
    ),
    lambda params, log_decay, batch: error(params, batch),
)


@pytest.mark.parametrize("optimizer", [optax.adam(0.1), optax.rmsprop(0.1), optax.adamw(0.1)])
def test_hypergradients_are_finite_and_those_of_finite_differences(optimizer, float64, key):
    log_decay = jnp.float64(-1.0)
    batch = INPUTS, TARGETS
    batches = jax.tree.map(lambda leaf: np.stack([leaf] * STEPS), batch)
    start = inner_loop.init(PROBLEM, optimizer, key, log_decay)

    @jax.jit
    def estimates(log_decay):
        arguments = PROBLEM, optimizer, log_decay, start, batches, batch, key
        return [m.hypergradient(*arguments) for m in (unrolled, forward, back_optimization, drmad)]

    exact, *_ = estimates(log_decay)
    ahead, behind = (estimates(log_decay + step)[0].valid_loss for step in (1e-5, -1e-5))
    slope = (ahead - behind) / 2e-5
    for made in estimates(log_decay)[:3]:
        np.testing.assert_allclose(made.gradient, slope, rtol=1e-6)
    assert np.isfinite(estimates(log_decay)[3].gradient)
    # The steps themselves are those of the optimizer as it is.
    params, state = jnp.zeros(2), optimizer.init(jnp.zeros(2))
    for _ in range(STEPS):
        gradient = jax.grad(PROBLEM.train_loss)(params, log_decay, batch, key)
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(exact.state.params, params, rtol=1e-12)
