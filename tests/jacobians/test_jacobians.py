"""Response Jacobians against the exact one of a linear model, and what they promise."""

import functools
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from shohypernet import (
    Problem,
    hypernets,
    jacobians,
    losses,
    penalties,
    ridge,
    supervised,
)
from shohypernet.batches import Data, Examples
from shohypernet.hyperparameters import log
from shohypernet.jacobians import Point, ResponseJacobian
from shohypernet.models import MLP
from shohypernet.problem import unconstrained

PIXELS, CLASSES = 4, 3


class Exact(NamedTuple):
    """A linear model at its best response, where the Jacobian is known, and 12 examples."""

    problem: Problem
    ridge: ridge.Ridge
    log_decay: np.ndarray
    point: Point
    batches: Any  # the same examples, in 3 training batches

    def tree(self, array):
        return {"Dense_0": {"kernel": jnp.asarray(array[:-1]), "bias": jnp.asarray(array[-1])}}

    def array(self, tree):
        return np.concatenate([tree["Dense_0"]["kernel"], tree["Dense_0"]["bias"][None]])


@pytest.fixture(scope="module")
def exact():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        splits = [
            Examples(rng.normal(size=(n, PIXELS)), rng.normal(size=(n, CLASSES)))
            for n in (12, 9, 5)
        ]
        data = Data(*splits)
        problem = unconstrained(
            supervised(
                MLP(CLASSES),
                data.train.inputs[:1],
                losses.mean_squared_error,
                lambda params, decay: penalties.weight_decay(params, decay) / CLASSES,
                space=log(),
            )
        )
        linear = ridge.ridge(data)
        log_decay = rng.normal(-1.0, 1.0, size=(PIXELS + 1, CLASSES))
        made = Exact(problem, linear, log_decay, None, None)  # pyright: ignore
        weights = made.tree(ridge.best_response(linear, log_decay))
        batches = jax.tree.map(lambda x: jnp.asarray(x).reshape(3, 4, -1), data.train)
        whole = jax.tree.map(lambda x: jnp.asarray(x)[None], data.train)
        point = Point(weights, made.tree(log_decay), whole, jax.random.key(0))
        yield made._replace(point=point, batches=batches)


def updated(jacobian: ResponseJacobian, exact: Exact, rounds: int) -> Any:
    weights, hyperparams, _, key = exact.point
    state = jacobian.init(exact.problem, key, weights, hyperparams)

    def update(state, key):
        return jacobian.update(exact.problem, key, state, weights, hyperparams, exact.batches)

    return jax.lax.scan(update, state, jax.random.split(key, rounds))


@pytest.fixture(scope="module")
def kronecker(exact):
    jacobian = jacobians.kronecker(iterations=15, damping=0.0)
    return jacobian, updated(jacobian, exact, 1)[0]


def test_kronecker_s_vjp_is_the_exact_hypergradient(exact, kronecker):
    jacobian, state = kronecker
    gram, cross, _ = exact.ridge.valid
    slope = 2 / CLASSES * (gram @ exact.array(exact.point.params) - cross)
    found, _ = jacobian.vjp(exact.problem, state, exact.point, exact.tree(slope))
    _, expected = ridge.hypergradient(exact.ridge, exact.log_decay)
    np.testing.assert_allclose(exact.array(found), expected, rtol=1e-6, atol=1e-9)


def test_kronecker_s_jvp_is_the_slope_of_the_best_response(exact, kronecker):
    jacobian, state = kronecker
    direction = np.random.default_rng(1).normal(size=exact.log_decay.shape)
    found = jacobian.jvp(exact.problem, state, exact.point, exact.tree(direction))
    width = 1e-5
    ends = [
        ridge.best_response(exact.ridge, exact.log_decay + sign * width * direction)
        for sign in (1, -1)
    ]
    expected = (ends[0] - ends[1]) / (2 * width)
    np.testing.assert_allclose(exact.array(found), expected, rtol=1e-6, atol=1e-8)


