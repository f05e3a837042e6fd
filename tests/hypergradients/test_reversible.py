"""Running backwards: bit for bit, and with the gradient of reverse mode."""

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
        after, _, fits = dynamics.forward(point, t)
        return after, (point, fits)

    def back(point, t):
        before = dynamics.backward(point, t)
        return before, before

    # In one program, as in the library: another might round the gradients otherwise.
    @jax.jit
    def there_and_back():
        start = dynamics.at_rest(jnp.float32(small.params))
        end, (points, fits) = jax.lax.scan(ahead, start, jnp.arange(steps))
        return end, points, fits, jax.lax.scan(back, end, jnp.arange(steps), reverse=True)[1]

    end, points, fits, again = there_and_back()
    assert np.all(fits)
    assert np.any(end.buffer)
    jax.tree.map(np.testing.assert_array_equal, again, points)


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


def test_numbers_out_of_range_give_no_gradient(small, key):
    assert np.all(np.isfinite(estimate(small, 0.5, 5, key).gradient))
    far = small._replace(params=8.5 * np.ones_like(small.params))
    assert np.all(np.isnan(estimate(far, 0.5, 5, key).gradient))
    assert np.all(np.isnan(estimate(small, 0.5, 5, key, rate=30.0).gradient))


def test_what_it_refuses(small):
    options = {"learning_rate": 0.1, "hyper_optimizer": optax.sgd(0.1)}
    with pytest.raises(ValueError, match=r"such as 0\.9"):
        shn.reversible(small.problem, momentum=0.0, **options)
