"""Algorithm 3 against steps by hand, and against a bilevel optimum in closed form."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from shohypernet import local_response
from shohypernet.samplers import local_gaussian


def test_gradients_in_closed_form(
    quadratic, linear_hypernet, response_gradient, hypergradient, spied, key
):
    problem, sampled = spied(quadratic.problem)
    method = local_response(
        problem,
        linear_hypernet,
        hypernet_optimizer=optax.sgd(0.25),
        hyper_optimizer=optax.sgd(0.5),
        sampler=local_gaussian(0.3),
        samples=4,
    )
    before = method.init(key, jnp.array([1.0, -2.0]))
    after, info = jax.jit(method.step)(key, before, quadratic.train[None], quadratic.valid)
    jax.effects_barrier()

    assert len(np.unique(sampled, axis=0)) == 4
    moved = jax.tree.map(
        lambda old, new: (old - new) / 0.25, before.hypernet_params, after.hypernet_params
    )
    chex.assert_trees_all_close(
        moved, response_gradient(before.hypernet_params, sampled), rtol=1e-10
    )
    # The hypergradient is taken at the new φ.
    expected = hypergradient(after.hypernet_params, before.hyperparams)
    np.testing.assert_allclose((before.hyperparams - after.hyperparams) / 0.5, expected, rtol=1e-10)
    np.testing.assert_allclose(info.hypergradient_norm, np.linalg.norm(expected), rtol=1e-10)


def test_a_round_by_hand(one_weight, key):
    """φ goes to 3/2 and 11/4, and only then is the hypergradient taken: (11/4 − 3)·11/4."""
    method = local_response(
        one_weight.problem,
        one_weight.hypernet,
        **one_weight.optimizers,
        sampler=local_gaussian(0.0),
    )
    state = method.init(key, one_weight.hyperparams)
    state, info = jax.jit(method.step)(key, state, one_weight.train_batches, one_weight.valid_batch)
    np.testing.assert_allclose(state.hypernet_params, 11 / 4, rtol=1e-15)
    np.testing.assert_allclose(state.hyperparams, 1 + 0.1 * 11 / 16, rtol=1e-15)
    np.testing.assert_allclose(method.weights(state), 11 / 4 * 1.06875, rtol=1e-15)
    np.testing.assert_allclose(info.train_loss, (1**2 / 2 + 2.5**2 / 2) / 2, rtol=1e-15)
    np.testing.assert_allclose(info.valid_loss, 0.25**2 / 2, rtol=1e-15)
    np.testing.assert_allclose(info.hypergradient_norm, 11 / 16, rtol=1e-15)


def test_hypernet_optimizer_remembers_between_batches_and_rounds(one_weight, key):
    """Momentum ½ at x = 1: φ 1 → 3/2, then the velocity −1/2 − 1/2·1 takes it to 2."""
    method = local_response(
        one_weight.problem,
        one_weight.hypernet,
        hypernet_optimizer=optax.sgd(0.5, momentum=0.5),
        hyper_optimizer=optax.sgd(0.0),
        sampler=local_gaussian(0.0),
    )
    start = method.init(key, one_weight.hyperparams)
    in_one_round, _ = jax.jit(method.step)(key, start, jnp.ones(2), one_weight.valid_batch)
    state, _ = jax.jit(method.step)(key, start, jnp.ones(1), one_weight.valid_batch)
    in_two_rounds, _ = jax.jit(method.step)(key, state, jnp.ones(1), one_weight.valid_batch)
    np.testing.assert_allclose(in_one_round.hypernet_params, 2.0, rtol=1e-15)
    np.testing.assert_allclose(in_two_rounds.hypernet_params, 2.0, rtol=1e-15)


def test_samples_follow_the_moving_hyperparameters(quadratic, linear_hypernet, spied, key):
    problem, sampled = spied(quadratic.problem)
    method = local_response(
        problem,
        linear_hypernet,
        hypernet_optimizer=optax.sgd(0.0),
        hyper_optimizer=optax.sgd(0.5),
        sampler=local_gaussian(1e-6),
        samples=2,
    )
    state = method.init(key, jnp.array([1.0, -2.0]))
    for _ in range(2):
        center = np.asarray(state.hyperparams)
        state, _ = jax.jit(method.step)(key, state, quadratic.train[None], quadratic.valid)
        jax.effects_barrier()
        np.testing.assert_allclose(sampled[-2:], [center, center], atol=1e-5)
    assert np.abs(center - [1.0, -2.0]).max() > 0.1


def test_converges_to_the_bilevel_optimum(quadratic, linear_hypernet, key):
    """Near λ̂ the hypernet learns the best response's Jacobian, which is the same everywhere."""
    method = local_response(
        quadratic.problem,
        linear_hypernet,
        hypernet_optimizer=optax.sgd(0.1),
        hyper_optimizer=optax.sgd(0.1),
        sampler=local_gaussian(0.5),
        samples=4,
    )
    batches = jnp.broadcast_to(quadratic.train, (5, *quadratic.train.shape))

    @jax.jit
    def run(state, keys):
        return jax.lax.scan(
            lambda state, key: method.step(key, state, batches, quadratic.valid), state, keys
        )

    state, infos = run(method.init(key, jnp.array([2.0, -1.0])), jax.random.split(key, 1_000))
    np.testing.assert_allclose(state.hypernet_params["kernel"], quadratic.jacobian, atol=1e-9)
    np.testing.assert_allclose(state.hypernet_params["bias"], quadratic.train.mean(0), atol=1e-9)
    np.testing.assert_allclose(state.hyperparams, quadratic.optimum, atol=1e-9)
    assert infos.hypergradient_norm[-1] < 1e-9
