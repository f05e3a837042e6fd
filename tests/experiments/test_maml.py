"""MAML at a small size, and its closed forms against searches that know nothing of them."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize

import shohypernet as shn
from configs import maml as configs
from experiments import _launch, _maml, maml
from experiments import _meta_tasks as tasks

CONFIG = pathlib.Path(configs.__file__)


@pytest.fixture(scope="module")
def task():
    return tasks.quadratics(6, 3)


@pytest.mark.slow
def test_quick(tmp_path):
    folder = tmp_path / "new"
    _launch.main(maml.run, [f"--config={CONFIG}:quick", f"--workdir={folder}"])
    results = json.loads((folder / "results.json").read_text())
    assert [claim["holds"] for claim in results["claims"]] == [None] * 4
    names = {path.name for path in folder.iterdir()}
    assert names == {"maml.png", "maml.pdf", "maml.npz", "config.json", "results.json"}


def by_steps(theta, task, rate, steps):
    """Mean loss after gradient steps, one task at a time."""
    total = 0.0
    for matrix, center in zip(*task, strict=True):
        w = np.array(theta)
        for _ in range(steps):
            w = w - rate * matrix @ (w - center)
        total += (w - center) @ matrix @ (w - center) / 2
    return total / len(task.centers)


@pytest.mark.parametrize("steps", [1, 3])
def test_the_closed_form_is_the_best_initialization(task, steps):
    theta = tasks.closed_form(task, 0.2, steps)
    found = scipy.optimize.minimize(by_steps, np.zeros(3), (task, 0.2, steps), tol=1e-12)
    np.testing.assert_allclose(theta, found.x, atol=1e-4)
    assert tasks.adapted_loss(task, theta, 0.2, steps) == pytest.approx(found.fun)


def test_the_best_step_size_is_the_best(task):
    theta, rate = tasks.best_rate(task, 1)

    def loss(both):
        return by_steps(both[:3], task, both[3], 1)

    rivals = [scipy.optimize.minimize(loss, [0, 0, 0, start]).fun for start in (0.1, 0.5, 1.0)]
    assert by_steps(theta, task, rate, 1) == pytest.approx(min(rivals), rel=1e-6)


def test_the_implicit_form_is_the_best_initialization_of_proximal_tasks(task):
    def loss(theta):
        total = 0.0
        for matrix, center in zip(*task, strict=True):
            w = np.linalg.solve(matrix + 0.5 * np.eye(3), matrix @ center + 0.5 * theta)
            total += (w - center) @ matrix @ (w - center)
        return total

    found = scipy.optimize.minimize(loss, np.zeros(3), tol=1e-12)
    np.testing.assert_allclose(tasks.implicit_form(task, 0.5), found.x, atol=1e-4)


def _gradient(name, task, theta, rate, steps):
    """A method's first gradient, from a step of SGD with step size 1."""
    loss = tasks.quadratic_loss
    problem = _maml.problem(theta, loss, len(task.centers))
    method = _maml.method(name, problem, rate, optax.sgd(1.0))
    start = {"theta": theta} | ({"rate": jnp.float32(rate)} if name == _maml.META_SGD else {})
    encoded = shn.hyperparameters.encode(method.problem.space, start)
    on_device = jax.tree.map(lambda part: jnp.asarray(part, jnp.float32), task)
    batches = jax.tree.map(lambda part: jnp.broadcast_to(part, (steps, *part.shape)), on_device)
    state = method.init(jax.random.key(0), encoded)
    state, _ = method.step(jax.random.key(0), state, batches, on_device)
    return jax.tree.map(lambda before, after: before - after, encoded, state.hyperparams)


@pytest.mark.parametrize("steps", [1, 2])
def test_maml_follows_the_gradient_through_its_steps(task, steps):
    theta = jnp.array([0.3, -1.0, 2.0])
    found = _gradient(_maml.MAML, task, theta, 0.2, steps)["theta"]
    expected = scipy.optimize.approx_fprime(np.asarray(theta), by_steps, 1e-7, task, 0.2, steps)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_first_order_maml_takes_the_gradient_at_the_adapted_weights(task):
    theta = np.array([0.3, -1.0, 2.0])
    found = _gradient(_maml.FIRST_ORDER, task, jnp.float32(theta), 0.2, 1)["theta"]
    slopes = [
        matrix @ (theta - 0.2 * matrix @ (theta - center) - center)
        for matrix, center in zip(*task, strict=True)
    ]
    np.testing.assert_allclose(found, np.mean(slopes, axis=0), rtol=1e-4, atol=1e-5)
    # It rests where the sum of these is 0.
    rest = tasks.first_order_form(task, 0.2, 1)
    at_rest = [m @ (rest - 0.2 * m @ (rest - c) - c) for m, c in zip(*task, strict=True)]
    np.testing.assert_allclose(np.sum(at_rest, axis=0), 0, atol=1e-12)


