"""Running backwards: bit for bit, and with the gradient of reverse mode."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import shohypernet as shn
from shohypernet.hypergradients import _exact_momentum as exact_momentum
from shohypernet.hypergradients import _lossless as lossless
from shohypernet.hypergradients import forward, reversible, unrolled
from shohypernet.hypergradients.reversible import Momentum
from shohypernet.inner_loop import TrainState, inputs

RATE = 0.3


def estimate(small, momentum, steps, key, *, rate=RATE, **options):
    params = jnp.asarray(small.params, float)
    return jax.jit(
        lambda lam: reversible.hypergradient(
            small.problem,
            momentum,
            lam,
            TrainState(params, Momentum(jnp.asarray(rate, float))),
            small.train(steps),
            small.data.valid,
            key,
            **options,
        )
    )(jnp.asarray(small.hyperparams, float))


@pytest.mark.parametrize("momentum", [0.5, 0.9])
def test_the_trajectory_is_reversed_bit_for_bit(small, momentum, key):
    steps = 80
    dynamics = exact_momentum.descent(
        small.problem,
        jnp.float32(RATE),
        lossless.fraction(momentum),
        jnp.float32(small.hyperparams),
        jnp.float32(small.params),
        inputs(key, small.train(steps)),
        bits=28,
    )

    def ahead(point, t):
        after, _, fits = dynamics.step(point, jnp.where(t < steps, t, 2 * steps - 1 - t), t < steps)
        return after, (point, fits)

    # In one loop, as in the library: another might round the gradients otherwise.
    @jax.jit
    def there_and_back():
        start = dynamics.at_rest(jnp.float32(small.params))
        end, (points, fits) = jax.lax.scan(ahead, start, jnp.arange(2 * steps))
        return start, points, fits, end

    start, points, fits, end = there_and_back()
    assert np.all(fits[:steps])
    assert np.any(points.buffer[steps])
    jax.tree.map(np.testing.assert_array_equal, end, start)
    forth, back = (
        jax.tree.map(lambda leaf: leaf[1:steps], points),
        jax.tree.map(lambda leaf: leaf[:steps:-1], points),
    )
    jax.tree.map(np.testing.assert_array_equal, back, forth)


@pytest.mark.parametrize("momentum", [0.5, 0.9])
def test_forward_reverse_and_reversible_agree_in_float32(small, momentum, key):
    steps, optimizer = 30, optax.sgd(RATE, momentum=momentum)
    params, lam = jnp.float32(small.params), jnp.float32(small.hyperparams)
    start = TrainState(params, optimizer.init(params))
    arguments = small.problem, optimizer, lam, start, small.train(steps), small.data.valid, key
    pulled = jax.jit(lambda: unrolled.hypergradient(*arguments).gradient)()
    pushed = jax.jit(lambda: forward.hypergradient(*arguments).gradient)()
    returned = estimate(small, momentum, steps, key)
    assert returned.gradient.dtype == jnp.float32
    for gradient in (pushed, returned.gradient):
        assert jnp.linalg.norm(gradient - pulled) < 1e-5 * jnp.linalg.norm(pulled)


def test_gradient_is_that_of_reverse_mode_in_float64(float64, small, key):
    steps, optimizer = 30, optax.sgd(RATE, momentum=0.5)
    arguments = small.start(optimizer), small.train(steps), small.data.valid, key
    expected = unrolled.hypergradient(
        small.problem, optimizer, jnp.asarray(small.hyperparams), *arguments
    )
    found = estimate(small, 0.5, steps, key)
    # As near as fixed-point numbers of 28 bits after the point.
    np.testing.assert_allclose(found.state.params, expected.state.params, atol=1e-7)
    np.testing.assert_allclose(found.gradient, expected.gradient, atol=1e-7)
    np.testing.assert_allclose(found.train_loss, expected.train_loss, rtol=1e-6)


def test_it_returns_as_users_compile_it(key):
    """On a model that is trained on λ itself, of which XLA makes other loops back than forth."""

    def error(params, rows, targets):
        return jnp.mean(((rows @ params)[:, 0] - targets) ** 2)

    problem = shn.Problem(
        init=lambda key: jnp.full((3, 1), 0.3),
        train_loss=lambda params, rows, batch, key: (
            error(params, rows, jnp.array([1.0, -1.0])) + 0.1 * jnp.sum(params**2)
        ),
        valid_loss=lambda params, rows, batch: error(params, *batch),
    )
    rows = jnp.array([[0.1, -0.3, 0.7], [0.4, 0.2, -0.5]])
    batch = jnp.linspace(-1, 1, 15).reshape(5, 3) ** 2, jnp.linspace(0, 1, 5)
    # What tests/conftest.py turns off. The newest releases, which lack the second, run without it.
    hasty = "xla_cpu_use_fusion_emitters" in os.environ["XLA_FLAGS"]
    options = {"xla_backend_optimization_level": 3, "xla_cpu_use_fusion_emitters": True}

    def made(rows):
        start = TrainState(problem.init(key), Momentum(jnp.float32(0.4)))
        steps = jnp.zeros((10, 1))
        return reversible.hypergradient(problem, 0.5, rows, start, steps, batch, key)

    found = jax.jit(made, compiler_options=options if hasty else None)(rows)
    optimizer = optax.sgd(0.4, momentum=0.5)
    start = TrainState(problem.init(key), optimizer.init(problem.init(key)))
    expected = unrolled.hypergradient(
        problem, optimizer, rows, start, jnp.zeros((10, 1)), batch, key
    )
    np.testing.assert_allclose(found.gradient, expected.gradient, rtol=1e-4, atol=1e-5)


def test_numbers_out_of_range_give_no_gradient(small, key):
    assert np.all(np.isfinite(estimate(small, 0.5, 5, key).gradient))
    far = small._replace(params=8.5 * np.ones_like(small.params))
    assert np.all(np.isnan(estimate(far, 0.5, 5, key).gradient))
    assert np.all(np.isnan(estimate(small, 0.5, 5, key, rate=30.0).gradient))


def test_what_it_refuses(small):
    options = {"learning_rate": 0.1, "hyper_optimizer": optax.sgd(0.1)}
    with pytest.raises(ValueError, match=r"such as 0\.9"):
        shn.reversible(small.problem, momentum=0.0, **options)
