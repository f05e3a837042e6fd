"""Algorithm 2 against steps by hand, and against a best response in closed form."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from shohypernet import global_response
from shohypernet.samplers import gaussian


def test_gradients_in_closed_form(
    quadratic, linear_hypernet, response_gradient, hypergradient, spied, key
):
    problem, seen = spied(quadratic.problem)
    method = global_response(
        problem,
        linear_hypernet,
        hypernet_optimizer=optax.sgd(0.25),
        hyper_optimizer=optax.sgd(0.5),
        sampler=gaussian(5.0, 0.1),
        hypernet_rounds=1,
        samples=4,
    )
    start = method.init(key, jnp.array([1.0, -2.0]))
    learnt, _ = jax.jit(method.step)(key, start, quadratic.train[None], quadratic.valid)
    jax.effects_barrier()
    sampled = seen.copy()

    assert len(np.unique(sampled, axis=0)) == 4
    np.testing.assert_allclose(sampled, np.full((4, 2), 5.0), atol=0.5)  # five deviations
    moved = jax.tree.map(
        lambda old, new: (old - new) / 0.25, start.hypernet_params, learnt.hypernet_params
    )
    chex.assert_trees_all_close(
        moved, response_gradient(start.hypernet_params, sampled), rtol=1e-10
    )

    moved, info = jax.jit(method.step)(key, learnt, quadratic.train[None], quadratic.valid)
    expected = hypergradient(learnt.hypernet_params, start.hyperparams)
    np.testing.assert_allclose((learnt.hyperparams - moved.hyperparams) / 0.5, expected, rtol=1e-10)
    np.testing.assert_allclose(info.hypergradient_norm, np.linalg.norm(expected), rtol=1e-10)


def test_rounds_by_hand(one_weight, key):
    """Round 1 takes φ to 3/2 and 11/4; round 2 moves λ̂ alone, by ⅒(11/4 − 3)·11/4."""
    method = global_response(
        one_weight.problem,
        one_weight.hypernet,
        **one_weight.optimizers,
        sampler=gaussian(1.0, 0.0),
        hypernet_rounds=1,
    )
    batches = one_weight.train_batches, one_weight.valid_batch
    state = method.init(key, one_weight.hyperparams)

    state, info = jax.jit(method.step)(key, state, *batches)
    np.testing.assert_allclose(state.hypernet_params, 11 / 4, rtol=1e-15)
    np.testing.assert_array_equal(state.hyperparams, 1.0)
    np.testing.assert_allclose(info.train_loss, (1**2 / 2 + 2.5**2 / 2) / 2, rtol=1e-15)
    np.testing.assert_allclose(info.valid_loss, 0.25**2 / 2, rtol=1e-15)
    np.testing.assert_array_equal(info.hypergradient_norm, 0.0)

    state, info = jax.jit(method.step)(key, state, *batches)
    np.testing.assert_allclose(state.hypernet_params, 11 / 4, rtol=1e-15)
    np.testing.assert_allclose(state.hyperparams, 1 + 0.1 * 11 / 16, rtol=1e-15)
    np.testing.assert_allclose(info.valid_loss, 0.25**2 / 2, rtol=1e-15)
    np.testing.assert_allclose(info.hypergradient_norm, 11 / 16, rtol=1e-15)
    np.testing.assert_array_equal(state.rounds, 2)


def test_each_phase_leaves_the_other_s_variables_and_optimizer_alone(
    quadratic, linear_hypernet, key
):
    method = global_response(
        quadratic.problem,
        linear_hypernet,
        hypernet_optimizer=optax.adam(0.1),
        hyper_optimizer=optax.adam(0.1),
        sampler=gaussian(),
        hypernet_rounds=2,
    )
    step = jax.jit(method.step)
    states = [method.init(key, jnp.array([1.0, -2.0]))]
    for _ in range(4):
        state, _ = step(key, states[-1], quadratic.train[None], quadratic.valid)
        states.append(state)

    def moved(before, after, *fields):
        pairs = ((getattr(before, field), getattr(after, field)) for field in fields)
        return any(
            not np.array_equal(old, new)
            for pair in pairs
            for old, new in zip(*map(jax.tree.leaves, pair), strict=True)
        )

    hypernet, hyper = ("hypernet_params", "hypernet_opt_state"), ("hyperparams", "hyper_opt_state")
    for before, after, moving, resting in (
        (states[0], states[1], hypernet, hyper),
        (states[1], states[2], hypernet, hyper),
        (states[2], states[3], hyper, hypernet),
        (states[3], states[4], hyper, hypernet),
    ):
        assert all(moved(before, after, field) for field in moving)
        assert not moved(before, after, *resting)


def test_converges_to_the_best_response_over_the_support_and_then_to_the_optimum(
    quadratic, linear_hypernet, key
):
    method = global_response(
        quadratic.problem,
        linear_hypernet,
        hypernet_optimizer=optax.sgd(0.1),
        hyper_optimizer=optax.sgd(0.1),
        sampler=gaussian(0.0, 1.0),
        hypernet_rounds=200,
        samples=8,
    )
    batches = jnp.broadcast_to(quadratic.train, (5, *quadratic.train.shape))

    @jax.jit
    def run(state, keys):
        return jax.lax.scan(
            lambda state, key: method.step(key, state, batches, quadratic.valid), state, keys
        )

    state, _ = run(method.init(key, jnp.array([2.0, -1.0])), jax.random.split(key, 600))
    support = np.random.default_rng(1).normal(size=(20, 2))
    np.testing.assert_allclose(
        jax.vmap(linear_hypernet.apply, (None, 0))(state.hypernet_params, support),
        support @ quadratic.jacobian.T + quadratic.train.mean(0),
        atol=1e-9,
    )
    np.testing.assert_allclose(state.hyperparams, quadratic.optimum, atol=1e-9)


def test_states_of_unequal_phase_under_vmap(quadratic, linear_hypernet, key):
    method = global_response(
        quadratic.problem,
        linear_hypernet,
        hypernet_optimizer=optax.sgd(0.1),
        hyper_optimizer=optax.sgd(0.1),
        sampler=gaussian(),
        hypernet_rounds=1,
    )
    first = method.init(key, jnp.array([1.0, -2.0]))
    step = jax.jit(method.step)
    second, _ = step(key, first, quadratic.train[None], quadratic.valid)
    together = jax.vmap(step, in_axes=(None, 0, None, None))(
        key,
        jax.tree.map(lambda *leaves: jnp.stack(leaves), first, second),
        quadratic.train[None],
        quadratic.valid,
    )
    for index, state in enumerate((first, second)):
        alone = step(key, state, quadratic.train[None], quadratic.valid)
        mapped = jax.tree.map(lambda leaf, index=index: leaf[index], together)
        chex.assert_trees_all_close(mapped, alone, rtol=1e-12)


def test_without_hypernet_rounds_it_searches_at_once(one_weight, key):
    method = global_response(
        one_weight.problem,
        one_weight.hypernet,
        **one_weight.optimizers,
        sampler=gaussian(),
        hypernet_rounds=0,
    )
    state = method.init(key, one_weight.hyperparams)
    state, _ = jax.jit(method.step)(key, state, one_weight.train_batches, one_weight.valid_batch)
    np.testing.assert_array_equal(state.hypernet_params, 1.0)
    np.testing.assert_allclose(state.hyperparams, 1.2, rtol=1e-15)


def test_negative_hypernet_rounds_are_refused(one_weight):
    with pytest.raises(ValueError, match="hypernet_rounds to be a whole number >= 0, got -1"):
        global_response(
            one_weight.problem,
            one_weight.hypernet,
            **one_weight.optimizers,
            sampler=gaussian(),
            hypernet_rounds=-1,
        )
