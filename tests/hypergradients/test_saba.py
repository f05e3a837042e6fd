"""SABA on quadratics whose curvature differs from example to example: the gradient is known."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import shohypernet as shn
from shohypernet import Problem
from shohypernet.hypergradients import saba

EXAMPLES, RIDGE = 32, 0.1


class Noisy(NamedTuple):
    """L_train = mean_i ½ wᵀA_i w − wᵀ(B_i λ + b_i), L_valid = mean_j ½ wᵀD_j w − d_jᵀw + ½ρ‖λ‖²."""

    problem: Problem
    data: tuple

    def gradient(self, lam):
        """dL_valid/dλ in closed form."""
        (bend, mixed, shift), (valid_bend, valid_shift) = (
            [leaf.mean(0) for leaf in split] for split in self.data[:2]
        )
        best = np.linalg.solve(bend, mixed @ lam + shift)
        slope = valid_bend @ best - valid_shift
        return RIDGE * lam + mixed.T @ np.linalg.solve(bend, slope)


@pytest.fixture
def noisy(float64):
    rng = np.random.default_rng(0)

    def curvatures():
        factors = rng.normal(size=(EXAMPLES, 3, 3))
        return factors @ factors.mT / 3 + 0.5 * np.eye(3)

    def quadratic(bend, slope, params):
        return jnp.mean(params @ bend @ params / 2 - slope @ params)

    def train_loss(params, lam, batch, key):
        bend, mixed, shift = batch
        return quadratic(bend, mixed @ lam + shift, params)

    def valid_loss(params, lam, batch):
        bend, shift = batch[0], batch[-1]
        return quadratic(bend, shift, params) + RIDGE * jnp.sum(lam**2) / 2

    train = curvatures(), rng.normal(size=(EXAMPLES, 3, 2)), rng.normal(size=(EXAMPLES, 3))
    valid = curvatures(), rng.normal(size=(EXAMPLES, 3))
    problem = Problem(lambda key: jnp.zeros(3), train_loss, valid_loss)
    return Noisy(problem, (train, valid, valid))


OPTIMIZERS = {"optimizer": optax.sgd(0.05), "hyper_optimizer": optax.sgd(0.02)}
START = np.array([2.0, -1.0])


def gradient_norm(noisy, method, **sizes):
    result = shn.fit(
        noisy.problem, method, noisy.data, jnp.asarray(START), steps=8_000, progress=False, **sizes
    )
    return np.linalg.norm(noisy.gradient(np.asarray(result.hyperparams)))


def test_constant_step_sizes_reach_the_optimum_where_those_of_soba_end_in_noise(noisy):
    at_start = np.linalg.norm(noisy.gradient(START))
    plain = gradient_norm(
        noisy, shn.soba(noisy.problem, **OPTIMIZERS), train_batch_size=1, valid_batch_size=1
    )
    reduced = gradient_norm(
        noisy,
        shn.saba(noisy.problem, train_blocks=EXAMPLES, valid_blocks=EXAMPLES, **OPTIMIZERS),
    )
    assert 1e-3 < plain < at_start
    assert reduced < 1e-6


def test_one_block_is_soba_on_all_examples(noisy, key):
    plain = shn.soba(noisy.problem, **OPTIMIZERS)
    whole = shn.saba(noisy.problem, train_blocks=1, valid_blocks=1, **OPTIMIZERS)
    train, valid, _ = noisy.data
    batches = jax.tree.map(lambda leaf: leaf[None], train)
    states = [method.init(key, jnp.asarray(START)) for method in (plain, whole)]
    for _ in range(3):
        states = [
            method.step(key, state, batches, valid)[0]
            for method, state in zip((plain, whole), states, strict=True)
        ]
    np.testing.assert_allclose(states[1].hyperparams, states[0].hyperparams, rtol=1e-12)
    np.testing.assert_allclose(states[1].adjoint, states[0].adjoint, rtol=1e-12)


def test_an_estimate_is_unbiased_whatever_is_remembered(float64):
    rng = np.random.default_rng(0)
    remembered, now = rng.normal(size=(2, 4, 3))
    memory = saba.Memory(jnp.asarray(remembered), jnp.asarray(remembered.mean(0)))
    found = [saba.corrected(memory, block, jnp.asarray(now[block])) for block in range(4)]
    estimates = np.array([estimate for estimate, _ in found])
    np.testing.assert_allclose(estimates.mean(0), now.mean(0), rtol=1e-12)
    expected = remembered.copy()
    expected[2] = now[2]
    np.testing.assert_allclose(found[2][1].blocks, expected, rtol=1e-12)
    np.testing.assert_allclose(found[2][1].mean, expected.mean(0), rtol=1e-12)


def test_what_it_refuses(noisy, key):
    method = shn.saba(noisy.problem, train_blocks=5, valid_blocks=1, **OPTIMIZERS)
    run = {"hyperparams": jnp.asarray(START), "steps": 2, "progress": False}
    with pytest.raises(ValueError, match="train_blocks to divide the 32 examples into equal"):
        shn.fit(noisy.problem, method, noisy.data, **run)
    with pytest.raises(ValueError, match=r"by itself.*fit\(\) without train_batch_size=4\."):
        shn.fit(noisy.problem, method, noisy.data, train_batch_size=4, **run)
