"""Forward mode against reverse mode, and real time against steps by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import shohypernet as shn
from shohypernet.hypergradients import forward, unrolled
from shohypernet.inner_loop import TrainState


@pytest.mark.parametrize("optimizer", [optax.sgd(0.3, momentum=0.5), optax.adam(0.1)])
def test_equals_reverse_mode(float64, small, optimizer, key):
    arguments = small.start(optimizer), small.train(6), small.data.valid, key
    estimates = [
        jax.jit(lambda lam, f=f: f.hypergradient(small.problem, optimizer, lam, *arguments))(
            small.hyperparams
        )
        for f in (forward, unrolled)
    ]
    pushed, pulled = (made._replace(gradient_evaluations=0) for made in estimates)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), pushed, pulled)


def test_tunes_a_step_size(float64, small, key):
    def optimizer(logs):
        return optax.sgd(jnp.exp(logs["rate"]))

    decay = jnp.asarray(small.hyperparams)
    problem = small.problem._replace(
        train_loss=lambda params, _, *rest: small.problem.train_loss(params, decay, *rest),
        valid_loss=lambda params, _, batch: small.problem.valid_loss(params, decay, batch),
    )
    logs = {"rate": jnp.float64(-1.5)}
    start = TrainState(jnp.asarray(small.params), optimizer(logs).init(small.params))
    arguments = problem, optimizer, logs, start, small.train(4), small.data.valid, key
    pushed, pulled = jax.jit(
        lambda: [f.hypergradient(*arguments).gradient["rate"] for f in (forward, unrolled)]
    )()
    np.testing.assert_allclose(pushed, pulled, rtol=1e-10)
    assert abs(pushed) > 1e-3


def test_real_time_by_hand(float64, key):
    """L_train = ½(w − λx)², L_valid = ½(w − y)²: w ← (1 − α) w + αλx and Z ← (1 − α) Z + αx."""
    problem = shn.Problem(
        init=lambda key: jnp.zeros(()),
        train_loss=lambda w, lam, x, key: (w - lam * x) ** 2 / 2,
        valid_loss=lambda w, lam, y: (w - y) ** 2 / 2,
    )
    method = shn.real_time(problem, optimizer=optax.sgd(0.25), hyper_optimizer=optax.sgd(0.1))
    inputs, target = np.array([[1.0, 2.0, -1.0], [0.5, 3.0, 1.0]]), 3.0
    state = method.init(key, jnp.ones(()))
    w, z, lam = 0.0, 0.0, 1.0
    for batches in inputs:
        losses, slopes = [], []
        state, info = jax.jit(method.step)(key, state, batches, target)
        for x in batches:
            w, z = 0.75 * w + 0.25 * lam * x, 0.75 * z + 0.25 * x
            losses.append((w - target) ** 2 / 2)
            slopes.append((w - target) * z)
            lam -= 0.1 * slopes[-1]
        np.testing.assert_allclose(state.hyperparams, lam, rtol=1e-12)
        np.testing.assert_allclose(method.weights(state), w, rtol=1e-12)
        np.testing.assert_allclose(info.valid_loss, np.mean(losses), rtol=1e-12)
        np.testing.assert_allclose(info.hypergradient_norm, np.mean(np.abs(slopes)), rtol=1e-12)


def test_real_time_with_a_still_lambda_is_forward_mode(float64, small, sgd, key):
    """Then Z after three rounds of two steps is that of one training of six."""
    method = shn.real_time(small.problem, optimizer=sgd, hyper_optimizer=optax.sgd(0.0))
    state = method.init(key, small.hyperparams)
    start = state.inner
    for _ in range(3):
        state, _ = jax.jit(method.step)(key, state, small.train(2), small.data.valid)
    gradient = jax.grad(small.problem.valid_loss)(
        state.inner.params, state.hyperparams, small.data.valid
    )
    through = jnp.tensordot(state.tangents[0], gradient, 2).reshape(small.hyperparams.shape)
    arguments = small.problem, sgd, state.hyperparams, start, small.train(6)
    expected = jax.jit(lambda: unrolled.hypergradient(*arguments, small.data.valid, key))()
    np.testing.assert_allclose(through + 0.1, expected.gradient, rtol=1e-10)