def test_one_iteration_is_enough_for_one_decay(exact):
    jacobian = jacobians.kronecker(iterations=1, damping=0.0)
    state, _ = updated(jacobian, exact, 1)
    weights = exact.tree(ridge.best_response(exact.ridge, -1.0))
    point = exact.point._replace(params=weights, hyperparams=jnp.float64(-1.0))
    gram, cross, _ = exact.ridge.valid
    slope = 2 / CLASSES * (gram @ exact.array(weights) - cross)
    found, _ = jacobian.vjp(exact.problem, state, point, exact.tree(slope))
    _, expected = ridge.hypergradient(exact.ridge, -1.0)
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_kronecker_refreshes_when_it_should_and_averages(exact):
    jacobian = jacobians.kronecker(refresh_every=5, window=3)
    weights, hyperparams, _, key = exact.point
    state, seen = jacobian.init(exact.problem, key, weights, hyperparams), []
    update = jax.jit(functools.partial(jacobian.update, exact.problem))
    scales = (1.0, 2.0, 3.0, 9.0, 4.0, 5.0, 9.0, 9.0)  # of the inputs
    for scale in scales:
        inputs, targets = exact.batches
        batches = Examples(scale * inputs, targets)
        state, evaluations = update(key, state, weights, hyperparams, batches)
        seen.append(int(evaluations))
    # In rounds 0, 1, 2, 4, and then every fifth; each of three batches once.
    assert seen == [3, 3, 3, 0, 3, 3, 0, 0]
    mean = np.mean(np.square([1, 2, 3]))
    for scale in (4, 5):
        mean += (scale**2 - mean) / 3
    rows = exact.batches.inputs.reshape(-1, PIXELS)
    expected = mean * rows.T @ rows / len(rows)
    np.testing.assert_allclose(state.average.layers[0].inputs[:-1, :-1], expected, rtol=1e-6)


def test_an_estimate_that_is_not_finite_is_left_out_and_counted(exact):
    jacobian = jacobians.kronecker(refresh_every=1)
    weights, hyperparams, _, key = exact.point
    update = jax.jit(functools.partial(jacobian.update, exact.problem))
    state = jacobian.init(exact.problem, key, weights, hyperparams)
    before, _ = update(key, state, weights, hyperparams, exact.batches)
    corrupted = exact.batches._replace(inputs=exact.batches.inputs.at[1, 2].set(jnp.nan))
    after, _ = update(key, before, weights, hyperparams, corrupted)
    chex.assert_trees_all_equal((after.average, after.bases), (before.average, before.bases))
    assert (int(after.refreshes), int(after.rejected), int(after.rounds)) == (1, 1, 2)
    again, _ = update(key, after, weights, hyperparams, exact.batches)
    assert (int(again.refreshes), int(again.rejected)) == (2, 1)


def test_the_tracked_adjoint_ends_at_the_gauss_newton_curvature_s_own(float64):
    """A network, where factors alone are wrong: its hypergradient by a dense matrix."""
    rng = np.random.default_rng(0)
    inputs = jnp.asarray(rng.normal(size=(12, PIXELS)))
    labels = jnp.asarray(np.eye(CLASSES)[rng.integers(0, CLASSES, 12)])
    model = MLP(CLASSES, (3,), init_scale=0.7)

    def train_loss(params, hyperparams, batch, key):
        made = model.apply({"params": params}, batch[0])
        loss = optax.softmax_cross_entropy(made, batch[1]).mean()
        return loss + penalties.weight_decay(params, jax.tree.map(jnp.exp, hyperparams))

    problem = Problem(lambda key: model.init(key, inputs)["params"], train_loss, None)
    key = jax.random.key(0)
    params = jax.tree.map(lambda leaf: leaf.astype(float), problem.init(key))
    hyperparams = jax.tree.map(lambda leaf: jnp.full(leaf.shape, -2.0), params)
    cotangent = optax.tree.random_like(key, params)
    flat, unravel = ravel_pytree(params)
    made = model.apply({"params": params}, inputs)
    jacobian = jax.jacobian(lambda w: model.apply({"params": unravel(w)}, inputs).ravel())(flat)
    odds = np.asarray(jax.nn.softmax(made))
    bend = jax.scipy.linalg.block_diag(*(np.diag(p) - np.outer(p, p) for p in odds)) / 12
    decay = np.exp(-2.0)
    matrix = jacobian.T @ bend @ jacobian + 2 * decay * np.eye(len(flat))
    adjoint = np.linalg.solve(matrix, ravel_pytree(cotangent)[0])
    expected = -2 * decay * flat * adjoint

    whole = jax.tree.map(lambda leaf: leaf[None], (inputs, labels))
    found = {}
    for products in (0, 1):
        method = jacobians.kronecker(products=products, rate=1.0)

        @jax.jit
        def tracked(method=method):
            def a_round(state, key):
                state, _ = method.update(problem, key, state, params, hyperparams, whole)
                point = Point(params, hyperparams, whole, key)
                gradient, state = method.vjp(problem, state, point, cotangent)
                return state, gradient

            state = method.init(problem, key, params, hyperparams)
            keys = jax.random.split(key, 60)
            return jax.tree.map(lambda leaf: leaf[-1], jax.lax.scan(a_round, state, keys)[1])

        found[products] = ravel_pytree(tracked())[0]
    size = np.linalg.norm(expected)
    assert np.linalg.norm(found[0] - expected) > 0.1 * size
    np.testing.assert_allclose(found[1], expected, atol=1e-4 * size)


