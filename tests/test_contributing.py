"""The examples of CONTRIBUTING.md do what it says of them, so that they cannot go stale."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pages
import pytest

import shohypernet as shn
from shohypernet import datasets
from shohypernet.hyperparameters import log
from shohypernet.samplers import local_gaussian

TARGETS = np.float32([1.0, 3.0]), np.float32([0.5, 1.5])  # of training and validation
CURVATURE = 2.0  # of the training loss's first term


@pytest.fixture(scope="module")
def names():
    """What the blocks define, run in order."""
    return pages.run("CONTRIBUTING.md")


@pytest.fixture
def problem():
    """L_train = ½·2 ‖w − x‖² + ½ decay ‖w‖², whose best response is 2 x / (2 + decay)."""
    return shn.Problem(
        init=lambda key: jnp.zeros(2),
        train_loss=lambda w, decay, x, key: jnp.sum((w - x) ** 2) + decay * jnp.sum(w**2) / 2,
        valid_loss=lambda w, decay, x: jnp.sum((w - x) ** 2) / 2,
        space=log(),
    )


def after(method, rounds, start=0.1, inner_steps=3):
    """The decay after some rounds, from a decay to start with, and the last Info."""
    train, valid = (jnp.asarray(part) for part in TARGETS)
    batches = jnp.broadcast_to(train, (inner_steps, 2))
    state, step = method.init(jax.random.key(0), jnp.log(start)), jax.jit(method.step)
    for number in range(rounds):
        state, info = step(jax.random.key(number), state, batches, valid)
    return float(jnp.exp(state.hyperparams)), info, method.weights(state)


# Validation targets are half of the training's: 2 / (2 + decay) = ½.
BEST = 2.0


def test_the_method_finds_the_best_decay(names, problem):
    method = names["one_step"](problem, optimizer=optax.sgd(0.2), hyper_optimizer=optax.adam(0.1))
    decay, info, weights = after(method, 300)
    np.testing.assert_allclose(decay, BEST, rtol=1e-2)
    np.testing.assert_allclose(weights, TARGETS[1], rtol=1e-2)
    assert int(info.gradient_evaluations) == 3 + 3
    with pytest.raises(TypeError, match=r"one_step\(\) needs hyper_optimizer"):
        names["one_step"](problem, optimizer=optax.sgd(0.2), hyper_optimizer=0.1)


def test_the_hypernet_is_quadratic_and_trains(names, problem):
    hypernet, params = names["quadratic"](), {"w": jnp.zeros(3)}
    phi = hypernet.init(jax.random.key(0), params, jnp.zeros(()))
    first, second, third, fourth = (hypernet.apply(phi, jnp.float32(x))["w"] for x in range(4))
    np.testing.assert_allclose(fourth - 3 * third + 3 * second, first, atol=1e-6)
    assert np.all(np.abs(third - 2 * second + first) > 1e-5)
    method = shn.local_response(
        problem,
        hypernet,
        hypernet_optimizer=optax.adam(0.03),
        hyper_optimizer=optax.adam(0.03),
        sampler=local_gaussian(0.3),
    )
    decay, _, _ = after(method, 400)
    np.testing.assert_allclose(decay, BEST, rtol=0.2)


def test_the_jacobian_is_the_response_of_one_step(names, problem):
    """dw/dλ̂ = −α decay w with λ̂ the decay's logarithm, and its products agree."""
    jacobian = names["gradient_step"](0.5)
    inner = shn.problem.unconstrained(problem)
    point = shn.jacobians.Point(
        jnp.array([1.0, 2.0]), jnp.log(0.1), jnp.asarray(TARGETS[0])[None], jax.random.key(0)
    )
    found = jacobian.jvp(inner, (), point, jnp.ones(()))
    np.testing.assert_allclose(found, [-0.05, -0.1], rtol=1e-6)
    pulled, _ = jacobian.vjp(inner, (), point, jnp.array([3.0, 5.0]))
    np.testing.assert_allclose(pulled, -0.65, rtol=1e-6)
    method = shn.centered_response(
        problem, jacobian, optimizer=optax.sgd(0.2), hyper_optimizer=optax.adam(0.1)
    )
    np.testing.assert_allclose(after(method, 300)[0], BEST, rtol=1e-2)


def test_the_data_set_loads(names, monkeypatch):
    monkeypatch.setitem(datasets._READERS, "rows", names["read"])
    data = datasets.load("rows", valid=20)
    assert [len(split.inputs) for split in data] == [60, 20, 20]
    rows = np.asarray(data.test.inputs).reshape(-1, 28, 28).sum(2).argmax(1)
    np.testing.assert_array_equal(rows, np.argmax(data.test.targets, 1))


def test_the_figure_is_drawn_and_its_claim_holds(names, tmp_path):
    results = names["run"](names["get_config"](), tmp_path)
    assert results["claims"][0]["holds"]
    assert (tmp_path / "decays.png").exists()


def test_the_regularizer_adds_noise_of_its_strength(names):
    noise = names["additive_noise"]()
    data = jnp.zeros((200, 50)), jnp.zeros((200, 1))
    found, targets = noise.transform(jax.random.key(0), 0.3, *data)
    np.testing.assert_allclose(np.std(found), 0.3, rtol=0.03)
    assert targets is data[1]
    problem = shn.supervised(
        lambda params, inputs: inputs @ params,
        data[0][:1],
        shn.losses.mean_squared_error,
        init=lambda key: jnp.ones((50, 1)),
        regularizers=[noise],
    )
    assert problem.start == {"additive_noise": 0.05}
    loss = problem.train_loss(jnp.ones((50, 1)), {"additive_noise": 0.3}, data, jax.random.key(0))
    np.testing.assert_allclose(loss, 50 * 0.3**2, rtol=0.3)
