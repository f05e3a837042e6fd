"""Algorithm 4 against steps by hand, and against gradient descent on the exact best response."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from shohypernet import simultaneous


def test_gradients_in_closed_form(
    quadratic, linear_hypernet, response_gradient, hypergradient, spied, key
):
    problem, seen = spied(quadratic.problem)
    method = simultaneous(
        problem,
        linear_hypernet,
        hypernet_optimizer=optax.sgd(0.25),
        hyper_optimizer=optax.sgd(0.5),
    )
    before = method.init(key, jnp.array([1.0, -2.0]))
    after, info = jax.jit(method.step)(key, before, quadratic.train[None], quadratic.valid)
    jax.effects_barrier()

    np.testing.assert_array_equal(seen, [before.hyperparams])
    moved = jax.tree.map(
        lambda old, new: (old - new) / 0.25, before.hypernet_params, after.hypernet_params
    )
    chex.assert_trees_all_close(
        moved, response_gradient(before.hypernet_params, [before.hyperparams]), rtol=1e-10
    )
    # The hypergradient is taken at the old φ.
    expected = hypergradient(before.hypernet_params, before.hyperparams)
    np.testing.assert_allclose((before.hyperparams - after.hyperparams) / 0.5, expected, rtol=1e-10)
    np.testing.assert_allclose(info.hypergradient_norm, np.linalg.norm(expected), rtol=1e-10)


def test_a_round_by_hand(one_weight, key):
    """φ goes to 3/2 and 11/4, both at λ̂ = 1; the hypergradient is that at φ = 1: (1 − 3)·1."""
    method = simultaneous(one_weight.problem, one_weight.hypernet, **one_weight.optimizers)
    state = method.init(key, one_weight.hyperparams)
    state, info = jax.jit(method.step)(key, state, one_weight.train_batches, one_weight.valid_batch)
    np.testing.assert_allclose(state.hypernet_params, 11 / 4, rtol=1e-15)
    np.testing.assert_allclose(state.hyperparams, 1.2, rtol=1e-15)
    np.testing.assert_allclose(method.weights(state), 11 / 4 * 1.2, rtol=1e-15)
    np.testing.assert_allclose(info.train_loss, (1**2 / 2 + 2.5**2 / 2) / 2, rtol=1e-15)
    np.testing.assert_allclose(info.valid_loss, 2**2 / 2, rtol=1e-15)
    np.testing.assert_allclose(info.hypergradient_norm, 2.0, rtol=1e-15)


def test_on_the_best_response_it_is_exact_gradient_descent(quadratic, linear_hypernet, key):
    """At W = J and b = x̄ the hypernet is right everywhere, so only λ̂ moves, down L_valid(w*(λ))."""
    method = simultaneous(
        quadratic.problem,
        linear_hypernet,
        hypernet_optimizer=optax.sgd(0.1),
        hyper_optimizer=optax.sgd(0.2),
    )
    exact = {
        "kernel": jnp.asarray(quadratic.jacobian),
        "bias": jnp.asarray(quadratic.train.mean(0)),
    }
    hyperparams = np.array([2.0, -1.0])
    state = method.init(key, jnp.asarray(hyperparams))._replace(hypernet_params=exact)

    normal = quadratic.jacobian.T @ quadratic.jacobian + quadratic.ridge * np.eye(2)
    step = jax.jit(method.step)
    for _ in range(3):
        state, _ = step(key, state, quadratic.train[None], quadratic.valid)
        hyperparams = hyperparams - 0.2 * normal @ (hyperparams - quadratic.optimum)
        np.testing.assert_allclose(state.hyperparams, hyperparams, rtol=1e-10)
    np.testing.assert_allclose(state.hypernet_params["kernel"], quadratic.jacobian, atol=1e-14)


def test_with_hyperparameters_at_rest_it_learns_the_best_response_there(
    quadratic, linear_hypernet, key
):
    method = simultaneous(
        quadratic.problem,
        linear_hypernet,
        hypernet_optimizer=optax.sgd(0.1),
        hyper_optimizer=optax.sgd(0.0),
    )
    hyperparams = jnp.array([2.0, -1.0])
    batches = jnp.broadcast_to(quadratic.train, (300, *quadratic.train.shape))
    state, _ = jax.jit(method.step)(key, method.init(key, hyperparams), batches, quadratic.valid)
    best_response = quadratic.jacobian @ np.array([2.0, -1.0]) + quadratic.train.mean(0)
    np.testing.assert_allclose(method.weights(state), best_response, atol=1e-9)
