"""The shared updates: response losses against hand sums, gradients against finite differences."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from shohypernet import (
    Problem,
    global_response,
    local_response,
    simultaneous,
)
from shohypernet.hypernets import Hypernet
from shohypernet.hypertraining import shared_minibatch, sliced_minibatch
from shohypernet.samplers import gaussian, local_gaussian

METHODS = {
    "global_response": partial(global_response, sampler=gaussian(), hypernet_rounds=1),
    "local_response": partial(local_response, sampler=local_gaussian(0.5)),
    "simultaneous": simultaneous,
}


# --- what an update averages ------------------------------------------------------------------


@pytest.fixture
def weighted():
    """L = λ mean_i(w·x_i + y_i) with w = (φλ, 2φλ), and a minibatch of six."""
    problem = Problem(
        init=lambda key: jnp.zeros(2),
        train_loss=lambda w, lam, batch, key: lam * jnp.mean(batch["x"] @ w + batch["y"]),
        valid_loss=lambda w, lam, batch: jnp.zeros(()),
    )
    hypernet = Hypernet(
        init=lambda key, params, lam: jnp.ones(()),
        apply=lambda phi, lam: phi * lam * jnp.array([1.0, 2.0]),
    )
    x = np.array([[1, 0], [2, 1], [0, 3], [-1, 2], [4, 4], [0, -2]], np.float32)
    return problem, hypernet, {"x": x, "y": np.array([1, 2, 3, 4, 5, 6], np.float32)}


def test_shared_minibatch_gives_every_sample_all_examples(weighted, key):
    problem, hypernet, batch = weighted
    sampled = jnp.array([1.0, -2.0, 3.0])
    loss = shared_minibatch(problem, hypernet, jnp.float32(0.5), sampled, batch, key)
    # x·(1, 2) sums to 22 over the six rows, and y to 21; with φ = ½: λ(½λ·22 + 21)/6.
    expected = np.mean([1 * (11 + 21) / 6, -2 * (-22 + 21) / 6, 3 * (33 + 21) / 6])
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_sliced_minibatch_gives_each_sample_its_own_examples(weighted, key):
    problem, hypernet, batch = weighted
    sampled = jnp.array([1.0, -2.0, 3.0])
    loss = sliced_minibatch(problem, hypernet, jnp.float32(0.5), sampled, batch, key)
    # Two rows each: x·(1, 2) is 1 + 4, 6 + 3 and 12 − 4 there, and y 1 + 2, 3 + 4 and 5 + 6.
    expected = np.mean([1 * (2.5 + 3) / 2, -2 * (-9 + 7) / 2, 3 * (12 + 11) / 2])
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_sliced_minibatch_refuses_uneven_slices(weighted, key):
    with pytest.raises(ValueError, match=r"minibatch of 6 into 4 slices"):
        sliced_minibatch(*weighted[:2], jnp.float32(1), jnp.ones(4), weighted[2], key)


@pytest.mark.parametrize("response_loss", [shared_minibatch, sliced_minibatch])
def test_each_sample_has_noise_of_its_own(weighted, response_loss, key):
    """With λ = ±1 equal noise would cancel."""
    problem, hypernet, batch = weighted
    noisy = problem._replace(train_loss=lambda w, lam, batch, key: lam * jax.random.uniform(key))
    loss = response_loss(noisy, hypernet, jnp.float32(1), jnp.array([1.0, -1.0]), batch, key)
    assert loss != 0


@pytest.mark.parametrize("name", ["global_response", "local_response"])
def test_methods_descend_the_response_loss_that_they_are_given(name, one_weight, key):
    """Mean λ_k of K = 3, all at λ̂ = 1, so that the loss is 3φ and φ goes from 1 to 1 − ½·3."""
    method = METHODS[name](
        one_weight.problem,
        one_weight.hypernet,
        **one_weight.optimizers,
        sampler=lambda key, hyperparams: hyperparams,
        samples=3,
        response_loss=lambda problem, hypernet, phi, sampled, batch, key: phi * jnp.sum(sampled),
    )
    state = method.init(key, one_weight.hyperparams)
    state, info = jax.jit(method.step)(key, state, jnp.ones(1), one_weight.valid_batch)
    np.testing.assert_allclose(state.hypernet_params, -0.5, rtol=1e-15)
    np.testing.assert_allclose(info.train_loss, 3.0, rtol=1e-15)


@pytest.mark.parametrize("name", ["global_response", "local_response"])
def test_every_inner_step_draws_samples_of_its_own(name, one_weight, spied, key):
    problem, sampled = spied(one_weight.problem)
    method = METHODS[name](problem, one_weight.hypernet, **one_weight.optimizers, samples=3)
    state = method.init(key, one_weight.hyperparams)
    jax.jit(method.step)(key, state, one_weight.train_batches, one_weight.valid_batch)
    jax.effects_barrier()
    assert len(np.unique(sampled)) == 3 * 2


@pytest.mark.parametrize("name", ["global_response", "local_response"])
def test_no_samples_are_refused(name, one_weight):
    with pytest.raises(ValueError, match="samples to be a whole number >= 1, got 0"):
        METHODS[name](one_weight.problem, one_weight.hypernet, **one_weight.optimizers, samples=0)


# --- gradients --------------------------------------------------------------------------------


@pytest.fixture
def nonlinear(float64):
    """A net of one tanh unit with two decays, the first of which enters L_valid too."""

    def predict(params, inputs):
        return jnp.tanh(inputs @ params["in"]) * params["out"]

    def train_loss(params, hyperparams, batch, key):
        inputs, targets = batch
        error = jnp.mean((predict(params, inputs) - targets) ** 2)
        decay = jnp.exp(hyperparams["in"]) @ params["in"] ** 2
        return error + decay + jnp.exp(hyperparams["out"]) * params["out"] ** 2

    def valid_loss(params, hyperparams, batch):
        inputs, targets = batch
        error = jnp.mean((predict(params, inputs) - targets) ** 2)
        return error + jnp.sum(jnp.sin(hyperparams["in"]))

    def apply(phi, hyperparams):
        flat = jnp.append(hyperparams["in"], hyperparams["out"])
        weights = phi["after"] @ jnp.tanh(phi["before"] @ flat)
        return {"in": weights[:2], "out": weights[2]}

    def init(key, params, hyperparams):
        before, after = jax.random.normal(key, (2, 3, 3))
        return {"before": before, "after": after}

    rng = np.random.default_rng(0)
    train, valid = ((rng.normal(size=(4, 2)), rng.normal(size=4)) for _ in range(2))
    problem = Problem(lambda key: {"in": jnp.ones(2), "out": jnp.ones(())}, train_loss, valid_loss)
    return problem, Hypernet(init, apply), train, valid


def central_differences(function, tree, width=1e-5):
    """∂function/∂tree, flat; wrong by about width² and by rounding over width, 1e-10 each."""
    flat, unravel = ravel_pytree(tree)
    steps = width * np.eye(flat.size)
    values = jax.jit(jax.vmap(lambda x: function(unravel(x))))
    ahead, behind = values(flat[None] + steps), values(flat[None] - steps)
    return np.asarray(ahead - behind) / (2 * width)


def test_central_differences_of_a_cubic(float64):
    differences = central_differences(lambda x: jnp.sum(x**3), jnp.array([1.0, 2.0]))
    np.testing.assert_allclose(differences, [3, 12], rtol=1e-8)


@pytest.mark.parametrize("name", METHODS)
def test_both_gradients_against_finite_differences(name, nonlinear, spied, key):
    problem, hypernet, train, valid = nonlinear
    observed, sampled = spied(problem)
    rate = 0.125
    method = METHODS[name](
        observed, hypernet, hypernet_optimizer=optax.sgd(rate), hyper_optimizer=optax.sgd(rate)
    )
    batches = jax.tree.map(lambda leaf: leaf[None], train), valid

    def slope(before, after):
        return (ravel_pytree(before)[0] - ravel_pytree(after)[0]) / rate

    before = method.init(key, {"in": jnp.array([0.5, -1.0]), "out": jnp.array(-0.5)})
    after, _ = jax.jit(method.step)(key, before, *batches)
    jax.effects_barrier()
    lambdas = jax.tree.map(lambda *leaves: np.stack(leaves), *sampled)

    def response_loss(phi):
        losses = jax.vmap(lambda lam: problem.train_loss(hypernet.apply(phi, lam), lam, train, key))
        return jnp.mean(losses(lambdas))

    np.testing.assert_allclose(
        slope(before.hypernet_params, after.hypernet_params),
        central_differences(response_loss, before.hypernet_params),
        atol=1e-8,
    )

    if name == "global_response":
        after, _ = jax.jit(method.step)(key, after, *batches)
    phi = (before if name == "simultaneous" else after).hypernet_params
    np.testing.assert_allclose(
        slope(before.hyperparams, after.hyperparams),
        central_differences(
            lambda lam: problem.valid_loss(hypernet.apply(phi, lam), lam, valid),
            before.hyperparams,
        ),
        atol=1e-8,
    )
