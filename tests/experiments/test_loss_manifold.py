"""Figure 1 against NumPy and SciPy, which know nothing of JAX's derivatives."""

import json
import pathlib
from typing import Any

import jax
import numpy as np
import pytest
from archives import loaded
from scipy import optimize

from configs import loss_manifold as configs
from experiments import _launch, _manifold, loss_manifold

CONFIG = pathlib.Path(configs.__file__)
SMALL = {"surface_points": 7, "curve_points": 41}  # the same everywhere: one compiled program


def train_loss(weight, hyperparam):
    bell = np.exp(-((weight - np.sin(hyperparam + np.pi)) ** 2))
    return -np.log(np.exp(-1) + bell) - hyperparam / 10 - np.sin(2 * hyperparam) / 10


def best_response(hyperparam):
    found: Any = optimize.minimize_scalar(
        lambda weight: train_loss(weight, hyperparam), bounds=(-2, 2), options={"xatol": 1e-10}
    )
    return found.x


def explore(**changes):
    config = configs.get_config()
    config.update({**SMALL, **changes})
    with jax.enable_x64(True):
        return _manifold.explore(config)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loss_manifold") / "new"
    small = [f"--config.{name}={value}" for name, value in SMALL.items()]
    _launch.main(loss_manifold.run, [f"--config={CONFIG}", f"--workdir={folder}", *small])
    return folder


def test_what_it_writes(made):
    names = {path.name for path in made.iterdir()}
    pictures = {f"loss_manifold.{ending}" for ending in ("png", "pdf", "npz")}
    assert names == pictures | {"config.json", "results.json"}
    assert (made / "loss_manifold.png").read_bytes().startswith(b"\x89PNG")
    assert (made / "loss_manifold.pdf").read_bytes().startswith(b"%PDF")


def test_its_claims(made):
    results = json.loads((made / "results.json").read_text())
    assert [claim["holds"] for claim in results["claims"]] == [True, True, True]
    assert results["optimum"] == pytest.approx(np.pi / 2, abs=1e-6)
    assert results["linear_optimum"] == pytest.approx(1.2, abs=1e-6)


def test_surfaces(made):
    arrays = loaded(made / "loss_manifold.npz")
    hyperparams, weights = np.linspace(-np.pi, np.pi, 7), np.linspace(-2, 2, 7)
    np.testing.assert_allclose(arrays["surface_hyperparams"], hyperparams, atol=1e-12)
    np.testing.assert_allclose(arrays["surface_weights"], weights, atol=1e-12)
    for row, hyperparam in enumerate(hyperparams):
        expected = train_loss(weights, hyperparam)
        np.testing.assert_allclose(arrays["surface_train_loss"][row], expected, atol=1e-12)
        expected = -np.cos(weights + 1.2)
        np.testing.assert_allclose(arrays["surface_valid_loss"][row], expected, atol=1e-12)


def test_responses(made):
    arrays = loaded(made / "loss_manifold.npz")
    path = np.linspace(-np.pi, np.pi, 41)
    for name, weights in {
        "exact": np.array([best_response(hyperparam) for hyperparam in path]),
        "linear": -path,
    }.items():
        np.testing.assert_allclose(arrays[f"{name}_hyperparams"], path, atol=1e-12)
        np.testing.assert_allclose(arrays[f"{name}_weights"], weights, atol=1e-7)
        expected = train_loss(weights, path)
        np.testing.assert_allclose(arrays[f"{name}_train_loss"], expected, atol=1e-6)
        np.testing.assert_allclose(arrays[f"{name}_valid_loss"], -np.cos(weights + 1.2), atol=1e-6)


def test_tangent_and_optima_elsewhere():
    start = 0.7
    *_, found = explore(linearized_at=start, valid_weight=-1.1)
    touched = best_response(start)
    slope = (best_response(start + 1e-3) - best_response(start - 1e-3)) / 2e-3
    assert found.slope == pytest.approx(slope, abs=1e-4)
    linear_optimum = start + (-1.1 - touched) / slope
    best: Any = optimize.minimize_scalar(
        lambda hyperparam: -np.cos(best_response(hyperparam) + 1.1), bounds=(0, np.pi)
    )
    assert found.places == pytest.approx([start, linear_optimum, best.x], abs=1e-3)
    assert found.losses[2] == pytest.approx(best.fun, abs=1e-8)
    assert found.gaps[0] == pytest.approx(0, abs=1e-12)
    far = abs(best_response(start + 0.1) - touched - 0.1 * slope)
    assert found.gaps[2] == pytest.approx(far, abs=1e-4)


def test_the_optima_of_the_authors_validation_loss_are_equal():
    surfaces, *_, found = explore(valid_weight=-np.pi / 2)
    np.testing.assert_allclose(surfaces.valid_loss[0], np.sin(surfaces.weights), atol=1e-12)
    assert found.places == pytest.approx([0, np.pi / 2, np.pi / 2], abs=1e-6)


def test_a_claim_can_fail(tmp_path):
    # Where the best response is nearly flat, its tangent reaches far beyond the optimum.
    config = configs.get_config()
    config.update({**SMALL, "linearized_at": 1.5})
    results = loss_manifold.run(config, tmp_path)
    assert [claim["holds"] for claim in results["claims"]] == [True, True, False]
    assert results["linear_optimum"] == pytest.approx(np.pi)  # the end of what is searched


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight_high": 1.0}, r"weight_high must reach beyond -1 and 1.*got -2\.0 and 1\.0"),
        ({"linearized_at": 4.0}, r"linearized_at must lie between.*got 4\.0"),
        ({"hyperparam_low": 3.5}, r"linearized_at must lie between"),
        ({"curve_points": 1}, r"must be 2 or more, got 41 and 1"),
        ({"valid_weight": float("nan")}, r"valid_weight must be finite, got nan"),
    ],
)
def test_what_it_refuses(tmp_path, changes, message):
    config = configs.get_config()
    config.update(changes)
    with pytest.raises(ValueError, match=message):
        loss_manifold.run(config, tmp_path)
    assert not list(tmp_path.iterdir())