def test_meta_sgd_follows_the_gradient_in_the_step_size_as_well(task):
    theta = jnp.array([0.3, -1.0, 2.0])
    found = _gradient(_maml.META_SGD, task, theta, 0.2, 1)
    slope = (by_steps(theta, task, 0.2 + 1e-6, 1) - by_steps(theta, task, 0.2 - 1e-6, 1)) / 2e-6
    assert float(found["rate"]) == pytest.approx(0.2 * slope, rel=1e-3)  # in its logarithm


def test_adapted_losses_are_those_of_steps_by_hand(task):
    one = jax.tree.map(lambda part: jnp.asarray(part[0], jnp.float32), task)
    theta = jnp.array([0.3, -1.0, 2.0])
    found = _maml.adapted(theta, tasks.quadratic_loss, jnp.full(3, 0.2), one, one, 3)
    alone = tasks.Quadratics(task.curvatures[:1], task.centers[:1])
    expected = [by_steps(theta, alone, 0.2, steps) for steps in range(4)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_proximal_steps_tend_to_implicit_maml_s_weights(task):
    """(A + ρI) w = A c + ρθ."""
    one = jax.tree.map(lambda part: jnp.asarray(part[0], jnp.float32), task)
    theta = np.array([0.3, -1.0, 2.0])
    matrix, center = task.curvatures[0], task.centers[0]
    best = np.linalg.solve(matrix + 0.5 * np.eye(3), matrix @ center + 0.5 * theta)
    loss = (best - center) @ matrix @ (best - center) / 2
    found = _maml.adapted(
        jnp.float32(theta), tasks.quadratic_loss, jnp.full(3, 0.2), one, one, 100, proximity=0.5
    )
    assert float(found[-1]) == pytest.approx(loss, rel=1e-4)


def test_implicit_maml_s_drawn_tasks_start_from_theta(task):
    """A round after another task's is as good as a first round."""
    on_device = jax.tree.map(lambda part: jnp.asarray(part, jnp.float32), task)
    problem = _maml.proximal_problem(jnp.zeros(3), tasks.quadratic_loss, len(task.centers), 0.5)
    method = _maml.method(_maml.IMPLICIT, problem, 0.2, optax.sgd(0.0), products=3)
    step = jax.jit(_maml.from_theta(method).step)
    key = jax.random.key(0)
    first = method.init(key, {"theta": jnp.ones(3)})
    first = first._replace(inner=first.inner._replace(params=jnp.ones((len(task.centers), 3))))
    batches = jax.tree.map(lambda part: jnp.stack([part] * 2), on_device)
    other = jax.tree.map(lambda part: 1 + part, batches)
    after, _ = step(key, first, other, on_device)
    assert np.all(after.inner.params != 1)
    again, _ = step(key, after, batches, on_device)
    expected, _ = jax.jit(method.step)(key, first, batches, on_device)
    np.testing.assert_allclose(again.inner.params, expected.inner.params, rtol=1e-6)


def test_sinusoids_have_one_amplitude_and_phase_for_support_and_query(key):
    support, query = tasks.sinusoids(key, 500, 10)
    x, y = (
        np.concatenate([np.asarray(a), np.asarray(b)], axis=1)
        for a, b in zip(support, query, strict=True)
    )
    assert x.shape == y.shape == (500, 20, 1)
    assert np.abs(x).max() <= 5
    waves = np.concatenate([np.sin(x), np.cos(x)], axis=2)
    for each, targets in zip(waves, y, strict=True):
        fit, *_ = np.linalg.lstsq(each, targets, rcond=None)
        np.testing.assert_allclose(each @ fit, targets, atol=1e-4)
        assert 0.09 < np.linalg.norm(fit) < 5.01
    assert np.mean(y**2) == pytest.approx(maml.ZERO, abs=0.5)


@pytest.mark.parametrize(
    ("off", "loss", "first", "last", "expected"),
    [
        (0.0, 1.0, 0.5, 0.5, [True, True, True, True]),
        (0.02, 1.02, 0.8, 1.2, [False, False, False, False]),
        (0.0, 1.0, 0.5, np.nan, [True, True, False, True]),
    ],
)
def test_its_claims_can_fail(off, loss, first, last, expected):
    exact = {name: np.ones(3) for name in (_maml.MAML, _maml.FIRST_ORDER, _maml.IMPLICIT)}
    exact[_maml.META_SGD] = np.ones(3)
    found = {name: (1 + off) * each for name, each in exact.items()}
    losses = {_maml.META_SGD: loss, _maml.MAML: 2.0, "exact, best step size": 1.0}
    curves = {
        name: np.tile([4.0, 0.7, last], (2, 1)) for name in (_maml.FIRST_ORDER, _maml.META_SGD)
    }
    curves[_maml.MAML] = np.tile([4.0, first, last], (2, 1))
    assert [claim["holds"] for claim in maml.claims(found, exact, losses, curves)] == expected
