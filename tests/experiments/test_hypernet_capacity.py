"""Best-response error against width, at a small size, and its pieces against closed forms."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from archives import loaded
from scipy import optimize

from configs import hypernet_capacity as configs
from experiments import _launch, hypernet_capacity
from experiments._decay_problem import to_ridge
from shohypernet import ridge
from shohypernet.batches import Data, Examples
from shohypernet.hypernets import Hypernet

CONFIG = pathlib.Path(configs.__file__)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hypernet_capacity") / "new"
    _launch.main(hypernet_capacity.run, [f"--config={CONFIG}:quick", f"--workdir={folder}"])
    return folder


@pytest.fixture(scope="module")
def data():
    """Twelve examples with 4 inputs and 10 classes."""
    rng = np.random.default_rng(0)
    inputs = jnp.float32(rng.uniform(size=(12, 4)))
    examples = Examples(inputs, jnp.eye(10)[rng.integers(10, size=12)])
    return Data(examples, examples, examples)


@pytest.fixture(scope="module")
def config():
    config = configs.get_config("quick")
    config.update({"norm_examples": 5, "ridge_examples": 12, "cross_steps": 5_000})
    config.update({"grid_points": 4, "norm_low": 0.0})
    return config


def test_what_it_writes(made):
    names = {path.name for path in made.iterdir()}
    pictures = {f"hypernet_capacity.{ending}" for ending in ("png", "pdf", "npz")}
    fits = {f"{name}_{width}" for name in ("norm", "ridge") for width in (1, 4)}
    assert names == pictures | fits | {"config.json", "results.json"}
    results = json.loads((made / "results.json").read_text())
    arrays = loaded(made / "hypernet_capacity.npz")
    assert len(results["claims"]) == 2
    for name in ("norm", "ridge"):
        relative, excess = arrays[f"{name}_relative"], arrays[f"{name}_excess"]
        assert relative.shape == excess.shape == (2, 2)  # widths, seeds
        assert np.all((relative > 0) & (relative < 1))
        assert np.all(excess > 0)
        np.testing.assert_array_equal(results[f"{name}_relative"], relative)


def test_best_responses_of_the_ridge(data, config):
    case, exact = hypernet_capacity.ridge_case(data, config), ridge.ridge(data)
    _, axes = np.linalg.eigh(exact.train.gram)
    np.testing.assert_allclose(case.grid, [-3, -1, 1, 3], rtol=1e-6)
    for hyperparam, found in zip(case.grid, case.best, strict=True):
        expected = axes.T @ ridge.best_response(exact, float(hyperparam))
        np.testing.assert_allclose(found, expected, atol=2e-5)
        gradient = jax.grad(case.problem.train_loss)(
            found, jnp.exp(hyperparam), case.data.train, jax.random.key(0)
        )
        np.testing.assert_allclose(gradient, np.zeros_like(found), atol=1e-6)


def test_best_responses_under_the_norm(data, config):
    """Of NLL + exp(λ)‖w‖ they are (A + μ)⁻¹ B with 10 μ‖w‖ = exp(λ), σ being 0.1."""
    case = hypernet_capacity.norm_case(data, config)
    five = Examples(*(leaf[:5] for leaf in data.train))
    gram, cross, _ = ridge.ridge(Data(five, five, five)).train

    def solution(log_mu):
        return np.linalg.solve(gram + np.exp(log_mu) * np.eye(5), cross)

    def pull(log_mu):
        return 10 * np.exp(log_mu) * np.linalg.norm(solution(log_mu))

    for i, decay in enumerate(np.exp([0.0, 1.0, 2.0])):
        root = optimize.brentq(lambda log_mu, decay=decay: pull(log_mu) - decay, -20, 20)
        found = to_ridge(jax.tree.map(lambda leaf, i=i: leaf[i], case.best))
        np.testing.assert_allclose(found, solution(root), atol=2e-3)


def test_errors_by_hand(data, config):
    """A hypernet whose weights are (1 + φ) w*(λ) is off by φ everywhere."""
    case = hypernet_capacity.ridge_case(data, config)
    gram, cross = (np.asarray(leaf, np.float64) for leaf in case.data.train)
    decay = np.exp(np.asarray(case.grid, np.float64))[:, None, None]
    best = cross / (gram[:, None] + decay)

    def apply(phi, hyperparam):
        return (1 + phi) * case.data.train.cross / (gram[:, None] + jnp.exp(hyperparam))

    found = hypernet_capacity.measure(
        case, Hypernet(lambda key, params, hyperparams: 0.0, apply), jnp.array([0.0, 0.25, -0.5])
    )
    np.testing.assert_allclose(found.relative, [0, 0.25, 0.5], atol=1e-5)
    # L_train is a parabola with Hessian 2 (a + exp λ) / 10 at w*.
    unit = np.mean(np.sum((gram[:, None] + decay) * best**2 / 10, axis=(1, 2)))
    np.testing.assert_allclose(found.excess, [0, 0.25**2 * unit, 0.5**2 * unit], atol=1e-7)


@pytest.mark.parametrize(("errors", "holds"), [([0.4, 0.2, 0.1], True), ([0.4, 0.1, 0.2], False)])
def test_its_claim_can_fail(errors, holds):
    relative = np.array(errors)[:, None] * [0.9, 1.1]
    measured = hypernet_capacity.Errors(relative, relative**2)
    claim = hypernet_capacity.claim("Here", np.array([1, 2, 4]), measured)
    assert claim["holds"] is holds
    assert f"1: {errors[0]:.3f}, 2: {errors[1]:.3f}, 4: {errors[2]:.3f}" in claim["measured"]


@pytest.mark.parametrize("changes", [{"inner_steps": 30}, {"widths": (4, 1)}, {"widths": (4, 4)}])
def test_what_it_refuses(tmp_path, changes):
    config = configs.get_config("quick")
    config.update(changes)
    with pytest.raises(ValueError, match="inner_steps must divide steps, and widths rise"):
        hypernet_capacity.run(config, tmp_path)
    assert not list(tmp_path.iterdir())