def test_linearized_is_trained_to_the_exact_jacobian_of_a_linear_hypernet(exact):
    jacobian = jacobians.linearized(
        hypernets.linear(),
        optimizer=optax.adam(optax.cosine_decay_schedule(3e-2, 1_000)),
        samples=8,
    )
    # λ of two numbers, so that a matrix can be learned: one for the kernel, one for the bias.
    hyperparams = {"Dense_0": {"kernel": jnp.float64(-1.0), "bias": jnp.float64(0.5)}}
    array = np.full(exact.log_decay.shape, -1.0)
    array[-1] = 0.5
    weights = exact.tree(ridge.best_response(exact.ridge, array))
    # One batch of all examples, so that there is no noise in the curvature.
    moved = exact._replace(
        point=exact.point._replace(params=weights, hyperparams=hyperparams),
        batches=exact.point.batches,
    )
    state, evaluations = jax.jit(lambda: updated(jacobian, moved, 1_000))()
    assert set(evaluations.tolist()) == {2 * 8}
    gram, cross, _ = exact.ridge.valid
    slope = 2 / CLASSES * (gram @ exact.array(weights) - cross)
    found, _ = jacobian.vjp(exact.problem, state, moved.point, exact.tree(slope))
    _, each = ridge.hypergradient(exact.ridge, array)
    layer = found["Dense_0"]
    expected = each[:-1].sum(), each[-1].sum()
    np.testing.assert_allclose((layer["kernel"], layer["bias"]), expected, rtol=1e-3)


@pytest.mark.parametrize("name", ["kronecker", "linearized"])
def test_jvp_and_vjp_are_each_other_s_transpose(name, exact, kronecker):
    jacobian, state = kronecker
    if name == "linearized":
        hypernet = hypernets.factorized(2, init_scale=1.0)
        jacobian = jacobians.linearized(hypernet, optimizer=optax.sgd(0.1))
        at = exact.point.params, exact.point.hyperparams
        state = jacobian.init(exact.problem, jax.random.key(1), *at)
    rng = np.random.default_rng(2)
    direction, cotangent = (exact.tree(rng.normal(size=exact.log_decay.shape)) for _ in "ab")
    pushed = jacobian.jvp(exact.problem, state, exact.point, direction)
    pulled, _ = jacobian.vjp(exact.problem, state, exact.point, cotangent)
    chex.assert_trees_all_equal_shapes_and_dtypes(pushed, exact.point.params)
    chex.assert_trees_all_equal_shapes_and_dtypes(pulled, exact.point.hyperparams)
    np.testing.assert_allclose(
        optax.tree.vdot(pushed, cotangent), optax.tree.vdot(direction, pulled), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"refresh_every": 0}, "refresh_every to be a whole number >= 1, got 0"),
        ({"window": 0}, "window to be a whole number >= 1, got 0"),
        ({"iterations": 0}, "iterations to be a whole number >= 1, got 0"),
        ({"damping": -1.0}, r"damping to be finite and >= 0, got -1\.0"),
        ({"damping": float("nan")}, "damping to be finite and >= 0, got nan"),
        ({"products": -1}, "products to be a whole number >= 0, got -1"),
        ({"rate": 0.0}, r"rate to be finite and > 0, got 0\.0"),
    ],
)
def test_kronecker_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        jacobians.kronecker(**options)


def test_linearized_refuses_no_samples():
    hypernet = hypernets.linear()
    with pytest.raises(ValueError, match="samples to be a whole number >= 1, got 0"):
        jacobians.linearized(hypernet, optimizer=optax.sgd(0.1), samples=0)
