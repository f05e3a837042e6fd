"""Reverse mode against finite differences, the closed form, and steps by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import shohypernet as shn
from shohypernet import inner_loop
from shohypernet.hypergradients import _segments as segments
from shohypernet.hypergradients import unrolled

STEPS = 7


def loss_after(small, optimizer, hyperparams, steps, *, first=None, at=0):
    """L_valid after training by hand, with other λ for the first `at` of the steps."""
    params = jnp.asarray(small.params)
    rule = inner_loop.optimizer_at(optimizer, hyperparams)
    state = rule.init(params)
    key = jax.random.key(0)
    for t in range(steps):
        lam = first if t < at else hyperparams
        gradient = jax.grad(small.problem.train_loss)(params, lam, small.data.train, key)
        change, state = inner_loop.optimizer_at(optimizer, lam).update(gradient, state, params)
        params = optax.apply_updates(params, change)
    return small.problem.valid_loss(params, hyperparams, small.data.valid)


def estimate(small, optimizer, hyperparams, steps, **options):
    start = small.start(inner_loop.optimizer_at(optimizer, hyperparams))
    return jax.jit(
        lambda lam: unrolled.hypergradient(
            small.problem,
            optimizer,
            lam,
            start,
            small.train(steps),
            small.data.valid,
            jax.random.key(0),
            **options,
        )
    )(hyperparams)


@pytest.mark.parametrize("optimizer", [optax.sgd(0.3, momentum=0.5), optax.adam(0.1)])
def test_slope_of_the_loss_after_training(float64, small, slope, optimizer):
    found = estimate(small, optimizer, small.hyperparams, STEPS)
    loss = jax.jit(lambda lam: loss_after(small, optimizer, lam, STEPS))
    np.testing.assert_allclose(found.valid_loss, loss(small.hyperparams), rtol=1e-12)
    np.testing.assert_allclose(found.gradient, slope(loss, small.hyperparams), rtol=1e-6, atol=1e-9)


def test_step_size_and_momentum_of_the_inner_optimizer(float64, small, slope):
    def optimizer(logits):
        return optax.sgd(jnp.exp(logits[0]), momentum=jax.nn.sigmoid(logits[1]))

    decay, original = jnp.asarray(small.hyperparams), small.problem
    problem = original._replace(
        train_loss=lambda params, _, *rest: original.train_loss(params, decay, *rest),
        valid_loss=lambda params, _, batch: original.valid_loss(params, decay, batch),
    )
    small = small._replace(problem=problem, hyperparams=np.array([-1.5, 0.5]))
    found = estimate(small, optimizer, small.hyperparams, STEPS)
    loss = jax.jit(lambda lam: loss_after(small, optimizer, lam, STEPS))
    np.testing.assert_allclose(found.gradient, slope(loss, small.hyperparams), rtol=1e-6)


def test_truncated_is_the_slope_in_the_last_steps_alone(float64, small, sgd, slope):
    first = jnp.asarray(small.hyperparams)
    found = estimate(small, sgd, small.hyperparams, STEPS, backward_steps=3)
    loss = jax.jit(lambda lam: loss_after(small, sgd, lam, STEPS, first=first, at=STEPS - 3))
    np.testing.assert_allclose(found.gradient, slope(loss, small.hyperparams), rtol=1e-6, atol=1e-9)
    whole = estimate(small, sgd, small.hyperparams, STEPS)
    np.testing.assert_allclose(found.state.params, whole.state.params, rtol=1e-12)
    assert not np.allclose(found.gradient, whole.gradient, rtol=1e-2)


def test_long_training_gives_the_closed_form(float64, small, sgd):
    found = estimate(small, sgd, small.hyperparams, 400)
    np.testing.assert_allclose(found.state.params, small.best_response(small.hyperparams))
    np.testing.assert_allclose(found.gradient, small.hypergradient(), rtol=1e-6)


def test_segments_change_nothing(float64, small, sgd):
    """Segments of one step, of three with one left over, and of all."""
    default, *others = (
        estimate(small, sgd, small.hyperparams, STEPS, segment=segment) for segment in (100, 1, 3)
    )
    for found in others:
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12),
            found._replace(gradient_evaluations=0),
            default._replace(gradient_evaluations=0),
        )
    counts = [int(made.gradient_evaluations) for made in (default, *others)]
    assert counts == [3 * STEPS + 1, 4 * STEPS + 1, 3 * STEPS + 1 + 6]


def test_segments_by_hand():
    assert [segments.square_root(n) for n in (1, 2, 4, 5, 9, 10, 100)] == [1, 2, 2, 3, 3, 4, 10]
    assert [segments.recomputed(7, n) for n in (1, 3, 7, 100)] == [7, 6, 0, 0]


def test_memory_grows_like_the_square_root(key):
    problem = shn.Problem(
        init=lambda key: jnp.ones(1_000),
        train_loss=lambda w, lam, x, key: jnp.mean(jnp.cos(w) * x) + jnp.exp(lam) * jnp.sum(w**2),
        valid_loss=lambda w, lam, x: jnp.mean(w * x),
    )
    optimizer = optax.sgd(0.1, momentum=0.9)
    start = inner_loop.init(problem, optimizer, key, jnp.zeros(()))

    def bytes_needed(steps, segment):
        def gradient(lam, batches):
            arguments = problem, optimizer, lam, start, batches, jnp.ones(()), key
            return unrolled.hypergradient(*arguments, segment=segment).gradient

        compiled = jax.jit(gradient).lower(jnp.zeros(()), jnp.ones(steps)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    kept = bytes_needed(1600, 1600) / bytes_needed(400, 400)
    again = bytes_needed(1600, 40) / bytes_needed(400, 20)
    assert kept == pytest.approx(4, rel=0.1)
    assert again == pytest.approx(2, rel=0.1)


def test_rounds_train_anew_or_go_on(float64, small, sgd, key):
    still = optax.sgd(0.0)
    whole = shn.unrolled(small.problem, optimizer=sgd, hyper_optimizer=still)
    cut = shn.truncated(small.problem, optimizer=sgd, hyper_optimizer=still, backward_steps=1)
    ends = {}
    for name, method in {"anew": whole, "on": cut}.items():
        state = method.init(key, small.hyperparams)
        for _ in range(3):
            state, _ = jax.jit(method.step)(key, state, small.train(4), small.data.valid)
        ends[name] = method.weights(state)
    start = inner_loop.init(small.problem, sgd, key, small.hyperparams).params
    small = small._replace(params=np.asarray(start))
    for name, steps in {"anew": 4, "on": 12}.items():
        expected = estimate(small, sgd, small.hyperparams, steps).state.params
        np.testing.assert_allclose(ends[name], expected, rtol=1e-10)


def test_what_it_refuses(small, sgd):
    with pytest.raises(ValueError, match=r"between 1 and the number of inner steps, 7, got 8"):
        estimate(small, sgd, jnp.float32(small.hyperparams), STEPS, backward_steps=8)
    with pytest.raises(ValueError, match=r"1 step or more, got segment=0"):
        estimate(small, sgd, jnp.float32(small.hyperparams), STEPS, segment=0)
    with pytest.raises(ValueError, match=r"backward_steps to be a whole number >= 1, got 0"):
        shn.truncated(small.problem, optimizer=sgd, hyper_optimizer=sgd, backward_steps=0)
